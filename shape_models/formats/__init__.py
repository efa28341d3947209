"""Landmark files of the formats in use: one reader and one writer a format, and two functions that choose by name."""

from ._files import read_landmarks, write_landmarks
from ._record import LandmarkFile, LandmarkFileError
from .asf import read_asf, write_asf
from .coco import read_coco, write_coco
from .csv import read_csv, write_csv
from .dlib_xml import read_dlib_xml, write_dlib_xml
from .ljson import read_ljson, write_ljson
from .npy import read_npy, write_npy
from .pts import read_pts, write_pts
from .tps import read_tps, write_tps

__all__ = [
    "LandmarkFile", "LandmarkFileError", "read_asf", "read_coco", "read_csv", "read_dlib_xml", "read_landmarks",
    "read_ljson", "read_npy", "read_pts", "read_tps", "write_asf", "write_coco", "write_csv", "write_dlib_xml",
    "write_landmarks", "write_ljson", "write_npy", "write_pts", "write_tps",
]  # fmt: skip
