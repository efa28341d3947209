"""How far labels lie off the mirror-symmetric place: measured, undone in training, done to predictions where asked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asmnet import LandmarkDataset, Predictor, Preprocessing, TrainConfig, train
from asmnet._scores import eye_corners, eye_offsets, mirror_part
from asmnet.measuring import LabelOffset, label_offset
from shape_models import IBUG68, make_faces, write_pts
from shape_models.datasets import load_landmarks

CORNERS = eye_corners(IBUG68)
MIRROR = np.asarray(IBUG68.mirror)
small = st.floats(-0.1, 0.1)


def turned(shapes, angle, scale):
    """Shapes turned and scaled about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return scale * shapes @ np.array([[c, s], [-s, c]])


@given(right=small, below=small, angle=st.floats(-3, 3), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_a_shift_in_the_frames_of_the_faces_is_measured_as_it_is(right, below, angle, scale, seed):
    upright = make_faces(3, rng=seed)
    distance = np.linalg.norm(upright[:, 45] - upright[:, 36], axis=1)
    along = (upright[:, 45] - upright[:, 36]) / distance[:, None]
    down = np.stack([-along[:, 1], along[:, 0]], axis=1)
    labels = upright + (distance[:, None] * (right * along + below * down))[:, None]
    found = eye_offsets(turned(labels, angle, scale), turned(upright, angle, scale), IBUG68)
    np.testing.assert_allclose(found, np.broadcast_to([right, below], found.shape), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 999))
def test_a_set_joined_with_its_mirror_image_has_no_offset(seed):
    rng = np.random.default_rng(seed)
    labels = make_faces(4, rng=seed)
    guess = labels + rng.normal(0, 3, labels.shape)
    both = [np.concatenate([part, part[:, MIRROR] * [-1, 1]]) for part in (labels, guess)]
    found = LabelOffset(eye_offsets(*both, IBUG68), np.arange(8), IBUG68)
    np.testing.assert_allclose(found.landmarks, 0, rtol=0, atol=1e-12)
    assert found.interval.estimate == pytest.approx(0, abs=1e-12)


@given(seed=st.integers(0, 999))
def test_the_part_that_can_be_learned_and_the_part_that_cannot_are_all(seed):
    offsets = np.random.default_rng(seed).normal(size=(68, 2))
    odd = mirror_part(offsets, MIRROR)
    np.testing.assert_allclose(odd[MIRROR] * [1, -1], odd, rtol=0, atol=1e-15)  # again the same: nothing is lost
    np.testing.assert_allclose(mirror_part(odd, MIRROR), odd, rtol=0, atol=1e-15)
    np.testing.assert_allclose(mirror_part(offsets - odd, MIRROR), 0, rtol=0, atol=1e-15)


def test_images_joined_with_their_mirror_images_have_no_offset(tmp_path):
    shapes = make_faces(3, rng=0)
    shapes = np.round(80 * (shapes - shapes.mean(1, keepdims=True)) / np.ptp(shapes, axis=(1, 2)).max() + [75, 60])
    rng = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        image = rng.integers(0, 255, (120, 150, 3)).astype(np.uint8)
        for name, pixels, points in (
            ("plain", image, shape),
            ("flipped", image[:, ::-1], np.array([149, 0]) + shape[MIRROR] * [-1, 1]),
        ):
            Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}{i}.png")
            write_pts(tmp_path / f"{name}{i}.pts", points)
    found = label_offset(Predictor.from_pretrained("asmnet-68"), load_landmarks(tmp_path, scheme="ibug68"))
    assert np.abs(found.faces).max() > 0.01
    np.testing.assert_allclose(found.landmarks, 0, rtol=0, atol=1e-5)
    assert "of the eye distance to the right" in str(found)
    assert "left_eye" in str(found)


def drawn(n=4):
    """Noise with faces in it."""
    rng = np.random.default_rng(1)
    shapes = make_faces(n, rng=1)
    shapes = 40 * (shapes - shapes.mean(1, keepdims=True)) / np.ptp(shapes, axis=(1, 2)).max() + 32
    data = LandmarkDataset.from_arrays(rng.integers(0, 255, (n, 64, 64, 3), np.uint8), shapes, mirror=MIRROR)
    return replace(data, asm_landmarks=shapes + rng.normal(0, 0.3, shapes.shape))


@given(offset=small)
def test_moved_labels_move_back(offset):
    data = drawn()
    moved = data.with_labels_moved(offset, CORNERS)
    found = eye_offsets(moved.landmarks, data.landmarks, IBUG68)
    np.testing.assert_allclose(found, np.broadcast_to([offset, 0], found.shape), rtol=0, atol=1e-12)
    back = moved.with_labels_moved(-offset, CORNERS)
    np.testing.assert_allclose(back.landmarks, data.landmarks, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        moved.asm_landmarks - data.asm_landmarks, moved.landmarks - data.landmarks, rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(moved.boxes, data.boxes)


def test_a_face_without_eyes_stays_and_its_neighbours_move():
    data = drawn()
    holes = data.landmarks.copy()
    holes[1, 36] = np.nan
    moved = replace(data, landmarks=holes).with_labels_moved(0.05, CORNERS).landmarks
    np.testing.assert_array_equal(moved[1], holes[1])
    np.testing.assert_array_equal(moved[[0, 2, 3]], data.with_labels_moved(0.05, CORNERS).landmarks[[0, 2, 3]])


def test_training_learns_the_labels_moved_back(tmp_path):
    data = drawn(8)
    config = TrainConfig(
        network_options={"width": 0.25}, preprocessing=Preprocessing(size=32), epochs=1, batch_size=4, warmup_epochs=0
    )
    config, more = replace(config, extra_fraction=0.5), drawn(4)
    same = {"anchors": CORNERS, "device": "cpu"}
    by_option = train(replace(config, label_offset=0.02), data, data, folder=tmp_path / "option", extra=[more], **same)
    moved, others = (part.with_labels_moved(-0.02, CORNERS) for part in (data, more))
    by_hand = train(config, moved, data, folder=tmp_path / "hand", extra=[others], **same)
    plain = train(config, data, data, folder=tmp_path / "plain", extra=[more], **same)
    own, other, without = (run.network.state_dict() for run in (by_option, by_hand, plain))
    assert all((own[name] == other[name]).all() for name in own)
    assert any((own[name] != without[name]).any() for name in own)
    assert by_option.history[0].nme == by_hand.history[0].nme  # both against the labels as they are
    with pytest.raises(ValueError, match="got no anchors"):
        train(replace(config, label_offset=0.02), data, folder=tmp_path / "without")


@pytest.mark.parametrize("offset", [0.77, float("nan"), "300w"])
def test_offsets_in_other_units_are_refused(offset):
    with pytest.raises((TypeError, ValueError), match="label_offset"):
        TrainConfig(label_offset=offset)
    with pytest.raises(ValueError, match="expected a small fraction of the eye distance"):
        drawn().with_labels_moved(offset, CORNERS)
