"""The search: its loops against naive ones, its laws, its records, its files, its refusals."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import check_in_model, check_trace
from oracles import bilinear_loop, describe_loop, halve_loop, profile_search_loop, shape_step_loop
from scipy.linalg import solve_triangular
from sklearn.base import clone
from strategies import face_picture

from shape_models import ASM, IBUG68, AlignedASM, ShapeBasis, load_model, make_faces, save_model
from shape_models.search import (
    ASMFitter,
    CombinedEvidence,
    Evidence,
    HeatMaps,
    Patches,
    Profiles,
    Proposal,
    SearchResult,
    animate_trace,
    detect_faces,
    plot_trace,
)
from shape_models.search import _kernels as kernels
from shape_models.search import fitter as fitting
from shape_models.search._begin import begin
from shape_models.search._calibration import Calibration, covered, disturbed
from shape_models.search._contours import neighbours
from shape_models.search._frame import Frame, estimate
from shape_models.search._images import ImageBank
from shape_models.search.detection import LearnedDetection
from shape_models.search.patches import _local_ridge, ridge

SIZE = (100, 100)


@pytest.fixture(scope="module")
def faces():
    shapes = 0.4 * make_faces(60, rng=0)
    rng = np.random.default_rng(1)
    return [face_picture(shape, SIZE, rng=rng) for shape in shapes], shapes


def boxes_of(shapes):
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


@pytest.fixture(scope="module")
def asm():
    return AlignedASM(ASM(0.95), scheme=IBUG68)


@pytest.fixture(scope="module")
def patches(faces, asm):
    images, shapes = faces
    evidence = Patches(n_cells=4, spacing=4)
    return ASMFitter(asm, evidence=evidence, resolution=64, n_perturbations=4).fit(images[:50], shapes[:50])


@pytest.fixture(scope="module")
def profiles(faces, asm):
    images, shapes = faces
    evidence = Profiles(n_side=5, reach=5)
    return ASMFitter(asm, evidence=evidence, n_levels=3, resolution=80).fit(images[:50], shapes[:50])


@pytest.fixture(params=["patches", "profiles"])
def fitter(request):
    return request.getfixturevalue(request.param)


# --- the loops against naive ones --------------------------------------------------------------------------


def bank_of(image):
    image = np.ascontiguousarray(image, dtype=np.float32)
    return image.ravel(), np.array([[0, *image.shape]])


def test_halve_is_the_smoothed_picture_at_every_second_pixel(rng):
    for shape in ((8, 8), (9, 13), (16, 11)):
        image = rng.uniform(size=shape).astype(np.float32)
        out = np.empty((shape[0] // 2, shape[1] // 2), np.float32)
        kernels.halve(image, out)
        # The naive version pads by one pixel: the last row or column of an odd image has its own neighbour.
        np.testing.assert_allclose(out, halve_loop(image), rtol=0, atol=1e-6)


@given(x=st.floats(-3, 15), y=st.floats(-3, 12))
def test_sample_is_bilinear_and_repeats_the_border(x, y):
    image = np.random.default_rng(0).uniform(size=(9, 12))
    buffer, table = bank_of(image)
    out = np.empty(1, np.float32)
    kernels.sample(buffer, *table[0], np.array([[x, y]]), out)
    assert abs(out[0] - bilinear_loop(image.tolist(), x, y)) < 1e-5


def test_describe_is_the_descriptor_of_the_definition(rng):
    image = rng.uniform(size=(40, 50))
    matrix = np.array([[0.9, -0.2, 6.0], [0.2, 0.9, 2.0]])
    points = rng.uniform(8, 18, size=(2, 2))
    buffer, table = bank_of(image)
    for spacing, n_cells in ((6.0, 2),):
        out = np.empty((1, 2, n_cells**2 * 8), np.float32)
        kernels.describe(buffer, table, matrix[None], (26, 28), points[None], spacing, n_cells, out)
        expected = describe_loop(image.tolist(), matrix, (26, 28), points, spacing, n_cells)
        np.testing.assert_allclose(out[0], expected, rtol=0, atol=2e-4)


def test_profile_distances_are_those_of_the_definition(rng):
    image = rng.uniform(size=(40, 50))
    points, angle = rng.uniform(12, 28, size=(5, 2)), rng.uniform(0, 6, size=5)
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    n_side, reach = 3, 2
    m = 2 * n_side + 1
    mean = rng.normal(size=(5, m)) * 0.1
    spread = rng.normal(size=(5, m, m))
    covariance = spread @ spread.swapaxes(1, 2) + np.eye(m)
    factors = np.stack([solve_triangular(np.linalg.cholesky(c), np.eye(m), lower=True) for c in covariance])
    buffer, table = bank_of(image)
    gradients = np.empty((1, 5, m + 2 * reach), np.float32)
    kernels.profile_gradients(buffer, table, points[None], normals[None], n_side + reach, gradients)
    out = np.empty((1, 5, 2 * reach + 1), np.float32)
    kernels.profile_distances(gradients, mean.astype(np.float32), factors.astype(np.float32), out)
    expected = profile_search_loop(image.tolist(), points, normals, mean, covariance, n_side, reach)
    np.testing.assert_allclose(out[0], expected, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 10_000), prior=st.sampled_from([0.0, 0.01, 1.0]))
def test_shape_step_is_least_squares_of_pose_and_modes_together(seed, prior):
    rng = np.random.default_rng(seed)
    n = 7
    mean = rng.normal(size=(n, 2))
    mean -= mean.mean(0)
    components = np.linalg.qr(rng.normal(size=(2 * n, 3)))[0].T
    variances = np.array([0.3, 0.1, 0.02])
    frame = Frame(ShapeBasis(mean, components, variances, 2.0), 0.0)
    points = 30 * mean @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [50, 20] + rng.normal(scale=5, size=(n, 2))
    weights = rng.uniform(0.2, 1, size=n)
    fit = frame.fit(points[None], weights=weights[None], prior=prior)
    expected, b = shape_step_loop(points, weights, mean, components, variances, 2.0, prior)
    # The step ends when turn, growth and coefficients move by less than 1e-5, of shapes about 60 pixels wide.
    np.testing.assert_allclose(fit.points[0], expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(fit.coefficients[0], b, rtol=0, atol=1e-4)


def test_shape_step_carries_landmarks_without_weight(rng):
    shapes = make_faces(80, rng=0)
    model = AlignedASM(ASM(0.95)).fit(shapes[1:])
    frame = Frame(model.asm_.basis_, 0.0)
    wrong = shapes[:1].copy()
    wrong[0, 30:36] += 60
    weights = np.ones((1, 68))
    weights[0, 30:36] = 1e-3
    with_weights = np.linalg.norm(frame.fit(wrong, weights=weights).points[0] - shapes[0], axis=1).mean()
    without = np.linalg.norm(frame.fit(wrong).points[0] - shapes[0], axis=1).mean()
    assert with_weights < 4 < without


def test_ridge_predicts_each_sample_from_the_others(rng):
    z, w = rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    y = z @ w + 0.1 * rng.normal(size=(60, 2)).astype(np.float32)
    fold = np.arange(60) % 3
    weights, predicted = ridge(z, y, fold, np.array([1e-4]))
    gram = z.T @ z
    scale = 1e-4 * np.trace(gram) / 5
    np.testing.assert_allclose(weights, np.linalg.solve(gram + scale * np.eye(5), z.T @ y), rtol=0, atol=1e-4)
    for f in range(3):
        train = fold != f
        left = np.linalg.solve(z[train].T @ z[train] + scale * np.eye(5), z[train].T @ y[train])
        np.testing.assert_allclose(predicted[~train], z[~train] @ left, rtol=0, atol=1e-4)


def test_ridge_with_few_samples_is_the_same_regression(rng):
    z, y = rng.normal(size=(20, 45)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    weights, predicted = ridge(z, y, np.arange(20) % 4, np.array([0.1]))
    gram = (z.T @ z).astype(np.float64)
    penalty = 0.1 * np.trace(gram) / 45 * np.eye(45)
    np.testing.assert_allclose(weights, np.linalg.solve(gram + penalty, z.T @ y), rtol=0, atol=1e-5)
    train = np.arange(20) % 4 != 1
    left = np.linalg.solve((z[train].T @ z[train]) + penalty, z[train].T @ y[train])
    np.testing.assert_allclose(predicted[~train], z[~train] @ left, rtol=0, atol=1e-4)


def test_ridge_gives_up_on_noise(rng):
    z, y = rng.normal(size=(80, 30)).astype(np.float32), rng.normal(size=(80, 2)).astype(np.float32)
    weights, _ = ridge(z, y, np.arange(80) % 4, np.array([1e-4, 1e3]))
    assert np.abs(weights).max() < 0.01


def test_local_regression_uses_only_its_own_descriptor(rng):
    features = rng.normal(size=(90, 4, 6)).astype(np.float32)
    wanted = np.stack([features[:, :, 0], -2 * features[:, :, 1]], axis=-1)
    weights, displaced, _, expected = _local_ridge(features, wanted, np.arange(90) % 3)
    np.testing.assert_allclose(weights[:, 0, 0], 1, atol=0.01)
    np.testing.assert_allclose(weights[:, 1, 1], -2, atol=0.01)
    np.testing.assert_allclose(displaced, wanted, atol=0.05)
    assert np.isfinite(expected).all()


def test_bank_places_coordinates_on_every_level():
    y, x = np.mgrid[:96, :128]
    image = (2.0 * x + y).astype(np.float32)  # a plane: smoothing and halving keep its values where they are
    bank = ImageBank.build([image], [(40.0, 36.0, 110.0, 90.0)], [1.0])
    seen = image[0:91, 32:111]
    points = np.array([[60.0, 50.0], [71.5, 53.25]])
    for step in (1.0, 2.0, 4.0):
        for flip in (False, True):
            table, to_level = bank.place(np.array([0]), np.array([flip]), np.array([step]))
            given = np.stack([127 - points[:, 0] if flip else points[:, 0], points[:, 1]], axis=1)
            out = np.empty(2, np.float32)
            kernels.sample(bank.buffer, *table[0], given * to_level[0, :, 0] + to_level[0, :, 1], out)
            value = out * (seen.max() - seen.min()) + seen.min()  # undo the scaling to 0...1
            np.testing.assert_allclose(value, 2 * points[:, 0] + points[:, 1], rtol=0, atol=0.02)


def test_neighbours_follow_edges_and_numbers():
    np.testing.assert_array_equal(neighbours(4), [[0, 1], [0, 2], [1, 3], [2, 3]])
    ring = neighbours(4, [(0, 1), (1, 2), (2, 3), (3, 0)])
    np.testing.assert_array_equal(np.sort(ring, axis=1), [[1, 3], [0, 2], [1, 3], [0, 2]])


# --- it finds ----------------------------------------------------------------------------------------------


def test_search_finds_faces_it_has_not_seen(fitter, faces):
    images, shapes = faces
    results = fitter.predict(images[50:], boxes=boxes_of(shapes[50:]))
    side = np.ptp(shapes[50:], axis=1).max(axis=1)
    before = np.linalg.norm(np.array([r.start for r in results]) - shapes[50:], axis=-1).mean(-1) / side
    after = np.linalg.norm(np.array([r.shape for r in results]) - shapes[50:], axis=-1).mean(-1) / side
    assert np.median(after) < 0.025
    assert np.median(after) < 0.6 * np.median(before)
    for result in results:
        check_in_model(result, fitter.asm_.asm_.basis_)
        check_trace(result)
        assert result.found
        assert 0 <= result.plausibility <= 1
        assert ((result.confidence >= 0) & (result.confidence <= 1)).all()


def test_occluded_landmarks_lose_confidence_and_are_carried(patches, faces):
    images, shapes = faces
    covered = images[55].copy()
    low, high = shapes[55][48:68].min(0).astype(int) - 2, shapes[55][48:68].max(0).astype(int) + 3
    covered[low[1] : high[1], low[0] : high[0]] = np.random.default_rng(0).integers(
        0, 255, size=covered[low[1] : high[1], low[0] : high[0]].shape
    )
    plain, hidden = patches.predict([images[55], covered], boxes=boxes_of(shapes[[55, 55]]))
    mouth = np.arange(48, 68)
    assert hidden.confidence[mouth].mean() < 0.8 * plain.confidence[mouth].mean()
    error = np.linalg.norm(hidden.shape - shapes[55], axis=1)
    assert error[:48].mean() < 3
    assert error[mouth].mean() < 8


def test_combined_evidence_learns_whom_to_trust(faces, asm):
    images, shapes = faces

    class Noise(Evidence):
        def locate(self, view):
            rng = np.random.default_rng(view.level)
            return Proposal(view.points + 5 * view.pixel[:, None, None] * rng.normal(size=view.points.shape))

        def clone(self):
            return self

    both = CombinedEvidence([Profiles(n_side=5, reach=5), Noise()])
    fitter = ASMFitter(asm, evidence=both, n_levels=2, resolution=50, n_perturbations=4).fit(images[:30], shapes[:30])
    weights = np.mean([stage["weights"] for stage in fitter.evidence_.stages_.values()], axis=0)
    assert weights[:, 1].mean() < 0.2 * weights[:, 0].mean()
    result = fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0])
    assert np.linalg.norm(result.shape - shapes[40], axis=1).mean() < 4


def test_evidence_of_ones_own_may_look_at_everything(faces, asm):
    images, shapes = faces
    seen = []

    class Truth(Evidence):
        n_iter = 3

        def locate(self, view):
            seen.append((len(view), view.n_landmarks, view.sample(view.points).shape, view.pose.scale.shape))
            return Proposal(shapes[[view.index[i] for i in range(len(view))]], np.ones(view.points.shape[:2]))

    fitter = ASMFitter(asm, evidence=Truth(), n_levels=2).fit(images, shapes)
    result = fitter.predict(images[0], boxes=boxes_of(shapes[:1])[0])
    assert seen[0] == (1, 68, (1, 68), (1,))
    assert result.converged
    assert np.linalg.norm(result.shape - shapes[0], axis=1).mean() < 1.5


# --- heat maps ---------------------------------------------------------------------------------------------


def maps_of(shape, size, sigma=2.0):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.exp(-((x - shape[:, :1, None]) ** 2 + (y - shape[:, 1:, None]) ** 2) / (2 * sigma**2))


def test_heat_maps_lead_to_their_shape_also_through_their_own_frame(faces, asm):
    _, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    blank = np.zeros(SIZE)
    whole = maps_of(shapes[0], SIZE)
    assert np.linalg.norm(fitter.predict(blank, heatmaps=whole).shape - shapes[0], axis=1).mean() < 1.0
    # Maps of half the size: pixel (u, v) covers pixels 2u, 2u + 1 of the image.
    half = maps_of((shapes[0] - 0.5) / 2, (50, 50), 1.0)
    assert np.linalg.norm(fitter.predict(blank, heatmaps=half).shape - shapes[0], axis=1).mean() < 1.0
    matrix = np.array([[0.5, 0.0, 10.0], [0.0, 0.5, 20.0]])
    crop = maps_of((shapes[0] - [10, 20]) / 0.5, (150, 180), 4.0)
    result = fitter.predict(blank, heatmaps=(crop, matrix))
    assert np.linalg.norm(result.shape - shapes[0], axis=1).mean() < 1.0


def test_heat_maps_with_false_peaks_and_empty_ones_are_carried(faces, asm):
    _, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    maps = maps_of(shapes[0], SIZE)
    maps[5] = 0
    maps[40] = maps_of(np.array([[5.0, 90.0]]), SIZE)[0]  # far away
    result = fitter.predict(np.zeros(SIZE), heatmaps=maps)
    error = np.linalg.norm(result.shape - shapes[0], axis=1)
    assert error.max() < 4
    assert result.confidence[5] == 0
    assert result.confidence[40] < 0.1 * np.median(result.confidence)


# --- laws --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(faces):
    """A face in a larger picture, so that it can be moved."""
    images, shapes = faces
    picture = np.full((200, 220), 90, dtype=np.uint8)
    picture[40:140, 50:150] = images[52]
    return picture, shapes[52] + [50, 40], boxes_of(shapes[52:53])[0] + [50, 40, 50, 40]


def test_zero_iterations_answer_the_start(fitter, wide):
    picture, _, box = wide
    result = fitter.predict(picture, boxes=box, max_iter=0)
    np.testing.assert_allclose(result.shape, result.start, rtol=0, atol=1e-6)
    assert result.trace == ()
    assert not result.converged


def test_translation_goes_with_the_picture(fitter, wide):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    moved = np.roll(picture, (16, -32), axis=(0, 1))
    shifted = fitter.predict(moved, boxes=box + np.array([-32, 16, -32, 16])).shape
    np.testing.assert_allclose(shifted, base + np.array([-32, 16]), rtol=0, atol=0.6)


def test_rotation_goes_with_picture_and_start(fitter, wide):
    picture, truth, _ = wide
    base = fitter.predict(picture, initial=truth + 3.0).shape
    # A quarter turn maps pixels to pixels: (x, y) -> (height - 1 - y, x).
    turned = np.ascontiguousarray(np.rot90(picture, -1))

    def turn(shape):
        return np.stack([picture.shape[0] - 1 - shape[:, 1], shape[:, 0]], axis=1)

    result = fitter.predict(turned, initial=turn(truth + 3.0)).shape
    np.testing.assert_allclose(result, turn(base), rtol=0, atol=0.6)


def test_scale_goes_with_picture_and_start(fitter, wide):
    from skimage.transform import resize

    picture, truth, _ = wide
    base = fitter.predict(picture, initial=truth + 3.0).shape
    large = resize(picture, (400, 440), order=3, preserve_range=True)
    result = fitter.predict(large, initial=2 * (truth + 3.0) + 0.5).shape
    assert np.linalg.norm(result - (2 * base + 0.5), axis=1).mean() < 1.5


@given(gain=st.floats(0.01, 50), offset=st.floats(-100, 100))
def test_brightness_and_contrast_drop_out(patches, profiles, wide, gain, offset):
    picture, _, box = wide
    for fitter in (patches, profiles):
        base = fitter.predict(picture, boxes=box).shape
        other = fitter.predict(gain * picture.astype(np.float64) + offset, boxes=box).shape
        np.testing.assert_allclose(other, base, rtol=0, atol=0.05)


def test_colour_and_types_of_the_same_picture_agree(fitter, wide):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    for other in (
        np.repeat(picture[..., None], 3, axis=2),
        picture[..., None],
        picture.astype(np.uint16) * 200,
        picture.astype(np.float32) / 255,
        np.dstack([picture, picture, picture, np.full_like(picture, 255)]),
        np.asfortranarray(picture),
    ):
        np.testing.assert_allclose(fitter.predict(other, boxes=box).shape, base, rtol=0, atol=0.05)


def test_same_seed_same_answer_and_no_effect_of_the_batch(patches, faces):
    images, shapes = faces
    boxes = boxes_of(shapes[50:56])
    alone = [patches.predict(images[50 + i], boxes=boxes[i], n_starts=3).shape for i in range(6)]
    together = [r.shape for r in patches.predict(images[50:56], boxes=boxes, n_starts=3)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3)
    again = [r.shape for r in patches.predict(images[50:56], boxes=boxes, n_starts=3)]
    np.testing.assert_allclose(again, together, rtol=0, atol=1e-3)
    one = clone(patches).set_params(n_jobs=1)
    assert one.get_params()["n_jobs"] == 1


def test_training_twice_gives_the_same_search(faces, asm):
    images, shapes = faces
    evidence = Patches(n_cells=3, n_steps=1)
    fits = [
        ASMFitter(asm, evidence=evidence, n_levels=2, resolution=48, n_perturbations=2, n_jobs=n).fit(
            images[:20], shapes[:20]
        )
        for n in (1, 2)
    ]
    one, two = (f.predict(images[30], boxes=boxes_of(shapes[30:31])[0]).shape for f in fits)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-3)


def test_several_starts_answer_the_one_with_the_least_expected_error(patches, faces):
    images, shapes = faces
    far = shapes[53] + [14.0, 6.0]
    many = patches.predict(images[53], initial=far, n_starts=8)
    found = patches._solver().solve([begin(patches, fitting.Request(images[53], 0, far, None), "initial", 8)])
    np.testing.assert_allclose(many.expected_error, found.expected_error.min(), rtol=1e-6)
    np.testing.assert_allclose(many.shape, found.points[0, found.expected_error[0].argmin()], rtol=0, atol=1e-6)


def test_mirrored_pictures_mirror_the_answer_about_as_well(patches, faces):
    """Trained on mirrored pictures, too, the search is as good on the mirror image."""
    images, shapes = faces
    mirrored = np.stack([SIZE[1] - 1 - shapes[54][:, 0], shapes[54][:, 1]], axis=1)[IBUG68.mirror]
    box = boxes_of(mirrored[None])[0]
    result = patches.predict(np.ascontiguousarray(images[54][:, ::-1]), boxes=box)
    assert np.linalg.norm(result.shape - mirrored, axis=1).mean() < 2.5


# --- boxes -------------------------------------------------------------------------------------------------


def test_boxes_of_another_convention_are_learned(faces, asm):
    images, shapes = faces
    wide = boxes_of(shapes) + np.array([-20.0, -30.0, 20.0, 10.0])
    fits = [ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40).fit(images, shapes, boxes=b)
            for b in (None, wide)]  # fmt: skip
    starts = [
        f.predict(images[3], boxes=b[3], max_iter=0).shape for f, b in zip(fits, (boxes_of(shapes), wide), strict=True)
    ]
    assert np.linalg.norm(starts[0] - starts[1], axis=1).mean() < 3
    assert fits[1].box_.side < 0.8 * fits[0].box_.side


def test_missing_landmarks_of_training_shapes_are_filled(faces, asm):
    images, shapes = faces
    holes = shapes[:30].copy()
    holes[3, 10] = np.nan
    fitter = ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40).fit(images[:30], holes)
    assert fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0]).found


# --- bad input ---------------------------------------------------------------------------------------------


def test_bad_pictures_are_refused_alone_and_recorded_in_a_batch(fitter, faces):
    images, shapes = faces
    box = boxes_of(shapes[50:51])[0]
    hole = images[50].astype(float)
    hole[3, 4] = np.nan
    bad = {
        "NaN or infinity": hole,
        "same value": np.full(SIZE, 7, dtype=np.uint8),
        "1 x 1 pixels": np.zeros((1, 1)),
        "got an array of shape": np.zeros((100, 100, 5)),
        "got complex128": np.zeros(SIZE, dtype=complex),
        "got no such image file": "nowhere.png",
        "outside its image": images[50][:20, :20],
    }
    for message, picture in bad.items():
        with pytest.raises(ValueError, match=message):
            fitter.predict(picture, boxes=box)
    batch = [images[50], *(p for m, p in bad.items()), images[50]]
    results = fitter.predict(batch, boxes=np.tile(box, (len(batch), 1)))
    assert [r.status == "error" for r in results] == [False] + [True] * len(bad) + [False]
    np.testing.assert_allclose(results[0].shape, results[-1].shape, rtol=0, atol=1e-3)
    for result in results[1:-1]:
        assert np.isnan(result.shape).all()
        assert result.message
        assert not result.converged
        assert not result.found


def test_what_is_wrong_with_one_of_a_batch_leaves_the_others(fitter, faces):
    """Boxes, starts and what lies round a start are judged for each image alone."""
    images, shapes = faces
    boxes = boxes_of(shapes[50:52])
    dull = np.full((200, 220), 90, dtype=np.uint8)  # no constant image, but constant where the search would look
    dull[0, 0] = 91
    alone = fitter.predict(images[50], boxes=boxes[0]).shape
    for pictures, options, message in (
        (images[50:52], {"boxes": [boxes[0], None]}, "boxes: got None; expected an array of shape \\(4,\\)"),
        (images[50:52], {"boxes": [boxes[0], boxes[1][:3]]}, "boxes: got \\(3,\\)"),
        (images[50:52], {"boxes": [boxes[0], "left"]}, "boxes: got no numbers"),
        (images[50:52], {"boxes": [boxes[0], [90, 10, 20, 90]]}, "x0 < x1"),
        (images[50:52], {"boxes": [boxes[0], [30, 30, 31, 31]]}, "1 x 1 pixels; expected at least 4"),
        (images[50:52], {"boxes": [boxes[0], [-1e9, -1e9, 1e9, 1e9]]}, "expected a part of the image of 100 x 100"),
        ([images[50], dull], {"boxes": [boxes[0], boxes[1] + 80]}, "same value"),
        (images[50:52], {"initial": [alone, shapes[51][:60]]}, "initial: got \\(60, 2\\); expected .*\\(68, 2\\)"),
        (images[50:52], {"initial": [alone, None]}, "initial: got None"),
        (images[50:52], {"initial": [alone, shapes[51] / 100]}, "multiplying with its size"),
        (images[50:52], {"initial": [alone, np.where(np.arange(68)[:, None] == 3, np.nan, shapes[51])]}, "NaN"),
    ):
        good, bad = fitter.predict(pictures, **options)
        assert good.found, message
        if "boxes" in options:
            np.testing.assert_allclose(good.shape, alone, rtol=0, atol=1e-3)
        assert bad.status == "error"
        assert re.search(message, bad.message), bad.message
        single = {name: values[1] for name, values in options.items()}
        if next(iter(single.values())) is not None:
            with pytest.raises(ValueError, match=r"boxes|initial|start|same value"):
                fitter.predict(pictures[1], **single)
    assert fitter.predict([], boxes=[]) == []


class Answers(Evidence):
    """Evidence that answers what a function of the view answers."""

    n_levels = 1

    def __init__(self, answer):
        self.answer = answer

    def locate(self, view):
        return self.answer(view)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda v: v.points, "Answers: got a ndarray for an answer; expected a Proposal"),
        (lambda v: None, "got a NoneType"),
        (lambda v: Proposal(v.points[:, :60]), r"points of shape \(1, 60, 2\); expected \(1, 68, 2\)"),
        (lambda v: Proposal(v.points * np.nan), "weight 0 for what is not seen"),
        (lambda v: Proposal(0 * v.points), "all coincide"),
        (lambda v: Proposal(v.points, np.ones(68)), r"weights of shape \(68,\); expected \(1, 68\)"),
        (lambda v: Proposal(v.points, -np.ones((1, 68))), "weights outside 0 to 1"),
        (lambda v: Proposal(v.points, np.full((1, 68), np.nan)), "weights outside 0 to 1"),
        (lambda v: Proposal(v.points, score=np.float64(1.0)), r"score of shape \(\); expected \(1,\)"),
        (lambda v: Proposal(v.points, prior=-1.0), "prior"),
        (lambda v: Proposal(v.points, n_modes=-1), "n_modes"),
    ],
)
def test_evidence_of_ones_own_is_told_what_is_wrong_with_its_answer(faces, asm, answer, message):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence=Answers(answer)).fit(images[:10], shapes[:10])
    with pytest.raises(ValueError, match=message):
        fitter.predict(images[0], initial=shapes[0])


def test_evidence_without_weights_can_be_combined(faces, asm):
    """Shares of the parts add up to 1 but for rounding, and a trust above 1 is refused."""
    images, shapes = faces
    parts = [Answers(lambda v, i=i: Proposal(v.points + 0.3 * i)) for i in range(3)]
    fitter = ASMFitter(asm, evidence=CombinedEvidence(parts), n_levels=1, resolution=40, n_perturbations=2)
    result = fitter.fit(images[:10], shapes[:10]).predict(images[0], initial=shapes[0])
    assert result.found
    assert np.all(result.confidence <= 1)


def test_evidence_may_answer_lists_and_pose_alone(faces, asm):
    images, shapes = faces
    evidence = Answers(lambda v: Proposal((v.points + 2).tolist(), n_modes=0))
    result = ASMFitter(asm, evidence=evidence).fit(images[:10], shapes[:10]).predict(images[0], initial=shapes[0])
    assert np.all(result.coefficients == 0)
    assert result.shape.mean() > shapes[0].mean() + 1


def test_heat_maps_are_asked_for_and_never_ignored(faces, asm):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    maps, boxes = maps_of(shapes[0], SIZE), boxes_of(shapes[:2])
    for options in ({"boxes": boxes}, {}):
        for wrong, message in (
            (None, "heatmaps: got none"),
            (maps[:60], "expected \\(68, h, w\\)"),
            (0 * maps, "maps with anything in them"),
            (np.where(np.arange(68)[:, None, None] < 2, maps, 0), "maps with anything in them"),
        ):
            good, bad = fitter.predict(images[:2], heatmaps=[maps, wrong], **options)
            assert good.found
            assert bad.status == "error"
            assert re.search(message, bad.message), bad.message
    with pytest.raises(ValueError, match="peaks all coincide"):
        fitter.predict(images[0], heatmaps=np.ones((68, 9, 9)))
    with pytest.raises(ValueError, match="expected a list, one for each image"):
        fitter.predict(images[:2], heatmaps=7)
    profiles = ASMFitter(asm, evidence="profiles", n_levels=1, resolution=40)
    with pytest.raises(ValueError, match="Profiles evidence does not look at them"):
        profiles.fit(images[:10], shapes[:10], heatmaps=[maps] * 10)
    with pytest.raises(ValueError, match="Profiles evidence does not look at them"):
        profiles.fit(images[:10], shapes[:10]).predict(images[0], boxes=boxes[0], heatmaps=maps)
    seen = []

    class Own(Evidence):
        needs_maps = True
        n_levels = n_iter = 1

        def locate(self, view):
            seen.append(view.maps(int(view.index[0]))[0].shape)
            return Proposal(view.points)

    own = ASMFitter(asm, evidence=Own()).fit(images[:10], shapes[:10])
    own.predict(images[0], boxes=boxes[0], heatmaps=maps)
    assert seen == [(68, *SIZE)] * 2  # one step, and one look at where it ended


def test_landmarks_that_are_shares_of_the_image_are_refused(faces, asm):
    images, shapes = faces
    with pytest.raises(ValueError, match=r"image 0: shapes: got landmarks within .* Try multiplying with its size"):
        ASMFitter(asm, evidence="profiles", n_levels=1).fit(images, shapes / 100)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x / 255.0 * 6e38 - 3e38).astype(np.float32),
        lambda x: x / 255.0 * 1e300,
        lambda x: x / 255.0 * 1e-300,
        lambda x: 1e9 + x.astype(np.int64),
        lambda x: np.repeat(1e9 + x[..., None], 3, axis=2),
        lambda x: np.repeat(1e300 * x[..., None], 3, axis=2),
    ],
)
def test_extreme_intensities_are_pictures_like_others(fitter, wide, change):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    np.testing.assert_allclose(fitter.predict(change(picture), boxes=box).shape, base, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((500, 500, 600, 600), "outside its image"),
        ((50, 50, 20, 90), "x0 < x1"),
        ((np.nan, 0, 5, 5), "NaN"),
    ],
)
def test_bad_boxes_are_refused(profiles, faces, box, message):
    with pytest.raises(ValueError, match=message):
        profiles.predict(faces[0][0], boxes=box)


def test_arguments_that_do_not_fit_are_refused(profiles, faces, asm):
    images, shapes = faces
    box = boxes_of(shapes[:1])[0]
    with pytest.raises(ValueError, match="neither boxes nor initial"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0])
    with pytest.raises(ValueError, match="got boxes and initial"):
        profiles.predict(images[0], boxes=box, initial=shapes[0])
    with pytest.raises(ValueError, match="expected \\(2, 4\\)"):
        profiles.predict(images[:2], boxes=box)
    with pytest.raises(ValueError, match=r"got an array of shape \(60, 2\)"):
        profiles.predict(images[0], initial=shapes[0][:60])
    with pytest.raises(ValueError, match="all coincide"):
        profiles.predict(images[0], initial=np.full((68, 2), 30.0))
    with pytest.raises(ValueError, match="n_starts"):
        profiles.predict(images[0], boxes=box, n_starts=0)
    for max_iter in (-1, 1.5, "3", True):
        with pytest.raises(ValueError, match="max_iter: got"):
            profiles.predict(images[0], boxes=box, max_iter=max_iter)
    with pytest.raises(ValueError, match="images: got a dict"):
        profiles.predict({"a": images[0]}, boxes=box)
    with pytest.raises(ValueError, match="boxes: got no numbers"):
        profiles.predict(images[0], boxes="left")
    for name, value in (("tolerance", 7), ("tolerance", "a"), ("resolution", "a"), ("level_step", 0.5)):
        with pytest.raises(ValueError, match=f"{name}: got"):
            ASMFitter(asm, **{name: value}).fit(images, shapes)
    with pytest.raises(ValueError, match="expected one for each of 60 shapes"):
        ASMFitter(asm).fit(images[:3], shapes)
    with pytest.raises(ValueError, match="expected 2 on the last axis"):
        ASMFitter(asm).fit(images, np.zeros((60, 68, 3)))
    with pytest.raises(ValueError, match=r"sample 0|outside its image"):
        ASMFitter(asm).fit(images, shapes + 500)
    with pytest.raises(ValueError, match="image 1: image: got the same value"):
        ASMFitter(asm, evidence="profiles").fit([images[0], np.zeros(SIZE), *images[2:]], shapes)
    with pytest.raises(ValueError, match="evidence: got 'trees'"):
        ASMFitter(asm, evidence="trees").fit(images, shapes)
    with pytest.raises(ValueError, match="fitted shape model has"):
        ASMFitter(profiles.asm_).fit(images, shapes[:, :60])
    with pytest.raises(ValueError, match="groups"):
        ASMFitter(asm, evidence="profiles").fit(images, shapes, groups=np.zeros(60))
    with pytest.raises(ValueError, match="jitter"):
        ASMFitter(asm, jitter=(0.1, 2.0, 0.1)).fit(images, shapes)
    with pytest.raises(ValueError, match="n_levels"):
        ASMFitter(asm, n_levels=0).fit(images, shapes)
    with pytest.raises(ValueError, match="heatmaps: got none"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0], boxes=box)
    with pytest.raises(ValueError, match=r"expected \(68, h, w\)"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0], heatmaps=np.zeros((5, 9, 9)))


def test_landmarks_that_leave_the_image_are_told(profiles, faces):
    images, shapes = faces
    cut = np.ascontiguousarray(images[51][:, 50:])
    result = profiles.predict(cut, initial=shapes[51] - [50, 0])
    outside = (result.shape[:, 0] < -0.5).sum()
    assert outside > 17
    assert result.status == "outside"
    assert f"{outside} of 68" in result.message
    assert result.trace[-1].n_outside == outside
    assert not result.converged


# --- how right it is ---------------------------------------------------------------------------------------


def auc(positive, negative):
    """The probability that a positive exceeds a negative."""
    order = np.concatenate([positive, negative]).argsort().argsort() + 1.0
    return (order[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def test_confidence_is_that_of_the_given_shape_which_is_not_moved(fitter, faces):
    images, shapes = faces
    given = shapes[50:54] + np.random.default_rng(0).normal(scale=1.5, size=(4, 68, 2))
    confidence = fitter.confidence(images[50:54], given)
    assert confidence.shape == (4, 68)
    for i in range(4):
        result = fitter.predict(images[50 + i], initial=given[i], max_iter=0)
        np.testing.assert_array_equal(result.shape, given[i])
        np.testing.assert_allclose(result.confidence, confidence[i], rtol=0, atol=1e-3)
        np.testing.assert_allclose(fitter.confidence(images[50 + i], given[i]), confidence[i], rtol=0, atol=1e-3)
        assert np.isfinite(result.score)
    found = fitter.predict(images[52], boxes=boxes_of(shapes[52:53])[0])
    np.testing.assert_allclose(fitter.confidence(images[52], found.shape), found.confidence, rtol=0, atol=1e-3)
    several = fitter.confidence(images[52], given[:3])
    np.testing.assert_allclose(several[1], fitter.confidence(images[52], given[1]), rtol=0, atol=1e-4)
    assert fitter.confidence([], []).shape == (0, 68)


def test_confidence_tells_covered_landmarks_and_wrong_ones(patches, faces):
    images, shapes = faces
    rng = np.random.default_rng(3)
    seen, hidden, wrong = [], [], []
    for i in range(50, 60):
        covered = images[i].copy()
        low = rng.uniform(shapes[i].min(0), shapes[i].max(0) - 20).astype(int)
        covered[low[1] : low[1] + 22, low[0] : low[0] + 22] = 127
        inside = ((shapes[i] >= low) & (shapes[i] < low + 22)).all(-1)
        off = rng.random(68) < 0.1
        given = shapes[i] + off[:, None] * rng.choice([-9.0, 9.0], size=(68, 2))
        confidence = patches.confidence(covered, given)
        seen.append(confidence[~inside & ~off])
        hidden.append(confidence[inside & ~off])
        wrong.append(confidence[~inside & off])
    seen, hidden, wrong = (np.concatenate(values) for values in (seen, hidden, wrong))
    assert auc(seen, hidden) > 0.9
    assert auc(seen, wrong) > 0.9


def test_confidence_of_what_is_missing_or_outside_is_nothing(fitter, faces):
    images, shapes = faces
    holes = shapes[50].copy()
    holes[[3, 30]] = np.nan
    confidence = fitter.confidence(images[50], holes)
    assert (confidence[[3, 30]] == 0).all()
    whole = fitter.confidence(images[50], shapes[50])
    assert np.median(np.abs(np.delete(confidence, [3, 30]) - np.delete(whole, [3, 30]))) < 0.05
    cut = np.ascontiguousarray(images[50][:, 45:])
    outside = shapes[50][:, 0] < 44
    assert outside.any()
    assert (fitter.confidence(cut, shapes[50] - [45, 0])[outside] == 0).all()
    batch = fitter.confidence(images[50:53], [shapes[50], shapes[51] * np.nan, shapes[52] + 1000])
    np.testing.assert_allclose(batch[0], whole, rtol=0, atol=1e-3)
    assert (batch[1:] == 0).all()
    for wrong, message in (
        (shapes[50] * np.nan, "fewer than three"),
        (shapes[50][:60], "expected"),
        (None, "expected"),
    ):
        with pytest.raises(ValueError, match=f"shapes: .*{message}"):
            fitter.confidence(images[50], wrong)


def test_confidence_is_a_probability_on_images_not_seen(fitter, faces):
    """Of landmarks of confidence p, about a share of p are within 5 % of the size."""
    images, shapes = faces
    given = disturbed(np.concatenate([shapes[50:]] * 4), np.random.default_rng(7))
    confidence = fitter.confidence([*images[50:]] * 4, given)
    truth = np.concatenate([shapes[50:]] * 4)
    right = np.linalg.norm(given - truth, axis=-1) <= 0.05 * np.ptp(truth, axis=1).max(-1)[:, None]
    assert abs(confidence.mean() - right.mean()) < 0.12
    for low, high in ((0.0, 0.4), (0.4, 0.8), (0.8, 1.0)):
        part = (confidence >= low) & (confidence <= high)
        if part.sum() > 100:
            assert abs(confidence[part].mean() - right[part].mean()) < 0.2


def test_expected_error_tells_good_answers_from_bad_ones(fitter, faces):
    images, shapes = faces
    rng = np.random.default_rng(5)
    starts = shapes[50:] + rng.uniform(-1, 1, size=(10, 1, 2)) * np.linspace(1, 40, 10)[:, None, None]
    results = fitter.predict(images[50:], initial=starts)
    error = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(results, shapes[50:], strict=True)])
    expected = np.array([r.expected_error for r in results])
    good, bad = error < 3, error > 8
    assert good.sum() > 2
    if bad.any():
        assert expected[bad].min() > np.median(expected[good])
    assert 0.4 < np.median(expected[good] / error[good]) < 2.5
    double = fitter.predict(np.kron(images[50], np.ones((2, 2), np.uint8)), initial=2 * starts[0] + 0.5)
    assert 1.3 < double.expected_error / expected[0] < 3  # pixels of the image


def test_covariances_hold_what_they_promise_in_the_frame_of_the_image(fitter, faces):
    images, shapes = faces
    starts = shapes[45:] + np.random.default_rng(5).uniform(-3, 3, (len(shapes) - 45, 1, 2))
    found = fitter.predict(list(images[45:]), initial=starts)
    off = shapes[45:] - np.array([r.shape for r in found])
    covariance = np.array([r.covariance for r in found])
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(covariance), off)
    for level in (0.5, 0.8, 0.95):
        assert (square <= found[0].radius(level) ** 2).mean() == pytest.approx(level, abs=0.15)
    tall = fitter.predict(np.repeat(images[50], 2, axis=0), initial=starts[5] * [1, 2] + [0, 0.5], spacing=(2, 1))
    ratio = tall.covariance[:, [0, 1], [0, 1]] / found[5].covariance[:, [0, 1], [0, 1]]
    assert np.median(ratio[:, 1] / ratio[:, 0]) == pytest.approx(4, rel=0.1)
    assert np.isnan(SearchResult.failed(5, 2, status="error", message="").covariance).all()


def test_calibration_without_right_or_wrong_ones_and_with_constant_features(rng):
    features = rng.normal(size=(40, 2))
    results = np.concatenate([rng.normal(size=(30, 5)), np.ones((30, 1))], axis=1)
    error = 0.02 * np.exp(results[:, 0])
    for right, rate in ((np.ones(40, bool), 41 / 42), (np.zeros(40, bool), 1 / 42)):
        calibration = Calibration.learn(features, right, 30, results, rng.uniform(size=30), error)
        np.testing.assert_allclose(calibration.confidence(features), rate)
        expected = calibration.expected_error(results)
        np.testing.assert_allclose(expected.mean(), error.mean(), rtol=0.01)
        assert (np.diff(expected[results[:, 0].argsort()]) > -0.01).all()
        assert Calibration.from_header(calibration.to_header()) == calibration


def test_without_calibration_nothing_is_promised(faces, asm):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40, calibration=0).fit(images[:10], shapes[:10])
    assert fitter.calibration_ is None
    result = fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0], n_starts=3)
    assert np.isnan(result.expected_error)
    assert np.isnan(result.covariance).all()
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
    with pytest.raises(ValueError, match="calibration: got 1"):
        clone(fitter).set_params(calibration=1).fit(images[:10], shapes[:10])
    with pytest.raises(ValueError, match="occlusion: got 2"):
        clone(fitter).set_params(occlusion=2).fit(images[:10], shapes[:10])


def test_covers_hide_what_they_say_in_any_type_of_image(rng):
    shape = rng.uniform(20, 80, size=(30, 2))
    for image in (
        rng.integers(0, 255, size=(100, 100), dtype=np.uint8), rng.uniform(size=(100, 100, 3)),
        rng.integers(0, 60000, size=(100, 100), dtype=np.uint16),
    ):  # fmt: skip
        for _ in range(20):
            changed, hidden = covered(image, shape, image, rng)
            assert changed.dtype == image.dtype
            different = (changed != image).reshape(100, 100, -1).any(-1)
            x, y = np.round(shape).astype(int).T
            assert not (different[y, x] & ~hidden).any()
            assert image.min() <= changed.min()
            assert changed.max() <= image.max()


# --- where nobody says where it is -------------------------------------------------------------------------


def test_objects_are_found_where_those_of_the_training_images_stood(fitter, faces):
    images, shapes = faces
    results = fitter.predict(images[50:56])
    error = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(results, shapes[50:], strict=False)])
    boxed = fitter.predict(images[50:56], boxes=boxes_of(shapes[50:56]))
    other = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(boxed, shapes[50:], strict=False)])
    assert np.median(error) < 1.2 * np.median(other)
    assert results[0].box is None


def test_several_boxes_in_one_image_are_as_many_searches(fitter, wide):
    picture, truth, box = wide
    both = np.concatenate([picture, picture[:, ::-1]], axis=1)
    mirrored = both.shape[1] - 1 - box[[2, 1, 0, 3]]
    second = np.array([mirrored[0], box[1], mirrored[2], box[3]])
    results = fitter.predict(both, boxes=[box, second])
    assert len(results) == 2
    for one, at in zip(results, (box, second), strict=True):
        np.testing.assert_allclose(one.shape, fitter.predict(both, boxes=at).shape, rtol=0, atol=1e-3)
    assert len(fitter.predict(both, boxes=[box])) == 1
    assert fitter.predict(both, boxes=np.empty((0, 4))) == []
    nested = fitter.predict([both, picture], boxes=[[box, second], box])
    np.testing.assert_allclose(nested[0][1].shape, results[1].shape, rtol=0, atol=1e-3)
    np.testing.assert_allclose(nested[1].shape, truth, rtol=0, atol=12)
    shapes = np.stack([truth, truth + 2])
    assert [r.found for r in fitter.predict(both, initial=shapes)] == [True, True]
    wrong = fitter.predict(both, boxes=[box, [0.1, 0.1, 0.5, 0.6]])
    assert [r.status == "error" for r in wrong] == [False, True]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.2, 0.2, 0.8, 0.8), r"fractions of the image.* Try boxes \* \[100, 100, 100, 100\]"),
        ((10, 10, 12, 12), "at least 4 along each side"),
        ((40, 40, 30, 50), r"Try \[x, y, x \+ width, y \+ height\]"),
        ((90, 10, 20, 90), "corners are swapped"),
    ],
)
def test_boxes_that_are_something_else_are_refused_with_what_to_do(profiles, faces, box, message):
    with pytest.raises(ValueError, match=message):
        profiles.predict(faces[0][0], boxes=box)


def test_an_interrupted_training_leaves_the_search_as_it_was(profiles, faces):
    images, shapes = faces
    before = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0]).shape

    def stop(what, done, total):
        if what == "learning":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiles.fit(images[:20], shapes[:20] * 0.9, callback=stop)
    after = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0]).shape
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)


# --- files -------------------------------------------------------------------------------------------------


def test_saved_searches_give_the_same_answers(fitter, faces, tmp_path):
    images, shapes = faces
    path = tmp_path / "search.npz"
    save_model(fitter, path)
    again = load_model(path)
    boxes = boxes_of(shapes[50:54])
    for one, two in zip(fitter.predict(images[50:54], boxes=boxes), again.predict(images[50:54], boxes=boxes),
                        strict=True):  # fmt: skip
        np.testing.assert_allclose(one.shape, two.shape, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.confidence, two.confidence, rtol=0, atol=1e-4)
        assert one.plausibility == pytest.approx(two.plausibility, abs=1e-4)
        assert one.expected_error == pytest.approx(two.expected_error, rel=1e-4)
        assert np.isfinite(one.expected_error)
        assert one.status == two.status
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert again.get_params()["n_perturbations"] == fitter.n_perturbations


def test_combined_and_heat_map_searches_are_saved_and_foreign_evidence_is_refused(faces, asm, tmp_path):
    images, shapes = faces
    both = CombinedEvidence([Profiles(n_side=4, reach=3), Profiles(n_side=6, reach=4)])
    fitter = ASMFitter(asm, evidence=both, n_levels=2, resolution=40, n_perturbations=4).fit(images[:20], shapes[:20])
    save_model(fitter, tmp_path / "both.npz")
    box = boxes_of(shapes[40:41])[0]
    np.testing.assert_allclose(
        load_model(tmp_path / "both.npz").predict(images[40], boxes=box).shape,
        fitter.predict(images[40], boxes=box).shape,
        rtol=0,
        atol=1e-4,
    )
    maps = maps_of(shapes[0], SIZE)
    fitter = ASMFitter(asm, evidence=HeatMaps(width=0.05)).fit(None, shapes[1:])
    save_model(fitter, tmp_path / "maps.npz")
    np.testing.assert_allclose(
        load_model(tmp_path / "maps.npz").predict(images[0], heatmaps=maps).shape,
        fitter.predict(images[0], heatmaps=maps).shape,
        rtol=0,
        atol=1e-4,
    )

    class Own(Evidence):
        def locate(self, view):
            return Proposal(view.points)

    with pytest.raises(ValueError, match="expected one of this library"):
        save_model(ASMFitter(asm, evidence=Own()).fit(images[:10], shapes[:10]), tmp_path / "own.npz")


# --- pictures ----------------------------------------------------------------------------------------------


def test_plot_trace_and_films(profiles, faces, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    image_module = pytest.importorskip("PIL.Image")
    import matplotlib.pyplot as plt

    images, shapes = faces
    result = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0])
    figure = plot_trace(result, images[50], scheme="ibug68")
    assert len(figure.axes) == 4
    plt.close(figure)
    path = animate_trace(result, images[50], tmp_path / "film.gif", scheme=IBUG68)
    with image_module.open(path) as film:
        assert film.n_frames == len(result.trace) + 1
    page = animate_trace(result, images[50], tmp_path / "film.html").read_text()
    assert page.count("data:image/png;base64,") == len(result.trace) + 1
    with pytest.raises(ValueError, match=r"\.gif or \.html"):
        animate_trace(result, images[50], tmp_path / "film.avi")
    with pytest.raises(ValueError, match="98 landmarks for a result of 68"):
        plot_trace(result, images[50], scheme="wflw98")


def test_pictures_of_any_type_are_drawn_as_they_are(profiles, faces, tmp_path):
    """What the search takes, the plots take: the drawn picture has the same contrast whatever the type."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    images, shapes = faces
    result = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0])
    Image.fromarray(images[50]).save(tmp_path / "a.png")
    colour = np.repeat(images[50][..., None], 3, axis=2)
    plain = np.interp(images[50], (images[50].min(), images[50].max()), (0, 1))
    for image in (
        images[50], images[50].astype(np.uint16) * 200, images[50] / 255, images[50][..., None], tmp_path / "a.png",
        colour.astype(np.uint16) * 200, colour.astype(float),
        np.pad(colour.astype(int), ((0, 0), (0, 0), (0, 1)), constant_values=255),
    ):  # fmt: skip
        figure = plot_trace(result, image)
        drawn = np.asarray(figure.axes[0].images[0].get_array(), dtype=float)
        drawn = drawn if drawn.ndim == 2 else drawn[..., :3].mean(-1)
        np.testing.assert_allclose(np.interp(drawn, (drawn.min(), drawn.max()), (0, 1)), plain, rtol=0, atol=1e-6)
        plt.close(figure)
    assert animate_trace(result, None, tmp_path / "no_picture.gif").stat().st_size > 1000


