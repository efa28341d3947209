"""How right a search is on images left out of its training: what its calibration is learned from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..boxes import check_boxes
from ._calibration import TOLERANCE, Calibration, covered, disturbed, spread_of
from ._checks import check_jitter, check_start
from ._images import read_image
from ._solver import Search, inside
from ._starts import boxes_of
from ._training import Tell, folds, silent
from .heatmaps import check_maps

__all__ = ["CHUNK", "calibrate"]

CHUNK = 32  # images searched at once by one thread
_N_LEFT_OUT = 600  # images that the calibration looks at, at most
_LEAST_GROUPS = 4  # below, the calibration goes by images: without a group the search would be another one


class Tried(NamedTuple):
    """What searches of left-out images came to: which images, and for each start (n, n_starts, ...) what it found."""

    rows: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    size: np.ndarray
    inside: np.ndarray


def calibrate(
    fitter: Any, images: Any, truth: np.ndarray, shapes: np.ndarray, boxes: Any, groups: Any, heatmaps: Any, tell: Tell
) -> Calibration | None:
    """Learn from images left out how right landmarks and answers are, by searches that were trained without them.

    Every search starts as in training, on the image as it is and with a part of it hidden. The confidence is
    learned on the answers and on disturbed true shapes.
    """
    rng = np.random.default_rng(fitter.random_state)
    n = len(truth)
    groups = np.arange(n) if groups is None else np.asarray(groups)
    if len(np.unique(groups)) < _LEAST_GROUPS:
        groups = np.arange(n)
    fold = folds(groups, fitter.calibration or (5 if n < 200 else 2), rng)
    tight = boxes_of(truth) if boxes is None else check_boxes(boxes, n=n)
    n_folds = int(fold.max()) + 1
    n_starts = int(np.clip(round(_N_LEFT_OUT / n), 3, 12))
    landmarks, results, n_images = [], [], 0
    for f in range(n_folds):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        if len(train) < 4:
            return None
        part = fitter._blank(calibration=0)
        part._learn(
            [images[i] for i in train], shapes[train], None if boxes is None else tight[train],
            groups[train] if len(np.unique(groups[train])) > 1 else None,
            None if heatmaps is None else [heatmaps[i] for i in train], silent,
        )  # fmt: skip
        test = np.sort(rng.permutation(test)[: max(1, _N_LEFT_OUT // n_folds)])
        side = part._frame.pose_of(truth[test]).scale * part._frame.side
        plain = [read_image(images[i]) for i in test]
        pairs: list[Any] = [(image, np.zeros(fitter.n_landmarks_, dtype=bool)) for image in plain]
        for hide in (False, True):
            if hide and not part.evidence_.needs_maps:
                pairs = [
                    covered(image, truth[i], plain[j - 1], rng)
                    for j, (image, i) in enumerate(zip(plain, test, strict=True))
                ]
            shown, hidden = [image for image, _ in pairs], np.array([mask for _, mask in pairs])
            given = None if heatmaps is None else [heatmaps[i] for i in test]
            starts = part.box_.place(
                np.repeat(tight[test], n_starts, axis=0), part._frame, check_jitter(fitter.jitter), rng
            )
            found = _search(part, shown, starts.reshape(len(test), n_starts, -1, 2), given)
            error = np.linalg.norm(found.points - truth[test[found.rows]][:, None], axis=-1).mean(-1)
            if not hide:
                spread = spread_of(found.points, found.size)
                error = error / side[found.rows][:, None]
                results.append((found.features.reshape(-1, found.features.shape[-1]), spread.ravel(), error.ravel()))
                n_images += len(found.rows)
            shapes_shown = disturbed(truth[test], rng)[:, None].repeat(2, axis=1)
            shapes_shown[found.rows, 0] = found.points[:, 0]
            judged = _search(part, shown, shapes_shown, given, max_iter=0)
            rows = judged.rows
            off = np.linalg.norm(judged.points - truth[test[rows]][:, None], axis=-1) / side[rows][:, None, None]
            right = (off <= TOLERANCE) & ~hidden[rows][:, None] & judged.inside
            known = np.broadcast_to(np.isfinite(shapes[test[rows]]).all(-1)[:, None], right.shape) & judged.inside
            landmarks.append((judged.landmarks[known], right[known]))
        tell("calibrating", f + 1, n_folds)
    if n_images < 4:
        return None
    features, right = (np.concatenate(column) for column in zip(*landmarks, strict=True))
    return Calibration.learn(
        features, right, n_images, *(np.concatenate(column) for column in zip(*results, strict=True))
    )


def _search(part: Any, images: list[np.ndarray], starts: np.ndarray, maps: Any, max_iter: int | None = None) -> Tried:
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
            tried.append((rows, outcome.points, outcome.landmarks, outcome.features, outcome.size, seen))
    if not tried:
        raise ValueError("images: none of those left out for the calibration can be searched from its box.")
    return Tried(*(np.concatenate(column) for column in zip(*tried, strict=True)))
