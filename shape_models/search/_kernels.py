"""The loops over pixels: sampling images, orientation channels, patch descriptors, profiles and their distances.

Images travel as one flat float32 buffer with an offset, a height and a width for each level of each pyramid, so that
one compiled loop serves images of different sizes. All coordinates are (x, y) with pixel centres at integers.
"""

from __future__ import annotations

import numpy as np

from .._kernels import compiled, inner

N_ORIENTATIONS = 8
_COS = np.cos(2 * np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS).astype(np.float32)
_SIN = np.sin(2 * np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS).astype(np.float32)


@inner
def bilinear(buffer, offset, height, width, x, y):
    """Value between four pixels; outside, the nearest pixel of the border."""
    x = min(max(x, 0.0), width - 1.0)
    y = min(max(y, 0.0), height - 1.0)
    i = min(int(y), max(height - 2, 0))
    j = min(int(x), max(width - 2, 0))
    u = np.float32(x - j)
    v = np.float32(y - i)
    down = width if height > 1 else 0
    right = 1 if width > 1 else 0
    p = offset + i * width + j
    top = buffer[p] + u * (buffer[p + right] - buffer[p])
    bottom = buffer[p + down] + u * (buffer[p + down + right] - buffer[p + down])
    return top + v * (bottom - top)


@compiled
def sample(buffer, offset, height, width, points, out):
    """Fill `out` (n,) with the image at `points` (n, 2)."""
    for k in range(points.shape[0]):
        out[k] = bilinear(buffer, offset, height, width, points[k, 0], points[k, 1])


@compiled
def halve(image, out):
    """Fill `out` (floor(h / 2), floor(w / 2)) with every second pixel of `image` smoothed by (1, 3, 3, 1) / 8.

    Pixel (i, j) of `out` lies between pixels 2i and 2i + 1 of `image`.
    """
    height, width = image.shape
    rows, columns = out.shape
    line = np.empty((height, columns), np.float32)
    for i in range(height):
        for j in range(columns):
            a = image[i, max(2 * j - 1, 0)]
            d = image[i, min(2 * j + 2, width - 1)]
            line[i, j] = np.float32(0.125) * (a + d) + np.float32(0.375) * (image[i, 2 * j] + image[i, 2 * j + 1])
    for i in range(rows):
        top = max(2 * i - 1, 0)
        bottom = min(2 * i + 2, height - 1)
        for j in range(columns):
            out[i, j] = np.float32(0.125) * (line[top, j] + line[bottom, j]) + np.float32(0.375) * (
                line[2 * i, j] + line[2 * i + 1, j]
            )


@inner
def warp(buffer, offset, height, width, matrix, out):
    """Fill `out` (h, w) with the image at matrix @ (x, y, 1) for every pixel (x, y) of `out`."""
    h, w = out.shape
    dx, dy = matrix[0, 0], matrix[1, 0]
    for i in range(h):
        x0 = matrix[0, 1] * i + matrix[0, 2]
        y0 = matrix[1, 1] * i + matrix[1, 2]
        for j in range(w):
            out[i, j] = bilinear(buffer, offset, height, width, x0 + dx * j, y0 + dy * j)


@inner
def _channels(image, out):
    """Gradient energy in eight directions, pooled over 2 x 2 pixels; `out` (h / 2, w / 2, 8)."""
    height, width = image.shape
    rows, columns = out.shape[0], out.shape[1]
    tiny = np.float32(1e-12)
    for i in range(rows):
        for j in range(columns):
            for c in range(N_ORIENTATIONS):
                out[i, j, c] = np.float32(0.0)
            for a in range(2):
                y = 2 * i + a
                up, down = max(y - 1, 0), min(y + 1, height - 1)
                for b in range(2):
                    x = 2 * j + b
                    left, right = max(x - 1, 0), min(x + 1, width - 1)
                    gx = image[y, right] - image[y, left]
                    gy = image[down, x] - image[up, x]
                    scale = np.float32(1.0) / (np.sqrt(gx * gx + gy * gy) + tiny)
                    for c in range(N_ORIENTATIONS):
                        along = max(gx * _COS[c] + gy * _SIN[c], np.float32(0.0))
                        out[i, j, c] += along * along * scale


