"""The mean shape of a set that comes in blocks: sums that add up, in one pass or one a round."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import linalg

from ._array import DegenerateShapeError, array_namespace, as_weights
from ._similarity import refuse_status, row_status
from ._superimposition import MANY_COORDINATES, PairFit, as_complex, fit_pair, turn_2d, turn_3d


def second_moment(parts: np.ndarray) -> np.ndarray:
    """Return Σ s sᴴ for complex rows s given as (re, im) pairs."""
    k = parts.shape[1] // 2
    gram = (parts.T @ parts).reshape(k, 2, k, 2)
    return np.asarray(gram[:, 0, :, 0] + gram[:, 1, :, 1] + 1j * (gram[:, 1, :, 0] - gram[:, 0, :, 1]))


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
        whole: SecondMoment = reduce(add, mapper(SecondMoment.of_block, blocks()))
        return whole.mean()
    step = partial(MeanStep.of_block, mean=_start(blocks), rule=rule, reflection=reflection, first=True)
    total = reduce(add, mapper(step, blocks()))
    input_sum, mean = total.input_sum, total.mean(rule)
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
        mean = mean * [-1.0, 1.0, 1.0][: mean.shape[1]]
    inflation = total.possible / total.explained if rule == "full" and total.explained > 0 else 1.0
    return Mean(finish_mean(mean, input_sum, rule), inflation, n_iter, converged)


class _Sums:
    """A record of sums over shapes; those over more shapes are its sum with another."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(add, vars(self).values(), vars(other).values()))


@dataclass(frozen=True, eq=False)
class SecondMoment(_Sums):
    """What one pass over planar shapes leaves: enough for their mean under the full criterion. Adds up.

    With weights W = diag(w) of one shape, z its centred complex coordinates and s = W z / √(zᴴ W z), the mean μ
    maximises μᴴ (Σ s sᴴ) μ / μᴴ (Σ W) μ among vectors with 1ᵀ (Σ W) μ = 0.
    """

    n: int
    moment: np.ndarray  # Σ s sᴴ (n_landmarks, n_landmarks)
    constant: np.ndarray  # Σ w wᵀ / Σₖ wₖ
    weight: np.ndarray  # Σ w
    input_sum: np.ndarray  # Σ s

    @classmethod
    def of_block(cls, block: tuple[np.ndarray, np.ndarray | None]) -> SecondMoment:
        """Sum over one block."""
        shapes, weights = block
        n, k = shapes.shape[:2]
        z = as_complex(shapes)
        if weights is None:
            z = z - z.mean(axis=1, keepdims=True)
            size = np.sqrt(np.einsum("nk,nk->n", z.real, z.real) + np.einsum("nk,nk->n", z.imag, z.imag))
            refuse_points(shapes, None, size)
            z /= size[:, None]
            constant, weight = np.full((k, k), n / k), np.full(k, float(n))
        else:
            z = np.where(weights > 0, z, 0)
            total = weights.sum(axis=1)
            safe = np.where(total > 0, total, 1.0)
            z = z - ((weights * z).sum(axis=1) / safe)[:, None]
            size = np.sqrt((weights * (z.real**2 + z.imag**2)).sum(axis=1))
            refuse_points(shapes, weights, size)
            z *= weights / size[:, None]
            share = weights / np.sqrt(safe)[:, None]
            constant, weight = share.T @ share, weights.sum(axis=0)
        return cls(n, second_moment(z.view(np.float64)), constant, weight, z.sum(axis=0))

    def mean(self) -> Mean:
        """Return the mean, (n_landmarks, 2); settled when the leading eigenvector is the only one."""
        if (self.weight <= 0).any():
            k = int(np.argmin(self.weight))
            raise DegenerateShapeError(f"landmark {k} is missing (or of weight 0) in every shape. Try leaving it out.")
        root = np.sqrt(self.weight)
        unit = root / np.linalg.norm(root)  # the constant vector: eigenvalue 1 of the sum, taken out
        matrix = (self.moment + self.constant) / np.outer(root, root) - np.outer(unit, unit)
        k = len(root)
        values, vectors = linalg.eigh(matrix, subset_by_index=(max(k - 2, 0), k - 1))
        mean = vectors[:, -1] / root
        # Eigenvalues that agree to rounding leave the mean free to turn among their vectors.
        unique = bool(len(values) < 2 or values[-1] - values[0] > 1e-12 * values[-1])
        possible, explained = (
            float((mean.conj() @ m @ mean).real) for m in (np.diag(self.weight) - self.constant, self.moment)
        )
        return Mean(finish_mean(as_real(mean), as_real(self.input_sum), "full"), possible / explained, 1, unique)


