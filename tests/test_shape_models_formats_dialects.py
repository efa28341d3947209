"""Files as other programs write them, in the layouts of their versions: the numbers are right or the error is clear."""

import json

import numpy as np
import pytest

from shape_models import (
    LandmarkFile,
    LandmarkFileError,
    LandmarkScheme,
    generalized_procrustes,
    make_faces,
    read_landmarks,
    write_landmarks,
    write_pts,
)
from shape_models.datasets import load_landmarks


def written(folder, name, content):
    path = folder / name
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return path


def points(files):
    return [np.round(file.points, 9).tolist() for file in files]


GONE = [pytest.approx(np.nan, nan_ok=True)] * 2


# --- 3D Slicer -------------------------------------------------------------------------------------------


def markup(kind="Fiducial", system="LPS", points=(), **more):
    return {"type": kind, "coordinateSystem": system, "controlPoints": list(points), **more}


def control(label, position, status="defined"):
    return {"id": label, "label": label, "position": position, "positionStatus": status}


def test_slicer_5_with_several_lists_and_points_that_are_not_placed(tmp_path):
    content = {
        "markups": [
            markup(points=[control("n", [1, 2, 3]), control("m", [0, 0, 0], "undefined")], name="A"),
            markup(system="RAS", points=[control("n", [1, 2, 3]), control("m", [4, 5, 6], "preview")], name="B"),
            *(markup(kind, points=[control("L", [9, 9, 9])]) for kind in ("Line", "Angle", "Plane", "ROI")),
        ]
    }
    first, second = read_landmarks(written(tmp_path, "a.mrk.json", content))
    assert (first.id, second.id) == ("A", "B")
    np.testing.assert_array_equal(first.points, [[1, 2, 3], [np.nan] * 3])
    np.testing.assert_array_equal(second.points, [[-1, -2, 3], [np.nan] * 3])


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1), (["um", "UCUM", "micrometer"], 1e-3), ("cm", 10), (None, 1), ("m", 1000)]
)
def test_slicer_counts_millimetres(tmp_path, unit, factor):
    content = {"markups": [markup(points=[control("n", [1, 2, 3])], coordinateUnits=unit)]}
    (file,) = read_landmarks(written(tmp_path, "a.mrk.json", content))
    np.testing.assert_allclose(file.points, [np.array([1, 2, 3]) * factor])


def test_slicer_with_an_unknown_unit_is_refused(tmp_path):
    content = {"markups": [markup(points=[control("n", [1, 2, 3])], coordinateUnits="px")]}
    with pytest.raises(LandmarkFileError, match="coordinateUnits: got 'px'; expected one of mm"):
        read_landmarks(written(tmp_path, "a.mrk.json", content))


@pytest.mark.parametrize(
    ("status", "there"), [("", True), (",2,0", True), (",0,0", False), (",1,0", False), (",3,0", False)]
)
def test_fcsv_says_which_points_are_placed(tmp_path, status, there):
    head = "# Markups fiducial file version = 5.6\n# CoordinateSystem = LPS\n"
    head += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (file,) = read_landmarks(written(tmp_path, "a.fcsv", f"{head}1,1,2,3,0,0,0,1,1,1,0,F-1,,{status}\n"))
    np.testing.assert_array_equal(file.points, [[1, 2, 3]] if there else [[np.nan] * 3])


# --- VGG Image Annotator ---------------------------------------------------------------------------------


def test_via_3(tmp_path):
    content = {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1"},
        "config": {},
        "attribute": {"1": {"aname": "part", "anchor_id": "FILE1_Z0_XY1", "options": {"0": "nose", "1": "eye"}}},
        "file": {"1": {"fid": "1", "fname": "a.jpg", "type": 2}, "2": {"fid": "2", "fname": "b.jpg", "type": 2}},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            "1_x": {"vid": "1", "flg": 0, "z": [], "xy": [1, 10.5, 20], "av": {"1": "0"}},
            "1_y": {"vid": "1", "flg": 0, "z": [], "xy": [1, 30, 40], "av": {"1": "1"}},
            "1_b": {"vid": "1", "flg": 0, "z": [], "xy": [2, 5, 6, 50, 60], "av": {}},
            "2_x": {"vid": "2", "flg": 0, "z": [], "xy": [1, 3, 4], "av": {"1": "1"}},
            "2_y": {"vid": "2", "flg": 0, "z": [], "xy": [1, 1, 2], "av": {"1": "0"}},
            "2_f": {"vid": "2", "flg": 0, "z": [], "xy": [], "av": {"9": "a remark on the file"}},
        },
    }
    first, second = read_landmarks(written(tmp_path, "a.json", content))
    assert (first.image_name, second.image_name, first.labels) == ("a.jpg", "b.jpg", ("nose", "eye"))
    assert points([first, second]) == [[[10.5, 20], [30, 40]], [[1, 2], [3, 4]]]
    assert first.attributes["box"].tolist() == [5, 6, 55, 66]


