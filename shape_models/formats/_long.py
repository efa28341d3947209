"""Tables with one row a landmark: which rows form a shape, and which column names the landmarks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._names import numbers_of, rows_of
from ._labelled import joint_order
from ._record import whole_missing
from ._source import Source, shorten
from ._table import Rows

Shape = tuple[np.ndarray, tuple[str, ...] | None, dict[str, Any]]
IMAGE_COLUMNS = ("image", "image_name", "image_path", "filename", "file_name", "file", "name", "path")
_GROUP_WORDS = set(
    "specimen spec individual ind sample subject case shape image img file filename photo photograph picture frame "
    "face animal patient scan object path".split()
)
_LABEL_WORDS = set(
    "landmark landmarks lm lmk ldk point pt label index idx coord node vertex marker keypoint part".split()
)
_WEAK = ("", "id", "name")  # of the shape, or of the landmark: the rows decide
_VISIBILITY, _CONFIDENCE = ("v", "visibility", "visible"), ("c", "confidence", "likelihood", "score")


def row_numbers(values: Sequence[str]) -> bool:
    return list(values) in ([str(i) for i in range(len(values))], [str(i + 1) for i in range(len(values))])


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def read_long(
    source: Source, names: list[str], lower: list[str], rows: Rows, group: Sequence[str] | None
) -> list[Shape]:
    """Return the shapes of a table with one row a landmark: points, labels and attributes."""
    axes = [lower.index(axis) for axis in "xyz" if axis in lower]
    marks = {
        key: next((lower.index(name) for name in known if name in lower), None)
        for key, known in (("visibility", _VISIBILITY), ("confidence", _CONFIDENCE))
    }
    free = [i for i in range(len(names)) if i not in axes and i not in marks.values()]
    free = [i for i in free if names[i] or not row_numbers([row[i] for _, row in rows])]
    named = [i for i in free if _words(names[i]) & _LABEL_WORDS]
    keys = _keys(source, names, rows, group, free, named)
    parts: dict[tuple[str, ...], Rows] = {}
    for line, row in rows:
        parts.setdefault(tuple(row[i] for i in keys), []).append((line, row))
    if keys and not group and len(parts) > 1 and all(len(members) == 1 for members in parts.values()):
        raise source.error(
            f"{', '.join(names[i] for i in keys)}: got another value in every row, which makes shapes of one landmark; "
            "expected a column that says which rows form a shape. Try group=.",
            rows[0][0],
        )
    label = _label(names, lower, parts, [i for i in free if i not in keys], named)
    shapes: list[Shape] = []
    for members in parts.values():
        attributes: dict[str, Any] = {}
        for i in free:
            values = list(dict.fromkeys(row[i] for _, row in members))
            if i == label or i in named:
                continue
            if len(values) > 1:
                raise source.error(
                    f"{names[i] or 'first column'}: got {shorten(values[0])!r} and {shorten(values[1])!r} in what "
                    "would be one shape; expected one value in each. "
                    f"Try group={names[i]!r} if it says which rows form a shape, "
                    f"or columns={{{names[i]!r}: None}} to leave it out.",
                    members[0][0],
                )
            attributes[names[i]] = values[0]
        if keys and not any(key.lower() in ("id", "") for key in attributes):
            own = [i for i in keys if lower[i] not in IMAGE_COLUMNS]
            telling = [i for i in own if len({key[keys.index(i)] for key in parts}) == len(parts)][:1] or own
            if own:
                attributes["id"] = "_".join(members[0][1][i] for i in telling)
        titles = [names[i] for i in axes]
        points = [source.numbers([row[i] for i in axes], titles, line) for line, row in members]
        labels = None if label is None else tuple(row[label] for _, row in members)
        if labels is not None and len(set(labels)) != len(labels):
            repeated = Counter(labels).most_common(1)[0][0]
            raise source.error(
                f"{names[label or 0]}: got {shorten(repeated)!r} twice in one shape. "
                "Try group= with the column that says which rows form a shape.",
                members[0][0],
            )
        for key, column in marks.items():
            if column is not None:
                attributes[key] = np.array([mark(source, row[column], key, line) for line, row in members])
        shapes.append((whole_missing(points), labels, attributes))
    return _one_order(shapes)


def _one_order(shapes: list[Shape]) -> list[Shape]:
    """Return the shapes with their landmarks in one order; what a shape lacks is missing.

    Numbers that end early count the points of an outline, say, so that nothing is missing there.
    """
    if not shapes or shapes[0][1] is None:
        return shapes
    wanted = tuple(joint_order([labels for _, labels, _ in shapes if labels is not None]))
    counts = numbers_of(wanted) is not None
    found = []
    for points, labels, attributes in shapes:
        if labels is not None and labels != wanted:
            own = wanted if set(labels) != set(wanted[: len(labels)]) or not counts else wanted[: len(labels)]
            order = np.array([labels.index(label) if label in labels else -1 for label in own])
            points, labels = rows_of(points, order), own
            attributes = {
                key: rows_of(value, order, key) if isinstance(value, np.ndarray) else value
                for key, value in attributes.items()
            }
        found.append((points, labels, attributes))
    return found


_FLAGS = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def mark(source: Source, text: str, title: str, line: int) -> float:
    """Return the visibility or confidence that a field spells, also as a word; NaN for an empty one."""
    return source.numbers([_FLAGS.get(text.lower(), text)], [title], line)[0]


def _keys(
    source: Source, names: list[str], rows: Rows, group: Sequence[str] | None, free: list[int], named: list[int]
) -> list[int]:
    """Return the columns that say which rows form a shape."""
    if group is not None:
        for name in group:
            if name not in names:
                raise source.error(f"group: got {name!r}; expected one of {shorten(', '.join(names), 80)}.", 1)
        return [names.index(name) for name in group]
    lower = [name.lower() for name in names]
    keys = [i for i in free if i not in named and (_words(names[i]) & _GROUP_WORDS or lower[i] in IMAGE_COLUMNS[:-2])]
    if keys:
        return keys
    varying = [i for i in free if i not in named and len({row[i] for _, row in rows}) > 1]
    repeating = [i for i in varying if len({row[i] for _, row in rows}) < len(rows)]
    weak = [i for i in repeating if lower[i] in _WEAK]
    if weak:
        return weak[:1]
    # One column that nothing is known of: the shapes, if no landmark then stands twice in one of them.
    if len(varying) == len(repeating) == 1 and named:
        pairs = {(row[repeating[0]], row[named[0]]) for _, row in rows}
        if len(pairs) == len(rows) and len({row[named[0]] for _, row in rows}) < len(rows):
            return repeating
    return []


def _label(
    names: list[str], lower: list[str], parts: Mapping[Any, Rows], free: list[int], named: list[int]
) -> int | None:
    """Return the column that names the landmarks; of several the one that holds words."""
    candidates = [i for i in named if i in free] or [i for i in free if lower[i] in _WEAK]
    distinct = [i for i in candidates if all(len({r[i] for _, r in part}) == len(part) for part in parts.values())]
    if not distinct:
        return candidates[0] if candidates and candidates[0] in named else None
    if not any(i in named for i in distinct) and all(len(part) == 1 for part in parts.values()):
        return None
    return min(distinct, key=lambda i: all(row[i].isdecimal() for part in parts.values() for _, row in part))
