"""Training on images and masks: landmarks on the outlines of each object in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .._commands import progress, steps
from .._masks import objects_in, plane_of
from .._names import list_images, natural_key
from .._procrustes import generalized_procrustes
from ..contours import correspond, outline_of_mask, refuse_coarse
from ..curves import Curve
from ..datasets import LandmarkSample, LandmarkSamples
from ..datasets._samples import as_given, entry_of
from ..images import image_size, read_values
from ..landmarks import LandmarkScheme
from ._pairing import match_images
from ._part_files import parts_of_names
from ._training import Tell

_MOST_LABELS = 64  # an image with more values is no mask
_MUCH_LESS = 1.25  # starts that differ by noise alone change the disparity by some percent, wrong ones multiply it


def landmarks_of_images_and_masks(
    masks: Path, images: Path, n_points: int, *, repair: bool = False
) -> tuple[LandmarkSamples, dict[str, list[int]], str]:
    """Return images with landmarks on the outlines in their masks, which landmarks each object has, and a note.

    Each image has one mask, whose values other than 0 are the objects, or one mask for each object: IMAGE-PART or
    IMAGE_PART. The note says in words how images and masks were matched.

    Raises
    ------
    ValueError
        For images without a mask or an object that others have, masks of another size than their image, and as
        `outline_of_mask` and `correspond`.
    """
    files = [path for path in list_images(masks) if not (path.is_relative_to(images) and images != masks)]
    names = [path.relative_to(masks).with_suffix("").as_posix() for path in files]
    try:
        paths, how = match_images(names, images)
        owners: list[tuple[str, str | None]] = [(name, None) for name in names]
    except ValueError:
        owners = [*parts_of_names(names)]
        order = list(dict.fromkeys(name for name, _ in owners))
        paths, how = match_images(order, images)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name, _ in owners}
    image_of = dict(zip(found, paths, strict=True))
    labelled = False
    owned = list(zip(files, owners, strict=True))
    for path, (name, part) in progress(owned, "reading masks", least=10):
        plane, (width, height) = plane_of(read_values(path), str(path)), image_size(image_of[name])
        if plane.shape[:2] != (height, width):
            raise ValueError(
                f"{path}: got a mask of {plane.shape[1]} x {plane.shape[0]} pixels; expected {width} x {height}, as "
                f"{image_of[name].name} has."
            )
        values = _values(plane, path) if part is None else [None]
        labelled |= len(values) > 1
        for value in values:
            label = part or _label(value)
            called = f"{path}, object {label}" if len(values) > 1 else str(path)
            outline = outline_of_mask(plane, label=value, repair=repair, name=called)
            refuse_coarse(outline, called, n_points)
            found[name][label] = outline
    if not labelled and all(part is None for _, part in owners):  # one object, whatever its value in each mask
        found = {name: dict(zip(["object"], one.values(), strict=False)) for name, one in found.items()}
    parts = sorted({label for outlines in found.values() for label in outlines}, key=natural_key)
    for name, outlines in found.items():
        if missing := [label for label in parts if label not in outlines]:
            raise ValueError(f"{name}: got no object {missing[0]!r}; expected {', '.join(parts)} in each mask.")
    with steps() as tell:
        rows = [[outlines[part] for part in parts] for outlines in found.values()]
        points = _corresponding(rows, parts, n_points, tell)
    indices = {part: list(range(k * n_points, (k + 1) * n_points)) for k, part in enumerate(parts)}
    curves = [Curve(rows, closed=True, name=part) for part, rows in indices.items()]
    groups = {part: np.array(rows) for part, rows in indices.items()}
    scheme = LandmarkScheme("outlines", points.shape[1], groups=groups, curves=curves)
    entries = [
        entry_of(LandmarkSample(path, shape, group=name, name=name, image_name=path.name))
        for (name, path), shape in zip(image_of.items(), points, strict=True)
    ]
    samples = LandmarkSamples(entries, as_given, scheme=scheme, source=str(masks))
    return samples, indices if len(parts) > 1 else {}, how


def _corresponding(outlines: list[list[np.ndarray]], parts: list[str], n_points: int, tell: Tell) -> np.ndarray:
    """Return landmarks on the outlines of all images, (n, parts * points, 2).

    An outline that is all but its own turned self, as that of a tooth, shows no turn. So outlines are compared as they
    lie, or turned as the objects of an image lie to each other, unless the shapes of all objects together vary much
    less where each outline is turned by itself.
    """
    centres = np.array([[outline.mean(axis=0) for outline in row] for row in outlines])
    still = np.broadcast_to(np.eye(2), (len(outlines), 2, 2))
    ways = [(still, False), (still, True)]
    if len(parts) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of mirror images, which so few points may seem to be
            ways.insert(1, (generalized_procrustes(centres).transforms.rotation, False))

    def placed(turns: np.ndarray, each: bool, method: Any, whose: str) -> np.ndarray:
        shapes = []
        for k, part in enumerate(parts):
            tell(f"placing landmarks{whose}", k, len(parts))
            turned = [row[k] @ turn.T for row, turn in zip(outlines, turns, strict=True)]
            try:
                shapes.append(correspond(turned, n_points, rotation=each, method=method).shapes @ turns)
            except ValueError as error:
                raise ValueError(f"{part}: {error}") from error
        return np.concatenate(shapes, axis=1)

    disparities = [
        generalized_procrustes(placed(*way, "arc_length", f", try {k}")).disparity for k, way in enumerate(ways)
    ]
    chosen = next(way for way, one in zip(ways, disparities, strict=True) if one <= _MUCH_LESS * min(disparities))
    return placed(*chosen, "auto", "")


def _values(plane: np.ndarray, path: Path) -> list[Any]:
    """Return the values, or colours, of the objects of a mask."""
    found = objects_in(plane).tolist()
    if len(found) > _MOST_LABELS:
        raise ValueError(f"{path}: got {len(found)} values beside the background; expected a mask, not an image.")
    return [tuple(value) for value in found] if plane.ndim == 3 else found


def _label(value: Any) -> str:
    return "#" + "".join(f"{int(v):02x}" for v in value) if isinstance(value, tuple) else f"{value:g}"
