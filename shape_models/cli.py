"""The command ``shape-models``: fit, use, judge and draw shape models without writing Python."""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import __version__
from ._aligned import AlignedASM
from ._alignment import GeneralizedProcrustes
from ._array import DegenerateShapeError
from ._asm import ASM
from ._basis import ShapeBasis
from ._commands import (
    ENTRY_POINTS,
    DataError,
    Group,
    counted,
    json_option,
    output_option,
    progress,
    read,
    say,
    source_options,
)
from ._files import atomic
from ._names import few
from ._procrustes import generalized_procrustes
from .images import image_exists, read_image
from .io import load_model, save_model
from .landmarks import convert as convert_scheme
from .morphometrics import find_outliers

__all__ = ["main"]


class _Main(Group):
    elsewhere = {  # noqa: RUF012
        "train-search": "shape_models.search._cli:train_search",
        "search": "shape_models.search._cli:search",
        "doctor": "shape_models._doctor:doctor",
        "track": "shape_models.search._cli:track_command",
    }
    announced = ENTRY_POINTS


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="shape-models")
def main() -> None:
    """Statistical shape models of landmarks: fit, regularise, complete, judge, draw, convert.

    SOURCE is a landmark file (.pts .asf .tps .ljson .npy .csv .json .xml), a .npz with an array `shapes`, or a folder
    of landmark files, searched with all folders below it (a split.csv or the layout of 300-W is understood; --archive
    names other public sets). MODEL is a file written by `fit`, or the name of a bundled one: face68, and search68 for
    `search`.

    Exit codes: 0 done, 1 the data or a file is at fault (one line says how), 2 the command line is.
    """


# --- Models and landmarks --------------------------------------------------------------------------------


def _model(name: str) -> Any:
    model = load_model(name)
    if not isinstance(model, AlignedASM | ASM | ShapeBasis):
        raise ValueError(
            f"{name}: got a {type(model).__name__}; expected a shape model (AlignedASM, ASM or ShapeBasis)."
        )
    return model


def _basis(model: Any) -> ShapeBasis:
    model = getattr(model, "asm_", model)
    return getattr(model, "basis_", model)


def _names_and_frame(model: Any) -> tuple[Any, str | None]:
    """Return what the landmarks of a model are called and which frame it was fitted in, None where it is not known."""
    scheme = getattr(model, "scheme_", None)
    names = getattr(model, "landmark_names_", None) if scheme is None else scheme.names
    return names, getattr(model, "frame_", None)


def _shapes_for(model: Any, data: Any) -> np.ndarray:
    """Return the landmarks of a set as a model takes them: its number, its order, its direction of y."""
    scheme = getattr(model, "scheme_", None)
    if scheme is not None and data.scheme is not None and scheme.name != data.scheme.name:
        raise ValueError(
            f"got landmarks of {data.scheme.name}; the model has those of {scheme.name}. "
            f"Try `shape-models convert` with --to-scheme {scheme.name}."
        )
    expected, got = tuple(_basis(model).event_shape), data.shapes().shape[1:]
    if expected != got:
        raise ValueError(
            f"got shapes of {got} landmarks and dimensions; the model has {expected}. "
            "Try `shape-models convert` to another scheme."
        )
    return data.like(*_names_and_frame(model))


def _names(data: Any, which: np.ndarray) -> list[str]:
    return [name for name, chosen in zip(data.names, which, strict=True) if chosen]


def _refuse_failed(data: Any, bad: np.ndarray) -> None:
    """End with an error where shapes could not be fitted; the others have been written."""
    if bad.any():
        raise DataError(
            f"{bad.sum()} of {len(bad)} shapes could not be fitted and are missing in the result: "
            f"{few(_names(data, bad))}. Their landmarks coincide, or too few are seen."
        )


@contextmanager
def _by_name(names: Sequence[str]) -> Iterator[None]:
    """Call a shape that is at fault by its name instead of its place."""
    try:
        yield
    except DegenerateShapeError as error:
        text = re.sub(r"\bshapes?\[([0-9]+)\]", lambda match: names[int(match[1])], str(error))
        raise DataError(text.split(" Try ")[0]) from error


