"""Heat maps: drawing targets, decoding maxima, losses - in one stated pixel frame (see `to_map`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from asmnet._criteria import register_criterion
from asmnet._decoding import DECODERS, decode_heatmaps
from asmnet._drawing import draw_heatmaps, draw_published_heatmaps, map_to_units, to_image, to_map, units_to_map
from asmnet._options import check_mask, check_tensor
from asmnet._prediction import Prediction
from asmnet.data import Batch
from asmnet.losses import head_terms, weighted_mean, with_sum
from shape_models._options import check_choice, check_numbers

__all__ = [
    "DECODERS",
    "decode_heatmaps",
    "draw_heatmaps",
    "draw_published_heatmaps",
    "HeatmapCriterion",
    "heatmap_loss",
    "map_to_units",
    "mirror_coherence_loss",
    "to_image",
    "to_map",
    "units_to_map",
]


MAPS = "(batch, n_landmarks, height, width)"


def _stacks(name: str, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the maps of the stacks of a network; a tensor would be taken for a stack for each image."""
    if not isinstance(maps, list | tuple) or not maps:
        got = type(maps).__name__ if not isinstance(maps, list | tuple) else "none"
        raise TypeError(f"{name}: got {got}; expected a list of the maps of each stack.")
    return list(maps)


def heatmap_loss(predictions: Sequence[Tensor], target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared error of every stack, summed over the stacks with weight 1.

    Parameters
    ----------
    predictions : sequence of Tensor of shape (batch, n_landmarks, height, width)
        Heat maps of each stack.
    target : Tensor of the same shape
        What every stack should draw.
    mask : Tensor of shape (batch, n_landmarks), optional
        True for landmarks that count; the mean is over those.

    Returns
    -------
    Tensor of shape ()
        The loss, differentiable.

    Raises
    ------
    ValueError
        When shapes differ or no landmark counts.

    Examples
    --------
    >>> import torch
    >>> float(heatmap_loss([torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)], torch.ones(1, 2, 4, 4)))
    1.0
    """
    check_tensor("target", target, MAPS)
    if mask is not None:
        mask = check_mask(mask, target.shape[:2])
        if not bool(mask.any()):
            raise ValueError("got a mask that excludes every landmark; expected at least one that counts.")
    stacks = _stacks("predictions", predictions)
    total = target.new_zeros(())
    for i, prediction in enumerate(stacks):
        check_tensor(f"predictions[{i}]", prediction, MAPS, like=("target", target))
        error = (prediction - target).square().mean(dim=(-2, -1))
        total = total + (error.mean() if mask is None else error[mask].mean())
    return total


@register_criterion("heatmap")
@dataclass(kw_only=True, eq=False)
class HeatmapCriterion:
    """The loss of a heat-map network: the error of every stack's maps and, with a depth head, of the depths.

    Parameters
    ----------
    target : {"gaussian", "published"}
        `draw_heatmaps` or `draw_published_heatmaps`.
    sigma, peak : float
        Of the Gaussian, sigma in map pixels.
    depth_weight : float
        Of the mean squared depth error.
    coherence_weight : float
        Of `mirror_coherence_loss`, as a fraction of the square of `peak`: the trainer then shows the network the mirror
        image of every crop too, at twice the cost, and the faces need a mirror map.

    Notes
    -----
    Called with a `Prediction`, a batch and the epoch, and, where `coherence_weight` is not 0, with the `Prediction` for
    the mirror images and the mirror map; returns the terms by name, the sum under ``"loss"``. Missing landmarks (NaN)
    and samples of weight 0 do not count.

    Examples
    --------
    >>> from asmnet.heatmaps import HeatmapCriterion
    >>> HeatmapCriterion(target="published").peak
    20.0
    """

    target: str = "gaussian"
    sigma: float = 1.5
    peak: float = 1.0
    depth_weight: float = 1.0
    coherence_weight: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(coherence_weight=self.coherence_weight, depth_weight=self.depth_weight)
        check_numbers(sigma=self.sigma, peak=self.peak, above=True)
        check_choice(("gaussian", "published"), target=self.target)
        if self.target == "published":
            self.sigma, self.peak = 1.0, 20.0

    def __call__(
        self,
        prediction: Prediction,
        batch: Batch,
        epoch: int,
        mirrored: Prediction | None = None,
        mirror: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms by name, with their sum under ``"loss"``."""
        if not prediction.heatmaps:
            raise ValueError("the criterion 'heatmap' needs a network that draws heat maps, such as 'hourglass'.")
        maps = [m.float() for m in prediction.heatmaps]
        height, width = maps[0].shape[-2:]
        points = units_to_map(batch.landmarks, (height, width))
        if self.target == "published":
            ratio = batch.images.shape[-1] // width
            target = draw_published_heatmaps(to_image(points, ratio=ratio), (height, width), ratio=ratio)
        else:
            target = draw_heatmaps(points, (height, width), sigma=self.sigma, peak=self.peak)
        seen = torch.isfinite(batch.landmarks).all(dim=-1).to(target.dtype)
        seen = seen * batch.weight[:, None].to(seen.dtype)
        error = torch.stack([(m - target).square().mean(dim=(-2, -1)) for m in maps]).sum(dim=0)
        terms = {"heatmaps": weighted_mean(error, seen)}
        terms |= head_terms(prediction, batch, depth_weight=self.depth_weight)
        if self.coherence_weight:
            if mirrored is None or mirror is None:
                raise ValueError("coherence_weight needs the predictions for the mirror images and the mirror map.")
            coherence = mirror_coherence_loss(maps, mirrored.heatmaps, mirror=mirror) / self.peak**2
            terms["coherence"] = self.coherence_weight * coherence
        return with_sum(terms)


