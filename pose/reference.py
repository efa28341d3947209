"""The 3-D reference landmarks of a face, in millimetres, and how they were derived.

`HEAD_IBUG68` is the mean of 500 three-dimensional landmark sets of real faces (the even rows of the first thousand of
AFLW2000-3D, with z negated: that set is left-handed) and of their mirror images, aligned by similarity transforms.
The odd rows were kept apart to judge the result. `derive_reference` is the code that made the table.

The frame of the head is parallel to the camera's when the face looks at the camera: x to the subject's left (the right
of the image), y down, z from the face into the head. Four rules fix it:

- Symmetry: landmark and mirror landmark differ in the sign of x and in nothing else, so a frontal projection has yaw
  and roll exactly 0.
- Pitch zero: the line from the nasion (27) to the chin (8) leans back by 5 degrees, as it does in a head held
  naturally. It is the lean, to the degree, at which the yaw read from the source faces agrees best with the yaw
  labels of AFLW2000-3D (mean absolute deviation), since a wrong zero of pitch shows as a wrong yaw in tilted heads.
  The labels do not fix it well: other losses and subsets of the faces put it between 2 and 11 degrees.
- Origin: the middle of the eyes.
- Millimetres: the distance between the middles of the two eyes is 63.36 mm, the mean interpupillary distance of 3976
  adults of the 1988 anthropometric survey of the US Army as reported by N. A. Dodgson, Variation and extrema of human
  interpupillary distance, Stereoscopic Displays and Virtual Reality Systems XI, SPIE 5291 (2004). A head with other
  eyes is nearer or farther than the translation says, by the ratio of the distances; the rotation does not depend on
  it.

`WEIGHTS_IBUG68` are the inverse variances of the landmarks about the rigid fit of 2-D annotations, see
`derive_weights`: the corners of the eyes and the bridge of the nose are firm, lips and the outline of the jaw are not.

AFLW2000-3D (Zhu et al., Face alignment across large poses, CVPR 2016) and 300-W are for research use; what stands here
are statistics of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models import IBUG68, convert, estimate_similarity, get_scheme
from shape_models._array import DegenerateShapeError, as_shapes, refuse_extremes_of
from shape_models._scheme import SchemeLike
from shape_models._typing import ArrayLike

if TYPE_CHECKING:
    from ._camera import Camera

__all__ = [
    "HEAD_IBUG68",
    "CHIN_LEAN",
    "INTERPUPILLARY_DISTANCE",
    "WEIGHTS_IBUG68",
    "derive_reference",
    "derive_weights",
    "reference_landmarks",
]

INTERPUPILLARY_DISTANCE = 63.36
CHIN_LEAN = 5.0


def _load() -> np.ndarray:
    """Return x, y, z in millimetres and the weight of each landmark (mean 1), from those of the right half."""
    assert IBUG68.mirror is not None
    rows = np.loadtxt(Path(__file__).with_name("_head_ibug68.csv").read_text().splitlines(), delimiter=",", skiprows=1)
    table = np.empty((IBUG68.n_landmarks, 4))
    index = rows[:, 0].astype(int)
    table[IBUG68.mirror[index]] = rows[:, 1:] * (-1.0, 1.0, 1.0, 1.0)
    table[index] = rows[:, 1:]
    return table


HEAD_IBUG68: np.ndarray
WEIGHTS_IBUG68: np.ndarray
_ROWS = _load()
_HEAD, _WEIGHTS = _ROWS[:, :3].copy(), _ROWS[:, 3].copy()
_TABLES = {"HEAD_IBUG68": _HEAD, "WEIGHTS_IBUG68": _WEIGHTS}


def __getattr__(name: str) -> np.ndarray:
    # Whoever imports a table gets a copy: writing to it harms nobody, and compiled code (Rotation.apply of SciPy 1.17)
    # that refuses read-only arrays takes it.
    if name in _TABLES:
        return _TABLES[name].copy()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def reference_landmarks(scheme: SchemeLike = IBUG68) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference landmarks of a scheme in millimetres, and their weights.

    Parameters
    ----------
    scheme : LandmarkScheme or str
        IBUG68; a scheme that `shape_models.convert` reaches from it (WFLW98, COFW29, MUCT68, MUCT76, MEDIAPIPE478); or
        one with at least six landmarks of the same names, such as a subset of IBUG68. Landmarks without a counterpart
        are NaN with weight 0. Points of the jaw go by their number, which means another place where a contour has
        another count: only the names of IBUG68 and its subsets stand for the jaw.

    Returns
    -------
    points : ndarray of shape (n_landmarks, 3)
    weights : ndarray of shape (n_landmarks,)

    Raises
    ------
    ValueError
        When fewer than six landmarks of the scheme are known.

    Examples
    --------
    >>> from pose.reference import HEAD_IBUG68, reference_landmarks
    >>> points, weights = reference_landmarks()
    >>> points.shape, float(points[27:31, 0].max())
    ((68, 3), 0.0)
    >>> points, weights = reference_landmarks("wflw98")  # twice as many points along the jaw
    >>> bool((points[32] == HEAD_IBUG68[16]).all()), int((weights > 0).sum())
    (True, 60)
    """
    scheme = get_scheme(scheme)
    if scheme == IBUG68:
        return _HEAD.copy(), _WEIGHTS.copy()
    try:
        points = np.array(convert(_HEAD, IBUG68, scheme).shapes)
        weights = np.nan_to_num(convert(np.tile(_WEIGHTS[:, None], 2), IBUG68, scheme).shapes[:, 0])
    except ValueError:  # no pair of schemes that is known: by name
        points, weights = np.full((scheme.n_landmarks, 3), np.nan), np.zeros(scheme.n_landmarks)
        same_jaw = scheme.name.partition("[")[0] == IBUG68.name
        place = {name: i for i, name in enumerate(IBUG68.names) if same_jaw or "jaw" not in name}
        for i, name in enumerate(scheme.names):
            if name in place:
                points[i], weights[i] = _HEAD[place[name]], _WEIGHTS[place[name]]
    known = int((weights > 0).sum())
    if known < 6:
        raise ValueError(
            f"scheme: got {scheme.name!r}, of which {known} landmarks have 3-D references; expected at least 6. "
            "Try shape_models.landmarks.convert to IBUG68, or solve_pnp with your own 3-D points."
        )
    return points, weights


