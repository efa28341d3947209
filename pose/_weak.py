"""Pose under weak perspective: scale, rotation and a shift in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models._array import DegenerateShapeError, as_shapes, as_weights

from ._pose import HeadAngles, WeakPerspective

__all__ = ["WeakPerspectiveResult", "solve_weak_perspective"]

STATUS = ("ok", "too few points", "object points on a line", "image points coincide", "not converged")


@dataclass(frozen=True, eq=False)
class WeakPerspectiveResult:
    """What `solve_weak_perspective` found.

    Parameters
    ----------
    view : WeakPerspective
        NaN in rows without an answer.
    error : float or ndarray of shape (b,)
        Root mean square distance of points and projections, in pixels; inf without an answer.
    second : WeakPerspective or None
        For 2-D images: the view of the same projection with the depth reversed, where the object is flat or nearly so;
        None when it is solid. For 3-D image points always None.
    second_error : float or ndarray of shape (b,)
        Its error; inf without one.
    n_iter : int
        Steps of the refinement.
    converged : bool or ndarray of shape (b,)
        Whether `status` is "ok".
    status : str or ndarray of shape (b,)
        "ok" or "not converged"; in a batch also "too few points", "object points on a line" (or at one place),
        "image points coincide".

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.spatial.transform import Rotation
    >>> from pose import WeakPerspective, solve_weak_perspective
    >>> points = np.random.default_rng(0).normal(size=(6, 3))
    >>> view = WeakPerspective(3.0, Rotation.from_rotvec([0.1, 0.2, 0.3]), [5.0, 6.0])
    >>> solve_weak_perspective(points, view(points)).view.rotation.as_rotvec().round(6)
    array([0.1, 0.2, 0.3])
    """

    view: WeakPerspective
    error: Any
    second: WeakPerspective | None
    second_error: Any
    n_iter: int
    converged: Any
    status: Any

    def angles(self, convention: str = "300W-LP") -> HeadAngles:
        """Return yaw, pitch and roll of the view in degrees, see :meth:`Pose.angles`."""
        return self.view.angles(convention)


def solve_weak_perspective(
    object_points: Any,
    image_points: Any,
    *,
    weights: Any = None,
    refine: bool = True,
    tol: float = 1e-12,
    max_iter: int = 100,
) -> WeakPerspectiveResult:
    """Find the scaled orthographic view x = s (R X)_xy + t nearest to image points.

    The closed form fits an affine view by least squares and takes the nearest rows of equal length at right angles:
    exact without noise. With `refine`, Levenberg-Marquardt on s and R then minimises the image error itself. Three
    dimensional image points, such as landmarks with depth in pixels, have a closed form that is already the optimum
    (Umeyama).

    Parameters
    ----------
    object_points : array_like of shape (n, 3) or (b, n, 3)
    image_points : array_like of shape (n, 2), (b, n, 2), (n, 3) or (b, n, 3)
        Pixels, x right and y down; z, if given, forward in the same unit.
    weights : array_like of shape (n,) or (b, n), optional
    refine : bool
        False returns the closed form.
    tol : float
        Stop when a step changes the angle and the logarithm of the scale by less.
    max_iter : int

    Returns
    -------
    WeakPerspectiveResult

    Raises
    ------
    ValueError
        For wrong shapes and values; NaN marks missing points.
    DegenerateShapeError
        For a single problem with fewer than four points (three with depth), points on a line, coincident image points.
        In a batch such rows have `converged` False and their reason in `status`, and the others are solved.

    Notes
    -----
    Scale and size cannot be told apart: an object k times as large gives the same view with s / k.

    References
    ----------
    S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI 13 (1991).

    Examples
    --------
    >>> from pose import WeakPerspective, conventions, solve_weak_perspective
    >>> from pose.reference import HEAD_IBUG68
    >>> view = WeakPerspective(1.5, conventions.read([-40.0, 5.0, 10.0], "HopeNet"), [112.0, 100.0])
    >>> print(solve_weak_perspective(HEAD_IBUG68, view(HEAD_IBUG68)).angles())
    yaw -40.0, pitch 5.0, roll 10.0 degrees (300W-LP)
    """
    objects = as_shapes(object_points, name="object_points", n_dims=3, allow_nan=True).astype(np.float64)
    images = as_shapes(image_points, name="image_points", n_dims=(2, 3), allow_nan=True).astype(np.float64)
    if objects.shape[-2] != images.shape[-2]:
        raise ValueError(
            f"got {objects.shape[-2]} object points and {images.shape[-2]} image points; expected the same number."
        )
    if objects.ndim > 3 or images.ndim > 3:
        raise ValueError("got more than one leading dimension; expected at most one. Try reshape(-1, n, 2).")
    single = objects.ndim == 2 and images.ndim == 2
    b = len(images) if images.ndim == 3 else len(objects) if objects.ndim == 3 else 1
    n = objects.shape[-2]
    if not n:
        raise DegenerateShapeError("got 0 points; expected at least 4, or 3 with depth.")
    if objects.ndim == 3 and len(objects) not in (1, b):
        raise ValueError(f"got {len(objects)} sets of object points and {b} of image points.")
    objects, images = np.broadcast_to(objects, (b, n, 3)), np.broadcast_to(images, (b, n, images.shape[-1]))
    w = np.ones((b, n)) if weights is None else np.array(as_weights(weights, (b, n)))
    seen = np.isfinite(objects).all(-1) & np.isfinite(images).all(-1) & (w > 0)
    w = np.where(seen, w, 0.0)
    if not tol > 0 or max_iter < 1:
        raise ValueError(f"got tol={tol}, max_iter={max_iter}; expected tol > 0 and max_iter >= 1.")
    needed = 4 if images.shape[-1] == 2 else 3
    codes = np.where(seen.sum(axis=1) < needed, 1, 0)
    w = w / np.where(codes == 0, w.sum(axis=1), 1.0)[:, None]
    objects, images = (np.where(seen[..., None], a, 0.0) for a in (objects, images))
    centre, middle = (np.einsum("bn,bni->bi", w, a) for a in (objects, images))
    X, x = (np.where(seen[..., None], a - m[:, None], 0.0) for a, m in ((objects, centre), (images, middle)))
    scatter = np.einsum("bn,bni,bnj->bij", w, X, X)
    values, frame = np.linalg.eigh(scatter)
    codes[(codes == 0) & (values[:, 1] <= 1e-10 * values[:, 2])] = 2
    extent = [np.abs(np.where(seen, a, 0.0)).max(axis=1, initial=0.0) for a in (images[..., 0], images[..., 1])]
    coincide = np.einsum("bn,bni->b", w, x**2) <= (1e-12 * np.maximum(*extent)) ** 2
    codes[(codes == 0) & coincide] = 3
    if single and codes[0]:
        raise DegenerateShapeError(
            (
                f"got {seen[0].sum()} points that are seen; expected at least {needed}.",
                "object_points: got points on one line or at one place: the rotation has no answer.",
                "image_points: got points that all coincide: the scale would be zero.",
            )[codes[0] - 1]
        )
    if codes.any():
        rows = np.flatnonzero(codes == 0)
        found = solve_weak_perspective(
            objects[rows], images[rows], weights=w[rows], refine=refine, tol=tol, max_iter=max_iter
        )
        return _with_gaps(found, rows, codes)
    cross = np.einsum("bn,bni,bnj->bij", w, x, X)
    n_iter, converged = 0, np.ones(b, dtype=bool)
    second: tuple[np.ndarray, np.ndarray] | None = None
    flat = np.zeros(b, dtype=bool)
    if x.shape[-1] == 3:
        matrix, scale = _umeyama(cross, scatter)
    else:
        flat = values[:, 0] < 1e-3 * values[:, 2]
        starts = _closed_form(cross, values, frame, flat)
        ends: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for matrix, scale in starts:
            if refine:
                matrix, scale, steps, done = _refine(matrix, scale, cross, scatter, tol, max_iter)
                n_iter, converged = n_iter + steps, converged & (done | (len(ends) > 0))
            ends.append((matrix, scale, _square(matrix, scale, x, X, w)))
        first, other = ends
        swap = other[2] < first[2] * (1 - 1e-12)
        matrix, scale = (np.where(_like(swap, f), o, f) for f, o in zip(first[:2], other[:2], strict=True))
        second = tuple(np.where(_like(swap, f), f, o) for f, o in zip(first[:2], other[:2], strict=True))  # type: ignore[assignment]
    error = np.sqrt(_square(matrix, scale, x, X, w))
    view = _view(matrix, scale, centre, middle, single)
    second_error = np.full(b, np.inf)
    other_view = None
    if second is not None and flat.any():
        second_error = np.where(flat, np.sqrt(_square(*second, x, X, w)), np.inf)
        other_view = _view(*second, centre, middle, single)
    codes[~converged] = 4
    if single:
        return WeakPerspectiveResult(
            view, float(error[0]), other_view, float(second_error[0]), n_iter, bool(converged[0]), STATUS[codes[0]]
        )
    return WeakPerspectiveResult(view, error, other_view, second_error, n_iter, codes == 0, np.array(STATUS)[codes])


def _with_gaps(found: WeakPerspectiveResult, rows: np.ndarray, codes: np.ndarray) -> WeakPerspectiveResult:
    """Return the answers of some rows in their places, NaN and inf in the others."""

    def spread(values: np.ndarray, fill: Any) -> np.ndarray:
        out = np.full((len(codes), *values.shape[1:]), fill, dtype=values.dtype)
        out[rows] = values
        return out

    def view(part: WeakPerspective | None) -> WeakPerspective | None:
        if part is None:
            return None
        turns = Rotation.from_rotvec(spread(part.rotation.as_rotvec().reshape(-1, 3), np.nan))
        return WeakPerspective(spread(np.asarray(part.scale), np.nan), turns, spread(part.translation, np.nan))

    first = view(found.view)
    assert first is not None
    status = np.array(STATUS)[codes]
    status[rows] = found.status
    return WeakPerspectiveResult(
        first,
        spread(found.error, np.inf),
        view(found.second),
        spread(found.second_error, np.inf),
        found.n_iter,
        status == "ok",
        status,
    )


def _like(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *(1,) * (array.ndim - 1))


def _view(
    matrix: np.ndarray, scale: np.ndarray, centre: np.ndarray, middle: np.ndarray, single: bool
) -> WeakPerspective:
    shift = middle[:, :2] - scale[:, None] * np.einsum("bij,bj->bi", matrix[:, :2], centre)
    if single:
        return WeakPerspective(float(scale[0]), Rotation.from_matrix(matrix[0]), shift[0])
    return WeakPerspective(scale, Rotation.from_matrix(matrix), shift)


def _square(matrix: np.ndarray, scale: np.ndarray, x: np.ndarray, X: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted mean squared residual."""
    rows = scale[:, None, None] * matrix[:, : x.shape[-1]]
    return np.einsum("bn,bni->b", w, (X @ np.swapaxes(rows, 1, 2) - x) ** 2)


