"""Shapes followed through the frames of a video: where each of them is, and which is which."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from .._array import as_count
from .._brief import brief
from .._options import check_numbers
from .._typing import ImageLike
from ..boxes import convert, overlap
from ..images import read_values
from ._cascade import Detector
from ._looks import alike, look_of
from ._motion import Motion, outline_distance
from .detection import find_faces
from .detectors import ScikitImage, get_detector
from .fitter import ASMFitter
from .video import read_frames

__all__ = ["TrackedFace", "TrackedFrame", "track"]

_BEGIN, _STAY = 0.68, 0.55  # mean confidence from which a face is taken up, and down to which it counts as seen
# Of looks, see `alike`: 1 in 100 pairs of different persons is more alike, 79 in 100 of one person in one clip. From
# one frame to the next less will do, for a hand or a shadow may come over the face.
_ALIKE, _STILL_ALIKE = 0.63, 0.5
# In sizes of a face, the root mean square distance of its landmarks from their middle, 0.38 of its longer side:
_REACH, _MOST_REACH = 1.6, 6.0  # how far one that is not seen is looked for at first, and at most
_SAME = 0.5  # two shapes whose landmarks are nearer than this are one
_JUMP, _GROWTH = 2.0, 1.5  # how far a face can move, and the factor by which it can grow, between two frames
_LEARNS = 0.1  # of what a face looks like now, in each frame
_STILL = 0.02  # sizes: a start that is nearer to the last one stays where it was
_RIGHT, _WRONG = 0.015, 0.15  # standard deviations of landmarks that are right and wrong, of the longer side


@brief
@dataclass(frozen=True, eq=False)
class TrackedFace:
    """One face in one frame of a video: landmarks, number, status and velocity.

    Attributes
    ----------
    id : int
        The same in all frames; never given again.
    status : str
        ``"new"``; ``"tracked"``; ``"predicted"`` (not seen in this frame: where it would be); ``"recovered"`` (seen
        again); ``"lost"`` (given up, said once: its landmarks are those of the last prediction).
    landmarks : ndarray of shape (K, 2)
        Smoothed, pixels.
    measured : ndarray of shape (K, 2)
        As the predictor found them in this frame; NaN where the face is not seen.
    covariance : ndarray of shape (K, 2, 2)
        Of `landmarks` about the truth, squared pixels: how right the measurement is, by its confidence, and what the
        motion leaves open.
    velocity : ndarray of shape (2,)
        Of the middle of the face, pixels a frame.
    confidence : ndarray of shape (K,)
        Of the measured landmarks; 0 where the face is not seen, NaN where nothing can say.
    age, unseen : int
        Frames since the face was first seen, and since it was last seen.

    Examples
    --------
    >>> from skimage.data import astronaut
    >>> from shape_models.search import track
    >>> face = next(track([astronaut()])).faces[0]
    >>> face.id, face.status, face.landmarks.shape
    (0, 'new', (68, 2))
    """

    id: int
    status: str
    landmarks: np.ndarray
    measured: np.ndarray
    covariance: np.ndarray
    velocity: np.ndarray
    confidence: np.ndarray
    age: int
    unseen: int

    @property
    def box(self) -> np.ndarray:
        """Tight box (x0, y0, x1, y1) of the landmarks."""
        return _box(self.landmarks)

    @property
    def seen(self) -> bool:
        """Whether the face was seen in this frame."""
        return self.status in ("new", "tracked", "recovered")


@brief
@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """The faces of one frame of a video, as `track` yields them.

    Attributes
    ----------
    index : int
        From 0.
    faces : tuple of TrackedFace
        By id.
    detected : bool
        Whether the whole frame was searched for faces.
    status, message : str
        ``"ok"``; or ``"error"`` where the frame cannot be used, and why: its faces are then predicted.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import track
    >>> [frame.faces for frame in track([np.zeros((90, 90), np.uint8)] * 2)]
    [(), ()]
    """

    index: int
    faces: tuple[TrackedFace, ...]
    detected: bool
    status: str = "ok"
    message: str = ""


def track(
    frames: Iterable[ImageLike] | str | os.PathLike[str],
    predictor: Any = None,
    *,
    detector: str | Detector | None = None,
    smoothing: float = 1.0,
    detect_every: int = 10,
    max_unseen: int = 30,
    max_faces: int | None = None,
    min_confidence: float | None = None,
    judge: Any = None,
) -> Iterator[TrackedFrame]:
    """Follow faces, or the objects of any search, through the frames of a video.

    Each face is searched from where it should be by its motion; where the image does not support the answer, the face
    counts as not seen and is predicted. The whole frame is searched now and then, for new faces and for those that were
    not seen: these keep their id if they are where they can have got to and look as they did.

    Parameters
    ----------
    frames : iterable of images, or path
        Frames in order, as for `shape_models.images.read_values`, of any iterable: a generator is read as it goes, and
        one frame is kept at a time. A path is a video file or a folder of images, see `read_frames`.
    predictor : ASMFitter or callable, optional
        What finds landmarks: a fitted search, ``load_model("search68")`` by default; or a callable that takes an image
        and boxes (m, 4) by the convention "landmarks" of `shape_models.boxes` and returns m arrays (K, 2), or m
        objects with `landmarks`, as `asmnet.Predictor` does. One that takes ``initial=None`` is given landmarks
        (m, K, 2) by this name, and no boxes, for faces that were seen in the frame before.
    detector : str or callable, optional
        As for `find_faces`. By default that of scikit-image; for a search that detects no faces its own predictions
        without boxes, which follow one object.
    smoothing : float
        0 takes every measurement as it is; 1 weighs it by the jitter that searches have on real images; more is
        smoother, and later.
    detect_every : int
        Frames after which the whole frame is searched again; after a third of that while a face is not seen.
    max_unseen : int
        Frames after which a face that is not seen is lost.
    max_faces : int, optional
        No more than so many at a time.
    min_confidence : float, optional
        Least mean confidence of a face that is taken up; 0.68 by default. Faces that are tracked may have 0.13 less.
    judge : ASMFitter, optional
        What says how well the image supports landmarks of a callable that states no confidence; by default
        ``load_model("search68")`` for 68 landmarks. For others every answer counts as seen.

    Returns
    -------
    iterator of TrackedFrame
        One for each frame, as soon as it has been read.

    Raises
    ------
    ValueError, TypeError
        At the call, for arguments that make no sense; while reading, when the predictor or the detector answers what
        makes no sense.
    FileNotFoundError, ImportError
        When there is no such path, and for a video file without the package that reads it.

    References
    ----------
    The filter: see R. E. Kalman, "A new approach to linear filtering and prediction problems", Journal of Basic
    Engineering 82 (1960).

    Examples
    --------
    >>> import numpy as np
    >>> from skimage.data import astronaut
    >>> from shape_models.search import track
    >>> frames = (np.roll(astronaut(), 2 * step, axis=1) for step in range(5))
    >>> for frame in track(frames):
    ...     print(frame.index, [(face.id, face.status) for face in frame.faces])
    0 [(0, 'new')]
    1 [(0, 'tracked')]
    2 [(0, 'tracked')]
    3 [(0, 'tracked')]
    4 [(0, 'tracked')]
    """
    check_numbers(smoothing=smoothing)
    if min_confidence is not None:
        check_numbers(min_confidence=min_confidence, most=1)
    for name, value in (("detect_every", detect_every), ("max_unseen", max_unseen), ("max_faces", max_faces)):
        if value is not None or name != "max_faces":
            as_count(value, name)
    source, begin = _source(predictor, detector, judge), _BEGIN if min_confidence is None else float(min_confidence)
    tracker = _Tracker(source, float(smoothing), int(detect_every), int(max_unseen), max_faces, begin)
    return tracker.run(read_frames(frames))


# --- what finds landmarks --------------------------------------------------------------------------------------


class _Search:
    """Objects in frames by a fitted search."""

    def __init__(self, fitter: ASMFitter, detector: Any) -> None:
        self.fitter = fitter
        self.detector = detector
        if detector is None and fitter.detection_ is not None:
            self.detector = ScikitImage(min_windows=2)

    def find(self, image: np.ndarray, taken: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return shapes and confidences of objects in the whole frame that are not at one of those taken."""
        if self.detector is None:
            if len(taken):
                return _nothing(self.fitter.n_landmarks_)
            answers: Any = [self.fitter.predict(image)]
        else:
            learned = self.fitter.detection_ if isinstance(self.detector, ScikitImage) else None
            found = find_faces(image, self.detector, convention="landmarks" if learned is None else None, verify=False)
            boxes = found.boxes
            if learned is not None and len(boxes):
                boxes = convert(boxes, learned.convention, "landmarks")
            boxes = _free(boxes, taken)
            if not len(boxes):
                return _nothing(self.fitter.n_landmarks_)
            answers = self.fitter.predict([image] * len(boxes), boxes=list(boxes), n_turns=1)
        return self._parts(answers)

    def follow(
        self, image: np.ndarray, starts: Sequence[np.ndarray], seen: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return shapes and confidences of objects near given shapes, of those seen in the frame before or not."""
        frame = self.fitter._frame
        poses = frame.pose_of(np.array(starts))
        mean = poses(np.broadcast_to(frame.mean, (len(starts), *frame.mean.shape)))
        return self._parts(self.fitter.predict([image] * len(starts), initial=list(mean)))

    def _parts(self, answers: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.array([a.shape for a in answers]), np.array([a.confidence for a in answers])


class _Callable:
    """Faces in frames by any function of an image and boxes."""

    def __init__(self, predictor: Callable[..., Any], detector: Any, judge: Any) -> None:
        self.predictor = predictor
        self.detector = ScikitImage(min_windows=2) if detector is None else detector
        self.judge = judge
        self.n_landmarks: int | None = None
        try:
            takes: Any = inspect.signature(predictor).parameters
        except (TypeError, ValueError):
            takes = {}
        # Only the landmarks are followed: a predictor that may leave out the fit of a shape model is told so.
        self.options = {"fit": False} if "fit" in takes and takes["fit"].default is True else {}
        self.begins = "initial" in takes and takes["initial"].default is None

    def find(self, image: np.ndarray, taken: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        boxes = _free(find_faces(image, self.detector, verify=False).boxes, taken)
        return self._at(image, boxes) if len(boxes) else _nothing(0)

    def follow(
        self, image: np.ndarray, starts: Sequence[np.ndarray], seen: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        given = np.array(starts)
        shapes, confidences = given.copy(), np.zeros(given.shape[:2])
        near = np.asarray(seen, dtype=bool) & self.begins
        if near.any():
            shapes[near], confidences[near] = self._at(image, initial=given[near])
        if not near.all():
            shapes[~near], confidences[~near] = self._at(image, np.array([_box(start) for start in given[~near]]))
        return shapes, confidences

    def _at(self, image: np.ndarray, *boxes: np.ndarray, **initial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shapes and confidences of the faces in boxes, or near initial landmarks."""
        answers = self.predictor(image, *boxes, **initial, **self.options)
        n = len((*boxes, *initial.values())[0])
        if not hasattr(answers, "__len__"):
            raise TypeError(f"predictor: got {type(answers).__name__}; expected an array (K, 2) for each box.")
        try:
            shapes = np.array([getattr(answer, "landmarks", answer) for answer in answers], dtype=np.float64)
        except (TypeError, ValueError):
            shapes = np.empty(0)
        if shapes.ndim != 3 or len(shapes) != n or shapes.shape[2] != 2 or shapes.shape[1] < 3:
            raise ValueError(
                f"predictor: got {len(answers)} answers for {n} boxes, as an array {shapes.shape}; expected "
                "an array (K, 2) of at least three landmarks for each box."
            )
        if self.n_landmarks not in (None, shapes.shape[1]):
            raise ValueError(
                f"predictor: got {shapes.shape[1]} landmarks, and {self.n_landmarks} in frames before; expected as "
                "many in each."
            )
        self.n_landmarks = shapes.shape[1]
        confidences = [getattr(answer, "confidence", None) for answer in answers]
        if all(c is not None and np.shape(c) == shapes.shape[1:2] for c in confidences):
            return shapes, np.array(confidences, dtype=np.float64)
        if self.judge is None and shapes.shape[1] == 68:
            from ..io import load_model

            self.judge = load_model("search68")
        if self.judge is None:
            return shapes, np.where(np.isfinite(shapes).all(-1), np.nan, 0.0)
        return shapes, np.asarray(self.judge.confidence([image] * len(shapes), list(shapes)))


def _source(predictor: Any, detector: Any, judge: Any) -> Any:
    if detector is not None:
        detector = get_detector(detector)
    if judge is not None and not isinstance(judge, ASMFitter):
        raise TypeError(f"judge: got {type(judge).__name__}; expected a fitted ASMFitter.")
    if predictor is None:
        from ..io import load_model

        predictor = load_model("search68")
    if isinstance(predictor, ASMFitter):
        if not hasattr(predictor, "evidence_"):
            raise ValueError("predictor: got an ASMFitter that is not fitted. Try fit, or load_model('search68').")
        return _Search(predictor, detector)
    if not callable(predictor):
        raise TypeError(
            f"predictor: got {type(predictor).__name__}; expected a fitted ASMFitter, or a callable that takes an "
            "image and boxes and returns landmarks."
        )
    return _Callable(predictor, detector, judge)


def _nothing(n_landmarks: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, n_landmarks, 2)), np.zeros((0, n_landmarks))


