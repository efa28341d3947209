"""MobileNetV2 and ASMNet: published counts, taps, the register, foreign weights."""

import pytest
import torch
from oracles import mobilenet_macs
from torch import nn

from asmnet import ASMNet, MobileNetV2, build_network
from asmnet._card import count_flops
from asmnet.networks import load_torchvision_weights, network_names, network_spec, register_network

# trainable, and with the running means and variances (architecture tables of both papers, by hand)
COUNTS = [
    (ASMNet, 68, 1_412_435, 1_439_507),
    (ASMNet, 98, 1_444_655, 1_471_727),
    (ASMNet, 29, 1_370_549, 1_397_621),
    (MobileNetV2, 68, 2_401_931, 2_436_043),
    (MobileNetV2, 98, 2_478_791, 2_512_903),
    (MobileNetV2, 29, 2_302_013, 2_336_125),
]


def count_macs(network, size):
    """Multiply-adds of convolutions and linear layers, seen by hooks on a forward pass."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        else:
            total += module.weight.numel()

    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(("kind", "n_landmarks", "trainable", "with_statistics"), COUNTS)
def test_parameter_counts(kind, n_landmarks, trainable, with_statistics):
    network = kind(n_landmarks)
    assert sum(p.numel() for p in network.parameters()) == trainable
    state = network.state_dict()
    assert sum(v.numel() for name, v in state.items() if not name.endswith("num_batches_tracked")) == with_statistics


@pytest.mark.parametrize(("kind", "n_blocks", "gflop"), [(ASMNet, 16, 0.513), (MobileNetV2, 17, 0.599)])
def test_flops_at_224(kind, n_blocks, gflop):
    macs = count_macs(kind(68), 224)
    assert macs == mobilenet_macs(224, n_blocks, n_outputs=139)
    assert 2e-9 * macs == pytest.approx(gflop, abs=5e-4)
    assert count_flops(kind(68), 224) == 2 * macs


def test_taps_of_asmnet():
    taps = ASMNet(68).eval().taps(torch.rand(1, 3, 224, 224))
    assert [tuple(t.shape[1:]) for t in taps] == [
        (24, 56, 56),
        (32, 28, 28),
        (64, 14, 14),
        (96, 14, 14),
        (160, 7, 7),
        (160, 7, 7),
    ]
    assert all(bool((t < 0).any()) for t in taps)  # linear bottlenecks: no activation after a tap


def test_heads_see_the_pooled_taps():
    """The output is the linear head on the concatenated means of the taps."""
    network = ASMNet(5).eval()
    images = torch.rand(2, 3, 64, 64)
    features = torch.cat([t.mean((2, 3)) for t in network.taps(images)], 1)
    assert features.shape == (2, 536)
    expected = features @ network.heads.landmarks.weight.T + network.heads.landmarks.bias
    torch.testing.assert_close(network(images).landmarks.flatten(1), expected)


@pytest.mark.parametrize("name", ["asmnet", "mobilenetv2"])
@pytest.mark.parametrize("size", [32, 96, 112])
def test_any_size_and_layout(name, size):
    network = build_network(name, 7).eval()
    images = torch.rand(2, 3, size, size)
    plain = network(images)
    assert plain.landmarks.shape == (2, 7, 2)
    assert plain.pose.shape == (2, 3)
    last = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last.landmarks, plain.landmarks, atol=1e-5, rtol=1e-4)


def test_without_pose():
    assert build_network("asmnet", 7, pose=False).eval()(torch.zeros(1, 3, 32, 32)).pose is None


def test_every_parameter_gets_a_gradient():
    network = ASMNet(4, dropout=0.0)
    out = network(torch.rand(4, 3, 64, 64))
    (out.landmarks.square().sum() + out.pose.square().sum()).backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 64, 64), (1, 3, 64, 65), (1, 3, 0, 0)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        ASMNet(4)(torch.zeros(shape))


@pytest.mark.parametrize("options", [{"n_landmarks": 0}, {"n_landmarks": 4, "width": 0.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        ASMNet(**options)


def torchvision_names(n_classes=10):
    """Names and shapes of torchvision's mobilenet_v2, written down from its published definition."""
    names = {}

    def conv_bn(prefix, n_in, n_out, kernel, groups=1):
        names[f"{prefix}.0.weight"] = (n_out, n_in // groups, kernel, kernel)
        norm(f"{prefix}.1", n_out)

    def norm(prefix, n):
        for part in ("weight", "bias", "running_mean", "running_var"):
            names[f"{prefix}.{part}"] = (n,)
        names[f"{prefix}.num_batches_tracked"] = ()

    conv_bn("features.0", 3, 32, 3)
    n_in, index = 32, 1
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, n_out, repeats in table:
        for _ in range(repeats):
            hidden, part = n_in * expansion, 0
            if expansion != 1:
                conv_bn(f"features.{index}.conv.0", n_in, hidden, 1)
                part = 1
            conv_bn(f"features.{index}.conv.{part}", hidden, hidden, 3, groups=hidden)
            names[f"features.{index}.conv.{part + 1}.weight"] = (n_out, hidden, 1, 1)
            norm(f"features.{index}.conv.{part + 2}", n_out)
            n_in, index = n_out, index + 1
    conv_bn("features.18", 320, 1280, 1)
    names["classifier.1.weight"], names["classifier.1.bias"] = (n_classes, 1280), (n_classes,)
    return names


@pytest.mark.parametrize("kind", [ASMNet, MobileNetV2])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torchvision_names_are_understood(kind, prefix):
    generator = torch.Generator().manual_seed(0)
    source = {
        prefix + name: torch.rand(shape, generator=generator) if shape else torch.tensor(3)
        for name, shape in torchvision_names().items()
    }
    network = kind(68)
    heads = {k: v.clone() for k, v in network.state_dict().items() if k.startswith("heads.")}
    unused = load_torchvision_weights(network, source)
    state = network.state_dict()
    for name, value in state.items():
        torch.testing.assert_close(value, heads[name] if name.startswith("heads.") else source[prefix + name])
    assert "classifier.1.weight" in unused
    assert any(name.startswith("features.18") for name in unused) == (kind is ASMNet)


def test_foreign_weights_that_do_not_fit_change_nothing():
    network = ASMNet(68)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    source = {name: torch.zeros(shape) for name, shape in torchvision_names().items()}
    with pytest.raises(ValueError, match=r"features\.2\.conv.* is missing|missing, the first"):
        load_torchvision_weights(network, {k: v for k, v in source.items() if not k.startswith("features.2.")})
    with pytest.raises(ValueError, match="has shape"):
        load_torchvision_weights(network, {**source, "features.0.0.weight": torch.zeros(16, 3, 3, 3)})
    with pytest.raises(ValueError, match="no part called features"):
        load_torchvision_weights(nn.Linear(1, 1), source)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_register():
    assert {"asmnet", "mobilenetv2"} <= set(network_names())
    with pytest.raises(ValueError, match="expected one of"):
        network_spec("resnet")
    with pytest.raises(ValueError, match="registered already"):
        register_network("asmnet", title="", input_size=32, stride=32)(lambda n: None)