def _write(data: Any, path: str, reading: Mapping[str, Any], extension: str | None = None) -> Path:
    from .datasets import save_landmarks

    if data.source and Path(path).exists() and Path(path).resolve() == Path(data.source).resolve():
        raise DataError(f"{path}: is the input and would be replaced. Try another name for the output.")
    if Path(path).suffix.lower() == ".txt" and data.frame in ("y_up", "relative"):
        click.echo(f"{path}: this table has no place for the frame; read it with --frame {data.frame}", err=True)
    return save_landmarks(
        data, path, extension=extension, image_size=reading["image_size"],
        progress=functools.partial(progress, label="writing"),
    )  # fmt: skip


_LANDMARKS = "Folder, or a file .npz, .csv, .tps, .ljson, ..."
_format = click.option("--format", "form", help="Format of the files in a folder. [default: as the frame says]")


# --- Commands --------------------------------------------------------------------------------------------


@main.command(short_help="Fit a model to landmarks.")
@click.argument("source")
@output_option("The model file, .npz.", type=click.Path(dir_okay=False))
@source_options()
@click.option("--n-components", "-n", default="0.98", show_default=True,
              help="Number of modes (12), share of the variance (0.98), or all.")  # fmt: skip
@click.option("--limit", default="3", show_default=True, help="Standard deviations a mode may reach, or none.")
@click.option("--criterion", type=click.Choice(["full", "partial"]), default="full", show_default=True,
              help="Criterion of the superimposition.")  # fmt: skip
@click.option("--keep-size", is_flag=True, help="Superimpose without scaling: size stays in the model.")
@click.option("--symmetric", is_flag=True, help="Give the mean the mirror symmetry of the scheme.")
@click.option("--shrinkage", type=click.Choice(["ledoit_wolf", "oas"]), help="Help for few samples.")
@click.option("--points", type=click.IntRange(min=4), default=64, show_default=True,
              help="Landmarks on each outline, where SOURCE is a folder of masks.")  # fmt: skip
@click.option("--label", type=int, help="Value of the object in masks of several.")
@click.option("--repair", is_flag=True, help="Keep the largest part of a mask and fill its holes.")
@json_option
def fit(source: str, output: str, reading: dict[str, Any], n_components: str, limit: str, criterion: Any,
        keep_size: bool, symmetric: bool, shrinkage: Any, points: int, label: int | None, repair: bool,
        as_json: bool) -> None:  # fmt: skip
    """Fit a shape model to the landmarks of SOURCE and save it.

    A folder of images without landmark files is taken for masks: corresponding points are placed on their outlines.

    For example: fit 300w --split train --scheme ibug68 -o face.npz
    """
    from .contours import holds_masks, landmarks_of_masks

    asm = ASM(_components(n_components), limit=_limit(limit), shrinkage=shrinkage)
    if holds_masks(source):
        data = landmarks_of_masks(source, points, label=label, repair=repair)
    else:
        data = read(source, reading)
    mirror = None
    if symmetric:
        if data.scheme is None or data.scheme.mirror is None:
            raise click.UsageError("--symmetric needs a scheme with a mirror map: try --scheme ibug68.")
        mirror = data.scheme.mirror
    alignment = GeneralizedProcrustes(criterion=criterion, scaling=not keep_size, mirror=mirror)
    start = time.perf_counter()
    with _by_name(data.names):
        model = AlignedASM(asm, alignment=alignment, scheme=data.scheme).fit(data)
    seconds = time.perf_counter() - start
    fitted, shapes = model.asm_, data.shapes()
    missing = int(np.isnan(shapes[..., 0]).sum())
    metadata = {"source": Path(source).name, "split": reading["split"], "missing_landmarks": missing}
    save_model(model, output, metadata=metadata)
    shares = fitted.explained_variance_ratio_
    mirrored = [data.names[i] for i in model.alignment_.mirrored_]
    record = {
        "model": str(output), "n_samples": len(shapes), "n_landmarks": shapes.shape[1],
        "n_dims": shapes.shape[2], "scheme": None if data.scheme is None else data.scheme.name, "frame": data.frame,
        "missing_landmarks": missing, "n_components": fitted.n_components_, "explained_variance_ratio": shares,
        "mirrored": mirrored, "converged": bool(model.alignment_.converged_ and fitted.converged_),
        "seconds": round(seconds, 3),
    }  # fmt: skip
    lines = [
        f"{counted(len(shapes), 'shape')} of {shapes.shape[1]} landmarks in {shapes.shape[2]}-D, "
        f"{missing} missing landmarks; fitted in {seconds:.2f} s",
        f"{counted(fitted.n_components_, 'mode')} with {100 * shares.sum():.1f} % of the variance: "
        + ", ".join(f"{100 * s:.1f}" for s in shares[:6]) + (" ..." if len(shares) > 6 else ""),
    ]  # fmt: skip
    if mirrored:
        lines.append(f"mirror images of the rest, fitted as they are: {few(mirrored)}")
    if not record["converged"]:
        lines.append("the fit did not settle: the numbers may still change")
    say(as_json, record, [*lines, f"saved {output}"])


