"""Superimposition that landmarks lying wrong do not drag along: iterated reweighting about the Procrustes mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

HUBER, TUKEY = 1.345, 4.685  # 95 % efficient under Gaussian noise
MEDIAN_LENGTH = {2: 1.1774100225154747, 3: 1.5381722544550522}  # of a standard normal vector (chi distribution)
T = TypeVar("T")
_HUBER_ROUNDS = 4  # rounds by Huber's loss, which has no local optima
_MOST_ROUNDS = 200  # rounds; a set that still moves then is reported as not converged
LEAST = 1e-6  # weight of a landmark given up: keeps every similarity determined
_STILL = 1e-4  # change of a weight, of at most 1, below which all stand


def reweighted(superimpose: Callable[[np.ndarray], T], shapes: np.ndarray, weights: Any, loss: str) -> T:
    """Repeat ``superimpose(weights)``, weighing each landmark of each shape by its distance to its place.

    Distances count in units of the spread of the landmark over the shapes (from their median), at least half of that
    of all landmarks, so that loose landmarks are not given up for being loose.
    """
    seen = ~np.isnan(shapes[..., 0])
    base = np.broadcast_to(1.0 if weights is None else np.asarray(weights, dtype=np.float64), seen.shape) * seen
    current, sigma, settled = base, None, False
    for round_ in range(_MOST_ROUNDS):
        result: Any = superimpose(current)
        off = np.linalg.norm(result.transforms(shapes) - result.mean, axis=-1)
        off = np.where(base > 0, off, np.nan)
        spread = np.nanmedian(off, axis=0) / MEDIAN_LENGTH[shapes.shape[2]]
        # No landmark is held to less than half of what is typical: few shapes may agree in one by chance.
        spread = np.maximum(spread, 0.5 * np.nanmedian(spread)) + np.finfo(np.float64).tiny
        sigma = spread if sigma is None else np.minimum(sigma, spread)
        u = np.nan_to_num(off / sigma)
        if loss == "huber" or round_ < _HUBER_ROUNDS:
            kept = HUBER / np.maximum(u, HUBER)
        else:
            kept = np.maximum((1 - np.clip(u / TUKEY, 0, 1) ** 2) ** 2, LEAST)
        before, current = current, base * kept
        if round_ > _HUBER_ROUNDS and np.abs(current - before).max() < _STILL:
            settled = True
            break
    robust: T = replace(result, weights=current, converged=bool(settled and result.converged))
    return robust
