"""Archives in their original layouts, splits, and drawn faces."""

import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shape_models import (
    MUCT68,
    MUCT76,
    WFLW98,
    LandmarkFile,
    LandmarkFileError,
    make_faces,
    write_landmarks,
    write_pts,
)
from shape_models.datasets import (
    load_landmarks,
    make_face_samples,
    read_300w,
    read_300wlp,
    read_aflw2000,
    read_asmnet,
    read_cofw,
    read_helen,
    read_imm,
    read_muct,
    read_wflw,
    read_youtube68,
    split_by_group,
)
from shape_models.datasets._mat5 import read_mat5


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
    with pytest.raises(
        ValueError, match=r"scheme: got LandmarkScheme\('mediapipe478', 478 landmarks\); expected one of ibug68"
    ):
        make_faces(scheme="mediapipe478")
    assert make_faces(0).shape == (0, 68, 2)


def _write_300w(root, table=None):
    faces = make_faces(8, rng=0)
    names = [
        "afw/1051618982_1",
        "afw/1051618982_2",
        "helen/trainset/100032540_1",
        "lfpw/trainset/image_0001",
        "lfpw/trainset/image_0001_mirror",
        "helen/testset/296814969_1",
        "ibug/image_003_1",
        "300W/01_Indoor/indoor_001",
    ]
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
        "afw/1051618982",
        "afw/1051618982",
        "helen/trainset/100032540",
        "lfpw/trainset/image_0001",
    ]
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
    for line, message in [
        ("a.jpg,train", "got 2 fields"),
        ("..,a,train", "expected file"),
        ("a" * 200_000, "not a table"),
    ]:
        (tmp_path / "split.csv").write_text(f"{line}\n")
        with pytest.raises(LandmarkFileError, match=f"split.csv, line 1: .*{message}"):
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


# --- The other archives, on files written in their layout ---------------------------------------------------


def test_read_wflw(tmp_path):
    faces = make_faces(3, scheme="wflw98", rng=0)
    folder = tmp_path / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    flags = ["1 0 0 0 0 1", "0 0 0 0 0 0", "0 1 1 0 0 0"]
    names = ["0--Parade/a.jpg", "0--Parade/a.jpg", "1--Handshaking/b c.jpg"]
    lines = [
        " ".join(map(str, face.ravel())) + f" 1 2 30 40 {flag} {name}"
        for face, flag, name in zip(faces, flags, names, strict=True)
    ]
    (folder / "list_98pt_rect_attr_train.txt").write_text("\n".join(lines[:2]) + "\n")
    (folder / "list_98pt_rect_attr_test.txt").write_text(lines[2] + "\n")
    samples = read_wflw(tmp_path)
    np.testing.assert_array_equal(samples.shapes(), faces)
    assert samples.scheme is WFLW98
    assert samples.splits == ["train", "train", "test"]
    assert samples[0].group == samples[1].group == "0--Parade/a.jpg"
    assert samples[0].image == tmp_path / "WFLW_images" / "0--Parade" / "a.jpg"
    assert samples[0].box.tolist() == [1, 2, 30, 40]
    assert [k for k, v in samples[0].attributes.items() if v] == ["pose", "blur"]
    assert samples[2].image.name == "b c.jpg"
    assert len(read_wflw(tmp_path, split="test").select(lambda s: s.attributes["illumination"])) == 1
    with pytest.raises(ValueError, match="split: got 'val'; expected one of 'test', 'train'"):
        read_wflw(tmp_path, split="val")
    (folder / "list_98pt_rect_attr_test.txt").write_text(lines[2].replace(" 1 2 30 40", " 1 2 30") + "\n")
    with pytest.raises(LandmarkFileError, match=r"test.txt, line 1: got 206 fields; expected 196|field 206: got"):
        read_wflw(tmp_path, split="test")[0]
    (folder / "list_98pt_rect_attr_test.txt").write_text(lines[2].replace("0 1 1 0 0 0", "0 1 7 0 0 0") + "\n")
    with pytest.raises(LandmarkFileError, match="line 1: attributes: got 0 1 7 0 0 0"):
        read_wflw(tmp_path, split="test")[0]


