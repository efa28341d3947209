"""Arrays of numbers out of MATLAB files of level 5 (versions 5 to 7.2), read so that a damaged file cannot do harm.

SciPy's reader trusts the sizes inside a file and can end the process on a damaged one; this one knows only what
landmark sets need, real arrays of numbers at the top level, and checks every size against the bytes that are there.
The format is that of "MAT-File Format", The MathWorks, 2019, chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from ..formats import LandmarkFileError
from ..formats._source import read_bytes

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC = range(6, 16)  # double, single and the integers
_COMPLEX = 0x0800  # flag of the format
_LARGEST = 1 << 26  # bytes unpacked of one file; landmarks and poses have some kilobytes


class _Broken(Exception):
    pass


def read_mat5(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return the named arrays, each of its shape, as finite float64."""
    data = read_bytes(path)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack(f"{order}H", data[124:126])[0] != 0x0100:
        hint = " Files of version 7.3 are HDF5." if data[:10] == b"MATLAB 7.3" else ""
        raise LandmarkFileError(f"{path}: got no MATLAB file of version 5 to 7.2; expected one.{hint}")
    found: dict[str, np.ndarray | None] = {}
    budget = _LARGEST
    at = 128
    try:
        while at < len(data) and len(found) < len(wanted):
            kind, body, at = _element(data, at, order)
            if kind == _COMPRESSED:
                inflater = zlib.decompressobj()
                inflated = inflater.decompress(body, budget)
                if inflater.unconsumed_tail:
                    raise _Broken("more than 64 MiB when unpacked")
                budget -= len(inflated)
                kind, body, _ = _element(inflated, 0, order)
            if kind == _MATRIX:
                name, array = _matrix(body, order, wanted)
                if name in wanted:
                    found[name] = array
    except (_Broken, zlib.error) as error:
        raise LandmarkFileError(f"{path}: got a damaged MATLAB file ({error}); expected a whole one.") from None
    arrays = {}
    for name, shape in wanted.items():
        array = found.get(name)
        if array is None:
            raise LandmarkFileError(f"{path}: got no array {name!r}; expected numbers of shape {shape}.")
        if array.shape != shape or not np.isfinite(array).all():
            raise LandmarkFileError(f"{path}: {name}: got shape {array.shape}; expected finite numbers of {shape}.")
        arrays[name] = array
    return arrays


def _element(data: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """Return the type and the content of the element at a place, and the place of the next one."""
    if at + 8 > len(data):
        raise _Broken("it ends within an element")
    kind, size = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:  # up to four bytes packed into the tag itself
        size, kind = kind >> 16, kind & 0xFFFF
        if size > 4:
            raise _Broken("a short element is too long")
        return kind, data[at + 4 : at + 4 + size], at + 8
    if size > len(data) - at - 8:
        raise _Broken("an element is longer than the file")
    stop = at + 8 + size
    padded = stop if kind == _COMPRESSED else stop + -size % 8
    return kind, data[at + 8 : stop], padded


def _matrix(body: bytes, order: str, wanted: dict[str, tuple[int, ...]]) -> tuple[str, np.ndarray | None]:
    """Return the name of an array and its numbers, or None for what holds no real numbers or is not wanted."""
    kind, flags, at = _element(body, 0, order)
    if kind != 6 or len(flags) != 8:
        return "", None  # an opaque object has other parts
    word = struct.unpack(f"{order}I", flags[:4])[0]
    kind, sizes, at = _element(body, at, order)
    if kind != 5 or len(sizes) % 4:
        raise _Broken("an array has no dimensions")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, label, at = _element(body, at, order)
    name = label.decode("latin-1")
    if name not in wanted or (word & 0xFF) not in _NUMERIC or word & _COMPLEX:
        return name, None
    kind, content, _ = _element(body, at, order)
    if kind not in _TYPES:
        raise _Broken(f"{name} is of an unknown type")
    dtype = np.dtype(order + _TYPES[kind])
    size = 1
    for length in shape:
        size *= length
    if any(length < 0 for length in shape) or size * dtype.itemsize != len(content):
        raise _Broken(f"{name} declares shape {shape} and has {len(content)} bytes")
    return name, np.frombuffer(content, dtype).reshape(shape, order="F").astype(np.float64)
