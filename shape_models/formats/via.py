"""Point regions of the VGG Image Annotator: its JSON of versions 1 to 3, and its table with JSON in the cells."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._labelled import stack
from ._record import LandmarkFile, Missing, record
from ._source import Source, shorten
from ._table import read_table

__all__ = ["read_via"]


def read_via(
    path: PathLike, *, label: str | None = None, missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    """Read the points that were set in the VGG Image Annotator.

    Parameters
    ----------
    path : path
        A project of version 2 or 3, or annotations exported as JSON or as CSV.
    label : str, optional
        The region attribute that names the landmarks; by default the one whose values differ among the points of every
        image. Without any the landmarks have no labels and stand in the order of the file.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides an absent region: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every image must have as many.

    Returns
    -------
    list of LandmarkFile
        One for each image with points, frame ``"pixels"``; a landmark that an image lacks is missing. The attributes
        are ``"box"`` (of a rectangle, where there is one) and ``"curves"`` (polylines and polygons).

    Raises
    ------
    LandmarkFileError
        With the file and the field.

    References
    ----------
    A. Dutta, A. Zisserman, "The VIA Annotation Software for Images, Audio and Video", ACM Multimedia, 2019.

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from shape_models.formats import read_via
    >>> region = {"shape_attributes": {"name": "point", "cx": 3, "cy": 4}, "region_attributes": {"part": "tip"}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.json")
    ...     _ = path.write_text(json.dumps({"a.jpg9": {"filename": "a.jpg", "regions": [region]}}))
    ...     file = read_via(path)[0]
    >>> file.image_name, file.labels, file.points.tolist()
    ('a.jpg', ('tip',), [[3.0, 4.0]])
    """
    source = Source.of(path)
    images = _from_table(source) if source.path.suffix.lower() == ".csv" else _from_json(source)
    found = []
    for name, regions in images:
        shapes = [_shape(source, region, f"{shorten(name)}: regions[{i}]") for i, region in enumerate(regions)]
        if any(kind == "point" for kind, _, _ in shapes):
            found.append((name, shapes))
    if not found:
        raise source.error("got no region that is a point; expected some. Try marking landmarks as points.")
    marks = [[attributes for kind, _, attributes in shapes if kind == "point"] for _, shapes in found]
    points = [[rows[0] for kind, rows, _ in shapes if kind == "point"] for _, shapes in found]
    key = _key(source, marks, label)
    if key is None:
        labels, arrays = None, [np.array(some) for some in points]
    else:
        pairs = [zip(some, rows, strict=True) for some, rows in zip(marks, points, strict=True)]
        labels, arrays = stack(source, [{str(mark[key]): row for mark, row in some} for some in pairs])
    files = []
    for (name, shapes), array in zip(found, arrays, strict=True):
        attributes: dict[str, Any] = {}
        boxes = [rows for kind, rows, _ in shapes if kind == "rect"]
        if len(boxes) == 1:
            attributes["box"] = np.array(boxes[0]).ravel()
        curves = [np.array(rows) for kind, rows, _ in shapes if kind in ("polygon", "polyline")]
        if curves:
            attributes["curves"] = curves
        files.append(
            record(source, array, labels=labels, image_name=name, scheme=scheme, missing=missing, attributes=attributes)
        )
    return files


_Images = list[tuple[str, list[Any]]]  # name and regions of each
_KINDS = {1: "point", 2: "rect", 5: "polyline", 6: "polyline", 7: "polygon"}  # of version 3, by their number


def _from_json(source: Source) -> _Images:
    content = source.json
    if isinstance(content, dict) and "_via_img_metadata" not in content and {"file", "metadata"} <= content.keys():
        return _from_version_3(source, content)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict):
        raise source.error(f"file: got {shorten(repr(content))}; expected the images of a project.")
    images: _Images = []
    for key, image in content.items():
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise source.error(f"{shorten(key)}: got no 'filename'; expected an image.")
        regions = image.get("regions") or []
        images.append((image["filename"], list(regions.values() if isinstance(regions, dict) else regions)))
    return images


def _from_version_3(source: Source, content: dict[str, Any]) -> _Images:
    """Return what a project of version 3 holds as versions 1 and 2 spell it."""
    files, views, marks, titles = (content.get(key) or {} for key in ("file", "view", "metadata", "attribute"))
    if not all(isinstance(part, dict) for part in (files, views, marks, titles)):
        raise source.error("file: expected the file, view, metadata and attribute of a project as objects.")
    images: dict[str, tuple[str, list[Any]]] = {}
    for key, mark in marks.items():
        where = f"metadata.{shorten(key)}"
        xy = source.member(mark, "xy", list, where)
        if not xy or mark.get("z"):  # a mark of the whole file, or of a stretch of time in a video
            continue
        numbers = [source.json_number(value, f"{where}.xy") for value in xy]
        vid = str(mark.get("vid"))
        view = views.get(vid)
        fids = view.get("fid_list") if isinstance(view, dict) else None
        file = files.get(str(fids[0] if isinstance(fids, list) and fids else vid))
        if not isinstance(file, dict) or not isinstance(file.get("fname"), str):
            raise source.error(f"{where}.vid: got {shorten(vid)!r}; expected a view of a file with its fname.")
        named = {}
        for number, value in _object(mark.get("av")).items():
            title = _object(titles.get(number))
            options = _object(title.get("options"))
            named[str(title.get("aname", number))] = options.get(value, value) if isinstance(value, str) else value
        kind, values = _KINDS.get(int(numbers[0]) if np.isfinite(numbers[0]) else 0, "other"), numbers[1:]
        keys: tuple[str, ...] = {"point": ("cx", "cy"), "rect": ("x", "y", "width", "height")}.get(kind, ())
        if (keys and len(values) != len(keys)) or (kind.startswith("poly") and (len(values) % 2 or not values)):
            raise source.error(f"{where}.xy: got {len(values)} numbers, which are no {kind}; expected pairs x, y.")
        shape = {"name": kind, **dict(zip(keys, values, strict=False))}
        if kind.startswith("poly"):
            shape |= {"all_points_x": values[::2], "all_points_y": values[1::2]}
        images.setdefault(vid, (file["fname"], []))[1].append({"shape_attributes": shape, "region_attributes": named})
    return list(images.values())


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_table(source: Source) -> _Images:
    names, rows = read_table(source)
    lower = [name.lstrip("#").strip() for name in names]
    wanted = ("filename", "region_shape_attributes", "region_attributes", "file_size")
    places = [lower.index(name) for name in wanted if name in lower]
    if not set(wanted[:3]) <= set(lower):
        raise source.error("header: expected filename, region_shape_attributes and region_attributes.", 1)
    images: dict[tuple[str, ...], tuple[str, list[Any]]] = {}
    for line, row in rows:
        file, shape, attributes, *size = (row[place] for place in places)
        cells = [Source(source.path, text or "{}").json for text in (shape, attributes)]
        if not all(isinstance(cell, dict) for cell in cells):
            raise source.error("region_shape_attributes: expected a JSON object.", line)
        regions = images.setdefault((file, *size), (file, []))[1]
        if cells[0]:
            regions.append({"shape_attributes": cells[0], "region_attributes": cells[1]})
    return list(images.values())


def _shape(source: Source, region: Any, where: str) -> tuple[str, list[list[float]], dict[str, Any]]:
    """Return the kind of a region, its points (two corners of a rectangle), and its attributes."""
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    attributes = region.get("region_attributes") or {} if isinstance(region, dict) else {}
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise source.error(f"{where}: got {shorten(repr(region))}; expected shape_attributes and region_attributes.")
    kind = str(shape.get("name"))

    def number(key: str) -> float:
        if key not in shape:
            raise source.error(f"{where}: got no {key!r}; expected one.")
        return source.json_number(shape[key], f"{where}.{key}")

    if kind == "point":
        return kind, [[number("cx"), number("cy")]], attributes
    if kind == "rect":
        x, y = number("x"), number("y")
        return kind, [[x, y], [x + number("width"), y + number("height")]], attributes
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or not xs:
            raise source.error(f"{where}: expected all_points_x and all_points_y of one length.")
        return kind, [[source.json_number(v, where) for v in pair] for pair in zip(xs, ys, strict=True)], attributes
    return kind, [], attributes


def _key(source: Source, marks: list[list[dict[str, Any]]], label: str | None) -> str | None:
    """Return the attribute that names the landmarks."""

    def names(some: list[dict[str, Any]], key: str) -> list[str]:
        return [json.dumps(m[key]) for m in some if m.get(key) not in (None, "", {})]

    keys = list(dict.fromkeys(key for some in marks for m in some for key in m)) if label is None else [label]
    for key in keys:
        if all(len(set(names(some, key))) == len(some) for some in marks):
            return key
    if label is not None:
        raise source.error(f"label: got {label!r}, which does not name every point once; expected one that does.")
    if any(len(set(names(some, key))) > 1 for key in keys for some in marks):
        raise source.error(
            f"region_attributes: got {', '.join(map(repr, keys))}, none of which names every point of an image once; "
            "expected the name of the landmark. Try label=, or one name for each point."
        )
    return None
