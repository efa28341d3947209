"""The active appearance model: shape and texture learned together, fitted by inverse composition."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.spatial import Delaunay, QhullError
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._aligned import AlignedASM
from .._array import DegenerateShapeError, as_count, as_numpy, as_shapes
from .._asm import ASM
from .._basis import ShapeBasis
from .._fitted import all_or_nothing
from .._kernels import compiled
from .._limits import LimitLike
from .._options import check_choice
from .._typing import ArrayLike, ImageLike, ImagesLike, ShapesLike
from ._checks import check_shape
from ._frame import Planar
from ._images import ImageBank, read_image
from ._kernels import bilinear
from .evidence import Evidence, Proposal, View, saved
from .fitter import ASMFitter, load_fitter
from .results import SearchResult

# Of the files that are compiled into the functions below: what is kept on disk is looked up by the text of this one.
INLINED = "b0d21545ea859693"

__all__ = ["AppearanceModel"]

_FLAT = 1e-6  # spread of grey values, in fractions of that of the image, below which a texture says nothing
_SHAPE_SHARES = (0.01, 0.5, 0.9)  # of the variance of the shape, that the last three levels may use
_COARSE_TEXTURE = 0.8  # of the fraction of texture variance, at levels above the finest
_HALVINGS = 4  # lengths of a step that are tried, down to an eighth
_FINEST = 2048  # pixels along the longer side of the mean shape
_METHODS = ("simultaneous", "project_out")


@compiled
def _warp(buffer, table, to_level, points, corners, shares, out):
    """Fill `out` (n, P) with the images at Σ shares[p, c] * points[i, corners[p, c]]."""
    for i in range(points.shape[0]):
        for p in range(corners.shape[0]):
            x = 0.0
            y = 0.0
            for c in range(3):
                x += shares[p, c] * points[i, corners[p, c], 0]
                y += shares[p, c] * points[i, corners[p, c], 1]
            x = x * to_level[i, 0, 0] + to_level[i, 0, 1]
            y = y * to_level[i, 1, 0] + to_level[i, 1, 1]
            out[i, p] = bilinear(buffer, table[i, 0], table[i, 1], table[i, 2], x, y)


class Mesh:
    """The pixels of the mean shape, each a mixture of the three corners of its triangle.

    Parameters
    ----------
    frame : Frame
    resolution : float
        Pixels along the longer side of the mean shape.
    """

    def __init__(self, frame: Any, resolution: float) -> None:
        if not resolution <= _FINEST:
            raise ValueError(f"resolution: got {resolution}; expected at most {_FINEST} pixels.")
        self.resolution = float(resolution)
        upright = frame.upright * (resolution / frame.side)
        # Half a pixel of room, so that rounding puts no landmark off the image.
        self.points = upright - upright.min(axis=0) + 0.5
        try:
            triangulation = Delaunay(self.points)
        except (QhullError, ValueError):
            raise DegenerateShapeError(
                f"the {len(upright)} landmarks of the mean shape span no area; expected at least three that are not "
                "on one line."
            ) from None
        self.triangles = triangulation.simplices
        width, height = (int(v) for v in np.ceil(self.points.max(axis=0)) + 1)
        y, x = np.mgrid[:height, :width]
        at = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
        inside = triangulation.find_simplex(at, tol=1e-9)
        self.mask = (inside >= 0).reshape(height, width)
        at, inside = at[inside >= 0], inside[inside >= 0]
        affine = triangulation.transform[inside]
        two = np.einsum("pij,pj->pi", affine[:, :2], at - affine[:, 2])
        self.shares = np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)
        self.corners = self.triangles[inside].astype(np.int64)
        self.pixels = at
        # Triangles at each landmark, for the composition of warps.
        at_corner = np.zeros((len(upright), len(self.triangles)))
        for c in range(3):
            at_corner[self.triangles[:, c], np.arange(len(self.triangles))] = 1.0
        count = at_corner.sum(axis=1, keepdims=True)
        self.around = np.divide(at_corner, count, out=np.zeros_like(at_corner), where=count > 0)
        self.alone = np.flatnonzero(count[:, 0] == 0)
        self.edges = np.linalg.inv(self._edges(self.points))
        self._number = np.full(self.mask.shape, -1)
        self._number[self.mask] = np.arange(len(at))

    def _edges(self, points: np.ndarray) -> np.ndarray:
        corner = points[..., self.triangles, :]
        return np.swapaxes(corner[..., 1:, :] - corner[..., :1, :], -1, -2)

    def read(self, view: View) -> np.ndarray:
        """Return the grey values (n, P) inside the shapes of a view."""
        table, to_level = view.bank.place(view.index, view._flip, view.pixel)
        points = np.ascontiguousarray(view.points, dtype=np.float64)
        out = np.empty((len(points), len(self.corners)), np.float32)
        _warp(view.bank.buffer, table, to_level, points, self.corners, self.shares, out)
        return out.astype(np.float64)

    def at_landmarks(self, left: np.ndarray) -> np.ndarray:
        """Return the mean square (n, K) of differences (n, P) round each landmark."""
        out = np.zeros((len(left), len(self.points)))
        flat = self.corners.ravel()
        for i, square in enumerate(left**2):
            out[i] = np.bincount(flat, (self.shares * square[:, None]).ravel(), len(self.points))
        return out / np.maximum(np.bincount(flat, self.shares.ravel(), len(self.points)), 1e-9)

    def gradient(self, textures: np.ndarray) -> np.ndarray:
        """Return the slopes (..., P, 2) of textures (..., P) by differences of neighbours inside the mesh."""
        out = np.zeros((*textures.shape, 2))
        for axis, shift in ((0, (0, 1)), (1, (1, 0))):
            padded = np.pad(self._number, 1, constant_values=-1)
            here = np.arange(len(self.pixels))
            y, x = (self.pixels[:, 1].astype(int) + 1), (self.pixels[:, 0].astype(int) + 1)
            after, before = padded[y + shift[0], x + shift[1]], padded[y - shift[0], x - shift[1]]
            length = (after >= 0).astype(float) + (before >= 0)
            after, before = np.where(after >= 0, after, here), np.where(before >= 0, before, here)
            out[..., axis] = (textures[..., after] - textures[..., before]) / np.maximum(length, 1)
        return out

    def descent(self, slopes: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return the steepest-descent images (..., P, q): change of a texture under motions (q, K, 2) of the landmarks.

        Matthews and Baker (2004), Eq. (35): the slope times the Jacobian of the warp.
        """
        moves = np.einsum("pc,qpcd->pqd", self.shares, directions[:, self.corners])
        return np.asarray(np.einsum("...pd,pqd->...pq", slopes, moves))

    def compose(self, points: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return where the warps from the mesh to shapes (n, K, 2) take the landmarks moved by (n, K, 2).

        Each triangle at a landmark has its own affine map, and the average is taken (Matthews and Baker, section 4.2).
        """
        maps = np.einsum("kt,ntij->nkij", self.around, self._edges(points) @ self.edges)
        if len(self.alone):  # a landmark that coincides with another is no corner
            maps[:, self.alone] = maps.mean(axis=1, keepdims=True)
        return np.asarray(points + np.einsum("nkij,nkj->nki", maps, moves))


def normalise(textures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return textures of mean 0 and mean square 1, and which are not flat; those that are become zero."""
    textures = textures - textures.mean(axis=-1, keepdims=True)
    spread = np.sqrt((textures**2).mean(axis=-1, keepdims=True))
    good = spread > _FLAT
    return np.divide(textures, spread, out=np.zeros_like(textures), where=good), good[..., 0]


@saved
class Texture(Evidence):
    """The texture inside the shape as evidence: one Gauss-Newton step of the inverse-compositional fit.

    The step minimises the difference of texture and mean in what neither the texture modes nor a change of brightness
    and contrast explain, over pose and modes of the shape. It is halved until the difference does not grow.
    """

    n_levels = 3
    level_step = 2.0
    resolution = 64.0
    stays = 0.05

    def __init__(
        self, *, n_components: Any = 0.95, limit: Any = 3.0, n_iter: int = 20, method: str = "simultaneous"
    ) -> None:
        check_choice(_METHODS, method=method)
        self.method = method
        self.n_components = n_components
        self.limit = limit
        self.n_iter = n_iter
        self.stages_ = {}

    def prepare(self, frame: Any, n_levels: int, scheme: Any) -> None:
        last = len(_SHAPE_SHARES)
        self.n_modes_ = frame.modes_for([_SHAPE_SHARES[max(k - n_levels, -last)] for k in range(n_levels)]).tolist()
        self._n_levels = n_levels
        self._frame = frame
        self._ready: dict[int, tuple[Mesh, ShapeBasis, np.ndarray, np.ndarray, np.ndarray]] = {}

    def train(self, view: View, truth: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> None:
        mesh = Mesh(self._frame, view.resolution)
        textures, good = normalise(mesh.read(view.moved(truth)))
        if not good.all():
            wrong = int(view.index[np.flatnonzero(~good)[0]])
            raise ValueError(f"image {wrong}: got the same value everywhere inside the shape; expected a texture.")
        model = ASM(self._count(view.level, textures.shape), limit=self.limit).fit(textures)
        basis = model.basis_
        if basis.n_components + 2 >= basis.n_features:
            raise ValueError(
                f"n_texture_components: got {basis.n_components} modes for {basis.n_features} pixels, which leaves "
                "nothing to fit by; expected fewer, or a higher resolution."
            )
        left = textures - basis.decode(basis.encode(textures))
        self.stages_[str(view.level)] = {
            "mean": np.asarray(basis.mean),
            "components": np.asarray(basis.components),
            "variances": np.asarray(basis.variances),
            "noise": np.array([basis.noise_variance]),
            "typical": np.quantile(mesh.at_landmarks(left), 0.75, axis=0),
            "resolution": np.array([view.resolution]),
        }

    def _count(self, level: int, shape: tuple[int, ...]) -> Any:
        """Return the texture modes of a level: above the finest one fewer, so that they cannot pass for motion."""
        count = self.n_components
        number = count is None or (isinstance(count, int | float | np.number) and not isinstance(count, bool))
        if level == self._n_levels - 1 or not number:
            return count
        if isinstance(count, int | np.integer):
            return max(1, min(int(count), shape[0] - 1, shape[1] // 2))
        return _COARSE_TEXTURE * float(1.0 if count is None else count)

    def stage(self, level: int) -> tuple[Mesh, ShapeBasis, np.ndarray, np.ndarray, np.ndarray]:
        """Return the mesh, the texture basis, and what a step needs, made when first asked for.

        That is the motions (q, K, 2), the orthonormal directions (P, r) that are projected out, and the matrix (q, P)
        from a texture's difference to the amounts of the motions.
        """
        if level not in self._ready:
            if str(level) not in self.stages_:
                raise ValueError(f"the appearance model has no level {level}; fit it with as many levels.")
            arrays = self.stages_[str(level)]
            mesh = Mesh(self._frame, float(arrays["resolution"][0]))
            mean, components, variances = (arrays[name] for name in ("mean", "components", "variances"))
            noise = float(arrays["noise"][0])
            basis = ShapeBasis(mean, components, variances, self.limit, noise_variance=noise)
            if basis.event_shape != (len(mesh.corners),):
                raise ValueError(f"got textures of shape {basis.event_shape}; expected {len(mesh.corners)} pixels.")
            directions = motions(self._frame, self.n_modes_[level])
            explained = np.concatenate([np.ones((1, basis.n_features)), basis.mean[None], basis.components])
            out, _ = np.linalg.qr(explained.T)
            descent = mesh.descent(mesh.gradient(basis.mean), directions)
            descent = descent - out @ (out.T @ descent)
            self._ready[level] = mesh, basis, directions, out, np.linalg.solve(_damped(descent.T @ descent), descent.T)
        return self._ready[level]

    def _difference(self, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return what is left unexplained of textures (n, P), its mean square, which are not flat, and their modes."""
        mesh, basis, _, out, _ = self.stage(view.level)
        textures, good = normalise(mesh.read(view))
        left = textures - basis.mean
        modes = np.asarray(basis.clip(left @ basis.components.T))
        left -= (left @ out) @ out.T
        return left, np.where(good, (left**2).mean(axis=1), 1.0), good, modes

    def _simultaneous(self, level: int, left: np.ndarray, modes: np.ndarray) -> np.ndarray:
        """Return the Gauss-Newton step with the slopes of the texture that each fit has now."""
        mesh, basis, directions, out, _ = self.stage(level)
        descent = mesh.descent(mesh.gradient(np.asarray(basis.decode(modes))), directions)
        descent -= out @ (out.T @ descent)
        across = np.swapaxes(descent, 1, 2)
        return np.linalg.solve(_damped(across @ descent), across @ left[..., None])[..., 0]

    def locate(self, view: View) -> Proposal:
        mesh, _, directions, _, step = self.stage(view.level)
        n_modes = self.n_modes_[view.level]
        left, before, good, explained = self._difference(view)
        ratio = mesh.at_landmarks(left) / np.maximum(self.stages_[str(view.level)]["typical"], 1e-12)
        weights = np.where(good[:, None], 1.0 / (1.0 + ratio**2), 0.0)
        amounts = left @ step.T if self.method == "project_out" else self._simultaneous(view.level, left, explained)
        points = np.array(view.points)
        rows = np.flatnonzero(good)
        for _ in range(_HALVINGS):
            if not len(rows):
                break
            part = view.take(rows)
            # The warp of the mean by the step, inverted to first order, and then the current warp.
            tried = mesh.compose(part.points, -np.einsum("nq,qkd->nkd", amounts[rows], directions))
            # A landmark of no trust keeps a thousandth: a fit of few others would let it go anywhere.
            fit = self._frame.fit(tried, weights=np.maximum(weights[rows], 1e-3), n_modes=n_modes)
            better = self._difference(part.moved(fit.points))[1] <= before[rows]
            points[rows[better]] = tried[better]
            rows = rows[~better]
            amounts[rows] *= 0.5
        return Proposal(points, weights, 1.0 - before, 0.0, n_modes)

    def to_parts(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        from .._model_files import limit_to_json

        kind, header, arrays = super().to_parts()
        return kind, {**header, "limit": limit_to_json(self.limit)}, arrays

    @classmethod
    def from_parts(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        from .._model_files import limit_from_json

        return super().from_parts({**header, "limit": limit_from_json(header["limit"])}, arrays)


def _damped(normal: np.ndarray) -> np.ndarray:
    """Raise the diagonal (..., q, q) a little: a motion that the texture does not show stays where it is."""
    q = normal.shape[-1]
    level = np.maximum(np.trace(normal, axis1=-2, axis2=-1), 1e-300) / q
    return np.asarray(normal + 1e-6 * level[..., None, None] * np.eye(q))


def motions(frame: Any, n_modes: int) -> np.ndarray:
    """Return orthonormal motions (4 + n_modes, K, 2) of the upright mean: similarities, then modes of the shape."""
    turn = Planar(np.exp(1j * np.array(frame.angle)), np.array(0j))
    return turn(frame.tangent[: 4 + n_modes].reshape(-1, frame.n_landmarks, 2))


class AppearanceModel(BaseEstimator):
    """Active appearance model: shape and texture learned together, and found in images by inverse composition.

    The texture is the image inside the landmarks, warped to the mean shape (piecewise affine over its Delaunay
    triangles), with mean 0 and mean square 1. Its principal modes are learned beside those of the shape. The search
    is inverse-compositional, from coarse to fine: Gauss-Newton steps in pose and shape, with all that the texture
    modes, brightness and contrast explain projected out. A step is halved until the unexplained
    difference does not grow, the outcome is brought back to the shape model, and its modes are clipped by the limit.
    Nothing is random.

    Parameters
    ----------
    asm : AlignedASM, default=None
        The shape model, as for `ASMFitter`; None for ``AlignedASM(ASM(0.95))``.
    n_texture_components : int, float or None, default=0.95
        Texture modes of the finest level, as `ASM` counts them; coarser levels have fewer.
    texture_limit : float, limit or None, default=3.0
        The set that coefficients of the texture may live in, as for `ASM`.
    resolution : float, default=64
        Pixels along the longer side of the mean shape at the finest level.
    n_levels : int, default=3
        Levels, from coarse to fine, each with half the resolution of the next.
    max_iter : int, default=20
        Iterations at each level, at most; 0 answers the start.
    method : {"simultaneous", "project_out"}, default="simultaneous"
        Slopes of the texture as the fit explains it now, which reaches further on images unlike the mean, or those
        of the mean texture, computed once, which is faster.
    mirror : bool, default=True
        Whether to learn from mirrored images too, when the scheme of the shape model says which landmarks swap.
    calibration : int, default=None
        Folds of the cross-validation that learns the confidence of landmarks and the expected error, as for
        `ASMFitter`; 0 does without.
    n_jobs : int, default=None
        Threads; None for one, -1 for one in each processor.

    Attributes
    ----------
    asm_ : AlignedASM
        The fitted shape model.
    texture_basis_ : ShapeBasis
        Mean texture, modes and limit at the finest level.
    mask_ : ndarray of bool of shape (height, width)
        The pixels of the mean shape: ``picture[mask_] = texture`` makes an image of a texture.
    mean_shape_ : ndarray of shape (K, 2)
        The mean shape in that image.
    n_landmarks_ : int
        Number of landmarks.
    box_ : dict
        The convention of boxes, as `ASMFitter` has it.
    fitter_ : ASMFitter
        The search that the texture guides.

    References
    ----------
    I. Matthews, S. Baker, "Active appearance models revisited", IJCV 60 (2004), section 4. T. F. Cootes, G. J.
    Edwards, C. J. Taylor, "Active appearance models", PAMI 23 (2001), for the texture. G. Tzimiropoulos, M. Pantic,
    "Optimization problems for fast AAM fitting in-the-wild", ICCV (2013), for the simultaneous method.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import AppearanceModel
    >>> def draw(shape):                                       # an image that shows where its landmarks are
    ...     y, x = np.mgrid[:100, :100]
    ...     return sum(np.exp(-((x - p) ** 2 + (y - q) ** 2) / 8) for p, q in shape)
    >>> shapes = 0.4 * make_faces(30, rng=0)[:, 27:48]
    >>> pictures = [draw(shape) for shape in shapes]
    >>> model = AppearanceModel(n_levels=2, resolution=32).fit(pictures[:25], shapes[:25])
    >>> box = (*shapes[25].min(axis=0), *shapes[25].max(axis=0))
    >>> result = model.predict(pictures[25], boxes=box)
    >>> result.shape.shape, result.found
    ((21, 2), True)
    >>> texture = model.texture(pictures[25], shapes[25])
    >>> texture.shape == (model.mask_.sum(),)
    True
    """

    def __init__(
        self,
        asm: AlignedASM | None = None,
        *,
        n_texture_components: int | float | None = 0.95,
        texture_limit: LimitLike = 3.0,
        resolution: float = 64.0,
        n_levels: int = 3,
        max_iter: int = 20,
        method: str = "simultaneous",
        mirror: bool = True,
        calibration: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.asm = asm
        self.n_texture_components = n_texture_components
        self.texture_limit = texture_limit
        self.resolution = resolution
        self.n_levels = n_levels
        self.max_iter = max_iter
        self.method = method
        self.mirror = mirror
        self.calibration = calibration
        self.n_jobs = n_jobs

    @all_or_nothing
    def fit(self, images: ImagesLike, shapes: ArrayLike | None = None, *, boxes: ArrayLike | None = None) -> Self:
        """Learn shape, texture and the convention of boxes.

        Parameters
        ----------
        images : sequence of array or path, or LandmarkSamples
            One for each shape, of any sizes; a set brings its shapes along.
        shapes : array_like of shape (n, K, 2), optional
            Landmarks, pixels of the images; NaN where missing (filled in by the shape model).
        boxes : array_like of shape (n, 4), optional
            (x0, y0, x1, y1) as they will be given to `predict`; None for the tight boxes of the landmarks.

        Returns
        -------
        AppearanceModel
            With its attributes set; one that is interrupted or refused stays as it was.

        Raises
        ------
        ValueError
            When images and shapes do not fit together, or a parameter or a value is out of range.
        DegenerateShapeError
            When the landmarks span no area.
        """
        n_iter = as_count(self.max_iter, "max_iter", 0, expected="a whole number that is not negative")
        evidence = Texture(
            n_components=self.n_texture_components, limit=self.texture_limit, n_iter=n_iter, method=self.method
        )
        asm = AlignedASM(ASM(0.95)) if self.asm is None else self.asm
        own = {name: getattr(self, name) for name in ("n_levels", "resolution", "mirror", "calibration", "n_jobs")}
        fitter = ASMFitter(asm, evidence=evidence, n_perturbations=1, **own)
        return self._take(fitter.fit(images, shapes, boxes=boxes))

    def _take(self, fitter: ASMFitter) -> Self:
        texture = fitter.evidence_
        assert isinstance(texture, Texture)
        self.fitter_ = fitter
        for level in range(len(fitter.resolutions_)):
            self._mesh, self.texture_basis_ = texture.stage(level)[:2]
        self._level = len(fitter.resolutions_) - 1
        self.mask_, self.mean_shape_ = self._mesh.mask, self._mesh.points
        self.asm_, self.n_landmarks_, self.box_ = fitter.asm_, fitter.n_landmarks_, fitter.box_
        return self

    def predict(
        self, images: ImagesLike, *, boxes: ArrayLike | None = None, initial: ShapesLike | None = None
    ) -> SearchResult | list[SearchResult]:
        """Find the landmarks in one image or in each of many.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        boxes : array_like of shape (4,) or (n, 4), optional
            Where the object is, (x0, y0, x1, y1), by the convention learned in `fit`.
        initial : array_like of shape (K, 2) or (n, K, 2), optional
            Shapes to start from, instead of boxes.

        Returns
        -------
        SearchResult or list
            As `ASMFitter.predict` answers them. The score is the fraction of the texture that the model explains.

        Raises
        ------
        ValueError
            For a single image that cannot be searched; for arguments that do not fit together.
        """
        check_is_fitted(self, "fitter_")
        if boxes is None and initial is None:
            raise ValueError("got neither boxes nor initial; expected one of them.")
        return self.fitter_.predict(images, boxes=boxes, initial=initial)

    def confidence(self, images: ImagesLike, shapes: ArrayLike) -> Any:
        """Return how well images support given shapes, which are not moved, as `ASMFitter.confidence` does.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or several.
        shapes : array_like of shape (K, 2) or (m, K, 2), or for a batch (n, K, 2) or a list of n such
            Landmarks, pixels of the images.

        Returns
        -------
        ndarray of shape (K,), (m, K) or (n, K), or a list of such
        """
        check_is_fitted(self, "fitter_")
        return self.fitter_.confidence(images, shapes)

    def texture(self, image: ImageLike, shape: ArrayLike) -> np.ndarray:
        """Return the image inside a shape, warped to the mean shape, with mean 0 and mean square 1.

        Parameters
        ----------
        image : array or path
            Grey or in colours.
        shape : array_like of shape (K, 2)
            Landmarks, pixels of the image.

        Returns
        -------
        ndarray of shape (P,)
            The pixels of `mask_`, row by row.

        Raises
        ------
        ValueError
            When the shape lies outside the image, or the image is the same everywhere inside it.
        """
        check_is_fitted(self, "fitter_")
        picture = read_image(image)
        points = as_shapes(shape, name="shape", n_landmarks=self.n_landmarks_, n_dims=2).astype(np.float64)
        if points.ndim != 2:
            raise ValueError(f"shape: got an array of shape {points.shape}; expected ({self.n_landmarks_}, 2).")
        if not np.ptp(points, axis=0).max() > 0:
            raise ValueError("shape: got landmarks that all coincide; expected a shape with extent.")
        check_shape(points, picture, "shape")
        frame = self.fitter_._frame
        pose = frame.pose_of(points[None])
        pixel = pose.scale * frame.side / self._mesh.resolution
        bank = ImageBank.build([picture], [None], [float(pixel[0])])
        zero = np.zeros(1, dtype=int)
        view = View(
            points[None], self._level, 0, self._mesh.resolution, zero, frame, bank, pose, zero.astype(bool), None, {}
        )
        textures, good = normalise(self._mesh.read(view))
        if not good[0]:
            raise ValueError("image: got the same value everywhere inside the shape; expected a texture.")
        return np.asarray(textures[0])

    def synthesize(self, coefficients: ArrayLike) -> np.ndarray:
        """Return textures made of modes.

        Parameters
        ----------
        coefficients : array_like of shape (..., n_components)
            Of the modes of `texture_basis_`; clipped by its limit.

        Returns
        -------
        ndarray of shape (..., P)

        Raises
        ------
        ValueError
            When they are not finite or their number is not that of the modes.
        """
        check_is_fitted(self, "fitter_")
        values = as_numpy(coefficients, "coefficients").astype(np.float64)
        n = self.texture_basis_.n_components
        if values.ndim == 0 or values.shape[-1] != n:
            raise ValueError(f"coefficients: got an array of shape {values.shape}; expected {n} along the last axis.")
        if not np.isfinite(values).all():
            raise ValueError("coefficients: got NaN or infinity; expected finite numbers.")
        return np.asarray(self.texture_basis_.decode(self.texture_basis_.clip(values)))

    def to_archive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays), what `save_model` writes.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        check_is_fitted(self, "fitter_")
        _, header, arrays = self.fitter_.to_archive()
        return "AppearanceModel", {**header, "mirror": bool(self.mirror)}, arrays


def load_appearance(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> AppearanceModel:
    """Build the `AppearanceModel` that `to_archive` took apart."""
    fitter = load_fitter(header, arrays)
    texture = fitter.evidence_
    if not isinstance(texture, Texture):
        raise ValueError(f"got evidence of kind {type(texture).__name__}; expected Texture.")
    model = AppearanceModel(
        fitter.asm,
        n_texture_components=texture.n_components,
        texture_limit=texture.limit,
        resolution=fitter.resolutions_[-1],
        n_levels=len(fitter.resolutions_),
        max_iter=texture.n_iter,
        method=texture.method,
        mirror=header["mirror"],
        calibration=fitter.calibration,
    )
    return model._take(fitter)
