"""The estimator: what is learned, from complete and from partly seen shapes, and what it refuses."""

import csv
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import naive_missing, naive_modes
from sklearn.covariance import ledoit_wolf_shrinkage, oas
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from shape_models import (
    ASM,
    IBUG68,
    AlignedASM,
    DegenerateShapeError,
    ShapeStatistics,
    estimate_similarity,
    generalized_procrustes,
    make_faces,
)
from shape_models._missing import fit_missing


@st.composite
def shape_sets(draw, min_samples=3):
    """Sets of shapes of random structure: seeds shrink well enough, and every spectrum is generic."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k, d = draw(st.integers(min_samples, 30)), draw(st.integers(2, 6)), draw(st.integers(1, 3))
    scale = 10.0 ** draw(st.integers(-6, 6))
    mixing = rng.normal(size=(k * d, k * d)) * np.geomspace(1, 0.05, k * d)[:, None]
    shapes = (rng.normal(size=(n, k * d)) @ mixing + rng.normal(size=k * d)).reshape(n, k, d)
    return scale * shapes


def low_rank(rng, n, p, q, noise=0.1):
    modes = np.linalg.qr(rng.normal(size=(p, q)))[0] * np.linspace(3, 1, q)
    return rng.normal(size=(n, q)) @ modes.T + noise * rng.normal(size=(n, p)) + rng.normal(size=p)


# --- Complete shapes -------------------------------------------------------------------------------------


@given(shape_sets())
def test_fit_is_the_eigendecomposition_of_the_covariance(shapes):
    """Mean, variances and modes are those of the definition, by the covariance and by the Gram route."""
    asm = ASM(n_components=None).fit(shapes)
    mean, values, vectors = naive_modes(shapes)
    q = asm.n_components_
    assert q <= min(len(shapes) - 1, mean.size)
    np.testing.assert_allclose(asm.mean_.ravel(), mean, rtol=1e-12, atol=1e-12 * np.abs(mean).max())
    np.testing.assert_allclose(asm.explained_variance_, values[:q], rtol=0, atol=1e-12 * values[0])
    np.testing.assert_allclose(asm.components_ @ asm.components_.T, np.eye(q), atol=1e-12)
    covariance = (asm.components_.T * asm.explained_variance_) @ asm.components_
    np.testing.assert_allclose(covariance, (vectors.T * values) @ vectors, atol=1e-12 * values[0])
    assert np.all(np.diff(asm.explained_variance_) <= 0)


@given(shape_sets(), st.data())
def test_fit_agrees_with_scikit_learn(shapes, data):
    """Count and fraction of variance mean what they mean in PCA."""
    most = min(len(shapes) - 1, shapes[0].size)
    n_components = data.draw(st.one_of(st.integers(1, most), st.floats(0.05, 0.95)))
    asm = ASM(n_components).fit(shapes)
    pca = PCA(n_components, svd_solver="full").fit(shapes.reshape(len(shapes), -1))
    assert asm.n_components_ == pca.n_components_
    np.testing.assert_allclose(
        asm.explained_variance_, pca.explained_variance_, rtol=0, atol=1e-12 * pca.explained_variance_[0]
    )
    np.testing.assert_allclose(asm.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=0, atol=1e-12)


@given(shape_sets(), st.randoms())
def test_signs_do_not_depend_on_the_order_of_the_shapes(shapes, random):
    order = list(range(len(shapes)))
    random.shuffle(order)
    one, other = ASM(1).fit(shapes), ASM(1).fit(shapes[order])
    gap = naive_modes(shapes)[1]
    if gap[0] - gap[1] > 1e-3 * gap[0]:
        np.testing.assert_allclose(one.components_, other.components_, atol=1e-9)
    lead = one.components_[0, np.argmax(np.abs(one.components_[0]) > np.abs(one.components_[0]).max() * (1 - 1e-6))]
    assert lead > 0


def test_a_tie_of_the_largest_entries_is_decided_by_the_first():
    """Left and right of a symmetric shape have entries of equal size: rounding must not choose the sign."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        amount = rng.normal(size=50)
        noise = 1e-13 * np.random.default_rng(seed).normal(size=(50, 4))
        asm = ASM(1).fit(np.outer(amount, [1.0, -1.0, 1.0, -1.0]) + noise)
        np.testing.assert_allclose(asm.components_[0], [0.5, -0.5, 0.5, -0.5], atol=1e-9)


