"""What samples are called, which image, person and part of the set each belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from .._names import IMAGE_SUFFIXES, number_repeated, plain_name
from ..formats import LandmarkFile
from ._index import Folder, only_image


def names_of_files(files: Sequence[LandmarkFile], path: Path, folder: Folder) -> list[str]:
    """Return the names of the shapes of one file of a folder that holds several."""
    below = path.parent.relative_to(folder.root).as_posix()
    base = "" if below == "." else f"{below}/"
    own = [own_name(file) for file in files]
    if all(own):
        return [base + name for name in distinct([str(name) for name in own])]
    return [f"{folder.name(path)}#{i}" for i in range(len(files))]


def own_name(file: LandmarkFile) -> str | None:
    """Return what a file calls a shape: its image, else its identifier."""
    if file.image_name:
        return file.image_name
    for key in ("id", "ID", "specimen", "group", "image_id"):
        value = file.attributes.get(key)
        if isinstance(value, str | int) and str(value).strip():
            return str(value)
    return None


def distinct(raw: Sequence[str]) -> list[str]:
    """Return plain names that all differ: of two images of one name each keeps its suffix, the rest is numbered."""
    whole = [plain_name(name, ()) or "shape" for name in raw]
    short = [plain_name(name) or "shape" for name in raw]
    origin: dict[str, set[str]] = {}
    for name, long in zip(short, whole, strict=True):
        origin.setdefault(name, set()).add(long)
    mixed = [long if len(origin[name]) > 1 else name for name, long in zip(short, whole, strict=True)]
    clash = len({*mixed}) < len({*whole})
    return number_repeated(whole if clash else mixed)


def image_beside(path: Path | None, file: Any, folder: Folder | None = None) -> Path | None:
    """Return the image that a file names, else the one beside it; a named one need not be there."""
    if path is None:
        return None
    named = PurePosixPath((getattr(file, "image_name", None) or "").replace("\\", "/"))
    candidates = [path.parent / named, path.parent / named.name] if named.name else []
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if folder is not None:
        beside = folder.image(path.parent, path.stem)
    else:
        beside = only_image([p for p in map(path.with_suffix, IMAGE_SUFFIXES) if p.is_file()])
    return beside or next(iter(candidates), None)


def group_of_name(name: str) -> str:
    """Return the image that a sample stands in: several samples of one image are numbered."""
    return re.sub(r"#[0-9]+$", "", name)


def split_of_name(file: Any) -> str | None:
    value = file.attributes.get("split") if isinstance(file, LandmarkFile) else None
    return value if isinstance(value, str) and value else None
