"""From masks and outlines to corresponding landmarks: shapes that a model can be fitted to, where nobody placed any."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ._array import DegenerateShapeError, as_shapes
from ._outlines import Outline, align_starts, refuse_crossing, slide_along
from ._procrustes import generalized_procrustes
from .curves import Curve
from .landmarks import LandmarkScheme

__all__ = ["Correspondence", "Masks", "correspond", "outline_of_mask", "read_masks"]

_FOLDS = 20  # of the cross-validation, at most
_IMAGES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".pbm", ".jpg", ".jpeg", ".webp", ".npy")


def outline_of_mask(
    mask: Any, *, label: Any = None, level: float | None = None, repair: bool = False, name: str = "mask"
) -> np.ndarray:
    """Return the outline of the one object in a mask.

    The outline runs half way between the pixels of the object and those of the background, or, for grey levels,
    where they pass `level` (linear interpolation). Outside the image everything is background.

    Parameters
    ----------
    mask : array_like of shape (height, width) or (height, width, 3)
        Background 0 (black) and one other value (colour); for more of them say `label` or `level`.
    label : number or sequence of 3 numbers, optional
        The value, or colour, of the object.
    level : float, optional
        For an image of grey levels or probabilities: the object is what lies above.
    repair : bool, default=False
        Keep the largest part of an object in several, and fill its holes, instead of refusing it.
    name : str
        What messages call the mask.

    Returns
    -------
    ndarray of shape (n_points, 2)
        Closed, the first point not repeated; (x, y) in pixels, the centre of the first pixel at (0, 0); turning from x
        to y (clockwise on the screen).

    Raises
    ------
    ValueError
        For a mask that is empty or full of values, in several parts, with holes, or of a single pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.contours import outline_of_mask
    >>> mask = np.zeros((6, 8), dtype=bool)
    >>> mask[2:4, 3:6] = True
    >>> outline = outline_of_mask(mask)
    >>> outline.min(axis=0), outline.max(axis=0)
    (array([2.5, 1.5]), array([5.5, 3.5]))
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    values, level = _levels(np.asarray(mask), label, level, name)
    inside = values > level
    n_pixels = int(inside.sum())
    if n_pixels == 0:
        raise ValueError(f"{name}: got no pixel of an object. Try another label= or level=.")
    parts, n_parts = ndimage.label(inside)
    if n_parts > 1:
        sizes = np.bincount(parts.ravel())[1:]
        if not repair:
            raise ValueError(
                f"{name}: got an object in {n_parts} parts (of {', '.join(map(str, sorted(sizes.tolist())[::-1][:5]))} "
                "pixels); expected one. Try repair=True, which keeps the largest."
            )
        gone = inside & (parts != 1 + int(np.argmax(sizes)))
        values = np.where(gone, np.minimum(values, level), values)
        inside &= ~gone
    filled = ndimage.binary_fill_holes(inside, structure=np.ones((3, 3)))
    holes = filled & ~inside
    if holes.any():
        if not repair:
            raise ValueError(
                f"{name}: got an object with {ndimage.label(holes)[1]} holes; expected none. Try repair=True, which "
                "fills them."
            )
        values = np.where(holes, values.max(), values)
    if inside.sum() < 2:
        raise ValueError(f"{name}: got an object of a single pixel, which has no shape. Try leaving it out.")
    padded = np.pad(values, 1, mode="edge")
    border = np.ones(padded.shape, bool)
    border[1:-1, 1:-1] = False
    padded = np.where(border & (padded > level), 2 * level - padded, padded)  # the outline runs half way there too
    found = max(find_contours(padded, level, fully_connected="low"), key=len)
    outline = found[:-1, ::-1] - 1.0
    return outline if _signed_area(outline) > 0 else outline[::-1].copy()


