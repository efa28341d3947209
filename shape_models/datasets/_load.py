"""The one reader of landmark sets: a file of any format, a folder, arrays, or an archive by its name."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._masks import holds_masks
from .._names import few, holds_names, list_files, names_scheme, natural_key, numbers_of, own_order
from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import ImageSize, PathLike
from ..formats import LandmarkFile, LandmarkFileError
from ..formats import _files as known
from ..formats._record import FRAMES, LandmarksLike, Missing, as_image_size, mark_missing, whole_missing
from ..formats._registry import SELDOM
from ..formats._source import read_bytes
from ..formats.npy import parse_array
from ..landmarks import get_scheme
from ._arrays import absent, curves_of, read_arrays, texts_of
from ._ibug import compare_names, looks_like_300w, read_300w, split_table
from ._index import Folder, of_split
from ._naming import distinct, group_of_name, image_beside, names_of_files, own_name, split_of_name
from ._reading import Reading
from ._samples import Entry, LandmarkSamples
from .archives import read_helen, read_imm, read_muct, read_wflw, read_youtube68
from .folders import read_asmnet
from .matlab import read_300wlp, read_aflw2000, read_cofw

ARCHIVES: dict[str, Callable[..., LandmarkSamples]] = {
    "300w": read_300w, "300wlp": read_300wlp, "aflw2000": read_aflw2000, "asmnet": read_asmnet, "cofw": read_cofw,
    "helen": read_helen, "imm": read_imm, "muct": read_muct, "wflw": read_wflw, "youtube68": read_youtube68,
}  # fmt: skip
_LATE = (".pts", ".npy")  # hold one shape and name no image: read when a sample is asked for


def load_landmarks(
    source: PathLike | LandmarksLike,
    *,
    scheme: SchemeLike | None = None,
    archive: str | None = None,
    split: str | None = None,
    missing: Missing = None,
    frame: str | None = None,
    image_size: ImageSize | None = None,
    groups: str | Callable[[Path], str] | None = None,
    extension: str | Sequence[str] | None = None,
    images: PathLike | None = None,
    labels: Sequence[str] | None = None,
    unused: Literal["raise", "ignore"] = "raise",
    **options: Any,
) -> LandmarkSamples:
    """Read landmarks from a file, a folder, an array or a public data set.

    Parameters
    ----------
    source : path, array_like, LandmarkFile, list of LandmarkFile, or LandmarkSamples
        A landmark file of any format of `read_landmarks`; a ``.npz`` with an array ``shapes`` (n, n_landmarks, n_dims)
        and perhaps ``names``, ``images``, ``labels``, ``frame``, ``groups``, ``split``, ``box``, ``curves`` with
        ``curve_sizes``, and further arrays of n entries, which become attributes (NaN and empty text are absent);
        a ``.npy`` of one shape or of many; a folder; an array of one shape or of many. A folder is searched with the
        folders below it, hidden files and folders left out, in natural order (``im_2`` before ``im_10``). It may mix
        ``.pts``, ``.asf``, ``.tps``, ``.ljson``, ``.npy``, ``.nts``, ``.fcsv`` and ``.land``; ``.csv``, ``.json`` and
        ``.xml`` are read where nothing else is there or `extension` names them, as they can hold anything, and a
        ``.npz`` where it is the only file; `notes` of the result says what was left
        out. A folder with ``.pts`` and ``split.csv``, or with the folders of 300-W, is read as 300-W;
        beside other files a ``split.csv`` (image, source image, split) says groups and splits by name.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many. Landmarks whose names are those of the scheme are brought
        into its order.
    archive : str, optional
        Read the folder as this public set, in its original layout: ``"300w"``, ``"300wlp"``, ``"aflw2000"``,
        ``"asmnet"``, ``"cofw"``, ``"helen"``, ``"imm"``, ``"muct"``, ``"wflw"`` or ``"youtube68"``.
    split : str, optional
        One part of a set that has parts: those of the archive, or the values of a column ``split``.
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark in the files besides what their format says: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the files.
    frame : {"pixels", "y_up", "relative", "physical"}, optional
        What the numbers are where the format cannot say it; see `LandmarkFile`.
    image_size : (width, height), optional
        Size of the images; makes pixels of fractions of the image and of y counted from the bottom. Images that lie
        beside the files say it themselves.
    groups : str or callable, optional
        What must not stand on both sides of a split: the name of an attribute (a column), or a function of the path of
        the image (of the landmark file, where there is no image); by default each image is a group.
    extension : str or sequence of str, optional
        Which files of a folder: ``"csv"``, ``"pts,json"``.
    images : path, optional
        The folder of the images that a ``.npz`` names; by default that of the file.
    labels : sequence of str, optional
        The names of the landmarks, where the source has none.
    unused : {"raise", "ignore"}
        What to do with an option that no file here has.
    **options
        Options of the formats, such as ``origin=0`` for ``.pts``, ``scaled=True`` for ``.tps``, ``part="face"`` for
        COCO, ``group="specimen"`` (which rows form a shape) for ``.csv``.

    Returns
    -------
    LandmarkSamples
        Names are paths without suffix (``sub/face2``), all different and the same whatever is done with the set.
        Samples are read when they are asked for. Landmarks with names stand in one order: that of the scheme they
        name, that of their numbers (``p2`` before ``p10``), or that of the first sample.

    Raises
    ------
    LandmarkFileError
        Now or when a sample is read: for a source that is not there or holds no landmarks, two files of one name, a
        broken file, landmarks in two frames, and landmarks whose names differ between samples.
    ValueError
        For a split or groups that do not exist, and an option that nothing in the source has.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, write_landmarks
    >>> from shape_models.datasets import load_landmarks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i, face in enumerate(make_faces(3, rng=0)):
    ...         write_landmarks(pathlib.Path(folder, f"anna_{9 + i}.pts"), face)
    ...     samples = load_landmarks(folder, scheme="ibug68", groups=lambda path: path.stem.split("_")[0])
    ...     samples.names, samples.groups, samples.shapes().shape
    (['anna_9', 'anna_10', 'anna_11'], ['anna', 'anna', 'anna'], (3, 68, 2))
    """
    data: Any = source
    scheme = None if scheme is None else get_scheme(scheme)
    check_choice((*FRAMES, None), frame=frame)
    if image_size is not None:
        image_size = as_image_size(image_size)
    size: Any = 1 if missing is None else np.size(missing)
    mark_missing(np.zeros((0, 3 if size == 3 else 2)), missing)  # refuses what is no such thing
    given = {name: value for name, value in options.items() if value is not None}
    reading = Reading(scheme, missing, frame, image_size, given, unused)
    if isinstance(data, LandmarkSamples):
        samples = data
    elif isinstance(data, str | os.PathLike):
        samples = _from_path(Path(data), reading, archive, split, extension, images)
        split = None if archive is not None or _is_300w(Path(data), extension) else split
    elif isinstance(data, LandmarkFile) or (
        isinstance(data, Sequence) and len(data) and all(isinstance(item, LandmarkFile) for item in data)
    ):
        samples = _from_files([data] if isinstance(data, LandmarkFile) else list(data), reading)
    else:
        samples = _from_array(data, reading)
    if scheme is not None:
        samples = samples.in_scheme(scheme)
    if labels is not None:
        samples = _labelled(samples, tuple(map(str, labels)))
    if groups is not None:
        samples = _grouped(samples, groups)
    if not len(samples):
        raise LandmarkFileError(f"{data}: got no landmarks; expected some.")
    if split is not None and not any(samples.splits):
        raise ValueError(
            f"{data}: got split {split!r}, but nothing says which sample is in it; expected a column split, a "
            "split.csv, or the folders of 300-W. Try archive= (--archive) for other sets."
        )
    return samples if split is None else samples._copy(of_split(samples._entries, split))


# --- Sources ---------------------------------------------------------------------------------------------


def _from_path(
    path: Path, reading: Reading, archive: str | None, split: str | None, extension: Any, images: Any
) -> LandmarkSamples:
    if not path.exists():
        raise LandmarkFileError(f"{path}: got no such file or folder; expected landmarks.")
    if archive is not None:
        return _from_archive(path, archive, reading, split)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".npz":
            reading.check([], path)
            return _from_arrays(path, reading, images)
        if suffix == ".npy":
            array = parse_array(path, read_bytes(path))
            if array.ndim == 3:
                return _from_array(array, reading, path)
        suffix, *further = _extensions(path, suffix if extension is None else extension)
        if further:
            raise ValueError(f"extension: got {extension!r} for one file; expected one. Try a folder for several.")
        reading.check([suffix], path)
        return _from_files(reading.read(path, suffix), reading, path)
    if _is_300w(path, extension):
        return _from_archive(path, "300w", reading, split)
    return _from_folder(Folder(path), reading, extension, images)


def _is_300w(path: Path, extension: Any) -> bool:
    if extension is not None or not path.is_dir():
        return False
    if not (path / "split.csv").is_file():
        return looks_like_300w(path)
    # Other sets have a split.csv too: the landmarks of 300-W are 68.
    first = next((file for file in list_files(path) if file.suffix.lower() == ".pts" and file.is_file()), None)
    return first is not None and re.search(rb"n_points\s*:\s*68\b", first.read_bytes()) is not None


def _from_archive(path: Path, archive: str, reading: Reading, split: str | None) -> LandmarkSamples:
    check_choice(ARCHIVES, archive=archive)
    reader = ARCHIVES[archive]
    given = {"split": split, "missing": reading.missing, "scheme": reading.scheme, **reading.options}
    wanted = {name: value for name, value in given.items() if value is not None}
    takes = inspect.signature(reader).parameters
    for name in wanted:
        if name not in takes and name != "scheme":
            raise ValueError(f"{name}: got {wanted[name]!r}; the archive {archive} has no such choice. Try without it.")
    if reading.image_size is not None or reading.frame not in (None, "pixels"):
        raise ValueError(f"got a frame or an image size; the archive {archive} is in pixels. Try without it.")
    return reader(path, **{name: value for name, value in wanted.items() if name in takes})


def _from_folder(folder: Folder, reading: Reading, extension: Any, images: Any) -> LandmarkSamples:
    root = folder.root
    table = root / "split.csv"
    parts = split_table(table) if table.is_file() else {}
    folder.files = [path for path in folder.files if path != table]
    paths, arrays, notes = _landmark_paths(folder, None if extension is None else _extensions(root, extension))
    if not paths:
        return _from_arrays(arrays[0], reading, images)
    reading.check({path.suffix.lower() for path in paths}, root)
    entries: list[Entry] = []
    homes: dict[str, Path] = {}
    labels = None
    for path in paths:
        suffix = path.suffix.lower()
        home = folder.name(path).removesuffix(".mrk")
        files: list[Any] = [path] if suffix in _LATE else reading.read(path, suffix)
        names = [home] if len(files) == 1 else names_of_files(files, path, folder)
        for name, file in zip(names, files, strict=True):
            if name in homes:
                raise LandmarkFileError(
                    f"{root}: got {name!r} from {homes[name].name} and from {path.name}; expected one landmark file "
                    "of each name. Try extension= (--extension)."
                )
            homes[name] = path
            image = image_beside(path, file, folder)
            if isinstance(file, LandmarkFile):
                labels = _wider(labels, file.labels)
            group, part = parts.get(group_of_name(name), (group_of_name(name), split_of_name(file)))
            entries.append(Entry(image, group, part, file, name))
    if parts:
        notes += compare_names(table, parts, [group_of_name(entry.name) for entry in entries])
    labels = _first_late(entries, reading, labels)
    if labels is not None and reading.scheme is None:
        nameless = [e.name for e in entries if isinstance(e.source, Path) or e.source.labels is None]
        if nameless:
            notes.append(
                f"{len(nameless)} of {len(entries)} name no landmarks, such as {nameless[0]}: taken in the order of "
                "the others"
            )
    return _set(entries, reading, labels, source=str(root), notes=notes)


def _landmark_paths(folder: Folder, chosen: list[str] | None) -> tuple[list[Path], list[Path], list[str]]:
    """Return the landmark files of a folder, of some extensions or else of the surest kind, archives, and notes.

    Where there are no landmark files there is one archive.
    """
    if chosen is not None:
        paths, rest, arrays = folder.ending(*chosen), [], []
    else:
        paths, arrays = folder.ending(*known.OWN), folder.ending(".npz")
        rest = folder.ending(*(suffix for suffix in known.READERS if suffix not in (*known.OWN, *SELDOM)))
        if not paths:
            paths, rest = rest or folder.ending(*SELDOM), []
    if not paths and len(arrays) > 1:
        raise LandmarkFileError(f"{folder.root}: got {_files(arrays)}; expected one .npz in a folder. Try its path.")
    if not paths and not arrays:
        hint = " Try shape_models.contours.landmarks_of_masks if the images are masks." * holds_masks(folder.root)
        if matlab := folder.ending(".mat"):
            hint = f" Try archive= (--archive) aflw2000, 300wlp or cofw, the set that {_files(matlab)} came with."
        wanted = ", ".join(chosen or known.READERS)
        raise LandmarkFileError(f"{folder.root}: got no landmark files ({wanted}); expected some.{hint}")
    notes = [f"left out {_files(arrays)}. Try its path"] if arrays and paths else []
    if rest:
        kinds = ",".join(sorted({path.suffix.lower()[1:] for path in [*paths, *rest]}))
        notes.append(f"left out {_files(rest)}, which may hold anything. Try extension (--extension) {kinds}")
    return paths, arrays, notes


def _first_late(entries: list[Entry], reading: Reading, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Read the first of the files that are read late: it says whether they have names of landmarks."""
    late = next((i for i, entry in enumerate(entries) if isinstance(entry.source, Path)), None)
    if late is None:
        return labels
    path = entries[late].source
    try:
        (first,) = reading.read(path, path.suffix.lower())
    except LandmarkFileError:  # said when the sample is asked for
        return labels
    entries[late] = replace(entries[late], source=first)
    return first.labels if labels is None else labels


