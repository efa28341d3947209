"""What comes in becomes an array: real numbers as they are, and everything else refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from .._provenance import as_landmark_set, is_landmark_set
from ._library import is_tensor, namespace_of, to_numpy


def as_array(x: Any, name: str = "shapes", *, booleans: bool = False) -> Any:
    """Return real numbers as an array: arrays of other libraries as they are, everything else as a plain NumPy array.

    Parameters
    ----------
    x : array_like
        An array of any library, a number, or nested lists of numbers. NumPy subclasses (matrices) lose their class.
        Objects that are numbers become float64, and None, as tables mark what is missing, NaN.
    name : str
        What messages call the argument.
    booleans : bool
        Whether booleans are welcome, for a mask.

    Raises
    ------
    TypeError
        For what is no array of real numbers: a masked array, also one within a list, a set, a mapping, an iterator,
        text, complex numbers, records, objects; for a tensor that is sparse or on the meta device.
    ValueError
        For a list whose parts differ in length.
    """
    if type(x) is not np.ndarray:
        x = _opened(x, name)
    if x.dtype == object:
        x = _numbers(x, booleans)
    dtype = x.dtype
    if isinstance(x, np.ndarray):
        good = dtype.kind in "fiu" or (booleans and dtype.kind == "b")
    else:
        xp = namespace_of(x)
        good = xp.isdtype(dtype, ("real floating", "integral")) or (booleans and xp.isdtype(dtype, "bool"))
    if not good:
        raise TypeError(f"{name}: got {called(dtype)}; expected real numbers.{_dtype_hint(dtype, name)}")
    return x


def as_numpy(x: Any, name: str = "shapes", *, booleans: bool = False) -> np.ndarray:
    """Return real numbers as a NumPy array, from any library and device; see `as_array` for what is refused.

    Raises
    ------
    TypeError
        Also for a tensor that requires a gradient, which would be lost.
    """
    x = as_array(x, name, booleans=booleans)
    if isinstance(x, np.ndarray):
        return x
    if getattr(x, "requires_grad", False):
        raise TypeError(
            f"{name}: got a tensor that requires a gradient; expected numbers, since this function works in NumPy and "
            f"would lose it. Try {name}.detach()."
        )
    return to_numpy(x)


_NUMPY = (np.ndarray, np.generic)
_SHAPES_OF_RECORDS = ("shapes", "aligned", "completed", "points", "shape", "landmarks")


def _opened(x: Any, name: str) -> Any:
    """Return what holds numbers as an array of some type, and refuse all other containers."""
    if is_tensor(x):
        if str(x.layout) != "torch.strided":
            raise TypeError(f"{name}: got a sparse tensor ({x.layout}); expected a dense one. Try {name}.to_dense().")
        if x.is_meta:
            raise TypeError(f"{name}: got a tensor on the meta device, which has no numbers; expected one that has.")
        return x
    refuse_masked(x, name)
    if isinstance(x, _NUMPY):
        return np.asarray(x)
    known = as_landmark_set(x)
    if is_landmark_set(known):
        return known.lengths() if isinstance(x, list | tuple) or known is x else known.lengths()[0]
    if is_array_api_obj(x) and hasattr(x, "device"):  # arrays of dask, which have none, are computed below
        return x
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(f"{name}: got a sparse matrix; expected a dense array. Try {name}.toarray().")
    if isinstance(x, str | bytes | Set | Mapping | Iterator):
        hint = f" Try list({name})." if isinstance(x, Iterator) else ""
        raise TypeError(f"{name}: got a {type(x).__name__}; expected an array of numbers.{hint}")
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name}: got a list whose parts differ in length; expected the same number of landmarks in every shape, "
            "and of numbers in every row. Try filling what is missing with NaN."
        ) from None
    except (TypeError, RuntimeError) as error:  # tensors within a list that NumPy cannot read
        raise TypeError(f"{name}: got a list that is no array of numbers: {error}") from None
    if array.dtype == object and not array.ndim:
        held = [part for part in _SHAPES_OF_RECORDS if isinstance(getattr(x, part, None), np.ndarray)]
        hint = f" Try its .{held[0]}." if held else ""
        raise TypeError(f"{name}: got a {type(x).__name__}; expected an array of numbers.{hint}")
    return array


def as_column(values: Any, name: str) -> np.ndarray:
    """Return values of any kind, such as text, as an array; masked arrays and tensors without numbers are refused."""
    refuse_masked(values, name)
    return as_numpy(values, name, booleans=True) if is_tensor(values) else np.asarray(values)


def as_indices(indices: Any, name: str, expected: str = "a list of indices") -> np.ndarray:
    """Return a row of whole numbers, of a list, an array of any library or a range; booleans are none.

    Raises
    ------
    TypeError
        For what is no array of numbers; see `as_array`.
    ValueError
        With what was `expected`, for other numbers and other axes.
    """
    array = to_numpy(_opened(indices, name))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name}: got {repr(indices)[:80]}; expected {expected}.")
    return array.astype(np.intp)


@contextmanager
def indexing(index: Any, shape: tuple[int, ...]) -> Iterator[None]:
    """Say in plain words what is wrong with an index into an array of a shape; an IndexError, which ends a loop."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        refuse_masked(part, "index")
    try:
        yield
    except (IndexError, TypeError, ValueError, RuntimeError):
        shown = ", ".join(repr(part)[:60] for part in parts if part is not Ellipsis)
        raise IndexError(
            f"index: got {shown}; expected whole numbers, slices or masks within the shape {shape}."
        ) from None


def is_missing(value: Any) -> bool:
    """Say whether a single value is None, NaN, or what pandas writes in their place."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _numbers(array: np.ndarray, booleans: bool) -> np.ndarray:
    """Return objects that are numbers, or missing, as float64, as tables keep them; others as they came."""
    values = array.ravel().tolist()
    if booleans and values and all(isinstance(value, bool | np.bool_) for value in values):
        return array.astype(bool)
    for i, value in enumerate(values):
        if value is None or type(value).__name__ == "NAType":
            values[i] = np.nan
        elif isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
            return array
    try:
        return np.array(values, dtype=np.float64).reshape(array.shape)
    except OverflowError:
        return array


def refuse_masked(x: Any, name: str = "shapes") -> None:
    """Raise for a masked array, also within lists: its mask would be lost and what lies under it taken for landmarks.

    This is the rule everywhere: a masked array is refused, never read, and NaN marks what is missing.
    """
    if _masked(x):
        raise TypeError(
            f"{name}: got a masked array; expected an array in which what is missing is NaN. Try "
            f"np.ma.filled({name}.astype(float), np.nan)."
        )


def _masked(x: Any) -> bool:
    kind = type(x)
    if kind is np.ndarray or kind is float or kind is int:
        return False
    if kind is list or kind is tuple:
        return any(map(_masked, x))
    return isinstance(x, np.ma.MaskedArray)


def called(dtype: Any) -> str:
    """Name a type in a message."""
    return "an array of objects" if getattr(dtype, "kind", "") == "O" else f"an array of {dtype}"


def _dtype_hint(dtype: Any, name: str) -> str:
    text = str(dtype)
    if text == "object":
        return " Every shape must have the same landmarks and dimensions; missing landmarks are NaN."
    if getattr(dtype, "names", None):
        return f" Try numpy.lib.recfunctions.structured_to_unstructured({name})."
    if "complex" in text:
        return " Try stacking real and imaginary part on a last axis."
    return f" Try {name}.astype(float)." if isinstance(dtype, np.dtype) else f" Try {name}.to(float)."
