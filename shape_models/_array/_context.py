"""Where a computation takes place, found once at the door and carried along."""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat.numpy as _numpy
import numpy as np

from ._entry import as_array, called
from ._library import device_of, namespace_of


class Context(NamedTuple):
    """Where a computation takes place, found once at the door."""

    xp: Any  # the array library
    dtype: Any  # the type to compute in
    device: Any  # None for NumPy
    given: Any  # the type to return


def float_dtype(dtype: Any, xp: Any = np) -> Any:
    """Return the type of coordinates: floating types of up to 8 bytes stay, integers and longer floats become float64.

    Parameters
    ----------
    dtype : dtype
        Type of the incoming array, of the library `xp`.
    xp : namespace
        The array library.

    Raises
    ------
    TypeError
        For booleans, complex numbers and anything that is not a number.
    """
    if xp is np or xp is _numpy:
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
        if dtype.kind in "iu":
            return np.dtype(np.float64)
    else:
        if xp.isdtype(dtype, "real floating"):
            return dtype
        if xp.isdtype(dtype, "integral"):
            return xp.float64
    raise TypeError(f"got {called(dtype)}; expected real numbers. Try shapes.astype(float).")


def working_dtype(x: Any, xp: Any = None) -> Any:
    """Return the type to compute in: x.dtype, but float32 for half precision, float64 for integers and long double."""
    dtype = x.dtype
    if isinstance(x, np.ndarray):
        dtype = float_dtype(dtype)
        return np.dtype(np.float32) if dtype.itemsize < 4 else dtype.newbyteorder("=")
    xp = namespace_of(x) if xp is None else xp
    if dtype == xp.float64 or dtype == xp.float32:
        return dtype
    if xp.isdtype(dtype, "real floating"):
        return xp.float32
    return float_dtype(dtype, xp)


_PLAIN = {np.dtype(t): Context(_numpy, np.dtype(t), None, np.dtype(t)) for t in (np.float64, np.float32)}


def enter(x: Any, name: str = "shapes") -> tuple[Any, Context]:
    """Return an array in the type to compute in, and where that is; see `as_array` for what is refused."""
    if type(x) is np.ndarray:
        context = _PLAIN.get(x.dtype)
        if context is not None:
            return x, context
    x = as_array(x, name)
    xp, given = namespace_of(x), x.dtype
    dtype = working_dtype(x, xp)
    if given != dtype:
        x = xp.astype(x, dtype)
        if not xp.isdtype(given, "real floating"):
            given = dtype
    return x, Context(xp, dtype, device_of(x), given)


def leave(result: Any, dtype: Any) -> Any:
    """Return a result in the type that came in; a NumPy array without axes as a number."""
    if isinstance(result, np.ndarray) and result.ndim == 0:
        return result.astype(dtype)[()]
    return result if result.dtype == dtype else namespace_of(result).astype(result, dtype)
