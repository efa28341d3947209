"""Figures of a search, step by step. Needs matplotlib; the GIF needs Pillow."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._drawing import draw_image, edges_of
from .._files import write_bytes, write_text
from .._typing import ImageLike
from ..landmarks import SchemeLike
from .results import SearchResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["animate_trace", "plot_trace"]


def _draw(axis: Any, shape: np.ndarray, edges: np.ndarray, color: Any, **options: Any) -> None:
    if len(edges):
        lines = np.concatenate([shape[edges], np.full((len(edges), 1, 2), np.nan)], axis=1).reshape(-1, 2)
        axis.plot(lines[:, 0], lines[:, 1], "-", color=color, lw=1.0, **options)
    axis.plot(shape[:, 0], shape[:, 1], ".", color=color, ms=3, **options)


def _check(result: Any) -> SearchResult:
    if not isinstance(result, SearchResult):
        raise ValueError(f"result: got a {type(result).__name__}; expected a SearchResult.")
    if not result.found:
        raise ValueError(f"result: got one without a shape ({result.status}: {result.message}); nothing to draw.")
    return result


def plot_trace(
    result: SearchResult,
    image: ImageLike | None = None,
    *,
    scheme: SchemeLike | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw a search: start and answer on the image, the way of the landmarks, and the numbers of each step.

    Parameters
    ----------
    result : SearchResult
        What `ASMFitter.predict` returned.
    image : array or path, optional
        The image that was searched.
    scheme : LandmarkScheme or str, optional
        Whose edges are drawn.
    figure : matplotlib figure, optional
        Where to draw; a new one by default.

    Returns
    -------
    matplotlib figure

    Raises
    ------
    ValueError
        When there is no shape to draw, or the scheme has another number of landmarks.

    Examples
    --------
    >>> from shape_models.search import SearchResult, plot_trace
    >>> plot_trace(SearchResult.failed(5, 3, status="no face", message="nothing detected"))
    Traceback (most recent call last):
    ValueError: result: got one without a shape (no face: nothing detected); nothing to draw.
    """
    import matplotlib.pyplot as plt

    result = _check(result)
    edges = edges_of(scheme, None, len(result.shape))
    if figure is None:
        figure = plt.figure(figsize=(11, 6), layout="constrained")
    picture, scores, moves, clipped = _panels(figure)
    if image is not None:
        draw_image(picture, image)
    path = np.array([result.start, *(step.shape for step in result.trace)])
    picture.plot(path[:, :, 0], path[:, :, 1], "-", color="white", lw=0.6, alpha=0.7)
    _draw(picture, result.start, edges, "gold")
    _draw(picture, result.shape, edges, "red")
    _look_at(picture, path, 0.15)
    picture.set_title(f"{result.status}; start gold, answer red")
    numbers = np.arange(1, len(result.trace) + 1)
    levels = np.array([step.level for step in result.trace])
    for axis, values, name in (
        (scores, [step.score for step in result.trace], "score"),
        (moves, [step.move for step in result.trace], "mean move (pixels)"),
    ):
        axis.plot(numbers, values, "o-", ms=3)
        axis.set_ylabel(name)
        for change in np.flatnonzero(np.diff(levels)):
            axis.axvline(numbers[change] + 0.5, color="0.7", lw=0.8)
    if result.trace:
        clipped.imshow(np.array([step.clipped for step in result.trace]).T, aspect="auto", cmap="Greys", vmin=0, vmax=1,
                       extent=(0.5, len(numbers) + 0.5, len(result.coefficients) - 0.5, -0.5))  # fmt: skip
    clipped.set_ylabel("mode held back")
    clipped.set_xlabel("step (lines between levels)")
    return figure


def _look_at(axis: Any, shapes: np.ndarray, margin: float) -> None:
    """Show the part of the image in which shapes (n, K, 2) stand, and a margin, a fraction of its longer side."""
    low, high = shapes.min(axis=(0, 1)), shapes.max(axis=(0, 1))
    room = margin * float((high - low).max())
    axis.set(xlim=(low[0] - room, high[0] + room), ylim=(high[1] + room, low[1] - room), aspect="equal")


