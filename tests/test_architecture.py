"""The rules of the house, as data: who imports whom, what is public, what stays out of an import."""

import ast
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest
from no_torch import has_torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("shape_models", "pose", "evaluation", "asmnet")
MAY_IMPORT = {
    "shape_models": set(),
    "pose": {"shape_models"},
    "evaluation": {"shape_models"},
    "asmnet": {
        "shape_models",
        "pose",
        "evaluation",
        "torch",
        "safetensors",
        "tqdm",
        "onnx",
        "onnxruntime",
        "onnxscript",
    },
}
EVERYWHERE = {
    *sys.stdlib_module_names,
    "numpy",
    "scipy",
    "sklearn",
    "numba",
    "skimage",
    "array_api_compat",
    "click",
}
INSIDE_FUNCTIONS = {
    "matplotlib",
    "mpl_toolkits",
    "PIL",
    "h5py",
    "dask",
    "distributed",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "threadpoolctl",
    "av",
}
NAMED = re.compile(r"(shape_models|pose|evaluation|asmnet)(\.\w+)*(:\w+|\.\w+)")  # "pose:f", "asmnet.cli"
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "shape_models",
    "asmnet",
    "pose",
    "evaluation",
    "examples",
    "tests",
}


@cache
def _sources(package):
    return sorted((ROOT / package).rglob("*.py"))


@cache
def _parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree, own):
    """Yield (root module, line, whether at module level) for every absolute import."""
    top = set()
    stack = list(tree.body)
    while stack:  # module level, also within if and try
        node = stack.pop()
        top.add(id(node))
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if not guard:
                stack.extend(ast.iter_child_nodes(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value.split(".")[0].split(":")[0], node.lineno, False  # an import by a string
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], node.lineno, id(node) in top


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_house(package):
    allowed = EVERYWHERE | INSIDE_FUNCTIONS | MAY_IMPORT[package] | {package}
    for path in _sources(package):
        for root, line, at_top in _imports(_parsed(path), package):
            assert root in allowed, f"{path.relative_to(ROOT)}:{line} imports {root}"
            assert not (at_top and root in INSIDE_FUNCTIONS), (
                f"{path.relative_to(ROOT)}:{line} imports {root} at module level"
            )


@cache
def _modules():
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for p in PACKAGES for path in _sources(p)}
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


@cache
def _imported_names(name, path):
    """Return (module, name or None, node) for every import in a file, relative ones resolved."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            found += [(base, alias.name, node) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, None, node) for alias in node.names]
    return found


def test_no_private_name_crosses_a_file():
    modules = _modules()
    crossing = []
    for name, path in modules.items():
        own = set()  # modules of ours, as this file calls them
        for base, imported, node in _imported_names(name, path):
            if base.split(".")[0] not in PACKAGES or imported is None:
                continue
            if f"{base}.{imported}" in modules:
                own |= {alias.asname or alias.name for alias in node.names if alias.name == imported}
            elif imported.startswith("_") and not imported.startswith("__"):
                crossing.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {imported} of {base}")
        crossing += [
            f"{path.relative_to(ROOT)}:{node.lineno} takes {node.value.id}.{node.attr}"
            for node in ast.walk(_parsed(path))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in own
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ]
    assert not crossing, crossing


def _circles(graph):
    """Return the sets of modules that reach each other."""
    reach = {name: set(after) for name, after in graph.items()}
    for middle in reach:
        for after in reach.values():
            if middle in after:
                after |= reach[middle]
    return {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in reach if a in reach[a]}


def _graph(package):
    """Return who imports whom in a package, also within functions and for type checking.

    An ``__init__`` gathers, and stands for what it gathers.
    """
    modules = _modules()
    gathered = {
        (name, imported): base
        for name, path in modules.items()
        if path.stem == "__init__"
        for base, imported, _ in _imported_names(name, path)
        if base != name
    }
    files = {name: modules[name] for name in modules if modules[name].stem != "__init__"}
    graph = {}
    for name, path in files.items():
        if name.split(".")[0] == package:
            graph[name] = set()
            for base, imported, _ in _imported_names(name, path):
                while (base, imported) in gathered:
                    base = gathered[base, imported]
                graph[name] |= {f"{base}.{imported}", base} & files.keys() - {name}
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_round_a_circle(package):
    assert not _circles(_graph(package))


HEAVY = {"torch", "matplotlib", "PIL", "cv2", "numba", "skimage", "h5py", "dask", "click"}

_PROBE = """
import importlib, json, sys
found = {}
for name, heavy in json.loads(sys.argv[1]).items():
    importlib.import_module(name)
    found[name] = sorted({*heavy} & {*sys.modules})
