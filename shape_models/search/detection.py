"""Faces in photographs, for a start: scikit-image's cascade, and what its boxes mean for a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from numbers import Real
from typing import Any

import numpy as np

from ._images import read_image

__all__ = ["detect_faces", "learn_detection", "map_boxes"]

_LONGEST = 512  # pixels; larger pictures are reduced first, faces below a tenth of this are not sought


def detect_faces(image: Any, *, min_size: float | None = None) -> np.ndarray:
    """Return the boxes of upright frontal faces, the largest first.

    The detector is the cascade of local binary patterns that comes with scikit-image. It misses about one face in
    five, turned ones above all, and sometimes takes something else for a face.

    Parameters
    ----------
    image : array or path
        (height, width) or (height, width, 3).
    min_size : float, optional
        Smallest side of a face to look for, pixels; None for a tenth of the longer side of the image.

    Returns
    -------
    ndarray of shape (n_faces, 4)
        x0, y0, x1, y1 by the detector's own convention, about eyebrows to chin; (0, 4) when there is none.

    Raises
    ------
    ValueError
        When `image` is no image.

    References
    ----------
    S. Liao et al., "Learning multi-scale block local binary patterns for face recognition", ICB (2007).

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search import detect_faces
    >>> detect_faces(skimage.data.astronaut()).shape
    (1, 4)
    >>> detect_faces(skimage.data.coins()).shape
    (0, 4)
    """
    from skimage.transform import resize

    picture = read_image(image)
    height, width = picture.shape[:2]
    if min_size is not None and not (isinstance(min_size, Real) and 0 < min_size < np.inf):
        raise ValueError(f"min_size: got {min_size!r}; expected a positive number of pixels.")
    least = max(height, width) / 10 if min_size is None else float(min_size)
    # A face of 24 pixels, the size of the detector's window, is the smallest it can see.
    factor = min(1.0, max(_LONGEST / max(height, width), 30.0 / least))
    if picture.ndim == 3:
        picture = picture @ np.array([0.2125, 0.7154, 0.0721])
    low, high = float(picture.min()), float(picture.max())
    if not high > low:
        return np.empty((0, 4))
    grey = (picture.astype(np.float64) - low) / (high - low)
    if factor < 1.0:
        grey = resize(grey, (round(height * factor), round(width * factor)), anti_aliasing=True)
    if min(grey.shape) < 26:
        return np.empty((0, 4))
    # Values half-way between two bytes go up, so that every type of one picture gives the same bytes.
    bytes_ = np.floor(255 * np.clip(grey, 0, 1) + (0.5 + 1e-6)).astype(np.uint8)
    smallest = min(max(24, round(least * factor)), min(bytes_.shape))
    found = _cascade().detect_multi_scale(
        img=bytes_, scale_factor=1.15, step_ratio=1, min_size=(smallest, smallest), max_size=bytes_.shape[:2]
    )
    sx, sy = width / bytes_.shape[1], height / bytes_.shape[0]
    boxes = [(f["c"] * sx, f["r"] * sy, (f["c"] + f["width"]) * sx, (f["r"] + f["height"]) * sy) for f in found]
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4) - 0.5
    return array[np.argsort(-(array[:, 2] - array[:, 0]), kind="stable")]


@cache
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())


def map_boxes(boxes: np.ndarray, detection: dict[str, Any]) -> np.ndarray:
    """Take boxes of `detect_faces` to the convention that `detection` was learned for; squares come out.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
    detection : dict
        ``center`` and ``side``, as `ASMFitter.detection_`.

    Returns
    -------
    ndarray of shape (n, 4)

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search.detection import map_boxes
    >>> map_boxes(np.array([[0.0, 0.0, 10.0, 10.0]]), {"center": (0.0, 0.1), "side": 0.8})
    array([[ 1.,  2.,  9., 10.]])
    """
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    center = 0.5 * (boxes[:, 2:] + boxes[:, :2]) + np.asarray(detection["center"]) * side
    half = 0.5 * detection["side"] * side
    return np.concatenate([center - half, center + half], axis=1)


def learn_detection(images: Any, boxes: np.ndarray, tell: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Learn the map from the detector's boxes to others, from photographs where both are known.

    Parameters
    ----------
    images : sequence of array or path
    boxes : ndarray of shape (n, 4)
        Where the face of each image is, by the convention wanted.
    tell : callable, optional
        Hears the number of each image that is done.

    Returns
    -------
    dict
        ``center`` and ``side`` (medians, shares of the detected box's side), ``spread`` (three standard deviations),
        ``n_faces`` learned from, and ``found``, their share.

    Raises
    ------
    ValueError
        When fewer than five faces are found.

    Examples
    --------
    >>> import numpy as np, skimage.data
    >>> from shape_models.search.detection import learn_detection
    >>> images = [skimage.data.astronaut()] * 5
    >>> learn_detection(images, np.tile([170.0, 70.0, 270.0, 180.0], (5, 1)))["n_faces"]
    5
    """
    if len(images) != len(boxes):
        raise ValueError(f"images: got {len(images)}; expected one for each of {len(boxes)} shapes.")
    rows = []
    for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
        found = detect_faces(image)
        if tell is not None:
            tell(i)
        if not len(found):
            continue
        center, side = 0.5 * (box[:2] + box[2:]), float((box[2:] - box[:2]).max())
        middles = 0.5 * (found[:, :2] + found[:, 2:])
        sides = (found[:, 2:] - found[:, :2]).max(axis=1)
        distance = np.linalg.norm(middles - center, axis=1)
        best = int(distance.argmin())
        # Another face, or no face at all, is not where the landmarks are.
        if distance[best] < 0.5 * side and 0.5 < sides[best] / side < 2.0:
            rows.append([*(center - middles[best]) / sides[best], side / sides[best]])
    if len(rows) < 5:
        raise ValueError(f"images: found the face in {len(rows)} of {len(boxes)}; expected at least 5.")
    values = np.array(rows)
    median = np.median(values, axis=0)
    return {
        "center": median[:2].tolist(), "side": float(median[2]), "spread": values.std(axis=0).tolist(),
        "n_faces": len(rows), "found": len(rows) / len(boxes),
    }  # fmt: skip
