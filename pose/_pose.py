"""A rigid motion from the object to the camera, and its weak-perspective cousin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models._array import as_shapes, indexing
from shape_models._brief import brief
from shape_models._options import check_flags
from shape_models._typing import ArrayLike

from . import conventions
from ._inputs import as_reals


class _OneOrMany:
    """What poses and views share: one, or a list of them."""

    translation: Any

    def _broadcast(self, **shapes: tuple[int, ...]) -> None:
        """Bring fields to shapes, as numbers of their own."""
        for name, expected in shapes.items():
            array = as_reals(getattr(self, name), name)
            try:
                array = np.array(np.broadcast_to(array, expected))
            except ValueError:
                raise ValueError(f"{name}: got shape {array.shape}; expected {expected}.") from None
            if np.isinf(array).any():
                raise ValueError(f"{name}: got infinity; expected finite numbers, or NaN for what is not known.")
            object.__setattr__(self, name, array if array.ndim else float(array))

    @property
    def single(self) -> bool:
        """Whether this is one pose, not a list of poses."""
        return np.ndim(self.translation) == 1

    def __bool__(self) -> bool:
        return True  # "if result.second:" asks whether there is one, not for its length

    def __len__(self) -> int:
        if self.single:
            raise TypeError("a single pose has no length")
        return len(self.translation)

    def __getitem__(self, index: Any) -> Self:
        if self.single:
            raise TypeError("a single pose cannot be indexed")
        with indexing(index, (len(self),)):
            rows = [value[index] for value in vars(self).values()]
        return type(self)(*rows)


@brief
@dataclass(frozen=True, eq=False)
class HeadAngles:
    """Yaw, pitch and roll under a named convention.

    Parameters
    ----------
    yaw, pitch, roll : float or ndarray of shape (b,)
        In degrees.
    convention : str
        Which signs and order, see :mod:`pose.conventions`.
    gimbal_lock : bool or ndarray of shape (b,)
        True where the middle angle is within a degree of 90: the other two are then not determined one by one.

    Examples
    --------
    >>> from pose import conventions, Pose
    >>> pose = Pose(conventions.read([10.0, 20.0, 5.0], "6DRepNet"), [0.0, 0.0, 500.0])
    >>> angles = pose.angles("300W-LP")
    >>> print(angles)
    yaw 20.0, pitch 10.0, roll 5.0 degrees (300W-LP)
    """

    yaw: Any
    pitch: Any
    roll: Any
    convention: str
    gimbal_lock: Any

    def __str__(self) -> str:
        if np.ndim(self.yaw):
            return f"{np.size(self.yaw)} triples of yaw, pitch, roll in degrees ({self.convention})"
        return f"yaw {self.yaw:.1f}, pitch {self.pitch:.1f}, roll {self.roll:.1f} degrees ({self.convention})"

    def as_array(self) -> np.ndarray:
        """Return (yaw, pitch, roll) in degrees, of shape (3,) or (b, 3).

        Returns
        -------
        ndarray of shape (3,) or (b, 3)
            Yaw, pitch and roll.
        """
        return np.stack([self.yaw, self.pitch, self.roll], axis=-1)


@brief
@dataclass(frozen=True, eq=False)
class Pose(_OneOrMany):
    """Rotation and translation of an object: X_camera = R X_object + t, with x right, y down, z forward.

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Object to camera; one rotation, or b of them for a batch.
    translation : array_like of shape (3,) or (b, 3)
        Where the origin of the object is in the camera frame, in the units of the object.

    Examples
    --------
    >>> from scipy.spatial.transform import Rotation
    >>> pose = Pose(Rotation.from_euler("Y", 90, degrees=True), [0.0, 0.0, 500.0])
    >>> pose([[0.0, 0.0, -10.0]]).round(6)
    array([[-10.,   0., 500.]])
    >>> (pose @ pose.inverse)([[1.0, 2.0, 3.0]]).round(6)
    array([[1., 2., 3.]])
    """

    rotation: Rotation
    translation: Any

    def __post_init__(self) -> None:
        conventions.check_rotation(self.rotation)
        self._broadcast(translation=(3,) if self.rotation.single else (len(self.rotation), 3))

    @classmethod
    def identity(cls, translation: ArrayLike = (0.0, 0.0, 0.0)) -> Pose:
        """Return the pose without rotation: a head that faces the camera.

        Parameters
        ----------
        translation : array_like of shape (3,) or (b, 3)
            Where the head is, in the frame of the camera.

        Returns
        -------
        Pose
            Or a batch, where there are several translations.
        """
        return cls(Rotation.identity(), translation)

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Pose:
        """Return the pose of [R | t], of shape (..., 3, 4) or (..., 4, 4).

        Parameters
        ----------
        matrix : array_like of shape (..., 3, 4) or (..., 4, 4)
            Rotation and translation side by side.

        Returns
        -------
        Pose
            One, or a batch.

        Raises
        ------
        ValueError
            For a matrix of another shape, or one that holds no rotation.
        """
        matrix = as_reals(matrix, "matrix")
        if matrix.ndim not in (2, 3) or matrix.shape[-2:] not in {(3, 4), (4, 4)}:
            raise ValueError(f"matrix: got shape {matrix.shape}; expected (3, 4), (4, 4), (b, 3, 4) or (b, 4, 4).")
        return cls(conventions.rotation_from_matrix(matrix[..., :3, :3]), matrix[..., :3, 3])

    def as_matrix(self) -> np.ndarray:
        """Return the homogeneous matrix [[R, t], [0, 1]], of shape (4, 4) or (b, 4, 4).

        Returns
        -------
        ndarray of shape (4, 4) or (b, 4, 4)
            It acts on columns (x, y, z, 1).
        """
        matrix = np.zeros((*self.translation.shape[:-1], 4, 4))
        matrix[..., :3, :3] = self.rotation.as_matrix()
        matrix[..., :3, 3] = self.translation
        matrix[..., 3, 3] = 1.0
        return matrix

    def __call__(self, points: ArrayLike) -> np.ndarray:
        """Return R X + t, of shape (n, 3), or (b, n, 3) for a batch of poses or of point sets."""
        points = as_shapes(points, name="points", n_dims=3, allow_nan=True).astype(np.float64, copy=False)
        return np.asarray(points @ np.swapaxes(self.rotation.as_matrix(), -1, -2) + self.translation[..., None, :])

    @property
    def inverse(self) -> Pose:
        """The pose of the camera in the frame of the object."""
        inverse = self.rotation.inv()
        return Pose(inverse, -inverse.apply(self.translation))

    def __matmul__(self, other: Pose) -> Pose:
        """Return the pose that applies `other` first: (a @ b)(X) = a(b(X))."""
        if not isinstance(other, Pose):
            got = type(other).__name__
            raise TypeError(f"got {got}; expected a Pose to compose with; points go in brackets.")
        return Pose(self.rotation * other.rotation, self.rotation.apply(other.translation) + self.translation)

    def euler(self, sequence: str, *, degrees: bool = False) -> np.ndarray:
        """Return Euler angles of the rotation in a SciPy axis sequence, for example "YXZ".

        Parameters
        ----------
        sequence : str
            Three axes; capitals turn with the head, small letters stay, as in
            `scipy.spatial.transform.Rotation.as_euler`.
        degrees : bool, default=False
            Radians otherwise.

        Returns
        -------
        ndarray of shape (3,) or (b, 3)
            In the order of the sequence.

        Raises
        ------
        ValueError
            For anything but three axes of which no two neighbours are the same.
        """
        check_flags(degrees=degrees)
        if not isinstance(sequence, str) or not re.fullmatch(r"(?!.*(.)\1)([xyz]{3}|[XYZ]{3})", sequence):
            raise ValueError(f"sequence: got {sequence!r}; expected three axes, all capitals or none, such as 'YXZ'.")
        return np.asarray(self.rotation.as_euler(sequence, degrees=degrees))

    def angles(self, convention: str = "300W-LP") -> HeadAngles:
        """Return yaw, pitch and roll in degrees under a named convention of :mod:`pose.conventions`.

        Parameters
        ----------
        convention : str, default="300W-LP"
            A name of :mod:`pose.conventions`.

        Returns
        -------
        HeadAngles
            In degrees, batched like the pose.
        """
        yaw, pitch, roll = np.moveaxis(conventions.yaw_pitch_roll(self.rotation, convention), -1, 0)
        locked = conventions.gimbal_lock(self.rotation, convention)
        if self.single:
            return HeadAngles(float(yaw), float(pitch), float(roll), conventions.get(convention).name, bool(locked))
        return HeadAngles(yaw, pitch, roll, conventions.get(convention).name, locked)


@brief
@dataclass(frozen=True, eq=False)
class WeakPerspective(_OneOrMany):
    """Scaled orthographic projection: x = s (R X)_xy + t, the limit of a camera that is far away.

    Parameters
    ----------
    scale : float or array_like of shape (b,)
        Pixels per object unit.
    rotation : scipy.spatial.transform.Rotation
        Object to camera frame, x right, y down, z forward.
    translation : array_like of shape (2,) or (b, 2)
        Pixel of the origin of the object.

    Raises
    ------
    ValueError
        For a scale that is not positive, and for shapes that do not match the rotation.
    TypeError
        For a rotation that is none.

    Examples
    --------
    >>> from scipy.spatial.transform import Rotation
    >>> view = WeakPerspective(2.0, Rotation.identity(), [100.0, 50.0])
    >>> view([[1.0, 3.0, 7.0]])
    array([[102.,  56.]])
    """

    scale: Any
    rotation: Rotation
    translation: Any

    def __post_init__(self) -> None:
        conventions.check_rotation(self.rotation)
        batch = () if self.rotation.single else (len(self.rotation),)
        self._broadcast(scale=batch, translation=(*batch, 2))
        if (np.asarray(self.scale) <= 0).any():
            raise ValueError(f"scale: got {np.min(self.scale):g}; expected positive pixels per object unit.")

    def __call__(self, points: ArrayLike) -> np.ndarray:
        """Return the pixels of object points, of shape (n, 2) or (b, n, 2)."""
        points = as_shapes(points, name="points", n_dims=3, allow_nan=True).astype(np.float64, copy=False)
        rows = self.rotation.as_matrix()[..., :2, :]
        scale = np.asarray(self.scale, dtype=np.float64)[..., None, None]
        return np.asarray(scale * (points @ np.swapaxes(rows, -1, -2)) + np.asarray(self.translation)[..., None, :])

    def angles(self, convention: str = "300W-LP") -> HeadAngles:
        """Return yaw, pitch and roll in degrees under a named convention of :mod:`pose.conventions`.

        Parameters
        ----------
        convention : str, default="300W-LP"
            A name of :mod:`pose.conventions`.

        Returns
        -------
        HeadAngles
            In degrees, batched like the pose.
        """
        zero = np.zeros(3 if self.rotation.single else (len(self.rotation), 3))
        return Pose(self.rotation, zero).angles(convention)
