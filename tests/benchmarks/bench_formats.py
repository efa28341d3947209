"""Medians of reading landmark files, and their ratio to the shortest code that reads the same numbers unchecked.

Run by hand: ``PYTHONPATH=. python tests/benchmarks/bench_formats.py``; nothing here asserts a time.
"""

import csv
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from shape_models import make_faces, read_landmarks, write_landmarks


def median(function, repeats=7):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def naive_pts(paths):
    return [np.array(p.read_text().split("{")[1].split("}")[0].split(), dtype=float).reshape(-1, 2) - 1 for p in paths]


def naive_csv(path):
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    return np.array(rows[1:], dtype=float).reshape(len(rows) - 1, -1, 2)


def naive_json(path):
    return [np.reshape(a["keypoints"], (-1, 3))[:, :2] for a in json.loads(path.read_text())["annotations"]]


def main():
    faces = make_faces(1000, rng=0).round(3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}.pts" for i in range(len(faces))]
        for path, face in zip(paths, faces, strict=True):
            write_landmarks(path, face)
        write_landmarks(folder / "a.csv", faces)
        write_landmarks(folder / "a.json", faces)
        rows = [
            ("pts, 1000 files", lambda: read_landmarks(folder, extension=".pts"), lambda: naive_pts(paths)),
            ("csv, 1000 rows", lambda: read_landmarks(folder / "a.csv"), lambda: naive_csv(folder / "a.csv")),
            ("coco, 1000 shapes", lambda: read_landmarks(folder / "a.json"), lambda: naive_json(folder / "a.json")),
        ]
        print(f"{'1000 faces of 68 points':<20} {'ms':>8} {'naive':>8} {'ratio':>6}")
        for label, ours, naive in rows:
            np.testing.assert_allclose(np.stack(ours()), np.stack(naive()), rtol=1e-12)
            a, b = median(ours), median(naive)
            print(f"{label:<20} {a * 1e3:8.0f} {b * 1e3:8.0f} {a / b:6.1f}")


if __name__ == "__main__":
    main()
