"""Files of annotation tools and other programs, in the exact layout that these write."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shape_models import IBUG68, LandmarkFile, LandmarkFileError, read_landmarks, write_landmarks
from shape_models.formats import (
    READABLE,
    WRITABLE,
    read_coco,
    read_cvat_xml,
    read_deeplabcut,
    read_labelme,
    read_openface,
    read_slicer,
    read_via,
    write_slicer,
)


def _write(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


finite = st.floats(allow_nan=False, allow_infinity=False)

# --- 3D Slicer ----------------------------------------------------------------------------------------------

MARKUPS = {
    "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "locked": False,
            "labelFormat": "%N-%d",
            "controlPoints": [
                {
                    "id": "1",
                    "label": "F-1",
                    "description": "",
                    "associatedNodeID": "",
                    "position": [-53.388409961685827, -73.33572796934868, 0.0],
                    "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
                    "selected": True,
                    "locked": False,
                    "visibility": True,
                    "positionStatus": "defined",
                },
                {"id": "2", "label": "F-2", "position": [49.8682950191571, -88.58955938697324, 0.0]},
                {"id": "3", "label": "F-3", "position": [0.0, 0.0, 0.0], "positionStatus": "undefined"},
            ],
            "measurements": [],
            "display": {"visibility": True, "opacity": 1.0},
        }
    ],
}
FCSV = """# Markups fiducial file version = 4.13
# CoordinateSystem = LPS
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
0,-53.388409961685827,-73.33572796934868,0,0,0,0,1,1,1,0,F-1,,
1,49.8682950191571,-88.58955938697324,0,0,0,0,1,1,1,0,F-2,,
"""


def test_slicer(tmp_path):
    (file,) = read_landmarks(_write(tmp_path, "a.mrk.json", MARKUPS))
    expected = [[-53.388409961685827, -73.33572796934868, 0.0], [49.8682950191571, -88.58955938697324, 0.0]]
    np.testing.assert_array_equal(file.points, [*expected, [np.nan] * 3])
    assert (file.labels, file.frame) == (("F-1", "F-2", "F-3"), "physical")
    (old,) = read_landmarks(_write(tmp_path, "a.fcsv", FCSV))
    np.testing.assert_array_equal(old.points, expected)
    assert old.labels == ("F-1", "F-2")


def test_both_directions_of_slicer_never_meet(tmp_path):
    left = read_landmarks(_write(tmp_path, "a.fcsv", FCSV))[0].points
    for text in (
        FCSV.replace("= LPS", "= RAS"),
        FCSV.replace("= LPS", "= 0"),
        FCSV.replace("# CoordinateSystem = LPS\n", ""),
    ):
        (file,) = read_landmarks(_write(tmp_path, "b.fcsv", text))
        np.testing.assert_array_equal(file.points, left * [-1, -1, 1])
        assert file.attributes["coordinate_system"] == "LPS"
    turned = json.loads(json.dumps(MARKUPS).replace('"LPS"', '"RAS"'))
    (file,) = read_landmarks(_write(tmp_path, "b.mrk.json", turned), coordinates="RAS")
    np.testing.assert_array_equal(file.points[:2], left)
    assert file.attributes["coordinate_system"] == "RAS"
    write_slicer(tmp_path / "c.mrk.json", file)
    np.testing.assert_array_equal(read_slicer(tmp_path / "c.mrk.json")[0].points[:2], left * [-1, -1, 1])
    for system in ("IJK", "XYZ"):
        with pytest.raises(LandmarkFileError, match=f"coordinateSystem: got '{system}'; expected LPS or RAS"):
            read_landmarks(_write(tmp_path, "d.mrk.json", json.dumps(MARKUPS).replace('"LPS"', f'"{system}"')))
    with pytest.raises(ValueError, match="coordinates: got 'LAS'"):
        read_slicer(tmp_path / "a.fcsv", coordinates="LAS")


@given(
    points=hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=finite),
    gone=st.booleans(),
    id_=st.none() | st.text(min_size=1, max_size=4),
    system=st.sampled_from(["LPS", "RAS"]),
    n_curves=st.integers(0, 2),
)
def test_slicer_round_trip_is_exact(tmp_path_factory, points, gone, id_, system, n_curves):
    path = tmp_path_factory.getbasetemp() / "round.mrk.json"
    if gone:
        points[0] = np.nan
    labels = tuple(f"é{i}" for i in range(len(points)))
    attributes = {"coordinate_system": system, "curves": [np.arange(6.0).reshape(2, 3)] * n_curves, "id": id_}
    write_landmarks(path, LandmarkFile(points, labels, frame="physical", attributes=attributes))
    (back,) = read_landmarks(path, coordinates=system)
    np.testing.assert_array_equal(back.points, points)
    assert (back.labels, back.frame, back.id) == (labels, "physical", id_)
    assert [curve.tolist() for curve in back.curves] == [curve.tolist() for curve in attributes["curves"]]


def test_curves_of_slicer_are_curves(tmp_path):
    curve = {**MARKUPS["markups"][0], "type": "ClosedCurve"}
    curve["controlPoints"] = curve["controlPoints"][:2]
    first, *rest = read_landmarks(_write(tmp_path, "a.mrk.json", {"markups": [MARKUPS["markups"][0], curve]}))
    assert not rest
    assert first.curves[0].shape == (2, 3)
    (alone,) = read_landmarks(_write(tmp_path, "b.mrk.json", {"markups": [curve]}))
    assert alone.points.shape == (0, 3)
    assert len(alone.curves) == 1
    with pytest.raises(LandmarkFileError, match="got no point list"):
        read_landmarks(_write(tmp_path, "c.mrk.json", {"markups": []}))


# --- Annotation tools -----------------------------------------------------------------------------------------


def _labelme(*shapes, **more):
    return {
        "version": "5.7.0",
        "flags": {},
        "imagePath": "..\\img\\a.jpg",
        "imageData": None,
        "imageHeight": 48,
        "imageWidth": 64,
        **more,
        "shapes": [
            {
                "label": label,
                "points": points,
                "group_id": group,
                "description": "",
                "shape_type": kind,
                "flags": {},
                "mask": None,
            }
            for label, points, group, kind in shapes
        ],
    }


def test_labelme(tmp_path):
    content = _labelme(
        ("p10", [[10.5, 1]], None, "point"),
        ("p2", [[2, 1]], None, "point"),
        ("p1", [[1.25, 1]], None, "point"),
        ("box", [[9, 8], [1, 2]], None, "rectangle"),
        ("edge", [[0, 0], [5, 5]], None, "linestrip"),
    )
    (file,) = read_landmarks(_write(tmp_path, "a.json", content))
    assert (file.labels, file.points.tolist()) == (("p1", "p2", "p10"), [[1.25, 1], [2, 1], [10.5, 1]])
    assert file.image_name == "..\\img\\a.jpg"
    assert file.attributes["box"].tolist() == [1, 2, 9, 8]
    assert file.attributes["image_size"] == (64, 48)
    assert file.curves[0].tolist() == [[0, 0], [5, 5]]
    np.testing.assert_array_equal(read_labelme(tmp_path / "a.json", origin=0.5)[0].points, file.points - 0.5)
    places = [("nose", 1, 1, 5), ("chin", 2, 1, 5), ("nose", 1, 2, 6)]
    two = _labelme(*[(name, [[x, y]], group, "point") for name, x, group, y in places])
    first, second = read_landmarks(_write(tmp_path, "b.json", two))
    assert first.labels == second.labels == ("nose", "chin")
    assert (first.id, second.id) == (1, 2)
    np.testing.assert_array_equal(second.points, [[1, 6], [np.nan, np.nan]])
    same = _labelme(*[("point", [[i, i]], None, "point") for i in range(3)])
    (file,) = read_landmarks(_write(tmp_path, "c.json", same))
    assert (file.labels, len(file)) == (None, 3)
    twice = _labelme(("a", [[1, 1]], None, "point"), ("a", [[1, 1]], None, "point"), ("b", [[1, 1]], None, "point"))
    with pytest.raises(LandmarkFileError, match=r"got the point 'a' twice in the image.*group_id"):
        read_landmarks(_write(tmp_path, "d.json", twice))
    with pytest.raises(LandmarkFileError, match="shapes: got no points"):
        read_landmarks(_write(tmp_path, "e.json", _labelme(("car", [[1, 1], [2, 2], [3, 1]], None, "polygon"))))


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><name>t</name><labels><label><name>face</name></label></labels></task></meta>
  <image id="0" name="sub/a.jpg" width="640" height="480">
    <skeleton label="face" source="manual" z_order="0">
      <points label="nose" source="manual" outside="0" occluded="0" points="10.50,20.25"></points>
      <points label="chin" source="manual" outside="0" occluded="1" points="30.00,40.00"></points>
      <points label="ear" source="manual" outside="1" occluded="0" points="1.00,1.00"></points>
    </skeleton>
    <box label="face" source="manual" occluded="0" xtl="1" ytl="2" xbr="30" ybr="40" z_order="0"></box>
    <points label="wing" source="manual" occluded="0" points="1.00,2.00;3.00,4.00" z_order="0"></points>
  </image>
  <image id="1" name="b.jpg" width="640" height="480">
    <points label="p10" source="manual" occluded="0" points="10,1" z_order="0"></points>
    <points label="p2" source="manual" occluded="0" points="2,1" z_order="0"></points>
  </image>
</annotations>
"""


