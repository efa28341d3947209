"""How near the search comes on real images: every evidence on four sets, with intervals.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_search_accuracy.py [--sets imm,300w,hands,fly_wings]
        [--evidence patches,profiles,both,aam] [--starts 2] [--folds N] [--worst FOLDER]

Start: the mean shape in the true box (its middle in the middle of the tight box of the landmarks, longer sides equal),
moved by uniform +-10 % of the side, scaled by +-10 % and turned by +-10 degrees, seeded. Errors are the mean distance
of the landmarks in percent of the normaliser: the distance of the outer corners of the eyes (300w), of the middles of
the eyes' corners (imm), of two stated landmarks (hands: 0 and 55, the ends of the outline at the wrist; fly_wings: 1
and 11, a vein's end at the tip and one at the root). Intervals are 95 % of the bootstrap over images. `rank`:
correlation of the expected error with the true one; `most`: what it cannot exceed, see `ceiling`.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from skimage.io import imread

from shape_models import ASM, AlignedASM, generalized_procrustes, get_scheme, read_pts
from shape_models.search import AppearanceModel, ASMFitter, CombinedEvidence, Patches, Profiles

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", ""))


def _pts(path):
    return read_pts(path)


def _grey(path):
    image = imread(path)
    return image if image.ndim == 2 else np.round(image[..., :3] @ [0.2125, 0.7154, 0.0721]).astype(np.uint8)


def load_300w():
    images, shapes, groups, split = [], [], [], []
    with (DATA / "300w/split.csv").open() as file:
        for name, photograph, part in csv.reader(file):
            path = DATA / "300w" / name
            images.append(_grey(path))
            shapes.append(_pts(path.with_suffix(".pts")))
            groups.append(photograph)
            split.append(part == "val")
    split = np.array(split)
    return images, np.array(shapes), np.array(groups), [(~split, split)], "ibug68", (36, 45)


def load_imm():
    paths = sorted((DATA / "imm").glob("*.jpg"))
    groups = np.array([path.name[:2] for path in paths])
    shapes = np.array([_pts(path.with_suffix(".pts")) for path in paths])
    persons = np.unique(groups)
    which = np.searchsorted(persons, groups) % 6
    folds = [(which != f, which == f) for f in range(6)]
    return [_grey(p) for p in paths], shapes, groups, folds, "imm58", "eye_corners"


def load_hands():
    with np.load(DATA / "hands/landmarks.npz") as file:
        shapes, names = file["shapes"], [str(name) for name in file["images"]]
    groups = np.array([name[:3] for name in names])
    folds = [(groups != g, groups == g) for g in np.unique(groups)]
    return [_grey(DATA / "hands" / name) for name in names], shapes, groups, folds, None, (0, 55)


def load_fly_wings():
    shapes, names, rows = [], [], []
    for line in (DATA / "fly_wings/tps-example.tps").read_text().splitlines():
        if line.startswith("LM="):
            rows = []
        elif line.startswith("IMAGE="):
            names.append(line[6:].strip())
            shapes.append(rows)
        elif line[:1].isdigit():
            rows.append([float(v) for v in line.split()])
    images = [_grey(DATA / "fly_wings" / name) for name in names]
    shapes = np.array(shapes)
    shapes[..., 1] = np.array([image.shape[0] - 1 for image in images])[:, None] - shapes[..., 1]
    which = np.arange(len(images)) % 5
    return images, shapes, np.arange(len(images)), [(which != f, which == f) for f in range(5)], None, (1, 11)


LOADERS = {"imm": load_imm, "300w": load_300w, "hands": load_hands, "fly_wings": load_fly_wings}
EVIDENCE = {
    "profiles": lambda: Profiles(),
    "patches": lambda: Patches(),
    "both": lambda: CombinedEvidence([Patches(), Profiles()]),
    "aam": None,
}


def upright_mean(shapes):
    """The Procrustes mean, turned as the shapes stand."""
    mean = generalized_procrustes(shapes).mean
    z = lambda s: (s - s.mean(axis=-2, keepdims=True))[..., 0] + 1j * (s - s.mean(axis=-2, keepdims=True))[..., 1]  # noqa: E731
    turn = (z(mean).conj() * z(shapes)).sum(-1)
    turn = (turn / abs(turn)).mean()
    m = z(mean) * turn / abs(turn)
    return np.stack([m.real, m.imag], axis=-1)


def starts(mean, truth, rng):
    """The stated protocol."""
    low, high = truth.min(axis=1), truth.max(axis=1)
    side, center = (high - low).max(axis=1), 0.5 * (low + high)
    middle, size = 0.5 * (mean.min(0) + mean.max(0)), np.ptp(mean, axis=0).max()
    off = rng.uniform(-1, 1, size=(len(truth), 4))
    a = side / size * (1 + 0.1 * off[:, 2]) * np.exp(1j * np.radians(10) * off[:, 3])
    z = a[:, None] * ((mean - middle)[:, 0] + 1j * (mean - middle)[:, 1])
    return np.stack([z.real, z.imag], axis=-1) + (center + 0.1 * side[:, None] * off[:, :2])[:, None]


def errors(truth, shape, ends, scheme):
    if isinstance(ends, str):
        right, left = get_scheme(scheme).anchors[ends]
        scale = np.linalg.norm(truth[:, right].mean(1) - truth[:, left].mean(1), axis=-1)
    else:
        scale = np.linalg.norm(truth[:, ends[0]] - truth[:, ends[1]], axis=-1)
    return 100 * np.linalg.norm(truth - shape, axis=-1).mean(-1) / scale


def interval(values, statistic, rng, n=1000):
    draws = statistic(values[rng.integers(0, len(values), size=(n, len(values)))], axis=1)
    return np.quantile(draws, [0.025, 0.975])


def run(name, make, n_starts, n_train=None, n_folds=None):
    images, shapes, groups, folds, scheme, ends = LOADERS[name]()
    before, after, pairs, seconds, milliseconds = [], [], [], 0.0, []
    for train, test in folds[:n_folds]:
        rows = np.flatnonzero(train)[:: 1 if n_train is None else max(1, int(train.sum()) // n_train)]
        asm = AlignedASM(ASM(0.98), scheme=scheme)
        began = time.perf_counter()
        pictures = [images[i] for i in rows]
        if make is None:
            fitter = AppearanceModel(AlignedASM(ASM(0.95), scheme=scheme)).fit(pictures, shapes[rows])
        else:
            fitter = ASMFitter(asm, evidence=make()).fit(pictures, shapes[rows], groups=groups[rows])
        seconds += time.perf_counter() - began
        mean = upright_mean(shapes[rows])
        test = np.flatnonzero(test)
        rng = np.random.default_rng(0)
        for _ in range(n_starts):
            start = starts(mean, shapes[test], rng)
            pictures = [images[i] for i in test]
            began = time.perf_counter()
            results = fitter.predict(pictures, initial=start)
            milliseconds.append((time.perf_counter() - began) / len(test) * 1e3)
            before.append(errors(shapes[test], start, ends, scheme))
            after.append(errors(shapes[test], np.array([r.shape for r in results]), ends, scheme))
            pairs += list(zip(test, results, strict=True))
    return np.concatenate(before), np.concatenate(after), pairs, seconds, np.median(milliseconds), images, shapes, ends


def expectation(pairs, shapes):
    """Spearman's correlation of the expected error with the true one, and the ratio of their means, both in pixels."""
    expected = np.array([result.expected_error for _, result in pairs])
    error = np.array([np.linalg.norm(result.shape - shapes[i], axis=-1).mean() for i, result in pairs])
    scale = np.array([np.ptp(shapes[i], axis=0).max() for i, _ in pairs])
    return spearmanr(expected / scale, error / scale).statistic, expected.mean() / error.mean()


