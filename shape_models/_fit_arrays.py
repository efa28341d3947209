"""The fit of arrays of any library, by the array API: what `_fit_loops` does for NumPy, said in whole arrays."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ._array import beside, device_of, namespace_of, to_numpy, values_known
from ._normal import Normal
from ._superimposition import fit_pair
from ._transforms import Similarity

_TRACED_STEPS = 12  # turns of the frame where nobody can look whether it rests
_CHUNK = 2**22  # numbers in the largest temporary array of a covariance: 32 MiB


def pose_from(similarity: Similarity) -> Similarity:
    return similarity


def superimpose(problem: Any, points: Any) -> Similarity:
    """Return the poses in which whole shapes lie on the mean."""
    return cast(Similarity, problem.frame.align(points))


def encode(problem: Any, pose: Similarity, shapes: Any) -> Any:
    """Return the coefficients of shapes in the frame of the points."""
    basis = problem.basis
    return namespace_of(shapes).matmul(_flat(pose(shapes)) - basis._flat_mean, basis._transposed)


def decode(problem: Any, pose: Similarity, coefficients: Any) -> Any:
    """Return the shapes of coefficients in the frame of the points."""
    return pose.inverse(problem.basis._decode(coefficients))


def posterior(
    problem: Any, some: Normal, pose: Similarity, points: Any, steps: int, hopeless: Any = None
) -> tuple[Similarity, Any, Any]:
    """Return pose, whole shapes, and the squared Mahalanobis distance of what is seen; one step leaves the pose.

    Rows that `hopeless` says will not be reported are not waited for.
    """
    system, xp = _System(problem, some), namespace_of(points)
    tolerance = 8 * float(xp.finfo(points.dtype).eps)  # the frame turns by rounding
    gains = system.gains(pose)
    gram = system.gram(gains)
    steps = steps if problem.status is not None else min(steps, _TRACED_STEPS)
    waited = np.ones(len(points), bool)
    for step in range(steps):
        if step and problem.covariance is not None:
            gains = system.gains(pose)
            gram = system.gram(gains)
        square, whole = system.whole(pose(points), gains, gram)
        if step == steps - 1:
            break
        move = problem.frame.align(whole)
        if problem.status is not None and _rests(move, tolerance, waited):
            break
        pose = move @ pose
        if step == _TRACED_STEPS and hopeless is not None and problem.status is not None:
            waited = ~hopeless(pose)
    return pose, xp.where(problem.exact()[..., None], points, pose.inverse(whole)), square


def _rests(move: Similarity, tolerance: float, rows: np.ndarray) -> bool:
    xp = namespace_of(move.scale)
    eye = xp.eye(move.n_dims, dtype=move.scale.dtype, device=device_of(move.scale))
    turn = move.scale[..., None, None] * move.rotation - eye
    still = to_numpy(xp.all(xp.abs(turn) <= tolerance, axis=(-2, -1)))
    return bool(still[rows].all())


def likeness(problem: Any, pose: Similarity, robust: Any, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how much points look like the mean, (n, 3); see `_posterior`."""
    points, moved = (to_numpy(x).astype(np.float64) for x in (problem.points, pose(problem.points)))
    own = to_numpy(problem.model_noise(pose)).astype(np.float64)
    error = own * points.shape[2] if own.ndim == 2 else np.trace(own, axis1=2, axis2=3)
    w = to_numpy(robust) * (to_numpy(problem.confidence) > 0) * spread.mean() / (spread.mean() + error)
    with np.errstate(invalid="ignore", divide="ignore"):  # of landmarks that coincide in the mean
        fit = fit_pair(points, mean, w, rule="full", reflection=problem.frame.reflection)
        square = fit.target_size**2
        along = (w[..., None] * (mean - fit.target_centre[:, None]) * moved).sum(axis=(1, 2))
        return np.stack([fit.cosine**2, along / square, (w * (spread + error)).sum(axis=1) / square], axis=1)