def test_cvat(tmp_path):
    face, wing, points = read_landmarks(_write(tmp_path, "a.xml", CVAT))
    assert face.labels == ("nose", "chin", "ear")
    np.testing.assert_array_equal(face.points, [[10.5, 20.25], [30, 40], [np.nan, np.nan]])
    assert face.attributes["visibility"].tolist() == [2, 1, 0]
    assert (face.image_name, face.attributes["image_size"], face.attributes["label"]) == (
        "sub/a.jpg",
        (640, 480),
        "face",
    )
    assert (wing.labels, wing.points.tolist()) == (None, [[1, 2], [3, 4]])
    assert (points.labels, points.points.tolist(), points.image_name) == (("p2", "p10"), [[2, 1], [10, 1]], "b.jpg")
    np.testing.assert_array_equal(read_cvat_xml(tmp_path / "a.xml", origin=0.5)[1].points, wing.points - 0.5)
    video = """<annotations><track id="7" label="fly">
      <points frame="0" outside="0" occluded="0" keyframe="1" points="1,2;3,4"/>
      <points frame="5" outside="0" occluded="0" keyframe="1" points="5,6;7,8"/></track></annotations>"""
    first, second = read_landmarks(_write(tmp_path, "v.xml", video))
    assert (second.points.tolist(), second.id, second.attributes["frame_number"]) == ([[5, 6], [7, 8]], "7", "5")
    assert first.attributes["label"] == "fly"
    with pytest.raises(LandmarkFileError, match=r"line 12: points: got the label 'p10' twice|twice in one object"):
        read_landmarks(_write(tmp_path, "b.xml", CVAT.replace('"p2"', '"p10"')))
    with pytest.raises(LandmarkFileError, match="got no points and no skeleton"):
        read_landmarks(_write(tmp_path, "c.xml", "<annotations><version>1.1</version></annotations>"))


