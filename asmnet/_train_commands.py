"""The commands ``asmnet train`` and ``asmnet distill``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from shape_models import _commands as commands
from shape_models._commands import DataError

data_options = commands.source_options(also=("--format",))
_validation = commands.together(
    "held_out",
    click.option("--val-split", help="Part of the same data to validate on, for example val."),
    click.option("--val", "val_data", type=click.Path(exists=True), help="Other data to validate on."),
    click.option("--val-fraction", type=float, help="Fraction of the images or persons to validate on."),
    click.option("--val-share", type=float, hidden=True),
)
_table = click.Path(exists=True, dir_okay=False, path_type=Path)
_unlabelled = commands.together(
    "others",
    click.option("--unlabelled", type=click.Path(exists=True), help="Images without annotation, for a model to label."),
    click.option("--unlabelled-boxes", type=_table, help="Their boxes: image, x0, y0, x1, y1 [default: found]."),
    click.option("--unlabelled-fraction", default=0.8, show_default=True, help="Fraction of their labels to keep."),
    click.option("--labeller", metavar="MODEL", help="Search or network [default: a search trained on DATA]."),
)
_PRESETS = click.Choice(["modern", "few", "paper", "kd", "sdu"])
_TEACHERS = click.Choice(["both", "tough", "tolerant", "none"])
_run = commands.together(
    "run",
    click.option("--resume", is_flag=True, help="Continue the run in --out; what is finished is read back."),
    click.option("--overwrite", is_flag=True, help="Start anew where --out holds a run."),
    click.option("--device", help="cpu, cuda, ... [default: cuda where there is one]."),
)
_packing = commands.together(
    "packing",
    click.option("--skip-corrupt", is_flag=True, help="Leave out images that cannot be read."),
    click.option("--cache", type=click.Path(), help="Folder for decoded images [default: the user's cache]."),
)
_card = commands.together(
    "card",
    click.option("--licence", default="not stated", help="What the card says about the use of the weights."),
    click.option("--name", help="Name of the model [default: of the folder --out]."),
)
_epochs = click.option("--epochs", type=int, help="How often the faces are seen [default: the preset's].")
_batch_size = click.option("--batch-size", type=int)
_settings = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any setting of TrainConfig.")


def read_faces(source: str, reading: dict[str, Any], **more: Any) -> Any:
    """Read faces in pixels of their images."""
    samples = commands.read(source, reading, **more)
    if samples.frame != "pixels":
        raise ValueError(f"{source}: got landmarks in the frame {samples.frame!r}; expected pixels. Try --image-size.")
    return samples


def _with_validation(data: str, reading: dict[str, Any], held_out: dict[str, Any]) -> tuple[Any, Any]:
    """Read the faces to train on, and those to validate on, None where none are asked for."""
    from shape_models.datasets import split_by_group

    if sum(option is not None for option in held_out.values()) > 1:
        raise click.UsageError("expected at most one of --val-split, --val and --val-fraction.")
    split, other, fraction, old = (held_out[f"val_{name}"] for name in ("split", "data", "fraction", "share"))
    if old is not None:
        click.echo("--val-share is now called --val-fraction.", err=True)
        fraction = old
    if fraction is not None and not 0 < fraction < 1:
        raise click.UsageError(f"--val-fraction: got {fraction}; expected a fraction between 0 and 1.")
    samples = read_faces(data, reading)
    if fraction is not None:
        return split_by_group(samples, (1 - fraction, fraction), rng=0)  # type: ignore[return-value]
    if split is None and other is None:
        return samples, None
    validation = read_faces(other or data, reading, split=split)
    taught = {_identity(sample) for sample in samples}
    both = sum(_identity(sample) in taught for sample in validation)
    if both:
        raise ValueError(
            f"{'--val' if split is None else '--val-split'}: {both} of {len(validation)} faces are also trained on; "
            "expected others. Try --split, or --val-fraction."
        )
    return samples, validation


def _identity(sample: Any) -> tuple[Path | None, bytes]:
    return sample.image and Path(sample.image).resolve(), sample.landmarks.tobytes()


def _labelled(samples: Any, validation: Any, others: dict[str, Any]) -> tuple[list[Any], str, bool]:
    """Let a model label the images of a folder that are not annotated; also say how that went, and if it is a network.

    A network, which learned from mirror images, answers without the offset of the labels; a search has learned it.
    """
    folder, table, labeller = (others[name] for name in ("unlabelled", "unlabelled_boxes", "labeller"))
    if folder is None:
        if labeller is not None or table is not None:
            raise click.UsageError("--unlabelled: got none; expected it with --labeller and --unlabelled-boxes.")
        return [], "", False
    from asmnet.predictor import Predictor
    from asmnet.pseudo_labels import labelled, load_labeller, own_labeller

    known = {Path(sample.image).resolve() for part in (samples, validation or ()) for sample in part if sample.image}
    images = [image for image in commands.find_images([folder]) if image.path.resolve() not in known]
    if not images:
        raise DataError(f"{folder}: got only annotated images; expected others.")
    boxes = None
    if table is not None:
        given = commands.read_boxes(table, images)
        images, boxes = (list(part) for part in zip(*((i, box) for i in images for box in given[i.name]), strict=True))
    model = own_labeller(samples) if labeller is None else load_labeller(labeller, samples)
    found, worst = labelled(model, [image.path for image in images], boxes, others["unlabelled_fraction"])
    if not found:
        raise DataError(f"{folder}: got no image in which the labeller finds an object; expected one at least.")
    by = "a search trained on the annotated ones" if labeller is None else Path(labeller).stem
    words = (
        f"{len(found)} of {len(images)} objects without annotation labelled by {by}, "
        f"expected errors up to {100 * worst:.1f} % of the diagonal"
    )
    return found, words, isinstance(model, Predictor)


def _said(packed: Any, scheme: Any, data: str, reading: dict[str, Any], chosen_by: Any) -> str:
    from asmnet._scores import objects_of

    source = f"{reading['archive'] or Path(data).resolve().name}: {reading['split'] or 'all'}"
    return f"{len(packed)} {objects_of(scheme)} ({source})" + (
        "" if chosen_by is None else f", {len(chosen_by)} to choose by"
    )


@click.command()
@click.argument("data", type=click.Path(exists=True))
@commands.output_option("Folder for checkpoints, metrics and images.", alias="--out")
@data_options
@_validation
@_unlabelled
@click.option("--network", help="See asmnet info [default: asmnet; hourglass with sdu, hourglass-small with few].")
@click.option("--preset", type=_PRESETS, default="modern", show_default=True)
@click.option("--variant", type=click.Choice(["mnv2", "mnv2_r", "ASMNet_nr", "ASMNet"]), help="One of the paper's.")
@_epochs
@_batch_size
@click.option("--size", type=int, help="Side of the input in pixels.")
@_settings
@click.option("--initial", metavar="MODEL", help="Start from the weights of a trained network, a name or a file.")
@click.option("--trunk", metavar="MODEL", help="Start from the trunk of a model of other landmarks, with new heads.")
@click.option("--no-pose", is_flag=True, help="No pose labels.")
@_run
@_packing
@_card
@commands.json_option
def train(
    data: str, output: str, reading: dict[str, Any], held_out: dict[str, Any], others: dict[str, Any], preset: str,
    variant: str | None, size: int | None, settings: Sequence[str], initial: str | None, trunk: str | None,
    no_pose: bool, run: dict[str, Any], packing: dict[str, Any], card: dict[str, Any], as_json: bool, **changes: Any,
) -> None:  # fmt: skip
    """Train a network on the faces in DATA; --resume continues after a break, to the bit.

    The trained model ends as NAME.safetensors with its card in --out. With several processes:
    torchrun --nproc_per_node 2 -m asmnet train ...
    """
    import os

    from asmnet import train as run_training
    from asmnet._preparation import packed_side, prepare, with_labels
    from asmnet._presets import training_config
    from asmnet.data import pack_faces
    from asmnet.training import keep_freed_memory

    if initial is not None and trunk is not None:
        raise click.UsageError("--trunk: got it with --initial; expected one of the two.")
    keep_freed_memory()
    samples, validation = _with_validation(data, reading, held_out)
    changes["n_landmarks"] = len(samples[0].landmarks) if samples.scheme is None else samples.scheme.n_landmarks
    first = os.environ.get("RANK", "0") == "0"

    def configured(extra_fraction: float) -> Any:
        n_images = {"n_images": round(len(samples) * (1 + extra_fraction))} if preset == "few" else {}
        own = {**changes, **n_images, "extra_fraction": extra_fraction or None}
        return training_config(
            preset, own, commands.settings(settings, "--set"), pose=not no_pose, variant=variant, size=size
        )

    config = configured(0.0)
    labelled, words, symmetric = _labelled(samples, validation, others)
    if labelled:  # as in the study of few images, three labels of the model to one of the annotators
        config = configured(min(3.0, len(labelled) / len(samples)))
        if first:
            click.echo(words, err=True)
    weights, told = _start(initial, trunk, config)
    packing |= {"size": packed_side(config.preprocessing), "progress": first}
    packed = pack_faces(samples, **packing)
    packed_val = None if validation is None else pack_faces(validation, **packing)
    labels = {"scheme": samples.scheme, "pose": not no_pose}
    dataset, chosen_by, basis = prepare(config, packed, packed_val, **labels)
    mirror = packed.mirror
    extra = [with_labels(config, pack_faces(labelled, mirror=mirror, **packing), basis, **labels)] if labelled else []
    anchors = _anchors(samples)
    if symmetric and config.label_offset and anchors is not None:  # as annotated, since training moves all labels back
        extra = [part.with_labels_moved(config.label_offset, anchors) for part in extra]
    run |= {"anchors": anchors, "initial": weights, "progress": first}
    result = run_training(config, dataset, chosen_by, folder=Path(output), extra=extra, **run)
    if first:
        about = {
            "data": _said(packed, samples.scheme, data, reading, chosen_by),
            "training": "; ".join(filter(None, (words, told))),
        }
        if packed.rotations is not None:
            about["pose_labels"] = "The pose labels are those that came with the data."
        _report(result, _finish(result, chosen_by, samples, packed, basis, output, card, **about), as_json)


def _start(initial: str | None, trunk: str | None, config: Any) -> tuple[Any, str]:
    """Return the weights to start from, None for fresh ones, and whose they are."""
    from asmnet.transfer import initial_weights, transfer_trunk

    if initial is not None:
        return initial_weights(initial, config), f"started from the weights of {Path(initial).stem}"
    if trunk is not None:
        return transfer_trunk(trunk, config), f"started from the trunk of {Path(trunk).stem}, with new heads"
    return None, ""


def _report(result: Any, path: Path, as_json: bool) -> None:
    last, best, epochs = result.history[-1], result.best_epoch, len(result.history)
    speed, waiting = last.images_per_second, last.data_fraction
    record = {"model": str(path), "best_epoch": best, "epochs": epochs}
    record |= {"images_per_second": speed, "data_fraction": waiting}
    words = f"{speed:.0f} images/s, {waiting:.0%} of the time spent on data"
    commands.say(as_json, record, [f"{path}: best epoch {best} of {epochs}, {words}"])


def _anchors(samples: Any) -> Any:
    return None if samples.scheme is None else samples.scheme.anchors.get("outer_eye_corners")


def _finish(
    result: Any, chosen_by: Any, samples: Any, packed: Any, basis: Any, output: str, card: dict[str, Any], **words: str
) -> Path:
    from asmnet._finishing import finish
    from asmnet._preparation import fit_shape_model

    card = {**card, "name": card["name"] or Path(output).resolve().name}
    shapes = fit_shape_model(packed, samples.scheme)
    return finish(result, chosen_by, basis=basis, shape_model=shapes, scheme=samples.scheme, **card, **words)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@commands.output_option("Gets the folders tough, tolerant and student.", alias="--out")
@data_options
@_validation
@click.option("--student", default="mobilenetv2", show_default=True, help="Any network of asmnet info.")
@click.option("--teacher", default="efficientnet-b3", show_default=True, help="Any network of asmnet info.")
@click.option("--teachers", type=_TEACHERS, default="both", show_default=True, help="Which teachers assist.")
@click.option("--preset", type=click.Choice(["modern", "kd"]), default="modern", show_default=True)
@click.option("--loss", type=click.Choice(["paper", "released"]), default="paper", show_default=True)
@click.option("--size", type=int, default=224, show_default=True, help="Side of the inputs in pixels.")
@_epochs
@click.option("--teacher-epochs", type=int, help="Of each teacher [default: as the student].")
@_batch_size
@_settings
@click.option("--teacher-set", "teacher_settings", multiple=True, metavar="NAME=VALUE", help="And of the teachers.")
@_run
@_packing
@_card
@commands.json_option
def distill(
    data: str, output: str, reading: dict[str, Any], held_out: dict[str, Any], student: str, teacher: str,
    teachers: str, preset: str, loss: str, size: int, epochs: int | None, teacher_epochs: int | None,
    batch_size: int | None, settings: Sequence[str], teacher_settings: Sequence[str], run: dict[str, Any],
    packing: dict[str, Any], card: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    """Train a tough teacher, a tolerant teacher and a student on the faces in DATA, one after the other.

    The tough teacher learns the landmarks, the tolerant one the landmarks as the shape model sees them; the student
    learns from both. It ends as NAME.safetensors with its card in the folder student of --out.
    """
    from asmnet._preparation import prepare
    from asmnet._presets import distillation_config
    from asmnet.data import pack_faces
    from asmnet.distillation import distill as run_distillation
    from asmnet.training import keep_freed_memory

    keep_freed_memory()
    samples, validation = _with_validation(data, reading, held_out)
    packed = pack_faces(samples, **packing, progress=True)
    packed_val = None if validation is None else pack_faces(validation, **packing, progress=True)
    common = {"n_landmarks": packed.n_landmarks} | ({} if batch_size is None else {"batch_size": batch_size})
    kinds = (student, epochs, settings), (teacher, teacher_epochs or epochs, teacher_settings)
    configs = [
        distillation_config(preset, network, {**common, "epochs": length}, commands.settings(given, "--set"), size=size)
        for network, length, given in kinds
    ]
    if configs[0].preprocessing != configs[1].preprocessing:
        raise click.UsageError("--set: student and teachers expected the same preprocessing; got two.")
    dataset, chosen_by, basis = prepare(configs[0], packed, packed_val, scheme=samples.scheme, pose=False)
    names = {"both": ("tough", "tolerant"), "none": ()}.get(teachers, (teachers,))
    run |= {"teachers": names, "preset": loss, "anchors": _anchors(samples), "progress": True}
    result = run_distillation(configs[0], configs[1], dataset, chosen_by, folder=output, **run)
    about = {"data": _said(packed, samples.scheme, data, reading, chosen_by)}
    about["training"] = f"distilled from {' and '.join(names) or 'no'} teacher ({teacher}), constants: {loss}"
    path = _finish(result.student, chosen_by, samples, packed, basis, output, card, **about)
    record: dict[str, Any] = {"model": str(path)}
    lines = []
    for part, trained in (*result.teachers.items(), ("student", result.student)):
        best = trained.history[trained.best_epoch - 1]
        record[part] = {"best_epoch": trained.best_epoch, "epochs": len(trained.history), "nme": best.nme}
        lines.append(f"{part}: best epoch {trained.best_epoch} of {len(trained.history)}, NME {100 * best.nme:.2f} %")
    commands.say(as_json, record, [*lines, f"{path}"])
