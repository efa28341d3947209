"""The inside of `shape_models.contours`: outlines as functions of length, their starts, and their matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage, optimize

from .curves import arc_lengths

_DENSE = 512  # samples of an outline for its start and turn
_COARSE, _FINE = 64, 160  # steps of an outline in matching: to find the start, and all
_NEAR = 4  # coarse steps to either side within which the start may move
_SMOOTH = 0.006  # of the length: how far directions are averaged, which takes the stairs of pixels out
_STILL = 1e-6  # change of the mean, of length 1, below which it has settled


class Outline:
    """A closed polygon as a function of the fraction of its length, from its first point on."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        along = arc_lengths(points, True)
        self.length = float(along[-1])
        self._along = along / self.length
        self._ring = np.concatenate([points, points[:1]])
        self._z = _complex(self._ring)

    def __call__(self, share: np.ndarray) -> np.ndarray:
        return _pairs(self.at(share))

    def at(self, share: np.ndarray) -> np.ndarray:
        """Return the points at fractions of the length, complex."""
        return np.asarray(np.interp(share % 1.0, self._along, self._z))

    def centre(self) -> np.ndarray:
        """Return the centroid of the line itself."""
        steps = np.diff(self._along)
        return np.asarray((0.5 * (self._ring[1:] + self._ring[:-1]) * steps[:, None]).sum(axis=0))

    def farthest(self) -> float:
        """Return the place of the point farthest from the centroid."""
        return float(self._along[np.argmax(((self.points - self.centre()) ** 2).sum(axis=1))])

    def topmost(self) -> float:
        """Return the place of the point with the least y."""
        return float(self._along[np.argmin(self.points[:, 1])])

    def directions(self, start: float, n: int) -> np.ndarray:
        """Return unit directions of n equal steps from a start, each averaged over its neighbourhood; complex."""
        fine = 4 * n
        z = self.at(start + np.arange(fine) / fine)
        steps = np.roll(z, -1) - z
        sigma = max(_SMOOTH * fine, 2.0)
        smooth = ndimage.gaussian_filter1d(steps.real, sigma, mode="wrap") + 1j * ndimage.gaussian_filter1d(
            steps.imag, sigma, mode="wrap"
        )
        coarse = smooth.reshape(n, 4).sum(axis=1)
        return np.asarray(coarse / np.maximum(np.abs(coarse), np.finfo(np.float64).tiny))


@dataclass(frozen=True, eq=False)
class Found:
    """Which places of the outlines correspond: of outline i, ``places[i]`` at fractions ``nodes`` of the template."""

    nodes: np.ndarray
    places: np.ndarray
    mean: np.ndarray
    energy: np.ndarray
    converged: bool

    def at(self, n: int) -> np.ndarray:
        """Return the places that correspond to n equal steps of the template, (n_outlines, n)."""
        wanted = np.arange(n) / n
        return np.stack([np.interp(wanted, self.nodes, place) for place in self.places])


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


def _unit(z: np.ndarray) -> np.ndarray:
    z = z - z.mean(axis=-1, keepdims=True)
    return np.asarray(z / np.linalg.norm(z, axis=-1, keepdims=True))


def overlap_of(one: np.ndarray, other: np.ndarray, steps: int = 0) -> float:
    """Return the overlap (Dice) of the regions in two closed polygons, on a grid of 1, or so many steps if finer."""
    from skimage.draw import polygon

    low, high = np.minimum(one.min(axis=0), other.min(axis=0)), np.maximum(one.max(axis=0), other.max(axis=0))
    finer = max(1.0, steps / max(float((high - low).max()), np.finfo(np.float64).tiny))
    low = np.floor(low) - 1 / finer
    masks = np.zeros((2, *(np.ceil((high - low) * finer).astype(int) + 2)[::-1]), dtype=bool)
    for mask, points in zip(masks, (one, other), strict=True):
        x, y = ((points - low) * finer).T
        mask[polygon(y, x, shape=mask.shape)] = True
    total = int(masks.sum())
    return 2.0 * float(masks.all(axis=0).sum()) / total if total else 0.0


