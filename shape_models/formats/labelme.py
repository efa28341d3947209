"""The JSON files of LabelMe, one an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._labelled import stack
from ._record import LandmarkFile, Missing, record
from ._source import Source, shorten

__all__ = ["read_labelme"]


def read_labelme(
    path: PathLike, *, origin: float = 0, missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    """Read the points that were set in LabelMe.

    Parameters
    ----------
    path : path
        The file.
    origin : float
        The coordinate that the file gives to the centre of the first pixel; it is subtracted. LabelMe itself counts
        from the corner of the image (0.5), but what is written into its files by other programs counts from the centre.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every object must have as many.

    Returns
    -------
    list of LandmarkFile
        One for each ``group_id``, or one where there are none. The labels are those of the points, numbered ones in
        the order of their numbers, others in the order of the file; points that all bear one label have none. Frame
        ``"pixels"``. The attributes are ``"id"`` (the group), ``"box"`` (of a rectangle in the group), ``"curves"``
        (polygons and lines) and ``"image_size"``.

    Raises
    ------
    LandmarkFileError
        With the file and the field, and where a label stands twice in one object.

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from shape_models.formats import read_labelme
    >>> shapes = [{"label": "tip", "points": [[3.5, 4.0]], "shape_type": "point", "group_id": None}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.json")
    ...     _ = path.write_text(json.dumps({"version": "5.2.1", "shapes": shapes, "imagePath": "a.jpg"}))
    ...     file = read_labelme(path)[0]
    >>> file.image_name, file.labels, file.points.tolist()
    ('a.jpg', ('tip',), [[3.5, 4.0]])
    """
    source = Source.of(path)
    content = source.json
    objects: dict[Any, dict[str, Any]] = {}
    for i, shape in enumerate(source.member(content, "shapes", list, "file")):
        where = f"shapes[{i}]"
        label = str(source.member(shape, "label", (str, int), where))
        points = source.member(shape, "points", list, where)
        kind, group = shape.get("shape_type") or "polygon", shape.get("group_id")
        if isinstance(group, list | dict):
            raise source.error(f"{where}.group_id: got {shorten(repr(group))}; expected a number or null.")
        rows = [_point(source, point, f"{where}.points") for point in points]
        some = objects.setdefault(group, {"points": [], "curves": [], "boxes": []})
        if kind in ("point", "points"):
            some["points"] += [(label, row) for row in rows]
        elif kind == "rectangle" and len(rows) == 2:
            low, high = np.min(rows, axis=0), np.max(rows, axis=0)
            some["boxes"].append(np.array([*low, *high]) - origin)
        elif kind in ("polygon", "line", "linestrip") and rows:
            some["curves"].append(np.array(rows) - origin)
    kept = {group: some for group, some in objects.items() if some["points"]}
    if not kept:
        raise source.error("shapes: got no points; expected some of the type 'point'. Try marking landmarks as points.")
    names = {label for some in kept.values() for label, _ in some["points"]}
    if len(names) == 1 and any(len(some["points"]) > 1 for some in kept.values()):
        labels, arrays = None, [np.array([row for _, row in some["points"]]) for some in kept.values()]
    else:
        parts = [_by_label(source, some["points"], group) for group, some in kept.items()]
        labels, arrays = stack(source, parts)
    size = content.get("imageWidth"), content.get("imageHeight")
    files = []
    for (group, some), array in zip(kept.items(), arrays, strict=True):
        attributes: dict[str, Any] = {} if group is None else {"id": group}
        if len(some["boxes"]) == 1:
            attributes["box"] = some["boxes"][0]
        if some["curves"]:
            attributes["curves"] = some["curves"]
        if all(isinstance(n, int) and n > 0 for n in size):
            attributes["image_size"] = size
        image = content.get("imagePath")
        own: dict[str, Any] = {"image_name": image if isinstance(image, str) else None, "attributes": attributes}
        file = record(source, array, labels=labels, scheme=scheme, missing=missing, **own)
        file.points[:] -= origin
        files.append(file)
    return files


def _point(source: Source, point: Any, where: str) -> list[float]:
    if not isinstance(point, list) or len(point) != 2:
        raise source.error(f"{where}: got {shorten(repr(point))}; expected x and y.")
    return [source.json_number(value, where) for value in point]


def _by_label(source: Source, points: list[tuple[str, list[float]]], group: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for label, row in points:
        if label in found:
            where = "the image" if group is None else f"group {shorten(str(group))}"
            raise source.error(
                f"shapes: got the point {shorten(label)!r} twice in {where}; expected it once. "
                "Try a group_id for each object in LabelMe."
            )
        found[label] = row
    return found
