"""Crops and augmentation of whole batches: geometry that moves landmarks and turns the pose, then light and dirt.

One resampling does crop, rotation, scale, shift and flip together. A crop is the map from crop units u (the centre is
0, the edges are at -0.5 and 0.5) to pixels p of the stored image, p = centre + side * R(angle) F u, F = diag(-1, 1) for
a mirrored crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from asmnet._options import check_counts, check_fields, check_tensor
from shape_models._array import indexing
from shape_models._options import check_numbers

__all__ = ["Augmentation", "CropTransform", "crop_transform", "sample_crops"]

# The first leaves 45 % of the detail of two pixels in a crop of 112, the finest there is; the second as much of that
# of eight.
BLUR = (0.4 / 112, 1.6 / 112)  # standard deviations of the blur, from and to, in sides of the crop


class _Draws:
    """Random numbers for a batch, drawn where its generator lives, at hand where the batch lives."""

    def __init__(self, generator: torch.Generator | None, device: torch.device):
        self.generator, self.device = generator, device
        self.source = device if generator is None else generator.device

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1."""
        return torch.rand(shape, generator=self.generator, device=self.source).to(self.device)

    def centred(self, *shape: int) -> Tensor:
        """From -1 to 1."""
        return 2 * self.uniform(*shape) - 1

    def normal(self, *shape: int) -> Tensor:
        """Of standard deviation 1."""
        return torch.randn(shape, generator=self.generator, device=self.source).to(self.device)

    def integers(self, high: int, n: int) -> Tensor:
        """From 0 to `high` - 1."""
        return torch.randint(0, high, (n,), generator=self.generator, device=self.source).to(self.device)

    def chosen(self, n: int, probability: float) -> tuple[Tensor, Tensor]:
        """Return rows to work on and which of these are meant.

        Only on the processor are the rows those that are meant: anywhere else the host would have to wait for the
        device to say which they are.
        """
        mask = self.uniform(n) < probability
        rows = mask.nonzero()[:, 0] if mask.is_cpu else torch.arange(n, device=self.device)
        return rows, mask[rows]


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
        Largest side of the rectangle as a fraction of the crop.

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

    def __post_init__(self) -> None:
        check_fields(self)
        check_numbers(**vars(self))
        fractions = ("flip", "grey", "blur", "occlusion", "occlusion_size")
        check_numbers(most=1, **{name: getattr(self, name) for name in fractions})
        if self.scale >= 1:
            raise ValueError(f"scale: got {self.scale}; expected less than 1, by which sizes differ either way.")

    @classmethod
    def none(cls) -> Augmentation:
        """Return the one that changes nothing."""
        return cls(**{name: 0.0 for name in cls.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
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
        """Map (batch, n, 2) crop units to pixels.

        Parameters
        ----------
        units : Tensor of shape (batch, n, 2)
            From -0.5 to 0.5 within the crop.

        Returns
        -------
        Tensor of shape (batch, n, 2)
            Pixels of the images.
        """
        units, centre, axes = self._beside(units, "units")
        return units @ axes.mT + centre

    def to_units(self, pixels: Tensor) -> Tensor:
        """Map (batch, n, 2) pixels to crop units.

        Parameters
        ----------
        pixels : Tensor of shape (batch, n, 2)
            Pixels of the images.

        Returns
        -------
        Tensor of shape (batch, n, 2)
            From -0.5 to 0.5 within the crop.
        """
        pixels, centre, axes = self._beside(pixels, "pixels")
        units: Tensor = (pixels - centre) @ torch.linalg.inv_ex(axes).inverse.mT
        return units

    def rows(self, which: slice | Tensor) -> CropTransform:
        """Return some of the crops.

        Parameters
        ----------
        which : slice, or Tensor of int of shape (n_chosen,) or of bool of shape (batch,)
            Which of them.

        Returns
        -------
        CropTransform
            Of these.
        """
        with indexing(which, (len(self.centre),)):
            parts = self.centre[which], self.axes[which], self.angle[which], self.flipped[which]
        return CropTransform(*parts)

    def _check(self, value: Tensor, name: str, rest: str) -> None:
        check_tensor(name, value, f"({len(self.centre)}, {rest})")
        if value.device != self.centre.device:
            raise ValueError(f"{name}: got a tensor on {value.device}; expected {self.centre.device}, as the crops.")

    def _beside(self, points: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return points of the crops, checked, and centres and axes, all in the widest type of them."""
        self._check(points, name, "n, 2")
        dtype = torch.promote_types(points.dtype, self.centre.dtype)
        return points.to(dtype), self.centre.to(dtype)[:, None], self.axes.to(dtype)

    def turn(self, rotations: Tensor) -> Tensor:
        """Turn head rotations (batch, 3, 3), object to camera with x right and y down, as the crop turns the image.

        Parameters
        ----------
        rotations : Tensor of shape (batch, 3, 3)
            Head to camera.

        Returns
        -------
        Tensor of shape (batch, 3, 3)
            As the crop shows the heads.
        """
        self._check(rotations, "rotations", "3, 3")
        cos, sin = self.angle.cos(), self.angle.sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        back = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], -1).reshape(-1, 3, 3)
        turned = back.to(rotations.dtype) @ rotations
        # A mirrored head is M R M with M = diag(-1, 1, 1), which changes the sign of four entries.
        mirror = torch.ones_like(turned[:1])
        mirror[:, 0, 1:] = mirror[:, 1:, 0] = -1
        return torch.where(self.flipped[:, None, None], mirror * turned, turned)


def crop_transform(
    boxes: Tensor,
    *,
    margin: float,
    square: bool = True,
    turns: Tensor | None = None,
    augmentation: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> CropTransform:
    """Draw the crops around boxes.

    Parameters
    ----------
    boxes : Tensor of shape (batch, 4)
        Corners x0, y0, x1, y1 in pixels.
    margin : float
        Side of the crop over the larger side of the box.
    square : bool
        When False each side of the crop follows its own side of the box, as in the paper's preparation.
    turns : Tensor of shape (batch,), optional
        Radians by which the boxes are turned about their centres, from x (right) towards y (down).
    augmentation : Augmentation, optional
        Without one the crop is exact and nothing is drawn.
    generator : Generator, optional
        Source of the draws.

    Returns
    -------
    CropTransform
        Of the whole batch.

    Raises
    ------
    ValueError
        For a box without an area, where the boxes are on the processor.

    Examples
    --------
    >>> import torch
    >>> from asmnet.augmentation import crop_transform
    >>> crop_transform(torch.tensor([[0.0, 0.0, 10.0, 20.0]]), margin=1.2).axes.norm(dim=1)
    tensor([[24., 24.]])
    """
    check_tensor("boxes", boxes, "(batch, 4)")
    check_numbers(margin=margin, above=True)
    n = len(boxes)
    if turns is not None:
        check_tensor("turns", turns, f"({n},)")
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    if boxes.is_cpu and not bool((size > 0).all()):  # elsewhere the question would make the host wait
        bad = int((~(size > 0)).any(1).nonzero()[0])
        raise ValueError(f"boxes: got {boxes[bad].tolist()} at index {bad}; expected x0 < x1 and y0 < y1.")
    sides = margin * (size.amax(1, keepdim=True).expand(-1, 2) if square else size)
    angle = torch.zeros(n, dtype=boxes.dtype, device=boxes.device) if turns is None else turns
    flipped = torch.zeros(n, dtype=torch.bool, device=boxes.device)
    if augmentation is not None:
        draws = _Draws(generator, boxes.device)
        centre = centre + augmentation.shift * draws.centred(n, 2).to(boxes) * size.amax(1, keepdim=True)
        sides = sides * (augmentation.scale * draws.centred(n, 1).to(boxes)).exp()
        stretch = (augmentation.aspect * draws.centred(n, 1).to(boxes) / 2).exp()
        # Stretched and squeezed alike: the area stays.
        sides = sides * torch.cat([stretch, 1 / stretch], 1)
        # Cut at two standard deviations, beyond which 1 in 22 crops would lie.
        angle = angle + draws.normal(n).clamp(-2, 2).to(boxes) * (augmentation.rotation * torch.pi / 180)
        flipped = draws.uniform(n) < augmentation.flip
    cos, sin = angle.cos(), angle.sin()
    sign = 1 - 2 * flipped.to(boxes.dtype)
    turn = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    # The columns are the sides of the crop in pixels: turned, and the first one reversed where the crop is mirrored.
    axes = turn * torch.stack([sides[:, 0] * sign, sides[:, 1]], 1)[:, None, :]
    return CropTransform(centre, axes, angle, flipped)


def sample_crops(images: Tensor, crops: CropTransform, size: int) -> Tensor:
    """Resample crops bilinearly; outside of the image is black.

    Parameters
    ----------
    images : Tensor of shape (batch, height, width, 3), uint8 or float
        Values of uint8 are divided by 255.
    crops : CropTransform
        One a image.
    size : int
        Side of the output in pixels.

    Returns
    -------
    Tensor of float32 of shape (batch, 3, size, size), 0 to 1

    Raises
    ------
    TypeError
        For images that are neither uint8 nor floats.
    ValueError
        For another number of crops than images.

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
    check_tensor("images", images, "(batch, height, width, 3)")
    check_counts(size=size)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images: got {images.dtype}; expected torch.uint8, or floats from 0 to 1.")
    if len(images) != len(crops.centre):
        raise ValueError(f"crops: got {len(crops.centre)}; expected one for each of {len(images)} images.")
    scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
    height, width = images.shape[1:3]
    steps = (torch.arange(size, dtype=torch.float32, device=images.device) + 0.5) / size - 0.5
    units = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2)
    pixels = crops.to_pixels(units.expand(len(images), -1, -1).to(crops.axes)).float()
    # grid_sample has the edges of the image at -1 and 1, with the centre of the first pixel at 1 / width - 1.
    grid = torch.stack([(2 * pixels[..., 0] + 1) / width - 1, (2 * pixels[..., 1] + 1) / height - 1], -1)
    grid = grid.reshape(len(images), size, size, 2)
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    out = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.mul_(scale) if scale != 1 else out


def jitter_light(images: Tensor, augmentation: Augmentation, *, generator: torch.Generator | None = None) -> Tensor:
    """Change brightness, contrast, colour, sharpness, add noise and cover parts; (batch, 3, h, w) from 0 to 1."""
    n, _, height, width = images.shape
    device = images.device
    draws = _Draws(generator, device)
    # Luma of ITU-R BT.601.
    grey = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    mean = grey.mean((2, 3), keepdim=True)
    saturation = 1 + augmentation.saturation * draws.centred(n, 1, 1, 1)
    rows, meant = draws.chosen(n, augmentation.grey)
    saturation[rows] = saturation[rows].masked_fill(meant[:, None, None, None], 0)
    gain = 1 + augmentation.contrast * draws.centred(n, 1, 1, 1)
    light = 1 + augmentation.brightness * draws.centred(n, 1, 1, 1)
    light = light * (1 + augmentation.colour * draws.centred(n, 3, 1, 1))
    # one affine map: grey + saturation * (x - grey), about its mean by gain, times light
    out = (images * saturation + grey * (1 - saturation) - mean) * gain + mean
    out = (out * light).clamp_(0, 1)
    if augmentation.gamma:
        # The derivative of a power is infinite at 0 for exponents below 1.
        out = out.clamp_min(1e-4).pow((augmentation.gamma * draws.centred(n, 1, 1, 1)).exp())
    rows, meant = draws.chosen(n, augmentation.blur)
    if augmentation.blur and len(rows):
        sigma = height * (BLUR[0] + (BLUR[1] - BLUR[0]) * draws.uniform(len(rows), 1))
        reach = math.ceil(3 * height * BLUR[1])  # beyond three standard deviations there is nothing to see
        taps = torch.arange(-reach, reach + 1, device=device, dtype=images.dtype)
        kernel = (-(taps**2) / (2 * sigma**2)).exp()
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
        # A Gaussian is the product of two: along the rows, then along the columns. Each image has a width of its own.
        blurred = functional.pad(out[rows], (reach, reach, reach, reach), mode="replicate")
        blurred = blurred.reshape(1, -1, *blurred.shape[2:])
        blurred = functional.conv2d(blurred, kernel[:, None, None, :], groups=len(kernel))
        blurred = functional.conv2d(blurred, kernel[:, None, :, None], groups=len(kernel))
        blurred = blurred.reshape(len(rows), 3, height, width)
        out[rows] = torch.where(meant[:, None, None, None], blurred, out[rows])
    if augmentation.noise:
        level = augmentation.noise * draws.uniform(n, 1, 1, 1)
        out = out + level * draws.normal(*out.shape)
    rows, meant = draws.chosen(n, augmentation.occlusion)
    if augmentation.occlusion and augmentation.occlusion_size and len(rows):
        # Smaller covers would hardly hide a landmark.
        least = min(0.1, augmentation.occlusion_size / 2)
        extent = least + (augmentation.occlusion_size - least) * draws.uniform(len(rows), 2)
        # Covers may reach a tenth of the crop beyond its edges, so that these are hidden too.
        corner = draws.uniform(len(rows), 2) * (1.2 - extent) - 0.1
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        inside_y = (y >= corner[:, 1:]) & (y < corner[:, 1:] + extent[:, 1:])
        inside_x = (x >= corner[:, :1]) & (x < corner[:, :1] + extent[:, :1])
        cover = (inside_y[:, :, None] & inside_x[:, None, :] & meant[:, None, None])[:, None]
        # half of the covers are plain, half come from another image of the batch
        other = out[draws.integers(n, len(rows))]
        plain = draws.uniform(len(rows), 3, 1, 1).expand_as(other)
        fill = torch.where((draws.uniform(len(rows)) < 0.5)[:, None, None, None], plain, other.flip(2))
        out[rows] = torch.where(cover, fill, out[rows])
    return out.clamp_(0, 1)