def _panels(figure: Any) -> tuple[Any, ...]:
    grid = figure.add_gridspec(3, 2, width_ratios=(1.6, 1))
    image, *others = (figure.add_subplot(grid[place]) for place in ((slice(None), 0), (0, 1), (1, 1), (2, 1)))
    return image, *others


def animate_trace(
    result: SearchResult,
    image: ImageLike | None,
    path: str | os.PathLike[str],
    *,
    scheme: SchemeLike | None = None,
    seconds: float = 0.4,
) -> Path:
    """Write a film of a search: ``.gif``, or ``.html`` with a slider, one file that needs nothing else.

    Parameters
    ----------
    result : SearchResult
        What `ASMFitter.predict` returned.
    image : array or path or None
        The image that was searched; None draws none.
    path : path
        Ends with ``.gif`` or ``.html``.
    scheme : LandmarkScheme or str, optional
        Whose edges are drawn.
    seconds : float
        How long each step shows; start and answer show three times as long in a GIF.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For another ending, when there is no shape to draw, or the scheme has another number of landmarks.

    Examples
    --------
    >>> from shape_models.search import SearchResult, animate_trace
    >>> animate_trace(SearchResult.failed(5, 3, status="no face", message="nothing"), None, "film.mp4")
    Traceback (most recent call last):
    ValueError: path: got 'film.mp4'; expected a name that ends with .gif or .html.
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".html"):
        raise ValueError(f"path: got {path.name!r}; expected a name that ends with .gif or .html.")
    if not 0.01 <= seconds <= 60:
        raise ValueError(f"seconds: got {seconds!r}; expected 0.01 to 60.")
    frames = [_png(frame) for frame in _frames(_check(result), image, edges_of(scheme, None, len(result.shape)))]
    if path.suffix.lower() == ".html":
        write_text(path, _page(frames, seconds))
        return path
    from PIL import Image

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    memory = io.BytesIO()
    pictures[0].save(
        memory,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        loop=0,
        duration=[round(1000 * seconds * (3 if i in (0, len(pictures) - 1) else 1)) for i in range(len(pictures))],
    )
    write_bytes(path, memory.getvalue())
    return path


def _frames(result: SearchResult, image: Any, edges: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    shapes: list[Any] = [(result.start, None, "start")]
    for step in result.trace:
        held = int(step.clipped.sum())
        title = f"level {step.level + 1}, step {step.iteration + 1}"
        title += f", {held} {'mode' if held == 1 else 'modes'} held back" if held else ""
        shapes.append(
            (step.shape, step.proposed, f"{title}\nred: plausible shape; crosses: where landmarks want to go")
        )
    every = np.array([shape for shape, _, _ in shapes])
    for shape, proposed, title in shapes:
        figure = Figure(figsize=(4.8, 5.2), dpi=80)
        axis = figure.add_axes((0.02, 0.02, 0.96, 0.88))
        if image is not None:
            draw_image(axis, image)
        _draw(axis, shape, edges, "red")
        if proposed is not None:
            axis.plot(proposed[:, 0], proposed[:, 1], "x", color="cyan", ms=4)
        _look_at(axis, every, 0.2)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
        yield figure


def _png(figure: Any) -> bytes:
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    return memory.getvalue()


def _page(frames: list[bytes], seconds: float) -> str:
    sources = json.dumps(["data:image/png;base64," + base64.b64encode(frame).decode() for frame in frames])
    return f"""<!doctype html>
<meta charset="utf-8"><title>Active shape model search</title>
<style>body {{ font-family: sans-serif; text-align: center }} img {{ max-width: 100% }}</style>
<img id="frame" alt="one step of the search"><br>
<button id="play">play</button>
<input id="step" type="range" min="0" max="{len(frames) - 1}" value="0" aria-label="step">
<script>
const frames = {sources}, image = document.getElementById("frame"), step = document.getElementById("step");
const show = () => {{ image.src = frames[step.value]; }};
let timer = null;
step.oninput = show;
document.getElementById("play").onclick = () => {{
  if (timer) {{ clearInterval(timer); timer = null; return; }}
  timer = setInterval(() => {{ step.value = (Number(step.value) + 1) % frames.length; show(); }}, {1000 * seconds:g});
}};
show();
</script>
"""
