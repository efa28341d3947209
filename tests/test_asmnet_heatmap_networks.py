"""Stacked hourglass, SAT and their blocks: published counts, shapes, gradients, refusals."""

import itertools

import pytest
import torch

from asmnet.networks import build_network, network_spec
from asmnet.networks.blocks import BLOCKS, ChannelAggregationBlock, make_block
from asmnet.networks.hourglass import StackedHeatmapNet


def counts(net):
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return trainable, trainable + sum(b.numel() for name, b in net.named_buffers() if "running" in name)


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet", 214_016), ("hpm", 406_400), ("inception", 318_912), ("cab", 389_632)]
)
def test_block_at_256_channels_has_the_published_count(name, expected):
    assert counts(make_block(name, 256, 256))[0] == expected


@pytest.mark.parametrize(
    ("options", "trainable", "total", "megabytes"),
    [
        ({"depth": 4, "block": "resnet"}, 6_586_440, 6_617_928, 26),
        ({"depth": 3, "block": "hpm"}, 9_659_464, 9_681_736, 38),
        ({"depth": 4, "block": "cab"}, 11_624_584, 11_650_408, 46),
        ({"depth": 3, "block": "cab", "topology": "sat"}, 10_094_728, 10_119_016, 40),
        ({"depth": 3, "block": "cab"}, 9_286_792, 9_307_624, 37),
        ({"depth": 3, "block": "resnet"}, 5_302_344, 5_327_688, 21),
        ({"depth": 3, "block": "inception"}, 7_636_392, 7_671_816, 30),
        ({"depth": 4, "block": "inception"}, 9_549_864, 9_594_120, 38),
        ({"depth": 4, "block": "hpm"}, 12_097_864, 12_125_512, 48),
    ],
)
def test_two_stacks_have_the_published_count_and_file_size(options, trainable, total, megabytes):
    net = StackedHeatmapNet(68, **options)
    assert counts(net) == (trainable, total)
    assert total * 4 // 10**6 == megabytes


def test_published_input_and_output_sizes():
    net = StackedHeatmapNet(68, depth=3, block="resnet").eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 128, 128)).heatmaps
    assert [tuple(m.shape) for m in maps] == [(1, 68, 64, 64)] * 2


@pytest.mark.parametrize(
    ("topology", "block", "n_stacks"),
    [c for c in itertools.product(("hourglass", "sat"), BLOCKS, (1, 2)) if c[0] == "hourglass" or c[1] == "cab"],
)
@pytest.mark.parametrize("ratio", [2, 4])
def test_every_combination_has_shapes_and_gradients(topology, block, n_stacks, ratio):
    torch.manual_seed(0)
    net = StackedHeatmapNet(
        5, topology=topology, block=block, depth=2, n_stacks=n_stacks, width=0.25, ratio=ratio, depth_head=True
    )
    prediction = net(torch.rand(2, 3, 8 * ratio, 4 * ratio))
    assert [tuple(m.shape) for m in prediction.heatmaps] == [(2, 5, 8, 4)] * n_stacks
    assert prediction.landmarks.shape == (2, 5, 2)
    assert prediction.depth.shape == (2, 5)
    (sum(m.square().mean() for m in prediction.heatmaps) + prediction.depth.square().mean()).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


def test_cab_weighs_the_identity_by_an_eighth():
    """With every convolution silenced, only the chain of halved identities is left."""
    block = ChannelAggregationBlock(16).eval()
    for module in block.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(block(x), x / 8)


def test_sat_upsampling_channels_differ_at_the_start():
    torch.manual_seed(1)
    net = StackedHeatmapNet(2, topology="sat", block="cab", depth=2, width=0.25, n_stacks=1)
    deconvolutions = [m for m in net.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert deconvolutions
    for deconvolution in deconvolutions:
        assert deconvolution.weight.std(dim=1).min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topology": "unet"}, "topology"),
        ({"topology": "sat", "block": "resnet"}, "'cab' blocks only"),
        ({"block": "dense"}, "block: got 'dense'"),
        ({"width": 0.3}, "Try width"),
        ({"n_stacks": 0}, "at least 1"),
        ({"ratio": 3}, "expected 2 or 4"),
        ({"decoder": "mean"}, "decoder: got 'mean'"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StackedHeatmapNet(68, **options)


def test_image_size_that_the_depth_does_not_divide_is_refused():
    net = StackedHeatmapNet(3, depth=3, width=0.25, n_stacks=1)
    with pytest.raises(ValueError, match=r"multiples of 16\. Try a smaller depth"):
        net(torch.zeros(1, 3, 100, 100))


def test_landmarks_are_read_off_the_last_maps_in_crop_units():
    """Heads that draw a known map give its place: the pixel (u, v) of a w x h map is ((u + 1/2) / w - 1/2, ...)."""
    net = StackedHeatmapNet(1, depth=1, width=0.25, n_stacks=1, decoder="argmax").eval()
    maps = torch.zeros(1, 1, 16, 8)
    maps[0, 0, 12, 3] = 1.0
    net.heads[0] = torch.nn.Module()
    net.heads[0].forward = lambda features: maps
    points = net(torch.rand(1, 3, 32, 16)).landmarks
    torch.testing.assert_close(points, torch.tensor([[[3.5 / 8 - 0.5, 12.5 / 16 - 0.5]]]))


@pytest.mark.parametrize("name", ["hourglass", "hourglass-hpm", "hourglass-cab", "hourglass-small", "sat"])
def test_registered_names_build_what_they_say(name):
    spec = network_spec(name)
    net = build_network(name, 29, width=0.25).eval()
    prediction = net(torch.rand(1, 3, spec.stride, spec.stride))
    assert prediction.landmarks.shape == (1, 29, 2)
    assert spec.criterion == "heatmap"
