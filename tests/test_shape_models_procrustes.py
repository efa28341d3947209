"""Alignment: laws, naive referees, published figures, degenerate input."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import is_mean_of_aligned, same_transform, same_up_to_turn
from oracles import procrustes_batch, umeyama_loop
from strategies import coordinates, shape_sets, similarities

from shape_models import (
    DegenerateShapeError,
    GeneralizedProcrustes,
    Similarity,
    _mean_shape,
    _procrustes,
    _superimposition,
    _transforms,
    estimate_similarity,
    generalized_procrustes,
    mirror_shapes,
)

dims = st.sampled_from([2, 3])


# --- One similarity --------------------------------------------------------------------------------------


@given(st.data(), dims, st.booleans(), st.booleans())
def test_follows_umeyama(data, d, scaling, reflection):
    x, y = data.draw(coordinates((7, d))), data.draw(coordinates((7, d)))
    w = data.draw(st.none() | coordinates((7,)).map(np.abs))
    t = estimate_similarity(x, y, weights=w, scaling=scaling, reflection=reflection)
    rotation, translation, scale = umeyama_loop(x, y, w, scaling=scaling, reflection=reflection)
    values = np.linalg.svd((y - y.mean(0)).T @ (x - x.mean(0)), compute_uv=False)
    assume(values[-1] > 1e-3 * values[0])
    np.testing.assert_allclose(t.rotation, rotation, atol=1e-7)
    np.testing.assert_allclose(t.translation, translation, atol=1e-7 * (1 + np.abs(translation).max()))
    np.testing.assert_allclose(t.scale, scale, rtol=1e-9)
    assert bool(t.reflects) == (np.linalg.det(rotation) < 0)


@given(st.data(), dims)
def test_recovers_the_transform(data, d):
    t = data.draw(similarities(d))
    x = data.draw(coordinates((6, d)))
    same_transform(estimate_similarity(x, t(x)), t, points=x, rtol=1e-8)


@given(st.data(), dims)
def test_equivariance(data, d):
    """estimate(A x, B y) = B estimate(x, y) A⁻¹ where the scale of B is 1; A may be any similarity."""
    x, y = data.draw(coordinates((6, d))), data.draw(coordinates((6, d)))
    a, b = data.draw(similarities(d)), data.draw(similarities(d))
    b = Similarity(b.rotation, b.translation)
    near = estimate_similarity(x, y)
    same_transform(estimate_similarity(a(x), b(y)), b @ near @ a.inverse, points=a(x), rtol=1e-6)


@given(st.data(), dims)
def test_no_other_similarity_is_nearer(data, d):
    x, y = data.draw(coordinates((6, d))), data.draw(coordinates((6, d)))
    w = np.abs(data.draw(coordinates((6,))))
    best = estimate_similarity(x, y, weights=w)
    step = data.draw(similarities(d))
    other = Similarity(step.rotation, step.translation / 1000, step.scale**0.1) @ best
    assert (w * best.residuals(x, y) ** 2).sum() <= (w * other.residuals(x, y) ** 2).sum() * (1 + 1e-9)


@given(st.data(), dims)
def test_rigid_motion_is_symmetric(data, d):
    """With scaling=False the best map of y to x undoes the best map of x to y."""
    x, y = data.draw(coordinates((6, d))), data.draw(coordinates((6, d)))
    there, back = (estimate_similarity(p, q, scaling=False) for p, q in ((x, y), (y, x)))
    same_transform(there.inverse, back, points=y, rtol=1e-6)


@given(st.data(), dims)
def test_integer_weights_repeat_points(data, d):
    x, y = data.draw(coordinates((5, d))), data.draw(coordinates((5, d)))
    counts = np.array([1, 3, 2, 1, 2])
    repeated = estimate_similarity(x.repeat(counts, axis=0), y.repeat(counts, axis=0))
    same_transform(estimate_similarity(x, y, weights=counts), repeated, points=x)


@given(st.data(), dims)
def test_missing_points_equal_points_left_out(data, d):
    x, y = data.draw(coordinates((7, d))), data.draw(coordinates((7, d)))
    full = estimate_similarity(x[[0, 2, 3, 5, 6]], y[[0, 2, 3, 5, 6]])
    gap_x, gap_y = x.copy(), y.copy()
    gap_x[1, 0] = np.nan
    gap_y[4] = np.nan
    same_transform(estimate_similarity(gap_x, gap_y), full, points=x)
    same_transform(estimate_similarity(x, y, weights=[1, 0, 1, 1, 0, 1, 1]), full, points=x)
    same_transform(estimate_similarity(x, y, weights=np.array([1, 0, 1, 1, 0, 1, 1], bool)), full, points=x)


@settings(max_examples=20)
@given(st.data(), dims)
def test_batch_equals_loop(data, d):
    x, y = data.draw(coordinates((2, 3, 6, d))), data.draw(coordinates((3, 6, d)))
    x[1, 2, 0] = np.nan
    for loss in ("linear", "huber"):
        t = estimate_similarity(x, y, loss=loss)
        assert t.batch_shape == (2, 3)
        for i in range(2):
            for j in range(3):
                one = estimate_similarity(x[i, j], y[j], loss=loss)
                tol = 1e-9 if loss == "linear" else 1e-4
                np.testing.assert_allclose(t[i, j].as_matrix(), one.as_matrix(), atol=tol)


@given(st.data(), dims)
def test_mirror_images_are_reflected_only_when_allowed(data, d):
    x = data.draw(coordinates((6, d)))
    y = x * ([-1, 1] if d == 2 else [-1, 1, 1])
    allowed = estimate_similarity(x, y, reflection=True)
    assert allowed.reflects
    np.testing.assert_allclose(allowed(x), y, atol=1e-9)
    assert not estimate_similarity(x, y).reflects
    assert not estimate_similarity(x, 2 * x, reflection=True).reflects


@given(st.data(), dims)
def test_one_bad_point_moves_huber_little(data, d):
    """Of 20 exact points one is thrown far off: least squares misses the others, Huber's loss hardly."""
    t = data.draw(similarities(d))
    x = data.draw(coordinates((20, d)))
    y = t(x)
    y[3] += 100 * t.scale
    linear, robust = (estimate_similarity(x, y, loss=loss).residuals(x, y) for loss in ("linear", "huber"))
    assert np.median(robust) < 1e-6 * t.scale < np.median(linear)