# --- faces in photographs ----------------------------------------------------------------------------------


def test_detect_faces_in_any_size_and_type():
    import skimage.data

    photograph = skimage.data.astronaut()
    box = detect_faces(photograph)[0]
    eyes = np.array([[206, 115], [246, 115]])
    assert (box[:2] < eyes).all()
    assert (eyes < box[2:]).all()
    for other, factor in ((photograph[::2, ::2], 0.5), (photograph / 255.0, 1.0), (photograph.mean(-1), 1.0)):
        assert np.abs(detect_faces(other)[0] / factor - box).max() < 0.25 * (box[2] - box[0])
    for same in (
        photograph.astype(np.uint16) * 200,
        photograph / 255.0,
        photograph.astype(np.float32),
        9 + photograph / 7,
    ):
        np.testing.assert_allclose(detect_faces(same), detect_faces(photograph), rtol=0, atol=1e-9)
    assert detect_faces(np.zeros((50, 60))).shape == (0, 4)
    assert detect_faces(np.random.default_rng(0).uniform(size=(20, 20))).shape == (0, 4)
    for min_size in (-1, "a"):
        with pytest.raises(ValueError, match="min_size"):
            detect_faces(photograph, min_size=min_size)


def test_no_face_is_an_answer(profiles):
    import skimage.data

    fitter = clone(profiles)
    fitter.__dict__.update({k: v for k, v in profiles.__dict__.items() if k.endswith("_") or k == "_frame"})
    fitter.detection_ = LearnedDetection.from_header({"center": (0.0, 0.1), "side": 0.9})
    photograph, coins = skimage.data.astronaut(), skimage.data.coins()
    found, none = fitter.predict([photograph, coins])
    assert found.found
    assert none.status == "no face"
    assert not none.found
    assert fitter.predict(coins).status == "no face"


