"""The door of every function that takes arrays: what comes in, in which library, type and device it is computed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

import array_api_compat.numpy as _numpy
import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array

from ._provenance import as_landmark_set, is_landmark_set

__all__ = [
    "LARGEST",
    "SMALLEST",
    "Context",
    "DegenerateShapeError",
    "array_namespace",
    "as_array",
    "as_confidence",
    "as_numpy",
    "as_shapes",
    "as_weights",
    "device_of",
    "enter",
    "float_dtype",
    "is_array",
    "is_numpy_array",
    "is_traced",
    "layout_hint",
    "leave",
    "namespace_of",
    "plain_memory",
    "refuse_extreme",
    "refuse_extremes_of",
    "refuse_masked",
    "renamed",
    "to_numpy",
    "values_known",
    "working_dtype",
]

# Coordinates whose squares, and those of their smallest modes, are normal numbers of float64.
SMALLEST, LARGEST = 1e-140, 1e150


class DegenerateShapeError(ValueError):
    """The question has no answer for these points: all coincide, all lie on a line, or too few are seen.

    Examples
    --------
    >>> from shape_models import DegenerateShapeError
    >>> issubclass(DegenerateShapeError, ValueError)
    True
    """

    status: np.ndarray | None = None  # of each row of the batch, where the message names the first bad one


# --- Which library ---------------------------------------------------------------------------------------


def namespace_of(array: Any) -> Any:
    """Return the array API namespace of one array, quickly and in a way that compilers can trace.

    `array_namespace` looks every type up through cached helpers, which torch.compile warns about.
    """
    if isinstance(array, np.ndarray):
        return _numpy
    if hasattr(array, "__torch_function__"):
        import array_api_compat.torch as xp

        return xp
    return array_namespace(array)


def device_of(array: Any) -> Any:
    """Return the device of an array, None for NumPy."""
    return None if isinstance(array, (np.ndarray, np.generic)) else array.device


def is_array(value: Any) -> bool:
    """Say whether a value is an array of some library, in a way that compilers can trace."""
    if isinstance(value, np.ndarray) or hasattr(value, "__torch_function__"):
        return True
    return hasattr(value, "__array_namespace__") and not isinstance(value, np.generic)


def is_traced(array: Any) -> bool:
    """Say whether a compiler or exporter follows the computation, so that values must not be looked at."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__torch_function__"):
        return False
    xp = namespace_of(array)
    return bool(xp.compiler.is_compiling() or xp.jit.is_tracing())


def values_known(*arrays: Any) -> bool:
    """Say whether values may be looked at: not while torch compiles, exports or maps over a batch."""
    for a in arrays:
        if isinstance(a, np.ndarray) or not hasattr(a, "__torch_function__"):
            continue
        if is_traced(a):
            return False
        try:
            bool(a.reshape(-1)[:1].any())
        except RuntimeError:  # vmap and fake tensors have no values to look at
            return False
    return True


def plain_memory(array: Any) -> np.ndarray | None:
    """Return the memory of a CPU tensor as a NumPy array, or None where a gradient or a transform follows the tensor.

    NumPy can write in place and skip the overhead of a call, which a computation that is followed cannot.
    """
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is None or type(array) is not torch.Tensor or is_traced(array):
        return None
    if array.dtype not in (torch.float64, torch.float32) or array.device.type != "cpu":
        return None
    if array.layout is not torch.strided or (array.requires_grad and torch.is_grad_enabled()):
        return None
    n_modes = getattr(torch._C, "_len_torch_dispatch_stack", None)
    if n_modes is None or n_modes() or torch.autograd.forward_ad.unpack_dual(array).tangent is not None:
        return None
    try:
        return array.detach().numpy()
    except RuntimeError:  # vmap and the other transforms of torch.func
        return None


def to_numpy(array: Any) -> np.ndarray:
    """Return the numbers of an array of any library, without its gradient, as a NumPy array."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if array.dtype.is_floating_point and array.dtype.itemsize < 4:
            array = array.float()  # NumPy has no bfloat16
        return array.numpy()
    return np.asarray(array)


# --- What comes in ---------------------------------------------------------------------------------------


def as_array(x: Any, name: str = "shapes", *, booleans: bool = False) -> Any:
    """Return real numbers as an array: arrays of other libraries as they are, everything else as a plain NumPy array.

    Parameters
    ----------
    x : array_like
        An array of any library, a number, or nested lists of numbers. NumPy subclasses (matrices) lose their class.
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
    dtype = x.dtype
    if isinstance(x, np.ndarray):
        good = dtype.kind in "fiu" or (booleans and dtype.kind == "b")
    else:
        xp = namespace_of(x)
        good = xp.isdtype(dtype, ("real floating", "integral")) or (booleans and xp.isdtype(dtype, "bool"))
    if not good:
        raise TypeError(f"{name}: got {_called(dtype)}; expected real numbers.{_dtype_hint(dtype, name)}")
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


