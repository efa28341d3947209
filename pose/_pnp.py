"""Perspective from n points: one problem or thousands, by one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models._array import DegenerateShapeError, as_count
from shape_models._brief import brief
from shape_models._options import check_choice, check_numbers, usable_processors
from shape_models._typing import ArrayLike

from ._camera import Camera
from ._inputs import check_points, check_weights
from ._pose import HeadAngles, Pose
from ._status import ROW, STATUS, Status
from .conventions import with_gaps

_REASONS = {
    Status.TOO_FEW: "got {points} points that are seen; expected at least {needed}.",
    Status.COINCIDENT: "got object points that all coincide: no pose follows from them.",
    Status.COLLINEAR: "got object points on one line: the rotation about it has no answer.",
    Status.IMAGE_COINCIDENT: "got image points that all coincide: the object is infinitely far away.",
    Status.BEHIND: "found no pose with all points in front of the camera: check the order and the frame (x right, y "
    "down, z forward) of the object points.",
    Status.TOO_FEW_PLACES: "got points that are seen at fewer than {needed} places of the object: several poses "
    "explain them equally well.",
}
_WORDS = np.array(STATUS)
_LOSSES = {"linear": 0, "huber": 1, "cauchy": 2}
_PARALLEL_FROM = 64  # rows, from which threads pay for their start


class _Views(NamedTuple):
    """What is seen, and of what: rows of one are the same in every view."""

    objects: np.ndarray
    images: np.ndarray
    weights: np.ndarray
    cameras: np.ndarray


class _Options(NamedTuple):
    """What `solve_rows` takes beside the data, in its order."""

    distorted: bool
    loss: int
    loss_scale: float
    n_parameters: int  # 6 for a pose, 7 with the focal length
    tol: float
    max_iter: int
    noise: float  # negative: estimated from the residuals


class _Solved(NamedTuple):
    """What `solve_rows` writes, in its order; the second pose is the other minimum."""

    quaternions: np.ndarray
    translations: np.ndarray
    second_quaternions: np.ndarray
    second_translations: np.ndarray
    rows: np.ndarray  # records of type ROW
    covariances: np.ndarray
    residuals: np.ndarray


@brief
@dataclass(frozen=True, eq=False)
class PnPResult:
    """Pose, residuals and covariance: the result of `solve_pnp`; for a batch, every field has b entries.

    Parameters
    ----------
    pose : Pose
        Object to camera. NaN in rows without an answer.
    reprojection_error : float or ndarray of shape (b,)
        Root mean square of the distances between points and their projections, in pixels; inf without an answer.
    residuals : ndarray of shape (n, 2) or (b, n, 2)
        Projection minus image point, in pixels; NaN for points that were not used.
    covariance : ndarray of shape (6, 6) or (b, 6, 6)
        Of (ω, δt), where the true pose is (exp(ω) R, t + δt): ω in radians about the axes of the camera, δt in object
        units.
    n_iter : int or ndarray of shape (b,)
        Steps of Levenberg-Marquardt, over all candidate poses.
    converged : bool or ndarray of shape (b,)
        Whether `status` is "ok".
    status : str or ndarray of shape (b,)
        "ok"; or why not: "not converged"; "poor fit" (the weighted error is above a quarter of the RMS size of the
        target in the image, as with wrong correspondences); "mirrored" (the reflected object fits at least three times
        better: left and right, or a sign of an axis, are wrong); "ill-conditioned" (the points do not determine the
        pose; the covariance is infinite); and in a batch also "too few points", "too few places" (points that repeat
        others do not count), "object points coincide", "object points on a line", "image points coincide", "no pose in
        front of the camera".
    second : Pose or None
        The next best local minimum with all points in front of the camera. None when there is none near; in a batch
        such rows are NaN.
    second_error : float or ndarray of shape (b,)
        Its reprojection error; inf when there is none.
    ambiguity : float or ndarray of shape (b,)
        `reprojection_error / second_error`, from 0 (no rival) to 1 (both poses explain the image equally well). Errors
        below 1e-9 of the RMS size of the target in the image, which are rounding, count as that much.
    camera : Camera
        The camera used, with the estimated focal length where that was asked for.
    focal_length_std : float or ndarray of shape (b,)
        Standard deviation of an estimated focal length, in pixels; 0 when it was known.

    Examples
    --------
    >>> import numpy as np
    >>> from pose import Camera, Pose, project_points, solve_pnp
    >>> corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=float)
    >>> camera = Camera.from_image_size((640, 480))
    >>> result = solve_pnp(corners, project_points(corners, Pose.identity([0, 0, 10]), camera), camera)
    >>> result.converged, bool(np.allclose(result.pose.translation, [0, 0, 10]))
    (True, True)
    """

    pose: Pose
    reprojection_error: Any
    residuals: np.ndarray
    covariance: np.ndarray
    n_iter: Any
    converged: Any
    status: Any
    second: Pose | None
    second_error: Any
    ambiguity: Any
    camera: Camera
    focal_length_std: Any

    def angles(self, convention: str = "300W-LP") -> HeadAngles:
        """Return yaw, pitch and roll of the pose in degrees, see :meth:`Pose.angles`.

        Parameters
        ----------
        convention : str, default="300W-LP"
            A name of :mod:`pose.conventions`.

        Returns
        -------
        HeadAngles
            In degrees, batched like the pose.
        """
        return self.pose.angles(convention)


def solve_pnp(
    object_points: ArrayLike,
    image_points: ArrayLike,
    camera: Camera,
    *,
    initial_pose: Pose | None = None,
    weights: ArrayLike | None = None,
    loss: str = "linear",
    loss_scale: float = 2.0,
    focal: str = "known",
    noise: float | None = None,
    tol: float = 1e-10,
    max_iter: int = 100,
) -> PnPResult:
    """Find the pose of an object from its points in an image: the R and t of least reprojection error.

    Minimises Σ w ρ(‖x - project(K, R X + t)‖²) over rotations and translations with all points in front of the
    camera. The start is global: the minima of the object-space error, a quadratic form in the entries of R [1]_, are
    found by Newton's method on the rotations from the scaled-orthographic pose and its depth reversal [2]_, and from 24
    rotations spread over the sphere where the object is deep, the points few or the fit poor. The best are refined by
    Levenberg-Marquardt with the analytic Jacobian. No start is random.

    Parameters
    ----------
    object_points : array_like of shape (n, 3) or (b, n, 3)
        At least four points that are not on one line; (n, 3) is shared by a batch. NaN: missing.
    image_points : array_like of shape (n, 2) or (b, n, 2)
        Pixels, pixel centres at integers. NaN: missing.
    camera : Camera
        One for all, or one for each view.
    initial_pose : Pose, optional
        Refine this pose instead of searching; no second pose is then looked for.
    weights : array_like of shape (n,) or (b, n), optional
        Not negative: inverse variances up to a common factor. 0 leaves a point out.
    loss : {"linear", "huber", "cauchy"}
        ρ(r²): r²; r² up to `loss_scale` and linear beyond; c² log(1 + r²/c²).
    loss_scale : float
        The scale c of ρ, in pixels.
    focal : {"known", "estimate"}
        "estimate" finds the focal length too, from at least five points; the ratio fx / fy is kept and the camera's
        focal length only serves as one of the starts. It is determined only where the perspective is strong: read
        `focal_length_std`.
    noise : float, optional
        Standard deviation of an image coordinate in pixels, for the covariance. None estimates it from the residuals.
    tol : float
        Stop when a step turns by less (radians) and moves by less (relative to the distance).
    max_iter : int
        Largest number of steps for each candidate.

    Returns
    -------
    PnPResult

    Raises
    ------
    ValueError
        For wrong shapes, different numbers of points, infinite coordinates, options that do not exist.
    DegenerateShapeError
        For a single problem without an answer: fewer than four different points that are seen, points that coincide or
        lie on a line, no pose in front of the camera. In a batch such rows have `converged` False and their reason in
        `status`, and the others are solved.

    Notes
    -----
    Batches and single problems run through the same compiled function; large batches are split over threads. The
    first call in a fresh installation compiles for some seconds, then the code is cached.

    References
    ----------
    .. [1] G. Terzakis, M. Lourakis, A consistently fast and globally optimal solution to the perspective-n-point
       problem, ECCV 2020.
    .. [2] D. Oberkampf, D. DeMenthon, L. Davis, Iterative pose estimation using coplanar feature points, CVIU 63
       (1996).

    Examples
    --------
    >>> import numpy as np
    >>> from pose import Camera, Pose, conventions, project_points, solve_pnp
    >>> box = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    >>> pose = Pose(conventions.read([10.0, 30.0, 5.0], "6DRepNet"), [0.5, 0.0, 12.0])
    >>> camera = Camera.from_fov((640, 480), degrees=50)
    >>> pixels = project_points(box, pose, camera)
    >>> result = solve_pnp(box, pixels, camera)
    >>> print(result.angles("6DRepNet"))
    yaw 30.0, pitch 10.0, roll 5.0 degrees (6DRepNet)
    >>> solve_pnp(box, np.stack([pixels, pixels + 3.0]), camera).converged
    array([ True,  True])
    """
    objects, images, single = check_points(object_points, image_points)
    b, n = images.shape[:2]
    weights = check_weights(weights, b, n)
    cameras, distorted = pack_cameras(camera, b)
    views = _Views(objects, images, weights, cameras)
    check_choice(_LOSSES, loss=loss)
    check_choice(("known", "estimate"), focal=focal)
    if noise is not None:
        check_numbers(noise=noise)
    check_numbers(tol=tol, loss_scale=loss_scale, above=True)
    as_count(max_iter, "max_iter")
    starts = np.full((1, 4, 3), np.nan) if initial_pose is None else _pack_pose(initial_pose, b)
    spread = -1.0 if noise is None else float(noise)
    options = _Options(distorted, _LOSSES[loss], float(loss_scale), 6, float(tol), int(max_iter), spread)
    if focal == "known":
        solved = _run(views, options, starts)
        _flag_mirrored(solved, views, options)
    else:
        solved = _search_focal(views, options, starts)
    return _result(solved, images, camera, cameras, single, focal == "estimate")


def pack_cameras(camera: Camera, b: int) -> tuple[np.ndarray, bool]:
    if not isinstance(camera, Camera):
        raise TypeError(
            f"camera: got {type(camera).__name__}; expected a Camera. Try Camera.from_matrix(K) or "
            "Camera.from_image_size((width, height))."
        )
    shape = camera.batch_shape
    if shape not in {(), (1,), (b,)}:
        raise ValueError(f"camera: got cameras of shape {shape}; expected one, or one for each of {b} views.")
    packed = np.zeros((*shape, 9))
    packed[..., :2] = camera.focal_length
    packed[..., 2:4] = camera.principal_point
    if camera.distortion is not None:
        packed[..., 4:] = camera.distortion
    return packed.reshape(-1, 9), bool((packed[..., 4:] != 0).any())


def _pack_pose(pose: Pose, b: int) -> np.ndarray:
    if not isinstance(pose, Pose):
        raise TypeError(f"initial_pose: got {type(pose).__name__}; expected a Pose.")
    if not pose.single and len(pose) != b:
        raise ValueError(f"initial_pose: got {len(pose)} poses; expected one, or one for each of {b} views.")
    matrix = pose.as_matrix()
    if not np.isfinite(matrix).all():
        raise ValueError("initial_pose: got NaN; expected a finite pose.")
    matrix = matrix.reshape(-1, 4, 4)
    return np.ascontiguousarray(np.concatenate([matrix[:, :3, :3], matrix[:, None, :3, 3]], axis=1))


def _run(views: _Views, options: _Options, starts: np.ndarray) -> _Solved:
    from ._kernels import solve_rows

    b, n = views.images.shape[:2]
    poses = [np.empty((b, k)) for k in (4, 3, 4, 3)]
    out = _Solved._make([*poses, np.empty(b, dtype=ROW), np.empty((b, 6, 6)), np.empty((b, n, 2))])
    arguments = (*views, *options, starts, *out)
    in_chunks(lambda first, last: solve_rows(first, last, *arguments), b)
    return out


def in_chunks(run: Callable[[int, int], None], b: int) -> None:
    """Call run(first, last) on parts of range(b), in threads when that pays; compiled code releases the lock."""
    threads = min(usable_processors(), b // (_PARALLEL_FROM // 2)) if b >= _PARALLEL_FROM else 1
    if threads <= 1:
        run(0, b)
        return
    # Several chunks for each thread, since hard rows take longer than easy ones.
    edges = [int(edge) for edge in np.linspace(0, b, min(8 * threads, b) + 1)]
    run(0, edges[1])  # alone: the first call may compile, which threads must not do together
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, i, j) for i, j in pairwise(edges[1:])]:
            future.result()


def _flag_mirrored(solved: _Solved, views: _Views, options: _Options) -> None:
    """Fit the reflected object where the fit is not close, and change the status of rows that it fits far better.

    A mirrored view of a distant object is a view of the same object from elsewhere: only the perspective tells.
    """
    found = solved.rows
    # The compiled code has tried the reflection in the view itself; these rows deserve a fit.
    rows = np.flatnonzero(np.isin(found["status"], (Status.OK, Status.POOR_FIT)) & found["reversible"])
    if not len(rows):
        return
    chosen = _Views(*(array[rows] if len(array) > 1 else array for array in views))
    reflected = chosen._replace(objects=chosen.objects * (-1.0, 1.0, 1.0))
    other = _run(reflected, options, np.full((1, 4, 3), np.nan)).rows
    # Three times less error, in pixels: noise alone does not tell an object from its mirror image that clearly.
    better = (other["status"] == Status.OK) & (other["rms"] < found["rms"][rows] / 3)
    found["status"][rows[better]] = Status.MIRRORED


def _search_focal(views: _Views, options: _Options, starts: np.ndarray) -> _Solved:
    """Solve from several focal lengths with the focal length free, and keep the best of each row."""
    best: _Solved | None = None
    free = options._replace(n_parameters=7)
    # In ratios of 1.5 to 2, from wide angle to telephoto: the true one is within reach of a start.
    for factor in (1.0, 0.4, 0.65, 1.6, 2.6, 5.0):
        scaled = views.cameras.copy()
        scaled[:, :2] *= factor
        solved = _run(views._replace(cameras=scaled), free, starts)
        if best is None:
            best = solved
            continue
        # Accept another start only where it is better by more than rounding, so that the order does not matter.
        now, before = solved.rows, best.rows
        lower = now["rms"] < before["rms"] * (1 - 1e-9)
        better = (now["status"] == Status.OK) & ((before["status"] != Status.OK) | lower)
        for mine, other in zip(best, solved, strict=True):
            mine[better] = other[better]
    assert best is not None
    return best


def error_ratio(error: np.ndarray, second_error: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the ratio of two errors; of errors that are mere rounding it says nothing."""
    ambiguity = np.zeros(len(error))
    rows = np.flatnonzero(np.isfinite(second_error))
    if len(rows):
        seen = np.isfinite(images[rows])
        middle = np.nanmean(images[rows], axis=1, keepdims=True)
        square = np.where(seen, images[rows] - middle, 0.0) ** 2
        # Below a billionth of the size in the image both errors are rounding, and their ratio is chance.
        floor = 1e-9 * np.sqrt(2.0 * square.sum(axis=(1, 2)) / seen.sum(axis=(1, 2)))
        first, second = np.maximum(error[rows], floor), np.maximum(second_error[rows], floor)
        ambiguity[rows] = np.minimum(first / second, 1.0)
    return ambiguity


