"""RANSAC and weak perspective."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from strategies import head_rotations, random_rotations

from pose import Camera, Pose, WeakPerspective, project_points, solve_pnp_ransac, solve_weak_perspective
from pose._consensus import _quartic, _three_points
from shape_models import DegenerateShapeError

CAMERA = Camera.from_image_size((640, 480))


def _spoiled(rng, b, n=30, outliers=0.3, noise=0.5):
    points = rng.normal(size=(n, 3))
    pose = Pose(random_rotations(rng, b), np.c_[rng.uniform(-1, 1, (b, 2)), rng.uniform(7, 12, b)])
    pixels = project_points(points, pose, CAMERA) + rng.normal(scale=noise, size=(b, n, 2))
    wrong = rng.random((b, n)) < outliers
    pixels[wrong] = rng.uniform([0, 0], [640, 480], size=(wrong.sum(), 2))
    return points, pose, pixels, wrong


@pytest.mark.parametrize("outliers", [0.0, 0.2, 0.5])
def test_ransac_finds_the_pose_among_outliers(rng, outliers):
    points, pose, pixels, wrong = _spoiled(rng, 100, outliers=outliers)
    result = solve_pnp_ransac(points, pixels, CAMERA)
    error = np.degrees((result.pose.rotation * pose.rotation.inv()).magnitude())
    assert (error < 2).all()
    assert result.converged.all()
    assert (result.inliers & ~wrong).sum() >= 0.99 * (~wrong).sum()
    assert np.isnan(result.residuals[~result.inliers]).all()


def test_ransac_is_the_same_for_the_same_seed_and_alone(rng):
    points, _, pixels, _ = _spoiled(rng, 3)
    batch, again = (solve_pnp_ransac(points, pixels, CAMERA, rng=5) for _ in range(2))
    np.testing.assert_allclose(batch.pose.as_matrix(), again.pose.as_matrix(), rtol=0, atol=1e-6)
    one = solve_pnp_ransac(points, pixels[1], CAMERA, rng=5)
    np.testing.assert_array_equal(one.inliers, batch.inliers[1])
    np.testing.assert_allclose(one.pose.as_matrix(), batch.pose[1].as_matrix(), atol=1e-9)
    assert one.n_trials == batch.n_trials[1]
    assert isinstance(one.converged, bool)


def test_ransac_with_more_outliers_draws_more(rng):
    trials = [solve_pnp_ransac(*_spoiled(rng, 30, outliers=o)[::2], CAMERA).n_trials.mean() for o in (0.0, 0.3, 0.6)]
    assert trials == sorted(trials)


def test_ransac_without_consensus(rng):
    points = rng.normal(size=(4, 3))
    pixels = np.array([[0.0, 0], [1, 1], [2, 2], [400, 3]])
    with pytest.raises(DegenerateShapeError, match="no four agree"):
        solve_pnp_ransac(points, pixels, CAMERA, threshold=0.01)
    batch = solve_pnp_ransac(points, np.stack([pixels, pixels]), CAMERA, threshold=0.01)
    assert batch.status.tolist() == ["no consensus"] * 2
    assert not batch.converged.any()


def test_points_at_random_are_no_consensus(rng):
    points = rng.normal(size=(40, 3))
    result = solve_pnp_ransac(points, rng.uniform(0, 480, size=(20, 40, 2)), CAMERA)
    assert (result.status == "no consensus").all()
    assert not result.converged.any()
    assert (result.inliers.sum(axis=1) >= 4).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"confidence": 1.0}, "confidence"),
        ({"max_trials": 0}, "max_trials"),
        ({"rng": -1}, "rng: got -1; expected a whole number"),
        ({"rng": "0"}, "expected a whole number"),
    ],
)
def test_ransac_refuses(rng, change, message):
    points, _, pixels, _ = _spoiled(rng, 1)
    with pytest.raises(ValueError, match=message):
        solve_pnp_ransac(points, pixels[0], CAMERA, **change)


def test_three_places_are_no_consensus(rng):
    points, _, pixels, _ = _spoiled(rng, 1, n=3, outliers=0.0)
    again = [0, 1, 2, 0, 1, 2]
    with pytest.raises(DegenerateShapeError, match="have no pose"):
        solve_pnp_ransac(points[again], pixels[0, again], CAMERA)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4, unique_by=lambda x: round(x, 1)))
def test_quartic_roots_are_those_of_numpy(roots):
    """Roots at least 0.1 apart: closer ones are ill-conditioned for any method."""
    roots = sorted(roots)
    if np.diff(roots).min() < 0.1:
        return
    found = np.empty(4)
    assert _quartic(*np.poly(roots)[1:], found) == 4
    np.testing.assert_allclose(sorted(found), roots, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_one_of_the_three_point_poses_is_the_truth(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(3, 3))
    pose = Pose(random_rotations(rng), [*rng.uniform(-1, 1, 2), rng.uniform(4, 10)])
    seen = pose(points)
    rotations, translations = np.empty((4, 3, 3)), np.empty((4, 3))
    count = _three_points(
        points, seen / np.linalg.norm(seen, axis=1, keepdims=True), np.arange(3), rotations, translations
    )
    # 1e-3: where two solutions meet they are only known to the square root of rounding.
    errors = [np.abs(rotations[k] - pose.rotation.as_matrix()).max() for k in range(count)]
    assert min(errors) < 1e-3
    best = int(np.argmin(errors))
    there = points @ rotations[best].T + translations[best]
    np.testing.assert_allclose(there[:, :2] / there[:, 2:], seen[:, :2] / seen[:, 2:], atol=1e-3)


@given(head_rotations(), st.floats(0.1, 100), st.sampled_from([1.0, 0.0]))
def test_weak_perspective_is_exact_without_noise(rotation, scale, thickness):
    points = np.random.default_rng(0).normal(size=(8, 3)) * [1, 1, thickness] + [0.3, 0.1, 2.0]
    view = WeakPerspective(scale, rotation, [12.0, -7.0])
    result = solve_weak_perspective(points, view(points))
    assert result.converged
    np.testing.assert_allclose(result.view(points), view(points), atol=1e-7 * scale)
    np.testing.assert_allclose(result.view.scale, scale, rtol=1e-5)
    turns = [(r.rotation * rotation.inv()).magnitude() for r in (result.view, result.second or result.view)]
    assert min(turns) < 1e-4  # of a flat object both views are exact
    assert (result.second is None) == (thickness == 1.0)


@given(head_rotations(), st.floats(0.1, 10))
def test_scale_and_size_cannot_be_told_apart(rotation, factor):
    points = np.random.default_rng(0).normal(size=(8, 3))
    pixels = WeakPerspective(3.0, rotation, [1.0, 2.0])(points) + np.random.default_rng(1).normal(size=(8, 2)) * 0.1
    one, other = solve_weak_perspective(points, pixels), solve_weak_perspective(points * factor, pixels)
    np.testing.assert_allclose(other.view.scale * factor, one.view.scale, rtol=1e-6)
    assert (one.view.rotation * other.view.rotation.inv()).magnitude() < 1e-5


@given(head_rotations(), st.booleans())
def test_weak_perspective_refined_is_the_optimum(rotation, weighted):
    rng = np.random.default_rng(2)
    points = rng.normal(size=(9, 3))
    pixels = WeakPerspective(30.0, rotation, [1.0, 2.0])(points) + rng.normal(size=(9, 2))
    weights = rng.uniform(0.2, 3, 9) if weighted else np.ones(9)
    result, rough = (solve_weak_perspective(points, pixels, weights=weights, refine=flag) for flag in (True, False))
    assert result.error <= rough.error * (1 + 1e-12)

    def residuals(p):
        view = WeakPerspective(np.exp(p[3]), Rotation.from_rotvec(p[:3]) * rotation, p[4:])
        return ((view(points) - pixels) * np.sqrt(weights / weights.sum())[:, None]).ravel()

    best = least_squares(residuals, [0, 0, 0, np.log(30.0), 1, 2], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    np.testing.assert_allclose(result.error**2, 2 * best.cost, rtol=1e-6)


@given(head_rotations())
def test_weak_perspective_of_points_with_depth(rotation):
    points = np.random.default_rng(0).normal(size=(8, 3))
    image = 4.0 * rotation.apply(points) + [3.0, 5.0, 100.0]
    result = solve_weak_perspective(points, image)
    assert (result.view.rotation * rotation.inv()).magnitude() < 1e-7
    np.testing.assert_allclose([result.view.scale, *result.view.translation], [4, 3, 5])


def test_weak_perspective_batches_and_missing_points(rng):
    points = rng.normal(size=(8, 3))
    view = WeakPerspective(rng.uniform(1, 3, 5), random_rotations(rng, 5), rng.normal(size=(5, 2)))
    pixels = view(points) + rng.normal(scale=0.01, size=(5, 8, 2))
    pixels[2, 3] = np.nan
    batch = solve_weak_perspective(points, pixels)
    for i in range(5):
        one = solve_weak_perspective(points, pixels[i])
        np.testing.assert_allclose(batch.view.rotation[i].as_matrix(), one.view.rotation.as_matrix(), atol=1e-9)
    assert ((batch.view.rotation * view.rotation.inv()).magnitude() < 0.05).all()


@pytest.mark.parametrize(
    ("points", "pixels", "message"),
    [
        (np.eye(3), np.eye(3)[:, :2], "at least 4"),
        (np.zeros((2, 0, 3)), np.zeros((2, 0, 2)), "got 0 points"),
        (np.outer(np.arange(5), [1.0, 2, 3]), np.arange(10.0).reshape(5, 2), "on one line"),
        (np.random.default_rng(0).normal(size=(5, 3)), np.ones((5, 2)), "coincide"),
    ],
)
def test_weak_perspective_without_answer(points, pixels, message):
    with pytest.raises(DegenerateShapeError, match=message):
        solve_weak_perspective(points, pixels)


def test_bad_rows_of_weak_perspective_are_flagged_and_the_others_solved(rng):
    points = np.tile(rng.normal(size=(6, 3)), (5, 1, 1))
    view = WeakPerspective(rng.uniform(1, 3, 5), random_rotations(rng, 5), rng.normal(size=(5, 2)))
    pixels = view(points)
    pixels[0, :3] = np.nan
    points[1] = np.outer(np.arange(6), [1.0, 2.0, 3.0])
    pixels[2] = 7.0
    for image in (pixels, np.concatenate([pixels, pixels[..., :1] * 0 + points[..., 2:]], axis=-1)):
        result = solve_weak_perspective(points, image)
        expected = ["too few points", "object points on a line", "image points coincide", "ok", "ok"]
        if image.shape[-1] == 3:  # three points are enough, and depth keeps image points apart
            expected[0] = expected[2] = "ok"
        assert result.status.tolist() == expected
        assert result.converged.tolist() == [status == "ok" for status in expected]
        for i, status in enumerate(expected):
            assert np.isfinite(result.error[i]) == (status == "ok")
            assert np.isnan(result.view.scale[i]) == (status != "ok")
    good = solve_weak_perspective(points[3:], pixels[3:])
    found = solve_weak_perspective(points, pixels)
    np.testing.assert_allclose(found.view.rotation[3:].as_matrix(), good.view.rotation.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(found.view.scale[3:], view.scale[3:], rtol=1e-9)


def test_the_unit_of_the_object_does_not_matter(rng):
    points = rng.normal(size=(8, 3))
    pixels = WeakPerspective(3.0, random_rotations(rng), [1.0, 2.0])(points)
    for factor in (1e-100, 1e100):
        result = solve_weak_perspective(points * factor, pixels)
        np.testing.assert_allclose(result.view.scale, 3.0 / factor, rtol=1e-9)


@pytest.mark.parametrize(
    ("scale", "rotation", "translation", "error"),
    [
        (-1.0, Rotation.identity(), [0, 0], ValueError),
        (1.0, Rotation.identity(), [0, 0, 0], ValueError),
        ([1.0, 2.0], Rotation.identity(), [0, 0], ValueError),
        (1.0, np.eye(3), [0, 0], TypeError),
    ],
)
def test_views_that_are_none_are_refused(scale, rotation, translation, error):
    with pytest.raises(error, match="expected"):
        WeakPerspective(scale, rotation, translation)
