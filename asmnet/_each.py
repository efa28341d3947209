"""What prediction does with each image of many, and the JSON of all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asmnet._pictures import save_overlay
from shape_models import write_landmarks
from shape_models._files import atomic


def predict_one(
    network: Any, item: tuple[Path, str, Any], *, folder: Path, chosen: set[str], flip: bool, fitted: bool
) -> dict[str, Any]:
    """Find the faces of one image and write what belongs to it alone."""
    path, image_name, boxes = item
    faces = network(path, boxes, flip_average=flip, fit=fitted or "json" in chosen or "csv" in chosen)
    (folder / image_name).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, face in enumerate(faces):
        points = face.fitted if fitted else face.landmarks
        name = image_name if len(faces) == 1 else f"{image_name}#{i}"
        if "pts" in chosen and face.status != "error":
            write_landmarks(folder / f"{name}.pts", points)
        angles = [""] * 3 if face.pose is None else [f"{v:.3f}" for v in face.pose]
        rows.append([name, str(path), i, *[f"{v:.3f}" for v in points.ravel()], *angles, face.plausibility])
    if "overlay" in chosen:
        save_overlay(path, faces, folder / f"{image_name}-landmarks.png")
    return {"path": str(path), "faces": [face.to_dict() for face in faces], "rows": rows}


def write_faces(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write the faces of all images as one JSON object, without holding them at once."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        comma = "{"
        for record in records:
            faces = json.dumps(record["faces"], indent=1).replace("\n", "\n ")
            file.write(f"{comma}\n {json.dumps(record['path'])}: {faces}")
            comma = ","
        file.write("{}\n" if comma == "{" else "\n}\n")
