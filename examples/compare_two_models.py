"""Which of two models is better, how sure is it, and where: noisy landmarks before and after a shape model."""

import numpy as np

from evaluation import compare, evaluate
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
