"""The heat maps that networks draw of packed faces, for `shape_models.search.fit_heatmaps`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from asmnet._inference import predict_packed
from asmnet.data import LandmarkDataset, Preprocessing

__all__ = ["HeatmapSet", "predict_heatmaps"]


@dataclass(frozen=True, eq=False)
class HeatmapSet:
    """Heat maps of faces and where they lie.

    Attributes
    ----------
    maps : ndarray of shape (n, n_landmarks, height, width)
        Of the last stack.
    matrices : ndarray of shape (n, 2, 3)
        Pixels of the map, centres at integers, to pixels of the packed image.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.hybrid import HeatmapSet
    >>> HeatmapSet(np.zeros((1, 5, 8, 8)), np.eye(2, 3)[None]).maps.shape
    (1, 5, 8, 8)
    """

    maps: np.ndarray
    matrices: np.ndarray


def predict_heatmaps(
    network: nn.Module,
    dataset: LandmarkDataset,
    preprocessing: Preprocessing,
    *,
    boxes: np.ndarray | None = None,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> HeatmapSet:
    """Draw the heat maps of all faces of a packed set.

    Parameters
    ----------
    network : Module
        A network that draws heat maps, such as ``build_network("hourglass", 68)``.
    dataset : LandmarkDataset
        The faces.
    preprocessing : Preprocessing
        Of the network.
    boxes : ndarray of shape (n, 4), optional
        In packed pixels, instead of the set's own.
    batch_size : int
        Faces at a time.
    device : device
        Of the network.

    Returns
    -------
    HeatmapSet
        One map for each landmark of each face.

    Raises
    ------
    ValueError
        When the network draws no heat maps.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import LandmarkDataset, Preprocessing, build_network
    >>> from asmnet.hybrid import predict_heatmaps
    >>> points = np.array([[[4.0, 4.0], [12.0, 10.0]]])
    >>> data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
    >>> network = build_network("hourglass-small", 2, width=0.25)
    >>> predict_heatmaps(network, data, Preprocessing(size=32)).maps.shape
    (1, 2, 16, 16)
    """
    found = predict_packed(
        network, dataset, preprocessing, boxes=boxes, maps=True, batch_size=batch_size, device=device
    )
    if found.maps is None or found.matrices is None:
        raise ValueError(f"{type(network).__name__} draws no heat maps; expected one such as 'hourglass'.")
    return HeatmapSet(found.maps, found.matrices)
