"""Deformations: as grids, in three dimensions, and as files of points, lines and meshes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _drawing
from ._aligned import ShapeModel
from ._array import as_count, as_shapes, refuse_extremes_of
from ._files import write_text
from ._options import check_choice, check_flags, check_numbers
from ._scheme import SchemeLike
from ._similarity import estimate_similarity
from ._thin_plate import ThinPlateSpline
from ._typing import ArrayLike, PathLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType
    from mpl_toolkits.mplot3d import Axes3D

_MARGIN = 0.15  # of the larger side, about the landmarks
_FINE = 4  # points of a line between two crossings


def grid_lines(reference: np.ndarray, n_lines: int, fine: int = _FINE) -> list[np.ndarray]:
    """Return the lines of a square grid about a planar shape, each an array of shape (n_points, 2)."""
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = _MARGIN * float((high - low).max())
    low, high = low - margin, high + margin
    step = float((high - low).max()) / (n_lines - 1)
    counts = np.maximum(np.rint((high - low) / step).astype(int), 1)
    low = 0.5 * (low + high) - 0.5 * counts * step
    x, y = (low[d] + step * np.arange(fine * counts[d] + 1) / fine for d in (0, 1))
    across = [np.stack([x, np.full_like(x, at)], axis=-1) for at in y[::fine]]
    return across + [np.stack([np.full_like(y, at), y], axis=-1) for at in x[::fine]]


def plot_deformation(
    reference: ArrayLike,
    target: ArrayLike,
    ax: Axes | None = None,
    *,
    exaggeration: float = 1.0,
    n_lines: int = 20,
    align: bool = True,
    scheme: SchemeLike | None = None,
    edges: Iterable[Sequence[int]] | None = None,
    y_down: bool | None = None,
    plane: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw the thin-plate spline from one shape to another as a bent grid.

    Parameters
    ----------
    reference : array of shape (n_landmarks, n_dims), or a fitted model
        The shape on which the grid is square; of a model its mean.
    target : array of shape (n_landmarks, n_dims), or pair (mode, amount)
        The shape that it is bent to; or, with a model, the mean moved along a mode, numbered from 1, by an amount in
        units of √λ.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    exaggeration : float, default=1.0
        Factor on the differences between the two; negative for the opposite.
    n_lines : int, default=20
        Lines along the larger side.
    align : bool, default=True
        Whether a target given as an array is superimposed on the reference first.
    scheme, edges, y_down, plane : optional
        As in `plot_shape`; the scheme and the frame of a model by default. Of solid shapes the plane is drawn.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        For shapes that do not match, missing landmarks, a mode that the model does not have, and fewer than 3 lines.

    References
    ----------
    F. L. Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", IEEE TPAMI 11(6),
    1989.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from shape_models import load_model
    >>> from shape_models.plotting import plot_deformation
    >>> ax = plot_deformation(load_model("face68"), (1, 3), exaggeration=1.5)
    >>> ax.get_title()
    'mode 1, +3 √λ, 1.5 times'
    """
    if n_lines < 3:
        raise ValueError(f"n_lines: got {n_lines}; expected at least 3.")
    is_model = _drawing.is_model(reference)
    if is_model:
        basis, pairs = _drawing.parts_of(reference, scheme, edges)
        first = np.asarray(basis.mean, dtype=np.float64)
    else:
        first = as_shapes(reference, name="reference", n_dims=(2, 3)).astype(np.float64)
        pairs = _drawing.edges_of(scheme, edges, first.shape[-2])
    check_flags(align=align)
    y_down = _drawing.is_down(reference if is_model else None, y_down=y_down)
    if is_model and np.shape(target) == (2,):
        first_mode, amount = np.asarray(target, dtype=float).tolist()
        mode = int(first_mode)
        if not 1 <= mode <= basis.n_components:
            raise ValueError(f"target: got mode {mode}; expected 1 to {basis.n_components}.")
        second = _drawing.along_modes(basis, np.array([mode - 1]), np.array([amount]))[0, 0]
        title = f"mode {mode}, {amount:+g} √λ"
    else:
        second = as_shapes(target, name="target", n_landmarks=first.shape[-2], n_dims=first.shape[-1]).astype(float)
        for name, one in (("reference", first), ("target", second)):
            if one.ndim != 2:
                raise ValueError(f"{name}: got shape {one.shape}; expected one shape.")
        if align:
            second = np.asarray(estimate_similarity(second, first)(second))
        title = "reference to target"
    if exaggeration != 1:
        title += f", {exaggeration:g} times"
    second = first + exaggeration * (second - first)
    first, second = first[:, list(plane)], second[:, list(plane)]
    spline = ThinPlateSpline.fit(first, second)
    ax = _drawing.get_axes(ax, figsize=(5, 5))
    from matplotlib.collections import LineCollection

    lines = [spline(line) for line in grid_lines(first, n_lines)]
    ax.add_collection(LineCollection(lines, colors=[_drawing.GREY], linewidths=0.6, zorder=1))
    _drawing.draw_shapes(ax, second, pairs, color=_drawing.AFTER, zorder=3)
    ax.set_title(title, fontsize=9)
    ax.autoscale_view()
    ax.set_xticks([])
    ax.set_yticks([])
    _drawing.bare(ax)
    _drawing.fit_view(ax, y_down)
    return ax


