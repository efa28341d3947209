"""The command ``shape-models``: fit, use, judge and draw shape models without writing Python."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import __version__
from ._aligned import AlignedASM
from ._asm import ASM
from ._basis import ShapeBasis
from ._files import atomic
from ._procrustes import GeneralizedProcrustes, generalized_procrustes
from .formats import LandmarkFile, read_landmarks, write_landmarks
from .io import load_model, save_model
from .landmarks import convert as convert_scheme
from .landmarks import get_scheme

__all__ = ["main"]

# Commands of other parts of the library: name -> "module:object", imported when asked for, listed where the module is.
_ELSEWHERE = {
    "train-search": "shape_models.search._cli:train_search",
    "search": "shape_models.search._cli:search",
}


class _Group(click.Group):
    """A group that knows commands of other modules, and turns errors of the library into one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(name for name in _ELSEWHERE if self.get_command(ctx, name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        try:
            if find_spec(module) is None:
                return None
        except ModuleNotFoundError:
            return None
        return getattr(import_module(module), name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="shape-models")
def main() -> None:
    """Statistical shape models of landmarks: fit, regularise, complete, judge, draw, convert.

    SOURCE is a folder of .pts, .asf or .tps files (searched with all folders below it; a split.csv or the layout of
    300-W is understood), a .npz with an array `shapes`, or one landmark file (.pts .asf .tps .ljson .npy .csv .json
    .xml). MODEL is a file written by `fit`, or the name of a bundled one: face68, and search68
    for `search`.

    Exit codes: 0 done, 1 the data or a file is at fault (one line says how), 2 the command line is.
    """


# --- Input and output ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Set:
    shapes: np.ndarray
    names: list[str]
    scheme: Any
    frame: str
    images: list[Path | None]


def _source_options(command: Any) -> Any:
    for option in (
        click.option("--origin", type=click.IntRange(0, 1), default=1, show_default=True,
                     help="Number of the first pixel in .pts files."),
        click.option("--scheme", help="Landmark scheme: ibug68, wflw98, cofw29, imm58, muct68, ..."),
        click.option("--split", help="Part of a set that has parts: train, val, test, ..."),
    ):  # fmt: skip
        command = option(command)
    return command


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _read(source: str, *, split: str | None = None, scheme: str | None = None, origin: int = 1) -> _Set:
    """Read landmarks from any source, with a progress bar where there are many files."""
    from .datasets import read_300w, read_landmark_arrays

    path = Path(source)
    known = None if scheme is None else get_scheme(scheme)
    if not path.exists():
        raise ValueError(f"{path}: got no such file or folder.")
    if path.is_dir() and (split is not None or (path / "split.csv").is_file()):
        return _from_samples(read_300w(path, split), known, path)
    if split is not None:
        raise ValueError(f"{path}: got --split for one file; expected a folder with split.csv or the layout of 300-W.")
    if path.suffix.lower() == ".npz":
        return _from_samples(read_landmark_arrays(path, scheme=known), known, path)
    if path.is_dir():
        points = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".pts" and not p.name.startswith("."))
        if points:
            files = [f for p in _progress(points, "reading") for f in _listed(read_landmarks(p, origin=origin))]
        else:
            files = _listed(read_landmarks(path))
    else:
        options: dict[str, Any] = {"origin": origin} if path.suffix.lower() == ".pts" else {}
        files = _listed(read_landmarks(path, **options))
    if not files:
        raise ValueError(f"{path}: got no landmarks.")
    frames = {file.frame for file in files}
    if len(frames) > 1:
        raise ValueError(f"{path}: got landmarks in the frames {', '.join(sorted(frames))}; expected one frame.")
    names = [_name(file, i, len(files), path) for i, file in enumerate(files)]
    images = [_beside(file) for file in files]
    return _Set(
        _stacked([f.points for f in files], names, known), names, known or files[0].scheme, frames.pop(), images
    )


def _from_samples(samples: Any, known: Any, root: Path) -> _Set:
    if known is not None and samples.scheme is not None and known.name != samples.scheme.name:
        raise ValueError(f"{root}: got --scheme {known.name}; this set is in {samples.scheme.name}.")
    names, shapes = [], []
    for i, sample in enumerate(_progress(samples, "reading")):
        name = sample.image.stem if sample.image is not None else f"{i:05d}"
        names.append(name)
        shapes.append(sample.landmarks)
    if not shapes:
        raise ValueError(f"{root}: got no landmarks.")
    if len(set(names)) < len(names):
        names = [f"{i:05d}_{name}" for i, name in enumerate(names)]
    images = samples.images
    frame = "pixels" if any(image is not None for image in images) else "physical"
    return _Set(_stacked(shapes, names, known), names, known or samples.scheme, frame, images)


def _stacked(shapes: Sequence[np.ndarray], names: Sequence[str], scheme: Any) -> np.ndarray:
    first = np.shape(shapes[0])
    for shape, name in zip(shapes, names, strict=True):
        if np.shape(shape) != first:
            raise ValueError(
                f"{name}: got landmarks of shape {np.shape(shape)}, but {names[0]} has {first}; expected the same "
                "number in all. Try converting them to one scheme first."
            )
    if scheme is not None and scheme.n_landmarks != first[0]:
        raise ValueError(f"got {first[0]} landmarks; expected {scheme.n_landmarks}, those of {scheme.name}.")
    return np.stack([np.asarray(shape, dtype=np.float64) for shape in shapes])


def _listed(files: Any) -> list[LandmarkFile]:
    return files if isinstance(files, list) else [files]


def _name(file: LandmarkFile, index: int, count: int, root: Path) -> str:
    if count > 1 and (file.path is None or file.path == root):
        stem = Path(file.image_name.replace("\\", "/")).stem if file.image_name else "shape"
        return f"{index:05d}_{stem}"
    if file.path is None:
        return f"{index:05d}"
    inside = file.path.relative_to(root) if root.is_dir() else Path(file.path.name)
    return "_".join((*inside.parts[:-1], inside.stem))


def _beside(file: LandmarkFile) -> Path | None:
    if file.path is None:
        return None
    named = [file.path.parent / file.image_name] if file.image_name else []
    for candidate in [*named, *(file.path.with_suffix(s) for s in (".jpg", ".png", ".jpeg", ".bmp"))]:
        if candidate.is_file():
            return candidate
    return None


def _write(path: str, shapes: np.ndarray, data: _Set, scheme: Any = None) -> Path:
    """Write shapes to .npz, to one file that holds several, or to a folder of .pts."""
    target = Path(path)
    scheme = scheme or data.scheme
    suffix = target.suffix.lower()
    if suffix == ".npz":
        with atomic(target) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, shapes=shapes, names=np.array(data.names))
        return target
    if suffix == ".npy":
        with atomic(target) as temporary, temporary.open("wb") as stream:
            np.save(stream, shapes if len(shapes) > 1 else shapes[0], allow_pickle=False)
        return target
    fits = scheme is not None and scheme.n_landmarks == shapes.shape[1]
    records = [
        LandmarkFile(
            shape, scheme=scheme if fits else None, image_name=image.name if image else f"{name}.jpg", frame=data.frame
        )
        for shape, name, image in zip(shapes, data.names, data.images, strict=True)
    ]
    if suffix:
        size = _common_size(data.images) if suffix in (".tps", ".asf") and data.frame == "pixels" else None
        options = {} if size is None else {"image_size": size}
        write_landmarks(target, records if len(records) > 1 else records[0], **options)
        return target
    target.mkdir(parents=True, exist_ok=True)
    for record, name in _progress(list(zip(records, data.names, strict=True)), "writing"):
        write_landmarks(target / f"{name}.pts", record.points)
    return target


