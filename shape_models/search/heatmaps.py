"""Heat maps from elsewhere, a network or any detector: fitted as they are, or as evidence of a search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np

from .._aligned import ShapeModel
from .._array import as_count
from .._fitting import ShapeFit, fit_shape
from .._options import check_numbers
from .._typing import ArrayLike
from ..landmarks import LandmarkScheme
from .evidence import Evidence, Proposal, View, saved

__all__ = ["HeatMaps", "fit_heatmaps", "heatmap_peaks"]

_SHARE, _POWER, _USUAL = 0.05, 3.0, 0.9  # see `fit_heatmaps`; the usual height is this quantile of those of a shape
_TOGETHER = 4.0  # errors of the maps of one shape go together: what that adds to covariances
_TINY = 1e-12  # height whose logarithm stands for that of zero


@saved
class HeatMaps(Evidence):
    """Evidence from heat maps that another program computed, one map for each landmark.

    Each landmark moves to the mean of its map under a Gaussian window round where it is, and the shape step weighs
    these means against the prior of the modes: regularised landmark mean-shift. The window shrinks from level to
    level. A landmark whose map is empty near the shape has no weight, and the others carry it.

    The maps are given to ``predict(..., heatmaps=)`` (and to ``fit(..., heatmaps=)`` in a combination), for each image
    either an array (K, h, w) that covers the whole image, or a pair of it and a matrix (2, 3) that takes pixels (x, y)
    of the map to pixels of the image. Pixel centres are at whole numbers in both, so a map that covers the image has
    the corners of its outer pixels, not their centres, on those of the image. Without boxes and initial shapes the
    search starts at the peaks.

    Parameters
    ----------
    width : float
        Standard deviation of the window at the finest level, as a fraction of the longer side of the mean shape.
    prior : float
        Strength of the prior of the modes, 1 for that of the derivation (the variance of the window over the variance
        of each mode).
    n_iter : int
        Iterations at each level, at most.

    References
    ----------
    J. M. Saragih, S. Lucey, J. F. Cohn, "Deformable model fitting by regularized landmark mean-shift", IJCV 91 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import ASMFitter, HeatMaps
    >>> shapes = 0.4 * make_faces(30, rng=0)
    >>> fitter = ASMFitter(evidence=HeatMaps()).fit(None, shapes[1:])
    >>> y, x = np.mgrid[:100, :100]
    >>> maps = np.exp(-((x - shapes[0, :, :1, None]) ** 2 + (y - shapes[0, :, 1:, None]) ** 2) / 8)
    >>> maps[10] = 0                                           # a landmark the detector did not see
    >>> result = fitter.predict(np.zeros((100, 100)), heatmaps=maps)
    >>> error = np.linalg.norm(result.shape - shapes[0], axis=1)
    >>> bool(error.mean() < 1), bool(result.confidence[10] == 0)
    (True, True)
    """

    level_step = 2.0
    needs_images = False
    needs_maps = True
    stays = 0.5

    def __init__(self, *, width: float = 0.03, prior: float = 1.0, n_iter: int = 8) -> None:
        check_numbers(width=width, above=True, most=1)
        check_numbers(prior=prior)
        as_count(n_iter, "n_iter")
        self.width = width
        self.prior = prior
        self.n_iter = n_iter
        self.n_levels_ = 1
        self.stages_ = {}

    def prepare(self, frame: Any, n_levels: int, scheme: LandmarkScheme | None) -> None:
        """Note how many levels there are.

        Parameters
        ----------
        frame : Frame
            The frame of the model: its mean, its modes and its size.
        n_levels : int
            Number of levels of the search.
        scheme : LandmarkScheme or None
            What the landmarks are called.
        """
        self.n_levels_ = n_levels

    def locate(self, view: View) -> Proposal:
        """Propose the windowed means of the maps.

        Parameters
        ----------
        view : View
            Current landmarks and their images.

        Returns
        -------
        Proposal
            Where the landmarks should go, and how sure that is.
        """
        share = self.width * 2.0 ** (self.n_levels_ - 1 - view.level)
        points = view.points.copy()
        weights = np.zeros(points.shape[:2])
        size = view.pixel * view.resolution
        for i, image in enumerate(view.index):
            maps, matrix = view.maps(int(image))
            inverse = np.linalg.inv(matrix[:, :2])
            at = (points[i] - matrix[:, 2]) @ inverse.T
            # Maps are a similarity of the image away but for a few percent of aspect: one width serves both axes.
            sigma = max(share * size[i] * float(np.sqrt(abs(np.linalg.det(inverse)))), 0.5)
            mean, mass = _window_means(maps, at, sigma)
            points[i] = mean @ matrix[:, :2].T + matrix[:, 2]
            weights[i] = mass
        # A map without any mass at its landmark counts as a millionth, not as impossible.
        score = np.log(weights + 1e-6).mean(axis=1)
        return Proposal(points, weights, score, prior=self.prior * share**2)

    def to_parts(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays) for a file.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        kind, header, arrays = super().to_parts()
        return kind, {**header, "n_levels": self.n_levels_}, arrays

    @classmethod
    def from_parts(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """Build from what `to_parts` returned.

        Parameters
        ----------
        header : dict
            The header that `to_parts` returned.
        arrays : dict of str to ndarray
            The arrays that it returned.

        Returns
        -------
        HeatMaps
            As it was.
        """
        evidence = super().from_parts({name: value for name, value in header.items() if name != "n_levels"}, arrays)
        evidence.n_levels_ = int(header["n_levels"])
        return evidence


def _window_means(maps: np.ndarray, at: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of maps (K, h, w) under Gaussian windows at points (K, 2), and the fraction of each map's mass in them.

    Where a window holds nothing, the point itself and 0.
    """
    _, h, w = maps.shape
    x, y = np.arange(w), np.arange(h)
    across = np.exp(-0.5 * ((x - at[:, :1]) / sigma) ** 2)
    down = np.exp(-0.5 * ((y - at[:, 1:]) / sigma) ** 2)
    rows = np.matmul(maps, np.stack([across, across * x, np.ones_like(across)], axis=-1))  # (K, h, 3)
    mass = (rows[..., 0] * down).sum(1)
    mean_x = (rows[..., 1] * down).sum(1)
    mean_y = (rows[..., 0] * down * y).sum(1)
    total = rows[..., 2].sum(1)
    # Below a millionth of the map the window holds only the tails of peaks elsewhere.
    seen = mass > 1e-6 * np.maximum(total, 1e-30)
    safe = np.where(seen, mass, 1.0)
    mean = np.where(seen[:, None], np.stack([mean_x, mean_y], axis=1) / safe[:, None], at)
    return mean, np.where(seen, mass / np.where(total > 0, total, 1.0), 0.0)