@main.command(short_help="Move shapes to the nearest plausible ones.")
@click.argument("model")
@click.argument("source")
@output_option(_LANDMARKS)
@_format
@source_options()
@click.option("--loss", type=click.Choice(["linear", "huber", "tukey"]), default="linear", show_default=True,
              help="How landmarks that do not fit count: fully, less, or not at all.")  # fmt: skip
@json_option
def project(model: str, source: str, output: str, form: str | None, reading: dict[str, Any], loss: Any,
            as_json: bool) -> None:  # fmt: skip
    """Move every shape of SOURCE to the nearest plausible shape of MODEL, where it stands.

    Missing landmarks (NaN) are filled in.
    """
    chosen = _model(model)
    data = read(source, reading)
    shapes = _shapes_for(chosen, data)
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
    result = data.with_shapes(data.unlike(near, *_names_and_frame(chosen)))
    path = _write(result, output, reading, form)
    record = {
        "output": str(path), "n_samples": len(near), "mean_moved": mean_moved, "filled_landmarks": n_filled,
        "clipped_shapes": clipped, "judged_shapes": int(whole.sum()),
        "plausibility": None if report is None else report.plausibility, "failed": _names(data, bad),
    }  # fmt: skip
    say(as_json, record, [
        f"{counted(len(near), 'shape')}: landmarks moved by {mean_moved:.3g} on average, {n_filled} filled in",
        f"{clipped} of {whole.sum()} complete shapes had a mode beyond the limit",
        f"wrote {path}",
    ])  # fmt: skip
    _refuse_failed(data, bad)


@main.command(short_help="Fill in missing landmarks.")
@click.argument("model")
@click.argument("source")
@output_option(_LANDMARKS)
@_format
@source_options()
@json_option
def complete(model: str, source: str, output: str, form: str | None, reading: dict[str, Any],
             as_json: bool) -> None:  # fmt: skip
    """Fill the missing landmarks of SOURCE with what MODEL holds most probable; the others stay."""
    chosen = _model(model)
    data = read(source, reading)
    shapes = _shapes_for(chosen, data)
    missing = np.isnan(shapes[..., 0])
    result = chosen.complete(shapes)
    whole = np.asarray(result.shapes)
    bad = np.isnan(whole).any(axis=(1, 2))
    spread = np.sqrt(np.trace(result.covariance, axis1=-2, axis2=-1))[missing & ~bad[:, None]]
    filled = data.with_shapes(data.unlike(whole, *_names_and_frame(chosen)))
    path = _write(filled, output, reading, form)
    typical = float(np.median(spread)) if spread.size else 0.0
    n_filled = int(missing[~bad].sum())
    record = {"output": str(path), "n_samples": len(missing), "filled_landmarks": n_filled,
              "median_standard_deviation": typical, "no_better_than_mean": result.no_better_than_mean,
              "failed": _names(data, bad)}  # fmt: skip
    note = "note: shapes left out of the model were completed no better than by pasting its mean"
    say(as_json, record, [
        f"{counted(n_filled, 'missing landmark')} in {counted(len(missing), 'shape')} filled in; "
        f"expected error {typical:.3g} (median standard deviation)",
        *([note] if result.no_better_than_mean else []),
        f"wrote {path}",
    ])  # fmt: skip
    _refuse_failed(data, bad)


