"""What network, image and shape model make of plain and covered faces together, and whether they know how well.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_hybrid.py asmnet-68 [--limit 60] [--covers plain,grey]
        [--picture reliability.png] [--search] [--learn FILE.json] [--uncertainty FILE.json]

Faces of 300-W val by their true boxes, one look. Covers: `grey` and `textured` (a piece of another photograph) are
rectangles over a quarter of the box at a random place, sides 1 : 2 to 2 : 1; `bar` a dark bar over both eyes; `side`
cuts the photograph off a quarter into the face; `blur` is a motion of a tenth of the box in a random direction; `hand`
a drawn hand with its arm, in the colour of the face, that reaches in from a random side over a quarter of the box. The
table: errors in percent of the distance of the outer corners of the eyes, as the network answers and fitted, and their
paired difference with its 95 % interval over photographs; the percentage of true landmarks inside the ellipses that
should hold 50, 80 and 95 %, those of ``radius(level)``; the rank correlation of expected and true errors of faces; the
processor time of a face, and how many times that of the network alone it is (the least of three rounds over 40 faces).
Last, how well faces are told from what is none: random squares of the same photographs that overlap the face in at most
a fifth of their union, and of photographs of hands. It is the area under the curve (ROC) of the expected error in sides
of the box, and of the plausibility. MODEL may be `search68` too, which answers without a network: its errors alone.

With --learn the uncertainty that ships beside the weights is learned anew: from every fourth training face grey,
textured and with a bar, and from every eighth as it is. The networks know these: of their errors there 52, 83 and 97 %
lie where 47, 80 and 96 % do in new photographs. So only one in four of them tells how far the answer is off. With
--search a network that draws heat maps is joined with the search of the image too; measure that with --uncertainty.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import rankdata, spearmanr

from asmnet import Predictor
from asmnet.checkpoints import load_pretrained
from asmnet.data import load_image
from asmnet.uncertainty import Uncertainty, learn_uncertainty
from evaluation import compare
from shape_models import load_model
from shape_models.datasets import read_300w

COVERS = ("plain", "grey", "textured", "bar", "side", "blur", "hand")
LEVELS = (0.5, 0.8, 0.95)


def rectangle(box, rng, share=0.25):
    """Rows and columns of a rectangle within a box."""
    w, h = box[2:] - box[:2]
    ratio = 2.0 ** rng.uniform(-1, 1)
    wide = min(w, np.sqrt(share * w * h * ratio))
    high = min(h, share * w * h / wide)
    left, top = rng.uniform(box[0], box[2] - wide), rng.uniform(box[1], box[3] - high)
    return (
        slice(max(0, round(top)), max(0, round(top + high))),
        slice(max(0, round(left)), max(0, round(left + wide))),
    )


def bar(image, points):
    """Cover both eyes, 1.3 times as wide as their outer corners and turned like them."""
    along = points[45] - points[36]
    length = np.linalg.norm(along)
    along = along / length
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    off = np.stack([x, y], -1) - points[36:48].mean(0)
    over = (np.abs(off @ along) < 0.65 * length) & (np.abs(off @ [-along[1], along[0]]) < 0.18 * length)
    image[over] = 20
    return image


def moved(image, width, rng):
    """Blur by a motion in a random direction."""
    n, angle = max(3, int(0.1 * width) | 1), rng.uniform(0, np.pi)
    t = np.linspace(-(n // 2), n // 2, 4 * n)
    kernel = np.zeros((n, n))
    np.add.at(kernel, tuple(np.round(n // 2 + t * v).astype(int) for v in (np.sin(angle), np.cos(angle))), 1)
    channels = [convolve(image[..., k].astype(float), kernel / kernel.sum(), mode="nearest") for k in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def bones(rng):
    """Segments of a hand that reaches up, in breadths of its palm: ends (n, 2, 2), radii at both (n, 2); nails last."""
    segments, nails = [((x, -0.35), (1.5 * x, -9), 0.21, 0.34) for x in (-0.12, 0.12)], []
    spread, curl = rng.uniform(0.03, 0.3), rng.uniform(0, 0.4)
    fingers = [
        ((-0.3 + 0.2 * k, -0.45), (-0.36 + 0.24 * k, y), 0.2, length, (k - 1.5) * spread / 1.5, 0.12)
        for k, (y, length) in enumerate([(0.36, 0.88), (0.42, 1.0), (0.39, 0.93), (0.27, 0.72)])
    ]
    if rng.random() < 0.75:
        fingers.append(((-0.24, -0.5), (-0.52, -0.12), 0.2, 0.62, -rng.uniform(0.4, 0.9), 0.13))
    for wrist, knuckle, breadth, length, angle, radius in fingers:
        segments.append((wrist, knuckle, breadth, 0.9 * breadth))
        tip, length, angle = np.array(knuckle), length * rng.uniform(0.9, 1.1), angle + rng.normal(0, 0.04)
        flexion, bend = 0.0, rng.normal(0, 0.05)
        for part, first, last in ((0.48, 1.15, 1), (0.3, 1, 0.92), (0.22, 0.92, 0.8)):
            start, along = tip, np.array([np.sin(angle), np.cos(angle)])
            tip = start + part * length * np.cos(flexion) * along
            segments.append((start, tip, first * radius, last * radius))
            flexion, angle = flexion + curl * rng.uniform(0.5, 1.3), angle + bend
        nails.append((tip, tip + 0.03 * along, 0.055, 0.055))
    segments += nails
    return np.array([x[:2] for x in segments], dtype=float), np.array([x[2:] for x in segments]), len(nails)


def relief(at, ends, radii):
    """Depth of places (..., 2) inside the nearest of tapered capsules, and height of their surface."""
    depth, height = np.full(at.shape[:-1], -np.inf), np.zeros(at.shape[:-1])
    for (start, end), (first, last) in zip(ends, radii, strict=True):
        along = end - start
        share = np.clip((at - start) @ along / (along @ along), 0, 1)
        radius = first + share * (last - first)
        distance = np.linalg.norm(at - start - share[..., None] * along, axis=-1)
        depth = np.maximum(depth, radius - distance)
        height = np.maximum(height, np.sqrt(np.maximum(radius**2 - distance**2, 0)))
    return depth, height


def reaching(image, box, rng, share=0.25):
    """Draw a hand in the colour of the face that reaches in from a random side until it covers a share of the box."""
    ends, radii, n_nails = bones(rng)
    if rng.random() < 0.5:
        ends = ends * [-1, 1]
    sides = box[2:] - box[:2]
    size, angle = rng.uniform(0.45, 0.65) * np.sqrt(sides.prod()), rng.uniform(0, 2 * np.pi)
    turned = angle + rng.uniform(-0.6, 0.6)
    outward, up = np.array([np.cos(angle), np.sin(angle)]), -np.array([np.cos(turned), np.sin(turned)])
    axes = np.stack([[-up[1], up[0]], up], -1) / size
    centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.2, 0.2) * sides.mean() * np.array([-outward[1], outward[0]])
    grid = np.stack(np.meshgrid(*np.linspace(box[:2], box[2:], 50).T), -1)
    near, far = -2 * sides.max(), 2 * sides.max() + 2 * size
    for _ in range(12):
        away = (near + far) / 2
        covers = (relief((grid - centre - away * outward) @ axes, ends, radii)[0] > 0).mean() > share
        near, far = (away, far) if covers else (near, away)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    at = (np.stack([x, y], -1) - centre - far * outward) @ axes
    depth, height = relief(at, ends[:-n_nails], radii[:-n_nails])
    nail, _ = relief(at, ends[-n_nails:], radii[-n_nails:])
    slopes = np.gradient(gaussian_filter(height * size, 0.04 * size))
    light = np.array([*rng.uniform([-0.9, -0.6], [-0.2, 0.6]), 1])
    lit = (light[2] - light[0] * slopes[0] - light[1] * slopes[1]) / np.sqrt(1 + slopes[0] ** 2 + slopes[1] ** 2)
    shade = 0.3 + 0.7 * np.clip(lit, 0, None) / np.linalg.norm(light)
    shade = shade / shade[depth > 0].mean() * (1 + 0.15 * np.clip(0.5 + nail * size, 0, 1))
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    skin = np.median(image[inside], 0) * rng.uniform(0.8, 1.25)
    drawn = skin * shade[..., None] + rng.normal(0, 3, image.shape[:2])[..., None]
    over = np.clip(0.5 + depth * size, 0, 1)[..., None]
    shadow = 1 - 0.4 * gaussian_filter((depth > 0).astype(float), 0.06 * size)[..., None]
    return np.clip(over * drawn + (1 - over) * shadow * image, 0, 255).round().astype(np.uint8)


def cover(kind, image, points, other, rng):
    """Return a changed copy of an image, and its landmarks."""
    image, box = np.array(image), np.concatenate([points.min(0), points.max(0)])
    width = box[2] - box[0]
    if kind == "grey":
        image[rectangle(box, rng)] = 127
    elif kind == "textured":
        part = image[rectangle(box, rng)]
        rows, columns = (
            (rng.integers(m) + np.arange(n)) % m for m, n in zip(other.shape, part.shape[:2], strict=False)
        )
        part[...] = other[np.ix_(rows, columns)]
    elif kind == "bar":
        image = bar(image, points)
    elif kind == "side" and rng.random() < 0.5:
        first = round(box[0] + 0.25 * width)
        image, points = image[:, first:], points - [first, 0]
    elif kind == "side":
        image = image[:, : round(box[2] - 0.25 * width)]
    elif kind == "blur":
        image = moved(image, width, rng)
    elif kind == "hand":
        image = reaching(image, box, rng)
    return np.ascontiguousarray(image), points


def faces(split, step=1, limit=None):
    """Photographs, landmarks and photographs' names."""
    samples = list(read_300w(Path(os.environ["SHAPE_MODELS_DATA"], "300w"), split))[::step][:limit]
    images = [load_image(sample.image) for sample in samples]
    return images, [np.asarray(sample.landmarks) for sample in samples], [str(sample.group) for sample in samples]


