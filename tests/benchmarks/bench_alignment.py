"""Times of alignment against the naive versions of tests/oracles.py, in one process.

    python tests/benchmarks/bench_alignment.py

Runs once with one BLAS thread and once with the threads as they come, each in a process of its own. Prints least
milliseconds, the ratios to the naive version of wall and processor time, interleaved in one process, the first call,
and the wall time of importing the package against that of sklearn.base in fresh processes. With an empty cache
(NUMBA_CACHE_DIR) the first calls compile.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from oracles import procrustes_batch, umeyama_batch  # noqa: E402

from shape_models import estimate_similarity, generalized_procrustes  # noqa: E402


def shapes_in_poses(n, k, d, *, noise=0.1, seed=0, dtype=np.float64):
    """Noisy copies of one shape, each turned, scaled and moved."""
    rng = np.random.default_rng(seed)
    template = rng.normal(size=(k, d))
    x = template / np.linalg.norm(template) + noise / np.sqrt(k) * rng.normal(size=(n, k, d))
    q, r = np.linalg.qr(rng.normal(size=(n, d, d)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    q[:, 0] *= np.linalg.det(q)[:, None]
    return (x @ q * rng.uniform(50, 200, size=(n, 1, 1)) + rng.uniform(-300, 300, size=(n, 1, d))).astype(dtype)


def compare(name, ours, naive, repeats=9):
    start = time.perf_counter()
    ours()
    first = time.perf_counter() - start
    naive()
    times = [[], []]
    for _ in range(repeats):
        for i, f in enumerate((ours, naive)):
            wall, cpu = time.perf_counter(), time.process_time()
            f()
            times[i].append((time.perf_counter() - wall, time.process_time() - cpu))
    (a, a_cpu), (b, b_cpu) = (tuple(map(min, zip(*t, strict=True))) for t in times)
    print(
        f"{name:42s} {1e3 * a:7.1f} ms  naive {1e3 * b:7.1f} ms  ratio {a / b:6.3f} (CPU {a_cpu / b_cpu:6.3f})  "
        f"first call {first:5.2f} s"
    )


def import_ratio(repeats=7):
    def once(module):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT)
        return time.perf_counter() - start

    times = {"shape_models": [], "sklearn.base": []}
    for module in times:
        once(module)
    for _ in range(repeats):
        for module, values in times.items():
            values.append(once(module))
    a, b = (statistics.median(v) for v in times.values())
    name = "import shape_models / import sklearn.base"
    print(f"{name:44s} {1e3 * a:8.0f} ms        {1e3 * b:8.0f} ms  ratio {a / b:6.3f}")


def main():
    for n, k, d in ((10_000, 68, 2), (1000, 500, 3)):
        x = shapes_in_poses(n, k, d)
        compare(
            f"generalized_procrustes {n} x {k} x {d}",
            lambda x=x: generalized_procrustes(x),
            lambda x=x: procrustes_batch(x),
        )
    for k, d in ((68, 2), (68, 3)):
        x, y = shapes_in_poses(20_000, k, d).reshape(2, 10_000, k, d)
        compare(
            f"estimate_similarity 10000 x {k} x {d}",
            lambda x=x, y=y: estimate_similarity(x, y),
            lambda x=x, y=y: umeyama_batch(x, y),
        )


def both():
    """Run this file with one BLAS thread, and with the threads as they come."""
    for threads in ("1", None):
        print(f"--- BLAS threads: {threads or f'as they come, {os.cpu_count()} processors'}", flush=True)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in names}
        environment |= dict.fromkeys(names, threads) if threads else {}
        subprocess.run([sys.executable, __file__, "one"], env=environment, check=True)
    import_ratio()


if __name__ == "__main__":
    main() if sys.argv[1:] == ["one"] else both()
