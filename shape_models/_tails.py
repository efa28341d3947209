"""How far the truth lies from what a model fills in, learned from training shapes that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import gammaln

from ._array import to_numpy
from ._completion import completion_basis
from ._posterior import Solution, solve
from ._problem import Frame, Problem, Tails
from ._scatter import squared_radius, unlikely
from ._superimposition import fit_pair
from ._transforms import Similarity

_FEWEST_SAMPLES = 10  # from which four numbers are learned
_FOLDS, _PROBLEMS = 5, 600
_LANDMARKS = 6  # of a shape that are looked at, about


@dataclass(frozen=True, eq=False)
class Predictive:
    """The law of the true landmarks about those of a record.

    A hidden landmark k of shape i follows Student's t with η degrees of freedom about its completion, its scale matrix
    φᵢₖ times the covariance Σᵢₖ of the record,

        φᵢₖ = s (ν + Dᵢ²) / (ν + mᵢ) (tr Σᵢₖ / (d τ))^γ,

    with D² the squared Mahalanobis distance of what is seen and m its degrees of freedom. The second factor is that of
    a multivariate t: who is unusual where he is seen is so where he is hidden. A landmark that is seen follows the
    Gaussian of the covariance times that factor.
    """

    frame: Frame
    square: np.ndarray  # (n,)
    free: np.ndarray  # (n,)
    sizes: np.ndarray  # (n,), of the pose, frame of the points → model
    hidden: np.ndarray  # (n, K)
    lead: tuple[int, ...]

    def dispersion(self, covariance: np.ndarray) -> np.ndarray:
        """Return φ, (n, K), for covariances (n, K, d, d) in the frame of the points."""
        tails = self.frame.tails()
        if tails is None:
            return np.ones(self.hidden.shape)
        unusual = ((tails.prior_degrees + self.square) / (tails.prior_degrees + self.free))[:, None]
        d = covariance.shape[-1]
        variance = np.trace(covariance, axis1=-2, axis2=-1) * np.square(self.sizes)[:, None] / d
        # A landmark of almost no variance, whose power might be negative, divides nothing by zero.
        share = np.maximum(variance / tails.size, 1e-12) ** tails.power
        return unusual * np.where(self.hidden, tails.scale * share, 1.0)

    def radius(self, covariance: np.ndarray, level: float) -> np.ndarray:
        """Return the Mahalanobis distance within which the true landmark lies with a probability, (..., K)."""
        flat = np.asarray(covariance, dtype=np.float64).reshape(*self.hidden.shape, *covariance.shape[-2:])
        d, tails = flat.shape[-1], self.frame.tails()
        gaussian = squared_radius(level, np.inf, d)
        student = gaussian if tails is None else squared_radius(level, tails.degrees, d)
        square = self.dispersion(flat) * np.where(self.hidden, student, gaussian)
        square = np.where(np.isnan(flat[..., 0, 0]), np.nan, square)  # a row that could not be fitted
        return np.asarray(np.sqrt(square).reshape(*self.lead, self.hidden.shape[1]))

    def expected_error(self, covariance: np.ndarray) -> np.ndarray:
        """Return the mean over the landmarks of the expected distance to the truth, (...)."""
        flat = np.asarray(covariance, dtype=np.float64).reshape(*self.hidden.shape, *covariance.shape[-2:])
        d = flat.shape[-1]
        length = np.exp(gammaln((d + 1) / 2) - gammaln(d / 2)) * np.sqrt(2 / d)  # of a normal vector of covariance I/d
        spread = np.sqrt(self.dispersion(flat) * np.maximum(np.trace(flat, axis1=-2, axis2=-1), 0.0))
        return np.asarray(length * spread.mean(axis=-1).reshape(self.lead))


def predictive(solution: Solution) -> Predictive | None:
    """Return the law of a solution; None where values cannot be looked at."""
    problem = solution.problem
    if problem.status is None:
        return None
    square, free = solution.distance()
    sizes, hidden = to_numpy(solution.similarity.scale).astype(np.float64), to_numpy(problem.confidence) == 0
    return Predictive(problem.frame, square, free, sizes, hidden, problem.lead)


def learn_tails(frame: Frame, sample: np.ndarray, covariance: np.ndarray, n_samples: int) -> Tails | None:
    """Learn the tails from shapes (n, K, d) that the model was fitted to, each left out of what completes it.

    Of each shape one to half of its landmarks are hidden, three times side by side for once scattered. The Gaussian
    that completes is that of all shapes but those of the fold. The numbers are the most probable ones, with a weak
    prior that small sets fall back on: no calibration, and tails of ten degrees of freedom.
    """
    n, k, d = sample.shape
    if n < _FEWEST_SAMPLES or k < 4 or n_samples < 2 * _FOLDS:
        return None
    rng = np.random.default_rng(0)
    fold = rng.permutation(n) % _FOLDS
    apart = (sample - frame.prior.mean).reshape(n, -1)
    near = np.linalg.norm(frame.mean[:, None] - frame.mean, axis=-1).argsort(axis=1)
    squares: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    errors = np.zeros(2)
    for f in range(_FOLDS):
        out = apart[fold == f]
        left, centre = n_samples - len(out), out.mean(axis=0)
        scatter = (n_samples - 1) * covariance - out.T @ out - len(out) ** 2 / left * np.outer(centre, centre)
        mean = frame.prior.mean - (len(out) / left * centre).reshape(k, d)
        prior = completion_basis(mean, 0.5 * (scatter + scatter.T) / (left - 1), left, frame.prior.limit)
        truth = np.repeat(sample[fold == f], max(1, -(-_PROBLEMS // n)), axis=0)
        hidden = _gaps(len(truth), near, rng)
        points = np.where(hidden[..., None], np.nan, truth)
        problem = Problem.of(frame._replace(prior=prior), points)
        solution = solve(problem)
        good = ~problem.failed
        hidden &= good[:, None]
        square, free = solution.distance()
        sizes = to_numpy(solution.similarity.scale).astype(np.float64)
        blocks = solution.covariance(whole=True)
        missed = (solution.completed - truth)[hidden]
        pasted = fit_pair(frame.mean, problem.points, problem.confidence, rule="full" if frame.scaling else "rigid")
        naive = Similarity._of(pasted.rotation, pasted.translation, pasted.scale)(frame.mean) - truth
        errors += [np.square(missed).sum(), np.square(naive[hidden]).sum()]
        hidden &= rng.random(hidden.shape) < _LANDMARKS / np.maximum(hidden.sum(axis=1, keepdims=True), 1)
        off, where = (solution.completed - truth)[hidden], np.nonzero(hidden)[0]
        blocks = blocks[hidden]
        variance = np.trace(blocks, axis1=1, axis2=2) / d
        squares.append(np.einsum("ni,nij,nj->n", off, np.linalg.pinv(blocks, rcond=1e-9, hermitian=True), off))
        variances.append(variance * np.square(sizes)[where])
        distances.append(np.stack([square[where], free[where], 1.0 / hidden.sum(axis=1)[where]]))
    square, variance = np.concatenate(squares), np.concatenate(variances)
    told = np.isfinite(square) & (variance > 0)
    if told.sum() < _FEWEST_SAMPLES:
        return None
    square, variance = square[told], variance[told]
    seen, free, weight = np.concatenate(distances, axis=1)[:, told]
    size = float(np.exp(np.average(np.log(variance), weights=weight)))
    skill = 1.0 - float(errors[0] / errors[1]) if errors[1] > 0 else 0.0
    typical = max(float(np.median(free)), 1.0)
    step = partial(_unlikely, square=square, ratio=np.log(variance / size), seen=seen, free=free,
                   weight=weight * n / weight.sum(), typical=typical, d=d)  # fmt: skip
    from scipy.optimize import minimize

    best = minimize(
        step,
        np.array([0.0, np.log(typical), np.log(10.0), 0.0]),
        method="Nelder-Mead",
        options={"xatol": 1e-3, "fatol": 1e-3, "maxiter": 800},
    ).x
    s, prior_degrees, degrees = np.exp(best[:3])
    return Tails(float(s), float(prior_degrees), float(degrees), float(best[3]), size, skill)


def _gaps(n: int, near: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which landmarks are hidden, (n, K): neighbours, as something before a shape hides them, or any by chance.

    Row k of `near` are all landmarks by their distance from landmark k.
    """
    k = len(near)
    hidden = np.zeros((n, k), dtype=bool)
    for row in hidden:
        count = rng.integers(1, k // 2 + 1)
        row[near[rng.integers(k)][:count] if rng.random() < 0.75 else rng.choice(k, count, replace=False)] = True
    return hidden


def _unlikely(
    x: np.ndarray, *, square: np.ndarray, ratio: np.ndarray, seen: np.ndarray, free: np.ndarray, weight: np.ndarray,
    typical: float, d: int,
) -> float:  # fmt: skip
    """Return minus the logarithm of the posterior of ln s, ln ν, ln η and γ."""
    prior = np.square((x - [0.0, np.log(typical), np.log(10.0), 0.0]) / [0.5, 2.0, 1.0, 0.1]).sum()
    nu, eta = np.exp(np.clip(x[1:3], -20, 20))
    log_phi = x[0] + np.log((nu + seen) / (nu + free)) + x[3] * ratio
    law = 0.5 * d * log_phi + unlikely(square / np.exp(log_phi), eta, d)
    return float(0.5 * prior + (weight * law).sum())
