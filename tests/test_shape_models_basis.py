"""ShapeBasis: its laws, its door, its libraries."""

import copy
import dataclasses
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import project_loop, project_vectorised
from strategies import any_limit, bases, draw_shapes, seeds

from shape_models import Box, Ellipsoid, ShapeBasis, SoftBox

LIMITS = [None, 1.0, Ellipsoid(1.5), SoftBox(1.0)]


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


@pytest.mark.parametrize("n", [255, 256, 257, 600])
@pytest.mark.parametrize("limit", LIMITS)
def test_large_batches_go_block_by_block(n, limit):
    basis = small(limit=limit)
    x = draw_shapes(basis, n, (n,))
    expected = basis.decode(basis.clip(basis.encode(x)))
    np.testing.assert_allclose(basis.project(x), expected, rtol=0, atol=1e-14 * np.abs(x).max())
    x[n - 1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=rf"index \({n - 1}, 2, 0\)"):
        basis.project(x)


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
    with pytest.raises(ValueError, match=r"NaN\) at index \(2, 1, 0\).*complete.*confidence="):
        small().project(xp.asarray(x))


@pytest.mark.parametrize("method", ["project", "encode", "report", "mahalanobis"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(xp, method, value):
    x = np.zeros((4, 3, 2))
    x[1, 2, 1] = value
    word = "NaN" if np.isnan(value) else "infinite"
    with pytest.raises(ValueError, match=rf"{word}.* at index \(1, 2, 1\)"):
        getattr(small(), method)(xp.asarray(x))


def test_numbers_whose_squares_overflow_are_no_error(xp):
    x = np.full((2, 3, 2), 1e200)
    np.testing.assert_array_equal(xp.to_numpy(small().project(xp.asarray(x)))[:, 0], [[6.0, 3.0]] * 2)
    tilted = ShapeBasis(np.zeros((3, 2)), np.full((1, 6), 6**-0.5), [1.0])
    with pytest.raises(ValueError, match=r"up to 1e\+308, too large for float64"):
        tilted.project(xp.asarray(np.full((3, 2), 1e308)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 2, 2), r"got an array of shape \(4, 2, 2\); expected \(\.\.\., 3, 2\).*subset or convert"),
        ((4, 2, 3), r"Try np.swapaxes\(shapes, -1, -2\)"),
        ((4, 6), r"shapes.reshape\(-1, 3, 2\)"),
        ((2,), "expected"),
        ((), "expected"),
    ],
)
def test_a_wrong_shape_is_refused(shape, message):
    for call in (small().project, small().encode, small().complete, small().report):
        with pytest.raises(ValueError, match=message):
            call(np.zeros(shape))


@pytest.mark.parametrize("method", ["clip", "decode"])
def test_a_wrong_number_of_coefficients_is_refused(method):
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 2\), one for each mode"):
        getattr(small(), method)(np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": np.zeros((0, 2))}, "mean: got shape"),
        ({"mean": [[0, 0], [np.nan, 0], [0, 0]]}, "mean: got NaN"),
        ({"mean": [[1, 2], [3]]}, "differ in length"),
        ({"components": np.eye(6)[:, :2]}, r"components.T: each row"),
        ({"components": np.eye(6)[:2].reshape(2, 3, 2)}, r"components.reshape"),
        ({"components": np.eye(6)[:0], "variances": []}, "components: got an array of shape"),
        ({"components": 2 * np.eye(6)[:2]}, "differ from orthonormal by 3.*qr"),
        ({"components": np.eye(6)[[0, 0]]}, "differ from orthonormal"),
        ({"variances": [1.0]}, r"variances: got shape \(1,\); expected \(2,\)"),
        ({"variances": [1.0, -1.0]}, "variances: got -1; expected numbers that are not negative"),
        ({"variances": [1.0, np.inf]}, "variances: got NaN or infinity"),
        ({"noise_variance": -1.0}, "noise_variance: got -1"),
        ({"noise_variance": np.nan}, "noise_variance: got nan"),
        ({"noise_variance": True}, "noise_variance: got True"),
    ],
)
def test_a_basis_that_is_none_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small(), **changes)


