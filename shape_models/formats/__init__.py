"""Landmark files of the formats in use: one reader and one writer a format, and two functions that choose by name."""

from ._record import LandmarkFile, LandmarkFileError
from .pts import read_pts, write_pts

__all__ = ["LandmarkFile", "LandmarkFileError", "read_pts", "write_pts"]