@inner
def _smooth(channels, work):
    """Binomial smoothing (1, 2, 1) / 4 along both axes, in place."""
    rows, columns, n = channels.shape
    half, quarter = np.float32(0.5), np.float32(0.25)
    for i in range(rows):
        for j in range(columns):
            left, right = max(j - 1, 0), min(j + 1, columns - 1)
            for c in range(n):
                work[i, j, c] = half * channels[i, j, c] + quarter * (channels[i, left, c] + channels[i, right, c])
    for i in range(rows):
        up, down = max(i - 1, 0), min(i + 1, rows - 1)
        for j in range(columns):
            for c in range(n):
                channels[i, j, c] = half * work[i, j, c] + quarter * (work[up, j, c] + work[down, j, c])


@inner
def _pick(channels, x, y, out):
    """Read the eight channels at (x, y) of the half-resolution grid into `out`."""
    rows, columns, n = channels.shape
    x = min(max(x, 0.0), columns - 1.000001)
    y = min(max(y, 0.0), rows - 1.000001)
    i, j = int(y), int(x)
    u, v = np.float32(x - j), np.float32(y - i)
    one = np.float32(1.0)
    a, b, c, d = (one - u) * (one - v), u * (one - v), (one - u) * v, u * v
    for k in range(n):
        out[k] = (
            a * channels[i, j, k]
            + b * channels[i, j + 1, k]
            + c * channels[i + 1, j, k]
            + d * channels[i + 1, j + 1, k]
        )


