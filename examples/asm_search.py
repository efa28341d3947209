"""Active shape model search, step by step: from a box that is off to 68 landmarks.

In each step every landmark asks its surroundings where it should go, and the shape model answers with the nearest
plausible face, so that no landmark gets lost on its own. It runs from a coarse image to a fine one. Look at the film,
asm_search.gif, and at the lower row of asm_search.png: that box is too far off, the search ends in a wrong place, and
the result says so by its score and plausibility.
"""

import numpy as np
from _common import astronaut
from matplotlib import pyplot as plt

from shape_models import IBUG68, load_model
from shape_models.plotting import AFTER, BEFORE, plot_shape
from shape_models.search import animate_trace

image, truth = astronaut()
fitter = load_model("search68")  # learned from 1750 images
eyes = np.linalg.norm(truth[45] - truth[36])


def error(shape):
    """Return the mean distance to the annotated face in % of the eye distance."""
    return 100 * np.linalg.norm(shape - truth, axis=1).mean() / eyes


found = fitter.predict(image)  # by itself: detect_faces says where the face is
print(f"face detected: {found.status}, {error(found.shape):.1f} % of the eye distance off")

tight = np.concatenate([truth.min(axis=0), truth.max(axis=0)])
shifts = {"a bad box": [-12, 10, -4, 18], "a box too far off": [-20, 12, -8, 24]}  # of x0, y0, x1, y1, in pixels
results = {name: fitter.predict(image, boxes=tight + shift) for name, shift in shifts.items()}

figure, axes = plt.subplots(2, 4, figsize=(14, 7.7), layout="constrained")
for row, (name, result) in zip(axes, results.items(), strict=True):
    errors = [error(result.start), *(error(step.shape) for step in result.trace)]
    verdict = f"score {result.score:.2f}, plausibility {result.plausibility:.2f}"
    print(f"from {name}: {verdict}; errors {', '.join(f'{e:.1f}' for e in errors)} % of the eye distance")
    first = result.trace[0]
    panels = [
        (f"{name}: {errors[0]:.0f} % off", result.start, BEFORE),
        (f"step 1: {errors[1]:.0f} % off", first.shape, AFTER),
        (f"step {len(result.trace)}: {errors[-1]:.1f} % off", result.shape, AFTER),
    ]
    for ax, (title, shape, color) in zip(row, panels, strict=False):
        plot_shape(shape, ax, scheme=IBUG68, image=image, color=color, size=6)
        ax.set(xlim=(15, 190), ylim=(195, 30))
        ax.set_title(title, fontsize=13)
        ax.set_axis_off()
    row[1].scatter(*first.proposed.T, marker="x", s=18, color="white", linewidth=1, label="where landmarks want to go")
    row[1].legend(loc="lower center", fontsize=9)
    curve = row[3]
    curve.plot(errors, color=AFTER, marker="o")
    curve.plot(0, errors[0], color=BEFORE, marker="o")
    for i in range(1, len(result.trace)):
        if result.trace[i].level != result.trace[i - 1].level:
            curve.axvline(i + 0.5, color="0.8", linewidth=1)
    curve.set(xlabel="step (lines: to a finer level)", ylabel="error, % of the eye distance", ylim=(0, 42))
    curve.spines[["top", "right"]].set_visible(False)
    curve.set_title(verdict, fontsize=13)
figure.suptitle("The search finds the face from a box that is off, and says when it was too far off", fontsize=17)
figure.savefig("asm_search.png", dpi=110)
animate_trace(results["a bad box"], image, "asm_search.gif", scheme=IBUG68)
print("pictures: asm_search.png, asm_search.gif")
