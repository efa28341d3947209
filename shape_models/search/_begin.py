"""From what was asked to searches that can begin, and to their answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import as_shapes
from ..boxes import check_boxes
from ._checks import check_alike, check_jitter, check_start, numbers
from ._crops import Squared
from ._fitter import Searches
from ._images import read_image
from ._requests import Request
from ._solver import FLOOR, Search, no_maps
from ._starts import start_from_peaks, starts_about
from ._turns import settle
from .heatmaps import check_maps
from .results import SearchResult

_N_LOOKED_FOR = 40  # starts where nobody says where the object is
_EACH = 5  # of them at each of the places that look most like the object


def search(
    fitter: Searches, asked: list[Request], name: str | None, n_starts: int | None, n_turns: int, max_iter: int | None,
    strict: bool,
) -> list[SearchResult]:  # fmt: skip
    """Answer requests; one that is not possible raises where `strict`, and has a status of its own otherwise."""
    results: list[Any] = [None] * len(asked)
    begun: dict[tuple[int, int | None], list[tuple[int, Search]]] = {}
    for i, request in enumerate(asked):
        try:
            one = begin(fitter, request, name, n_starts)
        except ValueError as error:
            if strict:
                raise
            results[i] = _failed(fitter, "error", str(error))
            continue
        if one is None:
            results[i] = _failed(fitter, "no face", "no face was found")
        else:
            n_places = None if one.places is None else len(one.places)
            begun.setdefault((len(one.starts), n_places), []).append((i, one))
    solver = fitter._solver()
    for several in begun.values():
        outcome = solver.solve([search for _, search in several], max_iter)
        for j, (i, search) in enumerate(several):
            results[i] = solver.answer(outcome, j, search)
            if n_turns > 1 and search.box is not None and search.squared.same and fitter.calibration_ is not None:
                results[i] = _settled(fitter, asked[i], search, results[i], n_turns)
            elif search.places is not None and solver.doubts(results[i]):
                other = begin(fitter, asked[i], name, n_starts, wide=True)
                assert other is not None
                wide = solver.answer(solver.solve([other], max_iter), 0, other)
                results[i] = min(results[i], wide, key=solver.cost)
    return results


def _settled(fitter: Searches, request: Request, search: Search, first: SearchResult, n_turns: int) -> SearchResult:
    """Search anew where an answer is turned or doubtful."""
    solver, box = fitter._solver(), np.array([search.box])

    def turned(angle: float) -> np.ndarray:
        return np.asarray(fitter.box_.place(box, fitter._frame, turn=angle)[0])

    def again(starts: np.ndarray) -> list[SearchResult]:
        bank = solver.see(read_image(request.image), starts) if fitter.evidence_.needs_images else None
        others = [Search(start[None], search.size, bank, search.maps, search.box) for start in starts]
        outcome = solver.solve(others)
        return [solver.answer(outcome, j, other) for j, other in enumerate(others)]

    return settle(solver, first, turned, again, n_turns)


def _failed(fitter: Searches, status: str, message: str) -> SearchResult:
    return SearchResult.failed(fitter.n_landmarks_, len(fitter._frame.variances), status=status, message=message)


def begin(
    fitter: Searches, request: Request, name: str | None, n_starts: int | None, *, wide: bool = False
) -> Search | None:
    """Read an image and find the starts in it; None where no face is found.

    Where nobody says where the object is, it is looked for; with `wide` also turned by any angle and of other sizes.
    """
    image = read_image(request.image)
    squared = Squared(request.spacing)
    image = squared.image(image)
    height, width = image.shape[:2]
    maps = None if request.maps is None else check_maps(request.maps, fitter.n_landmarks_, (width, height))
    if maps is None and fitter.evidence_.needs_maps:
        no_maps(request.number)
    box = None
    if name == "boxes":
        given = squared.boxes(numbers(request.given, (4,), "boxes"))
        box = check_boxes(given, (width, height), n=1)[0]
    elif name is None and maps is None and fitter.detection_ is not None:
        box = _detect(fitter, image)
        if box is None:
            return None
    if box is not None:
        shape = fitter.box_.place(box[None], fitter._frame)[0]
    elif name is not None:
        shape = squared(numbers(request.given, (fitter.n_landmarks_, 2), name))
        shape = as_shapes(shape, name=name, n_landmarks=fitter.n_landmarks_, n_dims=2).astype(np.float64)
        if not np.ptp(shape, axis=0).max() > 0:
            raise ValueError(f"{name}: got landmarks that all coincide; expected a shape with extent.")
        if name == "initial":
            check_alike(shape, fitter.asm_)
    elif maps is not None:
        shape = start_from_peaks(maps, fitter._frame, FLOOR)
    else:
        # Without a calibration answers at different places cannot be told apart as well as the places themselves.
        return look_for(fitter, image, squared, n_starts, wide=wide, several=fitter.calibration_ is not None)
    check_start(shape, image)
    if maps is not None and not fitter.evidence_.needs_images:
        _check_maps(maps)
    several = starts_about(shape, n_starts or 1, check_jitter(fitter.jitter), fitter.random_state)
    bank = fitter._solver().see(image, several) if fitter.evidence_.needs_images else None
    corners = None if box is None else tuple(squared.back(box.reshape(2, 2)).ravel().tolist())
    return Search(several, np.array([width, height]), bank, maps, corners, squared)


def look_for(
    fitter: Searches, image: np.ndarray, squared: Squared, n_starts: int | None = None, *, wide: bool = False,
    several: bool = True,
) -> Search:  # fmt: skip
    """Return a search with several starts at each of the places that look most like the object, or at one alone."""
    solver, frame, placement, locator = fitter._solver(), fitter._frame, fitter.placement_, fitter._locator
    assert placement is not None
    assert locator is not None
    size, count = np.array(image.shape[1::-1]), n_starts or _N_LOOKED_FOR
    sides, turns = placement.grid(size, squared.unit, wide=wide)
    n_places = max(1, count // _EACH) if several else 1
    places, evidence = locator.find(locator.see(image, sides), frame, sides, turns, n_places)
    each, jitter = count // n_places, check_jitter(fitter.jitter)
    starts = np.concatenate([starts_about(shape, each, jitter, fitter.random_state) for shape in places])
    bank = solver.see(image, starts, each) if fitter.evidence_.needs_images else None
    return Search(starts, size, bank, None, None, squared, evidence)


def _detect(fitter: Searches, image: np.ndarray) -> np.ndarray | None:
    from .detection import detected

    assert fitter.detection_ is not None
    found = detected(image, fitter.detection_, getattr(fitter, "_detector", None))
    return found[0] if len(found) else None


def _check_maps(given: tuple[np.ndarray, np.ndarray]) -> None:
    n = np.count_nonzero(given[0].max(axis=(1, 2)) > 0)
    if n < 3:
        raise ValueError(f"heatmaps: got {n} maps with anything in them; expected at least three.")
