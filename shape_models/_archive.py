"""The file of a model: one ``.npz`` with a JSON header and arrays of plain numbers, checked before they are read."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._array import refuse_masked
from ._files import atomic, regular
from ._options import as_path
from ._typing import PathLike

FORMAT = "shape_models"
FORMAT_VERSION = 1  # grows when older versions of the library could not read a file

# A face model takes under 1 MB; these only stop files made to exhaust memory.
_MAX_BYTES = 1 << 30
_MAX_HEADER = 1 << 20
_MAX_ENTRIES = 4096
_ENTRY = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+){0,8}")
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|])([fiub])([1248])', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,15},|\d{1,15}(?:, ?\d{1,15}){1,7})\), ?\} *\n"
)


class ModelFileError(ValueError):
    """A file that is no model: truncated, foreign, damaged, or written by a newer version.

    Examples
    --------
    >>> from shape_models.io import ModelFileError
    >>> issubclass(ModelFileError, ValueError)
    True
    """


def write_archive(path: PathLike, kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """Write a JSON header and named arrays to one ``.npz`` file, atomically.

    Parameters
    ----------
    path : path
        Where to; an existing file is replaced.
    kind : str
        What the file is; `load_model` finds the loader by it.
    header : mapping of str
        What JSON can hold; finite numbers only.
    arrays : mapping of str to array
        Numbers or booleans of at most 8 bytes; names of letters, digits, ``_``, and dots between them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For a header JSON cannot hold, or arrays of objects or text.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from shape_models.io import read_archive, write_archive
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_archive(Path(folder) / "a.npz", "Example", {"unit": "mm"}, {"points": np.zeros((2, 3))})
    ...     kind, header, arrays = read_archive(path)
    >>> kind, header["unit"], arrays["points"].shape
    ('Example', 'mm', (2, 3))
    """
    from . import __version__

    path = as_path(path)
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "library_version": __version__}
    clash = whole.keys() & header.keys()
    if clash:
        raise ValueError(f"header: got {sorted(clash)}, which the file sets itself; expected other names.")
    try:
        text = json.dumps({**whole, **header}, allow_nan=False, ensure_ascii=True, indent=1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"header: got something JSON cannot hold: {error}") from None
    if len(text) > _MAX_HEADER:
        raise ValueError(f"header: got {len(text)} bytes of JSON; expected at most {_MAX_HEADER}.")
    entries = {"header": np.frombuffer(text.encode(), dtype=np.uint8)}
    for name, value in arrays.items():
        refuse_masked(value, f"arrays[{name!r}]")
        array = np.asarray(value)
        if not _ENTRY.fullmatch(name) or name == "header":
            raise ValueError(f"arrays: got the name {name!r}; expected letters, digits, _ and dots between them.")
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise ValueError(f"arrays[{name!r}]: got {array.dtype}; expected numbers or booleans of at most 8 bytes.")
        entries[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"arrays: got {len(arrays)}; expected fewer than {_MAX_ENTRIES}.")
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **entries)
    return path


def read_archive(path: PathLike, *, max_bytes: int = _MAX_BYTES) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote.

    Parameters
    ----------
    path : path
        The file.
    max_bytes : int
        Most that its arrays may take in memory together; declared sizes are checked first.

    Returns
    -------
    kind : str
    header : dict
    arrays : dict of str to ndarray

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        For anything but a complete file of this format; pickled objects are never read.

    Examples
    --------
    >>> from shape_models.io import ModelFileError, read_archive
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     try:
    ...         read_archive(file.name)
    ...     except ModelFileError as error:
    ...         print("refused")
    refused
    """
    path = as_path(path)
    try:
        size = regular(path).stat().st_size
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: no model file: {error}") from None
    if size > max_bytes:
        raise ModelFileError(f"{path}: got a file of {size} bytes; expected at most {max_bytes}.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _directory(archive, max_bytes)
            header = _header(_entry(archive, entries.pop("header")))
            version = header["format_version"]
            arrays = _READERS[version](archive, entries)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__
    except Exception as error:  # the zip directory is hostile input, and zipfile promises no list of errors
        raise ModelFileError(f"{path}: no model file, or a damaged one: {error}") from error
    return header["kind"], header, arrays


def _directory(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Check all that the zip directory declares before anything is read."""
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise ModelFileError(f"got {len(infos)} entries; expected at most {_MAX_ENTRIES}.")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise ModelFileError(f"got {total} bytes declared; expected at most {max_bytes}.")
    entries = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or not _ENTRY.fullmatch(name) or name in entries:
            raise ModelFileError(f"got an entry {info.filename[:80]!r}; expected distinct plain names ending in .npy.")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(f"got an entry {name!r} that is encrypted or packed in an unusual way.")
        entries[name] = info
    if "header" not in entries:
        raise ModelFileError("got an .npz file without header; expected one written by save_model.")
    if entries["header"].file_size > _MAX_HEADER + 1024:
        raise ModelFileError(f"got a header of {entries['header'].file_size} bytes; expected at most {_MAX_HEADER}.")
    return entries


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        start = file.read(10)
        if len(start) < 10 or start[:8] != b"\x93NUMPY\x01\x00":
            raise ModelFileError(f"the entry {name!r} is no array.")
        length = int.from_bytes(start[8:10], "little")
        match = _NPY_HEADER.fullmatch(file.read(length))
        if match is None:
            raise ModelFileError(f"the entry {name!r} is no plain array of numbers (objects are never read).")
        order, kind, width, fortran, dims = match.groups()
        shape = tuple(int(d) for d in dims.split(b",") if d.strip())
        if (kind == b"f" and width == b"1") or (kind == b"b" and width != b"1"):
            raise ModelFileError(f"the entry {name!r} has an unknown type.")
        dtype = np.dtype((order + kind + width).decode())
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes != info.file_size - 10 - length:
            raise ModelFileError(
                f"the entry {name!r} declares an array of shape {shape} with {n_bytes} bytes; "
                f"got {info.file_size - 10 - length}."
            )
        data = file.read(n_bytes)
        if len(data) != n_bytes or file.read(1):
            raise ModelFileError(f"the entry {name!r} is truncated.")
    if kind == b"b" and max(data, default=0) > 1:
        raise ModelFileError(f"the entry {name!r} has booleans other than 0 and 1.")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran == b"True" else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(array: np.ndarray) -> dict[str, Any]:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ModelFileError("the header is no text.")

    def refuse(constant: str) -> None:
        raise ModelFileError(f"the header has the number {constant}; expected finite ones.")

    try:
        header = json.loads(array.tobytes().decode(), parse_constant=refuse)
    except RecursionError:
        raise ModelFileError("the header is nested too deeply.") from None
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"the header does not name the format {FORMAT!r}: a foreign file.")
    version, kind = header.get("format_version"), header.get("kind")
    if type(version) is not int or version not in _READERS:
        raise ModelFileError(f"got format version {version!r}; expected {sorted(_READERS)}. Try a newer version.")
    if not isinstance(kind, str):
        raise ModelFileError(f"got kind {kind!r}; expected a name.")
    return header


def _read_version_1(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    return {name: _entry(archive, info) for name, info in entries.items()}


# One reader for each version ever written; none is removed.
_READERS: dict[int, Callable[[zipfile.ZipFile, dict[str, zipfile.ZipInfo]], dict[str, np.ndarray]]] = {
    1: _read_version_1
}


def floats(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return a named array, which must be of floats."""
    if arrays[name].dtype.kind != "f":
        raise ValueError(f"{name}: got {arrays[name].dtype}; expected floats.")
    return arrays[name]


def expect(header: dict[str, Any], name: str, value: Any) -> None:
    """Refuse a header whose entry is another value."""
    if header[name] != value:
        raise ValueError(f"{name}: got {header[name]!r}; expected {value!r}.")


_CALLED = {float: "a number", int: "an integer", bool: "true or false"}


def entry(header: dict[str, Any], name: str, *kinds: type) -> Any:
    """Return an entry of the header that is of one of these kinds and of no kind derived from them."""
    if type(header[name]) not in kinds:
        raise ValueError(f"{name}: got {header[name]!r}; expected {_CALLED[kinds[-1]]}.")
    return kinds[-1](header[name])
