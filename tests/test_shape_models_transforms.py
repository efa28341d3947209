"""Similarity: a value with the laws of a group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import same_transform
from strategies import coordinates, similarities

from shape_models import Similarity

dims = st.sampled_from([2, 3])


@given(st.data(), dims)
def test_group_laws(data, d):
    """Associative, with identity and inverses; the inverse of a product is the product of inverses reversed."""
    a, b, c = (data.draw(similarities(d)) for _ in range(3))
    x = data.draw(coordinates((5, d)))
    same_transform((a @ b) @ c, a @ (b @ c), points=x)
    same_transform(a @ Similarity.identity(d), a, points=x)
    same_transform(Similarity.identity(d) @ a, a, points=x)
    near = a.inverse(a(x))
    np.testing.assert_allclose(near, x, atol=1e-9 * (1 + np.abs(a.translation).max() / a.scale))
    same_transform((a @ b).inverse, b.inverse @ a.inverse, points=(a @ b)(x))
    np.testing.assert_allclose((a @ b)(x), a(b(x)), atol=1e-9 * np.abs(a(b(x))).max())


@given(st.data(), dims)
def test_matrix_is_a_homomorphism(data, d):
    """as_matrix(a @ b) = as_matrix(a) as_matrix(b), and from_matrix undoes as_matrix."""
    a, b = data.draw(similarities(d)), data.draw(similarities(d))
    product = a.as_matrix() @ b.as_matrix()
    np.testing.assert_allclose((a @ b).as_matrix(), product, atol=1e-10 * np.abs(product).max())
    same_transform(Similarity.from_matrix(a.as_matrix()), a, points=data.draw(coordinates((4, d))))


@given(st.data(), dims)
def test_batch_equals_loop(data, d):
    t = data.draw(similarities(d, 4))
    x = data.draw(coordinates((4, 6, d)))
    for i in range(4):
        np.testing.assert_allclose(t(x)[i], t[i](x[i]), rtol=1e-12)
        np.testing.assert_allclose(t.inverse.as_matrix()[i], t[i].inverse.as_matrix(), rtol=1e-12)
    one = data.draw(similarities(d))
    assert (one @ t).batch_shape == (4,)
    np.testing.assert_allclose((one @ t)(x)[2], one(t[2](x[2])), atol=1e-9 * np.abs(one(t(x))).max())


@given(st.data(), dims)
def test_ratios_of_distances_stay(data, d):
    t = data.draw(similarities(d))
    x = data.draw(coordinates((5, d)))
    before, after = (np.linalg.norm(p[1:] - p[0], axis=1) for p in (x, t(x)))
    np.testing.assert_allclose(after, t.scale * before, rtol=1e-8)
    assert not t.reflects


def test_missing_points_stay_missing():
    t = Similarity(np.eye(2), [1.0, 2.0], 3.0)
    out = t([[0.0, 0.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(out, [[1, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(t.residuals([[0.0, 0.0], [np.nan, 1.0]], [[1.0, 5.0], [0, 0]]), [3, np.nan])


def test_float32_stays():
    t = Similarity(np.eye(3), np.ones(3), 2.0)
    assert t(np.zeros((4, 3), dtype=np.float32)).dtype == np.float32
    assert t(np.zeros((4, 3), dtype=np.int64)).dtype == np.float64


def test_inputs_are_not_written():
    x = np.arange(6.0).reshape(3, 2)
    x.setflags(write=False)
    before = x.copy()
    t = Similarity(np.eye(2), np.ones(2), 2.0)
    t(x), t.residuals(x, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2)), np.zeros(2), 1.0), "orthogonality"),
        ((np.eye(2), np.zeros(3), 1.0), "translation"),
        ((np.eye(4), np.zeros(4), 1.0), "rotation"),
        ((np.eye(2), np.zeros(2), 0.0), "positive"),
        ((np.eye(2), np.zeros(2), -1.0), "positive"),
        ((np.eye(2), [np.nan, 0.0], 1.0), "finite"),
        ((np.eye(2), np.zeros((3, 2)), np.ones(2)), "broadcast"),
    ],
)
def test_bad_parts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Similarity(*arguments)


def test_bad_points_are_refused():
    t = Similarity.identity(2)
    with pytest.raises(ValueError, match="expected 2"):
        t(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="infinite"):
        t([[np.inf, 0.0]])
    with pytest.raises(ValueError, match="landmarks"):
        t.residuals(np.zeros((4, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="dimensions"):
        t @ Similarity.identity(3)
    with pytest.raises(ValueError, match="last row"):
        Similarity.from_matrix(np.ones((3, 3)))
    with pytest.raises(ValueError, match="orthogonal"):
        Similarity.from_matrix([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_torch_and_strict_agree_with_numpy():
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    rng = np.random.default_rng(1)
    angle = 0.7
    r = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    t, x, y = Similarity(r, [3.0, -1.0], 2.0), rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))
    for convert in (torch.asarray, strict.asarray):
        out = t(convert(x))
        assert type(out) is type(convert(x))
        np.testing.assert_allclose(np.asarray(out), t(x), rtol=1e-14)
        other = t.like(convert(x))
        np.testing.assert_allclose(np.asarray(other.inverse.as_matrix()), t.inverse.as_matrix(), rtol=1e-14)
        np.testing.assert_allclose(np.asarray((t @ other).as_matrix()), (t @ t).as_matrix(), rtol=1e-14)
        np.testing.assert_allclose(np.asarray(t.residuals(convert(x), convert(y))), t.residuals(x, y), rtol=1e-12)
        np.testing.assert_allclose(other.like(x)(x), t(x), rtol=1e-14)


def test_gradients_pass_through_points_and_parts():
    torch = pytest.importorskip("torch")
    rotation = torch.eye(2, dtype=torch.float64)
    translation = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t, s: Similarity(rotation, t, s)(x), (x, translation, scale))


def test_some_of_a_batch_by_an_array_of_indices():
    shifts = np.arange(6.0).reshape(3, 2)
    batch = Similarity(np.broadcast_to(np.eye(2), (3, 2, 2)), shifts, np.ones(3))
    np.testing.assert_array_equal(batch[np.array([2, 0])].translation, shifts[[2, 0]])
    np.testing.assert_array_equal(batch[np.array([False, True, True])].translation, shifts[1:])
