"""Small records of numbers that live in the headers of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Self

from ._options import checked_header, finite, finite_row


class Record:
    """A data class whose fields are numbers, tuples of numbers or None."""

    def to_header(self) -> dict[str, Any]:
        """Return the numbers for a file."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    @checked_header
    def from_header(cls, header: Mapping[str, Any] | None) -> Self | None:
        """Build from what `to_header` returned, fields that it lacks by default; None for a file that has none."""
        if header is None:
            return None
        known = [field for field in fields(cls) if field.name in header]  # type: ignore[arg-type]
        return cls(**{field.name: _numbers(header[field.name], str(field.type)) for field in known})


def _numbers(value: Any, kind: str) -> Any:
    """Return what a field of a kind, as it is annotated, may be."""
    if value is None and "None" in kind:
        return None
    if not kind.startswith("tuple"):
        return finite(value)
    row = finite_row(value)
    if "..." not in kind and len(row) != kind.count("float"):
        raise ValueError(f"got {len(row)} numbers for {kind}")
    return row