def reweigh(problem: Any, some: Normal, pose: Similarity, n_rounds: int, n_huber: int, limits: Any) -> Any:
    """Return pose, what a robust loss leaves, and pseudo-values; see `_posterior`."""
    huber, tukey, middle, floor, least, energy, n_gradients = limits
    xp, frame, basis = namespace_of(problem.points), problem.frame, problem.basis
    d = problem.points.shape[2]
    system = _System(problem, some)
    seen = (problem.confidence > 0)[..., None]
    gains = system.gains(pose)
    inverse = beside(some.inverse, problem.points) if problem.certain else xp.linalg.inv(system.gram(gains))
    weight = gains if gains.ndim == 2 else xp.sum(xp.linalg.diagonal(gains), axis=-1) / d
    robust = xp.ones_like(problem.confidence)
    zero = xp.zeros_like(problem.points)
    z, sigma = xp.where(seen, pose(problem.points), zero), None
    near = z
    for turn in range(n_rounds):
        before = robust
        right = system.pull(robust, gains, z - system.mean)
        if turn == 0:
            u = (inverse @ right[..., None])[..., 0]
        else:
            on = energy * sigma * sigma
            u = _descend(system, inverse, right, robust, gains, u, on, n_gradients)
        near = system.mean + xp.reshape(u @ system.rows, z.shape)
        star = near + robust[..., None] * _apply(gains, z - near)
        move = frame.align(star)
        pose, star, near = move @ pose, move(star), move(near)
        z = xp.where(seen, pose(problem.points), zero)
        b = xp.matmul(_flat(star) - basis._flat_mean, basis._transposed)
        apart = z - basis._decode(basis._clip(b))
        distance = xp.sqrt(xp.sum(apart * _apply(gains, apart), axis=-1) + float(xp.finfo(z.dtype).smallest_normal))
        sigma = _median(distance, weight, xp) / middle
        sigma = xp.where(sigma > floor, sigma, xp.full_like(sigma, floor))
        off = distance / sigma
        if turn < n_huber:
            robust = xp.where(off > huber, huber / off, xp.ones_like(off))
        else:
            inside = 1.0 - xp.clip(off / tukey, 0.0, 1.0) ** 2
            robust = xp.clip(inside * inside, least, 1.0)
    star = near + before[..., None] * (z - near)
    points = xp.where(seen & (before < 1)[..., None], pose.inverse(star), problem.points)
    return (frame.align(points) if problem.certain else pose), robust, points


def _descend(system: _System, inverse: Any, right: Any, robust: Any, gains: Any, u: Any, near: Any, most: int) -> Any:
    """Step towards the solution of Σ Bₖ w gₖ Bₖ' u + ridge u = right; rows that are near enough stand still."""
    xp = namespace_of(u)

    def times(v: Any) -> Any:
        shapes = xp.reshape(v @ system.rows, (v.shape[0], *system.mean.shape))
        return system.pull(robust, gains, shapes) + v * system.diagonal

    r = right - times(u)
    direction, before = xp.zeros_like(u), xp.ones_like(u[:, :1])
    for _ in range(most):
        s = (inverse @ r[..., None])[..., 0]
        now = xp.sum(r * s, axis=-1, keepdims=True)
        on = now > near
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
    # Equal weights make ties, which rounding must not break.
    half = (0.5 + 64 * float(xp.finfo(running.dtype).eps)) * running[..., -1:]
    short = xp.astype(running <= half, xp.int64)
    index = xp.clip(xp.sum(short, axis=-1, keepdims=True), 0, distance.shape[-1] - 1)
    return xp.take_along_axis(xp.take_along_axis(distance, order, axis=-1), index, axis=-1)


def least_squares(
    problem: Any, some: Normal, pose: Similarity, robust: Any, longest: float, steps: int, ridge: float
) -> tuple[Similarity, Any]:
    """Return the pose and the coefficients that bring the model nearest to the points."""
    xp, frame, basis = namespace_of(problem.points), problem.frame, problem.basis
    eps = float(xp.finfo(problem.points.dtype).eps)
    system = _System(problem, some)
    n, k, d = problem.points.shape
    m = basis.components.shape[0]
    scale = basis._scale
    modes = xp.broadcast_to(scale[:, None] * basis.components, (n, m, k * d))
    own = np.zeros(m + some.n_moves)
    own[:m] = ridge
    extra = beside(np.diag(own), problem.points)
    c = xp.zeros((n, m), dtype=problem.points.dtype, device=device_of(problem.points))
    for _ in range(steps):
        gains = system.gains(pose, robust)
        near = basis._decode(c * scale)
        rows = xp.concat([modes, _moves_of(near, frame.scaling, xp)], axis=1)
        apart = xp.where((problem.confidence > 0)[..., None], pose(problem.points) - near, xp.zeros_like(near))
        pulled = _flat(_apply(gains, apart))[..., None]
        if gains.ndim == 2:
            weighted = rows * _flat(xp.broadcast_to(gains[..., None], (n, k, d)))[:, None]
        else:
            split = xp.permute_dims(xp.reshape(rows, (n, rows.shape[1], k, d)), (0, 2, 1, 3)) @ gains
            weighted = xp.reshape(xp.permute_dims(split, (0, 2, 1, 3)), rows.shape)
        gram = weighted @ xp.matrix_transpose(rows) + extra
        right = (rows @ pulled)[..., 0]
        right = right - xp.concat([c * xp.linalg.diagonal(extra)[:m], xp.zeros_like(right[:, m:])], axis=1)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        c = c + u[:, :m]
        pose = _pose_step(u[:, m:], d, frame.scaling, longest, xp) @ pose
        if problem.status is not None and bool(
            xp.all(xp.abs(u) <= 64 * eps * (1 + xp.max(xp.abs(c), axis=1, keepdims=True)))
        ):
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


