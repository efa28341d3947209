"""Figures of a training: curves, and faces with what the network says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asmnet._face import FacePrediction
from asmnet._images import load_image
from asmnet._run_folder import EpochRecord
from pose import conventions
from shape_models._files import atomic


def _figure(width: float, height: float) -> Any:
    """Make a figure that no window system and no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw loss and validation error over the epochs."""
    figure = _figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    epochs = [record.epoch for record in history]
    left.plot(epochs, [record.loss for record in history], color="C0")
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    nme = np.array([record.nme for record in history])
    right.plot(epochs, 100 * nme, color="C1")
    if np.isfinite(nme).any():
        best = int(np.nanargmin(nme))
        right.plot(epochs[best], 100 * nme[best], "o", color="C1")
        right.set_title(f"best {100 * nme[best]:.2f} % in epoch {epochs[best]}", fontsize=10)
    right.set(xlabel="epoch", ylabel="validation NME, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def save_faces(
    images: np.ndarray, truth: np.ndarray, predicted: np.ndarray, titles: Sequence[str], path: Path, *, columns: int = 6
) -> None:
    """Draw faces (n, h, w, 3) with true landmarks in green and predicted ones in red, in pixels."""
    n = len(images)
    rows = -(-n // columns)
    figure = _figure(2.1 * columns, 2.3 * rows)
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for i, axes in enumerate(grid):
        axes.set_axis_off()
        if i < n:
            axes.imshow(images[i])
            axes.plot(truth[i, :, 0], truth[i, :, 1], ".", color="#20d020", markersize=2)
            axes.plot(predicted[i, :, 0], predicted[i, :, 1], ".", color="#ff3030", markersize=2)
            axes.set_title(titles[i], fontsize=8)
            low, high = np.nanmin(truth[i], 0), np.nanmax(truth[i], 0)
            room = 0.2 * float((high - low).max())
            axes.set(xlim=(low[0] - room, high[0] + room), ylim=(high[1] + room, low[1] - room))
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def save_overlay(path: str | Path, faces: Sequence[FacePrediction], out: Path) -> None:
    """Draw landmarks and the axes of the head on an image, as large as it is."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(load_image(path))
    draw = ImageDraw.Draw(image)
    for face in faces:
        points = face.landmarks[np.isfinite(face.landmarks).all(1)]
        if not len(points):
            continue
        span = float((points.max(0) - points.min(0)).max())
        radius = max(1.0, span / 120)
        for x, y in points.tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(40, 230, 40))
        if face.pose is not None:
            radians = np.deg2rad([face.pitch, face.yaw, face.roll])
            axes = conventions.read(radians, face.pose_convention).as_matrix()
            start = points.mean(0)
            arrows = ((0, 1.0, (230, 50, 50)), (1, 1.0, (50, 200, 50)), (2, -1.0, (70, 110, 255)))
            for column, sign, colour in arrows:  # the third axis points out of the face, towards the viewer
                end = start + 0.5 * span * sign * axes[:2, column]
                draw.line((*start.tolist(), *end.tolist()), fill=colour, width=max(1, round(span / 80)))
    with atomic(out) as temporary:
        image.save(temporary, format="PNG")
