"""A search trained on fourteen large radiographs, and what it finds in one left out: nobody says where the teeth are.

    python tests/benchmarks/bench_radiographs.py [--images 14] [--left-out 14] [--evidence auto] [--starts N]
        [--memory]

The radiographs are drawn (see `radiographs`): about 3000 x 1600 pixels, 320 landmarks, eight teeth among sixteen. Each
is searched without a box by a search that was trained on the others. Errors are mean distances of the landmarks in
percent of the longer side of all of them, and the overlap of teeth with the true ones (Dice). ``--memory`` trains once
on all and prints the time of one core and the largest memory that the process ever held, images included.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from radiographs import PARTS, dice, radiograph
from skimage.io import imsave

from shape_models import Curve, LandmarkScheme
from shape_models.search import ASMFitter, PartsFitter

SCHEME = LandmarkScheme(
    "incisors", 320, groups=PARTS, curves=[Curve(rows.tolist(), closed=True, name=name) for name, rows in PARTS.items()]
)


def make(evidence):
    from shape_models import ASM, AlignedASM

    return PartsFitter(list(PARTS), whole=ASMFitter(AlignedASM(ASM(0.98), scheme=SCHEME), evidence=evidence))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=14)
    parser.add_argument("--left-out", type=int, default=14, help="how many of them are searched")
    parser.add_argument("--evidence", default="auto")
    parser.add_argument("--starts", type=int)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        shapes = np.empty((arguments.images, 320, 2))
        for i, seed in enumerate(np.random.default_rng(0).spawn(arguments.images)):
            image, shapes[i] = radiograph(seed)
            paths.append(Path(folder, f"{i:02d}.png"))
            imsave(paths[-1], image, check_contrast=False)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if arguments.memory:
            began = time.process_time()
            fitter = make(arguments.evidence).fit(paths, shapes)
            seconds = time.process_time() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"training on {len(paths)} images: {seconds:.0f} s of one core, at most {peak:.0f} MB "
                f"({held:.0f} MB before)"
            )
            print("whole:", fitter.whole_.evidence_)
            return
        rows = []
        for i in range(min(arguments.left_out, len(paths))):
            others = [j for j in range(len(paths)) if j != i]
            fitter = make(arguments.evidence).fit([paths[j] for j in others], shapes[others])
            began = time.perf_counter()
            found = fitter.predict(paths[i], n_starts=arguments.starts)
            seconds = time.perf_counter() - began
            whole = fitter.whole_.predict(paths[i], n_starts=arguments.starts)
            size = np.ptp(shapes[i], axis=0).max()
            rows.append(
                [100 * np.linalg.norm(r.shape - shapes[i], axis=1).mean() / size for r in (whole, found)]
                + [np.mean([dice(r.shape[p], shapes[i][p]) for p in PARTS.values()]) for r in (whole, found)]
                + [100 * found.expected_error / size, seconds]
            )
            whole, parts, before, after, expected, seconds = rows[-1]
            print(
                f"{paths[i].stem}: whole {whole:.2f} %, parts {parts:.2f} %, expected {expected:.2f} %, "
                f"Dice {before:.3f} and {after:.3f}, {seconds:.1f} s",
                flush=True,
            )
        mean, median = np.mean(rows, axis=0), np.median(rows, axis=0)
        for name, values in (("mean", mean), ("median", median)):
            print(f"{name}: whole {values[0]:.2f} %, parts {values[1]:.2f} %, Dice {values[2]:.3f} and {values[3]:.3f}")


if __name__ == "__main__":
    main()
