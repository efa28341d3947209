"""Distillation with two teachers: what the assistive loss does, and a training that takes seconds.

The tough teacher learns the annotated landmarks, the tolerant one the landmarks as a shape model sees them. For each
coordinate the student is pulled to a teacher while it is worse than the teacher, and pushed on towards the truth once
it is better. Look at the middle panel: a step at the error of each teacher; below 0.4 of that error (the other steps)
a teacher takes from the pull, so that little is left next to the truth. The right panel is a run of three tiny networks
on 128 drawings: it shows how to call `distill`, and is too small to compare trainings.
"""

import tempfile

import numpy as np
import torch
from matplotlib import pyplot as plt

from asmnet import Augmentation, LandmarkDataset, Preprocessing, TrainConfig
from asmnet.distillation import KD_PRESETS, assistive_loss, distill, kd_loss, kd_main_loss
from shape_models import ASM, make_faces
from shape_models.plotting import AFTER, BEFORE, GREY

ORANGE = "#edae49"

# The losses of one coordinate whose truth is 0, over the student's error d, for two teachers.
d = torch.linspace(0, 0.6, 601)
truth, tough, tolerant = torch.zeros_like(d), torch.full_like(d, 0.2), torch.full_like(d, 0.4)
preset = KD_PRESETS["paper"]
losses = {
    "main loss": (preset.main_weight * kd_main_loss(d, truth, reduction="none"), GREY),
    "tough teacher": (assistive_loss(d, truth, tough, weights=preset.tough, reduction="none"), BEFORE),
    "tolerant teacher": (assistive_loss(d, truth, tolerant, weights=preset.tolerant, reduction="none"), ORANGE),
    "sum: the KD loss": (kd_loss(d, truth, tough, tolerant, reduction="none"), AFTER),
}
total = losses["sum: the KD loss"][0]
slopes = {at: float((total[i + 1] - total[i - 1]) / 0.002) for at, i in ((0.1, 100), (0.3, 300), (0.5, 500))}
print("slope of the KD loss:", ", ".join(f"{slope:.2f} at d = {at}" for at, slope in slopes.items()))


def drawings(n, rng, size=32):
    """Return n pictures of five landmarks (eyes, nose, corners of the mouth) and the landmarks."""
    points = make_faces(n, rng=rng)[:, [36, 45, 30, 48, 54]]
    points = size / 2 + (points - points.mean(axis=1, keepdims=True)) * size / 160
    points += rng.uniform(-3, 3, size=(n, 1, 2))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    squared = np.square(grid[None, None] - points[:, :, None, None]).sum(axis=-1)
    images = 60 + 150 * np.exp(-squared / 6).sum(axis=1) + rng.normal(scale=12, size=(n, size, size))
    images = np.repeat(images[..., None], 3, axis=-1).clip(0, 255).astype(np.uint8)
    return LandmarkDataset.from_arrays(images, points, boxes=np.tile([0.0, 0.0, size, size], (n, 1)))


rng = np.random.default_rng(0)
training, validation = drawings(128, rng), drawings(32, rng)
config = TrainConfig(
    network="mobilenetv2",
    network_options={"width": 0.35},
    n_landmarks=5,
    preprocessing=Preprocessing(size=32),
    augmentation=Augmentation.none(),
    criterion_options={"asm_weights": None},
    epochs=10,
    batch_size=16,
    warmup_epochs=1,
    learning_rate=4e-3,
    ema=0,
)
basis = ASM(2).fit(training.crop_landmarks(config.preprocessing)).basis_
training = training.with_asm(basis.project, config.preprocessing)
with tempfile.TemporaryDirectory() as folder:
    result = distill(config, config, training, validation, folder=folder)
runs = {"tough teacher": (result.teachers["tough"], BEFORE), "tolerant teacher": (result.teachers["tolerant"], ORANGE)}
runs["student"] = (result.student, AFTER)
for name, (run, _) in runs.items():
    best = run.history[run.best_epoch - 1]
    print(f"{name:17s} best epoch {run.best_epoch:2d} of {len(run.history)}: error {100 * best.nme:.1f} %")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
for name, (values, color) in losses.items():
    slope = np.gradient(values.numpy(), d.numpy())
    left.plot(d, values, color=color, linewidth=2.5, label=name)
    middle.plot(d[1:-1], slope[1:-1], color=color, linewidth=2.5)
for ax, title in ((left, "loss"), (middle, "its slope: the pull towards the truth")):
    ax.set_xticks(
        [0, 0.2, 0.4, 0.6], ["0", "0.2\nthat of the\ntough teacher", "0.4\nthat of the\ntolerant teacher", "0.6"]
    )
    ax.grid(axis="x", color="0.85")
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
    ax.set(xlabel="error of the student", title=title, xlim=(0, 0.6))
left.legend(frameon=False, loc="upper left")
for name, (run, color) in runs.items():
    right.plot([r.epoch for r in run.history], [100 * r.nme for r in run.history], color=color, marker="o", label=name)
right.set(xlabel="epoch", ylabel="validation error, %", title="a tiny run on drawings", ylim=(0, None))
right.legend(frameon=False)
for ax in (left, middle, right):
    ax.spines[["top", "right"]].set_visible(False)
figure.suptitle("Two teachers bend the loss: the worse the student, the more of them pull", fontsize=16)
figure.savefig("distillation.png", dpi=120)
print("picture: distillation.png")
