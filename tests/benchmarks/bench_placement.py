"""The search without boxes beside the search in the true boxes: hands, fly wings, portraits, each on images left out.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_placement.py [--sets hands,fly_wings,imm]
        [--evidence patches,profiles] [--folds N] [--images N]

Both searches are those of one trained `ASMFitter`, in images as they are; "moved": pasted anywhere into a canvas of
1.5 times the width and height; "turned": so, turned by any angle and scaled by 0.7 to 1.3 (then the search to compare
with starts in the true pose). "near" is the fraction of images whose error without a box is at most 10 % above that
from the true one, or above by at most 0.1 % of the size of the object, which is less than annotators agree on;
"by chance" is that fraction for true boxes whose corners are moved by up to 2 % of the size: what two searches of the
same object agree on. "lost" is the fraction with an error above 10 % of the size (the longer side of the box).
"""

import argparse
import time

import numpy as np
from bench_search_accuracy import EVIDENCE, LOADERS
from skimage.transform import SimilarityTransform, warp

from shape_models import ASM, AlignedASM
from shape_models.search import ASMFitter

CANVAS = 1.5


def boxes_of(shapes):
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


def placed(image, shape, rng, turned):
    """Paste an image anywhere into a larger one, turned and scaled if so wished."""
    height, width = image.shape
    size = np.array([width, height]) * CANVAS
    angle, scale = (rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1.3)) if turned else (0.0, 1.0)
    to = SimilarityTransform(translation=-shape.mean(axis=0)) + SimilarityTransform(scale=scale, rotation=angle)
    extent = np.abs(to(shape)).max(axis=0)
    place = rng.uniform(extent, size - extent) if (2 * extent < size).all() else size / 2
    to = to + SimilarityTransform(translation=place)
    around = float(np.median(image)) / 255
    out = warp(image, to.inverse, output_shape=size.astype(int)[::-1], order=1, mode="constant", cval=around)
    return np.round(255 * out).astype(np.uint8), to(shape)


def run(name, evidence, n_folds=None, n_images=None):
    images, shapes, groups, folds, scheme, _ = LOADERS[name]()
    rows = {}
    for train, test in folds[:n_folds]:
        train, test = np.flatnonzero(train), np.flatnonzero(test)[:n_images]
        fitter = ASMFitter(AlignedASM(ASM(0.98), scheme=scheme), evidence=EVIDENCE[evidence]())
        fitter.fit([images[i] for i in train], shapes[train], groups=groups[train])
        rng = np.random.default_rng(0)
        for mode in ("as it is", "moved", "turned"):
            pairs = [(images[i], shapes[i]) for i in test]
            if mode != "as it is":
                pairs = [placed(*pair, rng, mode == "turned") for pair in pairs]
            seen, truth = [image for image, _ in pairs], np.array([shape for _, shape in pairs])
            size = np.ptp(truth, axis=1).max(axis=-1)
            boxes = boxes_of(truth)
            if mode == "turned":
                start = fitter._frame.pose_of(truth)(np.broadcast_to(fitter._frame.mean, truth.shape))
                known = chance = fitter.predict(seen, initial=start)
            else:
                known = fitter.predict(seen, boxes=boxes)
                chance = fitter.predict(seen, boxes=boxes + rng.uniform(-0.02, 0.02, boxes.shape) * size[:, None])
            began = time.process_time()
            found = fitter.predict(seen)
            seconds = (time.process_time() - began) / len(test)
            errors = [
                100
                * np.array([np.linalg.norm(a.shape - s, axis=1).mean() for a, s in zip(r, truth, strict=True)])
                / size
                for r in (known, chance, found)
            ]
            rows.setdefault(mode, []).append(np.array([*errors, np.full(len(test), seconds)]))
    return {mode: np.concatenate(parts, axis=1) for mode, parts in rows.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="hands,fly_wings,imm")
    parser.add_argument("--evidence", default="patches,profiles")
    parser.add_argument("--folds", type=int, help="only the first so many folds")
    parser.add_argument("--images", type=int, help="only so many images of each fold")
    arguments = parser.parse_args()
    print(
        f"{'set':10} {'evidence':9} {'images':9} {'n':>4} {'true boxes':>10} {'without':>8} {'near':>6} "
        f"{'by chance':>9} {'lost':>6} {'s/image':>8}"
    )
    for name in arguments.sets.split(","):
        for evidence in arguments.evidence.split(","):
            for mode, (known, chance, found, seconds) in run(name, evidence, arguments.folds, arguments.images).items():
                limit = np.maximum(1.1 * known, known + 0.1)
                print(
                    f"{name:10} {evidence:9} {mode:9} {len(found):4d} {known.mean():8.2f} % {found.mean():6.2f} % "
                    f"{100 * (found <= limit).mean():4.0f} % {100 * (chance <= limit).mean():7.0f} % "
                    f"{100 * (found > 10).mean():4.0f} % {seconds.mean():8.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
