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

import numpy as np

from ._lens import undistort_point
from ._refinement import LINEAR, image_scatter, refine, reversed_square, write_covariance, write_errors
from ._small_matrices import (
    angle_cosine,
    compiled,
    copy_matrix,
    copy_vector,
    eigen_symmetric,
    inner,
    rotate_left,
    to_quaternion,
    transposed_product,
)
from ._starts import choose_candidate, find_candidates, start_translation
from ._status import Status

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "3c8b9a5fc856f4b4"

# Compiled code takes plain integers.
OK, TOO_FEW, COINCIDENT = int(Status.OK), int(Status.TOO_FEW), int(Status.COINCIDENT)
COLLINEAR, IMAGE_COINCIDENT, BEHIND = int(Status.COLLINEAR), int(Status.IMAGE_COINCIDENT), int(Status.BEHIND)
NOT_CONVERGED, POOR_FIT = int(Status.NOT_CONVERGED), int(Status.POOR_FIT)
ILL_CONDITIONED, TOO_FEW_PLACES = int(Status.ILL_CONDITIONED), int(Status.TOO_FEW_PLACES)


# Squared misfit over the squared size of the target in the image: from 2 % of the size on, far above what detectors
# miss by, the reversed object is worth a look; from 25 % on the answer is no pose of this object.
REVERSED_FROM, POOR_FROM = 4e-4, 0.0625
# Two refined rotations within half a degree, of which this is the cosine, are one minimum.
SAME_MINIMUM = 0.99996


@inner
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


@inner
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
    if not size > 1e-12 * farthest:  # up to the rounding of the coordinates
        return COINCIDENT, size, total
    for k in range(3):
        for i in range(m):
            Y[k, i] /= size
        for j in range(3):
            scatter[j, k] /= size * size
    eigen_symmetric(scatter, V)
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
    # Of squares: the turn about a line stays free where points are off it by a hundred-thousandth of its length.
    if not eigenvalues[1] > 1e-10 * eigenvalues[0]:
        return COLLINEAR, size, total
    return OK, size, total


@inner
def _places(Y, m, needed):
    """Count the places of an object of unit size, points at the same place once; stop at `needed`."""
    count = 0
    for i in range(m):
        if count >= needed:
            break
        new = 1
        for j in range(i):
            near = (Y[0, i] - Y[0, j]) ** 2 + (Y[1, i] - Y[1, j]) ** 2 + (Y[2, i] - Y[2, j]) ** 2
            if near < 1e-18:  # 1e-9 of the size of the object, squared
                new = 0
                break
        count += new
    return count


@inner
def _aim_rays(px, w, m, total, camera, distorted, uv, turn):
    """Turn pixels into rays (u, v, 1) about their middle. Return the mean u, v and their variance."""
    mu = mv = 0.0
    for i in range(m):
        u, v = (px[0, i] - camera[2]) / camera[0], (px[1, i] - camera[3]) / camera[1]
        if distorted:
            u, v = undistort_point(u, v, camera)
        uv[0, i], uv[1, i] = u, v
        mu += w[i] * u
        mv += w[i] * v
    mu, mv = mu / total, mv / total
    for i in range(3):
        for j in range(3):
            turn[i, j] = 1.0 if i == j else 0.0
    off = np.sqrt(mu * mu + mv * mv)
    if off > 0.05:  # 3 degrees; rays nearer to the axis gain nothing by a turn
        turned = np.empty((3, 3))
        angle = np.arctan(off)
        rotate_left(mv / off * angle, -mu / off * angle, 0.0, turn, turned)
        nearest = np.inf
        for i in range(m):
            nearest = min(nearest, turned[2, 0] * uv[0, i] + turned[2, 1] * uv[1, i] + turned[2, 2])
        if nearest > 0.05:  # else wider than a hemisphere about the middle: leave the rays as they are
            copy_matrix(turned, turn)
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


@inner
def _write_pose(R, t, size, centre, rotation, translation):
    """Write the pose about the origin of the object in its own units."""
    to_quaternion(R, rotation)
    for i in range(3):
        translation[i] = size * t[i] - (R[i, 0] * centre[0] + R[i, 1] * centre[1] + R[i, 2] * centre[2])


@inner
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


@inner
def _given_pose(start, centre, size, R, t):
    """Write a given pose in the units of the centred object."""
    for i in range(3):
        s = start[3, i]
        for j in range(3):
            R[i, j] = start[i, j]
            s += start[i, j] * centre[j]
        t[i] = s / size


@inner
def _judge(converged, last_variance, poor):
    """Return the status of a row that has a pose."""
    if not converged:
        return NOT_CONVERGED
    if last_variance < 0:
        return ILL_CONDITIONED
    return POOR_FIT if poor else OK