def mirror_coherence_loss(
    predictions: Sequence[Tensor], mirrored: Sequence[Tensor], *, mirror: Sequence[int]
) -> Tensor:
    """Return how much the heat maps of an image and of its mirror image disagree.

    Parameters
    ----------
    predictions, mirrored : sequence of Tensor of shape (batch, n_landmarks, height, width)
        Heat maps of each stack for the images and for the horizontally flipped images.
    mirror : sequence of int
        The scheme's mirror permutation: landmark ``mirror[k]`` is the image of landmark k.

    Returns
    -------
    Tensor of shape ()
        Mean over stacks of the mean squared difference after flipping and re-ordering.

    Raises
    ------
    ValueError
        When `mirror` is no permutation of the landmarks.

    Examples
    --------
    >>> import torch
    >>> maps = torch.rand(1, 3, 4, 4)
    >>> flipped = maps[:, [1, 0, 2]].flip(-1)
    >>> float(mirror_coherence_loss([maps], [flipped], mirror=(1, 0, 2)))
    0.0
    """
    stacks, others = _stacks("predictions", predictions), _stacks("mirrored", mirrored)
    if len(stacks) != len(others):
        raise ValueError(f"mirrored: got {len(others)} stacks; expected {len(stacks)}, as predicted.")
    for i, (own, other) in enumerate(zip(stacks, others, strict=True)):
        check_tensor(f"predictions[{i}]", own, MAPS)
        check_tensor(f"mirrored[{i}]", other, MAPS, like=(f"predictions[{i}]", own))
    n = stacks[0].shape[1]
    if mirror is None or sorted(mirror) != list(range(n)):
        raise ValueError(f"mirror: got {mirror!r}; expected a permutation of {n} landmarks.")
    order = torch.as_tensor([int(index) for index in mirror], device=stacks[0].device)
    losses = [functional.mse_loss(p.index_select(1, order).flip(-1), m) for p, m in zip(stacks, others, strict=True)]
    return torch.stack(losses).mean()
