"""Points and what is known of them, checked: what a fit of a shape model is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from . import _fit_arrays
from ._array import (
    as_array,
    as_confidence,
    beside,
    device_of,
    either,
    enter,
    namespace_of,
    to_numpy,
    values_known,
)
from ._normal import Normal, least_noise
from ._operands import Operands, shape_message
from ._provenance import recall
from ._similarity import as_similarity, refuse_first, row_status
from ._superimposition import PairFit, fit_pair
from ._transforms import Similarity


class Tails(NamedTuple):
    """Of the law of a hidden landmark about its completion, Student's t; see `_tails`."""

    scale: float  # s
    prior_degrees: float  # ν
    degrees: float  # η
    power: float  # γ
    size: float  # τ, a variance in the frame of the model
    skill: float  # what the completion takes from the squared error of the mean pasted in, as a fraction


# Of the size of the shape: an error with this standard deviation says nothing, and one much larger drowns the rest.
_MOST_SPREAD = 1e3


class Frame(NamedTuple):
    """What of a model is needed for a fit."""

    basis: Operands  # the modes that are reported and clipped
    prior: Operands  # the Gaussian that fills in
    mean: np.ndarray  # what whole shapes are superimposed on
    rule: str  # how, as in `_procrustes`; "tangent" for a bare basis, whose alignment is not known
    inflation: float
    reflection: bool
    asm: Any = None  # what the prior was learned by

    @classmethod
    def of(cls, model: Any) -> Frame:
        """Return the frame of an AlignedASM, an ASM or a ShapeBasis."""
        from sklearn.utils.validation import check_is_fitted

        if isinstance(model, Frame):
            return model
        asm = None
        if isinstance(model, Operands):
            basis = prior = model
        else:
            if not (hasattr(model, "fit") and (hasattr(model, "asm_") or hasattr(model, "basis_"))):
                if not hasattr(model, "fit"):
                    raise TypeError(f"model: got {type(model).__name__}; expected an AlignedASM, ASM or ShapeBasis.")
                check_is_fitted(model)
            asm = getattr(model, "asm_", model)
            basis = asm.basis_
            prior = getattr(asm, "completion_basis_", basis)
        if len(basis.event_shape) != 2 or basis.event_shape[1] not in (2, 3):
            raise ValueError(
                f"model: got shapes of {basis.event_shape}; expected landmarks in two or three dimensions. Try fitting "
                "on shapes (n_samples, n_landmarks, n_dims)."
            )
        alignment = getattr(model, "alignment_", None)
        if alignment is None:
            return cls(basis, prior, np.asarray(to_numpy(basis.mean), dtype=np.float64), "tangent", 1.0, False, asm)
        rule = alignment.criterion if alignment.scaling else "rigid"
        return cls(basis, prior, alignment.mean_shape_, rule, alignment.inflation_, alignment.reflection, asm)

    def tails(self) -> Tails | None:
        """Return how far the truth lies from what the prior fills in; None where that was not learned."""
        return None if self.asm is None else self.asm._learned_tails(self)

    @property
    def scaling(self) -> bool:
        """Whether the pose has a size."""
        return self.rule != "rigid"

    @property
    def noise(self) -> float:
        """The noise variance of the modes."""
        return self.basis._derived("least noise", lambda: least_noise(self.basis))

    def normal(self) -> Normal:
        """Return the modes as a Gaussian with a free pose."""
        return Normal.of(self.basis, self.scaling)

    def fit(self, points: Any, weights: Any = None) -> PairFit:
        """Return the superimposition of points on the mean; nothing is refused."""
        mean = beside(self.mean, points)
        if self.rule != "tangent":
            return fit_pair(points, mean, weights, rule=self.rule, reflection=self.reflection, inflation=self.inflation)
        return fit_pair(mean, points, weights, rule="full")

    def align(self, points: Any, weights: Any = None) -> Similarity:
        """Return frame of the points → model."""
        return self.placed(self.fit(points, weights))

    def placed(self, fit: PairFit) -> Similarity:
        """Return frame of the points → model, of what `fit` returned."""
        found = as_similarity(fit)
        return found.inverse if self.rule == "tangent" else found


