"""Faces for training: images decoded once into a packed cache, batches cut out of it with their landmarks."""

from asmnet._dataset import Batch, LandmarkDataset
from asmnet._images import load_image
from asmnet._packing import CorruptImageError, pack_faces
from asmnet._preprocessing import Preprocessing

__all__ = ["Batch", "CorruptImageError", "LandmarkDataset", "Preprocessing", "load_image", "pack_faces"]
