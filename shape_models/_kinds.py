"""The kinds of models that the search writes, registered without importing it."""

from __future__ import annotations

from typing import Any

from .io import Loader, register


def _loader(name: str) -> Loader:
    def load(header: dict[str, Any], arrays: dict[str, Any]) -> Any:
        from . import search

        return getattr(search, name)(header, arrays)

    return load


def register_search() -> None:
    """Let `load_model` read `ASMFitter`, `AppearanceModel` and `PartsFitter`."""
    register("ASMFitter", _loader("load_fitter"))
    register("AppearanceModel", _loader("load_appearance"))
    register("PartsFitter", _loader("load_parts"))
