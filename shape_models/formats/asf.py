"""The ``.asf`` files of the IMM and DTU sets: relative coordinates and the way the points are joined."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import numpy as np

from .._scheme import SchemeLike
from .._typing import ImageSize, PathLike
from ._record import LandmarkFile, LandmarksLike, Missing, as_image_size, record, size_of_image, spell
from ._source import Source, shorten
from ._target import Target

__all__ = ["read_asf", "write_asf"]

_LONG = Context(prec=400)
_COLUMNS = ("path", "type", "x", "y", "point", "from", "to")


def read_asf(
    path: PathLike, *, image_size: ImageSize | None = None, missing: Missing = None, scheme: SchemeLike | None = None
) -> LandmarkFile:
    """Read an ``.asf`` file: points as fractions of the size of the image, with their connections.

    Parameters
    ----------
    path : path
        The file.
    image_size : (width, height), optional
        Size of the image in pixels; x is multiplied by the width, y by the height. Without it the header of the image
        that the file names is read, where that image lies beside the file.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides NaN: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; the file must have as many.

    Returns
    -------
    LandmarkFile
        Frame ``"pixels"``, or ``"relative"`` when the size of the image is not known. Its attributes hold
        ``"columns"``, an integer array of shape (n_landmarks, 4): path, type, and the points it connects from and to.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the field.

    References
    ----------
    M. B. Stegmann, "Analysis and segmentation of face images using point annotations and linear subspace techniques",
    Technical University of Denmark, 2002, gives the format.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_asf, write_asf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.asf")
    ...     write_asf(path, [[160.0, 120.0], [320.0, 60.0]], image_size=(640, 480))
    ...     read_asf(path).points.tolist(), read_asf(path, image_size=(640, 480)).points.tolist()
    ([[0.25, 0.25], [0.5, 0.125]], [[160.0, 120.0], [320.0, 60.0]])
    """
    source = Source.of(path)
    lines = [(number, line) for number, line in source.lines() if not line.startswith("#")]
    if not lines:
        raise source.error("got no lines; expected the number of points.")
    declared = source.count(lines[0][1], "number of points", lines[0][0])
    rows, rest = lines[1 : declared + 1], lines[declared + 1 :]
    tokens: list[list[str]] = []
    for number, line in rows:
        fields = line.split()
        if len(fields) != len(_COLUMNS):
            raise source.error(
                f"got {len(fields)} fields ({shorten(line)!r}); expected {', '.join(_COLUMNS)}. "
                f"The file declares {declared} points.",
                number,
            )
        tokens.append(fields)
    if len(tokens) != declared or not tokens:
        raise source.error(f"number of points: got {declared}, but the file has {len(tokens)}; expected as many.")
    if len(rest) > 1:
        raise source.error(f"got {shorten(rest[1][1])!r} after the name of the image; expected nothing.", rest[1][0])
    image_name = rest[0][1] if rest else None
    size = size_of_image(source, image_name, image_size)
    order = _order(source, rows, tokens)
    points, stored, columns = [], [], []
    for i in order:
        number = rows[i][0]
        fields = tokens[i]
        point = []
        stored.append([source.number(token, axis, number) for axis, token in zip("xy", fields[2:4], strict=True)])
        for axis, (token, value) in enumerate(zip(fields[2:4], stored[-1], strict=True)):
            if size is not None and not np.isnan(value):
                value = float(_LONG.multiply(Decimal(token), Decimal(size[axis])))
            point.append(value)
        points.append(point)
        columns.append([_integer(source, fields[k], _COLUMNS[k], number) for k in (0, 1, 5, 6)])
    frame, marks = "relative" if size is None else "pixels", {"columns": np.array(columns)}
    own: dict[str, Any] = {"image_name": image_name, "frame": frame, "attributes": marks}
    return record(source, points, scheme=scheme, missing=missing, stored=np.array(stored), **own)


def _order(source: Source, rows: list[tuple[int, str]], tokens: list[list[str]]) -> list[int]:
    """Return the rows in the order of their point numbers, which must be 0 ... n-1."""
    order = [-1] * len(tokens)
    for i, fields in enumerate(tokens):
        index = _integer(source, fields[4], "point", rows[i][0])
        if not 0 <= index < len(tokens) or order[index] != -1:
            raise source.error(f"point: got {index}; expected each of 0...{len(tokens) - 1} once.", rows[i][0])
        order[index] = i
    return order


def _integer(source: Source, token: str, name: str, line: int) -> int:
    digits = token.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 10:
        return int(token)
    raise source.error(f"{name}: got {shorten(token)!r}; expected an integer.", line)


def write_asf(
    path: PathLike, landmarks: LandmarksLike, *, image_size: ImageSize | None = None, image_name: str | None = None
) -> None:
    r"""Write an ``.asf`` file that `read_asf` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : array_like of shape (n_landmarks, 2) or LandmarkFile
        Pixels, which need `image_size`; or a LandmarkFile in the frame ``"relative"``. Its connections are kept;
        otherwise the points are joined in their order into one open path. Labels and other attributes are not kept, as
        the format has no place for them.
    image_size : (width, height), optional
        Size of the image in pixels.
    image_name : str, optional
        The last line; by default that of the LandmarkFile.

    Raises
    ------
    LandmarkFileError
        For pixels without `image_size`, another frame, a missing landmark (the format cannot say so), an image name
        of more than one line, and when the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import write_asf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.asf")
    ...     write_asf(path, [[160.0, 120.0]], image_size=(640, 480), image_name="a.bmp")
    ...     [line for line in path.read_text().splitlines() if not line.startswith("#")]
    ['1', '0\t4\t0.25\t0.25\t0\t0\t0', 'a.bmp']
    """
    target = Target(path)
    points = target.points(landmarks, allow_nan=False, n_dims=(2,))
    frame = getattr(landmarks, "frame", "pixels")
    name = image_name or getattr(landmarks, "image_name", None) or ""
    if target.one_line("image_name", name).startswith("#"):
        raise target.error(f"image_name: got {shorten(name)!r}, which one line cannot hold; expected a plain name.")
    factors: tuple[Decimal | None, Decimal | None] = (None, None)
    if frame == "pixels":
        if image_size is None:
            raise target.error("got pixels; this format is relative to the image. Try image_size=.")
        width, height = as_image_size(image_size)
        factors = Decimal(width), Decimal(height)
    elif frame != "relative":
        raise target.error(f"got the frame {frame!r}; expected 'pixels' or 'relative', as this format holds.")
    n = len(points)
    columns = getattr(landmarks, "attributes", {}).get("columns")
    if columns is None or np.shape(columns) != (n, 4):
        columns = [[0, 4, max(i - 1, 0), min(i + 1, n - 1)] for i in range(n)]
    rows = [
        f"{int(p)}\t{int(t)}\t{_fraction(x, factors[0])}\t{_fraction(y, factors[1])}\t{i}\t{int(a)}\t{int(b)}"
        for i, ((x, y), (p, t, a, b)) in enumerate(zip(points.tolist(), columns, strict=True))
    ]
    head = ["# number of points", str(n), "# path type x y point from to (x and y relative to the image)"]
    target.write("\n".join([*head, *rows, "# image", *([name] if name else []), ""]))


def _fraction(value: float, factor: Decimal | None) -> str:
    """Spell value / factor so that the product with the factor rounds to the value."""
    if factor is None:
        return spell(value)
    short = repr(value / float(factor))
    if float(_LONG.multiply(Decimal(short), factor)) == value:
        return short
    # the exact value: its shortest decimal can lie half way between two floats, where any error decides
    return f"{Context(prec=45).divide(Decimal(value), factor):e}"
