"""Where `solve_pnp` starts: the minima of the object-space error, in compiled code."""

from __future__ import annotations

import numpy as np

from ._small_matrices import angle_cosine, copy_matrix, inner, norm3, rotate_left, transposed_product


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


@inner
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


@inner
def _translation(R, T, t):
    t[0] = t[1] = t[2] = 0.0
    for j in range(9):
        r = R[j // 3, j % 3]
        t[0] += T[4 + 3 * j] * r
        t[1] += T[5 + 3 * j] * r
        t[2] += T[6 + 3 * j] * r


@inner
def _energy(omega, R, G):
    """Set G to Ω r, half the gradient; return r'Ω r."""
    energy = 0.0
    for i in range(9):
        s = 0.0
        for j in range(9):
            s += omega[i, j] * R[j // 3, j % 3]
        G[i // 3, i % 3] = s
        energy += s * R[i // 3, i % 3]
    return energy


@inner
def _descend(omega, R, G, trial, max_iter, tol):
    """Newton's method for r'Ω r on the rotations, in place; returns E."""
    energy = _energy(omega, R, G)
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
            floor = 1e-9 * scale  # smaller pivots: along one the form falls for ever, or rounding decides
            if m00 > floor and d1 > floor and d2 > floor:
                y0 = -g0
                y1 = -g1 - l10 * y0
                y2 = -g2 - l20 * y0 - l21 * y1
                wz = y2 / d2
                wy = y1 / d1 - l21 * wz
                wx = y0 / m00 - l10 * wy - l20 * wz
                step = norm3(wx, wy, wz)
                if step > 1.0:  # a radian: farther the quadratic model says nothing
                    wx, wy, wz = wx / step, wy / step, wz / step
                rotate_left(wx, wy, wz, R, trial)
                new = _energy(omega, trial, G)
                if new <= energy or step < 1e-7:  # below, the change of energy is rounding
                    moved = True
                    energy = new
                    copy_matrix(trial, R)
                    damping = 0.0 if damping < 1e-4 else 0.1 * damping  # at last Newton's own steps
                    break
            damping = max(4.0 * damping, 1e-3)
        if not moved or step < tol:
            break
    return max(energy, 0.0)  # rounding may leave -1e-17


@inner
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


@inner
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
    na, nb = norm3(alpha[0], alpha[1], alpha[2]), norm3(beta[0], beta[1], beta[2])
    if not (na > 0 and nb > 0):
        return False
    p, q = np.empty(3), np.empty(3)
    for k in range(3):
        p[k] = alpha[k] / na + beta[k] / nb
        q[k] = alpha[k] / na - beta[k] / nb
    np_, nq = norm3(p[0], p[1], p[2]), norm3(q[0], q[1], q[2])
    if np_ < 1e-9 or nq < 1e-9:  # unit rows that are parallel, of an object seen edge on: no frame
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


@inner
def find_candidates(Y, uv, w, m, total, spread, eigenvalues, V, T, candidates, energies, depths):
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
            # To 0.2 degrees: which of the two is lower shows, and the refinement goes on from there.
            energies[k] = _descend(omega, candidates[k], G, trial, np.int64(20), 3e-3)
            _translation(candidates[k], T, t)
            depths[k] = t[2]
        count = 2
        best = 0
        if depths[1] > 0 and (energies[1] < energies[0] or depths[0] <= 0):
            best = 1
        misfit = energies[best] / (total * depths[best] * depths[best] * spread)
        # From four times its size away on, an object has no other minima than these two.
        if m > 5 and depths[best] > 4.0 and misfit < 0.01:
            # A rival counts when it misses by less than a tenth of the size of the target.
            return count, 0.01
        copy_matrix(candidates[0], fixed)
    for k in range(24):
        C = candidates[count]
        for i in range(3):
            for j in range(3):
                trial[j, i] = CUBE[k, i, j]
        transposed_product(trial, fixed, C)
        # From farther off, and nearer to the minimum, so that two starts in one valley are known as one below.
        energy = _descend(omega, C, G, trial, np.int64(40), 1e-3)
        _translation(C, T, t)
        known = False
        for j in range(count):
            if angle_cosine(C, candidates[j]) > 0.9999:  # within 0.8 degrees: the same minimum
                known = True
                if energy < energies[j]:
                    energies[j], depths[j] = energy, t[2]
                    copy_matrix(C, candidates[j])
                break
        if not known:
            energies[count], depths[count] = energy, t[2]
            count += 1
    return count, 1.0


@inner
def choose_candidate(energies, depths, count, anywhere):
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


@inner
def start_translation(R, T, Y, m, mu, mv, spread, push, t):
    """Write the translation of a candidate; where points would be behind the camera, one that puts them in front."""
    _translation(R, T, t)
    farthest = 0.0
    for i in range(m):
        farthest = max(farthest, -(R[2, 0] * Y[0, i] + R[2, 1] * Y[1, i] + R[2, 2] * Y[2, i]))
    # Points in the plane of the camera have no image; then half as far again as the nearest point reaches, or where an
    # object of size 1 looks as large as this one.
    if push or t[2] <= farthest * 1.0001:
        t[2] = max(1.5 * farthest, np.sqrt(1.0 / spread))
        t[0], t[1] = mu * t[2], mv * t[2]
