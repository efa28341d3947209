"""Losses: against loops, by hand, by gradients; the schedule of the ASM term and its published reading."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import loop_landmark_loss

from asmnet import ASMProjection, AsmWeightSchedule, asm_assisted_loss
from asmnet.losses import (
    AsmAssistedCriterion,
    build_criterion,
    criterion_names,
    landmark_loss,
    pose_loss,
    register_criterion,
    shape_prior_loss,
    wing,
)
from asmnet.networks import Prediction
from shape_models import ASM, Ellipsoid, ShapeBasis, SoftBox, make_faces

FORMS = ["squared", "norm", "wing", "smooth_l1"]


@st.composite
def landmark_pairs(draw):
    n, k = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-4, 0))
    target = rng.normal(size=(n, k, 2))
    prediction = target + scale * rng.normal(size=(n, k, 2))
    target[rng.random((n, k)) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    return prediction, target, rng.random((n, k)) < 0.7


@pytest.mark.parametrize("form", FORMS)
@given(pair=landmark_pairs())
def test_losses_equal_the_loops(form, pair):
    prediction, target, known = pair
    p, g = torch.from_numpy(prediction), torch.from_numpy(target)
    got = landmark_loss(p, g, form=form).item()
    assert got == pytest.approx(loop_landmark_loss(prediction.tolist(), target.tolist(), form), rel=1e-9, abs=1e-15)
    masked = landmark_loss(p, g, form=form, mask=torch.from_numpy(known)).item()
    expected = loop_landmark_loss(prediction.tolist(), target.tolist(), form, known.tolist())
    assert masked == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    target[0, 1] = math.nan
    assert torch.autograd.gradcheck(lambda p: landmark_loss(p, target, form=form), prediction)
    landmark_loss(prediction, target, form=form).backward()
    assert bool((prediction.grad[0, 1] == 0).all())


@pytest.mark.parametrize("form", FORMS)
def test_a_perfect_prediction_has_loss_and_gradient_zero(form):
    points = torch.rand(2, 3, 2, requires_grad=True)
    loss = landmark_loss(points, points.detach().clone(), form=form)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(points.grad).all()
    if form != "wing":  # the wing has a kink at zero, with slope 0 by convention
        assert bool((points.grad == 0).all())


def test_nothing_known_is_zero_and_finite():
    prediction = torch.rand(1, 2, 2, requires_grad=True)
    loss = landmark_loss(prediction, torch.full((1, 2, 2), math.nan))
    loss.backward()
    assert loss.item() == 0
    assert bool((prediction.grad == 0).all())


def test_wing_is_continuous_and_has_its_slopes():
    w, c = 10.0, 2.0
    near, far = wing(torch.tensor([w - 1e-9, w + 1e-9], dtype=torch.float64), width=w, curvature=c).tolist()
    assert near == pytest.approx(far, abs=1e-7)
    x = torch.tensor([1e-12, 30.0], dtype=torch.float64, requires_grad=True)
    wing(x, width=w, curvature=c).sum().backward()
    assert x.grad.tolist() == pytest.approx([w / c, 1.0])
    with pytest.raises(ValueError, match="positive"):
        wing(x, width=0.0)


def test_schedule_by_thirds():
    schedule = AsmWeightSchedule(150)
    assert [schedule(i) for i in range(150)] == [2.0] * 50 + [1.0] * 50 + [0.5] * 50
    # half-open thirds where the count is no multiple of three: i < 10/3, i < 20/3
    assert [AsmWeightSchedule(10)(i) for i in range(10)] == [2.0] * 4 + [1.0] * 3 + [0.5] * 3


def test_schedule_as_released_never_leaves_the_first_third():
    released = AsmWeightSchedule(150, as_released=True, steps_per_epoch=1049)
    assert {released(i) for i in range(150)} == {2.0}
    short = AsmWeightSchedule(150, as_released=True, steps_per_epoch=30)
    assert [short(i) for i in (9, 10, 19, 20, 149)] == [2.0, 1.0, 1.0, 0.5, 0.5]
    with pytest.raises(ValueError, match="steps_per_epoch"):
        AsmWeightSchedule(150, as_released=True)


@pytest.mark.parametrize(
    "call",
    [lambda: AsmWeightSchedule(0), lambda: AsmWeightSchedule(3, (1.0, -1.0, 0.0)), lambda: AsmWeightSchedule(3)(-1)],
)
def test_wrong_schedules_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


@pytest.fixture(scope="module")
def projection():
    return ASMProjection(ASM(0.9).fit(make_faces(200, rng=0)).basis_).double()


@pytest.mark.parametrize("form", FORMS)
def test_asm_assisted_loss_is_the_sum_of_its_terms(projection, form):
    faces = torch.from_numpy(make_faces(6, rng=1))
    prediction = faces + 0.01
    plain = landmark_loss(prediction, faces, form=form)
    assisted = landmark_loss(prediction, projection(faces), form=form)
    for alpha in (0.0, 0.5, 2.0):
        got = asm_assisted_loss(prediction, faces, projection, asm_weight=alpha, form=form)
        torch.testing.assert_close(got, plain + alpha * assisted)
        given = asm_assisted_loss(prediction, faces, None, asm_weight=alpha, form=form, asm_target=projection(faces))
        torch.testing.assert_close(given, got)


def test_asm_assisted_loss_has_its_minimum_between_truth_and_model(projection):
    """With squares the best prediction is (G + alpha A(G)) / (1 + alpha)."""
    faces = torch.from_numpy(make_faces(2, rng=1))
    best = ((faces + 2 * projection(faces)) / 3).requires_grad_()
    asm_assisted_loss(best, faces, projection, asm_weight=2.0).backward()
    assert best.grad.abs().max() < 1e-12


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_squared_asm_loss_is_the_loss_of_blended_targets(projection, alpha):
    """L(P, G) + a L(P, A) and (1 + a) L(P, (G + a A) / (1 + a)) differ by a number that no prediction changes."""
    faces = torch.from_numpy(0.01 * make_faces(6, rng=2)).double()
    softened = projection(faces).detach()
    blended = (faces + alpha * softened) / (1 + alpha)
    differences = []
    for seed in range(4):
        torch.manual_seed(seed)
        guess = faces + 0.1 * torch.randn_like(faces)
        whole = asm_assisted_loss(guess, faces, None, asm_weight=alpha, asm_target=softened)
        differences.append(whole - (1 + alpha) * landmark_loss(guess, blended))
    assert float(differences[0]) > 0
    torch.testing.assert_close(torch.stack(differences), differences[0].expand(4), rtol=1e-9, atol=0)


def test_asm_assisted_loss_refuses(projection):
    faces = torch.from_numpy(make_faces(2, rng=1))
    missing = faces.clone()
    missing[0, 3] = math.nan
    with pytest.raises(ValueError, match="asm_target"):
        asm_assisted_loss(faces, missing, projection)
    with pytest.raises(ValueError, match="neither"):
        asm_assisted_loss(faces, faces, None)
    with pytest.raises(ValueError, match="not negative"):
        asm_assisted_loss(faces, faces, projection, asm_weight=-1.0)
    with pytest.raises(ValueError, match="that of the prediction"):
        asm_assisted_loss(faces[:1], faces, projection)
    with pytest.raises(ValueError, match="form"):
        landmark_loss(faces, faces, form="cubed")
    with pytest.raises(ValueError, match="mask"):
        landmark_loss(faces, faces, mask=torch.ones(3, 68))


@pytest.mark.parametrize("limit", [3.0, 0.5, None, Ellipsoid(2.0), SoftBox(2.0)])
def test_layer_equals_the_basis(limit):
    basis = ASM(0.95, limit=limit).fit(make_faces(200, rng=0)).basis_
    layer = ASMProjection(basis).double()
    shapes = make_faces(20, rng=3) * 1.3
    np.testing.assert_allclose(layer(torch.from_numpy(shapes)).numpy(), basis.project(shapes), atol=1e-6)
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"mean", "components", "variances"}


def test_layer_gradient_follows_the_modes_that_are_not_clipped(projection):
    shape = torch.from_numpy(make_faces(2, rng=3)).requires_grad_()
    assert torch.autograd.gradcheck(projection, shape)
    assert projection(shape.float()).dtype == torch.float32
    with pytest.raises(ValueError, match="landmarks of the basis"):
        projection(torch.zeros(1, 66, 2))
    back = ASMProjection(projection.float().basis()).double()
    projection.double()
    torch.testing.assert_close(back(shape), projection(shape), atol=1e-6, rtol=1e-5)


def test_shape_prior():
    basis = ShapeBasis(np.zeros((2, 2)), np.eye(2, 4), [4.0, 0.0], limit=3.0)
    inside = torch.tensor([[[5.9, 7.0], [1.0, 1.0]]], dtype=torch.float64)
    assert shape_prior_loss(inside, basis).item() == 0
    outside = torch.tensor([[[8.0, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    loss = shape_prior_loss(outside, basis, limit=3.0)  # one mode of variance 4: (8 / 2 - 3)^2
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert outside.grad[0, 0, 0] > 0
    assert shape_prior_loss(inside, basis, limit=0.0).item() == pytest.approx((5.9 / 2) ** 2)


def test_pose_loss_leaves_unknown_rows_out():
    target = torch.tensor([[0.0, 0.0, 3.0], [math.nan, 0.0, 0.0]])
    assert pose_loss(torch.zeros(2, 3), target).item() == pytest.approx(3.0)
    assert pose_loss(torch.zeros(2, 3), torch.full((2, 3), math.nan)).item() == 0.0


def batch_of(points, asm, pose, weight=None):
    return SimpleNamespace(
        landmarks=points, asm_landmarks=asm, pose=pose, weight=torch.ones(len(points)) if weight is None else weight
    )


def test_criterion_adds_up():
    points, asm = torch.zeros(2, 3, 2), torch.ones(2, 3, 2)
    prediction = Prediction(torch.full((2, 3, 2), 2.0), torch.ones(2, 3))
    criterion = AsmAssistedCriterion(n_epochs=3)
    batch = batch_of(points, asm, torch.zeros(2, 3))
    # L_mse = 4, L_asm = 1, L_pose = 1: 4 + alpha + 0.5
    assert [criterion(prediction, batch, e)["loss"].item() for e in range(3)] == pytest.approx([6.5, 5.5, 5.0])
    terms = {name: value.item() for name, value in criterion(prediction, batch, 0).items()}
    assert terms == pytest.approx({"landmarks": 4.0, "asm": 2.0, "pose": 0.5, "loss": 6.5})  # each with its weight
    released = AsmAssistedCriterion(n_epochs=3, as_released=True, steps_per_epoch=100, pose_weight=1.0)
    assert released(prediction, batch, 2)["loss"].item() == pytest.approx(7.0)
    plain = AsmAssistedCriterion(n_epochs=3, asm_weights=None, pose_weight=0.0)
    assert set(plain(prediction, batch_of(points, None, None), 0)) == {"landmarks", "loss"}


def test_weights_of_samples_scale_their_share():
    points = torch.zeros(2, 1, 2)
    prediction = Prediction(torch.tensor([[[1.0, 1.0]], [[3.0, 3.0]]]))
    criterion = AsmAssistedCriterion(n_epochs=1, asm_weights=None)
    weight = torch.tensor([1.0, 0.25])
    loss = criterion(prediction, batch_of(points, None, None, weight), 0)["loss"].item()
    assert loss == pytest.approx((1 * 1 + 0.25 * 9) / 1.25)


def test_criteria_by_name():
    assert "asm_assisted" in criterion_names()
    assert build_criterion("asm_assisted", n_epochs=3, steps_per_epoch=1, options={"form": "wing"}).form == "wing"
    with pytest.raises(ValueError, match="expected one of"):
        build_criterion("huber", n_epochs=1, steps_per_epoch=1)
    with pytest.raises(ValueError, match="registered already"):
        register_criterion("asm_assisted")(lambda **options: None)
    with pytest.raises(ValueError, match="form"):
        AsmAssistedCriterion(form="cubed")
