"""How fast the search is: milliseconds a fit of 68 landmarks in a picture of 384 pixels on one core, and its loops
beside naive NumPy versions.

    python tests/benchmarks/bench_search.py

The pictures are drawn; the time of a search does not depend on what is in them but for early stops of the profiles.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from strategies import face_picture

from shape_models import ASM, AlignedASM, make_faces
from shape_models.search import ASMFitter, Patches, Profiles
from shape_models.search import _kernels as kernels


def median_ms(function, n=15):
    function()
    times = []
    for _ in range(n):
        began = time.perf_counter()
        function()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), min(times)


def channels_numpy(buffer, shape, matrix, size):
    """Warp, gradient directions, pooling: the same frame with whole-array NumPy."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    at = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    u, v = np.clip(at[0], 0, shape[1] - 1.001), np.clip(at[1], 0, shape[0] - 1.001)
    j, i = u.astype(int), v.astype(int)
    u, v = u - j, v - i
    image = buffer.reshape(shape)
    frame = (image[i, j] * (1 - u) + image[i, j + 1] * u) * (1 - v) + (
        image[i + 1, j] * (1 - u) + image[i + 1, j + 1] * u
    ) * v
    gy, gx = np.gradient(frame)
    angles = np.arange(8) * np.pi / 4
    energy = np.maximum(gx[..., None] * np.cos(angles) + gy[..., None] * np.sin(angles), 0) ** 2
    energy /= np.hypot(gx, gy)[..., None] + 1e-12
    pooled = energy.reshape(height // 2, 2, width // 2, 2, 8).sum((1, 3))
    for _ in range(2):
        wide = np.pad(pooled, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = 0.25 * (wide[:-2] + wide[2:]) + 0.5 * wide[1:-1]
        pooled = 0.25 * (rows[:, :-2] + rows[:, 2:]) + 0.5 * rows[:, 1:-1]
    return pooled


def describe_numpy(pooled, points, spacing, n_cells):
    cells = (np.arange(n_cells) - (n_cells - 1) / 2) * spacing
    at = points[:, None, None] + np.stack(np.meshgrid(cells, cells), axis=-1)
    at = np.clip((at - 0.5) / 2, 0, np.array(pooled.shape[1::-1]) - 1.001)
    j, i = at[..., 0].astype(int), at[..., 1].astype(int)
    u, v = (at[..., 0] - j)[..., None], (at[..., 1] - i)[..., None]
    out = (pooled[i, j] * (1 - u) + pooled[i, j + 1] * u) * (1 - v) + (
        pooled[i + 1, j] * (1 - u) + pooled[i + 1, j + 1] * u
    ) * v
    out = out.reshape(len(points), -1)
    return np.sqrt(out / out.sum(1, keepdims=True))


def profiles_numpy(image, points, normals, mean, inverse, n_side, reach):
    steps = np.arange(-n_side - reach - 0.5, n_side + reach + 1.0)
    at = points[:, None] + steps[:, None] * normals[:, None]
    j, i = at[..., 0].astype(int), at[..., 1].astype(int)
    u, v = at[..., 0] - j, at[..., 1] - i
    values = (image[i, j] * (1 - u) + image[i, j + 1] * u) * (1 - v) + (
        image[i + 1, j] * (1 - u) + image[i + 1, j + 1] * u
    ) * v
    windows = np.lib.stride_tricks.sliding_window_view(np.diff(values, axis=1), 2 * n_side + 1, axis=1)
    rest = windows / np.abs(windows).sum(-1, keepdims=True) - mean[:, None]
    return np.einsum("kra,kab,krb->kr", rest, inverse, rest)


def main():
    rng = np.random.default_rng(0)
    shapes = make_faces(60, rng=0) * 1.4
    images = [face_picture(shape, (384, 384), rng=rng) for shape in shapes]
    boxes = np.concatenate([shapes.min(1), shapes.max(1)], axis=1)
    asm = AlignedASM(ASM(0.98), scheme="ibug68")
    for name, evidence in (("profiles", Profiles()), ("patches", Patches())):
        for jobs in (1, None):
            fitter = ASMFitter(asm, evidence=evidence, n_perturbations=3, n_jobs=jobs).fit(images[:50], shapes[:50])
            one, best = median_ms(lambda f=fitter: f.predict(images[55], boxes=boxes[55]))
            many, best_many = median_ms(lambda f=fitter: f.predict(images, boxes=boxes), 5)
            print(
                f"{name:9} {jobs or 'all'} thread(s): one picture {one:6.2f} ms (least {best:.2f}); "
                f"batch of 60: {many / 60:6.2f} ms a fit (least {best_many / 60:.2f})",
                flush=True,
            )
    image = images[0].astype(np.float32)
    buffer, table = image.ravel(), np.array([[0, 384, 384]])
    matrix = np.array([[1.4, 0.1, 20.0], [-0.1, 1.4, 30.0]])
    points = rng.uniform(30, 200, size=(1, 68, 2))
    out = np.empty((1, 68, 288), np.float32)
    fast, _ = median_ms(lambda: kernels.describe(buffer, table, matrix[None], (220, 220), points, 4.0, 6, out))
    slow, _ = median_ms(
        lambda: describe_numpy(channels_numpy(buffer, (384, 384), matrix, (220, 220)), points[0], 4.0, 6)
    )
    print(f"descriptors of 68 landmarks: {fast:.2f} ms, NumPy {slow:.2f} ms, ratio {slow / fast:.1f}")
    normals = np.stack([np.cos(points[0, :, 0]), np.sin(points[0, :, 0])], axis=1)[None]
    side, reach = Profiles().n_side, Profiles().reach
    m = 2 * side + 1
    mean, inverse = rng.normal(size=(68, m)) * 0.05, np.tile(np.eye(m), (68, 1, 1))
    factors, mean32 = inverse.astype(np.float32), mean.astype(np.float32)
    gradients, distance = (np.empty((1, 68, n), np.float32) for n in (m + 2 * reach, 2 * reach + 1))

    def search():
        kernels.profile_gradients(buffer, table, points, normals, side + reach, gradients)
        kernels.profile_distances(gradients, mean32, factors, distance)

    fast, _ = median_ms(search)
    slow, _ = median_ms(lambda: profiles_numpy(image, points[0], normals[0], mean, inverse, side, reach))
    print(f"profiles of 68 landmarks: {fast:.3f} ms, NumPy {slow:.3f} ms, ratio {slow / fast:.1f}")


if __name__ == "__main__":
    main()
