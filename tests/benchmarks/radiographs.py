"""Drawn radiographs of a jaw: large, low in contrast, noisy, with teeth of which eight are annotated.

    images, shapes = radiographs(14, rng=0)

Each image is (height, width) uint8 of about 3000 x 1600 pixels, each shape (320, 2): forty landmarks round each of four
upper and four lower incisors, from the tip of the root once around. The other teeth are drawn alike and not annotated,
so a search that is one tooth off finds edges everywhere. Nothing is taken from real images.

    python tests/benchmarks/radiographs.py FOLDER [--images 14] [--scale 1]

writes images (FOLDER/images/01.png), the landmarks of each tooth (FOLDER/landmarks/01-upper1.txt, rows x y) and its
mask (FOLDER/masks/01-upper1.png).
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from skimage.draw import polygon
from skimage.io import imsave

PARTS = {
    f"{jaw}{i + 1}": np.arange(40 * (4 * k + i), 40 * (4 * k + i + 1))
    for k, jaw in enumerate(("upper", "lower"))
    for i in range(4)
}
_POINTS = 40


def _half_width(t, crown, waist, tip):
    """Half of the width of a tooth, as a fraction of its crown's, from the edge (0) to the tip of the root (1)."""
    rising = np.sqrt(np.clip(1 - (1 - np.clip(t / 0.08, 0, 1)) ** 2, 0, 1))
    neck = waist + (1 - waist) / (1 + np.exp((t - crown) / 0.05))
    falling = np.sqrt(np.clip((1 - t) / (1 - tip), 0, 1))
    return rising * neck * np.minimum(1, falling)


def tooth(width, length, crown, waist, tip, bend, n=_POINTS):
    """Return the outline (n, 2) of an upper tooth about its middle: the edge down (y > 0), the tip of the root up."""
    t = np.linspace(0, 1, 200)
    half = 0.5 * width * _half_width(t, crown, waist, tip)
    middle, y = bend * length * np.maximum(t - crown, 0) ** 2, length * (0.5 - t)
    line = np.concatenate([np.stack([middle + half, y], 1)[::-1], np.stack([middle - half, y], 1)])
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.stack([np.interp(np.arange(n) / n * at[-1], at, line[:, d]) for d in (0, 1)], axis=1)


def _teeth(rng, size):
    """Return the outlines (k, 40, 2) of all teeth about the middle of the bite, those annotated first."""
    common = rng.normal(size=5)
    annotated, others = [], []
    for jaw in (0, 1):
        widths = np.array([[82, 62], [52, 56]][jaw]) * (1 + 0.05 * common[0] + 0.02 * rng.normal(size=2))
        order = [(0, -1), (0, 1), (1, -1), (1, 1), (2, -1), (2, 1), (3, -1), (3, 1)]
        spread = 1 + 0.02 * rng.normal()
        outlines = {}
        at = {-1: 0.0, 1: 0.0}
        for place, side in order:
            width = widths[min(place, 1)] * (1.12 if place > 1 else 1) * (1 + 0.03 * rng.normal())
            length = [[300, 270, 310, 280], [250, 260, 290, 270]][jaw][place] * (
                1 + 0.06 * common[1] + 0.03 * rng.normal()
            )
            shape = tooth(
                width,
                length,
                0.38 + 0.02 * rng.normal(),
                0.72 + 0.04 * rng.normal(),
                0.72 + 0.03 * rng.normal(),
                0.15 * rng.normal(),
            )
            x = side * (at[side] + 0.5 * width) * spread
            at[side] += width * (1.02 + 0.01 * rng.normal())
            angle = np.radians(side * (2 + 2.5 * place) * (1 + 0.3 * common[2]) + 1.5 * rng.normal())
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            drop = 6 * place**1.5 + 4 * rng.normal()
            shape = shape @ turn.T + [x, -0.5 * length + 12 + 8 * common[3] - drop]
            if jaw:
                shape = shape * [1, -1]
                shape = shape[[0, *range(_POINTS - 1, 0, -1)]] + [12 * common[4], -14]
            outlines[place, side] = size * shape
        annotated += [outlines[1, -1], outlines[0, -1], outlines[0, 1], outlines[1, 1]]
        others += [outlines[key] for key in order[4:]]
    return np.array([*annotated, *others])


