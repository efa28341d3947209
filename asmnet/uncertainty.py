"""How far a network's landmarks are off, told from its heat maps and from a search of the image: learned, and used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from shape_models import AlignedASM, ShapeFit, estimate_similarity, fit_shape
from shape_models._options import checked_header, finite
from shape_models._scatter import Scatter, mean_length
from shape_models._typing import ArrayLike, ImageLike

__all__ = ["Findings", "Joined", "Uncertainty", "learn_uncertainty"]

# Bound of log-odds: beyond 1 in 400 a confidence is no stronger evidence, and exactly 0 or 1 no infinite one.
_LOGIT = 6.0
# Distances, as fractions of the size, below which two places are the same: 0.15 pixels of a face of 200.
_NEAR = 0.002
_TRUST = 0.5  # fraction of the covariances that `fit_shape` is told, chosen on 300-W val


class Findings(NamedTuple):
    """What is known of some shapes before they are joined with the shape model.

    Parameters
    ----------
    points : ndarray of shape (n, K, 2)
        Landmarks of a network, pixels; NaN where missing.
    spread : ndarray of shape (n, K, 2, 2), optional
        Of its heat maps, see `shape_models.search.heatmap_peaks`; None for networks that draw none.
    height : ndarray of shape (n, K), optional
        Of their maxima.
    searched : ndarray of shape (n, K, 2), optional
        Where a search of the image that started at the landmarks ended; NaN where it could not begin.
    confidence : ndarray of shape (n, K), optional
        Of the landmarks of the search.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.uncertainty import Findings
    >>> Findings(np.zeros((1, 68, 2))).searched is None
    True
    """

    points: np.ndarray
    spread: np.ndarray | None = None
    height: np.ndarray | None = None
    searched: np.ndarray | None = None
    confidence: np.ndarray | None = None


class Joined(NamedTuple):
    """The joint answer for some shapes.

    Parameters
    ----------
    fit : ShapeFit
        The most probable shapes are its `completed`.
    covariance : ndarray of shape (n, K, 2, 2)
        Of the true landmarks about these, squared pixels.
    expected_error : ndarray of shape (n,)
        Expected mean distance of the landmarks from the true ones, pixels.
    degrees_of_freedom : float
        Of Student's t, which the true landmarks follow.

    Examples
    --------
    >>> from asmnet.uncertainty import Joined
    >>> Joined._fields
    ('fit', 'covariance', 'expected_error', 'degrees_of_freedom')
    """

    fit: ShapeFit
    covariance: np.ndarray
    expected_error: np.ndarray
    degrees_of_freedom: float = np.inf


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the landmarks of a network are worth, learned by `learn_uncertainty`.

    The logarithm of the variance of an error is linear in what is seen of the landmark: width and height of its heat
    map, confidence of the search that started there and its distance from the network. With a search the two
    places are joined as Gaussians whose errors correlate. The shape model is fitted to that, and the covariance of the
    answer is learned likewise from those that went in and came out.

    Parameters
    ----------
    network, joined, answer : scatter
        Of the network's landmarks, of those joined with the search, and of the answer.
    search : scatter or None
        Of the landmarks of the search; None without one.
    correlation : float
        Of the errors of network and search.

    References
    ----------
    Product of correlated Gaussians: C. M. Bishop, "Pattern recognition and machine learning" (2006), section 2.3;
    gamma regression: P. McCullagh, J. A. Nelder, "Generalized linear models" (1989), chapter 8.

    Examples
    --------
    >>> from asmnet import Predictor
    >>> predictor = Predictor.from_pretrained("hourglass-68")
    >>> predictor.uncertainty.search is None
    True
    """

    network: Scatter
    joined: Scatter
    answer: Scatter
    search: Scatter | None = None
    correlation: float = 0.0

    @classmethod
    def learn(
        cls, model: AlignedASM, found: Findings, truth: np.ndarray, known: np.ndarray | None = None
    ) -> Uncertainty:
        """Learn from findings and true landmarks.

        Parameters
        ----------
        model : AlignedASM
            The shape model.
        found : Findings
            Shapes that lack no landmark.
        truth : ndarray of shape (n, K, 2)
            Pixels.
        known : ndarray of bool of shape (n,), optional
            Shapes that network or search were trained on as they are; see `learn_uncertainty`.

        Returns
        -------
        Uncertainty
        """
        size, turn = _size_and_turn(model, found.points)

        def errors(points: np.ndarray) -> np.ndarray:
            return np.asarray((truth - points) @ turn / size[:, None, None])

        features = _features(found, size)
        network = Scatter.learn(errors(found.points), features, tails=False)
        learned = cls(network, network, network)
        if found.searched is not None:
            search = Scatter.learn(errors(found.searched), features, tails=False)
            scale = np.sqrt(network.variance(features) * search.variance(features))
            # Over both coordinates, whose errors have one variance each landmark.
            rho = float((0.5 * (errors(found.points) * errors(found.searched)).sum(-1) / scale).mean())
            learned = replace(learned, search=search, correlation=rho)
            places = errors(learned._places(found, features))
            learned = replace(learned, joined=Scatter.learn(places, features, tails=False))
        fit, own = learned._fit(model, found, size, turn, features)
        new = slice(None) if known is None else ~known
        return replace(learned, answer=Scatter.learn(errors(fit.completed)[new], own[new]))

    def join(self, model: AlignedASM, found: Findings) -> Joined:
        """Join network, image and shape model.

        Parameters
        ----------
        model : AlignedASM
            The shape model.
        found : Findings
            Of any shapes; missing landmarks are filled in by the model.

        Returns
        -------
        Joined
            NaN for shapes with too few landmarks, whose ``fit.status`` says so.
        """
        size, turn = _size_and_turn(model, found.points)
        fit, features = self._fit(model, found, size, turn, _features(found, size))
        own = self.answer(features) * (size**2)[:, None, None, None]
        covariance = turn[:, None] @ own @ np.swapaxes(turn, 1, 2)[:, None]
        return Joined(fit, covariance, mean_length(covariance, self.answer.degrees).mean(axis=1), self.answer.degrees)

    def _places(self, found: Findings, features: np.ndarray) -> np.ndarray:
        """Return the product of the Gaussians of network and search."""
        if self.search is None or found.searched is None:
            return found.points
        first, second = self.network.variance(features), self.search.variance(features)
        shared = self.correlation * np.sqrt(first * second)
        # The combination of least variance of two correlated estimates; clipped, since all three are estimates.
        weight = np.clip((first - shared) / (first + second - 2 * shared), 0.0, 1.0)
        move = np.nan_to_num(found.searched - found.points, nan=0.0)
        return np.asarray(found.points + weight[..., None] * move)

    def _fit(
        self, model: AlignedASM, found: Findings, size: np.ndarray, turn: np.ndarray, features: np.ndarray
    ) -> tuple[ShapeFit, np.ndarray]:
        """Fit the shape model, and return what the covariance of the answer follows from."""
        places = self._places(found, features)
        noise = (self.joined if self.search is not None else self.network)(features)
        area = (size**2)[:, None, None, None]
        given = _TRUST * area * (turn[:, None] @ noise @ np.swapaxes(turn, 1, 2)[:, None])
        seen = np.isfinite(places).all(-1) & np.isfinite(given).all((2, 3))
        fit = fit_shape(model, places, covariance=np.where(seen[..., None, None], given, np.inf))
        # Half the logarithm of a determinant is that of the geometric mean of both variances.
        with np.errstate(invalid="ignore"):  # of shapes that could not be fitted
            after, before = (0.5 * np.log(np.linalg.det(part)) for part in (fit.covariance / area, noise))
        # A missing landmark is as uncertain as the least certain one that was seen.
        before = np.where(seen, before, np.max(np.where(seen, before, -np.inf), axis=1, keepdims=True))
        moved = np.linalg.norm(fit.completed - places, axis=2) / size[:, None]
        moved = np.log(_NEAR + np.where(seen, moved, 0.0))
        return fit, _with_means(before, after, moved)

    def to_header(self) -> dict[str, Any]:
        """Return the numbers, as JSON holds them.

        Returns
        -------
        dict
        """
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        scatters = {name: part.to_header() for name, part in parts.items() if isinstance(part, Scatter)}
        return {"correlation": self.correlation, **scatters}

    @classmethod
    @checked_header
    def from_header(cls, header: dict[str, Any]) -> Uncertainty:
        """Build from what `to_header` returned.

        Parameters
        ----------
        header : dict
            The numbers.

        Returns
        -------
        Uncertainty

        Raises
        ------
        ValueError
            When entries are missing, or are no numbers.
        """
        names = ["network", "joined", "answer", *(["search"] if "search" in header else [])]
        scatters: dict[str, Any] = {name: Scatter.from_header(header[name]) for name in names}
        return cls(**scatters, correlation=finite(header["correlation"]))


