"""The assistive and KD losses against tables of values, and their continuity, symmetry and gradients."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from asmnet.distillation import KD_PRESETS, KDPreset, TeacherWeights, assistive_loss, kd_loss, kd_main_loss

PAPER, RELEASED = KD_PRESETS["paper"], KD_PRESETS["released"]
errors = st.floats(1e-3, 2.0)


def t(x):
    return torch.tensor([x], dtype=torch.float64)


def assist(d, error, weights):
    return float(assistive_loss(t(d), t(0.0), t(error), weights=weights))


def test_values_read_from_the_figure_of_one_teacher():
    figure = TeacherWeights(alpha=1.0, alpha_negative=-0.5, beta=0.4)
    assert assist(0.16, 0.4, figure) == pytest.approx(-0.12)
    assert assist(0.8, 0.4, figure) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("d", "tough", "tolerant", "expected"), [(0.16, 0.4, 0.49, -0.108), (0.5, 0.4, 0.49, 0.09), (0.2, 0.1, 0.2, 0.09)]
)
def test_values_of_the_tough_teacher_in_the_figure(d, tough, tolerant, expected):
    assert assist(d, tough, PAPER.tough) == pytest.approx(expected)


def test_values_of_the_figure_with_two_teachers():
    assert assist(0.196, 0.49, PAPER.tolerant) == pytest.approx(-0.1323)
    assert float(kd_loss(t(0.2), t(0.0), t(0.1), t(0.2))) == pytest.approx(0.59)
    assert float(kd_loss(t(0.35), t(0.0), t(0.4), t(0.49))) == pytest.approx(0.7895)


@pytest.mark.parametrize(
    ("d", "main", "tough", "tolerant", "total"),
    [
        (0.001, 0.006, 0.0, 0.0, 0.006),
        (0.003, 0.018, -0.00315, -0.0068, 0.00805),
        (0.01, 0.06, 0.0, -0.004, 0.056),
        (0.015, 0.09, 0.0095, -0.002, 0.0975),
        (0.02, 0.12, 0.019, 0.0, 0.139),
        (0.03, 0.121, 0.038, 0.018, 0.177),
        (0.1, 0.1392, 0.171, 0.144, 0.4542),
    ],
)
def test_values_of_the_released_constants(d, main, tough, tolerant, total):
    args = t(d), t(0.0), t(0.01), t(0.02)
    assert 2 * float(kd_main_loss(args[0], args[1], args[3], form="tolerant")) == pytest.approx(main, abs=1e-12)
    assert assist(d, 0.01, RELEASED.tough) == pytest.approx(tough, abs=1e-12)
    assert assist(d, 0.02, RELEASED.tolerant) == pytest.approx(tolerant, abs=1e-12)
    assert float(kd_loss(*args, preset="released")) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("d", "expected"), [(0.25, 0.25), (0.5, 0.5), (1.0, 1.25), (2.0, 4.25)])
def test_main_loss_of_the_figure(d, expected):
    assert float(kd_main_loss(t(d), t(0.0))) == pytest.approx(expected)


@given(errors, errors)
def test_paper_form_is_continuous_at_every_knee(tough, tolerant):
    knees = (0.5, tough, tolerant, PAPER.tough.beta * tough, PAPER.tolerant.beta * tolerant)
    for knee in knees:
        below, above = (float(kd_loss(t(knee * f), t(0.0), t(tough), t(tolerant))) for f in (1 - 1e-9, 1 + 1e-9))
        assert below == pytest.approx(above, abs=1e-7)


@given(st.floats(-2, 2), st.floats(-1, 1), errors, errors, st.sampled_from(["paper", "released"]))
def test_only_distances_matter(d, shift, tough, tolerant, preset):
    """Signs of student and teachers and a common shift change nothing: the teacher is reflected."""
    reference = float(kd_loss(t(d), t(0.0), t(tough), t(tolerant), preset=preset))
    assume(abs(abs(d) - RELEASED.tough.beta * tough) > 1e-6)
    assume(abs(abs(d) - RELEASED.tolerant.beta * tolerant) > 1e-6)
    for a, b, c in [(-d, tough, tolerant), (d, -tough, tolerant), (d, tough, -tolerant)]:
        assert float(kd_loss(t(a), t(0.0), t(b), t(c), preset=preset)) == pytest.approx(reference, abs=1e-12)
    shifted = kd_loss(t(d + shift), t(shift), t(tough + shift), t(tolerant + shift), preset=preset)
    assert float(shifted) == pytest.approx(reference, abs=1e-9)


@given(st.floats(0.02, 1.9), errors, errors, st.sampled_from(["paper", "released"]))
def test_gradient_is_the_slope_and_stops_at_the_teachers(d, tough, tolerant, preset):
    p, teachers = t(d).requires_grad_(), [t(tough).requires_grad_(), t(tolerant).requires_grad_()]
    betas = {w.beta * e for w, e in ((PAPER.tough, tough), (PAPER.tolerant, tolerant))}
    betas |= {RELEASED.tough.beta * tough, RELEASED.tolerant.beta * tolerant}
    assume(min(abs(d - k) for k in {0.5, tough, tolerant, *betas}) > 1e-4)
    kd_loss(p, t(0.0), *teachers, preset=preset).backward()
    h = 1e-6
    up, down = (float(kd_loss(t(d + e), t(0.0), t(tough), t(tolerant), preset=preset)) for e in (h, -h))
    assert float(p.grad) == pytest.approx((up - down) / (2 * h), abs=1e-6)
    assert teachers[0].grad is None
    assert teachers[1].grad is None


@given(errors)
def test_a_student_at_the_truth_has_no_loss(error):
    for preset in KD_PRESETS:
        assert float(kd_loss(t(0.3), t(0.3), t(0.3 + error), t(0.3 - error), preset=preset)) == 0


@given(st.floats(1e-3, 0.4))
def test_a_teacher_without_error(d):
    """As drawn, a perfect teacher pulls to the truth; as released, it does not assist."""
    assert assist(d, 0.0, PAPER.tough) == pytest.approx(0.9 * d)
    assert assist(d, 0.0, RELEASED.tough) == 0


def test_mask_and_reduction():
    p, g = torch.tensor([[0.1, 0.2], [0.3, 9.0]]), torch.zeros(2, 2)
    tough, tolerant = torch.full((2, 2), 0.05), torch.full((2, 2), 0.08)
    mask = torch.tensor([[True, True], [True, False]])
    values = kd_loss(p, g, tough, tolerant, reduction="none")
    torch.testing.assert_close(kd_loss(p, g, tough, tolerant, mask=mask), values[mask].mean())
    torch.testing.assert_close(kd_loss(p, g, tough, tolerant, mask=mask, reduction="sum"), values[mask].sum())
    with pytest.raises(ValueError, match="excludes every coordinate"):
        kd_loss(p, g, tough, tolerant, mask=torch.zeros(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd_loss(t(0), t(0), torch.zeros(2), t(0)), "Student and teachers must predict the same landmarks"),
        (lambda: kd_loss(t(0), t(0), t(0), t(0), preset="none"), "expected one of paper, released"),
        (lambda: kd_main_loss(t(0), t(0), form="tolerant"), "without the tolerant teacher"),
        (lambda: kd_main_loss(t(0), t(0), form="cubic"), "got form 'cubic'"),
        (lambda: assistive_loss(t(0), t(0), t(0), reduction="max"), "got reduction 'max'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_preset_of_ones_own():
    silent = TeacherWeights(alpha=0.0, alpha_negative=0.0, beta=0.4)
    preset = KDPreset(tough=silent, tolerant=silent, main_weight=1.0, main="figure")
    assert float(kd_loss(t(0.3), t(0.0), t(0.1), t(0.2), preset=preset)) == pytest.approx(0.3)
