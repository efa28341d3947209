"""The commands ``shape-models info`` and ``diagnose``: what a file holds, and how good a model of it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import _commands as commands
from . import _diagnostics as diagnostics
from ._aligned import AlignedASM
from ._asm import ASM
from ._basis import ShapeBasis
from ._commands import counted
from ._drawing import basis_of
from ._names import few
from ._procrustes import generalized_procrustes
from .images import image_exists
from .io import load_model
from .morphometrics import find_outliers
from .plotting import plot_diagnostics


@click.command(short_help="Describe a model, or landmarks.")
@click.argument("path")
@commands.source_options()
@commands.json_option
def info(path: str, reading: dict[str, Any], as_json: bool) -> None:
    """Describe a model, or landmarks."""
    if not Path(path).exists() or Path(path).suffix == ".npz":
        try:
            commands.say(as_json, *_about_model(path, load_model(path)))
            return
        except FileNotFoundError:
            raise ValueError(f"{path}: got no such file, folder or bundled model.") from None
        except ValueError:
            if not _holds_shapes(path):
                raise
    data = commands.read(path, reading)
    shapes = data.shapes()
    n, k, d = shapes.shape
    missing = np.isnan(shapes[..., 0])
    record = {"n_samples": n, "n_landmarks": k, "n_dims": d, "frame": data.frame}
    record["scheme"] = None if data.scheme is None else data.scheme.name
    record["landmark_names"] = None if data.labels is None else list(data.labels)
    record |= {"missing_landmarks": int(missing.sum()), "incomplete_shapes": int(missing.any(axis=1).sum())}
    record |= {"names": data.names if as_json else few(data.names), "images": sum(map(image_exists, data.images))}
    record["groups"] = len(set(data.groups))
    if n_curves := sum(map(len, data.curves)):
        record["curves"] = n_curves
    if data.frame != "relative" and k:
        centred = shapes - np.nanmean(shapes, axis=1, keepdims=True)
        record["median_centroid_size"] = float(np.median(np.sqrt(np.nansum(centred**2, axis=(1, 2)))))
    commands.say(as_json, record, _table(record, 22))


def _about_model(path: str, model: Any) -> tuple[dict[str, Any], list[str]]:
    record: dict[str, Any] = {"kind": type(model).__name__}
    if isinstance(model, AlignedASM | ASM | ShapeBasis):
        basis, asm = basis_of(model), getattr(model, "asm_", model)
        scheme, (names, frame) = getattr(model, "scheme_", None), commands.names_and_frame(model)
        record |= {
            "n_landmarks": basis.event_shape[0],
            "n_dims": basis.event_shape[-1],
            "scheme": None if scheme is None else scheme.name,
            "frame": frame,
            "landmark_names": None if names is None or scheme is not None else list(names),
            "n_components": basis.n_components,
            "limit": repr(basis.limit),
            "noise_variance": basis.noise_variance,
            "variances": np.asarray(basis.variances),
        }
        if isinstance(asm, ASM):
            record |= {"n_samples": asm.n_samples_, "explained_variance_ratio": asm.explained_variance_ratio_}
    fitter = getattr(model, "fitter_", model)
    if hasattr(fitter, "evidence_"):
        shape, box = _about_model(path, fitter.asm_)[0], fitter.box_
        own = "n_landmarks scheme frame landmark_names n_components limit".split()
        record |= {name: shape[name] for name in own}
        record |= {
            "evidence": repr(fitter.evidence_),
            "resolutions": [round(r, 1) for r in fitter.resolutions_],
            "box": f"side {box.side:.3f}, centre {box.center[0]:+.3f} {box.center[1]:+.3f} of the given side",
            "detects_faces": fitter.detection_ is not None,
        }
    return record, _table(record, 26)


def _table(record: dict[str, Any], width: int) -> list[str]:
    return [f"{key.replace('_', ' '):{width}s}{_short(value)}" for key, value in record.items()]


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        head = ", ".join(f"{v:.4g}" for v in value[:6])
        return f"{head}, ... ({len(value)})" if len(value) > 6 else head
    if isinstance(value, list) and value and isinstance(value[0], str):
        return few(value, 12)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _holds_shapes(path: str) -> bool:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "shapes" in archive.files
    except (OSError, ValueError):
        return False


@click.command(short_help="Measure the quality of a model of landmarks.")
@click.argument("source")
@commands.source_options()
@click.option("--n-components", "-n", type=click.IntRange(1), default=10, show_default=True, help="Most modes to try.")
@click.option("--folds", type=click.IntRange(2), default=10, show_default=True, help="Folds of the cross-validation.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False), help="Draw the curves into this file.")
@click.option("--seed", default=0, show_default=True)
@commands.json_option
def diagnose(
    source: str, reading: dict[str, Any], n_components: int, folds: int, picture: str | None, seed: int, as_json: bool
) -> None:
    """Measure a model of SOURCE: compactness, generalisation, specificity, number of modes; and list outliers."""
    data = commands.read(source, reading)
    commands.say_curves(source, data)
    shapes = data.lengths()
    missing = np.isnan(shapes[..., 0]).any(axis=1)
    if missing.any():
        click.echo(f"leaving out {counted(int(missing.sum()), 'incomplete shape')}", err=True)
    with commands.by_name([name for name, out in zip(data.names, missing, strict=True) if not out]):
        superimposed = generalized_procrustes(shapes[~missing])
    aligned, complete = superimposed.aligned, np.flatnonzero(~missing)
    mirrored = [data.names[complete[i]] for i in superimposed.mirrored]
    n, folds = len(aligned), min(folds, len(aligned))
    # The most modes that the shapes of every fold span about their mean.
    top = min(n_components, aligned[0].size - 1, n - int(np.ceil(n / folds)) - 1)
    steps: list[tuple[str, Any]] = [
        ("generalization", lambda: diagnostics.generalization(aligned, max_components=top, n_folds=folds)),
        ("specificity", lambda: diagnostics.specificity(aligned, max_components=top, rng=seed)),
        ("compactness", lambda: diagnostics.compactness(aligned)),
        ("advice", lambda: diagnostics.advise_n_components(aligned, n_folds=folds, rng=seed)),
    ]
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(steps, label="measuring", file=sys.stderr, hidden=hidden) as bar:
        found = {name: step() for name, step in bar}
    curves = {name: found[name] for name in ("compactness", "generalization", "specificity")}
    advice = found["advice"]
    record = {name: curve.value[:top] for name, curve in curves.items()} | {
        "n_samples": n,
        "mirrored": mirrored,
        "parallel_analysis": advice.parallel_analysis,
        "cross_validation": advice.cross_validation,
    }
    lines = [
        f"{counted(n, 'shape')}, errors as a fraction of the centroid size",
        "modes  variance  generalisation  specificity",
    ]
    for i in range(top):
        lines.append(
            f"{i + 1:5d}  {100 * curves['compactness'].value[i]:6.1f} %  {curves['generalization'].value[i]:14.5f}  "
            f"{curves['specificity'].value[i]:11.5f}"
        )
    lines.append(
        f"modes the data support: {advice.parallel_analysis} by parallel analysis, "
        f"{advice.cross_validation} by cross-validation"
    )
    if mirrored:
        lines.append(f"mirror images of the rest: {few(mirrored)}")
    if len(shapes) >= 5:
        wrong, names = find_outliers(shapes), data.names
        record["unusual"] = [names[i] for i in np.flatnonzero(wrong.unusual)]
        record["swapped"] = {names[i]: list(pair) for i, pair in wrong.swapped.items()}
        if wrong.unusual.any():
            lines.append(f"unlike the others: {few(record['unusual'])}")
        lines += [f"{name}: landmarks {a} and {b} look exchanged" for name, (a, b) in record["swapped"].items()]
    if picture:
        commands.save_figure(lambda: plot_diagnostics(curves, n_components=top), picture)
        lines.append(f"wrote {picture}")
    commands.say(as_json, record, lines)
