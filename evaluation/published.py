"""Tables of ASMNet, KD-Loss and sdu-face-alignment as they were printed, with what was measured beside each number.

Numbers are kept as printed (as text), because "8.2" and "8.20" say different things. `contradictions` computes where
the tables disagree with themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shape_models._options import check_choice

from ._tables import Table
from .protocols import get_protocol

__all__ = ["PUBLISHED", "Contradiction", "PublishedTable", "contradictions", "published_table"]


@dataclass(frozen=True)
class PublishedTable:
    """A printed table.

    Parameters
    ----------
    key : str
        How it is asked for.
    title : str
        What it is of.
    source : str
        Where it was printed.
    metric : str
        What was measured, as far as can be known.
    unit : str
        Unit of the numbers.
    columns : tuple of str
        Headings.
    rows : mapping of str to tuple of str or None
        Numbers of each method as printed; None where the table has none.
    protocol : str
        The protocol of `evaluation.protocols` that measures the same; empty where none does.
    subsets : tuple of str
        Row of that protocol for each column; empty where there is none.
    cited : tuple of str
        Methods that the table quotes from other papers.
    notes : tuple of str
        What to know before comparing.

    Examples
    --------
    >>> from evaluation.published import published_table
    >>> table = published_table("asmnet-2")
    >>> table.value("ASMNet", "Fullset"), table.unit, table.protocol
    (5.5, '%', 'asmnet-300w')
    """

    key: str
    title: str
    source: str
    metric: str
    unit: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str | None, ...]]
    protocol: str = ""
    subsets: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def printed(self, method: str, column: str) -> str | None:
        """Return a number as it was printed, or None.

        Parameters
        ----------
        method : str
            A key of `rows`.
        column : str
            One of `columns`.

        Returns
        -------
        str or None
            Digit by digit.

        Raises
        ------
        KeyError
            For a method or column that the table does not have.
        """
        if method not in self.rows or column not in self.columns:
            raise KeyError(
                f"{self.key}: got {method!r}, {column!r}; expected a method of {', '.join(self.rows)} and a column of "
                f"{', '.join(self.columns)}."
            )
        return self.rows[method][self.columns.index(column)]

    def value(self, method: str, column: str) -> float:
        """Return a number, NaN where the table has none.

        Parameters
        ----------
        method, column : str
            As in `printed`.

        Returns
        -------
        float
            In the unit of the column.
        """
        text = self.printed(method, column)
        return float("nan") if text is None else float(text)

    def table(self) -> Table:
        """Return the numbers as a table to print.

        Returns
        -------
        Table
            One row for each method.
        """
        rows = [[method + " (cited)" * (method in self.cited), *numbers] for method, numbers in self.rows.items()]
        notes = [f"{self.metric}; {self.unit}. {self.source}.", *self.notes]
        return Table(["method", *self.columns], rows, title=self.title, notes=notes)

    def __str__(self) -> str:
        return str(self.table())


@dataclass(frozen=True)
class Contradiction:
    """Two printed numbers that cannot both be right, or a claim that the printed numbers do not bear out.

    Parameters
    ----------
    table : str
        Key of the table.
    text : str
        What disagrees.
    printed : float
        The number as printed.
    implied : float
        What the other numbers imply.
    slack : float
        How far apart the two may be by the rounding of all printed numbers.

    Examples
    --------
    >>> from evaluation.published import Contradiction
    >>> Contradiction("some", "full set", printed=4.70, implied=4.633, slack=0.01).explained_by_rounding
    False
    """

    table: str
    text: str
    printed: float
    implied: float
    slack: float

    @property
    def explained_by_rounding(self) -> bool:
        """Whether the difference is no more than rounding allows."""
        # Decimals have no exact binary: what is just within the last digit counts as within.
        return abs(self.printed - self.implied) <= self.slack + 1e-9

    def __str__(self) -> str:
        verdict = "within" if self.explained_by_rounding else "beyond"
        return (
            f"{self.table}: {self.text}: printed {self.printed:g}, implied {self.implied:.4g} "
            f"({verdict} the rounding of {self.slack:.2g})"
        )


def published_table(key: str) -> PublishedTable:
    """Return a table by its key.

    Parameters
    ----------
    key : str
        A key of `PUBLISHED`.

    Returns
    -------
    PublishedTable

    Raises
    ------
    ValueError
        For an unknown key; the message lists the known ones.

    Examples
    --------
    >>> from evaluation.published import published_table
    >>> print(published_table("sdu-3d"))
    sdu-face-alignment on AFLW2000-3D
    method               AFLW2000-3D
    -------------------  -----------
    SAT2(d=3)-CAB        3.072
    Hourglass2(d=3)-CAB  3.005
    NME, divided by sqrt(w h) of the box of the true landmarks; %. README of sdu-face-alignment, April 2019.
    crops turned upright by the true landmarks, true landmarks rounded in a 128-pixel crop
    the same download links had 3.307 and 3.150 before the evaluation script changed
    """
    check_choice(PUBLISHED, key=key)
    return PUBLISHED[key]


def contradictions() -> tuple[Contradiction, ...]:
    """Compute where the tables disagree with themselves or with each other.

    Returns
    -------
    tuple of Contradiction
        Every equality that was checked, also those within rounding (`explained_by_rounding`), and the bounds that are
        exceeded.

    Examples
    --------
    >>> from evaluation.published import contradictions
    >>> found = [c for c in contradictions() if not c.explained_by_rounding]
    >>> print(found[0])
    asmnet-2: CPM: full set against the mean of common and challenging by size: printed 4.36, implied 4.321 (beyond
    the rounding of 0.01)
    """
    return tuple(
        [
            *_full_rows("asmnet-2", ("Common", "Challenging", "Fullset")),
            *_full_rows("kd-300w", ("common NME", "challenging NME", "full NME")),
            *_full_rows("kd-300w", ("common FR", "challenging FR", "full FR")),
            *_full_rows("kd-300w", ("common AUC", "challenging AUC", "full AUC")),
            *_same_number(),
            *_auc_of_kd(),
            *_claims(),
        ]
    )


# --- inside ----------------------------------------------------------------------------------------------


def _half_unit(text: str) -> float:
    """Half a unit of the last printed digit."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _full_rows(key: str, columns: tuple[str, str, str]) -> Iterator[Contradiction]:
    table, weights = PUBLISHED[key], get_protocol("300w").combinations[0].weights
    for method in table.rows:
        texts = [table.printed(method, column) for column in columns]
        if any(text is None for text in texts):
            continue
        common, challenging, full = (str(text) for text in texts)
        # The mean by the size of the sets; each printed number is off by up to half a unit of its last digit.
        sizes = (weights["common"], weights["challenging"])
        implied = sizes[0] * float(common) + sizes[1] * float(challenging)
        slack = sizes[0] * _half_unit(common) + sizes[1] * _half_unit(challenging) + _half_unit(full)
        what = "" if columns[2] == "Fullset" else f" ({columns[2].split()[1]})"
        text = f"{method}{what}: full set against the mean of common and challenging by size"
        yield Contradiction(key, text, float(full), implied, slack)


