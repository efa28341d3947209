"""Limits: the sets a coefficient vector may live in, and how a vector is brought into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ._array import as_array, as_count, as_numpy, beside, is_tensor, namespace_of, values_known
from ._options import as_generator
from ._typing import Array

_N_STEPS = 10  # two more than bring the secular equation to rounding for √λ twelve decades apart


class Limit:
    """A set of coefficient vectors, centred on the mean shape, and a way into it.

    A limit of your own derives from this class and defines `clip`.

    Examples
    --------
    >>> from shape_models import Box, Limit
    >>> isinstance(Box(3.0), Limit)
    True
    """

    def clip(self, coefficients: Array, scale: Array) -> Any:
        """Bring coefficients into the set.

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            Of any array library. Never written to.
        scale : array of shape (n_components,)
            The standard deviation of each mode, of the same library and type.

        Returns
        -------
        array of shape (..., n_components)

        Raises
        ------
        NotImplementedError
            For a limit that does not define it.
        """
        raise NotImplementedError

    def exceeds(self, coefficients: Array, scale: Array) -> Any:
        """Say which coefficients the limit changes because they lie outside: bool, (..., n_components).

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            Coefficients bᵢ of the modes, in the units of the shapes.
        scale : array of shape (n_components,)
            Standard deviations √λᵢ of the modes.

        Returns
        -------
        array of bool of shape (..., n_components)
            True where a coefficient is outside.
        """
        clipped = self.clip(coefficients, scale)
        return (clipped != coefficients) & (clipped == clipped)  # NaN is not outside

    def truncated_normal(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Draw standardised coefficients bᵢ/√λᵢ, (n_samples, n_components), from a normal law cut off at the limit.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        size : (int, int)
            Number of samples and number of modes.

        Raises
        ------
        ValueError
            For a limit that cannot be sampled.
        """
        raise ValueError(
            f"truncated: got True for a limit that cannot be sampled, {type(self).__name__}; expected Box, Ellipsoid, "
            "SoftBox or None. Try truncated=False."
        )

    def _within(self, coefficients: Any, scale: Any, xp: Any) -> Any:
        """Clip what is known to fit together, in a library that is known."""
        return self.clip(coefficients, scale)

    def _clip_in_place(self, coefficients: np.ndarray, scale: np.ndarray) -> None:
        """Clip the columns that have a scale; one more column holds 1 and stays."""
        own = coefficients[..., : len(scale)]
        own[...] = self.clip(own, scale)


