"""The commands that train and run a search, on files as users have them."""

import contextlib
import csv
import re

import numpy as np
import pytest
from click.testing import CliRunner
from strategies import face_picture

from shape_models import load_model, make_faces, read_landmarks, write_landmarks
from shape_models.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from skimage.io import imsave

    root = tmp_path_factory.mktemp("faces")
    shapes = 0.4 * make_faces(16, rng=0)
    for i, shape in enumerate(shapes):
        part = root / ("train" if i < 14 else "new")
        part.mkdir(exist_ok=True)
        imsave(part / f"p{i // 2}_{i}.png", face_picture(shape), check_contrast=False)
        if i < 14:
            write_landmarks(part / f"p{i // 2}_{i}.pts", shape)
    lines = ["image,x0,y0,x1,y1"]
    for i in (14, 15):
        box = [*shapes[i].min(0), *shapes[i].max(0)]
        lines.append(f"p7_{i}.png," + ",".join(f"{v:.2f}" for v in box))
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root, shapes


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def model(folder):
    root, _ = folder
    path = root / "search.npz"
    result = run(
        "train-search", root / "train", "--scheme", "ibug68", "--evidence", "profiles", "-o", path, "--group-by", 2
    )
    assert result.exit_code == 0, result.output
    assert "14 images, 68 landmarks" in result.output
    return path