@compiled
def describe(buffer, table, matrices, size, points, spacing, n_cells, out):
    """Histograms of gradient directions on a grid of cells round each point.

    Parameters
    ----------
    buffer : float32 (n,)
    table : int64 (n_samples, 3): offset, height, width of the image each sample looks at
    matrices : float64 (n_samples, 2, 3): pixels of the normalised frame -> pixels of that image
    size : (height, width) of the normalised frame, even numbers
    points : float64 (n_samples, K, 2): where to describe, pixels of the normalised frame
    spacing : float: distance of cells, pixels of the normalised frame
    n_cells : int: cells along each side
    out : float32 (n_samples, K, n_cells * n_cells * 8)
    """
    height, width = size
    frame = np.empty((height, width), np.float32)
    channels = np.empty((height // 2, width // 2, N_ORIENTATIONS), np.float32)
    work = np.empty_like(channels)
    n_smooth = max(1, int(round((spacing / 4.0) ** 2 * 2.0)))
    middle = 0.5 * (n_cells - 1)
    length = n_cells * n_cells * N_ORIENTATIONS
    for s in range(points.shape[0]):
        warp(buffer, table[s, 0], table[s, 1], table[s, 2], matrices[s], frame)
        _channels(frame, channels)
        for _ in range(n_smooth):
            _smooth(channels, work)
        for k in range(points.shape[1]):
            at = 0
            for a in range(n_cells):
                y = (points[s, k, 1] + (a - middle) * spacing - 0.5) * 0.5
                for b in range(n_cells):
                    x = (points[s, k, 0] + (b - middle) * spacing - 0.5) * 0.5
                    _pick(channels, x, y, out[s, k, at : at + N_ORIENTATIONS])
                    at += N_ORIENTATIONS
            total = np.float32(0.0)
            for e in range(length):
                total += out[s, k, e]
            factor = np.float32(1.0) / max(total, np.float32(1e-20)) if total > 0.0 else np.float32(0.0)
            for e in range(length):
                out[s, k, e] = np.sqrt(out[s, k, e] * factor)


@compiled
def channel_map(buffer, row, matrix, out):
    """Histograms of gradient directions in cells of 4 x 4 pixels, relative to the energy round each cell.

    Parameters
    ----------
    buffer : float32 (n,)
    row : int64 (3,): offset, height, width of the image
    matrix : float64 (2, 3): pixels of the frame -> pixels of that image
    out : float32 (rows, columns, 8): square roots
    """
    rows, columns = out.shape[0], out.shape[1]
    frame = np.empty((4 * rows, 4 * columns), np.float32)
    channels = np.empty((2 * rows, 2 * columns, N_ORIENTATIONS), np.float32)
    warp(buffer, row[0], row[1], row[2], matrix, frame)
    _channels(frame, channels)
    _smooth(channels, np.empty_like(channels))
    energy = np.zeros((rows, columns), np.float32)
    whole = np.float32(0.0)
    for i in range(rows):
        for j in range(columns):
            for c in range(N_ORIENTATIONS):
                out[i, j, c] = (
                    channels[2 * i, 2 * j, c]
                    + channels[2 * i, 2 * j + 1, c]
                    + channels[2 * i + 1, 2 * j, c]
                    + channels[2 * i + 1, 2 * j + 1, c]
                )
                energy[i, j] += out[i, j, c]
            whole += energy[i, j]
    floor = max(np.float32(0.2) * whole / np.float32(rows * columns), np.float32(1e-12))
    for i in range(rows):
        for j in range(columns):
            total, n = np.float32(0.0), 0
            for y in range(max(i - 1, 0), min(i + 2, rows)):
                for x in range(max(j - 1, 0), min(j + 2, columns)):
                    total += energy[y, x]
                    n += 1
            factor = np.float32(1.0) / (total / np.float32(n) + floor)
            for c in range(N_ORIENTATIONS):
                out[i, j, c] = np.sqrt(out[i, j, c] * factor)


@compiled
def correlate(cells, weights, out):
    """Fill `out` with the sum of products of a template and the cells under it, at all places.

    Parameters
    ----------
    cells : float32 (8, rows, columns)
    weights : float32 (h, w, 8)
    out : float32 (rows - h + 1, columns - w + 1)
    """
    rows, columns, n = weights.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = np.float32(0.0)
        for i in range(rows):
            for j in range(columns):
                for c in range(n):
                    weight = weights[i, j, c]
                    for x in range(out.shape[1]):
                        out[y, x] += weight * cells[c, y + i, x + j]


@compiled
def profile_gradients(buffer, table, points, steps, n_half, out):
    """Differences of the image along a line through each point.

    Parameters
    ----------
    buffer, table : as in `describe`
    points, steps : float64 (n, K, 2): middle of the line and the way from one sample to the next, pixels of the level
    n_half : int: differences on each side of the middle
    out : float32 (n, K, 2 * n_half + 1)
    """
    for s in range(points.shape[0]):
        offset, height, width = table[s, 0], table[s, 1], table[s, 2]
        for k in range(points.shape[1]):
            x, y = points[s, k, 0], points[s, k, 1]
            dx, dy = steps[s, k, 0], steps[s, k, 1]
            t = n_half + 0.5
            before = bilinear(buffer, offset, height, width, x - t * dx, y - t * dy)
            for e in range(2 * n_half + 1):
                t = e - n_half + 0.5
                after = bilinear(buffer, offset, height, width, x + t * dx, y + t * dy)
                out[s, k, e] = after - before
                before = after


@compiled
def profile_distances(gradients, means, factors, out):
    """Squared Mahalanobis distance of every window of a profile, divided by its sum of magnitudes, to its model.

    Parameters
    ----------
    gradients : float32 (n, K, m + 2 * reach)
    means : float32 (K, m)
    factors : float32 (K, m, m): lower-triangular, inverse covariance = factor.T @ factor
    out : float32 (n, K, 2 * reach + 1)
    """
    m, n_windows = means.shape[1], out.shape[2]
    block = 32  # samples: their windows of one landmark stay in the cache
    windows = np.empty((m, block * n_windows), np.float32)
    value, distance = np.empty(block * n_windows, np.float32), np.empty(block * n_windows, np.float32)
    for first in range(0, gradients.shape[0], block):
        n = min(block, gradients.shape[0] - first)
        for k in range(means.shape[0]):
            for s in range(n):
                for r in range(n_windows):
                    total = np.float32(0.0)
                    for e in range(m):
                        total += abs(gradients[first + s, k, r + e])
                    scale = np.float32(1.0) / total if total > np.float32(1e-9) else np.float32(0.0)
                    for e in range(m):
                        windows[e, s * n_windows + r] = gradients[first + s, k, r + e] * scale - means[k, e]
            distance[:] = np.float32(0.0)
            for a in range(m):
                value[:] = np.float32(0.0)
                for b in range(a + 1):
                    factor = factors[k, a, b]
                    for i in range(n * n_windows):
                        value[i] += factor * windows[b, i]
                for i in range(n * n_windows):
                    distance[i] += value[i] * value[i]
            for s in range(n):
                for r in range(n_windows):
                    out[first + s, k, r] = distance[s * n_windows + r]