@compiled
def solve_rows(
    first, last, X, pixels, weights, cameras, distorted, loss, loss_scale, n, tol, max_iter, noise, starts,
    rotations, translations, rotations2, translations2, rows, covariances, all_residuals,
):  # fmt: skip
    """Solve the rows first..last in place; arrays of length one along the batch are shared.

    A start is (4, 3): R and t of an initial pose, or NaN. `rows` are records of type `_status.ROW`. The stages of a
    row: gather its points, centre the object, aim the rays, find starts, refine the best of them, report.
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
        row, residuals = rows[b], all_residuals[b]
        m = _gather(X_b, pixels[b], weights[b if weights.shape[0] > 1 else 0], Y, px, w, index)
        _no_answer(rotations[b], translations[b], rotations2[b], translations2[b], covariances[b], residuals)
        row["rms"] = row["second_rms"] = np.inf
        row["n_iter"], row["n_points"], row["reversible"] = 0, m, False
        row["focal"], row["focal_std"] = camera[0], 0.0
        if m < n - 2:  # 4 points for a pose, 5 with the focal length
            row["status"] = TOO_FEW
            continue
        status, size, weight = _centre_object(Y, w, m, centre, eigenvalues, V)
        if status != OK:
            row["status"] = status
            continue
        if _places(Y, m, n - 2) < n - 2:
            row["status"] = TOO_FEW_PLACES
            continue
        mu, mv, spread = _aim_rays(px, w, m, weight, camera, distorted, uv, turn)
        if not spread > 1e-18:  # of squares: within a billionth of the focal length
            row["status"] = IMAGE_COINCIDENT
            continue
        given = np.isfinite(start[0, 0])
        if given:
            count, limit = 1, 1.0
            energies[0], depths[0] = 0.0, 1.0
        else:
            count, limit = find_candidates(Y, uv, w, m, weight, spread, eigenvalues, V, T, candidates, energies, depths)

        best_cost = next_cost = np.inf
        best_converged = False
        iterations = tried = 0
        while tried < 4:
            chosen, lowest, push = choose_candidate(energies, depths, count, not best_cost < np.inf)
            if chosen < 0 or (best_cost < np.inf and lowest > limit * weight * spread):
                break
            energies[chosen] = -1.0
            if given:
                _given_pose(start, centre, size, R, t)
            else:
                start_translation(candidates[chosen], T, Y, m, mu, mv, spread, push, own)
                transposed_product(turn, candidates[chosen], R)
                for i in range(3):
                    t[i] = turn[0, i] * own[0] + turn[1, i] * own[1] + turn[2, i] * own[2]
                if best_cost < np.inf and angle_cosine(R, best_R) > SAME_MINIMUM:
                    continue  # the same minimum again
            tried += 1
            copy_vector(camera, own)
            cost, done, converged = refine(
                Y, px, w, m, own, distorted, loss, loss_scale, n, tol, max_iter, R, t, A, g, work
            )
            iterations += done
            if not cost < np.inf:
                continue
            same = best_cost < np.inf and angle_cosine(R, best_R) > SAME_MINIMUM
            if cost < best_cost and (converged or not same):
                if not same:
                    next_cost = best_cost
                    copy_matrix(best_R, next_R)
                    copy_vector(best_t, next_t)
                best_cost, best_converged = cost, converged
                copy_matrix(R, best_R)
                copy_vector(t, best_t)
                copy_matrix(A, best_A)
                copy_vector(own, best_camera)
            elif cost < next_cost and not same:
                next_cost = cost
                copy_matrix(R, next_R)
                copy_vector(t, next_t)
        row["n_iter"] = iterations
        if not best_cost < np.inf:
            row["status"] = BEHIND
            continue
        if next_cost < np.inf:
            _write_pose(next_R, next_t, size, centre, rotations2[b], translations2[b])
            row["second_rms"] = np.sqrt(
                write_errors(Y, px, w, m, best_camera, distorted, loss, loss_scale, next_R, next_t, index, residuals)[0]
            )
        _write_pose(best_R, best_t, size, centre, rotations[b], translations[b])
        # Last, since the residuals that stay are those of the best.
        square, weighted = write_errors(
            Y, px, w, m, best_camera, distorted, loss, loss_scale, best_R, best_t, index, residuals
        )
        row["rms"], row["focal"] = np.sqrt(square), best_camera[0]
        variance = noise * noise if noise >= 0 else weighted / max(2 * m - n, 1)
        last_variance = write_covariance(best_A, n, variance, best_R, size, centre, work, covariances[b])
        if n == 7 and last_variance >= 0:
            row["focal_std"] = np.sqrt(last_variance) * best_camera[0]
        # Mean squares against the squared size of the target in the image, the principal point apart.
        square = image_scatter(px, w, m, weight)
        if loss == LINEAR and n == 6 and weighted > REVERSED_FROM * square:
            other = reversed_square(Y, px, w, m, best_camera, distorted, best_R, best_t)
            row["reversible"] = other < 4.0 * weighted  # of squares: not refined yet, it may miss by twice as much
        row["status"] = _judge(best_converged, last_variance, loss == LINEAR and weighted > POOR_FROM * square)
