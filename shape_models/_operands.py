"""What a shape basis is made of and acts on: arrays, their checks, and where they are computed with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from ._array import (
    Context,
    as_array,
    device_of,
    enter,
    float_dtype,
    is_tensor,
    is_traced,
    layout_hint,
    moved,
    namespace_of,
    to_numpy,
    values_known,
    working_dtype,
)
from ._limits import Limit, as_limit

CACHED_SHAPES = 256  # shapes whose differences from the mean stay in the cache

T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False)
class Operands:
    """The arrays of a `ShapeBasis`, checked and read-only, and the same in other libraries, types and places."""

    mean: Any
    components: Any
    variances: Any
    limit: Any = 3.0
    noise_variance: float = field(default=0.0, kw_only=True)

    # Derived from the fields in `_fill`; ClassVar keeps them out of the fields.
    _flat_mean: ClassVar[Any]
    _transposed: ClassVar[Any]
    _scale: ClassVar[Any]
    _context: ClassVar[Context]
    _kept: ClassVar[dict[Any, Any]]
    _moved: ClassVar[dict[tuple[Any, Any, Any], Any]]

    def __post_init__(self) -> None:
        given = {name: as_array(getattr(self, name), name) for name in ("mean", "components", "variances")}
        xp = namespace_of(given["mean"])
        arrays = [own_array(array, name, xp) for name, array in given.items()]
        dtype = xp.result_type(*arrays)
        mean, components, variances = (xp.astype(a, dtype, copy=False) for a in arrays)
        check_arrays(mean, components, variances, xp)
        noise = self.noise_variance
        if isinstance(noise, bool | np.ma.MaskedArray) or not math.isfinite(noise) or noise < 0:
            raise ValueError(f"noise_variance: got {noise}; expected a finite number that is not negative.")
        self._fill(mean, components, variances, as_limit(self.limit), float(noise))

    def _fill(self, mean: Any, components: Any, variances: Any, limit: Limit | None, noise: float) -> None:
        xp = namespace_of(mean)
        values = {
            "mean": mean,
            "components": components,
            "variances": variances,
            "limit": limit,
            "noise_variance": noise,
            "_flat_mean": xp.reshape(mean, (-1,)),
            # Through one dimension, so that the rows lie in memory as the product wants them.
            "_transposed": xp.reshape(xp.reshape(xp.permute_dims(components, (1, 0)), (-1,)), components.shape[::-1]),
            "_scale": xp.sqrt(variances),
            "_context": Context(xp, mean.dtype, device_of(mean), mean.dtype),
            "_kept": {},
            "_moved": {},
        }
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def _trusted(cls, mean: Any, components: Any, variances: Any, limit: Limit | None, noise: float) -> Self:
        """Make a basis of arrays known to be right, without checks or copies: this also works inside a tracer."""
        basis = object.__new__(cls)
        basis._fill(mean, components, variances, limit, noise)
        return basis

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(type(self), noise_variance=self.noise_variance)
        return make, (self.mean, self.components, self.variances, self.limit)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(event_shape={self.event_shape}, n_components={self.n_components}, "
            f"limit={self.limit!r}, noise_variance={self.noise_variance!r})"
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one shape, that of the mean."""
        return tuple(self.mean.shape)

    @property
    def n_components(self) -> int:
        """Number of modes."""
        return int(self.components.shape[0])

    @property
    def n_features(self) -> int:
        """Number of coordinates of one shape."""
        return int(self.components.shape[1])

    def _beside(self, x: Any) -> Self:
        """Return the same in the array library, float type and on the device of an array."""
        x = as_array(x, "x", booleans=True)
        xp = namespace_of(x)
        dtype = xp.float64 if xp.isdtype(x.dtype, "bool") else working_dtype(x)
        return self._on(Context(xp, dtype, device_of(x), dtype), x)

    def _on(self, context: Context, x: Any) -> Self:
        """Return the basis where an array is computed with."""
        own = self._context
        xp, dtype, device, _ = context
        if own.xp is xp and own.dtype == dtype and own.device == device:
            return self
        key = (xp, dtype, device)
        there = None if is_traced(x) else self._moved.get(key)
        if there is None:
            arrays = [moved(a, xp, dtype, device) for a in (self.mean, self.components, self.variances)]
            there = self._trusted(arrays[0], arrays[1], arrays[2], self.limit, self.noise_variance)
            # A tensor made in inference mode, by a tracer or without memory must not be met again outside.
            plain = getattr(xp, "Tensor", type(there.mean)) is type(there.mean)
            if plain and not is_traced(x) and not getattr(there.mean, "is_inference", bool)():
                self._moved[key] = there
        return there

    def _enter(self, shapes: Any) -> tuple[Any, Context, Self]:
        """Return the shapes as (..., n_features) in the working type, where they are computed, and the basis there."""
        shapes, context = enter(shapes)
        event = self.event_shape
        lead = shapes.ndim - len(event)
        if lead < 0 or tuple(shapes.shape[lead:]) != event:
            raise ValueError(shape_message(event, tuple(shapes.shape)))
        shape = (*shapes.shape[:lead], self.n_features)
        flat = shapes.reshape(shape) if isinstance(shapes, np.ndarray) else context.xp.reshape(shapes, shape)
        return flat, context, self._on(context, shapes)

    def _clip(self, b: Any) -> Any:
        """Bring coefficients into the limit."""
        return b if self.limit is None else self.limit._within(b, self._scale, self._context.xp)

    def _derived(self, name: Any, make: Callable[[], T]) -> T:
        """Return what is derived from the operands, from the last call if there was one."""
        if name not in self._kept:
            self._kept[name] = make()
        made: T = self._kept[name]
        return made

    def _enter_coefficients(self, coefficients: Any) -> tuple[Any, Context, Self]:
        b, context = enter(coefficients, "coefficients")
        if b.ndim < 1 or b.shape[-1] != self.n_components:
            raise ValueError(
                f"coefficients: got an array of shape {tuple(b.shape)}; expected (..., {self.n_components}), one for "
                "each mode. Try basis.encode(shapes)."
            )
        return b, context, self._on(context, b)

    @staticmethod
    def _fuses(rows: Any) -> bool:
        """Say whether there are so many rows of a tensor that sum and product in one save passes over memory."""
        # Traced rows are not counted: the count would become a bound of the exported graph.
        plain = is_tensor(rows) and rows.ndim > 1 and not is_traced(rows)
        return plain and math.prod(rows.shape[:-1]) > CACHED_SHAPES

    def _decode(self, b: Any) -> Any:
        xp = self._context.xp
        if self._fuses(b):
            flat = xp.addmm(self._flat_mean, xp.reshape(b, (-1, b.shape[-1])), self.components)
            return xp.reshape(flat, (*b.shape[:-1], *self.event_shape))
        flat = xp.matmul(b, self.components)
        flat += self._flat_mean
        return xp.reshape(flat, (*b.shape[:-1], *self.event_shape))


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
        raise ValueError(f"mean: got shape {tuple(mean.shape)}; expected (n_landmarks, n_dims) or (n_features,).")
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
        raise ValueError(f"variances: got shape {tuple(variances.shape)}; expected ({n_components},), one a mode.")
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
    # What comes of rounding to float32, or in a lower type of its own rounding in sums over the coordinates.
    allowed = max(1e-6, 64 * float(xp.finfo(gram.dtype).eps))
    if not error <= allowed:  # huge entries overflow to NaN
        raise ValueError(
            f"components: got rows that differ from orthonormal by {error:.2g}; expected at most {allowed:.2g}. "
            "Try np.linalg.qr(components.T)[0].T."
        )


def refuse_missing(basis: Operands, shapes: Any, coefficients: Any) -> None:
    """Raise for NaN and infinity, which no coefficient survives, so that only the coefficients are looked at."""
    if isinstance(coefficients, np.ndarray):
        flat = coefficients.reshape(-1)
        # The square needs no temporary, but may overflow.
        if math.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all():
            return
    else:
        if not values_known(coefficients):
            return
        xp = basis._context.xp
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
    where = (*first[:-1], *(int(i) for i in np.unravel_index(first[-1], basis.event_shape)))
    if np.isnan(values[first]):
        raise ValueError(
            f"shapes: got a missing landmark (NaN) at index {where}; expected complete shapes. "
            "Try basis.complete(shapes) to fill it, or basis.project(shapes, confidence=seen) with seen 0 there."
        )
    raise ValueError(f"shapes: got an infinite coordinate at index {where}; expected finite numbers.")
