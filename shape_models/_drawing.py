"""What all figures of shapes are made of: axes, frames, dots and lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._options import check_flags
from ._provenance import points_down
from ._typing import ImageLike
from .images import read_values
from .landmarks import get_scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER, GREY = "#d1495b", "#00798c", "#9aa0a6"


def get_pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'shape-models[plot]'", name=error.name) from error
    return pyplot


def get_axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    found: Axes = get_pyplot().subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax
    if not hasattr(found, "add_collection"):
        raise TypeError(f"ax: got {type(ax).__name__}; expected one matplotlib Axes. Try plt.subplots()[1].")
    return found


def draw_image(ax: Axes, image: ImageLike) -> None:
    """Draw an image of any kind that is read elsewhere, upright; grey levels and deep colours over their range."""
    values = read_values(image)
    if values.dtype != np.uint8:
        whole = values.dtype.kind != "f"
        values = values.astype(np.float64)
        low, high = values.min(), values.max()
        if values.ndim == 3 and (whole or low < 0 or high > 1):
            values = (values - low) / max(high - low, 1e-300)  # an image of one value is black
    ax.imshow(values, cmap="gray")  # which colours do not look at


def as_whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def fit_view(ax: Axes, y_down: bool) -> None:
    ax.set_aspect("equal")
    if y_down != ax.yaxis_inverted():
        ax.invert_yaxis()


def is_down(thing: Any, *, y_down: bool | None) -> bool:
    """Return whether y points down: as it is asked for, or else as the landmarks of a thing came."""
    down = points_down(thing) if y_down is None else y_down
    check_flags(y_down=down)
    return down


def draw_shapes(
    ax: Axes,
    points: np.ndarray,
    pairs: np.ndarray,
    *,
    color: Any,
    size: float | None = None,
    label: str | None = None,
    alpha: float = 1.0,
    zorder: float = 2,
) -> None:
    seen = np.isfinite(points).all(axis=1)
    if len(pairs):
        from matplotlib.collections import LineCollection

        joined = pairs[seen[pairs].all(axis=1)]
        ax.add_collection(LineCollection(points[joined], colors=[color], linewidths=1, alpha=alpha, zorder=zorder))
    dot = size if size is not None else (6 if len(pairs) else 16)  # square points; small where lines tell the shape
    x, y = points[seen].T
    ax.scatter(x, y, s=dot, color=color, label=label, alpha=alpha, zorder=zorder, linewidths=0)


def edges_of(scheme: Any, edges: Iterable[Sequence[int]] | None, n_landmarks: int) -> np.ndarray:
    if scheme is not None:
        scheme = get_scheme(scheme)
        if scheme.n_landmarks != n_landmarks:
            raise ValueError(f"got {n_landmarks} landmarks; expected {scheme.n_landmarks}, those of {scheme.name!r}.")
        edges = scheme.edges if edges is None else edges
    given = list(edges) if edges is not None else []
    pairs = np.asarray(given) if given else np.empty((0, 2), np.intp)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(f"edges: got {str(given)[:60]}; expected pairs of landmarks, whole numbers from 0.")
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < n_landmarks):
        raise ValueError(f"edges: got a landmark outside 0 to {n_landmarks - 1}.")
    return pairs


def bare(ax: Axes) -> None:
    """Take away the frame of axes."""
    ax.spines[:].set_visible(False)


def is_model(thing: Any) -> bool:
    """Say whether a thing is a model, and no shape."""
    return any(hasattr(thing, name) for name in ("basis_", "asm_", "components"))


def along_modes(basis: Any, modes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the mean moved along each of some modes by numbers of standard deviations: (n_modes, n_steps, K, d)."""
    b = np.zeros((len(modes), len(steps), basis.n_components))
    b[np.arange(len(modes)), :, modes] = np.outer(np.sqrt(np.asarray(basis.variances, dtype=np.float64)[modes]), steps)
    return np.asarray(basis.decode(b), dtype=np.float64)


def is_plain(model: Any) -> bool:
    return not hasattr(model, "alignment_")


def upright(model: Any, scheme: Any = None) -> float:
    """Return the angle in radians, from x to y, by which the mean of an aligned model is turned to be drawn upright.

    The frame of superimposed shapes has no direction of its own. Where the scheme has a mirror the axis of symmetry
    becomes vertical; otherwise the longer principal axis becomes horizontal or vertical, whichever is nearer. Solid
    shapes and models of shapes that were not superimposed here stay as they are.
    """
    basis = basis_of(model)
    mean = np.asarray(basis.mean, dtype=np.float64)
    if is_plain(model) or mean.shape[1] != 2:
        return 0.0
    z = (mean - mean.mean(axis=0)) @ [1.0, 1.0j]
    scheme = getattr(model, "scheme_", None) if scheme is None else get_scheme(scheme)
    if scheme is not None and scheme.mirror is not None and len(scheme.mirror) == len(z):
        mirrored = -np.conj(z[list(scheme.mirror)])
        return float(np.angle((np.conj(z) * mirrored).sum())) / 2  # the mirror image is tilted the other way
    long, short = np.linalg.eigvalsh(np.cov(z.real, z.imag))[::-1]
    if long < 1.2 * short:  # nearly round: no axis to speak of
        return 0.0
    axis = np.angle((z**2).sum()) / 2
    return float(np.round(axis / (np.pi / 2)) * (np.pi / 2) - axis)


def rotated(points: np.ndarray, angle: float) -> np.ndarray:
    """Return planar points rotated about the origin, from x to y."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def shared_legend(figure: Any) -> None:
    """Put one legend below all axes of a figure in place of theirs, where it covers nothing."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    place = {"loc": "outside lower center", "ncols": len(entries), "frameon": False, "markerscale": 3}
    figure.legend(entries.values(), entries, **place)


def basis_of(model: Any) -> Any:
    """Return the basis of a fitted model of either kind."""
    from sklearn.utils.validation import check_is_fitted

    if hasattr(model, "fit"):
        check_is_fitted(model)
    model = getattr(model, "asm_", model)
    basis = getattr(model, "basis_", model)
    if not hasattr(basis, "components"):
        raise TypeError(f"model: got {type(model).__name__}; expected a ShapeBasis, an ASM or an AlignedASM.")
    if len(basis.event_shape) != 2:
        raise ValueError(
            f"model: got one of flat features {basis.event_shape}; expected (n_landmarks, 2 or 3). Try fitting it on "
            "an array (n_samples, n_landmarks, n_dims)."
        )
    return basis


def parts_of(model: Any, scheme: Any, edges: Iterable[Sequence[int]] | None) -> tuple[Any, np.ndarray]:
    basis = basis_of(model)
    scheme = getattr(model, "scheme_", None) if scheme is None else scheme
    return basis, edges_of(scheme, edges, basis.event_shape[0])


def total_variance_of(model: Any, basis: Any) -> float:
    total = getattr(getattr(model, "asm_", model), "total_variance_", None)
    if total is not None:
        return float(total)
    # The residual noise fills the directions that no mode spans.
    rest = basis.n_features - basis.n_components
    return float(float(np.sum(np.asarray(basis.variances))) + rest * float(basis.noise_variance))
