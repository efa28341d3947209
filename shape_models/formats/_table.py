"""Tables with a header: fields between commas, semicolons, tabs or blanks, and what their columns are called."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

from .._options import check_flags
from ._source import Source, shorten

Rows = list[tuple[int, list[str]]]
_SAMPLE = 20  # rows
_EXCEL = re.compile(r'\s*"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)


def read_rows(source: Source) -> Rows:
    """Return the fields of every row that is not empty, with its line; comments and Excel's ``sep=`` are left out."""
    said = _EXCEL.match(source.text)
    delimiter = said[1] if said else _delimiter(source)
    rows = list(_rows(source, delimiter))[1 if said else 0 :]
    most = Counter(len(row) for _, row in rows).most_common(1)
    rows = [(line, row) for line, row in rows if not row[0].startswith("#") or len(row) == most[0][0]]
    if not rows:
        raise source.error("got an empty file; expected a header.")
    return rows


def _delimiter(source: Source) -> str:
    """Return what stands between the fields: that which cuts the first rows into the most fields, as many in each."""
    found = []
    for delimiter in ";\t," if source.decimal == "," else ",;\t":
        rows = [row for _, row in islice(_rows(source, delimiter), _SAMPLE)]
        counts = [len(row) for row in rows if not row[0].startswith("#")] or [len(row) for row in rows]
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
        raise source.error(
            f"not a table: {error}; expected fields between commas, semicolons, tabs or blanks.", reader.line_num
        ) from None


def _are_data(source: Source, names: list[str]) -> bool:
    """Whether a first row holds coordinates: numbers only, which do not count the columns."""
    try:
        values = [float(name.replace(source.decimal, ".")) for name in names if name]
    except ValueError:
        return False
    if len(values) < 2:
        return False
    return not (values[0].is_integer() and all(after - before == 1 for before, after in pairwise(values)))


def read_table(
    source: Source, *, header: bool = True, columns: Mapping[Any, str | None] | Sequence[str] | None = None
) -> tuple[list[str], Rows]:
    """Return the names of the columns and the rows with their line; all rows have as many fields as there are names.

    A header that is one name shorter than the rows, as R's ``write.table`` makes it, gets an empty name in front, or,
    where the last field of all rows is empty, at its end. Columns without a name and a value are left out.
    """
    rows = read_rows(source)
    line = 1
    check_flags(header=header)
    if header:
        (line, names), rows = rows[0], rows[1:]
        names = [" ".join(name.split()) for name in names]
        names[0] = names[0].lstrip("# ")
        if not isinstance(columns, Mapping) and _are_data(source, names):
            half = "xyz" if len(names) % 2 else "xy"
            raise source.error(
                f"header: got the numbers {shorten(', '.join(names), 60)}; expected names. Try header=False, "
                f"columns=[f'{{axis}}{{i}}' for i in range({len(names) // len(half)}) for axis in '{half}'], "
                "if a row holds x0, y0, x1, ...",
                line,
            )
        rows = [(number, row) for number, row in rows if row != names]  # tables that were put one behind the other
        if rows and all(len(row) == len(names) + 1 for _, row in rows):
            names = ["", *names] if any(row[-1] for _, row in rows) else [*names, ""]
    else:
        if columns is None:
            raise ValueError(
                "header=False: got no names; expected them in columns=, all (['image', 'x', 'y']) or some by their "
                "number from 0 ({0: 'image', 3: 'x', 4: 'y'})."
            )
        names = [str(i) for i in range(len(rows[0][1]))]
        if isinstance(columns, Mapping):
            columns = {**dict.fromkeys(names), **{str(place): name for place, name in columns.items()}}
    if columns is not None and not isinstance(columns, Mapping):
        names = [str(name) for name in columns]
    given = "columns=" if columns is not None and not isinstance(columns, Mapping) else "the header"
    for number, row in rows:
        if len(row) != len(names):
            raise source.error(f"got {len(row)} fields; expected {len(names)}, as in {given}.", number)
    if isinstance(columns, Mapping):
        for name in columns:
            if name not in names:
                raise source.error(f"columns: got {name!r}; expected one of {shorten(', '.join(names), 80)}.", line)
    else:
        columns = {}
    kept = [i for i, name in enumerate(names) if columns.get(name, name) is not None]
    kept = [i for i in kept if names[i] or any(row[i] for _, row in rows)]
    names = [str(columns.get(names[i], names[i])) for i in kept]
    rows = [(number, [row[i] for i in kept]) for number, row in rows]
    if "" in names[1:]:
        raise source.error(
            f"header: got no name for column {kept[names.index('', 1)] + 1}; expected one for each. Try columns= with "
            "all of them.",
            line,
        )
    repeated = [name for name, times in Counter(names).items() if name and times > 1]
    if repeated:
        raise source.error(f"header: got {shorten(repeated[0])!r} twice; expected different names.", line)
    if source.decimal == ",":
        rows = [(number, [source.pointed(field) for field in row]) for number, row in rows]
    return names, rows