def _common_size(images: Sequence[Path | None]) -> tuple[int, int] | None:
    """Return the size of the photographs when all are there and alike."""
    from .formats._record import Source, size_of_image

    paths = [image for image in images if image is not None]
    if len(paths) < len(images):
        return None
    sizes = {size_of_image(Source(path, text=""), path.name, None) for path in paths}
    return sizes.pop() if len(sizes) == 1 else None


def _progress(items: Any, label: str) -> Any:
    if len(items) < 200:
        yield from items
        return
    with click.progressbar(items, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def _say(as_json: bool, record: dict[str, Any], lines: Sequence[str]) -> None:
    click.echo(json.dumps(record, default=_plain) if as_json else "\n".join(lines))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


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


def _fitting(model: Any, data: _Set) -> None:
    expected, got = _basis(model).event_shape, data.shapes.shape[1:]
    if tuple(expected) != tuple(got):
        raise ValueError(
            f"got shapes of {got} landmarks and dimensions; the model has {tuple(expected)}. "
            "Try `shape-models convert` to another scheme."
        )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# --- Commands --------------------------------------------------------------------------------------------


@main.command(short_help="Fit a model to landmarks.")
@click.argument("source")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="The model file, .npz.")
@_source_options
@click.option("--n-components", "-n", default="0.98", show_default=True,
              help="Number of modes (12), share of the variance (0.98), or all.")  # fmt: skip
