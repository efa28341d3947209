"""Marginal and posterior models against dense Gaussians, and smooth covariances for few shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import bases, similarities

from shape_models import (
    ASM,
    AlignedASM,
    ShapeBasis,
    condition,
    fit_with_kernel,
    generalized_procrustes,
    load_model,
    make_faces,
    marginal,
    save_model,
)


def dense(basis):
    """Mean and covariance of the Gaussian that a basis stands for."""
    v, s = np.asarray(basis.components), float(basis.noise_variance)
    return np.asarray(basis.mean).ravel(), (v.T * (np.asarray(basis.variances) - s)) @ v + s * np.eye(v.shape[1])


@given(st.data(), bases(noise=(0.0, 0.01)))
def test_marginals_are_those_of_the_gaussian(data, basis):
    n, d = basis.event_shape
    chosen = data.draw(st.permutations(range(n)))[: max(2, n - 2)]
    columns = (np.array(chosen)[:, None] * d + np.arange(d)).ravel()
    mean, covariance = dense(basis)
    whole = marginal(basis, chosen)
    np.testing.assert_array_equal(np.asarray(whole.mean).ravel(), mean[columns])
    part = covariance[np.ix_(columns, columns)]
    found = dense(whole)[1]
    scale = max(np.abs(covariance).max(), 1e-300)
    if basis.noise_variance == 0:
        np.testing.assert_allclose(found / scale, part / scale, atol=1e-8)
    np.testing.assert_allclose(np.trace(found) / scale, np.trace(part) / scale, rtol=1e-8, atol=1e-9)


def test_a_part_is_near_the_model_that_is_fitted_to_it():
    faces = make_faces(300, rng=0)
    model = AlignedASM(ASM(None, limit=None), scheme="ibug68").fit(faces)
    part = marginal(model, ["left_eye", "right_eye", "mouth"])
    chosen = model.scheme_.indices(["left_eye", "right_eye", "mouth"])
    fitted = AlignedASM(ASM(None, limit=None)).fit(faces[:, chosen])
    assert part.scheme_.n_landmarks == len(chosen)
    np.testing.assert_allclose(part.alignment_.mean_shape_, fitted.alignment_.mean_shape_, atol=0.01)
    ours, theirs = dense(part.asm_.basis_)[1], dense(fitted.asm_.basis_)[1]
    assert np.linalg.norm(ours - theirs) < 0.15 * np.linalg.norm(theirs)
    again = marginal(model, np.arange(68)[::-1])
    np.testing.assert_allclose(again.project(faces[:3, ::-1]), model.project(faces[:3])[:, ::-1])


def test_parts_are_saved(tmp_path):
    part = marginal(load_model("face68"), ["nose"])
    save_model(part, tmp_path / "nose.npz")
    nose = make_faces(1, rng=0)[0, load_model("face68").scheme_.indices("nose")]
    np.testing.assert_allclose(load_model(tmp_path / "nose.npz").project(nose), part.project(nose), rtol=1e-12)


@pytest.mark.parametrize("landmarks", [[0, 0], [68], [], [-1, 2], ["tail"]])
def test_landmarks_that_the_model_lacks(landmarks):
    with pytest.raises(ValueError, match="expected"):
        marginal(load_model("face68"), landmarks)


@given(st.data(), st.integers(0, 2**32 - 1))
def test_posteriors_are_those_of_the_gaussian(data, seed):
    rng = np.random.default_rng(seed)
    components = np.linalg.qr(rng.normal(size=(14, 4)))[0].T
    basis = ShapeBasis(rng.normal(size=(7, 2)), components, [2.0, 1.0, 0.5, 0.1], None, noise_variance=0.01)
    points = basis.sample(1, rng=rng)[0] + 0.1 * rng.normal(size=(7, 2))
    points[[1, 4]] = np.nan
    noise = rng.uniform(0.05, 0.5, size=7)
    posterior = condition(basis, points, noise)
    mean, prior = dense(basis)
    seen = np.isfinite(points).ravel()
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + np.diag(np.repeat(noise**2, 2)[seen]))
    expected = prior - gain @ prior[seen]
    np.testing.assert_allclose(posterior.mean.ravel(), mean + gain @ (points.ravel() - mean)[seen], atol=1e-9)
    found = dense(posterior)[1]
    np.testing.assert_allclose(found[~seen][:, ~seen], expected[~seen][:, ~seen], atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_mean_of_a_posterior_is_the_completion(noise):
    model, face = load_model("face68"), make_faces(1, rng=3)[0]
    face[:17] = np.nan
    completion = model.complete(face, covariance=noise**2)
    size = np.linalg.norm(completion.shapes - completion.shapes.mean(axis=0))
    posterior = condition(model, face, noise)
    np.testing.assert_allclose(posterior.mean, completion.shapes, rtol=0, atol=1e-6 * size)
    blocks = dense(posterior)[1].reshape(68, 2, 68, 2)[np.arange(17), :, np.arange(17)]
    np.testing.assert_allclose(blocks, completion.covariance[:17], rtol=0, atol=1e-5 * blocks.max())


def test_parts_complete_as_their_whole_does():
    faces = make_faces(200, rng=0)
    aligned = generalized_procrustes(faces).aligned
    asm, chosen = ASM(0.9).fit(aligned[:150]), np.arange(40)[::-1]
    model = AlignedASM(ASM(0.9)).fit(faces[:150])
    seen = aligned[150:].copy()
    seen[:, 30:] = np.nan  # and of the others, which the part lacks, nothing is seen
    holed = faces[150:].copy()
    holed[:, :10] = holed[:, 40:] = np.nan
    whole = {
        "asm": np.linalg.norm(asm.complete(seen).shapes - aligned[150:], axis=-1)[:, 30:40].mean(),
        "model": np.linalg.norm(model.complete(holed).shapes - faces[150:], axis=-1)[:, :10].mean(),
    }
    part = {
        "asm": np.linalg.norm(marginal(asm, chosen).complete(seen[:, chosen]).shapes - aligned[150:, chosen], axis=-1)[
            :, :10
        ].mean(),
        "model": np.linalg.norm(
            marginal(model, chosen).complete(holed[:, chosen]).shapes - faces[150:, chosen], axis=-1
        )[:, 30:].mean(),
    }
    for kind, error in part.items():
        assert error < 1.05 * whole[kind], (kind, error, whole[kind])
    turned = np.random.default_rng(0).permutation(68)
    again, same = marginal(model, turned).complete(holed[:, turned]), model.complete(holed)
    np.testing.assert_allclose(again.shapes, same.shapes[:, turned], atol=1e-5)
    np.testing.assert_allclose(again.radius(), same.radius()[:, turned], rtol=0.1)  # learned from other draws


@given(st.data())
def test_posteriors_move_with_the_points(data):
    model, t = load_model("face68"), data.draw(similarities(2))
    face = 100 * np.asarray(model.asm_.mean_) + 200
    face[:17] = np.nan
    here, there = condition(model, face, 1.0), condition(model, t(face), float(t.scale))
    np.testing.assert_allclose(there.mean, t(here.mean), atol=1e-4 * float(t.scale) + 1e-9 * np.abs(t(here.mean)).max())
    np.testing.assert_allclose(there.variances, here.variances * float(t.scale) ** 2, rtol=1e-4)


def test_nothing_seen_in_the_frame_of_the_model_is_the_prior_and_exact_points_are_kept():
    basis = load_model("face68").asm_.basis_
    blind = condition(basis, np.full((68, 2), np.nan), 1.0)
    np.testing.assert_allclose(blind.variances, basis.variances, rtol=1e-9)
    np.testing.assert_allclose(blind.mean, basis.mean)
    exact = ShapeBasis(basis.mean, basis.components[:3], basis.variances[:3], None)
    shape = exact.sample(1, rng=0)[0]
    np.testing.assert_allclose(condition(exact, shape, 0.0).mean, shape, atol=1e-6)
    with pytest.raises(ValueError, match="standard deviations"):
        condition(basis, basis.mean, -1.0)


def test_a_smooth_covariance_helps_where_shapes_are_few(tmp_path):
    faces = make_faces(60, rng=0)
    few, rest = faces[:6], faces[6:]
    plain = AlignedASM(ASM(None, limit=None)).fit(few)
    model = fit_with_kernel(few, n_components=0.999, limit=None)

    def error(model):
        size = np.linalg.norm(rest - rest.mean(axis=1, keepdims=True), axis=(1, 2))
        return float(np.mean(np.linalg.norm(model.project(rest) - rest, axis=(1, 2)) / size))

    assert model.asm_.n_components_ > 5
    assert error(model) < 0.8 * error(plain)
    save_model(model, tmp_path / "m.npz")
    np.testing.assert_allclose(load_model(tmp_path / "m.npz").project(rest[0]), model.project(rest[0]))


def test_no_amplitude_adds_nothing():
    faces = make_faces(8, rng=0)
    plain, model = (
        AlignedASM(ASM(5, limit=None)).fit(faces),
        fit_with_kernel(faces, amplitude=0, length=1, n_components=5),
    )
    np.testing.assert_allclose(model.asm_.explained_variance_, plain.asm_.explained_variance_, rtol=1e-6)
    with pytest.raises(ValueError, match="expected 3 to choose"):
        fit_with_kernel(faces[:2])
    with pytest.raises(ValueError, match="positive"):
        fit_with_kernel(faces, length=0.0)
    assert generalized_procrustes(faces).mean.shape == model.asm_.mean_.shape
