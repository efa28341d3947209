"""The similarity that best takes one shape to another: its inputs checked, outliers bounded, failures told."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from ._array import (
    DegenerateShapeError,
    as_array,
    as_numpy,
    as_shapes,
    as_weights,
    beside,
    device_of,
    enter,
    is_array,
    layout_hint,
    namespace_of,
    to_numpy,
    values_known,
    working_dtype,
)
from ._options import check_choice, check_flags
from ._robust import HUBER
from ._superimposition import PairFit, batch_shape, fit_pair
from ._transforms import Similarity
from ._typing import ArrayLike


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
    check_flags(scaling=scaling, reflection=reflection)
    check_choice(("linear", "huber"), loss=loss)
    pair = Pair.of(source, target, weights)
    rule = "full" if scaling else "rigid"
    if loss == "huber" and pair.infinite is None:
        raise ValueError("loss='huber' iterates until it settles, which torch cannot trace. Try loss='linear'.")
    fit, status = pair.fit(rule=rule, reflection=reflection, on_error=on_error)
    if loss == "huber":
        source, target, weights = pair.without(status)
        if status is not None:
            fit = fit_pair(source, target, weights, rule=rule, reflection=reflection)
        fit = _huber(source, target, weights, fit, rule=rule, reflection=reflection)
        _, status = pair.judged(fit, status, on_error)
    return as_similarity(fit, status)


OnError = Literal["status", "raise"]


class Pair(NamedTuple):
    """Two inputs in one library and type, zeros where missing, and weights or None."""

    source: Any
    target: Any
    weights: Any
    infinite: Any  # which rows have an infinite coordinate, False for none; None where values cannot be looked at
    names: tuple[str, str]

    @classmethod
    def of(
        cls, source: Any, target: Any, weights: Any, names: tuple[str, str] = ("source", "target"), model: bool = False
    ) -> Pair:
        """Check the inputs. With `model` the target is right by definition, and messages speak of the source."""
        foreign = [a for a in (source, target) if is_array(a) and not isinstance(a, np.ndarray)]
        if foreign:
            like, (xp, *_) = enter(foreign[0], names[0 if foreign[0] is source else 1])
            source, target = (
                enter(a, n)[0] if is_array(a) and not isinstance(a, np.ndarray) else beside(as_numpy(a, n), like)
                for a, n in zip((source, target), names, strict=True)
            )
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
                f"{names[0]}: got {tuple(source.shape[-2:])} and for {names[1]} {tuple(target.shape[-2:])} "
                "landmarks and dimensions; expected the same. Try LandmarkScheme.subset or convert to select common "
                "landmarks."
            )
        try:
            batch = batch_shape(source, target)
        except ValueError:
            raise ValueError(
                f"{names[0]}: got shape {tuple(source.shape)} with {names[1]} of shape {tuple(target.shape)}; expected "
                "leading axes that broadcast."
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
    ) -> tuple[PairFit, np.ndarray | None]:
        """Return the fit, and the status of each row, None where all are well."""
        check_choice(("status", "raise", None), on_error=on_error)
        parts = (self.source, self.target, self.weights)
        with nullcontext() if self.infinite is None else np.errstate(over="ignore", invalid="ignore"):
            fit = fit_pair(*parts, rule=rule, reflection=reflection, inflation=inflation)
        return self.judged(fit, None, on_error)

    def judged(
        self, fit: PairFit, before: np.ndarray | None, on_error: str | None
    ) -> tuple[PairFit, np.ndarray | None]:
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
    if isinstance(like, np.ndarray) or not is_array(weights) or isinstance(weights, np.ndarray):
        return beside(as_weights(weights, shape), like)
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


def as_similarity(fit: PairFit, status: np.ndarray | None = None) -> Similarity:
    """Return the similarity of a fit, NaN in the rows that could not be fitted."""
    parts = (fit.rotation, fit.translation, fit.scale)
    if status is not None:
        xp = namespace_of(fit.gain)
        bad = xp.asarray(status != "ok", device=device_of(fit.gain))
        rows = bad[..., None, None], bad[..., None], bad
        parts = tuple(xp.where(b, xp.full_like(p, math.nan), p) for b, p in zip(rows, parts, strict=True))
    return Similarity._of(*parts, status=status)


def _huber(source: Any, target: Any, weights: Any, fit: PairFit, *, rule: str, reflection: bool) -> PairFit:
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
    # The chi quantile of that fraction; without any point its level is below 0, and its length nothing to divide by.
    length = np.sqrt(2 * special.gammaincinv(n_dims / 2, np.clip(level, 1e-3, 1)))
    length = xp.asarray(length.tolist(), dtype=source.dtype, device=device_of(source))
    sigma = None
    tol = eps ** (2 / 3)  # above the rounding of a fit, so that rounds end, and below the digits that anybody reads
    for _ in range(100):
        x = source - fit.source_centre[..., None, :]
        y = target - fit.target_centre[..., None, :]
        matrix = fit.scale[..., None, None] * fit.rotation
        distance = xp.sqrt(xp.sum((x @ xp.matrix_transpose(matrix) - y) ** 2, axis=-1))
        now = _quantile(distance, base, quota / xp.where(count > 0, count, xp.ones_like(count)), xp) / length
        sigma = now if sigma is None else xp.minimum(sigma, now)
        bound = xp.maximum(HUBER * sigma, floor)[..., None]
        before = fit
        fit = fit_pair(source, target, base * (bound / xp.maximum(distance, bound)), rule=rule, reflection=reflection)
        change = xp.abs(fit.scale[..., None, None] * fit.rotation - matrix)
        moved = xp.abs(fit.translation - before.translation)
        size = xp.maximum(fit.target_size, floor)[..., None]
        # The translation of points far from the origin is rounded by its own size.
        still = moved <= tol * size + 1e3 * eps * xp.abs(fit.translation)
        if bool(xp.all(change <= tol * fit.scale[..., None, None])) and bool(xp.all(still)):
            break
    return fit


def _quantile(values: Any, weights: Any, level: Any, xp: Any) -> Any:
    """Return the smallest value whose fraction of the weight, with all smaller ones, reaches the level."""
    order = xp.argsort(values, axis=-1)
    values = xp.take_along_axis(values, order, axis=-1)
    running = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    # Sums in another order differ in the last digits; a level that is reached to six is reached.
    short = running < (level * (1 - 1e-6))[..., None] * running[..., -1:]
    index = xp.sum(xp.astype(short, xp.int64), axis=-1, keepdims=True)
    index = xp.clip(index, 0, values.shape[-1] - 1)
    return xp.take_along_axis(values, index, axis=-1)[..., 0]


def row_status(source: Any, target: Any, weights: Any, fit: PairFit) -> np.ndarray | None:
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
            collinear[index if loose.ndim else ()] = is_collinear(source, target, weights, index if loose.ndim else ())
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
    index = tuple(bad[0]) if status.ndim else ()
    x, y = (_row(a, batch_shape(source, target), weights, index) for a in (source, target))
    # Of the two that of no extent, to six digits, is the one whose points coincide.
    same = names[0] if len(x) and np.ptp(x, axis=0).max() <= np.ptp(y, axis=0).max() * 1e-6 else names[1]
    refuse_first(status, names, source.shape[-1], few=f"only {len(x)}", same=f" of {same}")


UNLIKE = "unlike the model"  # in no position like the mean
# What was got, by the words of a status.
_GOT = {
    UNLIKE: "landmarks that do not look like {target} in any position",
    "infinite coordinate": "an infinite coordinate",
    "too few landmarks": "{few} landmarks that are seen (or have weight)",
    "coincident landmarks": "landmarks{same} that all coincide",
    "collinear landmarks": "landmarks on one line, so that the turn about it is free",
    "ambiguous rotation": "a mirror image of {target}, which every rotation fits equally badly",
    "coordinates too large": "coordinates whose squares overflow",
}
_EXPECTED = {UNLIKE: "a squared correlation with it of 0.15 or more"}
_HINTS = {
    UNLIKE: "whether they are mirrored, count y upwards, are (y, x), or stand in the order of another scheme; where a "
    "few are far off, a confidence or loss='tukey'",
    "ambiguous rotation": "reflection=True, or leaving them out",
    "coordinates too large": "dividing them by a common size",
}


def refuse_first(
    status: np.ndarray, names: tuple[str, str], n_dims: int, *, few: str = "too few", same: str = ""
) -> None:
    """Raise for the first row of a batch whose status is not "ok", in the words of that status."""
    bad = np.argwhere(status != "ok")
    where = ", ".join(map(str, bad[0]))
    at = f" at index {where if status.ndim == 1 else f'({where})'} of the batch" if status.ndim else ""
    others = f" ({len(bad)} such rows)" if status.ndim and len(bad) > 1 else ""
    word = str(status[tuple(bad[0])])
    got = _GOT[word].format(few=few, same=same, target=names[1])
    expected = _EXPECTED.get(word, f"at least {n_dims} landmarks apart from each other, finite or NaN")
    error = DegenerateShapeError(
        f"{names[0]}: got {got}{at}{others}; expected {expected}. Try {_HINTS.get(word, 'leaving them out')}."
    )
    error.status = status
    raise error


def _row(points: Any, batch: tuple[int, ...], weights: Any, index: tuple[int, ...]) -> np.ndarray:
    """Return the points of one row that have weight."""
    one = np.broadcast_to(to_numpy(points), (*batch, *points.shape[-2:]))[index]
    if weights is None:
        return np.asarray(one)
    return np.asarray(one[np.broadcast_to(to_numpy(weights), (*batch, points.shape[-2]))[index] > 0])


def is_collinear(source: Any, target: Any, weights: Any, index: tuple[int, ...]) -> bool:
    """Say whether the seen points of one row of either lie on a line."""
    for points in (source, target):
        one = _row(points, batch_shape(source, target), weights, index)
        values = np.linalg.svd(one - one.mean(axis=0), compute_uv=False)
        if len(values) < 2 or values[1] <= np.sqrt(np.finfo(one.dtype).eps) * values[0]:
            return True
    return False
