"""What the image says about where landmarks are: the protocol that every kind of evidence follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from .._transforms import Similarity
from ..landmarks import LandmarkScheme
from ._frame import Frame, Planar
from ._images import ImageBank
from ._kernels import sample

__all__ = ["Evidence", "Proposal", "View", "check_proposal"]


@dataclass(frozen=True)
class Proposal:
    """Where the evidence would move the landmarks, for a batch of fits.

    Parameters
    ----------
    points : ndarray of shape (n, K, 2)
        Proposed landmarks, pixels of the image.
    weights : ndarray of shape (n, K), optional
        Confidence in each, 0 to 1. None trusts all alike. One that is not seen has confidence 0 and any finite place.
    score : ndarray of shape (n,), optional
        How well the image agrees with the shapes, higher is better; compared between fits to the same image.
    prior : float
        Strength of the prior of the modes in the shape step, as a fraction of the model's size squared; 0 leaves the
        limit of the basis alone to keep shapes plausible. Regularised landmark mean-shift sets it.
    n_modes : int, optional
        How many modes the shape step may use; None for all, 0 for pose alone.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import Proposal
    >>> Proposal(np.zeros((1, 5, 2)), np.ones((1, 5))).score is None
    True
    """

    points: np.ndarray
    weights: np.ndarray | None = None
    score: np.ndarray | None = None
    prior: float = 0.0
    n_modes: int | None = None


@dataclass(frozen=True)
class View:
    """A batch of fits as evidence sees them: `n` current shapes, each on its image, at one level of the search.

    Evidence reads these:

    Attributes
    ----------
    points : ndarray of shape (n, K, 2)
        Current landmarks, pixels of the image.
    level, iteration : int
        Level of the search, 0 the coarsest, and the number of the iteration in it.
    resolution : float
        Pixels of this level along the longer side of the mean shape.
    index : ndarray of shape (n,)
        Which image of the call each fit looks at.
    hidden : ndarray of bool of shape (n, K) or None
        In training, the landmarks that something covers in the image that is looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import ASMFitter, Evidence, Proposal
    >>> class Darkest(Evidence):
    ...     def locate(self, view):
    ...         steps = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * view.pixel[:, None, None, None]
    ...         places = view.points[:, :, None] + steps             # (n, K, 5, 2)
    ...         best = view.sample(places).argmin(axis=2)
    ...         return Proposal(np.take_along_axis(places, best[..., None, None], axis=2)[:, :, 0])
    >>> faces = 0.4 * make_faces(20, rng=0)
    >>> pictures = np.random.default_rng(0).uniform(size=(20, 100, 100))
    >>> fitter = ASMFitter(evidence=Darkest(), n_levels=1).fit(pictures, faces)
    >>> fitter.predict(pictures[0], initial=faces[0]).shape.shape
    (68, 2)
    """

    points: np.ndarray
    level: int
    iteration: int
    resolution: float
    index: np.ndarray
    _frame: Frame
    _bank: ImageBank | None
    _pose: Planar
    _flip: np.ndarray
    _map: Any
    _context: dict[str, Any]
    hidden: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks K."""
        return int(self.points.shape[1])

    @property
    def pose(self) -> Similarity:
        """The similarities that take the mean shape nearest to `points`: frame of the model -> image, batched."""
        return self._pose.as_similarity()

    @property
    def pixel(self) -> np.ndarray:
        """Size of one pixel of this level, in pixels of the image, (n,)."""
        return self._pose.scale * (self._frame.side / self.resolution)

    @property
    def bank(self) -> ImageBank:
        """The stored images."""
        if self._bank is None:
            raise ValueError("got no images; expected them for evidence that looks at pixels.")
        return self._bank

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Read the image, smoothed to the pixels of this level, at any points.

        Parameters
        ----------
        points : ndarray of shape (n, ..., 2)
            Pixels of the image. Outside, the nearest pixel of the border is read.

        Returns
        -------
        ndarray of shape (n, ...)
            Grey values of the image scaled to 0...1.
        """
        points = np.asarray(points, dtype=np.float64)
        table, to_level = self.bank.place(self.index, self._flip, self.pixel)
        out = np.empty(points.shape[:-1], np.float32)
        for i in range(len(points)):
            flat = np.ascontiguousarray(points[i].reshape(-1, 2) * to_level[i, :, 0] + to_level[i, :, 1])
            values = np.empty(len(flat), np.float32)
            offset, height, width = table[i]
            sample(self.bank.buffer, offset, height, width, flat, values)
            out[i] = values.reshape(out[i].shape)
        return out

    def maps(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the heat maps given with an image.

        Parameters
        ----------
        image : int
            One of `index`.

        Returns
        -------
        maps : ndarray of shape (K, h, w)
        matrix : ndarray of shape (2, 3)
            Pixels of the maps -> pixels of the image.
        """
        maps, matrix = self._context["maps"](image)
        return maps, matrix

    def moved(self, points: np.ndarray, *, iteration: int | None = None) -> View:
        """Return the same view with other current landmarks.

        Parameters
        ----------
        points : ndarray of shape (n, K, 2)
            The new landmarks, pixels of the images.
        iteration : int, optional
            Number of the iteration; the same by default.

        Returns
        -------
        View
            On the same images.
        """
        iteration = self.iteration if iteration is None else iteration
        return replace(self, points=points, iteration=iteration, _pose=self._frame.pose_of(points))

    def take(self, rows: np.ndarray) -> View:
        """Return the view of some of the fits.

        Parameters
        ----------
        rows : ndarray of int of shape (n_chosen,)
            Which of them.

        Returns
        -------
        View
            Of these fits only.
        """
        own = {"points": self.points[rows], "index": self.index[rows], "_flip": self._flip[rows]}
        hidden = None if self.hidden is None else self.hidden[rows]
        return replace(self, **own, _pose=self._pose.take(rows), hidden=hidden)

    def in_model(self, points: np.ndarray) -> np.ndarray:
        """Take points of the images to the frame of the model.

        Parameters
        ----------
        points : ndarray of shape (n, K, 2)
            Pixels of the images.

        Returns
        -------
        ndarray of shape (n, K, 2)
            In the frame of the mean shape.
        """
        return self._pose.inverse(points)

    def in_image(self, points: np.ndarray) -> np.ndarray:
        """Take points of the frame of the model to the images.

        Parameters
        ----------
        points : ndarray of shape (n, K, 2)
            In the frame of the mean shape.

        Returns
        -------
        ndarray of shape (n, K, 2)
            Pixels of the images.
        """
        return self._pose(points)


