"""How good a model is: every curve against a naive computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import held_out_errors_refit
from scipy import stats
from strategies import seeds

from shape_models import (
    DegenerateShapeError,
    advise_n_components,
    compactness,
    generalization,
    generalized_procrustes,
    leave_one_out,
    make_faces,
    specificity,
)
from shape_models.datasets import read_300w


def make(seed=0, n=20, n_landmarks=4, n_dims=2, rank=None):
    rng = np.random.default_rng(seed)
    size = n_landmarks * n_dims
    mixing = rng.normal(size=(rank or size, size)) * np.linspace(3, 0.5, rank or size)[:, None]
    return 100 + (rng.normal(size=(n, rank or size)) @ mixing).reshape(n, n_landmarks, n_dims)


data = st.builds(
    make,
    seeds,
    n=st.integers(4, 12),
    n_landmarks=st.integers(2, 6),
    n_dims=st.sampled_from([2, 3]),
    rank=st.sampled_from([None, 3]),
)


@given(shapes=data)
def test_compactness_is_the_cumulated_share(shapes):
    curve = compactness(shapes)
    flat = shapes.reshape(len(shapes), -1)
    variances = np.linalg.eigvalsh(np.cov(flat.T))[::-1][: len(curve.value)]
    np.testing.assert_allclose(curve.value, np.cumsum(variances) / variances.sum(), rtol=1e-9)
    assert curve.value[-1] == pytest.approx(1)
    assert (curve.standard_error >= 0).all()


def test_the_standard_error_of_compactness_is_that_of_repeated_data():
    curves = [compactness(make_gaussian(seed)) for seed in range(300)]
    spread = np.std([c.value for c in curves], axis=0)[:-1]
    np.testing.assert_allclose(np.mean([c.standard_error for c in curves], axis=0)[:-1], spread, rtol=0.15)


def make_gaussian(seed):
    return np.random.default_rng(seed).normal(size=(200, 3)) * [3.0, 2.0, 1.0]


@given(shapes=data)
@settings(max_examples=30)
def test_generalization_is_that_of_models_fitted_from_scratch(shapes):
    curve = generalization(shapes)
    n = len(shapes)
    for k in curve.n_components:
        errors = np.concatenate([held_out_errors_refit(shapes, [i], k) for i in range(n)])
        np.testing.assert_allclose(curve.value[k - 1], errors.mean(), rtol=1e-6, atol=1e-9)
        expected = errors.mean(axis=1).std(ddof=1) / np.sqrt(n)
        np.testing.assert_allclose(curve.standard_error[k - 1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("choice", [{"n_folds": 4}, {"groups": list("abcaabbcccabbacaacbb")}, {}])
@pytest.mark.parametrize("chunk", [1, 10**6])
def test_leaving_out_folds_and_groups(monkeypatch, choice, chunk):
    for module in ("_diagnostics", "_left_out"):
        monkeypatch.setattr(f"shape_models.{module}.CHUNK", chunk)
    shapes = make()
    result = leave_one_out(shapes, 3, **choice)
    if "groups" in choice:
        folds = [np.flatnonzero(np.array(choice["groups"]) == g) for g in "abc"]
    else:
        folds = np.array_split(np.arange(20), choice.get("n_folds", 20))
    for test in folds:
        np.testing.assert_allclose(result.errors[test], held_out_errors_refit(shapes, test, 3), rtol=1e-8)
    np.testing.assert_allclose(result.per_landmark, result.errors.mean(axis=0))
    np.testing.assert_allclose(result.per_sample, result.errors.mean(axis=1))
    curve = generalization(shapes, max_components=4, **choice)
    assert curve.value[2] == pytest.approx(result.errors.mean())


def test_leave_one_out_by_share_of_variance():
    shapes = make()
    result = leave_one_out(shapes, 0.9)
    assert result.n_components == np.searchsorted(compactness(shapes).value, 0.9) + 1


def test_specificity_is_the_distance_to_the_nearest():
    shapes = make(n=30)
    curve = specificity(shapes, max_components=3, n_samples=200, rng=0)
    flat = shapes.reshape(30, -1)
    _, s, modes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    b = np.random.default_rng(0).standard_normal((200, 3)) * s[:3] / np.sqrt(29)
    for k in (1, 2, 3):
        random = flat.mean(axis=0) + b[:, :k] @ modes[:k]
        squares = ((random[:, None] - flat) ** 2).sum(axis=-1)
        gap = (random - flat[squares.argmin(axis=1)]).reshape(200, 4, 2)
        distance = np.linalg.norm(gap, axis=-1).mean(axis=-1)
        assert curve.value[k - 1] == pytest.approx(distance.mean(), rel=1e-9)
        assert curve.standard_error[k - 1] == pytest.approx(distance.std(ddof=1) / np.sqrt(200), rel=1e-9)


def test_the_likelihood_of_the_advice_is_that_of_the_dense_gaussian():
    shapes = make(n=24, n_landmarks=3)
    advice = advise_n_components(shapes, n_permutations=2, n_folds=3, rng=5)
    flat = shapes.reshape(24, -1)
    rng = np.random.default_rng(5)
    for _ in range(2):
        rng.permuted(flat, axis=0)
    folds = np.array_split(rng.permutation(24), 3)
    for k in advice.n_components:
        total = 0.0
        for test in folds:
            train = np.delete(flat, test, axis=0)
            values, vectors = np.linalg.eigh(np.cov(train.T))
            values[: 6 - k] = values[: 6 - k].mean()
            gaussian = stats.multivariate_normal(train.mean(axis=0), vectors * values @ vectors.T)
            total += gaussian.logpdf(flat[test]).sum()
        assert advice.log_likelihood[k] == pytest.approx(total / 24, rel=1e-9)


def test_the_advice_finds_the_modes_that_are_there():
    rng = np.random.default_rng(1)
    modes = np.linalg.qr(rng.normal(size=(30, 4)))[0].T
    shapes = (rng.normal(size=(400, 4)) * [3, 2.8, 2.5, 2.2]) @ modes + 0.1 * rng.normal(size=(400, 30))
    advice = advise_n_components(shapes.reshape(400, 15, 2), rng=0)
    assert advice.parallel_analysis == 4
    assert advice.cross_validation == 4
    noise = advise_n_components(rng.normal(size=(400, 30)), rng=0)
    assert noise.parallel_analysis <= 1
    assert noise.cross_validation <= 1


def test_fewer_shapes_than_coordinates():
    shapes = make_faces(12, rng=0)
    assert len(generalization(shapes).value) <= 10
    assert generalization(shapes).value[-1] > 0
    advice = advise_n_components(shapes, n_permutations=5, n_folds=4, rng=0)
    assert np.isfinite(advice.log_likelihood).all()
    assert len(advice.n_components) <= 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: compactness(s[:2]), "got 2 samples; expected at least 3"),
        (lambda s: compactness(s[0, 0]), "got shape"),
        (lambda s: compactness(np.where(s == s.max(), np.nan, s)), "missing landmark"),
        (lambda s: generalization(s, max_components=99), "max_components: got 99; expected a number from 1 to 8"),
        (lambda s: generalization(s, n_folds=1), "n_folds: got 1; expected a number from 2 to 20"),
        (lambda s: generalization(s, groups=[0] * 20), "groups: got one group"),
        (lambda s: generalization(s, groups=[0]), r"groups: got an array of shape \(1,\)"),
        (lambda s: generalization(s, groups=range(20), n_folds=3), "one of the two"),
        (lambda s: leave_one_out(s, 0), "n_components: got 0"),
        (lambda s: leave_one_out(s, 1.5), "n_components: got 1.5"),
        (lambda s: leave_one_out(s, True), "n_components: got True"),
        (lambda s: specificity(s, n_samples=1), "n_samples: got 1"),
        (lambda s: advise_n_components(s, quantile=2), "quantile: got 2"),
        (lambda s: advise_n_components(s, n_permutations=0), "n_permutations: got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(make())


def test_equal_shapes_have_no_modes():
    with pytest.raises(DegenerateShapeError, match="equal shapes"):
        compactness(np.full((5, 3, 2), 0.1))


@pytest.mark.data
def test_real_faces(data_dir):
    shapes = generalized_procrustes(read_300w(data_dir / "300w", split="val").shapes()).aligned
    curve = compactness(shapes)
    assert 0.5 < curve.value[0] < 0.8
    assert 15 < np.searchsorted(curve.value, 0.98) < 40
    general = generalization(shapes, max_components=30, n_folds=10)
    assert (np.diff(general.value) < 0).all()
    special = specificity(shapes, max_components=10, n_samples=200, rng=0)
    assert (np.diff(special.value) > -1e-3).all()
    advice = advise_n_components(shapes, n_permutations=10, rng=0)
    assert 3 <= advice.parallel_analysis <= 40
    assert advice.cross_validation > advice.parallel_analysis
