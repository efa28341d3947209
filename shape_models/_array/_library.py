"""What an array is: its library, its device, and whether its values may be looked at."""

from __future__ import annotations

import sys
from typing import Any

import array_api_compat
import array_api_compat.numpy as _numpy
import numpy as np
from array_api_compat import array_namespace


def is_tensor(value: Any) -> bool:
    """Say whether a value is a tensor of torch, in a way that its compilers of all versions can trace."""
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def namespace_of(array: Any) -> Any:
    """Return the array API namespace of one array, quickly and in a way that compilers can trace.

    `array_namespace` looks every type up through cached helpers, which torch.compile warns about.
    """
    if isinstance(array, np.ndarray):
        return _numpy
    if is_tensor(array):
        import array_api_compat.torch as xp

        return xp
    return array_namespace(array)


def device_of(array: Any) -> Any:
    """Return the device of an array, None for NumPy."""
    return None if isinstance(array, (np.ndarray, np.generic)) else array.device


def is_array(value: Any) -> bool:
    """Say whether a value is an array of some library, in a way that compilers can trace."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        return True
    return hasattr(value, "__array_namespace__") and not isinstance(value, np.generic)


def is_traced(array: Any) -> bool:
    """Say whether a compiler or exporter follows the computation, so that values must not be looked at."""
    if not is_tensor(array):
        return False
    torch = sys.modules["torch"]
    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing())


def values_known(*arrays: Any) -> bool:
    """Say whether values may be looked at: not while torch compiles, exports or maps over a batch."""
    for a in arrays:
        if not is_tensor(a):
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
    torch = sys.modules.get("torch")
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
        return np.asarray(array.detach())
    except RuntimeError:  # vmap and the other transforms of torch.func
        return None


def moved(array: Any, xp: Any, dtype: Any, device: Any) -> Any:
    """Return an array in a library, of a type and on a device."""
    if namespace_of(array) is not xp:
        # A copy: a tensor would share, and complain about, read-only memory.
        return xp.asarray(np.array(to_numpy(array)), dtype=dtype, device=device)
    if device is not None and array.device != device:
        array = array_api_compat.to_device(array, device)
    return xp.astype(array, dtype, copy=False)


def beside(array: Any, like: Any) -> Any:
    """Return an array in the library and type and on the device of another."""
    return moved(array, namespace_of(like), like.dtype, device_of(like))


def to_numpy(array: Any) -> np.ndarray:
    """Return the numbers of an array of any library, without its gradient, as a NumPy array."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if array.dtype.is_floating_point and array.dtype.itemsize < 4:
            array = array.float()  # NumPy has no bfloat16
        return np.asarray(array.numpy())
    return np.asarray(array)