def align_starts(outlines: Sequence[Outline], *, rotation: bool, max_iter: int = 30) -> Found:
    """Find the start of every outline by circular Procrustes alignment to the mean, which is taken anew until still."""
    steps = np.arange(_DENSE) / _DENSE
    spectra = [np.fft.fft(_unit(outline.at(steps))) for outline in outlines]
    starts = np.zeros(len(outlines))
    mean = _unit(outlines[0].at(outlines[0].farthest() + steps))
    if rotation:
        mean = mean / (mean[0] / abs(mean[0]))
    offsets: list[float] = []
    for round_ in range(max_iter):
        before, target = starts.copy(), np.conj(np.fft.fft(mean))
        aligned = np.empty((len(outlines), _DENSE), complex)
        offsets = []
        for i, outline in enumerate(outlines):
            agreement = np.fft.ifft(spectra[i] * target)
            starts[i] = int(np.argmax(np.abs(agreement) if rotation else agreement.real)) / _DENSE
            starts[i] = _refined(outline, starts[i], mean, rotation)
            z = _unit(outline.at(starts[i] + steps))
            inner = np.vdot(mean, z)
            # Two outlines at right angles to each other agree at no turn: any is as good, and nothing divides by zero.
            aligned[i] = z * np.conj(inner) / max(abs(inner), 1e-300) if rotation else z
            offsets.append(1 - (abs(inner) if rotation else inner.real) ** 2)
        mean = _unit(aligned.mean(axis=0))
        if round_ and np.abs((starts - before + 0.5) % 1 - 0.5).max() < _STILL:
            break
    return Found(
        nodes=np.array([0.0, 1.0]),
        places=np.stack([starts, starts + 1], axis=1),
        mean=np.stack([mean.real, mean.imag], axis=-1),
        energy=np.array([]),
        converged=True,
    )


def _refined(outline: Outline, start: float, mean: np.ndarray, rotation: bool) -> float:
    """Move a start within one sample, so that it does not depend on where the samples lie."""
    begin = start + np.arange(_DENSE) / _DENSE

    def loss(shift: float) -> float:
        z = outline.at(begin + shift)
        z -= z.mean()
        inner = np.vdot(mean, z) / np.sqrt(np.vdot(z, z).real)
        return float(-(abs(inner) if rotation else inner.real))

    # The best of the samples is at most one and a half from the best start.
    # The start is known to a billionth of the outline, less than float32 can tell.
    found = optimize.minimize_scalar(
        loss, bounds=(-1.5 / _DENSE, 1.5 / _DENSE), method="bounded", options={"xatol": 1e-9}
    )
    return float(start + found.x) % 1.0


def slide_along(
    outlines: Sequence[Outline], found: Found, *, rotation: bool, stretch: float, max_iter: int, tell: Any
) -> Found:
    """Match all outlines to a template that gets nearer to their mean, as long as that makes the energy smaller."""
    starts = found.places[:, 0]
    steps = np.arange(_DENSE) / _DENSE
    mean = _complex(found.mean)
    aligned = [_unit(outline.at(start + steps)) for outline, start in zip(outlines, starts, strict=True)]
    nearest = int(np.argmax([abs(np.vdot(mean, z)) if rotation else np.vdot(mean, z).real for z in aligned]))
    template = Outline(_turned(outlines[nearest], starts[nearest], mean, rotation))
    best, converged = found, False
    energies: list[float] = []
    for round_ in range(max_iter):
        matched, near = [], _NEAR if round_ == 0 else 1
        for outline, start in zip(outlines, starts, strict=True):
            matched.append(_matched(template, outline, start, rotation=rotation, stretch=stretch, near=near))
            tell("matching outlines", len(matched) + round_ * len(outlines), max_iter * len(outlines))
        energy = float(np.mean([one[0] for one in matched]))
        # Less than a ten-thousandth is no gain: the templates would go on to exchange single steps.
        if energies and not energy < energies[-1] * (1 - 1e-4):
            converged = True
            break
        energies.append(energy)
        places = np.stack([one[1] for one in matched])
        nodes = np.arange(_FINE + 1) / _FINE
        best = replace(found, nodes=nodes, places=places, energy=np.array(energies))
        starts = places[:, 0]
        template = Outline(_mean_outline(outlines, best, rotation))
    return replace(best, energy=np.array(energies), converged=converged)


