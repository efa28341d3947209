"""Landmark files: exact round trips, the traps of each format, and errors that name file, line and field."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shape_models import IBUG68, LandmarkFile, LandmarkFileError, make_faces, read_landmarks, write_landmarks
from shape_models.formats import (
    read_asf,
    read_coco,
    read_csv,
    read_dlib_xml,
    read_ljson,
    read_npy,
    read_pts,
    read_tps,
    write_asf,
    write_coco,
    write_csv,
    write_dlib_xml,
    write_ljson,
    write_npy,
    write_pts,
    write_tps,
)

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
        ("version: 1\nn_points: 999999999\n{\n1 2\n}", "n_points: got 999999999, but the file has 1"),
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


# --- The laws that all formats share ----------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=8)


@st.composite
def files(draw, n_dims=2, frames=("pixels",), missing=True, least=0):
    """A LandmarkFile with some points missing, but never the first."""
    points = draw(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(n_dims)), elements=coordinates))
    if missing:
        gone = draw(hnp.arrays(bool, len(points)))
        gone[: least or 0] = False
        points[gone] = np.nan
    return LandmarkFile(points, None, None, draw(st.none() | names), draw(st.sampled_from(frames)))


def assert_same(back, file):
    np.testing.assert_array_equal(back.points, file.points)
    assert back.image_name == file.image_name
    assert back.frame == file.frame


@given(
    file=files(missing=False, frames=("pixels", "relative")), size=st.tuples(st.integers(1, 5000), st.integers(1, 5000))
)
def test_asf_round_trip_is_exact(tmp_path_factory, file, size):
    path = tmp_path_factory.getbasetemp() / "round.asf"
    if file.image_name is not None and file.image_name.startswith("#"):
        with pytest.raises(LandmarkFileError, match="one line cannot hold"):
            write_asf(path, file, image_size=size)
        return
    write_asf(path, file, image_size=size)
    assert_same(read_asf(path, image_size=size if file.frame == "pixels" else None), file)


@given(
    file=files(frames=("pixels", "y_up")) | files(n_dims=3, frames=("physical",)),
    scale=st.none() | st.floats(1e-3, 1e3),
    height=st.integers(1, 5000),
    curves=st.lists(planar, max_size=2),
)
def test_tps_round_trip_is_exact(tmp_path_factory, file, scale, height, curves):
    path = tmp_path_factory.getbasetemp() / "round.tps"
    if file.points.shape[1] == 3:
        curves = []
    file = replace(file, attributes={"id": "7", "scale": scale, "curves": curves})
    write_tps(path, [file, file], image_size=(10, height))
    back = read_tps(path, image_size=(10, height) if file.frame == "pixels" else None)
    assert len(back) == 2
    for one in back:
        assert_same(one, file)
        assert one.attributes["scale"] == scale
        assert one.attributes["id"] == "7"
        assert len(one.attributes["curves"]) == len(curves)
        for curve, original in zip(one.attributes["curves"], curves, strict=True):
            np.testing.assert_array_equal(curve, original)


@given(file=files() | files(n_dims=3, frames=("physical",)), version=st.sampled_from([1, 2, 3]))
def test_ljson_round_trip_is_exact(tmp_path_factory, file, version):
    path = tmp_path_factory.getbasetemp() / "round.ljson"
    n = len(file)
    groups = {"all": np.arange(n)}
    file = replace(file, image_name=None, attributes={"groups": groups, "edges": [(0, n - 1)]})
    write_ljson(path, file, version=version)
    (back,) = read_ljson(path)
    if np.isnan(file.points).all():
        assert np.isnan(back.points).all()
        return
    assert_same(back, file)
    assert back.attributes["edges"].tolist() == [[0, n - 1]]
    assert {k: v.tolist() for k, v in back.attributes["groups"].items()} == {"all": list(range(n))}


@given(file=files() | files(n_dims=3, frames=("physical",)), flat=st.booleans())
def test_npy_round_trip_is_exact(tmp_path_factory, file, flat):
    path = tmp_path_factory.getbasetemp() / "round.npy"
    write_npy(path, file, flat=flat)
    assert_same(read_npy(path), replace(file, image_name=None))
    assert np.load(path).ndim == (1 if flat and file.points.shape[1] == 2 else 2)


@given(
    shapes=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.tuples(hnp.arrays(np.float64, (n, 2), elements=coordinates), hnp.arrays(bool, n), st.none() | names),
            min_size=1,
            max_size=3,
        )
    )
)
def test_csv_round_trip_is_exact(tmp_path_factory, shapes):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    many = [LandmarkFile(np.where(gone[:, None], np.nan, points), image_name=name) for points, gone, name in shapes]
    write_csv(path, many)
    for back, file in zip(read_csv(path), many, strict=True):
        assert_same(back, file)


@given(many=st.lists(files(least=1), min_size=1, max_size=3))
def test_coco_round_trip_is_exact(tmp_path_factory, many):
    assume(all(np.nanmax(np.abs(file.points)) < 1e300 for file in many))  # else the box, a width, is infinite
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_coco(path, many)
    for back, file in zip(read_coco(path), many, strict=True):
        assert_same(back, file)


@given(many=st.lists(files(missing=False), min_size=1, max_size=3))
def test_dlib_round_trip_is_exact(tmp_path_factory, many):
    path = tmp_path_factory.getbasetemp() / "round.xml"
    many = [
        replace(
            file,
            points=np.clip(file.points[:1].repeat(12, axis=0) + np.arange(12)[:, None], -1e299, 1e299),
            image_name=file.image_name or "a",
        )
        for file in many
    ]
    write_dlib_xml(path, many)
    back = read_dlib_xml(path)
    order = sorted(range(len(many)), key=lambda i: [f.image_name for f in many].index(many[i].image_name))
    for one, i in zip(back, order, strict=True):  # boxes of one image stand together
        assert_same(one, many[i])


def test_every_format_reads_what_it_writes_by_its_extension(tmp_path):
    faces = make_faces(3, rng=0)
    for extension in (".pts", ".asf", ".npy"):
        path = tmp_path / f"a{extension}"
        options = {"image_size": (256, 256)} if extension == ".asf" else {}
        write_landmarks(path, faces[0], **options)
        np.testing.assert_array_equal(read_landmarks(path, scheme="ibug68", **options).points, faces[0])
    for extension in (".tps", ".csv", ".json", ".xml", ".ljson"):
        path = tmp_path / f"a{extension}"
        options = {"image_size": (256, 256)} if extension == ".tps" else {}
        write_landmarks(path, faces, **options)
        files = read_landmarks(path, scheme="ibug68", **options)
        np.testing.assert_array_equal(np.stack(files), faces)
        assert all(file.scheme is IBUG68 and file.frame == "pixels" for file in files)


# --- Traps of each format ---------------------------------------------------------------------------------


def _image(path, width, height):
    from PIL import Image

    Image.new("L", (width, height)).save(path)


ASF = """#####
# a comment

