"""The reference head and what is read from faces with it."""

import numpy as np
import pytest

from pose import Camera, Pose, conventions, estimate_head_pose, project_points, solve_pnp
from pose.reference import (
    CHIN_LEAN,
    HEAD_IBUG68,
    INTERPUPILLARY_DISTANCE,
    WEIGHTS_IBUG68,
    derive_reference,
    reference_landmarks,
)
from shape_models import IBUG68, LandmarkScheme, get_scheme, read_landmarks

CAMERA = Camera.from_image_size((640, 480))
MIRROR = np.asarray(IBUG68.mirror)


def test_reference_is_symmetric_to_the_last_bit():
    np.testing.assert_array_equal(HEAD_IBUG68[MIRROR] * [-1, 1, 1], HEAD_IBUG68)
    np.testing.assert_array_equal(WEIGHTS_IBUG68[MIRROR], WEIGHTS_IBUG68)


def test_reference_keeps_its_rules():
    """Millimetres from the distance of the eyes, origin between them, the chin line leaning back, the nose in front."""
    eyes = [HEAD_IBUG68[IBUG68.groups[f"{side}_eye"]].mean(0) for side in ("right", "left")]
    np.testing.assert_allclose(eyes[1] - eyes[0], [INTERPUPILLARY_DISTANCE, 0, 0], atol=0.01)
    np.testing.assert_allclose(np.mean(eyes, axis=0), 0, atol=0.01)
    line = HEAD_IBUG68[8] - HEAD_IBUG68[27]
    np.testing.assert_allclose(np.degrees(np.arctan2(line[2], line[1])), CHIN_LEAN, atol=0.02)
    assert HEAD_IBUG68[30, 2] == HEAD_IBUG68[:, 2].min()
    assert HEAD_IBUG68[30, 1] > 0  # y points down


def test_a_frontal_face_reads_zero():
    pixels = project_points(HEAD_IBUG68, Pose.identity([0, 0, 600]), CAMERA)
    result = estimate_head_pose(pixels, CAMERA)
    np.testing.assert_allclose(result.angles().as_array(), 0, atol=1e-7)
    np.testing.assert_allclose(result.pose.translation, [0, 0, 600], atol=1e-4)


def test_the_mirror_image_negates_yaw_and_roll(rng):
    """Flip the picture, swap the indices: yaw and roll change their sign, pitch stays, for any noisy face."""
    angles = np.c_[rng.uniform(-70, 70, 50), rng.uniform(-30, 30, 50), rng.uniform(-40, 40, 50)]
    pose = Pose(conventions.read(angles, "HopeNet"), np.c_[rng.uniform(-50, 50, (50, 2)), rng.uniform(400, 900, 50)])
    pixels = project_points(HEAD_IBUG68, pose, CAMERA) + rng.normal(size=(50, 68, 2))
    flipped = pixels[:, MIRROR] * [-1, 1] + [639, 0]
    one, other = (estimate_head_pose(p, CAMERA).angles().as_array() for p in (pixels, flipped))
    np.testing.assert_allclose(other, one * [-1, 1, -1], atol=1e-7)
    np.testing.assert_allclose(one, angles, atol=4)


def test_unswapped_mirror_images_are_seen_from_behind():
    pose = Pose(conventions.read([20.0, -5.0, 3.0], "HopeNet"), [0, 0, 600])
    pixels = project_points(HEAD_IBUG68, pose, CAMERA) * [-1, 1] + [639, 0]
    result = estimate_head_pose(pixels, CAMERA)
    assert not result.converged
    assert result.status in ("seen from behind", "mirrored")
    batch = estimate_head_pose(np.stack([pixels, project_points(HEAD_IBUG68, pose, CAMERA)]), CAMERA)
    assert batch.converged.tolist() == [False, True]


def test_other_schemes_by_name():
    inner = IBUG68.subset(range(17, 68))
    pose = Pose(conventions.read([20.0, -5.0, 3.0], "HopeNet"), [0, 0, 600])
    pixels = project_points(HEAD_IBUG68, pose, CAMERA)[17:]
    np.testing.assert_allclose(estimate_head_pose(pixels, CAMERA, scheme=inner).angles().yaw, 20, atol=1e-6)
    with pytest.raises(ValueError, match="expected at least 6"):
        reference_landmarks(LandmarkScheme("hand", 20))


def test_hidden_landmarks_can_be_left_out():
    pose = Pose(conventions.read([50.0, 0.0, 0.0], "HopeNet"), [0, 0, 600])
    pixels = project_points(HEAD_IBUG68, pose, CAMERA)
    pixels[:17] += 30
    weights = np.ones(68)
    weights[:17] = 0
    np.testing.assert_allclose(estimate_head_pose(pixels, CAMERA, weights=weights).angles().yaw, 50, atol=1e-6)
    pixels[:17] = np.nan
    np.testing.assert_allclose(estimate_head_pose(pixels, CAMERA).angles().yaw, 50, atol=1e-6)