def _pose_step(u: Any, d: int, scaling: bool, longest: float, xp: Any) -> Similarity:
    """Return the similarity that takes the pose u, in the order of `pose_directions`, away again."""
    n_turns = 1 if d == 2 else 3
    turn = xp.clip(-u[..., d : d + n_turns], -longest, longest)
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
    scale = xp.exp(xp.clip(-u[..., -1], -longest, longest)) if scaling else xp.ones_like(u[..., 0])
    moved = (rotation @ u[..., :d, None])[..., 0]
    return Similarity._of(rotation, -scale[..., None] * moved, scale)


def covariance(problem: Any, some: Normal, pose: Similarity, robust: Any, rows: np.ndarray, rest: np.ndarray) -> Any:
    """Return covariances of landmarks (n, K, d, d) of what the rows see of whole shapes; of all without rows."""
    system, xp = _System(problem, some), namespace_of(problem.points)
    gains = system.gains(pose, robust)
    per_chunk = max(1, _CHUNK // (len(some.rows) * max(len(some.rows), some.rows.shape[1])))
    blocks = [xp.zeros_like(problem.points[:0, :, :, None] * problem.points[:0, :, None, :])]
    for first in range(0, len(gains), per_chunk):
        here = gains[first : first + per_chunk]
        blocks.append(system.covariance(here, system.gram(here), rows if len(rows) else None))
    block = xp.concat(blocks, axis=0)
    if len(rows):
        block = block + beside(rest, problem.points)
    block = 0.5 * (block + xp.matrix_transpose(block))
    back = pose.inverse
    linear = (back.scale[..., None, None] * back.rotation)[..., None, :, :]
    return linear @ block @ xp.matrix_transpose(linear)


class _System:
    """The linear systems of coefficients and pose, one for each shape, in the frame of the model."""

    def __init__(self, problem: Any, some: Normal) -> None:
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

    def gains(self, pose: Similarity, robust: Any = None) -> Any:
        """Return σ² (σ² + M)⁻¹ of each landmark, (n, K) or (n, K, d, d)."""
        problem, noise = self.problem, self.some.noise
        xp = namespace_of(problem.points)
        own = problem.model_noise(pose, robust)
        seen = xp.astype(problem.confidence > 0, own.dtype)
        if own.ndim == 2:
            return seen * noise / (noise + own)
        eye = xp.eye(own.shape[-1], dtype=own.dtype, device=device_of(own))
        return seen[..., None, None] * noise * xp.linalg.inv(noise * eye + own)

    def pull(self, robust: Any, gains: Any, vectors: Any) -> Any:
        """Return Σ Bₖ w gain vector, (n, q)."""
        xp = namespace_of(vectors)
        pulled = robust[..., None] * _apply(gains, vectors)
        return _flat(pulled) @ xp.matrix_transpose(self.rows)

    def gram(self, gains: Any) -> Any:
        """Return Σ Bₖ gain Bₖ' and the ridge, (n, q, q)."""
        xp = namespace_of(gains)
        q = self.rows.shape[0]
        if gains.ndim == 2:
            total = xp.reshape(xp.matmul(gains, self.outer), (gains.shape[0], q, q))
        else:
            total = xp.sum(self.by_landmark[None] @ gains @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        return total + self.ridge

    def whole(self, x: Any, gains: Any, gram: Any) -> tuple[Any, Any]:
        """Return the squared Mahalanobis distance of what is seen, and the most probable whole shapes."""
        xp = namespace_of(x)
        apart = x - self.mean
        right = _flat(_apply(gains, apart)) @ xp.matrix_transpose(self.rows)
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
            pulled = xp.permute_dims(xp.reshape(pulled, (n, pulled.shape[1], k, d)), (0, 2, 1, 3))
            block = left @ (xp.matrix_transpose(self.by_landmark)[None] @ pulled) @ left + left
            return self.some.noise * block
        rows = xp.permute_dims(xp.reshape(beside(kept, self.rows), (-1, k, d)), (1, 0, 2))[None]
        hidden = rows @ left
        across = xp.sum(hidden @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        core = across @ xp.linalg.solve(gram, xp.matrix_transpose(across))
        core = core + xp.sum(hidden @ xp.matrix_transpose(rows), axis=1)
        return self.some.noise * (xp.matrix_transpose(rows) @ core[:, None] @ rows)


def _flat(points: Any) -> Any:
    n, k, d = points.shape
    return namespace_of(points).reshape(points, (n, k * d))


def _apply(gains: Any, vectors: Any) -> Any:
    """Multiply vectors (n, K, d) by gains (n, K) or (n, K, d, d)."""
    return gains[..., None] * vectors if gains.ndim == 2 else (gains @ vectors[..., None])[..., 0]
