"""ASMNet (Fard, Abdollahi, Mahoor, 2021): the first MobileNetV2 blocks, tapped at six depths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asmnet._prediction import Prediction, pool
from asmnet.networks._registry import register_network
from asmnet.networks.mobilenet import RegressionHeads, check_images, initialise, mobilenet_features, tapped

__all__ = ["ASMNet"]

TAPS = (1, 3, 6, 10, 13, 15)


@register_network("asmnet", title="ASMNet, MobileNetV2 blocks 0-15 tapped at six depths", input_size=224, stride=16)
class ASMNet(nn.Module):
    """Blocks 0 to 15 of MobileNetV2; the outputs of six of them, averaged and joined, feed two linear heads.

    The outputs of blocks 1, 3, 6, 10, 13 and 15 are averaged over the image and concatenated to 536 features (at
    width 1), a dropout follows, then one linear layer for the landmarks and one for the pose.

    Parameters
    ----------
    n_landmarks : int
        Number of points.
    width : float
        Multiplier of the channel counts.
    pose : bool
        Whether there is a head for (yaw, pitch, roll).
    dropout : float
        Fraction of the 536 features dropped in training.

    Notes
    -----
    With 68 landmarks it has 1 412 435 trainable parameters and takes 0.513 GFLOP (two per multiply-add) at 224 pixels.

    References
    ----------
    Fard, Abdollahi, Mahoor: ASMNet: a Lightweight Deep Neural Network for Face Alignment and Pose Estimation,
    CVPR Workshops 2021.

    Examples
    --------
    >>> import torch
    >>> from asmnet import ASMNet
    >>> network = ASMNet(68).eval()
    >>> prediction = network(torch.zeros(2, 3, 224, 224))
    >>> prediction.landmarks.shape, prediction.pose.shape
    (torch.Size([2, 68, 2]), torch.Size([2, 3]))
    >>> sum(p.numel() for p in network.parameters())
    1412435
    """

    def __init__(self, n_landmarks: int, *, width: float = 1.0, pose: bool = True, dropout: float = 0.3):
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: got {dropout}; expected a fraction from 0 to less than 1.")
        super().__init__()
        self.features, channels = mobilenet_features(width=width, n_blocks=TAPS[-1] + 1)
        self.dropout = nn.Dropout(dropout)
        self.heads = RegressionHeads(sum(channels[i] for i in TAPS), n_landmarks, pose=pose)
        initialise(self)

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the six block outputs, shallow to deep, each (batch, channels, height, width).

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels.

        Returns
        -------
        list of Tensor
            Six of them.
        """
        check_images(self, images)
        return tapped(self.features, images, TAPS)

    def forward(self, images: Tensor) -> Prediction:
        """Predict landmarks in crop units and the pose.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels; sides are multiples of 16.

        Returns
        -------
        Prediction
            `landmarks` (batch, n_landmarks, 2) and `pose` (batch, 3) or None.
        """
        pooled = torch.cat([pool(tap) for tap in self.taps(images)], dim=1)
        prediction: Prediction = self.heads(self.dropout(pooled))
        return prediction