def _umeyama(cross: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, s, vt = np.linalg.svd(cross)
    signs = np.ones_like(s)
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))
    return (u * signs[:, None]) @ vt, (s * signs).sum(axis=1) / np.trace(scatter, axis1=1, axis2=2)


def _closed_form(
    cross: np.ndarray, values: np.ndarray, frame: np.ndarray, flat: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return both depth-reversed views of the affine fit; the second is a minimum only for flat objects."""
    # Affine rows in the principal frame of the object, ascending: axis 0 is the thin one.
    affine = np.einsum("bij,bjk->bik", cross, frame) / np.maximum(values, 1e-300)[:, None]
    alpha, beta = affine[:, 0].copy(), affine[:, 1].copy()
    # A flat object leaves (α0, β0) open: (α0 + i β0)^2 = |β|^2 - |α|^2 - 2 i α·β makes rows of one length, orthogonal.
    depth = np.sqrt(
        (beta[:, 1:] ** 2).sum(1) - (alpha[:, 1:] ** 2).sum(1) - 2j * (alpha[:, 1:] * beta[:, 1:]).sum(1) + 0j
    )
    alpha[:, 0] = np.where(flat, depth.real, alpha[:, 0])
    beta[:, 0] = np.where(flat, depth.imag, beta[:, 0])
    out = []
    for sign in (1.0, -1.0):
        rows = np.stack([alpha, beta], axis=1) * np.where(np.arange(3) == 0, sign, 1.0)
        rows = np.einsum("bij,bkj->bik", rows, frame)
        u, s, vt = np.linalg.svd(rows, full_matrices=False)
        top = u @ vt  # the nearest pair of orthonormal rows
        out.append((np.concatenate([top, np.cross(top[:, :1], top[:, 1:])], axis=1), s.mean(axis=1)))
    return out


def _refine(
    matrix: np.ndarray, scale: np.ndarray, cross: np.ndarray, scatter: np.ndarray, tol: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Levenberg-Marquardt on (ω, log s) of Σ w |s (exp(ω) R X)_xy - x|^2, which needs only the second moments."""
    matrix, scale = matrix.copy(), scale.copy()
    damping = np.full(len(scale), 1e-9)
    done = np.zeros(len(scale), dtype=bool)

    def loss(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # Up to the constant Σ w |x|^2: s^2 tr(P R S R' P') - 2 s tr(P R C').
        top = matrix[:, :2]
        return scale**2 * np.einsum("bij,bjk,bik->b", top, scatter, top) - 2 * scale * np.einsum(
            "bij,bij->b", top, cross
        )

    value = loss(matrix, scale)
    count = 0
    while count < max_iter:
        count += 1
        moment = matrix @ scatter @ np.swapaxes(matrix, 1, 2)  # Σ w Y Y' with Y = R X
        mixed = cross @ np.swapaxes(matrix, 1, 2)  # Σ w x Y'
        # Rows of the Jacobian of Y_x, Y_y by (ωx, ωy, ωz, log s), linear in Y: K[i] @ Y.
        K = np.zeros((2, 4, 3))
        K[0, 1, 2], K[0, 2, 1], K[0, 3, 0] = 1.0, -1.0, 1.0
        K[1, 0, 2], K[1, 2, 0], K[1, 3, 1] = -1.0, 1.0, 1.0
        hessian = scale[:, None, None] ** 2 * np.einsum("ipj,bjk,iqk->bpq", K, moment, K)
        gradient = scale[:, None] ** 2 * np.einsum("ipj,bji->bp", K, moment[:, :, :2]) - scale[:, None] * np.einsum(
            "ipj,bij->bp", K, mixed
        )
        diagonal = np.einsum("bpp->bp", hessian)
        size = diagonal.max(axis=1, keepdims=True)
        damped = hessian + np.einsum("bp,pq->bpq", damping[:, None] * np.maximum(diagonal, 1e-12 * size), np.eye(4))
        step = -np.linalg.solve(damped, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, 1.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        trial = Rotation.from_rotvec(step[:, :3]).as_matrix() @ matrix
        trial_scale = scale * np.exp(step[:, 3])
        new = loss(trial, trial_scale)
        small = np.abs(step).max(axis=1) < 1e-7
        better = ((new <= value) | small) & ~done
        matrix[better], scale[better], value[better] = trial[better], trial_scale[better], new[better]
        damping = np.where(better, damping * 0.1, damping * 10)
        done |= np.abs(step).max(axis=1) < tol
        # A flat object seen straight on: tilts change nothing to first order, and steps do not shrink.
        done |= np.abs(gradient).max(axis=1) <= 1e-14 * size[:, 0]
        done |= ~better & (damping > 1e12)
        if done.all():
            break
    return matrix, scale, count, done
