"""The doors through which numbers and points come into this package."""

from __future__ import annotations

import numpy as np

from shape_models._array import (
    LARGEST,
    DegenerateShapeError,
    as_array,
    as_shapes,
    as_weights,
    refuse_extremes_of,
    to_numpy,
)
from shape_models._typing import ArrayLike


def as_reals(value: ArrayLike, name: str) -> np.ndarray:
    """Return numbers as an array of float64 of its own; NaN and infinity are left to the caller.

    Raises
    ------
    TypeError
        For masked arrays, alone or in a list, and for anything but real numbers.
    ValueError
        For a list whose parts differ in length.
    """
    return np.array(to_numpy(as_array(value, name)), dtype=np.float64)


def as_points(value: ArrayLike, name: str, n_dims: int | tuple[int, ...]) -> np.ndarray:
    """Return points of shape (..., n, dims) in which NaN marks a missing one.

    OpenCV writes n points as (n, 1, dims). No pose follows from a single point, so that this axis is no set of points.
    """
    points = as_shapes(to_numpy(as_array(value, name)), name=name, n_dims=n_dims, allow_nan=True, allow_inf=True)
    return points[..., 0, :] if points.ndim > 2 and points.shape[-2] == 1 else points


def check_points(
    object_points: ArrayLike, image_points: ArrayLike, image_dims: int | tuple[int, ...] = 2,
    *, name: str = "image_points",
) -> tuple[np.ndarray, np.ndarray, bool]:  # fmt: skip
    """Return object points (1 or b, n, 3), image points (b, n, dims), and whether this is a single problem.

    `name` is what the image points are called.
    """
    objects = as_points(object_points, "object_points", 3)
    images = as_points(image_points, name, image_dims)
    for what, points in (("object_points", objects), (name, images)):
        if points.ndim > 3:
            raise ValueError(
                f"{what}: got shape {points.shape}; expected at most one leading dimension. Try "
                f"reshape(-1, n, {points.shape[-1]})."
            )
    if objects.shape[-2] != images.shape[-2]:
        raise ValueError(
            f"{name}: got {images.shape[-2]} points; expected {objects.shape[-2]}, as many as the object has, in the "
            "same order."
        )
    if not objects.shape[-2]:
        raise DegenerateShapeError(f"{name}: got 0 points; expected at least 4.")
    single = objects.ndim == 2 and images.ndim == 2
    # Writable too: the compiled code would be compiled again for read-only arrays.
    objects, images = (np.require(a, np.float64, ["C", "W"]) for a in (objects, images))
    objects = _without_extremes(objects.reshape(-1, *objects.shape[-2:]), "object_points")
    images = _without_extremes(images.reshape(-1, *images.shape[-2:]), name)
    if len(objects) not in (1, len(images)):
        if len(images) != 1:
            raise ValueError(f"{name}: got {len(images)} sets of points; expected {len(objects)}, or one for all.")
        images = np.ascontiguousarray(np.broadcast_to(images, (len(objects), *images.shape[1:])))
    return objects, images, single


def _without_extremes(points: np.ndarray, name: str) -> np.ndarray:
    """Refuse infinity and coordinates whose squares overflow; in a batch such a row is missing and harms no other."""
    far = (np.abs(points) > LARGEST).any(axis=(1, 2))  # False for NaN
    if far.any() and len(points) == 1:
        as_shapes(points[0], name=name, allow_nan=True)  # names an infinite coordinate
        refuse_extremes_of(points, name)
    return np.where(far[:, None, None], np.nan, points) if far.any() else points


def refuse_fractions(landmarks: ArrayLike, focal_length: np.ndarray) -> None:
    """Refuse landmarks in fractions of the image for a camera that counts pixels: a face of one pixel has no pose."""
    points = as_points(landmarks, "landmarks", 2)
    low, high = np.nanmin(points, initial=np.inf), np.nanmax(points, initial=-np.inf)
    # Fractions are in [0, 1] or [-1, 1], hidden landmarks somewhat outside; a focal length above 4 is in pixels.
    if -1.5 <= low < high <= 1.5 and focal_length.min() > 4:
        hint = " Try landmarks * [width, height]." if low > -0.5 else ""
        raise ValueError(
            f"landmarks: got coordinates from {low:.3g} to {high:.3g}, fractions of the image; expected pixels, as the "
            f"camera counts.{hint}"
        )


def check_weights(weights: ArrayLike | None, b: int, n: int) -> np.ndarray:
    """Return weights of shape (1, n) or (b, n), writable and in C order; None means 1."""
    if weights is None:
        return np.ones((1, n))
    array = to_numpy(as_array(weights, "weights", booleans=True))
    shape = (b, n) if array.ndim > 1 else (n,)
    return np.array(as_weights(array, shape), order="C").reshape(-1, n)
