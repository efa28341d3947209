"""The compiled core of `solve_pnp`: one row at a time, the same function for one problem and for thousands.

Method. (1) Object points are centred and scaled; rays are turned so that the middle of the object lies on the axis.
(2) The object-space error E = Σ w |(x - u z, y - v z)|² with t eliminated is a quadratic form r' Ω r of the nine
entries of R, as in SQPnP (Terzakis and Lourakis, ECCV 2020). It is minimised by Newton's method on the rotations,
at a cost that does not depend on the number of points. (3) Starts are the scaled-orthographic pose and its depth
reversal, which are the two minima of a distant or planar target; where the object is deep for its distance, has few
points, or fits badly, the 24 rotations of the cube join them, so that every basin of E is entered. (4) The best
minima with all points in front of the camera are refined by Levenberg-Marquardt on the pixel error with the analytic
Jacobian, rotations updated on the left: R <- exp(ω) R.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}

# For functions that only compiled code calls: their Python entry need not be compiled.
_INNER = {**_OPTIONS, "no_cpython_wrapper": True}

OK = 0
TOO_FEW = 1
COINCIDENT = 2
COLLINEAR = 3
IMAGE_COINCIDENT = 4
BEHIND = 5
NOT_CONVERGED = 6
POOR_FIT = 7
ILL_CONDITIONED = 8
TOO_FEW_PLACES = 10  # 9 is given outside, see `_flag_mirrored`

LINEAR, HUBER, CAUCHY = 0, 1, 2


def _cube_rotations() -> np.ndarray:
    out = []
    for i, j in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)):
        for a in (1.0, -1.0):
            for b in (1.0, -1.0):
                matrix = np.zeros((3, 3))
                matrix[0, i], matrix[1, j] = a, b
                matrix[2] = np.cross(matrix[0], matrix[1])
                out.append(matrix)
    return np.array(out)


CUBE = _cube_rotations()


@njit(**_INNER)
def _rotate(wx, wy, wz, R, out):
    """Out = exp([w]) R, by Rodrigues' formula."""
    angle2 = wx * wx + wy * wy + wz * wz
    if angle2 < 1e-12:
        s, c = 1.0 - angle2 / 6.0, 0.5 - angle2 / 24.0
    else:
        angle = np.sqrt(angle2)
        s, c = np.sin(angle) / angle, (1.0 - np.cos(angle)) / angle2
    for j in range(3):
        x, y, z = R[0, j], R[1, j], R[2, j]
        cx, cy, cz = wy * z - wz * y, wz * x - wx * z, wx * y - wy * x
        dx, dy, dz = wy * cz - wz * cy, wz * cx - wx * cz, wx * cy - wy * cx
        out[0, j] = x + s * cx + c * dx
        out[1, j] = y + s * cy + c * dy
        out[2, j] = z + s * cz + c * dz


@njit(**_INNER)
def _length(x, y, z):
    return np.sqrt(x * x + y * y + z * z)


@njit(**_INNER)
def _cholesky_solve(A, g, damping, n, L, out):
    """Solve (A + damping diag(A)) out = -g for a symmetric A; False when it is not positive definite."""
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            if i == j:
                s += damping * A[i, i]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                if not s > 1e-14 * A[i, i]:
                    return False
                L[i, i] = np.sqrt(s)
            else:
                L[i, j] = s / L[j, j]
    for i in range(n):
        s = -g[i]
        for k in range(i):
            s -= L[i, k] * out[k]
        out[i] = s / L[i, i]
    for i in range(n - 1, -1, -1):
        s = out[i]
        for k in range(i + 1, n):
            s -= L[k, i] * out[k]
        out[i] = s / L[i, i]
    return True


@njit(**_INNER)
def _eigen3(A, V):
    """Eigenvalues, descending, of a symmetric 3 x 3 matrix by Jacobi rotations; columns of V are the vectors."""
    for i in range(3):
        for j in range(3):
            V[i, j] = 1.0 if i == j else 0.0
    for _ in range(30):
        off = on = 0.0
        for i in range(3):
            on += A[i, i] * A[i, i]
            for j in range(i):
                off += A[i, j] * A[i, j]
        if off <= 1e-32 * on:
            break
        for p in range(2):
            for q in range(p + 1, 3):
                if A[p, q] == 0.0:
                    continue
                theta = (A[q, q] - A[p, p]) / (2.0 * A[p, q])
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                if theta < 0:
                    t = -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(3):
                    x, y = A[k, p], A[k, q]
                    A[k, p], A[k, q] = c * x - s * y, s * x + c * y
                    x, y = V[k, p], V[k, q]
                    V[k, p], V[k, q] = c * x - s * y, s * x + c * y
                for k in range(3):
                    x, y = A[p, k], A[q, k]
                    A[p, k], A[q, k] = c * x - s * y, s * x + c * y
    for i in range(2):
        for j in range(2 - i):
            if A[j, j] < A[j + 1, j + 1]:
                A[j, j], A[j + 1, j + 1] = A[j + 1, j + 1], A[j, j]
                for k in range(3):
                    V[k, j], V[k, j + 1] = V[k, j + 1], V[k, j]


