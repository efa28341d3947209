# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Landmarks in images in forty-five minutes
#
# Three ways to find landmarks in an image: a search, a network that regresses coordinates, and a network that predicts
# heat maps. What a shape model adds to each of them, and how to know when the result is wrong.
#
# It continues the lecture on shape models (`lecture.py`). `jupytext --to ipynb lecture_images.py` makes the notebook;
# each section ends with an exercise, and the answers are comments at the very end. One image in the public domain
# serves for all sections. It shows how the methods work, not how accurate they are: that takes many faces, see the
# guide on evaluation.

# %%
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse
from skimage.data import astronaut

from asmnet import LandmarkDataset, Predictor
from asmnet.checkpoints import load_pretrained
from asmnet.hybrid import predict_heatmaps
from evaluation import bootstrap_interval, nme
from shape_models import IBUG68, fit_shape, load_model
from shape_models._demo import ASTRONAUT
from shape_models.plotting import plot_shape

torch.set_num_threads(1)
rng = np.random.default_rng(0)
GREEN, RED, AMBER = "#00798c", "#d1495b", "#edae49"
image = astronaut()[20:230, 120:330]  # NASA, public domain
truth = ASTRONAUT - [120, 20]  # 68 landmarks, placed by eye
box = np.concatenate([truth.min(axis=0), truth.max(axis=0)])
eyes = np.linalg.norm(truth[45] - truth[36])


def error(points):
    """Return the error of each answer, in percent of the distance of the outer eye corners."""
    return 100 * nme(np.broadcast_to(truth, points.shape), points, normalizer="inter_ocular", scheme="ibug68")


# %% [markdown]
# ## 1. The search: look around, then be plausible
#
# The classical active shape model gives each landmark a *local appearance model*. From the pixels around the current
# position it proposes where the landmark should go, and how certain that is. Then the shape model replaces the proposal
# by the nearest plausible face. Both steps alternate, from a coarse image to a fine one:
#
# $$ y_k = x_k + u_k(\text{image around } x_k), \qquad x \leftarrow T^{-1} \mathcal{A}(T y), $$
#
# where $T$ aligns the proposal $y$ to the mean shape and $\mathcal{A}$ projects it.

# %%
search = load_model("search68")
start = box + 0.12 * (box[2] - box[0]) * np.array([1, 1, 1, 1])  # a box that is off
found = search.predict(image, boxes=start)
figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
shown = [("start", found.start)] + [(f"after step {i + 1}", found.trace[i].shape) for i in (0, 2, len(found.trace) - 1)]
for ax, (title, shape) in zip(axes, shown, strict=True):
    plot_shape(shape, ax, scheme=IBUG68, image=image, color=RED if title == "start" else GREEN)
    ax.set_title(f"{title}: {error(shape[None])[0]:.1f} %")
print(f"{found.status} after {len(found.trace)} steps; it expects to be off by {found.expected_error:.1f} pixels")

# %% [markdown]
# A search only sees what is near. How far may it start from the face?

# %%
reach = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
ends = [search.predict(image, boxes=box + r * (box[2] - box[0]) * np.array([1, 0, 1, 0])) for r in reach]
for r, end in zip(reach, ends, strict=True):
    print(
        f"box {r:3.0%} of its width aside: error {error(end.shape[None])[0]:5.1f} %, expected "
        f"{100 * end.expected_error / eyes:5.1f} %, plausibility {end.plausibility:.2f}, {end.status}"
    )

# %% [markdown]
# **Exercise 1.** From which distance on is the face lost? Which field of the result would have told you, without the
# truth? Is it plausibility?

# %% [markdown]
# ## 2. The network: all pixels at once
#
# A convolutional network sees the whole crop. ASMNet predicts 136 coordinates in *crop units*: the crop reaches from
# $-\tfrac12$ to $\tfrac12$, so that the prediction does not depend on the size of the image. The crop comes from a box,
# and so do errors of the box.

# %%
network = Predictor.from_pretrained("asmnet-68")
n = 24
side = box[2] - box[0]
boxes = box + side * rng.uniform(-0.15, 0.15, size=(n, 4))
answers = np.stack([network(image, b, n_passes=1)[0].landmarks for b in boxes])
searched = np.stack([search.predict(image, boxes=b).shape for b in boxes])
for name, points in (("network", answers), ("search", searched)):
    spread = points.std(axis=0).mean()
    print(f"{name}: error {error(points).mean():.2f} % on {n} boxes that are off, spread {spread:.2f} pixels")

# %% [markdown]
# The mean of the predictions from all boxes is closer to the truth than each of them (*test-time augmentation*). But
# their spread is not their error: an error that all predictions share is not removed by averaging.

# %%
print(f"mean answer: {error(answers.mean(axis=0)[None])[0]:.2f} %, a single one: {error(answers).mean():.2f} %")
bias = np.linalg.norm(answers.mean(axis=0) - truth, axis=1).mean()
print(f"shared by all answers: {bias:.2f} pixels; differing: {answers.std(axis=0).mean():.2f} pixels")

