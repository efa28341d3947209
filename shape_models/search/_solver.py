"""The search itself: evidence and plausible shapes in turn, from coarse to fine, for a batch of starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import gammaincc

from ._calibration import Calibration, landmark_features, result_features, spread_of
from ._crops import Squared
from ._frame import Fit, Frame
from ._images import ImageBank
from ._judge import appearance
from ._threads import serial
from .evidence import Evidence, Proposal, View, check_proposal
from .results import SearchResult, SearchStep

_DOUBTFUL = 0.05  # expected error, as a fraction of the size, above which an answer is doubted if it is not before
_OUTSIDE = 0.25  # of the landmarks: so many outside the image are no answer
# How near the best answer others say the same, in its expected error, and the power by which better ones count more:
# of 1 to 3 and 2 or 4, the best on hands, wings and portraits; with 2 far ones count too much.
_ALIKE, _SHARPER = 1.5, 4
_GROWN = np.log(3.0)  # change of the logarithm of the size beyond which a search has gone astray
FLOOR = 1e-3  # least weight of a landmark in a shape step: keeps pose and modes determined


@dataclass
class Search:
    """One search that can begin."""

    starts: np.ndarray
    size: np.ndarray
    bank: ImageBank | None
    maps: Any
    box: Any
    squared: Squared = field(default_factory=lambda: Squared(None))
    places: np.ndarray | None = None  # evidence of each of the places, see `Places`; None where the place was told

    @property
    def evidence(self) -> np.ndarray:
        """That of the place of each start."""
        assert self.places is not None
        return np.repeat(self.places, len(self.starts) // len(self.places), axis=0)


@dataclass
class Outcome:
    """Where searches from all starts have ended, and what the image says of each of them; (n, n_starts) first."""

    state: State
    view: View
    confidence: np.ndarray
    landmarks: np.ndarray
    features: np.ndarray
    score: np.ndarray
    distance: np.ndarray
    size: np.ndarray
    expected_error: np.ndarray
    lost: np.ndarray
    covariance: np.ndarray

    @property
    def points(self) -> np.ndarray:
        return np.asarray(self.state.points.reshape(*self.score.shape, *self.state.points.shape[1:]))


class State:
    """Where a batch of searches stands."""

    def __init__(self, fit: Fit, start: np.ndarray) -> None:
        n = len(start)
        self.start = start
        self.points, self.pose, self.coefficients = fit.points, fit.pose, fit.coefficients
        self.stayed = np.zeros(n)
        self.steps: list[list[SearchStep]] = [[] for _ in range(n)]

    def record(
        self, rows: np.ndarray, view: View, proposal: Proposal, fit: Fit, sizes: np.ndarray, stays: float
    ) -> np.ndarray:
        """Take one step over, and answer the fraction of landmarks that stayed."""
        before = self.points[rows]
        move = np.linalg.norm(fit.points - before, axis=-1)
        wish = np.linalg.norm(proposal.points - before, axis=-1)
        stayed = (np.minimum(wish, move) <= stays * view.pixel[:, None]).mean(axis=1)
        score = np.full(len(rows), np.nan) if proposal.score is None else proposal.score
        self.points[rows] = fit.points
        self.pose.a[rows], self.pose.b[rows] = fit.pose.a, fit.pose.b
        self.coefficients[rows] = fit.coefficients
        self.stayed[rows] = stayed
        outside = (~inside(fit.points, sizes[:, None])).sum(axis=1)
        columns = (column.tolist() for column in (rows, score, move.mean(axis=1), stayed, outside))
        for i, (row, *values) in enumerate(zip(*columns, strict=True)):
            shape, proposed = fit.points[i].copy(), np.array(proposal.points[i])
            rank, moved, still, out = values
            step = SearchStep(view.level, view.iteration, shape, proposed, rank, fit.clipped[i], moved, still, out)
            self.steps[row].append(step)
        return np.asarray(stayed)


@dataclass(frozen=True)
class Solver:
    """What a trained search needs to search.

    Attributes
    ----------
    frame : Frame
    evidence : Evidence
    resolutions : tuple of float
        Pixels along the longer side of the mean shape, from the coarsest level on.
    tolerance : float
        A level ends when at least this fraction of landmarks stays where it is.
    calibration : Calibration or None
    score_scale : tuple of float
        Mean and spread of the scores at the end of the training, for ranking answers where nothing was calibrated.
    """

    frame: Frame
    evidence: Evidence
    resolutions: tuple[float, ...]
    tolerance: float
    calibration: Calibration | None
    score_scale: tuple[float, float]

    def see(self, image: np.ndarray, start: np.ndarray, each: int | None = None) -> ImageBank:
        """Keep the part of an image that searches from these starts can see, so many `each` at a place of its own."""
        low, high = start.min(axis=1), start.max(axis=1)
        side = (high - low).max(axis=1)[:, None]
        region = (*(low - side).min(axis=0), *(high + side).max(axis=0))
        scale = float(self.frame.pose_of(start[:: each or len(start)]).scale.min())
        pixel = 0.5 * scale * self.frame.side / self.resolutions[-1]
        return ImageBank.build([image], [region], [pixel])

    def solve(self, searches: list[Search], max_iter: int | None = None) -> Outcome:
        """Search from all starts, as many for each and at as many places, and judge where each of them ended."""
        start = np.concatenate([search.starts for search in searches])
        state = State(self.frame.fit(start), start)
        whole = self._whole(searches, state)
        sizes = np.repeat([search.size for search in searches], len(searches[0].starts), axis=0)
        began = state.pose.scale * self.frame.side
        n_iter = self.evidence.n_iter if max_iter is None else min(max_iter, self.evidence.n_iter)
        if n_iter == 0:
            state.points = start.copy()
        every = np.arange(len(start))
        for level in range(len(self.resolutions)):
            active = every
            for iteration in range(n_iter):
                view, proposal = self._look(whole, state, active, level, iteration)
                fit = shape_step(self.frame, proposal)
                stayed = state.record(active, view, proposal, fit, sizes[active], self.evidence.stays)
                if self.evidence.stops:
                    active = active[stayed < self.tolerance]
                if not len(active):
                    break
        # What the image says of each answer, which is not moved any more.
        view, proposal = self._look(whole, state, every, len(self.resolutions) - 1, max(self.evidence.n_iter - 1, 0))
        return self._judged(searches, state, view, proposal, began, inside(state.points, sizes[:, None]))

    def _whole(self, searches: list[Search], state: State) -> View:
        """Return the view of all fits, as they begin."""
        index = np.repeat(np.arange(len(searches)), len(searches[0].starts))
        bank = None
        if self.evidence.needs_images:
            bank = ImageBank.join([search.bank for search in searches if search.bank is not None])
        context = {"maps": _given([search.maps for search in searches])}
        flip = np.zeros(len(index), dtype=bool)
        return View(state.start, 0, 0, self.resolutions[0], index, self.frame, bank, state.pose, flip, serial, context)

    def _look(self, whole: View, state: State, rows: np.ndarray, level: int, iteration: int) -> tuple[View, Proposal]:
        """Return how some of the fits look where they stand, and what the evidence proposes there."""
        view = replace(
            whole.take(rows), points=state.points[rows], level=level, iteration=iteration,
            resolution=self.resolutions[level], _pose=state.pose.take(rows),
        )  # fmt: skip
        proposal = self.evidence.locate(view)
        check_proposal(proposal, view, self.evidence)
        return view, proposal

    def _judged(
        self, searches: list[Search], state: State, view: View, proposal: Proposal, began: np.ndarray, seen: np.ndarray
    ) -> Outcome:
        """Return how right the answers are expected to be, whose sizes at the start were `began`."""
        shape, calibration = (len(searches), len(searches[0].starts)), self.calibration
        landmarks = landmark_features(proposal, state.points, view.pixel)
        distance = self._distance(state.coefficients)
        score = np.full(len(seen), np.nan) if proposal.score is None else np.asarray(proposal.score, dtype=float)
        features = result_features(landmarks, score, distance)
        size = state.pose.scale * self.frame.side
        astray = np.abs(np.log(np.maximum(size, 1e-300) / began)) > _GROWN
        size = np.where(astray, began, size)
        expected, lost = np.full(len(seen), np.nan), np.full(len(seen), 0.0 if searches[0].places is None else np.nan)
        covariance = np.full((*state.points.shape, 2), np.nan)
        if calibration is None:
            confidence = np.ones(seen.shape) if proposal.weights is None else np.asarray(proposal.weights, float)
        else:
            confidence = calibration.confidence(landmarks)
            if calibration.judge is not None:
                features = np.concatenate([features, calibration.judge(appearance(view))[:, None]], axis=1)
            points = state.points.reshape(*shape, *state.points.shape[1:])
            spread = spread_in_places(points, size.reshape(shape), searches[0])
            error = calibration.expected_error(features, spread)
            if searches[0].places is not None and calibration.lost is not None:
                places = np.concatenate([search.evidence for search in searches])
                lost = calibration.lost(features, spread, places)
                lost = np.where(astray | (seen.mean(axis=1) <= 1.0 - _OUTSIDE), 1.0, lost)
                error = calibration.lost.expected(lost, error)
            error = np.where(astray, 1.0, error)
            expected = error * size
            covariance = calibration.covariance(landmarks, error, state.pose.as_similarity().rotation, size)
        confidence = np.where(seen, confidence, 0.0)
        columns = (confidence, landmarks, features, score, distance, size, expected, lost, covariance)
        return Outcome(state, view, *(column.reshape(*shape, *column.shape[1:]) for column in columns))

    def cost(self, answer: SearchResult) -> float:
        """Return the expected error of an answer as a fraction of its size; where none is expected, less its merit."""
        assert answer.transform is not None
        if self.calibration is not None:
            return answer.expected_error / (float(np.asarray(answer.transform.scale)) * self.frame.side)
        distance = float(self._distance(answer.coefficients[None])[0])
        rank = (answer.score - self.score_scale[0]) / self.score_scale[1] if np.isfinite(answer.score) else 0.0
        return 0.5 * distance - rank

    def doubts(self, answer: SearchResult) -> bool:
        """Return whether an answer in a whole image may well be wrong, so that turned objects are to be looked for."""
        lost = None if self.calibration is None else self.calibration.lost
        return lost is not None and not self.cost(answer) <= min(_DOUBTFUL + lost.least * lost.error, 2 * lost.usual)

    def answer(self, outcome: Outcome, number: int, search: Search) -> SearchResult:
        """Return the best of the starts of one search, with what those that ended beside it say too."""
        state, n_starts = outcome.state, outcome.score.shape[1]
        expected, score, distance = (v[number] for v in (outcome.expected_error, outcome.score, outcome.distance))
        if np.isfinite(expected).all():
            chosen = int(np.argmin(expected / outcome.size[number]))
            self._agree(outcome, number, chosen, search.size)
        else:
            rank = np.where(np.isfinite(score), (score - self.score_scale[0]) / self.score_scale[1], 0.0)
            chosen = int(np.argmax(rank - 0.5 * distance))
        best = number * n_starts + chosen
        points = state.points[best]
        outside = n_outside(points, search.size)
        converged = bool(state.stayed[best] >= self.tolerance)
        status, message = ("converged", "") if converged else ("not converged", "")
        if outside >= _OUTSIDE * len(points):
            converged, status = False, "outside"
            message = f"{outside} of {len(points)} landmarks lie outside the image"
        n_modes = max(int((self.frame.variances > 0).sum()), 1)
        back, steps = search.squared.back, state.steps[best]
        scatter = None if self.calibration is None else self.calibration.scatter
        if not search.squared.same:
            steps = [replace(step, shape=back(step.shape), proposed=back(step.proposed)) for step in steps]
        return SearchResult(
            shape=back(points),
            confidence=outcome.confidence[number, chosen],
            plausibility=float(gammaincc(0.5 * n_modes, 0.5 * n_modes * distance[chosen])),
            score=float(score[chosen]),
            expected_error=float(expected[chosen]),
            lost=float(outcome.lost[number, chosen]),
            covariance=outcome.covariance[number, chosen] / np.outer(search.squared.factor, search.squared.factor),
            converged=converged,
            status=status,
            message=message,
            start=back(state.start[best]),
            transform=state.pose.take(best).as_similarity(),
            coefficients=state.coefficients[best],
            box=search.box,
            trace=tuple(steps),
            degrees_of_freedom=scatter.degrees if scatter is not None else np.inf,
        )

    def _agree(self, outcome: Outcome, number: int, chosen: int, size: np.ndarray) -> None:
        """Move an answer to the mean of those that may well be the same, the more of each the better it is expected."""
        state, points, expected = outcome.state, outcome.points[number], outcome.expected_error[number]
        best = number * len(points) + chosen
        near = np.linalg.norm(points - points[chosen], axis=-1).mean(axis=-1) <= _ALIKE * expected[chosen]
        if near.sum() == 1 or not state.steps[best]:
            return
        weights = near * (outcome.size[number] / expected) ** _SHARPER
        mean = np.tensordot(weights / weights.sum(), points, axes=1)
        fit = self.frame.fit(mean[None])
        last, move = state.steps[best][-1], np.linalg.norm(fit.points[0] - points[chosen], axis=-1).mean()
        state.points[best], state.coefficients[best] = fit.points[0], fit.coefficients[0]
        state.pose.a[best], state.pose.b[best] = fit.pose.a[0], fit.pose.b[0]
        step = replace(last, iteration=last.iteration + 1, shape=fit.points[0], proposed=mean, clipped=fit.clipped[0])
        state.steps[best].append(replace(step, move=float(move), n_outside=n_outside(fit.points[0], size)))
        outcome.distance[number, chosen] = self._distance(fit.coefficients)[0]

    def _distance(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the mean squared coefficient (n,), in variances of the modes."""
        used = self.frame.variances > 0
        return np.asarray((coefficients[:, used] ** 2 / self.frame.variances[used]).sum(axis=1) / max(used.sum(), 1))


