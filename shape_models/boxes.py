"""Boxes of faces have conventions, as angles have: what each detector means by a box, and how to go between them.

A box is (x0, y0, x1, y1) in pixels, pixel centres at integers. A detector of faces was trained on boxes that somebody
drew: RetinaFace's reach from the hairline to the chin, dlib's are squares from the brows downwards. Landmark networks
and fitters expect the box that they were trained with, for the models of this library the tight box of the 68 iBUG
landmarks, from the brows to the chin, which is called "landmarks". A box by another convention costs accuracy in
silence, often as much as a face half as large would.

A convention says where the box of the landmarks lies in a detected box of width w and height h:

    centre = detected centre + (center[0] w, center[1] h),  sides = (scale[0] w, scale[1] h)

===================  =================  ===============  ==========================================================
name                 center             scale            detector
===================  =================  ===============  ==========================================================
landmarks            0, 0               1, 1             tight box of the 68 iBUG landmarks
retinaface           0, 0.13            1.04, 0.763      RetinaFace, MobileNet-0.25
centerface           -0.01, 0.12        0.99, 0.76       CenterFace
mtcnn                -0.01, 0.12        1.03, 0.77       MTCNN
blazeface-short      0, 0.054           0.943, 0.927     BlazeFace short range
blazeface-full       0, 0.1             0.889, 0.868     BlazeFace full range
dlib-hog             0, 0.084           0.954, 0.94      dlib's HOG
dlib-mmod            0.05, 0.17         1.03, 1.02       dlib's mmod network
haar                 0, 0.16            0.86, 0.84       OpenCV's frontal face cascade
scikit-image         0.001, 0.147       0.86, 0.841       detect_faces, the cascade of scikit-image
face-api-ssd         0.01, 0.13         0.96, 0.81       face-api.js, SSD
face-api-tiny        0.01, 0.02         0.9, 0.95        face-api.js, tiny detector
===================  =================  ===============  ==========================================================

`CONVENTIONS` holds the same numbers with their spread and what they were measured on: medians over the faces of 300-W
that were found, on square crops that hold the face at about half of their side. For another detector, or other
landmarks, `learn_box_convention` makes a convention from some faces where both are known.

Examples
--------
>>> from shape_models import boxes
>>> boxes.convert([100.0, 80.0, 200.0, 220.0], "retinaface", "landmarks").round(1)
array([ 98. , 114.8, 202. , 221.6])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._array import as_numpy
from ._box_conventions import CONVENTIONS, BoxConvention, get
from ._options import check_numbers
from ._typing import ArrayLike
from .images import check_boxes_inside

__all__ = [
    "CONVENTIONS",
    "BoxConvention",
    "check_boxes",
    "convert",
    "get",
    "learn_box_convention",
    "overlap",
    "suppress",
]

# A box of fewer pixels is a mistake of units: nothing can be seen in it.
_SMALLEST = 4.0
# A box this many times as large as the image is no place in it.
_LARGEST = 8.0
# Pixels beyond are no place in any image; areas of such boxes are exact.
_FARTHEST = 1e15


def convert(boxes: ArrayLike, source: str | BoxConvention, target: str | BoxConvention = "landmarks") -> np.ndarray:
    """Return boxes of one convention as another would draw them.

    Parameters
    ----------
    boxes : array_like of shape (4,) or (..., 4)
        Corners x0, y0, x1, y1 in pixels. Rows of NaN stay NaN.
    source, target : str or BoxConvention
        The convention of the boxes, and the one to bring them to.

    Returns
    -------
    ndarray of shape (4,) or (..., 4)

    Raises
    ------
    ValueError
        For names that are not known, other shapes, and boxes without width or height.
    TypeError
        For masked arrays and for anything but real numbers.

    Examples
    --------
    >>> from shape_models import boxes
    >>> tight = boxes.convert([[10.0, 10.0, 110.0, 110.0]], "dlib-hog", "landmarks")
    >>> boxes.convert(tight, "landmarks", "dlib-hog").round(6)
    array([[ 10.,  10., 110., 110.]])
    """
    source, target = get(source), get(target)
    array = _as_boxes(boxes, "boxes")
    if (array[..., 2:] <= array[..., :2]).any():
        raise ValueError(_order_message(array.reshape(-1, 4), "boxes", None))
    center, sides = (array[..., :2] + array[..., 2:]) / 2, array[..., 2:] - array[..., :2]
    center, sides = center + np.array(source.center) * sides, np.array(source.scale) * sides
    sides = sides / np.array(target.scale)
    center = center - np.array(target.center) * sides
    return np.concatenate([center - sides / 2, center + sides / 2], axis=-1)


def learn_box_convention(
    detected: ArrayLike, landmarks: ArrayLike, *, name: str = "learned", source: str = "", min_faces: int = 5
) -> BoxConvention:
    """Learn what a detector means by its boxes, from faces whose landmarks are known.

    Parameters
    ----------
    detected : array_like of shape (n, 4)
        The box that the detector gave for each face; NaN where it found none. Boxes that are another face, or none, are
        left out: those whose centre is more than half a face away, and those not between half and twice its size.
    landmarks : array_like of shape (n, n_landmarks, 2) or (n, 4)
        The landmarks, NaN: missing; or the boxes of the convention that the model expects.
    name, source : str
        What to call the convention, and what it was measured on.
    min_faces : int
        How many faces there must be at least.

    Returns
    -------
    BoxConvention
        Medians, with standard deviations as `spread`.

    Raises
    ------
    ValueError
        For other shapes, for different numbers of faces, and where fewer than `min_faces` of the boxes are on the face.

    Notes
    -----
    Detectors that search an image pyramid answer on a grid of sizes. Learn their convention on faces of several sizes.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.boxes import convert, learn_box_convention
    >>> rng = np.random.default_rng(0)
    >>> faces = rng.uniform(0, 100, (30, 1, 2)) + rng.uniform(0, 80, (30, 68, 2))
    >>> tight = np.concatenate([faces.min(1), faces.max(1)], axis=1)
    >>> mine = learn_box_convention(convert(tight, "landmarks", "mtcnn"), faces)
    >>> np.round(mine.scale, 3).tolist(), mine.n_faces
    ([1.03, 0.77], 30)
    """
    found = _as_boxes(detected, "detected")
    shapes = as_numpy(landmarks, "landmarks")
    if found.ndim != 2:
        raise ValueError(f"detected: got shape {found.shape}; expected (n, 4), one box for each face.")
    if shapes.ndim == 3 and shapes.shape[-1] == 2:
        points = shapes.astype(np.float64)
        tight = np.concatenate([np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)], axis=1)
        tight = _as_boxes(tight, "landmarks")
    else:
        tight = _as_boxes(landmarks, "landmarks")
    if tight.shape != found.shape:
        raise ValueError(
            f"landmarks: got shape {shapes.shape}; expected as many faces as `detected` has boxes, {len(found)}."
        )
    sides, true_sides = found[:, 2:] - found[:, :2], tight[:, 2:] - tight[:, :2]
    with np.errstate(invalid="ignore", divide="ignore"):
        center = ((tight[:, :2] + tight[:, 2:]) - (found[:, :2] + found[:, 2:])) / 2
        ratio = np.sqrt(sides.prod(1) / true_sides.prod(1))
        # A box whose centre is off by half the face, or twice or half as large, is of something else.
        kept = (
            (sides > 0).all(1)
            & (true_sides > 0).all(1)
            & (np.linalg.norm(center, axis=1) < 0.5 * true_sides.max(1))
            & (ratio > 0.5)
            & (ratio < 2.0)
        )
    if kept.sum() < max(min_faces, 2):
        raise ValueError(
            f"detected: {kept.sum()} of {len(found)} boxes lie on the face; expected at least {max(min_faces, 2)}. "
            "Check that both are x0, y0, x1, y1 in pixels of the same images."
        )
    values = np.concatenate([center[kept] / sides[kept], true_sides[kept] / sides[kept]], axis=1)
    median, spread = np.median(values, axis=0), values.std(axis=0)
    return BoxConvention(name, tuple(median[:2]), tuple(median[2:]), tuple(spread), int(kept.sum()), source)


def check_boxes(
    boxes: ArrayLike, image_size: ArrayLike | None = None, *, n: int | None = None, name: str = "boxes"
) -> np.ndarray:
    """Check boxes that a caller gave, and return them as an array of shape (n, 4).

    Parameters
    ----------
    boxes : array_like of shape (4,) or (n, 4)
        Corners x0, y0, x1, y1 in pixels. They may reach beyond the image. An empty list means no box.
    image_size : (int, int), optional
        Width and height of the image they belong to.
    n : int, optional
        How many boxes there must be.
    name : str
        What messages call the argument.

    Returns
    -------
    ndarray of float64 of shape (n, 4), an array of its own.

    Raises
    ------
    ValueError
        With what to do, for another shape or number, NaN, boxes in fractions of the image, [x, y, width, height],
        corners that are swapped, boxes of less than four pixels, many times as large as the image, or outside of it.
    TypeError
        For masked arrays and for anything but real numbers.

    Examples
    --------
    >>> from shape_models.boxes import check_boxes
    >>> check_boxes([10, 20, 60, 90], (640, 480))
    array([[10., 20., 60., 90.]])
    >>> check_boxes([[0.2, 0.2, 0.8, 0.8]], (640, 480))
    Traceback (most recent call last):
    ...
    ValueError: boxes: got [0.2, 0.2, 0.8, 0.8] at index 0, fractions of the image; expected pixels. Try boxes * \
    [640, 480, 640, 480].
    """
    array = _as_boxes(boxes, name)
    if array.size == 0:
        array = np.zeros((0, 4))
    array = array[None] if array.ndim == 1 else array
    expected = "(k, 4)" if n is None else f"({n}, 4)"
    if array.ndim != 2 or n not in (None, len(array)):
        raise ValueError(f"{name}: got shape {array.shape}; expected {expected}, x0, y0, x1, y1 in pixels.")
    if not np.isfinite(array).all():
        where = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise ValueError(f"{name}: got NaN or infinity at index {where}; expected pixels. Try to leave the box out.")
    size = None
    if image_size is not None:
        width, height = np.asarray(image_size).tolist()[:2]
        size = int(width), int(height)
    # Boxes reach over the edge of an image, by less than half of it.
    fractions = (np.abs(array) <= 1.5).all(axis=1) & (array[:, 2:] > array[:, :2]).all(axis=1)
    if fractions.any():
        factors = "[width, height, width, height]" if size is None else f"[{size[0]}, {size[1]}, {size[0]}, {size[1]}]"
        raise ValueError(
            f"{_at(array, fractions, name)}, fractions of the image; expected pixels. Try boxes * {factors}."
        )
    if (array[:, 2:] <= array[:, :2]).any():
        raise ValueError(_order_message(array, name, size))
    sides = array[:, 2:] - array[:, :2]
    small = (sides < _SMALLEST).any(axis=1)
    if small.any():
        raise ValueError(
            f"{_at(array, small, name)}, {sides[small][0, 0]:g} x {sides[small][0, 1]:g} pixels; expected at least "
            f"{_SMALLEST:g} along each side. Try a larger image, and check that the box is in its pixels."
        )
    if size is not None:
        large = (sides > _LARGEST * max(size)).any(axis=1)
        if large.any():
            raise ValueError(
                f"{_at(array, large, name)}, {sides[large][0, 0]:g} x {sides[large][0, 1]:g} pixels; expected a part "
                f"of the image of {size[0]} x {size[1]} pixels."
            )
        check_boxes_inside(array, size, name=name)
    return array


def overlap(boxes: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Return the intersection over union of each box with each other box.

    Parameters
    ----------
    boxes : array_like of shape (n, 4)
        Corners x0, y0, x1, y1.
    others : array_like of shape (m, 4)
        Corners x0, y0, x1, y1.

    Returns
    -------
    ndarray of shape (n, m)
        From 0 to 1.

    Examples
    --------
    >>> from shape_models.boxes import overlap
    >>> overlap([[0, 0, 10, 10]], [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]).round(3)
    array([[1.   , 0.333, 0.   ]])
    """
    a, b = _as_boxes(boxes, "boxes").reshape(-1, 4), _as_boxes(others, "others").reshape(-1, 4)
    # Two boxes without area share nothing, and nothing divides by zero.
    return np.asarray(_shared(a, b) / np.maximum(_area(a)[:, None] + _area(b) - _shared(a, b), 1e-300))


