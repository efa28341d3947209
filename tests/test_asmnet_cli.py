"""The command line, end to end on drawn faces: train, resume, evaluate, predict, export, info; and its refusals."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import asmnet
from asmnet import Predictor, TrainConfig, build_network, transfer_trunk
from asmnet.checkpoints import read_tensors
from asmnet.cli import main
from asmnet.pseudo_labels import labelled, own_labeller
from asmnet.robustness import jittered
from shape_models import make_faces, read_landmarks, write_landmarks
from shape_models.datasets import load_landmarks

NARROW = 'network_options={"width": 0.25}'
SMALL = [*"--epochs 2 --batch-size 8 --size 64 --set warmup_epochs=0 --set augmentation.flip=0.3".split()]
SMALL += ["--set", NARROW, "--set", "picture_epochs=2"]


IBUG = ["--format", "folder", "--scheme", "ibug68"]


def run(*arguments, ok=True):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert (result.exit_code == 0) is ok, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen images of dots where the landmarks are, each with its .pts."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    faces = make_faces(16, rng=0)
    faces = (faces - faces.mean((1, 2), keepdims=True)) / np.ptp(faces, axis=(1, 2), keepdims=True).max()
    for i, face in enumerate(90 * faces + rng.uniform(70, 90, (16, 1, 2))):
        image = rng.integers(0, 60, (160, 170, 3)).astype(np.uint8)
        for x, y in np.round(face).astype(int):
            image[y - 1 : y + 2, x - 1 : x + 2] = 230
        Image.fromarray(image).save(root / f"{i:02}.png")
        write_landmarks(root / f"{i:02}.pts", face)
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    result = run("train", folder, *IBUG, "--out", root / "tiny", "--cache", root, "--val-fraction", 0.25, *SMALL)
    return root, root / "tiny" / "tiny.safetensors", result.output


def test_train_writes_model_card_metrics_and_pictures(trained):
    _root, model, output = trained
    assert "best epoch" in output
    assert "of the time spent on data" in output
    names = {p.name for p in model.parent.iterdir()}
    assert {
        "tiny.safetensors",
        "tiny.json",
        "tiny.md",
        "metrics.csv",
        "last.safetensors",
        "best.safetensors",
        "curves.png",
        "worst.png",
        "faces-0002.png",
    } <= names
    card = model.with_suffix(".md").read_text()
    assert "NME (inter_ocular), 4 validation faces" in card
    assert "pose MAE" in card
    assert "Error by part of the face" in card
    assert '"batch_size": 8' in card
    header = json.loads(model.with_suffix(".json").read_text())
    assert header["scheme"] == "ibug68"
    assert header["config"]["augmentation"]["flip"] == 0.3


def test_training_starts_from_given_weights(trained, folder, tmp_path):
    """At a vanishing rate the weights stay those that were given; another network's are refused."""
    root, model, _ = trained
    base = [
        "train",
        folder,
        *IBUG,
        "--cache",
        root,
        *SMALL,
        "--set",
        "ema=0",
        "--set",
        "learning_rate=1e-12",
        "--set",
        "seed=5",
    ]
    run(*base, "--out", tmp_path / "again", "--initial", model)
    given, kept = (Predictor.from_pretrained(m).model.network for m in (model, tmp_path / "again/again.safetensors"))
    for (name, a), b in zip(given.named_parameters(), kept.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=1e-3, err_msg=name)
    assert "started from the weights of tiny" in (tmp_path / "again" / "again.md").read_text()
    wrong = run(*base, "--out", tmp_path / "other", "--initial", "asmnet-68", ok=False)
    assert "initial: asmnet-68: " in wrong.output


