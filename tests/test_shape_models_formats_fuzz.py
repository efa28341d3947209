"""Whatever bytes a file holds, a reader returns landmarks or raises its own error, and allocates what it read."""

import json
import os
import re
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shape_models import LandmarkFile, LandmarkFileError, make_faces, read_landmarks, write_landmarks, write_pts
from shape_models.datasets import (
    load_landmarks,
    read_300w,
    read_aflw2000,
    read_cofw,
    read_helen,
    read_muct,
    read_wflw,
    read_youtube68,
)
from shape_models.formats import READABLE

EXTENSIONS = (".pts", ".asf", ".tps", ".ljson", ".npy", ".csv", ".json", ".xml")
# small files of other programs
FOREIGN = {
    "cvat.xml": """<annotations><image id="0" name="a.jpg" width="64" height="48"><skeleton label="f">
<points label="p1" outside="0" occluded="1" points="1,2"/></skeleton><points label="w" points="1,2;3,4"/>
<points label="p2" group_id="1" points="3,4"/></image></annotations>""",
    "deeplabcut.csv": "scorer,n,n,n\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2,0.5\n1,3,,0.1\n",
    "openface.csv": "frame, face_id, timestamp, confidence, success, x_0, x_1, y_0, y_1\n1, 0, 0, .9, 1, 1, 2, 3, 4\n",
    "via.csv": (
        "filename,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,1,0,"{""name"":""point"",""cx"":1,""cy"":2}","{""n"":""tip""}"\n'
    ),
    "long.csv": "specimen,landmark,x,y,sex\na,1,1,2,f\na,2,3,4,f\nb,1,5,6,m\nb,2,,,m\n",
    "scored.csv": "id,nose.x,nose.y,nose.score,x_chin,y_chin,chin_visible\na,1,2,0.5,3,4,yes\n",
    "rest.tps": "# by hand\nLM=1\n1 2\nRADII=2\n1\n2\nSLIDERS=1\n1 2 3\nID=7\n\x1a",
    "units.mrk.json": json.dumps({"markups": [{"type": "Fiducial", "coordinateUnits": ["um", "UCUM", "x"],
        "controlPoints": [{"label": "F", "position": [1, 2, 3]}, {"label": "G", "positionStatus": "preview"}]}]}),
    "status.fcsv": "# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n0,1,2,3,F-1,2,0\n1,4,5,6,F-2,0,0\n",
    "r.csv": '"","X.a","Y.a","X.b","Y.b"\n"1",1,2,3,4\n"2",5,6,7,8\n',
    "named.csv": "id,nose_x,nose_y,nose_v,chin_x,chin_y,chin_v\na,1,2,1,3,4,0\n",
    "labelme.json": json.dumps({"version": "5.0", "imagePath": "a.jpg", "imageWidth": 9, "imageHeight": 9, "shapes": [
        {"label": "a", "points": [[1, 2]], "group_id": 1, "shape_type": "point"},
        {"label": "b", "points": [[1, 2], [3, 4]], "group_id": None, "shape_type": "rectangle"}]}),
    "via.json": json.dumps({"a.jpg1": {"filename": "a.jpg", "regions": [
        {"shape_attributes": {"name": "point", "cx": 1, "cy": 2}, "region_attributes": {"n": "tip"}},
        {"shape_attributes": {"name": "polyline", "all_points_x": [1], "all_points_y": [2]}}]}}),
    "slicer.mrk.json": json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": [
        {"label": "F", "position": [1, 2, 3], "positionStatus": "defined"}]}, {"type": "Curve", "controlPoints": [
        {"label": "C", "position": [1, 2, 3]}]}]}),
    "results.json": json.dumps([{"image_id": 1, "keypoints": [1, 2, 0.5], "score": 0.5, "bbox": [1, 2, 3, 4]}]),
    "via3.json": json.dumps({"project": {}, "config": {}, "attribute": {"1": {"aname": "p", "options": {"0": "tip"}}},
        "file": {"1": {"fname": "a.jpg"}}, "view": {"1": {"fid_list": ["1"]}}, "metadata": {
        "m": {"vid": "1", "z": [], "xy": [1, 2, 3], "av": {"1": "0"}}, "r": {"vid": "1", "xy": [2, 1, 2, 3, 4]},
        "c": {"vid": "1", "z": [], "xy": [7, 1, 2, 3, 4], "av": {}}}}),
    "scalismo.json": json.dumps([{"id": "a", "coordinates": [1, 2, 3]}]),
    "slicer.fcsv": "# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n0,1,2,3,F-1\n1,4,5,6,F-2\n",
    "a.nts": "1 2L 4 1 -9 DIM=2\na b\n1 2 3 4\n5 6 -9 -9\n",
    "a.dta": "1 1L 6 1 9999 DIM=3\n\na b.ply\n\n1 2 3\n4 5 6\n",
    "a.land": "Version 1.0\n2\nS000 1 2 3\nS001 4 5 6\n",
    "a.ply": (
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
        "end_header\n1 2 3\n4 5 6\n"
    ),
    "stereomorph.txt": (
        "<shapes type=list>\n<scaling type=numeric >0.5</scaling>\n<landmarks.pixel type=matrix >\na\t1\t2\n"
        "</landmarks.pixel>\n<curves.pixel type=list>\n<c type=matrix >\n1\t2\n</c>\n</curves.pixel>\n</shapes>\n"
    ),
    "plain.txt": "# by hand\nnose 1 2\nchin 3 4\n",
    "column.txt": "1\n2\n3\n4\n",
    "flags.pts": "version: 1\nn_points: 2\ncolumns: x y z\n{\n1 2 3\n4 5 6\n}\n",
}  # fmt: skip
NASTY = [
    b"", b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"999999999", b"9" * 400, b"1_0", b"0x10", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\0", b"\r\n", b"{", b"}", b"[", b"]", b'"', b"<", b"&", b"=", b",", b";", b"null", b"true",
    b"3", b"-7", b"0.5", b"LM=3\n", b"CURVES=9\n", b"POINTS=9\n", b"SCALE=0\n", b"n_points: 0\n", b"Version 1.0\n",
    "\u0663".encode(),
    b"[" * 2000, b"<part name='1' x='1' y='1'/>", b'{"version": 1}', "\u2028".encode(),
]  # fmt: skip


