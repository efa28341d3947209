"""Heat maps as probabilities: the softmax of a map, its mean and covariance, and the loss that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asmnet._criteria import register_criterion
from asmnet._decoding import map_covariance, map_mean, spatial_softmax
from asmnet._drawing import gaussian_maps
from asmnet._prediction import Prediction
from asmnet.data import Batch
from asmnet.losses import head_terms, weighted_mean, with_sum
from shape_models._options import check_numbers

__all__ = ["IntegralCriterion", "map_covariance", "map_mean", "spatial_softmax"]


@register_criterion("integral")
@dataclass(kw_only=True, eq=False)
class IntegralCriterion:
    """The loss of networks whose maps are probabilities: the distance of the landmarks, and the form of the maps.

    ``landmark_weight * mean |p - g| + map_weight * mean KL(N(g, sigma²) || map)`` over all stacks; with a pose or a
    depth head their mean squared errors are added.

    Parameters
    ----------
    sigma : float
        Standard deviation of the target maps, in pixels of the map.
    landmark_weight, map_weight, pose_weight, depth_weight : float
        Of the terms. Distances are in crop units, of which a landmark is off by some hundredths.

    Notes
    -----
    Called with a `Prediction`, a batch and the epoch; returns the terms by name, the sum under ``"loss"``. Missing
    landmarks (NaN) and samples of weight 0 do not count.

    References
    ----------
    Nibali, He, Morgan, Prendergast: Numerical coordinate regression with convolutional neural networks, 2018 (maps and
    coordinates in one loss).

    Examples
    --------
    >>> from asmnet.probability import IntegralCriterion
    >>> IntegralCriterion().sigma
    1.0
    """

    sigma: float = 1.0
    landmark_weight: float = 50.0
    map_weight: float = 1.0
    pose_weight: float = 0.5
    depth_weight: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(sigma=self.sigma, above=True)
        check_numbers(**{name: value for name, value in vars(self).items() if name != "sigma"})

    def landmark_terms(
        self, prediction: Prediction, target: Tensor, weight: Tensor, maps: Sequence[Tensor | None] | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of landmarks and maps against `target` (batch, n_landmarks, 2).

        `maps` are target maps for each stack (batch, n_landmarks, height, width), Gaussians by default; NaN targets and
        samples of weight 0 do not count. Networks without maps have the term of the landmarks only.

        Parameters
        ----------
        prediction : Prediction
            Of the network.
        target : Tensor of shape (batch, n_landmarks, 2)
            True landmarks in crop units.
        weight : Tensor of shape (batch,)
            How much each face counts.
        maps : sequence of Tensor or None, optional
            Target maps of each stack.

        Returns
        -------
        dict of str to Tensor
            Scalars by name.
        """
        seen = torch.isfinite(target).all(-1)
        points = torch.where(seen[..., None], target, torch.zeros_like(target)).float()
        count = seen.float() * weight[:, None]
        # The root has no gradient at 0; 1e-6 of the crop is far below a pixel.
        distance = (prediction.landmarks.float() - points).square().sum(-1).clamp_min(1e-12).sqrt()
        terms = {"landmarks": self.landmark_weight * weighted_mean(distance, count)}
        if not prediction.heatmaps:
            return terms
        divergence = torch.zeros_like(count)
        for i, drawn in enumerate(prediction.heatmaps):
            wanted = None if maps is None else maps[i]
            if wanted is None:
                wanted = gaussian_maps(points, (drawn.shape[-2], drawn.shape[-1]), self.sigma)
            # The logarithm of a probability that rounds to 0 stays finite, and 0 log 0 counts as 0.
            tiny = torch.finfo(torch.float32).tiny
            # KL(target || map), so that mass is asked for wherever the target has some.
            ratio = wanted.clamp_min(tiny).log() - drawn.float().clamp_min(tiny).log()
            divergence = divergence + (wanted * ratio).sum((-2, -1))
        terms["maps"] = self.map_weight * weighted_mean(divergence, count)
        return terms

    def __call__(self, prediction: Prediction, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Return the terms by name, with their sum under ``"loss"``."""
        if not prediction.heatmaps:
            raise ValueError("the criterion 'integral' needs a network that draws probability maps, such as 'light'.")
        terms = self.landmark_terms(prediction, batch.landmarks, batch.weight)
        return with_sum(terms | self.other_terms(prediction, batch))

    def other_terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of pose and depth, where the network has the heads and the batch the labels.

        Parameters
        ----------
        prediction : Prediction
            Of the network.
        batch : Batch
            The truth.

        Returns
        -------
        dict of str to Tensor
            Scalars by name.
        """
        return head_terms(prediction, batch, pose_weight=self.pose_weight, depth_weight=self.depth_weight)
