"""Landmark sets: readers of public archives in their original layouts, splits, and faces drawn from a formula."""

from ._samples import LandmarkSample, LandmarkSamples, split_by_group
from .archives import read_300w, read_helen, read_imm, read_muct, read_wflw, read_youtube68
from .folders import read_asmnet, read_landmark_arrays, read_landmark_folder
from .matlab import read_300wlp, read_aflw2000, read_cofw
from .synthetic import make_face_samples, make_faces

__all__ = [
    "LandmarkSample", "LandmarkSamples", "make_face_samples", "make_faces", "read_300w", "read_300wlp", "read_aflw2000",
    "read_asmnet", "read_cofw", "read_helen", "read_imm", "read_landmark_arrays", "read_landmark_folder", "read_muct",
    "read_wflw", "read_youtube68", "split_by_group",
]  # fmt: skip
