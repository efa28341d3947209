"""Whole folders: work on many files, in threads, processes or on a cluster, that goes on where it was broken off.

What is done is written down file by file, so that a crash costs no more than the files in hand, and memory does not
grow with their number.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ._files import atomic, plain_json
from ._names import image_names, list_images
from ._options import check_flags
from ._typing import Mapper, PathLike

__all__ = ["FolderReport", "read_records", "run"]


@dataclass(frozen=True)
class FolderReport:
    """What `run` did.

    Attributes
    ----------
    journal : Path
        Where the records are, see `read_records`.
    n_done, n_skipped : int
        Files that were worked on, and those that the journal held already.
    errors : dict of str
        What was wrong, by the name of the file, of all in the journal.

    Examples
    --------
    >>> from pathlib import Path
    >>> from shape_models.folders import FolderReport
    >>> str(FolderReport(Path("a.jsonl"), 3, 0, {"b": "got no such image file."}))
    '3 done, 0 skipped, 1 with an error: b: got no such image file.'
    """

    journal: Path
    n_done: int
    n_skipped: int
    errors: dict[str, str]

    def __str__(self) -> str:
        words = f"{self.n_done} done, {self.n_skipped} skipped, {len(self.errors)} with an error"
        lines = [f"{name}: {message}" for name, message in self.errors.items()]
        return words + (": " + "; ".join(lines) if lines else "")


def run(
    work: Callable[[Any, Any], Mapping[str, Any]],
    items: Mapping[str, Any] | Iterable[Any],
    journal: PathLike,
    *,
    model: object = None,
    map: Mapper = builtins.map,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Work on many files, one by one or in parallel, and write down what came of each as soon as it is done.

    Parameters
    ----------
    work : callable
        Takes the model and what belongs to one name, and returns a mapping of plain values, as JSON holds them, or
        NumPy arrays. ValueError and OSError are errors of this one file; any other exception ends the run. For
        processes it must be a function of a module.
    items : path, sequence of paths, or mapping
        A folder, whose images are taken with those of the folders in it; images; or what belongs to each name.
    journal : path
        Gets one line of JSON for each file: what `work` returned, and ``name``, ``status`` ("ok" or "error") and
        ``message``.
    model : object, optional
        What `work` needs: it goes to each process once, to a cluster by its `scatter`.
    map : callable or client, optional
        A function like the built-in map: ``ThreadPoolExecutor().map``, ``ProcessPoolExecutor().map``, or the client of
        a Dask cluster.
    resume : bool
        Whether to go on with a journal: files that it holds without an error are skipped. Otherwise it begins anew.
    progress : callable, optional
        Hears how many files are done, of how many.

    Returns
    -------
    FolderReport

    Raises
    ------
    ValueError
        For a folder without images, names that occur twice, a journal that is none, and a `map` that is none.
    FileNotFoundError
        When there is no such file or folder.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from shape_models.folders import read_records, run
    >>> def work(model, number):
    ...     if number == 3:
    ...         raise ValueError("got 3.")
    ...     return {"answer": model * number}
    >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
    ...     journal = pathlib.Path(folder, "a.jsonl")
    ...     print(run(work, {"a": 1, "b": 3}, journal, model=2, map=pool.map))
    ...     print(run(work, {"a": 1, "b": 2, "c": 4}, journal, model=2, map=pool.map, resume=True))
    ...     print([record["answer"] for record in read_records(journal)])
    1 done, 0 skipped, 1 with an error: b: got 3.
    2 done, 1 skipped, 0 with an error
    [2, 4, 8]
    """
    check_flags(resume=resume)
    named = _named(items)
    path = Path(journal)
    finished = set()
    if resume and path.exists():
        finished = {r["name"] for r in read_records(path, named) if r["status"] == "ok"}
        _keep(path, finished)
    else:
        with atomic(path) as temporary:
            temporary.write_text("")
    todo = [(name, item) for name, item in named.items() if name not in finished]
    n_good = 0
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for number, record in enumerate(_mapped(work, todo, model, map), 1):
            file.write(json.dumps(record, default=plain_json) + "\n")
            file.flush()
            n_good += record["status"] == "ok"
            if progress is not None:
                progress(number, len(todo))
    errors = {r["name"]: r["message"] for r in read_records(path, named) if r["status"] != "ok"}
    return FolderReport(path, n_good, len(named) - len(todo), errors)


