"""The command shape-models: what it prints, writes and returns, on files as a user has them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from shape_models import AlignedASM, LandmarkFile, load_model, make_faces, read_landmarks, save_model, write_landmarks
from shape_models._commands import say
from shape_models.cli import main


def run(*arguments, code=0):
    """Run the command; return its output, or its one error line."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    if code:
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        return result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def faces():
    return make_faces(40, rng=0)


@pytest.fixture
def folder(tmp_path, faces):
    target = tmp_path / "faces"
    target.mkdir()
    for i, face in enumerate(faces):
        write_landmarks(target / f"face{i:02d}.pts", face)
    return target


@pytest.fixture
def model(tmp_path, folder):
    path = tmp_path / "model.npz"
    run("fit", folder, "--scheme", "ibug68", "-n", 8, "-o", path)
    return path


def test_fit_is_the_fit_of_the_library(tmp_path, folder, faces):
    path = tmp_path / "m.npz"
    record = json.loads(run("fit", folder, "--scheme", "ibug68", "-n", "0.9", "--json", "-o", path))
    saved = load_model(path)
    points = np.stack([file.points for file in read_landmarks(folder)])
    np.testing.assert_allclose(points, faces, atol=1e-6)
    own = AlignedASM(scheme="ibug68").set_params(asm=saved.asm).fit(points)
    np.testing.assert_allclose(saved.asm_.components_, own.asm_.components_, atol=1e-12)
    assert record["n_samples"] == 40
    assert record["n_components"] == saved.asm_.n_components_
    np.testing.assert_allclose(record["explained_variance_ratio"], saved.asm_.explained_variance_ratio_)
    assert saved.scheme_.name == "ibug68"


def test_fit_takes_every_source(tmp_path, faces):
    np.savez(tmp_path / "a.npz", shapes=faces)
    write_landmarks(tmp_path / "b.csv", faces)
    write_landmarks(tmp_path / "c.tps", faces, image_size=(400, 400))
    means = []
    for name in ("a.npz", "b.csv", "c.tps"):
        run("fit", tmp_path / name, "-o", tmp_path / "m.npz", "--limit", "none", "-n", "all")
        loaded = load_model(tmp_path / "m.npz")
        assert loaded.asm_.basis_.limit is None
        means.append(loaded.alignment_.mean_shape_)
    np.testing.assert_allclose(means[0], means[1], atol=1e-6)
    np.testing.assert_allclose(means[0], means[2] * [1, -1], atol=1e-6)  # y counts from the bottom


def test_fit_names_mirrored_shapes(tmp_path, faces):
    shapes = faces.copy()
    shapes[3, :, 0] *= -1
    np.savez(tmp_path / "a.npz", shapes=shapes, images=[f"person{i}.jpg" for i in range(40)])
    assert "person3" in run("fit", tmp_path / "a.npz", "-o", tmp_path / "m.npz")


def test_symmetric_mean(tmp_path, folder):
    run("fit", folder, "--scheme", "ibug68", "--symmetric", "-o", tmp_path / "m.npz")
    mean = load_model(tmp_path / "m.npz").alignment_.mean_shape_
    mirror = load_model("face68").scheme_.mirror
    np.testing.assert_allclose(mean[mirror] * [-1, 1], mean, atol=1e-9)
    assert "scheme" in run("fit", folder, "--symmetric", "-o", tmp_path / "m.npz", code=2)


def test_project_writes_the_projection(tmp_path, folder, model):
    out = tmp_path / "out"
    record = json.loads(run("project", model, folder, "-o", out, "--json"))
    files = read_landmarks(out)
    assert [file.path.name for file in files] == [f"face{i:02d}.pts" for i in range(40)]
    expected = load_model(model).project(np.stack([file.points for file in read_landmarks(folder)]))
    np.testing.assert_allclose(np.stack([file.points for file in files]), expected, atol=1e-6)
    assert record["judged_shapes"] == 40
    for loss in ("linear", "tukey"):
        run("project", model, folder, "-o", tmp_path / f"{loss}.npz", "--loss", loss)
    a, b = (np.load(tmp_path / f"{loss}.npz")["shapes"] for loss in ("linear", "tukey"))
    np.testing.assert_allclose(a, expected)
    assert not np.allclose(a, b)


