"""Where a rigid object is, from its landmarks: cameras, poses, PnP, head pose.

One equation and one frame: λ x = K (R X + t), x to the right of the image, y down, z forward. See
:mod:`pose.conventions` for the names and signs of yaw, pitch and roll.
"""

from . import conventions, reference
from ._camera import Camera, project_points
from ._head import estimate_head_pose
from ._pnp import PnPResult, solve_pnp
from ._pose import HeadAngles, Pose, WeakPerspective

__all__ = [
    "Camera",
    "HeadAngles",
    "PnPResult",
    "Pose",
    "WeakPerspective",
    "conventions",
    "estimate_head_pose",
    "project_points",
    "reference",
    "solve_pnp",
]
