"""Coordinates of landmarks, checked: their axes, their number, what is missing, and their size."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._context import float_dtype
from ._entry import as_numpy

# Coordinates whose squares, and those of their smallest modes, are normal numbers of float64.
SMALLEST, LARGEST = 1e-140, 1e150


class DegenerateShapeError(ValueError):
    """Points that determine no answer: all coincide, all lie on a line, or too few are visible.

    Examples
    --------
    >>> from shape_models import DegenerateShapeError
    >>> issubclass(DegenerateShapeError, ValueError)
    True
    """

    status: np.ndarray | None = None  # of each row of the batch, where the message names the first bad one


def as_shapes(
    shapes: Any,
    *,
    name: str = "shapes",
    n_landmarks: int | None = None,
    n_dims: int | tuple[int, ...] | None = None,
    min_samples: int | None = None,
    min_landmarks: int = 0,
    allow_nan: bool = False,
    allow_inf: bool = False,
    copy: bool = False,
) -> np.ndarray:
    """Check landmark coordinates and return them as a NumPy array of floats.

    Parameters
    ----------
    shapes : array_like of shape (..., n_landmarks, n_dims)
        Coordinates, (x, y) or (x, y, z) on the last axis.
    name : str
        What messages call the argument.
    n_landmarks, n_dims : int, optional
        What the last two axes must be; `n_dims` may be a tuple of choices.
    min_samples : int, optional
        When given, `shapes` must be three-dimensional with at least this many samples.
    min_landmarks : int, default=0
        How many landmarks a shape needs to mean anything.
    allow_nan : bool
        Whether NaN (a missing landmark) is accepted. A landmark with one NaN coordinate is missing as a whole and
        comes back with all of its coordinates NaN.
    allow_inf : bool
        Whether infinities pass, for functions that judge row by row.
    copy : bool
        Always return an array of its own.

    Returns
    -------
    ndarray of shape (..., n_landmarks, n_dims)
        float32 and other float types stay, integers and longer floats become float64.

    Raises
    ------
    ValueError
        When a shape, a count or a value is not as asked for.
    TypeError
        When the entries are no real numbers, or for a masked array; see `as_array`.
    """
    array = as_numpy(shapes, name)
    array = np.array(array, dtype=float_dtype(array.dtype), copy=True if copy else None)
    choices = (n_dims,) if isinstance(n_dims, int) else n_dims
    if min_samples is not None and array.ndim != 3:
        hint = f" For one shape try {name}[None]." if array.ndim == 2 else ""
        raise ValueError(f"{name}: got shape {array.shape}; expected (n_samples, n_landmarks, n_dims).{hint}")
    if array.ndim < 2:
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected (..., n_landmarks, n_dims).")
    n_coordinates = array.shape[-1]
    # Two or three landmarks with many coordinates are the array of R in every case.
    if n_coordinates not in choices if choices else n_coordinates > 3 and array.shape[-2] in (2, 3):
        expected = " or ".join(map(str, choices or (2, 3)))
        hint = layout_hint(array.shape, n_landmarks, choices or (2, 3), name)
        raise ValueError(
            f"{name}: got {n_coordinates} coordinates per landmark; expected {expected} on the last axis.{hint}"
        )
    if n_landmarks is not None and array.shape[-2] != n_landmarks:
        hint = layout_hint(array.shape, n_landmarks, (n_coordinates,), name)
        raise ValueError(f"{name}: got {array.shape[-2]} landmarks; expected {n_landmarks}.{hint or _SUBSET}")
    if min_samples is not None and array.shape[0] < min_samples:
        raise ValueError(f"{name}: got {array.shape[0]} samples; expected at least {min_samples}.")
    if array.shape[-2] < min_landmarks or (min_landmarks and not n_coordinates):
        hint = layout_hint(array.shape, None, (2, 3), name) if array.shape[-2] else ""
        raise DegenerateShapeError(
            f"{name}: got an array of shape {array.shape}, {array.shape[-2]} landmarks a shape; expected at least "
            f"{min_landmarks}.{hint}"
        )
    finite = np.isfinite(array)
    if not finite.all():
        if not allow_inf and np.isinf(array).any():
            where = tuple(int(i) for i in np.argwhere(np.isinf(array))[0])
            raise ValueError(f"{name}: got an infinite coordinate at index {where}; expected finite numbers or NaN.")
        if not allow_nan:
            where = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(
                f"{name}: got a missing landmark (NaN) at index {where}; expected complete shapes. "
                "Try ASM.complete to fill it."
            )
        missing = np.isnan(array).any(axis=-1, keepdims=True)
        array = np.where(missing, np.asarray(np.nan, dtype=array.dtype), array)
    return array


_SUBSET = " Try LandmarkScheme.subset or convert to select common landmarks."


def layout_hint(shape: tuple[int, ...], n_landmarks: int | None, n_dims: tuple[int, ...], name: str = "shapes") -> str:
    """Say what brings the axes of an array into order; "" where that cannot be told.

    Parameters
    ----------
    shape : tuple of int
        Of the array that came in.
    n_landmarks : int, optional
        What the last axis but one should be; None where any number is right.
    n_dims : tuple of int
        What the last axis may be.
    """

    def landmarks(n: int) -> bool:
        return n > 3 if n_landmarks is None else n == n_landmarks

    if n_landmarks is not None and shape[-1:] in [(n_landmarks * d,) for d in n_dims]:
        return f" Try {name}.reshape(-1, {n_landmarks}, {shape[-1] // n_landmarks})."
    if len(shape) == 2:
        if shape[0] in n_dims and landmarks(shape[1]):
            return f" Try {name}.T: the coordinates belong on the last axis."
    elif len(shape) == 3:
        first, middle, last = shape
        if middle == 1 and last in n_dims and landmarks(first):
            return f" Try np.squeeze({name}, axis=-2): the axes are (landmarks, 1, dims), the layout of OpenCV."
        if middle in n_dims and last not in n_dims:
            if landmarks(first) and (n_landmarks is None or last != n_landmarks):
                return f" Try np.moveaxis({name}, -1, 0) for an array of R: (landmarks, dims, specimens)."
            if n_landmarks is not None and last == n_landmarks != first:
                return f" Try np.swapaxes({name}, -1, -2): the coordinates belong on the last axis."
    return ""


def refuse_extreme(low: float, high: float, name: str = "shapes") -> None:
    """Raise where squares of the coordinates, all between `low` and `high`, overflow or lose their digits."""
    size = max(-low, high)
    if size > LARGEST or 0 < size < SMALLEST:
        bound = f"at most {LARGEST:g}" if size > LARGEST else f"some of at least {SMALLEST:g}"
        raise ValueError(
            f"{name}: got coordinates up to {size:.1g}; expected {bound}, whose squares can be summed. Try other units."
        )


def refuse_extremes_of(array: np.ndarray, name: str = "shapes", *, tiny: bool = True) -> None:
    """Raise as `refuse_extreme` does for the coordinates of an array, NaN aside; all next to 0 only where `tiny`."""
    least = 0.0 if tiny else SMALLEST
    refuse_extreme(float(np.nanmin(array, initial=-least)), float(np.nanmax(array, initial=least)), name)
