"""What is refused before a search begins: parameters, groups, and shapes that cannot belong to their image."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import as_column, as_count, as_numpy
from .._posterior import solve
from .._problem import Problem
from ..images import check_boxes_inside, check_inside

_LEAST_EXTENT = 2.0  # pixels between the outermost landmarks of a start: below, there is nothing to see between them
_MOST_EXTENT = 100.0  # and in sides of the image: above, an image is less than a pixel of the model


def check_count(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number from `least` on; None is left to the caller's default."""
    if value is not None:
        as_count(value, name, least, most, expected=f"a whole number of at least {least}")


def check_jitter(jitter: Any) -> tuple[float, float, float]:
    values = as_numpy(jitter, "jitter").astype(float)
    if values.shape != (3,) or not np.isfinite(values).all() or (values < 0).any() or values[1] >= 1:
        raise ValueError(
            f"jitter: got {jitter!r}; expected three numbers that are not negative: position and size as fractions of "
            "the box (size below 1), rotation in radians."
        )
    return float(values[0]), float(values[1]), float(values[2])


def check_groups(groups: Any, n: int) -> np.ndarray:
    array = as_column(groups, "groups")
    if array.shape != (n,):
        raise ValueError(f"groups: got shape {array.shape}; expected ({n},), one for each image.")
    return array


def check_shape(shape: np.ndarray, image: np.ndarray, name: str) -> None:
    check_inside(shape, image.shape[1::-1], name=name)
    _check_extent(shape, image, name)


def check_start(shape: np.ndarray, image: np.ndarray) -> None:
    """Refuse a start that the image does not show at all; most of it may lie outside."""
    low, high = shape.min(axis=0), shape.max(axis=0)
    check_boxes_inside([*low, *high], image.shape[1::-1], name="start")
    _check_extent(shape, image, "start")


def check_alike(shape: np.ndarray, model: Any) -> None:
    """Refuse a start that looks like the mean in no position: a search from it ends anywhere and does not know it."""
    problem = Problem.of(model, shape, name="initial")
    solve(problem)
    problem.refuse()


def _check_extent(shape: np.ndarray, image: np.ndarray, name: str) -> None:
    height, width = image.shape[:2]
    low, high = shape.min(axis=0), shape.max(axis=0)
    extent = float((high - low).max())
    if extent < _LEAST_EXTENT:
        raise ValueError(
            f"{name}: got landmarks within {extent:.3g} pixels of each other; expected pixels of the image. "
            "Try multiplying with its size if they are fractions of it."
        )
    if extent > _MOST_EXTENT * max(width, height):
        raise ValueError(
            f"{name}: got landmarks {extent:.3g} pixels apart in an image of {width} x {height}; expected pixels of it."
        )


def numbers(value: Any, event: tuple[int, ...], name: str) -> np.ndarray:
    if value is None:
        raise ValueError(f"{name}: got None; expected an array of shape {event}.")
    try:
        array = as_numpy(value, name).astype(float)
    except TypeError as error:
        raise ValueError(f"{name}: got no numbers; expected an array of shape {event}. {error}") from None
    if array.shape != event:
        raise ValueError(f"{name}: got {array.shape}; expected an array of shape {event}.")
    return array