def test_complete_fills_what_is_missing(tmp_path, faces, model):
    shapes = faces.copy()
    shapes[2, 30] = np.nan
    np.savez(tmp_path / "gap.npz", shapes=shapes)
    record = json.loads(run("complete", model, tmp_path / "gap.npz", "-o", tmp_path / "whole.npz", "--json"))
    whole = np.load(tmp_path / "whole.npz")["shapes"]
    assert record["filled_landmarks"] == 1
    seen = np.isfinite(shapes)
    np.testing.assert_array_equal(whole[seen], shapes[seen])
    assert np.linalg.norm(whole[2, 30] - faces[2, 30]) < 10
    out = run("complete", model, tmp_path / "gap.npz", "-o", tmp_path / "whole.csv")
    assert "1 missing landmark" in out
    assert "no better than" not in out
    assert record["no_better_than_mean"] is False


def test_complete_says_when_the_mean_would_do_as_well(tmp_path, rng):
    shapes = 10 * rng.normal(size=(12, 2)) + rng.normal(scale=0.5, size=(40, 12, 2))  # no landmark tells of another
    save_model(AlignedASM().fit(shapes), tmp_path / "model.npz")
    shapes[:3, 2:5] = np.nan
    np.savez(tmp_path / "gap.npz", shapes=shapes)
    out = run("complete", tmp_path / "model.npz", tmp_path / "gap.npz", "-o", tmp_path / "whole.npz")
    assert "no better than by pasting its mean" in out


def test_a_shape_that_cannot_be_fitted_is_named_and_harms_no_other(tmp_path, faces, model):
    shapes = faces[:5].copy()
    shapes[1], shapes[3, 2:] = shapes[1, 0], np.nan
    shapes[3, :2] = shapes[3, 0]
    names = [f"p/{letter}" for letter in "abcde"]
    np.savez(tmp_path / "bad.npz", shapes=shapes, names=names)
    np.savez(tmp_path / "good.npz", shapes=shapes[[0, 2, 4]], names=[names[i] for i in (0, 2, 4)])
    for command in ("project", "complete"):
        error = run(command, model, tmp_path / "bad.npz", "-o", tmp_path / "b.npz", code=1)
        assert "2 of 5 shapes could not be fitted and are missing in the result: p/b, p/d" in error
        run(command, model, tmp_path / "good.npz", "-o", tmp_path / "g.npz")
        with np.load(tmp_path / "b.npz") as bad, np.load(tmp_path / "g.npz") as good:
            np.testing.assert_allclose(bad["shapes"][[0, 2, 4]], good["shapes"], atol=1e-9)
            assert np.isnan(bad["shapes"][[1, 3]]).all()
    for arguments in (["fit", "-o", tmp_path / "m.npz"], ["align", "-o", tmp_path / "a.npz"]):
        assert run(arguments[0], tmp_path / "bad.npz", *arguments[1:], code=1).startswith("Error: p/b has no size")


def test_align_superimposes(tmp_path, folder):
    record = json.loads(run("align", folder, "-o", tmp_path / "a.npz", "--tangent", "--json"))
    aligned = np.load(tmp_path / "a.npz")["shapes"]
    np.testing.assert_allclose(aligned.mean(axis=0), record["mean"], atol=1e-6)
    assert record["converged"] is True
    assert "disparity" in run("align", folder, "-o", tmp_path / "a.npz", "--keep-size")


def test_info_of_models_and_landmarks(folder, model):
    assert json.loads(run("info", model, "--json"))["n_components"] == 8
    assert "AlignedASM" in run("info", "face68")
    assert json.loads(run("info", folder, "--json"))["n_samples"] == 40


@pytest.mark.parametrize("command", ["fit", "align", "convert"])
def test_a_result_never_replaces_what_is_read(tmp_path, faces, command):
    np.savez(tmp_path / "a.npz", shapes=faces)
    before = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "link.npz").symlink_to("a.npz")
    for name in ("a.npz", "link.npz"):
        result = CliRunner().invoke(main, [command, str(tmp_path / "a.npz"), "-o", str(tmp_path / name)])
        assert result.exit_code == 1
        assert "is the input and would be replaced" in result.output
    assert (tmp_path / "a.npz").read_bytes() == before


def test_json_knows_no_nan(capsys):
    say(True, {"a": np.nan, "b": np.array([1.5, np.inf]), "c": {"d": [None, -np.inf]}}, [])
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": None, "b": [1.5, None], "c": {"d": [None, None]},
    }  # fmt: skip


