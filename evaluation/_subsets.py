"""Rows of a table: the faces that belong to each, and the mean of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_column
from shape_models._options import is_number

from ._intervals import is_absent


@dataclass(frozen=True)
class Subset:
    """A row of the table: the faces whose attribute has a value, or lies in a range.

    Parameters
    ----------
    name : str
        Heading of the row.
    attribute : str, optional
        Attribute of the faces; all faces without one.
    equals : tuple, optional
        Values that belong to the subset.
    low, high : float, optional
        Range of the absolute value, ``low <= |value| < high`` (``<= high`` with `closed`).
    closed : bool
        Whether the range holds its upper end.
    n : int, optional
        Number of faces in the published set; a report says when it has another.

    Examples
    --------
    >>> from evaluation.protocols import Subset
    >>> Subset("profile", "yaw", low=60, high=90, closed=True).mask({"yaw": [5, -70, 90, 95]}, 4)
    array([False,  True,  True, False])
    """

    name: str
    attribute: str | None = None
    equals: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    closed: bool = False
    n: int | None = None

    def given(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether the attribute that the subset needs is there.

        Parameters
        ----------
        attributes : mapping of str to anything
            What is known of the faces.

        Returns
        -------
        bool
            Whether the subset can be taken.
        """
        return self.attribute is None or plain_key(self.attribute) in map(plain_key, attributes)

    def mask(self, attributes: Mapping[str, ArrayLike], n_faces: int) -> np.ndarray:
        """Return which faces belong to the subset.

        Parameters
        ----------
        attributes : mapping of str to array_like of shape (n_faces,)
            Values of the faces; case, spaces, ``-`` and ``_`` in names and in text do not matter.
        n_faces : int
            Number of faces.

        Returns
        -------
        ndarray of bool of shape (n_faces,)

        Raises
        ------
        ValueError
            When the attribute is missing, has another number of values, or text in place of numbers.
        """
        if self.attribute is None:
            return np.ones(n_faces, bool)
        if not self.given(attributes):
            raise ValueError(
                f"attributes: the subset {self.name!r} needs {self.attribute!r}; got {sorted(attributes) or 'none'}."
            )
        values = _attribute(attributes, self.attribute)
        if values.shape != (n_faces,):
            raise ValueError(f"attributes[{self.attribute!r}]: got shape {values.shape}; expected ({n_faces},).")
        if self.equals:
            if (values.dtype.kind in "US") != all(isinstance(value, str) for value in self.equals):
                raise ValueError(
                    f"attributes[{self.attribute!r}]: got values of {values.dtype}; expected some of "
                    f"{', '.join(map(repr, self.equals))}. Text and numbers are never equal: try astype."
                )
            if values.dtype.kind == "U":
                return np.isin([plain_key(value) for value in values], [plain_key(value) for value in self.equals])
            return np.isin(values, self.equals)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"attributes[{self.attribute!r}]: got values of {values.dtype}; expected numbers.")
        # Bins are of the size of an angle: both profiles are one.
        size = np.abs(values.astype(np.float64))
        low, high = -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high
        return (size >= low) & ((size <= high) if self.closed else (size < high))


@dataclass(frozen=True)
class Combination:
    """A row that is a weighted mean of other rows.

    Parameters
    ----------
    name : str
        Heading of the row.
    parts : tuple of (str, float)
        Subsets and their weights; divided by their sum.

    Examples
    --------
    >>> from evaluation.protocols import Combination
    >>> full = Combination("full", (("common", 554), ("challenging", 135)))
    >>> round(full.mean({"common": 3.56, "challenging": 6.13}), 3)
    4.064
    """

    name: str
    parts: tuple[tuple[str, float], ...]

    @property
    def weights(self) -> dict[str, float]:
        """Weights that add up to one."""
        total = sum(weight for _, weight in self.parts)
        return {name: weight / total for name, weight in self.parts}

    def mean(self, values: Mapping[str, float]) -> float:
        """Return the weighted mean of the values of the parts.

        Parameters
        ----------
        values : mapping of str to float
            Value of each part.

        Returns
        -------
        float
            In the unit of the values.

        Raises
        ------
        ValueError
            When a part has no value, or one that is no number.
        """
        for name in self.weights:
            if not is_number(values.get(name)):
                raise ValueError(f"values: got {values.get(name)!r} for {name!r}; expected a number for each part.")
        return sum(weight * values[name] for name, weight in self.weights.items())


def missing_values(attributes: Mapping[str, ArrayLike], attribute: str) -> int:
    """Return how many faces have NaN, or no text, for an attribute."""
    values = _attribute(attributes, attribute)
    return int(((values != values) | (values == "")).sum())


def _attribute(attributes: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    """Return the values of an attribute as text, "" where there is none, or numbers, NaN where there is none."""
    values = {plain_key(key): value for key, value in attributes.items()}[plain_key(name)]
    array = as_column(values, f"attributes[{name!r}]")
    if array.dtype.kind == "S":  # as HDF5 and MATLAB files give text
        return np.char.decode(array, "utf-8")
    if array.dtype.kind != "O" or array.ndim != 1:
        return array
    absent = is_absent(array)  # a column of a table: objects of one kind, some of which may be absent
    known = array[~absent].tolist()
    text = any(isinstance(x, str) for x in known)
    filled = np.full(array.shape, "" if text else np.nan, dtype=object)
    filled[~absent] = known
    return np.array(filled.tolist())


def plain_key(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "-_ ")
