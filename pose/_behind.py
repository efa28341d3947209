"""Heads that turn their back to the camera."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from ._pnp import PnPResult

Result = TypeVar("Result", bound=PnPResult)


def flag_behind(result: Result) -> Result:
    """Mark heads that turn their back: the landmarks of a face cannot be seen on them."""
    with np.errstate(invalid="ignore"):
        # The face looks along -z of the camera; beyond 120 degrees, whose cosine is -0.5, nobody marks landmarks.
        behind = (result.pose.rotation.as_matrix()[..., 2, 2] < -0.5) & np.asarray(result.converged)
    if not behind.any():
        return result
    if result.pose.single:
        return replace(result, converged=False, status="seen from behind")
    return replace(
        result, converged=result.converged & ~behind, status=np.where(behind, "seen from behind", result.status)
    )