@click.option("--limit", default="3", show_default=True, help="Standard deviations a mode may reach, or none.")
@click.option("--criterion", type=click.Choice(["full", "partial"]), default="full", show_default=True,
              help="Criterion of the superimposition.")  # fmt: skip
@click.option("--keep-size", is_flag=True, help="Superimpose without scaling: size stays in the model.")
@click.option("--symmetric", is_flag=True, help="Give the mean the mirror symmetry of the scheme.")
@click.option("--shrinkage", type=click.Choice(["ledoit_wolf", "oas"]), help="Help for few samples.")
@_json_option
def fit(source: str, output: str, split: str | None, scheme: str | None, origin: int, n_components: str, limit: str,
        criterion: Any, keep_size: bool, symmetric: bool, shrinkage: Any, as_json: bool) -> None:  # fmt: skip
    """Fit a shape model to the landmarks of SOURCE and save it.

    For example: fit 300w --split train --scheme ibug68 -o face.npz
    """
    asm = ASM(_components(n_components), limit=_limit(limit), shrinkage=shrinkage)
    data = _read(source, split=split, scheme=scheme, origin=origin)
    mirror = None
    if symmetric:
        if data.scheme is None or data.scheme.mirror is None:
            raise click.UsageError("--symmetric needs a scheme with a mirror map: try --scheme ibug68.")
        mirror = data.scheme.mirror
    alignment = GeneralizedProcrustes(criterion=criterion, scaling=not keep_size, mirror=mirror)
    start = time.perf_counter()
    model = AlignedASM(asm, alignment=alignment, scheme=data.scheme).fit(data.shapes)
    seconds = time.perf_counter() - start
    fitted = model.asm_
    missing = int(np.isnan(data.shapes[..., 0]).sum())
    save_model(model, output, metadata={"source": Path(source).name, "split": split, "missing_landmarks": missing})
    shares = fitted.explained_variance_ratio_
    mirrored = [data.names[i] for i in model.alignment_.mirrored_]
    record = {
        "model": str(output), "n_samples": len(data.shapes), "n_landmarks": data.shapes.shape[1],
        "n_dims": data.shapes.shape[2], "scheme": None if data.scheme is None else data.scheme.name,
        "missing_landmarks": missing, "n_components": fitted.n_components_, "explained_variance_ratio": shares,
        "mirrored": mirrored, "converged": bool(model.alignment_.converged_ and fitted.converged_),
        "seconds": round(seconds, 3),
    }  # fmt: skip
    lines = [
        f"{_counted(len(data.shapes), 'shape')} of {data.shapes.shape[1]} landmarks in {data.shapes.shape[2]}-D, "
        f"{missing} missing landmarks; fitted in {seconds:.2f} s",
        f"{_counted(fitted.n_components_, 'mode')} with {100 * shares.sum():.1f} % of the variance: "
        + ", ".join(f"{100 * s:.1f}" for s in shares[:6]) + (" ..." if len(shares) > 6 else ""),
    ]  # fmt: skip
    if mirrored:
        lines.append(f"mirror images of the rest, fitted as they are: {_few(mirrored)}")
    if not record["converged"]:
        lines.append("the fit did not settle: the numbers may still change")
    _say(as_json, record, [*lines, f"saved {output}"])


@main.command(short_help="Move shapes to the nearest plausible ones.")
@click.argument("model")
@click.argument("source")
@click.option("--output", "-o", required=True, help="Folder of .pts, or a file .npz, .csv, .tps, .ljson, ...")
@_source_options
@click.option("--loss", type=click.Choice(["linear", "huber", "tukey"]), default="linear", show_default=True,
              help="How landmarks that do not fit count: fully, less, or not at all.")  # fmt: skip
