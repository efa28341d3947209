"""The operator: a shape basis that encodes, clips, decodes and projects shapes of any array library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from . import _probabilistic
from ._array import formerly_weights, leave, namespace_of, plain_memory, values_known
from ._blocks import project_in_blocks
from ._operands import Operands, refuse_missing
from ._options import check_flags
from ._probabilistic import BasisReport, Completion
from ._typing import Array, ArrayLike, Seed

A = TypeVar("A", bound=Array)


@dataclass(frozen=True, eq=False, repr=False)
class ShapeBasis(Operands):
    """A mean shape, orthonormal modes with their variances, and the limit on the coefficients of the modes.

    A basis is a value: it never changes, and acts on shapes of any array library that follows the array API standard
    (NumPy, PyTorch on any device, ...) with any number of leading dimensions. Library, type and device of the result
    are those of the input; integers become float64, and half precision is computed in float32. To vary a basis use
    ``dataclasses.replace(basis, limit=2.0)``.

    Parameters
    ----------
    mean : array of shape (n_landmarks, n_dims) or (n_features,)
        The mean shape. Its shape is the event shape, that of one shape.
    components : array of shape (n_components, n_features)
        The modes, orthonormal rows over the landmarks in C order: x0, y0, x1, y1, ...
    variances : array of shape (n_components,)
        Variance λ of each mode (divisor n - 1), in squared units of the shapes.
    limit : float, Box, Ellipsoid, SoftBox or None
        Where coefficients may lie. A number k means ``Box(k)``; None is no limit.
    noise_variance : float
        Variance σ² of each coordinate in the directions outside the modes: shapes are distributed as
        N(mean, Σ λᵢ vᵢvᵢᵀ + σ² (I - Σ vᵢvᵢᵀ)), the probabilistic PCA of Tipping and Bishop (1999). It matters for
        confidence, completion, likelihood and plausibility, not for the plain projection.

    Attributes
    ----------
    event_shape : tuple of int
        Shape of one shape.
    n_components, n_features : int
        Number of modes, and of coordinates of one shape.

    Raises
    ------
    ValueError
        When shapes do not fit together, rows are not orthonormal, a variance is negative or a number is not finite.

    Notes
    -----
    The arrays of a NumPy basis are copies and read-only.

    Inside ``torch.compile``, ``torch.func.vmap`` and other tracers values cannot be looked at: there NaN is not an
    error but propagates. For a network use ``basis.like(x)`` once, outside, or a layer that holds the arrays.

    References
    ----------
    Cootes, Taylor, Cooper, Graham: Active Shape Models - Their Training and Application, CVIU 61 (1995).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ShapeBasis
    >>> mean = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> basis = ShapeBasis(mean, np.eye(2, 6), np.array([0.04, 0.01]), limit=3.0)
    >>> basis
    ShapeBasis(event_shape=(3, 2), n_components=2, limit=Box(3.0), noise_variance=0.0)
    >>> basis.project(mean + 1.0)[0]
    array([0.6, 0.3])
    """

    def like(self, x: ArrayLike) -> ShapeBasis:
        """Return this basis in the array library, float type and on the device of an array.

        Half precision stands for float32, in which it is computed, and integers for float64.

        Parameters
        ----------
        x : array
            Only its library, type and device matter.

        Returns
        -------
        ShapeBasis
            This very object when nothing has to move; otherwise a basis that is kept, so the next call is free.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros(4), np.eye(2, 4), np.ones(2))
        >>> basis.like(np.zeros(4, dtype=np.float32)).mean.dtype
        dtype('float32')
        """
        return self._beside(x)

    @overload
    def encode(self, shapes: A, *, confidence: ArrayLike | None = None) -> A: ...
    @overload
    def encode(self, shapes: ArrayLike, *, confidence: ArrayLike | None = None) -> np.ndarray: ...
    @formerly_weights
    def encode(self, shapes: Array | ArrayLike, *, confidence: ArrayLike | None = None) -> Any:
        """Return the coefficients of shapes, not clipped: bᵢ = ⟨vᵢ, x - mean⟩.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            May hold NaN only where the confidence is 0.
        confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
            How far each landmark is trusted: 1 fully, 0 not at all (it may be NaN), True and False for a mask. Then
            the coefficients come from what is seen; see Notes. Named `weights` before 0.2.

        Returns
        -------
        array of shape (..., n_components)

        Raises
        ------
        ValueError
            When the last axes are not the event shape, a number is NaN or infinite, or a confidence is outside [0, 1].

        Notes
        -----
        With confidence w the coefficients are the expectation under the model N(mean, C) when landmark j is seen with
        a noise of variance σ² (1/wⱼ - 1): prior-regularised least squares with the noise variance σ² as regulariser,

            b = Λ (σ² I + V W Vᵀ (Λ - σ² I))⁻¹ V W (x - mean).

        A confidence of 1 changes nothing; one of 0 and 1 gives the coefficients of ``complete(shapes)``; σ² = 0 gives
        weighted least squares, and among its solutions, when too little is seen, the most probable. Without any
        confidence the answer is the mean.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(4)[:2], np.ones(2))
        >>> basis.encode([[0.5, 0.2], [7.0, 7.0]])
        array([0.5, 0.2])
        """
        flat, context, basis = self._enter(shapes)
        return leave(_probabilistic.coefficients(basis, flat, confidence), context.given)

    @overload
    def clip(self, coefficients: A) -> A: ...
    @overload
    def clip(self, coefficients: ArrayLike) -> np.ndarray: ...
    def clip(self, coefficients: Array | ArrayLike) -> Any:
        """Bring coefficients into the limit of the basis.

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            In the units of the shapes.

        Returns
        -------
        array of shape (..., n_components)
            A new array, or the coefficients themselves where the limit is None.

        Raises
        ------
        ValueError
            When the last axis is not that of the modes.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(4)[:2], [4.0, 1.0], limit=2.0)
        >>> basis.clip([10.0, -0.5])
        array([ 4. , -0.5])
        """
        b, context, basis = self._enter_coefficients(coefficients)
        return leave(basis._clip(b), context.given)

    @overload
    def decode(self, coefficients: A) -> A: ...
    @overload
    def decode(self, coefficients: ArrayLike) -> np.ndarray: ...
    def decode(self, coefficients: Array | ArrayLike) -> Any:
        """Return the shapes mean + Σ bᵢ vᵢ; the inverse of `encode` on the span of the modes.

        Parameters
        ----------
        coefficients : array of shape (..., n_components)
            NaN, of a shape that could not be fitted, gives NaN.

        Returns
        -------
        array of shape (..., *event_shape)

        Raises
        ------
        ValueError
            When the last axis is not that of the modes, or a coefficient is infinite.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(4)[:2], [4.0, 1.0])
        >>> basis.decode([1.0, -2.0])
        array([[ 1., -2.],
               [ 0.,  0.]])
        """
        b, context, basis = self._enter_coefficients(coefficients)
        if values_known(b) and bool(context.xp.any(context.xp.isinf(b))):
            raise ValueError("coefficients: got infinity; expected finite numbers. Try basis.clip(coefficients) first.")
        return leave(basis._decode(b), context.given)

    @overload
    def project(self, shapes: A, *, confidence: ArrayLike | None = None) -> A: ...
    @overload
    def project(self, shapes: ArrayLike, *, confidence: ArrayLike | None = None) -> np.ndarray: ...
    @formerly_weights
    def project(self, shapes: Array | ArrayLike, *, confidence: ArrayLike | None = None) -> Any:
        """Return, for each shape, the nearest one of the set {mean + Σ bᵢvᵢ, ``|bᵢ| ≤ k√λᵢ``}.

        This is ``decode(clip(encode(shapes)))``. As the modes are orthonormal and the set is convex it is an exact
        projection: idempotent, non-expansive, and the mean stays where it is. Other limits than `Box` project onto
        their own set; `Ellipsoid`, `SoftBox` say which laws hold for them. None gives the PCA reconstruction.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            Any leading dimensions, in the frame of the basis. Never written to.
        confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
            How far each landmark is trusted, 0 to 1, as in `encode`: 0 (or False) for a missing landmark, which may
            be NaN. Named `weights` before 0.2.

        Returns
        -------
        array of shape (..., *event_shape)
            Of the library, type and device of the input; integers give float64.

        Raises
        ------
        ValueError
            When the last axes are not the event shape, or a number is NaN or infinite: fill missing landmarks with
            `complete`, or ignore them with `confidence`; when a confidence is outside [0, 1]. In ``torch.compile`` and
            ``torch.func.vmap`` NaN propagates.

        Notes
        -----
        With a confidence other than 1 the guarantees of the plain projection are lost: the result still lies in the
        set, but it is the nearest point in no fixed metric, a second application (with full confidence) need not agree
        with the first where the shape was outside, and distances may grow (a shape of which little is seen follows
        those few points closely). What stays: a confidence of 1 changes nothing, a landmark of confidence 0 has no
        influence, and shapes of the set that are fully seen stay where they are.

        References
        ----------
        Cootes, Taylor, Cooper, Graham: Active Shape Models - Their Training and Application, CVIU 61 (1995).

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(4)[:2], [4.0, 1.0], limit=3.0)
        >>> basis.project(np.array([[10.0, 1.0], [0.5, 0.0]]))
        array([[6., 1.],
               [0., 0.]])
        """
        if confidence is None:
            memory = shapes if type(shapes) is np.ndarray else plain_memory(shapes)
            if memory is not None:
                with np.errstate(invalid="ignore", over="ignore"):
                    result = project_in_blocks(self, memory)
                return result if memory is shapes else namespace_of(shapes).asarray(result)
        flat, context, basis = self._enter(shapes)
        return leave(basis._decode(basis._clip(_probabilistic.coefficients(basis, flat, confidence))), context.given)

    def report(self, shapes: ArrayLike) -> BasisReport:
        """Say which modes are clipped, by how much, how far shapes are from the model and how plausible they are.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            Complete shapes in the frame of the mean.

        Returns
        -------
        BasisReport
            Arrays of the library of the input. The plausibility is a measurement: it carries no gradient.

        Raises
        ------
        ValueError
            When the last axes are not the event shape, or a number is NaN or infinite.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [4.0, 1.0], limit=2.0)
        >>> basis.report([[6.0, 1.0], [0.0, 0.0]]).amount
        array([-2.,  0.])
        """
        flat, context, basis = self._enter(shapes)
        refuse_missing(basis, flat, flat)
        report = _probabilistic.report(basis, flat)
        values = vars(report).items()
        return BasisReport(**{k: value if k == "clipped" else leave(value, context.given) for k, value in values})

    @overload
    def mahalanobis(self, shapes: A) -> A: ...
    @overload
    def mahalanobis(self, shapes: ArrayLike) -> np.ndarray: ...
    def mahalanobis(self, shapes: Array | ArrayLike) -> Any:
        """Return the Mahalanobis distance within the model, the root of Σ bᵢ²/λᵢ over the modes with variance.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            Complete shapes in the frame of the mean.

        Returns
        -------
        array of shape (...)
            Distance to the mean in standard deviations. What lies outside the span of the modes does not count; see
            `log_likelihood` and `report` for that.

        Raises
        ------
        ValueError
            When the last axes are not the event shape, or a number is NaN or infinite.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [4.0, 1.0])
        >>> basis.mahalanobis([[6.0, 4.0], [0.0, 0.0]])
        np.float64(5.0)
        """
        flat, context, basis = self._enter(shapes)
        refuse_missing(basis, flat, flat)
        return leave(_probabilistic.mahalanobis(basis, flat), context.given)

    @overload
    def log_likelihood(self, shapes: A) -> A: ...
    @overload
    def log_likelihood(self, shapes: ArrayLike) -> np.ndarray: ...
    def log_likelihood(self, shapes: Array | ArrayLike) -> Any:
        """Return the logarithm of the density of shapes under N(mean, Σ λᵢ vᵢvᵢᵀ + σ² (I - Σ vᵢvᵢᵀ)).

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            Complete shapes in the frame of the mean.

        Returns
        -------
        array of shape (...)
            In nats. The limit of the basis plays no part.

        Raises
        ------
        ValueError
            When the noise variance, or that of a mode, is 0; when a number is NaN or infinite.

        References
        ----------
        Tipping, Bishop: Probabilistic Principal Component Analysis, J. R. Statist. Soc. B 61 (1999).

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [1.0, 1.0], noise_variance=1.0)
        >>> basis.log_likelihood(np.zeros((2, 2))).round(4)  # -2 log(2 π)
        np.float64(-3.6758)
        """
        flat, context, basis = self._enter(shapes)
        refuse_missing(basis, flat, flat)
        return leave(_probabilistic.log_likelihood(basis, flat), context.given)

    def sample(
        self, n_samples: int = 1, *, rng: Seed | None = None, truncated: bool = True, noise: bool = False
    ) -> Any:
        """Draw random shapes from the model.

        Parameters
        ----------
        n_samples : int
            Number of shapes.
        rng : numpy.random.Generator, int or None
            Source of randomness, or its seed.
        truncated : bool
            Draw coefficients from the normal law cut off at the limit (each ``|bᵢ|`` ≤ k√λᵢ for a box, the ball for an
            `Ellipsoid`), exactly, not by clipping; otherwise from the whole normal law.
        noise : bool
            Add the noise of variance σ² in the directions outside the modes.

        Returns
        -------
        array of shape (n_samples, *event_shape)
            Of the library, type and device of the basis.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [4.0, 1.0], limit=1.5)
        >>> shapes = basis.sample(1000, rng=0)
        >>> shapes.shape, bool(np.abs(shapes[:, 0, 0]).max() <= 3.0)
        ((1000, 2, 2), True)
        """
        flat = _probabilistic.sample(self, n_samples, rng, truncated=truncated, noise=noise)
        return self._context.xp.reshape(flat, (flat.shape[0], *self.event_shape))

    def complete(self, shapes: ArrayLike, *, joint: bool = False) -> Completion:
        """Fill missing landmarks with their conditional mean given those seen, and say how sure they are.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape)
            Missing landmarks are NaN (a landmark with one NaN coordinate is missing as a whole). Each shape may miss
            others; a shape without any landmark becomes the mean.
        joint : bool
            Return the covariance between all landmarks instead of that of each one.

        Returns
        -------
        Completion
            Shapes and covariance. Seen landmarks stay as they are, with covariance 0.

        Raises
        ------
        ValueError
            When the last axes are not the event shape, or a number is infinite.

        Notes
        -----
        For the Gaussian N(mean, C) of the basis the missing part has the mean μₘ + Cₘₒ Cₒₒ⁻¹ (xₒ - μₒ) and the
        covariance Cₘₘ - Cₘₒ Cₒₒ⁻¹ Cₒₘ. It is computed in the coefficients, with one matrix of the size of the modes for
        each pattern of missing landmarks. The limit of the basis plays no part: a completion may leave it, and
        `project` brings it back. Without noise variance Cₒₒ is singular and its pseudo-inverse stands in.

        Masks are looked at, so this cannot stand inside ``torch.compile`` or ``torch.func.vmap``.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeBasis
        >>> basis = ShapeBasis(np.zeros((2, 2)), [[0.6, 0.0, 0.8, 0.0]], [1.0], noise_variance=0.01)
        >>> completion = basis.complete([[3.0, 0.0], [np.nan, np.nan]])
        >>> completion.shapes.round(2)
        array([[3.  , 0.  ],
               [3.89, 0.  ]])
        >>> completion.covariance.round(3)[1]
        array([[0.027, 0.   ],
               [0.   , 0.01 ]])
        """
        check_flags(joint=joint)
        flat, context, basis = self._enter(shapes)
        n_landmarks = basis.event_shape[0]
        rows = context.xp.reshape(flat, (*flat.shape[:-1], n_landmarks, basis.n_features // n_landmarks))
        completion = _probabilistic.complete(basis, rows, joint)
        filled = context.xp.reshape(completion.shapes, (*flat.shape[:-1], *basis.event_shape))
        return Completion(leave(filled, context.given), leave(completion.covariance, context.given))
