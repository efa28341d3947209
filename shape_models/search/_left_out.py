"""How right a search is on images left out of its training: what its calibration is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ._begin import look_for
from ._calibration import TOLERANCE, Calibration, covered, disturbed, spread_of
from ._checks import check_jitter, check_start
from ._crops import Crops
from ._fitter import Fitter, Searches
from ._folds import folds, splits
from ._images import read_image
from ._judge import Judge, appearance
from ._locator import learn_places
from ._lost import Lost
from ._solver import Search, inside, spread_in_places
from ._starts import boxes_of, filled_shape, jittered
from ._training import Examples, Tell, silent
from .heatmaps import check_maps

CHUNK = 32  # images searched at once by one thread
_N_CHOICE_FOLDS, _N_CHOICE_STARTS = 3, 3  # of the choice between kinds of evidence
_LEAST_ERROR = 0.002  # of the size: smaller ones are as good as none
_WIDE = 2.5  # how many times as far off as in training some starts are, which end in wrong places
_N_LEFT_OUT = 600  # images that the calibration looks at, at most
_N_WHOLE = 40  # of them, at most, in which the object is looked for
_N_TURNED = 20  # of these, at most, in which it is looked for at any angle: up to a second each, where it is small
_N_FOLDS = (100, 5), (200, 3), (np.inf, 2)  # by the number of images: what few of them leave out is missed more
_LEAST_GROUPS = 4  # below, the calibration goes by images: without a group the search would be another one
_LEAST = 3  # images that a fold leaves to learn from; below, it goes by images too


class Tried(NamedTuple):
    """What searches of left-out images came to: which images, and for each start (n, n_starts, ...) what it found."""

    rows: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    size: np.ndarray
    inside: np.ndarray
    looks: np.ndarray


class Errors(NamedTuple):
    """Errors of landmarks (n, K, 2) in the poses of answers, fractions of their sizes, and what they follow from."""

    off: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    looks: np.ndarray


class Answers(NamedTuple):
    """What is known of answers (n,): features, spread of those in an image, error, and whether starts were usual."""

    features: np.ndarray
    spread: np.ndarray
    error: np.ndarray
    usual: np.ndarray
    looks: np.ndarray
    fold: np.ndarray


def calibrate(
    fitter: Fitter, examples: Examples, truth: np.ndarray, tell: Tell
) -> tuple[Calibration | None, np.ndarray | None]:
    """Learn from images left out how right landmarks and answers are, by searches that were trained without them.

    Every search starts as in training, on the image as it is and with a part of it hidden. The confidence is
    learned on the answers and on disturbed true shapes, `truth` without gaps.
    """
    rng = np.random.default_rng(fitter.random_state)
    n, images = len(truth), examples.images
    fold = _folds(examples, fitter.calibration, rng)
    n_folds = int(fold.max()) + 1
    tight = boxes_of(truth) if examples.boxes is None else examples.boxes
    n_starts = int(np.clip(round(_N_LEFT_OUT / n), 3, 12))
    landmarks, answers, sought, n_images = [], [], [], 0
    off: dict[bool, list[Errors]] = {False: [], True: []}  # by whether a part was hidden
    left_out = np.full(truth.shape, np.nan)
    for f, (train, test) in enumerate(splits(fold)):
        if len(train) < _LEAST:
            return None, None
        part = fitter._blank(calibration=0, evidence=fitter._evidence)
        part._learn(examples.take(train), silent)
        test = np.sort(rng.permutation(test)[: max(1, _N_LEFT_OUT // n_folds)])
        left = examples.take(test)
        plain = [read_image(image) for image in left.images]
        pairs = [(image, np.zeros(fitter.n_landmarks_, dtype=bool)) for image in plain]
        for hide in (False, True):
            if hide and not part.evidence_.needs_maps:
                pairs = [
                    covered(image, truth[i], plain[j - 1], rng)
                    for j, (image, i) in enumerate(zip(plain, test, strict=True))
                ]
            counts = (1, 0) if hide else (n_starts, (n_starts + 1) // 2)
            found, own, judged = _tried(part, left, tight[test], truth[test], pairs, counts, rng)
            off[hide].append(own)
            landmarks.append(judged)
            if not hide:
                left_out[test[found.rows]] = found.points[:, 0]
                answers.append(_answers(part, found, truth[test[found.rows]], n_starts, f))
                n_images += len(found.rows)
        if isinstance(images, Crops) and examples.initial is None:
            learned = learn_places(images, truth[train], train, part._frame, part.random_state)
            part.placement_, part._locator = learned
            # Turned objects are looked for too: what is found where there are none is what lost answers look like.
            for wide, most in ((False, _N_WHOLE), (True, _N_TURNED)):
                sought += [_sought(part, images, truth, i, f, wide) for i in test[: max(1, most // n_folds)]]
        tell("calibrating", f + 1, n_folds)
    if n_images < 4:
        return None, None
    return _learned(
        _joined(landmarks), _joined(answers), [_joined(off[hide]) for hide in off], sought, n_images
    ), left_out


def _folds(examples: Examples, wanted: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each image; where groups would leave too few to learn from, they do not count."""
    n = len(examples)
    groups = np.arange(n) if examples.groups is None else examples.groups
    wanted = wanted or next(count for most, count in _N_FOLDS if n < most)
    fold = folds(groups, wanted, rng) if len(np.unique(groups)) >= _LEAST_GROUPS else np.zeros(n, dtype=int)
    if n - np.bincount(fold).max() < _LEAST:
        fold = folds(np.arange(n), max(wanted, min(n, 5)), rng)
    return fold


