"""The front page and the guides: their Python runs in order in one process for each page, and then their commands."""

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from test_architecture import _public_objects

from shape_models import get_scheme

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
CARDS = [*sorted((ROOT / "shape_models" / "models").glob("*.md")), *sorted((ROOT / "asmnet" / "weights").glob("*.md"))]
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


def options(command):
    """Return the names of the options of a command and of the commands in it."""
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found |= options(command.get_command(context, name))
    return found


@pytest.fixture(scope="module")
def known_options():
    pytest.importorskip("torch")
    from asmnet.cli import main as networks
    from shape_models.cli import main as shapes

    scripts = "\n".join(map(text, (ROOT / "tests" / "benchmarks").glob("*.py")))
    elsewhere = {"--nproc_per_node", *re.findall(r"--[a-z][\w-]+", scripts)}
    return options(shapes) | options(networks) | elsewhere


def prose(page):
    return re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=name)
def test_every_option_that_a_page_names_exists(page, known_options):
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", prose(page))) <= known_options


@pytest.fixture(scope="module")
def known_names():
    """The public names, what their classes hold, and what can be passed to them."""
    pytest.importorskip("torch")
    found = {"range", "len", "reshape", "astronaut"}
    for path, thing in _public_objects():
        found.update(path.split("."))
        found.update(dir(thing) if inspect.isclass(thing) else ())
        for member in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function) or (inspect.isclass(function) and dataclasses.is_dataclass(function)):
                found.update(inspect.signature(function).parameters)
    return found


def named(page):
    """Yield functions, keywords and attributes in the code between backticks, without the column of other programs."""
    ours = re.sub(r"^\| [^|\n]*\|", "|", prose(page), flags=re.MULTILINE) if page.stem == "coming-from" else prose(page)
    for code in re.findall(r"`([^`\n]+)`", ours):
        try:
            tree = ast.parse(code if not code.endswith("=") else f"f({code}0)")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword):
                yield node.arg
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not code.endswith("="):
                yield node.func.id
            elif isinstance(node, ast.Attribute) and node.attr not in ("safetensors", "compile", "csv", "npz", "py"):
                yield node.attr


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=name)
def test_every_name_that_a_page_calls_exists(page, known_names):
    assert set(named(page)) <= known_names


def test_the_numbers_of_parameters_of_the_guide_are_those_of_the_networks():
    pytest.importorskip("torch")
    from asmnet import build_network

    page = text(ROOT / "examples/guides/networks.md")
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([\d ,]+) \|", page, re.MULTILINE)
    counts = {}
    for names, numbers in rows:
        split = [int(number.replace(" ", "")) for number in numbers.split(",")]
        counts |= dict(zip(re.findall(r"`([\w-]+)`", names), split, strict=True))
    assert len(counts) == 10
    for network, count in counts.items():
        assert sum(p.numel() for p in build_network(network, 68).parameters() if p.requires_grad) == count, network


def test_the_schemes_of_the_guide_exist():
    page = prose(ROOT / "examples/guides/your-own-landmarks.md")
    listed = re.search(r"These are included: (.*?);", page, re.DOTALL)[1]
    names = re.findall(r"`(\w+)`", listed)
    assert len(names) == 8
    for scheme in names:
        assert get_scheme(scheme).name == scheme
