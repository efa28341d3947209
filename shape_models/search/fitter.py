"""The active shape model search: learn what landmarks look like, then find the shape in new images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._aligned import AlignedASM
from .._array import DegenerateShapeError, as_count, as_shapes
from .._fitted import all_or_nothing
from .._options import as_generator, check_flags, check_numbers
from .._provenance import is_landmark_set, recall
from .._typing import ArrayLike, ImagesLike, MapsLike, ShapesLike
from ..boxes import check_boxes
from ._begin import begin, search
from ._calibration import Calibration
from ._cascade import Detector
from ._checks import check_count, check_groups, check_jitter, numbers
from ._contours import scheme_of
from ._crops import Crops
from ._fitter_file import fitter_to_archive, read_fitter
from ._images import split_set
from ._left_out import CHUNK, calibrate
from ._locator import Locator, learn_places
from ._placement import Placement
from ._requests import Request, arranged, requests
from ._selection import make_evidence, select
from ._solver import Solver, no_maps
from ._starts import BoxConvention, Jitter, boxes_of, filled_shape
from ._threads import in_chunks
from ._training import Examples, Maps, Tell, fit_shape_model, frame_of, load, silent, train, training_samples
from ._turns import N_TURNS
from .detection import LearnedDetection, learn_detection
from .evidence import Evidence
from .results import SearchResult

__all__ = ["ASMFitter"]


class ASMFitter(BaseEstimator):
    """Active shape model search: finds the landmarks of a shape model in images.

    From coarse to fine, each iteration asks the evidence where the landmarks should go, fits pose and modes to the
    answer weighted by its confidence, and clips the modes by the limit of the basis. So the result always is a shape
    of the model, and landmarks that cannot be seen are carried by the others.

    Parameters
    ----------
    asm : AlignedASM, default=None
        The shape model; None for ``AlignedASM(ASM(0.98))``. One that is fitted already is used as it is (learn it from
        more shapes than there are images); otherwise a clone is fitted to the training shapes.
    evidence : Evidence or str, default="patches"
        ``"patches"``; ``"profiles"``, whose modes, prior and length are chosen by cross-validation; ``"auto"`` for the
        better of the two in images left out; or an object with settings of its own: `Patches`, `Profiles`, `HeatMaps`,
        `CombinedEvidence`, or one that you define (see `Evidence`).
    n_levels : int, default=None
        Levels, from coarse to fine; None for what suits the evidence.
    resolution : float, default=None
        Pixels along the longer side of the mean shape at the finest level; None for what suits the evidence.
    level_step : float, default=None
        Factor between the resolutions of two levels; None for what suits the evidence.
    jitter : tuple of three floats, default=(0.1, 0.1, 0.175)
        How far starts are off in training, uniformly: position and size as fractions of the longer side of the box,
        and rotation in radians. Also the spread of several starts in `predict`.
    n_perturbations : int, default=None
        Training starts for each image; None for as many as make about 7000 in all, 2 to 40 each.
    mirror : bool, default=True
        Whether to learn from mirrored images too, when the scheme of the shape model says which landmarks swap.
    occlusion : float, default=0.4
        Fraction of the training starts that see their image with a part of the shape hidden, for evidence that learns
        from that (`Patches`): what is covered later is then told from what is seen.
    calibration : int, default=None
        Folds of the cross-validation that learns the confidence of landmarks and the expected error of answers, each
        trained like the whole; None for 5 below 100 images, 3 below 200 and 2 above, where the evidence learns.
        0 does without, and then the confidence is what the evidence says and the expected error unknown.
    tolerance : float, default=0.9
        A level ends when at least this fraction of landmarks stays where it is.
    random_state : int, default=0
        Seed of all that is random, in training and in starts.
    n_jobs : int, default=None
        Threads; None for one, -1 for one in each processor.

    Attributes
    ----------
    asm_ : AlignedASM
        The fitted shape model.
    evidence_ : Evidence
        The trained evidence.
    box_ : BoxConvention
        The convention of boxes: ``center`` (2,), shift of the middle of the mean shape's box from that of the given
        box, and ``side``, the longer side of it, both as fractions of the longer side of the given box; ``spread``
        (3,), their standard deviations (x, y, side) in training.
    detection_ : LearnedDetection or None
        The map from boxes of `detect_faces` to boxes of this convention, when `fit_detection` has learned it.
    placement_ : Placement or None
        Where, how large and how turned the objects stood in the training images: the sizes and angles at which
        `predict` looks for the object when nobody says where it is.
    calibration_ : Calibration or None
        What was learned on left-out images; None where there were too few, or ``calibration`` is 0.
    left_out_ : ndarray of shape (n, K, 2) or None
        What searches that were trained without an image answered in it, NaN where they were not asked; not kept in
        files.
    n_landmarks_ : int
        Number of landmarks.

    Notes
    -----
    Coordinates are (x, y) in pixels with pixel centres at whole numbers. Images are arrays (height, width) or (height,
    width, 3) of any real type, or paths.

    References
    ----------
    T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham, "Active shape models - their training and application",
    CVIU 61 (1995).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import ASMFitter
    >>> def draw(shape):                                       # an image that shows where its landmarks are
    ...     y, x = np.mgrid[:100, :100]
    ...     return sum(np.exp(-((x - p) ** 2 + (y - q) ** 2) / 8) for p, q in shape)
    >>> shapes = 0.4 * make_faces(30, rng=0)[:, 27:48]
    >>> pictures = [draw(shape) for shape in shapes]
    >>> fitter = ASMFitter(evidence="profiles", n_levels=2, resolution=40).fit(pictures[:25], shapes[:25])
    >>> box = (*shapes[25].min(axis=0), *shapes[25].max(axis=0))
    >>> result = fitter.predict(pictures[25], boxes=box)
    >>> result.shape.shape, result.found
    ((21, 2), True)
    """

    evidence_: Evidence
    _evidence: Evidence
    detection_: LearnedDetection | None
    placement_: Placement | None
    _locator: Locator | None
    calibration_: Calibration | None
    left_out_: np.ndarray | None

    def __init__(
        self,
        asm: AlignedASM | None = None,
        *,
        evidence: Evidence | str = "patches",
        n_levels: int | None = None,
        resolution: float | None = None,
        level_step: float | None = None,
        jitter: tuple[float, float, float] = (0.1, 0.1, 0.175),
        n_perturbations: int | None = None,
        mirror: bool = True,
        occlusion: float = 0.4,
        calibration: int | None = None,
        tolerance: float = 0.9,
        random_state: int | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.asm = asm
        self.evidence = evidence
        self.n_levels = n_levels
        self.resolution = resolution
        self.level_step = level_step
        self.jitter = jitter
        self.n_perturbations = n_perturbations
        self.mirror = mirror
        self.occlusion = occlusion
        self.calibration = calibration
        self.tolerance = tolerance
        self.random_state = random_state
        self.n_jobs = n_jobs

    # --- learning ------------------------------------------------------------------------------------------

    @all_or_nothing
    def fit(
        self,
        images: ImagesLike | None,
        shapes: ShapesLike | None = None,
        *,
        boxes: ArrayLike | None = None,
        initial: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        heatmaps: MapsLike | None = None,
        spacing: ArrayLike | None = None,
        callback: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Train shape model and evidence on images with landmarks, and learn from images left out how large errors are.

        Parameters
        ----------
        images : sequence of array or path, or LandmarkSamples
            One for each shape, of any sizes. None for evidence that does not look at them (`HeatMaps` alone). A set of
            `load_landmarks` brings its shapes, groups and the names of its landmarks along.
        shapes : array_like of shape (n, K, 2), optional
            Landmarks, pixels of the images; NaN where missing (filled in by the shape model).
        boxes : array_like of shape (n, 4), optional
            (x0, y0, x1, y1) as they will be given to `predict`, for instance by a detector; None for the tight boxes
            of the landmarks.
        initial : array_like of shape (n, K, 2), optional
            Shapes as `predict` will be given them to start from, instead of boxes: what another search or detector
            answers in images that it was not trained on. Every training start is one of them, off by `jitter`.
        groups : array_like of shape (n,), optional
            Person or specimen of each image: cross-validation keeps a group together.
        heatmaps : sequence, optional
            For `HeatMaps`, alone or in a combination, whose weights are learned: the maps of each image, as `predict`
            takes them. Mirrored images are then not used.
        spacing : float or array_like of shape (2,) or (n, 2), optional
            Distance of pixels along x and y, in any unit, for all images or for each. Pixels that are not square are
            made so, and `placement_` learns how large the objects are in that unit.
        callback : callable, optional
            Hears how far the training is: what is done, how many steps of it, and of how many.

        Returns
        -------
        ASMFitter
            With its attributes set; one that is interrupted or refused stays as it was.

        Raises
        ------
        ValueError
            When images and shapes do not fit together, or a parameter or a value is out of range.
        """
        tell = callback or silent
        self._check_parameters()
        known = images if is_landmark_set(images) else None
        images, shapes, groups = split_set(images, shapes, groups)
        scheme = scheme_of(shapes if known is None else known)
        if known is not None and hasattr(self.asm, "asm_"):
            shapes = recall(self.asm, known)
        shapes = as_shapes(shapes, n_dims=2, min_samples=4, allow_nan=True).astype(np.float64)
        n = len(shapes)
        groups = None if groups is None else check_groups(groups, n)
        boxes = None if boxes is None else check_boxes(boxes, n=n)
        if initial is not None:
            initial = as_shapes(initial, name="initial", n_landmarks=shapes.shape[1], n_dims=2).astype(np.float64)
            if initial.shape != shapes.shape:
                raise ValueError(f"initial: got shape {initial.shape}; expected {shapes.shape}, one for each image.")
        crops = None
        if heatmaps is None and make_evidence(self.evidence).needs_images:
            crops = images if isinstance(images, Crops) else Crops(images, shapes, spacing)
            images, shapes = crops, crops.inside(shapes)
            boxes = None if boxes is None else crops.inside(boxes.reshape(n, 2, 2)).reshape(n, 4)
            initial = None if initial is None else crops.inside(initial)
        elif spacing is not None:
            raise ValueError("spacing: got one for evidence that looks at maps; expected images alone.")
        self._evidence = make_evidence(self.evidence)
        examples = Examples(images, shapes, scheme, boxes, initial, groups, heatmaps)
        if crops is not None:
            self._evidence = select(self, examples, tell)
        truth = self._learn(examples, tell)
        wanted = self.calibration
        if wanted is None:  # evidence that does not learn sees its first image in `predict`
            wanted = heatmaps is not None or type(self.evidence_).train is not Evidence.train
        if wanted and images is not None and (heatmaps is not None or not self.evidence_.needs_maps):
            examples = replace(examples, scheme=self.asm_.scheme_)
            self.calibration_, self.left_out_ = calibrate(self, examples, truth, tell)
        if crops is not None:
            places = learn_places(crops, truth, np.arange(n), self._frame, self.random_state)
            self.placement_, self._locator = places
            self.left_out_ = None if self.left_out_ is None else crops.outside(self.left_out_)
        if known is not None and not hasattr(self.asm, "asm_"):
            self.asm_.landmark_names_ = known.landmark_names
        return self

    def _blank(self, **changes: Any) -> Self:
        """Return an unfitted one of the same choices; a shape model that is fitted stays so."""
        blank = type(self)(**{**self.get_params(deep=False), **changes})
        blank._evidence = make_evidence(blank.evidence)
        return blank

    def _learn(self, examples: Examples, tell: Tell) -> np.ndarray:
        """Learn everything but calibration and placement, and answer the shapes without gaps."""
        jitter = self._check_parameters()
        check_flags(mirror=self.mirror)
        n, shapes, heatmaps = len(examples), examples.shapes, examples.heatmaps
        rng = as_generator(self.random_state, "random_state")
        self.asm_ = fit_shape_model(self.asm, shapes, examples.scheme)
        scheme = self.asm_.scheme_
        if not np.isfinite(shapes).all():
            shapes = np.where(np.isfinite(shapes), shapes, self.asm_.complete(shapes).shapes)
            lost = np.flatnonzero(np.isnan(shapes).any(axis=(1, 2)))
            if len(lost):
                raise DegenerateShapeError(
                    f"shapes[{lost[0]}]: got landmarks to which the missing ones cannot be added ({len(lost)} such "
                    "shapes); expected shapes that look like the others. Try whether they are mirrored or upside down."
                )
        self._frame, poses = frame_of(self.asm_, shapes)
        self.n_landmarks_ = self._frame.n_landmarks
        tight = boxes_of(shapes) if examples.boxes is None else examples.boxes
        self.box_ = BoxConvention.learn(tight, poses, self._frame)
        self.detection_ = None
        self.placement_, self._locator = None, None
        self.evidence_ = clone(self._evidence)
        self.resolutions_ = self._levels()
        self.evidence_.prepare(self._frame, len(self.resolutions_), scheme)
        self.calibration_ = None
        self.left_out_ = None
        if heatmaps is not None:
            self._check_maps_wanted()
            if examples.images is None or len(heatmaps) != n:
                raise ValueError(f"heatmaps: expected one array for each of {n} images, and images with them.")
        bank, hidden = None, np.zeros((n, self.n_landmarks_), dtype=bool)
        if self.evidence_.needs_images:
            bank, hidden = load(
                examples.images, shapes, poses, self._frame, self.evidence_, self.resolutions_[-1], self.occlusion, rng,
                tell,
            )  # fmt: skip
        maps = None if heatmaps is None or bank is None else Maps(heatmaps, self.n_landmarks_, bank.sizes)
        mirror = getattr(scheme, "mirror", None) if self.mirror and maps is None else None
        given = training_samples(
            shapes, tight, examples.groups, bank, hidden, mirror if bank is not None else None, self.box_,
            examples.initial, self._frame, self.n_perturbations, jitter, self.occlusion, rng,
        )  # fmt: skip
        self.score_scale_ = train(
            self.evidence_, self._frame, self.resolutions_, bank, given, {"maps": maps or no_maps}, rng, self.n_jobs,
            tell,
        )  # fmt: skip
        return shapes

    def _solver(self) -> Solver:
        """Return what searches with what was learned."""
        return Solver(
            self._frame, self.evidence_, self.resolutions_, self.tolerance, self.calibration_, self.score_scale_
        )

    def _check_parameters(self) -> Jitter:
        for name, value in (("n_levels", self.n_levels), ("n_perturbations", self.n_perturbations)):
            check_count(name, value, 1, 1000)
        for name, number, least in (("resolution", self.resolution, 8.0), ("level_step", self.level_step, 1.0)):
            if number is not None and not (isinstance(number, Real) and least <= number < np.inf):
                raise ValueError(f"{name}: got {number!r}; expected a number of at least {least:g}, or None.")
        check_numbers(tolerance=self.tolerance, above=True, most=1)
        check_numbers(occlusion=self.occlusion, most=1)
        if self.calibration is not None:
            expected = "a number of folds of at least 2, 0 or None"
            as_count(self.calibration, "calibration", 2 if self.calibration else 0, expected=expected)
        return check_jitter(self.jitter)

    def _levels(self) -> tuple[float, ...]:
        finest = float(self.resolution or self.evidence_.resolution)
        step = float(self.level_step or self.evidence_.level_step)
        return tuple(max(8.0, finest / step**k) for k in reversed(range(self.n_levels or self.evidence_.n_levels)))

    # --- searching -----------------------------------------------------------------------------------------

    def predict(
        self,
        images: ImagesLike,
        *,
        boxes: ShapesLike | None = None,
        initial: ShapesLike | None = None,
        heatmaps: MapsLike | None = None,
        spacing: ArrayLike | None = None,
        n_starts: int | None = None,
        n_turns: int | None = None,
        max_iter: int | None = None,
    ) -> SearchResult | list[Any]:
        """Find the landmarks in one image or in each of many.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        boxes : array_like of shape (4,) or (m, 4), or for a batch (n, 4) or a list of n such, optional
            Where the object is, (x0, y0, x1, y1), by the convention learned in `fit`; several boxes in one image are
            so many searches.
        initial : array_like of shape (K, 2) or (m, K, 2), or for a batch (n, K, 2) or a list of n such, optional
            Shapes to start from, instead of boxes. Without either, the face is detected (the largest,
            where there are several), when `fit_detection` has learned what the boxes mean; otherwise the object is
            looked for in the whole image, about as large and as turned as in the training images and, where such an
            answer is doubtful, turned by any angle and up to twice as large or small.
        heatmaps : optional
            For `HeatMaps` evidence: maps (K, h, w) of the image, or a list of them, one for each image.
        spacing : float or array_like of shape (2,) or (n, 2), optional
            Distance of pixels along x and y, in the unit of `fit`, for all images or for each. Shapes are in the
            pixels of the image as it is; `transform` and `expected_error` of answers are in square ones, as wide as
            the narrower side of its pixels.
        n_starts : int, optional
            Searches from so many starts, the first of them unchanged and the others jittered, and answers the one with
            the least expected error. None for one start, or 40 where nobody says where the object is.
        n_turns : int, optional
            Objects in boxes may be turned in the plane by any angle: where the answer is turned, the search starts
            anew from there, and where it is doubtful, from so many angles, evenly spread; a turned answer stands when
            it is clearly the more confident one. None for 12 where the model detects faces and neither `n_starts` nor
            `max_iter` is given, 1 otherwise: then the objects stand as in the training images.
        max_iter : int, optional
            Iterations at each level, at most; 0 judges the start where it is, as `confidence` does.

        Returns
        -------
        SearchResult or list
            One record for one image with one box or shape, or none; a list of records for several boxes or shapes in
            it; for a batch a list with one of these for each image. Unless a single search was asked for, one that is
            not possible, for its image, box, shape or maps, has the status ``"error"``, and the others are still
            solved.

        Raises
        ------
        ValueError
            For a single search that is not possible; for arguments that do not fit together.
        """
        check_is_fitted(self, "evidence_")
        self._check_parameters()
        if boxes is not None and initial is not None:
            raise ValueError("got boxes and initial; expected one of them.")
        check_count("n_starts", n_starts, 1)
        check_count("n_turns", n_turns, 1)
        check_count("max_iter", max_iter, 0)
        if n_turns is None:
            n_turns = N_TURNS if self.detection_ is not None and n_starts is None and max_iter is None else 1
        if boxes is None and initial is None and heatmaps is None and not (self.detection_ or self.placement_):
            raise ValueError("got neither boxes nor initial; expected one of them.")
        given, name = boxes, "boxes"
        event: tuple[int, ...] = (4,)
        if boxes is None:
            given, event, name = initial, (self.n_landmarks_, 2), "initial"
        if spacing is not None and heatmaps is not None:
            raise ValueError("got spacing and heatmaps; expected one of them.")
        asked, counts = self._requests(images, given, event, name, heatmaps, spacing)
        strict = counts is None

        def run(first: int, last: int) -> list[SearchResult]:
            kind = name if given is not None else None
            return search(self, asked[first:last], kind, n_starts, n_turns, max_iter, strict)

        answers: SearchResult | list[Any] = arranged(in_chunks(run, len(asked), self.n_jobs, CHUNK), counts)
        return answers

    def confidence(self, images: ImagesLike, shapes: ShapesLike, *, heatmaps: MapsLike | None = None) -> Any:
        """Return how well images support given shapes, which are not moved.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        shapes : array_like of shape (K, 2) or (m, K, 2), or for a batch (n, K, 2) or a list of n such
            Landmarks, pixels of the images, from wherever; NaN where missing.
        heatmaps : optional
            For `HeatMaps` evidence, as for `predict`.

        Returns
        -------
        ndarray of shape (K,), (m, K) or (n, K), or a list of such
            For each landmark the probability that it can be seen and stands within 5 % of the longer side of its
            shape of where it belongs, as it was learned on images left out of the training, half of them with a part
            of the shape hidden, for shapes from exact to lost. 0 where it is missing or outside the image, and for
            the landmarks of a shape of a batch that cannot be judged. Where nothing was learned
            (``calibration=0``), what the evidence says itself.

        Raises
        ------
        ValueError
            For a single shape that cannot be judged; for arguments that do not fit together.

        Examples
        --------
        >>> from skimage.data import astronaut
        >>> from shape_models import load_model
        >>> search, image = load_model("search68"), astronaut()
        >>> shape = search.predict(image).shape
        >>> image[125:190, 190:260] = 127                          # the mouth and the chin are covered
        >>> confidence = search.confidence(image, shape)
        >>> bool(confidence[48:68].max() < 0.5 < confidence[36:48].min())
        True
        """
        check_is_fitted(self, "evidence_")
        asked, counts = self._requests(images, shapes, (self.n_landmarks_, 2), "shapes", heatmaps)
        if not len(asked):
            return np.empty((0, self.n_landmarks_))
        strict = counts is None

        def run(first: int, last: int) -> list[np.ndarray]:
            out: list[Any] = [np.zeros(self.n_landmarks_) for _ in range(first, last)]
            begun, rows = [], []
            for i, request in enumerate(asked[first:last]):
                try:
                    filled = self._filled_shape(request.given, "shapes")
                    begun.append(begin(self, request._replace(given=filled), "shapes", 1))
                    rows.append(i)
                except ValueError:
                    if strict:
                        raise
            if begun:
                outcome = self._solver().solve([search for search in begun if search], max_iter=0)
                for i, values in zip(rows, outcome.confidence[:, 0], strict=True):
                    missing = ~np.isfinite(np.asarray(asked[first + i].given, dtype=float)).all(-1)
                    out[i] = np.where(missing, 0.0, values)
            return out

        answers = arranged(in_chunks(run, len(asked), self.n_jobs, CHUNK), counts)
        ragged = isinstance(counts, list) and any(count is not None for count in counts)
        return [np.array(one) for one in answers] if ragged else np.array(answers)

    def _filled_shape(self, given: Any, name: str) -> np.ndarray:
        """Return a shape with its missing landmarks where the others imply them."""
        return filled_shape(numbers(given, (self.n_landmarks_, 2), name), self._frame, name)

    def _requests(
        self, images: Any, given: Any, event: tuple[int, ...], name: str, heatmaps: Any, spacing: Any = None
    ) -> tuple[list[Request], Any]:
        if heatmaps is not None:
            self._check_maps_wanted()
        return requests(images, given, event, name, heatmaps, spacing)

    def starts(self, boxes: ArrayLike, *, degrees: float = 0.0) -> np.ndarray:
        """Return where searches from boxes start: the mean shape, placed by the convention of boxes.

        Parameters
        ----------
        boxes : array_like of shape (n, 4)
            (x0, y0, x1, y1), pixels.
        degrees : float
            How far the objects are turned in their boxes, from x (right) towards y (down).

        Returns
        -------
        ndarray of shape (n, K, 2)
            Pixels, for the argument `initial` of `predict`.

        Raises
        ------
        ValueError
            For boxes that are none.

        Examples
        --------
        >>> from shape_models import load_model
        >>> load_model("search68").starts([[20, 30, 120, 130]]).shape
        (1, 68, 2)
        """
        check_is_fitted(self, "evidence_")
        return self.box_.place(check_boxes(boxes), self._frame, turn=float(np.deg2rad(degrees)))

    # --- faces ---------------------------------------------------------------------------------------------

    @all_or_nothing
    def fit_detection(
        self,
        images: ImagesLike,
        shapes: ShapesLike | None = None,
        *,
        detector: str | Detector = "scikit-image",
        callback: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Learn what the boxes of a detector mean for this model, so that `predict` needs no boxes.

        Parameters
        ----------
        images : sequence of array or path, or LandmarkSamples
            Images, each with one face that has landmarks; others may be in it.
        shapes : array_like of shape (n, K, 2), optional
            The true landmarks, pixels of the images; not beside a set.
        detector : str or callable
            As for `find_faces`. A name is saved with the model; a callable is not, and `predict` of a model that was
            loaded then asks for boxes.
        callback : callable, optional
            As for `fit`.

        Returns
        -------
        ASMFitter
            With `detection_`: the `shape_models.boxes.BoxConvention` that takes the detector's boxes to those of this
            model, and the fraction of faces that was found. One that is interrupted or refused stays as it was.

        Raises
        ------
        ValueError
            When fewer than five faces are found, and when the detector answers what makes no sense.
        """
        check_is_fitted(self, "evidence_")
        tell = callback or silent
        known = images if is_landmark_set(images) else None
        given, shapes, _ = split_set(images, shapes)
        shapes = shapes if known is None else recall(self.asm_, known)
        shapes = as_shapes(shapes, n_landmarks=self.n_landmarks_, n_dims=2, min_samples=5).astype(np.float64)
        # The boxes that would make the search start right there.
        boxes = self.box_.boxes_for(self._frame.pose_of(shapes), self._frame)
        self.detection_ = learn_detection(
            given, boxes, lambda i: tell("detecting", i + 1, len(boxes)), detector=detector
        )
        self._detector = None if isinstance(detector, str) else detector
        return self

    def _check_maps_wanted(self) -> None:
        if not self.evidence_.needs_maps:
            raise ValueError(
                f"heatmaps: got some, but {type(self.evidence_).__name__} evidence does not look at them. Try "
                "HeatMaps, alone or in a CombinedEvidence; evidence of your own says needs_maps = True."
            )

    # --- files ---------------------------------------------------------------------------------------------

    def to_archive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays), what `save_model` writes.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        check_is_fitted(self, "evidence_")
        return fitter_to_archive(self)


def load_fitter(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> ASMFitter:
    """Build the `ASMFitter` that `to_archive` took apart."""
    return read_fitter(ASMFitter, header, arrays)
