"""Procrustes: the similarity that best takes one shape to another, and the mean that best fits a whole set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import linalg, special
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._array import (
    LARGEST,
    SMALLEST,
    DegenerateShapeError,
    array_namespace,
    as_array,
    as_numpy,
    as_shapes,
    as_weights,
    device_of,
    enter,
    is_array,
    layout_hint,
    namespace_of,
    refuse_extreme,
    refuse_masked,
    to_numpy,
    values_known,
    working_dtype,
)
from ._fitted import all_or_nothing
from ._robust import reweighted
from ._transforms import Similarity
from ._typing import ArrayLike

if TYPE_CHECKING:
    from ._sliding import SlidingRecord

__all__ = [
    "GeneralizedProcrustes",
    "ProcrustesResult",
    "estimate_similarity",
    "generalized_procrustes",
    "mirror_shapes",
]

_HUBER = 1.345  # 95 % efficiency under Gaussian noise
_LARGE = 1 << 19  # coordinates, from which the compiled loops pay for loading them


def estimate_similarity(
    source: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    scaling: bool = True,
    reflection: bool = False,
    loss: Literal["linear", "huber"] = "linear",
    on_error: OnError | None = None,
) -> Similarity:
    """Return the similarity (or rigid motion) that takes `source` nearest to `target`.

    It minimises Σ wₖ ‖s R xₖ + t − yₖ‖² over rotations R, translations t and scales s > 0: in two dimensions through
    the complex closed form, in three through the singular value decomposition of the cross-covariance. Every leading
    axis is a batch axis.

    Parameters
    ----------
    source, target : array of shape (..., n_landmarks, n_dims)
        Corresponding landmarks, `n_dims` 2 or 3. The leading axes broadcast. NaN is a missing landmark, left out.
    weights : array of shape (n_landmarks,) or (..., n_landmarks), optional
        Non-negative weights wₖ, or a mask (True = use). Only their ratios count.
    scaling : bool, default=True
        False fixes s = 1: a rigid motion.
    reflection : bool, default=False
        Whether R may mirror. The transforms that do are reported by their `reflects`.
    loss : {"linear", "huber"}, default="linear"
        "huber" bounds the pull of single bad landmarks: squared up to 1.345 σ, linear beyond, with σ estimated from
        the median distance; by iterated reweighting.
    on_error : {"status", "raise"}, optional
        Whether a pair without a single best similarity becomes a row of NaN, with the reason in `Similarity.status`, or
        an exception: by default an exception for one pair, and a row of NaN in a batch.

    Returns
    -------
    Similarity
        Batched like the inputs; same array library. A row that could not be fitted is NaN and leaves the others as
        they would be without it; ``status`` says why. Through torch the result is differentiable, away from the
        degenerate cases. Inside ``torch.compile`` and ``torch.func.vmap``, where values cannot be looked at, nothing is
        refused: NaN goes through, and degenerate shapes give some rotation.

    Raises
    ------
    DegenerateShapeError
        For one pair, or with ``on_error="raise"``, when no single rotation is best: all seen points of a shape
        coincide, too few are seen, 3-D points lie on one line, or `source` is a mirror image that every rotation fits
        equally badly; when a coordinate is infinite.
    ValueError
        For shapes that do not match and negative weights.

    References
    ----------
    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4),
    1991, eq. (39)-(42). I. L. Dryden and K. V. Mardia, "Statistical Shape Analysis", 2nd ed., 2016, chapter 8, for the
    complex form. P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import estimate_similarity
    >>> source = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> target = np.array([[5.0, 5.0], [5.0, 9.0], [3.0, 5.0]])
    >>> t = estimate_similarity(source, target)
    >>> float(np.round(t.scale, 6)), bool(np.allclose(t(source), target))
    (2.0, True)
    """
    if loss not in ("linear", "huber"):
        raise ValueError(f"loss: got {loss!r}; expected 'linear' or 'huber'.")
    pair = _Pair.of(source, target, weights)
    rule = "full" if scaling else "rigid"
    if loss == "huber" and pair.infinite is None:
        raise ValueError("loss='huber' iterates until it settles, which torch cannot trace. Try loss='linear'.")
    fit, status = pair.fit(rule=rule, reflection=reflection, on_error=on_error)
    if loss == "huber":
        source, target, weights = pair.without(status)
        if status is not None:
            fit = _fit(source, target, weights, rule=rule, reflection=reflection)
        fit = _huber(source, target, weights, fit, rule=rule, reflection=reflection)
        _, status = pair.judged(fit, status, on_error)
    return _similarity(fit, status)


OnError = Literal["status", "raise"]


class _Turn(NamedTuple):
    """The rotation R that maximises tr(Rᵀ C) for a cross-covariance C = Σ w y xᵀ."""

    rotation: Any
    gain: Any  # tr(Rᵀ C)
    margin: Any  # how far the optimum stands out; 0 = not determined
    mirrored_gain: Any  # the same for the mirrored source


class _Fit(NamedTuple):
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


class _Pair(NamedTuple):
    """Two inputs in one library and type, zeros where missing, and weights or None."""

    source: Any
    target: Any
    weights: Any
    infinite: Any  # which rows have an infinite coordinate, False for none; None where values cannot be looked at
    names: tuple[str, str]

    @classmethod
    def of(
        cls, source: Any, target: Any, weights: Any, names: tuple[str, str] = ("source", "target"), model: bool = False
    ) -> _Pair:
        """Check the inputs. With `model` the target is right by definition, and messages speak of the source."""
        foreign = [a for a in (source, target) if is_array(a) and not isinstance(a, np.ndarray)]
        if foreign:
            like, context = enter(foreign[0], names[0 if foreign[0] is source else 1])
            xp = context.xp
            source, target = (
                enter(a, n)[0] if is_array(a) and not isinstance(a, np.ndarray)
                else xp.asarray(np.array(as_numpy(a, n)), dtype=like.dtype, device=context.device)
                for a, n in zip((source, target), names, strict=True)
            )  # fmt: skip
            for name, a in zip(names, (source, target), strict=True):
                if a.ndim < 2 or a.shape[-1] not in (2, 3):
                    hint = layout_hint(tuple(a.shape), None, (2, 3), name)
                    raise ValueError(f"{name}: got shape {tuple(a.shape)}; expected (..., n_landmarks, 2 or 3).{hint}")
        else:
            asked: dict[str, Any] = {"min_landmarks": 2, "allow_nan": True, "allow_inf": True}
            target = as_shapes(target, name=names[1], n_dims=(2, 3), **asked)
            k, d = target.shape[-2:] if model else (None, (2, 3))
            source = as_shapes(source, name=names[0], n_landmarks=k, n_dims=d, **asked)
            xp = namespace_of(source)
            dtype = np.result_type(working_dtype(source), working_dtype(target))
            source, target = source.astype(dtype, copy=False), target.astype(dtype, copy=False)
        if source.shape[-2:] != target.shape[-2:]:
            raise ValueError(
                f"got {names[0]} with {tuple(source.shape[-2:])} and {names[1]} with {tuple(target.shape[-2:])} "
                "landmarks and dimensions; expected the same. Try LandmarkScheme.subset or convert to select common "
                "landmarks."
            )
        try:
            batch = _batch(source, target)
        except ValueError:
            raise ValueError(
                f"got {names[0]} {tuple(source.shape)} and {names[1]} {tuple(target.shape)}; "
                "expected leading axes that broadcast."
            ) from None
        if weights is not None:
            weights = _relative_weights(weights, source, (*batch, int(source.shape[-2])))
        if not values_known(source, target):
            return cls(source, target, weights, None, names)
        if bool(xp.isfinite(xp.sum(source) + xp.sum(target))):
            return cls(source, target, weights, False, names)
        lost = ~(xp.isfinite(source) & xp.isfinite(target))
        infinite = xp.any(xp.isinf(source) | xp.isinf(target), axis=(-2, -1))
        zero = xp.zeros_like(source[..., :1])
        source = xp.where(xp.isfinite(source), source, zero)
        target = xp.where(xp.isfinite(target), target, zero)
        mask = xp.astype(~xp.any(lost, axis=-1), source.dtype)
        return cls(source, target, mask if weights is None else weights * mask, infinite, names)

    def fit(
        self, *, rule: str, reflection: bool, on_error: str | None, inflation: float = 1.0
    ) -> tuple[_Fit, np.ndarray | None]:
        """Return the fit, and the status of each row, None where all are well."""
        if on_error not in (None, "status", "raise"):
            raise ValueError(f"on_error: got {on_error!r}; expected 'status' or 'raise'.")
        parts = (self.source, self.target, self.weights)
        with nullcontext() if self.infinite is None else np.errstate(over="ignore", invalid="ignore"):
            fit = _fit(*parts, rule=rule, reflection=reflection, inflation=inflation)
        return self.judged(fit, None, on_error)

    def judged(self, fit: _Fit, before: np.ndarray | None, on_error: str | None) -> tuple[_Fit, np.ndarray | None]:
        """Return the fit and the status of each row, or raise."""
        if self.infinite is None:
            return fit, None
        status = row_status(self.source, self.target, self.weights, fit)
        if self.infinite is not False and bool(namespace_of(self.source).any(self.infinite)):
            status = np.full(fit.gain.shape, "ok", dtype="<U21") if status is None else status
            status = np.where(to_numpy(self.infinite), "infinite coordinate", status)
        if before is not None:
            status = before if status is None else np.where(before == "ok", status, before)
        if status is not None and (on_error == "raise" or (on_error is None and not status.ndim)):
            refuse_status(status, self.source, self.target, self.weights, self.names)
        return fit, status

    def without(self, status: np.ndarray | None) -> tuple[Any, Any, Any]:
        """Return source, target and weights with a shape fitted to itself in the rows that cannot be fitted."""
        if status is None:
            return self.source, self.target, self.weights
        xp = namespace_of(self.source)
        k, d = self.source.shape[-2:]
        bad = xp.asarray(status != "ok", device=device_of(self.source))
        dummy = xp.asarray(np.random.default_rng(0).normal(size=(k, d)), device=device_of(self.source))
        dummy = xp.astype(dummy, self.source.dtype)
        source, target = (xp.where(bad[..., None, None], dummy, a) for a in (self.source, self.target))
        weights = self.weights
        return source, target, None if weights is None else xp.where(bad[..., None], xp.ones_like(weights), weights)


def _relative_weights(weights: Any, like: Any, shape: tuple[int, ...]) -> Any:
    """Return weights beside the shapes, broadcast to `shape`."""
    xp = namespace_of(like)
    if not is_array(weights) or isinstance(weights, np.ndarray):
        checked = as_weights(weights, shape)
        if isinstance(like, np.ndarray):
            return checked.astype(like.dtype, copy=False)
        return xp.asarray(np.array(checked), dtype=like.dtype, device=device_of(like))
    weights = as_array(weights, "weights", booleans=True)
    try:
        weights = xp.broadcast_to(xp.astype(weights, like.dtype), shape)
    except RuntimeError:
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}; expected one weight for each landmark, "
            f"{shape[-1:]} or {shape}."
        ) from None
    if values_known(weights) and not bool(xp.all((weights >= 0) & xp.isfinite(weights))):
        raise ValueError("weights: got negative or infinite numbers, or NaN; expected finite ones from 0 up.")
    return weights


def _similarity(fit: _Fit, status: np.ndarray | None) -> Similarity:
    """Return the similarity of a fit, NaN in the rows that could not be fitted."""
    parts = (fit.rotation, fit.translation, fit.scale)
    if status is not None:
        xp = namespace_of(fit.gain)
        bad = xp.asarray(status != "ok", device=device_of(fit.gain))
        rows = bad[..., None, None], bad[..., None], bad
        parts = tuple(xp.where(b, xp.full_like(p, math.nan), p) for b, p in zip(rows, parts, strict=True))
    return Similarity._of(*parts, status=status)


def _fit(
    source: Any, target: Any, weights: Any, *, rule: str, reflection: bool = False, inflation: float = 1.0
) -> _Fit:
    """Solve the weighted problem on the array API; nothing is refused here.

    The scale is that of least squares ("full", times `inflation`), the ratio of the sizes ("partial") or 1 ("rigid").
    """
    xp = namespace_of(source)
    n_dims = source.shape[-1]
    if isinstance(source, np.ndarray):
        xp = np
        moments = None
        if weights is None and source.size + target.size >= _LARGE:
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
    turn = (_turn_2d if n_dims == 2 else _turn_3d)(cross, reflection, xp)
    return _compose(turn, scatters, (source_mean[..., 0, :], target_mean[..., 0, :]), total, rule, inflation, xp)


def _compose(
    turn: _Turn, scatters: tuple[Any, Any], centres: tuple[Any, Any], total: Any, rule: str, inflation: float, xp: Any
) -> _Fit:
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
    return _Fit(*turn, translation, scale, xp.sqrt(source_scatter), xp.sqrt(target_scatter), total, *centres)


def _moments_planar(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None, reflection: bool
) -> tuple[Any, Any, Any, Any]:
    """Return what `_compose` needs for shapes of the plane in NumPy, in complex numbers."""
    x, y = _as_complex(source), _as_complex(target)
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


def _as_complex(points: np.ndarray) -> np.ndarray:
    """Return coordinates (..., 2) as complex numbers of the same precision."""
    return np.ascontiguousarray(points).view(np.result_type(points.dtype, np.complex64))[..., 0]


def _moments_compiled(source: np.ndarray, target: np.ndarray, reflection: bool) -> tuple[Any, Any, Any, Any] | None:
    """Return what `_compose` needs for many complete shapes; None for batches the kernels have no loop for."""
    batch = _batch(source, target)
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
        turn = _Turn(column(rotation), *(column(a) for a in out.T[:3]))
        numbers = out[:, 3:]
    scatters = tuple(column(numbers[:, i]) for i in (0, 1))
    centres = tuple(column(numbers[:, i : i + d]) for i in (2, 2 + d))
    return turn, scatters, centres, np.asarray(float(k), dtype=dtype)


def _turn_2d(cross: Any, reflection: bool, xp: Any) -> _Turn:
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


def _turn_planar(real: Any, imag: Any, real_m: Any, imag_m: Any, reflection: bool, xp: Any) -> _Turn:
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
    return _Turn(rotation, best, best, gain_m)


def _turn_3d(cross: Any, reflection: bool, xp: Any) -> _Turn:
    """Return the best rotation of 3 x 3 cross-covariances."""
    # Overflow, which no decomposition survives, becomes NaN in its own row only.
    lost = ~xp.isfinite(xp.sum(cross, axis=(-2, -1), keepdims=True))
    u, values, vt = xp.linalg.svd(xp.where(lost, xp.zeros_like(cross), cross), full_matrices=False)
    values = xp.where(lost[..., 0], xp.full_like(values, math.nan), values)
    ones = xp.ones_like(values[..., 0])
    sign = xp.where(xp.linalg.det(u) * xp.linalg.det(vt) < 0, -ones, ones)
    larger, last = values[..., 0] + values[..., 1], values[..., 2]
    if reflection:
        return _Turn(u @ vt, larger + last, values[..., 1], larger + last)
    flip = xp.stack([ones, ones, sign], axis=-1)  # eq. (39) of Umeyama: keeps det R = +1
    return _Turn(
        (u * flip[..., None, :]) @ vt, larger + sign * last, values[..., 1] + sign * last, larger - sign * last
    )


def _huber(source: Any, target: Any, weights: Any, fit: _Fit, *, rule: str, reflection: bool) -> _Fit:
    """Iterate weights min(1, c σ / rₖ); σ may only fall, so that the weighted problems settle."""
    xp = namespace_of(source)
    n_dims = source.shape[-1]
    base = xp.ones_like(source[..., 0] * target[..., 0]) if weights is None else weights
    eps = xp.finfo(source.dtype).eps
    floor = 4 * eps * fit.target_size + xp.finfo(source.dtype).smallest_normal
    # the fraction of points that must fit for σ to be small: half, and enough more that none fits them by chance
    count = xp.sum(xp.astype(base > 0, source.dtype), axis=-1)
    free = {2: 2, 3: 3}[n_dims]  # landmarks that a similarity can fit exactly, rounded up
    quota = xp.minimum(xp.floor((count + free + 1) / 2), count)
    level = np.asarray((quota - 0.5) / xp.where(count > 0, count, xp.ones_like(count)), dtype=np.float64)
    length = np.sqrt(2 * special.gammaincinv(n_dims / 2, np.clip(level, 1e-3, 1)))  # chi quantile
    length = xp.asarray(length.tolist(), dtype=source.dtype, device=device_of(source))
    sigma = None
    tol = eps ** (2 / 3)
    for _ in range(100):
        x = source - fit.source_centre[..., None, :]
        y = target - fit.target_centre[..., None, :]
        matrix = fit.scale[..., None, None] * fit.rotation
        distance = xp.sqrt(xp.sum((x @ xp.matrix_transpose(matrix) - y) ** 2, axis=-1))
        now = _quantile(distance, base, quota / xp.where(count > 0, count, xp.ones_like(count)), xp) / length
        sigma = now if sigma is None else xp.minimum(sigma, now)
        bound = xp.maximum(_HUBER * sigma, floor)[..., None]
        before = fit
        fit = _fit(source, target, base * (bound / xp.maximum(distance, bound)), rule=rule, reflection=reflection)
        change = xp.abs(fit.scale[..., None, None] * fit.rotation - matrix)
        moved = xp.abs(fit.translation - before.translation)
        size = xp.maximum(fit.target_size, floor)[..., None]
        still = moved <= tol * size + 1e3 * eps * xp.abs(fit.translation)
        if bool(xp.all(change <= tol * fit.scale[..., None, None])) and bool(xp.all(still)):
            break
    return fit


def _quantile(values: Any, weights: Any, level: Any, xp: Any) -> Any:
    """Return the smallest value whose fraction of the weight, with all smaller ones, reaches the level."""
    order = xp.argsort(values, axis=-1)
    values = xp.take_along_axis(values, order, axis=-1)
    running = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    short = running < (level * (1 - 1e-6))[..., None] * running[..., -1:]
    index = xp.sum(xp.astype(short, xp.int64), axis=-1, keepdims=True)
    index = xp.clip(index, 0, values.shape[-1] - 1)
    return xp.take_along_axis(values, index, axis=-1)[..., 0]


def row_status(source: Any, target: Any, weights: Any, fit: _Fit) -> np.ndarray | None:
    """Say row by row, in the words of `Similarity.status`, whether the best similarity is unique; None if all are."""
    n_dims = source.shape[-1]
    eps = 16 * float(namespace_of(source).finfo(source.dtype).eps)
    names = ("source_size", "target_size", "total_weight", "source_centre", "target_centre", "margin")
    size, other, total, centre, other_centre, margin = (to_numpy(getattr(fit, name)) for name in names)
    with np.errstate(over="ignore", invalid="ignore"):
        # Rounding of centred coordinates: eps times their root mean square about the origin.
        slack = eps * np.sqrt(size * size + total * (centre * centre).sum(axis=-1))
        other_slack = eps * np.sqrt(other * other + total * (other_centre * other_centre).sum(axis=-1))
        loose = ~(margin > slack * other + other_slack * size)
        flat = (size <= slack) | (other <= other_slack)
    huge = ~np.isfinite(margin + size + other)
    if not (loose | flat | huge).any():
        return None
    count = np.asarray(source.shape[-2] if weights is None else (to_numpy(weights) > 0).sum(axis=-1))
    collinear = np.zeros(loose.shape, dtype=bool)
    if n_dims == 3:
        for index in zip(*np.nonzero(np.atleast_1d(loose & ~flat & ~huge)), strict=True):
            collinear[index if loose.ndim else ()] = _collinear(source, target, weights, index if loose.ndim else ())
    conditions = {
        "too few landmarks": np.broadcast_to(count < n_dims, loose.shape),
        "coordinates too large": huge,
        "coincident landmarks": flat,
        "collinear landmarks": collinear,
        "ambiguous rotation": loose,
    }
    return np.select(list(conditions.values()), [np.array(name) for name in conditions], np.array("ok"))


def refuse_status(
    status: np.ndarray, source: Any, target: Any, weights: Any, names: tuple[str, str] = ("source", "target")
) -> None:
    """Raise for the first row that could not be fitted, naming the property."""
    bad = np.argwhere(np.atleast_1d(status) != "ok")
    if not len(bad):
        return
    index = tuple(int(i) for i in bad[0]) if status.ndim else ()
    where = f" at index {index if len(index) > 1 else index[0]} of the batch" if index else ""
    word = str(status[index])
    x, y = (_row(a, _batch(source, target), weights, index) for a in (source, target))
    same = names[0] if len(x) and np.ptp(x, axis=0).max() <= np.ptp(y, axis=0).max() * 1e-6 else names[1]
    reason = {
        "too few landmarks": f"only {len(x)} landmarks are seen in both shapes (or have weight); at least "
        f"{source.shape[-1]} are needed",
        "coincident landmarks": f"all points of {same} coincide",
        "collinear landmarks": f"the points of {names[0]} or {names[1]} lie on one line, so the turn about it is free",
        "ambiguous rotation": f"{names[0]} is a mirror image of {names[1]} and every rotation fits equally badly; try "
        "reflection=True",
        "coordinates too large": "the squares of the coordinates overflow; try dividing them by a common size",
        "infinite coordinate": "a coordinate is infinite; expected finite numbers or NaN",
    }[word]
    others = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
    error = DegenerateShapeError(f"no single best rotation{where}: {reason}{others}.")
    error.status = status
    raise error


def _row(points: Any, batch: tuple[int, ...], weights: Any, index: tuple[int, ...]) -> np.ndarray:
    """Return the points of one row that have weight."""
    one = np.broadcast_to(to_numpy(points), (*batch, *points.shape[-2:]))[index]
    if weights is None:
        return one
    return one[np.broadcast_to(to_numpy(weights), (*batch, points.shape[-2]))[index] > 0]


def _collinear(source: Any, target: Any, weights: Any, index: tuple[int, ...]) -> bool:
    """Say whether the seen points of one row of either lie on a line."""
    for points in (source, target):
        one = _row(points, _batch(source, target), weights, index)
        values = np.linalg.svd(one - one.mean(axis=0), compute_uv=False)
        if len(values) < 2 or values[1] <= np.sqrt(np.finfo(one.dtype).eps) * values[0]:
            return True
    return False


def _batch(source: Any, target: Any) -> tuple[int, ...]:
    if source.ndim == 2 == target.ndim:
        return ()
    return np.broadcast_shapes(tuple(source.shape[:-2]), tuple(target.shape[:-2]))


@dataclass(frozen=True, eq=False)
class ProcrustesResult:
    """What `generalized_procrustes` found.

    Attributes
    ----------
    aligned : ndarray of shape (n_samples, n_landmarks, n_dims)
        The shapes in the frame of the mean; missing landmarks are still NaN.
    mean : ndarray of shape (n_landmarks, n_dims)
        Centroid at the origin; centroid size 1 when scaling.
    transforms : Similarity
        Batch of n_samples: input frame → frame of the mean (before the tangent projection).
    distances : ndarray of shape (n_samples,)
        Root of the (weighted) squared distances of each transformed shape to the mean, before the tangent projection.
    disparity : float
        The sum of the squared `distances`: what the iteration makes small.
    mirrored : ndarray of int
        Indices of the shapes that are mirror images of the rest. With ``reflection=True`` they were reflected;
        otherwise they were **not**, and the squared distance of each would fall by more than half if it were.
    inflation : float
        Under the full criterion with scaling, the common factor by which all shapes were enlarged, after each was
        fitted to the mean, so that the mean of the aligned shapes is `mean`; otherwise 1.
    n_iter : int
        Passes over the shapes; 1 for the closed form.
    converged : bool
        Whether the mean settled within `tol` (closed form: whether the leading eigenvector is unique).
    status : ndarray of str of shape (n_samples,)
        "ok", or why a shape could not be superimposed, in the words of `Similarity.status`; such a shape took no part
        in the mean and is NaN in `aligned`, `transforms` and `distances`.
    sliding : SlidingRecord or None
        With semilandmarks: the shapes after sliding, which `transforms` take to `aligned`, and how it went.
    weights : ndarray of shape (n_samples, n_landmarks), or None
        With a robust loss: the weights given, times what the loss left of each landmark.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import generalized_procrustes
    >>> triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    >>> result = generalized_procrustes([triangle, 2 * triangle + 5, triangle[:, ::-1] * [-1, 1]])
    >>> result.converged, bool(result.disparity < 1e-12), result.mirrored
    (True, True, array([], dtype=int64))
    """

    aligned: np.ndarray
    mean: np.ndarray
    transforms: Similarity
    distances: np.ndarray
    disparity: float
    mirrored: np.ndarray
    inflation: float
    n_iter: int
    converged: bool
    status: np.ndarray = field(default_factory=lambda: np.empty(0, dtype="<U21"))
    sliding: SlidingRecord | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.status):
            object.__setattr__(self, "status", np.full(len(self.aligned), "ok", dtype="<U21"))


def generalized_procrustes(
    shapes: ArrayLike,
    *,
    criterion: Literal["full", "partial"] = "full",
    scaling: bool = True,
    reflection: bool = False,
    tangent: bool | None = None,
    weights: ArrayLike | None = None,
    mirror: ArrayLike | None = None,
    sliding: Any = None,
    loss: Literal["linear", "huber", "tukey"] = "linear",
    tol: float = 1e-8,
    max_iter: int = 100,
    on_error: OnError = "raise",
) -> ProcrustesResult:
    """Superimpose a set of shapes and return their mean shape.

    It minimises Σᵢ Σₖ wᵢₖ ‖sᵢ Rᵢ xᵢₖ + tᵢ − μₖ‖² over the similarities and over means μ of fixed size. Two-dimensional
    sets under the full criterion are solved in closed form: μ is the leading eigenvector of the complex second-moment
    matrix. All others alternate between fitting the transforms and averaging.

    Parameters
    ----------
    shapes : array of shape (n_samples, n_landmarks, n_dims)
        At least two samples, `n_dims` 2 or 3. NaN is a missing landmark: it is left out of every sum.
    criterion : {"full", "partial"}, default="full"
        "full" leaves the scales sᵢ free: sᵢ = κ cos ρᵢ / sizeᵢ with ρᵢ the Riemannian distance to the mean and κ =
        1 / (mean of cos² ρ), so that the aligned shapes have μ as their mean; "partial" scales each shape to the size
        of the mean. Without scaling the two are the same.
    scaling : bool, default=True
        False keeps the sizes: sᵢ = 1 and μ is the plain average.
    reflection : bool, default=False
        Whether shapes may be mirrored to fit; those that were are listed in ``result.mirrored``.
    tangent : bool, optional
        Project the aligned shapes orthogonally to the tangent plane at the mean, where y · μ = 1. Needs scaling. By
        default only with `sliding`, as geomorph does.
    weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
        Non-negative; an integer weight counts a landmark that many times. Shape (n_samples, 1) weighs samples.
    mirror : array of int of shape (n_landmarks,), optional
        Permutation that exchanges left and right landmarks (``scheme.mirror``). The mean is then that of the shapes
        and their mirror images together, hence symmetric; `aligned` still has one row an input.
    sliding : Sliding, or what it takes as curves, optional
        Semilandmarks slide along curves while the shapes are superimposed, as in geomorph; the superimposition is then
        the partial one of `Sliding`, whose `tol` and `max_iter` count, whatever `criterion` says. Needs complete
        shapes and goes with `tangent` only. ``result.sliding.shapes`` are the slid shapes in the frame they came in,
        for whatever superimposes them anew, such as `AlignedASM`.
    loss : {"linear", "huber", "tukey"}, default="linear"
        What a landmark far from its place counts: "huber" bounds its pull, "tukey" takes it away, so that a few
        landmarks that lie wrong spoil neither mean nor poses. Distances count in units of each landmark's spread;
        weights are iterated until they settle, and returned.
    tol : float, default=1e-8
        Iteration stops when the mean moves by less than `tol` times its size.
    max_iter : int, default=100
        Passes over the shapes before it stops with ``converged=False``.
    on_error : {"raise", "status"}, default="raise"
        Whether a shape that cannot be superimposed is an exception, or is left out: NaN in the result, where `status`
        says why, and without influence on the others.

    Returns
    -------
    ProcrustesResult

    Raises
    ------
    DegenerateShapeError
        When all seen points of a shape coincide, too few are seen or 3-D shapes are collinear, unless ``on_error`` is
        "status"; when a landmark is seen in no shape.
    ValueError
        For wrong shapes, fewer than two samples, infinities, negative weights, options out of range.

    Notes
    -----
    The orientation of the mean is that of the inputs on average: it is turned as near as a rotation can to the sum of
    the centred inputs, each divided by its size. Upright faces give an upright mean, the order of the samples does
    not matter, and turning one input turns the frame of the whole result a little, never the shape of the mean.

    Nothing is mirrored in silence. With ``reflection=False``, ``result.mirrored`` names the shapes whose squared
    distance to the mean would fall by more than half if they were mirrored: usually a flipped image.

    With weights or missing landmarks the size of μ is held fixed in the norm of the total weights while solving;
    afterwards it is brought to centroid size 1 like any other.

    References
    ----------
    J. C. Gower, "Generalized Procrustes analysis", Psychometrika 40, 1975. J. T. Kent, "The complex Bingham
    distribution and shape analysis", JRSS B 56, 1994 (the closed form). I. L. Dryden and K. V. Mardia, "Statistical
    Shape Analysis", 2nd ed., 2016, chapters 7 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import generalized_procrustes
    >>> rng = np.random.default_rng(0)
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> shapes = 20 * square + rng.normal(scale=0.5, size=(50, 4, 2))
    >>> result = generalized_procrustes(shapes)
    >>> result.aligned.shape, bool(np.isclose(np.linalg.norm(result.mean), 1.0))
    ((50, 4, 2), True)
    """
    if loss != "linear":
        if loss not in ("huber", "tukey") or sliding is not None:
            raise ValueError(f"loss: got {loss!r}; expected 'linear', 'huber' or 'tukey', and 'linear' with sliding.")
        options: dict[str, Any] = {"criterion": criterion, "scaling": scaling, "reflection": reflection}
        options |= {"tangent": tangent, "mirror": mirror, "tol": tol, "max_iter": max_iter}
        array = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True)
        wide = array.astype(np.float64, copy=False)
        given = seen_weights(wide, weights)
        return reweighted(lambda trust: generalized_procrustes(array, weights=trust, **options), wide, given, loss)
    if sliding is not None and (not scaling or reflection or weights is not None or mirror is not None):
        raise ValueError("sliding goes with tangent only; got scaling=False, reflection, weights or mirror too.")
    tangent = sliding is not None if tangent is None else tangent
    rule = _checked_options(criterion, scaling, tangent, tol, max_iter)
    if on_error == "status" and sliding is None:
        options = {"criterion": criterion, "scaling": scaling, "reflection": reflection, "tangent": tangent,
                   "mirror": mirror, "tol": tol, "max_iter": max_iter}  # fmt: skip
        return _superimpose_what_can_be(shapes, weights, options)
    if on_error != "raise":
        raise ValueError(f"on_error: got {on_error!r}; expected 'raise' or 'status' (without sliding).")
    if sliding is not None:
        return _slid(as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2), sliding, tangent)
    shapes = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True)
    dtype = shapes.dtype
    shapes = shapes.astype(np.float64, copy=False)
    square = np.einsum("nkd,nkd->", shapes, shapes)  # without the threads of BLAS
    if weights is not None or np.isnan(square):
        weights = seen_weights(shapes, weights)
        square = np.nansum(shapes * shapes)
    if not SMALLEST**2 < square < math.inf:
        refuse_extreme(float(np.nanmin(shapes, initial=0.0)), float(np.nanmax(shapes, initial=0.0)))
    order = None if mirror is None else _permutation(mirror, shapes.shape[1])
    blocks = [(shapes, weights)]
    if order is not None:
        blocks.append((mirror_shapes(shapes, order), None if weights is None else weights[:, order]))
    if weights is None and order is None and shapes.shape[2] == 2 and shapes.size >= _LARGE:
        if rule == "full" and not reflection:
            return _many_planar(shapes, tangent, dtype)
    found = mean_of_blocks(lambda: blocks, rule=rule, reflection=reflection, tol=tol, max_iter=max_iter)
    mean = found.mean
    fit = fit_to_mean(shapes, weights, found, rule=rule, reflection=reflection)
    transforms = Similarity._of(fit.rotation, fit.translation, fit.scale)
    aligned = transforms(shapes)
    distances = _distances(aligned, mean, weights)
    if reflection:
        mirrored = np.flatnonzero(transforms.reflects)
    else:
        mirrored = _better_mirrored(fit)
    if tangent:
        aligned = to_tangent(aligned, mean, weights)
    return ProcrustesResult(
        aligned=aligned.astype(dtype, copy=False),
        mean=mean,
        transforms=transforms,
        distances=distances,
        disparity=float(np.sum(distances**2)),
        mirrored=mirrored,
        inflation=found.inflation,
        n_iter=found.n_iter,
        converged=found.converged,
    )


def _superimpose_what_can_be(shapes: Any, weights: Any, options: dict[str, Any]) -> ProcrustesResult:
    """Superimpose the shapes that can be, and give the others as NaN with a status."""
    shapes = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True, allow_inf=True)
    if weights is not None:
        weights = as_weights(weights, shapes.shape[:-1])
    status = np.full(len(shapes), "ok", dtype="<U21")
    status[np.nanmax(np.abs(shapes), axis=(1, 2), initial=0.0) > LARGEST] = "coordinates too large"
    status[np.isinf(shapes).any(axis=(1, 2))] = "infinite coordinate"
    while True:
        rows = np.flatnonzero(status == "ok")
        if len(rows) < 2:
            raise DegenerateShapeError(
                f"shapes: got {len(rows)} of {len(shapes)} that can be superimposed; expected at least 2. The first of "
                f"the others: {next(str(s) for s in status if s != 'ok')}."
            )
        try:
            result = generalized_procrustes(shapes[rows], weights=None if weights is None else weights[rows], **options)
            break
        except DegenerateShapeError as error:
            if error.status is None:
                raise
            status[rows] = error.status

    def spread(part: np.ndarray) -> np.ndarray:
        whole = np.full((len(shapes), *part.shape[1:]), np.nan, dtype=part.dtype)
        whole[rows] = part
        return whole

    return replace(
        result,
        aligned=spread(result.aligned),
        transforms=Similarity._of(*map(spread, result.transforms._parts), status=status),
        distances=spread(result.distances),
        mirrored=rows[result.mirrored],
        status=status,
    )


def _slid(shapes: np.ndarray, sliding: Any, tangent: bool) -> ProcrustesResult:
    """Superimpose complete shapes whose semilandmarks slide."""
    from ._sliding import as_sliding, slide

    record, aligned, mean, transforms = slide(shapes.astype(np.float64), as_sliding(sliding))
    distances = _distances(aligned, mean, None)
    return ProcrustesResult(
        aligned=(to_tangent(aligned, mean, None) if tangent else aligned).astype(shapes.dtype, copy=False),
        mean=mean,
        transforms=transforms,
        distances=distances,
        disparity=float(np.sum(distances**2)),
        mirrored=_better_mirrored(_fit(aligned, mean, None, rule="partial")),
        inflation=1.0,
        n_iter=record.n_iter,
        converged=record.converged,
        sliding=record,
    )


def mirror_shapes(shapes: ArrayLike, mirror: ArrayLike) -> np.ndarray:
    """Return mirror images with left and right landmarks exchanged, so that each landmark keeps its meaning.

    The first coordinate is negated (no image frame: for pixels use ``LandmarkScheme.flip(shapes, width=...)``) and the
    landmarks are reordered. Added to a training set it doubles the set and makes its mean symmetric.

    Parameters
    ----------
    shapes : array of shape (..., n_landmarks, n_dims)
        NaN where missing.
    mirror : array of int of shape (n_landmarks,)
        Permutation that is its own inverse: landmark ``mirror[k]`` is the other side's k (``scheme.mirror``).

    Returns
    -------
    ndarray of shape (..., n_landmarks, n_dims)

    Raises
    ------
    ValueError
        When `mirror` is no involution of the landmarks.

    Examples
    --------
    >>> from shape_models import mirror_shapes
    >>> mirror_shapes([[0.0, 0.0], [3.0, 1.0]], [1, 0])
    array([[-3.,  1.],
           [-0.,  0.]])
    """
    shapes = as_shapes(shapes, allow_nan=True)
    order = _permutation(mirror, shapes.shape[-2])
    turned = shapes[..., order, :]
    turned[..., 0] *= -1
    return turned


class GeneralizedProcrustes(TransformerMixin, BaseEstimator):
    """Learn the mean of a set of shapes; align others to it.

    Parameters
    ----------
    criterion, scaling, reflection, tangent, mirror, tol, max_iter, on_error : optional
        As in `generalized_procrustes`.

    Attributes
    ----------
    mean_shape_ : ndarray of shape (n_landmarks, n_dims)
    inflation_ : float
        As ``ProcrustesResult.inflation``; `align` applies it too.
    disparity_ : float
    mirrored_ : ndarray of int
        Training shapes that are mirror images of the rest.
    n_iter_ : int
    converged_ : bool

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import GeneralizedProcrustes
    >>> rng = np.random.default_rng(0)
    >>> shapes = rng.normal(size=(1, 5, 2)) + 0.1 * rng.normal(size=(30, 5, 2))
    >>> alignment = GeneralizedProcrustes().fit(shapes)
    >>> photo = 100 * shapes[0] + [320, 240]
    >>> to_model = alignment.align(photo)
    >>> bool(np.allclose(to_model(photo), alignment.transform(shapes[:1])[0]))
    True
    """

    def __init__(
        self,
        *,
        criterion: Literal["full", "partial"] = "full",
        scaling: bool = True,
        reflection: bool = False,
        tangent: bool = False,
        mirror: ArrayLike | None = None,
        tol: float = 1e-8,
        max_iter: int = 100,
        on_error: OnError = "raise",
    ) -> None:
        self.criterion = criterion
        self.scaling = scaling
        self.reflection = reflection
        self.tangent = tangent
        self.mirror = mirror
        self.tol = tol
        self.max_iter = max_iter
        self.on_error = on_error

    @all_or_nothing
    def fit(self, shapes: ArrayLike, y: object = None, *, weights: ArrayLike | None = None) -> GeneralizedProcrustes:
        """Learn the mean.

        Parameters
        ----------
        shapes : array of shape (n_samples, n_landmarks, n_dims)
            NaN where missing.
        y : None
            Ignored.
        weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
            As in `generalized_procrustes`.

        Returns
        -------
        GeneralizedProcrustes
            The estimator itself.
        """
        self._fit(shapes, weights)
        return self

    @all_or_nothing
    def fit_transform(self, shapes: ArrayLike, y: object = None, *, weights: ArrayLike | None = None) -> np.ndarray:
        """Learn the mean and return the aligned shapes.

        Parameters
        ----------
        shapes : array of shape (n_samples, n_landmarks, n_dims)
            NaN where missing.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.
        weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
            As in `generalized_procrustes`.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            The shapes in the frame of the mean.
        """
        return self._fit(shapes, weights).aligned

    def _fit(self, shapes: Any, weights: Any) -> ProcrustesResult:
        result = generalized_procrustes(shapes, weights=weights, **self.get_params(deep=False))
        self.mean_shape_ = result.mean
        self.inflation_ = result.inflation
        self.disparity_ = result.disparity
        self.mirrored_ = result.mirrored
        self.n_iter_ = result.n_iter
        self.converged_ = result.converged
        return result

    def align(
        self, shapes: ArrayLike, weights: ArrayLike | None = None, *, on_error: OnError | None = None
    ) -> Similarity:
        """Return the transforms that take shapes to the frame of the mean.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            Any leading axes, any array library; NaN where missing.
        weights : array of shape (n_landmarks,) or (..., n_landmarks), optional
            Relative weights of the landmarks, as in `estimate_similarity`.
        on_error : {"status", "raise"}, optional
            As in `estimate_similarity`: by default a shape that cannot be aligned is an exception, and a row of NaN
            in a batch.

        Returns
        -------
        Similarity
            Batched like `shapes`; its ``status`` says which rows could not be aligned, and why.

        Raises
        ------
        DegenerateShapeError
            As `estimate_similarity`.
        """
        check_is_fitted(self, "mean_shape_")
        rule = _checked_options(self.criterion, self.scaling, self.tangent, self.tol, self.max_iter)
        pair = _Pair.of(shapes, self.mean_shape_, weights, ("shapes", "mean_shape_"), model=True)
        options: dict[str, Any] = {"reflection": self.reflection, "inflation": self.inflation_}
        return _similarity(*pair.fit(rule=rule, on_error=on_error, **options))

    def transform(self, shapes: ArrayLike) -> Any:
        """Return shapes in the frame of the mean, projected to its tangent plane when ``tangent=True``.

        Parameters
        ----------
        shapes : array_like of shape (..., n_landmarks, n_dims)
            NaN where missing, which stays. In a batch a shape that cannot be aligned becomes NaN; see `align`.

        Returns
        -------
        array of shape (..., n_landmarks, n_dims)
            Aligned shapes, of the library of the input.
        """
        check_is_fitted(self, "mean_shape_")
        k, d = self.mean_shape_.shape
        shapes = as_shapes(shapes, n_landmarks=k, n_dims=d, allow_nan=True)
        aligned = self.align(shapes)(shapes)
        if self.tangent:
            aligned = to_tangent(aligned, self.mean_shape_, seen_weights(aligned, None))
        return aligned


def _distances(aligned: np.ndarray, mean: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the root of the weighted squared distances of each shape to the mean."""
    if weights is None and aligned.size >= _LARGE:
        from . import _kernels

        squares = np.empty(len(aligned))
        _kernels.squared_distances(aligned, mean, squares)
        return np.sqrt(squares)
    offset = aligned - mean
    squares = np.einsum("nkd,nkd->nk", offset, offset)
    squares = squares if weights is None else np.where(weights > 0, weights * squares, 0.0)
    return np.sqrt(squares.sum(axis=1))