def _aflw2000(data_dir):
    data = np.load(data_dir / "landmarks" / "aflw2000_3d68.npz")
    return data["shapes"] * [1, 1, -1], data["abs_yaw_degrees"].astype(float)


def test_the_table_is_what_the_code_derives(data_dir):
    shapes, _ = _aflw2000(data_dir)
    np.testing.assert_allclose(derive_reference(shapes[::2]), HEAD_IBUG68, atol=0.02)


def test_left_handed_shapes_are_refused(data_dir):
    shapes, _ = _aflw2000(data_dir)
    with pytest.raises(ValueError, match="negating z"):
        derive_reference(shapes[:20] * [1, 1, -1])


def test_real_faces_labelled_frontal_read_frontal(data_dir):
    """On the half that was no source: median |yaw| of faces labelled under 2 degrees is at most 2."""
    shapes, labels = _aflw2000(data_dir)
    faces, labels = shapes[1::2, :, :2], labels[1::2]
    result = estimate_head_pose(faces, Camera.from_image_size(450))
    yaw = np.abs(conventions.write(result.pose.rotation, "HopeNet", beyond_profile=True)[:, 0])
    assert np.median(yaw[labels < 2]) <= 2
    assert np.median(np.abs(yaw - labels)[labels < 30]) < 3
    assert result.converged.mean() > 0.98


def test_rigid_fit_is_the_weighted_pnp_of_the_reference(rng):
    pixels = project_points(HEAD_IBUG68, Pose.identity([0, 0, 600]), CAMERA) + rng.normal(size=(68, 2))
    expected = solve_pnp(HEAD_IBUG68, pixels, CAMERA, weights=WEIGHTS_IBUG68)
    found = estimate_head_pose(pixels, CAMERA)
    np.testing.assert_allclose(found.pose.as_matrix(), expected.pose.as_matrix(), rtol=0, atol=1e-6)


def test_a_longer_jaw_is_not_read_as_a_shorter_one():
    """Both schemes number the jaw from the ear; of WFLW only every second point is one of IBUG68."""
    points, weights = reference_landmarks("wflw98")
    np.testing.assert_array_equal(points[[0, 2, 14, 16, 18, 32]], HEAD_IBUG68[[0, 1, 7, 8, 9, 16]])
    assert (weights[1:32:2] == 0).all()
    pose = Pose(conventions.read([35.0, -5.0, 3.0], "HopeNet"), [0, 0, 600])
    face = np.full((98, 3), 5.0)  # any place for points that IBUG68 does not have
    face[:33:2] = HEAD_IBUG68[:17]
    face[[60, 64, 68, 72]], face[51:60] = HEAD_IBUG68[[36, 39, 42, 45]], HEAD_IBUG68[27:36]
    face[76:96] = HEAD_IBUG68[48:68]
    use = weights > 0
    use[(face == 5.0).all(axis=1)] = False
    result = estimate_head_pose(project_points(face, pose, CAMERA), CAMERA, scheme="wflw98", weights=use)
    np.testing.assert_allclose(result.angles().as_array(), [35, -5, 3], atol=1e-6)


def test_schemes_without_a_table_have_no_jaw():
    for name in ("imm58", "muct68"):
        scheme = get_scheme(name)
        points, weights = reference_landmarks(scheme)
        jaw = [i for i, label in enumerate(scheme.names) if "jaw" in label]
        places = {tuple(p) for p in HEAD_IBUG68[:17]}
        assert all(weights[i] == 0 or tuple(points[i]) in places for i in jaw)
        if name == "imm58":
            assert (weights[jaw] == 0).all()
        chin = scheme.names.index("chin")
        np.testing.assert_array_equal(points[chin], HEAD_IBUG68[8])


def test_portraits_look_ahead(data_dir):
    """The first two pictures of each person of IMM are frontal: the means of all angles are near zero."""
    files = [path for path in sorted((data_dir / "imm").glob("*.pts")) if path.stem.split("-")[1][0] in "12"]
    shapes = np.stack([np.asarray(read_landmarks(path)) for path in files])
    angles = estimate_head_pose(shapes, CAMERA, scheme="imm58").angles().as_array()
    assert len(files) == 60
    assert np.abs(angles.mean(axis=0)).max() < 5


def test_fractions_of_the_image_are_no_pixels():
    camera = Camera.from_image_size((640, 480))
    pixels = project_points(HEAD_IBUG68, Pose.identity([0, 0, 600]), camera)
    for landmarks in (pixels / [640, 480], np.stack([pixels / [640, 480]] * 2)):
        with pytest.raises(ValueError, match=r"fractions of the image; .* Try landmarks \* \[width, height\]"):
            estimate_head_pose(landmarks, camera)
    unit = Camera(1.0, (0.0, 0.0))  # a camera that counts in focal lengths
    assert estimate_head_pose((pixels - [319.5, 239.5]) / 640, unit).pose.translation[2] == pytest.approx(600)
