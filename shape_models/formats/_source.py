"""The text of a file: how it is decoded, cut into lines, fields and numbers, and what its errors quote."""

from __future__ import annotations

import json
import re
import stat
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._options import check_choice
from .._typing import PathLike

MAX_BYTES = 1 << 30  # no file of landmarks is so large; this stops files made to exhaust memory
_MISSING = ("nan", "na", "n/a", "#n/a", "#na", "#nv", "<na>", "null", "none", "-", "--")
_PLAIN = re.compile(r"[0-9.eE+-]*")
_INFINITE = frozenset((np.inf, -np.inf))
LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also ends lines at code-page letters, such as byte 85
BLANKS = " \t\v\f\xa0\ufeff"  # likewise str.strip
_SEPARATOR = re.compile(r"[,;]+")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:([.,'\u2019\u00a0\u202f ])[0-9]{3})+(?:(?!\1)[.,][0-9]+)?")


class LandmarkFileError(ValueError):
    """A landmark file that cannot be read or written; the message names the file, the line and the field.

    Examples
    --------
    >>> from shape_models import LandmarkFileError, read_pts
    >>> try:
    ...     read_pts("no-such-file.pts")
    ... except LandmarkFileError as error:
    ...     print(error)
    no-such-file.pts: got no such file; expected a landmark file or a folder.
    """


class Source:
    """The text of a file, with the name and the line that its errors quote."""

    def __init__(self, path: PathLike, text: str | None = None, *, decimal: str = ".") -> None:
        check_choice((".", ","), decimal=decimal)
        self.path = Path(path)
        self.text = read_text(self.path) if text is None else text
        self.decimal = decimal

    @classmethod
    def of(cls, path: PathLike | Source, *, decimal: str = ".") -> Source:
        """Return a source that has been opened already as it is."""
        if isinstance(path, Source):
            return path if path.decimal == decimal else cls(path.path, path.text, decimal=decimal)
        return cls(path, decimal=decimal)

    def error(self, problem: str, line: int | None = None) -> LandmarkFileError:
        where = f"{self.path}" if line is None else f"{self.path}, line {line}"
        return LandmarkFileError(f"{where}: {problem}")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number from 1, line without surrounding space) of every line that is not empty."""
        parts = LINE_END.split(self.text) if "\r" in self.text else self.text.split("\n")
        for number, line in enumerate(parts, 1):
            line = line.strip(BLANKS)
            if line:
                yield number, line

    def fields(self, line: str) -> list[str]:
        """Return the fields of a line between blanks, commas or semicolons, decimal points in their numbers."""
        if self.decimal == ",":
            return [self.pointed(token) for token in line.replace(";", " ").split()]
        if "," not in line and ";" not in line:
            return line.split()
        fields = line.split()
        commas = [bool(_DECIMAL_COMMA.fullmatch(token)) for token in fields]
        if (
            len(fields) > 1
            and any(commas)
            and all(c or _NUMBER.fullmatch(t) for c, t in zip(commas, fields, strict=True))
        ):
            return fields  # decimal commas: the error of a number that is none says what to do
        return _SEPARATOR.sub(" ", line).split()

    @cached_property
    def json(self) -> Any:
        """The parsed content of a JSON file; NaN, infinities, endless numbers and endless nesting are refused."""

        def refuse(token: str) -> None:
            raise ValueError(f"{token} is not JSON")

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            members = dict(pairs)
            if len(members) != len(pairs):
                repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
                raise ValueError(f"got the key {shorten(repeated)!r} twice in one object")
            return members

        try:
            return json.loads(self.text, parse_constant=refuse, object_pairs_hook=unique)
        except json.JSONDecodeError as error:
            raise self.error(f"not JSON: {error.msg}; expected a whole JSON file.", error.lineno) from None
        except (ValueError, RecursionError) as error:
            raise self.error(f"not JSON that can be read: {shorten(str(error), 80)}; expected plain JSON.") from None

    def json_number(self, value: Any, name: str) -> float:
        """Return a finite number of a JSON file, or NaN for null."""
        if value is None:
            return np.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{name}: got {shorten(repr(value))}; expected a number or null.")
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise self.error(f"{name}: got a number that is too large; expected a finite one.")
        return number

    def json_numbers(self, values: list[Any], name: str) -> np.ndarray:
        """Return what `json_number` does of many values, faster."""
        if set(map(type, values)) <= {int, float}:
            try:
                array = np.array(values, dtype=np.float64)
            except OverflowError:
                array = np.array([np.inf])
            if np.isfinite(array).all():
                return array
        return np.array([self.json_number(value, name) for value in values])

    def member(self, parent: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
        """Return a member of a JSON object after checking that it is there and of its kind."""
        if not isinstance(parent, dict) or key not in parent:
            raise self.error(f"{where}: got no {key!r}; expected one.")
        value = parent[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(names.get(k, k.__name__) for k in kinds)
            raise self.error(f"{where}: {key}: got {shorten(repr(value))}; expected {expected}.")
        return value

    def objects(self, items: Sequence[Any], where: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a JSON list; what is none is refused."""
        for i, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.error(f"{where}[{i}]: got {shorten(repr(item))}; expected an object.")
            yield item

    def pointed(self, token: str) -> str:
        """Return a field of a file with decimal commas, with a point in the place of the comma of a number."""
        if _DECIMAL_COMMA.fullmatch(token):
            return token.replace(",", ".")
        if "." in token and (_NUMBER.fullmatch(token) or _THOUSANDS.fullmatch(token)):
            raise self.error(
                f"got {shorten(token)!r}, with a point; expected decimal commas and no thousands separators. Try "
                "writing 1234,5."
            )
        return token

    def number(self, token: str, name: str, line: int | None = None) -> float:
        """Return the finite number that a field spells, or NaN where it says so."""
        if _NUMBER.fullmatch(token):
            value = float(token)
            if np.isfinite(value):
                return value
            raise self.error(f"{name}: got {shorten(token)}, which is too large; expected a finite number.", line)
        if token.lower() in _MISSING:
            return np.nan
        hint = ""
        if _THOUSANDS.fullmatch(token):
            hint = " If it has a thousands separator: none are read. Try writing 1234.5."
        if _DECIMAL_COMMA.fullmatch(token):
            hint = f"{hint} Try decimal=','."
        raise self.error(f"{name}: got {shorten(token)!r}; expected a number.{hint}", line)

    def numbers(self, tokens: Sequence[str], names: Sequence[str], line: int | None = None) -> list[float]:
        """Return what `number` does of many fields of one line, faster; an empty field is missing."""
        if _PLAIN.fullmatch("".join(tokens)):  # then float() takes what _NUMBER takes
            try:
                values = list(map(float, tokens))
            except ValueError:
                pass
            else:
                if _INFINITE.isdisjoint(values):
                    return values
        return [self.number(t, name, line) if t else np.nan for t, name in zip(tokens, names, strict=True)]

    def count(self, token: str, name: str, line: int | None = None) -> int:
        """Return the count that a field declares. Nothing may be allocated by it: it is compared with what is there."""
        if re.fullmatch("[0-9]{1,9}", token):
            return int(token)
        raise self.error(f"{name}: got {shorten(token)!r}; expected a count.", line)


def shorten(text: str, limit: int = 40) -> str:
    """Cut a quotation so that it fits into a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, or a LandmarkFileError that says why there is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise LandmarkFileError(f"{path}: got no regular file; expected a landmark file or a folder.")
        if status.st_size > MAX_BYTES:
            raise LandmarkFileError(f"{path}: got {status.st_size} bytes; expected a landmark file below 1 GiB.")
        return path.read_bytes()
    except FileNotFoundError:
        raise LandmarkFileError(f"{path}: got no such file; expected a landmark file or a folder.") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        if isinstance(error, LandmarkFileError):
            raise
        raise LandmarkFileError(f"{path}: cannot be read ({error}); expected a readable file.") from None


_MARKS = {BOM_UTF8: "utf-8", BOM_UTF32_LE: "utf-32", BOM_UTF32_BE: "utf-32"}
_MARKS |= {BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}  # after what begins with the same bytes


def read_text(path: Path) -> str:
    """Decode a file: by its mark, UTF-16 where every other byte is null, UTF-8, the code page of western Windows.

    Marks also stand in the middle of files that were put together of several; they are no letters.
    """
    data = read_bytes(path)
    if data.isascii() and b"\0" not in data:  # most files
        return data.decode("ascii")
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    for encoding in (marked or (_by_nulls(data) if b"\0" in data else None) or "utf-8", "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            pass
    if "\0" in text:
        raise LandmarkFileError(f"{path}: got binary data; expected text.")
    return text.replace("\ufeff", "")


def _by_nulls(data: bytes) -> str | None:
    """Say which half of the bytes is null: in text of numbers and western letters that is the upper one of UTF-16."""
    even, odd = data[:4096:2].count(0), data[1:4096:2].count(0)
    if 4 * max(even, odd) < min(len(data), 4096) or min(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"