def test_huber_is_efficient_without_outliers():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 30, 2))
    y = x + 0.05 * rng.normal(size=x.shape)
    errors = [
        np.abs(estimate_similarity(x, y, loss=loss).as_matrix() - np.eye(3)).mean() for loss in ("linear", "huber")
    ]
    assert errors[1] < 1.1 * errors[0]


@given(st.data(), dims)
def test_float32_follows_float64(data, d):
    x, y = data.draw(coordinates((8, d))), data.draw(coordinates((8, d)))
    values = np.linalg.svd((y - y.mean(0)).T @ (x - x.mean(0)), compute_uv=False)
    assume(values[-1] + values[-2] * 0 > 0.05 * values[0])
    double = estimate_similarity(x, y)
    single = estimate_similarity(x.astype(np.float32), y.astype(np.float32))
    assert single.rotation.dtype == np.float32
    np.testing.assert_allclose(single.as_matrix(), double.as_matrix(), atol=2e-4)


@pytest.mark.parametrize("d", [2, 3])
def test_other_array_libraries_agree(d):
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    rng = np.random.default_rng(3)
    x, y, weights = rng.normal(size=(4, 6, d)), rng.normal(size=(4, 6, d)), rng.uniform(size=6)
    weights[1] = 0
    x[0, 1] = np.nan
    for reflection in (False, True):
        for loss, w in (("linear", None), ("linear", weights), ("huber", weights)):
            options = {"weights": w, "reflection": reflection, "loss": loss}
            expected = estimate_similarity(x, y, **options).as_matrix()
            for convert in (torch.asarray, strict.asarray):
                got = estimate_similarity(convert(x), convert(y), **options)
                np.testing.assert_allclose(np.asarray(got.as_matrix()), expected, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("scaling", [True, False])
def test_gradients_agree_with_differences(d, scaling):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x, y = (torch.asarray(rng.normal(size=(2, 6, d))).requires_grad_() for _ in range(2))
    w = torch.asarray(rng.uniform(0.5, 1, size=(2, 6))).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y, w: estimate_similarity(x, y, weights=w, scaling=scaling).as_matrix(), (x, y, w)
    )


LINE = np.outer(np.arange(5.0), [1.0, 2.0, 3.0])
PLANE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [3, 2, 0]])


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.ones((4, 2)), np.eye(4)[:, :2], "landmarks of source that all coincide"),
        (np.eye(4)[:, :2], np.full((4, 2), 1e6 / 3), "landmarks of target that all coincide"),
        (LINE + 0.1, PLANE, "one line"),
        (PLANE, LINE, "one line"),
        ([[0.0, 0], [np.nan, 1], [np.nan, 2]], [[0.0, 1], [2, 3], [4, 7]], "only 1 landmarks"),
        ([[np.nan, 0.0]] * 3, [[0.0, 1], [2, 3], [4, 7]], "only 0 landmarks"),
        ([[1.0, 0], [0, 1], [-1, 0], [0, -1]], [[1.0, 0], [0, -1], [-1, 0], [0, 1]], "mirror image"),
    ],
)
def test_degenerate_points_name_the_property(source, target, message):
    with pytest.raises(DegenerateShapeError, match=message):
        estimate_similarity(source, target)
    good = np.random.default_rng(0).normal(size=np.shape(source))
    batch = np.stack([good, source, 2 * good]), np.stack([good, target, good])
    with pytest.raises(DegenerateShapeError, match="index 1"):
        estimate_similarity(*batch, on_error="raise")
    words = {
        "landmarks of": "coincident landmarks",
        "one line": "collinear landmarks",
        "only": "too few landmarks",
        "mirror": "ambiguous rotation",
    }
    word = next(words[start] for start in words if start in message)
    for loss in ("linear", "huber"):
        found = estimate_similarity(*batch, loss=loss)
        assert found.status.tolist() == ["ok", word, "ok"]
        assert found[1].status == word
        assert found.inverse[1:].status.tolist() == [word, "ok"]
        assert (found @ found).status.tolist() == ["ok", word, "ok"]
        assert np.isnan(found(batch[0])[1]).all()
        alone = estimate_similarity(batch[0][::2], batch[1][::2], loss=loss)
        np.testing.assert_allclose(found[[0, 2]].as_matrix(), alone.as_matrix(), rtol=0, atol=1e-9)
        assert alone.status.tolist() == ["ok", "ok"]
    assert estimate_similarity(source, target, on_error="status").status == word


