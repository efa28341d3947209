"""What a search answers: the shape, how right it is, and every step on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._brief import brief
from .._scatter import tail_radius
from .._transforms import Similarity

__all__ = ["SearchResult", "SearchStep"]


@brief
@dataclass(frozen=True, eq=False)
class SearchStep:
    """One iteration of a search.

    Attributes
    ----------
    level, iteration : int
        Level, 0 the coarsest, and the iteration in it.
    shape : ndarray of shape (K, 2)
        The plausible shape after the step, pixels of the image.
    proposed : ndarray of shape (K, 2)
        Where the evidence would have the landmarks.
    score : float
        Agreement of image and shape before the step; NaN where the evidence does not judge.
    clipped : ndarray of bool of shape (n_components,)
        Modes that the limit of the basis held back.
    move : float
        Mean distance the landmarks moved, pixels of the image.
    stayed : float
        Fraction of landmarks that were where the evidence wants them, or that the shape model held where they were.
    n_outside : int
        Landmarks outside the image after the step.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import SearchStep
    >>> SearchStep(0, 1, np.zeros((2, 2)), np.zeros((2, 2)), 0.5, np.zeros(1, bool), 0.0, 1.0, 0).level
    0
    """

    level: int
    iteration: int
    shape: np.ndarray
    proposed: np.ndarray
    score: float
    clipped: np.ndarray
    move: float
    stayed: float
    n_outside: int


@brief
@dataclass(frozen=True, eq=False)
class SearchResult:
    """Landmarks found in one image, with their confidence, covariance and expected error.

    Attributes
    ----------
    shape : ndarray of shape (K, 2)
        Landmarks, pixels of the image; NaN when there is no answer.
    confidence : ndarray of shape (K,)
        The probability that each landmark can be seen and is right, as `ASMFitter.confidence` answers it for `shape`.
    plausibility : float
        Fraction of the shapes of the model that are less usual than this one, 0 to 1. It says nothing of the image: a
        search that is lost often ends in the most usual shape.
    score : float
        Agreement of image and shape, higher is better; comparable between fits of one model. NaN where the evidence
        does not judge.
    expected_error : float
        How far the landmarks of `shape` are off on average, pixels of the image, as learned from searches in images
        left out of the training; NaN where nothing was learned. This tells good answers from bad ones.
    covariance : ndarray of shape (K, 2, 2)
        Of the true landmarks about `shape`, squared pixels of the image, learned likewise; `radius` scales it to what
        holds the true landmark with a probability. NaN where nothing was learned.
    converged : bool
        Whether the last iterations left the landmarks where they were and they lie in the image; not whether they are
        right.
    status : str
        ``"converged"``, ``"not converged"``, ``"outside"`` (at least a quarter of the landmarks has left the image),
        ``"no face"`` (nothing detected) or ``"error"`` (bad input; `message` says which).
    message : str
        In words, where `status` needs some.
    start : ndarray of shape (K, 2)
        Where the search began.
    transform : Similarity or None
        Frame of the model -> image.
    coefficients : ndarray of shape (n_components,)
        Modes of the shape; ``transform(basis.decode(coefficients))`` is `shape`.
    box : tuple of float or None
        The box (x0, y0, x1, y1) the search began from.
    trace : tuple of SearchStep
        Every iteration.
    degrees_of_freedom : float
        Of Student's t, which the true landmarks follow about `shape`; infinite for a Gaussian.
    lost : float
        Probability that `shape` is not at the object (off by more than a tenth of its size), as learned from searches
        in whole images left out of the training, and part of `expected_error`; 0 where the search was told where the
        object is, NaN where nothing was learned.

    Examples
    --------
    >>> from shape_models.search import SearchResult
    >>> result = SearchResult.failed(5, 3, status="no face", message="nothing detected")
    >>> result.found, result.converged
    (False, False)
    """

    shape: np.ndarray
    confidence: np.ndarray
    plausibility: float
    score: float
    expected_error: float
    covariance: np.ndarray
    converged: bool
    status: str
    message: str
    start: np.ndarray
    transform: Similarity | None
    coefficients: np.ndarray
    box: tuple[float, float, float, float] | None = None
    trace: tuple[SearchStep, ...] = field(default=(), repr=False)
    degrees_of_freedom: float = float("inf")
    lost: float = 0.0

    def radius(self, level: float = 0.95) -> float:
        """Return how far from `shape`, in units of `covariance`, a true landmark lies with a probability at most.

        The ellipse of a landmark at x with the covariance Σ is {z : (z - x)ᵀ Σ⁻¹ (z - x) ≤ r²}. For a Gaussian r is
        2.45 at 95 %. Errors have longer tails, those of Student's t with η degrees of freedom: r² = 2 (η - 2) / η
        F⁻¹(level; 2, η) with F the law of Fisher.

        Parameters
        ----------
        level : float, default=0.95
            Probability, between 0 and 1.

        Returns
        -------
        float
        """
        return tail_radius(level, self.degrees_of_freedom)

    @property
    def found(self) -> bool:
        """Whether there is a shape at all."""
        return bool(np.isfinite(self.shape).all())

    @classmethod
    def failed(cls, n_landmarks: int, n_components: int, *, status: str, message: str) -> SearchResult:
        """Return the record of a search that has no answer.

        Parameters
        ----------
        n_landmarks, n_components : int
            Of the model.
        status, message : str
            Why.
        """
        nothing = np.full((n_landmarks, 2), np.nan)
        return cls(
            nothing, np.zeros(n_landmarks), 0.0, float("nan"), float("nan"), np.full((n_landmarks, 2, 2), np.nan),
            False, status, message, nothing, None, np.full(n_components, np.nan),
        )  # fmt: skip