def spread_in_places(points: np.ndarray, size: np.ndarray, search: Search) -> np.ndarray | None:
    """Return how far answers (n, s, K, 2) stand from the others at the same place, (n * s,); None where there are none.

    Places and starts are as many as those of one of the searches.
    """
    each = points.shape[1] // (1 if search.places is None else len(search.places))
    if each == 1:
        return None
    groups = points.reshape(-1, each, *points.shape[2:])
    return spread_of(groups, size.reshape(-1, each)).ravel()


def shape_step(frame: Frame, proposal: Proposal) -> Fit:
    """Fit pose and modes to what evidence proposes, weighted by its confidence."""
    weights = proposal.weights
    if weights is not None:
        weights = np.maximum(np.asarray(weights, dtype=np.float64), FLOOR)
    return frame.fit(
        np.asarray(proposal.points, dtype=np.float64),
        weights=weights,
        n_modes=proposal.n_modes,
        prior=proposal.prior * frame.side**2,
    )


def inside(points: np.ndarray, size: Any) -> np.ndarray:
    """Return which points lie in an image of `size` (width, height)."""
    return np.asarray(((points >= -0.5) & (points <= np.asarray(size) - 0.5)).all(axis=-1))


def n_outside(points: np.ndarray, size: np.ndarray) -> int:
    """Return how many points lie outside."""
    return int((~inside(points, size)).sum())


def _given(maps: list[Any]) -> Callable[[int], Any]:
    return lambda image: maps[image] if maps[image] is not None else no_maps(image)


def no_maps(image: int) -> Any:
    raise ValueError("heatmaps: got none; expected them for HeatMaps evidence.")
