"""The tables of DeepLabCut: three or four rows of header, then one row an image; ``.csv``, or ``.h5`` where h5py is."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, Missing, record
from ._source import LandmarkFileError, Source, read_bytes, shorten
from ._table import read_rows

__all__ = ["read_deeplabcut"]

_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_Table = tuple[list[tuple[str, str, str]], list[tuple[list[str], list[float]]]]


def read_deeplabcut(path: PathLike, *, missing: Missing = None, scheme: SchemeLike | None = None) -> list[LandmarkFile]:
    """Read annotations or predictions of DeepLabCut.

    Parameters
    ----------
    path : path
        A ``.csv`` with the rows ``scorer``, (``individuals``,) ``bodyparts`` and ``coords`` at its head, or the ``.h5``
        beside it, which needs h5py.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides an empty field: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; there must be as many body parts.

    Returns
    -------
    list of LandmarkFile
        One for each row, or for each row and individual that has any point; the labels are the body parts, in the order
        of the file. Frame ``"pixels"``. The attributes are ``"confidence"`` (the likelihoods, where there are any),
        ``"id"`` (the number of the video frame, or the image) and ``"individual"``.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the column.

    References
    ----------
    A. Mathis et al., "DeepLabCut: markerless pose estimation of user-defined body parts with deep learning", Nature
    Neuroscience 21, 2018.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_deeplabcut
    >>> text = '''scorer,net,net,net
    ... bodyparts,snout,snout,snout
    ... coords,x,y,likelihood
    ... 0,1.5,2.5,0.9
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.csv")
    ...     _ = path.write_text(text)
    ...     file = read_deeplabcut(path)[0]
    >>> file.labels, file.points.tolist(), file.attributes["confidence"].tolist(), file.id
    (('snout',), [[1.5, 2.5]], [0.9], '0')
    """
    where = path.path if isinstance(path, Source) else path
    hdf = str(where).lower().endswith((".h5", ".hdf5", ".hdf"))
    source = Source(where, text="") if hdf else Source.of(path)
    columns, rows = _from_hdf(source) if hdf else _from_csv(source)
    individuals = list(dict.fromkeys(individual for individual, _, _ in columns))
    files = []
    for index, values in rows:
        for individual in individuals:
            parts = list(dict.fromkeys(part for who, part, _ in columns if who == individual))
            places = {(p, axis): i for i, (who, p, axis) in enumerate(columns) if who == individual}
            for part in parts:
                if (part, "x") not in places or (part, "y") not in places:
                    raise source.error(f"{shorten(part)}: expected x and y.")
            axes = [axis for axis in "xyz" if (parts[0], axis) in places]
            points = np.array([[values[places[p, a]] if (p, a) in places else np.nan for a in axes] for p in parts])
            if len(individuals) > 1 and np.isnan(points).any(axis=1).all():
                continue
            attributes: dict[str, Any] = {"id": "/".join(index)}
            if (parts[0], "likelihood") in places:
                attributes["confidence"] = np.array(
                    [values[places[p, "likelihood"]] if (p, "likelihood") in places else np.nan for p in parts]
                )
            if individual:
                attributes["individual"] = individual
            image = "/".join(index) if not "".join(index).isdecimal() else None
            frame = "pixels" if len(axes) == 2 else "physical"
            own: dict[str, Any] = {"image_name": image, "frame": frame, "attributes": attributes}
            files.append(record(source, points, labels=parts, scheme=scheme, missing=missing, **own))
    if not files:
        raise source.error("got a header and no rows; expected at least one.")
    return files


def _from_csv(source: Source) -> _Table:
    rows = read_rows(source)
    head: dict[str, list[str]] = {}
    while rows and rows[0][1][0].lower() in _LEVELS:
        line, fields = rows.pop(0)
        head[fields[0].lower()] = fields
    if "bodyparts" not in head or "coords" not in head:
        raise source.error("header: expected the rows scorer, bodyparts and coords of DeepLabCut.", 1)
    coords = head["coords"]
    first = next((i for i, name in enumerate(coords) if i and name), len(coords))  # behind the columns of the index
    columns = []
    for i in range(first, len(coords)):
        if any(len(row) != len(coords) for row in head.values()):
            raise source.error(f"header: expected {len(coords)} fields in each of its rows.", 1)
        columns.append((head["individuals"][i] if "individuals" in head else "", head["bodyparts"][i], coords[i]))
    if len(set(columns)) != len(columns) or not columns:
        raise source.error("header: expected every body part once, with x and y.", 1)
    titles = [f"{part} {axis}" for _, part, axis in columns]
    table = []
    for line, row in rows:
        if len(row) != len(coords):
            raise source.error(f"got {len(row)} fields; expected {len(coords)}, as in the header.", line)
        table.append((row[:first], source.numbers(row[first:], titles, line)))
    return columns, table


class _Plain(pickle.Unpickler):
    """Reads what is made of lists, tuples, numbers and text, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"got {module}.{name}, which is no plain value")


def _from_hdf(source: Source) -> _Table:
    """Read the table that pandas writes with PyTables; the names of its columns stand in an attribute."""
    try:
        import h5py
    except ImportError:
        raise source.error("a .h5 needs h5py. Try the .csv beside it, or pip install shape-models[h5].") from None
    try:
        with h5py.File(io.BytesIO(read_bytes(source.path)), "r") as file:
            group = next((g for g in file.values() if isinstance(g, h5py.Group) and "table" in g), None)
            if group is None:
                raise source.error("got no table of pandas; expected a file of DeepLabCut. Try the .csv beside it.")
            table = group["table"][()]
            axes = _Plain(io.BytesIO(bytes(group.attrs["non_index_axes"]))).load()
            names = [tuple(map(_text, name)) for name in axes[0][1]]
            blocks = [table[name] for name in table.dtype.names if name.startswith("values_block")]
            kinds = [
                _Plain(io.BytesIO(bytes(group["table"].attrs[f"{name}_kind"]))).load()
                for name in table.dtype.names
                if name.startswith("values_block")
            ]
            index = [_text(value) for value in table["index"]]
    except LandmarkFileError:
        raise
    except Exception as error:  # damaged files fail in the ways of their library
        raise source.error(f"cannot be read as a table of DeepLabCut ({shorten(str(error), 80)}).") from None
    order = [tuple(map(_text, name)) for kind in kinds for name in kind]
    if sorted(order) != sorted(names) or not names or any(len(name) not in (3, 4) for name in names):
        raise source.error("got columns that do not fit together; expected scorer, bodyparts and coords.")
    values = np.hstack([np.asarray(block, dtype=np.float64).reshape(len(index), -1) for block in blocks])
    if values.shape[1] != len(order) or np.isinf(values).any():
        raise source.error(f"got {values.shape[1]} columns of finite numbers; expected {len(order)}.")
    place = {name: i for i, name in enumerate(order)}
    columns = [(name[1] if len(name) == 4 else "", name[-2], name[-1]) for name in names]
    chosen = values[:, [place[name] for name in names]]
    return columns, [([text], row) for text, row in zip(index, chosen.tolist(), strict=True)]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
