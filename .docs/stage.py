"""Lays out the sources of the site: python .docs/stage.py SOURCE [--run all | none | NAME ...]."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
import gallery  # noqa: E402

PACKAGES = ("shape_models", "asmnet", "pose", "evaluation")
GUIDES = (
    ("Begin", ("your-own-landmarks", "conventions", "coming-from", "glossary")),
    ("Shapes", ("small-sets", "operator", "curves", "any-detector")),
    ("Images", ("search", "networks", "head-pose")),
    ("Numbers", ("evaluation", "benchmarks")),
)
_LINK = re.compile(r"(!?\[(?:[^\[\]]|!?\[[^\[\]]*\]\([^)]*\))*\]\()([^)#:\s]+)(#[^)\s]*)?\)")


def pages() -> dict[Path, str]:
    """Return where each Markdown file of the repository stands on the site."""
    found = {ROOT / "README.md": "index.md"}
    for path in sorted((ROOT / "examples" / "guides").glob("*.md")):
        found[path] = f"guides/{path.name}"
    for folder in ("shape_models/models", "asmnet/weights"):
        for path in sorted((ROOT / folder).glob("*.md")):
            found[path] = f"models/{path.name}"
    found[ROOT / ".github" / "CHANGELOG.md"] = "changelog.md"
    found[ROOT / ".github" / "CONTRIBUTING.md"] = "contributing.md"
    for example in gallery.examples():
        found[example.path] = f"gallery/{example.name}.md"
    return found


def moved(text: str, page: Path, site: str, where: dict[Path, str], source: Path) -> str:
    """Let the links of a page lead to where things stand on the site; other files come along as downloads."""

    def replace(match: re.Match[str]) -> str:
        before, target, anchor = match[1], match[2], match[3] or ""
        before = _LINK.sub(replace, before)
        path = (page.parent / target).resolve()
        if not path.exists():
            raise FileNotFoundError(f"{page.relative_to(ROOT)} links to {target}, which does not exist.")
        if path not in where:
            new = f"files/{path.relative_to(ROOT)}".replace("/.", "/")
            (source / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / new)
        else:
            new = where[path]
        return f"{before}{os.path.relpath(new, Path(site).parent)}{anchor})"

    blocks = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(block if block.startswith("```") else _LINK.sub(replace, block) for block in blocks)


def write(path: Path, text: str) -> None:
    """Write a text, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def toctree(entries: list[str], caption: str | None = None, *, hidden: bool = True, depth: int = 1) -> str:
    """Return a table of contents in MyST."""
    options = [f":maxdepth: {depth}", *([":hidden:"] if hidden else []), *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *entries, "```"])


# --- The reference ---------------------------------------------------------------------------------------


def public_modules(package: str) -> list[ModuleType]:
    """Return a package and its public modules, in order of depth."""
    module = importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(module.__path__, package + ".")]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [module, *map(importlib.import_module, sorted(public, key=lambda name: (name.count("."), name)))]


def reference(source: Path) -> None:
    """Write one page for each public class and function, where it is nearest to the top, and one for each module."""
    seen: set[int] = set()
    tops = []
    for package in PACKAGES:
        below = []
        for module in public_modules(package):
            things = {name: getattr(module, name) for name in sorted(module.__all__, key=str.casefold)}
            new = {name: thing for name, thing in things.items() if id(thing) not in seen and not _is_command(thing)}
            new = {name: thing for name, thing in new.items() if not inspect.ismodule(thing)}
            if module.__name__ != package and not any(map(_has_page, new.values())):
                continue
            seen |= {id(thing) for thing in new.values()}
            for name, thing in new.items():
                if _has_page(thing):
                    _object_page(source / "reference" / f"{module.__name__}.{name}.rst", module, name, thing)
            if module.__name__ != package:
                below.append(module.__name__)
                _module_page(source, module, new, [])
            else:
                top = module, new
        _module_page(source, *top, below)
        tops.append(package)
    commands(source)
    text = "# Reference\n\nBy package; every public name has a page with an example.\n\n"
    text += "\n".join(f"- [{name}]({name}.rst): {_summary(sys.modules[name])}" for name in tops)
    text += "\n- [Commands](commands.md): what stands behind `shape-models` and `asmnet`.\n\n"
    write(source / "reference" / "index.md", text + toctree([*tops, "commands"]))


def _is_command(thing: Any) -> bool:
    return isinstance(thing, click.Command)


def _has_page(thing: Any) -> bool:
    return inspect.isclass(thing) or inspect.isfunction(thing)


