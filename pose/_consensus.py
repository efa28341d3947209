"""The compiled search of RANSAC: three-point poses, truncated squared errors, refinement of each new best."""

from __future__ import annotations

import numpy as np

from ._lens import project_point, undistort_point
from ._refinement import LINEAR, refine
from ._small_matrices import compiled, copy_matrix, copy_vector, inlined, inner

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "ae853eb455b15027"


@inlined
def _quartic(a, b, c, d, roots):
    """Write the real roots of x^4 + a x^3 + b x^2 + c x + d (Ferrari, then Newton); return how many."""
    # x = y - a / 4 leaves y^4 + p y^2 + q y + r.
    p = b - 0.375 * a * a
    q = c - 0.5 * a * b + 0.125 * a * a * a
    r = d - 0.25 * a * c + 0.0625 * a * a * b - 3.0 / 256.0 * a * a * a * a
    # Largest real root of the resolvent z^3 + 2 p z^2 + (p^2 - 4 r) z - q^2.
    c2, c1, c0 = 2.0 * p, p * p - 4.0 * r, -q * q
    f, g = c1 - c2 * c2 / 3.0, 2.0 * c2 * c2 * c2 / 27.0 - c2 * c1 / 3.0 + c0
    discriminant = 0.25 * g * g + f * f * f / 27.0
    if discriminant > 0:  # one real root, by Cardano; else three, by the cosine of a third of an angle
        s = np.sqrt(discriminant)
        z = np.cbrt(-0.5 * g + s) + np.cbrt(-0.5 * g - s) - c2 / 3.0
    else:
        radius = np.sqrt(max(-f / 3.0, 0.0))
        cosine = 0.0 if radius == 0.0 else -0.5 * g / (radius * radius * radius)
        z = 2.0 * radius * np.cos(np.arccos(min(1.0, max(-1.0, cosine))) / 3.0) - c2 / 3.0
    for _ in range(2):  # Newton's steps give back the digits that the differences lose
        slope = (3.0 * z + 2.0 * c2) * z + c1
        if slope != 0.0:
            z -= (((z + c2) * z + c1) * z + c0) / slope
    z = max(z, 0.0)
    s = np.sqrt(z)
    count = 0
    scale = abs(p) + np.sqrt(abs(r)) + a * a + 1e-300
    for sign in (1.0, -1.0):
        if s * s > 1e-12 * scale:  # else q = 0 too, but for rounding, and the equation is one of y^2
            inner = z - 4.0 * (0.5 * (p + z) - sign * 0.5 * q / s)
        else:
            inner = -2.0 * p + sign * 2.0 * np.sqrt(max(p * p - 4.0 * r, 0.0))
        # A double root comes out with half of the digits: so far below zero it may be by rounding.
        if inner < -1e-7 * scale:
            continue
        root = np.sqrt(max(inner, 0.0))
        for other in (1.0, -1.0):
            x = 0.5 * (-sign * s + other * root) - 0.25 * a
            for _ in range(2):
                slope = ((4.0 * x + 3.0 * a) * x + 2.0 * b) * x + c
                if slope != 0.0:
                    x -= ((((x + a) * x + b) * x + c) * x + d) / slope
            roots[count] = x
            count += 1
    return count


