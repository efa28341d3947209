"""Tables of ASMNet, KD-Loss and sdu-face-alignment as they were printed, with what was measured beside each number.

Numbers are kept as printed (as text), because "8.2" and "8.20" say different things. `contradictions` computes where
the tables disagree with themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    if key not in PUBLISHED:
        raise ValueError(f"key: got {key!r}; expected one of {', '.join(PUBLISHED)}.")
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
        share = (weights["common"], weights["challenging"])
        implied = share[0] * float(common) + share[1] * float(challenging)
        slack = share[0] * _half_unit(common) + share[1] * _half_unit(challenging) + _half_unit(full)
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
    table, threshold, worst = PUBLISHED["kd-300w"], 0.1, 1.0
    for method in table.rows:
        for part in ("common", "challenging", "full"):
            nme, rate, area = (table.value(method, f"{part} {name}") for name in ("NME", "FR", "AUC"))
            ceiling = 1 - (nme / 100 - rate / 100 * (worst - threshold)) / threshold
            text = f"{method}, {part}: AUC against the largest area that NME and FR allow"
            if area > ceiling:
                yield Contradiction("kd-300w", text, area, ceiling, 0.001)


def _claims() -> Iterator[Contradiction]:
    sizes = PUBLISHED["asmnet-1"]
    for column, slack in (("Params (M)", 0.02), ("FLOPs (B)", 0.03)):
        ratio = sizes.value("mnv2", column) / sizes.value("ASMNet_nr", column)
        yield Contradiction("asmnet-1", f"two times smaller than MobileNetV2, {column}", 2.0, ratio, slack)
    sdu = PUBLISHED["sdu-2d"]
    best = min(sdu.value(method, "300W") for method in sdu.rows)
    bold = sdu.value("Hourglass2(d=3)-CAB", "300W")
    yield Contradiction("sdu-2d", "the number in bold on 300W against the smallest of its column", bold, best, 0.0005)


_ASMNET = "Fard, Abdollahi, Mahoor: ASMNet, CVPR Workshops 2021"
_KD = "evaluation notes of Fard, Mahoor: KD-Loss, 2022 (the NME of the student and the teacher are those of the paper)"
_SDU = "README of sdu-face-alignment, April 2019"
_300W = "NME, divided by the distance of the outer eye corners (36, 45), in the stretched crop of 224 pixels"
_VARIANTS = "nr: trained with the mean squared error alone; r: MobileNetV2 with the ASM loss"
_SPLITS = ("common", "challenging", "full")


def _kd_columns(order: Sequence[str] = ("challenging", "common", "full")) -> tuple[str, ...]:
    return tuple(f"{part} {name}" for part in order for name in ("NME", "FR", "AUC"))


_ALL = (
    PublishedTable(
        "asmnet-1", "ASMNet, table 1: error, parameters and operations", _ASMNET,
        "NME (300-W: outer eye corners; WFLW: pupils), parameters in millions, operations in thousand millions",
        "% / M / B", ("300W NME", "WFLW NME", "Params (M)", "FLOPs (B)"),
        {
            "mnv2": ("4.70", "9.57", "2.42", "0.60"), "mnv2_r": ("4.59", "9.41", None, None),
            "ASMNet_nr": ("6.49", "11.96", "1.43", "0.51"), "ASMNet": ("5.50", "10.77", None, None),
        },
        notes=(_VARIANTS, "operations are 2 x multiply-adds of convolutions and linear layers at 224 x 224"),
    ),
    PublishedTable(
        "asmnet-sizes", "ASMNet: size of the networks", _ASMNET, "parameters and operations", "M / B",
        ("Params (M)", "FLOPs (B)"),
        {
            "DVLN": ("132.0", "14.4"), "SAN": ("57.4", "10.7"), "LAB": ("25.1", "19.1"),
            "ResNet50 (Wing + PDB)": ("25", "3.8"), "ASMNet": ("1.4", "0.5"), "MobileNetV2": ("2.4", "0.6"),
        },
        cited=("DVLN", "SAN", "LAB", "ResNet50 (Wing + PDB)"),
    ),
    PublishedTable(
        "asmnet-2", "ASMNet, table 2: 300-W, 68 landmarks", _ASMNET, _300W, "%",
        ("Common", "Challenging", "Fullset"),
        {
            "RCN": ("4.67", "8.44", "5.41"), "DAN": ("3.19", "5.24", "3.59"), "PCD-CNN": ("3.67", "7.62", "4.44"),
            "CPM": ("3.39", "8.14", "4.36"), "DSRN": ("4.12", "9.68", "5.21"), "SAN": ("3.34", "6.60", "3.98"),
            "LAB": ("2.98", "5.19", "3.49"), "DCFE": ("2.76", "5.22", "3.24"), "mnv2": ("3.93", "7.52", "4.70"),
            "mnv2_r": ("3.88", "7.35", "4.59"), "ASMNet_nr": ("5.86", "8.80", "6.46"),
            "ASMNet": ("4.82", "8.2", "5.50"),
        },
        protocol="asmnet-300w", subsets=_SPLITS, cited=("RCN", "DAN", "PCD-CNN", "CPM", "DSRN", "SAN", "LAB", "DCFE"),
        notes=(
            _VARIANTS, "cited rows are measured in the image and by protocols of their own papers",
            "the full set of mnv2, mnv2_r and ASMNet_nr is not the mean of common and challenging by size (554, 135)",
        ),
    ),
    PublishedTable(
        "asmnet-3", "ASMNet, table 3: WFLW, 98 landmarks", _ASMNET,
        "NME, own rows divided by the distance of the pupils (96, 97) as the authors' code does, in the stretched crop",
        "%", ("Test set", "Pose", "Expression", "Illumination", "Make-Up", "Occlusion", "Blur"),
        {
            "ESR": ("11.13", "25.88", "11.47", "10.49", "11.05", "13.75", "12.20"),
            "SDM": ("10.29", "24.10", "11.45", "9.32", "9.38", "13.03", "11.28"),
            "CFSS": ("9.07", "21.36", "10.09", "8.30", "8.74", "11.76", "9.96"),
            "DVLN": ("6.08", "11.54", "6.78", "5.73", "5.98", "7.33", "6.88"),
            "LAB": ("5.27", "10.24", "5.51", "5.23", "5.15", "6.79", "6.32"),
            "ResNet50 (Wing + PDB)": ("5.11", "8.75", "5.36", "4.93", "5.41", "6.37", "5.81"),
            "mnv2": ("9.57", "18.18", "9.93", "8.98", "9.92", "11.38", "10.79"),
            "mnv2_r": ("9.41", "17.86", "9.78", "8.90", "9.67", "11.25", "10.66"),
            "ASMNet_nr": ("11.96", "21.95", "13.08", "11.02", "11.84", "13.24", "12.60"),
            "ASMNet": ("10.77", "21.11", "12.02", "9.93", "10.55", "12.34", "11.62"),
        },
        protocol="asmnet-wflw",
        subsets=("full", "pose", "expression", "illumination", "make-up", "occlusion", "blur"),
        cited=("ESR", "SDM", "CFSS", "DVLN", "LAB", "ResNet50 (Wing + PDB)"),
        notes=(
            _VARIANTS, "cited rows divide by the outer eye corners (60, 72), a longer distance: not comparable",
            "the caption announces failure rate and AUC, the table has neither",
        ),
    ),
    PublishedTable(
        "asmnet-4", "ASMNet, table 4: head pose on 300-W and WFLW", _ASMNET,
        "mean absolute difference from the angles that HopeNet predicts on the same crop: an agreement, no error",
        "degrees", ("300W yaw", "300W pitch", "300W roll", "WFLW yaw", "WFLW pitch", "WFLW roll"),
        {
            "ASMNet_nr": ("2.41", "1.87", "2.115", "3.14", "2.99", "2.23"),
            "ASMNet": ("1.62", "1.80", "1.24", "2.97", "2.93", "2.21"),
            "mnv2": ("1.75", "1.93", "1.32", "3.06", "3.03", "2.26"),
            "mnv2_r": ("1.71", "1.89", "1.30", "3.08", "2.94", "2.22"),
        },
        notes=(_VARIANTS,),
    ),
    PublishedTable(
        "asmnet-5", "ASMNet, table 5: head pose on 300-W", _ASMNET,
        "mean absolute difference; the ASMNet row is an agreement with HopeNet, the others have other references",
        "degrees", ("Pitch", "Yaw", "Roll"),
        {"Yang et al.": ("5.1", "4.2", "2.4"), "JFA": ("3.0", "2.5", "2.6"), "ASMNet": ("1.80", "1.62", "1.24")},
        cited=("Yang et al.", "JFA"), notes=("the rows are not comparable",),
    ),
    PublishedTable(
        "kd-300w", "KD-Loss on 300-W", _KD,
        f"{_300W}; FR at 0.1; AUC is the threshold-weighted number of auc_threshold_weighted, not an area",
        "% / % / fraction", _kd_columns(),
        {
            "MobileNetV2": ("6.84", "7.40", ".5425", "3.93", ".18", ".8102", "4.50", "1.59", ".7578"),
            "student, KD-Loss": ("6.13", "3.70", ".6029", "3.56", ".18", ".8356", "4.06", ".87", ".7900"),
            "student, tough teacher": ("6.59", "5.92", ".5509", "3.85", ".18", ".8146", "4.39", "1.30", ".7630"),
            "student, tolerant teacher": ("6.41", "4.44", ".5736", "3.73", ".18", ".8230", "4.25", "1.01", ".7742"),
            "EfficientNet-B3": ("5.80", "3.70", ".6423", "3.34", "0", ".8512", "3.82", ".72", ".8103"),
        },
        protocol="asmnet-300w", subsets=(*("challenging",) * 3, *("common",) * 3, *("full",) * 3),
    ),
    PublishedTable(
        "kd-cofw", "KD-Loss on COFW, 29 landmarks", _KD,
        "NME, divided by the distance of the outer eye corners (8, 9), in the stretched crop; FR at 0.1; AUC as above",
        "% / % / fraction", ("NME", "FR", "AUC"),
        {
            "MobileNetV2": ("5.04", "3.74", ".7213"), "student, KD-Loss": ("4.11", "2.366", ".7907"),
            "EfficientNet-B3": ("3.81", "1.972", ".8098"),
        },
        protocol="asmnet-cofw", subsets=("full",) * 3,
    ),
    PublishedTable(
        "kd-wflw", "KD-Loss on WFLW, 98 landmarks", _KD,
        "NME, divided by the distance of the pupils (96, 97), in the stretched crop; FR at 0.1", "%",
        ("Test set", "Test set FR", "Pose", "Expression", "Illumination", "Make-Up", "Occlusion", "Blur"),
        {
            "student, KD-Loss": ("8.57", None, "15.06", None, None, None, None, None),
            "EfficientNet-B3 (log of 2020)": ("6.984", "15.52", "12.96", "7.30", "6.69", "7.01", "8.34", "7.81"),
            "student (log of 2020)": ("8.902", "26.72", "17.75", None, None, None, None, None),
            "MobileNetV2 (log of 2020)": ("9.255", "28.32", "18.73", None, None, None, None, None),
        },
        protocol="asmnet-wflw",
        subsets=("full", "full", "pose", "expression", "illumination", "make-up", "occlusion", "blur"),
        notes=("the rows of the published table beyond test set and pose are not known here",),
    ),
    PublishedTable(
        "sdu-2d", "sdu-face-alignment on iBUG, COFW and 300-W", _SDU,
        "NME, divided by the distance of the eye centres, each the middle of two eye corners", "%",
        ("IBUG", "COFW", "300W"),
        {
            "Hourglass2(d=4)-Resnet": ("7.719", "6.776", "6.482"), "Hourglass2(d=3)-HPM": ("7.249", "6.378", "6.049"),
            "Hourglass2(d=4)-CAB": ("7.168", "6.123", "5.684"), "SAT2(d=3)-CAB": ("7.052", "5.999", "5.618"),
            "Hourglass2(d=3)-CAB": ("6.974", "5.983", "5.647"),
        },
        notes=(
            "crops turned upright by the true landmarks, true landmarks rounded down in a 128-pixel crop: "
            "protocols sdu-ibug, sdu-cofw, sdu-300w",
            "the first row had 8.476/7.544/7.103 at the same links before the evaluation script changed",
        ),
    ),
    PublishedTable(
        "sdu-3d", "sdu-face-alignment on AFLW2000-3D", _SDU,
        "NME, divided by sqrt(w h) of the box of the true landmarks", "%", ("AFLW2000-3D",),
        {"SAT2(d=3)-CAB": ("3.072",), "Hourglass2(d=3)-CAB": ("3.005",)},
        protocol="sdu-aflw2000-3d", subsets=("all",),
        notes=(
            "crops turned upright by the true landmarks, true landmarks rounded in a 128-pixel crop",
            "the same download links had 3.307 and 3.150 before the evaluation script changed",
        ),
    ),
    PublishedTable(
        "sdu-sizes", "sdu-face-alignment: size of the models", _SDU, "size of the parameter file", "MB",
        ("Model size",),
        {
            "Hourglass2(d=4)-Resnet": ("26",), "Hourglass2(d=3)-HPM": ("38",), "Hourglass2(d=4)-CAB": ("46",),
            "SAT2(d=3)-CAB": ("40",), "Hourglass2(d=3)-CAB": ("37",),
        },
        notes=("four bytes for each parameter and running statistic, in units of 1,000,000 bytes, rounded down",),
    ),
)  # fmt: skip

PUBLISHED: Mapping[str, PublishedTable] = {table.key: table for table in _ALL}
"""The tables by key."""
