"""Depth labels: those of the 3-D face model, at the scale of the image."""

import numpy as np
import pytest

from asmnet._pose_labels import DISTANCE, head_depths
from pose import Camera, FaceModel3D, Pose, conventions, project_points
from shape_models import IBUG68, IMM58


@pytest.mark.parametrize("yaw", [-30.0, 0.0, 30.0])
def test_depths_of_a_known_head_come_back(yaw):
    model = FaceModel3D.bundled()
    rotation = conventions.read(np.deg2rad([5.0, yaw, 10.0]), "300W-LP")
    head = Pose(rotation, [30.0, -20.0, 1.3 * DISTANCE * 220])
    points = project_points(model.basis.mean, head, Camera(DISTANCE * 256, (127.5, 127.5)))
    z = head(model.basis.mean)[:, 2]
    expected = DISTANCE * 256 * (z - z.mean()) / z.mean()
    found = head_depths(points[None], 256, IBUG68)[0]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.ptp(expected))
    assert abs(found.mean()) < 1e-9
    if yaw == 0:
        assert found[30] < found[27] < found[0]  # the tip of the nose is nearer than its bridge, the ear is far


def test_depths_scale_with_the_image_and_missing_faces_stay_unknown():
    model = FaceModel3D.bundled()
    points = project_points(model.basis.mean, Pose.identity([0, 0, 2500]), Camera(2560, (127.5, 127.5)))
    small = head_depths(points[None], 256, IBUG68)
    large = head_depths(2 * points[None] + 0.5, 512, IBUG68)
    np.testing.assert_allclose(large, 2 * small, rtol=1e-3, atol=1e-3)
    assert np.isnan(head_depths(np.full((1, 68, 2), np.nan), 256, IBUG68)).all()
    with pytest.raises(ValueError, match="no depth labels for imm58; expected ibug68"):
        head_depths(np.zeros((1, 58, 2)), 256, IMM58)
