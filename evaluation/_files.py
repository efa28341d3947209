"""Sets of landmarks from files, for the command line: names, shapes, and what else is known of each face."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shape_models import read_pts
from shape_models._array import as_shapes
from shape_models.datasets import read_300w

__all__ = ["LandmarkSet", "pair", "read_attributes", "read_set"]

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pts", ".npy"}


@dataclass(frozen=True, eq=False)
class LandmarkSet:
    """Faces of one file or folder; `names` is None where the file names none."""

    source: str
    shapes: np.ndarray
    names: list[str] | None = None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)


def read_set(path: str | os.PathLike[str], *, origin: int = 1) -> LandmarkSet:
    """Read landmarks from a folder of ``.pts``, or from a ``.npz``, ``.npy`` or ``.csv`` file.

    Parameters
    ----------
    path : path
        A folder (searched with its folders; the name of a face is its path without the ending; the layout of 300-W
        brings splits and photographs along), a ``.npz`` with an
        array `shapes` (n, n_landmarks, n_dims), or a single array of three dimensions, an array `names` and one array
        for each attribute; a ``.npy``; or a ``.csv`` whose columns x0, y0, x1, y1 ... are coordinates, whose column
        `name` or `image` is the name, and whose other columns are attributes.
    origin : int
        Coordinate of the first pixel in ``.pts`` files, 1 for iBUG; other files count from 0.

    Raises
    ------
    ValueError
        When the file holds no landmarks, or in a form not listed above.
    """
    place = Path(path)
    if place.is_dir():
        return _read_folder(place, origin)
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder.")
    readers = {".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}
    if place.suffix.lower() not in readers:
        raise ValueError(f"{place}: got the ending {place.suffix!r}; expected a folder of .pts, or .npz, .npy, .csv.")
    return readers[place.suffix.lower()](place)


def read_attributes(path: str | os.PathLike[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read the names of faces and one column for each attribute from a ``.csv`` with a header.

    Parameters
    ----------
    path : path
        One row for each face; the column `name` or `image` is the name.
    """
    place = Path(path)
    header, rows = _rows(place)
    key = next((i for i, name in enumerate(header) if name.lower() in ("name", "image")), None)
    if key is None:
        raise ValueError(f"{place}: got the columns {', '.join(header)}; expected one called name or image.")
    columns = {name: _typed([row[i] for row in rows]) for i, name in enumerate(header) if i != key}
    return [_stem(row[key]) for row in rows], columns


