"""PnP: laws over the whole sphere of poses, degenerate targets, batches, bad input."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_same_pose
from oracles import refine_pose_naively
from scipy import stats
from scipy.spatial.transform import Rotation
from strategies import random_rotations, views

from pose import Camera, Pose, project_points, solve_pnp
from shape_models import DegenerateShapeError

CAMERA = Camera.from_image_size((640, 480))
BOX = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-0.7, 0.7)])
SQUARE = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])


def _noisy(view, scale=0.5):
    points, pose, pixels = view
    return points, pose, pixels + np.random.default_rng(0).normal(scale=scale, size=pixels.shape)


@given(views(CAMERA))
def test_recovers_every_pose_without_noise(view):
    """Any rotation, any target from 4 points on, general, flat or nearly flat, near or far."""
    points, pose, pixels = view
    result = solve_pnp(points, pixels, CAMERA)
    assert result.converged, result.status
    assert_same_pose(result.pose, pose, size=np.ptp(points), tolerance=1e-6)
    assert result.reprojection_error < 1e-6


@given(views(CAMERA, n_points=st.integers(6, 20), flat=False))
def test_is_equivariant_to_rigid_motions_of_the_object(view):
    points, _, pixels = _noisy(view)
    move = Pose(Rotation.from_rotvec([0.4, -1.1, 0.7]), [0.3, -2.0, 1.0])
    before, after = solve_pnp(points, pixels, CAMERA), solve_pnp(move(points), pixels, CAMERA)
    assert_same_pose(after.pose @ move, before.pose, size=np.ptp(points), tolerance=1e-6)


@given(views(CAMERA, n_points=st.integers(6, 20), flat=False), st.floats(-3.0, 3.0))
def test_is_equivariant_to_turning_the_camera_about_its_axis(view, angle):
    points, _, pixels = _noisy(view)
    turn = Rotation.from_rotvec([0, 0, angle])
    centre = CAMERA.principal_point
    turned = (pixels - centre) @ turn.as_matrix()[:2, :2].T + centre
    before, after = solve_pnp(points, pixels, CAMERA), solve_pnp(points, turned, CAMERA)
    assert_same_pose(after.pose, Pose(turn, np.zeros(3)) @ before.pose, size=np.ptp(points), tolerance=1e-6)


@given(views(CAMERA))
def test_is_equivariant_to_turning_the_camera_without_noise(view):
    points, pose, _ = view
    turn = Pose(Rotation.from_rotvec([0.2, -0.15, 0.1]), np.zeros(3))
    seen = turn @ pose
    if (seen(points)[:, 2] <= 0.1).any():
        return
    result = solve_pnp(points, project_points(points, seen, CAMERA), CAMERA)
    assert_same_pose(result.pose, seen, size=np.ptp(points), tolerance=1e-6)


@given(views(CAMERA, n_points=st.integers(6, 20)), st.randoms())
def test_does_not_depend_on_the_order_of_points(view, random):
    points, _, pixels = _noisy(view)
    order = list(range(len(points)))
    random.shuffle(order)
    one, other = solve_pnp(points, pixels, CAMERA), solve_pnp(points[order], pixels[order], CAMERA)
    np.testing.assert_allclose(one.reprojection_error, other.reprojection_error, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(one.residuals[order], other.residuals, atol=1e-5)


@given(views(CAMERA, n_points=st.integers(6, 20), flat=False))
def test_finds_the_minimum_that_scipy_finds_from_the_truth(view):
    points, pose, pixels = _noisy(view)
    result = solve_pnp(points, pixels, CAMERA)
    rotation, translation, rms = refine_pose_naively(points, pixels, CAMERA.matrix, pose)
    assert result.reprojection_error <= rms * (1 + 1e-6)
    if result.reprojection_error > rms * (1 - 1e-6):
        assert_same_pose(result.pose, Pose(rotation, translation), size=np.ptp(points), tolerance=1e-4)


@given(views(CAMERA, n_points=st.integers(6, 20)))
def test_weights_count_and_zero_leaves_out(view):
    points, _, pixels = _noisy(view)
    twice = solve_pnp(np.concatenate([points, points[:3]]), np.concatenate([pixels, pixels[:3]]), CAMERA)
    weights = np.ones(len(points))
    weights[:3] = 2
    assert_same_pose(
        solve_pnp(points, pixels, CAMERA, weights=weights).pose, twice.pose, size=np.ptp(points), tolerance=1e-5
    )
    spoiled = pixels.copy()
    spoiled[0] = [1e4, -1e4]
    keep = np.arange(len(points)) > 0
    missing = pixels.copy()
    missing[0, 1] = np.nan
    fewer = solve_pnp(points[1:], pixels[1:], CAMERA)
    for result in (solve_pnp(points, spoiled, CAMERA, weights=keep), solve_pnp(points, missing, CAMERA)):
        np.testing.assert_allclose(result.pose.as_matrix(), fewer.pose.as_matrix(), atol=1e-9)
        assert np.isnan(result.residuals[0]).all()
        assert np.isfinite(result.residuals[1:]).all()


def _views(rng, b, points, noise=1.0):
    pose = Pose(random_rotations(rng, b), np.c_[rng.uniform(-2, 2, (b, 2)), rng.uniform(6, 20, b)])
    return pose, project_points(points, pose, CAMERA) + rng.normal(scale=noise, size=(b, len(points), 2))


def test_batch_is_the_loop(rng):
    _, pixels = _views(rng, 150, BOX)
    pixels[3, 2] = np.nan
    batch = solve_pnp(BOX, pixels, CAMERA)
    assert isinstance(batch.pose.rotation, Rotation)
    assert len(batch.pose.rotation) == 150
    for i in range(150):
        one = solve_pnp(BOX, pixels[i], CAMERA)
        np.testing.assert_allclose(batch.pose[i].as_matrix(), one.pose.as_matrix(), atol=1e-9)
        np.testing.assert_allclose(batch.covariance[i], one.covariance, atol=1e-9)
        assert batch.status[i] == one.status
        assert batch.n_iter[i] == one.n_iter
        np.testing.assert_allclose(batch.ambiguity[i], one.ambiguity, atol=1e-9)


def test_batch_with_its_own_points_cameras_and_weights(rng):
    points = rng.normal(size=(5, 7, 3))
    cameras = Camera(rng.uniform(400, 800, (5, 2)), rng.uniform(200, 300, (5, 2)))
    pose = Pose(random_rotations(rng, 5), [0, 0, 12])
    pixels = project_points(points, pose, cameras)
    result = solve_pnp(points, pixels, cameras, weights=rng.uniform(0.5, 2, (5, 7)))
    assert_same_pose(result.pose, pose, size=4, tolerance=1e-7)


def test_bad_rows_of_a_batch_are_flagged_and_the_others_solved(rng):
    points = np.tile(BOX, (7, 1, 1))
    pose = Pose(random_rotations(rng, 7), [0, 0, 12])
    pixels = project_points(points, pose, CAMERA)
    pixels[0, :5] = np.nan
    points[1] = points[1, 0]
    points[2] = np.outer(np.arange(8), [1.0, 2.0, 3.0])
    pixels[3] = pixels[3, 0]
    pixels[4, 2] = np.inf
    result = solve_pnp(points, pixels, CAMERA)
    assert result.status.tolist() == [
        "too few points",
        "object points coincide",
        "object points on a line",
        "image points coincide",
        "too few points",
        "ok",
        "ok",
    ]
    assert result.converged.tolist() == [False] * 5 + [True] * 2
    assert np.isnan(result.pose.translation[:5]).all()
    assert np.isnan(result.angles().yaw[:5]).all()
    assert_same_pose(result.pose[5:], pose[5:], size=4, tolerance=1e-7)


@pytest.mark.parametrize(
    ("points", "pixels", "message"),
    [
        (BOX[:3], np.eye(3)[:, :2] * 100, "expected at least 4"),
        (np.ones((6, 3)), np.arange(12.0).reshape(6, 2), "all coincide"),
        (np.outer(np.arange(6), [1.0, 2, 3]), np.arange(12.0).reshape(6, 2), "on one line"),
        (BOX, np.ones((8, 2)), "infinitely far"),
        (BOX, np.full((8, 2), np.nan), "got 0 points"),
        (np.zeros((0, 3)), np.zeros((0, 2)), "got 0 points"),
    ],
)
def test_no_answer_raises(points, pixels, message):
    with pytest.raises(DegenerateShapeError, match=message):
        solve_pnp(points, pixels, CAMERA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_points": np.ones((7, 2))}, "^image_points: got 7 points; expected 8"),
        ({"image_points": np.full((8, 2), np.inf)}, "infinite"),
        ({"image_points": np.ones((8, 3))}, "2 on the last axis"),
        ({"object_points": np.ones((8, 2))}, "3 on the last axis"),
        ({"object_points": np.ones((2, 3, 8, 3))}, "one leading dimension"),
        ({"object_points": np.ones((3, 8, 3)), "image_points": np.ones((2, 8, 2))}, "got 2 sets of points; expected 3"),
        ({"weights": -np.ones(8)}, "not negative"),
        ({"weights": np.ones(3)}, "one weight"),
        ({"loss": "square"}, "linear, huber, cauchy"),
        ({"loss_scale": 0.0}, "positive"),
        ({"focal": "guess"}, "focal: got .*; expected one of known, estimate"),
        ({"noise": -1.0}, "noise: got -1.*; expected a finite number that is not negative"),
        ({"tol": 0.0}, "tol: got 0.0; expected a finite positive"),
        ({"camera": Camera([[1.0, 1.0]] * 3, (0.0, 0.0))}, "one for each of 1 views"),
        ({"initial_pose": Pose(Rotation.identity(2), [0, 0, 1])}, "got 2 poses"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"object_points": BOX, "image_points": np.arange(16.0).reshape(8, 2), "camera": CAMERA, **change}
    with pytest.raises(ValueError, match=message):
        solve_pnp(**arguments)


def test_a_matrix_is_no_camera():
    with pytest.raises(TypeError, match="Try Camera"):
        solve_pnp(BOX, np.arange(16.0).reshape(8, 2), CAMERA.matrix)


def test_an_empty_batch_has_no_answers():
    result = solve_pnp(BOX, np.zeros((0, 8, 2)), CAMERA)
    assert result.converged.shape == (0,)
    assert len(result.pose) == 0


def test_extreme_units_and_origins():
    """Nanometres, light years, an origin far from the object: the same rotation, the translation in its unit."""
    pose = Pose(Rotation.from_rotvec([0.3, -0.5, 0.2]), [0.2, 0.1, 9.0])
    pixels = project_points(BOX, pose, CAMERA)
    for factor in (1e-12, 1e12):
        result = solve_pnp(BOX * factor, pixels, CAMERA)
        np.testing.assert_allclose(result.pose.translation / factor, pose.translation, rtol=1e-6, atol=1e-6)
    result = solve_pnp(BOX + 1e4, pixels, CAMERA)
    np.testing.assert_allclose(result.pose(BOX + 1e4), pose(BOX), atol=1e-6)


def test_calls_from_many_threads_agree(rng):
    _, pixels = _views(rng, 200, BOX)
    expected = solve_pnp(BOX, pixels, CAMERA).pose.as_matrix()
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: solve_pnp(BOX, pixels, CAMERA), range(8)):
            np.testing.assert_allclose(result.pose.as_matrix(), expected, rtol=0, atol=1e-6)


def test_inputs_are_not_changed(rng):
    _, pixels = _views(rng, 2, BOX)
    points = BOX.copy()
    for array in (points, pixels):
        array.setflags(write=False)
    solve_pnp(points, pixels, CAMERA)


def test_a_mirrored_target_is_flagged(rng):
    """Of a reflected object only the perspective tells: the pose found misses, and the reflection would not."""
    points = rng.normal(size=(30, 3))
    pose = Pose(random_rotations(rng, 20), [0, 0, 8])
    pixels = project_points(points * [1, -1, 1], pose, CAMERA) + rng.normal(scale=0.5, size=(20, 30, 2))
    result = solve_pnp(points, pixels, CAMERA)
    assert (result.status == "mirrored").all()
    assert not result.converged.any()


def test_a_target_behind_the_camera_is_flagged(rng):
    """Projected through the centre, as if z were positive, it looks like a reflected target in front."""
    points = rng.normal(size=(50, 20, 3))
    behind = np.einsum("bij,bnj->bni", random_rotations(rng, 50).as_matrix(), points) - [0, 0, 7.0]
    result = solve_pnp(points, behind[..., :2] / behind[..., 2:] * 640 + [319.5, 239.5], CAMERA)
    assert not result.converged.any()
    assert (result.pose(points)[..., 2] > 0).all()


def test_wrong_correspondences_are_a_poor_fit(rng):
    points = rng.normal(size=(30, 3))
    pixels = rng.uniform(0, 480, size=(20, 30, 2))
    result = solve_pnp(points, pixels, CAMERA)
    assert not result.converged.any()
    assert set(result.status) <= {"poor fit", "not converged", "no pose in front of the camera"}


def test_flat_targets_have_a_second_pose(rng):
    pose = Pose(Rotation.from_euler("XYZ", [25, -30, 10], degrees=True), [0.2, 0.1, 15.0])
    pixels = project_points(SQUARE, pose, CAMERA) + rng.normal(scale=0.3, size=(4, 2))
    result = solve_pnp(SQUARE, pixels, CAMERA)
    assert result.second is not None
    assert result.second_error >= result.reprojection_error
    assert 0 < result.ambiguity <= 1
    # The second is a minimum of its own: refining from it stays there.
    again = solve_pnp(SQUARE, pixels, CAMERA, initial_pose=result.second)
    assert_same_pose(again.pose, result.second, size=2, tolerance=1e-6)
    np.testing.assert_allclose(again.reprojection_error, result.second_error, rtol=1e-9)


def test_three_places_are_too_few_however_often_they_are_seen(rng):
    """Three points leave up to four poses, each of them exact: whichever came back could be wrong."""
    points = rng.normal(size=(3, 3))
    pixels = project_points(points, Pose(Rotation.from_rotvec([0.3, 0.4, 0.1]), [0.2, 0.1, 8]), CAMERA)
    again = [0, 1, 2, 0, 1, 2]
    with pytest.raises(DegenerateShapeError, match="fewer than 4 places"):
        solve_pnp(points[again], pixels[again], CAMERA)
    with pytest.raises(DegenerateShapeError, match="fewer than 5 places"):
        solve_pnp(SQUARE[[0, 1, 2, 3, 0]], rng.uniform(0, 400, (5, 2)), CAMERA, focal="estimate")
    batch = solve_pnp(np.stack([points[again], BOX[:6]]), np.stack([pixels[again], pixels[again]]), CAMERA)
    assert batch.status[0] == "too few places"
    assert not batch.converged[0]


def test_exact_rivals_are_ambiguous(rng):
    """A square far away has two poses; where both errors are mere rounding their ratio says nothing."""
    far = Pose(Rotation.from_euler("XYZ", [25, -30, 10], degrees=True), [0.0, 0.0, 1e9])
    result = solve_pnp(SQUARE, project_points(SQUARE, far, Camera(1e11, (320.0, 240.0))), Camera(1e11, (320.0, 240.0)))
    assert result.second is not None
    assert result.ambiguity > 0.9


def test_a_solid_target_has_no_rival(rng):
    _, pixels = _views(rng, 50, BOX, noise=0.2)
    assert solve_pnp(BOX, pixels, CAMERA).ambiguity.max() < 0.2


def test_all_points_are_in_front(rng):
    """Four points far from any view of the square: whatever comes back stands in front of the camera."""
    pixels = rng.uniform(0, 480, size=(300, 4, 2))
    result = solve_pnp(SQUARE, pixels, CAMERA)
    seen = np.isfinite(result.reprojection_error)
    assert (result.pose[seen](SQUARE)[..., 2] > 0).all()
    assert (~result.converged[~seen]).all()


def test_initial_pose_is_refined(rng):
    pose, pixels = _views(rng, 20, BOX, noise=0.5)
    start = Pose(Rotation.from_rotvec([0.05, -0.05, 0.05]) * pose.rotation, pose.translation * 1.05)
    refined, found = solve_pnp(BOX, pixels, CAMERA, initial_pose=start), solve_pnp(BOX, pixels, CAMERA)
    assert_same_pose(refined.pose, found.pose, size=2, tolerance=1e-6)


def test_distorted_lens(rng):
    camera = Camera((500.0, 480.0), (310.0, 250.0), (-0.2, 0.05, 0.001, -0.002, 0.01))
    pose = Pose(random_rotations(rng, 30), np.c_[rng.uniform(-1, 1, (30, 2)), np.full(30, 8.0)])
    result = solve_pnp(BOX, project_points(BOX, pose, camera), camera)
    assert_same_pose(result.pose, pose, size=2, tolerance=1e-7)


@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_robust_losses_resist_an_outlier(rng, loss):
    points = rng.normal(size=(30, 3))
    pose = Pose(random_rotations(rng, 40), [0, 0, 9])
    pixels = project_points(points, pose, CAMERA) + rng.normal(scale=0.5, size=(40, 30, 2))
    pixels[:, 0] += 60

    def errors(**options):
        found = solve_pnp(points, pixels, CAMERA, **options).pose.rotation
        return np.median((found * pose.rotation.inv()).magnitude())

    assert errors(loss=loss) < 0.5 * errors()


@pytest.mark.parametrize("planar", [False, True])
def test_covariance_covers_the_truth_at_its_nominal_rate(planar):
    """The squared Mahalanobis distance of the true pose is chi-squared with 6 degrees of freedom over 20 000 draws."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(20, 3)) * [1, 1, 0 if planar else 1] + [0.5, 0.2, 1.0]
    truth = Pose(Rotation.from_euler("XYZ", [0.5, -0.6, 0.2]), [0.3, 0.2, 8.0])
    pixels = project_points(points, truth, CAMERA) + rng.normal(scale=0.7, size=(20_000, 20, 2))
    # The variance estimated from 40 - 6 = 34 degrees of freedom turns chi-squared into 6 F(6, 34).
    for noise, distribution in ((0.7, stats.chi2(6)), (None, stats.f(6, 34, scale=6))):
        result = solve_pnp(points, pixels, CAMERA, noise=noise)
        turn = (truth.rotation * result.pose.rotation.inv()).as_rotvec()
        move = truth.translation - result.pose.translation
        error = np.concatenate([turn, move], axis=1)
        distance = np.einsum("bi,bij,bj->b", error, np.linalg.inv(result.covariance), error)
        for rate in (0.5, 0.95):  # standard errors of the shares: 0.0035, 0.0015
            share = (distance < distribution.ppf(rate)).mean()
            assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / len(distance))


