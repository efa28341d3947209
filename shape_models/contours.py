"""From masks and outlines to corresponding landmarks: shapes that a model can be fitted to, where nobody placed any."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ._array import DegenerateShapeError, as_count, as_shapes
from ._brief import brief
from ._left_out import SpanOfData, held_out, left_out_folds, most_modes
from ._masks import IMAGES, Masks, clockwise, holds_masks, outline_of_mask, read_masks, signed_area
from ._options import check_choice, check_flags, check_numbers
from ._outlines import Outline, align_starts, refuse_crossing, slide_along
from ._procrustes import generalized_procrustes
from ._typing import ArrayLike, PathLike
from .curves import Curve
from .datasets import LandmarkSamples
from .landmarks import LandmarkScheme

__all__ = [
    "Correspondence",
    "Masks",
    "correspond",
    "holds_masks",
    "landmarks_of_masks",
    "outline_of_mask",
    "read_masks",
]

_FOLDS = 20  # of the cross-validation, at most


def landmarks_of_masks(
    path: PathLike,
    n_points: int = 64,
    *,
    label: ArrayLike | None = None,
    level: float | None = None,
    repair: bool = False,
    **options: Any,
) -> LandmarkSamples:
    """Read masks and return their corresponding landmarks as a set with names, scheme and frame.

    Parameters
    ----------
    path : path
        As in `read_masks`.
    n_points : int, default=64
        Number of landmarks on each outline.
    label, level, repair : optional
        As in `outline_of_mask`.
    **options
        As in `correspond`.

    Returns
    -------
    LandmarkSamples

    Raises
    ------
    ValueError
        As `read_masks` and `correspond`, and for outlines of fewer steps between pixels than landmarks.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from shape_models.contours import landmarks_of_masks
    >>> y, x = np.mgrid[:40, :60]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/set.npy", [((x - 30) / a) ** 2 + ((y - 20) / 12) ** 2 < 1 for a in (15, 20, 25)])
    ...     landmarks_of_masks(folder, 24).shapes().shape
    (3, 24, 2)
    """
    outlines = samples_of_masks(path, n_points, label=label, level=level, repair=repair)
    found = correspond([sample.landmarks for sample in outlines], n_points, **options)
    return outlines.with_shapes(found.shapes, scheme=found.scheme)


def samples_of_masks(path: PathLike, n_points: int, **options: Any) -> LandmarkSamples:
    """Return a set whose landmarks are the steps of the outlines of masks, `n_points` at least, each as many as it has.

    Options are those of `read_masks`.
    """
    from .datasets._samples import LandmarkSample, LandmarkSamples, as_given, entry_of

    masks = read_masks(path, **options)
    plains = [name[: -len(Path(name).suffix)] if name.lower().endswith(IMAGES) else name for name in masks.names]
    plains = plains if len(set(plains)) == len(plains) else masks.names
    entries = []
    for name, plain, outline in zip(masks.names, plains, masks.outlines, strict=True):
        refuse_coarse(outline, name, n_points)
        entries.append(entry_of(LandmarkSample(None, outline, group=plain, name=plain)))
    return LandmarkSamples(entries, as_given, source=str(path))


def refuse_coarse(outline: np.ndarray, name: str, n_points: int) -> None:
    """Raise for a mask whose outline has fewer steps between pixels than landmarks are placed on it."""
    if len(outline) < n_points:
        raise ValueError(
            f"{name}: got an outline of {len(outline)} steps between pixels; expected at least {n_points}, one for "
            "each landmark. Try fewer points, or masks of a finer resolution."
        )


@brief
@dataclass(frozen=True, eq=False)
class Correspondence:
    """Outlines as shapes whose landmarks correspond.

    Attributes
    ----------
    shapes : ndarray of shape (n_samples, n_points, 2)
        Landmarks on each outline, in the frame it came in.
    scheme : LandmarkScheme
        Its closed curve joins neighbours, for drawings and for searching along normals.
    positions : ndarray of shape (n_samples, n_points)
        Where the landmarks lie on each outline: the length from its first point on, as a fraction of the whole, in the
        direction in which x turns to y.
    method : str
        "elastic" or "arc_length".
    stretch : float or None
        What stretching was charged; None for arc length.
    scores : dict of str to float
        With "auto": the fraction of the variance of outlines left out that each way that competed leaves unexplained.
    energy : ndarray of shape (n_iter,)
        The mean energy of matching after each round; it never grows. Empty for arc length.
    n_iter : int
    converged : bool
        Whether the energy settled before the rounds ran out.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.contours import correspond
    >>> angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    >>> ellipses = [np.stack([a * np.cos(angle), np.sin(angle)], axis=-1) for a in (1.5, 2.0, 2.5)]
    >>> correspond(ellipses, 16).scheme.n_landmarks
    16
    """

    shapes: np.ndarray
    scheme: LandmarkScheme
    positions: np.ndarray
    method: str
    stretch: float | None
    scores: dict[str, float]
    energy: np.ndarray
    n_iter: int
    converged: bool


def correspond(
    outlines: Iterable[Any],
    n_points: int = 64,
    *,
    method: Literal["auto", "elastic", "arc_length"] = "auto",
    rotation: bool = True,
    stretch: float | None = None,
    max_iter: int = 5,
    name: str = "outline",
    callback: Callable[[str, int, int], object] | None = None,
) -> Correspondence:
    """Place corresponding landmarks on closed outlines.

    1. All outlines are made to turn the same way and sampled at equal distances. Starting points and turns are found by
       circular Procrustes alignment: of all cyclic shifts the one whose rotation brings the outline nearest to the mean
       shape; the mean is taken anew until it is still (Gower's alternation, one more unknown).
    2. Unless ``method="arc_length"``, points then slide along the outlines. The outline nearest to the mean is the
       template; each other is matched to it by dynamic programming over monotone maps of one outline on the other, to
       make stretch · (1 − √g)² + 2 √g (1 − cos θ) small, summed over the template, where g is the stretch and θ the
       angle between the outlines; with ``stretch=1`` it is the distance of square-root velocities of Srivastava et al.
       The mean of the matched outlines becomes the next template, as long as the sum gets smaller.
    3. The landmarks lie at equal distances on the last template, and on each outline where it was matched to them. The
       first is the point of the first outline farthest from its centroid.

    With ``method="auto"`` equal distances compete with sliding at the given, or at two, prices of stretching, and those
    landmarks are kept whose models, fitted without one outline at a time, leave the smallest fraction of its variance
    unexplained (mean over models of 1 to 5 modes).

    Parameters
    ----------
    outlines : iterable of array_like of shape (m, 2)
        Polygons of at least 3 points each, any number, in order, the first not repeated (but may be). At least 2.
    n_points : int, default=64
        Number of landmarks.
    method : {"auto", "elastic", "arc_length"}, default="auto"
        "arc_length" stops after the first step: right for round shapes that vary smoothly, such as teeth or leaves;
        wrong as soon as a part moves along the outline. "auto" chooses by cross-validation; of fewer than 5 outlines
        it takes "elastic".
    rotation : bool, default=True
        Whether outlines may be turned to match. False for objects that lie alike in their images and are nearly round,
        whose turn the outline does not show.
    stretch : float, optional
        What stretching is charged beside turning; small values follow features over long distances, large ones keep
        points at equal distances. By default 1; "auto" also tries 0.3.
    max_iter : int, default=5
        Rounds of taking a new template.
    name : str
        Name of the scheme.
    callback : callable, optional
        ``callback(what, done, total)`` is called while points slide along the outlines.

    Returns
    -------
    Correspondence

    Raises
    ------
    DegenerateShapeError
        For outlines without extent.
    ValueError
        For fewer than 2 outlines, outlines that cross themselves, have fewer than 3 points or NaN, and options out of
        range.

    Notes
    -----
    The landmarks follow similarities of each outline and do not depend on where it starts, up to about 1e-6 of its
    length, nor, as long as the same steps win, on points inserted in its edges. Outlines that cannot be told from
    their turned or mirrored selves (a circle, an ellipse turned by 180 degrees) may get either start.

    References
    ----------
    A. Srivastava, E. Klassen, S. H. Joshi, I. H. Jermyn, "Shape analysis of elastic curves in Euclidean spaces", IEEE
    TPAMI 33(7), 2011. R. H. Davies, C. J. Twining, T. F. Cootes, J. C. Waterton, C. J. Taylor, "A minimum description
    length approach to statistical shape modeling", IEEE TMI 21(5), 2002, for the bump on a box that equal distances
    cannot describe.

    Examples
    --------
    A bump that moves along a box: one mode is all there is.

    >>> import numpy as np
    >>> from shape_models import AlignedASM
    >>> from shape_models.contours import correspond
    >>> half = np.linspace(0, np.pi, 20)
    >>> def box(x):
    ...     bump = np.stack([x + 0.2 * np.cos(half), 0.5 + 0.2 * np.sin(half)], axis=-1)
    ...     return np.concatenate([[[-1, -0.5], [1, -0.5], [1, 0.5]], bump, [[-1, 0.5]]])
    >>> outlines = [box(x) for x in np.linspace(-0.5, 0.5, 9)]
    >>> for method in ("arc_length", "auto"):
    ...     found = correspond(outlines, 48, method=method)
    ...     model = AlignedASM(scheme=found.scheme).fit(found.shapes)
    ...     print(found.method, bool(model.asm_.explained_variance_ratio_[0] > 0.95))
    arc_length False
    elastic True
    """
    check_flags(rotation=rotation)
    n_points = as_count(n_points, "n_points", 4, expected="at least 4 landmarks")
    check_choice(("auto", "elastic", "arc_length"), method=method)
    if stretch is not None:
        check_numbers(stretch=stretch, above=True)
    curves = [_checked(outline, i) for i, outline in enumerate(outlines)]
    if len(curves) < 2:
        raise ValueError(f"outlines: got {len(curves)}; expected at least 2.")
    start = align_starts(curves, rotation=rotation)
    competing = method == "auto" and len(curves) >= 5
    prices = [stretch] if stretch is not None else [1.0, 0.3] if competing else [1.0]
    ways: list[float | None] = [None] if method == "arc_length" else [None, *prices] if competing else [*prices]
    scheme = LandmarkScheme(name, n_points, curves=[Curve(range(n_points), closed=True, name=name)])
    best, scores = None, {}
    tell = callback or (lambda *_: None)
    for price in ways:
        found = start
        if price is not None:
            found = slide_along(curves, start, rotation=rotation, stretch=price, max_iter=max_iter, tell=tell)
        places = found.at(n_points)
        shapes = np.stack([curve(place) for curve, place in zip(curves, places, strict=True)])
        way = "arc_length" if price is None else "elastic"
        score = _unexplained(shapes) if competing else 0.0
        if competing:
            scores[way if price is None else f"elastic, stretch {price:g}"] = score
        if best is None or score < best[0]:
            best = score, (shapes, scheme, places % 1.0, way, price), (found.energy, len(found.energy), found.converged)
    assert best is not None
    return Correspondence(*best[1], scores, *best[2])


def _unexplained(shapes: np.ndarray) -> float:
    """Return the fraction of the variance of shapes left out that models without them leave, mean over 1 to 5 modes.

    A fraction, because landmarks that hardly move are off by little and yet may describe nothing.
    """
    try:
        data = SpanOfData(generalized_procrustes(shapes).aligned)
    except DegenerateShapeError:  # equal shapes leave nothing unexplained
        return 0.0
    folds = left_out_folds(data.n, min(data.n, _FOLDS), None)
    total, left = 0.0, np.zeros(min(5, most_modes(data, folds, None, "")))
    for _, modes, _, held in held_out(data, folds, len(left)):
        whole = float((held**2).sum())
        total += whole
        left += whole - np.cumsum(((held @ modes) ** 2).sum(axis=0))
    return float(left.mean()) / total


def _checked(outline: Any, i: int) -> Outline:
    """Return an outline that turns from x to y, with the length along it."""
    where = f"outlines[{i}]"
    points = as_shapes(outline, name=where, n_dims=2).astype(np.float64)
    if points.ndim != 2:
        raise ValueError(f"{where}: got shape {points.shape}; expected (n_points, 2).")
    keep = np.any(points != np.roll(points, 1, axis=0), axis=1)
    points = points[keep]
    if len(points) < 3:
        raise DegenerateShapeError(f"{where}: got {len(points)} different points; expected 3. Try leaving it out.")
    area = signed_area(points - points.mean(axis=0))
    # A line there and back encloses rounding errors only.
    if abs(area) <= 1e-9 * float(np.ptp(points, axis=0).max()) ** 2:
        raise DegenerateShapeError(f"{where}: got an outline without area; expected one around something.")
    refuse_crossing(points, where)
    return Outline(clockwise(points))
