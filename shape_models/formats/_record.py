"""What every reader returns and raises, and the few steps all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from pathlib import Path, PureWindowsPath
from typing import Any, TypeAlias

import numpy as np

from .._array import as_numpy
from .._brief import brief
from .._names import holds_names, match_labels, rows_of
from .._options import check_choice
from .._scheme import LandmarkScheme, SchemeLike, get_scheme
from .._typing import ArrayLike, LandmarkSet
from ..images import image_size as image_size_of
from ._source import Source, shorten

FRAMES = ("pixels", "y_up", "relative", "physical")
EXACT = Context(prec=700)  # sums and differences of a float64 and a small integer are exact
Missing = str | float | Sequence[float] | None  # what marks a missing landmark in a file: see mark_missing
_PER_LANDMARK = {"visibility", "confidence", "columns"}


@brief
@dataclass(frozen=True, eq=False)
class LandmarkFile:
    """The landmarks of one object as a file holds them, with names, image, frame and attributes.

    ``numpy.asarray(file)`` gives its points, so a list of them is a set of shapes.

    Parameters
    ----------
    points : ndarray of shape (n_landmarks, n_dims)
        Coordinates, (x, y) or (x, y, z); NaN where a landmark is missing.
    labels : tuple of str, optional
        One label for each landmark, where the file has them.
    scheme : LandmarkScheme or str, optional
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
        What else the format records, by names that are the same in all formats: ``"id"`` (the identifier of the
        specimen), ``"scale"`` (units of length for a pixel), ``"curves"`` (a list of arrays of points, in the same
        frame), ``"box"`` (x0, y0, x1, y1), ``"visibility"`` and ``"confidence"`` (one number for each landmark),
        ``"image_size"`` (width, height), and further ones under the names of the file.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import LandmarkFile
    >>> file = LandmarkFile(np.array([[3.0, 4.0], [5.0, 6.0]]), image_name="wing.png")
    >>> np.asarray(file).shape, file.frame, file.id, file.curves
    ((2, 2), 'pixels', None, [])
    """

    points: np.ndarray
    labels: tuple[str, ...] | None = None
    scheme: LandmarkScheme | None = None
    image_name: str | None = None
    frame: str = "pixels"
    path: Path | None = field(default=None, kw_only=True)
    attributes: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.points, np.ma.MaskedArray):  # what is masked is missing, as in the writers
            object.__setattr__(self, "points", np.ma.filled(self.points.astype(np.float64), np.nan))
        object.__setattr__(self, "points", as_numpy(self.points, "points"))
        if self.points.ndim != 2:
            raise ValueError(f"points: got shape {self.points.shape}; expected (n_landmarks, n_dims).")
        if isinstance(self.scheme, str):
            object.__setattr__(self, "scheme", get_scheme(self.scheme))
        check_choice(FRAMES, frame=self.frame)
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(map(str, self.labels)))
            if len(self.labels) != len(self.points):
                raise ValueError(f"labels: got {len(self.labels)}; expected one for each of {len(self.points)}.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and dtype is not None and np.dtype(dtype) != self.points.dtype:
            raise ValueError("a change of type needs a copy")
        return np.array(self.points, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def id(self) -> Any:
        """The identifier of the specimen, None where the file gives none."""
        return self.attributes.get("id")

    @property
    def scale(self) -> float | None:
        """Units of length for a pixel, None where the file gives none."""
        return self.attributes.get("scale")

    @property
    def curves(self) -> list[np.ndarray]:
        """The curves drawn beside the landmarks, arrays of shape (n_points, n_dims) in the same frame."""
        return list(self.attributes.get("curves") or ())


LandmarksLike: TypeAlias = "ArrayLike | LandmarkFile | Sequence[LandmarkFile] | LandmarkSet"


def size_of_image(source: Source, name: str | None, image_size: Any) -> tuple[int, int] | None:
    """Return (width, height): as given, else of the upright image of that name beside the file, else None."""
    if image_size is not None:
        return as_image_size(image_size)
    base = "" if name is None else PureWindowsPath(name).name  # also takes the last part of a path with slashes
    if not base or base in (".", ".."):
        return None
    path = source.path.parent / base
    try:
        if not path.is_file():
            return None
    except (OSError, ValueError):
        return None
    try:
        return image_size_of(path)
    except ValueError as error:
        problem = str(error).removeprefix(f"{path}: ").rstrip(".")
        problem = f"image: got {shorten(base)}, whose size cannot be read ({problem})"
        raise source.error(f"{problem}. Try image_size=.") from None


def as_image_size(image_size: Any) -> tuple[int, int]:
    """Check (width, height) in pixels."""
    try:
        width, height = image_size
        if int(width) == width and int(height) == height and width > 0 and height > 0:
            return int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"image_size: got {image_size!r}; expected (width, height) in pixels.")


def exactly(token: str, operation: Callable[[Decimal], Decimal]) -> float:
    """Apply one operation to the number that a field spells before it is rounded to float64."""
    return float(operation(Decimal(token)))


def spell(value: float, operation: Callable[[Decimal], Decimal] | None = None, missing: str = "nan") -> str:
    """Spell a coordinate so that it is read back to the last bit, after an operation on the exact number."""
    if np.isnan(value):
        return missing
    if operation is None:
        return repr(float(value))
    return f"{operation(Decimal(repr(float(value)))).normalize(EXACT):f}"


def mark_missing(points: np.ndarray, missing: Missing, stored: np.ndarray | None = None) -> np.ndarray:
    """Turn what the caller says means missing into NaN; `stored` are the numbers as they stand in the file."""
    if missing is None:
        return points
    stored = points if stored is None else stored
    if isinstance(missing, str):
        if missing not in ("negative", "zero"):
            raise ValueError(f"missing: {_expected_missing(missing)}")
        with np.errstate(invalid="ignore"):
            gone = np.any(stored < 0, axis=-1) if missing == "negative" else np.all(stored == 0, axis=-1)
        return np.where(gone[..., None], np.nan, points)
    try:
        value = np.asarray(missing, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"missing: {_expected_missing(missing)}") from None
    if not np.isfinite(value).all() or value.shape not in ((), (2,), (3,)):
        raise ValueError(f"missing: {_expected_missing(missing)}")
    if value.ndim and value.size != stored.shape[-1]:
        raise ValueError(f"missing: got {value.size} numbers for {stored.shape[-1]} coordinates; expected as many.")
    return np.where(np.all(stored == value, axis=-1)[..., None], np.nan, points)


def _expected_missing(missing: Any) -> str:
    return f"got {missing!r}; expected None, 'negative', 'zero', a number, or one number for each coordinate."


def record(
    source: Source,
    points: Any,
    *,
    labels: Sequence[str] | None = None,
    scheme: SchemeLike | None = None,
    image_name: str | None = None,
    frame: str = "pixels",
    missing: Missing = None,
    stored: np.ndarray | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> LandmarkFile:
    """Return a LandmarkFile: missing points as NaN, and landmarks that bear names of the scheme in its order.

    A landmark of the scheme that is not among named ones is missing.
    """
    attributes = dict(attributes or {})
    scheme = None if scheme is None else get_scheme(scheme)
    points = whole_missing(points)
    if isinstance(visibility := attributes.get("visibility"), np.ndarray):
        points = np.where(visibility[:, None] > 0, points, np.nan)
    points = mark_missing(points, missing, stored)
    names = None if labels is None else tuple(labels)
    own = () if scheme is None or names is None else tuple(scheme.names)
    if names is not None and names != own and (set(names) == set(own) or holds_names(own, names)):
        order = match_labels(names, own, lacking=True)
        if order is not None:
            points, names = rows_of(points, order), own
            for key in _PER_LANDMARK & attributes.keys():
                attributes[key] = rows_of(np.asarray(attributes[key]), order, key)
    if scheme is not None and len(points) != scheme.n_landmarks:
        raise source.error(
            f"got {len(points)} landmarks; expected {scheme.n_landmarks} ({scheme.name}). Try another scheme=, or none."
        )
    return LandmarkFile(points, names, scheme, image_name or None, frame, path=source.path, attributes=attributes)


def whole_missing(points: Any) -> np.ndarray:
    """Return an array of points in which a landmark with one missing coordinate is missing as a whole."""
    array = np.array(points, dtype=np.float64)
    gone = np.isnan(array)
    if gone.any():
        array[gone.any(axis=1)] = np.nan
    return array