def test_via_keeps_images_of_one_name_apart(tmp_path):
    def region(x, y):
        return {"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": {}}

    content = {f"a.jpg{size}": {"filename": "a.jpg", "size": size, "regions": [region(size, 1)]} for size in (10, 12)}
    assert points(read_landmarks(written(tmp_path, "a.json", content))) == [[[10, 1]], [[12, 1]]]


# --- COCO ------------------------------------------------------------------------------------------------


def results(rows, **more):
    return [{"image_id": i, "category_id": 1, "keypoints": row, "score": 0.5, **more} for i, row in rows]


def test_the_third_numbers_of_results_are_one_thing_in_the_whole_list(tmp_path):
    content = results([(7, [1, 2, 1, 3, 4, 1]), (8, [1, 2, 0.5, 3, 4, 0.25])])
    first, second = read_landmarks(written(tmp_path, "a.json", content))
    assert first.attributes["confidence"].tolist() == [1, 1]
    assert second.attributes["confidence"].tolist() == [0.5, 0.25]
    (plain,) = read_landmarks(written(tmp_path, "b.json", results([(7, [1, 2, 1, 3, 4, 1])])))
    assert plain.attributes["visibility"].tolist() == [2, 2]  # the format asks for a 1 that means nothing
    for wrong in (1.5, -0.25):
        with pytest.raises(LandmarkFileError, match=r"a visibility .*or a confidence from 0 to 1"):
            read_landmarks(written(tmp_path, "c.json", results([(7, [1, 2, 0.5, 3, 4, wrong])])))


# --- tps -------------------------------------------------------------------------------------------------


def test_tps_with_comments_radii_and_the_end_of_dos(tmp_path):
    text = '# by hand\nLM=2\n1 2\n3 4\nRADII=2\n1.5\n2.5\n" a remark\nVARIABLES=SEX=M,POP=2\nID=7\n\x1a'
    for end in ("\n", "\r", "\r\n"):
        (file,) = read_landmarks(written(tmp_path, "a.tps", text.replace("\n", end)))
        assert (points([file]), file.id) == ([[[1, 2], [3, 4]]], "7")
        assert file.attributes["radii"].tolist() == [[1.5], [2.5]]
        assert file.attributes["variables"] == "SEX=M,POP=2"


# --- Tables ----------------------------------------------------------------------------------------------


def test_rows_of_landmarks_in_any_order(tmp_path):
    text = "image,landmark,x,y\na,2,3,4\na,1,1,2\nb,1,5,6\nb,2,7,8\n"
    files = read_landmarks(written(tmp_path, "a.csv", text))
    assert points(files) == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    text = "specimen,landmark,x,y,visible\na,nose,3,4,yes\na,eye,1,2,no\nb,eye,5,6,yes\nb,nose,7,8,yes\n"
    first, second = read_landmarks(written(tmp_path, "b.csv", text))
    assert first.labels == second.labels == ("nose", "eye")
    np.testing.assert_array_equal(first.points, [[3, 4], [np.nan, np.nan]])
    assert points([second]) == [[[7, 8], [5, 6]]]


def test_a_specimen_is_called_by_the_column_that_tells_it(tmp_path):
    rows = "".join(f"p{s // 2},{s},{k},{s + k},{k}\n" for s in range(4) for k in range(3))
    path = written(tmp_path, "a.csv", "photo,specimen_id,coord,x,y\n" + rows)
    samples = load_landmarks(path, groups="photo")
    assert samples.names == ["0", "1", "2", "3"]
    assert samples.groups == ["p0", "p0", "p1", "p1"]
    assert load_landmarks(path, group="specimen_id", groups="photo").names == samples.names


@pytest.mark.parametrize(
    "head",
    [
        "nose_x,nose_y,nose_likelihood,eye_x,eye_y,eye_likelihood",
        "nose.x,nose.y,nose.score,eye.x,eye.y,eye.score",
        "x_nose,y_nose,nose_confidence,x_eye,y_eye,eye_confidence",
    ],
)
def test_wide_tables_with_a_likelihood(tmp_path, head):
    (file,) = read_landmarks(written(tmp_path, "a.csv", f"frame,{head}\n0,1,2,0.5,3,4,0.25\n"))
    assert file.labels == ("nose", "eye")
    assert points([file]) == [[[1, 2], [3, 4]]]
    assert file.attributes["confidence"].tolist() == [0.5, 0.25]


