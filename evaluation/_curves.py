"""The distribution of errors, and the numbers drawn from it: failure rates and areas under the curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_count, as_numpy
from shape_models._options import is_number

from ._errors import ErrorArray


@dataclass(frozen=True, eq=False)
class CumulativeError:
    """The cumulative error distribution: which fraction of the faces has an error of at most t.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,)
        Increasing errors t.
    fractions : ndarray of shape (n_thresholds,)
        Fraction of the faces with ``e <= t``, in [0, 1].
    n : int
        Number of faces.
    definition : str
        What the errors are.

    Examples
    --------
    >>> from evaluation import cumulative_error
    >>> curve = cumulative_error([0.01, 0.03, 0.03, 0.2])
    >>> curve.thresholds, curve.fractions
    (array([0.01, 0.03, 0.2 ]), array([0.25, 0.75, 1.  ]))
    >>> curve(0.05)
    0.75
    """

    thresholds: np.ndarray
    fractions: np.ndarray
    n: int
    definition: str = ""

    def __call__(self, threshold: ArrayLike) -> Any:
        """Fraction of the faces at any threshold, by the steps of the curve (exact when no grid was asked for)."""
        levels = as_numpy(threshold, "threshold")
        if np.isnan(levels).any():
            raise ValueError("threshold: got NaN; expected numbers.")
        at = np.searchsorted(self.thresholds, levels, side="right")
        value = np.concatenate([[0.0], self.fractions])[at]  # before the first step the curve is at 0
        return float(value) if np.ndim(value) == 0 else value


def cumulative_error(errors: ArrayLike, thresholds: ArrayLike | None = None) -> CumulativeError:
    """Cumulative error distribution, at the thresholds or exactly, with one step at every error.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors. Undefined faces of an `ErrorArray` are left out, its failed ones count in the denominator.
    thresholds : array_like of shape (n_thresholds,), optional
        Increasing, in the unit of the errors. Every distinct error when not given.

    Returns
    -------
    CumulativeError

    Raises
    ------
    ValueError
        For an empty set, NaN, negative errors and thresholds that do not increase.

    Examples
    --------
    >>> from evaluation import cumulative_error
    >>> cumulative_error([0.02, 0.04, 0.06], [0.0, 0.05, 0.1]).fractions.round(3)
    array([0.   , 0.667, 1.   ])
    """
    values, n, definition = _scored(errors)
    values = np.sort(values)
    if thresholds is None:
        steps = np.unique(values)
    else:
        steps = as_numpy(thresholds, "thresholds").astype(np.float64)
        if steps.ndim != 1 or not steps.size or not np.isfinite(steps).all() or (np.diff(steps) < 0).any():
            raise ValueError("thresholds: expected a list of finite numbers that increase, such as [0.02, 0.05, 0.1].")
    fractions = np.searchsorted(values, steps, side="right") / n
    return CumulativeError(steps, fractions, n, definition)


def auc(errors: ArrayLike, *, threshold: float) -> float:
    """Area under the cumulative error distribution up to the threshold, divided by the threshold, exactly.

    ``mean(max(0, 1 - e / t))``: the same number as the integral of the curve over [0, t] over t, without a grid.
    It is 1 for perfect predictions, 0 when no error is below the threshold, and never outside. Its complement
    is the mean clipped error, ``1 - auc = mean(min(e, t)) / t``.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions. Failed faces of an `ErrorArray` count as 0, undefined ones are left out.
    threshold : float
        The t of AUC@t, in the unit of the errors: a fraction. 0.08 and 0.1 are in use for 300-W.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        For an empty set, NaN, negative errors, or a threshold that is not a positive fraction.

    Examples
    --------
    >>> from evaluation import auc
    >>> auc([0.0, 0.05, 0.3], threshold=0.1)
    0.5
    """
    values, n, _ = _scored(errors)
    limit = checked_threshold(threshold, errors)
    # The step of the curve at an error e leaves 1 - e / t of the interval from 0 to t below it.
    return float(np.maximum(0.0, 1.0 - values / limit).sum() / n)


def failure_rate(errors: ArrayLike, *, threshold: float) -> float:
    """Fraction of the faces with an error above the threshold.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions. Failed faces of an `ErrorArray` count, undefined ones are left out.
    threshold : float
        The t of FR@t; ``e > t`` fails, ``e == t`` does not.

    Returns
    -------
    float
        A fraction in [0, 1].

    Raises
    ------
    ValueError
        As in `auc`.

    Examples
    --------
    >>> from evaluation import failure_rate
    >>> failure_rate([0.02, 0.1, 0.12, 0.4], threshold=0.1)
    0.5
    """
    # Counted from those that pass: a face without a prediction has no error, and fails.
    values, n, _ = _scored(errors)
    passed = int((values <= checked_threshold(threshold, errors)).sum())
    return (n - passed) / n


def auc_grid(errors: ArrayLike, *, threshold: float, step: float = 1e-4) -> float:
    """Compute the area under the curve as common evaluation scripts do, to match old tables.

    The curve is sampled on ``arange(0, t + step, step)``, integrated by Simpson's rule (with an even number of points
    the mean of the two ways to leave one interval to the trapezoid) and divided by t. Rounding may put one point
    beyond t on the grid: perfect predictions then score more than 1, 1.002 at t = 0.05. Use `auc` for new numbers.

    Parameters
    ----------
    errors, threshold : array_like and float
        As in `auc`.
    step : float
        Distance of two grid points.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As in `auc`, and for a step that is not positive or beyond the threshold.

    Examples
    --------
    >>> from evaluation import auc, auc_grid
    >>> auc([0.0, 0.0], threshold=0.05), round(auc_grid([0.0, 0.0], threshold=0.05), 6)
    (1.0, 1.002)
    """
    limit = checked_threshold(threshold, errors)
    if not (is_number(step) and 0 < step <= limit):
        raise ValueError(f"step: got {step!r}; expected a positive number up to the threshold {limit:g}.")
    grid = np.arange(0, limit + step, step)  # with the point too many that rounding may give, as in those scripts
    heights = cumulative_error(errors, grid).fractions
    return float(_simpson(heights, step) / limit)


def auc_threshold_weighted(errors: ArrayLike, *, threshold: float = 0.1, n_thresholds: int = 20) -> float:
    """Compute what the authors of ASMNet and KD-Loss print as "AUC", to match their tables.

    With ``t_k = t k / (n - 1)`` and F the cumulative error distribution it is ``sum_k (t_k + t_(k-1)) / 2 * F(t_k)``:
    the integral of the threshold over the running sum of F, not the area under F. Errors below the small thresholds
    hardly count, perfect predictions score ``t (n - 1) / 2`` (0.95 as published), and the number is not comparable
    with `auc`: at an NME of 4.06 % it gives 0.79 where the area is about 0.60.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions.
    threshold : float
        The largest threshold.
    n_thresholds : int
        Number of thresholds, 0 and `threshold` among them.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As in `auc`, and for fewer than two thresholds.

    Examples
    --------
    >>> from evaluation import auc_threshold_weighted
    >>> round(auc_threshold_weighted([0.0, 0.0]), 6)
    0.95
    """
    limit = checked_threshold(threshold, errors)
    as_count(n_thresholds, "n_thresholds", 2)
    values, n, _ = _scored(errors)
    return float(threshold_weights(values, limit, n_thresholds).sum() / n)


# --- inside ----------------------------------------------------------------------------------------------


def _scored(errors: ArrayLike) -> tuple[np.ndarray, int, str]:
    """Finite errors (flat), the number of faces that count, and the definition."""
    if isinstance(errors, ErrorArray):
        # Faces without a prediction count, though they have no error: each curve stays below 1 by their fraction.
        values, n, definition = errors.defined, int((~errors.undefined).sum()), errors.definition
    else:
        values = as_numpy(errors, "errors").astype(np.float64).reshape(-1)
        n, definition = values.size, ""
    if not n:
        raise ValueError("errors: got no face with a defined error; expected at least one.")
    if values.size:
        low, high = values.min(), values.max()
        if not (low >= 0 and np.isfinite(high)):
            raise ValueError(
                f"errors: got {'NaN' if np.isnan(low) else low if low < 0 else high}; expected finite numbers that are "
                "not negative. Try nme(..., undefined='nan', missing='failure') and pass its result as it is, "
                "so that such faces are counted."
            )
    return values, n, definition


def checked_threshold(threshold: float, errors: ArrayLike) -> float:
    """Return a threshold that is one positive number, and a fraction where the errors are."""
    try:
        value = np.nan if isinstance(threshold, bool | str) else float(threshold)
    except (TypeError, ValueError):
        raise ValueError(f"threshold: got {threshold!r}; expected one positive number, such as 0.08.") from None
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"threshold: got {threshold}; expected a positive number, such as 0.08.")
    # A fraction of 1 is as far off as the face is large: whoever says 8 means percent.
    if value >= 1 and getattr(errors, "unit", None) == "fraction":
        raise ValueError(f"threshold: got {value:g}; the errors are fractions. Try threshold={value / 100:g}.")
    return value


def threshold_weights(values: np.ndarray, threshold: float, n_thresholds: int = 20) -> np.ndarray:
    """Return what each error adds to the threshold-weighted "AUC": the middles of the steps at whose end it passes."""
    steps = threshold * np.arange(n_thresholds) / (n_thresholds - 1)
    # sum_k (t_k + t_(k-1)) / 2 F(t_k), turned round: a face adds the middles of all steps from its own error on.
    tail = np.append(np.cumsum(((steps[1:] + steps[:-1]) / 2)[::-1])[::-1], 0.0)
    return tail[np.maximum(np.searchsorted(steps, values, side="left") - 1, 0)]


def _simpson(heights: np.ndarray, step: float) -> float:
    def odd(y: np.ndarray) -> float:
        return step / 3 * (y[0] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum() + y[-1]) if len(y) > 1 else 0.0

    if len(heights) % 2:
        return odd(heights)
    # An even number of points leaves one interval over: at the end, at the beginning, and the mean of both, as SciPy
    # did when the scripts in question were written.
    head = odd(heights[:-1]) + step * (heights[-2] + heights[-1]) / 2
    tail = odd(heights[1:]) + step * (heights[0] + heights[1]) / 2
    return float((head + tail) / 2)
