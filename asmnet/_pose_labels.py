"""Labels that landmarks imply: head rotations, the three scaled angles the networks are taught, and depths."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose import Camera, FaceModel3D, conventions, estimate_head_pose
from shape_models import LandmarkScheme
from shape_models._typing import ArrayLike

CONVENTION = "300W-LP"
DEGREES = 65.0  # of one unit of the pose head, as ASMNet's authors scale their angles
# Focal length of the camera of the depth labels, in widths of the image: which agreed best with the depths of one half
# of AFLW2000-3D.
DISTANCE = 10.0
POSE_LIMIT = 99.0  # degrees; the usual protocol on AFLW2000-3D leaves out faces beyond
# Six points in general position have one pose; fewer may have several.
_LEAST = 6


def head_rotations(landmarks: np.ndarray, size: int, scheme: LandmarkScheme) -> np.ndarray:
    """Fit the mean head to landmarks (n, n_landmarks, 2) on squares of `size` pixels; NaN where the fit is poor.

    The camera is `Camera.from_image_size` of the square, since that of the image is unknown.
    """
    camera = Camera.from_image_size((size, size))
    out = np.full((len(landmarks), 3, 3), np.nan)
    usable = np.isfinite(landmarks).all(-1).sum(1) >= _LEAST
    if usable.any():
        result = estimate_head_pose(landmarks[usable], camera, scheme=scheme)
        matrices = result.pose.rotation.as_matrix()
        out[usable] = np.where(np.asarray(result.converged)[:, None, None], matrices, np.nan)
    return out


def head_depths(landmarks: np.ndarray, size: int, scheme: LandmarkScheme) -> np.ndarray:
    """Return z (n, n_landmarks) of landmarks on squares of `size` pixels, in these pixels, away from the viewer.

    Pseudo-depth, not a measurement: that of the 3-D face model fitted to the landmarks, less the mean of the face, at
    the scale of the image at that mean. The camera stands far away (`DISTANCE` times the width of the square), which
    agreed best with the depths of one half of AFLW2000-3D. NaN where the fit is poor.
    """
    model = FaceModel3D.bundled()
    if scheme != model.scheme:
        raise ValueError(f"no depth labels for {scheme.name}; expected {model.scheme.name}, that of the 3-D face.")
    camera = Camera(DISTANCE * size, ((size - 1) / 2, (size - 1) / 2))
    out = np.full(landmarks.shape[:2], np.nan)
    usable = np.isfinite(landmarks).all(-1).sum(1) >= _LEAST
    if usable.any():
        result = model.fit(landmarks[usable], camera)
        z = np.asarray(result.pose(result.landmarks_3d))[..., 2]
        middle = z.mean(1, keepdims=True)
        # At the mean of the face f / z pixels are one unit of the object.
        pixels = DISTANCE * size * (z - middle) / middle
        out[usable] = np.where(np.asarray(result.converged)[:, None], pixels, np.nan)
    return out


def scaled_angles(rotations: Tensor) -> Tensor:
    """Turn rotations (..., 3, 3) into (yaw, pitch, roll) of 300W-LP over 65 degrees, yaw as in `past_profile`.

    R = Rx(-pitch) Ry(yaw) Rz(roll), x right, y down, z forward.
    """
    yaw = torch.asin(rotations[..., 0, 2].clamp(-1, 1))
    roll = torch.atan2(-rotations[..., 0, 1], rotations[..., 0, 0])
    pitch = torch.atan2(rotations[..., 1, 2], rotations[..., 2, 2])
    angles = torch.stack([yaw, pitch, roll], -1)
    beyond = (pitch.abs() + roll.abs() > torch.pi) & (yaw.abs() > torch.pi / 3)
    half = torch.copysign(angles.new_tensor(torch.pi), angles)
    other = torch.stack([half[..., 0] - yaw, pitch - half[..., 1], roll - half[..., 2]], -1)
    return torch.where(beyond[..., None], other, angles) * (180 / torch.pi / DEGREES)


def past_profile(angles: np.ndarray) -> np.ndarray:
    """Let the yaw of (yaw, pitch, roll) in degrees of 300W-LP go on beyond 90, as its files have it.

    A rotation has two such triples: (yaw, pitch, roll) and (180 - yaw, pitch + 180, roll + 180). A head a little past
    its profile would jump to the pitch and roll of one upside down if yaw ended at 90.
    """
    # Up to 120: from further behind a face cannot be seen, and what is upside down is.
    beyond = (np.abs(angles[..., 1:]).sum(-1) > 180) & (np.abs(angles[..., 0]) > 60)
    other = (angles - np.copysign(180, angles)) * (-1, 1, 1)
    return np.where(beyond[..., None], other, angles)


def angle_errors(angles: np.ndarray, rotations: ArrayLike) -> np.ndarray:
    """Return the errors (k, 3) of yaw, pitch and roll in degrees of the faces whose true angles are within the limit.

    Angles of faces that are not known are NaN, and leave them out.
    """
    truth = angles_in_degrees(rotations)
    known = (np.abs(truth) <= POSE_LIMIT).all(1)  # False for NaN
    off = np.abs(angles - truth)[known] % 360
    return np.asarray(np.minimum(off, 360 - off))


def turned_angles(angles: np.ndarray, turns: np.ndarray, convention: str) -> np.ndarray:
    """Turn (yaw, pitch, roll) in degrees (n, 3) of crops that are turned by radians (n,) back to their images."""
    yaw, pitch, roll = np.deg2rad(angles).T
    seen = conventions.read(np.stack([pitch, yaw, roll], -1), convention).as_matrix()
    cos, sin, zero = np.cos(turns), np.sin(turns), np.zeros(len(turns))
    turn = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    back = conventions.yaw_pitch_roll(conventions.rotation_from_matrix(turn @ seen), convention)
    return past_profile(back) if convention == CONVENTION else back


def angles_in_degrees(rotations: ArrayLike) -> np.ndarray:
    """Turn rotations (n, 3, 3) into (yaw, pitch, roll) of 300W-LP in degrees, as in `past_profile`; NaN stays."""
    rotations = np.asarray(rotations, dtype=np.float64)
    out = np.full((*rotations.shape[:-2], 3), np.nan)
    known = np.isfinite(rotations).all((-1, -2))
    if known.any():
        angles = conventions.yaw_pitch_roll(conventions.rotation_from_matrix(rotations[known]), CONVENTION)
        out[known] = past_profile(angles)
    return out