def suppress(boxes: ArrayLike, scores: ArrayLike | None = None, *, max_overlap: float = 0.3) -> np.ndarray:
    """Return which boxes to keep, so that each object keeps one: the best of those that overlap.

    Parameters
    ----------
    boxes : array_like of shape (n, 4)
        Corners x0, y0, x1, y1.
    scores : array_like of shape (n,), optional
        Higher is better; None takes the boxes in the order they stand in.
    max_overlap : float
        From 0 to 1. A box goes where it shares more than this fraction of the smaller of the two areas with a better
        one, so that a box within a box goes too.

    Returns
    -------
    ndarray of int of shape (n_kept,)
        Indices of the boxes that stay, the best first.

    Raises
    ------
    ValueError
        For another number of scores, NaN, and for a `max_overlap` outside of 0 to 1.

    Examples
    --------
    >>> from shape_models.boxes import suppress
    >>> suppress([[0, 0, 10, 10], [1, 1, 11, 11], [40, 0, 50, 10]], [0.5, 0.9, 0.7]).tolist()
    [1, 2]
    """
    array = _as_boxes(boxes, "boxes").reshape(-1, 4)
    if np.isnan(array).any():
        raise ValueError("boxes: got NaN; expected pixels. Try boxes[np.isfinite(boxes).all(axis=1)].")
    check_numbers(max_overlap=max_overlap, most=1)
    values = np.arange(len(array), 0, -1.0) if scores is None else as_numpy(scores, "scores").astype(np.float64)
    if values.shape != (len(array),) or not np.isfinite(values).all():
        raise ValueError(f"scores: got shape {values.shape}; expected {len(array)} finite numbers, one for each box.")
    area = _area(array)
    shared = _shared(array, array) / np.maximum(np.minimum(area[:, None], area), 1e-300)
    kept: list[int] = []
    for i in np.argsort(-values, kind="stable").tolist():
        if all(shared[i, j] <= max_overlap for j in kept):
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def _as_boxes(boxes: Any, name: str) -> np.ndarray:
    array = as_numpy(boxes, name)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: got an array of {array.dtype}; expected x0, y0, x1, y1 in pixels.")
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ValueError(f"{name}: got shape {array.shape}; expected (k, 4), x0, y0, x1, y1 in pixels.")
    array = np.array(array, dtype=np.float64)
    far = np.abs(array).reshape(-1, 4).max(axis=1) > _FARTHEST  # False for NaN
    if far.any():
        worst = array.reshape(-1, 4)[far][0]
        what = "NaN or infinity" if np.isinf(worst).any() else f"{np.abs(worst).max():.3g}"
        index = int(np.flatnonzero(far)[0])
        raise ValueError(f"{name}: got {what} at index {index}; expected pixels, up to {_FARTHEST:g}.")
    return array


def _at(array: np.ndarray, where: np.ndarray, name: str) -> str:
    index = int(np.flatnonzero(where)[0])
    return f"{name}: got {array[index].tolist()} at index {index}"


def _order_message(array: np.ndarray, name: str, size: tuple[int, ...] | None) -> str:
    """Say of a box without width or height whether it looks like [x, y, width, height], or has its corners swapped."""
    wrong = np.asarray((array[:, 2:] <= array[:, :2]).any(axis=1))
    box = array[wrong][0]
    message = f"{_at(array, wrong, name)}; expected x0 < x1 and y0 < y1."
    inside = size is None or (box[:2] + box[2:] <= np.array(size) + 1.0).all()
    if (box[2:] == box[:2]).any():
        return f"{message} The box has no area."
    if (box[2:] > 0).all() and inside and not (box[2:] < box[:2]).all():
        return f"{message} Try [x, y, x + width, y + height]."
    if (box[2:] > 0).all() and inside:
        return f"{message} Try [x, y, x + width, y + height], or [x1, y1, x0, y0] where the corners are swapped."
    return f"{message} Try [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]: the corners are swapped."


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0).prod(axis=1))


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0.0).prod(axis=2))
