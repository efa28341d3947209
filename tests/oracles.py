"""Independent naive versions, written from the definitions: the referees and the baselines of the benchmarks."""

import bisect
import math
import random

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


def project_vectorised(shapes, mean, components, variances, k=3.0):
    """Two matrix products and a clip: what people write, and the baseline of the benchmarks."""
    flat = shapes.reshape(len(shapes), -1)
    bound = k * np.sqrt(variances)
    b = np.clip((flat - mean.ravel()) @ components.T, -bound, bound)
    return (mean.ravel() + b @ components).reshape(shapes.shape)


def project_loop(shape, mean, components, variances, k=3.0):
    """One shape, one mode after the other, from the definition of the point distribution model."""
    x, m = np.ravel(shape).tolist(), np.ravel(mean).tolist()
    result = list(m)
    for mode, variance in zip(components.tolist(), variances.tolist(), strict=True):
        b = sum(v * (a - c) for v, a, c in zip(mode, x, m, strict=True))
        bound = k * variance**0.5
        b = min(max(b, -bound), bound)
        result = [r + b * v for r, v in zip(result, mode, strict=True)]
    return np.array(result).reshape(np.shape(shape))


# --- Fitting (principal modes, missing entries) ------------------------------------------------------------


def naive_modes(shapes):
    """Mean, and eigenvalues and eigenvectors (rows) of the covariance, shape by shape from the definition."""
    flat = [shape.ravel() for shape in np.asarray(shapes, dtype=float)]
    mean = sum(flat) / len(flat)
    covariance = sum(np.outer(x - mean, x - mean) for x in flat) / (len(flat) - 1)
    values, vectors = np.linalg.eigh(covariance)
    return mean, values[::-1], vectors.T[::-1]


def naive_missing(table, n_modes, n_iter):
    """EM for probabilistic PCA with missing entries, row by row with the covariance of what is seen.

    Returns the mean, the covariance (divisor n) and the log-likelihood before each step.
    """
    table = np.asarray(table, dtype=float)
    n, p = table.shape
    seen = ~np.isnan(table)
    mean = np.array([table[seen[:, j], j].mean() for j in range(p)])
    filled = np.where(seen, table, mean)
    variance = np.array([((table[seen[:, j], j] - mean[j]) ** 2).mean() for j in range(p)])
    covariance = (filled - mean).T @ (filled - mean) / n + np.diag(variance * (~seen).mean(axis=0))
    record = []
    for _ in range(n_iter):
        values, vectors = np.linalg.eigh(covariance)
        noise = values[: p - n_modes].mean()
        W = vectors[:, p - n_modes :]
        C = W @ np.diag(values[p - n_modes :]) @ W.T + noise * (np.eye(p) - W @ W.T)
        likelihood, scatters = 0.0, []
        for i in range(n):
            o, m = np.flatnonzero(seen[i]), np.flatnonzero(~seen[i])
            inverse = np.linalg.inv(C[np.ix_(o, o)])
            d = table[i, o] - mean[o]
            likelihood -= 0.5 * (len(o) * np.log(2 * np.pi) + np.linalg.slogdet(C[np.ix_(o, o)])[1] + d @ inverse @ d)
            gain = C[np.ix_(m, o)] @ inverse
            filled[i, m] = mean[m] + gain @ d
            spread = np.zeros((p, p))
            spread[np.ix_(m, m)] = C[np.ix_(m, m)] - gain @ C[np.ix_(o, m)]
            scatters.append(spread)
        record.append(likelihood)
        mean = filled.mean(axis=0)
        covariance = ((filled - mean).T @ (filled - mean) + sum(scatters)) / n
    return mean, covariance, record


def dense_covariance(basis):
    """Covariance of the coordinates under a basis: Σ λ v vᵀ + σ² (I - Σ v vᵀ)."""
    v = basis.components
    inside = v.T @ v
    return v.T @ np.diag(basis.variances) @ v + basis.noise_variance * (np.eye(len(inside)) - inside)