def test_read_helen(tmp_path):
    (tmp_path / "annotation").mkdir()
    (tmp_path / "helen_1").mkdir()
    points = np.arange(388.0).reshape(194, 2) / 8
    for i, name in enumerate(["232194_1", "100466187_1"], 1):
        rows = "\r\n".join(f"{x} , {y}" for x, y in points + i)
        (tmp_path / "annotation" / f"{i}.txt").write_text(f"{name}\r\n{rows}\r\n")
        (tmp_path / "helen_1" / f"{name}.jpg").touch()
    (tmp_path / "trainnames.txt").write_text("232194_1\n")
    (tmp_path / "testnames.txt").write_text("100466187_1\n")
    samples = read_helen(tmp_path)
    np.testing.assert_array_equal(samples.shapes(), [points + 1, points + 2])
    (test,) = read_helen(tmp_path, split="test", origin=1)
    np.testing.assert_array_equal(test.landmarks, points + 1)
    assert test.image == tmp_path / "helen_1" / "100466187_1.jpg"
    (tmp_path / "annotation" / "1.txt").write_text("232194_1\n1 , 2\n")
    with pytest.raises(LandmarkFileError, match=r"1.txt: got 1 points; expected 194"):
        read_helen(tmp_path)[0]
    (tmp_path / "annotation" / "1.txt").write_text("232194_1\n1 2\n")
    with pytest.raises(LandmarkFileError, match=r"1.txt, line 2: got 1 fields"):
        read_helen(tmp_path)[0]


def _write_cofw(path, part, n):
    import h5py

    shapes = make_faces(n, scheme="cofw29", rng=n)
    hidden = np.zeros((n, 29))
    hidden[:, 3] = 1
    suffix = "Tr" if part == "train" else "T"
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB writes 512 bytes of its own first
        file[f"phis{suffix}"] = np.column_stack([shapes[..., 0] + 1, shapes[..., 1] + 1, hidden]).T
        file[f"bboxes{suffix}"] = np.tile([11.0, 21, 100, 120], (n, 1)).T
    return shapes


