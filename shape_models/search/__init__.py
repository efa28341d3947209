"""Active shape model search: find the shapes of a model in images."""

from .appearance import AppearanceModel
from .appearance import load_appearance as load_appearance
from .combination import CombinedEvidence
from .detection import Detections, Detector, Faces, detect_faces, find_faces, is_face
from .evidence import Evidence, Proposal, View
from .fitter import ASMFitter
from .fitter import load_fitter as load_fitter
from .heatmaps import HeatMaps, fit_heatmaps, heatmap_peaks
from .parts import PartsFitter
from .parts import load_parts as load_parts
from .patches import Patches
from .plotting import animate_trace, plot_trace
from .profiles import Profiles
from .refine import RefinedLandmarks, refine
from .results import SearchResult, SearchStep
from .tracking import TrackedFace, TrackedFrame, track
from .video import read_frames

__all__ = [
    "ASMFitter",
    "AppearanceModel",
    "CombinedEvidence",
    "Detections",
    "Detector",
    "Evidence",
    "Faces",
    "HeatMaps",
    "PartsFitter",
    "Patches",
    "Profiles",
    "Proposal",
    "RefinedLandmarks",
    "SearchResult",
    "SearchStep",
    "TrackedFace",
    "TrackedFrame",
    "View",
    "animate_trace",
    "detect_faces",
    "find_faces",
    "fit_heatmaps",
    "heatmap_peaks",
    "is_face",
    "plot_trace",
    "read_frames",
    "refine",
    "track",
]
