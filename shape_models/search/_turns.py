"""Objects that are turned in the plane by any angle: searches from where an answer is turned to, and from all sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._solver import Solver
from .results import SearchResult

N_TURNS = 12  # angles: a start that is turned by 15 degrees still finds the shape
_UPRIGHT = np.deg2rad(12.0)  # answers turned by more begin anew from there
_DOUBTFUL = 0.75  # mean confidence below which other angles are tried: 19 in 20 upright faces of 300-W have more
# What an answer must have more to take the place of the first, begun anew and from other angles, and what it must have
# at all to be a face (see is_face): less leads some upright faces astray.
_MORE, _CLEARLY, _FACE = 0.02, 0.08, 0.65


def settle(
    solver: Solver,
    first: SearchResult,
    turned: Callable[[float], np.ndarray],
    again: Callable[[np.ndarray], list[SearchResult]],
    n_turns: int,
) -> SearchResult:
    """Return the answer that stands when the search has begun anew wherever the first one is turned or doubtful.

    `turned` gives the start at an angle, and `again` the answers from starts (n, K, 2).
    """
    frame = solver.frame

    def upright(answer: SearchResult) -> np.ndarray:
        return frame.pose_of(answer.shape[None])(frame.mean[None])

    def confidence(answer: SearchResult) -> float:
        return float(answer.confidence.mean())

    best = first
    turn = np.angle(frame.pose_of(first.shape[None]).a[0] * np.exp(-1j * frame.angle))
    if abs(turn) > _UPRIGHT:
        other = again(upright(first))[0]
        if confidence(other) > confidence(best) + _MORE:
            best = other
    if confidence(best) < _DOUBTFUL:
        tried = again(np.array([turned(2 * np.pi * k / n_turns) for k in range(1, n_turns)]))
        tried += again(upright(max(tried, key=confidence)))
        other = max(tried, key=confidence)
        if confidence(other) > max(confidence(best) + _CLEARLY, _FACE):
            best = other
    return best
