"""Crops and augmentation of whole batches: geometry that moves landmarks and turns the pose, then light and dirt.

One resampling does crop, rotation, scale, shift and flip together. A crop is the map from crop units u (the centre is
0, the edges are at -0.5 and 0.5) to pixels p of the stored image, p = centre + side * R(angle) F u, F = diag(-1, 1) for
a mirrored crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Augmentation", "CropTransform", "crop_transform", "sample_crops"]


@dataclass(frozen=True)
class Augmentation:
    """How far training crops stray from the plain ones; `Augmentation.none()` is the plain crop.

    Parameters
    ----------
    rotation : float
        Standard deviation in degrees; draws are cut at twice that.
    scale : float
        The side is multiplied by exp(U(-scale, scale)).
    shift : float
        The centre moves by U(-shift, shift) sides of the box in x and y.
    aspect : float
        Sides of the box are stretched against each other by exp(U(-aspect, aspect)).
    flip : float
        Probability of a mirror image.
    brightness, contrast, saturation : float
        Half-widths of the uniform factors about 1.
    colour : float
        Half-width of a factor for each channel.
    grey : float
        Probability of a grey image.
    gamma : float
        The exponent is exp(U(-gamma, gamma)).
    blur : float
        Probability of a Gaussian blur.
    noise : float
        Largest standard deviation of pixel noise.
    occlusion : float
        Probability of a covered rectangle.
    occlusion_size : float
        Largest side of the rectangle as a share of the crop.

    Examples
    --------
    >>> from asmnet import Augmentation
    >>> Augmentation.none().flip
    0.0
    """

    rotation: float = 12.0
    scale: float = 0.12
    shift: float = 0.08
    aspect: float = 0.0
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.4
    colour: float = 0.1
    grey: float = 0.1
    gamma: float = 0.3
    blur: float = 0.15
    noise: float = 0.03
    occlusion: float = 0.3
    occlusion_size: float = 0.4

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: got {value}; expected a finite number that is not negative.")
        for name in ("flip", "grey", "blur", "occlusion", "occlusion_size"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected a share from 0 to 1.")

    @classmethod
    def none(cls) -> Augmentation:
        """Return the one that changes nothing."""
        return cls(**{name: 0.0 for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class CropTransform:
    """Maps between crop units and pixels of the image cropped from, for a batch.

    Attributes
    ----------
    centre : Tensor of shape (batch, 2)
        Pixels.
    axes : Tensor of shape (batch, 2, 2)
        Columns are the images of the unit vectors of the crop, in pixels.
    angle : Tensor of shape (batch,)
        Radians by which the crop's axes are turned against the image's, y down.
    flipped : Tensor of bool of shape (batch,)
        Whether the crop is a mirror image.

    Examples
    --------
    >>> import torch
    >>> from asmnet.augmentation import crop_transform
    >>> crop = crop_transform(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), margin=1.5)
    >>> crop.to_pixels(torch.zeros(1, 1, 2)), crop.to_units(torch.tensor([[[20.0, 10.0]]]))
    (tensor([[[ 5., 10.]]]), tensor([[[0.5000, 0.0000]]]))
    """

    centre: Tensor
    axes: Tensor
    angle: Tensor
    flipped: Tensor

    def to_pixels(self, units: Tensor) -> Tensor:
        """Map (batch, n, 2) crop units to pixels."""
        return units @ self.axes.mT + self.centre[:, None]

    def to_units(self, pixels: Tensor) -> Tensor:
        """Map (batch, n, 2) pixels to crop units."""
        return (pixels - self.centre[:, None]) @ torch.linalg.inv(self.axes).mT

    def turn(self, rotations: Tensor) -> Tensor:
        """Turn head rotations (batch, 3, 3), object to camera with x right and y down, as the crop turns the image."""
        cos, sin = self.angle.cos(), self.angle.sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        back = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], -1).reshape(-1, 3, 3)
        turned = back.to(rotations.dtype) @ rotations
        mirror = rotations.new_tensor([-1.0, 1.0, 1.0]).diag()
        return torch.where(self.flipped[:, None, None], mirror @ turned @ mirror, turned)


def crop_transform(
    boxes: Tensor,
    *,
    margin: float,
    square: bool = True,
    augmentation: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> CropTransform:
    """Draw the crops around boxes.

    Parameters
    ----------
    boxes : Tensor of shape (batch, 4)
        x0, y0, x1, y1 in pixels.
    margin : float
        Side of the crop over the larger side of the box.
    square : bool
        When False each side of the crop follows its own side of the box, as in the paper's preparation.
    augmentation : Augmentation, optional
        Without one the crop is exact and nothing is drawn.
    generator : Generator, optional
        Source of the draws.

    Examples
    --------
    >>> import torch
    >>> from asmnet.augmentation import crop_transform
    >>> crop_transform(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), margin=1.2).axes.norm(dim=1)
    tensor([[24., 24.]])
    """
    n = len(boxes)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    if not bool((size > 0).all()):
        bad = int((size <= 0).any(1).nonzero()[0])
        raise ValueError(f"boxes: got {boxes[bad].tolist()} at index {bad}; expected x0 < x1 and y0 < y1.")
    sides = margin * (size.amax(1, keepdim=True).expand(-1, 2) if square else size)
    angle = torch.zeros(n, dtype=boxes.dtype, device=boxes.device)
    flipped = torch.zeros(n, dtype=torch.bool, device=boxes.device)
    if augmentation is not None:

        def uniform(*shape: int) -> Tensor:
            draw = torch.rand(shape, generator=generator, dtype=torch.float32)
            return (2 * draw - 1).to(boxes)

        centre = centre + augmentation.shift * uniform(n, 2) * size.amax(1, keepdim=True)
        sides = sides * (augmentation.scale * uniform(n, 1)).exp()
        stretch = (augmentation.aspect * uniform(n, 1) / 2).exp()
        sides = sides * torch.cat([stretch, 1 / stretch], 1)
        normal = torch.randn((n,), generator=generator, dtype=torch.float32).clamp(-2, 2).to(boxes)
        angle = normal * (augmentation.rotation * torch.pi / 180)
        flipped = (torch.rand((n,), generator=generator) < augmentation.flip).to(boxes.device)
    cos, sin = angle.cos(), angle.sin()
    sign = torch.where(flipped, -1.0, 1.0).to(boxes)
    turn = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    axes = turn * torch.stack([sides[:, 0] * sign, sides[:, 1]], 1)[:, None, :]
    return CropTransform(centre, axes, angle, flipped)


def sample_crops(images: Tensor, crops: CropTransform, size: int) -> Tensor:
    """Resample crops bilinearly; outside of the image is black.

    Parameters
    ----------
    images : Tensor of shape (batch, height, width, 3), uint8 or float
        uint8 is divided by 255.
    crops : CropTransform
        One a image.
    size : int
        Side of the output in pixels.

    Returns
    -------
    Tensor of float32 of shape (batch, 3, size, size), 0 to 1

    Examples
    --------
    >>> import torch
    >>> from asmnet.augmentation import crop_transform, sample_crops
    >>> image = torch.arange(4.0).reshape(1, 2, 2, 1).expand(1, 2, 2, 3)
    >>> crop = crop_transform(torch.tensor([[-0.5, -0.5, 1.5, 1.5]]), margin=1.0)
    >>> sample_crops(image, crop, 2)[0, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
    height, width = images.shape[1:3]
    steps = (torch.arange(size, dtype=torch.float32, device=images.device) + 0.5) / size - 0.5
    units = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2)
    pixels = crops.to_pixels(units.expand(len(images), -1, -1).to(crops.axes)).float()
    extent = torch.tensor([width, height], dtype=torch.float32, device=images.device)
    grid = ((2 * pixels + 1) / extent - 1).reshape(len(images), size, size, 2)
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    out = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.mul_(scale) if scale != 1 else out


