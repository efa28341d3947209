"""MATLAB files of version 7.3, which are HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def opened(path: Path, error: type[Exception]) -> Iterator[Any]:
    """Open a MATLAB file of version 7.3; whatever fails while it is open is an `error` of a damaged file."""
    try:
        import h5py
    except ImportError:
        raise ImportError("COFW is MATLAB v7.3, which needs h5py. Try pip install shape-models[h5].") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except error:
        raise
    except Exception as fault:  # HDF5 has many ways to fail on a damaged file
        raise error(f"{path}: cannot be read as MATLAB v7.3 ({str(fault)[:80]}).") from None
