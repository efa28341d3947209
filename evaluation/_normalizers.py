"""The lengths that errors are divided by, each taken from the true landmarks alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_numpy, as_shapes
from shape_models.landmarks import get_scheme

_ANCHORED = {
    "inter_ocular": ("outer_eye_corners", "outer eye corners"),
    "inter_pupil": ("pupils", "pupils"),
    "eye_centers": ("eye_corners", "midpoints of the two corners of each eye"),
}
_BOXED = {
    "box_diagonal": "diagonal sqrt(w^2 + h^2) of the box of the true landmarks",
    "box_geometric_mean": "geometric mean sqrt(w h) of the sides of the box of the true landmarks",
}
NORMALIZERS = (*_ANCHORED, *_BOXED)
# Below this fraction of the diagonal of the face a length is an accident of coinciding landmarks, not a size.
_SHORTEST = 1e-3
_SHORTEST_GIVEN = 1e-6  # a given length may be in another unit, but hardly in this one
_CHUNK_VALUES = 1 << 16  # float64 values worked on at once: stays in the second-level cache


def normalizing_distance(
    target: ArrayLike, normalizer: str | float | ArrayLike | Callable[[np.ndarray], ArrayLike], *, scheme: Any = None
) -> np.ndarray:
    """Return the length by which `nme` divides, one for each face.

    Parameters
    ----------
    target : array_like of shape (..., n_landmarks, n_dims)
        True landmarks.
    normalizer, scheme : str, float, array_like or callable; and LandmarkScheme
        As in `nme`.

    Returns
    -------
    ndarray of float64 of shape (...)
        Lengths in the unit of `target`; NaN where the landmarks they need are missing, 0 where they coincide: where the
        length is less than a thousandth of the diagonal of the face, or a given one less than a millionth.

    Raises
    ------
    ValueError
        When the normaliser is unknown or needs a scheme.

    Examples
    --------
    >>> from evaluation import normalizing_distance
    >>> normalizing_distance([[0.0, 0.0], [9.0, 4.0]], "box_geometric_mean")
    array(6.)
    """
    truth = as_shapes(target, name="target", n_dims=(2, 3), allow_nan=True)
    return lengths(truth, normalizer, scheme)[0].reshape(truth.shape[:-2])


# --- inside ----------------------------------------------------------------------------------------------


def as_faces(shapes: np.ndarray) -> np.ndarray:
    return shapes.reshape(-1, *shapes.shape[-2:])


def chunks(faces: np.ndarray) -> Iterator[slice]:
    step = max(1, _CHUNK_VALUES // (faces.shape[1] * faces.shape[2]))
    return (slice(start, start + step) for start in range(0, len(faces), step))


def point_distances(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Euclidean distances of (n, K, d) points: (n, K), NaN where one is missing."""
    with np.errstate(over="ignore", under="ignore"):
        delta = np.subtract(truth, guess, dtype=np.float64)
        x = delta[..., 0]
        square = x * x
        for axis in range(1, delta.shape[-1]):
            y = delta[..., axis]
            square += y * y
    # Squares beyond have overflowed, or lost digits as they are no normal numbers; they are taken again in units.
    if square.max() < 1e300 and square.min() > 1e-280:
        return np.asarray(np.sqrt(square, out=square))
    # zero, missing, or beyond what float64 can square: divide by the largest coordinate first
    scale = np.abs(delta).max(axis=-1)
    if np.isinf(scale).any():
        raise ValueError("prediction: got coordinates whose distance to the target leaves the range of float64.")
    distance = np.sqrt(square)
    wrong = (square < 1e-280) & (scale > 0) | (square > 1e300)  # False for NaN, and for a distance of 0
    scaled = delta[wrong] / scale[wrong, None]
    distance[wrong] = scale[wrong] * np.sqrt((scaled * scaled).sum(axis=-1))
    return np.asarray(distance)


def warn_of_one_landmark(truth: np.ndarray, name: str) -> None:
    """Say that each landmark counts as a face, as it does in the layout of OpenCV: (landmarks, 1, dims)."""
    if truth.shape[-2] == 1 and truth.size > 3 * truth.shape[-1]:
        warnings.warn(
            f"{name}: got shape {truth.shape}, {truth.size // truth.shape[-1]} faces of one landmark each. For the "
            f"landmarks of one face, as OpenCV gives them, try np.squeeze({name}, axis=-2).",
            stacklevel=4,
        )


