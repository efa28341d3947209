"""Mean and covariance of shapes with missing entries: expectation maximisation for probabilistic PCA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
    data = _Data.of(X)
    n, p = X.shape
    mean, covariance = np.zeros(p), data.first_covariance()
    n_seen = int((~np.isnan(X)).sum())
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
        model = _Model.of(values, vectors, q)
        precision = model.precision()
        D, spread, log_gaps = _expected(np.where(data.missing, 0.0, data.rows - mean), data, model, precision)
        apart = data.mean - mean
        square = float(((D @ precision) * D).sum())
        square += float((data.scatter * precision).sum() + data.n * apart @ precision @ apart)
        log_likelihood = -0.5 * (n_seen * np.log(2 * np.pi) + n * model.log_det + log_gaps + square)

        move = (data.n * apart + D.sum(axis=0)) / n
        mean = mean + move
        D -= move
        apart = data.mean - mean
        update = (data.scatter + data.n * np.outer(apart, apart) + D.T @ D + spread) / n
        change = max(
            np.linalg.norm(update - covariance) / max(np.linalg.norm(update), np.finfo(float).tiny),
            np.linalg.norm(move) / np.sqrt(max(np.trace(update), np.finfo(float).tiny)),
        )
        covariance = update
        converged = bool(change <= tol and q == before)
    return MissingFit(
        mean=data.shift + data.scale * mean,
        covariance=data.scale**2 * n / (n - 1) * (covariance + covariance.T) / 2,
        n_modes=q,
        log_likelihood=log_likelihood - n_seen * float(np.log(data.scale)),
        n_iter=n_iter,
        converged=converged,
    )


class _Data(NamedTuple):
    """Shapes in units of their typical deviation: sums of the complete ones, and the rows of those with gaps."""

    shift: np.ndarray  # (p,)
    scale: float
    n: int  # complete shapes
    mean: np.ndarray  # (p,), theirs
    scatter: np.ndarray  # (p, p), about it
    rows: np.ndarray  # (m, p), 0 where missing
    missing: np.ndarray  # (m, p)
    groups: list[tuple[np.ndarray, np.ndarray]]  # rows with equally many gaps, which are solved together, and these

    @classmethod
    def of(cls, X: np.ndarray) -> _Data:
        missing = np.isnan(X)
        shift = np.nanmean(X, axis=0)
        Y = np.where(missing, 0.0, X - shift)
        # In these units the floor of the noise and the tolerance mean the same for all data.
        scale = float(np.sqrt((Y**2).sum() / (~missing).sum())) or 1.0
        Y /= scale
        gaps = missing.any(axis=1)
        whole = Y[~gaps]
        mean = whole.mean(axis=0) if len(whole) else np.zeros(X.shape[1])
        Y, missing = Y[gaps], missing[gaps]
        counts = missing.sum(axis=1)
        groups = []
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            # Four million numbers at once, 32 MB: the matrices of all gaps together would not fit into memory.
            for some in np.array_split(rows, max(1, round(len(rows) * count * count / 4e6))):
                groups.append((some, np.nonzero(missing[some])[1].reshape(len(some), count)))
        return cls(shift, scale, len(whole), mean, (whole - mean).T @ (whole - mean), Y, missing, groups)

    def first_covariance(self) -> np.ndarray:
        n = self.n + len(self.rows)
        total = (~self.missing).sum(axis=0) + self.n
        variance = (np.square(self.rows).sum(axis=0) + np.diag(self.scatter) + self.n * self.mean**2) / total
        covariance = (self.scatter + self.n * np.outer(self.mean, self.mean) + self.rows.T @ self.rows) / n
        # What is missing is taken to vary, at first, as what is seen of the same coordinate.
        covariance[np.diag_indices(len(total))] += self.missing.sum(axis=0) / n * variance
        return np.asarray(covariance)


class _Model(NamedTuple):
    """The covariance V diag(λ) Vᵀ + σ²(I - V Vᵀ)."""

    vectors: np.ndarray  # (p, q)
    values: np.ndarray  # (q,)
    noise: float

    @classmethod
    def of(cls, values: np.ndarray, vectors: np.ndarray, q: int) -> _Model:
        noise = max(values[q:].mean() if q < len(values) else 0.0, NOISE_FLOOR * values.mean())
        return cls(vectors[:, :q], np.maximum(values[:q], noise), float(noise))

    def precision(self) -> np.ndarray:
        precision = (self.vectors * (1.0 / self.values - 1.0 / self.noise)) @ self.vectors.T
        precision[np.diag_indices(len(precision))] += 1.0 / self.noise
        return np.asarray(precision)

    @property
    def log_det(self) -> float:
        p, q = self.vectors.shape
        return float(np.log(self.values).sum() + (p - q) * np.log(self.noise))


def _expected(D: np.ndarray, data: _Data, model: _Model, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fill the gaps of rows about the mean with what is expected given the rest, in place.

    Returns the rows, the sum of the conditional covariances, and that of the log-determinants of their inverses.
    """
    p, q = model.vectors.shape
    spread, log_gaps = np.zeros(p * p), 0.0
    for rows, gap in data.groups:
        if gap.shape[1] > q:
            continue
        # The covariance given what is seen is the inverse of the block of the precision matrix.
        root = np.linalg.cholesky(precision[gap[:, :, None], gap[:, None, :]])
        inverse_root = np.linalg.inv(root)
        inverse = np.swapaxes(inverse_root, 1, 2) @ inverse_root
        log_gaps += 2.0 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        pulled = np.take_along_axis(D[rows] @ precision, gap, axis=1)
        D[rows[:, None], gap] = -(inverse @ pulled[..., None])[..., 0]
        cells = gap[:, :, None] * p + gap[:, None, :]
        spread += np.bincount(cells.ravel(), weights=inverse.ravel(), minlength=p * p)
    more, log_more = _expected_by_modes(D, data.missing, model)
    return D, spread.reshape(p, p) + more, log_gaps + log_more