@njit(**_INNER)
def _undistort(x, y, camera):
    """Invert the lens distortion by Newton's method."""
    k1, k2, p1, p2, k3 = camera[4], camera[5], camera[6], camera[7], camera[8]
    u, v = x, y
    for _ in range(50):
        r2 = u * u + v * v
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = k1 + r2 * (2.0 * k2 + 3.0 * r2 * k3)
        ex = u * radial + 2.0 * p1 * u * v + p2 * (r2 + 2.0 * u * u) - x
        ey = v * radial + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * u * v - y
        a = radial + 2.0 * u * u * slope + 2.0 * p1 * v + 6.0 * p2 * u
        b = 2.0 * u * v * slope + 2.0 * p1 * u + 2.0 * p2 * v
        d = radial + 2.0 * v * v * slope + 6.0 * p1 * v + 2.0 * p2 * u
        det = a * d - b * b
        if abs(det) < 1e-12:
            break
        du, dv = (d * ex - b * ey) / det, (a * ey - b * ex) / det
        u -= du
        v -= dv
        if abs(du) + abs(dv) < 1e-14:
            break
    return u, v


@njit(**_INNER)
def _quadratic_form(Y, uv, w, m, omega, N, T):
    """Ω, N, T: E(R, t) = r'Ω0 r + 2 t'N r + t'T t; with t = -T^-1 N r it is r'Ω r, Ω = Ω0 - N'T^-1 N."""
    # Sums of w, w u, w v, w (u^2 + v^2) times 1, Y, Y Y'.
    sums = np.empty((4, 10))
    y0, y1, y2 = Y[0], Y[1], Y[2]
    u_, v_ = uv[0], uv[1]
    for k in range(4):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = 0.0
        for i in range(m):
            u, v = u_[i], v_[i]
            if k == 0:
                f = w[i]
            elif k == 1:
                f = w[i] * u
            elif k == 2:
                f = w[i] * v
            else:
                f = w[i] * (u * u + v * v)
            a, b, c = y0[i], y1[i], y2[i]
            fa, fb, fc = f * a, f * b, f * c
            s0 += f
            s1 += fa
            s2 += fb
            s3 += fc
            s4 += fa * a
            s5 += fa * b
            s6 += fa * c
            s7 += fb * b
            s8 += fb * c
            s9 += fc * c
        sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3], sums[k, 4] = s0, s1, s2, s3, s4
        sums[k, 5], sums[k, 6], sums[k, 7], sums[k, 8], sums[k, 9] = s5, s6, s7, s8, s9
    omega[:] = 0.0
    N[:] = 0.0
    e = 4
    for i in range(3):
        for j in range(i, 3):
            for p, q in ((i, j), (j, i)):
                omega[p, q] = omega[3 + p, 3 + q] = sums[0, e]
                omega[p, 6 + q] = omega[6 + q, p] = -sums[1, e]
                omega[3 + p, 6 + q] = omega[6 + q, 3 + p] = -sums[2, e]
                omega[6 + p, 6 + q] = sums[3, e]
            e += 1
    for j in range(3):
        N[0, j] = sums[0, 1 + j]
        N[0, 6 + j] = -sums[1, 1 + j]
        N[1, 3 + j] = sums[0, 1 + j]
        N[1, 6 + j] = -sums[2, 1 + j]
        N[2, j] = -sums[1, 1 + j]
        N[2, 3 + j] = -sums[2, 1 + j]
        N[2, 6 + j] = sums[3, 1 + j]
    # T = [[W, 0, -U], [0, W, -V], [-U, -V, Q]]; its Schur complement is W Q - U^2 - V^2 over W.
    W, U, V, Q = sums[0, 0], sums[1, 0], sums[2, 0], sums[3, 0]
    schur = Q - (U * U + V * V) / W
    T[0], T[1], T[2], T[3] = W, U, V, schur
    for j in range(9):
        # t(e_j) = -T^-1 N e_j, kept in the rows of T from index 4 on.
        n0, n1, n2 = N[0, j], N[1, j], N[2, j]
        tz = -(n2 + (U * n0 + V * n1) / W) / schur
        T[4 + 3 * j + 2] = tz
        T[4 + 3 * j] = (-n0 + U * tz) / W
        T[4 + 3 * j + 1] = (-n1 + V * tz) / W
    for i in range(9):
        for j in range(9):
            omega[i, j] += N[0, i] * T[4 + 3 * j] + N[1, i] * T[5 + 3 * j] + N[2, i] * T[6 + 3 * j]


