"""Studies on real faces: what the ASM term of the loss and teachers bring.

Run: SHAPE_MODELS_DATA=... python tests/benchmarks/study.py asm-loss | distillation | label-offset | depth

All train on 300-W train and are measured on 300-W val; the last epoch counts, so that val chooses nothing. Trainings
are kept in --out; a broken study goes on where it stopped.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from asmnet import Preprocessing, TrainConfig, predict_dataset, train
from asmnet._inference import predict_packed
from asmnet._pose_labels import angles_in_degrees, head_depths
from asmnet._preparation import packed_side, prepare, with_depths
from asmnet._scores import eye_corners, eye_line
from asmnet.checkpoints import load_pretrained
from asmnet.data import pack_faces
from asmnet.distillation import distill
from asmnet.measuring import LABEL_OFFSETS
from asmnet.training import keep_freed_memory
from evaluation import bootstrap_interval, compare, nme
from shape_models import IBUG68
from shape_models.datasets import read_300w

ANCHORS = IBUG68.anchors["outer_eye_corners"]
VARIANTS = ("mnv2", "mnv2_r", "ASMNet_nr", "ASMNet")
STUDENTS = {"alone": (), "tough": ("tough",), "tolerant": ("tolerant",), "both": ("tough", "tolerant")}
CONTROL = "ASMNet, G for A(G)"  # the weights of the ASM term without a shape model: the landmarks count more, no more


def faces(split, size=256):
    """Pack a part of 300-W, kept in the user's cache."""
    return pack_faces(read_300w(data_folder() / "300w", split=split), size=size, progress=True)


def data_folder():
    """Return the folder of real data."""
    if "SHAPE_MODELS_DATA" not in os.environ:
        raise click.UsageError("SHAPE_MODELS_DATA is not set; expected the folder of real data.")
    return Path(os.environ["SHAPE_MODELS_DATA"])


def errors(dataset, points):
    """NME of each face by the outer eye corners, in pixels of the images."""
    truth = dataset.source_landmarks()
    return np.asarray(nme(truth, dataset.source_landmarks(points), normalizer="inter_ocular", scheme=IBUG68))


def row(name, values, groups):
    """Print a mean with its interval, and the median, in percent."""
    mean = bootstrap_interval(values, groups=groups)
    click.echo(
        f"{name:<32}{100 * mean.estimate:7.2f} [{100 * mean.low:.2f}, {100 * mean.high:.2f}]"
        f"   median {100 * np.median(values):.2f}"
    )


@click.group()
def main():
    """Train and compare."""
    torch.set_num_threads(1)
    keep_freed_memory()


