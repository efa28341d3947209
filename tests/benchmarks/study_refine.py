"""What `refine` does to a real detector's landmarks on the validation faces of 300-W.

Run: SHAPE_MODELS_DATA=/path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/study_refine.py POINTS.npz
        [--scheme mediapipe478] [--every N]
     ... study_refine.py --beside 0.45          true landmarks moved by that fraction of the larger side of their box
     ... study_refine.py --supported            what tells training faces, plain and covered, from squares beside them

POINTS.npz has the arrays `names`, the paths of the images as split.csv has them, and `points` (n, K, 2), pixels, the
first 0, NaN where the detector found nothing. The packages of detectors need other versions of NumPy than this library,
so that they run by themselves; for MediaPipe 0.10 in an environment of its own:

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    found = mesh.process(image).multi_face_landmarks[0].landmark
    points = [[p.x * width - 0.5, p.y * height - 0.5] for p in found]

Errors are in percent of the distance of the outer corners of the eyes, differences paired, with 95 % intervals over
photographs.
"""

import csv
import os
from pathlib import Path

import click
import numpy as np

from evaluation import bootstrap_interval, compare, nme
from shape_models import convert, load_model, read_pts
from shape_models.images import read_image
from shape_models.search import refine

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", "")) / "300w"


@click.command()
@click.argument("points_file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--scheme", default="mediapipe478", show_default=True)
@click.option("--every", type=click.IntRange(1), default=1)
@click.option("--beside", type=float, help="Without a file: how far true landmarks are moved, each face its own way.")
@click.option("--supported", is_flag=True, help="Confidence of the best quarter at faces and beside them.")
def main(points_file, scheme, every, beside, supported):
    """Refine, and compare with the detector, its projection and the search from the true box."""
    if supported:
        return supported_faces()
    if (points_file is None) == (beside is None):
        raise click.UsageError("expected either POINTS.npz or --beside FRACTION.")
    if beside is None:
        with np.load(points_file) as file:
            found = dict(zip(file["names"].tolist(), file["points"].astype(float), strict=True))
    else:
        scheme, found = "ibug68", moved_truth(beside)
    with (DATA / "split.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[0] in found and np.isfinite(found[row[0]]).any()][::every]
    truth = np.array([read_pts((DATA / name).with_suffix(".pts")).points for name, _, _ in rows])
    groups = [photograph for _, photograph, _ in rows]
    search, model = load_model("search68"), load_model("face68")
    raw = np.array([found[name] for name, _, _ in rows])
    raw = raw if scheme == "ibug68" else np.asarray(convert(raw, scheme, "ibug68").shapes)
    images = [read_image(DATA / name) for name, _, _ in rows]
    boxes = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1)
    answers = {"detector": raw, "projected": np.asarray(model.project(raw))}
    answers["search from the true box"] = np.array([r.shape for r in search.predict(images, boxes=boxes)])
    answers["refined"] = np.array([r.points for r in refine(images, list(raw), scheme="ibug68", fitter=search)])
    errors = {name: nme(truth, points, normalizer="inter_ocular", scheme="ibug68") for name, points in answers.items()}
    click.echo(f"{len(rows)} faces")
    for name, values in errors.items():
        click.echo(f"{name:26s} {bootstrap_interval(values, groups=groups).scaled(100):.2f} %")
    for name in ("detector", "search from the true box"):
        click.echo(str(compare(errors["refined"], errors[name], groups=groups, names=("refined", name))))


def supported_faces(n=200):
    """Print which faces, covered faces and squares without a face `refine` calls unsupported."""
    rng, search = np.random.default_rng(0), load_model("search68")
    mean = np.asarray(load_model("face68").asm_.mean_)
    mean = (mean - (mean.max(axis=0) + mean.min(axis=0)) / 2) / np.ptp(mean, axis=0).max()
    with (DATA / "split.csv").open() as file:
        names = [row[0] for row in csv.reader(file) if row[2] == "train"]
    found = {"faces": [], "a quarter covered": [], "half covered": [], "squares": []}

    def look(what, image, points):
        found[what] += [answer.status != "ok" for answer in refine([image], [points], fitter=search)]

    for i, name in enumerate(rng.permutation(names)[:n]):
        image, truth = read_image(DATA / name), read_pts((DATA / name).with_suffix(".pts")).points
        low, high = truth.min(axis=0), truth.max(axis=0)
        side = (high - low).max()
        noisy = truth + rng.normal(scale=0.02 * side, size=truth.shape)
        if i < 60:
            look("faces", image, noisy)
        for what, fraction in (("a quarter covered", 0.5), ("half covered", 0.7)) if i < 100 else ():
            covered, extent = image.copy(), (high - low) * fraction
            corner = low + rng.uniform(size=2) * (high - low - extent)
            (x0, y0), (x1, y1) = np.maximum(corner, 0).astype(int), (corner + extent).astype(int)
            covered[y0:y1, x0:x1] = rng.integers(0, 255)
            look(what, covered, noisy)
        size = np.array(image.shape[1::-1])
        for _ in range(200):
            own = max(40.0, side * np.exp(rng.uniform(-1.6, 0.3)))
            centre = rng.uniform(size=2) * size
            inside = (centre > own / 2).all() and (centre < size - own / 2).all()
            if inside and np.maximum(low - (centre + 0.8 * own), centre - 0.8 * own - high).max() > 0:
                look("squares", image, mean * own + centre)
                break
    for what, flags in found.items():
        click.echo(f"{what:20s} {sum(flags)} of {len(flags)} unsupported")


def moved_truth(fraction):
    """Return the true landmarks of the validation faces, each moved in a direction drawn at random."""
    rng, found = np.random.default_rng(0), {}
    with (DATA / "split.csv").open() as file:
        names = [row[0] for row in csv.reader(file) if row[2] == "val"]
    for name in names:
        points, angle = read_pts((DATA / name).with_suffix(".pts")).points, rng.uniform(0, 2 * np.pi)
        side = np.ptp(points, axis=0).max()
        found[name] = points + fraction * side * np.array([np.cos(angle), np.sin(angle)])
    return found


if __name__ == "__main__":
    main()
