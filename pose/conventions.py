r"""Which angles, which frame, which sign: head rotations under the names people use.

One equation and one frame hold everywhere in this package: :math:`\lambda x = K (R X + t)`, with x to the right of
the image, y down, z forward, away from the camera. The head's own axes are parallel to the camera's when the head
faces the camera, so R is the identity for a frontal face; the nose then points along -z. A rotation R says all of
it. Angles and matrices of other programs are read into R and written from R by a convention's name:

===============  ==================================================  =====================================
name             values                                              R from them
===============  ==================================================  =====================================
300W-LP          (pitch, yaw, roll) radians: `Pose_Para[:3]`, also   Rx(-pitch) Ry(yaw) Rz(roll)
                 AFLW2000-3D
HopeNet          (yaw, pitch, roll) degrees                          Rx(-pitch) Ry(yaw) Rz(roll)
6DRepNet         (pitch, yaw, roll) degrees                          Rx(-pitch) Ry(yaw) Rz(roll)
ASMNet           (yaw, pitch, roll) degrees / 65                     Rx(-pitch) Ry(yaw) Rz(roll)
BIWI             (yaw, pitch, roll) degrees, as HopeNet, FSA-Net     Rx(-pitch) Ry(yaw) Rz(roll)
                 and 6DRepNet read the matrices of the set (also
                 called BIWI-HopeNet)
3DDFA            (yaw, pitch, roll) degrees, of 3DDFA_V2             Rz(-roll) Ry(yaw) Rx(pitch)
OpenFace         (pose_Rx, pose_Ry, pose_Rz) radians                 Rx(pose_Rx) Ry(pose_Ry) Rz(pose_Rz)
OpenCV           rotation vector, radians                            exp of the vector
OpenCV-RQ        (x, y, z) degrees of RQDecomp3x3                    Rz(z) Ry(y) Rx(x)
MediaPipe        3 x 3 or 4 x 4 matrix M, y up, z to the viewer      F M F, F = diag(1, -1, -1)
===============  ==================================================  =====================================

A head that lifts its chin 10 degrees reads pitch +10 in 300W-LP, -10 in OpenFace and in 3DDFA. Turned 20 degrees
to the subject's left (the right of the image) it reads yaw -20 in all of them. Tilted 5 degrees towards the
subject's left shoulder (clockwise in the image) it reads roll +5, and -5 in 3DDFA. Mirroring an image negates yaw and
roll. The matrices that 300W-LP, 3DDFA and MediaPipe use inside are F R F (y up, z towards the viewer); the one inside
6DRepNet is the transpose of that.

Conventions fix signs and order. What "pitch 0" means on a face is a property of the 3-D reference, see
:mod:`pose.reference`.

Examples
--------
>>> from pose import conventions
>>> conventions.convert([-0.1, 0.4, 0.0], "300W-LP", "HopeNet").round(2) + 0.0
array([22.92, -5.73,  0.  ])
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from shape_models._names import entry_of
from shape_models._options import check_flags
from shape_models._typing import ArrayLike

from ._inputs import as_reals

__all__ = [
    "CONVENTIONS",
    "Convention",
    "convert",
    "from_matrix",
    "get",
    "gimbal_lock",
    "read",
    "to_matrix",
    "wrap_degrees",
    "write",
    "yaw_pitch_roll",
]

_FLIP = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Convention:
    """How one program or data set writes a head rotation.

    Parameters
    ----------
    name : str
        What it is called.
    values : tuple of str
        What its numbers are, in its order; ("matrix",) for a matrix, ("x", "y", "z") of a rotation vector or of
        angles about the axes.
    unit : {"degrees", "radians", "65 degrees", "matrix"}
    sequence : str
        SciPy axis sequence of R in the camera frame; "" for vectors and matrices.
    factors : tuple of float
        Sign of the angle about each axis of `sequence`, in the order of `sequence`.
    matrix_frame : {"camera", "y up", "y up, transposed"}
        What its matrix is: R, F R F, or the transpose of F R F, with F = diag(1, -1, -1).

    Examples
    --------
    >>> get("OpenFace").values
    ('pitch', 'yaw', 'roll')
    """

    name: str
    values: tuple[str, ...]
    unit: str
    sequence: str
    factors: tuple[float, ...] = ()
    matrix_frame: str = "camera"

    @property
    def _scale(self) -> float:
        """Radians in one unit."""
        return {"degrees": np.pi / 180, "65 degrees": 65 * np.pi / 180, "radians": 1.0, "matrix": 1.0}[self.unit]

    @property
    def _order(self) -> list[int]:
        """Where in `values` the angle of each letter of `sequence` stands."""
        axis = {"pitch": "X", "yaw": "Y", "roll": "Z", "x": "X", "y": "Y", "z": "Z"}
        letters = [axis[value] for value in self.values]
        return [letters.index(letter) for letter in self.sequence]


def _table() -> Mapping[str, Convention]:
    ypr, pyr, xyz = ("yaw", "pitch", "roll"), ("pitch", "yaw", "roll"), ("x", "y", "z")
    chin_up = (-1.0, 1.0, 1.0)  # 300W-LP: positive pitch lifts the chin, against the x axis
    entries = [
        Convention("300W-LP", pyr, "radians", "XYZ", chin_up, "y up"),
        Convention("HopeNet", ypr, "degrees", "XYZ", chin_up, "y up"),
        Convention("6DRepNet", pyr, "degrees", "XYZ", chin_up, "y up, transposed"),
        Convention("ASMNet", ypr, "65 degrees", "XYZ", chin_up, "y up"),
        Convention("BIWI", ypr, "degrees", "XYZ", chin_up),
        Convention("3DDFA", ypr, "degrees", "ZYX", (-1.0, 1.0, 1.0), "y up"),
        Convention("OpenFace", pyr, "radians", "XYZ", (1.0, 1.0, 1.0)),
        Convention("OpenCV", xyz, "radians", ""),
        Convention("OpenCV-RQ", xyz, "degrees", "ZYX", (1.0, 1.0, 1.0)),
        Convention("MediaPipe", ("matrix",), "matrix", "", (), "y up"),
    ]
    return MappingProxyType({entry.name: entry for entry in entries})


CONVENTIONS: Mapping[str, Convention] = _table()
_ALIASES = {"aflw2000": "300W-LP", "aflw20003d": "300W-LP", "3ddfav2": "3DDFA", "biwihopenet": "BIWI"}


def get(name: str | Convention) -> Convention:
    """Return the convention of a name; case, spaces, hyphens and underscores do not matter.

    Parameters
    ----------
    name : str or Convention
        One of the names, or a convention, which is returned as it is.

    Returns
    -------
    Convention
        The one that is called so.

    Raises
    ------
    ValueError
        For a name that is not known, with the names that are.

    Examples
    --------
    >>> get("aflw2000").name
    '300W-LP'
    """
    if isinstance(name, Convention):
        return name
    return entry_of(CONVENTIONS, name, "convention", _ALIASES)


def read(values: ArrayLike, convention: str | Convention) -> Rotation:
    """Return the rotation R, object to camera, of values written under a convention.

    Parameters
    ----------
    values : array_like of shape (3,) or (b, 3); for MediaPipe (3, 3), (4, 4) or (b, 3, 3), (b, 4, 4)
        In the order and unit of the convention. Rows of NaN in a batch, where no pose is known, stay NaN.
    convention : str or Convention
        A convention or its name.

    Returns
    -------
    scipy.spatial.transform.Rotation
        Single, or of length b.

    Raises
    ------
    ValueError
        For values of another shape than (3,) or (b, 3).

    Examples
    --------
    >>> R = read([0.0, 30.0, 0.0], "6DRepNet")  # yaw 30: the nose points to the left of the image
    >>> R.apply([0.0, 0.0, -1.0]).round(3)
    array([-0.5  ,  0.   , -0.866])
    """
    convention = get(convention)
    if convention.unit == "matrix":
        return from_matrix(values, convention)
    values = as_reals(values, "values")
    if values.ndim not in (1, 2) or values.shape[-1] != 3:
        raise ValueError(
            f"values: got shape {values.shape}; expected (3,) or (b, 3): {', '.join(convention.values)} in "
            f"{convention.unit}. Try from_matrix for matrices."
        )
    radians, unknown = _without_gaps(values * convention._scale, np.zeros(3), "values", "angles")
    if convention.sequence:
        rotation = Rotation.from_euler(convention.sequence, radians[..., convention._order] * convention.factors)
    else:
        rotation = Rotation.from_rotvec(radians)
    return with_gaps(rotation, unknown)


def write(rotation: Rotation, convention: str | Convention, *, beyond_profile: bool = False) -> np.ndarray:
    """Return a rotation R, object to camera, as a convention writes it.

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Single, or of length b.
    convention : str or Convention
        A convention or its name.
    beyond_profile : bool
        Every rotation has two triples of angles. The default is the one whose middle angle is within 90 degrees, as
        programs write it. True takes the one with the smaller outer angles, so that a head turned by 100 degrees
        reads yaw 100 and not yaw 80 with pitch and roll near 180.

    Returns
    -------
    ndarray of shape (3,) or (b, 3); for MediaPipe (3, 3) or (b, 3, 3)
        Angles are in (-180, 180] degrees. NaN for a rotation of NaN.

    Examples
    --------
    >>> R = read([0.0, 100.0, 0.0], "6DRepNet")
    >>> write(R, "6DRepNet").round(6) + 0.0
    array([180.,  80., 180.])
    >>> write(R, "6DRepNet", beyond_profile=True).round(6) + 0.0
    array([  0., 100.,   0.])
    """
    check_flags(beyond_profile=beyond_profile)
    convention = get(convention)
    check_rotation(rotation)
    if convention.unit == "matrix":
        return to_matrix(rotation, convention)
    if not convention.sequence:
        return np.asarray(rotation.as_rotvec())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]imbal lock.*")
        angles = rotation.as_euler(convention.sequence)
    if beyond_profile:
        other = np.stack([angles[..., 0] + np.pi, np.pi - angles[..., 1], angles[..., 2] + np.pi], axis=-1)
        other = _wrap(other)
        smaller = np.abs(other[..., ::2]).sum(-1) < np.abs(angles[..., ::2]).sum(-1)
        angles = np.where(smaller[..., None], other, angles)
    out = np.empty_like(angles)
    out[..., convention._order] = _wrap(angles * convention.factors)
    return np.asarray(out / convention._scale)


def convert(values: ArrayLike, source: str | Convention, target: str | Convention) -> np.ndarray:
    """Return values of one convention as another writes them.

    Parameters
    ----------
    values : array_like of shape (3,) or (b, 3)
        In the order and unit of `source`.
    source, target : str or Convention
        The convention of the values, and the one to write them in.

    Returns
    -------
    ndarray of shape (3,) or (b, 3)
        In the order and unit of `target`.

    Examples
    --------
    >>> convert([0.0, 0.0, 30.0], "HopeNet", "3DDFA").round(6) + 0.0
    array([  0.,   0., -30.])
    """
    return write(read(values, source), target)


def yaw_pitch_roll(rotation: Rotation, convention: str | Convention = "300W-LP") -> np.ndarray:
    """Return (yaw, pitch, roll) in degrees with the signs and order of rotation of a convention.

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Head to camera: x right, y down, z forward.
    convention : str or Convention
        A convention or its name.
        One with yaw, pitch and roll.

    Returns
    -------
    ndarray of shape (3,) or (b, 3)

    Raises
    ------
    ValueError
        For a convention without such angles (a rotation vector, a matrix).

    Examples
    --------
    >>> yaw_pitch_roll(read([0.2, 0.1, 0.0], "OpenFace"), "300W-LP").round(2) + 0.0
    array([  5.73, -11.46,   0.  ])
    """
    convention = get(convention)
    if "yaw" not in convention.values:
        with_angles = ", ".join(c.name for c in CONVENTIONS.values() if "yaw" in c.values)
        raise ValueError(f"convention: {convention.name} has no yaw, pitch and roll; expected one of {with_angles}.")
    radians = write(rotation, convention) * convention._scale
    order = [convention.values.index(name) for name in ("yaw", "pitch", "roll")]
    return np.degrees(radians[..., order])


def gimbal_lock(rotation: Rotation, convention: str | Convention = "300W-LP", *, tolerance: float = 1.0) -> np.ndarray:
    """Return where the two outer angles of a convention are not determined one by one.

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Head to camera: x right, y down, z forward.
    convention : str or Convention
        A convention or its name.
    tolerance : float
        Degrees: True where the middle angle is within `tolerance` of 90 degrees.

    Returns
    -------
    ndarray of bool, of shape () or (b,)
        False everywhere for rotation vectors and matrices.

    Examples
    --------
    >>> bool(gimbal_lock(read([0.0, 89.5, 0.0], "6DRepNet"), "6DRepNet"))
    True
    """
    convention = get(convention)
    check_rotation(rotation)
    if not convention.sequence:
        return np.zeros(() if rotation.single else len(rotation), dtype=bool)
    matrix = rotation.as_matrix()
    corner = matrix[..., 0, 2] if convention.sequence == "XYZ" else matrix[..., 2, 0]
    return np.asarray(np.abs(corner) > np.cos(np.radians(tolerance)))


def to_matrix(rotation: Rotation, convention: str | Convention) -> np.ndarray:
    """Return the 3 x 3 matrix that the programs of a convention hold for a rotation R.

    Parameters
    ----------
    rotation : scipy.spatial.transform.Rotation
        Head to camera: x right, y down, z forward.
    convention : str or Convention
        Whose matrix to write.

    Returns
    -------
    ndarray of shape (3, 3) or (b, 3, 3)
        As the programs hold it.

    Examples
    --------
    >>> R = read([0.0, 0.0, 90.0], "HopeNet")
    >>> to_matrix(R, "OpenCV").round(6) + 0.0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    >>> to_matrix(R, "MediaPipe").round(6) + 0.0
    array([[ 0.,  1.,  0.],
           [-1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    convention = get(convention)
    check_rotation(rotation)
    matrix: np.ndarray = rotation.as_matrix()
    if convention.matrix_frame != "camera":
        matrix = matrix * np.outer(_FLIP, _FLIP)
    if convention.matrix_frame.endswith("transposed"):
        matrix = np.swapaxes(matrix, -1, -2)
    return matrix


def from_matrix(matrix: ArrayLike, convention: str | Convention) -> Rotation:
    """Return the rotation R, object to camera, of the matrix that the programs of a convention hold.

    Parameters
    ----------
    matrix : array_like of shape (3, 3), (4, 4), (b, 3, 3) or (b, 4, 4)
        Of a 4 x 4 matrix the upper left part is read.
    convention : str or Convention
        A convention or its name.

    Returns
    -------
    scipy.spatial.transform.Rotation

    Raises
    ------
    ValueError
        When a matrix is no rotation: not orthonormal to 1e-3, or a reflection.

    Examples
    --------
    >>> from_matrix([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "MediaPipe").as_rotvec()
    array([0., 0., 0.])
    """
    convention = get(convention)
    array = as_reals(matrix, "matrix")
    if array.ndim not in (2, 3) or array.shape[-2:] not in {(3, 3), (4, 4)}:
        raise ValueError(f"matrix: got shape {array.shape}; expected (3, 3), (4, 4), (b, 3, 3) or (b, 4, 4).")
    array = array[..., :3, :3]
    if convention.matrix_frame.endswith("transposed"):
        array = np.swapaxes(array, -1, -2)
    if convention.matrix_frame != "camera":
        array = array * np.outer(_FLIP, _FLIP)
    return rotation_from_matrix(array)


def check_rotation(rotation: Any) -> None:
    """Refuse what is no scipy Rotation."""
    if not isinstance(rotation, Rotation):
        raise TypeError(
            f"rotation: got {type(rotation).__name__}; expected a scipy Rotation. Try read(values, convention) for "
            "angles and from_matrix for matrices."
        )


def rotation_from_matrix(matrix: np.ndarray) -> Rotation:
    """Return a Rotation of matrices that are rotations; SciPy alone would orthogonalise anything in silence."""
    matrix, unknown = _without_gaps(matrix, np.eye(3), "matrix", "numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        gram = matrix @ np.swapaxes(matrix, -1, -2)
        rigid = np.abs(gram - np.eye(3)) <= 1e-3  # False where squares overflow
    if not rigid.all():
        raise ValueError("matrix: got rows that are not orthonormal; expected a rotation. Remove the scale first.")
    if (np.linalg.det(matrix) < 0).any():
        raise ValueError("matrix: got a reflection (determinant -1); expected a rotation. Check the handedness.")
    return with_gaps(Rotation.from_matrix(matrix), unknown)


def _without_gaps(values: np.ndarray, instead: np.ndarray, name: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return values with a number in the rows of a batch that hold NaN, and which these are."""
    axes = tuple(range(-instead.ndim, 0))
    unknown = np.isnan(values).any(axis=axes)
    if np.isinf(values).any() or (unknown.ndim == 0 and unknown):
        raise ValueError(f"{name}: got NaN or infinity; expected finite {what}. In a batch NaN marks an unknown pose.")
    return np.where(np.expand_dims(unknown, axes), instead, values), unknown


def with_gaps(rotation: Rotation, unknown: np.ndarray) -> Rotation:
    """Return rotations of which some are NaN."""
    if not unknown.any():
        return rotation
    return Rotation.from_rotvec(np.where(unknown[:, None], np.nan, rotation.as_rotvec()))


def _wrap(radians: np.ndarray) -> np.ndarray:
    return -(np.mod(-radians + np.pi, 2 * np.pi) - np.pi)


def wrap_degrees(angles: ArrayLike) -> np.ndarray:
    """Return angles in (-180, 180] degrees.

    Parameters
    ----------
    angles : array_like of any shape
        Degrees.

    Returns
    -------
    ndarray of the shape of `angles`
        The same directions.

    Raises
    ------
    ValueError
        For infinity.

    Examples
    --------
    >>> wrap_degrees([190.0, -180.0, 30.0]).tolist()
    [-170.0, 180.0, 30.0]
    """
    angles = as_reals(angles, "angles")
    if np.isinf(angles).any():
        raise ValueError("angles: got infinity; expected degrees, NaN where an angle is unknown.")
    return np.asarray(-(np.mod(-angles + 180.0, 360.0) - 180.0))
