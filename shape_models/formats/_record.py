"""What every reader returns and raises, and the few steps all of them share."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..landmarks import LandmarkScheme

FRAMES = ("pixels", "y_up", "relative", "physical")
MAX_BYTES = 1 << 30
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class LandmarkFileError(ValueError):
    """A landmark file that cannot be read or written; the message names the file, the line and the field.

    Examples
    --------
    >>> from shape_models import LandmarkFileError, read_pts
    >>> try:
    ...     read_pts("no-such-file.pts")
    ... except LandmarkFileError as error:
    ...     print(error)
    no-such-file.pts: got no such file; expected a landmark file or a folder.
    """


@dataclass(frozen=True, eq=False)
class LandmarkFile:
    """One annotated object of a landmark file.

    ``numpy.asarray(file)`` gives its points, so a list of them is a set of shapes.

    Parameters
    ----------
    points : ndarray of shape (n_landmarks, n_dims)
        Coordinates, (x, y) or (x, y, z); NaN where a landmark is missing.
    labels : tuple of str, optional
        One label for each landmark, where the file has them.
    scheme : LandmarkScheme, optional
        The scheme, when the caller or the format names it; it is never guessed from the number of points.
    image_name : str, optional
        The image as the file names it.
    frame : {"pixels", "y_up", "relative", "physical"}
        ``"pixels"``: y down, centre of the first pixel at 0. ``"y_up"``: pixels with y counted upwards from the
        bottom of an image of unknown height. ``"relative"``: fractions of the width and the height of the image.
        ``"physical"``: units of length, or an unknown frame.
    path : Path, optional
        The file.
    attributes : mapping
        What else the format records (an identifier, a scale, curves, a box, visibility ...).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import LandmarkFile
    >>> file = LandmarkFile(np.array([[3.0, 4.0], [5.0, 6.0]]), image_name="wing.png")
    >>> np.asarray(file).shape, file.frame
    ((2, 2), 'pixels')
    """

    points: np.ndarray
    labels: tuple[str, ...] | None = None
    scheme: LandmarkScheme | None = None
    image_name: str | None = None
    frame: str = "pixels"
    path: Path | None = field(default=None, kw_only=True)
    attributes: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and dtype is not None and np.dtype(dtype) != self.points.dtype:
            raise ValueError("a change of type needs a copy")
        return np.array(self.points, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.points)


class Source:
    """The text of a file, with the name and the line that its errors quote."""

    def __init__(self, path: str | os.PathLike, text: str | None = None) -> None:
        self.path = Path(path)
        self.text = read_text(self.path) if text is None else text

    def error(self, problem: str, line: int | None = None) -> LandmarkFileError:
        where = f"{self.path}" if line is None else f"{self.path}, line {line}"
        return LandmarkFileError(f"{where}: {problem}")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number from 1, line without surrounding space) of every line that is not empty."""
        for number, line in enumerate(self.text.splitlines(), 1):
            line = line.strip()
            if line:
                yield number, line

    def number(self, token: str, name: str, line: int | None = None) -> float:
        """Return the finite number that a field spells, or NaN where it says so."""
        if _NUMBER.fullmatch(token):
            value = float(token)
            if np.isfinite(value):
                return value
            raise self.error(f"{name}: got {shorten(token)}, which is too large.", line)
        if token.lower() == "nan":
            return np.nan
        raise self.error(f"{name}: got {shorten(token)!r}; expected a number.", line)

    def count(self, token: str, name: str, line: int | None = None) -> int:
        """Return the count that a field declares. Nothing may be allocated by it: it is compared with what is there."""
        if re.fullmatch("[0-9]{1,9}", token):
            return int(token)
        raise self.error(f"{name}: got {shorten(token)!r}; expected a count.", line)


def shorten(text: str, limit: int = 40) -> str:
    """Cut a quotation so that it fits into a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, or a LandmarkFileError that says why there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LandmarkFileError(f"{path}: got {path.stat().st_size} bytes; expected a landmark file below 1 GiB.")
        return path.read_bytes()
    except FileNotFoundError:
        raise LandmarkFileError(f"{path}: got no such file; expected a landmark file or a folder.") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        if isinstance(error, LandmarkFileError):
            raise
        raise LandmarkFileError(f"{path}: cannot be read ({error}).") from None


def read_text(path: Path) -> str:
    """Decode a file: UTF-8 or UTF-16 by their marks, UTF-8, else Latin-1."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise LandmarkFileError(f"{path}: got binary data; expected text.")
    return text


def check_scheme(path: Path, n_landmarks: int, scheme: LandmarkScheme | None) -> None:
    """Refuse a file that has another number of landmarks than the scheme the caller named."""
    if scheme is not None and n_landmarks != scheme.n_landmarks:
        raise LandmarkFileError(
            f"{path}: got {n_landmarks} landmarks; expected {scheme.n_landmarks} ({scheme.name}). "
            "Try another scheme=, or none."
        )


def as_points(landmarks: Any, *, allow_nan: bool = True, n_dims: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Return the points to write, as finite float64 of shape (n_landmarks, n_dims)."""
    try:
        points = np.asarray(landmarks, dtype=np.float64)
    except (TypeError, ValueError):
        raise LandmarkFileError(f"got {type(landmarks).__name__}; expected an array of landmarks.") from None
    if points.ndim != 2 or points.shape[1] not in n_dims or not len(points):
        dims = " or ".join(map(str, n_dims))
        raise LandmarkFileError(f"got landmarks of shape {points.shape}; expected (n_landmarks, {dims}).")
    if np.isinf(points).any():
        raise LandmarkFileError("got an infinite coordinate; expected finite numbers or NaN.")
    missing = np.asarray(np.isnan(points).any(axis=1))
    if missing.any():
        if not allow_nan:
            index = int(np.flatnonzero(missing)[0])
            raise LandmarkFileError(f"landmark {index} is missing (NaN); this format cannot say so. Try .csv or .tps.")
        points = np.where(missing[:, None], np.nan, points)
    return points


def whole_missing(points: Sequence[Sequence[float]]) -> np.ndarray:
    """Return an array of points in which a landmark with one missing coordinate is missing as a whole."""
    array = np.array(points, dtype=np.float64)
    return np.where(np.isnan(array).any(axis=1, keepdims=True), np.nan, array)


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a name in the folder of `path`; it takes the place of `path` when the block ends well."""
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
        os.close(handle)
    except OSError as error:
        raise LandmarkFileError(f"{path}: cannot be written ({error}).") from None
    temporary = Path(name)
    try:
        yield temporary
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        else:
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
