"""Figures of shapes and models, drawn with matplotlib (extra ``plot``) into axes that the caller may give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _drawing
from ._aligned import ShapeModel
from ._array import as_count, as_shapes
from ._deformation import export_modes, plot_deformation, plot_solid
from ._drawing import AFTER, BEFORE, GREY
from ._limits import Box
from ._options import check_flags, is_number
from ._scheme import SchemeLike
from ._typing import ArrayLike, ImageLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType

__all__ = [
    "export_modes", "plot_clip", "plot_coefficients", "plot_deformation", "plot_diagnostics", "plot_modes",
    "plot_shape", "plot_solid", "plot_spectrum",
]  # fmt: skip


def plot_shape(
    shape: ArrayLike,
    ax: Axes | None = None,
    *,
    scheme: SchemeLike | None = None,
    edges: Iterable[Sequence[int]] | None = None,
    image: ImageLike | None = None,
    numbers: bool = False,
    color: ColorType = AFTER,
    size: float | None = None,
    label: str | None = None,
    y_down: bool | None = None,
    plane: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw the landmarks of a shape, joined where a scheme or `edges` says so.

    Parameters
    ----------
    shape : array of shape (n_landmarks, n_dims), or (n_samples, n_landmarks, n_dims)
        Missing landmarks (NaN) are left out. Several shapes are drawn over one another.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    scheme : str or LandmarkScheme, optional
        Its edges are drawn.
    edges : iterable of (int, int), optional
        Pairs of landmarks to join, instead of the scheme's.
    image : array, PIL image or path, optional
        Drawn below, as `shape_models.images.read_values` reads it; pixel centres lie at integers.
    numbers : bool, default=False
        Write the index of each landmark beside it.
    color, size : optional
        Of lines and dots; matplotlib's meaning (size in points squared).
    label : str, optional
        For the legend.
    y_down : bool, optional
        Whether y grows downwards, as in images; by default as the frame of the shapes says, where they are a
        `LandmarkSamples`, else True.
    plane : (int, int), default=(0, 1)
        Which coordinates of solid shapes to draw: (0, 1) seen along z.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For wrong shapes, edges out of range and a scheme with another number of landmarks.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import make_faces
    >>> from shape_models.plotting import plot_shape
    >>> ax = plot_shape(make_faces(1, rng=0)[0], scheme="ibug68")
    >>> bool(ax.yaxis_inverted())
    True
    """
    y_down = _drawing.is_down(shape, y_down=y_down)
    check_flags(numbers=numbers)
    shapes = as_shapes(shape, name="shape", n_dims=(2, 3), allow_nan=True)
    if shapes.ndim > 3 or not shapes.shape[-2]:
        raise ValueError(f"shape: got shape {shapes.shape}; expected one shape or a list of shapes.")
    shapes = shapes.reshape(-1, *shapes.shape[-2:])
    if len(plane) != 2 or not all(isinstance(i, int | np.integer) and 0 <= i < shapes.shape[2] for i in plane):
        raise ValueError(f"plane: got {plane}; expected two of the {shapes.shape[2]} coordinates.")
    pairs = _drawing.edges_of(scheme, edges, shapes.shape[1])
    ax = _drawing.get_axes(ax)
    if image is not None:
        _drawing.draw_image(ax, image)
    points = shapes[..., list(plane)]
    for i, one in enumerate(points):
        _drawing.draw_shapes(ax, one, pairs, color=color, size=size, label=label if i == 0 else None, zorder=2)
    if numbers:
        for k, (x, y) in enumerate(points[0]):
            if np.isfinite(x):
                ax.annotate(str(k), (x, y), textcoords="offset points", xytext=(3, 3), fontsize=6, color=color)
    _drawing.fit_view(ax, y_down)
    return ax


