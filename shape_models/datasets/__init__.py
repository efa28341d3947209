"""Landmark sets: readers of public archives in their original layouts, splits, and faces drawn from a formula."""

from ._samples import LandmarkSample, LandmarkSamples, split_by_group
from .archives import read_300w
from .synthetic import make_face_samples, make_faces

__all__ = ["LandmarkSample", "LandmarkSamples", "make_face_samples", "make_faces", "read_300w", "split_by_group"]
