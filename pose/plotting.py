"""Figures of poses: axes on a face, points beside their projections. matplotlib is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shape_models._drawing import draw_image, fit_view, get_axes
from shape_models._options import check_numbers
from shape_models._typing import ArrayLike, ImageLike

from ._camera import Camera, project_points
from ._inputs import as_reals
from ._pnp import PnPResult
from ._pose import Pose

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_axes", "plot_reprojection"]

COLOURS = ("tab:red", "tab:green", "tab:blue")
LABELS = ("x: subject's left", "y: down", "towards the viewer (-z)")


def _canvas(ax: Axes | None, image: ImageLike | None) -> Axes:
    ax = get_axes(ax)
    if image is not None:
        draw_image(ax, image)
    fit_view(ax, y_down=True)
    return ax


def plot_axes(
    pose: Pose,
    camera: Camera,
    *,
    image: ImageLike | None = None,
    length: float = 60.0,
    origin: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the axes of an object where they are seen: red x, green y, and in blue -z, where a face looks.

    The axes are projected points, so that no convention of angles can come between pose and image.

    Parameters
    ----------
    pose : Pose
        One, or a batch.
    camera : Camera
        What the image was taken with.
    image : array, PIL image or path, optional
        Drawn beneath, upright.
    length : float
        Of an axis, in object units.
    origin : array_like of shape (3,), optional
        Where the axes start, in the frame of the object; its origin by default.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        For a length that is not positive, or an origin that is not (3,).

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from pose import Camera, Pose
    >>> ax = plot_axes(Pose.identity([0, 0, 600]), Camera.from_image_size(256))
    >>> len(ax.lines)
    3
    """
    from matplotlib.patheffects import Normal, Stroke

    ax = _canvas(ax, image)
    edge = [Stroke(linewidth=4.0, foreground="white"), Normal()]
    check_numbers(length=length, above=True)
    start = np.zeros(3) if origin is None else as_reals(origin, "origin")
    if start.shape != (3,):
        raise ValueError(f"origin: got shape {start.shape}; expected (3,).")
    tips = start + length * np.diag([1.0, 1.0, -1.0])
    pixels = project_points(np.vstack([start, tips]), pose, camera).reshape(-1, 4, 2)
    for number, (root, *ends) in enumerate(pixels):
        for end, colour, label in zip(ends, COLOURS, LABELS, strict=True):
            (line,) = ax.plot(*zip(root, end, strict=True), color=colour, label=label if number == 0 else None)
            line.set(linewidth=2.5, solid_capstyle="round", path_effects=edge)
    ax.legend(loc="best", fontsize="small")
    return ax


def plot_reprojection(
    result: PnPResult, image_points: ArrayLike, *, image: ImageLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw image points, their projections, and the residuals between them.

    Parameters
    ----------
    result : PnPResult
        Of one problem, or of a batch: all rows are drawn.
    image_points : array_like of shape (n, 2) or (b, n, 2)
        What the pose was solved from.
    image : array, PIL image or path, optional
        Drawn beneath, upright.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        For other points than those of the result.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from pose import Camera, Pose, estimate_head_pose, project_points
    >>> from pose.reference import HEAD_IBUG68
    >>> camera = Camera.from_image_size(256)
    >>> pixels = project_points(HEAD_IBUG68, Pose.identity([0, 0, 600]), camera)
    >>> ax = plot_reprojection(estimate_head_pose(pixels, camera), pixels)
    >>> ax.get_title()
    'reprojection error 0.00 px'
    """
    ax = _canvas(ax, image)
    points = np.asarray(image_points, dtype=float).reshape(-1, 2)
    residuals = np.asarray(result.residuals).reshape(-1, 2)
    if points.shape != residuals.shape:
        raise ValueError(f"image_points: got {len(points)}; expected the {len(residuals)} points of the result.")
    projected = points + residuals
    lines = np.stack([points, projected, np.full_like(points, np.nan)], axis=1).reshape(-1, 2)
    ax.plot(*lines.T, color="0.6" if image is None else "white", linewidth=1)
    ax.plot(*points.T, ".", color="limegreen", markeredgecolor="black", markeredgewidth=0.3, label="image points")
    ax.plot(*projected.T, "+", color="magenta", markersize=6, label="projections")
    errors = np.atleast_1d(result.reprojection_error)
    solved = np.isfinite(errors)
    title = f"reprojection error {errors[solved].mean():.2f} px" if solved.any() else "no pose"
    if len(errors) > 1:
        title += f", mean of {solved.sum()} views" + (f"; {(~solved).sum()} without a pose" if not solved.all() else "")
    ax.set_title(title)
    ax.legend(loc="best", fontsize="small")
    return ax