# --- What is no landmark file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.mat", "MATLAB"), ("a.xlsx", "a spreadsheet"), ("a.pkl", "a pickle"), ("a.RDS", "an object of R")],
)
def test_files_of_other_kinds_are_called_by_their_name(tmp_path, name, words):
    for read in (read_landmarks, load_landmarks):
        with pytest.raises(LandmarkFileError, match=f"{name}: this looks like {words}.*Try"):
            read(written(tmp_path, name, b"PK"))


def test_what_systems_put_into_folders_is_left_out(tmp_path):
    shapes = make_faces(3, rng=0)
    for i, shape in zip((1, 2, 10), shapes, strict=True):
        write_pts(tmp_path / f"im_{i}.pts", shape)
    for name in ("._im_1.pts", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/im_1.pts", "@eaDir/im_2.pts"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert load_landmarks(tmp_path).names == ["im_1", "im_2", "im_10"]
    np.testing.assert_allclose([file.points for file in read_landmarks(tmp_path)], shapes)


# --- Lists of files in estimators ------------------------------------------------------------------------


def test_landmarks_of_files_are_matched_by_name_in_every_function():
    from shape_models import AlignedASM

    shapes, labels = make_faces(8, rng=0), tuple(f"part {chr(945 + i)}" for i in range(68))
    order = np.random.default_rng(1).permutation(68)
    files = [LandmarkFile(shape, labels) for shape in shapes[:-1]]
    files.append(LandmarkFile(shapes[-1][order], tuple(labels[i] for i in order)))
    expected = generalized_procrustes(shapes)
    np.testing.assert_allclose(generalized_procrustes(files).distances, expected.distances)
    model, plain = AlignedASM().fit(files), AlignedASM().fit(shapes)
    np.testing.assert_allclose(model.asm_.basis_.variances, plain.asm_.basis_.variances)
    assert (model.landmark_names_, model.frame_) == (labels, "pixels")
    np.testing.assert_allclose(model.project(files[-1]), plain.project(shapes[-1]))
    np.testing.assert_allclose(model.project(files), plain.project(shapes))
    with pytest.raises(ValueError, match="frame"):
        generalized_procrustes([files[0], LandmarkFile(shapes[0], labels, frame="y_up")])


# --- What is not marked is missing ------------------------------------------------------------------------


def labelme(folder, image, **places):
    marks = [{"label": label, "points": [place], "shape_type": "point"} for label, place in places.items()]
    written(folder, f"{image}.json", {"version": "5.4.1", "imagePath": f"{image}.jpg", "shapes": marks})


@pytest.mark.parametrize("first", ["a", "c"])
def test_a_landmark_without_a_mark_is_missing_in_a_folder(tmp_path, first):
    """Also where the first file lacks it; the scheme, or the file that has all, gives the order."""
    labelme(tmp_path, first, nose=[1, 2], eye=[3, 4])
    labelme(tmp_path, "b", eye=[3, 5], ear=[8, 8], nose=[1, 3])
    labelme(tmp_path, "d", ear=[9, 9])
    samples = load_landmarks(tmp_path, extension=".json")
    wanted = {first: [[3, 4], GONE, [1, 2]], "b": [[3, 5], [8, 8], [1, 3]], "d": [GONE, [9, 9], GONE]}
    assert samples.labels == ("eye", "ear", "nose")
    assert {sample.name: sample.landmarks.tolist() for sample in samples} == wanted
    three = LandmarkScheme("three", 3, names=("nose", "eye", "ear"))
    ordered = load_landmarks(tmp_path, extension=".json", scheme=three)
    assert ordered.shapes()[-1].tolist() == [GONE, GONE, [9, 9]]
    labelme(tmp_path, "e", tail=[9, 9])
    with pytest.raises(LandmarkFileError, match=r"e: got landmarks with other names \(has 'tail' and lacks"):
        load_landmarks(tmp_path, extension=".json").shapes()


def test_a_landmark_without_a_row_is_missing_in_a_table(tmp_path):
    rows = "s,name,x,y,visible\na,eye,1,2,1\na,nose,3,4,1\nb,nose,3,5,1\n".replace("s,", "specimen,", 1)
    files = read_landmarks(written(tmp_path, "a.csv", rows))
    assert points(files) == [[[1, 2], [3, 4]], [GONE, [3, 5]]]
    assert [file.labels for file in files] == [("eye", "nose")] * 2
    assert files[1].attributes["visibility"].tolist() == [0, 1]
    rows = "specimen,landmark,x,y\na,1,1,2\na,2,3,4\na,3,5,5\nb,3,3,7\nb,1,3,5\n"
    assert points(read_landmarks(written(tmp_path, "b.csv", rows)))[1] == [[3, 5], GONE, [3, 7]]


def test_outlines_of_other_lengths_lack_nothing(tmp_path):
    rows = "leaf,coord,x,y\na,1,1,2\na,2,3,4\na,3,5,5\nb,1,3,5\nb,2,3,7\n"
    files = read_landmarks(written(tmp_path, "a.csv", rows), group=["leaf"])
    assert [len(file) for file in files] == [3, 2]
    assert not any(np.isnan(file.points).any() for file in files)


# --- COCO, YOLO, CelebA, and what is none of them ----------------------------------------------------------


def test_coco_says_what_an_annotation_is_of_and_a_crowd_is_no_shape(tmp_path):
    names = {"keypoints": ["nose", "tail"]}
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "dog", **names}, {"id": 2, "name": "cat", **names}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2]},
            {"id": 2, "image_id": 7, "category_id": 2, "keypoints": [5, 6, 2, 7, 8, 2], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 2, "keypoints": [9, 9, 2, 9, 9, 2], "iscrowd": 1},
        ],
    }
    files = read_landmarks(written(tmp_path, "a.json", content))
    assert [file.attributes["category"] for file in files] == ["dog", "cat"]
    assert points(files) == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    write_landmarks(tmp_path / "b.json", files)
    again = read_landmarks(tmp_path / "b.json")
    assert [(file.attributes["category"], file.labels) for file in again] == [
        ("dog", ("nose", "tail")),
        ("cat", ("nose", "tail")),
    ]


