"""Boxes and their conventions: inverses, learning them back, and what is refused with what to do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_models import boxes
from shape_models.boxes import BoxConvention, check_boxes, convert, learn_box_convention, overlap, suppress

NAMES = sorted(boxes.CONVENTIONS)
corner = st.floats(-500, 500)
side = st.floats(5, 400)


@st.composite
def some_boxes(draw):
    x, y, w, h = (np.array(draw(st.lists(s, min_size=3, max_size=3))) for s in (corner, corner, side, side))
    return np.stack([x, y, x + w, y + h], axis=1)


@given(some_boxes(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_conversions_are_inverse_and_compose(array, one, two, three):
    there = convert(array, one, two)
    np.testing.assert_allclose(convert(there, two, one), array, atol=1e-9)
    np.testing.assert_allclose(convert(there, two, three), convert(array, one, three), atol=1e-9)
    np.testing.assert_array_equal(convert(array[0], one, two), there[0])


@given(some_boxes(), st.sampled_from(NAMES), st.floats(0.1, 9), corner)
def test_conversions_go_with_the_image(array, name, factor, shift):
    """A larger image, or one with a margin, has the same faces."""
    np.testing.assert_allclose(convert(factor * array + shift, name), factor * convert(array, name) + shift, atol=1e-8)


def test_a_convention_is_the_equation_of_the_module():
    (x0, y0, x1, y1), (sx, sy), (kx, ky) = (
        (20.0, 30.0, 120.0, 170.0),
        boxes.get("mtcnn").center,
        boxes.get("mtcnn").scale,
    )
    w, h = x1 - x0, y1 - y0
    cx, cy = (x0 + x1) / 2 + sx * w, (y0 + y1) / 2 + sy * h
    expected = [cx - kx * w / 2, cy - ky * h / 2, cx + kx * w / 2, cy + ky * h / 2]
    np.testing.assert_allclose(convert([x0, y0, x1, y1], "mtcnn", "landmarks"), expected)


def test_every_name_says_what_it_was_measured_on():
    for name, convention in boxes.CONVENTIONS.items():
        assert convention.name == name
        assert convention.source
        assert (convention.n_faces >= 90 and min(convention.spread) > 0) or name == "landmarks"
        for other in (name.upper(), name.replace("-", "_"), name.replace("-", " ")):
            assert boxes.get(other) is convention
    assert boxes.get("dlib").name == "dlib-hog"
    for absent in ("yunet", "scrfd"):  # not measured
        with pytest.raises(ValueError, match="expected one of landmarks, retinaface"):
            boxes.get(absent)
    with pytest.raises(TypeError, match="expected a name"):
        boxes.get(3)


@pytest.mark.parametrize("name", NAMES)
def test_a_convention_is_learned_back(name, rng):
    convention = boxes.get(name)
    faces = rng.uniform(0, 300, (40, 1, 2)) + rng.uniform(50, 150, (40, 1, 1)) * rng.uniform(0, 1, (40, 68, 2))
    tight = np.concatenate([faces.min(1), faces.max(1)], axis=1)
    found = convert(tight, "landmarks", name) + rng.normal(size=(40, 4))
    found[3] = np.nan  # not found
    found[5] += 400  # another face
    found[7] = convert(tight[7], "landmarks", name) * 5  # no face
    faces[9, 20] = np.nan  # a landmark inside
    learned = learn_box_convention(found, faces, name="again")
    assert learned.n_faces == 37
    np.testing.assert_allclose(learned.center, convention.center, atol=0.02)
    np.testing.assert_allclose(learned.scale, convention.scale, atol=0.03)
    assert max(learned.spread) < 0.06
    again = learn_box_convention(found, tight)
    np.testing.assert_allclose(again.scale, learned.scale, atol=0.02)


def test_learning_needs_boxes_on_faces(rng):
    faces = rng.uniform(0, 100, (10, 68, 2))
    tight = np.concatenate([faces.min(1), faces.max(1)], axis=1)
    with pytest.raises(ValueError, match="0 of 10 boxes lie on the face; expected at least 5"):
        learn_box_convention(tight / 500, faces)  # fractions of the image
    with pytest.raises(ValueError, match="as many faces as"):
        learn_box_convention(tight[:5], faces)
    with pytest.raises(TypeError, match="masked"):
        learn_box_convention(np.ma.array(tight, mask=False), faces)
    with pytest.raises(TypeError, match="masked"):
        learn_box_convention(tight, list(np.ma.array(faces, mask=True)))


SIZE = (640, 480)
BAD = [
    ([[0.2, 0.2, 0.8, 0.8]], r"fractions of the image; expected pixels. Try boxes \* \[640, 480, 640, 480\]"),
    ([[10, 10, 90, 90], [0.1, 0.1, 1.0, 1.0]], "at index 1, fractions"),
    ([[300, 200, 80, 90]], r"Try \[x, y, x \+ width, y \+ height\]"),
    ([[300, 20, 80, 90]], r"Try \[x, y, x \+ width, y \+ height\]"),
    ([[600, 20, 480, 90]], "corners are swapped"),
    ([[600, 470, 480, 200]], "corners are swapped"),
    ([[50, 60, 50, 90]], "no area"),
    ([[50, 60, 53, 62]], "3 x 2 pixels; expected at least 4 along each side"),
    ([[np.nan, 0, 5, 5]], "NaN or infinity at index 0"),
    ([[0, 0, np.inf, 5]], "NaN or infinity"),
    ([[700, 10, 800, 90]], "outside its image of 640 x 480"),
    ([[-1e4, -1e4, 1e4, 1e4]], "expected a part of the image"),
    ([[1, 2, 3]], r"expected \(k, 4\)"),
    ([[[1, 2, 3, 4]]], r"expected \(k, 4\)"),
    (5.0, r"expected \(k, 4\)"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_boxes_that_make_no_sense_say_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        check_boxes(given, SIZE)


def test_checked_boxes():
    for good in ([10, 20, 60, 90], [[10, 20, 60, 90]], np.array([[10, 20, 60, 90]], dtype=np.uint8)):
        np.testing.assert_array_equal(check_boxes(good, SIZE), [[10.0, 20, 60, 90]])
    np.testing.assert_array_equal(check_boxes([-30, -20, 60, 90], SIZE), [[-30, -20, 60, 90]])
    assert check_boxes([], SIZE).shape == (0, 4)
    assert check_boxes([0, 0, 700, 700], None).shape == (1, 4)
    with pytest.raises(ValueError, match="fractions of the image"):
        check_boxes([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"expected \(3, 4\)"):
        check_boxes([[10, 20, 60, 90]], SIZE, n=3)
    for wrong in (["a", "b", "c", "d"], [True, False, True, True], None):
        with pytest.raises((TypeError, ValueError)):
            check_boxes(wrong, SIZE)
    for hidden in (np.ma.array([10.0, 20, 60, 90], mask=[0, 1, 0, 0]), [np.ma.array([10.0, 20, 60, 90], mask=True)]):
        with pytest.raises(TypeError, match="masked"):
            check_boxes(hidden, SIZE)
        with pytest.raises(TypeError, match="masked"):
            convert(hidden, "mtcnn")


def test_rows_without_a_box_stay_so():
    out = convert([[np.nan] * 4, [0.0, 0.0, 10.0, 10.0]], "mtcnn", "landmarks")
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()
    with pytest.raises(ValueError, match="expected x0 < x1"):
        convert([10.0, 0.0, 0.0, 10.0], "mtcnn")
    assert convert(np.zeros((0, 4)), "mtcnn").shape == (0, 4)


@pytest.mark.parametrize(
    "wrong",
    [{"center": (0.0, np.nan)}, {"scale": (0.0, 1.0)}, {"scale": (1.0,)}, {"spread": (-1.0, 0.0, 0.0, 0.0)}],
)
def test_conventions_that_are_none(wrong):
    with pytest.raises(ValueError, match="got"):
        BoxConvention(**({"name": "x", "center": (0.0, 0.0), "scale": (1.0, 1.0)} | wrong))


def test_overlap_counts_pixels(rng):
    """Intersection over union of whole boxes is that of the cells they cover."""
    low = rng.integers(0, 12, (6, 2))
    array = np.concatenate([low, low + rng.integers(1, 9, (6, 2))], axis=1)
    cells = np.zeros((6, 24, 24), dtype=bool)
    for k, (x0, y0, x1, y1) in enumerate(array):
        cells[k, x0:x1, y0:y1] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in cells] for a in cells]
    np.testing.assert_allclose(overlap(array, array), expected)


@given(some_boxes(), st.floats(0, 1))
def test_suppressed_boxes_do_not_overlap(array, most):
    scores = np.arange(len(array), dtype=float)
    kept = suppress(array, scores, max_overlap=most)
    assert kept[0] == len(array) - 1  # the best always stays
    smaller = np.minimum.outer(*(2 * [np.prod(array[:, 2:] - array[:, :2], axis=1)]))
    union = np.add.outer(*(2 * [np.prod(array[:, 2:] - array[:, :2], axis=1)]))
    iou = overlap(array, array)
    shared = iou * union / (1 + iou) / smaller
    for i in kept:
        assert all(shared[i, j] <= most + 1e-9 for j in kept if j != i)
    for i in set(range(len(array))) - set(kept.tolist()):
        assert any(shared[i, j] > most - 1e-9 and scores[j] > scores[i] for j in kept)


def test_a_box_within_a_box_goes():
    assert suppress([[0, 0, 100, 100], [40, 40, 60, 60]]).tolist() == [0]
    assert suppress(np.zeros((0, 4))).tolist() == []
    for scores in ([1.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="scores"):
            suppress([[0, 0, 9, 9], [20, 20, 30, 30]], scores)
    with pytest.raises(ValueError, match="max_overlap"):
        suppress([[0, 0, 9, 9]], max_overlap=2)
