"""What detectors mean by the box of a face, measured, and found by name."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ._array import as_numpy
from ._names import entry_of


@dataclass(frozen=True)
class BoxConvention:
    """What a detector means by a box of a face.

    Parameters
    ----------
    name : str
        What it is called.
    center : (float, float)
        From the centre of a detected box to that of the box of the landmarks, as fractions of the detected width and
        height.
    scale : (float, float)
        Width and height of the box of the landmarks, as fractions of the detected width and height.
    spread : (float, float, float, float)
        Standard deviations of `center` and `scale` from face to face.
    n_faces : int
        How many faces they were measured on; 0 for the convention of the landmarks, which is exact.
    source : str
        Which detector, and which faces.

    Raises
    ------
    ValueError
        For numbers that are not finite, a scale that is not positive, a spread that is negative.

    Examples
    --------
    >>> from shape_models.boxes import BoxConvention, convert
    >>> tall = BoxConvention("mine", (0.0, 0.1), (1.0, 0.8))
    >>> convert([0.0, 0.0, 100.0, 100.0], tall, "landmarks").tolist()
    [0.0, 20.0, 100.0, 100.0]
    """

    name: str
    center: tuple[float, float]
    scale: tuple[float, float]
    spread: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    n_faces: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for name, size in (("center", 2), ("scale", 2), ("spread", 4)):
            values = as_numpy(getattr(self, name), name).astype(np.float64)
            if values.shape != (size,) or not np.isfinite(values).all():
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected {size} finite numbers.")
            object.__setattr__(self, name, tuple(values.tolist()))
        if min(self.scale) <= 0 or min(self.spread) < 0:
            raise ValueError(f"got scale {self.scale} and spread {self.spread}; expected positive numbers.")


def _read() -> dict[str, BoxConvention]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    found = {}
    for name, *numbers, n_faces, source in rows:
        x, y, width, height, *spread = map(float, numbers)
        found[name] = BoxConvention(name, (x, y), (width, height), tuple(spread), int(n_faces), source)  # type: ignore[arg-type]
    return found


CONVENTIONS: Mapping[str, BoxConvention] = MappingProxyType(_read())
_ALIASES = {
    "tight": "landmarks", "tight68": "landmarks", "ibug68": "landmarks", "dlib": "dlib-hog", "dlibcnn": "dlib-mmod",
    "lbp": "scikit-image", "skimage": "scikit-image", "opencvhaar": "haar", "blazeface": "blazeface-short",
    "mediapipe": "blazeface-short", "faceapi": "face-api-ssd",
}  # fmt: skip


def get(name: str | BoxConvention) -> BoxConvention:
    """Return the convention of a name; case, spaces, hyphens and underscores do not matter.

    Parameters
    ----------
    name : str or BoxConvention
        One of `CONVENTIONS`, or a convention, which is returned as it is.

    Returns
    -------
    BoxConvention

    Raises
    ------
    ValueError
        For a name that is not known, with the names that are.
    TypeError
        For anything but a name or a convention.

    Examples
    --------
    >>> from shape_models import boxes
    >>> boxes.get("RetinaFace").scale
    (1.04, 0.763)
    """
    if isinstance(name, BoxConvention):
        return name
    hint = " Try learn_box_convention for a detector that is not among them."
    return entry_of(CONVENTIONS, name, "convention", _ALIASES, hint)
