"""Shape model against network: both, and the two together, on the same images, plain and partly covered.

Profile search is the classical method of 1995, regressed patches its modern form. ASMNet is a small network, then made
plausible by the shape model; an hourglass draws heat maps, to which the shape model is fitted as a whole. All start
from the same boxes, a little off. With SHAPE_MODELS_DATA set the faces are images of 300-W (validation; one in
four, or in the number given to the script), otherwise one image with many boxes and covers. Look at the curves of
the covered faces: what a cover costs each method. Bands are 95 % intervals.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _common import astronaut
from matplotlib import pyplot as plt
from PIL import Image

from asmnet import Predictor
from evaluation import nme
from evaluation.plotting import plot_ced
from shape_models import IBUG68, load_model
from shape_models.datasets import read_300w
from shape_models.plotting import plot_shape
from shape_models.search import ASMFitter

torch.set_num_threads(1)  # one thread for every method, so that times compare
rng = np.random.default_rng(0)
data = os.environ.get("SHAPE_MODELS_DATA")
systems = {}
every = int(sys.argv[1]) if len(sys.argv) > 1 else 4
if data:
    samples = read_300w(Path(data, "300w"), split="val")
    faces = [samples[i] for i in range(0, len(samples), every)]
    images = [np.asarray(Image.open(face.image).convert("RGB")) for face in faces]
    truth = np.stack([face.landmarks for face in faces])
    train = read_300w(Path(data, "300w"), split="train")
    some = [train[i] for i in range(0, len(train), 7 * every // 4)]
    profiles = ASMFitter(load_model("face68"), evidence="profiles")
    profiles.fit([face.image for face in some], np.stack([face.landmarks for face in some]))
    systems["profile search"] = lambda image, box: profiles.predict(image, boxes=box).shape
    print(f"{len(images)} images of 300-W val; profile search learned from {len(some)} of its training faces")
else:
    image, landmarks = astronaut()
    images, truth = [image] * 30, np.stack([landmarks] * 30)
    print("one image with 30 boxes and covers (set SHAPE_MODELS_DATA for 300-W, and for profile search)")

patches = load_model("search68")
network, hourglass = Predictor.from_pretrained("asmnet-68"), Predictor.from_pretrained("hourglass-68")
systems["regressed patches"] = lambda image, box: patches.predict(image, boxes=box).shape
systems["ASMNet"] = lambda image, box: network(image, box)[0].landmarks
systems["ASMNet + shape model"] = lambda image, box: network(image, box)[0].fitted
systems["heat maps"] = lambda image, box: hourglass(image, box)[0].landmarks
systems["heat maps + shape model"] = lambda image, box: hourglass(image, box)[0].fitted

# The same boxes for all: tight around the landmarks, each side off by up to 6 %. Covers: a grey square on the face.
boxes = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1)
side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
boxes += rng.uniform(-0.06, 0.06, size=boxes.shape) * side[:, None]
covered = []
for image, box, width in zip(images, boxes, side, strict=True):
    x, y = (box[:2] + rng.uniform(0.0, 0.55, size=2) * width).round().astype(int).clip(0)
    covered.append(image.copy())
    covered[-1][y : y + int(0.45 * width), x : x + int(0.45 * width)] = 110

found, means = {}, {}


def error(name, kind):
    """Return the error of each face, as a fraction of the distance of the outer eye corners."""
    return nme(truth, found[name, kind], normalizer="inter_ocular", scheme=IBUG68)


print(f"\n{'mean error, % of the eye distance':34s} plain  covered  processor time")
for name, system in systems.items():
    system(images[0], boxes[0])  # the first call compiles
    start = time.process_time()
    for kind, pictures in (("plain", images), ("covered", covered)):
        found[name, kind] = np.stack([system(p, b) for p, b in zip(pictures, boxes, strict=True)])
    seconds = (time.process_time() - start) / (2 * len(images))
    means[name] = [100 * np.mean(error(name, kind)) for kind in ("plain", "covered")]
    print(f"  {name:30s} {means[name][0]:6.2f} {means[name][1]:8.2f} {1000 * seconds:10.0f} ms")

n = len(systems)
colors = [plt.cm.tab10.colors[i] for i in (0, 1, 2, 3, 4, 9)[6 - n :]]  # the same with and without profile search
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=colors)
figure = plt.figure(figsize=(3.4 * n, 11.5), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1.35, 1])
axes = upper.subplots(2, n)
shown = 1
for row, (kind, pictures) in zip(axes, (("plain", images), ("covered", covered)), strict=True):
    for ax, (name, color) in zip(row, zip(systems, colors, strict=True), strict=True):
        shape = found[name, kind][shown]
        plot_shape(shape, ax, scheme=IBUG68, image=pictures[shown], color=color, size=6)
        ax.set_title(f"{name}: {100 * error(name, kind)[shown]:.1f} %", fontsize=13)
        middle, half = truth[shown].mean(axis=0), 0.75 * side[shown]
        ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] + half, middle[1] - half))
        ax.set_axis_off()
for ax, kind in zip(lower.subplots(1, 2), ("plain", "covered"), strict=True):
    plot_ced({name: error(name, kind) for name in systems}, ax=ax, threshold=0.15)
    ax.set_title(f"{kind} faces", fontsize=14)
rise = "; ".join(f"{name} {plain:.1f} to {hidden:.1f} %" for name, (plain, hidden) in list(means.items())[n - 5 :: 2])
figure.suptitle(f"What a cover costs, in mean error:\n{rise}", fontsize=14 if n < 6 else 17)
figure.savefig("asm_vs_cnn.png", dpi=100)
print("picture: asm_vs_cnn.png")