def test_info_counts_curves_without_landmarks(tmp_path):
    points = [{"position": [x, y, 0.0]} for x, y in ((0.0, 0.0), (4.0, 0.0), (4.0, 3.0))]
    markup = {"type": "ClosedCurve", "coordinateSystem": "LPS", "controlPoints": points}
    for name in ("a", "b"):
        (tmp_path / f"{name}.mrk.json").write_text(json.dumps({"markups": [markup, markup]}))
    record = json.loads(run("info", tmp_path, "--json"))
    assert (record["n_samples"], record["n_landmarks"], record["curves"]) == (2, 0, 4)
    assert "median_centroid_size" not in record


def test_info_of_arrays(tmp_path, faces):
    np.savez(tmp_path / "a.npz", shapes=faces)
    assert json.loads(run("info", tmp_path / "a.npz", "--json"))["n_landmarks"] == 68


@pytest.mark.parametrize("command", ["fit", "diagnose"])
def test_curves_that_are_left_out_are_said(tmp_path, faces, command):
    curve = {"curves": [np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])]}
    for name, attributes in (("drawn", curve), ("bare", {})):
        files = [LandmarkFile(face, frame="y_up", attributes=attributes) for face in faces[:12]]
        write_landmarks(tmp_path / f"{name}.tps", files)
    more = ["-o", tmp_path / "m.npz"] if command == "fit" else ["-n", 2]
    said = {
        name: CliRunner().invoke(main, [command, *map(str, [tmp_path / f"{name}.tps", *more])])
        for name in ("drawn", "bare")
    }
    assert [result.exit_code for result in said.values()] == [0, 0]
    assert "without 1 curve beside them. Try shape_models.attach_curves" in said["drawn"].stderr
    assert "curve" not in said["bare"].stderr


def test_diagnose_gives_curves(tmp_path, folder):
    picture = tmp_path / "d.png"
    record = json.loads(run("diagnose", folder, "-n", 4, "--json", "--plot", picture))
    assert len(record["generalization"]) == 4
    assert record["generalization"][0] > record["generalization"][3]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_diagnose_names_mirror_images(tmp_path, faces):
    faces = faces.copy()
    faces[[1, 4, 6]] *= [-1, 1]
    np.save(tmp_path / "faces.npy", faces)
    assert json.loads(run("diagnose", tmp_path / "faces.npy", "--json"))["mirrored"] == [
        "faces#1",
        "faces#4",
        "faces#6",
    ]
    assert "mirror images of the rest: faces#1, faces#4, faces#6" in run("diagnose", tmp_path / "faces.npy")


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "shape_models", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("shape-models")


def test_convert_between_formats_and_schemes(tmp_path, folder, faces):
    run("convert", folder, tmp_path / "all.csv")
    run("convert", tmp_path / "all.csv", tmp_path / "again")
    back = np.stack([file.points for file in read_landmarks(tmp_path / "again")])
    np.testing.assert_allclose(back, faces, atol=1e-6)
    text = run("convert", folder, tmp_path / "c29.csv", "--scheme", "ibug68", "--to-scheme", "cofw29")
    assert "17 exact" in text
    assert np.asarray(read_landmarks(tmp_path / "c29.csv")).shape == (40, 29, 2)
    assert "--scheme" in run("convert", folder, tmp_path / "x.csv", "--to-scheme", "cofw29", code=2)


