"""Where faces are cut out of images, and how: one frame for training and prediction (`CropTransform`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asmnet._preprocessing import Preprocessing
from asmnet.augmentation import CropTransform, crop_transform, sample_crops


def tight_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Return (..., 4) x0, y0, x1, y1 of the known landmarks; NaN where none is."""
    return np.concatenate([np.fmin.reduce(landmarks, axis=-2), np.fmax.reduce(landmarks, axis=-2)], axis=-1)


def face_crops(boxes: Tensor, form: Preprocessing, **drawn: Any) -> CropTransform:
    """Return the crops of a network about boxes; what is `drawn`, and by what, as in `crop_transform`."""
    return crop_transform(boxes, margin=form.margin, square=form.square, **drawn)


class Crops(NamedTuple):
    """Boxes that are turned about their centres, in pixels and radians: where faces are cut out."""

    centres: np.ndarray
    sides: np.ndarray
    turns: np.ndarray

    @classmethod
    def of_boxes(cls, boxes: np.ndarray) -> Crops:
        """Return boxes that are not turned."""
        return cls((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], np.zeros(len(boxes)))

    @property
    def boxes(self) -> np.ndarray:
        """Before they were turned."""
        return np.concatenate([self.centres - self.sides / 2, self.centres + self.sides / 2], 1)

    def frames(self, form: Preprocessing) -> CropTransform:
        """Return the crops of a network, as wide as its margin says."""
        return face_crops(torch.from_numpy(self.boxes), form, turns=torch.from_numpy(self.turns))

    def rows(self, which: np.ndarray) -> Crops:
        """Return some of them."""
        return Crops(*(part[which] for part in self))

    def viewed(self, shift_x: float, shift_y: float, scale: float) -> Crops:
        """Shift by fractions of the larger side, along the turned axes, and scale."""
        shift = self.sides.max(1, keepdims=True) * np.array([shift_x, shift_y])
        centres = self.centres + (_rotations(self.turns) @ shift[..., None])[..., 0]
        return Crops(centres, scale * self.sides, self.turns)

    def turned(self, angle: float) -> Crops:
        """Turn by a multiple of a right angle; a face that lies is as wide as its box is high."""
        across = round(angle / (np.pi / 2)) % 2 == 1
        return Crops(self.centres, self.sides[:, ::-1] if across else self.sides, self.turns + angle)

    def around(self, points: np.ndarray, turns: np.ndarray) -> Crops:
        """Return the tight boxes of landmarks, turned; where none was found, these."""
        rotations = _rotations(turns)
        tight = Crops.of_boxes(tight_boxes(points @ rotations))
        found = ((tight.sides > 0) & np.isfinite(tight.sides)).all(1)
        return Crops(
            np.where(found[:, None], (rotations @ tight.centres[..., None])[..., 0], self.centres),
            np.where(found[:, None], tight.sides, self.sides),
            np.where(found, turns, self.turns),
        )


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Return (n, 2, 2), from turned frames to that of the image."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)


def cut_faces(images: list[np.ndarray], frames: CropTransform, size: int) -> Tensor:
    """Cut one face out of each image, as faces are packed and crops sampled for training; outside is black.

    Parameters
    ----------
    images : list of ndarray of uint8 of shape (height, width, 3)
        One for each frame.
    frames : CropTransform
        In pixels of the images, not mirrored.
    size : int
        Side of the crops in pixels.

    Returns
    -------
    Tensor of shape (n, 3, size, size), 0 to 1
    """
    centres, axes = frames.centre.numpy(), frames.axes.numpy()
    extents = np.linalg.norm(axes, axis=1)
    out = []
    for i, image in enumerate(images):
        if frames.angle[i] == 0:  # packed at the size of the crop, there is nothing to resample
            cut = cut_rectangle(image, centres[i], extents[i], size)
            out.append(torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255)
            continue
        # A square that holds the turned rectangle, at the scale of the crop; then one bilinear turn.
        side = float(np.hypot(*extents[i]))
        # At the scale of the finer axis no pixel of the crop is made up.
        n = int(np.ceil(side * size / extents[i].min()))
        square = torch.from_numpy(cut_rectangle(image, centres[i], np.array([side, side]), n))
        row = frames.rows(slice(i, i + 1))
        within = CropTransform(torch.full_like(row.centre, (n - 1) / 2), row.axes * (n / side), row.angle, row.flipped)
        out.append(sample_crops(square[None], within, size))
    return torch.cat(out)


def cut_rectangle(image: np.ndarray, centre: np.ndarray, extents: np.ndarray, size: int) -> np.ndarray:
    """Cut an upright rectangle by area-weighted resampling; outside of the image is black.

    Parameters
    ----------
    image : ndarray of uint8 of shape (height, width, 3)
        The image.
    centre, extents : ndarray of shape (2,)
        In pixels, the centre of the first pixel at 0.
    size : int
        Side of the result in pixels.

    Returns
    -------
    ndarray of uint8 of shape (size, size, 3)
    """
    from PIL import Image

    whole = Image.fromarray(image)
    edge = np.asarray(centre, dtype=np.float64) + 0.5  # pixel i covers i to i + 1
    extents = np.asarray(extents, dtype=np.float64)
    # A factor of two to four is left to the resampling, whose weights are exact.
    coarser = int(extents.min() / size // 2)
    if coarser > 1:  # whole pixels are averaged first: what is cut stays small, however large the box
        whole = whole.reduce(coarser)
        edge, extents = edge / coarser, extents / coarser
    low = edge - extents / 2
    first, last = np.floor(low).astype(int), np.ceil(low + extents).astype(int)
    patch = whole.crop((*first.tolist(), *last.tolist()))
    box = (*(low - first).tolist(), *(low - first + extents).tolist())
    return np.array(patch.resize((size, size), Image.Resampling.BILINEAR, box=box))
