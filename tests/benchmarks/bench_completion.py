"""How well hidden landmarks are completed on small sets, by the mean, by few modes, by OAS shrinkage and by default.

    SHAPE_MODELS_DATA=... python tests/benchmarks/bench_completion.py

Each of five folds is kept from the fit in turn; one to three landmarks of each of its shapes are hidden before anything
is estimated, so that pose and shape come from the seen ones alone. Root mean square distance of the hidden landmarks in
per cent of the centroid size.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shape_models import ASM, AlignedASM, centroid_size, estimate_similarity
from shape_models.datasets import load_landmarks

SETS = (
    "ape_skulls",
    "gorilla_skulls",
    "macaque_skulls_3d",
    "bones_3d",
    "digit3",
    "plethodon",
    "hummingbirds",
    "fly_wings",
    "hands",
)


def read(name: str) -> np.ndarray:
    """Return the shapes of a set."""
    data = Path(os.environ["SHAPE_MODELS_DATA"])
    if name == "fly_wings":
        return np.asarray(load_landmarks(next((data / name).glob("*.tps"))).shapes())
    file = data / "hands" / "landmarks.npz" if name == "hands" else data / "landmarks" / f"{name}.npz"
    with np.load(file) as arrays:
        return arrays["shapes"].astype(float)


def few_modes(asm: ASM, shapes: np.ndarray) -> AlignedASM:
    """Fit, and complete by the modes of the model itself."""
    model = AlignedASM(asm).fit(shapes)
    model.asm_.covariance_ = None
    return model


def main() -> None:
    """Print a row for each set."""
    methods = {
        "ASM(0.95) modes": lambda shapes: few_modes(ASM(0.95), shapes),
        "all modes, OAS": lambda shapes: few_modes(ASM(None, shrinkage="oas"), shapes),
        "default": lambda shapes: AlignedASM(ASM(0.95)).fit(shapes),
    }
    print(f"{'set':<20}{'n':>5}{'pasted mean':>18}" + "".join(f"{name:>18}" for name in methods))
    for name in SETS:
        shapes = read(name)
        rng = np.random.default_rng(0)
        fold = rng.permutation(np.arange(len(shapes)) % 5)
        seen = np.ones(shapes.shape[:2], bool)
        for row in seen:
            row[rng.choice(len(row), rng.integers(1, 4), replace=False)] = False
        holed = np.where(seen[..., None], shapes, np.nan)
        found = {method: np.empty_like(shapes) for method in ("pasted mean", *methods)}
        for k in range(5):
            rows = np.flatnonzero(fold == k)
            for method, make in methods.items():
                model = make(shapes[fold != k])
                found[method][rows] = model.complete(holed[rows]).shapes
            mean = model.alignment_.mean_shape_
            for i in rows:
                found["pasted mean"][i] = estimate_similarity(mean[seen[i]], shapes[i][seen[i]])(mean)
        hidden = ~seen
        size = np.asarray(centroid_size(shapes))[:, None]
        errors = [
            100 * np.sqrt(np.mean((np.linalg.norm(answer - shapes, axis=-1) / size)[hidden] ** 2))
            for answer in found.values()
        ]
        print(f"{name:<20}{len(shapes):>5}" + "".join(f"{error:>18.2f}" for error in errors), flush=True)


if __name__ == "__main__":
    main()
