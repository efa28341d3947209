"""Tables of landmarks: a row for each shape, or a row for each landmark."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .._names import IMAGE_SUFFIXES
from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import PathLike
from ._long import IMAGE_COLUMNS, Shape, mark, read_long, row_numbers
from ._record import FRAMES, LandmarkFile, LandmarksLike, Missing, record, spell, whole_missing
from ._source import Source, shorten
from ._table import Rows, read_table
from ._target import Target

__all__ = ["read_csv", "write_csv"]

_NUMBERED = re.compile(r"([xyzvc])[_ .]?([0-9]{1,6})", re.IGNORECASE)
_R_ARRAY = re.compile(r"([xyz])\.(.+)", re.IGNORECASE)
_NAMED = re.compile(r"(.+)[_ .]([xyzvc]|visibility|visible|confidence|likelihood|score)", re.IGNORECASE)
_COORDINATE = re.compile(r"[xyzvc][_ .]?[0-9]{1,6}|.+[_ .][xyzvc]|[xyz][_ ].+", re.IGNORECASE)
_AXIS_FIRST = re.compile(r"([xyz])[_ ](.*[^0-9].*)", re.IGNORECASE)


def read_csv(
    path: PathLike,
    *,
    group: str | Sequence[str] | None = None,
    columns: Mapping[str | int, str | None] | Sequence[str] | None = None,
    header: bool = True,
    rows: str | None = None,
    decimal: str = ".",
    missing: Missing = None,
    scheme: SchemeLike | None = None,
    frame: str = "pixels",
) -> list[LandmarkFile]:
    r"""Read the shapes of a table in any of these layouts, told apart by the header.

    One row a shape: coordinates in columns ``x0, y0, x1, y1, ...`` (or from ``x1``; ``x_0``, ``X00`` and ``1.X`` too),
    the landmarks in the order of these numbers, wherever the columns stand; or ``nose_x, nose_y, ...``, the landmarks
    with these names in the order of the columns (``x_nose`` too). Columns ``v0``, ``nose_v`` or ``nose_visible`` say
    which landmarks are there (0 is missing), ``c0``, ``nose_c``, ``nose_likelihood`` or ``nose_score`` how sure they
    are. So MorphoJ, geomorph's ``two.d.array``, SLEAP and others write them.

    One row a landmark: columns ``x``, ``y`` and perhaps ``z``, a column that says which rows form a shape (``image``,
    ``specimen_id`` ...) and one that names the landmark (``landmark``, ``point`` ...).

    One column a shape and coordinate: ``X.specA, Y.specA, X.specB ...``, as R writes an array.

    Parameters
    ----------
    path : path
        The file; commas, semicolons, tabs or blanks between the fields.
    group : str or sequence of str, optional
        In a table with one row a landmark the columns that say which rows form a shape, where their names do not.
        Every other column must have one value in a shape, or name the landmarks.
    columns : mapping of str to str or None, or sequence of str, optional
        What to call columns of the file (``{"pos_h": "x", "remark": None}``; None leaves one out), or the names of
        all columns.
    header : bool
        Whether the first row holds the names; without it they are given by `columns`: all, or some by their number
        (``{0: "image", 3: "x0", 4: "y0"}``), and the others are left out.
    rows : {"shapes", "landmarks"}, optional
        What a row is, where columns ``X.1, Y.1, X.2 ...`` leave it open.
    decimal : {".", ","}
        What stands before the decimals of the numbers.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides an empty field, ``NA`` and ``nan``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many.
    frame : {"pixels", "y_up", "relative", "physical"}
        What the numbers are, as few tables say it; a column ``frame`` of these words does.

    Returns
    -------
    list of LandmarkFile
        In the order of the table. The image name comes from a column ``image``, ``file`` or ``name``; the other
        columns are attributes, as text, but for ``"scale"``, ``"visibility"`` and ``"confidence"``; ``"id"`` is that of
        a column ``id`` or ``specimen``, or R's names of rows.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the column.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     _ = path.write_text("image,x0,y0,x1,y1\na.jpg,1,2,3,4\nb.jpg,5,6,,\n")
    ...     files = read_csv(path)
    >>> files[1].image_name, files[1].points.tolist()
    ('b.jpg', [[5.0, 6.0], [nan, nan]])
    """
    source = Source.of(path, decimal=decimal)
    check_choice(FRAMES, frame=frame)
    check_choice(("shapes", "landmarks", None), rows=rows)
    names, table = read_table(source, header=header, columns=columns)
    lower = [name.lower() for name in names]
    if [name for name in lower if name] in (["v1", "v2"], ["v1", "v2", "v3"]):  # R's names of columns without names
        lower = ["xyz"[int(name[1]) - 1] if name else name for name in lower]
    if places := _arrays(source, names, rows):
        shapes = _array(source, names, places, table)
    elif any(place[0] in "xyz" for place in _numbered(names).values()):
        shapes = _wide(source, names, _numbered(names), table)
    elif "x" in lower and "y" in lower:
        shapes = read_long(source, names, lower, table, [group] if isinstance(group, str) else group)
    elif any(place[0] in "xyz" for place in _named(source, names).values()):
        shapes = _wide(source, names, _named(source, names), table)
    else:
        raise source.error(
            f"header: got {shorten(', '.join(names), 80)}; expected columns x0, y0, ... or columns x and y. "
            "Try columns= to say which are which.",
            1,
        )
    if not shapes:
        raise source.error("got a header and no rows; expected at least one shape.")
    return [
        _record(source, points, labels, attributes, scheme=scheme, frame=frame, missing=missing)
        for points, labels, attributes in shapes
    ]


_Places = dict[int, tuple[str, Any]]  # column -> axis (or v, c) and landmark


def _record(
    source: Source, points: np.ndarray, labels: tuple[str, ...] | None, attributes: dict[str, Any], **options: Any
) -> LandmarkFile:
    """Return the record of a shape, the columns with a meaning taken out of its attributes."""
    texts = [key for key, value in attributes.items() if isinstance(value, str)]
    key = next((key for key in texts if key.lower() in IMAGE_COLUMNS), None)
    if key is None:  # an identifier that is a name of a file, as CelebA has it
        key = next(
            (k for k in texts if k.lower() == "image_id" and attributes[k].lower().endswith(IMAGE_SUFFIXES)), None
        )
    image_name = attributes.pop(key) if key is not None else None
    for key in ("ID", "Id", ""):
        if key in attributes:
            attributes.setdefault("id", attributes.pop(key))
    if isinstance(attributes.get("frame"), str) and attributes["frame"] in FRAMES:
        options["frame"] = attributes.pop("frame")
    if "scale" in attributes:
        text = attributes["scale"]
        attributes["scale"] = source.number(text, "scale") if text else None
    return record(source, points, labels=labels, image_name=image_name, attributes=attributes, **options)


def _numbered(names: Sequence[str]) -> _Places:
    """Return the columns called by an axis and a number; v and c count where there are such coordinates."""
    found = ((column, _NUMBERED.fullmatch(name)) for column, name in enumerate(names))
    places: _Places = {column: (match[1].lower(), int(match[2])) for column, match in found if match}
    known = {number for axis, number in places.values() if axis in "xyz"}
    return {column: place for column, place in places.items() if place[0] in "xyz" or place[1] in known}


def _named(source: Source, names: Sequence[str]) -> _Places:
    """Return the columns called by a landmark and an axis, of the landmarks that have x and y."""
    places: _Places = {}
    for column, name in enumerate(names):
        if match := _NAMED.fullmatch(name):
            word = match[2].lower()
            places[column] = word if len(word) == 1 else "v" if word.startswith("vis") else "c", match[1].strip()
        elif match := _AXIS_FIRST.fullmatch(name):
            places[column] = match[1].lower(), match[2]
    axes: dict[str, set[str]] = {}
    for axis, label in places.values():
        axes.setdefault(label, set()).add(axis)
    for label, found in axes.items():
        lacking = {"x", "y"} - found
        if len(lacking) == 1 and len(axes) > 1 and any({"x", "y"} <= other for other in axes.values()):
            have, lack = (found & {"x", "y"}).pop(), lacking.pop()
            raise source.error(
                f"header: got {have} of {shorten(label)} and no {lack}; expected both. Try columns= to rename or leave "
                "out a column.",
                1,
            )
    places = {column: place for column, place in places.items() if {"x", "y"} <= axes[place[1]]}
    if all(names[column][-2] == "." and place[1].isdecimal() for column, place in places.items()):
        return {column: (axis, int(label)) for column, (axis, label) in places.items()}  # R's 1.X, 1.Y, 2.X ...
    return places


def _arrays(source: Source, names: Sequence[str], rows: str | None) -> _Places:
    """Return the columns of R's arrays, called by an axis and a shape."""
    found = ((column, _R_ARRAY.fullmatch(name)) for column, name in enumerate(names))
    places: _Places = {column: (match[1].lower(), match[2]) for column, match in found if match}
    if rows == "shapes" or not places or len(places) < len([name for name in names if name]):
        return {}
    numbers = all(str(shape).isdecimal() for _, shape in places.values())
    if numbers and rows is None:
        raise source.error(
            f"header: got {names[min(places)]}, ..., which may count landmarks or shapes. "
            "Try rows='shapes' or rows='landmarks'.",
            1,
        )
    return places


