"""The active shape model search: learn what landmarks look like, then find the shape in new images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import gammaincc
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._aligned import AlignedASM
from .._array import as_shapes
from .._asm import ASM
from ..boxes import check_boxes
from ..images import check_boxes_inside, check_inside
from ..landmarks import get_scheme
from ._calibration import TOLERANCE, Calibration, covered, disturbed, landmark_features, result_features, spread_of
from ._frame import Frame, Planar
from ._images import ImageBank, image_count, read_image
from ._placement import Placement
from .evidence import Evidence, View, check_proposal, evidence_from_parts, part_of
from .heatmaps import check_maps, peaks
from .patches import Patches
from .profiles import Profiles
from .results import SearchResult, SearchStep

__all__ = ["ASMFitter"]

_N_SAMPLES = 7000  # training starts over all images, when the number for each image is not given
_N_FOLDS = 6
_N_LEFT_OUT = 600  # images that the calibration looks at, at most
_LEAST_GROUPS = 4  # below, the calibration goes by images: without a group the search would be another one
_SHUFFLED = 0.5  # fraction of training samples that take over the error of another image between two steps
_CHUNK = 32  # images searched at once by one thread
_N_PLACED = 40  # starts where nobody says where the object is
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
        trained like the whole; None for five below 200 images and two above, where the evidence learns from images.
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
    box_ : dict
        The convention of boxes: ``center`` (2,), shift of the middle of the mean shape's box from that of the given
        box, and ``side``, the longer side of it, both as shares of the longer side of the given box; ``spread`` (3,),
        their standard deviations (x, y, side) in training.
    detection_ : dict or None
        The map from boxes of `detect_faces` to boxes of this convention, when `fit_detection` has learned it.
    placement_ : Placement or None
        Where, how large and how turned the objects stood in the training images: where `predict` looks when nobody
        says where the object is.
    calibration_ : Calibration or None
        What was learned on left-out images; None where there were too few, or ``calibration`` is 0.
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
    >>> result = fitter.predict(pictures[25], boxes=box)
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

    def fit(
        self,
        images: Any,
        shapes: Any,
        *,
        boxes: Any = None,
        groups: Any = None,
        heatmaps: Any = None,
        callback: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Learn the shape model, the evidence, the convention of boxes, and how right the answers are.

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
            For `HeatMaps`, alone or in a combination, whose weights are learned: the maps of each image, as `predict`
            takes them. Mirrored images are then not used.
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
        fitted = self._blank(calibration=self.calibration, n_jobs=self.n_jobs)
        truth = fitted._learn(images, shapes, boxes, groups, heatmaps, callback or _silent)
        wanted = self.calibration
        if wanted is None:  # evidence that does not learn sees its first image in `predict`
            wanted = heatmaps is not None or type(fitted.evidence_).train is not Evidence.train
        if wanted and images is not None and (heatmaps is not None or not fitted.evidence_.needs_maps):
            fitted._calibrate(images, truth, np.asarray(shapes), boxes, groups, heatmaps, callback or _silent)
        self.__dict__.update({name: value for name, value in vars(fitted).items() if name not in self.get_params()})
        return self

    def _blank(self, **changes: Any) -> Self:
        """Return an unfitted one of the same choices; a shape model that is fitted stays so."""
        return type(self)(**{**self.get_params(deep=False), **changes})

    def _learn(
        self, images: Any, shapes: Any, boxes: Any, groups: Any, heatmaps: Any, tell: Callable[[str, int, int], None]
    ) -> np.ndarray:
        """Learn everything but the calibration, and answer the shapes without gaps."""
        jitter = self._check_parameters()
        shapes = as_shapes(shapes, n_dims=2, min_samples=4, allow_nan=True).astype(np.float64)
        n = len(shapes)
        rng = np.random.default_rng(self.random_state)
        self._fit_shape_model(shapes)
        scheme = self._scheme()
        if not np.isfinite(shapes).all():
            shapes = np.where(np.isfinite(shapes), shapes, self.asm_.complete(shapes).shapes)
        poses = self._set_frame(shapes)
        tight = boxes_of(shapes) if boxes is None else check_boxes(boxes, n=n)
        self.box_ = self._learn_boxes(tight, poses)
        self.detection_: dict[str, Any] | None = None
        self.placement_: Placement | None = None
        self.evidence_ = clone(_make_evidence(self.evidence))
        self.resolutions_ = self._levels()
        self.evidence_.prepare(self._frame, len(self.resolutions_), scheme)
        self.score_scale_ = (0.0, 1.0)
        self.calibration_: Calibration | None = None
        bank, hidden = None, np.zeros((n, self.n_landmarks_), dtype=bool)
        if self.evidence_.needs_images:
            bank, hidden = self._load(images, shapes, poses, rng, tell)
            self.placement_ = Placement.learn(poses, self._frame, bank.sizes[:n])
        maps = None
        if heatmaps is not None:
            self._check_maps_wanted()
            if images is None or len(heatmaps) != n:
                raise ValueError(f"heatmaps: expected one array for each of {n} images, and images with them.")
            maps = None if bank is None else _Maps(heatmaps, self.n_landmarks_, bank.sizes)
        mirror = getattr(scheme, "mirror", None) if self.mirror and bank is not None and maps is None else None
        truth, flip, index = shapes, np.zeros(n, dtype=bool), np.arange(n)
        if mirror is not None and bank is not None:
            other = shapes[:, mirror].copy()
            other[..., 0] = bank.sizes[:n, :1] - 1 - other[..., 0]
            opposite = tight[:, [2, 1, 0, 3]].copy()
            opposite[:, [0, 2]] = bank.sizes[:n, :1] - 1 - opposite[:, [0, 2]]
            truth, tight = np.concatenate([truth, other]), np.concatenate([tight, opposite])
            flip, index = np.repeat([False, True], n), np.tile(index, 2)
        fold = _folds(np.arange(n) if groups is None else _check_groups(groups, n), _N_FOLDS, rng)[index]
        repeats = self.n_perturbations
        if repeats is None:
            repeats = int(np.clip(round(_N_SAMPLES / len(truth)), 2, 40))
        every = np.repeat(np.arange(len(truth)), repeats)
        truth, flip, index, fold = truth[every], flip[every], index[every], fold[every]
        start = self._place(tight[every], jitter, rng)
        if len(hidden) > n:
            index = np.where(rng.random(len(index)) < self.occlusion, index + n, index)
        hidden = hidden[index]
        if mirror is not None:
            hidden = np.where(flip[:, None], hidden[:, mirror], hidden)
        self._train(bank, index, flip, start, truth, fold, hidden, rng, {"maps": maps or _no_maps}, tell)
        return shapes

    def _calibrate(
        self, images: Any, truth: np.ndarray, shapes: np.ndarray, boxes: Any, groups: Any, heatmaps: Any,
        tell: Callable[[str, int, int], None],
    ) -> None:  # fmt: skip
        """Learn from images left out how right landmarks and answers are, by searches that were trained without them.

        Every search starts as in training, on the image as it is and with a part of it hidden. The confidence is
        learned on the answers and on disturbed true shapes.
        """
        rng = np.random.default_rng(self.random_state)
        n = len(truth)
        groups = np.arange(n) if groups is None else np.asarray(groups)
        if len(np.unique(groups)) < _LEAST_GROUPS:
            groups = np.arange(n)
        fold = _folds(groups, self.calibration or (5 if n < 200 else 2), rng)
        tight = boxes_of(truth) if boxes is None else check_boxes(boxes, n=n)
        n_folds = int(fold.max()) + 1
        n_starts = int(np.clip(round(_N_LEFT_OUT / n), 3, 12))
        landmarks, results, n_images = [], [], 0
        for f in range(n_folds):
            train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
            if len(train) < 4:
                return
            part = self._blank(calibration=0)
            part._learn(
                [images[i] for i in train], shapes[train], None if boxes is None else tight[train],
                groups[train] if len(np.unique(groups[train])) > 1 else None,
                None if heatmaps is None else [heatmaps[i] for i in train], _silent,
            )  # fmt: skip
            test = np.sort(rng.permutation(test)[: max(1, _N_LEFT_OUT // n_folds)])
            side = part._frame.pose_of(truth[test]).scale * part._frame.side
            plain = [read_image(images[i]) for i in test]
            pairs: list[Any] = [(image, np.zeros(self.n_landmarks_, dtype=bool)) for image in plain]
            for hide in (False, True):
                if hide and not part.evidence_.needs_maps:
                    pairs = [
                        covered(image, truth[i], plain[j - 1], rng)
                        for j, (image, i) in enumerate(zip(plain, test, strict=True))
                    ]
                shown, hidden = [image for image, _ in pairs], np.array([mask for _, mask in pairs])
                given = None if heatmaps is None else [heatmaps[i] for i in test]
                starts = part._place(np.repeat(tight[test], n_starts, axis=0), _check_jitter(self.jitter), rng)
                found = part._try(shown, starts.reshape(len(test), n_starts, -1, 2), given)
                error = np.linalg.norm(found.points - truth[test[found.rows]][:, None], axis=-1).mean(-1)
                if not hide:
                    spread = spread_of(found.points, found.size)
                    error = error / side[found.rows][:, None]
                    results.append(
                        (found.features.reshape(-1, found.features.shape[-1]), spread.ravel(), error.ravel())
                    )
                    n_images += len(found.rows)
                shapes_shown = disturbed(truth[test], rng)[:, None].repeat(2, axis=1)
                shapes_shown[found.rows, 0] = found.points[:, 0]
                judged = part._try(shown, shapes_shown, given, max_iter=0)
                rows = judged.rows
                off = np.linalg.norm(judged.points - truth[test[rows]][:, None], axis=-1) / side[rows][:, None, None]
                right = (off <= TOLERANCE) & ~hidden[rows][:, None] & judged.inside
                known = np.broadcast_to(np.isfinite(shapes[test[rows]]).all(-1)[:, None], right.shape) & judged.inside
                landmarks.append((judged.landmarks[known], right[known]))
            tell("calibrating", f + 1, n_folds)
        if n_images >= 4:
            features, right = (np.concatenate(column) for column in zip(*landmarks, strict=True))
            self.calibration_ = Calibration.learn(
                features, right, n_images, *(np.concatenate(column) for column in zip(*results, strict=True))
            )

    def _try(self, images: list[np.ndarray], starts: np.ndarray, maps: Any, max_iter: int | None = None) -> _Tried:
        """Search images from starts (n, n_starts, K, 2), those of them that can be searched."""
        tried = []
        for first in range(0, len(images), _CHUNK):
            begun, rows = [], []
            for i in range(first, min(first + _CHUNK, len(images))):
                size = images[i].shape[1::-1]
                try:
                    _check_start(starts[i, 0], images[i])
                    given = None if maps is None else check_maps(maps[i], self.n_landmarks_, size)
                    bank = self._see(images[i], starts[i]) if self.evidence_.needs_images else None
                except ValueError:
                    continue
                begun.append(_Search(starts[i], np.array(size), bank, given, None))
                rows.append(i)
            if begun:
                outcome = self._solve(begun, max_iter)
                inside = _inside(outcome.points, np.array([search.size for search in begun])[:, None, None])
                tried.append((rows, outcome.points, outcome.landmarks, outcome.features, outcome.size, inside))
        if not tried:
            raise ValueError("images: none of those left out for the calibration can be searched from its box.")
        return _Tried(*(np.concatenate(column) for column in zip(*tried, strict=True)))

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
            raise ValueError(f"tolerance: got {self.tolerance!r}; expected a fraction above 0, up to 1.")
        if not (isinstance(self.occlusion, Real) and 0.0 <= self.occlusion <= 1.0):
            raise ValueError(f"occlusion: got {self.occlusion!r}; expected a fraction, 0 to 1.")
        count = self.calibration
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0 or count == 1
        ):
            raise ValueError(f"calibration: got {count!r}; expected a number of folds of at least 2, 0 or None.")
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
            self.asm_.frame_ = "pixels"  # what it is searched in

    def _scheme(self) -> Any:
        scheme = self.asm_.scheme
        return get_scheme(scheme) if isinstance(scheme, str) else scheme

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
        frame, middle = self._frame, self._frame.middle
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

    def _load(
        self, images: Any, shapes: np.ndarray, poses: Planar, rng: np.random.Generator,
        tell: Callable[[str, int, int], None],
    ) -> tuple[ImageBank, np.ndarray]:  # fmt: skip
        """Return the images, where evidence learns to do without what is hidden once more with a part of each covered.

        And which landmarks each of them hides.
        """
        n = len(shapes)
        count = image_count(images) if images is not None else None
        if count != n:
            got = "None" if images is None else "one image" if count is None else f"{count} images"
            raise ValueError(f"images: got {got}; expected one for each of {n} shapes.")
        low, high = shapes.min(axis=1), shapes.max(axis=1)
        side = (high - low).max(axis=1)[:, None]
        regions = np.concatenate([low - side, high + side], axis=1)
        pixel = 0.8 * poses.scale * self._frame.side / self.resolutions_[-1]
        twice = self.occlusion > 0 and self.evidence_.learns_occlusion
        plain, behind, hidden, before = [], [], np.zeros((2 * n, self.n_landmarks_), dtype=bool), None
        for i in range(n):
            try:
                image = read_image(images[i])
                _check_inside(shapes[i], image, "shapes")
                plain.append(ImageBank.build([image], [regions[i]], [pixel[i]]))
                if twice:
                    covering, hidden[n + i] = covered(image, shapes[i], image if before is None else before, rng)
                    behind.append(ImageBank.build([covering], [regions[i]], [pixel[i]]))
                    before = image
            except ValueError as error:
                raise ValueError(f"image {i}: {error}") from error
            tell("reading", i + 1, n)
        return ImageBank.join(plain + behind), hidden[: len(plain + behind)]

    def _train(
        self, bank: ImageBank | None, index: np.ndarray, flip: np.ndarray, start: np.ndarray, truth: np.ndarray,
        fold: np.ndarray, hidden: np.ndarray | None, rng: np.random.Generator, context: dict[str, Any],
        tell: Callable[[str, int, int], None],
    ) -> None:  # fmt: skip
        frame, evidence = self._frame, self.evidence_
        current = frame.fit(start).points
        true_pose = frame.pose_of(truth)
        right = true_pose.inverse(truth)
        with _threads(self.n_jobs) as split:
            scores = None
            n_steps = len(self.resolutions_) * evidence.n_iter
            for level, resolution in enumerate(self.resolutions_):
                for iteration in range(max(1, evidence.n_iter)):
                    view = View(
                        current, level, iteration, resolution, index, frame, bank, frame.pose_of(current), flip, split,
                        context, hidden,
                    )  # fmt: skip
                    proposal = evidence.train(view, truth, fold, rng)
                    if proposal is None:
                        tell("learning", (level + 1) * evidence.n_iter, n_steps)
                        break
                    check_proposal(proposal, view, evidence)
                    tell("learning", level * evidence.n_iter + iteration + 1, n_steps)
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
        n_starts: int | None = None,
        max_iter: int | None = None,
    ) -> SearchResult | list[Any]:
        """Find the shape in one image or in each of many.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        boxes : array_like of shape (4,) or (m, 4), or for a batch (n, 4) or a list of n such, optional
            Where the object is, (x0, y0, x1, y1), by the convention learned in `fit`; several boxes in one image are
            so many searches.
        initial : array_like of shape (K, 2) or (m, K, 2), or for a batch (n, K, 2) or a list of n such, optional
            Shapes to start from, instead of boxes. Without either, `detect_faces` looks for the face (the largest,
            where there are several), when `fit_detection` has learned what its boxes mean; otherwise the object is
            looked for where, as large as and turned as the objects of the training images stood.
        heatmaps : optional
            For `HeatMaps` evidence: maps (K, h, w) of the image, or a list of them, one for each image.
        n_starts : int, optional
            Searches from so many starts, the first of them unchanged and the others jittered, and answers the one with
            the least expected error. None for one start, or 40 where nobody says where the object is.
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
        for name, value, least in (("n_starts", n_starts, 1), ("max_iter", max_iter, 0)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
            ):
                raise ValueError(f"{name}: got {value!r}; expected a whole number of at least {least}.")
        if boxes is None and initial is None and heatmaps is None and not (self.detection_ or self.placement_):
            raise ValueError("got neither boxes nor initial; expected one of them.")
        given, name = boxes, "boxes"
        event: tuple[int, ...] = (4,)
        if boxes is None:
            given, event, name = initial, (self.n_landmarks_, 2), "initial"
        requests, counts = self._requests(images, given, event, name, heatmaps)
        strict = counts is None

        def run(first: int, last: int) -> list[SearchResult]:
            return self._search(requests[first:last], name if given is not None else None, n_starts, max_iter, strict)

        return _arranged(self._in_chunks(run, len(requests)), counts)

    def confidence(self, images: Any, shapes: Any, *, heatmaps: Any = None) -> Any:
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
        requests, counts = self._requests(images, shapes, (self.n_landmarks_, 2), "shapes", heatmaps)
        if not len(requests):
            return np.empty((0, self.n_landmarks_))
        strict = counts is None

        def run(first: int, last: int) -> list[np.ndarray]:
            out: list[Any] = [np.zeros(self.n_landmarks_) for _ in range(first, last)]
            begun, rows = [], []
            for i, request in enumerate(requests[first:last]):
                try:
                    begun += [
                        search
                        for search in [
                            self._begin(
                                request._replace(given=self._filled_shape(request.given, "shapes")), "shapes", 1
                            )
                        ]
                        if search
                    ]
                    rows.append(i)
                except ValueError:
                    if strict:
                        raise
            if begun:
                outcome = self._solve(begun, max_iter=0)
                for i, values in zip(rows, outcome.confidence[:, 0], strict=True):
                    missing = ~np.isfinite(np.asarray(requests[first + i].given, dtype=float)).all(-1)
                    out[i] = np.where(missing, 0.0, values)
            return out

        arranged = _arranged(self._in_chunks(run, len(requests)), counts)
        ragged = isinstance(counts, list) and any(count is not None for count in counts)
        return [np.array(one) for one in arranged] if ragged else np.array(arranged)

    def _filled_shape(self, given: Any, name: str) -> np.ndarray:
        """Return a shape with its missing landmarks where the others imply them."""
        shape = _numbers(given, (self.n_landmarks_, 2), name)
        known = np.isfinite(shape).all(axis=1)
        if known.all():
            return shape
        if np.isinf(shape).any() or known.sum() < 3:
            raise ValueError(
                f"{name}: got infinity, or fewer than three landmarks; expected pixels, NaN where missing."
            )
        weights = np.where(known, 1.0, 1e-9)[None]
        implied = self._frame.fit(np.where(known[:, None], shape, shape[known].mean(0))[None], weights=weights).points[
            0
        ]
        return np.where(known[:, None], shape, implied)

    def _requests(
        self, images: Any, given: Any, event: tuple[int, ...], name: str, heatmaps: Any
    ) -> tuple[list[_Request], list[int | None] | int | None]:
        """Return one request for each search, and how many there are for each image.

        None is a single search, a number so many in a single image, and a list one of these for each image.
        """
        count = image_count(images)
        single = count is None
        many: Sequence[Any] = [images] if single else images
        n = len(many)
        maps: list[Any] = [None] * n
        if heatmaps is not None:
            self._check_maps_wanted()
            if not single and not hasattr(heatmaps, "__len__"):
                raise ValueError(f"heatmaps: got a {type(heatmaps).__name__}; expected a list, one for each image.")
            maps = [heatmaps] if single else list(heatmaps)
            if len(maps) != n:
                raise ValueError(f"heatmaps: got {len(maps)}; expected one array for each of {n} images.")
        values = [None] * n if given is None else _per_image(given, n, event, name, single)
        requests, counts = [], []
        for i, value in enumerate(values):
            several = isinstance(value, np.ndarray) and value.ndim == len(event) + 1 and value.shape[1:] == event
            counts.append(len(value) if several else None)
            requests += [_Request(many[i], i, one, maps[i]) for one in (value if several else [value])]
        return requests, counts[0] if single else counts

    def _in_chunks(self, run: Callable[[int, int], list[Any]], n: int) -> list[Any]:
        n_threads = _n_threads(self.n_jobs)
        spans = list(pairwise([*range(0, n, max(1, min(_CHUNK, -(-n // n_threads)))), n]))
        if len(spans) > 1 and n_threads > 1:
            with ThreadPoolExecutor(n_threads) as pool:
                parts = list(pool.map(lambda span: run(*span), spans))
        else:
            parts = [run(*span) for span in spans]
        return [result for part in parts for result in part]

    def _search(
        self, requests: list[_Request], name: str | None, n_starts: int | None, max_iter: int | None, strict: bool
    ) -> list[SearchResult]:
        results: list[Any] = [None] * len(requests)
        begun: dict[int, list[tuple[int, _Search]]] = {}
        for i, request in enumerate(requests):
            try:
                search = self._begin(request, name, n_starts)
            except ValueError as error:
                if strict:
                    raise
                results[i] = self._failed("error", str(error))
                continue
            if search is None:
                results[i] = self._failed("no face", "detect_faces found no face")
            else:
                begun.setdefault(len(search.starts), []).append((i, search))
        for several in begun.values():
            searches = [search for _, search in several]
            outcome = self._solve(searches, max_iter)
            for j, (i, search) in enumerate(several):
                results[i] = self._result(outcome, j, search)
        return results

    def _failed(self, status: str, message: str) -> SearchResult:
        return SearchResult.failed(self.n_landmarks_, len(self._frame.variances), status=status, message=message)

    def _begin(self, request: _Request, name: str | None, n_starts: int | None) -> _Search | None:
        """Read an image and find the starts in it; None where no face is found."""
        image = read_image(request.image)
        height, width = image.shape[:2]
        maps = None if request.maps is None else check_maps(request.maps, self.n_landmarks_, (width, height))
        if maps is None and self.evidence_.needs_maps:
            _no_maps(request.number)
        box, several = None, None
        if name == "boxes":
            box = check_boxes(_numbers(request.given, (4,), "boxes"), (width, height), n=1)[0]
        elif name is None and maps is None and self.detection_ is not None:
            box = self._detect(image)
            if box is None:
                return None
        if box is not None:
            shape = self._place(box[None], None, None)[0]
        elif name is not None:
            shape = _numbers(request.given, (self.n_landmarks_, 2), name)
            shape = as_shapes(shape, name=name, n_landmarks=self.n_landmarks_, n_dims=2).astype(np.float64)
            if not np.ptp(shape, axis=0).max() > 0:
                raise ValueError(f"{name}: got landmarks that all coincide; expected a shape with extent.")
        elif maps is not None:
            shape = self._start_from(maps)
        else:
            assert self.placement_ is not None
            rng = np.random.default_rng(self.random_state)
            several = self.placement_.starts(self._frame, (width, height), n_starts or _N_PLACED, rng)
            shape = several[0]
        _check_start(shape, image)
        if maps is not None and not self.evidence_.needs_images:
            _check_maps_say_something(maps)
        if several is None:
            several = self._several(shape, n_starts or 1)
        bank = self._see(image, several) if self.evidence_.needs_images else None
        return _Search(several, np.array([width, height]), bank, maps, None if box is None else tuple(map(float, box)))

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

    def _solve(self, searches: list[_Search], max_iter: int | None = None) -> _Outcome:
        """Search from all starts, the same number for each, and judge where each of them ended."""
        n, n_starts = len(searches), len(searches[0].starts)
        index = np.repeat(np.arange(n), n_starts)
        start = np.concatenate([search.starts for search in searches])
        sizes = np.array([search.size for search in searches])
        bank = None
        if self.evidence_.needs_images:
            bank = ImageBank.join([search.bank for search in searches if search.bank is not None])
        context = {"maps": _given([search.maps for search in searches])}
        flip = np.zeros(len(index), dtype=bool)
        n_iter = self.evidence_.n_iter if max_iter is None else min(max_iter, self.evidence_.n_iter)
        state = _State(self._frame.fit(start), start)
        if n_iter == 0:
            state.points = start.copy()

        def look(rows: np.ndarray, level: int, iteration: int) -> tuple[View, Any]:
            view = View(
                state.points[rows], level, iteration, self.resolutions_[level], index[rows], self._frame, bank,
                state.pose.take(rows), flip[rows], _serial, context,
            )  # fmt: skip
            proposal = self.evidence_.locate(view)
            check_proposal(proposal, view, self.evidence_)
            return view, proposal

        every = np.arange(len(index))
        for level in range(len(self.resolutions_)):
            active = every
            for iteration in range(n_iter):
                view, proposal = look(active, level, iteration)
                fit = self._shape_step(proposal)
                stayed = state.record(active, view, proposal, fit, sizes[index[active]], self.evidence_.stays)
                if self.evidence_.stops:
                    active = active[stayed < self.tolerance]
                if not len(active):
                    break
        # What the image says of each answer, which is not moved any more.
        view, proposal = look(every, len(self.resolutions_) - 1, max(self.evidence_.n_iter - 1, 0))
        landmarks = landmark_features(proposal, state.points, view.pixel)
        inside = _inside(state.points, sizes[index][:, None])
        if self.calibration_ is not None:
            confidence = self.calibration_.confidence(landmarks)
        else:
            confidence = np.ones(inside.shape) if proposal.weights is None else np.asarray(proposal.weights, float)
        used = self._frame.variances > 0
        distance = (state.coefficients[:, used] ** 2 / self._frame.variances[used]).mean(axis=1) if used.any() else 0.0
        score = np.full(len(every), np.nan) if proposal.score is None else np.asarray(proposal.score, dtype=float)
        features = result_features(landmarks, score, np.broadcast_to(distance, score.shape))
        size = state.pose.scale * self._frame.side
        shape = (n, n_starts)
        expected = np.full(shape, np.nan)
        if self.calibration_ is not None:
            points = state.points.reshape(*shape, *start.shape[1:])
            spread = spread_of(points, size.reshape(shape)).ravel() if n_starts > 1 else None
            expected = (self.calibration_.expected_error(features, spread) * size).reshape(shape)
        return _Outcome(
            state, np.where(inside, confidence, 0.0).reshape(*shape, -1),
            landmarks.reshape(*shape, *landmarks.shape[1:]),
            features.reshape(*shape, -1), score.reshape(shape), np.broadcast_to(distance, len(every)).reshape(shape),
            size.reshape(shape), expected,
        )  # fmt: skip

    def _result(self, outcome: _Outcome, number: int, search: _Search) -> SearchResult:
        """Return the best of the starts of one search."""
        state, n_starts = outcome.state, outcome.score.shape[1]
        expected, score, distance = (v[number] for v in (outcome.expected_error, outcome.score, outcome.distance))
        if np.isfinite(expected).all():
            chosen = int(np.argmin(expected / outcome.size[number]))
        else:
            rank = np.where(np.isfinite(score), (score - self.score_scale_[0]) / self.score_scale_[1], 0.0)
            chosen = int(np.argmax(rank - 0.5 * distance))
        best = number * n_starts + chosen
        points = state.points[best]
        outside = _outside(points, search.size)
        converged = bool(state.stayed[best] >= self.tolerance)
        status, message = ("converged", "") if converged else ("not converged", "")
        if outside >= 0.25 * len(points):
            converged, status = False, "outside"
            message = f"{outside} of {len(points)} landmarks lie outside the image"
        n_modes = max(int((self._frame.variances > 0).sum()), 1)
        return SearchResult(
            shape=points,
            confidence=outcome.confidence[number, chosen],
            plausibility=float(gammaincc(0.5 * n_modes, 0.5 * n_modes * distance[chosen])),
            score=float(score[chosen]),
            expected_error=float(expected[chosen]),
            converged=converged,
            status=status,
            message=message,
            start=state.start[best],
            transform=state.pose.take(best).as_similarity(),
            coefficients=state.coefficients[best],
            box=search.box,
            trace=tuple(state.steps[best]),
        )

    # --- faces ---------------------------------------------------------------------------------------------

    def fit_detection(
        self, images: Any, shapes: Any, *, callback: Callable[[str, int, int], None] | None = None
    ) -> Self:
        """Learn what the boxes of `detect_faces` mean for this model, so that `predict` needs no boxes.

        Parameters
        ----------
        images : sequence of array or path
            Photographs, each with one face that has landmarks; others may be in it.
        shapes : array_like of shape (n, K, 2)
        callback : callable, optional
            As for `fit`.

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
        tell = callback or _silent
        shapes = as_shapes(shapes, n_landmarks=self.n_landmarks_, n_dims=2, min_samples=5).astype(np.float64)
        # The boxes that would make the search start right there.
        frame, poses = self._frame, self._frame.pose_of(shapes)
        middle = np.broadcast_to(frame.middle, (len(shapes), 1, 2))
        side = poses.scale * frame.side / self.box_["side"]
        center = poses(middle)[:, 0] - np.array(self.box_["center"]) * side[:, None]
        half = 0.5 * side[:, None]
        boxes = np.concatenate([center - half, center + half], axis=1)
        self.detection_ = learn_detection(images, boxes, lambda i: tell("detecting", i + 1, len(boxes)))
        return self

    def _check_maps_wanted(self) -> None:
        if not self.evidence_.needs_maps:
            raise ValueError(
                f"heatmaps: got some, but {type(self.evidence_).__name__} evidence does not look at them. Try "
                "HeatMaps, alone or in a CombinedEvidence; evidence of your own says needs_maps = True."
            )

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
        from ..io import _save_aligned

        check_is_fitted(self, "evidence_")
        asm, arrays = _save_aligned(self.asm_)
        kind, evidence, some = self.evidence_.to_parts()
        parameters = {name: getattr(self, name) for name in _SAVED}
        parameters = {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}
        parameters["jitter"] = [float(v) for v in self.jitter]
        header = {
            "frame": "image",
            "asm": asm,
            "evidence": {"kind": kind, "header": evidence},
            "parameters": parameters,
            "angle": self._frame.angle,
            "resolutions": list(self.resolutions_),
            "score_scale": list(self.score_scale_),
            "box": self.box_,
            "detection": self.detection_,
            "placement": None if self.placement_ is None else self.placement_.to_header(),
            "calibration": None if self.calibration_ is None else self.calibration_.to_header(),
        }
        arrays = {f"asm.{name}": array for name, array in arrays.items()}
        arrays |= {f"evidence.{name}": np.asarray(array) for name, array in some.items()}
        return "ASMFitter", header, arrays


def load_fitter(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> ASMFitter:
    """Build the `ASMFitter` that `to_archive` took apart."""
    from ..io import _load_aligned

    asm = _load_aligned(header["asm"], part_of(arrays, "asm."))
    asm.frame_ = asm.frame_ or "pixels"  # what it is searched in
    saved = header["evidence"]
    evidence = evidence_from_parts(saved["kind"], saved["header"], part_of(arrays, "evidence."))
    parameters = dict(header["parameters"])
    parameters["jitter"] = tuple(parameters["jitter"])
    fitter = ASMFitter(asm, evidence=clone(evidence), **parameters)
    fitter.asm_ = asm
    fitter._frame = Frame(asm.asm_.basis_, header["angle"])
    fitter.n_landmarks_ = fitter._frame.n_landmarks
    fitter.resolutions_ = tuple(float(r) for r in header["resolutions"])
    mean, spread = header["score_scale"]
    fitter.score_scale_ = (float(mean), float(spread))
    fitter.box_, fitter.detection_ = header["box"], header["detection"]
    fitter.placement_ = Placement.from_header(header.get("placement"))
    fitter.calibration_ = Calibration.from_header(header.get("calibration"))
    evidence.prepare(fitter._frame, len(fitter.resolutions_), fitter._scheme())
    fitter.evidence_ = evidence
    return fitter


class _Tried(NamedTuple):
    """What searches of left-out images came to: which images, and for each start (n, n_starts, ...) what it found."""

    rows: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    size: np.ndarray
    inside: np.ndarray


class _Request(NamedTuple):
    """One search that was asked for: in which image, its number in the call, from what box or shape, on what maps."""

    image: Any
    number: int
    given: Any
    maps: Any


@dataclass
class _Search:
    """One search that can begin."""

    starts: np.ndarray
    size: np.ndarray
    bank: ImageBank | None
    maps: Any
    box: Any


@dataclass
class _Outcome:
    """Where searches from all starts have ended, and what the image says of each of them; (n, n_starts) first."""

    state: _State
    confidence: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    score: np.ndarray
    distance: np.ndarray
    size: np.ndarray
    expected_error: np.ndarray

    @property
    def points(self) -> np.ndarray:
        return self.state.points.reshape(*self.score.shape, *self.state.points.shape[1:])


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

    def __init__(self, fit: Any, start: np.ndarray) -> None:
        n = len(start)
        self.start = start
        self.points, self.pose, self.coefficients = fit.points, fit.pose, fit.coefficients
        self.stayed = np.zeros(n)
        self.steps: list[list[SearchStep]] = [[] for _ in range(n)]

    def record(
        self, rows: np.ndarray, view: View, proposal: Any, fit: Any, sizes: np.ndarray, stays: float
    ) -> np.ndarray:
        """Take one step over, and answer the fraction of landmarks that stayed."""
        before = self.points[rows]
        move = np.linalg.norm(fit.points - before, axis=-1)
        wish = np.linalg.norm(proposal.points - before, axis=-1)
        stayed = (np.minimum(wish, move) <= stays * view.pixel[:, None]).mean(axis=1)
        score = np.full(len(rows), np.nan) if proposal.score is None else proposal.score
        self.points[rows] = fit.points
        self.pose.a[rows], self.pose.b[rows] = fit.pose.a, fit.pose.b
        self.coefficients[rows] = fit.coefficients
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


def _silent(what: str, done: int, total: int) -> None:
    """Hear how far a training has come, and say nothing."""


def boxes_of(shapes: np.ndarray) -> np.ndarray:
    """Return the tight boxes (n, 4) of shapes."""
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


def _folds(groups: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return a fold for each sample; those of a group share it."""
    names, which = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups: got a single group; expected at least two, for cross-validation.")
    return (rng.permutation(len(names)) % min(n_folds, len(names)))[which]


def _inside(points: np.ndarray, size: Any) -> np.ndarray:
    return np.asarray(((points >= -0.5) & (points <= np.asarray(size) - 0.5)).all(axis=-1))


def _outside(points: np.ndarray, size: np.ndarray) -> int:
    return int((~_inside(points, size)).sum())


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
    if isinstance(evidence, str) and evidence in _NAMED:
        return _NAMED[evidence]()
    raise ValueError(f"evidence: got {evidence!r}; expected 'patches', 'profiles' or an Evidence.")


def _check_jitter(jitter: Any) -> tuple[float, float, float]:
    values = np.asarray(jitter, dtype=float)
    if values.shape != (3,) or not np.isfinite(values).all() or (values < 0).any() or values[1] >= 1:
        raise ValueError(
            f"jitter: got {jitter!r}; expected three numbers that are not negative: position and size as shares of "
            "the box (size below 1), rotation in radians."
        )
    return float(values[0]), float(values[1]), float(values[2])


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


def _per_image(values: Any, n: int, event: tuple[int, ...], name: str, single: bool) -> list[Any]:
    """Return what is given for each image: one value, or an array of several; each is judged when it has its turn."""
    one = f"{event} for one or (m, {str(event)[1:].rstrip(',)')}) for several in one"
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        if not single and hasattr(values, "__len__") and len(values) == n:
            return [_array_or_given(value) for value in values]
        raise ValueError(
            f"{name}: got no numbers; expected an array of shape {one if single else (n, *event)}."
        ) from None
    if single:
        if array.shape == event or (array.ndim == len(event) + 1 and array.shape[1:] == event):
            return [array]
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected {one} image.")
    if n == 0 and array.size == 0:
        return []
    if array.shape[:1] != (n,) or array.shape[array.ndim - len(event) :] != event or array.ndim > len(event) + 2:
        raise ValueError(f"{name}: got an array of shape {array.shape}; expected {(n, *event)}, one for each image.")
    return list(array)


def _array_or_given(value: Any) -> Any:
    if value is None:
        return None
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return value


def _arranged(results: list[Any], counts: Any) -> Any:
    """Return results as they were asked for, see `_requests`."""
    if counts is None:
        return results[0]
    if isinstance(counts, int):
        return results
    every = iter(results)
    return [next(every) if count is None else [next(every) for _ in range(count)] for count in counts]


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
    if n_jobs is None:
        return 1
    if n_jobs == -1:
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


_NAMED = {"patches": Patches, "profiles": Profiles}
_SAVED = (
    "n_levels", "resolution", "level_step", "jitter", "n_perturbations", "mirror", "occlusion", "calibration",
    "tolerance", "random_state",
)  # fmt: skip