def _turned(outline: Outline, start: float, mean: np.ndarray, rotation: bool) -> np.ndarray:
    """Return an outline from its start on, of size 1, turned to the mean."""
    z = _unit(outline.at(start + np.arange(_DENSE) / _DENSE))
    inner = np.vdot(mean, z)
    z = z * np.conj(inner) / abs(inner) if rotation else z
    return np.stack([z.real, z.imag], axis=-1)


def _mean_outline(outlines: Sequence[Outline], found: Found, rotation: bool) -> np.ndarray:
    """Return the Procrustes mean of matched outlines (its own alternation, a few rounds)."""
    places = found.at(_DENSE)
    z = np.stack([_unit(outline.at(place)) for outline, place in zip(outlines, places, strict=True)])
    mean = _unit(_complex(found.mean))
    for _ in range(5):
        inner = z @ np.conj(mean)
        mean = _unit((z * (np.conj(inner) / np.abs(inner))[:, None] if rotation else z).mean(axis=0))
    return np.stack([mean.real, mean.imag], axis=-1)


def _matched(
    template: Outline, outline: Outline, start: float, *, rotation: bool, stretch: float, near: int
) -> tuple[float, np.ndarray]:
    """Return the energy of the best match and the places of the outline at the steps of the template."""
    from ._elastic import match

    turn = 1.0 + 0j
    dense = np.arange(_DENSE) / _DENSE
    whole = _unit(template.at(dense))
    if rotation:
        inner = np.vdot(whole, _unit(outline.at(start + dense)))
        turn = np.conj(inner) / abs(inner)
    coarse = _pairs(template.directions(0.0, _COARSE))
    best = None
    for shift in sorted(range(-near, near + 1), key=abs):
        begin = start + 0.5 * shift / _COARSE
        energy, place = match(coarse, _pairs(turn * outline.directions(begin, _COARSE)), stretch)
        if best is None or energy < best[0]:
            best = energy, begin, place
    assert best is not None
    _, begin, place = best
    if rotation:  # the turn that fits the match
        z = outline.at(begin + place[:-1] / _COARSE)
        inner = np.vdot(template.at(np.arange(_COARSE) / _COARSE), z - z.mean())
        turn = np.conj(inner) / abs(inner)
    fine = _pairs(template.directions(0.0, _FINE))
    energy, place = match(fine, _pairs(turn * outline.directions(begin, _FINE)), stretch)
    return energy, begin + place / _FINE


def _pairs(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], axis=-1)


def refuse_crossing(points: np.ndarray, where: str) -> None:
    """Raise for a polygon whose edges cross."""
    n = len(points)
    after = np.roll(points, -1, axis=0)
    index = np.arange(n)
    for i in range(n - 2):
        others = index[i + 2 : n - 1 if i == 0 else n]
        a, b, c, d = points[i], after[i], points[others], after[others]
        low, high = np.minimum(a, b), np.maximum(a, b)
        close = ((np.maximum(c, d) >= low) & (np.minimum(c, d) <= high)).all(axis=1)
        if not close.any():
            continue
        c, d = c[close], d[close]
        apart = _side(a, b, c) * _side(a, b, d)
        across = _side(c, d, a) * _side(c, d, b)
        crossing = (apart < 0) & (across < 0)
        if crossing.any():
            j = int(others[close][np.argmax(crossing)])
            raise ValueError(
                f"{where}: got an outline that crosses itself, at the edges from points {i} and {j}; expected none "
                "that does. Try putting its points in order."
            )


def _side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    u, v = b - a, c - a
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
