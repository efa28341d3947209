"""Where a search begins: the mean shape in a box, starts about a shape, the peaks of heat maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._records import Record
from ._frame import Frame, Planar
from .heatmaps import peaks

Jitter = tuple[float, float, float]


@dataclass(frozen=True)
class BoxConvention(Record):
    """What a box means: where the mean shape stands in it, learned from training boxes.

    Attributes
    ----------
    center : tuple of float
        Shift of the middle of the mean shape's box from that of the given box, x and y, as fractions of its longer
        side.
    side : float
        Longer side of the mean shape's box, as a fraction of that of the given box.
    spread : tuple of float
        Standard deviations of x, y and side in training.

    Examples
    --------
    >>> from shape_models.search._starts import BoxConvention
    >>> BoxConvention((0.0, 0.1), 0.9, (0.02, 0.02, 0.05)).side
    0.9
    """

    center: tuple[float, float]
    side: float
    spread: tuple[float, float, float]

    @classmethod
    def learn(cls, boxes: np.ndarray, poses: Planar, frame: Frame) -> Self:
        """Learn from boxes (n, 4) and the poses of the shapes in them."""
        side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        center = 0.5 * (boxes[:, 2:] + boxes[:, :2])
        shift = (poses(np.broadcast_to(frame.middle, (len(boxes), 1, 2)))[:, 0] - center) / side[:, None]
        values = np.concatenate([shift, (poses.scale * frame.side / side)[:, None]], axis=1)
        (x, y, size), spread = np.median(values, axis=0).tolist(), values.std(axis=0).tolist()
        return cls((x, y), size, tuple(spread))

    def place(
        self,
        boxes: np.ndarray,
        frame: Frame,
        jitter: Jitter | None = None,
        rng: np.random.Generator | None = None,
        *,
        turn: float = 0.0,
    ) -> np.ndarray:
        """Put the mean shape into boxes, turned by `turn` and off by `jitter`."""
        n = len(boxes)
        side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        center = 0.5 * (boxes[:, 2:] + boxes[:, :2]) + np.array(self.center) * side[:, None]
        # As tight about the turned shape as the boxes of the training images are about upright ones.
        upright = Planar(np.exp(1j * np.array(turn)), np.array(0j))(frame.upright)
        factor, angle = side * self.side / float(np.ptp(upright, axis=0).max()), np.zeros(n)
        if jitter is not None and rng is not None:
            off = rng.uniform(-1.0, 1.0, size=(n, 4))
            center = center + jitter[0] * side[:, None] * off[:, :2]
            factor = factor * (1 + jitter[1] * off[:, 2])
            angle = jitter[2] * off[:, 3]
        middle = 0.5 * (upright.min(0) + upright.max(0))
        pose = Planar(factor * np.exp(1j * angle), center[:, 0] + 1j * center[:, 1])
        return pose(np.broadcast_to(upright - middle, (n, *frame.mean.shape)))

    def boxes_for(self, poses: Planar, frame: Frame) -> np.ndarray:
        """Return the boxes (n, 4) that would make a search start in given poses."""
        side = poses.scale * frame.side / self.side
        middle = poses(np.broadcast_to(frame.middle, (len(side), 1, 2)))[:, 0]
        center = middle - np.array(self.center) * side[:, None]
        half = 0.5 * side[:, None]
        return np.concatenate([center - half, center + half], axis=1)


def boxes_of(shapes: np.ndarray) -> np.ndarray:
    """Return the tight boxes (n, 4) of shapes."""
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


def jittered(shapes: np.ndarray, jitter: Jitter, rng: np.random.Generator) -> np.ndarray:
    """Move, scale and turn shapes about the middle of their boxes."""
    low, high = shapes.min(axis=1), shapes.max(axis=1)
    side, center = (high - low).max(axis=1), 0.5 * (low + high)
    off = rng.uniform(-1.0, 1.0, size=(len(shapes), 4))
    a = (1 + jitter[1] * off[:, 2]) * np.exp(1j * jitter[2] * off[:, 3])
    to = center + jitter[0] * side[:, None] * off[:, :2]
    return Planar(a, to[:, 0] + 1j * to[:, 1])(shapes - center[:, None])


def start_from_peaks(given: Any, frame: Frame, floor: float) -> np.ndarray:
    """Fit the model to the peaks of heat maps."""
    places, heights = peaks(*given)
    if not np.count_nonzero(heights) >= 3:
        raise ValueError("heatmaps: got fewer than three maps with anything in them; expected more, or boxes.")
    seen = places[heights > 0]
    if not np.ptp(seen, axis=0).max() > 0:
        raise ValueError("heatmaps: got maps whose peaks all coincide; expected a place for each, or boxes.")
    weights = heights / heights.max()
    # A few peaks may lie anywhere: those far from what the others imply lose their weight.
    for _ in range(5):
        fit = frame.fit(places[None], weights=np.maximum(weights, floor)[None], prior=frame.side**2)
        distance = np.linalg.norm(fit.points[0] - places, axis=1) / (fit.pose.scale[0] * frame.side)
        weights = heights / heights.max() / (1 + (distance / max(float(np.median(distance)), 0.02)) ** 2)
    return np.asarray(fit.points[0])


def starts_about(shape: np.ndarray, n_starts: int, jitter: Jitter, seed: int | None) -> np.ndarray:
    """Return starts (n_starts, K, 2): the shape, and others about it."""
    start = np.repeat(shape[None], n_starts, axis=0)
    if n_starts > 1:
        # A seed for each image: the answer does not depend on what else is in the batch.
        start[1:] = jittered(start[1:], jitter, np.random.default_rng(seed))
    return start


def filled_shape(shape: np.ndarray, frame: Frame, name: str) -> np.ndarray:
    """Return a shape with its missing landmarks where the others imply them."""
    known = np.isfinite(shape).all(axis=1)
    if known.all():
        return shape
    if np.isinf(shape).any() or known.sum() < 3:
        raise ValueError(f"{name}: got infinity, or fewer than three landmarks; expected pixels, NaN where missing.")
    # Next to nothing, not zero: the fit needs a weight, and 1e-9 of it moves no landmark by a visible amount.
    weights = np.where(known, 1.0, 1e-9)[None]
    filled = np.where(known[:, None], shape, shape[known].mean(0))
    return np.where(known[:, None], shape, frame.fit(filled[None], weights=weights).points[0])
