"""Heat maps: drawing targets, decoding maxima, losses - in one stated pixel frame.

A heat map has one pixel for `ratio` input pixels. Pixel centres are at integers in both, so an input coordinate x and
a map coordinate u of the same place satisfy ``x = (u + 1/2) ratio - 1/2``. That equation stands in :func:`to_map` and
:func:`to_image` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from asmnet.losses import register_criterion

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

DECODERS = ("argmax", "quarter", "parabola", "dark", "soft_argmax")


def to_map(points: Tensor, *, ratio: float) -> Tensor:
    """Return input coordinates as heat map coordinates: ``u = (x + 1/2) / ratio - 1/2``.

    Parameters
    ----------
    points : Tensor of shape (..., 2)
        Points (x, y).
    ratio : float
        Pixels of the input in one pixel of the map.

    Returns
    -------
    Tensor of shape (..., 2)
        Pixels of the map.

    Examples
    --------
    >>> import torch
    >>> to_map(torch.tensor([[0.5, 2.5]]), ratio=2)
    tensor([[0., 1.]])
    """
    return (points + 0.5) / ratio - 0.5


def to_image(points: Tensor, *, ratio: float) -> Tensor:
    """Return heat map coordinates as input coordinates: ``x = (u + 1/2) ratio - 1/2``.

    Parameters
    ----------
    points : Tensor of shape (..., 2)
        Points (x, y).
    ratio : float
        Pixels of the input in one pixel of the map.

    Returns
    -------
    Tensor of shape (..., 2)
        Pixels of the input.

    Examples
    --------
    >>> import torch
    >>> to_image(torch.tensor([[0.0, 1.0]]), ratio=2)
    tensor([[0.5000, 2.5000]])
    """
    return (points + 0.5) * ratio - 0.5


def units_to_map(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Return crop units (edges at -0.5 and 0.5) as map coordinates of a map of (height, width).

    Parameters
    ----------
    points : Tensor of shape (..., 2)
        Points (x, y).
    size : (int, int)
        Height and width of the map.

    Returns
    -------
    Tensor of shape (..., 2)
        Pixels of the map.

    Examples
    --------
    >>> import torch
    >>> units_to_map(torch.tensor([[-0.5, 0.0]]), (64, 64))
    tensor([[-0.5000, 31.5000]])
    """
    return torch.stack([(points[..., 0] + 0.5) * size[1], (points[..., 1] + 0.5) * size[0]], dim=-1) - 0.5


