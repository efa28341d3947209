"""How a face in an image becomes the input of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from asmnet._options import check_fields, check_tensor


@dataclass(frozen=True)
class Preprocessing:
    """How a face in an image becomes the input of a network; it travels with the weights.

    Parameters
    ----------
    size : int
        Side of the input in pixels.
    margin : float
        Side of the crop over the larger side of the box.
    square : bool
        Whether the crop is square in the image. When False each side follows its own side of the box, as in the
        paper, which distorts the face.
    mean, std : float
        Pixels from 0 to 1 become (x - mean) / std.
    box : str
        What the box encloses: ``"landmarks"``, the tight box of the landmarks.

    Examples
    --------
    >>> from asmnet import Preprocessing
    >>> Preprocessing(size=112).margin
    1.3
    """

    size: int = 224
    margin: float = 1.3
    square: bool = True
    mean: float = 0.5
    std: float = 0.25
    box: str = "landmarks"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size < 1:
            raise ValueError(f"size: got {self.size}; expected a positive number of pixels.")
        # A crop of 20 times the object leaves it 11 of 224 pixels: a margin beyond was meant in percent or pixels.
        if not (0 < self.margin < 20 and 0 < self.std < np.inf and np.isfinite(self.mean)):
            raise ValueError(f"got margin {self.margin}, mean {self.mean}, std {self.std}; expected positive numbers.")
        if self.box != "landmarks":
            raise ValueError(f"box: got {self.box!r}; expected 'landmarks', the tight box of the landmarks.")

    @classmethod
    def paper(cls) -> Preprocessing:
        """Return the published preparation: the box stretched to 224 x 224, pixels from 0 to 1."""
        return cls(size=224, margin=1.05, square=False, mean=0.0, std=1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """Map pixels from 0 to 1 to what the network takes.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            From 0 to 1.

        Returns
        -------
        Tensor of the shape of `images`
            Normalised.

        Raises
        ------
        TypeError
            For images that are not floats.
        """
        check_tensor("images", images, "(...)")
        if not images.is_floating_point():
            raise TypeError(f"images: got {images.dtype}; expected floats from 0 to 1. Try images / 255.")
        return (images - self.mean) / self.std
