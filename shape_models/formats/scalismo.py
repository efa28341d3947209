"""The landmark lists of Scalismo and Statismo: JSON objects with an identifier and three coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, Missing, record
from ._source import Source, shorten

__all__ = ["read_scalismo"]


def read_scalismo(path: PathLike, *, missing: Missing = None, scheme: SchemeLike | None = None) -> LandmarkFile:
    """Read a landmark list of Scalismo.

    Parameters
    ----------
    path : path
        The file.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides null: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile
        Frame ``"physical"``; the labels are the identifiers. The uncertainties are not kept.

    Raises
    ------
    LandmarkFileError
        With the file and the field.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_scalismo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "landmarks.json")
    ...     _ = path.write_text('[{"id": "nose", "coordinates": [1.0, 2.0, 3.0]}]')
    ...     file = read_scalismo(path)
    >>> file.labels, file.points.tolist()
    (('nose',), [[1.0, 2.0, 3.0]])
    """
    source = Source.of(path)
    content: Any = source.json
    if not isinstance(content, list) or not content:
        raise source.error(f"file: got {shorten(repr(content))}; expected a list of landmarks.")
    labels: list[str] = []
    points: list[list[float]] = []
    for i, landmark in enumerate(content):
        label = str(source.member(landmark, "id", (str, int), f"[{i}]"))
        values = source.member(landmark, "coordinates", list, f"[{i}]")
        if label in labels:
            raise source.error(f"[{i}].id: got {shorten(label)!r} twice; expected different ones.")
        if len(values) not in (2, 3) or (points and len(values) != len(points[0])):
            raise source.error(f"[{i}].coordinates: got {shorten(repr(values))}; expected two or three numbers.")
        labels.append(label)
        points.append([source.json_number(value, f"[{i}].coordinates") for value in values])
    return record(source, np.array(points), labels=labels, scheme=scheme, frame="physical", missing=missing)
