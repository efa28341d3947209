"""Every example runs from an empty folder and leaves a picture or a page; the lectures run as notebooks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.py") if not p.name.startswith(("_", "lecture")))

ARGUMENTS = {"asm_vs_cnn": ["60"]}  # a face in sixty, not in four

NOTEBOOK = """
import sys
import jupytext, nbclient, nbformat
notebook = jupytext.read(sys.argv[1])
assert sum(cell.cell_type == "code" for cell in notebook.cells) > 8
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, "lecture.ipynb")
"""

PROMISES = {
    "lecture": ["rotation agrees: True", "variances agree: True", "twice is once: True", "is the operator: True"],
    "lecture_images": ["converged after", "90 % ellipses of the maps", "covered landmarks, fitted less projected: -"],
}


def printed(folder, *arguments):
    """Return what Python prints with these arguments in a folder, once it has ended well."""
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    out = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=1200)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(script, tmp_path):
    assert printed(tmp_path, script, *ARGUMENTS.get(script.stem, [])).strip(), "the example prints nothing"
    made = [p for p in tmp_path.rglob("*") if p.suffix in {".png", ".gif", ".html"}]
    assert made, "the example draws nothing"
    assert all(p.stat().st_size > 1000 for p in made)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_fits_a_screen_or_two(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", PROMISES)
def test_a_lecture_runs_as_a_notebook(tmp_path, name):
    for module in ("jupytext", "nbclient", "ipykernel", "torch"):
        pytest.importorskip(module, reason=f"the lectures need {module}")
    printed(tmp_path, "-c", NOTEBOOK, ROOT / "examples" / f"{name}.py")
    import nbformat

    cells = nbformat.read(tmp_path / "lecture.ipynb", as_version=4).cells
    said = "".join(o.get("text", "") for cell in cells if cell.cell_type == "code" for o in cell.outputs)
    assert [promise for promise in PROMISES[name] if promise not in said] == []
    exercises = [cell for cell in cells if "**Exercise" in cell.source]
    assert len(exercises) == 6
    assert all(f"# {i}. " in cells[-1].source for i in range(1, 7))
