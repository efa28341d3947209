"""Shared fixtures: Hypothesis profiles, array back ends, the folder of real data."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from no_torch import has_torch
from searches import asm, faces, fitter, patches, profiles, wide  # noqa: F401

_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("quick", max_examples=5, derandomize=True, **_common)
settings.register_profile("dev", max_examples=50, **_common)
settings.register_profile("ci", max_examples=100, derandomize=True, **_common)
settings.register_profile("nightly", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# The networks' tests, and the networks' own doctests, need torch; the three lower packages must pass without it.
collect_ignore_glob = [] if has_torch() else ["test_asmnet_*.py"]


def pytest_report_header() -> str | None:
    return None if has_torch() else "torch is not installed: the tests of asmnet are left out"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Close the figures of every test and doctest: matplotlib warns from the 21st that is open."""
    result = yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return result


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images and landmarks, or a skip that says why."""
    root = os.environ.get("SHAPE_MODELS_DATA")
    if not root:
        pytest.skip("SHAPE_MODELS_DATA is not set: no real landmarks to test on")
    path = Path(root)
    if not path.is_dir():
        pytest.fail(f"SHAPE_MODELS_DATA names {path}, which is not a folder")
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240501)


class Backend:
    """An array library under test: how arrays get in and out, and whether they can be written to."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "array_api_strict":
            self.namespace = pytest.importorskip("array_api_strict")
        elif name == "torch":
            self.namespace = pytest.importorskip("torch", reason="torch is not installed")
        else:
            self.namespace = np

    def asarray(self, array, dtype=None):
        array = np.array(array, dtype=dtype)
        if self.name == "numpy_readonly":
            array.flags.writeable = False
        return array if self.namespace is np else self.namespace.asarray(array)

    def to_numpy(self, array) -> np.ndarray:
        if self.name == "torch":
            return array.detach().numpy()
        assert isinstance(array, np.ndarray) == (self.namespace is np)
        return np.asarray(array)

    def __repr__(self) -> str:
        return self.name


@pytest.fixture(scope="session", params=["numpy", "numpy_readonly", "array_api_strict", "torch"])
def xp(request) -> Backend:
    """The array libraries that a function of arrays must serve alike; session-wide, so Hypothesis can reuse it."""
    return Backend(request.param)
