"""The fit of NumPy arrays: compiled loops over float64, and poses z = A y + t as arrays A and t."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _fit_kernels as loops
from ._fit_algebra import FULL, PARTIAL, RIGID, TANGENT, Known, Target
from ._normal import Normal, least_noise
from ._operands import Operands
from ._similarity import is_collinear
from ._transforms import Similarity

WORDS = np.array([
    "ok", "infinite coordinate", "too few landmarks", "coordinates too large", "coincident landmarks",
    "ambiguous rotation", "collinear landmarks",
])  # fmt: skip
_RULES = {"full": FULL, "partial": PARTIAL, "rigid": RIGID, "tangent": TANGENT}
_NONE = np.empty((0, 0, 0, 0))


class Pose(NamedTuple):
    """Frame of the points → model."""

    matrix: np.ndarray  # (n, d, d), scale times rotation
    shift: np.ndarray  # (n, d)

    @classmethod
    def empty(cls, n: int, d: int) -> Pose:
        return cls(np.empty((n, d, d)), np.empty((n, d)))

    def copy(self) -> Pose:
        return Pose(self.matrix.copy(), self.shift.copy())

    @property
    def scale(self) -> np.ndarray:
        return np.asarray(np.sqrt(np.square(self.matrix[:, 0]).sum(axis=-1)))

    def similarity(self) -> Similarity:
        return Similarity._of(self.matrix / self.scale[:, None, None], self.shift, self.scale)


def pose_from(similarity: Similarity) -> Pose:
    """Return the pose of a similarity."""
    matrix = similarity.scale[:, None, None] * similarity.rotation
    return Pose(matrix.astype(np.float64, order="C"), np.array(similarity.translation, dtype=np.float64, order="C"))


def begin(frame: Any, points: np.ndarray, weights: np.ndarray, eps: float) -> tuple[Pose, np.ndarray, bool, np.ndarray]:
    """Return poses from the points alone, their status, whether all is certain, and how points correlate with the mean.

    See `_fit_kernels.begin`.
    """
    n, _, d = points.shape
    pose, codes, alike = Pose.empty(n, d), np.empty(n, np.int8), np.empty(n)
    given = np.where((weights > 0)[..., None], points, np.nan) if d == 3 else points  # the loop writes over them
    n_uncertain = loops.begin(_flat(points), weights, _target(frame), 16 * eps, *pose, codes, alike)
    for i in np.flatnonzero((codes == 5) & (d == 3)):
        if is_collinear(given[i], frame.mean, ~np.isnan(given[i]).any(axis=1), ()):
            codes[i] = 6
    return pose, WORDS[codes], not n_uncertain, alike


def _target(frame: Any) -> Any:
    mean = np.array(frame.mean, dtype=np.float64, order="C").ravel()
    return Target(mean, _RULES[frame.rule], float(frame.inflation))


def known(problem: Any) -> Any:
    """Return what is known of each landmark."""
    seen = problem.confidence > 0
    if problem.covariance is None:
        variance = np.zeros(seen.shape)
        if not problem.certain:
            w = np.where(seen, problem.confidence, 1.0)
            variance = problem.frame.noise * (1.0 / w - 1.0)
        return Known(seen, variance, _NONE, False)
    given = np.array(problem.covariance, dtype=np.float64, order="C")
    return Known(seen, given, _NONE, True) if given.ndim == 2 else (Known(seen, np.zeros(seen.shape), given, True))


def _flat(points: np.ndarray) -> np.ndarray:
    n, k, d = points.shape
    return points.reshape(n, k * d)


def superimpose(problem: Any, points: np.ndarray) -> Pose:
    """Return the poses in which whole shapes lie on the mean."""
    return begin(problem.frame, points.copy(), np.ones(points.shape[:2]), 0.0)[0]


def encode(problem: Any, pose: Pose, shapes: np.ndarray) -> np.ndarray:
    """Return the coefficients of shapes in the frame of the points."""
    some = problem.frame.normal()
    out = np.empty((len(shapes), len(some.modes)))
    loops.encode(_flat(shapes), *pose, some.mean, some.modes, out)
    return out


def decode(problem: Any, pose: Pose, coefficients: np.ndarray) -> np.ndarray:
    """Return the shapes of coefficients in the frame of the points."""
    some = problem.frame.normal()
    out = np.empty((len(coefficients), len(some.mean)))
    loops.decode(np.ascontiguousarray(coefficients), *pose, some.mean, some.modes, out)
    return out.reshape(problem.points.shape)


def posterior(
    problem: Any, some: Normal, pose: Pose, points: np.ndarray, steps: int
) -> tuple[Pose, np.ndarray, np.ndarray]:
    """Return pose, whole shapes, and the squared Mahalanobis distance of what is seen; one step leaves the pose."""
    pose, flat = pose.copy(), _flat(points)
    whole, square = np.empty_like(flat), np.empty(len(flat))
    target = _target(problem.frame)
    target = target if steps > 1 else target._replace(rule=-1)
    loops.posterior(flat, problem.known, *pose, some.compiled, target, steps, whole, square)
    return pose, whole.reshape(points.shape), square


def likeness(problem: Any, pose: Pose, robust: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how much points look like the mean, (n, 3); see `_posterior`."""
    out = np.empty((len(robust), 3))
    loops.likeness(_flat(problem.points), problem.known, robust, *pose, mean.ravel(), spread, out)
    return out


