"""The front page and the guides: their Python runs in order in one process for each page, and then their commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
LINKED = [*PAGES, *sorted((ROOT / ".github").rglob("*.md"))]
# Installing, training for hours, and running the scripts that run these tests, is done by those scripts themselves.
RUN_ELSEWHERE = ("pip install", "sh tests/", "sh examples/demo.sh", "python tests/benchmarks/", "git clone")
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def name(page):
    return page.stem


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page):
    return re.findall(r"^```(\S*)\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def commands(page):
    for kind, body in blocks(page):
        if kind == "console":
            for line in body.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").strip()
                if command and not command.startswith("#") and not command.startswith(RUN_ELSEWHERE):
                    yield command


def environment():
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
    }


def needs_torch(page):
    return any(re.search(r"\b(torch|asmnet)\b", body) for kind, body in blocks(page) if kind in ("python", "console"))


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_block_is_of_a_known_kind(page):
    assert {kind for kind, _ in blocks(page)} <= {"python", "console", "text", "bibtex"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_the_page_shows_runs(page, tmp_path):
    """Warnings are errors; the commands use the files that the Python made."""
    if needs_torch(page):
        pytest.importorskip("torch")
    code = "\n".join(body for kind, body in blocks(page) if kind == "python")
    shown = [
        command
        for command in commands(page)
        if "SHAPE_MODELS_DATA" not in command or os.environ.get("SHAPE_MODELS_DATA")
    ]
    if not code and not shown:
        pytest.skip("the page shows nothing that can run here")
    script = tmp_path / "page.py"
    script.write_text(code, encoding="utf-8")
    run = [sys.executable, "-W", "error", str(script)]
    out = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    for command in shown:
        out = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert out.returncode == 0, f"{command}\n{out.stdout[-1500:]}\n{out.stderr[-1500:]}"


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_between_files_resolve(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(#[^)\s]+)?\)", _PYTHON.sub("", text(page))):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"
        if anchor:
            assert anchor[1:] in anchors(path), f"{page.relative_to(ROOT)} links to {target}{anchor}"


def anchors(path):
    """The anchors that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_front_page_is_a_screen_and_a_half():
    assert len(text(ROOT / "README.md").splitlines()) <= 130


def test_the_front_page_lists_every_guide():
    assert len(GUIDES) >= 12
    listed = set(re.findall(r"\]\(examples/guides/([\w-]+)\.md\)", text(ROOT / "README.md")))
    assert listed == {guide.stem for guide in GUIDES}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_has_one_title(page):
    outside = re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", outside, re.MULTILINE)) == 1
