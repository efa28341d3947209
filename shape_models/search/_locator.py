"""Where an object is when nobody says so: a template of gradient directions, looked for at all places of an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ._crops import Crops
from ._frame import Frame, Planar
from ._images import ImageBank
from ._kernels import N_ORIENTATIONS, channel_map, correlate
from ._placement import Placement

_MOST_IMAGES = 300  # that the template is learned from

_CELLS = 8  # along the longer side of the mean shape: with 12 no more objects were found, at five times the cost
_BORDER = 1  # cells round the box of the mean shape
_CELL = 4  # pixels along the side of a cell
_POSITIVES = 1500  # windows at the objects, over all images
_NEGATIVES = 6000  # and elsewhere
# How far windows are off: x and y as fractions of the size, logarithm of the size, radians.
_OFF = (0.04, 0.04, 0.09, 0.13)  # those at the object: half a step between the poses that are tried
_AROUND = (1.5, 1.5, 0.7, np.pi)  # those about it, as far as the images of a training are kept
_ELSEWHERE = (0.35, 0.7)  # of them, those that are at least so far off or turned show something else
_SAME = (0.15, 0.15, 0.2)  # places that are nearer to a better one are that one
_EACH = 4  # times as many windows of each size and angle are looked through
_RIDGE = 0.1  # of the mean variance


class Places(NamedTuple):
    """Where an object may stand in an image.

    Attributes
    ----------
    shapes : ndarray of shape (m, K, 2)
        The mean shape there, pixels, best first.
    evidence : ndarray of shape (m, 2)
        How far the score of each place lies above those of all windows of the image, in their standard deviations, and
        how far above that of the best other place.
    """

    shapes: np.ndarray
    evidence: np.ndarray


@dataclass(frozen=True)
class Locator:
    """A linear template on gradient directions, in the frame of the upright mean shape.

    Attributes
    ----------
    weights : ndarray of shape (rows, columns, 8)
        Of the cells of a window.
    """

    weights: np.ndarray

    @classmethod
    def learn(cls, bank: ImageBank, poses: Planar, frame: Frame, rng: np.random.Generator) -> Self:
        """Learn from images and the poses (n,) of the shapes in them.

        Linear discriminant analysis with the covariance of windows elsewhere (Hariharan, Malik, Ramanan,
        "Discriminative decorrelation for clustering and classification", ECCV 2012).
        """
        n = len(poses.a)
        size = _size(frame)
        # Poses whose origin is the middle of the upright mean shape.
        middle = poses(np.broadcast_to(frame.middle, (n, 1, 2)))[:, 0]
        upright = Planar(poses.a * np.exp(-1j * frame.angle), middle[:, 0] + 1j * middle[:, 1])
        count = max(2, _POSITIVES // n)
        index = np.repeat(np.arange(n), count)
        off = rng.uniform(-1, 1, (len(index), 4)) * _OFF
        off[::count] = 0.0
        good = _windows(bank, index, _moved(upright.take(index), off, frame), frame, size)
        index = np.repeat(np.arange(n), max(4, _NEGATIVES // n))
        off = rng.uniform(-1, 1, (len(index), 4)) * _AROUND
        there = _moved(upright.take(index), off, frame)
        center = np.stack([there.b.real, there.b.imag], axis=1)
        far = (np.hypot(off[:, 0], off[:, 1]) > _ELSEWHERE[0]) | (np.abs(off[:, 3]) > _ELSEWHERE[1])
        far &= ((center >= 0) & (center <= bank.sizes[index] - 1)).all(axis=1)
        bad = _windows(bank, index[far], there.take(far), frame, size)
        mean = bad.mean(axis=0)
        bad -= mean
        covariance = (bad.T @ bad).astype(np.float64) / max(len(bad), 1)
        covariance[np.diag_indices_from(covariance)] += _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
        weights = cho_solve(cho_factor(covariance), (good.mean(axis=0) - mean).astype(np.float64))
        return cls(weights.reshape(*size, N_ORIENTATIONS).astype(np.float32))

    def see(self, image: np.ndarray, sides: np.ndarray) -> ImageBank:
        """Keep what is needed of a whole image to look for objects of these sizes, pixels."""
        return ImageBank.build([image], [None], [0.7 * float(sides.min()) / (_CELLS * _CELL)])

    def find(self, bank: ImageBank, frame: Frame, sides: np.ndarray, turns: np.ndarray, n: int) -> Places:
        """Return the best places in an image, at most `n` of them.

        Parameters
        ----------
        bank : ImageBank
            One image, the whole of it.
        frame : Frame
        sides : ndarray
            Longer sides of the mean shape that are tried, pixels.
        turns : ndarray
            Angles that are tried, radians.
        n : int
        """
        # Angles that miss a quarter turn by rounding belong to it.
        quarter = np.floor(turns / (0.5 * np.pi) + 1e-6).astype(int)
        base = np.round(turns - 0.5 * np.pi * quarter, 6)
        best, sums = zip(
            *(
                scores
                for side in sides
                for angle in np.unique(base)
                for scores in self._scores(bank, float(side), float(angle), quarter[base == angle] % 4, n)
            ),
            strict=True,
        )
        places = np.concatenate(best)
        z, a, score = places[np.argsort(-places[:, 2].real)].T
        count, first, second = np.sum(sums, axis=0)
        mean = first / count
        deviation = max(float(np.sqrt(max(second / count - mean**2, 0.0))), 1e-12)
        kept: list[int] = []
        for i in np.flatnonzero(np.isfinite(score.real)):
            if len(kept) == n + 1:
                break
            apart = np.abs(z[i] - z[kept]) > _SAME[0] * np.abs(a[i])
            ratio = np.log(a[i] / a[kept])
            if (apart | (np.abs(ratio.real) > _SAME[1]) | (np.abs(ratio.imag) > _SAME[2])).all():
                kept.append(int(i))
        high = (score[kept].real - mean) / deviation
        # Alone, a place is better than any other by what it is above the mean.
        rivals = [high[1] if len(high) > 1 else 0.0, *np.full(len(high) - 1, high[0])]
        kept, evidence = kept[:n], np.stack([high, high - rivals], axis=1)[:n]
        poses = Planar(a[kept] / frame.side * np.exp(1j * frame.angle), z[kept])
        return Places(poses(np.broadcast_to(frame.mean - frame.middle, (len(kept), *frame.mean.shape))), evidence)

    def _scores(
        self, bank: ImageBank, side: float, turn: float, quarters: np.ndarray, n: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield place, size with angle, and score of the best windows (m, 3) of one size and angle, complex.

        And how many windows there are, with the sums of their scores and of the squares. So for `turn` and so many
        quarter turns more: the image is looked at once, and the template turned.
        """
        width, height = (int(v) for v in bank.sizes[0])
        step = side / (_CELLS * _CELL)  # pixels of the image for one of the frame
        table, to_level = bank.place(np.array([0]), np.array([False]), np.array([step]))
        a = step * np.exp(1j * turn)
        # The frame is turned about the middle of the image and covers it with a margin of half a window.
        c, s, margin = abs(np.cos(turn)), abs(np.sin(turn)), max(self.weights.shape[:2])
        wide = int(np.ceil((c * width + s * height) / step / _CELL)) + margin
        high = int(np.ceil((s * width + c * height) / step / _CELL)) + margin
        b = 0.5 * complex(width - 1, height - 1) - a * 0.5 * complex(wide * _CELL - 1, high * _CELL - 1)
        cells = np.ascontiguousarray(_cells(bank, table[0], to_level[0], a, b, (high, wide)).transpose(2, 0, 1))
        for quarter in quarters:
            # From x towards y, and so are the directions numbered.
            template = np.roll(np.rot90(self.weights, -quarter), quarter * N_ORIENTATIONS // 4, axis=2)
            rows, columns = template.shape[:2]
            score = np.empty((high - rows + 1, wide - columns + 1), np.float32)
            correlate(cells, np.ascontiguousarray(template), score)
            y, x = np.divmod(np.arange(score.size), score.shape[1])
            z = a * ((x + 0.5 * columns) * _CELL - 0.5 + 1j * ((y + 0.5 * rows) * _CELL - 0.5)) + b
            outside = (z.real < 0) | (z.real > width - 1) | (z.imag < 0) | (z.imag > height - 1)
            values = np.where(outside, -np.inf, score.ravel())
            best = np.argpartition(-values, min(_EACH * n, len(values) - 1))[: _EACH * n]
            inner = values[~outside].astype(np.float64)
            sums = np.array([len(inner), inner.sum(), np.square(inner).sum()])
            pose = side * np.exp(1j * turn) * 1j**quarter
            yield np.stack([z[best], np.full(len(best), pose), values[best]], axis=1), sums


def learn_places(
    crops: Crops, truth: np.ndarray, rows: np.ndarray, frame: Frame, seed: int | None
) -> tuple[Placement, Locator]:
    """Learn from rows of a training, whose shapes (n, K, 2) stand in the crops, how objects stand and look."""
    n = len(rows)
    whole = frame.pose_of(crops.outside(truth, squared=True, rows=rows))
    some = np.unique(np.linspace(0, n - 1, min(n, _MOST_IMAGES)).astype(int))
    poses = frame.pose_of(truth)
    pixel = 0.5 * poses.scale * frame.side / (_CELLS * _CELL)
    bank = ImageBank.join([ImageBank.build([crops[rows[i]]], [None], [pixel[i]]) for i in some])
    placement = Placement.learn(whole, frame, crops.sizes[rows], None if crops.units is None else crops.units[rows])
    return placement, Locator.learn(bank, poses.take(some), frame, np.random.default_rng(seed))


def _size(frame: Frame) -> tuple[int, int]:
    """Return rows and columns of the window round the upright mean shape."""
    extent = np.ptp(frame.upright, axis=0) / frame.side * _CELLS
    columns, rows = (int(np.ceil(v)) + 2 * _BORDER for v in extent)
    return rows, columns


def _moved(poses: Planar, off: np.ndarray, frame: Frame) -> Planar:
    """Move upright poses by fractions of their size, and scale and turn them, off (n, 4)."""
    shift = poses.scale * frame.side * (off[:, 0] + 1j * off[:, 1])
    return Planar(poses.a * np.exp(off[:, 2] + 1j * off[:, 3]), poses.b + shift)


def _windows(bank: ImageBank, index: np.ndarray, upright: Planar, frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """Return the cells (n, rows * columns * 8) of windows in poses whose origin is the middle of the upright shape."""
    rows, columns = size
    step = upright.scale * frame.side / (_CELLS * _CELL)
    a = upright.a * (frame.side / (_CELLS * _CELL))
    b = upright.b - a * 0.5 * complex(columns * _CELL - 1, rows * _CELL - 1)
    table, to_level = bank.place(index, np.zeros(len(index), bool), step)
    out = np.empty((len(index), rows * columns * N_ORIENTATIONS), np.float32)
    for i in range(len(index)):
        out[i] = _cells(bank, table[i], to_level[i], a[i], b[i], size).ravel()
    return out


def _cells(
    bank: ImageBank, row: np.ndarray, to_level: np.ndarray, a: complex, b: complex, size: tuple[int, int]
) -> np.ndarray:
    """Return the cells (rows, columns, 8) of the frame z -> a z + b in an image."""
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    matrix *= to_level[:, :1]
    matrix[:, 2] += to_level[:, 1]
    out = np.empty((*size, N_ORIENTATIONS), np.float32)
    channel_map(bank.buffer, row, matrix, out)
    return out
