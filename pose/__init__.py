"""Where a rigid object is, from its landmarks: cameras, poses, PnP, head pose.

One equation and one frame: λ x = K (R X + t), x to the right of the image, y down, z forward. See
:mod:`pose.conventions` for the names and signs of yaw, pitch and roll.
"""

from shape_models.io import register

from . import conventions, reference
from ._camera import Camera, project_points
from ._face_model import FaceFit, FaceModel3D, load_face_model
from ._head import estimate_head_pose
from ._pnp import PnPResult, solve_pnp
from ._pose import HeadAngles, Pose, WeakPerspective
from ._robust import RansacResult, solve_pnp_ransac
from ._weak import WeakPerspectiveResult, solve_weak_perspective

__all__ = [
    "Camera",
    "FaceFit",
    "FaceModel3D",
    "HeadAngles",
    "PnPResult",
    "Pose",
    "RansacResult",
    "WeakPerspective",
    "WeakPerspectiveResult",
    "conventions",
    "estimate_head_pose",
    "load_face_model",
    "project_points",
    "reference",
    "solve_pnp",
    "solve_pnp_ransac",
    "solve_weak_perspective",
]

register("FaceModel3D", load_face_model)
