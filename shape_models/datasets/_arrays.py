"""Arrays out of ``.npz`` files, checked before they are read; never a pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..formats import LandmarkFileError
from ..formats._source import MAX_BYTES
from ..formats.npy import parse_array


def read_arrays(path: Path, wanted: Mapping[str, tuple[int | None, ...]] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of numbers and of text in a ``.npz`` file.

    With `wanted`, exactly those, each of the shape given, in which None is any number, the same for all of them.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > MAX_BYTES:
                raise LandmarkFileError(f"{path}: got more than 1 GiB of arrays; expected a landmark file.")
            for info in members:
                name = info.filename.removesuffix(".npy")
                if wanted is None or name in wanted:
                    with archive.open(info) as stream:
                        data = stream.read(info.file_size + 1)
                    arrays[name] = parse_array(f"{path}, array {name}", data, text=True)
    except FileNotFoundError:
        raise LandmarkFileError(f"{path}: got no such file; expected a .npz file.") from None
    except LandmarkFileError:
        raise
    except Exception as error:  # zipfile and zlib fail in many ways on a damaged file
        raise LandmarkFileError(f"{path}: got no .npz file ({str(error)[:80]}); expected one.") from None
    length = None
    for name, shape in (wanted or {}).items():
        if name not in arrays:
            raise LandmarkFileError(f"{path}: got the arrays {', '.join(arrays) or '(none)'}; expected {name!r}.")
        found = arrays[name].shape
        length = found[0] if length is None and found else length
        expected = tuple(length if n is None else n for n in shape)
        if found != expected or arrays[name].dtype.kind != "f":
            raise LandmarkFileError(f"{path}, array {name}: got shape {found}; expected numbers of shape {expected}.")
    return arrays


def absent(value: Any) -> bool:
    return (isinstance(value, str) and not value) or (isinstance(value, float) and np.isnan(value))


def curves_of(path: Path, arrays: dict[str, np.ndarray], n: int) -> list[list[np.ndarray]]:
    """Return the curves of each sample: their points stand one behind the other, and ``curve_sizes`` counts them."""
    if not {"curves", "curve_sizes"} <= arrays.keys():
        return [[] for _ in range(n)]
    points, sizes = arrays.pop("curves"), arrays.pop("curve_sizes")
    numbers = points.ndim == sizes.ndim == 2 and points.dtype.kind == "f" and sizes.dtype.kind in "iuf"
    counted = numbers and len(sizes) == n and bool(((sizes >= 0) & (sizes % 1 == 0)).all())
    if not counted or sizes.sum() != len(points):
        raise LandmarkFileError(
            f"{path}, array curves: got {points.shape} and sizes {sizes.shape}; expected points and the number of them "
            "in each curve of each sample."
        )
    sizes = sizes.astype(np.int64)
    ends = np.cumsum(sizes.ravel()).tolist()
    parts = [points[end - size : end] for end, size in zip(ends, sizes.ravel().tolist(), strict=True)]
    width = sizes.shape[1]
    return [[part for part in parts[i * width : (i + 1) * width] if len(part)] for i in range(n)]


def texts_of(path: Path, arrays: dict[str, np.ndarray], key: str, n: int) -> list[str] | None:
    array = arrays.pop(key, None)
    if array is None:
        return None
    if array.shape != (n,) or (array.dtype.kind != "U" and key in ("images", "labels")):
        raise LandmarkFileError(f"{path}, array {key}: got {array.dtype} of {array.shape}; expected {n} names.")
    values = array.tolist()
    return [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
