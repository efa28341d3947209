"""The appearance model: its warp against scikit-image, its derivatives, its laws, known answers, its refusals."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_in_model, check_trace
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from searches import SIZE
from skimage.transform import PiecewiseAffineTransform, warp
from sklearn.base import clone

from shape_models import ASM, IBUG68, IMM58, AlignedASM, DegenerateShapeError, load_model, make_faces, save_model
from shape_models.search import AppearanceModel
from shape_models.search._frame import Frame
from shape_models.search._images import ImageBank
from shape_models.search.appearance import Mesh, motions, normalise
from shape_models.search.evidence import View


@pytest.fixture(scope="module")
def model(faces):
    images, shapes = faces
    asm = AlignedASM(ASM(0.95), scheme=IBUG68)
    return AppearanceModel(asm, resolution=48, calibration=2).fit(images[:50], shapes[:50])


@pytest.fixture(scope="module")
def frame():
    return Frame(AlignedASM(ASM(0.95)).fit(make_faces(60, rng=3)).asm_.basis_, 0.3)


def view_of(image, points, mesh, frame):
    """A view of one picture that reads its own pixels."""
    bank = ImageBank.build([image], [None], [1.0], n_levels=1)
    zero = np.zeros(1, dtype=int)
    return View(
        points[None], 0, 0, mesh.resolution, zero, frame, bank, frame.pose_of(points[None]), zero.astype(bool), None, {}
    )


def moved(faces, rows, off, seed=0):
    """Shapes shifted by up to `off` pixels and scaled by up to 6 %."""
    rng = np.random.default_rng(seed)
    shapes = faces[1][rows]
    middle = shapes.mean(axis=1, keepdims=True)
    factor = rng.uniform(0.94, 1.06, size=(len(shapes), 1, 1))
    return middle + factor * (shapes - middle) + rng.uniform(-off, off, size=(len(shapes), 1, 2))


# --- the warp ----------------------------------------------------------------------------------------------


def test_warp_is_that_of_scikit_image(faces, frame):
    images, shapes = faces
    mesh = Mesh(frame, 48)
    ours = mesh.read(view_of(images[0], shapes[0], mesh, frame))[0]
    transform = PiecewiseAffineTransform()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-image 0.26 has another name for it
        assert transform.estimate(mesh.points, shapes[0])
    low, high = float(images[0].min()), float(images[0].max())
    picture = (images[0].astype(float) - low) / (high - low)
    theirs = warp(picture, transform, output_shape=mesh.mask.shape, order=1, mode="edge", cval=-1)[mesh.mask]
    # On an edge of the hull scikit-image may leave a pixel out.
    same = np.abs(ours - theirs) < 1e-5
    assert same.mean() > 0.98
    assert np.median(np.abs(ours - theirs)) < 1e-6


def test_warp_of_the_mean_to_itself_is_the_picture(frame):
    mesh = Mesh(frame, 60)
    picture = np.random.default_rng(0).uniform(size=mesh.mask.shape)
    out = mesh.read(view_of(picture, mesh.points, mesh, frame))[0]
    expected = (picture - picture.min()) / np.ptp(picture)
    np.testing.assert_allclose(out, expected[mesh.mask], rtol=0, atol=1e-5)


def test_shares_are_barycentric(frame):
    mesh = Mesh(frame, 40)
    assert mesh.shares.min() > -1e-7
    np.testing.assert_allclose(mesh.shares.sum(axis=1), 1, rtol=0, atol=1e-12)
    at = np.einsum("pc,pcd->pd", mesh.shares, mesh.points[mesh.corners])
    np.testing.assert_allclose(at, mesh.pixels, rtol=0, atol=1e-9)
    y, x = np.nonzero(mesh.mask)
    np.testing.assert_array_equal(mesh.pixels, np.stack([x, y], axis=1))


# --- derivatives and composition ---------------------------------------------------------------------------


def test_descent_images_are_the_change_of_the_warped_texture(frame):
    mesh = Mesh(frame, 60)
    directions = motions(frame, 6)
    flat = directions.reshape(len(directions), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), rtol=0, atol=1e-12)
    y, x = np.mgrid[: mesh.mask.shape[0], : mesh.mask.shape[1]]
    value = lambda x, y: np.sin(x / 9) * np.cos(y / 11) + 0.01 * x  # noqa: E731
    descent = mesh.descent(mesh.gradient(value(x, y)[mesh.mask]), directions)
    step = 1e-4
    inner = gaussian_filter(mesh.mask.astype(float), 1)[mesh.mask] > 0.99
    for j, direction in enumerate(directions):
        at = [np.einsum("pc,pcd->pd", mesh.shares, (mesh.points + s * step * direction)[mesh.corners]) for s in (1, -1)]
        numeric = (value(*at[0].T) - value(*at[1].T)) / (2 * step)
        # Differences of neighbours miss the slope by a sixth of the third derivative, about 0.2 % here.
        np.testing.assert_allclose(descent[inner, j], numeric[inner], rtol=0, atol=5e-3 * np.abs(numeric).max())


def test_slopes_of_a_ramp_are_exact_up_to_the_border(frame):
    mesh = Mesh(frame, 40)
    slopes = mesh.gradient(mesh.pixels @ np.array([0.3, -0.7]))
    neighbours = np.array([[any(_at(mesh, p, d, s) for s in (-1, 1)) for d in (0, 1)] for p in mesh.pixels.astype(int)])
    np.testing.assert_allclose(slopes[neighbours[:, 0], 0], 0.3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes[neighbours[:, 1], 1], -0.7, rtol=0, atol=1e-12)


def _at(mesh, pixel, axis, sign):
    x, y = pixel + sign * np.eye(2, dtype=int)[axis]
    return 0 <= y < mesh.mask.shape[0] and 0 <= x < mesh.mask.shape[1] and mesh.mask[y, x]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_composition_with_an_affine_warp_is_exact(frame, seed):
    rng = np.random.default_rng(seed)
    mesh = Mesh(frame, 40)
    matrix, shift = np.eye(2) + 0.3 * rng.normal(size=(2, 2)), rng.normal(size=2) * 10
    moves = rng.normal(size=mesh.points.shape)
    out = mesh.compose((mesh.points @ matrix.T + shift)[None], moves[None])[0]
    np.testing.assert_allclose(out, (mesh.points + moves) @ matrix.T + shift, rtol=0, atol=1e-8)


# --- textures ----------------------------------------------------------------------------------------------


@given(gain=st.floats(0.05, 30), offset=st.floats(-100, 100))
@settings(max_examples=20)
def test_texture_does_not_see_brightness_and_contrast(model, faces, gain, offset):
    image, shape = faces[0][55].astype(float), faces[1][55]
    plain = model.texture(image, shape)
    assert abs(plain.mean()) < 1e-12
    assert abs((plain**2).mean() - 1) < 1e-12
    np.testing.assert_allclose(model.texture(gain * image + offset, shape), plain, rtol=0, atol=1e-4)


def test_synthesize_clips_and_gives_textures_back(model, faces):
    basis = model.texture_basis_
    n = basis.n_components
    np.testing.assert_array_equal(model.synthesize(np.zeros(n)), basis.mean)
    far = np.zeros((2, n))
    far[1, 0] = 100 * np.sqrt(basis.variances[0])
    at_limit = basis.mean + 3 * np.sqrt(basis.variances[0]) * basis.components[0]
    np.testing.assert_allclose(model.synthesize(far)[1], at_limit, rtol=0, atol=1e-9)
    texture = model.texture(faces[0][0], faces[1][0])
    left = texture - model.synthesize(basis.encode(texture))
    assert (left**2).mean() < 0.15
    with pytest.raises(ValueError, match="expected"):
        model.synthesize(np.zeros(n + 1))
    with pytest.raises(ValueError, match="NaN"):
        model.synthesize(np.full(n, np.nan))


def test_flat_textures_are_told():
    textures, good = normalise(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    assert good.tolist() == [True, False]
    assert not textures[1].any()


# --- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["simultaneous", "project_out"])
def test_a_picture_drawn_from_the_model_is_found_again(model, faces, method):
    """A texture of the model, continued beyond its rim, at a known place, size and angle; the start is off in shape."""
    model = clone(model).set_params(method=method, calibration=0).fit(faces[0][:50], faces[1][:50])
    frame, mesh, basis = model.fitter_._frame, model._mesh, model.texture_basis_
    rng = np.random.default_rng(4)
    errors, before = [], []
    for _ in range(6):
        texture = model.synthesize(rng.uniform(-1, 1, basis.n_components) * np.sqrt(basis.variances))
        canvas = np.zeros(mesh.mask.shape)
        canvas[mesh.mask] = texture
        nearest = distance_transform_edt(~mesh.mask, return_distances=False, return_indices=True)
        canvas = canvas[tuple(nearest)]
        a, b = rng.uniform(1.2, 1.5) * np.exp(1j * rng.uniform(-0.1, 0.1)), complex(*rng.uniform(18, 22, 2))
        y, x = np.mgrid[:110, :110]
        z = ((x + 1j * y) - b) / a
        picture = map_coordinates(canvas, [z.imag, z.real], order=1, mode="nearest")
        placed = a * (mesh.points[:, 0] + 1j * mesh.points[:, 1]) + b
        truth = np.stack([placed.real, placed.imag], axis=1)
        modes = rng.uniform(-1, 1, len(frame.variances)) * np.sqrt(frame.variances)
        start = frame.pose_of(truth)(frame.decode(modes)) + rng.uniform(-3, 3, size=2)
        result = model.predict(picture, initial=start)
        before.append(np.linalg.norm(start - truth, axis=1).mean())
        errors.append(np.linalg.norm(result.shape - truth, axis=1).mean())
    assert np.median(errors) < 0.5, (before, errors)
    assert np.median(errors) < 0.2 * np.median(before), (before, errors)


def test_search_improves_on_faces_not_seen(model, faces):
    rows = np.arange(50, 60)
    start = moved(faces, rows, 4)
    results = model.predict([faces[0][i] for i in rows], initial=start)
    before = np.linalg.norm(start - faces[1][rows], axis=-1).mean(axis=1)
    after = np.array(
        [np.linalg.norm(r.shape - t, axis=-1).mean() for r, t in zip(results, faces[1][rows], strict=True)]
    )
    assert np.median(after) < 0.6 * np.median(before), (before, after)
    for result in results:
        check_in_model(result, model.asm_.asm_.basis_)
        check_trace(result)
        assert result.confidence.min() >= 0
        assert result.confidence.max() <= 1
        within = [[s.score for s in result.trace if s.level == level] for level in range(3)]
        for scores in within:  # a step never leaves more unexplained than there was
            assert np.all(np.diff(scores) > -1e-6)


def test_search_is_the_same_each_time_and_alone_or_in_a_batch(model, faces):
    rows = np.arange(50, 54)
    start = moved(faces, rows, 4)
    pictures = [faces[0][i] for i in rows]
    batch = model.predict(pictures, initial=start)
    again = model.predict(pictures, initial=start)
    for i, (a, b) in enumerate(zip(batch, again, strict=True)):
        np.testing.assert_allclose(a.shape, b.shape, rtol=0, atol=1e-4)
        np.testing.assert_allclose(model.predict(pictures[i], initial=start[i]).shape, a.shape, rtol=0, atol=1e-6)


def test_search_moves_with_the_picture_and_not_with_its_brightness(model, faces):
    start = moved(faces, np.array([52]), 3)[0]
    image = faces[0][52].astype(float)
    plain = model.predict(image, initial=start).shape
    brighter = model.predict(2.5 * image + 40, initial=start).shape
    np.testing.assert_allclose(brighter, plain, rtol=0, atol=0.05)
    wide = np.pad(image, ((8, 0), (16, 0)), mode="edge")
    shifted = model.predict(wide, initial=start + np.array([16, 8])).shape
    np.testing.assert_allclose(shifted - [16, 8], plain, rtol=0, atol=0.1)


def test_boxes_and_no_iterations(faces):
    images, shapes = faces
    model = AppearanceModel(resolution=32, n_levels=2, max_iter=0).fit(images[:30], shapes[:30])
    box = np.concatenate([shapes[50].min(axis=0), shapes[50].max(axis=0)])
    result = model.predict(images[50], boxes=box)
    assert result.box == tuple(box)
    np.testing.assert_allclose(result.shape, result.start, rtol=0, atol=1e-8)
    assert not result.trace


def test_saves_and_loads_to_the_same_answers(model, faces, tmp_path):
    save_model(model, tmp_path / "face.npz")
    again = load_model(tmp_path / "face.npz")
    start = moved(faces, np.array([51]), 3)[0]
    first, second = (m.predict(faces[0][51], initial=start) for m in (model, again))
    np.testing.assert_allclose(first.shape, second.shape, rtol=0, atol=1e-9)
    np.testing.assert_allclose(first.confidence, second.confidence, rtol=0, atol=1e-9)
    texture = [m.texture(faces[0][51], faces[1][51]) for m in (model, again)]
    np.testing.assert_array_equal(*texture)
    assert again.get_params()["resolution"] == 48


# --- refusals ----------------------------------------------------------------------------------------------


def test_bad_input_is_told(model, faces):
    images, shapes = faces
    with pytest.raises(ValueError, match="neither boxes nor initial"):
        model.predict(images[0])
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.full(SIZE, np.nan), initial=shapes[0])
    with pytest.raises(ValueError, match="outside"):
        model.texture(images[0], shapes[0] + 500)
    with pytest.raises(ValueError, match="same value"):
        model.texture(np.full(SIZE, 7), shapes[0])
    with pytest.raises(ValueError, match="landmarks"):
        model.texture(images[0], shapes[0][:10])
    with pytest.raises(ValueError, match="expected one for each"):
        clone(model).fit(images[:5], shapes[:6])
    with pytest.raises(ValueError, match="max_iter"):
        AppearanceModel(max_iter=-1).fit(images[:5], shapes[:5])
    with pytest.raises(ValueError, match="method"):
        AppearanceModel(method="newton").fit(images[:5], shapes[:5])
    with pytest.raises(ValueError, match="at most"):
        AppearanceModel(resolution=1e6, n_levels=1).fit(images[:5], shapes[:5])
    with pytest.raises(ValueError, match="n_components"):
        AppearanceModel(n_texture_components="many").fit(images[:5], shapes[:5])
    with pytest.raises(ValueError, match="nothing to fit by"):
        AppearanceModel(n_texture_components=None, resolution=8, n_levels=1).fit(images, shapes)
    line = np.stack([np.linspace(20, 80, 9), np.linspace(20, 80, 9)], axis=1)
    line = line + np.random.default_rng(0).normal(scale=2, size=(6, 9, 1))
    with pytest.raises(DegenerateShapeError, match="area"):
        AppearanceModel().fit(images[:6], line)
    blank = [*images[:5], np.pad(np.full((90, 90), 9.0), 5)]
    with pytest.raises(ValueError, match="image 5"):
        AppearanceModel(resolution=32, n_levels=1).fit(blank, np.concatenate([shapes[:5], 0.8 * shapes[5:6] + 8]))


def test_a_batch_solves_the_others(model, faces):
    images, shapes = faces
    results = model.predict([images[50], np.full(SIZE, 3.0), images[51]], initial=shapes[[50, 50, 51]])
    assert [r.status == "error" for r in results] == [False, True, False]
    assert results[0].found
    assert not results[1].found


# --- images -------------------------------------------------------------------------------------------


def test_photographs_of_persons_not_seen(data_dir):
    """IMM faces, two folds by person."""
    from skimage.io import imread

    from shape_models import read_pts

    paths = sorted((data_dir / "imm").glob("*.jpg"))
    person = np.unique([path.name[:2] for path in paths], return_inverse=True)[1]
    images = [imread(path) for path in paths]
    shapes = np.array([read_pts(path.with_suffix(".pts")) for path in paths])
    right, left = IMM58.anchors["eye_corners"]
    scale = np.linalg.norm(shapes[:, right].mean(1) - shapes[:, left].mean(1), axis=-1)
    before, after = [], []
    for fold in (0, 1):
        rows = np.flatnonzero(person % 2 == fold)
        test = np.flatnonzero(person % 2 != fold)[::4]
        model = AppearanceModel(AlignedASM(ASM(0.95), scheme=IMM58), calibration=0)
        model.fit([images[i] for i in rows], shapes[rows])
        rng = np.random.default_rng(0)
        low, high = shapes[test].min(axis=1), shapes[test].max(axis=1)
        shift = rng.uniform(-0.1, 0.1, size=(len(test), 2)) * (high - low).max(axis=1, keepdims=True)
        results = model.predict([images[i] for i in test], boxes=np.concatenate([low + shift, high + shift], axis=1))
        for result, i in zip(results, test, strict=True):
            before.append(100 * np.linalg.norm(result.start - shapes[i], axis=-1).mean() / scale[i])
            after.append(100 * np.linalg.norm(result.shape - shapes[i], axis=-1).mean() / scale[i])
    print(
        f"median NME {np.median(before):.2f} % -> {np.median(after):.2f} %, worse {np.mean(np.array(after) > before)}"
    )
    assert np.median(after) < 0.5 * np.median(before)
