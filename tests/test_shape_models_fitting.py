"""The fit of a model to uncertain points: laws, a naive oracle, rows that fail."""

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from shape_models import (
    ASM,
    AlignedASM,
    DegenerateShapeError,
    ShapeBasis,
    Similarity,
    _fit_loops,
    _problem,
    estimate_similarity,
    fit_shape,
    load_model,
    make_faces,
)
from shape_models._posterior import solve
from shape_models._problem import Problem
from shape_models._transforms import pose_directions


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


@pytest.mark.parametrize("loss", ["linear", "huber", "tukey"])
def test_errors_far_beyond_the_shape_say_nothing(faces, model, loss):
    """A covariance without end is that of a missing landmark; a direction without end is left free."""
    missing = np.where(np.arange(68) < 5, np.inf, 1.0)
    expected = fit_shape(model, faces[0], covariance=missing * 1e-6, loss=loss)
    for large in (1e14, 1e20, 1e100, 1e300):
        some = np.where(np.isinf(missing), large, 1e-6)
        found = fit_shape(model, faces[0], covariance=some, loss=loss)
        np.testing.assert_allclose(found.shapes, expected.shapes, rtol=1e-9)
        for everywhere in (large, np.full(68, large), large * np.eye(2) * np.ones((68, 1, 1))):
            found = fit_shape(model, faces[:2], covariance=everywhere, loss=loss)
            assert found.status.tolist() == ["too few landmarks"] * 2
            assert np.isnan(found.shapes).all()
    assert fit_shape(model, faces[0], confidence=np.full(68, 1e-300)).status == "too few landmarks"
    along = np.gradient(faces[0], axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    size = np.linalg.norm(faces[0] - faces[0].mean(axis=0))
    free = [
        fit_shape(model, faces[0], covariance=size**2 * (s * along[:, :, None] * along[:, None] + 1e-6 * np.eye(2)))
        for s in (1e4, 1e8)
    ]
    np.testing.assert_allclose(free[1].shapes, free[0].shapes, atol=1e-3 * size)


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
    with pytest.raises(DegenerateShapeError, match=r"too few landmarks that are seen .* at index 1"):
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
    monkeypatch.setattr(_problem, "compiles", lambda frame, points: False)
    monkeypatch.setattr(_fit_loops, "complete_rows", lambda basis, rows: None)
    for (name, (x, known)), compiled in zip(cases.items(), fits, strict=True):
        for how, fast in zip(settings, compiled, strict=True):
            plain = fit_shape(model, x, **known, **how)
            for field in ("shapes", "completed", "coefficients", "covariance", "weights", "plausibility"):
                a, b = getattr(fast, field), getattr(plain, field)
                assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max() + 1e-12, (name, how, field)
    plain = model.asm_.complete(cases["gaps"][0] / 300)
    np.testing.assert_allclose(completion.shapes, plain.shapes, rtol=1e-9)
    np.testing.assert_allclose(completion.covariance, plain.covariance, rtol=1e-7, atol=1e-12)


def test_a_loop_in_other_order_and_other_landmarks_first(faces, rng):
    """Fits do not depend on the order of the landmarks, by a model fitted to permuted ones."""
    order = rng.permutation(68)
    model, other = AlignedASM(ASM(0.95)).fit(faces), AlignedASM(ASM(0.95)).fit(faces[:, order])
    points = faces[:3] + rng.normal(size=(3, 68, 2))
    points[:, 20:30] = np.nan
    known = rng.uniform(0.2, 3, size=68)
    for how in ({"covariance": known}, {"loss": "tukey"}):
        own = {key: value[order] if key == "covariance" else value for key, value in how.items()}
        a, b = fit_shape(model, points, **how), fit_shape(other, points[:, order], **own)
        np.testing.assert_allclose(b.shapes, a.shapes[:, order], rtol=1e-6)
        np.testing.assert_allclose(b.covariance, a.covariance[:, order], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(b.plausibility, a.plausibility, rtol=1e-4)


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("prior", [True, False])
def test_two_hundred_problems_agree_with_least_squares(n_dims, prior, rng):
    """Pose and coefficients of 100 random problems each way, by a program that only knows residuals."""
    k, m = 12, 3
    mean = rng.normal(size=(k, n_dims))
    modes = np.linalg.qr(rng.normal(size=(k * n_dims, m)))[0].T
    basis = ShapeBasis(mean, modes, [0.3, 0.1, 0.05], None, noise_variance=1e-8 if not prior else 0.01)
    n = 100
    turn = np.linalg.qr(rng.normal(size=(n, n_dims, n_dims)))[0]
    turn[:, 0] *= np.sign(np.linalg.det(turn))[:, None]
    scale = rng.uniform(1, 3, size=(n, 1, 1))
    points = scale * basis.sample(n, rng=1) @ np.swapaxes(turn, 1, 2) + rng.normal(size=(n, 1, n_dims))
    points += 0.05 * rng.normal(size=points.shape)
    variance = rng.uniform(0.5, 2.0, size=(n, k)) * 0.05**2
    fit = fit_shape(basis, points, covariance=variance, prior=prior)
    assert (fit.status == "ok").all()
    for i in range(n):
        pose = fit.similarity[i].inverse
        x, size = pose(points[i]), float(pose.scale)
        if not prior:

            def off(c, i=i):
                turned = Rotation.from_rotvec(c[m : m + 3]).as_matrix() if n_dims == 3 else plane(c[m])
                shape = np.exp(c[-1]) * basis.decode(c[:m]) @ turned.T + c[-1 - n_dims : -1]
                return ((shape - points[i]) / np.sqrt(variance[i])[:, None]).ravel()

            back = fit.similarity[i]
            r = back.rotation
            angle = Rotation.from_matrix(r).as_rotvec() if n_dims == 3 else [np.arctan2(r[1, 0], r[0, 0])]
            start = np.concatenate([fit.coefficients[i], angle, back.translation, [np.log(back.scale)]])
            near = start * (1 + 1e-3 * rng.normal(size=len(start)))
            found = least_squares(off, near, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15).x
            np.testing.assert_allclose(found[:m], fit.coefficients[i], atol=1e-6)
            continue

        # E[x | y] minimises |x - mean|² / C + |x - y|² / M over what is no pose: here by its residuals.
        noise = basis.noise_variance
        moves = pose_directions(mean)
        free = modes - np.linalg.lstsq(moves.T, modes.T, rcond=None)[0].T @ moves
        inner = free * np.sqrt(np.array([0.3, 0.1, 0.05]) - noise)[:, None]
        values, vectors = np.linalg.eigh(inner.T @ inner + noise * np.eye(k * n_dims))
        space = null_space(moves)
        inverse = np.linalg.inv(space.T @ (vectors * values) @ vectors.T @ space)
        root = np.linalg.cholesky(inverse).T @ space.T

        sd = size * np.sqrt(variance[i])[:, None]

        def residuals(flat, x=x, root=root, sd=sd):
            own = (flat.reshape(k, n_dims) - x) / sd
            return np.concatenate([root @ (flat - mean.ravel()), own.ravel()])

        found = least_squares(residuals, x.ravel(), xtol=1e-15, ftol=1e-15, gtol=1e-15, method="lm").x
        np.testing.assert_allclose(found.reshape(k, n_dims), pose(fit.completed[i]), atol=1e-6)
        # and in this pose the whole shape is superimposed on the mean
        again = estimate_similarity(mean, found.reshape(k, n_dims))
        np.testing.assert_allclose(again.as_matrix(), np.eye(n_dims + 1), atol=1e-6)


def plane(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_the_covariance_is_that_of_simulated_shapes(rng):
    """Shapes of the model in the pose that the fit assumes to be free, fitted to noisy and hidden points."""
    k, n = 10, 4000
    mean = rng.normal(size=(k, 2))
    moves = pose_directions(mean)
    modes = np.linalg.qr(null_space(moves) @ rng.normal(size=(2 * k - 4, 4)))[0].T
    basis = ShapeBasis(mean, modes, 1e-4 * np.array([4.0, 2.0, 1.0, 0.5]), None, noise_variance=1e-6)
    space = null_space(moves)
    shapes = basis.sample(n, rng=2) + 1e-3 * (rng.normal(size=(n, 2 * k)) @ space @ space.T).reshape(n, k, 2)
    variance = np.full(k, 1e-4)
    points = shapes + 1e-2 * rng.normal(size=shapes.shape)
    points[:, :3] = np.nan
    fit = fit_shape(basis, points, covariance=variance)
    off = fit.completed - shapes
    problem = Problem.of(basis, points, covariance=variance)
    whole = solve(problem).covariance(whole=True)
    stated, seen = whole.mean(axis=0), np.einsum("nki,nkj->kij", off, off) / n
    size = np.trace(stated, axis1=1, axis2=2)
    assert (np.abs(seen - stated) <= 0.08 * size[:, None, None]).all()


def test_a_radius_holds_what_it_says_and_says_how_good_a_completion_is(rng):
    """On shapes of a heavy-tailed law the learned ellipses hold their share; those of the Gaussian do not."""
    k = 12
    mean = make_faces(1, rng=0)[0, :48:4]
    modes = np.linalg.qr(rng.normal(size=(2 * k, 6)))[0].T * np.array([30, 20, 12, 8, 5, 3])[:, None]

    def draw(n):
        wide = 1 / np.sqrt(rng.gamma(2.0, 0.5, size=(n, 1)))  # a multivariate t of four degrees of freedom
        flat = wide * (rng.normal(size=(n, 6)) @ modes + rng.normal(size=(n, 2 * k)))
        return mean + flat.reshape(n, k, 2)

    model, new = AlignedASM(ASM(0.95)).fit(draw(600)), draw(1500)
    holed = new.copy()
    holed[:, 3:7] = np.nan
    completion = model.complete(holed)
    off = (completion.shapes - new)[:, 3:7]
    distance = np.sqrt(np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(completion.covariance[:, 3:7]), off))
    for level in (0.5, 0.8, 0.95):
        assert np.mean(distance <= completion.radius(level)[:, 3:7]) == pytest.approx(level, abs=0.05)
    assert np.mean(distance <= np.sqrt(-2 * np.log(0.5))) > 0.55
    assert completion.skill > 0.3
    assert not completion.no_better_than_mean
    fit = fit_shape(model, holed)
    error = np.linalg.norm(fit.shapes - new, axis=-1).mean(axis=1)
    assert spearmanr(fit.expected_error, error)[0] > 0.5
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit.radius(95)
    # Landmarks that have nothing to do with each other cannot be completed better than by the mean.
    lone = AlignedASM(ASM(0.95)).fit(mean + rng.normal(scale=3, size=(60, k, 2)))
    assert lone.complete(np.where(np.arange(k)[:, None] < 4, np.nan, mean)).no_better_than_mean
    assert model.asm_.basis_.complete(mean).skill is None


@pytest.mark.parametrize("how", [{"confidence": True}, {"covariance": True}, {"covariance": True, "prior": False}])
@pytest.mark.parametrize("loss", ["linear", "tukey"])
def test_gradients(how, loss, rng):
    torch = pytest.importorskip("torch")
    mean = rng.normal(size=(7, 2))
    basis = ShapeBasis(mean, np.linalg.qr(rng.normal(size=(14, 2)))[0].T, [0.02, 0.01], 2.0, noise_variance=1e-3)
    points = torch.tensor(basis.sample(rng=0)[0] + 0.05 * rng.normal(size=(7, 2)), requires_grad=True)
    known = torch.tensor(rng.uniform(0.2, 0.9, size=7), requires_grad=True)
    how = {key: known if value is True else value for key, value in how.items()}

    def shapes(x, w):
        own = {key: w if value is known else value for key, value in how.items()}
        return fit_shape(basis, x, loss=loss, **own).shapes

    assert torch.autograd.gradcheck(shapes, (points, known), eps=1e-6, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("loss", ["huber", "tukey"])
def test_a_robust_fit_of_points_without_errors_is_the_plain_one(model, loss):
    t = Similarity(np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([30.0, -7.0]), 140.0)
    points = t(model.asm_.basis_.decode(0.5 * np.sqrt(model.asm_.explained_variance_) * [[1], [-1]]))
    plain, robust = (fit_shape(model, points, loss=name, prior=False) for name in ("linear", loss))
    np.testing.assert_allclose(plain.shapes, points, rtol=1e-5)
    np.testing.assert_allclose(robust.shapes, plain.shapes, rtol=1e-6)


def test_from_its_own_answer_a_fit_stays(faces, model, rng):
    points = 100 * faces[:3] + rng.normal(size=faces[:3].shape)
    points[:, 5] = np.nan
    first = fit_shape(model, points)
    again = fit_shape(model, points, start=first.similarity)
    np.testing.assert_allclose(again.completed, first.completed, atol=1e-8)


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("loss", ["linear", "huber", "tukey"])
def test_errors_in_one_direction_only_move_with_the_points(n_dims, loss, rng):
    """Covariances of rank one, whose inverse is all but infinite across, in any pose of the points."""
    model, cases = problems(n_dims, rng)
    points = cases["gaps"][0]
    along = rng.normal(size=(*points.shape, 1))
    known = along @ np.swapaxes(along, -1, -2)
    turn = np.eye(n_dims)
    turn[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    one = fit_shape(model, points, covariance=known, loss=loss)
    spread = np.linalg.eigvalsh(one.covariance)
    assert (spread >= -1e-9 * spread.max()).all()
    for size in (1e-6, 1.0, 1e6):
        a = size * turn
        other = fit_shape(model, points @ a.T + size, covariance=a @ known @ a.T, loss=loss)
        # Shapes of about 100 pixels; directions that are all but exact settle slowly, and differently by rounding.
        assert np.abs(other.shapes - size - one.shapes @ a.T).max() < 0.2 * size
    if loss == "linear":
        off = (one.completed - points)[:, 12:]
        unit = along[:, 12:, :, 0] / np.linalg.norm(along[:, 12:, :, 0], axis=-1, keepdims=True)
        across = off - np.sum(off * unit, axis=-1, keepdims=True) * unit
        assert np.abs(across).max() < 1e-2 < np.abs(off).max()


def test_a_tie_of_equal_weights_is_broken_alike_in_every_unit(faces, model, rng):
    """Half of an even number of landmarks lies on both sides of the spread of the distances."""
    for _ in range(20):
        known = np.full(68, np.inf)
        known[rng.choice(68, 24, replace=False)] = 1.0
        points = faces[0] + rng.normal(size=(68, 2))
        one = fit_shape(model, points, covariance=known, loss="huber")
        other = fit_shape(model, 1e-6 * points, covariance=1e-12 * known, loss="huber")
        np.testing.assert_allclose(1e6 * other.shapes, one.shapes, rtol=1e-6)


@pytest.mark.parametrize(
    "how", [{}, {"loss": "tukey"}, {"prior": False}, {"covariance": 1.0}, {"covariance": np.eye(2)}]
)
@pytest.mark.parametrize("lead", [(0,), (0, 3), (2, 0)])
def test_no_shapes_give_none(model, how, lead):
    if "covariance" in how:
        how = {"covariance": how["covariance"] * np.ones((68, 1, 1) if np.ndim(how["covariance"]) else 68)}
    fit = fit_shape(model, np.empty((*lead, 68, 2)), **how)
    assert fit.shapes.shape == (*lead, 68, 2)
    assert fit.covariance.shape == (*lead, 68, 2, 2)
    assert fit.status.shape == lead
    assert fit.radius(0.5).shape == (*lead, 68)
    assert model.project(np.empty((*lead, 68, 2)), loss="tukey").shape == (*lead, 68, 2)


def test_what_is_said_to_be_worth_nothing_may_be_anything(faces, model):
    """Infinite too, and a row of its own that cannot be fitted does not make the others uncertain."""
    points = faces[:2].copy()
    points[:, 3] = [np.inf, np.nan]
    seen = np.arange(68) != 3
    found = fit_shape(model, points, confidence=seen)
    assert found.status.tolist() == ["ok", "ok"]
    np.testing.assert_allclose(found.shapes, fit_shape(model, faces[:2], confidence=seen).shapes, rtol=1e-9)


@pytest.mark.parametrize("how", [{}, {"covariance": 2.0}, {"covariance": 1e-9}, {"confidence": np.full(68, 0.5)}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_landmarks_that_coincide_are_called_so_whatever_is_known_of_them(model, how, dtype):
    """Whether the centre of many equal numbers is rounded or not."""
    for place in ([0.0, 0.0], [7.0, 7.0], [0.1, 1 / 3], [1e5 / 3, -0.7]):
        points = np.broadcast_to(np.array(place, dtype=dtype), (2, 68, 2))
        assert fit_shape(model, points, **how).status.tolist() == ["coincident landmarks"] * 2


def test_a_large_covariance_excuses_no_negative_one(faces, model):
    """Each matrix is judged by its own size."""
    known = np.broadcast_to(np.eye(2), (68, 2, 2)).copy()
    known[0] *= 1e12
    fit_shape(model, faces[0], covariance=known)
    for wrong in (-np.eye(2), [[1.0, 0.5], [0.2, 1.0]]):
        known[5] = wrong
        with pytest.raises(ValueError, match="covariance: got negative numbers"):
            fit_shape(model, faces[0], covariance=known)


WRONG = {
    "mirrored": lambda x: x * [-1, 1],
    "upside down": lambda x: x * [1, -1],
    "axes swapped": lambda x: x[..., ::-1],
    "out of order": lambda x: x[..., np.random.default_rng(1).permutation(68), :],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_points_that_look_like_the_model_in_no_position_have_a_status(wrong, rng):
    model = load_model("face68")
    right = model.sample(5, rng=rng) * 200.0 + 300.0
    right += rng.normal(scale=0.3, size=right.shape)
    shapes = WRONG[wrong](right)
    hidden = np.where(np.arange(68)[:, None] < 48, shapes, np.nan)
    told = [{"covariance": 4.0}, {"covariance": 4.0, "loss": "huber"}, {"confidence": np.full(68, 0.5)}]
    exact = [{}, {"loss": "tukey"}, {"prior": False}]
    for how, least in zip((*told, *exact), (0.01,) * 3 + (0.0,) * 3, strict=True):
        assert fit_shape(model, right, **how).plausibility.min() > least
        for points in (shapes, hidden, np.asarray(shapes, np.float32)):
            both = fit_shape(model, np.stack([points, right.astype(points.dtype)]), **how)
            assert both.status.tolist() == [["unlike the model"] * 5, ["ok"] * 5]
            assert (both.plausibility[0] == 0).all()
            fields = (both.shapes, both.completed, both.coefficients, both.covariance, both.weights, both.radius())
            for field in (*fields, both.expected_error, *both.similarity._parts):
                assert np.isnan(field[0]).all()
                assert np.isfinite(field[1]).all()
            alone = fit_shape(model, right.astype(points.dtype), **how)  # a wrong row harms no other
            np.testing.assert_allclose(both.shapes[1], alone.shapes, rtol=1e-6)
    assert np.isnan(model.project(shapes)).all()
    assert np.isnan(model.complete(hidden).shapes).all()
    for call in (model.project, model.complete, lambda x: fit_shape(model, x, on_error="raise")):
        with pytest.raises(DegenerateShapeError, match="do not look like the mean shape in any position; expected"):
            call(hidden[0])
    with pytest.raises(DegenerateShapeError, match=r"at index 1 of the batch \(5 such rows\)"):
        fit_shape(model, np.stack([right[0], *shapes]), on_error="raise")
    assert np.isfinite(model.align(shapes)[0]).all()  # that only superimposes
    assert (model.report(shapes).plausibility < 1e-6).all()


@pytest.mark.parametrize("loss", ["linear", "tukey"])
def test_other_libraries_refuse_the_same_points(loss, rng):
    torch = pytest.importorskip("torch")
    model = load_model("face68")
    right = model.sample(1, rng=rng) * 200.0 + 300.0
    points = np.concatenate([right, *(make(right) for make in WRONG.values())])
    points[1:3, 48:] = np.nan
    variance = np.full(68, 4.0)
    for known in ({}, {"covariance": variance[:, None, None] * np.eye(2) if loss == "linear" else variance}):
        here = fit_shape(model, points, loss=loss, **known)
        there = fit_shape(model, torch.tensor(points), loss=loss, **known)
        np.testing.assert_array_equal(here.status, there.status)
        assert here.status.tolist() == ["ok", *["unlike the model"] * 4]
        np.testing.assert_allclose(there.plausibility, here.plausibility, rtol=1e-5, atol=1e-9)


def test_an_error_that_is_told_does_not_make_points_unlike_the_model(rng):
    """Far landmarks, on either side, count as little as their covariance says."""
    model = load_model("face68")
    face = model.sample(1, rng=rng)[0] * 100.0
    for off in ([4000.0, 0.0], [-4000.0, 0.0], [0.0, 4000.0]):
        points = face + np.where(np.arange(68)[:, None] == 5, off, 0.0)
        assert fit_shape(model, points).status == "unlike the model"
        known = np.full(68, 1.0)
        known[5] = 4000.0**2
        fit = fit_shape(model, points, covariance=known)
        plain = fit_shape(model, np.where(np.arange(68)[:, None] == 5, np.nan, face), covariance=known)
        assert fit.status == "ok"
        assert fit.plausibility == pytest.approx(plain.plausibility, abs=0.05)


def test_shapes_of_a_model_that_varies_as_much_as_it_is_large_are_not_refused(rng):
    shapes = rng.normal(size=(40, 6, 2)) + 0.3 * rng.normal(size=(6, 2))
    wild = AlignedASM().fit(shapes)
    fit = fit_shape(wild, shapes)
    assert (fit.status == "ok").all()
    solid = rng.normal(size=(40, 9, 3)) + 0.3 * rng.normal(size=(9, 3))
    assert (fit_shape(AlignedASM().fit(solid), solid).status == "ok").all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("prior", [True, False])
def test_a_robust_loss_bears_landmarks_at_any_distance(n_dims, prior, library, rng):
    """Also such as drag the first pose along until nothing looks like the model any more."""
    shapes = make_faces(60, rng=1)[:, ::2]
    if n_dims == 3:
        shapes = np.concatenate([shapes, 0.3 * shapes[:, ::-1, :1]], axis=2)
    model = AlignedASM(ASM(0.95)).fit(shapes)
    points = 100.0 * shapes[:6]
    size = np.sqrt(np.square(points - points.mean(axis=1, keepdims=True)).sum(axis=2).mean())
    if library == "torch":
        torch = pytest.importorskip("torch")
    for which, distance in (([30], 30.0), ([30], 1e5), ([2, 11, 20, 29], 10.0), ([2, 11, 20, 29], 1e4)):
        off = rng.normal(size=(6, len(which), n_dims))
        far, gone = points.copy(), points.copy()
        far[:, which] += distance * size * off / np.linalg.norm(off, axis=-1, keepdims=True)
        gone[:, which] = np.nan
        array = torch.tensor(far) if library == "torch" else far
        assert fit_shape(model, far).status.tolist() != ["ok"] * 6
        for loss, most in (("tukey", 0.05), ("huber", 0.2)):  # by which Huber's loss is biased
            fit = fit_shape(model, array, loss=loss, prior=prior)
            assert fit.status.tolist() == ["ok"] * 6
            expected = fit_shape(model, gone, loss=loss, prior=prior).shapes
            off_now = np.linalg.norm(np.asarray(fit.shapes) - expected, axis=-1).max(axis=1) / size
            assert np.median(off_now) < most
            assert off_now.max() < 0.35  # Tukey's loss has more than one optimum
            assert (np.asarray(fit.weights)[:, which] < 0.1).all()