class Evidence(BaseEstimator):
    """Base class of local appearance models; derive from it and define `locate` for one of your own.

    The fitter calls, for each level from coarse to fine and each iteration in it,

    * in `fit`: ``train(view, truth, fold, rng)``, where ``view`` shows training images with shapes that are off and
      ``truth`` are the right ones. What is learned is kept by the evidence, under ``view.level`` and
      ``view.iteration``. It answers a proposal as `locate` would for images not seen, or None to be asked by `locate`.
    * in `predict`: ``locate(view)``, which answers a `Proposal`.

    Everything is batched: the first axis counts fits. `View` has an example. It is an estimator of scikit-learn:
    parameters of the constructor are attributes of the same names, and `sklearn.base.clone` makes an untrained copy.

    Attributes
    ----------
    n_levels : int
        Levels, when the fitter is not told.
    level_step : float
        Factor between the resolutions of two levels, when the fitter is not told.
    resolution : float
        Pixels along the longer side of the mean shape at the finest level, when the fitter is not told.
    n_iter : int
        Iterations a level, at most.
    stays : float
        A landmark stays when its proposal is within this many pixels of the level of where it is.
    stops : bool
        Whether a level may end before `n_iter` when the landmarks stay.
    needs_images : bool
        Whether it looks at pixels.
    needs_maps : bool
        Whether it looks at heat maps (`View.maps`), which `predict` then asks for.
    learns_occlusion : bool
        Whether some training images are shown with a part of the shape hidden (`View.hidden` says what).

    Examples
    --------
    >>> from shape_models.search import Evidence, Patches, Profiles
    >>> issubclass(Patches, Evidence) and issubclass(Profiles, Evidence)
    True
    """

    n_levels: int = 3
    level_step: float = 1.5
    resolution: float = 112.0
    n_iter: int = 5
    stays: float = 0.75
    stops: bool = True
    needs_images: bool = True
    needs_maps: bool = False
    learns_occlusion: bool = False
    stages_: dict[str, dict[str, np.ndarray]]  # the arrays that are learned, by level, or by level and iteration

    def prepare(self, frame: Any, n_levels: int, scheme: LandmarkScheme | None) -> None:
        """Hear about the model before training; by default nothing.

        Parameters
        ----------
        frame : object
            With ``mean`` (K, 2), ``components``, ``variances`` and ``side``, the frame of the model.
        n_levels : int
            Number of levels of the search.
        scheme : LandmarkScheme or None
            What the landmarks are called.
        """

    def train(self, view: View, truth: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> Proposal | None:
        """Learn one step of one level; by default nothing.

        Parameters
        ----------
        view : View
            Training images with shapes that are off.
        truth : ndarray of shape (n, K, 2)
            Where the landmarks are.
        fold : ndarray of shape (n,)
            Fits with the same number show the same images; for cross-validation.
        rng : numpy.random.Generator
            Source of all draws.

        Returns
        -------
        Proposal or None
        """
        return None

    def locate(self, view: View) -> Proposal:
        """Propose where the landmarks are.

        Parameters
        ----------
        view : View
            Current landmarks and their images.

        Returns
        -------
        Proposal

        Raises
        ------
        NotImplementedError
            For evidence that does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define locate(view).")

    def to_parts(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays) for a file; only the evidence of this library can be saved.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.

        Raises
        ------
        ValueError
            For evidence that is not of this library.
        """
        if type(self) not in _SAVED.values():
            raise ValueError(
                f"got evidence of type {type(self).__name__}; expected one of this library, the only ones a file can "
                "hold."
            )
        header = {name: np.asarray(value).tolist() for name, value in self.get_params(deep=False).items()}
        arrays = {f"{key}.{name}": array for key, stage in self.stages_.items() for name, array in stage.items()}
        return type(self).__name__, header, arrays

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
        Evidence
            As it was.
        """
        evidence = cls(**header)
        for path, array in arrays.items():
            key, _, name = path.rpartition(".")
            evidence.stages_.setdefault(key, {})[name] = array
        return evidence

    def _stage(self, view: View, key: str) -> dict[str, np.ndarray]:
        """Return what was learned under a key of the level that is looked at."""
        if key not in self.stages_:
            kind = type(self).__name__
            raise ValueError(f"{kind}: level {view.level} is not trained; fit it with as many levels.")
        return self.stages_[key]


_SAVED: dict[str, Any] = {}


def saved(kind: type[Evidence]) -> type[Evidence]:
    """Let files hold a kind of evidence: it has ``to_parts`` and ``from_parts``."""
    _SAVED[kind.__name__] = kind
    return kind


def evidence_from_parts(kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build the evidence that `Evidence.to_parts` took apart."""
    if kind not in _SAVED:
        raise ValueError(f"got evidence of kind {kind!r}; expected one of {sorted(_SAVED)}.")
    return _SAVED[kind].from_parts(header, arrays)


def part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def check_proposal(proposal: Any, view: View, evidence: Evidence) -> None:
    """Refuse what evidence must not answer, in its name.

    Parameters
    ----------
    proposal : object
        What the evidence answered.
    view : View
        What it was asked about.
    evidence : Evidence
        Named in the error.

    Raises
    ------
    ValueError
        When it is no `Proposal`, has wrong shapes, or numbers that are not finite or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import ASMFitter, Evidence
    >>> class Nothing(Evidence):
    ...     def locate(self, view):
    ...         return None
    >>> faces = 0.4 * make_faces(20, rng=0)
    >>> fitter = ASMFitter(evidence=Nothing(), n_levels=1).fit([np.eye(99)] * 20, faces)
    >>> fitter.predict(np.eye(99), initial=faces[0])
    Traceback (most recent call last):
    ValueError: Nothing: got a NoneType for an answer; expected a Proposal.
    """
    name = type(evidence).__name__
    if not isinstance(proposal, Proposal):
        raise ValueError(f"{name}: got a {type(proposal).__name__} for an answer; expected a Proposal.")
    expected = (*view.points.shape[:2], 2)
    points = np.asarray(proposal.points)
    if points.shape != expected or points.dtype.kind not in "fiu":
        raise ValueError(f"{name}: got points of shape {points.shape}; expected {expected} numbers.")
    if not np.isfinite(points).all():
        raise ValueError(
            f"{name}: got points that are NaN or infinite; expected a place for each landmark. "
            "Try view.points with weight 0 for what is not seen."
        )
    if not (np.ptp(points, axis=1).max(axis=-1) > 0).all():
        raise ValueError(f"{name}: got points that all coincide; expected a shape with extent.")
    if proposal.weights is not None:
        weights = np.asarray(proposal.weights)
        if weights.shape != expected[:2] or weights.dtype.kind not in "fiub":
            raise ValueError(f"{name}: got weights of shape {weights.shape}; expected {expected[:2]} numbers.")
        if not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError(f"{name}: got weights outside 0 to 1; expected trust in each landmark, 0 to 1.")
    if proposal.score is not None and np.shape(proposal.score) != expected[:1]:
        raise ValueError(f"{name}: got a score of shape {np.shape(proposal.score)}; expected {expected[:1]}.")
    if not 0 <= proposal.prior < np.inf:
        raise ValueError(f"{name}: got the prior {proposal.prior!r}; expected a finite number that is not negative.")
    count = proposal.n_modes
    if count is not None and (not isinstance(count, int | np.integer) or count < 0):
        raise ValueError(f"{name}: got n_modes={count!r}; expected a whole number that is not negative, or None.")
