"""The one fit of a shape model to uncertain points: pose and shape together, with what is known of each point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.special import gammaincc

from ._aligned import ShapeModel
from ._array import beside, namespace_of, to_numpy
from ._brief import brief
from ._options import check_flags
from ._posterior import Solution, check_choices, solve
from ._problem import Problem
from ._similarity import UNLIKE
from ._tails import predictive
from ._transforms import Similarity
from ._typing import ArrayLike


@brief
@dataclass(frozen=True, eq=False)
class ShapeFit:
    """Fitted shapes with covariances and a status each: the result of `fit_shape`, in the array library of the points.

    A row that could not be fitted is NaN in every array, False in `clipped`, and its `status` says why.

    Attributes
    ----------
    shapes : array of shape (..., n_landmarks, n_dims)
        The plausible shape, within the limit of the model, in the frame of the points.
    completed : array of shape (..., n_landmarks, n_dims)
        The most probable shape in the frame of the points: what is certain stays, what is missing is filled in, and
        what is uncertain lies between; it need not keep to the limit.
    similarity : Similarity
        Model → frame of the points, batched like the points.
    coefficients : array of shape (..., n_components)
        Of the modes, not clipped.
    clipped : array of bool of shape (..., n_components)
        The modes outside the limit.
    covariance : array of shape (..., n_landmarks, n_dims, n_dims)
        Of the true landmark about `shapes`, in squared units of the points: the uncertainty of pose and coefficients,
        and what the modes leave out.
    weights : array of shape (..., n_landmarks)
        How far each landmark counted, 0 to 1: its confidence (or 1), times what a robust loss leaves of it; 0 where it
        is missing.
    plausibility : array of shape (...)
        Fraction of the shapes of the model that fit such points worse, 0 to 1: P(χ²ₘ > D²) for the squared Mahalanobis
        distance D² of the points to the model, pose left free. It is comparable from shape to shape, and near 0 for
        points that are no shape of this kind; for a threshold take the values of shapes known to be good. 0, not NaN,
        for points "unlike the model".
    status : str, or ndarray of str of shape (...)
        "ok", "too few landmarks", "coincident landmarks", "collinear landmarks" (3-D), "ambiguous rotation" (of a
        mirror image that every turn fits equally badly), "infinite coordinate", "coordinates too large", or "unlike the
        model": the landmarks look like the mean shape in no position, as when they are mirrored, upside down, (y, x) or
        out of order. None inside ``torch.compile`` and ``torch.func.vmap``, where values cannot be looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import fit_shape, load_model
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_ + 200
    >>> lost = np.full((68, 2), np.nan)
    >>> fit = fit_shape(model, np.stack([face, lost]))
    >>> fit.status.tolist()
    ['ok', 'too few landmarks']
    >>> bool(np.abs(fit.shapes[0] - face).max() < 1), bool(np.isnan(fit.shapes[1]).all())
    (True, True)
    """

    shapes: Any
    completed: Any
    similarity: Similarity
    coefficients: Any
    clipped: Any
    covariance: Any
    weights: Any
    plausibility: Any
    status: Any
    _law: Any = field(default=None, repr=False)

    def radius(self, level: float = 0.95) -> np.ndarray:
        """Return how far from `shapes`, in units of `covariance`, the true landmark lies with a probability at most.

        The ellipse of a landmark at x with the covariance Σ is {z : (z - x)ᵀ Σ⁻¹ (z - x) ≤ r²}. For a Gaussian r is
        2.45 in two dimensions at 95 %. Real shapes have heavier tails, which the model learns from training shapes
        that it leaves out (at the first call, unless it came from a file that holds them): a hidden landmark follows
        Student's t with η degrees of freedom and the scale matrix φΣ,

            r² = φ d F⁻¹(level; d, η),    φ = s (ν + D²) / (ν + m) (tr Σ / (d τ))^γ,

        where F is the law of Fisher, D² the squared Mahalanobis distance of the points to the model with m degrees of
        freedom, Σ in the frame of the model, and s, ν, η, γ, τ are learned. A landmark that is seen has η = ∞ and
        φ = (ν + D²) / (ν + m). Nothing is learned, and the Gaussian is meant, for a `ShapeBasis`, more than 300
        coordinates, models fitted to shapes with missing landmarks, to chunks or to fewer than ten shapes.

        Parameters
        ----------
        level : float, default=0.95
            Probability, between 0 and 1.

        Returns
        -------
        ndarray of shape (..., n_landmarks)

        References
        ----------
        K. L. Lange, R. J. A. Little, J. M. G. Taylor, "Robust statistical modeling using the t distribution", JASA 84
        (1989), for the conditional law of a multivariate t.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import fit_shape, load_model
        >>> model = load_model("face68")
        >>> seen = 100 * model.asm_.mean_
        >>> seen[48:] = np.nan                                    # the mouth is hidden
        >>> radius = fit_shape(model, seen).radius(0.95)
        >>> radius.shape, bool((radius > 0).all())
        ((68,), True)
        """
        return np.asarray(_known(self._law).radius(to_numpy(self.covariance), level))

    @property
    def expected_error(self) -> Any:
        """The expected distance of `shapes` to the truth, mean over the landmarks, in units of the points, (...).

        It orders shapes by how far off they probably are, and takes into account how unusual the points are; see
        `radius`.
        """
        error = _known(self._law).expected_error(to_numpy(self.covariance))
        return float(error) if not error.ndim else error


def fit_shape(
    model: ShapeModel,
    points: ArrayLike,
    *,
    confidence: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    loss: Literal["linear", "huber", "tukey"] = "linear",
    prior: bool = True,
    start: Similarity | None = None,
    on_error: Literal["status", "raise"] = "status",
) -> ShapeFit:
    """Fit pose and shape of a model to uncertain points, by a confidence or a covariance for each point.

    Pose and shape are found together in the frame of the points, as the most probable of both. Shapes are distributed
    about the mean as the model says, in any place, turn and size; a point is its landmark with an error of the
    covariance that is given, none by default.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Of landmarks in two or three dimensions, fitted on superimposed shapes.
    points : array of shape (..., n_landmarks, n_dims)
        In any frame and unit, of any array library; NaN where a landmark is missing.
    confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
        What each point is worth, 0 to 1: 1 is exact, 0 (or False) is missing, and w between says that the error has
        the variance σ² (1/w - 1) a coordinate, σ² the noise variance of the model in the size of the shape.
    covariance : float or array, optional
        Of shape (n_landmarks,), (..., n_landmarks) or (..., n_landmarks, n_dims, n_dims). Of the error of each point,
        in squared units of the points, instead of `confidence`: a variance the same in all directions, or a matrix. 0
        is exact, infinity is missing, and so is a standard deviation above a thousand sizes of the shape.
    loss : {"linear", "huber", "tukey"}, default="linear"
        What a point far from its place counts. "linear" believes what is said of it; "huber" bounds the pull of points
        that are further off than most, "tukey" takes it away.
    prior : bool, default=True
        True weighs the coefficients by their variances. False takes the coefficients of least squares over pose and
        modes, which the limit then clips: with few points, or few modes, nearer to the points.
    start : Similarity, optional
        Model → frame of the points, to start from; by default from the points and the mean.
    on_error : {"status", "raise"}, default="status"
        Whether a shape that cannot be fitted becomes a row of NaN with its `status`, or an exception.

    Returns
    -------
    ShapeFit

    Raises
    ------
    ValueError
        For another number of landmarks or dimensions, a confidence outside [0, 1], a covariance that is negative,
        NaN, not symmetric, or given together with a confidence.
    DegenerateShapeError
        With ``on_error="raise"``, for the first shape that cannot be fitted.

    Notes
    -----
    With the pose T, x = mean + δ, δ ~ N(0, C) and yₖ = T(xₖ) + eₖ, eₖ ~ N(0, Mₖ), the fit is the expectation of x given
    y, in the pose in which this expectation is superimposed on the mean as the model was: A'(E[x | y, T] - mean) = 0
    with A the directions in which moving, turning and scaling takes the mean. The pose has no prior, and the errors
    of the points say nothing about it, so that a wrong covariance biases no size. The limit then clips the
    coefficients of E[x | y].

    Equivariant to similarities of the points together with their covariances, and to the order of the landmarks. A
    point of confidence 0 has no influence; exact points everywhere give the plain projection. More certain points
    never widen `covariance`.

    Landmarks whose squared correlation with the mean, as they lie best on it, is under 0.15 are "unlike the model".
    Each counts as far as a robust loss leaves it and as it is certain beside the variation of the model. Faces in
    profile are at 0.19 or more. Where right points may look like anything, none is refused: where variation and errors
    let expect a scatter about the mean of more than half of its own.

    References
    ----------
    T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham, "Active shape models - their training and application",
    CVIU 61 (1995), section 5. M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", JRSS B 61
    (1999). P. J. Huber, "Robust statistics", 1981, for the losses.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import fit_shape, load_model
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_ + 200
    >>> seen = face.copy()
    >>> seen[:17] = np.nan                                    # the jaw line is hidden
    >>> fit = fit_shape(model, seen, covariance=0.5**2)       # half a pixel of error elsewhere
    >>> fit.status, bool(np.abs(fit.shapes - face).max() < 2)
    ('ok', True)
    >>> spread = np.sqrt(np.trace(fit.covariance, axis1=-2, axis2=-1))
    >>> bool(spread[8] > 3 * spread[33])                      # the chin is less certain than the nose
    True
    """
    check_flags(prior=prior)
    check_choices(loss, on_error)
    problem = Problem.of(model, points, confidence=confidence, covariance=covariance)
    solution = solve(problem, loss=loss, prior=bool(prior), start=start)
    if on_error == "raise":
        problem.refuse()
    return _record(solution)


def _known(law: Any) -> Any:
    if law is None:
        raise ValueError("got a record made while torch traced, whose values were not known; expected plain values.")
    return law


def _record(solution: Solution) -> ShapeFit:
    problem, completed = solution.problem, solution.completed
    xp, basis = namespace_of(completed), problem.basis
    b = solution.encode()
    kept, clipped = basis._clip(b), xp.zeros_like(b, dtype=xp.bool)
    if basis.limit is not None:
        size = xp.max(xp.abs(basis._flat_mean)) + xp.max(xp.abs(kept), axis=-1, keepdims=True)
        rounding = 16 * problem.eps * size  # of a coefficient, a product of coordinates of this size
        clipped = basis.limit.exceeds(b, basis._scale) & (xp.abs(kept - b) > rounding)
        clipped = clipped & ~problem._failed_like(b)
    status, plausibility, law = None, None, predictive(solution)
    if problem.status is not None and law is not None:
        status = problem.status.reshape(problem.lead)
        # The χ² law of the distance; with nothing left free there is none, and any number of degrees will do.
        tail = np.where(law.free > 0, gammaincc(np.maximum(law.free, 1e-3) / 2, law.square / 2), 1.0)
        tail = np.where(problem.status == UNLIKE, 0.0, tail)
        plausibility = solution.leave(beside(tail, completed), problem.failed & (problem.status != UNLIKE))
    return ShapeFit(
        shapes=solution.leave(solution.decode(kept)),
        completed=solution.leave(completed),
        similarity=solution.leave_pose(solution.similarity.inverse),
        coefficients=solution.leave(b),
        clipped=xp.reshape(clipped, (*problem.lead, clipped.shape[-1])),
        covariance=solution.leave(solution.covariance()),
        weights=solution.leave(problem.confidence * solution.robust),
        plausibility=plausibility,
        status=str(status) if status is not None and not problem.lead else status,
        _law=law,
    )
