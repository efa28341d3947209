"""Similarity transforms as values: one, or a batch of any shape, that act on landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._array import (
    as_array,
    as_count,
    as_numpy,
    as_shapes,
    beside,
    device_of,
    float_dtype,
    indexing,
    is_array,
    moved,
    namespace_of,
    to_numpy,
)
from ._brief import brief
from ._typing import Array, ArrayLike


@brief
@dataclass(frozen=True, eq=False)
class Similarity:
    """The map x → scale · R x + translation, one or a batch of them.

    The leading axes of the fields broadcast; a batch of transforms meets a batch of shapes by the same rule. The fields
    may belong to any array library; values (orthogonal, positive, finite) are checked for NumPy arrays only.

    Parameters
    ----------
    rotation : array of shape (..., n_dims, n_dims)
        Orthogonal matrices R; ``det R = -1`` is a reflection, reported by `reflects`.
    translation : array of shape (..., n_dims)
        In the units of the points that come out.
    scale : array of shape (...), default=1.0
        Positive factors.

    Raises
    ------
    ValueError
        When shapes do not fit, `rotation` is not orthogonal or `scale` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import Similarity
    >>> t = Similarity([[0.0, -1.0], [1.0, 0.0]], [10.0, 0.0], 2.0)
    >>> t([[1.0, 0.0], [0.0, 1.0]])
    array([[10.,  2.],
           [ 8.,  0.]])
    >>> back = t.inverse @ t
    >>> bool(np.allclose(back.as_matrix(), np.eye(3)))
    True
    """

    rotation: Any
    translation: Any
    scale: Any = 1.0

    def __post_init__(self) -> None:
        given = (self.rotation, self.translation, self.scale)
        arrays = [a for a in given if is_array(a)]
        if arrays and not any(isinstance(a, np.ndarray) for a in arrays):
            xp = namespace_of(arrays[0])
            like = arrays[0]
            device = device_of(like)
            rotation, translation, scale = (
                as_array(a, n) if is_array(a) else xp.asarray(as_numpy(a, n).tolist(), dtype=like.dtype, device=device)
                for a, n in zip(given, _FIELDS, strict=True)
            )
        else:
            xp = np
            rotation, translation, scale = (_numbers(a, n) for a, n in zip(given, _FIELDS, strict=True))
        if rotation.ndim < 2 or rotation.shape[-1] != rotation.shape[-2] or rotation.shape[-1] not in (2, 3):
            raise ValueError(f"rotation: got shape {tuple(rotation.shape)}; expected (..., 2, 2) or (..., 3, 3).")
        n_dims = rotation.shape[-1]
        if translation.ndim < 1 or translation.shape[-1] != n_dims:
            raise ValueError(f"translation: got shape {tuple(translation.shape)}; expected (..., {n_dims}).")
        try:
            batch = np.broadcast_shapes(tuple(rotation.shape[:-2]), tuple(translation.shape[:-1]), tuple(scale.shape))
        except ValueError:
            raise ValueError(
                f"got rotation {tuple(rotation.shape)}, translation {tuple(translation.shape)} and scale "
                f"{tuple(scale.shape)}; expected leading axes that broadcast."
            ) from None
        if xp is np:
            _check_values(rotation, translation, scale)
        object.__setattr__(self, "rotation", xp.broadcast_to(rotation, (*batch, n_dims, n_dims)))
        object.__setattr__(self, "translation", xp.broadcast_to(translation, (*batch, n_dims)))
        object.__setattr__(self, "scale", xp.broadcast_to(scale, batch))

    @classmethod
    def identity(cls, n_dims: int) -> Similarity:
        """Return the transform that leaves points where they are.

        Parameters
        ----------
        n_dims : int
            2 or 3.
        """
        n_dims = as_count(n_dims, "n_dims", 2, 3)
        return cls(np.eye(n_dims), np.zeros(n_dims), 1.0)

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Similarity:
        """Read transforms off homogeneous matrices.

        Parameters
        ----------
        matrix : array_like of shape (..., n_dims + 1, n_dims + 1)
            Last row (0, ..., 0, 1).

        Raises
        ------
        ValueError
            When the linear part is no multiple of an orthogonal matrix or the last row is another one.
        """
        matrix = _numbers(matrix, "matrix")
        if matrix.ndim < 2 or matrix.shape[-2:] not in ((3, 3), (4, 4)):
            raise ValueError(f"matrix: got shape {matrix.shape}; expected (..., 3, 3) or (..., 4, 4).")
        if not np.isfinite(matrix).all():
            raise ValueError("matrix: got NaN or infinity; expected finite numbers.")
        matrix = matrix.astype(np.float32) if matrix.dtype.itemsize < 4 else matrix
        n_dims = matrix.shape[-1] - 1
        last = np.zeros(n_dims + 1, dtype=matrix.dtype)
        last[-1] = 1
        if not np.allclose(matrix[..., -1, :], last):
            raise ValueError(f"matrix: got a last row other than {last}; expected a similarity, not a projectivity.")
        linear = matrix[..., :-1, :-1]
        scale = np.abs(np.linalg.det(linear)) ** (1 / n_dims)
        if not (scale > 0).all():
            raise ValueError("matrix: got a singular linear part; expected a multiple of an orthogonal matrix.")
        return cls(linear / scale[..., None, None], matrix[..., :-1, -1], scale)

    @classmethod
    def _of(cls, rotation: Any, translation: Any, scale: Any, *, status: np.ndarray | None = None) -> Similarity:
        """Build without checks, from parts that are known to fit."""
        value = object.__new__(cls)
        if status is not None:
            object.__setattr__(value, "_status", status)
        for name, part in zip(_FIELDS, (rotation, translation, scale), strict=True):
            object.__setattr__(value, name, np.asarray(part) if isinstance(part, np.generic) else part)
        return value

    # Of an estimate of which some rows failed; ClassVar keeps it out of the fields.
    _status: ClassVar[np.ndarray | None] = None

    @property
    def status(self) -> Any:
        """How the estimate of each transform went: "ok", or why it is NaN; str, or ndarray of str of `batch_shape`.

        The words are "too few landmarks", "coincident landmarks", "collinear landmarks", "ambiguous rotation",
        "coordinates too large", "infinite coordinate"; see `estimate_similarity`.
        """
        if self._status is None:
            return np.full(self.batch_shape, "ok")[()] if self.batch_shape else "ok"
        return self._status if self.batch_shape else str(self._status)

    @property
    def n_dims(self) -> int:
        """2 or 3."""
        return int(self.rotation.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes: () for one transform."""
        return tuple(self.scale.shape)

    @property
    def reflects(self) -> Any:
        """Whether each transform mirrors (det R = -1); booleans of shape `batch_shape`."""
        return namespace_of(self.rotation).linalg.det(self.rotation) < 0

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("one transform has no length")
        return self.batch_shape[0]

    def __getitem__(self, index: Any) -> Similarity:
        """Return some of the batch, indexed along its leading axes."""
        if not self.batch_shape:
            raise IndexError("one transform cannot be indexed")
        index = index if isinstance(index, tuple) else (index,)
        tails = ((slice(None),) * 2, (slice(None),), ())
        if not any(part is Ellipsis for part in index):  # an array compares entry by entry
            index = (*index, Ellipsis)
        with indexing(index, self.batch_shape):
            parts = [part[(*index, *tail)] for part, tail in zip(self._parts, tails, strict=True)]
            rows = tuple(to_numpy(part) if is_array(part) else part for part in index)
            status = None if self._status is None else self._status[rows]
        return self._of(*parts, status=status)

    @property
    def _parts(self) -> tuple[Any, Any, Any]:
        return self.rotation, self.translation, self.scale

    def like(self, array: Array) -> Similarity:
        """Return the same transform in the library, float type and on the device of `array`.

        Parameters
        ----------
        array : array
            Only its library, type and device matter.

        Returns
        -------
        Similarity
            With arrays of that kind.
        """
        array = as_array(array, "array", booleans=True)
        xp = namespace_of(array)
        device = device_of(array)
        dtype = array.dtype if xp.isdtype(array.dtype, "real floating") else xp.float64
        return self._of(*(moved(part, xp, dtype, device) for part in self._parts), status=self._status)

    def __call__(self, points: ArrayLike) -> Any:
        """Map points.

        Parameters
        ----------
        points : array of shape (..., n_landmarks, n_dims)
            NaN (a missing landmark) stays NaN. Leading axes broadcast with `batch_shape`.

        Returns
        -------
        array of shape (..., n_landmarks, n_dims)
            In the library, float type and on the device of `points`.

        Raises
        ------
        ValueError
            When the last axis of `points` is not `n_dims`.
        """
        x: Any = _points(points, self.n_dims, "points")
        rotation, translation, scale = self.like(x)._parts
        xp = namespace_of(x)
        if _compiles(x) and self.batch_shape == x.shape[:1]:
            from . import _kernels

            out = np.empty_like(x)
            matrix = scale[:, None, None] * rotation
            _kernels.apply(np.ascontiguousarray(x), matrix, np.ascontiguousarray(translation), out)
            return out
        return x @ xp.matrix_transpose(scale[..., None, None] * rotation) + translation[..., None, :]

    @property
    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        xp = namespace_of(self.rotation)
        rotation = xp.matrix_transpose(self.rotation)
        scale = 1 / self.scale
        translation = -scale[..., None] * (rotation @ self.translation[..., None])[..., 0]
        return self._of(rotation, translation, scale, status=self._status)

    def __matmul__(self, other: Any) -> Similarity:
        """Compose: ``(a @ b)(x) == a(b(x))``."""
        if not isinstance(other, Similarity):
            got = type(other).__name__
            raise TypeError(f"got {got}; expected a Similarity to compose with; points go in brackets.")
        if other.n_dims != self.n_dims:
            raise ValueError(f"got transforms of {self.n_dims} and {other.n_dims} dimensions; expected the same.")
        if namespace_of(self.scale) is not namespace_of(other.scale):
            other = other.like(self.translation)
        moved = (self.scale[..., None, None] * self.rotation @ other.translation[..., None])[..., 0]
        xp = namespace_of(moved)
        rotation = self.rotation @ other.rotation
        batch = tuple(rotation.shape[:-2])
        scale = xp.broadcast_to(self.scale * other.scale, batch)
        status = None
        if self._status is not None or other._status is not None:
            one, two = (np.asarray(t.status) for t in (self, other))
            status = np.where(one == "ok", two, one)
        return self._of(rotation, moved + self.translation, scale, status=status)

    def as_matrix(self) -> Any:
        """Return homogeneous matrices, array of shape (..., n_dims + 1, n_dims + 1).

        Returns
        -------
        array of shape (..., n_dims + 1, n_dims + 1)
            Matrices that act on columns (x, y, 1) or (x, y, z, 1).
        """
        xp = namespace_of(self.rotation)
        top = xp.concat([self.scale[..., None, None] * self.rotation, self.translation[..., None]], axis=-1)
        last = xp.concat([xp.zeros_like(top[..., :1, :-1]), xp.ones_like(top[..., :1, :1])], axis=-1)
        return xp.concat([top, last], axis=-2)

    def residuals(self, source: ArrayLike, target: ArrayLike) -> Any:
        """Return how far the mapped source lies from the target.

        Parameters
        ----------
        source, target : array of shape (..., n_landmarks, n_dims)
            Points before the map, and where they should come to lie; NaN where missing.

        Returns
        -------
        array of shape (..., n_landmarks)
            Euclidean distances, in the units of `target`; NaN where a landmark is missing in either.

        Raises
        ------
        ValueError
            If source and target differ in their number of landmarks.
        """
        mapped = self(_points(source, self.n_dims, "source"))
        wanted: Any = _points(target, self.n_dims, "target")
        if wanted.shape[-2] != mapped.shape[-2]:
            raise ValueError(f"target: got {wanted.shape[-2]} landmarks; expected {mapped.shape[-2]}, as in source.")
        xp = namespace_of(mapped)
        try:
            np.broadcast_shapes(tuple(mapped.shape), tuple(wanted.shape))
        except ValueError:
            raise ValueError(
                f"target: got shape {tuple(wanted.shape)}; expected one that broadcasts with {tuple(mapped.shape)}."
            ) from None
        if namespace_of(wanted) is not xp:
            wanted = as_numpy(wanted, "target") if isinstance(mapped, np.ndarray) else beside(wanted, mapped)
        return xp.sqrt(xp.sum((mapped - wanted) ** 2, axis=-1))