def plot_modes(
    model: ShapeModel,
    ax: Axes | None = None,
    *,
    n_modes: int = 5,
    steps: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3),
    scheme: SchemeLike | None = None,
    edges: Iterable[Sequence[int]] | None = None,
    y_down: bool | None = None,
    plane: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw a strip for each mode: the mean moved along it by a number of standard deviations √λ.

    Parameters
    ----------
    model : ShapeBasis, ASM or AlignedASM
        Fitted.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    n_modes : int, default=5
        Rows, from the mode of largest variance; fewer when the model has fewer.
    steps : sequence of float
        Columns, in units of √λ. The limit of the model is not applied.
    scheme, edges, y_down, plane : optional
        As in `plot_shape`; by default the scheme of the model, and the way y points in the landmarks it was fitted to.

    Returns
    -------
    Axes
        One pair of axes holds the whole strip. The mean stands in grey behind every shape.

    Raises
    ------
    ValueError
        For a model of flat features, and as `plot_shape`.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import load_model
    >>> from shape_models.plotting import plot_modes
    >>> ax = plot_modes(load_model("face68"), n_modes=3)
    >>> [text.get_text() for text in ax.get_yticklabels()][0][:6]
    'mode 1'
    """
    basis, pairs = _drawing.parts_of(model, scheme, edges)
    n_modes = min(as_count(n_modes, "n_modes"), basis.n_components)
    if not len(steps) or not all(is_number(step) and np.isfinite(step) for step in steps):
        raise ValueError(f"steps: got {steps!r}; expected at least one number of standard deviations.")
    spread = np.sqrt(np.asarray(basis.variances, dtype=np.float64))
    mean = np.asarray(basis.mean)[..., list(plane)]
    mean = mean - mean.mean(axis=0)
    shapes = _drawing.along_modes(basis, np.arange(n_modes), np.asarray(steps))[..., list(plane)]
    shapes = shapes - np.asarray(basis.mean)[..., list(plane)].mean(axis=0)
    angle = _drawing.upright(model, scheme)
    mean, shapes = _drawing.rotated(mean, angle), _drawing.rotated(shapes, angle)
    low, high = shapes.min(axis=(0, 1, 2)), shapes.max(axis=(0, 1, 2))
    # Of a cell of the strip: some room between the shapes, and height enough for its label where they are flat.
    size = 1.12 * np.maximum(high - low, 0.25 * (high - low).max())
    y_down = _drawing.is_down(model, y_down=y_down)
    down = 1 if y_down else -1
    ax = _drawing.get_axes(ax, figsize=(1.4 * len(steps) + 1, 1.4 * n_modes * size[1] / size[0] + 0.5))
    for row in range(n_modes):
        for column, shape in enumerate(shapes[row]):
            place = np.array([column * size[0], row * size[1] * down])
            _drawing.draw_shapes(
                ax, mean + place, pairs, color=GREY, size=1.5 if len(pairs) else 6, alpha=0.6, zorder=1
            )
            _drawing.draw_shapes(ax, shape + place, pairs, color=AFTER, size=2 if len(pairs) else 8, zorder=2)
    total = _drawing.total_variance_of(model, basis)
    share = 100 * spread**2 / total if total > 0 else np.zeros_like(spread)
    ax.set_xticks(
        [column * size[0] for column in range(len(steps))], [f"{step:+g} √λ" if step else "mean" for step in steps]
    )
    ax.set_yticks(
        [row * size[1] * down for row in range(n_modes)],
        [f"mode {row + 1}\n{share[row]:.1f} %" for row in range(n_modes)],
    )
    ax.tick_params(length=0)
    ax.set_xlim(low[0] - 0.06 * size[0], (len(steps) - 1) * size[0] + high[0] + 0.06 * size[0])
    edge = sorted([low[1], (n_modes - 1) * size[1] * down + high[1], high[1], (n_modes - 1) * size[1] * down + low[1]])
    ax.set_ylim(edge[0] - 0.06 * size[1], edge[-1] + 0.06 * size[1])
    _drawing.bare(ax)
    _drawing.fit_view(ax, y_down)
    return ax


def plot_spectrum(model: ShapeModel, ax: Axes | None = None, *, n_modes: int | None = None) -> Axes:
    """Draw the fraction of variance of each mode, and the sum up to it.

    Parameters
    ----------
    model : ShapeBasis, ASM or AlignedASM
        Fractions are of the whole variance where the model knows it (an ASM, or a basis with noise variance), else of
        the variance of its modes.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    n_modes : int, optional
        All by default.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For a model without variance.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import load_model
    >>> from shape_models.plotting import plot_spectrum
    >>> ax = plot_spectrum(load_model("face68"))
    >>> ax.get_ylabel()
    'fraction of the variance, %'
    """
    basis = _drawing.basis_of(model)
    variances = np.asarray(basis.variances, dtype=np.float64)
    total = _drawing.total_variance_of(model, basis)
    if not total > 0:
        raise ValueError("got a model without variance; expected at least one mode with some.")
    share = 100 * variances[: n_modes if n_modes is None else as_count(n_modes, "n_modes")] / total
    number = np.arange(1, len(share) + 1)
    ax = _drawing.get_axes(ax, figsize=(6, 3.6))
    ax.bar(number, share, color=AFTER, label="mode")
    ax.plot(number, np.cumsum(share), color=BEFORE, marker="o", markersize=3, label="up to the mode")
    ax.set_xlabel("mode")
    ax.set_ylabel("fraction of the variance, %")
    ax.set_ylim(0, 103)
    ax.set_xlim(0.4, len(share) + 0.6)
    _drawing.as_whole_numbers(ax)
    ax.legend(frameon=False, loc="center right")
    return ax


def plot_clip(
    model: ShapeModel,
    shape: ArrayLike,
    ax: Axes | None = None,
    *,
    weights: ArrayLike | None = None,
    image: ImageLike | None = None,
    scheme: SchemeLike | None = None,
    edges: Iterable[Sequence[int]] | None = None,
    y_down: bool | None = None,
    plane: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw a shape before and after ``model.project``, with an arrow for every landmark that moved.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        An `AlignedASM` for shapes in image coordinates; the others project shapes as they stand.
    shape : array of shape (n_landmarks, n_dims)
        Missing landmarks (NaN) have no dot before and one after.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    weights : array of shape (n_landmarks,), optional
        Passed on to ``project``.
    image, scheme, edges, y_down, plane : optional
        As in `plot_shape`; by default the scheme of the model, and the way y points in the landmarks it was fitted to.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For several shapes.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import load_model
    >>> from shape_models.plotting import plot_clip
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_
    >>> face[30] += 25
    >>> ax = plot_clip(model, face)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['before', 'after']
    """
    basis, pairs = _drawing.parts_of(model, scheme, edges)
    n_landmarks, n_dims = basis.event_shape
    shape = as_shapes(shape, name="shape", n_landmarks=n_landmarks, n_dims=n_dims, allow_nan=True)
    if shape.ndim != 2:
        raise ValueError(f"shape: got shape {shape.shape}; expected one shape, {basis.event_shape}.")
    y_down = _drawing.is_down(model, y_down=y_down)
    missing = np.isnan(shape[:, 0])
    if missing.any() and weights is None:
        weights = (~missing).astype(np.float64)
    # A bare basis is given numbers also where their weight is 0.
    given = np.where(missing[:, None], np.asarray(basis.mean), shape) if _drawing.is_plain(model) else shape
    after = np.asarray(model.project(given, confidence=weights))[:, list(plane)]
    before = shape[:, list(plane)]
    ax = _drawing.get_axes(ax)
    if image is not None:
        _drawing.draw_image(ax, image)
    _drawing.draw_shapes(ax, before, pairs, color=BEFORE, label="before", zorder=2, alpha=0.8)
    _drawing.draw_shapes(ax, after, pairs, color=AFTER, label="after", zorder=3)
    moved = after - before
    # An arrow shorter than a hundredth of the shape would be hidden by its dot.
    far = np.linalg.norm(np.nan_to_num(moved), axis=1) > 0.01 * np.ptp(after, axis=0).max()
    if far.any():
        units: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.004}
        ax.quiver(*before[far].T, *moved[far].T, color=BEFORE, alpha=0.7, zorder=2.5, **units)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)  # beside: a title may stand above
    _drawing.fit_view(ax, y_down)
    return ax