def _wider(labels: tuple[str, ...] | None, others: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the names of the landmarks of a set: those of its first sample, or of one that has these and more."""
    if labels is None or others is None:
        return labels or others
    return others if others != labels and holds_names(others, labels) else labels


def _from_files(files: list[LandmarkFile], reading: Reading, path: Path | None = None) -> LandmarkSamples:
    if path is None:
        files = [reading.framed(file) for file in files]
    named = [bool(own_name(file)) for file in files]
    if all(named):
        names = distinct([str(own_name(file)) for file in files])
    elif len(files) == 1 and path is not None:
        names = [path.with_suffix("").name]
    else:
        stem = "shape" if path is None else path.with_suffix("").name
        names = [f"{stem}#{i}" for i in range(len(files))]
    entries = []
    for name, file in zip(names, files, strict=True):
        image = image_beside(path or file.path, file)
        entries.append(Entry(image, group_of_name(name), split_of_name(file), file, name))
    labels = functools.reduce(_wider, (file.labels for file in files), None)
    return _set(entries, reading, labels, named=all(named), source="" if path is None else str(path))


def _from_array(array: Any, reading: Reading, path: Path | None = None) -> LandmarkSamples:
    from .._array import as_shapes

    reading.check([".npy"], path or Path("array"))
    where = "shapes" if path is None else str(path)
    shapes = as_shapes(array, name=where, n_dims=(2, 3), allow_nan=True).astype(np.float64)
    shapes = shapes[None] if shapes.ndim == 2 else shapes
    if shapes.ndim != 3:
        raise ValueError(f"{where}: got an array of shape {shapes.shape}; expected (n, n_landmarks, n_dims).")
    if shapes.shape[1] == 1 and len(shapes) > 1:
        raise ValueError(
            f"{where}: got {len(shapes)} shapes of one landmark; expected (n, n_landmarks, n_dims). "
            "Try np.swapaxes(shapes, 0, 1) for the points of one shape, as OpenCV gives them."
        )
    frame = reading.frame or "physical"
    stem = "" if path is None else f"{path.stem}#"
    files = [reading.framed(LandmarkFile(mark_missing(whole_missing(s), reading.missing), frame=frame)) for s in shapes]
    entries = [Entry(None, f"{stem}{i}", None, file, f"{stem}{i}") for i, file in enumerate(files)]
    return _set(entries, reading, None, named=False, source=where if path is not None else "")


def _from_arrays(path: Path, reading: Reading, images: Any) -> LandmarkSamples:
    arrays = read_arrays(path)
    solid = [name for name, array in arrays.items() if array.ndim == 3]
    key = "shapes" if "shapes" in arrays or len(solid) != 1 else solid[0]
    shapes = arrays.pop(key, None)
    fits = shapes is not None and shapes.dtype.kind == "f" and shapes.ndim == 3 and shapes.shape[2] in (2, 3)
    if shapes is None or not fits or not shapes.size:
        got = f"the arrays {', '.join(arrays) or '(none)'}" if shapes is None else f"{shapes.dtype} of {shapes.shape}"
        raise LandmarkFileError(f"{path}: got {got}; expected one called shapes, of (n, n_landmarks, 2 or 3).")
    n = len(shapes)
    if reading.scheme is not None and shapes.shape[1] != reading.scheme.n_landmarks:
        raise LandmarkFileError(
            f"{path}: got {shapes.shape[1]} landmarks; expected {reading.scheme.n_landmarks} ({reading.scheme.name})."
        )
    pictures, own, groups, parts = (texts_of(path, arrays, key, n) for key in ("images", "names", "groups", "split"))
    labels = texts_of(path, arrays, "labels", shapes.shape[1])
    called = None if labels is None else tuple(labels)
    stored = arrays.pop("frame", np.array(""))
    if stored.ndim or str(stored) not in ("", *FRAMES):
        raise LandmarkFileError(f"{path}, array frame: got {str(stored)[:40]!r}; expected one of {', '.join(FRAMES)}.")
    frame = reading.frame or str(stored) or None
    frame = frame or ("physical" if pictures is None else "pixels")
    boxes = arrays.pop("box", None)
    if boxes is not None and boxes.shape != (n, 4):
        raise LandmarkFileError(f"{path}, array box: got {boxes.shape}; expected ({n}, 4): x0, y0, x1, y1.")
    folder = path.parent if images is None else Path(images)
    raw = own or pictures
    names = [str(i) for i in range(n)] if raw is None else distinct(raw)
    curves = curves_of(path, arrays, n)
    attributes = {name: array for name, array in arrays.items() if array.ndim and len(array) == n}
    entries = []
    for i, name in enumerate(names):
        values = {key: array[i].item() if array.ndim == 1 else array[i] for key, array in attributes.items()}
        values = {key: value for key, value in values.items() if not absent(value)}
        if boxes is not None and np.isfinite(boxes[i]).all():
            values["box"] = boxes[i]
        if curves[i]:
            values["curves"] = curves[i]
        points = mark_missing(whole_missing(shapes[i]), reading.missing)
        picture = None if pictures is None or not pictures[i] else pictures[i]
        file = LandmarkFile(points, called, image_name=picture, frame=frame, path=path, attributes=values)
        image = None if picture is None else folder / picture
        group = groups[i] if groups is not None else group_of_name(name)
        part = None if parts is None or not parts[i] else parts[i]
        entries.append(Entry(image, group, part, reading.framed(file), name))
    return _set(entries, reading, called, named=raw is not None, source=str(path))


# --- Parts -----------------------------------------------------------------------------------------------


def _set(entries: list[Entry], reading: Reading, labels: tuple[str, ...] | None, **more: Any) -> LandmarkSamples:
    """Build the set; `labels` are those of the first sample that has some, in the order of its file."""
    first = next((entry.source for entry in entries if isinstance(entry.source, LandmarkFile)), None)
    schemes = {e.source.scheme.name for e in entries if isinstance(e.source, LandmarkFile) and e.source.scheme}
    scheme = reading.scheme or (first.scheme if first is not None and len(schemes) == 1 else None)
    if labels is not None:
        try:
            labels = tuple(np.array(labels, dtype=object)[own_order(labels, scheme)])
        except ValueError as error:
            raise LandmarkFileError(f"{more.get('source') or 'labels'}: {error}") from None
        if scheme is not None and not names_scheme(labels, scheme) and numbers_of(labels) is None:
            more["notes"] = [
                *more.get("notes", ()),
                f"the landmarks are called {labels[0]}, ..., not as in {scheme.name}: taken in the order of the file",
            ]
    return LandmarkSamples(entries, reading, scheme=scheme, labels=labels, frame=None, **more)


def _extensions(path: Path, extension: str | Sequence[str]) -> list[str]:
    given = extension.split(",") if isinstance(extension, str) else list(extension)
    return [known.extension_of(path, item.strip(), known.READERS) for item in given]


def _grouped(samples: LandmarkSamples, by: str | Callable[[Path], str]) -> LandmarkSamples:
    if callable(by):
        groups = [str(by(entry.image or Path(entry.name))) for entry in samples._entries]
    else:
        attributes = samples.attributes
        if by not in attributes:
            raise ValueError(f"groups: got {by!r}; expected one of {', '.join(attributes) or '(no attributes)'}.")
        own = [entry.group for entry in samples._entries]  # where nothing is said, each image is a group
        groups = [str(v) if v not in (None, "") else o for v, o in zip(attributes[by], own, strict=True)]
    return samples._copy(replace(e, group=g) for e, g in zip(samples._entries, groups, strict=True))


def _labelled(samples: LandmarkSamples, labels: tuple[str, ...]) -> LandmarkSamples:
    if samples.labels is not None:
        raise ValueError(f"labels: got {len(labels)}; the source has its own ({samples.labels[0]} ...). Try none.")
    loaded = samples.loaded()
    shapes = loaded.shapes()
    if len(labels) != shapes.shape[1]:
        raise ValueError(f"labels: got {len(labels)} names; expected {shapes.shape[1]}, one for each landmark.")
    order = own_order(labels, samples.scheme)
    return loaded.with_shapes(shapes[:, order], labels=[labels[i] for i in order])


def _files(paths: Sequence[Path]) -> str:
    return few([path.name for path in sorted(paths, key=natural_key)], 3)
