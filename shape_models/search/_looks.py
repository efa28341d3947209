"""What a face looks like: a small description that tells the faces of one video from each other."""

from __future__ import annotations

import numpy as np

_SIDE, _CELLS, _DIRECTIONS = 32, 8, 8
_COLOUR = 0.5  # what the colours count beside the edges
_ANGLES = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])


def look_of(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Describe an image in the square about a tight box of landmarks: where which edges are, and the colours.

    Examples
    --------
    >>> import numpy as np
    >>> from skimage.data import astronaut
    >>> from shape_models.search._looks import alike, look_of
    >>> one = look_of(astronaut(), np.array([177, 82, 274, 172]))
    >>> other = look_of(astronaut(), np.array([180, 84, 276, 175]))
    >>> alike(one, other) > 0.8 > alike(one, look_of(astronaut(), np.array([20, 300, 120, 400])))
    True
    """
    side = (box[2:] - box[:2]).max()
    low = (box[:2] + box[2:]) / 2 - side * np.array([0.5, 0.55])
    steps = side * np.arange(_SIDE) / (_SIDE - 1)
    patch = _sampled(image, low[0] + steps, low[1] + steps)
    n = _SIDE // _CELLS
    blocks = patch.reshape(_CELLS, n, _CELLS, n, 3).mean(axis=(1, 3))
    gy, gx = np.gradient(patch @ _LUMINANCE)
    length = np.hypot(gx, gy) + 1e-9
    along = np.maximum(gx[..., None] * np.cos(_ANGLES) + gy[..., None] * np.sin(_ANGLES), 0) ** 2 / length[..., None]
    cells = along.reshape(_CELLS, n, _CELLS, n, _DIRECTIONS).sum(axis=(1, 3))
    total = cells.sum(axis=-1, keepdims=True)
    edges = np.sqrt(cells / (total + 0.2 * total.mean() + 1e-12))
    return np.asarray(np.concatenate([_unit(edges), np.sqrt(_COLOUR) * _unit(blocks)]) / np.sqrt(1 + _COLOUR))


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two descriptions are: 1 the same, about 0.3 two faces."""
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths > 0 else 0.0


def _unit(values: np.ndarray) -> np.ndarray:
    off = (values - values.mean()).ravel()
    return np.asarray(off / max(float(np.linalg.norm(off)), 1e-9))


def _sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the image (len(y), len(x), 3) at these columns and rows, the nearest pixel beyond its edges."""
    from scipy.ndimage import map_coordinates

    at = np.meshgrid(y, x, indexing="ij")
    layers = [image] if image.ndim == 2 else list(np.moveaxis(image, -1, 0))
    out = np.stack([map_coordinates(layer, at, np.float64, order=1, mode="nearest") for layer in layers], axis=-1)
    return np.broadcast_to(out, (len(y), len(x), 3))
