"""The ASM-assisted loss step by step: a network is first asked for an easy face, then for the true one.

Beside each annotated face G, training keeps its projection A(G) on a shape model that holds 80, 90 or 97 % of the
variance: the easier, the fewer modes. The loss is L(P, G) + w L(P, A(G)), smallest at P = (G + w A(G)) / (1 + w). Look
at the curve: a prediction that follows the gradient waits on a step for each weight w, and comes nearer to the truth
each time w falls. It never gets there while w > 0.
"""

import numpy as np
import torch
from _common import astronaut
from matplotlib import pyplot as plt

from asmnet import AsmWeightSchedule, asm_assisted_loss
from shape_models import IBUG68, ShapeBasis, load_model
from shape_models.plotting import AFTER, BEFORE, GREY, plot_shape

_, landmarks = astronaut()
model = load_model("face68")
truth = model.align(landmarks)[0]
basis, ratio = model.asm_.basis_, model.asm_.explained_variance_ratio_
eyes = np.linalg.norm(truth[45] - truth[36])


def distance(first, second):
    """Return the mean distance of two shapes in % of the eye distance."""
    return 100 * np.linalg.norm(np.asarray(first) - np.asarray(second), axis=-1).mean() / eyes


# A_set: the face as shape models of more and more modes see it.
asm_set = {}
for fraction in (0.80, 0.90, 0.97):
    k = int(np.searchsorted(ratio.cumsum(), fraction)) + 1
    asm_set[fraction] = ShapeBasis(basis.mean, basis.components[:k], basis.variances[:k]).project(truth)
    print(
        f"A(G) at {100 * fraction:.0f} %: {k:2d} modes, "
        f"{distance(asm_set[fraction], truth):.1f} % of the eye distance from G"
    )

# A prediction that follows the gradient of the loss, from the mean face, while the weight falls in thirds.
target, easy = torch.tensor(truth)[None], torch.tensor(asm_set[0.80])[None]
prediction = torch.tensor(basis.mean)[None].clone().requires_grad_()
schedule = AsmWeightSchedule(n_epochs=90)
optimizer = torch.optim.SGD([prediction], lr=0.03 * truth.size)
weights, to_truth = [], []
for epoch in range(90):
    loss = asm_assisted_loss(prediction, target, None, asm_weight=schedule(epoch), asm_target=easy)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    weights.append(schedule(epoch))
    to_truth.append(distance(prediction.detach()[0], truth))
for epoch in (29, 59, 89):
    w = weights[epoch]
    expected = w / (1 + w) * distance(asm_set[0.80], truth)
    print(f"epoch {epoch + 1}, weight {w}: {to_truth[epoch]:.2f} % from G, the formula says {expected:.2f} %")

figure = plt.figure(figsize=(14, 8.2), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1.05, 1])
panels = {"G: annotated": truth} | {f"A(G) at {100 * fraction:.0f} %": shape for fraction, shape in asm_set.items()}
for ax, (name, shape) in zip(upper.subplots(1, 4, sharex=True, sharey=True), panels.items(), strict=True):
    plot_shape(truth, ax, scheme=IBUG68, color=GREY, size=1)
    plot_shape(shape, ax, scheme=IBUG68, color="black" if shape is truth else AFTER, size=6)
    off = "" if shape is truth else f": {distance(shape, truth):.1f} % off"
    ax.set_title(name + off, fontsize=13)
    ax.set_axis_off()
curve, mouth = lower.subplots(1, 2, width_ratios=[1.7, 1])
curve.plot(range(1, 91), to_truth, color=BEFORE, linewidth=2.5)
for start, w in ((0, 2.0), (30, 1.0), (60, 0.5)):
    level = w / (1 + w) * distance(asm_set[0.80], truth)
    curve.plot([start, start + 30], [level, level], color=GREY, linestyle="--")
    curve.text(start + 29, level * 1.1 + 0.15, f"w = {w:g}", ha="right", fontsize=12)
curve.set(xlabel="epoch", ylabel="prediction to truth, % of the eye distance", xlim=(0, 90), ylim=(0, None))
curve.spines[["top", "right"]].set_visible(False)
curve.set_title("the prediction comes to rest at w / (1 + w) of the way from G to A(G)", fontsize=13)
lips = IBUG68.subset(IBUG68.groups["mouth"])
shades = plt.cm.viridis([0.75, 0.5, 0.2])
plot_shape(truth[48:], mouth, scheme=lips, color="black", size=10, label="G")
for w, color in zip((0.5, 1.0, 2.0), shades, strict=True):
    blend = (truth + w * asm_set[0.80]) / (1 + w)
    plot_shape(blend[48:], mouth, scheme=lips, color=color, size=10, label=f"asked for, w = {w:g}")
plot_shape(asm_set[0.80][48:], mouth, scheme=lips, color=GREY, size=10, label="A(G) at 80 %")
mouth.set_title("what the loss asks for at the mouth", fontsize=13)
mouth.legend(frameon=False, fontsize=10, markerscale=2.5, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
mouth.set_axis_off()
figure.suptitle("The ASM-assisted loss asks for an easy face first, and for the true one later", fontsize=17)
figure.savefig("asm_loss.png", dpi=120)
print("picture: asm_loss.png")
