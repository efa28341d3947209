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
# # Statistical shape models in thirty minutes
#
# From landmarks to Procrustes, to principal components, to the operator that makes a shape plausible, to the search
# in images, to the network, and back.
#
# `jupytext --to ipynb lecture.py` makes the notebook; each section ends with an exercise, and the answers are
# comments at the very end.

# %%
import numpy as np
from matplotlib import pyplot as plt

from shape_models import (
    ASM,
    IBUG68,
    AlignedASM,
    ShapeBasis,
    estimate_similarity,
    generalized_procrustes,
    load_model,
    make_faces,
)
from shape_models.plotting import plot_clip, plot_coefficients, plot_modes, plot_shape, plot_spectrum

rng = np.random.default_rng(0)
GREEN, RED, GREY = "#00798c", "#d1495b", "#9aa0a6"

# %% [markdown]
# ## 1. Landmarks
#
# A *shape* is an array of $K$ landmarks in $d$ dimensions, here 68 points of a face in the plane. The same index
# always means the same place: landmark 30 is the tip of the nose in every face. That correspondence is all a shape
# model knows about the world. Coordinates are $(x, y)$ in pixels, $y$ downwards.

# %%
faces = make_faces(400, rng=0)
print(faces.shape)
ax = plot_shape(faces[0], scheme=IBUG68, numbers=True)
ax.set_title("68 landmarks and their numbers")

# %% [markdown]
# **Exercise 1.** Which landmarks are the outer corners of the eyes? Find their mean distance over all faces.
# (`IBUG68.names` knows what each landmark is called.)

# %% [markdown]
# ## 2. Procrustes: take position, size and rotation away
#
# Shape is what is left of an object when similarity transforms $x \mapsto s R x + t$ are ignored. To compare two
# shapes, the best transform is found in closed form. With both centred, and the singular value decomposition
# $A^\top B = U \Sigma V^\top$ of the product of the two $K \times 2$ arrays,
#
# $$ R = V D U^\top, \qquad s = \frac{\operatorname{tr}(\Sigma D)}{\lVert A \rVert^2}, \qquad
# D = \mathrm{diag}(1, \det(V U^\top)). $$
#
# The determinant in $D$ keeps mirror images out.

# %%
a = faces[0] - faces[0].mean(axis=0)
b = faces[1] - faces[1].mean(axis=0)
u, sigma, vt = np.linalg.svd(a.T @ b)
d = np.array([1.0, np.linalg.det(vt.T @ u.T)])
rotation = vt.T @ np.diag(d) @ u.T
scale = (sigma * d).sum() / np.square(a).sum()

similarity = estimate_similarity(faces[0], faces[1])  # the same, for any number of shapes at once
print("rotation agrees:", np.allclose(rotation, similarity.rotation), " scale:", round(scale, 4), similarity.scale)

# %% [markdown]
# *Generalised* Procrustes analysis aligns all shapes to their own mean, which has to be found at the same time:
# align to the mean, average, repeat. (For planar shapes there is a closed form, and the library uses it.)

# %%
result = generalized_procrustes(faces)
aligned, mean = result.aligned, result.mean
figure, axes = plt.subplots(1, 2, figsize=(10, 4.5))
for ax, shapes, title in zip(axes, (faces, aligned), ("as given", "aligned; the mean in green"), strict=True):
    ax.scatter(*shapes[:150].reshape(-1, 2).T, s=1, color=GREY)
    plot_shape(shapes.mean(axis=0), ax, scheme=IBUG68, color=GREEN)
    ax.set_title(title)
print("centroid size of the mean:", round(float(np.linalg.norm(mean - mean.mean(axis=0))), 6))

# %% [markdown]
# **Exercise 2.** Turn `faces[0]` by 30 degrees, make it half as large, and align it to `faces[0]`. What are the
# residuals?

