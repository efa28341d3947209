"""The most probable whole shapes of a problem, their covariance, and what a robust loss leaves of the points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from . import _fit_arrays
from ._array import beside, device_of, leave, namespace_of, to_numpy
from ._limits import Box
from ._normal import Normal, least_noise
from ._operands import Operands
from ._options import check_choice
from ._problem import Frame, Problem, beside_rows, spread
from ._robust import HUBER, LEAST, MEDIAN_LENGTH, TUKEY
from ._similarity import UNLIKE, as_similarity
from ._superimposition import fit_pair
from ._transforms import Similarity, pose_directions

_ROUNDS, _N_HUBER = 7, 2  # of reweighting; the first by Huber's loss, which has no local optima
_ENERGY, _MOST_GRADIENTS = 0.1, 8  # what conjugate gradients may leave, in units of the spread, and their most steps
_STEPS = 400  # most turns of the frame; each leaves a tenth of the error, or more where directions are exact
_MOST_STEPS = 50  # of Gauss and Newton
_DRAGGED = 0.5  # squared correlation with the mean below which landmarks far off may have dragged the pose along
# Sizes of the mean, the root mean square distance of its landmarks from their middle: from where on a landmark stands
# where no part of a shape does, in whatever order, and how far away such a one is looked at.
_FAR, _NEARER = 4.0, 1.0
LEAST_ALIKE = 0.15  # AFLW2000-3D with its profiles is at 0.19 or more, 85 % of its mirror images below; COFW's at 0.07
_MOST_SCATTER = 0.5  # scatter to expect about the mean: of a single mode, one shape in a thousand is 11 times as far
_LONGEST_STEP = 0.5  # of a turn in radians, or of the logarithm of the scale: beyond, linear terms are wrong


def check_choices(loss: str, on_error: str = "status") -> None:
    """Raise for a loss or a policy that does not exist."""
    check_choice(("linear", "huber", "tukey"), loss=loss)
    check_choice(("status", "raise"), on_error=on_error)


def solve(
    problem: Problem, *, loss: str = "linear", prior: bool = True, start: Similarity | None = None, judge: bool = True
) -> Solution:
    """Return the most probable whole shapes of a problem; rows that cannot be fitted hold the mean.

    Without `judge` points that do not look like the mean are fitted as they are.

    What bounds the pull of a point reweighs by iteration. A residual is the distance to the plausible shape in units of
    its own standard deviation, and their spread is the median, in which each landmark counts as its confidence. With
    the fraction w of a point y and the shape x that the modes and the noise make of all points, x + w (y - x) is its
    pseudo-value: what is linear in the points and agrees with the loss at its solution, as P. J. Huber, "Robust
    statistics", 1981, section 7.8. Each system is solved by conjugate gradients from the last solution; without weights
    it is known beforehand.
    """
    frame, points = problem.frame, problem.points
    limit = frame.basis.limit
    engine = problem.engine
    if loss != "linear" and not (limit is None or isinstance(limit, Box)):
        engine = _fit_arrays
    pose = problem.pose if start is None else _started(problem, start)
    pose = engine.pose_from(pose) if isinstance(pose, Similarity) else pose
    if engine is _fit_arrays and not isinstance(pose, Similarity):
        pose = pose.similarity()
    xp = namespace_of(points)
    some = Normal.of(frame.basis, frame.scaling)
    robust = xp.ones_like(problem.confidence)
    bounded, reach = problem, None
    if loss != "linear" and start is None and problem.alike is not None and (problem.alike < _DRAGGED).any():
        bounded, pose, reach = _without_far(problem, pose)
    if loss != "linear":
        d = points.shape[2]
        # Points of a shape without noise that fit exactly have an error of at least a billionth of its size.
        limits = (HUBER, TUKEY, MEDIAN_LENGTH[d], some.noise**0.5 + 1e-9, LEAST, _ENERGY, _MOST_GRADIENTS)
        n_huber = _ROUNDS if loss == "huber" else _N_HUBER
        pose, robust, points = engine.reweigh(bounded, some, pose, _ROUNDS, n_huber, limits)
        robust = robust if reach is None else robust * reach
    found = Solution(problem, prior, engine, pose, robust, points, points, reach=reach)
    if not prior:
        # Of coefficients that are not determined the most probable are taken: a prior of no weight to speak of.
        largest = max(float(xp.max(problem.basis.variances)), float(np.finfo(np.float64).tiny))
        ridge = 16 * float(xp.finfo(points.dtype).eps) * largest
        steps = _LONGEST_STEP, _MOST_STEPS
        found.pose, found.coefficients = engine.least_squares(problem, some, pose, robust, *steps, ridge)
        found.completed = found.decode(found.coefficients)
    elif problem.certain:
        if loss == "linear" and start is not None:
            found.pose = engine.superimpose(problem, points)
    else:
        prior_ = Normal.of(frame.prior, frame.scaling)
        hopeless = {"hopeless": found.hopeless} if judge and engine is _fit_arrays else {}
        found.pose, found.completed, found.square = engine.posterior(problem, prior_, pose, points, _STEPS, **hopeless)
    if judge:
        found.judge()
    return found


def _without_far(problem: Problem, pose: Any) -> tuple[Problem, Any, Any]:
    """Return a problem, and its poses, in which landmarks far off have not dragged their shapes along.

    They stand nearer, in the same direction, still beyond where a loss bounds their pull; the last of the answer is the
    fraction of their distance. Of the poses by a few landmarks each the one is taken in which the median distance to
    the mean is least, and then that by all landmarks within 2.5 of the standard deviations this median stands for:
    P. J. Rousseeuw, A. M. Leroy, "Robust regression and outlier detection", 1987, chapter 5.
    """
    frame = problem.frame
    assert problem.alike is not None
    rows = np.flatnonzero((problem.alike < _DRAGGED) & ~problem.failed)
    few = frame.basis._derived(("few", frame.mean.tobytes()), lambda: _far_apart(frame.mean))
    rule = "full" if frame.scaling else "rigid"
    found = pose.similarity() if not isinstance(pose, Similarity) else pose
    parts = [np.array(to_numpy(part), dtype=np.float64) for part in found._parts]
    reach = np.ones(problem.confidence.shape)
    size = np.sqrt(np.square(frame.mean - frame.mean.mean(axis=0)).sum(axis=1).mean())
    for row in rows:
        points = to_numpy(problem.points[row]).astype(np.float64)
        seen = to_numpy(problem.confidence[row]) > 0
        usable = few[seen[few].all(axis=1)]
        with np.errstate(all="ignore"):  # of landmarks that coincide
            fit = fit_pair(points[usable], frame.mean[usable], None, rule=rule)
            placed = as_similarity(fit)(points[None])
            off = np.linalg.norm(placed - frame.mean, axis=-1)[:, seen]
            median = np.nan_to_num(np.median(off, axis=1), nan=np.inf)
        if not np.isfinite(median).any():
            continue
        best = int(np.argmin(median))
        near = np.zeros(len(seen))
        near[seen] = off[best] <= 2.5 * max(median[best] / MEDIAN_LENGTH[points.shape[1]], frame.noise**0.5)
        own = frame.align(points[None], near[None])
        distance = np.linalg.norm(to_numpy(own(points[None]))[0] - frame.mean, axis=-1)
        far = seen & (distance > _FAR * size)
        if far.any():
            reach[row, far] = _NEARER * size / distance[far]
            for part, new in zip(parts, own._parts, strict=True):
                part[row] = to_numpy(new)[0]
    xp = namespace_of(problem.points)
    like = [xp.asarray(p, dtype=problem.points.dtype, device=device_of(problem.points)) for p in parts]
    found = Similarity._of(*like)
    reach = xp.asarray(reach, dtype=problem.points.dtype, device=device_of(problem.points))
    mean = beside(frame.mean, problem.points)
    near_points = found.inverse(mean + reach[..., None] * (found(problem.points) - mean))
    bounded = replace(problem, points=xp.where((reach < 1)[..., None], near_points, problem.points))
    return bounded, found if isinstance(pose, Similarity) else problem.engine.pose_from(found), reach


def _far_apart(mean: np.ndarray) -> np.ndarray:
    """Return sets of as many landmarks as axes, (n, d), each landmark with others that lie far away from it."""
    k, d = mean.shape
    distance = np.linalg.norm(mean[:, None] - mean, axis=-1)
    order = np.argsort(-distance, axis=1, kind="stable")
    few = [np.stack([np.arange(k), order[:, rank]], axis=1) for rank in (0, k // 8, k // 4)]
    pairs = np.concatenate(few)
    if d == 2:
        return pairs
    first, second = mean[pairs.T][:, :, None]
    across = np.cross(second - first, mean - first)  # (n, k, 3)
    return np.concatenate([pairs, np.linalg.norm(across, axis=-1).argmax(axis=1)[:, None]], axis=1)


def _started(problem: Problem, start: Similarity) -> Similarity:
    """Return frame of the points → model, from the other way round as the user gives it."""
    if not isinstance(start, Similarity):
        raise TypeError(f"start: got {type(start).__name__}; expected a Similarity. Try Similarity.from_matrix.")
    d = problem.points.shape[2]
    start = start.like(problem.points)
    xp = namespace_of(problem.points)
    parts = []
    for part, event in zip(start._parts, ((d, d), (d,), ()), strict=True):
        parts.append(spread(part, problem.lead, event, "start", "a similarity, or one for each shape"))
    failed = problem.failed
    found = Similarity._of(*parts).inverse
    if failed.any():
        own = [xp.asarray(failed, device=device_of(problem.points))[(...,) + (None,) * (p.ndim - 1)] for p in parts]
        found = Similarity._of(
            *(xp.where(f, a, b) for f, a, b in zip(own, problem.similarity._parts, found._parts, strict=True))
        )
    return found


@dataclass(eq=False)
class Solution:
    """The most probable whole shapes, and what is needed to report on them."""

    problem: Problem
    prior: bool
    engine: ModuleType
    pose: Any  # frame of the points → model, in which the whole shapes are superimposed on the mean
    robust: Any  # (n, n_landmarks), the weights of a robust loss
    points: Any  # (n, n_landmarks, n_dims), pseudo-values where a robust loss took something away
    completed: Any  # (n, n_landmarks, n_dims) in the frame of the points
    coefficients: Any = None  # of least squares
    square: Any = None  # of the Mahalanobis distance of what is seen, where it is known already
    reach: Any = None  # (n, n_landmarks), the fraction of the distance at which landmarks far off were looked at

    @cached_property
    def similarity(self) -> Similarity:
        """Frame of the points → model."""
        return self.pose if isinstance(self.pose, Similarity) else self.pose.similarity()

    def encode(self) -> Any:
        """Return the coefficients of the shapes, not clipped, (n, n_components)."""
        if self.coefficients is None:
            self.coefficients = self.engine.encode(self.problem, self.pose, self.completed)
        return self.coefficients

    def decode(self, coefficients: Any) -> Any:
        """Return the shapes of coefficients in the frame of the points."""
        return self.engine.decode(self.problem, self.pose, coefficients)

    def leave(self, array: Any, rows: np.ndarray | None = None) -> Any:
        """Give back the leading axes and the type, with NaN in rows: those that could not be fitted."""
        rows = self.problem.failed if rows is None else rows
        if rows.any():
            xp = namespace_of(array)
            array = xp.where(beside_rows(rows, array), xp.full_like(array, float("nan")), array)
        lead = self.problem.lead
        if len(lead) != 1:
            array = namespace_of(array).reshape(array, (*lead, *array.shape[1:]))
        return leave(array, self.problem.dtype)

    def leave_pose(self, pose: Similarity) -> Similarity:
        """Give back a similarity likewise."""
        return Similarity._of(*(self.leave(part) for part in pose._parts))

    @cached_property
    def likeness(self) -> np.ndarray | None:
        """How much points look like the mean in any position, (n, 3); None where values cannot be looked at.

        Their squared correlation with it as they lie best; how large they are along it as they lie, in units of its
        own size there; and the scatter that the model and the errors of the points let expect about it, in units of
        its scatter. Landmarks count as they are certain beside the variation of the model.
        """
        if self.problem.status is None:
            return None
        robust = self.robust if self.reach is None else self.robust * self.reach  # what lies far off counts as nearer
        found: np.ndarray = self.engine.likeness(self.problem, self.pose, robust, *self._landmarks)
        return found

    def hopeless(self, pose: Any) -> np.ndarray:
        """Return rows that will not look like the mean wherever their pose comes to rest."""
        alike, _, apart = self.engine.likeness(self.problem, pose, self.robust, *self._landmarks).T
        return np.asarray((alike < 0.5 * LEAST_ALIKE) & (apart < 0.5 * _MOST_SCATTER))

    @property
    def _landmarks(self) -> tuple[np.ndarray, np.ndarray]:
        prior = self.problem.frame.prior
        return prior._derived("spread", lambda: _spread(prior))

    def judge(self) -> None:
        """Give points that do not look like the mean a status of their own.

        Their similarity makes them small, down to a single point, and what comes back from the model is many times
        their size. Where shapes and errors are so large that right points may look like anything, none is refused.
        """
        alike = self.problem.alike
        if self.pose is not self.problem.pose or not self.problem.certain:  # else what superimposes them has said it
            alike = None if self.likeness is None else self.likeness[:, 0]
        if alike is not None and (alike < LEAST_ALIKE).any() and self.likeness is not None:
            self.problem.give_up((alike < LEAST_ALIKE) & (self.likeness[:, 2] < _MOST_SCATTER), UNLIKE)

    def distance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared Mahalanobis distance of what is seen to the model, and its degrees of freedom, (n,).

        Distances are measured at the size of the mean, as in the tangent space of I. L. Dryden, K. V. Mardia,
        "Statistical shape analysis", 2016, section 4.4: points that do not look like the mean are made small, and a
        Gaussian of free size lies near a point.
        """
        some = Normal.of(self.problem.frame.prior, self.problem.frame.scaling)
        square = self.square
        if square is None:
            square = self.engine.posterior(self.problem, some, self.pose, self.points, 1)[-1]
        seen = np.where(to_numpy(self.problem.confidence) > 0, to_numpy(self.robust), 0.0)
        free = self.points.shape[2] * seen.sum(axis=-1, dtype=np.float64) - some.n_moves
        square = np.maximum(to_numpy(square).astype(np.float64), 0.0)
        if self.problem.frame.scaling and self.likeness is not None:
            square = square / np.clip(self.likeness[:, 1], LEAST, 1.0) ** 2
        return square, np.maximum(free, 0.0)

    def covariance(self, *, whole: bool = False) -> Any:
        """Return the covariance of the true landmarks about the fitted ones, or about the completed ones."""
        frame, d = self.problem.frame, self.points.shape[2]
        some = Normal.of(frame.prior if self.prior else frame.basis, frame.scaling)
        if whole:
            rows, rest = np.empty((0, some.mean.size)), np.empty((0, d, d))
        else:
            # The prior itself is the key: what is derived from another one must not be met in its place.
            rows, rest = frame.basis._derived(("rest", frame.prior, frame.scaling), lambda: _leftover(frame))
        return self.engine.covariance(self.problem, some, self.pose, self.robust, rows, rest)


