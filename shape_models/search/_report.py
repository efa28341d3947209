"""The page on how good a trained search is: numbers, worst images, modes, and whether more images would help."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from .._pages import CHART, SIDE, axes, drawing, mode_drawing, table, write_page
from ..curves import Curve
from ._cross_validation import CrossValidation, cross_validate, interval
from ._frame import Planar
from ._images import grey, read_image
from ._regions import closed_curves, overlap

_WORST = 6  # images shown, those with the largest errors
_PICTURE = 420  # pixels along the longer side of an image in the page
_MODES = 4  # modes that are drawn
_POOR = 0.7  # Dice below which a region counts as missed


def advice(result: CrossValidation, groups: Any = None) -> list[str]:
    """Return what follows from the numbers, in sentences."""
    found, boxed = np.median(result.error), np.median(result.boxed_error)
    said = []
    lost = int(result.lost.sum())
    if lost:
        with_boxes = int((result.boxed_error > 0.1).sum())
        text = f"In {lost} of {len(result.error)} images the object was not found without a box."
        if with_boxes < lost:
            text += f" In the true box it is lost in {with_boxes}: boxes from elsewhere (--boxes) would help."
        said.append(text)
    if found > 1.15 * boxed and not lost:
        said.append(f"Boxes from elsewhere (--boxes) would bring the median error from {found:.2%} to {boxed:.2%}.")
    limit = result.limit
    if limit is not None:
        now = result.curve[-1][1]
        twice, many = limit
        if twice < 0.95 * now:
            said.append(
                f"More images would help: with twice as many the error from true boxes would be about {twice:.2%} "
                f"instead of {now:.2%} of the size, and about {many:.2%} with very many."
            )
        else:
            said.append("More images of the same kind would hardly help; the learning curve is flat.")
    if groups is None and len(result.error) > 3:
        said.append(
            "Every image was left out alone. If several images show the same person or specimen, say so (--group-by or "
            "--groups): otherwise these numbers are too good."
        )
    finite = np.isfinite(result.expected) & np.isfinite(result.error)
    if finite.sum() >= 8:
        rank = float(spearmanr((result.expected / result.size)[finite], result.error[finite]).statistic)
        if rank > 0.3:
            said.append(
                f"The expected error of an answer tells bad ones from good ones (rank correlation {rank:.2f}): "
                "look at those answers first whose expected error is large."
            )
    return said


def write_report(
    path: str | Path, fitter: Any, result: CrossValidation, images: Any, shapes: np.ndarray, names: Sequence[str],
    groups: Any = None, scheme: Any = None, seconds: float | None = None,
) -> None:  # fmt: skip
    """Write the page, one file that needs nothing else."""
    edges = np.asarray(getattr(scheme, "edges", np.empty((0, 2), int)))
    parts = [
        _summary(fitter, result, shapes, groups, seconds),
        "<h2>What to do</h2><ul>",
        *(f"<li>{html.escape(line)}</li>" for line in advice(result, groups)),
        "</ul><h2>Error in images left out</h2>",
        _table(result, groups),
        _regions(result, shapes, closed_curves(scheme), groups),
        _histogram(result),
        "<h2>Would more images help?</h2>",
        _curve(result),
        "<h2>Where the answers are worst</h2>",
        "<p>The landmarks of the file are <span class='truth'>green</span>, the answer without a box "
        "<span class='answer'>red</span>; each image was left out of the training.</p>",
    ]
    order = np.argsort(-np.where(np.isfinite(result.error), result.error, 1e9))
    for i in order[:_WORST]:
        parts.append(_picture(images[i], shapes[i], result.found[i], edges, _caption(names[i], result, i)))
    parts += ["<h2>Landmarks</h2>", _landmarks(fitter, result, shapes, edges), "<h2>Modes of the shape</h2>"]
    parts += [_mode(fitter, k, edges) for k in range(min(_MODES, _n_modes(fitter)))]
    write_page(path, "Report of a trained search", parts)


def cross_validated_report(
    report: Path, fitter: Any, make: Any, paths: Any, shapes: np.ndarray, data: Any, groups: Any, spacing: Any,
    folds: int | None, scheme: Any, seconds: float, tell: Any,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Leave images out, write the page, and return its numbers and what to print."""
    result = cross_validate(make, lambda: make(True), paths, shapes, groups, spacing, folds, tell)
    write_report(report, fitter, result, paths, shapes, data.names, groups, scheme, seconds)
    median, boxed = float(np.median(result.error)), float(np.median(result.boxed_error))
    record = {
        "file": str(report),
        "median_error": median,
        "mean_error": float(np.minimum(result.error, 1.0).mean()),
        "median_error_in_true_boxes": boxed,
        "lost": int(result.lost.sum()),
        "n_folds": result.n_folds,
    }
    said = [
        f"{report}: in images left out the median error is {median:.2%} of the size of the shape ({boxed:.2%} in the "
        f"true boxes), {result.lost.sum()} of {len(shapes)} lost"
    ]
    if curves := closed_curves(scheme):
        names = [*(curve.name for curve in curves), "all"]
        regions = dict(zip(names, _overlaps(result.found, shapes, curves, groups), strict=True))
        record["dice"] = {name: {"mean": mean, "interval": ends} for name, (mean, ends, *_) in regions.items()}
        mean, (low, high), _, poor = regions["all"]
        said.append(
            f"overlap of regions (Dice) {mean:.3f} [{low:.3f}, {high:.3f}], {poor} of {len(shapes) * len(curves)} "
            f"below {_POOR}"
        )
        said.append(", ".join(f"{name} {regions[name][0]:.3f}" for name in names[:-1]))
    return record, [*said, *advice(result, groups)]


