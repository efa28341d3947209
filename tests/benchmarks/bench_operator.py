"""ShapeBasis.project against two matrix products and a clip: medians, and ratios within this process.

Run by hand with one BLAS thread: ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_operator.py``.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from oracles import project_vectorised

from shape_models import Ellipsoid, ShapeBasis, SoftBox


def make_basis(n_landmarks=68, n_dims=2, n_components=25, limit=3.0):
    rng = np.random.default_rng(0)
    components = np.linalg.qr(rng.normal(size=(n_landmarks * n_dims, n_components)))[0].T
    variances = np.geomspace(1.0, 1e-2, n_components)
    return ShapeBasis(rng.normal(size=(n_landmarks, n_dims)), components, variances, limit, noise_variance=1e-3)


def compare(rows, n_calls, n_rounds=15):
    """Time each callable in turn, round by round, so that a slow spell meets all of them."""
    times = {name: [] for name in rows}
    for call in rows.values():
        call()
    for _ in range(n_rounds):
        for name, call in rows.items():
            start = time.perf_counter()
            for _ in range(n_calls):
                call()
            times[name].append((time.perf_counter() - start) / n_calls)
    return {name: float(np.median(t)) for name, t in times.items()}


def report(title, medians, baseline):
    print(title)
    for name, seconds in medians.items():
        print(f"  {name:34s} {1e6 * seconds:12.1f} us   {seconds / medians[baseline]:6.2f} x {baseline}")


def main():
    try:
        import torch
    except ImportError:
        torch = None
    basis = make_basis()
    mean, components, variances = (np.array(a) for a in (basis.mean, basis.components, basis.variances))
    rng = np.random.default_rng(1)
    for n, n_calls in ((1, 3000), (64, 300), (10_000, 1)):
        for dtype in (np.float64, np.float32):
            x = (mean + rng.normal(size=(n, 68, 2))).astype(dtype)
            arrays = [a.astype(dtype) for a in (mean, components, variances)]
            shape = x[0] if n == 1 else x
            rows = {
                "naive": lambda x=x, arrays=arrays: project_vectorised(x, *arrays),
                "project": lambda shape=shape: basis.project(shape),
            }
            if torch is not None:
                t = torch.tensor(shape)
                grad = torch.tensor(shape, requires_grad=True)
                rows["project, torch"] = lambda t=t: basis.project(t)
                rows["project, torch with graph"] = lambda grad=grad: basis.project(grad)
            if n > 1:
                for limit in (Ellipsoid(5.0), SoftBox(3.0)):
                    other = make_basis(limit=limit)
                    rows[f"project, {limit}"] = lambda x=x, other=other: other.project(x)
            report(f"{n} x 68 x 2, 25 modes, {np.dtype(dtype)}", compare(rows, n_calls), "naive")
    x = mean + rng.normal(size=(10_000, 68, 2))
    seen = rng.random((10_000, 68)) > 0.2
    holes = np.where(seen[..., None], x, np.nan)
    rows = {
        "naive": lambda: project_vectorised(x, mean, components, variances),
        "project, a mask for each": lambda: basis.project(holes, confidence=seen),
        "project, one mask": lambda: basis.project(x, confidence=seen[0]),
        "complete, a mask for each": lambda: basis.complete(holes),
        "report": lambda: basis.report(x),
        "log_likelihood": lambda: basis.log_likelihood(x),
        "sample": lambda: basis.sample(10_000, rng=0),
    }
    report("10000 x 68 x 2, partly seen and others", compare(rows, 1, 3), "naive")


if __name__ == "__main__":
    main()