# %% [markdown]
# ## 3. Principal components: how shapes vary
#
# Flatten each aligned shape to $x \in \mathbb{R}^{2K}$. The covariance of the $x$ has eigenvectors $v_i$, the
# *modes*, with variances $\lambda_1 \ge \lambda_2 \ge \dots$, and every shape is
#
# $$ x = \bar x + \sum_i b_i v_i, \qquad b_i = v_i^\top (x - \bar x), \qquad \operatorname{Var}(b_i) = \lambda_i. $$

# %%
x = aligned.reshape(len(aligned), -1)
centred = x - x.mean(axis=0)
singular, vt = np.linalg.svd(centred, full_matrices=False)[1:]
variances = singular**2 / (len(x) - 1)

asm = ASM(0.98).fit(aligned)  # as many modes as hold 98 % of the variance
k = asm.n_components_
print(f"{k} modes hold 98 % of the variance of {x.shape[1]} coordinates")
print("variances agree:", np.allclose(asm.explained_variance_, variances[:k]))
plot_spectrum(asm)

# %%
plot_modes(asm, scheme=IBUG68, n_modes=3)

# %% [markdown]
# **Exercise 3.** Are the coefficients of two different modes correlated over the 400 faces? Why (not)?

# %% [markdown]
# ## 4. The operator: the nearest plausible shape
#
# A shape is called plausible when each coefficient lies within three standard deviations. The set $\{\bar x + \sum
# b_i v_i : |b_i| \le 3\sqrt{\lambda_i}\}$ is a box, turned in space, and the nearest point of it is found by
# *encode, clip, decode*:
#
# $$ \mathcal{A}(x) = \bar x + \sum_i \operatorname{clip}\big(b_i,\, \pm 3\sqrt{\lambda_i}\big)\, v_i, \qquad
# b_i = v_i^\top (x - \bar x). $$
#
# The modes are orthonormal and the box is convex, so this *is* the projection: applying it twice changes nothing,
# and two shapes never end up farther apart than they were.

# %%
basis = asm.basis_
wrong = mean + 4 * (aligned[0] - mean)  # a caricature
wrong[30] += 0.05  # whose tip of the nose went astray
b = basis.encode(wrong)
by_hand = basis.decode(np.clip(b, -3 * np.sqrt(basis.variances), 3 * np.sqrt(basis.variances)))
once = basis.project(wrong)
print("by hand:", np.allclose(by_hand, once), " twice is once:", np.allclose(basis.project(once), once))
print(basis.report(wrong))
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
plot_clip(basis, wrong, axes[0], scheme=IBUG68)
plot_coefficients(basis, wrong, axes[1])

# %% [markdown]
# In images shapes are not aligned. `AlignedASM` aligns, projects, and goes back; it also fills in what is
# missing.

# %%
model = AlignedASM(ASM(0.98)).fit(faces)
face = make_faces(1, rng=9)[0]
eyes = np.linalg.norm(face[45] - face[36])
noisy = face + 0.05 * eyes * rng.normal(size=face.shape)
hidden = face.copy()
hidden[IBUG68.groups["jaw"]] = np.nan
off = {
    "noisy": np.linalg.norm(noisy - face, axis=1),
    "projected": np.linalg.norm(model.project(noisy) - face, axis=1),
    "hidden jaw": np.linalg.norm(model.complete(hidden).shapes - face, axis=1)[IBUG68.groups["jaw"]],
}
for name, distances in off.items():
    print(f"{name:12s} {100 * distances.mean() / eyes:5.2f} % of the eye distance off")

# %% [markdown]
# **Exercise 4.** Project `noisy` with 2, 5, 10 and 30 modes (`AlignedASM(ASM(5))`). Which is best, and what would
# change if the noise were smaller?

# %% [markdown]
# ## 5. The search: landmarks from images
#
# The classical active shape model alternates two steps, from coarse to fine: each landmark looks around itself and
# proposes where to go; the shape model answers with the nearest plausible shape. No landmark gets lost on its own.

