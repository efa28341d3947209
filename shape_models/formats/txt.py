"""Plain text: the points one a line, or all their coordinates one below the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import PathLike
from ._columns import Columns
from ._record import FRAMES, LandmarkFile, Missing, mark_missing, record, whole_missing
from ._source import Source

__all__ = ["read_txt"]


def read_txt(
    path: PathLike,
    *,
    columns: str | None = None,
    n_dims: int | None = None,
    decimal: str = ".",
    missing: Missing = None,
    frame: str = "pixels",
    scheme: SchemeLike | None = None,
) -> LandmarkFile:
    r"""Read one shape from plain text without a header.

    Parameters
    ----------
    path : path
        A line for each point, its coordinates between blanks, commas or semicolons; or a line for each number, x and y
        in turn; or all numbers in one line. Lines that begin with ``#``, and a first line that holds only the number of
        points, are passed over.
    columns : str, optional
        What the columns are, one letter each: x, y, z, v (visibility; 0 is missing), c (confidence), i (number of the
        landmark), l (label), - (nothing). Two columns are x and y, and words before them labels; others need it.
    n_dims : {2, 3}, optional
        Dimensions of numbers that stand in one column or in one line; by default two.
    decimal : {".", ","}
        What stands before the decimals of the numbers.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides ``NA`` and ``nan``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    frame : {"pixels", "y_up", "relative", "physical"}
        What the numbers are, as the file cannot say it.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile

    Raises
    ------
    LandmarkFileError
        With the file and the line.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_txt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.txt")
    ...     _ = path.write_text("1.5\n2\n3\n4.5\n")
    ...     read_txt(path).points.tolist()
    [[1.5, 2.0], [3.0, 4.5]]
    """
    source = Source.of(path, decimal=decimal)
    check_choice(FRAMES, frame=frame)
    if n_dims not in (None, 2, 3):
        raise ValueError(f"n_dims: got {n_dims!r}; expected 2 or 3.")
    table = [(number, source.fields(line)) for number, line in source.lines() if not line.startswith("#")]
    table = [(number, fields) for number, fields in table if fields]
    if len(table) > 1 and table[0][1] == [str(len(table) - 1)]:
        table = table[1:]
    if not table:
        raise source.error("got no points; expected at least one.")
    options: dict[str, Any] = {"frame": frame, "scheme": scheme}
    width = len(table[0][1])
    if columns is None and ((width == 1 and len(table) > 1) or (len(table) == 1 and width > 3)):
        tokens = [(number, token) for number, fields in table for token in fields]
        dims = n_dims or 2
        values = [source.number(token, "xyz"[i % dims], number) for i, (number, token) in enumerate(tokens)]
        if len(tokens) % dims or any(len(fields) != width for _, fields in table):
            raise source.error(f"got {len(tokens)} numbers; expected a multiple of {dims}. Try n_dims= or columns=.")
        return record(source, np.reshape(values, (-1, dims)), missing=missing, **options)
    if columns is None and width in (3, 4) and all(_is_word(fields[0]) for _, fields in table):
        columns = "l" + "xyz"[: width - 1]
    layout = Columns(source, columns, table)
    rows = layout.tokens()
    points = [source.numbers(row, layout.axes, number) for (number, _), row in zip(table, rows, strict=True)]
    return layout.record(mark_missing(whole_missing(points), missing), **options)


def _is_word(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return token.lower() not in ("na", "null", "none")
    return False