def test_frames_of_similarities_are_exact(rng):
    points = rng.normal(size=(4, 9, 2))
    pose = estimate(points[:1], points)
    there = pose(points)
    np.testing.assert_allclose(pose.inverse(there), points, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pose.as_similarity()(points), there, rtol=0, atol=1e-12)
    turned = 2.5 * points @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + [3, 4]
    exact = estimate(points, turned, np.ones((4, 9)))
    np.testing.assert_allclose(exact(points), turned, rtol=0, atol=1e-12)


# --- the bundled search ------------------------------------------------------------------------------------


def test_the_bundled_search_finds_the_astronaut():
    import skimage.data

    photograph = skimage.data.astronaut()
    result = load_model("search68").predict(photograph)
    assert result.converged
    shape = result.shape
    pupils = np.array([shape[36:42].mean(0), shape[42:48].mean(0)])
    # Read off the photograph, in pixels: the eyes, the tip of the nose, the corners of the mouth, the chin.
    np.testing.assert_allclose(pupils, [[204, 101], [245, 103]], rtol=0, atol=3)
    np.testing.assert_allclose(shape[[48, 54]], [[202, 139], [245, 140]], rtol=0, atol=4)
    np.testing.assert_allclose(shape[8], [224, 178], rtol=0, atol=5)


@pytest.mark.data
def test_the_bundled_search_keeps_its_figure_on_photographs_it_has_not_seen(data_dir):
    from shape_models.datasets import read_300w

    samples = [s for s in read_300w(data_dir / "300w", split="val")][::5]
    truth = np.array([s.landmarks for s in samples])
    start = truth.mean(axis=1, keepdims=True) + 1.1 * (truth - truth.mean(axis=1, keepdims=True))
    boxes = boxes_of(start)
    results = load_model("search68").predict([s.image for s in samples], boxes=boxes)
    found = np.array([r.shape for r in results])
    error = np.linalg.norm(found - truth, axis=-1).mean(-1) / np.linalg.norm(truth[:, 36] - truth[:, 45], axis=-1)
    assert np.median(error) < 0.045
    assert error.mean() < 0.06
