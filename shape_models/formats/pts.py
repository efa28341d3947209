"""The ``.pts`` files of iBUG, and the other format of that name (IDAV Landmark Editor)."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._columns import Columns
from ._record import EXACT, LandmarkFile, LandmarksLike, Missing, exactly, mark_missing, record, spell, whole_missing
from ._source import Source, shorten
from ._target import Target

__all__ = ["read_pts", "write_pts"]

_HEADER = re.compile(r"([A-Za-z_]+)\s*:\s*(.*)")
_SHORT = re.compile(r"(?:[+-]?(?=[0-9.]{1,15}(?: |$))(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?: |$))+")
_UNITS = np.array([float(10**k) for k in range(16)])


def read_pts(
    path: PathLike,
    *,
    origin: float = 1,
    columns: str | None = None,
    decimal: str = ".",
    missing: Missing = None,
    scheme: SchemeLike | None = None,
) -> LandmarkFile:
    r"""Read a ``.pts`` file: a header, and the points one a line between braces.

    Parameters
    ----------
    path : path
        The file. Case, spaces, empty lines, a byte-order mark and CRLF do not matter.
    origin : float
        The coordinate that the file gives to the centre of the first pixel: 1 in the files of iBUG, 0 in those that
        some tools write into the same syntax. It is subtracted, so that the points count from 0.
    columns : str, optional
        What the columns are, one letter each: x, y, z, v (visibility; 0 is missing), c (confidence), i (number of the
        landmark), l (label), - (nothing). Two columns are x and y; a third one says nothing of itself, so it needs
        this, or a line ``columns: x y z`` in the header, which `write_pts` writes.
    decimal : {".", ","}
        What stands before the decimals of the numbers.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides ``nan``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile
        Frame ``"pixels"``. A file of the IDAV Landmark Editor (``Version 1.0``, a count, ``S000 x y z``) has the same
        extension: it is recognised, read as it is into frame ``"physical"`` with its labels, 9999 marking a missing
        point, and `origin` does not apply.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the field.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import read_pts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.pts")
    ...     _ = path.write_text("version: 1\nn_points: 2\n{\n1.0 1.0\n11.5 21.25\n}\n")
    ...     read_pts(path).points
    array([[ 0.  ,  0.  ],
           [10.5 , 20.25]])
    """
    source = Source.of(path, decimal=decimal)
    lines = list(source.lines())
    if lines and re.fullmatch(r"version\s+[0-9.]+", lines[0][1], re.IGNORECASE):
        return _read_idav(source, lines, missing, scheme)
    declared, written, rows = _split(source, lines)
    split = source.fields if decimal == "," or "," in source.text or ";" in source.text else str.split
    table = [(number, split(line)) for number, line in rows]
    layout = Columns(source, written if columns is None else columns, table)
    points, stored = _numbers(source, layout, origin)
    if declared is not None and len(points) != declared:
        raise source.error(f"n_points: got {declared}, but the file has {len(points)} points; expected as many.")
    if not len(points):
        raise source.error("got no points; expected at least one.")
    if missing is not None:
        points = mark_missing(whole_missing(points), missing, stored)
    return layout.record(points, scheme=scheme)


def _numbers(source: Source, layout: Columns, origin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates less the origin in x and y, subtracted before they are rounded, and as they are stored."""
    rows = layout.tokens()
    tokens = [token for row in rows for token in row]
    if tokens and origin in (0, 1) and _SHORT.fullmatch(" ".join(tokens)):
        # at most 15 digits: value * unit and the difference are exact integers, and one division rounds correctly
        units = _UNITS[[len(t.partition(".")[2]) for t in tokens]]
        whole = np.rint(np.array(tokens, dtype=np.float64) * units).reshape(len(rows), -1)
        units = units.reshape(whole.shape)
        stored = whole / units
        whole[:, :2] -= origin * units[:, :2]
        return whole / units, stored
    stored = np.array(
        [source.numbers(row, layout.axes, number) for (number, _), row in zip(layout.table, rows, strict=True)]
    ).reshape(len(rows), len(layout.axes))
    points, shift = stored.copy(), Decimal(repr(float(origin)))
    for place in zip(*np.nonzero(~np.isnan(stored[:, :2])), strict=True) if shift else ():
        points[place] = exactly(rows[place[0]][place[1]], lambda value: EXACT.subtract(value, shift))
    return points, stored


