"""A small table of numbers with their intervals: printed for people, written for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shape_models._files import write_text
from shape_models._options import check_numbers
from shape_models._typing import PathLike


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval it comes with.

    Parameters
    ----------
    estimate, low, high : float
        ``low <= estimate <= high``.
    confidence : float
        Nominal coverage, such as 0.95.
    method : str
        How the interval was found.
    n : int
        Number of faces.
    n_groups : int, optional
        Number of persons or images that were resampled, when faces are not independent.

    Examples
    --------
    >>> from evaluation import Interval
    >>> print(Interval(0.0406, 0.0395, 0.0418, confidence=0.95, method="bootstrap", n=689))
    0.0406 [0.0395, 0.0418]
    """

    estimate: float
    low: float
    high: float
    confidence: float = 0.95
    method: str = ""
    n: int = 0
    n_groups: int | None = None

    def __float__(self) -> float:
        return self.estimate

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        spec = spec or ".4g"
        if math.isnan(self.low):
            return format(self.estimate, spec)
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")

    def scaled(self, factor: float) -> Interval:
        """Return the same interval in another unit.

        Parameters
        ----------
        factor : float
            What to multiply by; positive.

        Returns
        -------
        Interval
            With estimate, low and high multiplied.

        Raises
        ------
        ValueError
            For a factor that is no positive number.
        """
        check_numbers(above=True, factor=factor)
        values = (self.estimate * factor, self.low * factor, self.high * factor)
        return Interval(*values, confidence=self.confidence, method=self.method, n=self.n, n_groups=self.n_groups)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of labels, counts, numbers and intervals.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : sequence of sequences
        Cells: text, int, float, `Interval` or None.
    title : str
        What is printed above.
    percent : sequence of str
        Columns whose fractions are printed in percent. They stay fractions in `to_dict` and `to_csv`.
    notes : sequence of str
        Lines printed below.
    digits : int
        Decimals that are printed.

    Examples
    --------
    >>> from evaluation import Table
    >>> print(Table(["part", "faces", "NME"], [["eyes", 20, 0.031], ["mouth", 20, 0.052]], percent=["NME"]))
    part   faces  NME %
    -----  -----  -----
    eyes      20  3.100
    mouth     20  5.200
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    percent: Sequence[str] = ()
    notes: Sequence[str] = ()
    digits: int = 3

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows: got {len(row)} cells; expected {len(self.columns)}, one for each column.")

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return the cells of one column.

        Parameters
        ----------
        name : str
            One of `columns`.

        Returns
        -------
        list
            One cell for each row.

        Raises
        ------
        KeyError
            For a column that the table does not have.
        """
        if name not in self.columns:
            raise KeyError(f"got {name!r}; expected one of {', '.join(self.columns)}.")
        return [row[list(self.columns).index(name)] for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values, ready for JSON: intervals become estimate, low and high.

        Returns
        -------
        dict
            Title, columns and rows.
        """
        rows = [dict(zip(self.columns, map(plain, row), strict=True)) for row in self.rows]
        return {"title": self.title, "columns": list(self.columns), "rows": rows, "notes": list(self.notes)}

    def to_csv(self, path: PathLike | None = None) -> str:
        """Return comma-separated values, fractions as fractions, intervals in columns `name_low` and `name_high`.

        Parameters
        ----------
        path : path, optional
            A file to write as well.

        Returns
        -------
        str
            What was written, or would be.
        """
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in range(len(self.columns))]
        header: list[str] = []
        for name, spread in zip(self.columns, wide, strict=True):
            header += [name, f"{name}_low", f"{name}_high"] if spread else [name]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            cells: list[Any] = []
            for cell, spread in zip(row, wide, strict=True):
                if isinstance(cell, Interval):
                    cells += [_number(value) for value in (cell.estimate, cell.low, cell.high)]
                else:
                    cells += [_number(cell)] + ["", ""] * spread
            writer.writerow(cells)
        text = out.getvalue()
        if path is not None:
            write_text(path, text)
        return text

    def to_markdown(self) -> str:
        """Return a Markdown table, as printed: percent where the columns say so.

        Returns
        -------
        str
            Lines of Markdown.
        """
        header, body, numeric = self._printed()
        lines = ["| " + " | ".join(header) + " |", "|" + "|".join("--:" if n else "---" for n in numeric) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in body]
        above = [f"**{self.title}**", ""] if self.title else []
        below = ["", *self.notes] if self.notes else []
        return "\n".join([*above, *lines, *below])

    def __str__(self) -> str:
        header, body, numeric = self._printed()
        widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            padded = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
            return "  ".join(padded).rstrip()

        lines = [line(header), "  ".join("-" * w for w in widths), *map(line, body)]
        return "\n".join([*([self.title] if self.title else []), *lines, *self.notes])

    def _printed(self) -> tuple[list[str], list[list[str]], list[bool]]:
        header = [f"{name} %" if name in self.percent else name for name in self.columns]
        body = [
            [self._cell(cell, name in self.percent) for cell, name in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]
        numeric = [
            bool(self.rows) and all(row[i] is None or not isinstance(row[i], str) for row in self.rows)
            for i in range(len(header))
        ]
        return header, body, numeric

    def _cell(self, cell: Any, percent: bool) -> str:
        if cell is None:
            return "-"
        if isinstance(cell, str):
            return " ".join(cell.split("\n"))  # a row is one line
        if isinstance(cell, bool | int):
            return str(cell)
        factor = 100.0 if percent else 1.0
        if math.isnan(float(cell)):
            return "-"
        scaled = cell.scaled(factor) if isinstance(cell, Interval) else float(cell) * factor
        return format(scaled, f".{self.digits}f")


def plain(cell: Any) -> Any:
    """Return a cell as JSON holds it: None for NaN, an interval by its ends."""
    if isinstance(cell, Interval):
        return {"estimate": plain(cell.estimate), "low": plain(cell.low), "high": plain(cell.high)}
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    return None if math.isnan(float(cell)) else float(cell)


def _number(cell: Any) -> Any:
    if cell is None or (not isinstance(cell, str) and math.isnan(float(cell))):
        return ""
    return cell if isinstance(cell, str | int) else repr(float(cell))
