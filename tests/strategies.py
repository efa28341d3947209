"""Hypothesis strategies for bases, shapes, poses and cameras."""

import numpy as np
from hypothesis import strategies as st

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


@st.composite
def faces_and_predictions(draw, n_landmarks=8, n_dims=2):
    """True faces of well-separated landmarks at any place and size, and predictions near or far."""
    n_faces = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, noise = 10.0 ** draw(st.integers(-3, 4)), 10.0 ** draw(st.integers(-4, 1))
    truth = rng.standard_normal((n_faces, n_landmarks, n_dims)) + 4 * np.arange(n_landmarks)[:, None]
    guess = truth + noise * rng.standard_normal(truth.shape)
    place = rng.standard_normal((n_faces, 1, n_dims)) * draw(st.sampled_from([0.0, 10.0, 1000.0]))
    return size * (truth + place), size * (guess + place)


def error_lists(min_size=1, max_size=30):
    """Errors of a set of faces: zeros, repeated and large ones among them."""
    one = st.floats(0, 3, allow_subnormal=False) | st.sampled_from([0.0, 0.05, 0.08, 0.1])
    return st.lists(one, min_size=min_size, max_size=max_size).map(np.array)


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