def _split(source: Source, lines: list[tuple[int, str]]) -> tuple[int | None, str | None, list[tuple[int, str]]]:
    """Return the declared count, what the header says of the columns, and the lines between the braces."""
    declared = columns = None
    rows: list[tuple[int, str]] = []
    state = "header"
    for number, line in lines:
        if state == "points" and "}" not in line:
            rows.append((number, line))
            continue
        if state == "header":
            before, brace, after = line.partition("{")
            if header := _HEADER.fullmatch(before.strip()):
                key = header[1].lower()
                if key == "n_points":
                    declared = source.count(header[2].strip(), "n_points", number)
                elif key == "columns":
                    columns = header[2]
                    if not re.fullmatch(r"\s*x\s*y\s*z?\s*", columns):
                        raise source.error(f"columns: got {shorten(columns)!r}; expected 'x y' or 'x y z'.", number)
                elif key == "version" and header[2].strip() not in ("1", "1.0"):
                    raise source.error(f"version: got {shorten(header[2])!r}; expected 1.", number)
            elif before.strip():
                raise source.error(f"got {shorten(line)!r}; expected 'version: 1', 'n_points: ...' or a brace.", number)
            if not brace:
                continue
            state, line = "points", after.strip()
        elif state == "end":
            raise source.error(f"got {shorten(line)!r} after the brace; expected one shape a file.", number)
        line, brace, after = line.partition("}")
        if line.strip():
            rows.append((number, line.strip()))
        if brace:
            state = "end"
            if after.strip():
                raise source.error(f"got {shorten(after)!r} after the brace; expected one shape a file.", number)
    if state != "end":
        missing = "a closing brace" if state == "points" else "points between braces"
        raise source.error(f"the file ends without {missing}; expected n_points lines between braces.")
    return declared, columns, rows


def _read_idav(
    source: Source, lines: list[tuple[int, str]], missing: Missing, scheme: SchemeLike | None
) -> LandmarkFile:
    if len(lines) < 2:
        raise source.error("the file ends after its version; expected the number of points.")
    declared = source.count(lines[1][1], "number of points", lines[1][0])
    labels, points = [], []
    for number, line in lines[2:]:
        fields = line.split()
        if len(fields) != 4:
            raise source.error(f"got {len(fields)} fields ({shorten(line)!r}); expected a label, x, y and z.", number)
        labels.append(fields[0])
        point = [source.number(token, axis, number) for axis, token in zip("xyz", fields[1:], strict=True)]
        points.append([np.nan] * 3 if point == [9999.0] * 3 else point)  # what that program writes for a missing one
    if len(points) != declared:
        raise source.error(f"number of points: got {declared}, but the file has {len(points)}; expected as many.")
    if not points:
        raise source.error("got no points; expected at least one.")
    return record(source, points, labels=labels, scheme=scheme, frame="physical", missing=missing)


def write_pts(path: PathLike, landmarks: LandmarksLike, *, origin: float = 1) -> None:
    """Write a ``.pts`` file that `read_pts` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : array_like of shape (n_landmarks, n_dims) or LandmarkFile
        Pixels from 0; a missing landmark (NaN) is written as ``nan``, which not every program reads. Labels and
        attributes are not kept, as the format has no place for them. Three dimensions are announced by a line
        ``columns: x y z`` in the header, which other programs pass over.
    origin : float
        The coordinate of the centre of the first pixel in the file.

    Raises
    ------
    LandmarkFileError
        For landmarks of another shape, infinities, a frame that is not ``"pixels"``, and when the file cannot be
        written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import read_pts, write_pts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.pts")
    ...     write_pts(path, [[0.1, 2.0]])
    ...     path.read_text().splitlines()[3], read_pts(path).points.tolist()
    ('1.1 3', [[0.1, 2.0]])
    """
    target = Target(path)
    target.refuse_frame(landmarks, "pixels")
    points = target.points(landmarks)
    shift = Decimal(repr(float(origin)))
    shifted = (lambda number: EXACT.add(number, shift)) if shift else None
    rows = [
        " ".join(spell(value, shifted if axis < 2 else None) for axis, value in enumerate(point))
        for point in points.tolist()
    ]
    columns = ["columns: x y z"] if points.shape[1] == 3 else []
    target.write("\n".join(["version: 1", f"n_points: {len(rows)}", *columns, "{", *rows, "}", ""]))
