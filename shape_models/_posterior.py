"""The most probable whole shapes of a problem, their covariance, and what a robust loss leaves of the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._array import device_of, leave, namespace_of, to_numpy, values_known
from ._limits import Box
from ._operands import Operands
from ._problem import Frame, Problem, beside, least_noise, spread
from ._transforms import Similarity, pose_directions

if TYPE_CHECKING:
    from . import _fit_kernels

__all__ = ["Normal", "Solution", "check_choices", "complete_rows", "solve"]

_ROUNDS, _N_HUBER = 7, 2  # of reweighting; the first by Huber's loss, which has no local optima
_HUBER, _TUKEY = 1.345, 4.685  # 95 % efficient under Gaussian noise
_LEAST = 1e-6  # weight of a landmark given up: keeps the others' similarity from being too few
_MEDIAN_LENGTH = {2: 1.1774100225154747, 3: 1.5381722544550522}  # of a standard normal vector (chi distribution)
_ENERGY, _MOST_GRADIENTS = 0.1, 8  # what conjugate gradients may leave, in units of the spread, and their most steps
_STEPS = 40  # most turns of the frame; each leaves about a tenth of the error of the one before
_TRACED_STEPS = 12
_MOST_STEPS = 50  # of Gauss and Newton
_MOST = 0.5  # of a turn in radians, or of the logarithm of the scale, in one step
_CHUNK = 2**22  # numbers in the largest temporary array of a covariance
_MOST_PRECISION = 400  # coordinates for which a precision matrix is kept


class Normal(NamedTuple):
    """The shapes of a basis, their pose left free: what coefficients of variance 1 and the pose do, and the noise."""

    mean: np.ndarray  # (p,)
    rows: np.ndarray  # (n_modes + n_moves, p)
    n_moves: int
    noise: float
    inverse: np.ndarray  # of the system of a shape of which all is certain
    compiled: _fit_kernels.Gaussian | None

    @classmethod
    def of(cls, basis: Operands, scaling: bool | None = True) -> Normal:
        """Return the Gaussian of a basis; modes lose their share in the directions of the pose.

        Without scaling the pose has no size, with None there is no pose.
        """
        return basis._derived(("normal", scaling), lambda: cls._new(basis, scaling))

    @classmethod
    def _new(cls, basis: Operands, scaling: bool | None) -> Normal:
        mean = to_numpy(basis.mean).astype(np.float64)
        moves = np.empty((0, mean.size)) if scaling is None else pose_directions(mean, scaling)
        modes = to_numpy(basis.components).astype(np.float64)
        if len(moves):
            modes = modes - np.linalg.lstsq(moves.T, modes.T, rcond=None)[0].T @ moves
        noise = least_noise(basis)
        excess = np.maximum(to_numpy(basis.variances).astype(np.float64) - noise, 0.0)
        modes = modes[excess > 0] * np.sqrt(excess[excess > 0])[:, None]
        rows = np.ascontiguousarray(np.concatenate([modes, moves]))
        ridge = np.where(np.arange(len(rows)) < len(modes), noise, 0.0)
        gram = rows @ rows.T + np.diag(ridge)
        compiled = None
        if isinstance(basis.mean, np.ndarray):
            from . import _fit_kernels

            low = np.tril_indices(len(rows))
            by_landmark = rows.reshape(len(rows), len(mean), -1).transpose(1, 0, 2)
            outer = np.stack([(b @ b.T)[low] for b in by_landmark])
            precision = np.empty((0, 0))
            if mean.size <= _MOST_PRECISION:
                space = np.eye(mean.size)
                if len(moves):
                    space = space - np.linalg.pinv(moves) @ moves
                inner = np.linalg.inv(noise * np.eye(len(modes)) + modes @ modes.T)
                precision = np.ascontiguousarray((space - modes.T @ inner @ modes) / noise)
            compiled = _fit_kernels.Gaussian(mean.ravel(), rows, outer, ridge, gram, noise, precision)
        return cls(mean.ravel(), rows, len(moves), noise, np.linalg.inv(gram), compiled)


def complete_rows(basis: Operands, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return shapes (n, K, d) without gaps and the covariance of each landmark, with no pose; None without loops.

    Shapes with the same gaps follow one another, so that they share their matrices.
    """
    noise = least_noise(basis)
    if basis.noise_variance < noise or (basis.variances < (1 - 1e-6) * noise).any():
        return None
    from . import _fit_kernels as loops

    compiled = Normal.of(basis, None).compiled
    assert compiled is not None
    n, k, d = rows.shape
    seen = np.isfinite(rows).all(axis=-1)
    masks = np.packbits(seen, axis=1)
    order = np.argsort(masks.view(f"S{masks.shape[1]}")[:, 0], kind="stable")
    seen = np.ascontiguousarray(seen[order])
    flat = np.where(seen[..., None], rows[order], 0.0).astype(np.float64).reshape(n, -1)
    known = loops.Known(seen, np.zeros(seen.shape), np.empty((0, 0, 0, 0)), False)
    matrix, shift = np.tile(np.eye(d), (n, 1, 1)), np.zeros((n, d))
    whole, square, blocks = np.empty_like(flat), np.empty(n), np.empty((n, k, d, d))
    target = loops.Target(compiled.mean, -1, 1.0)
    loops.posterior(flat, known, matrix, shift, compiled, target, 1, whole, square)
    empty = np.empty((0, k * d)), np.empty((0, d, d))
    loops.covariance(known, matrix, np.ones(seen.shape), noise, compiled, *empty, blocks)
    filled, covariance = np.empty(rows.shape, rows.dtype), np.empty((*rows.shape, d), rows.dtype)
    filled[order], covariance[order] = whole.reshape(rows.shape), blocks
    return filled, covariance


