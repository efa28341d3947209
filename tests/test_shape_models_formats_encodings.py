"""Texts as spreadsheets and other systems write them: encodings, separators, headers, words for nothing."""

import numpy as np
import pytest

from shape_models import LandmarkFile, LandmarkFileError, read_landmarks, write_pts
from shape_models.datasets import load_landmarks

TABLE = "image,x0,y0,x1,y1\na.jpg,1,2,3,4\nb.jpg,5,6,7,8\n"
FIRST, SECOND = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
GONE = [[1, 2], [np.nan, np.nan]]


def read(folder, text, name="a.csv", **options):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    files = read_landmarks(path, **options)
    return files if isinstance(files, list) else [files]


def points(*arguments, **options):
    return [file.points.tolist() for file in read(*arguments, **options)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_are_told_apart(tmp_path, encoding):
    assert points(tmp_path, TABLE.encode(encoding)) == [FIRST, SECOND]
    header = "image,Schädel_x,Schädel_y,b_x,b_y\na.jpg,1,2,3,4\n"
    assert read(tmp_path, header.encode(encoding))[0].labels == ("Schädel", "b")
    assert points(tmp_path, "LM=2\n1 2\n3 4\nID=é\n".encode(encoding), "a.tps") == [FIRST]
    pts = "version: 1\nn_points: 2\n{\n2 3\n4 5\n}\n"
    assert points(tmp_path, pts.encode(encoding), "a.pts") == [FIRST]
    results = '{"annotations":[{"id":1,"keypoints":[1,2,2,3,4,2]}]}'
    assert points(tmp_path, results.encode(encoding), "a.json") == [FIRST]


@pytest.mark.parametrize("data", [bytes(range(256)) * 4, b"\0" * 64, b"a\0\0b" * 9])
def test_binary_data_are_no_text(tmp_path, data):
    with pytest.raises(LandmarkFileError, match="expected text"):
        read(tmp_path, data)


def test_marks_in_the_middle_of_files_put_together_are_no_letters(tmp_path):
    files = read(tmp_path, "\ufeff" + TABLE.replace("b.jpg", "\ufeffb.jpg"))
    assert [file.image_name for file in files] == ["a.jpg", "b.jpg"]
    specimen = "\ufeffLM=2\n1 2\n3 4\nID=0\n"
    assert points(tmp_path, specimen * 2, "a.tps") == [FIRST] * 2


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + TABLE.replace(",", ";"),
        '"sep=,"\r\n' + TABLE,
        "sep=\t\n" + TABLE.replace(",", "\t"),
        "# made by a program\n#\n" + TABLE,
        TABLE.replace("b.jpg", "# the second, of two\nb.jpg"),
        TABLE.replace("image", "# image"),
        TABLE.replace("\n", ",\n"),
        "image,x0,y0,x1,y1\na.jpg,1,2,3,4,\nb.jpg,5,6,7,8,\n",
        TABLE.replace("\n", "\r"),
        TABLE.replace("\n", "\r\n", 1),
        TABLE.replace("b.jpg", "image,x0,y0,x1,y1\nb.jpg"),  # two tables, one behind the other
    ],
)
def test_what_spreadsheets_and_programs_add_is_left_out(tmp_path, text):
    files = read(tmp_path, text)
    assert [file.points.tolist() for file in files] == [FIRST, SECOND]
    assert [file.image_name for file in files] == ["a.jpg", "b.jpg"]
    assert all(file.id is None for file in files)


@pytest.mark.parametrize("word", ["NA", "NaN", "nan", "", "-", "--", "N/A", "#N/A", "#NV", "<NA>", "null", "None"])
def test_words_for_nothing_are_missing(tmp_path, word):
    np.testing.assert_equal(points(tmp_path, f"image,x0,y0,x1,y1\na,1,2,{word},{word}\n"), [GONE])


