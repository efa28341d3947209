"""The pixel error of a pose: its normal equations, its minimum and its covariance, in compiled code."""

from __future__ import annotations

import numpy as np

from ._lens import project_point, rotated_point
from ._small_matrices import cholesky_solve, copy_matrix, copy_vector, inner, norm3, rotate_left

LINEAR, HUBER, CAUCHY = 0, 1, 2


@inner
def _normal_equations(Y, px, w, m, camera, R, t, A, g):
    """Cost, A = J'WJ and g = J'W r of the pixel error of an undistorted camera; cost is inf behind the camera."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    r00, r01, r02 = R[0, 0], R[0, 1], R[0, 2]
    r10, r11, r12 = R[1, 0], R[1, 1], R[1, 2]
    r20, r21, r22 = R[2, 0], R[2, 1], R[2, 2]
    t0, t1, t2 = t[0], t[1], t[2]
    y0, y1, y2 = Y[0], Y[1], Y[2]
    px0, px1 = px[0], px[1]
    cost = 0.0
    nearest = np.inf
    a00 = a01 = a02 = a03 = a04 = a05 = a11 = a12 = a13 = a14 = a15 = 0.0
    a22 = a23 = a24 = a25 = a33 = a35 = a44 = a45 = a55 = 0.0
    g0 = g1 = g2 = g3 = g4 = g5 = 0.0
    for i in range(m):
        a = r00 * y0[i] + r01 * y1[i] + r02 * y2[i]
        b = r10 * y0[i] + r11 * y1[i] + r12 * y2[i]
        c = r20 * y0[i] + r21 * y1[i] + r22 * y2[i]
        z = c + t2
        nearest = min(nearest, z)
        iz = 1.0 / z
        u, v = (a + t0) * iz, (b + t1) * iz
        A_, B_ = fx * iz, fy * iz
        eu, ev = fx * u + cx - px0[i], fy * v + cy - px1[i]
        wi = w[i]
        cost += wi * (eu * eu + ev * ev)
        # Rows: A (-u b, c + u a, -b, 1, 0, -u) and B (-c - v b, v a, a, 0, 1, -v).
        p0, p1, p2, p5 = -u * b, c + u * a, -b, -u
        q0, q1, q2, q5 = -c - v * b, v * a, a, -v
        wa, wb = wi * A_, wi * B_
        eu, ev = eu * wa, ev * wb
        wa, wb = wa * A_, wb * B_
        g0 += eu * p0 + ev * q0
        g1 += eu * p1 + ev * q1
        g2 += eu * p2 + ev * q2
        g3 += eu
        g4 += ev
        g5 += eu * p5 + ev * q5
        s0, s1, s2, s5 = wa * p0, wa * p1, wa * p2, wa * p5
        h0, h1, h2, h5 = wb * q0, wb * q1, wb * q2, wb * q5
        a00 += s0 * p0 + h0 * q0
        a01 += s0 * p1 + h0 * q1
        a02 += s0 * p2 + h0 * q2
        a03 += s0
        a04 += h0
        a05 += s0 * p5 + h0 * q5
        a11 += s1 * p1 + h1 * q1
        a12 += s1 * p2 + h1 * q2
        a13 += s1
        a14 += h1
        a15 += s1 * p5 + h1 * q5
        a22 += s2 * p2 + h2 * q2
        a23 += s2
        a24 += h2
        a25 += s2 * p5 + h2 * q5
        a33 += wa
        a35 += s5
        a44 += wb
        a45 += h5
        a55 += s5 * p5 + h5 * q5
    if not nearest > 1e-9:  # in sizes of the object: at or behind the camera
        return np.inf
    A[0, 0], A[1, 0], A[2, 0], A[3, 0], A[4, 0], A[5, 0] = a00, a01, a02, a03, a04, a05
    A[1, 1], A[2, 1], A[3, 1], A[4, 1], A[5, 1] = a11, a12, a13, a14, a15
    A[2, 2], A[3, 2], A[4, 2], A[5, 2] = a22, a23, a24, a25
    A[3, 3], A[4, 3], A[5, 3] = a33, 0.0, a35
    A[4, 4], A[5, 4], A[5, 5] = a44, a45, a55
    g[0], g[1], g[2], g[3], g[4], g[5] = g0, g1, g2, g3, g4, g5
    return cost


@inner
def _normal_equations_general(Y, px, w, m, camera, distorted, loss, loss_scale, n, R, t, A, g):
    """Do the same with distortion, robust loss and, for n = 7, the logarithm of the focal length as last parameter."""
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    k1, k2, p1, p2, k3 = camera[4], camera[5], camera[6], camera[7], camera[8]
    ju, jv = np.empty(7), np.empty(7)
    cost = 0.0
    for i in range(n):
        g[i] = 0.0
        for j in range(n):
            A[i, j] = 0.0
    for i in range(m):
        a, b, c = rotated_point(R, Y, i)
        z = c + t[2]
        if not z > 1e-9:  # in sizes of the object: at or behind the camera
            return np.inf
        iz = 1.0 / z
        u, v = (a + t[0]) * iz, (b + t[1]) * iz
        ju[0], ju[1], ju[2], ju[3], ju[4], ju[5] = -u * b * iz, (c + u * a) * iz, -b * iz, iz, 0.0, -u * iz
        jv[0], jv[1], jv[2], jv[3], jv[4], jv[5] = (-c - v * b) * iz, v * a * iz, a * iz, 0.0, iz, -v * iz
        if distorted:
            r2 = u * u + v * v
            radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
            slope = k1 + r2 * (2.0 * k2 + 3.0 * r2 * k3)
            aa = radial + 2.0 * u * u * slope + 2.0 * p1 * v + 6.0 * p2 * u
            bb = 2.0 * u * v * slope + 2.0 * p1 * u + 2.0 * p2 * v
            dd = radial + 2.0 * v * v * slope + 6.0 * p1 * v + 2.0 * p2 * u
            u, v = (
                u * radial + 2.0 * p1 * u * v + p2 * (r2 + 2.0 * u * u),
                v * radial + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * u * v,
            )
            for k in range(6):
                ju[k], jv[k] = aa * ju[k] + bb * jv[k], bb * ju[k] + dd * jv[k]
        for k in range(6):
            ju[k] *= fx
            jv[k] *= fy
        ju[6], jv[6] = fx * u, fy * v
        eu, ev = fx * u + cx - px[0, i], fy * v + cy - px[1, i]
        wi = w[i]
        s = (eu * eu + ev * ev) / (loss_scale * loss_scale)
        if loss == HUBER:
            if s > 1.0:
                cost += wi * loss_scale * loss_scale * (2.0 * np.sqrt(s) - 1.0)
                wi /= np.sqrt(s)
            else:
                cost += wi * (eu * eu + ev * ev)
        elif loss == CAUCHY:
            cost += wi * loss_scale * loss_scale * np.log1p(s)
            wi /= 1.0 + s
        else:
            cost += wi * (eu * eu + ev * ev)
        for k in range(n):
            g[k] += wi * (ju[k] * eu + jv[k] * ev)
            for j in range(k + 1):
                A[k, j] += wi * (ju[k] * ju[j] + jv[k] * jv[j])
    return cost


@inner
def refine(Y, px, w, m, camera, distorted, loss, loss_scale, n, tol, max_iter, R, t, A, g, work):
    """Levenberg-Marquardt in place. Return (cost, iterations, converged); A is J'WJ at the end.

    The cost is evaluated in one place only, since the compiler copies the code of every call.
    """
    L, step, trial_R, trial_t = work[0], work[1], work[2], work[3]
    trial_A, trial_g, trial_camera = work[4], work[5], work[6]
    plain = loss == LINEAR and not distorted and n == 6
    damping = 0.0 if plain else 1e-6  # a free focal length, or outliers alone, leave directions without curvature
    cost, size = np.inf, np.inf
    copy_vector(camera, trial_camera)
    copy_vector(t, trial_t)
    copy_matrix(R, trial_R)
    for iteration in range(max_iter + 1):
        if plain:
            new = _normal_equations(Y, px, w, m, trial_camera, trial_R, trial_t, trial_A, trial_g)
        else:
            new = _normal_equations_general(
                Y, px, w, m, trial_camera, distorted, loss, loss_scale, n, trial_R, trial_t, trial_A, trial_g
            )
        # Below 1e-7 the change of cost is rounding; the step is still the better estimate.
        if (new <= cost and new < np.inf) or (size < 1e-7 and new < np.inf):
            # Where rounding has the last word steps shrink no further: then the tolerance gives way.
            if size < 100.0 * tol and not new < cost * (1.0 - 1e-15):
                tol = max(tol, 2.0 * size)
            cost = new
            copy_matrix(trial_R, R)
            copy_vector(trial_t, t)
            for i in range(n):
                g[i] = trial_g[i]
                for j in range(i + 1):
                    A[i, j] = trial_A[i, j]
            camera[0], camera[1] = trial_camera[0], trial_camera[1]
            if iteration > 0:
                damping = 0.0 if damping < 1e-7 else 0.1 * damping  # at last Gauss-Newton, which needs few steps
        else:
            if iteration == 0:
                return np.inf, 0, False
            damping = max(10.0 * damping, 1e-4)
        # A step that is neither singular nor longer than the linearisation reaches.
        while True:
            if damping > 1e12:  # no step is short enough: at a minimum, or at an end of all numbers
                return cost, iteration, size < 1e-5
            if cholesky_solve(A, g, damping, n, L, step):
                turn = norm3(step[0], step[1], step[2])
                # 1.5 radians, and a factor e of the focal length.
                if turn < 1.5 and (n < 7 or abs(step[6]) < 1.0):
                    break
            damping = max(10.0 * damping, 1e-6)
        move = norm3(step[3], step[4], step[5]) / norm3(t[0], t[1], t[2])
        size = max(turn, move)
        rotate_left(step[0], step[1], step[2], R, trial_R)
        for k in range(3):
            trial_t[k] = t[k] + step[3 + k]
        if n == 7:
            size = max(size, abs(step[6]))
            trial_camera[0], trial_camera[1] = camera[0] * np.exp(step[6]), camera[1] * np.exp(step[6])
        if size < tol:
            copy_matrix(trial_R, R)
            copy_vector(trial_t, t)
            camera[0], camera[1] = trial_camera[0], trial_camera[1]
            return cost, iteration + 1, True
    return cost, max_iter, False


@inner
def write_errors(Y, px, w, m, camera, distorted, loss, loss_scale, R, t, index, residuals):
    """Write the residuals; return their mean square and their weighted sum of squares, outliers weighted down."""
    square = weighted = 0.0
    for i in range(m):
        a, b, c = rotated_point(R, Y, i)
        u, v = project_point(a + t[0], b + t[1], c + t[2], camera, distorted)
        eu = camera[0] * u + camera[2] - px[0, i]
        ev = camera[1] * v + camera[3] - px[1, i]
        residuals[index[i], 0], residuals[index[i], 1] = eu, ev
        e = eu * eu + ev * ev
        square += e
        s = e / (loss_scale * loss_scale)
        if loss == HUBER and s > 1.0:
            weighted += w[i] * e / np.sqrt(s)
        elif loss == CAUCHY:
            weighted += w[i] * e / (1.0 + s)
        else:
            weighted += w[i] * e
    return square / m, weighted


@inner
def reversed_square(Y, px, w, m, camera, distorted, R, t):
    """Return the weighted sum of squares with the depth of the object reversed: the reflected object in this view."""
    square = 0.0
    for i in range(m):
        a, b, c = rotated_point(R, Y, i)
        if t[2] - c <= 0.0:
            return np.inf
        u, v = project_point(a + t[0], b + t[1], t[2] - c, camera, distorted)
        eu, ev = camera[0] * u + camera[2] - px[0, i], camera[1] * v + camera[3] - px[1, i]
        square += w[i] * (eu * eu + ev * ev)
    return square


@inner
def write_covariance(A, n, variance, R, size, centre, work, covariance):
    """Write variance A^-1, moved from the middle of the object to its origin; return the variance of parameter 7."""
    L, step, unit = work[0], work[1], work[5]
    inverse, half, p = work[7], work[8], work[9]
    for k in range(n):
        for i in range(n):
            unit[i] = -1.0 if i == k else 0.0
        if not cholesky_solve(A, unit, 0.0, n, L, step):
            for i in range(6):
                for j in range(6):
                    covariance[i, j] = np.inf
            return -1.0
        for i in range(n):
            inverse[i, k] = step[i]
    # A turn about the middle of the object moves its origin: δt = size δt_c + (R c) x ω. First rows, then columns.
    for i in range(3):
        p[i] = R[i, 0] * centre[0] + R[i, 1] * centre[1] + R[i, 2] * centre[2]
    for k in range(6):
        x, y, z = inverse[0, k], inverse[1, k], inverse[2, k]
        half[0, k], half[1, k], half[2, k] = x, y, z
        half[3, k] = size * inverse[3, k] + p[1] * z - p[2] * y
        half[4, k] = size * inverse[4, k] + p[2] * x - p[0] * z
        half[5, k] = size * inverse[5, k] + p[0] * y - p[1] * x
    for k in range(6):
        x, y, z = variance * half[k, 0], variance * half[k, 1], variance * half[k, 2]
        covariance[k, 0], covariance[k, 1], covariance[k, 2] = x, y, z
        covariance[k, 3] = variance * size * half[k, 3] + p[1] * z - p[2] * y
        covariance[k, 4] = variance * size * half[k, 4] + p[2] * x - p[0] * z
        covariance[k, 5] = variance * size * half[k, 5] + p[0] * y - p[1] * x
    return variance * inverse[n - 1, n - 1]


@inner
def image_scatter(px, w, m, weight):
    """Return the weighted sum of the squared distances of the points in the image from their mean."""
    u = v = square = 0.0
    for i in range(m):
        u += w[i] * px[0, i] / weight
        v += w[i] * px[1, i] / weight
    for i in range(m):
        x, y = px[0, i] - u, px[1, i] - v
        square += w[i] * (x * x + y * y)
    return square
