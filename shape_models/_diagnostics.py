"""How good a shape model is: compactness, generalization, specificity, leave-one-out errors, how many modes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._array import as_count
from ._brief import brief
from ._left_out import CHUNK, SpanOfData, held_out, left_out_folds, most_modes, spectrum
from ._options import as_generator, as_probability
from ._typing import ArrayLike, Seed


@dataclass(frozen=True, eq=False)
class ModeCurve:
    """One quality of a shape model against its number of modes.

    Attributes
    ----------
    n_components : ndarray of int of shape (n,)
    value : ndarray of shape (n,)
        The quality, as the function that returns the curve defines it.
    standard_error : ndarray of shape (n,)
        Standard error of each value.

    Examples
    --------
    >>> from shape_models import compactness, make_faces
    >>> curve = compactness(make_faces(100, rng=0))
    >>> int(curve.n_components[0]), bool(curve.value[-1] > 0.999)
    (1, True)
    """

    n_components: np.ndarray
    value: np.ndarray
    standard_error: np.ndarray


@brief
@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Errors of each landmark of each shape under a model fitted without that shape: the result of `leave_one_out`.

    Attributes
    ----------
    errors : ndarray of shape (n_samples, n_landmarks)
        Euclidean distances, in units of the shapes.
    per_landmark : ndarray of shape (n_landmarks,)
        Mean over the samples.
    per_sample : ndarray of shape (n_samples,)
        Mean over the landmarks.
    n_components : int
        Number of modes of the models.

    Examples
    --------
    >>> from shape_models import leave_one_out, make_faces
    >>> leave_one_out(make_faces(50, rng=0), 5).errors.shape
    (50, 68)
    """

    errors: np.ndarray
    per_landmark: np.ndarray
    per_sample: np.ndarray
    n_components: int


@dataclass(frozen=True, eq=False)
class ModeAdvice:
    """How many modes the data support, by two methods that need not agree.

    Attributes
    ----------
    parallel_analysis : int
        Number of leading modes that stand out from data without structure.
    cross_validation : int
        Number of modes under which shapes left out are most likely.
    variances : ndarray of shape (rank,)
        Variance of each mode.
    thresholds : ndarray of shape (rank,)
        Variance that each mode has to exceed in the parallel analysis.
    n_components : ndarray of int of shape (n,)
        The numbers of modes tried, from 0.
    log_likelihood : ndarray of shape (n,)
        Mean log-likelihood of a shape left out, in nats, within the span of the data.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import advise_n_components
    >>> rng = np.random.default_rng(0)
    >>> modes = np.linalg.qr(rng.normal(size=(40, 3)))[0].T
    >>> shapes = rng.normal(size=(300, 3)) * [3, 2.5, 2] @ modes + 0.1 * rng.normal(size=(300, 40))
    >>> advice = advise_n_components(shapes, rng=0)
    >>> advice.parallel_analysis, advice.cross_validation
    (3, 3)
    """

    parallel_analysis: int
    cross_validation: int
    variances: np.ndarray
    thresholds: np.ndarray
    n_components: np.ndarray
    log_likelihood: np.ndarray


def compactness(shapes: ArrayLike) -> ModeCurve:
    """Return the fraction of the variance that the first modes carry, for each number of modes.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
        Aligned shapes without gaps.

    Returns
    -------
    ModeCurve
        Fractions in [0, 1]. The standard error is that of eigenvalues of Gaussian data, Var λ = 2 λ²/(n - 1).

    Raises
    ------
    ValueError
        For fewer than 3 samples, NaN and infinity; `DegenerateShapeError` when all shapes are equal.

    References
    ----------
    Davies: Learning Shape - Optimal Models for Analysing Natural Variability, PhD thesis, Manchester (2002).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import compactness
    >>> shapes = np.array([[[2.0, 0.0]], [[-2.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.0]]])
    >>> compactness(shapes).value
    array([0.8, 1. ])
    """
    data = SpanOfData(shapes)
    variances, total = data.variances, data.variances.sum()
    inside = np.cumsum(variances)
    outside = total - inside
    squares = np.cumsum(variances**2)
    spread = outside**2 * squares + inside**2 * (squares[-1] - squares)
    # The delta method, variances of independent normal modes having the variance 2 λ² / (n - 1).
    error = np.sqrt(np.maximum(2 / (data.n - 1) * spread, 0)) / total**2
    return ModeCurve(np.arange(1, len(variances) + 1), inside / total, error)


