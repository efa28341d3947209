"""One way for crops through a network: crops out of images, answers averaged over mirror images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from asmnet.networks import Prediction


def cut_crop(image: np.ndarray, centre: np.ndarray, extents: np.ndarray, size: int, turn: float = 0.0) -> np.ndarray:
    """Cut a rectangle by area-weighted resampling; outside of the image is black.

    Parameters
    ----------
    image : ndarray of uint8 of shape (height, width, 3)
        The image.
    centre, extents : ndarray of shape (2,)
        In pixels, the centre of the first pixel at 0.
    size : int
        Side of the crop in pixels.
    turn : float
        Radians by which the rectangle is turned about its centre, from x towards y.

    Returns
    -------
    ndarray of uint8 of shape (size, size, 3)
    """
    from PIL import Image

    whole = Image.fromarray(image)
    edge = np.asarray(centre, dtype=np.float64) + 0.5  # pixel i covers i to i + 1
    extents = np.asarray(extents, dtype=np.float64)
    coarser = int(extents.min() / size // 2)
    if coarser > 1:  # whole pixels are averaged first: what is cut stays small, however large the box
        whole = whole.reduce(coarser)
        edge, extents = edge / coarser, extents / coarser
    if turn == 0:
        return _resized(whole, edge - extents / 2, extents, (size, size))
    # A square that holds the turned rectangle, at the scale of the crop; then one bilinear turn.
    side = float(np.hypot(*extents))
    n = int(np.ceil(side * size / extents.min()))
    square = Image.fromarray(_resized(whole, edge - side / 2, np.array([side, side]), (n, n)))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) * extents / size * n / side
    offset = n / 2 - matrix @ [size / 2, size / 2]
    numbers = (*matrix[0].tolist(), float(offset[0]), *matrix[1].tolist(), float(offset[1]))
    return np.asarray(square.transform((size, size), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR))


def _resized(image: object, low: np.ndarray, extents: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    assert isinstance(image, Image.Image)
    first = np.floor(low).astype(int)
    last = np.ceil(low + extents).astype(int)
    start = low - first
    patch = image.crop((*first.tolist(), *last.tolist()))
    box = (*start.tolist(), *(start + extents).tolist())
    return np.asarray(patch.resize(size, Image.Resampling.BILINEAR, box=box))


def predict_crops(network: nn.Module, images: Tensor, mirror: Sequence[int] | np.ndarray | None = None) -> Prediction:
    """Run a network on normalised crops (batch, 3, height, width).

    With a mirror map the answer is the mean of that for the crops and that for their mirror images, mirrored back.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    plain = network(images)
    if mirror is None:
        return plain
    other = network(images.flip(3))
    order = torch.as_tensor(np.array(mirror), device=images.device)

    def sign(*signs: float) -> Tensor:
        return plain.landmarks.new_tensor(signs)

    def mean(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return None if first is None or second is None else (first + second) / 2

    landmarks = (plain.landmarks + other.landmarks[:, order] * sign(-1.0, 1.0)) / 2
    pose = None if other.pose is None else other.pose * sign(-1.0, 1.0, -1.0)
    depth = None if other.depth is None else other.depth[:, order]
    maps = tuple((a + b[:, order].flip(3)) / 2 for a, b in zip(plain.heatmaps, other.heatmaps, strict=True))
    return Prediction(landmarks, mean(plain.pose, pose), maps, mean(plain.depth, depth))