def test_images_without_annotation_are_labelled_and_learned_from(folder, tmp_path, monkeypatch):
    """Ten annotated faces, six without: the surest half is kept, and annotated ones are not labelled again."""
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(folder.iterdir())[:20]:
        shutil.copy(path, some)
    others = tmp_path / "others"
    others.mkdir()
    boxes = ["image,x0,y0,x1,y1"]
    for path in sorted(folder.glob("*.png"))[10:]:
        shutil.copy(path, others)
        shape = read_landmarks(path.with_suffix(".pts")).points
        boxes.append(",".join([path.name, *(f"{value:.2f}" for value in [*shape.min(0), *shape.max(0)])]))
    (tmp_path / "boxes.csv").write_text("\n".join(boxes))
    (others / "linked.png").symlink_to(some / "00.png")  # an annotated one
    base = ["train", some, *IBUG, "--cache", tmp_path, *SMALL[:-2], "--no-pose"]
    more = ["--unlabelled", others, "--unlabelled-boxes", tmp_path / "boxes.csv", "--unlabelled-fraction", 0.5]
    made = run(*base, *more, "--labeller", "search68", "--out", tmp_path / "run")
    words = "3 of 6 objects without annotation labelled by search68, expected errors up to "
    assert words in made.output
    assert words in (tmp_path / "run" / "run.md").read_text()
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["config"]["extra_fraction"] == 0.3
    _, state = read_tensors(tmp_path / "run" / "last.safetensors")
    assert len(state["data"]["training"]) == 2
    again = run(*base, *more, "--labeller", "search68", "--out", tmp_path / "run", "--resume")
    assert words in again.output
    wrong = run(*base, *more, "--labeller", "face68", "--out", tmp_path / "no", ok=False)
    assert "face68: got a AlignedASM; expected a search or a network" in wrong.output
    wrong = run(*base, "--labeller", "search68", "--out", tmp_path / "no", ok=False)
    assert "--unlabelled: got none" in wrong.output
    wrong = run(*base, "--unlabelled", some, "--out", tmp_path / "no", ok=False)
    assert "got only annotated images" in wrong.output
    assert not (tmp_path / "no").exists()
    # Training moves all labels back: those of a network, which have no offset, are moved there before; not a search's.
    given = {}

    def stopped(config, dataset, *_, extra, **__):
        given[config.label_offset] = extra[0].landmarks
        raise ValueError("stopped")

    monkeypatch.setattr(asmnet, "train", stopped)
    for labeller, moves in (("search68", 0.0), ("asmnet-68", 0.01)):
        for offset in (0.0, 0.01):
            run(
                *base,
                *more,
                "--labeller",
                labeller,
                "--set",
                f"label_offset={offset}",
                "--out",
                tmp_path / "n",
                ok=False,
            )
        eyes = given[0.0][:, 45] - given[0.0][:, 36]
        np.testing.assert_allclose(given[0.01] - given[0.0], np.repeat(moves * eyes[:, None], 68, 1), atol=1e-6)


def test_a_search_of_the_annotated_images_labels_the_others(folder, tmp_path):
    samples = load_landmarks(folder, scheme="ibug68")
    labeller = own_labeller(samples[:12])
    boxes = [[*sample.landmarks.min(0), *sample.landmarks.max(0)] for sample in samples[12:]]
    found, worst = labelled(labeller, [sample.image for sample in samples[12:]], boxes, 1.0)
    assert [sample.image for sample in found] == [sample.image for sample in samples[12:]]
    off = [np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() for a, b in zip(found, samples[12:], strict=True)]
    assert np.mean(off) < 0.05 * np.hypot(90, 90)
    assert 0 < worst < 0.2


def test_few_images_start_from_the_trunk_of_another_network(trained, folder, tmp_path):
    """At a vanishing rate all weights that fit stay those that were given."""
    root, _, _ = trained
    few = "--preset few --epochs 1 --size 64 --no-pose --set learning_rate=1e-12 --set ema=0 --set augmentation.flip=0"
    base = ["train", folder, *IBUG, "--cache", root, *few.split()]
    run(*base, "--out", tmp_path / "few", "--trunk", "hourglass-68")
    given = Predictor.from_pretrained("hourglass-68").model.network.state_dict()
    kept = dict(Predictor.from_pretrained(tmp_path / "few/few.safetensors").model.network.named_parameters())
    for name, value in kept.items():
        np.testing.assert_allclose(value.detach(), given[name], atol=1e-3, err_msg=name)
    assert "started from the trunk of hourglass-68" in (tmp_path / "few" / "few.md").read_text()
    refused = run(*base, "--out", tmp_path / "other", "--trunk", "asmnet-68", ok=False)
    assert "expected at least half" in refused.output
    both = run(*base, "--out", tmp_path / "other", "--trunk", "hourglass-68", "--initial", "hourglass-68", ok=False)
    assert "expected one of the two" in both.output


