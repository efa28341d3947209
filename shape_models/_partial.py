"""Pose and shape together: the similarity of a shape of which only some landmarks are seen, or trusted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._array import device_of, namespace_of, to_numpy
from ._transforms import Similarity

__all__ = ["Whole", "completed"]

_BLOCK = 256  # shapes whose systems are in memory together
_MOST = 0.5  # of a turn in radians, or of the logarithm of the scale, in one step


class Whole(NamedTuple):
    """Shapes without gaps, and what is needed for their covariance."""

    shapes: Any
    pose: Similarity  # frame of the shapes → frame of the basis
    gram: Any  # posterior precision of coefficients and pose, times the noise
    rows: np.ndarray  # what coefficients and pose do to the mean, (n_rows, n_features)
    noise: float

    def covariance(self) -> np.ndarray:
        """Return the covariance (..., n_landmarks, n_dims, n_dims) of an unseen landmark, that of the pose included."""
        k, d = self.shapes.shape[-2:]
        q = len(self.rows)
        rows = self.rows.reshape(q, k, d)
        grams = self.gram.reshape(-1, q, q)
        block = np.empty((len(grams), k, d, d))
        for i in range(0, len(grams), _BLOCK):
            pulled = np.linalg.solve(grams[i : i + _BLOCK], self.rows).reshape(-1, q, k, d)
            block[i : i + _BLOCK] = self.noise * (np.einsum("qkd,nqke->nkde", rows, pulled) + np.eye(d))
        block = block.reshape(*self.gram.shape[:-2], k, d, d)
        back = self.pose.inverse
        linear = (back.scale[..., None, None] * back.rotation)[..., None, :, :]
        return linear @ block @ np.swapaxes(linear, -1, -2)


def completed(basis: Any, shapes: Any, weights: Any, start: Similarity, *, scaling: bool, steps: int = 3) -> Whole:
    """Return the shapes, in their own frame, with unseen landmarks filled in so that they can be aligned as a whole.

    Aligning what is seen to the same part of the mean mistakes shape for pose: a turned head without its jaw line is
    fitted to the inner features of a frontal one. Here the pose, a flat unknown φ, and the coefficients, with their
    variances λ, are found together,

        x = mean + Σ bᵢvᵢ + A φ + noise σ²/w,    b ~ N(0, λ - σ²),

    A the directions in which moving, turning and scaling takes the mean, and v without their share in A. One linear
    system gives the maximum of the posterior; it is solved again after the pose has been applied, until the mean is a
    good place to linearise at. A landmark of weight w comes back as w·seen + (1 - w)·predicted.

    Parameters
    ----------
    basis : ShapeBasis
    shapes : array of shape (..., n_landmarks, n_dims)
        Any value where the weight is 0.
    weights : array of shape (..., n_landmarks)
        0 to 1.
    start : Similarity
        Frame of the shapes → frame of the basis.
    scaling : bool
        Whether the pose has a size.
    steps : int
        How many times the system is solved: one is good to a per cent of the answer, three to its fifth digit.
    """
    xp = namespace_of(shapes)
    k, d = basis.event_shape
    moves, n_turns = _moves(to_numpy(basis.mean).astype(np.float64), scaling)
    modes = to_numpy(basis.components).astype(np.float64)
    modes = modes - np.linalg.lstsq(moves.T, modes.T, rcond=None)[0].T @ moves
    variances = to_numpy(basis.variances).astype(np.float64)
    noise = max(basis.noise_variance, 1e-9 * float(variances.max()), np.finfo(np.float64).tiny)
    excess = np.maximum(variances - noise, 0.0)
    rows = np.concatenate([modes[excess > 0] * np.sqrt(excess[excess > 0])[:, None], moves])
    ridge = np.zeros(len(rows))
    ridge[: len(rows) - len(moves)] = noise
    by_landmark = rows.reshape(-1, k, d).transpose(1, 0, 2)
    outer = (by_landmark @ by_landmark.transpose(0, 2, 1)).reshape(k, -1)

    def here(array: np.ndarray) -> Any:
        return xp.astype(xp.asarray(np.array(array), device=device_of(shapes)), shapes.dtype)

    mean, rows_here = here(to_numpy(basis.mean)), here(rows)
    seen = weights[..., None]
    known = xp.where(seen > 0, shapes, xp.zeros_like(shapes))
    gram = xp.reshape(weights @ here(outer), (*weights.shape[:-1], len(rows), len(rows))) + here(np.diag(ridge))
    pose = start
    for step in range(steps):
        x = pose(known)
        apart = xp.where(seen > 0, seen * (x - mean), xp.zeros_like(x))
        right = xp.reshape(apart, (*apart.shape[:-2], k * d)) @ xp.matrix_transpose(rows_here)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        if step < steps - 1:
            pose = _step(u[..., len(rows) - len(moves) :], d, n_turns, scaling, xp) @ pose
    near = mean + xp.reshape(u @ rows_here, x.shape)
    return Whole(pose.inverse(near + seen * (x - near)), pose, gram, rows, noise)


def _moves(mean: np.ndarray, scaling: bool) -> tuple[np.ndarray, int]:
    """Return the derivatives of the mean by the pose, flat rows: translations, turns, logarithm of the size."""
    k, d = mean.shape
    rows = [np.broadcast_to(axis, (k, d)) for axis in np.eye(d)]
    if d == 2:
        turns = [np.stack([-mean[:, 1], mean[:, 0]], axis=1)]
    else:
        turns = [np.cross(axis, mean) for axis in np.eye(3)]
    rows += turns
    if scaling:
        rows.append(mean)
    return np.stack([row.ravel() for row in rows]), len(turns)


def _step(u: Any, d: int, n_turns: int, scaling: bool, xp: Any) -> Similarity:
    """Return the similarity that takes the pose u away again."""
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
