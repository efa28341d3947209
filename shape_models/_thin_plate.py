"""Thin-plate splines as values: the smoothest map that takes some landmarks to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._array import DegenerateShapeError, as_numpy, as_shapes, refuse_extremes_of
from ._brief import brief
from ._options import check_numbers
from ._typing import ArrayLike, ImageLike
from .images import channels_first

_CHUNK = 1 << 22  # distances in the largest temporary array
_SINGULAR = 1e-10  # fraction of the largest extent below which source landmarks lie on one line or plane


@brief
@dataclass(frozen=True, eq=False)
class ThinPlateSpline:
    """The map f(x) = A x + a + Σₖ wₖ U(‖x − xₖ‖) that takes landmarks to others with least bending; one or a batch.

    U is r² log r in two dimensions and −r in three, and the weights satisfy Σ wₖ = 0 and Σ wₖ xₖᵀ = 0. Made by `fit`;
    like a `Similarity` it is a value that acts on landmarks, and it acts on images and on the vertices of meshes too.

    Parameters
    ----------
    source, target : ndarray of shape (..., n_landmarks, n_dims)
        The landmarks it was fitted to; NaN where a pair was left out.
    smoothing : float
        What the bending was charged; 0 for the map that interpolates.
    affine : ndarray of shape (..., n_dims + 1, n_dims)
        Rows a and the columns of A, in the coordinates of `fit`: centred and of size 1.
    weights : ndarray of shape (..., n_landmarks, n_dims)
        The wₖ, in the same coordinates.
    centre : ndarray of shape (..., n_dims)
        Centroid of the source.
    size : ndarray of shape (...)
        Root mean square distance of the source landmarks to it.

    References
    ----------
    F. L. Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", IEEE TPAMI 11(6),
    1989. G. Wahba, "Spline Models for Observational Data", SIAM, 1990, section 2.4, for the smoothed map.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ThinPlateSpline
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    >>> bent = square + [[0, 0], [0, 0], [0, 0], [0, 0], [0.1, 0.0]]
    >>> spline = ThinPlateSpline.fit(square, bent)
    >>> np.allclose(spline(square), bent), bool(spline.bending_energy > 0)
    (True, True)
    >>> np.allclose(spline.inverse(bent), square)
    True
    >>> bool(ThinPlateSpline.fit(square, 3 * square + 1).bending_energy < 1e-12)
    True
    """

    source: np.ndarray
    target: np.ndarray
    smoothing: float
    affine: np.ndarray
    weights: np.ndarray
    centre: np.ndarray
    size: np.ndarray

    @classmethod
    def fit(cls, source: ArrayLike, target: ArrayLike, *, smoothing: float = 0.0) -> ThinPlateSpline:
        """Return the spline from `source` to `target`.

        It minimises Σₖ ‖yₖ − f(xₖ)‖² + smoothing · wᵀ U w, where w and U are those of the source at its centroid and of
        size 1, so that `smoothing` does not depend on the units.

        Parameters
        ----------
        source, target : array_like of shape (..., n_landmarks, n_dims)
            Landmarks in two or three dimensions; leading axes broadcast. A pair with NaN is left out.
        smoothing : float, default=0.0
            0 interpolates; the larger, the nearer to the affine map of least squares.

        Returns
        -------
        ThinPlateSpline

        Raises
        ------
        DegenerateShapeError
            When source landmarks coincide or lie on one line (in 3-D: one plane), or fewer than n_dims + 1 are seen.
        ValueError
            For shapes that do not match and for negative smoothing.
        """
        source = as_shapes(source, name="source", n_dims=(2, 3), allow_nan=True).astype(np.float64)
        target = as_shapes(target, name="target", n_dims=source.shape[-1], allow_nan=True).astype(np.float64)
        if source.shape[-2] != target.shape[-2]:
            raise ValueError(f"target: got {target.shape[-2]} landmarks; expected {source.shape[-2]}, as in source.")
        check_numbers(smoothing=smoothing)
        refuse_extremes_of(target, "target", tiny=False)
        source, target = np.broadcast_arrays(source, target)
        seen = np.isfinite(source[..., 0]) & np.isfinite(target[..., 0])
        unit, centre, size = _normalised(source, seen)
        k, d = source.shape[-2:]
        system = _system(unit, seen, smoothing)
        right = np.zeros((*source.shape[:-2], k + d + 1, d))
        right[..., :k, :] = np.where(seen[..., None], target, 0.0)
        solution = np.linalg.solve(system, right)
        return cls(source, target, float(smoothing), solution[..., k:, :], solution[..., :k, :], centre, size)

    @property
    def n_dims(self) -> int:
        """2 or 3."""
        return int(self.source.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes: () for one map."""
        return tuple(self.size.shape)

    @property
    def bending_energy(self) -> Any:
        """The form wᵀ U w in the units of the source; 8π times it is the integral of the squared second derivatives."""
        unit = (self._filled - self.centre[..., None, :]) / self.size[..., None, None]
        kernel = _kernel(unit[..., :, None, :] - unit[..., None, :, :])
        energy = np.einsum("...kd,...kl,...ld->...", self.weights, kernel, self.weights)
        # In units of the source; of an affine map only rounding is left, of either sign.
        return np.maximum(energy, 0.0) / self.size ** (2 if self.n_dims == 2 else 1)

    @property
    def _filled(self) -> np.ndarray:
        """The source with pairs left out at the centroid, where their weight is 0."""
        gone = np.isnan(self.source) | np.isnan(self.target)
        return np.where(gone, self.centre[..., None, :], self.source)

    def __call__(self, points: ArrayLike) -> np.ndarray:
        """Map points, for instance landmarks or the vertices of a mesh.

        Parameters
        ----------
        points : array_like of shape (..., n_points, n_dims)
            NaN stays NaN. Leading axes broadcast with `batch_shape`.

        Returns
        -------
        ndarray of shape (..., n_points, n_dims)

        Raises
        ------
        ValueError
            When the last axis of `points` is not `n_dims`.
        """
        given = as_shapes(points, name="points", n_dims=self.n_dims, allow_nan=True)
        out = self._evaluate(given.astype(np.float64), derivative=False)[0]
        return out.astype(given.dtype, copy=False)

    def jacobian(self, points: ArrayLike) -> np.ndarray:
        """Return the matrix of derivatives ∂fᵢ/∂xⱼ at points; where its determinant is not positive the map folds.

        Parameters
        ----------
        points : array_like of shape (..., n_points, n_dims)
            Where to take the derivatives.

        Returns
        -------
        ndarray of shape (..., n_points, n_dims, n_dims)
        """
        given = as_shapes(points, name="points", n_dims=self.n_dims, allow_nan=True).astype(np.float64)
        return self._evaluate(given, derivative=True)[1]

    def _evaluate(self, points: np.ndarray, *, derivative: bool) -> tuple[np.ndarray, np.ndarray]:
        d, k, n = self.n_dims, self.source.shape[-2], points.shape[-2]
        refuse_extremes_of(points, "points", tiny=False)
        knots = (self._filled - self.centre[..., None, :]) / self.size[..., None, None]
        unit = (points - self.centre[..., None, :]) / self.size[..., None, None]
        batch = np.broadcast_shapes(unit.shape[:-2], self.batch_shape)
        value, slope = np.empty((*batch, n, d)), np.empty((*batch, n, d, d) if derivative else (0,))
        step = max(1, _CHUNK // max(1, k * int(np.prod(batch))))
        linear = self.affine[..., 1:, :]
        for first in range(0, n, step):
            part = slice(first, first + step)
            apart = unit[..., part, None, :] - knots[..., None, :, :]
            value[..., part, :] = _kernel(apart) @ self.weights + unit[..., part, :] @ linear + self.affine[..., :1, :]
            if derivative:
                gradient = _kernel_gradient(apart)
                turned = np.einsum("...nkj,...ki->...nij", gradient, self.weights)
                slope[..., part, :, :] = turned + np.swapaxes(linear, -1, -2)[..., None, :, :]
        if derivative:
            slope /= self.size[..., None, None, None]
        return value, slope

    def inverse(self, points: ArrayLike, *, tol: float = 1e-10, max_iter: int = 50) -> np.ndarray:
        """Return the points that the map takes to the given ones, by Newton's method.

        It starts from the spline fitted the other way round and halves steps that lead away.

        Parameters
        ----------
        points : array_like of shape (..., n_points, n_dims)
            NaN stays NaN.
        tol : float, default=1e-10
            How near f(x) must come, as a fraction of the extent of the target landmarks.
        max_iter : int, default=50
            Most steps of the method.

        Returns
        -------
        ndarray of shape (..., n_points, n_dims)

        Raises
        ------
        ValueError
            When a point is not reached: the map folds there.
        DegenerateShapeError
            When the target landmarks coincide or lie on one line or plane.
        """
        given = as_shapes(points, name="points", n_dims=self.n_dims, allow_nan=True)
        wanted = np.broadcast_to(
            given.astype(np.float64), (*np.broadcast_shapes(given.shape[:-2], self.batch_shape), *given.shape[-2:])
        )
        back = ThinPlateSpline.fit(self.target, self.source, smoothing=self.smoothing)
        x = back(wanted)  # refuses what is too far
        # To a fraction of the size of the target, and no nearer than its coordinates are rounded.
        limit = tol * back.size[..., None] + 64 * np.finfo(np.float64).eps * np.abs(back.centre).max(axis=-1)[..., None]
        value, slope = self._evaluate(x, derivative=True)
        off = np.linalg.norm(value - wanted, axis=-1)
        for _ in range(max_iter):
            active = off > limit  # False for NaN
            if not active.any():
                break
            determinant = np.linalg.det(slope)
            # Where the map is about to fold no step leads on.
            sound = active & (np.abs(determinant) > np.finfo(np.float64).tiny)
            safe = np.where(sound[..., None, None], slope, np.eye(self.n_dims))
            step = np.linalg.solve(safe, (wanted - value)[..., None])[..., 0]
            step = np.where(sound[..., None], step, 0.0)
            scale = np.ones(off.shape)
            for _ in range(30):  # halvings, which leave a billionth of the step
                trial = x + scale[..., None] * step
                new_value = self._evaluate(trial, derivative=False)[0]
                new_off = np.linalg.norm(new_value - wanted, axis=-1)
                worse = sound & ~(new_off < off)
                if not worse.any():
                    break
                scale = np.where(worse, 0.5 * scale, scale)
            better = sound & (new_off < off)
            if not better.any():
                break
            x = np.where(better[..., None], trial, x)
            value, slope = self._evaluate(x, derivative=True)
            off = np.linalg.norm(value - wanted, axis=-1)
        lost = off > limit
        if lost.any():
            raise ValueError(
                f"points: got {int(lost.sum())} that the map does not reach from one place only (the first at index "
                f"{tuple(int(i) for i in np.argwhere(lost)[0])}); it folds there. Try a larger smoothing."
            )
        return x.astype(given.dtype, copy=False)

    def warp_image(
        self, image: ImageLike, *, output_shape: tuple[int, int] | None = None, order: int = 1, fill: float = 0.0
    ) -> np.ndarray:
        """Warp an image so that what lies at the source landmarks comes to lie at the target landmarks.

        Every pixel of the result is looked up through the spline fitted from target to source, which agrees with the
        inverse at the landmarks and is as smooth between them; where this spline is no interpolating one
        (``smoothing``), the other is smoothed alike.

        Parameters
        ----------
        image : ndarray of shape (height, width) or (height, width, n_channels)
            Landmarks are (x, y) with pixel centres at integers.
        output_shape : (int, int), optional
            Height and width of the result; those of the image by default.
        order : int, default=1
            Order of the interpolation, 0 to 5 (scikit-image).
        fill : float, default=0.0
            Value outside the image.

        Returns
        -------
        ndarray of shape (height, width[, n_channels])
            In the type of the image; integers are rounded.

        Raises
        ------
        ValueError
            For a batch of splines, one of three dimensions, and what is no image.
        """
        from skimage.transform import warp

        if self.batch_shape or self.n_dims != 2:
            raise ValueError(f"got {self.batch_shape or '3-D'} splines; expected one of two dimensions for images.")
        image = as_numpy(image, "image", booleans=True)
        hint = channels_first(image.shape, "image")
        if image.ndim not in (2, 3) or not image.size or hint:
            raise ValueError(f"image: got shape {image.shape}; expected (height, width) or with channels last.{hint}")
        # A pixel of the result is looked up where it comes from.
        back = ThinPlateSpline.fit(self.target, self.source, smoothing=self.smoothing)
        options: dict[str, Any] = {"output_shape": output_shape, "order": order, "cval": fill, "preserve_range": True}
        warped: np.ndarray = warp(image.astype(np.float64), back, **options)
        if image.dtype.kind in "ui":
            limits = np.iinfo(image.dtype)
            warped = np.clip(np.rint(warped), limits.min, limits.max)
        elif image.dtype.kind == "b":
            warped = warped >= 0.5
        return warped.astype(image.dtype)


def bending_energy_matrix(reference: ArrayLike) -> np.ndarray:
    """Return the matrix B for which tr(yᵀ B y) is the bending energy of the spline from `reference` to y.

    Parameters
    ----------
    reference : array_like of shape (..., n_landmarks, n_dims)
        Complete.

    Returns
    -------
    ndarray of shape (..., n_landmarks, n_landmarks)
        Symmetric and positive semidefinite; affine maps of the reference have energy 0.

    Raises
    ------
    DegenerateShapeError
        When landmarks coincide or lie on one line or plane.

    References
    ----------
    F. L. Bookstein, "Landmark methods for forms without landmarks", Medical Image Analysis 1(3), 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import bending_energy_matrix
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> energies = np.linalg.eigvalsh(bending_energy_matrix(square))
    >>> int((energies > 1e-9).sum())                     # 4 landmarks, less the 3 degrees of freedom of affine maps
    1
    """
    reference = as_shapes(reference, name="reference", n_dims=(2, 3)).astype(np.float64)
    seen = np.ones(reference.shape[:-1], dtype=bool)
    unit, _, size = _normalised(reference, seen, "reference")
    k, d = reference.shape[-2:]
    right = np.zeros((k + d + 1, k))
    right[:k] = np.eye(k)
    inverse = np.linalg.solve(_system(unit, seen, 0.0), np.broadcast_to(right, (*size.shape, k + d + 1, k)))[..., :k, :]
    matrix = inverse / (size ** (2 if d == 2 else 1))[..., None, None]
    return np.asarray(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))


