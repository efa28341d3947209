"""The commands `shape-models train-search` and `shape-models search`."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from .._aligned import AlignedASM
from .._asm import ASM
from .._files import atomic, write_text
from ..io import load_model, save_model
from ..landmarks import get_scheme

__all__ = ["search", "train_search"]

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"}
_FORMATS = ("pts", "asf", "npy", "csv", "ljson")
_BATCH = 64


@click.command("train-search")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .npz to write."
)
@click.option("--scheme", help="What the landmarks are, such as ibug68; lets it learn from mirrored images, too.")
@click.option("--evidence", type=click.Choice(["patches", "profiles", "both"]), default="patches", show_default=True)
@click.option(
    "--components", type=float, default=0.98, show_default=True, help="Share of variance, or number of modes."
)
@click.option("--extension", help="Which landmark files, where the folder has several kinds.")
@click.option("--group-by", metavar="N", type=int, help="Images whose names share the first N letters show one person.")
@click.option("--faces", is_flag=True, help="Learn what face detection means for this model: no boxes needed later.")
@click.option("--seed", type=int, default=0, show_default=True)
def train_search(
    folder: Path, output: Path, scheme: str | None, evidence: str, components: float, extension: str | None,
    group_by: int | None, faces: bool, seed: int,
) -> None:  # fmt: skip
    """Train a search on FOLDER, images with landmark files beside them."""
    from ..datasets import read_landmark_folder
    from . import ASMFitter, CombinedEvidence, Patches, Profiles

    if output.suffix != ".npz":
        raise click.UsageError(f"output: got {output.name!r}; expected a name that ends with .npz.")
    samples = read_landmark_folder(folder, scheme=scheme, extension=extension)
    found = [sample for sample in samples]
    paths = [sample.image for sample in found]
    alone = [i for i, path in enumerate(paths) if path is None or not path.is_file()]
    if alone:
        raise ValueError(f"{folder}: {len(alone)} of {len(paths)} landmark files have no image beside them.")
    kinds: dict[str, Any] = {
        "patches": Patches, "profiles": Profiles, "both": lambda: CombinedEvidence([Patches(), Profiles()]),
    }  # fmt: skip
    n_components: float | int = int(components) if components >= 1 else components
    asm = AlignedASM(ASM(n_components), scheme=None if scheme is None else get_scheme(scheme))
    groups = None if group_by is None else [path.stem[:group_by] for path in paths if path is not None]
    began = time.perf_counter()
    fitter = ASMFitter(asm, evidence=kinds[evidence](), random_state=seed)
    with _Progress() as fitter._tell:  # type: ignore[method-assign]
        fitter.fit(paths, np.array([sample.landmarks for sample in found]), groups=groups)
        if faces:
            fitter.fit_detection(paths, np.array([sample.landmarks for sample in found]))
    del fitter._tell
    save_model(fitter, output)
    click.echo(
        f"{output}: {len(found)} images, {fitter.n_landmarks_} landmarks, {len(fitter._frame.variances)} modes, "
        f"{evidence}, {time.perf_counter() - began:.0f} s"
    )


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


@click.command("search")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to fill.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="pts", show_default=True)
@click.option("--boxes", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A .csv with the columns image, x0, y0, x1, y1.")  # fmt: skip
@click.option("--whole", is_flag=True, help="The object fills the image: its box is the image.")
@click.option(
    "--starts", type=click.IntRange(1), default=1, show_default=True, help="Searches per image; the best counts."
)
@click.option(
    "--overlay/--no-overlay", default=True, show_default=True, help="Write pictures with the landmarks drawn in."
)
def search(
    model: str, images: tuple[Path, ...], output: Path, form: str, boxes: Path | None, whole: bool, starts: int,
    overlay: bool,
) -> None:  # fmt: skip
    """Search IMAGES, files or folders, with MODEL, a file of train-search or the name of a bundled search.

    Writes a landmark file for each image, pictures, and results.csv with what became of each. Without --boxes and
    --whole faces are detected, where the model knows how.
    """
    from ..formats import LandmarkFile, write_landmarks
    from . import ASMFitter

    fitter = load_model(model)
    if not isinstance(fitter, ASMFitter):
        raise ValueError(f"{model}: got a {type(fitter).__name__}; expected a search, as train-search writes it.")
    if boxes is not None and whole:
        raise click.UsageError("got --boxes and --whole; expected one of them.")
    paths = _gather(images)
    given = None if boxes is None else _read_boxes(boxes, paths)
    if given is None and not whole and fitter.detection_ is None:
        raise click.UsageError("the model does not detect its object: give --boxes or --whole.")
    output.mkdir(parents=True, exist_ok=True)
    names = _names(paths)
    rows = []
    with click.progressbar(length=len(paths), label="search") as bar:
        for first in range(0, len(paths), _BATCH):
            part = paths[first : first + _BATCH]
            pictures: list[Any] = [_read(path) for path in part]
            where = None if given is None else given[first : first + _BATCH]
            if whole:
                where = [[0.0, 0.0, max(p.shape[1] - 1.0, 1.0), max(p.shape[0] - 1.0, 1.0)] for p in pictures]
            results: Any = fitter.predict(pictures, boxes=where, n_starts=starts)
            for path, name, picture, result in zip(part, names[first:], pictures, results, strict=False):
                if result.found:
                    options = {"image_size": (picture.shape[1], picture.shape[0])} if form == "asf" else {}
                    record = LandmarkFile(result.shape, image_name=path.name)
                    write_landmarks(output / f"{name}.{form}", record, **options)
                    if overlay:
                        _overlay(output / f"{name}.png", picture, result.shape, fitter.asm_.scheme)
                rows.append((path, result))
                bar.update(1)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "status", "score", "plausibility", "confidence", "message"])
    for path, r in rows:
        table.writerow(
            [path, r.status, f"{r.score:.4g}", f"{r.plausibility:.4g}", f"{r.confidence.mean():.3f}", r.message]
        )
    write_text(output / "results.csv", text.getvalue())
    counts: dict[str, int] = {}
    for _, result in rows:
        counts[result.status] = counts.get(result.status, 0) + 1
    click.echo(", ".join(f"{n} {status}" for status, n in sorted(counts.items())) + f"; see {output / 'results.csv'}")


def _gather(images: tuple[Path, ...]) -> list[Path]:
    paths: list[Path] = []
    for path in images:
        if path.is_dir():
            paths += sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGES and p.is_file())
        else:
            paths.append(path)
    if not paths:
        raise ValueError(f"got no image in {', '.join(map(str, images))}; expected {', '.join(sorted(_IMAGES))}.")
    return paths


def _names(paths: list[Path]) -> list[str]:
    """Return a file name for each image; those that share one get their folder before it, or a number."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name = path.stem
        if name in taken:
            name = f"{path.parent.name}_{path.stem}"
        base, k = name, 2
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        taken.add(name)
        names.append(name)
    return names


def _read(path: Path) -> np.ndarray:
    from ._images import read_image

    try:
        return read_image(path)
    except ValueError:
        return np.empty((0, 0))  # the search records it as an error


def _read_boxes(path: Path, images: list[Path]) -> list[list[float]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    columns = ("x0", "y0", "x1", "y1")
    if not table or any(name not in table[0] for name in ("image", *columns)):
        raise ValueError(f"{path}: expected the columns image, {', '.join(columns)}.")
    try:
        by_name = {row["image"]: [float(row[c]) for c in columns] for row in table}
    except (TypeError, ValueError):
        raise ValueError(f"{path}: got a box that is no four numbers.") from None
    boxes = []
    for image in images:
        for key in (str(image), image.name, image.stem):
            if key in by_name:
                boxes.append(by_name[key])
                break
        else:
            raise ValueError(f"{path}: got no box for {image}.")
    return boxes


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
