"""Every command sees the same set in one folder: the same names, the same count, the same numbers."""

import itertools
import json
import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from strategies import face_picture

import shape_models._commands as commands
from evaluation.__main__ import main as evaluate
from pose.__main__ import main as pose
from shape_models import IBUG68, LandmarkFile, LandmarkFileError, make_faces, write_landmarks, write_pts
from shape_models.cli import main
from shape_models.datasets import load_landmarks

OPTIONS = ("--extension", "pts,csv", "--scheme", "ibug68", "--missing", "-1")
WHERE = ("sub/face2", "face9", "face10", "sub/deep/face1", "more/face3", "more/face1")
SHAPES = dict(zip(WHERE, 0.4 * make_faces(len(WHERE), rng=1), strict=True))
HOLES = {"face9": 30, "more/face1": 5}
ORDER = ["face9", "face10", "more/face1", "more/face3", "sub/deep/face1", "sub/face2"]  # natural, folder by folder


def run(command, *arguments, code=0):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def measured(prediction, truth, *options):
    """The report of the predictions of a set against another."""
    return json.loads(run(evaluate, prediction, truth, "-p", "300w", "--resamples", 20, "--json", *options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six faces: nested, in two formats, two of them with names in another order, two with a missing landmark."""
    root = tmp_path_factory.mktemp("walk") / "set"
    shuffled = np.random.default_rng(0).permutation(68)
    for name, shape in SHAPES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face_picture(shape)).save(path.with_name(path.name + ".png"))
        points = shape.copy()
        if name in HOLES:
            points[HOLES[name]] = -1
        if name.startswith("more"):
            labels = tuple(IBUG68.names[i] for i in shuffled)
            write_landmarks(f"{path}.csv", LandmarkFile(points[shuffled], labels))
        else:
            write_pts(f"{path}.pts", points, origin=0 if name in HOLES else 1)
    write_pts(root / "face9.pts", np.where(np.arange(68)[:, None] == 30, -2.0, SHAPES["face9"]))  # -1 in the file
    for hidden in (".checkpoints/x.pts", ".face0.pts", "sub/.y.csv"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_text("no landmarks")
    return root


def truth(name):
    points = SHAPES[name].copy()
    if name in HOLES:
        points[HOLES[name]] = np.nan
    return points


def test_the_order_is_natural(folder):
    samples = load_landmarks(folder, extension="pts,csv", scheme="ibug68", missing=-1)
    assert samples.names == ORDER
    np.testing.assert_allclose(samples.shapes(), [truth(name) for name in ORDER], atol=1e-9)
    assert all(image is not None and image.is_file() for image in samples.images)


@pytest.fixture(scope="module")
def outputs(folder, tmp_path_factory):
    """Run the commands that write landmarks; return what each wrote, read back."""
    out = tmp_path_factory.mktemp("out")
    found = {"read": load_landmarks(folder, extension="pts,csv", scheme="ibug68", missing=-1)}
    for form in ("", ".npz", ".csv"):
        run(main, "convert", folder, f"{out}/convert{form}", *OPTIONS)
        run(main, "complete", "face68", folder, "-o", f"{out}/complete{form}", *OPTIONS)
        run(main, "project", "face68", folder, "-o", f"{out}/project{form}", *OPTIONS)
        run(main, "align", folder, "-o", f"{out}/align{form}", *OPTIONS)
        for name in ("convert", "complete", "project", "align"):
            found[f"{name}{form or '/'}"] = load_landmarks(f"{out}/{name}{form}")
    return found


def test_all_commands_write_the_same_names_and_count(outputs):
    for (one, first), (two, second) in itertools.combinations(outputs.items(), 2):
        assert sorted(first.names) == sorted(second.names), (one, two)
        assert first.frame == second.frame, (one, two)
    for name in ("convert", "complete", "project", "align"):
        for form in (".npz", ".csv"):
            folder, file = outputs[f"{name}/"], outputs[f"{name}{form}"]
            assert folder.names == file.names == ORDER
            np.testing.assert_allclose(folder.shapes(), file.shapes(), atol=1e-9)
    np.testing.assert_allclose(outputs["convert/"].shapes(), outputs["read"].shapes(), atol=1e-9)
    seen = np.isfinite(outputs["read"].shapes())
    np.testing.assert_allclose(outputs["complete.npz"].shapes()[seen], outputs["read"].shapes()[seen], atol=1e-9)


def test_what_one_command_writes_another_pairs_by_name(folder, outputs, tmp_path):
    """Every output is evaluated against every other: the pairs are those of the names."""
    kinds = ("convert/", "convert.csv", "complete.npz", "complete/", "project.csv", "project/")
    paths = {}
    for kind in kinds:
        paths[kind] = tmp_path / kind.strip("/").replace(".", "_")
        np.savez(f"{paths[kind]}.npz", shapes=outputs[kind].shapes(), names=outputs[kind].names)
    for one, two in itertools.product(kinds, repeat=2):
        report = measured(f"{paths[one]}.npz", f"{paths[two]}.npz", "--unpaired", "failure")
        assert report["pairing"] == "Faces are paired by name."
        assert report["rows"][0]["faces"] == len(ORDER)
    report = measured(f"{paths['complete/']}.npz", folder, *OPTIONS)
    assert report["rows"][0]["metrics"]["NME"]["estimate"] == pytest.approx(0, abs=1e-9)


def test_commands_that_print_see_the_same_set(folder, tmp_path):
    described = json.loads(run(main, "info", folder, *OPTIONS, "--json"))
    assert (described["names"], described["n_samples"], described["missing_landmarks"]) == (ORDER, 6, 2)
    assert described["images"] == 6
    fitted = json.loads(run(main, "fit", folder, "-o", tmp_path / "m.npz", *OPTIONS, "--json"))
    assert (fitted["n_samples"], fitted["missing_landmarks"], fitted["frame"]) == (6, 2, "pixels")
    whole = [*OPTIONS[:4], "--json"]
    assert json.loads(run(main, "plot", "shapes", folder, "-o", tmp_path / "p.png", *whole))["n_samples"] == 6
    records = json.loads(run(pose, folder, *OPTIONS, "--image-size", 110, 110, "--json"))
    assert [r["name"] for r in records] == ORDER
    diagnosed = json.loads(run(main, "diagnose", folder, *OPTIONS, "--json", "-n", 2))
    assert diagnosed["n_samples"] == 4
    assert json.loads(run(main, "info", tmp_path / "m.npz", "--json"))["frame"] == "pixels"


def test_searches_and_networks_name_their_results_alike(folder, tmp_path):
    pytest.importorskip("torch")
    from asmnet.cli import main as asmnet

    rows = ["y1,x0,image,y0,x1"]
    for name, shape in SHAPES.items():
        (x0, y0), (x1, y1) = shape.min(0), shape.max(0)
        rows.append(f"{y1},{x0},{name}.png,{y0},{x1}")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(rows) + "\n")
    run(main, "search", "search68", folder, "-o", tmp_path / "s", "--boxes", boxes, "--no-overlay")
    run(asmnet, "predict", folder, "-o", tmp_path / "n", "--boxes", boxes, "--format", "pts", "--format", "csv")
    for found in (tmp_path / "s", tmp_path / "n", tmp_path / "n" / "landmarks.csv"):
        assert load_landmarks(found).names == ORDER
        report = measured(found, folder, *OPTIONS[:4], "--unpaired", "failure", "--missing", -1)
        assert report["pairing"] == "Faces are paired by name."
    report = json.loads(run(asmnet, "evaluate", "asmnet-68", folder, *OPTIONS, "--json"))
    assert report["rows"][0]["faces"] == 6


def test_results_never_replace_one_another_or_an_input(folder, tmp_path):
    result = CliRunner().invoke(main, ["search", "search68", str(folder), "-o", str(folder), "--whole"])
    assert result.exit_code == 1
    assert "is one of the inputs and would be replaced" in result.output
    for name in ("a.png", "a#0.png"):
        Image.new("L", (9, 9)).save(tmp_path / name)
    result = CliRunner().invoke(main, ["search", "search68", str(tmp_path), "-o", str(tmp_path / "o"), "--whole"])
    assert result.exit_code == 1
    assert "would be taken for an object in a" in result.output
    assert not (tmp_path / "o").exists()


# --- The frame of the commands -------------------------------------------------------------------------------


def test_pose_and_evaluate_are_announced_to_shape_models(monkeypatch, folder):
    project = tomllib.loads((Path(commands.__file__).parents[1] / "pyproject.toml").read_text())
    announced = project["project"]["entry-points"][commands.ENTRY_POINTS]
    points = EntryPoints(EntryPoint(n, v, commands.ENTRY_POINTS) for n, v in announced.items())
    monkeypatch.setattr(commands, "entry_points", lambda group: points.select(group=group))
    text = run(main, "--help")
    for name in ("evaluate", "pose", "search", "train-search"):
        assert f"  {name} " in text
    records = json.loads(run(main, "pose", folder, *OPTIONS, "--image-size", 110, 110, "--json"))
    assert [r["name"] for r in records] == ORDER
    assert run(main, "evaluate", folder, folder, "-p", "300w", "--resamples", 20, *OPTIONS, "--unpaired", "failure")
    assert "no such file" in CliRunner().invoke(main, ["pose", "nowhere"]).output.replace(
        "does not exist", "no such file"
    )


@pytest.mark.parametrize("error", [TypeError, KeyError, IndexError, AttributeError, AssertionError, ZeroDivisionError])
def test_a_fault_of_the_program_is_shown_as_one(monkeypatch, folder, error):
    from shape_models import datasets

    def broken(*_, **__):
        raise error("a fault")

    monkeypatch.setattr(datasets, "load_landmarks", broken)
    for command, arguments in ((main, ["info", folder]), (evaluate, [folder, folder, "-p", "300w"])):
        result = CliRunner().invoke(command, [str(a) for a in arguments])
        assert isinstance(result.exception, error)


def test_every_command_has_the_same_options(folder):
    def walk(command, path=()):
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                yield from walk(command.get_command(None, name), (*path, name))
        else:
            yield path, command

    writes = {
        "fit",
        "project",
        "complete",
        "align",
        "convert",
        "train-search",
        "search",
        "modes",
        "spectrum",
        "clip",
        "shapes",
        "explore",
        "demo",
    }
    reads = {"fit", "project", "complete", "align", "convert", "info", "diagnose", "clip", "shapes", "train-search"}
    for path, command in walk(main):
        options = {option for parameter in command.params for option in parameter.opts}
        if path[-1] in ("pose", "evaluate"):
            continue
        assert "--json" in options, path
        if path[-1] in writes:
            assert {"-o", "--output"} <= options, path
        if path[-1] in reads:
            assert {
                "--scheme",
                "--split",
                "--missing",
                "--frame",
                "--image-size",
                "--extension",
                "--archive",
            } <= options


@pytest.mark.parametrize(
    ("value", "expected"), [("-1", -1.0), ("0,0", (0.0, 0.0)), ("negative", "negative"), ("zero", "zero")]
)
def test_missing_on_the_command_line(value, expected):
    assert commands.MISSING.convert(value, None, None) == expected


def test_boxes_are_read_by_the_names_of_their_columns(tmp_path):
    images = [commands.Image(tmp_path / p, p[:-4]) for p in ("p1/a.png", "p2/a.png", "b.png")]
    table = tmp_path / "boxes.csv"

    def read(text):
        table.write_text(text)
        return commands.read_boxes(table, images)

    good = read("y0;x1;image;x0;y1\n1;20;p1/a.png;0;21\n1;20;p2/a;0;21\n2;5;b;1;9\n3;9;b;1;9\n")
    assert good == {"p1/a": [[0, 1, 20, 21]], "p2/a": [[0, 1, 20, 21]], "b": [[1, 2, 5, 9], [1, 3, 9, 9]]}
    wide = read("name,x,y,width,height\np1/a,0,1,10,20\np2/a,0,1,10,20\nb.png,2,2,3,4\n")
    assert wide["b"] == [[2, 2, 4, 5]]
    for text, message in (
        ("p1/a.png,1,2,3,4\n", "expected a first line that names the columns"),
        ("image,x0,y0,x1,y1\n", "got no rows"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,4\nb,1,2,3,4\n", "'a.png', the name of"),
        ("image,x0,y0,x1,y1\nb,1,2,3\n", "line 2: got 4 fields"),
        ("image,x0,y0,x1,y1\nb,1,2,x,4\n", "line 2: x1: got 'x'; expected a number"),
        ("image,x0,y0,x1,y1\nb,5,2,3,4\n", "expected x0 < x1"),
        ("image,x0,y0,x1,y1\nb,1,2,3,4\n", "got no box for"),
    ):
        with pytest.raises((commands.DataError, LandmarkFileError), match=message):
            read(text)


@pytest.mark.parametrize("command", ["convert", "align", "complete", "project"])
def test_no_command_replaces_its_input(tmp_path, command):
    shapes = make_faces(6, rng=0)
    path = tmp_path / "faces.csv"
    write_landmarks(path, [LandmarkFile(shape, image_name=f"{i}.jpg") for i, shape in enumerate(shapes)])
    before = path.read_bytes()
    first = ["face68"] if command in ("complete", "project") else []
    result = CliRunner().invoke(main, [command, *first, str(path), "-o", str(path)])
    assert result.exit_code == 1
    assert "is the input and would be replaced" in result.output
    assert path.read_bytes() == before
