"""Stacked hourglass and SAT networks: heat maps for every landmark, supervised after every stack.

Of the published program these parts are not built: deformable convolutions, the head called ESSH, and the stack
configuration ``net_sat=2``. Its coherent loss is `asmnet.heatmaps.mirror_coherence_loss`, an option of the criterion.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from asmnet._decoding import DECODERS, decode_heatmaps, map_mean, spatial_softmax
from asmnet._drawing import map_to_units
from asmnet._options import check_counts
from asmnet._prediction import Prediction, full_precision
from asmnet.networks._registry import register_network
from asmnet.networks.blocks import ChannelAggregationBlock, batch_norm, conv_bn_relu, make_block, merge_scales
from asmnet.networks.mobilenet import check_images, initialise
from shape_models._options import check_choice

__all__ = ["Hourglass", "ScaleAggregation", "StackedHeatmapNet"]


class Hourglass(nn.Module):
    """One hourglass: down by max pooling, up by nearest neighbours, a skip at every level.

    Level by level ``out = block(x) + up(block(inner(block(pool(x)))))``; the innermost level is one block. An
    hourglass of depth d has 3d + 1 blocks.

    Parameters
    ----------
    channels : int
        Channels in and out.
    depth : int
        How often the resolution is halved; 2^depth must divide the height and width of the input.
    block : {"resnet", "inception", "hpm", "cab"}
        What it is built from.

    References
    ----------
    Newell, Yang, Deng, "Stacked hourglass networks for human pose estimation", ECCV 2016.

    Examples
    --------
    >>> import torch
    >>> Hourglass(64, depth=3, block="resnet")(torch.zeros(1, 64, 16, 16)).shape
    torch.Size([1, 64, 16, 16])
    """

    def __init__(self, channels: int, *, depth: int, block: str) -> None:
        super().__init__()
        self.skip = make_block(block, channels, channels)
        self.enter = make_block(block, channels, channels)
        self.inner = (
            Hourglass(channels, depth=depth - 1, block=block) if depth > 1 else make_block(block, channels, channels)
        )
        self.leave = make_block(block, channels, channels)

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
        low = self.leave(self.inner(self.enter(functional.max_pool2d(x, 2))))
        out: Tensor = self.skip(x) + functional.interpolate(low, scale_factor=2, mode="nearest")
        return out


class ScaleAggregation(nn.Module):
    """Scale aggregation topology (SAT): a triangle of nodes over resolutions, merged by averages.

    Nodes (w, h) of a triangle of side n = depth + 1. The column h = n halves the resolution from node to node (block,
    pooling, block); every further node is the mean of its neighbour (w+1, h+1), depthwise convolved where h is odd
    and h != w, and of its upsampled neighbour (w, h+1). Nodes of the row w = 1 are upsampled by nearest neighbours and
    a block, the others by a transposed convolution. The transposed convolutions start from He normal values: the
    published bilinear start gives every output channel the same value.

    Parameters
    ----------
    channels : int
        Channels in and out.
    depth : int
        How often the resolution is halved.

    Examples
    --------
    >>> import torch
    >>> ScaleAggregation(64, depth=3)(torch.zeros(1, 64, 16, 16)).shape
    torch.Size([1, 64, 16, 16])
    """

    def __init__(self, channels: int, *, depth: int = 3) -> None:
        super().__init__()
        n = self.n = depth + 1

        def cab() -> nn.Module:
            return ChannelAggregationBlock(channels)

        self.before = nn.ModuleDict({str(w): cab() for w in range(n - 1, 0, -1)})
        self.after = nn.ModuleDict({str(w): cab() for w in range(n - 1, 0, -1)})
        self.up = nn.ModuleDict()
        self.depthwise = nn.ModuleDict()
        for h in range(n - 1, 0, -1):
            for w in range(h, 0, -1):
                if w == 1:
                    self.up[f"{w}{h}"] = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), cab())
                else:
                    deconvolution = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
                    self.up[f"{w}{h}"] = nn.Sequential(deconvolution, batch_norm(channels), nn.ReLU(inplace=True))
                if h % 2 == 1 and h != w:
                    self.depthwise[f"{w}{h}"] = conv_bn_relu(channels, channels, 3, groups=channels)

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
            column[w] = self.after[str(w)](functional.max_pool2d(self.before[str(w)](column[w + 1]), 2))
        return merge_scales(column, self.depthwise, lambda key, coarse: self.up[key](coarse))


_register = functools.partial(register_network, input_size=128, criterion="heatmap")


@_register("hourglass", title="two stacked hourglasses of residual blocks", stride=32)
@_register("hourglass-hpm", title="two stacked hourglasses of HPM blocks", stride=16, block="hpm", depth=3)
@_register("hourglass-cab", title="two stacked hourglasses of CAB blocks", stride=16, block="cab", depth=3)
@_register("hourglass-small", title="one hourglass, half as wide", stride=16, depth=3, n_stacks=1, width=0.5)
@_register("sat", title="two stacked SAT topologies of CAB blocks", stride=16, topology="sat", block="cab", depth=3)
class StackedHeatmapNet(nn.Module):
    """Stem, then stacks of hourglass or SAT, each ending in one heat map a landmark.

    Parameters
    ----------
    n_landmarks : int
        Number of heat maps.
    topology : {"hourglass", "sat"}
        What a stack is. SAT is always built from CAB blocks.
    block : {"resnet", "inception", "hpm", "cab"}
        Blocks of stem and hourglass.
    depth : int
        How often a stack halves the resolution.
    n_stacks : int
        Number of stacks; every one but the last feeds its features and heat maps to the next.
    width : float
        Multiplies the channel counts 64, 128, 256; each must stay a multiple of 32.
    ratio : {2, 4}
        Input pixels per heat map pixel: 2 starts with a 3x3 convolution, 4 with a 7x7 of stride 2.
    depth_head : bool
        Adds a depth map a landmark to the last stack: the depth of a landmark is the mean of its depth map, weighted
        by the softmax of its last heat map. The network says where, then how deep there.
    decoder : str
        How maps become coordinates; see `asmnet.heatmaps.decode_heatmaps`.
    maps : {"free", "probability"}
        Whether a map is what the last convolution draws, as published, or its softmax: then every map sums to 1, a
        landmark is the mean of its map (`decoder` is not used), and the criterion is ``"integral"``.

    Raises
    ------
    ValueError
        For an unknown topology or block, and in :meth:`forward` for images whose size the depth does not divide.

    Notes
    -----
    With two stacks and 68 landmarks the trainable parameters are 6 586 440 (hourglass, depth 4, resnet), 9 659 464
    (depth 3, hpm), 11 624 584 (depth 4, cab), 9 286 792 (depth 3, cab) and 10 094 728 (SAT).

    Examples
    --------
    >>> import torch
    >>> from asmnet.networks import StackedHeatmapNet
    >>> net = StackedHeatmapNet(68, depth=3, block="resnet", width=0.5, n_stacks=1)
    >>> prediction = net(torch.rand(1, 3, 64, 64))
    >>> prediction.landmarks.shape, [tuple(h.shape) for h in prediction.heatmaps]
    (torch.Size([1, 68, 2]), [(1, 68, 32, 32)])
    """

    def __init__(
        self,
        n_landmarks: int,
        *,
        topology: str = "hourglass",
        block: str = "resnet",
        depth: int = 4,
        n_stacks: int = 2,
        width: float = 1.0,
        ratio: int = 2,
        depth_head: bool = False,
        decoder: str = "parabola",
        maps: str = "free",
    ) -> None:
        super().__init__()
        check_counts(n_landmarks=n_landmarks, n_stacks=n_stacks, depth=depth)
        check_choice(("hourglass", "sat"), topology=topology)
        check_choice(DECODERS, decoder=decoder)
        check_choice(("free", "probability"), maps=maps)
        if topology == "sat" and block != "cab":
            raise ValueError(f"got topology 'sat' with block {block!r}; SAT is built from 'cab' blocks only.")
        if ratio not in (2, 4):
            raise ValueError(f"got ratio {ratio}; expected 2 or 4 input pixels per heat map pixel.")
        c1, c2, c3 = (round(c * width) for c in (64, 128, 256))
        if any(c % 32 for c in (c2, c3)) or c1 < 8:
            raise ValueError(
                f"got width {width:g}, which makes {c1}, {c2}, {c3} channels; expected multiples of 32. "
                "Try width=0.25, 0.5, 0.75 or 1."
            )
        self.n_landmarks, self.depth, self.ratio, self.n_stacks = n_landmarks, depth, ratio, n_stacks
        self.decoder, self.maps = decoder, maps
        self.stem = conv_bn_relu(3, c1, 3) if ratio == 2 else conv_bn_relu(3, c1, 7, stride=2)
        self.res0 = make_block(block, c1, c2)
        self.res1 = make_block(block, c2, c2)
        self.res2 = make_block(block, c2, c3)
        body = ScaleAggregation if topology == "sat" else functools.partial(Hourglass, block=block)
        stacks, between = range(n_stacks), range(n_stacks - 1)
        self.bodies = nn.ModuleList(body(c3, depth=depth) for _ in stacks)
        self.tails = nn.ModuleList(make_block(block, c3, c3) for _ in stacks)
        self.features = nn.ModuleList(conv_bn_relu(c3, c3, 1) for _ in stacks)
        self.heads = nn.ModuleList(nn.Conv2d(c3, n_landmarks, 1) for _ in stacks)
        self.from_features = nn.ModuleList(nn.Conv2d(c3, c3, 1) for _ in between)
        self.from_heatmaps = nn.ModuleList(nn.Conv2d(n_landmarks, c3, 1) for _ in between)
        self.depth_maps = nn.Conv2d(c3, n_landmarks, 1) if depth_head else None
        initialise(self, "fan_in")  # as published: Xavier, Gaussian, factor "in", magnitude 2
        # Maps are zero almost everywhere: heads that start there do not have to unlearn first.
        for head in (*self.heads, *([] if self.depth_maps is None else [self.depth_maps])):
            nn.init.normal_(head.weight, std=1e-3)

    def forward(self, images: Tensor) -> Prediction:
        """Draw heat maps and read the landmarks off the last ones.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            Normalised pixels; the published networks take (raw - 127.5) / 128.

        Returns
        -------
        Prediction
            `landmarks` (batch, n_landmarks, 2) in crop units, NaN where a map is flat; `heatmaps`, one
            (batch, n_landmarks, height / ratio, width / ratio) a stack; `depth` (batch, n_landmarks) with a depth head.
        """
        check_images(self, images, self.ratio * 2**self.depth, " Try a smaller depth.")
        probability = self.maps == "probability"
        x = self.res2(self.res1(functional.max_pool2d(self.res0(self.stem(images)), 2)))
        maps: list[Tensor] = []
        features = x
        for i in range(self.n_stacks):
            features = self.features[i](self.tails[i](self.bodies[i](x)))
            maps.append(full_precision(self.heads[i], features))
            if i + 1 < self.n_stacks:
                x = x + self.from_features[i](features) + self.from_heatmaps[i](maps[i])
        if probability:
            maps = [spatial_softmax(m) for m in maps]
        last = maps[-1].float()
        height, width = last.shape[-2:]
        if probability:
            points = map_mean(last)
        else:
            points = map_to_units(decode_heatmaps(last, method=self.decoder, flat="nan"), (height, width))
        depth = None
        if self.depth_maps is not None:
            # The depth is asked for where the landmark is.
            weight = last.flatten(2) if probability else torch.softmax(last.flatten(2), dim=-1)
            depth = (weight * full_precision(self.depth_maps, features).flatten(2)).sum(dim=-1)
        return Prediction(points, heatmaps=tuple(maps), depth=depth)