def lengths(truth: np.ndarray, normalizer: Any, scheme: Any) -> tuple[np.ndarray, str, str]:
    """Lengths of the faces (n,), the words for them, and the name of the scheme."""
    faces = as_faces(truth)
    definition = _scheme(scheme, truth.shape[-2])
    name = "" if definition is None else definition.name
    if isinstance(normalizer, str):
        if normalizer in _ANCHORED:
            length, text = _anchor_distance(faces, normalizer, definition)
        elif normalizer in _BOXED:
            length, text = _box_length(faces, normalizer), f"{normalizer} ({_BOXED[normalizer]})"
        else:
            raise ValueError(
                f"normalizer: got {normalizer!r}; expected one of {', '.join(map(repr, NORMALIZERS))}, a number, an "
                "array with one length for each face, or a function of the true landmarks."
            )
        return _not_too_short(length, faces, _SHORTEST), text, name
    if callable(normalizer):
        text = f"the function {getattr(normalizer, '__name__', type(normalizer).__name__)}"
        length = as_numpy(normalizer(truth), "normalizer")
    else:
        length = as_numpy(normalizer, "normalizer")
        text = f"{length:g}" if length.ndim == 0 and length.dtype.kind in "fiu" else "the given length of each face"
    if length.dtype.kind not in "fiu" or length.shape not in ((), truth.shape[:-2]):
        raise ValueError(
            f"normalizer: got {text} with values of {length.dtype} and shape {length.shape}; expected positive numbers "
            f"of shape () or {truth.shape[:-2]}, one for each face."
        )
    length = length.astype(np.float64)
    if np.isinf(length).any() or (length < 0).any() or (length.ndim == 0 and not length > 0):
        raise ValueError(f"normalizer: got {text} with a negative, zero or infinite value; expected positive lengths.")
    if length.ndim == 0:
        return np.broadcast_to(length, truth.shape[:-2]).reshape(-1), text, name
    return _not_too_short(length.reshape(-1), faces, _SHORTEST_GIVEN), text, name


def _not_too_short(length: np.ndarray, faces: np.ndarray, least: float) -> np.ndarray:
    """Return lengths in which those below a fraction of the size of the face are zero: nothing to divide by."""
    with np.errstate(invalid="ignore"):
        return np.where(length < least * _box_length(faces, "box_diagonal"), 0.0, length)


def _scheme(scheme: Any, n_landmarks: int) -> Any:
    if scheme is None:
        return None
    scheme = get_scheme(scheme)
    if scheme.n_landmarks != n_landmarks:
        raise ValueError(
            f"scheme: {scheme.name} has {scheme.n_landmarks} landmarks; got faces of {n_landmarks}. "
            "Try scheme.subset or convert to bring them together."
        )
    return scheme


def _anchor_distance(faces: np.ndarray, normalizer: str, scheme: Any) -> tuple[np.ndarray, str]:
    key, words = _ANCHORED[normalizer]
    if scheme is None:
        raise ValueError(
            f"normalizer: {normalizer!r} is the distance of the {words}, which only a scheme can find; got "
            "scheme=None. Try scheme=IBUG68 (from shape_models.landmarks) or another scheme of your landmarks."
        )
    if key not in scheme.anchors:
        known = [name for name, (anchor, _) in _ANCHORED.items() if anchor in scheme.anchors]
        raise ValueError(
            f"normalizer: {scheme.name} does not mark the {words}, which {normalizer!r} needs. "
            f"Try {', '.join(map(repr, [*known, *_BOXED]))}."
        )
    ends = [np.asarray(indices, dtype=int).reshape(-1) for indices in scheme.anchors[key]]
    right, left = (faces[:, indices].astype(np.float64).mean(axis=1) for indices in ends)
    points = " and ".join(_indices(indices) for indices in ends)
    length = point_distances(right[:, None], left[:, None])[:, 0]
    # no more than the rounding of the coordinates: the two points are one
    length[length <= 4 * np.finfo(faces.dtype).eps * np.maximum(abs(right), abs(left)).max(axis=1)] = 0.0
    return length, f"{normalizer} ({words}, {points} of {scheme.name})"


def _indices(indices: np.ndarray) -> str:
    if len(indices) > 2 and (np.diff(indices) == 1).all():
        return f"{indices[0]}-{indices[-1]}"
    return "+".join(map(str, indices))


def _box_length(faces: np.ndarray, normalizer: str) -> np.ndarray:
    length = np.empty(len(faces))
    for part in chunks(faces):
        points = np.ascontiguousarray(np.moveaxis(faces[part, :, :2], -1, 0), dtype=np.float64)
        low, high = points.min(axis=-1), points.max(axis=-1)
        if np.isnan(low).any():
            low, high = np.fmin.reduce(points, axis=-1), np.fmax.reduce(points, axis=-1)  # NaN only where all are
        sides = high - low
        # A side no longer than the rounding of the coordinates is none.
        sides[sides <= 4 * np.finfo(faces.dtype).eps * np.maximum(abs(low), abs(high))] = 0.0
        w, h = sides
        length[part] = np.hypot(w, h) if normalizer == "box_diagonal" else np.sqrt(w) * np.sqrt(h)
    return length
