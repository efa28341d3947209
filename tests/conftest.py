"""Shared fixtures: Hypothesis profiles, array back ends, the folder of real data."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("dev", max_examples=50, **_common)
settings.register_profile("ci", max_examples=100, derandomize=True, **_common)
settings.register_profile("nightly", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real photographs and landmarks, or a skip that says why."""
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