def _region(x, y, **attributes):
    return {"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": attributes}


def test_via(tmp_path):
    box = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}, "region_attributes": {}}
    images = {
        "a.jpg123": {
            "filename": "a.jpg",
            "size": 123,
            "file_attributes": {},
            "regions": [_region(1, 2, name="tip", kind="lm"), _region(3, 4, name="base", kind="lm"), box],
        },
        "b.jpg9": {
            "filename": "b.jpg",
            "size": 9,
            "file_attributes": {},
            "regions": [_region(5, 6, name="base", kind="lm")],
        },
        "c.jpg9": {"filename": "c.jpg", "size": 9, "regions": [], "file_attributes": {}},
    }
    project = {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {"region": {}, "file": {}}}
    for content in (images, project):
        first, second = read_landmarks(_write(tmp_path, "a.json", content))
        assert first.labels == second.labels == ("tip", "base")
        assert first.points.tolist() == [[1, 2], [3, 4]]
        np.testing.assert_array_equal(second.points, [[np.nan, np.nan], [5, 6]])
        assert first.attributes["box"].tolist() == [1, 2, 4, 6]
    old = {"a.jpg1": {"filename": "a.jpg", "regions": {"0": _region(1, 2), "1": _region(3, 4)}}}
    (file,) = read_landmarks(_write(tmp_path, "b.json", old))
    assert (file.labels, file.points.tolist()) == (None, [[1, 2], [3, 4]])
    table = (
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.jpg,123,"{}",2,0,"{""name"":""point"",""cx"":1,""cy"":2}","{""name"":""tip""}"\n'
        'a.jpg,123,"{}",2,1,"{""name"":""point"",""cx"":3,""cy"":4}","{""name"":""base""}"\n'
        'b.jpg,9,"{}",0,0,"{}","{}"\n'
    )
    (file,) = read_landmarks(_write(tmp_path, "a.csv", table))
    assert (file.labels, file.points.tolist(), file.image_name) == (("tip", "base"), [[1, 2], [3, 4]], "a.jpg")
    twice = {
        "a.jpg1": {"filename": "a.jpg", "regions": [_region(1, 2, n="a"), _region(3, 4, n="a"), _region(3, 4, n="b")]}
    }
    with pytest.raises(LandmarkFileError, match=r"none of which names every point of an image once.*label="):
        read_landmarks(_write(tmp_path, "c.json", twice))
    with pytest.raises(LandmarkFileError, match="label: got 'kind'"):
        read_via(_write(tmp_path, "d.json", images), label="kind")