@pytest.mark.parametrize("kw", [{}, {"criterion": "partial"}, {"scaling": False}, {"tangent": True}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_bad_shapes_do_not_change_the_mean_of_the_others(d, weighted, kw):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 7, d)) + 0.1 * rng.normal(size=(12, 7, d))
    weights = rng.uniform(0.5, 2, (12, 7)) if weighted else None
    x[1], x[3, 1:], x[6, 2, 0], x[9] = 7.0, np.nan, np.inf, x[9] * 1e200
    words = {1: "coincident landmarks", 3: "too few landmarks", 6: "infinite coordinate", 9: "coordinates too large"}
    if d == 3:
        x[11] = np.outer(np.arange(7), [1.0, 2, 3])
        words[11] = "collinear landmarks"
    good = [i for i in range(12) if i not in words]
    result = generalized_procrustes(x, weights=weights, on_error="status", **kw)
    alone = generalized_procrustes(x[good], weights=None if weights is None else weights[good], **kw)
    assert {i: s for i, s in enumerate(result.status) if s != "ok"} == words
    assert result.transforms.status.tolist() == result.status.tolist()
    for name in ("aligned", "distances"):
        np.testing.assert_allclose(getattr(result, name)[good], getattr(alone, name), rtol=0, atol=1e-9)
        assert np.isnan(getattr(result, name)[list(words)]).all()
    np.testing.assert_allclose(result.mean, alone.mean, rtol=0, atol=1e-9)
    assert result.disparity == alone.disparity
    estimator = GeneralizedProcrustes(on_error="status", **kw)
    np.testing.assert_allclose(estimator.fit_transform(x, weights=weights), result.aligned, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"infinite|Try other units"):
        generalized_procrustes(x, weights=weights, **kw)
    with pytest.raises(DegenerateShapeError, match=r"1 of 2 that can be superimposed.*coincident"):
        generalized_procrustes(x[:2], on_error="status", **kw)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("d", [2, 3])
def test_infinite_and_huge_rows_leave_their_neighbours_alone(d, library):
    xp = np if library == "numpy" else pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 6, d))
    good = estimate_similarity(x, y).as_matrix()
    bad = x.copy()
    bad[1, 3, 0], bad[2] = np.inf, x[2] * 1e200
    for weights in (None, xp.asarray(np.ones(6))):
        found = estimate_similarity(xp.asarray(bad), xp.asarray(y), weights=weights)
        assert found.status.tolist() == ["ok", "infinite coordinate", "coordinates too large", "ok"]
        np.testing.assert_allclose(np.asarray(found.as_matrix())[[0, 3]], good[[0, 3]], rtol=1e-12)
        with pytest.raises(DegenerateShapeError, match=r"infinite.*index 1.*2 such rows"):
            estimate_similarity(xp.asarray(bad), xp.asarray(y), weights=weights, on_error="raise")
    alignment = GeneralizedProcrustes().fit(rng.normal(size=(1, 6, d)) + 0.1 * rng.normal(size=(9, 6, d)))
    assert alignment.align(xp.asarray(bad)).status.tolist()[1] == "infinite coordinate"
    with pytest.raises(DegenerateShapeError, match="index 1"):
        alignment.align(xp.asarray(bad), on_error="raise")


def test_planar_points_in_space_are_fine():
    t = estimate_similarity(PLANE, PLANE[:, [1, 2, 0]] * 3 + 1)
    np.testing.assert_allclose(t(PLANE), PLANE[:, [1, 2, 0]] * 3 + 1, atol=1e-12)
    assert not t.reflects


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((4, 2)), np.zeros((5, 2))), {}, "same"),
        ((np.zeros((4, 2)), np.zeros((4, 3))), {}, r"source: got \(4, 2\) and for target \(4, 3\)"),
        ((np.zeros((4, 4)), np.zeros((4, 4))), {}, "expected 2 or 3"),
        ((np.zeros((2, 4, 2)), np.zeros((3, 4, 2))), {}, "broadcast"),
        ((np.full((4, 2), np.inf), np.zeros((4, 2))), {}, "infinite"),
        ((np.eye(2), np.eye(2)), {"weights": [-1, 1]}, "negative"),
        ((np.eye(2), np.eye(2)), {"weights": [1, 1, 1]}, "weights"),
        ((np.eye(2), np.eye(2)), {"loss": "cauchy"}, "huber"),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_similarity(*arguments, **options)


