"""Which of two models is better: noisy landmarks before and after a shape model, and how sure the answer is.

Look at the bands around the curves: they say how far another 300 faces could have moved them.
"""

import numpy as np
from matplotlib import pyplot as plt

from evaluation import compare, evaluate
from evaluation.plotting import plot_ced
from shape_models import AlignedASM, make_faces

rng = np.random.default_rng(0)
train, truth = make_faces(800, rng=1), make_faces(300, rng=2)
width = np.linalg.norm(truth[:, 45] - truth[:, 36], axis=-1)
noisy = truth + rng.normal(size=truth.shape) * 0.05 * width[:, None, None]

model = AlignedASM().fit(train)
before = evaluate(truth, noisy, "300w", name="noisy")
after = evaluate(truth, model.project(noisy), "300w", name="projected")

print(before, after, sep="\n\n")
print()
print(compare(after.errors, before.errors, names=("projected", "noisy")))
print()
print(after.landmark_table(by="group"))

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
plot_ced([before, after], ax=ax)
gain = 100 * (1 - after.errors.mean() / before.errors.mean())
ax.set_title(f"Projection takes {gain:.0f} % of the error away", fontsize=14)
figure.savefig("compare_two_models.png", dpi=120)
print("picture: compare_two_models.png")
