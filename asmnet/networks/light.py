"""A light heat-map network: the blocks of MobileNetV2 down, a narrow decoder up, probability maps out."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from asmnet._decoding import map_mean, spatial_softmax
from asmnet._options import check_counts
from asmnet._prediction import Prediction, full_precision, pool
from asmnet.networks._registry import register_network
from asmnet.networks.mobilenet import (
    InvertedResidual,
    check_images,
    conv_norm_act,
    initialise,
    mobilenet_features,
    tapped,
)

__all__ = ["LightHeatmapNet"]

# The last block at 1/4, 1/8, 1/16 and 1/32 of the input.
TAPS = (2, 5, 12, 15)


class _Heads(nn.Module):
    """A convolution to maps and, when asked for, a linear layer to the pose."""

    def __init__(self, channels: int, n_features: int, n_landmarks: int, *, pose: bool):
        super().__init__()
        self.maps = nn.Conv2d(channels, n_landmarks, 1)
        self.pose = nn.Linear(n_features, 3) if pose else None


_TITLE = "MobileNetV2 blocks 0-15 with a decoder to probability maps"


@register_network("light", title=_TITLE, input_size=128, stride=32, criterion="integral")
class LightHeatmapNet(nn.Module):
    """Blocks 0 to 15 of MobileNetV2 and a feature pyramid that ends in one probability map a landmark at 1/4 the size.

    From the coarsest level up, the features are widened to the next finer level, added to that level's own after a
    1 x 1 convolution, and filtered by an inverted residual. A landmark is the mean of its map, so that its place is not
    bound to the pixels of the map, and the covariance of the map tells how sure the network is.

    Parameters
    ----------
    n_landmarks : int
        Number of maps.
    width : float
        Multiplier of the channel counts of the blocks.
    channels : int
        Channels of the decoder.
    pose : bool
        Whether there is a head for (yaw, pitch, roll), on the mean of the coarsest features.

    Notes
    -----
    With 68 landmarks it has 1 494 247 trainable parameters and takes 0.293 GFLOP (two per multiply-add) at 128 pixels.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; Sun, Xiao,
    Wei, Liang, Wei: Integral human pose regression, ECCV 2018 (the mean of the map).

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks import LightHeatmapNet
    >>> network = LightHeatmapNet(68).eval()
    >>> prediction = network(torch.zeros(2, 3, 128, 128))
    >>> prediction.landmarks.shape, prediction.heatmaps[0].shape, prediction.pose.shape
    (torch.Size([2, 68, 2]), torch.Size([2, 68, 32, 32]), torch.Size([2, 3]))
    """

    def __init__(self, n_landmarks: int, *, width: float = 1.0, channels: int = 96, pose: bool = True):
        super().__init__()
        check_counts(n_landmarks=n_landmarks, channels=channels)
        self.n_landmarks = n_landmarks
        self.features, counts = mobilenet_features(width=width, n_blocks=TAPS[-1] + 1)
        self.lateral = nn.ModuleList(conv_norm_act(counts[i], channels, 1, activation=None) for i in TAPS)
        self.filters = nn.ModuleList(InvertedResidual(channels, channels, stride=1, expansion=2) for _ in TAPS[:-1])
        self.heads = _Heads(channels, counts[TAPS[-1]], n_landmarks, pose=pose)
        initialise(self)
        nn.init.normal_(self.heads.maps.weight, std=1e-3)  # the maps start flat: every landmark at the centre

    def forward(self, images: Tensor) -> Prediction:
        """Draw the probability maps and read the landmarks off them.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels; sides are multiples of 32.

        Returns
        -------
        Prediction
            `landmarks` (batch, n_landmarks, 2) in crop units; `heatmaps`, one (batch, n_landmarks, height / 4,
            width / 4) whose maps sum to 1; `pose` (batch, 3) or None.
        """
        check_images(self, images, 32)
        levels = tapped(self.features, images, TAPS)
        merged = self.lateral[-1](levels[-1])
        for i in range(len(TAPS) - 2, -1, -1):
            merged = functional.interpolate(merged, scale_factor=2, mode="nearest") + self.lateral[i](levels[i])
            merged = self.filters[i](merged)
        maps = spatial_softmax(full_precision(self.heads.maps, merged))
        pose = None if self.heads.pose is None else full_precision(self.heads.pose, pool(levels[-1]))
        return Prediction(map_mean(maps), pose, (maps,))
