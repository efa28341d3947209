"""Parts with models of their own, contours that close, pixels that are not square, and evidence that is chosen."""

import numpy as np
import pytest
from strategies import face_picture

from shape_models import ASM, IBUG68, AlignedASM, Curve, LandmarkScheme, load_model, make_faces, save_model
from shape_models.search import ASMFitter, PartsFitter, Profiles
from shape_models.search._contours import contours, curves_of_connections, neighbours, scheme_of
from shape_models.search._crops import Crops, Squared, as_spacing
from shape_models.search._judge import Judge


@pytest.fixture(scope="module")
def faces():
    shapes = 0.4 * make_faces(30, rng=0)
    rng = np.random.default_rng(1)
    return [face_picture(shape, (100, 100), rng=rng) for shape in shapes], shapes


def quick(**options):
    return ASMFitter(evidence=Profiles(n_side=5, prior=1e-4), n_levels=2, resolution=60, calibration=2, **options)


# --- Contours --------------------------------------------------------------------------------------------


def test_tangents_run_once_round_a_closed_contour():
    n = 12
    ring = LandmarkScheme("ring", n, curves=[Curve(range(n), closed=True)])
    before, after = neighbours(n, ring.edges).T
    np.testing.assert_array_equal(before, (np.arange(n) - 1) % n)
    np.testing.assert_array_equal(after, (np.arange(n) + 1) % n)
    turn = np.exp(2j * np.pi * np.arange(n) / n)
    tangent = turn[after] - turn[before]
    np.testing.assert_allclose(tangent / (1j * turn), np.abs(tangent), atol=1e-12)


def test_asf_connections_are_curves_closed_only_where_they_close():
    closed = [[0, 0, 3, 1], [0, 0, 0, 2], [0, 0, 1, 3], [0, 0, 2, 0]]
    opened = [[1, 4, 4, 5], [1, 4, 4, 6], [1, 4, 5, 6]]
    one, two = curves_of_connections(np.array(closed + opened))
    assert one.closed
    assert list(one.indices) == [0, 1, 2, 3]
    assert not two.closed
    assert list(two.indices) == [4, 5, 6]


def test_hearts_of_asf_files_have_two_closed_contours(data_dir):
    from shape_models.datasets import load_landmarks

    scheme = scheme_of(load_landmarks(data_dir / "formats", extension="asf"))
    assert [curve.closed for curve in scheme.curves] == [True, True]
    assert sorted(i for curve in scheme.curves for i in curve.indices) == list(range(66))


def test_contours_of_parts_close_where_their_ends_meet():
    angle = 2 * np.pi * np.arange(20) / 20
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    half = np.stack([np.cos(angle / 2), np.sin(angle / 2)], axis=1) + 5
    shapes = np.repeat(np.concatenate([circle, half])[None], 4, axis=0)
    scheme = contours({"circle": range(20), "half": range(20, 40)}, shapes)
    assert [curve.closed for curve in scheme.curves] == [True, False]


# --- Pixels that are not square --------------------------------------------------------------------------


def test_squared_pixels_keep_what_stands_where(rng):
    squared = Squared(np.array([1.0, 2.0]))
    points = rng.uniform(0, 50, size=(7, 2))
    np.testing.assert_allclose(squared.back(squared(points)), points, atol=1e-12)
    y, x = np.mgrid[:30, :40].astype(float)
    image = squared.image(3 * x + 5 * y)
    assert image.shape == (60, 40)
    at = squared(np.array([[10.0, 12.0]]))[0]
    low = int(np.floor(at[1]))
    value = image[low, 10] + (at[1] - low) * (image[low + 1, 10] - image[low, 10])
    np.testing.assert_allclose(value, 3 * 10 + 5 * 12, atol=1e-5)
    same = np.ones((4, 5))
    assert Squared(np.array([0.3, 0.3])).image(same) is same


@pytest.mark.parametrize("spacing", [0.0, (1.0, -1.0), (1, 2, 3), "wide", np.ones((3, 3))])
def test_bad_spacings_are_refused(spacing):
    with pytest.raises((ValueError, TypeError), match="spacing: got"):
        as_spacing(spacing, 5)


