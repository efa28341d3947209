"""What the readers of archives share: finding files, matching images, checking splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .._names import IMAGE_SUFFIXES, composed, list_files, natural_key
from .._typing import PathLike
from ..formats import LandmarkFileError
from ._samples import Entry, LandmarkSample, LandmarkSamples, as_given, named


class Folder:
    """The files below a folder, from one walk through it; hidden ones are left out."""

    def __init__(self, folder: PathLike) -> None:
        self.root = Path(folder)
        if not self.root.is_dir():
            raise LandmarkFileError(f"{self.root}: got no such folder; expected the folder of the data set.")
        self.files = list_files(self.root)
        self._images: dict[tuple[Path, str], list[Path]] = {}
        for path in self.files:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self._images.setdefault((path.parent, composed(path.stem)), []).append(path)

    def name(self, path: Path) -> str:
        """Return what a file of the folder is called: its path below the folder without the suffix."""
        return composed(path.relative_to(self.root).with_suffix("").as_posix())

    def ending(self, *extensions: str) -> list[Path]:
        """Return the files with one of these extensions, in natural order."""
        return [path for path in self.files if path.suffix.lower() in extensions]

    def named(self, *names: str) -> Path | None:
        """Return the first file of one of these names, in the order of the names."""
        for name in names:
            for path in self.files:
                if path.name.lower() == name.lower():
                    return path
        return None

    def image(self, parent: Path, stem: str) -> Path | None:
        """Return the image of this stem in a folder."""
        return only_image(self._images.get((parent, composed(stem)), ()))

    def image_anywhere(self, stem: str) -> Path | None:
        """Return the image of this stem in any folder."""
        if not hasattr(self, "_stems"):
            self._stems: dict[str, list[Path]] = {}
            for (_, name), paths in self._images.items():
                self._stems.setdefault(name, []).extend(paths)
        return only_image(self._stems.get(composed(stem), ()))


def only_image(paths: Sequence[Path]) -> Path | None:
    """Return the one image that landmarks can belong to, None where there is none; several are refused."""
    if len(paths) > 1:
        first, second = sorted(paths, key=natural_key)[:2]
        raise LandmarkFileError(
            f"{first}: got a second image of this name, {second}; expected one. Try to name the image in the landmark "
            "file, or to move one of the two away."
        )
    return paths[0] if paths else None


def at(path: Path, line: int | None, problem: str) -> LandmarkFileError:
    """Return the error of a file, or of a line of it."""
    return LandmarkFileError(f"{path}: {problem}" if line is None else f"{path}, line {line}: {problem}")


def archive(
    folder: PathLike,
    entries: Iterable[Entry],
    expected: str,
    load: Callable[[Entry], LandmarkSample] = as_given,
    *,
    split: str | None = None,
    wanted: set[str] | None = None,
    **about: Any,
) -> LandmarkSamples:
    """Return the samples of a public set, or one split of it; where nothing was found say what was expected."""
    entries = list(entries)
    if not entries:
        raise LandmarkFileError(f"{folder}: got no {expected}.")
    return LandmarkSamples(of_split(named(entries), split, wanted), load, source=str(folder), **about)


def of_split(entries: Sequence[Entry], split: str | None, wanted: set[str] | None = None) -> Iterable[Entry]:
    """Return the entries of a split; an unknown one raises with the names that exist."""
    if split is None:
        return entries
    chosen = [entry for entry in entries if entry.split in (wanted or {split})]
    if not chosen:
        known = ", ".join(sorted({repr(entry.split) for entry in entries}))
        raise ValueError(f"split: got {split!r}; expected one of {known}, or None for all.")
    return chosen
