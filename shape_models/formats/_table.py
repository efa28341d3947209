"""Tables with a header: fields between commas, semicolons, tabs or blanks, and what their columns are called."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from ._record import Source, shorten

Rows = list[tuple[int, list[str]]]
_SAMPLE = 20  # rows


def read_rows(source: Source) -> Rows:
    """Return the fields of every row that is not empty, with its line."""
    rows = list(_rows(source, _delimiter(source)))
    if not rows:
        raise source.error("got an empty file; expected a header.")
    return rows


def _delimiter(source: Source) -> str:
    """Return what stands between the fields: that which cuts the first rows into the most fields, as many in each."""
    found = []
    for delimiter in ";\t," if source.decimal == "," else ",;\t":
        counts = [len(row) for _, row in islice(_rows(source, delimiter), _SAMPLE)]
        alike = len(set(counts[1:])) <= 1 and (len(counts) < 2 or counts[1] - counts[0] in (0, 1))
        if counts and max(counts) > 1:
            found.append((alike, max(counts) if source.decimal == "." else 0, delimiter))
    return max(found, key=lambda item: item[:2])[2] if found else " "


def _rows(source: Source, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(source.text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if delimiter == " ":
                fields = [field for field in fields if field]
            if any(fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise source.error(f"not a table: {error}.", reader.line_num) from None


def read_table(
    source: Source, *, header: bool = True, columns: Mapping[str, str | None] | Sequence[str] | None = None
) -> tuple[list[str], Rows]:
    """Return the names of the columns and the rows with their line; all rows have as many fields as there are names.

    A header that is one name shorter than the rows, as R's ``write.table`` makes it, gets an empty name in front.
    """
    rows = read_rows(source)
    line = 1
    if header:
        (line, names), rows = rows[0], rows[1:]
        if rows and all(len(row) == len(names) + 1 for _, row in rows):
            names = ["", *names]
    elif columns is None or isinstance(columns, Mapping):
        raise ValueError("header=False: got no names; expected them all in columns=, such as ['image', 'x', 'y'].")
    if columns is not None and not isinstance(columns, Mapping):
        names = [str(name) for name in columns]
    for number, row in rows:
        if len(row) != len(names):
            raise source.error(f"got {len(row)} fields; expected {len(names)}, as in the header.", number)
    if isinstance(columns, Mapping):
        for name in columns:
            if name not in names:
                raise source.error(f"columns: got {name!r}; expected one of {shorten(', '.join(names), 80)}.", line)
        kept = [i for i, name in enumerate(names) if columns.get(name, name) is not None]
        names = [str(columns.get(names[i], names[i])) for i in kept]
        rows = [(number, [row[i] for i in kept]) for number, row in rows]
    repeated = [name for name, times in Counter(names).items() if name and times > 1]
    if repeated:
        raise source.error(f"header: got {shorten(repeated[0])!r} twice; expected different names.", line)
    if source.decimal == ",":
        rows = [(number, [field.replace(",", ".") for field in row]) for number, row in rows]
    return names, rows