@pytest.mark.parametrize("n", [12, 400])
def test_noise_variance_is_what_the_modes_leave(rng, n):
    table = low_rank(rng, n, 40, 5)
    values = naive_modes(table)[1]
    asm = ASM(5).fit(table)
    np.testing.assert_allclose(asm.noise_variance_, np.maximum(values[5:], 0).sum() / 35, rtol=1e-10)
    assert asm.basis_.noise_variance == asm.noise_variance_
    assert ASM(None).fit(table).noise_variance_ == 0.0


def test_both_routes_agree_far_from_the_origin(rng):
    """A mean 10⁴ times the spread costs no digits."""
    table = low_rank(rng, 60, 59, 4)
    far = table + 3e4
    for rows in (far, far[:50]):
        asm, near = ASM(4).fit(rows), ASM(4).fit(rows - 3e4)
        np.testing.assert_allclose(asm.explained_variance_, near.explained_variance_, rtol=1e-10)
        np.testing.assert_allclose(asm.components_, near.components_, atol=1e-9)


def test_float32_and_integers_are_fitted_in_double(rng):
    table = low_rank(rng, 60, 12, 3).astype(np.float32)
    asm = ASM(3).fit(table)
    assert asm.mean_.dtype == np.float64
    np.testing.assert_allclose(asm.explained_variance_, ASM(3).fit(table.astype(float)).explained_variance_, rtol=1e-9)
    assert asm.transform(table).dtype == np.float32
    assert asm.inverse_transform(asm.transform(table)).dtype == np.float32
    assert ASM(2).fit(rng.integers(0, 100, size=(30, 5, 2))).mean_.dtype == np.float64


def test_transform_and_inverse_transform_undo_each_other_on_the_span(rng):
    shapes = low_rank(rng, 60, 12, 3).reshape(60, 6, 2)
    asm = ASM(3).fit(shapes)
    b = 10 * rng.normal(size=(7, 3))
    assert asm.inverse_transform(b).shape == (7, 6, 2)
    np.testing.assert_allclose(asm.transform(asm.inverse_transform(b)), b, atol=1e-12)


def test_limit_and_projection_come_from_the_basis(rng):
    shapes = low_rank(rng, 60, 12, 3).reshape(60, 6, 2)
    asm = ASM(3, limit=2.0).fit(shapes)
    assert asm.basis_.limit == 2.0
    np.testing.assert_allclose(asm.project(shapes[0]), asm.basis_.project(shapes[0]), rtol=1e-12)
    wild = 100 * rng.normal(size=(4, 5, 6, 2))
    inside = np.abs(asm.basis_.encode(asm.project(wild))) <= 2 * np.sqrt(asm.explained_variance_) * (1 + 1e-12)
    assert inside.all()
    assert ASM(3, limit=None).fit(shapes).basis_.limit is None


def test_score_is_minus_the_mean_squared_distance(rng):
    shapes = low_rank(rng, 60, 12, 3).reshape(60, 6, 2)
    asm = ASM(2).fit(shapes)
    by_hand = np.mean([((x - asm.project(x)) ** 2).sum() for x in shapes])
    np.testing.assert_allclose(asm.score(shapes), -by_hand, rtol=1e-12)
    gaps = shapes.copy()
    gaps[0, 2] = np.nan
    assert -4 * by_hand < asm.score(gaps) < 0
    np.testing.assert_allclose(asm.score(shapes[1:]), asm.score(gaps[1:]), rtol=1e-14)


def test_transform_with_missing_landmarks_uses_what_is_seen(rng):
    shapes = low_rank(rng, 200, 12, 2, noise=1e-3).reshape(200, 6, 2)
    asm = ASM(2).fit(shapes)
    gaps = shapes.copy()
    gaps[5, 1] = np.nan
    gaps[9, [0, 3]] = np.nan
    b = asm.transform(gaps)
    np.testing.assert_allclose(b, asm.transform(shapes), atol=0.02)
    others = np.delete(asm.transform(shapes), [5, 9], axis=0)
    np.testing.assert_allclose(np.delete(b, [5, 9], axis=0), others, rtol=1e-9, atol=1e-12)
    assert not np.array_equal(b[5], asm.transform(shapes)[5])


def test_sample_is_reproducible_and_inside_the_limit(rng):
    asm = ASM(3, limit=1.0).fit(low_rank(rng, 60, 12, 3).reshape(60, 6, 2))
    drawn = asm.sample(50, rng=1)
    assert drawn.shape == (50, 6, 2)
    np.testing.assert_array_equal(drawn, asm.sample(50, rng=np.random.default_rng(1)))
    assert np.all(np.abs(asm.transform(drawn)) <= np.sqrt(asm.explained_variance_) * (1 + 1e-9))
    assert np.any(np.abs(asm.transform(asm.sample(200, rng=1, truncated=False))) > np.sqrt(asm.explained_variance_))