def plot_solid(
    shape: ArrayLike,
    ax: Axes3D | None = None,
    *,
    scheme: SchemeLike | None = None,
    edges: Iterable[Sequence[int]] | None = None,
    numbers: bool = False,
    color: ColorType | None = None,
    label: str | None = None,
    y_down: bool | None = None,
    view: tuple[float, float] = (15.0, -60.0),
) -> Axes3D:
    """Draw solid shapes in three dimensions, joined where a scheme or `edges` says so, with equal units on all axes.

    Parameters
    ----------
    shape : array of shape (n_landmarks, 3) or (n_samples, n_landmarks, 3), or a fitted model
        Of a model the mean is drawn. Missing landmarks are left out.
    ax : matplotlib Axes3D, optional
        Where to draw; a new figure by default.
    scheme, edges, numbers : optional
        As in `plot_shape`.
    color : optional
        Of lines and dots; matplotlib's meaning.
    label : str, optional
        For the legend.
    y_down : bool, optional
        Whether y grows downwards, as it does in landmarks taken from images, or upwards; the vertical axis of the
        image is y. By default as the frame of a model says, else down.
    view : (float, float)
        Elevation and azimuth of the eye in degrees.

    Returns
    -------
    Axes3D

    Raises
    ------
    ValueError
        For planar shapes, and as `plot_shape`.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from shape_models.plotting import plot_solid
    >>> ax = plot_solid(np.random.default_rng(0).normal(size=(6, 3)), edges=[(0, 1), (1, 2)], y_down=False)
    >>> ax.get_zlabel()
    'y'
    """
    if _drawing.is_model(shape):
        basis, pairs = _drawing.parts_of(shape, scheme, edges)
        array = as_shapes(basis.mean, name="shape", n_dims=3)
    else:
        array = as_shapes(shape, name="shape", n_dims=3, allow_nan=True)
        if np.isnan(array).all():
            raise ValueError("shape: got no landmark; expected at least one that is not NaN.")
        refuse_extremes_of(array, "shape")
        pairs = _drawing.edges_of(scheme, edges, array.shape[-2])
    check_flags(numbers=numbers)
    y_down = _drawing.is_down(shape if _drawing.is_model(shape) else None, y_down=y_down)
    color = _drawing.AFTER if color is None else color
    ax = _axes_3d(ax)
    points = array.reshape(-1, *array.shape[-2:]).astype(np.float64)[..., [0, 2, 1]]  # y is the vertical of the image
    for i, one in enumerate(points):
        seen = np.isfinite(one).all(axis=1)
        if len(pairs):
            ends = one[pairs[seen[pairs].all(axis=1)]]
            chain = np.concatenate([ends, np.full_like(ends[:, :1], np.nan)], axis=1).reshape(-1, 3)
            ax.plot(*chain.T, color=color, linewidth=1.2)  # NaN lifts the pen
        ax.scatter(
            *one[seen].T, color=color, s=8 if len(pairs) else 18, label=label if i == 0 else None, depthshade=True
        )
    if numbers:
        for k, (x, z, y) in enumerate(points[0]):
            if np.isfinite(x):
                ax.text(x, z, y, f" {k}", fontsize=7, color=color)
    low, high = np.nanmin(points, axis=(0, 1)), np.nanmax(points, axis=(0, 1))
    # a flat shape has a box with a depth too, and a single point one
    reach = np.maximum(high - low, 0.05 * (high - low).max() or 1.0)
    middle = 0.5 * (low + high)
    for axis, m, r in zip("xyz", middle, reach, strict=True):
        getattr(ax, f"set_{axis}lim")(m - 0.55 * r, m + 0.55 * r)  # a twentieth stays free on either side
    ax.set_box_aspect(reach)
    ax.set_xlabel("x")
    ax.set_ylabel("z")
    ax.set_zlabel("y")
    ax.tick_params(labelsize=6)
    for axis in "xyz":
        ax.locator_params(axis=axis, nbins=4)
    if y_down:  # x right and y down: z away from the viewer is right-handed
        ax.invert_zaxis()
    ax.view_init(*view)
    return ax


