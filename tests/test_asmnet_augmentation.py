"""Crops and augmentation: one frame for pixels, landmarks and pose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import random_rotations

from asmnet import Augmentation, LandmarkDataset, Preprocessing
from asmnet._pose_labels import angles_in_degrees, head_rotations, scaled_angles
from asmnet.augmentation import crop_transform, jitter_light, sample_crops
from pose import Camera, Pose, conventions, project_points
from pose.reference import HEAD_IBUG68
from shape_models import IBUG68

MIRROR = torch.from_numpy(np.array(IBUG68.mirror))
seeds = st.integers(0, 2**31 - 1)
GEOMETRY = Augmentation(
    rotation=20.0,
    scale=0.2,
    shift=0.1,
    aspect=0.1,
    flip=0.5,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    colour=0.0,
    grey=0.0,
    gamma=0.0,
    blur=0.0,
    noise=0.0,
    occlusion=0.0,
)


def draw_crops(seed, n=4, augmentation=GEOMETRY):
    generator = torch.Generator().manual_seed(seed)
    low = 20 + 20 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([low, low + 20 + 20 * torch.rand(n, 2, generator=generator, dtype=torch.float64)], 1)
    return crop_transform(boxes, margin=1.3, augmentation=augmentation, generator=generator), boxes


@given(seed=seeds)
def test_units_and_pixels_are_inverse(seed):
    crops, _ = draw_crops(seed)
    points = torch.from_numpy(np.random.default_rng(seed).uniform(-50, 150, (4, 7, 2)))
    torch.testing.assert_close(crops.to_pixels(crops.to_units(points)), points, atol=1e-9, rtol=0)


@given(seed=seeds)
def test_plain_crops_are_exact(seed):
    """The centre is the box's; the half-unit is half of margin times the larger side; nothing turns."""
    crops, boxes = draw_crops(seed, augmentation=None)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = 1.3 * (boxes[:, 2:] - boxes[:, :2]).amax(1)
    ends = crops.to_pixels(torch.tensor([[[0.0, 0.0], [0.5, -0.5]]], dtype=torch.float64).expand(4, 2, 2))
    torch.testing.assert_close(ends[:, 0], centre)
    torch.testing.assert_close(ends[:, 1], centre + torch.stack([side, -side], 1) / 2)
    assert not crops.flipped.any()
    assert not crops.angle.any()


@given(seed=seeds)
def test_draws_stay_within_their_bounds(seed):
    crops, boxes = draw_crops(seed, n=32, augmentation=GEOMETRY)
    larger = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    shift = (crops.centre - (boxes[:, :2] + boxes[:, 2:]) / 2) / larger[:, None]
    assert shift.abs().max() <= GEOMETRY.shift + 1e-6
    area = torch.linalg.det(crops.axes).abs().sqrt() / (1.3 * larger)
    assert (area.log().abs() <= GEOMETRY.scale + 1e-6).all()
    assert crops.angle.abs().max() <= math.radians(2 * GEOMETRY.rotation) + 1e-6
    assert (torch.linalg.det(crops.axes) < 0).eq(crops.flipped).all()


