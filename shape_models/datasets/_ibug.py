"""300-W: the folders as they come, and tables of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from .._names import few, plain_name
from .._typing import PathLike
from ..formats import LandmarkFileError, read_pts
from ..formats._record import Missing
from ..formats._source import Source
from ..landmarks import IBUG68
from ._index import Folder, archive, at
from ._samples import Entry, LandmarkSample, LandmarkSamples

_PRIVATE = ("300w/01_indoor", "300w/02_outdoor", "01_indoor", "02_outdoor")
_300W_FOLDERS = {
    **dict.fromkeys(("afw", "helen/trainset", "lfpw/trainset"), "train"),
    **dict.fromkeys(("helen/testset", "lfpw/testset"), "common"),
    "ibug": "challenging",
    **dict.fromkeys(_PRIVATE, "private"),
}


def read_300w(
    folder: PathLike, split: str | None = None, *, origin: float = 1, missing: Missing = None
) -> LandmarkSamples:
    """Read 300-W: images with 68 landmarks in the order of iBUG.

    Two layouts are read. The original one: ``afw``, ``helen/trainset``, ``helen/testset``, ``lfpw/trainset``,
    ``lfpw/testset``, ``ibug`` and the private set (``300W/01_Indoor``, ``300W/02_Outdoor``), each with images and
    ``.pts`` files side by side; copies whose name contains ``_mirror`` are left out. And the same folders with a file
    ``split.csv`` (no header: file, source image, split) beside them, which then decides what is read.

    Parameters
    ----------
    folder : path
        The folder that holds these.
    split : str, optional
        Of the original layout ``"train"`` (3148 faces), ``"common"`` (554), ``"challenging"`` (135), ``"full"``
        (the two together, 689) or ``"private"`` (600); with ``split.csv`` one of the names in it. None reads all.
    origin : float
        The coordinate that the files give to the centre of the first pixel.
    missing : optional
        What marks a missing landmark, as in `read_pts`.

    Returns
    -------
    LandmarkSamples
        The first pixel is 0 here, whatever it is in the files. The group is the image, which several faces can
        share.

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
    table, notes = Path(folder) / "split.csv", list[str]()
    if table.is_file():
        entries, found = _300w_from_table(table), Folder(folder)
        notes = compare_names(table, [entry.name for entry in entries], map(found.name, found.ending(".pts")))
    else:
        entries = _300w_from_folders(Folder(folder))
    wanted = None
    if split in ("full", "test") and split not in {entry.split for entry in entries}:
        wanted = {"common", "challenging"}
    load = partial(_load_300w, origin=origin, missing=missing)
    expected = f".pts in {', '.join(_300W_FOLDERS)}, and no split.csv; expected the layout of 300-W"
    return archive(folder, entries, expected, load, split=split, wanted=wanted, scheme=IBUG68, notes=notes)


def _load_300w(entry: Entry, *, origin: float, missing: Missing) -> LandmarkSample:
    file = read_pts(entry.source, origin=origin, missing=missing, scheme=IBUG68)
    return LandmarkSample(entry.image, file.points, None, {}, entry.group, entry.split)


def split_table(table: Path) -> dict[str, tuple[str, str]]:
    """Return the source image and the split of each name in a ``split.csv`` (image, source image, split)."""
    return {entry.name: (entry.group, str(entry.split)) for entry in _300w_from_table(table)}


def compare_names(table: Path, listed: Iterable[str], present: Iterable[str]) -> list[str]:
    """Return what to say of names in a table without landmarks, or the other way round; both at once is an error."""
    wanted, known = dict.fromkeys(listed), dict.fromkeys(present)
    absent = [name for name in wanted if name not in known]
    unlisted = [name for name in known if name not in wanted]
    if absent and unlisted:
        raise LandmarkFileError(
            f"{table}: got {few(absent)}, of which there are no landmarks, and nothing of {few(unlisted)}; expected "
            "the names of the landmark files."
        )
    return [
        f"{table.name}: {words} {few(names)}"
        for words, names in (("no landmarks of", absent), ("no word of", unlisted))
        if names
    ]


def _300w_from_table(table: Path) -> list[Entry]:
    entries: list[Entry] = []
    source = Source(table)
    for line, text in source.lines():
        try:
            row = [field.strip() for field in next(csv.reader([text]))]
        except csv.Error as error:
            raise at(table, line, f"not a table: {error}.") from None
        if not entries and [field.lower() for field in row[2:]] == ["split"]:
            continue  # a header
        if len(row) != 3 or not all(row) or not Path(row[0]).name.strip("."):
            raise at(table, line, f"got {len(row)} fields; expected file, source image and split.")
        image = table.parent / row[0]
        entries.append(Entry(image, row[1], row[2], image.with_suffix(".pts"), plain_name(row[0])))
    return entries


def _300w_from_folders(folder: Folder) -> list[Entry]:
    entries = []
    for path in folder.ending(".pts"):
        part = path.parent.relative_to(folder.root).as_posix()
        split = _300W_FOLDERS.get(part.lower())
        if split is not None and "_mirror" not in path.stem:
            # faces of one image are numbered: name_1, name_2; names like image_0001 end in a number too
            name = re.match(r"(?:image|indoor|outdoor)_\d+|.+?(?=_\d+$)|.+", path.stem)
            stem = path.stem if name is None else name[0]
            image, own = folder.image(path.parent, path.stem), folder.name(path)
            entries.append(Entry(image, f"{part}/{stem}", split, path, own))
    return entries


def looks_like_300w(folder: Path) -> bool:
    """Say whether a folder has the original layout of 300-W and no other ``.pts`` files."""
    if not any((folder / part.split("/")[0]).is_dir() for part in (*_300W_FOLDERS, "300W", "01_Indoor", "02_Outdoor")):
        return False
    found = Folder(folder)
    parts = {path.parent.relative_to(found.root).as_posix().lower() for path in found.ending(".pts")}
    return bool(parts) and parts <= set(_300W_FOLDERS)
