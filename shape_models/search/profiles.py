"""Cootes' grey-level profiles: normalised differences along the normal, judged by their Mahalanobis distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from .._array import as_count
from ..landmarks import LandmarkScheme
from ._contours import neighbours
from ._kernels import profile_distances, profile_gradients
from .evidence import Evidence, Proposal, View, saved

__all__ = ["Profiles"]


@saved
class Profiles(Evidence):
    """Grey-level profiles along the normals of the shape, the evidence of the classical active shape model.

    At each level the differences of grey values along the normal, divided by the sum of their magnitudes, are learned
    at the right places: mean and covariance for each landmark. In the search every landmark moves to the place within
    reach whose profile has the least Mahalanobis distance. Brightness and contrast drop out.

    Parameters
    ----------
    n_side : int
        Differences on each side of the landmark.
    reach : int
        How far, in pixels of the level, a landmark may move along its normal in one iteration.
    n_iter : int
        Iterations at each level, at most.
    shrinkage : float
        Fraction of the covariance replaced by its mean variance, 0 to 1: what makes it invertible on few images.
    modes : sequence of float
        Fraction of the model's variance that the shape step may use, from the coarsest level on; the last holds for all
        finer levels. Few modes at the coarse levels keep a wide search stable.
    prior : float
        Strength of the prior of the modes in the shape step, as `Proposal` has it.
    edges : array_like of shape (n_edges, 2), optional
        Which landmarks are joined, for the normals; by default those of the scheme of the model, or consecutive ones.

    References
    ----------
    T. F. Cootes, C. J. Taylor, "Statistical models of appearance for computer vision", report (2004), sections 7-8.

    Examples
    --------
    >>> from shape_models.search import Profiles
    >>> Profiles(n_side=5)
    Profiles(n_side=5)
    """

    n_levels = 5
    level_step = 1.45
    resolution = 160.0

    def __init__(
        self,
        *,
        n_side: int = 12,
        reach: int = 5,
        n_iter: int = 10,
        shrinkage: float = 0.1,
        modes: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
        prior: float = 1e-3,
        edges: Iterable[Sequence[int]] | None = None,
    ) -> None:
        for name, value in (("n_side", n_side), ("reach", reach), ("n_iter", n_iter)):
            as_count(value, name)
        if not 0.0 <= float(shrinkage) <= 1.0:
            raise ValueError(f"shrinkage: got {shrinkage!r}; expected 0 to 1.")
        if np.ndim(modes) != 1 or not len(modes) or not all(0.0 < float(m) <= 1.0 for m in modes):
            raise ValueError(f"modes: got {modes!r}; expected fractions of variance above 0, up to 1.")
        self.n_side = n_side
        self.reach = reach
        self.n_iter = n_iter
        self.shrinkage = shrinkage
        self.modes = modes
        self.prior = prior
        self.edges = edges
        self.stages_ = {}

    def prepare(self, frame: Any, n_levels: int, scheme: LandmarkScheme | None) -> None:
        """Find the normals' neighbours and the number of modes for each level.

        Parameters
        ----------
        frame : Frame
            The frame of the model: its mean, its modes and its size.
        n_levels : int
            Number of levels of the search.
        scheme : LandmarkScheme or None
            What the landmarks are called.

        Raises
        ------
        ValueError
            For edges that name a landmark which does not exist.
        """
        edges = getattr(scheme, "edges", None) if self.edges is None else np.asarray(self.edges, int).reshape(-1, 2)
        n = frame.n_landmarks
        if edges is not None and len(edges) and (np.min(edges) < 0 or np.max(edges) >= n):
            raise ValueError(f"edges: got an index outside 0...{n - 1}.")
        self.neighbours_ = neighbours(n, edges)
        self.n_modes_ = frame.modes_for([self.modes[min(level, len(self.modes) - 1)] for level in range(n_levels)])

    def _gradients(self, view: View, n_half: int) -> tuple[np.ndarray, np.ndarray]:
        """Differences (n, K, 2 n_half + 1) along the unit normals (n, K, 2)."""
        tangent = view.points[:, self.neighbours_[:, 1]] - view.points[:, self.neighbours_[:, 0]]
        length = np.linalg.norm(tangent, axis=-1, keepdims=True)
        tangent = np.where(length > 0, tangent / np.where(length > 0, length, 1), [1.0, 0.0])
        normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
        table, to_level = view.bank.place(view.index, view._flip, view.pixel)
        at = view.points * to_level[:, None, :, 0] + to_level[:, None, :, 1]
        steps = normal * view.pixel[:, None, None] * to_level[:, None, :, 0]
        out = np.empty((*view.points.shape[:2], 2 * n_half + 1), np.float32)

        def run(start: int, stop: int) -> None:
            profile_gradients(
                view.bank.buffer, table[start:stop], at[start:stop], steps[start:stop], n_half, out[start:stop]
            )

        view._map(run, len(view))
        return out, normal

    def train(self, view: View, truth: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> Proposal | None:
        """Learn the profiles of this level where the landmarks are.

        Parameters
        ----------
        view : View
            Current landmarks and their images.
        truth : ndarray of shape (n, K, 2)
            True landmarks, pixels of the images.
        fold : ndarray of int of shape (n,)
            Fits of one fold come from images that the other folds do not hold.
        rng : numpy.random.Generator
            Source of all draws.

        Returns
        -------
        Proposal or None
            None: nothing is learned from what it proposes.
        """
        if view.iteration > 0:
            return None
        # One profile for each image: repeated starts of an image show the same truth. What covers a landmark is none.
        _, once = np.unique(np.stack([view.index, view._flip], axis=1), axis=0, return_index=True)
        if view.hidden is not None and not view.hidden[once].all(axis=1).all():
            plain = once[~view.hidden[once].any(axis=1)]
            once = plain if len(plain) > 1 else once
        profiles = self._gradients(view.moved(truth), self.n_side)[0][once].astype(np.float64)
        total = np.abs(profiles).sum(-1, keepdims=True)
        profiles = np.divide(profiles, total, out=np.zeros_like(profiles), where=total > 1e-9)
        mean = profiles.mean(axis=0)
        centred = profiles - mean
        n, _, m = profiles.shape
        covariance = np.einsum("nka,nkb->kab", centred, centred) / max(n - 1, 1)
        level = np.trace(covariance, axis1=1, axis2=2) / m
        # A landmark without any gradient has no covariance: a millionth of the largest, which a Cholesky factor stands.
        level = np.maximum(level, 1e-6 * max(float(level.max()), 1e-12))
        covariance = (1 - self.shrinkage) * covariance + (self.shrinkage * level)[:, None, None] * np.eye(m)
        covariance += (1e-6 * level)[:, None, None] * np.eye(m)
        factors = np.stack([solve_triangular(np.linalg.cholesky(c), np.eye(m), lower=True) for c in covariance])
        right = (np.einsum("kab,nkb->nka", factors, centred) ** 2).sum(-1)
        typical = np.quantile(right, 0.75, axis=0)
        # A landmark without any gradient in most images would divide by nothing.
        typical = np.maximum(typical, 1e-3 * max(float(typical.max()), 1e-3))
        stage = {
            "mean": np.ascontiguousarray(mean, np.float32),
            "factors": np.ascontiguousarray(factors, np.float32),
            "typical": typical.astype(np.float32),
        }
        self.stages_[str(view.level)] = stage
        return None

    def _move(self, stage: dict[str, np.ndarray], view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Displacement of least distance in pixels of the level, the normals, and that distance over the usual one."""
        gradients, normal = self._gradients(view, self.n_side + self.reach)
        distance = np.empty((*gradients.shape[:2], 2 * self.reach + 1), np.float32)

        def run(start: int, stop: int) -> None:
            profile_distances(gradients[start:stop], stage["mean"], stage["factors"], distance[start:stop])

        view._map(run, len(view))
        best = distance.argmin(axis=-1)
        least = np.take_along_axis(distance, best[..., None], axis=-1)[..., 0]
        # A parabola through three distances gives the place between pixels.
        inner = np.clip(best, 1, 2 * self.reach - 1)[..., None]
        before, middle, after = (np.take_along_axis(distance, inner + i, axis=-1)[..., 0] for i in (-1, 0, 1))
        bend = before - 2 * middle + after
        part = np.where((best == inner[..., 0]) & (bend > 0), 0.5 * (before - after) / np.where(bend > 0, bend, 1), 0.0)
        return best - self.reach + np.clip(part, -0.5, 0.5), normal, least / stage["typical"]

    def locate(self, view: View) -> Proposal:
        """Propose the place of least distance along each normal.

        Parameters
        ----------
        view : View
            Current landmarks and their images.

        Returns
        -------
        Proposal
            Where the landmarks should go, and how sure that is.

        Raises
        ------
        ValueError
            For a level that was not trained.
        """
        stage = self._stage(view, str(view.level))
        move, normal, ratio = self._move(stage, view)
        weights = 1.0 / (1.0 + ratio.astype(np.float64) ** 2)
        points = view.points + (move * view.pixel[:, None])[..., None] * normal
        score = -np.log(ratio + 1e-12).mean(axis=1)
        return Proposal(points, weights, score, self.prior, int(self.n_modes_[view.level]))
