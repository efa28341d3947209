"""The vertices of ``.ply`` files, ASCII or binary, as landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, Missing, record
from ._source import LandmarkFileError, Source, read_bytes, shorten

__all__ = ["read_ply"]

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
_TYPES |= {"float": "f4", "double": "f8"}
_TYPES |= {np.dtype(code).name: code for code in _TYPES.values()}  # int8, float64, ...
_END = b"end_header"


def read_ply(path: PathLike, *, missing: Missing = None, scheme: SchemeLike | None = None) -> LandmarkFile:
    """Read the vertices of a ``.ply`` file as landmarks.

    Parameters
    ----------
    path : path
        The file, of version 1.0; the vertices must be its first element. Faces and all else are passed over.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides NaN: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many vertices.

    Returns
    -------
    LandmarkFile
        Frame ``"physical"``.

    Raises
    ------
    LandmarkFileError
        With the file and what is wrong with it.

    References
    ----------
    G. Turk, "The PLY Polygon File Format", Stanford, 1994.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_ply
    >>> text = '''ply
    ... format ascii 1.0
    ... element vertex 1
    ... property float x
    ... property float y
    ... property float z
    ... end_header
    ... 1 2 3
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.ply")
    ...     _ = path.write_text(text)
    ...     read_ply(path).points.tolist()
    [[1.0, 2.0, 3.0]]
    """
    path = Path(path)
    data = read_bytes(path)
    place = data.find(_END)
    source = Source(path, text=data[: max(place, 0)].decode("ascii", "replace"))
    lines = [line.split() for _, line in source.lines()]
    if place < 0 or not lines or lines[0] != ["ply"]:
        raise source.error("got no .ply file; expected 'ply' in the first line and 'end_header'.")
    coding, n, properties = _header(source, lines)
    start = data.find(b"\n", place) + 1
    if not start or n < 1:
        raise source.error(f"got {n} vertices; expected at least one.")
    if coding == "ascii":
        values = _ascii(Source(path, text=data[start:].decode("ascii", "replace")), n, [name for name, _ in properties])
    else:
        order = "<" if coding == "binary_little_endian" else ">"
        kind = np.dtype([(name, order + code) for name, code in properties])
        if n * kind.itemsize > len(data) - start:
            raise source.error(f"the header declares {n} vertices, but {len(data) - start} bytes follow; expected all.")
        table = np.frombuffer(data, kind, n, start)
        values = np.column_stack([table[axis].astype(np.float64) for axis in "xyz"])
    if np.isinf(values).any():
        raise source.error("got an infinite coordinate; expected finite numbers or NaN.")
    return record(source, values, scheme=scheme, frame="physical", missing=missing)


def _header(source: Source, lines: list[list[str]]) -> tuple[str, int, list[tuple[str, str]]]:
    """Return the coding, the number of vertices and their properties."""
    coding, n = "", -1
    properties: list[tuple[str, str]] = []
    element = None
    for words in lines[1:]:
        if words[0] == "format" and len(words) == 3:
            coding = words[1]
        elif words[0] == "element" and len(words) == 3:
            if element is None and words[1] != "vertex":
                raise source.error(f"got the element {shorten(words[1])!r} first; expected the vertices.")
            element = words[1]
            if element == "vertex":
                n = source.count(words[2], "element vertex", None)
        elif words[0] == "property" and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES:
                raise source.error(f"got the property {shorten(' '.join(words))!r} of vertices; expected a number.")
            properties.append((words[2], _TYPES[words[1]]))
    names = [name for name, _ in properties]
    if coding not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise source.error(f"format: got {shorten(coding)!r}; expected ascii or binary.")
    if not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise source.error(f"got vertices with {', '.join(names) or 'no properties'}; expected x, y and z.")
    return coding, n, properties


def _ascii(source: Source, n: int, names: list[str]) -> np.ndarray:
    rows: list[list[float]] = []
    for number, line in source.lines():
        if len(rows) == n:
            break
        fields = line.split()
        if len(fields) != len(names):
            raise LandmarkFileError(f"{source.path}: got {len(fields)} fields of a vertex; expected {len(names)}.")
        rows.append([source.number(fields[names.index(axis)], axis, number) for axis in "xyz"])
    if len(rows) != n:
        raise source.error(f"the header declares {n} vertices, but {len(rows)} follow it; expected all.")
    return np.array(rows)
