"""The commands `shape-models train-search`, `shape-models search` and `shape-models track`."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from .._aligned import AlignedASM
from .._asm import ASM
from .._commands import (
    Image,
    counted,
    find_images,
    json_option,
    output_option,
    outputs,
    read,
    read_boxes,
    say,
    source_options,
)
from .._files import atomic
from .._jobs import jobs_option, refuse_failed, resume_option, run_command
from .._names import image_names, number_repeated
from ..folders import read_records
from ..io import load_model, save_model
from ..landmarks import get_scheme

__all__ = ["search", "track_command", "train_search"]

_FORMATS = ("pts", "asf", "npy", "csv", "ljson")


@click.command("train-search", short_help="Train a search on images with landmarks.")
@click.argument("source", type=click.Path(exists=True))
@output_option("The .npz to write.", type=click.Path(dir_okay=False, path_type=Path))
@source_options()
@click.option(
    "--evidence",
    type=click.Choice(["auto", "patches", "profiles", "both"]),
    default="auto",
    show_default=True,
    help="auto: the better of patches and profiles in images left out.",
)
@click.option(
    "--components", type=float, default=0.98, show_default=True, help="Share of variance, or number of modes."
)
@click.option("--group-by", metavar="N", type=int, help="Images whose names share the first N letters show one person.")
@click.option(
    "--parts",
    multiple=True,
    metavar="FILE or NAME=1-10,12",
    help="Parts with models of their own, by landmarks counted from 0; NAME alone is a group of the scheme.",
)
@click.option(
    "--spacing",
    nargs=2,
    type=click.FloatRange(min=0, min_open=True),
    metavar="X Y",
    help="Distance of pixels along x and y, where they are not square.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Leave images out, and write a page on how good the search is.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="How often images are left out for the report; by default one "
    "image or group at a time up to 15, and a fifth of them above.",
)
@click.option("--faces", is_flag=True, help="Learn what face detection means for this model: no boxes needed later.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def train_search(
    source: str, output: Path, reading: dict[str, Any], evidence: str, components: float, group_by: int | None,
    parts: tuple[str, ...], spacing: tuple[float, float] | None, report: Path | None, folds: int | None, faces: bool,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Train a search on SOURCE, images with landmark files beside them; ten are enough to begin with.

    With --parts the whole is found first, and then each part by a model of its own. The report leaves images out,
    which takes as many trainings.
    """
    from . import ASMFitter, CombinedEvidence, PartsFitter, Patches, Profiles
    from ._contours import contours, scheme_of
    from ._images import split_set

    if output.suffix != ".npz":
        raise click.UsageError(f"output: got {output.name!r}; expected a name that ends with .npz.")
    data = read(source, reading)
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--report: got {report.name!r}; expected a name that ends with .html.")
    kind: Any = CombinedEvidence([Patches(), Profiles()]) if evidence == "both" else evidence
    n_components: float | int = int(components) if components >= 1 else components
    groups = None if group_by is None else [Path(name).name[:group_by] for name in data.names]
    paths, shapes, groups = split_set(data, None, groups)
    groups = groups if len(set(groups)) < len(data) else None
    scheme = scheme_of(data)
    chosen = _parts(parts, scheme)
    if scheme is None and chosen:
        scheme = contours(chosen, shapes)

    def make(quick: bool = False) -> Any:
        asm = AlignedASM(ASM(n_components), scheme=scheme)
        whole = ASMFitter(asm, evidence=kind, random_state=seed, calibration=0 if quick else None, n_jobs=-1)
        return PartsFitter(chosen, whole=whole, n_jobs=-1) if chosen and not quick else whole

    began = time.perf_counter()
    fitter = make()
    with _Progress() as tell:
        fitter.fit(data, groups=groups, spacing=spacing, callback=tell)
        if faces:
            getattr(fitter, "whole_", fitter).fit_detection(data, callback=tell)
        save_model(fitter, output)
        seconds = time.perf_counter() - began
        record: dict[str, Any] = {
            "model": str(output), "n_samples": len(data), "n_landmarks": fitter.n_landmarks_,
            "n_components": int(fitter.asm_.asm_.basis_.n_components), "evidence": evidence,
            "seconds": round(seconds, 3),
        }  # fmt: skip
        lines = [
            f"{output}: {len(data)} images, {fitter.n_landmarks_} landmarks, {record['n_components']} modes, "
            f"{evidence}, {seconds:.0f} s"
        ]
        if report is not None:
            record["report"], said = _write_report(
                report, fitter, make, paths, shapes, data, groups, spacing, folds, scheme, seconds, tell
            )
            lines += said
    say(as_json, record, lines)


