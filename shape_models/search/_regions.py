"""What lies inside the closed curves of a shape: their overlap with true ones, and images of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .._files import atomic
from .._outlines import overlap_of
from ..curves import Curve
from ..landmarks import get_scheme


def closed_curves(scheme: Any) -> list[Curve]:
    """Return the closed curves of a scheme, its name, or None."""
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
    return [curve for curve in getattr(scheme, "curves", ()) if curve.closed]


def overlap(found: np.ndarray, truth: np.ndarray, curves: list[Curve]) -> np.ndarray:
    """Return the overlap (Dice) of the regions in closed curves of shapes (n, K, 2), (n, n_curves).

    0 where nothing was found, NaN where the true landmarks are not known.
    """
    out = np.full((len(truth), len(curves)), np.nan)
    for i, k in np.ndindex(out.shape):
        pair = [shape[i, list(curves[k].indices)] for shape in (found, truth)]
        if not np.isfinite(pair[1]).all():
            continue
        out[i, k] = 0.0
        if np.isfinite(pair[0]).all():
            out[i, k] = overlap_of(pair[0], pair[1])
    return out


def save_labels(path: Path, size: tuple[int, int], shape: np.ndarray, curves: list[Curve]) -> None:
    """Write an image (height, width) whose values are the numbers of the closed curves, from 1 on, and 0 outside."""
    from skimage.draw import polygon
    from skimage.io import imsave

    labels = np.zeros(size, np.uint8 if len(curves) < 256 else np.uint16)
    for number, curve in enumerate(curves, start=1):
        x, y = shape[list(curve.indices)].T
        labels[polygon(y, x, shape=size)] = number
    with atomic(path) as temporary:
        imsave(temporary, labels, check_contrast=False)
