"""The command ``asmnet``: train, distill, evaluate, predict, export, info."""

from __future__ import annotations

import csv
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from shape_models._commands import (
    DataError,
    Group,
    find_images,
    json_option,
    output_option,
    outputs,
    read,
    read_boxes,
    say,
    source_options,
)
from shape_models._commands import pairs as parse_pairs
from shape_models._commands import settings as parse_settings
from shape_models._jobs import jobs_option, resume_option, run_command

__all__ = ["main"]


class _Main(Group):
    data_errors = (ValueError, OSError, ArithmeticError)


def _read(source: str, reading: dict[str, Any], **more: Any) -> Any:
    """Read faces in pixels of their photographs."""
    samples = read(source, reading, **more)
    if samples.frame != "pixels":
        raise ValueError(f"{source}: got landmarks in the frame {samples.frame!r}; expected pixels. Try --image-size.")
    return samples


def _with_validation(
    data: str, reading: dict[str, Any], val_split: str | None, val_data: str | None, val_share: float | None
) -> tuple[Any, Any]:
    """Read the faces to train on, and those to validate on, None where none are asked for."""
    from shape_models.datasets import split_by_group

    if sum(option is not None for option in (val_split, val_data, val_share)) > 1:
        raise click.UsageError("expected at most one of --val-split, --val and --val-share.")
    if val_share is not None and not 0 < val_share < 1:
        raise click.UsageError(f"--val-share: got {val_share}; expected a share between 0 and 1.")
    samples = _read(data, reading)
    if val_split is not None:
        return samples, _read(data, reading, split=val_split)
    if val_data is not None:
        return samples, _read(val_data, reading, split=None)
    if val_share is not None:
        training, validation = split_by_group(samples, (1 - val_share, val_share), rng=0)
        return training, validation
    return samples, None


def _named(data: str, reading: dict[str, Any]) -> str:
    return f"{reading['archive'] or Path(data).resolve().name}: {reading['split'] or 'all'}"


