"""Anybody's landmarks made better: what the image supports is searched, and what it hides is carried by the shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._array import as_confidence, as_numpy
from .._brief import brief
from .._fitting import fit_shape
from .._posterior import solve
from .._problem import Problem
from .._typing import ArrayLike, ImagesLike
from ..landmarks import LandmarkScheme, SchemeLike, convert, get_scheme
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
# Mean confidence of the best quarter of the landmarks below which no object may stand there. Of training faces of 300-W
# 0 of 60 have less, 0 of 100 with a quarter of their box covered, 1 of 100 with half of it covered, and 183 of 200
# random squares beside faces (`python tests/benchmarks/study_refine.py --supported`).
_SUPPORTED = 0.86
_OTHERS = re.compile(r"^(shapes|initial|start)(?=[: ])")  # what the points are called where they are handed on
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
        ``"ok"``; ``"unsupported"`` where the image does not support even the best quarter of the landmarks, so that no
        object may stand there, whose `points` are the shape model's alone; or why there is no answer.

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
        """Whether there is an answer that the image supports."""
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


def refine(
    images: ImagesLike,
    points: ArrayLike,
    *,
    confidence: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    scheme: SchemeLike | None = None,
    fitter: Any = None,
) -> Any:
    """Improve the landmarks of any detector by searching the image and fitting the shape model.

    The landmarks are converted to the scheme of the fitter; the image says how well it supports each of them, and the
    search starts from them. The two places of each landmark, weighted by how uncertain each is, go to `fit_shape`,
    which carries the landmarks that the image supports in neither. Where the image supports little of the answer, the
    object is looked for up to half its size beside the landmarks too; if it is clearly better supported there, the
    landmarks that were given count no more. Validation faces of 300-W whose landmarks are moved by 45 % of their side
    end 6.3 % of the eye distance off (`python tests/benchmarks/study_refine.py --beside 0.45`). A landmark that the
    detector itself distrusts counts less, and the search starts where the others imply it.

    Parameters
    ----------
    images : array, path, or sequence of them
        One image, or a batch.
    points : array_like of shape (N, 2) or (m, N, 2), or for a batch (n, N, 2) or a list of n such
        Landmarks of any detector, of one or several objects in an image, pixels of the images; NaN where missing.
    confidence : array_like of shape (N,), (m, N) or (n, N), or for a batch a list of n such, optional
        What the detector makes of each landmark, 0 to 1, as `fit_shape` takes it: 1 says nothing, 0 is missing, and w
        between adds the variance σ² (1/w - 1), σ² the noise variance of the shape model in the size of the shape.
    covariance : float or array_like, optional
        Instead of `confidence`: of the error of each landmark, squared pixels, of shape (N,) or (N, 2, 2), or these
        for each of m or n shapes.
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
    known = {"confidence": confidence, "covariance": covariance}
    each = [known] if single else _for_each(known, len(pictures))
    out = [_answer(fitter, *one, scheme, strict=single) for one in zip(pictures, shapes, each, strict=True)]
    return out[0] if single else out