@dataclass(eq=False)
class Problem:
    """Points (n, n_landmarks, n_dims) in the type to compute in, what is known of each, and what cannot be fitted."""

    frame: Frame
    points: Any  # zeros where missing; a row that cannot be fitted holds the mean shape
    confidence: Any  # (n, n_landmarks) in [0, 1], 0 where missing; with a covariance 1 where seen
    covariance: Any  # None, (n, n_landmarks) or (n, n_landmarks, n_dims, n_dims); 0 where missing
    lead: tuple[int, ...]
    dtype: Any  # of the answer
    eps: float  # of the type of the points
    name: str = "points"
    certain: bool = False  # every landmark is seen and exact
    status: np.ndarray | None = None  # (n,); None where values cannot be looked at
    pose: Any = None  # frame of the points → model, from the points alone, as the engine has it
    alike: np.ndarray | None = None  # (n,), squared correlation with the mean in it; None where nobody can look

    @classmethod
    def of(
        cls, model: Any, points: Any, *, confidence: Any = None, covariance: Any = None, name: str = "points"
    ) -> Problem:
        """Check the input, flatten its leading axes and find a first pose."""
        frame = Frame.of(model)
        array, (xp, dtype, _, given) = enter(recall(model, points), name)
        n_landmarks, n_dims = frame.basis.event_shape
        if array.ndim < 2 or tuple(array.shape[-2:]) != (n_landmarks, n_dims):
            raise ValueError(shape_message(frame.basis.event_shape, tuple(array.shape), name))
        lead = tuple(int(n) for n in array.shape[:-2])
        array = xp.reshape(array, (math.prod(lead), n_landmarks, n_dims))
        if confidence is not None and covariance is not None:
            raise ValueError("got a confidence and a covariance; expected one of them. Try a covariance of infinity "
                             "for what is missing.")  # fmt: skip
        weights, noise = None, None
        if confidence is not None:
            weights, least = _confidence(confidence, array, lead), frame.noise
            # Below, the error has a standard deviation above a thousand sizes of the shape.
            told = weights >= least / (least + _MOST_SPREAD**2 * float(np.sum(frame.mean**2)))
            weights = xp.where(told, weights, xp.zeros_like(weights))
        elif covariance is not None:
            noise, lost = _bounded(*_covariance(covariance, array, lead), _MOST_SPREAD**2 * _squared_size(array))
            weights = xp.astype(~lost, dtype)
        problem = cls(frame, array, weights, noise, lead, given, float(xp.finfo(dtype).eps), name)
        if compiles(frame, array):
            problem._begin_compiled()
        else:
            problem._begin()
        return problem

    def _begin_compiled(self) -> None:
        """Copy the points to float64, and find poses and what cannot be fitted."""
        shape = self.points.shape
        self.points = np.array(self.points, dtype=np.float64, order="C")
        weights = np.ones(shape[:2]) if self.confidence is None else self.confidence
        self.confidence = np.array(weights, dtype=np.float64, order="C")
        self.pose, self.status, exact, self.alike = self.engine.begin(
            self.frame, self.points, self.confidence, self.eps
        )
        self.certain = exact and self.covariance is None
        if self.covariance is not None:
            self.covariance = np.where(self._failed_like(self.covariance), 0.0, self.covariance)

    def _begin(self) -> None:
        """Put zeros where landmarks are missing, and the mean where no pose can be found."""
        xp, points = namespace_of(self.points), self.points
        given, looked_at = self.confidence, values_known(points)
        w = xp.astype(~xp.any(xp.isnan(points), axis=-1), points.dtype)
        self.confidence = w = w if given is None else given * w
        infinite = xp.any(xp.isinf(points) & (w > 0)[..., None], axis=(-2, -1))
        self.certain = self.covariance is None and looked_at and bool(xp.all(w == 1))
        if not self.certain:
            points = self.points = xp.where((w > 0)[..., None], points, xp.zeros_like(points))
        if not looked_at:
            self.pose = self.frame.align(points, w)
            return
        bad = to_numpy(infinite)
        if bad.any():
            points = xp.where(infinite[:, None, None], xp.zeros_like(points), points)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            fit = self.frame.fit(points, None if self.certain else w)
            mean = beside(self.frame.mean, points)
            pair = (mean, points) if self.frame.rule == "tangent" else (points, mean)
            status = row_status(*pair, w, fit)
            alike = to_numpy(fit.cosine).astype(np.float64) ** 2
        self.status = np.where(bad, "infinite coordinate", "ok" if status is None else status)
        self.alike = np.where(self.failed, 1.0, alike)  # they hold the mean
        if self.failed.any():
            self.points = xp.where(self._failed_like(points), mean, points)
            self.confidence = xp.where(self._failed_like(w), xp.ones_like(w), w)
            if self.covariance is not None:
                zero = xp.zeros_like(self.covariance)
                self.covariance = xp.where(self._failed_like(zero), zero, self.covariance)
            self.pose = self.frame.align(self.points, None if self.certain else self.confidence)
        else:
            self.pose = self.frame.placed(fit)

    def _failed_like(self, array: Any) -> Any:
        """Return which rows cannot be fitted, beside an array and with as many axes."""
        return beside_rows(self.failed, array)

    @cached_property
    def engine(self) -> ModuleType:
        """What fits: compiled loops, or the array API."""
        if compiles(self.frame, self.points):
            from . import _fit_loops

            return _fit_loops
        return _fit_arrays

    @cached_property
    def basis(self) -> Operands:
        """The basis beside the points."""
        return self.frame.basis._beside(self.points)

    @cached_property
    def known(self) -> Any:
        """What is known of the landmarks, for the compiled loops."""
        return self.engine.known(self)

    @property
    def similarity(self) -> Similarity:
        """Frame of the points → model, from the points alone."""
        return self.pose if isinstance(self.pose, Similarity) else self.pose.similarity()

    @cached_property
    def failed(self) -> np.ndarray:
        """Which rows cannot be fitted, (n,)."""
        return np.zeros(len(self.points), bool) if self.status is None else self.status != "ok"

    def give_up(self, rows: np.ndarray, status: str) -> None:
        """Give rows (n,), of those that could be fitted, a status."""
        if self.status is not None and rows.any():
            self.status = np.where(rows & ~self.failed, status, self.status)
            del self.failed

    def refuse(self) -> None:
        """Raise for the first row that cannot be fitted."""
        if self.status is not None and self.failed.any():
            refuse_first(self.status.reshape(self.lead), (self.name, "the mean shape"), self.points.shape[2])

    def exact(self) -> Any:
        """Which landmarks are known to be where they are seen, (n, n_landmarks)."""
        exact = self.confidence == 1
        if self.covariance is None:
            return exact
        noise = self.covariance
        return exact & (noise == 0 if noise.ndim == 2 else namespace_of(noise).all(noise == 0, axis=(-2, -1)))

    def errors(self) -> np.ndarray:
        """Return the covariances (n, K, d, d) of the errors of the points, in their frame and units; 0 where exact."""
        own = self.covariance
        if own is None:
            own = self.model_noise(self.similarity) / self.similarity.scale[:, None] ** 2
        own = np.asarray(to_numpy(own))
        return own if own.ndim == 4 else own[..., None, None] * np.eye(self.points.shape[2])

    def model_noise(self, pose: Similarity, robust: Any = None) -> Any:
        """Return the covariance of the errors in the frame and units of the model, (n, K) or (n, K, d, d).

        A loss that leaves the fraction w of a landmark makes (σ² + M) / w - σ² of M, with σ² the noise of the modes.
        """
        xp = namespace_of(self.points)
        base = self.frame.noise
        if self.covariance is None:
            w = self.confidence
            own = base * (1.0 / xp.where(w > 0, w, xp.ones_like(w)) - 1.0)
        else:
            scale = pose.scale * pose.scale
            if self.covariance.ndim == 2:
                own = scale[:, None] * self.covariance
            else:
                rotation = pose.rotation[:, None]
                own = scale[:, None, None, None] * (rotation @ self.covariance @ xp.matrix_transpose(rotation))
        if robust is None:
            return own
        if own.ndim == 2:
            return (base + own) / robust - base
        robust = robust[..., None, None]
        return own / robust + (base / robust - base) * xp.eye(own.shape[-1], dtype=own.dtype, device=device_of(own))


