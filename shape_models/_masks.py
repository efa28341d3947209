"""Outlines of masks: in arrays, in images and in folders of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from ._array import as_numpy
from ._names import composed, list_files
from ._options import check_flags
from ._typing import ArrayLike, PathLike

IMAGES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".pbm", ".jpg", ".jpeg", ".webp", ".npy")


def outline_of_mask(
    mask: ArrayLike,
    *,
    label: ArrayLike | None = None,
    level: float | None = None,
    repair: bool = False,
    name: str = "mask",
) -> np.ndarray:
    """Return the outline of the one object in a mask.

    The outline runs half way between the pixels of the object and those of the background, or, for grey levels,
    where they pass `level` (linear interpolation). Outside the image everything is background.

    Parameters
    ----------
    mask : array_like of shape (height, width), (height, width, 1), (height, width, 3) or (height, width, 4)
        Background 0 (black) and one other value (colour); for more of them say `label` or `level`. Where a fourth
        channel, or a second one beside grey, says that pixels are transparent, these are background.
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
        For a mask that is empty or has several values, is in several parts, has holes, is a single pixel, or goes all
        round its background.

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
    check_flags(repair=repair)
    from scipy import ndimage
    from skimage.measure import find_contours

    values, level = _levels(as_numpy(mask, name, booleans=True), label, level, name)
    inside = values > level
    n_pixels = int(inside.sum())
    if n_pixels == 0:
        raise ValueError(f"{name}: got no pixel of an object. Try another label= or level=.")
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    near = np.s_[top : rows[-1] + 2, left : columns[-1] + 2]
    values, inside = values[near], inside[near]
    parts, n_parts = ndimage.label(inside)
    if n_parts > 1:
        sizes = np.bincount(parts.ravel())[1:]
        if not repair:
            raise ValueError(
                f"{name}: got an object in {n_parts} parts (of {', '.join(map(str, sorted(sizes.tolist())[::-1][:5]))} "
                "pixels); expected one. Try repair=True (--repair), which keeps the largest."
            )
        gone = inside & (parts != 1 + int(np.argmax(sizes)))
        values = np.where(gone, np.minimum(values, level), values)
        inside &= ~gone
    filled = ndimage.binary_fill_holes(inside, structure=np.ones((3, 3)))
    holes = filled & ~inside
    border = np.ones(inside.shape, bool)
    border[1:-1, 1:-1] = False
    if holes.any() and inside[border].all():
        raise ValueError(
            f"{name}: got an object all round the border of the image, with {ndimage.label(holes)[1]} holes; expected "
            "one with background round it. Try label=0 where the object is black on white."
        )
    if holes.any():
        if not repair:
            raise ValueError(
                f"{name}: got an object with {ndimage.label(holes)[1]} holes; expected none. Try "
                "repair=True (--repair), which fills them."
            )
        values = np.where(holes, values.max(), values)
    if inside.sum() < 2:
        raise ValueError(f"{name}: got an object of a single pixel, which has no shape. Try leaving it out.")
    padded = np.pad(values, 1, mode="edge")
    border = np.pad(np.zeros(values.shape, bool), 1, constant_values=True)
    padded = np.where(border & (padded > level), 2 * level - padded, padded)  # the outline runs half way there too
    found = max(find_contours(padded, level, fully_connected="low"), key=len)
    outline = found[:-1, ::-1] + [left - 1.0, top - 1.0]
    return np.asarray(outline if signed_area(outline) > 0 else outline[::-1].copy())


def plane_of(mask: np.ndarray, name: str) -> np.ndarray:
    """Return a mask as (height, width), or (height, width, 3) where it has colours, black where it is transparent."""
    if mask.ndim == 3 and mask.shape[2] in (2, 4) and mask.dtype.kind in "buif":
        clear, mask = mask[..., -1:] == 0, mask[..., :-1]
        clear = clear & ~clear.all()  # what is transparent everywhere says nothing
        if clear.any() and not (mask * ~clear).any():  # only the transparency shows the object
            mask = ~clear
        mask = np.where(clear, np.zeros((), mask.dtype), mask)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim == 3 and mask.shape[2] == 3 and (mask[..., :1] == mask[..., :3]).all():
        mask = mask[..., 0]
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[2] != 3) or 0 in mask.shape:
        raise ValueError(f"{name}: got an array of shape {mask.shape}; expected (height, width).")
    if mask.dtype.kind not in "buif":
        raise TypeError(f"{name}: got an array of {mask.dtype}; expected numbers or booleans.")
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers.")
    return mask


def objects_in(plane: np.ndarray) -> np.ndarray:
    """Return the values (n,), or colours (n, 3), of a plane beside the background."""
    if plane.ndim == 3:
        found = np.unique(plane.reshape(-1, 3), axis=0)
        return np.asarray(found[found.any(axis=1)])
    found = np.unique(plane)
    return np.asarray(found[found != 0])