def generalization(
    shapes: ArrayLike, *, max_components: int | None = None, n_folds: int | None = None, groups: ArrayLike | None = None
) -> ModeCurve:
    """Return the generalisation error, that of shapes left out of the fit, for each number of modes.

    Each shape is rebuilt, without a limit, from the modes of a model fitted on the others; the error is the Euclidean
    distance between landmark and rebuilt landmark, averaged over landmarks and shapes. The alignment is kept as it is.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
        Aligned shapes without gaps.
    max_components : int, optional
        Where the curve ends; by default as many modes as every one of the models has.
    n_folds : int, optional
        Leave out a fold of consecutive shapes at a time; by default one shape.
    groups : array_like of shape (n_samples,), optional
        Leave out all shapes of one group at a time, for example all images of one person.

    Returns
    -------
    ModeCurve
        Mean error in units of the shapes; the standard error is over shapes (over groups where they are given).

    Raises
    ------
    ValueError
        For fewer than 3 samples, NaN and infinity, fewer than 2 folds or groups; `DegenerateShapeError` when all
        shapes are equal.

    Notes
    -----
    Every model is found from the scatter of all shapes, less that of the shapes left out, in the span of the data:
    one eigenvalue problem of that size for each shape. Where 1000 shapes have more than 500 coordinates, `n_folds`
    saves time.

    References
    ----------
    Davies: Learning Shape - Optimal Models for Analysing Natural Variability, PhD thesis, Manchester (2002).

    Examples
    --------
    >>> from shape_models import generalization, make_faces
    >>> curve = generalization(make_faces(60, rng=0), max_components=10)
    >>> len(curve.value), bool(curve.value[-1] < curve.value[0])
    (10, True)
    """
    data = SpanOfData(shapes)
    folds = left_out_folds(data.n, n_folds, groups)
    top = most_modes(data, folds, max_components, "max_components")
    errors = np.empty((data.n, top))
    for test, modes, _, held in held_out(data, folds, top):
        coefficients = np.einsum("tr,rk->tk", held, modes)
        rest = data.points(held)[:, None, :]
        parts = data.points(modes.T)
        per_chunk = max(1, CHUNK // parts.size)
        for first in range(0, len(test), per_chunk):
            some = slice(first, first + per_chunk)
            rebuilt = np.cumsum(coefficients[some, :, None] * parts, axis=1)
            errors[test[some]] = data.distances(rest[some] - rebuilt).mean(axis=-1)
    units = errors if groups is None else np.stack([errors[test].mean(axis=0) for test in folds])
    error = units.std(axis=0, ddof=1) / math.sqrt(len(units))
    return ModeCurve(np.arange(1, top + 1), errors.mean(axis=0), error)


def leave_one_out(
    shapes: ArrayLike, n_components: float, *, n_folds: int | None = None, groups: ArrayLike | None = None
) -> LeaveOneOut:
    """Return, for each landmark of each shape, the error of a model that has not seen the shape.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
        Aligned shapes without gaps.
    n_components : int or float
        Number of modes, or a fraction of the variance in (0, 1) that they reach on all shapes.
    n_folds, groups : optional
        What is left out at a time, as in `generalization`.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    ValueError
        As `generalization`, and for a number of modes out of range.

    Examples
    --------
    >>> from shape_models import leave_one_out, make_faces
    >>> result = leave_one_out(make_faces(50, rng=0), 0.95)
    >>> result.per_landmark.shape
    (68,)
    """
    data = SpanOfData(shapes)
    folds = left_out_folds(data.n, n_folds, groups)
    if isinstance(n_components, float) and 0 < n_components < 1:
        share = np.cumsum(data.variances) / data.variances.sum()
        n_components = int(np.searchsorted(share, n_components)) + 1
    top = most_modes(data, folds, n_components, "n_components")
    errors = np.empty((data.n, data.n_landmarks))
    for test, modes, _, held in held_out(data, folds, top):
        errors[test] = data.distances(data.points(held - held @ modes @ modes.T))
    return LeaveOneOut(errors, errors.mean(axis=0), errors.mean(axis=1), top)


def specificity(
    shapes: ArrayLike, *, max_components: int | None = None, n_samples: int = 1000, rng: Seed | None = None
) -> ModeCurve:
    """Return how far random shapes of a model are from the nearest real one, for each number of modes.

    Shapes are drawn from the Gaussian of the first modes, without a limit. The nearest shape is that of the least sum
    of squares; the distance to it is the Euclidean distance between landmarks, averaged over the landmarks. A curve
    that climbs steeply shows a model that makes shapes unlike any it has seen.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
        Aligned shapes without gaps.
    max_components : int, optional
        Where the curve ends; by default all modes.
    n_samples : int
        Number of random shapes, at least 2.
    rng : numpy.random.Generator, int or None
        Source of randomness, or its seed. One set of random numbers serves the whole curve.

    Returns
    -------
    ModeCurve
        Mean distance in units of the shapes; the standard error is over the random shapes.

    Raises
    ------
    ValueError
        For fewer than 3 shapes, NaN and infinity; `DegenerateShapeError` when all shapes are equal.

    References
    ----------
    Davies: Learning Shape - Optimal Models for Analysing Natural Variability, PhD thesis, Manchester (2002).

    Examples
    --------
    >>> from shape_models import make_faces, specificity
    >>> curve = specificity(make_faces(60, rng=0), max_components=5, n_samples=200, rng=0)
    >>> bool(curve.value[-1] > curve.value[0])
    True
    """
    data = SpanOfData(shapes)
    n_samples = as_count(n_samples, "n_samples", 2, expected="at least 2 random shapes. Try 1000")
    top = most_modes(data, None, max_components, "max_components")
    rng = as_generator(rng)
    drawn = rng.standard_normal((n_samples, top)) * np.sqrt(data.variances[:top])
    squares = np.zeros((n_samples, data.n)) + (data.y**2).sum(axis=1)
    modes = data.points(np.eye(data.y.shape[1]))
    random = np.zeros((n_samples, modes.shape[1]))
    real = data.y @ modes
    value, error = np.empty(top), np.empty(top)
    for k in range(top):
        b = drawn[:, k]
        # ‖(b, 0) - y‖² grows by (bₖ - yₖ)² - yₖ².
        squares += (b**2)[:, None] - 2 * np.outer(b, data.y[:, k])
        random += np.outer(b, modes[k])
        distance = data.distances(random - real[squares.argmin(axis=1)]).mean(axis=-1)
        value[k], error[k] = distance.mean(), distance.std(ddof=1) / math.sqrt(n_samples)
    return ModeCurve(np.arange(1, top + 1), value, error)


def advise_n_components(
    shapes: ArrayLike, *, n_permutations: int = 50, quantile: float = 0.95, n_folds: int = 10, rng: Seed | None = None
) -> ModeAdvice:
    """Say how many modes the data support, by parallel analysis and by cross-validation.

    Parallel analysis permutes each coordinate over the shapes by itself, which keeps its variance and removes what
    coordinates have in common, and counts the leading modes whose variance exceeds the given quantile of that of the
    same mode of permuted data. It is careful: strong modes hide weak ones. Cross-validation counts the modes of the
    probabilistic model (equal variance outside the modes) under which shapes left out are most likely; with many more
    shapes than coordinates these may be all. The first says which modes can be told from noise at a glance, the second
    which modes help to describe new shapes.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
        Aligned shapes without gaps.
    n_permutations : int
        Number of permuted data sets.
    quantile : float
        Of their variances, in (0, 1).
    n_folds : int
        Number of folds of the cross-validation, at least 2; shapes are dealt to them at random.
    rng : numpy.random.Generator, int or None
        Source of randomness, or its seed.

    Returns
    -------
    ModeAdvice

    Raises
    ------
    ValueError
        For fewer than 3 samples, NaN and infinity, numbers out of range; `DegenerateShapeError` when all shapes are
        equal.

    References
    ----------
    Horn: A Rationale and Test for the Number of Factors in Factor Analysis, Psychometrika 30 (1965).
    Tipping, Bishop: Probabilistic Principal Component Analysis, J. R. Statist. Soc. B 61 (1999).

    Examples
    --------
    >>> from shape_models import advise_n_components, make_faces
    >>> advice = advise_n_components(make_faces(100, rng=0), n_permutations=20, rng=0)
    >>> 0 < advice.parallel_analysis < 100
    True
    """
    data = SpanOfData(shapes)
    n_permutations = as_count(n_permutations, "n_permutations", expected="at least 1. Try 50")
    as_probability(quantile, "quantile")
    rng = as_generator(rng)
    rank = len(data.variances)
    permuted = np.empty((n_permutations, rank))
    for row in permuted:
        row[:] = spectrum(rng.permuted(data.centred, axis=0), rank)
    thresholds = np.quantile(permuted, quantile, axis=0)
    exceeds = data.variances > thresholds
    n_parallel = rank if exceeds.all() else int(np.argmin(exceeds))

    order = rng.permutation(data.n)
    folds = [order[fold] for fold in left_out_folds(data.n, n_folds, None)]
    top = max(0, min(rank - 1, data.n - max(map(len, folds)) - 2))
    likelihood = np.zeros(top + 1)
    for test, modes, variances, held in held_out(data, folds, rank):
        variances = np.maximum(variances, np.finfo(float).tiny)  # a fold may leave a mode without any
        scores = (held @ modes) ** 2
        outside = np.cumsum(variances[::-1])[::-1][: top + 1] / np.arange(rank, rank - top - 1, -1)
        rest = np.cumsum(scores[:, ::-1], axis=1)[:, ::-1][:, : top + 1]
        inside = np.cumsum(np.log(variances) + scores / variances, axis=1)[:, :top]
        square = np.concatenate([np.zeros((len(test), 1)), inside], axis=1) + rest / outside
        constant = np.arange(rank, rank - top - 1, -1) * np.log(outside) + rank * math.log(2 * math.pi)
        likelihood += -0.5 * (square + constant).sum(axis=0)
    likelihood /= data.n
    return ModeAdvice(
        parallel_analysis=n_parallel,
        cross_validation=int(np.argmax(likelihood)),
        variances=data.variances,
        thresholds=thresholds,
        n_components=np.arange(top + 1),
        log_likelihood=likelihood,
    )
