"""Cameras and poses: projection against a naive version, inverses, refusals."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from oracles import project_naively
from scipy.spatial.transform import Rotation
from strategies import poses

from pose import Camera, Pose, WeakPerspective, project_points

LENS = (-0.2, 0.05, 0.001, -0.002, 0.01)


def test_defaults():
    camera = Camera.from_image_size((640, 480))
    assert camera.focal_length.tolist() == [640, 640]
    assert camera.principal_point.tolist() == [319.5, 239.5]  # pixel centres at integers
    wide = Camera.from_fov((640, 480), degrees=90)
    np.testing.assert_allclose(wide.focal_length, 320)
    np.testing.assert_allclose(Camera.from_fov((3, 4), degrees=90, axis="diagonal").focal_length, 2.5)
    np.testing.assert_array_equal(Camera.from_matrix(camera.matrix).matrix, camera.matrix)


@given(poses())
def test_projection_is_the_equation(pose):
    points = np.random.default_rng(0).normal(size=(6, 3))
    for lens in (None, LENS):
        camera = Camera((500.0, 480.0), (300.0, 200.0), lens)
        expected = project_naively(points, pose.rotation.as_matrix(), pose.translation, camera.matrix, lens)
        np.testing.assert_allclose(project_points(points, pose, camera), expected, rtol=1e-12, atol=1e-9)


def test_distortion_agrees_with_opencv_and_has_an_inverse():
    rng = np.random.default_rng(1)
    points = rng.uniform([-1, -1, 3], [1, 1, 5], size=(50, 3))
    camera = Camera((500.0, 480.0), (300.0, 200.0), LENS)
    pixels = camera.project(points)
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, np.array(LENS))
    np.testing.assert_allclose(pixels, theirs[:, 0], atol=1e-9)
    np.testing.assert_allclose(camera.normalize(pixels), points[:, :2] / points[:, 2:], atol=1e-12)


def test_batches_of_cameras_and_poses():
    cameras = Camera([[500.0, 500.0], [600.0, 600.0]], [[0.0, 0.0], [10.0, 0.0]])
    pose = Pose(Rotation.identity(2), [[0, 0, 10], [0, 0, 20]])
    pixels = project_points([[1.0, 0.0, 0.0]], pose, cameras)
    np.testing.assert_allclose(pixels[:, 0], [[50, 0], [40, 0]])


def test_crop_sees_the_same_points():
    camera = Camera.from_image_size((640, 480))
    crop = camera.crop((99.5, 49.5, 299.5, 249.5), 100)
    points = np.array([[0.1, -0.2, 2.0], [-0.3, 0.1, 3.0]])
    whole, part = camera.project(points), crop.project(points)
    np.testing.assert_allclose(part, (whole - [99.5, 49.5]) * 0.5 - 0.5)


@given(poses())
def test_pose_composition(pose):
    points = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(pose.inverse(pose(points)), points, atol=1e-10)
    np.testing.assert_allclose((pose @ pose)(points), pose(pose(points)), atol=1e-10)
    np.testing.assert_allclose(Pose.from_matrix(pose.as_matrix())(points), pose(points), atol=1e-10)


def test_weak_perspective_is_the_limit_of_a_far_camera():
    points = np.random.default_rng(0).normal(size=(5, 3))
    rotation = Rotation.from_rotvec([0.1, 0.5, -0.2])
    distance = 1e7
    camera = Camera(3.0 * distance, (10.0, 20.0))
    far = project_points(points, Pose(rotation, [0, 0, distance]), camera)
    np.testing.assert_allclose(WeakPerspective(3.0, rotation, [10.0, 20.0])(points), far, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Camera(0.0, (1, 1)), "expected positive pixels"),
        (lambda: Camera(-5.0, (1, 1)), "expected positive pixels"),
        (lambda: Camera(np.nan, (1, 1)), "NaN"),
        (lambda: Camera(5.0, (1, 1, 1)), r"expected \(..., 2\)"),
        (lambda: Camera.from_matrix([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]), "skew"),
        (lambda: Camera.from_matrix(np.eye(4)), r"expected \(..., 3, 3\)"),
        (lambda: Camera.from_image_size((640, 480, 3)), "width and height"),
        (lambda: Camera.from_image_size((0, 480)), "at least one pixel"),
        (lambda: Camera.from_fov(100, degrees=180), "between 0 and 180"),
        (lambda: Camera.from_fov(100, degrees=50, axis="depth"), "expected one of"),
        (lambda: Camera([[1.0, 1.0]] * 2, [[0.0, 0.0]] * 3), "leading dimensions that agree"),
        (lambda: Camera.from_image_size(10).project([[0, 0, -1.0]]), "in front of the camera"),
        (lambda: Camera(np.full((3, 2), 9.0), (0, 0)).project(np.ones((2, 5, 3))), r"dimensions \(3,\) of the cameras"),
        (lambda: Camera(np.full((3, 2), 9.0), (0, 0)).normalize(np.ones((2, 5, 2))), r"dimensions \(3,\) of the"),
        (lambda: Camera(500.0, (0, 0), (-0.5, 0, 0, 0, 0)).normalize([[900.0, 0.0]]), "no inverse"),
        (lambda: Pose.from_matrix(np.diag([-1.0, 1, 1, 1])), "reflection"),
        (lambda: Pose(Rotation.identity(2), np.zeros((3, 3))), r"expected \(2, 3\)"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_pose_needs_a_rotation():
    with pytest.raises(TypeError, match="expected a scipy Rotation"):
        Pose(np.eye(3), [0, 0, 1])
    for translation in (["a", "b", "c"], [1j, 0, 1]):
        with pytest.raises(TypeError, match="expected real numbers"):
            Pose.identity(translation)


@pytest.mark.parametrize("n", [4, 5, 8, 14])
def test_distortion_comes_as_opencv_has_it(n):
    known = np.zeros(n)
    known[:5] = LENS[: min(n, 5)]
    points = np.random.default_rng(0).normal(size=(6, 3)) + np.array([0, 0, 8])
    camera = Camera((500.0, 480.0), (300.0, 200.0))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, known)[0][:, 0]
    for layout in (known, known[None], known[:, None]):
        found = Camera.from_matrix(camera.matrix, distortion=layout)
        np.testing.assert_allclose(found.project(points), expected, atol=1e-9)
    if n > 5:
        with pytest.raises(ValueError, match="all others 0"):
            Camera(500.0, (300.0, 200.0), np.full(n, 1e-3))


def test_scaled_matrices_are_brought_down_as_the_message_says():
    matrices = 2 * np.stack([Camera(500.0, (3.0, 4.0)).matrix, Camera(700.0, (3.0, 4.0)).matrix])
    with pytest.raises(ValueError, match=r"Try matrix / matrix\[..., 2:, 2:\]"):
        Camera.from_matrix(matrices)
    assert Camera.from_matrix(matrices / matrices[..., 2:, 2:]).focal_length[:, 0].tolist() == [500, 700]
