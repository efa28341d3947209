"""Every code block of README.md runs: the Python blocks in order in one process, the commands of the console blocks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
# Installing, and running the scripts that run these tests, is done by those scripts themselves.
RUN_ELSEWHERE = ("pip install", "sh tests/run.sh", "sh examples/demo.sh", "python tests/benchmarks/", "git clone")


def environment():
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
    }


def test_every_block_is_of_a_known_kind():
    assert BLOCKS
    assert {kind for kind, _ in BLOCKS} <= {"python", "console", "text", "bibtex"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the Python of the page has run: its commands use the files made there."""
    folder = tmp_path_factory.mktemp("readme")
    code = "\n".join(body for kind, body in BLOCKS if kind == "python")
    assert code, "README.md shows no Python"
    script = folder / "readme.py"
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    out = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    return folder


def test_python_blocks_run_in_order(folder):
    assert (folder / "readme.py").exists()


def commands():
    for kind, body in BLOCKS:
        if kind == "console":
            for line in body.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").strip()
                if command and not command.startswith("#") and not command.startswith(RUN_ELSEWHERE):
                    yield command


def test_commands_run(folder):
    """In the order of the page."""
    done = []
    for command in commands():
        if "SHAPE_MODELS_DATA" in command and not os.environ.get("SHAPE_MODELS_DATA"):
            continue
        out = subprocess.run(
            ["sh", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert out.returncode == 0, f"{command}\n{out.stdout[-1500:]}\n{out.stderr[-1500:]}"
        done.append(command)
    if not done:
        pytest.skip("README.md shows no command that can run here")


def test_links_to_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which does not exist"
