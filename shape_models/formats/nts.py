"""The ``.nts`` files of NTSYS and the ``.dta`` files of the IDAV Landmark Editor: one matrix with a line before it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import PathLike
from ._record import LandmarkFile, Missing, record
from ._source import Source, shorten

__all__ = ["read_nts"]

_HEADER = re.compile(
    r"1\s+([0-9]{1,9})(L?)\s+([0-9]{1,9})(L?)\s+([0-9])(?:\s+([^\sA-Za-z]\S*))?(?:\s+DIM\s*=\s*([0-9]))?.*",
    re.IGNORECASE,
)


def read_nts(
    path: PathLike,
    *,
    n_dims: int | None = None,
    decimal: str = ".",
    missing: Missing = None,
    scheme: SchemeLike | None = None,
) -> list[LandmarkFile]:
    r"""Read the specimens of an ``.nts`` or ``.dta`` file.

    Parameters
    ----------
    path : path
        The file. Its first line is ``1 ROWS COLUMNS 0`` or ``1 ROWS COLUMNS 1 CODE``, where CODE marks what is missing,
        and perhaps ``DIM=2`` or ``DIM=3``; an L behind a number announces labels. A row is a specimen; where there are
        as many columns as dimensions it is a landmark of the only specimen. Lines that begin with a quotation mark are
        comments.
    n_dims : {2, 3}, optional
        The number of dimensions, where the file does not say it.
    decimal : {".", ","}
        What stands before the decimals of the numbers.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides the code of the file and ``NA``: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every specimen must have as many.

    Returns
    -------
    list of LandmarkFile
        Frame ``"physical"``, as the format does not say what is up. The attribute ``"id"`` is the label of the row; the
        labels of the landmarks are kept where the file has one for each.

    Raises
    ------
    LandmarkFileError
        With the file and the line.

    References
    ----------
    F. J. Rohlf, NTSYS-pc, gives the format.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_nts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.nts")
    ...     _ = path.write_text("1 2L 4 1 -999 DIM=2\na b\n1 2 3 4\n5 6 -999 -999\n")
    ...     files = read_nts(path)
    >>> files[1].id, files[1].points.tolist()
    ('b', [[5.0, 6.0], [nan, nan]])
    """
    source = Source.of(path, decimal=decimal)
    lines = [(number, line) for number, line in source.lines() if line[0] not in "\"'"]
    header = _HEADER.fullmatch(lines[0][1]) if lines else None
    if header is None:
        got = shorten(lines[0][1]) if lines else ""
        raise source.error(f"got {got!r}; expected '1 ROWS COLUMNS 0', the line of an NTSYS matrix.", 1)
    n_rows, n_columns = int(header[1]), int(header[3])
    code = source.number(header[6].replace(decimal, "."), "missing", lines[0][0]) if header[6] else np.nan
    dims = int(header[7]) if header[7] else n_dims
    if dims not in (2, 3):
        raise source.error(f"got no DIM=2 or DIM=3 (but {dims!r}); expected one. Try n_dims=.", lines[0][0])
    if n_columns % dims or not n_rows or not n_columns:
        raise source.error(f"got {n_rows} rows of {n_columns} numbers; expected a multiple of {dims}.", lines[0][0])
    rest = lines[1:]
    names = _labels(source, rest, n_rows) if header[2] else None
    titles = _labels(source, rest, n_columns) if header[4] else None
    tokens = [(number, token) for number, line in rest for token in source.fields(line)]
    if len(tokens) != n_rows * n_columns:
        raise source.error(f"got {len(tokens)} numbers; expected {n_rows} x {n_columns}, as the first line declares.")
    values = np.array([source.number(token, "matrix", number) for number, token in tokens]).reshape(n_rows, n_columns)
    if header[5] == "1":
        values[values == code] = np.nan
    if n_columns == dims:  # one specimen, a row for each landmark
        return [record(source, values, labels=_distinct(names), scheme=scheme, frame="physical", missing=missing)]
    labels = None if titles is None or len(titles) * dims != n_columns else titles
    options: dict[str, Any] = {"labels": _distinct(labels), "scheme": scheme, "frame": "physical", "missing": missing}
    attributes = [{}] * n_rows if names is None else [{"id": name} for name in names]
    return [
        record(source, row.reshape(-1, dims), attributes=own, **options)
        for row, own in zip(values, attributes, strict=True)
    ]


def _labels(source: Source, lines: list[tuple[int, str]], n: int) -> list[str]:
    """Take labels off the lines: one a line, or several between blanks."""
    labels: list[str] = []
    first = lines[0][1].split() if lines else []
    one = len(first) == 1 or source.path.suffix.lower() == ".dta"
    if len(first) == n and len(lines) > 1 and re.match(r"[+-]?[.0-9]", lines[1][1]):  # then come the numbers
        one = False
    while lines and len(labels) < n:
        line = lines.pop(0)[1]
        labels += [line] if one else line.split()
    if len(labels) != n:
        raise source.error(f"got {len(labels)} labels; expected {n}, as the first line declares.")
    return labels


def _distinct(labels: list[str] | None) -> list[str] | None:
    return labels if labels is not None and len(set(labels)) == len(labels) else None
