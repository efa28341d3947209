"""Landmark errors that say what they were divided by, and the numbers drawn from their distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_shapes
from shape_models.landmarks import get_scheme

__all__ = [
    "CumulativeError",
    "ErrorArray",
    "auc",
    "auc_grid",
    "auc_threshold_weighted",
    "cumulative_error",
    "failure_rate",
    "landmark_errors",
    "nme",
    "normalizing_distance",
]

_ANCHORED = {
    "inter_ocular": ("outer_eye_corners", "outer eye corners"),
    "inter_pupil": ("pupils", "pupils"),
    "eye_centers": ("eye_corners", "midpoints of the two corners of each eye"),
}
_BOXED = {
    "box_diagonal": "diagonal sqrt(w^2 + h^2) of the box of the true landmarks",
    "box_geometric_mean": "geometric mean sqrt(w h) of the sides of the box of the true landmarks",
}
NORMALIZERS = (*_ANCHORED, *_BOXED)
_CHUNK_VALUES = 1 << 16  # float64 values worked on at once: stays in the second-level cache


@dataclass(frozen=True, eq=False)
class ErrorArray(np.lib.mixins.NDArrayOperatorsMixin):
    """One error for each face, together with what was measured.

    It acts as the array of its `values` (`np.asarray`, arithmetic, comparison, indexing, NumPy functions), and the
    result of arithmetic is a plain array, so that the definition never outlives the numbers it describes.

    Parameters
    ----------
    values : ndarray of shape (...)
        Errors; NaN for the faces in `undefined` and in `failed`.
    definition : str
        What was measured, divided by what.
    unit : {"fraction", "pixels", "degrees"}
        Fractions are printed in percent; they are fractions here.
    undefined : ndarray of bool
        Faces without an error: the normaliser is zero or missing, or no landmark is usable.
    failed : ndarray of bool
        Faces without a prediction: failures at every threshold.
    sources : dict
        The ingredients a report repeats: `metric`, `normalizer`, `scheme`.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import nme
    >>> truth = np.array([[[0.0, 0.0], [4.0, 0.0]]])
    >>> errors = nme(truth, truth + [0.0, 1.0], normalizer=2.0)
    >>> errors
    ErrorArray([0.5], definition='NME: mean over landmarks of the point distance, divided by 2; fraction')
    >>> 100 * errors
    array([50.])
    """

    values: np.ndarray
    definition: str
    unit: str = "fraction"
    undefined: np.ndarray = field(default_factory=lambda: np.zeros((), bool))
    failed: np.ndarray = field(default_factory=lambda: np.zeros((), bool))
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        object.__setattr__(self, "values", values)
        for name in ("undefined", "failed"):
            mask = np.asarray(getattr(self, name), dtype=bool)
            object.__setattr__(self, name, np.broadcast_to(mask, values.shape))

    @property
    def n_undefined(self) -> int:
        """Number of faces for which the error is not defined."""
        return int(self.undefined.sum())

    @property
    def n_failed(self) -> int:
        """Number of faces without a prediction."""
        return int(self.failed.sum())

    @property
    def defined(self) -> np.ndarray:
        """The finite errors, flat: neither undefined nor failed."""
        return self.values[~(self.undefined | self.failed)]

    def __getattr__(self, name: str) -> Any:
        # whatever else an array has (shape, mean, max ...); copy and pickle look before there are values
        if name.startswith("_") or name == "values":
            raise AttributeError(name)
        return getattr(self.values, name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(x, ErrorArray) for x in options.get("out", ())):
            raise TypeError("the errors of an ErrorArray do not change in place; try errors = 100 * errors.")
        plain = [x.values if isinstance(x, ErrorArray) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __getitem__(self, index: Any) -> Any:
        values = self.values[index]
        if np.ndim(values) == 0:
            return values
        return replace(self, values=values, undefined=self.undefined[index], failed=self.failed[index])

    def __float__(self) -> float:
        return float(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __format__(self, spec: str) -> str:
        return format(float(self.values), spec) if spec and not self.ndim else str(self)

    def __repr__(self) -> str:
        values = np.array2string(self.values, separator=", ", threshold=8, edgeitems=3, prefix="ErrorArray(")
        counts = "".join(
            f", {name}={count}" for name, count in (("undefined", self.n_undefined), ("failed", self.n_failed)) if count
        )
        return f"ErrorArray({values}, definition={self.definition!r}{counts})"

    def __str__(self) -> str:
        scale, sign = (100.0, " %") if self.unit == "fraction" else (1.0, f" {self.unit}")
        left = self.defined
        value = f"{scale * left.mean():.3f}{sign}" if left.size else "no face has a defined error"
        counts = f"{self.size} faces" if self.size != 1 else "1 face"
        for count, text in ((self.n_undefined, "undefined"), (self.n_failed, "without a prediction")):
            counts += f", {count} {text}" if count else ""
        return f"{value} ({counts}; {self.definition})"


def nme(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    normalizer: str | float | ArrayLike | Callable[[np.ndarray], ArrayLike],
    scheme: Any = None,
    mask: ArrayLike | None = None,
    undefined: Literal["raise", "nan"] = "raise",
    missing: Literal["raise", "failure"] = "raise",
) -> ErrorArray:
    """Normalised mean error of each face: the mean point distance over one length of the true face.

    ``e_i = mean_k ||p_ik - g_ik|| / d_i`` over the usable landmarks k, as a fraction (0.04, which tables print as 4).
    The published value of a data set is the mean of `e_i` over its faces.

    Parameters
    ----------
    target : array_like of shape (..., n_landmarks, n_dims)
        True landmarks, (x, y) or (x, y, z); a NaN landmark is missing and left out of the mean.
    prediction : array_like of the same shape
        Predicted landmarks, in the same frame.
    normalizer : str, float, array_like or callable
        The length d, taken from `target` alone. There is no default: with the pupils instead of the outer eye corners
        the same face scores about 1.4 times as much.

        - ``"inter_ocular"``: distance of the outer eye corners;
        - ``"inter_pupil"``: distance of the pupils, or of the means of the eye contours where pupils are not marked;
        - ``"eye_centers"``: distance of the midpoints of the two corners of each eye;
        - ``"box_diagonal"``: diagonal of the axis-parallel box of the landmarks, in x and y;
        - ``"box_geometric_mean"``: square root of width times height of this box;
        - a positive number: 1 leaves pixels;
        - an array of shape (...): one length for each face, for example of its detection box;
        - a function of the true landmarks (..., n_landmarks, n_dims) returning such an array.
    scheme : LandmarkScheme or str, optional
        Which landmark is what; the first three normalisers need it.
    mask : array_like of bool of shape (..., n_landmarks) or (n_landmarks,), optional
        Landmarks to average over (True = use). The normaliser still uses every landmark that is not NaN.
    undefined : {"raise", "nan"}
        What to do with a face that has no error: a normaliser that is zero or missing, no usable landmark. With
        ``"nan"`` its value is NaN and it is counted in `ErrorArray.undefined`.
    missing : {"raise", "failure"}
        What to do when a usable landmark has no prediction (NaN). With ``"failure"`` the face is counted in
        `ErrorArray.failed`: a failure at every threshold, zero in the AUC, left out of the mean.

    Returns
    -------
    ErrorArray of shape (...)
        One float64 number for each face; acts as an array and prints its definition.

    Raises
    ------
    ValueError
        When shapes do not match, the normaliser is unknown, zero or needs a scheme, or when landmarks are missing.

    Notes
    -----
    The value does not change under a similarity applied to both arguments for the distances of landmarks, under
    translation and uniform scale for boxes, and under rigid motion for a number.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import nme
    >>> truth = np.array([[[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]]])
    >>> errors = nme(truth, truth + [3.0, 4.0], normalizer="box_diagonal")
    >>> np.asarray(errors)
    array([0.1])
    >>> print(errors.definition)
    NME: mean over landmarks of the point distance, divided by box_diagonal (diagonal sqrt(w^2 + h^2) of the box
    of the true landmarks); fraction
    """
    truth, guess = _pair(target, prediction)
    length, text, scheme_name = _length(truth, normalizer, scheme)
    _choice("undefined", undefined, ("raise", "nan"))
    _choice("missing", missing, ("raise", "failure"))
    batch = truth.shape[:-2]
    distance, empty, failed = _mean_distances(truth, guess, _usable(mask, truth.shape[:-1]))
    if failed.any() and missing == "raise":
        where = _first(failed, batch)
        raise ValueError(
            f"prediction: got a missing landmark (NaN) in face {where}, {int(failed.sum())} such faces in all; "
            "expected a prediction for every usable landmark. Try missing='failure' to count them as failures, "
            "or mask= to leave landmarks out."
        )
    value, lost, failed = _divide(distance, length, empty, failed)
    if lost.any() and undefined == "raise":
        _raise_undefined(lost, empty, batch, text)
    unit = "pixels" if text == "1" else "fraction"
    by = "in the unit of the landmarks" if unit == "pixels" else f"divided by {text}; fraction"
    return ErrorArray(
        value.reshape(batch),
        f"NME: mean over landmarks of the point distance, {by}",
        unit=unit,
        undefined=lost.reshape(batch),
        failed=failed.reshape(batch),
        sources={"metric": "NME", "normalizer": text, "scheme": scheme_name},
    )


def landmark_errors(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    normalizer: str | float | ArrayLike | Callable[[np.ndarray], ArrayLike],
    scheme: Any = None,
    mask: ArrayLike | None = None,
) -> np.ndarray:
    """Normalised distance of every landmark of every face.

    Parameters
    ----------
    target, prediction, normalizer, scheme, mask
        As in `nme`.

    Returns
    -------
    ndarray of float64 of shape (..., n_landmarks)
        Fractions; NaN where a landmark is missing or masked and for all landmarks of a face whose normaliser is zero.

    Raises
    ------
    ValueError
        When shapes do not match or the normaliser is unknown or needs a scheme.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import landmark_errors
    >>> truth = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> landmark_errors(truth, [[0.0, 0.0], [3.0, 5.0]], normalizer=2.0)
    array([0. , 0.5])
    """
    truth, guess = _pair(target, prediction)
    length, _, _ = _length(truth, normalizer, scheme)
    distance = np.empty(truth.shape[:-1])
    flat, faces, guesses = distance.reshape(-1, truth.shape[-2]), _faces(truth), _faces(guess)
    for part in _chunks(faces):
        flat[part] = _distances(faces[part], guesses[part])
    usable = _usable(mask, truth.shape[:-1])
    if usable is not None:
        flat[~usable] = np.nan
    return distance / np.where(length > 0, length, np.nan).reshape(*truth.shape[:-2], 1)


def normalizing_distance(
    target: ArrayLike,
    normalizer: str | float | ArrayLike | Callable[[np.ndarray], ArrayLike],
    *,
    scheme: Any = None,
) -> np.ndarray:
    """Return the length by which `nme` divides, one for each face.

    Parameters
    ----------
    target : array_like of shape (..., n_landmarks, n_dims)
        True landmarks.
    normalizer, scheme
        As in `nme`.

    Returns
    -------
    ndarray of float64 of shape (...)
        Lengths in the unit of `target`; NaN where the landmarks they need are missing, possibly zero.

    Raises
    ------
    ValueError
        When the normaliser is unknown or needs a scheme.

    Examples
    --------
    >>> from evaluation import normalizing_distance
    >>> normalizing_distance([[0.0, 0.0], [9.0, 4.0]], "box_geometric_mean")
    array(6.)
    """
    truth = as_shapes(target, name="target", allow_nan=True)
    return _length(truth, normalizer, scheme)[0].reshape(truth.shape[:-2])


@dataclass(frozen=True, eq=False)
class CumulativeError:
    """The cumulative error distribution: which share of the faces has an error of at most t.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,)
        Increasing errors t.
    fractions : ndarray of shape (n_thresholds,)
        Share of the faces with ``e <= t``, in [0, 1].
    n : int
        Number of faces.
    definition : str
        What the errors are.

    Examples
    --------
    >>> from evaluation import cumulative_error
    >>> curve = cumulative_error([0.01, 0.03, 0.03, 0.2])
    >>> curve.thresholds, curve.fractions
    (array([0.01, 0.03, 0.2 ]), array([0.25, 0.75, 1.  ]))
    >>> curve(0.05)
    0.75
    """

    thresholds: np.ndarray
    fractions: np.ndarray
    n: int
    definition: str = ""

    def __call__(self, threshold: ArrayLike) -> Any:
        """Share of the faces at any threshold, by the steps of the curve (exact when no grid was asked for)."""
        at = np.searchsorted(self.thresholds, np.asarray(threshold, dtype=float), side="right")
        value = np.concatenate([[0.0], self.fractions])[at]
        return float(value) if np.ndim(value) == 0 else value


def cumulative_error(errors: ArrayLike, thresholds: ArrayLike | None = None) -> CumulativeError:
    """Cumulative error distribution, at the thresholds or exactly, with one step at every error.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors. Undefined faces of an `ErrorArray` are left out, its failed ones count in the denominator.
    thresholds : array_like of shape (n_thresholds,), optional
        Increasing, in the unit of the errors. Every distinct error when not given.

    Returns
    -------
    CumulativeError

    Raises
    ------
    ValueError
        For an empty set, NaN, negative errors and thresholds that do not increase.

    Examples
    --------
    >>> from evaluation import cumulative_error
    >>> cumulative_error([0.02, 0.04, 0.06], [0.0, 0.05, 0.1]).fractions.round(3)
    array([0.   , 0.667, 1.   ])
    """
    values, n, definition = _scored(errors)
    values = np.sort(values)
    if thresholds is None:
        steps = np.unique(values)
    else:
        steps = np.asarray(thresholds, dtype=np.float64)
        if steps.ndim != 1 or not steps.size or not np.isfinite(steps).all() or (np.diff(steps) < 0).any():
            raise ValueError("thresholds: expected a list of finite numbers that increase, such as [0.02, 0.05, 0.1].")
    fractions = np.searchsorted(values, steps, side="right") / n
    return CumulativeError(steps, fractions, n, definition)


def auc(errors: ArrayLike, *, threshold: float) -> float:
    """Area under the cumulative error distribution up to the threshold, divided by the threshold, exactly.

    ``mean(max(0, 1 - e / t))``: the same number as the integral of the curve over [0, t] over t, without a grid.
    It is 1 for perfect predictions, 0 when no error is below the threshold, and never outside. Its complement
    is the mean clipped error, ``1 - auc = mean(min(e, t)) / t``.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions. Failed faces of an `ErrorArray` count as 0, undefined ones are left out.
    threshold : float
        The t of AUC@t, in the unit of the errors: a fraction. 0.08 and 0.1 are in use for 300-W.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        For an empty set, NaN, negative errors, or a threshold that is not a positive fraction.

    Examples
    --------
    >>> from evaluation import auc
    >>> auc([0.0, 0.05, 0.3], threshold=0.1)
    0.5
    """
    values, n, _ = _scored(errors)
    return float(_gain(values, checked_threshold(threshold, errors)).sum() / n)


def failure_rate(errors: ArrayLike, *, threshold: float) -> float:
    """Share of the faces with an error above the threshold.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions. Failed faces of an `ErrorArray` count, undefined ones are left out.
    threshold : float
        The t of FR@t; ``e > t`` fails, ``e == t`` does not.

    Returns
    -------
    float
        A fraction in [0, 1].

    Raises
    ------
    ValueError
        As in `auc`.

    Examples
    --------
    >>> from evaluation import failure_rate
    >>> failure_rate([0.02, 0.1, 0.12, 0.4], threshold=0.1)
    0.5
    """
    values, n, _ = _scored(errors)
    passed = int((values <= checked_threshold(threshold, errors)).sum())
    return (n - passed) / n


def auc_grid(errors: ArrayLike, *, threshold: float, step: float = 1e-4) -> float:
    """Compute the area under the curve as common evaluation scripts do, to match old tables.

    The curve is sampled on ``arange(0, t + step, step)``, integrated by Simpson's rule (with an even number of points
    the mean of the two ways to leave one interval to the trapezoid) and divided by t. Rounding may put one point
    beyond t on the grid: perfect predictions then score more than 1, 1.002 at t = 0.05. Use `auc` for new numbers.

    Parameters
    ----------
    errors, threshold
        As in `auc`.
    step : float
        Distance of two grid points.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As in `auc`, and for a step that is not positive or beyond the threshold.

    Examples
    --------
    >>> from evaluation import auc, auc_grid
    >>> auc([0.0, 0.0], threshold=0.05), round(auc_grid([0.0, 0.0], threshold=0.05), 6)
    (1.0, 1.002)
    """
    limit = checked_threshold(threshold, errors)
    if not 0 < step <= limit:
        raise ValueError(f"step: got {step}; expected a positive number up to the threshold {limit:g}.")
    grid = np.arange(0, limit + step, step)
    heights = cumulative_error(errors, grid).fractions
    return float(_simpson(heights, step) / limit)


def auc_threshold_weighted(errors: ArrayLike, *, threshold: float = 0.1, n_thresholds: int = 20) -> float:
    """Compute what the authors of ASMNet and KD-Loss print as "AUC", to match their tables.

    With ``t_k = t k / (n - 1)`` and F the cumulative error distribution it is ``sum_k (t_k + t_(k-1)) / 2 * F(t_k)``:
    the integral of the threshold over the running sum of F, not the area under F. Errors below the small thresholds
    hardly count, perfect predictions score ``t (n - 1) / 2`` (0.95 as published), and the number is not comparable
    with `auc`: at an NME of 4.06 % it gives 0.79 where the area is about 0.60.

    Parameters
    ----------
    errors : ErrorArray or array_like of shape (n_faces,)
        Errors, as fractions.
    threshold : float
        The largest threshold.
    n_thresholds : int
        Number of thresholds, 0 and `threshold` among them.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As in `auc`, and for fewer than two thresholds.

    Examples
    --------
    >>> from evaluation import auc_threshold_weighted
    >>> round(auc_threshold_weighted([0.0, 0.0]), 6)
    0.95
    """
    limit = checked_threshold(threshold, errors)
    if n_thresholds < 2:
        raise ValueError(f"n_thresholds: got {n_thresholds}; expected at least 2.")
    values, n, _ = _scored(errors)
    return float(threshold_weights(values, limit, n_thresholds).sum() / n)


# --- inside ----------------------------------------------------------------------------------------------


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(map(repr, choices))}.")


def _pair(target: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth = as_shapes(target, name="target", n_dims=(2, 3), allow_nan=True)
    guess = as_shapes(prediction, name="prediction", allow_nan=True)
    if truth.shape != guess.shape:
        hint = ""
        if truth.shape[1:] == guess.shape[1:] and truth.ndim == 3:
            hint = f" {len(truth)} faces have a truth and {len(guess)} a prediction: try pairing them by name."
        elif truth.shape[:-2] == guess.shape[:-2] and truth.shape[-1] == guess.shape[-1]:
            hint = " Try shape_models.landmarks.convert to bring both to one scheme."
        raise ValueError(f"prediction: got shape {guess.shape}; expected {truth.shape}, as the target has.{hint}")
    if not truth.size:
        raise ValueError(f"target: got an array of shape {truth.shape}; expected at least one face with a landmark.")
    return truth, guess


def _faces(shapes: np.ndarray) -> np.ndarray:
    return shapes.reshape(-1, *shapes.shape[-2:])


def _chunks(faces: np.ndarray) -> Iterator[slice]:
    step = max(1, _CHUNK_VALUES // (faces.shape[1] * faces.shape[2]))
    return (slice(start, start + step) for start in range(0, len(faces), step))


def _usable(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    usable = np.asarray(mask)
    if usable.dtype != bool:
        raise ValueError(f"mask: got an array of {usable.dtype}; expected booleans, True for landmarks to use.")
    try:
        return np.broadcast_to(usable, shape).reshape(-1, shape[-1])
    except ValueError:
        raise ValueError(f"mask: got shape {usable.shape}; expected {shape[-1:]} or {shape}.") from None


def _distances(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Euclidean distances of (n, K, d) points: (n, K), NaN where one is missing."""
    with np.errstate(over="ignore", under="ignore"):
        delta = np.subtract(truth, guess, dtype=np.float64)
        x = delta[..., 0]
        square = x * x
        for axis in range(1, delta.shape[-1]):
            y = delta[..., axis]
            square += y * y
    if square.max() < 1e300 and square.min() > 1e-280:
        return np.sqrt(square, out=square)
    # zero, missing, or beyond what float64 can square: divide by the largest coordinate first
    scale = np.abs(delta).max(axis=-1)
    if np.isinf(scale).any():
        raise ValueError("prediction: got coordinates whose distance to the target leaves the range of float64.")
    distance = np.sqrt(square)
    wrong = (square < 1e-280) & (scale > 0) | (square > 1e300)
    scaled = delta[wrong] / scale[wrong, None]
    distance[wrong] = scale[wrong] * np.sqrt((scaled * scaled).sum(axis=-1))
    return distance


