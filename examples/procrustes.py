"""Generalised Procrustes analysis: how 200 faces differ when position, size and rotation are removed.

Look at the middle panel: the same faces as on the left, and each landmark now lies in a small cloud around the mean
face. What is left inside the clouds is shape; the bars count how little of the total spread that is.
"""

import numpy as np
from matplotlib import pyplot as plt

from shape_models import IBUG68, Similarity, generalized_procrustes, make_faces
from shape_models.plotting import AFTER, BEFORE, GREY, plot_shape

rng = np.random.default_rng(0)
n = 200
faces = make_faces(n, rng=rng)  # (200, 68, 2)
faces = faces - faces.mean(axis=1, keepdims=True)

# Images do not agree on where a face is, how large it is, and how the camera was held.
angle = rng.normal(scale=np.radians(20), size=n)
rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(n, 2, 2)
photographs = Similarity(rotation, rng.uniform(-150, 150, size=(n, 2)), np.exp(rng.normal(scale=0.3, size=n)))
faces = photographs(faces)

result = generalized_procrustes(faces)  # the mean has centroid size 1
aligned, mean = result.aligned, result.mean


def spread(shapes):
    """Return the root mean square distance of the landmarks to their mean place."""
    return np.sqrt(np.square(shapes - shapes.mean(axis=0)).sum(axis=-1).mean())


# Take one nuisance after the other away, and measure in eye distances of the average face.
centred = faces - faces.mean(axis=1, keepdims=True)
size = np.sqrt(np.square(centred).sum(axis=(1, 2)))
eyes = np.linalg.norm(mean[45] - mean[36])
bars = {
    "as found": spread(faces / size.mean()) / eyes,
    "same place": spread(centred / size.mean()) / eyes,
    "same size": spread(centred / size[:, None, None]) / eyes,
    "same rotation\n= shape": spread(aligned) / eyes,
}

print(f"{n} faces; closed form for planar shapes, converged: {result.converged}")
for name, value in bars.items():
    print(f"  {name.splitlines()[0]:14s} a landmark is {100 * value:5.1f} % of the eye distance from its mean place")

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(14, 5), layout="constrained", gridspec_kw={"width_ratios": [1, 1, 0.75]}
)
plot_shape(faces[1:13], left, scheme=IBUG68, color=GREY, size=1)
plot_shape(faces[0], left, scheme=IBUG68, color=BEFORE, size=5)
left.set_title("13 of the faces as found, one of them in red")
middle.scatter(*aligned.reshape(-1, 2).T, s=1, color=GREY, alpha=0.5)
plot_shape(aligned[0], middle, scheme=IBUG68, color=BEFORE, size=5)
plot_shape(mean, middle, scheme=IBUG68, color=AFTER, size=8)
middle.set_title("all 200 superimposed; green: their mean, red: one face")
for ax in (left, middle):
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
drawn = right.barh(list(bars), [100 * value for value in bars.values()], color=[GREY, GREY, GREY, AFTER])
right.bar_label(drawn, fmt="%.0f %%", padding=4)
right.invert_yaxis()
right.set_xlim(0, 115 * max(bars.values()))
right.set_xlabel("spread of a landmark, % of the eye distance")
right.spines[["top", "right"]].set_visible(False)
right.set_title("what each step takes away")
fraction = 1 - (bars["same rotation\n= shape"] / bars["as found"]) ** 2
title = f"{100 * fraction:.1f} % of the variance was position, size and rotation; what Procrustes leaves is shape"
figure.suptitle(title, fontsize=15)
figure.savefig("procrustes.png", dpi=120)
print("picture: procrustes.png")
