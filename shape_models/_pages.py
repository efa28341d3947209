"""Pages of HTML that need nothing else: their style, charts and drawings of shapes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ._files import write_text

SIDE = 220  # pixels along the longer side of a drawing
CHART = (420, 240)  # pixels of a chart, as wide as a picture
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse } td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } th { font-weight: 600 }
figure { display: inline-block; margin: .4rem; vertical-align: top } figcaption { font-size: .85rem; max-width: 26rem }
img, svg { max-width: 100% } .truth { color: #0a7d32 } .answer { color: #c22 }
"""


def write_page(path: str | Path, title: str, parts: Sequence[str]) -> None:
    """Write a page, one file that needs nothing else."""
    head = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
    )
    write_text(path, "\n".join([head, *parts, "</body></html>\n"]))


def axes(title: str, x: str, body: str, ticks: Sequence[tuple[float, str]], marks: Sequence[tuple[float, str]]) -> str:
    width, height = CHART
    lines = [f"<line x1='50' y1='{height - 40}' x2='{width - 10}' y2='{height - 40}' stroke='#888'/>"]
    lines += [f"<text x='{a:.1f}' y='{height - 24}' font-size='11' text-anchor='middle'>{b}</text>" for a, b in ticks]
    lines += [f"<text x='46' y='{a + 4:.1f}' font-size='11' text-anchor='end'>{b}</text>" for a, b in marks]
    return (
        f"<svg viewBox='0 0 {width} {height}' width='{width}' role='img' aria-label='{html.escape(title)}'>"
        f"{''.join(lines)}{body}<text x='{width / 2}' y='{height - 6}' font-size='12' text-anchor='middle'>"
        f"{html.escape(x)}</text></svg>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of cells that are markup."""
    lines = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def mode_drawing(mean: np.ndarray, step: np.ndarray, edges: np.ndarray) -> str:
    """Return a drawing of the mean, and of it moved a step to either side."""
    return drawing([(mean - step, "#4878a8"), (mean, "#bbb"), (mean + step, "#c22")], edges)


def drawing(shapes: Sequence[tuple[np.ndarray, str]], edges: np.ndarray, sizes: np.ndarray | None = None) -> str:
    every = np.concatenate([shape for shape, _ in shapes])
    low, high = every.min(0), every.max(0)
    factor = SIDE / float((high - low).max())
    marks = []
    for shape, tint in shapes:
        at = (shape - low) * factor + 10
        marks += [
            f"<line x1='{at[a, 0]:.1f}' y1='{at[a, 1]:.1f}' x2='{at[b, 0]:.1f}' y2='{at[b, 1]:.1f}' stroke='{tint}'/>"
            for a, b in edges
        ]
        radius = np.full(len(at), 1.6) if sizes is None else sizes
        marks += [
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r:.1f}' fill='{tint}'/>"
            for (x, y), r in zip(at, radius, strict=True)
        ]
    width, height = (high - low) * factor + 20
    return f"<svg viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' role='img'>{''.join(marks)}</svg>"
