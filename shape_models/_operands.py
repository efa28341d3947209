"""What a shape basis is made of and acts on: copies, checks and what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._array import device_of, float_dtype, layout_hint, namespace_of, to_numpy, values_known

__all__ = ["check_arrays", "moved_array", "own_array", "refuse_missing", "shape_message"]


def shape_message(event: tuple[int, ...], got: tuple[int, ...], name: str = "shapes") -> str:
    """Say what is wrong with an array of shape `got` where shapes (..., *event) are expected."""
    expected = "(..., " + ", ".join(map(str, event)) + ")"
    if len(event) == 2 and got[-2:-1] == event[:1]:
        return f"{name}: got {got[-1]} coordinates per landmark; expected {event[1]}, as in the basis."
    message = f"{name}: got an array of shape {got}; expected {expected}, the landmarks of the basis."
    if len(event) == 2:
        hint = layout_hint(got, event[0], (event[1],), name)
        return message + (hint or " Try LandmarkScheme.subset or convert to select common landmarks.")
    return message + " Try a basis fitted on shapes of this kind, or shapes.reshape(n_samples, -1)."


def own_array(array: Any, name: str, xp: Any) -> Any:
    """Return a floating copy of an array of the basis."""
    if not isinstance(array, np.ndarray) and namespace_of(array) is not xp:
        raise ValueError(f"{name}: got an array of another library than the mean; expected the same for all three.")
    try:
        dtype = float_dtype(array.dtype, np if isinstance(array, np.ndarray) else xp)
    except TypeError:
        raise ValueError(f"{name}: got an array of {array.dtype}; expected real numbers.") from None
    if isinstance(array, np.ndarray):
        return xp.asarray(np.array(array, dtype=dtype))
    return xp.astype(array, dtype, copy=True)


def check_arrays(mean: Any, components: Any, variances: Any, xp: Any) -> None:
    """Raise unless mean (event), components (k, n) and variances (k,) make a basis."""
    n_features = math.prod(mean.shape)
    if mean.ndim < 1 or n_features == 0:
        raise ValueError(
            f"mean: got an array of shape {tuple(mean.shape)}; expected (n_landmarks, n_dims) or (n_features,)."
        )
    if components.ndim != 2 or components.shape[1] != n_features or components.shape[0] < 1:
        hint = ""
        if components.ndim == 3 and math.prod(components.shape[1:]) == n_features:
            hint = " Try components.reshape(len(components), -1)."
        elif components.ndim == 2 and components.shape[0] == n_features:
            hint = " Try components.T: each row is one mode."
        raise ValueError(
            f"components: got an array of shape {tuple(components.shape)}; expected (n_components, {n_features}), "
            f"for a mean of shape {tuple(mean.shape)}.{hint}"
        )
    n_components = components.shape[0]
    if n_components > n_features:
        raise ValueError(f"components: got {n_components} modes; expected at most {n_features}, one a coordinate.")
    if tuple(variances.shape) != (n_components,):
        raise ValueError(
            f"variances: got an array of shape {tuple(variances.shape)}; expected ({n_components},), one a mode."
        )
    for name, array in (("mean", mean), ("components", components), ("variances", variances)):
        if not bool(xp.all(xp.isfinite(array))):
            raise ValueError(f"{name}: got NaN or infinity; expected finite numbers.")
    if bool(xp.any(variances < 0)):
        raise ValueError(
            f"variances: got {float(xp.min(variances)):g}; expected numbers that are not negative. "
            "Try np.maximum(variances, 0) for the rounding errors of an eigenvalue routine."
        )
    gram = xp.matmul(components, xp.permute_dims(components, (1, 0)))
    error = float(xp.max(xp.abs(gram - xp.eye(n_components, dtype=gram.dtype, device=device_of(gram)))))
    allowed = max(1e-6, 64 * float(xp.finfo(gram.dtype).eps))
    if not error <= allowed:  # huge entries overflow to NaN
        raise ValueError(
            f"components: got rows that differ from orthonormal by {error:.2g}; expected at most {allowed:.2g}. "
            "Try np.linalg.qr(components.T)[0].T."
        )


def moved_array(array: Any, xp: Any, dtype: Any, device: Any) -> Any:
    """Return an array in another library, type and on another device."""
    if namespace_of(array) is not xp:
        # A copy: a tensor would share, and complain about, the read-only memory.
        array = xp.asarray(np.array(to_numpy(array)), device=device)
    elif device is not None and array.device != device:
        array = xp.asarray(array, device=device)
    return xp.astype(array, dtype, copy=False)


def refuse_missing(shapes: Any, coefficients: Any, event_shape: tuple[int, ...]) -> None:
    """Raise for NaN and infinity, which no coefficient survives, so that only the coefficients are looked at."""
    if isinstance(coefficients, np.ndarray):
        flat = coefficients.reshape(-1)
        # The square needs no temporary, but may overflow.
        if math.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all():
            return
    else:
        if not values_known(coefficients):
            return
        xp = namespace_of(coefficients)
        if bool(xp.isfinite(xp.sum(coefficients))) or bool(xp.all(xp.isfinite(coefficients))):
            return
    values = to_numpy(shapes)
    bad = ~np.isfinite(values)
    if not bad.any():
        raise ValueError(
            f"shapes: got coordinates up to {np.abs(values).max():.3g}, too large for {values.dtype}; expected numbers "
            "whose sums are finite. Try another unit."
        )
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    where = (*first[:-1], *(int(i) for i in np.unravel_index(first[-1], event_shape)))
    if np.isnan(values[first]):
        raise ValueError(
            f"shapes: got a missing landmark (NaN) at index {where}; expected complete shapes. "
            "Try basis.complete(shapes) to fill it, or confidence= with 0 for what is missing."
        )
    raise ValueError(f"shapes: got an infinite coordinate at index {where}; expected finite numbers.")