def pair(truth: LandmarkSet, guess: LandmarkSet, *, allow_missing: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted shapes face by face: by name where both have names, else by order.

    Parameters
    ----------
    truth, guess : LandmarkSet
        What to pair.
    allow_missing : bool
        Whether faces without a prediction become NaN, and not an error.

    Raises
    ------
    ValueError
        When names or counts do not match.
    """
    if truth.names is None or guess.names is None:
        if len(truth.shapes) != len(guess.shapes):
            raise ValueError(
                f"{guess.source}: got {len(guess.shapes)} faces; expected {len(truth.shapes)}, as {truth.source} has. "
                "Try files that name their faces, to pair them by name."
            )
        return truth.shapes, guess.shapes
    place = {name: i for i, name in enumerate(guess.names)}
    extra = sorted(set(guess.names) - set(truth.names))
    lacking = [name for name in truth.names if name not in place]
    if extra and len(extra) == len(guess.names):
        raise ValueError(
            f"{guess.source}: no face has a name of {truth.source} ({guess.names[0]!r} against {truth.names[0]!r})."
        )
    if extra:
        raise ValueError(f"{guess.source}: {len(extra)} faces have no truth, the first is {extra[0]!r}.")
    if lacking and not allow_missing:
        raise ValueError(
            f"{guess.source}: {len(lacking)} faces have no prediction, the first is {lacking[0]!r}. "
            "Try --missing failure to count them as failures."
        )
    if truth.shapes.shape[1:] != guess.shapes.shape[1:]:
        raise ValueError(
            f"{guess.source}: got faces of shape {guess.shapes.shape[1:]}; expected {truth.shapes.shape[1:]}, as "
            f"{truth.source} has."
        )
    shapes = np.full(truth.shapes.shape, np.nan)
    for i, name in enumerate(truth.names):
        if name in place:
            shapes[i] = guess.shapes[place[name]]
    return truth.shapes, shapes


# --- inside ----------------------------------------------------------------------------------------------


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix() if Path(name).suffix.lower() in _ENDINGS else name


def _unique(names: list[str], source: Path) -> list[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{source}: the name {name!r} occurs twice.")
        seen.add(name)
    return names


def _read_folder(folder: Path, origin: int) -> LandmarkSet:
    if origin == 1 and any((folder / part).exists() for part in ("split.csv", "ibug", "helen", "lfpw", "300W")):
        samples = read_300w(folder)
        images = [image for image in samples.images if image is not None]
        if len(images) == len(samples):
            names = [image.relative_to(folder).with_suffix("").as_posix() for image in images]
            found = {
                "split": np.array([str(split) for split in samples.splits]),
                "photograph": np.array(samples.groups),
            }
            return LandmarkSet(str(folder), samples.shapes(), names, found)
    files = sorted(folder.rglob("*.pts"))
    if not files:
        raise ValueError(f"{folder}: got no .pts files in the folder.")
    shapes = [np.asarray(read_pts(file, origin=origin).points) for file in files]
    sizes = {shape.shape for shape in shapes}
    if len(sizes) > 1:
        raise ValueError(f"{folder}: got files with landmarks of shapes {sorted(sizes)}; expected one shape.")
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return LandmarkSet(str(folder), np.stack(shapes), names)


def _read_npz(path: Path) -> LandmarkSet:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    three = [name for name, array in arrays.items() if array.ndim == 3]
    key = "shapes" if "shapes" in arrays else three[0] if len(three) == 1 else None
    if key is None:
        raise ValueError(f"{path}: got the arrays {', '.join(arrays)}; expected one called shapes.")
    shapes = as_shapes(arrays.pop(key), name=f"{path}: {key}", min_samples=1, allow_nan=True)
    names = arrays.pop("names", None)
    attributes = {name: array for name, array in arrays.items() if array.shape == (len(shapes),)}
    if names is not None and names.shape != (len(shapes),):
        raise ValueError(f"{path}: got {names.shape} names; expected ({len(shapes)},), one for each face.")
    return LandmarkSet(
        str(path), shapes, None if names is None else _unique([_stem(str(n)) for n in names], path), attributes
    )


def _read_npy(path: Path) -> LandmarkSet:
    return LandmarkSet(
        str(path), as_shapes(np.load(path, allow_pickle=False), name=str(path), min_samples=1, allow_nan=True)
    )


def _read_csv(path: Path) -> LandmarkSet:
    header, rows = _rows(path)
    lower = [name.strip().lower() for name in header]
    axes = [axis for axis in "xyz" if f"{axis}0" in lower]
    count = 0
    while all(f"{axis}{count}" in lower for axis in axes) and axes:
        count += 1
    if axes[:2] != ["x", "y"] or not count:
        raise ValueError(f"{path}: got the columns {', '.join(header[:6])} ...; expected x0, y0, x1, y1 and so on.")
    places = [lower.index(f"{axis}{i}") for i in range(count) for axis in axes]
    try:
        values = np.array([[float(row[i]) if row[i].strip() else np.nan for i in places] for row in rows])
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected numbers in the columns of coordinates.") from None
    shapes = as_shapes(values.reshape(len(rows), count, len(axes)), name=str(path), min_samples=1, allow_nan=True)
    key = next((i for i, name in enumerate(lower) if name in ("name", "image")), None)
    names = None if key is None else _unique([_stem(row[key]) for row in rows], path)
    other = {header[i]: _typed([row[i] for row in rows]) for i in range(len(header)) if i != key and i not in places}
    return LandmarkSet(str(path), shapes, names, other)


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = [row for row in csv.reader(file) if row]
    if len(table) < 2:
        raise ValueError(f"{path}: got {len(table)} lines; expected a header and at least one face.")
    for line, row in enumerate(table[1:], start=2):
        if len(row) != len(table[0]):
            raise ValueError(f"{path}:{line}: got {len(row)} fields; expected {len(table[0])}.")
    return [name.strip() for name in table[0]], table[1:]


def _typed(values: list[str]) -> np.ndarray:
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        return np.array([value.strip() for value in values])
