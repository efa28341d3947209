"""Errors of faces as cards and reports state them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from asmnet.data import LandmarkDataset
from evaluation import Interval
from shape_models import LandmarkScheme

Anchors: TypeAlias = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray]


def check_anchors(anchors: Anchors, n_landmarks: int) -> None:
    """Refuse what is no pair of lists of landmarks."""
    sides = [np.asarray(side) for side in anchors] if isinstance(anchors, tuple | list) else []
    whole = [side.ndim == 1 and side.size > 0 and side.dtype.kind in "iu" for side in sides]
    if len(sides) != 2 or not all(whole) or not all(((side >= 0) & (side < n_landmarks)).all() for side in sides):
        raise ValueError(f"anchors: got {anchors!r}; expected two lists of landmarks, from 0 to {n_landmarks - 1}.")


def percent(interval: Interval) -> str:
    """Write an interval of fractions in percent."""
    return f"{100 * interval.estimate:.2f} % ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def normalizer_of(scheme: LandmarkScheme | None) -> str:
    """Return by what errors are divided: the distance of the outer eye corners, or the size of the box."""
    return "inter_ocular" if scheme is not None and "outer_eye_corners" in scheme.anchors else "box_geometric_mean"


def offset_along_eyes(truth: np.ndarray, prediction: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return how far true landmarks lie right of predicted ones, (n,), as a fraction of the true eye distance."""
    unit = eye_line(truth, scheme)
    along = ((truth - prediction) * unit).sum(-1) / (unit**2).sum(-1)
    return np.asarray(np.nanmean(along, axis=1))


def eye_line(shapes: np.ndarray, scheme: LandmarkScheme | None) -> np.ndarray:
    """Return the vector (n, 1, 2) from the outer eye corner at the image's left to that at its right."""
    pair = None if scheme is None else scheme.anchors.get("outer_eye_corners")
    if pair is None:
        raise ValueError(f"no eye corners are known for {'no scheme' if scheme is None else scheme.name}.")
    first, second = (shapes[:, list(ends)].mean(axis=1) for ends in pair)
    return np.asarray((second - first)[:, None])


def face_errors(dataset: LandmarkDataset, landmarks: np.ndarray, anchors: Anchors | None) -> np.ndarray:
    """Mean distance of the known landmarks of each face over its eye distance (or the larger side of its box)."""
    distance = np.linalg.norm(landmarks - dataset.landmarks, axis=-1)
    # A landmark that was not found is infinitely wrong; one that is not known does not count.
    distance[np.isnan(distance) & np.isfinite(dataset.landmarks).all(-1)] = np.inf
    if anchors is None:
        size = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]).max(1)
    else:
        right, left = (dataset.landmarks[:, list(side)].mean(1) for side in anchors)
        size = np.linalg.norm(right - left, axis=-1)
    return np.asarray(np.nanmean(distance, axis=1) / size)