def test_images_with_flat_pixels_give_the_same_answers(faces):
    """An image with half of its rows left out, and its spacing, is the same object."""
    images, shapes = faces
    wide = [image[::2] for image in images]
    flat = np.stack([shapes[..., 0], shapes[..., 1] / 2], axis=-1)
    plain = quick().fit(images[:24], shapes[:24])
    spaced = quick().fit(wide[:24], flat[:24], spacing=(0.5, 1.0))
    for i in range(24, 30):
        one = plain.predict(images[i], boxes=[*shapes[i].min(0), *shapes[i].max(0)])
        two = spaced.predict(wide[i], boxes=[*flat[i].min(0), *flat[i].max(0)], spacing=(0.5, 1.0))
        assert np.linalg.norm(one.shape - two.shape * [1, 2], axis=1).mean() < 1.5
        found = spaced.predict(wide[i], spacing=(0.5, 1.0))
        assert np.linalg.norm(found.shape * [1, 2] - shapes[i], axis=1).mean() < 5
    assert spaced.placement_.length is not None
    assert plain.placement_.length is None
    with pytest.raises(ValueError, match="spacing"):
        spaced.predict(wide[:2], spacing=[[1, 1]] * 3)


def test_the_depth_of_pixels_does_not_matter(faces):
    images, shapes = faces
    fits, answers = {}, {}
    for name, change in (
        ("8", lambda v: v),
        ("16", lambda v: v.astype(np.uint16) * 257),
        ("float", lambda v: v.astype(np.float32) * 3.0 - 100.0),
    ):
        grey = [change(np.round(255 * (v - v.min()) / np.ptp(v)).astype(np.uint8)) for v in images]
        fits[name] = quick().fit(grey[:12], shapes[:12])
        answers[name] = np.array([r.shape for r in fits[name].predict(grey[24:])])
    np.testing.assert_allclose(answers["16"], answers["8"], atol=0.05)
    np.testing.assert_allclose(answers["float"], answers["8"], atol=0.05)


# --- Large images ----------------------------------------------------------------------------------------


def test_a_crop_of_a_large_image_is_all_that_a_training_sees(faces):
    """Around the same objects a wide frame changes nothing but the placement."""
    images, shapes = faces
    rng = np.random.default_rng(3)
    large, moved = [], []
    for image, shape in zip(images, shapes, strict=True):
        frame = np.full((600, 800), np.median(image), dtype=np.asarray(image).dtype)
        x, y = 32 * rng.integers(4, 16), 32 * rng.integers(4, 12)
        frame[y : y + 100, x : x + 100] = image
        large.append(frame)
        moved.append(shape + np.array([x, y]))
    moved = np.array(moved)
    crops = Crops(large[:12], moved[:12])
    np.testing.assert_allclose(crops.outside(crops.inside(moved[:12])), moved[:12], atol=1e-9)
    assert max(crops[i].size for i in range(12)) < 0.25 * large[0].size
    fitter = quick().fit(large[:12], moved[:12])
    box = [*moved[17].min(0), *moved[17].max(0)]
    assert np.linalg.norm(fitter.predict(large[17], boxes=box).shape - moved[17], axis=1).mean() < 3
    np.testing.assert_array_equal(crops.sizes[0], [800, 600])
    np.testing.assert_allclose(fitter.placement_.center, (moved[:12].mean((0, 1)) + 0.5) / [800, 600], atol=0.02)


# --- Parts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parted(faces):
    images, shapes = faces
    whole = quick()
    whole.asm = AlignedASM(ASM(3), scheme=IBUG68)
    return PartsFitter(["mouth", "right_eye", "left_eye"], whole=whole, part=quick(jitter=(0.05, 0.05, 0.05))).fit(
        images[:24], shapes[:24]
    )


def test_parts_come_nearer_than_a_whole_of_few_modes(parted, faces):
    images, shapes = faces
    rows = parted.indices_["mouth"]
    boxes = np.concatenate([shapes[24:].min(1), shapes[24:].max(1)], axis=1)
    whole = parted.whole_.predict(images[24:], boxes=boxes)
    joined = parted.predict(images[24:], boxes=boxes)
    off = [
        np.linalg.norm(np.array([r.shape for r in rs])[:, rows] - shapes[24:, rows], axis=-1).mean()
        for rs in (whole, joined)
    ]
    assert off[1] < off[0]
    others = np.setdiff1d(np.arange(68), np.concatenate(list(parted.indices_.values())))
    for a, b in zip(whole, joined, strict=True):
        np.testing.assert_allclose(a.shape[others], b.shape[others], rtol=0, atol=1e-4)
        assert b.expected_error > 0
        assert ((b.confidence >= 0) & (b.confidence <= 1)).all()


