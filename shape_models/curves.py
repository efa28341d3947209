"""Curves through landmarks: which landmarks lie on them, which of these may slide, and points at equal distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._array import DegenerateShapeError, as_indices, as_shapes, refuse_extremes_of
from ._options import check_flags
from ._typing import ArrayLike

__all__ = ["Curve", "attach_curves", "curve_length", "resample_curve"]

_SAME = 1e-6  # fraction of a shape's size within which the end of a curve is a landmark


@dataclass(frozen=True)
class Curve:
    """A curve of an object: the landmarks along it, in order, and which of them stay where they are.

    Parameters
    ----------
    indices : sequence of int
        The landmarks from one end to the other; once around where the curve is closed (the first is not repeated). An
        open curve needs at least three, a closed one at least four.
    closed : bool, default=False
        Whether the last landmark is followed by the first.
    fixed : sequence of int, optional
        Landmarks of the curve that are homologous by themselves and do not slide. The two ends of an open curve are
        always fixed: they have neighbours on one side only.
    name : str, default=""
        What the curve is called.

    Raises
    ------
    ValueError
        For too few landmarks, one that stands twice, and a fixed one that does not lie on the curve.

    Examples
    --------
    >>> from shape_models import Curve
    >>> bill = Curve([0, 10, 11, 12, 1], name="upper bill")
    >>> bill.sliding
    (10, 11, 12)
    >>> bill.sliders().tolist()
    [[0, 10, 11], [10, 11, 12], [11, 12, 1]]
    >>> Curve(range(6), closed=True, fixed=[0]).sliding
    (1, 2, 3, 4, 5)
    """

    indices: Sequence[int]
    closed: bool = False
    fixed: Sequence[int] = ()
    name: str = ""

    def __post_init__(self) -> None:
        check_flags(closed=self.closed)
        indices, fixed = _whole(self.indices, "indices"), _whole(self.fixed, "fixed")
        least = 4 if self.closed else 3
        if len(indices) < least:
            kind = "a closed" if self.closed else "an open"
            raise ValueError(f"indices: got {len(indices)} landmarks; expected at least {least} for {kind} curve.")
        if len(set(indices)) < len(indices):
            hint = " Try closed=True without repeating the first." if indices[0] == indices[-1] else ""
            raise ValueError(f"indices: got a landmark twice; expected each once.{hint}")
        strangers = sorted(set(fixed) - set(indices))
        if strangers:
            raise ValueError(f"fixed: got {strangers}, which do not lie on the curve; expected some of its landmarks.")
        if not self.closed:
            fixed = (indices[0], *(i for i in fixed if i not in (indices[0], indices[-1])), indices[-1])
        for name, value in (("indices", indices), ("fixed", fixed), ("closed", bool(self.closed))):
            object.__setattr__(self, name, value)

    @property
    def n_points(self) -> int:
        """The resolution: how many landmarks lie on the curve."""
        return len(self.indices)

    @property
    def sliding(self) -> tuple[int, ...]:
        """The landmarks that slide, in order."""
        fixed = set(self.fixed)
        return tuple(i for i in self.indices if i not in fixed)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of neighbours, for drawings."""
        pairs = list(zip(self.indices, self.indices[1:], strict=False))
        return tuple([*pairs, (self.indices[-1], self.indices[0])] if self.closed else pairs)

    def sliders(self) -> np.ndarray:
        """Return (neighbour before, landmark, neighbour after) for each landmark that slides.

        Returns
        -------
        ndarray of int of shape (n_sliding, 3)
            The table that geomorph calls ``curves`` (there counted from 1).
        """
        n, fixed = len(self.indices), set(self.fixed)
        rows = [
            (self.indices[j - 1], self.indices[j], self.indices[(j + 1) % n])
            for j in range(n)
            if self.indices[j] not in fixed
        ]
        return np.array(rows, dtype=np.intp).reshape(-1, 3)