def _loops(problem: Problem) -> Any:
    """Return the compiled loops, None where the array API has to do."""
    if not isinstance(problem.points, np.ndarray) or problem.frame.reflection:
        return None
    from . import _fit_kernels

    return _fit_kernels


def _target(frame: Frame, loops: Any) -> Any:
    rule = {"full": loops.FULL, "partial": loops.PARTIAL, "rigid": loops.RIGID, "tangent": loops.TANGENT}[frame.rule]
    return loops.Target(np.array(frame.mean, dtype=np.float64, order="C").ravel(), rule, float(frame.inflation))


def _rows(array: Any) -> np.ndarray:
    """Return a copy of float64 with one row a shape."""
    return np.array(array, dtype=np.float64, order="C").reshape(len(array), -1)


def _parts(pose: Similarity) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of scale times rotation and of the translation."""
    matrix = (pose.scale[:, None, None] * pose.rotation).astype(np.float64, order="C")
    return matrix, np.array(pose.translation, dtype=np.float64, order="C")


def _pose(matrix: np.ndarray, shift: np.ndarray, dtype: Any) -> Similarity:
    scale = np.sqrt(np.square(matrix[:, 0]).sum(axis=-1))
    parts = matrix / scale[:, None, None], shift, scale
    return Similarity._of(*(part.astype(dtype, copy=False) for part in parts))


def check_choices(loss: str, on_error: str = "status") -> None:
    """Raise for a loss or a policy that does not exist."""
    if loss not in ("linear", "huber", "tukey"):
        raise ValueError(f"loss: got {loss!r}; expected 'linear', 'huber' or 'tukey'.")
    if on_error not in ("status", "raise"):
        raise ValueError(f"on_error: got {on_error!r}; expected 'status' or 'raise'.")


def solve(problem: Problem, *, loss: str = "linear", prior: bool = True, start: Similarity | None = None) -> Solution:
    """Return the most probable whole shapes of a problem; rows that cannot be fitted hold the mean."""
    pose = problem.pose if start is None else _started(problem, start)
    assert pose is not None
    xp = namespace_of(problem.points)
    frame, points = problem.frame, problem.points
    share = xp.ones_like(problem.confidence)
    if loss != "linear":
        pose, share, points = _reweigh(problem, pose, loss)
    if not prior:
        pose, coefficients = _least_squares(problem, pose, share)
        basis = frame.basis._beside(points)
        return Solution(problem, prior, pose, share, points, pose.inverse(basis._decode(coefficients)), coefficients)
    if problem.certain:
        if loss == "linear" and start is not None:
            pose = frame.align(points)
        return Solution(problem, prior, pose, share, points, points)
    return Solution(problem, prior, *_posterior(problem, pose, share, points))


def _posterior(
    problem: Problem, pose: Similarity, share: Any, points: Any, *, turns: bool = True
) -> tuple[Similarity, Any, Any, Any, None, Any]:
    """Return pose, share, points, whole shapes and the squared Mahalanobis distance of what is seen."""
    some = Normal.of(problem.frame.prior, problem.frame.scaling)
    loops = _loops(problem)
    xp = namespace_of(points)
    if loops is not None and some.compiled is not None:
        target = _target(problem.frame, loops)
        target = target if turns else target._replace(rule=-1)
        matrix, shift = _parts(pose)
        flat, whole, square = _rows(points), _rows(points), np.zeros(len(points))
        loops.posterior(flat, problem.known(), matrix, shift, some.compiled, target, _STEPS, whole, square)
        whole = whole.reshape(points.shape).astype(points.dtype, copy=False)
        return _pose(matrix, shift, points.dtype), share, points, whole, None, square
    system = _System(problem, some)
    tolerance = 8 * float(xp.finfo(points.dtype).eps)
    gains = system.gains(pose)
    gram = system.gram(gains)
    steps = (_STEPS if problem.status is not None else _TRACED_STEPS) if turns else 1
    for step in range(steps):
        if step and problem.covariance is not None:
            gains = system.gains(pose)
            gram = system.gram(gains)
        square, whole = system.whole(pose(points), gains, gram)
        if step == steps - 1:
            break
        move = problem.frame.align(whole)
        if problem.status is not None and _rests(move, tolerance):
            break
        pose = move @ pose
    completed = xp.where(problem.exact()[..., None], points, pose.inverse(whole))
    return pose, share, points, completed, None, square


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
        assert problem.pose is not None
        own = [xp.asarray(failed, device=device_of(problem.points))[(...,) + (None,) * (p.ndim - 1)] for p in parts]
        found = Similarity._of(
            *(xp.where(f, a, b) for f, a, b in zip(own, problem.pose._parts, found._parts, strict=True))
        )
    return found


def _rests(move: Similarity, tolerance: float) -> bool:
    xp = namespace_of(move.scale)
    eye = xp.eye(move.n_dims, dtype=move.scale.dtype, device=device_of(move.scale))
    turn = move.scale[..., None, None] * move.rotation - eye
    return bool(xp.all(xp.abs(turn) <= tolerance))


def _reweigh(problem: Problem, pose: Similarity, loss: str) -> tuple[Similarity, Any, Any]:
    """Return the pose, what a robust loss leaves of each landmark, (n, n_landmarks) in [0, 1], and pseudo-values.

    Iterated reweighting. A residual is the distance to the plausible shape in units of its own standard deviation, and
    their spread is the median, in which each landmark counts as its confidence. With the fraction w of a point y and
    the shape x that the modes and the noise make of all points, x + w (y - x) is its pseudo-value: what is linear in
    the points and agrees with the loss at its solution, as P. J. Huber, "Robust statistics", 1981, section 7.8. Each
    system is solved by conjugate gradients from the last solution; without weights it is known beforehand.
    """
    xp = namespace_of(problem.points)
    frame = problem.frame
    some = Normal.of(frame.basis, frame.scaling)
    floor = least_noise(frame.basis) ** 0.5 + 1e-9
    n_huber = _ROUNDS if loss == "huber" else _N_HUBER
    d = problem.points.shape[2]
    limit, loops = frame.basis.limit, _loops(problem)
    if loops is not None and some.compiled is not None and (limit is None or isinstance(limit, Box)):
        basis = frame.basis
        modes, scale = basis.components.astype(np.float64), basis._scale.astype(np.float64)
        bound = np.full(len(scale), np.inf) if limit is None else np.asarray(limit.bound(scale), dtype=np.float64)
        matrix, shift = _parts(pose)
        points, share = _rows(problem.points), np.ones(problem.confidence.shape)
        limits = (_HUBER, _TUKEY, _MEDIAN_LENGTH[d], floor, _LEAST, _ENERGY, _MOST_GRADIENTS)
        loops.reweigh(points, problem.known(), problem.certain, matrix, shift, some.compiled, some.inverse, modes,
                      bound, _target(frame, loops), _ROUNDS, n_huber, limits, share)  # fmt: skip
        dtype = problem.points.dtype
        points = points.reshape(problem.points.shape).astype(dtype, copy=False)
        return _pose(matrix, shift, dtype), share.astype(dtype, copy=False), points
    basis = frame.basis._beside(problem.points)
    system = _System(problem, some)
    seen = (problem.confidence > 0)[..., None]
    gains = system.gains(pose)
    inverse = beside(some.inverse, problem.points) if problem.certain else xp.linalg.inv(system.gram(gains))
    weight = gains if gains.ndim == 2 else xp.sum(xp.linalg.diagonal(gains), axis=-1) / d
    share = xp.ones_like(problem.confidence)
    zero = xp.zeros_like(problem.points)
    z, sigma = xp.where(seen, pose(problem.points), zero), None
    near = z
    for turn in range(_ROUNDS):
        before = share
        right = system.pull(share, gains, z - system.mean)
        if turn == 0:
            u = (inverse @ right[..., None])[..., 0]
        else:
            u = _descend(system, inverse, right, share, gains, u, sigma)
        near = system.mean + xp.reshape(u @ system.rows, z.shape)
        star = near + share[..., None] * _apply(gains, z - near)
        move = frame.align(star)
        pose, star, near = move @ pose, move(star), move(near)
        z = xp.where(seen, pose(problem.points), zero)
        b = xp.matmul(xp.reshape(star, (star.shape[0], -1)) - basis._flat_mean, basis._transposed)
        apart = z - basis._decode(basis._clip(b))
        distance = xp.sqrt(xp.sum(apart * _apply(gains, apart), axis=-1) + float(xp.finfo(z.dtype).smallest_normal))
        sigma = _median(distance, weight, xp) / _MEDIAN_LENGTH[d]
        sigma = xp.where(sigma > floor, sigma, xp.full_like(sigma, floor))
        off = distance / sigma
        if turn < n_huber:
            share = xp.where(off > _HUBER, _HUBER / off, xp.ones_like(off))
        else:
            inside = 1.0 - xp.clip(off / _TUKEY, 0.0, 1.0) ** 2
            share = xp.clip(inside * inside, _LEAST, 1.0)
    star = near + before[..., None] * (z - near)
    points = xp.where(seen & (before < 1)[..., None], pose.inverse(star), problem.points)
    return (frame.align(points) if problem.certain else pose), share, points


def _descend(system: _System, inverse: Any, right: Any, share: Any, gains: Any, u: Any, sigma: Any) -> Any:
    """Step towards the solution of Σ Bₖ w gₖ Bₖ' u + ridge u = right; rows that are near enough stand still."""
    xp = namespace_of(u)

    def times(v: Any) -> Any:
        shapes = xp.reshape(v @ system.rows, (v.shape[0], *system.mean.shape))
        return system.pull(share, gains, shapes) + v * system.diagonal

    r = right - times(u)
    direction, before = xp.zeros_like(u), xp.ones_like(u[:, :1])
    for _ in range(_MOST_GRADIENTS):
        s = (inverse @ r[..., None])[..., 0]
        now = xp.sum(r * s, axis=-1, keepdims=True)
        on = now > _ENERGY * sigma * sigma
        if values_known(on) and not bool(xp.any(on)):
            break
        direction = s + now / before * direction
        product = times(direction)
        curve = xp.sum(product * direction, axis=-1, keepdims=True)
        step = xp.where(on, now / xp.where(on, curve, xp.ones_like(curve)), xp.zeros_like(now))
        u, r = u + step * direction, r - step * product
        before = xp.where(on, now, xp.ones_like(now))
    return u