def _levels(mask: np.ndarray, label: Any, level: float | None, name: str) -> tuple[np.ndarray, float]:
    """Return a plane of floats and the level that separates object and background."""
    if mask.ndim == 3 and mask.shape[2] in (3, 4) and (mask[..., :1] == mask[..., :3]).all():
        mask = mask[..., 0]
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[2] not in (3, 4)) or 0 in mask.shape:
        raise ValueError(f"{name}: got an array of shape {mask.shape}; expected (height, width).")
    if mask.dtype.kind not in "buif":
        raise TypeError(f"{name}: got an array of {mask.dtype}; expected numbers or booleans.")
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers.")
    if label is not None and level is not None:
        raise ValueError("got label and level; expected one of them.")
    if label is not None:
        wanted = np.asarray(label)
        same: Any = mask == wanted if mask.ndim == 2 else (mask[..., :3] == wanted).all(axis=2)
        return np.asarray(same, dtype=np.float64), 0.5
    if level is not None:
        if mask.ndim == 3:
            raise ValueError(f"{name}: got colours, which have no level. Try label=(red, green, blue).")
        return mask.astype(np.float64), float(level)
    if mask.ndim == 3:
        colours = np.unique(mask[..., :3].reshape(-1, 3), axis=0)
        objects = colours[colours.any(axis=1)]
        what, plane = "colours", mask[..., :3].any(axis=2)
    else:
        objects = np.unique(mask)
        objects = objects[objects != 0]
        what, plane = "values", mask != 0
    if len(objects) > 1:
        shown = ", ".join(str(v) for v in objects[:4].tolist()) + (", ..." if len(objects) > 4 else "")
        raise ValueError(
            f"{name}: got {len(objects)} {what} beside the background ({shown}); expected one. Try label= for the "
            "object, or level= for grey levels."
        )
    return np.asarray(plane, dtype=np.float64), 0.5


def _signed_area(points: np.ndarray) -> float:
    after = np.roll(points, -1, axis=0)
    return 0.5 * float(np.sum(points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]))


class Masks(NamedTuple):
    """Outlines read from files, and the names of the files.

    Attributes
    ----------
    outlines : list of ndarray of shape (n_points, 2)
    names : list of str
        File names without folder; with the number of the plane for files that hold several.

    Examples
    --------
    >>> from shape_models.contours import Masks
    >>> Masks([], []).names
    []
    """

    outlines: list[np.ndarray]
    names: list[str]


