"""What detectors mean by the box of a face, measured, and found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


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
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.shape != (size,) or not np.isfinite(values).all():
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected {size} finite numbers.")
            object.__setattr__(self, name, tuple(values.tolist()))
        if min(self.scale) <= 0 or min(self.spread) < 0:
            raise ValueError(f"got scale {self.scale} and spread {self.spread}; expected positive numbers.")


# Name, centre, scale, the standard deviations of both, and on how many faces; then which detector, and which faces.
_TABLE = """
landmarks            0     0     1     1     0     0     0     0     0
    tight box of the 68 iBUG landmarks
retinaface           0  0.13  1.04 0.763 0.028 0.027 0.042 0.046   584
    RetinaFace, MobileNet-0.25, least score 0.9; 300-W train
centerface       -0.01  0.12  0.99  0.76  0.03  0.02  0.04  0.05   259
    CenterFace; 300-W validation
mtcnn            -0.01  0.12  1.03  0.77  0.03  0.03  0.05  0.05   259
    MTCNN; 300-W validation
blazeface-short      0 0.054 0.943 0.927 0.025 0.041 0.075 0.073   583
    BlazeFace short range, MediaPipe 0.10; 300-W train
blazeface-full       0   0.1 0.889 0.868 0.081 0.035  0.08 0.065   536
    BlazeFace full range, MediaPipe 0.10; 300-W train
dlib-hog             0 0.084 0.954  0.94 0.087 0.052 0.089 0.091  2208
    dlib's HOG; 584 faces of 300-W train in four sizes, as its boxes have steps of a fifth
dlib-mmod         0.05  0.17  1.03  1.02  0.07  0.05  0.08  0.08    90
    dlib's mmod network; 300-W validation, one size
haar                 0  0.16  0.86  0.84  0.08  0.04  0.07  0.07   241
    OpenCV's frontal face cascade; 300-W validation
scikit-image     0.001 0.147  0.86 0.841 0.082 0.051 0.107 0.116   241
    detect_faces, the cascade of scikit-image; 300-W train
face-api-ssd      0.01  0.13  0.96  0.81  0.03  0.03  0.06  0.07   236
    face-api.js, SSD; 300-W validation
face-api-tiny     0.01  0.02   0.9  0.95  0.04  0.04  0.12  0.07   176
    face-api.js, tiny detector; 300-W validation
"""


def _row(numbers: str, source: str) -> BoxConvention:
    name, *values = numbers.split()
    x, y, width, height, a, b, c, d, n_faces = map(float, values)
    return BoxConvention(name, (x, y), (width, height), (a, b, c, d), int(n_faces), source.strip())


_LINES = _TABLE.strip().splitlines()
CONVENTIONS: Mapping[str, BoxConvention] = MappingProxyType(
    {row.name: row for row in map(_row, _LINES[::2], _LINES[1::2])}
)
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
    if not isinstance(name, str):
        raise TypeError(f"convention: got {type(name).__name__}; expected a name. Try one of {', '.join(CONVENTIONS)}.")
    plain = "".join(c for c in name.lower() if c.isalnum())
    for known in CONVENTIONS:
        if known.replace("-", "") == plain:
            return CONVENTIONS[known]
    if plain in _ALIASES:
        return CONVENTIONS[_ALIASES[plain]]
    raise ValueError(
        f"convention: got {name!r}; expected one of {', '.join(CONVENTIONS)}. Try learn_box_convention for a detector "
        "that is not among them."
    )
