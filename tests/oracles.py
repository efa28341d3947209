"""Independent naive versions, written from the definitions: the referees and the baselines of the benchmarks."""

import bisect
import math

import numpy as np

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


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


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
            ends = [[math.fsum(float(face[i][axis]) for i in side) / len(side) for axis in range(len(face[0]))]
                    for side in (right, left)]  # fmt: skip
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


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