def _median(distance: Any, weight: Any, xp: Any) -> Any:
    """Return the first distance up to which more than half of the weight lies, (n, 1)."""
    order = xp.argsort(distance, axis=-1)
    running = xp.cumulative_sum(xp.take_along_axis(weight, order, axis=-1), axis=-1)
    short = xp.astype(running <= 0.5 * running[..., -1:], xp.int64)
    index = xp.clip(xp.sum(short, axis=-1, keepdims=True), 0, distance.shape[-1] - 1)
    return xp.take_along_axis(xp.take_along_axis(distance, order, axis=-1), index, axis=-1)


def _least_squares(problem: Problem, pose: Similarity, share: Any) -> tuple[Similarity, Any]:
    """Return the pose and the coefficients that bring the model nearest to the points: Gauss and Newton.

    Of coefficients that are not determined the most probable are taken: a prior of no weight to speak of.
    """
    xp = namespace_of(problem.points)
    frame = problem.frame
    basis = frame.basis._beside(problem.points)
    largest = max(float(xp.max(basis.variances)), float(np.finfo(np.float64).tiny))
    eps = float(xp.finfo(problem.points.dtype).eps)
    some, loops = Normal.of(frame.basis, frame.scaling), _loops(problem)
    if loops is not None and some.compiled is not None:
        matrix, shift = _parts(pose)
        modes = np.ascontiguousarray(frame.basis.components * frame.basis._scale[:, None], dtype=np.float64)
        found = np.zeros((len(matrix), len(modes)))
        loops.least_squares(_rows(problem.points), problem.known(), np.array(share, dtype=np.float64), matrix, shift,
                            some.mean, some.noise, modes, frame.scaling, 16 * eps * largest, _MOST, _MOST_STEPS, 1e-14,
                            found)  # fmt: skip
        found *= frame.basis._scale
        return _pose(matrix, shift, problem.points.dtype), found.astype(problem.points.dtype, copy=False)
    system = _System(problem, some)
    n, k, d = problem.points.shape
    m = basis.components.shape[0]
    scale = basis._scale
    modes = xp.broadcast_to(scale[:, None] * basis.components, (n, m, k * d))
    ridge = np.zeros(m + some.n_moves)
    ridge[:m] = 16 * eps * largest
    ridge = beside(np.diag(ridge), problem.points)
    c = xp.zeros((n, m), dtype=problem.points.dtype, device=device_of(problem.points))
    for _ in range(_MOST_STEPS):
        gains = system.gains(pose, share)
        near = basis._decode(c * scale)
        rows = xp.concat([modes, _moves_of(near, frame.scaling, xp)], axis=1)
        apart = xp.where((problem.confidence > 0)[..., None], pose(problem.points) - near, xp.zeros_like(near))
        pulled = xp.reshape(_apply(gains, apart), (n, -1, 1))
        if gains.ndim == 2:
            weighted = rows * xp.reshape(xp.broadcast_to(gains[..., None], (n, k, d)), (n, 1, -1))
        else:
            split = xp.permute_dims(xp.reshape(rows, (n, -1, k, d)), (0, 2, 1, 3)) @ gains
            weighted = xp.reshape(xp.permute_dims(split, (0, 2, 1, 3)), rows.shape)
        gram = weighted @ xp.matrix_transpose(rows) + ridge
        right = (rows @ pulled)[..., 0]
        right = right - xp.concat([c * xp.linalg.diagonal(ridge)[:m], xp.zeros_like(right[:, m:])], axis=1)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        c = c + u[:, :m]
        pose = _pose_step(u[:, m:], d, frame.scaling, xp) @ pose
        if problem.status is not None and bool(xp.all(xp.abs(u) <= 64 * eps * (1 + xp.max(xp.abs(c))))):
            break
    return pose, c * scale


