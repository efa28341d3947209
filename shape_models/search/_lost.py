"""Whether a search in a whole image has ended elsewhere than at the object, learned in images left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from .._records import Record

LOST = 0.1  # error, as a fraction of the size, from which an answer is somewhere else
_FAR = 0.5  # error, as a fraction of the size, of an answer that is elsewhere, at least
LEAST = 1e-4  # of the size, added to spreads and errors before their logarithm: no search is so exact
LEAST_SPREAD = 0.05  # of features, most of them logarithms: what hardly differs in training is no measure later
_REACH = 60.0  # of the log-odds, which are moved together


@dataclass(frozen=True)
class Lost(Record):
    """Probability that an answer is not at the object.

    Attributes
    ----------
    weights : tuple of float
        Intercept and slopes of its log-odds: features of the answer, logarithm of its spread, evidence of its place.
    least : float
        Least probability.
    spread : float
        Usual logarithm of the spread, which stands for that of a single start.
    error : float
        Mean error of answers that are elsewhere, as a fraction of the size, at most 1.
    usual : float
        Expected error, as a fraction of the size, of the answers that are chosen in left-out images, the median.
    """

    weights: tuple[float, ...]
    least: float
    spread: float
    error: float
    usual: float

    @classmethod
    def learn(
        cls,
        features: np.ndarray,
        spread: np.ndarray,
        places: np.ndarray,
        near: np.ndarray,
        error: np.ndarray,
        image: np.ndarray,
        fold: np.ndarray,
    ) -> Self:
        """Learn from all answers in left-out images.

        No probability is below 1/2 / (n + 1), and the mean of those of the answers that are chosen not below
        (l + 1/2) / (n + 1), where l of n images are lost when those of each fold are chosen by what the others say: few
        images cannot promise much.

        Parameters
        ----------
        features : ndarray of shape (m, F)
        spread, error : ndarray of shape (m,)
            As for `Calibration.learn`.
        places : ndarray of shape (m, 2)
            Evidence of the places they began at.
        near : ndarray of shape (m,)
            Expected errors of answers at the object.
        image, fold : ndarray of int of shape (m,)
        """
        logs = np.log(spread + LEAST)
        wide, lost = np.concatenate([features, logs[:, None], places], axis=1), error > LOST
        worst = float(np.minimum(error[lost], 1.0).mean()) if lost.any() else 1.0
        images, image = np.unique(image, return_inverse=True)

        def chosen(odds: np.ndarray) -> np.ndarray:
            """Return the answer of each image that is expected to be best."""
            expected = near + expit(odds) * np.maximum(max(worst, _FAR) - near, 0.0)
            return np.array(
                [rows[np.argmin(expected[rows])] for rows in (np.flatnonzero(image == i) for i in range(len(images)))]
            )

        unseen = np.empty(len(lost))
        for f in np.unique(fold):
            rows = fold == f
            unseen[rows] = log_odds(logistic(wide[~rows], lost[~rows]), wide[rows])
        least = 0.5 / (len(images) + 1.0)
        rate = lost[chosen(unseen)].sum() / (len(images) + 1.0) / (1.0 - least)
        weights = logistic(wide, lost)
        odds = log_odds(weights, wide)
        rows, shift = chosen(odds), 0.0
        if expit(odds[rows]).mean() < rate:
            shift = brentq(lambda by: expit(odds[rows] + by).mean() - rate, 0.0, _REACH - odds[rows].min())
        alone = float(np.median(logs[~lost])) if not lost.all() else float(np.median(logs))
        made = cls((weights[0] + shift, *weights[1:]), least, alone, worst, 0.0)
        expected = made.expected(made(features, spread, places), near)
        return replace(made, usual=float(np.median(expected[chosen(odds + shift)])))

    def __call__(self, features: np.ndarray, spread: np.ndarray | None, places: np.ndarray) -> np.ndarray:
        """Return the probability (m,) that answers are elsewhere."""
        logs = np.full(len(features), self.spread) if spread is None else np.log(spread + LEAST)
        odds = log_odds(self.weights, np.concatenate([features, logs[:, None], places], axis=1))
        return np.asarray(self.least + (1.0 - self.least) * expit(odds))

    def expected(self, probability: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return the expected error (m,) of answers that would be off by `near` where the object is.

        What is possible of all of them costs what lost answers cost in training; what an answer is more than that, is
        for what did not occur there, and costs at least half a size.
        """
        usual = np.maximum(self.error - near, 0.0)
        far = np.maximum(max(self.error, _FAR) - near, 0.0)
        return np.asarray(near + self.least * usual + (probability - self.least) * far)


def log_odds(weights: Any, features: np.ndarray) -> np.ndarray:
    """Return what a logistic regression says of features (..., F): the constant comes first."""
    return np.asarray(weights[0] + features @ np.array(weights[1:]))


def logistic(
    features: np.ndarray, yes: np.ndarray, *, penalty: float = 1.0, prior: float = 0.5, standardise: bool = True
) -> tuple[float, ...]:
    """Logistic regression; where all answers are alike the rate alone, with so many more of each kind a priori."""
    if yes.all() or not yes.any():
        return (float(logit((yes.sum() + prior) / (len(yes) + 2 * prior))), *(0.0,) * features.shape[1])
    from sklearn.linear_model import LogisticRegression

    mean, spread = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if standardise:
        mean, spread = features.mean(0), np.maximum(features.std(0), LEAST_SPREAD)
    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit((features - mean) / spread, yes)
    slopes = model.coef_[0] / spread
    return (float(model.intercept_[0] - mean @ slopes), *(float(v) for v in slopes))