def _normalised(
    source: np.ndarray, seen: np.ndarray, name: str = "source"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the source about its centroid and of size 1, with centroid and size; refuse what spans too little."""
    refuse_extremes_of(source, name)
    d = source.shape[-1]
    count = seen.sum(axis=-1)
    if (count < d + 1).any():
        raise DegenerateShapeError(f"{name}: got {int(count.min())} landmarks seen; expected at least {d + 1}.")
    mask = seen[..., None]
    filled = np.where(mask, source, 0.0)
    centre = filled.sum(axis=-2) / count[..., None]
    offset = np.where(mask, source - centre[..., None, :], 0.0)
    size = np.sqrt((offset**2).sum(axis=(-2, -1)) / count)
    extent = np.linalg.svd(offset, compute_uv=False)
    flat = ~(extent[..., -1] > _SINGULAR * extent[..., 0])  # True for NaN
    if flat.any():
        what = "one line" if d == 2 else "one plane"
        index = tuple(int(i) for i in np.argwhere(np.atleast_1d(flat))[0])
        where = f"[{index[0]}]" if source.ndim > 2 else ""
        raise DegenerateShapeError(f"{name}{where}: the landmarks all lie on {what}, so the map is not determined.")
    unit = offset / size[..., None, None]
    apart = ((unit[..., :, None, :] - unit[..., None, :, :]) ** 2).sum(axis=-1)
    both = seen[..., :, None] & seen[..., None, :] & ~np.eye(source.shape[-2], dtype=bool)
    # Of a source of size 1: apart by no more than its rounding.
    close = both & ~(apart > (64 * np.finfo(np.float64).eps) ** 2)
    if close.any():
        index = tuple(int(i) for i in np.argwhere(close)[0])
        raise DegenerateShapeError(f"{name}: landmarks {index[-2]} and {index[-1]} coincide. Try leaving one out.")
    return unit, centre, size


def _system(unit: np.ndarray, seen: np.ndarray, smoothing: float) -> np.ndarray:
    """Return [[U + smoothing I, P], [Pᵀ, 0]]; a pair left out has a 1 on the diagonal and nothing else."""
    k, d = unit.shape[-2:]
    system = np.zeros((*unit.shape[:-2], k + d + 1, k + d + 1))
    mask = seen.astype(np.float64)
    kernel = _kernel(unit[..., :, None, :] - unit[..., None, :, :])
    system[..., :k, :k] = kernel * (mask[..., :, None] * mask[..., None, :])
    index = np.arange(k)
    system[..., index, index] += np.where(seen, smoothing, 1.0)
    plane = np.concatenate([np.ones_like(unit[..., :1]), unit], axis=-1) * mask[..., None]
    system[..., :k, k:] = plane
    system[..., k:, :k] = np.swapaxes(plane, -1, -2)
    return system


def _kernel(apart: np.ndarray) -> np.ndarray:
    # U(r) = r² ln r in the plane and -r in space, whose energy is then never negative (Bookstein, 1989).
    squared = (apart**2).sum(axis=-1)
    if apart.shape[-1] == 3:
        return np.asarray(-np.sqrt(squared))
    return np.asarray(0.5 * squared * np.log(np.where(squared > 0, squared, 1.0)))


def _kernel_gradient(apart: np.ndarray) -> np.ndarray:
    squared = (apart**2).sum(axis=-1, keepdims=True)
    safe = np.where(squared > 0, squared, 1.0)
    if apart.shape[-1] == 3:
        return -apart / np.sqrt(safe)
    return apart * np.where(squared > 0, np.log(safe) + 1, 0.0)
