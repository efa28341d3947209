"""The command ``python -m pose``: yaw, pitch and roll of the faces in landmark files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from shape_models import get_scheme
from shape_models.formats import LandmarkFileError, read_landmarks

from . import Camera, FaceModel3D, PnPResult, conventions, estimate_head_pose

__all__ = ["main"]

SUFFIXES = {".pts", ".asf", ".tps", ".ljson", ".json", ".npy", ".npz", ".csv", ".xml"}


def _load(path: Path, scheme: Any, image_size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Return (name, landmarks) for every face in a file."""
    # Fractions of the image (.asf) and y from its bottom (.tps) become pixels, y down.
    options: dict[str, Any] = {"image_size": image_size} if path.suffix.lower() in {".asf", ".tps"} else {}
    read = read_landmarks(path, **options)
    found = read if isinstance(read, list) else [read]
    other = {face.frame for face in found} - {"pixels"}
    if other:
        raise ValueError(
            f"got coordinates in the frame {', '.join(sorted(other))}; expected pixels, y down. Try a file of pixels."
        )
    shapes = [np.asarray(face, dtype=float) for face in found]
    for shape in shapes:
        if shape.shape != (scheme.n_landmarks, 2):
            raise ValueError(
                f"got landmarks of shape {shape.shape}; expected ({scheme.n_landmarks}, 2) for {scheme.name}. "
                "Try --scheme."
            )
    if len(shapes) == 1:
        return [(str(path), shapes[0])]
    return [(f"{path}#{i}", shape) for i, shape in enumerate(shapes)]


def _record(name: str, result: PnPResult, index: int, convention: str) -> dict[str, Any]:
    ok = bool(np.isfinite(result.pose.translation[index]).all())
    angles = result.pose[index].angles(convention) if ok else None
    return {
        "file": name,
        "convention": conventions.get(convention).name,
        "yaw": angles.yaw if angles else None,
        "pitch": angles.pitch if angles else None,
        "roll": angles.roll if angles else None,
        "gimbal_lock": angles.gimbal_lock if angles else None,
        "translation_mm": result.pose.translation[index].tolist() if ok else None,
        "reprojection_error_px": float(result.reprojection_error[index]) if ok else None,
        "status": str(result.status[index]),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("landmarks", type=click.Path(exists=True, path_type=Path))
@click.option("--image-size", nargs=2, type=int, required=True, metavar="W H", help="Width and height of the images.")
@click.option("--focal", type=float, help="Focal length in pixels; the width of the image by default.")
@click.option("--convention", default="300W-LP", show_default=True, help="Whose yaw, pitch and roll to print.")
@click.option("--scheme", "scheme_name", default="ibug68", show_default=True, help="What the landmarks are.")
@click.option("--deformable", is_flag=True, help="Find the shape of the face as well as its pose.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each face.")
def main(
    landmarks: Path,
    image_size: tuple[int, int],
    focal: float | None,
    convention: str,
    scheme_name: str,
    deformable: bool,
    as_json: bool,
) -> None:
    """Print yaw, pitch and roll in degrees of the faces in LANDMARKS, a file or a folder of files."""
    if landmarks.is_dir():
        files = sorted(path for path in landmarks.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise click.ClickException(f"{landmarks}: no landmark files ({', '.join(sorted(SUFFIXES))}).")
    else:
        files = [landmarks]
    faces: list[tuple[str, np.ndarray]] = []
    failed = 0
    try:
        scheme = get_scheme(scheme_name)
        if "yaw" not in conventions.get(convention).values:
            raise ValueError(f"convention: {convention} has no yaw, pitch and roll.")
        camera = Camera.from_image_size(image_size)
        if focal is not None:
            camera = Camera(focal, camera.principal_point)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for path in files:
        try:
            faces += _load(path, scheme, image_size)
        except (LandmarkFileError, OSError, ValueError) as error:
            failed += 1
            click.echo(f"{path}: {error}", err=True)
    records = []
    if faces:
        try:
            result = estimate_head_pose(
                np.stack([shape for _, shape in faces]),
                camera,
                scheme=scheme,
                model=FaceModel3D.bundled() if deformable else None,
            )
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        records = [_record(name, result, i, convention) for i, (name, _) in enumerate(faces)]
    if as_json:
        click.echo(json.dumps(records, indent=1))
    else:
        if records:
            click.echo(f"# yaw pitch roll in degrees ({records[0]['convention']}), error in pixels, status, file")
        for r in records:
            if r["yaw"] is None:
                click.echo(f"{'-':>7} {'-':>7} {'-':>7} {'-':>7}  {r['status']}  {r['file']}")
            else:
                click.echo(
                    f"{r['yaw']:7.1f} {r['pitch']:7.1f} {r['roll']:7.1f} {r['reprojection_error_px']:7.2f}  "
                    f"{r['status']}  {r['file']}"
                )
    if failed or any(r["status"] != "ok" for r in records):
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m pose")
