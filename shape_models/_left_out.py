"""Models of all shapes but those left out, fold by fold, in the span of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._array import DegenerateShapeError, as_column, as_count, as_numpy, as_shapes, refuse_extreme

CHUNK = 2**22  # numbers in the largest temporary array


class SpanOfData:
    """Shapes as coordinates in their own span: y (n_samples, rank), whose axes are the modes."""

    def __init__(self, shapes: Any) -> None:
        array = as_numpy(shapes)
        if array.ndim == 2:
            array = array[:, :, None]
        array = as_shapes(array, min_samples=3, min_landmarks=1).astype(np.float64)
        refuse_extreme(float(array.min()), float(array.max()))
        self.n, self.n_landmarks, self.n_dims = array.shape
        flat = array.reshape(self.n, -1)
        self.centred = flat - flat.mean(axis=0)
        _, s, components = np.linalg.svd(self.centred, full_matrices=False)
        size = max(float(np.abs(flat).max()), np.finfo(float).tiny)
        # As far as centring and decomposing round: what varies less does not vary.
        rounding = np.finfo(float).eps * max(flat.shape) * max(float(s[0]), size)
        rank = int((s > rounding).sum())
        if rank == 0:
            raise DegenerateShapeError("shapes: got equal shapes; expected some variation. Try more, or others.")
        self.components = components[:rank]
        self.y = self.centred @ self.components.T
        self.variances = s[:rank] ** 2 / (self.n - 1)

    def points(self, y: np.ndarray) -> np.ndarray:
        """Return vectors of the span as vectors of coordinates."""
        return np.asarray(y @ self.components)

    def distances(self, residuals: np.ndarray) -> np.ndarray:
        """Return the length of residuals (..., n_features) at each landmark, (..., n_landmarks)."""
        points = residuals.reshape(*residuals.shape[:-1], self.n_landmarks, self.n_dims)
        return np.asarray(np.sqrt((points**2).sum(axis=-1)))


def spectrum(centred: np.ndarray, rank: int) -> np.ndarray:
    """Return the leading variances of centred data, by way of the smaller of the two scatter matrices."""
    n, n_features = centred.shape
    scatter = centred.T @ centred if n_features <= n else centred @ centred.T
    return np.asarray(np.maximum(np.linalg.eigvalsh(scatter)[::-1][:rank], 0) / (n - 1))


def left_out_folds(n: int, n_folds: int | None, groups: Any) -> list[np.ndarray]:
    """Return the indices left out, fold by fold."""
    if groups is not None:
        if n_folds is not None:
            raise ValueError("n_folds: got a number beside groups; expected one of the two. Try n_folds=None.")
        groups = as_column(groups, "groups")
        if groups.shape != (n,):
            raise ValueError(f"groups: got an array of shape {groups.shape}; expected ({n},), one label a shape.")
        labels, index = np.unique(groups, return_inverse=True)
        if len(labels) < 2:
            raise ValueError("groups: got one group; expected at least 2. Try groups=None to leave out single shapes.")
        folds = [np.flatnonzero(index == i) for i in range(len(labels))]
    else:
        expected = f"a number from 2 to {n}. Try 10"
        count = as_count(n if n_folds is None else n_folds, "n_folds", 2, n, expected=expected)
        folds = np.array_split(np.arange(n), count)
    largest = max(map(len, folds))
    if n - largest < 2:
        raise ValueError(f"got {n} shapes of which {largest} are left out at once; expected at least 2 to learn from.")
    return folds


def most_modes(data: SpanOfData, folds: list[np.ndarray] | None, asked: Any, name: str) -> int:
    """Return the number of modes asked for, or the most that every model has."""
    most = len(data.variances)
    if folds is not None:
        most = min(most, data.n - max(map(len, folds)) - 1)
    if asked is None:
        return most
    return as_count(asked, name, 1, most, expected=f"a number from 1 to {most}, the modes of every model")


def held_out(
    data: SpanOfData, folds: list[np.ndarray], top: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, for each fold: its indices, the modes (rank, top) and variances of the rest, its shapes about their mean.

    The scatter of the rest about its own mean m is Σ y yᵀ - Σ_left out y yᵀ - n m mᵀ. Modes without variance are 0, as
    they could be anything.
    """
    y = data.y
    rank = y.shape[1]
    scatter = y.T @ y
    per_chunk = max(1, CHUNK // rank**2)
    for first in range(0, len(folds), per_chunk):
        some = folds[first : first + per_chunk]
        scatters, means = np.empty((len(some), rank, rank)), np.empty((len(some), rank))
        for j, test in enumerate(some):
            out, n = y[test], data.n - len(test)
            means[j] = (y.sum(axis=0) - out.sum(axis=0)) / n
            # Σ y yᵀ of the rest about its own mean; all together have the mean 0.
            scatters[j] = scatter - out.T @ out - n * np.outer(means[j], means[j])
        values, vectors = np.linalg.eigh(scatters)
        values, vectors = values[:, ::-1][:, :top], vectors[:, :, ::-1][:, :, :top]
        # A fold can leave fewer directions than all data span: their modes are zero, not noise.
        sure = values > rank * np.finfo(float).eps * values[:, :1]
        for j, test in enumerate(some):
            variances = np.where(sure[j], values[j], 0.0) / (data.n - len(test) - 1)
            yield test, vectors[j] * sure[j], variances, y[test] - means[j]
