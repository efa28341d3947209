"""ShapeBasis.project against two matrix products and a clip: least times, and ratios within one process.

Run by hand: ``python tests/benchmarks/bench_operator.py``. It runs once with one BLAS thread and once with the threads
as they come, each in a process of its own, and prints wall and processor time: threads that wait cost the second only.
"""

import os
import subprocess
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
    """Return least wall and CPU seconds; each callable in its turn, so that a slow spell meets all of them."""
    times = {name: [] for name in rows}
    for call in rows.values():
        call()
    for _ in range(n_rounds):
        for name, call in rows.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(n_calls):
                call()
            times[name].append(((time.perf_counter() - wall) / n_calls, (time.process_time() - cpu) / n_calls))
    return {name: tuple(map(min, zip(*t, strict=True))) for name, t in times.items()}


def report(title, times, baseline):
    print(title)
    for name, (wall, cpu) in times.items():
        ratios = (wall / times[baseline][0], cpu / times[baseline][1])
        print(f"  {name:34s} {1e6 * wall:12.1f} us   wall {ratios[0]:6.2f} x, CPU {ratios[1]:6.2f} x {baseline}")


def both():
    """Run this file with one BLAS thread, and with the threads as they come."""
    for threads in ("1", None):
        print(f"--- BLAS threads: {threads or f'as they come, {os.cpu_count()} processors'}", flush=True)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in names}
        environment |= dict.fromkeys(names, threads) if threads else {}
        subprocess.run([sys.executable, __file__, "one"], env=environment, check=True)


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
    main() if sys.argv[1:] == ["one"] else both()
