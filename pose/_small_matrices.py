"""Rotations, 3 x 3 matrices and small linear systems in compiled code."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from shape_models._kernels import compiled as _compiled
from shape_models._kernels import inner as inlined

compiled: Any = partial(_compiled, no_cfunc_wrapper=True)
# For functions that only compiled code calls: their Python entry need not be compiled.
inner: Any = partial(inlined, no_cfunc_wrapper=True, no_cpython_wrapper=True)


@inner
def rotate_left(wx, wy, wz, R, out):
    """Out = exp([w]) R, by Rodrigues' formula."""
    angle2 = wx * wx + wy * wy + wz * wz
    if angle2 < 1e-12:  # where the quotients below cancel; the series is exact to 1e-24 there
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


@inner
def norm3(x, y, z):
    return np.sqrt(x * x + y * y + z * z)


@inner
def cholesky_solve(A, g, damping, n, L, out):
    """Solve (A + damping diag(A)) out = -g for a symmetric A; False when it is not positive definite."""
    for i in range(n):
        for j in range(i + 1):
            s = A[i, j]
            if i == j:
                s += damping * A[i, i]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                if not s > 1e-14 * A[i, i]:  # a pivot that rounding alone could have left
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


@inner
def eigen_symmetric(A, V):
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
        if off <= 1e-32 * on:  # squares: off the diagonal 1e-16 of what is on it
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


@inner
def angle_cosine(A, B):
    trace = 0.0
    for i in range(3):
        for j in range(3):
            trace += A[i, j] * B[i, j]
    return 0.5 * (trace - 1.0)


@inner
def to_quaternion(R, q):
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


@inner
def copy_matrix(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@inner
def copy_vector(source, target):
    for i in range(source.shape[0]):
        target[i] = source[i]


@inner
def transposed_product(A, B, out):
    """Write A' B."""
    for i in range(3):
        for j in range(3):
            s = 0.0
            for k in range(3):
                s += A[k, i] * B[k, j]
            out[i, j] = s