def _for_each(known: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Return what is known of each of n shapes or images: the same of all, or a row for each."""
    rows: dict[str, Any] = {}
    for name, value in known.items():
        shape: tuple[int, ...] = ()
        if value is not None:
            try:
                shape = as_numpy(value, name, booleans=True).shape
            except (TypeError, ValueError):  # of images with different numbers of shapes
                if not isinstance(value, list | tuple):
                    raise
                shape = (len(value), 0)
        alike = len(shape) < 2 or (len(shape) == 3 and shape[1:] == (2, 2))
        if not alike and shape[0] != n:
            raise ValueError(f"{name}: got {shape[0]} rows; expected one for each of {n}.")
        rows[name] = [value] * n if alike else list(value)
    return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]


def _answer(fitter: ASMFitter, image: Any, given: Any, known: dict[str, Any], scheme: Any, strict: bool) -> Any:
    """Return what becomes of one shape, or a list for several shapes in one image, of which none is an error."""
    try:
        points = as_numpy(given, "points").astype(float)
        if points.ndim == 3:
            each = zip(points, _for_each(known, len(points)), strict=True)
            return [_answer(fitter, image, *one, scheme, strict=False) for one in each]
        return _one(fitter, image, points, known, scheme)
    except (TypeError, ValueError) as error:
        message = _OTHERS.sub("points", str(error))
        if strict:
            raise type(error)(message) from None
        return RefinedLandmarks.failed(fitter.n_landmarks_, "error", message)


def _one(fitter: ASMFitter, image: Any, points: np.ndarray, known: dict[str, Any], scheme: Any) -> RefinedLandmarks:
    own = fitter.asm_.scheme_
    if scheme is not None and own is None:
        raise ValueError("scheme: the fitter has none to convert to; expected points in its own order.")
    if points.ndim == 2 and points.shape[1] == 3:
        raise ValueError(f"points: got {points.shape}; expected (x, y) of each landmark. Try points[..., :2].")
    if scheme is not None and own is not None and get_scheme(scheme) != own:
        points, known = _converted(points, known, scheme, own)
    problem = Problem.of(fitter.asm_, points, **known)
    whole = solve(problem).completed[0]
    problem.refuse()
    error, told = problem.errors()[0], problem.confidence[0] > 0
    points = np.where(told[:, None], points, np.nan)
    before = fitter.confidence(image, points)
    filled = fitter._filled_shape(points, "points")
    start = np.where((np.trace(error, axis1=1, axis2=2) > 0)[:, None], whole, filled)
    found, elsewhere = _search(fitter, image, start)
    size = float(fitter._frame.pose_of(found.shape[None]).scale[0]) * fitter._frame.side
    first, second = _precision(before, size, error), _precision(found.confidence, size, 0.0)
    first *= (told & (not elsewhere))[:, None, None]
    spread = np.linalg.inv(first + second)
    together = (spread @ (first @ filled[..., None] + second @ found.shape[..., None]))[..., 0]
    fit = fit_shape(fitter.asm_, together, covariance=spread)
    if fit.status != "ok":
        return RefinedLandmarks.failed(fitter.n_landmarks_, str(fit.status), "the shape model does not fit the points")
    moved = np.linalg.norm(fit.shapes - points, axis=1)
    confidence = found.confidence if elsewhere else np.maximum(before, found.confidence)
    reason = np.where(moved < _STILL * size, "kept", np.where(confidence < _HIDDEN, "carried", "searched"))
    reason = np.where(np.isnan(moved), "missing", reason)
    best = float(np.sort(confidence)[-((len(confidence) + 3) // 4) :].mean())
    status, message = "ok", ""
    if best < _SUPPORTED and fitter.calibration_ is not None:  # else it is no probability
        status = "unsupported"
        message = (
            f"the best quarter of the landmarks has a mean confidence of {best:.2f}; an object has {_SUPPORTED} or more"
        )
    return RefinedLandmarks(
        fit.shapes, fit.covariance, confidence, before, moved, reason, float(fit.plausibility), found.expected_error,
        status, message,
    )  # fmt: skip


def _converted(
    points: np.ndarray, known: dict[str, Any], scheme: SchemeLike, own: LandmarkScheme
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return points of another scheme in the own one, and the variances of the weighted sums that they become."""
    n = len(points)
    name, value = next((item for item in known.items() if item[1] is not None), ("", None))
    if value is None:
        return np.asarray(convert(points, scheme, own).shapes, dtype=float), known
    given = as_numpy(value, name, booleans=name == "confidence").astype(float)
    if name == "confidence":
        with np.errstate(divide="ignore"):
            given = 1.0 / as_confidence(given, points, (n,)) - 1.0
    elif given.shape not in ((), (n,), (n, 2, 2)):
        raise ValueError(f"{name}: got shape {given.shape}; expected a number, ({n},) or ({n}, 2, 2).")
    given = np.broadcast_to(given, (n,)) if given.ndim < 2 else given
    lost = np.isinf(given.reshape(n, -1)).any(axis=1)
    points = np.where(lost[:, None], np.nan, points)
    given = np.where(lost.reshape((n,) + (1,) * (given.ndim - 1)), 0.0, given)
    shares = np.asarray(convert(np.stack([np.eye(n), np.eye(n)], axis=-1), scheme, own).shapes)[..., 0].T
    spread = np.tensordot(np.nan_to_num(shares) ** 2, given, 1)
    known = known | {name: 1.0 / (1.0 + spread) if name == "confidence" else spread}
    return np.asarray(convert(points, scheme, own).shapes, dtype=float), known


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


def _precision(confidence: np.ndarray, size: float, error: Any) -> np.ndarray:
    """Return the inverse covariances (K, 2, 2) of landmarks that are right with a probability, and have errors too."""
    variance = (confidence * _RIGHT**2 + (1 - confidence) * _WRONG**2) * size**2
    return np.linalg.inv(variance[:, None, None] * np.eye(2) + error)
