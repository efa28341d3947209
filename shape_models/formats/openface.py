"""The table of OpenFace: one row a face and frame of a video, x of all landmarks before y."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import PathLike
from ..landmarks import IBUG68
from ._record import LandmarkFile, Missing, record
from ._source import Source
from ._table import read_table

__all__ = ["read_openface"]

_PLANAR = re.compile(r"([xy])_([0-9]{1,3})")
_SPATIAL = re.compile(r"([XYZ])_([0-9]{1,3})")
_POSE = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
_KEPT = ("face_id", "timestamp", "confidence", "success", *_POSE)


def is_openface(names: list[str]) -> bool:
    """Whether a header is that of OpenFace."""
    known = {"success", "confidence", "timestamp", "gaze_0_x", "p_scale", "AU01_r"} & set(names)
    return len(known) >= 2 and any(_PLANAR.fullmatch(name) or _SPATIAL.fullmatch(name) for name in names)


def read_openface(
    path: PathLike, *, part: str = "2d", missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    r"""Read the landmarks of a table of OpenFace.

    Parameters
    ----------
    path : path
        The file, with columns ``x_0 ... x_67, y_0 ... y_67`` or ``X_0 ... Z_67``.
    part : {"2d", "3d"}
        The landmarks in the image, or in space.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides a frame without success: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; by default IBUG68 for the 68 landmarks of OpenFace.

    Returns
    -------
    list of LandmarkFile
        One for each row; all landmarks of a row with ``success`` 0 are missing. Frame ``"pixels"``, in space
        ``"physical"`` (millimetres, in the camera's frame). The attribute ``"id"`` is the number of the video frame,
        followed by that of the face where the file has several; the numbers ``face_id``, ``timestamp``, ``success``,
        ``pose_...`` and ``"detection_confidence"`` are kept.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the column.

    References
    ----------
    T. Baltrusaitis et al., "OpenFace 2.0: Facial Behavior Analysis Toolkit", FG 2018.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_openface
    >>> text = "frame, timestamp, confidence, success, x_0, x_1, y_0, y_1\n1, 0.0, 0.98, 1, 10, 20, 30, 40\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     _ = path.write_text(text)
    ...     file = read_openface(path)[0]
    >>> file.points.tolist(), file.id
    ([[10.0, 30.0], [20.0, 40.0]], '1')
    """
    check_choice(("2d", "3d"), part=part)
    source = Source.of(path)
    names, rows = read_table(source)
    axes = "xy" if part == "2d" else "XYZ"
    pattern = _PLANAR if part == "2d" else _SPATIAL
    found = {(m[1], int(m[2])): column for column, name in enumerate(names) if (m := pattern.fullmatch(name))}
    n = len(found) // len(axes)
    if not found or set(found) != {(axis, i) for axis in axes for i in range(n)}:
        raise source.error(f"header: expected {axes[0]}_0 ... {axes[-1]}_{max(n - 1, 0)}. Try another part=.", 1)
    if not rows:
        raise source.error("got a header and no rows; expected at least one shape.")
    order = [found[axis, i] for i in range(n) for axis in axes]
    titles = [names[column] for column in order]
    frame = "pixels" if part == "2d" else "physical"
    own = scheme or (IBUG68 if n == 68 else None)
    places = {name: names.index(name) for name in ("frame", *_KEPT) if name in names}
    several = "face_id" in places and len({row[places["face_id"]] for _, row in rows}) > 1
    files = []
    for line, row in rows:
        points = np.reshape(source.numbers([row[column] for column in order], titles, line), (n, -1))
        values = {name: row[place] for name, place in places.items()}
        if "success" in values and source.number(values["success"], "success", line) == 0:
            points = np.full_like(points, np.nan)
        attributes: dict[str, Any] = {name: source.number(values[name], name, line) for name in _KEPT if name in values}
        if "confidence" in attributes:
            attributes["detection_confidence"] = attributes.pop("confidence")
        if "frame" in values:
            attributes["id"] = f"{values['frame']}_{values['face_id']}" if several else values["frame"]
        files.append(record(source, points, scheme=own, frame=frame, missing=missing, attributes=attributes))
    return files
