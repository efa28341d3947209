"""The projection as a layer: one body with `ShapeBasis.project`, in every way torch can run it."""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asmnet import ASMProjection  # noqa: E402
from shape_models import ASM, Box, Ellipsoid, SoftBox, generalized_procrustes, make_faces  # noqa: E402

FACES = generalized_procrustes(make_faces(60, rng=0)).aligned
BASIS = ASM(5).fit(FACES).basis_
LIMITS = [None, Box(1.0), Box(0.0), Box(np.inf), SoftBox(1.0), SoftBox(np.inf), Ellipsoid(1.0), Ellipsoid(np.inf)]


def pair(limit):
    """A layer in float64, and the basis of the very numbers that it holds."""
    layer = ASMProjection(dataclasses.replace(BASIS, limit=limit)).double()
    return layer, layer.basis()


def wild(n=7, seed=0):
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(n, 68, 2))
    return torch.tensor(FACES[:n] + noise)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_the_layer_is_the_operator(limit):
    layer, basis = pair(limit)
    x = wild()
    expected = torch.tensor(basis.project(x.numpy()))
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(layer(x), expected, **close)
    torch.testing.assert_close(layer(x.requires_grad_(True)), expected, **close)
    torch.testing.assert_close(layer.coefficients(x), torch.tensor(basis.encode(x.detach().numpy())), **close)
    assert layer(x.detach().half()).dtype == torch.float16
    assert copy.deepcopy(layer).float()(x.detach().float()).dtype == torch.float32


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_layer_and_operator_agree_on_what_is_missing(value):
    layer, basis = pair(3.0)
    for grad in (False, True):
        x = wild(3)
        x[1, 4, 0] = value
        for act in (layer, basis.project, basis.like(x).project):
            with pytest.raises(ValueError, match=r"at index \(1, 4, 0\)"):
                act(x.clone().requires_grad_(grad))
    if np.isnan(value):
        for act in (layer, basis.project):
            result = torch.func.vmap(act)(x)
            assert torch.isnan(result[1]).all()
            torch.testing.assert_close(result[[0, 2]], torch.tensor(basis.project(x[[0, 2]].numpy())))


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_every_limit_is_traced_mapped_exported_and_differentiated(limit):
    layer, basis = pair(limit)
    x = wild()
    expected = layer(x)
    close = {"rtol": 0, "atol": 1e-12}
    for act in (layer, basis.project):
        torch._dynamo.reset()
        compiled = torch.compile(act, fullgraph=True, dynamic=True, backend="aot_eager")
        for n in (7, 3, 5):
            torch.testing.assert_close(compiled(x[:n]), expected[:n], **close)
    torch.testing.assert_close(torch.func.vmap(layer)(x), expected, **close)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.testing.assert_close(program.module()(x[:3]), expected[:3], **close)
    assert torch.autograd.gradcheck(layer, (x[:1].clone().requires_grad_(True),))


def test_the_layer_follows_its_buffers():
    layer, _ = pair(2.0)
    other = ASMProjection(dataclasses.replace(BASIS, limit=2.0, mean=BASIS.mean + 0.25)).double()
    layer.load_state_dict(other.state_dict())
    torch.testing.assert_close(layer(wild()), other(wild()), rtol=0, atol=0)
