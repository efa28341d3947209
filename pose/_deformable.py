"""The compiled fit of a deformable object: pose and mode coefficients together, by Levenberg-Marquardt."""

from __future__ import annotations

import numpy as np

from ._small_matrices import cholesky_solve, compiled, inner, rotate_left, to_quaternion

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "9c064cc2a97f0691"


@inner
def _equations(mean, modes, px, w, index, seen, camera, precision, R, t, beta, A, g, J):
    """Cost, J'WJ and J'W r of pixel errors over their noise plus |β|²; inf behind the camera.

    Parameters are ω, t and β, the coefficients in units of their standard deviations. `J` holds the two rows of a
    point.
    """
    m = beta.shape[0]
    n = 6 + m
    for i in range(n):
        g[i] = 0.0
        for j in range(i + 1):
            A[i, j] = 0.0
    cost = 0.0
    for i in range(m):
        cost += beta[i] * beta[i]
        g[6 + i] = beta[i]
        A[6 + i, 6 + i] = 1.0
    for p in range(seen):
        k = index[p]
        x, y, z = mean[k, 0], mean[k, 1], mean[k, 2]
        for i in range(m):
            x += beta[i] * modes[i, k, 0]
            y += beta[i] * modes[i, k, 1]
            z += beta[i] * modes[i, k, 2]
        a = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z
        b = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z
        c = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z
        depth = c + t[2]
        if not depth > 1e-9:  # at or behind the camera, where projections have no bounds
            return np.inf
        iz = 1.0 / depth
        u, v = (a + t[0]) * iz, (b + t[1]) * iz
        fu, fv = camera[0] * iz, camera[1] * iz
        J[0, 0], J[0, 1], J[0, 2], J[0, 3], J[0, 4], J[0, 5] = -u * b * fu, (c + u * a) * fu, -b * fu, fu, 0.0, -u * fu
        J[1, 0], J[1, 1], J[1, 2], J[1, 3], J[1, 4], J[1, 5] = (-c - v * b) * fv, v * a * fv, a * fv, 0.0, fv, -v * fv
        # A mode moves the point by R S_k: rows (R0 - u R2) and (R1 - v R2) times it.
        p0, p1, p2 = (R[0, 0] - u * R[2, 0]) * fu, (R[0, 1] - u * R[2, 1]) * fu, (R[0, 2] - u * R[2, 2]) * fu
        q0, q1, q2 = (R[1, 0] - v * R[2, 0]) * fv, (R[1, 1] - v * R[2, 1]) * fv, (R[1, 2] - v * R[2, 2]) * fv
        for i in range(m):
            s0, s1, s2 = modes[i, k, 0], modes[i, k, 1], modes[i, k, 2]
            J[0, 6 + i] = p0 * s0 + p1 * s1 + p2 * s2
            J[1, 6 + i] = q0 * s0 + q1 * s1 + q2 * s2
        eu = camera[0] * u + camera[2] - px[0, p]
        ev = camera[1] * v + camera[3] - px[1, p]
        weight = w[p] * precision
        cost += weight * (eu * eu + ev * ev)
        for i in range(n):
            ju, jv = weight * J[0, i], weight * J[1, i]
            g[i] += ju * eu + jv * ev
            for j in range(i + 1):
                A[i, j] += ju * J[0, j] + jv * J[1, j]
    return cost


