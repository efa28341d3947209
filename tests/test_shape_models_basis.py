"""ShapeBasis: its laws, its door, its libraries."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from oracles import project_loop, project_vectorised
from strategies import any_limit, bases, draw_shapes, seeds

from shape_models import Box, Ellipsoid, ShapeBasis, SoftBox


def small(**kwargs):
    return ShapeBasis(np.zeros((3, 2)), np.eye(6)[:2], [4.0, 1.0], **kwargs)


@given(basis=bases(), seed=seeds)
def test_project_follows_the_definition(basis, seed):
    x = draw_shapes(basis, seed)
    expected = project_loop(x, basis.mean, basis.components, basis.variances, basis.limit.k)
    np.testing.assert_allclose(basis.project(x), expected, rtol=0, atol=1e-12 * np.abs(x).max())


@given(basis=bases(), seed=seeds)
def test_the_vectorised_baseline_agrees(basis, seed):
    x = draw_shapes(basis, seed, (3,))
    expected = project_vectorised(x, basis.mean, basis.components, basis.variances, basis.limit.k)
    np.testing.assert_allclose(basis.project(x), expected, rtol=0, atol=1e-12 * np.abs(x).max())


@given(basis=bases(limits=any_limit()), seed=seeds)
def test_every_library_gives_the_same_numbers(xp, basis, seed):
    x = draw_shapes(basis, seed, (2, 3))
    given_ = xp.asarray(x)
    result = basis.project(given_)
    assert type(result) is type(given_)
    assert result.dtype == given_.dtype
    np.testing.assert_allclose(xp.to_numpy(result), basis.project(x), rtol=0, atol=1e-12 * np.abs(x).max())
    np.testing.assert_array_equal(xp.to_numpy(given_), x)


@pytest.mark.parametrize("limit", [2.0, 2, np.float64(2), Box(2.0)])
def test_a_number_means_a_box(limit):
    basis = small(limit=limit)
    assert basis.limit == 2.0
    assert basis.limit == Box(2.0)
    assert basis.limit != 3.0
    assert basis.limit != SoftBox(2.0)
    assert basis.limit != Ellipsoid(2.0)


def test_replace_gives_another_basis():
    basis = small()
    other = dataclasses.replace(basis, limit=2.0)
    assert basis.limit == 3.0
    assert other.limit == 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        basis.limit = 1.0


def test_missing_landmarks_are_refused(xp):
    x = np.zeros((4, 3, 2))
    x[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN\) at index \(2, 1, 0\).*complete.*weights="):
        small().project(xp.asarray(x))
