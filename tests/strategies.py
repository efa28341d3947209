"""Hypothesis strategies for bases, shapes, poses and cameras."""

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
