"""Landmarks of one image in several files, one for each part of it: joined into one shape."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .._names import IMAGE_SUFFIXES
from ..datasets import LandmarkSample, LandmarkSamples
from ..datasets._samples import Entry, as_given

_NAME = re.compile(r"(?P<image>.+)[-_ ](?P<part>[^-_ /]+)")


def join_parts(data: LandmarkSamples, folder: Path) -> tuple[LandmarkSamples, dict[str, list[int]]]:
    """Join the samples IMAGE-PART (or IMAGE_PART) of a folder, and say which landmarks each part has.

    Parts stand in the order of their names, numbers by their size.

    Raises
    ------
    ValueError
        For names that do not say image and part, images that are not there or lack a part, and parts whose number of
        landmarks differs between images.
    """
    files: dict[str, dict[str, LandmarkSample]] = {}
    for sample in data:
        found = _NAME.fullmatch(sample.name)
        if found is None:
            raise ValueError(f"{sample.name}: got a name without part; expected IMAGE-PART, as in 07-upper1.")
        files.setdefault(found["image"], {})[found["part"]] = sample
    order = sorted({part for parts in files.values() for part in parts}, key=_natural)
    images = {path.relative_to(folder).with_suffix("").as_posix(): path
              for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES}  # fmt: skip
    entries, first, indices = [], next(iter(files)), {}
    at = 0
    for part in order:
        count = len(files[first][part].landmarks) if part in files[first] else 0
        indices[part] = list(range(at, at + count))
        at += count
    for name, parts in files.items():
        if name not in images:
            raise ValueError(f"{name}: got {len(parts)} parts, but no image of this name in {folder}.")
        if missing := [part for part in order if part not in parts]:
            raise ValueError(f"{name}: got no part {missing[0]!r}; expected all of {', '.join(order)} in each image.")
        for part in order:
            if len(parts[part].landmarks) != len(indices[part]):
                raise ValueError(
                    f"{parts[part].name}: got {len(parts[part].landmarks)} landmarks; expected {len(indices[part])}, "
                    f"as {files[first][part].name} has."
                )
        points = np.concatenate([parts[part].landmarks for part in order])
        frame = parts[order[0]].frame
        joined = LandmarkSample(images[name], points, group=name, name=name, frame=frame, image_name=images[name].name)
        entries.append(Entry(images[name], name, None, joined, name))
    return LandmarkSamples(entries, as_given, source=data.source), indices


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a key by which part2 stands before part10."""
    pieces = re.split(r"(\d+)", text)
    return [(not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in pieces if piece]
