"""What the commands of the search do with each image, video or object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from .._commands import Image, read_boxes, write_table
from .._names import few, number_repeated
from ..datasets import LandmarkSamples
from ..formats import LandmarkFile, LandmarkFileError, write_landmarks
from ..images import read_values
from ..landmarks import LandmarkScheme
from ._images import read_image
from ._overlay import save_overlay
from ._regions import closed_curves, save_labels
from .fitter import ASMFitter
from .refine import refine
from .tracking import track
from .video import read_frames

MASK = "-mask.png"  # behind the name of an image


def objects_of(images: Sequence[Image], table: Path | None) -> tuple[list[Image], list[list[float]] | None]:
    """Return an entry for each object to search, and its box; several boxes of one image are numbered."""
    if table is None:
        return list(images), None
    boxes = read_boxes(table, images)
    pairs = [(image, box) for image in images for box in boxes[image.name]]
    names = number_repeated([image.name for image, _ in pairs])
    return [Image(image.path, name) for (image, _), name in zip(pairs, names, strict=True)], [box for _, box in pairs]


def landmarks_of_images(
    samples: LandmarkSamples, images: Sequence[Image], fitter: ASMFitter
) -> tuple[dict[str, tuple[Path, str, np.ndarray]], LandmarkScheme | None]:
    """Return image, name and landmarks of each sample, found by name, and the scheme to convert from, if any."""
    if samples.frame != "pixels":
        raise LandmarkFileError(
            f"{samples.source}: got landmarks in the frame {samples.frame!r}; expected pixels. Try --image-size, or "
            "--frame where the file cannot say it."
        )
    own = getattr(fitter.asm_, "scheme_", None)
    scheme = samples.scheme if samples.scheme != own else None
    shapes = samples.shapes() if scheme is not None else samples.like(fitter.asm_.landmark_names_, fitter.asm_.frame_)
    if scheme is None and shapes.shape[1] != fitter.n_landmarks_:
        raise LandmarkFileError(
            f"{samples.source}: got {shapes.shape[1]} landmarks; the model has {fitter.n_landmarks_}. Try --scheme, to "
            "say what they are."
        )
    if not samples.named and len(samples) != len(images):
        raise LandmarkFileError(
            f"{samples.source}: got {len(samples)} shapes without names, and {len(images)} images; expected names, "
            "or one shape for each image, in their order."
        )
    items = {}
    for i, name in enumerate(samples.names):
        image = _image_of(samples.images[i], name, images) if samples.named else images[i]
        name = name if samples.named else image.name
        items[name] = (image.path, name, shapes[i, :, :2])
    return items, scheme


def _image_of(known: Path | None, name: str, images: Sequence[Image]) -> Image:
    """Return the image of a sample: the one it names, else the only one of its name, or of the last part of it."""
    if known is not None:
        same = [image for image in images if image.path.resolve() == known.resolve()]
        if same:
            return same[0]
    base = re.sub(r"#[0-9]+$", "", name)
    for wanted in (base, PurePath(base).name):
        found = [image for image in images if wanted in (image.name, image.path.name, image.path.stem)]
        if len(found) == 1:
            return found[0]
        if found:
            raise LandmarkFileError(
                f"{name}: got {len(found)} images of this name ({found[0].path}, {found[1].path}); expected one. Try "
                "the same folders for the landmarks."
            )
    raise LandmarkFileError(f"{name}: got no image of this name; expected one of {few([i.name for i in images])}.")


def search_one(
    fitter: Any, item: tuple[Path, str, Any], *, output: Path, form: str, whole: bool, starts: int | None,
    spacing: tuple[float, float] | None, overlay: bool, masks: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Search one image and write what was found."""
    path, name, box = item
    image = read_image(path)
    if whole:
        box = [0.0, 0.0, max(image.shape[1] - 1.0, 1.0), max(image.shape[0] - 1.0, 1.0)]
    result = fitter.predict(image, boxes=box, spacing=spacing, n_starts=starts)
    if result.found:
        save_found(output, name, form, path, image, result.shape, fitter, overlay)
        if masks:
            curves = closed_curves(fitter.asm_.scheme_)
            save_labels(output / f"{name}{MASK}", image.shape[:2], result.shape, curves)
    return {
        "found": result.status,
        "expected_error": result.expected_error,
        "score": result.score,
        "plausibility": result.plausibility,
        "confidence": float(result.confidence.mean()),
        "words": result.message,
    }


def save_found(
    output: Path, name: str, form: str, path: Path, image: np.ndarray, shape: np.ndarray, fitter: Any, overlay: bool
) -> None:
    """Write the landmarks that were found in an image, and the image with them drawn in."""
    labels, scheme = getattr(fitter.asm_, "landmark_names_", None), fitter.asm_.scheme_
    target = output / f"{name}.{form}"
    target.parent.mkdir(parents=True, exist_ok=True)
    options = {"image_size": (image.shape[1], image.shape[0])} if form == "asf" else {}
    write_landmarks(target, LandmarkFile(shape, labels, scheme, path.name), **options)
    if overlay:
        save_overlay(output / f"{name}.png", image, [shape], scheme)


def refine_one(
    fitter: Any, item: tuple[Path, str, np.ndarray], *, output: Path, form: str, scheme: Any, overlay: bool
) -> dict[str, Any]:
    """Refine the landmarks of one object and write what came of them."""
    path, name, points = item
    image = read_image(path)
    result = refine(image, points, scheme=scheme, fitter=fitter)
    save_found(output, name, form, path, image, result.points, fitter, overlay)
    return {
        "found": result.status,
        "words": result.message,
        "expected_error": result.expected_error,
        "plausibility": result.plausibility,
        "confidence": float(result.confidence.mean()),
        "given_confidence": float(result.given_confidence.mean()),
        "moved": float(np.nanmean(result.moved)),
        **Counter(result.reason.tolist()),
    }


def track_one(
    fitter: Any, item: tuple[Path, str], *, output: Path, overlay: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """Follow the faces of one video and write where they are, frame by frame."""
    source, name = item
    table = output / f"{name}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    counts, ids = {"frames": 0, "seen": 0, "predicted": 0, "lost": 0}, set()
    last: list[Any] = []

    def frames() -> Any:
        for frame in read_frames(source):
            last[:] = [frame]
            yield frame

    def rows() -> Any:
        for frame in track(frames(), fitter, **options):
            counts["frames"] += 1
            for face in frame.faces:
                ids.add(face.id)
                counts["seen" if face.seen else face.status] += 1
                points = [f"{value:.3f}" for value in face.landmarks.ravel()]
                yield [frame.index, face.id, face.status, f"{face.confidence.mean():.3f}", face.unseen, *points]
            if overlay and frame.status == "ok":
                image = output / name / f"frame_{frame.index:06d}.png"
                image.parent.mkdir(parents=True, exist_ok=True)
                shapes = [face.landmarks for face in frame.faces if face.status != "lost"]
                save_overlay(image, read_values(last[0]), shapes, fitter.asm_.scheme_)

    coordinates = [f"{axis}{k}" for k in range(fitter.n_landmarks_) for axis in "xy"]
    write_table(table, ["frame", "id", "status", "confidence", "unseen", *coordinates], rows())
    return {**counts, "ids": len(ids)}