def jitter_light(images: Tensor, augmentation: Augmentation, *, generator: torch.Generator | None = None) -> Tensor:
    """Change brightness, contrast, colour, sharpness, add noise and cover parts; (batch, 3, h, w) from 0 to 1."""
    n, _, height, width = images.shape
    device = images.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device)

    def centred(*shape: int) -> Tensor:
        return 2 * uniform(*shape) - 1

    def chosen(probability: float) -> Tensor:
        return (uniform(n) < probability).nonzero()[:, 0]

    luma = images.new_tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    grey = (images * luma).sum(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    saturation = 1 + augmentation.saturation * centred(n, 1, 1, 1)
    saturation[chosen(augmentation.grey)] = 0
    gain = 1 + augmentation.contrast * centred(n, 1, 1, 1)
    light = (1 + augmentation.brightness * centred(n, 1, 1, 1)) * (1 + augmentation.colour * centred(n, 3, 1, 1))
    # one affine map: grey + saturation * (x - grey), about its mean by gain, times light
    out = (images * saturation + grey * (1 - saturation) - mean) * gain + mean
    out = (out * light).clamp_(0, 1)
    if augmentation.gamma:
        out = out.clamp_min(1e-4).pow((augmentation.gamma * centred(n, 1, 1, 1)).exp())
    which = chosen(augmentation.blur)
    if len(which):
        sigma = (0.4 + 1.2 * uniform(len(which), 1)) * height / 112
        taps = torch.arange(-3, 4, device=device, dtype=images.dtype)
        kernel = (-(taps**2) / (2 * sigma**2)).exp()
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
        blurred = out[which].reshape(1, -1, height, width)
        blurred = functional.conv2d(blurred, kernel[:, None, None, :], padding=(0, 3), groups=len(kernel))
        blurred = functional.conv2d(blurred, kernel[:, None, :, None], padding=(3, 0), groups=len(kernel))
        out[which] = blurred.reshape(len(which), 3, height, width)
    if augmentation.noise:
        level = augmentation.noise * uniform(n, 1, 1, 1)
        out = out + level * torch.randn(out.shape, generator=generator).to(device)
    which = chosen(augmentation.occlusion)
    if len(which) and augmentation.occlusion_size:
        extent = 0.1 + (augmentation.occlusion_size - 0.1) * uniform(len(which), 2)
        corner = uniform(len(which), 2) * (1.2 - extent) - 0.1
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        inside_y = (rows >= corner[:, 1:]) & (rows < corner[:, 1:] + extent[:, 1:])
        inside_x = (columns >= corner[:, :1]) & (columns < corner[:, :1] + extent[:, :1])
        cover = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        # half of the covers are plain, half come from another image of the batch
        other = out[torch.randint(0, n, (len(which),), generator=generator).to(device)]
        plain = uniform(len(which), 3, 1, 1).expand_as(other)
        fill = torch.where((uniform(len(which)) < 0.5)[:, None, None, None], plain, other.flip(2))
        out[which] = torch.where(cover, fill, out[which])
    return out.clamp_(0, 1)