def test_coco_results_and_empty_keypoints(tmp_path):
    results = [
        {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2, 0.75, 3, 4, 0.0, 0, 0, 0], "score": 0.9},
        {"image_id": 8, "category_id": 1, "keypoints": [1, 2, 1, 3, 4, 1, 5, 6, 1], "score": 0.5},
    ]
    first, second = read_landmarks(_write(tmp_path, "a.json", results))
    np.testing.assert_array_equal(first.points, [[1.5, 2], [3, 4], [np.nan, np.nan]])
    assert first.attributes["confidence"].tolist() == [0.75, 0, 0]
    assert (first.attributes["image_id"], first.attributes["score"]) == (7, 0.9)
    assert second.points.tolist() == [[1, 2], [3, 4], [5, 6]]
    for nothing in ([], None, "absent"):
        annotations = [{"id": 1, "keypoints": nothing}, {"id": 2, "keypoints": [1, 2, 2], "bbox": nothing}]
        if nothing == "absent":
            annotations = [{"id": 1}, {"id": 2, "keypoints": [1, 2, 2]}]
        content = {"images": None, "categories": [], "annotations": annotations}
        (file,) = read_coco(_write(tmp_path, "b.json", content))
        assert (file.id, file.points.tolist(), file.attributes["box"]) == (2, [[1, 2]], None)
    for empty in ([], None):
        with pytest.raises(LandmarkFileError, match="got none with labelled points"):
            read_landmarks(_write(tmp_path, "c.json", {"annotations": empty}))


# --- Trackers ------------------------------------------------------------------------------------------------


def _openface(n=68):
    names = [
        "frame",
        "face_id",
        "timestamp",
        "confidence",
        "success",
        "gaze_0_x",
        "gaze_0_y",
        "eye_lmk_x_0",
        "eye_lmk_X_0",
        "pose_Tx",
        *(f"{axis}_{i}" for axis in "xyXYZ" for i in range(n)),
        "p_scale",
        "AU01_r",
    ]
    values = {f"{axis}_{i}": 100 * k + i + 0.5 for k, axis in enumerate("xyXYZ") for i in range(n)}
    rows = []
    for frame, success in ((1, 1), (2, 0)):
        fixed = {"frame": frame, "face_id": 0, "timestamp": 0.04, "confidence": 0.98, "success": success}
        rows.append(", ".join(str({**values, **fixed}.get(name, 0)) for name in names))
    return ", ".join(names) + "\n" + "\n".join(rows) + "\n"


