"""What every function does to its arrays first: name the library, choose the float type, check the shape."""

from __future__ import annotations

import sys
from typing import Any

import array_api_compat.numpy as _numpy
import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array

__all__ = [
    "DegenerateShapeError",
    "array_namespace",
    "as_array",
    "as_shapes",
    "as_weights",
    "device_of",
    "float_dtype",
    "is_array",
    "is_numpy_array",
    "is_traced",
    "namespace_of",
    "plain_memory",
    "to_numpy",
]


class DegenerateShapeError(ValueError):
    """The question has no answer for these points: all coincide, all lie on a line, or too few are seen.

    Examples
    --------
    >>> from shape_models import DegenerateShapeError
    >>> issubclass(DegenerateShapeError, ValueError)
    True
    """


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


def as_array(x: Any) -> Any:
    """Return arrays of any library as they are, and lists and numbers as NumPy arrays."""
    if isinstance(x, np.ndarray) or hasattr(x, "__torch_function__") or is_array_api_obj(x):
        refuse_masked(x)
        return x
    refuse_masked(x)
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            "got a list whose parts differ in length; expected the same number of landmarks in every shape. "
            "Try filling missing landmarks with NaN."
        ) from None


def refuse_masked(x: Any, name: str = "shapes") -> None:
    """Raise for a masked array, alone or in a list: the mask would be lost, what lies under it taken for numbers."""
    if type(x) is np.ndarray:
        return
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: got a masked array; expected an array in which missing landmarks are NaN. Try "
            f"np.ma.filled({name}.astype(float), np.nan)."
        )
    if isinstance(x, list | tuple):
        for part in x:
            if not isinstance(part, float | int):
                refuse_masked(part, name)


def device_of(array: Any) -> Any:
    """Return the device of an array, None for NumPy."""
    return None if isinstance(array, np.ndarray) else array.device


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


def plain_memory(array: Any) -> np.ndarray | None:
    """Return the memory of a CPU tensor as a NumPy array, or None where a gradient or a transform follows the tensor.

    NumPy can write in place and skip the overhead of a call, which a computation that is followed cannot.
    """
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is None or type(array) is not torch.Tensor or is_traced(array):
        return None
    if array.dtype not in (torch.float64, torch.float32) or array.device.type != "cpu":
        return None
    if array.requires_grad and torch.is_grad_enabled():
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
        return array.detach().cpu().numpy()
    return np.asarray(array)


def float_dtype(dtype: Any, xp: Any = np) -> Any:
    """Return the type to compute in: a real floating type stays as it is, integers become float64.

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
    if xp is np:
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return dtype
        if dtype.kind in "iu":
            return np.dtype(np.float64)
    else:
        if xp.isdtype(dtype, "real floating"):
            return dtype
        if xp.isdtype(dtype, "integral"):
            return xp.float64
    raise TypeError(f"got an array of {dtype}; expected real numbers. Try shapes.astype(float).")


def as_shapes(
    shapes: Any,
    *,
    name: str = "shapes",
    n_landmarks: int | None = None,
    n_dims: int | tuple[int, ...] | None = None,
    min_samples: int | None = None,
    allow_nan: bool = False,
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
    allow_nan : bool
        Whether NaN (a missing landmark) is accepted. A landmark with one NaN coordinate is missing as a whole and
        comes back with all of its coordinates NaN. Infinities are always refused.
    copy : bool
        Always return an array of its own.

    Returns
    -------
    ndarray of shape (..., n_landmarks, n_dims)
        float32 and other float types stay, integers become float64.

    Raises
    ------
    ValueError
        When a shape, a count or a value is not as asked for.
    TypeError
        When the entries are no real numbers, or for a masked array.
    """
    refuse_masked(shapes, name)
    try:
        array = np.asarray(shapes)
    except ValueError:
        raise ValueError(
            f"{name}: got a list whose parts differ in length; expected the same number of landmarks in every shape. "
            "Try filling missing landmarks with NaN."
        ) from None
    if array.dtype == object:
        raise ValueError(
            f"{name}: got an array of objects; expected numbers. Every shape must have the same landmarks and "
            "dimensions; missing landmarks are NaN."
        )
    array = np.array(array, dtype=float_dtype(array.dtype), copy=True if copy else None)
    if min_samples is not None and array.ndim != 3:
        hint = " For one shape try shape[None]." if array.ndim == 2 else ""
        raise ValueError(
            f"{name}: got an array of shape {array.shape}; expected (n_samples, n_landmarks, n_dims).{hint}"
        )
    if array.ndim < 2:
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected (..., n_landmarks, n_dims).")
    if n_dims is not None:
        choices = (n_dims,) if isinstance(n_dims, int) else n_dims
        if array.shape[-1] not in choices:
            expected = " or ".join(map(str, choices))
            hint = ""
            if array.shape[-2] in choices:
                hint = " Try np.swapaxes(shapes, -1, -2): the coordinates belong on the last axis."
            raise ValueError(
                f"{name}: got {array.shape[-1]} coordinates per landmark; expected {expected} on the last axis.{hint}"
            )
    if n_landmarks is not None and array.shape[-2] != n_landmarks:
        raise ValueError(
            f"{name}: got {array.shape[-2]} landmarks; expected {n_landmarks}. "
            "Try LandmarkScheme.subset or convert to select common landmarks."
        )
    if min_samples is not None and array.shape[0] < min_samples:
        raise ValueError(f"{name}: got {array.shape[0]} samples; expected at least {min_samples}.")
    finite = np.isfinite(array)
    if not finite.all():
        if np.isinf(array).any():
            where = tuple(int(i) for i in np.argwhere(np.isinf(array))[0])
            raise ValueError(f"{name}: got an infinite coordinate at index {where}; expected finite numbers or NaN.")
        if not allow_nan:
            where = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(
                f"{name}: got a missing landmark (NaN) at index {where}; expected complete shapes. "
                "Try ASM.complete to fill it, or weights= to ignore it."
            )
        missing = ~finite.all(axis=-1, keepdims=True)
        array = np.where(missing, np.asarray(np.nan, dtype=array.dtype), array)
    return array


def as_weights(weights: Any, shape: tuple[int, ...], *, name: str = "weights") -> np.ndarray:
    """Check landmark weights and broadcast them to `shape`.

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
    """
    refuse_masked(weights, name)
    array = np.asarray(weights)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got an array of {array.dtype}; expected numbers or booleans.")
    array = array.astype(np.float64)
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
