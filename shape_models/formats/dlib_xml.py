"""The XML files of dlib's imglab: boxes in images and named parts in boxes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from ..landmarks import LandmarkScheme, get_scheme
from ._record import (
    LandmarkFile,
    LandmarkFileError,
    Missing,
    Source,
    as_files,
    as_points,
    check_scheme,
    mark_missing,
    refuse_frame,
    shorten,
    spell,
    whole_missing,
    write_text,
)

__all__ = ["read_dlib_xml", "write_dlib_xml"]

_MAX_CELLS = 100_000_000
_ESCAPES = str.maketrans({c: f"&#{ord(c)};" for c in "&<>'\"\t\n\r"})
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_dlib_xml(
    path: str | os.PathLike, *, missing: Missing = None, scheme: str | LandmarkScheme | None = None
) -> list[LandmarkFile]:
    """Read the annotated boxes of an imglab file.

    Parameters
    ----------
    path : path
        The file. Entities and document types are refused.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides an absent part: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many parts.

    Returns
    -------
    list of LandmarkFile
        One for each box that has parts. The landmarks are the parts of the whole file, sorted by name, numbers as
        numbers (``2`` before ``10``, which dlib itself sorts as text); a part that a box lacks is missing. Frame
        ``"pixels"``; the labels are the names; the attributes are ``"box"`` (x0, y0, x1, y1, the last pixel
        included) and the other attributes of the box, as text.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the attribute.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_dlib_xml
    >>> text = '''<dataset><images><image file='a.jpg'><box top='1' left='2' width='30' height='40'>
    ... <part name='10' x='5' y='6'/><part name='2' x='3' y='4'/></box></image></images></dataset>'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.xml")
    ...     _ = path.write_text(text)
    ...     file = read_dlib_xml(path)[0]
    >>> file.image_name, file.labels, file.points.tolist(), file.attributes["box"].tolist()
    ('a.jpg', ('2', '10'), [[3.0, 4.0], [5.0, 6.0]], [2.0, 1.0, 31.0, 40.0])
    """
    source = Source(path)
    scheme = None if scheme is None else get_scheme(scheme)
    boxes = _Handler(source).parse()
    names = sorted({name for box in boxes for name in box["parts"]}, key=_order)
    if not names:
        raise source.error("got no parts; expected <part name=... x=... y=.../> in a box.")
    boxes = [box for box in boxes if box["parts"]]
    if len(boxes) * len(names) > _MAX_CELLS:
        raise source.error(f"got {len(boxes)} boxes with {len(names)} names of parts; expected the same names in each.")
    check_scheme(source.path, len(names), scheme)
    absent = (np.nan, np.nan)
    return [
        LandmarkFile(
            mark_missing(whole_missing([box["parts"].get(name, absent) for name in names]), missing), tuple(names),
            scheme, box["image"],
            path=source.path, attributes={"box": box["box"], **box["attributes"]},
        )
        for box in boxes
    ]  # fmt: skip


def _order(name: str) -> tuple:
    number = name.isascii() and name.isdigit() and len(name) < 20
    return (0, int(name), name) if number else (1, 0, name)


class _Handler:
    """What the parser calls; collects boxes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.boxes: list[dict[str, Any]] = []
        self.image: str | None = None
        self.stack: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.StartDoctypeDeclHandler = self.refuse

    def parse(self) -> list[dict[str, Any]]:
        text = re.sub(r"^\s*<\?xml[^>]*\?>", "", self.source.text)  # the text is decoded, whatever it says of itself
        try:
            self.parser.Parse(text.encode("utf-8", "surrogatepass"), True)
        except expat.ExpatError as error:
            raise self.source.error(f"not XML: {expat.ErrorString(error.code)}.", error.lineno) from None
        if not self.boxes:
            raise self.source.error("got no box in an image; expected the layout of imglab.")
        return self.boxes

    def error(self, problem: str) -> LandmarkFileError:
        return self.source.error(problem, self.parser.CurrentLineNumber)

    def refuse(self, *args: Any) -> None:
        raise self.error("got a document type; entities are not expanded, expected plain XML.")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.stack) > 50:
            raise self.error("got more than 50 nested elements; expected the layout of imglab.")
        self.stack.append(tag)
        if tag == "image":
            self.image = attributes.get("file")
        elif tag == "box" and "image" in self.stack:
            left, top, width, height = (self.number("box", attributes, k) for k in ("left", "top", "width", "height"))
            others = {k: v for k, v in attributes.items() if k not in ("left", "top", "width", "height")}
            corners = np.array([left, top, left + width - 1, top + height - 1])
            self.boxes.append({"image": self.image, "box": corners, "attributes": others, "parts": {}})
        elif tag == "part":
            if "box" not in self.stack or not self.boxes:
                raise self.error("part: got one outside a box.")
            name, parts = attributes.get("name"), self.boxes[-1]["parts"]
            if name is None:
                raise self.error("part: got no name; expected one.")
            if name in parts:
                raise self.error(f"part: got the name {shorten(name)!r} twice in one box.")
            parts[name] = (self.number("part", attributes, "x"), self.number("part", attributes, "y"))

    def end(self, tag: str) -> None:
        self.stack.pop()

    def number(self, tag: str, attributes: dict[str, str], key: str) -> float:
        if key not in attributes:
            raise self.error(f"{tag}: got no {key!r}; expected one.")
        value = self.source.number(attributes[key].strip(), f"{tag}: {key}", self.parser.CurrentLineNumber)
        if np.isnan(value) or abs(value) > 1e300:
            raise self.error(f"{tag}: {key}: got {shorten(attributes[key])}; expected a number.")
        return value


def write_dlib_xml(path: str | os.PathLike, landmarks: Any) -> None:
    """Write shapes as boxes with parts that `read_dlib_xml` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, 2) or (n, n_landmarks, 2)
        Labels become the names of parts, else numbers padded with zeros, which sort alike as text and as numbers. A
        missing landmark is left out. The box is the attribute ``"box"`` (x0, y0, x1, y1), else that of the landmarks.
        dlib itself reads whole numbers only: round the points before writing for it.

    Raises
    ------
    LandmarkFileError
        For another frame than ``"pixels"``, three dimensions, a shape without any landmark, a name that XML cannot
        hold, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_dlib_xml, write_dlib_xml
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.xml")
    ...     write_dlib_xml(path, [[3.0, 4.0], [5.5, 6.0]])
    ...     read_dlib_xml(path)[0].points.tolist()
    [[3.0, 4.0], [5.5, 6.0]]
    """
    files = as_files(landmarks, path)
    images: dict[str, list[str]] = {}
    for index, file in enumerate(files):
        refuse_frame(path, file)
        points = as_points(file.points, path, n_dims=(2,))
        seen = ~np.isnan(points).any(axis=1)
        if not seen.any():
            raise LandmarkFileError(f"{Path(path)}: shape {index} has no landmark that is not missing.")
        digits = max(2, len(str(len(points) - 1)))
        labels = file.labels or tuple(f"{i:0{digits}d}" for i in range(len(points)))
        if len(set(labels)) != len(points):
            raise LandmarkFileError(
                f"{Path(path)}: shape {index}: got {len(set(labels))} labels; expected {len(points)}."
            )
        box = file.attributes.get("box")
        if box is None:
            x0, y0 = np.floor(points[seen].min(axis=0)).tolist()
            x1, y1 = np.ceil(points[seen].max(axis=0)).tolist()
        else:
            x0, y0, x1, y1 = np.asarray(box, dtype=float).tolist()
        rows = images.setdefault(file.image_name or "", [])
        frame = {"top": y0, "left": x0, "width": x1 - x0 + 1, "height": y1 - y0 + 1}
        rows.append(f"    <box {' '.join(f'{k}={_quote(path, _whole(v))}' for k, v in frame.items())}>")
        for label, (x, y), kept in zip(labels, points.tolist(), seen.tolist(), strict=True):
            if kept:
                rows.append(f"      <part name={_quote(path, label)} x='{_whole(x)}' y='{_whole(y)}'/>")
        rows.append("    </box>")
    if not images:
        raise LandmarkFileError(f"{Path(path)}: got no shapes; expected at least one.")
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", "<images>"]
    for name, rows in images.items():
        lines += [f"  <image file={_quote(path, name)}>", *rows, "  </image>"]
    write_text(path, "\n".join([*lines, "</images>", "</dataset>", ""]))


def _whole(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else spell(value)


def _quote(path: str | os.PathLike, text: str) -> str:
    if _FORBIDDEN.search(text):
        raise LandmarkFileError(f"{Path(path)}: got the name {shorten(text)!r}, which XML cannot hold.")
    return "'" + text.translate(_ESCAPES) + "'"
