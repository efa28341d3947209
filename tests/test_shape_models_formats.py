"""Landmark files: exact round trips, the traps of each format, and errors that name file, line and field."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shape_models import LandmarkFile, LandmarkFileError, read_pts, write_pts

coordinates = st.floats(allow_nan=False, allow_infinity=False, width=64)
planar = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=coordinates)
spatial = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=coordinates)


@given(points=planar | spatial, origin=st.sampled_from([0, 1, 0.5]), missing=st.booleans())
def test_pts_round_trip_is_exact(tmp_path_factory, points, origin, missing):
    path = tmp_path_factory.getbasetemp() / "round.pts"
    if missing:
        points[0] = np.nan
    write_pts(path, points, origin=origin)
    np.testing.assert_array_equal(read_pts(path, origin=origin).points, points)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nn_points: 2\n{\n2 3\n4.5 6\n}\n",
        "\ufeffversion: 1\r\nn_points:  2\r\n{\r\n2 3  \r\n4.5\t6 \r\n}\r\n",
        "VERSION : 1\n\nN_Points:2 {\n\n 2, 3\n\n 4.5, 6 }",
        "n_points: 2\n{\n2 3\n4.50e0 6.\n}",
    ],
)
def test_pts_variants_of_spelling(tmp_path, text):
    path = tmp_path / "a.pts"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_pts(path).points, [[1, 2], [3.5, 5]])
    np.testing.assert_array_equal(read_pts(path, origin=0).points, [[2, 3], [4.5, 6]])
    path.write_bytes(text.encode("utf-16"))
    np.testing.assert_array_equal(read_pts(path).points, [[1, 2], [3.5, 5]])


def test_pts_of_idav_is_another_format(tmp_path):
    path = tmp_path / "skull.pts"
    path.write_text("Version 1.0\n3\nS000 -1.5 2 3\nS001 9999 9999 9999\nC000_000 4 5 6e-1\n")
    file = read_pts(path)
    np.testing.assert_array_equal(file.points, [[-1.5, 2, 3], [np.nan] * 3, [4, 5, 0.6]])
    assert file.labels == ("S000", "S001", "C000_000")
    assert file.frame == "physical"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends without points"),
        ("version: 2\n", "line 1: version: got '2'; expected 1"),
        ("version: 1\nn_points: many\n{\n1 2\n}", "line 2: n_points: got 'many'"),
        ("version: 1\nn_points: 999999999\n{\n1 2\n}", "n_points: got 999999999, but the file has 1 points"),
        ("version: 1\nn_points: 99999999999999\n{\n1 2\n}", "expected a count"),
        ("n_points: 1\n{\n1 2\n", "without a closing brace"),
        ("n_points: 1\n{\n1 2\n}\nmore", "line 5: got 'more' after"),
        ("n_points: 2\n{\n1 2\n1 2 3\n}", "line 4: got 3 fields .*expected the 2"),
        ("{\n1 1_0\n}", "line 2: y: got '1_0'; expected a number"),
        ("{\n1 1e999\n}", "line 2: y: got 1e999, which is too large"),
        ("{\n1 inf\n}", "y: got 'inf'"),
        ("{\n}", "no points"),
        ("hello", "line 1: got 'hello'"),
        ("Version 1.0\n", "ends after its version"),
        ("Version 1.0\n1\nS000 1 2\n", "line 3: got 3 fields"),
        ("Version 1.0\n2\nS000 1 2 3\n", "got 2, but the file has 1"),
        ("\0\0", "binary data"),
    ],
)
def test_pts_errors_name_file_line_and_field(tmp_path, text, message):
    path = tmp_path / "a.pts"
    path.write_text(text)
    with pytest.raises(LandmarkFileError, match=f"a.pts.*{message}"):
        read_pts(path)


def test_pts_checks_the_scheme(tmp_path):
    path = tmp_path / "a.pts"
    write_pts(path, np.zeros((3, 2)))
    with pytest.raises(LandmarkFileError, match=r"got 3 landmarks; expected 68 .ibug68"):
        read_pts(path, scheme="ibug68")


def test_write_refuses_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pts"
    write_pts(path, np.zeros((3, 2)))
    for wrong, message in [
        (np.zeros(3), "expected .n_landmarks, 2 or 3."),
        (np.zeros((0, 2)), "got landmarks of shape"),
        ([[np.inf, 0]], "infinite"),
        ("abc", "expected an array"),
        (LandmarkFile(np.zeros((3, 2)), frame="relative"), "in the frame 'relative'"),
    ]:
        with pytest.raises(LandmarkFileError, match=message):
            write_pts(path, wrong)
    assert len(read_pts(path)) == 3
    with pytest.raises(LandmarkFileError, match="cannot be written"):
        write_pts(tmp_path / "no" / "a.pts", np.zeros((3, 2)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pts"]


def test_landmark_file_is_an_array(tmp_path):
    file = LandmarkFile(np.arange(6.0).reshape(3, 2))
    assert np.stack([file, file]).shape == (2, 3, 2)
    assert np.asarray(file, dtype=np.float32).dtype == np.float32
    assert np.asarray(file) is file.points
