"""Landmark and pose metrics, protocols and reports.

Metrics take the truth first, as in scikit-learn. Errors are fractions of a named length; percent is only printed.
"""

from ._breakdown import bin_table, group_table, landmark_table
from ._comparison import Comparison, compare
from ._contours import ContourDistance, contour_distance, dice, point_to_contour
from ._curves import (
    CumulativeError,
    auc,
    auc_grid,
    auc_threshold_weighted,
    cumulative_error,
    failure_rate,
)
from ._errors import ErrorArray, landmark_errors, nme
from ._evaluate import evaluate
from ._intervals import bootstrap_interval, rate_interval, wilson_interval
from ._normalizers import normalizing_distance
from ._pose import EulerError, euler_mae, geodesic_error
from ._reports import Report, ReportRow
from ._tables import Interval, Table

__all__ = [
    "Comparison",
    "ContourDistance",
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
    "contour_distance",
    "cumulative_error",
    "dice",
    "euler_mae",
    "evaluate",
    "failure_rate",
    "geodesic_error",
    "group_table",
    "landmark_errors",
    "landmark_table",
    "nme",
    "normalizing_distance",
    "point_to_contour",
    "rate_interval",
    "wilson_interval",
]
