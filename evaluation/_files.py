"""Tables of attributes, for the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shape_models._commands import read_named
from shape_models._names import plain_name
from shape_models._typing import PathLike
from shape_models.datasets import LandmarkSamples

from ._evaluate import angles_in_degrees


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


def read_attributes(path: PathLike) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read the names of faces and one column for each attribute from a ``.csv`` with a header.

    Parameters
    ----------
    path : path
        One row for each face; the column `name` or `image` is the name.
    """
    key, header, rows = read_named(Path(path))
    columns = {name: _typed([row[i] for _, row in rows]) for i, name in enumerate(header) if i != key}
    return [plain_name(row[key]) for _, row in rows], columns


def _typed(values: list[str]) -> np.ndarray:
    if set(values) <= {"True", "False"}:
        return np.array([value == "True" for value in values])
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        return np.array([value.strip() for value in values])