def as_rotations(quaternions: np.ndarray) -> Rotation:
    """Return a Rotation of unit quaternions in which rows of NaN are kept."""
    bad = ~np.isfinite(quaternions).all(axis=-1)
    return with_gaps(Rotation.from_quat(np.where(bad[:, None], [0.0, 0.0, 0.0, 1.0], quaternions)), bad)


def _result(
    solved: _Solved, images: np.ndarray, camera: Camera, cameras: np.ndarray, single: bool, estimated: bool
) -> PnPResult:
    rows = solved.rows
    codes = rows["status"]
    if single and codes[0] in _REASONS:
        needed = 5 if estimated else 4
        raise DegenerateShapeError(_REASONS[codes[0]].format(points=int(rows["n_points"][0]), needed=needed))
    if estimated:
        ratio = cameras[:, 1] / cameras[:, 0]
        focal = np.stack([rows["focal"], rows["focal"] * ratio], axis=-1)
        camera = Camera(focal[0] if single else focal, camera.principal_point, camera.distortion)
    values = {
        "reprojection_error": rows["rms"].copy(),
        "residuals": solved.residuals,
        "covariance": solved.covariances,
        "n_iter": rows["n_iter"].copy(),
        "converged": codes == Status.OK,
        "status": _WORDS[codes],
        "second_error": rows["second_rms"].copy(),
        "ambiguity": error_ratio(rows["rms"], rows["second_rms"], images),
        "focal_length_std": rows["focal_std"].copy(),
    }
    pose = _pose(solved.quaternions, solved.translations, single)
    second = _pose(solved.second_quaternions, solved.second_translations, single)
    return PnPResult(pose=pose, second=second, camera=camera, **(first_row(values) if single else values))


def _pose(quaternions: np.ndarray, translations: np.ndarray, single: bool) -> Any:
    """Return the poses, or the only one, None where there is none."""
    if not single:
        return Pose(as_rotations(quaternions), translations)
    return Pose(Rotation.from_quat(quaternions[0]), translations[0]) if np.isfinite(translations[0, 0]) else None


def first_row(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a result for its only view: plain numbers, and no second pose where none was found."""
    firsts: dict[str, Any] = {}
    for name, value in values.items():
        numbers = isinstance(value, np.ndarray) and value.ndim == 1
        firsts[name] = value.item(0) if numbers else value if isinstance(value, Camera) else value[0]
    if "second" in firsts and not np.isfinite(firsts["second_error"]):
        firsts["second"] = None
    return firsts
