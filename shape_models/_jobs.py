"""The options of commands that work on many files: in several processes, and on from where they were broken off."""

from __future__ import annotations

import builtins
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ._commands import DataError, counted
from ._names import few
from ._options import usable_processors
from .folders import FolderReport, run

jobs_option = click.option(
    "--jobs", "-j", type=int, default=1, show_default=True, help="Processes; -1 for one in each processor."
)
resume_option = click.option("--resume", is_flag=True, help="Go on: skip what an earlier run with this output did.")


Work = Callable[[Any, Any], Any]  # of a model and an item


def run_command(
    work: Work, items: dict[str, Any], journal: Path, *, model: Any, jobs: int, resume: bool, label: str
) -> FolderReport:
    """Work on many files with a bar on the error channel."""
    if jobs == 0 or jobs < -1:
        raise click.UsageError(f"--jobs: got {jobs}; expected a number of processes, or -1.")
    hidden = not sys.stderr.isatty()
    with (
        _mapping(jobs) as map,
        click.progressbar(length=len(items), label=label, file=sys.stderr, hidden=hidden) as bar,
    ):
        return run(work, items, journal, model=model, map=map, resume=resume, progress=lambda *_: bar.update(1))


def refuse_failed(
    report: FolderReport, total: int, what: str = "file", called: Mapping[str, Any] | None = None
) -> None:
    """End with an error that lists what could not be used."""
    if report.errors:
        for name, message in report.errors.items():
            click.echo(f"{(called or {}).get(name, name)}: {message}", err=True)
        raise DataError(
            f"{len(report.errors)} of {counted(total, what)} could not be used: {few(list(report.errors))}."
        )


@contextmanager
def _mapping(jobs: int) -> Iterator[Any]:
    if jobs == 1:
        yield builtins.map
        return
    n, context = usable_processors() if jobs == -1 else jobs, multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, mp_context=context, initializer=_one_thread) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    """Keep the libraries that a process loads later from taking all processors."""
    os.environ["OMP_NUM_THREADS"] = "1"
