"""Loops over many complete shapes, compiled on first use and kept on disk.

Imported only by functions that are about to work on large arrays. Sums run in float64 whatever the input; the flags let
the compiler reorder them, nothing more (NaN and infinity never get here).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

FULL, PARTIAL, RIGID = 0, 1, 2


F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, **more: Any) -> F:
    options: dict[str, Any] = {
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
        "error_model": "numpy",
        "nogil": True,
        **more,
    }
    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written for the cache
        made = numba.njit(**options)(function)
    return made


def inner(function: F, **more: Any) -> F:
    """Compile a function into each compiled function that calls it.

    A call that is left would go to one translation in the process that compiles and to another in those that read the
    cache, with other last digits.
    """
    return compiled(function, forceinline=True, **more)


@inner
def _centred_2d(flat, i, z):
    """Write shape i, centred, to z; return the centroid and the scatter."""
    k = flat.shape[1] // 2
    cx, cy = 0.0, 0.0
    for j in range(k):
        cx += flat[i, 2 * j]
        cy += flat[i, 2 * j + 1]
    cx, cy = cx / k, cy / k
    scatter = 0.0
    for j in range(k):
        u, v = flat[i, 2 * j] - cx, flat[i, 2 * j + 1] - cy
        z[2 * j], z[2 * j + 1] = u, v
        scatter += u * u + v * v
    return cx, cy, scatter


@compiled
def pair_2d(x, y, n, out):
    """Fit x[i] to y[i]; a single shape stands for all.

    Columns of `out`: real and imaginary part of Σ conj(x) y about the centroids, the same for mirrored x (its second
    coordinate negated), the scatters of x and y, the centroids of x and y.
    """
    k = x.shape[1]
    u, v, turned = np.empty(2 * k), np.empty(2 * k), np.empty(2 * k)
    flat_x, flat_y = x.reshape(len(x), 2 * k), y.reshape(len(y), 2 * k)
    for i in range(n):
        if i == 0 or len(x) > 1:
            cx, cy, xx = _centred_2d(flat_x, i, u)
        if i == 0 or len(y) > 1:
            ex, ey, yy = _centred_2d(flat_y, i, v)
            for j in range(k):
                turned[2 * j], turned[2 * j + 1] = v[2 * j + 1], -v[2 * j]
        even_re, odd_re, even_im, odd_im = 0.0, 0.0, 0.0, 0.0
        for j in range(k):
            even_re += u[2 * j] * v[2 * j]
            odd_re += u[2 * j + 1] * v[2 * j + 1]
        for j in range(k):
            even_im += u[2 * j] * turned[2 * j]
            odd_im += u[2 * j + 1] * turned[2 * j + 1]
        out[i, 0], out[i, 1] = even_re + odd_re, even_im + odd_im
        out[i, 2], out[i, 3] = even_re - odd_re, even_im - odd_im
        out[i, 4], out[i, 5] = xx, yy
        out[i, 6], out[i, 7], out[i, 8], out[i, 9] = cx, cy, ex, ey


@compiled
def step_2d(x, mean, rule, first, total, drift):
    """Add up shapes fitted to a centred mean, of size 1 except under RIGID.

    Adds Σ y to `total` and, with `first`, the centred inputs of size 1 to `drift`; returns Σ cos² and the smallest
    ratio of a scatter to the sum of squared coordinates.
    """
    n, k = x.shape[0], x.shape[1]
    flat = x.reshape(n, 2 * k)
    z = np.empty(2 * k)
    m = mean.copy().reshape(2 * k)
    turned = np.empty(2 * k)  # i times the mean
    s_re, s_im, start = np.zeros(2 * k), np.zeros(2 * k), np.zeros(2 * k)
    for j in range(k):
        turned[2 * j], turned[2 * j + 1] = -m[2 * j + 1], m[2 * j]
    explained, least = 0.0, np.inf
    for i in range(n):
        cx, cy, xx = _centred_2d(flat, i, z)
        least = min(least, xx / (xx + k * (cx * cx + cy * cy) + 1e-300))
        re, im = 0.0, 0.0
        for j in range(2 * k):
            re += z[j] * m[j]
            im += z[j] * turned[j]
        safe = xx if xx > 0 else 1.0
        explained += (re * re + im * im) / safe
        if rule == 0:
            factor = 1 / safe
        else:
            gain = np.sqrt(re * re + im * im)
            factor = (1 / np.sqrt(safe) if rule == 1 else 1.0) / (gain if gain > 0 else 1.0)
        re, im = re * factor, im * factor
        for j in range(2 * k):
            s_re[j] += re * z[j]
        for j in range(2 * k):
            s_im[j] += im * z[j]
        if first:
            r = 1 / np.sqrt(safe)
            for j in range(2 * k):
                start[j] += r * z[j]
    for j in range(k):  # conj(re + i im) z
        total[j, 0] += s_re[2 * j] + s_im[2 * j + 1]
        total[j, 1] += s_re[2 * j + 1] - s_im[2 * j]
        drift[j, 0] += start[2 * j]
        drift[j, 1] += start[2 * j + 1]
    return explained, least


@compiled
def normalise_2d(x, z, size, centre, drift):
    """Write the centred shapes of size 1 to z (n, 2 k), their sizes and centroids; add them up in `drift` (2 k)."""
    n, k = len(x), x.shape[1]
    flat = x.reshape(n, 2 * k)
    for i in range(n):
        row = z[i]
        cx, cy, scatter = _centred_2d(flat, i, row)
        root = np.sqrt(scatter)
        factor = 1 / root if root > 0 else 0.0
        size[i], centre[i, 0], centre[i, 1] = root, cx, cy
        for j in range(2 * k):
            row[j] *= factor
        for j in range(2 * k):
            drift[j] += row[j]


@compiled
def moment_times(z, m, turned, out):
    """Write Σ z (zᴴ m) for complex rows z and m, `turned` = i m, all as (re, im) pairs; return Σ |zᴴ m|²."""
    n, k2 = z.shape
    s_re, s_im = np.zeros(k2), np.zeros(k2)
    total = 0.0
    for i in range(n):
        row = z[i]
        re, im = 0.0, 0.0
        for j in range(k2):
            re += row[j] * m[j]
            im += row[j] * turned[j]
        total += re * re + im * im
        for j in range(k2):
            s_re[j] += re * row[j]
        for j in range(k2):
            s_im[j] += im * row[j]
    for j in range(k2 // 2):  # zᴴ m = re - i im
        out[2 * j] = s_re[2 * j] + s_im[2 * j + 1]
        out[2 * j + 1] = s_re[2 * j + 1] - s_im[2 * j]
    return total


@compiled
def superimpose_2d(z, m, turned, inflation, out):
    """Turn and scale the rows of z, in place, onto m.

    Columns of `out`: real and imaginary part of zᴴ m, the modulus for mirrored z, the squared distance to m.
    """
    n, k2 = z.shape
    for i in range(n):
        row = z[i]
        even_re, odd_re, even_im, odd_im = 0.0, 0.0, 0.0, 0.0
        for j in range(k2 // 2):
            even_re += row[2 * j] * m[2 * j]
            odd_re += row[2 * j + 1] * m[2 * j + 1]
        for j in range(k2 // 2):
            even_im -= row[2 * j] * turned[2 * j]
            odd_im -= row[2 * j + 1] * turned[2 * j + 1]
        re, im = even_re + odd_re, even_im + odd_im
        out[i, 0], out[i, 1] = re, im
        out[i, 2] = np.sqrt((even_re - odd_re) ** 2 + (even_im - odd_im) ** 2)
        re, im = inflation * re, inflation * im
        distance = 0.0
        for j in range(k2 // 2):
            u, v = row[2 * j], row[2 * j + 1]
            p, q = re * u - im * v, im * u + re * v
            row[2 * j], row[2 * j + 1] = p, q
            distance += (p - m[2 * j]) ** 2 + (q - m[2 * j + 1]) ** 2
        out[i, 3] = distance


@inner
def turn_2d_kernel(h, q, values, r):
    """Write to `r` the rotation that maximises tr(Rᵀ h), h = Σ y xᵀ; return its gain, its margin, the mirrored gain."""
    det = _cofactors(h, q[:3])
    norm = 0.0
    for i in range(3):
        for j in range(3):
            norm += h[i, j] * h[i, j]
    if det <= 1e-3 * norm * np.sqrt(norm):  # flat, mirrored or degenerate
        return _horn(h, q, values, r)
    return _polar(h, norm, q[:3], r)


@inner
def _cofactors(x, c):
    """Write the cofactors of a 3 x 3 matrix into the first three columns of c; return its determinant."""
    for i in range(3):
        k, l = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            m, n = (j + 1) % 3, (j + 2) % 3
            c[i, j] = x[k, m] * x[l, n] - x[k, n] * x[l, m]
    return x[0, 0] * c[0, 0] + x[0, 1] * c[0, 1] + x[0, 2] * c[0, 2]


@inner
def _polar(h, norm, c, r):
    """As `_turn` where det h > 0 stands well off zero: the orthogonal polar factor.

    N. J. Higham, "Computing the polar decomposition - with applications", SIAM J. Sci. Stat. Comput. 7, 1986: scaled
    Newton iteration X ← (γ X + X⁻ᵀ / γ) / 2, with X⁻ᵀ = cof X / det X.
    """
    factor = np.sqrt(3 / norm)
    for i in range(3):
        for j in range(3):
            r[i, j] = factor * h[i, j]
    for _ in range(30):
        det = _cofactors(r, c)
        size, other = 0.0, 0.0
        for i in range(3):
            for j in range(3):
                size += r[i, j] * r[i, j]
                other += c[i, j] * c[i, j]
        root = np.sqrt(np.sqrt(other / size) / det)  # γ = (‖X⁻ᵀ‖ / ‖X‖)^½
        p, q = 0.5 * root, 0.5 / (root * det)
        change = 0.0
        for i in range(3):
            for j in range(3):
                new = p * r[i, j] + q * c[i, j]
                change += (new - r[i, j]) ** 2
                r[i, j] = new
        if change < 1e-17:  # the next change is its square
            break
    # singular values: eigenvalues of the symmetric Rᵀ h, by the trigonometric formula
    s00 = r[0, 0] * h[0, 0] + r[1, 0] * h[1, 0] + r[2, 0] * h[2, 0]
    s11 = r[0, 1] * h[0, 1] + r[1, 1] * h[1, 1] + r[2, 1] * h[2, 1]
    s22 = r[0, 2] * h[0, 2] + r[1, 2] * h[1, 2] + r[2, 2] * h[2, 2]
    s01 = r[0, 0] * h[0, 1] + r[1, 0] * h[1, 1] + r[2, 0] * h[2, 1]
    s02 = r[0, 0] * h[0, 2] + r[1, 0] * h[1, 2] + r[2, 0] * h[2, 2]
    s12 = r[0, 1] * h[0, 2] + r[1, 1] * h[1, 2] + r[2, 1] * h[2, 2]
    gain = s00 + s11 + s22
    mean = gain / 3
    a, b, c = s00 - mean, s11 - mean, s22 - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (s01 * s01 + s02 * s02 + s12 * s12)) / 6)
    if spread <= 0:
        return gain, 2 * mean, gain - 2 * mean
    half = 0.5 * (a * (b * c - s12 * s12) - s01 * (s01 * c - s12 * s02) + s02 * (s01 * s12 - b * s02)) / spread**3
    angle = np.arccos(min(1.0, max(-1.0, half))) / 3
    first = mean + 2 * spread * np.cos(angle)
    last = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    return gain, gain - first, gain - 2 * last


@inner
def _horn(h, q, values, r):
    """As `_turn`, for any h.

    B. K. P. Horn, "Closed-form solution of absolute orientation using unit quaternions", JOSA A 4, 1987: the leading
    eigenvector of a symmetric 4 x 4 matrix, here by cyclic Jacobi rotations. With the singular values σ of h and s the
    sign of its determinant the eigenvalues are ±(σ₁ ± σ₂ ± s σ₃): the margin σ₂ + s σ₃ and the gain σ₁ + σ₂ - s σ₃ of
    the mirrored problem are among them.
    """
    xx, xy, xz = h[0, 0], h[1, 0], h[2, 0]
    yx, yy, yz = h[0, 1], h[1, 1], h[2, 1]
    zx, zy, zz = h[0, 2], h[1, 2], h[2, 2]
    a = q[4:]
    a[0, 0], a[1, 1], a[2, 2], a[3, 3] = xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy
    a[0, 1], a[0, 2], a[0, 3] = yz - zy, zx - xz, xy - yx
    a[1, 2], a[1, 3], a[2, 3] = xy + yx, zx + xz, yz + zy
    for i in range(4):
        for j in range(i):
            a[i, j] = a[j, i]
    for i in range(4):
        for j in range(4):
            q[i, j] = 1.0 if i == j else 0.0
    norm = 0.0
    for i in range(4):
        for j in range(4):
            norm += a[i, j] * a[i, j]
    for _ in range(20):
        off = 0.0
        for i in range(3):
            for j in range(i + 1, 4):
                off += a[i, j] * a[i, j]
        # Squares of the entries off the diagonal, against that of the matrix: rounding is 1e-16 of it, squared.
        if off <= 1e-33 * norm:
            break
        for i in range(3):
            for j in range(i + 1, 4):
                # Too small to turn anything: Jacobi's rotation would divide by it.
                if a[i, j] * a[i, j] <= 1e-36 * norm:
                    continue
                theta = (a[j, j] - a[i, i]) / (2 * a[i, j])
                t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + np.sqrt(theta * theta + 1))
                c = 1 / np.sqrt(t * t + 1)
                s = t * c
                for m in range(4):
                    u, v = a[i, m], a[j, m]
                    a[i, m], a[j, m] = c * u - s * v, s * u + c * v
                for m in range(4):
                    u, v = a[m, i], a[m, j]
                    a[m, i], a[m, j] = c * u - s * v, s * u + c * v
                    u, v = q[m, i], q[m, j]
                    q[m, i], q[m, j] = c * u - s * v, s * u + c * v
    best, least = 0, 0
    for i in range(4):
        values[i] = a[i, i]
        if values[i] > values[best]:
            best = i
        if values[i] < values[least]:
            least = i
    second = -np.inf
    for i in range(4):
        if i != best and values[i] > second:
            second = values[i]
    w, x, y, z = q[0, best], q[1, best], q[2, best], q[3, best]
    r[0, 0], r[1, 1], r[2, 2] = (
        w * w + x * x - y * y - z * z,
        w * w - x * x + y * y - z * z,
        w * w - x * x - y * y + z * z,
    )
    r[0, 1], r[1, 0] = 2 * (x * y - w * z), 2 * (x * y + w * z)
    r[0, 2], r[2, 0] = 2 * (x * z + w * y), 2 * (x * z - w * y)
    r[1, 2], r[2, 1] = 2 * (y * z - w * x), 2 * (y * z + w * x)
    return values[best], 0.5 * (values[best] - second), -values[least]


@inner
def _centred_3d(flat, i, z):
    """Write shape i, centred, to the planes z (3, k); return the centroid and the scatter."""
    k = flat.shape[1] // 3
    c0, c1, c2 = 0.0, 0.0, 0.0
    for j in range(k):
        u, v, w = flat[i, 3 * j], flat[i, 3 * j + 1], flat[i, 3 * j + 2]
        z[0, j], z[1, j], z[2, j] = u, v, w
        c0 += u
        c1 += v
        c2 += w
    c0, c1, c2 = c0 / k, c1 / k, c2 / k
    scatter = 0.0
    for a in range(3):
        c = c0 if a == 0 else (c1 if a == 1 else c2)
        for j in range(k):
            u = z[a, j] - c
            z[a, j] = u
            scatter += u * u
    return c0, c1, c2, scatter


@inner
def _cross(y, x, h):
    """Write Σ y xᵀ of two sets of planes (3, k)."""
    k = x.shape[1]
    for a in range(3):
        s0, s1, s2 = 0.0, 0.0, 0.0
        for j in range(k):
            s0 += y[a, j] * x[0, j]
            s1 += y[a, j] * x[1, j]
            s2 += y[a, j] * x[2, j]
        h[a, 0], h[a, 1], h[a, 2] = s0, s1, s2


@compiled
def pair_3d(x, y, n, rotation, out):
    """Fit x[i] to y[i]; a single shape stands for all.

    Columns of `out`: gain, margin, mirrored gain, the scatters of x and y, the centroids of x and y.
    """
    k = x.shape[1]
    u, v = np.empty((3, k)), np.empty((3, k))
    flat_x, flat_y = x.reshape(len(x), 3 * k), y.reshape(len(y), 3 * k)
    h, q, values = np.empty((3, 3)), np.empty((8, 4)), np.empty(4)
    for i in range(n):
        if i == 0 or len(x) > 1:
            cx, cy, cz, xx = _centred_3d(flat_x, i, u)
        if i == 0 or len(y) > 1:
            ex, ey, ez, yy = _centred_3d(flat_y, i, v)
        _cross(v, u, h)
        out[i, 0], out[i, 1], out[i, 2] = turn_2d_kernel(h, q, values, rotation[i])
        out[i, 3], out[i, 4] = xx, yy
        out[i, 5], out[i, 6], out[i, 7] = cx, cy, cz
        out[i, 8], out[i, 9], out[i, 10] = ex, ey, ez


@inner
def _add(sums, factor, r, z):
    """Add factor r z to `sums`, all planes (3, k)."""
    for a in range(3):
        p, q, s = factor * r[a, 0], factor * r[a, 1], factor * r[a, 2]
        for j in range(z.shape[1]):
            sums[a, j] += p * z[0, j] + q * z[1, j] + s * z[2, j]


@compiled
def step_3d(x, mean, rule, first, total, drift):
    """As `step_2d`, in three dimensions."""
    n, k = x.shape[0], x.shape[1]
    flat = x.reshape(n, 3 * k)
    z = np.empty((3, k))
    m = mean.T.copy()
    h, q, values, r = np.empty((3, 3)), np.empty((8, 4)), np.empty(4), np.empty((3, 3))
    sums, start = np.zeros((3, k)), np.zeros((3, k))
    explained, least = 0.0, np.inf
    for i in range(n):
        cx, cy, cz, xx = _centred_3d(flat, i, z)
        least = min(least, xx / (xx + k * (cx * cx + cy * cy + cz * cz) + 1e-300))
        _cross(m, z, h)
        gain, _, _ = turn_2d_kernel(h, q, values, r)
        safe = xx if xx > 0 else 1.0
        explained += gain * gain / safe
        factor = gain / safe if rule == 0 else (1 / np.sqrt(safe) if rule == 1 else 1.0)
        _add(sums, factor, r, z)
        if first:
            _add(start, 1 / np.sqrt(safe), np.eye(3), z)
    for a in range(3):
        for j in range(k):
            total[j, a] += sums[a, j]
            drift[j, a] += start[a, j]
    return explained, least


@compiled
def apply(x, matrix, translation, out):
    """Write matrix[i] x + translation[i] for every landmark; matrix is (n, d, d)."""
    n, k, d = x.shape
    for i in range(n):
        if d == 2:
            a, b, c, e = matrix[i, 0, 0], matrix[i, 0, 1], matrix[i, 1, 0], matrix[i, 1, 1]
            s, t = translation[i, 0], translation[i, 1]
            for j in range(k):
                u, v = x[i, j, 0], x[i, j, 1]
                out[i, j, 0] = a * u + b * v + s
                out[i, j, 1] = c * u + e * v + t
        else:
            for a in range(3):
                p, q, r, s = matrix[i, a, 0], matrix[i, a, 1], matrix[i, a, 2], translation[i, a]
                for j in range(k):
                    out[i, j, a] = p * x[i, j, 0] + q * x[i, j, 1] + r * x[i, j, 2] + s


@compiled
def squared_distances(x, y, out):
    """Write Σ ‖x[i] - y‖² over the landmarks."""
    n, k, d = x.shape
    flat, target = x.reshape(n, k * d), y.copy().reshape(k * d)
    for i in range(n):
        total = 0.0
        for j in range(k * d):
            total += (flat[i, j] - target[j]) ** 2
        out[i] = total