@_json_option
def project(model: str, source: str, output: str, split: str | None, scheme: str | None, origin: int, loss: Any,
            as_json: bool) -> None:  # fmt: skip
    """Move every shape of SOURCE to the nearest plausible shape of MODEL, where it stands.

    Missing landmarks (NaN) are filled in.
    """
    chosen = _model(model)
    data = _read(source, split=split, scheme=scheme, origin=origin)
    _fitting(chosen, data)
    if loss != "linear":
        if not isinstance(chosen, AlignedASM):
            raise click.UsageError(f"--loss {loss} needs an AlignedASM; {model} is a {type(chosen).__name__}.")
        chosen.set_params(loss=loss)
    missing = np.isnan(data.shapes[..., 0])
    if missing.any() and not isinstance(chosen, AlignedASM):
        near = chosen.project(np.where(missing[..., None], 0.0, data.shapes), confidence=~missing)
    else:
        near = chosen.project(data.shapes)
    moved = np.linalg.norm(near - data.shapes, axis=2)
    mean_moved = float(np.nanmean(moved)) if not missing.all() else 0.0
    whole = ~missing.any(axis=1)
    report = chosen.report(data.shapes[whole]) if whole.any() else None
    clipped = int(np.any(report.clipped, axis=1).sum()) if report is not None else 0
    path = _write(output, near, data)
    record = {
        "output": str(path), "n_samples": len(near), "mean_moved": mean_moved, "filled_landmarks": int(missing.sum()),
        "clipped_shapes": clipped, "judged_shapes": int(whole.sum()),
        "plausibility": None if report is None else report.plausibility,
    }  # fmt: skip
    _say(as_json, record, [
        f"{_counted(len(near), 'shape')}: landmarks moved by {mean_moved:.3g} on average, {missing.sum()} filled in",
        f"{clipped} of {whole.sum()} complete shapes had a mode beyond the limit",
        f"wrote {path}",
    ])  # fmt: skip


@main.command(short_help="Fill in missing landmarks.")
@click.argument("model")
@click.argument("source")
@click.option("--output", "-o", required=True, help="Folder of .pts, or a file .npz, .csv, .tps, .ljson, ...")
@_source_options
@_json_option
def complete(model: str, source: str, output: str, split: str | None, scheme: str | None, origin: int,
             as_json: bool) -> None:  # fmt: skip
    """Fill the missing landmarks of SOURCE with what MODEL holds most probable; the others stay."""
    chosen = _model(model)
    data = _read(source, split=split, scheme=scheme, origin=origin)
    _fitting(chosen, data)
    missing = np.isnan(data.shapes[..., 0])
    result = chosen.complete(data.shapes)
    spread = np.sqrt(np.trace(result.covariance, axis1=-2, axis2=-1))[missing]
    path = _write(output, np.asarray(result.shapes), data)
    typical = float(np.median(spread)) if spread.size else 0.0
    record = {"output": str(path), "n_samples": len(missing), "filled_landmarks": int(missing.sum()),
              "median_standard_deviation": typical}  # fmt: skip
    _say(as_json, record, [
        f"{_counted(int(missing.sum()), 'missing landmark')} in {_counted(len(missing), 'shape')} filled in; "
        f"expected error {typical:.3g} (median standard deviation)",
        f"wrote {path}",
    ])  # fmt: skip