def _overlaps(
    found: np.ndarray, shapes: np.ndarray, curves: list[Curve], groups: Any
) -> list[tuple[float, tuple[float, float], float, int]]:
    """Return mean, its interval, median and number of poor ones of the overlap of each closed curve, and of all."""
    dice = overlap(found, shapes, curves)
    which = None if groups is None else np.asarray(groups)
    return [
        (float(np.nanmean(one)), interval(one, np.nanmean, which), float(np.nanmedian(one)), int((one < _POOR).sum()))
        for one in (*dice.T, dice)
    ]


def _regions(result: CrossValidation, shapes: np.ndarray, curves: list[Curve], groups: Any = None) -> str:
    """Return a table of the overlap of closed curves with the true ones, empty where there are none."""
    if not curves:
        return ""
    without, boxed = (_overlaps(found, shapes, curves, groups) for found in (result.found, result.boxed))
    rows = []
    for name, row, other in zip([*(curve.name for curve in curves), "all"], without, boxed, strict=True):
        (mean, (low, high), median, poor), in_box = row, other[0]
        cells = [f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{median:.3f}", poor, f"{in_box:.3f}"]
        rows.append([html.escape(name), *cells])
    head = ["closed curve", "mean Dice", "median", f"below {_POOR}", "mean in the true boxes"]
    return f"<h2>Overlap of regions</h2>{table(head, rows)}"


def _n_modes(fitter: Any) -> int:
    return int(fitter.asm_.asm_.basis_.n_components)


def _summary(fitter: Any, result: CrossValidation, shapes: np.ndarray, groups: Any, seconds: float | None) -> str:
    n_groups = len(shapes) if groups is None else len(np.unique(np.asarray(groups)))
    search = getattr(fitter, "whole_", fitter)
    rows = [
        ("Images", f"{len(shapes)}"),
        ("Landmarks", f"{shapes.shape[1]}, {int((~np.isfinite(shapes).all(-1)).sum())} missing in all"),
        ("Left out", f"{result.n_folds} times, of {n_groups} {'images' if groups is None else 'groups'}"),
        ("Modes of the shape", f"{_n_modes(fitter)}"),
        ("Evidence", repr(search.evidence_)),
    ]
    if hasattr(fitter, "fitters_"):
        rows += [(f"Part {name}", repr(part.evidence_)) for name, part in fitter.fitters_.items()]
    if seconds is not None:
        rows.append(("Training", f"{seconds:.0f} s"))
    cells = (f"<tr><td>{html.escape(a)}</td><td style='text-align:left'>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{''.join(cells)}</table>"


def _table(result: CrossValidation, groups: Any) -> str:
    rows = []
    for name, error in (("without boxes", result.error), ("in the true boxes", result.boxed_error)):
        capped = np.minimum(error, 1.0)
        cells = [name]
        for statistic in (np.median, np.mean, lambda v: np.quantile(v, 0.9)):
            low, high = interval(capped, statistic, None if groups is None else np.asarray(groups))
            cells.append(f"{statistic(capped):.2%} [{low:.2%}, {high:.2%}]")
        pixels = float(np.median(capped * result.size))
        cells += [f"{pixels:.1f}", f"{int((error > 0.1).sum())} of {len(error)}"]
        rows.append(cells)
    return (
        f"{table(['search', 'median', 'mean', 'worst tenth from', 'median, pixels', 'lost'], rows)}<p>Mean distance of "
        "the landmarks, in percent of the longer side of the shape, with 95 % intervals of the bootstrap over "
        f"{'images' if groups is None else 'groups'}; lost: above 10 %.</p>"
    )


def _histogram(result: CrossValidation) -> str:
    width, height = CHART
    values = 100 * np.minimum(result.error, 0.2)
    top = max(float(values.max()), 1e-3)
    counts, ends = np.histogram(values, bins=min(20, max(6, len(values) // 2)), range=(0, top))
    x = 50 + (width - 60) * ends / top
    tall = (height - 60) * counts / max(counts.max(), 1)
    bars = "".join(
        f"<rect x='{a + 1:.1f}' y='{height - 40 - t:.1f}' width='{b - a - 2:.1f}' height='{t:.1f}' fill='#4878a8'/>"
        for a, b, t in zip(x, x[1:], tall, strict=False)
    )
    ticks = [(50 + (width - 60) * s, f"{top * s:.1f}") for s in (0, 0.5, 1)]
    marks = [(height - 40, "0"), (20, str(int(counts.max())))]
    return axes(
        "Histogram of errors", "error without boxes, % of the size; images above 20 % at its end", bars, ticks, marks
    )


def _curve(result: CrossValidation) -> str:
    if len(result.curve) < 2:
        return "<p>Too few images to say.</p>"
    width, height = CHART
    n = np.array([row[0] for row in result.curve], float)
    error, spread = (np.array([row[k] for row in result.curve]) for k in (1, 2))
    limit = result.limit
    assert limit is not None
    x_max, top = 2.1 * n[-1], 1.15 * float((error * np.exp(1.96 * spread)).max())
    x, y = 50 + (width - 60) * n / x_max, height - 40 - (height - 60) * error / top
    low, high = (height - 40 - (height - 60) * error * np.exp(k * 1.96 * spread) / top for k in (-1, 1))
    line = "".join(
        f"<line x1='{a:.1f}' x2='{a:.1f}' y1='{b:.1f}' y2='{c:.1f}' stroke='#4878a8'/>"
        f"<circle cx='{a:.1f}' cy='{d:.1f}' r='4' fill='#4878a8'/>"
        for a, b, c, d in zip(x, low, high, y, strict=True)
    )
    far = (50 + (width - 60) * 2 * n[-1] / x_max, height - 40 - (height - 60) * limit[0] / top)
    line += (
        f"<line x1='{x[-1]:.1f}' y1='{y[-1]:.1f}' x2='{far[0]:.1f}' y2='{far[1]:.1f}' stroke='#999' "
        f"stroke-dasharray='4 3'/><circle cx='{far[0]:.1f}' cy='{far[1]:.1f}' r='4' fill='none' stroke='#999'/>"
    )
    ticks = [(float(a), str(int(b))) for a, b in zip(x, n, strict=True)] + [(far[0], f"{int(2 * n[-1])}?")]
    marks = [(height - 40, "0"), (float(height - 40 - (height - 60) / 1.15), f"{100 * top / 1.15:.2g} %")]
    return axes("Learning curve", "training images; median error from true boxes, dashed: expected", line, ticks, marks)


def _caption(name: str, result: CrossValidation, i: int) -> str:
    if not np.isfinite(result.error[i]):
        return f"{name}: no answer"
    said = f"{name}: {result.error[i]:.2%} of the size ({result.error[i] * result.size[i]:.1f} pixels)"
    if np.isfinite(result.expected[i]):
        said += f", expected {result.expected[i] / result.size[i]:.2%}"
    return said + f"; in the true box {result.boxed_error[i]:.2%}"


def _picture(image: Any, truth: np.ndarray, found: np.ndarray, edges: np.ndarray, caption: str) -> str:
    from PIL import Image, ImageDraw

    picture = read_image(image)
    shown = [points[np.isfinite(points).all(-1)] for points in (truth, found)]
    every = np.concatenate(shown)
    low, high = every.min(0), every.max(0)
    margin = 0.15 * float((high - low).max())
    size = np.array(picture.shape[1::-1])
    x0, y0 = np.clip(np.floor(low - margin), 0, size - 1).astype(int)
    x1, y1 = np.clip(np.ceil(high + margin), [x0 + 1, y0 + 1], size).astype(int)
    part = picture[y0:y1, x0:x1]
    colour = part.ndim == 3 and part.dtype == np.uint8
    flat = float(part.min()) == float(part.max())
    pixels = part[..., :3] if colour else np.zeros(part.shape[:2]) if flat else 255 * grey(part)
    canvas = Image.fromarray(np.asarray(pixels).astype(np.uint8)).convert("RGB")
    factor = _PICTURE / max(canvas.size)
    canvas = canvas.resize([max(1, round(v * factor)) for v in canvas.size], Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(canvas)
    for points, tint in ((truth, (20, 200, 80)), (found, (255, 50, 50))):
        at = (points - [x0, y0] + 0.5) * factor
        for a, b in edges:
            if np.isfinite(at[[a, b]]).all():
                pen.line([*at[a], *at[b]], fill=tint)
        for x, y in at[np.isfinite(at).all(-1)]:
            pen.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=tint)
    memory = io.BytesIO()
    canvas.save(memory, format="JPEG", quality=85)
    source = base64.b64encode(memory.getvalue()).decode()
    return (
        f"<figure><img alt='{html.escape(caption)}' src='data:image/jpeg;base64,{source}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _upright(fitter: Any) -> Planar:
    """Return the rotation that makes shapes of the model stand as they do in images."""
    return Planar(np.exp(1j * np.array(getattr(fitter, "whole_", fitter)._frame.angle)), np.array(0j))


def _landmarks(fitter: Any, result: CrossValidation, shapes: np.ndarray, edges: np.ndarray) -> str:
    use = ~result.lost
    if not use.any():
        return "<p>No answer is near enough to say.</p>"
    off = np.linalg.norm(result.found[use] - shapes[use], axis=-1) / result.size[use, None]
    known = np.isfinite(off)
    error = np.where(known, off, 0).sum(0) / np.maximum(known.sum(0), 1)
    mean = _upright(fitter)(np.asarray(fitter.asm_.asm_.basis_.mean))
    worst = np.argsort(-error)[:5]
    names = getattr(fitter.asm_.scheme_, "names", None) or getattr(fitter.asm_, "landmark_names_", None)
    said = ", ".join(f"{names[k] if names else k} ({error[k]:.2%})" for k in worst)
    return (
        f"<figure>{drawing([(mean, '#4878a8')], edges, np.maximum(SIDE * error, 0.8))}<figcaption>Circles are as wide "
        f"as the landmarks are off on average, lost answers aside. Largest: {html.escape(said)}.</figcaption></figure>"
    )


def _mode(fitter: Any, number: int, edges: np.ndarray) -> str:
    basis = fitter.asm_.asm_.basis_
    mean, step = np.asarray(basis.mean), np.asarray(basis.components)[number].reshape(-1, 2)
    spread = 2.0 * float(np.sqrt(basis.variances[number]))
    upright = _upright(fitter)
    picture = mode_drawing(upright(mean), upright(spread * step), edges)
    share = float(basis.variances[number] / np.sum(basis.variances))
    return (
        f"<figure>{picture}<figcaption>Mode {number + 1}, {share:.0%} of the variance that the model "
        "keeps: the mean, two standard deviations less (blue) and more (red).</figcaption></figure>"
    )
