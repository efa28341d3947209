"""Which landmarks are joined: the curves of a scheme, or of files that say how their points are connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..curves import Curve
from ..landmarks import LandmarkScheme

_LEAST_CLOSED = 6  # landmarks; with fewer, the distance of first and last says nothing


def scheme_of(shapes: Any) -> LandmarkScheme | None:
    """Return the scheme of samples: their own, or one of the contours that their ``.asf`` files name."""
    scheme = getattr(shapes, "scheme", None)
    if scheme is not None or isinstance(shapes, np.ndarray) or not hasattr(shapes, "attributes") or not len(shapes):
        return scheme
    columns = [sample.attributes.get("columns") for sample in shapes]
    if any(one is None or not np.array_equal(one, columns[0]) for one in columns):
        return None
    curves = curves_of_connections(columns[0])
    return LandmarkScheme("asf", len(columns[0]), curves=curves) if curves else None


def contours(parts: Mapping[str, Sequence[int]], shapes: np.ndarray) -> LandmarkScheme:
    """Return a scheme in which the landmarks of each part are joined in their order.

    A part is taken for a closed contour where its last landmark stands no farther from its first, on average over
    shapes (n, K, 2), than twice the median distance of neighbours.
    """
    curves = []
    for name, which in parts.items():
        points = shapes[:, list(which)]
        gaps = np.nanmean(np.linalg.norm(np.diff(points, axis=1), axis=-1), axis=0)
        closing = float(np.nanmean(np.linalg.norm(points[:, 0] - points[:, -1], axis=-1)))
        closed = len(which) >= _LEAST_CLOSED and closing <= 2 * float(np.median(gaps))
        curves.append(Curve(list(which), closed=closed, name=name))
    groups = {name: np.array(which) for name, which in parts.items()}
    return LandmarkScheme("parts", shapes.shape[1], groups=groups, curves=curves)


def curves_of_connections(columns: Any) -> list[Curve]:
    """Return the curves of the columns of an ``.asf`` file: path, type, and the points it connects from and to.

    A curve is closed where its points connect back to its first one, and not where an end names itself. Paths too
    short for a curve have none.
    """
    columns = np.asarray(columns)
    curves = []
    for path in dict.fromkeys(columns[:, 0].tolist()):
        points = np.flatnonzero(columns[:, 0] == path)
        before, after = (dict(zip(points.tolist(), columns[points, k].tolist(), strict=True)) for k in (2, 3))
        starts = [i for i in before if before[i] == i or before[i] not in before]
        order = [starts[0] if starts else int(points[0])]
        while after[order[-1]] in after and after[order[-1]] not in order:
            order.append(after[order[-1]])
        closed = len(order) > 3 and after[order[-1]] == order[0] and before[order[0]] == order[-1]
        if len(order) >= 3:
            curves.append(Curve(order, closed=closed, name=f"path_{path}"))
    return curves


def neighbours(n_landmarks: int, edges: Any = None) -> np.ndarray:
    """Return for each landmark the two others, before and after it, whose difference is its tangent, (n_landmarks, 2).

    Edges say which landmarks are joined; without them each landmark lies between those with the numbers before and
    after it. At the end of a line the landmark itself takes the place of the missing neighbour, and a landmark without
    edges is treated as one of a single line. Once around a closed contour all tangents point the same way.
    """
    order = np.arange(n_landmarks)
    result = np.stack([np.maximum(order - 1, 0), np.minimum(order + 1, n_landmarks - 1)], axis=1)
    if edges is None or len(edges) == 0:
        return result
    joined: list[list[int]] = [[] for _ in range(n_landmarks)]
    for a, b in np.asarray(edges, dtype=int):
        joined[a].append(int(b))
        joined[b].append(int(a))
    for k, others in enumerate(joined):
        if len(others) == 1:
            result[k] = sorted((k, others[0]))
        elif others:
            result[k] = _before_and_after(k, others)
    return result


def _before_and_after(k: int, others: list[int]) -> tuple[int, int]:
    """Where a contour closes the numbers leap; at a junction keep the line in which they run on."""
    if len(others) == 2:
        if k + 1 in others and k - 1 not in others:
            return next(j for j in others if j != k + 1), k + 1
        if k - 1 in others and k + 1 not in others:
            return k - 1, next(j for j in others if j != k - 1)
        return min(others), max(others)
    near = sorted(others, key=lambda j: abs(j - k))[:2]
    return min(near), max(near)
