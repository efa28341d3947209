"""Head rotations under their names: worked examples that a person can check, inverses, wraps, locks."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from oracles import rotation_from_axis_products
from scipy.spatial.transform import Rotation
from strategies import head_rotations, random_rotations

from pose import Pose, conventions

EULER = [c.name for c in conventions.CONVENTIONS.values() if c.sequence]

# A head (nose along -z when it faces the camera) moved by hand: the rotation about a camera axis, and the reading.
CHIN_UP = Rotation.from_rotvec([-np.radians(10), 0, 0])
TO_ITS_LEFT = Rotation.from_rotvec([0, -np.radians(20), 0])
TILTED_TO_ITS_LEFT_SHOULDER = Rotation.from_rotvec([0, 0, np.radians(5)])
READINGS = {  # (yaw, pitch, roll) in degrees, of the three heads above
    "300W-LP": (10, -20, 5),
    "HopeNet": (10, -20, 5),
    "6DRepNet": (10, -20, 5),
    "ASMNet": (10, -20, 5),
    "BIWI": (10, -20, 5),
    "BIWI-HopeNet": (10, -20, 5),
    "3DDFA": (-10, -20, -5),
    "OpenFace": (-10, -20, 5),
}


def test_the_three_heads_move_as_their_names_say():
    nose, crown = [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]
    assert CHIN_UP.apply(nose)[1] < 0  # y points down
    assert TO_ITS_LEFT.apply(nose)[0] > 0  # the subject's left is the right of the image
    assert TILTED_TO_ITS_LEFT_SHOULDER.apply(crown)[0] > 0


@pytest.mark.parametrize("name", READINGS)
def test_worked_examples(name):
    pitch, yaw, roll = READINGS[name]
    for rotation, expected in (
        (CHIN_UP, [0, pitch, 0]),
        (TO_ITS_LEFT, [yaw, 0, 0]),
        (TILTED_TO_ITS_LEFT_SHOULDER, [0, 0, roll]),
    ):
        np.testing.assert_allclose(conventions.yaw_pitch_roll(rotation, name), expected, atol=1e-12)


def test_units_and_orders():
    rotation = conventions.read([10.0, 20.0, 5.0], "6DRepNet")  # pitch, yaw, roll
    np.testing.assert_allclose(conventions.write(rotation, "300W-LP"), np.radians([10, 20, 5]))
    np.testing.assert_allclose(conventions.write(rotation, "HopeNet"), [20, 10, 5])
    np.testing.assert_allclose(conventions.write(rotation, "ASMNet") * 65, [20, 10, 5])
    np.testing.assert_allclose(conventions.write(rotation, "OpenFace"), np.radians([-10, 20, 5]))
    np.testing.assert_allclose(conventions.write(rotation, "OpenCV"), rotation.as_rotvec())


def test_products_of_the_table():
    """R is the product of axis rotations that the module's table names, multiplied out by hand."""
    p, y, r = np.radians([10.0, 20.0, 5.0])
    for name, values, factors in (
        ("300W-LP", [p, y, r], [("x", -p), ("y", y), ("z", r)]),
        ("BIWI", np.degrees([y, p, r]), [("x", -p), ("y", y), ("z", r)]),
        ("HopeNet", np.degrees([y, p, r]), [("x", -p), ("y", y), ("z", r)]),
        ("3DDFA", np.degrees([y, p, r]), [("z", -r), ("y", y), ("x", p)]),
        ("OpenFace", [p, y, r], [("x", p), ("y", y), ("z", r)]),
        ("OpenCV-RQ", np.degrees([p, y, r]), [("z", r), ("y", y), ("x", p)]),
    ):
        matrix = conventions.read(values, name).as_matrix()
        np.testing.assert_allclose(matrix, rotation_from_axis_products(factors), atol=1e-14)


def test_6drepnet_matrix_is_the_transpose_of_the_one_of_300w_lp():
    """6DRepNet multiplies Rz(roll) Ry(yaw) Rx(pitch); the data set the transposed factors."""
    p, y, r = np.radians([10.0, 20.0, 5.0])
    rotation = conventions.read([p, y, r], "300W-LP")
    expected = rotation_from_axis_products([("z", r), ("y", y), ("x", p)])
    np.testing.assert_allclose(conventions.to_matrix(rotation, "6DRepNet"), expected, atol=1e-14)
    np.testing.assert_allclose(conventions.to_matrix(rotation, "300W-LP"), expected.T, atol=1e-14)


def test_3ddfa_reads_its_matrix_as_its_code_does():
    """cleardusk/3DDFA_V2, utils/pose.py, matrix2angle: x = asin(R[2, 0]) is yaw, y pitch, z roll; y points up."""
    rotation = conventions.read([0.2, -0.5, 0.3], "300W-LP")
    m = conventions.to_matrix(rotation, "3DDFA")
    expected = np.degrees([np.arcsin(m[2, 0]), np.arctan2(m[2, 1], m[2, 2]), np.arctan2(m[1, 0], m[0, 0])])
    np.testing.assert_allclose(conventions.write(rotation, "3DDFA"), expected, atol=1e-12)