def test_a_trunk_serves_any_number_of_landmarks():
    config = TrainConfig.few(20, n_landmarks=12, seed=3)
    weights = transfer_trunk("hourglass-68", config)
    assert weights["heads.0.weight"].shape[0] == 12
    again = transfer_trunk("hourglass-68", config)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    other = transfer_trunk("hourglass-68", replace(config, seed=4))
    assert not torch.equal(weights["heads.0.weight"], other["heads.0.weight"])
    build_network("hourglass-small", 12).load_state_dict(weights)


@pytest.mark.parametrize(("n_images", "epochs", "batch"), [(2, 4000, 2), (20, 400, 16), (1000, 10, 16)])
def test_few_images_are_seen_often(n_images, epochs, batch):
    config = TrainConfig.few(n_images)
    assert (config.epochs, config.batch_size) == (epochs, batch)
    with pytest.raises(ValueError, match="n_images: got 1"):
        TrainConfig.few(1)


def test_heat_map_networks_learn_depths(trained, folder, tmp_path):
    root, _, _ = trained
    out = tmp_path / "deep"
    options = ["--set", 'network_options={"width": 0.25, "depth_head": true}', "--no-pose", "--val-fraction", 0.25]
    common = ["--network", "hourglass-small", "--size", 32, "--epochs", 1, "--batch-size", 4, "--out", out]
    run("train", folder, *IBUG, "--cache", root, *common, *options)
    assert "depth, mean absolute difference from the fitted 3-D face model" in (out / "deep.md").read_text()
    (face,) = Predictor.from_pretrained(out / "deep.safetensors")(folder / "00.png", [40, 40, 130, 130])
    assert face.depth.shape == (68,)
    assert np.isfinite(face.depth).all()
    refused = run("train", folder, "--format", "folder", "--cache", root, *common, *options, ok=False)
    assert "depth_head: the faces name no scheme" in refused.output


def test_resume_of_a_finished_run_changes_nothing(trained, folder):
    root, model, _ = trained
    before = (model.parent / "last.safetensors").read_bytes()
    again = [
        "train",
        folder,
        *IBUG,
        "--out",
        root / "tiny",
        "--cache",
        root,
        "--val-fraction",
        0.25,
        *SMALL,
        "--resume",
    ]
    run(*again)
    assert (model.parent / "last.safetensors").read_bytes() == before
    wrong = run(*again, "--set", "learning_rate=1", ok=False)
    assert "other settings of learning_rate" in wrong.output


def test_evaluate(trained, folder):
    model = trained[1]
    plain = json.loads(run("evaluate", model, folder, *IBUG, "--json").output)
    text = run("evaluate", model, folder, *IBUG, "--flip", "--jitter", 0.1, "--passes", 2).output
    assert "NME" in text
    assert json.dumps(plain).count("NME") >= 1