def _many_planar(shapes: np.ndarray, tangent: bool, dtype: Any) -> ProcrustesResult:
    """Solve the planar full criterion for many complete shapes, all in one buffer.

    The leading eigenvector comes from products of the second-moment matrix with a vector, first that of a sample,
    then that of all; where the second eigenvalue is so near that they settle slowly the matrix is formed.
    """
    from . import _kernels

    n, k = shapes.shape[:2]
    z, size, centre, drift = np.empty((n, 2 * k)), np.empty(n), np.empty((n, 2)), np.zeros(2 * k)
    _kernels.normalise_2d(np.ascontiguousarray(shapes), z, size, centre, drift)
    if (size <= 16 * np.finfo(np.float64).eps * np.sqrt(k * np.einsum("nd,nd->n", centre, centre) + size**2)).any():
        _refuse_points(shapes, None, size)
    sample = np.ascontiguousarray(z[:: max(1, n // 256)])
    product, before, settled = np.empty(2 * k), np.inf, False
    mean = np.random.default_rng(0).normal(size=(k, 2))  # orthogonal to no eigenvector
    for _ in range(16):
        m = mean.ravel()
        _kernels.moment_times(sample, m, _times_i(m), product)
        mean = (product / np.linalg.norm(product)).reshape(k, 2)
    for _ in range(16):
        m = mean.ravel()
        explained = _kernels.moment_times(z, m, _times_i(m), product)
        after = (product / np.linalg.norm(product)).reshape(k, 2)
        change = float(np.linalg.norm(after - mean))
        # The changes fall by the ratio of the eigenvalues, which two of them tell.
        ratio = change / before if before < np.inf else np.inf
        mean, before = after, change
        settled = change < 1e-14 or (ratio < 0.5 and change * ratio < 1e-13)
        if settled:
            break
    if settled:
        found = Mean(_finish(mean, drift.reshape(k, 2), "full"), n / explained, 1, True)
    else:
        full = np.full((k, k), n / k), np.full(k, float(n))
        found = SecondMoment(n, _moment(z), *full, z.sum(axis=0).view(np.complex128)).mean()
    mean = found.mean
    out, m = np.empty((n, 4)), mean.ravel()
    _kernels.superimpose_2d(z, m, _times_i(m), found.inflation, out)
    re, im, mirrored, squares = out.T
    gain = np.hypot(re, im)
    if (gain <= 64 * np.finfo(np.float64).eps).any():
        fit_to_mean(shapes, None, found, rule="full")  # names the shape that no rotation fits
    c, s = re / gain, im / gain
    rotation = np.stack([c, -s, s, c], axis=-1).reshape(n, 2, 2)
    scale = found.inflation * gain / size
    moved = np.stack([c * centre[:, 0] - s * centre[:, 1], s * centre[:, 0] + c * centre[:, 1]], axis=-1)
    aligned = z.reshape(n, k, 2)
    slack = 1e3 * np.finfo(np.float64).eps
    return ProcrustesResult(
        aligned=(to_tangent(aligned, mean, None) if tangent else aligned).astype(dtype, copy=False),
        mean=mean,
        transforms=Similarity._of(rotation, -scale[:, None] * moved, scale),
        distances=np.sqrt(squares),
        disparity=float(np.sum(squares)),
        mirrored=np.flatnonzero(1 - mirrored**2 + slack < 0.5 * (1 - gain**2)),
        inflation=found.inflation,
        n_iter=found.n_iter,
        converged=found.converged,
    )


def _times_i(m: np.ndarray) -> np.ndarray:
    return np.stack([-m[1::2], m[::2]], axis=-1).ravel()


def _moment(parts: np.ndarray) -> np.ndarray:
    """Return Σ s sᴴ for complex rows s given as (re, im) pairs."""
    k = parts.shape[1] // 2
    gram = (parts.T @ parts).reshape(k, 2, k, 2)
    return gram[:, 0, :, 0] + gram[:, 1, :, 1] + 1j * (gram[:, 1, :, 0] - gram[:, 0, :, 1])


# --- Pieces that also serve fitting from chunks ----------------------------------------------------------


def _checked_options(criterion: str, scaling: bool, tangent: bool, tol: float, max_iter: int) -> str:
    """Return the rule of scaling: "full", "partial" or "rigid"."""
    if criterion not in ("full", "partial"):
        raise ValueError(f"criterion: got {criterion!r}; expected 'full' or 'partial'.")
    if tangent and not scaling:
        raise ValueError("tangent=True needs scaling=True: the tangent plane belongs to shapes of size 1.")
    if not (np.isfinite(tol) and tol > 0):
        raise ValueError(f"tol: got {tol}; expected a positive number.")
    if max_iter < 1:
        raise ValueError(f"max_iter: got {max_iter}; expected at least 1.")
    return criterion if scaling else "rigid"


def seen_weights(shapes: np.ndarray, weights: Any) -> np.ndarray | None:
    """Return weights (n_samples, n_landmarks), zero where a landmark is missing; None when all count alike."""
    missing = np.isnan(shapes[..., 0])
    if weights is not None:
        weights = as_weights(weights, shapes.shape[:-1])
        return np.where(missing, 0.0, weights)
    return (~missing).astype(np.float64) if missing.any() else None


class Mean(NamedTuple):
    """A mean shape, the factor that makes it the mean of the shapes fitted to it, and how it was reached."""

    mean: np.ndarray
    inflation: float
    n_iter: int
    converged: bool


def mean_of_blocks(
    blocks: Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]],
    *,
    rule: str = "full",
    reflection: bool = False,
    tol: float = 1e-8,
    max_iter: int = 100,
    mapper: Callable[..., Iterable[Any]] = map,
) -> Mean:
    """Return the mean of shapes that come in blocks, with the passes made and whether it settled.

    Parameters
    ----------
    blocks : callable
        Each call returns a fresh iterable of (shapes (n, n_landmarks, n_dims), weights (n, n_landmarks) or None);
        weights are zero where landmarks are missing, as `seen_weights` makes them.
    rule : {"full", "partial", "rigid"}
    mapper : callable
        ``map`` or the ``map`` of an executor; it gets functions and blocks that can be pickled.

    Notes
    -----
    Two dimensions under "full" without reflection take one pass; everything else one a round.
    """
    first = next(iter(blocks()), None)
    if first is None:
        raise ValueError("got no shapes; expected at least one block.")
    if first[0].shape[-1] == 2 and rule == "full" and not reflection:
        return reduce(add, mapper(SecondMoment.of_block, blocks())).mean()
    step = partial(MeanStep.of_block, mean=_start(blocks), rule=rule, reflection=reflection, first=True)
    total = reduce(add, mapper(step, blocks()))
    drift, mean = total.drift, total.mean(rule)
    converged, n_iter = False, 1
    while n_iter < max_iter and not converged:
        step = partial(MeanStep.of_block, mean=mean, rule=rule, reflection=reflection, first=False)
        total = reduce(add, mapper(step, blocks()))
        before, mean = mean, total.mean(rule)
        n_iter += 1
        converged = bool(np.linalg.norm(mean - before) <= tol * np.linalg.norm(mean))  # False while a landmark is NaN
    if np.isnan(mean).any():
        k = int(np.flatnonzero(np.isnan(mean[:, 0]))[0])
        raise DegenerateShapeError(
            f"landmark {k} cannot be placed: it is seen in no shape, or only in shapes that share too few landmarks "
            "with the others. Try leaving it out."
        )
    if 2 * total.n_reflected > total.n:  # the first shape was the odd one: keep the majority as it came
        mean = mean * _first_negative(mean.shape[1])
    inflation = total.possible / total.explained if rule == "full" and total.explained > 0 else 1.0
    return Mean(_finish(mean, drift, rule), inflation, n_iter, converged)


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """What one pass over planar shapes leaves: enough for their mean under the full criterion. Adds up.

    With weights W = diag(w) of one shape, z its centred complex coordinates and s = W z / √(zᴴ W z), the mean μ
    maximises μᴴ (Σ s sᴴ) μ / μᴴ (Σ W) μ among vectors with 1ᵀ (Σ W) μ = 0.
    """

    n: int
    moment: np.ndarray  # Σ s sᴴ (n_landmarks, n_landmarks)
    constant: np.ndarray  # Σ w wᵀ / Σₖ wₖ
    weight: np.ndarray  # Σ w
    drift: np.ndarray  # Σ s

    @classmethod
    def of_block(cls, block: tuple[np.ndarray, np.ndarray | None]) -> SecondMoment:
        """Sum over one block."""
        shapes, weights = block
        n, k = shapes.shape[:2]
        z = _as_complex(shapes)
        if weights is None:
            z = z - z.mean(axis=1, keepdims=True)
            size = np.sqrt(np.einsum("nk,nk->n", z.real, z.real) + np.einsum("nk,nk->n", z.imag, z.imag))
            _refuse_points(shapes, None, size)
            z /= size[:, None]
            constant, weight = np.full((k, k), n / k), np.full(k, float(n))
        else:
            z = np.where(weights > 0, z, 0)
            total = weights.sum(axis=1)
            safe = np.where(total > 0, total, 1.0)
            z = z - ((weights * z).sum(axis=1) / safe)[:, None]
            size = np.sqrt((weights * (z.real**2 + z.imag**2)).sum(axis=1))
            _refuse_points(shapes, weights, size)
            z *= weights / size[:, None]
            share = weights / np.sqrt(safe)[:, None]
            constant, weight = share.T @ share, weights.sum(axis=0)
        return cls(n, _moment(z.view(np.float64)), constant, weight, z.sum(axis=0))

    def __add__(self, other: SecondMoment) -> SecondMoment:
        return SecondMoment(
            self.n + other.n,
            self.moment + other.moment,
            self.constant + other.constant,
            self.weight + other.weight,
            self.drift + other.drift,
        )

    def mean(self) -> Mean:
        """Return the mean, (n_landmarks, 2); settled when the leading eigenvector is the only one."""
        if (self.weight <= 0).any():
            k = int(np.argmin(self.weight))
            raise DegenerateShapeError(
                f"landmark {k} is missing in every shape (or has weight 0 in all). Try leaving it out."
            )
        root = np.sqrt(self.weight)
        unit = root / np.linalg.norm(root)  # the constant vector: eigenvalue 1 of the sum, taken out
        matrix = (self.moment + self.constant) / np.outer(root, root) - np.outer(unit, unit)
        k = len(root)
        values, vectors = linalg.eigh(matrix, subset_by_index=(max(k - 2, 0), k - 1))
        mean = vectors[:, -1] / root
        unique = bool(len(values) < 2 or values[-1] - values[0] > 1e-12 * values[-1])
        possible, explained = (
            float((mean.conj() @ m @ mean).real) for m in (np.diag(self.weight) - self.constant, self.moment)
        )
        return Mean(_finish(_real(mean), _real(self.drift), "full"), possible / explained, 1, unique)


@dataclass(frozen=True, eq=False)
class MeanStep:
    """What one pass over shapes leaves, given the mean so far: enough for the next mean. Adds up."""

    n: int
    total: np.ndarray  # Σ w y (n_landmarks, n_dims)
    weight: np.ndarray  # Σ w
    drift: np.ndarray  # Σ centred shapes of unit size
    explained: float  # Σ cos² ρ times the squared size of the mean, over what is seen
    possible: float  # Σ squared size of the mean, over what is seen
    n_reflected: int

    @classmethod
    def of_block(
        cls, block: tuple[np.ndarray, np.ndarray | None], *, mean: np.ndarray, rule: str, reflection: bool, first: bool
    ) -> MeanStep:
        """Sum over one block; `first` also sums the inputs as they stand."""
        shapes, weights = block
        drift = np.zeros_like(mean)
        if weights is None and not reflection and shapes.size >= _LARGE and not np.isnan(mean[0, 0]):
            return cls._compiled(shapes, mean, rule, first)
        known = ~np.isnan(mean[:, 0])
        if first:
            drift = _drift(shapes, weights)
        used = weights
        if not known.all():
            used = (np.ones(shapes.shape[:2]) if weights is None else weights) * known
        filled = shapes if weights is None else np.where(weights[..., None] > 0, shapes, 0.0)
        fit = _fit(filled, np.where(known[:, None], mean, 0.0), used, rule=rule, reflection=reflection)
        if used is not None and not known.all():  # shapes with too little overlap wait for a later round
            sure = fit.margin > 1e-6 * fit.source_size * fit.target_size
            weights = (np.ones(shapes.shape[:2]) if weights is None else weights) * sure[:, None]
        turn = (fit.scale[:, None, None] * fit.rotation).swapaxes(1, 2)
        y = (filled - fit.source_centre[:, None]) @ turn + fit.target_centre[..., None, :]
        n_reflected = int((np.linalg.det(fit.rotation) < 0).sum()) if reflection else 0
        if weights is None:
            total, weight = y.sum(axis=0), np.full(len(mean), float(len(shapes)))
        else:
            total, weight = np.einsum("nk,nkd->kd", weights, y), weights.sum(axis=0)
        explained = np.sum(fit.gain**2 / np.where(fit.source_size > 0, fit.source_size, 1.0) ** 2)
        possible = np.sum(fit.target_size**2)
        return cls(len(shapes), total, weight, drift, float(explained), float(possible), n_reflected)

    @classmethod
    def _compiled(cls, shapes: np.ndarray, mean: np.ndarray, rule: str, first: bool) -> MeanStep:
        from . import _kernels

        total, drift = np.zeros_like(mean), np.zeros_like(mean)
        centred = mean - mean.mean(axis=0)
        size = np.linalg.norm(centred)
        unit = centred if rule == "rigid" else centred / size
        number = {"full": _kernels.FULL, "partial": _kernels.PARTIAL, "rigid": _kernels.RIGID}[rule]
        step = _kernels.step_2d if shapes.shape[2] == 2 else _kernels.step_3d
        explained, least = step(np.ascontiguousarray(shapes), unit, number, first, total, drift)
        if least <= (16 * np.finfo(np.float64).eps) ** 2:
            _drift(shapes, None)  # names the shape whose points coincide
        n = len(shapes)
        return cls(n, total, np.full(len(mean), float(n)), drift, explained, n * float(np.sum(unit**2)), 0)

    def __add__(self, other: MeanStep) -> MeanStep:
        return MeanStep(
            self.n + other.n,
            self.total + other.total,
            self.weight + other.weight,
            self.drift + other.drift,
            self.explained + other.explained,
            self.possible + other.possible,
            self.n_reflected + other.n_reflected,
        )

    def mean(self, rule: str) -> np.ndarray:
        """Return the next mean, of total weighted size 1 under a rule that scales; NaN where nothing was seen."""
        seen = self.weight > 0
        mean = np.where(seen[:, None], self.total / np.where(seen, self.weight, 1.0)[:, None], np.nan)
        share = self.weight / self.weight.sum()
        mean -= np.nansum(share[:, None] * mean, axis=0)
        if rule != "rigid":
            mean /= np.sqrt(np.nansum(share[:, None] * mean**2) * len(share))
        return mean


def fit_to_mean(
    shapes: np.ndarray, weights: np.ndarray | None, found: Mean, *, rule: str, reflection: bool = False
) -> _Fit:
    """Return the fit of every shape to the mean; refuse what cannot be fitted."""
    mean = found.mean
    filled = shapes if weights is None else np.where(weights[..., None] > 0, shapes, 0.0)
    fit = _fit(filled, mean, weights, rule=rule, reflection=reflection, inflation=found.inflation)
    status = row_status(filled, mean, weights, fit)
    if status is not None:
        refuse_status(status, filled, mean, weights, ("shapes", "the mean"))
    return fit


def to_tangent(aligned: np.ndarray, mean: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Project to the tangent plane: y + (1 − y·μ / μ·μ) μ, in sums over what is seen, about its centroid."""
    if weights is None:
        flat = aligned.reshape(*aligned.shape[:-2], -1)
        excess = 1 - flat @ mean.ravel() / np.sum(mean**2)
        return aligned + excess[..., None, None] * mean
    w = (weights / weights.sum(axis=-1, keepdims=True))[..., None]
    offset = mean - (w * mean).sum(axis=-2, keepdims=True)
    ratio = np.nansum(w * aligned * offset, axis=(-2, -1)) / (w * offset**2).sum(axis=(-2, -1))
    return aligned + (1 - ratio)[..., None, None] * offset


def _start(blocks: Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]) -> np.ndarray:
    """Return the first complete shape, or of those with most landmarks the first, centred and of size 1."""
    best, most = None, -1
    for shapes, weights in blocks():
        count = np.full(len(shapes), shapes.shape[1]) if weights is None else (weights > 0).sum(axis=1)
        i = int(np.argmax(count))
        if count[i] > most:
            best, most = shapes[i], int(count[i])
            if weights is not None:
                best = np.where(weights[i][:, None] > 0, best, np.nan)
        if most == shapes.shape[1]:
            break
    assert best is not None
    best = best - np.nanmean(best, axis=0)
    size = np.sqrt(np.nansum(best**2))
    if not size > 0:
        raise DegenerateShapeError("the points of a shape all coincide: it has no size and no orientation.")
    return best


def _drift(shapes: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return Σ centred shapes, each of size 1, weighted."""
    if weights is None:
        offset = shapes - shapes.mean(axis=1, keepdims=True)
        size = np.sqrt(np.einsum("nkd,nkd->n", offset, offset))
        _refuse_points(shapes, None, size)
        return np.einsum("n,nkd->kd", 1 / size, offset)
    total = weights.sum(axis=1)
    filled = np.where(weights[..., None] > 0, shapes, 0.0)
    centre = np.einsum("nk,nkd->nd", weights, filled) / np.where(total > 0, total, 1.0)[:, None]
    offset = filled - centre[:, None]
    size = np.sqrt(np.einsum("nk,nkd,nkd->n", weights, offset, offset))
    _refuse_points(shapes, weights, size)
    return np.einsum("nk,n,nkd->kd", weights, 1 / size, offset)


def _refuse_points(shapes: np.ndarray, weights: np.ndarray | None, size: np.ndarray) -> None:
    """Raise when the seen points of a shape coincide, up to the rounding of their coordinates."""
    largest = np.nanmax(np.abs(shapes), axis=(1, 2), initial=0.0)
    norm = np.sqrt(shapes.shape[1] if weights is None else weights.sum(axis=1))
    bad = np.flatnonzero(size <= 16 * np.finfo(np.float64).eps * largest * norm)
    if len(bad):
        seen = np.full(len(bad), shapes.shape[1]) if weights is None else (weights[bad] > 0).sum(axis=1)
        reason = f"only {seen[0]} landmarks are seen" if seen[0] < 2 else "all of its seen points coincide"
        error = DegenerateShapeError(
            f"shapes[{bad[0]}] has no size and no orientation: {reason} ({len(bad)} such shapes). Try leaving it out, "
            "or on_error='status'."
        )
        error.status = np.full(len(shapes), "ok", dtype="<U21")
        error.status[bad] = np.where(seen < 2, "too few landmarks", "coincident landmarks")
        raise error


def _finish(mean: np.ndarray, drift: np.ndarray, rule: str) -> np.ndarray:
    """Centre, bring to size 1 when scaling, and turn the mean towards the inputs."""
    mean = mean - mean.mean(axis=0)
    if rule != "rigid":
        mean = mean / np.linalg.norm(mean)
    cross = drift.T @ mean
    turn = (_turn_2d if mean.shape[1] == 2 else _turn_3d)(cross, False, array_namespace(cross))
    if turn.margin > 1e-12 * np.linalg.norm(drift) * np.linalg.norm(mean):
        mean = mean @ turn.rotation.T
    return mean


def _better_mirrored(fit: _Fit) -> np.ndarray:
    """Return the indices of shapes whose squared distance to the mean falls by more than half when mirrored."""
    sizes = fit.source_size * fit.target_size
    cos2, cos2_mirrored = (fit.gain / sizes) ** 2, (fit.mirrored_gain / sizes) ** 2
    slack = 1e3 * np.finfo(np.float64).eps
    return np.flatnonzero(1 - cos2_mirrored + slack < 0.5 * (1 - cos2))


def _first_negative(n_dims: int) -> np.ndarray:
    return np.array([-1.0, 1.0, 1.0][:n_dims])


def _permutation(mirror: Any, n_landmarks: int) -> np.ndarray:
    order = getattr(mirror, "mirror", mirror)
    refuse_masked(order, "mirror")
    order = np.asarray(order)
    if order.shape != (n_landmarks,) or order.dtype.kind not in "iu":
        raise ValueError(f"mirror: got {order.dtype} of shape {order.shape}; expected {n_landmarks} landmark indices.")
    if not (((order >= 0) & (order < n_landmarks)).all() and (order[order] == np.arange(n_landmarks)).all()):
        raise ValueError("mirror: got indices that are not their own inverse; expected mirror[mirror[k]] == k.")
    return order


def _real(z: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(z).view(np.float64).reshape(*z.shape, 2)
