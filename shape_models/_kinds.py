"""The kinds of models that the search writes, registered without importing it."""

from __future__ import annotations

from typing import Any

from .io import register


def _load_fitter(header: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from .search import load_fitter

    return load_fitter(header, arrays)


def _load_appearance(header: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from .search import load_appearance

    return load_appearance(header, arrays)


def _load_parts(header: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from .search import load_parts

    return load_parts(header, arrays)


def register_search() -> None:
    """Let `load_model` read `ASMFitter`, `AppearanceModel` and `PartsFitter`."""
    register("ASMFitter", _load_fitter)
    register("AppearanceModel", _load_appearance)
    register("PartsFitter", _load_parts)
