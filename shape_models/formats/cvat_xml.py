"""The XML files of CVAT, for images and for video: points and skeletons."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._labelled import stack
from ._record import LandmarkFile, Missing, record
from ._source import Source, shorten
from ._xml import XmlHandler

__all__ = ["read_cvat_xml"]


def read_cvat_xml(
    path: PathLike, *, origin: float = 0, missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    """Read points and skeletons of CVAT (its formats "CVAT for images" and "CVAT for video", version 1.1).

    Parameters
    ----------
    path : path
        The file. Entities and document types are refused.
    origin : float
        The coordinate that the file gives to the centre of the first pixel; it is subtracted. CVAT itself counts from
        the corner of the image (0.5).
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides a point that is outside or absent: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every object must have as many.

    Returns
    -------
    list of LandmarkFile
        One for each skeleton, with the labels of its points; one for each shape of several points, without labels; and
        one for all shapes of one point in an image (or in one ``group_id``), whose labels are the landmarks. Numbered
        labels stand in the order of their numbers, others in the order of the file. Frame ``"pixels"``. The attributes
        are ``"visibility"`` (0 outside, 1 occluded, 2 visible), ``"label"`` (of the skeleton or shape),
        ``"image_size"``, and of a video ``"id"`` (the track) and ``"frame_number"``.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the attribute.

    References
    ----------
    CVAT, "XML annotation format".

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_cvat_xml
    >>> text = '''<annotations><image id="0" name="a.jpg" width="64" height="48">
    ... <points label="wing" occluded="0" points="1.5,2.0;3.0,4.0"/></image></annotations>'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.xml")
    ...     _ = path.write_text(text)
    ...     file = read_cvat_xml(path)[0]
    >>> file.image_name, file.points.tolist(), file.attributes["label"]
    ('a.jpg', [[1.5, 2.0], [3.0, 4.0]], 'wing')
    """
    source = Source.of(path)
    handler = _Handler(source)
    handler.parse()
    objects = [*handler.objects, *handler.singles.values()]
    objects = [some for some in objects if some["parts"]]
    if not objects:
        raise source.error("got no points and no skeleton; expected some. Try exporting as 'CVAT for images 1.1'.")
    objects.sort(key=lambda some: some["order"])
    kinds: dict[tuple[bool, str | None], list[dict[str, Any]]] = {}
    for some in objects:
        kinds.setdefault((some["named"], some["attributes"].get("label")), []).append(some)
    made: dict[int, LandmarkFile] = {}
    for (named, _), members in kinds.items():
        if named:
            labels, arrays = stack(source, [{name: row[:2] for name, row in some["parts"].items()} for some in members])
        else:
            labels, arrays = None, [np.array([row[:2] for row in some["parts"].values()]) for some in members]
        for some, array in zip(members, arrays, strict=True):
            names = list(some["parts"]) if labels is None else labels
            flags = np.array([some["parts"][name][2] if name in some["parts"] else 0 for name in names])
            own = {"image_name": some["image"], "attributes": {"visibility": flags, **some["attributes"]}}
            file = record(source, array, labels=labels, scheme=scheme, missing=missing, **own)
            file.points[:] -= origin
            made[id(some)] = file
    return [made[id(some)] for some in objects]


class _Handler(XmlHandler):
    """Collects objects: what they are drawn on, and name -> (x, y, visibility) of their points."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.objects: list[dict[str, Any]] = []
        self.singles: dict[Any, dict[str, Any]] = {}
        self.image: dict[str, str] = {}
        self.track: dict[str, str] = {}
        self.skeleton: dict[str, Any] | None = None
        self.count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "image":
            self.image = attributes
        elif tag == "track":
            self.track = attributes
        elif tag == "skeleton":
            self.skeleton = self._object(attributes, named=True)
            self.objects.append(self.skeleton)
        elif tag == "points":
            self._points(attributes)

    def end(self, tag: str) -> None:
        if tag in ("image", "track"):
            self.image, self.track = {}, {}
        elif tag == "skeleton":
            self.skeleton = None

    def _points(self, attributes: dict[str, str]) -> None:
        rows = []
        for pair in filter(None, attributes.get("points", "").split(";")):
            fields = pair.split(",")
            if len(fields) != 2:
                raise self.error(f"points: got {shorten(pair)!r}; expected x,y;x,y ...")
            rows.append([self.number("points", dict(zip("xy", fields, strict=True)), axis) for axis in "xy"])
        flag = 0 if attributes.get("outside") == "1" else 1 if attributes.get("occluded") == "1" else 2
        label = attributes.get("label") or self.track.get("label") or ""
        if self.skeleton is not None:
            x, y = rows[0] if rows else (0.0, 0.0)
            self._add(self.skeleton, label, (x, y, flag if rows else 0))
        elif len(rows) == 1:
            place = self.image.get("name"), self.image.get("id"), attributes.get("frame"), attributes.get("group_id")
            if place not in self.singles:
                self.singles[place] = self._object({**attributes, "label": ""}, named=True)
            self._add(self.singles[place], label, (rows[0][0], rows[0][1], flag))
        elif rows:
            some = self._object({**attributes, "label": label}, named=False)
            some["parts"] = {str(i): (*row, flag) for i, row in enumerate(rows)}
            self.objects.append(some)

    def _add(self, some: dict[str, Any], label: str, row: tuple[float, float, int]) -> None:
        if label in some["parts"]:
            raise self.error(
                f"points: got the label {shorten(label)!r} twice in one object; expected it once. "
                "Try skeletons, or groups, to keep the objects of an image apart."
            )
        some["parts"][label] = row

    def _object(self, attributes: dict[str, str], *, named: bool) -> dict[str, Any]:
        self.count += 1
        own: dict[str, Any] = {}
        label = attributes.get("label") or (self.track.get("label") if "label" not in attributes else None)
        if label:
            own["label"] = label
        if "id" in self.track:
            own["id"] = self.track["id"]
        if attributes.get("frame"):
            own["frame_number"] = attributes["frame"]
        size = [self.image.get(key, "") for key in ("width", "height")]
        if all(text.isascii() and text.isdigit() and 0 < len(text) < 9 for text in size):
            own["image_size"] = (int(size[0]), int(size[1]))
        return {"parts": {}, "named": named, "image": self.image.get("name"), "attributes": own, "order": self.count}
