"""EfficientNet: counts against the published ones and against an independent implementation."""

import pytest
import torch

from asmnet.networks.efficientnet import EfficientNet


def counts(net):
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return trainable, trainable + sum(b.numel() for name, b in net.named_buffers() if "running" in name)


@pytest.mark.parametrize(
    ("n_landmarks", "expected"),
    [(68, (10_905_264, 10_992_560)), (98, (10_997_484, 11_084_780)), (29, (10_785_378, 10_872_674))],
)
def test_b3_has_the_published_count(n_landmarks, expected):
    assert counts(EfficientNet(n_landmarks)) == expected


def test_b3_with_a_thousand_outputs_is_the_imagenet_network():
    assert counts(EfficientNet(500))[0] == 12_233_232


@pytest.mark.parametrize("variant", ["b0", "b1", "b2", "b3"])
def test_count_agrees_with_monai(variant):
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    other = nets.EfficientNetBN(f"efficientnet-{variant}", pretrained=False, num_classes=136)
    assert counts(EfficientNet(68, variant=variant))[0] == sum(p.numel() for p in other.parameters())


def test_gradients_reach_every_parameter_and_drop_connect_is_off_in_evaluation():
    torch.manual_seed(0)
    net = EfficientNet(5, variant="b0", pose=True)
    images = torch.rand(2, 3, 64, 64)
    prediction = net(images)
    (prediction.landmarks.square().mean() + prediction.pose.square().mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    net.eval()
    torch.testing.assert_close(net(images).landmarks, net(images).landmarks, rtol=0, atol=0)


def test_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="expected one of b0"):
        EfficientNet(68, variant="b9")
