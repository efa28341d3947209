"""Detection measured: from image to landmarks, what is taken for a face, and faces turned by any angle.

Run: SHAPE_MODELS_DATA=/path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/bench_detection.py road | faces | turned

All use the faces of 300-W, and images without a face: images of scikit-image, parts of images beside the
face, textures and drawings. What is chosen is chosen on training images and what goes with them, and measured on
the validation faces. Errors are in percent of the distance of the outer corners of the eyes.
"""

import csv
import os
import time
from pathlib import Path

import click
import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from evaluation import bootstrap_interval, nme
from shape_models import load_model, read_pts
from shape_models.boxes import convert, learn_box_convention
from shape_models.images import read_image
from shape_models.search import find_faces
from shape_models.search.detection import _LEAST_VERIFIED, _VIEWS, cascade_faces
from shape_models.search.detectors import get_detector

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", "")) / "300w"
FACELESS = (
    "brick",
    "cell",
    "chelsea",
    "checkerboard",
    "clock",
    "coffee",
    "coins",
    "colorwheel",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "immunohistochemistry",
    "logo",
    "microaneurysms",
    "moon",
    "page",
    "retina",
    "rocket",
    "shepp_logan_phantom",
    "text",
    "cat",
)
SPREAD = (0.03, 0.03, 0.05, 0.05)  # of the boxes of a good detector, fractions of the sides: x, y, width, height


def faces(part):
    with (DATA / "split.csv").open() as file:
        for name, photograph, split in csv.reader(file):
            if split == part:
                yield DATA / name, photograph, read_pts((DATA / name).with_suffix(".pts")).points


def tight(points):
    return np.concatenate([points.min(0), points.max(0)])


def is_on(box, points):
    own = tight(points)
    side, centre = (own[2:] - own[:2]).max(), (own[:2] + own[2:] - box[:2] - box[2:]) / 2
    return np.linalg.norm(centre) < side / 2 and 0.5 < (box[2:] - box[:2]).max() / side < 2


# --- images without a face -------------------------------------------------------------------------------------


def photographs():
    for name in FACELESS:
        try:
            image = read_image(getattr(skimage.data, name)())
        except (AttributeError, OSError, ValueError, ImportError):  # not there without a download
            continue
        yield name, image
        yield f"{name} upside down", image[::-1]
        yield f"{name} on its side", np.ascontiguousarray(np.rot90(image))


def beside_faces(part, every):
    """Parts of images beside the face and the hair over it, twice as large."""
    rng = np.random.default_rng(0)
    for path, _, points in list(faces(part))[::every]:
        image, (x0, y0, x1, y1) = read_image(path), tight(points)
        height, width = image.shape[:2]
        y0, margin = y0 - 0.6 * (y1 - y0), 0.1 * (x1 - x0)
        strips = [
            (0, 0, x0 - margin, height),
            (x1 + margin, 0, width, height),
            (0, y1 + margin, width, height),
            (0, 0, width, y0 - margin),
        ]
        strips = [s for s in strips if min(s[2] - s[0], s[3] - s[1]) >= 60]
        if strips:
            part_of = np.array(strips[rng.integers(len(strips))]).astype(int)
            crop = Image.fromarray(image).crop(tuple(part_of.tolist()))
            yield path.stem, np.asarray(crop.resize([2 * side for side in crop.size], Image.Resampling.BICUBIC))


def textures(n, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        fx, fy = np.meshgrid(np.fft.fftfreq(320), np.fft.fftfreq(240))
        radius = np.hypot(fx, fy)
        radius[0, 0] = 1
        waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(240, 320))) / radius ** rng.uniform(0.5, 2)).real
        yield f"texture {i}", np.clip(128 + 45 * waves / waves.std(), 0, 255).astype(np.uint8)