def map_to_units(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Return map coordinates as crop units; undoes `units_to_map`.

    Parameters
    ----------
    points : Tensor of shape (..., 2)
        Points (x, y).
    size : (int, int)
        Height and width of the map.

    Returns
    -------
    Tensor of shape (..., 2)
        Crop units.

    Examples
    --------
    >>> import torch
    >>> map_to_units(torch.tensor([[-0.5, 31.5]]), (64, 64))
    tensor([[-0.5000,  0.0000]])
    """
    return torch.stack([(points[..., 0] + 0.5) / size[1], (points[..., 1] + 0.5) / size[0]], dim=-1) - 0.5


def draw_heatmaps(points: Tensor, size: tuple[int, int], *, sigma: float = 1.5, peak: float = 1.0) -> Tensor:
    """Draw a Gaussian at every landmark, centred with sub-pixel precision.

    Parameters
    ----------
    points : Tensor of shape (..., n_landmarks, 2)
        Map coordinates (x, y). A missing landmark (NaN) gives a map of zeros.
    size : (int, int)
        Height and width of the maps.
    sigma : float
        Standard deviation in map pixels.
    peak : float
        Value at the centre.

    Returns
    -------
    Tensor of shape (..., n_landmarks, height, width)

    Examples
    --------
    >>> import torch
    >>> maps = draw_heatmaps(torch.tensor([[3.25, 2.0]]), (8, 8))
    >>> decode_heatmaps(maps, method="parabola")
    tensor([[3.2500, 2.0000]])
    """
    if points.ndim < 2 or points.shape[-1] != 2:
        raise ValueError(f"got points of shape {tuple(points.shape)}; expected (..., n_landmarks, 2).")
    if sigma <= 0:
        raise ValueError(f"got sigma={sigma:g}; expected a positive number of map pixels.")
    height, width = size
    missing = torch.isnan(points).any(dim=-1)
    points = torch.where(missing[..., None], torch.zeros_like(points), points)
    x = torch.arange(width, dtype=points.dtype, device=points.device) - points[..., 0, None]
    y = torch.arange(height, dtype=points.dtype, device=points.device) - points[..., 1, None]
    scale = -0.5 / sigma**2
    maps = peak * torch.exp(scale * y**2)[..., :, None] * torch.exp(scale * x**2)[..., None, :]
    return maps.masked_fill(missing[..., None, None], 0.0)


def draw_published_heatmaps(points: Tensor, size: tuple[int, int], *, ratio: int = 2) -> Tensor:
    """Draw the targets of the published SAT and hourglass networks.

    The centre is the input coordinate over `ratio`, truncated to an integer; the Gaussian has sigma 1, support 7 x 7
    and peak 20. Truncation loses up to ``ratio`` input pixels: prefer :func:`draw_heatmaps` for new work.

    Parameters
    ----------
    points : Tensor of shape (..., n_landmarks, 2)
        Input coordinates (x, y). A missing landmark (NaN) gives a map of zeros.
    size : (int, int)
        Height and width of the maps.
    ratio : int
        Input pixels per map pixel.

    Returns
    -------
    Tensor of shape (..., n_landmarks, height, width)

    Examples
    --------
    >>> import torch
    >>> maps = draw_published_heatmaps(torch.tensor([[9.9, 20.0]]), (64, 64))
    >>> float(maps[0, 10, 4]), float(maps[0, 10, 8])
    (20.0, 0.0)
    """
    centre = torch.trunc(points / ratio)
    maps = draw_heatmaps(centre, size, sigma=1.0, peak=20.0)
    missing = torch.isnan(centre).any(dim=-1)
    centre = torch.where(missing[..., None], torch.zeros_like(centre), centre)
    x = torch.arange(size[1], device=points.device) - centre[..., 0, None]
    y = torch.arange(size[0], device=points.device) - centre[..., 1, None]
    inside = (y.abs() <= 3)[..., :, None] & (x.abs() <= 3)[..., None, :]
    return maps * inside


def _neighbours(maps: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the 3 x 3 values about each maximum and whether x and y have both neighbours."""
    height, width = maps.shape[-2:]
    ix, iy = index % width, index // width
    inner_x = (ix > 0) & (ix < width - 1)
    inner_y = (iy > 0) & (iy < height - 1)
    offsets = torch.arange(-1, 2, device=maps.device)
    columns = (ix[..., None] + offsets).clamp(0, width - 1)
    rows = (iy[..., None] + offsets).clamp(0, height - 1)
    flat = (rows[..., :, None] * width + columns[..., None, :]).flatten(-2)
    values = torch.gather(maps.flatten(-2), -1, flat).unflatten(-1, (3, 3))
    return values, inner_x, inner_y


def _refine(maps: Tensor, index: Tensor, method: str) -> Tensor:
    values, inner_x, inner_y = _neighbours(maps, index)
    zero = torch.zeros_like(values[..., 0, 0])
    if method == "quarter":
        dx = 0.25 * torch.sign(values[..., 1, 2] - values[..., 1, 0])
        dy = 0.25 * torch.sign(values[..., 2, 1] - values[..., 0, 1])
        return torch.stack([torch.where(inner_x, dx, zero), torch.where(inner_y, dy, zero)], dim=-1)
    # The logarithm of a Gaussian is a parabola: one Newton step from the pixel of the maximum is exact.
    tiny = torch.finfo(values.dtype).tiny
    log = torch.log(values.clamp_min(tiny))
    gx = 0.5 * (log[..., 1, 2] - log[..., 1, 0])
    gy = 0.5 * (log[..., 2, 1] - log[..., 0, 1])
    hxx = log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0]
    hyy = log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1]
    if method == "parabola":
        usable_x, usable_y = inner_x & (hxx < 0), inner_y & (hyy < 0)
        dx = torch.where(usable_x, -gx / torch.where(usable_x, hxx, -torch.ones_like(hxx)), zero)
        dy = torch.where(usable_y, -gy / torch.where(usable_y, hyy, -torch.ones_like(hyy)), zero)
    else:
        hxy = 0.25 * (log[..., 2, 2] - log[..., 2, 0] - log[..., 0, 2] + log[..., 0, 0])
        det = hxx * hyy - hxy**2
        usable = inner_x & inner_y & (hxx < 0) & (det > 0)
        det = torch.where(usable, det, torch.ones_like(det))
        dx = torch.where(usable, (hxy * gy - hyy * gx) / det, zero)
        dy = torch.where(usable, (hxy * gx - hxx * gy) / det, zero)
    # A maximum lies within half a pixel of its pixel; beyond that the parabola does not describe the map.
    return torch.stack([dx.clamp(-0.5, 0.5), dy.clamp(-0.5, 0.5)], dim=-1)


