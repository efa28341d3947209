"""The shapes of a basis as a Gaussian whose pose is free, in the form that the fit computes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ._array import to_numpy
from ._operands import Operands
from ._transforms import pose_directions

if TYPE_CHECKING:
    from ._fit_algebra import Gaussian


_MOST_PRECISION = 400  # coordinates for which a precision matrix is kept: 1.3 MB


class Normal(NamedTuple):
    """The shapes of a basis, their pose left free: what coefficients of variance 1 and the pose do, and the noise."""

    mean: np.ndarray  # (p,)
    modes: np.ndarray  # (n_components, p), those of the basis
    rows: np.ndarray  # (n_modes + n_moves, p)
    n_moves: int
    noise: float
    inverse: np.ndarray  # of the system of a shape of which all is certain
    compiled: Gaussian | None

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
        own = np.array(to_numpy(basis.components), dtype=np.float64, order="C")
        modes = own
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
            from ._fit_algebra import Gaussian

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
            compiled = Gaussian(mean.ravel(), rows, outer, ridge, gram, noise, precision)
        return cls(mean.ravel(), own, rows, len(moves), noise, np.linalg.inv(gram), compiled)


def least_noise(basis: Operands) -> float:
    """Return the noise variance, never quite 0, so that all systems can be solved."""
    # Nine decades below the first mode systems keep half of their digits.
    largest = float(np.max(to_numpy(basis.variances), initial=0.0))
    return max(float(basis.noise_variance), 1e-9 * largest, float(np.finfo(np.float64).tiny))
