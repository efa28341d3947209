"""What a search comes to in images that it was not trained on, and whether more images would help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np

from ._folds import folds, splits
from ._training import Examples, Tell

_LEAVE_ONE_OUT = 15  # groups; above, they are left out in as many folds as _FOLDS
_FOLDS = 5  # the usual compromise of bias and work (Hastie, Tibshirani, Friedman 2009, section 7.10)
_CURVE_FOLDS = 3  # fewer: each fraction of the images is a training for itself
_FRACTIONS = (1 / 3, 2 / 3, 1.0)  # of the images, whose errors tell whether more images would help
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
    n = len(shapes)
    which = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(which.max()) + 1
    wanted = n_folds or (n_groups if n_groups <= _LEAVE_ONE_OUT else _FOLDS)
    fold = folds(which, wanted, np.random.default_rng(0))
    n_folds = int(fold.max()) + 1
    boxes = np.concatenate([np.nanmin(shapes, axis=1), np.nanmax(shapes, axis=1)], axis=1)
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    spaced = None if spacing is None else np.broadcast_to(np.asarray(spacing, float), (n, 2))
    examples = Examples(images, shapes, None, boxes, groups=None if groups is None else which, spacing=spaced)
    steps = count(1)
    total = n_folds + min(n_folds, _CURVE_FOLDS) * len(_FRACTIONS)

    def step() -> None:
        tell("leaving out", next(steps), total)

    found, boxed, expected = np.full(shapes.shape, np.nan), np.full(shapes.shape, np.nan), np.full(n, np.nan)
    for train, test in splits(fold):
        known, left = examples.take(train), examples.take(test)
        fitter = make()
        fitter.fit(known.images, known.shapes, groups=known.groups, spacing=known.spacing)
        pairs = zip(_searched(fitter, left, boxed=False), _searched(fitter, left, boxed=True), strict=True)
        for i, (own, in_box) in zip(test, pairs, strict=True):
            found[i], boxed[i], expected[i] = own.shape, in_box.shape, own.expected_error
        step()
    curve = _learning_curve(plain, examples, which, fold, size, step)
    error, from_boxes = (_errors(answers, shapes, size) for answers in (found, boxed))
    return CrossValidation(found, boxed, expected, error, from_boxes, size, n_folds, curve)


def _searched(fitter: Any, left: Examples, *, boxed: bool) -> Any:
    return fitter.predict(left.images, boxes=left.boxes if boxed else None, spacing=left.spacing)


def _learning_curve(
    plain: Callable[[], Any], examples: Examples, which: np.ndarray, fold: np.ndarray, size: np.ndarray,
    step: Callable[[], None],
) -> tuple[tuple[int, float, float], ...]:  # fmt: skip
    """Return numbers of images, and the median error in true boxes of what is learned from them with its deviation."""
    curve: dict[int, list[np.ndarray]] = {}
    n_folds = int(fold.max()) + 1
    for f, (train, test) in enumerate(islice(splits(fold), _CURVE_FOLDS)):
        order = np.random.default_rng(f).permutation(np.unique(which[train]))
        for fraction in _FRACTIONS:
            some = train[np.isin(which[train], order[: max(1, round(fraction * len(order)))])]
            if len(some) >= 4:
                known, left, fitter = examples.take(some), examples.take(test), plain()
                fitter.fit(known.images, known.shapes, spacing=known.spacing)
                answers = np.array([answer.shape for answer in _searched(fitter, left, boxed=True)])
                n = round(fraction * (1 - 1 / n_folds) * len(which))
                curve.setdefault(n, []).append(_errors(answers, left.shapes, size[test]))
            step()
    points = []
    for n, errors in sorted(curve.items()):
        values = np.concatenate(errors)
        log = np.log(np.minimum(values, 1.0) + 1e-4)
        points.append((n, float(np.median(values)), float(log.std() / np.sqrt(len(log)))))
    return tuple(points)


def _errors(found: np.ndarray, truth: np.ndarray, size: np.ndarray) -> np.ndarray:
    known = np.isfinite(truth).all(-1)
    off = np.where(known, np.linalg.norm(found - truth, axis=-1), 0.0).sum(1) / known.sum(1) / size
    return np.where(np.isfinite(off), off, np.inf)