# %% [markdown]
# **Exercise 2.** Mirror the image and the box, predict, and mirror the landmarks back with
# `IBUG68.flip(points, width=210)`. How far do the two answers differ, and why is that no error bar either?

# %% [markdown]
# ## 3. Heat maps: where, and how certain
#
# A heat map network predicts, for each landmark, a map $h(u) \ge 0$ of where it may be. Its normalised values are a
# distribution, with a mean and a covariance:
#
# $$ \mu = \sum_u u\, p(u), \qquad \Sigma = \sum_u (u - \mu)(u - \mu)^\top p(u), \qquad p = h^s / \sum h^s . $$
#
# Cover part of the face, and look at both.

# %%
hourglass = load_pretrained("hourglass-68")
covered = image.copy()
covered[115:175, 60:130] = 110  # most of the mouth
faces = LandmarkDataset.from_arrays(np.stack([image, covered]), np.stack([truth, truth]))
heatmaps = predict_heatmaps(hourglass.network, faces, hourglass.preprocessing)


def moments(maps, matrices, sharpness=2.0):
    """Return mean and covariance of the place of each landmark, in pixels of the image."""
    p = np.clip(maps, 0.0, None) ** sharpness
    p /= p.sum(axis=(-1, -2), keepdims=True)
    height, width = p.shape[-2:]
    u = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)  # (height, width, 2), as (x, y)
    mean = np.einsum("nkhw,hwd->nkd", p, u)
    away = u - mean[:, :, None, None]
    spread = np.einsum("nkhw,nkhwd,nkhwe->nkde", p, away, away)
    a = matrices[:, None, :, :2]  # map -> image
    return np.einsum("nkde,nke->nkd", a, mean) + matrices[:, None, :, 2], a @ spread @ a.swapaxes(-1, -2)


means, covariances = moments(heatmaps.maps, heatmaps.matrices)
deviation = np.sqrt(np.trace(covariances, axis1=-2, axis2=-1) / 2)
mouth = list(IBUG68.groups["mouth"])
figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
for column, pixels in enumerate((image, covered)):
    ax = plot_shape(means[column], axes[2 * column], scheme=IBUG68, image=pixels, color=GREEN)
    ax.set_title(("plain", "covered")[column] + f": {error(means[column][None])[0]:.1f} %")
    axes[2 * column + 1].imshow(np.clip(heatmaps.maps[column, 57], 0, None))
    axes[2 * column + 1].set_title(f"map of the lower lip, σ = {deviation[column, 57]:.1f} px")
print(f"σ of the mouth: {deviation[0, mouth].mean():.2f} pixels plain, {deviation[1, mouth].mean():.2f} covered")

# %% [markdown]
# **Exercise 3.** Take the maximum of each map instead of its mean (`heatmaps.maps.reshape(2, 68, -1).argmax(-1)`).
# Which of the two is nearer to the truth where the mouth is covered, and which is steadier where it is not?

# %% [markdown]
# ## 4. Hybrid: the maps vote, the shape model decides
#
# Projecting the means treats all landmarks alike. If instead each landmark counts by its covariance, the fit asks for
# the most probable face given the maps:
#
# $$ \min_{T, b} \; \sum_k (x_k(T, b) - \mu_k)^\top \Sigma_k^{-1} (x_k(T, b) - \mu_k) + \sum_i b_i^2 / \lambda_i . $$
#
# A landmark with a wide map gives way to the others, and does not pull them along.

# %%
model = load_model("face68")
fit = fit_shape(model, means, covariance=covariances)
rows = {"mean of the map": means, "projected": model.project(means), "fitted with covariances": fit.shapes}
for name, points in rows.items():
    print(f"{name:26s}{error(points)[0]:6.2f} % plain, {error(points)[1]:6.2f} % covered")

# %% [markdown]
# All of them are about 5 % away from the truth and within a fraction of a percent of each other: the landmarks of this
# image were placed by eye, and no method knows that eye. What a cover does is better measured against the answer
# without it. Covers at many places show whether a gain depends on luck, and the differences are *paired*, as all
# methods see the same covers.

# %%
reference = means[0]
many, hidden = [], []
width = int(0.45 * side)
for x, y in (box[:2] + rng.uniform(0.0, 0.6, size=(24, 2)) * side).astype(int):
    many.append(image.copy())
    many[-1][y : y + width, x : x + width] = 110
    hidden.append(((reference >= [x, y]) & (reference < [x + width, y + width])).all(axis=1))
hidden = np.array(hidden)
covers = LandmarkDataset.from_arrays(np.stack(many), np.repeat(truth[None], len(many), axis=0))
drawn = predict_heatmaps(hourglass.network, covers, hourglass.preprocessing)
means, covariances = moments(drawn.maps, drawn.matrices)
fits = fit_shape(model, means, covariance=covariances)
rows = {"mean of the map": means, "projected": model.project(means), "fitted with covariances": fits.shapes}
moved = {name: np.linalg.norm(points - reference, axis=-1) for name, points in rows.items()}
for name, distances in moved.items():
    print(f"{name:26s}{distances[hidden].mean():5.2f} px where covered, {distances[~hidden].mean():5.2f} px elsewhere")
