"""Where a rigid object is, from its landmarks: cameras, poses, PnP, head pose.

One equation and one frame: λ x = K (R X + t), x to the right of the image, y down, z forward. See
:mod:`pose.conventions` for the names and signs of yaw, pitch and roll.
"""

from . import conventions
from ._camera import Camera, project_points
from ._pnp import PnPResult, solve_pnp
from ._pose import HeadAngles, Pose, WeakPerspective

__all__ = [
    "Camera",
    "HeadAngles",
    "PnPResult",
    "Pose",
    "WeakPerspective",
    "conventions",
    "project_points",
    "solve_pnp",
]
