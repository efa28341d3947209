"""How right a search is, learned on images left out of its training: confidence of landmarks, error of answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import expit

from .._options import checked_header, finite_row
from .._scatter import Scatter
from ._lost import LEAST, LEAST_SPREAD, Lost, log_odds, logistic

if TYPE_CHECKING:
    from ._judge import Judge
    from .evidence import Proposal

TOLERANCE = 0.05  # fraction of the longer side of the shape within which a landmark counts as right
_LOGIT = 12.0  # bound of log-odds: a weight of exactly 0 or 1 is no infinite evidence
_COVER = (0.05, 0.35)  # area of a cover as fractions of the box of the shape
_NOISE = (0.003, 0.06)  # of given shapes, as fractions of the longer side: from a careful annotator to a lost detector
_GROSS = 0.2  # of the landmarks of a shape, at most, that stand somewhere else altogether


def landmark_features(proposal: Proposal, points: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Return what evidence says of shapes that it is shown, (n, K, 2): log-odds of its weights, log of its moves.

    Parameters
    ----------
    proposal : Proposal
        The answer of the evidence to `points`.
    points : ndarray of shape (n, K, 2)
    pixel : ndarray of shape (n,)
        Size of a pixel of the level, in pixels of the image.
    """
    move = np.linalg.norm(np.asarray(proposal.points, dtype=float) - points, axis=-1) / pixel[:, None]
    if proposal.weights is None:
        odds = np.zeros(move.shape)
    else:
        weights = np.asarray(proposal.weights, dtype=float)
        with np.errstate(divide="ignore"):
            odds = np.clip(np.log(weights) - np.log1p(-weights), -_LOGIT, _LOGIT)
    return np.stack([odds, np.log(0.25 + move)], axis=-1)


