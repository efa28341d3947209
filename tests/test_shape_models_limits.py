"""The laws of the projection, and each limit held to those its docstring claims."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import (
    batch_is_loop,
    commutes,
    is_firmly_nonexpansive,
    is_idempotent,
    is_nearest,
    is_nonexpansive,
    keeps,
    never_more_varied,
    tol,
)
from scipy import optimize
from strategies import any_limit, bases, draw_shapes, seeds

from shape_models import Box, Ellipsoid, Limit, ShapeBasis, SoftBox

radius = st.one_of(st.just(0.0), st.just(math.inf), st.floats(1e-3, 10.0))
projections = st.one_of(st.none(), radius.map(Box), radius.map(Ellipsoid))
every_limit = st.one_of(projections, radius.map(SoftBox))
by_mode = st.one_of(st.none(), radius.map(Box), radius.map(SoftBox))


def pair(basis, seed):
    """Two shapes, near or far from each other."""
    x = draw_shapes(basis, seed)
    near = 10.0 ** np.random.default_rng(seed).integers(-6, 1)
    return x, x + near * (draw_shapes(basis, seed + 1) - basis.mean)


def size_of(basis, x):
    """The largest number that enters a computation, for tolerances."""
    return np.concatenate([np.ravel(x), np.ravel(basis.mean), np.sqrt(basis.variances)])


# --- laws of every limit -----------------------------------------------------------------------------------


@given(basis=bases(limits=every_limit), seed=seeds)
def test_project_is_nonexpansive(basis, seed):
    is_nonexpansive(basis.project, *pair(basis, seed))


@given(basis=bases(limits=every_limit), seed=seeds)
def test_project_is_firmly_nonexpansive(basis, seed):
    is_firmly_nonexpansive(basis.project, *pair(basis, seed))


@given(basis=bases(limits=every_limit))
def test_the_mean_is_fixed(basis):
    keeps(basis.project, basis.mean)


@given(basis=bases(limits=every_limit), seed=seeds)
def test_coefficients_end_inside_the_limit(basis, seed):
    x = draw_shapes(basis, seed, (3,), spread=20.0)
    b = basis.encode(basis.project(x))
    allowed = tol(size_of(basis, x), factor=256)
    scale = np.sqrt(basis.variances)
    if isinstance(basis.limit, Ellipsoid):
        r = basis.limit.radius
        assert math.isinf(r) or (np.abs(b) <= r * scale + allowed).all()
        inner = basis.limit.clip(basis.encode(x), scale)
        varies = scale > 0
        assert (np.linalg.norm(inner[:, varies] / scale[varies], axis=-1) <= r * (1 + 1e-12)).all()
        assert (inner[:, ~varies] == 0).all()
    elif basis.limit is not None:
        k = basis.limit.k
        assert (np.abs(b) <= np.where(scale > 0, k * np.maximum(scale, 1e-300), 0) + allowed).all()


@given(basis=bases(limits=st.just(None)), seed=seeds, kind=st.sampled_from([Box, Ellipsoid, SoftBox]))
def test_no_limit_and_an_infinite_one_are_pca(basis, seed, kind):
    x = draw_shapes(basis, seed, (3,))
    v, m = basis.components, basis.mean.ravel()
    pca = (m + (x.reshape(3, -1) - m) @ v.T @ v).reshape(x.shape)
    np.testing.assert_allclose(basis.project(x), pca, rtol=0, atol=tol(x))
    varies = basis.variances > 0
    pca = (m + (x.reshape(3, -1) - m) @ v[varies].T @ v[varies]).reshape(x.shape)
    for k in (math.inf, 1e8):
        limited = dataclasses.replace(basis, limit=kind(k)).project(x)
        np.testing.assert_allclose(limited, pca, rtol=0, atol=1e-6 * np.abs(x).max())


@given(basis=bases(limits=st.just(None)), seed=seeds, kind=st.sampled_from([Box, Ellipsoid, SoftBox]))
def test_a_limit_of_zero_gives_the_mean(basis, seed, kind):
    x = draw_shapes(basis, seed, (3,))
    result = dataclasses.replace(basis, limit=kind(0)).project(x)
    np.testing.assert_array_equal(result, np.broadcast_to(basis.mean, x.shape))


@given(basis=bases(limits=every_limit), seed=seeds)
def test_more_modes_never_increase_the_distance(basis, seed):
    x = draw_shapes(basis, seed)
    distances = []
    for k in range(1, basis.n_components + 1):
        part = dataclasses.replace(basis, components=basis.components[:k], variances=basis.variances[:k])
        distances.append(np.linalg.norm(x - part.project(x)))
    assert (np.diff(distances) <= tol(size_of(basis, x), factor=256)).all()


@given(basis=bases(limits=every_limit), seed=seeds, factor=st.sampled_from([1e-2, 0.5, 3.0, 1e3]))
def test_equivariance_to_order_axes_and_size(basis, seed, factor):
    x = draw_shapes(basis, seed)
    order = np.random.default_rng(seed).permutation(len(x))
    modes = basis.components.reshape(-1, *basis.event_shape)

    def moved(change, scale=1.0):
        components = np.stack([change(mode) for mode in modes]).reshape(len(modes), -1)
        return ShapeBasis(scale * change(basis.mean), components, scale**2 * basis.variances, basis.limit)

    def permute(shape):
        return shape[order]

    def swap(shape):
        return shape[:, ::-1]

    commutes(basis.project, moved(permute).project, permute, x)
    commutes(basis.project, moved(swap).project, swap, x)
    commutes(basis.project, moved(np.copy, factor).project, lambda shape: factor * shape, x)


@given(basis=bases(limits=every_limit), seed=seeds)
def test_batch_is_loop(basis, seed):
    batch_is_loop(basis.project, draw_shapes(basis, seed, (2, 3)), 2)
    batch_is_loop(basis.encode, draw_shapes(basis, seed, (2, 3)), 2)


@given(basis=bases(limits=every_limit), seed=seeds)
def test_decode_inverts_encode_on_the_span(basis, seed):
    b = np.random.default_rng(seed).normal(size=(4, basis.n_components)) * np.sqrt(basis.variances.max())
    np.testing.assert_allclose(basis.encode(basis.decode(b)), b, rtol=0, atol=tol(size_of(basis, b)))
    x = basis.decode(b)
    np.testing.assert_allclose(basis.decode(basis.encode(x)), x, rtol=0, atol=tol(x))


@given(basis=bases(limits=every_limit), seed=seeds)
def test_float32_follows_float64(xp, basis, seed):
    x = draw_shapes(basis, seed, (3,)).astype(np.float32)
    result = basis.project(xp.asarray(x))
    assert xp.to_numpy(result).dtype == np.float32
    expected = basis.project(x.astype(np.float64))
    atol = 256 * np.finfo(np.float32).eps * max(np.abs(x).max(), np.sqrt(basis.variances.max()))
    np.testing.assert_allclose(xp.to_numpy(result), expected, rtol=0, atol=atol)


@given(basis=bases(limits=every_limit), seed=seeds)
def test_nothing_is_written_in_place(xp, basis, seed):
    x = draw_shapes(basis, seed, (3,))
    given_ = xp.asarray(x)
    b = basis.encode(given_)
    before = np.array(xp.to_numpy(b))
    basis.clip(b)
    basis.decode(b)
    basis.project(given_)
    np.testing.assert_array_equal(xp.to_numpy(given_), x)
    np.testing.assert_array_equal(xp.to_numpy(b), before)


# --- laws of the projections: Box, Ellipsoid, None ---------------------------------------------------------


@given(basis=bases(limits=projections), seed=seeds)
def test_project_is_idempotent(basis, seed):
    is_idempotent(basis.project, draw_shapes(basis, seed))


def furthest(basis, direction):
    """The member of the set that lies furthest in a direction, from the definition of the set."""
    g, scale, limit = basis.components @ direction.ravel(), np.sqrt(basis.variances), basis.limit
    size = 1e3 * scale.max() if limit is None or math.isinf(limit.value) else limit.value
    if isinstance(limit, Ellipsoid):
        norm = np.linalg.norm(scale * g)
        b = size * scale**2 * g / norm if norm > 0 else 0 * g
    else:
        b = size * (scale if limit is not None else 1.0) * np.sign(g)
    return basis.decode(b)


@given(basis=bases(limits=projections), seed=seeds)
def test_project_gives_the_nearest_point(basis, seed):
    x = draw_shapes(basis, seed)
    is_nearest(basis.project, x, basis.project(draw_shapes(basis, seed + 1)))
    is_nearest(basis.project, x, furthest(basis, x - basis.project(x)))


@given(basis=bases(limits=radius.map(Ellipsoid)), seed=seeds)
def test_the_total_variance_never_grows_in_an_ellipsoid(basis, seed):
    x = draw_shapes(basis, seed, (8,))
    before, after = basis.encode(x), basis.clip(basis.encode(x))
    assert after.var(axis=0).sum() <= before.var(axis=0).sum() * (1 + 1e-9)


# --- laws of what treats each mode by itself: Box, SoftBox, None -------------------------------------------


@given(basis=bases(limits=by_mode), seed=seeds)
def test_the_variance_along_each_mode_never_grows(basis, seed):
    x = draw_shapes(basis, seed, (8,))
    never_more_varied(basis.encode(x), basis.clip(basis.encode(x)))


# --- where a law does not hold, the docstring says so ------------------------------------------------------


def test_soft_box_is_not_idempotent_and_not_nearest():
    basis = ShapeBasis(np.zeros(2), np.eye(2), [1.0, 1.0], SoftBox(1.0))
    x = np.array([1.0, 0.0])
    assert not np.allclose(basis.project(basis.project(x)), basis.project(x))
    assert np.vdot(x - basis.project(x), basis.project(5 * x) - basis.project(x)) > 0


def test_one_mode_may_vary_more_in_an_ellipsoid():
    b = np.array([[3.0, 0.0], [3.0, 4.0]])
    assert Ellipsoid(1.0).clip(b, np.ones(2))[:, 0].var() > b[:, 0].var()


# --- the ellipsoid -----------------------------------------------------------------------------------------


def test_the_ellipsoid_agrees_with_a_general_optimiser():
    rng = np.random.default_rng(0)
    for _ in range(5):
        scale, b = rng.uniform(0.3, 2.0, 4), 5 * rng.normal(size=4)
        inside = {"type": "ineq", "fun": lambda y, s=scale: 4.0 - ((y / s) ** 2).sum()}
        found = optimize.minimize(
            lambda y, b=b: ((y - b) ** 2).sum(), 0.1 * b, constraints=[inside], tol=1e-14, method="SLSQP"
        )
        np.testing.assert_allclose(Ellipsoid(2.0).clip(b, scale), found.x, atol=1e-5)


@given(
    seed=seeds,
    n=st.integers(1, 60),
    decades=st.sampled_from([0, 2, 6, 12]),
    r=st.floats(1e-3, 30.0),
    tilt=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
)
def test_the_secular_equation_is_solved_to_rounding(xp, seed, n, decades, r, tilt):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** -rng.uniform(0, decades, n)
    b = rng.normal(size=n) * 10.0 ** rng.uniform(-decades - 2, 3) * scale**tilt
    y = xp.to_numpy(Ellipsoid(r).clip(xp.asarray(b), xp.asarray(scale)))
    if np.linalg.norm(b / scale) > r * (1 + 1e-12):
        assert np.linalg.norm(y / scale) == pytest.approx(r, rel=1e-12)
    elif np.linalg.norm(b / scale) < r * (1 - 1e-12):
        np.testing.assert_array_equal(y, b)


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Box, Ellipsoid, SoftBox])
@pytest.mark.parametrize("bad", [-1.0, math.nan, True, "3", None])
def test_a_bad_limit_is_refused(kind, bad):
    with pytest.raises(ValueError, match=f"{kind.__name__}: got"):
        kind(bad)


@pytest.mark.parametrize("bad", ["3", True, [3.0], -1.0, math.nan])
def test_a_basis_refuses_what_is_no_limit(bad):
    with pytest.raises(ValueError, match="expected a number"):
        ShapeBasis(np.zeros(2), np.eye(2), np.ones(2), limit=bad)


def test_limits_are_values():
    assert Box(2) == 2.0 == Box(2.0)
    assert hash(Box(2)) == hash(2.0)
    assert Ellipsoid(2) == Ellipsoid(2.0) != Box(2.0)
    assert SoftBox(2) != 2.0
    assert len({Box(1), SoftBox(1), Ellipsoid(1), Box(1.0)}) == 3
    assert [repr(limit) for limit in (Box(3), Ellipsoid(2), SoftBox(1))] == [
        "Box(3.0)",
        "Ellipsoid(2.0)",
        "SoftBox(1.0)",
    ]
    assert (Box(3).k, SoftBox(3).k, Ellipsoid(3).radius, float(Box(3))) == (3.0, 3.0, 3.0, 3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Box(3).value = 2.0
    with pytest.raises(NotImplementedError):
        Limit().clip(np.zeros(1), np.ones(1))


@given(basis=bases(limits=any_limit()), seed=seeds)
def test_exceeds_says_what_clip_changes(basis, seed):
    if basis.limit is None or isinstance(basis.limit, SoftBox):
        return
    b, scale = basis.encode(draw_shapes(basis, seed)), np.sqrt(basis.variances)
    np.testing.assert_array_equal(basis.limit.exceeds(b, scale), basis.clip(b) != b)


@pytest.mark.parametrize("k", [5e-324, 1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_soft_box_neither_overflows_nor_leaves_its_box(k):
    b = np.array([[1e3, -1e3, 1e-3, 0.0]])
    got = SoftBox(k).clip(b, np.full(4, 0.5))
    assert np.isfinite(got).all()
    assert (np.abs(got) <= np.minimum(np.abs(b), 0.5 * k) * (1 + 1e-15)).all()