def _configure(preset: str, changes: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Build the configuration; ``augmentation.flip=0`` reaches into a part of it."""
    from asmnet import TrainConfig

    # What a preset builds on (the network, the criterion) must be known to it; the rest comes on top.
    plain = {name: value for name, value in settings.items() if name in ("network", "criterion")}
    return getattr(TrainConfig, preset)(**changes, **plain).with_settings(settings)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Landmarks and pose of faces: networks joined to a shape model."""


main.__doc__ = """Landmarks and pose of faces: networks joined to a shape model.

Examples
--------
>>> from click.testing import CliRunner
>>> from asmnet.cli import main
>>> CliRunner().invoke(main, ["--help"]).exit_code
0
"""


_data = source_options(archive=("--archive", "--format"))
_shape_model = click.option(
    "--shape-model", metavar="NAME|FILE", help="An AlignedASM to join the landmarks with [default: that of MODEL]."
)


def _predictor(model: str, shape_model: str | None) -> Any:
    from asmnet import Predictor
    from asmnet.checkpoints import load_pretrained
    from shape_models import AlignedASM, load_model

    shapes = None if shape_model is None else load_model(shape_model)
    if shapes is not None and not isinstance(shapes, AlignedASM):
        raise ValueError(f"--shape-model: got a {type(shapes).__name__}; expected an AlignedASM.")
    return Predictor(load_pretrained(model), shape_model=shapes)


@main.command()
@click.argument("data", type=click.Path(exists=True))
@output_option("Folder for checkpoints, metrics and pictures.", alias="--out")
@_data
@click.option("--val-split", help="Part of the same data to validate on, for example val.")
@click.option("--val", "val_data", type=click.Path(exists=True), help="Other data to validate on.")
@click.option("--val-share", type=float, help="Share of the photographs or persons to set aside for validation.")
@click.option(
    "--network", help="See asmnet info [default: asmnet; hourglass with --preset sdu, hourglass-small with few]."
)
@click.option(
    "--preset", type=click.Choice(["modern", "few", "paper", "kd", "sdu"]), default="modern", show_default=True
)
@click.option(
    "--variant", type=click.Choice(["mnv2", "mnv2_r", "ASMNet_nr", "ASMNet"]), help="One of the paper's four."
)
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--size", type=int, help="Side of the input in pixels.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting of TrainConfig.")
@click.option("--initial", metavar="MODEL", help="Start from the weights of a shipped name or a file.")
@click.option("--trunk", metavar="MODEL", help="Start from the trunk of a model of other landmarks, with new heads.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--overwrite", is_flag=True, help="Start anew where --out holds a run.")
@click.option("--skip-corrupt", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--cache", type=click.Path(), help="Folder for decoded images [default: the user's cache].")
@click.option("--no-pose", is_flag=True, help="No pose labels.")
@click.option("--licence", default="not stated", help="What the card says about the use of the weights.")
@click.option("--name", help="Name of the model [default: of the folder --out].")
@click.option("--device", help="cpu, cuda, ... [default: cuda where there is one].")
@json_option
def train(
    data: str, output: str, reading: dict[str, Any], val_split: str | None, val_data: str | None,
    val_share: float | None, network: str | None, preset: str, variant: str | None, epochs: int | None,
    batch_size: int | None, size: int | None, settings: Sequence[str], initial: str | None, trunk: str | None,
    resume: bool, overwrite: bool, skip_corrupt: bool, cache: str | None, no_pose: bool, licence: str, name: str | None,
    device: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a network on the faces in DATA; --resume continues after a break, to the bit.

    The trained model ends as NAME.safetensors with its card in --out. With several processes:
    torchrun --nproc_per_node 2 -m asmnet train ...
    """
    samples, validation = _with_validation(data, reading, val_split, val_data, val_share)
    given = (("network", network), ("epochs", epochs), ("batch_size", batch_size))
    changes: dict[str, Any] = {k: v for k, v in given if v is not None}
    _train(
        samples, validation, Path(output), preset=preset, changes=changes, settings=parse_settings(settings, "--set"),
        variant=variant, size=size, initial=initial, trunk=trunk, resume=resume, overwrite=overwrite,
        skip_corrupt=skip_corrupt, cache=cache, pose=not no_pose, name=name or Path(output).resolve().name,
        licence=licence, device=device, source=_named(data, reading), as_json=as_json,
    )  # fmt: skip


def _train(
    samples: Any, validation: Any, out: Path, *, preset: str, changes: dict[str, Any], settings: dict[str, Any],
    variant: str | None, size: int | None, initial: str | None, trunk: str | None, resume: bool, overwrite: bool,
    skip_corrupt: bool, cache: str | None, pose: bool, name: str, licence: str, device: str | None, source: str,
    as_json: bool,
) -> None:  # fmt: skip
    import os

    from asmnet import train as run
    from asmnet._finishing import finish
    from asmnet._preparation import fit_shape_model, packed_side, prepare
    from asmnet.data import pack_faces
    from asmnet.networks import network_spec
    from asmnet.training import keep_freed_memory
    from asmnet.transfer import initial_weights, transfer_trunk

    if initial is not None and trunk is not None:
        raise click.UsageError("--trunk: got it with --initial; expected one of the two.")
    keep_freed_memory()
    settings = dict(settings)
    scheme = getattr(samples, "scheme", None)
    changes["n_landmarks"] = scheme.n_landmarks if scheme is not None else len(samples[0].landmarks)
    if preset == "few":
        changes["n_images"] = len(samples)
    config = _configure(preset, changes, settings)
    if not pose and network_spec(config.network).criterion == "asm_assisted":
        # A head that is not trained must not stay.
        config = replace(config, network_options={**config.network_options, "pose": False})
    if variant is not None:
        config = config.variant(variant)
    if size is not None:
        config = replace(config, preprocessing=replace(config.preprocessing, size=size))
    weights = None if initial is None else initial_weights(initial, config)
    if trunk is not None:
        weights = transfer_trunk(trunk, config)
    progress = os.environ.get("RANK", "0") == "0"
    side = packed_side(config.preprocessing)
    options: dict[str, Any] = {"size": side, "cache": cache, "skip_corrupt": skip_corrupt, "progress": progress}
    packed = pack_faces(samples, **options)
    packed_val = None if validation is None else pack_faces(validation, **options)
    dataset, held_out, basis = prepare(config, packed, packed_val, scheme=scheme, pose=pose)
    anchors = None if scheme is None else scheme.anchors.get("outer_eye_corners")
    result = run(
        config, dataset, held_out, folder=out, anchors=anchors, resume=resume, overwrite=overwrite, initial=weights,
        device=device, progress=progress,
    )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":
        path = finish(
            result, held_out, basis=basis, shape_model=fit_shape_model(packed, scheme), scheme=scheme, name=name,
            licence=licence,
            data=f"{len(packed)} faces ({source})" + ("" if held_out is None else f", {len(held_out)} to choose by"),
            training=_started_from(initial, trunk),
            pose_labels="" if packed.rotations is None else "The pose labels are those that came with the data.",
        )  # fmt: skip
        last = result.history[-1]
        record = {
            "model": str(path), "best_epoch": result.best_epoch, "epochs": len(result.history),
            "images_per_second": last.images_per_second, "data_share": last.data_share,
        }  # fmt: skip
        say(as_json, record, [
            f"{path}: best epoch {result.best_epoch} of {len(result.history)}, "
            f"{last.images_per_second:.0f} images/s, {last.data_share:.0%} of the time spent on data"
        ])  # fmt: skip


def _started_from(initial: str | None, trunk: str | None) -> str:
    if initial is not None:
        return f"started from the weights of {Path(initial).stem}"
    return "" if trunk is None else f"started from the trunk of {Path(trunk).stem}, with new heads"


@main.command()
@click.argument("data", type=click.Path(exists=True))
@output_option("Gets the folders tough, tolerant and student.", alias="--out")
@_data
@click.option("--val-split", help="Part of the same data to validate on, for example val.")
@click.option("--val", "val_data", type=click.Path(exists=True), help="Other data to validate on.")
@click.option("--val-share", type=float, help="Share of the photographs or persons to set aside for validation.")
@click.option("--student", default="mobilenetv2", show_default=True, help="Any network of asmnet info.")
@click.option("--teacher", default="efficientnet-b3", show_default=True, help="Any network of asmnet info.")
@click.option(
    "--teachers",
    type=click.Choice(["both", "tough", "tolerant", "none"]),
    default="both",
    show_default=True,
    help="Which teachers assist.",
)
@click.option("--preset", type=click.Choice(["modern", "kd"]), default="modern", show_default=True)
@click.option("--loss", type=click.Choice(["paper", "released"]), default="paper", show_default=True)
@click.option("--size", type=int, default=224, show_default=True, help="Side of the inputs in pixels.")
@click.option("--epochs", type=int, help="Of the student [default: the preset's].")
@click.option("--teacher-epochs", type=int, help="Of each teacher [default: as the student].")
@click.option("--batch-size", type=int)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Other settings of the student.")
@click.option("--teacher-set", "teacher_settings", multiple=True, metavar="NAME=VALUE", help="And of the teachers.")
@click.option("--resume", is_flag=True, help="Continue the run in --out; finished parts are read back.")
@click.option("--overwrite", is_flag=True, help="Start anew where --out holds a run.")
@click.option("--skip-corrupt", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--cache", type=click.Path(), help="Folder for decoded images [default: the user's cache].")
@click.option("--licence", default="not stated", help="What the card says about the use of the weights.")
@click.option("--name", help="Name of the model [default: of the folder --out].")
@click.option("--device", help="cpu, cuda, ... [default: cuda where there is one].")
@json_option
def distill(
    data: str, output: str, reading: dict[str, Any], val_split: str | None, val_data: str | None,
    val_share: float | None, student: str, teacher: str, teachers: str, preset: str, loss: str, size: int,
    epochs: int | None, teacher_epochs: int | None, batch_size: int | None, settings: Sequence[str],
    teacher_settings: Sequence[str], resume: bool, overwrite: bool, skip_corrupt: bool, cache: str | None,
    licence: str, name: str | None, device: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a tough teacher, a tolerant teacher and a student on the faces in DATA, one after the other.

    The tough teacher learns the landmarks, the tolerant one the landmarks as the shape model sees them; the student
    learns from both. It ends as NAME.safetensors with its card in the folder student of --out.
    """
    from asmnet._finishing import finish
    from asmnet._preparation import fit_shape_model, prepare
    from asmnet.data import pack_faces
    from asmnet.distillation import distill as run
    from asmnet.networks import network_spec
    from asmnet.training import keep_freed_memory

    keep_freed_memory()
    samples, held_out_samples = _with_validation(data, reading, val_split, val_data, val_share)
    options: dict[str, Any] = {"cache": cache, "skip_corrupt": skip_corrupt, "progress": True}
    packed = pack_faces(samples, **options)
    packed_val = None if held_out_samples is None else pack_faces(held_out_samples, **options)
    own_scheme = getattr(samples, "scheme", None)
    configs = []
    for network, length, given in (
        (student, epochs, settings),
        (teacher, teacher_epochs or epochs, teacher_settings),
    ):
        changes: dict[str, Any] = {"network": network, "n_landmarks": packed.n_landmarks}
        changes |= {k: v for k, v in (("epochs", length), ("batch_size", batch_size)) if v is not None}
        # The teachers learn by plain squared errors ("L2"), the student by the KD loss alone.
        regresses = network_spec(network).criterion == "asm_assisted"
        if regresses:
            changes["criterion_options"] = {"form": "squared", "asm_weights": None, "pose_weight": 0.0}
        parts = parse_settings(given, "--set")
        config = _configure(preset, changes, parts)
        if regresses:
            # Neither paper nor code trains a pose here: a head without training must not stay.
            config = replace(config, network_options={**config.network_options, "pose": False})
        if "preprocessing.size" not in parts:
            config = replace(config, preprocessing=replace(config.preprocessing, size=size))
        configs.append(config)
    if configs[0].preprocessing != configs[1].preprocessing:
        raise click.UsageError("--set: student and teachers expected the same preprocessing; got two.")
    dataset, held_out, basis = prepare(configs[0], packed, packed_val, scheme=own_scheme, pose=False)
    names = {"both": ("tough", "tolerant"), "none": ()}.get(teachers, (teachers,))
    result = run(
        configs[0], configs[1], dataset, held_out, folder=output, teachers=names, preset=loss,
        anchors=None if own_scheme is None else own_scheme.anchors.get("outer_eye_corners"), resume=resume,
        overwrite=overwrite, device=device, progress=True,
    )  # fmt: skip
    path = finish(
        result.student, held_out, basis=basis, shape_model=fit_shape_model(packed, own_scheme), scheme=own_scheme,
        name=name or Path(output).resolve().name, licence=licence,
        data=f"{len(packed)} faces ({_named(data, reading)})",
        training=f"distilled from {' and '.join(names) or 'no'} teacher ({teacher}), constants: {loss}",
    )  # fmt: skip
    parts_trained = (*result.teachers.items(), ("student", result.student))
    record: dict[str, Any] = {"model": str(path)}
    lines = []
    for part, trained in parts_trained:
        best = trained.history[trained.best_epoch - 1]
        record[part] = {"best_epoch": trained.best_epoch, "epochs": len(trained.history), "nme": best.nme}
        lines.append(f"{part}: best epoch {trained.best_epoch} of {len(trained.history)}, NME {100 * best.nme:.2f} %")
    say(as_json, record, [*lines, f"{path}"])


@main.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True))
@_data
@click.option("--protocol", help="See evaluation.protocols [default: the one of the landmarks of the model].")
@_shape_model
@click.option("--flip", is_flag=True, help="Average with the prediction of the mirror image.")
@click.option("--passes", type=click.IntRange(1), help="Looks at each face [default: as many as the predictor takes].")
@click.option("--views", type=int, default=1, show_default=True, help="Average over so many crops, 1 to 7.")
@click.option("--jitter", type=float, default=0.0, show_default=True, help="Shift and scale boxes by up to this share.")
@click.option("--detect", is_flag=True, help="Boxes of the detector instead of the true ones.")
@click.option("--fitted", "--projected", "fitted", is_flag=True, help="Measure the landmarks after the shape model.")
@click.option("--label-offset", metavar="SHARE|SET", default="0", show_default=True,
              help="Move predictions to the right by this share of the eye distance, or by what the labels of 300w are "
              "off (see offset); the report says so.")  # fmt: skip
@output_option("Write the report to a file instead.", required=False)
@json_option
def evaluate(
    model: str, data: str, reading: dict[str, Any], protocol: str | None, shape_model: str | None, flip: bool,
    passes: int | None, views: int, jitter: float, detect: bool, fitted: bool, label_offset: str,
    output: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure MODEL (a shipped name or a file) on DATA, with intervals.

    The rows are those of the protocol that the splits and attributes of DATA allow: common, challenging and full of
    300-W, the six subsets of WFLW, bins of yaw. Angles and depths that come with DATA (300W-LP, AFLW2000-3D) are
    measured beside them, where MODEL gives some.
    """
    from asmnet.measuring import measure_model

    try:
        offset: float | str = float(label_offset)
    except ValueError:
        offset = label_offset
    measured = measure_model(
        _predictor(model, shape_model), _read(data, reading), protocol=protocol, flip_average=flip,
        n_passes=passes, n_views=views, jitter=jitter, detect=detect, fitted=fitted, label_offset=offset,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    _print(json.dumps(measured.to_dict(), indent=1) if as_json else str(measured), output)


def _print(text: str, output: str | None) -> None:
    from shape_models._files import write_text

    if output is None:
        click.echo(text)
    else:
        write_text(output, text + "\n")


@main.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True))
@_data
@output_option("Write it to a file instead.", required=False)
@json_option
def offset(model: str, data: str, reading: dict[str, Any], output: str | None, as_json: bool) -> None:
    """Say how far the labels of DATA lie to the right of mirror-symmetric predictions of MODEL.

    Measured along the line of the eyes, as a share of the eye distance; networks that are trained with mirrored images
    cannot learn it.
    """
    from asmnet import Predictor
    from asmnet._scores import percent
    from asmnet.measuring import label_offset
    from evaluation import bootstrap_interval

    samples = _read(data, reading)
    values, groups = label_offset(Predictor.from_pretrained(model), samples, progress=sys.stderr.isatty())
    interval = bootstrap_interval(values, groups=groups)
    record = {"offset": interval.estimate, "low": interval.low, "high": interval.high, "faces": len(values)}
    words = f"labels lie {percent(interval)} of the eye distance to the right of the predictions ({len(values)} faces)"
    _print(json.dumps(record, indent=1) if as_json else words, output)


@main.command()
@click.argument("paper", type=click.Choice(["asmnet", "kd", "sdu"]))
@click.option("--data", multiple=True, metavar="SET=FOLDER", help="A test set: 300w, wflw, cofw or aflw2000-3d.")
@click.option("--model", "models", multiple=True, metavar="ROW=MODEL", help="What was trained as a row of the tables.")
@output_option("Write it to a file instead.", required=False)
@json_option
def reproduce(paper: str, data: Sequence[str], models: Sequence[str], output: str | None, as_json: bool) -> None:
    """Print the tables of PAPER, each number beside that of a run here, or with the reason why it is not run."""
    from asmnet.reproduction import ARCHIVES_OF
    from asmnet.reproduction import reproduce as run

    folders, rows = (parse_pairs(items, option) for items, option in ((data, "--data"), (models, "--model")))
    sets = {
        name: _read(folder, {"archive": ARCHIVES_OF.get(name), "split": _TEST_PARTS.get(name)})
        for name, folder in folders.items()
    }
    text = run(paper, rows, sets)
    _print(json.dumps({"paper": paper, "text": text}) if as_json else text, output)


_TEST_PARTS = {"300w": "full", "wflw": "test", "cofw": "test"}


@main.command()
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--model", default="asmnet-68", show_default=True, help="A shipped name or a file.")
@click.option(
    "--boxes", type=click.Path(exists=True), help="Table with the columns image, x0, y0, x1, y1, a row a face."
)
@output_option("Folder for the results.", alias="--out", required=False, default=".", show_default=True)
@click.option("--format", "forms", multiple=True, type=click.Choice(["overlay", "pts", "json", "csv"]))
@click.option("--flip", is_flag=True, help="Average with the prediction of the mirror image.")
@click.option("--fitted", "--projected", "fitted", is_flag=True, help="Write the landmarks after the shape model.")
@_shape_model
@jobs_option
@resume_option
@json_option
def predict(
    images: Sequence[str], model: str, boxes: str | None, output: str, forms: Sequence[str], flip: bool,
    fitted: bool, shape_model: str | None, jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find the faces in IMAGES (files or folders) and write overlays, .pts, JSON or CSV [default: overlay and json].

    Results lie in folders as the images do; of several faces in one image each gets a number, NAME#0, NAME#1 ...
    """
    from shape_models._files import atomic
    from shape_models.folders import read_records

    found = find_images(images)
    table = None if boxes is None else read_boxes(boxes, found)
    chosen, folder = set(forms or ("overlay", "json")), Path(output)
    endings = [ending for form, ending in (("pts", ".pts"), ("overlay", "-landmarks.png")) if form in chosen]
    outputs(folder, [image.name for image in found], endings, [image.path for image in found])
    network = _predictor(model, shape_model)
    if fitted and network.shape_model is None:
        raise ValueError(f"--fitted: {model} has no shape model for its landmarks.")
    folder.mkdir(parents=True, exist_ok=True)
    items = {image.name: (image.path, image.name, None if table is None else table[image.name]) for image in found}
    work = functools.partial(_predict_one, folder=folder, chosen=chosen, flip=flip, fitted=fitted)
    journal = folder / "landmarks.jsonl"
    report = run_command(work, items, journal, model=network, jobs=jobs, resume=resume, label="predict")

    def records() -> Iterator[dict[str, Any]]:
        return (record for record in read_records(journal, items) if record["status"] == "ok")

    if "json" in chosen:
        with atomic(folder / "landmarks.json") as temporary, temporary.open("w", encoding="utf-8") as file:
            comma = "{"
            for record in records():
                faces = json.dumps(record["faces"], indent=1).replace("\n", "\n ")
                file.write(f"{comma}\n {json.dumps(record['path'])}: {faces}")
                comma = ","
            file.write("{}\n" if comma == "{" else "\n}\n")
    if "csv" in chosen:
        with atomic(folder / "landmarks.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            names = [f"{axis}{i}" for i in range(network.model.header["n_landmarks"]) for axis in "xy"]
            writer.writerow(["name", "image", "face", *names, "yaw", "pitch", "roll", "plausibility"])
            for record in records():
                writer.writerows(record["rows"])
    if as_json:
        say(True, {record["path"]: record["faces"] for record in records()}, [])
    else:
        for record in records():
            found_here = [face for face in record["faces"] if face["status"] == "ok"]
            click.echo(f"{record['path']}: " + (f"{len(found_here)} face(s)" if found_here else "no face found"))
    refused = 0
    for record in records():
        messages = [face["message"] for face in record["faces"] if face["status"] != "ok"]
        refused += len(messages)
        for message in messages:
            click.echo(f"{record['path']}: {message}", err=True)
    if report.errors:
        for name, message in report.errors.items():
            click.echo(f"{items[name][0]}: {message}", err=True)
        raise DataError(f"{len(report.errors)} of {len(found)} images could not be used.")
    if refused:
        raise DataError(f"{refused} of the boxes could not be used.")


def _predict_one(
    network: Any, item: tuple[Path, str, Any], *, folder: Path, chosen: set[str], flip: bool, fitted: bool
) -> dict[str, Any]:
    """Find the faces of one image and write what belongs to it alone."""
    from asmnet._pictures import save_overlay
    from shape_models import write_landmarks

    path, image_name, boxes = item
    faces = network(path, boxes, flip_average=flip, fit=fitted or "json" in chosen or "csv" in chosen)
    (folder / image_name).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, face in enumerate(faces):
        points = face.fitted if fitted else face.landmarks
        name = image_name if len(faces) == 1 else f"{image_name}#{i}"
        if "pts" in chosen and face.status == "ok":
            write_landmarks(folder / f"{name}.pts", points)
        angles = [""] * 3 if face.pose is None else [f"{v:.3f}" for v in face.pose]
        rows.append([name, str(path), i, *[f"{v:.3f}" for v in points.ravel()], *angles, face.plausibility])
    if "overlay" in chosen:
        save_overlay(path, faces, folder / f"{image_name}-landmarks.png")
    return {"path": str(path), "faces": [face.to_dict() for face in faces], "rows": rows}


@main.command()
@click.argument("model")
@click.argument("out", type=click.Path(), required=False)
@output_option("The same as OUT.", required=False)
@click.option("--opset", type=int, default=18, show_default=True)
@json_option
def export(model: str, out: str | None, output: str | None, opset: int, as_json: bool) -> None:
    """Write MODEL (a shipped name or a file) as ONNX: network and shape operator in one graph, checked."""
    from asmnet.checkpoints import load_pretrained
    from asmnet.export import export_onnx

    if (out is None) == (output is None):
        raise click.UsageError("expected OUT, or the same as --output.")
    target = Path(str(out or output))
    try:
        deviations = export_onnx(load_pretrained(model), target, opset=opset)
    except ModuleNotFoundError as error:
        raise DataError(f"{error}. Try pip install 'shape-models[export]'.") from error
    except RuntimeError as error:
        raise DataError(str(error)) from error
    agreement = ", ".join(f"{name} {value:.1e}" for name, value in deviations.items())
    size = target.stat().st_size
    say(as_json, {"output": str(target), "bytes": size, "deviations": deviations}, [
        f"{target}: {size / 1e6:.1f} MB; onnxruntime differs from torch by {agreement}"
    ])  # fmt: skip


@main.command()
@click.argument("model", required=False)
@click.option("--landmarks", type=int, default=68, show_default=True)
@json_option
def info(model: str | None, landmarks: int, as_json: bool) -> None:
    """List the networks with parameters, FLOPs, and what shipped models measured; or describe MODEL."""
    from asmnet._card import describe_networks, model_information

    if model is not None:
        words = model_information(model)
        click.echo(json.dumps(words, indent=1, sort_keys=True, default=str) if as_json else words["card"])
        return
    rows = describe_networks(landmarks)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'network':<24}{'parameters':>12}{'GFLOP':>8}  at  trained model")
    for row in rows:
        trained = ", ".join(f"{m['name']} ({m['megabytes']:.1f} MB, {m['error']})" for m in row["models"]) or "-"
        click.echo(f"{row['name']:<24}{row['parameters']:>12,}{row['gflop']:>8.3f}{row['size']:>4}  {trained}")


if __name__ == "__main__":
    main()
