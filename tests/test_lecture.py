"""The lectures run from the first cell to the last, as notebooks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

RUN = """
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


@pytest.mark.parametrize("name", PROMISES)
def test_a_lecture_runs_as_a_notebook(tmp_path, name):
    for module in ("jupytext", "nbclient", "ipykernel", "torch"):
        pytest.importorskip(module, reason=f"the lectures need {module}")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    script = ROOT / "examples" / f"{name}.py"
    out = subprocess.run(
        [sys.executable, "-c", RUN, str(script)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    import nbformat

    cells = nbformat.read(tmp_path / "lecture.ipynb", as_version=4).cells
    printed = "".join(o.get("text", "") for cell in cells if cell.cell_type == "code" for o in cell.outputs)
    assert [promise for promise in PROMISES[name] if promise not in printed] == []
    exercises = [cell for cell in cells if "**Exercise" in cell.source]
    assert len(exercises) == 6
    assert all(f"# {i}. " in cells[-1].source for i in range(1, 7))
