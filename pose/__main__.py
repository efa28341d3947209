"""The command ``python -m pose``: yaw, pitch and roll of the faces in landmark files."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from shape_models import get_scheme
from shape_models._commands import HELP, Command, DataError, json_option, output_option, say, source_options
from shape_models.datasets import LandmarkSample, load_landmarks

from . import Camera, FaceModel3D, conventions, estimate_head_pose
from ._samples import faces_of, record_of, size_of_image


@click.command(cls=Command, short_help="Print the head pose of faces in landmark files.", context_settings=HELP)
@click.argument("source", type=click.Path(exists=True))
@click.option("--focal", type=float, help="Focal length in pixels; the width of the image by default.")
@click.option("--convention", default="300W-LP", show_default=True, help="Whose yaw, pitch and roll to print.")
@source_options()
@click.option("--deformable", is_flag=True, help="Find the shape of the face as well as its pose.")
@json_option
@output_option("Write the angles to a file instead of printing them.", required=False, type=click.Path(dir_okay=False))
def main(
    source: str,
    focal: float | None,
    convention: str,
    reading: dict[str, Any],
    deformable: bool,
    as_json: bool,
    output: str | None,
) -> None:
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
    faces = faces_of(samples, scheme, failed)
    records: dict[str, dict[str, Any]] = {}
    sizes: dict[tuple[int, int], list[LandmarkSample]] = {}
    for sample in faces:
        sizes.setdefault(size_of_image(sample, reading["image_size"]), []).append(sample)
    model = FaceModel3D.bundled() if deformable else None
    for size, members in sizes.items():
        camera = Camera.from_image_size(size)
        if focal is not None:
            camera = Camera(focal, camera.principal_point)
        shapes = np.stack([sample.landmarks for sample in members])
        result = estimate_head_pose(shapes, camera, scheme=scheme, model=model)
        for i, sample in enumerate(members):
            records[sample.name] = record_of(sample.name, result, i, convention)
    ordered = [records[sample.name] for sample in faces]
    lines = []
    if ordered:
        lines.append(f"# yaw pitch roll in degrees ({ordered[0]['convention']}), error in pixels, status, name")
    for r in ordered:
        angles = [r["yaw"], r["pitch"], r["roll"]]
        numbers = [f"{'-':>7}"] * 3 if r["yaw"] is None else [f"{v:7.1f}" for v in angles]
        error = "" if r["yaw"] is None else f" {r['reprojection_error_px']:7.2f}"
        lines.append(f"{' '.join(numbers)}{error}  {r['status']}  {r['name']}")
    if as_json or lines or output is not None:
        say(as_json, ordered, lines, output)
    bad = len(failed) + sum(r["status"] != "ok" for r in ordered)
    if bad:
        raise DataError(f"{bad} of {len(samples)} faces have no pose.")


if __name__ == "__main__":
    main(prog_name="python -m pose")
