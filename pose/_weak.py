"""Pose under weak perspective: scale, rotation and a shift in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models._array import DegenerateShapeError, as_count
from shape_models._brief import brief
from shape_models._options import check_flags, check_numbers
from shape_models._typing import ArrayLike

from ._inputs import check_points, check_weights
from ._pnp import in_chunks
from ._pose import HeadAngles, WeakPerspective
from ._status import STATUS as POSE_STATUS

STATUS = (*POSE_STATUS[:5], "not converged")
_REASONS = {
    1: "got {points} points that are seen; expected at least {needed}.",
    2: "object_points: got points at one place: the rotation has no answer.",
    3: "object_points: got points on one line: the rotation about it has no answer.",
    4: "image_points: got points that all coincide: the scale would be zero.",
}

_View = tuple[np.ndarray, np.ndarray]  # rotation matrices and scales


@brief
@dataclass(frozen=True, eq=False)
class WeakPerspectiveResult:
    """Scaled orthographic view and residuals: the result of `solve_weak_perspective`.

    Parameters
    ----------
    view : WeakPerspective
        NaN in rows without an answer.
    error : float or ndarray of shape (b,)
        Root mean square distance of points and projections, in pixels; inf without an answer.
    second : WeakPerspective or None
        For 2-D images: the view of the same projection with the depth reversed, where the object is flat or nearly so.
        None when there is none (a solid object, 3-D image points); in a batch such rows are NaN.
    second_error : float or ndarray of shape (b,)
        Its error; inf without one.
    n_iter : int or ndarray of shape (b,)
        Steps of the refinement, over both views.
    converged : bool or ndarray of shape (b,)
        Whether `status` is "ok".
    status : str or ndarray of shape (b,)
        "ok" or "not converged"; in a batch also "too few points", "object points coincide", "object points on a
        line", "image points coincide", as `solve_pnp` says it.

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
    n_iter: Any
    converged: Any
    status: Any

    def angles(self, convention: str = "300W-LP") -> HeadAngles:
        """Return yaw, pitch and roll of the view in degrees, see :meth:`Pose.angles`.

        Parameters
        ----------
        convention : str, default="300W-LP"
            A name of :mod:`pose.conventions`.

        Returns
        -------
        HeadAngles
            In degrees, batched like the pose.
        """
        return self.view.angles(convention)


def solve_weak_perspective(
    object_points: ArrayLike,
    image_points: ArrayLike,
    *,
    weights: ArrayLike | None = None,
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
        Three-dimensional points, NaN where missing.
    image_points : array_like of shape (n, 2), (b, n, 2), (n, 3) or (b, n, 3)
        Pixels, x right and y down; z, if given, forward in the same unit.
    weights : array_like of shape (n,) or (b, n), optional
        How much each point counts.
    refine : bool
        False returns the closed form.
    tol : float
        Stop when a step changes the angle and the logarithm of the scale by less.
    max_iter : int
        Most steps of the refinement.

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
    check_flags(refine=refine)
    objects, images, single = check_points(object_points, image_points, (2, 3))
    b, n, dims = images.shape
    w = check_weights(weights, b, n)
    check_numbers(tol=tol, above=True)
    as_count(max_iter, "max_iter")
    from ._orthographic import moments_rows, residual_rows

    moments = tuple(np.zeros((b, *shape)) for shape in ((3,), (dims,), (3, 3), (dims, 3)))
    counts, sizes = np.zeros(b, dtype=np.int64), np.zeros((b, 3))
    in_chunks(lambda i, j: moments_rows(i, j, objects, images, w, *moments, counts, sizes), b)
    values, frames = np.linalg.eigh(moments[2])
    needed = 4 if dims == 2 else 3
    codes = _degenerate(counts, values, sizes, needed)
    if single and codes[0]:
        raise DegenerateShapeError(_REASONS[codes[0]].format(points=counts[0], needed=needed))
    rows = np.flatnonzero(codes == 0)
    centres, middles, scatters, crosses = (moment[rows] for moment in moments)
    steps, done = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=bool)

    def residual(matrices: np.ndarray, scales: np.ndarray, where: np.ndarray) -> np.ndarray:
        squares = np.empty(len(where))
        fixed = (rows[where], objects, images, w, matrices[where], scales[where], centres[where], middles[where])
        in_chunks(lambda i, j: residual_rows(i, j, *fixed, squares), len(where))
        return np.sqrt(squares)

    flat = np.zeros(len(rows), dtype=bool)
    if dims == 3:
        matrices, scales = other = _umeyama(crosses, scatters)
    else:
        flat = values[rows, 0] < 1e-3 * values[rows, 2]  # of squares: too thin to tell which way it is tilted
        views = _closed_form(crosses, values[rows], frames[rows], flat)
        options = (crosses, scatters, float(tol), int(max_iter) if refine else 0, steps)
        (matrices, scales), other, settled = _better_first(views, options, sizes[rows, 0])
        done = settled | (not refine)
    codes[rows[~done]] = 5
    n_iter = _spread(steps, rows, b, 0)
    error = _spread(residual(matrices, scales, np.arange(len(rows))), rows, b, np.inf)
    second_error = _spread(residual(*other, np.flatnonzero(flat)), rows[flat], b, np.inf)
    view = _view(matrices, scales, centres, middles, rows, b)
    second = _view(other[0][flat], other[1][flat], centres[flat], middles[flat], rows[flat], b)
    status = np.array(STATUS)[codes]
    if single:
        errors = float(error[0]), float(second_error[0])
        counted = int(n_iter[0]), bool(codes[0] == 0), str(status[0])
        return WeakPerspectiveResult(view[0], errors[0], second[0] if flat[0] else None, errors[1], *counted)
    return WeakPerspectiveResult(view, error, second, second_error, n_iter, codes == 0, status)


