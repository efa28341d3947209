"""What became of a row that `solve_pnp` solved: its status, and the record of its numbers."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Status(IntEnum):
    """Why a row has no pose, or one to distrust; `STATUS` has the words for users in the same order."""

    OK = 0
    TOO_FEW = 1
    COINCIDENT = 2
    COLLINEAR = 3
    IMAGE_COINCIDENT = 4
    BEHIND = 5
    NOT_CONVERGED = 6
    POOR_FIT = 7
    ILL_CONDITIONED = 8
    MIRRORED = 9
    TOO_FEW_PLACES = 10


STATUS = (
    "ok",
    "too few points",
    "object points coincide",
    "object points on a line",
    "image points coincide",
    "no pose in front of the camera",
    "not converged",
    "poor fit",
    "ill-conditioned",
    "mirrored",
    "too few places",
)

# One record a row, written by the compiled code. `reversible`: the object with its depth reversed may fit better.
ROW = np.dtype(
    [
        ("rms", np.float64),
        ("second_rms", np.float64),
        ("n_iter", np.int64),
        ("status", np.int64),
        ("focal", np.float64),
        ("focal_std", np.float64),
        ("n_points", np.int64),
        ("reversible", np.bool_),
    ]
)
