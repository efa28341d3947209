"""Errors of parts: of landmarks, of labelled faces, of bins of a value."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_numpy
from shape_models._options import check_choice
from shape_models._typing import Seed
from shape_models.landmarks import get_scheme

from ._errors import ErrorArray
from ._intervals import as_labels, error_values, group_codes, mean_intervals
from ._tables import Table


def landmark_table(
    errors: ArrayLike,
    *,
    scheme: Any = None,
    by: Literal["landmark", "group"] = "landmark",
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    rng: Seed | None = 0,
) -> Table:
    """Errors of each landmark, or of each group of landmarks of a scheme.

    Parameters
    ----------
    errors : array_like of shape (n_faces, n_landmarks)
        From `landmark_errors`; NaN is left out.
    scheme : LandmarkScheme or str, optional
        Names of the landmarks, and the groups; needed for ``by="group"``.
    by : {"landmark", "group"}
        Rows of the table.
    groups : array_like of shape (n_faces,), optional
        Person or image of each face.
    confidence, n_resamples, rng : optional
        As in `bootstrap_interval`.

    Returns
    -------
    Table
        Mean with its interval, median, 90th percentile, number of faces.

    Raises
    ------
    ValueError
        When the scheme has another number of landmarks or no groups.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import landmark_table
    >>> errors = np.random.default_rng(0).exponential([0.02, 0.05], size=(200, 2))
    >>> print(landmark_table(errors))
    landmark                  mean %  median %  90th %  faces
    ----------  --------------------  --------  ------  -----
    landmark_0  2.206 [1.943, 2.501]     1.579   5.116    200
    landmark_1  5.751 [5.074, 6.699]     4.021  12.646    200
    """
    each = error_values(errors)
    if each.ndim != 2 or not each.size:
        raise ValueError(f"errors: got shape {each.shape}; expected (n_faces, n_landmarks).")
    definition = None if scheme is None else get_scheme(scheme)
    if np.isinf(each).any():
        raise ValueError("errors: got infinity; expected finite numbers, or NaN for landmarks that are missing.")
    if definition is not None and definition.n_landmarks != each.shape[1]:
        raise ValueError(f"scheme: {definition.name} has {definition.n_landmarks} landmarks; got {each.shape[1]}.")
    check_choice(("landmark", "group"), by=by)
    if by == "group":
        if definition is None or not definition.groups:
            raise ValueError("scheme: by='group' needs a scheme with groups, such as 'ibug68'.")
        names = list(definition.groups)
        each = np.stack([mean_of_known(each[:, definition.groups[name]], axis=1) for name in names], axis=1)
    else:
        names = [f"landmark_{i}" for i in range(each.shape[1])] if definition is None else list(definition.names)
    seen = np.isfinite(each)
    codes = group_codes(groups, np.ones(len(each), bool))
    means = mean_intervals(each, codes, confidence, n_resamples, rng)
    rows = []
    for i, name in enumerate(names):
        values = each[seen[:, i], i]
        spread = (float(np.median(values)), float(np.quantile(values, 0.9))) if values.size else (None, None)
        rows.append([name, means[i], *spread, int(values.size)])
    return Table([by, "mean", "median", "90th", "faces"], rows, percent=["mean", "median", "90th"])


def group_table(
    errors: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    name: str = "group",
    unit: str = "fraction",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    rng: Seed | None = 0,
) -> Table:
    """Errors of the faces of each label: persons, subsets, expressions.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors; undefined and failed faces of an `ErrorArray` are counted in columns of their own.
    labels : array_like of shape (n_faces,)
        Label of each face; one row each, sorted.
    groups : array_like of shape (n_faces,), optional
        Person or image of each face, for the intervals.
    name : str
        Heading of the first column.
    unit : {"fraction", "degrees", "pixels"}
        Unit of plain arrays; an `ErrorArray` knows its own. Fractions are printed in percent.
    confidence, n_resamples, rng : optional
        As in `bootstrap_interval`.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        When errors and labels differ in number.

    Examples
    --------
    >>> from evaluation import group_table
    >>> print(group_table([0.02, 0.03, 0.04, 0.08], ["smile", "smile", "neutral", "neutral"], name="expression"))
    expression                mean %  median %  faces
    ----------  --------------------  --------  -----
    neutral     6.000 [4.000, 8.000]     6.000      2
    smile       2.500 [2.000, 3.000]     2.500      2
    """
    marks = as_labels(labels, "labels", error_values(errors).shape)
    parts = [(str(label), marks == label) for label in np.unique(marks)]
    return _parts_table(errors, parts, name, groups, (confidence, n_resamples, rng), unit=unit)


def bin_table(
    errors: ArrayLike,
    values: ArrayLike,
    edges: Sequence[float],
    *,
    groups: ArrayLike | None = None,
    name: str = "bin",
    unit: str = "fraction",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    rng: Seed | None = 0,
) -> Table:
    """Errors of the faces whose value lies in each bin, such as the absolute yaw in 0-30, 30-60, 60-90 degrees.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors of landmarks or of poses.
    values : array_like of shape (n_faces,)
        What the bins are of.
    edges : sequence of float
        Increasing. A bin holds its lower edge; the last one also its upper edge. Faces outside all bins are counted
        in a note.
    groups, name, unit, confidence, n_resamples, rng : optional
        As in `group_table`.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        When errors and values differ in number or the edges do not increase.

    Examples
    --------
    >>> from evaluation import bin_table
    >>> print(bin_table([0.02, 0.03, 0.06, 0.08, 0.2], [5, 20, 40, 90, 120], [0, 30, 90], name="|yaw|"))
    |yaw|                   mean %  median %  faces
    --------  --------------------  --------  -----
    [0, 30)   2.500 [2.000, 3.000]     2.500      2
    [30, 90]  7.000 [6.000, 8.000]     7.000      2
    1 of 5 faces lie outside the bins.
    """
    at, numbers = as_numpy(values, "values").astype(np.float64), error_values(errors)
    if at.shape != numbers.shape or at.ndim != 1:
        raise ValueError(f"values: got shape {at.shape}; expected {numbers.shape}, one value for each face.")
    parts, notes = bins_of(at, edges)
    return _parts_table(errors, parts, name, groups, (confidence, n_resamples, rng), unit=unit, notes=notes)


# --- inside ----------------------------------------------------------------------------------------------


def bins_of(values: np.ndarray, edges: Sequence[float]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Return the label and the faces of each bin, and a note on the faces outside."""
    steps = as_numpy(edges, "edges").astype(np.float64)
    if steps.ndim != 1 or len(steps) < 2 or not (steps[1:] > steps[:-1]).all():
        raise ValueError(f"edges: got {edges}; expected at least two numbers that increase.")
    parts = []
    for i, (low, high) in enumerate(itertools.pairwise(steps)):
        last = i == len(steps) - 2  # holds its upper edge too, so that a whole range can be covered
        inside = (values >= low) & ((values <= high) if last else (values < high))
        parts.append((f"[{low:g}, {high:g}{']' if last else ')'}", inside))
    outside = int((~np.any([mask for _, mask in parts], axis=0)).sum())
    return parts, [f"{outside} of {len(values)} faces lie outside the bins."] if outside else []


def mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over an axis without NaN; NaN where nothing is left."""
    seen = np.isfinite(values)
    count = seen.sum(axis=axis)
    mean = np.where(seen, values, 0.0).sum(axis=axis) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _parts_table(
    errors: ArrayLike,
    parts: list[tuple[str, np.ndarray]],
    name: str,
    groups: ArrayLike | None,
    options: tuple[float, int, Seed | None],
    *,
    unit: str,
    notes: Sequence[str] = (),
) -> Table:
    values = error_values(errors)
    unit = errors.unit if isinstance(errors, ErrorArray) else unit
    gone = errors.undefined | errors.failed if isinstance(errors, ErrorArray) else np.zeros(values.shape, bool)
    if not np.isfinite(values[~gone]).all():
        raise ValueError("errors: got NaN or infinity; expected finite numbers, or the result of nme.")
    codes = group_codes(groups, np.ones(values.shape, bool))
    # One column a part: the same draws of faces serve all of them.
    columns = np.stack([np.where(mask & ~gone, values, np.nan) for _, mask in parts], axis=1)
    means = mean_intervals(columns, codes, *options)
    extra = [key for key in ("undefined", "failed") if isinstance(errors, ErrorArray) and getattr(errors, key).any()]
    rows = []
    for (label, mask), mean in zip(parts, means, strict=True):
        inside = values[mask & ~gone]
        median = float(np.median(inside)) if inside.size else None
        rows.append([label, mean, median, int(mask.sum()), *(int((getattr(errors, k) & mask).sum()) for k in extra)])
    percent = ["mean", "median"] if unit == "fraction" else []
    notes = [*notes, *([] if percent else [f"Errors in {unit}."])]
    return Table([name, "mean", "median", "faces", *extra], rows, percent=percent, notes=notes)
