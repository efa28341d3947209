"""The mean of a set as an estimator that aligns other shapes to it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._array import as_shapes
from ._fitted import all_or_nothing
from ._mean_shape import Mean, seen_weights, to_tangent
from ._procrustes import ProcrustesResult, Superimposition, superimposed
from ._similarity import OnError, Pair, as_similarity
from ._transforms import Similarity
from ._typing import ArrayLike


class GeneralizedProcrustes(TransformerMixin, BaseEstimator):
    """Generalised Procrustes analysis as a transformer: learns the mean of a set and aligns other shapes to it.

    Parameters
    ----------
    criterion, scaling, reflection, tangent, mirror, tol, max_iter, on_error : optional
        As in `generalized_procrustes`.

    Attributes
    ----------
    mean_shape_ : ndarray of shape (n_landmarks, n_dims)
    inflation_ : float
        As ``ProcrustesResult.inflation``; `align` applies it too.
    disparity_ : float
    mirrored_ : ndarray of int
        Training shapes that are mirror images of the rest.
    n_iter_ : int
    converged_ : bool

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import GeneralizedProcrustes
    >>> rng = np.random.default_rng(0)
    >>> shapes = rng.normal(size=(1, 5, 2)) + 0.1 * rng.normal(size=(30, 5, 2))
    >>> alignment = GeneralizedProcrustes().fit(shapes)
    >>> photo = 100 * shapes[0] + [320, 240]
    >>> to_model = alignment.align(photo)
    >>> bool(np.allclose(to_model(photo), alignment.transform(shapes[:1])[0]))
    True
    """

    def __init__(
        self,
        *,
        criterion: Literal["full", "partial"] = "full",
        scaling: bool = True,
        reflection: bool = False,
        tangent: bool = False,
        mirror: ArrayLike | None = None,
        tol: float = 1e-8,
        max_iter: int = 100,
        on_error: OnError = "raise",
    ) -> None:
        self.criterion = criterion
        self.scaling = scaling
        self.reflection = reflection
        self.tangent = tangent
        self.mirror = mirror
        self.tol = tol
        self.max_iter = max_iter
        self.on_error = on_error

    @all_or_nothing
    def fit(self, shapes: ArrayLike, y: object = None, *, weights: ArrayLike | None = None) -> GeneralizedProcrustes:
        """Learn the mean.

        Parameters
        ----------
        shapes : array of shape (n_samples, n_landmarks, n_dims)
            NaN where missing.
        y : None
            Ignored.
        weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
            As in `generalized_procrustes`.

        Returns
        -------
        GeneralizedProcrustes
            The estimator itself.
        """
        self._fit(shapes, weights)
        return self

    @all_or_nothing
    def fit_transform(self, shapes: ArrayLike, y: object = None, *, weights: ArrayLike | None = None) -> np.ndarray:
        """Learn the mean and return the aligned shapes.

        Parameters
        ----------
        shapes : array of shape (n_samples, n_landmarks, n_dims)
            NaN where missing.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.
        weights : array of shape (n_landmarks,) or (n_samples, n_landmarks), optional
            As in `generalized_procrustes`.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            The shapes in the frame of the mean.
        """
        return self._fit(shapes, weights).aligned

    def _fit(self, shapes: Any, weights: Any = None, *, warn: bool = True) -> ProcrustesResult:
        result = superimposed(shapes, self._superimposition(), weights=weights, on_error=self.on_error)
        if warn:
            result._warn_of_mirrored(self.reflection)
        self._keep(result, result.disparity, result.mirrored)
        return result

    def _superimposition(self) -> Superimposition:
        return Superimposition(*(getattr(self, name) for name in Superimposition._fields))

    def _keep(self, found: ProcrustesResult | Mean, disparity: float, mirrored: np.ndarray) -> None:
        self.mean_shape_, self.inflation_, self.disparity_ = found.mean, found.inflation, disparity
        self.mirrored_, self.n_iter_, self.converged_ = mirrored, found.n_iter, found.converged

    def align(
        self, shapes: ArrayLike, weights: ArrayLike | None = None, *, on_error: OnError | None = None
    ) -> Similarity:
        """Return the transforms that take shapes to the frame of the mean.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            Any leading axes, any array library; NaN where missing.
        weights : array of shape (n_landmarks,) or (..., n_landmarks), optional
            Relative weights of the landmarks, as in `estimate_similarity`.
        on_error : {"status", "raise"}, optional
            As in `estimate_similarity`: by default a shape that cannot be aligned is an exception, and a row of NaN
            in a batch.

        Returns
        -------
        Similarity
            Batched like `shapes`; its ``status`` says which rows could not be aligned, and why.

        Raises
        ------
        DegenerateShapeError
            As `estimate_similarity`.
        """
        check_is_fitted(self, "mean_shape_")
        rule = self._superimposition().rule()
        pair = Pair.of(shapes, self.mean_shape_, weights, ("shapes", "mean_shape_"), model=True)
        options: dict[str, Any] = {"reflection": self.reflection, "inflation": self.inflation_}
        return as_similarity(*pair.fit(rule=rule, on_error=on_error, **options))

    def transform(self, shapes: ArrayLike) -> Any:
        """Return shapes in the frame of the mean, projected to its tangent plane when ``tangent=True``.

        Parameters
        ----------
        shapes : array_like of shape (..., n_landmarks, n_dims)
            NaN where missing, which stays. In a batch a shape that cannot be aligned becomes NaN; see `align`.

        Returns
        -------
        array of shape (..., n_landmarks, n_dims)
            Aligned shapes, of the library of the input.
        """
        check_is_fitted(self, "mean_shape_")
        k, d = self.mean_shape_.shape
        shapes = as_shapes(shapes, n_landmarks=k, n_dims=d, allow_nan=True)
        aligned = self.align(shapes)(shapes)
        if self.tangent:
            aligned = to_tangent(aligned, self.mean_shape_, seen_weights(aligned, None))
        return aligned
