"""Faces drawn from a formula, for documentation and tests: no image, no person, no download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .._array import as_count
from .._options import as_generator
from .._scheme import SchemeLike
from .._typing import Seed
from ..landmarks import IBUG68, get_scheme
from ._samples import Entry, LandmarkSample, LandmarkSamples

__all__ = ["make_face_samples", "make_faces"]

_CENTER = (127.5, 120.0)  # pixels: the middle of 256, and higher, as chins are longer than foreheads are high
_HALF_WIDTH = 70.0  # pixels: a face is a little more than half as wide as its image
_PIVOT = np.array([0.0, 0.0, 0.7])  # heads turn about a point behind the face

_FILE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
# One standard deviation of each trait, in half face widths (angles in degrees).
_TRAITS: dict[str, float] = _FILE["traits"]
# Which curve, drawn in which way, the landmarks of a scheme lie on, and where along it.
_PLACES: dict[str, list[tuple[str, dict[str, Any], list[float]]]] = _FILE["places"]
_KNOWN = (*_PLACES, "muct68")
_YAW, _PITCH, _ROLL = 12.0, 7.0, 5.0  # standard deviations in degrees: about what portraits have


def make_faces(
    n_samples: int = 100, *, scheme: SchemeLike = IBUG68, n_dims: int = 2, rng: Seed | None = None
) -> np.ndarray:
    """Draw plausible faces from a parametric model: proportions, expression, pose and a little noise all vary.

    The model is a set of curves (jaw, brows, eyes, nose, lips) on a rounded face, written for this function; it was
    not learned from images and its statistics are not those of a population.

    Parameters
    ----------
    n_samples : int
        Number of faces.
    scheme : str or LandmarkScheme
        Which landmarks.
    n_dims : {2, 3}
        3 adds the depth z; the two-dimensional faces are the same ones seen from far away (z left out).
    rng : int or numpy.random.Generator, optional
        The same seed gives the same faces, in whatever scheme (up to the noise); None is the seed 0, so that
        documentation repeats itself.

    Returns
    -------
    ndarray of shape (n_samples, n_landmarks, n_dims)
        Pixels of an image 256 wide and high: x to the right, y down, the centre of the first pixel at 0, and z away
        from the viewer (a right-handed frame) with 0 at the tip of the nose of the average face.

    Raises
    ------
    ValueError
        For a scheme this model does not know, a negative `n_samples`, another `n_dims`.

    Examples
    --------
    >>> from shape_models import make_faces
    >>> make_faces(5, rng=0).shape, make_faces(5, rng=0, n_dims=3).shape
    ((5, 68, 2), (5, 68, 3))
    """
    n = as_count(n_samples, "n_samples", 0, expected="a number of faces")
    if n_dims not in (2, 3):
        raise ValueError(f"n_dims: got {n_dims!r}; expected 2 or 3.")
    scheme = get_scheme(scheme)
    if scheme.name not in _KNOWN or scheme != get_scheme(scheme.name):
        raise ValueError(f"scheme: got {scheme!r}; expected one of {', '.join(_KNOWN)}.")
    generator = as_generator(0 if rng is None else rng)
    traits, rotations = _draw_traits(n, generator), _rotations(n, generator)
    scale = _HALF_WIDTH * np.exp(0.07 * _truncated(generator, (n, 1, 1)))
    shift = np.asarray(_CENTER) + 4.0 * _truncated(generator, (n, 1, 2))
    whole = "muct76" if scheme.name == "muct68" else scheme.name
    faces = _build(whole, traits)[:, : scheme.n_landmarks]
    faces += generator.normal(scale=0.006, size=faces.shape)  # last, so that a seed is the same face in any scheme
    faces = ((faces - _PIVOT) @ rotations.swapaxes(1, 2) + _PIVOT) * scale
    faces[..., :2] += shift
    return faces if n_dims == 3 else np.ascontiguousarray(faces[..., :2])


def make_face_samples(
    n_samples: int = 100, *, faces_per_person: int = 4, scheme: SchemeLike = IBUG68, rng: Seed | None = None
) -> LandmarkSamples:
    """Draw faces as the samples of an archive, with persons, for documentation and tests of what takes an archive.

    Parameters
    ----------
    n_samples : int
        Number of faces.
    faces_per_person : int
        How many consecutive samples share a group.
    scheme, rng : optional
        As in `make_faces`.

    Returns
    -------
    LandmarkSamples
        Without images; the box of each is that of its landmarks.

    Examples
    --------
    >>> from shape_models.datasets import make_face_samples
    >>> samples = make_face_samples(10, rng=0)
    >>> samples, samples[5].group
    (LandmarkSamples(10 samples, ibug68), 'person 1')
    """
    as_count(faces_per_person, "faces_per_person", expected="a positive integer")
    scheme = get_scheme(scheme)
    faces = make_faces(n_samples, scheme=scheme, rng=rng)
    entries = [Entry(None, f"person {i // faces_per_person}", None, face, str(i)) for i, face in enumerate(faces)]
    return LandmarkSamples(entries, _load_face, scheme=scheme, named=False)


def _load_face(entry: Entry) -> LandmarkSample:
    face = entry.source
    box = np.concatenate([face.min(axis=0), face.max(axis=0)])
    return LandmarkSample(None, face.copy(), box, {}, entry.group, entry.split)


def _truncated(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return np.clip(generator.standard_normal(size), -2.5, 2.5)


def _draw_traits(n: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    values = _truncated(generator, (n, len(_TRAITS)))
    traits = {name: values[:, i, None] * sd for i, (name, sd) in enumerate(_TRAITS.items())}
    traits["opening"] = np.abs(traits["opening"])
    return traits


def _rotations(n: int, generator: np.random.Generator) -> np.ndarray:
    """Rotation matrices (n, 3, 3): roll about z, then pitch about x, then yaw about y, all small."""
    angles = np.deg2rad(_truncated(generator, (n, 3)) * (_YAW, _PITCH, _ROLL))
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).T, np.sin(angles).T
    one, zero = np.ones(n), np.zeros(n)

    def stack(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.moveaxis(np.array(rows), 2, 0)

    yaw = stack((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    pitch = stack((one, zero, zero), (zero, cp, -sp), (zero, sp, cp))
    roll = stack((cr, -sr, zero), (sr, cr, zero), (zero, zero, one))
    return np.asarray(yaw @ pitch @ roll)


# Each curve takes (place along it, traits) and returns x (image right positive), y (down) and a depth added to that of
# the rounded face; places broadcast against the traits of shape (n, 1). The unit is half the width of the face.
# `side` is -1 for the subject's right (image left), +1 for the left.


Knobs = dict[str, Any]  # what a face is drawn by
Solid = tuple[Any, Any, Any]  # x, y and z along a curve


def _jaw(t: np.ndarray, p: Knobs) -> Solid:
    """From the subject's right temple (t = -1) round the chin (0) to the left one (1)."""
    angle = t * np.pi / 2
    drop = 1.66 * (1 + p["length"]) + 0.7 * p["opening"]
    x = np.sin(angle) * (1 + p["width"]) * (1 + (0.06 + p["jaw"]) * np.sin(2 * np.abs(angle)))
    return x, -0.56 + drop * np.cos(angle), 0.0


