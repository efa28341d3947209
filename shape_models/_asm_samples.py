"""Samples as an ASM takes them: tables of features or arrays of landmarks, complete or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from ._array import as_numpy, as_shapes, refuse_masked
from ._provenance import recall


def as_samples(asm: Any, shapes: Any, *, reset: bool) -> np.ndarray:
    """Return the samples of an `ASM`, a table or an array of shapes, checked; with `reset` they say what it is for."""
    shapes = shapes if reset else recall(asm, shapes)
    refuse_masked(shapes)
    # Tables go to scikit-learn, which also keeps the names of their columns; the door takes everything else.
    table = hasattr(shapes, "columns") or (type(shapes) is np.ndarray and shapes.dtype.names is None)
    if not table:
        shapes = as_numpy(shapes)
    if shapes.ndim == 2:
        if not reset and len(asm.event_shape_) == 2 and shapes.shape == asm.event_shape_:
            raise ValueError(
                f"shapes: got one shape, {shapes.shape}; expected (n_samples, n_landmarks, n_dims). Try shapes[None]."
            )
        array = validate_data(
            asm,
            shapes,
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
    elif shapes.ndim < 2:
        raise ValueError(
            f"shapes: got an array of shape {shapes.shape}; expected (n_samples, n_landmarks, n_dims) or "
            "(n_samples, n_features). Try shapes[None] for one shape. (Reshape your data.)"
        )
    else:
        event: tuple[int, ...] = () if reset else asm.event_shape_
        k, d = event if len(event) == 2 else (None, None)
        least = 2 if reset else 1
        array = as_shapes(shapes, n_landmarks=k, n_dims=d, min_samples=least, min_landmarks=1, allow_nan=True)
        if reset:
            asm.n_features_in_ = array.shape[1] * array.shape[2]
            if hasattr(asm, "feature_names_in_"):
                del asm.feature_names_in_
    if reset:
        asm.event_shape_ = array.shape[1:]
    elif array.shape[1:] != asm.event_shape_:
        same = math.prod(array.shape[1:]) == asm.n_features_in_
        hint = f" Try shapes.reshape(-1, {', '.join(map(str, asm.event_shape_))})." if same else ""
        raise ValueError(f"shapes: got shapes of {array.shape[1:]}; expected {asm.event_shape_}, as in fit.{hint}")
    return np.asarray(array)


def where_seen(array: np.ndarray, act: Callable[..., Any], shape: tuple[int, ...]) -> np.ndarray:
    """Call `act` on the complete shapes, and on the others with a confidence of 0 for what is missing."""
    seen = ~np.isnan(array) if array.ndim == 2 else ~np.isnan(array[..., 0])
    full = seen.all(axis=1)
    if full.all():
        return np.asarray(act(array))
    if not seen.any(axis=1).all():
        index = int(np.flatnonzero(~seen.any(axis=1))[0])
        raise ValueError(f"shape {index} has no landmark at all; expected at least one in each.")
    result = np.empty((len(array), *shape), dtype=array.dtype)
    if full.any():
        result[full] = act(array[full])
    result[~full] = act(array[~full], confidence=seen[~full])
    return result


def flat_rows(array: np.ndarray) -> np.ndarray:
    """Return one row a sample."""
    return array.reshape(len(array), -1)
