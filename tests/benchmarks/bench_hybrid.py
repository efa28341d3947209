"""What network, image and shape model make of plain and covered faces together, and whether they know how well.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_hybrid.py asmnet-68 [--limit 60] [--covers plain,grey]
        [--picture reliability.png] [--learn FILE.json]

Faces of 300-W val by their true boxes, one look. Covers: `grey` and `textured` (a piece of another photograph) are
rectangles over a quarter of the box at a random place, sides 1 : 2 to 2 : 1; `bar` a dark bar over both eyes; `side`
cuts the photograph off a quarter into the face; `blur` is a motion of a tenth of the box in a random direction. The
table: errors in percent of the distance of the outer corners of the eyes, as the network answers and fitted, and their
paired difference with its 95 % interval over photographs; the percentage of true landmarks inside the ellipses that
should hold 50, 80 and 95 %; the rank correlation of expected and true errors of faces; time on this processor. Last,
how well faces are told from boxes beside the face: the area under the curve of the expected error in sides of the
box, and of the plausibility.

With --learn the uncertainty that ships beside the weights is learned anew, as it was from as many faces: from every
fourth training face as it is, grey, textured and with a bar.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import convolve
from scipy.stats import rankdata, spearmanr

from asmnet import Predictor
from asmnet.data import load_image
from asmnet.uncertainty import learn_uncertainty
from evaluation import compare
from shape_models.datasets import read_300w

COVERS = ("plain", "grey", "textured", "bar", "side", "blur")
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


def look(call, images, boxes):
    """One answer for each image."""
    return [call(image, box, n_passes=1)[0] for image, box in zip(images, boxes, strict=True)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="asmnet-68")
    parser.add_argument("--covers", default=",".join(COVERS))
    parser.add_argument("--limit", type=int, help="measure about so many faces, evenly chosen")
    parser.add_argument("--picture", type=Path, help="draw how many landmarks lie within which ellipses")
    parser.add_argument("--learn", type=Path, help="learn the uncertainty anew and write it here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    call = Predictor.from_pretrained(arguments.model)
    if arguments.learn:
        images, shapes, _ = faces("train", 4)
        pairs = [covered(kind, images, shapes) for kind in ("plain", "grey", "textured", "bar")]
        learned = learn_uncertainty(
            call, [image for one, _ in pairs for image in one], np.concatenate([s for _, s in pairs])
        )
        arguments.learn.write_text(json.dumps(learned.to_header()) + "\n")
        return
    images, shapes, groups = faces("val", 1 if not arguments.limit else max(1, 259 // arguments.limit))
    print(f"{arguments.model}, {len(images)} faces of 300-W val")
    print(f"{'':9}  raw  fitted  fitted less raw        in 50, 80, 95 %    rank  ms")
    squares, scores = {}, {}
    for kind in arguments.covers.split(","):
        pictures, truth = covered(kind, images, shapes)
        boxes = np.concatenate([truth.min(1), truth.max(1)], 1)
        look(call, pictures[:1], boxes[:1])
        began = time.process_time()
        found = look(call, pictures, boxes)
        spent = 1e3 * (time.process_time() - began) / len(found)
        eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
        raw, fitted = (
            100 * np.linalg.norm(np.array([getattr(f, name) for f in found]) - truth, axis=2).mean(1) / eyes
            for name in ("landmarks", "fitted")
        )
        off = truth - np.array([face.fitted for face in found])
        squares[kind] = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv([face.covariance for face in found]), off)
        inside = [100 * (squares[kind] <= -2 * np.log(1 - level)).mean() for level in LEVELS]
        expected = np.array([face.expected_error for face in found])
        less = compare(fitted, raw, groups=groups).difference
        print(
            f"{kind:9} {raw.mean():5.2f} {fitted.mean():5.2f}  {less.estimate:+.2f} [{less.low:+.2f}, {less.high:+.2f}]"
            f"  {inside[0]:8.1f} {inside[1]:5.1f} {inside[2]:5.1f}  {spearmanr(expected / eyes, fitted)[0]:6.2f} "
            f"{spent:5.1f}", flush=True,
        )  # fmt: skip
        if kind == "plain":
            side = (boxes[:, 2:] - boxes[:, :2]).max(1)
            beside = boxes + np.tile(np.where(boxes[:, :1] > 192, -1.0, 1.0) * 1.2 * side[:, None] * [[1, 0]], 2)
            beside[:, [0, 2]] += np.clip(-beside[:, :1], 0, None) - np.clip(beside[:, 2:3] - 384, 0, None)
            other = look(call, pictures, beside)
            scores["expected error"] = (expected / side, np.array([face.expected_error for face in other]) / side)
            scores["plausibility"] = (
                -np.array([f.plausibility for f in found]),
                -np.array([f.plausibility for f in other]),
            )
    for name, (own, others) in scores.items():
        print(f"faces told from boxes beside them by the {name}: {area_under_curve(own, others):.3f}")
    if arguments.picture:
        import matplotlib.pyplot as plt

        levels = np.linspace(0.01, 0.99, 99)
        figure, axis = plt.subplots()
        axis.plot([0, 1], [0, 1], color="0.7")
        for kind, square in squares.items():
            axis.plot(levels, [(square <= -2 * np.log(1 - level)).mean() for level in levels], label=kind)
        axis.set(xlabel="stated probability", ylabel="fraction of landmarks inside", title=arguments.model)
        axis.legend()
        figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
