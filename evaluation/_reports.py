"""What an evaluation found: rows of numbers with intervals, and the errors they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_count
from shape_models._typing import PathLike

from ._breakdown import bin_table, group_table, landmark_table
from ._errors import ErrorArray, landmark_errors
from ._tables import Interval, Table, plain
from .protocols import Protocol
from .published import PublishedTable, published_table


@dataclass(frozen=True, eq=False)
class ReportRow:
    """The numbers of one subset.

    Parameters
    ----------
    name : str
        The subset.
    n : int
        Number of faces in it.
    n_undefined, n_failed : int
        Faces without an error (left out of every number), and without a prediction (left out of the mean, zero in
        the AUC, failures in the failure rate).
    metrics : dict of str to Interval
        Numbers under names that hold their threshold, as fractions.

    Examples
    --------
    >>> from evaluation import evaluate
    >>> from shape_models import make_faces
    >>> faces = make_faces(20, rng=0)
    >>> row = evaluate(faces, faces, "300w").rows[0]
    >>> row.name, row.n, {name: value.estimate for name, value in row.metrics.items()}
    ('all', 20, {'NME': 0.0, 'AUC@0.08': 1.0, 'FR@0.08': 0.0, 'AUC@0.1': 1.0, 'FR@0.1': 0.0})
    """

    name: str
    n: int
    n_undefined: int
    n_failed: int
    metrics: dict[str, Interval]


@dataclass(frozen=True, eq=False)
class Report:
    """A table of errors with intervals, and the errors themselves: the result of `evaluate`.

    Parameters
    ----------
    name : str
        The model.
    protocol : Protocol
        How it was measured.
    rows : tuple of ReportRow
        One for each subset and each combination of subsets.
    errors : ErrorArray of shape (n_faces,)
        Error of every face, in the order given.
    targets, predictions : ndarray of shape (n_faces, n_landmarks, n_dims)
        What was compared, in the frame of the images.
    mask : ndarray of bool of shape (n_landmarks,), optional
        Landmarks that counted.
    groups : ndarray of shape (n_faces,), optional
        What was resampled.
    notes : tuple of str
        Where the set differs from the protocol.
    confidence : float
        Of the intervals, such as 0.95.
    n_resamples : int
        Number of bootstrap samples of the intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import evaluate
    >>> from shape_models import make_faces
    >>> faces = make_faces(200, rng=0)
    >>> noise = np.random.default_rng(0).normal(size=faces.shape) * 0.02 * np.ptp(faces)
    >>> report = evaluate(faces, faces + noise, "300w", name="noise")
    >>> report["all"].metrics["NME"].n, sorted(report.to_dict())
    (200, ['definition', 'model', 'notes', 'protocol', 'rows'])
    >>> report.worst(3).shape
    (3,)
    """

    name: str
    protocol: Protocol
    rows: tuple[ReportRow, ...]
    errors: ErrorArray
    targets: np.ndarray
    predictions: np.ndarray
    mask: np.ndarray | None = None
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    confidence: float = 0.95
    n_resamples: int = 2000

    def __getitem__(self, name: str) -> ReportRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"got {name!r}; expected one of {', '.join(row.name for row in self.rows)}.")

    @property
    def main(self) -> ReportRow:
        """The row of the whole set."""
        combined = [c.name for c in self.protocol.combinations if c.name == "full"]
        names = [row.name for row in self.rows]
        return self[next((name for name in (*combined, "full", "all") if name in names), names[0])]

    @property
    def _options(self) -> dict[str, Any]:
        """How all intervals of the report are made."""
        return {"groups": self.groups, "confidence": self.confidence, "n_resamples": self.n_resamples}

    @property
    def table(self) -> Table:
        """The rows as a table."""
        metrics = list(self.rows[0].metrics)
        undefined, failed = (any(getattr(row, f"n_{x}") for row in self.rows) for x in ("undefined", "failed"))
        columns = ["subset", "faces", *["undefined"] * undefined, *["failed"] * failed, *metrics]
        rows = [
            [row.name, row.n, *[row.n_undefined] * undefined, *[row.n_failed] * failed, *row.metrics.values()]
            for row in self.rows
        ]
        fraction = self.errors.unit == "fraction"
        percent = [m for m in metrics if m.startswith("FR") or (fraction and m == "NME")]
        title = f"{self.name}, protocol {self.protocol.name}"
        method = self.rows[0].metrics["NME"].method
        unit = "" if fraction else f" ({self.errors.unit})"
        printed = " NME and FR are printed in percent." if fraction else ""
        how = f"{100 * self.confidence:g} % intervals: {method}, Wilson for FR.{printed}"
        notes = [f"{self.errors.definition}{unit}.", how, *self.notes]
        return Table(columns, rows, title=title, percent=percent, notes=notes)

    def __str__(self) -> str:
        return str(self.table)

    def to_markdown(self) -> str:
        """Return the table in Markdown, with what was measured below it.

        Returns
        -------
        str
            Lines of Markdown.
        """
        return self.table.to_markdown()

    def to_csv(self, path: PathLike | None = None) -> str:
        """Return the table as comma-separated values, all of them fractions.

        Parameters
        ----------
        path : path, optional
            A file to write as well.

        Returns
        -------
        str
            What was written, or would be.
        """
        return self.table.to_csv(path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values, ready for JSON.

        Returns
        -------
        dict
            Protocol, rows and notes.
        """
        rows = []
        for row in self.rows:
            numbers = {
                key: {**plain(value), "method": value.method, "n": value.n} for key, value in row.metrics.items()
            }
            counts = {"faces": row.n, "undefined": row.n_undefined, "failed": row.n_failed}
            rows.append({"subset": row.name, **counts, "metrics": numbers})
        protocol = {
            "name": self.protocol.name,
            "scheme": self.protocol.scheme,
            "normalizer": self.protocol.normalizer if isinstance(self.protocol.normalizer, str) else "see definition",
            "thresholds": list(self.protocol.thresholds),
            "box": self.protocol.box,
            "source": self.protocol.source,
        }
        return {
            "model": self.name,
            "protocol": protocol,
            "definition": self.errors.definition,
            "rows": rows,
            "notes": list(self.notes),
        }

    def landmark_errors(self) -> np.ndarray:
        """Return the normalised error of each landmark of each face: (n_faces, n_landmarks).

        Returns
        -------
        ndarray of shape (n_faces, n_landmarks)
            Fractions of the normaliser; NaN where a landmark does not count.
        """
        targets, predictions = self.protocol.prepare(self.targets, self.predictions)
        return landmark_errors(
            targets, predictions, normalizer=self.protocol.normalizer, scheme=self.protocol.scheme, mask=self.mask
        )

    def landmark_table(self, *, by: Literal["landmark", "group"] = "landmark") -> Table:
        """Return the errors of each landmark, or each group of landmarks.

        Parameters
        ----------
        by : {"landmark", "group"}
            As in `evaluation.landmark_table`.

        Returns
        -------
        Table
            One row for each landmark, or each group.
        """
        return landmark_table(self.landmark_errors(), scheme=self.protocol.scheme, by=by, **self._options)

    def group_table(self, labels: ArrayLike, *, name: str = "group") -> Table:
        """Return the errors of the faces of each label.

        Parameters
        ----------
        labels : array_like of shape (n_faces,)
            One label for each face.
        name : str
            Heading of the first column.

        Returns
        -------
        Table
            One row for each label.
        """
        return group_table(self.errors, labels, name=name, **self._options)

    def bin_table(self, values: ArrayLike, edges: Sequence[float], *, name: str = "bin") -> Table:
        """Return the errors of the faces in each bin of a value.

        Parameters
        ----------
        values : array_like of shape (n_faces,)
            One value for each face.
        edges : sequence of float
            As in `evaluation.bin_table`.
        name : str
            Heading of the first column.

        Returns
        -------
        Table
            One row for each bin.
        """
        return bin_table(self.errors, values, edges, name=name, **self._options)

    def beside(self, published: str | PublishedTable) -> Table:
        """Return a published table with this report as its last row.

        Parameters
        ----------
        published : str or PublishedTable
            As in `evaluation.published.published_table`. Only NME and FR in percent and AUC columns can be filled.

        Returns
        -------
        Table
            The published rows and this one.

        Raises
        ------
        ValueError
            When the table holds no numbers of a protocol, such as sizes of networks.
        """
        printed = published if isinstance(published, PublishedTable) else published_table(published)
        if not printed.protocol:
            raise ValueError(f"published: {printed.key} holds no numbers that a protocol of this package measures.")
        present = {row.name: row.metrics for row in self.rows}
        own: list[str | None] = []
        for column, subset in zip(printed.columns, printed.subsets, strict=True):
            key = {"FR": "FR@0.1", "AUC": "threshold-weighted AUC@0.1"}.get(column.split()[-1], "NME")
            value = present.get(subset, {}).get(key)
            scale, digits = (1, 4) if "AUC" in key else (100, 2)
            own.append(None if value is None else f"{scale * value.estimate:.{digits}f}")
        table = printed.table()
        note = f"{self.name}: {self.errors.definition}."
        if self.protocol.name != printed.protocol:
            note = (
                f"{note} Measured by the protocol {self.protocol.name}; the authors measured as in {printed.protocol}: "
                "not comparable as it stands."
            )
        notes = [*table.notes, note]
        return Table(table.columns, [*table.rows, [self.name, *own]], title=table.title, notes=notes)

    def worst(self, k: int = 12) -> np.ndarray:
        """Return the indices of the faces with the largest errors, those without a prediction first.

        Parameters
        ----------
        k : int
            How many.

        Returns
        -------
        ndarray of int of shape (k,)
            The worst first.
        """
        k = as_count(k, "k", 0)
        # Sorted stably, so that faces of one error stay in the order of the set.
        order = np.where(self.errors.failed, np.inf, np.where(self.errors.undefined, -np.inf, self.errors.values))
        ranked = np.argsort(-order, kind="stable")
        return np.asarray(ranked[~self.errors.undefined[ranked]][:k])
