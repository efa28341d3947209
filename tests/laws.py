"""Laws as functions, typed and reused: each asserts one property for any input."""

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
