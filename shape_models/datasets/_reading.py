"""How the files of a set are read: in which frame, with which options, and as which samples."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._typing import ImageSize
from ..formats import LandmarkFile, LandmarkFileError
from ..formats import _files as known
from ..formats._record import FRAMES, Missing, size_of_image
from ..formats._registry import options_of
from ..formats._source import Source as FileSource
from ..landmarks import LandmarkScheme
from ._samples import Entry, LandmarkSample

_BEYOND = 3.0  # fractions of an image: what lies outside it by more is none
_SAY_FRAME = (".tps", ".asf")  # formats whose frame is part of the format


@dataclass(frozen=True)
class Reading:
    """How files are read; what `load_landmarks` was told, once."""

    scheme: LandmarkScheme | None = None
    missing: Missing = None
    frame: str | None = None
    image_size: ImageSize | None = None
    options: dict[str, Any] = field(default_factory=dict)
    unused: str = "raise"

    def read(self, path: Path, extension: str) -> list[LandmarkFile]:
        """Read the shapes of one file, in the frame that is asked for."""
        options = {"missing": self.missing, "image_size": self.image_size, "scheme": self.scheme, **self.options}
        own = {k: v for k, v in options.items() if v is not None and k in keywords(extension)}
        found = known.READERS[extension](path, **own)
        return [self.framed(file, extension) for file in (found if isinstance(found, list) else [found])]

    def framed(self, file: LandmarkFile, extension: str = "") -> LandmarkFile:
        """Give a file the frame that was declared, and make pixels where the size of the image is known."""
        written = file.attributes.get("frame") if extension == ".csv" else None
        if written in FRAMES:
            attributes = {key: value for key, value in file.attributes.items() if key != "frame"}
            file = replace(file, frame=str(written), attributes=attributes)
        if self.frame is not None and file.frame != self.frame:
            if extension in _SAY_FRAME:
                raise LandmarkFileError(
                    f"{file.path}: got frame {self.frame!r}; the format says {file.frame!r}. Try without it."
                )
            file = replace(file, frame=self.frame)
        worst = np.abs(file.points[np.isfinite(file.points)]).max(initial=0) if file.frame == "relative" else 0
        if worst > _BEYOND:
            raise LandmarkFileError(
                f"{file.path or 'landmarks'}: got the coordinate {worst:g}; expected fractions of the image. "
                "Try frame='pixels' (--frame pixels), or another format, if they are pixels."
            )
        if file.frame in ("relative", "y_up") and file.points.shape[1] == 2 and extension not in _SAY_FRAME:
            size = self.image_size
            if size is None and file.path is not None and file.image_name:
                size = size_of_image(FileSource(file.path, text=""), file.image_name, None)
            return file if size is None else in_pixels(file, size)
        return file

    def check(self, extensions: Iterable[str], where: Path) -> None:
        """Refuse an option that none of the formats has."""
        extensions = sorted(extensions)
        known_options = {name for extension in extensions for name in keywords(extension)}
        for name in self.options:
            if name not in known_options and self.unused == "raise":
                raise ValueError(
                    f"{where}: got the option {name!r}, which {', '.join(extensions)} does not have; expected one of "
                    f"{', '.join(sorted(known_options)) or '(none)'}."
                )

    def __call__(self, entry: Entry) -> LandmarkSample:
        """Read one sample."""
        if isinstance(entry.source, LandmarkFile):
            file = entry.source
        else:
            (file,) = self.read(entry.source, entry.source.suffix.lower())
        attributes = {key: value for key, value in file.attributes.items() if key != "box"}
        about: dict[str, Any] = {"group": entry.group, "split": entry.split, "name": entry.name, "labels": file.labels}
        about |= {"frame": file.frame, "image_name": file.image_name}
        return LandmarkSample(entry.image, file.points, file.attributes.get("box"), attributes, **about)


def in_pixels(file: LandmarkFile, size: ImageSize) -> LandmarkFile:
    """Turn fractions of an image, or y from its bottom, into pixels with y from the top."""
    width, height = size

    def turned(points: Any) -> np.ndarray:
        points = np.asarray(points, dtype=np.float64)
        return np.asarray(points * [width, height] if file.frame == "relative" else [0, height - 1] + points * [1, -1])

    attributes = dict(file.attributes)
    if attributes.get("curves"):
        attributes["curves"] = [turned(curve) for curve in attributes["curves"]]
    if attributes.get("box") is not None:
        corners = turned(np.reshape(attributes["box"], (2, 2)))
        attributes["box"] = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return replace(file, points=turned(file.points), frame="pixels", attributes=attributes)


@functools.cache
def keywords(extension: str) -> set[str]:
    """Return the names of what the reader of an extension can be told."""
    return options_of(known.READERS[extension]) if extension in known.READERS else set()