@main.command(short_help="Superimpose shapes.")
@click.argument("source")
@click.option("--output", "-o", required=True, help="Folder of .pts, or a file .npz, .csv, ...")
@_source_options
@click.option("--criterion", type=click.Choice(["full", "partial"]), default="full", show_default=True)
@click.option("--keep-size", is_flag=True, help="Do not scale.")
@click.option("--tangent", is_flag=True, help="Project to the tangent plane at the mean.")
@click.option("--reflection", is_flag=True, help="Mirror shapes where that fits better.")
@_json_option
def align(source: str, output: str, split: str | None, scheme: str | None, origin: int, criterion: Any,
          keep_size: bool, tangent: bool, reflection: bool, as_json: bool) -> None:  # fmt: skip
    """Superimpose the shapes of SOURCE (generalised Procrustes analysis)."""
    data = _read(source, split=split, scheme=scheme, origin=origin)
    result = generalized_procrustes(
        data.shapes, criterion=criterion, scaling=not keep_size, tangent=tangent, reflection=reflection
    )
    path = _write(output, result.aligned, _Set(data.shapes, data.names, data.scheme, "physical", data.images))
    mirrored = [data.names[i] for i in result.mirrored]
    farthest = np.argsort(result.distances)[::-1][:3]
    record = {
        "output": str(path), "n_samples": len(data.shapes), "disparity": result.disparity, "n_iter": result.n_iter,
        "converged": result.converged, "mirrored": mirrored, "mean": result.mean,
        "farthest": [data.names[i] for i in farthest],
    }  # fmt: skip
    lines = [
        f"{_counted(len(data.shapes), 'shape')} of {data.shapes.shape[1]} landmarks in {data.shapes.shape[2]}-D; "
        f"disparity {result.disparity:.4g}, {_counted(result.n_iter, 'pass')[: -1 if result.n_iter > 1 else None]}"
        + ("es" if result.n_iter > 1 else "") + ("" if result.converged else ", not settled"),
        "farthest from the mean: " + ", ".join(f"{data.names[i]} ({result.distances[i]:.3g})" for i in farthest),
    ]  # fmt: skip
    if mirrored:
        lines.append(f"{'mirrored' if reflection else 'mirror images of the rest, left as they are'}: {_few(mirrored)}")
    _say(as_json, record, [*lines, f"wrote {path}"])


@main.command(short_help="Describe a model, or landmarks.")
@click.argument("path")
@_source_options
@_json_option
def info(path: str, split: str | None, scheme: str | None, origin: int, as_json: bool) -> None:
    """Describe a model, or landmarks."""
    if not Path(path).exists() or Path(path).suffix == ".npz":
        try:
            _say(as_json, *_about_model(path, load_model(path)))
            return
        except FileNotFoundError:
            raise ValueError(f"{path}: got no such file, folder or bundled model.") from None
        except ValueError:
            if not _holds_shapes(path):
                raise
    data = _read(path, split=split, scheme=scheme, origin=origin)
    n, k, d = data.shapes.shape
    missing = np.isnan(data.shapes[..., 0])
    size = np.sqrt(np.nansum((data.shapes - np.nanmean(data.shapes, axis=1, keepdims=True)) ** 2, axis=(1, 2)))
    record = {
        "n_samples": n, "n_landmarks": k, "n_dims": d, "frame": data.frame,
        "scheme": None if data.scheme is None else data.scheme.name, "missing_landmarks": int(missing.sum()),
        "incomplete_shapes": int(missing.any(axis=1).sum()), "median_centroid_size": float(np.median(size)),
        "images": sum(image is not None for image in data.images),
    }  # fmt: skip
    _say(as_json, record, [f"{key.replace('_', ' '):22s}{value}" for key, value in record.items()])


def _about_model(path: str, model: Any) -> tuple[dict[str, Any], list[str]]:
    record: dict[str, Any] = {"kind": type(model).__name__}
    if isinstance(model, AlignedASM | ASM | ShapeBasis):
        basis, asm = _basis(model), getattr(model, "asm_", model)
        scheme = getattr(model, "scheme_", None)
        record |= {
            "n_landmarks": basis.event_shape[0], "n_dims": basis.event_shape[-1],
            "scheme": None if scheme is None else scheme.name, "n_components": basis.n_components,
            "limit": repr(basis.limit), "noise_variance": basis.noise_variance,
            "variances": np.asarray(basis.variances),
        }  # fmt: skip
        if isinstance(asm, ASM):
            record |= {"n_samples": asm.n_samples_, "explained_variance_ratio": asm.explained_variance_ratio_}
    fitter = getattr(model, "fitter_", model)
    if hasattr(fitter, "evidence_"):
        shape, box = _about_model(path, fitter.asm_)[0], fitter.box_
        record |= {name: shape[name] for name in ("n_landmarks", "scheme", "n_components", "limit")}
        record |= {
            "evidence": repr(fitter.evidence_), "resolutions": [round(r, 1) for r in fitter.resolutions_],
            "box": f"side {box['side']:.3f}, centre {box['center'][0]:+.3f} {box['center'][1]:+.3f} of the given side",
            "detects_faces": fitter.detection_ is not None,
        }  # fmt: skip
    lines = [f"{key.replace('_', ' '):26s}{_short(value)}" for key, value in record.items()]
    return record, lines


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        head = ", ".join(f"{v:.4g}" for v in value[:6])
        return f"{head}, ... ({len(value)})" if len(value) > 6 else head
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _holds_shapes(path: str) -> bool:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "shapes" in archive.files
    except (OSError, ValueError):
        return False


