"""The command ``asmnet``: train, distill, evaluate, predict, export, info."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from asmnet._train_commands import data_options, distill, read_faces, train
from shape_models import _commands as commands
from shape_models._commands import DataError
from shape_models._jobs import jobs_option, refuse_failed, resume_option, run_command

__all__ = ["main"]


class _Main(commands.Group):
    data_errors = (ValueError, OSError, ArithmeticError)


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
main.add_command(train)
main.add_command(distill)

_flip = click.option("--flip", "flip_average", is_flag=True, help="Average with the prediction of the mirror image.")
_fitted = click.option("--fitted", "--projected", "fitted", is_flag=True, help="The landmarks after the shape model.")
_shape_model = click.option(
    "--shape-model", metavar="NAME|FILE", help="An AlignedASM to join the landmarks with [default: that of MODEL]."
)
_OFFSET_HELP = (
    "Move predictions to the right by this fraction of the eye distance, or by what the labels of 300w are off (see "
    "offset); the report says so."
)
_to_file = commands.output_option("Write to a file instead of printing.", required=False)


def _predictor(model: str, shape_model: str | None) -> Any:
    from asmnet import Predictor
    from asmnet.checkpoints import load_pretrained
    from shape_models import AlignedASM, load_model

    shapes = None if shape_model is None else load_model(shape_model)
    if shapes is not None and not isinstance(shapes, AlignedASM):
        raise ValueError(f"--shape-model: got a {type(shapes).__name__}; expected an AlignedASM.")
    return Predictor(load_pretrained(model), shape_model=shapes)


@main.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True))
@data_options
@click.option("--protocol", help="See evaluation.protocols [default: the one of the landmarks of the model].")
@_shape_model
@_flip
@click.option("--passes", "n_passes", type=click.IntRange(1), help="Looks at each face [default: as many as it takes].")
@click.option("--views", "n_views", type=int, default=1, show_default=True, help="Average over so many crops, 1 to 7.")
@click.option("--jitter", type=float, default=0.0, show_default=True, help="Shift and scale boxes by so much.")
@click.option("--detect", is_flag=True, help="Boxes of the detector instead of the true ones.")
@_fitted
@click.option("--label-offset", metavar="FRACTION|SET", default="0", show_default=True, help=_OFFSET_HELP)
@_to_file
@commands.json_option
def evaluate(
    model: str,
    data: str,
    reading: dict[str, Any],
    shape_model: str | None,
    output: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Evaluate MODEL (the name of a trained network, or a file) on DATA, with intervals.

    The rows are those of the protocol that the splits and attributes of DATA allow: common, challenging and full of
    300-W, the six subsets of WFLW, bins of yaw. Angles and depths that come with DATA (300W-LP, AFLW2000-3D) are
    measured beside them, where MODEL gives some.
    """
    from asmnet.measuring import measure_model

    with contextlib.suppress(ValueError):  # else it is the name of a set
        how["label_offset"] = float(how["label_offset"])
    predictor, samples = _predictor(model, shape_model), read_faces(data, reading)
    measured = measure_model(predictor, samples, **how, progress=sys.stderr.isatty())
    commands.say(as_json, measured.to_dict(), [str(measured)], output)


@main.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True))
@data_options
@_to_file
@commands.json_option
def offset(model: str, data: str, reading: dict[str, Any], output: str | None, as_json: bool) -> None:
    """Measure how far the labels of DATA lie to the right of mirror-symmetric predictions of MODEL.

    Measured along the line of the eyes, as a fraction of the eye distance, as a whole and by part of the face, with
    --json for each landmark; networks trained with mirrored images cannot learn it. `asmnet train --set
    label_offset=FRACTION` moves labels back before it learns them.
    """
    from asmnet import Predictor
    from asmnet.measuring import label_offset

    samples = read_faces(data, reading)
    found = label_offset(Predictor.from_pretrained(model), samples, progress=sys.stderr.isatty())
    whole = found.interval
    record = {"offset": whole.estimate, "low": whole.low, "high": whole.high, "faces": len(found.faces)}
    commands.say(as_json, {**record, "landmarks": found.landmarks.tolist()}, [str(found)], output)


@main.command()
@click.argument("paper", type=click.Choice(["asmnet", "kd", "sdu"]))
@click.option("--data", multiple=True, metavar="SET=FOLDER", help="A set: 300w, wflw, cofw or aflw2000-3d.")
@click.option("--model", "models", multiple=True, metavar="ROW=MODEL", help="What was trained as a row of the tables.")
@_to_file
@commands.json_option
def reproduce(paper: str, data: Sequence[str], models: Sequence[str], output: str | None, as_json: bool) -> None:
    """Print the tables of PAPER, each number beside that of a run here, or with the reason why it is not run."""
    from asmnet.reproduction import ARCHIVES_OF
    from asmnet.reproduction import reproduce as run

    folders, rows = (commands.pairs(items, option) for items, option in ((data, "--data"), (models, "--model")))
    sets = {name: read_faces(folder, {"archive": ARCHIVES_OF.get(name)}) for name, folder in folders.items()}
    text = run(paper, rows, sets)
    commands.say(as_json, {"paper": paper, "text": text}, [text], output)