def _spread(prior: Operands) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (K, d) and the variance of each landmark, summed over the axes, (K,)."""
    modes, noise = to_numpy(prior.components).astype(np.float64), least_noise(prior)
    excess = np.maximum(to_numpy(prior.variances).astype(np.float64) - noise, 0.0)
    mean = np.array(to_numpy(prior.mean), dtype=np.float64, order="C")
    return mean, (excess @ np.square(modes) + noise).reshape(mean.shape).sum(axis=1)


def _leftover(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal rows of pose and modes, and the covariance (K, d, d) of what they leave of the prior."""
    k, d = frame.basis.event_shape
    moves = pose_directions(to_numpy(frame.basis.mean).astype(np.float64), frame.scaling)
    modes = to_numpy(frame.basis.components).astype(np.float64)
    kept = np.linalg.qr(np.concatenate([moves, modes]).T)[0].T
    some = Normal.of(frame.prior, frame.scaling)
    rows = some.rows[: len(some.rows) - some.n_moves]
    rows = (rows - (rows @ kept.T) @ kept).reshape(-1, k, d)
    by_landmark = kept.reshape(-1, k, d)
    rest = np.einsum("qki,qkj->kij", rows, rows)
    rest += some.noise * (np.eye(d) - np.einsum("rki,rkj->kij", by_landmark, by_landmark))
    return kept, rest
