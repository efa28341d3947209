"""The projection of many shapes at once, in memory of NumPy."""

from __future__ import annotations

import math

import numpy as np

from ._array import leave
from ._operands import CACHED_SHAPES, Operands, refuse_missing

_MANY = 2500  # shapes in one product: waking the threads of BLAS costs little, and the coefficients stay in the cache


def project_in_blocks(basis: Operands, shapes: np.ndarray) -> np.ndarray:
    """Project with as few passes over memory, and as few products that wake the threads of BLAS, as there are."""
    flat, context, basis = basis._enter(shapes)
    limit = basis.limit
    if flat.ndim == 1 or math.prod(flat.shape[:-1]) <= CACHED_SHAPES:
        b = np.dot(flat - basis._flat_mean, basis._transposed)
        refuse_missing(basis, flat, b)
        if limit is not None:
            limit._clip_in_place(b, basis._scale)
        out = np.dot(b, basis.components)
        out += basis._flat_mean
        return np.asarray(leave(out.reshape(shapes.shape), context.given))
    # The mean is taken off the coefficients, which are few, and comes back as one more mode of coefficient 1.
    rows = flat.reshape(-1, flat.shape[-1])
    widened = np.zeros((rows.shape[1], len(basis._scale) + 1), dtype=rows.dtype)
    widened[:, :-1] = basis._transposed
    offset = np.dot(basis._flat_mean, widened)
    offset[-1] = -1
    with_mean = np.concatenate([basis.components, basis._flat_mean[None]])
    out = np.empty(rows.shape, dtype=rows.dtype)
    buffer = np.empty((min(_MANY, len(rows)), len(with_mean)), dtype=rows.dtype)
    for start in range(0, len(rows), _MANY):
        block = rows[start : start + _MANY]
        b = np.matmul(block, widened, out=buffer[: len(block)])
        b -= offset
        refuse_missing(basis, flat, b)
        if limit is not None:
            limit._clip_in_place(b, basis._scale)
        np.matmul(b, with_mean, out=out[start : start + _MANY])
    return np.asarray(leave(out.reshape(shapes.shape), context.given))