def beside_rows(rows: np.ndarray, array: Any) -> Any:
    """Return flags of rows (n,) beside an array and with as many axes."""
    xp = namespace_of(array)
    return xp.reshape(xp.asarray(rows, device=device_of(array)), (len(rows),) + (1,) * (array.ndim - 1))


def compiles(frame: Frame, points: Any) -> bool:
    """Say whether the compiled loops fit points; they know no mirror images."""
    return isinstance(points, np.ndarray) and isinstance(frame.basis.mean, np.ndarray) and not frame.reflection


def spread(array: Any, lead: tuple[int, ...], event: tuple[int, ...], name: str, expected: str) -> Any:
    """Broadcast to the shapes and flatten the leading axes."""
    xp = namespace_of(array)
    try:
        if array.ndim < len(event):
            raise ValueError
        array = xp.broadcast_to(array, (*lead, *event))
    except (ValueError, RuntimeError):
        raise ValueError(f"{name}: got shape {tuple(array.shape)}; expected {expected}.") from None
    return xp.reshape(array, (math.prod(lead), *event))


def _confidence(confidence: Any, points: Any, lead: tuple[int, ...]) -> Any:
    """Return confidences (n, n_landmarks), checked."""
    shape = (*lead, int(points.shape[1]))
    xp = namespace_of(points)
    return xp.reshape(xp.broadcast_to(as_confidence(confidence, points, shape), shape), points.shape[:2])