def _moves_of(shapes: Any, scaling: bool, xp: Any) -> Any:
    """Return the derivatives of shapes (n, K, d) by the pose, (n, n_moves, K d)."""
    n, k, d = shapes.shape
    one, zero = xp.ones_like(shapes[..., 0]), xp.zeros_like(shapes[..., 0])
    if d == 2:
        x, y = shapes[..., 0], shapes[..., 1]
        moves: list[tuple[Any, ...]] = [(one, zero), (zero, one), (-y, x)]
    else:
        x, y, z = shapes[..., 0], shapes[..., 1], shapes[..., 2]
        moves = [(one, zero, zero), (zero, one, zero), (zero, zero, one), (zero, -z, y), (z, zero, -x), (-y, x, zero)]
    rows = [xp.stack(move, axis=-1) for move in moves]
    if scaling:
        rows.append(shapes)
    return xp.reshape(xp.stack(rows, axis=1), (n, len(rows), k * d))


def _pose_step(u: Any, d: int, scaling: bool, xp: Any) -> Similarity:
    """Return the similarity that takes the pose u, in the order of `pose_directions`, away again."""
    n_turns = 1 if d == 2 else 3
    turn = xp.clip(-u[..., d : d + n_turns], -_MOST, _MOST)
    if d == 2:
        c, s = xp.cos(turn[..., 0]), xp.sin(turn[..., 0])
        rotation = xp.stack([xp.stack([c, -s], axis=-1), xp.stack([s, c], axis=-1)], axis=-2)
    else:
        x, y, z = turn[..., 0], turn[..., 1], turn[..., 2]
        o = xp.zeros_like(x)
        cross = xp.stack(
            [xp.stack([o, -z, y], axis=-1), xp.stack([z, o, -x], axis=-1), xp.stack([-y, x, o], axis=-1)], axis=-2
        )
        # Rodrigues; the shift keeps the quotients, and their derivatives, finite at 0.
        angle = xp.sqrt(x * x + y * y + z * z + float(xp.finfo(x.dtype).smallest_normal))[..., None, None]
        half = xp.sin(angle / 2) / angle
        identity = xp.eye(3, dtype=x.dtype, device=device_of(x))
        rotation = identity + xp.sin(angle) / angle * cross + 2 * half * half * (cross @ cross)
    scale = xp.exp(xp.clip(-u[..., -1], -_MOST, _MOST)) if scaling else xp.ones_like(u[..., 0])
    moved = (rotation @ u[..., :d, None])[..., 0]
    return Similarity._of(rotation, -scale[..., None] * moved, scale)


