"""The ``.ljson`` files of menpo and landmarker.io, versions 1 to 3; planar points are stored y first."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, LandmarksLike, Missing, record, whole_missing
from ._source import Source, shorten
from ._target import Target

__all__ = ["read_ljson", "write_ljson"]


def read_ljson(path: PathLike, *, missing: Missing = None, scheme: SchemeLike | None = None) -> list[LandmarkFile]:
    """Read the shapes of an ``.ljson`` file.

    Parameters
    ----------
    path : path
        The file. Planar points are turned from the (y, x) of the file into (x, y); null is missing.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides null: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), in the order x, y.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many.

    Returns
    -------
    list of LandmarkFile
        One for versions 1 and 2, one for each group of version 3. The frame is ``"pixels"``, of three-dimensional
        points ``"physical"``. The attributes are ``"group"`` (version 3), ``"groups"`` (a part's name to the indices
        of its landmarks) and ``"edges"``, an array of shape (n_edges, 2).

    Raises
    ------
    LandmarkFileError
        With the file and the field.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_ljson
    >>> text = '{"version": 2, "labels": [], "landmarks": {"points": [[1.0, 20.0], [null, null]]}}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.ljson")
    ...     _ = path.write_text(text)
    ...     read_ljson(path)[0].points
    array([[20.,  1.],
           [nan, nan]])
    """
    source = Source.of(path)
    content = source.json
    version = source.member(content, "version", int, "file")
    if version == 1:
        shapes = [_version_1(source, content)]
    elif version == 2:
        shapes = [_version_2(source, content, "file")]
    elif version == 3:
        groups = source.member(content, "groups", dict, "file")
        shapes = []
        for name, group in groups.items():
            points, attributes = _version_2(source, group, f"groups.{shorten(name)}")
            shapes.append((points, {"group": name, **attributes}))
        if not shapes:
            raise source.error("groups: got none; expected at least one.")
    else:
        raise source.error(f"version: got {shorten(str(version))}; expected 1, 2 or 3.")
    files = []
    for points, attributes in shapes:
        frame = "pixels" if points.shape[1] == 2 else "physical"
        files.append(record(source, points, scheme=scheme, frame=frame, missing=missing, attributes=attributes))
    return files


def _version_1(source: Source, content: Any) -> tuple[np.ndarray, dict[str, Any]]:
    groups: dict[str, np.ndarray] = {}
    rows: list[Any] = []
    edges: list[Any] = []
    for i, group in enumerate(source.member(content, "groups", list, "file")):
        where = f"groups[{i}]"
        label = source.member(group, "label", str, where)
        landmarks = source.member(group, "landmarks", list, where)
        start = len(rows)
        for j, landmark in enumerate(landmarks):
            if not isinstance(landmark, dict) or "point" not in landmark:
                raise source.error(f"{where}.landmarks[{j}]: got no 'point'; expected one.")
            rows.append(landmark["point"])
        pairs = _edges(source, group.get("connectivity"), len(landmarks), where)
        edges.extend((pairs + start).tolist())
        groups[label] = np.arange(start, len(rows))
    points = _points(source, rows, "landmarks")
    return points, {"groups": groups, "edges": np.array(edges, dtype=np.intp).reshape(-1, 2)}


def _version_2(source: Source, content: Any, where: str) -> tuple[np.ndarray, dict[str, Any]]:
    landmarks = source.member(content, "landmarks", dict, where)
    rows = source.member(landmarks, "points", list, f"{where}.landmarks")
    points = _points(source, rows, f"{where}.landmarks.points")
    edges = _edges(source, landmarks.get("connectivity"), len(points), f"{where}.landmarks")
    groups: dict[str, np.ndarray] = {}
    labels = content.get("labels")
    if labels is not None and not isinstance(labels, list):
        raise source.error(f"{where}.labels: got {shorten(repr(labels))}; expected a list.")
    for i, item in enumerate(labels or ()):
        label = source.member(item, "label", str, f"{where}.labels[{i}]")
        mask = source.member(item, "mask", list, f"{where}.labels[{i}]")
        groups[label] = _indices(source, mask, len(points), f"{where}.labels[{i}].mask")
    return points, {"groups": groups, "edges": edges}


def _points(source: Source, rows: list[Any], where: str) -> np.ndarray:
    if not rows:
        raise source.error(f"{where}: got no points; expected at least one.")
    points: list[list[float]] = []
    n_dims = next((len(row) for row in rows if isinstance(row, list) and len(row) in (2, 3)), 2)
    for i, row in enumerate(rows):
        if row is None:
            row = [None] * n_dims
        if not isinstance(row, list) or len(row) != n_dims:
            raise source.error(f"{where}[{i}]: got {shorten(repr(row))}; expected {n_dims} coordinates or null.")
        points.append([source.json_number(value, f"{where}[{i}]") for value in row])
    array = whole_missing(points)
    return np.ascontiguousarray(array[:, ::-1]) if n_dims == 2 else array


def _indices(source: Source, values: list[Any], n: int, where: str) -> np.ndarray:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
            raise source.error(f"{where}: got {shorten(repr(value))}; expected indices in 0...{n - 1}.")
    return np.array(values, dtype=np.intp)


def _edges(source: Source, pairs: Any, n: int, where: str) -> np.ndarray:
    where = f"{where}.connectivity"
    if pairs is None:
        return np.empty((0, 2), np.intp)
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise source.error(f"{where}: got {shorten(repr(pairs))}; expected pairs of indices.")
    return _indices(source, [index for pair in pairs for index in pair], n, where).reshape(-1, 2)


def write_ljson(path: PathLike, landmarks: LandmarksLike, *, version: int = 3) -> None:
    """Write shapes into an ``.ljson`` file that `read_ljson` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, n_dims) or (n, n_landmarks, n_dims)
        Parts and edges are those of the attributes, else those of the scheme; names of single landmarks, images and
        identifiers are not kept, as the format has no place for them. A missing landmark becomes null. The
        groups of version 3 are named by the attribute ``"group"``, by default ``"LJSON"`` or ``"0"``, ``"1"`` ...
    version : {1, 2, 3}
        Versions 1 and 2 hold one shape, and version 1 needs parts that hold each landmark once, in order.

    Raises
    ------
    LandmarkFileError
        For more shapes than the version holds, groups of one name, planar landmarks in another frame than
        ``"pixels"``, as which they would be read, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_ljson, write_ljson
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.ljson")
    ...     write_ljson(path, [[20.0, 1.0]], version=2)
    ...     "[[1.0, 20.0]]" in path.read_text(), read_ljson(path)[0].points.tolist()
    (True, [[20.0, 1.0]])
    """
    target = Target(path)
    files = target.files(landmarks)
    if version not in (1, 2, 3):
        raise ValueError(f"version: got {version!r}; expected 1, 2 or 3.")
    if not files or (version < 3 and len(files) != 1):
        raise target.error(f"got {len(files)} shapes; expected one, or version=3.")
    bodies: dict[str, dict[str, Any]] = {}
    for index, file in enumerate(files):
        target.refuse_planar_frame(file)
        points = target.points(file.points)
        groups, edges = _parts(file)
        name = str(file.attributes.get("group", "LJSON" if len(files) == 1 else index))
        if name in bodies:
            raise target.error(f"got two groups of the name {shorten(name)!r}; expected different ones.")
        rows = [
            [None if np.isnan(v) else v for v in (point[::-1] if len(point) == 2 else point)]
            for point in points.tolist()
        ]
        bodies[name] = {
            "labels": [{"label": label, "mask": indices} for label, indices in groups.items()],
            "landmarks": {"points": rows, "connectivity": edges},
        }
    body = next(iter(bodies.values()))
    content: dict[str, Any]
    if version == 3:
        content = {"version": 3, "groups": bodies}
    elif version == 2:
        content = {"version": 2, **body}
    else:
        content = {"version": 1, "groups": _as_version_1(target, body)}
    target.write(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def _parts(file: LandmarkFile) -> tuple[dict[str, list[int]], list[list[int]]]:
    scheme = file.scheme
    groups = file.attributes.get("groups", {} if scheme is None else scheme.groups)
    edges = file.attributes.get("edges", () if scheme is None else scheme.edges)
    pairs = np.asarray(edges, dtype=np.intp).reshape(-1, 2).tolist()
    return {str(k): np.asarray(v).tolist() for k, v in groups.items()}, pairs


def _as_version_1(target: Target, body: dict[str, Any]) -> list[dict[str, Any]]:
    rows, edges = body["landmarks"]["points"], body["landmarks"]["connectivity"]
    parts = [(item["label"], item["mask"]) for item in body["labels"]] or [("all", list(range(len(rows))))]
    if [index for _, mask in parts for index in mask] != list(range(len(rows))):
        raise target.error("version 1 needs parts that hold each landmark once, in order. Try version=3.")
    return [
        {
            "label": label,
            "landmarks": [{"point": rows[i]} for i in mask],
            "connectivity": [[i - mask[0], j - mask[0]] for i, j in edges if i in mask and j in mask],
        }
        for label, mask in parts
    ]
