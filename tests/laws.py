"""Laws as functions, typed and reused: each asserts one property for any input."""

import numpy as np

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


def tol(*arrays, factor=64.0):
    """Rounding allowed: a multiple of eps of the type times the largest number about."""
    arrays = [np.asarray(a) for a in arrays]
    eps = max(np.finfo(a.dtype).eps for a in arrays)
    return factor * float(eps) * max(max(float(np.abs(a).max(initial=0.0)) for a in arrays), 1e-300)


def is_idempotent(act, x):
    """act(act(x)) = act(x)."""
    once = act(x)
    np.testing.assert_allclose(act(once), once, rtol=0, atol=tol(x, once))


def is_nonexpansive(act, x, y):
    """‖act(x) - act(y)‖ ≤ ‖x - y‖."""
    assert np.linalg.norm(act(x) - act(y)) <= np.linalg.norm(x - y) + tol(x, y, factor=256)


def is_firmly_nonexpansive(act, x, y):
    """‖act(x) - act(y)‖² ≤ ⟨act(x) - act(y), x - y⟩."""
    moved, apart = act(x) - act(y), x - y
    slack = tol(x, y, factor=256) * (np.linalg.norm(apart) + np.linalg.norm(moved))
    assert np.vdot(moved, moved) <= np.vdot(moved, apart) + slack


def is_nearest(act, x, member):
    """⟨x - act(x), y - act(x)⟩ ≤ 0 for every y of the set: act(x) is the point of the convex set nearest to x."""
    nearest = act(x)
    slack = tol(x, member, factor=512) * (np.linalg.norm(x - nearest) + np.linalg.norm(member - nearest))
    assert np.vdot(x - nearest, member - nearest) <= slack


def keeps(act, x):
    """act(x) = x."""
    np.testing.assert_allclose(act(x), x, rtol=0, atol=tol(x))


def commutes(act, other_act, change, x):
    """other_act(change(x)) = change(act(x)): act does not see the change."""
    expected = change(act(x))
    np.testing.assert_allclose(other_act(change(x)), expected, rtol=0, atol=tol(change(x), expected))


def never_more_varied(before, after, axis=0):
    """The variance along an axis is nowhere larger after than before."""
    assert (after.var(axis=axis) <= before.var(axis=axis) * (1 + 1e-9) + tol(before) ** 2).all()


def batch_is_loop(act, x, n_event):
    """act on a batch is act on each member."""
    lead = x.shape[: x.ndim - n_event]
    result = act(x)
    for i in np.ndindex(lead):
        np.testing.assert_allclose(result[i], act(x[i]), rtol=0, atol=tol(x))


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


def same_transform(a, b, *, points, rtol=1e-9):
    """Two similarities act alike on points, to rounding at the size of what comes out, or of what cancels in it."""
    left, right = np.asarray(a(points)), np.asarray(b(points))
    rounding = 32 * np.finfo(np.float64).eps * np.abs(a.translation).max()
    np.testing.assert_allclose(left, right, rtol=0, atol=max(rtol * max(1.0, np.abs(left).max()), rounding))


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


def check_in_model(result, basis, tol=1e-9):
    """The answer is a shape of the model: its modes keep the limit, and pose and modes give its landmarks."""
    np.testing.assert_array_less(np.abs(basis.clip(result.coefficients) - result.coefficients), tol)
    expected = result.transform(basis.decode(result.coefficients))
    scale = float(np.ptp(expected, axis=0).max())
    np.testing.assert_allclose(result.shape, expected, rtol=0, atol=1e-9 * scale)


def check_trace(result):
    """The trace begins after the start, ends with the answer, goes from coarse to fine and tells each move."""
    levels = [step.level for step in result.trace]
    assert levels == sorted(levels)
    if result.trace:
        np.testing.assert_array_equal(result.trace[-1].shape, result.shape)
    for before, after in zip(result.trace[:-1], result.trace[1:], strict=True):
        moved = np.linalg.norm(after.shape - before.shape, axis=1).mean()
        np.testing.assert_allclose(after.move, moved, rtol=1e-9, atol=1e-12)


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