# --- A set of shapes -------------------------------------------------------------------------------------

options = st.fixed_dictionaries(
    {"criterion": st.sampled_from(["full", "partial"]), "scaling": st.booleans(), "reflection": st.booleans()}
)


@given(st.data(), dims)
def test_agrees_with_the_naive_iteration(data, d):
    """Closed form (2-D) and iteration (3-D) reach the mean and the shapes of the naive loop."""
    shapes = data.draw(shape_sets(d))
    result = generalized_procrustes(shapes, tol=1e-12)
    mean, aligned = procrustes_batch(shapes, tol=1e-12, max_iter=1000)
    assert result.converged
    same_up_to_turn(result.mean, mean, atol=1e-7)
    same_up_to_turn(result.aligned[0] / result.inflation, aligned[0], atol=1e-7)
    is_mean_of_aligned(result, atol=1e-9)


@given(st.data(), dims, options)
def test_pose_of_the_inputs_does_not_matter(data, d, kw):
    """Moving each input leaves mean and disparity as they are, up to a turn of the frame."""
    shapes = data.draw(shape_sets(d))
    moves = data.draw(similarities(d, len(shapes)))
    if not kw["scaling"]:
        shapes = shapes / np.linalg.norm(shapes - shapes.mean(1, keepdims=True), axis=(1, 2), keepdims=True)
        moves = Similarity(moves.rotation, moves.translation)
    a, b = (generalized_procrustes(s, tol=1e-11, max_iter=500, **kw) for s in (shapes, moves(shapes)))
    same_up_to_turn(a.mean, b.mean, atol=1e-6)
    np.testing.assert_allclose(a.distances, b.distances, atol=1e-6)


@given(st.data(), dims, options)
def test_order_of_the_samples_does_not_matter(data, d, kw):
    shapes = data.draw(shape_sets(d))
    order = data.draw(st.permutations(range(len(shapes))))
    a, b = (generalized_procrustes(s, tol=1e-11, max_iter=500, **kw) for s in (shapes, shapes[order]))
    # A shape as flat as its noise fits its mean nearly as well mirrored; the side is then that of the first shape.
    assume(not kw.get("reflection") or np.linalg.svd(a.mean, compute_uv=False)[-1] > 0.25)
    np.testing.assert_allclose(a.aligned[order], b.aligned, atol=1e-6 * np.abs(a.aligned).max())


@given(st.data(), dims, options)
def test_record_is_consistent(data, d, kw):
    shapes = data.draw(shape_sets(d))
    result = generalized_procrustes(shapes, max_iter=500, **kw)
    np.testing.assert_allclose(result.transforms(shapes), result.aligned, atol=1e-12 * np.abs(result.aligned).max())
    distances = np.linalg.norm(result.aligned - result.mean, axis=(1, 2))
    np.testing.assert_allclose(distances, result.distances, atol=1e-12 * np.abs(result.aligned).max())
    np.testing.assert_allclose(result.disparity, (distances**2).sum())
    assert result.converged
    assert np.allclose(result.mean.mean(axis=0), 0)
    if kw["scaling"]:
        assert np.isclose(np.linalg.norm(result.mean), 1)
    else:
        assert (result.transforms.scale == 1).all()
        np.testing.assert_allclose(result.mean, result.aligned.mean(axis=0), atol=1e-6 * np.abs(result.mean).max())


@pytest.mark.data
def test_bones_follow_morpho(data_dir):
    """Mean and tangent shapes of 80 bones as the R package Morpho computed them (procSym)."""
    bones = np.load(data_dir / "landmarks" / "bones_3d.npz")
    result = generalized_procrustes(bones["shapes"], criterion="full", tangent=True)
    turn = estimate_similarity(result.mean, bones["reference_mean"], scaling=False)
    np.testing.assert_allclose(turn(result.mean), bones["reference_mean"], atol=1e-5)
    np.testing.assert_allclose(turn(result.aligned), bones["reference_aligned"], atol=5e-5)


