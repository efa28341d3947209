"""Pictures as the search sees them: one grey float32 pyramid each, many of them in one flat buffer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._provenance import is_landmark_set
from ..images import channels_first, read_values
from ._kernels import halve

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
_SMALLEST = 8  # pixels along a side; below, no gradient is left to search on
_ALIGN = 32  # cut-outs start at multiples of this, so that every level keeps its pixel grid


def read_image(image: Any) -> np.ndarray:
    """Return an image that is large enough to be searched, (height, width) or (height, width, 3), in its own values."""
    array = read_values(image)
    if min(array.shape[:2]) < _SMALLEST:
        raise ValueError(
            f"image: got {array.shape[1]} x {array.shape[0]} pixels; expected at least {_SMALLEST} along each side."
        )
    return array


def split_set(images: Any, shapes: Any = None, groups: Any = None) -> tuple[Any, Any, Any]:
    """Return images, shapes and groups: those of a set of landmarks (`LandmarkSamples`), or what was given."""
    if not is_landmark_set(images):
        return images, shapes, groups
    if shapes is not None:
        raise ValueError("shapes: got shapes beside a set of landmarks; expected one of them.")
    paths = images.images
    if any(path is None for path in paths):
        lacking = [name for name, path in zip(images.names, paths, strict=True) if path is None]
        raise ValueError(
            f"{images.source or 'images'}: {len(lacking)} of {len(images)} have no image beside them, the first is "
            f"{lacking[0]}; expected one of the same name for each. Try --join-parts where files hold parts of images."
        )
    if images.frame != "pixels":
        raise ValueError(
            f"{images.source or 'images'}: got landmarks in the frame {images.frame!r}; expected pixels. "
            "Try image_size= (--image-size)."
        )
    return paths, images.shapes(), images.groups if groups is None else groups


def is_one_image(image: Any) -> bool:
    """Say whether this is one image, not several: a path, a Pillow image, or an array of any library."""
    if isinstance(image, str | os.PathLike) or hasattr(image, "getbands"):
        return True
    shape = tuple(getattr(image, "shape", ()))
    one = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 2, 3, 4))
    return one and str(getattr(image, "dtype", "")) != "object"


def image_count(images: Any) -> int | None:
    """Return the number of images in a batch, or None for a single image."""
    if is_one_image(images):
        return None
    shape = tuple(getattr(images, "shape", ()))  # of an array of any library
    if shape and str(images.dtype) != "object" and len(shape) not in (3, 4):
        raise ValueError(
            f"images: got an array of shape {shape}; expected one image (height, width) or (height, width, 3), or a "
            "list of images."
        )
    refuse_channels_first(images, "images")
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, Mapping):
        return len(images)
    raise ValueError(f"images: got a {type(images).__name__}; expected an array, a path, or a list of them.")


def refuse_channels_first(images: Any, name: str) -> None:
    """Refuse an array that may be one image, or a batch, whose channels stand before its rows.

    Three or four grey images in one array look like one in colours.
    """
    shape = tuple(getattr(images, "shape", ()))
    hint = channels_first(shape, name) if str(getattr(images, "dtype", "")) != "object" else ""
    if hint and not (len(shape) == 3 and shape[0] == 1):  # a batch of one grey image is the same either way
        several = f", or list({name}) if they are {shape[0]} grey images" if len(shape) == 3 else ""
        raise ValueError(f"{name}: got shape {shape}; expected (height, width, 3) of each image.{hint[:-1]}{several}.")


def grey(array: np.ndarray) -> np.ndarray:
    """Return a checked image as float32 in 0..1 from its darkest to its brightest value.

    Raises
    ------
    ValueError
        When all values are equal.
    """
    # float32 holds all values of short types; others need double precision until brightness and contrast are out.
    kind: Any = np.float32 if array.dtype.itemsize <= 2 or array.dtype == np.float32 else np.float64
    if array.dtype.kind == "f":
        largest = max(abs(float(array.min())), abs(float(array.max())))
        # Otherwise differences and sums would overflow, or vanish.
        if largest > 0 and not 1e-30 < largest < 1e30:
            kind = np.float64
            array = array.astype(kind) / largest
    if array.ndim == 3:
        array = array.astype(kind) @ _LUMINANCE.astype(kind)
    low, high = float(array.min()), float(array.max())
    if not high > low:
        raise ValueError(f"image: got the same value {low:g} everywhere; expected an image of something.")
    return np.asarray((array.astype(kind) - kind(low)) / kind(high - low), dtype=np.float32)


def _pyramid(image: np.ndarray, n_levels: int) -> list[np.ndarray]:
    levels = [np.ascontiguousarray(image, dtype=np.float32)]
    while len(levels) < n_levels and min(levels[-1].shape) >= 2 * _SMALLEST:
        above = levels[-1]
        below = np.empty((above.shape[0] // 2, above.shape[1] // 2), np.float32)
        halve(above, below)
        levels.append(below)
    return levels


@dataclass
class ImageBank:
    """Pyramids of many images in one buffer.

    Parameters
    ----------
    buffer : ndarray of float32 (n,)
    table : ndarray of int64 (n_images, n_levels, 3)
        Offset, height and width of each level; levels above `first` and below `last` repeat the nearest one stored.
    first, last : ndarray of int (n_images,)
        Finest and coarsest level stored.
    origin : ndarray of float64 (n_images, 2)
        Where the first pixel of the finest level stands in the image, (x, y).
    sizes : ndarray of int (n_images, 2)
        Width and height of the whole image.
    """

    buffer: np.ndarray
    table: np.ndarray
    first: np.ndarray
    last: np.ndarray
    origin: np.ndarray
    sizes: np.ndarray

    @classmethod
    def build(
        cls, images: Sequence[Any], regions: Sequence[Any], pixel: Sequence[float], n_levels: int = 10
    ) -> ImageBank:
        """Store what a search can see.

        Parameters
        ----------
        images : sequence of ndarray
            Checked images.
        regions : sequence of (x0, y0, x1, y1) or None
            Part of each image to keep; None keeps all.
        pixel : sequence of float
            The smallest distance, in pixels of the image, at which it will be sampled; finer levels are not stored.
        """
        rows, first, last, origin, sizes, parts = [], [], [], [], [], []
        offset = 0
        for image, region, step in zip(images, regions, pixel, strict=True):
            height, width = image.shape[:2]
            x0, y0 = 0, 0
            if region is not None:
                x1, y1 = min(width, math.ceil(region[2]) + 1), min(height, math.ceil(region[3]) + 1)
                # At least two units wide, where the image allows it, so that there are coarse levels.
                x0, y0 = (
                    int(max(0, min(math.floor(low), high - 2 * _ALIGN))) // _ALIGN * _ALIGN
                    for low, high in zip(region[:2], (x1, y1), strict=True)
                )
                image = image[y0:y1, x0:x1]
            levels = _pyramid(grey(image), n_levels)
            top = min(level_of(step), len(levels) - 1)
            row = []
            for level, array in enumerate(levels):
                if level >= top:
                    parts.append(array.ravel())
                    row.append((offset, *array.shape))
                    offset += array.size
            rows.append([row[0]] * top + row + [row[-1]] * (n_levels - len(levels)))
            first.append(top)
            last.append(len(levels) - 1)
            origin.append((x0, y0))
            sizes.append((width, height))
        return cls(
            np.concatenate(parts),
            np.array(rows, dtype=np.int64),
            np.array(first),
            np.array(last),
            np.array(origin, dtype=np.float64),
            np.array(sizes),
        )

    @classmethod
    def join(cls, banks: Sequence[ImageBank]) -> ImageBank:
        """Put the images of many banks into one."""
        ends = np.cumsum([len(bank.buffer) for bank in banks])
        buffer = np.empty(ends[-1], np.float32)
        tables = []
        for bank, end in zip(banks, ends, strict=True):
            start = end - len(bank.buffer)
            buffer[start:end] = bank.buffer
            bank.buffer = buffer[start:end]  # lets go of its own copy, so that no more than one is held in all
            tables.append(bank.table + np.array([start, 0, 0]))
        names = ("first", "last", "origin", "sizes")
        return cls(buffer, np.concatenate(tables), *(np.concatenate([getattr(b, n) for b in banks]) for n in names))

    def place(self, index: np.ndarray, flip: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which level to sample at distances of `step` pixels, and the map of coordinates to it.

        Returns
        -------
        table : ndarray of int64 (n, 3)
        to_level : ndarray of float64 (n, 2, 2)
            Factor and shift of each axis: x of the level = factor * x of the image + shift. For a flipped view the
            coordinates are those of the mirrored image.
        """
        level = np.clip(level_of(step), self.first[index], self.last[index])
        factor = 0.5**level
        shift = (0.5 - self.origin[index]) * factor[:, None] - 0.5
        to_level = np.empty((len(index), 2, 2))
        to_level[:, :, 0] = factor[:, None]
        to_level[:, :, 1] = shift
        to_level[:, 0, 1] += np.where(flip, factor * (self.sizes[index, 0] - 1), 0.0)
        to_level[:, 0, 0] = np.where(flip, -factor, factor)
        return np.ascontiguousarray(self.table[index, level]), to_level


def level_of(step: Any) -> Any:
    """Return the pyramid level whose pixels are nearest, in octaves, to a distance of `step` pixels."""
    level = np.maximum(np.floor(np.log2(np.maximum(step, 1e-9)) + 0.5), 0).astype(int)
    return int(level) if np.ndim(level) == 0 else level
