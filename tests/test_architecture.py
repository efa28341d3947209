"""The rules of the house, as data: who imports whom, what is public, what stays out of an import."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
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
    *sys.stdlib_module_names, "numpy", "scipy", "sklearn", "numba", "skimage", "array_api_compat", "click",
}  # fmt: skip
INSIDE_FUNCTIONS = {
    "matplotlib", "PIL", "h5py", "dask", "distributed", "onnx", "onnxruntime", "onnxscript", "threadpoolctl", "av",
}  # fmt: skip
TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "shape_models", "asmnet", "pose", "evaluation", "examples", "tests",
}  # fmt: skip


def _sources(package):
    return sorted((ROOT / package).rglob("*.py"))


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
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], node.lineno, id(node) in top


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_house(package):
    allowed = EVERYWHERE | INSIDE_FUNCTIONS | MAY_IMPORT[package] | {package}
    for path in _sources(package):
        for root, line, at_top in _imports(ast.parse(path.read_text()), package):
            assert root in allowed, f"{path.relative_to(ROOT)}:{line} imports {root}"
            assert not (at_top and root in INSIDE_FUNCTIONS), (
                f"{path.relative_to(ROOT)}:{line} imports {root} at module level"
            )


@pytest.mark.parametrize("package", PACKAGES[:3])
def test_import_stays_light(package):
    heavy = {"torch", "matplotlib", "PIL", "cv2", "numba", "skimage", "h5py", "dask", "click"}
    code = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_the_networks_do_not_bring_the_search_along():
    pytest.importorskip("torch")
    code = "import sys, asmnet; print(sorted({'numba', 'matplotlib', 'shape_models.search'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


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
            p for p in inspect.signature(thing).parameters.values()
            if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]  # fmt: skip
        if len(positional) > 4 or any(isinstance(p.default, bool) for p in positional):
            wrong.append(path)
    assert not wrong