@pytest.mark.parametrize(
    "word", ["inf", "-inf", "1e999", "Infinity", "x", "#VALUE!", "1_0", "0x1", "١", "\u22121", "1.5D+02"]
)
def test_words_for_no_number_are_refused(tmp_path, word):
    with pytest.raises(LandmarkFileError, match=r"line 2: x1: got .*; expected a (finite )?number|too large; expected"):
        read(tmp_path, f"image,x0,y0,x1,y1\na,1,2,{word},4\n")


@pytest.mark.parametrize("number", ["1.234,5", "1'234.5", "1 234.5", "1\u00a0234.5"])
def test_thousands_are_refused_by_name(tmp_path, number):
    with pytest.raises(LandmarkFileError, match="thousands separator"):
        read(tmp_path, f"image;x0;y0\na;{number};2\n")
    with pytest.raises(LandmarkFileError, match="thousands separator"):
        read(tmp_path, 'image,x0,y0\na,"1,234.5",2\n')


@pytest.mark.parametrize("separator", ["\t", ";"])
def test_decimal_commas(tmp_path, separator):
    text = 'image,x0,y0\n"Müller, A.jpg",1§5,-2§25e1\n'.replace(",", separator).replace("§", ",")
    text = text.replace(f"Müller{separator}", "Müller,")
    (file,) = read(tmp_path, text, decimal=",")
    assert (file.points.tolist(), file.image_name) == ([[1.5, -22.5]], "Müller, A.jpg")
    with pytest.raises(LandmarkFileError, match="Try decimal=','"):
        read(tmp_path, text)
    with pytest.raises(LandmarkFileError, match=r"got '1\.234', with a point"):  # 1234 of a German spreadsheet
        read(tmp_path, text.replace("1,5", "1.234"), decimal=",")


def test_names_of_columns_over_two_lines(tmp_path):
    (file,) = read(tmp_path, 'image,"nose\n_x","nose\ny",b_x,b_y\na,1,2,3,4\n')
    assert (file.labels, file.points.tolist()) == (("nose", "b"), FIRST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,1,2,3,4\nb.jpg,5,6,7,8\n", "header"),
        ("1,2,3,4\n5,6,7,8\n", "header"),
        ("image,x0,y0,,\na.jpg,1,2,3,4\n", "no name for column 4"),
        ("image,x0,y0\na.jpg,1,2,3,4\n", "got 5 fields"),
        ("image,nose_x,nose_y,chin_x\na.jpg,1,2,3\n", "got x of chin and no y"),
        ("image,nose_x,nose_y,chin_y\na.jpg,1,2,3\n", "got y of chin and no x"),
    ],
)
def test_headers_that_say_too_little_are_refused(tmp_path, text, message):
    with pytest.raises(LandmarkFileError, match=message):
        read(tmp_path, text)


def test_tables_without_a_header_take_names_for_all_or_some_columns(tmp_path):
    text = "a.jpg,9,1,2,3,4\nb.jpg,9,5,6,7,8\n"
    names = ["image", "q", "x0", "y0", "x1", "y1"]
    assert points(tmp_path, text, header=False, columns=names) == [FIRST, SECOND]
    some = {0: "image", 2: "x0", "3": "y0", 4: "x1", 5: "y1"}
    files = read(tmp_path, text, header=False, columns=some)
    assert [file.points.tolist() for file in files] == [FIRST, SECOND]
    assert (files[1].image_name, "9" in files[1].attributes.values()) == ("b.jpg", False)
    with pytest.raises(LandmarkFileError, match="expected 3, as in columns="):
        read(tmp_path, text, header=False, columns=names[:3])
    with pytest.raises(LandmarkFileError, match="columns: got '9'"):
        read(tmp_path, text, header=False, columns={9: "x0"})
    with pytest.raises(ValueError, match="by their number from 0"):
        read(tmp_path, text, header=False)


# --- Names of files ----------------------------------------------------------------------------------------


