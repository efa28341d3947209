"""An alignment fitted to shapes that come in chunks, one of them in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ._alignment import GeneralizedProcrustes
from ._array import as_shapes
from ._mean_shape import Mean, better_mirrored, fit_to_mean, mean_of_blocks, to_tangent, warn_of_mirrored
from ._similarity import as_similarity
from ._statistics import ShapeStatistics, each_chunk, map_chunks


def fit_in_chunks(
    alignment: GeneralizedProcrustes, chunks: object, *, load: Callable[[Any], Any] | None, map: Any
) -> ShapeStatistics:
    """Fit the alignment, in place, and return the statistics of the aligned shapes, one chunk in memory at a time."""
    if alignment.mirror is not None:
        raise ValueError("mirror: a symmetric mean is not learned from chunks. Try fit, or add the mirrored shapes.")
    rule = alignment._superimposition().rule()
    reflection = alignment.reflection

    event: list[int] = []  # of one shape, as the first look has it

    def blocks() -> Iterator[tuple[np.ndarray, None]]:
        # Looked into for the first shape only: the sums go through `mapper`, which loads chunks where it works.
        for block in (_block(item, load) for item in each_chunk(chunks)):
            if len(block[0]):
                event[:] = block[0].shape[1:]
                yield block

    def mapper(step: Callable[[Any], Any], _: Any) -> Iterator[Any]:
        sums = map_chunks(partial(_step, step=step, load=load, event=tuple(event)), chunks, map=map)
        return (part for part in sums if part is not None)

    found = mean_of_blocks(
        blocks, rule=rule, reflection=reflection, tol=alignment.tol, max_iter=alignment.max_iter, mapper=mapper
    )
    superimpose = partial(_superimpose, found=found, rule=rule, reflection=reflection, tangent=alignment.tangent)
    total: ShapeStatistics | None = None
    disparity, mirrored, distances = 0.0, [], []
    for statistics, squares, odd in mapper(superimpose, None):
        mirrored.append(odd + (0 if total is None else total.n_samples))
        distances.append(squares[odd])
        disparity += float(squares.sum())
        total = statistics if total is None else total.merge(statistics)
    assert total is not None
    alignment._keep(found, disparity, np.concatenate(mirrored))
    if not reflection:
        n = total.n_samples
        warn_of_mirrored(alignment.mirrored_, np.concatenate(distances), n, disparity / n)
    return total


def _superimpose(
    block: tuple[np.ndarray, None], *, found: Mean, rule: str, reflection: bool, tangent: bool
) -> tuple[ShapeStatistics, np.ndarray, np.ndarray]:
    shapes, _ = block
    fit = fit_to_mean(shapes, None, found, rule=rule, reflection=reflection)
    transform = as_similarity(fit)
    aligned = transform(shapes)
    squares = np.square(aligned - found.mean).sum(axis=(1, 2))
    mirrored = np.flatnonzero(transform.reflects) if reflection else better_mirrored(fit)
    if tangent:
        aligned = to_tangent(aligned, found.mean, None)
    return ShapeStatistics.from_shapes(aligned), squares, mirrored


def _step(item: Any, *, step: Callable[[Any], Any], load: Callable[[Any], Any] | None, event: tuple[int, ...]) -> Any:
    block = _block(item, load)
    if len(block[0]) and block[0].shape[1:] != event:
        raise ValueError(
            f"chunks: got shapes {event} and {block[0].shape[1:]}; expected the same landmarks and dimensions in every "
            "chunk."
        )
    return step(block) if len(block[0]) else None


def _block(item: Any, load: Callable[[Any], Any] | None) -> tuple[np.ndarray, None]:
    array = as_shapes(item if load is None else load(item), name="chunks", n_dims=(2, 3), min_samples=0, allow_nan=True)
    if np.isnan(array).any():
        raise ValueError(
            "chunks: got a missing landmark (NaN); expected complete shapes. Try fitting shapes with missing landmarks "
            "in memory, with AlignedASM.fit."
        )
    return array.astype(np.float64, copy=False), None