def test_predict_writes_all_forms(trained, folder, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n00.png,30,30,130,140\n01.png,30,30,130,140\n01.png,40,30,120,130\n")
    forms = [part for name in ("overlay", "pts", "json", "csv") for part in ("--format", name)]
    output = run(
        "predict",
        folder / "00.png",
        folder / "01.png",
        "--model",
        trained[1],
        "--boxes",
        boxes,
        "--out",
        tmp_path,
        *forms,
    ).output
    assert "00.png: 1 face(s)" in output
    assert "01.png: 2 face(s)" in output
    words = json.loads((tmp_path / "landmarks.json").read_text())
    face = words[str(folder / "00.png")][0]
    points = read_landmarks(tmp_path / "00.pts").points
    np.testing.assert_allclose(points, face["landmarks"], atol=0.02)
    assert (tmp_path / "01#1.pts").is_file()
    with (tmp_path / "landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert float(rows[0]["x0"]) == pytest.approx(points[0, 0], abs=0.01)
    assert float(rows[0]["yaw"]) == pytest.approx(face["pose"]["yaw"], abs=0.01)
    with Image.open(tmp_path / "00-landmarks.png") as overlay:
        assert overlay.size == (170, 160)


def test_predict_names_what_it_cannot_use_and_goes_on(trained, folder, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("x0,image,y0,x1,y1\n1,broken.png,1,9,9\n30,00.png,30,130,140\n")
    options = ["--model", trained[1], "--boxes", boxes, "--out", tmp_path, "--format", "json"]
    result = run("predict", tmp_path / "broken.png", folder / "00.png", *options, ok=False)
    assert "broken.png" in result.output
    assert "1 of 2 images could not be used" in result.output
    assert list(json.loads((tmp_path / "landmarks.json").read_text())) == [str(folder / "00.png")]


def test_predict_names_boxes_it_cannot_use_and_uses_their_neighbours(trained, folder, tmp_path):
    boxes, out = tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text("image,x0,y0,x1,y1\n00.png,30,30,130,140\n00.png,900,30,990,140\n01.png,30,30,130,140\n")
    forms = [word for form in ("json", "csv", "pts", "overlay") for word in ("--format", form)]
    result = run(
        "predict",
        folder / "00.png",
        folder / "01.png",
        "--model",
        trained[1],
        "--boxes",
        boxes,
        "--out",
        out,
        *forms,
        ok=False,
    )
    assert "boxes[1]: got [900" in result.output
    assert "1 of the boxes could not be used" in result.output
    faces = json.loads((out / "landmarks.json").read_text())[str(folder / "00.png")]
    assert [face["status"] for face in faces] == ["unlike the model", "error"]  # the network is not trained
    assert sorted(path.name for path in out.glob("*.pts")) == ["00#0.pts", "01.pts"]
    with (out / "landmarks.csv").open() as file:
        assert [row["x0"] == "nan" for row in csv.DictReader(file)] == [False, True, False]


def test_info(trained):
    text = run("info").output
    assert "asmnet " in text
    assert "1,412,435" in text
    assert "0.513" in text
    rows = {row["name"]: row for row in json.loads(run("info", "--json").output)}
    assert rows["mobilenetv2"]["parameters"] == 2_401_931
    assert "## Licence" in run("info", trained[1]).output
    assert json.loads(run("info", trained[1], "--json").output)["name"] == "tiny"


def test_corrupt_images_stop_the_training_unless_skipped(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for path in folder.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    (data / "03.png").write_bytes(b"broken")
    arguments = ["train", data, "--out", tmp_path / "out", "--cache", tmp_path, *SMALL, "--set", "epochs=1"]
    refused = run(*arguments, ok=False)
    assert "1 image file(s) cannot be read" in refused.output
    assert "03.png" in refused.output
    with pytest.warns(UserWarning, match=r"1 image file\(s\) skipped"):
        run(*arguments, "--skip-corrupt", "--no-pose")
    assert (
        "not measured" in (tmp_path / "out" / "out.md").read_text()
        or "Nothing was measured" in (tmp_path / "out" / "out.md").read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", ".", "--out", "x", "--set", "colour=1"], "no option is called 'colour'"),
        (["train", ".", "--out", "x", "--set", "augmentation.rotate=3"], "expected one of aspect, blur"),
        (["train", ".", "--out", "x", "--set", "network_options.widht=0.5"], "expected one of dropout, pose, width"),
        (["train", ".", "--out", "x", "--set", "criterion_options.from=1"], "expected one of as_released, asm_form"),
        (["train", ".", "--out", "x", "--set", "epochs=many"], "epochs: got 'many'; expected a whole number"),
        (["train", ".", "--out", "x", "--set", "epochs.x=1"], "has no parts"),
        (["train", ".", "--out", "x", "--val-fraction", "1.5"], "fraction between 0 and 1"),
        (["distill", ".", "--out", "x", "--val-fraction", "0"], "fraction between 0 and 1"),
        (["train", ".", "--out", "x", "--set", "colour"], "NAME=VALUE"),
        (["train", ".", "--out", "x", "--format", "imm", "--scheme", "ibug68"], "expected person-pose-sex"),
        (["train", ".", "--out", "x", "--val-split", "a", "--val-fraction", "0.1"], "at most one"),
        (["info", "nothing-68"], "no such file"),
        (["predict", "nowhere.png"], "nowhere.png"),
        (["export", "nothing-68", "x.onnx"], "no such file"),
    ],
)
def test_wrong_calls_say_what_is_wrong(arguments, words, folder, tmp_path):
    arguments = [str(folder) if a == "." else str(tmp_path / "x") if a == "x" else a for a in arguments]
    assert words in run(*arguments, ok=False).output


def test_outputs_of_two_images_never_share_a_name(trained, folder, tmp_path):
    """Images of one stem in two folders, and of two formats in one: every face has a file of its own."""
    for name in ("p1/01.png", "p2/01.png", "p1/01.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(folder / "00.png").save(tmp_path / name)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "y0,image,x0,y1,x1\n" + "".join(f"30,{n},30,140,130\n" for n in ("p1/01.png", "p2/01", "p1/01.bmp"))
    )
    arguments = ["predict", tmp_path / "p1", tmp_path / "p2", "--model", trained[1], "--format", "pts", "-o"]
    found = json.loads(run(*arguments, tmp_path / "o", "--boxes", boxes, "--json").stdout)
    assert len(found) == 3
    written = sorted(p.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("*.pts"))
    assert written == ["p1/01.bmp.pts", "p1/01.png.pts", "p2/01.pts"]
    boxes.write_text("image,x0,y0,x1,y1\n01.png,30,30,130,140\n01.bmp,30,30,130,140\n")
    refused = run(*arguments, tmp_path / "n", "--boxes", boxes, ok=False)
    assert "'01.png', the name of" in refused.output
    assert not (tmp_path / "n").exists()


def test_jitter_and_overlap():
    boxes = np.tile([10.0, 20.0, 50.0, 100.0], (500, 1))
    moved = jittered(boxes, 0.1)
    centres = (moved[:, :2] + moved[:, 2:]) / 2 - [30, 60]
    assert np.abs(centres).max() <= 8
    assert np.abs(centres).max() > 7
    ratio = (moved[:, 2] - moved[:, 0]) / 40
    assert 0.9 <= ratio.min() < 0.92
    assert 1.08 < ratio.max() <= 1.1
    np.testing.assert_array_equal(jittered(boxes, 0.0), boxes)


def test_distill_trains_two_teachers_and_a_student_and_resumes(folder, tmp_path):
    small = "--student asmnet --teacher mobilenetv2 --epochs 1 --batch-size 8 --size 64 --set warmup_epochs=0".split()
    narrow = ["--set", NARROW, "--teacher-set", NARROW]
    arguments = ["distill", folder, *IBUG, "--out", tmp_path / "kd", "--cache", tmp_path, *small, *narrow]
    first = run(*arguments)
    trained = [line.split(":")[0] for line in first.stdout.splitlines() if ": best epoch 1 of 1, NME " in line]
    assert trained == ["tough", "tolerant", "student"]
    assert Predictor.from_pretrained(tmp_path / "kd" / "student" / "kd.safetensors").model.network.heads.pose is None
    assert (tmp_path / "kd" / "student" / "kd.safetensors").is_file()
    card = (tmp_path / "kd" / "student" / "kd.md").read_text()
    assert "distilled from tough and tolerant teacher (mobilenetv2)" in card
    before = (tmp_path / "kd" / "student" / "best.safetensors").read_bytes()
    run(*arguments, "--resume")
    assert (tmp_path / "kd" / "student" / "best.safetensors").read_bytes() == before
    refused = run(*arguments, "--set", "preprocessing.margin=1.6", ok=False)
    assert "same preprocessing" in refused.output


def test_predict_goes_on_with_what_is_missing(trained, folder, tmp_path):
    images, boxes, out = [folder / f"0{k}.png" for k in range(3)], tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text("image,x0,y0,x1,y1\n" + "".join(f"{path.name},30,30,130,140\n" for path in images))
    arguments = ["predict", *images, "--model", trained[1], "--boxes", boxes, "--out", out]
    arguments += [part for name in ("pts", "json", "csv") for part in ("--format", name)]
    run(*arguments)
    before = {name: (out / name).read_text() for name in ("landmarks.json", "landmarks.csv", "landmarks.jsonl")}
    lines = before["landmarks.jsonl"].splitlines(keepends=True)
    (out / "landmarks.jsonl").write_text(lines[0] + lines[1][:30])  # broken off in the second image
    (out / "landmarks.json").unlink()
    stamp = (out / "00.pts").stat().st_mtime_ns
    run(*arguments, "--resume")
    assert {name: (out / name).read_text() for name in before} == before
    assert json.loads(before["landmarks.json"]).keys() == {str(path) for path in images}
    assert (out / "00.pts").stat().st_mtime_ns == stamp
