"""Faces in images: what a detector is, the one that needs nothing else, and its answers in one convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np

from .._options import check_flags, checked_header, finite
from .._typing import ArrayLike, ImageLike
from ..boxes import BoxConvention, check_boxes, convert, get, learn_box_convention, suppress
from ..images import read_image, read_values
from ._cascade import Detections, Detector, cascade_faces
from .detectors import ScikitImage, get_detector

__all__ = [
    "Detections", "Detector", "Faces", "LearnedDetection", "detect_faces", "find_faces", "is_face", "learn_detection",
]  # fmt: skip

_LEAST_VERIFIED = 2  # windows of the cascade that agree: few, as what they find is looked at once more
# Smaller, and turned by so many degrees: how an image is looked at in turn until it shows a face that passes.
_VIEWS = ((1.0, 0.0), (0.5, 0.0), (1.0, 20.0), (1.0, -20.0))
# The boxes of the cascade on 1983 images without a face reach 0.66, and this leaves a margin; 98.6 % of the training
# faces of 300-W pass in the boxes of a good detector: tests/benchmarks/bench_detection.py faces
_CONFIDENT = 0.70


class Faces(NamedTuple):
    """The faces of one image, one box each, the best first.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
        Corners x0, y0, x1, y1 in pixels, by the convention that was asked for.
    scores : ndarray of shape (n,)
        Of the detector.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search import find_faces
    >>> find_faces(skimage.data.astronaut()).boxes.shape
    (1, 4)
    """

    boxes: np.ndarray
    scores: np.ndarray


def find_faces(
    image: ImageLike,
    detector: str | Detector = "scikit-image",
    *,
    convention: str | BoxConvention | None = "landmarks",
    max_overlap: float = 0.3,
    verify: bool | None = None,
) -> Faces:
    """Find the faces of an image with any detector, one box for each face, in the convention that a model expects.

    Parameters
    ----------
    image : array, PIL image or path
        As for `shape_models.images.read_image`.
    detector : str or callable
        "scikit-image", which is always there; "retinaface" or "dlib", where their packages are installed; or a
        callable that takes an RGB image and returns boxes, scores and the convention of its boxes, see `Detector` and
        :mod:`shape_models.search.detectors`.
    convention : str, BoxConvention or None
        Of the boxes to return, see :mod:`shape_models.boxes`. None keeps that of the detector.
    max_overlap : float
        Of two boxes that share more than this fraction of the smaller one, that with the lower score goes.
    verify : bool, optional
        Whether to keep only boxes in which the image itself looks like a face, see `is_face`. By default where the
        detector is that of scikit-image, which takes much for a face: it may then be less strict itself, and finds
        more. Faces that lie on the side do not pass.

    Returns
    -------
    Faces
        Boxes and scores, the best first; none where there is no face.

    Raises
    ------
    ValueError
        When the image is none, and when the detector answers what makes no sense: the message names it.
    TypeError
        When the detector cannot be called, or does not answer with boxes, scores and a convention.
    ImportError
        When a detector is asked for by name and its package is not installed.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search import find_faces
    >>> find_faces(skimage.data.astronaut()).boxes.round(-1) + 0.0
    array([[180.,  90., 270., 170.]])
    >>> len(find_faces(skimage.data.coins()).boxes)
    0
    """
    run = get_detector(detector)
    name = _name(detector)
    verify = isinstance(run, ScikitImage) if verify is None else verify
    check_flags(verify=verify)
    # The cascade sees no brightness and contrast: images of any range will do for it.
    picture = read_values(image) if isinstance(run, ScikitImage) else read_image(image)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if verify and detector == "scikit-image":
        return _looked_for(picture, convention, max_overlap)
    answer = run(picture)
    if not isinstance(answer, tuple) or len(answer) != 3:
        raise TypeError(f"detector {name}: got {type(answer).__name__}; expected (boxes, scores, convention).")
    found, scores = np.asarray(answer[0], dtype=np.float64), np.asarray(answer[1], dtype=np.float64)
    if not found.size:
        return Faces(np.zeros((0, 4)), np.zeros(0))
    found = check_boxes(found, picture.shape[1::-1], name=f"detector {name}")
    if scores.shape != (len(found),) or not np.isfinite(scores).all():
        raise ValueError(
            f"detector {name}: got scores of shape {scores.shape}; expected {len(found)} finite numbers, one for each "
            "box."
        )
    kept, source = suppress(found, scores, max_overlap=max_overlap), get(answer[2])
    if verify:
        kept = kept[is_face(picture, convert(found[kept], source, "landmarks"))]
    return Faces(convert(found[kept], source, source if convention is None else convention), scores[kept])


def _looked_for(picture: np.ndarray, convention: str | BoxConvention | None, max_overlap: float) -> Faces:
    """Look at an image in one way after the other until the cascade finds what looks like a face to the search."""
    for shrink, degrees in _VIEWS:
        found, scores, source = cascade_faces(picture, min_windows=_LEAST_VERIFIED, shrink=shrink, degrees=degrees)
        kept = suppress(found, scores, max_overlap=max_overlap)
        kept = kept[is_face(picture, convert(found[kept], source, "landmarks"), degrees=degrees)]
        if len(kept):
            break
    return Faces(convert(found[kept], source, source if convention is None else convention), scores[kept])


def detect_faces(image: ImageLike, *, min_size: float | None = None) -> np.ndarray:
    """Return the boxes of upright frontal faces, the largest first, by the cascade that comes with scikit-image.

    The cascade of local binary patterns answers with many windows about each face. Those that overlap are averaged
    to one box, and three must agree. On crops of 300-W it finds 85 of 100 faces, turned ones least, and gives a second
    box in 4 of 100; of 18 images without a face, it takes something in 6 for one. With an installed package
    `find_faces` finds nearly all faces.

    Parameters
    ----------
    image : array, PIL image or path
        (height, width) or (height, width, 3).
    min_size : float, optional
        Smallest side of a face to look for, pixels; None for a tenth of the longer side of the image. Large images are
        reduced until this is 30 pixels, but never searched at more than 2048 pixels, so that the smallest face is
        then 1/80 of the longer side. Smaller faces mean more windows to try: the search takes longer, and takes other
        things for faces more often.

    Returns
    -------
    ndarray of shape (n_faces, 4)
        Corners x0, y0, x1, y1 by the convention "scikit-image" of :mod:`shape_models.boxes`; (0, 4) when there is none.

    Raises
    ------
    ValueError
        When `image` is no image.

    References
    ----------
    S. Liao et al., "Learning multi-scale block local binary patterns for face recognition", ICB (2007).

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search import detect_faces
    >>> detect_faces(skimage.data.astronaut()).shape
    (1, 4)
    >>> detect_faces(skimage.data.coins()).shape
    (0, 4)
    """
    boxes = cascade_faces(read_values(image), min_size=min_size).boxes
    return boxes[np.argsort(-(boxes[:, 2] - boxes[:, 0]), kind="stable")]


def is_face(
    image: ImageLike, boxes: ArrayLike, *, fitter: Any = None, min_confidence: float = _CONFIDENT, degrees: float = 0.0
) -> np.ndarray:
    """Say of each box whether it holds a face, by the confidence of a search in it.

    Parameters
    ----------
    image : array, PIL image or path
        The image that the boxes lie in.
    boxes : array_like of shape (n, 4)
        Corners x0, y0, x1, y1 by the convention of the fitter: for the default that of the landmarks.
    fitter : ASMFitter, optional
        The model of the face; ``load_model("search68")`` by default.
    min_confidence : float
        Least mean confidence of the landmarks. With the default 98.6 % of the training faces of 300-W pass in boxes as
        a good detector gives them, and none of the boxes that the cascade answers on images without a face.
    degrees : float
        How far the faces are turned in the plane, from x (right) towards y (down).

    Returns
    -------
    ndarray of bool of shape (n,)

    Raises
    ------
    ValueError
        For boxes and images that are none.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search import is_face
    >>> is_face(skimage.data.astronaut(), [[177, 82, 274, 172], [20, 300, 120, 400]]).tolist()
    [True, False]
    """
    picture = read_values(image)
    places = check_boxes(boxes, picture.shape[1::-1])
    if not len(places):
        return np.zeros(0, dtype=bool)
    if fitter is None:
        fitter = _face_fitter()
    found = fitter.predict([picture] * len(places), initial=list(fitter.starts(places, degrees=degrees)))
    confidence = np.array([np.mean(result.confidence) if result.found else 0.0 for result in found])
    return confidence >= min_confidence


@cache
def _face_fitter() -> Any:
    from ..io import load_model

    return load_model("search68")


@dataclass(frozen=True)
class LearnedDetection:
    """What the boxes of a detector mean for a model, as `ASMFitter.fit_detection` has learned it.

    Parameters
    ----------
    convention : BoxConvention
        From the detector's boxes, whose name it bears, to those of the model.
    found : float
        Fraction of the images whose face was found; NaN in files that do not say.

    Examples
    --------
    >>> from shape_models import load_model
    >>> load_model("search68").detection_.convention.name
    'scikit-image'
    """

    convention: BoxConvention
    found: float = float("nan")

    def to_header(self) -> dict[str, Any]:
        """Return the numbers for a file.

        Returns
        -------
        dict
            What JSON can hold.
        """
        return asdict(self.convention) | ({} if np.isnan(self.found) else {"found": self.found})

    @classmethod
    @checked_header
    def from_header(cls, header: dict[str, Any] | None) -> Self | None:
        """Build from what `to_header` returned.

        Parameters
        ----------
        header : dict or None
            None for a file that has none.

        Returns
        -------
        LearnedDetection or None
        """
        if header is None:
            return None
        # A file written when boxes were squares: its model has the boxes of the landmarks.
        if "scale" not in header and {"center", "side"} <= header.keys():
            return cls(get("scikit-image"))
        known = {field.name for field in fields(BoxConvention)}
        values: dict[str, Any] = {"name": "scikit-image"}
        values |= {"center": header["center"], "scale": header["scale"]}
        values |= {k: tuple(v) if isinstance(v, list) else v for k, v in header.items() if k in known}
        return cls(BoxConvention(**values), finite(header["found"]) if "found" in header else np.nan)


def learn_detection(
    images: Sequence[ImageLike],
    boxes: ArrayLike,
    tell: Callable[[int], None] | None = None,
    *,
    detector: str | Detector = "scikit-image",
) -> LearnedDetection:
    """Learn what the boxes of a detector mean, from images of faces whose boxes are known.

    Parameters
    ----------
    images : sequence of array or path
        Images with one landmarked face each.
    boxes : array_like of shape (n, 4)
        Where the face of each image is, by the convention wanted.
    tell : callable, optional
        Hears the number of each image that is done.
    detector : str or callable
        As for `find_faces`.

    Returns
    -------
    LearnedDetection
        The `BoxConvention` from the detector's boxes to those given, and the fraction of images whose face was found.

    Raises
    ------
    ValueError
        When fewer than five faces are found.

    Examples
    --------
    >>> import numpy as np, skimage.data
    >>> from shape_models.search.detection import learn_detection
    >>> images = [skimage.data.astronaut()] * 5
    >>> learn_detection(images, np.tile([170.0, 70.0, 270.0, 180.0], (5, 1))).convention.n_faces
    5
    """
    wanted = check_boxes(boxes)
    given = list(images)
    if len(given) != len(wanted):
        raise ValueError(f"images: got {len(given)}; expected one for each of {len(wanted)} shapes.")
    nearest = np.full((len(wanted), 4), np.nan)
    for i, (image, box) in enumerate(zip(given, wanted, strict=True)):
        found = find_faces(image, detector, convention=None).boxes
        if tell is not None:
            tell(i)
        if len(found):
            distance = np.linalg.norm((found[:, :2] + found[:, 2:] - box[:2] - box[2:]) / 2, axis=1)
            nearest[i] = found[distance.argmin()]
    try:
        learned = learn_box_convention(nearest, wanted, name=_name(detector), source=f"{len(wanted)} images")
    except ValueError:
        raise ValueError(f"images: found the face in fewer than 5 of {len(wanted)}; expected at least 5.") from None
    return LearnedDetection(learned, learned.n_faces / len(wanted))


def detected(image: Any, detection: LearnedDetection, detector: Any = None) -> np.ndarray:
    """Return the boxes (n, 4) in which a model looks for faces, the largest first; `detection` as it has learned it.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models import load_model
    >>> from shape_models.search.detection import detected
    >>> detected(skimage.data.astronaut(), load_model("search68").detection_).shape
    (1, 4)
    """
    if detector is None:
        detector = detection.convention.name
        try:
            get_detector(detector)
        except ValueError:
            raise ValueError(
                f"boxes: got none, and the detector {detector!r} that the model learned from is not known here; "
                "expected boxes."
            ) from None
    boxes = find_faces(image, detector, convention=None).boxes
    if not len(boxes):
        return boxes
    boxes = convert(boxes, detection.convention, "landmarks")
    return boxes[np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable")]


def _name(detector: Any) -> str:
    return detector if isinstance(detector, str) else getattr(detector, "__name__", type(detector).__name__)
