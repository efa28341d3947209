"""Landmark sets: one reader for files, folders and public archives, splits, and faces drawn from a formula."""

from ._load import load_landmarks
from ._samples import LandmarkSample, LandmarkSamples
from ._save import save_landmarks
from ._splitting import split_by_group
from .archives import read_300w, read_helen, read_imm, read_muct, read_wflw, read_youtube68
from .folders import read_asmnet
from .matlab import read_300wlp, read_aflw2000, read_cofw
from .synthetic import make_face_samples, make_faces

__all__ = [
    "LandmarkSample", "LandmarkSamples", "load_landmarks", "make_face_samples", "make_faces", "read_300w",
    "read_300wlp", "read_aflw2000", "read_asmnet", "read_cofw", "read_helen", "read_imm", "read_muct", "read_wflw",
    "read_youtube68", "save_landmarks", "split_by_group",
]  # fmt: skip