def condition_dense(x, mean, covariance):
    """Conditional mean and covariance of the NaN entries of one vector, by Gaussian conditioning in full size."""
    missing = np.isnan(x)
    gain = covariance[np.ix_(missing, ~missing)] @ np.linalg.pinv(covariance[np.ix_(~missing, ~missing)], rcond=1e-11)
    filled, conditional = x.copy(), np.zeros_like(covariance)
    filled[missing] = mean[missing] + gain @ (x - mean)[~missing]
    conditional[np.ix_(missing, missing)] = (
        covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(~missing, missing)]
    )
    return filled, conditional


def expected_coefficients_dense(x, weights, basis):
    """Coefficients of E[x | y] where each coordinate is seen with noise σ² (1/w - 1), or not at all."""
    c, m = dense_covariance(basis), basis.mean.ravel()
    w = np.repeat(weights, len(m) // len(weights))
    seen = w > 0
    noise = np.diag(basis.noise_variance * (1 / w[seen] - 1))
    expected = c[:, seen] @ np.linalg.solve(c[np.ix_(seen, seen)] + noise, (x.ravel() - m)[seen])
    return basis.components @ expected


def held_out_errors_refit(shapes, test, k):
    """Distances of landmarks of the shapes left out to what k modes, fitted on the rest from scratch, make of them."""
    train = np.delete(shapes, test, axis=0)
    mean = train.mean(axis=0)
    modes = np.linalg.svd((train - mean).reshape(len(train), -1), full_matrices=False)[2][:k]
    d = (shapes[test] - mean).reshape(len(test), -1)
    return np.linalg.norm((d - d @ modes.T @ modes).reshape(shapes[test].shape), axis=-1)


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


def umeyama_loop(source, target, weights=None, *, scaling=True, reflection=False):
    """One pair of shapes, eq. (34)-(42) of Umeyama 1991, weighted; returns (rotation, translation, scale)."""
    k, d = source.shape
    w = np.ones(k) if weights is None else np.asarray(weights, dtype=float)
    total = w.sum()
    mean_x = sum(w[i] * source[i] for i in range(k)) / total
    mean_y = sum(w[i] * target[i] for i in range(k)) / total
    variance = sum(w[i] * np.sum((source[i] - mean_x) ** 2) for i in range(k)) / total
    covariance = sum(w[i] * np.outer(target[i] - mean_y, source[i] - mean_x) for i in range(k)) / total
    u, values, vt = np.linalg.svd(covariance)
    flip = np.ones(d)
    if not reflection and np.linalg.det(u) * np.linalg.det(vt) < 0:
        flip[-1] = -1
    rotation = u @ np.diag(flip) @ vt
    scale = float(np.sum(values * flip) / variance) if scaling else 1.0
    return rotation, mean_y - scale * rotation @ mean_x, scale


def umeyama_batch(source, target):
    """The same for a batch, without weights: a batched singular value decomposition."""
    mean_x, mean_y = source.mean(1, keepdims=True), target.mean(1, keepdims=True)
    x, y = source - mean_x, target - mean_y
    u, values, vt = np.linalg.svd(y.swapaxes(1, 2) @ x)
    flip = np.ones_like(values)
    flip[:, -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[:, None]) @ vt
    scale = (values * flip).sum(1) / (x**2).sum((1, 2))
    translation = mean_y[:, 0] - scale[:, None] * (rotation @ mean_x.swapaxes(1, 2))[..., 0]
    return rotation, translation, scale


def procrustes_batch(shapes, tol=1e-8, max_iter=100):
    """Generalised Procrustes, full criterion: fit all shapes to the mean by a batched decomposition, average, repeat.

    Returns the mean (size 1, in the frame of the first shape), the aligned shapes.
    """
    x = shapes - shapes.mean(1, keepdims=True)
    squared = (x**2).sum((1, 2))
    mean = x[0] / np.sqrt(squared[0])
    for _ in range(max_iter):
        u, values, vt = np.linalg.svd(mean.T @ x)
        flip = np.ones_like(values)
        flip[:, -1] = np.sign(np.linalg.det(u @ vt))
        scaled = ((values * flip).sum(1) / squared)[:, None, None] * ((u * flip[:, None]) @ vt)
        aligned = x @ scaled.swapaxes(1, 2)
        before, mean = mean, aligned.mean(0)
        mean = mean / np.linalg.norm(mean)
        if np.linalg.norm(mean - before) <= tol:
            break
    return mean, aligned


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


def rotation_from_axis_products(factors):
    """Multiply rotations about single axes, written out: [("x", a), ("y", b)] is Rx(a) Ry(b)."""
    product = np.eye(3)
    for axis, angle in factors:
        c, s = np.cos(angle), np.sin(angle)
        product = (
            product
            @ {
                "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
                "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
                "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
            }[axis]
        )
    return product


def project_naively(points, rotation, translation, matrix, distortion=None):
    """Project one point after another by the equation, with the five coefficients of Brown and Conrady."""
    pixels = []
    for point in points:
        x, y, z = (sum(rotation[i][j] * point[j] for j in range(3)) + translation[i] for i in range(3))
        x, y = x / z, y / z
        if distortion is not None:
            k1, k2, p1, p2, k3 = distortion
            r2 = x**2 + y**2
            factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
            x, y = (
                x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
                y * factor + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
            )
        pixels.append([matrix[0][0] * x + matrix[0][2], matrix[1][1] * y + matrix[1][2]])
    return np.array(pixels)


def refine_pose_naively(points, pixels, matrix, pose):
    """Minimise the reprojection error from a given pose with SciPy, numerical derivatives; return R, t, RMS."""

    def residuals(parameters):
        rotation = Rotation.from_rotvec(parameters[:3]).as_matrix() @ pose.rotation.as_matrix()
        camera = points @ rotation.T + parameters[3:]
        return ((camera @ np.asarray(matrix).T)[:, :2] / camera[:, 2:] - pixels).ravel()

    start = np.concatenate([np.zeros(3), pose.translation])
    solution = least_squares(residuals, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    rotation = Rotation.from_rotvec(solution.x[:3]) * pose.rotation
    return rotation, solution.x[3:], np.sqrt(2 * solution.cost / len(points))


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


def loop_nme(target, prediction, lengths, use=None):
    """Mean over usable landmarks of the point distance over the length of the face, by definition."""
    values = []
    for face, (truth, guess) in enumerate(zip(target, prediction, strict=True)):
        distances = []
        for landmark, (g, p) in enumerate(zip(truth, guess, strict=True)):
            if use is None or use[face][landmark]:
                distances.append(math.sqrt(math.fsum((float(a) - float(b)) ** 2 for a, b in zip(g, p, strict=True))))
        values.append(math.fsum(distances) / len(distances) / lengths[face])
    return np.array(values)


def loop_length(target, normalizer, right=(), left=()):
    """Length of each face: between two mean points, or of the box."""
    lengths = []
    for face in target:
        if normalizer in ("inter_ocular", "inter_pupil", "eye_centers"):
            ends = [
                [math.fsum(float(face[i][axis]) for i in side) / len(side) for axis in range(len(face[0]))]
                for side in (right, left)
            ]
            lengths.append(math.dist(*ends))
        else:
            w, h = (max(float(p[axis]) for p in face) - min(float(p[axis]) for p in face) for axis in (0, 1))
            lengths.append(math.sqrt(w * w + h * h) if normalizer == "box_diagonal" else math.sqrt(w * h))
    return lengths


def loop_auc(errors, threshold, n_steps=200_000):
    """Area under the cumulative error distribution by the midpoint rule over a fine grid."""
    errors, area = sorted(float(e) for e in errors), 0.0
    for k in range(n_steps):
        area += bisect.bisect_right(errors, (k + 0.5) / n_steps * threshold) / len(errors)
    return area / n_steps


def loop_failure_rate(errors, threshold):
    return sum(1 for e in errors if e > threshold) / len(errors)


def quaternion_angle(first, second):
    """Angle between two rotations from the inner product of their unit quaternions, in radians."""
    dot = abs(math.fsum(a * b for a, b in zip(first, second, strict=True)))
    cross = math.sqrt(max(0.0, 1.0 - dot * dot))
    return 2 * math.atan2(cross, dot)


def loop_euler_mae(target, prediction):
    """Mean over faces and angles of the smallest of the differences by whole turns, in degrees."""
    total = [
        min(abs(a - b + 360 * k) for k in (-2, -1, 0, 1, 2))
        for t, p in zip(target, prediction, strict=True)
        for a, b in zip(t, p, strict=True)
    ]
    return math.fsum(total) / len(total)


def loop_bootstrap_means(values, n_resamples, seed):
    """Means of draws with replacement."""
    draw = random.Random(seed)
    return sorted(
        math.fsum(values[draw.randrange(len(values))] for _ in values) / len(values) for _ in range(n_resamples)
    )


def loop_sign_test(better, worse):
    """Two-sided exact probability of a split at least as uneven under fair coin tosses."""
    n, k = better + worse, min(better, worse)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


# --- Search (profiles, patches) --------------------------------------------------------------------------


def bilinear_loop(image, x, y):
    """One value between four pixels; outside, the nearest pixel of the border."""
    height, width = len(image), len(image[0])
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    j, i = min(int(x), width - 2), min(int(y), height - 2)
    u, v = x - j, y - i
    return (
        image[i][j] * (1 - u) * (1 - v)
        + image[i][j + 1] * u * (1 - v)
        + image[i + 1][j] * (1 - u) * v
        + image[i + 1][j + 1] * u * v
    )


def halve_loop(image):
    """Half the size: (1, 3, 3, 1) / 8 along both axes, then every second pixel, borders repeated."""
    padded = np.pad(np.asarray(image, dtype=np.float64), 1, mode="edge")
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[i, j] = np.sum(kernel * padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4])
    return out


def describe_loop(image, matrix, size, points, spacing, n_cells):
    """Cells of gradient directions round points of a warped frame, step by step: warp, bin, pool, smooth, read."""
    height, width = size
    frame = np.array([[bilinear_loop(image, *(matrix @ [x, y, 1.0])) for x in range(width)] for y in range(height)])
    gy = np.zeros_like(frame)
    gx = np.zeros_like(frame)
    for y in range(height):
        for x in range(width):
            gx[y, x] = frame[y, min(x + 1, width - 1)] - frame[y, max(x - 1, 0)]
            gy[y, x] = frame[min(y + 1, height - 1), x] - frame[max(y - 1, 0), x]
    length = np.hypot(gx, gy) + 1e-12
    energy = np.stack(
        [np.maximum(gx * np.cos(a) + gy * np.sin(a), 0) ** 2 / length for a in np.arange(8) * np.pi / 4], axis=-1
    )
    pooled = energy[0::2, 0::2] + energy[1::2, 0::2] + energy[0::2, 1::2] + energy[1::2, 1::2]
    for _ in range(max(1, round((spacing / 4) ** 2 * 2))):
        for axis in (0, 1):
            wide = np.pad(pooled, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
            pooled = 0.5 * pooled + 0.25 * (np.delete(wide, [-1, -2], axis) + np.delete(wide, [0, 1], axis))
    cells = []
    for px, py in points:
        for a in range(n_cells):
            for b in range(n_cells):
                x = (px + (b - (n_cells - 1) / 2) * spacing - 0.5) / 2
                y = (py + (a - (n_cells - 1) / 2) * spacing - 0.5) / 2
                cells.append([bilinear_loop(pooled[..., c].tolist(), x, y) for c in range(8)])
    cells = np.array(cells).reshape(len(points), -1)
    return np.sqrt(cells / cells.sum(axis=1, keepdims=True))


def profile_search_loop(image, points, normals, mean, covariance, n_side, reach):
    """For each landmark the offset along its normal whose normalised profile has the least Mahalanobis distance."""
    best = []
    for k, (point, normal) in enumerate(zip(points, normals, strict=True)):
        inverse = np.linalg.inv(covariance[k])
        distances = []
        for r in range(-reach, reach + 1):
            at = [r + e - n_side for e in range(2 * n_side + 1)]
            values = [
                bilinear_loop(image, *(point + (t + 0.5) * normal))
                - bilinear_loop(image, *(point + (t - 0.5) * normal))
                for t in at
            ]
            total = sum(abs(v) for v in values)
            rest = np.array(values) / (total if total > 1e-9 else 1) - mean[k]
            distances.append(rest @ inverse @ rest)
        best.append(distances)
    return np.array(best)


def shape_step_loop(points, weights, mean, components, variances, k, prior, n_iter=200):
    """Pose and modes in turn until they rest, each by weighted least squares; then clipped, and laid on the points."""
    root = np.sqrt(np.repeat(weights, 2))
    rows = np.vstack([components.T * root[:, None], np.diag(np.sqrt(prior / variances))])
    shape = mean
    for _ in range(n_iter):
        rotation, translation, scale = umeyama_loop(shape, points, weights)
        rest = ((points - translation) @ rotation / scale - mean).ravel()
        b = np.linalg.lstsq(rows, np.concatenate([rest * root, np.zeros(len(variances))]), rcond=None)[0]
        shape = mean + (b @ components).reshape(mean.shape)
    b = np.clip(b, -k * np.sqrt(variances), k * np.sqrt(variances))
    shape = mean + (b @ components).reshape(mean.shape)
    rotation, translation, scale = umeyama_loop(shape, points, weights)
    return scale * shape @ rotation.T + translation, b


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------


def mobilenet_macs(size, n_blocks, n_outputs):
    """Multiply-adds of MobileNetV2 by its table; 16 blocks end in the six pooled taps, 17 in the 1280 features."""
    size //= 2
    macs, n_in, block = 32 * 27 * size**2, 32, 0
    pooled = 0
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, n_out, repeats, stride in table:
        for i in range(repeats):
            if block == n_blocks:
                break
            hidden = expansion * n_in
            macs += n_in * hidden * size**2 if expansion > 1 else 0
            size //= stride if i == 0 else 1
            macs += 9 * hidden * size**2 + hidden * n_out * size**2
            pooled += n_out if block in (1, 3, 6, 10, 13, 15) else 0
            n_in, block = n_out, block + 1
    if n_blocks == 17:
        macs += n_in * 1280 * size**2
        pooled = 1280
    return macs + pooled * n_outputs


def loop_landmark_loss(prediction, target, form, known=None):
    """Loss over the known landmarks of nested lists, from the definitions."""
    values = []
    for i, (p, g) in enumerate(zip(prediction, target, strict=True)):
        for j, (a, b) in enumerate(zip(p, g, strict=True)):
            if any(math.isnan(v) for v in b) or (known is not None and not known[i][j]):
                continue
            if form == "norm":
                values.append(math.dist(a, b))
                continue
            for x, y in zip(a, b, strict=True):
                e = abs(x - y)
                if form == "squared":
                    values.append(e * e)
                elif form == "wing":
                    w, c = 10 / 224, 2 / 224
                    values.append(w * math.log(1 + e / c) if e < w else e - (w - w * math.log(1 + w / c)))
                else:
                    beta = 2 / 224
                    values.append(e * e / (2 * beta) if e < beta else e - beta / 2)
    return math.fsum(values) / len(values) if values else 0.0
