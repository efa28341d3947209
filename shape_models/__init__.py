"""Statistical shape models: align, learn, regularise and complete landmark shapes.

Glossary
--------
shape
    An array ``(..., n_landmarks, n_dims)``; the last axis is (x, y) or (x, y, z).
landmark
    One row of a shape. A missing landmark has NaN coordinates.
mode
    A direction in which shapes vary: one principal component, with its variance.
coefficient
    The amount b of one mode in one shape, in the units of the shape.
"""

from . import datasets as _datasets
from ._aligned import AlignedASM
from ._alignment import GeneralizedProcrustes
from ._archive import ModelFileError
from ._array import DegenerateShapeError
from ._asm import ASM
from ._basis import ShapeBasis
from ._diagnostics import (
    LeaveOneOut,
    ModeAdvice,
    ModeCurve,
    advise_n_components,
    compactness,
    generalization,
    leave_one_out,
    specificity,
)
from ._fitting import ShapeFit, fit_shape
from ._kinds import register_search
from ._limits import Box, Ellipsoid, Limit, SoftBox
from ._probabilistic import BasisReport, Completion
from ._procrustes import ProcrustesResult, generalized_procrustes, mirror_shapes
from ._provenance import gather_files_by as _gather_files_by
from ._similarity import estimate_similarity
from ._sliding import Sliding, SlidingRecord
from ._statistics import ShapeStatistics
from ._submodels import condition, fit_with_kernel, marginal
from ._thin_plate import ThinPlateSpline, bending_energy_matrix
from ._transforms import Similarity
from .curves import Curve, attach_curves, curve_length, resample_curve
from .datasets import make_faces
from .formats import LandmarkFile, LandmarkFileError, read_landmarks, read_pts, write_landmarks, write_pts
from .io import load_model, save_model
from .landmarks import (
    COFW29,
    IBUG68,
    IMM58,
    MEDIAPIPE468,
    MEDIAPIPE478,
    MUCT68,
    MUCT76,
    WFLW98,
    Conversion,
    LandmarkScheme,
    convert,
    get_scheme,
)
from .morphometrics import (
    AffineAlignment,
    Outliers,
    Symmetry,
    affine_procrustes,
    centroid_size,
    find_outliers,
    symmetry,
    write_table,
)

__all__ = [
    "ASM",
    "AffineAlignment",
    "AlignedASM",
    "BasisReport",
    "Box",
    "COFW29",
    "Completion",
    "Conversion",
    "Curve",
    "DegenerateShapeError",
    "Ellipsoid",
    "GeneralizedProcrustes",
    "IBUG68",
    "IMM58",
    "LandmarkFile",
    "LandmarkFileError",
    "LandmarkScheme",
    "LeaveOneOut",
    "Limit",
    "MEDIAPIPE468",
    "MEDIAPIPE478",
    "MUCT68",
    "MUCT76",
    "ModeAdvice",
    "ModeCurve",
    "ModelFileError",
    "Outliers",
    "ProcrustesResult",
    "ShapeBasis",
    "ShapeFit",
    "ShapeStatistics",
    "Similarity",
    "Sliding",
    "SlidingRecord",
    "SoftBox",
    "Symmetry",
    "ThinPlateSpline",
    "WFLW98",
    "advise_n_components",
    "affine_procrustes",
    "attach_curves",
    "bending_energy_matrix",
    "centroid_size",
    "compactness",
    "condition",
    "convert",
    "curve_length",
    "estimate_similarity",
    "find_outliers",
    "fit_shape",
    "fit_with_kernel",
    "generalization",
    "generalized_procrustes",
    "get_scheme",
    "leave_one_out",
    "load_model",
    "make_faces",
    "marginal",
    "mirror_shapes",
    "read_landmarks",
    "read_pts",
    "resample_curve",
    "save_model",
    "specificity",
    "symmetry",
    "write_landmarks",
    "write_pts",
    "write_table",
]

__version__ = "0.2.0"

register_search()
_gather_files_by(_datasets.load_landmarks)
