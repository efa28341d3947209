"""Elastic matching of closed outlines by dynamic programming, compiled on first use."""

from __future__ import annotations

from math import gcd

import numpy as np

from ._kernels import compiled

# How many steps of one outline may meet one step of the other: of random outlines 9 finds matches 0.2 % better, in
# twice the time, and 5 such as are 0.7 % worse.
_STEEPEST = 7
# Fraction of the length that a point may slide. From matched starts random outlines slide by 0.06; the rest of the
# table would be computed for nothing.
_BAND = 0.3
_STEPS = np.array([(i, j) for i in range(1, _STEEPEST + 1) for j in range(1, _STEEPEST + 1) if gcd(i, j) == 1])


def match(template: np.ndarray, specimen: np.ndarray, stretch: float) -> tuple[float, np.ndarray]:
    """Match the directions of two outlines that start at matching points; none slides more than 30 % of the length.

    Parameters
    ----------
    template, specimen : ndarray of shape (n, 2)
        Unit directions of n steps of equal length around each outline.
    stretch : float
        What stretching is charged beside turning.

    Returns
    -------
    energy : float
        The mean over the template of stretch (1 − √g)² + 2 √g (1 − cos θ), with g the stretch and θ the turn at a
        place.
    place : ndarray of shape (n + 1,)
        Where on the specimen, in steps from 0 to n, the nodes of the template lie; increasing.
    """
    cosines = np.ascontiguousarray(template @ specimen.T)
    energy, pairs = _match(cosines, _STEPS, stretch)
    return float(energy), pairs


@compiled
def _match(cosines, steps, stretch):
    n = len(cosines)
    energy = np.full((n + 1, n + 1), 1e300)  # above any sum of costs: out of reach
    energy[0, 0] = 0.0
    came = np.zeros((n + 1, n + 1), np.int16)
    width = int(_BAND * n) + 1
    for i in range(1, n + 1):
        for j in range(max(1, i - width), min(n, i + width) + 1):
            best, which = 1e300, 0
            for s in range(len(steps)):
                a, b = steps[s, 0], steps[s, 1]
                if a > i or b > j:
                    continue
                base = energy[i - a, j - b]
                if base >= best:
                    continue
                # The mean cosine over the two pieces, piece by piece where both are straight
                p, q, done, total = 0, 0, 0, 0.0
                while p < a:
                    to = min((p + 1) * b, (q + 1) * a)
                    total += (to - done) * cosines[i - a + p, j - b + q]
                    done = to
                    if to == (p + 1) * b:
                        p += 1
                    if to == (q + 1) * a:
                        q += 1
                root = np.sqrt(b / a)
                cost = base + a * (stretch * (1.0 - root) ** 2 + 2.0 * root * (1.0 - total / (a * b))) / n
                if cost < best:
                    best, which = cost, s
            energy[i, j] = best
            came[i, j] = which
    place = np.zeros(n + 1)
    i, j = n, n
    while i > 0:
        a, b = steps[came[i, j], 0], steps[came[i, j], 1]
        for s in range(a + 1):
            place[i - a + s] = j - b + b * s / a
        i, j = i - a, j - b
    return energy[n, n], place
