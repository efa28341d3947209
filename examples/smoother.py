"""The shape operator as a filter: noisy landmarks in, plausible landmarks out, and how much that gains.

`project` keeps of a shape what the modes can express, and clips each mode to three standard deviations. Look at the
rings, the best number of modes for each amount of noise. Without noise, more modes are always better, since they
describe the face more closely; with noise, more than a dozen or two describe the noise as well. That this costs so
little is due to clipping: the dashed line is the uppermost curve without it.
"""

import numpy as np
from matplotlib import pyplot as plt

from shape_models import ASM, IBUG68, AlignedASM, make_faces
from shape_models.plotting import AFTER, BEFORE, GREY, plot_shape

rng = np.random.default_rng(0)
train, faces = make_faces(800, rng=1), make_faces(200, rng=2)
eyes = np.linalg.norm(faces[:, 45] - faces[:, 36], axis=-1)
noise = rng.normal(size=faces.shape) * eyes[:, None, None]


def error(shapes):
    """Return the mean distance of the landmarks to the truth, in % of the eye distance."""
    return 100 * np.mean(np.linalg.norm(shapes - faces, axis=-1) / eyes[:, None])


modes = [1, 2, 3, 5, 8, 12, 18, 25, 35, 50]
levels = [0.0, 0.02, 0.05, 0.1]  # standard deviation of each coordinate, in eye distances
models = [AlignedASM(ASM(m)).fit(train) for m in modes]
errors = np.array([[error(model.project(faces + level * noise)) for model in models] for level in levels])
free = [AlignedASM(ASM(m, limit=None)).fit(train) for m in modes]
unclipped = [error(model.project(faces + levels[-1] * noise)) for model in free]
before = [error(faces + level * noise) for level in levels]

print("mean error in % of the eye distance")
print("  noise   before   after, with the best number of modes")
for level, b, row in zip(levels, before, errors, strict=True):
    print(f"  {100 * level:3.0f} %   {b:6.2f}   {row.min():5.2f}  ({modes[row.argmin()]} modes)")
print(f"with 50 modes and 10 % noise: {errors[-1, -1]:.2f}, without clipping {unclipped[-1]:.2f}")

shown, level = 8, levels.index(0.1)
noisy = faces[shown] + levels[level] * noise[shown]
smooth = models[errors[level].argmin()].project(noisy)
off = [100 * np.mean(np.linalg.norm(shape - faces[shown], axis=-1)) / eyes[shown] for shape in (noisy, smooth)]
panels = [
    (f"one face in: {off[0]:.1f} % off (truth in grey)", noisy, BEFORE),
    (f"and out: {off[1]:.1f} % off", smooth, AFTER),
]
figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained", width_ratios=[1, 1, 1.3])
for ax, (title, shape, color) in zip(axes, panels, strict=False):
    plot_shape(faces[shown], ax, scheme=IBUG68, color=GREY, size=1)
    plot_shape(shape, ax, scheme=IBUG68, color=color, size=8)
    ax.set_title(title, fontsize=13)
    ax.set_axis_off()
    ax.set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())

curves = axes[2]
for level, row, b, color in zip(levels, errors, before, plt.cm.viridis([0.0, 0.3, 0.55, 0.8]), strict=True):
    curves.plot(modes, row, color=color, marker="o", markersize=3)
    curves.plot(modes[row.argmin()], row.min(), "o", color=color, markersize=10, fillstyle="none", clip_on=False)
    curves.text(54, row[-1], f"{100 * level:.0f} % noise\n(before: {b:.1f} %)", color=color, va="center", fontsize=10)
curves.plot(modes, unclipped, "--", color=plt.cm.viridis(0.8))
curves.text(54, unclipped[-1], "10 % noise,\nnot clipped", color=plt.cm.viridis(0.8), va="center", fontsize=10)
curves.set(xscale="log", xlabel="modes", ylabel="mean error after projection, % of the eye distance")
curves.set_xticks(modes, modes)
curves.minorticks_off()
curves.set(ylim=(0, None), xlim=(0.9, 52))
curves.spines[["top", "right"]].set_visible(False)
curves.set_title("all 200 faces; rings: the best number of modes", fontsize=13)
figure.suptitle("A shape model removes most of the noise; how many modes to keep depends on the noise", fontsize=16)
figure.savefig("smoother.png", dpi=120)
print("picture: smoother.png")