@dataclass(frozen=True, eq=False)
class MeanStep(_Sums):
    """What one pass over shapes leaves, given the mean so far: enough for the next mean. Adds up."""

    n: int
    total: np.ndarray  # Σ w y (n_landmarks, n_dims)
    weight: np.ndarray  # Σ w
    input_sum: np.ndarray  # Σ centred shapes of unit size
    explained: float  # Σ cos² ρ times the squared size of the mean, over what is seen
    possible: float  # Σ squared size of the mean, over what is seen
    n_reflected: int

    @classmethod
    def of_block(
        cls, block: tuple[np.ndarray, np.ndarray | None], *, mean: np.ndarray, rule: str, reflection: bool, first: bool
    ) -> MeanStep:
        """Sum over one block; `first` also sums the inputs as they stand."""
        shapes, weights = block
        input_sum = np.zeros_like(mean)
        if weights is None and not reflection and shapes.size >= MANY_COORDINATES and not np.isnan(mean[0, 0]):
            return cls._compiled(shapes, mean, rule, first)
        known = ~np.isnan(mean[:, 0])
        if first:
            input_sum = _input_sum(shapes, weights)
        used = weights
        if not known.all():
            used = (np.ones(shapes.shape[:2]) if weights is None else weights) * known
        filled = shapes if weights is None else np.where(weights[..., None] > 0, shapes, 0.0)
        fit = fit_pair(filled, np.where(known[:, None], mean, 0.0), used, rule=rule, reflection=reflection)
        if used is not None and not known.all():  # shapes with too little overlap wait for a later round
            # A turn that fits no better than another to six digits is none: too few landmarks are seen in both.
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
        return cls(len(shapes), total, weight, input_sum, float(explained), float(possible), n_reflected)

    @classmethod
    def _compiled(cls, shapes: np.ndarray, mean: np.ndarray, rule: str, first: bool) -> MeanStep:
        from . import _kernels

        total, input_sum = np.zeros_like(mean), np.zeros_like(mean)
        centred = mean - mean.mean(axis=0)
        size = np.linalg.norm(centred)
        unit = centred if rule == "rigid" else centred / size
        number = {"full": _kernels.FULL, "partial": _kernels.PARTIAL, "rigid": _kernels.RIGID}[rule]
        step = _kernels.step_2d if shapes.shape[2] == 2 else _kernels.step_3d
        explained, least = step(np.ascontiguousarray(shapes), unit, number, first, total, input_sum)
        # Squares of sizes over those of the coordinates: centred points that are nothing but rounding.
        if least <= (16 * np.finfo(np.float64).eps) ** 2:
            _input_sum(shapes, None)  # names the shape whose points coincide
        n = len(shapes)
        return cls(n, total, np.full(len(mean), float(n)), input_sum, explained, n * float(np.sum(unit**2)), 0)

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
) -> PairFit:
    """Return the fit of every shape to the mean; refuse what cannot be fitted."""
    mean = found.mean
    filled = shapes if weights is None else np.where(weights[..., None] > 0, shapes, 0.0)
    fit = fit_pair(filled, mean, weights, rule=rule, reflection=reflection, inflation=found.inflation)
    status = row_status(filled, mean, weights, fit)
    if status is not None:
        refuse_status(status, filled, mean, weights, ("shapes", "the mean"))
    return fit


