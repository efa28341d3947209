"""Landmark schemes: what each point of an annotation is called, where it sits, and which point is its mirror image.

Left and right are the *subject's*: in an upright image the subject's right eye is on the left of the image.
Indices count from 0 everywhere.
"""

from __future__ import annotations

from ._face_schemes import COFW29, IBUG68, IMM58, MEDIAPIPE468, MEDIAPIPE478, MUCT68, MUCT76, WFLW98
from ._scheme import SCHEMES as SCHEMES
from ._scheme import LandmarkScheme, get_scheme
from ._scheme import SchemeLike as SchemeLike
from ._scheme_conversion import Conversion, convert

__all__ = [
    "COFW29", "IBUG68", "IMM58", "MEDIAPIPE468", "MEDIAPIPE478", "MUCT68", "MUCT76", "WFLW98", "Conversion",
    "LandmarkScheme", "convert", "get_scheme",
]  # fmt: skip
