"""Several kinds of evidence together, each landmark weighted by how right each of them was in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

from ..landmarks import LandmarkScheme
from .evidence import Evidence, Proposal, View, evidence_from_parts, part_of, saved

__all__ = ["CombinedEvidence"]


def _gathered(name: str, rule: Callable[[Iterator[Any]], Any], what: str) -> Any:
    """Return the property that gathers an attribute of all parts by a rule."""

    def gather(self: CombinedEvidence) -> Any:
        return rule(getattr(part, name) for part in self.parts)

    gather.__doc__ = what
    return property(gather)


@saved
class CombinedEvidence(Evidence):
    """Evidence from several sources, combined by weights learned for each landmark and level.

    Each source proposes a displacement; the combination is a weighted sum of them, with the weights that came nearest
    to the truth in training, by non-negative least squares and a little ridge. A source that errs at a landmark
    counts less there.

    Parameters
    ----------
    parts : sequence of Evidence
        At least one.

    Examples
    --------
    >>> from shape_models.search import CombinedEvidence, Patches, Profiles
    >>> CombinedEvidence([Patches(), Profiles(n_side=5)]).n_iter
    2
    """

    n_levels = _gathered("n_levels", next, "Levels: those of the first part.")
    level_step = _gathered("level_step", next, "Factor between two levels: that of the first part.")
    resolution = _gathered("resolution", next, "Pixels along the mean at the finest level: those of the first part.")
    stops = _gathered("stops", all, "Whether all parts may stop.")
    needs_images = _gathered("needs_images", any, "Whether any part looks at pixels.")
    needs_maps = _gathered("needs_maps", any, "Whether any part looks at heat maps.")
    learns_occlusion = _gathered("learns_occlusion", any, "Whether any part learns from images with a part hidden.")

    def __init__(self, parts: Sequence[Evidence]) -> None:
        if np.ndim(parts) != 1 or not len(parts) or not all(isinstance(part, Evidence) for part in parts):
            raise ValueError(f"parts: got {parts!r}; expected a list of Evidence.")
        self.parts = parts
        self.stages_ = {}

    @property
    def n_iter(self) -> int:  # type: ignore[override]
        """Iterations a level: those of a part that always makes all of its steps, or the most of any."""
        fixed = [part.n_iter for part in self.parts if not part.stops]
        return max(fixed or [part.n_iter for part in self.parts])

    def prepare(self, frame: Any, n_levels: int, scheme: LandmarkScheme | None) -> None:
        """Tell the parts about the model.

        Parameters
        ----------
        frame : Frame
            The frame of the model: its mean, its modes and its size.
        n_levels : int
            Number of levels of the search.
        scheme : LandmarkScheme or None
            What the landmarks are called.
        """
        for part in self.parts:
            part.prepare(frame, n_levels, scheme)

    def train(self, view: View, truth: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> Proposal:
        """Train the parts, then the weights of their answers.

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
        Proposal
            What is proposed on images left out of the training.
        """
        proposals = []
        for part in self.parts:
            answer = part.train(view, truth, fold, rng)
            proposals.append(part.locate(view) if answer is None else answer)
        moves = self._moves(view, proposals)
        wanted = view.in_model(truth) - view.in_model(view.points)
        # Normal equations for each landmark: x and y of all samples against the parts.
        gram = np.einsum("pnkd,qnkd->kpq", moves, moves)
        moment = np.einsum("pnkd,nkd->kp", moves, wanted)
        # A thousandth of the strongest part: parts that say the same share their weight instead of cancelling.
        ridge = 1e-3 * np.trace(gram, axis1=1, axis2=2).max() / len(self.parts) + 1e-30
        # w'Gw / 2 - m'w is ‖L'w - L⁻¹m‖² / 2 and a constant, with G = LL'.
        roots = np.linalg.cholesky(gram + ridge * np.eye(len(self.parts)))
        sides = np.linalg.solve(roots, moment[..., None])[..., 0]
        weights = np.stack([nnls(root.T, side)[0] for root, side in zip(roots, sides, strict=True)])
        rest = np.einsum("pnkd,kp->nkd", moves, weights) - wanted
        spread = (rest**2).sum(-1).mean(0)
        self.stages_[f"{view.level}.{view.iteration}"] = {"weights": weights, "spread": spread}
        return self._combine(view, proposals, moves, weights)

    def locate(self, view: View) -> Proposal:
        """Combine what the parts propose.

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
        keys = [f"{view.level}.{i}" for i in range(view.iteration, -1, -1)]
        stage = self._stage(view, next((key for key in keys if key in self.stages_), keys[-1]))
        proposals = [part.locate(view) for part in self.parts]
        return self._combine(view, proposals, self._moves(view, proposals), stage["weights"])

    @staticmethod
    def _moves(view: View, proposals: list[Proposal]) -> np.ndarray:
        """Displacements in the frame of the model, (parts, n, K, 2), scaled by the trust of each part."""
        here = view.in_model(view.points)
        moves = []
        for proposal in proposals:
            move = view.in_model(np.asarray(proposal.points)) - here
            moves.append(move if proposal.weights is None else move * proposal.weights[..., None])
        return np.array(moves)

    def _combine(self, view: View, proposals: list[Proposal], moves: np.ndarray, weights: np.ndarray) -> Proposal:
        move = np.einsum("pnkd,kp->nkd", moves, weights)
        points = view.in_image(view.in_model(view.points) + move)
        share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        trust = sum(
            share[:, p] * (1.0 if proposal.weights is None else proposal.weights)
            for p, proposal in enumerate(proposals)
        )
        scores = [proposal.score for proposal in proposals if proposal.score is not None]
        counts = [proposal.n_modes for proposal in proposals]
        return Proposal(
            points,
            np.minimum(np.broadcast_to(trust, points.shape[:2]), 1.0),  # shares add up to 1 but for rounding
            np.sum(scores, axis=0) if scores else None,
            max(proposal.prior for proposal in proposals),
            None if any(count is None for count in counts) else max(count for count in counts if count is not None),
        )

    def to_parts(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays) for a file.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        kind, _, own = super().to_parts()
        arrays = {f"own.{name}": array for name, array in own.items()}
        parts = []
        for i, part in enumerate(self.parts):
            name, header, some = part.to_parts()
            parts.append({"kind": name, "header": header})
            arrays |= {f"{i}.{key}": array for key, array in some.items()}
        return kind, {"parts": parts}, arrays

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
        CombinedEvidence
            As it was.
        """
        parts = [
            evidence_from_parts(part["kind"], part["header"], part_of(arrays, f"{i}."))
            for i, part in enumerate(header["parts"])
        ]
        return super().from_parts({"parts": parts}, part_of(arrays, "own."))
