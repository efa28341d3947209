"""Whether what stands at an answer looks like the object: what tells it from its neighbours that look alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from .evidence import View
from .patches import Patches, ridge

_COARSER = 1.73  # than the finest level: what is next to the object counts more than its finest edges
_MOST = 48  # landmarks whose surroundings are looked at
_RIDGES = 10.0 ** np.arange(-3.0, 3.5, 0.5)  # penalties that are tried, in mean eigenvalues


def appearance(view: View) -> np.ndarray:
    """Return what stands at the shapes of a view of the finest level, in their poses: gradient descriptors (n, F)."""
    k = view.n_landmarks
    some = np.unique(np.linspace(0, k - 1, min(k, _MOST)).astype(int))
    seen = replace(view, points=view.points[:, some], resolution=view.resolution / _COARSER, hidden=None)
    return Patches(n_cells=4)._describe(seen, False).reshape(len(view), -1)


@dataclass(frozen=True)
class Judge:
    """Regression of the logarithm of the error of answers on what stands there.

    Attributes
    ----------
    center, weights : ndarray of shape (F,)
    offset : float
    """

    center: np.ndarray
    weights: np.ndarray
    offset: float

    @classmethod
    def learn(cls, features: np.ndarray, log_error: np.ndarray, fold: np.ndarray) -> tuple[Self, np.ndarray]:
        """Learn from answers (m, F) in left-out images, and return what is predicted for each by the other folds."""
        center = features.mean(axis=0)
        offset = float(log_error.mean())
        target = (log_error - offset)[:, None].astype(np.float32)
        weights, predicted = ridge(np.ascontiguousarray(features - center), target, fold, _RIDGES)
        return cls(center.astype(np.float32), weights[:, 0].astype(np.float32), offset), predicted[:, 0] + offset

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.center) @ self.weights + self.offset, dtype=np.float64)

    def to_arrays(self) -> dict[str, Any]:
        """Return the arrays for a file."""
        return {"center": self.center, "weights": self.weights, "offset": np.array([self.offset])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self | None:
        """Build from what `to_arrays` returned; None for a file that has none."""
        if not arrays:
            return None
        return cls(arrays["center"], arrays["weights"], float(arrays["offset"][0]))
