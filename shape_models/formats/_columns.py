"""What the columns of a table without a header mean, one row for each landmark."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._record import LandmarkFile, record
from ._source import LandmarkFileError, Source, shorten

_MEANINGS = "x, y, z; v visibility (0 is missing); c confidence; i number of the landmark; l label; - nothing"


class Columns:
    """The meaning of each column, and the tokens of all rows.

    Parameters
    ----------
    source : Source
        The file, for errors.
    columns : str or None
        One letter for each column: x, y, z, v (visibility; 0 is missing), c (confidence), i (number of the landmark),
        l (label), - (nothing). None takes two columns as x and y and refuses others, as they say nothing of themselves.
    table : list of (line number, fields)
        The rows.
    """

    def __init__(self, source: Source, columns: str | None, table: list[tuple[int, list[str]]]) -> None:
        self.source, self.table = source, table
        n = len(table[0][1]) if table else 2
        if columns is None:
            columns = "xy"
            if n in (3, 4):
                raise source.error(f"got {n} columns; {_describe(source, table)} One letter a column: {_MEANINGS}.")
        self.letters = _check(columns)
        self.axes = [axis for axis in "xyz" if axis in self.letters]
        wanted = len(self.letters)
        for number, fields in table:
            if len(fields) != wanted:
                raise source.error(
                    f"got {len(fields)} fields ({shorten(' '.join(fields))!r}); "
                    f"expected the {wanted} coordinates of a point."
                    + (" Try a table .csv with a header x0, y0, x1, ... for a shape in a row." if n > 4 else ""),
                    number,
                )
        self._places = [self.letters.index(axis) for axis in self.axes]

    def tokens(self) -> list[list[str]]:
        """Return the coordinates of every row as they are spelled, x first."""
        if self.letters in ("xy", "xyz"):
            return [fields for _, fields in self.table]
        return [[fields[place] for place in self._places] for _, fields in self.table]

    def record(self, points: np.ndarray, **options: Any) -> LandmarkFile:
        """Return the record of the points, with what the other columns say, in the order of their numbers."""
        attributes: dict[str, Any] = dict(options.pop("attributes", None) or {})
        labels = self._column("l")
        for letter, name in (("v", "visibility"), ("c", "confidence")):
            if letter in self.letters:
                attributes[name] = self._numbers(letter, name)
        if "i" in self.letters:
            numbers = self._numbers("i", "number of the landmark")
            order = np.argsort(numbers, kind="stable")
            if not np.isin(numbers[order[0]], (0, 1)) or not (np.diff(numbers[order]) == 1).all():
                raise self.source.error("number of the landmark: expected each number from 0 or from 1 once.")
            points = points[order]
            labels = None if labels is None else [labels[i] for i in order]
            attributes |= {key: attributes[key][order] for key in ("visibility", "confidence") if key in attributes}
        return record(self.source, points, labels=labels, attributes=attributes, **options)

    def _column(self, letter: str) -> list[str] | None:
        place = self.letters.find(letter)
        return None if place < 0 else [fields[place] for _, fields in self.table]

    def _numbers(self, letter: str, name: str) -> np.ndarray:
        place = self.letters.index(letter)
        return np.array([self.source.number(fields[place], name, number) for number, fields in self.table])


def _check(columns: Any) -> str:
    letters = "".join(columns.split()) if isinstance(columns, str) else ""
    named = letters.replace("-", "")
    if set(letters) - set("xyzvcil-") or len(set(named)) != len(named) or not {"x", "y"} <= set(letters):
        raise ValueError(f"columns: got {columns!r}; expected one letter for each column, x and y once: {_MEANINGS}.")
    return letters


def _describe(source: Source, table: list[tuple[int, list[str]]]) -> str:
    """Say what columns without a name look like, and what to try."""
    try:
        values = np.array([[source.number(token, "", number) for token in fields] for number, fields in table])
    except (LandmarkFileError, ValueError):
        return "expected x and y."
    n = values.shape[1]
    first, last = values[:, 0], values[:, -1]
    if np.array_equal(first - first[0], np.arange(len(first))) and first[0] in (0, 1):
        return f"the first looks like the number of the landmark. Try columns='i{'xyz'[: n - 1]}', or 'xyz' for z."
    if np.isin(last, (0, 1, 2)).all():
        return f"the last looks like flags. Try columns='{'xyz'[: n - 1]}v', or 'xyz' if it is z."
    if ((last >= 0) & (last <= 1)).all():
        return f"the last looks like a confidence. Try columns='{'xyz'[: n - 1]}c', or 'xyz' if it is z."
    return "expected x and y. Try columns='xyz' if the third is z." if n == 3 else "expected x and y. Try columns=."