@pytest.mark.data
@pytest.mark.parametrize("criterion", ["full", "partial"])
def test_plethodon_spectrum(data_dir, criterion):
    shapes = np.load(data_dir / "landmarks" / "plethodon.npz")["shapes"]
    aligned = generalized_procrustes(shapes, criterion=criterion).aligned.reshape(len(shapes), -1)
    variances = np.linalg.svd(aligned - aligned.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(100 * variances[:2] / variances.sum(), [36.7, 31.0], atol=0.06)


def test_estimator_agrees_with_the_function():
    rng = np.random.default_rng(0)
    shapes = rng.normal(size=(1, 6, 2)) + 0.1 * rng.normal(size=(20, 6, 2))
    for kw in ({}, {"tangent": True}, {"criterion": "partial"}, {"scaling": False}):
        result = generalized_procrustes(shapes, **kw)
        alignment = GeneralizedProcrustes(**kw)
        np.testing.assert_allclose(alignment.fit_transform(shapes), result.aligned, atol=1e-12)
        np.testing.assert_allclose(alignment.transform(shapes), result.aligned, atol=1e-12)
        np.testing.assert_allclose(alignment.align(shapes[3]).as_matrix(), result.transforms[3].as_matrix(), atol=1e-12)


def test_symmetric_mean():
    """With mirror= the mean is its own mirror image; mirrored copies in the set make the same mean."""
    rng = np.random.default_rng(0)
    mirror = np.array([1, 0, 2, 4, 3])
    shapes = rng.normal(size=(1, 5, 2)) + 0.2 * rng.normal(size=(20, 5, 2))
    mean = generalized_procrustes(shapes, mirror=mirror).mean
    same_up_to_turn(mirror_shapes(mean, mirror), mean, atol=1e-9)
    both = generalized_procrustes(np.concatenate([shapes, mirror_shapes(shapes, mirror)])).mean
    np.testing.assert_allclose(both, mean, atol=1e-9)


# --- Compiled loops for many shapes ----------------------------------------------------------------------


@pytest.fixture
def always_compiled(monkeypatch):
    """Send arrays of any size to the compiled loops."""

    def switch(on):
        number = 0 if on else 1 << 60
        for module in (_superimposition, _mean_shape, _procrustes):
            monkeypatch.setattr(module, "MANY_COORDINATES", number)
        monkeypatch.setattr(_transforms, "_LARGE", number)

    return switch


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [2, 3])
def test_compiled_pairs_equal_numpy(always_compiled, d, dtype):
    """Also where the cross-covariance is flat, mirrored or far from orthogonal."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 50, 9, d))
    y = x + rng.normal(size=x.shape) * np.array([0.01, 0.3, 3.0, 0.1])[:, None, None, None]
    y[3] *= [1, -1] if d == 2 else [1, -1, 1]
    if d == 3:
        x[1, :25, :, 2], y[2, :25, :, 0] = 5, -1
    x, y = x.astype(dtype), (7 * y + 100).astype(dtype)
    numbers = []
    for on in (True, False):
        always_compiled(on)
        for scaling in (True, False):
            numbers.append(estimate_similarity(x, y, scaling=scaling).as_matrix())
            numbers.append(estimate_similarity(x[0], y[0, 0], scaling=scaling).as_matrix())
            numbers.append(estimate_similarity(x[0, 0], y[0], scaling=scaling)(x[0]))
    for a, b in zip(numbers[:6], numbers[6:], strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, atol=1e-9 if dtype == np.float64 else 0.05)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize(
    "kw", [{}, {"criterion": "partial"}, {"scaling": False}, {"tangent": True}, {"tol": 1e-3}], ids=str
)
def test_compiled_set_equals_numpy(always_compiled, d, kw):
    rng = np.random.default_rng(0)
    shapes = 30 * (rng.normal(size=(1, 9, d)) + 0.2 * rng.normal(size=(60, 9, d))) + 200
    shapes[7] *= [-1, 1] if d == 2 else [-1, 1, 1]
    results = []
    for on in (True, False):
        always_compiled(on)
        with pytest.warns(UserWarning, match="1 of .* look like mirror images .*: 7. Try"):
            results.append(generalized_procrustes(shapes, **{"tol": 1e-12, **kw}))
    a, b = results
    tol = 1e-11 * np.abs(b.aligned).max()
    for name in ("aligned", "mean", "distances", "inflation"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tol)
    np.testing.assert_allclose(a.transforms.as_matrix(), b.transforms.as_matrix(), atol=1e-9)
    np.testing.assert_array_equal(a.mirrored, [7])
    np.testing.assert_array_equal(b.mirrored, [7])
    assert (a.n_iter, a.converged) == (b.n_iter, b.converged)


def test_compiled_closed_form_without_a_gap(always_compiled):
    """Sets with no common shape: the eigenvalues lie close, and the matrix is formed after all."""
    shapes = np.random.default_rng(0).normal(size=(400, 40, 2))
    results = []
    for on in (True, False):
        always_compiled(on)
        results.append(generalized_procrustes(shapes))
    np.testing.assert_allclose(results[0].mean, results[1].mean, atol=1e-9)


@pytest.mark.parametrize("noise", [1e-8, 0.01, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("n", [300, 3000])
def test_the_compiled_closed_form_is_the_eigenvector(always_compiled, n, noise):
    """Also where the mean of a sample is not that of all shapes."""
    rng = np.random.default_rng(0)
    shapes = rng.normal(size=(1, 20, 2)) + noise * rng.normal(size=(n, 20, 2)) * rng.uniform(0.1, 3, (n, 1, 1))
    results = []
    for on in (True, False):
        always_compiled(on)
        results.append(generalized_procrustes(shapes))
    np.testing.assert_allclose(results[0].mean, results[1].mean, atol=1e-12)
    np.testing.assert_allclose(results[0].aligned, results[1].aligned, atol=1e-11)
    assert results[0].converged


@pytest.mark.parametrize("d", [2, 3])
def test_compiled_loops_name_the_collapsed_shape(always_compiled, d):
    always_compiled(True)
    shapes = np.random.default_rng(0).normal(size=(10, 6, d))
    shapes[4] = 1e5 / 3
    with pytest.raises(DegenerateShapeError, match=r"shapes\[4\]"):
        generalized_procrustes(shapes)
    with pytest.raises(DegenerateShapeError, match="landmarks of shapes that all coincide at index 4"):
        GeneralizedProcrustes().fit(shapes[:4]).align(shapes, on_error="raise")
    with pytest.raises(DegenerateShapeError, match="landmarks of source that all coincide at index 4"):
        estimate_similarity(shapes, shapes[0], on_error="raise")
    assert np.flatnonzero(estimate_similarity(shapes, shapes[0]).status != "ok").tolist() == [4]


@pytest.mark.parametrize("kw", [{}, {"criterion": "partial"}, {"scaling": False}, {"reflection": True}], ids=str)
@pytest.mark.parametrize("d", [2, 3])
def test_blocks_add_up_to_the_whole(d, kw):
    """Means from blocks, in any cut, equal the mean of the set; weights and missing landmarks included."""
    rng = np.random.default_rng(2)
    shapes = rng.normal(size=(1, 6, d)) + 0.2 * rng.normal(size=(30, 6, d))
    shapes[rng.uniform(size=(30, 6)) < 0.1] = np.nan
    weights = rng.uniform(0.5, 2, size=6)
    whole = generalized_procrustes(shapes, weights=weights, tol=1e-11, **kw)
    seen = _mean_shape.seen_weights(shapes, weights)
    rule = "rigid" if kw.get("scaling") is False else kw.get("criterion", "full")
    found = _mean_shape.mean_of_blocks(
        lambda: ((shapes[i : i + 7], seen[i : i + 7]) for i in range(0, 30, 7)),
        rule=rule,
        reflection=kw.get("reflection", False),
        tol=1e-11,
    )
    np.testing.assert_allclose(found.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(found.inflation, whole.inflation, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_complete_tensors_take_no_compiled_loop(always_compiled, d):
    torch = pytest.importorskip("torch")
    always_compiled(True)
    x, y = np.random.default_rng(3).normal(size=(2, 4, 6, d))
    got = estimate_similarity(torch.asarray(x), torch.asarray(y))
    np.testing.assert_allclose(got.as_matrix().numpy(), estimate_similarity(x, y).as_matrix(), atol=1e-12)


@given(st.data(), dims, options)
def test_complete_sets_follow_from_weighted_ones(data, d, kw):
    """Weights of one, and weights that only scale, change nothing."""
    shapes = data.draw(shape_sets(d))
    plain = generalized_procrustes(shapes, tol=1e-11, max_iter=500, **kw)
    for weights in (np.ones(shapes.shape[1]), np.full(shapes.shape[:2], 3.0)):
        weighted = generalized_procrustes(shapes, weights=weights, tol=1e-11, max_iter=500, **kw)
        np.testing.assert_allclose(weighted.aligned, plain.aligned, atol=1e-6 * np.abs(plain.aligned).max())
        np.testing.assert_allclose(weighted.inflation, plain.inflation, atol=1e-7)


@given(st.data(), dims, options)
def test_integer_weights_repeat_landmarks(data, d, kw):
    """Weight m equals the landmark given m times, up to the size that is set to 1."""
    shapes = data.draw(shape_sets(d))
    counts = np.array([1, 3, 2] + [1] * (shapes.shape[1] - 3))
    first = np.cumsum(counts) - counts
    weighted = generalized_procrustes(shapes, weights=counts, tol=1e-11, max_iter=1000, **kw)
    repeated = generalized_procrustes(shapes.repeat(counts, axis=1), tol=1e-11, max_iter=1000, **kw)
    assume(weighted.converged and repeated.converged)
    mean = repeated.mean[first] - repeated.mean[first].mean(axis=0)
    if kw["scaling"]:
        mean /= np.linalg.norm(mean)
    same_up_to_turn(weighted.mean, mean, atol=1e-6 * np.abs(mean).max())


@given(st.data(), dims)
def test_integer_sample_weights_repeat_samples(data, d):
    shapes = data.draw(shape_sets(d))
    counts = np.array([3] + [1] * (len(shapes) - 1))
    weights = np.broadcast_to(counts[:, None], shapes.shape[:2])
    weighted = generalized_procrustes(shapes, weights=weights, tol=1e-11, max_iter=1000)
    repeated = generalized_procrustes(shapes.repeat(counts, axis=0), tol=1e-11, max_iter=1000)
    same_up_to_turn(weighted.mean, repeated.mean, atol=1e-6)


@given(st.data(), dims, options)
def test_missing_landmarks_stay_missing_and_do_little_harm(data, d, kw):
    """Sets of one exact shape lose nothing by gaps; NaN stays where it was and nowhere else."""
    shapes = data.draw(shape_sets(d, noise=0.0, min_samples=4, min_landmarks=6))
    if not kw["scaling"]:
        shapes = shapes / np.linalg.norm(shapes - shapes.mean(1, keepdims=True), axis=(1, 2), keepdims=True)
    gaps = shapes.copy()
    gaps[0, 1] = gaps[1, 2] = gaps[2, 1] = np.nan
    result = generalized_procrustes(gaps, max_iter=500, **kw)
    np.testing.assert_array_equal(np.isnan(result.aligned), np.isnan(gaps))
    assert np.isfinite(result.mean).all()
    assert np.isfinite(result.disparity)
    assert result.converged
    np.testing.assert_allclose(np.nanmax(np.abs(result.aligned - result.mean)), 0, atol=1e-6)
    np.testing.assert_allclose(result.transforms(shapes), result.mean[None].repeat(len(shapes), 0), atol=1e-6)


def test_landmarks_that_no_complete_shape_has():
    """The first shape lacks a landmark: the mean learns it from the others, in three dimensions too."""
    rng = np.random.default_rng(0)
    for d in (2, 3):
        shapes = rng.normal(size=(1, 8, d)) + 0.05 * rng.normal(size=(20, 8, d))
        whole = generalized_procrustes(shapes)
        gaps = shapes.copy()
        for i in range(20):
            gaps[i, i % 8] = np.nan
        for kw in ({}, {"criterion": "partial"}, {"tangent": True}):
            result = generalized_procrustes(gaps, **kw)
            assert result.converged
            same_up_to_turn(result.mean, whole.mean, atol=0.01)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kw", [{}, {"criterion": "partial"}, {"scaling": False}], ids=str)
def test_mirrored_shapes_are_named_and_left(d, kw):
    rng = np.random.default_rng(0)
    shapes = rng.normal(size=(1, 8, d)) + 0.1 * rng.normal(size=(20, 8, d))
    shapes[[4, 11]] *= [-1, 1] if d == 2 else [-1, 1, 1]
    with pytest.warns(UserWarning, match="2 of 20 look like mirror images of the rest .*: 4, 11. Try") as told:
        result = generalized_procrustes(shapes, **kw)
    assert [warning.filename for warning in told] == [__file__]
    np.testing.assert_array_equal(result.mirrored, [4, 11])
    assert not result.transforms.reflects.any()
    allowed = generalized_procrustes(shapes, reflection=True, **kw)
    np.testing.assert_array_equal(allowed.mirrored, [4, 11])
    np.testing.assert_array_equal(np.flatnonzero(allowed.transforms.reflects), [4, 11])
    assert allowed.disparity < 0.5 * result.disparity
    first = generalized_procrustes(shapes[[4, *range(4)]], reflection=True, **kw)
    np.testing.assert_array_equal(first.mirrored, [0])  # the majority keeps its side even when the first does not


def test_mean_is_upright_like_the_inputs():
    rng = np.random.default_rng(0)
    template = np.array([[0.0, 0], [1, 0], [1, 3], [0, 2], [0.4, 1]])
    for angle in (0.0, 1.0, 3.0):
        turn = Similarity([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], [5.0, 7.0], 40.0)
        shapes = turn(template + 0.05 * rng.normal(size=(30, 5, 2)))
        for kw in ({}, {"criterion": "partial"}, {"scaling": False}):
            mean = generalized_procrustes(shapes, **kw).mean
            back = estimate_similarity(turn(template), mean)
            np.testing.assert_allclose(back.rotation, np.eye(2), atol=0.05)


def test_too_few_rounds_are_reported():
    shapes = np.random.default_rng(0).normal(size=(10, 6, 3))
    result = generalized_procrustes(shapes, max_iter=2)
    assert (result.converged, result.n_iter) == (False, 2)
    assert np.isfinite(result.aligned).all()


def test_two_equal_eigenvalues_are_reported():
    """A triangle and its mirror image: every shape between is as good a mean."""
    angle = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    result = generalized_procrustes([triangle, triangle * [1, -1]])
    assert not result.converged
    assert np.isfinite(result.aligned).all()


def test_float32_comes_back_as_float32():
    shapes = np.random.default_rng(0).normal(size=(1, 6, 2)) + 0.1 * np.random.default_rng(1).normal(size=(9, 6, 2))
    single = generalized_procrustes(shapes.astype(np.float32))
    assert single.aligned.dtype == np.float32
    np.testing.assert_allclose(single.aligned, generalized_procrustes(shapes).aligned, atol=1e-6)


def test_nothing_is_written_to():
    shapes = np.random.default_rng(0).normal(size=(9, 6, 2))
    shapes.setflags(write=False)
    generalized_procrustes(shapes, tangent=True, mirror=[1, 0, 2, 3, 5, 4])
    estimate_similarity(shapes, shapes[0], weights=np.ones(6), loss="huber")


BAD_SETS = [
    (np.zeros((4, 2)), {}, "n_samples"),
    (np.zeros((1, 4, 2)), {}, "at least 2"),
    (np.ones((3, 4, 2)), {}, "coincide"),
    (np.zeros((3, 4, 4)), {}, "expected 2 or 3"),
    (np.full((3, 4, 2), np.inf), {}, "infinite"),
    (1e200 * np.random.default_rng(0).normal(size=(3, 4, 2)), {}, "Try other units"),
    (np.arange(5.0)[None, :, None] * np.ones((3, 1, 3)) + 0.1, {}, "one line"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"weights": [1, 1, 1, -1]}, "negative"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"weights": [1, 1, 1, 0]}, "landmark 3"),
    (np.random.default_rng(0).normal(size=(3, 4, 3)), {"weights": [1, 1, 1, 0]}, "landmark 3"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"criterion": "best"}, "partial"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"tol": 0}, "tol"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"max_iter": 0}, "max_iter"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"tangent": True, "scaling": False}, "tangent"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"mirror": [1, 2, 0, 3]}, "own inverse"),
    (np.random.default_rng(0).normal(size=(3, 4, 2)), {"mirror": [1, 0]}, "4 landmark"),
    ([[[0, 0], [1, 1]], [[0, 0]]], {}, "same number"),
]


@pytest.mark.parametrize(
    ("shapes", "kw", "message"), BAD_SETS, ids=[f"{i}-{case[2]}" for i, case in enumerate(BAD_SETS)]
)
def test_bad_sets_are_refused(shapes, kw, message):
    with pytest.raises(ValueError, match=message):
        generalized_procrustes(shapes, **kw)


def test_a_shape_with_one_landmark_seen_is_named():
    for d in (2, 3):
        shapes = np.random.default_rng(0).normal(size=(5, 4, d))
        shapes[3, 1:] = np.nan
        with pytest.raises(DegenerateShapeError, match=r"shapes\[3\].*only 1 landmarks"):
            generalized_procrustes(shapes)
        shapes[3] = np.nan
        with pytest.raises(DegenerateShapeError, match=r"shapes\[3\].*only 0 landmarks"):
            generalized_procrustes(shapes)


def test_estimator_contract():
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import make_pipeline

    from shape_models import ASM

    alignment = GeneralizedProcrustes(criterion="partial", tol=1e-6)
    assert clone(alignment).get_params() == alignment.get_params()
    with pytest.raises(NotFittedError):
        alignment.align(np.zeros((4, 2)))
    shapes = np.random.default_rng(0).normal(size=(1, 5, 2)) + 0.1 * np.random.default_rng(1).normal(size=(20, 5, 2))
    assert make_pipeline(alignment, ASM(2)).fit_transform(shapes).shape == (20, 2)
    alignment.fit(shapes)
    with pytest.raises(ValueError, match="landmarks"):
        alignment.align(shapes[:, :4])


@pytest.mark.data
def test_muct_keeps_its_rows_with_missing_points(data_dir):
    """Of 7510 faces 1680 lack landmarks: all are aligned, and the mean moves little from that of the complete ones."""
    rows = np.loadtxt(data_dir / "landmarks" / "muct68_opencv.csv", delimiter=",", skiprows=1, usecols=range(2, 138))
    shapes = rows.reshape(-1, 68, 2)
    shapes[(shapes == 0).all(axis=2)] = np.nan
    whole = shapes[np.isfinite(shapes).all(axis=(1, 2))]
    assert len(shapes) - len(whole) == 1680
    result = generalized_procrustes(shapes)
    assert result.converged
    np.testing.assert_array_equal(np.isnan(result.aligned), np.isnan(shapes))
    same_up_to_turn(result.mean, generalized_procrustes(whole).mean, atol=0.003)


@pytest.mark.parametrize("d", [2, 3])
def test_torch_maps_and_compiles(d):
    """vmap and one whole graph of torch.compile give what the batch gives."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = (torch.asarray(rng.normal(size=(5, 6, d))) for _ in range(2))
    w = torch.asarray(rng.uniform(size=(5, 6)))

    def fitted(x, y, w):
        return estimate_similarity(x, y, weights=w)(x)

    expected = estimate_similarity(x.numpy(), y.numpy(), weights=w.numpy())(x.numpy())
    np.testing.assert_allclose(torch.func.vmap(fitted)(x, y, w).numpy(), expected, atol=1e-12)
    compiled = torch.compile(fitted, fullgraph=True, backend="eager")
    np.testing.assert_allclose(compiled(x, y, w).numpy(), expected, atol=1e-12)
    with pytest.raises(ValueError, match="linear"):
        torch.func.vmap(lambda x, y: estimate_similarity(x, y, loss="huber").scale)(x, y)


def test_bad_tensors_are_refused():
    torch = pytest.importorskip("torch")
    x = torch.asarray(np.random.default_rng(0).normal(size=(3, 5, 2)))
    for weights, message in (([-1.0, 1, 1, 1, 1], "negative"), ([1.0, 1, 1], "one weight")):
        with pytest.raises(ValueError, match=message):
            estimate_similarity(x, x, weights=torch.asarray(weights))
    with pytest.raises(ValueError, match="infinite"):
        estimate_similarity(x[0], x[0] * np.inf)
    with pytest.raises(DegenerateShapeError, match="coincide"):
        estimate_similarity(x * 0, x, on_error="raise")
    with pytest.raises(ValueError, match="n_landmarks"):
        estimate_similarity(x[0, 0], x)
    whole = torch.tensor([[0, 0], [4, 0], [0, 3]])
    assert estimate_similarity(whole, 2 * whole).scale == 2
