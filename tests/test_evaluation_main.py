"""The command line, and the files it reads."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from evaluation import evaluate
from evaluation.__main__ import main
from evaluation._files import read_attributes
from evaluation._pairs import pair
from shape_models import IBUG68, LandmarkFile, make_faces, read_landmarks, write_landmarks, write_pts
from shape_models.datasets import load_landmarks

FACES = make_faces(30, rng=0)
GUESS = FACES + np.random.default_rng(0).normal(size=FACES.shape) * 0.02 * np.ptp(FACES)
NAMES = [f"set/face_{i:03d}" for i in range(30)]
SPLIT = np.repeat(["common", "challenging"], [20, 10])


def run(*arguments):
    return CliRunner().invoke(
        main, [*map(str, arguments), *([] if "--resamples" in arguments else ["--resamples", "50"])]
    )


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / "truth.npz", shapes=FACES, names=NAMES, split=SPLIT, person=np.arange(30) // 3)
    order = np.random.default_rng(1).permutation(30)
    np.savez(tmp_path / "guess.npz", shapes=GUESS[order], names=np.array(NAMES)[order])
    return tmp_path


def test_the_table_is_that_of_evaluate(files):
    found = run(files / "guess.npz", files / "truth.npz", "--protocol", "300w", "--group", "person")
    assert found.exit_code == 0, found.output
    report = evaluate(
        FACES,
        GUESS,
        "300w",
        attributes={"split": SPLIT},
        groups=(np.arange(30) // 3).astype(str),
        name="guess",
        n_resamples=50,
    )
    assert found.output.rstrip("\n") == str(report)


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "pts"])
def test_every_form_gives_the_same_number(files, kind, tmp_path):
    truth = files / "truth.npz"
    if kind == "npy":
        np.save(files / "g.npy", GUESS)
    elif kind == "npz":
        np.savez(files / "g.npz", predicted=GUESS)
    elif kind == "csv":
        header = ",".join(["name", *(f"{a}{i}" for i in range(68) for a in "xy")])
        rows = [",".join([f"{name}.jpg", *map(repr, g.ravel().tolist())]) for name, g in zip(NAMES, GUESS, strict=True)]
        (files / "g.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    else:
        (files / "g.pts" / "set").mkdir(parents=True)
        for name, guess in zip(NAMES, GUESS, strict=True):
            write_pts(files / "g.pts" / f"{name}.pts", guess, origin=1)
    found = run(files / f"g.{kind}", truth, "-p", "300w", "--format", "json")
    assert found.exit_code == 0, found.output
    plain = json.loads(found.output)
    expected = evaluate(FACES, GUESS, "300w", attributes={"split": SPLIT}, n_resamples=50)
    assert plain["rows"][2]["subset"] == "full"
    got = plain["rows"][2]["metrics"]["NME"]["estimate"]
    assert got == pytest.approx(expected["full"].metrics["NME"].estimate, rel=1e-4 if kind == "pts" else 1e-12)


def test_the_layout_of_300w_brings_its_splits(tmp_path):
    for part, n in (("helen/testset", 4), ("lfpw/testset", 2), ("ibug", 3), ("helen/trainset", 1)):
        (tmp_path / "truth" / part).mkdir(parents=True)
        for i in range(n):
            write_pts(tmp_path / "truth" / part / f"image_{i}0.pts", FACES[i], origin=1)
            (tmp_path / "truth" / part / f"image_{i}0.jpg").write_bytes(b"")
    faces = load_landmarks(tmp_path / "truth")
    assert len(faces.names) == 10
    np.savez(tmp_path / "guess.npz", shapes=faces.shapes() + 1, names=faces.names)
    found = run(tmp_path / "guess.npz", tmp_path / "truth", "-p", "300w", "--format", "json")
    rows = {row["subset"]: row["faces"] for row in json.loads(found.output)["rows"]}
    assert rows == {"all": 10, "common": 6, "challenging": 3, "full": 9}


def test_everything_that_can_be_added(files):
    np.savez(files / "poor.npz", shapes=FACES + 2 * (GUESS - FACES), names=NAMES)
    found = run(
        files / "guess.npz",
        files / "truth.npz",
        "-p",
        "asmnet-300w",
        "--against",
        files / "poor.npz",
        "--name",
        "mine",
        "--landmarks",
        "group",
        "--beside",
        "asmnet-2",
        "--explain",
        "--ced",
        files / "ced.png",
        "--landmark-plot",
        files / "where.svg",
        "--format",
        "markdown",
    )
    assert found.exit_code == 0, found.output
    for text in (
        "normalizer  inter_ocular",
        "**mine, protocol asmnet-300w",
        "| mouth |",
        "| ASMNet_nr |",
        "mine better on 30",
    ):
        assert text in found.output
    assert (files / "ced.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (files / "where.svg").read_bytes()[:500]


def test_written_to_a_file(files):
    found = run(files / "guess.npz", files / "truth.npz", "-p", "300w", "--format", "csv", "-o", files / "out.csv")
    assert found.output == ""
    assert (files / "out.csv").read_text().startswith("subset,faces,NME,NME_low,NME_high")


def test_attributes_of_a_file_of_their_own(files):
    lines = [
        "image,split,person",
        *(f"{n}.png,{s},p{i // 3}" for i, (n, s) in enumerate(zip(NAMES, SPLIT, strict=True))),
    ]
    (files / "a.csv").write_text("\n".join(lines[:1] + lines[:0:-1]) + "\n")
    np.savez(files / "bare.npz", shapes=FACES, names=NAMES)
    one = run(
        files / "guess.npz", files / "bare.npz", "-p", "300w", "--attributes", files / "a.csv", "--group", "person"
    )
    two = run(files / "guess.npz", files / "truth.npz", "-p", "300w", "--group", "person")
    assert one.exit_code == 0, one.output
    assert one.output == two.output
    names, columns = read_attributes(files / "a.csv")
    assert names[0] == NAMES[-1]
    assert columns["person"].tolist()[0] == "p9"


def test_faces_without_a_prediction(files):
    np.savez(files / "some.npz", shapes=GUESS[:28], names=NAMES[:28])
    refused = run(files / "some.npz", files / "truth.npz", "-p", "300w")
    assert refused.exit_code == 1
    assert "2 faces have no prediction, the first is 'set/face_028'" in refused.output
    found = run(files / "some.npz", files / "truth.npz", "-p", "300w", "--unpaired", "failure", "--format", "json")
    assert json.loads(found.output)["rows"][2]["failed"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("guess.npz", "truth.npz", "-p", "nothing"), "expected one of 300w"),
        (("nowhere.npz", "truth.npz", "-p", "300w"), "got no such file or folder"),
        (("notes.txt", "truth.npz", "-p", "300w"), "notes.txt, line 1: got 1 fields ('hello')"),
        (("empty", "truth.npz", "-p", "300w"), "got no landmark files"),
        (("flat.npz", "truth.npz", "-p", "300w"), "expected one called shapes"),
        (("short.npy", "truth.npz", "-p", "300w"), "got 5 faces; expected 30"),
        (("other.npz", "truth.npz", "-p", "300w"), "no face has a name of"),
        (("extra.npz", "truth.npz", "-p", "300w"), "1 faces have no truth, the first is 'new'"),
        (("twice.npz", "truth.npz", "-p", "300w"), "have no truth, the first is 'set/face_000#0'"),
        (("bad.csv", "truth.npz", "-p", "300w"), "bad.csv, line 2: y0: got 'two'"),
        (("ragged.csv", "truth.npz", "-p", "300w"), "ragged.csv, line 3: got 2 fields; expected 3"),
        (("wrong.csv", "truth.npz", "-p", "300w"), "expected columns x0, y0"),
        (("guess.npz", "truth.npz", "-p", "300w", "--group", "family"), "expected one of person, split"),
        (("guess.npz", "truth.npz", "-p", "wflw"), "wflw98 has 98 landmarks"),
        (("few.npz", "truth.npz", "-p", "300w"), r"got faces of shape (5, 2); expected (68, 2)"),
    ],
)
def test_bad_input_ends_with_a_reason(files, arguments, message):
    (files / "notes.txt").write_text("hello")
    (files / "empty").mkdir()
    np.savez(files / "flat.npz", shape=np.ones(3))
    np.save(files / "short.npy", GUESS[:5])
    np.savez(files / "other.npz", shapes=GUESS[:1], names=["else"])
    np.savez(files / "extra.npz", shapes=np.concatenate([GUESS, GUESS[:1]]), names=[*NAMES, "new"])
    np.savez(files / "twice.npz", shapes=GUESS[:3], names=[NAMES[0], NAMES[0], NAMES[1]])
    np.savez(files / "few.npz", shapes=GUESS[:, :5], names=NAMES)
    (files / "bad.csv").write_text("name,x0,y0\na,1,two\n")
    (files / "ragged.csv").write_text("name,x0,y0\na,1,2\nb,1\n")
    (files / "wrong.csv").write_text("name,left,top\na,1,2\n")
    paths = [files / argument if i < 2 else argument for i, argument in enumerate(arguments)]
    found = run(*paths)
    assert found.exit_code == 1, found.output
    assert message in found.output
    assert "Traceback" not in found.output


def test_pairs_are_made_by_name(files):
    truth, guess, how = pair(load_landmarks(files / "truth.npz"), load_landmarks(files / "guess.npz"))
    assert how == "Faces are paired by name."
    np.testing.assert_array_equal(truth, FACES)
    np.testing.assert_array_equal(guess, GUESS)


def test_other_landmark_files_are_read(files):
    write_landmarks(files / "truth.csv", [LandmarkFile(f, image_name=n) for f, n in zip(FACES, NAMES, strict=True)])
    write_landmarks(files / "g.xml", [LandmarkFile(g, image_name=n) for g, n in zip(GUESS, NAMES, strict=True)])
    found = run(files / "g.xml", files / "truth.csv", "-p", "300w", "--format", "json")
    assert found.exit_code == 0, found.output
    got = json.loads(found.output)["rows"][0]["metrics"]["NME"]["estimate"]
    assert got == pytest.approx(evaluate(FACES, GUESS, "300w", n_resamples=50)["all"].metrics["NME"].estimate, rel=0.05)
    relative = LandmarkFile(FACES[0], frame="relative")
    write_landmarks(files / "r.asf", LandmarkFile(FACES[0] / 1000, image_name="a.jpg", frame="relative"))
    assert relative.frame == read_landmarks(files / "r.asf").frame
    refused = run(files / "r.asf", files / "truth.csv", "-p", "300w")
    assert refused.exit_code == 1
    assert "got landmarks in the frame 'relative'; expected 'pixels'" in refused.output


def test_points_left_empty_are_missing(tmp_path):
    (tmp_path / "p.csv").write_text("image,x0,y0,x1,y1,mood\na.jpg,1,2,,,sad\nb.jpg,3,4,5,6,glad\n")
    found = load_landmarks(tmp_path / "p.csv")
    assert np.isnan(found.shapes()[0, 1]).all()
    assert found.names == ["a", "b"]
    assert found.attributes["mood"] == ["sad", "glad"]


def test_an_array_is_paired_in_natural_order_and_the_report_says_so(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "pred").mkdir()
    for i, (face, guess) in enumerate(zip(FACES[:12], GUESS, strict=False)):
        write_pts(tmp_path / "truth" / f"im_{i}.pts", face)
        write_pts(tmp_path / "pred" / f"im_{i}.pts", guess)
    np.save(tmp_path / "pred.npy", GUESS[:12])
    options = (tmp_path / "truth", "--protocol", "300w-inter-pupil", "--format")
    named, by_order = (json.loads(run(tmp_path / p, *options, "json").output) for p in ("pred", "pred.npy"))
    assert by_order["rows"][0]["metrics"]["NME"]["estimate"] == pytest.approx(
        named["rows"][0]["metrics"]["NME"]["estimate"], rel=1e-6
    )
    assert named["pairing"] == "Faces are paired by name."
    text = run(tmp_path / "pred.npy", *options, "text").output
    assert "Faces are paired by order, as" in text
    assert "im_0, im_1, im_2, im_3 and 8 more" in text


def test_landmarks_are_matched_by_their_names(tmp_path):
    """A truth and a prediction that name the same landmarks in another order give the error of the faces."""
    labels, rng = [f"point {chr(97 + i % 26)}{i // 26}" for i in range(68)], np.random.default_rng(0)
    order = rng.permutation(68)
    shuffled = [labels[i] for i in order]
    truth = [LandmarkFile(f, tuple(labels), image_name=n) for f, n in zip(FACES, NAMES, strict=True)]
    guess = [LandmarkFile(g[order], tuple(shuffled), image_name=n) for g, n in zip(GUESS, NAMES, strict=True)]
    write_landmarks(tmp_path / "t.json", truth)
    write_landmarks(tmp_path / "g.json", guess)
    found = json.loads(run(tmp_path / "g.json", tmp_path / "t.json", "-p", "300w", "--format", "json").output)
    expected = evaluate(FACES, GUESS, "300w", n_resamples=50)["all"].metrics["NME"].estimate
    assert found["rows"][0]["metrics"]["NME"]["estimate"] == pytest.approx(expected, rel=1e-9)
    guess[0] = LandmarkFile(GUESS[0], tuple([*labels[:-1], "another"]), image_name=NAMES[0])
    write_landmarks(tmp_path / "g.json", guess)
    refused = run(tmp_path / "g.json", tmp_path / "t.json", "-p", "300w")
    assert refused.exit_code == 1
    assert "another" in refused.output


def test_the_angles_of_an_archive_are_counted_in_degrees(tmp_path):
    """AFLW2000-3D gives radians; its bins are in degrees."""
    from scipy.io import savemat

    yaw = np.radians([5, 40, -70, 20, -35, 61])
    for i, angle in enumerate(yaw):
        pose = np.array([[0.1, angle, 0, 1, 2, 3, 4]])
        content = {"pt3d_68": np.vstack([FACES[i].T + 1, np.zeros(68)]), "Pose_Para": pose}
        savemat(tmp_path / f"image{i}.mat", content)
    solid = np.dstack([GUESS[:6], np.zeros((6, 68))])
    np.savez(tmp_path / "g.npz", shapes=solid, names=[f"image{i}" for i in range(6)])
    found = run(tmp_path / "g.npz", tmp_path, "--archive", "aflw2000", "-p", "aflw2000-3d", "--format", "json")
    assert found.exit_code == 0, found.output
    rows = {row["subset"]: row["faces"] for row in json.loads(found.output)["rows"]}
    assert (rows["yaw 0-30"], rows["yaw 30-60"], rows["yaw 60-90"]) == (2, 2, 2)
    report = evaluate(load_landmarks(tmp_path, archive="aflw2000"), solid, "aflw2000-3d", n_resamples=20)
    assert {row.name: row.n for row in report.rows}["yaw 60-90"] == 2


def test_names_of_the_scheme_say_where_the_eyes_are(tmp_path):
    """The normaliser takes the corners of the eyes by their names, whatever the order of the landmarks."""
    order = np.random.default_rng(0).permutation(68)
    labels = tuple(IBUG68.names[i] for i in order)
    for name, shapes in (("t", FACES), ("g", GUESS)):
        faces = [LandmarkFile(s[order], labels, image_name=n) for s, n in zip(shapes, NAMES, strict=True)]
        write_landmarks(tmp_path / f"{name}.json", faces)
    np.savez(tmp_path / "plain.npz", shapes=GUESS, names=NAMES)
    expected = evaluate(FACES, GUESS, "300w", n_resamples=50)["all"].metrics["NME"].estimate
    for guess in ("g.json", "plain.npz"):
        found = json.loads(run(tmp_path / guess, tmp_path / "t.json", "-p", "300w", "--format", "json").output)
        assert found["rows"][0]["metrics"]["NME"]["estimate"] == pytest.approx(expected, rel=1e-9)


def test_predictions_that_name_their_landmarks_are_matched_to_truth_without_names(tmp_path):
    """Points in another order under the names of the scheme are the same points."""
    order = np.random.default_rng(2).permutation(68)
    (tmp_path / "truth").mkdir()
    for i, face in enumerate(FACES[:6]):
        write_pts(tmp_path / "truth" / f"im_{i}.pts", face)
    for name, places in (("same", np.arange(68)), ("other", order)):
        labels = tuple(IBUG68.names[k] for k in places)
        records = [LandmarkFile(g[places], labels, image_name=f"im_{i}.jpg") for i, g in enumerate(GUESS[:6])]
        write_landmarks(tmp_path / f"{name}.csv", records)
    results = [
        json.loads(run(tmp_path / f"{name}.csv", tmp_path / "truth", "-p", "300w", "--json", "--name", "m").output)
        for name in ("same", "other")
    ]
    assert results[0]["rows"] == results[1]["rows"]
    assert results[0]["rows"][0]["metrics"]["NME"]["estimate"] < 0.1
