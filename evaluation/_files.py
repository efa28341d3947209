"""Tables of attributes, for the command line."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from shape_models._names import plain_name
from shape_models.datasets import LandmarkSamples

from ._evaluate import angles_in_degrees

__all__ = ["attributes_of", "read_attributes"]


def attributes_of(samples: LandmarkSamples) -> dict[str, np.ndarray]:
    """Return what a set says of its faces: one array for each attribute that all have, the split, the groups."""
    found = {
        key: _typed([str(value) for value in values])
        for key, values in samples.attributes.items()
        if all(isinstance(value, str | int | float | np.number | np.bool_) for value in values)
    }
    found = angles_in_degrees(found)
    if any(samples.splits):
        found["split"] = np.array([str(split) for split in samples.splits])
    if samples.groups != samples.names:
        found.setdefault("photograph", np.array(samples.groups))
    return found


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
    return [plain_name(row[key]) for row in rows], columns


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
    if set(values) <= {"True", "False"}:
        return np.array([value == "True" for value in values])
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        return np.array([value.strip() for value in values])
