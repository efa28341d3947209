"""Which samples each of several trainings leaves out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def folds(groups: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return a fold for each sample; those of a group share it."""
    names, which = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups: got a single group; expected at least two, for cross-validation.")
    return (rng.permutation(len(names)) % min(n_folds, len(names)))[which]


def splits(fold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each fold, the rows to train on and the rows left out."""
    for f in range(int(fold.max()) + 1):
        yield np.flatnonzero(fold != f), np.flatnonzero(fold == f)
