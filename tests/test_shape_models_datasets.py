"""Archives in their original layouts, splits, and drawn faces."""

import numpy as np
import pytest

from shape_models import LandmarkFileError, make_faces, write_pts
from shape_models.datasets import make_face_samples, read_300w, split_by_group


def test_make_faces_repeats_itself_and_looks_like_faces():
    faces = make_faces(300, rng=3)
    np.testing.assert_array_equal(faces, make_faces(300, rng=np.random.default_rng(3)))
    np.testing.assert_array_equal(make_faces(4), make_faces(4))
    assert not np.allclose(faces, make_faces(300, rng=4))
    np.testing.assert_array_equal(make_faces(300, n_dims=3, rng=3)[..., :2], faces)
    assert faces.min() > 0
    assert faces.max() < 255
    chin, tip, brow = faces[:, 8, 1], faces[:, 30, 1], faces[:, 19, 1]
    assert (brow < tip).all()
    assert (tip < chin).all()
    assert (faces[:, 0, 0] < faces[:, 16, 0]).all()


def test_make_faces_refuses():
    with pytest.raises(ValueError, match="n_samples: got -1"):
        make_faces(-1)
    with pytest.raises(ValueError, match="n_dims: got 4"):
        make_faces(n_dims=4)
    with pytest.raises(ValueError, match="got the scheme 'x'"):
        make_faces(scheme="x")
    assert make_faces(0).shape == (0, 68, 2)


def _write_300w(root, table=None):
    faces = make_faces(8, rng=0)
    names = [
        "afw/1051618982_1", "afw/1051618982_2", "helen/trainset/100032540_1", "lfpw/trainset/image_0001",
        "lfpw/trainset/image_0001_mirror", "helen/testset/296814969_1", "ibug/image_003_1", "300W/01_Indoor/indoor_001",
    ]  # fmt: skip
    for name, face in zip(names, faces, strict=True):
        path = root / (name + ".pts")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pts(path, face)
        path.with_suffix(".png").touch()
    if table is not None:
        (root / "split.csv").write_text(table)
    return dict(zip(names, faces, strict=True))


def test_read_300w_original_layout(tmp_path):
    faces = _write_300w(tmp_path)
    samples = read_300w(tmp_path)
    assert len(samples) == 7
    assert {s.split: s.group for s in samples}["challenging"] == "ibug/image_003"
    train = read_300w(tmp_path, split="train")
    assert train.groups == [
        "afw/1051618982", "afw/1051618982", "helen/trainset/100032540", "lfpw/trainset/image_0001",
    ]  # fmt: skip
    np.testing.assert_array_equal(train[1].landmarks, faces["afw/1051618982_2"])
    assert train[1].image == tmp_path / "afw/1051618982_2.png"
    assert len(read_300w(tmp_path, split="full")) == 2
    assert read_300w(tmp_path, split="private").groups == ["300W/01_Indoor/indoor_001"]
    with pytest.raises(ValueError, match="split: got 'val'; expected one of 'challenging', 'common'"):
        read_300w(tmp_path, split="val")


def test_read_300w_with_a_table(tmp_path):
    faces = _write_300w(tmp_path, "ibug/image_003_1.png,ibug/image_003,val\nafw/1051618982_1.png,x,train\n")
    samples = read_300w(tmp_path)
    assert samples.splits == ["val", "train"]
    assert samples.groups == ["ibug/image_003", "x"]
    np.testing.assert_array_equal(read_300w(tmp_path, "val").shapes()[0], faces["ibug/image_003_1"])


def test_read_300w_refuses(tmp_path):
    with pytest.raises(LandmarkFileError, match="no such folder"):
        read_300w(tmp_path / "x")
    with pytest.raises(LandmarkFileError, match="expected the layout of 300-W"):
        read_300w(tmp_path)
    (tmp_path / "split.csv").write_text("a.jpg,train\n")
    with pytest.raises(LandmarkFileError, match=r"split.csv, line 1: got 2 fields"):
        read_300w(tmp_path)
    (tmp_path / "split.csv").write_text("a.jpg,a,train\n")
    with pytest.raises(LandmarkFileError, match=r"a.pts: got no such file"):
        read_300w(tmp_path)[0]


def test_read_300w_real(data_dir):
    samples = read_300w(data_dir / "300w")
    assert len(samples) == 2009
    train, val = (read_300w(data_dir / "300w", split=part) for part in ("train", "val"))
    assert (len(train), len(val)) == (1750, 259)
    assert not set(train.groups) & set(val.groups)
    shapes = train[:200].shapes()
    assert shapes.shape == (200, 68, 2)
    assert train[0].image.is_file()
    first = (data_dir / "300w" / "helen/trainset/100032540_1.pts").read_text().split("{")[1].split()[:2]
    np.testing.assert_allclose(samples[0].landmarks[0], np.array(first, float) - 1)


def test_split_by_group_keeps_groups_together():
    samples = make_face_samples(103, faces_per_person=4, rng=0)
    parts = split_by_group(samples, (0.6, 0.2, 0.2), rng=5)
    assert sum(map(len, parts)) == 103
    assert not set(parts[0].groups) & set(parts[1].groups) | set(parts[1].groups) & set(parts[2].groups)
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * 103) <= 4
    again = split_by_group(samples, (0.6, 0.2, 0.2), rng=5)
    assert [p.groups for p in again] == [p.groups for p in parts]
    with pytest.raises(ValueError, match="sum 1"):
        split_by_group(samples, (0.6, 0.2))
    with pytest.raises(ValueError, match="got 1 groups; expected at least one for each of 2"):
        split_by_group(samples[:4], (0.5, 0.5))


def test_samples_are_a_sequence():
    samples = make_face_samples(10, rng=0)
    np.testing.assert_array_equal(samples.select([-1, 2]).shapes(), samples.shapes()[[9, 2]])
    assert len(samples.select(lambda s: s.group == "person 1")) == 4
    assert len(samples[2:5]) == 3
    for wrong in ([10], [True], [[1]], [0.5]):
        with pytest.raises(ValueError, match="got a"):
            samples.select(wrong)
    with pytest.raises(ValueError, match="no samples"):
        samples[:0].shapes()
