"""The modes of a covariance: how many count, how far they are shrunk, and which way they point."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from ._array import DegenerateShapeError, as_count
from ._options import check_numbers, is_number

_EPS = float(np.finfo(np.float64).eps)


class Modes(NamedTuple):
    """The modes as orthonormal rows (q, p), the variances of their coefficients, and what is left beside them."""

    components: np.ndarray
    variances: np.ndarray
    noise: float  # variance of a coordinate outside the modes
    shrinkage: float  # weight of the mean variance


def check_settings(asm: Any, n: int, p: int) -> None:
    """Raise unless the parameters of an `ASM` suit n shapes of p coordinates."""
    most = min(n - 1, p)
    k = asm.n_components
    if isinstance(k, Integral) and not isinstance(k, bool):
        if not 1 <= int(k) <= most:
            raise ValueError(
                f"n_components: got {k}; expected 1 to min(n_samples - 1, n_features) = {most} for {n} shapes of "
                f"{p} coordinates, a fraction of the variance in (0, 1), or None."
            )
    elif k is not None and (not is_number(k) or not 0 < float(k) < 1):
        raise ValueError(f"n_components: got {k!r}; expected a count, a fraction in (0, 1), or None for all.")
    a = asm.shrinkage
    if a is not None and a not in ("ledoit_wolf", "oas"):
        if not is_number(a) or not 0 <= float(a) <= 1:
            raise ValueError(f"shrinkage: got {a!r}; expected 'ledoit_wolf', 'oas', a number in [0, 1] or None.")
    check_numbers(tol=asm.tol, above=True)
    as_count(asm.max_iter, "max_iter", expected="a count of at least 1")


def refuse_equal_shapes(total_variance: float, mean: np.ndarray) -> None:
    """Raise where the shapes vary by rounding errors only."""
    # The rounding of coordinates as large as those of the mean.
    if math.sqrt(total_variance) <= 8 * _EPS * float(np.linalg.norm(mean)):
        raise DegenerateShapeError("all shapes are equal; expected shapes that vary, at least in one coordinate.")


def count_modes(n_components: Any, values: np.ndarray, n: int, p: int) -> int:
    """Return how many modes a count, a fraction of the variance, or None for all, asks for."""
    if isinstance(n_components, Integral):
        return int(n_components)
    # n shapes span n - 1 directions about their mean; eigenvalues below the rounding of the largest are none.
    rank = int((values[: n - 1] > values[0] * max(n, p) * _EPS).sum())
    if n_components is None:
        return rank
    explained = np.cumsum(values) / values.sum()
    return min(int(np.searchsorted(explained, float(n_components), side="right")) + 1, rank)


def find_modes(
    asm: Any,
    mean: np.ndarray,
    matrix: np.ndarray,
    n: int,
    *,
    lift: Callable[[np.ndarray], np.ndarray] | None = None,
    fourth: float | None = None,
    n_modes: int | None = None,
) -> Modes:
    """Return the modes of the covariance, or of a matrix with the same eigenvalues whose vectors `lift` turns."""
    p, total = mean.size, float(np.trace(matrix))
    refuse_equal_shapes(total, mean)
    if n_modes is None and isinstance(asm.n_components, Integral):
        n_modes = int(asm.n_components)
    values, vectors = _eigh(matrix, n_modes)
    q = count_modes(asm.n_components, values, n, p) if n_modes is None else n_modes
    values, vectors = values[:q], vectors[:, :q]
    components = (vectors if lift is None else lift(vectors)).T
    a = _shrinkage(asm.shrinkage, total, float(np.square(matrix).sum()), n, p, fourth)
    variances = (1 - a) * values + a * total / p
    noise = (total - float(variances.sum())) / (p - q) if q < p else 0.0
    if noise <= variances[0] * max(n, p) * _EPS:  # nothing but rounding is left
        noise = 0.0
    size = np.abs(components)
    # The first of the entries that are largest to rounding: symmetric shapes have such ties.
    lead = np.argmax(size >= (1 - 1e-6) * size.max(axis=1, keepdims=True), axis=1)
    components = components * np.where(components[np.arange(q), lead] < 0, -1.0, 1.0)[:, None]
    return Modes(components, variances, noise, a)


def _shrinkage(shrinkage: Any, total: float, square: float, n: int, p: int, fourth: float | None) -> float:
    """Return the weight a of the shrinkage; `square` is the sum of the squared eigenvalues."""
    if shrinkage is None:
        return 0.0
    if not isinstance(shrinkage, str):
        return float(shrinkage)
    mu = total * (n - 1) / n / p  # both estimates are stated for the divisor n
    square *= ((n - 1) / n) ** 2
    if shrinkage == "oas":  # Chen et al.; below it is Ledoit and Wolf's
        away = square / p**2 - mu**2 / p
        return 1.0 if away <= 0 else min((square / p**2 + mu**2) / ((n + 1) * away), 1.0)
    assert fourth is not None
    delta = square / p - mu**2
    beta = min((fourth / n - square) / (n * p), delta)
    return beta / delta if delta > 0 else 1.0


def _eigh(matrix: np.ndarray, n_largest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues in falling order, none negative, and eigenvectors as columns; all or the largest."""
    n = len(matrix)
    # A part of the spectrum is cheaper than all of it from about this size and below this fraction.
    if n_largest is not None and n >= 300 and n_largest <= n // 4:
        values, vectors = linalg.eigh(matrix, subset_by_index=(n - n_largest, n - 1))
    else:
        values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]
