"""Landmark errors that say what they were divided by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_numpy, as_shapes, indexing
from shape_models._options import check_choice
from shape_models._provenance import as_landmark_set
from shape_models.datasets import LandmarkSamples

from ._normalizers import as_faces, chunks, lengths, point_distances, warn_of_one_landmark
from ._pairs import pair


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
    undefined : ndarray of bool of shape (n_faces,)
        Faces without an error: the normaliser is zero or missing, or no landmark is usable.
    failed : ndarray of bool of shape (n_faces,)
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
        values = as_numpy(self.values, "values").astype(np.float64)
        object.__setattr__(self, "values", values)
        for name in ("undefined", "failed"):
            mask = as_numpy(getattr(self, name), name, booleans=True)
            if mask.dtype != bool or mask.shape not in ((), values.shape):
                raise ValueError(
                    f"{name}: got {mask.dtype} of shape {mask.shape}; expected booleans of shape {values.shape}."
                )
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
        return np.asarray(self.values[~(self.undefined | self.failed)])

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
        # Plain numbers come out: what was measured is not what the definition says any more.
        plain = [x.values if isinstance(x, ErrorArray) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __getitem__(self, index: Any) -> Any:
        with indexing(index, self.values.shape):
            values, undefined, failed = (array[index] for array in (self.values, self.undefined, self.failed))
        return replace(self, values=values, undefined=undefined, failed=failed) if np.ndim(values) else values

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
        What to do with a face that has no error: a normaliser that is missing, zero or next to nothing (less than a
        thousandth of the diagonal of the face), no usable landmark. With
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
    truth, guess = pair_faces(target, prediction)
    length, text, scheme_name = lengths(truth, normalizer, scheme)
    check_choice(("raise", "nan"), undefined=undefined)
    check_choice(("raise", "failure"), missing=missing)
    batch = truth.shape[:-2]
    distance, empty, failed = _mean_distances(truth, guess, _usable(mask, truth.shape[:-1]))
    if failed.any() and missing == "raise":
        where = _first(failed, batch)
        raise ValueError(
            f"prediction: got a missing landmark (NaN) in face {where}, {int(failed.sum())} such faces in all; "
            "expected a prediction for every usable landmark. Try missing='failure' (--unpaired failure) to count them "
            "as failures, or mask= to leave landmarks out."
        )
    value, lost, failed = _divide(distance, length, empty, failed)
    if lost.any() and undefined == "raise":
        _raise_undefined(lost, empty, batch, text)
    unit = "pixels" if text == "1" else "fraction"  # to divide by 1 is not to divide
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
    target, prediction, normalizer, scheme, mask : array_like, and as `nme` takes them
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
    truth, guess = pair_faces(target, prediction)
    length, _, _ = lengths(truth, normalizer, scheme)
    distance = np.empty(truth.shape[:-1])
    flat, faces, guesses = distance.reshape(-1, truth.shape[-2]), as_faces(truth), as_faces(guess)
    for part in chunks(faces):
        flat[part] = point_distances(faces[part], guesses[part])
    usable = _usable(mask, truth.shape[:-1])
    if usable is not None:
        flat[~usable] = np.nan
    return distance / np.where(length > 0, length, np.nan).reshape(*truth.shape[:-2], 1)


def pair_faces(target: Any, prediction: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted landmarks, checked against each other; two sets of files are paired by name."""
    target, prediction = as_landmark_set(target), as_landmark_set(prediction)
    if isinstance(target, LandmarkSamples) and isinstance(prediction, LandmarkSamples):
        target, prediction, _ = pair(target, prediction, allow_missing=True)
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
    warn_of_one_landmark(truth, "target")
    return truth, guess


def _usable(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    usable = as_numpy(mask, "mask", booleans=True)
    if usable.dtype != bool:
        raise ValueError(f"mask: got an array of {usable.dtype}; expected booleans, True for landmarks to use.")
    if usable.shape not in (shape[-1:], shape):
        raise ValueError(f"mask: got shape {usable.shape}; expected {shape[-1:]} or {shape}.")
    return np.broadcast_to(usable, shape).reshape(-1, shape[-1])


def _mean_distances(
    truth: np.ndarray, guess: np.ndarray, usable: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean distance of each face, faces without a usable landmark, faces without a prediction for one."""
    faces, guesses = as_faces(truth), as_faces(guess)
    value = np.empty(len(faces))
    empty, failed = np.zeros(len(faces), bool), np.zeros(len(faces), bool)
    for part in chunks(faces):
        distance = point_distances(faces[part], guesses[part])
        use = None if usable is None else usable[part]
        if np.isnan(distance.sum()):  # one sum tells at the price of no mask
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


def _divide(
    distance: np.ndarray, length: np.ndarray, empty: np.ndarray, failed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, undefined faces, failed faces; the two last exclude each other."""
    lost = empty | ~(length > 0)  # which NaN is not
    failed = failed & ~lost
    value = np.full(len(distance), np.nan)
    with np.errstate(over="ignore"):  # infinity is refused below
        np.divide(distance, length, out=value, where=~(lost | failed))
    if np.isinf(value).any():
        where = int(np.flatnonzero(np.isinf(value))[0])
        raise ValueError(f"normalizer: got {length[where]:g} for face {where}; the error is beyond float64.")
    return value, lost, failed


def _raise_undefined(lost: np.ndarray, empty: np.ndarray, batch: tuple[int, ...], text: str) -> None:
    where = _first(lost, batch)
    if empty[np.flatnonzero(lost)[0]]:
        raise ValueError(
            f"target: face {where} has no usable landmark ({int(lost.sum())} faces without an error in all). "
            "Try undefined='nan' to count such faces and leave them out."
        )
    raise ValueError(
        f"normalizer: the length {text} is missing, zero or next to nothing for the size of the face in "
        f"face {where} ({int(lost.sum())} faces without an error in all). Try undefined='nan' to count "
        "such faces and leave them out, or a box normaliser for profiles."
    )


def _first(flags: np.ndarray, batch: tuple[int, ...]) -> Any:
    where = np.unravel_index(int(np.flatnonzero(flags)[0]), batch) if batch else ()
    return int(where[0]) if len(where) == 1 else tuple(map(int, where))
