"""A 3-D shape model of the face, posed and shaped together from 2-D landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shape_models import ASM, IBUG68, LandmarkScheme, ShapeBasis
from shape_models._archive import read_archive
from shape_models._array import as_count
from shape_models._brief import brief
from shape_models._limits import LimitLike
from shape_models._model_files import load_basis, save_basis, scheme_from_json, scheme_to_json
from shape_models._options import check_numbers
from shape_models._typing import ArrayLike

from ._behind import flag_behind
from ._camera import Camera
from ._inputs import check_points, check_weights
from ._pnp import PnPResult, as_rotations, error_ratio, first_row, in_chunks, pack_cameras, solve_pnp
from ._pose import Pose
from .reference import align_to, derive_reference, reference_landmarks

BUNDLED = Path(__file__).parent / "face3d.npz"


@brief
@dataclass(frozen=True, eq=False)
class FaceFit(PnPResult):
    """Pose and shape of a face: the result of fitting a `FaceModel3D`.

    Parameters
    ----------
    coefficients : ndarray of shape (n_components,) or (b, n_components)
        Of the modes, in millimetres.
    landmarks_3d : ndarray of shape (n_landmarks, 3) or (b, n_landmarks, 3)
        In the frame of the head, in millimetres; ``fit.pose(fit.landmarks_3d)`` is in the frame of the camera.
    mahalanobis : float or ndarray of shape (b,)
        Distance of the shape from the mean face in standard deviations, √Σ bᵢ²/λᵢ: how unusual the face is.
    on_limit : int or ndarray of shape (b,)
        Coefficients held by the limit of the basis. Some mean that the landmarks are no plausible face.

    Examples
    --------
    >>> from pose import Camera, FaceModel3D, Pose, project_points
    >>> model = FaceModel3D.bundled()
    >>> camera = Camera.from_image_size((640, 480))
    >>> fit = model.fit(project_points(model.basis.mean, Pose.identity([0, 0, 600]), camera), camera)
    >>> round(fit.mahalanobis, 6), fit.on_limit
    (0.0, 0)
    """

    coefficients: np.ndarray
    landmarks_3d: np.ndarray
    mahalanobis: Any
    on_limit: Any


@brief
@dataclass(frozen=True, eq=False)
class FaceModel3D:
    """A shape basis of 3-D landmarks in millimetres, in the frame of the head.

    Parameters
    ----------
    basis : ShapeBasis
        Event shape (n_landmarks, 3). Its limit must be a number or a ``Box``.
    scheme : LandmarkScheme
        What the landmarks are.
    weights : array_like of shape (n_landmarks,), optional
        How firm each landmark is; those of :mod:`pose.reference` by default, 0 for landmarks without one there.
    noise : float
        Standard deviation of a 2-D landmark about the model, as a fraction of the RMS size of the face in the image:
        what modes cannot explain. It sets how strongly shapes are drawn to the mean.
    provenance : str
        Where the shapes came from.

    Raises
    ------
    ValueError
        When basis, scheme and weights do not fit together.

    Examples
    --------
    >>> model = FaceModel3D.bundled()
    >>> model.basis.event_shape
    (68, 3)
    """

    basis: ShapeBasis
    scheme: LandmarkScheme = IBUG68
    weights: Any = None
    noise: float = 0.05
    provenance: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.basis, ShapeBasis):
            raise TypeError(f"basis: got {type(self.basis).__name__}; expected a ShapeBasis. Try asm.basis_.")
        if self.basis.event_shape != (self.scheme.n_landmarks, 3):
            raise ValueError(
                f"basis: got an event shape of {self.basis.event_shape}; expected ({self.scheme.n_landmarks}, 3) for "
                f"{self.scheme.name}."
            )
        weights = reference_landmarks(self.scheme)[1] if self.weights is None else self.weights
        weights = check_weights(weights, 1, self.scheme.n_landmarks)[0]
        object.__setattr__(self, "weights", weights)
        check_numbers(noise=self.noise, above=True)
        self._limit()

    def _limit(self) -> float:
        limit = self.basis.limit
        value = getattr(limit, "value", limit)
        if limit is None:
            return np.inf
        if type(limit).__name__ not in ("Box", "float", "int"):
            raise ValueError(f"basis: got the limit {limit!r}; expected a Box or None.")
        return float(value)

    @classmethod
    def bundled(cls) -> FaceModel3D:
        """Return the model that comes with the package; its `provenance` says what it was made of."""
        kind, header, arrays = read_archive(BUNDLED)
        assert kind == "FaceModel3D"
        return load_face_model(header, arrays)

    @classmethod
    def learn(
        cls,
        shapes: ArrayLike,
        *,
        scheme: LandmarkScheme = IBUG68,
        n_components: int | float = 0.95,
        limit: LimitLike = 3.0,
        weights: ArrayLike | None = None,
        noise: float = 0.05,
        provenance: str = "",
    ) -> FaceModel3D:
        """Learn a model from 3-D landmarks in any pose and scale.

        The mean is `reference.derive_reference`; modes are those of an `ASM` on the shapes and their mirror images,
        aligned to it.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, 3)
            In a right-handed frame.
        scheme : LandmarkScheme
            With a mirror map.
        n_components, limit : optional
            As for `shape_models.ASM`.
        weights, noise, provenance : optional
            See `FaceModel3D`.

        Examples
        --------
        >>> import numpy as np
        >>> from pose.reference import HEAD_IBUG68
        >>> faces = HEAD_IBUG68 + np.random.default_rng(0).normal(size=(50, 68, 3))
        >>> FaceModel3D.learn(faces, n_components=5).basis.n_components
        5
        """
        mean = derive_reference(shapes, scheme=scheme)
        mirror = np.asarray(scheme.mirror)
        aligned = align_to(np.asarray(shapes, dtype=float), mean)
        asm = ASM(n_components, limit=limit).fit(np.concatenate([aligned, aligned[:, mirror] * (-1.0, 1.0, 1.0)]))
        basis = asm.basis_
        return cls(replace(basis, mean=mean), scheme, weights, noise, provenance)

    def fit(
        self,
        landmarks: ArrayLike,
        camera: Camera,
        *,
        weights: ArrayLike | None = None,
        tol: float = 1e-9,
        max_iter: int = 100,
    ) -> FaceFit:
        """Find pose and shape together from 2-D landmarks.

        Minimises Σ w ‖x - project(K, R (m + Σ bᵢ vᵢ) + t)‖² / σ² + Σ bᵢ² / λᵢ over R, t and b within the limit of the
        basis, by Levenberg-Marquardt with the analytic Jacobian from the rigid pose. σ is `noise` times the size of
        the face.

        Parameters
        ----------
        landmarks : array_like of shape (n_landmarks, 2) or (b, n_landmarks, 2)
            Pixels; NaN: missing.
        camera : Camera
            One for all, or one for each view. Distortion is undone before the fit, which then minimises the error of
            the undistorted points; residuals are reported in the pixels of the image.
        weights : array_like of shape (n_landmarks,) or (b, n_landmarks), optional
            Factors on the weights of the model.
        tol : float
            Stop when a step is smaller: radians, fraction of the distance, standard deviations of a mode.
        max_iter : int
            Most steps.

        Returns
        -------
        FaceFit
            `status` can also be "no inverse of the distortion" (in a batch). `covariance` is that of the pose with the
            shape unknown; `second` is that of the rigid fit.

        Raises
        ------
        ValueError, DegenerateShapeError
            As `solve_pnp`.
        """
        check_numbers(tol=tol, above=True)
        as_count(max_iter, "max_iter")
        deviations = np.sqrt(np.array(self.basis.variances, dtype=np.float64))
        shape = _Shape(
            np.array(self.basis.mean, dtype=np.float64),
            np.array(self.basis.components).reshape(-1, *self.basis.event_shape) * deviations[:, None, None],
            np.where(deviations > 0, self._limit(), 0.0),
            deviations,
        )
        views = _see(shape.mean, self.weights, landmarks, camera, weights)
        found = _fit_views(shape, views, camera, self.noise, float(tol), int(max_iter))
        if camera.distortion is not None:
            found = _in_pixels(found, shape.face(found.betas), views, camera)
        return _as_fit(found, shape, views)

    def to_archive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays) for `shape_models.io.save_model`.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        header, arrays = save_basis(self.basis)
        header |= {
            "scheme": scheme_to_json(self.scheme),
            "noise": self.noise,
            "provenance": self.provenance,
            "unit": "millimetre",
            "head_frame": "x to the subject's left, y down, z into the head",
        }
        return "FaceModel3D", header, {**arrays, "weights": np.asarray(self.weights)}


class _Shape(NamedTuple):
    """A shape model in standard deviations."""

    mean: np.ndarray
    modes: np.ndarray
    limits: np.ndarray
    deviations: np.ndarray

    def face(self, betas: np.ndarray) -> np.ndarray:
        return np.asarray(self.mean + np.tensordot(betas, self.modes, axes=1))


class _Views(NamedTuple):
    """What is seen in a batch of views, and the rigid fit to it."""

    seen: np.ndarray
    images: np.ndarray  # what a lens without distortion shows
    factors: np.ndarray
    used: np.ndarray
    lost: np.ndarray  # views with a point that the lens cannot have seen
    size: np.ndarray
    rigid: PnPResult
    single: bool


class _Found(NamedTuple):
    """What `_deformable.fit_rows` fills in, a row for each view."""

    matrices: np.ndarray
    translations: np.ndarray
    betas: np.ndarray
    quaternions: np.ndarray
    numbers: np.ndarray  # RMS error, steps, and 1, or what is below when it did not converge
    covariances: np.ndarray
    residuals: np.ndarray

    def pose(self) -> Pose:
        return Pose(as_rotations(self.quaternions), self.translations)


def _see(mean: np.ndarray, own: np.ndarray, landmarks: ArrayLike, camera: Camera, weights: ArrayLike | None) -> _Views:
    """Check the landmarks, fit the mean face rigidly and undo the distortion."""
    _, seen, single = check_points(mean, landmarks, name="landmarks")
    b, n = seen.shape[:2]
    factors = own * check_weights(weights, b, n)
    # Where the joint fit starts, which goes on to `tol`.
    rigid = solve_pnp(mean, landmarks, camera, weights=factors, tol=1e-6)
    counted = np.broadcast_to(factors, (b, n)) > 0
    images = _undistorted(seen, camera)
    lost = (np.isnan(images[..., 0]) & np.isfinite(seen[..., 0]) & counted).any(axis=1)
    if single and lost[0]:
        camera.normalize(seen)  # says which point the lens cannot have seen
    used = np.isfinite(images).all(axis=-1) & counted
    return _Views(seen, images, factors, used, lost, _spread(images, used), rigid, single)


def _fit_views(shape: _Shape, views: _Views, camera: Camera, noise: float, tol: float, max_iter: int) -> _Found:
    """Fit pose and shape together from the rigid poses, by compiled code."""
    b, n = views.seen.shape[:2]
    found = _Found(
        np.array(views.rigid.pose.rotation.as_matrix()).reshape(b, 3, 3),
        np.array(views.rigid.pose.translation).reshape(b, 3),
        np.zeros((b, len(shape.modes))),
        np.full((b, 4), np.nan),
        np.tile([np.inf, 0.0, 0.0], (b, 1)),
        np.full((b, 6, 6), np.nan),
        np.empty((b, n, 2)),
    )
    found.translations[views.lost] = np.nan
    cameras, _ = pack_cameras(Camera(camera.focal_length, camera.principal_point), b)
    with np.errstate(divide="ignore"):
        precisions = 1.0 / (noise * views.size) ** 2
    pixels = np.ascontiguousarray(views.images)

    def run(first: int, last: int) -> None:
        from ._deformable import fit_rows

        fit_rows(first, last, *shape[:3], pixels, views.factors, cameras, precisions, tol, max_iter, *found)

    in_chunks(run, b)
    return found


def _in_pixels(found: _Found, faces: np.ndarray, views: _Views, camera: Camera) -> _Found:
    """Measure the residuals where the lens shows the face, with its distortion."""
    away = _distorted(found.pose(), faces, camera) - views.seen
    residuals = np.where(np.isnan(found.residuals), np.nan, away)
    rms = np.sqrt(np.nansum(residuals**2, axis=(1, 2)) / np.maximum(views.used.sum(axis=1), 1))
    found.numbers[:, 0] = np.where(np.isfinite(found.numbers[:, 0]), rms, np.inf)
    return found._replace(residuals=residuals)


def _as_fit(found: _Found, shape: _Shape, views: _Views) -> FaceFit:
    """Return the fit with its diagnostics; what is said of the second pose stays that of the rigid fit."""
    values = {f.name: getattr(views.rigid, f.name) for f in fields(PnPResult)}
    error, betas = found.numbers[:, 0], found.betas
    status = _status(np.array(values["status"], dtype="<U30").reshape(len(error)), found.numbers, views.size)
    status[views.lost] = "no inverse of the distortion"
    own = {
        "pose": found.pose(),
        "reprojection_error": error,
        "residuals": found.residuals,
        "covariance": found.covariances,
        "n_iter": found.numbers[:, 1].astype(int),
        "status": status,
        "converged": status == "ok",
        "ambiguity": error_ratio(error, np.reshape(values["second_error"], len(error)), views.seen),
        "coefficients": betas * shape.deviations,
        "landmarks_3d": shape.face(betas),
        "mahalanobis": np.sqrt((betas**2).sum(axis=1)),
        # At the limit to nine digits; a mode without variance has nowhere to go.
        "on_limit": ((np.abs(betas) >= shape.limits * (1 - 1e-9)) & (shape.limits > 0)).sum(axis=1),
    }
    return flag_behind(FaceFit(**values | (first_row(own) if views.single else own)))


def _undistorted(images: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the pixels of a camera without the distortion; NaN where no ray is seen there."""
    if camera.distortion is None:
        return images
    rays = camera._undistort(images)
    return np.asarray(rays * camera.focal_length[..., None, :] + camera.principal_point[..., None, :])


