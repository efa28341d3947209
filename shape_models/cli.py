"""The command ``shape-models``: fit, use, judge and draw shape models without writing Python."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import __version__
from . import _commands as commands
from ._aligned import AlignedASM
from ._alignment import GeneralizedProcrustes
from ._asm import ASM
from ._commands import DataError, counted
from ._names import few
from ._procrustes import generalized_procrustes
from .io import save_model
from .landmarks import convert as convert_scheme

__all__ = ["main"]


class _Main(commands.Group):
    elsewhere = {  # noqa: RUF012
        "train-search": "shape_models.search._cli:train_search",
        "search": "shape_models.search._cli:search",
        "refine": "shape_models.search._cli:refine",
        "info": "shape_models._describe:info",
        "diagnose": "shape_models._describe:diagnose",
        "plot": "shape_models._plot_commands:plot",
        "explore": "shape_models._plot_commands:explore",
        "doctor": "shape_models._doctor:doctor",
        "track": "shape_models.search._cli:track_command",
    }
    announced = commands.ENTRY_POINTS


@click.group(cls=_Main, context_settings={**commands.HELP, "max_content_width": 100})
@click.version_option(__version__, prog_name="shape-models")
def main() -> None:
    """Statistical shape models of landmarks: fit, apply, evaluate, draw and convert.

    SOURCE is a landmark file (.pts .asf .tps .ljson .npy .csv .json .xml), a .npz with an array `shapes`, or a folder
    of landmark files, searched with all folders below it (a split.csv or the layout of 300-W is understood; --archive
    names other public sets). MODEL is a file written by `fit`, or the name of a bundled one: face68, and search68 for
    `search`.

    Exit codes: 0 done, 1 the data or a file is at fault (one line says how), 2 the command line is.
    """


# --- Models and landmarks --------------------------------------------------------------------------------


def _names(data: Any, which: np.ndarray) -> list[str]:
    return [name for name, chosen in zip(data.names, which, strict=True) if chosen]


def _refuse_failed(data: Any, bad: np.ndarray) -> None:
    """End with an error where shapes could not be fitted; the others have been written."""
    if bad.any():
        raise DataError(
            f"{bad.sum()} of {len(bad)} shapes could not be fitted and are missing in the result: "
            f"{few(_names(data, bad))}. Their landmarks coincide, too few are seen, or they look like the "
            "model in no position, as when they are mirrored or count y upwards."
        )


def _write(data: Any, path: str, reading: Mapping[str, Any], extension: str | None = None) -> Path:
    from .datasets import save_landmarks

    return save_landmarks(
        data,
        path,
        extension=extension,
        image_size=reading["image_size"],
        progress=functools.partial(commands.progress, label="writing"),
    )


_LANDMARKS = "Folder, or a file .npz, .csv, .tps, .ljson, ..."
_LOSSES = click.Choice(["linear", "huber", "tukey"])
_format = click.option("--format", "form", help="Format of the files in a folder. [default: as the frame says]")
Given = dict[str, Any]  # that arrive together
_settings = commands.together(
    "asm",
    click.option("--n-components", "-n", default="0.98", show_default=True, help="12 modes, 0.98 of variance, or all."),
    click.option("--limit", default="3", show_default=True, help="Standard deviations a mode may reach, or none."),
    click.option("--shrinkage", type=click.Choice(["ledoit_wolf", "oas"]), help="Help for few samples."),
    parse=lambda given: {**given, "n_components": _components(given["n_components"]), "limit": _limit(given["limit"])},
)
_rule = commands.together(
    "rule",
    click.option("--criterion", type=click.Choice(["full", "partial"]), default="full", show_default=True),
    click.option("--keep-size", is_flag=True, help="Superimpose without scaling."),
    parse=lambda given: {"criterion": given["criterion"], "scaling": not given["keep_size"]},
)
_outlines = commands.together(
    "given",
    click.option("--outlines", is_flag=True, help="The points of each file are a closed outline, as many as it has."),
    click.option("--points", type=click.IntRange(4), help="Landmarks on each outline. [default: 64]"),
    click.option(
        "--placing", type=click.Choice(["auto", "elastic", "arc_length"]), help="Equal distances from starts that "
        "correspond (arc_length), points that slide along the outlines (elastic), or what describes outlines left out "
        "better. [default: auto]",
    ),
    click.option("--no-turning", is_flag=True, help="All objects lie alike: no outline is turned to match the others."),
    click.option("--label", type=commands.LABEL, help="Value, or colour R,G,B, of the object in masks of several."),
    click.option("--level", type=float, help="For grey levels and probabilities: the object is what lies above."),
    click.option("--repair", is_flag=True, help="Keep the largest part of a mask and fill its holes."),
    click.option("--report", metavar="FILE.html", type=click.Path(dir_okay=False), help="Write a page on the landmarks "
                 "of outlines: compactness, generalisation, specificity and overlap, beside equal distances."),
    parse=lambda given: {key: value for key, value in given.items() if value is not None and value is not False},
)  # fmt: skip


# --- Commands --------------------------------------------------------------------------------------------


@main.command(short_help="Fit a model to landmarks.")
@click.argument("source")
@commands.output_option("The model file, .npz.", type=click.Path(dir_okay=False))
@commands.source_options()
@_settings
@_rule
@click.option("--symmetric", is_flag=True, help="Give the mean the mirror symmetry of the scheme.")
@_outlines
@commands.json_option
def fit(
    source: str, output: str, reading: Given, asm: Given, rule: Given, given: Given, symmetric: bool, as_json: bool
) -> None:
    """Fit a shape model to the landmarks of SOURCE and save it.

    A folder of images without landmark files is taken for masks: corresponding landmarks are placed on their outlines,
    as on the outlines of files with --outlines.

    For example: fit 300w --split train --scheme ibug68 -o face.npz
    """
    from .contours import holds_masks

    if Path(output).suffix.lower() != ".npz":
        raise click.UsageError(f"output: got {output!r}; expected a name that ends with .npz.")
    record: dict[str, Any] = {}
    lines: list[str] = []
    if holds_masks(source) or "outlines" in given:
        from ._outline_report import place_landmarks

        data, record, lines = place_landmarks(source, reading, **given)
    elif given:
        option = "--" + next(iter(given)).replace("_", "-")
        raise click.UsageError(f"{option}: is for outlines; expected a folder of masks, or --outlines for polygons.")
    else:
        data = commands.read(source, reading)
        commands.say_curves(source, data)
    mirror = None
    if symmetric:
        if data.scheme is None or data.scheme.mirror is None:
            raise click.UsageError("--symmetric needs a scheme with a mirror map: try --scheme ibug68.")
        mirror = data.scheme.mirror
    alignment = GeneralizedProcrustes(**rule, mirror=mirror)
    start = time.perf_counter()
    with commands.by_name(data.names):
        model = AlignedASM(ASM(**asm), alignment=alignment, scheme=data.scheme).fit(data)
    seconds = time.perf_counter() - start
    fitted, shapes = model.asm_, data.shapes()
    missing = int(np.isnan(shapes[..., 0]).sum())
    metadata = {"source": Path(source).name, "split": reading["split"], "missing_landmarks": missing}
    save_model(model, output, metadata=metadata)
    shares = fitted.explained_variance_ratio_
    mirrored = [data.names[i] for i in model.alignment_.mirrored_]
    n, k, d = shapes.shape
    record |= {"model": str(output), "n_samples": n, "n_landmarks": k, "n_dims": d, "frame": data.frame}
    record |= {"scheme": None if data.scheme is None else data.scheme.name, "missing_landmarks": missing}
    record |= {"n_components": fitted.n_components_, "explained_variance_ratio": shares, "mirrored": mirrored}
    record |= {"converged": bool(model.alignment_.converged_ and fitted.converged_), "seconds": round(seconds, 3)}
    lines += [
        f"{counted(n, 'shape')} of {k} landmarks in {d}-D, {missing} missing landmarks; fitted in {seconds:.2f} s",
        f"{counted(fitted.n_components_, 'mode')} with {100 * shares.sum():.1f} % of the variance: "
        + ", ".join(f"{100 * s:.1f}" for s in shares[:6])
        + (" ..." if len(shares) > 6 else ""),
    ]
    if mirrored:
        lines.append(f"mirror images of the rest, fitted as they are: {few(mirrored)}")
    if not record["converged"]:
        lines.append("the fit did not settle: the numbers may still change")
    commands.say(as_json, record, [*lines, f"saved {output}"])


@main.command(short_help="Replace shapes by the nearest plausible ones.")
@click.argument("model")
@click.argument("source")
@commands.output_option(_LANDMARKS)
@_format
@commands.source_options()
@click.option(
    "--loss",
    type=_LOSSES,
    default="linear",
    help="Outlying landmarks count fully (linear), less (huber) or not at all (tukey).",
)
@commands.json_option
def project(model: str, source: str, output: str, form: str | None, reading: Given, loss: Any, as_json: bool) -> None:
    """Replace every shape of SOURCE by the nearest plausible shape of MODEL, in its own position, size and rotation.

    Missing landmarks are estimated.
    """
    chosen = commands.load_shape_model(model)
    data = commands.read(source, reading)
    shapes = commands.shapes_for(chosen, data)
    if loss != "linear":
        if not isinstance(chosen, AlignedASM):
            raise click.UsageError(f"--loss {loss} needs an AlignedASM; {model} is a {type(chosen).__name__}.")
        chosen.set_params(loss=loss)
    missing = np.isnan(shapes[..., 0])
    if missing.any() and not isinstance(chosen, AlignedASM):
        near = chosen.project(np.where(missing[..., None], 0.0, shapes), confidence=~missing)
    else:
        near = chosen.project(shapes)
    moved = np.linalg.norm(near - shapes, axis=2)
    bad = np.isnan(near).any(axis=(1, 2))
    mean_moved = float(np.nanmean(moved)) if np.isfinite(moved).any() else 0.0
    whole, n_filled = ~missing.any(axis=1) & ~bad, int(missing[~bad].sum())
    report = chosen.report(shapes[whole]) if whole.any() else None
    clipped = int(np.any(report.clipped, axis=1).sum()) if report is not None else 0
    result = data.with_shapes(data.unlike(near, *commands.names_and_frame(chosen)))
    path = _write(result, output, reading, form)
    record = {"output": str(path), "n_samples": len(near), "mean_moved": mean_moved, "filled_landmarks": n_filled}
    record |= {"clipped_shapes": clipped, "judged_shapes": int(whole.sum()), "failed": _names(data, bad)}
    record |= {"plausibility": None if report is None else report.plausibility}
    lines = [
        f"{counted(len(near), 'shape')}: landmarks moved by {mean_moved:.3g} on average, {n_filled} filled in",
        f"{clipped} of {whole.sum()} complete shapes had a mode beyond the limit",
    ]
    commands.say(as_json, record, [*lines, f"wrote {path}"])
    _refuse_failed(data, bad)


@main.command(short_help="Estimate missing landmarks.")
@click.argument("model")
@click.argument("source")
@commands.output_option(_LANDMARKS)
@_format
@commands.source_options()
@commands.json_option
def complete(model: str, source: str, output: str, form: str | None, reading: Given, as_json: bool) -> None:
    """Estimate the missing landmarks of SOURCE by MODEL; the others are not changed."""
    chosen = commands.load_shape_model(model)
    data = commands.read(source, reading)
    shapes = commands.shapes_for(chosen, data)
    missing = np.isnan(shapes[..., 0])
    result = chosen.complete(shapes)
    whole = np.asarray(result.shapes)
    bad = np.isnan(whole).any(axis=(1, 2))
    spread = np.sqrt(np.trace(result.covariance, axis1=-2, axis2=-1))[missing & ~bad[:, None]]
    filled = data.with_shapes(data.unlike(whole, *commands.names_and_frame(chosen)))
    path = _write(filled, output, reading, form)
    typical = float(np.median(spread)) if spread.size else 0.0
    n_filled = int(missing[~bad].sum())
    record = {"output": str(path), "n_samples": len(missing), "filled_landmarks": n_filled, "failed": _names(data, bad)}
    record |= {"median_standard_deviation": typical, "no_better_than_mean": result.no_better_than_mean}
    lines = [
        f"{counted(n_filled, 'missing landmark')} in {counted(len(missing), 'shape')} filled in; "
        f"expected error {typical:.3g} (median standard deviation)"
    ]
    if result.no_better_than_mean:
        lines.append("note: shapes left out of the model were completed no better than by pasting its mean")
    commands.say(as_json, record, [*lines, f"wrote {path}"])
    _refuse_failed(data, bad)


@main.command(short_help="Superimpose shapes.")
@click.argument("source")
@commands.output_option(_LANDMARKS)
@_format
@commands.source_options()
@_rule
@click.option("--tangent", is_flag=True, help="Project to the tangent plane at the mean.")
@click.option("--reflection", is_flag=True, help="Mirror shapes where that fits better.")
@commands.json_option
def align(source: str, output: str, form: str | None, reading: Given, rule: Given, as_json: bool, **how: Any) -> None:
    """Superimpose the shapes of SOURCE (generalised Procrustes analysis).

    The result keeps the way y points in SOURCE; curves move with their shape.
    """
    data = commands.read(source, reading)
    with commands.by_name(data.names):
        result = generalized_procrustes(data.lengths(), **rule, **how)
    curves = [[result.transforms[i](curve) for curve in own] for i, own in enumerate(data.curves)]
    aligned = data.with_shapes(result.aligned, curves=curves if any(curves) else None, box=None)
    if rule["scaling"]:
        aligned = aligned.without("scale")
    # An aligned shape has no image: where y is to count from the bottom it counts from 0.
    path = _write(aligned, output, {**reading, "image_size": (1, 1)}, form)
    mirrored = [data.names[i] for i in result.mirrored]
    farthest = np.argsort(result.distances)[::-1][:3]
    record = {"output": str(path), "n_samples": len(data), "disparity": result.disparity, "n_iter": result.n_iter}
    record |= {"converged": result.converged, "mirrored": mirrored, "mean": result.mean, "frame": data.frame}
    record["farthest"] = [data.names[i] for i in farthest]
    lines = [
        f"{counted(len(data), 'shape')} of {result.mean.shape[0]} landmarks in {result.mean.shape[1]}-D; "
        f"disparity {result.disparity:.4g}, {counted(result.n_iter, 'pass', 'passes')}"
        + ("" if result.converged else ", not settled"),
        "farthest from the mean: " + ", ".join(f"{data.names[i]} ({result.distances[i]:.3g})" for i in farthest),
    ]
    if mirrored:
        found = "mirrored" if how["reflection"] else "mirror images of the rest, left as they are"
        lines.append(f"{found}: {few(mirrored)}")
    commands.say(as_json, record, [*lines, f"wrote {path}"])


@main.command(short_help="Convert landmark formats and schemes.")
@click.argument("source")
@click.argument("target", required=False)
@commands.output_option("The same as TARGET.", required=False)
@_format
@commands.source_options()
@click.option("--to-scheme", help="Convert the landmarks from --scheme to this one.")
@commands.json_option
def convert(
    source: str,
    target: str | None,
    output: str | None,
    form: str | None,
    reading: Given,
    to_scheme: str | None,
    as_json: bool,
) -> None:
    """Convert landmark files from one format to another, and from one scheme to another.

    TARGET is a folder (one file for each shape, in folders as in SOURCE) or a file; the extension says the format.
    Identifiers, images, scales, curves, groups and other attributes are kept where the format has a place for them.
    """
    if (target is None) == (output is None):
        raise click.UsageError("expected TARGET, or the same as --output.")
    data = commands.read(source, reading)
    lines = []
    record: dict[str, Any] = {"n_samples": len(data)}
    if to_scheme is not None:
        if data.scheme is None:
            raise click.UsageError("--to-scheme needs --scheme: the number of landmarks alone does not say which.")
        result = convert_scheme(data.shapes(), data.scheme, to_scheme)
        data = data.with_shapes(result.shapes, scheme=result.scheme, labels=None)
        counts = {kind: result.kinds.count(kind) for kind in ("exact", "interpolated", "missing")}
        record |= counts
        lines.append(", ".join(f"{count} {kind}" for kind, count in counts.items()) + f" landmarks of {to_scheme}")
    path = _write(data, str(target or output), reading, form)
    record["output"] = str(path)
    commands.say(as_json, record, [*lines, f"wrote {counted(len(data), 'shape')} to {path}"])


@main.command(short_help="Repair corrupted faces, with images.")
@commands.output_option("Folder of the images.", required=False, default="out", show_default=True)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False),
    envvar="SHAPE_MODELS_DATA",
    help="Folder of real data; SHAPE_MODELS_DATA by default.",
)
@commands.json_option
def demo(output: str, data: str | None, as_json: bool) -> None:
    """Corrupt real faces, repair them with the bundled model, and say what it gained."""
    from ._demo import run

    lines = []
    for line in run(Path(output), None if data is None else Path(data)):
        lines.append(line)
        if not as_json:
            click.echo(line)
    if as_json:
        commands.say(True, {"output": output, "lines": lines}, [])


def _components(text: str) -> int | float | None:
    if text == "all":
        return None
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        fraction = float(text)
    except ValueError:
        fraction = -1.0
    if not 0 < fraction < 1:
        raise click.BadParameter(f"got {text!r}; expected a count, a fraction below 1, or all.", param_hint="-n")
    return fraction


def _limit(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"got {text!r}; expected a number or none.", param_hint="--limit") from None


if __name__ == "__main__":
    main()
