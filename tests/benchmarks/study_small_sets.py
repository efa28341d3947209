"""What a prior for few shapes is worth, on small sets of real landmarks: new shapes, described and completed.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/study_small_sets.py [--train 12] [--draws 20]

Each draw fits on a few shapes of a set and judges on all others. A new shape is projected with all of its landmarks,
and completed with every third landmark hidden, all thirds in turn. Errors are mean distances in percent of the centroid
size. Intervals are 95 % of the bootstrap over draws; differences are paired. "Beyond" is the fraction of new shapes
whose plausibility is below 0.05, which is 5 % for a model that is honest about what it has not seen.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from evaluation import bootstrap_interval
from shape_models import ASM, AlignedASM, centroid_size, fit_with_kernel

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", ""))
SETS = ("macaque_skulls_3d", "gorilla_skulls", "plethodon", "hummingbirds", "digit3")
PRIORS = {
    "plain": lambda shapes: AlignedASM(ASM(0.95)).fit(shapes),
    "shrunk": lambda shapes: AlignedASM(ASM(0.95, shrinkage="ledoit_wolf")).fit(shapes),
    "smooth": fit_with_kernel,
}


def judge(model, new):
    """Return the error of new shapes, that of their hidden landmarks, and the fraction of them that is not believed."""
    size = centroid_size(new)[:, None]
    described = np.linalg.norm(model.project(new) - new, axis=-1) / size
    completed = np.empty(new.shape[:2])
    for third in range(3):
        hidden = np.arange(new.shape[1]) % 3 == third
        completed[:, hidden] = np.linalg.norm(
            (model.complete(np.where(hidden[:, None], np.nan, new)).shapes - new)[:, hidden], axis=-1
        )
    plausibility = model.asm_.report(model.align(new)[0]).plausibility
    return 100 * described.mean(), 100 * (completed / size).mean(), 100 * np.mean(plausibility < 0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=12)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    print(f"{'set':18s} {'prior':8s} {'described':>10s} {'completed':>10s} {'less plain, paired':>22s} {'beyond':>8s}")
    for name in SETS:
        shapes = np.load(DATA / "landmarks" / f"{name}.npz")["shapes"]
        rng, found = np.random.default_rng(0), {prior: [] for prior in PRIORS}
        for _ in range(options.draws):
            order = rng.permutation(len(shapes))
            few, new = shapes[order[: options.train]], shapes[order[options.train :]]
            for prior, fit in PRIORS.items():
                found[prior].append(judge(fit(few), new))
        values = {prior: np.array(rows) for prior, rows in found.items()}
        for prior, rows in values.items():
            described, completed, beyond = rows.mean(axis=0)
            gain = bootstrap_interval(rows[:, 1] - values["plain"][:, 1], rng=0)
            text = "" if prior == "plain" else f"{gain.estimate:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
            print(f"{name:18s} {prior:8s} {described:8.2f} % {completed:8.2f} % {text:>22s} {beyond:6.0f} %")


if __name__ == "__main__":
    main()
