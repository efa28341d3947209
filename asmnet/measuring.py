"""Measure a trained model on images: landmarks by a protocol, pose, depth, and the offset of the labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asmnet._crops import tight_boxes
from asmnet._options import check_kind
from asmnet._packing import given_rotations
from asmnet._pose_labels import CONVENTION, POSE_LIMIT, angles_in_degrees
from asmnet._scores import (
    check_offset,
    depth_errors,
    eye_corners,
    eye_line,
    eye_offsets,
    known_mean,
    mean_interval,
    mirror_part,
    percent,
)
from asmnet.data import load_image
from asmnet.predictor import FacePrediction, Predictor
from asmnet.robustness import jittered
from evaluation import EulerError, Interval, euler_mae, evaluate
from pose import conventions
from shape_models import LandmarkScheme
from shape_models.boxes import overlap
from shape_models.datasets import LandmarkSamples

__all__ = ["LABEL_OFFSETS", "LabelOffset", "Measured", "label_offset", "measure_model"]

LABEL_OFFSETS = {"300w": 0.0077}
"""How far the labels of a set lie to the right of the mirror-symmetric place, as a fraction of the eye distance.

That of 300-W is what its training faces say (1750, `label_offset`): 0.75 % (95 % interval 0.71 to 0.79) by asmnet-68,
0.83 % (0.79 to 0.87) by light-68, 0.80 % (0.76 to 0.83) by hourglass-68. A network trained with mirrored images cannot
learn it. One number along the line of the eyes says nearly all of it: an offset for each landmark, learned on the same
faces, gained 0.002 to 0.012 points more on 259 others, one along the rows of the image 0.000 to 0.003.
"""
# Lower than the 0.5 of detection: boxes of detectors and of landmarks differ by convention.
_LEAST_OVERLAP = 0.3  # of a detected face with the true one
_DEFAULT_PROTOCOLS = {"ibug68": "300w", "wflw98": "wflw", "cofw29": "cofw", "imm58": "imm"}


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a model.

    Attributes
    ----------
    report : evaluation.Report
        Of the landmarks.
    pose : EulerError or None
        Of yaw, pitch and roll, where the data give angles (``Pose_Para``) and the network has a head for them; faces
        with a true angle beyond 99 degrees are left out.
    depth : ndarray of shape (n_faces,) or None
        Mean distance in z over the square root of the area of the true box, both depths 0 at the mean of the face,
        where the data give a third coordinate and the network has a head for it; NaN for faces that were not found.
    notes : tuple of str
        What to know beside the notes of the report.

    Examples
    --------
    >>> from asmnet.measuring import Measured
    >>> Measured.__dataclass_fields__["report"].name
    'report'
    """

    report: Any
    pose: EulerError | None = None
    depth: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [str(self.report)]
        if self.pose is not None:
            parts.append(f"head pose: {self.pose}")
        if self.depth is not None:
            interval = mean_interval(self.depth, self.report.groups)
            parts.append(f"depth, mean difference in z over sqrt(w h) of the box: {percent(interval)}")
        return "\n\n".join([*parts, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the report, with ``pose`` (mean absolute errors in degrees), ``depth`` (mean) and ``notes``.

        Returns
        -------
        dict
            Values that JSON can hold.
        """
        pose = None if self.pose is None else {**self.pose.per_angle, "mae": self.pose.mae, "faces": self.pose.n}
        depth = None if self.depth is None else mean_interval(self.depth, None).estimate
        return {**self.report.to_dict(), "pose": pose, "depth": depth, "measuring_notes": list(self.notes)}


def measure_model(
    predictor: Predictor,
    samples: LandmarkSamples,
    *,
    protocol: str | None = None,
    flip_average: bool = False,
    n_passes: int | None = None,
    n_views: int = 1,
    jitter: float = 0.0,
    detect: bool = False,
    fitted: bool = False,
    label_offset: float | str = 0.0,
    progress: bool = False,
) -> Measured:
    """Predict faces of images by their true, jittered or detected boxes, and measure what is known of them.

    Parameters
    ----------
    predictor : Predictor
        The model.
    samples : LandmarkSamples
        Faces with images. Their splits and attributes make the rows of the protocol (common and challenging of
        300-W, the six subsets of WFLW, bins of yaw), their angles and third coordinates the errors of pose and depth.
    protocol : str, optional
        As in `evaluation.protocols.get_protocol`; by default that of the landmarks of the model, ``"box"`` for those
        that have none of their own.
    flip_average, n_passes, n_views : bool, int and int, optional
        As for `Predictor`.
    jitter : float
        Shift and scale boxes by up to this fraction.
    detect : bool
        Take the detected face whose box overlaps the true one most, if it overlaps by at least 0.3; faces without one
        count as failures.
    fitted : bool
        Measure the landmarks after the shape model.
    label_offset : float or str
        Move the predictions to the right along the line of the eyes by this fraction of their own eye distance before
        they are measured, or by that of a set in `LABEL_OFFSETS` (``"300w"``). The report says so.
    progress : bool
        Show a bar.

    Returns
    -------
    Measured

    Raises
    ------
    ValueError
        When a sample has no image, and for a choice that the model does not have.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skimage.data import astronaut
    >>> from PIL import Image
    >>> from asmnet import Predictor
    >>> from asmnet.measuring import measure_model
    >>> from shape_models import write_pts
    >>> from shape_models.datasets import load_landmarks
    >>> predictor = Predictor.from_pretrained("asmnet-68")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(astronaut()).save(Path(folder) / "a.png")
    ...     write_pts(Path(folder) / "a.pts", predictor(astronaut(), [170, 70, 280, 210])[0].landmarks)
    ...     measured = measure_model(predictor, load_landmarks(folder, scheme="ibug68"))
    >>> measured.report.protocol.name, measured.pose, bool(measured.report.errors.mean() < 0.03)
    ('300w', None, True)
    """
    check_kind("predictor", predictor, Predictor)
    scheme = predictor.model.scheme
    if fitted and predictor.shape_model is None:
        raise ValueError(f"fitted: {predictor.model.name} has no shape model for its landmarks.")
    samples = _in_scheme_of(predictor, samples)
    offset, notes = _offset(label_offset, scheme)
    truth = samples.shapes()
    tight = tight_boxes(truth[..., :2])
    boxes = jittered(tight, jitter) if jitter else tight
    options: dict[str, Any] = {"flip_average": flip_average, "n_views": n_views, "n_passes": n_passes}
    options["fit"] = fitted
    found = list(_predicted(predictor, samples, tight, None if detect else boxes, options, progress))
    guess = np.full((*truth.shape[:2], 2), math.nan)
    for i, face in enumerate(found):
        if face is not None:
            guess[i] = face.fitted if fitted else face.landmarks
    if offset:
        guess = guess + offset * eye_line(guess, eye_corners(scheme))
    chosen = protocol or _DEFAULT_PROTOCOLS.get(getattr(scheme, "name", ""), "box")
    planar = samples if truth.shape[-1] == 2 else samples.with_shapes(truth[..., :2])
    name = predictor.model.name
    report = evaluate(planar, guess, chosen, name=name, missing="failure")
    return Measured(report, _pose_error(predictor, samples, found), _depth_error(truth, tight, found), notes)


@dataclass(frozen=True, eq=False)
class LabelOffset:
    """How far labels lie from predictions that cannot prefer a side, in eye distances.

    Attributes
    ----------
    faces : ndarray of shape (n_faces, n_landmarks, 2)
        Of each label to the right along the line of the eyes of its own face, and at a right angle to that downwards.
    groups : ndarray of shape (n_faces,)
        The image of each face, to resample by.
    scheme : LandmarkScheme
        Of the landmarks.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.measuring import LabelOffset
    >>> from shape_models import IBUG68
    >>> found = LabelOffset(np.full((4, 68, 2), 0.01), np.arange(4), IBUG68)
    >>> found.interval.estimate, found.landmarks[8]
    (0.01, array([0.01, 0.  ]))
    """

    faces: np.ndarray
    groups: np.ndarray
    scheme: LandmarkScheme

    @property
    def interval(self) -> Interval:
        """The mean over landmarks and faces to the right, with its 95 % interval over the images."""
        return mean_interval(known_mean(self.faces[..., 0]), self.groups)

    @property
    def landmarks(self) -> np.ndarray:
        """The mean over the faces for each landmark (n_landmarks, 2), without what a mirrored training can learn."""
        assert self.scheme.mirror is not None
        return mirror_part(np.nanmean(self.faces, axis=0), self.scheme.mirror)

    def __str__(self) -> str:
        parts = {name: self.landmarks[list(which), 0].mean() for name, which in self.scheme.groups.items()}
        lines = [f"labels lie {percent(self.interval)} of the eye distance to the right of the predictions"]
        lines[0] += f" ({len(self.faces)} faces)"
        return "\n".join([*lines, *(f"{name:<12}{100 * mean:6.2f} %" for name, mean in parts.items())])


def label_offset(predictor: Predictor, samples: LandmarkSamples, *, progress: bool = False) -> LabelOffset:
    """Return how far labels lie to the right of predictions that cannot prefer a side.

    A prediction averaged with that of the mirror image is symmetric by construction: whatever is learned wrongly on one
    side is undone by the other. What remains of true minus predicted landmarks along the line of the eyes, from the
    image's left to its right, is the labels' own.

    Parameters
    ----------
    predictor : Predictor
        A model whose scheme has a mirror map and eye corners.
    samples : LandmarkSamples
        Faces with images.
    progress : bool
        Show a bar.

    Returns
    -------
    LabelOffset
        For each face and landmark, as a fraction of the distance between the outer eye corners.

    Raises
    ------
    ValueError
        For a model without a scheme that has a mirror map and outer eye corners.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skimage.data import astronaut
    >>> from PIL import Image
    >>> from asmnet import Predictor
    >>> from asmnet.measuring import label_offset
    >>> from shape_models import write_pts
    >>> from shape_models.datasets import load_landmarks
    >>> predictor = Predictor.from_pretrained("asmnet-68")
    >>> face = predictor(astronaut(), [170, 70, 280, 210], flip_average=True)[0].landmarks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(astronaut()).save(Path(folder) / "a.png")
    ...     write_pts(Path(folder) / "a.pts", face + [2.0, 0.0])
    ...     found = label_offset(predictor, load_landmarks(folder, scheme="ibug68"))
    >>> 0.01 < float(found.faces[0, :, 0].mean()) < 0.04
    True
    """
    check_kind("predictor", predictor, Predictor)
    scheme = predictor.model.scheme
    if scheme is None or scheme.mirror is None:
        raise ValueError(f"label_offset: {predictor.model.name} has no scheme with a mirror map.")
    samples = _in_scheme_of(predictor, samples)
    truth = samples.shapes()[..., :2]
    tight = tight_boxes(truth)
    # One look: the boxes are true, and the choice among further looks is no mirror image of itself.
    options = {"flip_average": True, "n_passes": 1, "fit": False}
    found = _predicted(predictor, samples, tight, tight, options, progress)
    guess = np.array([face.landmarks for face in found if face is not None])
    return LabelOffset(eye_offsets(truth, guess, scheme), np.asarray(samples.groups), scheme)


def _in_scheme_of(predictor: Predictor, samples: LandmarkSamples) -> LandmarkSamples:
    """Return samples whose landmarks are those of the model; others are refused."""
    check_kind("samples", samples, LandmarkSamples, " Try load_landmarks.")
    scheme, n = predictor.model.scheme, predictor.model.header["n_landmarks"]
    got = samples.scheme
    if scheme is not None and got is not None and got.name != scheme.name:
        raise ValueError(
            f"samples: got landmarks of {got.name}; expected those of {scheme.name}, as the model has. "
            f"Try `shape-models convert` with --to-scheme {scheme.name}."
        )
    if len(samples) and len(samples[0].landmarks) != n:
        raise ValueError(f"samples: got {len(samples[0].landmarks)} landmarks; expected {n}, as the model has.")
    return samples if scheme is None or got is not None else samples.in_scheme(scheme)


def _offset(value: float | str, scheme: LandmarkScheme | None) -> tuple[float, tuple[str, ...]]:
    if isinstance(value, str):
        if value not in LABEL_OFFSETS:
            raise ValueError(f"label_offset: got {value!r}; expected a number or one of {', '.join(LABEL_OFFSETS)}.")
        share, source = LABEL_OFFSETS[value], f", the offset of the labels of {value}"
    else:
        share, source = value, ""
    check_offset(share)
    if not share:
        return 0.0, ()
    eye_corners(scheme)  # refuses a scheme without
    return share, (f"Predictions were moved to the right by {100 * share:.2f} % of the eye distance{source}.",)


def _predicted(
    predictor: Predictor,
    samples: LandmarkSamples,
    tight: np.ndarray,
    boxes: np.ndarray | None,
    options: dict[str, Any],
    progress: bool,
) -> Iterable[FacePrediction | None]:
    """Yield the face of each sample: in its box, or where there are none the detected one that overlaps most."""
    from tqdm import tqdm

    for i, sample in enumerate(tqdm(samples, disable=not progress, unit="face", total=len(samples))):
        if sample.image is None:
            raise ValueError(f"{sample.name}: got no image; expected one for each face.")
        image = load_image(sample.image)
        if boxes is not None:
            yield predictor(image, boxes[i], **options)[0]
            continue
        faces = predictor(image, **options)
        boxes_found = [tight_boxes(face.landmarks) for face in faces]
        overlaps = overlap(boxes_found, tight[i : i + 1])[:, 0] if faces else np.zeros(1)
        yield faces[int(np.argmax(overlaps))] if overlaps.max() >= _LEAST_OVERLAP else None


def _pose_error(
    predictor: Predictor, samples: LandmarkSamples, found: list[FacePrediction | None]
) -> EulerError | None:
    given = given_rotations(list(samples))
    faces = [face for face in found if face is not None and face.pose is not None]
    if given is None or not faces:
        return None
    known = [i for i, face in enumerate(found) if face is not None and np.isfinite(given[i]).all()]
    if not known:
        return None
    truth = angles_in_degrees(given[known])
    angles = np.deg2rad([[found[i].pitch, found[i].yaw, found[i].roll] for i in known])  # type: ignore[union-attr]
    guess = angles_in_degrees(conventions.read(angles, predictor.pose_convention).as_matrix())
    if not (np.abs(truth) <= POSE_LIMIT).all(axis=1).any():
        return None
    named, source = ("yaw", "pitch", "roll"), "the fitted model that came with the data"
    return euler_mae(truth, guess, convention=CONVENTION, angles=named, limit=POSE_LIMIT, reference=source)


def _depth_error(truth: np.ndarray, boxes: np.ndarray, found: list[FacePrediction | None]) -> np.ndarray | None:
    if truth.shape[-1] != 3 or not any(face is not None and face.depth is not None for face in found):
        return None
    towards = truth[..., 2]
    away = np.nanmean(towards, axis=1, keepdims=True) - towards
    unknown = np.full(truth.shape[1], np.nan)
    guess = np.array([unknown if face is None or face.depth is None else face.depth for face in found])
    return depth_errors(away, guess, boxes)