def test_openface(tmp_path):
    path = _write(tmp_path, "a.csv", _openface())
    first, second = read_landmarks(path)
    np.testing.assert_array_equal(first.points, np.column_stack([np.arange(68) + 0.5, np.arange(68) + 100.5]))
    assert first.scheme is IBUG68
    assert np.isnan(second.points).all()
    assert (second.id, first.attributes["detection_confidence"]) == ("2", 0.98)
    spatial = read_openface(path, part="3d")[0]
    np.testing.assert_array_equal(spatial.points[1], [201.5, 301.5, 401.5])
    assert spatial.frame == "physical"
    with pytest.raises(ValueError, match="part: got 'face'"):
        read_openface(path, part="face")


DLC = """scorer,DLC_resnet50,DLC_resnet50,DLC_resnet50,DLC_resnet50,DLC_resnet50,DLC_resnet50
bodyparts,snout,snout,snout,tail10,tail10,tail10
coords,x,y,likelihood,x,y,likelihood
0,1.5,2.5,0.99,3,4,0.25
1,5,6,0.5,,,0.1
"""
DLC_LABELS = """scorer,,,me,me,me,me
individuals,,,a,a,b,b
bodyparts,,,snout,snout,snout,snout
coords,,,x,y,x,y
labeled-data,vid,img1.png,1,2,3,4
labeled-data,vid,img2.png,5,6,,
"""


def test_deeplabcut(tmp_path):
    first, second = read_landmarks(_write(tmp_path, "a.csv", DLC))
    assert first.labels == ("snout", "tail10")
    assert (first.points.tolist(), first.attributes["confidence"].tolist()) == ([[1.5, 2.5], [3, 4]], [0.99, 0.25])
    np.testing.assert_array_equal(second.points, [[5, 6], [np.nan, np.nan]])
    assert (second.id, second.image_name) == ("1", None)
    many = read_landmarks(_write(tmp_path, "b.csv", DLC_LABELS))
    assert [(f.image_name, f.attributes["individual"], f.points.tolist()) for f in many] == [
        ("labeled-data/vid/img1.png", "a", [[1, 2]]),
        ("labeled-data/vid/img1.png", "b", [[3, 4]]),
        ("labeled-data/vid/img2.png", "a", [[5, 6]]),
    ]
    with pytest.raises(LandmarkFileError, match="expected the rows scorer, bodyparts and coords"):
        read_deeplabcut(_write(tmp_path, "c.csv", "scorer,a\n1,2\n"))


