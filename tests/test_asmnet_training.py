"""The training loop: reproducible, resumable after a kill, alike on one process and two, stopped by NaN."""

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asmnet import Augmentation, LandmarkDataset, Preprocessing, TrainConfig, train
from asmnet._optimization import learning_rate
from asmnet.checkpoints import read_tensors, write_tensors
from asmnet.heatmaps import HeatmapCriterion, mirror_coherence_loss
from asmnet.losses import landmark_loss
from asmnet.networks import Prediction, build_network, register_network
from asmnet.training import NonFiniteLossError, _Trainer, face_errors, predict_dataset

ROOT = Path(__file__).resolve().parent.parent


def drawn_faces(n, seed):
    """Images with five bright dots of different colours where the landmarks are."""
    rng = np.random.default_rng(seed)
    base = np.array([[24.0, 24.0], [40.0, 24.0], [32.0, 32.0], [26.0, 42.0], [38.0, 42.0]])
    points = base + rng.normal(scale=2.0, size=(n, 5, 2))
    y, x = np.mgrid[:64, :64]
    images = np.zeros((n, 64, 64, 3))
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    for k in range(5):
        spot = np.exp(-((x - points[:, k, :1, None]) ** 2 + (y - points[:, k, 1:, None]) ** 2) / 8)
        images += spot[..., None] * colours[k]
    images = (255 * images.clip(0, 1)).astype(np.uint8)
    return LandmarkDataset.from_arrays(images, points, mirror=np.array([1, 0, 2, 4, 3]))


def small_config(**changes):
    base = dict(
        network="asmnet",
        network_options={"width": 0.25, "dropout": 0.2},
        n_landmarks=5,
        epochs=4,
        batch_size=8,
        preprocessing=Preprocessing(size=32),
        learning_rate=3e-3,
        warmup_epochs=0.5,
        ema=0.9,
        criterion_options={"form": "wing", "asm_weights": None},
        seed=3,
    )
    return TrainConfig(**{**base, **changes})


def weights(folder, name="last"):
    return read_tensors(Path(folder) / f"{name}.safetensors")[0]


def assert_same(first, second):
    assert set(first) == set(second)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums over threads differ in the last bit from those of the processes started here, which use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    return drawn_faces(24, 0)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    result = train(small_config(), data, drawn_faces(6, 1), folder=folder)
    return folder, result


def learned(folder, seed=0):
    """Train on drawn faces; return the error of the untrained network on others, and the result."""
    config = small_config(
        network_options={"width": 0.25, "dropout": 0.0},
        epochs=10,
        learning_rate=5e-3,
        augmentation=Augmentation.none(),
        seed=seed,
    )
    held_out = drawn_faces(16, 5 + 100 * seed)
    untrained = build_network(config.network, 5, **config.network_options)
    points, _ = predict_dataset(untrained, held_out, config.preprocessing)
    before = float(np.mean(face_errors(held_out, points, None)))
    return before, train(config, drawn_faces(64, 1000 * seed), held_out, folder=folder)


def test_it_learns(tmp_path):
    """Against the untrained network; `bench_learning.py` says what is left to the limits over seeds."""
    before, result = learned(tmp_path)
    errors = [record.nme for record in result.history]
    assert min(errors) < 0.5 * before
    assert result.best_epoch == 1 + int(np.argmin(errors))
    assert result.history[-1].loss < 0.55 * result.history[0].loss
    assert not result.network.training


@pytest.mark.parametrize("network", ["asmnet", "hourglass-small", "efficientnet-b0"])
def test_heads_and_losses_are_single_precision_under_autocast(network):
    """bfloat16 has steps of 0.4 pixels of 224 at the edge of the crop."""
    torch.manual_seed(0)
    built = build_network(network, 5)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = built(torch.rand(2, 3, 64, 64))
    for part in (prediction.landmarks, *prediction.heatmaps):
        assert part.dtype == torch.float32
        assert (part.detach() != part.detach().bfloat16().float()).any()
    target = torch.zeros(2244, 1, 2)
    half = landmark_loss(torch.ones(2244, 1, 2, dtype=torch.bfloat16), target, form="norm")
    torch.testing.assert_close(half, torch.tensor(math.sqrt(2)), rtol=1e-5, atol=0)


