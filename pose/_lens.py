"""Camera-frame points to pixels and back, in compiled code."""

from __future__ import annotations

from ._small_matrices import inner


@inner
def undistort_point(x, y, camera):
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
        if abs(det) < 1e-12:  # near 1 without distortion: 0 where the lens maps two directions to one pixel
            break
        du, dv = (d * ex - b * ey) / det, (a * ey - b * ex) / det
        u -= du
        v -= dv
        if abs(du) + abs(dv) < 1e-14:  # rounding of coordinates up to 1, about 45 degrees off the axis
            break
    return u, v


@inner
def rotated_point(R, Y, i):
    """Point i of the object, turned into the frame of the camera."""
    x, y, z = Y[0, i], Y[1, i], Y[2, i]
    return (
        R[0, 0] * x + R[0, 1] * y + R[0, 2] * z,
        R[1, 0] * x + R[1, 1] * y + R[1, 2] * z,
        R[2, 0] * x + R[2, 1] * y + R[2, 2] * z,
    )


@inner
def project_point(a, b, c, camera, distorted):
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