def test_read_cofw(tmp_path):
    train = _write_cofw(tmp_path / "COFW_train_color.mat", "train", 3)
    test = _write_cofw(tmp_path / "COFW_test_color.mat", "test", 2)
    samples = read_cofw(tmp_path)
    np.testing.assert_allclose(samples.shapes(), np.concatenate([train, test]), atol=1e-12)
    assert samples.splits == ["train"] * 3 + ["test"] * 2
    assert np.flatnonzero(samples[0].attributes["occluded"]).tolist() == [3]
    assert samples[0].box.tolist() == [10, 20, 110, 140]
    assert samples[0].attributes["lfpw"] is True
    assert samples[4].image is None  # as the file holds none
    assert len(read_cofw(tmp_path / "COFW_test_color.mat")) == 2
    (tmp_path / "COFW_test_color.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(LandmarkFileError, match=r"COFW_test_color.mat: cannot be read as MATLAB v7.3"):
        read_cofw(tmp_path)
    import h5py

    with h5py.File(tmp_path / "COFW_test_color.mat", "w") as file:
        file.create_dataset("phisT", shape=(87, 2**40), dtype="f8", chunks=(87, 64))
    with pytest.raises(LandmarkFileError, match="phisT: got shape"):
        read_cofw(tmp_path)


def test_read_aflw2000(tmp_path):
    from scipy.io import savemat

    points = make_faces(1, rng=0, n_dims=3)[0]
    content = {
        "pt3d_68": points.T,
        "pt2d": np.full((2, 21), -1.0),
        "Pose_Para": np.arange(7.0)[None] / 10,
        "roi": np.array([[1, 450, 1, 450]]),
    }
    savemat(tmp_path / "image00002.mat", content, do_compression=True)
    (tmp_path / "image00002.jpg").touch()
    (sample,) = read_aflw2000(tmp_path)
    np.testing.assert_allclose(sample.landmarks, points - [1, 1, 0])
    np.testing.assert_array_equal(read_aflw2000(tmp_path, origin=0)[0].landmarks, points)
    assert sample.attributes["pitch"] == 0.0
    assert sample.attributes["roll"] == 0.2
    assert sample.image == tmp_path / "image00002.jpg"
    for name, value, message in [
        ("pt3d_68", points, r"got shape \(68, 3\); expected"),
        ("Pose_Para", np.full((1, 7), np.nan), "expected finite numbers"),
        ("Pose_Para", "text", "got no array 'Pose_Para'"),
    ]:
        savemat(tmp_path / "image00002.mat", {**content, name: value})
        with pytest.raises(LandmarkFileError, match=f"image00002.mat: .*{message}"):
            read_aflw2000(tmp_path)[0]
    (tmp_path / "image00002.mat").write_bytes(b"MATLAB")
    with pytest.raises(LandmarkFileError, match=r"image00002.mat: got no MATLAB file of version 5"):
        read_aflw2000(tmp_path)[0]


def test_read_300wlp(tmp_path):
    from scipy.io import savemat

    faces = make_faces(4, rng=0)
    places = [
        "AFW/AFW_134212_1_0",
        "HELEN_Flip/HELEN_100032540_1_2",
        "LFPW/LFPW_image_train_0001_7",
        "IBUG/IBUG_image_003_1_5",
    ]
    for place, face in zip(places, faces, strict=True):
        path = tmp_path / f"{place}.mat"
        path.parent.mkdir(exist_ok=True)
        savemat(path, {"pt2d": face.T, "Pose_Para": np.zeros((1, 7))})
    extra = tmp_path / "landmarks" / "AFW" / "AFW_134212_1_0_pts.mat"
    extra.parent.mkdir(parents=True)
    savemat(extra, {"pts_2d": faces[0], "pts_3d": faces[0] + 5})
    samples = read_300wlp(tmp_path)
    assert samples.groups == ["AFW_134212", "HELEN_100032540", "IBUG_image_003", "LFPW_image_train_0001"]
    np.testing.assert_allclose(samples[0].landmarks, faces[0] + 4)
    np.testing.assert_allclose(samples[1].landmarks, faces[1] - 1)
    assert [s.attributes["flipped"] for s in samples] == [False, True, False, False]
    assert read_300wlp(tmp_path, flipped=False, split="LFPW").groups == ["LFPW_image_train_0001"]
    with pytest.raises(ValueError, match="expected one of 'AFW', 'IBUG', 'LFPW'"):
        read_300wlp(tmp_path, flipped=False, split="HELEN")


def test_read_muct(tmp_path):
    faces = make_faces(3, scheme="muct76", rng=0).round(1)
    names = ["i000qa-fn", "i001sc-mg", "ir001sc-mg"]
    missing = faces.copy()
    missing[1, 5] = 0
    header = "name,tag," + ",".join(f"x{i:02d},y{i:02d}" for i in range(76))
    rows = [f"{n},0000," + ",".join(map(str, f.ravel())) for n, f in zip(names, missing, strict=True)]
    (tmp_path / "muct-landmarks").mkdir()
    table = tmp_path / "muct-landmarks" / "muct76-opencv.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "jpg").mkdir()
    (tmp_path / "jpg" / "i001sc-mg.jpg").touch()
    samples = read_muct(tmp_path)
    assert samples.scheme is MUCT76
    assert samples.groups == ["000", "001"]
    np.testing.assert_array_equal(samples.shapes()[0], faces[0])
    assert np.flatnonzero(np.isnan(samples[1].landmarks[:, 0])).tolist() == [5]
    assert samples[1].image == tmp_path / "jpg" / "i001sc-mg.jpg"
    assert samples[0].image is None
    assert samples[1].attributes["glasses"]
    assert samples[1].attributes["session"] == "s"
    assert read_muct(table, mirrored=True)[2].attributes["mirrored"]
    table.write_text("\n".join([header, rows[0].replace("i000qa", "x000qa")]))
    with pytest.raises(LandmarkFileError, match="name: got 'x000qa-fn'"):
        read_muct(tmp_path)


def test_read_imm(tmp_path):
    from PIL import Image

    faces = make_faces(2, scheme="imm58", rng=0)
    for i, name in enumerate(["01-1m", "40-6f"]):
        write_landmarks(tmp_path / f"{name}.asf", faces[i], image_size=(640, 480), image_name=f"{name}.jpg")
        Image.new("RGB", (640, 480)).save(tmp_path / f"{name}.jpg")
    samples = read_imm(tmp_path)
    np.testing.assert_array_equal(samples.shapes(), faces)
    assert samples.groups == ["01", "40"]
    assert samples[1].attributes == {"person": "40", "pose": 6, "sex": "f"}
    (tmp_path / "01-1m.jpg").unlink()
    with pytest.raises(LandmarkFileError, match=r"01-1m.asf: got relative coordinates and no image"):
        read_imm(tmp_path)[0]
    (tmp_path / "other.asf").touch()
    with pytest.raises(LandmarkFileError, match=r"other.asf: got this name"):
        read_imm(tmp_path)


def test_read_asmnet(tmp_path):
    faces = make_faces(2, rng=0)
    for folder in ("images", "annotations", "pose"):
        (tmp_path / "train_set" / folder).mkdir(parents=True)
    for i, face in enumerate(faces):
        np.save(tmp_path / "train_set" / "annotations" / f"100_{i}.npy", face.ravel())
        (tmp_path / "train_set" / "images" / f"100_{i}.jpg").touch()
    np.save(tmp_path / "train_set" / "pose" / "100_0.npy", np.array([0.1, 0.2, 0.3]))
    samples = read_asmnet(tmp_path, scheme="ibug68", group=lambda name: name.split("_")[0])
    np.testing.assert_array_equal(samples.shapes(), faces)
    assert samples.groups == ["100", "100"]
    assert samples[0].image == tmp_path / "train_set" / "images" / "100_0.jpg"
    np.testing.assert_array_equal(samples[0].attributes["pose"], [0.1, 0.2, 0.3])
    assert samples[1].attributes == {}
    np.save(tmp_path / "train_set" / "pose" / "100_0.npy", np.zeros(4))
    with pytest.raises(LandmarkFileError, match=r"pose.100_0.npy: got 4 numbers; expected three angles"):
        samples[0]


def test_a_folder_of_landmark_files(tmp_path):
    faces = make_faces(2, rng=0)
    write_pts(tmp_path / "a.pts", faces[0])
    (tmp_path / "a.JPG").touch()
    (tmp_path / "sub").mkdir()
    write_pts(tmp_path / "sub" / "b.pts", faces[1])
    samples = load_landmarks(tmp_path, scheme="ibug68")
    np.testing.assert_array_equal(samples.shapes(), faces)
    assert samples.images == [tmp_path / "a.JPG", None]
    assert samples.names == ["a", "sub/b"]
    write_landmarks(tmp_path / "set.tps", [LandmarkFile(faces[0], None, None, "x.png")] * 2, image_size=(256, 256))
    with pytest.raises(LandmarkFileError, match=r"x#0: got landmarks in the frame 'y_up', but a is in 'pixels'"):
        load_landmarks(tmp_path).shapes()
    tps = load_landmarks(tmp_path, extension="tps", image_size=(256, 256))
    np.testing.assert_array_equal(tps[0].landmarks, faces[0])
    assert tps[0].image == tmp_path / "x.png"
    assert (tps[0].group, tps.names) == ("x", ["x#0", "x#1"])
    assert load_landmarks(tmp_path, extension="tps").frame == "y_up"
    (tmp_path / "sub" / "b.pts").write_text("broken")
    samples = load_landmarks(tmp_path, extension=".pts")
    np.testing.assert_array_equal(samples[0].landmarks, faces[0])
    with pytest.raises(LandmarkFileError, match=r"b.pts, line 1"):
        samples.shapes()


def test_arrays_in_one_file(tmp_path):
    path = tmp_path / "a.npz"
    shapes = np.zeros((2, 5, 3))
    shapes[0, 1, 2] = np.nan
    np.savez_compressed(path, shapes=shapes, group=np.array(["x", "y"]), links=np.zeros((7, 2)), size=np.arange(2))
    samples = load_landmarks(path, groups="group")
    assert samples.groups == ["x", "y"]
    assert samples[1].attributes == {"group": "y", "size": 1.0}
    assert np.isnan(samples[0].landmarks[1]).all()
    for arrays, message in [
        ({"x": shapes[0]}, "got the arrays x; expected one called shapes"),
        ({"shapes": shapes[0]}, r"got float64 of \(5, 3\); expected one called shapes"),
        ({"shapes": shapes, "images": np.arange(2)}, "array images: got float64"),
        ({"shapes": np.array([{}], dtype=object)}, "got an array of object"),
    ]:
        np.savez(path, **arrays)
        with pytest.raises(LandmarkFileError, match=message):
            load_landmarks(path)
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(LandmarkFileError, match=r"got no .npz file"):
        load_landmarks(path)


def test_an_archive_that_declares_too_much_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shapes.npy", b"\x93NUMPY\x01\x00" + bytes(1000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")  # the size of the member when unpacked
    path.write_bytes(data)
    with pytest.raises(LandmarkFileError, match="more than 1 GiB"):
        load_landmarks(path)


