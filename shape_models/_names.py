"""Names of files, images and landmarks: their natural order, and how one set of names is matched to another."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_DIGITS = re.compile(r"([0-9]+)")
_NUMBERED = re.compile(r"([^0-9]*)([0-9]{1,15})([^0-9]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
_ROOT = re.compile(r"[A-Za-z]:(?=/)|file://")


def natural_key(path: str | PurePath) -> tuple[Any, ...]:
    """Return what paths and names are sorted by: ``im_2`` before ``im_10``, folder by folder."""
    parts = path.parts if isinstance(path, PurePath) else PurePath(path).parts
    return tuple(
        tuple((int(bit), bit) if i % 2 else (0, bit) for i, bit in enumerate(_DIGITS.split(part))) for part in parts
    )


def list_files(folder: Path) -> list[Path]:
    """Return all files below a folder in natural order; linked folders too; what is hidden is left out."""
    found, walked = [], [Path(folder).resolve()]
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SYSTEM]
        for link in sorted(name for name in folders if Path(here, name).is_symlink()):
            real = Path(here, link).resolve()
            if any(real.is_relative_to(other) or other.is_relative_to(real) for other in walked):
                folders.remove(link)  # what lies in it is met elsewhere, or would be met for ever
            walked.append(real)
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(found, key=natural_key)


def list_images(folder: Path) -> list[Path]:
    """Return the image files among `list_files`; a folder without one is refused."""
    found = [path for path in list_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not found:
        raise ValueError(f"{folder}: got no image in this folder; expected {', '.join(IMAGE_SUFFIXES)}.")
    return found


def composed(text: str) -> str:
    """Return text with each letter and its accents as one character, as file systems disagree about it (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain_name(name: str, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> str:
    """Return the name of an image or shape as it is used everywhere: slashes, no suffix, no root, never ``..``."""
    text = _CONTROL.sub("_", _ROOT.sub("", composed(name.strip()).replace("\\", "/")))
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    if not parts:
        return ""
    suffix = PurePath(parts[-1]).suffix
    if suffix.lower() in suffixes:
        parts[-1] = parts[-1][: -len(suffix)]
    return "/".join(parts)


def number_repeated(names: Sequence[str]) -> list[str]:
    """Tell names that occur several times apart: ``a``, ``a`` become ``a#0``, ``a#1``, whatever else is called so."""
    counts = Counter(names)
    taken = {name for name, count in counts.items() if count == 1}
    seen: dict[str, int] = {}
    found = []
    for name in names:
        if counts[name] > 1:
            own = name
            while own == name or own in taken:
                own = f"{name}#{seen.setdefault(name, 0)}"
                seen[name] += 1
            taken.add(own)
            name = own
        found.append(name)
    return found


def image_names(paths: Sequence[Path], roots: Sequence[Path | None] | None = None) -> list[str]:
    """Return one name for each image file, no two alike: its path below its root without the suffix.

    Where two roots hold the same name all names count from their common folder, and where two files still share one
    (``a.png`` beside ``a.jpg``) they keep the suffix.
    """
    absolute = [_absolute(path) for path in paths]
    if len(set(absolute)) < len(absolute):
        repeated = next(str(p) for p, a in zip(paths, absolute, strict=True) if absolute.count(a) > 1)
        raise ValueError(f"{repeated}: got this image twice; expected each image once.")
    given = roots or [None] * len(absolute)
    bases = [path.parent if root is None else _absolute(root) for path, root in zip(absolute, given, strict=True)]
    below = [path.relative_to(base) for path, base in zip(absolute, bases, strict=True)]
    if len(set(map(_without_suffix, below))) < len(below) and len(set(bases)) > 1:
        common = Path(os.path.commonpath([str(path.parent) for path in absolute]))
        below = [path.relative_to(common) for path in absolute]
    return keep_suffixes(below)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links keep their names)


def keep_suffixes(paths: Sequence[PurePath]) -> list[str]:
    """Return the paths without their suffixes, but for those that would then be the same."""
    names = [_without_suffix(path) for path in paths]
    counts = Counter(names)
    mixed = [composed(path.as_posix()) if counts[name] > 1 else name for path, name in zip(paths, names, strict=True)]
    return mixed if len(set(mixed)) == len(mixed) else [path.as_posix() for path in paths]


def _without_suffix(path: PurePath) -> str:
    return composed(path.with_suffix("").as_posix())


def entry_of(table: Mapping[str, T], name: Any, what: str, aliases: Mapping[str, str], hint: str = "") -> T:
    """Return the entry of a name in a table, whatever its case and punctuation; aliases are letters and digits."""
    if not isinstance(name, str):
        raise TypeError(f"{what}: got {type(name).__name__}; expected a name. Try one of {', '.join(table)}.")
    letters = {**aliases, **{"".join(filter(str.isalnum, known.lower())): known for known in table}}
    plain = "".join(filter(str.isalnum, name.lower()))
    if plain not in letters:
        raise ValueError(f"{what}: got {name!r}; expected one of {', '.join(table)}.{hint}")
    return table[letters[plain]]


def few(names: Sequence[str], most: int = 5) -> str:
    """Name the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --- Landmarks -------------------------------------------------------------------------------------------


def numbers_of(labels: Sequence[str]) -> list[int] | None:
    """Return the numbers of labels that differ in nothing else, such as p0, p1, ... p10; None for other labels."""
    matches = [_NUMBERED.fullmatch(label) for label in labels]
    if not all(matches):
        return None
    frames = {(m[1], m[3]) for m in matches if m}
    numbers = [int(m[2]) for m in matches if m]
    return numbers if len(frames) == 1 and len(set(numbers)) == len(numbers) else None


def own_order(labels: Sequence[str], scheme: Any = None, *, where: str = "") -> np.ndarray:
    """Return the order that labels stand for: that of the scheme they name, of their numbers, or as they come.

    Raises
    ------
    ValueError
        For a label that occurs twice, and labels of which some name landmarks of the scheme and others do not.
    """
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if list(labels).count(label) > 1)
        raise ValueError(f"{where}got the landmark {repeated!r} twice; expected different names.")
    if scheme is not None and len(labels) == scheme.n_landmarks:
        own, known = _keys(labels), _keys(scheme.names)
        foreign = [label for label, key in zip(labels, own, strict=True) if key not in known]
        if not foreign:
            return np.argsort([known.index(key) for key in own])
        if len(foreign) < len(labels) and numbers_of(labels) is None:
            lacking = [name for name, key in zip(scheme.names, known, strict=True) if key not in own]
            raise ValueError(f"{where}{_difference(foreign, lacking)}; expected the landmarks of {scheme.name}.")
    numbers = numbers_of(labels)
    return np.arange(len(labels)) if numbers is None else np.argsort(numbers)


def names_scheme(labels: Sequence[str] | None, scheme: Any) -> bool:
    """Say whether labels are the names of a scheme, in any order."""
    return labels is not None and sorted(_keys(labels)) == sorted(_keys(scheme.names))


def holds_names(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Say whether labels that are names, and no numbers, hold all of the others, and more."""
    return numbers_of(labels) is None and set(_keys(others)) < set(_keys(labels))


def rows_of(values: np.ndarray, order: np.ndarray, name: str = "") -> np.ndarray:
    """Return what belongs to each landmark in an order; where that is -1, NaN, and 0 as its visibility."""
    absent = (order < 0).reshape(-1, *[1] * (values.ndim - 1))
    if not absent.any():
        return np.asarray(values[order])
    return np.where(absent, 0 if name == "visibility" else np.nan, values[order])


def match_labels(
    labels: Sequence[str] | None,
    wanted: Sequence[str] | None,
    *,
    where: str = "",
    whose: str = "the others",
    lacking: bool = False,
) -> np.ndarray | None:
    """Return which of the landmarks `labels` stands at each place of `wanted`; None when they stand there already.

    With `lacking`, -1 stands where names of `wanted` are not among the labels, as long as all labels are wanted.

    Labels that are numbers (p0, p1, ...) name nothing: they say an order only, and go with any names as many. So do
    landmarks without labels.

    Raises
    ------
    ValueError
        When the names differ; it says how.
    """
    if labels is None or wanted is None or tuple(labels) == tuple(wanted):
        return None
    own, known = _keys(labels), _keys(wanted)
    if set(own) == set(known) and len(own) == len(known):
        order = np.array([own.index(key) for key in known])
        return None if np.array_equal(order, np.arange(len(order))) else order
    numbers, others = numbers_of(labels), numbers_of(wanted)
    if len(own) == len(known) and (numbers is not None or others is not None):
        order = np.arange(len(own)) if numbers is None else np.argsort(numbers)
        if numbers is not None and others is not None:
            order = order[np.argsort(np.argsort(others))]
        return None if np.array_equal(order, np.arange(len(order))) else order
    if lacking and holds_names(wanted, labels):
        return np.array([own.index(key) if key in own else -1 for key in known])
    extra = [label for label, key in zip(labels, own, strict=True) if key not in known]
    missing = [label for label, key in zip(wanted, known, strict=True) if key not in own]
    raise ValueError(f"{where}{_difference(extra, missing)}; expected those of {whose}.")


def _difference(extra: Sequence[str], lacking: Sequence[str]) -> str:
    named = (("has", extra), ("lacks", lacking))
    parts = [f"{word} {few(list(map(repr, names)), 4)}" for word, names in named if names]
    return f"got landmarks with other names ({' and '.join(parts)})"


def _keys(labels: Sequence[str]) -> list[str]:
    """Return labels without the differences of case and of the space between words, where they stay different."""
    keys = [re.sub(r"[\s_-]+", "_", composed(label).strip().casefold()) for label in labels]
    return keys if len(set(keys)) == len(keys) else list(labels)
