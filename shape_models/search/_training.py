"""The training: images, starts that are off, and one step of evidence after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from .._aligned import AlignedASM
from .._asm import ASM
from ..landmarks import LandmarkScheme
from ._calibration import covered
from ._checks import check_groups
from ._folds import folds
from ._frame import Frame, Planar
from ._images import ImageBank, read_image
from ._solver import shape_step
from ._starts import BoxConvention, Jitter, jittered
from ._threads import Threads
from .evidence import Evidence, View, check_proposal
from .heatmaps import check_maps

_N_SAMPLES = 7000  # training starts over all images, when the number for each image is not given
_N_LANDMARKS = 500_000  # and landmarks in them: what many landmarks take of memory is bounded
_MOST_STARTS = 20  # of an image: more of them say nothing new
_N_FOLDS = 6
_SHUFFLED = 0.5  # fraction of training samples that take over the error of another image between two steps

Tell = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Hear how far a training has come, and say nothing."""


class Maps:
    """Heat maps of training images, checked when they are asked for."""

    def __init__(self, given: Any, n_landmarks: int, sizes: np.ndarray) -> None:
        self.given, self.n_landmarks, self.sizes = given, n_landmarks, sizes

    def __call__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        return check_maps(self.given[image], self.n_landmarks, tuple(self.sizes[image]))


@dataclass(frozen=True)
class Examples:
    """What a search learns from: images and the shapes in them, in square pixels, and what is known of each."""

    images: Any  # a sequence; None for evidence that does not look at them
    shapes: np.ndarray  # (n, K, 2), NaN where missing
    scheme: LandmarkScheme | None
    boxes: np.ndarray | None = None
    initial: np.ndarray | None = None
    groups: np.ndarray | None = None
    heatmaps: Any = None
    spacing: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, rows: np.ndarray) -> Examples:
        """Return some of them; a single group among them is none."""
        known = (self.boxes, self.initial, self.groups, self.spacing)
        boxes, initial, groups, spacing = (None if v is None else v[rows] for v in known)
        images, maps = (None if v is None else [v[i] for i in rows] for v in (self.images, self.heatmaps))
        if groups is not None and len(np.unique(groups)) < 2:
            groups = None
        return Examples(images, self.shapes[rows], self.scheme, boxes, initial, groups, maps, spacing)


@dataclass
class Samples:
    """Training starts, one row each: which image, mirrored or not, from where to where, what is hidden there.

    Rows with the same `fold` show images that cross-validation keeps together.
    """

    index: np.ndarray
    flip: np.ndarray
    start: np.ndarray
    truth: np.ndarray
    fold: np.ndarray
    hidden: np.ndarray


def fit_shape_model(asm: AlignedASM | ASM | None, shapes: np.ndarray, scheme: LandmarkScheme | None) -> AlignedASM:
    """Return a shape model fitted to shapes (n, K, 2) of a scheme, or the given one where it is fitted already."""
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
        fitted: AlignedASM = asm
        return fitted
    fitted = clone(asm)
    if fitted.scheme is None:
        fitted.scheme = scheme
    fitted.fit(shapes)
    fitted.frame_ = "pixels"  # what it is searched in
    return fitted


def frame_of(asm: AlignedASM, shapes: np.ndarray) -> tuple[Frame, Planar]:
    """Return the frame in which shapes stand as they do in their images, and their poses."""
    poses = Frame(asm.asm_.basis_, 0.0).pose_of(shapes)
    return Frame(asm.asm_.basis_, float(np.angle((poses.a / np.abs(poses.a)).mean()))), poses


def load(
    images: Any,
    shapes: np.ndarray,
    poses: Planar,
    frame: Frame,
    evidence: Evidence,
    resolution: float,
    occlusion: float,
    rng: np.random.Generator,
    tell: Tell,
) -> tuple[ImageBank, np.ndarray]:
    """Return the images, where evidence learns to do without what is hidden once more with a part of each covered.

    And which landmarks each of them hides.
    """
    n = len(shapes)
    low, high = shapes.min(axis=1), shapes.max(axis=1)
    side = (high - low).max(axis=1)[:, None]
    regions = np.concatenate([low - side, high + side], axis=1)
    pixel = 0.8 * poses.scale * frame.side / resolution
    twice = occlusion > 0 and evidence.learns_occlusion
    plain, behind, hidden, before = [], [], np.zeros((2 * n, frame.n_landmarks), dtype=bool), None
    for i in range(n):
        try:
            image = read_image(images[i])
            plain.append(ImageBank.build([image], [regions[i]], [pixel[i]]))
            if twice:
                covering, hidden[n + i] = covered(image, shapes[i], image if before is None else before, rng)
                behind.append(ImageBank.build([covering], [regions[i]], [pixel[i]]))
                before = image
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
        tell("reading", i + 1, n)
    return ImageBank.join(plain + behind), hidden[: len(plain + behind)]