def heatmap_peaks(maps: ArrayLike, matrices: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of the maxima of heat maps, their covariances and their heights.

    Parameters
    ----------
    maps : array_like of shape (..., K, h, w)
        How likely each landmark is where, in any unit; negative numbers count as 0.
    matrices : array_like of shape (..., 2, 3), optional
        Pixels (x, y) of the maps, centres at whole numbers, to the frame of the answer; None for pixels of the maps.

    Returns
    -------
    points : ndarray of shape (..., K, 2)
        The maxima, between the pixels where a parabola through the logarithms of their neighbours has its own; NaN
        for a map that is empty, or holds something that is not finite.
    covariance : ndarray of shape (..., K, 2, 2)
        Second moment of the squares of each map about its maximum: the covariance of a Gaussian bump is twice that. A
        second bump elsewhere widens it. NaN likewise.
    height : ndarray of shape (..., K)
        Of the maxima; 0 likewise.

    Raises
    ------
    ValueError
        For maps that are no numbers or have no pixels, and matrices that are not finite or not invertible.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import heatmap_peaks
    >>> y, x = np.mgrid[:32, :32]
    >>> points, covariance, height = heatmap_peaks(np.exp(-((x - 9.25) ** 2 + (y - 20) ** 2) / 8)[None])
    >>> points.round(2), covariance[0, 0, 0].round(1), height.round(2)
    (array([[ 9.25, 20.  ]]), np.float64(2.1), array([0.99]))
    """
    given = np.asarray(maps)
    if given.ndim < 3 or 0 in given.shape[-3:] or given.dtype.kind not in "fiub":
        raise ValueError(f"maps: got {given.dtype} of shape {given.shape}; expected numbers of shape (..., K, h, w).")
    lead, (h, w) = given.shape[:-2], given.shape[-2:]
    given = given.reshape(-1, h, w)
    given = given.astype(np.float32 if given.dtype in (np.float16, np.float32) else np.float64, copy=False)
    rows = np.arange(len(given))
    best = given.reshape(len(given), -1).argmax(axis=1)  # of a map with NaN, the first of them
    y, x = np.divmod(best, w)
    height = given[rows, y, x].astype(np.float64)
    seen = np.isfinite(height) & (height > 0)
    height = np.where(seen, height, 0.0)
    if not seen.all():
        given = np.where(seen[:, None, None], given, 0)

    def between(at: np.ndarray, n: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        low, middle, high = (np.log(np.maximum(v, _TINY)) for v in (before, height / safe, after))
        bend = low - 2 * middle + high
        inner = (at > 0) & (at < n - 1) & (bend < 0)
        return np.asarray(at + np.where(inner, 0.5 * (low - high) / np.where(inner, bend, -1.0), 0.0))

    safe = np.where(seen, height, 1.0)
    sides = [
        given[rows, np.clip(y + down, 0, h - 1), np.clip(x + right, 0, w - 1)] / safe
        for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    at = np.stack([between(x, w, *sides[:2]), between(y, h, *sides[2:])], axis=-1)
    square = np.maximum(given, 0) / safe[:, None, None].astype(given.dtype)
    square *= square
    # Moments about the pixel of the maximum are exact in single precision; those about the maximum follow.
    across, down = np.arange(w) - x[:, None], np.arange(h) - y[:, None]
    powers = np.stack([np.ones(across.shape), across, across**2], axis=-1).astype(given.dtype)
    along = np.matmul(square, powers).astype(np.float64)  # (n, h, 3)
    total = np.where(seen, along[..., 0].sum(1), 1.0)
    mean = np.stack([along[..., 1].sum(1), (along[..., 0] * down).sum(1)], axis=-1) / total[:, None]
    xx, yy, xy = along[..., 2].sum(1), (along[..., 0] * down**2).sum(1), (along[..., 1] * down).sum(1)
    second = np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2) / total[:, None, None]
    off = at - np.stack([x, y], axis=-1)
    cross = mean[:, :, None] * off[:, None]
    second = second - cross - np.swapaxes(cross, 1, 2) + off[:, :, None] * off[:, None] + np.eye(2) / 12  # of a pixel
    at, second = np.where(seen[:, None], at, np.nan), np.where(seen[:, None, None], second, np.nan)
    points, covariance = at.reshape(*lead, 2), second.reshape(*lead, 2, 2)
    if matrices is not None:
        matrix = np.asarray(matrices, dtype=float)
        if matrix.shape not in ((2, 3), (*lead[:-1], 2, 3)):
            raise ValueError(f"matrices: got shape {matrix.shape}; expected (2, 3) or {(*lead[:-1], 2, 3)}.")
        if not np.isfinite(matrix).all() or (np.abs(np.linalg.det(matrix[..., :2])) < 1e-12).any():
            raise ValueError("matrices: got numbers that are not finite, or a matrix without an inverse.")
        linear = matrix[..., None, :, :2]
        points = (linear @ points[..., None])[..., 0] + matrix[..., None, :, 2]
        covariance = linear @ covariance @ np.swapaxes(linear, -1, -2)
    return points, covariance, height.reshape(lead)


def fit_heatmaps(
    model: ShapeModel,
    maps: ArrayLike,
    matrices: ArrayLike | None = None,
    *,
    on_error: Literal["status", "raise"] = "status",
) -> ShapeFit:
    """Fit a shape model to heat maps, by their maxima and the spread of the maps about them.

    The error of a maximum has the covariance of its map, times 0.05, times the third power of how much lower the
    maximum is than those of the other maps of the shape: the lower a map, the less it saw. The constants gave the
    smallest errors on training faces of 300-W, plain and covered, of two networks.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Of landmarks in the plane.
    maps : array_like of shape (..., K, h, w)
        How likely each landmark is where, in any unit; a map without a maximum is a missing landmark.
    matrices : array_like of shape (..., 2, 3), optional
        Pixels (x, y) of the maps, centres at whole numbers, to the frame of the answer; None for pixels of the maps.
    on_error : {"status", "raise"}, default="status"
        As in `fit_shape`.

    Returns
    -------
    ShapeFit
        In `completed` the most probable shapes, which stay with clear maps, and in `shapes` what the model takes for
        plausible. The covariance is that of `fit_shape` times 4, since the errors of the maps of a shape go together,
        as was measured on the same faces.

    Raises
    ------
    ValueError
        When maps and matrices, or maps and model, do not fit together.

    References
    ----------
    See `fit_shape`; the maxima and their covariances are what C. M. Bishop, "Pattern recognition and machine learning"
    (2006), section 4.4, calls the Laplace approximation of a map.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import load_model
    >>> from shape_models.search import fit_heatmaps
    >>> model = load_model("face68")
    >>> face = 40 * model.asm_.mean_ + 32
    >>> y, x = np.mgrid[:64, :64]
    >>> maps = np.exp(-((x - face[:, :1, None]) ** 2 + (y - face[:, 1:, None]) ** 2) / 4)
    >>> maps[8] = 0                                            # the chin was not seen
    >>> fit = fit_heatmaps(model, maps)
    >>> bool(np.abs(fit.completed - face).max() < 0.5), fit.status
    (True, 'ok')
    """
    return fit_peaks(model, *heatmap_peaks(maps, matrices), on_error=on_error)


def fit_peaks(
    model: Any, points: np.ndarray, covariance: np.ndarray, height: np.ndarray, *, on_error: Any = "status"
) -> ShapeFit:
    """Fit a shape model to what `heatmap_peaks` answers; see `fit_heatmaps`."""
    fit = fit_shape(model, points, covariance=_peak_errors(covariance, height), on_error=on_error)
    return replace(fit, covariance=_TOGETHER * fit.covariance)


def _peak_errors(covariance: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the covariances (..., K, 2, 2) of the errors of maxima; infinity where there is none."""
    usual = np.quantile(height, _USUAL, axis=-1, keepdims=True)
    seen = height > 0
    factor = np.where(seen, _SHARE * (usual / np.where(seen, height, 1.0)) ** _POWER, np.inf)
    return factor[..., None, None] * np.where(seen[..., None, None], covariance, 1.0)


def check_maps(given: Any, n_landmarks: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return maps as floats (K, h, w), negative values 0, and the matrix (2, 3) from their pixels to the image's.

    Raises
    ------
    ValueError
        When the numbers of landmarks differ, something is not finite, or the matrix is singular.
    """
    matrix = None
    if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 3:
        given, matrix = given
    maps = np.asarray(given)
    if maps.ndim != 3 or len(maps) != n_landmarks or 0 in maps.shape:
        raise ValueError(f"heatmaps: got an array of shape {maps.shape}; expected ({n_landmarks}, h, w).")
    if maps.dtype.kind not in "fiub" or not np.isfinite(maps).all():
        raise ValueError("heatmaps: got something that is no finite number; expected non-negative numbers.")
    maps = np.maximum(maps.astype(np.float64, copy=False), 0.0)
    if matrix is None:
        fx, fy = size[0] / maps.shape[2], size[1] / maps.shape[1]
        matrix = np.array([[fx, 0.0, 0.5 * fx - 0.5], [0.0, fy, 0.5 * fy - 0.5]])
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-12:
        raise ValueError(f"heatmaps: got a matrix {matrix.tolist()}; expected an invertible one of shape (2, 3).")
    return maps, matrix


def peaks(maps: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of the highest value of each map, pixels of the image, and that value."""
    flat = maps.reshape(len(maps), -1)
    best = flat.argmax(axis=1)
    y, x = np.divmod(best, maps.shape[2])
    return np.stack([x, y], axis=1) @ matrix[:, :2].T + matrix[:, 2], flat[np.arange(len(maps)), best]