def _opened(x: Any, name: str) -> Any:
    """Return what holds numbers as an array of some type, and refuse all other containers."""
    if hasattr(x, "__torch_function__"):
        xp = namespace_of(x)
        if x.layout is not xp.strided:
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
    if is_array_api_obj(x):
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
            f"{name}: got a list whose parts differ in length; expected the same number of landmarks in every shape. "
            "Try filling missing landmarks with NaN."
        ) from None
    except (TypeError, RuntimeError) as error:  # tensors within a list that NumPy cannot read
        raise TypeError(f"{name}: got a list that is no array of numbers: {error}") from None
    if array.dtype == object and not array.ndim:
        raise TypeError(f"{name}: got a {type(x).__name__}; expected an array of numbers.")
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


def _called(dtype: Any) -> str:
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


# --- Where it is computed --------------------------------------------------------------------------------


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
    raise TypeError(f"got {_called(dtype)}; expected real numbers. Try shapes.astype(float).")


def working_dtype(x: Any) -> Any:
    """Return the type to compute in: x.dtype, but float32 for half precision, float64 for integers and long double."""
    dtype = x.dtype
    if isinstance(x, np.ndarray):
        dtype = float_dtype(dtype)
        return np.dtype(np.float32) if dtype.itemsize < 4 else dtype.newbyteorder("=")
    xp = namespace_of(x)
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
    xp, dtype, given = namespace_of(x), working_dtype(x), x.dtype
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


# --- Coordinates -----------------------------------------------------------------------------------------


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
        raise ValueError(
            f"{name}: got an array of shape {array.shape}; expected (n_samples, n_landmarks, n_dims).{hint}"
        )
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
                "Try ASM.complete to fill it, or confidence= to ignore it."
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


# --- Weights and confidence ------------------------------------------------------------------------------


def as_weights(weights: Any, shape: tuple[int, ...], *, name: str = "weights") -> np.ndarray:
    """Check relative landmark weights and broadcast them to `shape`.

    Parameters
    ----------
    weights : array_like of shape (n_landmarks,) or (..., n_landmarks)
        Non-negative and finite; booleans are a mask (True = use).
    shape : tuple of int
        The shape to broadcast to, without the coordinate axis.
    name : str
        What messages call the argument.

    Returns
    -------
    ndarray of float64 of shape `shape`, read-only when broadcast.

    Raises
    ------
    ValueError
        For negative, infinite or NaN weights and for shapes that do not broadcast.
    TypeError
        For what is no array of numbers or booleans; see `as_array`.
    """
    array = as_numpy(weights, name, booleans=True).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers. Try 0 for landmarks to be ignored.")
    if (array < 0).any():
        raise ValueError(f"{name}: got {array.min():g}; expected numbers that are not negative.")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name}: got shape {array.shape}; expected one weight for each landmark, {shape[-1:]} or {shape}."
        ) from None


def as_confidence(confidence: Any, like: Any, shape: tuple[int, ...], *, name: str = "confidence") -> Any:
    """Check how far each landmark is trusted, and return it in the library, type and device of the shapes.

    Parameters
    ----------
    confidence : array_like of shape (n_landmarks,) or (..., n_landmarks)
        From 0 (not at all) to 1 (fully); booleans are a mask (True = seen).
    like : array
        The shapes, in the type to compute in.
    shape : tuple of int
        What it must broadcast to: the leading axes of the shapes and their landmarks.
    name : str
        What messages call the argument.

    Returns
    -------
    array of shape (n_landmarks,) or (..., n_landmarks), of the library of `like`

    Raises
    ------
    ValueError
        For numbers below 0 or above 1, NaN, and shapes that do not broadcast.
    TypeError
        For what is no array of numbers or booleans; see `as_array`.
    """
    xp = namespace_of(like)
    values = as_array(confidence, name, booleans=True)
    given = tuple(values.shape)
    lead = len(shape) - len(given)
    fits = lead >= 0 and len(given) > 0 and given[-1] == shape[-1]
    if not fits or any(a not in (1, b) for a, b in zip(given, shape[lead:], strict=True)):
        raise ValueError(f"{name}: got shape {given}; expected one number a landmark, ({shape[-1]},) or {shape}.")
    if namespace_of(values) is not xp:
        values = xp.asarray(np.array(to_numpy(values), dtype=np.float64), device=device_of(like))
    values = xp.astype(values, like.dtype, copy=False)
    if values_known(values) and not bool(xp.all((values >= 0) & (values <= 1))):
        off = to_numpy(values)
        worst = off[~((off >= 0) & (off <= 1))][0]
        raise ValueError(
            f"{name}: got {worst:g}; expected numbers from 0 to 1. Try 0 for landmarks to be ignored, and dividing "
            "scores by their largest possible value."
        )
    return values


def renamed(confidence: Any, weights: Any) -> Any:
    """Return the confidence, which was called `weights` for one version."""
    if weights is None:
        return confidence
    if confidence is not None:
        raise TypeError("got confidence= and weights=, which was its name before; expected one of them.")
    warnings.warn("weights= was renamed: use confidence=.", FutureWarning, stacklevel=3)
    return weights
