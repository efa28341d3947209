"""Landmarks of one image in several files, one for each part of it: joined into one shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._names import natural_key
from ..datasets import LandmarkSample, LandmarkSamples
from ..datasets._samples import as_given, entry_of
from ._pairing import match_images

_NAME = re.compile(r"(?P<image>.+)[-_ #](?P<part>[^-_ #/]+)")  # lists of one file are called NAME#1


def join_parts(data: LandmarkSamples, folder: Path) -> tuple[LandmarkSamples, dict[str, list[int]], str]:
    """Join the samples IMAGE-PART (or IMAGE_PART) by the images of a folder, and say which landmarks each part has.

    And in words how images and names were matched, see `match_images`.

    Parts stand in the order of their names, numbers by their size.

    Raises
    ------
    ValueError
        For names that do not say image and part, images that are not there or lack a part, and parts whose number of
        landmarks differs between images.
    """
    files: dict[str, dict[str, LandmarkSample]] = {}
    for sample, (image, part) in zip(data, parts_of_names(data.names), strict=True):
        files.setdefault(image, {})[part] = sample
    order = sorted({part for parts in files.values() for part in parts}, key=natural_key)
    joined, first, indices = [], next(iter(files)), {}
    at = 0
    for part in order:
        count = len(files[first][part].landmarks) if part in files[first] else 0
        indices[part] = list(range(at, at + count))
        at += count
    paths, how = match_images(list(files), folder)
    for (name, parts), path in zip(files.items(), paths, strict=True):
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
        joined.append(LandmarkSample(path, points, group=name, name=name, frame=frame, image_name=path.name))
    return LandmarkSamples(map(entry_of, joined), as_given, source=data.source), indices, how


def parts_of_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what each name IMAGE-PART, or IMAGE_PART, says of image and part.

    Raises
    ------
    ValueError
        For a name of one piece.
    """
    found = [_NAME.fullmatch(name) for name in names]
    for name, pieces in zip(names, found, strict=True):
        if pieces is None:
            raise ValueError(f"{name}: got a name without part; expected IMAGE-PART, as in 07-upper1.")
    return [(pieces["image"], pieces["part"]) for pieces in found if pieces is not None]
