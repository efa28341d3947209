"""One reader for all sets of landmarks: names, order, frames, missing landmarks and identity, there and back."""

import json
import pickle

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shape_models import (
    ASM,
    IBUG68,
    AlignedASM,
    LandmarkFile,
    LandmarkFileError,
    fit_shape,
    generalized_procrustes,
    load_model,
    make_faces,
    read_landmarks,
    save_model,
    write_landmarks,
    write_pts,
)
from shape_models._names import image_names, match_labels, natural_key, own_order, plain_name
from shape_models.datasets import LandmarkSamples, load_landmarks, make_face_samples, read_300w, save_landmarks

FACES = make_faces(4, rng=0)
NAMES = ("chin", "nose", "left eye", "right eye")
POINTS = np.array([[5.0, 9], [5, 5], [7, 2], [3, 2]])


def named(order=range(4), **options):
    return LandmarkFile(POINTS[list(order)], tuple(NAMES[i] for i in order), **options)


# --- Which files, and what they are called -------------------------------------------------------------------


def test_a_folder_in_natural_order_without_what_is_hidden(tmp_path):
    for name in ("im_10", "im_2", "sub/im_1", ".hidden", ".git/x", "a.b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_pts(tmp_path / f"{name}.pts", FACES[0])
    samples = load_landmarks(tmp_path)
    assert samples.names == ["a.b", "im_2", "im_10", "sub/im_1"]
    assert samples.groups == samples.names
    assert samples.named
    assert [file.path.name for file in read_landmarks(tmp_path)] == ["a.b.pts", "im_2.pts", "im_10.pts", "im_1.pts"]


@pytest.mark.parametrize("source", ["folder", "file"])
def test_landmarks_belong_to_one_image(tmp_path, source):
    """Of two images of one name neither is taken unless the landmarks say which."""
    for suffix in (".png", ".tif"):
        Image.new("RGB", (200, 200)).save(tmp_path / f"a{suffix}")
    write_pts(tmp_path / "a.pts", FACES[0])
    where = tmp_path if source == "folder" else tmp_path / "a.pts"
    with pytest.raises(LandmarkFileError, match=r"a\.png: got a second image of this name, .*a\.tif; expected one"):
        load_landmarks(where)
    (tmp_path / "a.pts").unlink()
    write_landmarks(tmp_path / "a.tps", LandmarkFile(FACES[0], image_name="a.tif", frame="y_up"))
    assert load_landmarks(tmp_path if source == "folder" else tmp_path / "a.tps")[0].image == tmp_path / "a.tif"


def test_foreign_names_beside_a_scheme_are_said(tmp_path):
    """Names that are not those of the scheme say nothing about its order; numbers do not need to."""
    points = np.arange(58.0).reshape(29, 2)
    for labels, said in (([f"punkt {chr(97 + i)}" for i in range(26)] + ["x1", "y1", "z1"], True), (None, False)):
        labels = labels or [f"p{i}" for i in range(29)]
        write_landmarks(tmp_path / "a.csv", LandmarkFile(points, tuple(labels)))
        samples = load_landmarks(tmp_path / "a.csv", scheme="cofw29")
        np.testing.assert_array_equal(samples.shapes()[0], points)
        assert any("not as in cofw29" in note for note in samples.notes) is said


def test_formats_are_mixed_and_what_may_be_anything_is_named(tmp_path):
    write_pts(tmp_path / "a.pts", FACES[0])
    write_landmarks(tmp_path / "b.ljson", FACES[1])
    write_landmarks(tmp_path / "c.csv", FACES[2])
    samples = load_landmarks(tmp_path)
    assert samples.names == ["a", "b"]
    assert samples.notes == ("left out c.csv, which may hold anything. Try extension (--extension) csv,ljson,pts",)
    both = load_landmarks(tmp_path, extension="csv,ljson,pts")
    np.testing.assert_allclose(both.shapes(), FACES[:3], atol=1e-9)
    for name in ("a.pts", "b.ljson"):
        (tmp_path / name).unlink()
    assert load_landmarks(tmp_path).names == ["c"]
    write_pts(tmp_path / "c.pts", FACES[0])
    with pytest.raises(LandmarkFileError, match=r"got 'c' from c.csv and from c.pts; expected one landmark file"):
        load_landmarks(tmp_path, extension=("csv", "pts"))


@pytest.mark.parametrize("extension", ["csv", "json", "xml", "ljson", "npy", "tps"])
def test_a_folder_of_any_format(tmp_path, extension):
    """One file a specimen: every format makes the same set of it."""
    options = {"image_size": (400, 400)} if extension == "tps" else {}
    for i in (2, 10, 1):
        face = LandmarkFile(FACES[i % 4], image_name=f"p{i}.jpg")
        write_landmarks(tmp_path / f"p{i}.{extension}", face, **options)
    samples = load_landmarks(tmp_path, **options)
    assert samples.names == ["p1", "p2", "p10"]
    np.testing.assert_allclose(samples.shapes(), FACES[[1, 2, 2]], atol=1e-9)
    assert samples.frame == "pixels"


@pytest.mark.parametrize("extension", ["csv", "json", "xml"])
def test_names_in_one_file_are_those_of_its_images(tmp_path, extension):
    images = ["im/b10.jpg", "im/b2.jpg", "C:\\pap\\c.jpg", "../d.png", "e.jpg", "e.png", "f.jpg", "f.jpg"]
    path = tmp_path / f"all.{extension}"
    write_landmarks(path, [LandmarkFile(FACES[i % 4], image_name=name) for i, name in enumerate(images)])
    samples = load_landmarks(path)
    expected = {"im/b10", "im/b2", "pap/c", "d", "e.jpg", "e.png", "f#0", "f#1"}
    assert set(samples.names) == expected
    assert samples.groups[samples.names.index("f#1")] == "f"
    assert not any("." in part for name in samples.names for part in name.split("/") if part in (".", ".."))


def test_a_folder_may_hold_one_file_of_arrays(tmp_path):
    hidden = np.arange(4 * 68).reshape(4, 68) % 3 == 0
    np.savez(tmp_path / "a.npz", shapes=FACES, images=[f"{i}.png" for i in range(4)], hidden=hidden, young=[True] * 4)
    (tmp_path / "0.png").touch()
    samples = load_landmarks(tmp_path)
    assert (samples.names, samples[0].image) == (["0", "1", "2", "3"], tmp_path / "0.png")
    np.testing.assert_array_equal(samples[1].attributes["hidden"], hidden[1])
    assert samples[1].attributes["young"] is True
    np.savez(tmp_path / "b.npz", shapes=FACES)
    with pytest.raises(LandmarkFileError, match=r"got a.npz, b.npz; expected one .npz"):
        load_landmarks(tmp_path)
    write_pts(tmp_path / "c.pts", FACES[0])
    assert load_landmarks(tmp_path).notes == ("left out a.npz, b.npz. Try its path",)


def test_archives_by_name(tmp_path):
    (tmp_path / "ibug").mkdir()
    write_pts(tmp_path / "ibug" / "image_003_1.pts", FACES[0])
    for options in ({"archive": "300w"}, {}):
        samples = load_landmarks(tmp_path, **options)
        assert (samples.scheme, samples.names, samples.splits) == (IBUG68, ["ibug/image_003_1"], ["challenging"])
    assert len(load_landmarks(tmp_path, split="challenging")) == 1
    np.testing.assert_allclose(load_landmarks(tmp_path, origin=0).shapes(), samples.shapes() + 1)
    with pytest.raises(ValueError, match="archive: got 'mine'; expected one of 300w, "):
        load_landmarks(tmp_path, archive="mine")
    (tmp_path / "mine").mkdir()
    write_pts(tmp_path / "mine" / "x.pts", FACES[0])
    assert load_landmarks(tmp_path).names == ["ibug/image_003_1", "mine/x"]
    with pytest.raises(ValueError, match="has no such choice"):
        load_landmarks(tmp_path, archive="imm", split="train")


def test_a_split_can_be_a_column(tmp_path):
    rows = [
        LandmarkFile(f, image_name=f"{i}.jpg", attributes={"split": "ab"[i % 2], "who": f"p{i // 2}"})
        for i, f in enumerate(FACES)
    ]
    write_landmarks(tmp_path / "t.csv", rows)
    samples = load_landmarks(tmp_path / "t.csv", split="b", groups="who")
    assert (samples.names, samples.splits, samples.groups) == (["1", "3"], ["b", "b"], ["p0", "p1"])
    with pytest.raises(ValueError, match="split: got 'c'; expected one of 'a', 'b'"):
        load_landmarks(tmp_path / "t.csv", split="c")
    with pytest.raises(ValueError, match="groups: got 'whom'; expected one of split, who"):
        load_landmarks(tmp_path / "t.csv", groups="whom")
    write_pts(tmp_path / "a.pts", FACES[0])
    with pytest.raises(ValueError, match="nothing says which sample is in it"):
        load_landmarks(tmp_path / "a.pts", split="a")


def test_options_reach_the_formats_and_no_option_is_dropped(tmp_path):
    write_pts(tmp_path / "a.pts", FACES[0], origin=0)
    np.testing.assert_array_equal(load_landmarks(tmp_path, origin=0)[0].landmarks, FACES[0])
    for source, option in ((tmp_path, "part"), (FACES, "origin")):
        with pytest.raises(ValueError, match=f"got the option '{option}', which"):
            load_landmarks(source, **{option: 1})


# --- What each landmark is -----------------------------------------------------------------------------------


def test_the_same_names_in_another_order_are_one_set(tmp_path):
    write_landmarks(tmp_path / "a.json", [named(image_name="1.jpg"), named((2, 0, 3, 1), image_name="2.jpg")])
    samples = load_landmarks(tmp_path / "a.json")
    np.testing.assert_array_equal(samples.shapes(), [POINTS, POINTS])
    assert samples.labels == NAMES
    assert samples[1].labels == NAMES
    (tmp_path / "f").mkdir()
    write_landmarks(tmp_path / "f" / "a.json", named((1, 0, 2, 3), image_name="a.jpg"))
    write_landmarks(tmp_path / "f" / "b.json", named((3, 2, 1, 0), image_name="b.jpg"))
    np.testing.assert_array_equal(load_landmarks(tmp_path / "f").shapes(), [POINTS[[1, 0, 2, 3]]] * 2)


def test_other_names_are_an_error_that_says_which():
    with pytest.raises(LandmarkFileError, match=r"has 'ear' and lacks 'nose'\); expected those of shape#0"):
        load_landmarks([named(), LandmarkFile(POINTS, ("chin", "ear", *NAMES[2:]))]).shapes()
    with pytest.raises(LandmarkFileError, match="'nose' twice"):
        load_landmarks(LandmarkFile(POINTS, ("chin", "nose", "nose", "eye")))


def test_names_of_a_scheme_are_brought_into_its_order():
    order = np.random.default_rng(0).permutation(68)
    file = LandmarkFile(FACES[0][order], tuple(IBUG68.names[i].upper().replace("_", " ") for i in order))
    np.testing.assert_array_equal(load_landmarks(file, scheme="ibug68").shapes()[0], FACES[0])
    wrong = LandmarkFile(FACES[0], (*IBUG68.names[:-1], "tongue"))
    with pytest.raises(LandmarkFileError, match=r"has 'tongue' and lacks 'right_inner_lower_lip'.*of ibug68"):
        load_landmarks(wrong, scheme="ibug68")


@pytest.mark.parametrize("prefix", ["", "p", "LM_", "x y "])
def test_numbered_names_count_as_numbers(prefix):
    for first in (0, 1):
        order = sorted(range(68), key=lambda i: f"{prefix}{i + first}")  # as text: 0 1 10 11 ...
        file = LandmarkFile(FACES[0][order], tuple(f"{prefix}{i + first}" for i in order))
        for scheme in (None, "ibug68"):
            np.testing.assert_array_equal(load_landmarks(file, scheme=scheme).shapes()[0], FACES[0])


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=4),
        min_size=1,
        max_size=8,
        unique_by=str.casefold,
    ),
    st.randoms(),
)
def test_matching_names_undoes_any_order(labels, random):
    shuffled = labels.copy()
    random.shuffle(shuffled)
    order = match_labels(shuffled, labels)
    assert [shuffled[i] for i in (range(len(labels)) if order is None else order)] == labels
    assert own_order(labels).tolist() == list(range(len(labels)))


