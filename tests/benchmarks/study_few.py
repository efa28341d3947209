"""How near do few annotated images come? Heat maps, with and without shape model and borrowed trunk, and the search.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/study_few.py [--only hands:20,faces:100]

Persons, photographs or specimens that are measured are never trained on. Errors are mean distances in percent of the
diagonal of the true box (faces: of the distance of the outer eye corners); boxes are the true ones. `TrainConfig.few`
chooses the settings; bfloat16 is on. Trainings are kept in --out; a broken study goes on where it stopped.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from bench_search_accuracy import load_fly_wings, load_hands, load_imm
from study import errors, faces, row

from asmnet import LandmarkDataset, TrainConfig, predict_dataset, train, transfer_trunk
from asmnet._crops import cut_rectangle
from asmnet.training import keep_freed_memory
from evaluation import compare
from shape_models import ASM, IMM58, AlignedASM
from shape_models.search import ASMFitter, Patches

SIZES = {"faces": (50, 100, 200), "imm": (20, 60, 120), "hands": (20,), "wings": (20, 40)}
SIDE = 256


def object_set(name):
    """Return packed images of a set, who is on each, and which are measured."""
    images, shapes, groups, folds, _, _ = {"hands": load_hands, "imm": load_imm, "wings": load_fly_wings}[name]()
    low, high = shapes.min(1), shapes.max(1)
    side, middle = 1.9 * (high - low).max(1), (low + high) / 2
    packed, points = [], []
    for image, shape, extent, centre in zip(images, shapes, side, middle, strict=True):
        rgb = np.repeat(np.asarray(image)[..., None], 3, axis=2) if image.ndim == 2 else image
        packed.append(cut_rectangle(rgb, centre, np.array([extent, extent]), SIDE))
        points.append((shape - centre) * SIDE / extent + (SIDE - 1) / 2)
    scheme = IMM58 if name == "imm" else None
    mirror = None if scheme is None else np.asarray(scheme.mirror)
    data = LandmarkDataset.from_arrays(np.array(packed), np.array(points), mirror=mirror)
    held_out = folds[0][1] if name != "imm" else np.isin(groups, np.unique(groups)[20:])
    return replace(data, groups=tuple(map(str, groups))), np.flatnonzero(~held_out), np.flatnonzero(held_out)


def box_errors(dataset, points):
    """Mean distance over the diagonal of the true box."""
    size = np.linalg.norm(dataset.boxes[:, 2:] - dataset.boxes[:, :2], axis=1)
    return np.linalg.norm(points - dataset.landmarks, axis=-1).mean(1) / size


def search(dataset, held_out, scheme):
    """Train the library's search on the same images, and look in the true boxes."""
    grey = [image.astype(float).mean(2).astype(np.uint8) for image in (*dataset.images, *held_out.images)]
    fitter = ASMFitter(AlignedASM(ASM(0.98), scheme=scheme), evidence=Patches())
    fitter.fit(grey[: len(dataset)], dataset.landmarks)
    images = zip(grey[len(dataset) :], held_out.boxes, strict=True)
    return np.array([fitter.predict(image, boxes=box).shape for image, box in images])


def measure(name, size, seed, out):
    """Train and measure everything on one set at one size; return errors by method, and groups."""
    if name == "faces":
        everyone, held_out = faces("train"), faces("val")
        rows, scheme, measured = np.arange(len(everyone)), "ibug68", errors
    else:
        everyone, rows, test = object_set(name)
        held_out, scheme, measured = everyone.take(test), "imm58" if name == "imm" else None, box_errors
    dataset = everyone.take(np.sort(np.random.default_rng(seed).permutation(rows)[:size]))
    config = TrainConfig.few(size, n_landmarks=dataset.n_landmarks, seed=seed, mixed_precision="always")
    found, seconds = {}, {}
    for start in ("heat maps",) if name == "faces" else ("heat maps", "heat maps, trunk of hourglass-68"):
        folder = Path(out) / f"{name}-{size}-{seed}{'-trunk' if 'trunk' in start else ''}"
        initial = transfer_trunk("hourglass-68", config) if "trunk" in start else None
        began = time.process_time()
        network = train(config, dataset, folder=folder, initial=initial, resume=True).network
        seconds[start] = time.process_time() - began
        points, _ = predict_dataset(network, held_out, config.preprocessing)
        found[start] = measured(held_out, points)
    began = time.process_time()
    found["search with patches"] = measured(held_out, search(dataset, held_out, scheme))
    seconds["search with patches"] = time.process_time() - began
    groups = held_out.groups if len(set(held_out.groups)) > 1 else None  # one person: over the images
    return found, seconds, groups


@click.command()
@click.option("--only", default=",".join(f"{k}:{n}" for k, sizes in SIZES.items() for n in sizes), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", default="runs/few", show_default=True)
def main(only, seed, out):
    """Print a row for each set, size and method."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for part in only.split(","):
        name, _, size = part.partition(":")
        found, seconds, groups = measure(name, int(size), seed, out)
        click.echo(f"\n{name}, {size} training images, {len(next(iter(found.values())))} measured")
        for method, values in found.items():
            row(f"{method} ({seconds[method]:.0f} s)", values, groups)
        first = next(iter(found))
        for method in list(found)[1:]:
            click.echo(str(compare(found[method], found[first], groups=groups, names=(method, first))))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