def _levels(mask: np.ndarray, label: Any, level: float | None, name: str) -> tuple[np.ndarray, float]:
    """Return a plane of floats and the level that separates object and background."""
    mask = plane_of(mask, name)
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
    objects = objects_in(mask)
    if len(objects) > 1:
        what = "colours" if mask.ndim == 3 else "values"
        shown = ", ".join(str(v) for v in objects[:4].tolist()) + (", ..." if len(objects) > 4 else "")
        raise ValueError(
            f"{name}: got {len(objects)} {what} beside the background ({shown}); expected one. Try label= for the "
            "object, or level= for grey levels."
        )
    return np.asarray(mask.any(axis=2) if mask.ndim == 3 else mask != 0, dtype=np.float64), 0.5


def signed_area(points: np.ndarray) -> float:
    after = np.roll(points, -1, axis=0)
    return 0.5 * float(np.sum(points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]))


def clockwise(points: np.ndarray) -> np.ndarray:
    """Return the points of a closed outline, from the first on, in the order that turns from x to y."""
    # About the mean: far from the origin the products would lose what they differ by.
    return points if signed_area(points - points.mean(axis=0)) > 0 else np.concatenate([points[:1], points[:0:-1]])


class Masks(NamedTuple):
    """Outlines read from files, and the names of the files.

    Attributes
    ----------
    outlines : list of ndarray of shape (n_points, 2)
    names : list of str
        File names below the folder; with the number of the plane for files that hold several.

    Examples
    --------
    >>> from shape_models.contours import Masks
    >>> Masks([], []).names
    []
    """

    outlines: list[np.ndarray]
    names: list[str]


def read_masks(
    path: PathLike | Iterable[PathLike],
    *,
    label: ArrayLike | None = None,
    level: float | None = None,
    repair: bool = False,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> Masks:
    """Read the outlines of masks from image files.

    Parameters
    ----------
    path : path, or iterable of paths
        A folder of images, with all folders below it, in natural order (``2.png`` before ``10.png``); one image, or a
        ``.npy`` file of one mask (height, width) or several (n, height, width).
    label, level, repair : optional
        As in `outline_of_mask`.
    progress : callable, optional
        Is given the files and iterates over them, to show how far the reading is.

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
    check_flags(repair=repair)
    from .formats._source import read_bytes
    from .formats.npy import parse_array
    from .images import read_values

    if isinstance(path, str | os.PathLike):
        top = Path(path)
        if not top.exists():
            raise FileNotFoundError(f"{top}: got no such file or folder of masks.")
        files = [p for p in list_files(top) if p.suffix.lower() in IMAGES] if top.is_dir() else [top]
        if not files:
            raise ValueError(f"{top}: got a folder without images; expected masks ({', '.join(IMAGES)}).")
        below = [p.relative_to(top) if p != top else PurePath(p.name) for p in files]
    else:
        files = []
        for i, p in enumerate(path):
            if not isinstance(p, str | os.PathLike):
                raise TypeError(
                    f"path[{i}]: got a {type(p).__name__}; expected the path of a mask. "
                    "Try correspond([outline_of_mask(mask) for mask in masks]) for arrays."
                )
            files.append(Path(p))
        below = [PurePath(p.name) for p in files]
        below = below if len(set(below)) == len(below) else [PurePath(p) for p in files]
    outlines, names = [], []
    for file, short in zip(progress(files), map(PurePath.as_posix, below), strict=True):
        if file.suffix.lower() == ".npy":
            array = parse_array(file, read_bytes(file), text=True)
            several = array.ndim == 3
            planes = list(array) if several else [array]
        else:
            several, planes = False, [read_values(file)]
        for i, plane in enumerate(planes):
            number = f"[{i}]" if several else ""
            outlines.append(outline_of_mask(plane, label=label, level=level, repair=repair, name=f"{file}{number}"))
            names.append(composed(short) + number)
    return Masks(outlines, names)


def holds_masks(path: PathLike) -> bool:
    """Say whether a folder holds images and no landmark file.

    Parameters
    ----------
    path : path
        The folder.

    Returns
    -------
    bool
        False for what is no folder.

    Examples
    --------
    >>> from shape_models.contours import holds_masks
    >>> holds_masks("no-such-folder")
    False
    """
    from .formats._files import READERS

    top = Path(path)
    if not top.is_dir():
        return False
    pictures = set(IMAGES) - {".npy"}
    suffixes = {p.suffix.lower() for p in list_files(top)}
    return bool(suffixes & pictures) and not (suffixes & (set(READERS) | {".npz"}))