def test_accents_are_one_letter_or_two(tmp_path):
    """File systems store é as one character or as two."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write_pts(tmp_path / "one" / "e\u0301te\u0301.pts", FIRST)
    write_pts(tmp_path / "two" / "\u00e9t\u00e9.pts", FIRST)
    (tmp_path / "two" / "e\u0301te\u0301.png").write_bytes(b"")
    one, two = load_landmarks(tmp_path / "one"), load_landmarks(tmp_path / "two")
    assert one.names == two.names == ["\u00e9t\u00e9"]
    assert two.images[0] is not None


def test_linked_folders_are_read_once(tmp_path):
    data = tmp_path / "data"
    (data / "own").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    write_pts(data / "own" / "a.pts", FIRST)
    write_pts(outside / "b.pts", SECOND)
    for name, target in (("far", outside), ("again", outside), ("loop", data), ("up", tmp_path), ("in", data / "own")):
        (data / name).symlink_to(target)
    assert load_landmarks(data).names == ["again/b", "own/a"]


# --- Sets --------------------------------------------------------------------------------------------------


def test_a_table_of_splits_that_names_other_files(tmp_path):
    for name in "abc":
        write_pts(tmp_path / f"{name}.pts", FIRST)
    table = tmp_path / "split.csv"
    table.write_text("image,photograph,split\na,p,train\nb,p,train\nc,q,test\n")
    samples = load_landmarks(tmp_path, split="train")
    assert (samples.names, samples.groups, samples.notes) == (["a", "b"], ["p", "p"], ())
    table.write_text("a,p,train\nb,p,train\n")
    assert load_landmarks(tmp_path).notes == ("split.csv: no word of c",)
    table.write_text("a,p,train\nb,p,train\nc,q,test\nd,q,test\n")
    assert load_landmarks(tmp_path).notes == ("split.csv: no landmarks of d",)
    table.write_text("a,p,train\nb,p,train\nC,q,test\n")
    with pytest.raises(LandmarkFileError, match="got C, of which there are no landmarks, and nothing of c"):
        load_landmarks(tmp_path)


def test_arrays_that_are_no_set_of_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got 68 shapes of one landmark; .* Try np.swapaxes"):
        load_landmarks(np.ones((68, 1, 2)))
    np.savez(tmp_path / "a.npz", shapes=np.ones((2, 3, 2)), frame=np.array("upside"))
    with pytest.raises(LandmarkFileError, match="array frame: got 'upside'; expected one of pixels"):
        load_landmarks(tmp_path / "a.npz")


def test_pixels_are_not_taken_for_fractions():
    with pytest.raises(LandmarkFileError, match="got the coordinate 12; expected fractions"):
        load_landmarks([LandmarkFile(np.array([[0.5, 12.0]]), frame="relative")], image_size=(100, 100)).shapes()


def test_an_image_that_two_entries_claim_is_refused(tmp_path):
    text = (
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], '
        '"annotations": [{"id": 1, "image_id": 1, "keypoints": [1, 2, 2]}]}'
    )
    with pytest.raises(LandmarkFileError, match="images: got the id 1 twice"):
        read(tmp_path, text, "a.json")


def test_xml_cannot_hold_a_landmark_that_is_missing_in_every_shape(tmp_path):
    from shape_models import write_landmarks

    shapes = np.array([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])
    shapes[0, 1] = np.nan
    write_landmarks(tmp_path / "a.xml", shapes)
    np.testing.assert_array_equal(load_landmarks(tmp_path / "a.xml").shapes(), shapes)
    shapes[1, 1] = np.nan
    with pytest.raises(LandmarkFileError, match="landmark 1 is missing in every shape"):
        write_landmarks(tmp_path / "a.xml", shapes)


def test_samples_whose_group_is_not_said_are_groups_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("image,who,x0,y0\na,p,1,2\nb,,3,4\nc,,5,6\nd,p,7,8\n")
    assert load_landmarks(tmp_path / "a.csv", groups="who").groups == ["p", "b", "c", "p"]
