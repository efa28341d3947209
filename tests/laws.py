"""Laws as functions, typed and reused: each asserts one property for any input."""

import numpy as np

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


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
