"""The search without boxes beside the search in the true boxes: hands, fly wings, portraits, each on images left out.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_placement.py [--sets hands,fly_wings,imm]
        [--evidence patches,profiles] [--folds N]

Both searches are those of one trained `ASMFitter`. "near" is the share of images whose error without a box is at most
10 % above that in the true box, or above by at most 0.1 % of the size of the object, which is less than annotators
agree on; "lost" is the share with an error above 10 % of the size (the longer side of the box).
"""

import argparse
import time

import numpy as np
from bench_search_accuracy import EVIDENCE, LOADERS

from shape_models import ASM, AlignedASM
from shape_models.search import ASMFitter


def boxes_of(shapes):
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


def run(name, evidence, n_folds=None):
    images, shapes, groups, folds, scheme, _ = LOADERS[name]()
    errors, seconds = [], 0.0
    for train, test in folds[:n_folds]:
        train, test = np.flatnonzero(train), np.flatnonzero(test)
        fitter = ASMFitter(AlignedASM(ASM(0.98), scheme=scheme), evidence=EVIDENCE[evidence]())
        fitter.fit([images[i] for i in train], shapes[train], groups=groups[train])
        pictures = [images[i] for i in test]
        size = np.ptp(shapes[test], axis=1).max(axis=-1)
        known = fitter.predict(pictures, boxes=boxes_of(shapes[test]))
        began = time.perf_counter()
        found = fitter.predict(pictures)
        seconds += time.perf_counter() - began
        for answers in (known, found):
            off = [np.linalg.norm(a.shape - s, axis=1).mean() for a, s in zip(answers, shapes[test], strict=True)]
            errors.append(100 * np.array(off) / size)
    known, found = np.concatenate(errors[::2]), np.concatenate(errors[1::2])
    return known, found, seconds / len(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="hands,fly_wings,imm")
    parser.add_argument("--evidence", default="patches,profiles")
    parser.add_argument("--folds", type=int, help="only the first so many folds")
    arguments = parser.parse_args()
    print(
        f"{'set':10} {'evidence':9} {'n':>4} {'true boxes':>10} {'without':>8} {'near':>6} {'lost':>6} "
        f"{'within 10 %':>11} {'s/image':>8}"
    )
    for name in arguments.sets.split(","):
        for evidence in arguments.evidence.split(","):
            known, found, seconds = run(name, evidence, arguments.folds)
            strict = 100 * (found <= 1.1 * known).mean()
            near = 100 * (found <= np.maximum(1.1 * known, known + 0.1)).mean()
            print(
                f"{name:10} {evidence:9} {len(found):4d} {known.mean():8.2f} % {found.mean():6.2f} % {near:4.0f} % "
                f"{100 * (found > 10).mean():4.0f} % {strict:9.0f} % {seconds:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
