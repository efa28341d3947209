"""The pinhole camera: pixels from points, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shape_models._array import as_numpy, as_shapes
from shape_models._options import check_choice, is_number
from shape_models._typing import ArrayLike

from ._inputs import as_reals

if TYPE_CHECKING:
    from ._pose import Pose


def _numbers(value: ArrayLike, name: str, size: int) -> np.ndarray:
    array = as_reals(value, name)
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(f"{name}: got shape {array.shape}; expected (..., {size}).")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got NaN or infinity; expected finite numbers.")
    return array


def _coefficients(distortion: ArrayLike) -> np.ndarray:
    """Return k1, k2, p1, p2, k3 on the last axis."""
    array = as_reals(distortion, "distortion")
    if array.ndim == 2 and 1 in array.shape:  # as OpenCV has them: one row, or one column
        array = array.reshape(-1)
    if array.ndim and array.shape[-1] in (8, 12, 14):
        if (array[..., 5:] != 0).any():
            raise ValueError(
                f"distortion: got {array.shape[-1]} coefficients; expected k1, k2, p1, p2, k3 alone, all others 0. Try "
                "undistorting the pixels with the program that calibrated the camera, and no distortion."
            )
        array = array[..., :5]
    if array.ndim and array.shape[-1] == 4:
        array = np.concatenate([array, np.zeros((*array.shape[:-1], 1))], axis=-1)
    return _numbers(array, "distortion", 5)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with the lens distortion of Brown and Conrady.

    A point (x, y, z) of the camera frame, x right, y down, z forward, meets the pixel λ (u, v, 1) = K (x, y, z) with
    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]. Pixel centres are at integers: the centre of a w x h image is
    ((w - 1) / 2, (h - 1) / 2).

    Parameters
    ----------
    focal_length : float or array_like of shape (2,) or (..., 2)
        Pixels, (fx, fy). One number stands for both. Leading dimensions make one camera for each view of a batch.
    principal_point : array_like of shape (2,) or (..., 2)
        Pixels, (cx, cy).
    distortion : array_like of shape (5,) or (..., 5), optional
        Coefficients k1, k2, p1, p2, k3 in the order of OpenCV, also in one column or one row as its calibration returns
        them; four leave k3 out. None: no distortion.

    Raises
    ------
    ValueError
        For focal lengths that are not positive and for entries that are not finite.

    References
    ----------
    D. C. Brown, Decentering distortion of lenses, Photogrammetric Engineering 32 (1966).

    Examples
    --------
    >>> camera = Camera(500.0, (319.5, 239.5))
    >>> camera.matrix
    array([[500. ,   0. , 319.5],
           [  0. , 500. , 239.5],
           [  0. ,   0. ,   1. ]])
    >>> camera.project([[0.0, 0.0, 2.0], [0.2, 0.0, 2.0]])
    array([[319.5, 239.5],
           [369.5, 239.5]])
    """

    focal_length: Any
    principal_point: Any
    distortion: Any = None

    def __post_init__(self) -> None:
        focal = as_reals(self.focal_length, "focal_length")
        if focal.ndim == 0:
            focal = np.stack([focal, focal], axis=-1)
        focal = _numbers(focal, "focal_length", 2)
        if (focal <= 0).any():
            raise ValueError(
                f"focal_length: got {focal.min():g}; expected positive pixels. "
                "Try Camera.from_image_size(size) when the camera is not known."
            )
        object.__setattr__(self, "focal_length", focal)
        object.__setattr__(self, "principal_point", _numbers(self.principal_point, "principal_point", 2))
        if self.distortion is not None:
            object.__setattr__(self, "distortion", _coefficients(self.distortion))
        try:
            self.batch_shape  # noqa: B018
        except ValueError:
            raise ValueError(
                f"got {self.focal_length.shape} focal lengths and {self.principal_point.shape} principal points; "
                "expected leading dimensions that agree."
            ) from None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions: () for one camera, (b,) for one camera for each of b views."""
        parts = [self.focal_length, self.principal_point]
        if self.distortion is not None:
            parts.append(self.distortion)
        return np.broadcast_shapes(*(part.shape[:-1] for part in parts))

    @property
    def matrix(self) -> np.ndarray:
        """K, of shape (..., 3, 3)."""
        matrix = np.zeros((*self.batch_shape, 3, 3))
        matrix[..., 0, 0] = self.focal_length[..., 0]
        matrix[..., 1, 1] = self.focal_length[..., 1]
        matrix[..., :2, 2] = self.principal_point
        matrix[..., 2, 2] = 1.0
        return matrix

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, *, distortion: ArrayLike | None = None) -> Camera:
        """Return the camera of the matrix K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].

        Parameters
        ----------
        matrix : array_like of shape (3, 3) or (..., 3, 3)
            In pixels; no skew.
        distortion : array_like of shape (5,) or (..., 5), optional
            As in `Camera`.

        Returns
        -------
        Camera
            With these numbers.

        Raises
        ------
        ValueError
            For another shape, a last row other than (0, 0, 1), or skew.
        """
        matrix = as_reals(matrix, "matrix")
        if matrix.shape[-2:] != (3, 3):
            raise ValueError(f"matrix: got shape {matrix.shape}; expected (..., 3, 3).")
        if not (matrix[..., 2, :] == (0.0, 0.0, 1.0)).all():
            scaled = (matrix[..., 2, :2] == 0).all() and (matrix[..., 2, 2] > 0).all()
            hint = " Try matrix / matrix[..., 2:, 2:]." if scaled else ""
            hint = " Try np.swapaxes(matrix, -1, -2)." if (matrix[..., :, 2] == (0.0, 0.0, 1.0)).all() else hint
            raise ValueError(f"matrix: got the last row {matrix[..., 2, :].tolist()}; expected (0, 0, 1).{hint}")
        if (matrix[..., 0, 1] != 0).any() or (matrix[..., 1, 0] != 0).any():
            raise ValueError("matrix: got skew; expected zeros at [0, 1] and [1, 0].")
        focal = np.stack([matrix[..., 0, 0], matrix[..., 1, 1]], axis=-1)
        return cls(focal, matrix[..., :2, 2], distortion)

    @classmethod
    def from_image_size(cls, size: Sequence[int] | np.ndarray) -> Camera:
        """Return the camera assumed where nothing is known: focal length = width, principal point = image centre.

        The field of view is then 53.1 degrees across the width.

        Parameters
        ----------
        size : int or (int, int)
            Width and height in pixels; one number for a square image.
        """
        width, height = _size(size)
        return cls(float(width), ((width - 1) / 2, (height - 1) / 2))

    @classmethod
    def from_fov(cls, size: Sequence[int] | np.ndarray, *, degrees: float, axis: str = "width") -> Camera:
        """Return the camera of a field of view, with square pixels and the principal point at the image centre.

        Parameters
        ----------
        size : int or (int, int)
            Width and height in pixels.
        degrees : float
            Angle of view across the width (or the height, or the diagonal), between 0 and 180.
        axis : {"width", "height", "diagonal"}
            What the angle spans.

        Raises
        ------
        ValueError
            For an unknown axis, or an angle that is not between 0 and 180 degrees.
        """
        width, height = _size(size)
        spans = {"width": width, "height": height, "diagonal": float(np.hypot(width, height))}
        check_choice(spans, axis=axis)
        if not (is_number(degrees) and 0 < degrees < 180):
            raise ValueError(f"degrees: got {degrees!r}; expected an angle between 0 and 180.")
        focal = spans[axis] / 2 / np.tan(np.radians(degrees) / 2)
        return cls(focal, ((width - 1) / 2, (height - 1) / 2))

    def crop(self, box: ArrayLike, size: Sequence[int] | np.ndarray) -> Camera:
        """Return the camera of a part of the image that was cut out and resized.

        Parameters
        ----------
        box : array_like of shape (4,) or (..., 4)
            Corners x0, y0, x1, y1 in pixels of this camera's image: the outer edges of the part, so that the whole
            of a w x h image is (-0.5, -0.5, w - 0.5, h - 0.5).
        size : int or (int, int)
            Width and height of the result.

        Returns
        -------
        Camera
            Of the part, in its own pixels.

        Raises
        ------
        ValueError
            For a box without an area.

        Examples
        --------
        >>> camera = Camera.from_image_size((640, 480)).crop((199.5, 119.5, 439.5, 359.5), 120)
        >>> camera.focal_length.tolist(), camera.principal_point.tolist()
        ([320.0, 320.0], [59.5, 59.5])
        """
        box = _numbers(box, "box", 4)
        extent = box[..., 2:] - box[..., :2]
        if (extent <= 0).any():
            raise ValueError("box: expected x0 < x1 and y0 < y1.")
        scale = np.array(_size(size)) / extent
        return Camera(self.focal_length * scale, (self.principal_point - box[..., :2]) * scale - 0.5, self.distortion)

    def project(self, points: ArrayLike) -> np.ndarray:
        """Return the pixels of points of the camera frame.

        Parameters
        ----------
        points : array_like of shape (..., n, 3)
            In the frame of the camera.

        Returns
        -------
        ndarray of shape (..., n, 2)
            NaN for points with NaN.

        Raises
        ------
        ValueError
            When a point has z <= 0: it is not in front of the camera.
        """
        points = as_shapes(points, name="points", n_dims=3, allow_nan=True)
        self._check_batch(points, "points")
        if (points[..., 2] <= 0).any():
            where = tuple(int(i) for i in np.argwhere(points[..., 2] <= 0)[0])
            raise ValueError(
                f"points: got z = {points[(*where, 2)]:g} at index {where}; expected points in front of the camera, "
                "z > 0. The camera frame is x right, y down, z forward."
            )
        plane = points[..., :2] / points[..., 2:]
        if self.distortion is not None:
            plane = self._distort(plane)
        return np.asarray(plane * self.focal_length[..., None, :] + self.principal_point[..., None, :])

    def normalize(self, pixels: ArrayLike) -> np.ndarray:
        """Return (x / z, y / z) of the rays through pixels: the inverse of `project`, with the distortion undone.

        Parameters
        ----------
        pixels : array_like of shape (..., n, 2)
            Pixel centres at integers.

        Returns
        -------
        ndarray of shape (..., n, 2)

        Raises
        ------
        ValueError
            When a pixel lies where the distortion cannot be inverted.
        """
        pixels = as_shapes(pixels, name="pixels", n_dims=2, allow_nan=True)
        self._check_batch(pixels, "pixels")
        plane = self._undistort(pixels)
        if (np.isnan(plane) & ~np.isnan(pixels)).any():
            raise ValueError("pixels: got a pixel where the lens distortion has no inverse; check the coefficients.")
        return plane

    def _check_batch(self, points: np.ndarray, name: str) -> None:
        try:
            np.broadcast_shapes(points.shape[:-2], self.batch_shape)
        except ValueError:
            raise ValueError(
                f"{name}: got shape {points.shape}; expected the leading dimensions {self.batch_shape} of the cameras."
            ) from None

    def _undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Return points of the plane z = 1 by Newton's method; NaN where the distortion has no inverse."""
        target: np.ndarray = (pixels - self.principal_point[..., None, :]) / self.focal_length[..., None, :]
        if self.distortion is None:
            return target
        plane = target.copy()
        with np.errstate(all="ignore"):  # a pixel without an inverse may go anywhere
            for _ in range(50):
                miss = self._distort(plane) - target
                if np.nanmax(np.abs(miss), initial=0.0) < 1e-14:  # rounding of coordinates up to 1
                    break
                a, b, d = self._distortion_jacobian(plane)
                determinant = a * d - b * b
                step = np.stack(
                    [d * miss[..., 0] - b * miss[..., 1], a * miss[..., 1] - b * miss[..., 0]], axis=-1
                ) / np.expand_dims(determinant, -1)
                plane = plane - np.where(np.isfinite(step), step, 0.0)
            a, b, d = self._distortion_jacobian(plane)
            # Up to the radius where the distortion turns back on itself its Jacobian is positive definite.
            regular = (a * d - b * b > 0) & (a + d > 0)
            found = (np.abs(self._distort(plane) - target) <= 1e-9).all(axis=-1) & regular
        return np.where(found[..., None], plane, np.nan)

    def _coefficients(self) -> tuple[np.ndarray, ...]:
        return tuple(self.distortion[..., None, i] for i in range(5))

    def _distort(self, plane: np.ndarray) -> np.ndarray:
        k1, k2, p1, p2, k3 = self._coefficients()
        x, y = plane[..., 0], plane[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return np.stack(
            [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y],
            axis=-1,
        )

    def _distortion_jacobian(self, plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the entries a, b, d of the symmetric Jacobian [[a, b], [b, d]]."""
        k1, k2, p1, p2, k3 = self._coefficients()
        x, y = plane[..., 0], plane[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = k1 + r2 * (2 * k2 + r2 * 3 * k3)
        return (
            radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x,
            2 * x * y * slope + 2 * p1 * x + 2 * p2 * y,
            radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x,
        )


def _size(size: Sequence[int] | np.ndarray) -> tuple[int, int]:
    values = as_numpy(size, "size")
    if values.dtype.kind not in "iu" or values.shape not in {(), (2,)}:
        got = f"an array of shape {values.shape}" if values.size > 3 else repr(size)
        raise ValueError(f"size: got {got}; expected the width and height in whole pixels, as (640, 480) or 224.")
    width, height = (int(v) for v in np.broadcast_to(values, (2,)))
    if width < 1 or height < 1:
        raise ValueError(f"size: got {size!r}; expected at least one pixel.")
    return width, height


def project_points(object_points: ArrayLike, pose: Pose, camera: Camera) -> np.ndarray:
    """Return the pixels λ (u, v, 1) = K (R X + t) of object points.

    Parameters
    ----------
    object_points : array_like of shape (n, 3) or (b, n, 3)
        In the units of the translation.
    pose : Pose
        Object to camera; of length b for a batch.
    camera : Camera
        One for all, or one for each pose.

    Returns
    -------
    ndarray of shape (n, 2), or (b, n, 2) when points, pose or camera are a batch.

    Raises
    ------
    ValueError
        When a point is not in front of the camera.

    Examples
    --------
    >>> from pose import Camera, Pose
    >>> camera = Camera.from_image_size((640, 480))
    >>> project_points([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]], Pose.identity([0.0, 0.0, 600.0]), camera)
    array([[319.5, 239.5],
           [351.5, 239.5]])
    """
    if not isinstance(camera, Camera):
        raise TypeError(f"camera: got {type(camera).__name__}; expected a Camera. Try Camera.from_image_size(size).")
    if not hasattr(pose, "translation"):
        hint = " Try result.pose." if hasattr(pose, "pose") else ""
        raise TypeError(f"pose: got {type(pose).__name__}; expected a Pose.{hint}")
    return camera.project(pose(as_shapes(object_points, name="object_points", n_dims=3, allow_nan=True)))
