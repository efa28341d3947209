"""What is asked of a search: one image or many, each with one box or shape, several, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._array import as_numpy
from .._provenance import is_landmark_set
from ._crops import as_spacing
from ._images import image_count


class Request(NamedTuple):
    """One search that was asked for: in which image, its number in the call, from what box or shape, on what maps."""

    image: Any
    number: int
    given: Any
    maps: Any
    spacing: Any = None


def _per_image(values: Any, n: int, event: tuple[int, ...], name: str, single: bool) -> list[Any]:
    """Return what is given for each image: one value, or an array of several; each is judged when it has its turn."""
    one = f"{event} for one or (m, {str(event)[1:].rstrip(',)')}) for several in one"
    try:
        array = as_numpy(values, name).astype(float)
    except (TypeError, ValueError) as error:
        if not single and isinstance(values, list | tuple | np.ndarray) and len(values) == n:
            return [_array_or_given(value, name) for value in values]
        raise ValueError(
            f"{name}: got no numbers; expected an array of shape {one if single else (n, *event)}. {error}"
        ) from None
    if single:
        if array.shape == event or (array.ndim == len(event) + 1 and array.shape[1:] == event):
            return [array]
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected {one} image.")
    if n == 0 and array.size == 0:
        return []
    if array.shape[:1] != (n,) or array.shape[array.ndim - len(event) :] != event or array.ndim > len(event) + 2:
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected {(n, *event)}, one for each image.")
    return list(array)


def _array_or_given(value: Any, name: str) -> Any:
    if value is None:
        return None
    try:
        return as_numpy(value, name).astype(float)
    except (TypeError, ValueError):
        return value


def arranged(results: list[Any], counts: Any) -> Any:
    """Return results as they were asked for, see `requests`."""
    if counts is None:
        return results[0]
    if isinstance(counts, int):
        return results
    every = iter(results)
    return [next(every) if count is None else [next(every) for _ in range(count)] for count in counts]


def requests(
    images: Any, given: Any, event: tuple[int, ...], name: str, heatmaps: Any, spacing: Any = None
) -> tuple[list[Request], list[int | None] | int | None]:
    """Return one request for each search, and how many there are for each image.

    None is a single search, a number so many in a single image, and a list one of these for each image.
    """
    images = images.images if is_landmark_set(images) else images
    count = image_count(images)
    single = count is None
    many: Sequence[Any] = [images] if single else images
    n = len(many)
    maps: list[Any] = [None] * n
    if heatmaps is not None:
        if not single and not hasattr(heatmaps, "__len__"):
            raise ValueError(f"heatmaps: got a {type(heatmaps).__name__}; expected a list, one for each image.")
        maps = [heatmaps] if single else list(heatmaps)
        if len(maps) != n:
            raise ValueError(f"heatmaps: got {len(maps)}; expected one array for each of {n} images.")
    spaced = as_spacing(spacing, n)
    values = [None] * n if given is None else _per_image(given, n, event, name, single)
    asked, counts = [], []
    for i, value in enumerate(values):
        several = isinstance(value, np.ndarray) and value.ndim == len(event) + 1 and value.shape[1:] == event
        counts.append(len(value) if several else None)
        asked += [
            Request(many[i], i, one, maps[i], None if spaced is None else spaced[i])
            for one in (value if several else [value])
        ]
    return asked, counts[0] if single else counts