def drawings(n, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        canvas = Image.new("L", (400, 300), 255)
        draw = ImageDraw.Draw(canvas)
        for _ in range(int(rng.integers(5, 60))):
            x, y, dx, dy = rng.uniform(0, 400), rng.uniform(0, 300), rng.uniform(5, 150), rng.uniform(5, 150)
            ink, form = int(rng.integers(0, 200)), rng.integers(4)
            if form == 0:
                draw.line((x, y, x + dx, y + dy), fill=ink, width=int(rng.integers(1, 8)))
            elif form == 1:
                draw.ellipse((x, y, x + dx, y + dy), outline=ink, width=int(rng.integers(1, 8)))
            elif form == 2:
                draw.rectangle((x, y, x + dx, y + dy), fill=ink)
            else:
                draw.text((x, y), "Landmarks"[: int(rng.integers(2, 9))], fill=ink, font_size=int(rng.integers(8, 60)))
        yield f"drawing {i}", np.asarray(canvas)


def without_faces(part, every):
    """What goes with a part of 300-W: no image is in two of them."""
    odd = part == "val"
    yield from [pair for i, pair in enumerate(photographs()) if (i // 3) % 2 == odd]
    yield from beside_faces(part, every)
    yield from textures(max(2, 100 // every), seed=odd)
    yield from drawings(max(2, 100 // every), seed=odd)


# --- studies ---------------------------------------------------------------------------------------------------


def learned(detector, every):
    found, truth = [], []
    for path, _, points in list(faces("train"))[:: 3 * every]:
        image = Image.fromarray(read_image(path))
        for factor in (1.0, 0.62, 0.8, 1.27):
            small = np.asarray(image.resize([round(side * factor) for side in image.size], Image.Resampling.BILINEAR))
            boxes = find_faces(small, detector, convention=None).boxes / factor
            found.append(boxes[0] if len(boxes) else np.full(4, np.nan))
            truth.append(points)
    return learn_box_convention(np.array(found), np.array(truth))


every_option = click.option("--every", type=click.IntRange(1), default=1, help="Take one face of so many.")


@click.group()
def main():
    """Measure detection."""


@main.command()
@click.option("--detectors", default="scikit-image,dlib,retinaface", show_default=True)
@click.option("--models", default="search68,asmnet-68,hourglass-68", show_default=True)
@click.option("--conventions", is_flag=True, help="Learn what the boxes mean anew, on the training faces.")
@every_option
def road(detectors, models, conventions, every):
    """Go from image to landmarks with each detector that is installed.

    A face is found when the centre of the best box is within half of its side and the size within half and twice. The
    errors are over the faces found, with 95 % bootstrap intervals over images. Boxes' conventions are learned from
    every third training face and, since detectors answer in steps, in four sizes. A false answer is an image without a
    face that gets a box.
    """
    from asmnet import Predictor

    val, nothing = list(faces("val"))[::every], list(without_faces("val", every))
    predictors = {}
    for name in models.split(","):
        if name == "search68":
            fitter = load_model(name)
            predictors[name] = lambda image, box, fitter=fitter: fitter.predict(image, boxes=box).shape
        else:
            network = Predictor.from_pretrained(name)
            predictors[name] = lambda image, box, network=network: network(image, box[None])[0].landmarks
    for name in detectors.split(","):
        try:
            get_detector(name)
        except ImportError as error:
            click.echo(f"{name}: {error}")
            continue
        start = time.process_time()
        found = [find_faces(path, name).boxes for path, _, _ in val]
        cost = (time.process_time() - start) / len(val)
        start = time.process_time()
        false = [title for title, image in nothing if len(find_faces(image, name).boxes)]
        cost_without = (time.process_time() - start) / len(nothing)
        right = [len(boxes) > 0 and is_on(boxes[0], points) for boxes, (_, _, points) in zip(found, val, strict=True)]
        several = sum(len(boxes) > 1 for boxes in found)
        click.echo(
            f"{name}: {sum(right)} of {len(val)} faces, {several} images with more than one box, {1e3 * cost:.0f} ms; "
            f"{len(false)} of {len(nothing)} images without a face get a box, {1e3 * cost_without:.0f} ms: "
            f"{', '.join(false[:8])}"
        )
        if conventions:
            click.echo(f"  boxes: {learned(name, every)}")
        for label, predict in predictors.items():
            answers, truth, groups = [], [], []
            for ok, boxes, (path, photograph, points) in zip(right, found, val, strict=True):
                if ok:
                    answers.append(predict(path, boxes[0]))
                    truth.append(points)
                    groups.append(photograph)
            errors = nme(np.array(truth), np.array(answers), normalizer="inter_ocular", scheme="ibug68")
            click.echo(f"  {label}: {bootstrap_interval(errors, groups=groups).scaled(100):.2f} %")


@main.command("faces")
@every_option
def what_is_a_face(every):
    """Say at each confidence how many faces pass, and how many images without a face would get a box.

    The boxes are those of the cascade in every way that an image is looked at, on all training faces; beside them the
    true boxes, off as those of a good detector are.
    """
    fitter = load_model("search68")

    def confidences(image, boxes, degrees=0.0):
        if not len(boxes):
            return np.zeros(0)
        starts = list(fitter.starts(boxes, degrees=degrees))
        return np.array([r.confidence.mean() for r in fitter.predict([image] * len(starts), initial=starts)])

    def answers(image):
        for shrink, degrees in _VIEWS:
            found = cascade_faces(image, min_windows=_LEAST_VERIFIED, shrink=shrink, degrees=degrees)
            boxes = convert(found.boxes, "scikit-image") if len(found.boxes) else found.boxes
            yield boxes, confidences(image, boxes, degrees)

    thresholds = np.arange(0.5, 0.85, 0.02)
    for part in ("train", "val"):
        rng = np.random.default_rng(0)
        first, best, near = [], [], []
        for path, _, points in list(faces(part))[::every]:
            image = read_image(path)
            on = [
                max([c for box, c in zip(*view, strict=True) if is_on(box, points)], default=0.0)
                for view in answers(image)
            ]
            first.append(on[0])
            best.append(max(on))
            own = tight(points)
            sides = own[2:] - own[:2]
            off = rng.normal(size=4) * SPREAD
            centre, sides = (own[:2] + own[2:]) / 2 + off[:2] * sides, sides * np.exp(off[2:])
            near.append(confidences(image, np.concatenate([centre - sides / 2, centre + sides / 2])[None])[0])
        none = {
            title: max((max(c, default=0.0) for _, c in answers(image)), default=0.0)
            for title, image in without_faces(part, every)
        }
        click.echo(f"{part}: {len(best)} faces, {len(none)} images without one; shares that pass, %")
        click.echo("confidence  first look  any look  good boxes  without a face")
        for t in thresholds:
            shares = [100 * np.mean(np.array(list(values)) >= t) for values in (first, best, near, none.values())]
            click.echo(f"{t:10.2f}  {shares[0]:10.1f}  {shares[1]:8.1f}  {shares[2]:10.1f}  {shares[3]:14.1f}")
        worst = sorted(none.items(), key=lambda item: -item[1])[:8]
        click.echo("most like a face: " + ", ".join(f"{title} {value:.2f}" for title, value in worst))


@main.command()
@click.option("--models", default="search68,asmnet-68,hourglass-68,light-68", show_default=True)
@click.option("--every", type=click.IntRange(1), default=5, show_default=True, help="Take one face of so many.")
def turned(models, every):
    """Turn validation images about their centre; the boxes are the true ones of the turned landmarks."""
    from asmnet import Predictor

    predictors = {}
    for name in models.split(","):
        if name == "search68":
            fitter = load_model(name)
            predictors[name] = lambda image, box, fitter=fitter: fitter.predict(image, boxes=box).shape
        else:
            network = Predictor.from_pretrained(name)
            predictors[name] = lambda image, box, network=network: network(image, box[None])[0].landmarks
    val = list(faces("val"))[::every]
    click.echo(f"{len(val)} faces; mean error in %, and over twice the upright mean")
    for name, predict in predictors.items():
        upright = None
        for degrees in (0, 15, 30, 45, 60, 90, 135, 180):
            angle, truth, answers = np.deg2rad(degrees), [], []
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            start = time.process_time()
            for path, _, points in val:
                image = Image.fromarray(read_image(path))
                around = image.rotate(-degrees, resample=Image.Resampling.BICUBIC, expand=True)
                middles = [(np.array(picture.size) - 1) / 2 for picture in (image, around)]
                truth.append((points - middles[0]) @ rotation.T + middles[1])
                answers.append(predict(np.asarray(around), tight(truth[-1])))
            cost = (time.process_time() - start) / len(val)
            errors = 100 * nme(np.array(truth), np.array(answers), normalizer="inter_ocular", scheme="ibug68")
            upright = errors.mean() if upright is None else upright
            click.echo(
                f"{name:14s} {degrees:4d} degrees: {errors.mean():6.2f} (upright x {errors.mean() / upright:.2f}), "
                f"{(errors > 2 * upright).sum()} far off, {1e3 * cost:.0f} ms",
            )


if __name__ == "__main__":
    main()
