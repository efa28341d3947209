"""The command line and the pictures of poses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pose import Camera, Pose, conventions, estimate_head_pose, project_points
from pose.__main__ import main
from pose.plotting import plot_axes, plot_reprojection
from pose.reference import HEAD_IBUG68
from shape_models import get_scheme
from shape_models.formats import LandmarkFile, write_landmarks

CAMERA = Camera.from_image_size((640, 480))
POSE = Pose(conventions.read([25.0, -10.0, 4.0], "HopeNet"), [20.0, 0.0, 700.0])


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "faces" / "one.pts"
    path.parent.mkdir()
    write_landmarks(path, project_points(HEAD_IBUG68, POSE, CAMERA))
    return path


def _run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_text_names_the_convention(face):
    result = _run(face, "--image-size", 640, 480)
    assert result.exit_code == 0, result.output
    header, line = result.output.splitlines()
    assert "300W-LP" in header
    assert [float(x) for x in line.split()[:3]] == [25.0, -10.0, 4.0]
    assert _run(face, "--image-size", 640, 480, "--convention", "OpenFace").output.splitlines()[1].split()[1] == "10.0"


def test_json_of_a_folder(face):
    write_landmarks(face.with_name("two.pts"), project_points(HEAD_IBUG68, POSE, CAMERA))
    for flags in ([], ["--deformable"], ["--focal", "640"]):
        result = _run(face.parent, "--image-size", 640, 480, "--json", *flags)
        records = json.loads(result.output)
        assert [r["status"] for r in records] == ["ok", "ok"]
        assert [r["name"] for r in records] == ["one", "two"]
        np.testing.assert_allclose([records[0][k] for k in ("yaw", "pitch", "roll")], [25, -10, 4], atol=0.1)
        np.testing.assert_allclose(records[0]["translation_mm"], [20, 0, 700], atol=2)


def test_a_bad_file_is_reported_and_the_others_are_read(face):
    (face.with_name("bad.pts")).write_text("version: 1\nn_points: 2\n{\n1 2\n}\n")
    result = _run(face.parent, "--image-size", 640, 480)
    assert result.exit_code == 1
    assert "bad.pts" in result.output
    assert "ok  one" in result.output
    assert "1 of 2 faces have no pose" in result.output


def test_other_frames_become_pixels_or_are_refused(face):
    """Fractions of the image and y from the bottom are no pixels: the size of the image makes them so."""
    points = project_points(HEAD_IBUG68, POSE, CAMERA)
    relative = LandmarkFile(points / [640, 480], image_name="one.jpg", frame="relative")
    upwards = LandmarkFile(points * [1, -1] + [0, 479], image_name="one.jpg", frame="y_up")
    for name, file in (("one.asf", relative), ("one.tps", upwards)):
        write_landmarks(face.with_name(name), file)
        result = _run(face.with_name(name), "--image-size", 640, 480)
        assert result.exit_code == 0, result.output
        assert [float(x) for x in result.output.splitlines()[1].split()[:3]] == [25.0, -10.0, 4.0]
    result = _run(face, "--image-size", 640, 480, "--json")
    assert json.loads(result.output)[0]["gimbal_lock"] is False
    (face.with_name("idav.pts")).write_text("\n".join(["Version 1.0", "68", *(f"S{i} {i} 2 3" for i in range(68))]))
    refused = _run(face.with_name("idav.pts"), "--image-size", 640, 480)
    assert refused.exit_code == 1
    assert "in the frame physical; expected pixels" in refused.output


def test_landmarks_with_names_may_come_in_any_order(face):
    points = project_points(HEAD_IBUG68, POSE, CAMERA)
    order = np.random.default_rng(0).permutation(68)
    labels = tuple(get_scheme("ibug68").names[i] for i in order)
    write_landmarks(face.with_name("named.json"), LandmarkFile(points[order], labels, image_name="named.jpg"))
    result = _run(face.with_name("named.json"), "--image-size", 640, 480)
    assert result.exit_code == 0, result.output
    assert [float(x) for x in result.output.splitlines()[1].split()[:3]] == [25.0, -10.0, 4.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--convention", "Kinect"], "expected one of"),
        (["--convention", "OpenCV"], "no yaw"),
        (["--scheme", "nobody"], "nobody"),
        (["--focal", "-3"], "positive"),
    ],
)
def test_bad_options(face, arguments, message):
    result = _run(face, "--image-size", 640, 480, *arguments)
    assert result.exit_code == 1
    assert message in result.output


def test_axes_point_where_the_head_points():
    """A head turned to its left: the blue axis ends to the right of where it starts; x ends to the right, y below."""

    pose = Pose(conventions.read([-30.0, 0.0, 0.0], "HopeNet"), [0.0, 0.0, 600.0])
    ax = plot_axes(pose, CAMERA)
    x, y, look = (line.get_xydata() for line in ax.lines)
    assert x[1, 0] > x[0, 0]
    assert y[1, 1] > y[0, 1]
    assert look[1, 0] > look[0, 0]
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_legend().get_texts()][2] == "towards the viewer (-z)"


def test_reprojection_of_one_and_of_many():

    pixels = project_points(HEAD_IBUG68, POSE, CAMERA) + 1.0
    ax = plot_reprojection(estimate_head_pose(pixels, CAMERA), pixels, image=np.zeros((480, 640)))
    assert len(ax.lines) == 3
    batch = np.stack([pixels, pixels])
    batch[1, 3:] = np.nan
    ax = plot_reprojection(estimate_head_pose(batch, CAMERA), batch)
    assert ax.get_title().endswith(" px, mean of 1 views; 1 without a pose")
    assert "inf" not in ax.get_title()
    with pytest.raises(ValueError, match="expected the 68 points"):
        plot_reprojection(estimate_head_pose(pixels, CAMERA), pixels[:5])
