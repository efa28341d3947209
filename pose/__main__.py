"""The command ``python -m pose``: yaw, pitch and roll of the faces in landmark files."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np

from shape_models import get_scheme
from shape_models._commands import Command, DataError, json_option, source_options
from shape_models._files import write_text
from shape_models.datasets import LandmarkSample, LandmarkSamples, load_landmarks
from shape_models.formats import LandmarkFileError
from shape_models.images import image_size as size_of

from . import Camera, FaceModel3D, PnPResult, conventions, estimate_head_pose

__all__ = ["main"]


def _faces(samples: LandmarkSamples, failed: list[str]) -> list[LandmarkSample]:
    """Read the faces one by one; those of a broken file are named and left out."""
    found = []
    for i, name in enumerate(samples.names):
        try:
            sample = samples[i]
            if sample.frame != "pixels":
                raise LandmarkFileError(
                    f"{name}: got landmarks in the frame {sample.frame}; expected pixels, y down. Try --image-size, "
                    "or --frame where the file cannot say it."
                )
            if sample.landmarks.shape[1] == 3:  # z of a picture is no pixel
                sample = LandmarkSample(sample.image, sample.landmarks[:, :2], name=name)
            found.append(sample)
        except (LandmarkFileError, OSError) as error:
            failed.append(name)
            click.echo(str(error), err=True)
    return found


def _size(sample: LandmarkSample, given: tuple[int, int] | None) -> tuple[int, int]:
    if given is not None:
        return given
    if sample.image is None or not sample.image.is_file():
        raise click.UsageError(f"{sample.name} has no image beside it: give --image-size WIDTH HEIGHT.")
    return size_of(sample.image)


def _record(name: str, result: PnPResult, index: int, convention: str) -> dict[str, Any]:
    ok = bool(np.isfinite(result.pose.translation[index]).all())
    angles = result.pose[index].angles(convention) if ok else None
    return {
        "name": name,
        "convention": conventions.get(convention).name,
        "yaw": angles.yaw if angles else None,
        "pitch": angles.pitch if angles else None,
        "roll": angles.roll if angles else None,
        "gimbal_lock": angles.gimbal_lock if angles else None,
        "translation_mm": result.pose.translation[index].tolist() if ok else None,
        "reprojection_error_px": float(result.reprojection_error[index]) if ok else None,
        "status": str(result.status[index]),
    }


@click.command(cls=Command, short_help="Print the head pose of faces in landmark files.",
               context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
@click.argument("source", type=click.Path(exists=True))
@click.option("--focal", type=float, help="Focal length in pixels; the width of the image by default.")
@click.option("--convention", default="300W-LP", show_default=True, help="Whose yaw, pitch and roll to print.")
@source_options()
@click.option("--deformable", is_flag=True, help="Find the shape of the face as well as its pose.")
@json_option
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write it to a file instead.")
def main(
    source: str, focal: float | None, convention: str, reading: dict[str, Any], deformable: bool, as_json: bool,
    output: str | None,
) -> None:  # fmt: skip
    """Print yaw, pitch and roll in degrees of the faces in SOURCE, a landmark file or a folder of them.

    The scheme is that of the set, ibug68 by default; the size of an image is that of the file beside the landmarks, or
    --image-size.
    """
    if "yaw" not in conventions.get(convention).values:
        raise ValueError(f"convention: {convention} has no yaw, pitch and roll.")
    samples = load_landmarks(source, **reading)
    samples = samples if samples.scheme is not None else samples.in_scheme("ibug68")
    scheme = get_scheme(samples.scheme or "ibug68")
    failed: list[str] = []
    faces = []
    for sample in _faces(samples, failed):
        if len(sample.landmarks) == scheme.n_landmarks:
            faces.append(sample)
        else:
            failed.append(sample.name)
            click.echo(
                f"{sample.name}: got {len(sample.landmarks)} landmarks; expected {scheme.n_landmarks} for "
                f"{scheme.name}. Try --scheme.",
                err=True,
            )
    records: dict[str, dict[str, Any]] = {}
    sizes: dict[tuple[int, int], list[LandmarkSample]] = {}
    for sample in faces:
        sizes.setdefault(_size(sample, reading["image_size"]), []).append(sample)
    model = FaceModel3D.bundled() if deformable else None
    for size, members in sizes.items():
        camera = Camera.from_image_size(size)
        if focal is not None:
            camera = Camera(focal, camera.principal_point)
        shapes = np.stack([sample.landmarks for sample in members])
        result = estimate_head_pose(shapes, camera, scheme=scheme, model=model)
        for i, sample in enumerate(members):
            records[sample.name] = _record(sample.name, result, i, convention)
    ordered = [records[sample.name] for sample in faces]
    lines = []
    if ordered:
        lines.append(f"# yaw pitch roll in degrees ({ordered[0]['convention']}), error in pixels, status, name")
    for r in ordered:
        angles = [r["yaw"], r["pitch"], r["roll"]]
        numbers = [f"{'-':>7}"] * 3 if r["yaw"] is None else [f"{v:7.1f}" for v in angles]
        error = "" if r["yaw"] is None else f" {r['reprojection_error_px']:7.2f}"
        lines.append(f"{' '.join(numbers)}{error}  {r['status']}  {r['name']}")
    if output is not None:
        write_text(output, (json.dumps(ordered, indent=1) if as_json else "\n".join(lines)) + "\n")
    elif as_json or lines:
        click.echo(json.dumps(ordered, indent=1) if as_json else "\n".join(lines))
    bad = len(failed) + sum(r["status"] != "ok" for r in ordered)
    if bad:
        raise DataError(f"{bad} of {len(samples)} faces have no pose.")


if __name__ == "__main__":
    main(prog_name="python -m pose")