def test_models_remember_names_and_frame_and_match_by_them(tmp_path):
    rng = np.random.default_rng(0)
    shapes = POINTS + rng.normal(size=(12, 4, 2)) * 0.3
    data = load_landmarks([LandmarkFile(s, NAMES, frame="y_up") for s in shapes])
    for model in (AlignedASM(ASM(2)).fit(data), ASM(2).fit(data)):
        again = load_model(save_model(model, tmp_path / "m.npz"))
        assert (again.landmark_names_, again.frame_) == (NAMES, "y_up")
    model = AlignedASM(ASM(2)).fit(data)
    order = [2, 0, 3, 1]
    other = load_landmarks([LandmarkFile(s[order], tuple(NAMES[i] for i in order), frame="y_up") for s in shapes])
    for method in (model.project, model.report, model.score, lambda x: fit_shape(model, x).shapes):
        assert repr(method(other)) == repr(method(shapes))
    with pytest.raises(ValueError, match="where y points the other way"):
        model.project(load_landmarks(shapes, frame="pixels"))
    foreign = load_landmarks([LandmarkFile(s, ("a", "b", "c", "d"), frame="y_up") for s in shapes])
    with pytest.raises(ValueError, match="got landmarks with other names"):
        model.project(foreign)
    assert model.fit(shapes).landmark_names_ is None
    assert model.frame_ is None
    assert load_model("face68").frame_ == "pixels"
    assert load_model("search68").asm_.frame_ == "pixels"
    assert AlignedASM().fit(make_face_samples(20, rng=0)).scheme_ is IBUG68