@main.command(short_help="Say how good a model of landmarks is.")
@click.argument("source")
@_source_options
@click.option("--n-components", "-n", type=click.IntRange(1), default=10, show_default=True, help="Most modes to try.")
@click.option("--folds", type=click.IntRange(2), default=10, show_default=True, help="Folds of the cross-validation.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False), help="Write the curves to this picture.")
@click.option("--seed", default=0, show_default=True)
@_json_option
def diagnose(source: str, split: str | None, scheme: str | None, origin: int, n_components: int, folds: int,
             picture: str | None, seed: int, as_json: bool) -> None:  # fmt: skip
    """Say how good a model of SOURCE is: compactness, generalisation, specificity, how many modes."""
    from . import _diagnostics as diagnostics

    data = _read(source, split=split, scheme=scheme, origin=origin)
    missing = np.isnan(data.shapes[..., 0]).any(axis=1)
    if missing.any():
        click.echo(f"leaving out {_counted(int(missing.sum()), 'incomplete shape')}", err=True)
    aligned = generalized_procrustes(data.shapes[~missing]).aligned
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
        f"{_counted(n, 'shape')}, errors as a share of the centroid size",
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
    if picture:
        from .plotting import plot_diagnostics

        _save(plot_diagnostics(curves, n_components=top), picture)
        lines.append(f"wrote {picture}")
    _say(as_json, record, lines)


@main.command(short_help="Convert landmark formats and schemes.")
@click.argument("source")
@click.argument("target")
@_source_options
@click.option("--to-scheme", help="Convert the landmarks from --scheme to this one.")
@_json_option
def convert(source: str, target: str, split: str | None, scheme: str | None, origin: int, to_scheme: str | None,
            as_json: bool) -> None:  # fmt: skip
    """Convert landmark files from one format to another, and from one scheme to another.

    TARGET is a folder (of .pts) or a file; the extension says the format.
    """
    data = _read(source, split=split, scheme=scheme, origin=origin)
    shapes, wanted, lines = data.shapes, data.scheme, []
    record: dict[str, Any] = {"n_samples": len(shapes)}
    if to_scheme is not None:
        if data.scheme is None:
            raise click.UsageError("--to-scheme needs --scheme: the number of landmarks alone does not say which.")
        result = convert_scheme(shapes, data.scheme, to_scheme)
        shapes, wanted = result.shapes, result.scheme
        counts = {kind: result.kinds.count(kind) for kind in ("exact", "interpolated", "missing")}
        record |= counts
        lines.append(", ".join(f"{count} {kind}" for kind, count in counts.items()) + f" landmarks of {wanted.name}")
    path = _write(target, shapes, data, wanted)
    record["output"] = str(path)
    _say(as_json, record, [*lines, f"wrote {_counted(len(shapes), 'shape')} to {path}"])


@main.group()
def plot() -> None:
    """Draw a model or shapes into a picture (.png, .svg, .pdf)."""


_picture = click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="The picture.")


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
@click.option("--y-up", is_flag=True, help="The y axis of the landmarks points up.")
def plot_modes_command(model: str, output: str, n_modes: int, scheme: str | None, y_up: bool) -> None:
    """Draw the strip of the first modes, from -3 to +3 standard deviations."""
    _headless()
    from .plotting import plot_modes

    _save(plot_modes(_model(model), n_modes=n_modes, scheme=scheme, y_down=not y_up), output)
    click.echo(f"wrote {output}")


@plot.command("spectrum")
@click.argument("model")
@_picture
def plot_spectrum_command(model: str, output: str) -> None:
    """Draw the share of variance of each mode."""
    _headless()
    from .plotting import plot_spectrum

    _save(plot_spectrum(_model(model)), output)
    click.echo(f"wrote {output}")


