"""What a detector's landmarks are worth, learned from some shapes whose true landmarks are known.

A shape model alone cannot repair a detector: its mistakes are shapes too. What is missing is knowledge of where to
distrust it. `learn_point_errors` takes it from examples: how far each landmark is off on average (detector and
annotation mean different places), how far and in which direction it scatters, and the same for landmarks that the
detector itself calls hidden. With that `fit_shape` finds the most probable shape.

Examples
--------
>>> import numpy as np
>>> from shape_models import load_model, make_faces
>>> from shape_models.point_errors import learn_point_errors
>>> model, rng = load_model("face68"), np.random.default_rng(0)
>>> truth = make_faces(60, rng=1)
>>> jaw = (np.arange(68) < 17)[:, None]
>>> found = truth + [6.0, 0.0] * jaw + 3 * rng.normal(size=truth.shape)
>>> errors = learn_point_errors(model, truth[:40], found[:40])
>>> repaired = errors.fit(found[40:]).shapes
>>> off = [np.linalg.norm(x - truth[40:], axis=2).mean() for x in (found[40:], repaired)]
>>> bool(off[1] < 0.6 * off[0])
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._aligned import ShapeModel
from ._array import as_numpy, as_shapes
from ._brief import brief
from ._fitting import ShapeFit, fit_shape
from ._options import check_numbers
from ._typing import ArrayLike

__all__ = ["PointErrors", "learn_point_errors"]


@brief
@dataclass(frozen=True, eq=False)
class PointErrors:
    """The errors of a detector's landmarks, in the frame and unit of a shape model.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        The model they were learned with.
    bias : ndarray of shape (2, n_landmarks, n_dims)
        Mean of truth minus detection: of landmarks the detector takes for seen, and of those it takes for occluded.
    covariance : ndarray of shape (2, n_landmarks, n_dims, n_dims)
        Of truth minus detection about its mean.
    n_shapes : int
        Learned from.

    Examples
    --------
    >>> from shape_models import load_model, make_faces
    >>> from shape_models.point_errors import learn_point_errors
    >>> faces = make_faces(30, rng=0)
    >>> learn_point_errors(load_model("face68"), faces, faces + 0.01).covariance.shape
    (2, 68, 2, 2)
    """

    model: Any
    bias: np.ndarray
    covariance: np.ndarray
    n_shapes: int

    def correct(self, points: ArrayLike, *, occluded: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return points without their bias, and the covariance of each, in the frame of the points.

        Parameters
        ----------
        points : array_like of shape (..., n_landmarks, n_dims)
            What the detector gave; NaN: missing.
        occluded : array_like of bool of shape (..., n_landmarks), optional
            What it takes for hidden.

        Returns
        -------
        points : ndarray of shape (..., n_landmarks, n_dims)
        covariance : ndarray of shape (..., n_landmarks, n_dims, n_dims)
            Squared units of the points.
        """
        given, flags = _checked(points, occluded, self.bias.shape[1:], "points")
        turn = _turn(self.model, given)
        turn = np.where(np.isfinite(turn), turn, np.eye(given.shape[-1]))  # of points that no shape fits anyway
        which, index = flags.astype(int), np.arange(given.shape[-2])
        bias = np.einsum("...ij,...kj->...ki", turn, self.bias[which, index])
        covariance = turn[..., None, :, :] @ self.covariance[which, index] @ np.swapaxes(turn, -1, -2)[..., None, :, :]
        return given + bias, covariance

    def fit(self, points: ArrayLike, *, occluded: ArrayLike | None = None, **options: Any) -> ShapeFit:
        """Return the most probable shapes of a detector's landmarks: `fit_shape` with what is known of their errors.

        Parameters
        ----------
        points, occluded : array_like
            As in `correct`.
        **options
            Of `fit_shape`: `loss`, `prior`, `on_error`.

        Returns
        -------
        ShapeFit
        """
        corrected, covariance = self.correct(points, occluded=occluded)
        return fit_shape(self.model, corrected, covariance=covariance, **options)


