"""Places read off heat maps: maxima of maps of any height, mean and covariance of maps that are probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from asmnet._options import check_tensor
from shape_models._options import check_choice, check_numbers

DECODERS = ("argmax", "quarter", "parabola", "dark", "soft_argmax")


def _checked(maps: Tensor, shape: str = "(..., height, width)") -> Tensor:
    """Return maps in float32 at least: half precision cannot tell pixels beyond 256 or 2048 apart."""
    check_tensor("maps", maps, shape)
    if not (maps.shape[-2] and maps.shape[-1]):
        raise ValueError(f"maps: got shape {tuple(maps.shape)}; expected maps of one pixel at least.")
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


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
        # Newell et al. (2016): towards the larger neighbour, by the mean of what rounding to a pixel takes off.
        dx = 0.25 * torch.sign(values[..., 1, 2] - values[..., 1, 0])
        dy = 0.25 * torch.sign(values[..., 2, 1] - values[..., 0, 1])
        return torch.stack([torch.where(inner_x, dx, zero), torch.where(inner_y, dy, zero)], dim=-1)
    # The logarithm of a Gaussian is a parabola: one Newton step from the pixel of the maximum is exact.
    # A map may be 0 or below beside its maximum, where a Gaussian is not.
    tiny = torch.finfo(values.dtype).tiny
    log = torch.log(values.clamp_min(tiny))
    # Central differences: gradient and second derivatives of the logarithm.
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
        # Zhang et al. (2020): -H^-1 g, written out for two dimensions.
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
        For ``"soft_argmax"``, as a fraction of the range of each map. With the default, Gaussians of 1, 1.5 and 2 map
        pixels are found within 0.22, 0.08 and 0.02 pixels on average; a larger one averages the background in where
        there is no window.
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
    >>> from asmnet.heatmaps import decode_heatmaps, draw_heatmaps
    >>> decode_heatmaps(draw_heatmaps(torch.tensor([[3.25, 2.0]]), (8, 8)), method="quarter")
    tensor([[3.2500, 2.0000]])
    """
    maps = _checked(maps, "(..., n_landmarks, height, width)")
    check_choice(DECODERS, method=method)
    check_choice(("raise", "nan"), flat=flat)
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
        check_numbers(temperature=temperature, above=True)
        if window is not None and (not isinstance(window, int) or window < 1 or window % 2 == 0):
            raise ValueError(f"window: got {window!r}; expected an odd whole number, or None.")
        x = torch.arange(width, dtype=maps.dtype, device=maps.device).expand(height, width).flatten()
        y = torch.arange(height, dtype=maps.dtype, device=maps.device)[:, None].expand(height, width).flatten()
        # Divided by the range of the map, the temperature means the same at every height of the peak.
        extent = torch.where(is_flat, torch.ones_like(top), top - flattened.amin(dim=-1)).detach()
        logits = flattened / (temperature * extent[..., None])
        if window is not None:
            far = torch.zeros_like(logits, dtype=torch.bool)
            # As far to one side as to the other, or the mean would be pulled away from the border.
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


def spatial_softmax(logits: Tensor) -> Tensor:
    """Turn maps (..., height, width) of any numbers into probabilities: positive, each map summing to 1.

    Parameters
    ----------
    logits : Tensor of shape (..., height, width)
        Any numbers.

    Returns
    -------
    Tensor of the shape of `logits`
        Probabilities.

    Examples
    --------
    >>> import torch
    >>> float(spatial_softmax(torch.zeros(1, 4, 4)).sum())
    1.0
    """
    logits = _checked(logits)
    maps: Tensor = torch.softmax(logits.flatten(-2), dim=-1).unflatten(-1, logits.shape[-2:])
    return maps


def _axes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the crop units of the pixel centres along x and y: -0.5 and 0.5 are the edges of the map."""
    height, width = maps.shape[-2:]
    x = (torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5) / width - 0.5
    y = (torch.arange(height, dtype=maps.dtype, device=maps.device) + 0.5) / height - 0.5
    return x, y


def map_mean(maps: Tensor) -> Tensor:
    """Return the mean place (..., 2) of probability maps (..., height, width), in crop units.

    Parameters
    ----------
    maps : Tensor of shape (..., height, width)
        Probabilities, each map summing to 1.

    Returns
    -------
    Tensor of shape (..., 2)
        Crop units.

    References
    ----------
    Sun, Xiao, Wei, Liang, Wei: Integral human pose regression, ECCV 2018, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> map_mean(torch.tensor([[[0.0, 0.5], [0.0, 0.5]]]))
    tensor([[0.2500, 0.0000]])
    """
    maps = _checked(maps)
    x, y = _axes(maps)
    # Σ p x is Σₓ x Σᵧ p: of the marginal sums, without a map of x.
    return torch.stack([(maps.sum(-2) * x).sum(-1), (maps.sum(-1) * y).sum(-1)], dim=-1)


def map_covariance(maps: Tensor) -> Tensor:
    """Return the covariance (..., 2, 2) of the place under probability maps (..., height, width), crop units squared.

    Parameters
    ----------
    maps : Tensor of shape (..., height, width)
        Probabilities, each map summing to 1.

    Returns
    -------
    Tensor of shape (..., 2, 2)
        Squared crop units.

    Examples
    --------
    >>> import torch
    >>> map_covariance(torch.tensor([[[0.0, 0.5], [0.0, 0.5]]]))
    tensor([[[0.0000, 0.0000],
             [0.0000, 0.0625]]])
    """
    maps = _checked(maps)
    x, y = _axes(maps)
    mean = map_mean(maps)
    dx, dy = x - mean[..., :1], y - mean[..., 1:]
    along_x, along_y = maps.sum(-2), maps.sum(-1)
    # The marginals say the variances; only the covariance needs the whole map.
    xx, yy = (along_x * dx.square()).sum(-1), (along_y * dy.square()).sum(-1)
    xy = torch.einsum("...hw,...h,...w->...", maps, dy, dx)
    covariance: Tensor = torch.stack([xx, xy, xy, yy], dim=-1).unflatten(-1, (2, 2))
    return covariance
