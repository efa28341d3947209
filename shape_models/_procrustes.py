"""Generalized Procrustes analysis: a set of shapes superimposed, and what that found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ._array import LARGEST, SMALLEST, DegenerateShapeError, as_count, as_numpy, as_shapes, as_weights, refuse_extreme
from ._brief import brief
from ._mean_shape import (
    Mean,
    SecondMoment,
    better_mirrored,
    finish_mean,
    fit_to_mean,
    mean_of_blocks,
    refuse_points,
    second_moment,
    seen_weights,
    to_tangent,
    warn_of_mirrored,
)
from ._options import check_choice, check_flags, check_numbers
from ._robust import reweighted
from ._similarity import OnError, as_similarity
from ._sliding import Sliding
from ._superimposition import MANY_COORDINATES, fit_pair
from ._transforms import Similarity
from ._typing import ArrayLike
from .curves import Curve

if TYPE_CHECKING:
    from ._sliding import SlidingRecord


@brief
@dataclass(frozen=True, eq=False)
class ProcrustesResult:
    """Superimposed shapes, their mean, and how the fit converged: the result of `generalized_procrustes`.

    Attributes
    ----------
    aligned : ndarray of shape (n_samples, n_landmarks, n_dims)
        The shapes in the frame of the mean; missing landmarks are still NaN.
    mean : ndarray of shape (n_landmarks, n_dims)
        Centroid at the origin; centroid size 1 when scaling.
    transforms : Similarity
        Batch of n_samples: input frame → frame of the mean (before the tangent projection).
    distances : ndarray of shape (n_samples,)
        Root of the (weighted) squared distances of each transformed shape to the mean, before the tangent projection.
    disparity : float
        The sum of the squared `distances`: what the iteration makes small.
    mirrored : ndarray of int
        Indices of the shapes that are mirror images of the rest. With ``reflection=True`` they were reflected;
        otherwise they were **not**, and the squared distance of each would fall by more than half if it were.
    inflation : float
        Under the full criterion with scaling, the common factor by which all shapes were enlarged, after each was
        fitted to the mean, so that the mean of the aligned shapes is `mean`; otherwise 1.
    n_iter : int
        Passes over the shapes; 1 for the closed form.
    converged : bool
        Whether the mean settled within `tol` (closed form: whether the leading eigenvector is unique).
    status : ndarray of str of shape (n_samples,)
        "ok", or why a shape could not be superimposed, in the words of `Similarity.status`; such a shape took no part
        in the mean and is NaN in `aligned`, `transforms` and `distances`.
    sliding : SlidingRecord or None
        With semilandmarks: the shapes after sliding, which `transforms` take to `aligned`, and how it went.
    weights : ndarray of shape (n_samples, n_landmarks), or None
        With a robust loss: the weights given, times what the loss left of each landmark.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import generalized_procrustes
    >>> triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    >>> result = generalized_procrustes([triangle, 2 * triangle + 5, triangle[:, ::-1] * [-1, 1]])
    >>> result.converged, bool(result.disparity < 1e-12), result.mirrored
    (True, True, array([], dtype=int64))
    """

    aligned: np.ndarray
    mean: np.ndarray
    transforms: Similarity
    distances: np.ndarray
    disparity: float
    mirrored: np.ndarray
    inflation: float
    n_iter: int
    converged: bool
    status: np.ndarray = field(default_factory=lambda: np.empty(0, dtype="<U21"))
    sliding: SlidingRecord | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.status):
            object.__setattr__(self, "status", np.full(len(self.aligned), "ok", dtype="<U21"))

    def _warn_of_mirrored(self, reflection: bool) -> None:
        squares = np.square(self.distances)
        if not reflection and len(self.mirrored):
            warn_of_mirrored(self.mirrored, squares[self.mirrored], len(squares), float(np.nanmean(squares)))


def generalized_procrustes(
    shapes: ArrayLike,
    *,
    criterion: Literal["full", "partial"] = "full",
    scaling: bool = True,
    reflection: bool = False,
    tangent: bool | None = None,
    weights: ArrayLike | None = None,
    mirror: ArrayLike | None = None,
    sliding: Sliding | Sequence[Curve] | None = None,
    loss: Literal["linear", "huber", "tukey"] = "linear",
    tol: float = 1e-8,
    max_iter: int = 100,
    on_error: OnError = "raise",
) -> ProcrustesResult:
    """Superimpose a set of shapes and return their mean shape.

    It minimises Σᵢ Σₖ wᵢₖ ‖sᵢ Rᵢ xᵢₖ + tᵢ − μₖ‖² over the similarities and over means μ of fixed size. Two-dimensional
    sets under the full criterion are solved in closed form: μ is the leading eigenvector of the complex second-moment
    matrix. All others alternate between fitting the transforms and averaging.

    Parameters
    ----------
    shapes : array of shape (n_samples, n_landmarks, n_dims)
        At least two samples, `n_dims` 2 or 3. NaN is a missing landmark: it is left out of every sum.
    criterion : {"full", "partial"}, default="full"
        "full" leaves the scales sᵢ free: sᵢ = κ cos ρᵢ / sizeᵢ with ρᵢ the Riemannian distance to the mean and κ =
        1 / (mean of cos² ρ), so that the aligned shapes have μ as their mean; "partial" scales each shape to the size
        of the mean. Without scaling the two are the same.
    scaling : bool, default=True
        False keeps the sizes: sᵢ = 1 and μ is the plain average.
    reflection : bool, default=False
        Whether shapes may be mirrored to fit; those that were are listed in ``result.mirrored``.
    tangent : bool, optional
        Project the aligned shapes orthogonally to the tangent plane at the mean, where y · μ = 1. Needs scaling. By
        default only with `sliding`, as geomorph does.
    weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
        Non-negative; an integer weight counts a landmark that many times. Shape (n_samples, 1) weighs samples.
    mirror : array of int of shape (n_landmarks,), optional
        Permutation that exchanges left and right landmarks (``scheme.mirror``). The mean is then that of the shapes
        and their mirror images together, hence symmetric; `aligned` still has one row an input.
    sliding : Sliding, or what it takes as curves, optional
        Semilandmarks slide along curves while the shapes are superimposed, as in geomorph; the superimposition is then
        the partial one of `Sliding`, whose `tol` and `max_iter` count, whatever `criterion` says. Needs complete
        shapes and goes with `tangent` only. ``result.sliding.shapes`` are the slid shapes in the frame they came in,
        for whatever superimposes them anew, such as `AlignedASM`.
    loss : {"linear", "huber", "tukey"}, default="linear"
        What a landmark far from its place counts: "huber" bounds its pull, "tukey" takes it away, so that a few
        landmarks that lie wrong spoil neither mean nor poses. Distances count in units of each landmark's spread;
        weights are iterated until they settle, and returned.
    tol : float, default=1e-8
        Iteration stops when the mean moves by less than `tol` times its size.
    max_iter : int, default=100
        Passes over the shapes before it stops with ``converged=False``.
    on_error : {"raise", "status"}, default="raise"
        Whether a shape that cannot be superimposed is an exception, or is left out: NaN in the result, where `status`
        says why, and without influence on the others.

    Returns
    -------
    ProcrustesResult

    Raises
    ------
    DegenerateShapeError
        When all seen points of a shape coincide, too few are seen or 3-D shapes are collinear, unless ``on_error`` is
        "status"; when a landmark is seen in no shape.
    ValueError
        For wrong shapes, fewer than two samples, infinities, negative weights, options out of range.

    Notes
    -----
    The orientation of the mean is that of the inputs on average: it is turned as near as a rotation can to the sum of
    the centred inputs, each divided by its size. Upright faces give an upright mean, the order of the samples does
    not matter, and turning one input turns the frame of the whole result a little, never the shape of the mean.
    With ``reflection=True`` shapes about as flat as their noise fit either way round, and may then settle on the side
    of the first one.

    Nothing is mirrored in silence. With ``reflection=False``, ``result.mirrored`` names the shapes whose squared
    distance to the mean would fall by more than half if they were mirrored: usually a flipped image. A warning says so
    where it is also more than five times the average of the other shapes.

    With weights or missing landmarks the size of μ is held fixed in the norm of the total weights while solving;
    afterwards it is brought to centroid size 1 like any other.

    References
    ----------
    J. C. Gower, "Generalized Procrustes analysis", Psychometrika 40, 1975. J. T. Kent, "The complex Bingham
    distribution and shape analysis", JRSS B 56, 1994 (the closed form). I. L. Dryden and K. V. Mardia, "Statistical
    Shape Analysis", 2nd ed., 2016, chapters 7 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import generalized_procrustes
    >>> rng = np.random.default_rng(0)
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> shapes = 20 * square + rng.normal(scale=0.5, size=(50, 4, 2))
    >>> result = generalized_procrustes(shapes)
    >>> result.aligned.shape, bool(np.isclose(np.linalg.norm(result.mean), 1.0))
    ((50, 4, 2), True)
    """
    how = Superimposition(
        criterion, mirror=mirror, scaling=scaling, reflection=reflection, tangent=tangent, tol=tol, max_iter=max_iter
    )
    found = superimposed(shapes, how, weights=weights, sliding=sliding, loss=loss, on_error=on_error)
    found._warn_of_mirrored(reflection)
    return found


class Superimposition(NamedTuple):
    """How shapes are superimposed on their mean; see `generalized_procrustes`."""

    criterion: str
    scaling: bool
    reflection: bool
    tangent: bool | None
    mirror: Any
    tol: float
    max_iter: int

    def rule(self) -> str:
        """Check the options, and return the rule of scaling: "full", "partial" or "rigid"."""
        check_choice(("full", "partial"), criterion=self.criterion)
        check_flags(reflection=self.reflection, scaling=self.scaling, tangent=self.tangent)
        if self.tangent and not self.scaling:
            raise ValueError("tangent=True needs scaling=True: the tangent plane belongs to shapes of size 1.")
        check_numbers(tol=self.tol, above=True)
        as_count(self.max_iter, "max_iter")
        return self.criterion if self.scaling else "rigid"


def superimposed(
    shapes: Any,
    how: Superimposition,
    *,
    weights: Any = None,
    sliding: Any = None,
    loss: str = "linear",
    on_error: str = "raise",
) -> ProcrustesResult:
    """Superimpose as `generalized_procrustes`, without a warning of mirror images."""
    check_flags(reflection=how.reflection)
    if loss != "linear":
        if loss not in ("huber", "tukey") or sliding is not None:
            raise ValueError(f"loss: got {loss!r}; expected 'linear', 'huber' or 'tukey', and 'linear' with sliding.")
        array = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True)
        wide = array.astype(np.float64, copy=False)
        given = seen_weights(wide, weights)
        return reweighted(lambda trust: superimposed(array, how, weights=trust), wide, given, loss)
    if sliding is not None and (not how.scaling or how.reflection or weights is not None or how.mirror is not None):
        raise ValueError("sliding goes with tangent only; got scaling=False, reflection, weights or mirror too.")
    tangent = sliding is not None if how.tangent is None else how.tangent
    rule, reflection = how._replace(tangent=tangent).rule(), how.reflection
    if on_error == "status" and sliding is None:
        return _superimpose_valid(shapes, weights, how)
    if on_error != "raise":
        raise ValueError(f"on_error: got {on_error!r}; expected 'raise' or 'status' (without sliding).")
    if sliding is not None:
        return _slid(as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2), sliding, tangent)
    shapes = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True)
    dtype = shapes.dtype
    shapes = shapes.astype(np.float64, copy=False)
    square = np.einsum("nkd,nkd->", shapes, shapes)  # without the threads of BLAS
    if weights is not None or np.isnan(square):
        weights = seen_weights(shapes, weights)
        with np.errstate(over="ignore"):
            square = np.nansum(shapes * shapes)
    if not SMALLEST**2 < square < math.inf:
        refuse_extreme(float(np.nanmin(shapes, initial=0.0)), float(np.nanmax(shapes, initial=0.0)))
    order = None if how.mirror is None else _permutation(how.mirror, shapes.shape[1])
    blocks = [(shapes, weights)]
    if order is not None:
        blocks.append((mirror_shapes(shapes, order), None if weights is None else weights[:, order]))
    if weights is None and order is None and shapes.shape[2] == 2 and shapes.size >= MANY_COORDINATES:
        if rule == "full" and not reflection:
            return _many_planar(shapes, tangent, dtype)
    found = mean_of_blocks(lambda: blocks, rule=rule, reflection=reflection, tol=how.tol, max_iter=how.max_iter)
    fit = fit_to_mean(shapes, weights, found, rule=rule, reflection=reflection)
    transforms = as_similarity(fit)
    mirrored = np.flatnonzero(transforms.reflects) if reflection else better_mirrored(fit)
    aligned = transforms(shapes)
    distances = _distances(aligned, found.mean, weights)
    return _result(found, transforms, aligned, distances, mirrored, tangent, dtype, weights)


def _superimpose_valid(shapes: Any, weights: Any, how: Superimposition) -> ProcrustesResult:
    """Superimpose the shapes that can be, and give the others as NaN with a status."""
    shapes = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True, allow_inf=True)
    if weights is not None:
        weights = as_weights(weights, shapes.shape[:-1])
    status = np.full(len(shapes), "ok", dtype="<U21")
    status[np.nanmax(np.abs(shapes), axis=(1, 2), initial=0.0) > LARGEST] = "coordinates too large"
    status[np.isinf(shapes).any(axis=(1, 2))] = "infinite coordinate"
    while True:
        rows = np.flatnonzero(status == "ok")
        if len(rows) < 2:
            raise DegenerateShapeError(
                f"shapes: got {len(rows)} of {len(shapes)} that can be superimposed; expected at least 2. The first of "
                f"the others: {next(str(s) for s in status if s != 'ok')}."
            )
        try:
            result = superimposed(shapes[rows], how, weights=None if weights is None else weights[rows])
            break
        except DegenerateShapeError as error:
            if error.status is None:
                raise
            status[rows] = error.status

    def spread(part: np.ndarray) -> np.ndarray:
        whole = np.full((len(shapes), *part.shape[1:]), np.nan, dtype=part.dtype)
        whole[rows] = part
        return whole

    return replace(
        result,
        aligned=spread(result.aligned),
        transforms=Similarity._of(*map(spread, result.transforms._parts), status=status),
        distances=spread(result.distances),
        mirrored=rows[result.mirrored],
        status=status,
    )


def _slid(shapes: np.ndarray, sliding: Any, tangent: bool) -> ProcrustesResult:
    """Superimpose complete shapes whose semilandmarks slide."""
    from ._sliding import as_sliding, slide

    record, aligned, mean, transforms = slide(shapes.astype(np.float64), as_sliding(sliding))
    found = Mean(mean, 1.0, record.n_iter, record.converged)
    mirrored = better_mirrored(fit_pair(aligned, mean, None, rule="partial"))
    result = _result(found, transforms, aligned, _distances(aligned, mean, None), mirrored, tangent, shapes.dtype)
    return replace(result, sliding=record)


def _result(
    found: Mean,
    transforms: Similarity,
    aligned: np.ndarray,
    distances: np.ndarray,
    mirrored: np.ndarray,
    tangent: bool,
    dtype: Any,
    weights: np.ndarray | None = None,
) -> ProcrustesResult:
    """Return the record, with the shapes in the tangent plane where that is asked for, and in the type they came in."""
    aligned = (to_tangent(aligned, found.mean, weights) if tangent else aligned).astype(dtype, copy=False)
    how = found.inflation, found.n_iter, found.converged
    return ProcrustesResult(aligned, found.mean, transforms, distances, float(np.sum(distances**2)), mirrored, *how)


def mirror_shapes(shapes: ArrayLike, mirror: ArrayLike) -> np.ndarray:
    """Return mirror images with left and right landmarks exchanged, so that each landmark keeps its meaning.

    The first coordinate is negated (no image frame: for pixels use ``LandmarkScheme.flip(shapes, width=...)``) and the
    landmarks are reordered. Added to a training set it doubles the set and makes its mean symmetric.

    Parameters
    ----------
    shapes : array of shape (..., n_landmarks, n_dims)
        NaN where missing.
    mirror : array of int of shape (n_landmarks,)
        Permutation that is its own inverse: landmark ``mirror[k]`` is the other side's k (``scheme.mirror``).

    Returns
    -------
    ndarray of shape (..., n_landmarks, n_dims)

    Raises
    ------
    ValueError
        When `mirror` is no involution of the landmarks.

    Examples
    --------
    >>> from shape_models import mirror_shapes
    >>> mirror_shapes([[0.0, 0.0], [3.0, 1.0]], [1, 0])
    array([[-3.,  1.],
           [-0.,  0.]])
    """
    shapes = as_shapes(shapes, allow_nan=True)
    order = _permutation(mirror, shapes.shape[-2])
    turned = shapes[..., order, :]
    turned[..., 0] *= -1
    return turned


def _distances(aligned: np.ndarray, mean: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the root of the weighted squared distances of each shape to the mean."""
    if weights is None and aligned.size >= MANY_COORDINATES:
        from . import _kernels

        squares = np.empty(len(aligned))
        _kernels.squared_distances(aligned, mean, squares)
        return np.sqrt(squares)
    offset = aligned - mean
    squares = np.einsum("nkd,nkd->nk", offset, offset)
    squares = squares if weights is None else np.where(weights > 0, weights * squares, 0.0)
    return np.asarray(np.sqrt(squares.sum(axis=1)))