def _degenerate(counts: np.ndarray, values: np.ndarray, sizes: np.ndarray, needed: int) -> np.ndarray:
    """Return 0 for each problem that has an answer, for the others why not, as in `_REASONS`."""
    # Points that differ by rounding alone coincide.
    reasons = [
        counts < needed,
        values[:, 2] <= (1e-12 * sizes[:, 2]) ** 2,
        values[:, 1] <= 1e-10 * values[:, 2],
        sizes[:, 0] <= (1e-12 * sizes[:, 1]) ** 2,
    ]
    return np.select(reasons, [1, 2, 3, 4], 0)


def _better_first(views: list[_View], options: tuple[Any, ...], spread: np.ndarray) -> tuple[_View, _View, np.ndarray]:
    """Refine both depth-reversed views; return the better one, the other, and whether the better one settled."""
    from ._orthographic import refine_rows

    n = len(spread)
    losses, flags = np.empty((2, n)), np.zeros((2, n), dtype=bool)
    one, two = views
    in_chunks(lambda i, j: refine_rows(i, j, *one, *options, flags[0], losses[0]), n)
    in_chunks(lambda i, j: refine_rows(i, j, *two, *options, flags[1], losses[1]), n)
    # Where both depths fit equally well the first one stands, whatever the rounding.
    swap = losses[1] < losses[0] - 1e-12 * spread
    return _where(swap, two, one), _where(swap, one, two), np.where(swap, flags[1], flags[0])


def _spread(values: np.ndarray, rows: np.ndarray, b: int, fill: Any) -> np.ndarray:
    """Return values in the rows of a batch of b, and `fill` in the others."""
    out = np.full((b, *values.shape[1:]), fill, dtype=values.dtype)
    out[rows] = values
    return out


def _view(
    matrices: np.ndarray, scales: np.ndarray, centres: np.ndarray, middles: np.ndarray, rows: np.ndarray, b: int
) -> WeakPerspective:
    shifts = middles[:, :2] - scales[:, None] * np.einsum("bij,bj->bi", matrices[:, :2], centres)
    vectors = Rotation.from_matrix(matrices).as_rotvec() if len(rows) else np.zeros((0, 3))
    scales, vectors, shifts = (_spread(part, rows, b, np.nan) for part in (scales, vectors, shifts))
    return WeakPerspective(scales, Rotation.from_rotvec(vectors), shifts)


def _where(mask: np.ndarray, one: _View, other: _View) -> _View:
    return np.where(mask[:, None, None], one[0], other[0]), np.where(mask, one[1], other[1])


def _umeyama(cross: np.ndarray, scatter: np.ndarray) -> _View:
    u, s, vt = np.linalg.svd(cross)
    signs = np.ones_like(s)
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))
    return (u * signs[:, None]) @ vt, (s * signs).sum(axis=1) / np.trace(scatter, axis1=1, axis2=2)


def _closed_form(cross: np.ndarray, values: np.ndarray, frame: np.ndarray, flat: np.ndarray) -> list[_View]:
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
        a, b = np.moveaxis(np.einsum("bij,bkj->bik", rows, frame), 1, 0)
        unit = np.maximum(np.abs(a).max(1), np.abs(b).max(1))
        a, b = a / unit[:, None], b / unit[:, None]
        normal = np.cross(a, b)
        size = np.sqrt((normal**2).sum(1))
        # Rows on one line (a flat object seen from its edge) have no normal of their own: any across them will do.
        longer = np.where(((a**2).sum(1) >= (b**2).sum(1))[:, None], a, b)
        thin = size <= 1e-12 * (longer**2).sum(1)
        across = np.cross(longer, np.eye(3)[np.abs(longer).argmin(1)])
        normal = np.where(thin[:, None], across, normal)
        normal /= np.sqrt((normal**2).sum(1))[:, None]
        # The nearest orthonormal rows are those of A plus its cofactors, as in the plane.
        top = np.stack([a + np.cross(b, normal), b + np.cross(normal, a)], axis=1)
        length = np.sqrt((top[:, 0] ** 2).sum(1))
        out.append((np.concatenate([top / length[:, None, None], normal[:, None]], axis=1), unit * length / 2))
    return out