# --- Few samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 80])
def test_shrinkage_agrees_with_scikit_learn(rng, n):
    table = low_rank(rng, n, 30, 4, noise=0.5)
    np.testing.assert_allclose(
        ASM(shrinkage="ledoit_wolf").fit(table).shrinkage_, ledoit_wolf_shrinkage(table), rtol=1e-10
    )
    np.testing.assert_allclose(ASM(shrinkage="oas").fit(table).shrinkage_, oas(table)[1], rtol=1e-10)


def test_shrinkage_is_the_documented_equation(rng):
    table = low_rank(rng, 10, 30, 4, noise=0.5)
    S = np.cov(table.T)
    shrunk = 0.7 * S + 0.3 * np.trace(S) / 30 * np.eye(30)
    asm = ASM(4, shrinkage=0.3).fit(table)
    values = np.linalg.eigvalsh(shrunk)[::-1]
    np.testing.assert_allclose(asm.explained_variance_, values[:4], rtol=1e-10)
    np.testing.assert_allclose(asm.noise_variance_, values[4:].mean(), rtol=1e-10)
    np.testing.assert_allclose(asm.total_variance_, np.trace(S), rtol=1e-10)
    np.testing.assert_allclose(asm.components_, ASM(4).fit(table).components_, atol=1e-12)
    assert ASM(0.9, shrinkage=0.5).fit(table).n_components_ == ASM(0.9).fit(table).n_components_


def test_shrinkage_helps_with_few_samples(rng):
    """The likelihood of new shapes grows, which is what shrinkage is for."""
    table = low_rank(rng, 2000, 30, 6, noise=0.5)
    train, new = table[:12], table[12:]
    plain, shrunk = (ASM(8, shrinkage=a).fit(train) for a in (None, "oas"))
    assert shrunk.basis_.log_likelihood(new).mean() > plain.basis_.log_likelihood(new).mean() + 1


# --- Missing landmarks -----------------------------------------------------------------------------------


def holes(rng, table, share):
    gaps = table.copy()
    gaps[rng.random(table.shape) < share] = np.nan
    gaps[np.isnan(gaps).all(axis=1), 0] = 0.0
    return gaps


def test_without_gaps_the_em_is_pca(rng):
    table = low_rank(rng, 80, 12, 3) + 1000
    found = fit_missing(table, lambda values: 3, tol=1e-7, max_iter=100)
    np.testing.assert_allclose(found.mean, table.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(table.T), rtol=0, atol=1e-12 * np.cov(table.T).max())
    assert found.converged
    assert found.n_iter <= 2


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_em_agrees_with_the_row_by_row_version(rng, share):
    gaps = holes(rng, low_rank(rng, 60, 8, 2, noise=0.3), share)
    mean, covariance, record = naive_missing(gaps, 2, 25)
    found = fit_missing(gaps, lambda values: 2, tol=1e-300, max_iter=25)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance, covariance * 60 / 59, atol=1e-9 * covariance.max())
    np.testing.assert_allclose(found.log_likelihood, record[-1], rtol=1e-10)
    assert not found.converged
    assert found.n_iter == 25


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
def test_likelihood_never_falls(seed, share):
    rng = np.random.default_rng(seed)
    gaps = holes(rng, low_rank(rng, 30, 6, 2, noise=0.3), share)
    if ((~np.isnan(gaps)).sum(axis=0) < 2).any():
        return
    record = [fit_missing(gaps, lambda values: 2, tol=1e-300, max_iter=i).log_likelihood for i in range(1, 12)]
    assert np.all(np.diff(record) >= -1e-7 * np.abs(record[0]))


def test_fit_with_gaps_finds_the_model_that_made_the_shapes(rng):
    table = low_rank(rng, 3000, 16, 3, noise=0.2)
    gaps = holes(rng, table, 0.15)
    full, asm = ASM(3).fit(table), ASM(3).fit(gaps)
    assert asm.converged_
    assert asm.n_iter_ > 1
    np.testing.assert_allclose(asm.explained_variance_, full.explained_variance_, rtol=0.03)
    np.testing.assert_allclose(asm.noise_variance_, full.noise_variance_, rtol=0.03)
    assert np.abs((asm.components_ * full.components_).sum(axis=1)).min() > 0.999
    whole_rows = ASM(3).fit(table[~np.isnan(gaps).any(axis=1)])
    assert np.abs(asm.mean_ - full.mean_).max() < np.abs(whole_rows.mean_ - full.mean_).max()