def _axes_3d(ax: Any) -> Any:
    if ax is not None:
        if not hasattr(ax, "get_zlim"):
            raise ValueError("ax: got planar axes; expected axes made with projection='3d'.")
        return ax
    return _drawing.get_pyplot().figure(figsize=(5.5, 5)).add_subplot(projection="3d")


def export_modes(
    model: ShapeModel,
    folder: PathLike,
    *,
    n_modes: int = 3,
    steps: Sequence[float] = (-3, 0, 3),
    form: str = "ply",
    size: float = 1.0,
    edges: Iterable[Sequence[int]] | None = None,
    mesh: tuple[Any, Any, Any] | None = None,
) -> list[Path]:
    """Write the mean moved along each mode as files for mesh viewers (PLY) or 3D Slicer (.mrk.json).

    Parameters
    ----------
    model : ShapeBasis, ASM or AlignedASM
        Fitted on landmarks in two or three dimensions (planar ones get z = 0).
    folder : path
        Made if need be; files are called ``mode1_-3.ply``, ...
    n_modes : int, default=3
        Fewer when the model has fewer.
    steps : sequence of float
        In units of √λ.
    form : {"ply", "mrk.json"}
    size : float, default=1.0
        Factor on all coordinates, such as a mean centroid size in millimetres: models of superimposed shapes have
        size 1.
    edges : iterable of (int, int), optional
        Written to PLY files; the scheme's by default.
    mesh : (vertices, faces, landmarks), optional
        A mesh of any one specimen, arrays of shape (n_vertices, n_dims) and (n_faces, 3), and the landmarks on it: the
        files then hold this mesh, warped by the thin-plate spline from its landmarks to those of the mode. PLY only.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ValueError
        For another form, numbers out of range, and a mesh whose parts do not fit.

    Examples
    --------
    >>> import tempfile
    >>> from shape_models import load_model
    >>> from shape_models.plotting import export_modes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in export_modes(load_model("face68"), folder, n_modes=1)]
    ['mode1_-3.ply', 'mode1_+0.ply', 'mode1_+3.ply']
    """
    check_choice(("ply", "mrk.json"), form=form)
    as_count(n_modes, "n_modes")
    check_numbers(size=size, above=True)
    basis, pairs = _drawing.parts_of(model, None, edges)
    n_landmarks, n_dims = basis.event_shape
    faces = np.empty((0, 3), dtype=np.intp)
    if mesh is not None:
        if form != "ply":
            raise ValueError("mesh: got one for .mrk.json, which holds points; expected form='ply'.")
        vertices = as_shapes(mesh[0], name="mesh vertices", n_dims=n_dims)
        faces = np.asarray(mesh[1])
        marks = as_shapes(mesh[2], name="mesh landmarks", n_landmarks=n_landmarks, n_dims=n_dims)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise ValueError(f"mesh: got faces of shape {faces.shape}; expected (n_faces, 3) vertex numbers.")
        if faces.size and not (faces.min() >= 0 and faces.max() < len(vertices)):
            raise ValueError(f"mesh: got a face of vertex {faces.max()}; expected 0 to {len(vertices) - 1}.")
        pairs = np.empty((0, 2), dtype=np.intp)
    names = getattr(getattr(model, "scheme_", None), "names", None)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    shapes = size * _drawing.along_modes(basis, np.arange(min(n_modes, basis.n_components)), np.asarray(steps))
    for mode, row in enumerate(shapes):
        for step, shape in zip(steps, row, strict=True):
            points = shape if mesh is None else ThinPlateSpline.fit(marks, shape)(vertices)
            path = target / f"mode{mode + 1}_{step:+g}.{form}"
            if form == "ply":
                write_text(path, _ply(points, pairs, faces))
            else:
                _write_markups(path, points, names)
            written.append(path)
    return written


def _ply(points: np.ndarray, edges: np.ndarray, faces: np.ndarray) -> str:
    if points.shape[1] == 2:
        points = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    if len(faces):
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    if len(edges):
        header += [f"element edge {len(edges)}", "property int vertex1", "property int vertex2"]
    rows = [" ".join(repr(float(v)) for v in point) for point in points]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces] + [f"{a} {b}" for a, b in edges]
    return "\n".join([*header, "end_header", *rows]) + "\n"


def _write_markups(path: Path, points: np.ndarray, names: Sequence[str] | None) -> None:
    from .formats import LandmarkFile, write_landmarks

    if points.shape[1] == 2:
        points = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    labels = tuple(names) if names is not None else None
    write_landmarks(path, LandmarkFile(points, labels=labels, frame="physical"))