@dataclass(frozen=True, repr=False)
class _OneNumber(Limit):
    """A limit that is one number; it equals that number only where a plain number means this limit."""

    value: float
    _name: ClassVar[str] = "value"

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            raise ValueError(
                f"{type(self).__name__}: got {self._name}={value!r}; expected a number of standard deviations. Try 3.0."
            )
        if math.isnan(value) or value < 0:
            raise ValueError(
                f"{type(self).__name__}: got {self._name}={value}; expected a number that is not negative. Try 3.0."
            )
        object.__setattr__(self, "value", float(value))

    def clip(self, coefficients: Array, scale: Array) -> Any:
        """Bring coefficients into the set, as the limit describes it; see `Limit.clip`.

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            Coefficients bᵢ of the modes, in the units of the shapes.
        scale : array of shape (n_components,)
            Standard deviations √λᵢ of the modes.

        Returns
        -------
        array of shape (..., n_components)
            Coefficients within the limit.
        """
        coefficients, scale = _arrays(coefficients, scale)
        return self._within(coefficients, scale, namespace_of(coefficients))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class _HalfWidth(_OneNumber):
    """What is bounded mode by mode, |bᵢ| ≤ k√λᵢ."""

    _name = "k"

    def __init__(self, k: float) -> None:
        super().__init__(k)

    @property
    def k(self) -> float:
        """Half width in standard deviations."""
        return self.value

    def exceeds(self, coefficients: Array, scale: Array) -> Any:
        """Say which ``|bᵢ|`` exceed k√λᵢ; see `Limit.exceeds`.

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            Coefficients bᵢ of the modes, in the units of the shapes.
        scale : array of shape (n_components,)
            Standard deviations √λᵢ of the modes.

        Returns
        -------
        array of bool of shape (..., n_components)
            True where a coefficient is outside.
        """
        coefficients, scale = _arrays(coefficients, scale)
        return namespace_of(coefficients).abs(coefficients) > _bound(self.value, scale)

    def truncated_normal(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Draw from the normal law cut off at ±k; see `Limit.truncated_normal`.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        size : (int, int)
            Number of samples and number of modes.

        Returns
        -------
        ndarray of the shape `size`
            Standardised coefficients bᵢ/√λᵢ within the limit.
        """
        return _truncated_normal(rng, size, self.value)


class Box(_HalfWidth):
    """The box ``|bᵢ| ≤ k√λᵢ``: the classical limit of an active shape model.

    Each coefficient is clipped by itself, which is the nearest point of the box. A mode without variance stays at 0.

    All laws of the projection hold: idempotent, non-expansive, firmly non-expansive, nearest point, mean fixed,
    coefficients inside the limit, the variance along each mode never grows, k → ∞ gives the PCA reconstruction and
    k = 0 the mean, more modes never increase the distance, the Jacobian is the projector on the modes not clipped.

    A plain number means a `Box`: ``ShapeBasis(..., limit=2.0).limit == 2.0``.

    Parameters
    ----------
    k : float
        Half width in standard deviations, not negative; infinity clips nothing but modes without variance.

    References
    ----------
    Cootes, Taylor, Cooper, Graham: Active Shape Models - Their Training and Application, CVIU 61 (1995), Eq. 10.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import Box
    >>> Box(3.0).clip(np.array([10.0, -1.0]), np.array([2.0, 1.0]))
    array([ 6., -1.])
    >>> Box(2.0) == 2.0
    True
    """

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int | float | np.integer | np.floating):
            return self.value == other
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __float__(self) -> float:
        return self.value

    def bound(self, scale: Array) -> Any:
        """Return the largest ``|bᵢ|``, k√λᵢ, for the standard deviations √λᵢ.

        Parameters
        ----------
        scale : array of shape (n_components,)
            Standard deviations √λᵢ of the modes.

        Returns
        -------
        array of shape (n_components,)
            The bound of each mode.
        """
        return _bound(self.value, _widths(scale))

    def _within(self, coefficients: Any, scale: Any, xp: Any) -> Any:
        bound = _bound(self.value, scale)
        if isinstance(coefficients, np.ndarray):
            return np.minimum(np.maximum(coefficients, -bound), bound)
        # The where is for the derivative: a mode of bound 0 is constant, though 0 lies inside [0, 0].
        moved = xp.where(bound > 0, coefficients, xp.zeros_like(bound))
        return _between(moved, -bound, bound, xp)

    def _clip_in_place(self, coefficients: np.ndarray, scale: np.ndarray) -> None:
        bound = _bound(self.value, scale)
        if coefficients.shape[-1] > len(scale):
            bound = np.concatenate([bound, np.ones(1, dtype=bound.dtype)])
        np.minimum(coefficients, bound, out=coefficients)
        np.maximum(coefficients, -bound, out=coefficients)


class SoftBox(_HalfWidth):
    """The box ``|bᵢ| ≤ sᵢ = k√λᵢ`` entered smoothly: bᵢ becomes sᵢ tanh(bᵢ / sᵢ).

    For gradients: the derivative is never exactly zero, so a coefficient outside the box can come back.

    Laws that hold: non-expansive, firmly non-expansive, mean fixed, coefficients inside the limit, the variance along
    each mode never grows, k → ∞ gives the PCA reconstruction and k = 0 the mean, more modes never increase the
    distance. Laws that do not: it is not idempotent (a second application shrinks again), not the nearest point, and
    its Jacobian is a projector only at the mean.

    Parameters
    ----------
    k : float
        Half width in standard deviations, not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import SoftBox
    >>> SoftBox(3.0).clip(np.array([0.1, 3.0, 100.0]), np.ones(3)).round(3)
    array([0.1  , 2.285, 3.   ])
    """

    def _within(self, coefficients: Any, scale: Any, xp: Any) -> Any:
        if self.value == math.inf:
            return xp.where(scale > 0, coefficients, xp.zeros_like(scale))
        bound = _bound(self.value, scale)
        inside = bound > 0
        safe = xp.where(inside, bound, xp.ones_like(bound))
        # Beyond 32 s the hyperbolic tangent is 1 to rounding, and b / s could overflow.
        near = _between(coefficients, -32 * bound, 32 * bound, xp)
        return xp.where(inside, safe * xp.tanh(near / safe), xp.zeros_like(bound))


class Ellipsoid(_OneNumber):
    """The Mahalanobis ball Σ bᵢ²/λᵢ ≤ r²: shapes no less likely than those at distance r.

    A vector outside goes to the nearest point of the ball in the Euclidean sense, bᵢ λᵢ/(λᵢ + μ), where μ > 0 solves
    the secular equation Σ λᵢ bᵢ²/(λᵢ + μ)² = r² (this differs from shrinking b towards 0, which keeps its direction
    and is not the nearest point). A mode without variance stays at 0.

    Laws that hold: idempotent, non-expansive, firmly non-expansive, nearest point, mean fixed, coefficients inside the
    limit, the total variance never grows, r → ∞ gives the PCA reconstruction and r = 0 the mean, more modes never
    increase the distance. Laws that do not: the variance along one single mode may grow (a coefficient depends on the
    others), and outside the ball the Jacobian is not a projector.

    Parameters
    ----------
    radius : float
        Mahalanobis radius r, not negative. For n modes, ``scipy.stats.chi(n).ppf(0.99)`` keeps 99 % of a Gaussian.

    Notes
    -----
    Newton's method on 1/‖·‖ as in Moré and Sorensen (Computing a Trust Region Step, SIAM J. Sci. Stat. Comput. 4,
    1983), from a lower bound of the root, where it converges monotonically; a fixed number of steps, so that it can be
    compiled and differentiated.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import Ellipsoid
    >>> Ellipsoid(2.0).clip(np.array([10.0, 0.0]), np.array([3.0, 1.0]))
    array([6., 0.])
    """

    _name = "radius"

    def __init__(self, radius: float) -> None:
        super().__init__(radius)

    @property
    def radius(self) -> float:
        """Mahalanobis radius of the ball."""
        return self.value

    def _within(self, coefficients: Any, scale: Any, xp: Any) -> Any:
        zero = xp.zeros_like(scale)
        if self.value == 0:
            return xp.where(scale < 0, coefficients, zero)
        if self.value == math.inf:
            return xp.where(scale > 0, coefficients, zero)
        # In units of the largest √λ; modes without variance count as λ = 1, b = 0, so nothing divides by zero.
        top = xp.max(scale)
        top = xp.where(top > 0, top, xp.ones_like(top))
        varies = scale > 0
        spread = xp.where(varies, scale / top, xp.ones_like(scale))
        b = xp.where(varies, coefficients, zero)
        # With w = rλ and ν = rμ the equation reads Σ (τᵢ/(wᵢ + ν))² = 1, which survives a tiny radius.
        tau = xp.abs(b) * (spread / top)
        w = self.value * spread * spread
        # The fourth root leaves room for squares; what is smaller is as good as zero.
        smallest = float(xp.finfo(w.dtype).smallest_normal) ** 0.25
        w = xp.where(w > smallest, w, xp.full_like(w, smallest))
        ratio = tau / xp.where(tau > w, tau, w)
        outside = xp.any(tau > w, axis=-1, keepdims=True) | (xp.sum(ratio * ratio, axis=-1, keepdims=True) > 1)
        # Two lower bounds of the root, for all wⱼ at once: wⱼ itself where the sum at ν = wⱼ is above 1, which finds
        # the decade; and Σ over {w ≤ wⱼ} of τ² / (wⱼ + ν)² ≤ 1. They leave few steps.
        column = xp.expand_dims(w, axis=-1)
        square = tau * tau
        above = xp.matmul(square, (column + w) ** -2.0) > 1
        below = xp.matmul(square, xp.astype(column <= w, w.dtype))
        nu = xp.maximum(xp.where(above, w, xp.zeros_like(w)), xp.sqrt(below + smallest * smallest) - w)
        nu = xp.max(nu, axis=-1, keepdims=True)
        nu = xp.where(outside & (nu > 0), nu, xp.zeros_like(nu))
        tau = xp.where(outside, tau, w / w.shape[0])  # inside: any values with a sum below 1, so ν stands still
        eps = float(xp.finfo(w.dtype).eps)
        for _ in range(_N_STEPS):
            q = tau / (w + nu)
            square = xp.sum(q * q, axis=-1, keepdims=True)
            slope = xp.sum(q * q / (w + nu), axis=-1, keepdims=True)
            step = square * (xp.sqrt(square) - 1.0) / slope
            nu = nu + xp.where(step > 0, step, xp.zeros_like(step))
            if isinstance(step, np.ndarray) and not (step > eps * nu).any():
                break
        return xp.where(outside, b * (w / (w + nu)), b)

    def truncated_normal(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Draw from the normal law cut off at radius r; see `Limit.truncated_normal`.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        size : (int, int)
            Number of samples and number of modes.

        Returns
        -------
        ndarray of the shape `size`
            Standardised coefficients bᵢ/√λᵢ within the limit.
        """
        from scipy.special import gammainc, gammaincinv

        rng, size = _draw(rng, size)
        z = rng.standard_normal(size)
        if self.value == math.inf or size[1] == 0:
            return z
        # A direction, and a radius whose square is χ² below r².
        half = size[1] / 2
        share = rng.random((size[0], 1)) * gammainc(half, 0.5 * self.value**2)
        radius = np.minimum(np.sqrt(2 * gammaincinv(half, share)), self.value)
        return np.asarray(z * (radius / np.linalg.norm(z, axis=1, keepdims=True)))


