"""The basis as a Gaussian: coefficients of partly seen shapes, likelihood, sampling, completion, report."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._array import as_confidence, as_count, is_tensor, to_numpy, values_known
from ._brief import brief
from ._operands import Operands, refuse_missing
from ._options import as_generator, check_flags
from ._scatter import squared_radius

_CHUNK = 2**22  # numbers in the largest temporary array of a completion


@brief
@dataclass(frozen=True, eq=False)
class Completion:
    """Completed shapes, with a covariance for each landmark that was missing: the result of `complete`.

    Attributes
    ----------
    shapes : array of shape (..., *event_shape)
        Seen landmarks as they were, missing ones at their conditional mean.
    covariance : array of shape (..., n_landmarks, n_dims, n_dims)
        Covariance of each landmark given those seen, zero for seen landmarks; with ``joint=True`` of shape
        (..., n_landmarks, n_dims, n_landmarks, n_dims), also between landmarks. A basis over plain features
        has n_dims = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ShapeBasis
    >>> basis = ShapeBasis(np.zeros((2, 2)), [[0.6, 0.0, 0.8, 0.0]], [1.0])
    >>> basis.complete([[3.0, 0.0], [np.nan, np.nan]]).shapes
    array([[3., 0.],
           [4., 0.]])
    """

    shapes: Any
    covariance: Any
    _law: Any = field(default=None, repr=False)

    def radius(self, level: float = 0.95) -> np.ndarray:
        """Return how far from its place, in units of `covariance`, a filled landmark lies with a probability at most.

        Of a completion by an `AlignedASM` as `ShapeFit.radius` has it, otherwise of the Gaussian.

        Parameters
        ----------
        level : float, default=0.95
            Probability, between 0 and 1.

        Returns
        -------
        ndarray of shape (..., n_landmarks)

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), [[0.6, 0.0, 0.8, 0.0]], [1.0])
        >>> basis.complete([[3.0, 0.0], [np.nan, np.nan]]).radius(0.95).round(2)
        array([2.45, 2.45])
        """
        covariance = to_numpy(self.covariance)
        if self._law is not None:
            return np.asarray(self._law.radius(covariance, level))
        joint = covariance.ndim >= 4 and covariance.shape[-4:-2] == covariance.shape[-2:]
        lead = covariance.shape[:-3] if joint else covariance.shape[:-2]
        return np.full(lead, math.sqrt(squared_radius(level, math.inf, covariance.shape[-1])))

    @property
    def skill(self) -> float | None:
        """How much better the model completes than its mean, pasted in where the rest of the shape tells.

        The fraction of the squared error that it takes away, of training shapes left out of it: 1 is perfect, 0 or
        less no better than the mean. None where that was not learned; see `ShapeFit.radius`.
        """
        tails = None if self._law is None else self._law.frame.tails()
        return None if tails is None else tails.skill

    @property
    def no_better_than_mean(self) -> bool:
        """Whether training shapes left out were completed no better than by the mean: then do not rely on it."""
        return self.skill is not None and self.skill <= 0


@brief
@dataclass(frozen=True, eq=False)
class BasisReport:
    """Which modes of shapes the limit of a basis clips, and how plausible the shapes are.

    Attributes
    ----------
    coefficients : array of shape (..., n_components)
        Not clipped.
    clipped : array of bool of shape (..., n_components)
        The modes outside the limit (by more than rounding). Where an `Ellipsoid` is left, all modes that move.
    amount : array of shape (..., n_components)
        What the limit adds to each coefficient, in units of the shape.
    distance : array of shape (...)
        Euclidean distance of the shape to its projection, the root of the sum over all coordinates.
    mahalanobis : array of shape (...)
        Root of Σ bᵢ²/λᵢ over the modes with variance.
    plausibility : array of shape (...)
        Fraction of the shapes of the model that are less likely than this one, in [0, 1]: P(χ²ₘ > D²) with
        D² = Σ bᵢ²/λᵢ + r²/σ² and m = n_features, where r is the distance to the span of the modes. Without noise
        variance σ² only the modes are judged: D² = Σ bᵢ²/λᵢ and m is the number of modes with variance. It is uniform
        on shapes drawn from the model; real shapes have heavier tails, so set a threshold on shapes known to be good.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ShapeBasis
    >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [4.0, 1.0], limit=2.0)
    >>> report = basis.report([[6.0, 1.0], [0.0, 0.0]])
    >>> report.clipped, report.distance.round(3), report.plausibility.round(3)
    (array([ True, False]), np.float64(2.0), np.float64(0.007))
    >>> print(report)
    1 of 2 modes clipped (mode 1), distance to the model 2, Mahalanobis distance 3.16, plausibility 0.00674
    """

    coefficients: Any
    clipped: Any
    amount: Any
    distance: Any
    mahalanobis: Any
    plausibility: Any

    def __str__(self) -> str:
        clipped, distance, mahalanobis, plausibility = (
            to_numpy(a) for a in (self.clipped, self.distance, self.mahalanobis, self.plausibility)
        )
        n_modes = clipped.shape[-1]
        if clipped.ndim == 1:
            modes = np.flatnonzero(clipped) + 1
            which = f" (mode{'s' * (len(modes) > 1)} {', '.join(map(str, modes))})" if 0 < len(modes) <= 6 else ""
            return (
                f"{len(modes)} of {n_modes} modes clipped{which}, distance to the model {float(distance):.3g}, "
                f"Mahalanobis distance {float(mahalanobis):.3g}, plausibility {float(plausibility):.3g}"
            )
        if distance.size == 0:
            return "no shapes"
        middle = ", ".join(
            f"{name} {np.median(values):.3g} (median)"
            for name, values in (
                ("distance to the model", distance),
                ("Mahalanobis distance", mahalanobis),
                ("plausibility", plausibility),
            )
        )
        return f"{int(clipped.any(axis=-1).sum())} of {distance.size} shapes clipped, {middle}"


def _by_landmark(basis: Operands) -> Any:
    """Return the modes as (n_landmarks, n_components, n_dims)."""
    xp = basis._context.xp
    event = basis.event_shape
    modes = xp.reshape(basis.components, (basis.components.shape[0], event[0], -1))
    return xp.permute_dims(modes, (1, 0, 2))


def _weighted_gram(basis: Operands, w: Any) -> Any:
    """Return Σ wₖ VₖVₖᵀ over the landmarks, (..., n_components, n_components), as one matrix product."""
    xp = basis._context.xp
    modes = _by_landmark(basis)
    n = modes.shape[1]
    outer = xp.matmul(modes, xp.permute_dims(modes, (0, 2, 1)))
    return xp.reshape(xp.matmul(w, xp.reshape(outer, (-1, n * n))), (*w.shape[:-1], n, n))


def _per_coordinate(w: Any, n_dims: int, xp: Any) -> Any:
    """Repeat weights (..., n_landmarks) for each coordinate: (..., n_features)."""
    repeated = xp.broadcast_to(xp.expand_dims(w, axis=-1), (*w.shape, n_dims))
    return xp.reshape(repeated, (*w.shape[:-1], w.shape[-1] * n_dims))


def _excess(basis: Operands, w: Any) -> Any:
    """Return ρ - 1 = σ²/λ - 1, finite also for modes without variance."""
    xp = basis._context.xp
    tiny = float(xp.finfo(w.dtype).eps) ** 2 * basis.noise_variance
    variance = xp.where(basis.variances > tiny, basis.variances, xp.full_like(basis.variances, tiny))
    return basis.noise_variance / variance - 1.0


def coefficients(basis: Operands, flat: Any, confidence: Any = None) -> Any:
    """Return the coefficients of shapes (..., n_features), or raise for what is not finite."""
    if confidence is not None:
        expected = (*flat.shape[:-1], basis.event_shape[0])
        return weighted_coefficients(basis, flat, as_confidence(confidence, flat, expected))
    if basis._fuses(flat):
        xp = basis._context.xp
        rows = xp.reshape(flat, (-1, flat.shape[-1]))
        b = xp.addmm(-(basis._flat_mean @ basis._transposed), rows, basis._transposed)
        refuse_missing(basis, flat, b)
        return xp.reshape(b, (*flat.shape[:-1], b.shape[-1]))
    # Infinity is met with an error, not with a warning; torch gives none, and cannot compile this.
    with nullcontext() if is_tensor(flat) else np.errstate(invalid="ignore", over="ignore"):
        b = basis._context.xp.matmul(flat - basis._flat_mean, basis._transposed)
    refuse_missing(basis, flat, b)
    return b


def weighted_coefficients(basis: Operands, flat: Any, w: Any) -> Any:
    """Return the coefficients of shapes (..., n_features) of which each landmark is trusted by w, in [0, 1].

    With ρᵢ = σ²/λᵢ and N = V (I - W) Vᵀ the expectation of `ShapeBasis.encode` is (I + N (ρ - I))⁻¹ V W (x - mean), in
    which a confidence of 1 leaves the identity without rounding. σ² = 0 is the pseudo-inverse Λ^½ (√W VᵀΛ^½)⁺ √W.
    """
    xp = basis._context.xp
    n_dims = flat.shape[-1] // w.shape[-1]
    spread = _per_coordinate(w, n_dims, xp)
    d = xp.where(spread > 0, flat - basis._flat_mean, xp.zeros_like(flat))
    _refuse(basis, flat, d, spread)
    right = xp.matmul(d * spread, basis._transposed)
    scale = basis._scale
    if basis.noise_variance > 0:
        matrix = _weighted_gram(basis, 1.0 - w) * _excess(basis, w)
        matrix = matrix + xp.eye(scale.shape[0], dtype=flat.dtype, device=basis._context.device)
    else:
        matrix = xp.expand_dims(scale, axis=-1) * _weighted_gram(basis, w) * scale
        rtol = scale.shape[0] * float(xp.finfo(flat.dtype).eps)  # directions that nothing seen tells of stay at 0
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


def _refuse(basis: Operands, flat: Any, d: Any, spread: Any) -> None:
    """Raise for NaN and infinity where the confidence is positive."""
    xp = basis._context.xp
    if not values_known(flat, spread) or bool(xp.all(xp.isfinite(d))):
        return
    bad = to_numpy((spread > 0) & ~xp.isfinite(flat))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = (*first[:-1], *(int(i) for i in np.unravel_index(first[-1], basis.event_shape)))
        raise ValueError(
            f"shapes: got NaN or infinity at index {where}, where the confidence is positive; expected finite "
            "numbers. Try a confidence of 0 for what is missing."
        )


def _residual(basis: Operands, flat: Any) -> tuple[Any, Any]:
    """Return the coefficients and the squared distance of shapes to the span of the modes."""
    xp = basis._context.xp
    d = flat - basis._flat_mean
    b = xp.matmul(d, basis._transposed)
    rest = d - xp.matmul(b, basis.components)
    return b, xp.sum(rest * rest, axis=-1)


def _squared_mahalanobis(basis: Operands, b: Any) -> Any:
    """Return Σ bᵢ²/λᵢ over the modes with variance."""
    xp = basis._context.xp
    varies = basis._scale > 0
    ratio = xp.where(varies, b / xp.where(varies, basis._scale, xp.ones_like(basis._scale)), xp.zeros_like(b))
    return xp.sum(ratio * ratio, axis=-1)


def _root(square: Any, xp: Any) -> Any:
    """Return the square root, with derivative 0 at 0."""
    zero = square <= 0
    return xp.where(zero, xp.zeros_like(square), xp.sqrt(xp.where(zero, xp.ones_like(square), square)))


def mahalanobis(basis: Operands, flat: Any) -> Any:
    """Return the root of Σ bᵢ²/λᵢ for shapes (..., n_features)."""
    xp = basis._context.xp
    return _root(_squared_mahalanobis(basis, xp.matmul(flat - basis._flat_mean, basis._transposed)), xp)


def log_likelihood(basis: Operands, flat: Any) -> Any:
    """Return the log density of shapes (..., n_features) under the Gaussian of the basis."""
    variances = to_numpy(basis.variances).astype(np.float64)
    n_outside = flat.shape[-1] - variances.shape[0]
    if not (variances > 0).all() or (n_outside and basis.noise_variance == 0):
        what = "a noise variance of 0" if (variances > 0).all() else "a mode without variance"
        raise ValueError(
            f"log_likelihood: got a basis with {what}, whose density is infinite on its span; expected positive "
            "variances. Try dataclasses.replace(basis, noise_variance=...), or fewer modes."
        )
    b, rest = _residual(basis, flat)
    constant = flat.shape[-1] * math.log(2 * math.pi) + float(np.log(variances).sum())
    square = _squared_mahalanobis(basis, b)
    if n_outside:
        constant += n_outside * math.log(basis.noise_variance)
        square = square + rest / basis.noise_variance
    return -0.5 * (square + constant)


def report(basis: Operands, flat: Any) -> BasisReport:
    """Return the report on shapes (..., n_features)."""
    from scipy.special import gammaincc

    xp = basis._context.xp
    b, rest = _residual(basis, flat)
    amount = basis._clip(b) - b
    clipped = xp.zeros_like(b, dtype=xp.bool)
    if basis.limit is not None:
        # A coefficient is a product of the coordinates, and changes by their rounding.
        rounding = 16 * float(xp.finfo(flat.dtype).eps) * xp.max(xp.abs(flat), axis=-1, keepdims=True)
        clipped = basis.limit.exceeds(b, basis._scale) & (xp.abs(amount) > rounding)
    square = to_numpy(_squared_mahalanobis(basis, b)).astype(np.float64)
    total, dof = square, int((to_numpy(basis.variances) > 0).sum())
    if basis.noise_variance > 0:
        total = square + to_numpy(rest).astype(np.float64) / basis.noise_variance
        dof = flat.shape[-1]
    plausibility = np.asarray(gammaincc(dof / 2, total / 2) if dof else np.ones_like(total))
    if xp.__name__ != "array_api_compat.numpy":
        plausibility = xp.asarray(plausibility, device=basis._context.device)
    return BasisReport(
        coefficients=b,
        clipped=clipped,
        amount=amount,
        distance=_root(rest + xp.sum(amount * amount, axis=-1), xp),
        mahalanobis=_root(_squared_mahalanobis(basis, b), xp),
        plausibility=xp.astype(plausibility, flat.dtype, copy=False),
    )


def sample(basis: Operands, n_samples: int, rng: Any, *, truncated: bool, noise: bool) -> Any:
    """Return random shapes (n_samples, n_features) beside the basis."""
    check_flags(truncated=truncated, noise=noise)
    n_samples = as_count(n_samples, "n_samples", 0, expected="a number of shapes that is not negative. Try 1")
    rng = as_generator(rng)
    scale = to_numpy(basis._scale).astype(np.float64)
    z = np.zeros((n_samples, scale.shape[0]))
    varies = scale > 0
    size = (z.shape[0], int(varies.sum()))
    if truncated and basis.limit is not None:
        z[:, varies] = basis.limit.truncated_normal(rng, size)
    else:
        z[:, varies] = rng.standard_normal(size)
    components = to_numpy(basis.components).astype(np.float64)
    flat = to_numpy(basis._flat_mean) + (z * scale) @ components
    if noise and basis.noise_variance > 0:
        e = rng.standard_normal(flat.shape) * math.sqrt(basis.noise_variance)
        flat += e - (e @ components.T) @ components
    xp = basis._context.xp
    flat = xp.asarray(flat, device=basis._context.device) if not isinstance(basis.mean, np.ndarray) else flat
    return xp.astype(flat, basis.mean.dtype, copy=False)


def complete(basis: Operands, shapes: Any, joint: bool) -> Completion:
    """Return the completion of shapes (..., n_landmarks, n_dims), one landmark a row also for plain features.

    With the latent coefficients a, of prior variance Δ = Λ - σ², the rest is noise: E[x] = mean + Vᵀ E[a],
    Cov[x] = Vᵀ Cov[a] V + σ² I on what is missing, and with A = I + N (ρ - I) of `weighted_coefficients`
    E[a] = (I - ρ) A⁻¹ V W (x - mean), Cov[a] = σ² (I - ρ) A⁻¹. One A serves all shapes of one mask.
    """
    xp = basis._context.xp
    if not values_known(shapes):
        raise ValueError(
            "complete: got shapes whose values torch cannot look at while it traces; expected plain ones. Try "
            "basis.encode(shapes, confidence=mask)."
        )
    seen = xp.all(xp.isfinite(shapes), axis=-1)
    modes = _by_landmark(basis)
    n_landmarks, n_components, n_dims = modes.shape
    lead = shapes.shape[:-2]
    rows = xp.reshape(shapes, (-1, n_landmarks, n_dims))
    masks = to_numpy(seen).reshape(-1, n_landmarks)
    if np.isinf(to_numpy(rows)).any():
        where = tuple(int(i) for i in np.argwhere(np.isinf(to_numpy(shapes)))[0])
        raise ValueError(f"shapes: got an infinite coordinate at index {where}; expected finite numbers or NaN.")
    if isinstance(rows, np.ndarray) and not joint and n_dims in (2, 3) and len(rows):
        from ._fit_loops import complete_rows

        compiled = complete_rows(basis, rows)
        if compiled is not None:
            return Completion(compiled[0].reshape(shapes.shape), compiled[1].reshape(*lead, *compiled[1].shape[1:]))
    patterns, index = np.unique(masks, axis=0, return_inverse=True)
    index = index.reshape(-1)  # NumPy 2.0.0 keeps the axis
    order = np.argsort(index, kind="stable")
    device = basis._context.device
    mean = xp.reshape(basis._flat_mean, (n_landmarks, n_dims))
    width = n_landmarks * n_dims * (n_landmarks * n_dims if joint else n_components)
    per_chunk = max(1, _CHUNK // width)
    filled, covariances = [], []
    for first in range(0, len(order), per_chunk):
        # In the order of the patterns, so that the shapes of a chunk share their matrices.
        rows_here = order[first : first + per_chunk]
        local, which = np.unique(index[rows_here], return_inverse=True)
        w = xp.astype(xp.asarray(patterns[local].astype(np.float64), device=device), shapes.dtype, copy=False)
        mean_map, covariance_map = _posterior(basis, w)
        take = xp.asarray(rows_here, device=device)
        of_pattern = xp.asarray(which.reshape(-1), device=device)
        x = xp.take(rows, take, axis=0)
        known = xp.expand_dims(xp.take(w, of_pattern, axis=0) > 0, axis=-1)
        d = xp.where(known, x - mean, xp.zeros_like(x))
        right = xp.matmul(xp.reshape(d, (-1, n_landmarks * n_dims)), basis._transposed)
        a = xp.matmul(xp.take(mean_map, of_pattern, axis=0), xp.expand_dims(right, axis=-1))[..., 0]
        guess = mean + xp.reshape(xp.matmul(a, basis.components), x.shape)
        filled.append(xp.where(known, x, guess))
        hidden = xp.astype(w == 0, shapes.dtype)
        covariances.append(xp.take(_spread(basis, covariance_map, hidden, joint), of_pattern, axis=0))
    if not filled:
        empty = (n_landmarks, n_dims, n_landmarks, n_dims) if joint else (n_landmarks, n_dims, n_dims)
        return Completion(shapes, xp.zeros((*lead, *empty), dtype=shapes.dtype, device=device))
    back = xp.asarray(np.argsort(order, kind="stable"), device=device)
    points = xp.take(xp.concat(filled, axis=0), back, axis=0)
    covariance = xp.take(xp.concat(covariances, axis=0), back, axis=0)
    return Completion(xp.reshape(points, shapes.shape), xp.reshape(covariance, (*lead, *covariance.shape[1:])))


def _posterior(basis: Operands, w: Any) -> tuple[Any, Any]:
    """Return, for masks (..., n_landmarks), the map from V W (x - mean) to E[a], and Cov[a]."""
    xp = basis._context.xp
    n = basis.components.shape[0]
    eye = xp.eye(n, dtype=w.dtype, device=basis._context.device)
    if basis.noise_variance > 0:
        excess = _excess(basis, w)
        inverse = xp.linalg.inv(_weighted_gram(basis, 1.0 - w) * excess + eye)
        mean_map = xp.expand_dims(-excess, axis=-1) * inverse
        return mean_map, basis.noise_variance * mean_map
    scale = basis._scale
    outer = xp.expand_dims(scale, axis=-1) * scale
    gram = _weighted_gram(basis, w) * outer
    inverse = xp.linalg.pinv(gram, rtol=n * float(xp.finfo(w.dtype).eps))
    return inverse * outer, (eye - xp.matmul(gram, inverse)) * outer


def _spread(basis: Operands, covariance: Any, hidden: Any, joint: bool) -> Any:
    """Return the covariance of the hidden landmarks from that of the latent coefficients."""
    xp = basis._context.xp
    modes = _by_landmark(basis)
    n_landmarks, _, n_dims = modes.shape
    device = basis._context.device
    if joint:
        flat = basis.components * xp.expand_dims(_per_coordinate(hidden, n_dims, xp), axis=-2)
        result = xp.matmul(xp.matmul(xp.matrix_transpose(flat), covariance), flat)
        eye = xp.eye(n_landmarks * n_dims, dtype=result.dtype, device=device)
        result = result + basis.noise_variance * eye * xp.expand_dims(_per_coordinate(hidden, n_dims, xp), axis=-1)
        result = 0.5 * (result + xp.matrix_transpose(result))
        return xp.reshape(result, (*hidden.shape[:-1], n_landmarks, n_dims, n_landmarks, n_dims))
    right = xp.matmul(xp.expand_dims(covariance, axis=-3), modes)
    result = xp.matmul(xp.matrix_transpose(modes), right)
    result = result + basis.noise_variance * xp.eye(n_dims, dtype=result.dtype, device=device)
    result = 0.5 * (result + xp.matrix_transpose(result))
    return result * xp.expand_dims(xp.expand_dims(hidden, axis=-1), axis=-1)
