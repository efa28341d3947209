"""Faces of a landmark set as the command takes them, and what it says of each."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from shape_models import LandmarkScheme
from shape_models.datasets import LandmarkSample, LandmarkSamples
from shape_models.formats import LandmarkFileError
from shape_models.images import image_size

from . import conventions
from ._pnp import PnPResult


def faces_of(samples: LandmarkSamples, scheme: LandmarkScheme, failed: list[str]) -> list[LandmarkSample]:
    """Read the faces one by one; those of a broken file, or of other landmarks, are named and left out."""
    found = []
    for i, name in enumerate(samples.names):
        try:
            sample = samples[i]
            if sample.frame != "pixels":
                raise LandmarkFileError(
                    f"{name}: got landmarks in the frame {sample.frame}; expected pixels, y down. Try --image-size, "
                    "or --frame where the file cannot say it."
                )
            if len(sample.landmarks) != scheme.n_landmarks:
                raise LandmarkFileError(
                    f"{name}: got {len(sample.landmarks)} landmarks; expected {scheme.n_landmarks} for {scheme.name}. "
                    "Try --scheme."
                )
            if sample.landmarks.shape[1] == 3:  # z of an image is no pixel
                sample = LandmarkSample(sample.image, sample.landmarks[:, :2], name=name)
            found.append(sample)
        except (LandmarkFileError, OSError) as error:
            failed.append(name)
            click.echo(str(error), err=True)
    return found


def size_of_image(sample: LandmarkSample, given: tuple[int, int] | None) -> tuple[int, int]:
    if given is not None:
        return given
    if sample.image is None or not sample.image.is_file():
        raise click.UsageError(f"{sample.name} has no image beside it: give --image-size WIDTH HEIGHT.")
    return image_size(sample.image)


def record_of(name: str, result: PnPResult, index: int, convention: str) -> dict[str, Any]:
    ok = bool(np.isfinite(result.pose.translation[index]).all())
    angles = result.pose[index].angles(convention) if ok else None
    record: dict[str, Any] = {"name": name, "convention": conventions.get(convention).name}
    record |= {key: getattr(angles, key, None) for key in ("yaw", "pitch", "roll", "gimbal_lock")}
    return record | {
        "translation_mm": result.pose.translation[index].tolist() if ok else None,
        "reprojection_error_px": float(result.reprojection_error[index]) if ok else None,
        "status": str(result.status[index]),
    }
