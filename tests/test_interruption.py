"""Ctrl-C in a long operation: one word instead of a traceback, and whole files."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from shape_models import make_faces, write_landmarks

pytest.importorskip("torch", reason="torch is not installed")
from asmnet.checkpoints import read_tensors

ARGUMENTS = [
    "--format",
    "folder",
    "--scheme",
    "ibug68",
    "--batch-size",
    "8",
    "--size",
    "32",
    "--no-pose",
    "--set",
    'network_options={"width": 0.25}',
    "--set",
    "warmup_epochs=0",
    "--set",
    "picture_epochs=0",
]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("faces")
    shapes = make_faces(16, rng=0)
    shapes = 90 * (shapes - shapes.mean((1, 2), keepdims=True)) / np.ptp(shapes, axis=(1, 2), keepdims=True).max() + 80
    for i, shape in enumerate(shapes):
        Image.fromarray(np.full((160, 160, 3), 10 * i, np.uint8)).save(folder / f"{i:02}.png")
        write_landmarks(folder / f"{i:02}.pts", shape)
    return folder


def test_an_interrupted_training_leaves_whole_files(faces, tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "asmnet",
        "train",
        str(faces),
        "--out",
        str(out),
        "--cache",
        str(tmp_path),
        *ARGUMENTS,
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background inherits deafness
    ) as process:
        deadline = time.monotonic() + 600
        while not (out / "metrics.csv").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode not in (0, None)
    assert "Traceback" not in errors
    assert "Aborted!" in errors
    _, header = read_tensors(out / "last.safetensors")
    assert header["epoch"] >= 1
    assert len((out / "metrics.csv").read_text().splitlines()) >= 1 + header["epoch"] - 1
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]
