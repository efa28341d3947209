"""A pytest plugin (``-p no_torch``): torch and what comes with it cannot be imported."""

import importlib.util
import sys


class _Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "safetensors", "tqdm", "onnx", "onnxruntime"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def pytest_configure(config):
    """Act as a plugin only: collecting this file for doctests must change nothing."""
    assert "torch" not in sys.modules
    sys.meta_path.insert(0, _Absent())


def has_torch() -> bool:
    """Whether torch can be found; it is not imported."""
    try:
        return importlib.util.find_spec("torch") is not None
    except ModuleNotFoundError:  # hidden by this plugin
        return False