def _covariance(covariance: Any, points: Any, lead: tuple[int, ...]) -> tuple[Any, Any]:
    """Return covariances (n, n_landmarks) or (n, n_landmarks, n_dims, n_dims), checked, and which mean missing."""
    xp = namespace_of(points)
    n_landmarks, n_dims = (int(n) for n in points.shape[1:])
    c = beside(as_array(covariance, "covariance", booleans=True), points)
    expected = (
        f"a number, one for each landmark, {either((n_landmarks,), (*lead, n_landmarks))}, or a matrix for each, "
        f"{either((n_landmarks, n_dims, n_dims), (*lead, n_landmarks, n_dims, n_dims))}"
    )
    full = tuple(c.shape[-3:]) == (n_landmarks, n_dims, n_dims)
    if c.ndim == 0:
        c = xp.broadcast_to(c, (n_landmarks,))
    elif not full and c.shape[-1] != n_landmarks:
        raise ValueError(f"covariance: got shape {tuple(c.shape)}; expected {expected}.")
    c = spread(c, lead, (n_landmarks, n_dims, n_dims) if full else (n_landmarks,), "covariance", expected)
    lost = xp.isinf(c)
    lost = xp.any(lost, axis=(-2, -1)) if full else lost
    c = xp.where(lost[..., None, None] if full else lost, xp.zeros_like(c), c)
    if values_known(c):
        if full:
            # What comes of rounding in sums of float32, by the size of each matrix: a large one excuses no other.
            slack = 1e-5 * xp.max(xp.abs(c), axis=(-2, -1), keepdims=True)
            even = xp.all(xp.abs(c - xp.matrix_transpose(c)) <= slack)
            good = bool(even) and bool(xp.all(xp.linalg.eigvalsh(c) >= -slack[..., 0]))
        else:
            good = bool(xp.all(c >= 0))
        if not good:
            raise ValueError(
                "covariance: got negative numbers, NaN, or matrices that are not symmetric with eigenvalues from 0 up; "
                "expected 0 (exact) to infinity (missing), in squared units of the points."
            )
    return c, lost


def _squared_size(points: Any) -> Any:
    """Return the squared centroid size of what is seen, (n,); infinity where all coincide, up to rounding."""
    xp = namespace_of(points)
    seen = xp.astype(~xp.any(xp.isnan(points), axis=-1, keepdims=True), points.dtype)
    zero = xp.zeros_like(points)
    with np.errstate(over="ignore", invalid="ignore"):
        filled = xp.where(seen > 0, points, zero)
        count = xp.sum(seen, axis=-2, keepdims=True)
        centre = xp.sum(filled, axis=-2, keepdims=True) / xp.where(count > 0, count, xp.ones_like(count))
        off = xp.where(seen > 0, points - centre, zero)
        size = xp.sum(off * off, axis=(-2, -1))
        rounding = (16 * float(xp.finfo(points.dtype).eps)) ** 2 * xp.sum(filled * filled, axis=(-2, -1))
    return xp.where(size > rounding, size, xp.full_like(size, float("inf")))


def _bounded(covariance: Any, lost: Any, most: Any) -> tuple[Any, Any]:
    """Return covariances with no variance above `most` (n,) in any direction; where all are above, it is lost."""
    xp = namespace_of(covariance)
    if covariance.ndim == 2:
        lost = lost | (covariance > most[:, None])
        return xp.where(lost, xp.zeros_like(covariance), covariance), lost
    most = most[:, None, None]
    over = xp.linalg.diagonal(covariance) > most
    if not values_known(covariance) or not bool(xp.any(over)):
        return covariance, lost
    values, vectors = xp.linalg.eigh(covariance)
    rounding = 4 * xp.finfo(values.dtype).eps * values[..., -1:]  # of the small ones beside the largest
    values = xp.where(values < rounding, xp.broadcast_to(rounding, values.shape), values)
    lost = lost | xp.all(values > most, axis=-1)
    values = xp.where(values > most, xp.broadcast_to(most, values.shape), values)
    bounded = (vectors * values[..., None, :]) @ xp.matrix_transpose(vectors)
    covariance = xp.where(xp.any(over, axis=-1)[..., None, None], bounded, covariance)
    return xp.where(lost[..., None, None], xp.zeros_like(covariance), covariance), lost
