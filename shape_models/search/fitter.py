"""The active shape model search: learn what landmarks look like, then find the shape in new images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.special import gammaincc
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._aligned import AlignedASM
from .._array import as_shapes
from .._asm import ASM
from ..images import check_boxes_inside, check_inside
from ..landmarks import get_scheme
from ._frame import Frame, Planar
from ._images import ImageBank, image_count, read_image
from .evidence import Evidence, View, check_proposal
from .heatmaps import check_maps, peaks
from .results import SearchResult, SearchStep

__all__ = ["ASMFitter"]

_N_SAMPLES = 7000  # training starts over all images, when the number for each image is not given
_N_FOLDS = 6
_SHUFFLED = 0.5  # share of training samples that take over the error of another image between two steps
_CHUNK = 32  # images searched at once by one thread
_LEAST_EXTENT = 2.0  # pixels between the outermost landmarks of a start: below, there is nothing to see between them
_MOST_EXTENT = 100.0  # and in sides of the image: above, an image is less than a pixel of the model
_FLOOR = 1e-3  # least weight of a landmark in a shape step: keeps pose and modes determined


class ASMFitter(BaseEstimator):
    """Finds the shapes of a model in images, by local evidence and plausible shapes in turn.

    From coarse to fine, each iteration asks the evidence where the landmarks should go, fits pose and modes to the
    answer weighted by its confidence, and clips the modes by the limit of the basis. So the result always is a shape
    of the model, and landmarks that cannot be seen are carried by the others.

    Parameters
    ----------
    asm : AlignedASM, default=None
        The shape model; None for ``AlignedASM(ASM(0.98))``. One that is fitted already is used as it is (learn it from
        more shapes than there are images); otherwise a clone is fitted to the training shapes.
    evidence : Evidence or str, default="patches"
        ``"patches"``, ``"profiles"``, or an object: `Patches`, `Profiles`, `HeatMaps`, `CombinedEvidence`, or your
        own (see `Evidence`).
    n_levels : int, default=None
        Levels, from coarse to fine; None for what suits the evidence.
    resolution : float, default=None
        Pixels along the longer side of the mean shape at the finest level; None for what suits the evidence.
    level_step : float, default=None
        Factor between the resolutions of two levels; None for what suits the evidence.
    jitter : tuple of three floats, default=(0.1, 0.1, 0.175)
        How far starts are off in training, uniformly: position and size as shares of the longer side of the box, and
        rotation in radians. Also the spread of several starts in `predict`.
    n_perturbations : int, default=None
        Training starts for each image; None for as many as make about 7000 in all, 2 to 40 each.
    mirror : bool, default=True
        Whether to learn from mirrored images too, when the scheme of the shape model says which landmarks swap.
    tolerance : float, default=0.9
        A level ends when at least this share of landmarks stays where it is.
    random_state : int, default=0
        Seed of all that is random, in training and in starts.
    n_jobs : int, default=None
        Threads; None for one in each processor, 1 for none besides the caller's.

    Attributes
    ----------
    asm_ : AlignedASM
        The fitted shape model.
    evidence_ : Evidence
        The trained evidence.
    box_ : dict
        The convention of boxes: ``center`` (2,), shift of the middle of the mean shape's box from that of the given
        box, and ``side``, the longer side of it, both as shares of the longer side of the given box; ``spread`` (3,),
        their standard deviations (x, y, side) in training.
    detection_ : dict or None
        The map from boxes of `detect_faces` to boxes of this convention, when `fit_detection` has learned it.
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
    >>> def draw(shape):                                       # a picture that shows where its landmarks are
    ...     y, x = np.mgrid[:100, :100]
    ...     return sum(np.exp(-((x - p) ** 2 + (y - q) ** 2) / 8) for p, q in shape)
    >>> shapes = 0.4 * make_faces(30, rng=0)[:, 27:48]
    >>> pictures = [draw(shape) for shape in shapes]
    >>> fitter = ASMFitter(evidence="profiles", n_levels=2, resolution=40).fit(pictures[:25], shapes[:25])
    >>> box = (*shapes[25].min(axis=0), *shapes[25].max(axis=0))
    >>> result = fitter.predict(pictures[25], boxes=[box])
    >>> result.shape.shape, result.found
    ((21, 2), True)
    """

    def __init__(
        self,
        asm: Any = None,
        *,
        evidence: Any = "patches",
        n_levels: int | None = None,
        resolution: float | None = None,
        level_step: float | None = None,
        jitter: tuple[float, float, float] = (0.1, 0.1, 0.175),
        n_perturbations: int | None = None,
        mirror: bool = True,
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
        self.tolerance = tolerance
        self.random_state = random_state
        self.n_jobs = n_jobs

    @staticmethod
    def _tell(what: str, done: int, total: int) -> None:
        """Hear how far a training has come; commands put a progress bar here."""

    # --- learning ------------------------------------------------------------------------------------------

    def fit(self, images: Any, shapes: Any, *, boxes: Any = None, groups: Any = None, heatmaps: Any = None) -> Self:
        """Learn the shape model, the evidence and the convention of boxes.

        Parameters
        ----------
        images : sequence of array or path
            One for each shape, of any sizes. None for evidence that does not look at them (`HeatMaps` alone).
        shapes : array_like of shape (n, K, 2)
            Landmarks, pixels of the images; NaN where missing (filled in by the shape model).
        boxes : array_like of shape (n, 4), optional
            (x0, y0, x1, y1) as they will be given to `predict`, for instance by a detector; None for the tight boxes
            of the landmarks.
        groups : array_like of shape (n,), optional
            Person or specimen of each image: cross-validation keeps a group together.
        heatmaps : sequence, optional
            For `HeatMaps` in a combination, whose weights are learned: the maps of each image, as `predict` takes
            them. Mirrored images are then not used.

        Returns
        -------
        ASMFitter

        Raises
        ------
        ValueError
            When images and shapes do not fit together, or a parameter or a value is out of range.
        """
        jitter = self._check_parameters()
        shapes = as_shapes(shapes, n_dims=2, min_samples=4, allow_nan=True).astype(np.float64)
        n = len(shapes)
        rng = np.random.default_rng(self.random_state)
        self._fit_shape_model(shapes)
        scheme = self.asm_.scheme
        scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
        if not np.isfinite(shapes).all():
            filled = self.asm_.complete(shapes)
            shapes = np.where(np.isfinite(shapes), shapes, getattr(filled, "shapes", filled))
        poses = self._set_frame(shapes)
        frame = self._frame
        if boxes is None:
            tight = np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)
        else:
            tight = _check_boxes(boxes, n)
        self.box_ = self._learn_boxes(tight, poses)
        self.detection_: dict[str, Any] | None = None
        self.evidence_ = _make_evidence(self.evidence).clone()
        self.resolutions_ = self._levels()
        self.evidence_.prepare(frame, len(self.resolutions_), scheme)
        self.score_scale_ = (0.0, 1.0)
        bank = self._load(images, shapes, poses) if self.evidence_.needs_images else None
        maps = None
        if heatmaps is not None:
            self._check_maps_wanted()
            if bank is None or len(heatmaps) != n:
                raise ValueError(f"heatmaps: expected one array for each of {n} images, and images with them.")
            maps = _Maps(heatmaps, self.n_landmarks_, bank.sizes)
        mirror = getattr(scheme, "mirror", None) if self.mirror and bank is not None and maps is None else None
        truth, flip, index = shapes, np.zeros(n, dtype=bool), np.arange(n)
        if mirror is not None and bank is not None:
            other = shapes[:, mirror].copy()
            other[..., 0] = bank.sizes[:, :1] - 1 - other[..., 0]
            opposite = tight[:, [2, 1, 0, 3]].copy()
            opposite[:, [0, 2]] = bank.sizes[:, :1] - 1 - opposite[:, [0, 2]]
            truth, tight = np.concatenate([truth, other]), np.concatenate([tight, opposite])
            flip, index = np.repeat([False, True], n), np.tile(index, 2)
        groups = np.arange(n) if groups is None else _check_groups(groups, n)
        fold = self._folds(groups, rng)[index]
        repeats = self.n_perturbations
        if repeats is None:
            repeats = int(np.clip(round(_N_SAMPLES / len(truth)), 2, 40))
        every = np.repeat(np.arange(len(truth)), repeats)
        truth, flip, index, fold = truth[every], flip[every], index[every], fold[every]
        start = self._place(tight[every], jitter, rng)
        self._train(bank, index, flip, start, truth, fold, rng, {"maps": maps or _no_maps})
        return self

    def _check_parameters(self) -> tuple[float, float, float]:
        for name, value in (("n_levels", self.n_levels), ("n_perturbations", self.n_perturbations)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= 1000:
                raise ValueError(f"{name}: got {value!r}; expected a whole number of at least 1.")
        for name, number, least in (("resolution", self.resolution, 8.0), ("level_step", self.level_step, 1.0)):
            if number is not None and not (isinstance(number, Real) and least <= number < np.inf):
                raise ValueError(f"{name}: got {number!r}; expected a number of at least {least:g}, or None.")
        if not (isinstance(self.tolerance, Real) and 0.0 < self.tolerance <= 1.0):
            raise ValueError(f"tolerance: got {self.tolerance!r}; expected a share above 0, up to 1.")
        return _check_jitter(self.jitter)

    def _fit_shape_model(self, shapes: np.ndarray) -> None:
        asm = self.asm
        if asm is None:
            asm = AlignedASM(ASM(0.98))
        elif isinstance(asm, ASM):
            asm = AlignedASM(asm)
        elif not isinstance(asm, AlignedASM):
            raise ValueError(f"asm: got a {type(asm).__name__}; expected an AlignedASM or an ASM.")
        if hasattr(asm, "asm_"):
            if tuple(asm.asm_.event_shape_) != shapes.shape[1:]:
                raise ValueError(
                    f"shapes: got {shapes.shape[1:]} landmarks; the fitted shape model has {asm.asm_.event_shape_}."
                )
            self.asm_ = asm
        else:
            self.asm_ = clone(asm).fit(shapes)

    def _set_frame(self, shapes: np.ndarray) -> Planar:
        basis = self.asm_.asm_.basis_
        poses = Frame(basis, 0.0).pose_of(shapes)
        angle = float(np.angle((poses.a / np.abs(poses.a)).mean()))
        self._frame = Frame(basis, angle)
        self.n_landmarks_ = self._frame.n_landmarks
        return poses

    def _levels(self) -> tuple[float, ...]:
        finest = float(self.resolution or self.evidence_.resolution)
        step = float(self.level_step or self.evidence_.level_step)
        return tuple(max(8.0, finest / step**k) for k in reversed(range(self.n_levels or self.evidence_.n_levels)))

    def _learn_boxes(self, boxes: np.ndarray, poses: Planar) -> dict[str, Any]:
        frame, middle = self._frame, self._middle()
        side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        center = 0.5 * (boxes[:, 2:] + boxes[:, :2])
        shift = (poses(np.broadcast_to(middle, (len(boxes), 1, 2)))[:, 0] - center) / side[:, None]
        ratio = poses.scale * frame.side / side
        values = np.concatenate([shift, ratio[:, None]], axis=1)
        median = np.median(values, axis=0)
        return {"center": median[:2].tolist(), "side": float(median[2]), "spread": values.std(axis=0).tolist()}

    def _place(self, boxes: np.ndarray, jitter: tuple[float, float, float] | None, rng: Any) -> np.ndarray:
        """Put the mean shape into boxes, off by `jitter`."""
        frame = self._frame
        n = len(boxes)
        side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        center = 0.5 * (boxes[:, 2:] + boxes[:, :2]) + np.array(self.box_["center"]) * side[:, None]
        factor, angle = side * self.box_["side"] / frame.side, np.zeros(n)
        if jitter is not None:
            off = rng.uniform(-1.0, 1.0, size=(n, 4))
            center = center + jitter[0] * side[:, None] * off[:, :2]
            factor = factor * (1 + jitter[1] * off[:, 2])
            angle = jitter[2] * off[:, 3]
        middle = 0.5 * (frame.upright.min(0) + frame.upright.max(0))
        turn = Planar(factor * np.exp(1j * angle), center[:, 0] + 1j * center[:, 1])
        return turn(np.broadcast_to(frame.upright - middle, (n, *frame.mean.shape)))

    def _folds(self, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        names, which = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise ValueError("groups: got a single group; expected at least two, for cross-validation.")
        n_folds = min(_N_FOLDS, len(names))
        return (rng.permutation(len(names)) % n_folds)[which]

    def _load(self, images: Any, shapes: np.ndarray, poses: Planar) -> ImageBank:
        count = image_count(images) if images is not None else None
        if count != len(shapes):
            got = "None" if images is None else "one image" if count is None else f"{count} images"
            raise ValueError(f"images: got {got}; expected one for each of {len(shapes)} shapes.")
        low, high = shapes.min(axis=1), shapes.max(axis=1)
        side = (high - low).max(axis=1)[:, None]
        regions = np.concatenate([low - side, high + side], axis=1)
        pixel = 0.8 * poses.scale * self._frame.side / self.resolutions_[-1]
        checked = []
        for i in range(len(shapes)):
            try:
                image = read_image(images[i])
                _check_inside(shapes[i], image, "shapes")
                bank = ImageBank.build([image], [regions[i]], [pixel[i]])
            except ValueError as error:
                raise ValueError(f"image {i}: {error}") from error
            checked.append(bank)
            self._tell("reading", i + 1, len(shapes))
        return ImageBank.join(checked)

    def _train(
        self, bank: ImageBank | None, index: np.ndarray, flip: np.ndarray, start: np.ndarray, truth: np.ndarray,
        fold: np.ndarray, rng: np.random.Generator, context: dict[str, Any],
    ) -> None:  # fmt: skip
        frame, evidence = self._frame, self.evidence_
        current = frame.fit(start).points
        true_pose = frame.pose_of(truth)
        right = true_pose.inverse(truth)
        with _threads(self.n_jobs) as split:
            scores = None
            n_steps = len(self.resolutions_) * evidence.n_iter
            for level, resolution in enumerate(self.resolutions_):
                for iteration in range(evidence.n_iter):
                    pose = frame.pose_of(current)
                    view = View(current, level, iteration, resolution, index, frame, bank, pose, flip, split, context)
                    proposal = evidence.train(view, truth, fold, rng)
                    if proposal is None:
                        self._tell("learning", (level + 1) * evidence.n_iter, n_steps)
                        break
                    check_proposal(proposal, view, evidence)
                    self._tell("learning", level * evidence.n_iter + iteration + 1, n_steps)
                    scores = proposal.score
                    current = self._shape_step(proposal).points
                    # Errors that follow from an image as often as errors of other images: the next step must not
                    # learn from the particular images how far this one was off.
                    off = true_pose.inverse(current) - right
                    swap = rng.random(len(current)) < _SHUFFLED
                    other = true_pose(right + off[rng.permutation(len(current))])
                    current = np.where(swap[:, None, None], frame.fit(other).points, current)
            if scores is not None and np.isfinite(scores).all():
                self.score_scale_ = (float(np.mean(scores)), max(float(np.std(scores)), 1e-6))

    def _shape_step(self, proposal: Any) -> Any:
        weights = proposal.weights
        if weights is not None:
            weights = np.maximum(np.asarray(weights, dtype=np.float64), _FLOOR)
        return self._frame.fit(
            np.asarray(proposal.points, dtype=np.float64),
            weights=weights,
            n_modes=proposal.n_modes,
            prior=proposal.prior * self._frame.side**2,
        )

    # --- searching -----------------------------------------------------------------------------------------

    def predict(
        self,
        images: Any,
        *,
        boxes: Any = None,
        initial: Any = None,
        heatmaps: Any = None,
        n_starts: int = 1,
        max_iter: int | None = None,
    ) -> SearchResult | list[SearchResult]:
        """Find the shape in one image or in each of many.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        boxes : array_like of shape (4,) or (n, 4), optional
            Where the object is, (x0, y0, x1, y1), by the convention learned in `fit`.
        initial : array_like of shape (K, 2) or (n, K, 2), optional
            Shapes to start from, instead of boxes. Without either, `detect_faces` looks for the face (the largest,
            where there are several), when `fit_detection` has learned what its boxes mean.
        heatmaps : optional
            For `HeatMaps` evidence: maps (K, h, w) of the image, or a list of them, one for each image.
        n_starts : int
            Searches from so many starts, the first of them unchanged and the others jittered, and answers the best by
            evidence and plausibility.
        max_iter : int, optional
            Iterations at each level, at most; 0 answers the start.

        Returns
        -------
        SearchResult or list of SearchResult
            A list for a batch. There an image that cannot be searched, by itself or for its box, shape or maps, has
            the status ``"error"``, and the others are still solved.

        Raises
        ------
        ValueError
            For a single image that cannot be searched; for arguments that do not fit together.
        """
        check_is_fitted(self, "evidence_")
        self._check_parameters()
        count = image_count(images)
        single = count is None
        many: Sequence[Any] = [images] if single else images
        n = len(many)
        if boxes is not None and initial is not None:
            raise ValueError("got boxes and initial; expected one of them.")
        if isinstance(n_starts, bool) or not isinstance(n_starts, int | np.integer) or n_starts < 1:
            raise ValueError(f"n_starts: got {n_starts!r}; expected a whole number of at least 1.")
        if max_iter is not None and (
            isinstance(max_iter, bool) or not isinstance(max_iter, int | np.integer) or max_iter < 0
        ):
            raise ValueError(f"max_iter: got {max_iter!r}; expected a whole number that is not negative.")
        starts: list[Any] = [None] * n
        if boxes is not None:
            starts = _batch(boxes, n, (4,), "boxes", single)
        elif initial is not None:
            starts = _batch(initial, n, (self.n_landmarks_, 2), "initial", single)
        elif heatmaps is None and self.detection_ is None:
            raise ValueError(
                "got neither boxes nor initial; expected one of them. For faces try fit_detection, which learns what "
                "the boxes of detect_faces mean for this model."
            )
        maps: list[Any] = [None] * n
        if heatmaps is not None:
            self._check_maps_wanted()
            if not single and not hasattr(heatmaps, "__len__"):
                raise ValueError(f"heatmaps: got a {type(heatmaps).__name__}; expected a list, one for each image.")
            maps = [heatmaps] if single else list(heatmaps)
            if len(maps) != n:
                raise ValueError(f"heatmaps: got {len(maps)}; expected one array for each of {n} images.")
        kind = "box" if boxes is not None else "shape" if initial is not None else "detect"
        if kind == "detect" and heatmaps is not None:
            kind = "peaks"

        def run(first: int, last: int) -> list[SearchResult]:
            return self._search(many, first, last, starts, kind, maps, n_starts, max_iter, single)

        edges = [*range(0, n, max(1, min(_CHUNK, -(-n // _n_threads(self.n_jobs))))), n]
        spans = list(pairwise(edges))
        if len(spans) > 1 and _n_threads(self.n_jobs) > 1:
            with ThreadPoolExecutor(_n_threads(self.n_jobs)) as pool:
                parts = list(pool.map(lambda span: run(*span), spans))
        else:
            parts = [run(*span) for span in spans]
        results = [result for part in parts for result in part]
        return results[0] if single else results

    def _search(
        self, images: Sequence[Any], first: int, last: int, starts: list[Any], kind: str, maps: list[Any],
        n_starts: int, max_iter: int | None, strict: bool,
    ) -> list[SearchResult]:  # fmt: skip
        """Search images first...last - 1."""
        results: list[SearchResult | None] = [None] * (last - first)
        banks, begin, boxes, owner, checked, sizes = [], [], [], [], [], []
        for i in range(first, last):
            try:
                image = read_image(images[i])
                height, width = image.shape[:2]
                given = None if maps[i] is None else check_maps(maps[i], self.n_landmarks_, (width, height))
                if given is None and self.evidence_.needs_maps:
                    _no_maps(i)
                box = None
                if kind == "detect":
                    box = self._detect(image)
                    if box is None:
                        results[i - first] = SearchResult.failed(
                            self.n_landmarks_, len(self._frame.variances), status="no face",
                            message="detect_faces found no face",
                        )  # fmt: skip
                        continue
                elif kind == "box":
                    box = _check_boxes(_numbers(starts[i], (4,), "boxes")[None], 1)[0]
                if kind == "peaks":
                    shape = self._start_from(given)
                elif box is None:
                    shape = _numbers(starts[i], (self.n_landmarks_, 2), "initial")
                    shape = as_shapes(shape, name="initial", n_landmarks=self.n_landmarks_, n_dims=2)
                    if not np.ptp(shape, axis=0).max() > 0:
                        raise ValueError("initial: got landmarks that all coincide; expected a shape with extent.")
                else:
                    shape = self._place(box[None], None, None)[0]
                _check_start(shape, image)
                if given is not None and not self.evidence_.needs_images:
                    _check_maps_say_something(given)
                several = self._several(shape, n_starts)
                bank = self._see(image, several) if self.evidence_.needs_images else None
            except ValueError as error:
                if strict:
                    raise
                results[i - first] = SearchResult.failed(
                    self.n_landmarks_, len(self._frame.variances), status="error", message=str(error)
                )
                continue
            banks.append(bank)
            sizes.append((width, height))
            begin.append(several)
            boxes.append(None if box is None else tuple(float(v) for v in box))
            owner.append(i)
            checked.append(given)
        if begin:
            found = self._solve(banks, np.array(sizes), np.array(begin), boxes, checked, max_iter)
            for i, result in zip(owner, found, strict=True):
                results[i - first] = result
        return [result for result in results if result is not None]

    def _several(self, shape: np.ndarray, n_starts: int) -> np.ndarray:
        """Return starts (n_starts, K, 2): the shape, and others about it."""
        start = np.repeat(shape[None], n_starts, axis=0)
        if n_starts > 1:
            # A seed for each image: the answer does not depend on what else is in the batch.
            rng = np.random.default_rng(self.random_state)
            start[1:] = _jittered(start[1:], _check_jitter(self.jitter), rng)
        return start

    def _see(self, image: np.ndarray, start: np.ndarray) -> ImageBank:
        """Keep the part of an image that searches from these starts can see."""
        low, high = start.min(axis=1), start.max(axis=1)
        side = (high - low).max(axis=1)[:, None]
        region = (*(low - side).min(axis=0), *(high + side).max(axis=0))
        pixel = 0.5 * float(self._frame.pose_of(start[0]).scale) * self._frame.side / self.resolutions_[-1]
        return ImageBank.build([image], [region], [pixel])

    def _solve(
        self, banks: list[Any], sizes: np.ndarray, begin: np.ndarray, boxes: list[Any], maps: list[Any],
        max_iter: int | None,
    ) -> list[SearchResult]:  # fmt: skip
        n, n_starts = begin.shape[:2]
        index = np.repeat(np.arange(n), n_starts)
        start = begin.reshape(-1, *begin.shape[2:])
        bank = ImageBank.join(banks) if self.evidence_.needs_images else None
        context = {"maps": _given(maps)}
        flip = np.zeros(len(index), dtype=bool)
        state = _State(self._frame.fit(start), start, len(index), self.n_landmarks_)
        n_iter = self.evidence_.n_iter if max_iter is None else min(max_iter, self.evidence_.n_iter)
        for level, resolution in enumerate(self.resolutions_):
            active = np.arange(len(index))
            for iteration in range(n_iter):
                view = View(
                    state.points[active], level, iteration, resolution, index[active], self._frame, bank,
                    state.pose.take(active), flip[active], _serial, context,
                )  # fmt: skip
                proposal = self.evidence_.locate(view)
                check_proposal(proposal, view, self.evidence_)
                fit = self._shape_step(proposal)
                stayed = state.record(active, view, proposal, fit, sizes[index[active]], self.evidence_.stays)
                if self.evidence_.stops:
                    active = active[stayed < self.tolerance]
                if not len(active):
                    break
        return [self._result(state, slice(j * n_starts, (j + 1) * n_starts), boxes[j], sizes[j]) for j in range(n)]

    def _result(self, state: _State, rows: slice, box: Any, size: np.ndarray) -> SearchResult:
        basis_variance = self._frame.variances
        modes = state.coefficients[rows]
        used = basis_variance > 0
        distance = (modes[:, used] ** 2 / basis_variance[used]).sum(axis=1)
        n_modes = max(int(used.sum()), 1)
        score = state.score[rows]
        rank = np.where(np.isfinite(score), (score - self.score_scale_[0]) / self.score_scale_[1], 0.0)
        best = rows.start + int(np.argmax(rank - 0.5 * distance / n_modes))
        chosen = best - rows.start
        points = state.points[best]
        outside = _outside(points, size)
        converged = bool(state.stayed[best] >= self.tolerance)
        status, message = ("converged", "") if converged else ("not converged", "")
        if outside >= 0.25 * len(points):
            converged, status = False, "outside"
            message = f"{outside} of {len(points)} landmarks lie outside the image"
        return SearchResult(
            shape=points,
            confidence=state.weights[best],
            plausibility=float(gammaincc(0.5 * n_modes, 0.5 * distance[chosen])),
            score=float(score[chosen]),
            converged=converged,
            status=status,
            message=message,
            start=state.start[best],
            transform=state.pose.take(best).as_similarity(),
            coefficients=state.coefficients[best],
            box=box,
            trace=tuple(state.steps[best]),
        )

    # --- faces ---------------------------------------------------------------------------------------------

    def fit_detection(self, images: Any, shapes: Any) -> Self:
        """Learn what the boxes of `detect_faces` mean for this model, so that `predict` needs no boxes.

        Parameters
        ----------
        images : sequence of array or path
            Photographs, each with one face that has landmarks; others may be in it.
        shapes : array_like of shape (n, K, 2)

        Returns
        -------
        ASMFitter
            With `detection_`: ``center`` and ``side`` as in `box_`, their ``spread``, the number of faces it was
            learned from and the share of them that was detected.

        Raises
        ------
        ValueError
            When fewer than five faces are found.
        """
        from .detection import learn_detection

        check_is_fitted(self, "evidence_")
        shapes = as_shapes(shapes, n_landmarks=self.n_landmarks_, n_dims=2, min_samples=5).astype(np.float64)
        # The boxes that would make the search start right there.
        frame, poses = self._frame, self._frame.pose_of(shapes)
        middle = np.broadcast_to(self._middle(), (len(shapes), 1, 2))
        side = poses.scale * frame.side / self.box_["side"]
        center = poses(middle)[:, 0] - np.array(self.box_["center"]) * side[:, None]
        half = 0.5 * side[:, None]
        boxes = np.concatenate([center - half, center + half], axis=1)
        self.detection_ = learn_detection(images, boxes, lambda i: self._tell("detecting", i + 1, len(boxes)))
        return self

    def _check_maps_wanted(self) -> None:
        if not self.evidence_.needs_maps:
            raise ValueError(
                f"heatmaps: got some, but {type(self.evidence_).__name__} evidence does not look at them. Try "
                "HeatMaps, alone or in a CombinedEvidence; evidence of your own says needs_maps = True."
            )

    def _middle(self) -> np.ndarray:
        """Return the middle of the box of the mean shape as it stands in images, in the frame of the model."""
        frame = self._frame
        return Planar(np.exp(-1j * np.array(frame.angle)), np.array(0j))(
            0.5 * (frame.upright.min(0) + frame.upright.max(0))[None]
        )[0]

    def _start_from(self, given: Any) -> np.ndarray:
        """Fit the model to the peaks of heat maps."""
        places, heights = peaks(*given)
        if not np.count_nonzero(heights) >= 3:
            raise ValueError("heatmaps: got fewer than three maps with anything in them; expected more, or boxes.")
        seen = places[heights > 0]
        if not np.ptp(seen, axis=0).max() > 0:
            raise ValueError("heatmaps: got maps whose peaks all coincide; expected a place for each, or boxes.")
        weights = heights / heights.max()
        # A few peaks may lie anywhere: those far from what the others imply lose their weight.
        for _ in range(5):
            fit = self._frame.fit(places[None], weights=np.maximum(weights, _FLOOR)[None], prior=self._frame.side**2)
            distance = np.linalg.norm(fit.points[0] - places, axis=1) / (fit.pose.scale[0] * self._frame.side)
            weights = heights / heights.max() / (1 + (distance / max(float(np.median(distance)), 0.02)) ** 2)
        return fit.points[0]

    def _detect(self, image: np.ndarray) -> np.ndarray | None:
        from .detection import detect_faces, map_boxes

        assert self.detection_ is not None
        found = detect_faces(image)
        return map_boxes(found[:1], self.detection_)[0] if len(found) else None

    # --- files ---------------------------------------------------------------------------------------------

    def to_archive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays), what `save_model` writes."""
        from ._files import to_archive

        return to_archive(self)


