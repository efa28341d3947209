"""The frame of the shape model, and the step that brings any points back to a plausible shape in an image.

Plane similarities are pairs (a, b) of complex numbers, z -> a z + b, which batch without matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _fit_kernels as loops
from .._array import DegenerateShapeError
from .._fit_algebra import Known
from .._transforms import Similarity

_LONGEST, _STEPS, _TOLERANCE = 0.5, 10, 1e-5  # of Gauss and Newton: turn or growth at once, steps, and when to stop


def as_complex(points: np.ndarray) -> np.ndarray:
    """Return points (..., 2) as numbers x + iy."""
    return np.asarray(points, dtype=np.float64, order="C").view(np.complex128)[..., 0]


def as_real(z: np.ndarray) -> np.ndarray:
    """Return numbers x + iy as points (..., 2)."""
    return np.asarray(z, dtype=np.complex128, order="C")[..., None].view(np.float64)


class Planar(NamedTuple):
    """Similarities of the plane without reflection, batched."""

    a: np.ndarray
    b: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return as_real(self.a[..., None] * as_complex(points) + self.b[..., None])

    def unturned(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors (n, K, 2) back, their lengths unchanged."""
        return as_real((self.a.conj() / np.abs(self.a))[..., None] * as_complex(vectors))

    @property
    def inverse(self) -> Planar:
        return Planar(1 / self.a, -self.b / self.a)

    @property
    def scale(self) -> np.ndarray:
        return np.asarray(np.abs(self.a))

    def take(self, index: Any) -> Planar:
        return Planar(self.a[index], self.b[index])

    def as_similarity(self) -> Similarity:
        unit = self.a / np.abs(self.a)
        rotation = np.stack([np.stack([unit.real, -unit.imag], -1), np.stack([unit.imag, unit.real], -1)], -2)
        return Similarity(rotation, as_real(self.b), np.abs(self.a))


