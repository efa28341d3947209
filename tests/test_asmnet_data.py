"""Packed faces: frames, the cache, corrupt files, and real images."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from asmnet import Augmentation, LandmarkDataset, Preprocessing, pack_faces
from asmnet.data import CorruptImageError, load_image


def spot_image(path, spots, size=(120, 90), scale=1):
    """Write an image with a bright Gaussian at each spot."""
    y, x = np.mgrid[: size[1] * scale, : size[0] * scale]
    image = sum(np.exp(-((x - s[0]) ** 2 + (y - s[1]) ** 2) / (2 * (3 * scale) ** 2)) for s in spots)
    Image.fromarray((255 * np.clip(image, 0, 1)).astype(np.uint8)).convert("RGB").save(path)


def sample(path, points, group=""):
    return SimpleNamespace(image=path, landmarks=np.asarray(points, float), group=group)


@pytest.mark.parametrize("scale", [1, 5])
def test_packed_landmarks_point_at_the_same_pixels(tmp_path, scale):
    """Also of large images that are shrunk, and of boxes that reach beyond the image."""
    points = np.array([[20.0, 30.0], [60.0, 25.0], [40.0, 70.0]]) * scale
    for i, shift in enumerate([(0, 0), (45, 10)]):
        moved = points + np.array(shift) * scale
        path = tmp_path / f"{i}.png"
        spot_image(path, moved[:1], scale=scale)
        data = pack_faces([sample(path, moved)], size=64, cache=tmp_path)
        image = np.asarray(data.images[0, :, :, 0], float)
        y, x = np.mgrid[:64, :64]
        found = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
        np.testing.assert_allclose(found, data.landmarks[0, 0], atol=0.1)
        np.testing.assert_allclose(data.source_landmarks()[0], moved, atol=1e-9)


def test_second_call_maps_the_first(tmp_path):
    path = tmp_path / "face.png"
    spot_image(path, [(30, 30)])
    items = [sample(path, [[20, 20], [40, 50]], "a")]
    first = pack_faces(items, size=32, cache=tmp_path / "cache")
    assert isinstance(first.images, np.memmap)
    (folder,) = (tmp_path / "cache").iterdir()
    stamp = (folder / "images.npy").stat().st_mtime_ns
    second = pack_faces(items, size=32, cache=tmp_path / "cache")
    assert (folder / "images.npy").stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.images, second.images)
    pack_faces([sample(path, [[20, 20], [40, 51]], "a")], size=32, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert second.groups == ("a",)


def test_corrupt_images_are_named_counted_and_skipped_when_asked(tmp_path):
    good, broken, text = tmp_path / "good.jpg", tmp_path / "broken.jpg", tmp_path / "text.jpg"
    spot_image(good, [(30, 30)])
    broken.write_bytes(good.read_bytes()[:300])
    text.write_text("no image")
    items = [sample(p, [[20, 20], [40, 50]]) for p in (broken, good, text)]
    with pytest.raises(CorruptImageError, match=r"2 image file\(s\).*broken.*text.*skip_corrupt") as caught:
        pack_faces(items, size=32, cache=tmp_path / "cache")
    assert caught.value.paths == [str(broken), str(text)]
    with pytest.warns(UserWarning, match=r"2 image file\(s\) skipped"):
        data = pack_faces(items, size=32, cache=tmp_path / "cache", skip_corrupt=True)
    assert data.names == (str(good),)
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(CorruptImageError):
        pack_faces(items[:1], size=32, cache=tmp_path / "cache", skip_corrupt=True)


def test_missing_files_and_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got none"):
        pack_faces([], cache=tmp_path)
    with pytest.raises(ValueError, match="have no image"):
        pack_faces([sample(None, [[1, 1], [2, 2]])], cache=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pack_faces([sample(tmp_path / "nowhere.png", [[1, 1], [2, 2]])], cache=tmp_path)
    path = tmp_path / "face.png"
    spot_image(path, [(30, 30)])
    with pytest.raises(ValueError, match="span no box"):
        pack_faces([sample(path, [[1, 1], [1, 5]])], cache=tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".pack")]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 100, 100), ("RGBA", (200, 200, 200, 128), 100), ("I;16", 100 * 257, 100), ("P", 0, 0), ("1", 1, 255)],
)
def test_files_of_all_kinds_become_rgb(tmp_path, mode, value, expected):
    path = tmp_path / "image.png"
    Image.new(mode, (6, 4), value).save(path)
    out = load_image(path)
    assert out.shape == (4, 6, 3)
    assert np.abs(out.astype(int) - expected).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").shape == (6, 4, 3)


def test_landmarks_outside_their_image_are_refused(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("L", (99, 99), 200).save(path)
    with pytest.raises(ValueError, match=r"landmarks of image .*grey.png: got 2 of 2 outside its image of 99 x 99"):
        pack_faces([sample(path, [[1050, 1040], [1060, 1050]])], cache=tmp_path)


def test_images_of_unknown_range_are_not_called_corrupt(tmp_path):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"deep.tif: got uint16 from 4095 to 4095.*maximum=4095"):
        pack_faces([sample(path, [[1, 1], [9, 9]])], cache=tmp_path, skip_corrupt=True)
    assert load_image(path, maximum=4095).min() == 255


def test_a_scheme_without_a_mirror_map_is_not_flipped(tmp_path):
    from shape_models import LandmarkScheme
    from shape_models.datasets import load_landmarks

    Image.new("L", (40, 40), 200).save(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text("version: 1\nn_points: 2\n{\n3 4\n30 31\n}\n")
    samples = load_landmarks(tmp_path, scheme=LandmarkScheme("wing2", 2))
    assert pack_faces(samples, cache=tmp_path / "cache").mirror is None


def test_missing_landmarks_stay_missing():
    points = np.array([[[4.0, 4.0], [12.0, 10.0], [np.nan, np.nan]]])
    data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
    np.testing.assert_array_equal(data.boxes, [[4, 4, 12, 10]])
    batch = data.batch([0], Preprocessing(size=32))
    assert torch.isnan(batch.landmarks[0, 2]).all()
    assert torch.isfinite(batch.landmarks[0, :2]).all()
    with_asm = data.with_asm(lambda shapes: shapes, Preprocessing(size=32))
    assert np.isnan(with_asm.asm_landmarks).all()


def test_subsets_keep_what_belongs_together():
    rng = np.random.default_rng(0)
    data = LandmarkDataset.from_arrays(rng.integers(0, 255, (5, 16, 16, 3), np.uint8), rng.uniform(2, 14, (5, 3, 2)))
    data = data.with_weight(0.5).with_rotations(np.tile(np.eye(3), (5, 1, 1))).with_depths(rng.normal(size=(5, 3)))
    part = data.take([3, 1])
    assert part.names == ("3", "1")
    for name in ("images", "landmarks", "boxes", "weights", "rotations", "depths"):
        np.testing.assert_array_equal(getattr(part, name), getattr(data, name)[[3, 1]])


def test_batches_cut_from_a_copy_on_the_device_are_the_same():
    rng = np.random.default_rng(0)
    points = rng.uniform(2, 14, (5, 4, 2))
    data = LandmarkDataset.from_arrays(rng.integers(0, 255, (5, 16, 16, 3), np.uint8), points, mirror=[1, 0, 2, 3])
    data = data.with_rotations(np.tile(np.eye(3), (5, 1, 1))).with_depths(rng.normal(size=(5, 4)))
    data = data.with_companion("teacher", points + 1).with_asm(lambda shapes: 0.9 * shapes, Preprocessing(size=32))
    there = data.to("cpu")
    assert set(there._resident) >= {"images", "landmarks", "mirror", "companion teacher"}
    assert not there.with_weight(0.5)._resident  # a changed set has no copy of what it was
    for options in ({}, {"augmentation": Augmentation(flip=0.5)}):
        one, two = (
            d.batch([3, 1, 1], Preprocessing(size=32), generator=torch.Generator().manual_seed(0), **options)
            for d in (data, there)
        )
        for name in ("images", "landmarks", "asm_landmarks", "pose", "weight", "indices", "depth"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
        assert torch.equal(one.companions["teacher"], two.companions["teacher"])


def test_wrong_arrays_are_refused():
    images, points = np.zeros((2, 16, 16, 3), np.uint8), np.random.default_rng(0).uniform(0, 9, (2, 3, 2))
    with pytest.raises(ValueError, match="uint8"):
        LandmarkDataset.from_arrays(images.astype(float), points)
    with pytest.raises(ValueError, match="landmarks"):
        LandmarkDataset.from_arrays(images, points[:1])
    with pytest.raises(ValueError, match="permutation"):
        LandmarkDataset.from_arrays(images, points, mirror=np.array([0, 0, 1]))
    data = LandmarkDataset.from_arrays(images, points)
    with pytest.raises(ValueError, match="rotations"):
        data.with_rotations(np.eye(3))
    with pytest.raises(ValueError, match="depths"):
        data.with_depths(np.zeros(3))


@pytest.mark.parametrize(
    "changes", [{"size": 0}, {"margin": 0.0}, {"std": 0.0}, {"mean": math.nan}, {"box": "detector"}]
)
def test_wrong_preparations_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        Preprocessing(**changes)


def test_the_paper_preparation_distorts_each_side_by_its_own():
    points = np.array([[[10.0, 20.0], [50.0, 40.0]]])
    data = LandmarkDataset.from_arrays(np.zeros((1, 64, 64, 3), np.uint8), points)
    units = data.batch([0], replace(Preprocessing.paper(), margin=1.0)).landmarks[0]
    torch.testing.assert_close(units, torch.tensor([[-0.5, -0.5], [0.5, 0.5]]))


@pytest.mark.data
def test_real_photographs(data_dir, tmp_path):
    from shape_models.datasets import read_300w

    samples = read_300w(data_dir / "300w", "val")[:6]
    data = pack_faces(samples, size=96, cache=tmp_path)
    np.testing.assert_allclose(data.source_landmarks(), samples.shapes(), atol=1e-9)
    np.testing.assert_array_equal(data.mirror, samples.scheme.mirror)
    span = (data.boxes[:, 2:] - data.boxes[:, :2]).max(1)
    np.testing.assert_allclose(span, 96 / 1.9, rtol=1e-9)
    assert data.images.std() > 20
    assert data.groups[0] == samples[0].group


def test_pose_labels_that_come_with_the_data_are_taken(tmp_path):
    """Radians of 300W-LP, as its files hold them; faces without one have none."""
    from asmnet._pose_labels import angles_in_degrees

    spot_image(tmp_path / "a.png", [(30, 30)])
    points = np.array([[20.0, 20.0], [60.0, 25.0], [40.0, 70.0]])
    names = ("pitch", "yaw", "roll", "tx", "ty", "tz", "scale")
    labelled, plain = sample(tmp_path / "a.png", points), sample(tmp_path / "a.png", points + 1)
    labelled.attributes = dict(zip(names, (*np.deg2rad([10.0, -40.0, 5.0]), 0, 0, 0, 1), strict=True))
    data = pack_faces([labelled, plain], size=32, cache=tmp_path)
    np.testing.assert_allclose(angles_in_degrees(data.rotations), [[-40, 10, 5], [np.nan] * 3], atol=1e-9)
    assert pack_faces([plain], size=32, cache=tmp_path).rotations is None
