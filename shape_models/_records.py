"""Small records of numbers that live in the headers of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Self


class Record:
    """A data class whose fields are numbers, tuples of numbers or None."""

    def to_header(self) -> dict[str, Any]:
        """Return the numbers for a file."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_header(cls, header: Mapping[str, Any] | None) -> Self | None:
        """Build from what `to_header` returned, fields that it lacks by default; None for a file that has none."""
        if header is None:
            return None
        names = [field.name for field in fields(cls) if field.name in header]  # type: ignore[arg-type]
        return cls(**{name: _numbers(header[name]) for name in names})


def _numbers(value: Any) -> Any:
    if value is None:
        return None
    return tuple(map(float, value)) if isinstance(value, list | tuple) else float(value)
