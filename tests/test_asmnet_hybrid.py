"""The maps of a network lie where its landmarks are, whatever the crop and the size of the map."""

import numpy as np
import pytest
import torch

from asmnet import LandmarkDataset, Prediction, Preprocessing, build_network
from asmnet.heatmaps import draw_heatmaps, units_to_map
from asmnet.hybrid import predict_heatmaps
from shape_models import make_faces
from shape_models.search import heatmap_peaks


@pytest.fixture(scope="module")
def faces():
    shapes = 0.55 * make_faces(5, rng=0)
    return shapes - shapes.mean(axis=1, keepdims=True) + 80.0


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
def test_maps_lie_where_the_landmarks_are(faces, square, size):
    data = dataset_of(faces)
    preprocessing = Preprocessing(size=64, square=square)
    drawn = predict_heatmaps(Oracle(data, preprocessing, size), data, preprocessing, batch_size=2)
    assert drawn.maps.shape == (5, 68, *size)
    np.testing.assert_allclose(heatmap_peaks(drawn.maps, drawn.matrices)[0], faces, atol=1e-3)


def test_a_real_network_and_its_own_decoding_agree(faces):
    data = dataset_of(faces[:3])
    preprocessing = Preprocessing(size=32)
    torch.manual_seed(0)
    network = build_network("hourglass-small", 68, width=0.25)
    drawn = predict_heatmaps(network, data, preprocessing)
    batch = data.batch(range(3), preprocessing)
    with torch.no_grad():
        own = batch.crops.to_pixels(network.eval()(batch.images).landmarks.double()).numpy()
    found, _, height = heatmap_peaks(drawn.maps, drawn.matrices)
    off = np.abs(found - own)[height > 0]  # next to numbers that are not positive the parabolas differ
    assert np.median(off) < 1e-3
    assert off.max() < 1
    assert (height > 0).mean() > 0.2


def test_networks_without_maps_are_refused(faces):
    with pytest.raises(ValueError, match="draws no heat maps"):
        predict_heatmaps(build_network("asmnet", 68, width=0.25), dataset_of(faces[:1]), Preprocessing(size=32))