def _free(boxes: np.ndarray, taken: Sequence[np.ndarray]) -> np.ndarray:
    """Return the boxes in which no face stands yet."""
    if not len(boxes) or not len(taken):
        return boxes
    return np.asarray(boxes[overlap(boxes, np.array([_box(shape) for shape in taken])).max(axis=1) < 0.3])


def _box(shape: np.ndarray) -> np.ndarray:
    return np.concatenate([shape.min(axis=0), shape.max(axis=0)])


# --- the tracker -----------------------------------------------------------------------------------------------


class _Track:
    """One face that is followed."""

    def __init__(self, number: int, shape: np.ndarray, confidence: np.ndarray, look: np.ndarray, s: float) -> None:
        self.id, self.look, self.last_look = number, look, look
        self.motion = Motion(shape, s)
        self.age = self.unseen = 0
        self.status = "new"
        self.measured, self.confidence = shape, confidence
        self.trust = confidence
        self.start = shape

    def begin(self) -> np.ndarray:
        """Go on by one frame, and say where to search: where it was searched last, as long as that is there."""
        self.motion.advance(seen=self.unseen == 0)
        self.age += 1
        shape = self.motion.shape
        if outline_distance(shape, self.start) > _STILL:
            self.start = shape
        return self.start

    def see(self, shape: np.ndarray, confidence: np.ndarray, look: np.ndarray) -> None:
        self.status = "recovered" if self.unseen else "tracked"
        if self.unseen:  # what happened meanwhile says nothing about how it moves now
            self.motion = Motion(shape, self.motion.smoothing)
        else:
            self.motion.measure(shape, confidence if np.isfinite(confidence).all() else None)
        self.unseen = 0
        self.measured, self.confidence, self.trust = shape, confidence, confidence
        self.look, self.last_look = (1 - _LEARNS) * self.look + _LEARNS * look, look

    def miss(self, most: int) -> None:
        self.unseen += 1
        self.status = "lost" if self.unseen > most else "predicted"
        self.measured = np.full_like(self.measured, np.nan)
        self.confidence = np.zeros(len(self.measured))

    def reach(self) -> float:
        return min(_REACH * (1 + 0.2 * self.unseen), _MOST_REACH)

    def could_be(self, shape: np.ndarray) -> bool:
        """Whether the face can have got to a shape since it was seen."""
        ours = self.motion.shape
        size, other = _size(ours), _size(shape)
        far = float(np.linalg.norm(ours.mean(0) - shape.mean(0)))
        growth = _GROWTH * (1 + 0.02 * self.unseen)
        limit = _JUMP if self.unseen == 0 else self.reach()
        return far <= limit * size and 1 / growth <= other / size <= growth

    def record(self) -> TrackedFace:
        shape = self.motion.shape
        trust = np.where(np.isfinite(self.trust), self.trust, 1.0)
        side = float(np.ptp(shape, axis=0).max())
        variance = self.motion.variance + (trust * _RIGHT**2 + (1 - trust) * _WRONG**2) * side**2
        return TrackedFace(
            self.id, self.status, shape, self.measured, variance[:, None, None] * np.eye(2), self.motion.velocity,
            self.confidence, self.age, self.unseen,
        )  # fmt: skip