def _wide(source: Source, names: list[str], places: _Places, rows: Rows) -> list[Shape]:
    columns: dict[Any, dict[str, int]] = {}
    for column, (axis, landmark) in places.items():
        axes = columns.setdefault(landmark, {})
        if axis in axes:
            raise source.error(f"header: got {axis}{landmark} twice; expected different names.", 1)
        axes[axis] = column
    by_number = all(isinstance(landmark, int) for landmark in columns)
    landmarks = sorted(columns) if by_number else list(columns)
    kept = [axis for axis in "xyz" if axis in columns[landmarks[0]]]
    for landmark in landmarks:
        axes_here = [axis for axis in "xyz" if axis in columns[landmark]]
        if axes_here != kept or kept not in (["x", "y"], ["x", "y", "z"]):
            raise source.error(f"header: got {', '.join(axes_here)} of {landmark}; expected x and y (and z).", 1)
    if by_number and (landmarks != list(range(landmarks[0], landmarks[0] + len(landmarks))) or landmarks[0] > 1):
        raise source.error(
            f"header: got landmarks {landmarks[0]}...{landmarks[-1]}, {len(landmarks)} of them; "
            "expected all numbers from 0 or from 1.",
            1,
        )
    order = [columns[landmark][axis] for landmark in landmarks for axis in kept]
    titles = [names[column] for column in order]
    others = [column for column in range(len(names)) if column not in places]
    others = [c for c in others if names[c] or not row_numbers([row[c] for _, row in rows])]
    shapes: list[Shape] = []
    for line, row in rows:
        values = source.numbers([row[column] for column in order], titles, line)
        attributes: dict[str, Any] = {names[column]: row[column] for column in others}
        for axis, key in (("v", "visibility"), ("c", "confidence")):
            if any(axis in columns[landmark] for landmark in landmarks):
                cells = [(row[columns[m][axis]] if axis in columns[m] else "", f"{key} of {m}") for m in landmarks]
                attributes[key] = np.array([mark(source, *cell, line) for cell in cells])
        points = whole_missing(np.reshape(values, (len(landmarks), -1)))
        shapes.append((points, None if by_number else tuple(landmarks), attributes))
    return shapes