def test_biwi_matrices_are_read_as_the_programs_read_them():
    """HopeNet: natanielruiz/deep-head-pose, code/datasets.py, class BIWI, `__getitem__`, since September 2017.

    FSA-Net (shamangary/FSA-Net, data/TYY_create_db_biwi.py) reads by the same lines. Before that month HopeNet did not
    transpose; its published numbers are of the later code.
    """
    rng = np.random.default_rng(0)
    for pitch, yaw, roll in rng.uniform([-60, -75, -50], [60, 75, 50], size=(50, 3)):
        R = conventions.read([pitch, yaw, roll], "6DRepNet").as_matrix()  # what a file of the set holds
        R = np.transpose(R)
        roll = -np.arctan2(R[1][0], R[0][0]) * 180 / np.pi
        yaw = -np.arctan2(-R[2][0], np.sqrt(R[2][1] ** 2 + R[2][2] ** 2)) * 180 / np.pi
        pitch = np.arctan2(R[2][1], R[2][2]) * 180 / np.pi
        for name in ("BIWI", "BIWI-HopeNet"):
            read = conventions.write(conventions.from_matrix(R.T, name), name)
            np.testing.assert_allclose(read, [yaw, pitch, roll], atol=1e-10)
    assert conventions.get("BIWI-HopeNet").name == "BIWI"


def test_6drepnet_reads_its_matrix_as_its_code_does():
    """thohemp/6DRepNet, sixdrepnet/utils.py, compute_euler_angles_from_rotation_matrices (the regular branch)."""
    rotation = conventions.read([0.2, -0.5, 0.3], "300W-LP")
    R = conventions.to_matrix(rotation, "6DRepNet")
    sy = np.sqrt(R[0, 0] * R[0, 0] + R[1, 0] * R[1, 0])
    x = np.arctan2(R[2, 1], R[2, 2])
    y = np.arctan2(-R[2, 0], sy)
    z = np.arctan2(R[1, 0], R[0, 0])
    np.testing.assert_allclose(conventions.write(rotation, "6DRepNet"), np.degrees([x, y, z]), atol=1e-12)


def test_hopenet_is_trained_on_the_angles_of_300w_lp():
    """natanielruiz/deep-head-pose, code/datasets.py, Pose_300W_LP: `pose[0] * 180 / np.pi` is pitch, [1] yaw, [2] roll.

    The network answers yaw, pitch, roll: `np.digitize([yaw, pitch, roll], bins)`.
    """
    pose = np.array([0.2, -0.5, 0.3])  # Pose_Para[0][:3]
    pitch, yaw, roll = pose[0] * 180 / np.pi, pose[1] * 180 / np.pi, pose[2] * 180 / np.pi
    np.testing.assert_allclose(conventions.convert(pose, "300W-LP", "HopeNet"), [yaw, pitch, roll], atol=1e-12)
    np.testing.assert_allclose(conventions.convert(pose, "300W-LP", "ASMNet") * 65, [yaw, pitch, roll], atol=1e-12)


def test_openface_reads_its_matrix_as_its_code_does():
    """TadasBaltrusaitis/OpenFace, lib/local/Utilities/include/RotationHelpers.h, RotationMatrix2Euler.

    "Using the XYZ convention R = Rx * Ry * Rz, left-handed positive sign": by quaternions.
    """
    rotation = conventions.read([0.2, -0.5, 0.3], "300W-LP")
    R = conventions.to_matrix(rotation, "OpenFace")
    q0 = np.sqrt(1 + R[0, 0] + R[1, 1] + R[2, 2]) / 2.0
    q1 = (R[2, 1] - R[1, 2]) / (4.0 * q0)
    q2 = (R[0, 2] - R[2, 0]) / (4.0 * q0)
    q3 = (R[1, 0] - R[0, 1]) / (4.0 * q0)
    yaw = np.arcsin(2.0 * (q0 * q2 + q1 * q3))
    pitch = np.arctan2(2.0 * (q0 * q1 - q2 * q3), q0 * q0 - q1 * q1 - q2 * q2 + q3 * q3)
    roll = np.arctan2(2.0 * (q0 * q3 - q1 * q2), q0 * q0 + q1 * q1 - q2 * q2 - q3 * q3)
    np.testing.assert_allclose(conventions.write(rotation, "OpenFace"), [pitch, yaw, roll], atol=1e-12)


def test_opencv_agrees():
    rotation = conventions.read([10.0, 20.0, 5.0], "6DRepNet")
    np.testing.assert_allclose(cv2.Rodrigues(conventions.write(rotation, "OpenCV"))[0], rotation.as_matrix())
    angles = cv2.RQDecomp3x3(rotation.as_matrix())[0]
    np.testing.assert_allclose(conventions.write(rotation, "OpenCV-RQ"), angles, atol=1e-9)