@pytest.mark.parametrize("focal", [300.0, 640.0, 1500.0])
def test_unknown_focal_length(rng, focal):
    points = rng.normal(size=(20, 3))
    camera = Camera(focal, (319.5, 239.5))
    pose = Pose(random_rotations(rng, 10), [0.2, -0.1, 5.0])
    exact = solve_pnp(points, project_points(points, pose, camera), CAMERA, focal="estimate")
    np.testing.assert_allclose(exact.camera.focal_length, focal, rtol=1e-5)
    assert_same_pose(exact.pose, pose, size=4, tolerance=1e-5)
    noisy = project_points(points, pose, camera) + rng.normal(scale=0.2, size=(10, 20, 2))
    result = solve_pnp(points, noisy, CAMERA, focal="estimate")
    deviation = (result.camera.focal_length[:, 0] - focal) / result.focal_length_std
    assert np.abs(deviation).max() < 5


def test_an_estimated_focal_length_keeps_its_ratio(rng):
    points = rng.normal(size=(20, 3))
    pose = Pose(random_rotations(rng, 5), [0.2, -0.1, 5.0])
    pixels = project_points(points, pose, Camera((500.0, 600.0), (319.5, 239.5)))
    found = solve_pnp(points, pixels, Camera((1000.0, 1200.0), (319.5, 239.5)), focal="estimate")
    np.testing.assert_allclose(found.camera.focal_length, np.tile([500.0, 600.0], (5, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NUMBA_CACHE_DIR", "/proc/none", "import pose._consensus, pose._deformable, pose._orthographic"),
        ("NUMBA_DISABLE_JIT", "1", "import pose; c = pose.Camera.from_image_size(256); x = pose.reference.HEAD_IBUG68; "
         "p = pose.Pose.identity([0, 0, 600]); r = pose.solve_pnp(x, pose.project_points(x, p, c), c); "
         "assert r.converged and abs(r.pose.translation[2] - 600) < 1e-6"),
    ],
)  # fmt: skip
def test_neither_a_folder_for_compiled_code_nor_a_compiler_is_needed(tmp_path, name, value, code):
    """The folder of the process is gone, too, as that of a job may be (NumPy needs -P for it in Python 3.13)."""
    gone = tmp_path / "gone"
    gone.mkdir()
    start = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    environment = {**os.environ, name: value, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run([sys.executable, "-P", "-c", start + code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
