"""Anybody's landmarks made better: what the image supports is searched, and what it hides is carried by the shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._array import as_numpy
from .._brief import brief
from .._fitting import fit_shape
from .._typing import ArrayLike, ImagesLike
from ..landmarks import SchemeLike, convert, get_scheme
from ._images import image_count
from .fitter import ASMFitter

__all__ = ["RefinedLandmarks", "refine"]

_RIGHT, _WRONG = 0.015, 0.15  # standard deviations of landmarks that are right and wrong, fractions of the size
_STILL = 0.01  # a landmark that moves by less of the size is kept
# Mean confidence below which starts beside the shape are tried too, as `is_face` asks of faces, and by how much one of
# them must be better: of 65 covered faces whose landmarks were right, some were led astray by less. Searches find faces
# from up to a fifth of their side away: starts at the double of that leave no gap, and reach three fifths.
_DOUBTFUL, _CLEARLY = 0.7, 0.1
_AROUND = 0.4 * np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)])
_HIDDEN = 0.5  # probability below which the image does not support a landmark


@brief
@dataclass(frozen=True, eq=False)
class RefinedLandmarks:
    """Landmarks of one shape after `refine`, in the order and scheme of the fitter.

    Attributes
    ----------
    points : ndarray of shape (K, 2)
        Pixels of the image; NaN where there is no answer.
    covariance : ndarray of shape (K, 2, 2)
        Of each landmark, squared pixels, as `shape_models.fit_shape` answers it.
    confidence : ndarray of shape (K,)
        That of the better of the given landmark and that of the search, see `ASMFitter.confidence`.
    given_confidence : ndarray of shape (K,)
        That of the landmarks as they were given; 0 where missing.
    moved : ndarray of shape (K,)
        How far each landmark has moved, pixels; NaN where it was missing.
    reason : ndarray of str of shape (K,)
        ``"kept"``, ``"searched"`` (the image shows it elsewhere), ``"carried"`` (the image does not support it; the
        others imply it), ``"missing"`` (it was not given).
    plausibility : float
        Fraction of shapes of the model that fit such points worse, 0 to 1.
    expected_error : float
        Of the search that the answer rests on, pixels.
    status, message : str
        ``"ok"``, or why there is no answer.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import RefinedLandmarks
    >>> RefinedLandmarks.failed(68, "error", "no image").found
    False
    """

    points: np.ndarray
    covariance: np.ndarray
    confidence: np.ndarray
    given_confidence: np.ndarray
    moved: np.ndarray
    reason: np.ndarray
    plausibility: float
    expected_error: float
    status: str
    message: str = ""

    @property
    def found(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"

    @classmethod
    def failed(cls, n_landmarks: int, status: str, message: str) -> RefinedLandmarks:
        """Return the record of a shape without an answer.

        Parameters
        ----------
        n_landmarks : int
            How many landmarks the answer should have.
        status, message : str
            Why.
        """
        nothing, zero = np.full((n_landmarks, 2), np.nan), np.zeros(n_landmarks)
        return cls(
            nothing, np.full((n_landmarks, 2, 2), np.nan), zero, zero, nothing[:, 0],
            np.full(n_landmarks, "missing", dtype="<U8"), float("nan"), float("nan"), status, message,
        )  # fmt: skip


def refine(images: ImagesLike, points: ArrayLike, *, scheme: SchemeLike | None = None, fitter: Any = None) -> Any:
    """Improve the landmarks of any detector by searching the image and fitting the shape model.

    The landmarks are converted to the scheme of the fitter; the image says how well it supports each of them, and the
    search starts from them. The two places of each landmark, weighted by how uncertain each is, go to `fit_shape`,
    which carries the landmarks that the image supports in neither. Where the image supports little of the answer, the
    object is looked for up to half its size beside the landmarks too; if it is clearly better supported there, the
    landmarks that were given count no more. Validation faces of 300-W whose landmarks are moved by 45 % of their side
    end 6.3 % of the eye distance off (`python tests/benchmarks/study_refine.py --beside 0.45`).

    Parameters
    ----------
    images : array, path, or sequence of them
        One image, or a batch.
    points : array_like of shape (N, 2) or (m, N, 2), or for a batch (n, N, 2) or a list of n such
        Landmarks of any detector, of one or several objects in an image, pixels of the images; NaN where missing.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; None for those of the fitter.
    fitter : ASMFitter, optional
        A fitted search; None for the bundled ``"search68"`` for faces.

    Returns
    -------
    RefinedLandmarks or list of RefinedLandmarks
        A list for several objects in one image and for a batch, where a shape that cannot be refined has another
        status than ``"ok"``.

    Raises
    ------
    ValueError
        For a single shape that cannot be refined, or arguments that do not fit together.

    References
    ----------
    The product of Gaussians: C. M. Bishop, "Pattern recognition and machine learning" (2006), section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skimage.data import astronaut
    >>> from shape_models import load_model
    >>> from shape_models.search import refine
    >>> good = load_model("search68").predict(astronaut()).shape
    >>> bad = good + np.random.default_rng(0).normal(scale=3, size=good.shape)
    >>> bad[30] = np.nan
    >>> result = refine(astronaut(), bad)
    >>> error = np.linalg.norm(result.points - good, axis=1)
    >>> result.status, str(result.reason[30]), bool(error.mean() < 2)
    ('ok', 'missing', True)
    """
    if fitter is None:
        from ..io import load_model

        fitter = load_model("search68")
    if not isinstance(fitter, ASMFitter):
        raise ValueError(f"fitter: got a {type(fitter).__name__}; expected a fitted ASMFitter.")
    single = image_count(images) is None
    batch: tuple[Any, Any] = ([images], [points]) if single else (images, points)
    pictures, shapes = map(list, batch)
    if len(pictures) != len(shapes):
        raise ValueError(f"points: got {len(shapes)} shapes; expected one for each of {len(pictures)} images.")
    out = [_answer(fitter, image, given, scheme, strict=single) for image, given in zip(pictures, shapes, strict=True)]
    return out[0] if single else out


def _answer(fitter: ASMFitter, image: Any, given: Any, scheme: Any, strict: bool) -> Any:
    """Return what becomes of one shape, or a list for several shapes in one image, of which none is an error."""
    try:
        points = as_numpy(given, "points").astype(float)
        if points.ndim == 3:
            return [_answer(fitter, image, one, scheme, strict=False) for one in points]
        return _one(fitter, image, points, scheme)
    except (TypeError, ValueError) as error:
        if strict:
            raise
        return RefinedLandmarks.failed(fitter.n_landmarks_, "error", str(error))


def _one(fitter: ASMFitter, image: Any, points: np.ndarray, scheme: Any) -> RefinedLandmarks:
    own = fitter._scheme()
    if scheme is not None and own is None:
        raise ValueError("scheme: the fitter has none to convert to; expected points in its own order.")
    if points.ndim == 2 and points.shape[1] == 3:
        raise ValueError(f"points: got {points.shape}; expected (x, y) of each landmark. Try points[..., :2].")
    if scheme is not None and get_scheme(scheme) != own:
        points = np.asarray(convert(points, scheme, own).shapes, dtype=float)
    before = fitter.confidence(image, points)
    filled = fitter._filled_shape(points, "points")
    found, elsewhere = _search(fitter, image, filled)
    size = float(fitter._frame.pose_of(found.shape[None]).scale[0]) * fitter._frame.side
    first, second = _variance(before, size), _variance(found.confidence, size)
    first = np.where(np.isfinite(points).all(axis=1) & (not elsewhere), first, np.inf)
    weight = np.where(np.isinf(first), 0.0, second / (first + second))
    together = filled * weight[:, None] + found.shape * (1 - weight)[:, None]
    fit = fit_shape(fitter.asm_, together, covariance=1.0 / (1.0 / first + 1.0 / second))
    if fit.status != "ok":
        return RefinedLandmarks.failed(fitter.n_landmarks_, str(fit.status), "the shape model does not fit the points")
    moved = np.linalg.norm(fit.shapes - points, axis=1)
    confidence = found.confidence if elsewhere else np.maximum(before, found.confidence)
    reason = np.where(moved < _STILL * size, "kept", np.where(confidence < _HIDDEN, "carried", "searched"))
    reason = np.where(np.isnan(moved), "missing", reason)
    return RefinedLandmarks(
        fit.shapes, fit.covariance, confidence, before, moved, reason, float(fit.plausibility), found.expected_error,
        "ok",
    )  # fmt: skip


def _search(fitter: ASMFitter, image: Any, start: np.ndarray) -> tuple[Any, bool]:
    """Return the answer of a search from a shape, or of one from beside it that the image supports clearly better.

    Says too which of the two it is.
    """
    found = fitter.predict(image, initial=start)
    if isinstance(found, list) or not found.found:
        raise ValueError("points: got no shape that a search can start from.")
    if found.confidence.mean() >= _DOUBTFUL:
        return found, False
    side = float(np.nanmax(np.ptp(start, axis=0)))
    beside: Any = fitter.predict(image, initial=start + _AROUND[:, None] * side)
    best = max((one for one in beside if one.found), key=lambda one: float(one.confidence.mean()), default=found)
    elsewhere = bool(best.confidence.mean() > max(found.confidence.mean() + _CLEARLY, _DOUBTFUL))
    return (best if elsewhere else found), elsewhere


def _variance(confidence: np.ndarray, size: float) -> np.ndarray:
    """Return the variance of landmarks that are right with a probability, squared pixels."""
    return (confidence * _RIGHT**2 + (1 - confidence) * _WRONG**2) * size**2
