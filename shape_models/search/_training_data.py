"""What ``shape-models train-search`` learns from: landmarks and their images, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from .._commands import read, say_curves
from ..contours import holds_masks
from ..datasets import LandmarkSamples
from ._mask_files import landmarks_of_images_and_masks
from ._pairing import with_images
from ._part_files import join_parts


def training_data(
    source: str, reading: Mapping[str, Any], images: Path | None, masks: Path | None, join: bool, n_points: int,
    repair: bool, spacing: tuple[float, float] | None,
) -> tuple[LandmarkSamples, dict[str, list[int]]]:  # fmt: skip
    """Return images with landmarks in their pixels, and the landmarks of each part where files or masks say so."""
    parts: dict[str, list[int]] = {}
    how = None
    if masks is not None:
        if images is not None or join:
            raise click.UsageError("got --masks beside --images or --join-parts; expected one of them.")
        if not Path(source).is_dir():
            raise click.UsageError(f"{source}: expected a folder of images beside --masks.")
        data, parts, how = landmarks_of_images_and_masks(masks, Path(source), n_points, repair=repair)
    elif holds_masks(source):
        raise click.UsageError(
            f"{source}: got images, or masks, without landmarks; expected both. Try --masks FOLDER, or `shape-models "
            "fit` for a model of the outlines of masks alone."
        )
    else:
        data = _in_pixels(read(source, reading), source, spacing)
        say_curves(source, data)
        folder = images or (Path(source) if Path(source).is_dir() else Path(source).parent)
        if join:
            data, parts, how = join_parts(data, folder)
        elif images is not None or not all(path is not None and path.is_file() for path in data.images):
            try:
                data, how = with_images(data, folder)
            except ValueError as error:
                words = " Try --join-parts where files, or lists in a file, hold parts of images."
                raise ValueError(f"{error}{words if images is None else ''}") from error
    if how:
        click.echo(f"{source}: {how}", err=True)
    return data, parts


def _in_pixels(data: LandmarkSamples, source: str, spacing: tuple[float, float] | None) -> LandmarkSamples:
    """Return landmarks of a plane in millimetres as pixels, where the distance of pixels is known."""
    if data.frame != "physical":
        return data
    shapes = data.shapes()
    if not shapes.shape[1]:
        raise ValueError(
            f"{source}: got no landmarks, only curves; expected landmarks in the plane of the images. Try point lists, "
            "or masks (--masks)."
        )
    flat = shapes.shape[2] == 2 or bool((np.nanmax(shapes[..., 2], 1) == np.nanmin(shapes[..., 2], 1)).all())
    if not flat:
        raise ValueError(f"{source}: got landmarks in space; expected landmarks in the plane of the images.")
    if spacing is None:
        raise ValueError(
            f"{source}: got landmarks in millimetres; expected pixels. Try --spacing X Y, the millimetres of a pixel "
            "(1 1 for images that know none), for images whose first pixel is the origin."
        )
    return data.with_shapes(shapes[..., :2] / np.asarray(spacing), frame="pixels")
