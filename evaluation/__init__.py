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
from ._pose import EulerError, euler_mae, geodesic_error
from ._reports import Report, ReportRow, evaluate
from ._statistics import (
    Comparison,
    bin_table,
    bootstrap_interval,
    compare,
    group_table,
    landmark_table,
    rate_interval,
    wilson_interval,
)
from ._tables import Interval, Table

__all__ = [
    "Comparison",
    "CumulativeError",
    "ErrorArray",
    "EulerError",
    "Interval",
    "Report",
    "ReportRow",
    "Table",
    "auc",
    "auc_grid",
    "auc_threshold_weighted",
    "bin_table",
    "bootstrap_interval",
    "compare",
    "cumulative_error",
    "euler_mae",
    "evaluate",
    "failure_rate",
    "geodesic_error",
    "group_table",
    "landmark_errors",
    "landmark_table",
    "nme",
    "normalizing_distance",
    "rate_interval",
    "wilson_interval",
]