def _summary(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _object_page(path: Path, module: ModuleType, name: str, thing: Any) -> None:
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        kind = "autoexception"
    # Not in the sidebar: 330 entries on each page would be most of the site, and of the time that it takes.
    lines = [":orphan:", "", _title(name), f"From :doc:`{module.__name__}`.", ""]
    lines += [f".. currentmodule:: {module.__name__}", "", f".. {kind}:: {module.__name__}.{name}"]
    if inspect.isclass(thing):
        lines += ["   :members:"]
        bases = [base for base in thing.__bases__ if base is not object]
        lines += ["   :show-inheritance:"] if bases else []
    write(path, "\n".join(lines) + "\n")


def _module_page(source: Path, module: ModuleType, things: dict[str, Any], below: list[str]) -> None:
    name = module.__name__
    lines = [_title(name.partition(".")[2] or name)]
    lines += [f".. automodule:: {name}", "   :no-members:", "", f".. currentmodule:: {name}", ""]
    for title, chosen in (
        ("Classes", [n for n, thing in things.items() if inspect.isclass(thing)]),
        ("Functions", [n for n, thing in things.items() if inspect.isfunction(thing)]),
    ):
        if chosen:
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "", *(f"   {n}" for n in chosen), ""]
    others = [n for n, thing in things.items() if not _has_page(thing)]
    if others:
        lines += [".. rubric:: Constants", ""]
        lines += [f"- ``{n}``, of type ``{type(things[n]).__name__}``" for n in others] + [""]
    if below:
        lines += [".. rubric:: Modules", ""]
        lines += [f"- :doc:`{child}`: {_summary(sys.modules[child])}" for child in below] + [""]
    lines += [".. toctree::", "   :hidden:", "", *(f"   {child}" for child in below)]
    write(source / "reference" / f"{name}.rst", "\n".join(lines) + "\n")


def commands(source: Path) -> None:
    """Write the help of every command."""
    parts = ["# Commands", "Every command answers `--help`; what it says stands here."]
    for name, module in (("shape-models", "shape_models.cli"), ("asmnet", "asmnet.cli")):
        group = importlib.import_module(module).main
        context = click.Context(group, info_name=name, max_content_width=88, terminal_width=88)
        parts += [f"## {name}", gallery.fenced("text", group.get_help(context))]
        for child in group.list_commands(context):
            command = group.get_command(context, child)
            inner = click.Context(command, info_name=child, parent=context, max_content_width=88, terminal_width=88)
            parts += [f"### {name} {child}", gallery.fenced("text", command.get_help(inner))]
            if isinstance(command, click.Group):
                for grandchild in command.list_commands(inner):
                    last = command.get_command(inner, grandchild)
                    deeper = click.Context(
                        last, info_name=grandchild, parent=inner, max_content_width=88, terminal_width=88
                    )
                    parts += [f"### {name} {child} {grandchild}", gallery.fenced("text", last.get_help(deeper))]
    write(source / "reference" / "commands.md", "\n\n".join(parts) + "\n")


# --- Everything ------------------------------------------------------------------------------------------


def stage(source: Path, extra: Path, run: list[str]) -> None:
    """Write all sources into an empty folder."""
    for folder in (source, extra):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    where = pages()
    for path, site in where.items():
        if path.suffix == ".md":
            text = moved(path.read_text(encoding="utf-8"), path, site, where, source)
            if site == "index.md":
                parts = [toctree(["guides/index", "gallery/index", "reference/index", "models/index"], "Contents")]
                parts.append(toctree(["changelog", "contributing"], "Project"))
                text += "\n" + "\n\n".join(parts) + "\n"
            write(source / site, text)
    text = "# Guides\n\nEvery block of Python in them is run by the tests.\n\n"
    listed = {name for _, names in GUIDES for name in names}
    written = {path.stem for path, site in where.items() if site.startswith("guides/")}
    if listed != written:
        raise ValueError(f"GUIDES of {Path(__file__).name} and examples/guides differ in {sorted(listed ^ written)}.")
    for title, names in GUIDES:
        text += f"## {title}\n\n" + toctree(list(names), hidden=False) + "\n\n"
    write(source / "guides" / "index.md", text)
    cards = {Path(site).stem: path for path, site in sorted(where.items()) if site.startswith("models/")}
    text = "# Model cards\n\nWhat each bundled model learned from, what it may be used for, and how exact it is.\n\n"
    for name, path in sorted(cards.items()):
        text += f"- [{name}]({name}.md): {path.read_text(encoding='utf-8').split(chr(10) * 2)[1]}\n"
    write(source / "models" / "index.md", f"{text}\n{toctree(sorted(cards))}\n")

    examples = gallery.examples()
    unknown = set(run) - {"all", "none"} - {example.name for example in examples}
    if unknown:
        raise ValueError(f"there is no example {', '.join(sorted(unknown))}.")
    folder = source / "gallery"
    folder.mkdir()
    text = "# Gallery\n\nEach script is one idea with one picture; the lectures are notebooks with exercises.\n\n"
    text += "::::{container} cards\n"
    for example in examples:
        if run == ["all"] or example.name in run:
            gallery.run(example)
        gallery.write_page(example, folder, extra / "pages")
        picture = gallery.thumbnail(example, folder)
        image = f"[![]({picture})]({example.name}.md)\n\n" if picture else ""
        text += f"\n:::{{container}} card\n{image}[{example.title}]({example.name}.md)\n:::\n"
    text += "::::\n\n" + toctree([example.name for example in examples])
    write(folder / "index.md", text + "\n")
    reference(source)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder to lay out in")
    parser.add_argument("--run", nargs="+", default=["all"], help="examples to run: all, none, or their names")
    options = parser.parse_args()
    stage(options.source, options.source.with_name(options.source.name + "-extra"), options.run)