@main.command(short_help="Superimpose shapes.")
@click.argument("source")
@output_option(_LANDMARKS)
@_format
@source_options()
@click.option("--criterion", type=click.Choice(["full", "partial"]), default="full", show_default=True)
@click.option("--keep-size", is_flag=True, help="Do not scale.")
@click.option("--tangent", is_flag=True, help="Project to the tangent plane at the mean.")
@click.option("--reflection", is_flag=True, help="Mirror shapes where that fits better.")
@json_option
def align(source: str, output: str, form: str | None, reading: dict[str, Any], criterion: Any, keep_size: bool,
          tangent: bool, reflection: bool, as_json: bool) -> None:  # fmt: skip
    """Superimpose the shapes of SOURCE (generalised Procrustes analysis).

    The result keeps the way y points in SOURCE; curves move with their shape.
    """
    data = read(source, reading)
    with _by_name(data.names):
        result = generalized_procrustes(
            data.lengths(), criterion=criterion, scaling=not keep_size, tangent=tangent, reflection=reflection
        )
    curves = [[result.transforms[i](curve) for curve in own] for i, own in enumerate(data.curves)]
    aligned = data.with_shapes(result.aligned, curves=curves if any(curves) else None, box=None)
    # An aligned shape has no image: where y is to count from the bottom it counts from 0.
    path = _write(aligned, output, {**reading, "image_size": (1, 1)}, form)
    mirrored = [data.names[i] for i in result.mirrored]
    farthest = np.argsort(result.distances)[::-1][:3]
    record = {
        "output": str(path), "n_samples": len(data), "disparity": result.disparity, "n_iter": result.n_iter,
        "converged": result.converged, "mirrored": mirrored, "mean": result.mean, "frame": data.frame,
        "farthest": [data.names[i] for i in farthest],
    }  # fmt: skip
    lines = [
        f"{counted(len(data), 'shape')} of {result.mean.shape[0]} landmarks in {result.mean.shape[1]}-D; "
        f"disparity {result.disparity:.4g}, {counted(result.n_iter, 'pass', 'passes')}"
        + ("" if result.converged else ", not settled"),
        "farthest from the mean: " + ", ".join(f"{data.names[i]} ({result.distances[i]:.3g})" for i in farthest),
    ]  # fmt: skip
    if mirrored:
        lines.append(f"{'mirrored' if reflection else 'mirror images of the rest, left as they are'}: {few(mirrored)}")
    say(as_json, record, [*lines, f"wrote {path}"])


@main.command(short_help="Describe a model, or landmarks.")
@click.argument("path")
@source_options()
@json_option
def info(path: str, reading: dict[str, Any], as_json: bool) -> None:
    """Describe a model, or landmarks."""
    if not Path(path).exists() or Path(path).suffix == ".npz":
        try:
            say(as_json, *_about_model(path, load_model(path)))
            return
        except FileNotFoundError:
            raise ValueError(f"{path}: got no such file, folder or bundled model.") from None
        except ValueError:
            if not _holds_shapes(path):
                raise
    data = read(path, reading)
    shapes = data.shapes()
    n, k, d = shapes.shape
    missing = np.isnan(shapes[..., 0])
    record = {
        "n_samples": n, "n_landmarks": k, "n_dims": d, "frame": data.frame,
        "scheme": None if data.scheme is None else data.scheme.name,
        "landmark_names": None if data.labels is None else list(data.labels), "missing_landmarks": int(missing.sum()),
        "incomplete_shapes": int(missing.any(axis=1).sum()), "names": data.names if as_json else few(data.names),
        "images": sum(map(image_exists, data.images)),
        "groups": len(set(data.groups)),
    }  # fmt: skip
    if data.frame != "relative":
        centred = shapes - np.nanmean(shapes, axis=1, keepdims=True)
        record["median_centroid_size"] = float(np.median(np.sqrt(np.nansum(centred**2, axis=(1, 2)))))
    say(as_json, record, _table(record, 22))


