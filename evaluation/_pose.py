"""Errors of head poses: the angle between two rotations, and Euler angles that name their convention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_numpy
from shape_models._options import check_choice, check_flags, is_number

from ._breakdown import bins_of
from ._intervals import mean_intervals
from ._tables import Table

_GIMBAL = 5.0  # degrees between the middle angle and a right angle, below which the two others are arbitrary


def geodesic_error(target: Any, prediction: Any, *, degrees: bool = True) -> np.ndarray:
    """Angle of the rotation that takes the predicted orientation to the true one.

    It does not depend on a convention of Euler angles, and it is a metric: zero only for equal rotations, symmetric,
    and unchanged when both are turned by the same rotation.

    Parameters
    ----------
    target, prediction : array_like of shape (..., 3, 3), or scipy Rotation
        True and predicted rotations, in the same frame: as many, or one on either side for all of the other.
    degrees : bool
        Degrees (the default, as in tables of head pose) or radians.

    Returns
    -------
    ndarray of float64 of shape (...)
        In [0, 180] degrees.

    Raises
    ------
    ValueError
        When a matrix is no rotation: not orthonormal to 1e-4, or a reflection; and when shapes do not match.

    Examples
    --------
    >>> from scipy.spatial.transform import Rotation
    >>> from evaluation import geodesic_error
    >>> turned = Rotation.from_euler("y", [[0], [30], [-170]], degrees=True)
    >>> geodesic_error(Rotation.from_euler("y", 10, degrees=True), turned).round(9)
    array([ 10.,  20., 180.])
    """
    check_flags(degrees=degrees)
    truth, guess = _rotations(target, "target"), _rotations(prediction, "prediction")
    if truth.shape != guess.shape and 9 not in (truth.size, guess.size):  # one axis too many would compare all pairs
        raise ValueError(
            f"prediction: got rotations of shape {guess.shape[:-2]}; expected {truth.shape[:-2]}, as the target has, "
            "or one."
        )
    # small angles from the chord |A - B| = 2 sqrt(2) sin(t/2), the others from sine and cosine: exact at both ends
    chord = np.sqrt(((truth - guess) ** 2).sum(axis=(-2, -1))) / np.sqrt(8.0)
    relative = np.swapaxes(truth, -1, -2) @ guess
    cosine = (np.trace(relative, axis1=-2, axis2=-1) - 1) / 2
    twist = relative - np.swapaxes(relative, -1, -2)
    sine = np.sqrt(twist[..., 2, 1] ** 2 + twist[..., 0, 2] ** 2 + twist[..., 1, 0] ** 2) / 2
    # Below 60 degrees the arcsine is well conditioned; the arctangent is from there to 180.
    angle = np.where(chord < 0.5, 2 * np.arcsin(np.minimum(chord, 0.5)), np.arctan2(sine, cosine))
    return np.asarray(np.rad2deg(angle) if degrees else angle)


@dataclass(frozen=True, eq=False)
class EulerError:
    """Wrapped absolute errors of Euler angles, with the convention they are in and the faces that were left out.

    Parameters
    ----------
    errors : ndarray of shape (n_kept, 3)
        Absolute differences along the shorter way round, of the faces that were kept.
    target : ndarray of shape (n_kept, 3)
        True angles of these faces, wrapped.
    angles : tuple of str
        Which column is which angle.
    convention : str
        The convention of the angles.
    unit : {"degrees", "radians"}
        Unit of `errors`.
    kept : ndarray of bool of shape (n_faces,)
        Faces within the limit.
    limit : float or None
        Faces with a true angle beyond it were left out.
    middle : str
        The angle in the middle of the sequence of rotations.
    n_gimbal : int
        Kept faces whose true middle angle is within 5 degrees of a right angle, where the two others are arbitrary.
    reference : str
        Where the true angles come from.

    Examples
    --------
    >>> from evaluation import euler_mae
    >>> error = euler_mae([[0.0, 170.0, 0.0]], [[1.0, -170.0, 0.0]], convention="300W-LP")
    >>> error.per_angle
    {'pitch': 1.0, 'yaw': 20.0, 'roll': 0.0}
    >>> float(error)
    7.0
    """

    errors: np.ndarray
    target: np.ndarray
    angles: tuple[str, ...]
    convention: str
    unit: str
    kept: np.ndarray
    limit: float | None
    middle: str
    n_gimbal: int
    reference: str

    @property
    def n(self) -> int:
        """Number of faces the errors are of."""
        return len(self.errors)

    @property
    def n_dropped(self) -> int:
        """Number of faces left out by the limit."""
        return int((~self.kept).sum())

    @property
    def per_angle(self) -> dict[str, float]:
        """Mean absolute error of each angle."""
        return dict(zip(self.angles, map(float, self.errors.mean(axis=0)), strict=True))

    @property
    def mae(self) -> float:
        """Mean of the errors of the three angles."""
        return float(self.errors.mean())

    def bin_table(self, edges: Sequence[float] = (0, 30, 60, 90), *, by: str = "yaw", n_resamples: int = 2000) -> Table:
        """Return the mean absolute errors of the faces in each bin of the absolute value of a true angle.

        Parameters
        ----------
        edges : sequence of float
            Increasing, in the unit of the angles. A bin holds its lower edge, the last one also its upper edge.
        by : str
            The angle, one of `angles`.
        n_resamples : int
            Number of bootstrap samples for the intervals of the mean over the angles.

        Returns
        -------
        Table
            One row for each bin.

        Raises
        ------
        ValueError
            When there is no such angle or the edges do not increase.
        """
        check_choice(self.angles, by=by)
        size = np.abs(self.target[:, self.angles.index(by)])
        parts, notes = bins_of(size, edges)
        columns = np.concatenate([self.errors.mean(axis=1, keepdims=True), self.errors], axis=1)
        rows = []
        for label, inside in parts:
            means = mean_intervals(columns[inside], None, n_resamples=n_resamples) if inside.any() else [None] * 4
            rest = [None if value is None else value.estimate for value in means[1:]]
            rows.append([label, int(inside.sum()), *rest, means[0]])
        notes = [f"{self.convention} angles against {self.reference}, {self.unit}; 95 % intervals.", *notes]
        return Table([f"|{by}|", "faces", *self.angles, "mean"], rows, title="MAE of Euler angles", notes=notes)

    def __float__(self) -> float:
        return self.mae

    def __str__(self) -> str:
        text = ", ".join(f"{name} {value:.3f}" for name, value in self.per_angle.items())
        faces = f"{self.n} faces"
        if self.limit is not None:
            faces = f"{self.n} of {len(self.kept)} faces, |angle| <= {self.limit:g}"
        if self.n_gimbal:
            faces += f", {self.n_gimbal} with {self.middle} within {_GIMBAL:g} degrees of 90"
        source = f"{self.convention} angles against {self.reference}"
        return f"MAE {self.mae:.3f} {self.unit} ({text}; {source}; {faces})"


def euler_mae(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    convention: str,
    angles: tuple[str, ...] = ("pitch", "yaw", "roll"),
    middle: str = "yaw",
    limit: float | None = None,
    degrees: bool = True,
    reference: str = "labels",
) -> EulerError:
    """Mean absolute error of Euler angles, along the shorter way round, in a named convention.

    Parameters
    ----------
    target, prediction : array_like of shape (n_faces, 3) or (3,)
        Angles of both, in the same convention and in the order of `angles`.
    convention : str
        Name of the convention, such as ``"300W-LP"``; it is printed with the numbers. There is no default: the same
        head has other angles in another convention (`pose.conventions` converts).
    angles : tuple of str
        Names of the columns: 300W-LP files have pitch, yaw, roll; many networks yaw, pitch, roll.
    middle : str
        The angle in the middle of the sequence of rotations. Near 90 degrees of it the two others are arbitrary.
    limit : float, optional
        Leave out faces with a true angle beyond it, wrapped, in the unit of the angles. The usual protocol on
        AFLW2000-3D has 99 degrees, which leaves out 31 of 2000 faces. The number left out is reported.
    degrees : bool
        Whether angles are degrees or radians, in and out.
    reference : str
        Where `target` comes from, printed with the numbers. Angles that another network or a PnP fit produced are no
        ground truth: name it, and the number is an agreement.

    Returns
    -------
    EulerError
        ``float(result)`` is the mean over the three angles.

    Raises
    ------
    ValueError
        When shapes do not match, an angle is not finite, no convention is named, or no face is left.

    Examples
    --------
    >>> from evaluation import euler_mae
    >>> truth = [[10.0, -20.0, 0.0], [0.0, 120.0, 0.0]]
    >>> print(euler_mae(truth, [[11.0, -18.0, 0.0], [0.0, 0.0, 0.0]], convention="300W-LP", limit=99))
    MAE 1.000 degrees (pitch 1.000, yaw 2.000, roll 0.000; 300W-LP angles against labels;
    1 of 2 faces, |angle| <= 99)
    """
    check_flags(degrees=degrees)
    if not isinstance(convention, str) or not convention.strip():
        raise ValueError(f"convention: got {convention!r}; expected the name of a convention, such as '300W-LP'.")
    truth, guess = (_angles(x, name) for x, name in ((target, "target"), (prediction, "prediction")))
    if truth.shape != guess.shape:
        raise ValueError(f"prediction: got shape {guess.shape}; expected {truth.shape}, as the target has.")
    if len(angles) != 3 or len(set(angles)) != 3 or middle not in angles:
        raise ValueError(f"angles: got {angles} and middle={middle!r}; expected three names, the middle one of them.")
    if limit is not None and not (is_number(limit) and limit > 0):
        raise ValueError(f"limit: got {limit!r}; expected a positive angle or None.")
    half = 180.0 if degrees else np.pi
    wrapped = np.abs(_wrap(truth, half))
    kept = np.ones(len(truth), bool) if limit is None else (wrapped <= limit).all(axis=-1)
    if not kept.any():
        raise ValueError(f"limit: no face has all angles within {limit:g}; try a larger limit, or check the unit.")
    off_right_angle = np.abs(wrapped[kept, angles.index(middle)] - half / 2)
    return EulerError(
        errors=np.abs(_wrap(truth - guess, half))[kept],
        target=_wrap(truth, half)[kept],
        angles=tuple(angles),
        convention=convention,
        unit="degrees" if degrees else "radians",
        kept=kept,
        limit=None if limit is None else float(limit),
        middle=middle,
        n_gimbal=int((off_right_angle < half / 180 * _GIMBAL).sum()),
        reference=reference,
    )


# --- inside ----------------------------------------------------------------------------------------------


def _rotations(rotation: Any, name: str) -> np.ndarray:
    matrix = as_numpy(rotation.as_matrix() if hasattr(rotation, "as_matrix") else rotation, name)
    if not matrix.size or matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(
            f"{name}: got {matrix.dtype} of shape {matrix.shape}; expected rotation matrices (..., 3, 3) or a scipy "
            "Rotation. Try Rotation.from_euler(...) for angles, or euler_mae."
        )
    matrix = matrix.astype(np.float64)
    _refuse_unknown(matrix, name, (-2, -1), ".as_matrix()" * hasattr(rotation, "as_matrix"))
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(matrix @ np.swapaxes(matrix, -1, -2) - np.eye(3)).max(axis=(-2, -1), initial=0)
    close = off < 1e-4  # as far as matrices printed with four digits miss it; False for NaN
    bad = ~close | (np.linalg.det(np.where(close[..., None, None], matrix, 0.0)) < 0)
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(
            f"{name}: the matrix at index {where} is no rotation; expected R R^T = 1 to 1e-4 and det R = 1. "
            "Try Rotation.from_matrix(...) to orthonormalise it."
        )
    return matrix


def _angles(angles: ArrayLike, name: str) -> np.ndarray:
    array = as_numpy(angles, name)
    if array.ndim not in (1, 2) or array.shape[-1] != 3:
        raise ValueError(f"{name}: got {array.dtype} of shape {array.shape}; expected angles of shape (n_faces, 3).")
    array = np.atleast_2d(array.astype(np.float64))
    if not len(array):
        raise ValueError(f"{name}: got no face; expected at least one.")
    _refuse_unknown(array, name, (-1,))
    return array


def _refuse_unknown(array: np.ndarray, name: str, axes: tuple[int, ...], read: str = "") -> None:
    """Refuse faces without a pose: an error that left them out would flatter whoever did not find them."""
    known = np.isfinite(array).all(axis=axes)
    if not known.all():
        where = tuple(map(int, np.argwhere(~known)[0]))
        place = f"face {where[0]}" if len(where) == 1 else f"index {where}"
        raise ValueError(
            f"{name}: got NaN or infinity in {place}, {int((~known).sum())} such faces in all; expected poses. "
            f"Try target[found] and prediction[found] with found = np.isfinite({name}{read}).all(axis={axes}), and say "
            "how many have none."
        )


def _wrap(angles: np.ndarray, half: float) -> np.ndarray:
    """Angles in [-half, half)."""
    return (angles + half) % (2 * half) - half
