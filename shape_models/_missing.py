"""Mean and covariance of shapes with missing entries: expectation maximisation for probabilistic PCA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# The noise never falls below this fraction of the mean variance: keeps every conditional covariance invertible.
NOISE_FLOOR = 1e-8


@dataclass(frozen=True)
class MissingFit:
    """What `fit_missing` learned; `covariance` has the divisor n - 1, `log_likelihood` is that of the seen entries."""

    mean: np.ndarray
    covariance: np.ndarray
    n_modes: int
    log_likelihood: float
    n_iter: int
    converged: bool


def refuse_unseen(flat: np.ndarray, event_shape: tuple[int, ...]) -> None:
    """Raise for a landmark that fewer than two shapes show, and for a shape that shows none."""
    n = len(flat)
    seen = ~np.isnan(flat)
    per_landmark = seen.reshape(n, *event_shape).sum(axis=0)
    few = np.argwhere(per_landmark < 2)
    if len(few):
        index = int(few[0][0])
        raise ValueError(
            f"landmark {index} is seen in {int(per_landmark[tuple(few[0])])} of {n} shapes; expected at least 2. "
            "Try LandmarkScheme.subset to leave it out."
        )
    empty = np.flatnonzero(~seen.any(axis=1))
    if len(empty):
        raise ValueError(
            f"shape {int(empty[0])} has no landmark at all ({len(empty)} such shapes); expected at least one in "
            "each. Try leaving these shapes out."
        )


def fit_missing(X: np.ndarray, count_modes: Callable[[np.ndarray], int], *, tol: float, max_iter: int) -> MissingFit:
    """Estimate mean and covariance from rows with NaN by maximum likelihood under probabilistic PCA.

    The rows are independent draws of N(m, C) with C = V diag(λ) Vᵀ + σ²(I - V Vᵀ), V the first q eigenvectors. What is
    missing is integrated out: with Λ = C⁻¹ and the missing (m) and seen (o) entries of a row,

        E[x_m | x_o] = m_m - Λ_mm⁻¹ Λ_mo (x_o - m_o),    cov[x_m | x_o] = Λ_mm⁻¹,

    and the M step is the closed form of Tipping and Bishop (1999), Eqs. (7) and (8), on the expected scatter. Without
    missing entries the first step is the answer, and it is that of PCA.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        float64 with NaN; each feature seen at least twice, each row seen at least once.
    count_modes : callable
        From the eigenvalues in falling order to q.
    tol : float
        Stop when mean and covariance change by less than this fraction of the spread.
    max_iter : int
        Give up (``converged=False``) after so many steps.
    """
    n, p = X.shape
    missing = np.isnan(X)
    shift = np.nanmean(X, axis=0)
    Y = np.where(missing, 0.0, X - shift)
    # In units of the typical deviation, in which the floor of the noise and the tolerance mean the same for all data.
    scale = float(np.sqrt((Y**2).sum() / (~missing).sum())) or 1.0
    Y /= scale

    gaps = missing.any(axis=1)
    whole = Y[~gaps]
    n_whole = len(whole)
    mean_whole = whole.mean(axis=0) if n_whole else np.zeros(p)
    scatter_whole = (whole - mean_whole).T @ (whole - mean_whole)
    Y, missing = Y[gaps], missing[gaps]
    counts = missing.sum(axis=1)
    groups = []  # rows with equally many gaps are solved together
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        # Four million numbers at once, 32 MB: the matrices of all gaps together would not fit into memory.
        for some in np.array_split(rows, max(1, round(len(rows) * count * count / 4e6))):
            groups.append((some, np.nonzero(missing[some])[1].reshape(len(some), count)))

    mean = np.zeros(p)
    total = (~missing).sum(axis=0) + n_whole
    seen_variance = (np.square(Y).sum(axis=0) + np.diag(scatter_whole) + n_whole * mean_whole**2) / total
    covariance = (scatter_whole + n_whole * np.outer(mean_whole, mean_whole) + Y.T @ Y) / n
    # What is missing is taken to vary, at first, as what is seen of the same coordinate.
    covariance[np.diag_indices(p)] += missing.sum(axis=0) / n * seen_variance

    n_seen = n * p - int(counts.sum())
    q, changes, log_likelihood, converged = -1, 0, -np.inf, False
    n_iter = 0
    while n_iter < max_iter and not converged:
        n_iter += 1
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        before, wanted = q, count_modes(values)
        if wanted != q:
            # A fraction of variance near a boundary could flip q for ever: after some changes it only grows.
            changes += 1
            q = wanted if changes < 10 else max(q, wanted)
        floor = NOISE_FLOOR * values.mean()
        noise = max(values[q:].mean() if q < p else 0.0, floor)
        kept = np.maximum(values[:q], noise)
        precision = (vectors[:, :q] * (1.0 / kept - 1.0 / noise)) @ vectors[:, :q].T
        precision[np.diag_indices(p)] += 1.0 / noise
        log_det = np.log(kept).sum() + (p - q) * np.log(noise)
        D, spread, log_gaps = _expected(np.where(missing, 0.0, Y - mean), groups, precision)
        square = float(((D @ precision) * D).sum())
        apart = mean_whole - mean
        square += float((scatter_whole * precision).sum() + n_whole * apart @ precision @ apart)
        log_likelihood = -0.5 * (n_seen * np.log(2 * np.pi) + n * log_det + log_gaps + square)

        move = (n_whole * apart + D.sum(axis=0)) / n
        mean = mean + move
        D -= move
        apart = mean_whole - mean
        update = (scatter_whole + n_whole * np.outer(apart, apart) + D.T @ D + spread) / n
        change = max(
            np.linalg.norm(update - covariance) / max(np.linalg.norm(update), np.finfo(float).tiny),
            np.linalg.norm(move) / np.sqrt(max(np.trace(update), np.finfo(float).tiny)),
        )
        covariance = update
        converged = bool(change <= tol and q == before)
    return MissingFit(
        mean=shift + scale * mean,
        covariance=scale**2 * n / (n - 1) * (covariance + covariance.T) / 2,
        n_modes=q,
        log_likelihood=log_likelihood - n_seen * float(np.log(scale)),
        n_iter=n_iter,
        converged=converged,
    )


def _expected(
    D: np.ndarray, groups: list[tuple[np.ndarray, np.ndarray]], precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fill the gaps of rows about the mean with what is expected given the rest, in place.

    Returns the rows, the sum of the conditional covariances, and that of the log-determinants of their inverses.
    """
    p = len(precision)
    pulled, spread, log_gaps = D @ precision, np.zeros(p * p), 0.0
    for rows, gap in groups:
        # The covariance given what is seen is the inverse of the block of the precision matrix.
        root = np.linalg.cholesky(precision[gap[:, :, None], gap[:, None, :]])
        inverse_root = np.linalg.inv(root)
        inverse = np.swapaxes(inverse_root, 1, 2) @ inverse_root
        log_gaps += 2.0 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        D[rows[:, None], gap] = -(inverse @ pulled[rows[:, None], gap][..., None])[..., 0]
        cells = gap[:, :, None] * p + gap[:, None, :]
        spread += np.bincount(cells.ravel(), weights=inverse.ravel(), minlength=p * p)
    return D, spread.reshape(p, p), log_gaps
