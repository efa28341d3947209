"""Networks on small files in the layouts of the published sets, end to end: read, trained, measured, by command."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from asmnet import Predictor
from asmnet.checkpoints import load_pretrained
from asmnet.cli import main
from asmnet.data import pack_faces
from asmnet.measuring import LABEL_OFFSETS, label_offset, measure_model
from asmnet.reproduction import PAPERS, reproduce
from evaluation.published import PUBLISHED
from shape_models import ASM, AlignedASM, load_model, make_faces, save_model, write_pts
from shape_models.datasets import load_landmarks, read_cofw
from shape_models.images import ImageFileError, image_exists, image_size, read_image

N = 12
SMALL = [
    "--epochs",
    "1",
    "--batch-size",
    "6",
    "--size",
    "32",
    "--set",
    'network_options={"width": 0.25}',
    "--set",
    "warmup_epochs=0",
    "--set",
    "picture_epochs=1",
]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def faces(n, scheme, seed=0):
    """Shapes of about 90 pixels in images of 150 x 120, and the images."""
    rng = np.random.default_rng(seed)
    shapes = make_faces(n, scheme=scheme, rng=seed)
    shapes = (shapes - shapes.mean((1, 2), keepdims=True)) / np.ptp(shapes, axis=(1, 2), keepdims=True).max()
    shapes = 80 * shapes + [75, 60] + rng.uniform(-5, 5, (n, 1, 2))
    images = rng.integers(0, 60, (n, 120, 150, 3)).astype(np.uint8)
    for image, shape in zip(images, shapes, strict=True):
        for x, y in np.round(shape).astype(int):
            image[max(y, 1) - 1 : y + 2, max(x, 1) - 1 : x + 2] = 230
    return shapes, images


# --- COFW ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cofw(tmp_path_factory):
    """The two files of COFW, images in cells of references, transposed as MATLAB stores them, one of them grey."""
    import h5py

    root = tmp_path_factory.mktemp("cofw")
    held = {}
    for part, suffix, n in (("train", "Tr", N), ("test", "T", 4)):
        shapes, images = faces(n, "cofw29", seed=n)
        hidden = np.zeros((n, 29))
        hidden[:, 3] = 1
        with h5py.File(root / f"COFW_{part}_color.mat", "w", userblock_size=512) as file:
            file[f"phis{suffix}"] = np.column_stack([shapes[..., 0] + 1, shapes[..., 1] + 1, hidden]).T
            file[f"bboxes{suffix}"] = np.tile([11.0, 21, 100, 90], (n, 1)).T
            cells = file.create_dataset(f"Is{suffix}", (1, n), dtype=h5py.ref_dtype)
            for i, image in enumerate(images):
                stored = image[..., 0].T if i == 1 else image.transpose(2, 1, 0)
                cells[0, i] = file.create_dataset(f"#refs#/{suffix}{i}", data=stored).ref
        held[part] = shapes, images
    return root, held


def test_images_of_cofw_lie_in_its_files(cofw):
    root, held = cofw
    samples = read_cofw(root)
    assert len(samples) == N + 4
    for part in ("train", "test"):
        own = read_cofw(root, part)
        shapes, images = held[part]
        np.testing.assert_allclose(own.shapes(), shapes, atol=1e-9)
        for i, image in enumerate(images):
            path = own[i].image
            assert path == root / f"COFW_{part}_color.mat" / str(i)
            assert image_exists(path)
            assert image_size(path) == (150, 120)
            np.testing.assert_array_equal(read_image(path), image[..., 0] if i == 1 else image)
    with pytest.raises(ImageFileError, match="got 4 images; expected one with the number 4, counted from 0"):
        read_image(root / "COFW_test_color.mat" / "4")
    assert samples.digest() != samples.digest(images=False)
    assert not image_exists(root / "COFW_none.mat" / "0")


def test_cofw_is_trained_on_and_measured(cofw, tmp_path):
    root, _ = cofw
    run("train", root, "--format", "cofw", "--split", "train", "--out", tmp_path / "net", "--cache", tmp_path, *SMALL)
    report = json.loads(
        run("evaluate", tmp_path / "net" / "net.safetensors", root, "--archive", "cofw", "--split", "test", "--json")
    )
    assert report["protocol"]["name"] == "cofw"
    assert [(row["subset"], row["faces"]) for row in report["rows"]] == [("full", 4)]


# --- 3-D faces -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aflw(tmp_path_factory):
    from scipy.io import savemat

    root = tmp_path_factory.mktemp("aflw2000")
    shapes, images = faces(N, "ibug68")
    z = np.random.default_rng(1).normal(size=(N, 68)) * 10 + 200
    pose = np.zeros((N, 7))
    pose[:, 1] = np.deg2rad(np.linspace(-85, 85, N))
    for i in range(N):
        Image.fromarray(images[i]).save(root / f"image{i:05}.jpg", quality=97)
        content = {"pt3d_68": np.column_stack([shapes[i] + 1, z[i]]).T, "Pose_Para": pose[i : i + 1]}
        savemat(root / f"image{i:05}.mat", content)
    return root, shapes, z, pose


def test_depths_and_angles_that_come_with_faces_are_labels(aflw, tmp_path):
    root, shapes, z, pose = aflw
    samples = load_landmarks(root, archive="aflw2000")
    packed = pack_faces(samples, size=64, cache=tmp_path)
    np.testing.assert_allclose(packed.source_landmarks(), shapes, atol=1e-6)
    away = (z.mean(axis=1, keepdims=True) - z) / packed.to_source[:, :1]  # z grows towards the viewer
    np.testing.assert_allclose(packed.depths, away, atol=1e-9)
    yaw = np.arcsin(packed.rotations[:, 0, 2])
    np.testing.assert_allclose(np.abs(yaw), np.abs(pose[:, 1]), atol=1e-9)


DEPTH = ["--network", "hourglass-small", "--no-pose", "--set", 'network_options={"width": 0.25, "depth_head": true}']


@pytest.mark.parametrize("options", [SMALL[6:8], DEPTH], ids=["pose", "depth"])
def test_3d_faces_are_trained_on_and_measured_in_bins_of_yaw(aflw, tmp_path, options):
    root, _, z, pose = aflw
    small = [*SMALL[:6], *SMALL[8:], *options]
    run("train", root, "--format", "aflw2000", "--out", tmp_path / "net", "--cache", tmp_path, *small)
    model = tmp_path / "net" / "net.safetensors"
    text = json.loads(
        run("evaluate", model, root, "--archive", "aflw2000", "--protocol", "aflw2000-3d", "--passes", 1, "--json")
    )
    rows = {row["subset"]: row["faces"] for row in text["rows"]}
    yaw = np.abs(np.rad2deg(pose[:, 1]))
    assert rows["all"] == N
    assert rows["yaw 0-30"] == int((yaw < 30).sum())
    assert rows["yaw 60-90"] == int((yaw >= 60).sum())
    assert "mean of bins" in rows
    predictor = Predictor.from_pretrained(model)
    samples = load_landmarks(root, archive="aflw2000")
    measured = measure_model(predictor, samples, protocol="aflw2000-3d", n_passes=1)
    found = [
        predictor(sample.image, np.r_[sample.landmarks[:, :2].min(0), sample.landmarks[:, :2].max(0)], n_passes=1)[0]
        for sample in samples
    ]
    if found[0].pose is not None:
        guess = np.array([[face.yaw, face.pitch, face.roll] for face in found])
        true = np.rad2deg(pose[:, [1, 0, 2]])
        assert measured.pose.mae == pytest.approx(np.abs(guess - true).mean(), abs=1e-6)
        assert text["pose"]["mae"] == pytest.approx(measured.pose.mae)
    if found[0].depth is not None:
        size = np.sqrt(np.prod(np.ptp(samples.shapes()[..., :2], axis=1), axis=1))
        away = z.mean(1, keepdims=True) - z
        off = np.abs(np.array([face.depth for face in found]) - away).mean(axis=1) / size
        np.testing.assert_allclose(measured.depth, off, atol=1e-9)
        assert text["depth"] == pytest.approx(off.mean())
    assert (found[0].pose is not None) is (options is not DEPTH)
    assert (found[0].depth is not None) is (options is DEPTH)


# --- WFLW ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wflw(tmp_path_factory):
    root = tmp_path_factory.mktemp("wflw")
    lists = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    flags = np.array([[(i >> k) & 1 for k in range(6)] for i in range(N)])
    for part, seed in (("train", 0), ("test", 1)):
        shapes, images = faces(N, "wflw98", seed=seed)
        lines = []
        for i in range(N):
            name = f"{i % 3}--Party/{i % 3}_Party_{part}_{i}.jpg"
            (root / "WFLW_images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[i]).save(root / "WFLW_images" / name, quality=97)
            box = np.round(np.r_[shapes[i].min(0), shapes[i].max(0)]).astype(int)
            lines.append(
                " ".join([*(f"{v:.6f}" for v in shapes[i].ravel()), *map(str, box), *map(str, flags[i]), name])
            )
        (lists / f"list_98pt_rect_attr_{part}.txt").write_text("\n".join(lines) + "\n")
    return root, flags


def test_wflw_is_trained_on_and_measured_in_its_six_subsets(wflw, tmp_path):
    root, flags = wflw
    run(
        "train",
        root,
        "--format",
        "wflw",
        "--split",
        "train",
        "--out",
        tmp_path / "net",
        "--cache",
        tmp_path,
        "--no-pose",
        *SMALL,
    )
    model = tmp_path / "net" / "net.safetensors"
    for protocol in ([], ["--protocol", "asmnet-wflw"]):  # outer corners of the eyes, and pupils in the crop
        report = json.loads(
            run("evaluate", model, root, "--archive", "wflw", "--split", "test", "--json", "--passes", 1, *protocol)
        )
        rows = {row["subset"]: row["faces"] for row in report["rows"]}
        names = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
        assert rows == {"full": N, **{name: int(n) for name, n in zip(names, flags.sum(0), strict=True) if n}}
    text = run("reproduce", "asmnet", "--data", f"wflw={root}", "--model", f"ASMNet={model}")
    row = next(line for line in text.split("table 3")[1].splitlines() if line.startswith("ASMNet "))
    assert row.count("not run") == 2  # make-up ... occlusion and blur have no faces among twelve flags
    assert "no faces of the part blur" in text


# --- 300-W, and sets of their own ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def w300(tmp_path_factory):
    root = tmp_path_factory.mktemp("300w")
    shapes, images = faces(8, "ibug68")
    for i, part in enumerate(["helen/testset", "lfpw/testset", "ibug", "ibug"] * 2):
        (root / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(root / part / f"image_{i:04}.png")
        write_pts(root / part / f"image_{i:04}.pts", shapes[i])
    return root


def test_common_challenging_and_full_come_from_one_command(w300):
    report = json.loads(run("evaluate", "asmnet-68", w300, "--json", "--passes", 1))
    assert [(row["subset"], row["faces"]) for row in report["rows"]] == [("common", 4), ("challenging", 4), ("full", 8)]
    text = run("reproduce", "asmnet", "--data", f"300w={w300}", "--model", "ASMNet=asmnet-68")
    row = next(line for line in text.split("table 2")[1].splitlines() if line.startswith("ASMNet "))
    assert "not run" not in row
    assert "3.93 | " not in row.split("|")[0]


def test_a_table_is_measured_on_the_part_that_its_authors_measured(w300):
    samples, seen = load_landmarks(w300), {}

    def measure(model, part, protocol):
        seen[protocol] = sorted(map(str, set(part.splits))), len(part)
        raise ValueError(f"{model}: of another kind.")

    text = reproduce("sdu", {"SAT2(d=3)-CAB": "sat.safetensors"}, {"300w": samples}, measure=measure)
    assert seen == {"sdu-ibug": (["challenging"], 4)}
    assert "not run: the given 300w has no faces of the part private." in text
    assert "not run: sat.safetensors: of another kind." in text
    reproduce("asmnet", {"ASMNet": "x"}, {"300w": samples}, measure=measure)
    assert seen["asmnet-300w"] == (["challenging", "common"], 8)
    own = samples.select(lambda sample: sample.split == "other")
    assert "no faces of the part common or challenging" in reproduce("kd", {"MobileNetV2": "x"}, {"300w": own})


def test_a_model_of_other_landmarks_than_a_set_has_says_so_in_its_cells(w300):
    shapes = make_faces(8, scheme="wflw98", rng=0)
    others = load_landmarks(w300).with_shapes(shapes, scheme="wflw98")
    text = reproduce("kd", {"MobileNetV2": "asmnet-68"}, {"300w": others})
    assert "got landmarks of wflw98; expected those of ibug68, as the model has" in text


def test_passes_are_those_of_the_predictor_by_default(w300):
    samples = load_landmarks(w300, split="common")
    predictor = Predictor.from_pretrained("asmnet-68")
    found = measure_model(predictor, samples).report
    settled = np.array(
        [predictor(s.image, np.r_[s.landmarks.min(0), s.landmarks.max(0)])[0].landmarks for s in samples]
    )
    np.testing.assert_array_equal(found.predictions, settled)
    one = json.loads(run("evaluate", "asmnet-68", w300, "--split", "common", "--json"))["rows"][-1]["metrics"]["NME"][
        "estimate"
    ]
    assert one == pytest.approx(found.rows[-1].metrics["NME"].estimate)


def test_the_offset_of_labels_is_measured_and_applied_only_where_it_is_asked_for(w300, tmp_path):
    predictor = Predictor.from_pretrained("asmnet-68")
    samples = load_landmarks(w300)[:3]
    symmetric = measure_model(predictor, samples, flip_average=True, n_passes=1).report.predictions
    eye = np.linalg.norm(symmetric[:, 45] - symmetric[:, 36], axis=1)
    unit = (symmetric[:, 45] - symmetric[:, 36]) / eye[:, None]
    moved = samples.with_shapes(symmetric + 0.05 * (eye[:, None] * unit)[:, None])
    report = measure_model(predictor, samples.with_shapes(symmetric), flip_average=True, n_passes=1, label_offset=0.05)
    assert "moved to the right by 5.00 % of the eye distance" in str(report)
    shift = (
        report.report.predictions
        - measure_model(predictor, samples.with_shapes(symmetric), flip_average=True, n_passes=1).report.predictions
    )
    np.testing.assert_allclose(np.linalg.norm(shift, axis=-1) / eye[:, None], 0.05, rtol=0.2)
    found = label_offset(predictor, moved)
    assert found.faces.shape == (3, 68, 2)
    assert found.groups.shape == (3,)
    assert 0 < LABEL_OFFSETS["300w"] < 0.02
    with pytest.raises(ValueError, match="expected a number or one of 300w"):
        measure_model(predictor, samples, label_offset="wflw")
    said = json.loads(run("offset", "asmnet-68", w300, "--json"))
    assert said["faces"] == 8
    assert said["low"] <= said["offset"] <= said["high"]
    assert np.mean(said["landmarks"], axis=0) == pytest.approx([said["offset"], 0], abs=1e-12)


def test_any_landmarks_have_a_protocol(tmp_path):
    shapes, images = faces(N, "ibug68")
    for i in range(N):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
        write_pts(tmp_path / f"{i}.pts", shapes[i, :9])
    run("train", tmp_path, "--out", tmp_path / "net", "--cache", tmp_path / "cache", *SMALL)
    report = json.loads(
        run("evaluate", tmp_path / "net" / "net.safetensors", tmp_path, "--extension", "pts", "--json", "--passes", 1)
    )
    assert [row["subset"] for row in report["rows"]] == ["all"]
    assert np.isfinite(report["rows"][0]["metrics"]["NME"]["estimate"])

    # and a shape model, that of the training faces, or any other
    model = load_pretrained(tmp_path / "net" / "net.safetensors")
    assert model.shape_model.asm_.n_samples_ == N
    samples = load_landmarks(tmp_path, extension="pts")
    fitted = measure_model(Predictor(model), samples, fitted=True, n_passes=1).report.predictions
    raw = measure_model(Predictor(model), samples, n_passes=1).report.predictions
    np.testing.assert_allclose(fitted, model.shape_model.project(raw))
    assert np.abs(fitted - raw).max() > 0.1
    other = save_model(AlignedASM(ASM(2)).fit(shapes[:, :9]), tmp_path / "other.npz")
    errors = [
        json.loads(
            run(
                "evaluate",
                tmp_path / "net" / "net.safetensors",
                tmp_path,
                "--extension",
                "pts",
                "--json",
                "--passes",
                1,
                "--fitted",
                *more,
            )
        )["rows"][0]["metrics"]["NME"]["estimate"]
        for more in ([], ["--shape-model", other])
    ]
    assert errors[0] != errors[1]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n0.png,30,30,110,100\n")
    run(
        "predict",
        tmp_path / "0.png",
        "--model",
        tmp_path / "net" / "net.safetensors",
        "--boxes",
        boxes,
        "--fitted",
        "--shape-model",
        other,
        "--format",
        "json",
        "--out",
        tmp_path / "found",
    )
    (face,) = json.loads((tmp_path / "found" / "landmarks.json").read_text())[str(tmp_path / "0.png")]
    np.testing.assert_allclose(face["fitted"], load_model(other).project(face["landmarks"]), atol=0.02)
    assert face["pose"] is None  # nothing taught one


def test_folders_of_asmnet_with_any_scheme_groups_and_pose(tmp_path):
    shapes, images = faces(N, "imm58")
    for name in ("images", "annotations", "pose"):
        (tmp_path / name).mkdir()
    for i in range(N):
        stem = f"face{i // 2}_{i % 2}"
        Image.fromarray(images[i]).save(tmp_path / "images" / f"{stem}.jpg")
        np.save(tmp_path / "annotations" / f"{stem}.npy", shapes[i].ravel())
        np.save(tmp_path / "pose" / f"{stem}.npy", np.array([1.0, 2.0, 3.0]))
    samples = load_landmarks(tmp_path, archive="asmnet", scheme="imm58", groups=lambda path: path.stem.split("_")[0])
    assert samples.scheme.name == "imm58"
    assert len(set(samples.groups)) == N // 2
    np.testing.assert_array_equal(samples[0].attributes["pose"], [1, 2, 3])
    run(
        "train",
        tmp_path,
        "--format",
        "asmnet",
        "--scheme",
        "imm58",
        "--out",
        tmp_path / "net",
        "--cache",
        tmp_path / "cache",
        *SMALL,
    )
    report = json.loads(
        run(
            "evaluate",
            tmp_path / "net" / "net.safetensors",
            tmp_path,
            "--format",
            "asmnet",
            "--scheme",
            "imm58",
            "--json",
            "--passes",
            1,
        )
    )
    assert report["rows"][0]["faces"] == N


# --- Published tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", PAPERS)
def test_each_cell_is_run_or_says_why_not(paper):
    text = reproduce(paper)
    for key in PAPERS[paper]:
        table = PUBLISHED[key]
        part = text.split(f"{table.title}: as printed | as run here\n")[1].split("\n\n")[0]
        reasons = {line.split("]")[0] + "]" for line in part.splitlines() if line.startswith("[")}
        lines = part.splitlines()[2 : 2 + len(table.rows)]
        for row, line in zip(table.rows, lines, strict=True):
            assert line.startswith(row)
            assert line.count(" | ") == len(table.columns)
            for number in {word for word in line.split() if word.startswith("[")}:
                assert number in reasons
    assert {key for keys in PAPERS.values() for key in keys} == set(PUBLISHED)


def test_reproduction_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="paper: got 'hrnet'; expected one of asmnet, kd, sdu"):
        reproduce("hrnet")
    with pytest.raises(ValueError, match="models: got 'HRNet'; expected rows of the tables"):
        reproduce("asmnet", {"HRNet": "x"})
    with pytest.raises(ValueError, match="'student, KD-Loss', 'student, tough teacher'"):  # names with commas in them
        reproduce("kd", {"student": "x"})
    with pytest.raises(ValueError, match="data: got 'lfpw'; expected one of 300w"):
        reproduce("asmnet", None, {"lfpw": None})
    assert "expected NAME=VALUE" in run("reproduce", "asmnet", "--data", "300w", code=2)
