"""The commands ``shape-models train-search``, ``search``, ``refine`` and ``track``."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import click

from .._aligned import AlignedASM
from .._asm import ASM
from .._commands import (
    boxes_option,
    counted,
    find_images,
    json_option,
    output_option,
    outputs,
    read,
    say,
    source_options,
    steps,
    write_table,
)
from .._jobs import jobs_option, refuse_failed, resume_option, run_command
from .._names import image_names, list_files
from ..folders import read_records
from ..io import load_model, save_model
from ._part_words import parse_parts

_form = click.option(
    "--format", "form", type=click.Choice(["pts", "asf", "npy", "csv", "ljson"]), default="pts", show_default=True
)
_overlay = click.option(
    "--overlay/--no-overlay", default=True, show_default=True, help="Write images with the landmarks drawn in."
)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_SPACING = "Distance of pixels along x and y, where they are not square."
_spacing = click.option("--spacing", nargs=2, type=_POSITIVE, metavar="X Y", help=_SPACING)
_KINDS = click.Choice(["auto", "patches", "profiles", "both"])
_EVIDENCE = "auto: the better of patches and profiles in images left out."


@click.command("train-search", short_help="Train a search on images with landmarks.")
@click.argument("source", type=click.Path(exists=True))
@output_option("The .npz to write.", type=click.Path(dir_okay=False, path_type=Path))
@source_options()
@click.option("--evidence", type=_KINDS, default="auto", show_default=True, help=_EVIDENCE)
@click.option(
    "--components", type=float, default=0.98, show_default=True, help="Fraction of the variance, or number of modes."
)
@click.option("--group-by", metavar="N", type=int, help="Images whose names share the first N letters show one person.")
@click.option(
    "--parts",
    multiple=True,
    metavar="FILE or NAME=1-10,12",
    help="Parts with models of their own, by landmarks counted from 0; NAME alone is a group of the scheme.",
)
@click.option(
    "--join-parts",
    is_flag=True,
    help="Each file, or each list of points in a file, is one part of an image: IMAGE-PART or IMAGE_PART. They are "
    "joined, and each part gets a model of its own.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the images are, if not beside the landmarks: matched by names, or by the numbers in them.",
)
@click.option(
    "--masks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="SOURCE has images; these are masks of the objects, one an image or one a part (IMAGE-PART).",
)
@click.option(
    "--points", type=click.IntRange(4), default=40, show_default=True, help="Landmarks on each outline of masks."
)
@click.option("--repair", is_flag=True, help="Keep the largest piece of an object in masks and fill its holes.")
@_spacing
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Measure the search on images left out of its training, and write a page about it.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Folds of the report. By default each image or group is a fold, up to 15 of them; with more, there are five.",
)
@click.option("--faces", is_flag=True, help="Learn how boxes of the face detector relate to the landmarks.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def train_search(
    source: str, output: Path, reading: dict[str, Any], evidence: str, components: float, group_by: int | None,
    parts: tuple[str, ...], join_parts: bool, images: Path | None, masks: Path | None, points: int, repair: bool,
    spacing: tuple[float, float] | None, report: Path | None, folds: int | None, faces: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Train a search on SOURCE, images with landmark files beside them; ten are enough to begin with.

    Landmarks may lie elsewhere than their images (--images), in a file for each part of an image (--join-parts), or be
    placed on the outlines of masks (--masks).

    With --parts the whole is found first, and then each part by a model of its own. The report leaves images out,
    which takes as many trainings.
    """
    from . import ASMFitter, CombinedEvidence, PartsFitter, Patches, Profiles
    from ._contours import contours, scheme_of
    from ._images import split_set
    from ._report import cross_validated_report
    from ._training_data import training_data

    if output.suffix != ".npz":
        raise click.UsageError(f"output: got {output.name!r}; expected a name that ends with .npz.")
    data, joined = training_data(source, reading, images, masks, join_parts, points, repair, spacing)
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--report: got {report.name!r}; expected a name that ends with .html.")
    kind: Any = CombinedEvidence([Patches(), Profiles()]) if evidence == "both" else evidence
    n_components: float | int = int(components) if components >= 1 else components
    groups = None if group_by is None else [Path(name).name[:group_by] for name in data.names]
    paths, shapes, groups = split_set(data, None, groups)
    groups = groups if len(set(groups)) < len(data) else None
    scheme = scheme_of(data)
    chosen = parse_parts(parts, scheme) or joined
    if scheme is None and chosen:
        scheme = contours(chosen, shapes)

    def make(quick: bool = False) -> Any:
        asm = AlignedASM(ASM(n_components), scheme=scheme)
        whole = ASMFitter(asm, evidence=kind, random_state=seed, calibration=0 if quick else None, n_jobs=-1)
        return PartsFitter(chosen, whole=whole, n_jobs=-1) if chosen and not quick else whole

    began = time.perf_counter()
    fitter = make()
    with steps() as tell:
        fitter.fit(data, groups=groups, spacing=spacing, callback=tell)
        if faces:
            getattr(fitter, "whole_", fitter).fit_detection(data, callback=tell)
        save_model(fitter, output)
        seconds = time.perf_counter() - began
        record: dict[str, Any] = {
            "model": str(output),
            "n_samples": len(data),
            "n_landmarks": fitter.n_landmarks_,
            "n_components": int(fitter.asm_.asm_.basis_.n_components),
            "evidence": evidence,
            "seconds": round(seconds, 3),
        }
        lines = [
            f"{output}: {len(data)} images, {fitter.n_landmarks_} landmarks, {record['n_components']} modes, "
            f"{evidence}, {seconds:.0f} s"
        ]
        if report is not None:
            record["report"], said = cross_validated_report(
                report, fitter, make, paths, shapes, data, groups, spacing, folds, scheme, seconds, tell
            )
            lines += said
    say(as_json, record, lines)


