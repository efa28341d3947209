"""Loops of the fit over shapes of the plane and of space, compiled on first use and kept on disk."""

from __future__ import annotations

import numpy as np

from ._fit_algebra import (
    FULL,
    backward,
    cholesky,
    dots,
    forward,
    invert_factor,
    median,
    mix,
)
from ._fit_landmarks import (
    align,
    alike,
    back,
    by_precision,
    compose,
    count,
    exact,
    judge,
    move,
    pull,
    put_block,
    put_certainty,
    put_errors,
    put_gains,
    put_gram,
    same,
    squared_scale,
    turn,
    unknown,
    weigh,
)
from ._kernels import compiled, inner

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "822252780e8984d6"


@compiled
def begin(points, weights, target, eps, pose, shift, codes, alike):
    """Write the poses of what is seen; zeros and weight 0 where it is missing, the mean where no pose is best.

    The reason, by its place in `_fit_loops.WORDS`, comes to `codes`, and to `alike` the squared correlation of what is
    seen with the mean. Returns the number of landmarks not of weight 1.
    """
    n, p = points.shape
    d = shift.shape[1]
    k = p // d
    work, n_uncertain = np.empty((15, 4)), 0
    for i in range(n):
        n_seen, infinite, x, w = 0, False, points[i], weights[i]
        for j in range(k):
            for c in range(d):
                if np.isnan(x[d * j + c]):
                    w[j] = 0.0
            if w[j] > 0:
                n_seen += 1
                for c in range(d):
                    infinite = infinite or np.isinf(x[d * j + c])
            else:
                x[d * j : d * j + d] = 0.0
        code = 1
        if not infinite:
            align(x, w, target.mean, target.rule, target.inflation, pose[i], shift[i], work)
            code = judge(n_seen, d, eps, work)
        if code:
            x[:], w[:] = target.mean, 1.0
            align(x, w, target.mean, target.rule, target.inflation, pose[i], shift[i], work)
        codes[i], alike[i] = code, work[0, 3]
        for j in range(k):
            n_uncertain += w[j] != 1.0
    return n_uncertain


@compiled
def encode(shapes, pose, shift, mean, modes, out):
    """Write the coefficients of shapes in the frame of the points."""
    z = np.empty(shapes.shape[1])
    for i in range(len(shapes)):
        move(pose[i], shift[i], shapes[i], z)
        for e in range(len(z)):
            z[e] -= mean[e]
        dots(modes, z, out[i])


@compiled
def decode(coefficients, pose, shift, mean, modes, out):
    """Write the shapes of coefficients in the frame of the points."""
    z = np.empty(len(mean))
    for i in range(len(coefficients)):
        mix(modes, coefficients[i], z)
        for e in range(len(z)):
            z[e] += mean[e]
        back(pose[i], shift[i], z, out[i])


@compiled
def likeness(points, known, share, pose, shift, mean, spread, out):
    """Write the squared correlation of what is seen with the mean, its extent, and that of variation and errors.

    A landmark counts as it is certain: its error beside the `spread` of the landmarks of the model, (K,).
    """
    n, p = points.shape
    d = shift.shape[1]
    k = p // d
    errors, w, ones, z = np.empty((k, d, d)), np.empty(k), np.ones(k), np.empty(p)
    a, t, work = np.empty((d, d)), np.empty(d), np.empty((15, 4))
    typical = spread.mean()
    for i in range(n):
        put_errors(known, i, pose[i], ones, 0.0, d, errors)
        apart = 0.0
        for j in range(k):
            error = 0.0
            for c in range(d):
                error += errors[j, c, c]
            w[j] = share[i, j] * typical / (typical + error) if known.seen[i, j] else 0.0
            apart += w[j] * (spread[j] + error)
        align(points[i], w, mean, FULL, 1.0, a, t, work)
        own = work[5, 1]
        move(pose[i], shift[i], points[i], z)
        along = 0.0
        for j in range(k):
            for c in range(d):
                along += w[j] * (mean[d * j + c] - work[1, c]) * z[d * j + c]
        out[i, 0], out[i, 1], out[i, 2] = work[0, 3], along / own, apart / own