def _many_planar(shapes: np.ndarray, tangent: bool, dtype: Any) -> ProcrustesResult:
    """Solve the planar full criterion for many complete shapes, all in one buffer.

    The leading eigenvector comes from products of the second-moment matrix with a vector, first that of a sample,
    then that of all; where the second eigenvalue is so near that they settle slowly the matrix is formed.
    """
    from . import _kernels

    n, k = shapes.shape[:2]
    z, size, centre, input_sum = np.empty((n, 2 * k)), np.empty(n), np.empty((n, 2)), np.zeros(2 * k)
    _kernels.normalise_2d(np.ascontiguousarray(shapes), z, size, centre, input_sum)
    # Of centred points no more is left than the rounding of the coordinates.
    if (size <= 16 * np.finfo(np.float64).eps * np.sqrt(k * np.einsum("nd,nd->n", centre, centre) + size**2)).any():
        refuse_points(shapes, None, size)
    sample = np.ascontiguousarray(z[:: max(1, n // 256)])  # some hundred shapes tell where to start
    product, before, settled = np.empty(2 * k), np.inf, False
    mean = np.random.default_rng(0).normal(size=(k, 2))  # orthogonal to no eigenvector
    # Power iteration: the mean is the leading eigenvector of Σ z zᴴ (Kent, JRSS B 56, 1994).
    for _ in range(16):
        m = mean.ravel()
        _kernels.moment_times(sample, m, _times_i(m), product)
        mean = (product / np.linalg.norm(product)).reshape(k, 2)
    for _ in range(16):
        m = mean.ravel()
        explained = _kernels.moment_times(z, m, _times_i(m), product)
        after = (product / np.linalg.norm(product)).reshape(k, 2)
        change = float(np.linalg.norm(after - mean))
        # The changes fall by the ratio of the eigenvalues, which two of them tell.
        ratio = change / before if before < np.inf else np.inf
        mean, before = after, change
        # Of a mean of size 1: rounding, or what is left of a geometric series is ten times that.
        settled = change < 1e-14 or (ratio < 0.5 and change * ratio < 1e-13)
        if settled:
            break
    if settled:
        # The mean of the fitted shapes is the mean shape times the mean of cos² ρ.
        found = Mean(finish_mean(mean, input_sum.reshape(k, 2), "full"), n / explained, 1, True)
    else:
        full = np.full((k, k), n / k), np.full(k, float(n))
        found = SecondMoment(n, second_moment(z), *full, z.sum(axis=0).view(np.complex128)).mean()
    mean = found.mean
    out, m = np.empty((n, 4)), mean.ravel()
    _kernels.superimpose_2d(z, m, _times_i(m), found.inflation, out)
    re, im, mirrored, squares = out.T
    gain = np.hypot(re, im)
    if (gain <= 64 * np.finfo(np.float64).eps).any():  # of shapes and a mean of size 1: no direction but rounding
        fit_to_mean(shapes, None, found, rule="full")  # names the shape that no rotation fits
    c, s = re / gain, im / gain
    rotation = np.stack([c, -s, s, c], axis=-1).reshape(n, 2, 2)
    scale = found.inflation * gain / size
    moved = np.stack([c * centre[:, 0] - s * centre[:, 1], s * centre[:, 0] + c * centre[:, 1]], axis=-1)
    transforms = Similarity._of(rotation, -scale[:, None] * moved, scale)
    slack = 1e3 * np.finfo(np.float64).eps  # as in `better_mirrored`
    odd = np.flatnonzero(1 - mirrored**2 + slack < 0.5 * (1 - gain**2))
    return _result(found, transforms, z.reshape(n, k, 2), np.sqrt(squares), odd, tangent, dtype)


def _times_i(m: np.ndarray) -> np.ndarray:
    return np.stack([-m[1::2], m[::2]], axis=-1).ravel()


def _permutation(mirror: Any, n_landmarks: int) -> np.ndarray:
    order = getattr(mirror, "mirror", mirror)
    order = as_numpy(order, "mirror")
    if order.shape != (n_landmarks,) or order.dtype.kind not in "iu":
        raise ValueError(f"mirror: got {order.dtype} of shape {order.shape}; expected {n_landmarks} landmark indices.")
    if not (((order >= 0) & (order < n_landmarks)).all() and (order[order] == np.arange(n_landmarks)).all()):
        raise ValueError("mirror: got indices that are not their own inverse; expected mirror[mirror[k]] == k.")
    return order