def _arrays(coefficients: Array, scale: Array) -> tuple[Any, Any]:
    values, widths = as_array(coefficients, "coefficients"), _widths(scale)
    if not values.ndim or values.shape[-1] != widths.shape[-1]:
        raise ValueError(
            f"coefficients: got shape {tuple(values.shape)} with a scale of shape {tuple(widths.shape)}; expected the "
            "same number of modes on the last axis of both."
        )
    if isinstance(values, np.ndarray):
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if namespace_of(values) is not namespace_of(widths):
        widths = as_numpy(widths, "scale") if isinstance(values, np.ndarray) else beside(widths, values)
    return values, widths


def _widths(scale: Array) -> Any:
    """Return standard deviations of modes, checked."""
    widths = as_array(scale, "scale")
    if widths.ndim != 1:
        raise ValueError(f"scale: got shape {tuple(widths.shape)}; expected (n_components,).")
    xp = namespace_of(widths)
    if values_known(widths) and not bool(xp.all((widths >= 0) & xp.isfinite(widths))):
        raise ValueError("scale: got NaN, infinity or a negative number; expected the standard deviation of each mode.")
    return widths


def _draw(rng: Any, size: Any) -> tuple[np.random.Generator, tuple[int, int]]:
    """Return the generator and the numbers of samples and modes of a draw, checked."""
    words = "(n_samples, n_components), two whole numbers that are not negative"
    if not isinstance(size, tuple | list | np.ndarray) or np.shape(size) != (2,):
        raise ValueError(f"size: got {size!r}; expected {words}.")
    n_samples, n_components = (as_count(count, "size", 0, expected=words) for count in size)
    return as_generator(rng), (n_samples, n_components)


