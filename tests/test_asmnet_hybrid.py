"""Heat maps joined to the shape model: frames agree, missing maps are carried, occlusion covers what it says."""

import numpy as np
import pytest
import torch

from asmnet import LandmarkDataset, Prediction, Preprocessing, build_network
from asmnet.heatmaps import draw_heatmaps, units_to_map
from asmnet.hybrid import HeatmapSet, fit_heatmaps, occlude, predict_heatmaps
from shape_models import AlignedASM, make_faces


@pytest.fixture(scope="module")
def faces():
    shapes = 0.55 * make_faces(120, rng=0)
    shapes = shapes - shapes.mean(axis=1, keepdims=True) + 80.0
    return shapes


@pytest.fixture(scope="module")
def model(faces):
    return AlignedASM(scheme="ibug68").fit(faces[20:])


class Oracle(torch.nn.Module):
    """Draws the heat maps of known landmarks: the frame of the maps is then the only thing that can be wrong."""

    def __init__(self, dataset, preprocessing, size):
        super().__init__()
        self.units = dataset.batch(range(len(dataset)), preprocessing).landmarks.double()
        self.size, self.next = size, 0

    def forward(self, images):
        units = self.units[self.next : self.next + len(images)]
        self.next += len(images)
        maps = draw_heatmaps(units_to_map(units, self.size), self.size)
        return Prediction(units, heatmaps=(maps,))


def dataset_of(shapes):
    return LandmarkDataset.from_arrays(np.zeros((len(shapes), 160, 160, 3), np.uint8), shapes)


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (32, 48)])
def test_maps_lie_where_the_landmarks_are(faces, model, square, size):
    data = dataset_of(faces[:5])
    preprocessing = Preprocessing(size=64, square=square)
    maps = predict_heatmaps(Oracle(data, preprocessing, size), data, preprocessing, batch_size=2)
    assert maps.maps.shape == (5, 68, *size)
    raw = fit_heatmaps(maps, data, model, method="raw")
    np.testing.assert_allclose(raw, faces[:5], atol=1e-3)


def test_a_real_network_and_its_own_decoding_agree(faces, model):
    data = dataset_of(faces[:3])
    preprocessing = Preprocessing(size=32)
    torch.manual_seed(0)
    network = build_network("hourglass-small", 68, width=0.25)
    maps = predict_heatmaps(network, data, preprocessing)
    batch = data.batch(range(3), preprocessing)
    with torch.no_grad():
        own = batch.crops.to_pixels(network.eval()(batch.images).landmarks.double()).numpy()
    np.testing.assert_allclose(fit_heatmaps(maps, data, model, method="raw"), own, atol=1e-3)


def test_the_model_carries_maps_that_are_noise(faces, model):
    """Six maps of each face have their peak far away: clipping is pulled by them, mean-shift is not."""
    data = dataset_of(faces[:12])
    rng = np.random.default_rng(1)
    wrong = faces[:12].copy()
    hit = np.zeros((12, 68), dtype=bool)
    for row in hit:
        row[rng.choice(68, 6, replace=False)] = True
    wrong[hit] += rng.choice([-1.0, 1.0], (int(hit.sum()), 2)) * rng.uniform(20, 40, (int(hit.sum()), 2))
    drawn = draw_heatmaps(torch.from_numpy(wrong), (160, 160), sigma=3.0) + 0.7 * draw_heatmaps(
        torch.from_numpy(faces[:12]), (160, 160), sigma=3.0
    )
    maps = HeatmapSet(drawn.numpy(), np.tile(np.eye(2, 3), (12, 1, 1)))

    def error(method):
        return np.linalg.norm(fit_heatmaps(maps, data, model, method=method) - faces[:12], axis=-1).mean()

    assert error("rlms") < 0.5 * min(error("raw"), error("clipped"))


def test_flat_maps_are_filled_by_the_model(faces, model):
    data = dataset_of(faces[:2])
    drawn = draw_heatmaps(torch.from_numpy(faces[:2]), (160, 160), sigma=3.0)
    drawn[0, 48:60] = 0.0
    maps = HeatmapSet(drawn.numpy(), np.tile(np.eye(2, 3), (2, 1, 1)))
    raw = fit_heatmaps(maps, data, model, method="raw")
    assert np.isnan(raw[0, 48:60]).all()
    assert int(np.isnan(raw).sum()) == 24
    for method in ("clipped", "rlms"):
        points = fit_heatmaps(maps, data, model, method=method)
        assert np.isfinite(points).all()
        assert np.linalg.norm(points - faces[:2], axis=-1).max() < 12


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_occlusion_covers_its_share_of_the_box_and_nothing_else(faces, share):
    data = dataset_of(faces[:30])
    covered = occlude(data, share=share, rng=0)
    assert (data.images == 0).all()
    masks = (covered.images == 127).all(axis=-1)
    for mask, (x0, y0, x1, y1) in zip(masks, data.boxes, strict=True):
        assert mask.sum() / ((x1 - x0) * (y1 - y0)) == pytest.approx(share, rel=0.12)
        y, x = np.nonzero(mask)
        assert x.min() >= x0 - 1
        assert x.max() <= x1 + 1
        assert y.min() >= y0 - 1
        assert y.max() <= y1 + 1
    np.testing.assert_array_equal(covered.images, occlude(data, share=share, rng=0).images)


def test_bad_input_is_refused(faces, model):
    data = dataset_of(faces[:1])
    maps = HeatmapSet(np.zeros((1, 67, 8, 8)), np.eye(2, 3)[None])
    with pytest.raises(ValueError, match="expected \\(1, 68\\)"):
        fit_heatmaps(maps, data, model)
    with pytest.raises(ValueError, match="expected one of raw, clipped, rlms"):
        fit_heatmaps(maps, data, model, method="soft")
    with pytest.raises(ValueError, match="draws no heat maps"):
        predict_heatmaps(build_network("asmnet", 68, width=0.25), data, Preprocessing(size=32))
    with pytest.raises(ValueError, match="share: got 0"):
        occlude(data, share=0.0)