def derive_reference(
    shapes: ArrayLike, *, scheme: SchemeLike = IBUG68, interpupillary_distance: float = INTERPUPILLARY_DISTANCE
) -> np.ndarray:
    """Return the symmetric, upright mean of 3-D landmark sets, in millimetres, by the rules of this module.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, 3)
        In any pose and scale, in a right-handed frame.
    scheme : LandmarkScheme or str
        With `mirror`, groups "right_eye" and "left_eye" and the names of nasion, nose tip and chin.
    interpupillary_distance : float
        What the distance between the middles of the eyes becomes.

    Returns
    -------
    ndarray of shape (n_landmarks, 3)

    Raises
    ------
    DegenerateShapeError
        When the shapes are flat, so that their mirror images cannot be told from them, or their landmarks coincide.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.spatial.transform import Rotation
    >>> from pose.reference import HEAD_IBUG68, derive_reference
    >>> turns = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(5, 3))).as_matrix()
    >>> mean = derive_reference(HEAD_IBUG68 @ turns)
    >>> float(np.abs(mean - HEAD_IBUG68).max().round(2))
    0.0
    """
    scheme = get_scheme(scheme)
    shapes = as_shapes(shapes, name="shapes", n_landmarks=scheme.n_landmarks, n_dims=3, min_samples=1).astype(float)
    refuse_extremes_of(shapes)
    if not np.ptp(shapes, axis=1).any(axis=1).all():
        raise DegenerateShapeError("shapes: got landmarks that all coincide; expected 3-D shapes.")
    if scheme.mirror is None:
        raise ValueError(f"scheme: {scheme.name!r} has no mirror map; expected a symmetric object.")
    mirror = np.asarray(scheme.mirror)
    flipped = shapes[:, mirror] * (-1.0, 1.0, 1.0)
    both = np.concatenate([shapes, flipped])
    mean = both[0] - both[0].mean(axis=0)
    for _ in range(200):
        previous = mean
        mean = align_to(both, mean).mean(axis=0)
        mean = mean - mean.mean(axis=0)
        mean = mean / np.sqrt((mean**2).sum(axis=1).mean())
        if np.abs(mean - previous).max() < 1e-12:  # of a mean of size 1, which moves by rounding only
            break
    if np.linalg.svd(mean, compute_uv=False)[-1] < 1e-6:  # flat but for the rounding of single precision
        raise DegenerateShapeError("shapes: got landmarks in one plane; expected 3-D shapes.")
    # The line from each landmark to its mirror image is the x axis; exact symmetry about x = 0 then costs nothing.
    across = mean - mean[mirror]
    frame = np.linalg.svd(across)[2]
    mean = mean @ (frame * np.sign(np.linalg.det(frame))).T
    mean = 0.5 * (mean + mean[mirror] * (-1.0, 1.0, 1.0))
    right, left = (mean[scheme.groups[f"{side}_eye"]].mean(axis=0) for side in ("right", "left"))
    names = list(scheme.names)
    nasion, chin, tip = (mean[names.index(name)] for name in ("nose_bridge_0", "chin", "nose_tip"))
    # Upright: turn about x until nasion to chin runs along +y; then about y if the nose points into the head.
    down = chin - nasion
    upright = Rotation.from_euler("x", -np.arctan2(down[2], down[1]))
    if upright.apply(tip - nasion)[2] > 0:
        upright = Rotation.from_euler("y", np.pi) * upright
    turn = Rotation.from_euler("x", CHIN_LEAN, degrees=True) * upright
    mean = turn.apply(mean - 0.5 * (right + left))
    if mean[scheme.groups["left_eye"], 0].mean() < 0:
        raise ValueError("shapes: got mirrored faces; expected right-handed ones. Try negating z, as for AFLW2000-3D.")
    mean = mean * (interpupillary_distance / np.linalg.norm(left - right))
    mean[mirror == np.arange(len(mean)), 0] = 0.0
    return np.asarray(mean)