@given(st.permutations(range(4)), st.sampled_from(["pixels", "y_up", "physical"]), st.booleans())
def test_like_is_undone(order, frame, known):
    samples = load_landmarks(named(order, frame="y_up"))
    there = samples.like(NAMES if known else None, frame)
    expected = POINTS if known else POINTS[list(order)]
    np.testing.assert_array_equal(there[0], expected * ([1, -1] if frame == "pixels" else [1, 1]))
    np.testing.assert_array_equal(samples.unlike(there, NAMES if known else None, frame), samples.shapes())


# --- Frames and missing landmarks ----------------------------------------------------------------------------


def test_fractions_are_no_lengths(tmp_path):
    relative = load_landmarks(FACES / [640, 480], frame="relative")
    for method in (AlignedASM().fit, ASM(2).fit, generalized_procrustes, np.asarray, load_model("face68").project):
        with pytest.raises(ValueError, match="fractions of the width and height"):
            method(relative)
    np.testing.assert_allclose(load_landmarks(FACES / [640, 480], frame="relative", image_size=(640, 480)), FACES)
    write_landmarks(tmp_path / "a.asf", FACES[0], image_size=(640, 480), image_name="a.png")
    assert load_landmarks(tmp_path).frame == "relative"
    Image.new("L", (640, 480)).save(tmp_path / "a.png")
    np.testing.assert_allclose(load_landmarks(tmp_path).shapes()[0], FACES[0])