print(json.dumps(found))
"""


@cache
def _brought_along():
    """Return what each package brings along that it should not, all imported one after the other in one process."""
    named = dict.fromkeys(PACKAGES[:3], HEAVY)
    if has_torch():
        named["asmnet"] = {"numba", "matplotlib", "shape_models.search"}
    asked = json.dumps({name: sorted(heavy) for name, heavy in named.items()})
    out = subprocess.run([sys.executable, "-c", _PROBE, asked], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(out.stdout)


@pytest.mark.parametrize("package", PACKAGES[:3])
def test_import_stays_light(package):
    assert _brought_along()[package] == []


def test_the_networks_do_not_bring_the_search_along():
    pytest.importorskip("torch")
    assert _brought_along()["asmnet"] == []


def test_nothing_else_stands_at_the_top():
    out = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if out.returncode:
        pytest.skip("not a git checkout")
    found = {line.split("/")[0] for line in out.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} <= TOP_LEVEL


def _public_modules():
    for package in PACKAGES:
        if package == "asmnet" and not has_torch():
            continue
        module = importlib.import_module(package)
        yield module
        for info in pkgutil.walk_packages(module.__path__, package + "."):
            if not any(part.startswith("_") for part in info.name.split(".")):
                yield importlib.import_module(info.name)


def _public_objects():
    seen = set()
    for module in _public_modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and id(thing) not in seen:
                seen.add(id(thing))
                yield f"{module.__name__}.{name}", thing


def test_every_public_module_names_its_names():
    for module in _public_modules():
        names = getattr(module, "__all__", None)
        assert names is not None, f"{module.__name__} has no __all__"
        assert len(set(names)) == len(names)
        for name in names:
            assert hasattr(module, name), f"{module.__name__}.__all__ names {name}, which does not exist"


def test_every_public_name_has_a_docstring_with_an_example():
    without = [path for path, thing in _public_objects() if ">>>" not in (inspect.getdoc(thing) or "")]
    assert not without, f"no runnable example in the docstring of {without}"


def test_public_functions_take_choices_by_keyword():
    """At most four positional parameters, and a parameter with a bool default is keyword-only."""
    wrong = []
    for path, thing in _public_objects():
        if not inspect.isfunction(thing):
            continue
        positional = [
            p for p in inspect.signature(thing).parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        if len(positional) > 4 or any(isinstance(p.default, bool) for p in positional):
            wrong.append(path)
    assert not wrong


def _compiled():
    """Yield the compiled functions of the packages, each with its module."""
    from numba.core.dispatcher import Dispatcher

    for package in ("shape_models", "pose", "evaluation"):
        for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not info.name.endswith("__main__"):
                module = importlib.import_module(info.name)
                for thing in vars(module).values():
                    if isinstance(thing, Dispatcher) and thing.py_func.__module__ == module.__name__:
                        yield module, thing


def _called(function):
    """Return the compiled functions that a compiled function calls."""
    named = [function.py_func.__globals__.get(name) for name in function.py_func.__code__.co_names]
    return [thing for thing in named if isinstance(thing, type(function))]


def test_compiled_functions_contain_what_they_call():
    """A call that is left would have other last digits in the process that compiles than in those after it."""
    seen = 0
    for _, caller in _compiled():
        for callee in _called(caller):
            seen += 1
            assert callee.targetoptions.get("forceinline"), f"{caller} calls {callee}"
    assert seen > 50


def test_functions_are_compiled_anew_when_what_they_inline_changes():
    """Numba looks compiled functions up by the text of their own file; what is inlined may lie in others."""
    inlined = {}
    for module, caller in _compiled():
        if not caller.targetoptions.get("forceinline"):
            stack, met = [caller], set()
            while stack:
                function = stack.pop()
                met.add(Path(sys.modules[function.py_func.__module__].__file__))
                stack += [callee for callee in _called(function) if callee not in stack]
            inlined.setdefault(module, set()).update(met - {Path(module.__file__)})
    wrong = []
    for module, files in inlined.items():
        if files:
            # `_kernels` says how all of them are compiled.
            text = b"".join(path.read_bytes() for path in sorted({*files, ROOT / "shape_models" / "_kernels.py"}))
            digest = hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()[:16]
            if getattr(module, "INLINED", None) != digest:
                wrong.append(f"{module.__name__}: try INLINED = {digest!r}")
    assert not wrong
    assert len([files for files in inlined.values() if files]) >= 6


def test_files_stay_short():
    """A file that grows beyond this holds more than one idea."""
    lines = {p: len(p.read_text(encoding="utf-8").splitlines()) for name in PACKAGES for p in _sources(name)}
    long = sorted((n, str(path.relative_to(ROOT))) for path, n in lines.items() if n > 500)
    assert not [entry for entry in long if entry[0] > 620]
    assert len(long) <= 8, long


def test_words_as_flags_are_refused_everywhere():
    """Any text is true: a public function checks a flag, or hands it by its name to what checks it."""
    unchecked, seen = [], 0
    for path, thing in _public_objects():
        functions = [thing] if inspect.isfunction(thing) else [m for m in vars(thing).values() if inspect.isfunction(m)]
        for function in functions:
            if path.startswith("asmnet") or function.__name__.startswith("_") or not function.__doc__:
                continue
            node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
            given = [keyword for call in ast.walk(node) if isinstance(call, ast.Call) for keyword in call.keywords]
            handed = {keyword.arg for keyword in given if keyword.arg == getattr(keyword.value, "id", None)}
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                if argument.annotation and ast.unparse(argument.annotation) in ("bool", "bool | None"):
                    seen += 1
                    if argument.arg not in handed:
                        unchecked.append(f"{path}: {node.name}({argument.arg}=)")
    assert seen > 40
    assert not unchecked