def plot_coefficients(
    model: ShapeModel, shape: ArrayLike, ax: Axes | None = None, *, n_modes: int | None = None
) -> Axes:
    """Draw the coefficients of a shape in units of √λ, and the limit that clips them.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Whose modes are drawn.
    shape : array of shape (n_landmarks, n_dims)
        Complete.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    n_modes : int, optional
        All by default.

    Returns
    -------
    Axes
        Bars of modes that the limit moves stand out.

    Raises
    ------
    ValueError
        For several shapes.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import load_model
    >>> from shape_models.plotting import plot_coefficients
    >>> model = load_model("face68")
    >>> ax = plot_coefficients(model, model.asm_.mean_)
    >>> ax.get_ylabel()
    'coefficient, √λ'
    """
    basis = _drawing.basis_of(model)
    report = model.report(shape)
    spread = np.sqrt(np.asarray(basis.variances, dtype=np.float64))
    b = np.asarray(report.coefficients)
    if b.ndim != 1:
        raise ValueError(f"shape: got shape {np.shape(shape)}; expected one shape, {basis.event_shape}.")
    units = np.divide(b, spread, out=np.zeros_like(b), where=spread > 0)[:n_modes]
    clipped = np.asarray(report.clipped)[:n_modes]
    number = np.arange(1, len(units) + 1)
    ax = _drawing.get_axes(ax, figsize=(6, 3))
    ax.bar(number, units, color=np.where(clipped, BEFORE, AFTER))
    if isinstance(basis.limit, Box):
        for sign in (-1, 1):
            ax.axhline(sign * basis.limit.k, color=GREY, linestyle="--", linewidth=1)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xlabel("mode")
    ax.set_ylabel("coefficient, √λ")
    _drawing.as_whole_numbers(ax)
    ax.set_title(f"{int(np.asarray(report.clipped).sum())} of {basis.n_components} modes clipped", fontsize=9)
    return ax