def test_y_that_counts_upwards_is_turned_by_the_height_of_the_image(tmp_path):
    up = FACES * [1, -1] + [0, 299]
    turned = load_landmarks(up, frame="y_up", image_size=(300, 300))
    assert turned.frame == "pixels"
    np.testing.assert_allclose(turned.shapes(), FACES)
    write_landmarks(tmp_path / "a.tps", LandmarkFile(up[0], frame="y_up"))
    write_pts(tmp_path / "b.pts", FACES[1])
    with pytest.raises(LandmarkFileError, match=r"frame 'pixels', but a is in 'y_up'; expected one frame"):
        load_landmarks(tmp_path).shapes()
    np.testing.assert_allclose(load_landmarks(tmp_path, image_size=(300, 300)).shapes(), FACES[:2])


@pytest.mark.parametrize("missing", [-1, (-1, -1), "negative"])
def test_what_marks_a_missing_landmark_is_said_once(tmp_path, missing):
    shapes = FACES.copy()
    shapes[::2, 3] = -1
    write_landmarks(tmp_path / "a.tps", [LandmarkFile(s, frame="y_up") for s in shapes])
    np.save(tmp_path / "a.npy", shapes)
    np.savez(tmp_path / "a.npz", shapes=shapes)
    for source in (tmp_path / "a.tps", tmp_path / "a.npy", tmp_path / "a.npz", shapes):
        gone = np.isnan(load_landmarks(source, missing=missing).shapes()).all(axis=2)
        assert np.argwhere(gone).tolist() == [[0, 3], [2, 3]]


# --- Identity ------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)


@st.composite
def sets(draw):
    """Draw a set as a file gives it, with everything a sample can carry."""
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    frame = draw(st.sampled_from(["pixels", "y_up"]))
    numbers = st.floats(0, 1e4, width=32).map(float)
    shapes = draw(hnp.arrays(np.float64, (n, k, 2), elements=numbers))
    names = draw(st.lists(WORDS, min_size=n, max_size=n, unique_by=str.casefold))
    labels = draw(st.none() | st.lists(WORDS.map("l".__add__), min_size=k, max_size=k, unique_by=str.casefold))
    holes = draw(st.booleans())
    files = []
    for i, name in enumerate(names):
        points = shapes[i].copy()
        if holes and k > 1:
            points[0] = np.nan
        attributes = {"id": f"id {name}", "scale": 0.5 if i else None, "site": "north" if i % 2 else None}
        attributes["curves"] = [points[:1] + j for j in range(i % 3)]
        own = None if labels is None else tuple(labels)
        files.append(LandmarkFile(points, own, None, f"d{i % 2}/{name}.jpg", frame, attributes=attributes))
    return load_landmarks(files)