def test_a_folder_is_searched_into_files_of_any_format(folder, model, tmp_path):
    root, shapes = folder
    for form in ("pts", "asf", "npy", "csv", "ljson"):
        out = tmp_path / form
        result = run("search", model, root / "new", "-o", out, "--boxes", root / "boxes.csv", "--format", form)
        assert result.exit_code == 0, result.output
        for i in (14, 15):
            options = {"image_size": (100, 100)} if form == "asf" else {}
            found = read_landmarks(out / f"p7_{i}.{form}", **options)
            points = np.asarray(found[0] if isinstance(found, list) else found)
            assert np.linalg.norm(points - shapes[i], axis=1).mean() < 6
            assert (out / f"p7_{i}.png").stat().st_size > 1000
        with (out / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2
        assert all(row["status"] in ("converged", "not converged") for row in rows)


def test_bad_files_do_not_stop_the_others(folder, model, tmp_path):
    root, _ = folder
    broken = tmp_path / "p7_15.png"
    broken.write_bytes(b"no picture")
    result = run(
        "search",
        model,
        root / "new/p7_14.png",
        broken,
        "-o",
        tmp_path / "out",
        "--boxes",
        root / "boxes.csv",
        "--no-overlay",
    )
    assert result.exit_code == 0, result.output
    assert "1 error" in result.output
    assert (tmp_path / "out/p7_14.pts").is_file()
    assert not (tmp_path / "out/p7_15.pts").exists()
    assert not (tmp_path / "out/p7_14.png").exists()


def test_whole_images_and_same_names(folder, model, tmp_path):
    root, _ = folder
    other = tmp_path / "other"
    other.mkdir()
    (other / "p7_14.png").write_bytes((root / "new/p7_14.png").read_bytes())
    result = run("search", model, root / "new", other, "-o", tmp_path / "out", "--whole")
    assert result.exit_code == 0, result.output
    found = ["/".join(p.parts[-2:]) for p in (tmp_path / "out").rglob("*.pts")]
    assert sorted(found) == ["new/p7_14.pts", "new/p7_15.pts", "other/p7_14.pts"]


def test_parts_in_files_of_their_own_are_joined(tmp_path):
    from skimage.io import imsave

    from shape_models.datasets import load_landmarks
    from shape_models.search._part_files import join_parts

    rng = np.random.default_rng(0)
    parts = {"2": rng.uniform(5, 40, (5, 4, 2)), "10": rng.uniform(5, 40, (5, 6, 2))}
    for i in range(5):
        (tmp_path / "set").mkdir(exist_ok=True)
        imsave(tmp_path / f"set/a_{i}.png", rng.integers(0, 65535, (50, 60), dtype=np.uint16), check_contrast=False)
        for name, shapes in parts.items():
            write_landmarks(tmp_path / f"set/a_{i}-{name}.pts", shapes[i])
    data, indices, _ = join_parts(load_landmarks(tmp_path / "set"), tmp_path / "set")
    assert indices == {"2": list(range(4)), "10": list(range(4, 10))}  # numbers by their size
    assert [path.name for path in data.images] == [f"a_{i}.png" for i in range(5)]
    np.testing.assert_allclose(data.shapes(), np.concatenate([parts["2"], parts["10"]], axis=1), atol=1e-6)
    for change, message in (
        (lambda: (tmp_path / "set/a_3-2.pts").unlink(), "a_3: got no part '2'"),
        (lambda: write_landmarks(tmp_path / "set/a_3-2.pts", np.arange(6.0).reshape(3, 2)), "got 3 landmarks.*4"),
        (lambda: (tmp_path / "set/a_0.png").unlink(), "got no image for each of a_0, a_1"),
        (lambda: write_landmarks(tmp_path / "set/alone.pts", np.arange(6.0).reshape(3, 2)), "alone: got a name with"),
    ):
        change()
        result = run("train-search", tmp_path / "set", "-o", tmp_path / "x.npz", "--join-parts")
        assert result.exit_code == 1
        assert re.search(message, result.output.replace("\n", " ")), result.output


def test_mistakes_are_one_line_each(folder, model, tmp_path):
    root, _ = folder
    for arguments, message in (
        (("search", "face68", root / "new", "-o", tmp_path / "x", "--whole"), "expected a search"),
        (
            ("search", model, root / "new", "-o", tmp_path / "x", "--whole", "--boxes", root / "boxes.csv"),
            "one of them",
        ),
        (("search", model, root / "train/p0_0.png", "-o", tmp_path / "x", "--boxes", root / "boxes.csv"), "no box for"),
        (("train-search", root / "new", "-o", tmp_path / "x.npz"), "no landmark files"),
        (("train-search", root / "train", "-o", tmp_path / "x.bin"), "ends with .npz"),
    ):
        result = run(*arguments)
        assert result.exit_code != 0
        assert "Error" in result.output
        if message != "no landmark files":
            assert message in result.output.replace("\n", " ")
    assert load_model(model).n_landmarks_ == 68


def test_info_describes_a_search(model):
    text = run("info", model).output
    for part in ("ASMFitter", "frame                     pixels", "Profiles(", "68", "ibug68", "side 0.9", "False"):
        assert part in text
    assert "Patches" in run("info", "search68").output


@pytest.fixture
def few(monkeypatch):
    """Trainings by the commands have few starts of an image, and leave two folds out where they would leave five."""
    from shape_models import search

    fitter = search.ASMFitter

    def made(*arguments, calibration=None, **options):
        return fitter(*arguments, calibration=2 if calibration is None else calibration, n_perturbations=2, **options)

    monkeypatch.setattr(search, "ASMFitter", made)


def test_training_tells_how_far_it_is(folder, tmp_path, monkeypatch, few):
    """Every part begins above 0, never goes back and ends at its total; the saved model tells nobody."""
    from shape_models.search import _cli

    heard = []

    shown = _cli.steps

    @contextlib.contextmanager
    def listening():
        with shown() as tell:

            def heed(what, done, total):
                heard.append((what, done, total))
                tell(what, done, total)

            yield heed

    monkeypatch.setattr(_cli, "steps", listening)
    root, _ = folder
    for evidence in ("profiles", "patches"):
        heard.clear()
        result = run("train-search", root / "train", "--evidence", evidence, "-o", tmp_path / "s.npz")
        assert result.exit_code == 0, result.output
        for what in ("reading", "learning"):
            steps = [(done, total) for name, done, total in heard if name == what]
            assert [done for done, _ in steps] == sorted({done for done, _ in steps})
            assert steps[-1][0] == steps[-1][1]


def test_a_report_says_how_good_the_search_is_and_objects_are_found_without_boxes(folder, tmp_path, monkeypatch, few):
    """Numbers of the page are those of the JSON; parts and report need no more than ten images."""
    import json

    root, shapes = folder
    out = tmp_path / "search.npz"
    page = tmp_path / "report.html"
    arguments = (
        "train-search",
        root / "train",
        "--evidence",
        "profiles",
        "-o",
        out,
        "--parts",
        "mouth=48-67",
        "--parts",
        "eyes=36-41,42-47",
        "--report",
        page,
        "--folds",
        2,
        "--json",
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    record = json.loads(result.output[result.output.index("{") :])
    text = page.read_text(encoding="utf-8")
    assert f"{record['report']['median_error']:.2%}" in text
    assert f"{record['report']['lost']} of 14" in text
    assert record["report"]["median_error"] < 0.1
    for part in ("Would more images help?", "Where the answers are worst", "Mode 1", "Part mouth", "data:image/jpeg"):
        assert part in text
    monkeypatch.undo()  # the command asks of what class a model is
    found = run("search", out, root / "new", "-o", tmp_path / "found", "--no-overlay")
    assert found.exit_code == 0, found.output
    for i in (14, 15):
        points = np.asarray(read_landmarks(tmp_path / f"found/p7_{i}.pts"))
        assert np.linalg.norm(points - shapes[i], axis=1).mean() < 8
    with (tmp_path / "found/results.csv").open() as file:
        assert all(float(row["expected_error"]) > 0 for row in csv.DictReader(file))


def test_parts_are_read_from_a_file_and_refused_in_words(folder, tmp_path):
    import click

    from shape_models import IBUG68
    from shape_models.search._part_words import parse_parts

    table = tmp_path / "parts.json"
    table.write_text('{"a": [0, 1, 5], "b": "2-4"}')
    lines = tmp_path / "parts.txt"
    lines.write_text("# teeth\na=0,1,5\n\nb=2-4\n")
    for file in (table, lines):
        assert parse_parts([str(file)], None) == {"a": [0, 1, 5], "b": [2, 3, 4]}
    assert parse_parts(["mouth"], IBUG68) == {"mouth": IBUG68.groups["mouth"].tolist()}
    for wrong in ("a=1-", "a=x", "nose tip", "a=3-1"):
        with pytest.raises(click.UsageError, match="expected"):
            parse_parts([wrong], None)
    with pytest.raises(click.UsageError, match="twice"):
        parse_parts(["a=1-3", "a=4-6"], None)


# --- refine ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rough(folder):
    """Landmarks of a detector for the new images: in a folder as the images lie, a little off."""
    root, shapes = folder
    made = root / "rough"
    made.mkdir()
    rng = np.random.default_rng(3)
    for i in (14, 15):
        write_landmarks(made / f"p7_{i}.pts", shapes[i] + rng.normal(scale=2, size=shapes[i].shape))
    return made


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_landmarks_of_a_folder_are_refined_as_by_the_function(folder, model, rough, tmp_path):
    from shape_models.search import refine

    root, _ = folder
    result = run("refine", root / "new", rough, "-o", tmp_path / "one", "--model", model)
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "one" / "refined.csv")
    for i, row in zip((14, 15), rows, strict=True):
        given = np.asarray(read_landmarks(rough / f"p7_{i}.pts"))
        answer = refine(root / "new" / f"p7_{i}.png", given, fitter=load_model(model))
        found = np.asarray(read_landmarks(tmp_path / "one" / f"p7_{i}.pts"))
        np.testing.assert_allclose(found, answer.points, atol=1e-9)
        assert row["name"] == f"p7_{i}"
        assert (tmp_path / "one" / f"p7_{i}.png").is_file()
        assert sum(int(row[key] or 0) for key in ("kept", "searched", "carried", "missing")) == 68
    before = (tmp_path / "one" / "p7_14.pts").stat().st_mtime_ns
    again = run("refine", root / "new", rough, "-o", tmp_path / "one", "--model", model, "--resume", "--json")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "one" / "p7_14.pts").stat().st_mtime_ns == before