def plot_diagnostics(curves: Mapping[str, Any], ax: Axes | None = None, *, n_components: int | None = None) -> Axes:
    """Draw the qualities of a model against its number of modes, with bands of one standard error to either side.

    Parameters
    ----------
    curves : mapping of str to ModeCurve
        What to call each curve. One called "compactness" is a fraction of the variance and gets an axis of its own on
        the right; the others are distances.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    n_components : int, optional
        Where to end; all modes by default.

    Returns
    -------
    Axes
        That of the distances.

    Raises
    ------
    TypeError
        If `curves` is not a mapping.
    ValueError
        If it is empty.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import generalization, generalized_procrustes, make_faces, specificity
    >>> from shape_models.plotting import plot_diagnostics
    >>> shapes = generalized_procrustes(make_faces(40, rng=0)).aligned
    >>> ax = plot_diagnostics({
    ...     "generalization": generalization(shapes, max_components=6),
    ...     "specificity": specificity(shapes, max_components=6, n_samples=100, rng=0),
    ... })
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['generalization', 'specificity']
    """
    if not isinstance(curves, Mapping):
        raise TypeError(
            f"curves: got {type(curves).__name__}; expected a mapping of names to curves. Try {{name: curve}}."
        )
    if not curves:
        raise ValueError("curves: got none; expected at least one, such as {'generalization': generalization(shapes)}.")
    ax = _drawing.get_axes(ax, figsize=(6, 3.6))
    colors = iter([AFTER, BEFORE, "#edae49", "#30638e", "#6a4c93"])
    right = None
    for name, curve in curves.items():
        number, value, error = (
            np.asarray(a)[:n_components] for a in (curve.n_components, curve.value, curve.standard_error)
        )
        own, color = ax, next(colors, GREY)
        if name == "compactness":  # a fraction, where the others are distances
            right = own = ax.twinx()
            own.set_ylabel("fraction of the variance, %")
            own.set_ylim(0, 103)
            value, error, color = 100 * value, 100 * error, GREY
        own.plot(number, value, color=color, marker="o", markersize=3, label=name)
        own.fill_between(number, value - error, value + error, color=color, alpha=0.25, linewidth=0)
    ax.set_xlabel("modes")
    ax.set_ylabel("mean distance of landmarks")
    ax.set_ylim(bottom=0)
    _drawing.as_whole_numbers(ax)
    handles = [line for one in (ax, right) if one is not None for line in one.get_lines()]
    ax.legend(handles=handles, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8)
    return ax