# %%
from skimage.data import astronaut  # noqa: E402

photograph = astronaut()[20:230, 120:330]  # NASA, public domain
search = load_model("search68")
found = search.predict(photograph)
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2))
for ax, shape, title in zip(
    axes, (found.start, found.trace[0].shape, found.shape), ("start", "after one step", "found"), strict=True
):
    plot_shape(shape, ax, scheme=IBUG68, image=photograph, color=RED if title == "start" else GREEN)
    ax.set_title(title)
print(f"{found.status} after {len(found.trace)} steps, plausibility {found.plausibility:.2f}")

# %% [markdown]
# **Exercise 5.** Give `search.predict` a box that is 40 pixels too far to the right (`boxes=np.array(found.box) +
# [40, 0, 40, 0]`). Which fields of the result show that it is wrong?

# %% [markdown]
# ## 6. The network, and back
#
# A network maps pixels to landmarks directly. The shape model helps it twice. *In training*, ASMNet adds to the
# loss the distance to the projection of the truth, a smoother and easier target, with a weight $w$ that falls:
#
# $$ L = \lVert P - G \rVert^2 + w \,\lVert P - \mathcal{A}(G) \rVert^2, \qquad w = 2,\ 1,\ \tfrac12 . $$
#
# *After it*, $\mathcal{A}$ is a layer like any other: it runs on tensors, and gradients go through the modes not
# clipped.

# %%
import torch  # noqa: E402

from asmnet import ASMProjection, asm_assisted_loss  # noqa: E402

small = ShapeBasis(basis.mean, basis.components[:5], basis.variances[:5])
layer = ASMProjection(small).double()
truth = torch.tensor(aligned[:8])
prediction = torch.tensor(np.repeat(basis.mean[None], 8, axis=0), requires_grad=True)
for w in (2.0, 1.0, 0.5):
    loss = asm_assisted_loss(prediction, truth, layer, asm_weight=w)
    print(f"w = {w}: loss {loss.item():.2e}")
print("the layer is the operator:", np.allclose(layer(truth).numpy(), small.project(aligned[:8])))
shape = torch.tensor(aligned[0], requires_grad=True)
jacobian = torch.autograd.functional.jacobian(lambda s: layer(s[None]).flatten(), shape).reshape(136, 136)
print("rank of its derivative:", int(torch.linalg.matrix_rank(jacobian, tol=1e-9)), "= modes not clipped")

# %% [markdown]
# So the oldest and the newest method share one operator: search proposes and $\mathcal{A}$ disposes; the network
# proposes, and $\mathcal{A}$ teaches it first and keeps it honest later.
#
# **Exercise 6.** Show on paper which $P$ minimises $L$ for fixed $w$. What does the network learn when $w$ never
# falls?

# %% [markdown]
# ---
# *Answers are in the comments of the next cell.*

# %%
# 1. 36 and 45: [IBUG68.names[i] for i in (36, 45)];
#    np.linalg.norm(faces[:, 45] - faces[:, 36], axis=1).mean()
# 2. turn = np.array([[np.cos(np.pi / 6), -np.sin(np.pi / 6)], [np.sin(np.pi / 6), np.cos(np.pi / 6)]])
#    moved = 0.5 * faces[0] @ turn.T
#    estimate_similarity(moved, faces[0]).residuals(moved, faces[0])   -> zero to rounding
# 3. No: the modes are eigenvectors of the covariance, so np.corrcoef(asm.transform(aligned).T) is the identity. They
#    can still depend on each other in other ways (see plt.scatter of the first two).
# 4. Two are too few to express the face; from five on this one face hardly tells them apart. Over many faces about a
#    dozen are best with this noise (smoother.py draws it), as more begin to express it; with less noise more are.
# 5. The search ends in a wrong place, and score, plausibility or confidence are lower than those of the good result.
# 6. P = (G + w A(G)) / (1 + w). With w fixed it learns a face that is always a little too close to the mean.
