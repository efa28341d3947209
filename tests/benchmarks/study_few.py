"""How near do few annotated images come? Heat maps, the search, and heat maps that the search teaches on other images.

Run: SHAPE_MODELS_DATA=... python tests/benchmarks/study_few.py [--only faces:50] [--seed 0] [--picture few.png]

Persons, photographs or specimens that are measured are never trained on. Errors are mean distances in percent of the
diagonal of the true box (faces: of the distance of the outer eye corners); boxes are the true ones. `TrainConfig.few`
chooses the settings; bfloat16 is on. Where more images of the training part are left, the search labels them, and the
network goes on with the surest four fifths beside its own (`asmnet.pseudo_labels`): it never sees their annotations,
only their boxes, off by 4 %. A seed draws the annotated images, the weights and the order; of several seeds the
intervals count seeds and images. Trainings and errors are kept in --out; a broken study goes on where it stopped.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from bench_search_accuracy import load_fly_wings, load_hands, load_imm
from study import errors, faces

from asmnet import LandmarkDataset, TrainConfig, predict_dataset, train, transfer_trunk
from asmnet._crops import cut_rectangle, tight_boxes
from asmnet.hybrid import predict_heatmaps
from asmnet.pseudo_labels import pseudo_labels
from asmnet.training import keep_freed_memory
from evaluation import compare
from shape_models import ASM, IMM58, AlignedASM
from shape_models.search import ASMFitter, Patches, fit_heatmaps

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


def grey(dataset):
    """Return packed images without colour."""
    return [image.astype(float).mean(2).astype(np.uint8) for image in dataset.images]


def learn_search(dataset, scheme):
    """Train the library's search on the same images."""
    fitter = ASMFitter(AlignedASM(ASM(0.98), scheme=scheme), evidence=Patches())
    return fitter.fit(grey(dataset), dataset.landmarks)


def labelled(fitter, others, seed):
    """Return images with the landmarks that the search finds in boxes that are a little off."""
    size = others.boxes[:, 2:] - others.boxes[:, :2]
    boxes = others.boxes + np.random.default_rng(seed).normal(0, 0.04, (len(others), 4)) * np.tile(size, 2)
    found = pseudo_labels(fitter, grey(others), boxes=boxes)
    landmarks = found.landmarks.astype(others.landmarks.dtype)
    return replace(others.take(found.rows), landmarks=landmarks, boxes=tight_boxes(landmarks))


def with_model(network, dataset, config, model):
    """Fit the shape model of the annotated images to the heat maps."""
    drawn = predict_heatmaps(network, dataset, config.preprocessing)
    return fit_heatmaps(model, drawn.maps, drawn.matrices).completed


