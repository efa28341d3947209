"""MobileNetV2 (Sandler et al., 2018): inverted residuals, and the full network as a landmark and pose regressor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from asmnet._options import check_counts, check_kind, check_tensor
from asmnet._prediction import Prediction, full_precision, pool
from asmnet.networks._registry import register_network
from shape_models._options import check_flags, check_numbers

__all__ = ["InvertedResidual", "MobileNetV2", "conv_norm_act", "load_torchvision_weights", "mobilenet_features"]

# expansion, channels, repeats, stride of the first (Table 2 of the paper)
SETTINGS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
N_BLOCKS = sum(setting[2] for setting in SETTINGS)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never more than 10 % below `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv_norm_act(
    n_in: int,
    n_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU6,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Build a convolution without bias, batch normalisation and an activation.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel : int
        Odd size of the kernel; the padding keeps the size at stride 1.
    stride, groups : int
        As in `torch.nn.Conv2d`.
    activation : type of Module or None
        Built with ``inplace=True``; None for a linear output.
    norm : callable
        Builds the normalisation of so many channels.

    Returns
    -------
    torch.nn.Sequential
        With fresh weights.

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks.mobilenet import conv_norm_act
    >>> conv_norm_act(3, 8, 3, stride=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])
    """
    layers: list[nn.Module] = [
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm(n_out),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand by a 1 x 1 convolution, filter each channel, project back without activation; add where sizes agree.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : int
        1 or 2.
    expansion : int
        Factor of the hidden width; at 1 the expanding convolution is left out.

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks import InvertedResidual
    >>> InvertedResidual(16, 24, stride=2, expansion=6)(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 24, 4, 4])
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int, expansion: int):
        super().__init__()
        hidden = n_in * expansion
        self.residual = stride == 1 and n_in == n_out
        expand = [conv_norm_act(n_in, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_norm_act(hidden, hidden, 3, stride=stride, groups=hidden),
            # Linear: with few channels a rectifier would destroy what they carry (section 3.2 of the paper).
            nn.Conv2d(hidden, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Filter `x` of shape (batch, n_in, height, width).

        Parameters
        ----------
        x : Tensor of shape (batch, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (batch, channels, height, width)
            Feature maps.
        """
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


def mobilenet_features(*, width: float = 1.0, n_blocks: int = N_BLOCKS) -> tuple[nn.Sequential, list[int]]:
    """Build the stem and the first `n_blocks` inverted residuals.

    Parameters
    ----------
    width : float
        Multiplier of all channel counts, rounded to multiples of 8.
    n_blocks : int
        How many of the 17 blocks; the 1 x 1 convolution to 1280 channels is no part of them.

    Returns
    -------
    features : Sequential
        Entry 0 is the stem, entry i + 1 is block i.
    channels : list of int
        Output channels of each block.

    Raises
    ------
    ValueError
        For a number of blocks that MobileNetV2 does not have.

    Examples
    --------
    >>> from asmnet.networks.mobilenet import mobilenet_features
    >>> features, channels = mobilenet_features(n_blocks=16)
    >>> len(features), channels[1], channels[15]
    (17, 24, 160)
    """
    if not 0 < n_blocks <= N_BLOCKS:
        raise ValueError(f"n_blocks: got {n_blocks}; expected 1 to {N_BLOCKS}, the blocks MobileNetV2 has.")
    check_numbers(width=width, above=True)
    n_in = make_divisible(32 * width)
    layers: list[nn.Module] = [conv_norm_act(3, n_in, 3, stride=2)]
    channels: list[int] = []
    for expansion, base, repeats, stride in SETTINGS:
        n_out = make_divisible(base * width)
        for i in range(repeats):
            if len(channels) < n_blocks:
                layers.append(InvertedResidual(n_in, n_out, stride=stride if i == 0 else 1, expansion=expansion))
                channels.append(n_out)
                n_in = n_out
    return nn.Sequential(*layers), channels


def tapped(features: nn.Sequential, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """Return what some of the blocks behind the stem of `mobilenet_features` give, shallow to deep."""
    found = []
    for block, layer in enumerate(features, -1):
        images = layer(images)
        if block in taps:
            found.append(images)
    return found


def initialise(module: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draw convolutions from He's normal, set norms to the identity; linear heads small with zero bias."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode=mode)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            # Answers start near 0: landmarks in the middle of the crop, a face seen from the front.
            nn.init.normal_(part.weight, std=0.01)
            nn.init.zeros_(part.bias)


def check_images(network: nn.Module, images: Tensor, stride: int = 16, hint: str = "") -> None:
    """Refuse what is no batch of colour images, like the weights, whose sides are multiples of `stride`."""
    check_tensor("images", images, "(batch, 3, height, width)")
    if images.shape[2] % stride or images.shape[3] % stride or not images.shape[2] or not images.shape[3]:
        raise ValueError(
            f"images: got {images.shape[2]} x {images.shape[3]} pixels; expected sides that are multiples of "
            f"{stride}.{hint}"
        )
    weights = next(network.parameters())
    if images.device != weights.device:
        raise ValueError(f"images: got a tensor on {images.device}; expected {weights.device}, where the network is.")
    mixed = images.device.type != "meta" and torch.is_autocast_enabled(images.device.type)
    if images.dtype != weights.dtype and not (mixed and images.is_floating_point()):
        got, wanted = (str(kind).removeprefix("torch.") for kind in (images.dtype, weights.dtype))
        hint = f"images.to(torch.{wanted})" if images.is_floating_point() else "Preprocessing.normalise(images / 255)"
        raise TypeError(f"images: got {got}; expected {wanted}, as the weights. Try {hint}.")


class RegressionHeads(nn.Module):
    """Two linear heads on one feature vector: landmarks and, when asked for, pose."""

    def __init__(self, n_features: int, n_landmarks: int, *, pose: bool = True):
        super().__init__()
        check_flags(pose=pose)
        check_counts(n_landmarks=n_landmarks)
        self.n_landmarks = n_landmarks
        self.landmarks = nn.Linear(n_features, 2 * n_landmarks)
        self.pose = nn.Linear(n_features, 3) if pose else None

    def forward(self, features: Tensor) -> Prediction:
        """Turn (batch, n_features) into a `Prediction`."""
        landmarks = full_precision(self.landmarks, features).unflatten(1, (self.n_landmarks, 2))
        return Prediction(landmarks, None if self.pose is None else full_precision(self.pose, features))


@register_network("mobilenetv2", title="MobileNetV2, the full baseline", input_size=224, stride=16)
class MobileNetV2(nn.Module):
    """The whole MobileNetV2, pooled to 1280 features, with a landmark head and a pose head.

    Parameters
    ----------
    n_landmarks : int
        Number of points.
    width : float
        Multiplier of the channel counts; the last convolution keeps at least 1280.
    pose : bool
        Whether there is a head for (yaw, pitch, roll).

    Notes
    -----
    With 68 landmarks it has 2 401 931 trainable parameters and takes 0.599 GFLOP (two per multiply-add) at 224 pixels.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from asmnet import MobileNetV2
    >>> network = MobileNetV2(68).eval()
    >>> network(torch.zeros(2, 3, 64, 64)).landmarks.shape
    torch.Size([2, 68, 2])
    """

    def __init__(self, n_landmarks: int, *, width: float = 1.0, pose: bool = True):
        super().__init__()
        self.features, channels = mobilenet_features(width=width)
        # The paper narrows all layers but the last convolution, which it only widens.
        n_features = max(1280, make_divisible(1280 * width))
        self.features.append(conv_norm_act(channels[-1], n_features, 1))
        self.heads = RegressionHeads(n_features, n_landmarks, pose=pose)
        initialise(self)

    def forward(self, images: Tensor) -> Prediction:
        """Predict landmarks in crop units and the pose.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels; sides are multiples of 16.

        Returns
        -------
        Prediction
            Landmarks, and the pose where it has that head.
        """
        check_images(self, images)
        prediction: Prediction = self.heads(pool(self.features(images)))
        return prediction


def load_torchvision_weights(network: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Copy the convolutional part of a torchvision-style MobileNetV2 checkpoint into a network with MobileNetV2 blocks.

    Parameters
    ----------
    network : MobileNetV2 or ASMNet
        Changed in place. Its heads stay as they are.
    state_dict : mapping of str to Tensor
        Names as torchvision gives them (``features.0.0.weight``, ``features.1.conv.0.0.weight``, ...), with or without
        the prefix ``module.``; the classifier is ignored, and so are blocks the network does not have.

    Returns
    -------
    list of str
        The names in the checkpoint that were not used.

    Raises
    ------
    ValueError
        When a part of the network finds no counterpart, or one of another shape; the network is then unchanged.

    Examples
    --------
    >>> from asmnet import ASMNet, MobileNetV2
    >>> from asmnet.networks import load_torchvision_weights
    >>> source = MobileNetV2(68).state_dict()
    >>> unused = load_torchvision_weights(ASMNet(68), source)
    >>> sorted({name.split(".")[0] for name in unused})
    ['features', 'heads']
    """
    check_kind("state_dict", state_dict, Mapping)
    given = {name.removeprefix("module."): value for name, value in state_dict.items()}
    own = {name: value for name, value in network.state_dict().items() if name.startswith("features.")}
    if not own:
        raise ValueError(f"{type(network).__name__} has no part called features; expected MobileNetV2 blocks.")
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent in old checkpoints
    missing = sorted(set(own) - set(given) - counters)
    if missing:
        raise ValueError(
            f"state_dict: {len(missing)} entries are missing, the first is {missing[0]!r}; expected the names of "
            "torchvision's mobilenet_v2. Try checkpoint['state_dict'] if the file wraps it."
        )
    wrong = [name for name in own if name in given and given[name].shape != own[name].shape]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"state_dict: {name} has shape {tuple(given[name].shape)}; expected {tuple(own[name].shape)}. "
            "Try the width the checkpoint was trained with."
        )
    with torch.no_grad():
        for name, value in own.items():
            if name in given:
                value.copy_(given[name])
    return sorted(set(given) - set(own))
