"""Records, small matrices and sums within the compiled loops of the fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._kernels import inner

FULL, PARTIAL, RIGID, TANGENT = 0, 1, 2, 3


class Known(NamedTuple):
    """What is known of each landmark of each shape."""

    seen: Any  # (n, K) bool
    variance: Any  # (n, K) of the error
    matrix: Any  # (n, K, d, d) of the error, or (0, 0, 0, 0): then `variance` is meant
    imaged: Any  # in the units of the points, not those of the model


class Gaussian(NamedTuple):
    """A Gaussian of whole shapes with a free pose, as `_normal.Normal` has it."""

    mean: Any  # (p,)
    rows: Any  # (q, p)
    outer: Any  # (K, q (q + 1) / 2), lower triangles of Bₖ Bₖ'
    ridge: Any  # (q,)
    gram: Any  # (q, q) of all landmarks, and the ridge
    noise: Any
    precision: Any  # (p, p), or (0, 0): only by the rows


class Target(NamedTuple):
    """What whole shapes are superimposed on, and how."""

    mean: Any  # (p,)
    rule: Any
    inflation: Any


@inner
def dots(rows, x, out):
    """Write the products of the rows with x."""
    q, p = rows.shape
    i = 0
    while i + 4 <= q:
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for j in range(p):
            v = x[j]
            s0 += r0[j] * v
            s1 += r1[j] * v
            s2 += r2[j] * v
            s3 += r3[j] * v
        out[i], out[i + 1], out[i + 2], out[i + 3] = s0, s1, s2, s3
        i += 4
    while i < q:
        s0 = 0.0
        for j in range(p):
            s0 += rows[i, j] * x[j]
        out[i] = s0
        i += 1


@inner
def mix(rows, u, out):
    """Write Σ uᵢ rowᵢ."""
    q, p = rows.shape
    for j in range(p):
        out[j] = 0.0
    i = 0
    while i + 4 <= q:
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        a0, a1, a2, a3 = u[i], u[i + 1], u[i + 2], u[i + 3]
        for j in range(p):
            out[j] += a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
        i += 4
    while i < q:
        a0 = u[i]
        for j in range(p):
            out[j] += a0 * rows[i, j]
        i += 1


@inner
def cholesky(a, n):
    """Put the factor of the lower triangle in its place."""
    for j in range(n):
        own = a[j]
        s0 = 0.0
        for c in range(j):
            s0 += own[c] * own[c]
        pivot = own[j] - s0  # of a singular matrix nothing is left but rounding
        own[j] = np.sqrt(pivot) if pivot > 1e-15 * own[j] else np.sqrt(1e-15 * abs(own[j]) + 1e-300)
        f = 1.0 / own[j]
        i = j + 1
        while i + 4 <= n:
            r0, r1, r2, r3 = a[i], a[i + 1], a[i + 2], a[i + 3]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for c in range(j):
                v = own[c]
                s0 += r0[c] * v
                s1 += r1[c] * v
                s2 += r2[c] * v
                s3 += r3[c] * v
            r0[j] = (r0[j] - s0) * f
            r1[j] = (r1[j] - s1) * f
            r2[j] = (r2[j] - s2) * f
            r3[j] = (r3[j] - s3) * f
            i += 4
        while i < n:
            r0 = a[i]
            s0 = 0.0
            for c in range(j):
                s0 += r0[c] * own[c]
            r0[j] = (r0[j] - s0) * f
            i += 1


@inner
def invert_factor(a, n, out):
    """Write the inverse of a lower triangle, zeros above it."""
    for r in range(n):
        row, factor = out[r], a[r]
        for c in range(n):
            row[c] = 0.0
        s = 0
        while s + 4 <= r:
            r0, r1, r2, r3 = out[s], out[s + 1], out[s + 2], out[s + 3]
            f0, f1, f2, f3 = factor[s], factor[s + 1], factor[s + 2], factor[s + 3]
            for c in range(s + 4):
                row[c] -= f0 * r0[c] + f1 * r1[c] + f2 * r2[c] + f3 * r3[c]
            s += 4
        while s < r:
            r0, f0 = out[s], factor[s]
            for c in range(s + 1):
                row[c] -= f0 * r0[c]
            s += 1
        f0 = 1.0 / factor[r]
        for c in range(r):
            row[c] *= f0
        row[r] = f0


@inner
def forward(a, n, b):
    for i in range(n):
        row = a[i]
        s = 0.0
        for c in range(i):
            s += row[c] * b[c]
        b[i] = (b[i] - s) / row[i]


@inner
def backward(a, n, b):
    for i in range(n - 1, -1, -1):
        row = a[i]
        s = b[i] / row[i]
        b[i] = s
        for c in range(i):
            b[c] -= s * row[c]


@inner
def invert(m, d, out):
    """Write the inverse of a symmetric positive matrix of two or three rows, by M = L D L'.

    The determinant would lose a direction whose error is 1e-8 of another's in the cancelling of its products.
    """
    first = m[0, 0]
    l10 = m[0, 1] / first
    second = max(m[1, 1] - l10 * m[0, 1], 1e-15 * m[1, 1])
    if d == 2:
        out[0, 0], out[1, 1] = 1.0 / first + l10 * l10 / second, 1.0 / second
        out[0, 1] = out[1, 0] = -l10 / second
    else:
        l20 = m[0, 2] / first
        rest = m[1, 2] - l20 * m[0, 1]
        l21 = rest / second
        third = max(m[2, 2] - l20 * m[0, 2] - l21 * rest, 1e-15 * m[2, 2])
        k20 = l21 * l10 - l20
        out[0, 0] = 1.0 / first + l10 * l10 / second + k20 * k20 / third
        out[1, 1], out[2, 2] = 1.0 / second + l21 * l21 / third, 1.0 / third
        out[0, 1] = out[1, 0] = -l10 / second - k20 * l21 / third
        out[0, 2] = out[2, 0] = k20 / third
        out[1, 2] = out[2, 1] = -l21 / third


@inner
def median(values, weights, equal):
    """Return the first value up to which more than half of the weight lies."""
    n = len(values)
    if equal:
        return np.partition(values, n // 2)[n // 2]
    order = np.argsort(values)
    total = 0.0
    for j in order:
        total += weights[j]
    running = 0.0
    for j in order:
        running += weights[j]
        if running > (0.5 + 1e-12) * total:  # equal weights make ties, which rounding must not break
            return values[j]
    return values[order[n - 1]]
