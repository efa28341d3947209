"""Weights of landmarks, relative to each other, and confidence, from 0 to 1."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from ._entry import as_array, as_numpy
from ._library import beside, namespace_of, to_numpy, values_known

F = TypeVar("F", bound=Callable[..., Any])


def as_weights(weights: Any, shape: tuple[int, ...], *, name: str = "weights") -> np.ndarray:
    """Check relative landmark weights and broadcast them to `shape`.

    Parameters
    ----------
    weights : array_like of shape (n_landmarks,) or (..., n_landmarks)
        Non-negative and finite; booleans are a mask (True = use).
    shape : tuple of int
        The shape to broadcast to, without the coordinate axis.
    name : str
        What messages call the argument.

    Returns
    -------
    ndarray of float64 of shape `shape`, read-only when broadcast.

    Raises
    ------
    ValueError
        For negative, infinite or NaN weights and for shapes that do not broadcast.
    TypeError
        For what is no array of numbers or booleans; see `as_array`.
    """
    array = as_numpy(weights, name, booleans=True).astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers. Try 0 for landmarks to be ignored.")
    if (array < 0).any():
        raise ValueError(f"{name}: got {array.min():g}; expected numbers that are not negative.")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name}: got shape {array.shape}; expected one weight for each landmark, {shape[-1:]} or {shape}."
        ) from None


def either(*shapes: tuple[int, ...]) -> str:
    """Return the different ones of some shapes, in words."""
    return " or ".join(dict.fromkeys(map(str, shapes)))


def as_confidence(confidence: Any, like: Any, shape: tuple[int, ...], *, name: str = "confidence") -> Any:
    """Check how far each landmark is trusted, and return it in the library, type and device of the shapes.

    Parameters
    ----------
    confidence : array_like of shape (n_landmarks,) or (..., n_landmarks)
        From 0 (not at all) to 1 (fully); booleans are a mask (True = seen).
    like : array
        The shapes, in the type to compute in.
    shape : tuple of int
        What it must broadcast to: the leading axes of the shapes and their landmarks.
    name : str
        What messages call the argument.

    Returns
    -------
    array of shape (n_landmarks,) or (..., n_landmarks), of the library of `like`

    Raises
    ------
    ValueError
        For numbers below 0 or above 1, NaN, and shapes that do not broadcast.
    TypeError
        For what is no array of numbers or booleans; see `as_array`.
    """
    xp = namespace_of(like)
    values = as_array(confidence, name, booleans=True)
    given = tuple(values.shape)
    lead = len(shape) - len(given)
    fits = lead >= 0 and len(given) > 0 and given[-1] == shape[-1]
    if not fits or any(a not in (1, b) for a, b in zip(given, shape[lead:], strict=True)):
        hint = "" if given else f" Try numpy.full({shape[-1]}, {name})."
        raise ValueError(
            f"{name}: got shape {given}; expected one number a landmark, {either((shape[-1],), shape)}.{hint}"
        )
    values = beside(values, like)
    if values_known(values) and not bool(xp.all((values >= 0) & (values <= 1))):
        off = to_numpy(values)
        worst = off[~((off >= 0) & (off <= 1))][0]
        raise ValueError(
            f"{name}: got {worst:g}; expected numbers from 0 to 1. Try 0 for landmarks to be ignored, and dividing "
            "scores by their largest possible value."
        )
    return values


def formerly_weights(method: F) -> F:
    """Let a method take its confidence by the name `weights` too, which it had before."""

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, weights: Any = None, **options: Any) -> Any:
        if weights is not None:
            if len(args) > 1 or options.get("confidence") is not None:
                raise TypeError("got confidence= and weights=, which was its name before; expected one of them.")
            warnings.warn("weights= was renamed: use confidence=.", FutureWarning, stacklevel=2)
            options["confidence"] = weights
        return method(self, *args, **options)

    return cast(F, wrapper)
