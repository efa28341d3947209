"""The residual blocks that hourglass and SAT networks are built from."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from asmnet.networks.mobilenet import conv_norm_act
from shape_models._options import check_choice

__all__ = ["BLOCKS", "ChannelAggregationBlock", "HPMBlock", "InceptionBlock", "ResidualBlock", "make_block"]

# MXNet's moving average keeps 0.9 of the old value: torch momentum 0.1.
batch_norm = functools.partial(nn.BatchNorm2d, eps=2e-5, momentum=0.1)
conv_bn_relu = functools.partial(conv_norm_act, activation=nn.ReLU, norm=batch_norm)


def _check(c_in: int, c_out: int, divisor: int) -> None:
    if c_in < 1 or c_out < 1 or c_out % divisor:
        raise ValueError(
            f"got channels {c_in} -> {c_out}; expected positive counts with {divisor} dividing the output."
        )


class _PreActivated(nn.Module):
    """Three convolutions, each after batch normalisation and ReLU, beside a shortcut.

    The shortcut is the identity, or a 1x1 convolution of the activated input.
    """

    def __init__(self, c_in: int, c_out: int, widths: tuple[int, int, int], kernels: tuple[int, int, int]) -> None:
        super().__init__()
        self.bn = batch_norm(c_in)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False) if c_in != c_out else None
        first, second, third = (
            functools.partial(nn.Conv2d, kernel_size=k, padding=k // 2, bias=False) for k in kernels
        )
        self.conv1 = first(c_in, widths[0])
        self.bn2 = batch_norm(widths[0])
        self.conv2 = second(widths[0], widths[1])
        self.bn3 = batch_norm(widths[1])
        self.conv3 = third(widths[1], widths[2])

    def _chain(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what each of the convolutions gives, and the shortcut."""
        activated = torch.relu(self.bn(x))
        first = self.conv1(activated)
        second = self.conv2(torch.relu(self.bn2(first)))
        third = self.conv3(torch.relu(self.bn3(second)))
        return [first, second, third], x if self.shortcut is None else self.shortcut(activated)


class ResidualBlock(_PreActivated):
    """Pre-activation bottleneck: 1x1 (C/2), 3x3 (C/2), 1x1 (C), each after batch normalisation and ReLU.

    Parameters
    ----------
    c_in, c_out : int
        Channels in and out; `c_out` is even.

    References
    ----------
    He, Zhang, Ren, Sun, "Identity mappings in deep residual networks", ECCV 2016.

    Examples
    --------
    >>> import torch
    >>> ResidualBlock(256, 256)(torch.zeros(1, 256, 8, 8)).shape
    torch.Size([1, 256, 8, 8])
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        _check(c_in, c_out, 2)
        super().__init__(c_in, c_out, (c_out // 2, c_out // 2, c_out), (1, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, h, w) to (batch, c_out, h, w).

        Parameters
        ----------
        x : Tensor of shape (batch, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (batch, channels, height, width)
            Feature maps.
        """
        chain, shortcut = self._chain(x)
        return chain[-1] + shortcut


class HPMBlock(_PreActivated):
    """Hierarchical, parallel, multi-scale block: a chain of 3x3 convolutions (C/2, C/4, C/4), all concatenated.

    Parameters
    ----------
    c_in, c_out : int
        Channels in and out; 4 divides `c_out`.

    References
    ----------
    Bulat, Tzimiropoulos, "Binarized convolutional landmark localizers for human pose estimation and face alignment
    with limited resources", ICCV 2017.

    Examples
    --------
    >>> import torch
    >>> HPMBlock(64, 128)(torch.zeros(1, 64, 8, 8)).shape
    torch.Size([1, 128, 8, 8])
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        _check(c_in, c_out, 4)
        super().__init__(c_in, c_out, (c_out // 2, c_out // 4, c_out // 4), (3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, h, w) to (batch, c_out, h, w).

        Parameters
        ----------
        x : Tensor of shape (batch, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (batch, channels, height, width)
            Feature maps.
        """
        chain, shortcut = self._chain(x)
        return torch.cat(chain, dim=1) + shortcut