def decode_heatmaps(
    maps: Tensor, *, method: str = "parabola", window: int | None = 5, temperature: float = 0.07, flat: str = "raise"
) -> Tensor:
    """Return the place of the maximum of every heat map.

    Parameters
    ----------
    maps : Tensor of shape (..., n_landmarks, height, width)
        Heat maps.
    method : {"argmax", "quarter", "parabola", "dark", "soft_argmax"}
        ``"argmax"``, the pixel; ``"quarter"``, moved by a quarter pixel towards the larger neighbour; ``"parabola"``
        and ``"dark"``, a Newton step on the logarithm, along each axis or with the mixed derivative: both are exact for
        Gaussians, and leave an axis at the border as it is; ``"soft_argmax"``, the mean coordinate under
        ``softmax(maps / (temperature * (maximum - minimum)))``, differentiable.
    window : int or None
        For ``"soft_argmax"``: odd side of the square about the maximum that is averaged, smaller near the border, where
        it would reach further to one side than to the other; None averages all.
    temperature : float
        For ``"soft_argmax"``, as a fraction of the range of each map. With the default the error on Gaussians of 1 to 2
        map pixels is 0.01 to 0.15 pixels; a larger one averages the background in where there is no window.
    flat : {"raise", "nan"}
        What a map without a single maximum (constant or not finite) gives: an error or NaN.

    Returns
    -------
    Tensor of shape (..., n_landmarks, 2)
        Map coordinates (x, y).

    Raises
    ------
    ValueError
        For an unknown method and, with ``flat="raise"``, for flat maps.

    References
    ----------
    Newell, Yang, Deng, ECCV 2016 (quarter offset); Zhang, Zhu, Dai, Ye, Zhu, "Distribution-aware coordinate
    representation for human pose estimation", CVPR 2020 (``"dark"``).

    Examples
    --------
    >>> import torch
    >>> decode_heatmaps(draw_heatmaps(torch.tensor([[3.25, 2.0]]), (8, 8)), method="quarter")
    tensor([[3.2500, 2.0000]])
    """
    if maps.ndim < 3:
        raise ValueError(f"got maps of shape {tuple(maps.shape)}; expected (..., n_landmarks, height, width).")
    if method not in DECODERS:
        raise ValueError(f"got method {method!r}; expected one of {', '.join(DECODERS)}.")
    if flat not in ("raise", "nan"):
        raise ValueError(f"got flat={flat!r}; expected 'raise' or 'nan'.")
    height, width = maps.shape[-2:]
    flattened = maps.flatten(-2)
    top, index = flattened.max(dim=-1)
    is_flat = ~(torch.isfinite(flattened).all(dim=-1) & (top > flattened.amin(dim=-1)))
    if flat == "raise" and bool(is_flat.any()):
        where = tuple(int(i) for i in is_flat.nonzero()[0])
        raise ValueError(
            f"got a flat heat map at index {where}; expected a maximum. "
            "Try flat='nan' to mark such landmarks as missing."
        )
    if method == "soft_argmax":
        if temperature <= 0 or (window is not None and (window < 1 or window % 2 == 0)):
            raise ValueError(
                f"got temperature={temperature:g}, window={window}; expected a positive temperature and an odd window."
            )
        x = torch.arange(width, dtype=maps.dtype, device=maps.device).expand(height, width).flatten()
        y = torch.arange(height, dtype=maps.dtype, device=maps.device)[:, None].expand(height, width).flatten()
        extent = torch.where(is_flat, torch.ones_like(top), top - flattened.amin(dim=-1)).detach()
        logits = flattened / (temperature * extent[..., None])
        if window is not None:
            far = torch.zeros_like(logits, dtype=torch.bool)
            for place, centre, size in ((x, index % width, width), (y, index // width, height)):
                half = torch.minimum(centre, size - 1 - centre).clamp_max(window // 2)
                far |= (place - centre[..., None]).abs() > half[..., None]
            logits = logits.masked_fill(far, float("-inf"))
        weight = torch.softmax(logits, dim=-1)
        points = torch.stack([(weight * x).sum(dim=-1), (weight * y).sum(dim=-1)], dim=-1)
    else:
        points = torch.stack([index % width, index // width], dim=-1).to(maps.dtype)
        if method != "argmax":
            points = points + _refine(maps, index, method)
    return points.masked_fill(is_flat[..., None], float("nan"))


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
    Tensor
        A scalar.

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
    if mask is not None and not bool(mask.any()):
        raise ValueError("got a mask that excludes every landmark; expected at least one that counts.")
    total = target.new_zeros(())
    for prediction in predictions:
        if prediction.shape != target.shape:
            raise ValueError(
                f"got heat maps of shape {tuple(prediction.shape)} for targets of shape {tuple(target.shape)}."
            )
        error = (prediction - target).square().mean(dim=(-2, -1))
        total = total + (error.mean() if mask is None else error[mask].mean())
    return total


@register_criterion("heatmap")
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
    n_epochs, steps_per_epoch : int
        Of the training; not used.

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

    def __init__(
        self,
        *,
        target: str = "gaussian",
        sigma: float = 1.5,
        peak: float = 1.0,
        depth_weight: float = 1.0,
        coherence_weight: float = 0.0,
        n_epochs: int = 1,
        steps_per_epoch: int = 1,
    ):
        if not coherence_weight >= 0:
            raise ValueError(f"coherence_weight: got {coherence_weight}; expected a number that is not negative.")
        if target not in ("gaussian", "published"):
            raise ValueError(f"target: got {target!r}; expected 'gaussian' or 'published'.")
        self.target = target
        self.sigma, self.peak = (1.0, 20.0) if target == "published" else (sigma, peak)
        self.depth_weight = depth_weight
        self.coherence_weight = coherence_weight

    def __call__(
        self, prediction: Any, batch: Any, epoch: int, mirrored: Any = None, mirror: Sequence[int] | None = None
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
        weight = getattr(batch, "weight", None)
        if weight is not None:
            seen = seen * weight[:, None].to(seen.dtype)
        total = seen.sum().clamp_min(torch.finfo(seen.dtype).tiny)
        error = torch.stack([(m - target).square().mean(dim=(-2, -1)) for m in maps]).sum(dim=0)
        terms = {"heatmaps": (seen * error).sum() / total}
        loss = terms["heatmaps"]
        depth = getattr(batch, "depth", None)
        if prediction.depth is not None and depth is not None:
            known = torch.isfinite(depth)
            difference = torch.where(known, prediction.depth - torch.nan_to_num(depth), torch.zeros_like(depth))
            terms["depth"] = difference.square().sum() / known.sum().clamp_min(1)
            loss = loss + self.depth_weight * terms["depth"]
        if self.coherence_weight:
            if mirrored is None or mirror is None:
                raise ValueError("coherence_weight needs the predictions for the mirror images and the mirror map.")
            terms["coherence"] = mirror_coherence_loss(maps, mirrored.heatmaps, mirror=mirror) / self.peak**2
            loss = loss + self.coherence_weight * terms["coherence"]
        terms["loss"] = loss
        return terms


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
    Tensor
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
    n = predictions[0].shape[1]
    if sorted(mirror) != list(range(n)):
        raise ValueError(f"got a mirror map of {len(mirror)} entries; expected a permutation of {n} landmarks.")
    order = torch.as_tensor(list(mirror), device=predictions[0].device)
    losses = [
        functional.mse_loss(p.index_select(1, order).flip(-1), m) for p, m in zip(predictions, mirrored, strict=True)
    ]
    return torch.stack(losses).mean()
