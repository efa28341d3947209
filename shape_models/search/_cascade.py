"""The cascade of local binary patterns that comes with scikit-image, as a detector of upright frontal faces."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from .._options import check_numbers
from ..boxes import BoxConvention, overlap, suppress

_LONGEST = 512  # pixels; larger images are reduced first, unless smaller faces are asked for
_WINDOW = 24  # pixels, the smallest face that the cascade can see
_BOUND = 2048  # pixels; no image is searched at a larger size, which bounds memory and time
_SAME = 0.3  # intersection over union from which two windows are the same face
_LEAST = 3  # windows that must agree; fewer find more faces, and more that are none
_SHARE = 0.25  # of the windows of the best face in the image, which another one must have


class Detections(NamedTuple):
    """Boxes and scores that a detector returns for one image.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
        Corners x0, y0, x1, y1 in pixels of the image; (0, 4) where it finds no face.
    scores : ndarray of shape (n,)
        Higher is better; their unit is the detector's.
    convention : str or BoxConvention
        What its boxes mean: a name of :mod:`shape_models.boxes`, or one that was learned.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import Detections
    >>> Detections(np.array([[10.0, 10.0, 60.0, 60.0]]), np.array([0.9]), "dlib-hog").convention
    'dlib-hog'
    """

    boxes: np.ndarray
    scores: np.ndarray
    convention: str | BoxConvention


@runtime_checkable
class Detector(Protocol):
    """Anything that takes an image, uint8 (height, width, 3) in RGB, and returns `Detections`.

    A function will do. Those of :mod:`shape_models.search.detectors` wrap other libraries.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import Detector, find_faces
    >>> def middle(image):
    ...     height, width = image.shape[:2]
    ...     box = [width / 4, height / 4, 3 * width / 4, 3 * height / 4]
    ...     return np.array([box]), np.array([1.0]), "landmarks"
    >>> isinstance(middle, Detector)
    True
    >>> find_faces(np.zeros((80, 120), np.uint8), middle).boxes
    array([[30., 20., 90., 60.]])
    """

    def __call__(self, image: np.ndarray, /) -> Any:
        """Return boxes, scores and the name of their convention."""
        ...


def cascade_faces(
    picture: np.ndarray,
    *,
    min_size: float | None = None,
    min_windows: int = _LEAST,
    shrink: float = 1.0,
    degrees: float = 0.0,
) -> Detections:
    """Return the faces that the cascade finds; scores are the number of windows that agree.

    The image is looked at `shrink` times as large as usual, and for faces that are turned by so many degrees.
    """
    if min_size is not None:
        check_numbers(min_size=min_size, above=True)
    height, width = picture.shape[:2]
    longest = max(height, width)
    least = longest / 10 if min_size is None else float(min_size)
    factor = shrink * min(1.0, max(_LONGEST / longest, 30.0 / least), _BOUND / longest)
    from skimage.transform import warp

    grey, scale = _reduced(picture, factor)
    low, high = float(grey.min()), float(grey.max())
    if not high > low or min(grey.shape) < _WINDOW + 2:
        return _grouped(np.zeros((0, 4)), min_windows)
    # Values half-way between two bytes go up, so that every type of one image gives the same bytes.
    bytes_ = np.floor(255 * np.clip((grey - low) / (high - low), 0, 1) + (0.5 + 1e-6)).astype(np.uint8)
    if degrees:
        turn = _turned_about((np.array(bytes_.shape[::-1]) - 1) / 2, degrees)
        bytes_ = warp(bytes_, turn, order=1, mode="edge", preserve_range=True).astype(np.uint8)
    smallest = min(max(_WINDOW, round(least * factor)), min(bytes_.shape))
    looked: dict[str, Any] = {"img": bytes_, "scale_factor": 1.15, "step_ratio": 1, "max_size": bytes_.shape}
    alone = {"min_neighbor_number": 1, "intersection_score_threshold": 1.1}  # every window by itself
    found = _cascade().detect_multi_scale(**looked, **alone, min_size=(smallest, smallest))
    rows = [(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in found]
    windows = np.array(rows, dtype=np.float64).reshape(-1, 4)
    if degrees:
        centres, half = (windows[:, :2] + windows[:, 2:]) / 2, (windows[:, 2:] - windows[:, :2]) / 2
        centres = turn(centres - 0.5) + 0.5
        windows = np.concatenate([centres - half, centres + half], axis=1)
    return _grouped(windows * np.tile(scale, 2) - 0.5, min_windows)


def _turned_about(centre: np.ndarray, degrees: float) -> Any:
    """Return the map from an image in which faces stand upright to one in which they are turned."""
    from skimage.transform import EuclideanTransform

    angle = np.deg2rad(degrees)
    rotation = EuclideanTransform(rotation=angle)
    return EuclideanTransform(rotation=angle, translation=centre - rotation(centre)[0])


def _reduced(picture: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a grey image of `factor` times the size, and how many pixels (x, y) one of its own stands for."""
    from skimage.transform import resize

    height, width = picture.shape[:2]
    # Whole blocks first, in the type of the image: a copy in floats of a large image would be ten times as large.
    block = max(1, int(1.0 / factor))
    rows, columns = height // block, width // block
    channels = [picture] if picture.ndim == 2 else [picture[..., c] for c in range(3)]
    grey = np.zeros((rows, columns))
    for channel, weight in zip(channels, (1.0,) if picture.ndim == 2 else (0.2125, 0.7154, 0.0721), strict=True):
        for i in range(block):
            for j in range(block):
                part = channel[i : rows * block : block, j : columns * block : block]
                grey += np.multiply(part, weight / block**2, dtype=np.float64)
    if factor < 1.0:
        shape = (max(1, round(height * factor)), max(1, round(width * factor)))
        low, span = float(grey.min()), float(np.ptp(grey)) or 1.0
        grey = resize((grey - low) / span, shape, anti_aliasing=True)
    return grey, np.array([columns * block / grey.shape[1], rows * block / grey.shape[0]])


def _grouped(windows: np.ndarray, min_windows: int) -> Detections:
    """Average windows that are the same face: the one with most neighbours takes them, until none is left."""
    near = overlap(windows, windows) > _SAME
    left = np.ones(len(windows), dtype=bool)
    boxes, scores = [], []
    while left.any():
        neighbours = np.where(left, (near & left).sum(axis=1), 0)
        members = near[neighbours.argmax()] & left
        boxes.append(windows[members].mean(axis=0))
        scores.append(float(members.sum()))
        left &= ~members
    array, counts = np.array(boxes).reshape(-1, 4), np.array(scores)
    agreed = np.flatnonzero(counts >= max(min_windows, _SHARE * counts.max(initial=0.0)))
    kept = agreed[suppress(array[agreed], counts[agreed])] if len(agreed) else agreed
    return Detections(array[kept], counts[kept], "scikit-image")


@cache
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())