_LARGE = 1 << 19  # coordinates, from which the compiled loop pays for loading it
_FIELDS = ("rotation", "translation", "scale")


def _compiles(points: Any) -> bool:
    return isinstance(points, np.ndarray) and points.ndim == 3 and points.dtype == np.float64 and points.size >= _LARGE


def _points(points: Any, n_dims: int, name: str) -> Any:
    if not is_array(points) or isinstance(points, np.ndarray):
        return as_shapes(points, name=name, n_dims=n_dims, allow_nan=True)
    points = as_array(points, name)
    xp = namespace_of(points)
    if points.ndim < 2 or points.shape[-1] != n_dims:
        raise ValueError(f"{name}: got shape {tuple(points.shape)}; expected (..., n_landmarks, {n_dims}).")
    return points if xp.isdtype(points.dtype, "real floating") else xp.astype(points, xp.float64)


def _numbers(value: Any, name: str) -> np.ndarray:
    array = as_numpy(value, name)
    return array.astype(float_dtype(array.dtype), copy=False)


def _check_values(rotation: np.ndarray, translation: np.ndarray, scale: np.ndarray) -> None:
    if not (np.isfinite(rotation).all() and np.isfinite(translation).all() and np.isfinite(scale).all()):
        raise ValueError("got NaN or infinity in a transform; expected finite numbers.")
    if not (scale > 0).all():
        raise ValueError(f"scale: got {scale.min():g}; expected positive factors.")
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(rotation.shape[-1])).max(initial=0)
    if not off <= np.sqrt(np.finfo(rotation.dtype).eps):  # half of the digits, as products of many rotations keep
        raise ValueError(
            f"rotation: got a matrix that misses orthogonality by {off:.2g}; expected R R^T = I. "
            "Try Similarity.from_matrix, which takes the scale out."
        )


def pose_directions(mean: np.ndarray, scaling: bool = True) -> np.ndarray:
    """Return the derivatives of a shape by its pose as flat rows: translations, turns, logarithm of the size."""
    k, d = mean.shape
    rows = [np.broadcast_to(axis, (k, d)) for axis in np.eye(d)]
    if d == 2:
        rows.append(np.stack([-mean[:, 1], mean[:, 0]], axis=1))
    else:
        rows += [np.cross(axis, mean) for axis in np.eye(3)]
    if scaling:
        rows.append(mean)
    return np.stack([row.ravel() for row in rows])