class _System:
    """The linear systems of coefficients and pose, one for each shape, in the frame of the model."""

    def __init__(self, problem: Problem, some: Normal) -> None:
        like = problem.points
        k, d = problem.frame.basis.event_shape
        q = len(some.rows)
        self.some, self.problem = some, problem
        self.mean = beside(some.mean.reshape(k, d), like)
        self.rows = beside(some.rows, like)
        by_landmark = some.rows.reshape(q, k, d).transpose(1, 0, 2)
        self.by_landmark = beside(by_landmark, like)
        self.outer = beside((by_landmark @ by_landmark.transpose(0, 2, 1)).reshape(k, -1), like)
        ridge = np.where(np.arange(q) < q - some.n_moves, some.noise, 0.0)
        self.diagonal, self.ridge = beside(ridge, like), beside(np.diag(ridge), like)

    def gains(self, pose: Similarity, share: Any = None) -> Any:
        """Return σ² (σ² + M)⁻¹ of each landmark, (n, K) or (n, K, d, d)."""
        problem, noise = self.problem, self.some.noise
        xp = namespace_of(problem.points)
        own = problem.model_noise(pose, share)
        seen = xp.astype(problem.confidence > 0, own.dtype)
        if own.ndim == 2:
            return seen * noise / (noise + own)
        eye = xp.eye(own.shape[-1], dtype=own.dtype, device=device_of(own))
        return seen[..., None, None] * noise * xp.linalg.inv(noise * eye + own)

    def pull(self, share: Any, gains: Any, vectors: Any) -> Any:
        """Return Σ Bₖ w gain vector, (n, q)."""
        xp = namespace_of(vectors)
        pulled = share[..., None] * _apply(gains, vectors)
        return xp.reshape(pulled, (vectors.shape[0], -1)) @ xp.matrix_transpose(self.rows)

    def gram(self, gains: Any) -> Any:
        """Return Σ Bₖ gain Bₖ' and the ridge, (n, q, q)."""
        xp = namespace_of(gains)
        q = self.rows.shape[0]
        if gains.ndim == 2:
            total = xp.reshape(xp.matmul(gains, self.outer), (-1, q, q))
        else:
            total = xp.sum(self.by_landmark[None] @ gains @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        return total + self.ridge

    def whole(self, x: Any, gains: Any, gram: Any) -> tuple[Any, Any]:
        """Return the squared Mahalanobis distance of what is seen, and the most probable whole shapes."""
        xp = namespace_of(x)
        apart = x - self.mean
        right = xp.reshape(_apply(gains, apart), (x.shape[0], -1)) @ xp.matrix_transpose(self.rows)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        near = xp.reshape(u @ self.rows, x.shape)
        rest = _apply(gains, apart - near)
        return xp.sum(apart * rest, axis=(-2, -1)) / self.some.noise, self.mean + near + rest

    def covariance(self, gains: Any, gram: Any, kept: np.ndarray | None) -> Any:
        """Return the covariance (n, K, d, d) of the whole shapes, or of what the orthonormal rows `kept` see of it.

        That of the whole shape is F H F' + σ² F with H = σ² B' G⁻¹ B and F = I - gain.
        """
        xp = namespace_of(gains)
        n, (k, d) = gains.shape[0], self.mean.shape
        eye = xp.eye(d, dtype=gains.dtype, device=device_of(gains))
        left = eye - (gains[..., None, None] * eye if gains.ndim == 2 else gains)
        if kept is None:
            pulled = xp.linalg.solve(gram, xp.broadcast_to(self.rows, (n, *self.rows.shape)))
            pulled = xp.permute_dims(xp.reshape(pulled, (n, -1, k, d)), (0, 2, 1, 3))
            block = left @ (xp.matrix_transpose(self.by_landmark)[None] @ pulled) @ left + left
            return self.some.noise * block
        rows = xp.permute_dims(xp.reshape(beside(kept, self.rows), (-1, k, d)), (1, 0, 2))[None]
        hidden = rows @ left
        across = xp.sum(hidden @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        core = across @ xp.linalg.solve(gram, xp.matrix_transpose(across))
        core = core + xp.sum(hidden @ xp.matrix_transpose(rows), axis=1)
        return self.some.noise * (xp.matrix_transpose(rows) @ core[:, None] @ rows)


@dataclass(eq=False)
class Solution:
    """The most probable whole shapes, and what is needed to report on them."""

    problem: Problem
    prior: bool
    pose: Similarity  # frame of the points → model, in which the whole shapes are superimposed on the mean
    share: Any  # (n, n_landmarks), what a robust loss leaves
    points: Any  # (n, n_landmarks, n_dims), pseudo-values where a robust loss took something away
    completed: Any  # (n, n_landmarks, n_dims) in the frame of the points
    coefficients: Any = None  # of least squares
    square: Any = None  # of the Mahalanobis distance of what is seen, where it is known already

    def leave(self, array: Any) -> Any:
        """Give back the leading axes and the type, with NaN in the rows that could not be fitted."""
        xp = namespace_of(array)
        failed = self.problem.failed
        if failed.any():
            rows = xp.reshape(xp.asarray(failed, device=device_of(array)), (-1,) + (1,) * (array.ndim - 1))
            array = xp.where(rows, xp.full_like(array, float("nan")), array)
        array = xp.reshape(array, (*self.problem.lead, *array.shape[1:]))
        return leave(array, self.problem.dtype)

    def leave_pose(self, pose: Similarity) -> Similarity:
        """Give back a similarity likewise."""
        return Similarity._of(*(self.leave(part) for part in pose._parts))

    def distance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared Mahalanobis distance of what is seen to the model, and its degrees of freedom, (n,)."""
        square = self.square
        if square is None:
            square = _posterior(self.problem, self.pose, self.share, self.points, turns=False)[-1]
        seen = np.where(to_numpy(self.problem.confidence) > 0, to_numpy(self.share), 0.0)
        some = Normal.of(self.problem.frame.prior, self.problem.frame.scaling)
        free = self.points.shape[2] * seen.sum(axis=-1, dtype=np.float64) - some.n_moves
        return np.maximum(to_numpy(square).astype(np.float64), 0.0), np.maximum(free, 0.0)

    def covariance(self, *, whole: bool = False) -> Any:
        """Return the covariance of the true landmarks about the fitted ones, or about the completed ones."""
        problem, pose = self.problem, self.pose
        frame, d = problem.frame, problem.points.shape[2]
        xp = namespace_of(self.completed)
        some = Normal.of(frame.prior if self.prior else frame.basis, frame.scaling)
        rows, rest = frame.basis._derived(("rest", id(frame.prior), frame.scaling), lambda: _leftover(frame))
        loops = _loops(problem)
        if loops is not None and some.compiled is not None:
            if whole:
                rows, rest = rows[:0], rest[:0]
            block = np.empty((*problem.confidence.shape, d, d))
            share = np.ascontiguousarray(self.share, dtype=np.float64)
            base = least_noise(frame.basis)
            loops.covariance(problem.known(), _parts(pose)[0], share, base, some.compiled, rows, rest, block)
            return block.astype(problem.points.dtype, copy=False)
        system = _System(problem, some)
        gains = system.gains(pose, self.share)
        per_chunk = max(1, _CHUNK // (len(some.rows) * max(len(some.rows), rows.shape[1])))
        blocks = [xp.zeros_like(self.completed[:0, :, :, None] * self.completed[:0, :, None, :])]
        for first in range(0, len(gains), per_chunk):
            here = gains[first : first + per_chunk]
            blocks.append(system.covariance(here, system.gram(here), None if whole else rows))
        block = xp.concat(blocks, axis=0)
        if not whole:
            block = block + beside(rest, self.completed)
        block = 0.5 * (block + xp.matrix_transpose(block))
        back = pose.inverse
        linear = (back.scale[..., None, None] * back.rotation)[..., None, :, :]
        return linear @ block @ xp.matrix_transpose(linear)


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


def _apply(gains: Any, vectors: Any) -> Any:
    """Multiply vectors (n, K, d) by gains (n, K) or (n, K, d, d)."""
    return gains[..., None] * vectors if gains.ndim == 2 else (gains @ vectors[..., None])[..., 0]