def test_landmarks_of_several_faces_schemes_and_without_names_are_refined(folder, model, tmp_path):
    root, shapes = folder
    from shape_models import LandmarkFile, convert

    twice = [LandmarkFile(shapes[14], image_name="p7_14.png")] * 2
    write_landmarks(tmp_path / "two.csv", twice)
    cofw = np.asarray(convert(shapes[15], "ibug68", "cofw29").shapes)
    write_landmarks(tmp_path / "cofw.csv", [LandmarkFile(cofw, image_name="p7_15.png")])
    np.save(tmp_path / "order.npy", shapes[14:16])
    for arguments, names in (
        (("two.csv",), ["p7_14#0", "p7_14#1"]),
        (("cofw.csv", "--scheme", "cofw29"), ["p7_15"]),
        (("order.npy", "--frame", "pixels"), ["p7_14", "p7_15"]),
    ):
        out = tmp_path / arguments[0][:-4]
        file, *rest = arguments
        found = run("refine", root / "new", tmp_path / file, "-o", out, "--model", model, "--no-overlay", *rest)
        assert found.exit_code == 0, found.output
        assert [row["name"] for row in table(out / "refined.csv")] == names
        for name in names:
            near = np.asarray(read_landmarks(out / f"{name}.pts")) - shapes[14 if "14" in name else 15]
            assert np.linalg.norm(near, axis=1).mean() < 5


def test_landmarks_that_cannot_be_refined_are_named(folder, model, rough, tmp_path):
    from shape_models import LandmarkFile

    root, shapes = folder
    for name, record, message in (
        ("other.csv", LandmarkFile(shapes[14], image_name="who.png"), "who: got no image of this name"),
        ("few.csv", LandmarkFile(shapes[14][:5], image_name="p7_14.png"), "got 5 landmarks; the model has 68"),
        ("up.csv", LandmarkFile(shapes[14], frame="y_up", attributes={"id": "p7_14"}), "expected pixels"),
    ):
        write_landmarks(tmp_path / name, [record])
        found = run("refine", root / "new", tmp_path / name, "-o", tmp_path / "out", "--model", model)
        assert found.exit_code == 1, found.output
        assert message in found.output
        assert not (tmp_path / "out").exists()
    nothing = np.full((68, 2), np.nan)
    records = [LandmarkFile(s, image_name=f"p7_{i}.png") for i, s in ((14, shapes[14]), (15, nothing))]
    write_landmarks(tmp_path / "mixed.csv", records)
    found = run("refine", root / "new", tmp_path / "mixed.csv", "-o", tmp_path / "mixed", "--model", model)
    assert found.exit_code == 1, found.output
    assert "1 of 2 shapes could not be used: p7_15" in found.output
    assert [row["status"] for row in table(tmp_path / "mixed" / "refined.csv")] == ["ok", "error"]
    found = run("refine", root / "new", rough, "-o", rough, "--model", model)
    assert found.exit_code == 1, found.output
    assert "one of the inputs" in found.output