def _tried(
    part: Searches, left: Examples, boxes: np.ndarray, truth: np.ndarray,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], counts: tuple[int, int], rng: np.random.Generator,
) -> tuple[Tried, Errors, tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Search images, what is hidden in each beside it, and judge landmarks of answers and of disturbed true shapes.

    Returns the answers, the errors of those that began as in training, and of landmarks their features and which of
    them are right.
    """
    count, wide = counts
    shown, hidden = [image for image, _ in pairs], np.array([mask for _, mask in pairs])
    found = _search(part, shown, _starts(part, boxes, left.initial, count, rng, wide), left.heatmaps)
    ends = found.points[:, :count].reshape(-1, *truth.shape[1:])
    off = np.repeat(truth[found.rows], count, axis=0) - ends
    off = part._frame.pose_of(ends).unturned(off) / found.size[:, :count].reshape(-1, 1, 1)
    own = (_flat(values[:, :count]) for values in (found.features, found.looks))
    errors = Errors(off, found.landmarks[:, :count].reshape(off.shape), *own)
    given = disturbed(truth, rng)[:, None].repeat(2, axis=1)
    given[found.rows, 0] = found.points[:, 0]
    judged = _search(part, shown, given, left.heatmaps, max_iter=0)
    rows = judged.rows
    side = part._frame.pose_of(truth[rows]).scale * part._frame.side
    distance = np.linalg.norm(judged.points - truth[rows][:, None], axis=-1) / side[:, None, None]
    right = (distance <= TOLERANCE) & ~hidden[rows][:, None] & judged.inside
    known = np.broadcast_to(np.isfinite(left.shapes[rows]).all(-1)[:, None], right.shape) & judged.inside
    return found, errors, (judged.landmarks[known], right[known])


def _answers(part: Searches, found: Tried, truth: np.ndarray, count: int, fold: int) -> Answers:
    """Return what answers look like and how far off they are; the `count` first ones began as in training."""
    side = part._frame.pose_of(truth).scale * part._frame.side
    error = np.linalg.norm(truth[:, None] - found.points, axis=-1).mean(-1) / side[:, None]
    usual = np.broadcast_to(np.arange(error.shape[1]) < count, error.shape)
    spread = spread_of(found.points, found.size)
    folds_ = np.full(error.size, fold)
    return Answers(_flat(found.features), spread.ravel(), error.ravel(), usual.ravel(), _flat(found.looks), folds_)


def _learned(
    landmarks: tuple[np.ndarray, np.ndarray], answers: Answers, off: list[Errors],
    sought: list[tuple[np.ndarray, ...]], n_images: int,
) -> Calibration:  # fmt: skip
    """Learn from landmarks and answers, from errors with and without a hidden part, and from whole images."""
    features, judge = answers.features, None

    def judged(features: np.ndarray, looks: np.ndarray) -> np.ndarray:
        return features if judge is None else np.concatenate([features, judge(looks)[:, None]], axis=1)

    if answers.looks.shape[1]:
        judge, said = Judge.learn(answers.looks, np.log(answers.error + _LEAST_ERROR), answers.fold)
        features = np.concatenate([features, said[:, None]], axis=1)
    calibration = Calibration.learn(*landmarks, n_images, features, answers.spread, answers.error, answers.usual, judge)
    plain, hidden = off
    both = features[answers.usual], judged(hidden.features, hidden.looks)
    scatter = (np.concatenate(pair) for pair in ((plain.off, hidden.off), (plain.landmarks, hidden.landmarks), both))
    calibration = calibration.with_scatter(*scatter)
    if sought:
        features, look, spread, places, error, image, fold = _joined(sought)
        features = judged(features, look)
        near = calibration.expected_error(features, spread)
        calibration = replace(calibration, lost=Lost.learn(features, spread, places, near, error, image, fold))
    return calibration


def _joined(records: Sequence[Any]) -> Any:
    """Return the columns of records of arrays one behind the other, as one such record."""
    columns = [np.concatenate(column) for column in zip(*records, strict=True)]
    return type(records[0])(*columns) if hasattr(records[0], "_fields") else tuple(columns)


def _sought(
    part: Searches, crops: Crops, truth: np.ndarray, index: int, fold: int, wide: bool
) -> tuple[np.ndarray, ...]:
    """Look for the object in a whole image, and return what `Lost` learns of the answers."""
    whole = crops.outside(truth[[index]], squared=True, rows=[index])
    search = look_for(part, *crops.whole(index), wide=wide)
    outcome = part._solver().solve([search])
    n = len(search.starts)
    spread = spread_in_places(outcome.points, outcome.size, search)
    assert spread is not None
    size = part._frame.pose_of(whole).scale * part._frame.side
    error = np.linalg.norm(outcome.points[0] - whole, axis=-1).mean(axis=-1) / size
    looks = np.empty((n, 0), np.float32)
    if part.evidence_.needs_images:
        looks = appearance(outcome.view)
    return outcome.features[0], looks, spread, search.evidence, error, np.full(n, index), np.full(n, fold)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def left_out_error(fitter: Fitter, examples: Examples) -> float:
    """Return the error of searches in images that they were not trained on, the mean of its logarithm.

    Relative to the size of the shapes. Starts are those of the training; landmarks that are missing do not count.
    """
    rng = np.random.default_rng(fitter.random_state)
    groups = np.arange(len(examples)) if examples.groups is None else examples.groups
    fold = folds(groups, _N_CHOICE_FOLDS, rng)
    errors = []
    for train, test in splits(fold):
        if len(train) < 4:
            continue
        part = fitter._blank()
        part._learn(examples.take(train), silent)
        left = examples.take(test)
        truth = np.array([filled_shape(shape, part._frame, "shapes") for shape in left.shapes])
        tight = boxes_of(truth) if left.boxes is None else left.boxes
        starts = _starts(part, tight, left.initial, _N_CHOICE_STARTS, rng)
        found = _search(part, left.images, starts, None)
        off = np.linalg.norm(found.points - left.shapes[found.rows][:, None], axis=-1)
        errors.append(np.log(np.nanmean(off, axis=-1) / found.size.clip(1e-9) + _LEAST_ERROR).ravel())
    return float(np.concatenate(errors).mean()) if errors else 0.0


def _starts(
    part: Searches, boxes: np.ndarray, initial: np.ndarray | None, n: int, rng: np.random.Generator, wide: int = 0
) -> np.ndarray:
    """Return starts (n_images, n + wide, K, 2) as those of the training, and some that are farther off."""
    jitter = np.array(check_jitter(part.jitter))
    out = []
    for count, factor in ((n, 1.0), (wide, _WIDE)):
        if not count:
            continue
        spread = tuple(np.minimum(factor * jitter, [np.inf, 0.5, np.inf]).tolist())
        if initial is None:
            starts = part.box_.place(np.repeat(boxes, count, axis=0), part._frame, spread, rng)
        else:
            starts = jittered(np.repeat(initial, count, axis=0), spread, rng)
        out.append(starts.reshape(len(boxes), count, -1, 2))
    return np.concatenate(out, axis=1)


def _search(
    part: Searches, images: list[np.ndarray], starts: np.ndarray, maps: Any, max_iter: int | None = None
) -> Tried:
    """Search images from starts (n, n_starts, K, 2), those of them that can be searched."""
    solver = part._solver()
    tried = []
    for first in range(0, len(images), CHUNK):
        begun, rows = [], []
        for i in range(first, min(first + CHUNK, len(images))):
            size = images[i].shape[1::-1]
            try:
                check_start(starts[i, 0], images[i])
                given = None if maps is None else check_maps(maps[i], part.n_landmarks_, size)
                bank = solver.see(images[i], starts[i]) if part.evidence_.needs_images else None
            except ValueError:
                continue
            begun.append(Search(starts[i], np.array(size), bank, given, None))
            rows.append(i)
        if begun:
            outcome = solver.solve(begun, max_iter)
            seen = inside(outcome.points, np.array([search.size for search in begun])[:, None, None])
            looks = np.empty((*outcome.score.shape, 0), np.float32)
            if solver.evidence.needs_images and max_iter is None:
                looks = appearance(outcome.view).reshape(*outcome.score.shape, -1)
            tried.append((rows, outcome.points, outcome.landmarks, outcome.features, outcome.size, seen, looks))
    if not tried:
        raise ValueError("images: none of those left out for the calibration can be searched from its box.")
    return Tried(*_joined(tried))
