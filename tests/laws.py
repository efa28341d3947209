"""Laws as functions, typed and reused: each asserts one property for any input."""

import numpy as np

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


def same_transform(a, b, *, points, rtol=1e-9):
    """Two similarities act alike on points, to rounding at the size of what comes out."""
    left, right = np.asarray(a(points)), np.asarray(b(points))
    np.testing.assert_allclose(left, right, rtol=0, atol=rtol * max(1.0, np.abs(left).max()))


def same_up_to_turn(a, b, *, atol):
    """Two shapes are the same up to a rotation about the origin."""
    u, _, vt = np.linalg.svd(b.T @ a)
    flip = np.ones(a.shape[1])
    flip[-1] = np.sign(np.linalg.det(u @ vt))
    np.testing.assert_allclose(a @ ((u * flip) @ vt).T, b, rtol=0, atol=atol)


def is_mean_of_aligned(result, *, atol):
    """The mean is the average of the aligned shapes, centred, of size 1."""
    np.testing.assert_allclose(result.aligned.mean(axis=0), result.mean, atol=atol)
    np.testing.assert_allclose(result.mean.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(result.mean), 1, atol=1e-12)


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


def assert_same_pose(pose, other, *, size, tolerance):
    """Equal rotations (radians) and translations (relative to the distance and the size of the object)."""
    turn = (pose.rotation * other.rotation.inv()).magnitude()
    assert np.max(turn) < tolerance, f"rotations differ by {np.max(turn):.3g} rad"
    move = np.linalg.norm(pose.translation - other.translation, axis=-1)
    scale = np.linalg.norm(other.translation, axis=-1) + size
    assert np.max(move / scale) < tolerance, f"translations differ by {np.max(move):.3g}"


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


def error_is_invariant(metric, truth, guess, motion, rtol=1e-9):
    """The error does not change when the motion acts on truth and prediction together."""
    before, after = np.asarray(metric(truth, guess)), np.asarray(metric(motion(truth), motion(guess)))
    np.testing.assert_allclose(after, before, rtol=rtol, atol=1e-12)


def score_is_monotone(score, errors, which, more, *, increasing):
    """Making one error larger never improves the score."""
    worse = errors.copy()
    worse[which % len(errors)] += more
    change = score(worse) - score(errors)
    assert (change if increasing else -change) >= -1e-12


def is_distribution_function(curve):
    """Increasing from at least 0 to at most 1 over increasing thresholds."""
    assert (np.diff(curve.fractions) >= 0).all()
    assert (np.diff(curve.thresholds) >= 0).all()
    assert 0 <= curve.fractions.min() <= curve.fractions.max() <= 1


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
