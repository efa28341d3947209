"""Speed of the metrics beside one pass of NumPy over the same arrays: ``python tests/benchmarks/bench_evaluation.py``.

Each row is the median of interleaved runs in one process, and its ratio to the first row of its block.
"""

import argparse
import statistics
import time

import numpy as np

from evaluation import auc, bootstrap_interval, evaluate, failure_rate, nme


def measure(block, repeats):
    """Print the median of each function, run in turns."""
    times = {name: [] for name in block}
    for _ in range(repeats):
        for name, function in block.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:48s} {1000 * value:10.1f} ms   x {value / first:5.2f}")


def strided(target, prediction):
    """The distances without np.linalg.norm, which is slow over two coordinates."""
    delta = prediction - target
    return np.sqrt(delta[..., 0] ** 2 + delta[..., 1] ** 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--landmarks", type=int, default=68)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        target = rng.random((options.faces, options.landmarks, 2), dtype=dtype) * 200
        prediction = target + rng.standard_normal(target.shape, dtype=dtype)
        mask = rng.random(target.shape[:-1]) < 0.9
        print(f"{options.faces} faces x {options.landmarks} landmarks, {np.dtype(dtype).name}")
        measure(
            {
                "NumPy: norm(prediction - target)": lambda t=target, p=prediction: np.linalg.norm(p - t, axis=-1),
                "NumPy: sqrt(dx**2 + dy**2)": lambda t=target, p=prediction: strided(t, p),
                "NumPy: prediction - target": lambda t=target, p=prediction: p - t,
                "nme, a number": lambda t=target, p=prediction: nme(t, p, normalizer=100.0),
                "nme, inter_ocular": lambda t=target, p=prediction: nme(
                    t, p, normalizer="inter_ocular", scheme="ibug68", undefined="nan"
                ),
                "nme, box_diagonal": lambda t=target, p=prediction: nme(t, p, normalizer="box_diagonal"),
                "nme, a number, masked": lambda t=target, p=prediction, m=mask: nme(t, p, normalizer=100.0, mask=m),
            },
            options.repeats,
        )
        del target, prediction, mask
    errors = rng.lognormal(-3.2, 0.4, size=options.faces)
    print(f"{options.faces} errors")
    measure(
        {
            "NumPy: mean": lambda: errors.mean(),
            "auc": lambda: auc(errors, threshold=0.08),
            "failure_rate": lambda: failure_rate(errors, threshold=0.08),
            "bootstrap_interval": lambda: bootstrap_interval(errors),
        },
        options.repeats,
    )
    faces = rng.random((689, 68, 2)) * 200
    split = np.repeat(["common", "challenging"], [554, 135])
    print("300-W")
    measure({"evaluate": lambda: evaluate(faces, faces + 1, "300w", attributes={"split": split})}, options.repeats)


if __name__ == "__main__":
    main()