@main.command("asm-loss")
@click.option("--size", default=64, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", default="runs/asm-loss", show_default=True)
def asm_loss(size, epochs, seeds, out):
    """Train the four variants with the published squared loss, and the settings of the shipped model otherwise."""
    dataset, validation = faces("train"), faces("val")
    found, angles = {}, {}
    for seed in range(seeds):
        for variant in (*VARIANTS, CONTROL):
            options = {"form": "squared", "asm_weights": (2.0, 1.0, 0.5), "pose_weight": 0.5}
            config = TrainConfig.modern(
                preprocessing=Preprocessing(size=size),
                epochs=epochs,
                criterion_options=options,
                seed=seed,
                learning_rate=2e-3,
                ema=0.99,
            ).variant("ASMNet" if variant == CONTROL else variant)
            prepared, held_out, _ = prepare(config, dataset, validation, scheme=IBUG68)
            if variant == CONTROL:
                prepared = replace(prepared, asm_landmarks=prepared.landmarks)
            folder = Path(out) / f"{'control' if variant == CONTROL else variant}-{seed}"
            network = train(config, prepared, folder=folder, resume=True, progress=True).network
            points, pose = predict_dataset(network, held_out, config.preprocessing)
            found[variant, seed] = errors(held_out, points)
            truth = angles_in_degrees(held_out.rotations)
            angles[variant, seed] = np.nanmean(np.abs(pose - truth), axis=0)
            click.echo(f"{variant} seed {seed}: {100 * found[variant, seed].mean():.3f} %")
    groups = validation.groups
    mean = {v: np.mean([found[v, s] for s in range(seeds)], axis=0) for v in (*VARIANTS, CONTROL)}
    click.echo(f"\nNME %, {len(validation)} faces, {size} px, {epochs} epochs, mean of {seeds} seeds")
    for variant in mean:
        row(variant, mean[variant], groups)
        each = ", ".join(f"{100 * found[variant, s].mean():.2f}" for s in range(seeds))
        pose = np.mean([angles[variant, s] for s in range(seeds)], axis=0)
        click.echo(f"    seeds {each}; pose MAE, yaw / pitch / roll {' / '.join(f'{a:.2f}' for a in pose)} degrees")
    pairs = (("ASMNet", "ASMNet_nr"), ("mnv2_r", "mnv2"), (CONTROL, "ASMNet_nr"), ("ASMNet", CONTROL))
    for first, second in pairs:
        click.echo(str(compare(mean[first], mean[second], groups=groups, names=(first, second))))


@main.command()
@click.argument("models", nargs=2)
@click.option("--flip", is_flag=True)
def pair(models, flip):
    """Compare two trained MODELS, files or shipped names, face by face on true boxes."""
    found = []
    for name in models:
        model = load_pretrained(name)
        validation = faces("val", packed_side(model.preprocessing))
        points, _ = predict_dataset(model.network, validation, model.preprocessing, flip_average=flip)
        found.append(errors(validation, points))
        row(Path(name).stem, found[-1], validation.groups)
    click.echo(str(compare(*found, groups=validation.groups, names=tuple(Path(m).stem for m in models))))


@main.command()
@click.option("--size", default=96, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--student", "network", default="mobilenetv2", show_default=True)
@click.option("--teacher", default="efficientnet-b0", show_default=True)
@click.option("--initial", help="A heat-map model whose weights both teachers start from, for two epochs more.")
@click.option("--preset", default="paper", show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Of the student; the teachers are trained once.")
@click.option("--out", default="runs/distillation", show_default=True)
def distillation(size, epochs, network, teacher, initial, preset, seeds, out):
    """Train two teachers, and students with none, one and both of them."""
    dataset, validation = faces("train"), faces("val")
    common = {"preprocessing": Preprocessing(size=size), "epochs": epochs, "ema": 0.99, "learning_rate": 2e-3}
    plain = {"form": "squared", "asm_weights": None, "pose_weight": 0.0}
    network_options = {"pose": False}
    student = TrainConfig.modern(network=network, network_options=network_options, **common)
    if initial is None:
        weights = None
        teachers = TrainConfig.modern(
            network=teacher, network_options=network_options, criterion_options=plain, **common
        )
    else:
        model = load_pretrained(initial)
        weights = model.network.state_dict()
        teachers = TrainConfig(
            network=model.network_name,
            network_options=model.network_options,
            criterion_options={"peak": 10.0},
            preprocessing=model.preprocessing,
            epochs=2,
            batch_size=16,
            learning_rate=5e-4,
            warmup_epochs=0.2,
            ema=0.99,
            mixed_precision="always",
        )
    prepared, held_out, _ = prepare(student, dataset, validation, scheme=IBUG68, pose=False)
    if weights is not None:
        for part, taught in (("tough", prepared.landmarks), ("tolerant", prepared.asm_landmarks)):
            lesson = replace(prepared, landmarks=taught)
            train(teachers, lesson, folder=Path(out) / "teachers" / part, initial=weights, resume=True, progress=True)
    found, order = {}, [(s, name) for s in range(seeds) for name in STUDENTS]
    for seed, name in order:
        folder = Path(out) / f"{name}-{seed}"
        for part in STUDENTS[name]:
            source = Path(out) / "teachers" / part
            if source.is_dir() and not (folder / part).exists():
                shutil.copytree(source, folder / part)  # distill reads finished teachers back
        result = distill(
            replace(student, seed=seed),
            teachers,
            prepared,
            folder=folder,
            teachers=STUDENTS[name],
            preset=preset,
            resume=True,
            progress=True,
        )
        for part, trained in result.teachers.items():
            if not (Path(out) / "teachers" / part).is_dir():
                shutil.copytree(folder / part, Path(out) / "teachers" / part)
            if f"{part} teacher" not in found:
                points, _ = predict_dataset(trained.network, held_out, teachers.preprocessing)
                found[f"{part} teacher"] = errors(held_out, points)
        points, _ = predict_dataset(result.student.network, held_out, student.preprocessing)
        found[name, seed] = errors(held_out, points)
        click.echo(f"student {name}, seed {seed}: {100 * found[name, seed].mean():.3f} %")
    trained = f"{network}, {size} px, {epochs} epochs, teachers {initial or teacher}, constants {preset}"
    click.echo(f"\nNME %, {len(held_out)} faces, {trained}")
    for part in STUDENTS["both"]:
        row(f"{part} teacher", found[f"{part} teacher"], held_out.groups)
    table({name: [found[name, seed] for seed in range(seeds)] for name in STUDENTS}, held_out.groups)


def table(each, groups):
    """Print the errors of students (seeds, faces) by name, and each less the first, seeds and faces counted."""
    first, *others = each
    for name, values in each.items():
        row(f"student, {name}", np.mean(values, axis=0), groups)
        click.echo(f"    seeds {', '.join(f'{100 * v.mean():.2f}' for v in values)}")
    for name in others:
        pair = [np.stack(each[k]) if len(each[k]) > 1 else each[k][0] for k in (name, first)]
        click.echo(str(compare(*pair, groups=groups, names=(name, first))))


@main.command("label-offset")
@click.option("--model", default="light-68", show_default=True, help="A network that draws probability maps.")
@click.option("--epochs", default=4, show_default=True)
@click.option("--seeds", default=1, show_default=True)
@click.option("--offset", default=LABEL_OFFSETS["300w"], show_default=True, help="Fraction of the eye distance.")
@click.option("--out", default="runs/label-offset", show_default=True)
def label_offset(model, epochs, seeds, offset, out):
    """Train a trained network further, on labels as they are and moved back; measure both where the labels are."""
    trained = load_pretrained(model)
    dataset, held_out = (faces(split, packed_side(trained.preprocessing)) for split in ("train", "val"))
    each = {"labels as they are": [], "labels moved back": []}
    for seed in range(seeds):
        for (name, values), moved in zip(each.items(), (0.0, offset), strict=True):
            config = TrainConfig(
                network=trained.network_name,
                network_options=trained.network_options,
                criterion="integral",
                criterion_options={"pose_weight": 0.0},
                preprocessing=trained.preprocessing,
                epochs=epochs,
                batch_size=32,
                learning_rate=3e-4,
                schedule="cosine",
                warmup_epochs=0.2,
                ema=0.99,
                clip_gradient=5.0,
                seed=seed,
                label_offset=moved,
            )
            options = {"anchors": eye_corners(IBUG68), "resume": True, "progress": True}
            initial, folder = trained.network.state_dict(), Path(out) / f"{model}-{moved}-{seed}"
            learned = train(config, dataset, folder=folder, initial=initial, **options).network
            points, _ = predict_dataset(learned, held_out, config.preprocessing)
            values.append(errors(held_out, points + offset * eye_line(points, eye_corners(IBUG68))))
            click.echo(f"{name}, seed {seed}: {100 * values[-1].mean():.3f} %")
    click.echo(
        f"\nNME %, predictions moved {100 * offset:.2f} % right, {len(held_out)} faces, {model}, {epochs} epochs"
    )
    table(each, held_out.groups)


@main.command()
@click.option("--model", default="hourglass-68", show_default=True)
def depth(model):
    """Lift 2-D to 3-D landmarks of AFLW2000-3D, the half that no model here was made of; then the network's depths."""
    table = np.load(data_folder() / "landmarks" / "aflw2000_3d68.npz")
    shapes, yaw = table["shapes"].astype(float), table["abs_yaw_degrees"]
    points, z = shapes[..., :2], -shapes[..., 2]
    low, high = points.min(1), points.max(1)
    side = 1.9 * (high - low).max(1)
    packed = (points - (low + high)[:, None] / 2) / side[:, None, None] * 256 + 127.5
    lifted = head_depths(packed, 256, IBUG68) * side[:, None] / 256
    error = np.abs(lifted - (z - z.mean(1, keepdims=True))).mean(1) / np.sqrt(np.prod(high - low, axis=1))
    flat = np.abs(z - z.mean(1, keepdims=True)).mean(1) / np.sqrt(np.prod(high - low, axis=1))
    odd = np.arange(len(z)) % 2 == 1
    click.echo(f"lifting, AFLW2000-3D, {odd.sum()} odd rows, mean |z - z'| / sqrt(w h) in percent")
    row("FaceModel3D", error[odd], None)
    row("no depth (z = 0)", flat[odd], None)
    for first, last in ((0, 30), (30, 60), (60, 180)):
        part = odd & (yaw >= first) & (yaw < last)
        click.echo(f"    yaw {first} to {last}: {100 * error[part].mean():.2f}, {part.sum()} faces")
    trained = load_pretrained(model)
    validation = with_depths(faces("val"), IBUG68)
    predicted = predict_packed(trained.network, validation, trained.preprocessing).depth
    size = np.sqrt(np.prod(validation.boxes[:, 2:] - validation.boxes[:, :2], axis=1))
    click.echo(f"{model}: depths of its depth head against those of the 3-D face model, 300-W val")
    row("depth head", np.nanmean(np.abs(predicted - validation.depths), axis=1) / size, validation.groups)
    row("no depth (z = 0)", np.nanmean(np.abs(validation.depths), axis=1) / size, validation.groups)


if __name__ == "__main__":
    main()
