"""Independent naive versions, written from the definitions: the referees and the baselines of the benchmarks."""

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


# --- Search (profiles, patches) --------------------------------------------------------------------------


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
