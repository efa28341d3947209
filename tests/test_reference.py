"""The API reference is made from the docstrings without a complaint."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_reference_builds_without_warnings(tmp_path):
    pytest.importorskip("pdoc", reason="pdoc is not installed")
    command = [
        sys.executable, "-W", "error", "-m", "pdoc", "--docformat", "numpy", "--math", "-o", str(tmp_path),
        "shape_models", "pose", "evaluation", "asmnet",
    ]  # fmt: skip
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    assert "Warn" not in out.stderr, out.stderr[-3000:]
    page = (tmp_path / "shape_models.html").read_text(encoding="utf-8")

    for name in ("ShapeBasis", "AlignedASM", "generalized_procrustes"):
        assert name in page
