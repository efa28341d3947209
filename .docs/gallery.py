"""Runs the examples, each in a folder of its own, and keeps what they print and draw until they change."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = {".png", ".gif"}
_NOTEBOOK = """
import sys
import jupytext, nbclient, nbformat
notebook = jupytext.read(sys.argv[1])
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, "notebook.ipynb")
"""


@dataclass(frozen=True)
class Example:
    """One script of `examples/`."""

    path: Path

    @property
    def name(self) -> str:
        """Its name, also in addresses."""
        return self.path.stem

    @property
    def source(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @property
    def is_lecture(self) -> bool:
        """Whether it is a notebook in the percent format."""
        return self.source.startswith("# ---")

    @property
    def docstring(self) -> str:
        """What it says of itself; for a lecture, its first cell."""
        if self.is_lecture:
            return next(text for kind, text in cells(self.source) if kind == "markdown")
        return ast.get_docstring(ast.parse(self.source)) or ""

    @property
    def title(self) -> str:
        """The first line, up to a colon or the full stop."""
        return re.split(r"[:.](?:\s|$)", self.docstring.removeprefix("# "), maxsplit=1)[0].split("\n")[0]

    @property
    def kept(self) -> Path:
        """Where its results are kept; another text of the script is another folder."""
        shared = (EXAMPLES / "_common.py").read_bytes()
        key = hashlib.sha256(shared + self.path.read_bytes()).hexdigest()[:12]
        return ROOT / "build" / "gallery" / f"{self.name}-{key}"


def examples() -> list[Example]:
    """Return all examples, the lectures first."""
    found = [Example(path) for path in sorted(EXAMPLES.glob("[a-z]*.py"))]
    return sorted(found, key=lambda example: not example.is_lecture)


def cells(source: str) -> list[tuple[str, str]]:
    """Return the cells of a notebook in the percent format as (kind, text)."""
    found = []
    for cell in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            found.append(("markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()))
        else:
            found.append(("code", body.strip()))
    return found


def run(example: Example) -> Path:
    """Run an example unless its results are there already; return their folder."""
    if example.kept.exists():
        return example.kept
    working = example.kept.with_suffix(".tmp")
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    # Without real data: the pictures of the site show no face of a research set.
    env = {key: value for key, value in os.environ.items() if key != "SHAPE_MODELS_DATA"}
    path = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(example.path)]
    if example.is_lecture:
        command = [sys.executable, "-c", _NOTEBOOK, str(example.path)]
        del env["MPLBACKEND"]  # so that the kernel keeps the pictures in the notebook
    print(f"running {example.path.relative_to(ROOT)}", flush=True)
    out = subprocess.run(command, cwd=working, env=env, capture_output=True, text=True, check=False)
    if out.returncode:
        raise RuntimeError(f"{example.path.name} fails:\n{out.stderr[-3000:]}")
    (working / "printed.txt").write_text(out.stdout, encoding="utf-8")
    for old in example.kept.parent.glob(f"{example.name}-*"):
        if old != working:
            shutil.rmtree(old)
    working.rename(example.kept)
    return example.kept


def write_page(example: Example, folder: Path, extra: Path) -> None:
    """Write the page of an example, with its results where they are kept."""
    shutil.copy(example.path, folder)
    kept = example.kept if example.kept.exists() else None
    page = _lecture(example, folder, kept) if example.is_lecture else _script(example, folder, extra, kept)
    (folder / f"{example.name}.md").write_text(page, encoding="utf-8")


def thumbnail(example: Example, folder: Path) -> str | None:
    """Return the file name of the picture that stands for an example, None where it has none."""
    own = (f"{example.name}.", f"{example.name}-")  # and not those of a name that begins alike
    found = sorted(p.name for p in folder.iterdir() if p.suffix in PICTURES and p.name.startswith(own))
    stills = [name for name in found if not name.endswith(".gif")]
    return (stills or found or [None])[0]


def _script(example: Example, folder: Path, extra: Path, kept: Path | None) -> str:
    text = example.docstring.split("\n", 1)[1].strip() if "\n" in example.docstring else example.docstring
    first = example.docstring.split("\n")[0]
    parts = [f"# {example.title}", *([first] if first.rstrip(".") != example.title else []), text]
    if kept:
        for picture in sorted(p for p in kept.rglob("*") if p.suffix in PICTURES):
            name = picture.name if picture.name.startswith(example.name) else f"{example.name}-{picture.name}"
            shutil.copy(picture, folder / name)
            parts.append(f"![What the script draws]({name})")
        for made in sorted(kept.rglob("*.html")):
            extra.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, extra / made.name)
            parts.append(f'<iframe class="page" src="../pages/{made.name}" title="{example.title}"></iframe>')
        parts += ["It prints:", fenced("text", (kept / "printed.txt").read_text(encoding="utf-8"))]
    body = example.source.split('"""', 2)[2].strip()
    parts += [f"The script, [{example.path.name}]({example.path.name}):", fenced("python", body)]
    return "\n\n".join(parts) + "\n"


def _lecture(example: Example, folder: Path, kept: Path | None) -> str:
    parts = []
    if kept is None:
        parts = [text if kind == "markdown" else fenced("python", text) for kind, text in cells(example.source)]
    else:
        notebook = json.loads((kept / "notebook.ipynb").read_text(encoding="utf-8"))
        n_pictures = 0
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(source)
                continue
            parts.append(fenced("python", source))
            printed = "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")
            if printed.strip():
                parts.append(fenced("text", printed))
            for out in cell["outputs"]:
                if "image/png" in out.get("data", {}):
                    n_pictures += 1
                    name = f"{example.name}-{n_pictures}.png"
                    (folder / name).write_bytes(base64.b64decode(out["data"]["image/png"]))
                    parts.append(f"![What this cell draws]({name})")
    title, *rest = parts
    download = f"[{example.path.name}]({example.path.name}) is this lecture as a script for Jupyter."
    return "\n\n".join([title, download, *rest]) + "\n"


def fenced(kind: str, text: str) -> str:
    """Return a block of code."""
    return f"```{kind}\n{text.rstrip()}\n```"