def _same_number() -> Iterator[Contradiction]:
    first, second = PUBLISHED["asmnet-1"], PUBLISHED["asmnet-2"]
    for method in first.rows:
        a, b = first.printed(method, "300W NME"), second.printed(method, "Fullset")
        if a is not None and b is not None:
            text = f"{method} on the full 300-W set: table 1 against table 2"
            yield Contradiction("asmnet-1", text, float(a), float(b), _half_unit(a) + _half_unit(b))
    log, mnv2 = PUBLISHED["kd-300w"], "mnv2"
    for column, other in (("Common", "common NME"), ("Challenging", "challenging NME"), ("Fullset", "full NME")):
        a, b = second.printed(mnv2, column), log.printed("MobileNetV2", other)
        if a is not None and b is not None:
            text = f"{mnv2}, {column}: table against the log of the authors"
            yield Contradiction("asmnet-2", text, float(a), float(b), _half_unit(a) + _half_unit(b))
    for angle in ("Pitch", "Yaw", "Roll"):
        a = PUBLISHED["asmnet-5"].printed("ASMNet", angle)
        b = PUBLISHED["asmnet-4"].printed("ASMNet", f"300W {angle.lower()}")
        if a is not None and b is not None:
            text = f"ASMNet, {angle.lower()} on 300-W: table 5 against table 4"
            yield Contradiction("asmnet-5", text, float(a), float(b), _half_unit(a) + _half_unit(b))


def _auc_of_kd() -> Iterator[Contradiction]:
    """Compare the printed AUC with the largest area that the printed NME and failure rate leave.

    ``1 - AUC = E[min(e, t)] / t >= (NME - FR * (E[e | e > t] - t)) / t``; errors of the failing faces of up to one
    whole inter-ocular distance on average are granted.
    """
    # The most that is granted to E[e | e > t]: a failing face that is off by its inter-ocular distance.
    table, threshold, worst = PUBLISHED["kd-300w"], 0.1, 1.0
    for method in table.rows:
        for part in ("common", "challenging", "full"):
            nme, rate, area = (table.value(method, f"{part} {name}") for name in ("NME", "FR", "AUC"))
            ceiling = 1 - (nme / 100 - rate / 100 * (worst - threshold)) / threshold
            text = f"{method}, {part}: AUC against the largest area that NME and FR allow"
            if area > ceiling:
                # Half units of the last digits: 0.0005 by the NME, 0.00045 by the failure rate, 0.00005 by the area.
                yield Contradiction("kd-300w", text, area, ceiling, 0.001)


def _claims() -> Iterator[Contradiction]:
    sizes = PUBLISHED["asmnet-1"]
    # Half units of the last digits move the ratios by 0.009 and 0.021.
    for column, slack in (("Params (M)", 0.02), ("FLOPs (B)", 0.03)):
        ratio = sizes.value("mnv2", column) / sizes.value("ASMNet_nr", column)
        yield Contradiction("asmnet-1", f"two times smaller than MobileNetV2, {column}", 2.0, ratio, slack)
    sdu = PUBLISHED["sdu-2d"]
    best = min(sdu.value(method, "300W") for method in sdu.rows)
    bold = sdu.value("Hourglass2(d=3)-CAB", "300W")
    yield Contradiction("sdu-2d", "the number in bold on 300W against the smallest of its column", bold, best, 0.0005)


def _read() -> dict[str, PublishedTable]:
    tables = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return {
        key: PublishedTable(key, **{name: _frozen(value) for name, value in table.items()})
        for key, table in tables.items()
    }


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {method: tuple(numbers) for method, numbers in value.items()}
    return tuple(value) if isinstance(value, list) else value


PUBLISHED: Mapping[str, PublishedTable] = _read()
