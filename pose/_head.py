"""Head pose from the 2-D landmarks of a face."""

from __future__ import annotations

import numpy as np

from shape_models import IBUG68, get_scheme
from shape_models._scheme import SchemeLike
from shape_models._typing import ArrayLike

from ._behind import flag_behind
from ._camera import Camera
from ._face_model import FaceModel3D
from ._inputs import check_points, check_weights, refuse_fractions
from ._pnp import PnPResult, solve_pnp
from .reference import reference_landmarks


def estimate_head_pose(
    landmarks: ArrayLike,
    camera: Camera,
    *,
    scheme: SchemeLike = IBUG68,
    model: FaceModel3D | None = None,
    weights: ArrayLike | None = None,
    loss: str = "linear",
    loss_scale: float = 2.0,
) -> PnPResult:
    """Find yaw, pitch, roll and position of a head from its 2-D landmarks.

    Without a model, solves PnP for the mean face in millimetres of :mod:`pose.reference`, each landmark weighted by
    how firm it is. The face is then taken as rigid: an open mouth or a face unlike the mean leaves a residual and some
    degrees of error. With a `FaceModel3D` the shape of the face is found too. A frontal face reads the identity.

    Parameters
    ----------
    landmarks : array_like of shape (n_landmarks, 2) or (b, n_landmarks, 2)
        Pixels; NaN: missing.
    camera : Camera
        Of the image that the pixels belong to. When nothing is known, ``Camera.from_image_size((width, height))`` of
        the whole image; for a crop of it ``camera.crop(box, size)``. A camera as wide as a tight crop would put
        the head a hand's breadth away.
    scheme : LandmarkScheme or str
        What the landmarks are; those without a counterpart in IBUG68 are not used (`reference.reference_landmarks`).
    model : FaceModel3D, optional
        For example ``FaceModel3D.bundled()``; of the same scheme.
    weights : array_like of shape (n_landmarks,) or (b, n_landmarks), optional
        Factors on the weights of the reference, for example 0 for hidden landmarks.
    loss, loss_scale : optional
        As in `solve_pnp`; only without a model.

    Returns
    -------
    PnPResult, or FaceFit with a model
        `status` "seen from behind" (not converged) marks faces turned away by more than 120 degrees: nobody could
        have seen these landmarks, and mirrored images whose left and right were not swapped come out so.

    Raises
    ------
    ValueError, DegenerateShapeError
        As `solve_pnp`.

    Examples
    --------
    >>> from pose import Camera, Pose, conventions, estimate_head_pose, project_points
    >>> from pose.reference import HEAD_IBUG68
    >>> camera = Camera.from_image_size((640, 480))
    >>> pose = Pose(conventions.read([-10.0, 25.0, 4.0], "6DRepNet"), [20.0, 0.0, 700.0])
    >>> result = estimate_head_pose(project_points(HEAD_IBUG68, pose, camera), camera)
    >>> print(result.angles("300W-LP"))
    yaw 25.0, pitch -10.0, roll 4.0 degrees (300W-LP)
    >>> float(result.pose.translation[2].round(3))
    700.0
    """
    scheme = get_scheme(scheme)
    if isinstance(camera, Camera):  # what is none is refused with all else
        refuse_fractions(landmarks, camera.focal_length)
    if model is not None:
        if not isinstance(model, FaceModel3D):
            raise TypeError(f"model: got {type(model).__name__}; expected a FaceModel3D. Try FaceModel3D.bundled().")
        if model.scheme != scheme:
            raise ValueError(f"model: got one of {model.scheme.name}; expected {scheme.name}.")
        if loss != "linear":
            raise ValueError(f"loss: got {loss!r}; expected 'linear' with a model.")
        return model.fit(landmarks, camera, weights=weights)
    points, firmness = reference_landmarks(scheme)
    if weights is not None:
        firmness = firmness * check_weights(weights, len(np.atleast_2d(weights)), len(firmness))
    check_points(points, landmarks, name="landmarks")
    result = solve_pnp(points, landmarks, camera, weights=firmness, loss=loss, loss_scale=loss_scale)
    return flag_behind(result)
