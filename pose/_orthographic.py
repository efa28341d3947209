"""The compiled core of `solve_weak_perspective`: moments of the points, refinement on the moments, residuals."""

from __future__ import annotations

import numpy as np

from ._small_matrices import cholesky_solve, compiled, copy_matrix, inner, rotate_left

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "9c064cc2a97f0691"


@inner
def _gather(X, x, weights, Y, w):
    """Copy the points that are seen into Y, rows X, Y, Z and those of the image; return how many there are."""
    n, dims = x.shape
    m = 0
    for i in range(n):
        good = weights[i] > 0.0
        for j in range(3):
            good = good and np.isfinite(X[i, j])
            Y[j, m] = X[i, j]
        for j in range(dims):
            good = good and np.isfinite(x[i, j])
            Y[3 + j, m] = x[i, j]
        w[m] = weights[i]
        m += good
    return m


@inner
def _mean(a, w, m):
    total = 0.0
    for i in range(m):
        total += w[i] * a[i]
    return total


@inner
def _product(a, b, w, m):
    total = 0.0
    for i in range(m):
        total += w[i] * a[i] * b[i]
    return total


@compiled
def moments_rows(first, last, objects, images, weights, centres, middles, scatters, crosses, counts, sizes):
    """Write means and second moments, with weights of sum 1, of the points that are seen.

    `counts` is their number; `sizes` holds Σ w |x - mean|² and the largest |coordinate| of the image points, and that
    of the object points.
    """
    n, dims = images.shape[1], images.shape[2]
    Y, w = np.empty((3 + dims, n + 1)), np.empty(n + 1)
    for b in range(first, last):
        m = _gather(
            objects[b if objects.shape[0] > 1 else 0], images[b], weights[b if weights.shape[0] > 1 else 0], Y, w
        )
        counts[b] = m
        if m == 0:
            continue
        total = extent = reach = 0.0
        for i in range(m):
            total += w[i]
            extent = max(extent, max(abs(Y[3, i]), abs(Y[4, i])))
            reach = max(reach, max(abs(Y[0, i]), max(abs(Y[1, i]), abs(Y[2, i]))))
        for i in range(m):
            w[i] /= total
        for j in range(3 + dims):
            mean = _mean(Y[j], w, m)
            for i in range(m):
                Y[j, i] -= mean
            if j < 3:
                centres[b, j] = mean
            else:
                middles[b, j - 3] = mean
        for j in range(3):
            for k in range(j + 1):
                scatters[b, j, k] = scatters[b, k, j] = _product(Y[j], Y[k], w, m)
            for k in range(dims):
                crosses[b, k, j] = _product(Y[j], Y[3 + k], w, m)
        for k in range(dims):
            sizes[b, 0] += _product(Y[3 + k], Y[3 + k], w, m)
        sizes[b, 1], sizes[b, 2] = extent, reach


@inner
def _moved(R, S, C, M, N):
    """M = R S R' = Σ w Y Y' and N = C R' = Σ w x Y' of the turned points Y = R X."""
    for i in range(3):
        for j in range(3):
            value = 0.0
            for k in range(3):
                for l in range(3):
                    value += R[i, k] * S[k, l] * R[j, l]
            M[i, j] = value
    for i in range(2):
        for j in range(3):
            N[i, j] = C[i, 0] * R[j, 0] + C[i, 1] * R[j, 1] + C[i, 2] * R[j, 2]


