"""Threads for work that releases the interpreter, and how it is shared among them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from .._array import as_count
from .._options import usable_processors


def n_threads(n_jobs: int | None) -> int:
    if n_jobs is None:
        return 1
    if n_jobs == -1:
        return usable_processors()
    return as_count(n_jobs, "n_jobs", expected="a positive number, -1 or None")


def serial(run: Callable[[int, int], None], n: int) -> None:
    run(0, n)


class Threads:
    """A function (run, n) that calls run(start, stop) over 0...n in threads; run must release the interpreter."""

    def __init__(self, n_jobs: int | None) -> None:
        self.n = n_threads(n_jobs)

    def __enter__(self) -> Callable[[Callable[[int, int], None], int], None]:
        self.pool = ThreadPoolExecutor(self.n) if self.n > 1 else None
        return self.split

    def split(self, run: Callable[[int, int], None], n: int) -> None:
        if self.pool is None:
            return run(0, n)
        edges = np.linspace(0, n, min(n, 8 * self.n) + 1).astype(int)
        for future in [self.pool.submit(run, int(a), int(b)) for a, b in pairwise(edges)]:
            future.result()
        return None

    def __exit__(self, *_: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown()


def in_chunks(run: Callable[[int, int], list[Any]], n: int, n_jobs: int | None, size: int) -> list[Any]:
    """Return the results of run(first, last) over 0...n, at most `size` at once, in threads where there are several."""
    threads = n_threads(n_jobs)
    spans = list(pairwise([*range(0, n, max(1, min(size, -(-n // threads)))), n]))
    if len(spans) > 1 and threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda span: run(*span), spans))
    else:
        parts = [run(*span) for span in spans]
    return [result for part in parts for result in part]
