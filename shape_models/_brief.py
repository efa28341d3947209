"""Records that print on a few lines: a result at a prompt should say what it holds and not fill the screen."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, TypeVar

_FEW = 9  # numbers of an array that are shown: a rotation of space, or three landmarks

T = TypeVar("T", bound=type)


def brief(cls: T) -> T:
    """Give a data class a representation that names large arrays by their shape and type alone."""
    cls.__repr__ = _represent  # type: ignore[assignment]
    return cls


def _represent(record: Any) -> str:
    shown = (f"{field.name}={_brief(getattr(record, field.name))}" for field in fields(record) if field.repr)
    return f"{type(record).__name__}({', '.join(shown)})"


def _brief(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and math.prod(shape) > _FEW:
        return f"<array {tuple(shape)} of {dtype}>"
    return f"{value:.6g}" if isinstance(value, float) else " ".join(repr(value).split())