3
0 4 0.25 0.50 1 0 2
0\t4\t0.50\t0.25\t0\t0\t1
0 4 0.75 0.75 2 1 2

# host image
folder\\heart.bmp
"""


def test_asf_round_trip_where_the_shortest_decimal_is_half_way(tmp_path):
    for value in (27751157694070784.0, 9007199254740994.0, 5e-324, 1.7976931348623157e308):
        for width in (3, 7, 4999):
            write_asf(tmp_path / "a.asf", [[value, 0.0]], image_size=(width, 1))
            assert read_asf(tmp_path / "a.asf", image_size=(width, 1)).points[0, 0] == value


def test_asf_takes_its_size_from_where_it_is_known(tmp_path):
    path = tmp_path / "a.asf"
    path.write_bytes(ASF.replace("\n", "\r\n").encode())
    relative = read_asf(path)
    assert relative.frame == "relative"
    assert relative.image_name == "folder\\heart.bmp"
    np.testing.assert_array_equal(relative.points, [[0.5, 0.25], [0.25, 0.5], [0.75, 0.75]])  # in the order of point#
    assert relative.attributes["columns"].tolist() == [[0, 4, 0, 1], [0, 4, 0, 2], [0, 4, 1, 2]]
    np.testing.assert_array_equal(read_asf(path, image_size=(200, 100)).points, relative.points * [200, 100])
    _image(tmp_path / "heart.bmp", 40, 20)
    pixels = read_asf(path)
    assert pixels.frame == "pixels"
    np.testing.assert_array_equal(pixels.points, relative.points * [40, 20])
    (tmp_path / "heart.bmp").write_bytes(b"no image")
    with pytest.raises(LandmarkFileError, match=r"image: got heart.bmp, whose size cannot be read"):
        read_asf(path)


TPS = """LM=3
1.5 2
-4. 6
NA NA
CURVES=2
POINTS=2
0 0
1 1
POINTS=1
5 5
IMAGE=wing.png
ID=first
SCALE=
lm = 1
10 20
Scale=0.5
COMMENT=a
COMMENT=b
LM3=1
1 2 3
"""


def test_tps(tmp_path):
    path = tmp_path / "a.tps"
    path.write_text(TPS)
    first, second, third = read_tps(path)
    assert [f.frame for f in (first, second, third)] == ["y_up", "y_up", "physical"]
    np.testing.assert_array_equal(first.points, [[1.5, 2], [-4, 6], [np.nan, np.nan]])
    assert first.attributes["scale"] is None
    assert first.attributes["id"] == "first"
    assert first.image_name == "wing.png"
    assert [c.tolist() for c in first.attributes["curves"]] == [[[0, 0], [1, 1]], [[5, 5]]]
    assert second.attributes["scale"] == 0.5
    assert second.attributes["comment"] == "a\nb"
    np.testing.assert_array_equal(third.points, [[1, 2, 3]])
    negative = read_tps(path, missing="negative")[0]
    assert np.isnan(negative.points[1]).all()
    _image(tmp_path / "wing.png", 30, 11)
    first, second, _ = read_tps(path)
    assert (first.frame, second.frame) == ("pixels", "y_up")
    np.testing.assert_array_equal(first.points[:2], [[1.5, 8], [-4, 4]])
    np.testing.assert_array_equal(first.attributes["curves"][0], [[0, 10], [1, 9]])
    with pytest.raises(LandmarkFileError, match=r"line 1: specimen 0: SCALE: got none; expected one: scaled=True"):
        read_tps(path, scaled=True)
    path.write_text("LM=1\n10 20\nSCALE=0.5\n")
    (scaled,) = read_tps(path, scaled=True)
    assert (scaled.points.tolist(), scaled.frame) == ([[5.0, 10.0]], "physical")


def test_tps_of_curves_only(tmp_path):
    path = tmp_path / "a.tps"
    path.write_text("LM=0\nCURVES=1\nPOINTS=1\n1 2\nID=0\n")
    (file,) = read_tps(path)
    assert file.points.shape == (0, 2)
    write_tps(path, file)
    assert read_tps(path)[0].attributes["curves"][0].tolist() == [[1, 2]]


def test_ljson_version_1_has_parts(tmp_path):
    path = tmp_path / "a.ljson"
    path.write_text(
        '{"version": 1, "groups": [{"label": "eye", "connectivity": [[0, 1]], "landmarks": [{"point": [1, 2]}, '
        '{"point": [null, null]}]}, {"label": "mouth", "landmarks": [{"point": [5, 6]}], "connectivity": []}]}'
    )
    (file,) = read_ljson(path)
    np.testing.assert_array_equal(file.points, [[2, 1], [np.nan, np.nan], [6, 5]])
    assert {k: v.tolist() for k, v in file.attributes["groups"].items()} == {"eye": [0, 1], "mouth": [2]}
    assert file.attributes["edges"].tolist() == [[0, 1]]


def test_ljson_version_3_has_groups_of_points(tmp_path):
    path = tmp_path / "a.ljson"
    two = [LandmarkFile(np.ones((2, 2)), attributes={"group": "a"}), LandmarkFile(np.ones((3, 3)), frame="physical")]
    write_ljson(path, two)
    back = read_ljson(path)
    assert [f.attributes["group"] for f in back] == ["a", "1"]
    assert [f.frame for f in back] == ["pixels", "physical"]
    path.rename(tmp_path / "a.json")
    assert len(read_landmarks(tmp_path / "a.json")) == 2
    with pytest.raises(LandmarkFileError, match="got 2 shapes; expected one, or version=3"):
        write_ljson(path, two, version=2)
    with pytest.raises(LandmarkFileError, match="two groups of the name 'a'"):
        write_ljson(path, [two[0], two[0]])
    face = LandmarkFile(make_faces(1)[0], scheme=IBUG68)
    write_ljson(path, face)
    assert read_ljson(path)[0].attributes["groups"]["mouth"].tolist() == list(range(48, 68))
    with pytest.raises(LandmarkFileError, match="version 1 needs parts"):
        write_ljson(path, face, version=1)


def test_csv_layouts(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name;tag;X01;Y01;x00;y00\nb.jpg;7;3;4;1;2\n\nc.jpg;8;0;0;-1;5\n")
    first, second = read_csv(path)
    assert first.points.tolist() == [[1, 2], [3, 4]]
    assert (first.image_name, first.attributes) == ("b.jpg", {"tag": "7"})
    np.testing.assert_array_equal(read_csv(path, missing="zero")[1].points, [[-1, 5], [np.nan, np.nan]])
    np.testing.assert_array_equal(read_csv(path, missing="negative")[1].points, [[np.nan, np.nan], [0, 0]])
    path.write_text("image,landmark,x,y,sex\na,tip,1,2,f\na,base,3,,f\nb,tip,5,6,m\nb,base,7,8,m\n")
    first, second = read_csv(path, frame="physical")
    np.testing.assert_array_equal(first.points, [[1, 2], [np.nan, np.nan]])
    assert (second.labels, second.image_name, second.attributes) == (("tip", "base"), "b", {"sex": "m"})
    write_csv(path, [first, second], columns=["sex"])
    assert path.read_text().splitlines()[0] == "image,sex,frame,tip_x,tip_y,base_x,base_y"
    assert read_csv(path)[1].attributes == {"sex": "m"}
    assert (read_csv(path)[1].labels, read_csv(path)[1].frame) == (("tip", "base"), "physical")


def test_coco_names_the_images_that_are_not_listed(tmp_path):
    points = {"keypoints": [3, 4, 2, 5, 6, 2]}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": i, "image_id": image, **points} for i, image in enumerate([1, 7, 7, "left"])],
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"set.json: got 3 annotations of images .* \(id 7, left\)"):
        files = read_coco(path)
    assert [file.image_name for file in files] == ["a.jpg", None, None, None]
    assert [file.attributes["image_id"] for file in files] == [1, 7, 7, "left"]
    path.write_text(json.dumps(content["annotations"]))  # results come without images
    assert len(read_coco(path)) == 4


def test_coco_names_the_categories_that_are_not_listed(tmp_path):
    points = {"keypoints": [3, 4, 2, 5, 6, 2], "image_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "wing", "keypoints": ["tip", "base"]}],
        "annotations": [{"id": i, "category_id": category, **points} for i, category in enumerate([1, 5])],
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"got 1 annotations of categories .* \(id 5\).* no names of landmarks"):
        files = read_coco(path)
    assert [file.labels for file in files] == [("tip", "base"), None]


def test_coco_wholebody(tmp_path):
    path = tmp_path / "a.json"
    face = make_faces(1, rng=0)[0]
    triples = np.column_stack([face, np.full(68, 2)])
    triples[3, 2], triples[4, 2] = 1, 0
    body = [float(v) for v in range(51)]
    body[2::3] = [2] * 17
    annotation = {
        "id": 9,
        "image_id": 1,
        "bbox": [1, 2, 10, 20],
        "keypoints": body,
        "category_id": 1,
        "face_kpts": triples.ravel().tolist(),
        "face_valid": True,
        "face_box": [5, 6, 7, 8],
    }
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [annotation, {**annotation, "face_valid": False}],
        "categories": [{"id": 1, "keypoints": [f"k{i}" for i in range(17)]}],
    }
    path.write_text(json.dumps(content))
    (file,) = read_coco(path)
    assert file.scheme is IBUG68
    assert np.isnan(file.points[4]).all()
    np.testing.assert_array_equal(file.points[3], face[3])
    assert file.attributes["visibility"][[2, 3, 4]].tolist() == [2, 1, 0]
    assert file.attributes["box"].tolist() == [5, 6, 12, 14]
    assert file.attributes["image_size"] == (640, 480)
    bodies = read_landmarks(path, part="body")
    assert len(bodies) == 2
    assert bodies[0].labels[3] == "k3"
    with pytest.raises(LandmarkFileError, match="got none with labelled points in 'foot_kpts'"):
        read_coco(path, part="foot")
    with pytest.raises(ValueError, match="part: got 'nose'"):
        read_coco(path, part="nose")


DLIB = """<?xml version='1.0' encoding='ISO-8859-1'?>
<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>
<dataset><name>x</name><images>
<image file='a.jpg' width='10' height='10'>
 <box top='1' left='2' width='30' height='40' ignore='0'><label>face</label>
  <part name='9' x='90' y='91'/><part name='10' x='100' y='101'/><part name='100' x='0' y='0'/></box>
 <box top='0' left='0' width='3' height='4'/></image>