def test_arrays_are_copies_and_read_only():
    mean, components, variances = np.zeros((3, 2)), np.eye(6)[:2].copy(), np.ones(2)
    basis = ShapeBasis(mean, components, variances)
    mean[:] = components[:] = variances[:] = 9.0
    assert basis.mean.max() == 0
    for array in (basis.mean, basis.components, basis.variances, basis.like(np.float32(1)).mean):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1.0


def test_pickle_and_copy_keep_everything():
    basis = dataclasses.replace(small(limit=Ellipsoid(2.0)), noise_variance=0.5)
    basis.like(np.zeros(1, dtype=np.float32))
    for other in (pickle.loads(pickle.dumps(basis)), copy.deepcopy(basis), copy.copy(basis)):
        assert repr(other) == repr(basis)
        np.testing.assert_array_equal(other.components, basis.components)
        assert not other.mean.flags.writeable


def test_what_goes_in_comes_out():
    basis = small()
    x = np.arange(6.0).reshape(3, 2)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble, ">f8", ">f4"):
        result = basis.project(x.astype(dtype))
        assert result.dtype == np.dtype(dtype)
        np.testing.assert_allclose(result.astype(float), basis.project(x), rtol=1e-3)
    for whole in (x.astype(int), x.astype(np.uint8), x.tolist(), np.asfortranarray(x), x[::1, ::-1][:, ::-1]):
        assert basis.project(whole).dtype == np.float64
        np.testing.assert_allclose(basis.project(whole), basis.project(x), rtol=1e-12)
    for bad in (x.astype(complex), x.astype(str), x > 1):
        with pytest.raises(TypeError, match="expected real numbers"):
            basis.project(bad)
    assert basis.project(np.empty((0, 3, 2))).shape == (0, 3, 2)
    assert basis.project(np.empty((2, 0, 3, 2))).shape == (2, 0, 3, 2)
    assert basis.encode(x).shape == (2,)


@given(basis=bases(flat=True), seed=seeds)
def test_an_event_may_be_plain_features(xp, basis, seed):
    x = draw_shapes(basis, seed, (2, 3))
    assert x.shape == (2, 3, basis.n_features)
    expected = [project_loop(row, basis.mean, basis.components, basis.variances, basis.limit.k) for row in x[0]]
    result = xp.to_numpy(basis.project(xp.asarray(x)))
    np.testing.assert_allclose(result[0], expected, rtol=0, atol=1e-12 * np.abs(x).max())


def test_like_moves_once(xp):
    basis = small()
    x = xp.asarray(np.zeros(1, dtype=np.float32))
    moved = basis.like(x)
    assert type(moved.mean) is type(x)
    assert moved.mean.dtype == x.dtype
    assert moved is basis.like(x)
    assert moved is moved.like(x)
    back = moved.like(np.zeros(1))
    np.testing.assert_array_equal(back.components, basis.components)
    assert back.limit == basis.limit


def test_a_basis_may_be_made_of_any_library(xp):
    basis = ShapeBasis(xp.asarray(np.zeros((3, 2))), xp.asarray(np.eye(6)[:2]), xp.asarray([4.0, 1.0]))
    x = np.full((3, 2), 9.0)
    for array in (xp.asarray(x), x):
        result = basis.project(array)
        assert type(result) is type(array)
        np.testing.assert_array_equal(np.asarray(result)[0], [6.0, 3.0])
    if xp.name == "torch":
        with pytest.raises(ValueError, match="components: got an array of another library"):
            ShapeBasis(np.zeros((3, 2)), xp.asarray(np.eye(6)[:2]), [4.0, 1.0])


# --- torch -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def model(limit, seed=0):
    rng = np.random.default_rng(seed)
    components = np.linalg.qr(rng.normal(size=(10, 4)))[0].T
    return ShapeBasis(rng.normal(size=(5, 2)), components, [2.0, 1.0, 0.5, 0.0], limit, noise_variance=0.1)


