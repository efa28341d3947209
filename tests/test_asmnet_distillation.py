"""The assistive and KD losses against tables of values, and their continuity, symmetry and gradients."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from asmnet import LandmarkDataset, Prediction, Preprocessing, TrainConfig
from asmnet.augmentation import Augmentation
from asmnet.distillation import (
    KD_PRESETS,
    KDCriterion,
    KDPreset,
    TeacherWeights,
    assistive_loss,
    distill,
    kd_loss,
    kd_main_loss,
)

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
        (lambda: kd_loss(t(0), t(0), torch.zeros(2), t(0)), r"teacher: got shape .2,.; expected .1,.,"),
        (lambda: kd_loss(t(0), t(0), t(0), t(0), preset="none"), "expected one of paper, released"),
        (lambda: kd_main_loss(t(0), t(0), form="tolerant"), "without the tolerant teacher"),
        (lambda: kd_main_loss(t(0), t(0), form="cubic"), "form: got 'cubic'"),
        (lambda: assistive_loss(t(0), t(0), t(0), reduction="max"), "reduction: got 'max'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_preset_of_ones_own():
    silent = TeacherWeights(alpha=0.0, alpha_negative=0.0, beta=0.4)
    preset = KDPreset(tough=silent, tolerant=silent, main_weight=1.0, main="figure")
    assert float(kd_loss(t(0.3), t(0.0), t(0.1), t(0.2), preset=preset)) == pytest.approx(0.3)


def random_batch(n=3, k=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda: 0.3 * torch.randn((n, k, 2), generator=g, dtype=torch.float64)  # noqa: E731
    companions = {"tough": draw(), "tolerant": draw()}
    return SimpleNamespace(
        landmarks=draw(), companions=companions, weight=torch.ones(n, dtype=torch.float64), pose=None
    ), draw()


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_criterion_is_the_loss(preset):
    batch, points = random_batch()
    terms = KDCriterion(preset=preset)(Prediction(points), batch, 0)
    expected = kd_loss(points, batch.landmarks, batch.companions["tough"], batch.companions["tolerant"], preset=preset)
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["main"] + terms["tough"] + terms["tolerant"], expected)


def test_criterion_leaves_missing_landmarks_and_unweighted_faces_out():
    batch, points = random_batch()
    batch.landmarks[0, 1] = float("nan")
    batch.weight[2] = 0.0
    points.requires_grad_()
    loss = KDCriterion()(Prediction(points), batch, 0)["loss"]
    loss.backward()
    seen = torch.isfinite(batch.landmarks)
    seen[2] = False
    pick = lambda x: x[seen]  # noqa: E731
    expected = kd_loss(*(pick(x) for x in (points, batch.landmarks, *batch.companions.values())))
    torch.testing.assert_close(loss, expected)
    assert torch.isfinite(points.grad).all()
    assert points.grad[~seen].abs().max() == 0


def test_criterion_with_one_teacher_and_with_none():
    batch, points = random_batch()
    tough = KDCriterion(teachers=("tough",))(Prediction(points), batch, 0)
    assert sorted(tough) == ["loss", "main", "tough"]
    alone = KDCriterion(teachers=())(Prediction(points), batch, 0)["loss"]
    torch.testing.assert_close(alone, 2.5 * kd_main_loss(points, batch.landmarks))
    with pytest.raises(ValueError, match="needs the tolerant teacher"):
        KDCriterion(preset="released", teachers=("tough",))
    with pytest.raises(ValueError, match="expected 'tough', 'tolerant'"):
        KDCriterion(teachers=("strict",))
    batch.companions = {}
    with pytest.raises(ValueError, match="no predictions of the tough and the tolerant teacher"):
        KDCriterion()(Prediction(points), batch, 0)


def tiny_faces(n=8, k=5, side=48):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n, side, side, 3), dtype=np.uint8)
    points = rng.uniform(10, 38, (n, k, 2))
    return LandmarkDataset.from_arrays(images, points, mirror=np.arange(k))


def tiny_config(**changes):
    base = {
        "n_landmarks": 5,
        "epochs": 2,
        "batch_size": 4,
        "preprocessing": Preprocessing(size=32),
        "network_options": {"width": 0.35},
        "criterion_options": {"asm_weights": None},
        "augmentation": Augmentation(),
    }
    return TrainConfig(**{**base, **changes})


def test_two_teachers_and_a_student_are_trained_and_a_second_run_reads_them_back(tmp_path):
    config = tiny_config()
    student = tiny_config(network="mobilenetv2")
    data = tiny_faces().with_asm(lambda x: 0.9 * x, config.preprocessing)
    first = distill(student, config, data, tiny_faces(4), folder=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student", "tolerant", "tough"]
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    again = distill(student, config, data, tiny_faces(4), folder=tmp_path, resume=True)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == stamps
    for a, b in zip(first.student.network.parameters(), again.student.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_tolerant_teacher_learns_the_softened_landmarks(tmp_path, monkeypatch):
    import asmnet.distillation as module

    seen = {}
    real = module.train

    def record(config, dataset, validation=None, *, folder, **options):
        seen[folder.name] = dataset
        return real(config, dataset, validation, folder=folder, **options)

    monkeypatch.setattr(module, "train", record)
    config = tiny_config(epochs=1)
    data = tiny_faces().with_asm(lambda x: 0.5 * x, config.preprocessing)
    distill(config, config, data, folder=tmp_path)
    np.testing.assert_array_equal(seen["tough"].landmarks, data.landmarks)
    np.testing.assert_array_equal(seen["tolerant"].landmarks, data.asm_landmarks)
    np.testing.assert_array_equal(seen["student"].landmarks, data.landmarks)
    assert sorted(seen["student"].companions) == ["tolerant", "tough"]


def test_companions_and_depths_move_with_the_face():
    """What equals the landmarks stays equal to them under every crop, turn and flip; depth scales with the crop."""
    data = replace(tiny_faces(), mirror=np.array([1, 0, 2, 4, 3]))
    data = data.with_companion("tough", data.landmarks).with_depths(data.landmarks[..., 0])
    strong = Augmentation(flip=0.5, rotation=30.0, scale=0.3, shift=0.2)
    generator = torch.Generator().manual_seed(3)
    batch = data.batch(range(8), Preprocessing(size=32), augmentation=strong, generator=generator)
    assert 0 < int(batch.crops.flipped.sum()) < 8
    torch.testing.assert_close(batch.companions["tough"], batch.landmarks)
    for row in range(8):
        order = data.mirror if batch.crops.flipped[row] else np.arange(5)
        unit = torch.linalg.det(batch.crops.axes[row]).abs().sqrt()
        torch.testing.assert_close(
            batch.depth[row].double() * unit, torch.from_numpy(data.depths[row][order]), rtol=1e-5, atol=1e-4
        )
    with pytest.raises(ValueError, match=r"companion tough: got shape .8, 3, 2.; expected .8, 5, 2."):
        data.with_companion("tough", data.landmarks[:, :3])
    with pytest.raises(ValueError, match="depths: got shape"):
        data.with_depths(data.landmarks)


def test_impossible_distillations_are_refused_before_training(tmp_path):
    config = tiny_config()
    with pytest.raises(ValueError, match="expected the same scheme"):
        distill(config, tiny_config(n_landmarks=4), tiny_faces(), folder=tmp_path)
    with pytest.raises(ValueError, match="tolerant teacher learns"):
        distill(config, config, tiny_faces(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
