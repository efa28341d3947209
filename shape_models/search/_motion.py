"""How a shape moves from frame to frame: a Kalman filter of its pose and of its form."""

from __future__ import annotations

import numpy as np

from ._frame import as_complex, as_real, estimate

# Standard deviations per frame, in sizes of the shape (root mean square distance of its landmarks from their middle);
# chosen on moving training images, see tests/benchmarks/bench_tracking.py.
_POSE_JITTER, _FORM_JITTER = 0.01, 0.015  # of what is measured, at smoothing 1
_ACCELERATION = 0.004  # of the middle, of the logarithm of the size and of the angle, per frame squared
_FORM_CHANGE = 0.012  # of the form, per frame
_FIRST_SPEED = 0.03  # what is known of the speed at first
_DAMPED = 0.9  # of the speed that is left after each frame in which the shape is not seen
_MEMORY = 0.6  # of how far measurements were off, for the gain to rise when a motion begins


class Motion:
    """The pose of a shape (middle, size, angle), which moves at a nearly constant velocity, and its form, which stays.

    Parameters
    ----------
    shape : ndarray of shape (n_landmarks, 2)
        Measured first.
    smoothing : float
        Factor of the standard deviations of what is measured; 0 takes every measurement as it is.

    References
    ----------
    R. E. Kalman, "A new approach to linear filtering and prediction problems", Journal of Basic Engineering 82 (1960).
    The gain rises with the innovations as in R. K. Mehra, "On the identification of variances and adaptive Kalman
    filtering", IEEE Transactions on Automatic Control 15 (1970).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search._motion import Motion
    >>> square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    >>> motion = Motion(square, 1.0)
    >>> for step in range(1, 30):
    ...     motion.advance(seen=True)
    ...     motion.measure(square + step)
    >>> bool(np.abs(motion.shape - (square + 29)).max() < 0.05), motion.velocity.round(1).tolist()
    (True, [1.0, 1.0])
    """

    def __init__(self, shape: np.ndarray, smoothing: float) -> None:
        z = as_complex(shape)
        middle = z.mean()
        size = float(np.sqrt((np.abs(z - middle) ** 2).mean()))
        self.smoothing = smoothing
        self.form = (z - middle) / size
        self.state = np.zeros((4, 2))  # x, y, log size, angle; and their velocities
        self.state[:, 0] = [middle.real, middle.imag, np.log(size), 0.0]
        unit = self._units
        self.pose_variance = np.zeros((4, 2, 2))
        self.pose_variance[:, 0, 0] = (smoothing * _POSE_JITTER * unit) ** 2
        self.pose_variance[:, 1, 1] = (_FIRST_SPEED * unit) ** 2
        self.form_variance = np.full(len(z), (smoothing * _FORM_JITTER) ** 2)
        self.pose_surprise, self.form_surprise = np.ones(4), np.ones(len(z))

    @property
    def size(self) -> float:
        """Root mean square distance of the landmarks from their middle, pixels."""
        return float(np.exp(self.state[2, 0]))

    @property
    def _units(self) -> np.ndarray:
        return np.array([self.size, self.size, 1.0, 1.0])

    @property
    def shape(self) -> np.ndarray:
        """The landmarks (n_landmarks, 2), pixels."""
        x, y, size, angle = self.state[:, 0]
        return as_real(self.form * np.exp(size + 1j * angle) + complex(x, y))

    @property
    def velocity(self) -> np.ndarray:
        """Of the middle, pixels a frame."""
        return self.state[:2, 1].copy()

    @property
    def variance(self) -> np.ndarray:
        """Of each landmark (n_landmarks,), of each coordinate, squared pixels, from the jitter of what is measured."""
        pose, size = self.pose_variance[:, 0, 0], self.size
        turned = 0.5 * np.abs(self.form) ** 2 * (pose[2] + pose[3]) * size**2
        return np.asarray(0.5 * (pose[0] + pose[1]) + turned + self.form_variance * size**2)

    def advance(self, *, seen: bool) -> None:
        """Go on by one frame."""
        left = 1.0 if seen else _DAMPED
        step = np.array([[1.0, left], [0.0, left]])
        noise = np.array([[0.25, 0.5], [0.5, 1.0]]) * _ACCELERATION**2
        self.state = self.state @ step.T
        self.pose_variance = step @ self.pose_variance @ step.T + noise * self._units[:, None, None] ** 2
        self.form_variance = self.form_variance + _FORM_CHANGE**2

    def measure(self, shape: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take over what was measured; landmarks with little weight (n_landmarks,), 0 to 1, less."""
        z = as_complex(shape)
        w = np.ones(len(z)) if weights is None else np.clip(weights, 1e-3, 1.0)
        a, b = estimate(as_real(self.form), shape, w)
        angle = self.state[3, 0] + np.angle(a * np.exp(-1j * self.state[3, 0]))
        found = np.array([b.real, b.imag, np.log(np.abs(a)), angle])
        noise = (self.smoothing * _POSE_JITTER * self._units) ** 2
        off = found - self.state[:, 0]
        self.pose_surprise, rise = _surprise(self.pose_surprise, off**2, self.pose_variance[:, 0, 0] + noise)
        self.pose_variance = self.pose_variance * rise[:, None, None]
        gain = self.pose_variance[:, :, 0] / np.maximum(self.pose_variance[:, :1, 0] + noise[:, None], 1e-300)
        self.state = self.state + gain * off[:, None]
        self.pose_variance = self.pose_variance - gain[:, :, None] * self.pose_variance[:, :1, :]
        form = (z - b) / a
        noise = (self.smoothing * _FORM_JITTER) ** 2 / w
        off = form - self.form
        self.form_surprise, rise = _surprise(self.form_surprise, 0.5 * np.abs(off) ** 2, self.form_variance + noise)
        self.form_variance = self.form_variance * rise
        gain = self.form_variance / np.maximum(self.form_variance + noise, 1e-300)
        self.form = self.form + gain * off
        self.form_variance = (1 - gain) * self.form_variance


def _surprise(before: np.ndarray, squared: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far measurements have lately been off, of what was expected, and the factor of the variance."""
    now = _MEMORY * before + (1 - _MEMORY) * squared / np.maximum(expected, 1e-300)
    now = np.minimum(now, 100.0)
    return now, np.maximum(now, 1.0)


def outline_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of the landmarks of two shapes, in sizes of the first."""
    size = float(np.sqrt(((first - first.mean(0)) ** 2).sum(1).mean()))
    return float(np.linalg.norm(first - second, axis=1).mean()) / max(size, 1e-300)
