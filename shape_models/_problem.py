"""Points and what is known of them, checked: what a fit of a shape model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._array import (
    DegenerateShapeError,
    as_array,
    as_confidence,
    device_of,
    enter,
    namespace_of,
    to_numpy,
    values_known,
)
from ._operands import Operands, shape_message
from ._provenance import recall
from ._similarity import row_status
from ._superimposition import PairFit, fit_pair
from ._transforms import Similarity

if TYPE_CHECKING:
    from ._fit_kernels import Known

__all__ = ["Frame", "Problem", "Tails", "beside", "least_noise", "spread"]


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

    def fit(self, points: Any, weights: Any = None) -> PairFit:
        """Return the superimposition of points on the mean; nothing is refused."""
        mean = beside(self.mean, points)
        if self.rule != "tangent":
            return fit_pair(points, mean, weights, rule=self.rule, reflection=self.reflection, inflation=self.inflation)
        return fit_pair(mean, points, weights, rule="full")

    def align(self, points: Any, weights: Any = None) -> Similarity:
        """Return frame of the points → model."""
        fit = self.fit(points, weights)
        found = Similarity._of(fit.rotation, fit.translation, fit.scale)
        return found.inverse if self.rule == "tangent" else found


def least_noise(basis: Operands) -> float:
    """Return the noise variance, never quite 0, so that all systems can be solved."""
    largest = float(np.max(to_numpy(basis.variances), initial=0.0))
    return max(float(basis.noise_variance), 1e-9 * largest, float(np.finfo(np.float64).tiny))


@dataclass(eq=False)
class Problem:
    """Points (n, n_landmarks, n_dims) in the type to compute in, what is known of each, and what cannot be fitted."""

    frame: Frame
    points: Any  # zeros where missing; a row that cannot be fitted holds the mean shape
    confidence: Any  # (n, n_landmarks) in [0, 1], 0 where missing; with a covariance 1 where seen
    covariance: Any  # None, (n, n_landmarks) or (n, n_landmarks, n_dims, n_dims); 0 where missing
    certain: bool  # every landmark is seen and exact
    lead: tuple[int, ...]
    dtype: Any  # of the answer
    status: np.ndarray | None  # (n,); None where values cannot be looked at
    pose: Similarity | None  # frame of the points → model, from the points alone
    name: str = "points"

    @classmethod
    def of(
        cls, model: Any, points: Any, *, confidence: Any = None, covariance: Any = None, name: str = "points"
    ) -> Problem:
        """Check the input and flatten its leading axes."""
        frame = Frame.of(model)
        array, context = enter(recall(model, points), name)
        xp, dtype, given = context.xp, context.dtype, context.given
        n_landmarks, n_dims = frame.basis.event_shape
        if array.ndim < 2 or tuple(array.shape[-2:]) != (n_landmarks, n_dims):
            raise ValueError(shape_message(frame.basis.event_shape, tuple(array.shape), name))
        lead = tuple(int(n) for n in array.shape[:-2])
        array = xp.reshape(array, (-1, n_landmarks, n_dims))
        looked_at = values_known(array)
        if confidence is not None and covariance is not None:
            raise ValueError("got a confidence and a covariance; expected one of them. Try a covariance of infinity "
                             "for what is missing.")  # fmt: skip
        missing = xp.any(xp.isnan(array), axis=-1)
        infinite = xp.any(xp.isinf(array), axis=(-2, -1))
        w = xp.astype(~missing, dtype)
        noise, exact = None, True
        if confidence is not None:
            least = least_noise(frame.basis)
            w = _confidence(confidence, array, lead) * w
            w = xp.where(w < least / (least + _MOST_SPREAD**2 * float(np.sum(frame.mean**2))), xp.zeros_like(w), w)
            exact = False
        elif covariance is not None:
            noise, lost = _bounded(*_covariance(covariance, array, lead), _MOST_SPREAD**2 * _squared_size(array))
            w = xp.where(lost, xp.zeros_like(w), w)
            exact = False
        certain = exact and looked_at and not bool(xp.any(missing))
        if not certain:
            array = xp.where((w > 0)[..., None], array, xp.zeros_like(array))
        problem = cls(frame, array, w, noise, certain, lead, given, None, None, name)
        if looked_at:
            problem._look(infinite)
        else:
            problem.pose = frame.align(array, w)
        return problem

    def _look(self, infinite: Any) -> None:
        """Find the rows that cannot be fitted and put the mean in their place."""
        xp = namespace_of(self.points)
        points, weights = self.points, None if self.certain else self.confidence
        bad = to_numpy(infinite)
        if bad.any():
            points = xp.where(infinite[:, None, None], xp.zeros_like(points), points)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            fit = self.frame.fit(points, weights)
            mean = beside(self.frame.mean, points)
            pair = (mean, points) if self.frame.rule == "tangent" else (points, mean)
            status = row_status(*pair, self.confidence, fit)
        status = np.full(len(bad), "ok", dtype="<U21") if status is None else status
        self.status = np.where(bad, "infinite coordinate", status)
        failed = status != "ok"
        pose = Similarity._of(fit.rotation, fit.translation, fit.scale)
        if failed.any():
            rows = xp.asarray(failed, device=device_of(points))
            self.points = xp.where(rows[:, None, None], beside(self.frame.mean, points), points)
            self.confidence = xp.where(rows[:, None], xp.ones_like(self.confidence), self.confidence)
            if self.covariance is not None:
                rows = xp.reshape(rows, (-1,) + (1,) * (self.covariance.ndim - 1))
                self.covariance = xp.where(rows, xp.zeros_like(self.covariance), self.covariance)
            self.pose = self.frame.align(self.points, None if self.certain else self.confidence)
        else:
            self.pose = pose.inverse if self.frame.rule == "tangent" else pose

    @cached_property
    def failed(self) -> np.ndarray:
        """Which rows cannot be fitted, (n,)."""
        return np.zeros(len(self.points), bool) if self.status is None else self.status != "ok"

    def refuse(self) -> None:
        """Raise for the first row that cannot be fitted."""
        index = np.flatnonzero(self.failed)
        if not len(index):
            return
        assert self.status is not None
        where = tuple(int(i) for i in np.unravel_index(index[0], self.lead)) if self.lead else ()
        at = f" at index {where[0] if len(where) == 1 else where} of the batch" if where else ""
        n_dims = self.frame.basis.event_shape[1]
        reason = _REASONS[str(self.status[index[0]])]
        raise DegenerateShapeError(
            f"{self.name}: got {reason}{at} ({len(index)} such shapes); expected at least {n_dims} landmarks apart "
            "from each other, finite or NaN. Try on_error='status' to go on without them."
        )

    def exact(self) -> Any:
        """Which landmarks are known to be where they are seen, (n, n_landmarks)."""
        exact = self.confidence == 1
        if self.covariance is None:
            return exact
        noise = self.covariance
        return exact & (noise == 0 if noise.ndim == 2 else namespace_of(noise).all(noise == 0, axis=(-2, -1)))

    def model_noise(self, pose: Similarity, share: Any = None) -> Any:
        """Return the covariance of the errors in the frame and units of the model, (n, K) or (n, K, d, d).

        A loss that leaves the fraction w of a landmark makes (σ² + M) / w - σ² of M, with σ² the noise of the modes.
        """
        xp = namespace_of(self.points)
        base = least_noise(self.frame.basis)
        if self.covariance is None:
            w = self.confidence
            own = base * (1.0 / xp.where(w > 0, w, xp.ones_like(w)) - 1.0)
        else:
            scale = pose.scale * pose.scale
            if self.covariance.ndim == 2:
                own = scale[:, None] * self.covariance
            else:
                turn = pose.rotation[:, None]
                own = scale[:, None, None, None] * (turn @ self.covariance @ xp.matrix_transpose(turn))
        if share is None:
            return own
        if own.ndim == 2:
            return (base + own) / share - base
        share = share[..., None, None]
        return own / share + (base / share - base) * xp.eye(own.shape[-1], dtype=own.dtype, device=device_of(own))

    def known(self) -> Known:
        """Return the same for the compiled loops."""
        from ._fit_kernels import Known

        seen = np.ascontiguousarray(self.confidence > 0)
        imaged, matrix = self.covariance is not None, np.empty((0, 0, 0, 0))
        if not imaged:
            w = np.where(seen, self.confidence, 1.0).astype(np.float64)
            variance = least_noise(self.frame.basis) * (1.0 / w - 1.0)
        elif self.covariance.ndim == 2:
            variance = np.ascontiguousarray(self.covariance, dtype=np.float64)
        else:
            variance, matrix = np.zeros(seen.shape), np.ascontiguousarray(self.covariance, dtype=np.float64)
        return Known(seen, variance, matrix, imaged)


_REASONS = {
    "infinite coordinate": "an infinite coordinate",
    "too few landmarks": "too few landmarks",
    "coincident landmarks": "landmarks that all coincide",
    "collinear landmarks": "landmarks on one line, so that the turn about it is free",
    "ambiguous rotation": "a mirror image of the mean, which every rotation fits equally badly",
    "coordinates too large": "coordinates whose squares overflow",
}


def beside(array: Any, like: Any) -> Any:
    """Return a NumPy array in the library and type and on the device of another."""
    if isinstance(like, np.ndarray):
        return array.astype(like.dtype, copy=False)
    xp = namespace_of(like)
    return xp.astype(xp.asarray(np.array(array), device=device_of(like)), like.dtype)


def _number_array(values: Any, name: str, like: Any) -> Any:
    """Return numbers or booleans beside an array."""
    array = as_array(values, name, booleans=True)
    if namespace_of(array) is namespace_of(like):
        return namespace_of(like).astype(array, like.dtype)
    return beside(to_numpy(array).astype(np.float64), like)


def spread(array: Any, lead: tuple[int, ...], event: tuple[int, ...], name: str, expected: str) -> Any:
    """Broadcast to the shapes and flatten the leading axes."""
    xp = namespace_of(array)
    try:
        if array.ndim < len(event):
            raise ValueError
        array = xp.broadcast_to(array, (*lead, *event))
    except (ValueError, RuntimeError):
        raise ValueError(f"{name}: got shape {tuple(array.shape)}; expected {expected}.") from None
    return xp.reshape(array, (-1, *event))


def _confidence(confidence: Any, points: Any, lead: tuple[int, ...]) -> Any:
    """Return confidences (n, n_landmarks), checked."""
    shape = (*lead, int(points.shape[1]))
    xp = namespace_of(points)
    return xp.reshape(xp.broadcast_to(as_confidence(confidence, points, shape), shape), (-1, shape[-1]))


def _covariance(covariance: Any, points: Any, lead: tuple[int, ...]) -> tuple[Any, Any]:
    """Return covariances (n, n_landmarks) or (n, n_landmarks, n_dims, n_dims), checked, and which mean missing."""
    xp = namespace_of(points)
    n_landmarks, n_dims = (int(n) for n in points.shape[1:])
    c = _number_array(covariance, "covariance", points)
    expected = (
        f"a number, one for each landmark, {(n_landmarks,)} or {(*lead, n_landmarks)}, or a matrix for each, "
        f"{(n_landmarks, n_dims, n_dims)} or {(*lead, n_landmarks, n_dims, n_dims)}"
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
            size = xp.max(xp.abs(c))
            even = xp.all(xp.abs(c - xp.matrix_transpose(c)) <= 1e-5 * size)
            good = bool(even) and bool(xp.all(xp.linalg.eigvalsh(c) >= -1e-5 * size))
        else:
            good = bool(xp.all(c >= 0))
        if not good:
            raise ValueError(
                "covariance: got negative numbers, NaN, or matrices that are not symmetric with eigenvalues from 0 up; "
                "expected 0 (exact) to infinity (missing), in squared units of the points."
            )
    return c, lost


def _squared_size(points: Any) -> Any:
    """Return the squared centroid size of what is seen, (n,); infinity where it says nothing."""
    xp = namespace_of(points)
    seen = xp.astype(~xp.any(xp.isnan(points), axis=-1, keepdims=True), points.dtype)
    zero = xp.zeros_like(points)
    with np.errstate(over="ignore", invalid="ignore"):
        filled = xp.where(seen > 0, points, zero)
        count = xp.sum(seen, axis=-2, keepdims=True)
        centre = xp.sum(filled, axis=-2, keepdims=True) / xp.where(count > 0, count, xp.ones_like(count))
        off = xp.where(seen > 0, points - centre, zero)
        size = xp.sum(off * off, axis=(-2, -1))
    return xp.where(size > 0, size, xp.full_like(size, float("inf")))


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
