"""Time the reading of many ``.pts`` files against the plainest loop that gives the same numbers.

Run it with ``python tests/benchmarks/bench_reading.py [n_files]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shape_models import make_faces
from shape_models.datasets import load_landmarks


def plain(folder: Path) -> np.ndarray:
    """Read the files with nothing but ``str.split``: no check, no name, no error."""
    paths = sorted(folder.rglob("*.pts"), key=lambda path: (path.parent.name, int(path.stem)))
    return np.array([[row.split() for row in p.read_text().splitlines()[3:-1]] for p in paths], dtype=float) - 1


def least(function: Callable[[], np.ndarray], repeats: int = 3) -> tuple[float, np.ndarray]:
    """Return the least processor time of several calls, and the answer."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def main(n: int) -> None:
    """Write n files, read them in both ways, and print the ratio."""
    faces = make_faces(100, rng=0).round(3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(n):
            path = folder / f"{i % 10}" / f"{i}.pts"
            path.parent.mkdir(exist_ok=True)
            rows = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in faces[i % 100])
            path.write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
        ours, shapes = least(lambda: load_landmarks(folder).shapes())
        loop, expected = least(lambda: plain(folder))
    np.testing.assert_allclose(shapes, expected, atol=1e-9)
    print(f"{n} files: {ours:.2f} s, {1e6 * ours / n:.0f} microseconds a file; {ours / loop:.2f} x the plain loop")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
