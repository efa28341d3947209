"""Errors of landmarks, learned: covariances that follow from what is seen of each landmark, with heavy tails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import fdtri, gammaincinv, gammaln

from ._options import as_probability, checked_header, finite

_ROUNDS, _STEPS = 8, 60
_FEW = 5.0  # samples that each landmark has of the mean of all, so that few are enough
_TINY = 1e-16  # variance that is as good as none
_LEAST_DEGREES, _MOST_DEGREES = 3.0, 1e6  # of freedom: a covariance there is, and what is a Gaussian
_DEGREES = (*np.geomspace(_LEAST_DEGREES, 100.0, 60), _MOST_DEGREES)  # that are tried
_LEVELS = (0.5, 0.8, 0.95)  # probabilities whose radii are to be right


@dataclass(frozen=True, eq=False)
class Scatter:
    """Errors under Student's t whose covariance is that of the landmark times exp(slopes · features).

    References
    ----------
    K. L. Lange, R. J. A. Little, J. M. G. Taylor, "Robust statistical modeling using the t distribution", JASA 84
    (1989).
    """

    covariance: np.ndarray  # (K, d, d)
    slopes: np.ndarray  # (p,)
    degrees: float = np.inf  # of freedom

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return covariances (n, K, d, d) for features (n, K, p)."""
        # Thirteen decades either way: features far from those that were learned from make no infinity.
        return np.asarray(np.exp(np.clip(features @ self.slopes, -30, 30))[..., None, None] * self.covariance)

    def variance(self, features: np.ndarray) -> np.ndarray:
        """Return the mean over the axes of the variances, (n, K)."""
        return np.asarray(np.trace(self(features), axis1=-2, axis2=-1) / self.covariance.shape[-1])

    @classmethod
    def learn(cls, errors: np.ndarray, features: np.ndarray, *, tails: bool = True) -> Self:
        """Learn from errors (m, K, d) and features (m, K, p): maximum likelihood, one part after the other.

        Degrees of freedom and size are in the end those whose radii hold half, four fifths and 95 % of the errors:
        the likelihood gives way to the furthest errors, which are no draws of Student's t. Without tails as a Gaussian,
        whose covariance is the mean square.
        """
        m, k, p = features.shape
        d, flat = errors.shape[-1], features.reshape(-1, p)
        slopes, scale, degrees, trust = np.zeros(p), np.ones((m, k)), _MOST_DEGREES, np.ones((m, k))
        for _ in range(_ROUNDS):
            standard = errors * np.sqrt(trust / scale)[..., None]
            matrix = np.einsum("mki,mkj->kij", standard, standard)
            matrix = (matrix + _FEW / m * matrix.mean(axis=0)) / (m + _FEW) + _TINY * np.eye(d)
            square = np.einsum("mki,kij,mkj->mk", errors, np.linalg.inv(matrix), errors).ravel()
            ratio = square / scale.ravel()
            if tails:
                degrees = float(_DEGREES[int(np.argmin([unlikely(ratio, eta, d).mean() for eta in _DEGREES]))])
            slopes = np.zeros(p)
            slopes[0] = np.log(square.mean() / d)
            for _ in range(_STEPS):
                ratio = square / np.exp(np.clip(flat @ slopes, -30, 30))
                pull = (degrees + d) * ratio / (degrees + ratio)
                curve = pull * degrees / (degrees + ratio)
                # Newton's step. The ridge is for a feature that is the same everywhere: a millionth of what one of size
                # 1 has in m samples of each landmark.
                step = np.linalg.solve(flat.T @ (flat * curve[:, None]) + 1e-6 * m * np.eye(p), flat.T @ (pull - d))
                slopes = slopes + step * min(1.0, 2.0 / np.abs(step).max())  # a factor e² at most, or it may run away
                if np.abs(step).max() < 1e-7:  # of a logarithm: files keep four digits
                    break
            scale = np.exp(np.clip(flat @ slopes, -30, 30)).reshape(m, k)
            # How far each error counts, small for far ones: the E step of Lange, Little and Taylor.
            trust = (degrees + d) / (degrees + square.reshape(m, k) / scale)
        if tails:
            degrees, size = _by_quantiles(square / scale.ravel(), d)
            matrix = size * matrix
        return cls(matrix * degrees / (degrees - 2), slopes, np.inf if degrees == _MOST_DEGREES else degrees)

    def to_header(self) -> list[list[float]]:
        """Return the numbers for a file, the lower triangles of the covariances first."""
        low = np.tril_indices(self.covariance.shape[-1])
        parts: list[Any] = [self.covariance[:, low[0], low[1]], self.slopes]
        parts += [np.array([self.degrees])] if np.isfinite(self.degrees) else []
        return [[float(f"{v:.4g}") for v in part.ravel()] for part in parts]

    @classmethod
    @checked_header
    def from_header(cls, header: list[list[float]], d: int = 2) -> Self:
        """Build from what `to_header` returned."""
        values, slopes, *degrees = (np.array([finite(v) for v in part]) for part in header)
        low = np.tril_indices(d)
        if not len(values) or not len(slopes) or len(degrees) > 1:
            raise ValueError(f"got {len(values)} covariances and {len(slopes)} slopes")
        covariance = np.zeros((values.size // len(low[0]), d, d))
        covariance[:, low[0], low[1]] = covariance[:, low[1], low[0]] = values.reshape(len(covariance), -1)
        return cls(covariance, slopes, float(degrees[0][0]) if degrees else np.inf)


def _by_quantiles(ratio: np.ndarray, d: int) -> tuple[float, float]:
    """Return degrees of freedom and size of Student's t whose squared radii come nearest to those of the errors."""
    wanted = np.log(np.maximum(np.quantile(ratio, _LEVELS), _TINY))
    off = [wanted - np.log([squared_radius(level, eta, d) for level in _LEVELS]) for eta in _DEGREES]
    best = int(np.argmin([np.ptp(o) for o in off]))
    return float(_DEGREES[best]), float(np.exp(off[best].mean()))


def unlikely(ratio: np.ndarray, degrees: float, d: int) -> np.ndarray:
    """Return minus the log-density of Student's t, less a constant, for squared distances in units of the scale."""
    constant = gammaln((degrees + d) / 2) - gammaln(degrees / 2) - 0.5 * d * np.log(degrees)
    return np.asarray(0.5 * (degrees + d) * np.log1p(ratio / degrees) - constant)


def squared_radius(level: float, degrees: float, d: int) -> float:
    """Return the square of the distance within which a probability of Student's t lies, in units of its scale."""
    level = as_probability(level)
    return float(2 * gammaincinv(d / 2, level) if degrees >= _MOST_DEGREES else d * fdtri(d, degrees, level))


def tail_radius(level: float, degrees: float, d: int = 2) -> float:
    """Return the same distance in units of the covariance."""
    finite = min(degrees, _MOST_DEGREES)
    return float(np.sqrt(squared_radius(level, degrees, d) * (finite - 2) / finite))


def mean_length(covariance: np.ndarray, degrees: float = np.inf) -> np.ndarray:
    """Return the expected length of errors of the plane with covariances (..., 2, 2), as if these were round."""
    finite = min(degrees, _MOST_DEGREES)
    tails = np.exp(gammaln((finite - 1) / 2) - gammaln(finite / 2)) * np.sqrt(finite / 2 - 1)
    return np.asarray(np.sqrt(np.pi / 4 * np.trace(covariance, axis1=-2, axis2=-1)) * tails)
