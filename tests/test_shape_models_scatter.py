"""Errors of landmarks, learned: scatter and tails are recovered, also from a file."""

import numpy as np
import pytest

from shape_models._scatter import Scatter, mean_length, tail_radius

COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.0]]) * np.arange(1, 6)[:, None, None]


def drawn(n, degrees, rng):
    """Features and errors of Student's t with the covariances ``COVARIANCE`` times exp(0.8 feature)."""
    features = np.stack([np.ones((n, 5)), rng.normal(size=(n, 5))], -1)
    errors = (np.linalg.cholesky(COVARIANCE) @ rng.normal(size=(n, 5, 2, 1)))[..., 0]
    if np.isfinite(degrees):
        errors = errors * np.sqrt((degrees - 2) / rng.chisquare(degrees, size=(n, 5, 1)))
    return errors * np.exp(0.4 * features[..., 1:]), features


@pytest.mark.parametrize("degrees", [6.0, np.inf])
def test_scatter_and_tails_are_recovered(degrees):
    errors, features = drawn(4000, degrees, np.random.default_rng(0))
    learned = Scatter.learn(errors, features)
    assert learned.slopes[1] == pytest.approx(0.8, abs=0.05)
    np.testing.assert_allclose(learned(features * [1, 0])[0], COVARIANCE, rtol=0.1, atol=0.2)
    assert 4.5 < learned.degrees < 8 if np.isfinite(degrees) else learned.degrees > 40
    square = np.einsum("nki,nkij,nkj->nk", errors, np.linalg.inv(learned(features)), errors)
    for level in (0.5, 0.8, 0.95):
        assert (square <= tail_radius(level, learned.degrees) ** 2).mean() == pytest.approx(level, abs=0.015)
    again = Scatter.from_header(learned.to_header())
    np.testing.assert_allclose(again(features), learned(features), rtol=5e-3)
    assert again.degrees == pytest.approx(learned.degrees, rel=1e-3)


def test_a_gaussian_keeps_the_mean_square():
    errors, features = drawn(500, 5.0, np.random.default_rng(1))
    learned = Scatter.learn(errors, features[..., :1], tails=False)
    assert learned.degrees == np.inf
    mean = np.trace(learned(features[..., :1]).mean(axis=(0, 1)))
    assert mean == pytest.approx(np.square(errors).sum(-1).mean(), rel=0.02)


@pytest.mark.parametrize("degrees", [5.0, np.inf])
def test_lengths_and_radii_are_those_of_draws(degrees):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(40_000, 2))
    if np.isfinite(degrees):
        z *= np.sqrt((degrees - 2) / rng.chisquare(degrees, size=(len(z), 1)))
    length = np.linalg.norm(z, axis=1)
    assert mean_length(np.eye(2), degrees) == pytest.approx(length.mean(), rel=0.02)
    for level in (0.5, 0.95):
        assert (length <= tail_radius(level, degrees)).mean() == pytest.approx(level, abs=0.01)
    with pytest.raises(ValueError, match="expected a probability"):
        tail_radius(1.0, degrees)


def test_few_samples_are_enough_for_a_covariance():
    errors, features = drawn(2, np.inf, np.random.default_rng(4))
    learned = Scatter.learn(errors, features[..., :1])
    assert (np.linalg.eigvalsh(learned.covariance) > 0).all()
