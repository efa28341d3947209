"""Tables as people have them: who is one shape, who is a landmark, and what the numbers mean."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_models import LandmarkFile, LandmarkFileError, read_landmarks, write_landmarks
from shape_models.formats import read_csv, write_csv

WING = np.arange(24.0).reshape(3, 4, 2) * 1.25  # three shapes of four landmarks


def _long_rows(form, shapes=WING):
    return "".join(form.format(s=s, k=k, x=x, y=y) for s, shape in enumerate(shapes) for k, (x, y) in enumerate(shape))


def _read(tmp_path, text, **options):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path, **options)


@pytest.mark.parametrize(
    "head",
    "specimen_id,coord_id specimen,landmark SpecimenID,LM image,point Individual,index id,landmark wing,lm".split(),
)
def test_a_column_that_varies_in_a_shape_is_the_group(tmp_path, head):
    files = _read(tmp_path, f"{head},x,y\n" + _long_rows("{s},{k},{x},{y}\n"))
    np.testing.assert_array_equal(np.stack(files), WING)
    assert [f.labels for f in files] == [("0", "1", "2", "3")] * 3
    assert [f.id if f.image_name is None else f.image_name for f in files] == [*"012"]


def test_a_group_that_nobody_can_know_is_asked_for(tmp_path):
    text = "wing,pass,x,y\n" + _long_rows("{s},{k},{x},{y}\n")
    with pytest.raises(
        LandmarkFileError, match=r"line 2: wing: got '0' and '1' in what would be one shape.*group='wing'"
    ):
        _read(tmp_path, text)
    for files in (
        _read(tmp_path, text, group="wing", columns={"pass": "landmark"}),
        _read(tmp_path, text, group=["wing"], columns={"pass": None}),
        _read(tmp_path, text, columns={"wing": "specimen", "pass": "lm"}),
        _read(tmp_path, text, columns=["specimen", "lm", "x", "y"]),
        _read(tmp_path, text.split("\n", 1)[1], columns=["specimen", "lm", "x", "y"], header=False),
    ):
        np.testing.assert_array_equal(np.stack(files), WING)
    with pytest.raises(LandmarkFileError, match="group: got 'leg'; expected one of wing, pass"):
        _read(tmp_path, text, group="leg")
    with pytest.raises(ValueError, match="header=False"):
        _read(tmp_path, text, header=False)


@pytest.mark.parametrize("given", [{}, {"columns": ["x0", "y0", "x1", "y1"]}])
def test_a_first_row_of_numbers_is_never_taken_for_names(tmp_path, given):
    text = "1.5,2.5,3.5,4.5\n5.5,6.5,7.5,8.5\n"
    with pytest.raises(LandmarkFileError, match=r"numbers 1\.5, 2\.5.*header=False") as caught:
        _read(tmp_path, text, **given)
    tried = re.search(r"columns=(\[.*?\]),", str(caught.value))[1]
    files = _read(tmp_path, text, header=False, columns=eval(tried))
    assert [file.points.tolist() for file in files] == [[[1.5, 2.5], [3.5, 4.5]], [[5.5, 6.5], [7.5, 8.5]]]


def test_attributes_are_constant_in_a_shape(tmp_path):
    rows = "specimen,landmark,x,y,sex\na,1,1,2,f\na,2,3,4,{}\nb,1,5,6,m\nb,2,7,8,m\n"
    first, second = _read(tmp_path, rows.format("f"))
    assert (first.attributes["sex"], second.attributes["sex"], second.id) == ("f", "m", "b")
    with pytest.raises(LandmarkFileError, match=r"sex: got 'f' and 'm' in what would be one shape"):
        _read(tmp_path, rows.format("m"))
    with pytest.raises(LandmarkFileError, match="got another value in every row"):
        _read(tmp_path, "file,x,y\na,1,2\nb,3,4\n")
    (alone,) = _read(tmp_path, "id,x,y\n1,1,2\n2,3,4\n")  # numbers of landmarks, not of shapes
    assert alone.points.tolist() == [[1, 2], [3, 4]]
    (named,) = _read(tmp_path, "name,x,y\nnose,1,2\nchin,3,4\n")
    assert named.labels == ("nose", "chin")


@pytest.mark.parametrize(
    "text",
    [
        '"","X1","Y1","X2","Y2"\n"a",1,2,3,4\n"b",5,6,7,8\n',  # R: write.csv of a matrix with names of rows
        '"","1.X","1.Y","2.X","2.Y"\n"a",1,2,3,4\n"b",5,6,7,8\n',  # R: write.csv(geomorph::two.d.array(...))
        '"X1" "Y1" "X2" "Y2"\n"a" 1 2 3 4\n"b" 5 6 7 8\n',  # R: write.table, whose header lacks the names of rows
        "ID\tX1\tY1\tX2\tY2\na\t1\t2\t3\t4\nb\t5\t6\t7\t8\n",  # MorphoJ
        "id;x_1;y_1;x_2;y_2\na;1;2;3;4\nb;5;6;7;8\n",
        '"","X.a","Y.a","X.b","Y.b"\n"1",1,2,5,6\n"2",3,4,7,8\n',  # R: write.csv of an array (p, k, n)
        "id,one_x,one_y,two_x,two_y\na,1,2,3,4\nb,5,6,7,8\n",
    ],
)
def test_tables_of_r_and_morphoj(tmp_path, text):
    files = _read(tmp_path, text)
    np.testing.assert_array_equal(np.stack(files), [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert [file.id for file in files] == ["a", "b"]
    assert "" not in files[0].attributes


def test_rows_of_an_array_of_r_are_asked_for_where_open(tmp_path):
    text = '"","X.1","Y.1","X.2","Y.2"\n"1",1,2,5,6\n"2",3,4,7,8\n'
    with pytest.raises(LandmarkFileError, match=r"Try rows='shapes' or rows='landmarks'"):
        _read(tmp_path, text)
    np.testing.assert_array_equal(_read(tmp_path, text, rows="landmarks")[1].points, [[5, 6], [7, 8]])
    np.testing.assert_array_equal(_read(tmp_path, text, rows="shapes")[1].points, [[3, 4], [7, 8]])
    (matrix,) = _read(tmp_path, '"","V1","V2"\n"1",1,2\n"2",3,4\n')  # write.csv of one configuration
    assert matrix.points.tolist() == [[1, 2], [3, 4]]
    (spatial,) = _read(tmp_path, '"","X","Y","Z"\n"nose",1,2,3\n"chin",4,5,6\n')
    assert (spatial.points.tolist(), spatial.labels) == ([[1, 2, 3], [4, 5, 6]], ("nose", "chin"))


def test_decimal_commas_of_spreadsheets(tmp_path):
    for text in (
        "x0;y0;x1;y1\n1,5;2,5;3;4,25\n",
        "x0\ty0\tx1\ty1\n1,5\t2,5\t3\t4,25\n",
        'x0,y0,x1,y1\n"1,5","2,5",3,"4,25"\n',
    ):
        with pytest.raises(LandmarkFileError, match=r"x0: got '1,5'; expected a number. Try decimal=','"):
            _read(tmp_path, text)
        np.testing.assert_array_equal(_read(tmp_path, text, decimal=",")[0].points, [[1.5, 2.5], [3, 4.25]])


def test_visibility_columns(tmp_path):
    (file,) = _read(tmp_path, "x0,y0,v0,x1,y1,v1\n1,2,1,0,0,0\n")
    np.testing.assert_array_equal(file.points, [[1, 2], [np.nan, np.nan]])
    assert file.attributes["visibility"].tolist() == [1, 0]
    (file,) = _read(tmp_path, "specimen,landmark,x,y,visible,likelihood\na,n,1,2,True,.5\na,c,3,4,False,.25\n")
    np.testing.assert_array_equal(file.points, [[1, 2], [np.nan, np.nan]])
    assert file.attributes["confidence"].tolist() == [0.5, 0.25]


def test_labels_identity_and_frame_survive(tmp_path):
    path = tmp_path / "a.csv"
    labels = ("nose", "left_eye_x", "10", "9")
    one = LandmarkFile(
        WING[0],
        labels,
        None,
        "a.jpg",
        "y_up",
        attributes={"id": "specA", "scale": 0.125, "sex": "f", "visibility": np.array([2, 1, 2, 2])},
    )
    other = LandmarkFile(WING[1][::-1], labels[::-1], attributes={"id": "specB", "sex": "m"})
    write_landmarks(path, [one, other])
    first, second = read_landmarks(path)
    assert first.labels == second.labels == labels
    np.testing.assert_array_equal(np.stack([first, second]), WING[:2])
    assert (first.id, first.scale, first.frame, first.image_name) == ("specA", 0.125, "y_up", "a.jpg")
    assert (second.id, second.scale, second.frame, second.attributes["sex"]) == ("specB", None, "pixels", "m")
    assert first.attributes["visibility"].tolist() == [2, 1, 2, 2]
    with pytest.raises(LandmarkFileError, match=r"shape 1 has other labels than shape 0 \(chin, nose\)"):
        write_csv(path, [one, LandmarkFile(WING[1], ("chin", *labels[1:]))])


labels_ = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=6
)


@given(
    names=st.lists(labels_, min_size=1, max_size=5, unique=True),
    ids=st.lists(labels_, min_size=2, max_size=2),
    frame=st.sampled_from(["pixels", "y_up", "relative", "physical"]),
    n_dims=st.sampled_from([2, 3]),
    seed=st.integers(0, 99),
)
def test_every_label_survives_a_table(tmp_path_factory, names, ids, frame, n_dims, seed):
    path = tmp_path_factory.getbasetemp() / "labels.csv"
    points = np.random.default_rng(seed).normal(size=(2, len(names), n_dims)) * 100
    many = [
        LandmarkFile(p, tuple(names), frame=frame, attributes={"id": i, "scale": 0.1})
        for p, i in zip(points, ids, strict=True)
    ]
    write_csv(path, many)
    for back, file in zip(read_csv(path), many, strict=True):
        np.testing.assert_array_equal(back.points, file.points)
        assert (back.labels, back.id, back.frame, back.scale) == (file.labels, file.id, file.frame, 0.1)


@pytest.mark.parametrize("style", ["morphoj", "geomorph"])
def test_tables_for_other_programs(tmp_path, style):
    path = tmp_path / "a.csv"
    shapes = WING.copy()
    shapes[1, 2] = np.nan
    write_csv(
        path, [LandmarkFile(s, attributes={"id": f"s{i}"}, frame="y_up") for i, s in enumerate(shapes)], style=style
    )
    first = path.read_text().splitlines()[0]
    assert (
        first
        == {"morphoj": "ID\tX1\tY1\tX2\tY2\tX3\tY3\tX4\tY4", "geomorph": ",1.X,1.Y,2.X,2.Y,3.X,3.Y,4.X,4.Y"}[style]
    )
    files = read_csv(path, frame="y_up")
    np.testing.assert_array_equal(np.stack(files), shapes)
    assert [f.id for f in files] == ["s0", "s1", "s2"]
    with pytest.raises(ValueError, match="style: got 'r'"):
        write_csv(path, shapes, style="r")
