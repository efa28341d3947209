"""The commands `shape-models train-search` and `shape-models search`."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from .._aligned import AlignedASM
from .._asm import ASM
from .._commands import Image, find_images, json_option, output_option, outputs, read, read_boxes, say, source_options
from .._files import atomic, write_text
from .._names import number_repeated
from ..io import load_model, save_model
from ..landmarks import get_scheme

__all__ = ["search", "train_search"]

_FORMATS = ("pts", "asf", "npy", "csv", "ljson")
_BATCH = 64


@click.command("train-search", short_help="Train a search on images with landmarks.")
@click.argument("source", type=click.Path(exists=True))
@output_option("The .npz to write.", type=click.Path(dir_okay=False, path_type=Path))
@source_options()
@click.option("--evidence", type=click.Choice(["patches", "profiles", "both"]), default="patches", show_default=True)
@click.option(
    "--components", type=float, default=0.98, show_default=True, help="Share of variance, or number of modes."
)
@click.option("--group-by", metavar="N", type=int, help="Images whose names share the first N letters show one person.")
@click.option("--faces", is_flag=True, help="Learn what face detection means for this model: no boxes needed later.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def train_search(
    source: str, output: Path, reading: dict[str, Any], evidence: str, components: float, group_by: int | None,
    faces: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Train a search on SOURCE, images with landmark files beside them."""
    from . import ASMFitter, CombinedEvidence, Patches, Profiles

    if output.suffix != ".npz":
        raise click.UsageError(f"output: got {output.name!r}; expected a name that ends with .npz.")
    data = read(source, reading)
    kinds: dict[str, Any] = {
        "patches": Patches, "profiles": Profiles, "both": lambda: CombinedEvidence([Patches(), Profiles()]),
    }  # fmt: skip
    n_components: float | int = int(components) if components >= 1 else components
    asm = AlignedASM(ASM(n_components), scheme=data.scheme)
    groups = None if group_by is None else [Path(name).name[:group_by] for name in data.names]
    began = time.perf_counter()
    fitter = ASMFitter(asm, evidence=kinds[evidence](), random_state=seed, n_jobs=-1)
    with _Progress() as tell:
        fitter.fit(data, groups=groups, callback=tell)
        if faces:
            fitter.fit_detection(data, callback=tell)
    save_model(fitter, output)
    seconds = time.perf_counter() - began
    record = {
        "model": str(output), "n_samples": len(data), "n_landmarks": fitter.n_landmarks_,
        "n_components": len(fitter._frame.variances), "evidence": evidence, "seconds": round(seconds, 3),
    }  # fmt: skip
    say(as_json, record, [
        f"{output}: {len(data)} images, {fitter.n_landmarks_} landmarks, {record['n_components']} modes, "
        f"{evidence}, {seconds:.0f} s"
    ])  # fmt: skip


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
    "--starts", type=click.IntRange(1), default=1, show_default=True, help="Searches per image; the best counts."
)
@click.option(
    "--overlay/--no-overlay", default=True, show_default=True, help="Write pictures with the landmarks drawn in."
)
@json_option
def search(
    model: str, images: tuple[Path, ...], output: Path, form: str, boxes: Path | None, whole: bool, starts: int,
    overlay: bool, as_json: bool,
) -> None:  # fmt: skip
    """Search IMAGES, files or folders, with MODEL, a file of train-search or the name of a bundled search.

    Writes a landmark file for each image, in folders as the images lie, pictures, and results.csv with what became of
    each. Without --boxes and --whole faces are detected, where the model knows how.
    """
    from ..formats import LandmarkFile, write_landmarks
    from . import ASMFitter

    fitter = load_model(model)
    if not isinstance(fitter, ASMFitter):
        raise ValueError(f"{model}: got a {type(fitter).__name__}; expected a search, as train-search writes it.")
    if boxes is not None and whole:
        raise click.UsageError("got --boxes and --whole; expected one of them.")
    if boxes is None and not whole and fitter.detection_ is None:
        raise click.UsageError("the model does not detect its object: give --boxes or --whole.")
    found, given = _objects(find_images(images), boxes)
    endings = [f".{form}", *([".png"] if overlay else [])]
    outputs(output, [image.name for image in found], endings, [image.path for image in found])
    output.mkdir(parents=True, exist_ok=True)
    labels, scheme = getattr(fitter.asm_, "landmark_names_", None), fitter.asm_.scheme_
    rows = []
    with click.progressbar(length=len(found), label="search", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for first in range(0, len(found), _BATCH):
            part = found[first : first + _BATCH]
            pictures: list[Any] = [_read(image.path) for image in part]
            where = None if given is None else given[first : first + _BATCH]
            if whole:
                where = [[0.0, 0.0, max(p.shape[1] - 1.0, 1.0), max(p.shape[0] - 1.0, 1.0)] for p in pictures]
            results: Any = fitter.predict(pictures, boxes=where, n_starts=starts)
            for image, picture, result in zip(part, pictures, results, strict=True):
                if result.found:
                    options = {"image_size": (picture.shape[1], picture.shape[0])} if form == "asf" else {}
                    record = LandmarkFile(result.shape, labels, scheme, image.path.name)
                    target = output / f"{image.name}.{form}"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_landmarks(target, record, **options)
                    if overlay:
                        _overlay(output / f"{image.name}.png", picture, result.shape, scheme)
                rows.append((image, result))
                bar.update(1)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "name", "status", "score", "plausibility", "confidence", "message"])
    for image, r in rows:
        table.writerow(
            [image.path, image.name, r.status, f"{r.score:.4g}", f"{r.plausibility:.4g}", f"{r.confidence.mean():.3f}",
             r.message]
        )  # fmt: skip
    write_text(output / "results.csv", text.getvalue())
    counts: dict[str, int] = {}
    for _, result in rows:
        counts[result.status] = counts.get(result.status, 0) + 1
    words = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    found_out = {"output": str(output), "status": {image.name: r.status for image, r in rows}}
    say(as_json, found_out, [f"{words}; see {output / 'results.csv'}"])
    if not any(result.found for _, result in rows):
        raise click.exceptions.Exit(1)


def _objects(images: Sequence[Image], table: Path | None) -> tuple[list[Image], list[list[float]] | None]:
    """Return an entry for each object to search, and its box; several boxes of one image are numbered."""
    if table is None:
        return list(images), None
    boxes = read_boxes(table, images)
    pairs = [(image, box) for image in images for box in boxes[image.name]]
    names = number_repeated([image.name for image, _ in pairs])
    return [Image(image.path, name) for (image, _), name in zip(pairs, names, strict=True)], [box for _, box in pairs]


def _read(path: Path) -> np.ndarray:
    from ._images import read_image

    try:
        return read_image(path)
    except ValueError:
        return np.empty((0, 0))  # the search records it as an error


def _overlay(path: Path, picture: np.ndarray, shape: np.ndarray, scheme: Any) -> None:
    from skimage.draw import disk, line
    from skimage.io import imsave

    from ._images import grey

    canvas = np.repeat((255 * grey(picture)[..., None]).astype(np.uint8), 3, axis=2)
    if picture.ndim == 3 and picture.shape[2] >= 3 and picture.dtype == np.uint8:
        canvas = np.ascontiguousarray(picture[..., :3])
    height, width = canvas.shape[:2]
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
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
