"""The library in one picture: landmarks found, corrupted, repaired, completed, and the modes behind it.

Makes overview.png, which the README shows (examples/pictures/overview.png), from an image in the public domain and
the models that ship with the library. Look at the third panel: the model never saw this person, but many faces.
"""

import numpy as np
from _common import astronaut
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse
from PIL import Image

from shape_models import IBUG68, load_model
from shape_models.plotting import AFTER, BEFORE, GREY, plot_shape

image, truth = astronaut()
model = load_model("face68").set_params(loss="tukey")
eyes = np.linalg.norm(truth[45] - truth[36])
rng = np.random.default_rng(4)


def error(shape):
    """Return the mean distance to the annotated face in % of the eye distance."""
    return 100 * np.linalg.norm(shape - truth, axis=1).mean() / eyes


found = load_model("search68").predict(image).shape
corrupted = found + rng.normal(scale=0.02 * eyes, size=found.shape)
corrupted[rng.choice(68, 10, replace=False)] += rng.normal(scale=0.35 * eyes, size=(10, 2))
repaired = model.project(corrupted)
half = found.copy()
lost = np.flatnonzero(found[:, 0] < found[27, 0] - 1)
half[lost] = np.nan
completed = model.complete(half)
print(f"found by search: {error(found):.1f} % of the eye distance from the annotation")
print(f"corrupted: {error(corrupted):.1f} %, repaired: {error(repaired):.1f} %")
print(f"one half hidden, completed: {error(completed.shapes):.1f} %")

figure = plt.figure(figsize=(12, 5.5))
panels = [
    ("found by search", found, AFTER),
    ("ten landmarks astray", corrupted, BEFORE),
    ("made plausible", repaired, AFTER),
    ("half hidden, completed", completed.shapes, AFTER),
]
for i, (title, shape, color) in enumerate(panels):
    ax = figure.add_axes([0.005 + 0.249 * i, 0.4, 0.243, 0.53])
    plot_shape(shape, ax, scheme=IBUG68, image=image, color=color, size=5)
    ax.set(xlim=(36, 174), ylim=(178, 40))
    ax.set_title(title, fontsize=14)
    ax.set_axis_off()
ax.axvspan(-0.5, found[27, 0] - 2, color="white", alpha=0.6, linewidth=0, zorder=1.5)
for k in lost:  # where 90 % of such faces have the landmark
    variances, directions = np.linalg.eigh(completed.covariance[k])
    angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
    size = 2 * np.sqrt(2 * np.log(10) * variances)
    ax.add_patch(Ellipse(completed.shapes[k], *size, angle=angle, color=AFTER, alpha=0.25, linewidth=0))

basis = model.asm_.basis_
for mode in range(3):
    for side, sign in enumerate((-3, 3)):
        b = np.zeros(basis.n_components)
        b[mode] = sign * np.sqrt(basis.variances[mode])
        ax = figure.add_axes([0.005 + 0.335 * mode + 0.16 * side, 0.065, 0.16, 0.31])
        shape = basis.decode(b)
        plot_shape(basis.mean, ax, scheme=IBUG68, color=GREY, size=0.5)
        plot_shape(shape, ax, scheme=IBUG68, color=AFTER, size=1)
        both = np.concatenate([basis.mean, shape])
        middle = (both[:, 0].min() + both[:, 0].max()) / 2
        ax.set(xlim=(middle - 0.24, middle + 0.24), ylim=(0.21, -0.19))
        ax.set_axis_off()
    percent = 100 * model.asm_.explained_variance_ratio_[mode]
    text = f"mode {mode + 1}: {percent:.0f} % of the variance, ± 3 √λ"
    figure.text(0.165 + 0.335 * mode, 0.02, text, ha="center", fontsize=11)
figure.savefig("overview.png", dpi=100)
Image.open("overview.png").convert("RGB").quantize(256).save("overview.png", optimize=True)
print("picture: overview.png")