@pytest.mark.parametrize("n", [5, 17])
@pytest.mark.parametrize("faces", [1, 2])
def test_a_label_of_yolo_is_no_row_of_coordinates(tmp_path, n, faces):
    """Class, box and 17 points with a visibility are 56 numbers, which would make 28 points."""
    rng = np.random.default_rng(0)
    rows = [
        " ".join(f"{x:.6f} {y:.6f} {v}" for (x, y), v in zip(rng.random((n, 2)), rng.integers(0, 3, n), strict=True))
    ]
    text = "".join(f"0 0.5 0.5 0.2 0.3 {rows[0]}\n" for _ in range(faces))
    with pytest.raises(LandmarkFileError, match=r"a.txt: this looks like a label of YOLO.*Try exporting it as COCO"):
        read_landmarks(written(tmp_path, "a.txt", text))
    flat = written(tmp_path, "b.txt", " ".join(f"{x:.6f}" for x in rng.random(56)))
    assert read_landmarks(flat).points.shape == (28, 2)


def test_celeba(tmp_path):
    """A table whose image_id is a file; the list as it is published, with a count, is no text of numbers."""
    head, row = "image_id,lefteye_x,lefteye_y,nose_x,nose_y\n", "000001.jpg,69,109,77,121\n"
    file = read_landmarks(written(tmp_path, "a.csv", head + row))[0]
    assert (file.image_name, file.labels, file.points.tolist()) == (
        "000001.jpg",
        ("lefteye", "nose"),
        [[69, 109], [77, 121]],
    )
    number = read_landmarks(written(tmp_path, "b.csv", head + row.replace("000001.jpg", "17")))[0]
    assert (number.image_name, number.attributes["image_id"]) == (None, "17")
    text = "1\n" + head.replace("image_id,", "").replace(",", " ") + row.replace(",", " ")
    with pytest.raises(LandmarkFileError, match=r"line 2: y: got 'lefteye_x'; expected a number"):
        read_landmarks(written(tmp_path, "a.txt", text))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nose": [1, 2], "eye": [3, 4]}, "got an object of nose, eye; expected COCO keypoints, LabelMe"),
        ([[1, 2], [3, 4]], "got a list that is none of COCO results; expected COCO"),
        ([{"x": 1, "y": 2}], "got a list that is none of COCO results; expected COCO"),
        ({"faceLandmarks": [[{"x": 0.5, "y": 0.5}]]}, "this looks like MediaPipe.*fractions of the image. Try"),
    ],
)
def test_json_of_nobody_is_refused_in_our_words(tmp_path, content, words):
    with pytest.raises(LandmarkFileError, match=words):
        read_landmarks(written(tmp_path, "a.json", content))