def test_mediapipe_has_y_up_and_z_to_the_viewer():
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_axis_products([("y", 0.3)])  # the nose, along +z there, goes to +x
    rotation = conventions.read(matrix, "MediaPipe")
    assert rotation.apply([0, 0, -1])[0] > 0
    np.testing.assert_allclose(conventions.write(rotation, "MediaPipe"), matrix[:3, :3], atol=1e-15)


@given(head_rotations())
def test_writing_and_reading_are_inverse(rotation):
    for name in conventions.CONVENTIONS:
        back = conventions.read(conventions.write(rotation, name), name)
        assert (back * rotation.inv()).magnitude() < 1e-7
        back = conventions.from_matrix(conventions.to_matrix(rotation, name), name)
        assert (back * rotation.inv()).magnitude() < 1e-7


@given(head_rotations())
def test_both_triples_are_the_same_rotation(rotation):
    for name in EULER:
        near, far = (conventions.write(rotation, name, beyond_profile=flag) for flag in (False, True))
        assert (conventions.read(near, name) * conventions.read(far, name).inv()).magnitude() < 1e-7


@given(head_rotations())
def test_a_mirrored_head_negates_yaw_and_roll(rotation):
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = Rotation.from_matrix(mirror @ rotation.as_matrix() @ mirror)
    for name in READINGS:
        if conventions.gimbal_lock(rotation, name):
            continue
        angles, other = (conventions.yaw_pitch_roll(r, name) for r in (rotation, mirrored))
        difference = conventions.wrap_degrees(other - angles * [-1, 1, -1])
        assert np.abs(difference).max() < 1e-5


def test_wrap_is_half_open():
    assert conventions.wrap_degrees([-180.0, 180.0, 540.0, 359.0]).tolist() == [180.0, 180.0, 180.0, -1.0]


def test_gimbal_lock_is_flagged_and_does_not_warn():
    for name in EULER:
        yaw = {"ASMNet": 90 / 65, "300W-LP": np.pi / 2, "OpenFace": np.pi / 2}.get(name, 90.0)
        convention = conventions.get(name)
        where = 1 if convention.values[1] in ("yaw", "y") else 0
        values = np.zeros(3)
        values[where] = yaw
        rotation = conventions.read(values, name)
        assert conventions.gimbal_lock(rotation, name)
        assert np.isfinite(conventions.write(rotation, name)).all()
    assert Pose(conventions.read([90.0, 0.0, 0.0], "HopeNet"), [0, 0, 1]).angles().gimbal_lock is True
    assert not conventions.gimbal_lock(Rotation.identity(), "OpenCV")


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ([1.0, 2.0], "HopeNet", r"expected \(3,\) or \(b, 3\): yaw, pitch, roll in degrees"),
        ([np.nan, 0, 0], "HopeNet", "NaN"),
        ([0, 0, 0], "Kinect", "expected one of 300W-LP"),
        (np.diag([1.0, 1.0, -1.0]), "MediaPipe", "reflection"),
        (2 * np.eye(3), "MediaPipe", "Remove the scale"),
        (np.zeros((2, 2)), "MediaPipe", r"expected \(3, 3\)"),
    ],
)
def test_bad_values_are_refused(values, name, message):
    with pytest.raises(ValueError, match=message):
        conventions.read(values, name)


def test_conventions_without_angles_say_so():
    with pytest.raises(ValueError, match="MediaPipe has no yaw"):
        conventions.yaw_pitch_roll(Rotation.identity(), "MediaPipe")


def test_a_matrix_is_no_rotation_object():
    for call in (conventions.write, conventions.to_matrix, conventions.gimbal_lock, conventions.yaw_pitch_roll):
        with pytest.raises(TypeError, match="Try read"):
            call(np.eye(3), "HopeNet")


def test_beyond_profile_takes_the_smaller_outer_angles():
    rotation = conventions.read([5.0, 100.0, -4.0], "6DRepNet")
    np.testing.assert_allclose(conventions.write(rotation, "6DRepNet", beyond_profile=True), [5, 100, -4])
    near = conventions.read([5.0, 60.0, -4.0], "6DRepNet")
    np.testing.assert_allclose(conventions.write(near, "6DRepNet", beyond_profile=True), [5, 60, -4])


def test_the_lock_is_as_wide_as_asked():
    for yaw, locked in ((88.9, False), (89.1, True), (-89.1, True), (90.9, True), (91.1, False)):
        rotation = conventions.read([0.0, yaw, 0.0], "6DRepNet")
        assert conventions.gimbal_lock(rotation, "6DRepNet") == locked
        assert conventions.gimbal_lock(rotation, "6DRepNet", tolerance=2.0)


@pytest.mark.parametrize("name", list(conventions.CONVENTIONS))
def test_unknown_poses_of_a_batch_stay_unknown_and_harm_no_other(name):
    rotation = random_rotations(0, 4)
    values = conventions.write(rotation, name)
    values[1] = np.nan
    back = conventions.write(conventions.read(values, name), name)
    np.testing.assert_allclose(back, values, atol=1e-9)
    for bad in (values[1], np.where(np.isnan(values), np.inf, values)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            conventions.read(bad, name)