@pytest.mark.parametrize(("n_seen", "told"), [(5, True), (60, False)])
def test_a_landmark_that_few_shapes_show_is_told(rng, n_seen, told):
    shapes = low_rank(rng, 80, 20, 6, noise=0.2).reshape(80, 10, 2)
    shapes[n_seen:, 3] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ASM(6, max_iter=20).fit(shapes)
    messages = [str(w.message) for w in caught if "too few for 6 modes" in str(w.message)]
    assert [m.startswith(f"landmark 3 is seen in {n_seen} of 80 shapes") for m in messages] == [True] * told


@pytest.mark.filterwarnings("ignore:the fit to shapes with missing landmarks did not settle")
@pytest.mark.parametrize("n_components", [0.8, 2, None])
@pytest.mark.parametrize("n", [14, 200])
def test_every_kind_of_count_works_with_gaps(rng, n_components, n):
    shapes = low_rank(rng, n, 20, 4, noise=0.2).reshape(n, 10, 2)
    shapes[rng.random((n, 10)) < 0.1] = np.nan
    asm = ASM(n_components).fit(shapes)
    again = ASM(n_components).fit(shapes)
    np.testing.assert_array_equal(asm.components_, again.components_)
    assert np.isfinite(asm.explained_variance_).all()
    assert asm.project(asm.mean_).shape == (10, 2)
    if n_components == 2:
        assert asm.n_components_ == 2


def test_max_iter_leaves_a_record(rng):
    gaps = holes(rng, low_rank(rng, 60, 12, 3), 0.3)
    with pytest.warns(ConvergenceWarning, match="did not settle in 2 steps"):
        asm = ASM(3, max_iter=2).fit(gaps)
    assert asm.n_iter_ == 2
    assert asm.converged_ is False
    assert ASM(3).fit(gaps).converged_ is True


def test_oas_works_with_gaps(rng):
    gaps = holes(rng, low_rank(rng, 20, 12, 3), 0.1)
    assert 0 < ASM(3, shrinkage="oas").fit(gaps).shrinkage_ < 1


