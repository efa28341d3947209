"""The model for image coordinates: align to the mean, keep to the limit, go back."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from ._alignment import GeneralizedProcrustes
from ._array import as_array, as_count, as_shapes, formerly_weights, namespace_of
from ._asm import ASM
from ._basis import ShapeBasis
from ._fitted import all_or_nothing
from ._posterior import Solution, check_choices, solve
from ._probabilistic import BasisReport, Completion
from ._problem import Problem
from ._provenance import recall, remember
from ._similarity import estimate_similarity
from ._streaming import fit_in_chunks
from ._tails import predictive
from ._transforms import Similarity
from ._typing import ArrayLike, Mapper
from .landmarks import SchemeLike, get_scheme


class AlignedASM(BaseEstimator):
    """Active shape model for shapes in any position, size and rotation, such as landmarks in images.

    `fit` superimposes the shapes (`GeneralizedProcrustes`) and learns mean and modes of what is left (`ASM`).
    `project` takes each shape to the frame of the model with the similarity that fits it best to the mean, moves it to
    the nearest plausible shape there, and brings it back to where it was.

    It promises less than `ASM`: the similarity depends on the shape, so `project` is no projection in image
    coordinates. It is not idempotent (a second application moves points a little more) and not non-expansive. In the
    frame of the model, ``asm_.basis_`` keeps all its laws.

    Parameters
    ----------
    asm : ASM, default=None
        The model to fit to the aligned shapes; None for ``ASM()``.
    alignment : GeneralizedProcrustes, default=None
        How to superimpose; None for ``GeneralizedProcrustes()``.
    scheme : LandmarkScheme or str, default=None
        What the landmarks are called; its number of landmarks is compared in `fit`, and it is saved with the model.
    loss : {"linear", "huber", "tukey"}, default="linear"
        What a landmark far from its place counts. "linear" is the classical filter, least squares: a few landmarks
        that are far off spoil the others. "huber" bounds their pull, "tukey" takes it away, by reweighting with the
        distance to the plausible shape, in units of the spread of the distances within each shape (bounds 1.345 and
        4.685, 95 % efficient under Gaussian noise). It takes effect at once, without a new `fit`.
    refinements : int, default=0
        How many times the similarity is estimated again, now between the shape and its own plausible shape instead
        of the mean, as in the iteration of Cootes et al. (1995). A shape far from the mean is then fitted a little
        better (faces with few modes gain a few per cent of the error); with enough modes it makes no difference.

    Attributes
    ----------
    asm_ : ASM
        The fitted model in the frame of the mean.
    alignment_ : GeneralizedProcrustes
        The fitted alignment, with ``mean_shape_``.
    scheme_ : LandmarkScheme or None
        The scheme, looked up by its name where that was given; else that of the landmarks `fit` was given.
    landmark_names_ : tuple of str or None
        What each landmark is called, where `fit` was told.
    frame_ : str or None
        The frame of the landmarks, as in `LandmarkSamples.frame`, where `fit` was told.
    n_features_in_ : int
        n_landmarks · n_dims.

    See Also
    --------
    ASM : The estimator for shapes that are aligned already.

    Notes
    -----
    Landmarks that are missing (NaN) or of confidence 0 play no part in the similarity and none in the coefficients, and
    the model fills them in. Pose and shape are then estimated together, in `fit` too, as the most probable of both:
    aligning what is seen to the same part of the mean would take shape for pose. All methods but `fit` take any
    leading axes; `project` and `align` take any array library.

    References
    ----------
    T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham, "Active shape models - their training and application",
    CVIU 61 (1995), sections 3 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import AlignedASM, make_faces
    >>> faces = make_faces(100, rng=0)
    >>> model = AlignedASM().fit(faces)
    >>> wrong = faces[0].copy()
    >>> wrong[30] += 40                                  # a detector that lost the tip of the nose
    >>> error = np.linalg.norm(model.project(wrong) - faces[0], axis=1)
    >>> bool(error[30] < 25)
    True
    >>> wrong[30] = np.nan                               # or that did not see it
    >>> bool(np.isfinite(model.project(wrong)).all())
    True
    """

    def __init__(
        self,
        asm: ASM | None = None,
        *,
        alignment: GeneralizedProcrustes | None = None,
        scheme: SchemeLike | None = None,
        loss: Literal["linear", "huber", "tukey"] = "linear",
        refinements: int = 0,
    ) -> None:
        self.asm = asm
        self.alignment = alignment
        self.scheme = scheme
        self.loss = loss
        self.refinements = refinements

    @all_or_nothing
    def fit(self, shapes: ArrayLike, y: object = None) -> Self:
        """Learn alignment, mean and modes.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, n_dims), or LandmarkSamples
            At least two, 2-D or 3-D, in any frame each; NaN where a landmark is missing. A set of landmarks brings
            their names, their frame and their scheme along.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.

        Returns
        -------
        AlignedASM
            The estimator itself.

        Raises
        ------
        ValueError
            As `GeneralizedProcrustes.fit` and `ASM.fit`; when `scheme` has another number of landmarks.
        """
        scheme = getattr(shapes, "scheme", None)
        shapes = remember(self, shapes)
        array = as_shapes(shapes, n_dims=(2, 3), min_samples=2, min_landmarks=2, allow_nan=True)
        self._check_parameters(array.shape[1], scheme)
        alignment = clone(self.alignment) if self.alignment is not None else GeneralizedProcrustes()
        asm = clone(self.asm) if self.asm is not None else ASM()
        missing = np.isnan(array[..., 0])
        aligned = alignment.fit_transform(array)
        self.alignment_, self.asm_ = alignment, asm._fit(aligned, warn=not missing.any())
        if missing.any():
            # What is seen was aligned to the same part of the mean, which takes some shape for pose. Once there is a
            # model, the shapes are aligned as a whole.
            gaps = missing.any(axis=1)
            whole = array.astype(np.float64)
            problem = Problem.of(self, whole[gaps], name="shapes")
            problem.refuse()
            whole[gaps] = solve(problem, judge=False).completed
            asm._fit(np.where(missing[..., None], np.nan, alignment._fit(whole, warn=False).aligned))
        self.n_features_in_ = array.shape[1] * array.shape[2]
        return self

    @all_or_nothing
    def fit_chunks(
        self, chunks: object, *, load: Callable[[Any], Any] | None = None, map: Mapper = builtins.map
    ) -> Self:
        """Learn from shapes that do not fit in memory, or lie on several machines.

        Planar shapes take two passes (the mean by its closed form, then the modes); solid ones, and other criteria,
        one for each round of the alignment and one for the modes. Equal to `fit` on all chunks together: to rounding
        for the closed form, to the tolerance of the alignment otherwise.

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
        AlignedASM
            The estimator itself.

        Raises
        ------
        ValueError
            As `fit` and `ShapeStatistics.from_chunks`; also for shapes with missing landmarks.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import AlignedASM, make_faces
        >>> faces = make_faces(90, rng=0)
        >>> streamed = AlignedASM().fit_chunks(np.array_split(faces, 3))
        >>> np.allclose(streamed.asm_.mean_, AlignedASM().fit(faces).asm_.mean_, rtol=0, atol=1e-12)
        True
        """
        alignment = clone(self.alignment) if self.alignment is not None else GeneralizedProcrustes()
        asm = clone(self.asm) if self.asm is not None else ASM()
        statistics = fit_in_chunks(alignment, chunks, load=load, map=map)
        self._check_parameters(len(statistics.mean))
        self.alignment_, self.asm_ = alignment, asm.fit_statistics(statistics)
        self.n_features_in_ = statistics.mean.size
        return self

    @formerly_weights
    def align(
        self, shapes: ArrayLike, confidence: ArrayLike | None = None, *, on_error: OnError | None = None
    ) -> tuple[Any, Similarity]:
        """Bring shapes to the frame of the model, whether or not they look like it.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            NaN where missing.
        confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
            What each landmark is worth, 0 to 1; see `fit_shape`. Named `weights` before 0.2.
        on_error : {"status", "raise"}, optional
            As in `project`.

        Returns
        -------
        aligned : array of the shape of `shapes`
            NaN stays NaN.
        transform : Similarity
            From the image to the model, batched like `shapes`; ``transform.inverse`` goes back.
        """
        shapes = recall(self, shapes)
        solution = self._solve(shapes, confidence, on_error=on_error, judge=False)
        problem = solution.problem
        pose = self._pose(solution)
        aligned = pose(problem.points)
        if not problem.certain:
            xp = namespace_of(aligned)
            gaps = xp.isnan(xp.reshape(xp.astype(as_array(shapes), aligned.dtype), aligned.shape))
            aligned = xp.where(gaps, xp.full_like(aligned, float("nan")), aligned)
        return solution.leave(aligned), solution.leave_pose(pose)

    @formerly_weights
    def project(
        self,
        shapes: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        loss: Literal["linear", "huber", "tukey"] | None = None,
        on_error: OnError | None = None,
    ) -> Any:
        """Replace each shape by a plausible one near it, in its own position, size and rotation.

        This is ``fit_shape(model, shapes, ...).shapes`` (with `refinements` of the similarity, if there are any),
        without the rest of the record.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims), or LandmarkSamples
            Of any array library; the answer has the same library, dtype and device. Missing landmarks (NaN) are
            filled in. Landmarks with names are matched to those of the model; the answer has its order.
        confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
            What each landmark is worth, 0 to 1, for instance the confidence of a detector; True and False for a mask.
            Named `weights` before 0.2.
        covariance : float or array, optional
            Of the error of each landmark, in squared units of the shapes, instead; see `fit_shape`.
        loss : {"linear", "huber", "tukey"}, optional
            For this call; by default that of the model.
        on_error : {"status", "raise"}, optional
            Whether a shape that cannot be fitted becomes a row of NaN or an exception: by default an exception for
            one shape, and a row of NaN in a batch. `fit_shape` says why.

        Returns
        -------
        array of the shape of `shapes`

        Raises
        ------
        ValueError
            For another number of landmarks or dimensions, a confidence outside [0, 1].
        DegenerateShapeError
            For one shape of which the landmarks that are seen do not fix a similarity (all coincide, fewer than two,
            or infinite), or look like the mean shape in no position (mirrored, upside down, out of order).

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import load_model
        >>> model = load_model("face68")
        >>> face = 100 * model.asm_.mean_ + 200
        >>> bool(np.abs(model.project(face) - face).max() < 1)
        True
        """
        solution = self._solve(shapes, confidence, covariance, loss=loss, on_error=on_error)
        if not self.refinements:
            return solution.leave(solution.decode(solution.problem.basis._clip(solution.encode())))
        pose = self._pose(solution)
        return solution.leave(pose.inverse(self.asm_.basis_.project(pose(solution.completed))))

    def complete(
        self,
        shapes: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        loss: Literal["linear", "huber", "tukey"] | None = None,
        on_error: OnError | None = None,
    ) -> Any:
        """Estimate missing landmarks (NaN) from the others, which stay where they are.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            In image coordinates, NaN where a landmark is missing.
        confidence, covariance, loss, on_error : optional
            As in `project`. A landmark that is not exact comes to lie between where it is seen and where the others
            expect it; a loss only says how much a landmark tells about the others.

        Returns
        -------
        Completion
            The filled shapes, and the covariance (..., n_landmarks, n_dims, n_dims) of each landmark in squared units
            of the shapes: 0 where it is exact, otherwise with the uncertainty of the pose. ``radius(0.95)`` scales it
            to what holds the true landmark with that probability, and ``no_better_than_mean`` says when the shapes
            that were left out of the model tell that pasting the mean would do as well.

        Notes
        -----
        Landmarks of a detector are not exact. Say so by `covariance` (`learn_point_errors` learns it): jaw lines that
        ``load_model("face68")`` completes from the rest of a face, with errors of standard deviation 0, 1, 2 and 4 % of
        the eye distance, are off by 8.3, 8.4, 8.7 and 9.5 % of it with their covariance, and by 8.3, 9.3, 11.4 and
        17.9 % where they are taken for exact (``python tests/benchmarks/bench_completion.py --noise``).
        """
        solution = self._solve(shapes, confidence, covariance, loss=loss, on_error=on_error)
        exact = solution.problem.exact()[..., None]
        covariance = solution.covariance(whole=True)
        xp = namespace_of(covariance)
        return Completion(
            shapes=solution.leave(xp.where(exact, solution.problem.points, solution.completed)),
            covariance=solution.leave(xp.where(exact[..., None], xp.zeros_like(covariance), covariance)),
            _law=predictive(solution),
        )

    def report(self, shapes: ArrayLike) -> BasisReport:
        """Say how each shape relates to the model, measured in the frame of the model.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            Complete shapes in image coordinates.

        Returns
        -------
        BasisReport
            As ``asm_.basis_.report``; lengths are in units of the mean, whose centroid size is 1.
        """
        check_is_fitted(self)
        return self.asm_.basis_.report(self.align(shapes, on_error="raise")[0])

    def _solve(
        self,
        shapes: Any,
        confidence: Any = None,
        covariance: Any = None,
        *,
        loss: str | None = None,
        on_error: str | None = None,
        judge: bool = True,
    ) -> Solution:
        check_is_fitted(self)
        self._check_choices()
        loss = self.loss if loss is None else loss
        problem = Problem.of(self, shapes, confidence=confidence, covariance=covariance, name="shapes")
        if on_error is None:
            on_error = "status" if problem.lead else "raise"
        check_choices(loss, on_error)
        solution = solve(problem, loss=loss, judge=judge)
        if on_error == "raise":
            problem.refuse()
        return solution

    def _pose(self, solution: Solution) -> Similarity:
        """Return image → model."""
        pose = solution.similarity
        for _ in range(self.refinements):
            near = self.asm_.basis_.project(pose(solution.completed))
            # Least squares in the image: the model is taken there, and the pose is the way back.
            pose = estimate_similarity(
                near, solution.completed, scaling=self.alignment_.scaling, reflection=self.alignment_.reflection
            ).inverse
        return pose

    def sample(
        self, n_samples: int = 1, *, rng: np.random.Generator | int | None = None, truncated: bool = True
    ) -> np.ndarray:
        """Draw shapes from the model, in its own frame; the same as ``asm_.sample``.

        Parameters
        ----------
        n_samples : int, default=1
            How many shapes.
        rng : numpy.random.Generator or int, optional
            Source of the draws, or its seed.
        truncated : bool, default=True
            Whether coefficients keep to the limit of the model.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            Shapes in the aligned frame.
        """
        check_is_fitted(self)
        return self.asm_.sample(n_samples, rng=rng, truncated=truncated)

    def score(self, shapes: ArrayLike, y: object = None) -> float:
        """Return ``asm_.score`` of the aligned shapes; higher is better.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, n_dims)
            In image coordinates, NaN where missing.
        y : None
            Ignored; it is there for the pipelines of scikit-learn.

        Returns
        -------
        float
            At most 0, in squared units of the aligned frame.
        """
        check_is_fitted(self)
        k, d = self.alignment_.mean_shape_.shape
        shapes = as_shapes(recall(self, shapes), n_landmarks=k, n_dims=d, min_samples=1, allow_nan=True)
        return self.asm_.score(self.align(shapes, on_error="raise")[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _assemble(
        self, alignment: GeneralizedProcrustes, asm: ASM, names: tuple[str, ...] | None = None, frame: str | None = None
    ) -> Self:
        """Take parts that were learned elsewhere, and what their landmarks are called."""
        self._check_parameters(len(alignment.mean_shape_))
        self.alignment_, self.asm_ = alignment, asm
        self.n_features_in_ = asm.n_features_in_
        self.landmark_names_, self.frame_ = names, frame
        return self

    def _check_parameters(self, n_landmarks: int, scheme: Any = None) -> None:
        self._check_choices()
        self.scheme_ = scheme if self.scheme is None else get_scheme(self.scheme)
        if self.scheme_ is not None and self.scheme_.n_landmarks != n_landmarks:
            raise ValueError(
                f"got shapes of {n_landmarks} landmarks; expected {self.scheme_.n_landmarks}, those of the scheme "
                f"{self.scheme_.name!r}. Try scheme.subset or convert."
            )

    def _check_choices(self) -> None:
        as_count(self.refinements, "refinements", 0)
        check_choices(self.loss)
        for name, kind in (("asm", ASM), ("alignment", GeneralizedProcrustes)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                got = value.__name__ if isinstance(value, type) else repr(value)[:80]
                raise TypeError(f"{name}: got {got}; expected an estimator. Try {name}={kind.__name__}().")


OnError = Literal["status", "raise"]


ShapeModel: TypeAlias = AlignedASM | ASM | ShapeBasis