def attach_curves(
    landmarks: ArrayLike,
    curves: Sequence[Sequence[Any]],
    n_points: int | Sequence[int],
    *,
    closed: bool | Sequence[bool] = False,
) -> tuple[np.ndarray, list[Curve]]:
    """Join landmarks and digitised curves, as a ``.tps`` file holds them, to shapes with semilandmarks.

    Files that hold curves as chains of points, such as the ``CURVES`` and ``OUTLINES`` of ``.tps``, say nothing about
    which of their points correspond: every curve is sampled anew at equal distances, and the inner points may then
    slide. Where the end of an open curve is one of the landmarks in every specimen that has this landmark, the landmark
    stands for it.

    Parameters
    ----------
    landmarks : array_like of shape (n_samples, n_landmarks, n_dims)
        NaN: missing. May hold no landmarks, shape (n_samples, 0, n_dims).
    curves : sequence over samples of sequences of array_like of shape (m, n_dims)
        The same number of curves for every sample, in the same order, with any number m of points; for instance
        ``[file.attributes["curves"] for file in read_landmarks("set.tps")]``.
    n_points : int or sequence of int
        How many points every curve, or each, gets, ends included.
    closed : bool or sequence of bool, default=False
        Whether the curves are closed.

    Returns
    -------
    shapes : ndarray of shape (n_samples, n_landmarks + new points, n_dims)
    curves : list of Curve
        For a `LandmarkScheme` or `Sliding`. All points of a closed curve slide.

    Raises
    ------
    ValueError
        When samples have different numbers of curves, and as `resample_curve`.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import attach_curves
    >>> landmarks = np.array([[[0.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [8.0, 0.0]]])
    >>> drawn = [[[[0, 0], [2, 1], [4, 0]]], [[[0, 0], [2, 2], [6, 2], [8, 0]]]]
    >>> shapes, curves = attach_curves(landmarks, drawn, 5)
    >>> shapes.shape, curves[0].indices
    ((2, 5, 2), (0, 2, 3, 4, 1))
    """
    array = as_shapes(landmarks, name="landmarks", n_dims=(2, 3), min_samples=0, allow_nan=True).astype(np.float64)
    numbers = {len(of_one) for of_one in curves}
    if len(curves) != len(array) or len(numbers) > 1:
        raise ValueError(
            f"curves: got {sorted(numbers)} curves for {len(curves)} samples; expected the same number of curves for "
            f"each of {len(array)} samples."
        )
    count = numbers.pop() if numbers else 0
    sizes = [n_points] * count if isinstance(n_points, int | np.integer) else list(n_points)
    rings = [bool(closed)] * count if isinstance(closed, bool | np.bool_) else list(closed)
    if len(sizes) != count or len(rings) != count:
        raise ValueError(f"got {len(sizes)} n_points and {len(rings)} closed; expected one for each of {count} curves.")
    seen = ~np.isnan(array[..., 0])
    low, high = (np.where(seen[..., None], array, fill) for fill in (np.inf, -np.inf))
    extent = np.ptp(np.stack([low.min(axis=1, initial=np.inf), high.max(axis=1, initial=-np.inf)]), axis=0).max(axis=-1)
    parts, records, total = [array], [], array.shape[1]
    for j, (n, ring) in enumerate(zip(sizes, rings, strict=True)):
        try:
            sampled = np.stack([resample_curve(of_one[j], n, closed=ring) for of_one in curves])
        except ValueError as error:
            raise ValueError(f"curve {j}: {error}") from None
        place: list[int] = []
        new: list[int] = []
        for i in range(n):
            known = -1
            if not ring and i in (0, n - 1):
                near = np.linalg.norm(array - sampled[:, [i]], axis=-1) <= _SAME * extent[:, None]
                ends = np.flatnonzero(near.any(axis=0) & (near | ~seen).all(axis=0))
                known = int(ends[0]) if len(ends) else -1
            if known < 0:
                known = total + len(new)
                new.append(i)
            place.append(known)
        parts.append(sampled[:, new])
        total += len(new)
        records.append(Curve(place, closed=ring, name=f"curve_{j}"))
    return np.concatenate(parts, axis=1), records


def _whole(values: Any, name: str) -> tuple[int, ...]:
    array = as_indices(values, name, "landmark indices from 0")
    if array.size and array.min() < 0:
        raise ValueError(f"{name}: got {values!r}; expected landmark indices from 0.")
    return tuple(array.tolist())


def curve_length(points: ArrayLike, *, closed: bool = False) -> Any:
    """Return the length of polygonal curves.

    Parameters
    ----------
    points : array_like of shape (..., n_points, n_dims)
        The vertices, in their order.
    closed : bool, default=False
        Whether the last point is joined to the first.

    Returns
    -------
    float or ndarray of shape (...)

    Examples
    --------
    >>> from shape_models import curve_length
    >>> square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    >>> float(curve_length(square)), float(curve_length(square, closed=True))
    (3.0, 4.0)
    """
    check_flags(closed=closed)
    return arc_lengths(_points(points, closed), closed)[..., -1]


