"""How fast `fit_shape` is, and whether what it and `complete` say of their errors is true.

    SHAPE_MODELS_DATA=... python tests/benchmarks/bench_fit_shape.py [speed|calibration] [--plot FILE]

Times are of one core, the least of repeats, and as multiples of a naive projection (two matrix products and a clip) in
the same process. The calibration is that of the 300-W validation faces under a model of the training faces alone: the
share of true landmarks inside the ellipses of 50, 80 and 95 %, once of the Gaussian, once of ``radius(level)``; and
the rank correlation of the expected with the true error of a face.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from oracles import project_vectorised

from shape_models import ASM, AlignedASM, fit_shape, load_model, make_faces
from shape_models.datasets import read_300w

LEVELS = (0.5, 0.8, 0.95)
PARTS = {
    "mouth": np.arange(48, 68),
    "jaw": np.arange(17),
    "one side": np.r_[0:8, 17:22, 31:33, 36:42, 48, 59, 60],
}


def least(call: Callable[[], Any], n_calls: int) -> float:
    """Return the least processor time of a call."""
    call()
    times = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(n_calls):
            call()
        times.append((time.process_time() - start) / n_calls)
    return min(times)


def speed() -> None:
    """Print times of one face and of many, for the bundled model and for one just fitted."""
    rng = np.random.default_rng(0)
    faces = make_faces(1000, rng=0)
    points = faces + rng.normal(size=faces.shape)
    jaw, holes = points.copy(), np.where((rng.random((1000, 68)) > 0.2)[..., None], points, np.nan)
    jaw[:, :17] = np.nan
    known = rng.uniform(0.5, 4.0, size=68)
    for name, model in (("face68", load_model("face68")), ("fitted", AlignedASM(ASM(0.95)).fit(faces[:300]))):
        basis, inside = model.asm_.basis_, model.align(points)[0]
        arrays = (basis.mean, basis.components, basis.variances)
        inner = np.where(np.isnan(holes), np.nan, inside)
        rows: dict[str, tuple[Callable[[Any], Any], Any]] = {
            "project": (model.project, points),
            "project, tukey": (lambda x, m=model: m.project(x, loss="tukey"), points),
            "complete, jaw hidden": (model.complete, jaw),
            "complete, a mask each": (model.complete, holes),
            "complete, covariances": (lambda x, m=model: m.complete(x, covariance=known), jaw),
            "fit_shape": (lambda x, m=model: fit_shape(m, x), points),
            "fit_shape, confidence": (lambda x, m=model: fit_shape(m, x, confidence=known / 4), points),
            "fit_shape, covariances": (lambda x, m=model: fit_shape(m, x, covariance=known), points),
            "fit_shape, no prior": (lambda x, m=model: fit_shape(m, x, covariance=known, prior=False), points),
            "basis.complete, a mask each": (basis.complete, inner),
            "completion_basis_.complete": (model.asm_.complete, inner),
        }
        naive = least(lambda a=arrays, x=inside: project_vectorised(x, *a), 3) / len(inside)
        print(f"{name}: naive projection {1e6 * naive:.2f} us a shape")
        for what, (call, x) in rows.items():
            one, many = least(lambda c=call, x=x: c(x[0]), 10), least(lambda c=call, x=x: c(x[:300]), 1) / 300
            print(f"  {what:30s} one {1e6 * one:8.1f} us, a batch {1e6 * many:7.2f} us ({many / naive:5.1f} x)")


def coverage(record: Any, truth: np.ndarray, which: np.ndarray, points: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Return the shares inside of the Gaussian ellipses, and those of ``radius`` for many levels."""
    off = (record.shapes - truth)[which]
    square = np.einsum("ni,nij,nj->n", off, np.linalg.inv(record.covariance[which]), off)
    gaussian = [float(np.mean(square <= -2 * np.log(1 - level))) for level in LEVELS]
    return gaussian, np.array([np.mean(np.sqrt(square) <= record.radius(level)[which]) for level in points])


def calibration(plot: str | None) -> None:
    """Print shares of true landmarks inside of their ellipses, and draw them."""
    data = os.environ["SHAPE_MODELS_DATA"] + "/300w"
    train, val = (read_300w(data, split=split).shapes() for split in ("train", "val"))
    model = AlignedASM(ASM(0.98), scheme="ibug68").fit(train)
    rng = np.random.default_rng(0)
    eyes = np.linalg.norm(val[:, 36] - val[:, 45], axis=1)
    grid = np.linspace(0.05, 0.99, 48)
    curves: dict[str, np.ndarray] = {}

    def row(name: str, record: Any, which: np.ndarray, more: str = "") -> None:
        gaussian, curves[name] = coverage(record, val, which, grid)
        ours = np.interp(LEVELS, grid, curves[name])
        shares = " ".join(f"{100 * a:5.1f}" for a in gaussian), " ".join(f"{100 * a:5.1f}" for a in ours)
        print(f"  {name:26s} Gaussian {shares[0]}   radius {shares[1]}{more}")

    print("share of true landmarks inside of the ellipses of 50, 80, 95 %")
    for name in (*PARTS, "random half"):
        hidden = np.zeros(val.shape[:2], dtype=bool)
        for line in hidden:
            line[PARTS[name] if name in PARTS else rng.choice(68, 34, replace=False)] = True
        holed = np.where(hidden[..., None], np.nan, val)
        record = model.complete(holed)
        fit = fit_shape(model, holed)
        error = np.linalg.norm(fit.completed - val, axis=-1).sum(axis=1) / hidden.sum(axis=1)
        rank = spearmanr(fit.expected_error / eyes, error / eyes)[0]
        row(f"{name} hidden", record, hidden, f"   rank correlation of the error a face {rank:.2f}")
    for share in (0.005, 0.01, 0.03, 0.06):
        points = val + rng.normal(size=val.shape) * (share * eyes)[:, None, None]
        fit = fit_shape(model, points, covariance=np.square(share * eyes)[:, None] * np.ones(68))
        error = np.linalg.norm(fit.shapes - val, axis=-1).mean(axis=1)
        rank = spearmanr(fit.expected_error / eyes, error / eyes)[0]
        row(
            f"noise of {100 * share:g} % of the eyes",
            fit,
            np.ones(val.shape[:2], bool),
            f"   rank correlation of the error a face {rank:.2f}",
        )
    if plot:
        draw(plot, grid, curves)


def draw(path: str, grid: np.ndarray, curves: dict[str, np.ndarray]) -> None:
    """Write the reliability picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 4.5), sharey=True, layout="constrained")
    for ax, noisy, title in zip(axes, (False, True), ("hidden landmarks", "noisy points"), strict=True):
        ax.plot([0, 1], [0, 1], color="0.7", lw=1)
        ax.fill_between([0, 1], [-0.02, 0.98], [0.02, 1.02], color="0.92", label="within 2 points")
        for name, curve in curves.items():
            if name.startswith("noise") == noisy:
                ax.plot(grid, curve, lw=1.4, label=name)
        ax.set(title=title, xlabel="stated probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("share of true landmarks inside")
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "calibration" not in arguments:
        speed()
    if "speed" not in arguments:
        calibration(arguments[arguments.index("--plot") + 1] if "--plot" in arguments else None)