def training_samples(
    shapes: np.ndarray, boxes: np.ndarray, groups: np.ndarray | None, bank: ImageBank | None, hidden: np.ndarray,
    mirror: np.ndarray | None,
    box: BoxConvention, initial: np.ndarray | None, frame: Frame, n_perturbations: int | None, jitter: Jitter,
    occlusion: float, rng: np.random.Generator,
) -> Samples:  # fmt: skip
    """Return the starts of a training: several for each image and its mirror image, some where a part is hidden."""
    n = len(shapes)
    truth, flip, index = shapes, np.zeros(n, dtype=bool), np.arange(n)
    if mirror is not None and bank is not None:
        right = np.stack([bank.sizes[:n, 0] - 1, np.zeros(n, int)], axis=-1)[:, None]

        def with_mirrored(points: np.ndarray, order: Any) -> np.ndarray:
            return np.concatenate([points, right + points[:, order] * [-1, 1]])

        truth = with_mirrored(truth, mirror)
        boxes = with_mirrored(boxes.reshape(n, 2, 2), slice(None)).reshape(-1, 4)
        boxes[n:] = boxes[n:][:, [2, 1, 0, 3]]
        initial = None if initial is None else with_mirrored(initial, mirror)
        flip, index = np.repeat([False, True], n), np.tile(index, 2)
    fold = folds(np.arange(n) if groups is None else check_groups(groups, n), _N_FOLDS, rng)[index]
    repeats = n_perturbations
    if repeats is None:
        repeats = int(np.clip(round(min(_N_SAMPLES, _N_LANDMARKS / shapes.shape[1]) / len(truth)), 2, _MOST_STARTS))
    every = np.repeat(np.arange(len(truth)), repeats)
    truth, flip, index, fold = truth[every], flip[every], index[every], fold[every]
    if initial is None:
        start = box.place(boxes[every], frame, jitter, rng)
    else:
        start = jittered(initial[every], jitter, rng)
    if len(hidden) > n:
        index = np.where(rng.random(len(index)) < occlusion, index + n, index)
    hidden = hidden[index]
    if mirror is not None:
        hidden = np.where(flip[:, None], hidden[:, mirror], hidden)
    return Samples(index, flip, start, truth, fold, hidden)


def train(
    evidence: Evidence,
    frame: Frame,
    resolutions: tuple[float, ...],
    bank: ImageBank | None,
    given: Samples,
    context: dict[str, Any],
    rng: np.random.Generator,
    n_jobs: int | None,
    tell: Tell,
) -> tuple[float, float]:
    """Train the evidence of every level and iteration, and return mean and spread of the scores at the end."""
    truth, fold = given.truth, given.fold
    index, flip, hidden = given.index, given.flip, given.hidden
    current = frame.fit(given.start).points
    true_pose = frame.pose_of(truth)
    right = true_pose.inverse(truth)
    with Threads(n_jobs) as split:
        scores = None
        n_steps = len(resolutions) * evidence.n_iter
        for level, resolution in enumerate(resolutions):
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
                current = shape_step(frame, proposal).points
                # Errors that follow from an image as often as errors of other images: the next step must not
                # learn from the particular images how far this one was off.
                off = true_pose.inverse(current) - right
                swap = rng.random(len(current)) < _SHUFFLED
                other = true_pose(right + off[rng.permutation(len(current))])
                current = np.where(swap[:, None, None], frame.fit(other).points, current)
    if scores is None or not np.isfinite(scores).all():
        return 0.0, 1.0
    return float(np.mean(scores)), max(float(np.std(scores)), 1e-6)