@pytest.mark.parametrize("limit", LIMITS)
def test_torch_gradients(torch, limit):
    basis = model(limit)
    x = torch.tensor(draw_shapes(basis, 1, (3,)), requires_grad=True)
    assert torch.autograd.gradcheck(basis.project, x)
    weights = torch.rand(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: basis.project(x, confidence=w), (x, weights))
    assert torch.autograd.gradcheck(basis.mahalanobis, x)
    assert torch.autograd.gradcheck(lambda x: basis.report(x).distance, x)
    noisy = dataclasses.replace(basis, components=basis.components[:3], variances=basis.variances[:3])
    assert torch.autograd.gradcheck(noisy.log_likelihood, x)


@given(basis=bases(limits=st.floats(0.01, 3.0).map(Box)), seed=seeds)
@settings(max_examples=25)
def test_the_jacobian_is_the_projector_on_the_modes_not_clipped(torch, basis, seed):
    x = draw_shapes(basis, seed, spread=1.0)
    kept = basis.components[~basis.report(x).clipped & (basis.variances > 0)]
    size = basis.n_features
    jacobian = torch.autograd.functional.jacobian(basis.project, torch.tensor(x)).reshape(size, size)
    np.testing.assert_allclose(jacobian.numpy(), kept.T @ kept, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", [Box(0.0), Box(3.0), SoftBox(3.0), SoftBox(0.0), Ellipsoid(0.0), Ellipsoid(2.0)])
def test_derivatives_at_the_mean_are_those_of_a_constant_where_nothing_can_move(torch, limit):
    basis = model(limit)
    size = limit.value
    moving = basis.components[:3] if size else basis.components[:0]
    jacobian = torch.autograd.functional.jacobian(basis.project, torch.tensor(basis.mean)).reshape(10, 10)
    np.testing.assert_allclose(jacobian.numpy(), moving.T @ moving, rtol=0, atol=1e-12)
    x = torch.tensor(basis.mean, requires_grad=True)
    basis.mahalanobis(x).backward()
    assert bool((x.grad == 0).all())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by the decompositions of torch itself
@pytest.mark.parametrize("limit", LIMITS)
def test_torch_transforms(torch, limit):
    basis = model(limit)
    x = draw_shapes(basis, 1, (3,))
    expected = basis.project(x)
    t = torch.tensor(x)
    np.testing.assert_allclose(torch.func.vmap(basis.project)(t), expected, atol=1e-12)
    tangent = torch.func.jvp(basis.project, (t,), (torch.ones_like(t),))[1]
    jacobian = torch.func.vmap(torch.func.jacrev(basis.project))(t).reshape(3, 10, 10)
    np.testing.assert_allclose(tangent.reshape(3, 10), jacobian.sum(-1), atol=1e-12)
    with torch.autograd.forward_ad.dual_level():
        dual = basis.project(torch.autograd.forward_ad.make_dual(t, torch.ones_like(t)))
        np.testing.assert_allclose(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent, atol=1e-12)
    w = np.array([1.0, 0.0, 1.0, 0.5, 1.0])
    weighted = torch.func.vmap(lambda x: basis.project(x, confidence=torch.tensor(w)))(t)
    np.testing.assert_allclose(weighted, basis.project(x, confidence=w), atol=1e-12)


@pytest.mark.parametrize("limit", LIMITS)
def test_torch_compile_in_one_graph(torch, limit):
    basis = model(limit)
    x = draw_shapes(basis, 1, (3,))
    for act, dtype in ((basis.project, torch.float32), (basis.like(torch.tensor(x)).project, torch.float64)):
        t = torch.tensor(x, dtype=dtype)
        atol = 1e-5 if dtype == torch.float32 else 1e-12
        torch._dynamo.reset()
        backend = "aot_eager" if limit == 1.0 else "eager"
        compiled = torch.compile(lambda x, act=act: act(x), fullgraph=True, backend=backend)
        leaf, eager = t.clone().requires_grad_(True), t.clone().requires_grad_(True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = compiled(leaf)
        assert result.dtype == dtype
        np.testing.assert_allclose(result.detach(), basis.project(t), atol=atol)
        result.sum().backward()
        act(eager).sum().backward()
        np.testing.assert_allclose(leaf.grad, eager.grad, atol=atol)


def test_nan_propagates_where_values_cannot_be_looked_at(torch):
    basis = model(3.0)
    x = torch.tensor(draw_shapes(basis, 1, (2,)))
    x[0, 0, 0] = torch.nan
    torch._dynamo.reset()
    for act in (torch.func.vmap(basis.project), torch.compile(basis.project, fullgraph=True, backend="eager")):
        result = act(x)
        assert bool(torch.isnan(result[0]).all())
        assert not bool(torch.isnan(result[1]).any())


def test_inference_mode_leaves_nothing_behind(torch):
    basis = model(3.0)
    x = torch.tensor(draw_shapes(basis, 1, (2,)), dtype=torch.float32)
    with torch.inference_mode():
        basis.encode(x)
        basis.like(x)
    leaf = x.clone().requires_grad_(True)
    basis.project(leaf).sum().backward()
    assert leaf.grad is not None


def test_fake_tensors_leave_nothing_behind(torch):
    basis = model(3.0)
    x = torch.tensor(draw_shapes(basis, 1, (2,)), dtype=torch.float32)
    with torch._subclasses.FakeTensorMode() as mode:
        assert basis.project(mode.from_tensor(x)).shape == x.shape
    np.testing.assert_allclose(basis.project(x), basis.project(x.numpy()), rtol=1e-5, atol=1e-6)
    assert basis.encode(x).sum().item() == pytest.approx(float(basis.encode(x.numpy()).sum()), rel=1e-4)


def test_torch_half_precision_is_computed_in_float32(torch):
    basis = model(3.0)
    x = torch.tensor(draw_shapes(basis, 1, (2,)))
    for dtype in (torch.float16, torch.bfloat16):
        half = x.to(dtype)
        result = basis.project(half)
        assert result.dtype == dtype
        assert torch.equal(result, basis.project(half.float()).to(dtype))


def test_results_do_not_share_memory_with_the_input(torch):
    basis = dataclasses.replace(model(None), components=np.eye(10), variances=np.ones(10))
    x = torch.tensor(draw_shapes(basis, 1, (2,)))
    before = x.clone()
    basis.project(x).mul_(0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_many_shapes_give_what_each_gives(limit, offset):
    """Batches that are worked on in other steps than a few shapes, far from the origin too."""
    basis = dataclasses.replace(model(limit), mean=model(limit).mean + offset)
    for dtype in (np.float64, np.float32):
        x = draw_shapes(basis, 1, (20, 130)).astype(dtype)
        one_by_one = np.stack([basis.project(shape) for shape in x.reshape(-1, *basis.event_shape)])
        atol = 32 * np.finfo(dtype).eps * np.abs(x).max()
        np.testing.assert_allclose(basis.project(x).reshape(one_by_one.shape), one_by_one, rtol=0, atol=atol)
        x[3, 4, 1, 0] = np.nan
        with pytest.raises(ValueError, match=r"at index \(3, 4, 1, 0\)"):
            basis.project(x)


def test_many_tensors_with_a_graph_are_projected_as_arrays_are():
    """Sums and products in one pass, forward and backward, beside few rows at a time."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(6, 2))
    basis = ShapeBasis(mean, np.linalg.qr(rng.normal(size=(12, 4)))[0].T, [1.0, 0.5, 0.2, 0.0], 2.0)
    shapes = mean + rng.normal(size=(2, 300, 6, 2))
    many = torch.tensor(shapes, requires_grad=True)
    near = basis.project(many)
    np.testing.assert_allclose(near.detach(), basis.project(shapes), atol=1e-12)
    (gradient,) = torch.autograd.grad((near**2).sum(), many)
    few = torch.tensor(shapes[0, :5], requires_grad=True)
    (expected,) = torch.autograd.grad((basis.project(few) ** 2).sum(), few)
    np.testing.assert_allclose(gradient[0, :5], expected, atol=1e-12)
    with pytest.raises(ValueError, match="missing landmark"):
        basis.project(torch.where(many > 3, torch.nan, many))
