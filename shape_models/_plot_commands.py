"""The commands ``shape-models plot`` and ``shape-models explore``: images and pages of models and shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import _commands as commands
from ._commands import counted
from ._procrustes import generalized_procrustes
from .explorer import write_explorer
from .images import image_exists, read_image
from .io import load_model
from .plotting import GREY, plot_clip, plot_modes, plot_shape, plot_spectrum

_image = commands.output_option("The image.", type=click.Path(dir_okay=False))
_y_up = click.option("--y-up/--y-down", default=None, help="Which way y points. [default: as the landmarks came]")
_scheme = click.option("--scheme", help="Scheme whose names and edges are used; that of the model by default.")


@click.group()
def plot() -> None:
    """Draw a model or shapes as a figure (.png, .svg, .pdf)."""


def _draw(draw: Callable[[], Any], output: str, as_json: bool, **record: Any) -> None:
    commands.save_figure(draw, output)
    commands.say(as_json, {"output": output, **record}, [f"wrote {output}"])


@plot.command("modes")
@click.argument("model")
@_image
@click.option("--n-modes", "-n", type=click.IntRange(1), default=5, show_default=True)
@_scheme
@_y_up
@commands.json_option
def modes(model: str, output: str, n_modes: int, scheme: str | None, y_up: bool | None, as_json: bool) -> None:
    """Draw the strip of the first modes, from -3 to +3 standard deviations."""
    chosen, down = commands.load_shape_model(model), None if y_up is None else not y_up
    _draw(lambda: plot_modes(chosen, n_modes=n_modes, scheme=scheme, y_down=down), output, as_json)


@plot.command("spectrum")
@click.argument("model")
@_image
@commands.json_option
def spectrum(model: str, output: str, as_json: bool) -> None:
    """Draw the fraction of the variance of each mode."""
    chosen = commands.load_shape_model(model)
    _draw(lambda: plot_spectrum(chosen), output, as_json)


@plot.command("clip")
@click.argument("model")
@click.argument("source")
@_image
@commands.source_options()
@click.option("--index", type=click.IntRange(0), default=0, show_default=True, help="Which shape of SOURCE.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False), help="Image; the one beside by default.")
@commands.json_option
def clip(
    model: str, source: str, output: str, reading: dict[str, Any], index: int, image: str | None, as_json: bool
) -> None:
    """Draw a shape before and after the projection, on its image."""
    chosen = commands.load_shape_model(model)
    data = commands.read(source, reading)
    if index >= len(data):
        raise click.UsageError(f"--index {index}: SOURCE has {counted(len(data), 'shape')}.")
    shape, name = commands.shapes_for(chosen, data)[index], data.names[index]
    path = image or data.images[index]
    pixels = read_image(path) if path is not None and image_exists(path) and data.frame == "pixels" else None
    down = (data.frame if getattr(chosen, "frame_", None) in (None, "physical") else chosen.frame_) != "y_up"

    def draw() -> Any:
        ax = plot_clip(chosen, shape, image=pixels, scheme=data.scheme, y_down=down)
        ax.set_title(name, fontsize=9)
        return ax

    _draw(draw, output, as_json, name=name)


@plot.command("shapes")
@click.argument("source")
@_image
@commands.source_options()
@click.option("--align/--no-align", "aligned", default=True, show_default=True, help="Superimpose them first.")
@_y_up
@commands.json_option
def shapes(source: str, output: str, reading: dict[str, Any], aligned: bool, y_up: bool | None, as_json: bool) -> None:
    """Draw all shapes of SOURCE over one another."""
    data = commands.read(source, reading)
    down = data.frame != "y_up" if y_up is None else not y_up

    def draw() -> Any:
        if not aligned:
            return plot_shape(data.shapes(), size=3, y_down=down)
        with commands.by_name(data.names):
            result = generalized_procrustes(data.lengths())
        ax = plot_shape(result.aligned, size=2, color=GREY, y_down=down)
        return plot_shape(result.mean, ax, scheme=data.scheme, size=10, y_down=down)

    _draw(draw, output, as_json, n_samples=len(data))


@click.command(short_help="Write a page with sliders.")
@click.argument("model")
@commands.output_option("The page, .html.", type=click.Path(dir_okay=False))
@click.option("--n-modes", "-n", type=click.IntRange(1), default=12, show_default=True)
@_scheme
@click.option("--edges", metavar="I-J,...", help="Lines to draw instead, such as 0-1,1-2,2-0.")
@_y_up
@click.option("--title", help="Heading; the name of the model by default.")
@commands.json_option
def explore(model: str, output: str, edges: str | None, title: str | None, as_json: bool, **options: Any) -> None:
    """Write a page with a slider for each mode and landmarks that can be dragged."""
    lines = None if edges is None else _pairs(edges)
    page = write_explorer(load_model(model), output, title=title or Path(model).stem, edges=lines, **options)
    commands.say(as_json, {"output": str(page)}, [f"wrote {page}"])


def _pairs(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(i), int(j)) for i, j in (pair.split("-") for pair in text.split(","))]
    except ValueError:
        raise click.UsageError(f"--edges {text}: expected pairs of landmarks, such as 0-1,1-2.") from None
