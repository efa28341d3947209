"""What a search comes to in images that it was not trained on, and whether more images would help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._training import Tell

_LEAVE_ONE_OUT = 15  # groups; above, they are left out in as many folds as _FOLDS
_FOLDS = 5  # the usual compromise of bias and work (Hastie, Tibshirani, Friedman 2009, section 7.10)
_CURVE_FOLDS = 3  # fewer: each share of the images is a training for itself
_SHARES = (1 / 3, 2 / 3, 1.0)  # of the images, whose errors tell whether more images would help
_LOST = 0.1  # of the size: an answer farther off is somewhere else


@dataclass(frozen=True)
class CrossValidation:
    """Answers in images left out of the training.

    Attributes
    ----------
    found : ndarray of shape (n, K, 2)
        Without boxes; NaN where there is no answer.
    boxed : ndarray of shape (n, K, 2)
        From the tight boxes of the landmarks.
    expected : ndarray of shape (n,)
        Expected errors of `found`, pixels.
    error, boxed_error : ndarray of shape (n,)
        Mean distance of the landmarks that are known, as a fraction of the size; infinite where nothing was found.
    size : ndarray of shape (n,)
        Longer sides of the boxes, pixels.
    n_folds : int
    curve : tuple of (int, float, float)
        Number of training images, median error from the tight boxes and the standard error of its logarithm.
    """

    found: np.ndarray
    boxed: np.ndarray
    expected: np.ndarray
    error: np.ndarray
    boxed_error: np.ndarray
    size: np.ndarray
    n_folds: int
    curve: tuple[tuple[int, float, float], ...]

    @property
    def lost(self) -> np.ndarray:
        """Which answers are somewhere else."""
        return self.error > _LOST

    @property
    def limit(self) -> tuple[float, float] | None:
        """Error with twice the images and with very many, by the law a + b / n; None where the curve says nothing."""
        if len(self.curve) < 2:
            return None
        n, error = np.array([row[0] for row in self.curve], float), np.array([row[1] for row in self.curve])
        slope, rest = np.polyfit(1 / n, error, 1)
        if slope <= 0:
            return float(error[-1]), float(error[-1])
        return float(max(rest + 0.5 * slope / n[-1], 0.0)), float(max(rest, 0.0))


def interval(
    values: np.ndarray, statistic: Callable[..., Any], groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic by the bootstrap over groups, or over values."""
    rng = np.random.default_rng(0)
    which = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    rows = [np.flatnonzero(which == g) for g in range(int(which.max()) + 1)]
    draws = [
        statistic(values[np.concatenate([rows[g] for g in rng.integers(0, len(rows), len(rows))])]) for _ in range(1000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def cross_validate(
    make: Callable[[], Any],
    plain: Callable[[], Any],
    images: Any,
    shapes: np.ndarray,
    groups: Any,
    spacing: Any,
    n_folds: int | None,
    tell: Tell,
) -> CrossValidation:
    """Train without each group, or without folds of them, and search the images left out.

    Parameters
    ----------
    make, plain : callable
        Make the search that is judged, and a quick one for the learning curve.
    images, shapes, groups, spacing
        As for `ASMFitter.fit`.
    n_folds : int or None
        None leaves one group out where there are at most fifteen, and one fifth of them where there are more.
    tell : callable
    """
    names, which = np.unique(np.arange(len(shapes)) if groups is None else np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups: got a single one; expected at least two, so that one can be left out.")
    n_folds = n_folds or (len(names) if len(names) <= _LEAVE_ONE_OUT else _FOLDS)
    fold = (np.random.default_rng(0).permutation(len(names)) % min(n_folds, len(names)))[which]
    n_folds = int(fold.max()) + 1
    known = np.isfinite(shapes).all(-1)
    boxes = np.concatenate([np.nanmin(shapes, axis=1), np.nanmax(shapes, axis=1)], axis=1)
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    spaced = None if spacing is None else np.broadcast_to(np.asarray(spacing, float), (len(shapes), 2))
    found, boxed = np.full(shapes.shape, np.nan), np.full(shapes.shape, np.nan)
    expected = np.full(len(shapes), np.nan)
    curve: dict[int, list[np.ndarray]] = {}
    total = n_folds + min(n_folds, _CURVE_FOLDS) * len(_SHARES)
    done = 0
    for f in range(n_folds):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        fitter = make()
        fitter.fit(
            [images[i] for i in train],
            shapes[train],
            groups=None if groups is None or len(np.unique(which[train])) < 2 else which[train],
            spacing=None if spaced is None else spaced[train],
        )
        pictures = [images[i] for i in test]
        of_test = None if spaced is None else spaced[test]
        for i, a, b in zip(
            test,
            fitter.predict(pictures, spacing=of_test),
            fitter.predict(pictures, boxes=boxes[test], spacing=of_test),
            strict=True,
        ):
            found[i], boxed[i], expected[i] = a.shape, b.shape, a.expected_error
        done += 1
        tell("leaving out", done, total)
    for f in range(min(n_folds, _CURVE_FOLDS)):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        kept = np.random.default_rng(f).permutation(np.unique(which[train]))
        for share in _SHARES:
            some = train[np.isin(which[train], kept[: max(1, round(share * len(kept)))])]
            done += 1
            if len(some) >= 4:
                fitter = plain()
                fitter.fit([images[i] for i in some], shapes[some], spacing=None if spaced is None else spaced[some])
                answers = fitter.predict(
                    [images[i] for i in test], boxes=boxes[test], spacing=None if spaced is None else spaced[test]
                )
                curve.setdefault(round(share * (1 - 1 / n_folds) * len(shapes)), []).append(
                    _errors(np.array([a.shape for a in answers]), shapes[test], known[test], size[test])
                )
            tell("leaving out", done, total)
    points = []
    for n, errors in sorted(curve.items()):
        values = np.concatenate(errors)
        log = np.log(np.minimum(values, 1.0) + 1e-4)
        points.append((n, float(np.median(values)), float(log.std() / np.sqrt(len(log)))))
    error, from_boxes = (_errors(answers, shapes, known, size) for answers in (found, boxed))
    return CrossValidation(found, boxed, expected, error, from_boxes, size, n_folds, tuple(points))


def _errors(found: np.ndarray, truth: np.ndarray, known: np.ndarray, size: np.ndarray) -> np.ndarray:
    off = np.where(known, np.linalg.norm(found - truth, axis=-1), 0.0).sum(1) / known.sum(1) / size
    return np.where(np.isfinite(off), off, np.inf)