class InceptionBlock(nn.Module):
    """Three branches of growing receptive field, concatenated, mixed by a 1x1 convolution and added to the input.

    Parameters
    ----------
    channels : int
        Channels in and out; 8 divides it.

    Examples
    --------
    >>> import torch
    >>> InceptionBlock(256)(torch.zeros(1, 256, 8, 8)).shape
    torch.Size([1, 256, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        _check(channels, channels, 8)
        quarter, eighth = channels // 4, channels // 8
        self.a = conv_bn_relu(channels, quarter, 1)
        self.b = nn.Sequential(conv_bn_relu(channels, quarter, 1), conv_bn_relu(quarter, quarter, 3))
        self.c = nn.Sequential(
            conv_bn_relu(channels, quarter, 1),
            conv_bn_relu(quarter, 3 * eighth, 3),
            conv_bn_relu(3 * eighth, 4 * eighth, 3),
        )
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), batch_norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape.

        Parameters
        ----------
        x : Tensor of shape (batch, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (batch, channels, height, width)
            Feature maps.
        """
        return torch.relu(x + self.mix(torch.cat([self.a(x), self.b(x), self.c(x)], dim=1)))


class ChannelAggregationBlock(nn.Module):
    """Channel aggregation block (CAB): the scale-aggregation grid laid along the channel axis.

    Nodes (w, h) of a triangle of side n. The outermost column, h = n, halves the channels from node to node by 3x3
    convolutions; every further node is the mean of its neighbour (w+1, h+1) and of its neighbour (w, h+1) whose
    channels are duplicated. The neighbour (w+1, h+1) passes a depthwise convolution where h is odd and h != w. The
    identity enters the output with weight 2^(1-n).

    Parameters
    ----------
    channels : int
        Channels in and out; 2^(n-1) divides it.
    n : int
        Side of the triangle.

    Examples
    --------
    >>> import torch
    >>> ChannelAggregationBlock(256)(torch.zeros(1, 256, 8, 8)).shape
    torch.Size([1, 256, 8, 8])
    """

    def __init__(self, channels: int, *, n: int = 4) -> None:
        super().__init__()
        if n < 2:
            raise ValueError(f"got n={n}; expected at least 2.")
        _check(channels, channels, 2 ** (n - 1))
        self.n = n
        widths = {w: channels >> (n - w) for w in range(1, n + 1)}
        self.narrow = nn.ModuleDict({str(w): conv_bn_relu(widths[w + 1], widths[w], 3) for w in range(n - 1, 0, -1)})
        self.depthwise = nn.ModuleDict(
            {
                f"{w}{h}": conv_bn_relu(widths[w + 1], widths[w + 1], 3, groups=widths[w + 1])
                for h in range(n - 1, 0, -1)
                for w in range(h - 1, 0, -1)
                if h % 2 == 1
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape.

        Parameters
        ----------
        x : Tensor of shape (batch, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (batch, channels, height, width)
            Feature maps.
        """
        column = {self.n: x}
        for w in range(self.n - 1, 0, -1):
            column[w] = self.narrow[str(w)](column[w + 1])
        return merge_scales(column, self.depthwise, lambda key, narrow: torch.cat([narrow, narrow], dim=1))


def merge_scales(column: dict[int, Tensor], depthwise: nn.ModuleDict, up: Callable[[str, Tensor], Tensor]) -> Tensor:
    """Average each scale with the next coarser one brought up to it, level by level, until the finest is left.

    Scale ``n`` of 1 to ``n`` is the finest; the node of scale w at level h goes by the name ``f"{w}{h}"``.
    """
    for h in range(len(column) - 1, 0, -1):
        merged = {}
        for w in range(h, 0, -1):
            key = f"{w}{h}"
            fine = depthwise[key](column[w + 1]) if key in depthwise else column[w + 1]
            merged[w] = 0.5 * (fine + up(key, column[w]))
        column = merged
    return column[1]


def _inception(c_in: int, c_out: int) -> nn.Module:
    return InceptionBlock(c_in) if c_in == c_out else ResidualBlock(c_in, c_out)


def _cab(c_in: int, c_out: int) -> nn.Module:
    return ChannelAggregationBlock(c_in) if c_in == c_out else HPMBlock(c_in, c_out)


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet": ResidualBlock,
    "inception": _inception,
    "hpm": HPMBlock,
    "cab": _cab,
}


def make_block(name: str, c_in: int, c_out: int) -> nn.Module:
    """Return the named block.

    ``"inception"`` falls back to the residual block and ``"cab"`` to the HPM block where the channel count changes,
    as in the published networks.

    Parameters
    ----------
    name : {"resnet", "inception", "hpm", "cab"}
        Which block.
    c_in, c_out : int
        Channels in and out.

    Returns
    -------
    torch.nn.Module
        With fresh weights.

    Raises
    ------
    ValueError
        For an unknown name or channels that do not divide.

    Examples
    --------
    >>> type(make_block("cab", 64, 128)).__name__
    'HPMBlock'
    """
    check_choice(BLOCKS, block=name)
    return BLOCKS[name](c_in, c_out)