def read_records(journal: PathLike, names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    r"""Read what `run` wrote down, one record at a time.

    Parameters
    ----------
    journal : path
        The file that `run` wrote.
    names : iterable of str, optional
        Which records, in this order; by default all, as they were written. Names without a record are left out, and of
        several records the last counts. A line that was not written to its end is left out.

    Yields
    ------
    dict
        One for each file, as `run` describes it.

    Raises
    ------
    FileNotFoundError
        When there is no journal.
    ValueError
        When it is none.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.folders import read_records
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = pathlib.Path(folder, "a.jsonl")
    ...     _ = journal.write_text('{"name": "a", "status": "ok", "message": ""}\n{"name": "b", "sta')
    ...     print(list(read_records(journal)))
    [{'name': 'a', 'status': 'ok', 'message': ''}]
    """
    if names is None:
        for _, record in _lines(Path(journal)):
            yield record
        return
    places = {record["name"]: place for place, record in _lines(Path(journal))}
    with Path(journal).open("rb") as file:
        for name in names:
            if name in places:
                file.seek(places[name])
                yield json.loads(file.readline())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    record = json.loads(line)
                    _ = record["name"], record["status"], record["message"]
                except (ValueError, TypeError, KeyError):
                    raise ValueError(
                        f"{path}, line {number}: got {line[:40]!r}; expected what an earlier run wrote there. Try "
                        "another file, or without resume."
                    ) from None
                yield place, record
            place += len(line)


def _keep(path: Path, names: set[str]) -> None:
    """Leave out of a journal what is to be done again, and what was not written to its end."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for _, record in _lines(path):
            if record["name"] in names and record["status"] == "ok":
                file.write(json.dumps(record) + "\n")


def _named(items: Any) -> dict[str, Any]:
    if isinstance(items, Mapping):
        return dict(items)
    roots: list[Path | None]
    if isinstance(items, str | os.PathLike):
        folder = Path(items)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: got no such folder; expected one with images, or a list of files.")
        paths = list_images(folder)
        roots = [folder] * len(paths)
    elif isinstance(items, Sequence) and all(isinstance(item, str | os.PathLike) for item in items):
        paths = [Path(item) for item in items]
        roots = [None] * len(paths)
    else:
        raise ValueError(f"items: got {type(items).__name__}; expected a folder, a list of paths, or a mapping.")
    return dict(zip(image_names(paths, roots), paths, strict=True))


# --- one file after the other, here or elsewhere ---------------------------------------------------------------


def _mapped(work: Any, todo: list[tuple[str, Any]], model: Any, map: Any) -> Iterator[dict[str, Any]]:
    if hasattr(map, "gather") and hasattr(map, "map"):  # the client of a Dask cluster
        shared = map.scatter(model, broadcast=True)
        futures = map.map(partial(_one, work), todo, model=shared, pure=False)
        while futures:
            yield futures.pop(0).result()
        return
    if not callable(map):
        raise ValueError(f"map: got {type(map).__name__}; expected a function like the built-in map, or a Dask client.")
    with _Travelling(model) as travelling:
        yield from map(partial(_one, work, model=travelling), todo)


def _one(work: Any, item: tuple[str, Any], *, model: Any) -> dict[str, Any]:
    name, value = item
    if isinstance(model, _Travelling | _Arrived):
        model = model()
    record: dict[str, Any] = {"name": name, "status": "ok", "message": ""}
    try:
        return dict(work(model, value)) | record  # name, status and message are the journal's own
    except (ValueError, OSError) as error:
        return record | {"status": "error", "message": " ".join(str(error).split()) or type(error).__name__}


class _Travelling:
    """A model that stays where it is for threads, and for other processes lies in a file that each reads once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.path: str | None = None

    def __enter__(self) -> _Travelling:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()

    def __call__(self) -> Any:
        return self.model

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            handle, path = tempfile.mkstemp(suffix=".model")
            with os.fdopen(handle, "wb") as file:
                pickle.dump(self.model, file)
            self.path = path
        return _Arrived, (self.path,)


class _Arrived:
    """A model that came to this process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> Any:
        return _read_once(self.path)


@lru_cache(maxsize=2)  # a process works for one run at a time, and remembers that before
def _read_once(path: str) -> Any:
    with Path(path).open("rb") as file:
        return pickle.load(file)