def align_to(shapes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return shapes after the similarity transforms, without reflection, that bring each nearest to `target`."""
    return np.asarray(estimate_similarity(shapes, target, on_error="raise")(shapes))


def derive_weights(landmarks: ArrayLike, camera: Camera, *, reference: np.ndarray | None = None) -> np.ndarray:
    """Return inverse variances of the landmarks about the rigid fit, symmetric, with mean 1.

    Fits the reference to every face, takes each landmark's mean squared residual in units of the face, and repeats
    with the weights this gives until they change no more.

    Parameters
    ----------
    landmarks : array_like of shape (n_samples, 68, 2)
        2-D annotations in the IBUG68 scheme.
    camera : Camera
        One for all, or one for each face.
    reference : ndarray of shape (68, 3), optional
        `HEAD_IBUG68` by default.

    Returns
    -------
    ndarray of shape (68,)

    Raises
    ------
    ValueError
        For a face with fewer than 4 landmarks, a landmark that no face shows, and faces that are fitted exactly or
        not at all.

    Examples
    --------
    >>> import numpy as np
    >>> from pose import Camera, Pose, project_points
    >>> from pose.reference import HEAD_IBUG68, derive_weights
    >>> camera = Camera.from_image_size(256)
    >>> faces = np.stack([project_points(HEAD_IBUG68, Pose.identity([0, 0, z]), camera) for z in (400.0, 500.0)])
    >>> noisy = faces + np.random.default_rng(0).normal(size=faces.shape)
    >>> derive_weights(noisy, camera).shape
    (68,)
    """
    from ._pnp import solve_pnp

    assert IBUG68.mirror is not None
    reference = _HEAD if reference is None else as_shapes(reference, name="reference", n_landmarks=68, n_dims=3)
    landmarks = as_shapes(landmarks, name="landmarks", n_landmarks=68, n_dims=2, min_samples=1, allow_nan=True)
    landmarks = landmarks.astype(np.float64)
    refuse_extremes_of(landmarks, "landmarks")
    seen = np.isfinite(landmarks[..., 0])
    if (seen.sum(axis=1) < 4).any():
        raise ValueError(f"landmarks[{int(np.argmin(seen.sum(axis=1)))}]: got fewer than 4 landmarks that are seen.")
    if not seen.any(axis=0).all():
        raise ValueError(f"landmarks: got no face that shows landmark {int(np.argmin(seen.any(axis=0)))}.")
    weights = np.ones(68)
    size = np.sqrt(np.nanvar(landmarks, axis=1).sum(axis=-1))
    for _ in range(100):
        result = solve_pnp(reference, landmarks, camera, weights=weights)
        if not result.converged.any():
            raise ValueError("landmarks: got no face that the reference fits; expected pixels of this camera.")
        squared = (result.residuals[result.converged] ** 2).sum(-1) / size[result.converged, None] ** 2
        variance = np.nanmean(squared, axis=0)
        variance = 0.5 * (variance + variance[IBUG68.mirror])
        if not np.median(variance) > 0:
            raise ValueError("landmarks: got faces that the reference fits exactly; expected annotated ones.")
        # A landmark cannot be firmer than the annotation itself: the floor keeps the iteration from a single point.
        new = 1.0 / (variance + 0.1 * np.median(variance))
        new /= new.mean()
        if np.abs(new - weights).max() < 1e-4:  # of weights with mean 1, read to three digits
            break
        weights = new
    return weights