def resample_curve(
    points: ArrayLike, n: int, *, closed: bool = False, fixed: Sequence[int] | None = None, return_fixed: bool = False
) -> Any:
    """Place points at equal distances along curves, measured along the curve.

    The curve is the polygon through the given points, and the new ones lie on it. Points inserted on the edges of the
    polygon change nothing. Where the points were taken from a smooth curve of curvature up to κ with chords up to h,
    the polygon, and with it the result, is off by up to κ h² / 8 across the curve, and by up to κ² h² / 24 of the
    length along it.

    Parameters
    ----------
    points : array_like of shape (..., m, n_dims)
        Points along each curve, in order, in any number of dimensions; the first of a closed curve is not repeated
        (but may be).
    n : int
        Number of points to return, on every curve. An open curve keeps its two ends, a closed one its first point.
    closed : bool, default=False
        Whether the last point is joined to the first.
    fixed : sequence of int, optional
        Given points that are kept, such as landmarks on the curve. The pieces between them get points in proportion
        to their fraction of the length (its mean over the batch), at equal distances within each.
    return_fixed : bool, default=False
        Also return the places of the fixed points among the new ones.

    Returns
    -------
    ndarray of shape (..., n, n_dims)
        With ``return_fixed``, a pair: these and an array of int, one for each fixed point.

    Raises
    ------
    DegenerateShapeError
        When all points of a curve, or of a piece between two fixed ones, coincide.
    ValueError
        For wrong shapes, missing points (NaN), and fewer points than ends and fixed ones.

    Examples
    --------
    >>> from shape_models import resample_curve
    >>> resample_curve([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]], 5)
    array([[0., 0.],
           [1., 0.],
           [1., 1.],
           [1., 2.],
           [1., 3.]])
    >>> square = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]
    >>> resample_curve(square, 4, closed=True).tolist() == square
    True
    """
    check_flags(closed=closed, return_fixed=return_fixed)
    array = _points(points, closed)
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise ValueError(f"n: got {n!r}; expected the number of points.")
    m = array.shape[-2]
    batch = array.reshape(-1, m, array.shape[-1]).astype(np.float64)
    stops = _stops(fixed, m, closed)
    if closed:
        batch = np.concatenate([batch, batch[:, :1]], axis=1)
    at = arc_lengths(batch, False)
    pieces = np.diff(at[:, stops], axis=1)
    if not (pieces > 0).all():
        which = int(np.argwhere(~(pieces > 0).all(axis=1))[0, 0])
        what = "all of its points coincide" if len(stops) == 2 else "fixed points coincide"
        where = f"[{which}]" if array.ndim > 2 else ""
        raise DegenerateShapeError(f"points{where}: a curve without length: {what}. Try leaving it out.")
    least = len(stops) - (1 if closed else 0)
    if n < max(least, 3 if closed else 2):
        raise ValueError(f"n: got {n}; expected at least {max(least, 3 if closed else 2)} points for this curve.")
    counts = _shares((pieces / pieces.sum(axis=1, keepdims=True)).mean(axis=0), n - (0 if closed else 1))
    steps = np.concatenate([[0], np.cumsum(counts)])
    out = np.empty((len(batch), n, batch.shape[2]))
    for curve, s, new in zip(batch, at, out, strict=True):
        place = np.interp(np.arange(n), steps, s[stops])
        for d in range(batch.shape[2]):
            new[:, d] = np.interp(place, s, curve[:, d])
        for stop, step in zip(stops, steps, strict=True):
            if step < n:
                new[step] = curve[stop]
    result = out.reshape(*array.shape[:-2], n, array.shape[-1]).astype(array.dtype, copy=False)
    if not return_fixed:
        return result
    kept = fixed if fixed is not None else [0] if closed else [0, m - 1]
    place_of = {stop % m: int(step) % n for stop, step in zip(stops, steps, strict=True)}
    return result, np.array([place_of[i] for i in kept], dtype=np.intp)


def arc_lengths(points: np.ndarray, closed: bool) -> np.ndarray:
    """Return the length along each curve up to each point, from 0; the whole length at the end of a closed one."""
    after = np.concatenate([points[..., 1:, :], points[..., :1, :]], axis=-2) if closed else points[..., 1:, :]
    before = points if closed else points[..., :-1, :]
    steps = np.linalg.norm((after - before).astype(np.float64), axis=-1)
    return np.concatenate([np.zeros_like(steps[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)


def _points(points: Any, closed: bool) -> np.ndarray:
    array = as_shapes(points, name="points")
    refuse_extremes_of(array, "points")
    if array.shape[-2] < (3 if closed else 2):
        kind, least = ("a closed", 3) if closed else ("an open", 2)
        raise ValueError(f"points: got {array.shape[-2]} points; expected at least {least} for {kind} curve.")
    return array


def _stops(fixed: Sequence[int] | None, m: int, closed: bool) -> list[int]:
    """Return the points that are kept, ends included; a closed curve ends at m, its first point again."""
    end = m if closed else m - 1
    inside: list[int] = []
    if fixed is not None:
        inside = [int(i) for i in _whole(fixed, "fixed")]
        if len(set(inside)) < len(inside) or any(i >= m for i in inside):
            raise ValueError(f"fixed: got {list(fixed)}; expected different indices below {m}.")
    return sorted({0, end, *inside})


def _shares(share: np.ndarray, n: int) -> np.ndarray:
    """Return whole numbers, each at least 1, that sum to n and lie near n times the shares (largest remainders)."""
    exact = share * n
    counts = np.maximum(np.floor(exact), 1).astype(int)
    while counts.sum() < n:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > n:
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    return np.asarray(counts)
