"""The estimator: principal modes of aligned shapes, and the limited model made of them."""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from ._array import as_numpy, formerly_weights, refuse_extreme
from ._asm_samples import as_samples, flat_rows, where_seen
from ._basis import ShapeBasis
from ._completion import MOST_FEATURES, MOST_SAMPLES, completion_basis
from ._fitted import all_or_nothing
from ._limits import LimitLike
from ._mean_shape import warn_of_mirrored_among
from ._modes import check_settings, count_modes, find_modes, refuse_equal_shapes
from ._options import as_generator, check_flags
from ._probabilistic import BasisReport, Completion
from ._provenance import remember
from ._statistics import ShapeStatistics
from ._tails import learn_tails
from ._typing import Array, ArrayLike, Mapper

A = TypeVar("A", bound=Array)


class ASM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Active shape model: mean, principal modes of variation and the limit plausible shapes keep to.

    `fit` takes the mean m of the shapes and the eigenvectors vᵢ and eigenvalues λᵢ of their covariance (divisor
    n - 1). `project` moves a shape to the nearest point of {m + Σ bᵢvᵢ, bᵢ within the limit}: ``|bᵢ| ≤ 3√λᵢ``
    by default.
    Shapes are used as they come; align them first (`generalized_procrustes`), or use `AlignedASM`, which does both.

    Parameters
    ----------
    n_components : int, float or None, default=0.95
        An int keeps that many modes, at least 1 and at most min(n_samples - 1, n_features). A float in (0, 1) keeps
        the fewest modes whose fraction of the variance exceeds it. None keeps every mode whose variance is more than
        rounding.
    limit : float, limit or None, default=3.0
        The set the coefficients may live in. A number k stands for ``Box(k)``; None for no limit. It is a part of
        ``basis_`` and takes effect at the next `fit`.
    shrinkage : {"ledoit_wolf", "oas"}, float in [0, 1] or None, default=None
        Help for few samples. The covariance S becomes (1 - a) S + a (tr S / p) I, with p = n_features: the modes stay,
        large variances shrink, small ones grow, and ``noise_variance_`` carries what lies outside the modes. "oas"
        and "ledoit_wolf" estimate a from the data, a float is a. A fraction of variance in `n_components` is counted
        before shrinkage.
    tol : float, default=1e-7
        Only with missing landmarks: the fit has converged when mean and covariance change by less than this fraction of
        the spread.
    max_iter : int, default=500
        Only with missing landmarks: most steps of the fit; ``converged_`` says whether they were enough.

    Attributes
    ----------
    mean_ : ndarray of shape event_shape
        Equal to ``shapes.mean(axis=0)`` when nothing is missing.
    components_ : ndarray of shape (n_components_, n_features_in_)
        Orthonormal modes over the flattened landmarks (x₀, y₀, x₁, ...), by falling variance. The largest entry of
        each is positive (the first, where several are equally large).
    explained_variance_ : ndarray of shape (n_components_,)
        Variance along each mode, divisor n - 1.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        The same as a fraction of the whole variance.
    total_variance_ : float
        Sum of the variances of all coordinates, divisor n - 1.
    noise_variance_ : float
        σ² of probabilistic PCA: what variance the modes leave, for each of the other n_features - n_components
        directions.
    n_components_ : int
        Number of modes kept.
    event_shape_ : tuple of int
        Shape of one sample: (n_landmarks, n_dims), or (n_features,) when fitted on a table.
    n_features_in_ : int
        Number of coordinates.
    n_samples_ : int
        Number of shapes fitted.
    shrinkage_ : float
        The a that was used; 0 without shrinkage.
    n_iter_ : int
        Steps taken for missing landmarks; 1 when nothing is missing.
    converged_ : bool
        Whether these steps were enough.
    basis_ : ShapeBasis
        The learned model as a frozen value, which does all the acting but completion.
    covariance_ : ndarray of shape (n_features_in_, n_features_in_) or None
        Of all coordinates, divisor n - 1, for up to 300 of them; what `completion_basis_` is made of.
    completion_basis_ : ShapeBasis
        The Gaussian that fills in missing landmarks and says how sure that is: of full rank, shrunk by as much as the
        shapes ask for, whatever `n_components` and `shrinkage` are; see Notes. For more than 300 coordinates, and
        models from files of older versions, it is ``basis_``.

    See Also
    --------
    AlignedASM : The same for shapes in image coordinates.
    ShapeBasis : The operator, for arrays of any library.

    Notes
    -----
    `fit`, `transform` and `score` follow scikit-learn: first axis the samples, NumPy inside. Besides
    (n_samples, n_landmarks, n_dims) they take the flat table (n_samples, n_features), whose samples are
    one-dimensional; the model then speaks of flat shapes throughout. `project`, `report` and the methods of
    ``basis_`` take any leading axes and any array library.

    Few modes, which are right to keep shapes plausible, complete badly: their noise is independent from landmark to
    landmark, and what they leave out is not. Root mean square error of one to three hidden landmarks, in per cent of
    the centroid size, five folds kept from the fit in turn (``python tests/benchmarks/bench_completion.py``): pasted
    mean, modes of ``ASM(0.95)``, all modes with OAS shrinkage, and the default: ape skulls 4.07, 3.06, 2.95, 2.96;
    gorilla skulls 2.75, 2.71, 2.39, 2.37; macaque skulls 5.03, 7.63, 4.83, 4.83; bones 2.94, 2.79, 2.41, 2.40; digits
    8.75, 4.94, 4.49, 4.56; plethodon 2.88, 2.13, 2.02, 2.03; hummingbirds 1.14, 0.73, 0.55, 0.55; fly wings 0.85, 0.86,
    0.71, 0.73; hands 1.84, 0.44, 0.33, 0.38. The default is about as good as OAS shrinkage of all modes, on hands
    worse. An amount and a target that complete best what was left out (``--amounts``) complete hidden parts up to 10 %
    better from 30 to 100 faces, but one to three landmarks up to 6 % worse from 500 of another set; from 1750 faces
    both are within 1 %.

    Missing landmarks (NaN) in `fit` are integrated out by expectation maximisation for probabilistic PCA, which
    assumes that they are missing for reasons unrelated to where they would lie.

    References
    ----------
    T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham, "Active shape models - their training and application",
    CVIU 61 (1995), section 3. M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", JRSS B 61
    (1999), Eqs. (7), (8), for the noise. O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
    covariance matrices", JMVA 88 (2004), and Y. Chen et al., "Shrinkage algorithms for MMSE covariance estimation",
    IEEE TSP 58 (2010), Eq. (23), for `shrinkage`.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ASM
    >>> rng = np.random.default_rng(0)
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> widths = rng.normal(1.0, 0.1, size=(200, 1, 1))
    >>> shapes = square * widths + rng.normal(0.0, 0.01, size=(200, 4, 2))
    >>> asm = ASM(n_components=1).fit(shapes)
    >>> asm.components_.shape
    (1, 8)
    >>> wild = square + np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    >>> asm.project(wild)[2].round(1)
    array([1.3, 1.3])
    """

    event_shape_: tuple[int, ...]
    n_samples_: int
    _sample: np.ndarray | None
    _tails: Any

    def __init__(
        self,
        n_components: int | float | None = 0.95,
        *,
        limit: LimitLike = 3.0,
        shrinkage: float | str | None = None,
        tol: float = 1e-7,
        max_iter: int = 500,
    ) -> None:
        self.n_components = n_components
        self.limit = limit
        self.shrinkage = shrinkage
        self.tol = tol
        self.max_iter = max_iter

    @all_or_nothing
    def fit(self, shapes: ArrayLike, y: object = None) -> Self:
        """Learn mean and modes.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features), or LandmarkSamples
            At least two aligned shapes. NaN marks a missing landmark; each landmark must be seen in two shapes, each
            shape must show one landmark.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.

        Returns
        -------
        ASM
            The estimator itself.

        Raises
        ------
        ValueError
            For fewer than two shapes, `n_components` out of range, infinities, a landmark seen less than twice.
        DegenerateShapeError
            When all shapes are equal: there is no variance to learn.

        Warns
        -----
        UserWarning
            When landmarks of some shapes look like mirror images of the rest, or a landmark is seen in fewer shapes
            than there are modes.
        """
        self._fit(shapes)
        if len(self.event_shape_) == 2 and self.event_shape_[1] in (2, 3):
            array = as_samples(self, shapes, reset=False)
            warn_of_mirrored_among(array, self.mean_)
        return self

    def _fit(self, shapes: Any, *, warn: bool = True) -> Self:
        shapes = remember(self, shapes)
        array = as_samples(self, shapes, reset=True)
        check_settings(self, *flat_rows(array).shape)
        flat = flat_rows(array).astype(np.float64, copy=False)
        low, high = float(flat.min()), float(flat.max())
        if math.isnan(low):
            if not np.isnan(flat).all():
                refuse_extreme(float(np.nanmin(flat)), float(np.nanmax(flat)))
            return self._fit_missing(flat, warn)
        refuse_extreme(low, high)
        n, p = flat.shape
        mean = flat.mean(axis=0)
        centred = flat - mean
        whole = centred.T @ centred / (n - 1) if n > p or p <= MOST_FEATURES else None
        # Σ ‖x - mean‖⁴, which the estimate of Ledoit and Wolf needs beside the covariance.
        fourth = float(np.square(np.square(centred).sum(axis=1)).sum()) if self.shrinkage == "ledoit_wolf" else None
        if n > p:
            assert whole is not None
            return self._learn(n, mean, whole, fourth=fourth, sample=flat)

        # Fewer shapes than coordinates: the n x n matrix of inner products has the same eigenvalues.
        def lift(vectors: np.ndarray) -> np.ndarray:
            raw = centred.T @ vectors
            # Modes of small variance come out of the product with little orthogonality: restore it.
            scale = np.linalg.norm(raw, axis=0)
            Q, R = np.linalg.qr(raw / np.where(scale > 0, scale, 1.0))
            return Q * np.where(np.diag(R) < 0, -1.0, 1.0)

        return self._learn(n, mean, centred @ centred.T / (n - 1), lift=lift, fourth=fourth, whole=whole, sample=flat)

    def fit_chunks(
        self, chunks: object, *, load: Callable[[Any], Any] | None = None, map: Mapper = builtins.map
    ) -> Self:
        """Learn from shapes that do not fit in memory, or lie on several machines; one pass.

        Equal to `fit` on all chunks together, to rounding.

        Parameters
        ----------
        chunks : iterable, callable or Dask array
            Arrays of complete shapes, or items `load` turns into such. No one-shot generator: a list, or the
            function that makes the generator.
        load : callable, optional
            Turns an item into an array, where `map` runs it.
        map : callable or client
            Built-in `map`, ``executor.map``, ``pool.imap`` or a ``dask.distributed.Client``.

        Returns
        -------
        ASM
            The estimator itself.

        Raises
        ------
        ValueError
            As `fit` and `ShapeStatistics.from_chunks`; also for ``shrinkage="ledoit_wolf"``, which needs each shape.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ASM
        >>> shapes = np.random.default_rng(0).normal(size=(300, 5, 2))
        >>> asm = ASM(4).fit_chunks(np.array_split(shapes, 3))
        >>> np.allclose(asm.explained_variance_, ASM(4).fit(shapes).explained_variance_, rtol=1e-12)
        True
        """
        return self.fit_statistics(ShapeStatistics.from_chunks(chunks, load=load, map=map))

    @all_or_nothing
    def fit_statistics(self, statistics: ShapeStatistics) -> Self:
        """Learn from sums that were gathered elsewhere.

        Parameters
        ----------
        statistics : ShapeStatistics
            Of at least two shapes.

        Returns
        -------
        ASM
            The estimator itself.

        Raises
        ------
        ValueError
            As `fit`; also for ``shrinkage="ledoit_wolf"``, which needs each shape.
        """
        if not isinstance(statistics, ShapeStatistics):
            got = type(statistics).__name__
            raise TypeError(f"statistics: got {got}; expected ShapeStatistics. Try fit, which takes shapes.")
        n, p = statistics.n_samples, statistics.mean.size
        if n < 2:
            raise ValueError(f"got {n} sample(s); expected at least 2 to learn how shapes vary.")
        if self.shrinkage == "ledoit_wolf":
            raise ValueError("shrinkage: 'ledoit_wolf' needs each shape, not only their sums. Try 'oas' or a number.")
        check_settings(self, n, p)
        self.event_shape_ = statistics.event_shape
        self.n_features_in_ = p
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self._learn(n, statistics.mean.ravel(), statistics.covariance)

    def transform(self, shapes: ArrayLike) -> np.ndarray:
        """Return the coefficients of each shape, not limited.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, *event_shape_)
            Where landmarks are missing (NaN), the coefficients come from what is seen, as in ``basis_.encode`` with
            a confidence of 0 for them.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
        """
        check_is_fitted(self)
        array = as_samples(self, shapes, reset=False)
        return where_seen(array, self.basis_.encode, (self.n_components_,))

    def inverse_transform(self, coefficients: ArrayLike) -> np.ndarray:
        """Return the shapes with these coefficients, not limited: the inverse of `transform` on the model's span.

        Parameters
        ----------
        coefficients : array_like of shape (n_samples, n_components_)
            In the units of the shapes.

        Returns
        -------
        ndarray of shape (n_samples, *event_shape_)

        Raises
        ------
        ValueError
            For another number of coefficients, or an infinite one.
        """
        check_is_fitted(self)
        return self.basis_.decode(as_numpy(coefficients, "coefficients"))

    @overload
    def project(self, shapes: A, *, confidence: ArrayLike | None = None) -> A: ...
    @overload
    def project(self, shapes: ArrayLike, *, confidence: ArrayLike | None = None) -> np.ndarray: ...
    @formerly_weights
    def project(self, shapes: Array | ArrayLike, *, confidence: ArrayLike | None = None) -> Any:
        """Return the point of {mean + Σ bᵢvᵢ, b within the limit} nearest to each shape.

        Parameters
        ----------
        shapes : array of shape (..., *event_shape_)
            Of any array library; the answer has the same library, dtype and device.
        confidence : array of shape (..., n_landmarks), optional
            How far each landmark is trusted, 0 to 1; see `ShapeBasis.project` for what is lost with it. Named `weights`
            before 0.2.

        Returns
        -------
        array of the shape of `shapes`

        Raises
        ------
        ValueError
            For another event shape, NaN or infinities.
        """
        check_is_fitted(self)
        return self.basis_.project(shapes, confidence=confidence)

    @property
    def completion_basis_(self) -> ShapeBasis:
        """The Gaussian of full rank that completes; made at its first use."""
        covariance = self.covariance_
        if covariance is None:
            return self.basis_
        make = partial(completion_basis, self.mean_, covariance, self.n_samples_, self.basis_.limit)
        return self.basis_._derived("completion", make)

    def _learned_tails(self, frame: Any) -> Any:
        """Return the `Tails` of what completes, learned at their first use; None where there is nothing to learn from.

        They are learned once, for the frame that asks first: an aligned model holds its own estimator.
        """
        sample, covariance = self._sample, self.covariance_
        if self._tails is None and sample is not None and covariance is not None:
            self._tails = learn_tails(frame, sample, covariance, self.n_samples_)
            self._sample = None
        return self._tails

    def complete(self, shapes: ArrayLike) -> Completion:
        """Fill missing landmarks with their conditional mean; the same as ``completion_basis_.complete``.

        Parameters
        ----------
        shapes : array_like of shape (..., *event_shape_)
            NaN where a landmark is missing.

        Returns
        -------
        Completion
            The filled shapes and the covariance of what was filled in.
        """
        check_is_fitted(self)
        return self.completion_basis_.complete(shapes)

    def report(self, shapes: ArrayLike) -> BasisReport:
        """Say how each shape relates to the model; the same as ``basis_.report``.

        Parameters
        ----------
        shapes : array_like of shape (..., *event_shape_)
            Complete aligned shapes.

        Returns
        -------
        BasisReport
            Of `ShapeBasis.report`.
        """
        check_is_fitted(self)
        return self.basis_.report(shapes)

    def sample(
        self, n_samples: int = 1, *, rng: np.random.Generator | int | None = None, truncated: bool = True
    ) -> np.ndarray:
        """Draw shapes from the model.

        Parameters
        ----------
        n_samples : int
            How many.
        rng : numpy.random.Generator, int or None
            Source of chance; an int is a seed.
        truncated : bool
            Whether the coefficients keep to the limit.

        Returns
        -------
        ndarray of shape (n_samples, *event_shape_)
        """
        check_flags(truncated=truncated)
        check_is_fitted(self)
        return np.asarray(self.basis_.sample(n_samples, rng=as_generator(rng), truncated=truncated))

    def score(self, shapes: ArrayLike, y: object = None) -> float:
        """Return minus the mean over the shapes of the squared distance ‖x - project(x)‖²; higher is better.

        With more modes the distance never grows, so a search over `n_components` by this score takes the largest:
        ``asm.basis_.log_likelihood`` weighs modes against noise.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, *event_shape_)
            Where landmarks are missing (NaN), the distance of the seen ones counts, scaled to the number of all.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.

        Returns
        -------
        float
            At most 0, in squared units of the shapes.
        """
        check_is_fitted(self)
        array = as_samples(self, shapes, reset=False)
        seen = ~np.isnan(flat_rows(array))
        near = where_seen(array, self.basis_.project, self.event_shape_)
        squares = np.square(np.where(seen, flat_rows(array.astype(np.float64) - near), 0.0)).sum(axis=1)
        return -float(np.mean(squares * seen.shape[1] / seen.sum(axis=1)))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags

    def _fit_missing(self, flat: np.ndarray, warn: bool) -> Self:
        from ._missing import fit_missing, refuse_unseen

        if self.shrinkage == "ledoit_wolf":
            raise ValueError("shrinkage: 'ledoit_wolf' needs complete shapes; got missing landmarks. Try 'oas'.")
        n, p = flat.shape
        refuse_unseen(flat, self.event_shape_)
        refuse_equal_shapes(float(np.nanvar(flat, axis=0, ddof=1).sum()), np.nanmean(flat, axis=0))
        count = partial(count_modes, self.n_components, n=n, p=p)
        result = fit_missing(flat, count, tol=float(self.tol), max_iter=int(self.max_iter))
        record = {"n_iter": result.n_iter, "converged": result.converged}
        if warn and not result.converged:
            warnings.warn(
                f"the fit to shapes with missing landmarks did not settle in {result.n_iter} steps. Try a larger "
                "max_iter, or fewer modes.",
                ConvergenceWarning,
                stacklevel=4,
            )
        # So many shapes fix how a landmark depends on the modes, with nothing left over to tell by how much it is off.
        seen = n - np.isnan(flat).sum(axis=0)
        rare = np.flatnonzero(seen < min(result.n_modes + 2, n // 2))
        if warn and len(rare):
            index = rare[0] // math.prod(self.event_shape_[1:])
            warnings.warn(
                f"landmark {index} is seen in {seen[rare[0]]} of {n} shapes, too few for {result.n_modes} modes: where "
                "the model puts it is a guess, and its covariance too small. Try fewer modes, or LandmarkScheme.subset "
                "to leave it out.",
                stacklevel=4,
            )
        return self._learn(n, result.mean, result.covariance, n_modes=result.n_modes, record=record)

    def _learn(
        self,
        n: int,
        mean: np.ndarray,
        matrix: np.ndarray,
        *,
        lift: Callable[[np.ndarray], np.ndarray] | None = None,
        fourth: float | None = None,
        n_modes: int | None = None,
        record: dict[str, Any] | None = None,
        whole: np.ndarray | None = None,
        sample: np.ndarray | None = None,
    ) -> Self:
        """Keep the modes of the covariance, or of a matrix with the same eigenvalues whose vectors `lift` turns."""
        p = mean.size
        total = float(np.trace(matrix))
        found = find_modes(self, mean, matrix, n, lift=lift, fourth=fourth, n_modes=n_modes)
        basis = ShapeBasis(
            mean.reshape(self.event_shape_), found.components, found.variances, self.limit, noise_variance=found.noise
        )
        if lift is None:
            whole = matrix
        if p > MOST_FEATURES:
            whole = None
        if whole is None or len(self.event_shape_) != 2:
            sample = None
        if sample is not None:
            sample = sample[np.linspace(0, n - 1, min(n, MOST_SAMPLES)).astype(int)].reshape(-1, *self.event_shape_)
        self._set_model(
            basis,
            n_samples=n,
            total_variance=total,
            shrinkage=found.shrinkage,
            covariance=whole,
            sample=sample,
            **(record or {}),
        )
        return self

    def _set_model(
        self,
        basis: ShapeBasis,
        *,
        n_samples: int,
        total_variance: float,
        shrinkage: float,
        n_iter: int = 1,
        converged: bool = True,
        covariance: np.ndarray | None = None,
        sample: np.ndarray | None = None,
        tails: Any = None,
    ) -> None:
        self.basis_ = basis
        self.covariance_ = covariance
        self._sample, self._tails = sample, tails
        self.event_shape_ = basis.event_shape
        self.n_features_in_ = basis.n_features
        self.n_components_ = basis.n_components
        self.mean_ = basis.mean
        self.components_ = basis.components
        self.explained_variance_ = basis.variances
        self.explained_variance_ratio_ = basis.variances / total_variance
        self.total_variance_ = total_variance
        self.noise_variance_ = basis.noise_variance
        self.n_samples_ = n_samples
        self.shrinkage_ = shrinkage
        self.n_iter_ = n_iter
        self.converged_ = converged
