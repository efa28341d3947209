"""The angle between rotations, and Euler angles that name their convention."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from strategies import random_rotations

from evaluation import euler_mae, geodesic_error


def rotations(n, seed):
    return random_rotations(seed, n)


seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds)
def test_it_agrees_with_the_quaternions(seed):
    a, b = rotations(6, seed), rotations(6, seed + 1)
    expected = [oracles.quaternion_angle(p, q) for p, q in zip(a.as_quat(), b.as_quat(), strict=True)]
    np.testing.assert_allclose(geodesic_error(a, b, degrees=False), expected, atol=1e-7)
    np.testing.assert_allclose(geodesic_error(a, b), np.rad2deg((a.inv() * b).magnitude()), atol=1e-9)


@given(seed=seeds)
def test_it_is_a_metric(seed):
    a, b, c = (rotations(4, seed + i) for i in range(3))
    assert (geodesic_error(a, a) == 0).all()
    np.testing.assert_allclose(geodesic_error(a, b), geodesic_error(b, a), atol=1e-9)
    assert (geodesic_error(a, c) <= geodesic_error(a, b) + geodesic_error(b, c) + 1e-9).all()
    assert (geodesic_error(a, b) <= 180).all()


@given(seed=seeds)
def test_a_common_turn_changes_nothing(seed):
    a, b, turn = (rotations(4, seed + i) for i in range(3))
    np.testing.assert_allclose(geodesic_error(turn * a, turn * b), geodesic_error(a, b), atol=1e-9)
    np.testing.assert_allclose(geodesic_error(a * turn, b * turn), geodesic_error(a, b), atol=1e-9)


@given(seed=seeds, power=st.floats(-14, 0))
def test_small_and_straight_angles_are_exact(seed, power):
    axis = np.random.default_rng(seed).standard_normal(3)
    axis /= np.linalg.norm(axis)
    start = rotations(1, seed)[0]
    for angle in (10.0**power, np.pi - 10.0**power):
        found = geodesic_error(start, start * Rotation.from_rotvec(angle * axis), degrees=False)
        assert found == pytest.approx(angle, abs=4e-15)


def test_matrices_broadcast_and_keep_their_batch():
    a = rotations(6, 0).as_matrix().reshape(2, 3, 3, 3)
    assert geodesic_error(a, np.eye(3)).shape == (2, 3)
    assert geodesic_error(np.eye(3), np.eye(3, dtype=int)).shape == ()
    assert geodesic_error(a[0].astype(np.float32), a[0]).max() < 1e-4


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, 1.0, -1.0]), "is no rotation"),
        (2 * np.eye(3), "is no rotation"),
        (np.full((3, 3), np.nan), "NaN or infinity"),
        (np.zeros(3), "expected rotation matrices"),
        ([["a"] * 3] * 3, "expected real numbers"),
    ],
)
def test_what_is_no_rotation_is_refused(matrix, message):
    with pytest.raises((TypeError, ValueError), match=message):
        geodesic_error(np.eye(3), matrix)


def test_batches_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"got rotations of shape \(3,\); expected \(2,\)"):
        geodesic_error(rotations(2, 0), rotations(3, 0))


angles = st.lists(st.tuples(*[st.floats(-720, 720)] * 6), min_size=1, max_size=8).map(np.array)


@given(table=angles)
def test_euler_mae_agrees_with_the_loop(table):
    truth, guess = (np.mod(x + 180, 360) - 180 for x in (table[:, :3], table[:, 3:]))
    found = euler_mae(truth, guess, convention="300W-LP")
    assert float(found) == pytest.approx(oracles.loop_euler_mae(truth, guess), abs=1e-9)
    assert found.mae == pytest.approx(np.mean(list(found.per_angle.values())))


@given(table=angles, turns=st.tuples(*[st.integers(-2, 2)] * 3))
def test_whole_turns_change_nothing(table, turns):
    truth, guess = table[:, :3], table[:, 3:]
    before = euler_mae(truth, guess, convention="300W-LP")
    after = euler_mae(truth + 360 * np.array(turns), guess, convention="300W-LP")
    np.testing.assert_allclose(after.errors, before.errors, atol=1e-9)
    assert (before.errors <= 180).all()
    radians = euler_mae(np.deg2rad(truth), np.deg2rad(guess), convention="300W-LP", degrees=False)
    np.testing.assert_allclose(np.rad2deg(radians.errors), before.errors, atol=1e-9)


def test_the_usual_filter_is_counted():
    truth = np.array([[0.0, 10.0, 0.0], [0.0, 100.0, 0.0], [99.0, 0.0, 0.0], [0.0, 0.0, -120.0]])
    found = euler_mae(truth, truth + 1, convention="300W-LP", limit=99)
    assert found.kept.tolist() == [True, False, True, False]
    assert (found.n, found.n_dropped) == (2, 2)
    assert float(found) == pytest.approx(1)
    assert "2 of 4 faces, |angle| <= 99" in str(found)
    assert "300W-LP angles" in str(found)
    with pytest.raises(ValueError, match="no face has all angles within 5"):
        euler_mae(truth[1:], truth[1:], convention="300W-LP", limit=5)


def test_faces_at_the_gimbal_are_counted():
    truth = np.array([[0.0, 88.0, 0.0], [0.0, -92.0, 0.0], [0.0, 84.9, 0.0], [89.0, 0.0, 0.0]])
    assert euler_mae(truth, truth, convention="300W-LP").n_gimbal == 2
    assert euler_mae(truth, truth, convention="other", middle="pitch").n_gimbal == 1
    assert euler_mae(np.deg2rad(truth), truth, convention="300W-LP", degrees=False).n_gimbal == 2


def test_an_agreement_says_with_what():
    found = euler_mae(np.zeros((2, 3)), np.ones((2, 3)), convention="300W-LP", reference="predictions of a network")
    assert "against predictions of a network" in str(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"convention": ""}, "expected the name of a convention"),
        ({"target": np.zeros((2, 2))}, r"expected angles of shape \(n_faces, 3\)"),
        ({"target": np.zeros((0, 3))}, "got no face"),
        ({"target": np.zeros((3, 3))}, r"prediction: got shape \(2, 3\)"),
        ({"prediction": np.full((2, 3), np.nan)}, "prediction: got NaN or infinity in face 0"),
        ({"limit": -1}, "limit: got -1"),
        ({"angles": ("yaw", "yaw", "roll")}, "expected three names"),
        ({"middle": "tilt"}, "expected three names"),
    ],
)
def test_bad_angles_are_refused(change, message):
    options = {"target": np.zeros((2, 3)), "prediction": np.zeros((2, 3)), "convention": "300W-LP"} | change
    with pytest.raises(ValueError, match=message):
        euler_mae(options.pop("target"), options.pop("prediction"), **options)


def test_bins_of_a_true_angle():
    truth = np.array([[0.0, 10.0, 0.0], [0.0, -40.0, 0.0], [5.0, 50.0, 0.0], [0.0, 95.0, 0.0]])
    found = euler_mae(truth, truth + [[1.0, 2.0, 3.0]] * 4, convention="300W-LP").bin_table(n_resamples=20)
    assert found.column("|yaw|") == ["[0, 30)", "[30, 60)", "[60, 90]"]
    assert found.column("faces") == [1, 2, 0]
    assert found.column("roll")[:2] == [3, 3]
    assert found.column("mean")[1].estimate == pytest.approx(2)
    assert found.column("mean")[2] is None
    assert "1 of 4 faces lie outside the bins." in found.notes
    with pytest.raises(ValueError, match="by: got 'tilt'"):
        euler_mae(truth, truth, convention="300W-LP").bin_table(by="tilt")
