"""The least-squares rotation, scale and translation of one shape onto another, from their moments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ._array import device_of, namespace_of

MANY_COORDINATES = 1 << 19  # coordinates, from which the compiled loops pay for loading them


class Turn(NamedTuple):
    """The rotation R that maximises tr(Rᵀ C) for a cross-covariance C = Σ w y xᵀ."""

    rotation: Any
    gain: Any  # tr(Rᵀ C)
    margin: Any  # how far the optimum stands out; 0 = not determined
    mirrored_gain: Any  # the same for the mirrored source


class PairFit(NamedTuple):
    """Parts of a fitted similarity and the numbers that tell whether it is determined."""

    rotation: Any
    gain: Any
    margin: Any
    mirrored_gain: Any
    translation: Any
    scale: Any
    source_size: Any  # square roots of the weighted scatters
    target_size: Any
    total_weight: Any
    source_centre: Any
    target_centre: Any

    @property
    def cosine(self) -> Any:
        """Correlation of the shapes as they lie on each other."""
        return self.gain / (self.source_size * self.target_size)

    @property
    def mirrored_cosine(self) -> Any:
        """The same with one of them mirrored."""
        return self.mirrored_gain / (self.source_size * self.target_size)


def fit_pair(
    source: Any, target: Any, weights: Any, *, rule: str, reflection: bool = False, inflation: float = 1.0
) -> PairFit:
    """Solve the weighted problem on the array API; nothing is refused here.

    The scale is that of least squares ("full", times `inflation`), the ratio of the sizes ("partial") or 1 ("rigid").
    """
    xp = namespace_of(source)
    n_dims = source.shape[-1]
    if isinstance(source, np.ndarray):
        xp = np
        moments = None
        if weights is None and source.size + target.size >= MANY_COORDINATES:
            moments = _moments_compiled(source, target, reflection)
        elif n_dims == 2:
            moments = _moments_planar(source, target, weights, reflection)
        if moments is not None:
            return _compose(*moments, rule, inflation, xp)
    if weights is None:
        total = xp.full((), float(source.shape[-2]), dtype=source.dtype, device=device_of(source))
        source_mean = xp.mean(source, axis=-2, keepdims=True)
        target_mean = xp.mean(target, axis=-2, keepdims=True)
        source, target = source - source_mean, target - target_mean
        weighted, weighted_target = source, target
    else:
        total = xp.sum(weights, axis=-1)
        share = (weights / xp.where(total > 0, total, xp.ones_like(total))[..., None])[..., None]
        source_mean = xp.sum(share * source, axis=-2, keepdims=True)
        target_mean = xp.sum(share * target, axis=-2, keepdims=True)
        source, target = source - source_mean, target - target_mean
        weighted, weighted_target = weights[..., None] * source, weights[..., None] * target
    scatters = xp.sum(weighted * source, axis=(-2, -1)), xp.sum(weighted_target * target, axis=(-2, -1))
    cross = xp.matrix_transpose(target) @ weighted  # Σ w y xᵀ
    turn = (turn_2d if n_dims == 2 else turn_3d)(cross, reflection, xp)
    return _compose(turn, scatters, (source_mean[..., 0, :], target_mean[..., 0, :]), total, rule, inflation, xp)


def _compose(
    turn: Turn, scatters: tuple[Any, Any], centres: tuple[Any, Any], total: Any, rule: str, inflation: float, xp: Any
) -> PairFit:
    """Put the parts of a fit together."""
    batch = tuple(turn.gain.shape)
    source_scatter, target_scatter, total = (
        a if tuple(a.shape) == batch else xp.broadcast_to(a, batch) for a in (*scatters, total)
    )
    divisor = xp.where(source_scatter > 0, source_scatter, xp.ones_like(source_scatter))
    if rule == "full":
        scale = inflation * turn.gain / divisor
    elif rule == "partial":
        scale = xp.sqrt(target_scatter / divisor)
    else:
        scale = xp.ones_like(turn.gain)
    if xp is np:
        moved = scale[..., None] * np.vecdot(turn.rotation, centres[0][..., None, :])
    else:
        moved = ((scale[..., None, None] * turn.rotation) @ centres[0][..., None])[..., 0]
    translation = centres[1] - moved
    return PairFit(*turn, translation, scale, xp.sqrt(source_scatter), xp.sqrt(target_scatter), total, *centres)


def _moments_planar(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None, reflection: bool
) -> tuple[Any, Any, Any, Any]:
    """Return what `_compose` needs for shapes of the plane in NumPy, in complex numbers."""
    x, y = as_complex(source), as_complex(target)
    if weights is None:
        total = source.dtype.type(x.shape[-1])
        centre_x, centre_y = (z.sum(axis=-1, keepdims=True) / total for z in (x, y))
        x, y = x - centre_x, y - centre_y
        weighted_x, weighted_y = x, y
    else:
        total = weights.sum(axis=-1)
        share = weights / np.where(total > 0, total, 1.0)[..., None]
        centre_x, centre_y = ((share * z).sum(axis=-1, keepdims=True) for z in (x, y))
        x, y = x - centre_x, y - centre_y
        weighted_x, weighted_y = weights * x, weights * y
    scatters = np.vecdot(weighted_x, x).real, np.vecdot(weighted_y, y).real
    plain, mirrored = np.vecdot(weighted_x, y), np.vecdot(weighted_x.conj(), y)  # Σ w x̄ y, Σ w x y
    turn = _turn_planar(plain.real, plain.imag, mirrored.real, mirrored.imag, reflection, np)
    return turn, scatters, (centre_x.view(source.dtype), centre_y.view(source.dtype)), total


def as_complex(points: np.ndarray) -> np.ndarray:
    """Return coordinates (..., 2) as complex numbers of the same precision."""
    return np.ascontiguousarray(points).view(np.result_type(points.dtype, np.complex64))[..., 0]


def _moments_compiled(source: np.ndarray, target: np.ndarray, reflection: bool) -> tuple[Any, Any, Any, Any] | None:
    """Return what `_compose` needs for many complete shapes; None for batches the kernels have no loop for."""
    batch = batch_shape(source, target)
    k, d = source.shape[-2:]
    if (reflection and d == 3) or any(a.ndim > 2 and a.shape[:-2] != batch for a in (source, target)):
        return None
    from . import _kernels

    dtype = source.dtype

    def column(values: np.ndarray) -> np.ndarray:
        return values.reshape(*batch, *values.shape[1:]).astype(dtype, copy=False)

    x, y = (np.ascontiguousarray(a, dtype=np.float64).reshape(-1, k, d) for a in (source, target))
    n = max(len(x), len(y))
    if d == 2:
        out = np.empty((n, 10))
        _kernels.pair_2d(x, y, n, out)
        real, imag, real_m, imag_m = (column(a) for a in out.T[:4])
        turn = _turn_planar(real, imag, real_m, imag_m, reflection, np)
        numbers = out[:, 4:]
    else:
        out, rotation = np.empty((n, 11)), np.empty((n, 3, 3))
        _kernels.pair_3d(x, y, n, rotation, out)
        turn = Turn(column(rotation), *(column(a) for a in out.T[:3]))
        numbers = out[:, 3:]
    scatters = tuple(column(numbers[:, i]) for i in (0, 1))
    centres = tuple(column(numbers[:, i : i + d]) for i in (2, 2 + d))
    return turn, scatters, centres, np.asarray(float(k), dtype=dtype)


def turn_2d(cross: Any, reflection: bool, xp: Any) -> Turn:
    """Return the best rotation of 2 x 2 cross-covariances."""
    return _turn_planar(
        cross[..., 0, 0] + cross[..., 1, 1],
        cross[..., 1, 0] - cross[..., 0, 1],
        # R = [[c, s], [s, -c]]: the same with the second source coordinate negated
        cross[..., 0, 0] - cross[..., 1, 1],
        cross[..., 1, 0] + cross[..., 0, 1],
        reflection,
        xp,
    )


def _turn_planar(real: Any, imag: Any, real_m: Any, imag_m: Any, reflection: bool, xp: Any) -> Turn:
    """Return the best rotation from Σ w x̄ y, and from Σ w x y for the mirrored source."""
    gain, gain_m = (xp.sqrt(a * a + b * b) for a, b in ((real, imag), (real_m, imag_m)))
    best, sign = gain, 1.0
    if reflection:
        mirror = gain_m > gain
        real, imag = xp.where(mirror, real_m, real), xp.where(mirror, imag_m, imag)
        best, ones = xp.where(mirror, gain_m, gain), xp.ones_like(gain)
        sign = xp.where(mirror, -ones, ones)
    safe = xp.where(best > 0, best, xp.ones_like(best))
    c, s = real / safe, imag / safe
    if xp is np:
        rotation = np.empty((*c.shape, 2, 2), dtype=c.dtype)
        rotation[..., 0, 0], rotation[..., 1, 0], rotation[..., 0, 1], rotation[..., 1, 1] = c, s, -sign * s, sign * c
    else:
        rotation = xp.stack([xp.stack([c, -sign * s], axis=-1), xp.stack([s, sign * c], axis=-1)], axis=-2)
    return Turn(rotation, best, best, gain_m)


def turn_3d(cross: Any, reflection: bool, xp: Any) -> Turn:
    """Return the best rotation of 3 x 3 cross-covariances."""
    # Overflow, which no decomposition survives, becomes NaN in its own row only.
    lost = ~xp.isfinite(xp.sum(cross, axis=(-2, -1), keepdims=True))
    u, values, vt = xp.linalg.svd(xp.where(lost, xp.zeros_like(cross), cross), full_matrices=False)
    values = xp.where(lost[..., 0], xp.full_like(values, math.nan), values)
    ones = xp.ones_like(values[..., 0])
    sign = xp.where(xp.linalg.det(u) * xp.linalg.det(vt) < 0, -ones, ones)
    larger, last = values[..., 0] + values[..., 1], values[..., 2]
    if reflection:
        return Turn(u @ vt, larger + last, values[..., 1], larger + last)
    flip = xp.stack([ones, ones, sign], axis=-1)  # eq. (39) of Umeyama: keeps det R = +1
    return Turn((u * flip[..., None, :]) @ vt, larger + sign * last, values[..., 1] + sign * last, larger - sign * last)


def batch_shape(source: Any, target: Any) -> tuple[int, ...]:
    if source.ndim == 2 == target.ndim:
        return ()
    return np.broadcast_shapes(tuple(source.shape[:-2]), tuple(target.shape[:-2]))
