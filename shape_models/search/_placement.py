"""Where, how large and how turned objects stand in the images that a search was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._records import Record
from ._frame import Frame, Planar

_REACH = 2.0  # standard deviations of what is looked at
_SIZE_STEP, _TURN_STEP = 1.2, np.deg2rad(15.0)  # between poses that are looked at: a search reaches as far as half
_LEAST = 0.3  # the logarithms of sizes that are looked at reach at least so far from the usual one
_WIDE = np.log(2.0)  # and so far where the object is not as in training


@dataclass(frozen=True)
class Placement(Record):
    """How objects stand in images, learned from training images.

    Attributes
    ----------
    center : tuple of float
        Middle of the upright mean shape, x as a fraction of the width and y of the height.
    size : float
        Longer side of the mean shape as a fraction of the geometric mean of width and height.
    spread : tuple of float
        Standard deviations of x, y, the logarithm of the size, and the rotation in radians.
    length : tuple of float or None
        Longer side of the mean shape in the unit of the pixel spacing, and the standard deviation of its logarithm;
        None where the training did not know the spacing.
    pixels : float or None
        Longer side of the mean shape, pixels; None in files that do not know it.

    Examples
    --------
    >>> from shape_models.search._placement import Placement
    >>> Placement((0.5, 0.5), 0.4, (0.01, 0.01, 0.05, 0.02)).size
    0.4
    """

    center: tuple[float, float]
    size: float
    spread: tuple[float, float, float, float]
    length: tuple[float, float] | None = None
    pixels: float | None = None

    @classmethod
    def learn(cls, poses: Planar, frame: Frame, sizes: np.ndarray, units: np.ndarray | None = None) -> Self:
        """Learn from the poses of training shapes in images of sizes (n, 2), width and height, and their spacings."""
        middle = poses(np.broadcast_to(frame.middle, (len(sizes), 1, 2)))[:, 0]
        size = np.log(poses.scale * frame.side / np.sqrt(sizes.prod(axis=1)))
        turn = np.angle(poses.a * np.exp(-1j * frame.angle))
        values = np.concatenate([(middle + 0.5) / sizes, size[:, None], turn[:, None]], axis=1)
        length = None
        if units is not None:
            logs = np.log(poses.scale * frame.side * units)
            length = (float(np.exp(logs.mean())), float(logs.std()))
        mean, spread = values.mean(axis=0), values.std(axis=0)
        return cls(
            (float(mean[0]), float(mean[1])),
            float(np.exp(mean[2])),
            (float(spread[0]), float(spread[1]), float(spread[2]), float(spread[3])),
            length,
            float(np.exp(np.log(poses.scale * frame.side).mean())),
        )

    def grid(self, size: Any, unit: float | None = None, *, wide: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the sizes, pixels, and the angles at which an object is looked for in an image of `size`.

        Objects may be as large as in training relative to the image, or in pixels. With `wide` they may be turned by
        any angle and of other sizes.
        """
        usual = [self.size * float(np.sqrt(np.prod(np.asarray(size, dtype=float)))), self.pixels]
        spread = self.spread[2]
        if unit is not None and self.length is not None:
            usual, spread = [self.length[0] / unit], self.length[1]
        logs = np.log([value for value in usual if value is not None])
        reach = max(_REACH * spread, _WIDE if wide else _LEAST)
        low, high = logs.min() - reach, logs.max() + reach
        sizes = np.exp(np.linspace(low, high, int(np.ceil((high - low) / np.log(_SIZE_STEP))) + 1))
        full = int(round(2 * np.pi / _TURN_STEP))
        steps = full // 2 if wide else min(max(1, int(np.ceil(_REACH * self.spread[3] / _TURN_STEP))), full // 2)
        turns = _TURN_STEP * np.arange(-steps, steps + (2 * steps < full))
        return sizes, turns