# --- Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "expected 1 to min"),
        ({"n_components": 10}, r"n_components: got 10; expected 1 to min\(n_samples - 1, n_features\) = 9"),
        ({"n_components": 1.0}, "n_components: got 1.0; expected"),
        ({"n_components": -0.5}, "n_components: got -0.5; expected"),
        ({"n_components": True}, "n_components: got True; expected"),
        ({"n_components": "mle"}, "n_components: got 'mle'; expected"),
        ({"limit": -1.0}, "Box: got k=-1"),
        ({"shrinkage": 1.5}, "shrinkage: got 1.5; expected"),
        ({"shrinkage": "strong"}, "shrinkage: got 'strong'; expected"),
        ({"tol": 0.0}, "tol: got 0.0; expected a finite positive number"),
        ({"max_iter": 0}, "max_iter: got 0; expected"),
    ],
)
def test_parameters_out_of_range(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        ASM(**parameters).fit(rng.normal(size=(10, 6, 2)))


def test_bad_shapes(rng):
    shapes = rng.normal(size=(10, 6, 2))
    with pytest.raises(ValueError, match="1 samples; expected at least 2"):
        ASM().fit(shapes[:1])
    with pytest.raises(ValueError, match="expected"):
        ASM().fit(shapes[None])
    with pytest.raises(ValueError, match="infinite coordinate at index"):
        ASM().fit(np.where(shapes == shapes[3, 2, 1], np.inf, shapes))
    with pytest.raises(ValueError, match="parts differ in length"):
        ASM().fit([shapes[0].tolist(), shapes[1, :4].tolist()])
    with pytest.raises(ValueError, match="0 landmarks a shape; expected at least 1"):
        ASM().fit(np.zeros((5, 0, 2)))
    for huge in (shapes * 1e200, np.where(shapes == shapes[3, 2, 1], np.nan, shapes * 1e200)):
        with pytest.raises(ValueError, match=r"got coordinates up to .*Try other units"):
            ASM().fit(huge)
    with pytest.raises(ValueError, match="got coordinates up to"):
        ASM().fit_chunks([shapes * 1e200])
    np.testing.assert_allclose(ASM(2).fit(shapes * 1e-100).components_, ASM(2).fit(shapes).components_, atol=1e-12)
    for constant in (0.0, 1e6 + 1 / 3):
        with pytest.raises(DegenerateShapeError, match="all shapes are equal"):
            ASM().fit(np.full((5, 4, 2), constant))


def test_bad_gaps(rng):
    shapes = rng.normal(size=(10, 6, 2))
    gaps = shapes.copy()
    gaps[1:, 3] = np.nan
    with pytest.raises(ValueError, match="landmark 3 is seen in 1 of 10 shapes; expected at least 2"):
        ASM().fit(gaps)
    gaps = shapes.copy()
    gaps[4] = np.nan
    with pytest.raises(ValueError, match="shape 4 has no landmark at all"):
        ASM().fit(gaps)
    with pytest.raises(ValueError, match="shape 4 has no landmark at all"):
        ASM().fit(shapes).score(gaps)
    gaps[4, 1] = 0.0
    with pytest.raises(ValueError, match="'ledoit_wolf' needs complete shapes"):
        ASM(shrinkage="ledoit_wolf").fit(gaps)
    with pytest.raises(ValueError, match="NaN"):
        ASM().fit(shapes).project(gaps)


# --- Real landmarks --------------------------------------------------------------------------------------


@pytest.mark.data
def test_plethodon_agrees_with_the_published_spectrum(data_dir):
    from shape_models import generalized_procrustes

    shapes = np.load(data_dir / "landmarks" / "plethodon.npz")["shapes"]
    asm = ASM(2).fit(generalized_procrustes(shapes, tangent=True).aligned)
    np.testing.assert_allclose(100 * asm.explained_variance_ratio_, [36.7, 31.0], atol=0.1)


@pytest.mark.data
def test_shrinkage_helps_on_the_hands_of_another_person(data_dir):
    """Twenty hands of two persons, judged by the likelihood of the ten of a third."""
    from shape_models import GeneralizedProcrustes

    shapes = np.load(data_dir / "hands" / "landmarks.npz")["shapes"]
    person = np.repeat(np.arange(3), 10)
    gains = []
    for i in range(3):
        alignment = GeneralizedProcrustes().fit(shapes[person != i])
        train, new = alignment.transform(shapes[person != i]), alignment.transform(shapes[person == i])
        plain, shrunk = (ASM(shrinkage=a).fit(train).basis_.log_likelihood(new).mean() for a in (None, "oas"))
        gains.append(shrunk - plain)
    assert np.mean(gains) > 40


@pytest.mark.data
def test_muct_fits_with_all_its_rows(data_dir):
    """1680 of the 7510 faces miss landmarks, none is dropped, and the model is the better for it."""
    from shape_models import generalized_procrustes

    aligned = generalized_procrustes(read_muct_table(data_dir)).aligned
    assert np.isnan(aligned).any(axis=(1, 2)).sum() == 1680
    asm = ASM(0.95).fit(aligned)
    assert asm.n_samples_ == 7510
    assert asm.converged_
    hidden = aligned[~np.isnan(aligned).any(axis=(1, 2))][::400].copy()
    truth = hidden.copy()
    hidden[:, :6] = np.nan
    filled = asm.complete(hidden).shapes
    error = np.linalg.norm(filled[:, :6] - truth[:, :6], axis=-1).mean()
    assert error < 0.5 * np.linalg.norm(asm.mean_[:6] - truth[:, :6], axis=-1).mean()


def read_muct_table(data_dir):
    with (data_dir / "landmarks" / "muct68_opencv.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    shapes = np.array([[float(value) for value in row[2:]] for row in rows]).reshape(-1, 68, 2)
    shapes[(shapes == 0).all(axis=-1)] = np.nan
    return shapes


def test_masked_arrays_are_refused():
    """What lies under a mask is never taken for a landmark: missing is NaN, and the error says how to get there."""
    faces = make_faces(12, rng=0)
    masked = np.ma.masked_array(faces, mask=False)
    masked[0, 3] = np.ma.masked
    asm = ASM(3).fit(faces)
    for use in (
        ASM(3).fit,
        lambda x: ASM(3).fit(x.reshape(12, -1)),
        asm.transform,
        asm.project,
        asm.basis_.encode,
        asm.basis_.complete,
        AlignedASM(ASM(3)).fit,
        AlignedASM(ASM(3)).fit(faces).project,
        generalized_procrustes,
        lambda x: estimate_similarity(x, faces),
        ShapeStatistics.from_shapes,
        lambda x: AlignedASM(ASM(3)).fit_chunks([x]),
        IBUG68.flip,
    ):
        with pytest.raises(TypeError, match=r"got a masked array; expected .* Try np\.ma\.filled"):
            use(masked)
    filled = np.ma.filled(masked.astype(float), np.nan)
    np.testing.assert_array_equal(np.isnan(filled), np.ma.getmaskarray(masked))
    assert ASM(3).fit(filled).n_components_ == 3