def measure(name, size, seed, out):
    """Train and measure everything on one set at one size; return errors by method, and the group of each image."""
    if name == "faces":
        everyone, held_out = faces("train"), faces("val")
        rows, scheme, measured = np.arange(len(everyone)), "ibug68", errors
    else:
        everyone, rows, test = object_set(name)
        held_out, scheme, measured = everyone.take(test), "imm58" if name == "imm" else None, box_errors
    order = np.random.default_rng(seed).permutation(rows)
    dataset, others = (everyone.take(np.sort(part)) for part in (order[:size], order[size:]))
    config = TrainConfig.few(size, n_landmarks=dataset.n_landmarks, seed=seed, mixed_precision="always")
    found, seconds = {}, {}
    model = AlignedASM(ASM(0.98), scheme=scheme).fit(dataset.landmarks)
    for start in ("heat maps",) if name == "faces" else ("heat maps", "heat maps, trunk of hourglass-68"):
        folder = Path(out) / f"{name}-{size}-{seed}{'-trunk' if 'trunk' in start else ''}"
        initial = transfer_trunk("hourglass-68", config) if "trunk" in start else None
        began = time.process_time()
        network = train(config, dataset, folder=folder, initial=initial, resume=True).network
        seconds[start] = time.process_time() - began
        points, _ = predict_dataset(network, held_out, config.preprocessing)
        found[start] = measured(held_out, points)
        found[f"{start} + shape model"] = measured(held_out, with_model(network, held_out, config, model))
    began = time.process_time()
    fitter = learn_search(dataset, scheme)
    seconds["search with patches"] = time.process_time() - began
    searched = np.array([fitter.predict(x, boxes=b).shape for x, b in zip(grey(held_out), held_out.boxes, strict=True)])
    found["search with patches"] = measured(held_out, searched)
    if len(others) >= size:
        began = time.process_time()
        extra = labelled(fitter, others, seed)
        # Three labels of the search to one of the annotators, and as many crops as the first training.
        more = replace(config, extra_fraction=3.0, epochs=max(1, config.epochs // 4), seed=seed + 1)
        folder, initial = Path(out) / f"{name}-{size}-{seed}-taught", network.state_dict()
        network = train(more, dataset, extra=[extra], folder=folder, initial=initial, resume=True).network
        seconds["taught by the search"] = time.process_time() - began
        points, _ = predict_dataset(network, held_out, config.preprocessing)
        found["taught by the search"] = measured(held_out, points)
        fitted = with_model(network, held_out, config, model)
        found["taught + shape model"] = measured(held_out, fitted)
        found["mean of that and the search"] = measured(held_out, (fitted + searched) / 2)
    click.echo(", ".join(f"{method} {value:.0f} s" for method, value in seconds.items()), err=True)
    return found, np.asarray(held_out.groups)


def known_or_measured(name, size, seed, out):
    """Return the errors by method, and the groups: read back where this seed was measured."""
    path = Path(out) / f"{name}-{size}-{seed}.npz"
    if not path.is_file():
        found, groups = measure(name, size, seed, out)
        np.savez(path, groups=groups, **found)
    with np.load(path) as kept:
        return {method: kept[method] for method in kept.files if method != "groups"}, kept["groups"]


def draw(curves, path):
    """Draw the errors over the number of training images: a panel for each set, a line for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    for ax, (name, sizes) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for number, method in enumerate(dict.fromkeys(method for found in sizes.values() for method in found)):
            known = {size: found[method] for size, found in sizes.items() if method in found}
            middle, low, high = (100 * np.array(values) for values in zip(*known.values(), strict=True))
            # Side by side, so that the intervals of one size do not hide each other.
            at = np.array(list(known)) * 1.03**number
            ax.errorbar(at, middle, (middle - low, high - middle), marker="o", ms=4, capsize=3, lw=1, label=method)
        ax.set(xscale="log", title=name, xlabel="annotated images", ylabel="mean error, %")
        ax.set_xticks(list(sizes), map(str, sizes))
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=7)
    figure.savefig(path, dpi=110)


@click.command()
@click.option("--only", default=",".join(f"{k}:{n}" for k, sizes in SIZES.items() for n in sizes), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True)
@click.option("--out", default="runs/few", show_default=True)
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw the learning curves into this file.")
def main(only, seeds, out, picture):
    """Print a row for each set, size and method."""
    torch.set_num_threads(1)
    keep_freed_memory()
    curves = {}
    for part in sorted(only.split(","), key=lambda part: (part.split(":")[0], int(part.split(":")[1]))):
        name, _, size = part.partition(":")
        each, groups = zip(*(known_or_measured(name, int(size), seed, out) for seed in seeds), strict=True)
        groups = groups[0] if len(set(groups[0])) > 1 else None  # one person: over the images
        found = {method: np.stack([own[method] for own in each]) for method in each[0]}
        if len(seeds) == 1:  # intervals over the images only
            found = {method: values[0] for method, values in found.items()}
        first = next(iter(found))
        click.echo(f"\n{name}, {size} training images, {found[first].shape[-1]} measured, {len(seeds)} seeds")
        for method, values in found.items():
            mean = compare(values, np.zeros_like(values), groups=groups).difference
            curves.setdefault(name, {}).setdefault(int(size), {})[method] = mean.estimate, mean.low, mean.high
            whole, *ends = (f"{100 * value:.2f}" for value in (mean.estimate, mean.low, mean.high))
            click.echo(f"{method:<48}{whole} [{', '.join(ends)}], by seed {100 * np.atleast_2d(values).mean(1)}")
        for method in list(found)[1:]:
            click.echo(str(compare(found[method], found[first], groups=groups, names=(method, first))))
    if picture is not None:
        draw(curves, picture)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
