"""Landmarks placed on outlines for ``shape-models fit``: outlines of files, and what the landmarks are worth."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from ._commands import by_name, progress, read, steps
from ._diagnostics import compactness, generalization, specificity
from ._left_out import SpanOfData, held_out, left_out_folds
from ._masks import clockwise
from ._outlines import Outline, overlap_of
from ._pages import CHART, axes, drawing, mode_drawing, table, write_page
from ._procrustes import generalized_procrustes
from .contours import Correspondence, correspond, samples_of_masks
from .datasets import LandmarkSamples

_MODES = 5  # of which qualities are shown, at most: as `correspond` chooses
_FOLDS = 20  # as often outlines are left out, at most
_RASTER = 256  # steps along the longer side of two regions that are compared: Dice to about 0.002
_TINTS = ("#888", "#4878a8", "#c22")
_QUALITIES = {
    "compactness": "variance of the modes, as a fraction of all: more is better",
    "generalisation": "error of shapes left out, as a fraction of the centroid size: less is better",
    "specificity": "distance of random shapes from real ones, as a fraction of the centroid size: less is better",
    "overlap": "Dice of outlines left out with what the modes make of them: more is better",
}


class Placement(NamedTuple):
    """One way to place landmarks, and the qualities (n_modes,) of the models that follow."""

    name: str
    shapes: np.ndarray
    qualities: dict[str, np.ndarray]


def outlines_of(data: LandmarkSamples) -> list[np.ndarray]:
    """Return the one outline of each sample, its points or its only curve.

    Raises
    ------
    ValueError
        For a sample that has both, or several curves.
    """
    found = []
    for sample in data:
        some = [*([sample.landmarks] if len(sample.landmarks) else []), *sample.curves]
        if len(some) != 1:
            raise ValueError(
                f"{sample.name}: got {len(sample.landmarks)} landmarks and {len(sample.curves)} curves; expected the "
                "points of one outline. Try a file for each outline."
            )
        found.append(some[0])
    return found


def place_landmarks(
    source: str, reading: Mapping[str, Any], *, outlines: bool = False, points: int = 64, placing: Any = "auto",
    no_turning: bool = False, report: str | None = None, **mask: Any,
) -> tuple[LandmarkSamples, dict[str, Any], list[str]]:  # fmt: skip
    """Return landmarks on the outlines of masks, or of files, with what a command says of them as numbers and lines."""
    if report is not None and Path(report).suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--report: got {report!r}; expected a name that ends with .html.")
    if outlines:
        if mask:
            raise click.UsageError(f"--{next(iter(mask))}: is for masks; got --outlines.")
        data = read(source, reading)
    else:
        data = samples_of_masks(source, points, progress=partial(progress, label="reading", least=10), **mask)
    lines = outlines_of(data)
    with steps() as tell, by_name(data.names, "outlines"):
        found = correspond(lines, points, method=placing, rotation=not no_turning, callback=tell)
    said = "at equal distances" if found.method == "arc_length" else f"by sliding (stretch {found.stretch:g})"
    scores = ", ".join(f"{name} {score:.4f}" for name, score in found.scores.items())
    text = [f"landmarks placed {said}" + (f"; variance of outlines left out unexplained: {scores}" if scores else "")]
    record: dict[str, Any] = {"placing": found.method, "stretch": found.stretch, "unexplained": found.scores}
    if report is not None:
        placements = judge_placements(lines, found, not no_turning)
        write_placements(report, placements, found)
        record["report"] = {"file": report, **{one.name: one.qualities for one in placements}}
        text += [*said_of(placements), f"wrote {report}"]
    return data.with_shapes(found.shapes, scheme=found.scheme, labels=None, curves=[[]] * len(data)), record, text


def judge_placements(outlines: Sequence[np.ndarray], found: Correspondence, rotation: bool) -> list[Placement]:
    """Return how good models of the landmarks are, beside those of equal distances.

    Once from the topmost point of each outline on, and once from starts that correspond.
    """
    n_points = found.shapes.shape[1]
    curves = [Outline(clockwise(np.asarray(outline, np.float64))) for outline in outlines]
    places = np.arange(n_points) / n_points
    plain = np.stack([curve(curve.topmost() + places) for curve in curves])
    ways = [("equal distances from the topmost point", plain)]
    if found.method != "arc_length":
        aligned = correspond(outlines, n_points, method="arc_length", rotation=rotation).shapes
        ways.append(("equal distances, starts that correspond", aligned))
    said = "equal distances, starts that correspond" if found.method == "arc_length" else "sliding"
    ways.append((f"{said} (chosen)", found.shapes))
    return [Placement(name, shapes, _qualities(shapes, outlines)) for name, shapes in ways]


def _qualities(shapes: np.ndarray, outlines: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    placed = generalized_procrustes(shapes)
    data = SpanOfData(placed.aligned)
    folds = left_out_folds(data.n, min(data.n, _FOLDS), None)
    n_folds = len(folds)
    top = max(1, min(_MODES, len(data.variances), data.n - max(map(len, folds)) - 1))
    overlap = np.empty((data.n, top))
    back = placed.transforms.inverse
    for test, modes, _, held in held_out(data, folds, top):
        for k in range(top):
            rest = data.points(held - held @ modes[:, : k + 1] @ modes[:, : k + 1].T)
            rebuilt = placed.aligned.copy()
            rebuilt[test] -= rest.reshape(len(test), *shapes.shape[1:])
            rebuilt = back(rebuilt)
            overlap[test, k] = [overlap_of(rebuilt[i], np.asarray(outlines[i]), _RASTER) for i in test]
    aligned = placed.aligned
    return {
        "compactness": compactness(aligned).value[:top],
        "generalisation": generalization(aligned, max_components=top, n_folds=n_folds).value,
        "specificity": specificity(aligned, max_components=top, rng=0).value,
        "overlap": overlap.mean(axis=0),
    }


def said_of(placements: Sequence[Placement]) -> list[str]:
    """Return the qualities at the most modes in lines of text."""
    n = len(placements[0].qualities["overlap"])
    lines = [f"with {n} modes: variance, generalisation, specificity, overlap (Dice) of outlines left out"]
    for name, _, q in placements:
        lines.append(
            f"  {100 * q['compactness'][-1]:5.1f} %  {q['generalisation'][-1]:.5f}  {q['specificity'][-1]:.5f}  "
            f"{q['overlap'][-1]:.4f}  {name}"
        )
    return lines


def write_placements(path: str | Path, placements: Sequence[Placement], found: Correspondence) -> None:
    """Write a page on where the landmarks lie, and how good models of them are beside those of equal distances."""
    n = len(placements[0].qualities["overlap"])
    rows = [
        [f"<span style='color:{tint}'>{html.escape(name)}</span>", *(f"{q[quality][-1]:.5f}" for quality in _QUALITIES)]
        for (name, _, q), tint in zip(placements, _TINTS[-len(placements) :], strict=True)
    ]
    parts = [
        f"<p>{len(found.shapes)} outlines, {found.shapes.shape[1]} landmarks on each.</p>",
        table([f"with {n} modes", *_QUALITIES], rows),
        "<p>Landmarks that hardly move have small errors whatever they describe: of these numbers only the overlap "
        "compares the outlines themselves.</p>",
        *(_chart(placements, quality, said) for quality, said in _QUALITIES.items()),
        "<h2>Where the landmarks lie</h2>",
    ]
    edges = np.asarray(found.scheme.edges)
    for name, shapes, _ in placements:
        placed = generalized_procrustes(shapes)
        some = [(shape, "#4878a8") for shape in placed.aligned[:40]]
        picture = drawing([*some, (placed.mean, "#c22")], np.empty((0, 2), int))
        parts.append(f"<figure>{picture}<figcaption>{html.escape(name)}; red: the mean.</figcaption></figure>")
    parts.append("<h2>Modes</h2>")
    parts += _modes(placements[-1].shapes, edges)
    write_page(path, "Landmarks on outlines", parts)


def _chart(placements: Sequence[Placement], quality: str, said: str) -> str:
    width, height = CHART
    values = np.array([q[quality] for _, _, q in placements])
    low, high = float(values.min()), float(values.max())
    x = np.linspace(70, width - 20, values.shape[1])
    y = height - 50 - (height - 80) * (values - low) / max(high - low, np.finfo(float).tiny)
    body = "".join(
        f"<polyline fill='none' stroke='{tint}' points='{' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x, row))}'/>"  # noqa: B905
        for row, tint in zip(y, _TINTS[-len(placements) :], strict=True)
    )
    ticks = [(float(a), str(k + 1)) for k, a in enumerate(x)]
    chart = axes(quality, "modes", body, ticks, [(height - 50, f"{low:.3g}"), (30, f"{high:.3g}")])
    return f"<figure>{chart}<figcaption>{quality}: {html.escape(said)}</figcaption></figure>"


def _modes(shapes: np.ndarray, edges: np.ndarray) -> list[str]:
    placed = generalized_procrustes(shapes)
    data = SpanOfData(placed.aligned)
    parts = []
    for number, variance in enumerate(data.variances[:_MODES]):
        step = 2 * np.sqrt(variance) * data.components[number].reshape(shapes.shape[1:])
        picture = mode_drawing(placed.mean, step, edges)
        share = variance / data.variances.sum()
        parts.append(
            f"<figure>{picture}<figcaption>Mode {number + 1}, {share:.0%} of the variance</figcaption></figure>"
        )
    return parts