def _truncated_normal(rng: np.random.Generator, size: tuple[int, int], k: float) -> np.ndarray:
    """Draw from the standard normal law cut off at ±k, by inverting its distribution function."""
    from scipy.special import ndtr, ndtri

    rng, size = _draw(rng, size)
    if k == math.inf:
        return rng.standard_normal(size)
    low = ndtr(-k)
    # Rounding of the inverse must not carry a draw past the limit.
    return np.asarray(np.clip(ndtri(low + rng.random(size) * (1 - 2 * low)), -k, k))


def _between(x: Any, low: Any, high: Any, xp: Any) -> Any:
    """Return x within two arrays; torch 2.8 cannot compile what array_api_compat makes of its own `clip`."""
    return x.clip(low, high) if is_tensor(x) else xp.clip(x, low, high)


def _bound(k: float, scale: Array) -> Any:
    if k == math.inf:
        xp = namespace_of(scale)
        return xp.where(scale > 0, xp.full_like(scale, math.inf), xp.zeros_like(scale))
    return k * scale


LimitLike: TypeAlias = float | Limit | None


def as_limit(limit: LimitLike) -> Limit | None:
    """Return a `Limit`, or None for no limit; a number k means ``Box(k)``.

    Raises
    ------
    ValueError
        For anything else.
    """
    if limit is None or isinstance(limit, Limit):
        return limit
    if isinstance(limit, int | float | np.integer | np.floating) and not isinstance(limit, bool):
        return Box(float(limit))
    raise ValueError(
        f"limit: got {limit!r}; expected a number of standard deviations, Box, Ellipsoid, SoftBox or None. Try 3.0."
    )