def ceiling(pairs, shapes, rng, n=50):
    """What rank correlation no expectation can exceed: the root of how well errors of half of the landmarks, by the
    formula of Spearman and Brown, agree with those of the other half. Where all answers are as good as the annotation,
    the error of an image is what happens to come of its few landmarks, and nothing in the image foretells it."""
    off = np.array([np.linalg.norm(result.shape - shapes[i], axis=-1) / np.ptp(shapes[i]) for i, result in pairs])
    off, half = off / off.mean(axis=0), off.shape[1] // 2
    order = [rng.permutation(off.shape[1]) for _ in range(n)]
    r = np.mean([spearmanr(off[:, o[:half]].mean(axis=1), off[:, o[half:]].mean(axis=1)).statistic for o in order])
    return np.sqrt(max(2 * r / (1 + r), 0.0))


def inside(pairs, shapes):
    """The percentage of true landmarks within the radius of 50, 80 and 95 %."""
    off = np.array([shapes[i] - result.shape for i, result in pairs])
    square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv([result.covariance for _, result in pairs]), off)
    return [100 * (square <= pairs[0][1].radius(level) ** 2).mean() for level in (0.5, 0.8, 0.95)]


def worst(pairs, after, images, shapes, path):
    """The ten worst fits: truth in green, answer in red, start in yellow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(20, 8.5))
    for axis, i in zip(axes.flat, np.argsort(-after)[:10], strict=False):
        index, result = pairs[i]
        axis.imshow(images[index], cmap="gray")
        axis.plot(*shapes[index].T, "g.", ms=3)
        axis.plot(*result.start.T, "y.", ms=1.5)
        axis.plot(*result.shape.T, "r.", ms=3)
        axis.set_title(f"{after[i]:.1f} %  conf. {result.confidence.mean():.2f}  {result.status}", fontsize=8)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", default="imm,300w,hands,fly_wings")
    parser.add_argument("--evidence", default="profiles,patches,both,aam")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--train", type=int, help="use about this many training images")
    parser.add_argument("--folds", type=int, help="only the first so many folds")
    parser.add_argument("--worst", type=Path, help="folder for pictures of the ten worst")
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    print(
        f"{'set':10} {'evidence':9} {'n':>4} {'start':>6} {'median [95 %]':>20} {'mean [95 %]':>20} {'90 %':>6} "
        f"{'of start':>8} {'worse':>6} {'train s':>8} {'ms/fit':>7} {'rank':>6} {'most':>5} {'ratio':>6} "
        f"{'in 50, 80, 95 %':>17}"
    )
    for name in arguments.sets.split(","):
        for kind in arguments.evidence.split(","):
            before, after, pairs, seconds, milliseconds, images, shapes, _ = run(
                name, EVIDENCE[kind], arguments.starts, arguments.train, arguments.folds
            )
            (rank, ratio), most = expectation(pairs, shapes), ceiling(pairs, shapes, np.random.default_rng(2))
            median, mean = interval(after, np.median, rng), interval(after, np.mean, rng)
            print(
                f"{name:10} {kind:9} {len(after):4d} {before.mean():6.1f} "
                f"{np.median(after):6.2f} [{median[0]:5.2f}, {median[1]:5.2f}] "
                f"{after.mean():6.2f} [{mean[0]:5.2f}, {mean[1]:5.2f}] {np.quantile(after, 0.9):6.2f} "
                f"{100 * np.median(after) / np.median(before):6.1f} % {100 * (after > before).mean():4.1f} % "
                f"{seconds:8.1f} {milliseconds:7.2f} {rank:6.2f} {most:5.2f} {ratio:6.2f} "
                + " ".join(f"{share:5.1f}" for share in inside(pairs, shapes)),
                flush=True,
            )
            if arguments.worst:
                arguments.worst.mkdir(parents=True, exist_ok=True)
                worst(pairs, after, images, shapes, arguments.worst / f"{name}-{kind}.png")


if __name__ == "__main__":
    main()
