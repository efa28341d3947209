"""How right a search is on images left out of its training: what its calibration is learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ._begin import look_for
from ._calibration import TOLERANCE, Calibration, covered, disturbed, spread_of
from ._checks import check_jitter, check_start
from ._crops import Crops
from ._fitter import Fitter, Searches
from ._images import read_image
from ._judge import Judge, appearance
from ._locator import learn_places
from ._lost import Lost
from ._solver import Search, inside, spread_in_places
from ._starts import boxes_of, filled_shape, jittered
from ._training import Examples, Tell, folds, silent
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


def calibrate(
    fitter: Fitter, examples: Examples, truth: np.ndarray, tell: Tell
) -> tuple[Calibration | None, np.ndarray | None]:
    """Learn from images left out how right landmarks and answers are, by searches that were trained without them.

    Every search starts as in training, on the image as it is and with a part of it hidden. The confidence is
    learned on the answers and on disturbed true shapes, `truth` without gaps.
    """
    rng = np.random.default_rng(fitter.random_state)
    n, images, shapes = len(truth), examples.images, examples.shapes
    groups = np.arange(n) if examples.groups is None else examples.groups
    wanted = fitter.calibration or next(count for most, count in _N_FOLDS if n < most)
    fold = folds(groups, wanted, rng) if len(np.unique(groups)) >= _LEAST_GROUPS else np.zeros(n, dtype=int)
    if n - np.bincount(fold).max() < _LEAST:
        fold = folds(np.arange(n), max(wanted, min(n, 5)), rng)
    tight = boxes_of(truth) if examples.boxes is None else examples.boxes
    n_folds = int(fold.max()) + 1
    n_starts = int(np.clip(round(_N_LEFT_OUT / n), 3, 12))
    landmarks, results, looks, look_folds, n_images = [], [], [], [], 0
    off_by: dict[bool, list[tuple[np.ndarray, ...]]] = {False: [], True: []}  # by whether a part was hidden
    left_out = np.full(truth.shape, np.nan)
    sought: list[tuple[np.ndarray, ...]] = []
    for f in range(n_folds):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        if len(train) < _LEAST:
            return None, None
        part = fitter._blank(calibration=0, evidence=fitter._evidence)
        part._learn(examples.take(train), silent)
        test = np.sort(rng.permutation(test)[: max(1, _N_LEFT_OUT // n_folds)])
        left = examples.take(test)
        side = part._frame.pose_of(truth[test]).scale * part._frame.side
        plain = [read_image(image) for image in left.images]
        pairs = [(image, np.zeros(fitter.n_landmarks_, dtype=bool)) for image in plain]
        for hide in (False, True):
            if hide and not part.evidence_.needs_maps:
                pairs = [
                    covered(image, truth[i], plain[j - 1], rng)
                    for j, (image, i) in enumerate(zip(plain, test, strict=True))
                ]
            shown, hidden = [image for image, _ in pairs], np.array([mask for _, mask in pairs])
            count, wide = (1, 0) if hide else (n_starts, (n_starts + 1) // 2)
            starts = _starts(part, tight[test], left.initial, count, rng, wide)
            found = _search(part, shown, starts, left.heatmaps)
            off = truth[test[found.rows]][:, None] - found.points
            error = np.linalg.norm(off, axis=-1).mean(-1)
            ends = found.points[:, :count].reshape(-1, *truth.shape[1:])
            off = part._frame.pose_of(ends).unturned(off[:, :count].reshape(ends.shape))
            off = off / found.size[:, :count].reshape(-1, 1, 1)
            features = found.landmarks[:, :count].reshape(off.shape)
            off_by[hide].append((off, features, _flat(found.features[:, :count]), _flat(found.looks[:, :count])))
            if not hide:
                left_out[test[found.rows]] = found.points[:, 0]
                spread = spread_of(found.points, found.size)
                error = error / side[found.rows][:, None]
                usual = np.broadcast_to(np.arange(count + wide) < count, error.shape)
                results.append((_flat(found.features), spread.ravel(), error.ravel(), usual.ravel()))
                looks.append(_flat(found.looks))
                look_folds.append(np.full(error.size, f))
                n_images += len(found.rows)
            shapes_shown = disturbed(truth[test], rng)[:, None].repeat(2, axis=1)
            shapes_shown[found.rows, 0] = found.points[:, 0]
            judged = _search(part, shown, shapes_shown, left.heatmaps, max_iter=0)
            rows = judged.rows
            off = np.linalg.norm(judged.points - truth[test[rows]][:, None], axis=-1) / side[rows][:, None, None]
            right = (off <= TOLERANCE) & ~hidden[rows][:, None] & judged.inside
            known = np.broadcast_to(np.isfinite(shapes[test[rows]]).all(-1)[:, None], right.shape) & judged.inside
            landmarks.append((judged.landmarks[known], right[known]))
        if isinstance(images, Crops) and examples.initial is None:
            learned = learn_places(images, truth[train], train, part._frame, part.random_state)
            part.placement_, part._locator = learned
            # Turned objects are looked for too: what is found where there are none is what lost answers look like.
            for wide, most in ((False, _N_WHOLE), (True, _N_TURNED)):
                sought += [_sought(part, images, truth, i, f, wide) for i in test[: max(1, most // n_folds)]]
        tell("calibrating", f + 1, n_folds)
    if n_images < 4:
        return None, None
    features, right = (np.concatenate(column) for column in zip(*landmarks, strict=True))
    answers, spreads, errors, usual = (np.concatenate(column) for column in zip(*results, strict=True))
    judge = None
    if looks[0].shape[1]:
        judge, predicted = Judge.learn(np.concatenate(looks), np.log(errors + _LEAST_ERROR), np.concatenate(look_folds))
        answers = np.concatenate([answers, predicted[:, None]], axis=1)
    calibration = Calibration.learn(features, right, n_images, answers, spreads, errors, usual, judge)
    plain, hid = ([np.concatenate(column) for column in zip(*off_by[hide], strict=True)] for hide in (False, True))
    covered_answers = hid[2] if judge is None else np.concatenate([hid[2], judge(hid[3])[:, None]], axis=1)
    both = zip((plain[0], plain[1], answers[usual]), (hid[0], hid[1], covered_answers), strict=True)
    calibration = calibration.with_scatter(*map(np.concatenate, both))
    if sought:
        features, look, spread, places, error, image, fold = (np.concatenate(c) for c in zip(*sought, strict=True))
        if judge is not None:
            features = np.concatenate([features, judge(look)[:, None]], axis=1)
        near = calibration.expected_error(features, spread)
        lost = Lost.learn(features, spread, places, near, error, image, fold)
        calibration = replace(calibration, lost=lost)
    return calibration, left_out


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
    for f in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
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
    return Tried(*(np.concatenate(column) for column in zip(*tried, strict=True)))
