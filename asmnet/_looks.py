"""Looks at faces: one of them, and as many as it takes until the crop is the one that the landmarks ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from asmnet._crops import Crops, cut_faces, tight_boxes
from asmnet._inference import Answers, predict_batch
from asmnet._preprocessing import Preprocessing
from asmnet.uncertainty import planar_turn
from shape_models import ShapeBasis

# When the first crop was right, by what 98 of 100 faces of the validation part of 300-W keep to, cut out by their true
# boxes: the box of the answer differs by at most this fraction of its larger side, the face is turned by at most this
# angle, and the mean squared coefficient of the shape model in the crop is at most this.
BOX_TOLERANCE, TURN_TOLERANCE, SHAPE_TOLERANCE = 0.11, np.deg2rad(14.0), 2.0
# Two answers for one face, from crops of which the second was turned upright and centred by the first, differ by a
# fraction of its size: by asmnet-68 on the 259 faces of 300-W val, more than 0.02 for one that stands upright, and for
# all that lie on their side and are lost unless another orientation is tried (three of them between 0.02 and 0.03).
AGREEMENT = 0.02
# Views to average over: shifts in sides of the box, and scales. On 60 faces of 300-W val hourglass-68 is off by 3.41 %
# of the eye distance in one view, 3.35 in the three of other sizes and 3.32 in all seven. Sizes 2 or 20 % apart gain
# half as much as 5 to 10 %, and shifts of 0.01 nothing; from 0.03 to 0.1 they are alike.
_SCALED = tuple((0.0, 0.0, scale) for scale in (1.0, 0.95, 1.05))
VIEWS = (*_SCALED, (0.03, 0.0, 1.0), (-0.03, 0.0, 1.0), (0.0, 0.03, 1.0), (0.0, -0.03, 1.0))


@dataclass(frozen=True)
class Look:
    """Cuts faces out of images and runs the network on them; averages over shifted and scaled crops."""

    network: nn.Module
    form: Preprocessing
    images: Sequence[np.ndarray]
    mirror: Sequence[int] | np.ndarray | None
    n_views: int
    batch_size: int
    device: torch.device
    maps: bool
    convention: str

    def __call__(self, owner: np.ndarray, crops: Crops) -> Answers:
        """Look at faces, each in the image of its owner; the heat maps are those of the first view."""
        first, *others = (self._run(owner, crops.viewed(*view), self.maps and view is VIEWS[0]) for view in self.views)
        if not others:
            return first
        columns = zip(*(answers[:3] for answers in (first, *others)), strict=True)
        landmarks, pose, depth = (None if column[0] is None else np.mean(column, axis=0) for column in columns)
        assert landmarks is not None
        return Answers(landmarks, pose, depth, first.maps, first.matrices)

    @property
    def views(self) -> Sequence[tuple[float, float, float]]:
        """Shifts and scales of the crops to average over."""
        return VIEWS[: self.n_views]

    def _run(self, owner: np.ndarray, crops: Crops, maps: bool) -> Answers:
        frames = crops.frames(self.form)
        parts = []
        for start in range(0, len(owner), self.batch_size):
            rows = slice(start, start + self.batch_size)
            own = frames.rows(rows)
            pixels = cut_faces([self.images[k] for k in owner[rows]], own, self.form.size).to(self.device)
            images = self.form.normalise(pixels)
            parts.append(predict_batch(self.network, images, own, self.mirror, maps=maps, convention=self.convention))
        return Answers.joined(parts)


@dataclass(frozen=True)
class Settling:
    """Looks again at faces whose crops their landmarks do not ask for.

    Parameters
    ----------
    form : Preprocessing
        Of the network.
    basis : ShapeBasis or None
        Shapes in crop units.
    upright : ndarray of shape (K, 2) or None
        The mean shape, from which faces are seen to be turned; without it none is turned.
    """

    form: Preprocessing
    basis: ShapeBasis | None
    upright: np.ndarray | None

    def upright_crops(self, points: np.ndarray) -> Crops:
        """Return the tight boxes of landmarks, turned as they are."""
        crops = Crops.of_boxes(tight_boxes(points))
        return crops.around(points, self._turns(points, crops))

    def __call__(
        self, look: Look, owner: np.ndarray, crops: Crops, n_passes: int | None, *, known: bool = False
    ) -> tuple[Crops, Answers]:
        """Look `n_passes` times, or until the crop is the one that the landmarks ask for; `known`: it is upright."""
        answer = look(owner, crops)
        if n_passes is not None:
            for _ in range(n_passes - 1):
                crops = crops.around(answer.landmarks, self._turns(answer.landmarks, crops))
                answer = look(owner, crops)
            return crops, answer
        fits = self._fits(crops, answer)
        # A face that lies may fit by chance: only a second look, cut out anew, tells.
        rows = np.flatnonzero(~fits | (self.upright is not None and not known))
        if not len(rows):
            return crops, answer
        used, again, apart = self._again(look, owner[rows], crops.rows(rows), answer.rows(rows), 1)
        # Of 259 faces of 300-W val turned by 90 degrees light-68 looked at two twice alike, and wrong: strange shapes.
        doubted = (apart > AGREEMENT) | (not known and self._strangeness(used, again) > SHAPE_TOLERANCE)
        at, turned, strays = np.flatnonzero(doubted), np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if len(at) and self.upright is not None:
            doubtful = rows[at]
            # As it was given the face has been looked at twice already.
            tried = [self._again(look, owner[doubtful], used.rows(at), again.rows(at), 1)]
            for k in range(1, 4):
                start = crops.rows(doubtful).turned(k * np.pi / 2)
                tried.append(self._again(look, owner[doubtful], start, look(owner[doubtful], start), 2))
            # On 100 faces of 300-W val, plain, covered, turned by 60, 90 and 180 degrees and in boxes off by 20 %, how
            # far the last two answers are apart told which orientation is right, and the shape did not. The given
            # orientation stands unless another one is three times as stable: of 259 faces turned by 90 degrees, those
            # that are lost in the given one are at least five times as stable in the right one; a profile in a loose
            # box was twice as stable laid on its side.
            scores = np.array([apart for _, _, apart in tried]) * np.array([1 / 3, 1, 1, 1])[:, None]
            best = np.argmin(np.nan_to_num(scores, nan=np.inf), axis=0)
            for k, (own, found, _) in enumerate(tried):
                here = np.flatnonzero(best == k)
                used, again = _put(used, at[here], own, here), _put(again, at[here], found, here)
            # Each look is cut out by the one before: where they draw apart from a first one that fitted, as on faces in
            # the dark of 300-W val (7 % of the eye distance off at first, 45 % at the third look), that one stands.
            turned[at] = best > 0
            strays[at] = fits[doubtful] & (best == 0) & (tried[0][2] > apart[at])
        # Where both agree, the first stands.
        better = np.flatnonzero((~fits[rows] | (apart > AGREEMENT) | turned) & ~strays)
        return _put(crops, rows[better], used, better), _put(answer, rows[better], again, better)

    def _again(
        self, look: Look, owner: np.ndarray, crops: Crops, answer: Answers, n: int
    ) -> tuple[Crops, Answers, np.ndarray]:
        """Look `n` times more; also say by what fraction of the face the last answer differs from the one before."""
        for _ in range(n):
            before = answer.landmarks
            crops = crops.around(before, self._turns(before, crops))
            answer = look(owner, crops)
        distance = np.linalg.norm(answer.landmarks - before, axis=2)
        known = np.isfinite(distance)
        mean = np.where(known, distance, 0).sum(1) / np.maximum(known.sum(1), 1)
        return crops, answer, np.where(known.any(1), mean, np.inf) / crops.sides.max(1)

    def _fits(self, crops: Crops, answer: Answers) -> np.ndarray:
        """Whether the crops are those that the answers ask for."""
        asked = crops.around(answer.landmarks, crops.turns)
        off = np.abs(asked.boxes - crops.boxes).max(1) / asked.sides.max(1)
        turned = np.remainder(self._turns(answer.landmarks, crops) - crops.turns + np.pi, 2 * np.pi) - np.pi
        fits = (off <= BOX_TOLERANCE) & (np.abs(turned) <= TURN_TOLERANCE)
        return np.asarray(fits & ~(self._strangeness(crops, answer) > SHAPE_TOLERANCE))

    def _strangeness(self, crops: Crops, answer: Answers) -> np.ndarray:
        """Return the mean squared coefficient of the shape model of the crops, 1 for usual faces; 0 without one."""
        out = np.zeros(len(crops.turns))
        if self.basis is not None:
            units = crops.frames(self.form).to_units(torch.from_numpy(answer.landmarks)).numpy()
            whole = np.isfinite(units).all((1, 2))
            out[~whole] = np.inf
            if whole.any():
                b = np.asarray(self.basis.encode(units[whole]))
                out[whole] = (b**2 / np.asarray(self.basis.variances)).mean(1)
        return out

    def _turns(self, points: np.ndarray, crops: Crops) -> np.ndarray:
        """Angles of the similarities that bring the upright mean shape to landmarks; those of the crops without one."""
        if self.upright is None:
            return crops.turns
        factor = planar_turn(self.upright, points)
        return np.where(np.isfinite(factor), np.angle(factor), crops.turns)


_Rows = TypeVar("_Rows", Crops, Answers)


def _put(into: _Rows, where: np.ndarray, values: _Rows, which: np.ndarray) -> _Rows:
    """Return rows `which` of `values` in the rows `where` of a copy of `into`."""
    parts: list[Any] = []
    for old, new in zip(into, values, strict=True):
        part = None if old is None else old.copy()
        if part is not None and new is not None:
            part[where] = new[which]
        parts.append(part)
    return type(into)(*parts)