def test_metrics_file_holds_the_history(unbroken):
    folder, result = unbroken
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["nme"]) for row in rows] == [record.nme for record in result.history]
    assert all(0 < float(row["data_fraction"]) < 1 and float(row["images_per_second"]) > 0 for row in rows)
    assert_same(weights(folder, "best"), {k: v.contiguous() for k, v in result.network.state_dict().items()})


def test_the_same_seed_gives_the_same_bits(unbroken, data, tmp_path):
    train(small_config(), data, drawn_faces(6, 1), folder=tmp_path)
    assert_same(weights(tmp_path), weights(unbroken[0]))
    other = small_config(seed=4, epochs=1)
    train(other, data, folder=tmp_path / "other")
    ours = weights(tmp_path / "other")
    assert not torch.equal(ours["network.heads.landmarks.weight"], weights(tmp_path)["network.heads.landmarks.weight"])


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_asmnet_training import drawn_faces, small_config
from asmnet import train
train(small_config(**{changes!r}), drawn_faces(24, 0), drawn_faces(6, 1), folder={folder!r}, resume=True)
"""


def script(folder, **changes):
    return SCRIPT.format(tests=str(ROOT / "tests"), folder=str(folder), changes=changes)


def test_resume_after_kill_equals_an_unbroken_run(unbroken, data, tmp_path):
    """The process is killed without warning once two epochs are on disk."""
    code = "import time, asmnet.training as t\nold = t._Trainer._epoch\n"
    code += "def slow(self, model, epoch):\n    time.sleep(600 * (epoch >= 2))\n    return old(self, model, epoch)\n"
    code += "t._Trainer._epoch = slow\n" + script(tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        metrics = tmp_path / "metrics.csv"
        while process.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    _, header = read_tensors(tmp_path / "last.safetensors")
    assert header["epoch"] == 2
    result = train(small_config(), data, drawn_faces(6, 1), folder=tmp_path, resume=True)
    assert_same(weights(tmp_path), weights(unbroken[0]))
    assert_same(weights(tmp_path, "best"), weights(unbroken[0], "best"))
    assert [r.nme for r in result.history] == pytest.approx([r.nme for r in unbroken[1].history], rel=1e-4)


def test_a_run_of_an_older_version_goes_on(unbroken, data, tmp_path, recwarn):
    """Settings and records were called otherwise when it was written."""
    tensors, header = read_tensors(unbroken[0] / "last.safetensors")
    for name in ("asm", "extra"):
        header["config"][f"{name}_share"] = header["config"].pop(f"{name}_fraction")
    header["history"] = [{**record, "data_share": record.pop("data_fraction")} for record in header["history"]]
    write_tensors(tmp_path / "last.safetensors", tensors, header)
    shutil.copy(unbroken[0] / "best.safetensors", tmp_path)
    result = train(small_config(), data, drawn_faces(6, 1), folder=tmp_path, resume=True)
    assert [r.data_fraction for r in result.history] == [r.data_fraction for r in unbroken[1].history]
    assert not [warning for warning in recwarn.list if warning.category is DeprecationWarning]


def test_resume_refuses_other_settings(unbroken, data):
    with pytest.raises(ValueError, match=r"other settings of learning_rate"):
        train(small_config(learning_rate=1.0), data, folder=unbroken[0], resume=True)


def test_two_processes_equal_one_that_accumulates(data, tmp_path):
    """Two gloo processes of four samples each, resumed once, against one that takes the two halves in turn."""
    changes = dict(epochs=2, batch_size=8, network_options={"width": 0.25, "dropout": 0.2})
    broken = "import asmnet.training as t\nold = t._Trainer._epoch\n"
    broken += "def stop(self, model, epoch):\n    return old(self, model, epoch) if epoch == 0 else 1 / 0\n"
    broken += "t._Trainer._epoch = stop\ntry:\n" + textwrap.indent(script(tmp_path / "two", **changes), "    ")
    broken += "except ZeroDivisionError:\n    pass\nt._Trainer._epoch = old\n"
    (tmp_path / "run.py").write_text(broken + script(tmp_path / "two", **changes))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    with subprocess.Popen(
        [*command, tmp_path / "run.py"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the workers too
            raise
    assert process.returncode == 0, said[-2000:]
    train(small_config(**changes, accumulate=2), data, drawn_faces(6, 1), folder=tmp_path / "one")
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, value in one.items():
        if name.startswith(("network.", "average.")):
            torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-5, msg=name)


class Plain(torch.nn.Module):
    """One layer, in which no face of a batch meets another."""

    def __init__(self, n_landmarks):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 32 * 32, 2 * n_landmarks)

    def forward(self, images):
        return Prediction(self.layer(images.flatten(1)).unflatten(1, (-1, 2)))


register_network("plain-test", title="one layer", input_size=32, stride=1)(Plain)


@pytest.mark.parametrize("n", [20, 21])
def test_accumulated_parts_without_norms_equal_one_batch(n, tmp_path, monkeypatch):
    """The gradients of the parts add up to that of the batch, also where a short batch has parts of three and two."""
    seen = []
    clip = torch.nn.utils.clip_grad_norm_

    def record(parameters, most):
        parameters = list(parameters)
        seen.append([parameter.grad.clone() for parameter in parameters])
        return clip(parameters, most)

    monkeypatch.setattr("asmnet.training.nn.utils.clip_grad_norm_", record)
    changes = dict(
        network="plain-test", network_options={}, augmentation=Augmentation.none(), epochs=1, drop_last=False
    )
    for parts in (1, 2):
        train(small_config(**changes, accumulate=parts), drawn_faces(n, 0), folder=tmp_path / str(parts))
    assert len(seen) == 6
    for whole, added in zip(seen[:3], seen[3:], strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-3, atol=1e-6)


def test_nan_stops_and_saves_the_batch(data, tmp_path):
    initial = {
        k: v.clone() for k, v in train(small_config(epochs=1), data, folder=tmp_path).network.state_dict().items()
    }
    initial["heads.landmarks.bias"][:] = math.nan
    with pytest.raises(NonFiniteLossError, match="smaller learning_rate") as caught:
        train(small_config(), data, folder=tmp_path / "nan", initial=initial)
    tensors, header = read_tensors(caught.value.path)
    assert tensors["images"].shape == (8, 3, 32, 32)
    assert header["kind"] == "batch"
    assert not (tmp_path / "nan" / "last.safetensors").exists()


def test_early_stop(data, tmp_path):
    config = small_config(epochs=30, patience=2, learning_rate=1e-9)
    config = replace(config, ema=0.0, network_options={"width": 0.25, "dropout": 0.0}, weight_decay=0.0)
    result = train(config, data, drawn_faces(6, 1), folder=tmp_path)
    assert len(result.history) == result.best_epoch + 2


def test_a_full_disk_leaves_the_last_checkpoint(data, tmp_path, monkeypatch):
    train(small_config(epochs=1), data, folder=tmp_path)
    before = (tmp_path / "last.safetensors").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / "last.safetensors", {"x": torch.ones(3)}, {})
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors", "metrics.csv"]


def test_extra_sets_join_by_their_share(data, tmp_path):
    extra = drawn_faces(10, 7).with_weight(0.5)
    config = small_config(epochs=1, extra_fraction=0.34)
    result = train(config, data, folder=tmp_path, extra=[extra])
    assert len(result.history) == 1
    without = train(small_config(epochs=1), data, folder=tmp_path / "without")
    assert result.history[0].loss != without.history[0].loss


def test_schedules():
    def rate(step, **changes):
        return learning_rate(small_config(learning_rate=1.0, epochs=10, warmup_epochs=2, **changes), step, 10)

    assert [round(rate(s), 4) for s in (0, 19)] == [round(1 / 21, 4), round(20 / 21, 4)]
    assert rate(20) == 1.0
    assert rate(60) == pytest.approx(0.5)
    assert rate(100) == pytest.approx(0.0)
    assert rate(99, schedule="constant") == 1.0
    assert rate(60, schedule="linear", final_rate=0.2) == pytest.approx(0.6)
    assert rate(60, schedule="steps", step_epochs=(3, 5), step_factor=0.1) == pytest.approx(0.01)
    paper = TrainConfig.paper()
    assert learning_rate(paper, 100_000, 100) == pytest.approx(1e-2 / 2)


def test_presets_and_dictionaries():
    paper = TrainConfig.paper()
    assert (paper.epochs, paper.learning_rate, paper.preprocessing.square) == (150, 1e-2, False)
    sdu, kd = TrainConfig.sdu(network="sat"), TrainConfig.kd(network="mobilenetv2")
    assert (sdu.optimizer, sdu.learning_rate, sdu.epochs, sdu.batch_size) == ("nadam", 2.5e-4, 45, 20)
    assert [learning_rate(sdu, 100 * epoch, 100) for epoch in (0, 19, 20, 35)] == pytest.approx(
        [2.5e-4, 2.5e-4, 5e-5, 1e-5]
    )
    assert sdu.preprocessing.normalise(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([-127.5 / 128, 127.5 / 128])
    assert learning_rate(kd, 10_000, 100) == pytest.approx(1e-3 / 2)
    assert (kd.batch_size, kd.epochs, kd.criterion_options["asm_weights"]) == (70, 150, None)
    assert kd.network_options == {"pose": False}
    maps = TrainConfig.modern(network="hourglass", learning_rate=1e-4)
    assert (maps.criterion_options, maps.batch_size, maps.learning_rate) == ({"peak": 10.0}, 16, 1e-4)
    with pytest.raises(ValueError, match="draws heat maps"):
        TrainConfig.sdu(network="asmnet")
    for config in (paper, sdu, kd, TrainConfig.modern(), TrainConfig(step_epochs=(1, 2))):
        assert TrainConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="no option is called 'colour'"):
        TrainConfig.from_dict({"colour": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "resnet"},
        {"epochs": 0},
        {"batch_size": 5, "accumulate": 2},
        {"optimizer": "sgd"},
        {"schedule": "none"},
        {"ema": 1.0},
        {"learning_rate": 0.0},
        {"preprocessing": Preprocessing(size=50)},
    ],
)
def test_wrong_settings_are_refused(changes):
    with pytest.raises(ValueError, match="expect"):
        small_config(**changes)


def test_wrong_data_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="68"):
        train(TrainConfig(), data, folder=tmp_path)
    with pytest.raises(ValueError, match="smaller batch_size"):
        train(small_config(batch_size=32), data, folder=tmp_path)
    with pytest.raises(ValueError, match="asm_landmarks"):
        train(small_config(criterion_options={}), data, folder=tmp_path)
    with pytest.raises(ValueError, match="mirror"):
        predict_dataset(torch.nn.Identity(), replace(data, mirror=None), Preprocessing(size=32), flip_average=True)


def test_a_run_remembers_its_faces(unbroken, data):
    """Names, landmarks and images, of the training and of the validation faces; nothing of the run is touched."""
    before = {path.name: path.read_bytes() for path in unbroken[0].iterdir()}
    pale = replace(data, images=data.images // 2)
    moved = replace(data, landmarks=data.landmarks + 1)
    named = replace(data, names=tuple(f"other/{name}x" for name in data.names))
    for other in (pale, moved, named, drawn_faces(24, 9), data.take(range(23))):
        with pytest.raises(ValueError, match="other training faces"):
            train(small_config(), other, drawn_faces(6, 1), folder=unbroken[0], resume=True)
    with pytest.raises(ValueError, match="other validation faces"):
        train(small_config(), data, drawn_faces(6, 2), folder=unbroken[0], resume=True)
    with pytest.raises(FileExistsError, match=r"resume.*overwrite"):
        train(small_config(), data, drawn_faces(6, 1), folder=unbroken[0])
    elsewhere = replace(data, names=tuple(f"/moved/to/{name}" for name in data.names))
    train(small_config(), elsewhere, drawn_faces(6, 1), folder=unbroken[0], resume=True)
    assert {path.name: path.read_bytes() for path in unbroken[0].iterdir()} == before


def test_overwriting_must_be_asked_for(data, tmp_path):
    train(small_config(epochs=2), data, folder=tmp_path)
    result = train(small_config(epochs=1), drawn_faces(16, 3), folder=tmp_path, overwrite=True)
    assert len(result.history) == 1
    assert read_tensors(tmp_path / "last.safetensors")[1]["epoch"] == 1


@pytest.mark.parametrize(
    ("n", "changes", "steps"),
    [
        (17, {"batch_size": 8}, [8, 9]),  # a remainder of one joins
        (18, {"batch_size": 8}, [8, 8, 2]),
        (19, {"batch_size": 8, "accumulate": 2}, [8, 11]),  # parts of one and two faces would be too small
        (20, {"batch_size": 8, "accumulate": 2}, [8, 8, 4]),
        (21, {"batch_size": 8, "accumulate": 2}, [8, 8, 5]),
        (5, {"batch_size": 8}, [5]),
        (17, {"batch_size": 8, "drop_last": True}, [8, 8]),
    ],
)
def test_remainders_are_used_or_joined(n, changes, steps, tmp_path):
    config = small_config(**{"epochs": 1, "drop_last": False, **changes})
    trainer = _Trainer(
        config, drawn_faces(n, 0), None, tmp_path, extra=(), anchors=None, initial=None, device="cpu", progress=False
    )
    assert [part.stop - part.start for part in trainer.epochs.steps] == steps
    assert math.isfinite(train(config, drawn_faces(n, 0), folder=tmp_path).history[0].loss)


@pytest.mark.parametrize(
    ("n", "changes", "words"),
    [
        (8, {"batch_size": 1}, "batch_size: got 1.*two faces at a time at 32 pixels"),
        (8, {"batch_size": 4, "accumulate": 4}, "expected at least 8"),
        (1, {"batch_size": 2, "drop_last": False}, "more faces"),
        (5, {"batch_size": 8}, "smaller batch_size, or drop_last"),
    ],
)
def test_batches_that_norms_cannot_take_are_refused(n, changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(small_config(epochs=1, **changes), drawn_faces(n, 0), folder=tmp_path)
    assert not any(tmp_path.iterdir())


def test_one_face_at_a_time_where_norms_see_enough(tmp_path):
    """Maps of 2 x 2 pixels and more give a norm what it needs."""
    config = TrainConfig.modern(
        network="hourglass-small",
        network_options={"width": 0.25},
        n_landmarks=5,
        epochs=1,
        batch_size=1,
        preprocessing=Preprocessing(size=64),
        warmup_epochs=0.0,
    )
    assert math.isfinite(train(config, drawn_faces(3, 0), folder=tmp_path).history[0].loss)


def test_a_pose_head_that_nothing_teaches_is_left_out(data, tmp_path, caplog):
    result = train(small_config(epochs=1), data, folder=tmp_path / "none")
    assert "no pose head" in caplog.text
    assert result.network.heads.pose is None
    assert result.config.network_options["pose"] is False
    turned = data.with_rotations(np.tile(np.eye(3), (24, 1, 1)))
    taught = train(small_config(epochs=1), turned, folder=tmp_path / "some")
    assert taught.network.heads.pose is not None
    mute = small_config(epochs=1, criterion_options={"asm_weights": None, "pose_weight": 0.0})
    assert train(mute, turned, folder=tmp_path / "mute").network.heads.pose is None
    # weights with a pose head may start a network without one
    train(small_config(epochs=1), data, folder=tmp_path / "from", initial=taught.network.state_dict())


def test_the_coherent_loss_is_part_of_the_training(tmp_path, monkeypatch):
    """The trainer shows every crop and its mirror image; the term is what their maps differ by."""
    config = TrainConfig.modern(
        network="hourglass-small",
        network_options={"width": 0.25},
        n_landmarks=5,
        epochs=1,
        batch_size=8,
        preprocessing=Preprocessing(size=32),
        criterion_options={"peak": 10.0, "coherence_weight": 3.0},
    )
    data, seen, plain = drawn_faces(16, 0), [], HeatmapCriterion.__call__

    def watched(self, prediction, batch, epoch, mirrored=None, mirror=None):
        terms = plain(self, prediction, batch, epoch, mirrored, mirror)
        own = mirror_coherence_loss(prediction.heatmaps, mirrored.heatmaps, mirror=mirror) / 100
        torch.testing.assert_close(terms["coherence"], 3 * own)
        torch.testing.assert_close(terms["loss"], terms["heatmaps"] + 3 * own)
        assert len(prediction.landmarks) == len(mirrored.landmarks) == len(batch.images)
        seen.append(float(own.detach()))
        return terms

    monkeypatch.setattr(HeatmapCriterion, "__call__", watched)
    train(config, data, folder=tmp_path)
    assert len(seen) == 2
    assert min(seen) > 0
    with pytest.raises(ValueError, match="mirror map"):
        train(config, replace(data, mirror=None), folder=tmp_path / "no")


def test_pictures(data, tmp_path):
    train(small_config(epochs=2, picture_epochs=2), data, drawn_faces(6, 1), folder=tmp_path)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "faces-0002.png").stat().st_size > 10_000