@given(sets())
def test_csv_and_arrays_keep_everything(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("sets")
    for name in ("a.csv", "a.npz"):
        again = load_landmarks(save_landmarks(samples, folder / name))
        np.testing.assert_array_equal(again.shapes(), samples.shapes())
        assert (again.names, again.frame, again.labels) == (samples.names, samples.frame, samples.labels)
        for one, two in zip(again, samples, strict=True):
            for key in ("id", "scale", "site"):  # absent, null and empty are one thing
                assert (one.attributes.get(key) or None) == two.attributes[key]
            if name == "a.npz":
                for first, second in zip(one.curves, two.curves, strict=True):
                    np.testing.assert_array_equal(first, second)


@given(sets())
def test_a_folder_keeps_names_landmarks_and_frame(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("sets")
    again = load_landmarks(save_landmarks(samples, folder / "out"))
    wanted = {name: shape for name, shape in zip(samples.names, samples.shapes(), strict=True)}
    assert again.names == sorted(wanted, key=natural_key)
    assert again.frame == samples.frame
    for name, shape in zip(again.names, again.shapes(), strict=True):
        np.testing.assert_array_equal(shape, wanted[name])


def test_y_is_never_relabelled(tmp_path):
    up = load_landmarks(FACES, frame="y_up")
    for name in ("a.csv", "a.npz", "a.tps"):
        again = load_landmarks(save_landmarks(up, tmp_path / name))
        assert again.frame == "y_up"
        np.testing.assert_array_equal(again.shapes(), FACES)
    for name in ("a.ljson", "a.xml", "a.npy"):
        with pytest.raises(LandmarkFileError, match="y_up"):
            save_landmarks(up[:1], tmp_path / name)
        again = load_landmarks(save_landmarks(up[:1], tmp_path / name, image_size=(500, 500)))
        np.testing.assert_allclose(again.shapes(), [0, 499] + up[:1].shapes() * [1, -1])
    with pytest.raises(LandmarkFileError, match="Say which way y points"):
        save_landmarks(load_landmarks(FACES), tmp_path / "b.tps")
    with pytest.raises(LandmarkFileError, match=r"no image; .tps counts y from the bottom"):
        save_landmarks(load_landmarks(FACES, frame="pixels"), tmp_path / "b.tps")


def test_images_of_different_sizes_are_each_turned_by_their_own(tmp_path):
    (tmp_path / "in").mkdir()
    for i, height in enumerate((300, 400)):
        write_pts(tmp_path / "in" / f"{i}.pts", FACES[i])
        Image.new("L", (300, height)).save(tmp_path / "in" / f"{i}.png")
    data = load_landmarks(tmp_path / "in")
    up = load_landmarks(save_landmarks(data, tmp_path / "a.tps"))
    assert up.frame == "y_up"
    np.testing.assert_allclose(up.shapes()[1], FACES[1] * [1, -1] + [0, 399])
    save_landmarks(data, tmp_path / "in" / "a.tps")
    np.testing.assert_allclose(load_landmarks(tmp_path / "in" / "a.tps").shapes(), FACES[:2])


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.xml"])
def test_a_landmark_that_was_filled_in_is_not_missing_when_read_again(tmp_path, name):
    holes = FACES.copy()
    holes[0, 5] = np.nan
    write_landmarks(tmp_path / "in.json", [LandmarkFile(f, image_name=f"{i}.png") for i, f in enumerate(holes)])
    data = load_landmarks(tmp_path / "in.json")
    assert np.isnan(data.shapes()[0, 5]).all()
    again = load_landmarks(save_landmarks(data.with_shapes(FACES), tmp_path / name))
    np.testing.assert_allclose(again.shapes(), FACES)
    assert again.names == data.names


def test_every_set_can_be_pickled_and_has_a_digest(tmp_path):
    (tmp_path / "ibug").mkdir()
    write_pts(tmp_path / "ibug" / "image_003_1.pts", FACES[0])
    Image.new("L", (9, 9)).save(tmp_path / "ibug" / "image_003_1.png")
    np.savez(tmp_path / "a.npz", shapes=FACES[:3])
    write_landmarks(tmp_path / "a.csv", FACES)
    sets = [read_300w(tmp_path), make_face_samples(3, rng=0), load_landmarks(FACES)]
    sets += [load_landmarks(tmp_path / name) for name in ("a.npz", "a.csv", "ibug")]
    digests = []
    for samples in sets:
        for one in (samples, samples[:1], samples.select([0]), samples.loaded()):
            again = pickle.loads(pickle.dumps(one))
            assert isinstance(again, LandmarkSamples)
            np.testing.assert_array_equal(again.shapes(), one.shapes())
            assert (again.names, again.digest()) == (one.names, one.digest())
        digests.append(samples.digest())
    assert len(set(digests)) == len(digests)
    before = sets[0].digest()
    Image.new("L", (9, 9), 1).save(tmp_path / "ibug" / "image_003_1.png")
    assert sets[0].digest() != before
    assert sets[0].digest(images=False) == read_300w(tmp_path).digest(images=False)
    moved = sets[0].with_shapes(sets[0].shapes() + 1e-9)
    assert moved.digest() != sets[0].digest()


def test_names_of_images_differ(tmp_path):
    paths = [tmp_path / p for p in ("p1/01.png", "p2/01.png", "p1/01.jpg", "p1/2.png")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert image_names(paths) == ["p1/01.png", "p2/01", "p1/01.jpg", "p1/2"]
    assert image_names(paths[1:2]) == ["01"]
    assert image_names(paths[:2], [tmp_path, tmp_path]) == ["p1/01", "p2/01"]
    with pytest.raises(ValueError, match="got this image twice"):
        image_names([paths[0], tmp_path / "p2" / ".." / "p1" / "01.png"])


@given(st.text(max_size=20))
def test_a_name_never_leaves_its_folder(text):
    name = plain_name(text)
    assert not name.startswith("/")
    assert not set(name.split("/")) & {".", ".."}
    assert plain_name(name, ()) == name


def test_text_is_no_source():
    with pytest.raises(LandmarkFileError, match="nowhere: got no such file or folder"):
        load_landmarks("nowhere")
    with pytest.raises(ValueError, match="frame: got 'image'; expected one of pixels"):
        load_landmarks(FACES, frame="image")
    with pytest.raises(ValueError, match="labels: got 3 names; expected 68"):
        load_landmarks(FACES, labels="abc")
    assert json.dumps(load_landmarks(FACES).names) == '["0", "1", "2", "3"]'


def test_a_table_of_splits_stands_beside_any_format(tmp_path):
    """The column that forms shapes, the table of splits and the groups of a split are three things."""
    rows = "".join(f"w{s},{k},{s + k}.5,{k * s}\n" for s in range(4) for k in range(3))
    (tmp_path / "wings.csv").write_text("plate,coord,x,y\n" + rows)
    (tmp_path / "split.csv").write_text("w0.jpg,ann,train\nw1.jpg,ann,train\nw2.jpg,bea,test\nw3.jpg,bea,test\n")
    samples = load_landmarks(tmp_path, group="plate")
    assert samples.names == ["w0", "w1", "w2", "w3"]
    assert (samples.groups, samples.splits) == (["ann", "ann", "bea", "bea"], ["train", "train", "test", "test"])
    assert load_landmarks(tmp_path, group="plate", split="test", groups="plate").groups == ["w2", "w3"]
    (tmp_path / "split.csv").write_text("v0.jpg,ann,train\n")
    with pytest.raises(
        LandmarkFileError,
        match=r"split.csv: got v0, of which there are no landmarks, and "
        "nothing of w0",
    ):
        load_landmarks(tmp_path, group="plate")


def test_curves_of_a_file_of_arrays_are_counted(tmp_path):
    np.savez(tmp_path / "a.npz", shapes=FACES[:2], curves=np.zeros((3, 2)), curve_sizes=[[1], [1]])
    with pytest.raises(LandmarkFileError, match=r"array curves: .*expected points and the number of them"):
        load_landmarks(tmp_path / "a.npz")


def test_a_folder_of_matlab_files_is_told_the_public_sets(tmp_path):
    (tmp_path / "image00002.mat").touch()
    with pytest.raises(LandmarkFileError, match=r"Try archive= .* aflw2000, 300wlp or cofw, .*image00002.mat"):
        load_landmarks(tmp_path)