def _noise(rng, shape, sigma):
    """Smooth noise of variance about one, made on a coarse grid where it is smooth."""
    step = max(1, int(sigma / 2))
    coarse = gaussian_filter(rng.normal(size=[n // step + 3 for n in shape]).astype(np.float32), sigma / step)
    out = zoom(coarse, step, order=1)[: shape[0], : shape[1]] if step > 1 else coarse[: shape[0], : shape[1]]
    return out / max(float(out.std()), 1e-9)


def radiograph(rng, width=3000, height=1600, scale=1.0):
    """Return one drawn radiograph and its landmarks (320, 2)."""
    width, height = (int(scale * v * (1 + 0.01 * rng.normal())) for v in (width, height))
    size = scale * (1 + 0.05 * rng.normal())
    turn = np.radians(2.5) * rng.normal()
    center = np.array([width, height]) * ([0.5, 0.5] + rng.normal(size=2) * [0.012, 0.025])
    outlines = _teeth(rng, size)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outlines = outlines @ rotation.T + center
    x = (np.arange(width, dtype=np.float32) - center[0]) / width
    y = (np.arange(height, dtype=np.float32) - center[1]) / height
    across, down = rng.normal(size=2) * 0.06
    image = 0.34 + 0.1 * np.exp(-((x / 0.3) ** 2))[None] * np.exp(-((y / 0.45) ** 2))[:, None]
    image = image + (across * x)[None] + (down * y)[:, None] + 0.1 * np.exp(-((x / 0.06) ** 2))[None]
    for sigma, amount in ((60, 0.035), (14, 0.02), (4, 0.016)):
        image += amount * _noise(rng, image.shape, sigma * scale)
    gap = np.exp(-(((y[:, None] * height - 40 * scale * (x[None] * 6) ** 2) / (14 * scale)) ** 2))
    image -= 0.08 * gap
    contrast = 0.08 * (1 + 0.2 * rng.normal())
    low = np.maximum(outlines.min(axis=(0, 1)).astype(int) - 40, 0)
    high = np.minimum(outlines.max(axis=(0, 1)).astype(int) + 40, [width, height])
    part = np.zeros((high[1] - low[1], high[0] - low[0]), np.float32)
    for number, outline in enumerate(outlines):
        points, middle = outline - low, outline.mean(axis=0) - low
        lower = (number % 8 >= 4) if number < 8 else number >= 12
        layer = np.zeros_like(part)
        for factor, value in ((1.10, -0.25), (1.0, 1.0), (0.3, -0.25)):
            grown = middle + (points - middle) * [factor, 1 + 0.3 * (factor - 1)]
            rows, columns = polygon(grown[:, 1], grown[:, 0], shape=part.shape)
            layer[rows, columns] = value if factor > 1 else layer[rows, columns] + (value - (factor == 1) * -0.25)
        edge = points[:, 1].min() if lower else points[:, 1].max()
        depth = np.abs(np.arange(part.shape[0]) - edge) / np.ptp(points[:, 1])
        part += layer * (0.6 + 0.6 * np.exp(-((depth / 0.25) ** 2)))[:, None]
    image[low[1] : high[1], low[0] : high[0]] += contrast * gaussian_filter(part, 2.0 * scale)
    image += 0.03 * rng.normal(size=image.shape).astype(np.float32)
    shape = outlines[:8].reshape(-1, 2) + rng.normal(scale=1.2 * scale, size=(8 * _POINTS, 2))
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), shape


def radiographs(n, rng=0, **options):
    """Return n drawn radiographs, a list of uint8 arrays, and their landmarks (n, 320, 2)."""
    seeds = np.random.default_rng(rng).spawn(n)
    pairs = [radiograph(seed, **options) for seed in seeds]
    return [image for image, _ in pairs], np.array([shape for _, shape in pairs])


def dice(one, other):
    """Overlap of two polygons (n, 2), 0 to 1."""
    low = np.floor(np.minimum(one.min(0), other.min(0))) - 1
    size = (np.ceil(np.maximum(one.max(0), other.max(0))) - low + 2).astype(int)[::-1]
    masks = []
    for points in (one, other):
        mask = np.zeros(size, bool)
        mask[polygon(points[:, 1] - low[1], points[:, 0] - low[0], shape=mask.shape)] = True
        masks.append(mask)
    return 2 * (masks[0] & masks[1]).sum() / max(masks[0].sum() + masks[1].sum(), 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=14)
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    images, landmarks, masks = (arguments.folder / name for name in ("images", "landmarks", "masks"))
    for folder in (images, landmarks, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(np.random.default_rng(0).spawn(arguments.images), start=1):
        image, shape = radiograph(seed, scale=arguments.scale)
        imsave(images / f"{number:02d}.png", image, check_contrast=False)
        for part, rows in PARTS.items():
            name, points = f"{number:02d}-{part}", shape[rows]
            np.savetxt(landmarks / f"{name}.txt", points, "%.3f")
            mask = np.zeros(image.shape, np.uint8)
            mask[polygon(points[:, 1], points[:, 0], shape=mask.shape)] = 255
            imsave(masks / f"{name}.png", mask, check_contrast=False)


if __name__ == "__main__":
    main()
