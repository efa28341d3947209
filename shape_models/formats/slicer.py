"""The markups of 3D Slicer: ``.mrk.json``, and ``.fcsv`` before it; both may count towards left or right."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any, NamedTuple

import numpy as np

from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, LandmarksLike, Missing, record, whole_missing
from ._source import Source, shorten
from ._target import Target

__all__ = ["read_slicer", "write_slicer"]

_SYSTEMS = ("LPS", "RAS")
_FLIP = np.array([-1.0, -1.0, 1.0])  # between the two systems, either way
_SCHEMA = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "nm": 1e-6, "in": 25.4, "[in_i]": 25.4}
_PLACED = "2"  # the status of a control point that is where it belongs: 0 undefined, 1 preview, 3 missing
_NUMBERED_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}


def read_slicer(
    path: PathLike, *, coordinates: str = "LPS", missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    """Read the point lists and curves of a markups file of 3D Slicer.

    Parameters
    ----------
    path : path
        A ``.mrk.json`` or an ``.fcsv``.
    coordinates : {"LPS", "RAS"}
        The coordinate system of the result. ``"LPS"`` counts towards the patient's left, posterior and superior, as
        DICOM and ITK do, ``"RAS"`` towards right, anterior and superior, as Slicer shows them. A file in the other one
        is turned, so that both never meet in one set.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides a control point that is not placed: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0, 0)``), in the system of the result.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every list must have as many.

    Returns
    -------
    list of LandmarkFile
        One for each point list, in the frame ``"physical"``, in millimetres whatever the unit of the file, with the
        labels of its control points. Slicer writes a file for each list; the lists of a file that holds several count
        as so many objects (``train-search --join-parts`` joins them as the parts of one).
        Curves are the attribute ``"curves"`` of the first; a file of curves only gives one without landmarks. The
        attribute ``"coordinate_system"`` is that of the result, ``"id"`` the name of the list where it has one.

    Raises
    ------
    LandmarkFileError
        With the file and the field; for voxel coordinates (IJK), which are no lengths.

    References
    ----------
    3D Slicer, "Markups json file format" and "Markups fiducial point list file format".

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from shape_models.formats import read_slicer
    >>> points = [{"label": "F-1", "position": [1.0, 2.0, 3.0]}]
    >>> markups = [{"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": points}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.mrk.json")
    ...     _ = path.write_text(json.dumps({"markups": markups}))
    ...     file = read_slicer(path)[0]
    >>> file.labels, file.points.tolist(), file.attributes["coordinate_system"]
    (('F-1',), [[-1.0, -2.0, 3.0]], 'LPS')
    """
    check_choice(_SYSTEMS, coordinates=coordinates)
    source = Source.of(path)
    lists = _fcsv(source) if source.path.suffix.lower() == ".fcsv" else _markups(source)
    lists = [item._replace(points=_turned(source, item, coordinates)) for item in lists]
    curves = [item.points for item in lists if item.kind != "Fiducial"]
    found = [item for item in lists if item.kind == "Fiducial"]
    if not found and curves:
        found = [_List("Fiducial", np.empty((0, 3)), [], None, coordinates)]
    if not found:
        raise source.error("markups: got no point list and no curve with control points; expected some.")
    files = []
    for index, (_, points, labels, name, _) in enumerate(found):
        attributes: dict[str, Any] = {"coordinate_system": coordinates}
        if name:
            attributes["id"] = name
        if curves and not index:
            attributes["curves"] = curves
        names = labels if len(set(labels)) == len(labels) and labels else None
        if not len(points):
            files.append(LandmarkFile(points, None, None, None, "physical", path=source.path, attributes=attributes))
            continue
        options: dict[str, Any] = {"scheme": scheme, "frame": "physical", "missing": missing}
        files.append(record(source, points, labels=names, attributes=attributes, **options))
    return files


class _List(NamedTuple):
    """The control points of one markup."""

    kind: str
    points: np.ndarray
    labels: list[str]
    name: str | None
    system: str


def _turned(source: Source, item: _List, wanted: str) -> np.ndarray:
    if item.system not in _SYSTEMS:
        raise source.error(f"coordinateSystem: got {shorten(item.system)!r}; expected LPS or RAS.")
    return item.points if item.system == wanted else item.points * _FLIP + 0.0


def _markups(source: Source) -> list[_List]:
    lists: list[_List] = []
    for i, markup in enumerate(source.member(source.json, "markups", list, "file")):
        where = f"markups[{i}]"
        kind = source.member(markup, "type", str, where)
        control = markup.get("controlPoints") or []
        if kind not in ("Fiducial", "Curve", "ClosedCurve") or not control:
            continue
        if not isinstance(control, list):
            raise source.error(f"{where}.controlPoints: got {shorten(repr(control))}; expected a list.")
        points, labels = [], []
        for j, point in enumerate(source.objects(control, f"{where}.controlPoints")):
            here = f"{where}.controlPoints[{j}]"
            position: Any = point.get("position")
            placed = position is not None and point.get("positionStatus") not in ("undefined", "preview", "missing")
            if placed and (not isinstance(position, list) or len(position) != 3):
                raise source.error(f"{here}.position: got {shorten(repr(position))}; expected three numbers.")
            points.append([source.json_number(v, f"{here}.position") for v in position] if placed else [np.nan] * 3)
            labels.append(str(point.get("label") or ""))
        array = whole_missing(points) * _millimetres(source, markup.get("coordinateUnits"), where)
        name, system = markup.get("name"), markup.get("coordinateSystem") or "LPS"
        system = _NUMBERED_SYSTEMS.get(str(system), str(system))
        lists.append(_List(kind, array, labels, str(name) if name else None, system))
    return lists


def _fcsv(source: Source) -> list[_List]:
    system, columns = "RAS", _COLUMNS.split(",")  # files without a line of their own are the oldest, and in RAS
    points, labels = [], []
    for number, line in source.lines():
        if line.startswith("#"):
            if match := re.fullmatch(r"#\s*CoordinateSystem\s*=\s*(\S+)", line):
                system = _NUMBERED_SYSTEMS.get(match[1], match[1])
            elif match := re.fullmatch(r"#\s*columns\s*=\s*(.*)", line):
                columns = [name.strip() for name in match[1].split(",")]
            continue
        fields = [field.strip() for field in next(csv.reader(io.StringIO(line)))]
        row = dict(zip(columns, fields, strict=False))
        if not {"x", "y", "z", "label"} <= row.keys():
            raise source.error(f"got {len(fields)} fields; expected {', '.join(columns)}.", number)
        point = [source.number(row[axis], axis, number) for axis in "xyz"]
        status = fields[len(columns) :][:1]  # since version 5 behind the columns that are named
        points.append(point if status in ([], [""], [_PLACED]) else [np.nan] * 3)
        labels.append(row["label"])
    if not points:
        raise source.error("got no points; expected at least one.")
    return [_List("Fiducial", whole_missing(points), labels, None, system)]


def _millimetres(source: Source, unit: Any, where: str) -> float:
    """Return the millimetres in a unit, a word or a coded entry (``["mm", "UCUM", "millimeter"]``)."""
    name = (unit[0] if unit else None) if isinstance(unit, list) else unit
    if name is None:
        return 1.0
    if not isinstance(name, str) or name not in _UNITS:
        raise source.error(f"{where}.coordinateUnits: got {shorten(repr(unit))}; expected one of {', '.join(_UNITS)}.")
    return _UNITS[name]


def write_slicer(path: PathLike, landmarks: LandmarksLike, *, coordinates: str = "LPS") -> None:
    """Write point lists that 3D Slicer opens and `read_slicer` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file, ``.mrk.json``; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, 3) or (n, n_landmarks, 3)
        Labels, identifiers and curves are kept; landmarks without labels are called ``F-1``, ``F-2`` ... A missing one
        becomes a control point that is not placed.
    coordinates : {"LPS", "RAS"}
        The coordinate system that the points are in, where they do not say so by their attribute
        ``"coordinate_system"``.

    Raises
    ------
    LandmarkFileError
        For two dimensions, another frame than ``"physical"``, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_slicer, write_slicer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.mrk.json")
    ...     write_slicer(path, [[1.0, 2.0, 3.0]])
    ...     read_slicer(path)[0].points.tolist()
    [[1.0, 2.0, 3.0]]
    """
    check_choice(_SYSTEMS, coordinates=coordinates)
    target, markups = Target(path), []
    for file in target.files(landmarks):
        target.refuse_frame(file, "physical", "pixels")  # a bare array says nothing of its frame
        system = file.attributes.get("coordinate_system", coordinates)
        if len(file.points) or not file.curves:
            points = target.points(file.points, n_dims=(3,))
            markups.append(_markup(points, file.labels, "Fiducial", system, file.id))
        markups += [_markup(target.points(curve, n_dims=(3,)), None, "Curve", system, None) for curve in file.curves]
    target.write(json.dumps({"@schema": _SCHEMA, "markups": markups}, ensure_ascii=False, indent=1) + "\n")


def _markup(points: np.ndarray, labels: Any, kind: str, system: str, name: Any) -> dict[str, Any]:
    names = labels or [f"F-{i + 1}" for i in range(len(points))]
    seen = ~np.isnan(points).any(axis=1)
    return {
        "type": kind,
        **({"name": str(name)} if name is not None else {}),
        "coordinateSystem": system,
        "coordinateUnits": "mm",
        "controlPoints": [
            {
                "id": str(i + 1),
                "label": label,
                "position": point if placed else [0.0, 0.0, 0.0],
                "positionStatus": "defined" if placed else "undefined",
            }
            for i, (label, point, placed) in enumerate(zip(names, points.tolist(), seen.tolist(), strict=True))
        ],
    }