@njit(**_INNER)
def _translation(R, T, t):
    t[0] = t[1] = t[2] = 0.0
    for j in range(9):
        r = R[j // 3, j % 3]
        t[0] += T[4 + 3 * j] * r
        t[1] += T[5 + 3 * j] * r
        t[2] += T[6 + 3 * j] * r


@njit(**_INNER)
def _descend(omega, R, G, trial, max_iter, tol):
    """Newton's method for r'Ω r on the rotations, in place; returns E."""
    energy = 0.0
    for i in range(9):
        s = 0.0
        for j in range(9):
            s += omega[i, j] * R[j // 3, j % 3]
        G[i // 3, i % 3] = s
        energy += s * R[i // 3, i % 3]
    damping = 0.0
    D = np.empty((3, 9))
    for _ in range(max_iter):
        g0 = g1 = g2 = 0.0
        for j in range(3):
            x, y, z = R[0, j], R[1, j], R[2, j]
            g0 += y * G[2, j] - z * G[1, j]
            g1 += z * G[0, j] - x * G[2, j]
            g2 += x * G[1, j] - y * G[0, j]
            # D: derivatives of the entries of exp(w) R.
            D[0, j], D[0, 3 + j], D[0, 6 + j] = 0.0, -z, y
            D[1, j], D[1, 3 + j], D[1, 6 + j] = z, 0.0, -x
            D[2, j], D[2, 3 + j], D[2, 6 + j] = -y, x, 0.0
        h00 = h01 = h02 = h11 = h12 = h22 = 0.0
        for i in range(9):
            a = b = c = 0.0
            for j in range(9):
                o = omega[i, j]
                a += o * D[0, j]
                b += o * D[1, j]
                c += o * D[2, j]
            h00 += D[0, i] * a
            h01 += D[0, i] * b
            h02 += D[0, i] * c
            h11 += D[1, i] * b
            h12 += D[1, i] * c
            h22 += D[2, i] * c
        # Second-order part of exp: w' (R G') w - |w|^2 tr(R G').
        b00 = b01 = b02 = b11 = b12 = b22 = 0.0
        for j in range(3):
            x, y, z = R[0, j], R[1, j], R[2, j]
            p, q, r = G[0, j], G[1, j], G[2, j]
            b00 += x * p
            b11 += y * q
            b22 += z * r
            b01 += 0.5 * (x * q + y * p)
            b02 += 0.5 * (x * r + z * p)
            b12 += 0.5 * (y * r + z * q)
        trace = b00 + b11 + b22
        n00, n11, n22 = h00 + b00 - trace, h11 + b11 - trace, h22 + b22 - trace
        n01, n02, n12 = h01 + b01, h02 + b02, h12 + b12
        scale = h00 + h11 + h22 + 1e-300
        moved = False
        step = 0.0
        for _attempt in range(12):
            m00, m11, m22 = n00 + damping * scale, n11 + damping * scale, n22 + damping * scale
            l10, l20 = n01 / m00, n02 / m00
            d1 = m11 - l10 * n01
            k21 = n12 - l20 * n01
            l21 = k21 / d1
            d2 = m22 - l20 * n02 - l21 * k21
            floor = 1e-9 * scale
            if m00 > floor and d1 > floor and d2 > floor:
                y0 = -g0
                y1 = -g1 - l10 * y0
                y2 = -g2 - l20 * y0 - l21 * y1
                wz = y2 / d2
                wy = y1 / d1 - l21 * wz
                wx = y0 / m00 - l10 * wy - l20 * wz
                step = _length(wx, wy, wz)
                if step > 1.0:
                    wx, wy, wz = wx / step, wy / step, wz / step
                _rotate(wx, wy, wz, R, trial)
                new = 0.0
                for i in range(9):
                    s = 0.0
                    for j in range(9):
                        s += omega[i, j] * trial[j // 3, j % 3]
                    G[i // 3, i % 3] = s
                    new += s * trial[i // 3, i % 3]
                if new <= energy or step < 1e-7:
                    moved = True
                    energy = new
                    _copy(trial, R)
                    damping = 0.0 if damping < 1e-4 else 0.1 * damping
                    break
            damping = max(4.0 * damping, 1e-3)
        if not moved or step < tol:
            break
    return max(energy, 0.0)  # rounding may leave -1e-17


@njit(**_INNER)
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
    if not nearest > 1e-9:
        return np.inf
    A[0, 0], A[1, 0], A[2, 0], A[3, 0], A[4, 0], A[5, 0] = a00, a01, a02, a03, a04, a05
    A[1, 1], A[2, 1], A[3, 1], A[4, 1], A[5, 1] = a11, a12, a13, a14, a15
    A[2, 2], A[3, 2], A[4, 2], A[5, 2] = a22, a23, a24, a25
    A[3, 3], A[4, 3], A[5, 3] = a33, 0.0, a35
    A[4, 4], A[5, 4], A[5, 5] = a44, a45, a55
    g[0], g[1], g[2], g[3], g[4], g[5] = g0, g1, g2, g3, g4, g5
    return cost


@njit(**_INNER)
def _turned(R, Y, i):
    """Point i of the object, turned into the frame of the camera."""
    x, y, z = Y[0, i], Y[1, i], Y[2, i]
    return (
        R[0, 0] * x + R[0, 1] * y + R[0, 2] * z,
        R[1, 0] * x + R[1, 1] * y + R[1, 2] * z,
        R[2, 0] * x + R[2, 1] * y + R[2, 2] * z,
    )


@njit(**_INNER)
def _project(a, b, c, camera, distorted):
    """Return the offset of the pixel from the principal point, over the focal length, of a camera-frame point."""
    u, v = a / c, b / c
    if distorted:
        k1, k2, p1, p2, k3 = camera[4], camera[5], camera[6], camera[7], camera[8]
        r2 = u * u + v * v
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return (
            u * radial + 2.0 * p1 * u * v + p2 * (r2 + 2.0 * u * u),
            v * radial + p1 * (r2 + 2.0 * v * v) + 2.0 * p2 * u * v,
        )
    return u, v


@njit(**_INNER)
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
        a, b, c = _turned(R, Y, i)
        z = c + t[2]
        if not z > 1e-9:
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


@njit(**_INNER)
def _refine(Y, px, w, m, camera, distorted, loss, loss_scale, n, tol, max_iter, R, t, A, g, work):
    """Levenberg-Marquardt in place. Return (cost, iterations, converged); A is J'WJ at the end.

    The cost is evaluated in one place only, since the compiler copies the code of every call.
    """
    L, step, trial_R, trial_t, trial_A, trial_g, trial_camera = (
        work[0], work[1], work[2], work[3], work[4], work[5], work[6],
    )  # fmt: skip
    plain = loss == LINEAR and not distorted and n == 6
    damping = 0.0 if plain else 1e-6
    cost, size = np.inf, np.inf
    _copy1(camera, trial_camera)
    _copy1(t, trial_t)
    _copy(R, trial_R)
    for iteration in range(max_iter + 1):
        if plain:
            new = _normal_equations(Y, px, w, m, trial_camera, trial_R, trial_t, trial_A, trial_g)
        else:
            new = _normal_equations_general(
                Y, px, w, m, trial_camera, distorted, loss, loss_scale, n, trial_R, trial_t, trial_A, trial_g
            )
        # Below 1e-7 the change of cost is rounding; the step is still the better estimate.
        if (new <= cost and new < np.inf) or (size < 1e-7 and new < np.inf):
            if size < 100.0 * tol and not new < cost * (1.0 - 1e-15):
                tol = max(tol, 2.0 * size)
            cost = new
            _copy(trial_R, R)
            _copy1(trial_t, t)
            for i in range(n):
                g[i] = trial_g[i]
                for j in range(i + 1):
                    A[i, j] = trial_A[i, j]
            camera[0], camera[1] = trial_camera[0], trial_camera[1]
            if iteration > 0:
                damping = 0.0 if damping < 1e-7 else 0.1 * damping
        else:
            if iteration == 0:
                return np.inf, 0, False
            damping = max(10.0 * damping, 1e-4)
        # A step that is neither singular nor longer than the linearisation reaches.
        while True:
            if damping > 1e12:
                return cost, iteration, size < 1e-5
            if _cholesky_solve(A, g, damping, n, L, step):
                turn = _length(step[0], step[1], step[2])
                if turn < 1.5 and (n < 7 or abs(step[6]) < 1.0):
                    break
            damping = max(10.0 * damping, 1e-6)
        move = _length(step[3], step[4], step[5]) / _length(t[0], t[1], t[2])
        size = max(turn, move)
        _rotate(step[0], step[1], step[2], R, trial_R)
        for k in range(3):
            trial_t[k] = t[k] + step[3 + k]
        if n == 7:
            size = max(size, abs(step[6]))
            trial_camera[0], trial_camera[1] = camera[0] * np.exp(step[6]), camera[1] * np.exp(step[6])
        if size < tol:
            _copy(trial_R, R)
            _copy1(trial_t, t)
            camera[0], camera[1] = trial_camera[0], trial_camera[1]
            return cost, iteration + 1, True
    return cost, max_iter, False


@njit(**_INNER)
def _reverse_depth(R, V, out):
    """Reverse the depth of R along the principal frame V, D (R V) D V': the other minimum of a distant target."""
    for i in range(3):
        for j in range(3):
            s = 0.0
            for k in range(3):
                rv = R[i, 0] * V[0, k] + R[i, 1] * V[1, k] + R[i, 2] * V[2, k]
                if (i == 2) != (k == 2):
                    rv = -rv
                s += rv * V[j, k]
            out[i, j] = s


@njit(**_INNER)
def _orthographic_start(sums_u, sums_v, eigenvalues, V, planar, first, second):
    """Scaled-orthographic pose from the affine fit u ~ α·Y; for a plane both poses, else the one and its reversal."""
    alpha, beta = np.empty(3), np.empty(3)
    for k in range(3):
        alpha[k] = beta[k] = 0.0
        for j in range(3):
            alpha[k] += V[j, k] * sums_u[j] / eigenvalues[k]
            beta[k] += V[j, k] * sums_v[j] / eigenvalues[k]
    if planar:
        # Complete (α, x), (β, y) to orthogonal rows of one length: (x + i y)^2 = |β|^2 - |α|^2 - 2 i α·β.
        re = beta[0] * beta[0] + beta[1] * beta[1] - alpha[0] * alpha[0] - alpha[1] * alpha[1]
        im = -2.0 * (alpha[0] * beta[0] + alpha[1] * beta[1])
        size = np.sqrt(np.sqrt(re * re + im * im))
        phase = 0.5 * np.arctan2(im, re)
        alpha[2], beta[2] = size * np.cos(phase), size * np.sin(phase)
    na, nb = _length(alpha[0], alpha[1], alpha[2]), _length(beta[0], beta[1], beta[2])
    if not (na > 0 and nb > 0):
        return False
    p, q = np.empty(3), np.empty(3)
    for k in range(3):
        p[k] = alpha[k] / na + beta[k] / nb
        q[k] = alpha[k] / na - beta[k] / nb
    np_, nq = _length(p[0], p[1], p[2]), _length(q[0], q[1], q[2])
    if np_ < 1e-9 or nq < 1e-9:
        return False
    G = np.empty((3, 3))
    for k in range(3):
        G[0, k] = (p[k] / np_ + q[k] / nq) * np.sqrt(0.5)
        G[1, k] = (p[k] / np_ - q[k] / nq) * np.sqrt(0.5)
    G[2, 0] = G[0, 1] * G[1, 2] - G[0, 2] * G[1, 1]
    G[2, 1] = G[0, 2] * G[1, 0] - G[0, 0] * G[1, 2]
    G[2, 2] = G[0, 0] * G[1, 1] - G[0, 1] * G[1, 0]
    for i in range(3):
        for j in range(3):
            first[i, j] = G[i, 0] * V[j, 0] + G[i, 1] * V[j, 1] + G[i, 2] * V[j, 2]
    _reverse_depth(first, V, second)
    return True


@njit(**_INNER)
def _angle_cosine(A, B):
    trace = 0.0
    for i in range(3):
        for j in range(3):
            trace += A[i, j] * B[i, j]
    return 0.5 * (trace - 1.0)


@njit(**_INNER)
def _quaternion(R, q):
    """Write the unit quaternion (x, y, z, w) of a rotation, from its largest component."""
    trace = R[0, 0] + R[1, 1] + R[2, 2]
    if trace > max(R[0, 0], max(R[1, 1], R[2, 2])):
        q[0], q[1], q[2], q[3] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1.0 + trace
    else:
        i = 0
        if R[1, 1] > R[0, 0]:
            i = 1
        if R[2, 2] > R[i, i]:
            i = 2
        j, k = (i + 1) % 3, (i + 2) % 3
        q[i] = 1.0 - trace + 2.0 * R[i, i]
        q[j] = R[j, i] + R[i, j]
        q[k] = R[k, i] + R[i, k]
        q[3] = R[k, j] - R[j, k]
    size = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    for i in range(4):
        q[i] /= size


@njit(**_INNER)
def _copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@njit(**_INNER)
def _copy1(source, target):
    for i in range(source.shape[0]):
        target[i] = source[i]


@njit(**_INNER)
def _product(A, B, out):
    """Write A' B."""
    for i in range(3):
        for j in range(3):
            s = 0.0
            for k in range(3):
                s += A[k, i] * B[k, j]
            out[i, j] = s


@njit(**_INNER)
def _gather(X, pixels, weights, Y, px, w, index):
    """Collect the points that are seen and have weight; return how many."""
    m = 0
    for i in range(X.shape[0]):
        good = weights[i] > 0.0 and np.isfinite(pixels[i, 0]) and np.isfinite(pixels[i, 1])
        if good and np.isfinite(X[i, 0]) and np.isfinite(X[i, 1]) and np.isfinite(X[i, 2]):
            index[m] = i
            w[m] = weights[i]
            Y[0, m], Y[1, m], Y[2, m] = X[i, 0], X[i, 1], X[i, 2]
            px[0, m], px[1, m] = pixels[i, 0], pixels[i, 1]
            m += 1
    return m


@njit(**_INNER)
def _centre_object(Y, w, m, centre, eigenvalues, V):
    """Centre the object and give it unit size; find its principal frame. Return (status, size, sum of weights)."""
    total = 0.0
    for k in range(3):
        centre[k] = 0.0
    for i in range(m):
        total += w[i]
        for k in range(3):
            centre[k] += w[i] * Y[k, i]
    farthest = 0.0
    for k in range(3):
        centre[k] /= total
        for i in range(m):
            farthest = max(farthest, abs(Y[k, i]))
            Y[k, i] -= centre[k]
    scatter = np.empty((3, 3))
    trace = 0.0
    for j in range(3):
        for k in range(j + 1):
            s = 0.0
            for i in range(m):
                s += w[i] * Y[j, i] * Y[k, i]
            scatter[j, k] = scatter[k, j] = s
        trace += scatter[j, j]
    size = np.sqrt(trace / total)
    if not size > 1e-12 * farthest:
        return COINCIDENT, size, total
    for k in range(3):
        for i in range(m):
            Y[k, i] /= size
        for j in range(3):
            scatter[j, k] /= size * size
    _eigen3(scatter, V)
    for k in range(3):
        eigenvalues[k] = scatter[k, k]
    handed = (
        V[0, 0] * (V[1, 1] * V[2, 2] - V[2, 1] * V[1, 2])
        - V[0, 1] * (V[1, 0] * V[2, 2] - V[2, 0] * V[1, 2])
        + V[0, 2] * (V[1, 0] * V[2, 1] - V[2, 0] * V[1, 1])
    )
    if handed < 0:
        for k in range(3):
            V[k, 2] = -V[k, 2]
    if not eigenvalues[1] > 1e-10 * eigenvalues[0]:
        return COLLINEAR, size, total
    return OK, size, total


@njit(**_INNER)
def _places(Y, m, needed):
    """Count the places of an object of unit size, points at the same place once; stop at `needed`."""
    count = 0
    for i in range(m):
        if count >= needed:
            break
        new = 1
        for j in range(i):
            near = (Y[0, i] - Y[0, j]) ** 2 + (Y[1, i] - Y[1, j]) ** 2 + (Y[2, i] - Y[2, j]) ** 2
            if near < 1e-18:
                new = 0
                break
        count += new
    return count


@njit(**_INNER)
def _aim_rays(px, w, m, total, camera, distorted, uv, turn):
    """Turn pixels into rays (u, v, 1) about their middle. Return the mean u, v and their variance."""
    mu = mv = 0.0
    for i in range(m):
        u, v = (px[0, i] - camera[2]) / camera[0], (px[1, i] - camera[3]) / camera[1]
        if distorted:
            u, v = _undistort(u, v, camera)
        uv[0, i], uv[1, i] = u, v
        mu += w[i] * u
        mv += w[i] * v
    mu, mv = mu / total, mv / total
    for i in range(3):
        for j in range(3):
            turn[i, j] = 1.0 if i == j else 0.0
    off = np.sqrt(mu * mu + mv * mv)
    if off > 0.05:
        turned = np.empty((3, 3))
        angle = np.arctan(off)
        _rotate(mv / off * angle, -mu / off * angle, 0.0, turn, turned)
        nearest = np.inf
        for i in range(m):
            nearest = min(nearest, turned[2, 0] * uv[0, i] + turned[2, 1] * uv[1, i] + turned[2, 2])
        if nearest > 0.05:  # else wider than a hemisphere about the middle: leave the rays as they are
            _copy(turned, turn)
            for i in range(m):
                u, v = uv[0, i], uv[1, i]
                z = turn[2, 0] * u + turn[2, 1] * v + turn[2, 2]
                uv[0, i] = (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]) / z
                uv[1, i] = (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]) / z
    mu = mv = 0.0
    for i in range(m):
        mu += w[i] * uv[0, i]
        mv += w[i] * uv[1, i]
    mu, mv = mu / total, mv / total
    spread = 0.0
    for i in range(m):
        u, v = uv[0, i] - mu, uv[1, i] - mv
        spread += w[i] * (u * u + v * v)
    return mu, mv, spread / total


@njit(**_INNER)
def _candidates(Y, uv, w, m, total, spread, eigenvalues, V, T, candidates, energies, depths):
    """Find minima of the object-space error. Return how many, and the misfit beyond which a rival does not count."""
    omega, N = np.empty((9, 9)), np.empty((3, 9))
    G, trial, t = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    _quadratic_form(Y, uv, w, m, omega, N, T)
    sums_u, sums_v = np.empty(3), np.empty(3)
    for j in range(3):
        sums_u[j], sums_v[j] = -N[0, 6 + j], -N[1, 6 + j]
    # Planar also when nearly so: the depth of a thin target is not worth a direction.
    planar = eigenvalues[2] < 1e-3 * eigenvalues[0]
    count = 0
    fixed = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            fixed[i, j] = 1.0 if i == j else 0.0
    if _orthographic_start(sums_u, sums_v, eigenvalues, V, planar, candidates[0], candidates[1]):
        for k in range(2):
            energies[k] = _descend(omega, candidates[k], G, trial, np.int64(20), 3e-3)
            _translation(candidates[k], T, t)
            depths[k] = t[2]
        count = 2
        best = 0
        if depths[1] > 0 and (energies[1] < energies[0] or depths[0] <= 0):
            best = 1
        misfit = energies[best] / (total * depths[best] * depths[best] * spread)
        if m > 5 and depths[best] > 4.0 and misfit < 0.01:
            # A rival counts when it misses by less than a tenth of the size of the target.
            return count, 0.01
        _copy(candidates[0], fixed)
    for k in range(24):
        C = candidates[count]
        for i in range(3):
            for j in range(3):
                trial[j, i] = CUBE[k, i, j]
        _product(trial, fixed, C)
        energy = _descend(omega, C, G, trial, np.int64(40), 1e-3)
        _translation(C, T, t)
        known = False
        for j in range(count):
            if _angle_cosine(C, candidates[j]) > 0.9999:
                known = True
                if energy < energies[j]:
                    energies[j], depths[j] = energy, t[2]
                    _copy(C, candidates[j])
                break
        if not known:
            energies[count], depths[count] = energy, t[2]
            count += 1
    return count, 1.0


@njit(**_INNER)
def _choose(energies, depths, count, anywhere):
    """Return the candidate of least misfit that was not yet tried, or -1, its misfit, whether it is behind the camera.

    Candidates behind the camera only count `anywhere`, and where none is in front.
    """
    chosen, lowest = -1, np.inf
    behind, lowest_behind = -1, np.inf
    for k in range(count):
        energy, depth = energies[k], depths[k]
        if energy >= 0.0:
            if depth > 0.0:
                if energy / (depth * depth) < lowest:
                    chosen, lowest = k, energy / (depth * depth)
            elif energy < lowest_behind:
                behind, lowest_behind = k, energy
    if chosen < 0 and anywhere:
        return behind, lowest_behind, True
    return chosen, lowest, False


@njit(**_INNER)
def _start_translation(R, T, Y, m, mu, mv, spread, push, t):
    """Write the translation of a candidate; where points would be behind the camera, one that puts them in front."""
    _translation(R, T, t)
    farthest = 0.0
    for i in range(m):
        farthest = max(farthest, -(R[2, 0] * Y[0, i] + R[2, 1] * Y[1, i] + R[2, 2] * Y[2, i]))
    if push or t[2] <= farthest * 1.0001:
        t[2] = max(1.5 * farthest, np.sqrt(1.0 / spread))
        t[0], t[1] = mu * t[2], mv * t[2]


@njit(**_INNER)
def _errors(Y, px, w, m, camera, distorted, loss, loss_scale, R, t, index, residuals):
    """Write the residuals; return their mean square and their weighted sum of squares, outliers weighted down."""
    square = weighted = 0.0
    for i in range(m):
        a, b, c = _turned(R, Y, i)
        u, v = _project(a + t[0], b + t[1], c + t[2], camera, distorted)
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


@njit(**_INNER)
def _reversed_square(Y, px, w, m, camera, distorted, R, t):
    """Return the weighted sum of squares with the depth of the object reversed: the reflected object in this view."""
    square = 0.0
    for i in range(m):
        a, b, c = _turned(R, Y, i)
        if t[2] - c <= 0.0:
            return np.inf
        u, v = _project(a + t[0], b + t[1], t[2] - c, camera, distorted)
        eu, ev = camera[0] * u + camera[2] - px[0, i], camera[1] * v + camera[3] - px[1, i]
        square += w[i] * (eu * eu + ev * ev)
    return square


@njit(**_INNER)
def _write_pose(R, t, size, centre, rotation, translation):
    """Write the pose about the origin of the object in its own units."""
    _quaternion(R, rotation)
    for i in range(3):
        translation[i] = size * t[i] - (R[i, 0] * centre[0] + R[i, 1] * centre[1] + R[i, 2] * centre[2])


@njit(**_INNER)
def _write_covariance(A, n, variance, R, size, centre, work, covariance):
    """Write variance A^-1, moved from the middle of the object to its origin; return the variance of parameter 7."""
    L, step, unit = work[0], work[1], work[5]
    inverse, half, p = work[7], work[8], work[9]
    for k in range(n):
        for i in range(n):
            unit[i] = -1.0 if i == k else 0.0
        if not _cholesky_solve(A, unit, 0.0, n, L, step):
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


@njit(**_INNER)
def _no_answer(rotation, translation, rotation2, translation2, covariance, residuals):
    """Fill the answers of a row with NaN."""
    for i in range(residuals.shape[0]):
        residuals[i, 0] = residuals[i, 1] = np.nan
    for i in range(3):
        translation[i] = translation2[i] = np.nan
    for i in range(4):
        rotation[i] = rotation2[i] = np.nan
    for i in range(6):
        for j in range(6):
            covariance[i, j] = np.nan


@njit(**_INNER)
def _scatter(px, w, m, weight):
    """Return the weighted sum of the squared distances of the points in the image from their mean."""
    u = v = square = 0.0
    for i in range(m):
        u += w[i] * px[0, i] / weight
        v += w[i] * px[1, i] / weight
    for i in range(m):
        x, y = px[0, i] - u, px[1, i] - v
        square += w[i] * (x * x + y * y)
    return square


@njit(**_OPTIONS)
def solve_rows(
    first, last, X, pixels, weights, cameras, distorted, loss, loss_scale, n, tol, max_iter, noise, starts,
    rotations, translations, rotations2, translations2, all_numbers, covariances, all_residuals,
):  # fmt: skip
    """Solve the rows first..last in place; arrays of length one along the batch are shared.

    A start is (4, 3): R and t of an initial pose, or NaN. The numbers of a row are rms, rms of the second pose,
    iterations, status, focal length, its standard deviation, points used, whether the reversed object may fit better.
    """
    total = pixels.shape[1]
    Y, uv, px, w = np.empty((3, total)), np.empty((2, total)), np.empty((2, total)), np.empty(total)
    index = np.empty(total, dtype=np.int64)
    candidates, energies, depths, T = np.empty((27, 3, 3)), np.empty(27), np.empty(27), np.empty(31)
    work = (
        np.empty((7, 7)), np.empty(7), np.empty((3, 3)), np.empty(3), np.empty((7, 7)), np.empty(7), np.empty(9),
        np.empty((7, 7)), np.empty((6, 6)), np.empty(3),
    )  # fmt: skip
    A, g, best_A, own, best_camera = np.empty((7, 7)), np.empty(7), np.empty((7, 7)), np.empty(9), np.empty(9)
    centre, eigenvalues, V, turn = np.empty(3), np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    R, t, best_R, best_t = np.empty((3, 3)), np.empty(3), np.empty((3, 3)), np.empty(3)
    next_R, next_t = np.empty((3, 3)), np.empty(3)
    for b in range(first, last):
        X_b, start = X[b if X.shape[0] > 1 else 0], starts[b if starts.shape[0] > 1 else 0]
        camera = cameras[b if cameras.shape[0] > 1 else 0]
        numbers, residuals = all_numbers[b], all_residuals[b]
        m = _gather(X_b, pixels[b], weights[b if weights.shape[0] > 1 else 0], Y, px, w, index)
        _no_answer(rotations[b], translations[b], rotations2[b], translations2[b], covariances[b], residuals)
        numbers[0] = numbers[1] = np.inf
        numbers[2] = numbers[5] = 0.0
        numbers[4], numbers[6], numbers[7] = camera[0], m, 0.0
        if m < n - 2:  # 4 points for a pose, 5 with the focal length
            numbers[3] = TOO_FEW
            continue
        status, size, weight = _centre_object(Y, w, m, centre, eigenvalues, V)
        if status != OK:
            numbers[3] = status
            continue
        if _places(Y, m, n - 2) < n - 2:
            numbers[3] = TOO_FEW_PLACES
            continue
        mu, mv, spread = _aim_rays(px, w, m, weight, camera, distorted, uv, turn)
        if not spread > 1e-18:
            numbers[3] = IMAGE_COINCIDENT
            continue
        given = np.isfinite(start[0, 0])
        if given:
            count, limit = 1, 1.0
            energies[0], depths[0] = 0.0, 1.0
        else:
            count, limit = _candidates(Y, uv, w, m, weight, spread, eigenvalues, V, T, candidates, energies, depths)

        best_cost = next_cost = np.inf
        best_converged = False
        iterations = tried = 0
        while tried < 4:
            chosen, lowest, push = _choose(energies, depths, count, not best_cost < np.inf)
            if chosen < 0 or (best_cost < np.inf and lowest > limit * weight * spread):
                break
            energies[chosen] = -1.0
            if given:
                for i in range(3):
                    s = start[3, i]
                    for j in range(3):
                        R[i, j] = start[i, j]
                        s += start[i, j] * centre[j]
                    t[i] = s / size
            else:
                _start_translation(candidates[chosen], T, Y, m, mu, mv, spread, push, own)
                _product(turn, candidates[chosen], R)
                for i in range(3):
                    t[i] = turn[0, i] * own[0] + turn[1, i] * own[1] + turn[2, i] * own[2]
                if best_cost < np.inf and _angle_cosine(R, best_R) > 0.99996:
                    continue  # the same minimum again
            tried += 1
            _copy1(camera, own)
            cost, done, converged = _refine(
                Y, px, w, m, own, distorted, loss, loss_scale, n, tol, max_iter, R, t, A, g, work
            )
            iterations += done
            if not cost < np.inf:
                continue
            same = best_cost < np.inf and _angle_cosine(R, best_R) > 0.99996
            if cost < best_cost and (converged or not same):
                if not same:
                    next_cost = best_cost
                    _copy(best_R, next_R)
                    _copy1(best_t, next_t)
                best_cost, best_converged = cost, converged
                _copy(R, best_R)
                _copy1(t, best_t)
                _copy(A, best_A)
                _copy1(own, best_camera)
            elif cost < next_cost and not same:
                next_cost = cost
                _copy(R, next_R)
                _copy1(t, next_t)
        numbers[2] = iterations
        if not best_cost < np.inf:
            numbers[3] = BEHIND
            continue

        if next_cost < np.inf:
            _write_pose(next_R, next_t, size, centre, rotations2[b], translations2[b])
        _write_pose(best_R, best_t, size, centre, rotations[b], translations[b])
        square = weighted = 0.0
        for k in range(2):  # the second first: the residuals that stay are those of the best
            if k == 1 or next_cost < np.inf:
                _copy(best_R if k == 1 else next_R, R)
                _copy1(best_t if k == 1 else next_t, t)
                square, weighted = _errors(
                    Y, px, w, m, best_camera, distorted, loss, loss_scale, R, t, index, residuals
                )
                numbers[1 - k] = np.sqrt(square)
        numbers[4] = best_camera[0]
        variance = noise * noise if noise >= 0 else weighted / max(2 * m - n, 1)
        last_variance = _write_covariance(best_A, n, variance, best_R, size, centre, work, covariances[b])
        if n == 7 and last_variance >= 0:
            numbers[5] = np.sqrt(last_variance) * best_camera[0]
        # Mean squares against the squared size of the target in the image, the principal point apart.
        square = _scatter(px, w, m, weight)
        if loss == LINEAR and n == 6 and weighted > 4e-4 * square:
            numbers[7] = _reversed_square(Y, px, w, m, best_camera, distorted, best_R, best_t) < 4.0 * weighted
        if not best_converged:
            numbers[3] = NOT_CONVERGED
        elif last_variance < 0:
            numbers[3] = ILL_CONDITIONED
        elif loss == LINEAR and weighted > 0.0625 * square:
            numbers[3] = POOR_FIT
        else:
            numbers[3] = OK
