"""What a training sees of its images: the part round each object, with square pixels, read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._array import as_numpy
from ._checks import check_shape
from ._images import image_count, read_image

_MARGIN = 1.5  # sides of the object round it: the starts are near, and what they see reaches one side further
_KEPT = 1 << 28  # bytes of crops that are kept; others are read again


def as_spacing(spacing: Any, n: int) -> np.ndarray | None:
    """Return the distances of pixels (n, 2) along x and y, given for all images or for each; None for square ones.

    Raises
    ------
    ValueError
        When they are not positive or their number fits neither.
    TypeError
        For what is no array of numbers.
    """
    if spacing is None:
        return None
    array = as_numpy(spacing, "spacing").astype(np.float64)
    if array.shape not in ((), (2,), (n,), (n, 1), (n, 2)) or not np.isfinite(array).all() or not (array > 0).all():
        raise ValueError(
            f"spacing: got {spacing!r}; expected the distance of pixels, (along x, along y) for all images or (n, 2) "
            "for each."
        )
    if array.ndim == 1 and array.shape != (2,):
        array = array[:, None]
    return np.broadcast_to(array, (n, 2)).copy()


class Squared:
    """Pixels of an image as square ones: p -> (p + 1/2) * factor - 1/2, with pixel centres at whole numbers.

    Parameters
    ----------
    spacing : ndarray of shape (2,) or None
        Distances of pixels along x and y; the finer one stays as it is.
    """

    def __init__(self, spacing: np.ndarray | None) -> None:
        factor = np.ones(2) if spacing is None else spacing / spacing.min()
        # A millionth is what files lose that write spacings with six digits: such pixels are square.
        self.factor = factor if (np.abs(factor - 1) > 1e-6).any() else np.ones(2)
        self.unit = None if spacing is None else float(spacing.min())

    @property
    def same(self) -> bool:
        """Whether the pixels are square already."""
        return bool((self.factor == 1).all())

    def __call__(self, points: Any) -> np.ndarray:
        points = np.asarray(points, dtype=np.float64)
        return points if self.same else np.asarray((points + 0.5) * self.factor - 0.5)

    def back(self, points: Any) -> np.ndarray:
        points = np.asarray(points, dtype=np.float64)
        return points if self.same else np.asarray((points + 0.5) / self.factor - 0.5)

    def boxes(self, boxes: Any) -> np.ndarray:
        return self(np.asarray(boxes, dtype=np.float64).reshape(-1, 2)).reshape(np.shape(boxes))

    def image(self, image: np.ndarray) -> np.ndarray:
        """Return an image with its coarser axis sampled as finely as the other."""
        if self.same:
            return image
        from scipy.ndimage import map_coordinates

        size = np.maximum(np.round(np.array(image.shape[1::-1]) * self.factor), 1).astype(int)
        x, y = ((np.arange(n) + 0.5) / f - 0.5 for n, f in zip(size, self.factor, strict=True))
        at = np.meshgrid(y, x, indexing="ij")
        kind: Any = np.float32 if image.dtype.itemsize <= 2 else np.float64
        layers = [image] if image.ndim == 2 else list(np.moveaxis(image, -1, 0))
        sampled = [map_coordinates(layer.astype(kind), at, order=1, mode="nearest") for layer in layers]
        return sampled[0] if image.ndim == 2 else np.stack(sampled, axis=-1)


class Crops(Sequence[np.ndarray]):
    """The parts of images round their objects, read when they are first asked for.

    Parameters
    ----------
    images : sequence of array or path
    shapes : ndarray of shape (n, K, 2)
        Pixels of the images; NaN where missing.
    spacing : array_like, optional
        As for `as_spacing`.

    Attributes
    ----------
    sizes : ndarray of int of shape (n, 2)
        Width and height of each whole image with square pixels, 0 until it is read.
    units : ndarray of shape (n,) or None
        Distance of the square pixels, where the spacing is known.
    """

    def __init__(self, images: Any, shapes: np.ndarray, spacing: Any = None) -> None:
        n = len(shapes)
        count = image_count(images) if images is not None else None
        if count != n:
            got = "None" if images is None else "one image" if count is None else f"{count} images"
            raise ValueError(f"images: got {got}; expected one for each of {n} shapes.")
        self._images, self._shapes = images, shapes
        spaced = as_spacing(spacing, n)
        self._squared = [Squared(None if spaced is None else spaced[i]) for i in range(n)]
        self.units = None if spaced is None else spaced.min(axis=1)
        self.sizes = np.zeros((n, 2), dtype=int)
        low, high = np.nanmin(shapes, axis=1), np.nanmax(shapes, axis=1)
        margin = _MARGIN * (high - low).max(axis=1)[:, None]
        # Multiples of a power of two, so that every level of the pyramid keeps the pixel grid of the whole image.
        self._low = (np.maximum(np.floor(low - margin), 0) // 32 * 32).astype(np.int64)
        self._high = np.ceil(high + margin).astype(np.int64) + 1
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: Any) -> Any:
        index = int(index)
        if index not in self._kept:
            image = read_image(self._images[index])
            check_shape(self._shapes[index], image, "shapes")
            (x0, y0), (x1, y1) = self._low[index], self._high[index]
            squared = self._squared[index]
            part = image[y0:y1, x0:x1]
            crop = squared.image(part)
            self.sizes[index] = np.maximum(np.round(np.array(image.shape[1::-1]) * squared.factor), 1)
            if self._bytes + crop.nbytes > _KEPT:
                return crop
            self._kept[index] = crop if crop is not part or part.size == image.size else part.copy()
            self._bytes += crop.nbytes
        return self._kept[index]

    def inside(self, points: Any) -> np.ndarray:
        """Take points (n, ..., 2) of the images to the crops."""
        return np.stack(
            [s(p - low) for s, p, low in zip(self._squared, np.asarray(points, float), self._low, strict=True)]
        )

    def whole(self, index: int) -> tuple[np.ndarray, Squared]:
        """Return the whole image with its pixels made square, and how."""
        squared = self._squared[index]
        return squared.image(read_image(self._images[index])), squared

    def outside(self, points: np.ndarray, *, squared: bool = False, rows: Any = None) -> np.ndarray:
        """Take points (n, ..., 2) of the crops, all or `rows`, to the images, or to those with square pixels."""
        if squared:
            rows = range(len(self)) if rows is None else rows
            return np.stack([p + self._low[i] * self._squared[i].factor for i, p in zip(rows, points, strict=True)])
        return np.stack([s.back(p) + low for s, p, low in zip(self._squared, points, self._low, strict=True)])
