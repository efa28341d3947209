"""Heat maps drawn about landmarks, in one stated pixel frame.

A heat map has one pixel for `ratio` input pixels. Pixel centres are at integers in both, so an input coordinate x and
a map coordinate u of the same place satisfy ``x = (u + 1/2) ratio - 1/2``. That equation stands in :func:`to_map` and
:func:`to_image` only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asmnet._options import check_counts, check_tensor
from shape_models._options import check_numbers


def _checked(points: Tensor, size: tuple[int, int], shape: str = "(..., 2)") -> Tensor:
    """Return points for a map of (height, width), in float32 at least."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ValueError(f"size: got {size!r}; expected (height, width).")
    check_counts(**{"size[0]": size[0], "size[1]": size[1]})
    check_tensor("points", points, shape)
    return points.to(torch.promote_types(points.dtype, torch.float32))


def _away(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return how far the columns (..., width) and the rows (..., height) of a map lie from points (..., 2)."""
    y, x = (torch.arange(n, dtype=points.dtype, device=points.device) for n in size)
    return x - points[..., :1], y - points[..., 1:]


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
    check_tensor("points", points, "(..., 2)")
    check_numbers(ratio=ratio, above=True)
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
    check_tensor("points", points, "(..., 2)")
    check_numbers(ratio=ratio, above=True)
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
    points = _checked(points, size)
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
    points = _checked(points, size)
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
    >>> from asmnet.heatmaps import decode_heatmaps, draw_heatmaps
    >>> maps = draw_heatmaps(torch.tensor([[3.25, 2.0]]), (8, 8))
    >>> decode_heatmaps(maps, method="parabola")
    tensor([[3.2500, 2.0000]])
    """
    points = _checked(points, size, "(..., n_landmarks, 2)")
    check_numbers(sigma=sigma, peak=peak, above=True)
    missing = torch.isnan(points).any(dim=-1)
    x, y = _away(torch.where(missing[..., None], torch.zeros_like(points), points), size)
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
    check_counts(ratio=ratio)
    centre = torch.trunc(_checked(points, size, "(..., n_landmarks, 2)") / ratio)
    maps = draw_heatmaps(centre, size, sigma=1.0, peak=20.0)
    x, y = _away(centre, size)
    # The published targets are patches of 7 x 7 pixels.
    inside = (y.abs() <= 3)[..., :, None] & (x.abs() <= 3)[..., None, :]
    return maps * inside


def gaussian_maps(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Draw Gaussians about points (..., 2) in crop units as probability maps; `sigma` in pixels of the map."""
    x, y = _away(units_to_map(points, size), size)
    scale = -0.5 / sigma**2
    # The softmax of each axis: a landmark far outside still has the nearest edge as its place, and never 0 / 0.
    return torch.softmax(scale * y.square(), -1)[..., :, None] * torch.softmax(scale * x.square(), -1)[..., None, :]