def _array(source: Source, names: list[str], places: _Places, rows: Rows) -> list[Shape]:
    shapes: list[Shape] = []
    labels = None
    for column in range(len(names)):
        if column not in places and not row_numbers([row[column] for _, row in rows]):
            labels = tuple(row[column] for _, row in rows)
    for shape in dict.fromkeys(shape for _, shape in places.values()):
        axes = {axis: column for column, (axis, other) in places.items() if other == shape}
        if list(axes) not in (["x", "y"], ["x", "y", "z"]):
            raise source.error(f"header: got {', '.join(axes)} of {shorten(shape)}; expected x and y (and z).", 1)
        titles = [names[column] for column in axes.values()]
        points = [source.numbers([row[column] for column in axes.values()], titles, line) for line, row in rows]
        if points:
            shapes.append((whole_missing(points), labels, {"id": shape}))
    return shapes


_STYLES = ("table", "morphoj", "geomorph")


def write_csv(
    path: PathLike, landmarks: LandmarksLike, *, columns: Sequence[str] | None = None, style: str = "table"
) -> None:
    """Write shapes into a table, one row each, that `read_csv` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, n_dims) or (n, n_landmarks, n_dims)
        All with the same landmarks; those with the same labels in another order are brought into the order of the
        first. A missing one is left empty. Landmarks with labels stand in columns ``LABEL_x, LABEL_y``, others in
        ``x0, y0, ...``; visibility and confidence beside them in ``LABEL_v``, ``v0``, ``LABEL_c``, ``c0``. The first
        column is ``image`` when any of them names one. Curves, boxes and other arrays are not kept.
    columns : sequence of str, optional
        Attributes to write as columns before the coordinates; by default all that are text or single numbers. A column
        ``frame`` is added where it is not ``"pixels"``.
    style : {"table", "morphoj", "geomorph"}
        ``"morphoj"``: between tabs, the identifier (or image) and ``X1, Y1, X2 ...``, nothing else, as MorphoJ reads
        it. ``"geomorph"``: R's names of rows and ``1.X, 1.Y, 2.X ...``, as ``two.d.array`` gives it, missing as ``NA``.
        Neither has a place for the frame, so read them with ``frame=``.

    Raises
    ------
    LandmarkFileError
        For shapes that differ in their landmarks, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import LandmarkFile
    >>> from shape_models.formats import write_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     write_csv(path, [[[1.0, 2.0]], [[0.1, float("nan")]]])
    ...     path.read_text().splitlines()
    ['x0,y0', '1.0,2.0', 'nan,nan']
    """
    target = Target(path)
    files = _same_labels(target, target.files(landmarks))
    check_choice(_STYLES, style=style)
    n_landmarks, n_dims = target.same_count(files)
    labels = files[0].labels if style == "table" else None
    marks = [
        (letter, key)
        for letter, key in (("v", "visibility"), ("c", "confidence"))
        if style == "table"
        if any(np.shape(file.attributes.get(key, 0)) == (n_landmarks,) for file in files)
    ]
    letters = [*"xyz"[:n_dims], *(letter for letter, _ in marks)]
    if labels is not None:
        titles = [f"{label}_{letter}" for label in labels for letter in letters]
    elif style == "table":
        titles = [f"{letter}{i}" for i in range(n_landmarks) for letter in letters]
    else:
        titles = [
            f"{axis.upper()}{i + 1}" if style == "morphoj" else f"{i + 1}.{axis.upper()}"
            for i in range(n_landmarks)
            for axis in "xyz"[:n_dims]
        ]
    firsts, rows = _first_columns(target, files, columns) if style == "table" else _identities(target, files, style)
    if len({*firsts, *titles}) != len(firsts) + len(titles):
        raise target.error(f"columns: got {[*firsts, *titles][:9]} ...; expected names that differ.")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n", delimiter="\t" if style == "morphoj" else ",")
    writer.writerow([*firsts, *titles])
    missing = "" if style == "table" else "NA"
    for file, first in zip(files, rows, strict=True):
        points = whole_missing(np.asarray(file.points, dtype=np.float64))
        if np.isinf(points).any():
            raise target.error("got an infinite coordinate; expected finite numbers or NaN.")
        cells = [points, *(_column(file, key, points)[:, None] for _, key in marks)]
        row = [spell(value, missing=missing) for value in np.hstack(cells).ravel().tolist()]
        if not any(first) and not any(row):
            row = ["nan"] * len(row)  # a row of empty fields would be read as an empty line
        writer.writerow([*first, *row])
    target.write(stream.getvalue())