def _write_report(
    report: Path, fitter: Any, make: Any, paths: Any, shapes: np.ndarray, data: Any, groups: Any, spacing: Any,
    folds: int | None, scheme: Any, seconds: float, tell: Any,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Leave images out, write the page, and return its numbers and what to print."""
    from ._cross_validation import cross_validate
    from ._report import advice, write_report

    result = cross_validate(make, lambda: make(True), paths, shapes, groups, spacing, folds, tell)
    write_report(report, fitter, result, paths, shapes, data.names, groups, getattr(scheme, "edges", None), seconds)
    median, boxed = float(np.median(result.error)), float(np.median(result.boxed_error))
    record = {
        "file": str(report), "median_error": median, "mean_error": float(np.minimum(result.error, 1.0).mean()),
        "median_error_in_true_boxes": boxed, "lost": int(result.lost.sum()), "n_folds": result.n_folds,
    }  # fmt: skip
    said = [
        f"{report}: in images left out the median error is {median:.2%} of the size of the shape ({boxed:.2%} in the "
        f"true boxes), {result.lost.sum()} of {len(shapes)} lost"
    ]
    return record, [*said, *advice(result, groups)]


def _parts(given: Sequence[str], scheme: Any) -> dict[str, list[int]]:
    """Return the landmarks of each part: NAME=1-10,12, the name of a group, or a file with one of these a line."""
    items: list[str] = []
    for item in given:
        path = Path(item)
        if "=" in item or not path.is_file():
            items.append(item)
        elif path.suffix.lower() == ".json":
            table = json.loads(path.read_text(encoding="utf-8-sig"))
            if not isinstance(table, dict):
                raise click.UsageError(f"{path}: got no object; expected names and their landmarks.")
            for name, which in table.items():
                items.append(f"{name}={which if isinstance(which, str) else ','.join(map(str, which))}")
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            items += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    chosen: dict[str, list[int]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip()
        if name in chosen:
            raise click.UsageError(f"--parts: got {name!r} twice; expected each once.")
        if not equals:
            groups = getattr(scheme, "groups", {})
            if name not in groups:
                known = ", ".join(groups) or "none"
                raise click.UsageError(
                    f"--parts: got {item!r}; expected NAME=1-10,12, a file, or a group of the scheme ({known})."
                )
            chosen[name] = groups[name].tolist()
            continue
        rows: list[int] = []
        for piece in text.replace(" ", "").split(","):
            first, dash, last = piece.partition("-")
            if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
                raise click.UsageError(f"--parts: got {item!r}; expected NAME=1-10,12, landmarks counted from 0.")
            rows += range(int(first), int(last if dash else first) + 1)
        chosen[name] = rows
    return chosen


class _Progress:
    """A bar for each part of a training, on the terminal's error channel."""

    def __init__(self) -> None:
        self.what, self.done = "", 0
        self.bar: Any = None

    def __enter__(self) -> Any:
        return self.tell

    def tell(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.close()
            self.what, self.done = what, 0
            self.bar = click.progressbar(length=total, label=what, file=sys.stderr, hidden=not sys.stderr.isatty())
            self.bar.__enter__()
        self.bar.update(done - self.done)
        self.done = done

    def close(self) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)

    def __exit__(self, *_: Any) -> None:
        self.close()


@click.command("search", short_help="Find landmarks in images.")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@output_option("Folder to fill.", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(_FORMATS), default="pts", show_default=True)
@click.option("--boxes", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A table with the columns image, x0, y0, x1, y1, a row for each object.")  # fmt: skip
@click.option("--whole", is_flag=True, help="The object fills the image: its box is the image.")
@click.option(
    "--starts",
    type=click.IntRange(1),
    help="Searches per image, of which the best counts. [default: 1, or 40 where nobody says where the object is]",
)
@click.option(
    "--spacing",
    nargs=2,
    type=click.FloatRange(min=0, min_open=True),
    metavar="X Y",
    help="Distance of pixels along x and y, in the unit of the training.",
)
@click.option(
    "--overlay/--no-overlay", default=True, show_default=True, help="Write pictures with the landmarks drawn in."
)
@jobs_option
@resume_option
@json_option
def search(
    model: str, images: tuple[Path, ...], output: Path, form: str, boxes: Path | None, whole: bool, starts: int | None,
    spacing: tuple[float, float] | None, overlay: bool, jobs: int, resume: bool, as_json: bool,
) -> None:  # fmt: skip
    """Search IMAGES, files or folders, with MODEL, a file of train-search or the name of a bundled search.

    Writes a landmark file for each image, in folders as the images lie, pictures, and results.csv with what became of
    each. Without --boxes and --whole faces are detected, where the model knows how; otherwise the object is looked for
    where, as large as and turned as those of the training images stood.
    """
    fitter = _search_model(model)
    if boxes is not None and whole:
        raise click.UsageError("got --boxes and --whole; expected one of them.")
    if boxes is None and not whole and fitter.detection_ is None and fitter.placement_ is None:
        raise click.UsageError("the model does not know where its objects stand: give --boxes or --whole.")
    found, given = _objects(find_images(images), boxes)
    endings = [f".{form}", *([".png"] if overlay else [])]
    outputs(output, [image.name for image in found], endings, [image.path for image in found])
    output.mkdir(parents=True, exist_ok=True)
    items = {image.name: (image.path, image.name, None if given is None else given[i]) for i, image in enumerate(found)}
    work = partial(_search_one, output=output, form=form, whole=whole, starts=starts, spacing=spacing, overlay=overlay)
    journal = output / "results.jsonl"
    run_command(work, items, journal, model=fitter, jobs=jobs, resume=resume, label="search")
    status = {}
    with atomic(output / "results.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "name", "status", "expected_error", "score", "plausibility", "confidence", "message"])
        for record in read_records(journal, items):
            path, name, _ = items[record["name"]]
            if record["status"] == "ok":
                numbers = [f"{record[key]:.4g}" for key in ("expected_error", "score", "plausibility")]
                numbers.append(f"{record['confidence']:.3f}")
                status[name], words = record["found"], record["words"]
            else:
                numbers, status[name], words = ["nan", "nan", "0", "0.000"], "error", record["message"]
            table.writerow([path, name, status[name], *numbers, words])
    counts: dict[str, int] = {}
    for one in status.values():
        counts[one] = counts.get(one, 0) + 1
    words = ", ".join(f"{n} {one}" for one, n in sorted(counts.items()))
    say(as_json, {"output": str(output), "status": status}, [f"{words}; see {output / 'results.csv'}"])
    if not set(counts) - {"error", "no face"}:
        raise click.exceptions.Exit(1)


def _search_model(model: str, *, parts: bool = True) -> Any:
    from . import ASMFitter, PartsFitter

    fitter = load_model(model)
    if not isinstance(fitter, ASMFitter | PartsFitter if parts else ASMFitter):
        raise ValueError(f"{model}: got a {type(fitter).__name__}; expected a search, as train-search writes it.")
    return fitter


def _search_one(
    fitter: Any,
    item: tuple[Path, str, Any],
    *,
    output: Path,
    form: str,
    whole: bool,
    starts: int | None,
    spacing: tuple[float, float] | None,
    overlay: bool,
) -> dict[str, Any]:
    """Search one image and write what was found."""
    from ..formats import LandmarkFile, write_landmarks
    from ._images import read_image

    path, name, box = item
    picture = read_image(path)
    if whole:
        box = [0.0, 0.0, max(picture.shape[1] - 1.0, 1.0), max(picture.shape[0] - 1.0, 1.0)]
    result = fitter.predict(picture, boxes=box, spacing=spacing, n_starts=starts)
    if result.found:
        labels, scheme = getattr(fitter.asm_, "landmark_names_", None), fitter.asm_.scheme_
        options = {"image_size": (picture.shape[1], picture.shape[0])} if form == "asf" else {}
        target = output / f"{name}.{form}"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_landmarks(target, LandmarkFile(result.shape, labels, scheme, path.name), **options)
        if overlay:
            _overlay(output / f"{name}.png", picture, [result.shape], scheme)
    return {
        "found": result.status, "expected_error": result.expected_error, "score": result.score,
        "plausibility": result.plausibility, "confidence": float(result.confidence.mean()), "words": result.message,
    }  # fmt: skip


@click.command("track", short_help="Follow faces through videos.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@output_option("Folder to fill.", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", default="search68", show_default=True, help="A file of train-search, or a bundled search.")
@click.option("--detector", help="scikit-image, retinaface, dlib or best, as they are installed.")
@click.option("--smoothing", type=click.FloatRange(0), default=1.0, show_default=True, help="0 for none.")
@click.option("--max-faces", type=click.IntRange(1), help="No more than so many at a time.")
@click.option("--max-unseen", type=click.IntRange(1), default=30, show_default=True,
              help="Frames after which a face that is not seen is lost.")  # fmt: skip
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
    from .video import read_frames

    fitter = _search_model(model, parts=False)
    for source in sources:
        read_frames(source)  # refuses what is no video
    names = image_names(list(sources))
    outputs(output, names, [".csv"], sources)
    output.mkdir(parents=True, exist_ok=True)
    items = {name: (source, name) for name, source in zip(names, sources, strict=True)}
    options = {"detector": detector, "smoothing": smoothing, "max_faces": max_faces, "max_unseen": max_unseen}
    work = partial(_track_one, output=output, overlay=overlay, options=options)
    journal = output / "tracks.jsonl"
    report = run_command(work, items, journal, model=fitter, jobs=jobs, resume=resume, label="track")
    records = list(read_records(journal, items))
    say(as_json, {"output": str(output), "sources": records}, [
        f"{r['name']}: {counted(r['frames'], 'frame')}, {counted(r['ids'], 'face')}, {r['seen']} seen, "
        f"{r['predicted']} predicted, {r['lost']} lost; see {output / r['name']}.csv"
        for r in records if r["status"] == "ok"
    ])  # fmt: skip
    refuse_failed(report, len(items))


def _track_one(
    fitter: Any, item: tuple[Path, str], *, output: Path, overlay: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """Follow the faces of one video and write where they are, frame by frame."""
    from ..images import read_values
    from . import read_frames, track

    source, name = item
    table = output / f"{name}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    counts, ids = {"frames": 0, "seen": 0, "predicted": 0, "lost": 0}, set()
    last: list[Any] = []

    def frames() -> Any:
        for frame in read_frames(source):
            last[:] = [frame]
            yield frame

    with atomic(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        coordinates = [f"{axis}{k}" for k in range(fitter.n_landmarks_) for axis in "xy"]
        rows.writerow(["frame", "id", "status", "confidence", "unseen", *coordinates])
        for frame in track(frames(), fitter, **options):
            counts["frames"] += 1
            for face in frame.faces:
                ids.add(face.id)
                counts["seen" if face.seen else face.status] += 1
                points = [f"{value:.3f}" for value in face.landmarks.ravel()]
                rows.writerow(
                    [frame.index, face.id, face.status, f"{face.confidence.mean():.3f}", face.unseen, *points]
                )
            if overlay and frame.status == "ok":
                picture = output / name / f"frame_{frame.index:06d}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                shapes = [face.landmarks for face in frame.faces if face.status != "lost"]
                _overlay(picture, read_values(last[0]), shapes, fitter.asm_.scheme_)
    return {**counts, "ids": len(ids)}


def _objects(images: Sequence[Image], table: Path | None) -> tuple[list[Image], list[list[float]] | None]:
    """Return an entry for each object to search, and its box; several boxes of one image are numbered."""
    if table is None:
        return list(images), None
    boxes = read_boxes(table, images)
    pairs = [(image, box) for image in images for box in boxes[image.name]]
    names = number_repeated([image.name for image, _ in pairs])
    return [Image(image.path, name) for (image, _), name in zip(pairs, names, strict=True)], [box for _, box in pairs]


def _overlay(path: Path, picture: np.ndarray, shapes: Sequence[np.ndarray], scheme: Any) -> None:
    from skimage.draw import disk, line
    from skimage.io import imsave

    from ._images import grey

    canvas = np.repeat((255 * grey(picture)[..., None]).astype(np.uint8), 3, axis=2)
    if picture.ndim == 3 and picture.shape[2] >= 3 and picture.dtype == np.uint8:
        canvas = np.ascontiguousarray(picture[..., :3])
    height, width = canvas.shape[:2]
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
    for shape in shapes:
        points = np.round(shape).astype(int)
        for a, b in getattr(scheme, "edges", np.empty((0, 2), int)):
            rows, columns = line(points[a, 1], points[a, 0], points[b, 1], points[b, 0])
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            canvas[rows[inside], columns[inside]] = (255, 200, 0)
        radius = max(1.5, 0.008 * float(np.ptp(shape, axis=0).max()))
        for x, y in shape:
            canvas[disk((y, x), radius, shape=(height, width))] = (255, 0, 0)
    with atomic(path) as temporary:
        imsave(temporary, canvas, check_contrast=False)