@inlined
def _three_points(X, rays, picks, Rs, ts):
    """Write the poses that put three points on three unit rays; return how many (at most 4).

    With the distances d, d x, d y of the points from the camera, the law of cosines on the pairs (1, 2) and (1, 3)
    gives x^2 = 2 b12 x + p(y), on (2, 3) and (1, 3) x^2 - 2 b23 x y = q(y); eliminating x leaves a quartic in y.
    """
    i, j, k = picks[0], picks[1], picks[2]
    b12 = b13 = b23 = a12 = a13 = a23 = 0.0
    for l in range(3):
        b12 += rays[i, l] * rays[j, l]
        b13 += rays[i, l] * rays[k, l]
        b23 += rays[j, l] * rays[k, l]
        a12 += (X[i, l] - X[j, l]) ** 2
        a13 += (X[i, l] - X[k, l]) ** 2
        a23 += (X[j, l] - X[k, l]) ** 2
    longest = max(a12, max(a13, a23))
    # Twice the squared area of the triangle, by Heron's formula.
    area = 2.0 * (a12 * a13 + a12 * a23 + a13 * a23) - a12 * a12 - a13 * a13 - a23 * a23
    # Three points within a ten-thousandth of one line have no pose.
    if not area > 1e-8 * longest * longest:
        return 0
    k1, k2 = a12 / a13, (a23 - a12) / a13
    # p(y) = k1 (1 - 2 b13 y + y^2) - 1, s(y) = q - p = k2 (1 - 2 b13 y + y^2) - y^2 + 1, h(y) = b12 - b23 y.
    p0, p1, p2 = k1 - 1.0, -2.0 * k1 * b13, k1
    s0, s1, s2 = k2 + 1.0, -2.0 * k2 * b13, k2 - 1.0
    h0, h1 = b12, -b23
    # x = s / (2 h) in x^2 - 2 b12 x - p = 0: s^2 - 4 b12 s h - 4 p h^2 = 0.
    e0 = s0 * s0 - 4.0 * b12 * s0 * h0 - 4.0 * p0 * h0 * h0
    e1 = 2.0 * s0 * s1 - 4.0 * b12 * (s0 * h1 + s1 * h0) - 4.0 * (p1 * h0 * h0 + 2.0 * p0 * h0 * h1)
    e2 = 2.0 * s0 * s2 + s1 * s1 - 4.0 * b12 * (s1 * h1 + s2 * h0)
    e2 -= 4.0 * (p2 * h0 * h0 + 2.0 * p1 * h0 * h1 + p0 * h1 * h1)
    e3 = 2.0 * s1 * s2 - 4.0 * b12 * s2 * h1 - 4.0 * (2.0 * p2 * h0 * h1 + p1 * h1 * h1)
    e4 = s2 * s2 - 4.0 * p2 * h1 * h1
    # Without its first coefficient, but for rounding, this is no quartic.
    if abs(e4) < 1e-12 * (abs(e0) + abs(e1) + abs(e2) + abs(e3)):
        return 0
    roots = np.empty(4)
    found = _quartic(e3 / e4, e2 / e4, e1 / e4, e0 / e4, roots)
    count = 0
    P, A, B = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for n in range(found):
        y = roots[n]
        h = h0 + h1 * y
        if not y > 0.0 or abs(h) < 1e-12:  # h is made of cosines: so little is rounding, and s / (2 h) anything
            continue
        x = ((s2 * y + s1) * y + s0) / (2.0 * h)
        if not x > 0.0:
            continue
        depth = np.sqrt(a13 / (1.0 + y * y - 2.0 * y * b13))
        for l in range(3):
            P[0, l] = depth * rays[i, l]
            P[1, l] = depth * x * rays[j, l]
            P[2, l] = depth * y * rays[k, l]
        # Frames on the two triangles: R = A' B.
        for frame in range(2):
            F = A if frame == 0 else B
            for l in range(3):
                if frame == 0:
                    F[0, l], F[1, l] = P[1, l] - P[0, l], P[2, l] - P[0, l]
                else:
                    F[0, l], F[1, l] = X[j, l] - X[i, l], X[k, l] - X[i, l]
            F[2, 0] = F[0, 1] * F[1, 2] - F[0, 2] * F[1, 1]
            F[2, 1] = F[0, 2] * F[1, 0] - F[0, 0] * F[1, 2]
            F[2, 2] = F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
            size0 = np.sqrt(F[0, 0] ** 2 + F[0, 1] ** 2 + F[0, 2] ** 2)
            size2 = np.sqrt(F[2, 0] ** 2 + F[2, 1] ** 2 + F[2, 2] ** 2)
            for l in range(3):
                F[0, l] /= size0
                F[2, l] /= size2
            F[1, 0] = F[2, 1] * F[0, 2] - F[2, 2] * F[0, 1]
            F[1, 1] = F[2, 2] * F[0, 0] - F[2, 0] * F[0, 2]
            F[1, 2] = F[2, 0] * F[0, 1] - F[2, 1] * F[0, 0]
        for r in range(3):
            ts[count, r] = P[0, r]
            for l in range(3):
                Rs[count, r, l] = A[0, r] * B[0, l] + A[1, r] * B[1, l] + A[2, r] * B[2, l]
                ts[count, r] -= Rs[count, r, l] * X[i, l]
        count += 1
    return count


@inner
def _score(X, px, m, camera, distorted, threshold, R, t, w):
    """Write which points are within the threshold into w; return the truncated squared error and their number."""
    cost = 0.0
    count = 0
    limit = threshold * threshold
    for i in range(m):
        a = R[0, 0] * X[i, 0] + R[0, 1] * X[i, 1] + R[0, 2] * X[i, 2] + t[0]
        b = R[1, 0] * X[i, 0] + R[1, 1] * X[i, 1] + R[1, 2] * X[i, 2] + t[1]
        c = R[2, 0] * X[i, 0] + R[2, 1] * X[i, 1] + R[2, 2] * X[i, 2] + t[2]
        w[i] = 0.0
        e = limit
        if c > 0.0:
            u, v = project_point(a, b, c, camera, distorted)
            e = (camera[0] * u + camera[2] - px[0, i]) ** 2 + (camera[1] * v + camera[3] - px[1, i]) ** 2
        if e < limit:
            w[i] = 1.0
            count += 1
            cost += e
        else:
            cost += limit
    return cost, count


