"""Probability maps, the light network that draws them, and teachers that look at every crop."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from asmnet.augmentation import CropTransform
from asmnet.checkpoints import PretrainedModel, save_pretrained
from asmnet.data import Batch, Preprocessing
from asmnet.distillation import KDCriterion
from asmnet.networks import Prediction, StackedHeatmapNet, build_network
from asmnet.probability import IntegralCriterion, gaussian_maps, map_covariance, map_mean, spatial_softmax
from asmnet.teaching import TaughtCriterion

NAN = float("nan")


def batch_of(landmarks, images=None, pose=None):
    n = len(landmarks)
    crops = CropTransform(torch.zeros(n, 2), torch.eye(2).expand(n, 2, 2), torch.zeros(n), torch.zeros(n) > 0)
    images = torch.zeros(n, 3, 32, 32) if images is None else images
    return Batch(images, landmarks, None, pose, torch.ones(n), torch.arange(n), crops)


def test_mean_and_covariance_equal_sums_over_the_pixels():
    maps = spatial_softmax(torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(maps.sum((-2, -1)), torch.ones(2, 3, dtype=torch.float64))
    mean, covariance = map_mean(maps), map_covariance(maps)
    for i in range(2):
        for k in range(3):
            places = np.array([[(x + 0.5) / 7 - 0.5, (y + 0.5) / 5 - 0.5] for y in range(5) for x in range(7)])
            weight = maps[i, k].numpy().ravel()
            expected = weight @ places
            np.testing.assert_allclose(mean[i, k], expected, atol=1e-14)
            spread = (places - expected).T @ (weight[:, None] * (places - expected))
            np.testing.assert_allclose(covariance[i, k], spread, atol=1e-14)


def test_gaussians_have_their_mean_and_width_inside_and_stay_finite_outside():
    points = torch.tensor([[0.1, -0.2], [3.0, 0.0]], dtype=torch.float64)
    maps = gaussian_maps(points, (64, 64), 1.5)
    assert torch.allclose(map_mean(maps)[0], points[0], atol=1e-6)
    assert torch.allclose(64 * map_covariance(maps)[0].diagonal().sqrt(), torch.tensor(1.5).double(), atol=1e-3)
    assert torch.isfinite(maps).all()
    assert map_mean(maps)[1, 0] > 0.48  # the edge nearest to a landmark outside


def test_loss_is_zero_at_the_truth_and_does_not_see_missing_landmarks():
    target = torch.tensor([[[0.1, 0.2], [-0.1, 0.0], [NAN, NAN]]])
    maps = gaussian_maps(torch.nan_to_num(target), (32, 32), 1.0)
    criterion = IntegralCriterion(sigma=1.0)
    exact = criterion(Prediction(torch.nan_to_num(target), None, (maps,)), batch_of(target), 0)
    assert float(exact["loss"]) < 1e-3
    moved = torch.nan_to_num(target).clone()
    moved[0, 2] = 7.0
    same = criterion(Prediction(moved, None, (maps,)), batch_of(target), 0)
    assert float(same["loss"]) == float(exact["loss"])
    moved[0, 0] += torch.tensor([0.03, 0.04])
    off = criterion(Prediction(moved, None, (maps,)), batch_of(target), 0)
    assert float(off["landmarks"]) == pytest.approx(50.0 * 0.05 / 2, rel=1e-4)
    with pytest.raises(ValueError, match="probability maps"):
        criterion(Prediction(moved), batch_of(target), 0)


@pytest.mark.parametrize("pose", [True, False])
def test_the_light_network_answers_maps_that_sum_to_one(pose):
    network = build_network("light", 5, pose=pose, width=0.5).eval()
    with torch.no_grad():
        found = network(torch.rand(2, 3, 64, 96))
    assert found.heatmaps[0].shape == (2, 5, 16, 24)
    assert torch.allclose(found.heatmaps[0].sum((-2, -1)), torch.ones(2, 5), atol=1e-5)
    assert torch.allclose(found.landmarks, map_mean(found.heatmaps[0]))
    assert (found.pose is None) is not pose
    with pytest.raises(ValueError, match="multiples of 32"):
        network(torch.rand(1, 3, 48, 48))


def losses_of_one_batch(seed=0):
    torch.manual_seed(seed)
    network = build_network("light", 3, width=0.35, pose=False)
    images = torch.rand(4, 3, 32, 32)
    target = torch.rand(4, 3, 2) * 0.6 - 0.3
    batch = batch_of(target, images)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    criterion = IntegralCriterion()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = criterion(network(images), batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_light_network_learns_one_batch():
    losses = losses_of_one_batch()
    assert losses[-1] < 0.5 * losses[0]


def test_an_hourglass_may_draw_probabilities():
    network = StackedHeatmapNet(4, depth=2, width=0.25, maps="probability", depth_head=True).eval()
    with torch.no_grad():
        found = network(torch.rand(1, 3, 32, 32))
    assert len(found.heatmaps) == 2
    assert torch.allclose(found.landmarks, map_mean(found.heatmaps[-1]))
    assert found.depth.shape == (1, 4)
    with pytest.raises(ValueError, match="maps: got 'logits'; expected one of free"):
        StackedHeatmapNet(4, maps="logits")


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(1)
    network = build_network("light", 3, width=0.35, pose=False).eval()
    path = tmp_path / "teacher.safetensors"
    options = {"width": 0.35, "pose": False}
    save_pretrained(PretrainedModel(network, "teacher", "light", options, None, Preprocessing(size=32), None, {}), path)
    return path


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it(teacher):
    criterion = TaughtCriterion(teachers={"tough": teacher}, fraction=1.0)
    images = torch.rand(2, 3, 32, 32)
    found = criterion._predict(images)["tough"]
    unlabelled = batch_of(torch.full((2, 3, 2), NAN), images)
    terms = criterion(
        SimpleNamespace(landmarks=found.landmarks, heatmaps=found.heatmaps, pose=None, depth=None), unlabelled, 0
    )
    assert float(terms["loss"]) < 1e-3
    other = SimpleNamespace(landmarks=found.landmarks + 0.1, heatmaps=found.heatmaps, pose=None, depth=None)
    far = criterion(other, unlabelled, 0)
    assert float(far["landmarks of tough"]) == pytest.approx(50 * 0.1 * 2**0.5, rel=1e-3)


def test_coordinate_students_and_the_published_loss_take_teachers_too(teacher):
    target = torch.zeros(2, 3, 2)
    images = torch.rand(2, 3, 32, 32)
    student = SimpleNamespace(landmarks=torch.full((2, 3, 2), 0.1), heatmaps=(), pose=None, depth=None)
    blended = TaughtCriterion(teachers={"tough": teacher}, fraction=0.25)(student, batch_of(target, images), 0)
    assert float(blended["landmarks"]) == pytest.approx(0.75 * 50 * 0.1 * 2**0.5, rel=1e-4)
    published = TaughtCriterion(teachers={"tough": teacher}, form="kd")
    terms = published(student, batch_of(target, images), 0)
    taught = published._predict(images)["tough"].landmarks
    expected = KDCriterion(teachers=("tough",))(student, replace(batch_of(target), companions={"tough": taught}), 0)
    assert float(terms["kd"]) == pytest.approx(50 * float(expected["loss"]), rel=1e-5)
    for wrong in ({"form": "both"}, {"fraction": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            TaughtCriterion(teachers={}, **wrong)