def _brow(t: np.ndarray, p: Knobs, side: int, lower: bool) -> Solid:
    """From the outer end (0) to the inner end (1)."""
    x = side * (0.74 - 0.56 * t) * (1 + p["width"])
    arch = 4 * t * (1 - t)
    y = -0.70 - 0.05 * t - 0.10 * arch - p["brow_height"] + p["brow_tilt"] * (t - 0.5)
    return x, y + (0.09 * arch if lower else 0.0), 0.0


def _eye(t: np.ndarray, p: Knobs, side: int, radius: float = 1.0) -> Solid:
    """Round the eye: 0 the outer corner, 1/4 the top, 1/2 the inner corner, 3/4 the bottom."""
    angle = 2 * np.pi * t
    half = 0.18 * (1 + p["eye_size"])
    x = side * (0.415 + p["eye_distance"] + radius * half * np.cos(angle))
    height = np.where(np.sin(angle) > 0, 0.075, 0.045) * (1 + p["eye_opening"]) * (1 + p["eye_size"])
    return x, -0.50 - radius * height * np.sin(angle), 0.06


def _bridge(t: np.ndarray, p: Knobs) -> Solid:
    """From between the eyes (0) to the tip of the nose (1)."""
    return 0.0 * t, -0.52 + 0.52 * t * (1 + p["nose_length"] / 0.52), -0.45 * t**1.3 * (1 + p["profile"])