def to_tangent(aligned: np.ndarray, mean: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Project to the tangent plane: y + (1 − y·μ / μ·μ) μ, in sums over what is seen, about its centroid."""
    if weights is None:
        flat = aligned.reshape(*aligned.shape[:-2], -1)
        excess = 1 - flat @ mean.ravel() / np.sum(mean**2)
        return np.asarray(aligned + excess[..., None, None] * mean)
    w = (weights / weights.sum(axis=-1, keepdims=True))[..., None]
    offset = mean - (w * mean).sum(axis=-2, keepdims=True)
    ratio = np.nansum(w * aligned * offset, axis=(-2, -1)) / (w * offset**2).sum(axis=(-2, -1))
    return np.asarray(aligned + (1 - ratio)[..., None, None] * offset)


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
    return np.asarray(best)


def _input_sum(shapes: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return Σ centred shapes, each of size 1, weighted."""
    if weights is None:
        offset = shapes - shapes.mean(axis=1, keepdims=True)
        size = np.sqrt(np.einsum("nkd,nkd->n", offset, offset))
        refuse_points(shapes, None, size)
        return np.asarray(np.einsum("n,nkd->kd", 1 / size, offset))
    total = weights.sum(axis=1)
    filled = np.where(weights[..., None] > 0, shapes, 0.0)
    centre = np.einsum("nk,nkd->nd", weights, filled) / np.where(total > 0, total, 1.0)[:, None]
    offset = filled - centre[:, None]
    size = np.sqrt(np.einsum("nk,nkd,nkd->n", weights, offset, offset))
    refuse_points(shapes, weights, size)
    return np.asarray(np.einsum("nk,n,nkd->kd", weights, 1 / size, offset))


def refuse_points(shapes: np.ndarray, weights: np.ndarray | None, size: np.ndarray) -> None:
    """Raise when the seen points of a shape coincide, up to the rounding of their coordinates."""
    largest = np.nanmax(np.abs(shapes), axis=(1, 2), initial=0.0)
    norm = np.sqrt(shapes.shape[1] if weights is None else weights.sum(axis=1))
    bad = np.flatnonzero(size <= 16 * np.finfo(np.float64).eps * largest * norm)
    if len(bad):
        seen = np.full(len(bad), shapes.shape[1]) if weights is None else (weights[bad] > 0).sum(axis=1)
        reason = f"only {seen[0]} landmarks are seen" if seen[0] < 2 else "all of its seen points coincide"
        error = DegenerateShapeError(
            f"shapes[{bad[0]}] has no size and no orientation: {reason} ({len(bad)} such shapes). Try leaving them out."
        )
        error.status = np.full(len(shapes), "ok", dtype="<U21")
        error.status[bad] = np.where(seen < 2, "too few landmarks", "coincident landmarks")
        raise error


def finish_mean(mean: np.ndarray, input_sum: np.ndarray, rule: str) -> np.ndarray:
    """Centre, bring to size 1 when scaling, and turn the mean towards the inputs."""
    mean = mean - mean.mean(axis=0)
    if rule != "rigid":
        mean = mean / np.linalg.norm(mean)
    cross = input_sum.T @ mean
    turn = (turn_2d if mean.shape[1] == 2 else turn_3d)(cross, False, array_namespace(cross))
    # Where the mean has no preferred turn (a regular polygon against itself) it keeps the one it has.
    if turn.margin > 1e-12 * np.linalg.norm(input_sum) * np.linalg.norm(mean):
        mean = mean @ turn.rotation.T
    return mean


def better_mirrored(fit: PairFit) -> np.ndarray:
    """Return the indices of shapes whose squared distance to the mean falls by more than half when mirrored."""
    slack = 1e3 * np.finfo(np.float64).eps  # of shapes that equal the mean, mirrored too, both distances are rounding
    return np.flatnonzero(1 - fit.mirrored_cosine**2 + slack < 0.5 * (1 - fit.cosine**2))


def warn_of_mirrored(mirrored: np.ndarray, squares: np.ndarray, n: int, mean: float) -> None:
    """Warn of mirror images that stand out, by their squared distances to the mean and that of n shapes on average.

    Shapes about as flat as their noise fit their mean either way round, and are no further from it than the others.
    Of sets that vary as much as random ones the furthest is at some four times the average of the rest.
    """
    rest = max(n * mean - squares.sum(), 0.0) / max(n - len(squares), 1)
    found = mirrored[squares > 5 * rest]
    if len(found):
        level, frame = 1, sys._getframe()
        while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] in (__package__, "sklearn"):
            level, frame = level + 1, frame.f_back
        first = ", ".join(map(str, found[:5].tolist())) + (", ..." if len(found) > 5 else "")
        warnings.warn(
            f"shapes: {len(found)} of {n} look like mirror images of the rest and are taken as they are: {first}. Try "
            "whether they are flipped, count y upwards, or have left and right exchanged.",
            UserWarning,
            stacklevel=level,
        )


def warn_of_mirrored_among(shapes: np.ndarray, mean: np.ndarray) -> None:
    """Warn likewise of shapes (n, K, d) that are superimposed already."""
    seen = ~np.isnan(shapes[..., 0])
    weights = None if seen.all() else seen.astype(np.float64)
    points = shapes if weights is None else np.where(seen[..., None], shapes, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # of shapes of one point
        fit = fit_pair(points.astype(np.float64, copy=False), mean, weights, rule="partial")
        squares, mirrored = np.nan_to_num(1 - fit.cosine**2), better_mirrored(fit)
    warn_of_mirrored(mirrored, squares[mirrored], len(shapes), float(squares.mean()))


def as_real(z: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(z).view(np.float64).reshape(*z.shape, 2)