class Looking(Protocol):
    """What `learn_uncertainty` asks of a predictor."""

    shape_model: AlignedASM | None

    def findings(self, image: ImageLike, box: ArrayLike, /) -> Findings: ...


def learn_uncertainty(
    predictor: Looking, images: Sequence[ImageLike], landmarks: ArrayLike, *, known: ArrayLike | None = None
) -> Uncertainty:
    """Learn what the landmarks of a network are worth, from images with true landmarks.

    Let some of the images show faces of which a part is covered: what a cover looks like is learned from them.

    Parameters
    ----------
    predictor : Predictor
        With a shape model. Looks once at each face, by the tight box of its landmarks.
    images : sequence of array or path
        At least 50.
    landmarks : array_like of shape (n, K, 2)
        The true ones, pixels; images with missing ones are left out.
    known : array_like of bool of shape (n,), optional
        Images that the network was trained on as they are. They tell what network and search are worth beside each
        other, but not how far off the answer is in new images: there its errors are larger.

    Returns
    -------
    Uncertainty
        For ``Predictor(..., uncertainty=)``, or to be saved with the model:
        ``dataclasses.replace(model, uncertainty=...)``.

    Raises
    ------
    ValueError
        For fewer faces, and for a predictor without a shape model.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import Predictor
    >>> from asmnet.uncertainty import learn_uncertainty
    >>> learn_uncertainty(Predictor.from_pretrained("light-68"), [], np.empty((0, 68, 2)))
    Traceback (most recent call last):
    ValueError: landmarks: got 0 shapes without gaps; expected at least 50.
    """
    if predictor.shape_model is None:
        raise ValueError("predictor: got one without a shape model; expected one to join the landmarks with.")
    truth = np.asarray(landmarks, dtype=float)
    if truth.ndim != 3 or len(truth) != len(images):
        raise ValueError(
            f"landmarks: got shape {truth.shape}; expected (n, K, 2), one for each of {len(images)} images."
        )
    told = np.zeros(len(truth), dtype=bool) if known is None else np.asarray(known)
    if told.shape != (len(truth),) or told.dtype != bool:
        raise ValueError(f"known: got {told.dtype} of shape {told.shape}; expected one boolean for each image.")
    rows, found = [], []
    for i in np.flatnonzero(np.isfinite(truth).all((1, 2))).tolist():
        box = np.concatenate([truth[i].min(0), truth[i].max(0)])
        findings = predictor.findings(images[i], box)
        if all(part is None or np.isfinite(part).all() for part in findings):
            rows.append(i)
            found.append(findings)
    if len(rows) - told[rows].sum() < 50:
        raise ValueError(f"landmarks: got {len(rows)} shapes without gaps; expected at least 50.")
    parts = [None if part[0] is None else np.concatenate(part) for part in zip(*found, strict=True)]
    assert parts[0] is not None
    return Uncertainty.learn(predictor.shape_model, Findings(parts[0], *parts[1:]), truth[rows], told[rows])