class _Maps:
    """Heat maps of training images, checked when they are asked for."""

    def __init__(self, given: Any, n_landmarks: int, sizes: np.ndarray) -> None:
        self.given, self.n_landmarks, self.sizes = given, n_landmarks, sizes

    def __call__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        return check_maps(self.given[image], self.n_landmarks, tuple(self.sizes[image]))


def _given(maps: list[Any]) -> Callable[[int], Any]:
    return lambda image: maps[image] if maps[image] is not None else _no_maps(image)


def _no_maps(image: int) -> Any:
    raise ValueError("heatmaps: got none; expected them for HeatMaps evidence.")


def _check_maps_say_something(given: tuple[np.ndarray, np.ndarray]) -> None:
    n = np.count_nonzero(given[0].max(axis=(1, 2)) > 0)
    if n < 3:
        raise ValueError(f"heatmaps: got {n} maps with anything in them; expected at least three.")


class _State:
    """Where a batch of searches stands."""

    def __init__(self, fit: Any, start: np.ndarray, n: int, n_landmarks: int) -> None:
        self.start = start
        self.points, self.pose, self.coefficients = fit.points, fit.pose, fit.coefficients
        self.weights = np.ones((n, n_landmarks))
        self.score = np.full(n, np.nan)
        self.stayed = np.zeros(n)
        self.steps: list[list[SearchStep]] = [[] for _ in range(n)]

    def record(
        self, rows: np.ndarray, view: View, proposal: Any, fit: Any, sizes: np.ndarray, stays: float
    ) -> np.ndarray:
        """Take one step over, and answer the share of landmarks that stayed."""
        before = self.points[rows]
        move = np.linalg.norm(fit.points - before, axis=-1)
        wish = np.linalg.norm(proposal.points - before, axis=-1)
        stayed = (np.minimum(wish, move) <= stays * view.pixel[:, None]).mean(axis=1)
        score = np.full(len(rows), np.nan) if proposal.score is None else proposal.score
        self.points[rows] = fit.points
        self.pose.a[rows], self.pose.b[rows] = fit.pose.a, fit.pose.b
        self.coefficients[rows] = fit.coefficients
        if proposal.weights is not None:
            self.weights[rows] = proposal.weights
        self.score[rows] = score
        self.stayed[rows] = stayed
        for i, row in enumerate(rows):
            self.steps[row].append(
                SearchStep(
                    view.level,
                    view.iteration,
                    fit.points[i].copy(),
                    np.array(proposal.points[i]),
                    float(score[i]),
                    fit.clipped[i],
                    float(move[i].mean()),
                    float(stayed[i]),
                    _outside(fit.points[i], sizes[i]),
                )
            )
        return stayed


