"""Tables of landmarks: a row for each shape, or a row for each landmark."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..landmarks import LandmarkScheme, get_scheme
from ._record import (
    FRAMES,
    LandmarkFile,
    LandmarkFileError,
    Missing,
    Source,
    as_files,
    check_scheme,
    mark_missing,
    same_count,
    shorten,
    spell,
    whole_missing,
    write_text,
)

__all__ = ["read_csv", "write_csv"]

_COORDINATE = re.compile(r"([xyz])[_ ]?([0-9]{1,6})", re.IGNORECASE)
_IMAGE = ("image", "image_name", "image_path", "filename", "file_name", "file", "name", "path")
_LABEL = ("landmark", "point", "label", "index")
_GROUP = ("specimen", "id", "shape", "sample")


def read_csv(
    path: str | os.PathLike,
    *,
    missing: Missing = None,
    scheme: str | LandmarkScheme | None = None,
    frame: str = "pixels",
) -> list[LandmarkFile]:
    r"""Read the shapes of a table in either of two layouts, told apart by the header.

    One row a shape: coordinates in columns ``x0, y0, x1, y1, ...`` (or from ``x1``; ``x_0`` and ``X00`` too), the
    landmarks in the order of these numbers, wherever the columns stand. One row a landmark: columns ``x``, ``y``
    and perhaps ``z``, and a column ``image`` or ``specimen`` that says which rows form a shape.

    Parameters
    ----------
    path : path
        The file; commas, semicolons or tabs between the fields.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides an empty field, ``NA`` and ``nan``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many.
    frame : {"pixels", "y_up", "relative", "physical"}
        What the numbers are, as the table cannot say it.

    Returns
    -------
    list of LandmarkFile
        In the order of the table. The image name comes from a column ``image``, ``file`` or ``name``; the other
        columns are attributes, as text.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the column.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     _ = path.write_text("image,x0,y0,x1,y1\na.jpg,1,2,3,4\nb.jpg,5,6,,\n")
    ...     files = read_csv(path)
    >>> files[1].image_name, files[1].points.tolist()
    ('b.jpg', [[5.0, 6.0], [nan, nan]])
    """
    source = Source(path)
    scheme = None if scheme is None else get_scheme(scheme)
    if frame not in FRAMES:
        raise ValueError(f"frame: got {frame!r}; expected one of {', '.join(FRAMES)}.")
    mark_missing(np.zeros((1, 2)), missing)
    header, rows = read_table(source)
    wide = [_COORDINATE.fullmatch(name) for name in header]
    lower = [name.lower() for name in header]
    if any(wide):
        shapes = _wide(source, header, [(m[1].lower(), int(m[2])) if m else None for m in wide], rows)
    elif "x" in lower and "y" in lower:
        shapes = _long(source, header, lower, rows)
    else:
        raise source.error(
            f"header: got {shorten(', '.join(header), 80)}; expected columns x0, y0, ... or columns x and y.", 1
        )
    if not shapes:
        raise source.error("got a header and no rows; expected at least one shape.")
    files = []
    for points, labels, attributes in shapes:
        check_scheme(source.path, len(points), scheme)
        key = next((key for key in attributes if key.lower() in _IMAGE), None)
        image_name = attributes.pop(key) if key is not None else None
        files.append(
            LandmarkFile(
                mark_missing(points, missing), labels, scheme, image_name or None, frame, path=source.path,
                attributes=attributes,
            )
        )  # fmt: skip
    return files


_Shape = tuple[np.ndarray, tuple[str, ...] | None, dict[str, str]]


def read_table(source: Source) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows with their line; all rows have as many fields as the header."""
    first = source.text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(source.text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append((reader.line_num, [field.strip() for field in row]))
    except csv.Error as error:
        raise source.error(f"not a table: {error}.", reader.line_num) from None
    if not rows:
        raise source.error("got an empty file; expected a header.")
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise source.error(f"got {len(row)} fields; expected {len(header)}, as in the header.", number)
    repeated = [name for name, times in Counter(header).items() if name and times > 1]
    if repeated:
        raise source.error(f"header: got {shorten(repeated[0])!r} twice; expected different names.", rows[0][0])
    return header, rows[1:]


def _wide(
    source: Source, header: list[str], places: list[tuple[str, int] | None], rows: list[tuple[int, list[str]]]
) -> list[_Shape]:
    columns: dict[int, dict[str, int]] = {}
    for column, place in enumerate(places):
        if place is not None:
            axes = columns.setdefault(place[1], {})
            if place[0] in axes:
                raise source.error(f"header: got {place[0]}{place[1]} twice; expected different names.", 1)
            axes[place[0]] = column
    numbers = sorted(columns)
    axes_of_first = sorted(columns[numbers[0]])
    for number in numbers:
        if sorted(columns[number]) != axes_of_first or axes_of_first not in (["x", "y"], ["x", "y", "z"]):
            raise source.error(
                f"header: got {', '.join(sorted(columns[number]))} of landmark {number}; "
                "expected x and y (and z) of each.",
                1,
            )
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise source.error(
            f"header: got landmarks {numbers[0]}...{numbers[-1]}, {len(numbers)} of them; "
            "expected all numbers from 0 or from 1.", 1
        )  # fmt: skip
    order = [columns[number][axis] for number in numbers for axis in axes_of_first]
    others = [column for column, place in enumerate(places) if place is None]
    shapes: list[_Shape] = []
    titles = [header[column] for column in order]
    for line, row in rows:
        values = source.numbers([row[column] for column in order], titles, line)
        points = whole_missing(np.reshape(values, (len(numbers), -1)))
        shapes.append((points, None, {header[column]: row[column] for column in others}))
    return shapes


def _long(source: Source, header: list[str], lower: list[str], rows: list[tuple[int, list[str]]]) -> list[_Shape]:
    axes = [lower.index(axis) for axis in "xyz" if axis in lower]
    label = next((lower.index(name) for name in _LABEL if name in lower), None)
    keys = [i for i, name in enumerate(lower) if i not in axes and i != label and (name in _IMAGE or name in _GROUP)]
    others = [i for i in range(len(header)) if i not in axes and i != label]
    parts: dict[tuple[str, ...], list[tuple[int, list[str]]]] = {}
    for line, row in rows:
        parts.setdefault(tuple(row[i] for i in keys), []).append((line, row))
    shapes: list[_Shape] = []
    for members in parts.values():
        titles = [header[i] for i in axes]
        points = [source.numbers([row[i] for i in axes], titles, line) for line, row in members]
        labels = None if label is None else tuple(row[label] for _, row in members)
        if labels is not None and len(set(labels)) != len(labels):
            repeated = Counter(labels).most_common(1)[0][0]
            raise source.error(
                f"{header[label or 0]}: got {shorten(repeated)!r} twice in one shape. "
                "Try a column image or specimen that says which rows form a shape.", members[0][0]
            )  # fmt: skip
        shapes.append((whole_missing(points), labels, {header[i]: members[0][1][i] for i in others}))
    return shapes


def write_csv(path: str | os.PathLike, landmarks: Any, *, columns: Sequence[str] = ()) -> None:
    """Write shapes into a table, one row each, that `read_csv` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, n_dims) or (n, n_landmarks, n_dims)
        All with the same landmarks. A missing one is left empty. The first column is ``image`` when any of them names
        one.
    columns : sequence of str
        Attributes to write as columns before the coordinates.

    Raises
    ------
    LandmarkFileError
        For shapes that differ in their landmarks, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import write_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     write_csv(path, [[[1.0, 2.0]], [[0.1, float("nan")]]])
    ...     path.read_text().splitlines()
    ['x0,y0', '1.0,2.0', 'nan,nan']
    """
    files = as_files(landmarks, path)
    n_landmarks, n_dims = same_count(Path(path), files)
    images = any(file.image_name for file in files)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    coordinates = [f"{axis}{i}" for i in range(n_landmarks) for axis in "xyz"[:n_dims]]
    if len({*columns, "image", *coordinates}) != len(columns) + 1 + len(coordinates):
        raise LandmarkFileError(f"{Path(path)}: columns: got {list(columns)}; expected names that differ.")
    writer.writerow([*(["image"] if images else []), *columns, *coordinates])
    for file in files:
        points = whole_missing(np.asarray(file.points, dtype=np.float64))
        if np.isinf(points).any():
            raise LandmarkFileError(f"{Path(path)}: got an infinite coordinate; expected finite numbers or NaN.")
        first = [*([file.image_name or ""] if images else [])]
        first += ["" if file.attributes.get(name) is None else str(file.attributes[name]) for name in columns]
        row = [spell(value, missing="") for value in points.ravel().tolist()]
        if not any(first) and not any(row):
            row = ["nan"] * len(row)  # a row of empty fields would be read as an empty line
        writer.writerow([*first, *row])
    write_text(path, stream.getvalue())
