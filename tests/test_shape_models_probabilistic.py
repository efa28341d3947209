"""The basis as a Gaussian: weights, likelihood, sampling, completion, report."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import condition_dense, dense_covariance, expected_coefficients_dense
from scipy import stats
from strategies import any_limit, bases, draw_shapes, seeds

from shape_models import Box, Ellipsoid, Limit, ShapeBasis, SoftBox

NOISE = (0.01, 0.1, 3.0)


def make_basis(seed=0, shape=(7, 2), n_components=5, **kwargs):
    rng = np.random.default_rng(seed)
    components = np.linalg.qr(rng.normal(size=(shape[0] * shape[1], n_components)))[0].T
    return ShapeBasis(rng.normal(size=shape), components, np.linspace(3.0, 0.5, n_components), **kwargs)


def with_gaps(basis, seed, size, share=0.4):
    x = draw_shapes(basis, seed, size, spread=1.0)
    seen = np.random.default_rng(seed + 1).random(x.shape[:-1]) > share
    x[~seen] = np.nan
    return x, seen


def close(result, expected, scale, rtol=1e-9):
    np.testing.assert_allclose(result, expected, rtol=0, atol=rtol * max(float(np.abs(scale).max()), 1e-300))


# --- weights -----------------------------------------------------------------------------------------------


@given(basis=bases(limits=any_limit(), noise=(0.0, *NOISE), min_variance=1e-3), seed=seeds)
def test_weights_of_one_change_nothing(basis, seed):
    x = draw_shapes(basis, seed, (3,))
    close(basis.project(x, confidence=np.ones((3, x.shape[1]))), basis.project(x), x)
    close(basis.project(x, confidence=np.ones(x.shape[1], dtype=bool)), basis.project(x), x)


@given(basis=bases(noise=NOISE, min_variance=1e-3), seed=seeds)
def test_weights_follow_dense_conditioning(basis, seed):
    rng = np.random.default_rng(seed)
    x = draw_shapes(basis, seed)
    weights = rng.choice([0.0, 0.1, 0.5, 1.0], len(x))
    close(basis.encode(x, confidence=weights), expected_coefficients_dense(x, weights, basis), x, 1e-7)


@given(basis=bases(noise=(0.0, *NOISE), min_variance=1e-3), seed=seeds)
def test_a_mask_means_complete_then_encode(xp, basis, seed):
    x, seen = with_gaps(basis, seed, (4,))
    result = basis.encode(xp.asarray(x), confidence=xp.asarray(seen))
    close(xp.to_numpy(result), basis.encode(basis.complete(x).shapes), np.nan_to_num(x), 1e-7)


def test_without_noise_weights_are_weighted_least_squares():
    basis = make_basis()
    x = draw_shapes(basis, 1)
    weights = np.random.default_rng(2).uniform(0.1, 1.0, 7)
    root = np.sqrt(np.repeat(weights, 2))
    expected = np.linalg.lstsq(basis.components.T * root[:, None], root * (x - basis.mean).ravel(), rcond=None)[0]
    close(basis.encode(x, confidence=weights), expected, x, 1e-12)


def test_what_has_no_weight_has_no_influence():
    basis = make_basis(noise_variance=0.1)
    x = draw_shapes(basis, 1, (3,))
    weights = np.ones(7)
    weights[2] = 0
    y = x.copy()
    y[:, 2] = np.nan
    np.testing.assert_allclose(basis.project(x, confidence=weights), basis.project(y, confidence=weights), rtol=1e-9)
    np.testing.assert_allclose(basis.project(y, confidence=np.zeros(7)), np.broadcast_to(basis.mean, y.shape))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_weights_broadcast_over_the_shapes(xp, noise):
    basis = make_basis(noise_variance=noise)
    x, w = draw_shapes(basis, 1, (5,)), np.linspace(0, 1, 7)
    expected = np.stack([basis.project(shape, confidence=w) for shape in x])
    for weights in (xp.asarray(w), xp.asarray(w[None]), xp.asarray(np.tile(w, (5, 1))), w.tolist()):
        close(xp.to_numpy(basis.project(xp.asarray(x), confidence=weights)), expected, x)
    for weights in (w, np.ones((0, 7))):
        assert basis.project(xp.asarray(x[:0]), confidence=xp.asarray(weights)).shape == (0, 7, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(6), r"got shape \(6,\); expected one number a landmark"),
        (np.ones((2, 7)), "expected one number a landmark"),
        (0.5, r"got shape \(\); expected one number a landmark, \(\d+,\)( or \(.+\))?\. Try numpy\.full"),
        (-np.ones(7), "got -1; expected numbers from 0 to 1"),
        (np.full(7, np.nan), "got nan; expected numbers from 0 to 1"),
        (np.full(7, 1.5), "got 1.5; expected numbers from 0 to 1"),
        (np.full(7, 100), "got 100; expected numbers from 0 to 1"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    basis = make_basis()
    with pytest.raises(ValueError, match=message):
        basis.project(np.zeros((3, 7, 2)), confidence=weights)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_needs_a_weight_of_zero(xp, value):
    basis = make_basis()
    x = np.zeros((3, 7, 2))
    x[1, 4, 0] = value
    with pytest.raises(ValueError, match=r"index \(1, 4, 0\), where the confidence is positive"):
        basis.project(xp.asarray(x), confidence=np.ones(7))
    assert np.isfinite(xp.to_numpy(basis.project(xp.asarray(x), confidence=np.arange(7) != 4))).all()


# --- likelihood --------------------------------------------------------------------------------------------


@given(basis=bases(noise=NOISE, min_variance=1e-3), seed=seeds)
def test_log_likelihood_is_that_of_the_dense_gaussian(xp, basis, seed):
    x = draw_shapes(basis, seed, (4,), spread=1.0)
    dense = stats.multivariate_normal(basis.mean.ravel(), dense_covariance(basis))
    expected = dense.logpdf(x.reshape(4, -1))
    np.testing.assert_allclose(xp.to_numpy(basis.log_likelihood(xp.asarray(x))), expected, rtol=1e-6)


def test_log_likelihood_needs_noise():
    with pytest.raises(ValueError, match=r"noise variance of 0.*replace"):
        make_basis().log_likelihood(np.zeros((7, 2)))
    full = ShapeBasis(np.zeros(3), np.eye(3), np.ones(3))
    assert full.log_likelihood(np.zeros(3)) == pytest.approx(-1.5 * np.log(2 * np.pi))


@given(basis=bases(), seed=seeds)
def test_mahalanobis_is_the_distance_in_standard_deviations(xp, basis, seed):
    x = draw_shapes(basis, seed, (3,))
    varies = basis.variances > 0
    z = basis.encode(x)[:, varies] / np.sqrt(basis.variances[varies])
    result = xp.to_numpy(basis.mahalanobis(xp.asarray(x)))
    np.testing.assert_allclose(result, np.linalg.norm(z, axis=-1), rtol=1e-10)


# --- sampling ----------------------------------------------------------------------------------------------


@given(basis=bases(limits=any_limit()), seed=seeds)
def test_samples_lie_inside_the_limit(basis, seed):
    x = basis.sample(20, rng=seed)
    assert x.shape == (20, *basis.event_shape)
    if not isinstance(basis.limit, SoftBox):
        scale = np.abs(basis.mean).max() + np.sqrt(basis.variances.max())
        np.testing.assert_allclose(basis.project(x), x, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("k", [0.0, 1e-6, 0.5, 2.0, 3.0, 40.0, np.inf])
def test_truncated_samples_follow_the_truncated_normal_law(k):
    basis = make_basis(limit=k)
    z = basis.encode(basis.sample(4000, rng=0)) / np.sqrt(basis.variances)
    if k < 1e-3:
        assert np.abs(z).max() <= k * (1 + 1e-6) + 1e-15
    else:
        bound = min(k, 40)
        assert stats.kstest(z[:, 0], stats.truncnorm(-bound, bound).cdf).pvalue > 1e-3
        assert np.abs(z).max() <= k * (1 + 1e-12)


def test_truncated_samples_of_an_ellipsoid_have_a_truncated_chi_radius():
    basis = make_basis(limit=Ellipsoid(2.0))
    radius = basis.mahalanobis(basis.sample(4000, rng=0))
    chi = stats.chi(5)
    assert stats.kstest(radius, lambda r: chi.cdf(r) / chi.cdf(2.0)).pvalue > 1e-3


def test_free_samples_have_the_covariance_of_the_model():
    basis = make_basis(noise_variance=0.2)
    x = basis.sample(200_000, rng=0, truncated=False, noise=True).reshape(-1, 14)
    np.testing.assert_allclose(np.cov(x.T), dense_covariance(basis), atol=0.05)


def test_samples_repeat_by_seed_and_differ_by_generator():
    basis = make_basis()
    np.testing.assert_allclose(basis.sample(3, rng=5), basis.sample(3, rng=np.random.default_rng(5)), rtol=1e-12)
    rng = np.random.default_rng(5)
    assert not np.array_equal(basis.sample(3, rng=rng), basis.sample(3, rng=rng))


def test_samples_are_of_the_library_of_the_basis(xp):
    basis = make_basis().like(xp.asarray(np.zeros(1, dtype=np.float32)))
    x = basis.sample(2, rng=0)
    assert type(x) is type(xp.asarray(np.zeros(1)))
    assert xp.to_numpy(x).dtype == np.float32


def test_a_limit_of_ones_own_is_sampled_freely_only():
    class Nothing(Limit):
        def clip(self, coefficients, scale):
            return coefficients * 0

    basis = make_basis(limit=Nothing())
    np.testing.assert_array_equal(basis.project(np.ones((7, 2))), basis.mean)
    with pytest.raises(ValueError, match="truncated=False"):
        basis.sample(2)
    assert basis.sample(2, truncated=False).shape == (2, 7, 2)


@pytest.mark.parametrize("n", [-1, 1.5, True])
def test_a_bad_number_of_samples_is_refused(n):
    with pytest.raises(ValueError, match="n_samples"):
        make_basis().sample(n)


# --- completion --------------------------------------------------------------------------------------------


@given(basis=bases(noise=NOISE, min_variance=1e-3), seed=seeds)
def test_completion_follows_dense_conditioning(xp, basis, seed):
    x, seen = with_gaps(basis, seed, (3,))
    result = basis.complete(xp.asarray(x))
    joint = xp.to_numpy(basis.complete(xp.asarray(x), joint=True).covariance)
    shapes, covariance = xp.to_numpy(result.shapes), xp.to_numpy(result.covariance)
    dense, top = dense_covariance(basis), max(basis.variances.max(), basis.noise_variance)
    n_dims = x.shape[-1]
    for i in range(3):
        filled, conditional = condition_dense(x[i].ravel(), basis.mean.ravel(), dense)
        close(shapes[i].ravel(), filled, np.nan_to_num(x), 1e-7)
        close(joint[i].reshape(conditional.shape), conditional, top, 1e-7)
        for k in range(x.shape[1]):
            part = slice(k * n_dims, (k + 1) * n_dims)
            close(covariance[i, k], conditional[part, part], top, 1e-7)
    np.testing.assert_array_equal(shapes[seen], x[seen])
    assert not covariance[seen].any()


@given(basis=bases(noise=(0.0,), min_variance=1e-3), seed=seeds, n_seen=st.integers(0, 9))
def test_completion_without_noise_is_the_most_probable_shape_that_fits(basis, seed, n_seen):
    x = basis.sample(1, rng=seed, truncated=False)[0]
    whole = x.copy()
    x[n_seen:] = np.nan
    completion = basis.complete(x)
    scale = np.abs(whole).max() + np.sqrt(basis.variances.max())
    filled, _ = condition_dense(x.ravel(), basis.mean.ravel(), dense_covariance(basis))
    condition = basis.variances.max() / basis.variances.min()
    if condition < 1e4:  # beyond that the two cut-offs of the pseudo-inverses differ
        close(completion.shapes.ravel(), filled, scale, 1e-6)
    assert basis.mahalanobis(completion.shapes) <= basis.mahalanobis(whole) * (1 + 1e-6) + 1e-6
    assert (np.linalg.eigvalsh(completion.covariance) > -1e-9 * basis.variances.max()).all()


def test_completion_of_many_patterns_equals_one_by_one(monkeypatch):
    monkeypatch.setattr("shape_models._probabilistic._CHUNK", 300)
    basis = make_basis(noise_variance=0.1)
    x, _ = with_gaps(basis, 3, (5, 9))
    x[0, 0], x[1, 1] = np.nan, basis.mean
    x[2, :4] = x[2, 0]
    result = basis.complete(x)
    assert result.covariance.shape == (5, 9, 7, 2, 2)
    for i in np.ndindex(5, 9):
        one = basis.complete(x[i])
        np.testing.assert_allclose(result.shapes[i], one.shapes, atol=1e-12)
        np.testing.assert_allclose(result.covariance[i], one.covariance, atol=1e-12)
    np.testing.assert_allclose(result.shapes[0, 0], basis.mean)


def test_completion_of_plain_features_and_of_nothing():
    basis = ShapeBasis(np.zeros(2), [[0.6, 0.8]], [1.0])
    assert basis.complete([3.0, np.nan]).shapes[1] == pytest.approx(4.0)
    assert basis.complete([3.0, np.nan]).covariance.shape == (2, 1, 1)
    empty = make_basis().complete(np.empty((0, 7, 2)))
    assert empty.shapes.shape == (0, 7, 2)
    assert empty.covariance.shape == (0, 7, 2, 2)


def test_completion_takes_a_landmark_as_a_whole_and_refuses_infinity():
    basis = make_basis(noise_variance=0.1)
    x = basis.mean.copy()
    x[3, 1] = np.nan
    y = basis.mean.copy()
    y[3] = np.nan
    np.testing.assert_allclose(basis.complete(x).shapes, basis.complete(y).shapes, rtol=1e-9)
    x[2, 0] = np.inf
    with pytest.raises(ValueError, match=r"infinite coordinate at index \(2, 0\)"):
        basis.complete(x)


# --- report ------------------------------------------------------------------------------------------------


@given(basis=bases(limits=any_limit(), noise=(0.0, *NOISE)), seed=seeds)
def test_the_report_tells_what_project_does(xp, basis, seed):
    x = draw_shapes(basis, seed, (2, 3))
    report = basis.report(xp.asarray(x))
    moved = basis.clip(basis.encode(x)) - basis.encode(x)
    close(xp.to_numpy(report.amount), moved, x, 1e-12)
    distance = np.linalg.norm((x - basis.project(x)).reshape(2, 3, -1), axis=-1)
    close(xp.to_numpy(report.distance), distance, x, 1e-10)
    if isinstance(basis.limit, Box):
        outside = np.abs(basis.encode(x)) > basis.limit.bound(np.sqrt(basis.variances)) + 1e-12 * np.abs(x).max()
        np.testing.assert_array_equal(xp.to_numpy(report.clipped), outside)
    plausibility = xp.to_numpy(report.plausibility)
    assert ((plausibility >= 0) & (plausibility <= 1)).all()


@given(basis=bases(noise=(0.0, 0.1)), seed=seeds)
def test_nothing_of_a_projected_shape_is_clipped(basis, seed):
    once = basis.project(draw_shapes(basis, seed, (5,)))
    report = basis.report(once)
    assert not report.clipped.any()
    close(report.distance, 0.0, np.abs(once).max() + np.sqrt(basis.variances.max()), 1e-12)


def test_plausibility_is_uniform_on_shapes_of_the_model():
    basis = make_basis(noise_variance=0.3)
    x = basis.sample(4000, rng=0, truncated=False, noise=True)
    assert stats.kstest(basis.report(x).plausibility, "uniform").pvalue > 1e-3
    silent = dataclasses.replace(basis, noise_variance=0.0)
    assert stats.kstest(silent.report(x).plausibility, "uniform").pvalue > 1e-3
    assert basis.report(basis.mean).plausibility == 1.0
    assert basis.report(basis.mean + 100).plausibility == 0.0


def test_reports_read_as_a_sentence():
    basis = ShapeBasis(np.zeros((2, 2)), np.eye(3, 4), [4.0, 1.0, 1.0], limit=2.0)
    assert str(basis.report(np.array([[6.0, 1.0], [3.0, 0.0]]))).startswith("2 of 3 modes clipped (modes 1, 3), ")
    assert str(basis.report(np.zeros((2, 2)))).startswith("0 of 3 modes clipped, distance to the model 0, ")
    several = str(basis.report(np.array([[[6.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])))
    assert several.startswith("1 of 2 shapes clipped, distance to the model 1 (median), ")
    assert str(basis.report(np.zeros((0, 2, 2)))) == "no shapes"
