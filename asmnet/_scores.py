"""Errors of faces as cards and reports state them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, TypeGuard

import numpy as np

from evaluation import Interval, bootstrap_interval
from shape_models import LandmarkScheme
from shape_models._typing import ArrayLike

Anchors: TypeAlias = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray]


def check_anchors(anchors: Anchors, n_landmarks: int) -> None:
    """Refuse what is no pair of lists of landmarks."""
    sides = [np.asarray(side) for side in anchors] if isinstance(anchors, tuple | list) else []
    whole = [side.ndim == 1 and side.size > 0 and side.dtype.kind in "iu" for side in sides]
    if len(sides) != 2 or not all(whole) or not all(((side >= 0) & (side < n_landmarks)).all() for side in sides):
        raise ValueError(f"anchors: got {anchors!r}; expected two lists of landmarks, from 0 to {n_landmarks - 1}.")


def mean_interval(values: ArrayLike, groups: ArrayLike | None) -> Interval:
    """Return the mean of errors with its 95 % interval; fewer than two images or persons have none."""
    errors = np.asarray(values, dtype=np.float64)
    known = np.isfinite(errors)
    owner = np.arange(len(errors)) if groups is None else np.asarray(groups)
    if len(set(owner[known])) > 1:
        return bootstrap_interval(errors[known], groups=owner[known])
    mean = float(errors[known].mean()) if known.any() else math.nan
    return Interval(mean, math.nan, math.nan, 0.95, "too few", int(known.sum()))


def known_mean(values: np.ndarray) -> np.ndarray:
    """Return the means of rows (n, m) over what is known of them; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def percent(interval: Interval) -> str:
    """Write an interval of fractions in percent."""
    if math.isnan(interval.low):
        return f"{100 * interval.estimate:.2f} % (too few images for an interval)"
    return f"{100 * interval.estimate:.2f} % ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def has_eyes(scheme: LandmarkScheme | None) -> TypeGuard[LandmarkScheme]:
    """Say whether a scheme, which is then one of faces, has outer eye corners."""
    return scheme is not None and "outer_eye_corners" in scheme.anchors


def normalizer_of(scheme: LandmarkScheme | None) -> str:
    """Return by what errors are divided: the distance of the outer eye corners, or the size of the box."""
    return "inter_ocular" if has_eyes(scheme) else "box_geometric_mean"


def objects_of(scheme: LandmarkScheme | None) -> str:
    """Return what a card calls the things that are measured: faces, where the scheme has eyes."""
    return "faces" if has_eyes(scheme) else "objects"


def eye_offsets(truth: np.ndarray, prediction: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return how far true landmarks (n, K, 2) lie right of and below predicted ones, in true eye distances.

    Right is along the line of the eyes, below at a right angle to it, so that the frame turns with the face.
    """
    # Along the line of the eyes and across it; divided by its length twice, once for the unit vector.
    line, off = eye_line(truth, eye_corners(scheme)), truth - prediction
    below = np.stack([-line[..., 1], line[..., 0]], axis=-1)
    return np.asarray(np.stack([(off * axis).sum(-1) / (line**2).sum(-1) for axis in (line, below)], axis=-1))


def mirror_part(offsets: np.ndarray, mirror: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the part of offsets (..., K, 2) that changes sign in the mirror, which mirrored training cannot learn."""
    # What mirror images agree on, a training with them does learn: it cancels here.
    return np.asarray((offsets + offsets[..., list(mirror), :] * (1.0, -1.0)) / 2)


def depth_errors(truth: np.ndarray, prediction: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of depths (n, K) over sqrt(w h) of the boxes; NaN where a depth is."""
    return np.asarray(np.abs(prediction - truth).mean(axis=1) / np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)))


def check_offset(offset: float) -> None:
    """Refuse offsets that can only be a mistake of units."""
    # The labels of 300-W are off by 0.8 %; a fifth of the eye distance would be another landmark.
    if not isinstance(offset, int | float) or not abs(offset) < 0.2:
        raise ValueError(f"label_offset: got {offset!r}; expected a small fraction of the eye distance.")


def eye_line(shapes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """Return the vector (n, 1, 2) from the eye at the image's left to that at its right."""
    first, second = (shapes[:, list(side)].mean(axis=1) for side in anchors)
    return np.asarray((second - first)[:, None])


def eye_corners(scheme: LandmarkScheme | None) -> Anchors:
    """Return the outer eye corners, first that at the image's left."""
    pair: Anchors | None = None if scheme is None else scheme.anchors.get("outer_eye_corners")
    if pair is None:
        raise ValueError(f"no eye corners are known for {'no scheme' if scheme is None else scheme.name}.")
    return pair