def _valid(extension, folder):
    """A small valid file of a format, with whatever it can hold."""
    path = Path(folder) / f"valid{extension}"
    points = np.arange(8.0).reshape(4, 2) + 0.25
    file = LandmarkFile(points, image_name="a.png", attributes={"id": "1", "scale": 0.5, "curves": [points[:2]]})
    options = {"image_size": (64, 48)} if extension in (".asf", ".tps") else {}
    many = file if extension in (".pts", ".asf", ".npy", ".ljson") else [file, file]
    write_landmarks(path, many, **options)
    return path.read_bytes()


TOKENS = re.compile(rb"([\s,;:=<>/'\"{}\[\]]+)")


@st.composite
def mutations(draw, content):
    """The content with a few words or pieces cut out, doubled, swapped or replaced by something nasty."""
    rng = draw(st.randoms(use_true_random=False))
    data = content
    for _ in range(rng.randint(1, 3)):
        parts = TOKENS.split(data)
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(7)
        if kind <= 2:  # a word becomes something nasty, or another word of the file
            i -= i % 2
            parts[i] = rng.choice(NASTY) if kind < 2 else parts[j - j % 2]
        elif kind == 3:  # words and what stands between them are lost or doubled
            length = rng.choice([1, 2, 2, 4, 14])
            parts[i : i + length] = [] if rng.random() < 0.6 else parts[i : i + length] * 2
        elif kind == 4:
            parts[i], parts[j] = parts[j], parts[i]
        data = b"".join(parts)
        place = rng.randrange(len(data) + 1)
        if kind == 5:
            data = data[:place] if rng.random() < 0.5 else data[:place] + rng.choice(NASTY) + data[place:]
        elif kind == 6 and data:
            changed = bytearray(data)
            changed[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
            data = bytes(changed)
    return data


def _check(path, **options):
    try:
        with warnings.catch_warnings():  # a file may be read and yet not be whole: see `read_coco`
            warnings.simplefilter("ignore", UserWarning)
            result = read_landmarks(path, **options)
    except LandmarkFileError as error:
        message = str(error)
    else:
        message = None
    if message is not None:
        assert path.name in message
        return
    for file in result if isinstance(result, list) else [result]:
        points = file.points
        assert points.dtype == np.float64
        assert points.ndim == 2
        assert points.shape[1] in (2, 3)
        assert not np.isinf(points).any()
        assert np.array_equal(np.isnan(points).any(axis=1), np.isnan(points).all(axis=1))
        assert file.labels is None or len(file.labels) == len(points)


_fuzz = settings(suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", params=EXTENSIONS)
def valid(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return folder / f"file{request.param}", _valid(request.param, folder)


@_fuzz
@given(data=st.data())
def test_mutated_files(valid, data):
    path, content = valid
    path.write_bytes(data.draw(mutations(content)))
    _check(path)


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_programs_are_valid_before_they_are_damaged(tmp_path, name):
    (tmp_path / name).write_text(FOREIGN[name])
    files = read_landmarks(tmp_path / name)
    assert np.isfinite(np.asarray(files if isinstance(files, LandmarkFile) else files[0])).any()


@pytest.mark.parametrize("name", FOREIGN)
@_fuzz
@given(data=st.data())
def test_mutated_files_of_other_programs(tmp_path_factory, name, data):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data.draw(mutations(FOREIGN[name].encode())))
    _check(path)


@_fuzz
@given(data=st.data())
def test_mutated_binary_vertices(tmp_path_factory, data):
    header = FOREIGN["a.ply"].split("end_header")[0].replace("ascii", "binary_little_endian") + "end_header\n"
    content = header.encode() + np.arange(6, dtype="<f4").tobytes()
    path = tmp_path_factory.getbasetemp() / "binary.ply"
    path.write_bytes(data.draw(mutations(content)))
    _check(path)


@_fuzz
@given(content=st.binary(max_size=60) | st.lists(st.sampled_from(NASTY), max_size=12).map(b" ".join))
def test_arbitrary_bytes(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    for extension in READABLE:
        path = folder / f"bytes{extension}"
        path.write_bytes(content)
        _check(path)


@_fuzz
@given(data=st.data())
def test_json_of_any_form(tmp_path_factory, data):
    """JSON that parses, with the right words in it and anything under them."""
    words = (
        "version groups landmarks points labels label mask connectivity point annotations images categories keypoints "
        "face_kpts face_valid bbox id image_id category_id file_name width height markups type controlPoints position "
        "shapes label shape_type group_id imagePath filename regions shape_attributes region_attributes coordinates"
    )
    keys = st.sampled_from(words.split())
    numbers = st.integers(-2, 4) | st.floats() | st.just(10**400)
    leaves = st.none() | st.booleans() | numbers | st.text(max_size=3) | st.lists(st.integers(0, 2), max_size=6)
    trees = st.recursive(
        leaves, lambda t: st.lists(t, max_size=4) | st.dictionaries(keys, t, max_size=4), max_leaves=12
    )
    tree = data.draw(st.dictionaries(keys, trees, max_size=4))
    if data.draw(st.booleans()):
        tree["version"] = data.draw(st.integers(1, 3))
    for extension in (".ljson", ".json"):
        path = tmp_path_factory.getbasetemp() / f"tree{extension}"
        path.write_text(json.dumps(tree))
        _check(path)


@pytest.mark.data
@_fuzz
@given(data=st.data())
def test_mutated_real_files(data_dir, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    name = data.draw(st.sampled_from(["imm/01-1m.pts", "fly_wings/tps-example.tps", "formats/c4480h_s1.asf"]))
    content = (data_dir / name).read_bytes()[:3000]
    path = folder / f"real{Path(name).suffix}"
    path.write_bytes(data.draw(mutations(content)))
    _check(path)


# --- Archives ---------------------------------------------------------------------------------------------


def _archives(folder):
    """One small archive of each kind: the file to damage, and what reads it."""
    import h5py
    from scipy.io import savemat

    face = make_faces(1, rng=0)[0]
    made = {}

    def place(kind, name):
        made[kind] = folder / kind / name
        made[kind].parent.mkdir()
        return made[kind]

    write_pts(place("300w", "split.csv").with_name("a.pts"), face)
    made["300w"].write_text("a.jpg,a,train\n")
    wflw = make_faces(1, scheme="wflw98", rng=0).ravel()
    place("wflw", "list_98pt_rect_attr_test.txt").write_text(
        " ".join(map(str, wflw)) + " 1 2 3 4 0 1 0 0 0 0 a b.jpg\n"
    )
    place("helen", "1.txt").write_text("a_1\n" + "1.5 , 2\n" * 194)
    columns = "name,tag," + ",".join(f"x{i:02d},y{i:02d}" for i in range(76))
    place("muct", "muct76-opencv.csv").write_text(f"{columns}\ni000qa-fn,0," + ",".join(["1.5"] * 152) + "\n")
    row = {"person": "p", "clip": "0", "split": "val"}
    write_landmarks(place("youtube68", "keypoints.csv"), LandmarkFile(face, attributes=row), columns=list(row))
    savemat(
        place("aflw2000", "image1.mat"),
        {"pt3d_68": np.ones((3, 68)), "Pose_Para": np.ones((1, 7))},
        do_compression=True,
    )
    with h5py.File(place("cofw", "COFW_test_color.mat"), "w") as file:
        file["phisT"], file["bboxesT"] = np.ones((87, 2)), np.ones((4, 2))
    np.savez_compressed(place("npz", "a.npz"), shapes=np.ones((2, 3, 2)), images=["a", "b"])
    readers = {
        "300w": read_300w,
        "wflw": read_wflw,
        "helen": read_helen,
        "muct": read_muct,
        "youtube68": read_youtube68,
        "aflw2000": read_aflw2000,
        "cofw": read_cofw,
        "npz": lambda folder: load_landmarks(folder / "a.npz"),
    }
    return {kind: (path, path.read_bytes(), readers[kind]) for kind, path in made.items()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return _archives(tmp_path_factory.mktemp("archives"))


@pytest.mark.parametrize("kind", ["300w", "wflw", "helen", "muct", "youtube68", "aflw2000", "cofw", "npz"])
def test_archives_are_valid_before_they_are_damaged(archives, kind):
    path, content, read = archives[kind]
    path.write_bytes(content)  # whether or not the next test ran before
    assert np.isfinite(read(path.parent).shapes()).all()


@pytest.mark.parametrize("kind", ["300w", "wflw", "helen", "muct", "youtube68", "aflw2000", "cofw", "npz"])
@settings(_fuzz, max_examples=40)
@given(data=st.data())
def test_mutated_archives(archives, kind, data):
    path, content, read = archives[kind]
    path.write_bytes(data.draw(mutations(content)))
    try:
        for sample in read(path.parent):
            assert not np.isinf(sample.landmarks).any()
    except LandmarkFileError as error:
        message = str(error)
    else:
        message = path.parent.name
    assert path.parent.name in message


# --- What a file declares is not allocated ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pts", b"n_points: 999999999\n{\n1 2\n}"),
        ("a.pts", b"Version 1.0\n999999999\nS000 1 2 3\n"),
        ("a.asf", b"999999999\n0 0 0 0 0 0 0\n"),
        ("a.tps", b"LM=999999999\n1 2\n"),
        ("a.tps", b"LM=0\nCURVES=999999999\nPOINTS=999999999\n1 2\n"),
        ("a.csv", b"x0,y0,x999999,y999999\n1,1,1,1\n"),
        ("a.npy", b"\x93NUMPY\x01\x00\x3f\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2**40, 2)}"),
        ("a.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 2), }"),
        ("a.xml", b"<image><box top='0' left='0' width='9' height='9'><part name='999999' x='1' y='2'/></box></image>"),
    ],
)
def test_a_declared_count_is_not_allocated(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    read_landmarks_or_error(path)  # imports are not what is measured
    tracemalloc.start()
    try:
        read_landmarks_or_error(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def read_landmarks_or_error(path):
    try:
        return read_landmarks(path)
    except LandmarkFileError:
        return None


def test_a_member_that_unpacks_to_much_is_refused(tmp_path):
    """A thousandfold compressed array is read as far as it says it is long, and no farther."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("shapes.npy", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(LandmarkFileError, match=r"a.npz"):
            load_landmarks(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "a.pts"
    path.touch(mode=0)
    with pytest.raises(LandmarkFileError, match="cannot be read"):
        read_landmarks(path)


@given(name=st.text(max_size=20))
def test_any_name(name):
    assume("/" not in name and name not in (".", ".."))
    with pytest.raises(LandmarkFileError):
        read_landmarks(Path("no-such-folder") / f"{name}.pts")