def _expected_by_modes(D: np.ndarray, missing: np.ndarray, model: _Model) -> tuple[np.ndarray, float]:
    """Do the same for rows with more gaps than there are modes, by systems of as many equations as modes.

    With C = W Wᵀ + σ² I and M = σ² I + W_oᵀ W_o, the identity of Woodbury gives

        E[x_m | x_o] = m_m + W_m M⁻¹ W_oᵀ (x_o - m_o),    cov[x_m | x_o] = σ² (I + W_m M⁻¹ W_mᵀ),

    and the log-determinant of its inverse log|M| - Σ log λ - n_m log σ²: Tipping and Bishop (1999), section 3.2.
    """
    p, q = model.vectors.shape
    rows = np.flatnonzero(missing.sum(axis=1) > q)
    W = model.vectors * np.sqrt(model.values - model.noise)
    spread, log_gaps = np.zeros((p, p)), 0.0
    # Four million numbers at once, as in `_Data.of`.
    for some in np.array_split(rows, max(1, round(len(rows) * p * q / 4e6))) if len(rows) else ():
        gaps = missing[some]
        seen = np.where(gaps[..., None], 0.0, W)
        root = np.linalg.cholesky(np.swapaxes(seen, 1, 2) @ seen + model.noise * np.eye(q))
        half = np.linalg.inv(root)
        pulled = half @ (D[some] @ W)[..., None]  # what is missing is zero in D
        D[some] += np.where(gaps, (np.swapaxes(half, 1, 2) @ pulled)[..., 0] @ W.T, 0.0)
        wide = np.where(gaps[..., None], W, 0.0) @ np.swapaxes(half, 1, 2)
        wide = np.swapaxes(wide, 0, 1).reshape(p, -1)
        spread += model.noise * (wide @ wide.T + np.diag(gaps.sum(axis=0)))
        log_gaps += 2.0 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum())
        log_gaps -= len(some) * float(np.log(model.values).sum()) + int(gaps.sum()) * float(np.log(model.noise))
    return spread, log_gaps
