"""The first modes of a face, a hand and a wing: what a shape model has learned, one direction at a time.

Look along a row: the mean is in the middle (and in grey behind), left and right lie three standard deviations away. The
face model ships with the library: it learned turning, nodding and the mouth from 1750 images. Hand and wing are
read from the folder that SHAPE_MODELS_DATA names, where it is set; otherwise a formula draws them.
"""

import os
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from shape_models import ASM, AlignedASM, load_model, read_landmarks
from shape_models.plotting import plot_modes


def draw_hands(n, rng):
    """Return n outlines of 37 points: fingers of random length and direction, and the wrist."""
    root = np.array([[-0.45, 0.05], [-0.33, 0.62], [-0.08, 0.68], [0.17, 0.62], [0.38, 0.45]])
    length = [0.75, 1.0, 1.1, 1.0, 0.8] * np.exp(0.06 * rng.normal(size=(n, 5)) + 0.08 * rng.normal(size=(n, 1)))
    spread = 0.1 * rng.normal(size=(n, 1)) * np.linspace(1, -1, 5) + 0.05 * rng.normal(size=(n, 5))
    angle = np.radians([150, 112, 93, 74, 53]) + spread
    reach, width = np.array([0, 0.5, 1, 1, 1, 0.5, 0]), np.array([-1, -1, -0.9, 0, 0.9, 1, 1])
    tip = np.array([0, 0, 0.03, 0.12, 0.03, 0, 0])
    along = (length[..., None] * reach + tip)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, :, None]
    across = 0.11 * width[:, None] * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)[:, :, None]
    wrist = np.broadcast_to([[0.3, -0.6], [-0.3, -0.6]], (n, 2, 2))
    return np.concatenate([(root[:, None] + along + across).reshape(n, 35, 2), wrist], axis=1)


def draw_wings(n, rng):
    """Return n outlines of 30 points: a drop of random length, width, sweep and bulge."""
    t = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    length, width, sweep, bulge = (1 + s * rng.normal(size=(n, 1)) for s in (0.06, 0.1, 0.4, 0.15))
    x = length * (1 - np.cos(t))
    return np.stack([x, width * 0.7 * np.sin(t) * np.sin(t / 2) ** (2 * bulge) + 0.12 * sweep * x**2], axis=-1)


def outline(n, closed=True):
    """Return the edges that join each landmark to the next."""
    return [(i, (i + 1) % n) for i in range(n if closed else n - 1)]


data = os.environ.get("SHAPE_MODELS_DATA")
if data:
    hands = np.load(Path(data, "hands", "landmarks.npz"))["shapes"]
    wings = np.stack([file.points for file in read_landmarks(Path(data, "fly_wings", "tps-example.tps"))])
    hand_edges = outline(56, closed=False)
    veins = [(0, 6), (6, 11), (1, 7), (7, 8), (8, 10), (2, 9), (9, 10), (6, 7), (5, 10), (10, 11)]
    wing_edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), *veins]
    hands = hands @ [[0, 1], [-1, 0]]  # fingers upwards
    print(f"hands and wings: images of {data}")
else:
    rng = np.random.default_rng(0)
    hands, wings = draw_hands(60, rng), draw_wings(60, rng)
    hand_edges, wing_edges = outline(37), outline(30)
    print("hands and wings: drawn by a formula (set SHAPE_MODELS_DATA to read photographed ones)")

models = {
    "face": (load_model("face68"), None, True),
    "hand": (AlignedASM(ASM(0.98)).fit(hands), hand_edges, bool(data)),
    "wing": (AlignedASM(ASM(0.98)).fit(wings), wing_edges, False),
}
figure, axes = plt.subplots(1, 3, figsize=(15, 5.2), layout="constrained", width_ratios=[1.35, 0.95, 1.25])
for ax, (name, (model, edges, y_down)) in zip(axes, models.items(), strict=True):
    asm, variances = model.asm_, model.asm_.explained_variance_ratio_
    print(f"{name}: {asm.n_samples_} shapes of {asm.event_shape_[0]} landmarks, {len(variances)} modes of which")
    print(f"  3 hold {100 * variances[:3].sum():.0f} % of the variance and all hold {100 * variances.sum():.0f} %")
    plot_modes(model, ax, n_modes=3, steps=(-3, 0, 3), edges=edges, y_down=y_down)
    ax.set_title(f"{name}: 3 of {len(variances)} modes, {100 * variances[:3].sum():.0f} % of the variance", fontsize=13)
figure.suptitle("A few modes hold most of the variation of a kind of shape", fontsize=16)
figure.savefig("modes.png", dpi=120)
print("picture: modes.png")