@click.command("search", short_help="Find landmarks in images.")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@output_option("Folder to fill.", type=click.Path(file_okay=False, path_type=Path))
@_form
@boxes_option
@click.option("--whole", is_flag=True, help="The object fills the image: its box is the image.")
@click.option(
    "--starts",
    type=click.IntRange(1),
    help="Searches per image, of which the best counts. [default: 1, or 40 where nobody says where the object is]",
)
@_spacing
@_overlay
@click.option("--masks", is_flag=True, help="Write NAME-mask.png too: 0, and 1, 2, ... inside the closed curves.")
@jobs_option
@resume_option
@json_option
def search(
    model: str, images: tuple[Path, ...], output: Path, form: str, boxes: Path | None, whole: bool, starts: int | None,
    spacing: tuple[float, float] | None, overlay: bool, masks: bool, jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Search IMAGES, files or folders, with MODEL, a file of train-search or the name of a bundled search.

    Writes a landmark file for each image, in folders as the images lie, overlays, and results.csv with what became of
    each. Without --boxes and --whole faces are detected, where the model knows how; otherwise the object is looked for
    in the whole image.
    """
    from ._each import MASK, objects_of, search_one
    from ._regions import closed_curves

    fitter = _search_model(model)
    if boxes is not None and whole:
        raise click.UsageError("got --boxes and --whole; expected one of them.")
    if boxes is None and not whole and fitter.detection_ is None and fitter.placement_ is None:
        raise click.UsageError("the model does not know where its objects stand: give --boxes or --whole.")
    curves = closed_curves(fitter.asm_.scheme_) if masks else []
    if masks and not curves:
        raise click.UsageError("--masks: the model has no closed curves. Try a training with --parts or --masks.")
    found, given = objects_of(find_images(images), boxes)
    endings = [f".{form}", *([".png"] if overlay else []), *([MASK] if masks else [])]
    outputs(output, [image.name for image in found], endings, [image.path for image in found])
    output.mkdir(parents=True, exist_ok=True)
    items = {image.name: (image.path, image.name, None if given is None else given[i]) for i, image in enumerate(found)}
    work = partial(search_one, output=output, form=form, whole=whole, starts=starts, spacing=spacing, overlay=overlay,
                   masks=masks)  # fmt: skip
    journal = output / "results.jsonl"
    run_command(work, items, journal, model=fitter, jobs=jobs, resume=resume, label="search")
    status, rows = {}, []
    for record in read_records(journal, items):
        path, name, _ = items[record["name"]]
        if record["status"] == "ok":
            numbers = [f"{record[key]:.4g}" for key in ("expected_error", "score", "plausibility")]
            numbers.append(f"{record['confidence']:.3f}")
            status[name], words = record["found"], record["words"]
        else:
            numbers, status[name], words = ["nan", "nan", "0", "0.000"], "error", record["message"]
        rows.append([path, name, status[name], *numbers, words])
    columns = ["image", "name", "status", "expected_error", "score", "plausibility", "confidence", "message"]
    write_table(output / "results.csv", columns, rows)
    counts = Counter(status.values())
    words = ", ".join(f"{n} {one}" for one, n in sorted(counts.items()))
    record = {"output": str(output), "status": status}
    if masks:
        record["masks"] = {str(number): curve.name for number, curve in enumerate(curves, start=1)}
        words += "; masks: " + ", ".join(f"{number} {curve.name}" for number, curve in enumerate(curves, start=1))
    say(as_json, record, [f"{words}; see {output / 'results.csv'}"])
    if not set(counts) - {"error", "no face"}:
        raise click.exceptions.Exit(1)


def _search_model(model: str, *, parts: bool = True) -> Any:
    from . import ASMFitter, PartsFitter

    fitter = load_model(model)
    if not isinstance(fitter, ASMFitter | PartsFitter if parts else ASMFitter):
        raise ValueError(f"{model}: got a {type(fitter).__name__}; expected a search, as train-search writes it.")
    return fitter


@click.command("refine", short_help="Improve the landmarks of any detector.")
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.argument("landmarks", type=click.Path(exists=True))
@output_option("Folder to fill.", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", default="search68", show_default=True, help="A file of train-search, or a bundled search.")
@_form
@source_options()
@_overlay
@jobs_option
@resume_option
@json_option
def refine(
    images: Path, landmarks: str, output: Path, model: str, form: str, reading: dict[str, Any], overlay: bool,
    jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Improve LANDMARKS of any detector by IMAGES, a file or a folder, and a shape model.

    LANDMARKS, of any format and scheme, are matched to the images by their names, several of one image too. Writes a
    landmark file for each, in the scheme of the model, and refined.csv: whether the image supports the shape, and how
    many landmarks were kept, searched, carried by the others, and missing.
    """
    from ._each import landmarks_of_images, refine_one

    fitter = _search_model(model, parts=False)
    samples = read(landmarks, reading)
    items, scheme = landmarks_of_images(samples, find_images([images]), fitter)
    outputs(output, list(items), [f".{form}", *([".png"] if overlay else [])], _inputs(items, samples))
    output.mkdir(parents=True, exist_ok=True)
    work = partial(refine_one, output=output, form=form, scheme=scheme, overlay=overlay)
    journal = output / "refined.jsonl"
    report = run_command(work, items, journal, model=fitter, jobs=jobs, resume=resume, label="refine")
    records = list(read_records(journal, items))
    numbers = ["expected_error", "plausibility", "given_confidence", "confidence", "moved"]
    counts = ["kept", "searched", "carried", "missing"]
    rows = [
        [
            r["name"],
            r.get("found", r["status"]),
            *(r.get(key, "") for key in numbers + counts),
            r.get("words", r["message"]),
        ]
        for r in records
    ]
    write_table(output / "refined.csv", ["name", "status", *numbers, *counts, "message"], rows)
    total = {key: sum(r.get(key, 0) for r in records) for key in counts}
    words = ", ".join(f"{total[key]} {key}" for key in counts) + " landmarks"
    doubtful = sum(r.get("found") == "unsupported" for r in records)
    words += f", {counted(doubtful, 'shape')} unsupported by the image" if doubtful else ""
    say(
        as_json,
        {"output": str(output), "refined": records},
        [f"{counted(len(items) - len(report.errors), 'shape')}: {words}; see {output / 'refined.csv'}"],
    )
    refuse_failed(report, len(items), "shape")


def _inputs(items: dict[str, Any], samples: Any) -> list[Path]:
    """Return the files that a command reads, none of which it may replace."""
    source = Path(samples.source)
    return [*(item[0] for item in items.values()), *(list_files(source) if source.is_dir() else [source])]


@click.command("track", short_help="Follow faces through videos.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@output_option("Folder to fill.", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", default="search68", show_default=True, help="A file of train-search, or a bundled search.")
@click.option("--detector", help="scikit-image, retinaface, dlib or best, as they are installed.")
@click.option("--smoothing", type=click.FloatRange(0), default=1.0, show_default=True, help="0 for none.")
@click.option("--max-faces", type=click.IntRange(1), help="No more than so many at a time.")
@click.option(
    "--max-unseen", type=click.IntRange(1), default=30, show_default=True, help="Frames until an unseen face is lost."
)
@click.option("--overlay", is_flag=True, help="Write each frame with the landmarks drawn in.")
@jobs_option
@resume_option
@json_option
def track_command(
    sources: tuple[Path, ...], output: Path, model: str, detector: str | None, smoothing: float, max_faces: int | None,
    max_unseen: int, overlay: bool, jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Follow the faces in SOURCES: video files, and folders of frames.

    Writes a table NAME.csv for each, with a row for every face of every frame: frame, id, status, confidence, unseen,
    x0, y0, x1, y1, ... of the smoothed landmarks.
    """
    from ._each import track_one
    from .video import read_frames

    fitter = _search_model(model, parts=False)
    for source in sources:
        read_frames(source)  # refuses what is no video
    names = image_names(list(sources))
    outputs(output, names, [".csv"], sources)
    output.mkdir(parents=True, exist_ok=True)
    items = {name: (source, name) for name, source in zip(names, sources, strict=True)}
    options = {"detector": detector, "smoothing": smoothing, "max_faces": max_faces, "max_unseen": max_unseen}
    work = partial(track_one, output=output, overlay=overlay, options=options)
    journal = output / "tracks.jsonl"
    report = run_command(work, items, journal, model=fitter, jobs=jobs, resume=resume, label="track")
    records = list(read_records(journal, items))
    lines = [
        f"{r['name']}: {counted(r['frames'], 'frame')}, {counted(r['ids'], 'face')}, {r['seen']} seen, "
        f"{r['predicted']} predicted, {r['lost']} lost; see {output / r['name']}.csv"
        for r in records
        if r["status"] == "ok"
    ]
    say(as_json, {"output": str(output), "sources": records}, lines)
    refuse_failed(report, len(items))
