"""Readers of public landmark sets in their original layouts. Images are found, never opened."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ..formats import LandmarkFileError, read_pts
from ..landmarks import IBUG68
from ._samples import Entry, LandmarkSample, LandmarkSamples

__all__ = ["read_300w"]

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff")
_300W_FOLDERS = {
    "afw": "train", "helen/trainset": "train", "lfpw/trainset": "train",
    "helen/testset": "common", "lfpw/testset": "common", "ibug": "challenging",
    "300w/01_indoor": "private", "300w/02_outdoor": "private", "01_indoor": "private", "02_outdoor": "private",
}  # fmt: skip


def read_300w(folder: str | os.PathLike, split: str | None = None) -> LandmarkSamples:
    """Read 300-W: photographs with 68 landmarks in the order of iBUG.

    Two layouts are read. The original one: ``afw``, ``helen/trainset``, ``helen/testset``, ``lfpw/trainset``,
    ``lfpw/testset``, ``ibug`` and the private set (``300W/01_Indoor``, ``300W/02_Outdoor``), each with images and
    ``.pts`` files side by side; copies whose name contains ``_mirror`` are left out. And the same folders with a file
    ``split.csv`` (no header: image, photograph, split) beside them, which then decides what is read.

    Parameters
    ----------
    folder : path
        The folder that holds these.
    split : str, optional
        Of the original layout ``"train"`` (3148 faces), ``"common"`` (554), ``"challenging"`` (135), ``"full"``
        (the two together, 689) or ``"private"`` (600); with ``split.csv`` one of the names in it. None reads all.

    Returns
    -------
    LandmarkSamples
        The first pixel, 1 in the files, is 0 here. The group is the photograph, which several faces can share.

    Raises
    ------
    LandmarkFileError
        When the folder has neither layout, a line of ``split.csv`` is wrong or a landmark file is missing or broken.
    ValueError
        For a split that does not exist.

    References
    ----------
    C. Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV Workshops 2013.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, write_pts
    >>> from shape_models.datasets import read_300w
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "ibug").mkdir()
    ...     write_pts(pathlib.Path(folder, "ibug", "image_003_1.pts"), make_faces(1, rng=0)[0])
    ...     samples = read_300w(folder, split="challenging")
    ...     samples, samples[0].group
    (LandmarkSamples(1 samples, ibug68), 'ibug/image_003')
    """
    root = _folder(folder)
    table = root / "split.csv"
    entries = _300w_from_table(root, table) if table.is_file() else _300w_from_folders(root)
    if not entries:
        raise LandmarkFileError(
            f"{root}: got no .pts files in {', '.join(_300W_FOLDERS)}, and no split.csv; expected the layout of 300-W."
        )
    wanted = None if split is None else {"common", "challenging"} if split in ("full", "test") else {split}
    return LandmarkSamples(_of_split(entries, split, wanted), _load_pts68, scheme=IBUG68)


def _300w_from_table(root: Path, table: Path) -> list[Entry]:
    entries = []
    for line, row in _rows(table):
        if len(row) != 3:
            raise _error(table, line, f"got {len(row)} fields; expected image, photograph and split.")
        image = root / row[0]
        entries.append(Entry(image, row[1], row[2], image.with_suffix(".pts")))
    return entries


def _300w_from_folders(root: Path) -> list[Entry]:
    entries = []
    for path in _files(root, ".pts"):
        part = path.parent.relative_to(root).as_posix()
        split = _300W_FOLDERS.get(part.lower())
        if split is None or "_mirror" in path.stem:
            continue
        # AFW, HELEN and iBUG number the faces of a photograph: name_1, name_2; the stems of LFPW end in a number too
        pattern = r"(image_\d+|indoor_\d+|outdoor_\d+|.+?)(?:_\d+)?"
        photograph = re.fullmatch(pattern, path.stem)
        assert photograph is not None
        entries.append(Entry(_image_beside(path), f"{part}/{photograph[1]}", split, path))
    return entries


def _load_pts68(entry: Entry) -> LandmarkSample:
    file = read_pts(entry.source, origin=1, scheme=IBUG68)
    return LandmarkSample(entry.image, file.points, None, {}, entry.group, entry.split)


def _folder(folder: str | os.PathLike) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise LandmarkFileError(f"{root}: got no such folder; expected the folder of the data set.")
    return root


def _error(path: Path, line: int | None, problem: str) -> LandmarkFileError:
    return LandmarkFileError(f"{path}: {problem}" if line is None else f"{path}, line {line}: {problem}")


def _of_split(entries: list[Entry], split: str | None, wanted: set[str] | None = None) -> Iterable[Entry]:
    if split is None:
        return entries
    chosen = [entry for entry in entries if entry.split in (wanted or {split})]
    if not chosen:
        known = ", ".join(sorted({repr(entry.split) for entry in entries}))
        raise ValueError(f"split: got {split!r}; expected one of {known}, or None for all.")
    return chosen


def _files(root: Path, *extensions: str) -> list[Path]:
    """All files below a folder with one of these extensions, sorted; hidden ones are left out."""
    found = []
    for here, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".") and name.lower().endswith(extensions)]
    return sorted(found)


def _image_beside(path: Path) -> Path | None:
    """Find the image with the same stem in the same folder."""
    for extension in _IMAGES:
        for candidate in (path.with_suffix(extension), path.with_suffix(extension.upper())):
            if candidate.is_file():
                return candidate
    return None


def _rows(path: Path) -> Iterable[tuple[int, list[str]]]:
    """Yield the rows of a CSV file with the number of their line; empty rows are left out."""
    from ..formats._record import read_text

    reader = csv.reader(read_text(path).splitlines())
    try:
        for row in reader:
            if row:
                yield reader.line_num, [field.strip() for field in row]
    except csv.Error as error:
        raise _error(path, reader.line_num, f"{error}.") from None
