"""Which image landmarks belong to, where they do not lie beside it or are called otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .._names import IMAGE_SUFFIXES, composed, few, list_files
from ..datasets import LandmarkSamples
from ..datasets._samples import as_given, entry_of


def with_images(data: LandmarkSamples, folder: Path) -> tuple[LandmarkSamples, str]:
    """Return the samples with the images of a folder, and in words how they were matched.

    Raises
    ------
    ValueError
        As `match_images`.
    """
    paths, how = match_images(data.names, folder)
    found = (replace(sample, image=path, image_name=path.name) for sample, path in zip(data, paths, strict=True))
    return data._copy(map(entry_of, found), load=as_given), how


def match_images(names: Sequence[str], folder: Path) -> tuple[list[Path], str]:
    """Return an image of a folder for each name, all different, and in words how they were matched.

    By equal names, capital letters aside; else by names of which one begins with the other, as ``case07_points`` and
    ``case07``, or ``case07`` and ``case07_0000``; else by their numbers, as ``landmarks7`` and ``07``. All names are
    matched in one of these ways. Names and images may lie in folders of equal names.

    Raises
    ------
    ValueError
        Where no way gives each name an image of its own, and where images of two folders fit.
    """
    images = [path for path in list_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"{folder}: got no images; expected {', '.join(IMAGE_SUFFIXES)}. Try --images FOLDER.")
    roots = sorted(
        {root for path in images for root in (path.parent, *path.parent.parents) if root.is_relative_to(folder)}
    )
    wanted = _below([tuple(composed(name).lower().split("/")) for name in names])
    for way, said in ((_same, "their names"), (_begins, "the beginnings of their names"), (_numbers, "their numbers")):
        found: dict[tuple[Path, ...], None] = {}
        for root in roots:
            below = [path for path in images if path.is_relative_to(root)]
            keys = [tuple(composed(p.relative_to(root).with_suffix("").as_posix()).lower().split("/")) for p in below]
            chosen = way(wanted, keys)
            if chosen is not None:
                found[tuple(below[i] for i in chosen)] = None
        if len(found) > 1:
            first, second = list(found)[:2]
            raise ValueError(
                f"{folder}: got {first[0]} and {second[0]}, which both fit {names[0]}; expected one image of each. Try "
                "--images FOLDER."
            )
        if found:
            (paths,) = found
            return list(paths), f"{names[0]} -> {paths[0].relative_to(folder).as_posix()} and so on, by {said}"
    raise ValueError(
        f"{folder}: got no image for each of {few(list(names))} among {few([path.name for path in images])}; expected "
        "one of the same name for each. Try --images FOLDER."
    )


def _below(names: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Leave out the folders that all names begin with."""
    depth = min(len(name) for name in names) - 1
    shared = next((d for d in range(depth) if len({name[d] for name in names}) > 1), depth)
    return [name[shared:] for name in names]


def _unique(choices: list[list[int]]) -> list[int] | None:
    """Return the choice of each name, where each has one and none is chosen twice."""
    if any(len(some) != 1 for some in choices):
        return None
    chosen = [some[0] for some in choices]
    return chosen if len(set(chosen)) == len(chosen) else None


def _same(names: list[tuple[str, ...]], keys: list[tuple[str, ...]]) -> list[int] | None:
    return _unique([[i for i, key in enumerate(keys) if key == name] for name in names])


def _begins(names: list[tuple[str, ...]], keys: list[tuple[str, ...]]) -> list[int] | None:
    def starts(long: str, short: str) -> bool:
        return long.startswith(short) and (len(long) == len(short) or not long[len(short)].isalnum())

    choices = []
    for name in names:
        near = [i for i, key in enumerate(keys) if key[:-1] == name[:-1]]
        ends = {i: keys[i][-1] for i in near if starts(name[-1], keys[i][-1]) or starts(keys[i][-1], name[-1])}
        longest = max((len(end) for end in ends.values() if len(end) <= len(name[-1])), default=None)
        choices.append([i for i, end in ends.items() if longest is None or len(end) == longest])
    return _unique(choices)


def _numbers(names: list[tuple[str, ...]], keys: list[tuple[str, ...]]) -> list[int] | None:
    def numbers(name: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(int(n) for n in re.findall(r"[0-9]+", "/".join(name)))

    known = [numbers(key) for key in keys]
    return _unique([[i for i, other in enumerate(known) if other and other == numbers(name)] for name in names])
