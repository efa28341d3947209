"""Pairing the faces of two sets, and tables of attributes, for the command line."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from shape_models._commands import few
from shape_models._names import natural_key, plain_name
from shape_models.datasets import LandmarkSamples

from ._reports import angles_in_degrees

__all__ = ["attributes_of", "pair", "read_attributes"]


def pair(
    truth: LandmarkSamples, guess: LandmarkSamples, *, allow_missing: bool = False
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return true and predicted shapes face by face, and how they were paired.

    By name where both sets name their faces, else by order. Landmarks are matched by their names where both have some.

    Parameters
    ----------
    truth, guess : LandmarkSamples
        What to pair.
    allow_missing : bool
        Whether faces without a prediction become NaN, and not an error.

    Returns
    -------
    targets, predictions : ndarray of shape (n_faces, n_landmarks, n_dims)
    how : str
        One sentence.

    Raises
    ------
    ValueError
        When names, counts, frames or landmarks do not match.
    """
    if {truth.frame, guess.frame} in ({"pixels", "y_up"}, {"relative", "pixels"}, {"relative", "y_up"}):
        raise ValueError(
            f"{guess.source}: got landmarks in the frame {guess.frame!r}; expected {truth.frame!r}, as {truth.source} "
            "has. Try --image-size."
        )
    targets = truth.lengths()
    found = guess.like(truth.landmark_names, truth.frame, whose=truth.source)
    if targets.shape[1:] != found.shape[1:]:
        raise ValueError(
            f"{guess.source}: got faces of shape {found.shape[1:]}; expected {targets.shape[1:]}, as "
            f"{truth.source} has."
        )
    if not (truth.named and guess.named):
        if len(targets) != len(found):
            raise ValueError(
                f"{guess.source}: got {len(found)} faces; expected {len(targets)}, as {truth.source} has. "
                "Try files that name their faces, to pair them by name."
            )
        nameless = [samples.source for samples in (truth, guess) if not samples.named]
        named = next((samples.names for samples in (truth, guess) if samples.named), None)
        order = f": {few(named, 4)}" if named else ""
        return targets, found, f"Faces are paired by order, as {' and '.join(nameless)} names none{order}."
    place = {name: i for i, name in enumerate(guess.names)}
    extra = sorted(set(guess.names) - set(truth.names), key=natural_key)
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
            "Try --unpaired failure to count them as failures."
        )
    shapes = np.full(targets.shape, np.nan)
    for i, name in enumerate(truth.names):
        if name in place:
            shapes[i] = found[place[name]]
    return targets, shapes, "Faces are paired by name."


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
