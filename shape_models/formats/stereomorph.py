"""The shape files of StereoMorph: landmarks, curves and a scale between tags that look like XML."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._options import check_flags
from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, Missing, record, whole_missing
from ._source import Source, shorten

__all__ = ["read_stereomorph"]

_TAG = re.compile(r"<(/?)([A-Za-z_.][\w.\- ]*?)(?:\s+type=[^>]*)?\s*>")
_LANDMARKS = ("landmarks.pixel", "landmarks.scaled", "landmarks")
_CURVES = ("curves.pixel", "curves.scaled", "curves")


def is_stereomorph(source: Source) -> bool:
    """Whether a text file looks like one of StereoMorph."""
    return bool(re.search(r"<(landmarks|curves)(\.\w+)?[\s>]|<shapes[\s>]", source.text[:200_000]))


def read_stereomorph(
    path: PathLike, *, scaled: bool = False, missing: Missing = None, scheme: SchemeLike | None = None
) -> LandmarkFile:
    r"""Read a shape file of StereoMorph.

    Parameters
    ----------
    path : path
        The file, ``.txt``.
    scaled : bool
        Read the scaled landmarks and curves instead of those in pixels.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides ``NA``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile
        Frame ``"pixels"``, of scaled and of reconstructed landmarks ``"physical"``; the labels are the names of the
        landmarks. The attributes are ``"scale"``, ``"curves"`` and ``"curve_names"``.

    Raises
    ------
    LandmarkFileError
        With the file and the line.

    References
    ----------
    A. M. Olsen, M. W. Westneat, "StereoMorph: an R package for the collection of 3D landmarks and curves using a stereo
    camera set-up", Methods in Ecology and Evolution 6, 2015.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_stereomorph
    >>> text = '''<shapes type=list>
    ... <landmarks.pixel type=matrix rownames=TRUE as.numeric=TRUE >
    ... \ttip\t3.5\t4
    ... </landmarks.pixel>
    ... </shapes>'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.txt")
    ...     _ = path.write_text(text)
    ...     file = read_stereomorph(path)
    >>> file.labels, file.points.tolist()
    (('tip',), [[3.5, 4.0]])
    """
    check_flags(scaled=scaled)
    source = Source.of(path)
    blocks = _blocks(source)
    wanted = ("landmarks.scaled", "curves.scaled") if scaled else ("landmarks.pixel", "curves.pixel")
    spatial = "landmarks" in blocks or "curves" in blocks
    marks, lines = ("landmarks", "curves") if spatial and wanted[0] not in blocks else wanted
    labels, points = _landmarks(source, blocks.get(marks, []))
    names, curves = _curves(source, blocks, lines)
    if not labels and not curves:
        known = ", ".join(name for name in (*_LANDMARKS, *_CURVES) if name in blocks) or "neither landmarks nor curves"
        raise source.error(f"got {known}; expected {marks} or {lines}. Try scaled={not scaled}.")
    attributes: dict[str, Any] = {}
    text = _value(blocks, "scaling")
    if text not in ("", "NA"):
        attributes["scale"] = source.number(text, "scaling")
    if curves:
        attributes |= {"curves": curves, "curve_names": names}
    frame = "pixels" if marks == "landmarks.pixel" else "physical"
    image = _value(blocks, "image.name") or _value(blocks, "image.filename") or None
    if not labels:
        n_dims = curves[0].shape[1]
        return LandmarkFile(np.empty((0, n_dims)), None, None, image, frame, path=source.path, attributes=attributes)
    own: dict[str, Any] = {"image_name": image, "frame": frame, "attributes": attributes}
    return record(source, points, labels=labels, scheme=scheme, missing=missing, **own)


_Block = list[tuple[int, list[str]]]


def _blocks(source: Source) -> dict[str, _Block]:
    """Return what stands between tags, by the names of the tags with those round them before a slash."""
    blocks: dict[str, _Block] = {}
    stack: list[str] = []
    for number, line in source.lines():
        place = 0
        for tag in [*_TAG.finditer(line), None]:
            text = line[place : tag.start() if tag else len(line)].strip()
            if text:
                fields = text.split("\t") if "\t" in text else text.split()
                blocks.setdefault("/".join(stack), []).append((number, fields))
            if tag is None:
                break
            place = tag.end()
            if not tag[1]:
                if len(stack) > 20:
                    raise source.error("got more than 20 nested tags; expected a file of StereoMorph.", number)
                if tag[2] != "shapes":
                    stack.append(tag[2])
                    blocks.setdefault("/".join(stack), [])
            elif stack and stack[-1] == tag[2]:
                stack.pop()
            elif tag[2] != "shapes":
                last = stack[-1] if stack else "nothing"
                raise source.error(f"got {shorten(tag[0])!r}; expected the end of {last}.", number)
    return blocks


def _value(blocks: dict[str, _Block], name: str) -> str:
    rows = blocks.get(name) or []
    return " ".join(rows[0][1]).strip() if rows else ""


def _landmarks(source: Source, rows: _Block) -> tuple[list[str], list[list[float]]]:
    labels: list[str] = []
    points: list[list[float]] = []
    for number, fields in rows:
        if len(fields) not in (3, 4) or (points and len(fields) != len(points[0]) + 1):
            raise source.error(f"got {len(fields)} fields; expected a landmark's name and coordinates.", number)
        label = fields[0].strip()
        if label in labels:
            raise source.error(f"got the landmark {shorten(label)!r} twice; expected different names.", number)
        labels.append(label)
        points.append([source.number(t.strip(), axis, number) for t, axis in zip(fields[1:], "xyz", strict=False)])
    return labels, points


def _curves(source: Source, blocks: dict[str, _Block], wanted: str) -> tuple[list[str], list[np.ndarray]]:
    """Return the curves: a tag for each, or rows that begin with its name."""
    named: dict[str, list[list[float]]] = {}
    for name, rows in blocks.items():
        if name != wanted and not name.startswith(wanted + "/"):
            continue
        for number, fields in rows:
            if name == wanted:
                curve, fields = fields[0].strip(), fields[1:]
            else:
                curve = name.removeprefix(wanted + "/")
            if len(fields) not in (2, 3):
                raise source.error(f"got {len(fields)} fields; expected the coordinates of a point.", number)
            point = [source.number(t.strip(), axis, number) for t, axis in zip(fields, "xyz", strict=False)]
            points = named.setdefault(curve, [])
            if points and len(points[0]) != len(point):
                raise source.error(f"got {len(point)} coordinates; expected {len(points[0])}, as before.", number)
            points.append(point)
    return list(named), [whole_missing(points) for points in named.values()]