def result_features(features: np.ndarray, score: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return what tells good answers from bad ones, (n, 6).

    Parameters
    ----------
    features : ndarray of shape (n, K, 2)
        Those of the landmarks of the answers.
    score : ndarray of shape (n,)
        Of the evidence; 0 where it does not judge.
    distance : ndarray of shape (n,)
        Squared Mahalanobis distance of the coefficients, divided by the number of modes.
    """
    odds, move = features[..., 0], features[..., 1]
    surest, farthest = np.quantile(odds, 0.15, axis=1), np.quantile(move, 0.85, axis=1)
    columns = [np.where(np.isfinite(score), score, 0.0), odds.mean(1), surest, move.mean(1), farthest]
    return np.stack([*columns, np.log1p(distance)], axis=1)


def spread_of(answers: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return how far each of several answers (n, s, K, 2) stands from the others, (n, s), as a fraction of the size.

    The median over the other answers of the mean distance of the landmarks.
    """
    n, s = answers.shape[:2]
    apart = np.linalg.norm(answers[:, :, None] - answers[:, None], axis=-1).mean(-1)
    others = apart[:, ~np.eye(s, dtype=bool)].reshape(n, s, s - 1)
    return np.asarray(np.median(others, axis=-1) / size)


@dataclass(frozen=True)
class Calibration:
    """What was learned on images left out: from what the evidence says to probabilities and pixels.

    Attributes
    ----------
    landmark : tuple of float
        Intercept and slopes of the log-odds that a landmark can be seen and is right.
    error, error_with_spread : tuple of float
        Intercept and slopes of the logarithm of the expected error, a fraction of the size of the shape; the second
        for several starts, whose spread is the last feature.
    n_images : int
        Images it was learned from.
    judge : Judge or None
        What sees whether an answer looks like the object; its judgement is one of the features of the errors.
    scatter : Scatter or None
        Errors of single landmarks in fractions of the size, in the pose of the answer: they follow from the features of
        the landmark and the expected error of the answer.
    lost : Lost or None
        Whether an answer is elsewhere than at the object, where nobody said where that is.
    """

    landmark: tuple[float, ...]
    error: tuple[float, ...]
    error_with_spread: tuple[float, ...]
    n_images: int
    judge: Judge | None = None
    scatter: Scatter | None = None
    lost: Lost | None = None

    @classmethod
    def learn(
        cls, landmarks: np.ndarray, right: np.ndarray, n_images: int, results: np.ndarray, spread: np.ndarray,
        error: np.ndarray, usual: np.ndarray | None = None, judge: Judge | None = None,
    ) -> Self:  # fmt: skip
        """Learn from left-out images.

        Parameters
        ----------
        landmarks : ndarray of shape (m, 2)
            Features of landmarks of given shapes.
        right : ndarray of bool of shape (m,)
            Whether each can be seen and is right.
        n_images : int
        results : ndarray of shape (m, 6)
            Features of answers.
        spread, error : ndarray of shape (m,)
            Their distance from the answers of other starts, and from the truth, as fractions of their sizes.
        usual : ndarray of bool of shape (m,), optional
            Answers from starts as far off as in training, whose mean error the expectation keeps; all by default.
        judge : Judge, optional
        """
        usual = np.ones(len(error), dtype=bool) if usual is None else usual
        wide = np.concatenate([results, np.log(spread + LEAST)[:, None]], axis=1)
        alone, together = (_log_linear(part, error, usual) for part in (results, wide))
        own = logistic(landmarks, right, penalty=0.01, prior=1.0, standardise=False)
        return cls(own, alone, together, int(n_images), judge)

    def confidence(self, features: np.ndarray) -> np.ndarray:
        """Return the probability (n, K) that landmarks can be seen and are right."""
        return np.asarray(expit(log_odds(self.landmark, features)))

    def expected_error(self, features: np.ndarray, spread: np.ndarray | None = None) -> np.ndarray:
        """Return the expected error (n,) of answers as a fraction of their sizes."""
        weights = np.array(self.error)
        if spread is not None:
            features = np.concatenate([features, np.log(spread + LEAST)[:, None]], axis=1)
            weights = np.array(self.error_with_spread)
        return np.asarray(np.minimum(np.exp(weights[0] + features @ weights[1:]), 1.0))

    def with_scatter(self, errors: np.ndarray, landmarks: np.ndarray, results: np.ndarray) -> Self:
        """Learn the errors of landmarks too.

        Parameters
        ----------
        errors : ndarray of shape (m, K, 2)
            In the poses of the answers, fractions of their sizes.
        landmarks : ndarray of shape (m, K, 2)
            Their features.
        results : ndarray of shape (m, 6)
            Features of the answers.
        """
        features = _scatter_features(landmarks, self.expected_error(results))
        return replace(self, scatter=Scatter.learn(errors, features))

    def covariance(
        self, landmarks: np.ndarray, expected: np.ndarray, rotation: np.ndarray, size: np.ndarray
    ) -> np.ndarray:
        """Return the covariances (n, K, 2, 2) of true landmarks about answers, NaN where nothing was learned.

        Parameters
        ----------
        landmarks : ndarray of shape (n, K, 2)
            Features.
        expected, size : ndarray of shape (n,)
            Expected errors as fractions of the sizes, and these.
        rotation : ndarray of shape (n, 2, 2)
            Rotations of the poses.
        """
        if self.scatter is None:
            return np.full((*landmarks.shape, 2), np.nan)
        own = self.scatter(_scatter_features(landmarks, expected)) * np.square(size)[:, None, None, None]
        return np.asarray(rotation[:, None] @ own @ np.swapaxes(rotation, 1, 2)[:, None])

    def to_header(self) -> dict[str, Any]:
        """Return the numbers for a file."""
        numbers = {name: list(getattr(self, name)) for name in ("landmark", "error", "error_with_spread")}
        parts = {"scatter": self.scatter, "lost": self.lost}
        records = {name: None if part is None else part.to_header() for name, part in parts.items()}
        return {**numbers, "n_images": self.n_images, **records}

    @classmethod
    @checked_header
    def from_header(cls, header: dict[str, Any] | None, judge: Judge | None = None) -> Self | None:
        """Build from what `to_header` returned and the judge; None for a file that has none."""
        if header is None:
            return None
        landmark, error, wide = (finite_row(header[name]) for name in ("landmark", "error", "error_with_spread"))
        scatter = header.get("scatter")
        scatter = None if scatter is None else Scatter.from_header(scatter)
        lost = Lost.from_header(header.get("lost"))
        return cls(landmark, error, wide, int(header["n_images"]), judge, scatter, lost)


def _scatter_features(landmarks: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return what the errors of landmarks (n, K, 2) follow from, (n, K, 4)."""
    whole = np.broadcast_to(np.log(expected + LEAST)[:, None, None], (*landmarks.shape[:2], 1))
    return np.concatenate([np.ones_like(whole), landmarks, whole], axis=-1)


def _log_linear(features: np.ndarray, error: np.ndarray, usual: np.ndarray) -> tuple[float, ...]:
    """Ridge regression of the logarithm of the error, shifted so that usual ones have the right mean.

    The penalty is that of ten samples, so that few images do not make steep slopes.
    """
    mean, spread = features.mean(0), np.maximum(features.std(0), LEAST_SPREAD)
    z, y = (features - mean) / spread, np.log(error + LEAST)
    slopes = np.linalg.solve(z.T @ z + 10.0 * np.eye(z.shape[1]), z.T @ (y - y.mean())) / spread
    linear = features @ slopes
    return (float(np.log(error[usual].mean()) - np.log(np.exp(linear[usual]).mean())), *(float(v) for v in slopes))


def covered(
    image: np.ndarray, shape: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hide a part of a shape in a copy of its image, and say which landmarks (K,) are hidden.

    A rectangle that is grey, noise, or a piece of another image, with its middle inside the box of the shape.

    Parameters
    ----------
    image : ndarray of shape (height, width) or (height, width, n_channels)
    shape : ndarray of shape (K, 2)
    other : ndarray of shape (height, width) or (height, width, n_channels)
        Where the piece is taken from.
    rng : numpy.random.Generator
    """
    image = np.array(image)
    height, width = image.shape[:2]
    low, high = shape.min(0), shape.max(0)
    w, h = np.maximum(high - low, 1.0)
    area, ratio = rng.uniform(*_COVER) * w * h, 2.0 ** rng.uniform(-1.5, 1.5)
    half = 0.5 * np.array([min(1.2 * w, np.sqrt(area * ratio)), min(1.2 * h, np.sqrt(area / ratio))])
    middle = rng.uniform(low, high)
    x0, y0 = np.clip(np.round(middle - half), 0, [width, height]).astype(int)
    x1, y1 = np.clip(np.round(middle + half), 0, [width, height]).astype(int)
    part = image[y0:y1, x0:x1]
    darkest, brightest = float(image.min()), float(image.max())
    kind = rng.integers(3)
    if part.size and kind == 0:
        part[...] = np.asarray(rng.uniform(darkest, brightest)).astype(image.dtype)
    elif part.size and kind == 1:
        part[...] = (darkest + (brightest - darkest) * rng.random(part.shape)).astype(image.dtype)
    elif part.size:
        grey = other if other.ndim == 2 else other[..., :3].mean(-1)
        rows = (rng.integers(grey.shape[0]) + np.arange(part.shape[0])) % grey.shape[0]
        columns = (rng.integers(grey.shape[1]) + np.arange(part.shape[1])) % grey.shape[1]
        piece = grey[np.ix_(rows, columns)].astype(float)
        piece = darkest + (piece - piece.min()) / max(float(np.ptp(piece)), 1e-12) * (brightest - darkest)
        part[...] = (piece if part.ndim == 2 else piece[..., None]).astype(image.dtype)
    inside = (shape >= [x0 - 0.5, y0 - 0.5]).all(-1) & (shape < [x1 - 0.5, y1 - 0.5]).all(-1)
    return image, np.asarray(inside)


def disturbed(shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move landmarks (n, K, 2) as detectors do: all together, each for itself, and a few of them far away."""
    n, k = shapes.shape[:2]
    side = np.ptp(shapes, axis=1).max(axis=-1)[:, None, None]
    low, high = _NOISE
    noise = low * (high / low) ** rng.random((n, 1, 1)) * side / np.sqrt(2)
    out = shapes + noise * (rng.normal(size=shapes.shape) + rng.normal(size=(n, 1, 2))) / np.sqrt(2)
    far = rng.random((n, k)) < _GROSS * rng.random((n, 1))
    return np.asarray(out + far[..., None] * rng.uniform(-0.2, 0.2, size=shapes.shape) * side)
