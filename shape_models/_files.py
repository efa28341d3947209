"""Files that appear as a whole or not at all, and what may be read as a file."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ._typing import PathLike

_PREFIX = ".part-"  # of the names of files that are being written


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it takes the place of `path` when the block ends well.

    A crash, an interruption or a full disk leaves what stood at `path` as it was. A link stays a link: what it points
    to is replaced. What a killed process left over is removed by the next writing of the same name.

    Raises
    ------
    OSError
        When the folder does not exist or cannot be written to, or `path` is a folder, a device or a pipe. The message
        speaks of `path`, not of the temporary name.
    """
    asked = os.fspath(path)
    try:
        target = Path(os.path.realpath(asked))
        _refuse_irregular(Path(asked), asked)
        _sweep(target)
        handle, temporary = _locked(target)
    except ValueError as error:  # a null byte
        raise OSError(f"{asked!r}: got a name that no file can have ({error}).") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{asked}: got no folder {Path(asked).parent}; expected one that exists.") from None
    except OSError as error:
        raise _named(error, asked) from None
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        else:
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        _refuse_irregular(Path(asked), asked)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is not None and str(temporary) in str(error.filename):
            raise _named(error, asked) from None
        raise
    finally:
        os.close(handle)


def regular(path: PathLike) -> Path:
    """Return the path of a regular file, or of a link to one; a pipe or a device would never end.

    Raises
    ------
    OSError
        When there is no such file, or it is a folder, a pipe, a socket or a device.
    """
    kind = _irregular(Path(path))
    if kind:
        raise OSError(f"{os.fspath(path)}: got a {kind}; expected a file.")
    Path(path).stat()
    return Path(path)


def write_text(path: PathLike, text: str) -> None:
    """Write text, UTF-8 with Unix line ends, as a whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write bytes as a whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def plain_json(value: object) -> object:
    """Return what JSON can hold in the place of an array, a NumPy scalar or anything else: for ``default=``."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _irregular(path: Path) -> str:
    """Name what stands at a path if it is no regular file; "" for a file and for nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    kinds = {
        stat.S_ISREG: "",
        stat.S_ISDIR: "folder",
        stat.S_ISFIFO: "pipe",
        stat.S_ISCHR: "device",
        stat.S_ISBLK: "device",
        stat.S_ISSOCK: "socket",
    }
    return next((kind for test, kind in kinds.items() if test(mode)), "thing that is no file")


def _refuse_irregular(path: Path, asked: str) -> None:
    kind = _irregular(path)
    if kind == "folder":
        raise IsADirectoryError(f"{asked}: got a folder; expected the name of a file in it.")
    if kind:
        raise OSError(f"{asked}: got a {kind}; expected a file, or a name that is free.")


def _prefix(target: Path) -> str:
    return f"{_PREFIX}{target.stem[:40]}."


def _locked(target: Path) -> tuple[int, Path]:
    """Return an open temporary file beside the target, locked for as long as its writer lives."""
    while True:
        # The ending stays the last part of the name: writers choose their format by it.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=target.suffix)
        if _lock(handle, wait=True):
            with suppress(OSError):
                if os.path.samestat(os.stat(name), os.fstat(handle)):  # noqa: PTH116
                    return handle, Path(name)
        os.close(handle)  # another process swept it away between its creation and the lock


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file for this process; say whether that worked."""
    try:
        import fcntl
    except ImportError:  # Windows, where nothing is swept away
        return wait
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by its writer, or a file system without locks
        return wait
    return True


def _sweep(target: Path) -> None:
    """Remove what killed processes left over of the same name: no living one holds its lock."""
    start = _prefix(target)
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start)]
    for name in names:
        rest = name.removeprefix(start)
        if not rest.endswith(target.suffix) or "." in rest.removesuffix(target.suffix):
            continue
        with suppress(OSError):
            handle = os.open(target.parent / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(handle, wait=False):
                    (target.parent / name).unlink()
            finally:
                os.close(handle)


def _named(error: OSError, asked: str) -> OSError:
    """Return the error with the name that the caller gave, not the temporary one."""
    if error.filename is None or error.errno is None:
        return error
    return type(error)(error.errno, error.strerror, asked)
