"""Cards and reports of sets that lack something: one image, no eyes, landmarks of no face, heads beyond profile."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from asmnet import LandmarkDataset, Predictor
from asmnet._pose_labels import angle_errors, angles_in_degrees, scaled_angles, turned_angles
from asmnet._preparation import fit_shape_model
from asmnet._scores import known_mean, mean_interval, percent
from asmnet.checkpoints import load_pretrained
from asmnet.cli import main
from asmnet.measuring import Measured
from asmnet.robustness import robustness
from asmnet.training import face_errors
from evaluation import evaluate, nme
from pose import conventions
from shape_models import ASM, IBUG68, AlignedASM, make_faces, write_pts

SMALL = ["--epochs", "1", "--batch-size", "4", "--size", "32", "--set", "network_options.width=0.25"]
SMALL += ["--set", "warmup_epochs=0", "--set", "picture_epochs=0"]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def save_faces(folder, shapes, names=None):
    folder.mkdir()
    for i, shape in enumerate(shapes):
        name = f"{i:02}" if names is None else names[i]
        image = np.full((120, 150, 3), 40 + i, dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{name}.png")
        write_pts(folder / f"{name}.pts", shape)
    return folder


@pytest.fixture(scope="module")
def shapes():
    found = make_faces(8, rng=3)
    middle, size = found.mean((1, 2), keepdims=True), np.ptp(found, axis=(1, 2), keepdims=True).max()
    return 80 * (found - middle) / size + [75, 60]


def test_a_mean_of_one_image_has_no_interval():
    values, groups = np.array([0.1, 0.3, np.nan]), np.array(["a", "a", "b"])
    found = mean_interval(values, groups)
    assert found.estimate == pytest.approx(0.2)
    assert (found.n, math.isnan(found.low), math.isnan(found.high)) == (2, True, True)
    assert percent(found) == "20.00 % (too few images for an interval)"
    both = mean_interval(values[:2], np.array(["a", "b"]))
    assert both.low < both.estimate < both.high
    np.testing.assert_array_equal(known_mean(np.array([[1.0, np.nan, 3], [np.nan] * 3])), [2, np.nan])


def test_new_shapes_are_plausible_to_the_model_of_few():
    """Plain variances of fifteen shapes call two out of three new ones of the same kind implausible."""
    shapes = make_faces(115, rng=4)
    data = LandmarkDataset.from_arrays(np.zeros((15, 8, 8, 3), np.uint8), shapes[:15])
    model = fit_shape_model(data, IBUG68)
    plain = AlignedASM(ASM(0.98), scheme=IBUG68).fit(shapes[:15])
    new, old = (np.median(m.report(shapes[15:]).plausibility) for m in (model, plain))
    assert old < 0.01 < 0.1 < new


def test_a_training_ends_with_a_card_whatever_its_validation_faces_lack(shapes, tmp_path):
    # Two faces of one image, one of them without an eye corner: one mean, no interval.
    lacking = shapes[6:].copy()
    lacking[1, 36] = np.nan
    faces = save_faces(tmp_path / "faces", shapes[:6])
    held_out = save_faces(tmp_path / "held_out", lacking)
    (held_out / "split.csv").write_text("file,source image,split\n00.png,one,val\n01.png,one,val\n")
    options = ["--scheme", "ibug68", "--val", held_out, "--cache", tmp_path / "cache", "--no-pose", *SMALL]
    run("train", faces, *options, "--out", tmp_path / "net")
    card = (tmp_path / "net" / "net.md").read_text()
    model = load_pretrained(tmp_path / "net" / "net.safetensors")
    metrics = dict(model.header["metrics"])
    assert metrics["faces left out of the mean: what errors are divided by is not known"] == "1"
    assert "too few images for an interval" in metrics["NME (inter_ocular), 2 validation faces, true boxes"]
    assert "6 faces (faces: all), 2 to choose by" in card
    report = json.loads(run("evaluate", tmp_path / "net" / "net.safetensors", held_out, "--scheme", "ibug68", "--json"))
    assert report["rows"][0]["metrics"]["NME"]["low"] is None


def test_changed_images_of_one_person_have_means_without_intervals(shapes):
    points = 0.7 * shapes[:2]
    data = LandmarkDataset.from_arrays(np.full((2, 112, 112, 3), 128, np.uint8), points, groups=("a", "a"))
    found = robustness(Predictor.from_pretrained("asmnet-68"), data, n_passes=1)["as it is"]
    assert 0 < found.estimate < 1
    assert math.isnan(found.low)


def test_trainer_and_card_divide_by_the_same_length(shapes):
    data = LandmarkDataset.from_arrays(np.zeros((3, 120, 150, 3), np.uint8)[:, :120, :120], shapes[:3] - [20, 0])
    guess = data.landmarks + np.random.default_rng(0).normal(size=data.landmarks.shape)
    expected = nme(data.landmarks, guess, normalizer="box_geometric_mean")
    np.testing.assert_allclose(face_errors(data, guess, None), expected, rtol=1e-12)


@pytest.mark.parametrize("given", [["--val-split", "all"], ["--val"]])
def test_faces_to_validate_on_are_not_those_to_train_on(shapes, tmp_path, given):
    faces = save_faces(tmp_path / "faces", shapes[:4])
    (faces / "split.csv").write_text("".join(f"{i:02}.png,{i},all\n" for i in range(4)))
    given = [*given, faces] if given == ["--val"] else given
    said = run("train", faces, "--scheme", "ibug68", *given, "--out", tmp_path / "net", *SMALL, code=1)
    assert f"{given[0]}: 4 of 4 faces are also trained on" in said
    assert not (tmp_path / "net").exists()


def test_only_faces_are_searched_for(shapes, tmp_path):
    wings = save_faces(tmp_path / "wings", shapes[:, :12])
    model = tmp_path / "net" / "net.safetensors"
    run("train", wings, "--out", tmp_path / "net", "--cache", tmp_path / "cache", *SMALL)
    assert "# net\n\n12 landmarks, network" in (tmp_path / "net" / "net.md").read_text()
    said = "expected them (--boxes), since only faces are searched for, and net has landmarks without a scheme"
    for command in (["predict", wings / "00.png", "--model", model], ["evaluate", model, wings, "--detect"]):
        where = ["--out", tmp_path / "found"] if command[0] == "predict" else []
        result = CliRunner().invoke(main, [str(a) for a in [*command, *where]])
        assert result.exit_code == 1
        assert said in result.output


def test_augmented_copies_of_an_image_stay_together(shapes, tmp_path):
    for name in ("images", "annotations"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i, shape in enumerate(shapes):
        name = f"img{i // 4}_{i % 4}"
        Image.fromarray(np.full((120, 150, 3), 40 + i, dtype=np.uint8)).save(tmp_path / "set/images" / f"{name}.jpg")
        np.save(tmp_path / "set" / "annotations" / f"{name}.npy", shape.ravel())
    options = ["--format", "asmnet", "--scheme", "ibug68", "--cache", tmp_path / "cache", *SMALL, "--val-fraction", 0.5]
    run("train", tmp_path / "set", *options, "--read", "group=[^_]+", "--out", tmp_path / "net")
    metrics = dict(load_pretrained(tmp_path / "net" / "net.safetensors").header["metrics"])
    # All four copies of one of the two images are held out, one independent image.
    assert "too few images" in metrics["NME (inter_ocular), 4 validation faces, true boxes"]
    for pattern, said in (("(", "expected a regular expression"), ("photo", "with which 'img0_0' does not begin")):
        assert said in run("train", tmp_path / "set", *options, "--read", f"group={pattern}", "--out", tmp_path, code=1)


def test_depths_of_faces_that_were_not_found_are_left_out(shapes):
    targets = shapes[:3]
    report = evaluate(targets, targets + 0.5, "300w", groups=["a", "a", "b"])
    measured = Measured(report, depth=np.array([0.1, np.nan, 0.3]))
    assert measured.to_dict()["depth"] == pytest.approx(0.2)
    assert "depth, mean difference in z over sqrt(w h) of the box: 20.00 % (" in str(measured)


YAWS = np.array([-95.0, -89, 0, 60, 89, 92, 119])


def test_yaw_goes_on_beyond_the_profile_as_in_the_files():
    angles = np.stack([YAWS, np.full(7, 8.0), np.full(7, -12.0)], -1)
    matrices = conventions.read(np.deg2rad(angles[:, [1, 0, 2]]), "300W-LP").as_matrix()
    np.testing.assert_allclose(angles_in_degrees(matrices), angles, atol=1e-9)
    np.testing.assert_allclose(65 * scaled_angles(torch.from_numpy(matrices)).numpy(), angles, atol=1e-9)
    np.testing.assert_allclose(turned_angles(angles, np.zeros(7), "300W-LP"), angles, atol=1e-9)
    # A head upside down keeps its yaw.
    over = np.array([[20.0, 10, 175]])
    upside_down = conventions.read(np.deg2rad(over[:, [1, 0, 2]]), "300W-LP").as_matrix()
    np.testing.assert_allclose(angles_in_degrees(upside_down), over, atol=1e-9)
    np.testing.assert_allclose(65 * scaled_angles(torch.from_numpy(upside_down)).numpy(), over, atol=1e-9)
    # Of the true angles only 119 lies beyond 99.
    off = angle_errors(angles + np.array([3, -2, 1]), matrices)
    np.testing.assert_allclose(off, np.tile([3.0, 2, 1], (6, 1)), atol=1e-9)
    assert angle_errors(angles[:1], np.full((1, 3, 3), np.nan)).shape == (0, 3)