def planar_turn(mean: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the similarities that take a shape (K, 2) nearest to points (n, K, 2) as complex factors (n,).

    Their absolute values are scales, their angles rotations; NaN where fewer than two landmarks are known.
    """
    fit = estimate_similarity(mean, points, on_error="status")
    return np.asarray(fit.scale * (fit.rotation[:, 0, 0] + 1j * fit.rotation[:, 1, 0]))


def _size_and_turn(model: AlignedASM, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return root mean squared distances from the middles (n,), and rotations (n, 2, 2) that take upright to points."""
    mean = np.asarray(model.asm_.basis_.mean, dtype=float)
    factor = planar_turn(mean, points)
    size = np.abs(factor) * float(np.sqrt(((mean - mean.mean(0)) ** 2).sum(1).mean()))
    unit = np.exp(1j * np.angle(factor))
    turn = np.stack([unit.real, -unit.imag, unit.imag, unit.real], axis=-1).reshape(-1, 2, 2)
    return size, turn


def _features(found: Findings, size: np.ndarray) -> np.ndarray:
    """Return what the variance of each landmark follows from, (n, K, p)."""
    seen_of_it = []
    if found.spread is not None and found.height is not None:
        seen = found.height > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            # Of the geometric mean of both standard deviations, in fractions of the size.
            width = 0.25 * np.log(np.linalg.det(found.spread)) - np.log(size)[:, None]
        height = np.log(np.where(seen, found.height, 1.0))
        seen_of_it += [np.where(seen, width, np.nan), np.where(seen, height, np.nan)]
    if found.searched is not None and found.confidence is not None:
        away = np.linalg.norm(found.searched - found.points, axis=2) / size[:, None]
        away = np.log(_NEAR + np.nan_to_num(away, nan=1.0))
        # A confidence that rounds to 0 or 1 has no odds; their own clip decides.
        certain = np.clip(found.confidence, 1e-9, 1 - 1e-9)
        seen_of_it += [np.clip(np.log(certain) - np.log1p(-certain), -_LOGIT, _LOGIT), away]
    return _with_means(*seen_of_it) if seen_of_it else np.ones((*found.points.shape[:2], 1))


def _with_means(*values: np.ndarray) -> np.ndarray:
    """Return 1, values (n, K), and their means over the landmarks of each shape."""
    means = []
    for value in values:
        known = np.isfinite(value)
        mean = np.where(known, value, 0.0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
        means.append(np.broadcast_to(mean, value.shape))
    return np.stack([np.ones_like(values[0]), *values, *means], axis=-1)
