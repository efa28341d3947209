"""What the shape model does for five published detectors on faces with occlusions, by cross-validation.

Run: SHAPE_MODELS_DATA=/path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/study_detectors.py

The 254 faces are every second one of the COFW test set with 68 landmarks (Ghiasi and Fowlkes, Occlusion Coherence,
arXiv 1506.08347), with the outputs and the occlusion flags of the detectors. Errors are in percent of the distance of
the outer corners of the eyes. What is learned of a detector (`shape_models.point_errors`) is learned on the faces of
four folds and judged on the fifth; the number of prior examples is chosen by cross-validation within the four.
Differences are paired, with 95 % bootstrap intervals over faces. Two rows are oracles: the same with the true flags
instead of the detector's, and the completion of the detector's landmarks that are truly seen.
"""

import os
from pathlib import Path

import numpy as np

from evaluation import compare
from shape_models import fit_shape, load_model
from shape_models.point_errors import learn_point_errors

DETECTORS = {"cfss": "CFSS", "hpm": "HPM", "rcpr_occ": "RCPR", "sapm": "SAPM", "tcdcn": "TCDCN"}
PRIORS = (5.0, 20.0, 80.0)
N_FOLDS = 5


def read_detectors(path):
    """Return the truth, which landmarks are hidden, and for each detector its landmarks and its flags."""
    with np.load(path) as file:
        truth, hidden = file["shapes"].astype(float), file["occluded"]
        found = {
            name: (file[f"detector_{key}"].astype(float), file[f"occluded_{key}"]) for key, name in DETECTORS.items()
        }
    return truth, hidden, found


def point_errors(points, truth):
    return np.linalg.norm(points - truth, axis=2) / np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)[:, None]


def repaired(model, truth, points, flags, train, test, prior):
    errors = learn_point_errors(model, truth[train], points[train], occluded=flags[train], prior_count=prior)
    return np.asarray(errors.fit(points[test], occluded=flags[test]).shapes)


def choose(model, truth, points, flags, train):
    """Return the prior with the least error within the training faces."""
    fold = np.arange(len(train)) % 4
    scores = []
    for prior in PRIORS:
        parts = []
        for k in range(4):
            inside, outside = train[fold != k], train[fold == k]
            shapes = repaired(model, truth, points, flags, inside, outside, prior)
            parts.append(point_errors(shapes, truth[outside]).mean())
        scores.append(np.mean(parts))
    return PRIORS[int(np.argmin(scores))]


def cross_validated(model, truth, points, flags, seed=0):
    fold = np.random.default_rng(seed).permutation(len(truth)) % N_FOLDS
    shapes, chosen = np.empty_like(points), []
    for k in range(N_FOLDS):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        chosen.append(choose(model, truth, points, flags, train))
        shapes[test] = repaired(model, truth, points, flags, train, test, chosen[-1])
    return shapes, chosen


def oracles(model, truth, points, hidden):
    """Return what the shapes are when somebody tells which landmarks are hidden."""
    told, _ = cross_validated(model, truth, points, hidden)
    return {
        "true flags": told,
        "seen, completed": fit_shape(model, np.where(hidden[..., None], np.nan, points)).completed,
    }


def of_faces(errors, use):
    """Mean over the landmarks in use of each face; faces without one are left out."""
    some = use.any(axis=1)
    return np.where(use, errors, 0.0).sum(axis=1)[some] / use.sum(axis=1)[some]


def main():
    data = Path(os.environ["SHAPE_MODELS_DATA"]) / "landmarks/cofw68_detectors.npz"
    truth, hidden, found = read_detectors(data)
    model = load_model("face68")
    everything = np.ones_like(hidden)
    print(f"{len(truth)} faces, {100 * hidden.mean():.1f} % of the landmarks hidden; percent of the eye distance")
    for name, (points, flags) in found.items():
        shapes, chosen = cross_validated(model, truth, points, flags)
        plain = np.asarray(fit_shape(model, points).shapes)
        raw, fitted, better = (point_errors(x, truth) for x in (points, plain, shapes))
        print(f"\n{name}: flags on {100 * flags.mean():.1f} % of the landmarks, prior examples {chosen}")
        for label, use in (("all", everything), ("hidden", hidden), ("seen", ~hidden)):
            result = compare(of_faces(better, use), of_faces(raw, use), names=("repaired", "detector"))
            print(
                f"  {label:7s} points: detector {100 * raw[use].mean():.2f}, fit alone {100 * fitted[use].mean():.2f}, "
                f"errors learned {100 * better[use].mean():.2f}; by faces {result.difference.scaled(100):.2f}"
            )
        for label, known in oracles(model, truth, points, hidden).items():
            errors = point_errors(known, truth)
            parts = [
                f"{name} {100 * errors[use].mean():.2f}" for name, use in (("all", everything), ("hidden", hidden))
            ]
            print(f"  oracle, {label}: {', '.join(parts)}")
    known = point_errors(model.complete(np.where(hidden[..., None], np.nan, truth)).shapes, truth)
    print(f"\noracle, true landmarks that are seen, completed: hidden {100 * known[hidden].mean():.2f}")


if __name__ == "__main__":
    main()
