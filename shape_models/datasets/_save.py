"""Writing whole sets of landmarks: into a folder, an archive of arrays, or one file of any format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._files import atomic
from .._names import plain_name
from .._typing import ImageSize, PathLike
from ..formats import LandmarkFile, LandmarkFileError, write_landmarks
from ..formats import _files as known
from ..formats._record import as_image_size
from ..formats._target import Target
from ..images import image_exists, image_size
from ._reading import in_pixels
from ._samples import LandmarkSamples

_USUAL = {"pixels": ".pts", "y_up": ".tps", "relative": ".asf", "physical": ".csv"}  # a file for each shape of a folder
_INNER = ("box", "columns", "curves", "edges", "image_id", "image_size")


def save_landmarks(
    samples: LandmarkSamples,
    path: PathLike,
    *,
    extension: str | None = None,
    image_size: ImageSize | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Path:
    """Write a set so that `load_landmarks` gives the same names, landmarks and frame.

    Parameters
    ----------
    samples : LandmarkSamples
        What to write. Names of landmarks, identifiers, images, scales, curves and other attributes are kept where the
        format has a place for them: ``.npz`` keeps all, ``.csv`` all that one cell can hold, ``.tps``
        identifier, image, scale and curves, ``.pts`` and ``.npy`` the coordinates only.
    path : path
        A name without extension is a folder, which gets one file for each sample, in folders as their names say: of
        `extension`, else ``.pts`` for pixels, ``.tps`` where y points up, ``.asf`` for fractions of an image, and
        ``.csv`` otherwise. A name with one is a file: ``.npz``, ``.npy``, or of a format of `write_landmarks`.
    extension : str, optional
        The format of the files in a folder.
    image_size : (width, height), optional
        Size of the images, for formats in another frame; otherwise that of the image of each sample is used.
    progress : callable, optional
        Is given a sequence and iterates over it, to show how far the writing is.

    Returns
    -------
    Path
        What was written. A file appears as a whole or not at all.

    Raises
    ------
    LandmarkFileError
        For a format that cannot hold the set: its frame (y is never relabelled), several shapes, missing landmarks.

    Warns
    -----
    UserWarning
        For ``.txt`` and landmarks that are not pixels: it is read as pixels unless its reader is told otherwise.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.datasets import load_landmarks, make_face_samples, save_landmarks
    >>> samples = make_face_samples(3, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_landmarks(samples, pathlib.Path(folder, "faces.npz"))
    ...     again = load_landmarks(path)
    >>> again.names, again.frame, bool((again.shapes() == samples.shapes()).all())
    (['0', '1', '2'], 'pixels', True)
    """
    path = Path(path)
    size = None if image_size is None else as_image_size(image_size)
    suffix = path.suffix.lower()
    if path.is_dir():
        suffix = ""
    if suffix == ".npz":
        _write_arrays(path, samples)
        return path
    if suffix == ".npy":
        records = _records(samples, suffix, size)
        for record in records:
            Target(path).refuse_frame(record, "pixels", "physical")
        shapes = samples.with_shapes([record.points for record in records]).shapes()
        with atomic(path) as temporary, temporary.open("wb") as stream:
            # One array of two axes is read as pixels.
            single = len(shapes) == 1 and samples.frame != "physical"
            np.save(stream, shapes[0] if single else shapes, allow_pickle=False)
        return path
    if suffix:
        if suffix not in known.WRITERS:
            raise LandmarkFileError(
                f"{path}: got the extension {path.suffix!r}; expected one of .npz, {', '.join(known.WRITERS)}, or a "
                "folder."
            )
        records = _records(samples, suffix, size)
        _warn_of_frame(path, records)
        _write(path, records, size)
        return path
    kind = known.extension_of(path, extension or _USUAL[samples.frame], known.WRITERS)
    targets = [path.joinpath(*name.split("/")) for name in samples.names]
    targets = [target.with_name(target.name + kind) for target in targets]
    records = _records(samples, kind, size)
    _warn_of_frame(path / f"*{kind}", records)
    for record, target in progress(list(zip(records, targets, strict=True))):
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, [record], size)
    return path


def _records(samples: LandmarkSamples, suffix: str, size: ImageSize | None) -> list[LandmarkFile]:
    """Return the samples as records in a frame that the format holds."""
    found = []
    for sample in samples:
        scheme = samples.scheme
        fits = scheme is not None and scheme.n_landmarks == len(sample.landmarks)
        image = sample.image_name
        if image is None and sample.image is not None:
            image = (Path(sample.name).parent / sample.image.name).as_posix()
        attributes = dict(sample.attributes)
        if sample.box is not None:
            attributes["box"] = sample.box
        if image is None and samples.named:
            if suffix in (".json", ".xml"):
                image = sample.name
            elif attributes.get("id") is None:
                attributes["id"] = sample.name
            elif suffix == ".csv" and plain_name(str(attributes["id"])) != sample.name:
                attributes["name"] = sample.name
        record = LandmarkFile(
            sample.landmarks, sample.labels, scheme if fits else None, image, sample.frame, attributes=attributes
        )
        found.append(_turned(record, suffix, size, sample.image))
    return found


def _turned(record: LandmarkFile, suffix: str, size: ImageSize | None, image: Path | None) -> LandmarkFile:
    """Bring a record to the frame of a format; the way y points is never lost."""
    planar = record.points.shape[1] == 2
    if record.frame in ("y_up", "relative") and suffix not in (".tps", ".asf", ".csv"):
        own = size or _size(image)
        return record if own is None else in_pixels(record, own)
    if suffix == ".tps" and planar and record.frame == "physical":
        raise LandmarkFileError(
            "got landmarks in an unknown frame; .tps counts y upwards. Say which way y points: try frame= (--frame "
            "pixels, or --frame y_up), or another format."
        )
    if suffix == ".tps" and planar and record.frame == "pixels" and size is None:
        own = _size(image)
        if own is None:
            raise LandmarkFileError(
                f"{record.image_name or 'landmarks'}: got pixels, y downwards, and no image; .tps counts y from the "
                "bottom. Try image_size= (--image-size WIDTH HEIGHT)."
            )
        last = own[1] - 1
        curves = [[0, last] + np.asarray(curve) * [1, -1] for curve in record.attributes.get("curves") or []]
        attributes = {**record.attributes, "curves": curves}
        return replace(record, points=[0, last] + record.points * [1, -1], frame="y_up", attributes=attributes)
    return record


def _size(image: Path | None) -> tuple[int, int] | None:
    return image_size(image) if image is not None and image_exists(image) else None


def _warn_of_frame(path: Path, records: list[LandmarkFile]) -> None:
    """Say how to read a table whose format has no place for what its numbers are, and is read as pixels."""
    frame = next((record.frame for record in records), "pixels")
    if path.suffix.lower() == ".txt" and frame != "pixels":
        warnings.warn(
            f"{path}: .txt has no place for the frame of the landmarks; read it with frame={frame!r} "
            f"(--frame {frame}).",
            stacklevel=3,
        )


def _write(path: Path, records: list[LandmarkFile], size: ImageSize | None) -> None:
    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    if suffix in (".tps", ".asf"):
        own = size or (None if suffix == ".tps" else _size(path.parent / (records[0].image_name or "")))
        options = {} if own is None else {"image_size": own}
    write_landmarks(path, records if len(records) > 1 else records[0], **options)


def _write_arrays(path: Path, samples: LandmarkSamples) -> None:
    loaded = samples.loaded()
    shapes = loaded.shapes()
    arrays: dict[str, Any] = {"shapes": shapes, "frame": np.array(loaded.frame)}
    if loaded.named:
        arrays["names"] = np.array(loaded.names)
        arrays["groups"] = np.array(loaded.groups)
    if loaded.labels is not None:
        arrays["labels"] = np.array(loaded.labels)
    images = [_relative(sample.image, path.parent) or sample.image_name or "" for sample in loaded]
    if any(images):
        arrays["images"] = np.array(images)
    if any(loaded.splits):
        arrays["split"] = np.array([split or "" for split in loaded.splits])
    boxes = loaded.boxes
    if any(box is not None for box in boxes):
        arrays["box"] = np.array([[np.nan] * 4 if box is None else box for box in boxes], dtype=np.float64)
    curves = [[np.asarray(curve, dtype=np.float64) for curve in own] for own in loaded.curves]
    if any(curves):
        sizes = np.zeros((len(curves), max(map(len, curves))), dtype=np.int64)
        for row, own in zip(sizes, curves, strict=True):
            row[: len(own)] = [len(curve) for curve in own]
        arrays["curves"] = np.concatenate([curve for own in curves for curve in own])
        arrays["curve_sizes"] = sizes
    for key, values in loaded.attributes.items():
        if key in arrays or key in _INNER:
            continue
        # An array holds one type: what is absent is an empty text among texts, else NaN.
        absent: Any = "" if any(isinstance(value, str) for value in values) else np.nan
        if any(value is None for value in values) and not all(np.ndim(v) == 0 for v in values if v is not None):
            continue  # arrays of which some are not there
        try:
            array = np.array([absent if value is None else value for value in values])
        except ValueError:  # arrays of different shapes
            continue
        if array.dtype.kind in "biufU" and len(array) == len(shapes):
            arrays[key] = array
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _relative(image: Path | None, folder: Path) -> str:
    return "" if image is None else Path(os.path.relpath(image, folder)).as_posix()