@compiled
def refine_rows(first, last, matrices, scales, crosses, scatters, tol, max_iter, steps, done, losses):
    """Levenberg-Marquardt on (ω, log s) of Σ w |s (exp(ω) R X)_xy - x|², which needs only the second moments.

    `losses` becomes that sum without its constant Σ w |x|².
    """
    M, N, trial = np.empty((3, 3)), np.empty((2, 3)), np.empty((3, 3))
    A, L, g, step = np.zeros((4, 4)), np.zeros((4, 4)), np.empty(4), np.empty(4)
    for b in range(first, last):
        R, s = matrices[b], scales[b]
        _moved(R, scatters[b], crosses[b], M, N)
        value = s * s * (M[0, 0] + M[1, 1]) - 2.0 * s * (N[0, 0] + N[1, 1])
        damping = 1e-9  # Gauss-Newton at first: the start is near
        for _ in range(max_iter):
            steps[b] += 1
            _moved(R, scatters[b], crosses[b], M, N)
            # Rows of the Jacobian of (Y_x, Y_y) by (ωx, ωy, ωz, log s): (0, Yz, -Yy, Yx) and (-Yz, 0, Yx, Yy).
            A[0, 0] = A[1, 1] = M[2, 2]
            A[2, 2] = A[3, 3] = M[0, 0] + M[1, 1]
            A[1, 0] = A[3, 2] = 0.0
            A[2, 0], A[2, 1] = -M[2, 0], -M[2, 1]
            A[3, 0], A[3, 1] = -M[2, 1], M[2, 0]
            g[0] = -s * M[2, 1] + N[1, 2]
            g[1] = s * M[2, 0] - N[0, 2]
            g[2] = N[0, 1] - N[1, 0]
            g[3] = s * (M[0, 0] + M[1, 1]) - N[0, 0] - N[1, 1]
            size = max(A[0, 0], A[2, 2])
            slope = 0.0
            for i in range(4):
                slope = max(slope, abs(g[i]))
                g[i] /= s
                A[i, i] += damping * max(A[i, i], 1e-12 * size)  # also where an object has no extent
            # A flat object seen straight on: tilts change nothing to first order, and steps do not shrink.
            stationary = slope <= 1e-14 * s * size
            length = np.inf
            better = False
            if cholesky_solve(A, g, 0.0, 4, L, step):
                length = 0.0
                for i in range(4):
                    length = max(length, abs(step[i]))
                factor = min(1.0, 1.0 / max(length, 1e-300))  # a radian at most, or a factor e of the scale
                rotate_left(factor * step[0], factor * step[1], factor * step[2], R, trial)
                new_scale = s * np.exp(factor * step[3])
                _moved(trial, scatters[b], crosses[b], M, N)
                new = new_scale * new_scale * (M[0, 0] + M[1, 1]) - 2.0 * new_scale * (N[0, 0] + N[1, 1])
                # Below 1e-7 the loss cannot tell better from worse: its change is rounding.
                better = new <= value or length < 1e-7
            if better:
                copy_matrix(trial, R)
                s, value = new_scale, new
            damping *= 0.1 if better else 10.0
            # Damped so much no step is short enough: at a minimum.
            if length < tol or stationary or (not better and damping > 1e12):
                done[b] = True
                break
        scales[b], losses[b] = s, value


@compiled
def residual_rows(first, last, rows, objects, images, weights, matrices, scales, centres, middles, squares):
    """Write the weighted mean of |s R (X - centre) - (x - middle)|² of the problems `rows`."""
    n, dims = images.shape[1], images.shape[2]
    Y, w, e = np.empty((3 + dims, n + 1)), np.empty(n + 1), np.empty(n + 1)
    for p in range(first, last):
        b = rows[p]
        m = _gather(
            objects[b if objects.shape[0] > 1 else 0], images[b], weights[b if weights.shape[0] > 1 else 0], Y, w
        )
        total = square = 0.0
        for i in range(m):
            total += w[i]
        for k in range(dims):
            r0, r1, r2 = scales[p] * matrices[p, k, 0], scales[p] * matrices[p, k, 1], scales[p] * matrices[p, k, 2]
            c0, c1, c2, middle = centres[p, 0], centres[p, 1], centres[p, 2], middles[p, k]
            for i in range(m):
                e[i] = r0 * (Y[0, i] - c0) + r1 * (Y[1, i] - c1) + r2 * (Y[2, i] - c2) - (Y[3 + k, i] - middle)
            square += _product(e, e, w, m)
        squares[p] = square / total