@pytest.mark.parametrize("seed", range(4))
def test_pixels_and_landmarks_move_together(seed):
    """A bright spot stands, after the crop, where its landmark says."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(30, 66, (6, 2))
    y, x = np.mgrid[:96, :96]
    image = np.exp(-((x - spots[:, 0, None, None]) ** 2 + (y - spots[:, 1, None, None]) ** 2) / 8)
    crops, _ = draw_crops(seed, n=6)
    stack = torch.from_numpy((255 * image).astype(np.uint8))[..., None].expand(6, 96, 96, 3)
    out = sample_crops(stack, crops, 128)[:, 0].double()
    units = crops.to_units(torch.from_numpy(spots)[:, None])[:, 0]
    steps = (torch.arange(128, dtype=torch.float64) + 0.5) / 128 - 0.5
    inside = units.abs().amax(1) < 0.4
    assert inside.any()
    total = out.sum((1, 2))
    found = torch.stack([(out.sum(1) * steps).sum(1), (out.sum(2) * steps).sum(1)], 1) / total[:, None]
    torch.testing.assert_close(found[inside], units[inside], atol=2e-3, rtol=0)


def test_outside_of_the_image_is_black():
    image = torch.full((1, 10, 10, 3), 255, dtype=torch.uint8)
    crop = crop_transform(torch.tensor([[-20.0, -20.0, -12.0, -12.0]]), margin=1.0)
    assert sample_crops(image, crop, 8).abs().max() == 0


def face_dataset(angles):
    """Landmarks of the reference head under known angles, with empty images."""
    camera = Camera.from_image_size((256, 256))
    rotation = conventions.read(np.deg2rad(angles)[:, [1, 0, 2]], "300W-LP")
    points = np.stack([project_points(HEAD_IBUG68, Pose(r, [0.0, 0.0, 600.0]), camera) for r in rotation])
    data = LandmarkDataset.from_arrays(
        np.zeros((len(points), 256, 256, 3), np.uint8), points, mirror=np.array(IBUG68.mirror)
    )
    return data, rotation.as_matrix()


ANGLES = np.array([[0.0, 0, 0], [30, 5, -8], [-20, -10, 15], [45, 12, 3]])


def test_pose_labels_recover_known_angles():
    data, matrices = face_dataset(ANGLES)
    rotations = head_rotations(data.landmarks, 256, IBUG68)
    np.testing.assert_allclose(rotations, matrices, atol=1e-5)
    np.testing.assert_allclose(angles_in_degrees(rotations), ANGLES, atol=1e-3)
    np.testing.assert_allclose(65 * scaled_angles(torch.from_numpy(matrices)).numpy(), ANGLES, atol=1e-9)
    missing = data.landmarks.copy()
    missing[0] = np.nan
    assert np.isnan(head_rotations(missing, 256, IBUG68)[0]).all()


@given(seed=seeds)
def test_scaled_angles_equal_the_convention(seed):
    matrices = random_rotations(seed, 5).as_matrix()
    matrices = matrices[matrices[:, 2, 2] > 0.1]
    if len(matrices):
        ours = 65 * scaled_angles(torch.from_numpy(matrices)).numpy()
        np.testing.assert_allclose(ours, angles_in_degrees(matrices), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_pose_turns_with_the_crop(seed):
    """The label of a turned or mirrored crop is the pose of the turned or mirrored landmarks."""
    data, matrices = face_dataset(ANGLES)
    data = data.with_rotations(matrices)
    turn = Augmentation(**{**Augmentation.none().__dict__, "rotation": 10.0, "flip": 0.5})
    batch = data.batch(
        range(4), Preprocessing(size=32), augmentation=turn, generator=torch.Generator().manual_seed(seed)
    )
    # the landmarks of the crop, put back about the camera's axis at their old size, undistorted
    side = 1.3 * (data.boxes[:, 2:] - data.boxes[:, :2]).max(1)
    centre = (data.boxes[:, :2] + data.boxes[:, 2:]) / 2
    offset = (centre - 127.5) * np.where(batch.crops.flipped.numpy(), -1, 1)[:, None] * [1, 1]
    offset[:, 1] = (centre - 127.5)[:, 1]
    angle = batch.crops.angle.numpy() * np.where(batch.crops.flipped.numpy(), -1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    points = batch.landmarks.numpy() * side[:, None, None] + (back @ offset[..., None])[:, None, :, 0] + 127.5
    expected = angles_in_degrees(head_rotations(points, 256, IBUG68))
    np.testing.assert_allclose(65 * batch.pose.numpy(), expected, atol=0.05)


def test_flip_swaps_left_and_right():
    data, _ = face_dataset(ANGLES[1:2])
    mirror = Augmentation(**{**Augmentation.none().__dict__, "flip": 1.0})
    plain = data.batch([0], Preprocessing(size=32)).landmarks
    flipped = data.batch([0], Preprocessing(size=32), augmentation=mirror).landmarks
    torch.testing.assert_close(flipped[:, MIRROR] * torch.tensor([-1.0, 1.0]), plain, atol=1e-6, rtol=0)
    assert flipped[0, 36, 0] < flipped[0, 45, 0]  # the eye on the left of the picture stays number 36


def test_asm_landmarks_move_with_the_face():
    """A(G) is computed before augmentation: in the batch it is the same affine image as the landmarks."""
    data, _ = face_dataset(ANGLES)
    form = Preprocessing(size=32)
    data = data.with_asm(lambda shapes: 0.9 * shapes, form)
    generator = torch.Generator().manual_seed(0)
    batch = data.batch(range(4), form, augmentation=GEOMETRY, generator=generator)
    plain = torch.from_numpy(data.crop_landmarks(form))
    plain = torch.where(batch.crops.flipped[:, None, None], plain[:, MIRROR], plain)
    ones = torch.ones(4, 68, 1, dtype=torch.float64)
    affine = torch.linalg.lstsq(torch.cat([plain, ones], 2), batch.landmarks.double()).solution
    expected = torch.cat([0.9 * plain, ones], 2) @ affine
    torch.testing.assert_close(batch.asm_landmarks.double(), expected, atol=1e-5, rtol=0)


def test_light_keeps_the_range_and_none_changes_nothing():
    images = torch.rand(8, 3, 40, 40)
    generator = torch.Generator().manual_seed(0)
    strong = Augmentation(brightness=0.9, contrast=0.9, blur=1.0, noise=0.2, occlusion=1.0, grey=0.5)
    out = jitter_light(images.clone(), strong, generator=generator)
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out - images).abs().mean() > 0.05
    torch.testing.assert_close(jitter_light(images.clone(), Augmentation.none(), generator=generator), images)


def test_grey_and_occlusion_do_what_they_say():
    images = torch.rand(4, 3, 40, 40)
    nothing = Augmentation.none().__dict__
    grey = jitter_light(images.clone(), Augmentation(**{**nothing, "grey": 1.0}))
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    covered = jitter_light(images.clone(), Augmentation(**{**nothing, "occlusion": 1.0, "occlusion_size": 0.5}))
    changed = (covered != images).any(1).float().mean((1, 2))
    assert (changed <= 0.3).all()
    assert changed.max() > 0


@pytest.mark.parametrize("size", [0.02, 0.05, 0.4])
def test_covers_are_no_larger_than_asked(size):
    nothing = Augmentation.none().__dict__
    images = torch.rand(40, 3, 100, 100)
    options = Augmentation(**{**nothing, "occlusion": 1.0, "occlusion_size": size})
    out = jitter_light(images.clone(), options, generator=torch.Generator().manual_seed(0))
    covered = ((out - images).abs() > 1e-4).any(1)
    for axis in (1, 2):
        assert covered.any(axis).sum(1).max() <= round(100 * size) + 1
    assert covered.any((1, 2)).float().mean() > 0.5


@pytest.mark.parametrize("side", [112, 224])
def test_the_blur_is_a_gaussian(side):
    """A point becomes a bell of the drawn width, to its third standard deviation, and edges do not darken."""
    image = torch.zeros(20, 3, side, side)
    image[:, :, side // 2, side // 2] = 1
    nothing = Augmentation.none().__dict__
    blur = Augmentation(**{**nothing, "blur": 1.0})
    out = jitter_light(image, blur, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(out.sum((2, 3)), torch.ones(20, 3, dtype=torch.float64), atol=1e-4, rtol=0)
    x = torch.arange(side, dtype=torch.float64) - side // 2
    sigma = (out.sum(2) * x**2).sum(-1).sqrt()[:, 0] * 112 / side
    assert sigma.min() < 0.8  # of 0.4 to 1.6, up to what pixels can show
    assert 1.3 < sigma.max() <= 1.61
    white = jitter_light(torch.ones(4, 3, side, side), blur)
    torch.testing.assert_close(white, torch.ones_like(white))


def test_the_generator_decides():
    images = torch.rand(4, 3, 32, 32)
    a, b, c = (
        jitter_light(images.clone(), Augmentation(), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("changes", [{"flip": 1.5}, {"rotation": -1.0}, {"noise": math.inf}, {"blur": math.nan}])
def test_wrong_settings_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        Augmentation(**changes)


def test_empty_boxes_are_refused():
    with pytest.raises(ValueError, match="index 1"):
        crop_transform(torch.tensor([[0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 5.0, 9.0]]), margin=1.0)
