"""Landmark files of the formats in use: one reader and one writer a format, and two functions that choose by name."""

from ._files import read_landmarks, write_landmarks
from ._record import LandmarkFile
from ._registry import READABLE, WRITABLE
from ._source import LandmarkFileError
from .asf import read_asf, write_asf
from .coco import read_coco, write_coco
from .csv import read_csv, write_csv
from .cvat_xml import read_cvat_xml
from .deeplabcut import read_deeplabcut
from .dlib_xml import read_dlib_xml, write_dlib_xml
from .labelme import read_labelme
from .ljson import read_ljson, write_ljson
from .npy import read_npy, write_npy
from .nts import read_nts
from .openface import read_openface
from .ply import read_ply
from .pts import read_pts, write_pts
from .scalismo import read_scalismo
from .slicer import read_slicer, write_slicer
from .stereomorph import read_stereomorph
from .tps import read_tps, write_tps
from .txt import read_txt
from .via import read_via

__all__ = [
    "LandmarkFile", "LandmarkFileError", "READABLE", "WRITABLE", "read_asf", "read_coco", "read_csv", "read_cvat_xml",
    "read_deeplabcut", "read_dlib_xml", "read_labelme", "read_landmarks", "read_ljson", "read_npy", "read_nts",
    "read_openface", "read_ply", "read_pts", "read_scalismo", "read_slicer", "read_stereomorph", "read_tps", "read_txt",
    "read_via", "write_asf", "write_coco", "write_csv", "write_dlib_xml", "write_landmarks", "write_ljson", "write_npy",
    "write_pts", "write_slicer", "write_tps",
]  # fmt: skip
