"""`shape-models doctor` says what stands in an installation, and names what is broken in it."""

import json
import platform
from importlib import metadata

import numpy as np
import pytest
from click.testing import CliRunner

import shape_models
from shape_models import _doctor
from shape_models.cli import main


def doctor(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look at two optional parts only, each in its own process; and at no data."""
    monkeypatch.setattr(
        _doctor.metadata,
        "requires",
        lambda name: [
            "numpy>=2.0",
            "click>=8.2",
            "h5py>=3.11; extra == 'h5'",
            "no-such-part>=1; extra == 'h5'",
            "pytest; extra == 'dev'",
        ],
    )
    monkeypatch.delenv("SHAPE_MODELS_DATA", raising=False)


def test_it_says_what_is_there():
    result = doctor("--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["shape_models"] == shape_models.__version__
    assert found["python"] == platform.python_version()
    assert found["needed"] == {"numpy": np.__version__, "click": metadata.version("click")}
    assert set(found["optional"]) == {"h5"}
    assert found["optional"]["h5"]["no-such-part"] is None
    assert {"face68", "search68"} <= set(found["models"])
    assert found["models"]["face68"] > 10_000
    assert found["caches"]["compiled"]["writable"]
    assert any(pool["user_api"] == "blas" for pool in found["blas"])
    assert found["problems"] == []


def test_the_lines_say_the_same(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = doctor().output
    version = shape_models.__version__
    for words in (version, np.__version__, "OMP_NUM_THREADS=1", "no-such-part absent", "no problem found"):
        assert words in text


@pytest.mark.parametrize(
    ("body", "words"),
    [("raise OSError('half a library')", "half a library"), ("import os; os._exit(7)", "ended with code 7")],
)
def test_a_part_that_cannot_be_imported_is_a_problem(tmp_path, monkeypatch, body, words):
    pytest.importorskip("h5py")
    (tmp_path / "h5py.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = doctor("--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["optional"]["h5"]["h5py"]["imports"] is False
    assert [words in problem for problem in found["problems"]] == [True]


def test_a_needed_part_that_is_absent_is_a_problem(monkeypatch):
    monkeypatch.setattr(_doctor.metadata, "requires", lambda name: ["no-such-part>=1"])
    result = doctor()
    assert result.exit_code == 1
    assert "no-such-part is needed and not installed" in result.output


def test_the_data_are_looked_for(tmp_path, monkeypatch):
    (tmp_path / "300w").mkdir()
    monkeypatch.setenv("SHAPE_MODELS_DATA", str(tmp_path))
    assert json.loads(doctor("--json").stdout)["data"] == {"folder": str(tmp_path), "sets": ["300w"]}
    monkeypatch.setenv("SHAPE_MODELS_DATA", str(tmp_path / "nowhere"))
    result = doctor()
    assert result.exit_code == 1
    assert "which is no folder" in result.output


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    def refuse(**options):
        raise OSError("read-only")

    monkeypatch.setenv("ASMNET_CACHE", str(tmp_path))
    monkeypatch.setattr(_doctor.tempfile, "TemporaryFile", refuse)
    result = doctor()
    assert result.exit_code == 1
    assert f"{tmp_path} cannot be written" in result.output