def _mean_distances(
    truth: np.ndarray, guess: np.ndarray, usable: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean distance of each face, faces without a usable landmark, faces without a prediction for one."""
    faces, guesses = _faces(truth), _faces(guess)
    value = np.empty(len(faces))
    empty, failed = np.zeros(len(faces), bool), np.zeros(len(faces), bool)
    for part in _chunks(faces):
        distance = _distances(faces[part], guesses[part])
        use = None if usable is None else usable[part]
        if np.isnan(distance.sum()):
            seen = ~np.isnan(faces[part, :, 0])
            use = seen if use is None else use & seen
            failed[part] = (use & np.isnan(distance)).any(axis=-1)
        if use is None:
            distance.mean(axis=-1, out=value[part])
        else:
            count = use.sum(axis=-1)
            empty[part] = count == 0
            value[part] = np.where(use, distance, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return value, empty, failed


def _length(truth: np.ndarray, normalizer: Any, scheme: Any) -> tuple[np.ndarray, str, str]:
    """Lengths of the faces (n,), the words for them, and the name of the scheme."""
    faces = _faces(truth)
    definition = _scheme(scheme, truth.shape[-2])
    name = "" if definition is None else definition.name
    if isinstance(normalizer, str):
        if normalizer in _ANCHORED:
            return *_anchor_distance(faces, normalizer, definition), name
        if normalizer in _BOXED:
            return _box_length(faces, normalizer), f"{normalizer} ({_BOXED[normalizer]})", name
        raise ValueError(
            f"normalizer: got {normalizer!r}; expected one of {', '.join(map(repr, NORMALIZERS))}, a number, an array "
            "with one length for each face, or a function of the true landmarks."
        )
    if callable(normalizer):
        text = f"the function {getattr(normalizer, '__name__', type(normalizer).__name__)}"
        length = np.asarray(normalizer(truth))
    else:
        length = np.asarray(normalizer)
        text = f"{length:g}" if length.ndim == 0 and length.dtype.kind in "fiu" else "the given length of each face"
    if length.dtype.kind not in "fiu" or length.shape not in ((), truth.shape[:-2]):
        raise ValueError(
            f"normalizer: got {text} with values of {length.dtype} and shape {length.shape}; expected positive numbers "
            f"of shape () or {truth.shape[:-2]}, one for each face."
        )
    length = length.astype(np.float64)
    if np.isinf(length).any() or (length < 0).any() or (length.ndim == 0 and not length > 0):
        raise ValueError(f"normalizer: got {text} with a negative, zero or infinite value; expected positive lengths.")
    return np.broadcast_to(length, truth.shape[:-2]).reshape(-1), text, name


def _scheme(scheme: Any, n_landmarks: int) -> Any:
    if scheme is None:
        return None
    scheme = get_scheme(scheme)
    if scheme.n_landmarks != n_landmarks:
        raise ValueError(
            f"scheme: {scheme.name} has {scheme.n_landmarks} landmarks; got faces of {n_landmarks}. "
            "Try scheme.subset or convert to bring them together."
        )
    return scheme


def _anchor_distance(faces: np.ndarray, normalizer: str, scheme: Any) -> tuple[np.ndarray, str]:
    key, words = _ANCHORED[normalizer]
    if scheme is None:
        raise ValueError(
            f"normalizer: {normalizer!r} is the distance of the {words}, which only a scheme can find; got "
            "scheme=None. Try scheme=IBUG68 (from shape_models.landmarks) or another scheme of your landmarks."
        )
    if key not in scheme.anchors:
        known = [name for name, (anchor, _) in _ANCHORED.items() if anchor in scheme.anchors]
        raise ValueError(
            f"normalizer: {scheme.name} does not mark the {words}, which {normalizer!r} needs. "
            f"Try {', '.join(map(repr, [*known, *_BOXED]))}."
        )
    ends = [np.asarray(indices, dtype=int).reshape(-1) for indices in scheme.anchors[key]]
    right, left = (faces[:, indices].astype(np.float64).mean(axis=1) for indices in ends)
    points = " and ".join(_indices(indices) for indices in ends)
    length = _distances(right[:, None], left[:, None])[:, 0]
    # no more than the rounding of the coordinates: the two points are one
    length[length <= 4 * np.finfo(faces.dtype).eps * np.maximum(abs(right), abs(left)).max(axis=1)] = 0.0
    return length, f"{normalizer} ({words}, {points} of {scheme.name})"


def _indices(indices: np.ndarray) -> str:
    if len(indices) > 2 and (np.diff(indices) == 1).all():
        return f"{indices[0]}-{indices[-1]}"
    return "+".join(map(str, indices))


def _box_length(faces: np.ndarray, normalizer: str) -> np.ndarray:
    length = np.empty(len(faces))
    for part in _chunks(faces):
        points = np.ascontiguousarray(np.moveaxis(faces[part, :, :2], -1, 0), dtype=np.float64)
        low, high = points.min(axis=-1), points.max(axis=-1)
        if np.isnan(low).any():
            low, high = np.fmin.reduce(points, axis=-1), np.fmax.reduce(points, axis=-1)  # NaN only where all are
        sides = high - low
        sides[sides <= 4 * np.finfo(faces.dtype).eps * np.maximum(abs(low), abs(high))] = 0.0
        w, h = sides
        length[part] = np.hypot(w, h) if normalizer == "box_diagonal" else np.sqrt(w) * np.sqrt(h)
    return length


def _divide(
    distance: np.ndarray, length: np.ndarray, empty: np.ndarray, failed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, undefined faces, failed faces; the two last exclude each other."""
    lost = empty | ~(length > 0)
    failed = failed & ~lost
    value = np.full(len(distance), np.nan)
    with np.errstate(over="ignore"):
        np.divide(distance, length, out=value, where=~(lost | failed))
    if np.isinf(value).any():
        where = int(np.flatnonzero(np.isinf(value))[0])
        raise ValueError(
            f"normalizer: got {length[where]:g} for face {where}; the error is beyond the range of float64."
        )
    return value, lost, failed


def _raise_undefined(lost: np.ndarray, empty: np.ndarray, batch: tuple[int, ...], text: str) -> None:
    where = _first(lost, batch)
    if empty[np.flatnonzero(lost)[0]]:
        raise ValueError(
            f"target: face {where} has no usable landmark ({int(lost.sum())} faces without an error in all). "
            "Try undefined='nan' to count such faces and leave them out."
        )
    raise ValueError(
        f"normalizer: the length {text} is zero or missing in face {where} ({int(lost.sum())} faces without an error "
        "in all). Try undefined='nan' to count such faces and leave them out, or a box normaliser for profiles."
    )


def _first(flags: np.ndarray, batch: tuple[int, ...]) -> Any:
    where = np.unravel_index(int(np.flatnonzero(flags)[0]), batch) if batch else ()
    return int(where[0]) if len(where) == 1 else tuple(map(int, where))


def _scored(errors: ArrayLike) -> tuple[np.ndarray, int, str]:
    """Finite errors (flat), the number of faces that count, and the definition."""
    if isinstance(errors, ErrorArray):
        values, n, definition = errors.defined, int((~errors.undefined).sum()), errors.definition
    else:
        values = np.asarray(errors)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"errors: got an array of {values.dtype}; expected numbers.")
        values = values.astype(np.float64).reshape(-1)
        n, definition = values.size, ""
    if not n:
        raise ValueError("errors: got no face with a defined error; expected at least one.")
    if values.size:
        low, high = values.min(), values.max()
        if not (low >= 0 and np.isfinite(high)):
            raise ValueError(
                f"errors: got {'NaN' if np.isnan(low) else low if low < 0 else high}; expected finite numbers that are "
                "not negative. Try nme(..., undefined='nan', missing='failure') and pass its result as it is, "
                "so that such faces are counted."
            )
    return values, n, definition