def estimate(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Planar:
    """Return the similarity that takes `source` (..., K, 2) nearest to `target`, in weighted least squares."""
    s, d = as_complex(source), as_complex(target)
    if weights is None:
        ms, md = s.mean(-1, keepdims=True), d.mean(-1, keepdims=True)
        s, d = s - ms, d - md
        a = (s.conj() * d).sum(-1) / (s.real**2 + s.imag**2).sum(-1)
    else:
        total = weights.sum(-1, keepdims=True)
        ms, md = (weights * s).sum(-1, keepdims=True) / total, (weights * d).sum(-1, keepdims=True) / total
        s, d = s - ms, d - md
        a = (weights * s.conj() * d).sum(-1) / (weights * (s.real**2 + s.imag**2)).sum(-1)
    return Planar(a, md[..., 0] - a * ms[..., 0])


class Fit(NamedTuple):
    """What a shape step answers, batched."""

    points: np.ndarray
    pose: Planar
    coefficients: np.ndarray
    clipped: np.ndarray


class Frame:
    """A shape basis of plane landmarks with all that the search derives from it.

    Parameters
    ----------
    basis : ShapeBasis
        In the frame of the model.
    angle : float
        Rotation of the model's mean that makes it stand as the training shapes stand in their images, radians.
    """

    def __init__(self, basis: Any, angle: float) -> None:
        self.basis = basis
        self.angle = float(angle)
        self.mean = np.ascontiguousarray(basis.mean, dtype=np.float64)
        self.components = np.ascontiguousarray(basis.components, dtype=np.float64)
        self.variances = np.asarray(basis.variances, dtype=np.float64)
        self._spread = np.sqrt(self.variances)
        self._modes = np.ascontiguousarray(self._spread[:, None] * self.components)
        # A prior of no weight to speak of: of coefficients that are not determined the most probable are taken.
        self._least = 16 * float(np.finfo(np.float64).eps) * max(float(self.variances.max(initial=0.0)), 1e-300)
        self.upright = Planar(np.exp(1j * np.array(self.angle)), np.array(0j))(self.mean)
        self.side = float(np.ptp(self.upright, axis=0).max())
        if not self.side > 0:
            raise DegenerateShapeError("the landmarks of the mean shape all coincide; expected a shape with extent.")
        n = len(self.mean)
        # Translation along x and y, scale, rotation: the tangent space of the similarities at the mean.
        turned = np.stack([-self.mean[:, 1], self.mean[:, 0]], axis=-1).ravel()
        rigid = [np.tile([1.0, 0.0], n), np.tile([0.0, 1.0], n), self.mean.ravel(), turned]
        tangent, _ = np.linalg.qr(np.concatenate([rigid, self.components]).T)
        self.tangent = np.ascontiguousarray(tangent.T)

    @property
    def n_landmarks(self) -> int:
        return len(self.mean)

    @property
    def middle(self) -> np.ndarray:
        """Middle of the box of the mean shape as it stands in images, in the frame of the model."""
        back = Planar(np.exp(-1j * np.array(self.angle)), np.array(0j))
        return np.asarray(back(0.5 * (self.upright.min(0) + self.upright.max(0))[None])[0])

    def modes_for(self, fractions: Sequence[float]) -> np.ndarray:
        """Return how many modes have these fractions of the variance."""
        sums = np.cumsum(self.variances) / max(float(self.variances.sum()), 1e-300)
        # Rounding of the sum must not ask for one mode more.
        return np.minimum(np.searchsorted(sums, np.asarray(fractions) - 1e-9) + 1, len(sums))

    def pose_of(self, points: np.ndarray, weights: np.ndarray | None = None) -> Planar:
        """Return model -> image for points (..., K, 2)."""
        return estimate(self.mean, points, weights)

    def fit(
        self,
        points: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        n_modes: int | None = None,
        prior: float = 0.0,
    ) -> Fit:
        """Return the shapes of the model nearest to points (n, K, 2), pose and modes together as `fit_shape` does.

        The coefficients are those of ``fit_shape(..., prior=False)``, with weights and a prior besides; the limit clips
        them, and the pose is then the one that takes what is left nearest to the points.

        Parameters
        ----------
        weights : ndarray (n, K), optional
            Trust in each point. A landmark of weight 0 comes from the others.
        n_modes : int, optional
            Use only the first modes.
        prior : float
            Strength ρ of the prior of the modes, squared units of the model: minimises
            Σ wₖ |xₖ - yₖ|² + ρ Σ bᵢ² / λᵢ, then clips.
        """
        n, m = len(points), len(self.components) if n_modes is None else min(n_modes, len(self.components))
        start = self.pose_of(points, weights).inverse
        matrix = np.array([[start.a.real, -start.a.imag], [start.a.imag, start.a.real]]).transpose(2, 0, 1).copy()
        flat = np.array(points, dtype=np.float64, order="C").reshape(n, -1)
        w = np.ones(points.shape[:2]) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        known = Known(w > 0, np.zeros(w.shape), np.empty((0, 0, 0, 0)), False)
        found = np.zeros((n, m))
        loops.least_squares(flat, known, w, matrix, as_real(start.b), self.mean.ravel(), 1.0, self._modes[:m], True,
                            prior + self._least, _LONGEST, _STEPS, _TOLERANCE, found)  # fmt: skip
        coefficients = np.zeros((n, len(self.variances)))
        coefficients[:, :m] = found * self._spread[:m]
        kept = np.array(self.basis.clip(coefficients))
        clipped = np.abs(kept - coefficients) > 1e-12 * self._spread
        kept[:, m:] = 0.0
        shapes = self.decode(kept)
        pose = estimate(shapes, points, weights)
        return Fit(pose(shapes), pose, kept, clipped)

    def decode(self, coefficients: np.ndarray) -> np.ndarray:
        """Return shapes in the frame of the model."""
        return self.mean + (coefficients @ self.components).reshape(*coefficients.shape[:-1], -1, 2)