@inner
def _fit(mean, modes, limits, px, w, index, seen, camera, precision, tol, max_iter, R, t, beta, A, g, work):
    """Levenberg-Marquardt in place, coefficients held within their limits. Return (cost, iterations, converged)."""
    L, step, trial_R, trial_t, trial_beta, trial_A, trial_g, J = work
    m = beta.shape[0]
    n = 6 + m
    cost = _equations(mean, modes, px, w, index, seen, camera, precision, R, t, beta, A, g, J)
    if not cost < np.inf:
        return cost, 0, False
    damping = 1e-6  # Gauss-Newton, but for directions without any curvature
    for iteration in range(1, max_iter + 1):
        # A coefficient at its limit that the gradient pushes outwards stays there: its row becomes the identity.
        for i in range(m):
            if abs(beta[i]) >= limits[i] and beta[i] * g[6 + i] < 0.0:
                for j in range(6 + i):
                    A[6 + i, j] = 0.0
                for j in range(7 + i, n):
                    A[j, 6 + i] = 0.0
                A[6 + i, 6 + i] = 1.0
                g[6 + i] = 0.0
        if not cholesky_solve(A, g, damping, n, L, step):
            if damping > 1e6:  # no positive definite system even so: numbers that are none
                return cost, iteration, False
            damping = max(10.0 * damping, 1e-6)
            continue
        turn = np.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
        move = np.sqrt(step[3] ** 2 + step[4] ** 2 + step[5] ** 2) / np.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
        size = max(turn, move)
        # A radian: farther the quadratic model says nothing.
        if turn > 1.0:
            damping = max(10.0 * damping, 1e-3)
            continue
        rotate_left(step[0], step[1], step[2], R, trial_R)
        for k in range(3):
            trial_t[k] = t[k] + step[3 + k]
        for i in range(m):
            trial_beta[i] = min(limits[i], max(-limits[i], beta[i] + step[6 + i]))
            size = max(size, abs(trial_beta[i] - beta[i]))
        new = _equations(
            mean, modes, px, w, index, seen, camera, precision, trial_R, trial_t, trial_beta, trial_A, trial_g, J
        )
        # Below 1e-7 the change of cost is rounding; the step is still the better estimate.
        if new <= cost or (size < 1e-7 and new < np.inf):
            cost = new
            for i in range(3):
                t[i] = trial_t[i]
                for j in range(3):
                    R[i, j] = trial_R[i, j]
            for i in range(m):
                beta[i] = trial_beta[i]
            for i in range(n):
                g[i] = trial_g[i]
                for j in range(i + 1):
                    A[i, j] = trial_A[i, j]
            damping = 0.0 if damping < 1e-7 else 0.1 * damping  # at last Gauss-Newton, which needs few steps
            if size < tol:
                return cost, iteration, True
        else:
            damping = max(10.0 * damping, 1e-4)
            if damping > 1e12:  # no step is short enough: at a minimum, or at an end of all numbers
                return cost, iteration, size < 1e-5
    return cost, max_iter, False


@compiled
def fit_rows(
    first, last, mean, modes, limits, pixels, weights, cameras, precisions, tol, max_iter,
    matrices, translations, betas, quaternions, numbers, covariances, residuals,
):  # fmt: skip
    """Fit the rows first..last from the poses in `matrices` and `translations`; rows of NaN are left alone."""
    total, m = pixels.shape[1], modes.shape[0]
    n = 6 + m
    px, w, index = np.empty((2, total)), np.empty(total), np.empty(total, dtype=np.int64)
    A, g = np.zeros((n, n)), np.empty(n)
    work = (
        np.empty((n, n)), np.empty(n), np.empty((3, 3)), np.empty(3), np.empty(m), np.zeros((n, n)), np.empty(n),
        np.empty((2, n)),
    )  # fmt: skip
    unit = np.empty(n)
    for b in range(first, last):
        camera = cameras[b if cameras.shape[0] > 1 else 0]
        weight = weights[b if weights.shape[0] > 1 else 0]
        R, t, beta = matrices[b], translations[b], betas[b]
        for i in range(total):
            residuals[b, i, 0] = residuals[b, i, 1] = np.nan
        if not np.isfinite(t[0]):
            continue
        seen = np.int64(0)
        for i in range(total):
            if weight[i] > 0.0 and np.isfinite(pixels[b, i, 0]) and np.isfinite(pixels[b, i, 1]):
                px[0, seen], px[1, seen], w[seen], index[seen] = pixels[b, i, 0], pixels[b, i, 1], weight[i], i
                seen += 1
        _, iterations, converged = _fit(
            mean, modes, limits, px, w, index, seen, camera, precisions[b], tol, max_iter, R, t, beta, A, g, work
        )
        to_quaternion(R, quaternions[b])
        square = 0.0
        for p in range(seen):
            k = index[p]
            x, y, z = mean[k, 0], mean[k, 1], mean[k, 2]
            for i in range(m):
                x += beta[i] * modes[i, k, 0]
                y += beta[i] * modes[i, k, 1]
                z += beta[i] * modes[i, k, 2]
            a = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0]
            c = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1]
            d = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2]
            eu, ev = camera[0] * a / d + camera[2] - px[0, p], camera[1] * c / d + camera[3] - px[1, p]
            residuals[b, k, 0], residuals[b, k, 1] = eu, ev
            square += eu * eu + ev * ev
        numbers[b, 0], numbers[b, 1] = np.sqrt(square / seen), iterations
        numbers[b, 2] = 1.0 if converged else 0.0
        for k in range(6):
            for i in range(n):
                unit[i] = -1.0 if i == k else 0.0
            if cholesky_solve(A, unit, 0.0, n, work[0], work[1]):
                for i in range(6):
                    covariances[b, i, k] = work[1][i]
            else:
                numbers[b, 2] = -1.0
                for i in range(6):
                    covariances[b, i, k] = np.inf