def _size(shape: np.ndarray) -> float:
    return float(np.sqrt(((shape - shape.mean(0)) ** 2).sum(1).mean()))


class _Tracker:
    def __init__(
        self, source: Any, smoothing: float, detect_every: int, max_unseen: int, max_faces: int | None, begin: float
    ) -> None:
        self.source, self.smoothing = source, smoothing
        self.detect_every, self.max_unseen, self.max_faces = detect_every, max_unseen, max_faces
        self.begin, self.stay = begin, max(begin - (_BEGIN - _STAY), 0.0)
        self.tracks: list[_Track] = []
        self.numbers = count()
        self.wait = 0

    def run(self, frames: Iterable[Any]) -> Iterator[TrackedFrame]:
        for index, frame in enumerate(frames):
            message, detected = "", False
            starts = [each.begin() for each in self.tracks]
            try:
                image = read_values(frame)
            except ValueError as error:
                message = str(error)
                for each in self.tracks:
                    each.miss(self.max_unseen)
            else:
                detected = self._step(image, starts)
            yield TrackedFrame(
                index, tuple(each.record() for each in self.tracks), detected, "error" if message else "ok", message
            )
            self.tracks = [each for each in self.tracks if each.status != "lost"]

    def _step(self, image: np.ndarray, starts: list[np.ndarray]) -> bool:
        seen = self._follow(image, starts)
        self.wait -= 1
        detect = self.wait < 0 and (self.max_faces is None or len(seen) < self.max_faces)
        if detect:
            self._detect(image, seen)
            calm = self.tracks and all(each in seen for each in self.tracks)
            self.wait = self.detect_every - 1 if calm else max(1, self.detect_every // 3) - 1
        for each in self.tracks:
            if each not in seen:
                each.miss(self.max_unseen)
        return detect

    def _follow(self, image: np.ndarray, starts: list[np.ndarray]) -> list[_Track]:
        """Search for the faces where they should be, and return those that are seen."""
        middles = [start.mean(0) for start in starts]
        there = [i for i, at in enumerate(middles) if ((at >= 0) & (at < image.shape[1::-1])).all()]
        if not there:
            return []
        shapes, confidences = self.source.follow(
            image, [starts[i] for i in there], [self.tracks[i].unseen == 0 for i in there]
        )
        found: list[tuple[float, _Track, np.ndarray, np.ndarray, np.ndarray]] = []
        for i, shape, confidence in zip(there, shapes, confidences, strict=True):
            each = self.tracks[i]
            if not _supported(shape, confidence, self.stay) or not each.could_be(shape):
                continue
            look = look_of(image, _box(shape))
            like = max(alike(look, known) for known in (each.look, each.last_look))
            if like < (_ALIKE if each.unseen else _STILL_ALIKE):
                continue
            rank = like - outline_distance(each.motion.shape, shape) - (0.1 if each.unseen else 0.0)
            found.append((rank, each, shape, confidence, look))
        seen: list[_Track] = []
        # Of faces that end in one place the one that belongs there is seen; the others are behind it.
        for _, each, shape, confidence, look in sorted(found, key=lambda one: -one[0]):
            if all(outline_distance(shape, other.measured) > _SAME for other in seen):
                each.see(shape, confidence, look)
                seen.append(each)
        return seen

    def _detect(self, image: np.ndarray, seen: list[_Track]) -> None:
        shapes, confidences = self.source.find(image, [each.measured for each in seen])
        fresh: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for k in np.argsort([-_mean(c) for c in confidences], kind="stable"):
            shape, confidence = shapes[k], confidences[k]
            others = [each.measured for each in seen] + [one[0] for one in fresh]
            if _supported(shape, confidence, self.begin) and all(outline_distance(shape, o) > _SAME for o in others):
                fresh.append((shape, confidence, look_of(image, _box(shape))))
        absent = [each for each in self.tracks if each not in seen]
        pairs = [
            (max(alike(look, each.look), alike(look, each.last_look)), i, each)
            for i, (shape, _, look) in enumerate(fresh)
            for each in absent
            if each.could_be(shape)
        ]
        taken: set[int] = set()
        for like, i, each in sorted(pairs, key=lambda pair: -pair[0]):
            if like >= _ALIKE and i not in taken and each not in seen:
                each.see(*fresh[i])
                each.start = each.measured
                seen.append(each)
                taken.add(i)
        for i, (shape, confidence, look) in enumerate(fresh):
            if i not in taken and (self.max_faces is None or len(self.tracks) < self.max_faces):
                new = _Track(next(self.numbers), shape, confidence, look, self.smoothing)
                self.tracks.append(new)
                seen.append(new)


def _mean(confidence: np.ndarray) -> float:
    known = confidence[np.isfinite(confidence)]
    return float(known.mean()) if len(known) else 1.0


def _supported(shape: np.ndarray, confidence: np.ndarray, least: float) -> bool:
    return bool(np.isfinite(shape).all()) and _mean(confidence) >= least and _size(shape) > 1.0