@main.command()
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--model", default="asmnet-68", show_default=True, help="Name of a trained network, or a file.")
@commands.boxes_option
@commands.output_option("Folder for the results.", alias="--out", required=False, default=".", show_default=True)
@click.option("--format", "forms", multiple=True, type=click.Choice(["overlay", "pts", "json", "csv"]))
@_flip
@_fitted
@_shape_model
@jobs_option
@resume_option
@commands.json_option
def predict(
    images: Sequence[str], model: str, boxes: str | None, output: str, forms: Sequence[str],
    flip_average: bool, fitted: bool, shape_model: str | None, jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Find the faces in IMAGES (files or folders) and write overlays, .pts, JSON or CSV [default: overlay and json].

    Results lie in folders as the images do; of several faces in one image each gets a number, NAME#0, NAME#1 ...
    """
    from asmnet._each import predict_one, write_faces
    from shape_models.folders import read_records

    found = commands.find_images(images)
    table = None if boxes is None else commands.read_boxes(boxes, found)
    chosen, folder = set(forms or ("overlay", "json")), Path(output)
    endings = [ending for form, ending in (("pts", ".pts"), ("overlay", "-landmarks.png")) if form in chosen]
    commands.outputs(folder, [image.name for image in found], endings, [image.path for image in found])
    network = _predictor(model, shape_model)
    if fitted and network.shape_model is None:
        raise ValueError(f"--fitted: {model} has no shape model for its landmarks. Try without it.")
    folder.mkdir(parents=True, exist_ok=True)
    items = {image.name: (image.path, image.name, None if table is None else table[image.name]) for image in found}
    work = functools.partial(predict_one, folder=folder, chosen=chosen, flip=flip_average, fitted=fitted)
    journal = folder / "landmarks.jsonl"
    report = run_command(work, items, journal, model=network, jobs=jobs, resume=resume, label="predict")

    def records() -> Iterator[dict[str, Any]]:
        return (record for record in read_records(journal, items) if record["status"] == "ok")

    if "json" in chosen:
        write_faces(folder / "landmarks.json", records())
    if "csv" in chosen:
        names = [f"{axis}{i}" for i in range(network.model.header["n_landmarks"]) for axis in "xy"]
        names = ["name", "image", "face", *names, "yaw", "pitch", "roll", "plausibility"]
        commands.write_table(folder / "landmarks.csv", names, (row for record in records() for row in record["rows"]))
    if as_json:
        commands.say(True, {record["path"]: record["faces"] for record in records()}, [])
    else:
        for record in records():
            n = sum(face["status"] != "error" for face in record["faces"])
            click.echo(f"{record['path']}: " + (f"{n} face(s)" if n else "no face found"))
    bad = [
        (r["path"], face["message"], face["status"]) for r in records() for face in r["faces"] if face["status"] != "ok"
    ]
    for path, message, _ in bad:
        click.echo(f"{path}: {message}", err=True)
    bad = [face for face in bad if face[2] == "error"]
    refuse_failed(report, len(found), "image", {name: item[0] for name, item in items.items()})
    if bad:
        raise DataError(f"{len(bad)} of the boxes could not be used.")


@main.command()
@click.argument("model")
@click.argument("out", type=click.Path(), required=False)
@commands.output_option("The same as OUT.", required=False)
@click.option("--opset", type=int, default=18, show_default=True)
@commands.json_option
def export(model: str, out: str | None, output: str | None, opset: int, as_json: bool) -> None:
    """Write MODEL (the name of a trained network, or a file) as ONNX: network and shape operator in one graph."""
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
    words = f"{target}: {size / 1e6:.1f} MB; onnxruntime differs from torch by {agreement}"
    commands.say(as_json, {"output": str(target), "bytes": size, "deviations": deviations}, [words])


@main.command()
@click.argument("model", required=False)
@click.option("--landmarks", type=int, default=68, show_default=True)
@commands.json_option
def info(model: str | None, landmarks: int, as_json: bool) -> None:
    """List the networks with parameters, FLOPs, and what shipped models measured; or describe MODEL."""
    from asmnet._card import describe_networks, model_information

    if model is not None:
        words = model_information(model)
        return commands.say(as_json, words, [words["card"]])
    rows = describe_networks(landmarks)
    lines = [f"{'network':<24}{'parameters':>12}{'GFLOP':>8}  at  trained model"]
    for row in rows:
        trained = ", ".join(f"{m['name']} ({m['megabytes']:.1f} MB, {m['error']})" for m in row["models"]) or "-"
        lines.append(f"{row['name']:<24}{row['parameters']:>12,}{row['gflop']:>8.3f}{row['size']:>4}  {trained}")
    commands.say(as_json, rows, lines)


if __name__ == "__main__":
    main()
