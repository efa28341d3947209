"""The ``.tps`` files of geometric morphometrics (tpsDig): many specimens a file, y counted from the bottom."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from .._options import check_flags
from .._scheme import SchemeLike
from .._typing import ImageSize, PathLike
from ._record import (
    EXACT,
    LandmarkFile,
    LandmarksLike,
    Missing,
    as_image_size,
    exactly,
    mark_missing,
    record,
    size_of_image,
    spell,
    whole_missing,
)
from ._source import BLANKS, Source, shorten
from ._target import Target

__all__ = ["read_tps", "write_tps"]

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_COMMENTS = ("#", '"', "'", "//", ";")
_COUNTED = ("RADII", "SLIDERS", "SEMI")  # followed by as many lines
_RESERVED = ("LM", "LM3", "CURVES", "OUTLINES", "POINTS", "IMAGE", "ID", "SCALE")


def read_tps(
    path: PathLike,
    *,
    image_size: ImageSize | None = None,
    missing: Missing = None,
    scaled: bool = False,
    decimal: str = ".",
    scheme: SchemeLike | None = None,
) -> list[LandmarkFile]:
    """Read the specimens of a ``.tps`` file.

    Parameters
    ----------
    path : path
        The file.
    image_size : (width, height), optional
        Size of the images in pixels: y becomes ``height - 1 - y``, so that it counts from the top. Without it the
        header of the image that a specimen names is read, where that image lies beside the file.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides ``NA`` and ``NaN``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
        tpsDig writes negative coordinates. It is never guessed, since aligned shapes have some that are meant.
    scaled : bool
        Multiply each specimen by its ``SCALE``; the points are then lengths, y upwards.
    decimal : {".", ","}
        What stands before the decimals of the numbers.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every specimen must have as many.

    Returns
    -------
    list of LandmarkFile
        One for each specimen, in the order of the file. The frame is ``"pixels"`` where the height of the image is
        known, ``"y_up"`` where it is not, ``"physical"`` with `scaled` and for three dimensions (``LM3=``). The
        attributes are ``"id"``, ``"scale"`` (None when absent or blank), ``"curves"`` (a list of arrays of points,
        in the same frame, of ``CURVES`` and ``OUTLINES``), ``"radii"``, ``"sliders"`` and ``"semi"`` (arrays of the
        numbers in as many lines), and further keys of the file, in lower case. Lines that begin with ``#``, ``;``,
        ``//`` or a quotation mark are comments.

    Raises
    ------
    LandmarkFileError
        With the file, the line, the specimen and the field.

    References
    ----------
    F. J. Rohlf, tpsDig, gives the format.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_tps
    >>> text = '''LM=2
    ... 10. 20.
    ... NA NA
    ... IMAGE=wing.jpg
    ... ID=0
    ... SCALE=0.5'''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.tps")
    ...     _ = path.write_text(text)
    ...     up, down = read_tps(path)[0], read_tps(path, image_size=(640, 480))[0]
    >>> up.frame, up.points[0].tolist(), down.frame, down.points[0].tolist(), up.attributes["scale"]
    ('y_up', [10.0, 20.0], 'pixels', [10.0, 459.0], 0.5)
    """
    check_flags(scaled=scaled)
    source = Source.of(path, decimal=decimal)
    mark_missing(np.zeros((1, 2)), missing)
    if image_size is not None:
        image_size = as_image_size(image_size)
    specimens = _parse(source)
    if not specimens:
        raise source.error("got no specimen; expected a line LM=... .")
    sizes: dict[str | None, tuple[int, int] | None] = {}
    files = []
    for index, specimen in enumerate(specimens):
        image_name = specimen["keys"].pop("image", None) or None
        scale = _scale(source, specimen)
        operation, frame = None, "physical"
        if scaled:
            if scale is None:
                raise source.error(f"specimen {index}: SCALE: got none; expected one: scaled=True.", specimen["line"])
        elif specimen["n_dims"] == 2:
            if image_name not in sizes:
                sizes[image_name] = size_of_image(source, image_name, image_size)
            size, frame = sizes[image_name], "y_up"
            if size is not None:
                last = Decimal(size[1] - 1)
                operation, frame = (lambda y, last=last: EXACT.subtract(last, y)), "pixels"
        blocks = [
            _points(source, rows, specimen["n_dims"], operation, missing) * (scale if scaled and scale else 1.0)
            for rows in (specimen["rows"], *specimen["curves"])
        ]
        if not all(np.isfinite(block[~np.isnan(block)]).all() for block in blocks):
            raise source.error(f"specimen {index}: SCALE: too large; expected finite lengths.", specimen["line"])
        attributes = {"id": specimen["keys"].pop("id", None), "scale": scale, "curves": blocks[1:], **specimen["keys"]}
        for key, lines in specimen["counted"]:
            values = [[source.number(token, key, line) for token in fields] for line, fields in lines]
            if len({len(row) for row in values}) > 1:
                raise source.error(f"{key}: expected lines of as many numbers.", specimen["line"])
            attributes[key.lower()] = np.array(values)
        options: dict[str, Any] = {"scheme": scheme, "image_name": image_name, "frame": frame}
        files.append(record(source, blocks[0], attributes=attributes, **options))
    return files


def _parse(source: Source) -> list[dict[str, Any]]:
    """Cut the file into specimens; coordinates stay text."""
    specimens: list[dict[str, Any]] = []
    rows: list[tuple[int, list[str]]] = []  # where coordinates go
    wanted, opened, n_curves = 0, 0, 0

    def finish() -> None:
        if len(rows) != wanted:
            raise source.error(f"got {len(rows)} points; expected {wanted}, as this line declares.", opened)

    def finish_curves() -> None:
        if specimens and len(specimens[-1]["curves"]) != n_curves:
            raise source.error(
                f"CURVES: got {n_curves}, but the specimen has {len(specimens[-1]['curves'])}; expected as many.",
                specimens[-1]["line"],
            )

    for number, line in source.lines():
        if line.startswith(_COMMENTS) or line == "\x1a":  # the end of a file in DOS
            continue
        key, equals, value = line.partition("=")
        if not equals:
            if len(rows) >= wanted:
                raise source.error(f"got {shorten(line)!r}; expected KEY=value.", number)
            rows.append((number, source.fields(line)))
            continue
        finish()
        key, value = key.strip(BLANKS).upper(), value.strip(BLANKS)
        if key in ("LM", "LM3"):
            finish_curves()
            wanted, opened, n_curves, rows = source.count(value, key, number), number, 0, []
            n_dims = 3 if key == "LM3" else 2
            specimens.append({"n_dims": n_dims, "rows": rows, "curves": [], "counted": [], "keys": {}, "line": number})
            continue
        if not specimens:
            raise source.error(f"got {shorten(line)!r} before the first specimen; expected LM=... .", number)
        specimen = specimens[-1]
        if key in ("CURVES", "OUTLINES"):
            n_curves += source.count(value, key, number)
        elif key == "POINTS":
            wanted, opened, rows = source.count(value, key, number), number, []
            specimen["curves"].append(rows)
        elif key in _COUNTED:
            wanted, opened, rows = source.count(value, key, number), number, []
            specimen["counted"].append((key, rows))
        elif key.lower() in specimen["keys"] and key in ("IMAGE", "ID", "SCALE"):
            raise source.error(f"{key}: got a second one; expected one in each specimen.", number)
        else:
            before = specimen["keys"].get(key.lower())
            specimen["keys"][key.lower()] = value if before is None else f"{before}\n{value}"
            if key == "SCALE":
                specimen["scale_line"] = number
    finish()
    finish_curves()
    return specimens


def _scale(source: Source, specimen: dict[str, Any]) -> float | None:
    text = specimen["keys"].pop("scale", "")
    if not text:
        return None
    value = source.number(text.replace(source.decimal, "."), "SCALE", specimen["scale_line"])
    if np.isnan(value):
        return None
    if value <= 0:
        raise source.error(f"SCALE: got {shorten(text)}; expected a positive number.", specimen["scale_line"])
    return value


def _points(
    source: Source,
    rows: list[tuple[int, list[str]]],
    n_dims: int,
    operation: Callable[[Decimal], Decimal] | None,
    missing: Missing,
) -> np.ndarray:
    points = []
    for number, fields in rows:
        if len(fields) != n_dims:
            raise source.error(f"got {len(fields)} fields; expected the {n_dims} coordinates of a point.", number)
        points.append([source.number(token, axis, number) for axis, token in zip("xyz", fields, strict=False)])
    if not points:
        return np.empty((0, n_dims))
    array = mark_missing(whole_missing(points), missing)
    if operation is not None:
        for i in np.flatnonzero(~np.isnan(array[:, 1])):
            array[i, 1] = exactly(rows[i][1][1], operation)
    return array


def write_tps(path: PathLike, landmarks: LandmarksLike, *, image_size: ImageSize | None = None) -> None:
    """Write specimens into a ``.tps`` file that `read_tps` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, n_dims) or (n, n_landmarks, n_dims)
        Image names and the attributes ``"id"``, ``"scale"`` and ``"curves"`` are kept, further ones that are text as
        keys of their own (``COMMENT`` ...). Labels are not, as the format has no place for them. Missing landmarks are
        written as ``NA``.
    image_size : (width, height), optional
        Needed for planar points in the frame ``"pixels"``: y becomes ``height - 1 - y``, counted from the bottom.

    Raises
    ------
    LandmarkFileError
        For pixels without `image_size`, relative coordinates, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import write_tps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.tps")
    ...     write_tps(path, [[10.0, 459.0]], image_size=(640, 480))
    ...     path.read_text().split()
    ['LM=1', '10.0', '20', 'ID=0']
    """
    target = Target(path)
    files = target.files(landmarks)
    last = None if image_size is None else Decimal(as_image_size(image_size)[1] - 1)
    lines: list[str] = []
    for index, file in enumerate(files):
        points = np.asarray(file.points, dtype=np.float64)
        if points.size:
            points = target.points(points)
        elif points.shape not in ((0, 2), (0, 3)):
            raise target.error(f"specimen {index} has shape {points.shape}; expected (n_landmarks, 2 or 3).")
        operation = None
        if file.frame == "relative":
            raise target.error(f"specimen {index} is relative to its image. Try image_size= to read.")
        if file.frame == "pixels" and points.shape[1] == 2:
            if last is None:
                raise target.error(
                    f"specimen {index} counts y from the top; this format counts it from the bottom. Try image_size=."
                )
            operation = lambda y: EXACT.subtract(last, y)  # noqa: E731
        lines += [f"LM{'3' if points.shape[1] == 3 else ''}={len(points)}", *_rows(points, operation)]
        curves = file.attributes.get("curves") or []
        if len(curves):
            lines.append(f"CURVES={len(curves)}")
            for curve in curves:
                lines += [f"POINTS={len(curve)}", *_rows(np.asarray(curve, dtype=np.float64), operation)]
        identifier = file.attributes.get("id")
        keys = {
            "IMAGE": file.image_name,
            "ID": str(index) if identifier is None else identifier,
            "SCALE": file.attributes.get("scale"),
        }
        for key, value in keys.items():
            if value is not None:
                lines.append(f"{key}={target.one_line(key, value)}")
        for key, value in file.attributes.items():
            if isinstance(value, str) and _KEY.fullmatch(key) and key.upper() not in _RESERVED:
                lines += [f"{key.upper()}={target.one_line(key, part)}" for part in value.split("\n")]
    target.write("\n".join([*lines, ""]))


def _rows(points: np.ndarray, operation: Callable[[Decimal], Decimal] | None) -> list[str]:
    return [
        " ".join(spell(value, operation if axis == 1 else None, "NA") for axis, value in enumerate(point))
        for point in points.tolist()
    ]