some = hidden.any(axis=1)
each = {name: (d * hidden).sum(axis=1)[some] / hidden.sum(axis=1)[some] for name, d in moved.items()}
gain = bootstrap_interval(each["fitted with covariances"] - each["projected"], rng=0)
print(f"covered landmarks, fitted less projected: {gain.estimate:+.2f} px [{gain.low:+.2f}, {gain.high:+.2f}]")

# %% [markdown]
# The fit repairs what was covered and pays with landmarks that were right, since no face is exactly a face of the
# model. How much to believe the maps, and how much the model, is a number to be learned on many faces.
#
# **Exercise 4.** Multiply all covariances by 100, and by 1/100. Towards which two answers does the fit go, and why?

# %% [markdown]
# ## 5. Uncertainty: is σ what it says?
#
# An ellipse of 90 % should hold the truth nine times in ten. With $z^2 = (x-\mu)^\top\Sigma^{-1}(x-\mu)$, which is
# $\chi^2_2$ distributed for an honest $\Sigma$, it holds the truth where $z^2 < 4.6$.


# %%
def squares(points, covariance):
    """Return z squared of each landmark."""
    away = truth - points
    return np.einsum("nkd,nkde,nke->nk", away, np.linalg.inv(covariance), away)


for name, z2 in (("maps", squares(means, covariances)), ("fit", squares(fits.shapes, fits.covariance))):
    print(f"90 % ellipses of the {name} hold the truth in {np.mean(z2 < 4.605):.0%}")
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for ax, title, points, spread in zip(
    axes, ("by the map", "by the fit"), (means, fits.shapes), (covariances, fits.covariance), strict=True
):
    plot_shape(points[0], ax, scheme=IBUG68, image=many[0], color=GREEN)
    for point, covariance in zip(points[0], spread[0], strict=True):
        values, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        size = 2 * np.sqrt(4.605 * values[::-1])
        ax.add_patch(Ellipse(point, *size, angle=angle, color=AMBER, alpha=0.35, linewidth=0))
    ax.set_title(f"where the truth should be, {title}")

# %% [markdown]
# A map has the width of the target that it was trained to predict, so its spread is not a calibrated uncertainty. The
# fit goes wrong in another way: it takes the errors of 68 landmarks for independent, and averages away what they share
# (section 2). `learn_point_errors` learns bias and covariance of a detector from faces whose truth is known, and
# `expected_error` of a search is learned in the same way. Every statement of uncertainty has to be checked like that,
# on faces that it was not tuned on.
#
# **Exercise 5.** Find the factor on the covariances of the fit with which their 90 % ellipses hold 90 % of the
# landmarks. Does the same factor serve the jaw alone?

# %% [markdown]
# ## 6. Which one, then?
#
# | | sees | knows when it is wrong | costs |
# |---|---|---|---|
# | search | a neighbourhood of each landmark | yes, by a learned expected error | 10 ms, 2.5 MB, no torch |
# | coordinates | the whole crop | no | 4 to 11 ms |
# | maps | the crop, landmark by landmark | by the width of its maps, uncalibrated | 28 to 50 ms |
# | any of them and a shape model | what faces can be | by plausibility, blind to a face elsewhere | under 1 ms |
#
# **Exercise 6.** You have to measure mouths in a video of people who drink from cups. Which would you take, what
# would you report beside each number, and which faces would you need before you believe it?

# %% [markdown]
# ---
# *Answers are in the comments of the next cell.*

# %%
# 1. See the lines printed: from a third of a face on the search ends elsewhere. expected_error, learned from images, is
#    then several times that of a good answer, the more so where it did not converge. Plausibility knows only the shape.
# 2. flipped = IBUG68.flip(network(image[:, ::-1].copy(), [209 - box[2], box[1], 209 - box[0], box[3]], n_passes=1)
#    [0].landmarks, width=210). The two differ by less than a pixel and both are nearly 5 % off. They come from the same
#    weights, and what those get wrong on either side stays.
# 3. The cover moves the maxima of the mouth farther than the means (4.2 against 3.8 pixels): where a map has several
#    hills, the maximum jumps from one to another and the mean lies between them. Without the cover the mean is nearer
#    to the truth as well, since maxima are whole pixels of the map, 1.8 pixels of this image.
# 4. With 100 times the covariance the second sum rules: towards the mean face in the pose that the maps give it. With a
#    hundredth the maps rule, and only the span and the limit of the model are left of it: a weighted projection.
# 5. np.quantile(squares(fits.shapes, fits.covariance), 0.9) / 4.605. The jaw needs a larger one: along it the truth
#    was placed with the least evidence, and no map knows how far along the cheek an annotator puts a point.
# 6. Maps with the shape model, fitted with covariances learned on covered mouths (learn_point_errors with occluded=).
#    With each number its interval, the faces it came from, and how many frames were left out by which rule. Faces with
#    cups and true mouths, which were not used to choose anything: COFW has covers, 300-W has few.
