"""The kinds of models that the search writes, registered without importing it."""

from __future__ import annotations

from typing import Any

from .io import register


def _load(kind: str, header: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from .search import load_appearance, load_fitter, load_parts

    loaders = {"ASMFitter": load_fitter, "AppearanceModel": load_appearance, "PartsFitter": load_parts}
    return loaders[kind](header, arrays)


def register_search() -> None:
    """Let `load_model` read `ASMFitter`, `AppearanceModel` and `PartsFitter`."""
    for kind in ("ASMFitter", "AppearanceModel", "PartsFitter"):
        register(kind, lambda header, arrays, kind=kind: _load(kind, header, arrays))