@plot.command("clip")
@click.argument("model")
@click.argument("source")
@_picture
@_source_options
@click.option("--index", type=click.IntRange(0), default=0, show_default=True, help="Which shape of SOURCE.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False), help="Photograph; the one beside by default.")
def plot_clip_command(model: str, source: str, output: str, split: str | None, scheme: str | None, origin: int,
                      index: int, image: str | None) -> None:  # fmt: skip
    """Draw a shape before and after the projection, on its photograph."""
    _headless()
    from .plotting import plot_clip

    chosen = _model(model)
    data = _read(source, split=split, scheme=scheme, origin=origin)
    _fitting(chosen, data)
    if index >= len(data.shapes):
        raise click.UsageError(f"--index {index}: SOURCE has {_counted(len(data.shapes), 'shape')}.")
    photograph = image or data.images[index]
    pixels = None
    if photograph is not None and data.frame == "pixels":
        from PIL import Image

        with Image.open(photograph) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    ax = plot_clip(chosen, data.shapes[index], image=pixels, scheme=data.scheme, y_down=data.frame != "y_up")
    ax.set_title(data.names[index], fontsize=9)
    _save(ax, output)
    click.echo(f"wrote {output}")


@plot.command("shapes")
@click.argument("source")
@_picture
@_source_options
@click.option("--align/--no-align", "aligned", default=True, show_default=True, help="Superimpose them first.")
def plot_shapes_command(source: str, output: str, split: str | None, scheme: str | None, origin: int,
                        aligned: bool) -> None:  # fmt: skip
    """Draw all shapes of SOURCE over one another."""
    _headless()
    from .plotting import GREY, plot_shape

    data = _read(source, split=split, scheme=scheme, origin=origin)
    down = data.frame != "y_up"
    if not aligned:
        _save(plot_shape(data.shapes, size=3, y_down=down), output)
    else:
        result = generalized_procrustes(data.shapes)
        ax = plot_shape(result.aligned, size=2, color=GREY, y_down=down)
        _save(plot_shape(result.mean, ax, scheme=data.scheme, size=10, y_down=down), output)
    click.echo(f"wrote {output}")


@main.command(short_help="Write a page with sliders.")
@click.argument("model")
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False), help="The page, .html.")
@click.option("--n-modes", "-n", type=click.IntRange(1), default=12, show_default=True)
@click.option("--scheme", help="Scheme whose names and edges are used; that of the model by default.")
@click.option("--edges", metavar="I-J,...", help="Lines to draw instead, such as 0-1,1-2,2-0.")
@click.option("--y-up", is_flag=True, help="The y axis of the landmarks points up.")
@click.option("--title", help="Heading; the name of the model by default.")
def explore(
    model: str, output: str, n_modes: int, scheme: str | None, edges: str | None, y_up: bool, title: str | None
) -> None:
    """Write a page with a slider for each mode and landmarks that can be dragged."""
    from .explorer import write_explorer

    page = write_explorer(
        load_model(model), output, title=title or Path(model).stem, scheme=scheme,
        edges=None if edges is None else _pairs(edges), n_modes=n_modes, y_up=y_up,
    )  # fmt: skip
    click.echo(f"wrote {page}")


def _pairs(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(i), int(j)) for i, j in (pair.split("-") for pair in text.split(","))]
    except ValueError:
        raise click.UsageError(f"--edges {text}: expected pairs of landmarks, such as 0-1,1-2.") from None


@main.command(short_help="Repair corrupted faces, with pictures.")
@click.option("--output", "-o", default="out", show_default=True, type=click.Path(file_okay=False),
              help="Folder of the pictures.")  # fmt: skip
@click.option("--data", type=click.Path(exists=True, file_okay=False), envvar="SHAPE_MODELS_DATA",
              help="Folder of real data; SHAPE_MODELS_DATA by default.")  # fmt: skip
def demo(output: str, data: str | None) -> None:
    """Corrupt real faces, repair them with the bundled model, and say what it gained."""
    _headless()
    from ._demo import run

    for line in run(Path(output), None if data is None else Path(data)):
        click.echo(line)


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


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


if __name__ == "__main__":
    main()