@inner
def _consensus(X, pixels, camera, distorted, threshold, confidence, max_trials, seed, inliers):
    """Find the pose with the least truncated squared error; write its inliers, return (their number, trials)."""
    total = X.shape[0]
    P, rays = np.empty((total, 3)), np.empty((total, 3))
    Y, px, w = np.empty((3, total)), np.empty((2, total)), np.empty(total)
    index = np.empty(total, dtype=np.int64)
    m = np.int64(0)
    for i in range(total):
        inliers[i] = False
        good = np.isfinite(pixels[i, 0]) and np.isfinite(pixels[i, 1])
        for l in range(3):
            good = good and np.isfinite(X[i, l])
        if not good:
            continue
        u, v = (pixels[i, 0] - camera[2]) / camera[0], (pixels[i, 1] - camera[3]) / camera[1]
        if distorted:
            u, v = undistort_point(u, v, camera)
        size = np.sqrt(u * u + v * v + 1.0)
        rays[m, 0], rays[m, 1], rays[m, 2] = u / size, v / size, 1.0 / size
        px[0, m], px[1, m] = pixels[i, 0], pixels[i, 1]
        index[m] = i
        for l in range(3):
            P[m, l] = X[i, l]
            Y[l, m] = X[i, l]
        m += 1
    if m < 4:
        return 0, 0
    Rs, ts = np.empty((4, 3, 3)), np.empty((4, 3))
    picks = np.empty(3, dtype=np.int64)
    best_w, R, t = np.empty(total), np.empty((3, 3)), np.empty(3)
    A, g = np.zeros((7, 7)), np.empty(7)
    work = (
        np.empty((7, 7)), np.empty(7), np.empty((3, 3)), np.empty(3), np.zeros((7, 7)), np.empty(7), np.empty(9),
        np.empty((7, 7)), np.empty((6, 6)), np.empty((6, 6)), np.zeros((7, 7)), np.empty(7),
    )  # fmt: skip
    best, best_count = np.inf, 0
    needed = float(max_trials)
    # Lehmer's generator, so that a seed means the same samples in every thread and version.
    state = (seed % 2147483646 + 1) * 48271 % 2147483647
    trial = 0
    while trial < needed:
        trial += 1
        for l in range(3):
            fresh = False
            while not fresh:
                state = state * 48271 % 2147483647
                picks[l] = state % m
                fresh = True
                for o in range(l):
                    fresh = fresh and picks[o] != picks[l]
        for n in range(_three_points(P, rays, picks, Rs, ts)):
            cost, count = _score(P, px, m, camera, distorted, threshold, Rs[n], ts[n], w)
            if not cost < best or count < 4:
                continue
            # Each new best is refined on its inliers, which gathers more of them; roughly, in five steps, since the
            # score only asks which points are within the threshold.
            copy_matrix(Rs[n], R)
            copy_vector(ts[n], t)
            refine(
                Y, px, w, m, camera, distorted, np.int64(LINEAR), 1.0, np.int64(6), 1e-4, np.int64(5), R, t, A, g, work
            )
            refined, refined_count = _score(P, px, m, camera, distorted, threshold, R, t, w)
            if refined > cost:
                refined, refined_count = _score(P, px, m, camera, distorted, threshold, Rs[n], ts[n], w)
            best, best_count = refined, refined_count
            copy_vector(w, best_w)
            # As many trials as draw three inliers at once with the confidence asked for (Fischler and Bolles, 1981).
            share = (best_count / m) ** 3
            if share >= 1.0:
                needed = 0.0
            elif share > 1e-12:  # of less the logarithm is rounding, or 0
                needed = min(needed, np.log(1.0 - confidence) / np.log(1.0 - share))
    for i in range(m):
        inliers[index[i]] = best_count > 0 and best_w[i] > 0.0
    return best_count, trial


@compiled
def consensus_rows(X, pixels, cameras, distorted, threshold, confidence, max_trials, seed, inliers, trials):
    """Run the search on every row, each with the samples that it would draw alone."""
    for b in range(pixels.shape[0]):
        x, camera = X[b if X.shape[0] > 1 else 0], cameras[b if cameras.shape[0] > 1 else 0]
        found = _consensus(x, pixels[b], camera, distorted, threshold, confidence, max_trials, seed, inliers[b])
        trials[b] = found[1]
