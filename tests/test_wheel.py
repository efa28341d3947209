"""The built wheel, installed away from the sources, imports, loads its bundled models and stays small."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("shape_models", "pose", "evaluation", "asmnet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="the package 'build' is not installed")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run(code, installed, cwd):
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_size_and_contents(wheel):
    assert wheel.stat().st_size < 20e6
    names = zipfile.ZipFile(wheel).namelist()
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert not [n for n in names if n.startswith(("tests/", "examples/")) or n.endswith((".pyc", ".nbi", ".nbc"))]


def test_bundled_models_load_where_the_sources_are_not(installed, tmp_path):
    code = (
        "import shape_models, pose, evaluation\n"
        f"assert shape_models.__file__.startswith({str(installed)!r}), shape_models.__file__\n"
        "model = shape_models.load_model('face68')\n"
        "print(model.asm_.basis_.event_shape)"
    )
    out = run(code, installed, tmp_path)
    assert out.stdout.strip() == "(68, 2)", out.stderr


def test_version_is_the_package_s(wheel):
    import shape_models

    assert wheel.name.startswith(f"shape_models-{shape_models.__version__}-")