<image file='b.jpg'><box top='1' left='2' width='30' height='40'><part name='9' x='1.5' y='2'/></box></image>
</images></dataset>"""


def test_dlib_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(DLIB)
    first, second = read_dlib_xml(path)
    assert first.labels == ("9", "10", "100")  # as text it would be 10, 100, 9
    assert first.points.tolist() == [[90, 91], [100, 101], [0, 0]]
    assert first.attributes["box"].tolist() == [2, 1, 31, 40]
    assert first.attributes["ignore"] == "0"
    np.testing.assert_array_equal(second.points, [[1.5, 2], [np.nan] * 2, [np.nan] * 2])
    write_dlib_xml(path, [first, second])
    again = read_dlib_xml(path)
    np.testing.assert_array_equal(np.stack(again), np.stack([first, second]))
    assert again[0].attributes["box"].tolist() == [2, 1, 31, 40]


# --- Bad input --------------------------------------------------------------------------------------------

BAD = [
    ("a.asf", "", "got no lines"),
    ("a.asf", "x\n", "line 1: number of points: got 'x'"),
    ("a.asf", "999999999\n0 0 0 0 0 0 0\n", "got 999999999, but the file has 1"),
    ("a.asf", "1\n0 0 0 0 0 0\n", "line 2: got 6 fields"),
    ("a.asf", "1\n0 0 0 zero 0 0 0\n", "line 2: y: got 'zero'"),
    ("a.asf", "1\n0 0 0 0 1 0 0\n", "line 2: point: got 1; expected each of 0...0 once"),
    ("a.asf", "1\n0 q 0 0 0 0 0\n", "line 2: type: got 'q'"),
    ("a.asf", "1\n0 0 0 0 0 0 0\na.bmp\nb.bmp\n", "line 4: got 'b.bmp' after"),
    ("a.tps", "", "got no specimen"),
    ("a.tps", "ID=1\n", "line 1: got 'ID=1' before the first specimen"),
    ("a.tps", "LM=2\n1 2\nID=0\n", "line 1: got 1 points; expected 2"),
    ("a.tps", "LM=1\n1 2\n3 4\n", "line 3: got '3 4'; expected KEY=value"),
    ("a.tps", "LM=1\n1\n", "line 2: got 1 fields"),
    ("a.tps", "LM=\n", "line 1: LM: got ''; expected a count"),
    ("a.tps", "LM=999999999\n1 2\n", "got 1 points; expected 999999999"),
    ("a.tps", "LM=1\n1 2\nCURVES=2\nPOINTS=1\n1 1\n", "CURVES: got 2, but the specimen has 1"),
    ("a.tps", "LM=1\n1 2\nSCALE=big\n", "line 3: SCALE: got 'big'"),
    ("a.tps", "LM=1\n1 2\nSCALE=-1\n", "line 3: SCALE: got -1; expected a positive"),
    ("a.tps", "LM=1\n1 2\nID=0\nID=1\n", "line 4: ID: got a second one"),
    ("a.ljson", "{", "line 1: not JSON"),
    ("a.ljson", '{"version": 4}', "version: got 4"),
    ("a.ljson", '{"version": true}', "version: got True; expected an integer"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": []}}', "got no points"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": [[1, 2], [1]]}}', r"points\[1\]: got \[1\]; expected 2"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": [[1, NaN]]}}', "NaN is not JSON"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": [[1, 1e999]]}}', "too large"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": [[1, true]]}}', "got True; expected a number"),
    ("a.ljson", '{"version": 2, "landmarks": {"points": [[1, 2]], "connectivity": [[0, 1]]}}', "connectivity: got 1"),
    ("a.ljson", '{"version": 3, "groups": {}}', "groups: got none"),
    ("a.ljson", '{"version": 1, "groups": [{"label": "a"}]}', "got no 'landmarks'"),
    ("a.ljson", "[" * 100_000, "not JSON that can be read"),
    ("a.ljson", '{"version": ' + "9" * 5000 + "}", "not JSON that can be read"),
    ("a.csv", "", "got an empty file"),
    ("a.csv", "a,b\n1,2\n", "line 1: header: got a, b; expected columns x0"),
    ("a.csv", "x0,y0\n", "no rows"),
    ("a.csv", "x0,y0\n1\n", "line 2: got 1 fields; expected 2"),
    ("a.csv", "x0,y0\n1,one\n", "line 2: y0: got 'one'"),
    ("a.csv", "x0,y0,x2,y2\n1,1,1,1\n", "got landmarks 0...2, 2 of them"),
    ("a.csv", "x0,y0,x999999\n1,1,1\n", "got x of 999999; expected x and y"),
    ("a.csv", "x0,y0,X0\n1,1,1\n", "got x0 twice"),
    ("a.csv", "name,name,x,y\n1,1,1,1\n", "got 'name' twice"),
    ("a.csv", "landmark,x,y\na,1,1\na,2,2\n", "landmark: got 'a' twice in one shape"),
    ("a.json", "[]", "got none with labelled points"),
    ("a.json", '{"annotations": [{"keypoints": [1, 2]}]}', r"annotations\[0\].keypoints: got 2 numbers"),
    ("a.json", '{"annotations": [{"keypoints": [1, 2, 5]}]}', "got 5 to 5 .*expected a visibility"),
    ("a.json", '{"annotations": []}', "got none with labelled points"),
    ("a.json", '{"annotations": [{"keypoints": [1, 2, 2], "bbox": [1]}]}', "box: got"),
    ("a.json", '{"annotations": [3]}', r"annotations\[0\]: got 3; expected an object"),
    ("a.xml", "", "not XML"),
    ("a.xml", "<dataset/>", "got no box"),
    ("a.xml", DLIB.replace("x='90'", ""), "line 6: part: got no 'x'"),
    ("a.xml", DLIB.replace("x='90'", "x='ten'"), "line 6: part: x: got 'ten'"),
    ("a.xml", DLIB.replace("name='10'", "name='9'"), "line 6: part: got the name '9' twice"),
    ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]>" + DLIB.split("\n", 2)[2], "line 1: got a document type"),
    ("a.xml", "<a>" * 60, "nested elements"),
    ("a.xml", "<image><part name='1' x='1' y='1'/></image>", "line 1: part: got one outside a box"),
    ("a.npy", "no array", "got no .npy file"),
    ("a.foo", "", "got the extension '.foo'; expected one of .pts"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_errors_name_file_line_and_field(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(LandmarkFileError, match=f"{name}.*{message}"):
        read_landmarks(tmp_path / name)


def test_an_xml_bomb_is_refused_before_it_grows(tmp_path):
    entities = "".join(f"<!ENTITY e{i + 1} '{f'&e{i};' * 10}'>" for i in range(12))
    (tmp_path / "a.xml").write_text(f"<!DOCTYPE d [<!ENTITY e0 'x'>{entities}]><d>&e12;</d>")
    with pytest.raises(LandmarkFileError, match="entities are not expanded"):
        read_landmarks(tmp_path / "a.xml")


def _npy(header, body=b""):
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 2)}"), "0 bytes follow"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}", bytes(16)), "16 bytes follow"),
        (_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2)}", bytes(16)), "array of object"),
        (_npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1, 2)}", bytes(32)), "array of <U4"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", bytes(24)), "got an array of shape .3,"),
        (_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2, 2)}", bytes(32)), "try numpy.load"),
        (
            _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}", np.array([np.inf, 1]).tobytes()),
            "infinite",
        ),
        (_npy("__import__('os')"), "no .npy file"),
    ],
)
def test_npy_refuses_before_it_allocates(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(LandmarkFileError, match=message):
        read_npy(tmp_path / "a.npy")


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LandmarkFileError, match="got an array of object"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("write", "name", "landmarks", "options", "message"),
    [
        (write_asf, "a.asf", [[1, 2]], {}, "Try image_size="),
        (write_asf, "a.asf", [[np.nan, 2]], {"image_size": (1, 1)}, "landmark 0 is missing"),
        (write_asf, "a.asf", LandmarkFile(np.ones((1, 2)), frame="y_up"), {}, "got the frame 'y_up'"),
        (write_asf, "a.asf", [[1, 2]], {"image_size": (1, 1), "image_name": "a\nb"}, "one line cannot hold"),
        (write_tps, "a.tps", [[1, 2]], {}, "counts y from the top"),
        (write_tps, "a.tps", LandmarkFile(np.ones((1, 2)), frame="relative"), {}, "relative to its image"),
        (write_tps, "a.tps", LandmarkFile(np.ones((1, 2)), None, None, "a\nb", "y_up"), {}, "IMAGE: got 'a"),
        (write_csv, "a.csv", [], {}, "got landmarks of shape|got no shapes"),
        (write_csv, "a.csv", [LandmarkFile(np.ones((1, 2))), LandmarkFile(np.ones((2, 2)))], {}, "shape 1 has .2, 2."),
        (write_csv, "a.csv", [[1, 2]], {"columns": ["x0"]}, "names that differ"),
        (write_coco, "a.json", [[np.nan, 2]], {}, "no landmark that is not missing"),
        (write_coco, "a.json", [[1, 2, 3]], {}, r"expected .n_landmarks, 2"),
        (write_dlib_xml, "a.xml", [[np.nan, 2]], {}, "no landmark that is not missing"),
        (write_dlib_xml, "a.xml", LandmarkFile(np.ones((1, 2)), ("a\0",)), {}, "XML cannot hold"),
        (write_npy, "a.npy", LandmarkFile(np.ones((1, 2)), frame="relative"), {}, "the frame 'relative'"),
        (write_ljson, "a.ljson", LandmarkFile(np.ones((1, 2)), frame="y_up"), {}, "the frame 'y_up'"),
    ],
)
def test_writers_refuse(tmp_path, write, name, landmarks, options, message):
    with pytest.raises(LandmarkFileError, match=f"{name}: .*(?:{message})"):
        write(tmp_path / name, landmarks, **options)
    assert not list(tmp_path.iterdir())


def test_options_and_folders(tmp_path):
    with pytest.raises(LandmarkFileError, match="no such file or folder"):
        read_landmarks(tmp_path / "none")
    with pytest.raises(LandmarkFileError, match=r"got no file of .pts, .asf"):
        read_landmarks(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    faces = make_faces(3, rng=0)
    write_landmarks(tmp_path / "b" / "2.PTS", faces[1], origin=0)
    write_landmarks(tmp_path / "1.pts", faces[0], origin=0)
    (tmp_path / ".hidden" / "3.pts").write_text("broken")
    (tmp_path / "split.csv").write_text("a,b\n")
    files = read_landmarks(tmp_path, origin=0)
    np.testing.assert_array_equal(np.stack(files), faces[:2])
    assert [f.path.name for f in files] == ["1.pts", "2.PTS"]
    write_landmarks(tmp_path / "3.npy", faces[2])
    with pytest.raises(LandmarkFileError, match=r"got files of .npy, .pts; expected one. Try extension="):
        read_landmarks(tmp_path)
    assert len(read_landmarks(tmp_path, extension="npy")) == 1
    with pytest.raises(TypeError, match=r"got the option 'origin', which .npy lacks; expected missing, n_dims, scheme"):
        read_landmarks(tmp_path, extension=".npy", origin=1)
    with pytest.raises(TypeError, match="got the option 'x'"):
        write_landmarks(tmp_path / "3.npy", faces[2], x=1)
    (tmp_path / "4.pts").write_text("broken")
    with pytest.raises(LandmarkFileError, match=r"4.pts, line 1"):
        read_landmarks(tmp_path, extension=".pts")
    many = [LandmarkFile(f) for f in faces]
    with pytest.raises(LandmarkFileError, match="got 3 shapes; this format holds one"):
        write_landmarks(tmp_path / "5.pts", many)
    with pytest.raises(LandmarkFileError, match=r"expected .n_landmarks"):
        write_landmarks(tmp_path / "5.pts", faces)
    with pytest.raises(LandmarkFileError, match="got the extension ''"):
        write_landmarks(tmp_path / "5", faces)


def test_latin_1_names_survive(tmp_path):
    (tmp_path / "a.tps").write_bytes("LM=1\n1 2\nIMAGE=flügel.jpg\n".encode("latin-1"))
    assert read_landmarks(tmp_path / "a.tps")[0].image_name == "flügel.jpg"


# --- Real files -------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_tps(data_dir):
    path = data_dir / "fly_wings" / "tps-example.tps"
    files = read_tps(path)
    assert len(files) >= 50
    assert {len(f) for f in files} == {12}
    with_image = [f for f in files if f.frame == "pixels"]
    assert len(with_image) > 40
    raw = path.read_text().split("LM=12")[1].split()[:2]
    np.testing.assert_array_equal(files[0].points[0], [float(raw[0]), 479 - float(raw[1])])
    stacked = np.stack(with_image)
    assert stacked.min() >= 0
    assert (stacked.max(axis=(0, 1)) < [632, 480]).all()


@pytest.mark.data
def test_real_asf(data_dir):
    files = read_landmarks(data_dir / "formats")
    assert [f.image_name for f in files] == ["c4480h_s1.bmp", "c4556h_s1.bmp"]
    for file in files:
        assert file.frame == "pixels"
        assert file.points.shape == (66, 2)
        assert set(file.attributes["columns"][:, 0]) == {0, 1}
        from skimage.io import imread

        image = imread(data_dir / "formats" / file.image_name, as_gray=True).astype(float)
        inner = image[tuple(np.round(file.points[:33].mean(axis=0)).astype(int)[::-1])]
        wall = np.mean([image[tuple(np.round(p).astype(int)[::-1])] for p in (file.points[:33] + file.points[33:]) / 2])
        assert inner > wall  # the blood of the chamber is brighter than the muscle round it


@pytest.mark.data
def test_real_pts(data_dir):
    files = read_landmarks(data_dir / "imm", scheme="imm58")
    assert len(files) == 180
    assert np.stack(files).min() >= 0


@pytest.mark.data
def test_real_csv(data_dir):
    files = read_csv(data_dir / "landmarks" / "muct68_opencv.csv", missing="zero")
    assert len(files) == 7510
    assert sum(bool(np.isnan(f.points).any()) for f in files) == 1680
    assert files[0].image_name == "i000qa-fn"


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.pts", "version: 1\nn_points: 3\n{\n-1 -1\n3 4\n5 -1\n}\n", {}),
        ("a.asf", "3\n0 4 -1 -1 0 0 0\n0 4 3 4 1 0 0\n0 4 5 -1 2 0 0\n", {"image_size": (10, 20)}),
        ("a.tps", "LM=3\n-1 -1\n3 4\n5 -1\n", {"image_size": (10, 20)}),
        ("a.tps", "LM=3\n-1 -1\n3 4\n5 -1\nSCALE=2\n", {"scaled": True}),
        ("a.csv", "x0,y0,x1,y1,x2,y2\n-1,-1,3,4,5,-1\n", {}),
        ("a.ljson", '{"version": 2, "labels": [], "landmarks": {"points": [[-1, -1], [4, 3], [-1, 5]]}}', {}),
        ("a.json", '{"annotations": [{"id": 1, "keypoints": [-1, -1, 2, 3, 4, 2, 5, -1, 2]}]}', {}),
        (
            "a.xml",
            "<dataset><image file='a'><box top='0' left='0' width='9' height='9'><part name='0' x='-1' y='-1'/>"
            "<part name='1' x='3' y='4'/><part name='2' x='5' y='-1'/></box></image></dataset>",
            {},
        ),
        ("a.npy", None, {}),
    ],
)
def test_every_format_takes_what_marks_a_missing_landmark(tmp_path, name, text, options):
    """A value is compared with all coordinates as they stand in the file, before any of them is shifted or turned."""
    path = tmp_path / name
    if text is None:
        np.save(path, np.array([[-1.0, -1], [3, 4], [5, -1]]))
    else:
        path.write_text(text)
    for missing, gone in [(None, []), (-1, [0]), ((-1, -1), [0]), ((3, 4), [1]), ((5, -1), [2]), ("negative", [0, 2])]:
        read = read_landmarks(path, missing=missing, **options)
        points = (read[0] if isinstance(read, list) else read).points
        assert np.flatnonzero(np.isnan(points).all(axis=1)).tolist() == gone
        assert np.isfinite(np.delete(points, gone, axis=0)).all()
    for wrong in ("none", (1, 2, 3), [[1, 2]], np.nan, {}):
        with pytest.raises(ValueError, match="missing: got"):
            read_landmarks(path, missing=wrong, **options)


# --- Names give the order ---------------------------------------------------------------------------------


def _imglab(*boxes, ignore="0"):
    rows = ""
    for names_of in boxes:
        parts = "".join(f"<part name='{name}' x='{x}' y='0'/>" for name, x in names_of)
        rows += f"<box top='1' left='1' width='9' height='9' ignore='{ignore}'>{parts}</box>"
    return f"<dataset><images><image file='a.jpg'>{rows}</image></images></dataset>"


@pytest.mark.parametrize("prefix", ["", "p", "face_", "p.1-", "0x"])
def test_numbered_parts_are_in_the_order_of_their_numbers(tmp_path, prefix):
    path = tmp_path / "a.xml"
    as_text = sorted((f"{prefix}{i}", i) for i in range(68))  # as dlib writes them
    path.write_text(_imglab(as_text))
    (file,) = read_landmarks(path, scheme="ibug68")
    assert file.points[:, 0].tolist() == list(range(68))
    padded = [(f"{prefix}{i:02d}", i) for i in reversed(range(12))]
    path.write_text(_imglab(padded))
    assert read_dlib_xml(path)[0].points[:, 0].tolist() == list(range(12))
    path.write_text(_imglab([("l2", 2), ("l10", 10), ("r1", 101), ("r3", 103), ("l1", 1), ("r20", 120)]))
    assert read_dlib_xml(path)[0].points[:, 0].tolist() == [1, 2, 10, 101, 103, 120]


def test_named_parts_are_in_the_order_written(tmp_path):
    path = tmp_path / "a.xml"
    file = LandmarkFile(np.array([[1.0, 1], [2, 2], [3, 3]]), labels=("nose", "eye", "chin"))
    write_landmarks(path, file)
    (back,) = read_landmarks(path)
    assert back.labels == file.labels
    np.testing.assert_array_equal(back.points, file.points)
    boxes = ["ad", "abcd", "cnd"]
    path.write_text(_imglab(*([(name, "abcdn".index(name) + 1) for name in box] for box in boxes)))
    for back in read_dlib_xml(path):
        assert back.labels == tuple("abcnd")
    np.testing.assert_array_equal(read_dlib_xml(path)[0].points[:, 0], [1, np.nan, np.nan, np.nan, 4])


def test_names_of_a_scheme_are_brought_into_its_order(tmp_path):
    path = tmp_path / "a.xml"
    order = np.random.default_rng(0).permutation(68)
    path.write_text(_imglab([(IBUG68.names[i], int(i)) for i in order]))
    (file,) = read_dlib_xml(path, scheme="ibug68")
    assert file.labels == IBUG68.names
    assert file.points[:, 0].tolist() == list(range(68))


def test_ignored_boxes_are_left_out(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(_imglab([("1", 1)], [("1", 2)]).replace("ignore='0'", "ignore='1'", 1).replace("x='1'", "x='7'"))
    assert [f.points.tolist() for f in read_dlib_xml(path)] == [[[2, 0]]]
    path.write_text(_imglab([("1", 1)], ignore="1"))
    with pytest.raises(LandmarkFileError, match="ignore='1' in every box"):
        read_dlib_xml(path)


# --- Columns without a name -------------------------------------------------------------------------------


def _pts(*rows, header=""):
    return f"version: 1\nn_points: {len(rows)}\n{header}{{\n" + "\n".join(rows) + "\n}\n"


@pytest.mark.parametrize(
    ("rows", "words", "columns", "points"),
    [
        (("10.5 20.5 1", "30.5 40.5 0"), "flags. Try columns='xyv'", "xyv", [[9.5, 19.5], [np.nan, np.nan]]),
        (("10.5 20.5 1", "30.5 40.5 1"), "flags. Try columns='xyv'", "x y -", [[9.5, 19.5], [29.5, 39.5]]),
        (("1 10.5 20.5", "2 30.5 40.5"), "number .*Try columns='ixy'", "ixy", [[9.5, 19.5], [29.5, 39.5]]),
        (("0 10.5 20.5", "1 30.5 40.5"), "number of the landmark", "ixy", [[9.5, 19.5], [29.5, 39.5]]),
        (("10.5 20.5 .9", "30.5 40.5 0.2"), "confidence. Try columns='xyc'", "xyc", [[9.5, 19.5], [29.5, 39.5]]),
        (("10.5 20.5 -7", "30.5 40.5 9.5"), "Try columns='xyz' if", "xyz", [[9.5, 19.5, -7], [29.5, 39.5, 9.5]]),
        (("1 10 20 1", "2 30 40 0"), "Try columns='ixyz'", "ixyv", [[9, 19], [np.nan, np.nan]]),
        (("2 10 20", "1 30 40"), "Try columns='xyz'", "ixy", [[29, 39], [9, 19]]),
    ],
)
def test_a_third_column_is_never_taken_for_z_in_silence(tmp_path, rows, words, columns, points):
    path = tmp_path / "a.pts"
    path.write_text(_pts(*rows))
    with pytest.raises(LandmarkFileError, match=rf"a.pts: got {len(rows[0].split())} columns; .*{words}"):
        read_pts(path)
    np.testing.assert_array_equal(read_pts(path, columns=columns).points, points)


def test_columns_that_make_no_sense(tmp_path):
    path = tmp_path / "a.pts"
    path.write_text(_pts("1 2 nose", "3 4 chin"))
    assert read_pts(path, columns="xyl").labels == ("nose", "chin")
    for wrong in ("xx", "x", "xyq", 3, "xyvv"):
        with pytest.raises(ValueError, match="columns: got"):
            read_pts(path, columns=wrong)
    with pytest.raises(LandmarkFileError, match=r"got 3 fields .*expected the 2"):
        read_pts(path, columns="xy")
    path.write_text(_pts("1 2 3", "1 4 5"))
    with pytest.raises(LandmarkFileError, match="expected each number"):
        read_pts(path, columns="ixy")
    path.write_text(_pts("1 2 3", header="columns: red\n"))
    with pytest.raises(LandmarkFileError, match="line 3: columns: got 'red'"):
        read_pts(path)


# --- Lines, letters and decimals --------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("byte", [b"\x85", b"\x1c", b"\x1d", b"\x0b", b"\x0c", "\u2028".encode(), "\x85".encode()])
def test_lines_end_at_line_ends_only(tmp_path, end, byte):
    lines = [b"LM=1", b"10 20", b"IMAGE=C:\\pap" + byte + b"\\ala.jpg", b"ID=0"]
    (tmp_path / "a.tps").write_bytes(end.join(lines) + end)
    (file,) = read_landmarks(tmp_path / "a.tps")
    assert file.id == "0"
    assert file.image_name.startswith("C:\\pap")
    assert file.image_name.endswith("\\ala.jpg")
    write_landmarks(tmp_path / "b.tps", file)
    assert read_landmarks(tmp_path / "b.tps")[0].image_name == file.image_name


def test_decimal_commas_are_read_where_asked_and_named_where_not(tmp_path):
    for name, text in (
        ("a.pts", _pts("1,5 2,5", "11 22,25")),
        ("a.tps", "LM=2\n1,5 2,5\n11 22,25\nSCALE=0,5\n"),
    ):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(LandmarkFileError, match=r"got '[01],5'; expected a number. Try decimal=','"):
            read_landmarks(path)
        file = read_landmarks(path, decimal=",")
        file = file if isinstance(file, LandmarkFile) else file[0]
        np.testing.assert_array_equal(file.points + (1 if name == "a.pts" else 0), [[1.5, 2.5], [11, 22.25]])
    assert file.scale == 0.5
    with pytest.raises(ValueError, match="decimal: got ';'"):
        read_landmarks(path, decimal=";")


def test_keys_given_twice_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"annotations": [{"keypoints": [1, 2, 2], "keypoints": [3, 4, 2]}]}')
    with pytest.raises(LandmarkFileError, match="got the key 'keypoints' twice"):
        read_landmarks(tmp_path / "a.json")


def test_masked_landmarks_are_missing(tmp_path):
    points = np.ma.array([[1.0, 2.0], [9e9, 9e9]], mask=[[0, 0], [1, 0]])
    for name, masked in (("a.pts", points), ("b.csv", [points, points]), ("c.npy", points)):
        write_landmarks(tmp_path / name, masked)
        file = read_landmarks(tmp_path / name)
        file = file if isinstance(file, LandmarkFile) else file[1]
        np.testing.assert_array_equal(file.points, [[1, 2], [np.nan, np.nan]])


def test_numbers_in_one_row_that_leave_the_dimensions_open(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(204.0))
    with pytest.raises(LandmarkFileError, match=r"got 204 numbers, which may be 102 landmarks .* or 68 of three"):
        read_npy(path)
    assert read_npy(path, n_dims=2).points.shape == (102, 2)
    for file in (read_npy(path, n_dims=3), read_npy(path, scheme="ibug68")):
        np.testing.assert_array_equal(file.points, np.arange(204.0).reshape(68, 3))
    planar = np.random.default_rng(0).normal(size=(102, 2))
    write_npy(path, planar)
    np.testing.assert_array_equal(read_npy(path).points, planar)
    np.save(path, planar[:, None])
    np.testing.assert_array_equal(read_npy(path).points, planar)
    with pytest.raises(ValueError, match="n_dims: got 4"):
        read_npy(path, n_dims=4)


def test_a_record_says_what_does_not_fit():
    with pytest.raises(ValueError, match="labels: got 1; expected one for each of 2"):
        LandmarkFile(np.ones((2, 2)), ("a",))
    with pytest.raises(ValueError, match="frame: got 'up'"):
        LandmarkFile(np.ones((2, 2)), frame="up")
    assert LandmarkFile(np.ones((68, 2)), scheme="ibug68").scheme is IBUG68


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=6)


@given(
    labels=st.lists(words, min_size=1, max_size=4, unique=True).filter(
        lambda some: not all(s[-1:].isdigit() for s in some)
    ),
    image=st.none() | words,
    id_=words,
    scale=st.none() | st.floats(1e-3, 1e3),
    comment=words,
    seed=st.integers(0, 99),
)
def test_what_a_format_has_a_place_for_survives(tmp_path_factory, labels, image, id_, scale, comment, seed):
    folder = tmp_path_factory.getbasetemp()
    points = np.random.default_rng(seed).normal(size=(len(labels), 2)) * 100
    curve = np.arange(6.0).reshape(3, 2)
    attributes = {"id": id_, "scale": scale, "comment": comment, "curves": [curve], "box": np.array([1.0, 2, 9, 8])}
    file = LandmarkFile(points, tuple(labels), None, image, "pixels", attributes=attributes)
    kept = {
        ".csv": ("labels", "image_name", "id", "scale", "comment"),
        ".xml": ("labels", "id", "scale", "comment", "box"),
        ".json": ("labels", "image_name", "id", "box"),
        ".tps": ("image_name", "id", "scale", "comment", "curves"),
    }
    for ending, fields in kept.items():
        path = folder / f"kept{ending}"
        size = {"image_size": (640, 480)} if ending == ".tps" else {}
        write_landmarks(path, file, **size)
        (back,) = read_landmarks(path, **size)
        np.testing.assert_array_equal(back.points, points)
        for field in fields:
            one, other = (getattr(f, field, f.attributes.get(field)) for f in (back, file))
            np.testing.assert_array_equal(one, other, err_msg=f"{field} of {ending}")
