"""Landmark and pose metrics, protocols and reports.

Metrics take the truth first, as in scikit-learn. Errors are fractions of a named length; percent is only printed.
"""

from ._landmarks import (
    CumulativeError,
    ErrorArray,
    auc,
    auc_grid,
    auc_threshold_weighted,
    cumulative_error,
    failure_rate,
    landmark_errors,
    nme,
    normalizing_distance,
)

__all__ = [
    "CumulativeError",
    "ErrorArray",
    "auc",
    "auc_grid",
    "auc_threshold_weighted",
    "cumulative_error",
    "failure_rate",
    "landmark_errors",
    "nme",
    "normalizing_distance",
]
