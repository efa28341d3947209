"""Landmarks of one shape within the compiled loops of the fit: their pose, what is known of them, what they say.

Shapes are flat rows of coordinates here, a pose is the matrix A (scale times rotation) and the translation t of
z = A y + t, and what is known of the landmarks is `Known`. `_fit_arrays` says in whole arrays what is computed.
"""

from __future__ import annotations

import numpy as np

from ._fit_algebra import FULL, PARTIAL, TANGENT, dots, invert
from ._kernels import inner, turn_2d_kernel


@inner
def move(a, t, y, out):
    """Write a y + t for every landmark."""
    d = len(t)
    if d == 2:
        for j in range(len(y) // 2):
            u, v = y[2 * j], y[2 * j + 1]
            out[2 * j] = a[0, 0] * u + a[0, 1] * v + t[0]
            out[2 * j + 1] = a[1, 0] * u + a[1, 1] * v + t[1]
    else:
        for j in range(len(y) // 3):
            u, v, w = y[3 * j], y[3 * j + 1], y[3 * j + 2]
            for c in range(3):
                out[3 * j + c] = a[c, 0] * u + a[c, 1] * v + a[c, 2] * w + t[c]


@inner
def squared_scale(a):
    s = 0.0
    for c in range(len(a)):
        s += a[c, 0] * a[c, 0]
    return s


@inner
def back(a, t, z, out):
    """Write the y of z = a y + t, a a scaled rotation."""
    d = len(t)
    s = squared_scale(a)
    for j in range(len(z) // d):
        for c in range(d):
            total = 0.0
            for e in range(d):
                total += a[e, c] * (z[d * j + e] - t[e])
            out[d * j + c] = total / s


@inner
def align(x, w, target, rule, inflation, a, t, work):
    """Write the pose that superimposes x on the target, landmarks weighed by w; return how far a is from the identity.

    To `work[5]` come the scatters of x and target, what the turn stands out by, and the total weight; to `work[0]` and
    `work[1]` their centres, with the squared correlation behind the first.
    """
    d = len(t)
    k = len(x) // d
    centre, aim, h, told = work[0], work[1], work[2:5], work[5]
    total = 0.0
    for j in range(k):
        total += w[j]
    for c in range(d):
        s, m = 0.0, 0.0
        for j in range(k):
            s += w[j] * x[d * j + c]
            m += w[j] * target[d * j + c]
        centre[c], aim[c] = s / total, m / total
    xx, mm = 0.0, 0.0
    if d == 2:
        re, im = 0.0, 0.0
        for j in range(k):
            u, v = x[2 * j] - centre[0], x[2 * j + 1] - centre[1]
            p, q = target[2 * j] - aim[0], target[2 * j + 1] - aim[1]
            re += w[j] * (u * p + v * q)
            im += w[j] * (u * q - v * p)
            xx += w[j] * (u * u + v * v)
            mm += w[j] * (p * p + q * q)
        gain = np.sqrt(re * re + im * im)
        margin = gain
        re, im = re / gain, im / gain
        a[0, 0], a[0, 1], a[1, 0], a[1, 1] = re, -im, im, re
    else:
        for c in range(3):
            for e in range(3):
                s = 0.0
                for j in range(k):
                    s += w[j] * (target[3 * j + c] - aim[c]) * (x[3 * j + e] - centre[e])
                h[c, e] = s
        for j in range(k):
            for c in range(3):
                xx += w[j] * (x[3 * j + c] - centre[c]) ** 2
                mm += w[j] * (target[3 * j + c] - aim[c]) ** 2
        gain, margin, _ = turn_2d_kernel(h, work[6:14], work[14], a)
    told[0], told[1], told[2], told[3] = xx, mm, margin, total
    work[0, 3] = gain * gain / (xx * mm)
    if rule == FULL:
        scale = inflation * gain / xx
    elif rule == PARTIAL:
        scale = np.sqrt(mm / xx)
    elif rule == TANGENT:
        scale = mm / gain
    else:
        scale = 1.0
    off = 0.0
    for c in range(d):
        for e in range(d):
            a[c, e] *= scale
            off = max(off, abs(a[c, e] - (1.0 if c == e else 0.0)))
    for c in range(d):
        s = aim[c]
        for e in range(d):
            s -= a[c, e] * centre[e]
        t[c] = s
    return off


@inner
def judge(n_seen, d, eps, work):
    """Say, by the place in `_fit_loops.WORDS`, whether what `align` found is the single best pose, up to eps."""
    told = work[5]
    size, other, margin = np.sqrt(told[0]), np.sqrt(told[1]), told[2]
    centre, aim = 0.0, 0.0
    for c in range(d):
        centre += work[0, c] ** 2
        aim += work[1, c] ** 2
    # Rounding of centred coordinates: eps times their root mean square about the origin.
    slack = eps * np.sqrt(told[0] + told[3] * centre)
    other_slack = eps * np.sqrt(told[1] + told[3] * aim)
    if n_seen < d:
        return 2
    if not np.isfinite(margin + size + other):
        return 3
    if size <= slack or other <= other_slack:
        return 4
    return 0 if margin > slack * other + other_slack * size else 5


@inner
def compose(a, t, pose, shift, work):
    """Put the pose (a, t) after another, in place."""
    d = len(t)
    for c in range(d):
        for e in range(d):
            s = 0.0
            for f in range(d):
                s += a[c, f] * pose[f, e]
            work[c, e] = s
        s = t[c]
        for f in range(d):
            s += a[c, f] * shift[f]
        work[4, c] = s
    for c in range(d):
        for e in range(d):
            pose[c, e] = work[c, e]
        shift[c] = work[4, c]


@inner
def same(known, share, i):
    """Say whether the same is known of shape i as of the one before, in the frame of the model, and counts the same."""
    equal = not known.imaged
    for j in range(known.seen.shape[1]):
        equal = equal and known.seen[i, j] == known.seen[i - 1, j] and share[i, j] == share[i - 1, j]
        equal = equal and known.variance[i, j] == known.variance[i - 1, j]
    return equal


@inner
def turn(a, back, m, out):
    """Write a m a', or a' m a."""
    d = len(a)
    for c in range(d):
        for e in range(d):
            s = 0.0
            for f in range(d):
                for g in range(d):
                    s += (a[f, c] * m[f, g] * a[g, e]) if back else (a[c, f] * m[f, g] * a[e, g])
            out[c, e] = s


@inner
def put_errors(known, i, a, share, base, d, out):
    """Write the covariance of the errors of shape i in the frame of the model, (K, d, d).

    A loss that leaves the fraction w of a landmark makes (base + M) / w - base of the covariance M.
    """
    k = known.seen.shape[1]
    factor = squared_scale(a) if known.imaged else 1.0
    full = len(known.matrix) > 0
    for j in range(k):
        w = share[j]
        if full:
            turn(a, False, known.matrix[i, j], out[j])
            for c in range(d):
                for e in range(d):
                    out[j, c, e] /= w
                out[j, c, c] += base / w - base
        else:
            v = (base + factor * known.variance[i, j]) / w - base
            for c in range(d):
                for e in range(d):
                    out[j, c, e] = v if c == e else 0.0


@inner
def put_inverse(errors, seen, unit, least, small, out):
    """Write (M / unit + least)⁻¹ of each landmark, 0 where it is missing."""
    k, d = errors.shape[0], errors.shape[1]
    for j in range(k):
        if not seen[j]:
            out[j] = 0.0
            continue
        for c in range(d):
            for e in range(d):
                small[c, e] = errors[j, c, e] / unit
            small[c, c] += least
        invert(small, d, out[j])


@inner
def put_gains(errors, seen, noise, small, out):
    """Write σ² (σ² + M)⁻¹ of each landmark, 0 where it is missing."""
    put_inverse(errors, seen, noise, 1.0, small, out)


@inner
def weigh(gains, v, out):
    """Write the product of the gain of each landmark with its vector."""
    k, d = gains.shape[0], gains.shape[1]
    if d == 2:
        for j in range(k):
            x, y = v[2 * j], v[2 * j + 1]
            out[2 * j] = gains[j, 0, 0] * x + gains[j, 0, 1] * y
            out[2 * j + 1] = gains[j, 1, 0] * x + gains[j, 1, 1] * y
    else:
        for j in range(k):
            for c in range(3):
                g = gains[j, c]
                out[3 * j + c] = g[0] * v[3 * j] + g[1] * v[3 * j + 1] + g[2] * v[3 * j + 2]


@inner
def count(gains, trust, certain, v, out):
    """Write w gain v, the weight w of each coordinate in `trust`; where all is certain the gain is 1."""
    if certain:
        for e in range(len(v)):
            out[e] = trust[e] * v[e]
    else:
        weigh(gains, v, out)
        for e in range(len(v)):
            out[e] *= trust[e]


@inner
def pull(some, gains, trust, certain, v, work, out):
    """Write Σ Bₖ w gain vₖ."""
    count(gains, trust, certain, v, work)
    dots(some.rows, work, out)


@inner
def put_gram(some, gains, out, packed):
    """Write Σ Bₖ gain Bₖ' and the ridge, the lower triangle."""
    k, d = gains.shape[0], gains.shape[1]
    q = len(some.ridge)
    size = q * (q + 1) // 2
    even, changed = True, 0
    for j in range(k):
        for c in range(1, d):
            even = even and gains[j, c, c] == gains[j, 0, 0]
            for e in range(c):
                even = even and gains[j, c, e] == 0.0
        changed += gains[j, 0, 0] != 1.0
    if even:
        sparse = 2 * changed <= k  # then what is missing is taken off
        for c in range(size):
            packed[c] = 0.0
        for j in range(k):
            w = gains[j, 0, 0] - 1.0 if sparse else gains[j, 0, 0]
            if w != 0.0:
                outer = some.outer[j]
                for c in range(size):
                    packed[c] += w * outer[c]
        at = 0
        for r in range(q):
            for s in range(r + 1):
                out[r, s] = packed[at + s] + some.gram[r, s] if sparse else packed[at + s]
            if not sparse:
                out[r, r] += some.ridge[r]
            at += r + 1
        return
    left = np.empty((q, k * d))
    for r in range(q):
        weigh(gains, some.rows[r], left[r])
    for r in range(q):
        dots(left[: r + 1], some.rows[r], out[r])
        out[r, r] += some.ridge[r]


@inner
def exact(seen, errors, j):
    """Say whether landmark j is seen without error."""
    d, yes = errors.shape[1], seen[j]
    for c in range(d):
        for e in range(d):
            yes = yes and errors[j, c, e] == 0.0
    return yes


@inner
def unknown(seen, errors, where):
    """Write the coordinates that are missing or not exact; return their number."""
    k, d = errors.shape[0], errors.shape[1]
    count = 0
    for j in range(k):
        if not exact(seen, errors, j):
            for c in range(d):
                where[count] = d * j + c
                count += 1
    return count


@inner
def by_precision(some, count, d):
    """Say whether the system of the unknown coordinates is the cheaper one."""
    q = len(some.ridge)
    # Products of both factors, and of the columns of the gram matrix; where all is known of q modes they are as many.
    return len(some.precision) > 0 and count**3 < q**3 + 3 * q * q * (count // d)


@inner
def alike(before, now, small):
    """Say whether matrices differ by so little that the factor of the system with the old ones leads to the solution.

    With the eigenvalues λ of M⁻¹ N, where M became N, steps contract by the largest |λ - 1|.
    """
    k, d = now.shape[0], now.shape[1]
    product = np.empty((d, d))
    for j in range(k):
        if now[j, 0, 0] == 0.0:  # missing
            continue
        invert(before[j], d, small)
        off = 0.0
        for c in range(d):
            for e in range(d):
                s = 0.0
                for f in range(d):
                    s += small[c, f] * now[j, f, e]
                product[c, e] = s
            off += 1.0 - 2.0 * product[c, c]
        for c in range(d):
            for e in range(d):
                off += product[c, e] * product[e, c]
        if not abs(off) <= 0.01:  # Σ (λ - 1)²
            return False
    return True


@inner
def put_certainty(seen, errors, noise, small, out):
    """Write M⁻¹ of each landmark that is not exact, 0 where it is missing; a direction without error gets little."""
    # A thousandth of the standard deviation of the noise; less drowns the other directions.
    put_inverse(errors, seen, 1.0, 1e-6 * noise, small, out)


@inner
def put_block(some, where, count, certainty, out):
    """Write the precision of the unknown coordinates, the lower triangle."""
    d = certainty.shape[1]
    for r in range(count):
        row = some.precision[where[r]]
        for s in range(r + 1):
            out[r, s] = row[where[s]]
        j, c = where[r] // d, where[r] % d
        for e in range(c + 1):  # the coordinates of a landmark stand side by side
            out[r, r - c + e] += certainty[j, c, e]
