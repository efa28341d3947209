"""Figures of errors: cumulative distributions, errors on the mean shape, the worst faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models import generalized_procrustes
from shape_models._array import as_numpy
from shape_models._drawing import draw_image, get_axes
from shape_models._options import check_flags, check_numbers
from shape_models.landmarks import get_scheme

from ._breakdown import mean_of_known
from ._curves import auc, cumulative_error, failure_rate
from ._errors import ErrorArray
from ._intervals import error_values, rate_interval
from ._reports import Report

__all__ = ["plot_ced", "plot_landmark_errors", "plot_worst"]


def plot_ced(
    models: Report | ArrayLike | Sequence[Report] | dict[str, ArrayLike],
    *,
    threshold: float = 0.1,
    intervals: bool = True,
    confidence: float = 0.95,
    ax: Any = None,
) -> Any:
    """Plot the cumulative error distribution of one or several models.

    Parameters
    ----------
    models : Report, sequence of Report, errors, or dict of str to errors
        What to plot; reports bring their names and groups.
    threshold : float
        Right end of the plot, and the t of the AUC and the failure rate in the legend.
    intervals : bool
        Whether to shade the Wilson interval at each error (pointwise), of groups where the report has them.
    confidence : float
        Nominal coverage of the shaded intervals.
    ax : matplotlib Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        When models were measured by different definitions, and as in `cumulative_error`.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from evaluation.plotting import plot_ced
    >>> rng = np.random.default_rng(0)
    >>> ax = plot_ced({"A": rng.lognormal(-3.2, 0.4, 300), "B": rng.lognormal(-3.0, 0.4, 300)})
    >>> len(ax.get_lines())
    2
    """
    from matplotlib.ticker import PercentFormatter

    check_flags(intervals=intervals)
    curves = _named_errors(models)
    if not curves:
        raise ValueError("models: got none; expected at least one.")
    check_numbers(threshold=threshold, above=True)
    definitions = {errors.definition for _, errors, _ in curves if isinstance(errors, ErrorArray)}
    if len(definitions) > 1:
        raise ValueError(f"models: got errors by {len(definitions)} definitions: {'; '.join(sorted(definitions))}.")
    ax = get_axes(ax, (6.4, 4.4))
    grid = np.linspace(0.0, threshold, 201)  # half a percent of the width: finer than the line
    for name, errors, groups in curves:
        height = cumulative_error(errors, grid).fractions
        label = (
            f"{name}: AUC {auc(errors, threshold=threshold):.3f}, "
            f"FR {100 * failure_rate(errors, threshold=threshold):.1f} %"
        )
        (line,) = ax.plot(grid, height, label=label, linewidth=1.8)
        if intervals:
            # At every other point: an interval takes longer than a height, and the band is no finer than its line.
            ends = np.array([_band(errors, t, groups, confidence) for t in grid[::2]])
            ax.fill_between(grid[::2], ends[:, 0], ends[:, 1], color=line.get_color(), alpha=0.18, linewidth=0)
    unit = next((e.unit for _, e, _ in curves if isinstance(e, ErrorArray)), "fraction")
    normalizer = next((e.sources.get("normalizer", "") for _, e, _ in curves if isinstance(e, ErrorArray)), "")
    if unit == "fraction":
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
        ax.set_xlabel("normalised mean error" + (f" ({normalizer.split(' (')[0]})" if normalizer else ""))
    else:
        ax.set_xlabel(f"mean error ({unit})")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_ylabel("fraction of faces")
    ax.set_xlim(0, threshold)
    ax.set_ylim(0, 1)
    ax.grid(alpha=0.25)
    title = f"AUC and FR at {threshold:g}"
    if intervals:
        title += f"; shaded: {100 * confidence:g} % intervals"
    ax.legend(loc="lower right", title=title, frameon=False, fontsize=9, title_fontsize=8)
    return ax


def plot_landmark_errors(
    report: Report | ArrayLike, *, shape: ArrayLike | None = None, scheme: Any = None, ax: Any = None
) -> Any:
    """Plot the mean error of each landmark on the mean shape, by colour and by area.

    Parameters
    ----------
    report : Report or array_like of shape (n_faces, n_landmarks)
        A report, or errors from `landmark_errors`.
    shape : array_like of shape (n_landmarks, 2), optional
        Where to draw the landmarks, y downwards; the Procrustes mean of the true faces of the report when not given.
    scheme : LandmarkScheme or str, optional
        Its edges are drawn; that of the protocol when a report is given.
    ax : matplotlib Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        When errors come without a shape, or the numbers of landmarks differ.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from evaluation import evaluate
    >>> from evaluation.plotting import plot_landmark_errors
    >>> from shape_models import make_faces
    >>> faces = make_faces(50, rng=0)
    >>> noise = np.random.default_rng(0).normal(size=faces.shape) * 0.01 * np.ptp(faces)
    >>> ax = plot_landmark_errors(evaluate(faces, faces + noise, "300w", n_resamples=50))
    >>> len(ax.collections[-1].get_offsets())
    68
    """
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import PercentFormatter

    if isinstance(report, Report):
        each = report.landmark_errors()
        scheme = report.protocol.scheme if scheme is None else scheme
        if shape is None:
            upright = generalized_procrustes(report.targets[..., :2]).mean
            shape = _turned(upright, report.targets[..., :2])
        title = f"{report.name}, protocol {report.protocol.name}"
        fraction, words = report.errors.unit == "fraction", report.errors.sources["normalizer"].split(" (")[0]
    else:
        each, title, fraction, words = as_numpy(report, "report").astype(float), "", True, ""
        if shape is None:
            raise ValueError("shape: errors alone have no places; give the landmarks of a mean shape, or a Report.")
    points = as_numpy(shape, "shape").astype(float)
    if each.ndim != 2 or points.shape != (each.shape[1], 2):
        raise ValueError(f"shape: got {points.shape}; expected ({each.shape[-1]}, 2), one point for each landmark.")
    means = mean_of_known(each, axis=0)
    ax = get_axes(ax, (5.6, 5.4))
    if scheme is not None:
        edges = get_scheme(scheme).edges
        ax.add_collection(LineCollection(list(points[edges]), colors="0.75", linewidths=1, zorder=1))
    # The largest error is drawn as 150 points squared, no error as 20; where all are 0 nothing divides by zero.
    size = 20 + 130 * np.nan_to_num(means) / max(np.nanmax(means), 1e-12) if np.isfinite(means).any() else 20
    dots = ax.scatter(*points.T, c=means, s=size, cmap="viridis", edgecolors="0.2", linewidths=0.5, zorder=2, vmin=0)
    bar = ax.figure.colorbar(dots, ax=ax, shrink=0.8)
    bar.set_label("mean error" + (f" / {words}" if words else ""))
    if fraction:
        bar.formatter = PercentFormatter(1.0, decimals=1, symbol=" %")
        bar.update_ticks()
    ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.margins(0.08)
    ax.set_axis_off()
    ax.set_title(title)
    return ax


def plot_worst(
    report: Report, images: Sequence[Any] | None = None, *, k: int = 12, columns: int = 4, size: float = 2.6
) -> Any:
    """Draw a sheet of the faces with the largest errors: truth in green, prediction in magenta.

    Parameters
    ----------
    report : Report
        From `evaluate`.
    images : sequence of path, array or None, optional
        The images in the order of the report (`LandmarkSamples.images` is one). Landmarks are drawn on white
        without them.
    k : int
        How many faces.
    columns : int
        Faces beside each other.
    size : float
        Inches of one face.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        When there is not one image for each face.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from evaluation import evaluate
    >>> from evaluation.plotting import plot_worst
    >>> from shape_models import make_faces
    >>> faces = make_faces(20, rng=0)
    >>> noise = np.random.default_rng(0).normal(size=faces.shape) * 0.02 * np.ptp(faces)
    >>> figure = plot_worst(evaluate(faces, faces + noise, "300w", n_resamples=50), k=6, columns=3)
    >>> len(figure.axes)
    6
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    if images is not None and len(images) != len(report.errors):
        raise ValueError(f"images: got {len(images)}; expected {len(report.errors)}, one for each face.")
    if k < 1 or columns < 1:
        raise ValueError(f"k, columns: got {k} and {columns}; expected positive numbers.")
    chosen = report.worst(k)
    columns = min(columns, max(1, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    figure = plt.figure(figsize=(size * columns, (size + 0.25) * rows + 0.4), layout="constrained")
    scale, sign = (100.0, " %") if report.errors.unit == "fraction" else (1.0, f" {report.errors.unit}")
    for place, face in enumerate(chosen):
        ax = figure.add_subplot(rows, columns, place + 1)
        truth, guess = report.targets[face, :, :2], report.predictions[face, :, :2]
        low, high = _window(truth, guess)
        picture = None if images is None else images[face]
        if picture is not None:
            draw_image(ax, picture)
        for a, b in zip(truth, guess, strict=True):
            ax.plot([a[0], b[0]], [a[1], b[1]], color="white" if picture is not None else "0.7", linewidth=0.5)
        ax.plot(*truth.T, ".", color="limegreen", markersize=3)
        ax.plot(*guess.T, ".", color="magenta", markersize=3)
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(high[1], low[1])
        ax.set_aspect("equal")
        ax.set_xticks([])
        ax.set_yticks([])
        value = "no prediction" if report.errors.failed[face] else f"{scale * report.errors.values[face]:.1f}{sign}"
        ax.set_title(f"face {face}: {value}", fontsize=8)
    marks = [
        Line2D([], [], color=c, marker=".", linestyle="", label=t)
        for c, t in (("limegreen", "truth"), ("magenta", "prediction"))
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(f"{report.name}, protocol {report.protocol.name}: the {len(chosen)} largest errors", fontsize=10)
    return figure


# --- inside ----------------------------------------------------------------------------------------------


def _named_errors(models: Any) -> list[tuple[str, Any, Any]]:
    """Return name, errors and groups of each model."""
    if isinstance(models, Report):
        models = [models]
    if isinstance(models, dict):
        return [(str(name), errors, None) for name, errors in models.items()]
    if isinstance(models, Sequence) and models and all(isinstance(model, Report) for model in models):
        return [(model.name, model.errors, model.groups) for model in models]
    return [("model", models, None)]


def _band(errors: Any, threshold: float, groups: Any, confidence: float) -> tuple[float, float]:
    values, use = error_values(errors), np.ones(np.shape(errors), bool)
    if isinstance(errors, ErrorArray):
        values, use = np.where(errors.failed, np.inf, errors.values), ~errors.undefined
    people = None if groups is None else np.asarray(groups)[use]
    if people is not None and len(np.unique(people)) < 2:  # one person does not tell how persons differ
        people = None
    found = rate_interval(values[use] <= threshold, groups=people, confidence=confidence)
    return found.low, found.high


def _turned(mean: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the mean shape turned as the faces stand on average."""
    from shape_models import estimate_similarity

    whole = faces[np.isfinite(faces).all(axis=(1, 2))]
    middle = (whole - whole.mean(axis=1, keepdims=True)).mean(axis=0) if len(whole) else mean
    return np.asarray(estimate_similarity(mean, middle, scaling=False)(mean))


def _window(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a square about the truth that shows near predictions too, at most three times as wide as the face."""
    low, high = np.fmin.reduce(truth, axis=0), np.fmax.reduce(truth, axis=0)
    # A face whose landmarks coincide still gets a window.
    side = max(float((high - low).max()), 1e-9)
    points = np.concatenate([truth, guess])
    points = points[np.isfinite(points).all(axis=1)]
    reach = max(float(np.abs(points - (low + high) / 2).max()), side / 2)
    half = min(1.15 * reach, 1.5 * side)  # a prediction that is far off must not make the face a dot
    return (low + high) / 2 - half, (low + high) / 2 + half