def _distorted(pose: Pose, shapes: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the pixels of shapes (b, n, 3) as a lens with distortion shows them."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        points = pose(shapes)
        plane = camera._distort(points[..., :2] / points[..., 2:])
    return np.asarray(plane * camera.focal_length[..., None, :] + camera.principal_point[..., None, :])


def _status(rigid: np.ndarray, numbers: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return how the joint fit went where the rigid one found a start: (error, steps, 1 or what else) of each row."""
    status = np.where(np.isin(rigid, ["poor fit", "not converged", "mirrored"]), "ok", rigid)
    status[(status == "ok") & (numbers[:, 2] == 0)] = "not converged"
    status[(status == "ok") & (numbers[:, 2] < 0)] = "ill-conditioned"
    # A quarter of the size of the face in the image, as for rigid objects: `_kernels.POOR_FROM` is its square.
    status[(status == "ok") & (numbers[:, 0] > 0.25 * size)] = "poor fit"
    return status


def _spread(images: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the RMS distance of the used points from their middle."""
    count = np.maximum(used.sum(axis=1), 1)[:, None]
    points = np.where(used[..., None], images, 0.0)
    middle = points.sum(axis=1) / count
    centred = np.where(used[..., None], images - middle[:, None], 0.0)
    return np.asarray(np.sqrt((centred**2).sum(axis=(1, 2)) / count[:, 0]))


def load_face_model(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FaceModel3D:
    """Return the model that `FaceModel3D.to_archive` described; `shape_models.load_model` calls it.

    Parameters
    ----------
    header : dict
        The header that `FaceModel3D.to_archive` returned.
    arrays : dict of str to ndarray
        The arrays that it returned.

    Returns
    -------
    FaceModel3D
        As it was.

    Examples
    --------
    >>> _, header, arrays = FaceModel3D.bundled().to_archive()
    >>> load_face_model(header, arrays).basis.event_shape
    (68, 3)
    """
    return FaceModel3D(
        load_basis(dict(header), dict(arrays)),
        scheme_from_json(header["scheme"]),
        arrays["weights"],
        float(header["noise"]),
        str(header["provenance"]),
    )