def covered(kind, images, shapes, seed=11):
    """Every face with a cover of one kind."""
    rng = np.random.default_rng(seed)
    pairs = [
        cover(kind, im, p, images[(i + 7) % len(images)], rng)
        for i, (im, p) in enumerate(zip(images, shapes, strict=True))
    ]
    return [image for image, _ in pairs], np.array([points for _, points in pairs])


def area_under_curve(low, high):
    """Probability that a number of `low` is below one of `high`."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return (ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high))


def relative_errors(found, truth):
    """Mean errors of shapes in percent of the distance of the outer corners of the eyes."""
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    return 100 * np.linalg.norm(np.array(found) - truth, axis=2).mean(1) / eyes


def scored(found, side):
    """Expected errors in sides of the boxes, infinite where nothing was found, and how implausible the shapes are."""
    errors = np.nan_to_num([face.expected_error for face in found], nan=np.inf) / side
    return errors, -np.nan_to_num([face.plausibility for face in found], nan=0.0)


def look(call, images, boxes, **choices):
    """One answer for each image."""
    return [call(image, box, n_passes=1, **choices)[0] for image, box in zip(images, boxes, strict=True)]


def squares(images, boxes, sides, rng):
    """A random square in each image that overlaps its box, if there is one, in at most a fifth of their union."""
    out = []
    for image, box, side in zip(images, boxes, sides, strict=True):
        while True:
            width = side * rng.uniform(0.5, 1.0)
            low = rng.uniform([0, 0], np.maximum(np.array(image.shape[1::-1]) - width, 1))
            square = np.concatenate([low, low + width])
            if box is None:
                break
            common = np.prod(np.clip(np.minimum(square[2:], box[2:]) - np.maximum(low, box[:2]), 0, None))
            if common <= 0.2 * (width**2 + np.prod(box[2:] - box[:2]) - common):
                break
        out.append(square)
    return np.array(out)


def hands():
    """Photographs of hands, each nine times."""
    paths = sorted(Path(os.environ["SHAPE_MODELS_DATA"], "hands").glob("*.jpg"))
    return [image for image in map(load_image, paths) for _ in range(9)]


def cost(call, images, boxes):
    """Return how many times the processor time of the network alone a face with the shape model takes."""
    spent = {fit: [] for fit in (False, True)}
    for _ in range(3):
        for fit, times in spent.items():
            began = time.process_time()
            look(call, images[:40], boxes[:40], fit=fit)
            times.append(time.process_time() - began)
    return min(spent[True]) / min(spent[False])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="asmnet-68")
    parser.add_argument("--covers", default=",".join(COVERS))
    parser.add_argument("--limit", type=int, help="measure about so many faces, evenly chosen")
    parser.add_argument("--picture", type=Path, help="draw how many landmarks lie within which ellipses")
    parser.add_argument("--search", action="store_true", help="join a search of the image, also where there are maps")
    parser.add_argument("--learn", type=Path, help="learn the uncertainty anew and write it here")
    parser.add_argument("--uncertainty", type=Path, help="use this one, written by --learn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    searches = arguments.model == "search68"
    search = load_model("search68") if searches or arguments.search else None
    learned = arguments.uncertainty and Uncertainty.from_header(json.loads(arguments.uncertainty.read_text()))
    call = search if searches else Predictor(load_pretrained(arguments.model), search=search, uncertainty=learned)
    if arguments.learn:
        images, shapes, _ = faces("train", 4)
        pairs = [covered(kind, images, shapes) for kind in ("grey", "textured", "bar")]
        known = np.zeros(3 * len(images) + len(images[::2]), dtype=bool)
        known[3 * len(images) :] = np.arange(len(images[::2])) % 4 > 0
        pairs.append((images[::2], np.array(shapes[::2])))
        pictures, truth = [image for one, _ in pairs for image in one], np.concatenate([part for _, part in pairs])
        learned = learn_uncertainty(call, pictures, truth, known=known)
        arguments.learn.write_text(json.dumps(learned.to_header()) + "\n")
        return
    images, shapes, groups = faces("val", 1 if not arguments.limit else max(1, 259 // arguments.limit))
    print(f"{arguments.model}, {len(images)} faces of 300-W val")
    if searches:
        for kind in arguments.covers.split(","):
            pictures, truth = covered(kind, images, shapes)
            found = call.predict(pictures, boxes=np.concatenate([truth.min(1), truth.max(1)], 1))
            print(f"{kind:9} {relative_errors([one.shape for one in found], truth).mean():5.2f}", flush=True)
        return
    print(f"{'':9}  raw  fitted  fitted less raw        in 50, 80, 95 %    rank   ms  times")
    distances, scores = {}, {}
    for kind in arguments.covers.split(","):
        pictures, truth = covered(kind, images, shapes)
        boxes = np.concatenate([truth.min(1), truth.max(1)], 1)
        look(call, pictures[:1], boxes[:1])
        began = time.process_time()
        found = look(call, pictures, boxes)
        spent = 1e3 * (time.process_time() - began) / len(found)
        eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
        raw, fitted = (relative_errors([getattr(f, name) for f in found], truth) for name in ("landmarks", "fitted"))
        off = truth - np.array([face.fitted for face in found])
        distances[kind] = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv([face.covariance for face in found]), off)
        radius = found[0].radius
        inside = [100 * (distances[kind] <= radius(level) ** 2).mean() for level in LEVELS]
        expected = np.array([face.expected_error for face in found])
        less = compare(fitted, raw, groups=groups).difference
        print(
            f"{kind:9} {raw.mean():5.2f} {fitted.mean():5.2f}  {less.estimate:+.2f} [{less.low:+.2f}, {less.high:+.2f}]"
            f"  {inside[0]:8.1f} {inside[1]:5.1f} {inside[2]:5.1f}  {spearmanr(expected / eyes, fitted)[0]:6.2f} "
            f"{spent:5.1f}  {cost(call, pictures, boxes):5.2f}",
            flush=True,
        )
        if kind == "plain":
            side, rng = (boxes[:, 2:] - boxes[:, :2]).max(1), np.random.default_rng(5)
            own = scored(found, side)
            several = hands()
            for name, others, given in (
                ("random squares", pictures, squares(pictures, boxes, side, rng)),
                ("hands", several, squares(several, [None] * len(several), [300.0] * len(several), rng)),
            ):
                other = scored(look(call, others, given), given[:, 2] - given[:, 0])
                scores[name] = len(given), *(area_under_curve(a, b) for a, b in zip(own, other, strict=True))
    for name, (n, error, plausibility) in scores.items():
        print(
            f"{len(images)} faces told from {n} {name}: {error:.3f} by the expected error, {plausibility:.3f} by the "
            "plausibility"
        )
    if arguments.picture:
        import matplotlib.pyplot as plt

        levels = np.linspace(0.01, 0.99, 99)
        figure, axis = plt.subplots()
        axis.plot([0, 1], [0, 1], color="0.7")
        for kind, square in distances.items():
            axis.plot(levels, [(square <= radius(level) ** 2).mean() for level in levels], label=kind)
        axis.set(xlabel="stated probability", ylabel="fraction of landmarks inside", title=arguments.model)
        axis.legend()
        figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