def checked_threshold(threshold: float, errors: ArrayLike) -> float:
    """Return a threshold that is one positive number, and a fraction where the errors are."""
    try:
        value = float(threshold)
    except (TypeError, ValueError):
        raise ValueError(f"threshold: got {threshold!r}; expected one positive number, such as 0.08.") from None
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"threshold: got {threshold}; expected a positive number, such as 0.08.")
    if value >= 1 and getattr(errors, "unit", None) == "fraction":
        raise ValueError(f"threshold: got {value:g}; the errors are fractions. Try threshold={value / 100:g}.")
    return value


def threshold_weights(values: np.ndarray, threshold: float, n_thresholds: int = 20) -> np.ndarray:
    """Return what each error adds to the threshold-weighted "AUC": the middles of the steps at whose end it passes."""
    steps = threshold * np.arange(n_thresholds) / (n_thresholds - 1)
    tail = np.append(np.cumsum(((steps[1:] + steps[:-1]) / 2)[::-1])[::-1], 0.0)
    return tail[np.maximum(np.searchsorted(steps, values, side="left") - 1, 0)]


def _gain(values: np.ndarray, threshold: float) -> np.ndarray:
    return np.maximum(0.0, 1.0 - values / threshold)


def _simpson(heights: np.ndarray, step: float) -> float:
    def odd(y: np.ndarray) -> float:
        return step / 3 * (y[0] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum() + y[-1]) if len(y) > 1 else 0.0

    if len(heights) % 2:
        return odd(heights)
    head = odd(heights[:-1]) + step * (heights[-2] + heights[-1]) / 2
    tail = odd(heights[1:]) + step * (heights[0] + heights[1]) / 2
    return (head + tail) / 2
