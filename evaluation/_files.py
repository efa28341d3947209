"""Sets of landmarks from files, for the command line: names, shapes, and what else is known of each face."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shape_models import LandmarkFile, read_landmarks
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
    """Read landmarks from a folder, an archive of arrays, or a landmark file of any format of `shape_models`.

    Parameters
    ----------
    path : path
        A folder (searched with its folders; the name of a face is its path without the ending; the layout of 300-W
        brings splits and photographs along), a ``.npz`` with an array `shapes` (n, n_landmarks, n_dims), or a single
        array of three dimensions, an array `names` and one array for each attribute; a ``.npy`` of three dimensions;
        or a file that `read_landmarks` reads, such as a ``.csv`` with columns x0, y0, x1, y1 ..., image, and others.
    origin : int
        Coordinate of the first pixel in ``.pts`` files, 1 for iBUG; other files say it themselves.

    Raises
    ------
    ValueError
        When the file holds no landmarks in pixels, faces differ in their landmarks, or a name occurs twice.
    """
    place = Path(path)
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder.")
    if place.suffix.lower() == ".npz":
        return _read_npz(place)
    if place.suffix.lower() == ".npy":
        return _read_npy(place)
    if origin == 1 and any((place / part).exists() for part in ("split.csv", "ibug", "helen", "lfpw", "300W")):
        samples = read_300w(place)
        images = [image for image in samples.images if image is not None]
        if len(images) == len(samples):
            names = [image.relative_to(place).with_suffix("").as_posix() for image in images]
            splits = np.array([str(split) for split in samples.splits])
            found = {"split": splits, "photograph": np.array(samples.groups)}
            return LandmarkSet(str(place), samples.shapes(), names, found)
    pts = place.suffix.lower() == ".pts" or (place.is_dir() and next(place.rglob("*.pts"), None) is not None)
    read = read_landmarks(place, extension=".pts", origin=origin) if pts else read_landmarks(place)
    return _from_files(place, read if isinstance(read, list) else [read])


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


def _from_files(place: Path, files: list[LandmarkFile]) -> LandmarkSet:
    frames = {file.frame for file in files}
    if frames != {"pixels"}:
        raise ValueError(f"{place}: got coordinates in the frame {', '.join(sorted(frames))}; expected pixels.")
    sizes = {file.points.shape for file in files}
    if len(sizes) > 1:
        raise ValueError(f"{place}: got faces with landmarks of shapes {sorted(sizes)}; expected one shape.")
    names: list[str] | None = None
    if place.is_dir():
        paths = [file.path for file in files if file.path is not None]
        names = [path.relative_to(place).with_suffix("").as_posix() for path in paths]
    elif all(file.image_name for file in files):
        names = [_stem(str(file.image_name)) for file in files]
    shared = set(files[0].attributes).intersection(*(file.attributes for file in files))
    plain = {key for key in shared if all(isinstance(file.attributes[key], str | int | float) for file in files)}
    attributes = {key: _typed([str(file.attributes[key]) for file in files]) for key in sorted(plain)}
    shapes = np.stack([file.points for file in files])
    return LandmarkSet(str(place), shapes, None if names is None else _unique(names, place), attributes)


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