@pytest.mark.parametrize("what", ["modes", "spectrum", "clip", "shapes"])
def test_plots_are_pictures(tmp_path, folder, model, what):
    sources = {"modes": [model], "spectrum": [model], "clip": [model, folder, "--index", 3], "shapes": [folder]}
    path = tmp_path / "p.png"
    run("plot", what, *sources[what], "-o", path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_explore_writes_a_page(tmp_path, model):
    run("explore", model, "-o", tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text()
    assert "<html" in text
    assert '"title": "model"' in text
    run("explore", model, "-o", tmp_path / "e.html", "--edges", "0-1,1-67", "--title", "lines", "--y-up")
    text = (tmp_path / "e.html").read_text()
    assert '"edges": [[0, 1], [1, 67]]' in text
    assert '"title": "lines"' in text
    assert '"y_up": true' in text
    assert "outside 0 to 67" in run("explore", model, "-o", tmp_path / "x.html", "--edges", "0-68", code=1)
    assert "pairs of landmarks" in run("explore", model, "-o", tmp_path / "x.html", "--edges", "0,1", code=2)
    assert not (tmp_path / "x.html").exists()


def test_demo_gains_on_the_photograph_that_ships(tmp_path, monkeypatch):
    monkeypatch.delenv("SHAPE_MODELS_DATA", raising=False)
    text = run("demo", "-o", tmp_path / "out")
    assert "astronaut" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert len(rows) == 3
    assert all(float(row[-1]) < float(row[-2]) for row in rows)
    for name in ("repaired.png", "modes.png"):
        assert str((tmp_path / "out" / name).resolve()) in text
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.data
def test_real_faces(tmp_path, data_dir):
    out = tmp_path / "face.npz"
    record = json.loads(run("fit", data_dir / "300w", "--split", "train", "--scheme", "ibug68", "-o", out, "--json"))
    assert record["n_samples"] == 1750
    assert record["mirrored"] == []
    np.testing.assert_allclose(record["explained_variance_ratio"][:3], [0.546, 0.144, 0.064], atol=2e-3)
    bundled = load_model("face68").asm_
    np.testing.assert_allclose(load_model(out).asm_.explained_variance_, bundled.explained_variance_, rtol=1e-6)


BAD = [
    (["fit", "{tmp}/nothing", "-o", "{tmp}/m.npz"], 1, "no such file"),
    (["fit", "{tmp}/empty", "-o", "{tmp}/m.npz"], 1, "empty"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "--scheme", "wflw98"], 1, "98"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "--scheme", "nonsense"], 1, "nonsense"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "-n", "1.5"], 2, "fraction"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "-n", "4000"], 1, "4000"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "--limit", "x"], 2, "none"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "--limit", "-1"], 1, "-1"),
    (["fit", "{faces}", "-o", "{tmp}/m.npz", "--split", "train"], 1, "train"),
    (["fit", "{faces}"], 2, "output"),
    (["fit", "{tmp}/broken.npz", "-o", "{tmp}/m.npz"], 1, "broken.npz"),
    (["fit", "{tmp}/mixed", "-o", "{tmp}/m.npz"], 1, "same number"),
    (["project", "face69", "{faces}", "-o", "{tmp}/o"], 1, "face69"),
    (["project", "{tmp}/broken.npz", "{faces}", "-o", "{tmp}/o"], 1, "broken.npz"),
    (["project", "face68", "{tmp}/small.csv", "-o", "{tmp}/o"], 1, "the model has"),
    (["project", "face68", "{faces}", "-o", "{tmp}/o.foo"], 1, "foo"),
    (["plot", "modes", "face68", "-o", "{tmp}/p.foo"], 1, "foo"),
    (["plot", "clip", "face68", "{faces}", "--index", "99", "-o", "{tmp}/p.png"], 2, "99"),
    (["info", "{tmp}/nothing"], 1, "nothing"),
    (["nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_errors_are_one_line(tmp_path, folder, arguments, code, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 this is no archive")
    (tmp_path / "mixed").mkdir()
    for i, k in enumerate((5, 6)):
        write_landmarks(tmp_path / "mixed" / f"{i}.pts", np.random.default_rng(0).normal(size=(k, 2)))
    write_landmarks(tmp_path / "small.csv", np.random.default_rng(0).normal(size=(3, 5, 2)))
    before = sorted(tmp_path.iterdir())
    error = run(*(a.format(tmp=tmp_path, faces=folder) for a in arguments), code=code)
    assert message in error
    assert len([line for line in error.splitlines() if line.startswith("Error: ")]) == 1
    if code == 1:
        assert len(error.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_help_and_version_start_without_heavy_imports():
    code = (
        "import sys; from shape_models.cli import main; main(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'matplotlib', 'PIL', 'skimage'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    assert "fit" in out.stdout
    assert run("--version").startswith("shape-models, version")


def test_scales_do_not_survive_a_change_of_size(tmp_path):
    """A scale is lengths for a pixel: of shapes that were made equally large it says nothing."""
    shapes = make_faces(4, rng=0)
    records = [LandmarkFile(s, image_name=f"{i}.jpg", attributes={"scale": 0.5}) for i, s in enumerate(shapes)]
    write_landmarks(tmp_path / "a.csv", records)
    for extra, kept in ((), None), (("--keep-size",), 0.5):
        run("align", tmp_path / "a.csv", "-o", tmp_path / "b.csv", *extra)
        assert {file.scale for file in read_landmarks(tmp_path / "b.csv")} == {kept}
