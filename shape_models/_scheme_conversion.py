"""From one landmark scheme to another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._array import as_shapes
from ._brief import brief
from ._face_schemes import MEDIAPIPE468, MEDIAPIPE478
from ._mediapipe import IBUG68_ERROR, IBUG68_VERTICES
from ._scheme import SCHEMES, LandmarkScheme, SchemeLike, get_scheme
from ._typing import ArrayLike


@brief
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
    """Convert landmarks from one annotation scheme to another; landmarks without a counterpart are NaN.

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


_Table = tuple[dict[int, int], dict[int, dict[int, float]]]  # exact points; interpolated ones and their weights


def _conversions() -> dict[tuple[str, str], _Table]:
    """Return (source, target) -> how each point of the target comes from those of the source.

    The eye has 8 points in WFLW and 6 in iBUG: a third of the way from corner to corner lies between the points at one
    and two quarters, one third of the way to the second.
    """
    found: dict[tuple[str, str], _Table] = {}
    for pair, table in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")).items():
        source, target = pair.split()
        weighted = {int(i): {int(j): w for j, w in row.items()} for i, row in table.get("weighted", {}).items()}
        found[source, target] = {int(i): j for i, j in table["exact"].items()}, weighted
    found["muct68", "ibug68"] = found["muct76", "ibug68"]
    for mesh in ("mediapipe478", "mediapipe468"):
        found[mesh, "ibug68"] = found["mediapipe478", "ibug68"][0], IBUG68_VERTICES
    found["mediapipe478", "mediapipe468"] = {i: i for i in range(468)}, {}
    found["muct76", "muct68"] = {i: i for i in range(68)}, {}
    return found


_CONVERSIONS = _conversions()
_ERRORS = {("mediapipe478", "ibug68"): IBUG68_ERROR, ("mediapipe468", "ibug68"): IBUG68_ERROR}