def _about_model(path: str, model: Any) -> tuple[dict[str, Any], list[str]]:
    record: dict[str, Any] = {"kind": type(model).__name__}
    if isinstance(model, AlignedASM | ASM | ShapeBasis):
        basis, asm = _basis(model), getattr(model, "asm_", model)
        scheme = getattr(model, "scheme_", None)
        names = getattr(model, "landmark_names_", None)
        record |= {
            "n_landmarks": basis.event_shape[0], "n_dims": basis.event_shape[-1],
            "scheme": None if scheme is None else scheme.name, "frame": getattr(model, "frame_", None),
            "landmark_names": None if names is None or scheme is not None else list(names),
            "n_components": basis.n_components, "limit": repr(basis.limit), "noise_variance": basis.noise_variance,
            "variances": np.asarray(basis.variances),
        }  # fmt: skip
        if isinstance(asm, ASM):
            record |= {"n_samples": asm.n_samples_, "explained_variance_ratio": asm.explained_variance_ratio_}
    fitter = getattr(model, "fitter_", model)
    if hasattr(fitter, "evidence_"):
        shape, box = _about_model(path, fitter.asm_)[0], fitter.box_
        record |= {
            name: shape[name]
            for name in ("n_landmarks", "scheme", "frame", "landmark_names", "n_components", "limit")
        }  # fmt: skip
        record |= {
            "evidence": repr(fitter.evidence_), "resolutions": [round(r, 1) for r in fitter.resolutions_],
            "box": f"side {box.side:.3f}, centre {box.center[0]:+.3f} {box.center[1]:+.3f} of the given side",
            "detects_faces": fitter.detection_ is not None,
        }  # fmt: skip
    return record, _table(record, 26)


def _table(record: Mapping[str, Any], width: int) -> list[str]:
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


