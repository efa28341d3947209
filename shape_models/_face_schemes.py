"""The face schemes in common use; their names, parts and edges stand in the file beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._scheme import SCHEMES, LandmarkScheme


def _mirror_by_name(names: Sequence[str]) -> Any:
    """Return where each name with left for right stands."""
    place = {name: i for i, name in enumerate(names)}
    swap = {"left": "right", "right": "left"}
    return [place["_".join(swap.get(word, word) for word in name.split("_"))] for name in names]


def _load() -> dict[str, LandmarkScheme]:
    tables = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return {
        name: LandmarkScheme(name, mirror=_mirror_by_name(table["names"]) if "names" in table else None, **table)
        for name, table in tables.items()
    }


SCHEMES.update(_load())
IBUG68, WFLW98, COFW29, IMM58 = (SCHEMES[name] for name in ("ibug68", "wflw98", "cofw29", "imm58"))
MUCT76, MUCT68, MEDIAPIPE478 = (SCHEMES[name] for name in ("muct76", "muct68", "mediapipe478"))
MEDIAPIPE468 = SCHEMES["mediapipe468"] = MEDIAPIPE478.subset(range(468), name="mediapipe468")
