"""The XML files of dlib's imglab: boxes in images and named parts in boxes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._labelled import stack
from ._record import LandmarkFile, LandmarksLike, Missing, record, spell
from ._source import Source, shorten
from ._target import Target
from ._xml import XmlHandler

__all__ = ["read_dlib_xml", "write_dlib_xml"]

_ESCAPES = str.maketrans({c: f"&#{ord(c)};" for c in "&<>'\"\t\n\r"})
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_.-]*")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_dlib_xml(path: PathLike, *, missing: Missing = None, scheme: SchemeLike | None = None) -> list[LandmarkFile]:
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
        One for each box that has parts and is not marked ``ignore='1'``. The landmarks are the parts of the whole
        file: names that are numbers, with any prefix (``p2`` before ``p10``, which dlib itself sorts as text), in the
        order of the numbers, other names in the order in which they are written; a part that a box lacks is missing.
        Frame ``"pixels"``; the labels are the names; the attributes are ``"box"`` (x0, y0, x1, y1, the last pixel
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
    source = Source.of(path)
    handler = _Handler(source)
    handler.parse()
    if not handler.boxes:
        raise source.error("got no box in an image; expected the layout of imglab.")
    boxes = [box for box in handler.boxes if box["parts"]]
    if not boxes:
        raise source.error("got no parts; expected <part name=... x=... y=.../> in a box.")
    boxes = [box for box in boxes if box["attributes"].get("ignore", "0").strip() in ("", "0")]
    if not boxes:
        raise source.error("got ignore='1' in every box that has parts; expected some that are not ignored.")
    labels, shapes = stack(source, [box["parts"] for box in boxes])
    owns = [{"image_name": box["image"], "attributes": {"box": box["box"], **box["attributes"]}} for box in boxes]
    return [
        record(source, points, labels=labels, scheme=scheme, missing=missing, **own)
        for own, points in zip(owns, shapes, strict=True)
    ]


class _Handler(XmlHandler):
    """Collects boxes."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.boxes: list[dict[str, Any]] = []
        self.image: str | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "image":
            self.image = attributes.get("file")
        elif tag == "box" and "image" in self.stack:
            left, top, width, height = (self.number("box", attributes, k) for k in ("left", "top", "width", "height"))
            others: dict[str, Any] = {
                k: v for k, v in attributes.items() if k not in ("left", "top", "width", "height")
            }
            if "scale" in others:
                others["scale"] = self.number("box", attributes, "scale")
            corners = np.array([left, top, left + width - 1, top + height - 1])
            self.boxes.append({"image": self.image, "box": corners, "attributes": others, "parts": {}})
        elif tag == "part":
            if "box" not in self.stack or not self.boxes:
                raise self.error("part: got one outside a box; expected them in boxes.")
            name, parts = attributes.get("name"), self.boxes[-1]["parts"]
            if name is None:
                raise self.error("part: got no name; expected one.")
            if name in parts:
                raise self.error(f"part: got the name {shorten(name)!r} twice in one box; expected each once.")
            parts[name] = (self.number("part", attributes, "x"), self.number("part", attributes, "y"))


def write_dlib_xml(path: PathLike, landmarks: LandmarksLike) -> None:
    """Write shapes as boxes with parts that `read_dlib_xml` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, 2) or (n, n_landmarks, 2)
        Labels become the names of parts, else numbers padded with zeros, which sort alike as text and as numbers. A
        missing landmark is left out, and must be there in another shape. Identifier, scale and other attributes that
        are text become attributes of the box. Visibility, confidence and curves are not kept.
        The box is the attribute ``"box"`` (x0, y0, x1, y1), else that of the landmarks.
        dlib itself reads whole numbers only: round the points before writing for it.

    Raises
    ------
    LandmarkFileError
        For another frame than ``"pixels"``, three dimensions, a shape without any landmark, a landmark in no
        shape, a name that XML cannot hold, and when the file cannot be written.

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
    target = Target(path)
    files = target.files(landmarks)
    shapes = [target.points(file.points, n_dims=(2,)) for file in files]
    same = len({(len(points), file.labels) for points, file in zip(shapes, files, strict=True)}) == 1
    never = np.flatnonzero(np.isnan(shapes).any(axis=2).all(axis=0)) if same else np.empty(0, int)
    if len(never) and len(never) < len(shapes[0]):
        raise target.error(
            f"landmark {int(never[0])} is missing in every shape; expected it in one, as this format "
            "holds only what is there. Try .csv or .npz.",
        )
    images: dict[str, list[str]] = {}
    for index, file in enumerate(files):
        target.refuse_frame(file, "pixels")
        points = shapes[index]
        seen = ~np.isnan(points).any(axis=1)
        if not seen.any():
            raise target.error(f"shape {index} has no landmark that is not missing; expected one.")
        digits = max(2, len(str(len(points) - 1)))
        labels = file.labels or tuple(f"{i:0{digits}d}" for i in range(len(points)))
        if len(set(labels)) != len(points):
            raise target.error(f"shape {index}: got {len(set(labels))} labels; expected {len(points)}.")
        box = file.attributes.get("box")
        if box is None:
            x0, y0 = np.floor(points[seen].min(axis=0)).tolist()
            x1, y1 = np.ceil(points[seen].max(axis=0)).tolist()
        else:
            x0, y0, x1, y1 = np.asarray(box, dtype=float).tolist()
        rows = images.setdefault(file.image_name or "", [])
        frame = {"top": y0, "left": x0, "width": x1 - x0 + 1, "height": y1 - y0 + 1}
        others = {
            key: str(value)
            for key, value in file.attributes.items()
            if isinstance(value, str | int | float) and _NAME.fullmatch(key) and key not in (*frame, "ignore")
        }
        texts = {**{key: _whole(value) for key, value in frame.items()}, **others}
        rows.append(f"    <box {' '.join(f'{key}={_quote(target, text)}' for key, text in texts.items())}>")
        for label, (x, y), kept in zip(labels, points.tolist(), seen.tolist(), strict=True):
            if kept:
                rows.append(f"      <part name={_quote(target, label)} x='{_whole(x)}' y='{_whole(y)}'/>")
        rows.append("    </box>")
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", "<images>"]
    for name, rows in images.items():
        lines += [f"  <image file={_quote(target, name)}>", *rows, "  </image>"]
    target.write("\n".join([*lines, "</images>", "</dataset>", ""]))


def _whole(value: float) -> str:
    # Up to 1e15 a double writes as an integer without losing a digit.
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else spell(value)


def _quote(target: Target, text: str) -> str:
    if _FORBIDDEN.search(text):
        raise target.error(f"got the name {shorten(text)!r}, which XML cannot hold; expected letters.")
    return "'" + text.translate(_ESCAPES) + "'"
