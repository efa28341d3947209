"""Landmarks that a file gives by name, object by object: one order for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ._record import whole_missing
from ._source import Source, shorten

_MAX_CELLS = 100_000_000  # 800 MB a coordinate: so many there are only where labels are wrong
_NUMBERED = re.compile(r"(.*?)([0-9]{1,19})", re.DOTALL)


def joint_order(names: Sequence[Sequence[str]]) -> list[str]:
    """Return all names in one order: numbered ones by their numbers, others as they are written.

    Names are numbered when all of them are a prefix and a number, such as ``p10``; prefixes keep the order in which
    they appear. Of other names the longest list gives the order, and what it lacks is put behind its predecessor.
    """
    order: list[str] = []
    for some in sorted(names, key=len, reverse=True):
        place, known = 0, set(order)
        for name in some:
            if name in known:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    found = [_NUMBERED.fullmatch(name) for name in order]
    if not all(found):
        return order
    prefixes = list(dict.fromkeys(match[1] for match in found if match))
    return sorted(order, key=lambda name: _key(name, prefixes))


def _key(name: str, prefixes: list[str]) -> tuple[int, int, str]:
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    return prefixes.index(match[1]), int(match[2]), name


def stack(source: Source, objects: Sequence[Mapping[str, Sequence[float]]]) -> tuple[list[str], list[np.ndarray]]:
    """Return the names of the landmarks of all objects and the points of each; what an object lacks is missing."""
    lists = list({tuple(some): None for some in objects})
    n_dims = max((len(point) for some in objects for point in some.values()), default=2)
    if len(objects) * len({name for some in lists for name in some}) > _MAX_CELLS:
        raise source.error(f"got {len(objects)} objects with ever other names of landmarks; expected the same in each.")
    labels = joint_order(lists)
    absent = (np.nan,) * n_dims
    shapes = []
    for some in objects:
        for name, point in some.items():
            if len(point) != n_dims:
                raise source.error(f"{shorten(name)}: got {len(point)} coordinates; expected {n_dims}, as elsewhere.")
        shapes.append(whole_missing([some.get(name, absent) for name in labels]))
    return labels, shapes
