"""A page with which a person explores a shape model: sliders, dragging, the limit on and off; one file, no server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ._aligned import AlignedASM, ShapeModel
from ._array import DegenerateShapeError
from ._deformation import grid_lines
from ._drawing import basis_of, edges_of, upright
from ._files import write_text
from ._limits import Box, Ellipsoid, SoftBox
from ._options import check_flags
from ._provenance import points_down
from ._scheme import SchemeLike
from ._thin_plate import ThinPlateSpline
from .landmarks import get_scheme

__all__ = ["write_explorer"]

_GRID_LINES = 12  # each way, of the grid that shows the deformation


def write_explorer(
    model: ShapeModel,
    path: str | Path,
    *,
    title: str | None = None,
    scheme: SchemeLike | None = None,
    edges: Sequence[tuple[int, int]] | None = None,
    n_modes: int = 12,
    y_up: bool | None = None,
) -> Path:
    """Write one self-contained HTML page with a slider for each mode and a shape whose landmarks can be dragged.

    The page computes with the model's own numbers: a slider sets bᵢ in units of √λᵢ; a landmark that is dragged by
    δ adds the most probable change of shape, ``basis.encode(mean + δ, confidence=)`` with confidence at that
    landmark alone; and the limit of the basis clips both.

    Parameters
    ----------
    model : ShapeBasis, ASM, AlignedASM or a search
        Fitted, on two- or three-dimensional landmarks. Of a search its shape model is taken.
    path : str or Path
        The ``.html`` file; replaced when it exists.
    title : str, optional
        Heading of the page; the name of the file by default.
    scheme : str or LandmarkScheme, optional
        Names and edges of the landmarks; the model's own scheme by default.
    edges : sequence of (int, int), optional
        Lines to draw; the scheme's by default, else none: neighbouring landmarks are not joined without being asked.
    n_modes : int
        How many sliders.
    y_up : bool, optional
        Whether y points up in the model's frame; by default as in the landmarks it was fitted to, and down, as in
        images, where they did not say it. In three dimensions z then points
        towards the viewer, otherwise away.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        For models of other dimensions, edges out of range and a scheme with another number of landmarks.
    NotFittedError
        When the model is not fitted.

    Examples
    --------
    >>> import tempfile
    >>> from shape_models import ASM, generalized_procrustes, make_faces
    >>> asm = ASM(5).fit(generalized_procrustes(make_faces(50, rng=0)).aligned)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_explorer(asm, folder + "/faces.html", scheme="ibug68")
    ...     page.name, page.stat().st_size > 10_000
    ('faces.html', True)
    """
    path = Path(path)
    inner = getattr(model, "asm_", None)
    if isinstance(inner, AlignedASM):
        model = inner
    basis = basis_of(model)
    if basis.event_shape[1] not in (2, 3):
        raise ValueError(f"got a model of shapes {basis.event_shape}; expected (n_landmarks, 2 or 3).")
    if n_modes < 1:
        raise ValueError(f"got n_modes={n_modes}; expected at least 1.")
    n_landmarks, dims = basis.event_shape
    y_up = not points_down(model) if y_up is None else y_up
    check_flags(y_up=y_up)
    scheme = scheme if scheme is not None else getattr(model, "scheme_", getattr(model, "scheme", None))
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
    pairs = edges_of(scheme, edges, n_landmarks).tolist()
    names = list(scheme.names) if scheme is not None and scheme.names else [str(k) for k in range(n_landmarks)]
    variances = np.asarray(basis.variances, dtype=float)
    # The residual noise fills the directions that no mode spans.
    total = variances.sum() + basis.noise_variance * (basis.n_features - basis.n_components)
    data = {
        "title": title or path.stem,
        "frame": "aligned frame" if hasattr(model, "alignment_") else "the frame it was fitted in",
        "dims": dims,
        "mean": np.asarray(basis.mean, dtype=float).ravel().tolist(),
        "components": np.asarray(basis.components, dtype=float).reshape(basis.n_components, -1).tolist(),
        "variances": variances.tolist(),
        "total": float(total) or 1.0,  # the page divides by it
        "noise": float(basis.noise_variance),
        "limit": _describe(basis.limit),
        "edges": pairs,
        "names": names,
        "shown": int(n_modes),
        "y_up": bool(y_up),
        "turn": upright(model, scheme),
    }
    data["grid"] = _grid(np.asarray(basis.mean, dtype=float), np.asarray(data["components"])) if dims == 2 else None
    template = resources.files("shape_models").joinpath("_explorer.html").read_text(encoding="utf-8")
    # "<" could end the script element that holds the numbers.
    payload = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    write_text(path, template.replace("/*MODEL*/", payload))
    return path


def _grid(mean: np.ndarray, components: np.ndarray) -> dict[str, Any] | None:
    """Return a grid about the mean and how each mode moves it.

    The thin-plate spline from the mean is linear in the landmarks it goes to, so that a grid bent to a shape is the
    square grid and the sum of what each mode, times its coefficient, does to it.
    """
    try:
        spline = ThinPlateSpline.fit(mean, components.reshape(len(components), *mean.shape))
    except DegenerateShapeError:  # fewer than three landmarks, or all on a line: no grid
        return None
    lines = grid_lines(mean, _GRID_LINES, fine=2)
    points = np.concatenate(lines)
    moves = spline(points).reshape(len(components), -1)
    return {
        "sizes": [len(line) for line in lines],
        # The digits that a screen shows: all of them would make most of the page.
        "points": [float(f"{v:.6g}") for v in points.ravel()],
        "moves": [[float(f"{v:.3g}") for v in move] for move in moves],
    }


_LIMITS = {Ellipsoid: "Mahalanobis ball, radius {:g}", SoftBox: "smooth limit ±{:g}√λ", Box: "limit ±{:g}√λ"}


def _describe(limit: Any) -> dict[str, Any]:
    if limit is None:
        return {"kind": "none", "value": None, "name": "no limit"}
    if type(limit) not in _LIMITS:
        raise TypeError(f"got limit {limit!r}; expected Box, Ellipsoid, SoftBox or None.")
    name = _LIMITS[type(limit)].format(limit.value)
    return {"kind": type(limit).__name__.lower(), "value": limit.value, "name": name}
