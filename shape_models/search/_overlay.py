"""Images with what was found drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import atomic
from ..landmarks import get_scheme
from ._images import grey


def save_overlay(path: Path, image: np.ndarray, shapes: Sequence[np.ndarray], scheme: Any) -> None:
    """Write an image with the points and edges of shapes drawn in, as large as it is."""
    from skimage.draw import disk, line
    from skimage.io import imsave

    canvas = np.repeat((255 * grey(image)[..., None]).astype(np.uint8), 3, axis=2)
    if image.ndim == 3 and image.shape[2] >= 3 and image.dtype == np.uint8:
        canvas = np.ascontiguousarray(image[..., :3])
    height, width = canvas.shape[:2]
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
    for shape in shapes:
        points = np.round(shape).astype(int)
        for a, b in getattr(scheme, "edges", np.empty((0, 2), int)):
            rows, columns = line(points[a, 1], points[a, 0], points[b, 1], points[b, 0])
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            canvas[rows[inside], columns[inside]] = (255, 200, 0)
        radius = max(1.5, 0.008 * float(np.ptp(shape, axis=0).max()))
        for x, y in shape:
            canvas[disk((y, x), radius, shape=(height, width))] = (255, 0, 0)
    with atomic(path) as temporary:
        imsave(temporary, canvas, check_contrast=False)