def test_parts_are_lost_where_their_whole_is(parted, faces):
    """Searches of parts that begin in the wrong place find something there."""
    nothing = np.random.default_rng(3).integers(90, 110, (100, 100)).astype(np.uint8)
    found, lost = parted.predict([faces[0][26], nothing])
    assert lost.lost > found.lost
    assert lost.expected_error > 2 * found.expected_error
    for one in (found, lost):
        size = float(one.transform.scale) * parted.whole_._frame.side
        assert one.expected_error >= 0.99 * one.lost * parted.whole_.calibration_.lost.error * size


def test_parts_are_saved_with_their_whole(parted, faces, tmp_path):
    images, _ = faces
    save_model(parted, tmp_path / "parts.npz")
    loaded = load_model(tmp_path / "parts.npz")
    one, two = parted.predict(images[26]), loaded.predict(images[26])
    np.testing.assert_allclose(one.shape, two.shape, atol=1e-3)
    np.testing.assert_allclose(one.expected_error, two.expected_error, rtol=1e-3)
    assert parted.confidence(images[26], one.shape).shape == (68,)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "none"),
        ("mouth", "mapping"),
        (["chimney"], "groups"),
        ({"a": [0, 1]}, "three"),
        ({"a": [1, 1, 2]}, "three"),
        ({"a": [0, 1, 68]}, "outside"),
    ],
)
def test_parts_that_are_none_are_refused(faces, parts, message):
    images, shapes = faces
    whole = quick()
    whole.asm = AlignedASM(ASM(3), scheme=IBUG68)
    fitter = PartsFitter(parts, whole=whole)
    with pytest.raises(ValueError, match=message):
        fitter.fit(images[:10], shapes[:10])
    assert not hasattr(fitter, "whole_")


# --- What is chosen, and what is judged ------------------------------------------------------------------


def test_profiles_are_chosen_by_what_they_come_to(faces, monkeypatch):
    """The choice is that of the least error in left-out images, whatever makes it small."""
    from shape_models.search import _selection

    images, shapes = faces
    tried = []

    def error(fitter, *_):
        evidence = fitter._evidence
        tried.append(evidence)
        return abs(np.log10(evidence.prior) + 5) + (evidence.n_side != 8) + len(evidence.modes) / 10

    monkeypatch.setattr(_selection, "left_out_error", error)
    fitter = ASMFitter(evidence="profiles", n_levels=1, calibration=0).fit(images[:12], shapes[:12])
    assert (fitter.evidence_.prior, fitter.evidence_.n_side, len(fitter.evidence_.modes)) == (1e-5, 8, 4)
    assert len(tried) == 5
    assert fitter.evidence == "profiles"
    with pytest.raises(ValueError, match="auto"):
        ASMFitter(evidence="best").fit(images[:12], shapes[:12])


def test_starts_of_another_search_are_what_is_learned_from(faces):
    images, shapes = faces
    rng = np.random.default_rng(0)
    off = shapes + rng.normal(scale=4, size=(30, 1, 2))
    fitter = quick(jitter=(0.01, 0.01, 0.01)).fit(images[:24], shapes[:24], initial=off[:24])
    assert np.isfinite(fitter.left_out_).all()
    answers = np.array([r.shape for r in fitter.predict(images[24:], initial=off[24:])])
    assert np.linalg.norm(answers - shapes[24:], axis=-1).mean() < np.linalg.norm(off - shapes, axis=-1).mean()
    with pytest.raises(ValueError, match="initial"):
        quick().fit(images[:24], shapes[:24], initial=off[:10])


def test_a_judge_learns_what_right_places_look_like(rng):
    right, wrong = rng.normal(size=(2, 40, 30)).astype(np.float32)
    wrong += 2.0
    features = np.concatenate([right, wrong])
    error = np.log(np.repeat([0.01, 0.3], 40))
    judge, predicted = Judge.learn(features, error, np.arange(80) % 4)
    assert (predicted[:40] < predicted[40:].min()).mean() > 0.9
    new = rng.normal(size=(5, 30)) + np.array([[0], [2], [0], [2], [0]])
    np.testing.assert_array_equal(judge(new) > judge.offset, [False, True, False, True, False])
    again = Judge.from_arrays(judge.to_arrays())
    np.testing.assert_allclose(again(new), judge(new), rtol=1e-6)
    assert Judge.from_arrays({}) is None
