"""From one landmark scheme to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._array import as_shapes
from ._face_schemes import MEDIAPIPE468, MEDIAPIPE478
from ._mediapipe import IBUG68_ERROR, IBUG68_VERTICES
from ._scheme import SCHEMES, LandmarkScheme, SchemeLike, get_scheme
from ._typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Conversion:
    """Landmarks in another scheme, and how each of them was obtained.

    Parameters
    ----------
    shapes : ndarray of shape (..., n_landmarks, n_dims)
        The converted landmarks; NaN where the source has no such point.
    kinds : tuple of str
        One for each landmark of the target: ``"exact"`` (both schemes annotate this point), ``"interpolated"`` (a
        weighted mean of neighbours, or the nearest point the source has) or ``"missing"``.
    scheme : LandmarkScheme
        The target.
    error : float or None
        Mean error of the interpolated points as a fraction of the distance of the outer eye corners; 0 when no point
        is interpolated, None where it was not measured for want of faces annotated in both schemes.

    Examples
    --------
    >>> from shape_models import convert, make_faces
    >>> result = convert(make_faces(2, rng=0, scheme="wflw98"), "wflw98", "ibug68")
    >>> result.exact.sum(), result.kinds[37], result.error is None
    (np.int64(60), 'interpolated', True)
    """

    shapes: np.ndarray
    kinds: tuple[str, ...]
    scheme: LandmarkScheme
    error: float | None

    @property
    def exact(self) -> np.ndarray:
        """Mask of the landmarks that are exact, of shape (n_landmarks,)."""
        return np.array([kind == "exact" for kind in self.kinds])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.shapes, dtype=dtype, copy=copy)


def convert(shapes: ArrayLike, source: SchemeLike, target: SchemeLike) -> Conversion:
    """Express landmarks of one scheme in another, as far as the two agree.

    Known pairs: WFLW98, COFW29, MUCT76, MUCT68, MEDIAPIPE478 and MEDIAPIPE468 to IBUG68, IBUG68 to COFW29, MUCT76 to
    MUCT68 and MEDIAPIPE478 to MEDIAPIPE468; and of each the way back, with the exact points only. For MediaPipe the
    interpolated points are means of three vertices, learned from images with landmarks of both kinds, and their
    measured error is stated; for the others it is None, as it takes faces that were annotated in both schemes.

    Parameters
    ----------
    shapes : array_like of shape (..., n_landmarks, n_dims)
        Landmarks of the source; a missing one (NaN) leaves what depends on it missing. As MediaPipe answers without
        irises by default, 468 points are taken for ``"mediapipe478"`` too.
    source, target : str or LandmarkScheme
        The two schemes.

    Returns
    -------
    Conversion
        The landmarks, and for each whether it is exact, interpolated or missing.

    Raises
    ------
    ValueError
        For a wrong number of landmarks and for a pair of schemes that is not known.

    Examples
    --------
    >>> from shape_models import convert, make_faces
    >>> result = convert(make_faces(3, rng=0), "ibug68", "cofw29")
    >>> result.shapes.shape, result.kinds.count("exact"), result.kinds.count("missing")
    ((3, 29, 2), 17, 2)
    """
    source, target = get_scheme(source), get_scheme(target)
    if source == MEDIAPIPE478 and np.ndim(shapes) > 1 and np.shape(shapes)[-2] == MEDIAPIPE468.n_landmarks:
        source = MEDIAPIPE468
    array = as_shapes(shapes, n_landmarks=source.n_landmarks, allow_nan=True)
    rules = _rules(source, target)
    depth = max(len(rule) for rule in rules)
    indices = np.zeros((target.n_landmarks, depth), np.intp)
    weights = np.full((target.n_landmarks, depth), np.nan)
    for i, rule in enumerate(rules):
        if rule:
            indices[i] = [index for index, _ in rule] + [rule[0][0]] * (depth - len(rule))
            weights[i] = [weight for _, weight in rule] + [0.0] * (depth - len(rule))
    weights = weights.astype(array.dtype)
    converted = sum(array[..., indices[:, k], :] * weights[:, k, None] for k in range(depth))
    exact = exact_points(source, target)
    kinds = tuple("missing" if not rule else "exact" if i in exact else "interpolated" for i, rule in enumerate(rules))
    error = _ERRORS.get((source.name, target.name)) if "interpolated" in kinds else 0.0
    return Conversion(np.asarray(converted), kinds, target, error)


_Rule = list[tuple[int, float]]


def _rules(source: LandmarkScheme, target: LandmarkScheme) -> list[_Rule]:
    """Return for each landmark of the target the landmarks of the source that it is the weighted sum of."""
    if source == target:
        return [[(i, 1.0)] for i in range(source.n_landmarks)]
    exact = exact_points(source, target)
    table = _CONVERSIONS.get((source.name, target.name), ({}, {}))[1]
    rules: list[_Rule] = []
    for i in range(target.n_landmarks):
        if i in exact:
            rules.append([(exact[i], 1.0)])
        else:
            total = sum(table.get(i, {}).values())
            rules.append([(j, weight / total) for j, weight in table.get(i, {}).items()])
    return rules


def exact_points(source: LandmarkScheme, target: LandmarkScheme) -> dict[int, int]:
    """Return target index -> source index of the points that both annotate."""
    if source == target:
        return {i: i for i in range(source.n_landmarks)}
    known = all(SCHEMES.get(scheme.name) == scheme for scheme in (source, target))
    if known and (source.name, target.name) in _CONVERSIONS:
        return _CONVERSIONS[source.name, target.name][0]
    if known and (target.name, source.name) in _CONVERSIONS:
        return {j: i for i, j in _CONVERSIONS[target.name, source.name][0].items()}
    pairs = "; ".join(f"{a} - {b}" for a, b in _CONVERSIONS)
    raise ValueError(f"got {source.name} to {target.name}; expected one of {pairs}, either way.")


def _conversions() -> dict[tuple[str, str], tuple[dict[int, int], dict[int, dict[int, float]]]]:
    """Return (source, target) -> (exact points, interpolated points with their weights)."""
    # The eye has 8 points in WFLW and 6 in iBUG: a third of the way from corner to corner lies between the points at
    # one and two quarters, one third of the way to the second
    wflw = dict(zip(range(17), range(0, 33, 2), strict=True))
    wflw |= {17 + i: 33 + i for i in range(5)} | {22 + i: 42 + i for i in range(5)} | {27 + i: 51 + i for i in range(9)}
    wflw |= {36: 60, 39: 64, 42: 68, 45: 72} | {48 + i: 76 + i for i in range(20)}
    eyes = {
        37: (61, 62),
        38: (63, 62),
        40: (65, 66),
        41: (67, 66),
        43: (69, 70),
        44: (71, 70),
        46: (73, 74),
        47: (75, 74),
    }
    wflw_eyes = {i: {near: 2.0, far: 1.0} for i, (near, far) in eyes.items()}

    ibug_to_cofw = {
        0: 17, 1: 26, 2: 21, 3: 22, 8: 36, 9: 45, 10: 39, 11: 42, 20: 30, 21: 33, 22: 48, 23: 54, 24: 51, 25: 62,
        26: 66, 27: 57, 28: 8,
    }  # fmt: skip
    cofw_means = {
        4: [19], 6: [24], 12: [37, 38], 13: [40, 41], 14: [43, 44], 15: [46, 47], 16: range(36, 42), 17: range(42, 48),
        18: [31], 19: [35],
    }  # fmt: skip

    muct = {8: 7, 17: 21, 21: 24, 22: 18, 26: 15, 30: 67, 33: 41, 36: 27, 39: 29, 42: 34, 45: 32}
    muct |= {48 + i: 48 + i for i in range(12)} | {61: 65, 62: 64, 63: 63, 65: 62, 66: 61, 67: 60}

    mediapipe = {
        30: 4, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 51: 0, 54: 291, 57: 17, 60: 78, 62: 13, 64: 308, 66: 14,
    }  # fmt: skip

    def means(table: Mapping[int, Iterable[int]]) -> dict[int, dict[int, float]]:
        return {i: dict.fromkeys(indices, 1.0) for i, indices in table.items()}

    return {
        ("wflw98", "ibug68"): (wflw, wflw_eyes),
        ("ibug68", "cofw29"): (ibug_to_cofw, means(cofw_means)),
        ("muct76", "ibug68"): (muct, {}),
        ("muct68", "ibug68"): (muct, {}),
        ("mediapipe478", "ibug68"): (mediapipe, IBUG68_VERTICES),
        ("mediapipe468", "ibug68"): (mediapipe, IBUG68_VERTICES),
        ("mediapipe478", "mediapipe468"): ({i: i for i in range(468)}, {}),
        ("muct76", "muct68"): ({i: i for i in range(68)}, {}),
    }


_CONVERSIONS = _conversions()
_ERRORS = {("mediapipe478", "ibug68"): IBUG68_ERROR, ("mediapipe468", "ibug68"): IBUG68_ERROR}
