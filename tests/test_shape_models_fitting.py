"""The fit of a model to uncertain points: laws, a naive oracle, rows that fail."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from shape_models import ASM, AlignedASM, DegenerateShapeError, Similarity, _posterior, fit_shape, make_faces


@pytest.fixture(scope="module")
def faces():
    return make_faces(150, rng=0)


@pytest.fixture(scope="module")
def model(faces):
    return AlignedASM(ASM(0.95)).fit(faces)


def blocks(rng, n):
    root = rng.normal(size=(n, 68, 2, 2))
    return root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(2)


@pytest.mark.parametrize("loss", ["linear", "tukey"])
def test_equivariant_with_its_covariances(faces, model, rng, loss):
    points, known = faces[:3] + rng.normal(scale=2, size=(3, 68, 2)), blocks(rng, 3)
    t = Similarity(np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([30.0, -7.0]), 2.5)
    a = t.scale * t.rotation
    one = fit_shape(model, points, covariance=known, loss=loss)
    other = fit_shape(model, t(points), covariance=a @ known @ a.T, loss=loss)
    np.testing.assert_allclose(other.shapes, t(one.shapes), rtol=1e-7)
    np.testing.assert_allclose(other.covariance, a @ one.covariance @ a.T, rtol=1e-6, atol=1e-7)


def test_no_confidence_is_missing_and_full_confidence_is_plain(faces, model):
    wild, gaps, infinite = faces[0].copy(), faces[0].copy(), np.zeros(68)
    wild[30] += 1000
    gaps[30], infinite[30] = np.nan, np.inf
    missing = fit_shape(model, gaps)
    for fit in (fit_shape(model, wild, confidence=np.arange(68) != 30), fit_shape(model, wild, covariance=infinite)):
        np.testing.assert_allclose(fit.shapes, missing.shapes, rtol=1e-9)
        np.testing.assert_allclose(fit.covariance, missing.covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit_shape(model, faces, confidence=np.ones(68)).shapes, model.project(faces), rtol=1e-9)


def test_more_certain_points_never_widen_a_covariance(faces, model, rng):
    known = rng.uniform(0.1, 4.0, size=68)
    sure = np.where(rng.random(68) < 0.5, known, known * rng.random(68))
    wide = fit_shape(model, faces[0], covariance=known).covariance
    narrow = fit_shape(model, faces[0], covariance=sure).covariance
    # The pose moves a little with the weights, and with it the size that covariances are given in.
    assert np.linalg.eigvalsh(1.005 * wide - narrow).min() > -1e-9


def test_a_batch_is_a_loop_and_a_bad_row_harms_nobody(faces, model, rng):
    points = faces[:5] + rng.normal(scale=2, size=(5, 68, 2))
    points[1], points[2], points[3, 0] = np.nan, 7.0, np.inf
    fit = fit_shape(model, points, covariance=2.0)
    assert fit.status.tolist()[1:4] == ["too few landmarks", "coincident landmarks", "infinite coordinate"]
    assert np.isnan(fit.shapes[1:4]).all()
    for i in (0, 4):
        one = fit_shape(model, points[i], covariance=2.0)
        assert one.status == "ok"
        np.testing.assert_allclose(one.shapes, fit.shapes[i], rtol=1e-9)
        np.testing.assert_allclose(one.covariance, fit.covariance[i], rtol=1e-6)
    assert np.isnan(model.project(points)[1]).all()
    with pytest.raises(DegenerateShapeError, match="too few landmarks at index 1"):
        fit_shape(model, points, covariance=2.0, on_error="raise")
    with pytest.raises(ValueError, match="from 0 to 1"):
        fit_shape(model, points[0], confidence=np.full(68, 80.0))


def test_least_squares_agrees_with_a_naive_oracle(faces, model, rng):
    """Pose and modes together, by finite differences of a function that knows nothing of the fit."""
    basis = ASM(3).fit(model.align(faces)[0]).basis_
    for i in range(3):
        points, w = faces[i] + rng.normal(scale=2, size=(68, 2)), rng.uniform(0.2, 1, size=68)

        def off(x, points=points, w=w):
            a, b, shift, c = x[0], x[1], x[2:4], x[4:]
            shape = basis.decode(c) @ np.array([[a, b], [-b, a]]) + shift
            return (np.sqrt(w)[:, None] * (shape - points)).ravel()

        fit = fit_shape(basis, points, confidence=w, prior=False)
        s = fit.similarity
        start = np.concatenate([s.scale * s.rotation[:, 0], s.translation, np.zeros(3)])
        found = least_squares(off, start, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15).x
        np.testing.assert_allclose(fit.coefficients, found[4:], atol=1e-6)


def problems(n_dims, rng):
    """Return a model and points of it with all kinds of knowledge, by name."""
    shapes = make_faces(80, rng=1)[:, ::2]
    if n_dims == 3:
        deep = np.linspace(0, 60, shapes.shape[1])[:, None] + rng.normal(scale=3, size=(*shapes.shape[:2], 1))
        shapes = np.concatenate([shapes, deep], axis=-1)
    model = AlignedASM(ASM(0.9)).fit(shapes)
    points = shapes[:4] + rng.normal(size=shapes[:4].shape)
    points[:, 3] += 40
    gaps = points.copy()
    gaps[:, 5:12] = np.nan
    k = shapes.shape[1]
    root = rng.normal(size=(4, k, n_dims, n_dims))
    trust = np.round(rng.uniform(size=(4, k)), 1)
    return model, {
        "certain": (points, {}),
        "gaps": (gaps, {}),
        "confidence": (points, {"confidence": trust}),
        "variances": (gaps, {"covariance": rng.uniform(0, 3, size=(4, k))}),
        "matrices": (gaps, {"covariance": root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(n_dims)}),
    }


@pytest.mark.parametrize("n_dims", [2, 3])
def test_the_loops_agree_with_the_array_api(n_dims, rng, monkeypatch):
    model, cases = problems(n_dims, rng)
    settings = [{}, {"loss": "huber"}, {"loss": "tukey"}, {"loss": "tukey", "prior": False}]
    fits = [[fit_shape(model, x, **known, **how) for how in settings] for x, known in cases.values()]
    completion = model.asm_.complete(cases["gaps"][0] / 300)
    monkeypatch.setattr(_posterior, "_loops", lambda problem: None)
    monkeypatch.setattr(_posterior, "complete_rows", lambda basis, rows: None)
    for (name, (x, known)), compiled in zip(cases.items(), fits, strict=True):
        for how, fast in zip(settings, compiled, strict=True):
            plain = fit_shape(model, x, **known, **how)
            for field in ("shapes", "completed", "coefficients", "covariance", "weights", "plausibility"):
                a, b = getattr(fast, field), getattr(plain, field)
                assert np.abs(a - b).max() <= 1e-7 * np.abs(b).max() + 1e-12, (name, how, field)
    plain = model.asm_.complete(cases["gaps"][0] / 300)
    np.testing.assert_allclose(completion.shapes, plain.shapes, rtol=1e-9)
    np.testing.assert_allclose(completion.covariance, plain.covariance, rtol=1e-7, atol=1e-12)
