"""Every example runs from an empty folder, prints something and leaves a picture or a page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.py") if not p.name.startswith(("_", "lecture")))

ARGUMENTS = {"asm_vs_cnn": ["20"]}  # a face in twenty, not in four


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(script, tmp_path):
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, str(script), *ARGUMENTS.get(script.stem, [])],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    assert out.stdout.strip(), "the example prints nothing"
    made = [p for p in tmp_path.rglob("*") if p.suffix in {".png", ".gif", ".html"}]
    assert made, "the example draws nothing"
    assert all(p.stat().st_size > 1000 for p in made)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_fits_a_screen_or_two(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 120