def read_masks(
    path: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    label: Any = None,
    level: float | None = None,
    repair: bool = False,
) -> Masks:
    """Read the outlines of masks from image files.

    Parameters
    ----------
    path : path, or iterable of paths
        A folder of images (in the order of their names), one image, or a ``.npy`` file of one mask (height, width) or
        several (n, height, width).
    label, level, repair
        As in `outline_of_mask`.

    Returns
    -------
    Masks
        Of outlines and names.

    Raises
    ------
    FileNotFoundError
        When there is no such file or folder.
    ValueError
        For a folder without images, files that are no image, and masks that `outline_of_mask` refuses; the file is
        named.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from shape_models.contours import read_masks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/set.npy", np.pad(np.ones((3, 5, 5), bool), ((0, 0), (2, 2), (2, 2))))
    ...     read_masks(folder).names
    ['set.npy[0]', 'set.npy[1]', 'set.npy[2]']
    """
    from .images import read_values

    if isinstance(path, str | os.PathLike):
        top = Path(path)
        if not top.exists():
            raise FileNotFoundError(f"{top}: got no such file or folder of masks.")
        files = sorted(p for p in top.iterdir() if p.suffix.lower() in _IMAGES) if top.is_dir() else [top]
        if not files:
            raise ValueError(f"{top}: got a folder without images; expected masks ({', '.join(_IMAGES)}).")
    else:
        files = [Path(p) for p in path]
    outlines, names = [], []
    for file in files:
        if file.suffix.lower() == ".npy":
            array = np.load(file, allow_pickle=False)
            several = array.ndim == 3
            planes = list(array) if several else [array]
        else:
            several, planes = False, [read_values(file)]
        for i, plane in enumerate(planes):
            name = f"{file.name}[{i}]" if several else file.name
            outlines.append(
                outline_of_mask(plane, label=label, level=level, repair=repair, name=str(file.parent / name))
            )
            names.append(name)
    return Masks(outlines, names)


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
        Where the landmarks lie on each outline: the length from its first point on, as a share of the whole, in the
        direction in which x turns to y.
    method : str
        "elastic" or "arc_length".
    stretch : float or None
        What stretching was charged; None for arc length.
    scores : dict of str to float
        With "auto": the share of the variance of outlines left out that each way that competed leaves unexplained.
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
) -> Correspondence:
    """Place landmarks on closed outlines so that equal numbers mean equal places.

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
    landmarks are kept whose models, fitted without one outline at a time, leave the smallest share of its variance
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
    if isinstance(n_points, bool) or not isinstance(n_points, int | np.integer) or n_points < 4:
        raise ValueError(f"n_points: got {n_points!r}; expected at least 4 landmarks.")
    if method not in ("auto", "elastic", "arc_length"):
        raise ValueError(f"method: got {method!r}; expected 'auto', 'elastic' or 'arc_length'.")
    if stretch is not None and not (np.isfinite(stretch) and stretch > 0):
        raise ValueError(f"stretch: got {stretch!r}; expected a positive number.")
    curves = [_checked(outline, i) for i, outline in enumerate(outlines)]
    if len(curves) < 2:
        raise ValueError(f"outlines: got {len(curves)}; expected at least 2.")
    start = align_starts(curves, rotation=rotation)
    competing = method == "auto" and len(curves) >= 5
    prices = [stretch] if stretch is not None else [1.0, 0.3] if competing else [1.0]
    ways: list[float | None] = [None] if method == "arc_length" else [None, *prices] if competing else [*prices]
    scheme = LandmarkScheme(name, n_points, curves=[Curve(range(n_points), closed=True, name=name)])
    best, scores = None, {}
    for price in ways:
        found = start
        if price is not None:
            found = slide_along(curves, start, rotation=rotation, stretch=price, max_iter=max_iter)
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
    """Return the share of the variance of shapes left out that models without them leave, mean over 1 to 5 modes.

    A share, because landmarks that hardly move are off by little and yet may describe nothing.
    """
    aligned = generalized_procrustes(shapes).aligned
    n = len(aligned)
    flat = aligned.reshape(n, -1)
    total, left = 0.0, np.zeros(min(5, n - n // min(n, _FOLDS) - 2))
    for test in np.array_split(np.arange(n), min(n, _FOLDS)):
        rest = np.delete(flat, test, axis=0)
        mean = rest.mean(axis=0)
        modes = np.linalg.svd(rest - mean, full_matrices=False)[2][: len(left)]
        off = flat[test] - mean
        total += float((off**2).sum())
        left += [float((off**2).sum() - ((off @ modes[: k + 1].T) ** 2).sum()) for k in range(len(left))]
    return float(left.mean()) / total if total > 0 else 0.0


def _checked(outline: Any, i: int) -> Outline:
    """Return an outline that turns from x to y, with the length along it."""
    where = f"outlines[{i}]"
    points = as_shapes(outline, name=where, n_dims=2).astype(np.float64)
    if points.ndim != 2:
        raise ValueError(f"{where}: got shape {points.shape}; expected (n_points, 2).")
    keep = np.any(points != np.roll(points, 1, axis=0), axis=1)
    points = points[keep]
    if len(points) < 3:
        raise DegenerateShapeError(
            f"{where}: got {len(points)} different points; expected at least 3. Try leaving it out."
        )
    area = _signed_area(points - points.mean(axis=0))
    if abs(area) <= 1e-9 * float(np.ptp(points, axis=0).max()) ** 2:
        raise DegenerateShapeError(f"{where}: got an outline without area; expected one around something.")
    refuse_crossing(points, where)
    return Outline(points if area > 0 else np.concatenate([points[:1], points[:0:-1]]))
