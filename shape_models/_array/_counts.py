"""Counts among the parameters, checked."""

from __future__ import annotations

import numpy as np


def as_count(value: object, name: str, least: int = 1, most: int | None = None, *, expected: str | None = None) -> int:
    """Return a whole number from `least` to `most`; True, False and 2.0 are none.

    Raises
    ------
    ValueError
        With what was `expected`, where a caller knows better than "a whole number of at least ...".
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        if most is None or value <= most:
            return int(value)
    if expected is None:
        expected = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    raise ValueError(f"{name}: got {value!r}; expected {expected}.")