def _same_labels(target: Target, files: list[LandmarkFile]) -> list[LandmarkFile]:
    """Return the files with their landmarks in the order of the first one's labels."""
    names = files[0].labels if files else None
    if names is None or all(file.labels is None for file in files):
        return files
    ordered = []
    for index, file in enumerate(files):
        labels = file.labels
        if labels is None or len(labels) != len(names) or set(labels) != set(names):
            other = sorted(set(names) ^ set(labels or ()))[:3]
            got = f"shape {index} has other labels than shape 0 ({shorten(', '.join(other))})"
            raise target.error(f"{got}; expected the same for all.")
        if labels != names:
            order = [labels.index(name) for name in names]
            changes = {
                key: np.asarray(file.attributes[key])[order]
                for key in ("visibility", "confidence")
                if np.shape(file.attributes.get(key, 0)) == (len(names),)
            }
            attributes = {**file.attributes, **changes}
            file = replace(file, points=np.asarray(file.points)[order], labels=names, attributes=attributes)
        ordered.append(file)
    return ordered


def _column(file: LandmarkFile, key: str, points: np.ndarray) -> np.ndarray:
    values = np.asarray(file.attributes.get(key, np.nan), dtype=np.float64)
    seen = ~np.isnan(points).any(axis=1)
    if values.shape != seen.shape:
        values = np.where(seen, 2.0, 0.0) if key == "visibility" else np.full(len(seen), np.nan)
    return np.where(seen, values, 0.0) if key == "visibility" else values


def _first_columns(
    target: Target, files: list[LandmarkFile], columns: Sequence[str] | None
) -> tuple[list[str], list[list[str]]]:
    """Return the names and the values of the columns before the coordinates."""
    if columns is None:
        plain = (key for file in files for key, value in file.attributes.items() if _plain(value))
        columns = [key for key in dict.fromkeys(plain) if not _COORDINATE.fullmatch(key)]
    names = list(columns)
    if any(file.frame != "pixels" for file in files):
        names = [name for name in names if name != "frame"] + ["frame"]
    images = any(file.image_name for file in files)
    rows = []
    for file in files:
        values = {**file.attributes, **({"frame": file.frame} if "frame" in names and "frame" not in columns else {})}
        row = [file.image_name or ""] if images else []
        rows.append(row + ["" if values.get(name) is None else str(values[name]) for name in names])
    if len(set(names)) != len(names) or (images and "image" in names):
        raise target.error(f"columns: got {names}; expected names that differ.")
    return [*(["image"] if images else []), *names], rows


def _identities(target: Target, files: list[LandmarkFile], style: str) -> tuple[list[str], list[list[str]]]:
    """Return the one column of MorphoJ and of R: who each shape is."""
    for file in files:
        target.refuse_frame(file, "pixels", "y_up", "physical")
    rows = [[str(file.image_name or index) if file.id is None else str(file.id)] for index, file in enumerate(files)]
    return ["ID" if style == "morphoj" else ""], rows


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | np.integer | np.floating) and not isinstance(value, bool)
