"""Images as every network takes them: RGB in eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shape_models._options import as_path
from shape_models._typing import ImageLike
from shape_models.images import read_image


def as_rgb(image: ImageLike, *, maximum: float | None = None) -> np.ndarray:
    """Check an image and return it as (height, width, 3) uint8.

    Parameters
    ----------
    image : array_like, PIL image or path
        Grey, RGB, or RGBA, which is laid on black; uint8, uint16, bool, or floats from 0 to 1. Files are turned
        upright by their EXIF tag: see `shape_models.images.read_image`.
    maximum : float, optional
        The value that stands for white.

    Returns
    -------
    ndarray of uint8 of shape (height, width, 3)

    Raises
    ------
    ValueError
        For other shapes, ranges and types, and for images smaller than 2 x 2.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.predictor import as_rgb
    >>> as_rgb(np.full((4, 6), 0.5)).shape, as_rgb(np.full((4, 6), 0.5))[0, 0]
    ((4, 6, 3), array([128, 128, 128], dtype=uint8))
    """
    array = read_image(image, maximum=maximum)
    if min(array.shape[:2]) < 2:
        raise ValueError(f"image: got {array.shape[1]} x {array.shape[0]} pixels; expected at least 2 x 2.")
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))


def load_image(path: str | Path, *, maximum: float | None = None) -> np.ndarray:
    """Decode an image file, turned upright by its EXIF tag, to (height, width, 3) uint8 RGB.

    Parameters
    ----------
    path : path
        The file.
    maximum : float, optional
        The value that stands for white; see `shape_models.images.read_image`.

    Returns
    -------
    ndarray of uint8 of shape (height, width, 3)

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is no image, broken, or does not say its range; the message names it.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from asmnet.data import load_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(np.zeros((4, 6), np.uint8)).save(Path(folder) / "grey.png")
    ...     load_image(Path(folder) / "grey.png").shape
    (4, 6, 3)
    """
    return as_rgb(as_path(path), maximum=maximum)