@main.command(short_help="Say how good a model of landmarks is.")
@click.argument("source")
@source_options()
@click.option("--n-components", "-n", type=click.IntRange(1), default=10, show_default=True, help="Most modes to try.")
@click.option("--folds", type=click.IntRange(2), default=10, show_default=True, help="Folds of the cross-validation.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False), help="Write the curves to this picture.")
@click.option("--seed", default=0, show_default=True)
@json_option
def diagnose(source: str, reading: dict[str, Any], n_components: int, folds: int, picture: str | None, seed: int,
             as_json: bool) -> None:  # fmt: skip
    """Say how good a model of SOURCE is: compactness, generalisation, specificity, how many modes; name outliers."""
    from . import _diagnostics as diagnostics

    data = read(source, reading)
    shapes = data.lengths()
    missing = np.isnan(shapes[..., 0]).any(axis=1)
    if missing.any():
        click.echo(f"leaving out {counted(int(missing.sum()), 'incomplete shape')}", err=True)
    with _by_name(_names(data, ~missing)):
        aligned = generalized_procrustes(shapes[~missing]).aligned
    n, folds = len(aligned), min(folds, len(aligned))
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
        "n_samples": n, "parallel_analysis": advice.parallel_analysis, "cross_validation": advice.cross_validation,
    }  # fmt: skip
    lines = [
        f"{counted(n, 'shape')}, errors as a share of the centroid size",
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
    if len(shapes) >= 5:
        wrong, names = find_outliers(shapes), data.names
        record["unusual"] = [names[i] for i in np.flatnonzero(wrong.unusual)]
        record["swapped"] = {names[i]: list(pair) for i, pair in wrong.swapped.items()}
        if wrong.unusual.any():
            lines.append(f"unlike the others: {few(record['unusual'])}")
        lines += [f"{name}: landmarks {a} and {b} look exchanged" for name, (a, b) in record["swapped"].items()]
    if picture:
        from .plotting import plot_diagnostics

        _save(plot_diagnostics(curves, n_components=top), picture)
        lines.append(f"wrote {picture}")
    say(as_json, record, lines)


@main.command(short_help="Convert landmark formats and schemes.")
@click.argument("source")
@click.argument("target", required=False)
@output_option("The same as TARGET.", required=False)
@_format
@source_options()
@click.option("--to-scheme", help="Convert the landmarks from --scheme to this one.")
@json_option
def convert(source: str, target: str | None, output: str | None, form: str | None, reading: dict[str, Any],
            to_scheme: str | None, as_json: bool) -> None:  # fmt: skip
    """Convert landmark files from one format to another, and from one scheme to another.

    TARGET is a folder (one file for each shape, in folders as in SOURCE) or a file; the extension says the format.
    Identifiers, images, scales, curves, groups and other attributes are kept where the format has a place for them.
    """
    if (target is None) == (output is None):
        raise click.UsageError("expected TARGET, or the same as --output.")
    data = read(source, reading)
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
    say(as_json, record, [*lines, f"wrote {counted(len(data), 'shape')} to {path}"])


@main.group()
def plot() -> None:
    """Draw a model or shapes into a picture (.png, .svg, .pdf)."""


_picture = output_option("The picture.", type=click.Path(dir_okay=False))
_y_up = click.option("--y-up/--y-down", default=None, help="Which way y points. [default: as the landmarks came]")


def _save(ax: Any, path: str) -> None:
    target = Path(path)
    if target.suffix.lower().lstrip(".") not in ax.figure.canvas.get_supported_filetypes():
        raise ValueError(f"{path}: got the extension {target.suffix!r}; expected .png, .svg or .pdf.")
    with atomic(target) as temporary:
        ax.figure.savefig(temporary, dpi=150)


def _headless() -> None:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'shape-models[plot]'") from error
    matplotlib.use("Agg")


@plot.command("modes")
@click.argument("model")
@_picture
@click.option("--n-modes", "-n", type=click.IntRange(1), default=5, show_default=True)
@click.option("--scheme", help="Scheme whose edges are drawn; that of the model by default.")
@_y_up
@json_option
def plot_modes_command(
    model: str, output: str, n_modes: int, scheme: str | None, y_up: bool | None, as_json: bool
) -> None:
    """Draw the strip of the first modes, from -3 to +3 standard deviations."""
    _headless()
    from .plotting import plot_modes

    chosen = _model(model)
    _save(plot_modes(chosen, n_modes=n_modes, scheme=scheme, y_down=None if y_up is None else not y_up), output)
    say(as_json, {"output": output}, [f"wrote {output}"])


@plot.command("spectrum")
@click.argument("model")
@_picture
@json_option
def plot_spectrum_command(model: str, output: str, as_json: bool) -> None:
    """Draw the share of variance of each mode."""
    _headless()
    from .plotting import plot_spectrum

    _save(plot_spectrum(_model(model)), output)
    say(as_json, {"output": output}, [f"wrote {output}"])


@plot.command("clip")
@click.argument("model")
@click.argument("source")
@_picture
@source_options()
@click.option("--index", type=click.IntRange(0), default=0, show_default=True, help="Which shape of SOURCE.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False), help="Photograph; the one beside by default.")
@json_option
def plot_clip_command(model: str, source: str, output: str, reading: dict[str, Any], index: int, image: str | None,
                      as_json: bool) -> None:  # fmt: skip
    """Draw a shape before and after the projection, on its photograph."""
    _headless()
    from .plotting import plot_clip

    chosen = _model(model)
    data = read(source, reading)
    if index >= len(data):
        raise click.UsageError(f"--index {index}: SOURCE has {counted(len(data), 'shape')}.")
    shape = _shapes_for(chosen, data)[index]
    photograph = image or data.images[index]
    pixels = None
    if photograph is not None and image_exists(photograph) and data.frame == "pixels":
        pixels = read_image(photograph)
    down = (data.frame if getattr(chosen, "frame_", None) in (None, "physical") else chosen.frame_) != "y_up"
    ax = plot_clip(chosen, shape, image=pixels, scheme=data.scheme, y_down=down)
    ax.set_title(data.names[index], fontsize=9)
    _save(ax, output)
    say(as_json, {"output": output, "name": data.names[index]}, [f"wrote {output}"])


@plot.command("shapes")
@click.argument("source")
@_picture
@source_options()
@click.option("--align/--no-align", "aligned", default=True, show_default=True, help="Superimpose them first.")
@_y_up
@json_option
def plot_shapes_command(source: str, output: str, reading: dict[str, Any], aligned: bool, y_up: bool | None,
                        as_json: bool) -> None:  # fmt: skip
    """Draw all shapes of SOURCE over one another."""
    _headless()
    from .plotting import GREY, plot_shape

    data = read(source, reading)
    down = data.frame != "y_up" if y_up is None else not y_up
    if not aligned:
        _save(plot_shape(data.shapes(), size=3, y_down=down), output)
    else:
        with _by_name(data.names):
            result = generalized_procrustes(data.lengths())
        ax = plot_shape(result.aligned, size=2, color=GREY, y_down=down)
        _save(plot_shape(result.mean, ax, scheme=data.scheme, size=10, y_down=down), output)
    say(as_json, {"output": output, "n_samples": len(data)}, [f"wrote {output}"])


@main.command(short_help="Write a page with sliders.")
@click.argument("model")
@output_option("The page, .html.", type=click.Path(dir_okay=False))
@click.option("--n-modes", "-n", type=click.IntRange(1), default=12, show_default=True)
@click.option("--scheme", help="Scheme whose names and edges are used; that of the model by default.")
@click.option("--edges", metavar="I-J,...", help="Lines to draw instead, such as 0-1,1-2,2-0.")
@_y_up
@click.option("--title", help="Heading; the name of the model by default.")
@json_option
def explore(model: str, output: str, n_modes: int, scheme: str | None, edges: str | None, y_up: bool | None,
            title: str | None, as_json: bool) -> None:  # fmt: skip
    """Write a page with a slider for each mode and landmarks that can be dragged."""
    from .explorer import write_explorer

    chosen = load_model(model)
    page = write_explorer(
        chosen, output, title=title or Path(model).stem, scheme=scheme,
        edges=None if edges is None else _pairs(edges), n_modes=n_modes, y_up=y_up,
    )  # fmt: skip
    say(as_json, {"output": str(page)}, [f"wrote {page}"])


def _pairs(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(i), int(j)) for i, j in (pair.split("-") for pair in text.split(","))]
    except ValueError:
        raise click.UsageError(f"--edges {text}: expected pairs of landmarks, such as 0-1,1-2.") from None


@main.command(short_help="Repair corrupted faces, with pictures.")
@output_option("Folder of the pictures.", required=False, default="out", show_default=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False), envvar="SHAPE_MODELS_DATA",
              help="Folder of real data; SHAPE_MODELS_DATA by default.")  # fmt: skip
@json_option
def demo(output: str, data: str | None, as_json: bool) -> None:
    """Corrupt real faces, repair them with the bundled model, and say what it gained."""
    _headless()
    from ._demo import run

    lines = []
    for line in run(Path(output), None if data is None else Path(data)):
        lines.append(line)
        if not as_json:
            click.echo(line)
    if as_json:
        say(True, {"output": output, "lines": lines}, [])


def _components(text: str) -> int | float | None:
    if text == "all":
        return None
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise click.BadParameter(f"got {text!r}; expected a count, a share between 0 and 1, or all.", param_hint="-n")
    return share


def _limit(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"got {text!r}; expected a number or none.", param_hint="--limit") from None


if __name__ == "__main__":
    main()
