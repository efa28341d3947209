"""Errors of outlines and regions: how far two contours are apart, and how much two masks overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_count, as_numpy, as_shapes, refuse_extremes_of
from shape_models._options import check_flags

_AT_ONCE = 1 << 20  # pairs of a point and a segment


@dataclass(frozen=True)
class ContourDistance:
    """How far two contours are apart, in the unit of their points.

    Parameters
    ----------
    mean : float
        Mean distance of the points of each contour to the other one, both directions together: the average symmetric
        distance.
    percentile_95 : float
        The distance that 95 % of them do not exceed.
    hausdorff : float
        The largest of them.
    from_target, from_prediction : float
        Mean distance of the points of the one contour to the other.

    Examples
    --------
    >>> from evaluation import contour_distance
    >>> square = [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]]
    >>> contour_distance(square, [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]).hausdorff.__round__(3)
    1.414
    """

    mean: float
    percentile_95: float
    hausdorff: float
    from_target: float
    from_prediction: float

    def __str__(self) -> str:
        return f"mean {self.mean:.3f}, 95 % below {self.percentile_95:.3f}, largest {self.hausdorff:.3f}"


def contour_distance(
    target: ArrayLike, prediction: ArrayLike, *, closed: bool = True, n_points: int = 1000
) -> ContourDistance:
    """Measure how far two contours are apart, whatever points they are given by.

    Points are spread evenly along each contour, with its own corners among them, and the distance of each to the
    nearest place of the other contour is taken, on its lines and not only at its corners.

    Parameters
    ----------
    target, prediction : array_like of shape (n, 2) or (n, 3)
        The corners of each contour in their order, joined by straight lines; their numbers may differ.
    closed : bool
        Whether the last corner is joined to the first.
    n_points : int
        How many points to spread along each contour.

    Returns
    -------
    ContourDistance

    Raises
    ------
    ValueError
        For a contour with missing points, of fewer than two corners, or of another dimension than the other.

    Notes
    -----
    The Hausdorff distance between lines is reached at corners or where two lines are equally near; spreading points
    misses it by at most half the distance between neighbouring points.

    References
    ----------
    D. P. Huttenlocher, G. A. Klanderman, W. J. Rucklidge, Comparing images using the Hausdorff distance, IEEE
    Transactions on Pattern Analysis and Machine Intelligence 15 (1993).

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import contour_distance
    >>> t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    >>> circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    >>> print(contour_distance(10 * circle, 11 * circle))
    mean 1.000, 95 % below 1.000, largest 1.000
    """
    check_flags(closed=closed)
    one, other = (_contour(x, name) for x, name in ((target, "target"), (prediction, "prediction")))
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"prediction: got points in {other.shape[1]} dimensions; expected {one.shape[1]}.")
    n_points = as_count(n_points, "n_points", 2)
    there = _to_segments(_spread(one, closed, n_points), other, closed)
    back = _to_segments(_spread(other, closed, n_points), one, closed)
    # Corners crowd where a contour bends: means are over the even points alone, the extremes over all.
    means = there[:n_points].mean(), back[:n_points].mean()
    even = np.concatenate([there[:n_points], back[:n_points]])
    return ContourDistance(
        float(even.mean()),
        float(np.quantile(even, 0.95)),
        float(max(there.max(), back.max())),
        float(means[0]),
        float(means[1]),
    )


def point_to_contour(target: ArrayLike, points: ArrayLike, *, closed: bool = True) -> np.ndarray:
    """Distance of each point to the nearest place of a true contour, on its lines or at its corners.

    For landmarks along an outline, which may slide along it without being wrong.

    Parameters
    ----------
    target : array_like of shape (n, 2) or (n, 3)
        The corners of the true contour in their order, joined by straight lines.
    points : array_like of shape (..., m, d)
        In the same frame; NaN: missing.
    closed : bool
        Whether the last corner of the contour is joined to the first.

    Returns
    -------
    ndarray of float64 of shape (..., m)
        In the unit of the points; NaN for missing ones.

    Raises
    ------
    ValueError
        For a contour with missing points or of fewer than two corners, and for points of another dimension.

    Examples
    --------
    >>> from evaluation import point_to_contour
    >>> jaw = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]
    >>> point_to_contour(jaw, [[5.0, 2.0], [13.0, 14.0], [1.0, 0.0]], closed=False)
    array([2., 5., 0.])
    """
    check_flags(closed=closed)
    contour = _contour(target, "target")
    given = as_shapes(points, name="points", n_dims=contour.shape[1], allow_nan=True)
    flat = given.reshape(-1, given.shape[-1]).astype(np.float64)
    refuse_extremes_of(flat, "points", tiny=False)
    seen = np.isfinite(flat).all(axis=1)
    distance = np.full(len(flat), np.nan)
    distance[seen] = _to_segments(flat[seen], contour, closed)
    return distance.reshape(given.shape[:-1])


def dice(target: ArrayLike, prediction: ArrayLike) -> Any:
    """Overlap of two regions: twice the common part over the sum of both, from 0 to 1.

    Parameters
    ----------
    target, prediction : array_like of bool of shape (height, width) or (n, height, width)
        Masks, True inside; volumes are of shape (depth, height, width) only one at a time, flattened to two dimensions.

    Returns
    -------
    float or ndarray of shape (n,)
        NaN where both regions are empty: nothing was there and nothing was found.

    Raises
    ------
    TypeError
        For masks that are not boolean. Try ``mask > 0``, or ``labels == 3``.
    ValueError
        For masks of different shapes, of no pixels, and with an axis of channels.

    References
    ----------
    L. R. Dice, Measures of the amount of ecologic association between species, Ecology 26 (1945).

    Examples
    --------
    >>> import numpy as np
    >>> from skimage.draw import polygon2mask
    >>> from evaluation import dice
    >>> square = polygon2mask((50, 50), [[10, 10], [10, 30], [30, 30], [30, 10]])
    >>> round(dice(square, np.roll(square, 5, axis=1)), 2)
    0.76
    """
    truth, guess = (as_numpy(x, name, booleans=True) for x, name in ((target, "target"), (prediction, "prediction")))
    for mask, name in ((truth, "target"), (guess, "prediction")):
        if mask.dtype != bool:
            raise TypeError(f"{name}: got an array of {mask.dtype}; expected booleans. Try {name} > 0.")
    if truth.shape != guess.shape or truth.ndim not in (2, 3) or not truth.size:
        raise ValueError(
            f"prediction: got shape {guess.shape} and a target of {truth.shape}; expected two masks of one shape, "
            "(height, width) or (n, height, width), with at least one pixel."
        )
    if truth.shape[-1] == 1 and truth.ndim == 3:
        raise ValueError(
            f"target: got masks of shape {truth.shape}, one pixel wide; expected (height, width) or "
            "(n, height, width). Try target[..., 0] and prediction[..., 0] where the last axis is the channel."
        )
    common = (truth & guess).sum(axis=(-2, -1))
    total = truth.sum(axis=(-2, -1)) + guess.sum(axis=(-2, -1))
    # Two empty regions have no overlap to speak of: neither 0 nor 1.
    value = np.where(total > 0, 2 * common / np.maximum(total, 1), np.nan)
    return float(value) if value.ndim == 0 else value


# --- inside ----------------------------------------------------------------------------------------------


def _contour(points: ArrayLike, name: str) -> np.ndarray:
    contour = as_shapes(points, name=name, n_dims=(2, 3)).astype(np.float64)
    if contour.ndim != 2 or len(contour) < 2:
        raise ValueError(f"{name}: got shape {contour.shape}; expected one contour, (n, 2) with at least two corners.")
    refuse_extremes_of(contour, name)
    return contour


def _segments(contour: np.ndarray, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    ends = np.roll(contour, -1, axis=0) if closed else contour[1:]
    starts = contour if closed else contour[:-1]
    return starts, ends - starts


def _spread(contour: np.ndarray, closed: bool, n: int) -> np.ndarray:
    """Return n points at even distances along the contour, and after them its corners."""
    starts, steps = _segments(contour, closed)
    reached = np.concatenate([[0.0], np.cumsum(np.sqrt((steps**2).sum(axis=1)))])
    at = np.linspace(0.0, reached[-1], n, endpoint=not closed)  # a closed contour ends where it starts
    corners = np.concatenate([starts, starts[-1:] + steps[-1:]])
    even = np.stack([np.interp(at, reached, corners[:, i]) for i in range(contour.shape[1])], axis=1)
    return np.concatenate([even, contour])


def _to_segments(points: np.ndarray, contour: np.ndarray, closed: bool) -> np.ndarray:
    """Distance of each point to the nearest segment of a contour."""
    starts, steps = _segments(contour, closed)
    # The nearest point of a segment is the foot of the perpendicular, or an end; of no length, where a corner repeats.
    length = np.maximum((steps**2).sum(axis=1), np.finfo(float).tiny)
    distance = np.empty(len(points))
    size = max(1, _AT_ONCE // len(starts))
    for first in range(0, len(points), size):
        offset = points[first : first + size, None] - starts
        along = np.clip((offset * steps).sum(axis=-1) / length, 0.0, 1.0)
        distance[first : first + size] = np.sqrt(((offset - along[..., None] * steps) ** 2).sum(axis=-1).min(axis=1))
    return distance