@compiled
def reweigh(points, known, certain, pose, shift, some, inverse, modes, bound, target, rounds, n_huber, limits, share):
    """Replace, in place, points that lie far off by pseudo-values; see `_posterior.solve`.

    `limits` are the bounds of Huber and Tukey, the median of a standard normal vector, the least spread and share, and
    what conjugate gradients leave, with their most steps. Where all is certain the poses are those of the answer.
    """
    n, p = points.shape
    d = shift.shape[1]
    k, q, m = p // d, len(some.ridge), len(modes)
    huber, tukey, middle, floor, least, tolerance, most = limits
    z, near, star, v, weighted, trust = np.empty(p), np.empty(p), np.empty(p), np.empty(p), np.empty(p), np.empty(p)
    u, r, s, direction, product = np.empty(q), np.empty(q), np.empty(q), np.empty(q), np.empty(q)
    b, square, weight = np.empty(m), np.empty(k), np.ones(k)
    a, t, work, small = np.empty((d, d)), np.empty(d), np.empty((15, 4)), np.empty((d, d))
    errors, gains, ones = np.zeros((k, d, d)), np.zeros((k, d, d)), np.ones(p)
    gram, packed, own = np.empty((q, q)), np.empty(q * (q + 1) // 2), inverse
    if not certain:
        own = np.empty((q, q))
    for i in range(n):
        if not certain:
            put_errors(known, i, pose[i], ones, 0.0, d, errors)
            put_gains(errors, known.seen[i], some.noise, small, gains)
            for j in range(k):
                weight[j] = 0.0
                for c in range(d):
                    weight[j] += gains[j, c, c] / d
            put_gram(some, gains, gram, packed)
            cholesky(gram, q)
            for c in range(q):
                for e in range(q):
                    own[c, e] = 1.0 if c == e else 0.0
                forward(gram, q, own[c])
                backward(gram, q, own[c])
        kept = share[i]
        move(pose[i], shift[i], points[i], z)
        kept[:], trust[:] = 1.0, 1.0
        u[:] = 0.0
        near[:] = some.mean
        variance = 0.0
        for round_ in range(rounds):
            # The system of the coefficients u, from those of the last turn: of their residual r only steps are taken.
            for e in range(p):
                v[e] = z[e] - near[e]
            pull(some, gains, trust, certain, v, weighted, r)
            for c in range(q):
                r[c] -= some.ridge[c] * u[c]
            if round_ == 0:  # without weights the inverse is that of the system
                dots(own, r, u)
                mix(some.rows, u, v)
                for e in range(p):
                    near[e] += v[e]
            before = 1.0
            for step in range(most if round_ else 0):
                dots(own, r, s)
                now = 0.0
                for c in range(q):
                    now += r[c] * s[c]
                if not now > tolerance * variance:
                    break
                for c in range(q):
                    direction[c] = s[c] + (now / before * direction[c] if step else 0.0)
                before = now
                mix(some.rows, direction, v)
                pull(some, gains, trust, certain, v, weighted, product)
                curve = 0.0
                for c in range(q):
                    product[c] += some.ridge[c] * direction[c]
                    curve += product[c] * direction[c]
                length = now / curve
                for c in range(q):
                    u[c] += length * direction[c]
                    r[c] -= length * product[c]
                for e in range(p):
                    near[e] += length * v[e]
            # The whole shape superimposed on the mean, and its plausible neighbour.
            for e in range(p):
                v[e] = z[e] - near[e]
            count(gains, trust, certain, v, weighted)
            for e in range(p):
                star[e] = near[e] + weighted[e]
            align(star, ones, target.mean, target.rule, target.inflation, a, t, work)
            compose(a, t, pose[i], shift[i], work)
            move(pose[i], shift[i], points[i], z)
            move(a, t, star, v)
            for e in range(p):
                v[e] -= some.mean[e]
            dots(modes, v, b)
            for c in range(m):
                b[c] = min(max(b[c], -bound[c]), bound[c])
            mix(modes, b, star)
            if round_ == rounds - 1:  # the pseudo-values of the last solution, in the pose they were found in
                move(a, t, near, v)
                for e in range(p):
                    v[e] += trust[e] * (z[e] - v[e])
                back(pose[i], shift[i], v, weighted)
                for j in range(k):
                    if kept[j] < 1.0 and known.seen[i, j]:
                        for c in range(d):
                            points[i, d * j + c] = weighted[d * j + c]
                if certain:
                    align(v, ones, target.mean, target.rule, target.inflation, a, t, work)
                    compose(a, t, pose[i], shift[i], work)
            for e in range(p):
                v[e] = z[e] - star[e] - some.mean[e]
            count(gains, ones, certain, v, weighted)
            for e in range(p):
                weighted[e] *= v[e]
            for j in range(k):
                square[j] = weighted[d * j] + weighted[d * j + 1] + (weighted[d * j + 2] if d == 3 else 0.0)
            variance = max(median(square, weight, certain) / middle**2, floor**2)
            for j in range(k):
                off = square[j] / variance
                if round_ < n_huber:
                    kept[j] = huber / np.sqrt(off) if off > huber * huber else 1.0
                else:
                    inside = 1.0 - min(off / tukey**2, 1.0)
                    kept[j] = max(inside * inside, least)
                for c in range(d):
                    trust[d * j + c] = kept[j]


@inner
def _moves(shape, d, scaling, out):
    """Write the derivatives of a shape by its pose: translations, turns, logarithm of the size."""
    k = len(shape) // d
    n = d + (1 if d == 2 else 3)
    out[: n + 1] = 0.0
    for j in range(k):
        for c in range(d):
            out[c, d * j + c] = 1.0
        if d == 2:
            out[2, 2 * j], out[2, 2 * j + 1] = -shape[2 * j + 1], shape[2 * j]
        else:
            x, y, z = shape[3 * j], shape[3 * j + 1], shape[3 * j + 2]
            out[3, 3 * j + 1], out[3, 3 * j + 2] = -z, y
            out[4, 3 * j], out[4, 3 * j + 2] = z, -x
            out[5, 3 * j], out[5, 3 * j + 1] = -y, x
    if scaling:
        out[n] = shape
    return n + 1 if scaling else n


@inner
def _away(u, d, scaling, most, a, t):
    """Write the pose that takes the steps u, in the order of `_moves`, away again."""
    n_turns = 1 if d == 2 else 3
    if d == 2:
        angle = min(max(-u[2], -most), most)
        a[0, 0] = a[1, 1] = np.cos(angle)
        a[1, 0] = np.sin(angle)
        a[0, 1] = -a[1, 0]
    else:  # Rodrigues
        x, y, z = min(max(-u[3], -most), most), min(max(-u[4], -most), most), min(max(-u[5], -most), most)
        angle = np.sqrt(x * x + y * y + z * z) + 1e-150
        s, half = np.sin(angle) / angle, np.sin(angle / 2) / angle
        f = 2 * half * half
        a[0, 0], a[0, 1], a[0, 2] = 1 - f * (y * y + z * z), f * x * y - s * z, f * x * z + s * y
        a[1, 0], a[1, 1], a[1, 2] = f * x * y + s * z, 1 - f * (x * x + z * z), f * y * z - s * x
        a[2, 0], a[2, 1], a[2, 2] = f * x * z - s * y, f * y * z + s * x, 1 - f * (x * x + y * y)
    scale = np.exp(min(max(-u[d + n_turns], -most), most)) if scaling else 1.0
    for c in range(d):
        t[c] = 0.0
        for e in range(d):
            a[c, e] *= scale
            t[c] -= a[c, e] * u[e]


@compiled
def least_squares(
    points, known, share, pose, shift, mean, noise, modes, scaling, ridge, longest, steps, tolerance, found
):
    """Turn the poses, and write the coefficients, to where the modes come nearest to the points: Gauss and Newton.

    Of the system of modes and pose the modes are eliminated first: their part is that of the shape before, where the
    same is known of all landmarks. The part of the pose changes with the coefficients: a mode of little variance may
    lie along it. Once steps are short and shrink fast, all stays as it is: only the residual has to be exact.
    """
    n, p = points.shape
    d = shift.shape[1]
    k, m = p // d, len(modes)
    z, near, v = np.empty(p), np.empty(p), np.empty(p)
    gram, root, left, y, step = np.empty((m, m)), np.empty((m, m)), np.empty((m, p)), np.empty(m), np.empty(m)
    moves, across, core, u = np.empty((7, p)), np.empty((7, m)), np.empty((7, 7)), np.empty(7)
    a, t, work, small = np.empty((d, d)), np.empty(d), np.empty((15, 4)), np.empty((d, d))
    errors, gains = np.empty((k, d, d)), np.empty((k, d, d))
    ready = False
    for i in range(n):
        c = found[i]
        ready = ready and same(known, share, i)
        settled, before = False, np.inf
        for _ in range(steps):
            if not ready:
                put_errors(known, i, pose[i], share[i], noise, d, errors)
                put_gains(errors, known.seen[i], noise, small, gains)
                if not settled:
                    for r in range(m):
                        weigh(gains, modes[r], left[r])
                        dots(left[: r + 1], modes[r], gram[r])
                        gram[r, r] += ridge
                    cholesky(gram, m)
                    invert_factor(gram, m, root)
                ready = not known.imaged
            mix(modes, c, near)
            for j in range(p):
                near[j] += mean[j]
            n_moves = _moves(near, d, scaling, moves)
            move(pose[i], shift[i], points[i], z)
            for j in range(p):
                z[j] -= near[j]
            weigh(gains, z, v)
            dots(modes, v, step)
            dots(moves[:n_moves], v, u)
            for r in range(m):
                step[r] -= ridge * c[r]
            dots(root, step, y)
            if not settled:
                for r in range(n_moves):
                    weigh(gains, moves[r], v)
                    dots(moves[: r + 1], v, core[r])
                    dots(modes, v, step)
                    dots(root, step, across[r])
                    for s in range(r + 1):
                        for e in range(m):
                            core[r, s] -= across[r, e] * across[s, e]
                cholesky(core, n_moves)
            for r in range(n_moves):
                for e in range(m):
                    u[r] -= across[r, e] * y[e]
            forward(core, n_moves, u)
            backward(core, n_moves, u)
            for r in range(n_moves):
                for e in range(m):
                    y[e] -= u[r] * across[r, e]
            mix(root, y, step)
            largest, moved = 0.0, 0.0
            for r in range(m):
                c[r] += step[r]
                largest, moved = max(largest, abs(c[r])), max(moved, abs(step[r]))
            for r in range(n_moves):
                moved = max(moved, abs(u[r]))
            _away(u, d, scaling, longest, a, t)
            compose(a, t, pose[i], shift[i], work)
            if moved <= tolerance * (1 + largest):
                break
            settled = moved < 0.01 and moved < 0.1 * before  # then the matrices as they are lead to the end
            before = moved


@compiled
def posterior(points, known, pose, shift, some, target, steps, completed, square):
    """Write the most probable whole shapes and turn the poses until these lie on the target.

    In the frame of the model the unknown part solves P x = M⁻¹ y - Λ(unknown, exact) y, P = Λ + M⁻¹, by the precision
    Λ; or the coefficients u solve (Σ Bₖ gₖ Bₖ' + ridge) u = Σ Bₖ gₖ yₖ, whichever system is smaller. Errors in the
    units of the points change with the pose: then the factor of an earlier pose only steps towards the solution, and is
    renewed when the errors have changed by more than a tenth.
    """
    n, p = points.shape
    d = shift.shape[1]
    k, q = p // d, len(some.ridge)
    z, x, v, weighted = np.empty(p), np.empty(p), np.empty(p), np.empty(p)
    u, r = np.empty(q), np.empty(max(p, q))
    a, t, work, small = np.empty((d, d)), np.empty(d), np.empty((15, 4)), np.empty((d, d))
    errors, gains, factored = np.empty((k, d, d)), np.empty((k, d, d)), np.empty((k, d, d))
    where, ones, packed = np.empty(p, np.int64), np.ones(k), np.empty(q * (q + 1) // 2)
    whole_precision = len(some.precision) > 0
    most = max(p, q) if whole_precision else q
    matrix = np.empty((most, most))
    ready, count, block = False, 0, False
    for i in range(n):
        ready = ready and same(known, known.variance, i)
        seen = known.seen[i]
        for c in range(p):
            x[c] = 0.0
        for c in range(q):
            u[c] = 0.0
        for step in range(steps):
            if not ready or (known.imaged and step > 0):
                put_errors(known, i, pose[i], ones, 0.0, d, errors)
                if not ready:
                    count = unknown(seen, errors, where)
                    block = by_precision(some, count, d)
                if block:
                    put_certainty(seen, errors, some.noise, small, gains)
                else:
                    put_gains(errors, seen, some.noise, small, gains)
                if not (ready and alike(factored, gains, small)):
                    if block:
                        put_block(some, where, count, gains, matrix)
                        cholesky(matrix, count)
                    else:
                        put_gram(some, gains, matrix, packed)
                        cholesky(matrix, q)
                    factored[:] = gains
                    ready = True
            move(pose[i], shift[i], points[i], z)
            for j in range(k):
                for c in range(d):
                    e = d * j + c
                    v[e] = z[e] - some.mean[e] if seen[j] else 0.0
            if block:  # x is y where that is exact; elsewhere a step by the residual of P x = M⁻¹ y - Λ y
                for c in range(count):
                    r[c] = x[where[c]]
                x[:] = v
                for c in range(count):
                    x[where[c]] = r[c]
                for c in range(p):
                    weighted[c] = v[c] - x[c]
                weigh(gains, weighted, z)
                for c in range(count):
                    row = some.precision[where[c]]
                    total = z[where[c]]
                    for e in range(p):
                        total -= row[e] * x[e]
                    r[c] = total
                forward(matrix, count, r)
                backward(matrix, count, r)
                for c in range(count):
                    x[where[c]] += r[c]
            else:  # a step of the coefficients; what they leave goes to the noise by its gain
                mix(some.rows, u, x)
                for c in range(p):
                    weighted[c] = v[c] - x[c]
                weigh(gains, weighted, z)
                dots(some.rows, z, r)
                for c in range(q):
                    r[c] -= some.ridge[c] * u[c]
                forward(matrix, q, r)
                backward(matrix, q, r)
                for c in range(q):
                    u[c] += r[c]
                mix(some.rows, u, x)
                for c in range(p):
                    weighted[c] = v[c] - x[c]
                weigh(gains, weighted, z)
                for c in range(p):
                    x[c] += z[c]
            if target.rule < 0:
                break
            for c in range(p):
                weighted[c] = x[c] + some.mean[c]
            off = align(weighted, ones, target.mean, target.rule, target.inflation, a, t, work)
            if off <= 1e-13 or step == steps - 1:  # a turn by rounding
                break
            compose(a, t, pose[i], shift[i], work)
        # D² = x'Λx + (y - x)'M⁻¹(y - x), or y'g(y - B u)/σ² by the coefficients.
        total = 0.0
        if block:
            for c in range(p):
                weighted[c] = v[c] - x[c]
            weigh(gains, weighted, z)
            for c in range(count):
                total += weighted[where[c]] * z[where[c]]
            for c in range(p):
                row = some.precision[c]
                s = 0.0
                for e in range(p):
                    s += row[e] * x[e]
                total += s * x[c]
        else:
            mix(some.rows, u, z)
            for c in range(p):
                z[c] = v[c] - z[c]
            weigh(gains, z, weighted)
            for c in range(p):
                total += v[c] * weighted[c]
            total /= some.noise
        square[i] = total
        for c in range(p):
            x[c] += some.mean[c]
        back(pose[i], shift[i], x, completed[i])
        for j in range(k):
            if exact(seen, errors, j):
                for c in range(d):
                    completed[i, d * j + c] = points[i, d * j + c]


@compiled
def covariance(known, pose, share, base, some, kept, rest, out):
    """Write the covariance of each landmark (n, K, d, d) of the whole shapes, or of what the rows `kept` see of them.

    With F = I - g that of the whole shape is F B' G⁻¹ B F σ² + σ² F, or P⁻¹ on the unknown coordinates.
    """
    n, k = known.seen.shape
    d = pose.shape[1]
    p, q, rank = k * d, len(some.ridge), len(kept)
    errors, gains, small = np.empty((k, d, d)), np.empty((k, d, d)), np.empty((d, d))
    where, packed, blocks = np.empty(p, np.int64), np.empty(q * (q + 1) // 2), np.empty((k, d, d))
    whole_precision = len(some.precision) > 0
    most = max(p, q) if whole_precision else q
    matrix, inverse = np.empty((most, most)), np.empty((most if whole_precision else 0, most))
    rows, core, left = np.empty((rank, max(p, q))), np.empty((rank, rank)), np.empty((rank, p))
    v, column = np.empty(p), np.empty((d, q))
    ready = False
    for i in range(n):
        ready = ready and same(known, share, i)
        if not ready:
            ready = True
            seen = known.seen[i]
            put_errors(known, i, pose[i], share[i], base, d, errors)
            count = unknown(seen, errors, where)
            block = by_precision(some, count, d)
            for j in range(k):
                for c in range(d):
                    for e in range(d):
                        blocks[j, c, e] = 0.0
            if block:
                put_certainty(seen, errors, some.noise, small, gains)
                put_block(some, where, count, gains, matrix)
                cholesky(matrix, count)
                if rank == 0:
                    invert_factor(matrix, count, inverse)
                    for c in range(d):  # sums of squares of the columns, and of products of those side by side
                        for f in range(count):
                            v[f] = 0.0
                        for r in range(count):
                            row = inverse[r]
                            for f in range(count - c):
                                v[f] += row[f] * row[f + c]
                        for f in range(count - c):
                            j, e = where[f] // d, where[f] % d
                            if e + c < d:
                                blocks[j, e, e + c] = blocks[j, e + c, e] = v[f]
                for s in range(rank):
                    for c in range(count):
                        rows[s, c] = kept[s, where[c]]
                    forward(matrix, count, rows[s])
                for s in range(rank):
                    dots(rows[: s + 1, :count], rows[s, :count], core[s])
            else:
                put_gains(errors, seen, some.noise, small, gains)
                put_gram(some, gains, matrix, packed)
                cholesky(matrix, q)
                for j in range(k):
                    for c in range(d):
                        for e in range(d):
                            gains[j, c, e] = (1.0 if c == e else 0.0) - gains[j, c, e]
                if rank == 0:  # L⁻¹ B F, column by column
                    for j in range(k):
                        for c in range(d):
                            for s in range(q):
                                total = 0.0
                                for e in range(d):
                                    total += gains[j, c, e] * some.rows[s, d * j + e]
                                column[c, s] = total
                            forward(matrix, q, column[c])
                            for e in range(c + 1):
                                total = gains[j, c, e]
                                for s in range(q):
                                    total += column[c, s] * column[e, s]
                                blocks[j, c, e] = blocks[j, e, c] = some.noise * total
                for s in range(rank):
                    weigh(gains, kept[s], left[s])
                    dots(some.rows, left[s], rows[s])
                    forward(matrix, q, rows[s])
                for s in range(rank):
                    dots(rows[: s + 1, :q], rows[s, :q], core[s])
                    dots(left[: s + 1], kept[s], v)
                    for c in range(s + 1):
                        core[s, c] = some.noise * (core[s, c] + v[c])
            if rank:  # back from what the rows see to landmarks
                for s in range(rank):
                    for c in range(s):
                        core[c, s] = core[s, c]
                for s in range(rank):
                    mix(kept, core[s], left[s])
                for j in range(k):
                    for c in range(d):
                        for e in range(d):
                            total = rest[j, c, e]
                            for s in range(rank):
                                total += kept[s, d * j + c] * left[s, d * j + e]
                            blocks[j, c, e] = total
        size = squared_scale(pose[i])
        for j in range(k):
            turn(pose[i], True, blocks[j], out[i, j])
            for c in range(d):
                for e in range(d):
                    out[i, j, c, e] /= size * size