def learn_point_errors(
    model: ShapeModel,
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    occluded: ArrayLike | None = None,
    prior_count: float = 20.0,
) -> PointErrors:
    """Learn how far a detector's landmarks are off, from shapes whose true landmarks are known.

    Every prediction is brought into the frame of the model by the similarity that fits it, and the truth with it.
    Landmarks seldom flagged have few examples: each bias is drawn towards zero, and each covariance towards that of
    all landmarks, as if `prior_count` examples of those had been seen.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        As for `fit_shape`.
    target : array_like of shape (n_shapes, n_landmarks, n_dims)
        True landmarks; NaN: not known.
    prediction : array_like of the same shape
        What the detector gave, in the same frame; NaN: not found.
    occluded : array_like of bool of shape (n_shapes, n_landmarks), optional
        What the detector takes for hidden. Errors of these landmarks are learned apart.
    prior_count : float
        Not negative.

    Returns
    -------
    PointErrors

    Raises
    ------
    ValueError
        For shapes that do not match each other or the model, and for fewer than ten shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import load_model, make_faces
    >>> from shape_models.point_errors import learn_point_errors
    >>> faces = make_faces(50, rng=0)
    >>> size = np.ptp(faces[:, :, 0], axis=1).mean()
    >>> errors = learn_point_errors(load_model("face68"), faces, faces - [0.02 * size, 0.0], prior_count=0)
    >>> bool((errors.bias[0, :, 0] > 0).all()), bool(abs(errors.bias[0, :, 1]).max() < 0.2 * errors.bias[0, :, 0].min())
    (True, True)
    """
    guess, flags = _checked(prediction, occluded, None, "prediction")
    truth = as_shapes(target, name="target", allow_nan=True).astype(np.float64)
    if truth.shape != guess.shape or guess.ndim != 3:
        raise ValueError(
            f"prediction: got shape {guess.shape} and a target of {truth.shape}; expected (n_shapes, n_landmarks, "
            "n_dims) of both."
        )
    if len(guess) < 10:
        raise ValueError(f"prediction: got {len(guess)} shapes; expected at least 10 to learn from.")
    check_numbers(prior_count=prior_count)
    error = (truth - guess) @ np.linalg.inv(np.swapaxes(_turn(model, guess), -1, -2))
    known = np.isfinite(error).all(axis=-1)
    if known.sum() < 10:
        raise ValueError("prediction: got fewer than 10 landmarks that are known in both; expected more.")
    error = np.where(known[..., None], error, 0.0)
    n, d = error.shape[1:]
    bias, covariance = np.zeros((2, n, d)), np.zeros((2, n, d, d))
    everything = np.cov(error[known].T)
    for state in (0, 1):
        use = known & (flags == bool(state))
        together = np.cov(error[use].T) if use.sum() > 10 else everything
        count = use.sum(axis=0)
        # A landmark that is never seen has no bias, and nothing divides by zero.
        total = np.maximum(count + prior_count, 1e-300)
        bias[state] = (error * use[..., None]).sum(axis=0) / total[:, None]
        rest = np.where(use[..., None], error - bias[state], 0.0)
        scatter = np.einsum("fki,fkj->kij", rest, rest)
        covariance[state] = (scatter + prior_count * together) / total[:, None, None]
        covariance[state][count + prior_count == 0] = together
    return PointErrors(model, bias, covariance, len(guess))


def _checked(points: Any, occluded: Any, event: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    given = as_shapes(points, name=name, allow_nan=True).astype(np.float64)
    if event is not None and given.shape[-2:] != event:
        raise ValueError(f"{name}: got shape {given.shape}; expected (..., {event[0]}, {event[1]}).")
    if occluded is None:
        return given, np.zeros(given.shape[:-1], dtype=bool)
    flags = as_numpy(occluded, "occluded", booleans=True)
    if flags.dtype != bool or flags.shape != given.shape[:-1]:
        raise ValueError(
            f"occluded: got {flags.dtype} of shape {flags.shape}; expected booleans of shape {given.shape[:-1]}, one "
            "for each landmark."
        )
    return given, flags


def _turn(model: Any, points: np.ndarray) -> np.ndarray:
    """Scale times rotation from the model to the frame of the points, NaN for points that fit none."""
    pose = fit_shape(model, points).similarity
    return np.asarray(np.asarray(pose.scale)[..., None, None] * np.asarray(pose.rotation))