def _outside(points: np.ndarray, size: np.ndarray) -> int:
    return int(((points < -0.5) | (points > np.asarray(size) - 0.5)).any(axis=1).sum())


def _jittered(shapes: np.ndarray, jitter: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Move, scale and turn shapes about the middle of their boxes."""
    low, high = shapes.min(axis=1), shapes.max(axis=1)
    side, center = (high - low).max(axis=1), 0.5 * (low + high)
    off = rng.uniform(-1.0, 1.0, size=(len(shapes), 4))
    a = (1 + jitter[1] * off[:, 2]) * np.exp(1j * jitter[2] * off[:, 3])
    to = center + jitter[0] * side[:, None] * off[:, :2]
    return Planar(a, to[:, 0] + 1j * to[:, 1])(shapes - center[:, None])


def _make_evidence(evidence: Any) -> Evidence:
    if isinstance(evidence, Evidence):
        return evidence
    if evidence == "patches":
        from .patches import Patches

        return Patches()
    if evidence == "profiles":
        from .profiles import Profiles

        return Profiles()
    raise ValueError(f"evidence: got {evidence!r}; expected 'patches', 'profiles' or an Evidence.")


def _check_jitter(jitter: Any) -> tuple[float, float, float]:
    values = np.asarray(jitter, dtype=float)
    if values.shape != (3,) or not np.isfinite(values).all() or (values < 0).any() or values[1] >= 1:
        raise ValueError(
            f"jitter: got {jitter!r}; expected three numbers that are not negative: position and size as shares of "
            "the box (size below 1), rotation in radians."
        )
    return float(values[0]), float(values[1]), float(values[2])


def _check_boxes(boxes: Any, n: int) -> np.ndarray:
    try:
        array = np.asarray(boxes, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"boxes: got no numbers; expected an array of shape ({n}, 4), x0, y0, x1, y1.") from None
    if array.shape != (n, 4):
        raise ValueError(f"boxes: got an array of shape {array.shape}; expected ({n}, 4), x0, y0, x1, y1.")
    if not np.isfinite(array).all():
        raise ValueError("boxes: got NaN or infinity; expected finite numbers.")
    if not (array[:, 2:] > array[:, :2]).all():
        wrong = array[~(array[:, 2:] > array[:, :2]).all(axis=1)][0]
        raise ValueError(f"boxes: got {wrong.tolist()}; expected x0 < x1 and y0 < y1 (not x, y, width, height).")
    return array


def _check_groups(groups: Any, n: int) -> np.ndarray:
    array = np.asarray(groups)
    if array.shape != (n,):
        raise ValueError(f"groups: got shape {array.shape}; expected ({n},), one for each image.")
    return array


def _check_inside(shape: np.ndarray, image: np.ndarray, name: str) -> None:
    check_inside(shape, image.shape[1::-1], name=name)
    _check_extent(shape, image, name)


def _check_start(shape: np.ndarray, image: np.ndarray) -> None:
    """Refuse a start that the image does not show at all; most of it may lie outside."""
    low, high = shape.min(axis=0), shape.max(axis=0)
    check_boxes_inside([*low, *high], image.shape[1::-1], name="start")
    _check_extent(shape, image, "start")


def _check_extent(shape: np.ndarray, image: np.ndarray, name: str) -> None:
    height, width = image.shape[:2]
    low, high = shape.min(axis=0), shape.max(axis=0)
    extent = float((high - low).max())
    if extent < _LEAST_EXTENT:
        raise ValueError(
            f"{name}: got landmarks within {extent:.3g} pixels of each other; expected pixels of the image. "
            "Try multiplying with its size if they are shares of it."
        )
    if extent > _MOST_EXTENT * max(width, height):
        raise ValueError(
            f"{name}: got landmarks {extent:.3g} pixels apart in an image of {width} x {height}; expected pixels of it."
        )


def _batch(values: Any, n: int, event: tuple[int, ...], name: str, single: bool) -> list[Any]:
    """Return one value for each image; where they differ in kind, each is judged when its image has its turn."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        if not single and hasattr(values, "__len__") and len(values) == n:
            return list(values)
        raise ValueError(f"{name}: got no numbers; expected an array of shape {(n, *event)}.") from None
    if array.shape == event and n == 1:
        array = array[None]
    if n == 0 and array.size == 0:
        return []
    if array.shape != (n, *event):
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected {(n, *event)}, one for each image.")
    return list(array)


def _numbers(value: Any, event: tuple[int, ...], name: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got no numbers; expected an array of shape {event}.") from None
    if array.shape != event:
        raise ValueError(f"{name}: got {value if value is None else array.shape}; expected an array of shape {event}.")
    return array


def _n_threads(n_jobs: int | None) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_jobs is None or n_jobs == -1:
        return available
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs < 1:
        raise ValueError(f"n_jobs: got {n_jobs!r}; expected a positive number, -1 or None.")
    return int(n_jobs)


def _serial(run: Callable[[int, int], None], n: int) -> None:
    run(0, n)


class _threads:
    """A function (run, n) that calls run(start, stop) over 0...n in threads; run must release the interpreter."""

    def __init__(self, n_jobs: int | None) -> None:
        self.n = _n_threads(n_jobs)

    def __enter__(self) -> Callable[[Callable[[int, int], None], int], None]:
        self.pool = ThreadPoolExecutor(self.n) if self.n > 1 else None
        return self.split

    def split(self, run: Callable[[int, int], None], n: int) -> None:
        if self.pool is None:
            return run(0, n)
        edges = np.linspace(0, n, min(n, 8 * self.n) + 1).astype(int)
        for future in [self.pool.submit(run, int(a), int(b)) for a, b in pairwise(edges)]:
            future.result()
        return None

    def __exit__(self, *_: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown()