@pytest.mark.parametrize(
    "read",
    [
        read_300w,
        read_helen,
        read_wflw,
        read_cofw,
        read_aflw2000,
        read_300wlp,
        read_muct,
        read_imm,
        read_asmnet,
        load_landmarks,
    ],
)
def test_readers_name_an_empty_or_absent_folder(tmp_path, read):
    with pytest.raises(LandmarkFileError, match=f"{tmp_path.name}: got no"):
        read(tmp_path)
    with pytest.raises(LandmarkFileError, match=r"absent.* got no such f"):
        read(tmp_path / "absent")


# --- The real ones ------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_archives(data_dir):
    muct = read_muct(data_dir / "landmarks")
    assert (len(muct), muct.scheme) == (3755, MUCT68)
    assert len(set(muct.groups)) == 276
    assert np.isnan(muct.shapes()).any(axis=(1, 2)).sum() == 840
    assert len(read_muct(data_dir / "landmarks", mirrored=True)) == 7510
    imm = read_imm(data_dir / "imm")
    assert (len(imm), len(set(imm.groups))) == (180, 30)
    assert imm[0].image.is_file()
    hands = load_landmarks(data_dir / "hands" / "landmarks.npz", groups=lambda path: str(int(path.name[:4]) // 20))
    assert len(hands) == 30
    assert sorted(set(hands.groups)) == ["0", "1", "2"]
    assert hands[0].image.is_file()
    wings = load_landmarks(data_dir / "fly_wings")
    present = wings.select([image.is_file() for image in wings.images])
    assert len(present) == 58
    assert present.shapes().shape == (58, 12, 2)
    wflw = read_wflw(data_dir / "landmarks" / "wflw_test_68.npz")
    sizes = {k: len(wflw.select([bool(s.attributes[k]) for s in wflw])) for k in wflw[0].attributes}
    assert sizes == {"pose": 326, "expression": 314, "illumination": 698, "make-up": 206, "occlusion": 736, "blur": 773}


@pytest.mark.data
def test_real_youtube68(data_dir):
    train, val = (read_youtube68(data_dir / "youtube68", split=part) for part in ("train", "val"))
    assert (len(train), len(val)) == (3094, 393)
    assert not set(train.groups) & set(val.groups)
    assert train[0].image.is_file()


@given(
    array=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32]),
        st.tuples(st.integers(0, 4), st.integers(1, 4)),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    compressed=st.booleans(),
)
def test_mat5_reads_what_scipy_writes(tmp_path_factory, array, compressed):
    from scipy.io import savemat

    path = tmp_path_factory.getbasetemp() / "a.mat"
    others = {
        "text": "abc",
        "cell": np.array([1, "a"], dtype=object),
        "record": {"x": 1.0},
        "imaginary": np.array([1j]),
    }
    savemat(path, {**others, "a_name_of_some_length": array, "b": array.T}, do_compression=compressed)
    found = read_mat5(path, {"b": array.T.shape, "a_name_of_some_length": array.shape})
    np.testing.assert_array_equal(found["a_name_of_some_length"], array.astype(np.float64))
    np.testing.assert_array_equal(found["b"], array.T.astype(np.float64))
    for name in others:
        with pytest.raises(LandmarkFileError, match=f"got no array '{name}'"):
            read_mat5(path, {name: (1, 1)})


def test_mat5_refuses_what_unpacks_to_too_much(tmp_path):
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    packer = zlib.compressobj()
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(70)) + packer.flush()
    (tmp_path / "image1.mat").write_bytes(header + (15).to_bytes(4, "little") + len(body).to_bytes(4, "little") + body)
    with pytest.raises(LandmarkFileError, match="more than 64 MiB when unpacked"):
        read_aflw2000(tmp_path)[0]
