"""PnP where some correspondences are wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import gammaln

from shape_models._array import DegenerateShapeError, as_count
from shape_models._brief import brief
from shape_models._options import as_generator, as_probability, check_numbers
from shape_models._typing import ArrayLike, Seed

from ._camera import Camera
from ._inputs import check_points
from ._pnp import PnPResult, first_row, pack_cameras, solve_pnp
from ._pose import Pose  # noqa: F401, the types of inherited fields are looked up here


@brief
@dataclass(frozen=True, eq=False)
class RansacResult(PnPResult):
    """Pose and inliers: the result of `solve_pnp_ransac`.

    Parameters
    ----------
    inliers : ndarray of bool of shape (n,) or (b, n)
        Points within `threshold` of their projection.
    n_trials : int or ndarray of shape (b,)
        Samples drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from pose import Camera, Pose, project_points, solve_pnp_ransac
    >>> from pose.reference import HEAD_IBUG68
    >>> camera = Camera.from_image_size((640, 480))
    >>> pixels = project_points(HEAD_IBUG68, Pose.identity([0, 0, 600]), camera)
    >>> pixels[:10] += 80.0
    >>> solve_pnp_ransac(HEAD_IBUG68, pixels, camera).inliers[:12].astype(int).tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """

    inliers: np.ndarray
    n_trials: Any


def solve_pnp_ransac(
    object_points: ArrayLike,
    image_points: ArrayLike,
    camera: Camera,
    *,
    threshold: float = 5.0,
    confidence: float = 0.9999,
    max_trials: int = 1000,
    rng: Seed | None = 0,
) -> RansacResult:
    """Find the pose that most points agree with, then solve PnP for these.

    Draws three points at a time, scores each pose that fits them by the squared errors of all points, truncated at
    the threshold (MSAC) [1]_, refines every new best on its inliers [2]_, and stops when a sample without outliers was
    drawn with the stated confidence. `solve_pnp` on the inliers follows, gathers the inliers of its pose, and solves
    for these.

    Parameters
    ----------
    object_points : array_like of shape (n_points, 3) or (b, n_points, 3)
        In the frame and unit of the object.
    image_points : array_like of shape (n_points, 2) or (b, n_points, 2)
        Pixels; NaN where missing.
    camera : Camera
        As for `solve_pnp`.
    threshold : float
        Pixels within which a point counts as an inlier: some four standard deviations of the noise.
    confidence : float
        Between 0 and 1.
    max_trials : int
        Most samples.
    rng : int, numpy.random.Generator or None
        The same number draws the same samples, for every row of a batch as for a single problem; None draws others
        at every call.

    Returns
    -------
    RansacResult
        Not converged, with status "no consensus", where points scattered at random over the image would agree as well:
        where the expected number of poses with so many inliers among random points is one or more [3]_. In a batch
        also where fewer than four points agree.

    Raises
    ------
    ValueError
        As `solve_pnp`, and for thresholds, confidences and counts out of range.
    DegenerateShapeError
        For a single problem in which no pose has four inliers.

    References
    ----------
    .. [1] P. Torr, A. Zisserman, MLESAC: a new robust estimator with application to estimating image geometry, CVIU 78
       (2000).
    .. [2] O. Chum, J. Matas, J. Kittler, Locally optimized RANSAC, DAGM 2003.
    .. [3] L. Moisan, B. Stival, A probabilistic criterion to detect rigid point matches between two images and
       estimate the fundamental matrix, IJCV 57 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> from pose import Camera, Pose, project_points, solve_pnp_ransac
    >>> rng = np.random.default_rng(0)
    >>> points = rng.normal(size=(30, 3))
    >>> camera = Camera.from_image_size((640, 480))
    >>> pixels = project_points(points, Pose.identity([0, 0, 8]), camera)
    >>> pixels[:6] = rng.uniform(0, 480, size=(6, 2))
    >>> result = solve_pnp_ransac(points, pixels, camera)
    >>> int(result.inliers.sum()), bool(result.pose.rotation.magnitude() < 1e-6)
    (24, True)
    """
    check_numbers(threshold=threshold, above=True)
    as_probability(confidence, "confidence")
    as_count(max_trials, "max_trials")
    seed = int(as_generator(rng).integers(2**62))
    objects, images, single = check_points(object_points, image_points)
    b, n = images.shape[:2]
    cameras, distorted = pack_cameras(camera, b)
    from ._consensus import consensus_rows

    inliers = np.zeros((b, n), dtype=bool)
    trials = np.zeros(b, dtype=np.int64)
    limits = float(threshold), float(confidence), int(max_trials)
    consensus_rows(objects, images, cameras, distorted, *limits, seed, inliers, trials)
    found = inliers.sum(axis=1) >= 4
    if single and not found[0]:
        seen = int(np.isfinite(images[0]).all(axis=-1).sum())
        raise DegenerateShapeError(
            f"got {seen} points that are seen, of which no four agree on a pose within {threshold:g} pixels. Try a "
            "larger threshold, and check the order of the points."
        )
    result = solve_pnp(objects, images, camera, weights=inliers)
    if single and not np.isfinite(result.reprojection_error[0]):
        raise DegenerateShapeError(
            f"got {int(inliers.sum())} points that agree, which have no pose ({result.status[0]}). Try other "
            "points: at least four that differ and are not on one line."
        )
    inliers, result = _again(objects, images, camera, cameras, result, inliers, threshold)
    values = {f.name: getattr(result, f.name) for f in fields(PnPResult)}
    values["status"] = np.where(
        found & _is_meaningful(objects, images, inliers, threshold), result.status, "no consensus"
    )
    values["converged"] = values["status"] == "ok"
    if single:
        return RansacResult(**first_row(values), inliers=inliers[0], n_trials=int(trials[0]))
    return RansacResult(**values, inliers=inliers, n_trials=trials)


def _again(
    objects: np.ndarray,
    images: np.ndarray,
    camera: Camera,
    cameras: np.ndarray,
    result: PnPResult,
    inliers: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, PnPResult]:
    """Gather the inliers of the solution and solve again; rows that would lose too many keep what they have."""
    points = objects @ np.swapaxes(result.pose.rotation.as_matrix(), -1, -2) + result.pose.translation[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        plane = points[..., :2] / points[..., 2:]
        if camera.distortion is not None:
            plane = camera._distort(plane)
        error = plane * cameras[:, None, :2] + cameras[:, None, 2:4] - images
        new = ((error**2).sum(axis=-1) < threshold**2) & (points[..., 2] > 0)
    new[new.sum(axis=1) < inliers.sum(axis=1)] = False
    new = np.where(new.any(axis=1, keepdims=True), new, inliers)
    if (new == inliers).all():
        return inliers, result
    return new, solve_pnp(objects, images, camera, weights=new)


def _is_meaningful(objects: np.ndarray, images: np.ndarray, inliers: np.ndarray, threshold: float) -> np.ndarray:
    """Whether the inliers are more than chance, by the expected number of such poses among random points."""
    seen = np.isfinite(images).all(axis=-1) & np.isfinite(objects).all(axis=-1)
    low, high = (np.where(seen[..., None], images, fill) for fill in (np.inf, -np.inf))
    extent = np.maximum(high.max(axis=1) - low.min(axis=1), 1.0)
    chance = np.minimum(np.pi * threshold**2 / np.where(np.isfinite(extent), extent, 1.0).prod(axis=1), 1.0)
    n, k = seen.sum(axis=1), np.maximum(inliers.sum(axis=1), 3)

    def log_choose(n: np.ndarray, k: np.ndarray | int) -> np.ndarray:
        return np.asarray(gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - k + 1))

    # At most four poses for each three points: 4 (n - 3) C(n, k) C(k, 3) chance^(k - 3).
    expected = np.log(4.0 * np.maximum(n - 3, 1)) + log_choose(n, k) + log_choose(k, 3) + (k - 3) * np.log(chance)
    return np.asarray((n >= 4) & (k >= 4) & (expected < 0))
