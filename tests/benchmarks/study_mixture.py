"""Whether a mixture of Gaussians completes and cleans faces from all sides better than one Gaussian does.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/study_mixture.py [--n-train 500] [--draws 3]

Faces of AFLW2000-3D (their 68 landmarks in the plane) and of WFLW, superimposed on the mean of those drawn for
training. The mixture has means of its own and a common covariance, shrunk by cross-validation like that of the one
Gaussian, and as many components up to eight as make training faces left out most likely. Others (300) lose landmarks
and are completed by the Gaussian of the most probable component, in the pose in which the completed shape lies on the
mean; in the last column all landmarks have noise of 1 % of the centroid size. Errors in that pose, in
percent of the centroid size of the mean, means over the draws: shapes unlike the mean, such as profiles, are smaller
there than the mean, and in percent of their own centroid size errors are larger (of the jaw in AFLW2000-3D 0.44).
"""

import argparse
import os
from pathlib import Path

import numpy as np
from sklearn.covariance import ShrunkCovariance
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score

from shape_models import estimate_similarity, generalized_procrustes

FREE = 1.0  # variance of the pose, in squared centroid sizes: what is seen decides it together with the shape
TURNS = 15  # of the frame, until the completed shape lies on the mean
SETS = {"AFLW2000-3D": "aflw2000_3d68", "WFLW": "wflw_test_68"}
HIDDEN = {
    "jaw": np.arange(17),
    "mouth": np.arange(48, 68),
    "eyes": np.arange(36, 48),
    "every other": np.arange(0, 68, 2),
}


def gaussians(shapes, n_components):
    """Return weights, means and the common covariance of superimposed shapes; the number is chosen where None."""
    flat = shapes.reshape(len(shapes), -1)
    scores = PCA(0.98, random_state=0).fit_transform(flat)

    def mixture(n):
        return GaussianMixture(n, covariance_type="tied", n_init=4, random_state=0)

    if n_components is None:
        n_components = max(range(1, 9), key=lambda n: cross_val_score(mixture(n), scores, cv=5).mean())
    belongs = mixture(n_components).fit(scores).predict_proba(scores)
    means = (belongs.T @ flat) / belongs.sum(0)[:, None]
    shrunk = GridSearchCV(ShrunkCovariance(assume_centered=True), {"shrinkage": 10.0 ** np.arange(-6, 0)})
    covariance = shrunk.fit(flat - belongs @ means).best_estimator_.covariance_
    return belongs.mean(0), means, covariance + FREE * pose_directions(shapes.mean(axis=0))


def pose_directions(mean):
    """Return the projector on how small moves, turns and changes of size of the mean change its coordinates."""
    turned = (mean - mean.mean(axis=0)) @ [[0, 1], [-1, 0]]
    moves = [np.ones_like(mean) * [1, 0], np.ones_like(mean) * [0, 1], mean - mean.mean(axis=0), turned]
    rows = np.stack([move.ravel() / np.linalg.norm(move) for move in moves])
    return rows.T @ rows


def most_probable(weights, means, covariance, points, seen, noise):
    """Return the expected coordinates given those seen, by the most probable component."""
    inner = covariance[np.ix_(seen, seen)] + noise * np.eye(seen.sum())
    precision = np.linalg.inv(inner)
    apart = points[:, None, seen] - means[:, seen]
    near = means[np.argmax(np.log(weights) - 0.5 * np.einsum("nci,ij,ncj->nc", apart, precision, apart), axis=1)]
    return near + (points - near)[:, seen] @ precision @ covariance[seen]


def errors(model, mean, shapes, rng):
    """Errors of completed landmarks, and of all after noise."""
    size = np.linalg.norm(mean)
    for hidden in (*HIDDEN.values(), None):
        seen = np.ones(68, dtype=bool)
        noise = 0.0
        if hidden is None:
            noise = 0.01 / np.sqrt(2)
            scale = noise * np.linalg.norm(shapes - shapes.mean(axis=1, keepdims=True), axis=(1, 2))
            points = shapes + scale[:, None, None] * rng.normal(size=shapes.shape)
        else:
            seen[hidden], points = False, shapes
        pose = estimate_similarity(points, mean, weights=seen.astype(float))
        for _ in range(TURNS):
            flat = pose(points).reshape(len(points), -1)
            guess = most_probable(*model, flat, np.repeat(seen, 2), (noise * size) ** 2).reshape(points.shape)
            whole = guess if hidden is None else np.where(seen[:, None], pose(points), guess)
            pose = estimate_similarity(whole, mean) @ pose
        off = np.linalg.norm(guess - pose(shapes), axis=-1)
        yield 100 * (off[:, ~seen] if hidden is not None else off).mean() / size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n-train", type=int, default=500)
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'set':12} {'':12} " + " ".join(f"{name:>12}" for name in (*HIDDEN, "noise of 1 %")))
    for name, file in SETS.items():
        with np.load(Path(os.environ["SHAPE_MODELS_DATA"], "landmarks", f"{file}.npz")) as archive:
            shapes = archive["shapes"][..., :2].astype(float)
        rows = {"one Gaussian": [], "mixture": []}
        for draw in range(arguments.draws):
            order = np.random.default_rng(draw).permutation(len(shapes))
            found = generalized_procrustes(shapes[order[: arguments.n_train]])
            for row, n_components in (("one Gaussian", 1), ("mixture", None)):
                model = gaussians(found.aligned, n_components)
                rng = np.random.default_rng(draw)
                rows[row].append([*errors(model, found.mean, shapes[order[-300:]], rng)])
        for row, values in rows.items():
            print(f"{name:12} {row:12} " + " ".join(f"{value:12.3f}" for value in np.mean(values, axis=0)), flush=True)


if __name__ == "__main__":
    main()
