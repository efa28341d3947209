"""Every name that a message recommends exists, and so does every command, option and extra that one mentions."""

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
from no_torch import has_torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("shape_models", "pose", "evaluation", "asmnet")
MODULES = {"np": "numpy", "plt": "matplotlib.pyplot", "torch": "torch", "Rotation": "scipy.spatial.transform:Rotation"}
OPTIONS_OF_OTHERS = {"weights_only"}  # of torch.load
FILES = (".csv", ".tps", ".pts", ".npz", ".npy", ".json", ".ljson", ".safetensors")
NAME = re.compile(r"(?<![\w.'\"/*-])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(\()?")
OPTION = re.compile(r"(?<![\w.])([a-z_]\w*)=(?!=)")


def _text(node):
    """The text of a string, with what is filled in as a blank."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return None


def _hints():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in ast.walk(tree):
                text = _text(node) if id(node) not in inner else None
                if text and (found := re.search(r"\bTry (.*)", text, re.DOTALL)) and "\n    " not in text:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", found[1]


def _modules():
    for package in PACKAGES:
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        yield module
        for info in pkgutil.walk_packages(module.__path__, package + "."):
            if not info.name.endswith("__main__"):
                try:
                    yield importlib.import_module(info.name)
                except ImportError:  # an optional dependency
                    continue


@pytest.fixture(scope="module")
def names():
    """Everything public by its name, what objects at hand may have, and every parameter of a public callable."""
    found, attributes, parameters = {}, set(dir(np.ndarray)) | {"state_dict"}, set(OPTIONS_OF_OTHERS)
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        own = re.findall(r"\bself\.(\w+)|[.\"]([a-z]\w*_)\b", path.read_text())  # what is learned ends in _
        attributes |= {name for pair in own for name in pair}
    for module in _modules():
        for name, thing in vars(module).items():
            if not name.startswith("_") and getattr(thing, "__module__", "").split(".")[0] in PACKAGES:
                found[name] = thing
                if inspect.isclass(thing):
                    attributes |= {*dir(thing), *getattr(thing, "__dataclass_fields__", ())}
                for callable_ in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
                    callable_ = getattr(callable_, "__func__", callable_)
                    if callable(callable_):
                        try:
                            parameters |= set(inspect.signature(callable_).parameters)
                        except (TypeError, ValueError):
                            continue
    return found, attributes, parameters


def _resolves(dotted, found, attributes):
    first, *rest = dotted.split(".")
    if first in found:
        thing = found[first]
    else:
        module, _, attribute = MODULES.get(first, first).partition(":")
        try:
            thing = importlib.import_module(module)
        except ImportError:  # an object at hand, such as a model or a basis; or torch, where it is not
            return first in MODULES or (first.islower() and rest[-1] in attributes)
        thing = getattr(thing, attribute) if attribute else thing
    for name in rest:
        if inspect.ismodule(thing) and not hasattr(thing, name):
            try:
                importlib.import_module(f"{thing.__name__}.{name}")
            except ImportError:
                return False
        if not hasattr(thing, name) and name not in getattr(thing, "__dataclass_fields__", {}):
            return False
        thing = getattr(thing, name, None)
    return True


def test_what_is_recommended_exists(names):
    found, attributes, parameters = names
    wrong, checked = [], 0
    for where, hint in _hints():
        for match in NAME.finditer(hint):
            dotted, call = match[1], match[2]
            if "." in dotted and not dotted.endswith(FILES):
                checked += 1
                if not _resolves(dotted, found, attributes):
                    wrong.append(f"{where}: {dotted}")
            elif call:
                checked += 1
                if dotted not in found and not hasattr(builtins, dotted) and not hasattr(np.ndarray, dotted):
                    wrong.append(f"{where}: {dotted}()")
        for option in OPTION.findall(hint):
            checked += 1
            if option not in parameters:
                wrong.append(f"{where}: {option}=")
    assert checked > 60
    assert not wrong, "\n".join(wrong)


def _strings():
    """Yield where it stands and the text of every string that is no docstring."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
            inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                text = _text(node)
                if text and id(node) not in inside:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def _commands():
    """Return the options of each command by its full name."""
    found = {}

    def walk(name, command):
        every = [(*parameter.opts, *parameter.secondary_opts) for parameter in command.params]
        found[name] = set().union(*every)
        if isinstance(command, click.Group):
            for child in command.list_commands(click.Context(command)):
                walk(f"{name} {child}", command.get_command(click.Context(command), child))

    for name, module in (
        ("shape-models", "shape_models.cli"),
        ("shape-models evaluate", "evaluation.__main__"),
        ("shape-models pose", "pose.__main__"),
        ("asmnet", "asmnet.cli"),
    ):
        if module != "asmnet.cli" or has_torch():
            walk(name, importlib.import_module(module).main)
    return found


def test_commands_and_their_options_exist():
    """In every message and every help text, also where nothing is recommended."""
    commands = _commands()
    options = {"--help", "--version"}.union(*commands.values())
    wrong, checked = [], 0
    for where, text in _strings():
        if where.startswith("asmnet") and not has_torch():
            continue
        for command in re.findall(r"`((?:shape-models|asmnet) [a-z][a-z-]+)", text):
            checked += 1
            wrong += [] if command in commands else [f"{where}: `{command}`"]
        for option in re.findall(r"(?<![\w\"'-])--[a-z][a-z0-9-]*", text if " " in text else ""):
            checked += 1
            wrong += [] if option in options else [f"{where}: {option}"]
    assert checked > 40
    assert not wrong, "\n".join(wrong)


def test_what_is_to_be_installed_exists():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = [(where, extra) for where, text in _strings() for extra in re.findall(r"shape-models\[([\w,]+)\]", text)]
    assert len(named) > 4
    assert [(where, extra) for where, extra in named if not set(extra.split(",")) <= extras] == []


def test_options_in_messages_exist(names):
    """Everything that a message writes as ``name=`` is a parameter, or a word of a file format."""
    parameters = names[2] | {"KEY", "LM", "ignore", "NAME", "name"}
    wrong, checked = [], 0
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            for part in ast.walk(node.exc):
                for option in OPTION.findall(_text(part) or ""):
                    checked += 1
                    if option not in parameters:
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {option}=")
    assert checked > 100
    assert not wrong, "\n".join(wrong)
