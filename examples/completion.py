"""Completing a partly visible shape: where the hidden landmarks are, and how certain the model is of each.

A hand covers part of the face, or half of a fossil is missing: landmarks that are not visible are NaN. `complete`
returns their most probable positions given the visible ones, with a covariance for each. Look at the ellipses: they
are long where the visible landmarks say little. They are drawn to contain 90 % of the true landmarks (grey), and
contain a little less on new faces. With fewer modes they would contain much less, because the variation that the model
leaves out is not independent noise. So keep many modes for this: ASM(0.99), not ASM(0.9).
"""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse

from shape_models import ASM, IBUG68, AlignedASM, make_faces
from shape_models.plotting import AFTER, GREY, plot_shape

train, faces = make_faces(800, rng=1), make_faces(300, rng=2)
model = AlignedASM(ASM(0.99)).fit(train)
right = train[..., 0].mean(axis=0) < train[:, 27, 0].mean()
hidden = {
    "the mouth": IBUG68.groups["mouth"],
    "the jaw": IBUG68.groups["jaw"],
    "one half": np.flatnonzero(right),
}
RADIUS = np.sqrt(2 * np.log(10))  # an ellipse of this many standard deviations holds 90 % of a plane Gaussian

figure, axes = plt.subplots(1, 3, figsize=(15, 5.8), layout="constrained")
for ax, (name, lost) in zip(axes, hidden.items(), strict=True):
    seen = faces.copy()
    seen[:, lost] = np.nan
    done = model.complete(seen)

    # Over all faces: the error against that of the mean face in the same place, and how honest the ellipses are.
    eyes = np.linalg.norm(faces[:, 45] - faces[:, 36], axis=-1)[:, None]
    mean = model.alignment_.align(seen).inverse(model.alignment_.mean_shape_)
    off = done.shapes[:, lost] - faces[:, lost]
    error = 100 * np.mean(np.linalg.norm(off, axis=-1) / eyes)
    naive = 100 * np.mean(np.linalg.norm((mean - faces)[:, lost], axis=-1) / eyes)
    squared = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(done.covariance[:, lost]), off)
    inside = 100 * np.mean(squared < RADIUS**2)
    print(f"{name} hidden: error {error:.1f} % of the eye distance, that of the mean face {naive:.1f} %;")
    print(f"  the ellipses drawn for 90 % hold {inside:.0f} %")

    plot_shape(faces[0], ax, scheme=IBUG68, color=GREY, size=10, label="truth")
    plot_shape(seen[0], ax, scheme=IBUG68, color="black", size=10, label="seen")
    plot_shape(done.shapes[0, lost], ax, color=AFTER, size=10, label="completed, with 90 % ellipses")
    for k in lost:
        variances, axes_of = np.linalg.eigh(done.covariance[0, k])
        width, height = 2 * RADIUS * np.sqrt(variances)
        angle = np.degrees(np.arctan2(axes_of[1, 0], axes_of[0, 0]))
        ax.add_patch(Ellipse(done.shapes[0, k], width, height, angle=angle, color=AFTER, alpha=0.15, linewidth=0))
    ax.set_title(f"{name} hidden: {error:.1f} % off\n(mean face: {naive:.1f} %)", fontsize=13)
    ax.autoscale_view()
    ax.set_axis_off()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=12)
figure.suptitle(
    "What is seen tells where the rest is, and how sure one can be (errors: mean of 300 faces)", fontsize=16
)
figure.savefig("completion.png", dpi=120)
print("picture: completion.png")