def _pandas_table(path, names, values):
    """What pandas and PyTables write for a frame of floats with several rows of header."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        table = np.zeros(len(values), dtype=[("index", "<i8"), ("values_block_0", "<f8", (len(names),))])
        table["index"], table["values_block_0"] = np.arange(len(values)), values
        group.create_dataset("table", data=table)
        group.attrs["non_index_axes"] = np.bytes_(pickle.dumps([(1, names)], 0))
        group["table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(names, 0))


def test_deeplabcut_hdf5(tmp_path):
    pytest.importorskip("h5py")
    names = [("net", part, axis) for part in ("snout", "tail10") for axis in ("x", "y", "likelihood")]
    path = tmp_path / "a.h5"
    _pandas_table(path, names, [[1.5, 2.5, 0.99, 3, 4, 0.25], [5, 6, 0.5, np.nan, np.nan, 0.1]])
    table = read_landmarks(_write(tmp_path, "a.csv", DLC))
    for one, other in zip(read_landmarks(path), table, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        assert (one.labels, one.id) == (other.labels, other.id)
    _pandas_table(path, [("net", "a", "x"), print], [[1.0, 2.0]])
    with pytest.raises(LandmarkFileError, match=r"a.h5: cannot be read as a table of DeepLabCut"):
        read_landmarks(path)
    path.write_bytes(b"nothing")
    with pytest.raises(LandmarkFileError, match=r"a.h5: cannot be read"):
        read_landmarks(path)


# --- Morphometrics -----------------------------------------------------------------------------------------------


def test_scalismo(tmp_path):
    content = [
        {
            "id": "n10",
            "coordinates": [1.0, 2.0, 3.0],
            "uncertainty": {"stddevs": [4.0, 4.0, 4.0], "pcvectors": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
        },
        {"id": "n2", "description": "b", "coordinates": [4.0, 5.0, 6.5]},
    ]
    file = read_landmarks(_write(tmp_path, "landmarks.json", content))
    assert (file.labels, file.points.tolist(), file.frame) == (("n10", "n2"), [[1, 2, 3], [4, 5, 6.5]], "physical")


STEREOMORPH = """<shapes type=list>
\t<image.name type=character names=FALSE length=1 as.numeric=FALSE >mug_001.jpg</image.name>
\t<scaling type=numeric names=FALSE length=1 as.numeric=TRUE >0.05</scaling>
\t<landmarks.pixel type=matrix rownames=TRUE colnames=FALSE nrow=3 ncol=2 as.numeric=TRUE >
\t\thandle lower\t100.5\t200
\t\tlip_10\tNA\tNA
\t\tlip_2\t3\t4
\t</landmarks.pixel>
\t<landmarks.scaled type=matrix rownames=TRUE colnames=FALSE nrow=3 ncol=2 as.numeric=TRUE >
\t\thandle lower\t5.025\t-10
\t\tlip_10\tNA\tNA
\t\tlip_2\t0.15\t-0.2
\t</landmarks.scaled>
\t<curves.pixel type=list>
\t\t<handle type=matrix rownames=FALSE colnames=FALSE nrow=2 ncol=2 as.numeric=TRUE >
\t\t\t1\t2
\t\t\t3\t4
\t\t</handle>
\t</curves.pixel>
</shapes>
"""


def test_stereomorph(tmp_path):
    file = read_landmarks(_write(tmp_path, "mug_001.txt", STEREOMORPH))
    assert (file.labels, file.image_name, file.scale) == (("handle lower", "lip_10", "lip_2"), "mug_001.jpg", 0.05)
    np.testing.assert_array_equal(file.points, [[100.5, 200], [np.nan, np.nan], [3, 4]])
    assert (file.curves[0].tolist(), file.attributes["curve_names"]) == ([[1, 2], [3, 4]], ["handle"])
    scaled = read_landmarks(tmp_path / "mug_001.txt", scaled=True)
    assert (scaled.points[2].tolist(), scaled.frame) == ([0.15, -0.2], "physical")
    spatial = (
        "<shapes type=list>\n<landmarks type=matrix rownames=TRUE >\na\t1\t2\t3\nb\t4\t5\t6\n</landmarks>\n</shapes>"
    )
    assert read_landmarks(_write(tmp_path, "b.txt", spatial)).points.tolist() == [[1, 2, 3], [4, 5, 6]]
    old = _write(tmp_path, "c.txt", "lip_1\t3\t4\nlip_2\t5\t6\n")  # before shape files: a table without header
    assert (read_landmarks(old).labels, read_landmarks(old).points.tolist()) == (("lip_1", "lip_2"), [[3, 4], [5, 6]])


@pytest.mark.parametrize(
    "text",
    [
        '"a comment\n1 2L 4 1 -999 DIM=2\na b\n1 2 3 4\n5 6 -999 -999\n',
        "1 2L 4 1 -999 DIM=2\na\nb\n1 2 3\n4\n5 6 -999 -999\n",
        "1 2L 4 0 DIM=2\na b\n1 2 3 4\n5 6 NA NA\n",
        "1 2L 4L 1 9999 dim=2\na b\nx1 y1 x2 y2\n1 2 3 4\n5 6 9999 9999\n",
    ],
)
def test_nts(tmp_path, text):
    first, second = read_landmarks(_write(tmp_path, "a.nts", text))
    assert first.points.tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(second.points, [[5, 6], [np.nan, np.nan]])
    assert (first.id, second.id, first.frame) == ("a", "b", "physical")


def test_nts_of_one_specimen_and_dta(tmp_path):
    (file,) = read_landmarks(_write(tmp_path, "a.nts", "1 2L 3 0 DIM=3\nnose\nchin\n1 2 3\n4 5 6\n"))
    assert (file.labels, file.points.tolist()) == (("nose", "chin"), [[1, 2, 3], [4, 5, 6]])
    dta = "'#EVAN\n\n1 2L 6 1 9999 DIM=3\n\nskull one.ply\nskull2.ply\n\n1 2 3\n4 5 6\n\n7 8 9\n9999 9999 9999\n"
    first, second = read_landmarks(_write(tmp_path, "a.dta", dta))
    assert (first.id, first.points.tolist()) == ("skull one.ply", [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(second.points, [[7, 8, 9], [np.nan] * 3])
    for text, words in [
        ("1 2 4 0\n1 2 3 4\n5 6 7 8\n", "got no DIM=2 or DIM=3"),
        ("1 2 4 0 DIM=2\n1 2 3 4\n", "got 4 numbers; expected 2 x 4"),
        ("x 2 4 0\n", "the line of an NTSYS matrix"),
        ("1 2 5 0 DIM=2\n", "expected a multiple of 2"),
        ("1 9L 4 0 DIM=2\na b\n", "got 2 labels; expected 9"),
    ]:
        with pytest.raises(LandmarkFileError, match=words):
            read_landmarks(_write(tmp_path, "b.nts", text))
    assert len(read_landmarks(_write(tmp_path, "b.nts", "1 2 4 0\n1 2 3 4\n5 6 7 8\n"), n_dims=2)) == 2
    idav = _write(tmp_path, "a.land", "Version 1.0\n2\nS000 1 2 3\nS001 9999 9999 9999\n")
    assert read_landmarks(idav).labels == ("S000", "S001")


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1.5 2\n3 4\n", [[1.5, 2], [3, 4]]),
        ("# drawn by hand\n1.5,2\n3,4\n", [[1.5, 2], [3, 4]]),
        ("1.5\n2\n3\n4\n", [[1.5, 2], [3, 4]]),
        ("1.5\t2\t3\t4\n", [[1.5, 2], [3, 4]]),
        ("2\n1.5 2\n3 4\n", [[1.5, 2], [3, 4]]),
        ("x y\n1.5 2\n3 4\n", [[1.5, 2], [3, 4]]),
        ("version: 1\nn_points: 2\n{\n2.5 3\n4 5\n}\n", [[1.5, 2], [3, 4]]),
        ("nose 1.5 2\nchin 3 4\n", [[1.5, 2], [3, 4]]),
        ("ID\tX1\tY1\tX2\tY2\na\t1.5\t2\t3\t4\n", [[1.5, 2], [3, 4]]),
        ("LM=2\n1.5 2\n3 4\nID=0\n", [[1.5, 2], [3, 4]]),
    ],
)
def test_plain_text(tmp_path, text, points):
    file = read_landmarks(_write(tmp_path, "a.txt", text))
    file = file if isinstance(file, LandmarkFile) else file[0]
    assert file.points.tolist() == points


def test_plain_text_that_leaves_something_open(tmp_path):
    path = _write(tmp_path, "a.txt", "1 2 0\n3 4 1\n")
    with pytest.raises(LandmarkFileError, match=r"looks like flags. Try columns='xyv'"):
        read_landmarks(path)
    np.testing.assert_array_equal(read_landmarks(path, columns="xyv").points, [[np.nan, np.nan], [3, 4]])
    numbers = _write(tmp_path, "b.txt", "\n".join(map(str, range(6))))
    assert read_landmarks(numbers, n_dims=3).points.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(LandmarkFileError, match="got 3 numbers; expected a multiple of 2"):
        read_landmarks(_write(tmp_path, "c.txt", "1\n2\n3\n"))
    comma = _write(tmp_path, "d.txt", "1,5 2,5\n3,5 4\n")
    with pytest.raises(LandmarkFileError, match="Try decimal=','"):
        read_landmarks(comma)
    assert read_landmarks(comma, decimal=",").points.tolist() == [[1.5, 2.5], [3.5, 4]]


@pytest.mark.parametrize("coding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply(tmp_path, coding):
    points = np.array([[1.5, 2, 3], [4, 5, -6.25]])
    header = (
        f"ply\nformat {coding} 1.0\ncomment made by hand\nelement vertex 2\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if coding == "ascii":
        body = b"1.5 2 3 255\n4 5 -6.25 0\n3 0 1 1\n"
    else:
        order = "<" if "little" in coding else ">"
        rows = np.zeros(2, dtype=[("p", order + "f4", 3), ("red", "u1")])
        rows["p"] = points
        body = rows.tobytes() + b"\x03\0\0\0\0"
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    file = read_landmarks(tmp_path / "a.ply")
    np.testing.assert_array_equal(file.points, points)
    assert file.frame == "physical"
    (tmp_path / "a.ply").write_bytes(header.replace("vertex 2", "vertex 99999999").encode() + body)
    with pytest.raises(LandmarkFileError, match="the header declares 99999999 vertices"):
        read_landmarks(tmp_path / "a.ply")


def test_tps_keeps_everything(tmp_path):
    text = (
        "LM=0\nOUTLINES=1\nPOINTS=3\n0 0\n1 5\n2 0\nIMAGE=a.jpg\nID=leaf\nSCALE=0.5\nCOMMENT=torn\nVARIABLES=site=A\n"
    )
    (file,) = read_landmarks(_write(tmp_path, "a.tps", text))
    assert file.curves[0].tolist() == [[0, 0], [1, 5], [2, 0]]
    write_landmarks(tmp_path / "b.tps", file)
    (back,) = read_landmarks(tmp_path / "b.tps")
    assert (back.id, back.scale, back.image_name) == ("leaf", 0.5, "a.jpg")
    assert (back.attributes["comment"], back.attributes["variables"]) == ("torn", "site=A")
    assert back.curves[0].tolist() == file.curves[0].tolist()


# --- Whose file is it? ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.json",
            [{"id": 1, "data": {"img": "a.jpg"}, "annotations": [{"result": []}]}],
            "a Label Studio export",
        ),
        ("a.json", [{"annotator": 1, "lead_time": 2.5, "kp-1": []}], "a Label Studio export"),
        ("a.json", {"version": 1.3, "people": [{"pose_keypoints_2d": [1, 2, 0.5]}]}, "OpenPose"),
        ("a.json", {"description": "", "tags": [], "size": {"height": 1, "width": 2}, "objects": []}, "Supervisely"),
        ("a.json", {"version": "2.0", "item": {"name": "a"}, "annotations": []}, "a V7 Darwin export"),
        ("a.json", {"info": {}, "categories": {}, "items": []}, "a Datumaro export"),
        ("a.json", {"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ("a.json", {"meta_info": {}, "instance_info": []}, "MMPose"),
        ("a.xml", "<annotation><folder>x</folder><object><name>a</name></object></annotation>", "Pascal VOC"),
        ("a.txt", "[individuals]\n2\n[landmarks]\n3\n", "Morphologika"),
    ],
)
def test_foreign_files_are_called_by_their_name(tmp_path, name, content, words):
    with pytest.raises(LandmarkFileError, match=rf"{name}: this looks like .*{words}.*Try"):
        read_landmarks(_write(tmp_path, name, content))


def test_options_are_those_of_the_format(tmp_path):
    path = _write(tmp_path, "a.json", [{"keypoints": [1, 2, 2]}])
    with pytest.raises(
        LandmarkFileError, match=r"got the option 'origin', which files of this kind \(coco\) do not have"
    ):
        read_landmarks(path, origin=1)
    with pytest.raises(TypeError, match="got the option 'colour'"):
        read_landmarks(path, colour=1)
    with pytest.raises(TypeError, match=r"'coordinates', which .json of COCO does not have"):
        write_landmarks(tmp_path / "b.json", [[1.0, 2.0]], coordinates="RAS")
    assert set(WRITABLE) <= set(READABLE)
    write_landmarks(tmp_path / "a.txt", [[[1.5, 2], [3, 4]]])
    assert read_landmarks(tmp_path / "a.txt")[0].points.tolist() == [[1.5, 2], [3, 4]]