def reweigh(problem: Any, some: Normal, pose: Pose, n_rounds: int, n_huber: int, limits: Any) -> Any:
    """Return pose, what a robust loss leaves, and pseudo-values; see `_posterior`."""
    limit, n = problem.frame.basis.limit, len(some.modes)
    bound = np.full(n, np.inf) if limit is None else np.array(limit.bound(problem.frame.basis._scale), dtype=float)
    pose, points, robust = pose.copy(), problem.points.copy(), np.empty(problem.confidence.shape)
    loops.reweigh(_flat(points), problem.known, problem.certain, *pose, some.compiled, some.inverse, some.modes, bound,
                  _target(problem.frame), n_rounds, n_huber, limits, robust)  # fmt: skip
    return pose, robust, points


def least_squares(
    problem: Any, some: Normal, pose: Pose, robust: np.ndarray, longest: float, steps: int, ridge: float
) -> tuple[Pose, np.ndarray]:
    """Return the pose and the coefficients that bring the model nearest to the points."""
    pose, frame = pose.copy(), problem.frame
    spread = np.asarray(frame.basis._scale, dtype=np.float64)
    found = np.zeros((len(robust), len(spread)))
    loops.least_squares(_flat(problem.points), problem.known, robust, *pose, some.mean, some.noise,
                        spread[:, None] * some.modes, frame.scaling, ridge, longest, steps, 1e-14, found)  # fmt: skip
    return pose, found * spread


def covariance(
    problem: Any, some: Normal, pose: Pose, robust: np.ndarray, rows: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """Return covariances of landmarks (n, K, d, d) of what the rows see of whole shapes; of all without rows."""
    out = np.empty((*robust.shape, rest.shape[-1], rest.shape[-1]))
    loops.covariance(problem.known, pose.matrix, robust, problem.frame.noise, some.compiled, rows, rest, out)
    return out


def complete_rows(basis: Operands, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return shapes (n, K, d) without gaps and the covariance of each landmark, with no pose; None for singular ones.

    Shapes with the same gaps follow one another, so that they share their matrices.
    """
    noise = least_noise(basis)
    if basis.noise_variance < noise or (basis.variances < (1 - 1e-6) * noise).any():
        return None  # rounding apart, a mode has less variance than the noise, which `Normal` does not have
    some = Normal.of(basis, None)
    n, k, d = rows.shape
    seen = np.isfinite(rows).all(axis=-1)
    masks = np.packbits(seen, axis=1)
    order = np.argsort(masks.view(f"S{masks.shape[1]}")[:, 0], kind="stable")
    seen = np.ascontiguousarray(seen[order])
    flat = np.where(seen[..., None], rows[order], 0.0).astype(np.float64).reshape(n, k * d)
    told = Known(seen, np.zeros(seen.shape), _NONE, False)
    matrix, shift = np.tile(np.eye(d), (n, 1, 1)), np.zeros((n, d))
    whole, square, blocks = np.empty_like(flat), np.empty(n), np.empty((n, k, d, d))
    target = Target(some.mean, -1, 1.0)
    loops.posterior(flat, told, matrix, shift, some.compiled, target, 1, whole, square)
    empty = np.empty((0, k * d)), np.empty((0, d, d))
    loops.covariance(told, matrix, np.ones(seen.shape), some.noise, some.compiled, *empty, blocks)
    filled, covariance = np.empty(rows.shape, rows.dtype), np.empty((*rows.shape, d), rows.dtype)
    filled[order], covariance[order] = whole.reshape(rows.shape), blocks
    return filled, covariance
