"""EfficientNet B0 to B3 with a linear landmark head: the teachers of two-teacher distillation."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from asmnet._prediction import Prediction, pool
from asmnet.networks._registry import register_network
from asmnet.networks.mobilenet import RegressionHeads, check_images, conv_norm_act, make_divisible
from shape_models._options import check_choice

__all__ = ["EfficientNet"]

# Stage: expansion, kernel, stride, channels, repeats (Tan and Le, table 1).
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
# Variant: width, depth, drop-connect.
_VARIANTS = {"b0": (1.0, 1.0, 0.2), "b1": (1.0, 1.1, 0.2), "b2": (1.1, 1.2, 0.2), "b3": (1.2, 1.4, 0.2)}


# As in the published program, whose 0.99 is torch's momentum 0.01.
_norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
_conv_bn = functools.partial(conv_norm_act, activation=None, norm=_norm)


class _MBConv(nn.Module):
    """Inverted residual with squeeze and excitation; the squeeze is a quarter of the channels that enter."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, expansion: int, drop: float) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = nn.Sequential(_conv_bn(c_in, wide, 1), nn.SiLU()) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Sequential(_conv_bn(wide, wide, kernel, stride=stride, groups=wide), nn.SiLU())
        squeeze = max(1, c_in // 4)  # of what enters the block, not of its expansion: the published ratio of 0.25
        self.gate = nn.Sequential(nn.Conv2d(wide, squeeze, 1), nn.SiLU(), nn.Conv2d(squeeze, wide, 1), nn.Sigmoid())
        self.reduce = _conv_bn(wide, c_out, 1)
        self.residual = stride == 1 and c_in == c_out
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        wide = self.depthwise(self.expand(x))
        y: Tensor = self.reduce(wide * self.gate(wide.mean(dim=(2, 3), keepdim=True)))
        if not self.residual:
            return y
        if self.training and self.drop > 0:
            # Drop-connect: a sample keeps its branch with probability 1 - drop, rescaled to keep the mean.
            keep = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * keep.to(y.dtype) / (1.0 - self.drop)
        return x + y


@register_network("efficientnet-b0", title="EfficientNet-B0, a small teacher", input_size=224, stride=32, variant="b0")
@register_network("efficientnet-b3", title="EfficientNet-B3, the teacher", input_size=224, stride=32, variant="b3")
class EfficientNet(nn.Module):
    """EfficientNet up to its top activation, pooled, dropout 0.5, one linear head for the landmarks.

    Parameters
    ----------
    n_landmarks : int
        Number of points.
    variant : {"b0", "b1", "b2", "b3"}
        Width and depth.
    pose : bool
        Whether there is a second head for (yaw, pitch, roll); the published teachers have none.
    dropout : float
        Dropout before the head.
    drop_connect : float, optional
        Largest fraction of residual branches dropped in training, growing linearly with depth; 0.2 by default.

    Notes
    -----
    B3 with 68 landmarks has 10 905 264 trainable parameters, 10 992 560 with running statistics.

    References
    ----------
    Tan, Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks import EfficientNet
    >>> EfficientNet(68, variant="b0").eval()(torch.zeros(1, 3, 64, 64)).landmarks.shape
    torch.Size([1, 68, 2])
    """

    def __init__(
        self,
        n_landmarks: int,
        *,
        variant: str = "b3",
        pose: bool = False,
        dropout: float = 0.5,
        drop_connect: float | None = None,
    ) -> None:
        super().__init__()
        check_choice(_VARIANTS, variant=variant)
        width, depth, default_drop = _VARIANTS[variant]
        drop_connect = default_drop if drop_connect is None else drop_connect
        c_in = make_divisible(32 * width)
        self.stem = nn.Sequential(_conv_bn(3, c_in, 3, stride=2), nn.SiLU())
        repeats = [math.ceil(stage[4] * depth) for stage in _STAGES]
        blocks: list[nn.Module] = []
        for (expansion, kernel, stride, channels, _), n in zip(_STAGES, repeats, strict=True):
            c_out = make_divisible(channels * width)
            for i in range(n):
                # Rising in a line with the depth: Huang et al., "Deep networks with stochastic depth", 2016, eq. (4).
                drop = drop_connect * len(blocks) / sum(repeats)
                blocks.append(
                    _MBConv(c_in, c_out, kernel=kernel, stride=stride if i == 0 else 1, expansion=expansion, drop=drop)
                )
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.n_features = make_divisible(1280 * width)
        self.top = nn.Sequential(_conv_bn(c_in, self.n_features, 1), nn.SiLU())
        self.dropout = nn.Dropout(dropout)
        self.heads = RegressionHeads(self.n_features, n_landmarks, pose=pose)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # As in the published program: normal, by the connections that leave.
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Prediction:
        """Predict landmarks in crop units (and the pose) from normalised pixels (batch, 3, height, width).

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels.

        Returns
        -------
        Prediction
            Landmarks, and the pose where it has that head.
        """
        check_images(self, images, 32)
        y = self.top(self.blocks(self.stem(images)))
        prediction: Prediction = self.heads(self.dropout(pool(y)))
        return prediction
