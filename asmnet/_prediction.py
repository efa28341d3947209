"""What every network answers, and the precision its heads answer in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """Output of a network for a batch: landmarks, and where it has them pose, depth and heat maps.

    Attributes
    ----------
    landmarks : Tensor of shape (batch, n_landmarks, 2)
        (x, y) in crop units: the centre of the crop is 0, its edges are at -0.5 and 0.5.
    pose : Tensor of shape (batch, 3) or None
        (yaw, pitch, roll) divided by 65 degrees.
    heatmaps : tuple of Tensor
        Heat maps of each stack, (batch, n_landmarks, height, width) each; empty for networks that regress coordinates.
    depth : Tensor of shape (batch, n_landmarks) or None
        z in the units of the landmarks, away from the viewer, 0 at the mean of the face.

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks import Prediction
    >>> Prediction(torch.zeros(1, 68, 2)).pose is None
    True
    """

    landmarks: Tensor
    pose: Tensor | None = None
    heatmaps: tuple[Tensor, ...] = ()
    depth: Tensor | None = None

    def rows(self, which: slice | Tensor) -> Prediction:
        """Return the prediction for some of the images.

        Parameters
        ----------
        which : slice, or Tensor of int of shape (n_chosen,) or of bool of shape (batch,)
            Which images.

        Returns
        -------
        Prediction
            Of these images.
        """
        parts = (None if part is None else part[which] for part in (self.landmarks, self.pose, self.depth))
        landmarks, pose, depth = parts
        assert landmarks is not None
        return Prediction(landmarks, pose, tuple(maps[which] for maps in self.heatmaps), depth)


def full_precision(head: Callable[..., Tensor], features: Tensor) -> Tensor:
    """Apply a head in float32 where the trunk runs in less: coordinates need more than the 8 bits of bfloat16."""
    kind = features.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return head(features)
    with torch.autocast(kind, enabled=False):
        return head(features.float())


def pool(features: Tensor) -> Tensor:
    """Average over height and width, summed in float32 at least."""
    return features.mean((2, 3), dtype=torch.promote_types(features.dtype, torch.float32))
