"""Times of fitting: medians and ratios to the plain version in the same process, and the memory of a large stream.

Run by hand, with one BLAS thread for all:

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_fit.py [--stream]
"""

import argparse
import csv
import os
import resource
import statistics
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from shape_models import ASM, AlignedASM, generalized_procrustes, make_faces


def naive_covariance(shapes):
    flat = shapes.reshape(len(shapes), -1)
    return np.linalg.eigh(np.cov(flat.T))


def naive_svd(shapes):
    flat = shapes.reshape(len(shapes), -1)
    return np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)


def scikit_learn(shapes, k):
    return PCA(k).fit(shapes.reshape(len(shapes), -1))


def median(function, *args, seconds=2.0):
    function(*args)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        before = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def row(name, ours, base, base_name):
    print(f"{name:44s} {1e3 * ours:9.1f} ms   {ours / base:6.2f} x {base_name} ({1e3 * base:.1f} ms)")


def random_shapes(n, k, d, modes=30):
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(n, modes)) @ rng.normal(size=(modes, k * d)) + 0.1 * rng.normal(size=(n, k * d))
    return flat.reshape(n, k, d)


def read_muct(root):
    with (Path(root) / "landmarks" / "muct68_opencv.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    shapes = np.array([[float(value) for value in row[2:]] for row in rows]).reshape(-1, 68, 2)
    shapes[(shapes == 0).all(axis=-1)] = np.nan
    return shapes


def fits():
    many, wide = random_shapes(10_000, 68, 2), random_shapes(1000, 1500, 2)
    ours = median(ASM(25).fit, many)
    row("ASM.fit, 10 000 x 68 x 2, 25 modes", ours, median(naive_covariance, many), "eigh of np.cov")
    row("", ours, median(scikit_learn, many, 25), "PCA")
    ours = median(ASM(25).fit, wide)
    row("ASM.fit, 1000 x 1500 x 2, 25 modes", ours, median(naive_svd, wide), "SVD")
    row("", ours, median(scikit_learn, wide, 25), "PCA")
    chunks = np.array_split(many, 10)
    row("ASM.fit_chunks, the same in 10 chunks", median(ASM(25).fit_chunks, chunks), median(ASM(25).fit, many), "fit")
    faces = make_faces(2000, rng=0)
    model = AlignedASM(ASM(25)).fit(faces)
    plain = median(lambda: model.asm_.project(faces))
    row("AlignedASM.project, 2000 faces", median(model.project, faces), plain, "ASM.project")
    gaps = faces.copy()
    gaps[:, 10:20] = np.nan
    row("AlignedASM.project, 10 landmarks missing", median(model.project, gaps), plain, "ASM.project")
    root = os.environ.get("SHAPE_MODELS_DATA")
    if root:
        aligned = generalized_procrustes(read_muct(root)).aligned
        whole = aligned[~np.isnan(aligned).any(axis=(1, 2))]
        ours = median(ASM(0.95).fit, aligned)
        row("ASM.fit, MUCT: 7510, 1680 with gaps", ours, median(ASM(0.95).fit, whole), "the 5830 whole ones")
        print(f"    steps: {ASM(0.95).fit(aligned).n_iter_}")


def stream(n_chunks=100, size=10_000):
    """One million shapes of 68 landmarks: 1.1 GB of numbers, made chunk by chunk."""
    mean = make_faces(1, rng=0)[0]
    modes = np.linalg.qr(np.random.default_rng(0).normal(size=(136, 20)))[0].T * np.geomspace(8, 1, 20)[:, None]

    def chunks():
        for seed in range(n_chunks):
            rng = np.random.default_rng(seed)
            flat = rng.standard_normal((size, 20)) @ modes
            yield mean + flat.reshape(size, 68, 2) + rng.standard_normal((size, 68, 2), dtype=np.float32)

    for model in (ASM(20), AlignedASM(ASM(20))):
        start = time.perf_counter()
        model.fit_chunks(chunks)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{type(model).__name__}.fit_chunks, {n_chunks * size} shapes: {seconds:.1f} s, peak {peak:.0f} MiB in all"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", action="store_true", help="the million shapes instead of the times")
    stream() if parser.parse_args().stream else fits()
