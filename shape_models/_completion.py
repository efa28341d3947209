"""The covariance that fills in: all directions, shrunk by as much as the shapes themselves ask for."""

from __future__ import annotations

import numpy as np
from scipy.special import multigammaln

from ._basis import ShapeBasis
from ._transforms import pose_directions

MOST_FEATURES = 300  # coordinates for which the whole covariance is kept and shrunk
MOST_SAMPLES = 1000  # shapes that are kept to learn how far completions are off
_SMOOTH = ((1.0, 0.1), (1.0, 0.3), (2.0, 0.1), (2.0, 0.3))  # reach in spacings of the landmarks, fraction of white
# Amounts of shrinkage that are tried, in about even ratios from next to none to nearly all.
_AMOUNTS = np.concatenate([[3e-4, 1e-3, 3e-3], np.geomspace(5e-3, 0.97, 25)])


def completion_basis(mean: np.ndarray, covariance: np.ndarray, n_samples: int, limit: object = None) -> ShapeBasis:
    """Return a Gaussian of full rank for what n shapes leave open.

    The covariance is (1 - a) S + a τ T with S that of the shapes. The target T is white noise, or mixed with a smooth
    deformation (a squared exponential of the distance of the landmarks in the mean) whose reach is that of one or two
    neighbours; none of it moves, turns or scales the mean. Amount a and target are those under which the shapes are
    most likely: with a prior of the inverse Wishart law on the covariance, of mean τ T, the shapes have the density

        Γ_q((ν + n - 1)/2) / Γ_q(ν/2) |Ψ|^(ν/2) / |Ψ + (n - 1) S|^((ν + n - 1)/2),    Ψ = (ν - q - 1) τ T,

    in the q directions that are no pose, and a = (ν - q - 1)/(ν - q - 2 + n), nearly, weighs the mean of the posterior.
    One eigenvalue problem a target.

    Parameters
    ----------
    mean : ndarray of shape (n_landmarks, n_dims) or (n_features,)
        Flat features have no neighbours and no pose: their target is white.
    covariance : ndarray of shape (n_features, n_features)
        Divisor n - 1.
    n_samples : int
    limit : limit
        Of the basis that is returned.

    References
    ----------
    C.-F. Chen, "Bayesian inference for a normal dispersion matrix", JRSS B 41 (1979), for the choice of a. M. Lüthi et
    al., "Gaussian process morphable models", IEEE TPAMI 40 (2018), for smooth deformations beside those learned.
    """
    p = mean.size
    space = np.eye(p)
    n_moves = 0
    if mean.ndim == 2 and mean.shape[1] in (2, 3) and mean.shape[0] > mean.shape[1]:
        moves = pose_directions(mean)
        n_moves = int(np.linalg.matrix_rank(moves))
        space = np.linalg.svd(moves, full_matrices=True)[2][n_moves:].T
    best: tuple[float, float, np.ndarray] | None = None
    white = space @ space.T
    for target in _targets(mean, white, smooth=n_moves > 0):
        values, vectors = np.linalg.eigh(space.T @ target @ space)
        root = space @ (vectors / np.sqrt(values))
        scatter = np.maximum(np.linalg.eigvalsh(root.T @ covariance @ root), 0.0)
        evidence, amount = _most_likely(scatter, float(np.log(values).sum()), n_samples)
        if best is None or evidence > best[0]:
            best = evidence, amount, (1 - amount) * covariance + amount * scatter.mean() * target
    assert best is not None
    values, vectors = np.linalg.eigh(best[2])
    keep = p - n_moves
    values, vectors = np.maximum(values[::-1][:keep], 0.0), vectors[:, ::-1][:, :keep]
    # Of full rank also where the shapes leave a direction without variance: the covariance is inverted.
    values = np.maximum(values, 1e-9 * values[0])
    return ShapeBasis(mean, vectors.T, values, limit, noise_variance=float(values[-1]))


def _targets(mean: np.ndarray, white: np.ndarray, smooth: bool) -> list[np.ndarray]:
    """Return covariances without a pose, of trace 1 each."""
    white = white / np.trace(white)
    targets = [white]
    if smooth:
        apart = np.linalg.norm(mean[:, None] - mean, axis=-1)
        spacing = 2 * float(np.median(np.min(apart + np.diag(np.full(len(mean), np.inf)), axis=1)))
        flat = white * len(white)
        for reach, share in _SMOOTH if spacing > 0 else ():
            kernel = np.kron(np.exp(-0.5 * np.square(apart / (reach * spacing))), np.eye(mean.shape[1]))
            kernel = flat @ kernel @ flat
            targets.append((1 - share) * kernel / np.trace(kernel) + share * white)
    return targets


def _most_likely(scatter: np.ndarray, log_det: float, n: int) -> tuple[float, float]:
    """Return the logarithm of the best density, without its constant, and the amount of shrinkage it belongs to."""
    q, mean = len(scatter), float(scatter.mean())
    best = (-np.inf, 1.0)
    for amount in _AMOUNTS:
        weight = amount / (1 - amount) * (n - 1)
        degrees, inner = q + 1 + weight, weight * mean
        value = (
            degrees / 2 * q * np.log(inner)
            + multigammaln((degrees + n - 1) / 2, q)
            - multigammaln(degrees / 2, q)
            - (degrees + n - 1) / 2 * np.log(inner + (n - 1) * scatter).sum()
            - (n - 1) / 2 * log_det
        )
        if value > best[0]:
            best = float(value), float(amount)
    return best