def _nostrils(t: np.ndarray, p: Knobs) -> Solid:
    """Below the nose, from the subject's right wing (-1) to the left one (1)."""
    y = 0.125 - 0.035 * t**2 + p["nose_length"]
    return 0.21 * t * (1 + p["nose_width"]), y, -0.27 + 0.14 * np.abs(t)


def _wing(t: np.ndarray, p: Knobs, side: int) -> Solid:
    """Along the side of the nose, from the inner corner of the eye (0) to where the wing meets the lip (1)."""
    flare = np.exp(-(((t - 0.82) / 0.18) ** 2))  # the wing itself stands out
    x = side * (0.10 + 0.05 * t + 0.14 * flare) * (1 + p["nose_width"])
    return x, -0.49 + 0.62 * t + p["nose_length"] * t, -0.05 - 0.16 * t


def _lip(t: np.ndarray, p: Knobs, row: int) -> Solid:
    """From the subject's right corner (-1) to the left one (1); rows 0...3 go from the upper edge to the lower."""
    inner = row in (1, 2)
    half = (0.30 if inner else 0.36) * (1 + p["mouth_width"]) + 0.25 * p["smile"]
    arc = np.clip(np.cos(t * np.pi / 2), 0, None) ** 0.75
    bow = 0.02 * np.cos(4 * np.pi * t) * arc * (row == 0)  # the dip in the middle of the upper lip
    rise = (0.13, 0.03, -0.03, -0.18)[row] * (1 + p["lips"])
    y = 0.43 + p["mouth_height"] - rise * arc - bow - p["smile"] * t**2
    y = y + p["opening"] * arc * (1.0 if row > 1 else -0.15)
    return half * t, y, -0.12 * arc


def _lip_gap(t: np.ndarray, p: Knobs) -> Solid:
    """Between the lips."""
    upper, lower = _lip(t, p, 1), _lip(t, p, 2)
    return upper[0], (upper[1] + lower[1]) / 2, upper[2]


def _depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth of the rounded face: 0 in front, nearly 1 at the temples, a receding chin and forehead."""
    return np.asarray(
        0.45 + 0.85 * np.abs(x) ** 2.2 + 0.12 * np.clip(y - 0.2, 0, None) ** 2 + 0.1 * np.clip(-0.4 - y, 0, None)
    )


_CURVES: dict[str, Callable[..., Solid]] = {
    curve.__name__[1:]: curve for curve in (_jaw, _brow, _eye, _bridge, _nostrils, _wing, _lip, _lip_gap)
}


def _build(name: str, traits: dict[str, np.ndarray]) -> np.ndarray:
    parts = []
    for curve, way, places in _PLACES[name]:
        x, y, depth = np.broadcast_arrays(*_CURVES[curve](np.array(places), traits, **way))
        parts.append(np.stack([x, y, _depth(x, y) + depth], axis=-1))
    return np.concatenate(parts, axis=1)
