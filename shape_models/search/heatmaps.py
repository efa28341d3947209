"""Heat maps from elsewhere, a network or any detector, as evidence: regularised landmark mean-shift."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import SchemeLike
from .evidence import Evidence, Proposal, View, saved

__all__ = ["HeatMaps"]


@saved
class HeatMaps(Evidence):
    """Evidence that others computed: for each landmark a map of how likely it is where.

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
        if not 0.0 < float(width) <= 1.0:
            raise ValueError(f"width: got {width!r}; expected a fraction of the mean shape above 0, up to 1.")
        if not 0.0 <= float(prior) < np.inf:
            raise ValueError(f"prior: got {prior!r}; expected a finite number that is not negative.")
        if isinstance(n_iter, bool) or not isinstance(n_iter, int | np.integer) or n_iter < 1:
            raise ValueError(f"n_iter: got {n_iter!r}; expected a whole number of at least 1.")
        self.width = width
        self.prior = prior
        self.n_iter = n_iter
        self.n_levels_ = 1

    def prepare(self, frame: Any, n_levels: int, scheme: SchemeLike) -> None:
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
        score = np.log(weights + 1e-6).mean(axis=1)
        return Proposal(points, weights, score, prior=self.prior * share**2)

    def to_parts(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays) for a file.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        header = {
            "width": float(self.width), "prior": float(self.prior), "n_iter": int(self.n_iter),
            "n_levels": self.n_levels_,
        }  # fmt: skip
        return "HeatMaps", header, {}

    @classmethod
    def from_parts(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> HeatMaps:
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
        evidence = cls(**{k: v for k, v in header.items() if k != "n_levels"})
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
    seen = mass > 1e-6 * np.maximum(total, 1e-30)
    safe = np.where(seen, mass, 1.0)
    mean = np.where(seen[:, None], np.stack([mean_x, mean_y], axis=1) / safe[:, None], at)
    return mean, np.where(seen, mass / np.where(total > 0, total, 1.0), 0.0)


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
