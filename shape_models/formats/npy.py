"""One array a file, the layout of ASMNet: the coordinates x0, y0, x1, y1 ... of one image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from .._options import check_flags
from .._scheme import SchemeLike
from .._typing import PathLike
from ..landmarks import SCHEMES, get_scheme
from ._record import LandmarkFile, LandmarksLike, Missing, record
from ._source import LandmarkFileError, Source, read_bytes
from ._target import Target

__all__ = ["read_npy", "write_npy"]


def read_npy(
    path: PathLike, *, n_dims: int | None = None, missing: Missing = None, scheme: SchemeLike | None = None
) -> LandmarkFile:
    """Read one shape from a ``.npy`` file.

    Parameters
    ----------
    path : path
        An array of shape (2 n_landmarks,), x and y in turn as ASMNet writes it, (n_landmarks, 2 or 3), or
        (n_landmarks, 1, 2 or 3) as OpenCV has it, of integers or floats. Pickles are never opened, and nothing is
        allocated before the size of the file agrees with what its header declares.
    n_dims : {2, 3}, optional
        Dimensions of numbers in one row, where neither `scheme` nor their count says it: 204 numbers may be 102
        landmarks of a plane or the 68 of a face in space.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides NaN: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile
        Frame ``"pixels"`` (of the crop that ASMNet cut, 224 wide and high), ``"physical"`` in three dimensions.

    Raises
    ------
    LandmarkFileError
        With the file and what is wrong with it.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from shape_models.formats import read_npy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.npy")
    ...     np.save(path, np.array([1.0, 2.0, 3.0, 4.0]))
    ...     read_npy(path).points.tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    path = Path(path)
    array = parse_array(path, read_bytes(path))
    if n_dims not in (None, 2, 3):
        raise ValueError(f"n_dims: got {n_dims!r}; expected 2 or 3.")
    if array.ndim == 1 and array.size:
        array = _cut(path, array, n_dims, scheme)
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 2 or array.shape[1] not in (2, 3) or not len(array):
        hint = " For a whole set of shapes try numpy.load." if array.ndim == 3 else ""
        raise LandmarkFileError(
            f"{path}: got an array of shape {array.shape}; expected (2 n_landmarks,) or (n_landmarks, 2 or 3).{hint}"
        )
    frame = "pixels" if array.shape[1] == 2 else "physical"
    return record(Source(path, text=""), array, scheme=scheme, frame=frame, missing=missing)


def _cut(path: Path, array: np.ndarray, n_dims: int | None, scheme: SchemeLike | None) -> np.ndarray:
    """Cut numbers in one row into points, where their count leaves no doubt."""
    if n_dims is None and scheme is not None:
        n_dims = next((n for n in (2, 3) if array.size == n * get_scheme(scheme).n_landmarks), None)
    if n_dims is None and is_ambiguous(array.size):
        raise LandmarkFileError(
            f"{path}: got {array.size} numbers, which may be {array.size // 2} landmarks of two coordinates or "
            f"{array.size // 3} of three; expected to be told. Try n_dims=2, n_dims=3 or scheme=."
        )
    return array.reshape(-1, n_dims or 2) if array.size % (n_dims or 2) == 0 else array


def is_ambiguous(size: int) -> bool:
    """Whether so many numbers may be a known scheme in three dimensions as well as some planar shape."""
    return size % 6 == 0 and any(size == 3 * scheme.n_landmarks for scheme in SCHEMES.values())


def parse_array(where: str | Path, data: bytes, *, text: bool = False) -> np.ndarray:
    """Return the array in the bytes of a ``.npy`` file: finite or NaN float64, or with `text` also strings and bool."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = reader(stream)
    except Exception as error:  # the header is Python source: it fails in many ways
        raise LandmarkFileError(f"{where}: got no .npy file ({str(error)[:80]}).") from None
    others = text and (dtype.kind == "b" or (dtype.kind == "U" and dtype.itemsize))
    if not (dtype.kind in "iuf" and dtype.itemsize <= 8) and not others:
        raise LandmarkFileError(f"{where}: got an array of {dtype}; expected integers or floats.")
    size = 1
    for length in shape:  # Python integers: no overflow
        size *= length
    rest = len(data) - stream.tell()
    if any(length < 0 for length in shape) or size * dtype.itemsize != rest:
        raise LandmarkFileError(
            f"{where}: the header declares shape {str(shape)[:80]}, but {rest} bytes follow "
            "it; expected as many as it takes."
        )
    try:
        array = np.frombuffer(data, dtype, size, stream.tell()) if size else np.empty(0, dtype)
        array = array.reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        raise LandmarkFileError(f"{where}: got no array ({error}); expected what numpy.save writes.") from None
    if dtype.kind == "U":
        if size and np.ascontiguousarray(array).view(dtype.byteorder + "u4").max() > 0x10FFFF:
            raise LandmarkFileError(f"{where}: got text with characters that do not exist; expected Unicode.")
        return array.astype(f"U{dtype.itemsize // 4}")
    if dtype.kind == "b":
        return np.asarray(np.ascontiguousarray(array).view(np.uint8) != 0)  # a byte that is neither 0 nor 1 is no bool
    array = array.astype(np.float64)
    if np.isinf(array).any():
        raise LandmarkFileError(f"{where}: got an infinite number; expected finite numbers or NaN.")
    return array


def write_npy(path: PathLike, landmarks: LandmarksLike, *, flat: bool = True) -> None:
    """Write one shape into a ``.npy`` file that `read_npy` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all, under exactly this name.
    landmarks : array_like of shape (n_landmarks, n_dims) or LandmarkFile
        The points, float64.
    flat : bool
        Write x and y in turn, as ASMNet does; three dimensions are never flat, nor planar shapes of which the numbers
        could be those of a known scheme in space. Labels and attributes are not kept, as the format has no place for
        them.

    Raises
    ------
    LandmarkFileError
        For landmarks of another shape or frame, and when the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from shape_models.formats import write_npy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.npy")
    ...     write_npy(path, [[1.0, 2.0], [3.0, 4.0]])
    ...     np.load(path)
    array([1., 2., 3., 4.])
    """
    check_flags(flat=flat)
    target = Target(path)
    target.refuse_planar_frame(landmarks)
    points = target.points(landmarks)
    with target.replaced() as temporary, temporary.open("wb") as stream:
        flat = flat and points.shape[1] == 2 and not is_ambiguous(points.size)
        np.save(stream, points.ravel() if flat else points, allow_pickle=False)
