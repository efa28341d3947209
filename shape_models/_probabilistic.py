"""The basis as a Gaussian: coefficients of partly seen shapes, likelihood, sampling, completion."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._array import device_of, is_traced, namespace_of, to_numpy

__all__ = ["weighted_coefficients"]


def _as_weights(weights: Any, flat: Any, event_shape: tuple[int, ...]) -> Any:
    """Check weights, and return them as (n_landmarks,) or (..., n_landmarks) beside the shapes."""
    xp = namespace_of(flat)
    n_landmarks = event_shape[0]
    given = tuple(getattr(weights, "shape", None) or np.shape(weights))
    if not isinstance(weights, type(flat)):
        weights = np.asarray(weights)
        if weights.dtype.kind not in "fiub":
            raise ValueError(f"weights: got an array of {weights.dtype}; expected numbers or booleans.")
        weights = xp.asarray(np.array(weights, dtype=np.float64), device=device_of(flat))
    w = xp.astype(weights, flat.dtype, copy=False)
    expected = (*flat.shape[:-1], n_landmarks)
    lead = len(expected) - len(given)
    fits = lead >= 0 and len(given) > 0 and given[-1] == n_landmarks
    if not fits or any(a not in (1, b) for a, b in zip(given, expected[lead:], strict=True)):
        raise ValueError(
            f"weights: got shape {given}; expected one weight for each landmark, ({n_landmarks},) or {expected}."
        )
    if not is_traced(w):
        try:
            good = bool(xp.all(xp.isfinite(w) & (w >= 0)))
        except RuntimeError:  # vmap has no values to look at
            good = True
        if not good:
            raise ValueError(
                "weights: got NaN, infinity or a negative number; expected finite numbers that are not negative. "
                "Try 0 for landmarks to be ignored."
            )
    return w


def _by_landmark(basis: Any) -> Any:
    """Return the modes as (n_landmarks, n_components, n_dims)."""
    xp = namespace_of(basis.components)
    event = basis.event_shape
    modes = xp.reshape(basis.components, (basis.components.shape[0], event[0], -1))
    return xp.permute_dims(modes, (1, 0, 2))


def _weighted_gram(basis: Any, w: Any) -> Any:
    """Return Σ wₖ VₖVₖᵀ over the landmarks, (..., n_components, n_components), as one matrix product."""
    xp = namespace_of(w)
    modes = _by_landmark(basis)
    n = modes.shape[1]
    outer = xp.matmul(modes, xp.permute_dims(modes, (0, 2, 1)))
    return xp.reshape(xp.matmul(w, xp.reshape(outer, (-1, n * n))), (*w.shape[:-1], n, n))


def weighted_coefficients(basis: Any, flat: Any, weights: Any) -> Any:
    """Return the coefficients of shapes (..., n_features) of which each landmark is trusted by its weight.

    With ρᵢ = σ²/λᵢ and N = V (I - W) Vᵀ the expectation of `ShapeBasis.encode` is (I + N (ρ - I))⁻¹ V W (x - mean), in
    which weights of 1 leave the identity without rounding. σ² = 0 is the pseudo-inverse Λ^½ (√W VᵀΛ^½)⁺ √W.
    """
    xp = namespace_of(flat)
    w = _as_weights(weights, flat, basis.event_shape)
    n_dims = flat.shape[-1] // w.shape[-1]
    spread = xp.reshape(xp.broadcast_to(xp.expand_dims(w, axis=-1), (*w.shape, n_dims)), (*w.shape[:-1], -1))
    d = xp.where(spread > 0, flat - basis._flat_mean, xp.zeros_like(flat))
    right = xp.matmul(d * spread, basis._transposed)
    _refuse(flat, right, spread, basis.event_shape)
    scale = basis._scale
    if basis.noise_variance > 0:
        tiny = float(xp.finfo(flat.dtype).eps) ** 2 * basis.noise_variance
        variance = xp.where(basis.variances > tiny, basis.variances, xp.full_like(basis.variances, tiny))
        excess = basis.noise_variance / variance - 1.0
        matrix = _weighted_gram(basis, 1.0 - w) * excess
        matrix = matrix + xp.eye(scale.shape[0], dtype=flat.dtype, device=device_of(flat))
    else:
        matrix = xp.expand_dims(scale, axis=-1) * _weighted_gram(basis, w) * scale
        rtol = scale.shape[0] * float(xp.finfo(flat.dtype).eps)
        right = right * scale
    if w.ndim == 1:
        columns = xp.reshape(right, (-1, right.shape[-1]))
        columns = xp.permute_dims(columns, (1, 0))
    else:
        columns = xp.expand_dims(right, axis=-1)
    if basis.noise_variance > 0:
        solution = xp.linalg.solve(matrix, columns)
    else:
        solution = xp.matmul(xp.linalg.pinv(matrix, rtol=rtol), columns)
    if w.ndim == 1:
        solution = xp.permute_dims(solution, (1, 0))
    solution = xp.reshape(solution, right.shape)
    return solution if basis.noise_variance > 0 else solution * scale


def _refuse(flat: Any, right: Any, spread: Any, event_shape: tuple[int, ...]) -> None:
    """Raise for NaN and infinity where the weight is positive."""
    xp = namespace_of(flat)
    if is_traced(flat):
        return
    try:
        if bool(xp.all(xp.isfinite(right))):
            return
        bad = to_numpy((spread > 0) & ~xp.isfinite(flat))
    except RuntimeError:  # vmap has no values to look at
        return
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = (*first[:-1], *(int(i) for i in np.unravel_index(first[-1], event_shape)))
        raise ValueError(
            f"shapes: got NaN or infinity at index {where}, where the weight is positive; expected finite numbers. "
            "Try a weight of 0 for what is missing."
        )
