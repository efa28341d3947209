"""The one fit of a shape model to uncertain points: pose and shape together, with what is known of each point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ._array import (
    DegenerateShapeError,
    as_array,
    as_confidence,
    device_of,
    enter,
    leave,
    namespace_of,
    to_numpy,
    values_known,
)
from ._basis import ShapeBasis
from ._completion import kept, pose_directions
from ._procrustes import _Fit, _fit, row_status
from ._provenance import recall
from ._transforms import Similarity

__all__ = ["ShapeFit", "fit_shape"]

_ROUNDS = 9  # of reweighting; the first third by Huber's loss, which has no local optima
_HUBER, _TUKEY = 1.345, 4.685  # 95 % efficient under Gaussian noise
_LEAST = 1e-6  # weight of a landmark given up: keeps the others' similarity from being too few
_MEDIAN_LENGTH = {2: 1.1774100225154747, 3: 1.5381722544550522}  # of a standard normal vector (chi distribution)
_STEPS = 12  # most turns of the frame; each leaves about a tenth of the error of the one before
_MOST_STEPS = 50  # of Gauss and Newton
_MOST = 0.5  # of a turn in radians, or of the logarithm of the scale, in one step
_CHUNK = 2**22  # numbers in the largest temporary array of a covariance


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """What `fit_shape` found; arrays of the library, type and device of the points.

    A row that could not be fitted is NaN in every array, False in `clipped`, and its `status` says why.

    Attributes
    ----------
    shapes : array of shape (..., n_landmarks, n_dims)
        The plausible shape, within the limit of the model, in the frame of the points.
    completed : array of shape (..., n_landmarks, n_dims)
        The most probable shape in the frame of the points: what is certain stays, what is missing is filled in, and
        what is uncertain lies between; it need not keep to the limit.
    similarity : Similarity
        Model → frame of the points, batched like the points.
    coefficients : array of shape (..., n_components)
        Of the modes, not clipped.
    clipped : array of bool of shape (..., n_components)
        The modes outside the limit.
    covariance : array of shape (..., n_landmarks, n_dims, n_dims)
        Of the true landmark about `shapes`, in squared units of the points: the uncertainty of pose and coefficients,
        and what the modes leave out.
    weights : array of shape (..., n_landmarks)
        How far each landmark counted, 0 to 1: its confidence (or 1), times what a robust loss leaves of it; 0 where it
        is missing.
    plausibility : array of shape (...)
        Share of the shapes of the model that fit such points worse, 0 to 1: P(χ²ₘ > D²) for the squared Mahalanobis
        distance D² of the points to the model, pose left free. It is comparable from shape to shape, and near 0 for
        points that are no shape of this kind; for a threshold take the values of shapes known to be good.
    status : str, or ndarray of str of shape (...)
        "ok", "too few landmarks", "coincident landmarks", "collinear landmarks" (3-D), "ambiguous rotation" (as for a
        mirror image), "infinite coordinate", "coordinates too large". None inside ``torch.compile`` and
        ``torch.func.vmap``, where values cannot be looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import fit_shape, load_model
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_ + 200
    >>> lost = np.full((68, 2), np.nan)
    >>> fit = fit_shape(model, np.stack([face, lost]))
    >>> fit.status.tolist()
    ['ok', 'too few landmarks']
    >>> bool(np.abs(fit.shapes[0] - face).max() < 1), bool(np.isnan(fit.shapes[1]).all())
    (True, True)
    """

    shapes: Any
    completed: Any
    similarity: Similarity
    coefficients: Any
    clipped: Any
    covariance: Any
    weights: Any
    plausibility: Any
    status: Any


def fit_shape(
    model: Any,
    points: Any,
    *,
    confidence: Any = None,
    covariance: Any = None,
    loss: Literal["linear", "huber", "tukey"] = "linear",
    prior: bool = True,
    start: Similarity | None = None,
    on_error: Literal["status", "raise"] = "status",
) -> ShapeFit:
    """Fit a shape model to points of which more or less is known, each shape by itself.

    Pose and shape are found together in the frame of the points, as the most probable of both. Shapes are distributed
    about the mean as the model says, in any place, turn and size; a point is its landmark with an error of the
    covariance that is given, none by default.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Of landmarks in two or three dimensions, fitted on superimposed shapes.
    points : array of shape (..., n_landmarks, n_dims)
        In any frame and unit, of any array library; NaN where a landmark is missing.
    confidence : array of shape (n_landmarks,) or (..., n_landmarks), optional
        What each point is worth, 0 to 1: 1 is exact, 0 (or False) is missing, and w between says that the error has
        the variance σ² (1/w - 1) a coordinate, σ² the noise variance of the model in the size of the shape.
    covariance : float or array, optional
        Of shape (n_landmarks,), (..., n_landmarks) or (..., n_landmarks, n_dims, n_dims). Of the error of each point,
        in squared units of the points, instead of `confidence`: a variance the same in all directions, or a matrix. 0
        is exact, infinity is missing.
    loss : {"linear", "huber", "tukey"}, default="linear"
        What a point far from its place counts. "linear" believes what is said of it; "huber" bounds the pull of points
        that are further off than most, "tukey" takes it away.
    prior : bool, default=True
        True weighs the coefficients by their variances. False takes the coefficients of least squares over pose and
        modes, which the limit then clips: with few points, or few modes, nearer to the points.
    start : Similarity, optional
        Model → frame of the points, to start from; by default from the points and the mean.
    on_error : {"status", "raise"}, default="status"
        Whether a shape that cannot be fitted becomes a row of NaN with its `status`, or an exception.

    Returns
    -------
    ShapeFit

    Raises
    ------
    ValueError
        For another number of landmarks or dimensions, a confidence outside [0, 1], a covariance that is negative,
        NaN, not symmetric, or given together with a confidence.
    DegenerateShapeError
        With ``on_error="raise"``, for the first shape that cannot be fitted.

    Notes
    -----
    With the pose T, x = mean + δ, δ ~ N(0, C) and yₖ = T(xₖ) + eₖ, eₖ ~ N(0, Mₖ), the fit is the expectation of x given
    y, in the pose in which this expectation is superimposed on the mean as the model was: A'(E[x | y, T] - mean) = 0
    with A the directions in which moving, turning and scaling takes the mean. The pose has no prior, and the errors
    of the points say nothing about it, so that a wrong covariance biases no size. The limit then clips the
    coefficients of E[x | y].

    Equivariant to similarities of the points together with their covariances, and to the order of the landmarks. A
    point of confidence 0 has no influence; exact points everywhere give the plain projection. More certain points
    never widen `covariance`.

    References
    ----------
    T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham, "Active shape models - their training and application",
    CVIU 61 (1995), section 5. M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", JRSS B 61
    (1999). P. J. Huber, "Robust statistics", 1981, for the losses.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import fit_shape, load_model
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_ + 200
    >>> seen = face.copy()
    >>> seen[:17] = np.nan                                    # the jaw line is hidden
    >>> fit = fit_shape(model, seen, covariance=0.5**2)       # half a pixel of error elsewhere
    >>> fit.status, bool(np.abs(fit.shapes - face).max() < 2)
    ('ok', True)
    >>> spread = np.sqrt(np.trace(fit.covariance, axis1=-2, axis2=-1))
    >>> bool(spread[8] > 3 * spread[33])                      # the chin is less certain than the nose
    True
    """
    check_choices(loss, on_error)
    problem = Problem.of(model, points, confidence=confidence, covariance=covariance)
    if on_error == "raise":
        problem.refuse()
    return solve(problem, loss=loss, prior=bool(prior), start=start).record()


def check_choices(loss: str, on_error: str = "status") -> None:
    """Raise for a loss or a policy that does not exist."""
    if loss not in ("linear", "huber", "tukey"):
        raise ValueError(f"loss: got {loss!r}; expected 'linear', 'huber' or 'tukey'.")
    if on_error not in ("status", "raise"):
        raise ValueError(f"on_error: got {on_error!r}; expected 'status' or 'raise'.")


class Frame(NamedTuple):
    """What of a model is needed for a fit."""

    basis: ShapeBasis  # the modes that are reported and clipped
    prior: ShapeBasis  # the Gaussian that fills in
    mean: np.ndarray  # what whole shapes are superimposed on
    rule: str  # how, as in `_procrustes`; "tangent" for a bare basis, whose alignment is not known
    inflation: float
    reflection: bool

    @classmethod
    def of(cls, model: Any) -> Frame:
        """Return the frame of an AlignedASM, an ASM or a ShapeBasis."""
        from sklearn.utils.validation import check_is_fitted

        if isinstance(model, ShapeBasis):
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
            return cls(basis, prior, np.asarray(to_numpy(basis.mean), dtype=np.float64), "tangent", 1.0, False)
        rule = alignment.criterion if alignment.scaling else "rigid"
        return cls(basis, prior, alignment.mean_shape_, rule, alignment.inflation_, alignment.reflection)

    @property
    def scaling(self) -> bool:
        """Whether the pose has a size."""
        return self.rule != "rigid"

    def fit(self, points: Any, weights: Any = None) -> _Fit:
        """Return the superimposition of points on the mean; nothing is refused."""
        mean = _beside(self.mean, points)
        if self.rule != "tangent":
            return _fit(points, mean, weights, rule=self.rule, reflection=self.reflection, inflation=self.inflation)
        return _fit(mean, points, weights, rule="full")

    def align(self, points: Any, weights: Any = None) -> Similarity:
        """Return frame of the points → model."""
        fit = self.fit(points, weights)
        found = Similarity._of(fit.rotation, fit.translation, fit.scale)
        return found.inverse if self.rule == "tangent" else found


class _Gaussian(NamedTuple):
    """The shapes of a basis with a free pose: what coefficients of variance 1 and the pose do, and the noise."""

    rows: np.ndarray  # (n_modes + n_moves, n_features)
    n_moves: int
    noise: float


def gaussian(basis: ShapeBasis, scaling: bool) -> _Gaussian:
    """Return the Gaussian of a basis; modes lose their share in the directions of the pose."""

    def make() -> _Gaussian:
        mean = to_numpy(basis.mean).astype(np.float64)
        moves = pose_directions(mean, scaling)
        modes = to_numpy(basis.components).astype(np.float64)
        modes = modes - np.linalg.lstsq(moves.T, modes.T, rcond=None)[0].T @ moves
        variances = to_numpy(basis.variances).astype(np.float64)
        noise = _noise(basis)
        excess = np.maximum(variances - noise, 0.0)
        rows = np.concatenate([modes[excess > 0] * np.sqrt(excess[excess > 0])[:, None], moves])
        return _Gaussian(rows, len(moves), noise)

    return kept(basis, ("gaussian", scaling), make)


def _noise(basis: ShapeBasis) -> float:
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
            raise ValueError(frame.basis._shape_message(tuple(array.shape), name))
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
            w = _confidence(confidence, array, lead) * w
            exact = False
        elif covariance is not None:
            noise, lost = _covariance(covariance, array, lead)
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
            mean = _beside(self.frame.mean, points)
            pair = (mean, points) if self.frame.rule == "tangent" else (points, mean)
            status = row_status(*pair, self.confidence, fit)
        status = np.full(len(bad), "ok", dtype="<U21") if status is None else status
        self.status = np.where(bad, "infinite coordinate", status)
        failed = status != "ok"
        pose = Similarity._of(fit.rotation, fit.translation, fit.scale)
        if failed.any():
            rows = xp.asarray(failed, device=device_of(points))
            self.points = xp.where(rows[:, None, None], _beside(self.frame.mean, points), points)
            self.confidence = xp.where(rows[:, None], xp.ones_like(self.confidence), self.confidence)
            if self.covariance is not None:
                rows = xp.reshape(rows, (-1,) + (1,) * (self.covariance.ndim - 1))
                self.covariance = xp.where(rows, xp.zeros_like(self.covariance), self.covariance)
            self.pose = self.frame.align(self.points, None if self.certain else self.confidence)
        else:
            self.pose = pose.inverse if self.frame.rule == "tangent" else pose

    @property
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

    def model_noise(self, pose: Similarity) -> Any:
        """Return the covariance of the errors in the frame and units of the model, (n, K) or (n, K, d, d)."""
        xp = namespace_of(self.points)
        if self.covariance is None:
            w = self.confidence
            return _noise(self.frame.basis) * (1.0 / xp.where(w > 0, w, xp.ones_like(w)) - 1.0)
        scale = pose.scale * pose.scale
        if self.covariance.ndim == 2:
            return scale[:, None] * self.covariance
        turn = pose.rotation[:, None]
        return scale[:, None, None, None] * (turn @ self.covariance @ xp.matrix_transpose(turn))


_REASONS = {
    "infinite coordinate": "an infinite coordinate",
    "too few landmarks": "too few landmarks",
    "coincident landmarks": "landmarks that all coincide",
    "collinear landmarks": "landmarks on one line, so that the turn about it is free",
    "ambiguous rotation": "a mirror image of the mean, which every rotation fits equally badly",
    "coordinates too large": "coordinates whose squares overflow",
}


def _beside(array: Any, like: Any) -> Any:
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
    return _beside(to_numpy(array).astype(np.float64), like)


def _spread(array: Any, lead: tuple[int, ...], event: tuple[int, ...], name: str, expected: str) -> Any:
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
    c = _spread(c, lead, (n_landmarks, n_dims, n_dims) if full else (n_landmarks,), "covariance", expected)
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


def solve(problem: Problem, *, loss: str = "linear", prior: bool = True, start: Similarity | None = None) -> Solution:
    """Return the most probable whole shapes of a problem; rows that cannot be fitted hold the mean."""
    pose = problem.pose if start is None else _started(problem, start)
    assert pose is not None
    xp = namespace_of(problem.points)
    share = xp.ones_like(problem.confidence)
    if loss != "linear":
        pose, share = _reweigh(problem, pose, loss)
    if not prior:
        pose, coefficients = _least_squares(problem, pose, share)
        basis = problem.frame.basis.like(problem.points)
        return Solution(problem, prior, pose, share, pose.inverse(basis._decode(coefficients)), coefficients)
    if problem.certain and loss == "linear":
        return Solution(problem, prior, pose, share, problem.points)
    system = _System(problem, gaussian(problem.frame.prior, problem.frame.scaling))
    tolerance = 8 * float(xp.finfo(problem.points.dtype).eps)
    gains = system.gains(pose, share)
    gram = system.gram(gains)
    for step in range(_STEPS):
        if step and problem.covariance is not None:
            gains = system.gains(pose, share)
            gram = system.gram(gains)
        whole = system.whole(pose(problem.points), gains, gram)[1]
        move = problem.frame.align(whole)
        if (problem.status is not None and _rests(move, tolerance)) or step == _STEPS - 1:
            break
        pose = move @ pose
    completed = pose.inverse(whole)
    exact = problem.exact() & (share == 1)
    return Solution(problem, prior, pose, share, xp.where(exact[..., None], problem.points, completed))


def _started(problem: Problem, start: Similarity) -> Similarity:
    """Return frame of the points → model, from the other way round as the user gives it."""
    d = problem.points.shape[2]
    start = start.like(problem.points)
    xp = namespace_of(problem.points)
    parts = []
    for part, event in zip(start._parts, ((d, d), (d,), ()), strict=True):
        parts.append(_spread(part, problem.lead, event, "start", "a similarity, or one for each shape"))
    failed = problem.failed
    found = Similarity._of(*parts).inverse
    if failed.any():
        assert problem.pose is not None
        own = [xp.asarray(failed, device=device_of(problem.points))[(...,) + (None,) * (p.ndim - 1)] for p in parts]
        found = Similarity._of(
            *(xp.where(f, a, b) for f, a, b in zip(own, problem.pose._parts, found._parts, strict=True))
        )
    return found


def _rests(move: Similarity, tolerance: float) -> bool:
    xp = namespace_of(move.scale)
    eye = xp.eye(move.n_dims, dtype=move.scale.dtype, device=device_of(move.scale))
    turn = move.scale[..., None, None] * move.rotation - eye
    return bool(xp.all(xp.abs(turn) <= tolerance))


def _reweigh(problem: Problem, pose: Similarity, loss: str) -> tuple[Similarity, Any]:
    """Return the pose and what a robust loss leaves of each landmark, (n, n_landmarks) in [0, 1].

    Iterated reweighting. A residual is the distance to the plausible shape in units of its own standard deviation, and
    their spread is the median, in which each landmark counts as its confidence.
    """
    xp = namespace_of(problem.points)
    frame = problem.frame
    basis = frame.basis.like(problem.points)
    system = _System(problem, gaussian(frame.basis, frame.scaling))
    share = xp.ones_like(problem.confidence)
    floor = _noise(frame.basis) ** 0.5 + 1e-9
    for i in range(_ROUNDS):
        gains = system.gains(pose, None)
        scaled = share * gains if gains.ndim == 2 else share[..., None, None] * gains
        x = pose(problem.points)
        if i or not problem.certain:
            move = frame.align(system.whole(x, scaled, system.gram(scaled))[1])
            pose, x = move @ pose, move(x)
        whole = x
        if i or not problem.certain:
            whole = system.whole(x, scaled, system.gram(scaled))[1]
        b = xp.matmul(xp.reshape(whole, (whole.shape[0], -1)) - basis._flat_mean, basis._transposed)
        apart = x - basis._decode(b if basis.limit is None else basis.limit.clip(b, basis._scale))
        square = xp.sum(apart * _apply(gains, apart), axis=-1)
        weight = gains if gains.ndim == 2 else xp.sum(xp.linalg.diagonal(gains), axis=-1) / x.shape[-1]
        u = _standardised(square, weight, floor, x.shape[-1], xp)
        if loss == "huber" or i < _ROUNDS // 3:
            share = xp.where(u > _HUBER, _HUBER / u, xp.ones_like(u))
        else:
            inside = 1.0 - xp.clip(u / _TUKEY, 0.0, 1.0) ** 2
            share = xp.clip(inside * inside, _LEAST, 1.0)
    return pose, share


def _standardised(square: Any, weight: Any, floor: float, n_dims: int, xp: Any) -> Any:
    """Return distances in units of their spread, the weighted median, which is no less than the floor."""
    distance = xp.sqrt(square + float(xp.finfo(square.dtype).smallest_normal))
    order = xp.argsort(distance, axis=-1)
    running = xp.cumulative_sum(xp.take_along_axis(weight, order, axis=-1), axis=-1)
    short = xp.astype(running <= 0.5 * running[..., -1:], xp.int64)
    index = xp.clip(xp.sum(short, axis=-1, keepdims=True), 0, distance.shape[-1] - 1)
    median = xp.take_along_axis(xp.take_along_axis(distance, order, axis=-1), index, axis=-1)
    sigma = median / _MEDIAN_LENGTH[n_dims]
    return distance / xp.where(sigma > floor, sigma, xp.full_like(sigma, floor))


def _least_squares(problem: Problem, pose: Similarity, share: Any) -> tuple[Similarity, Any]:
    """Return the pose and the coefficients that bring the model nearest to the points: Gauss and Newton.

    Of coefficients that are not determined the most probable are taken: a prior of no weight to speak of.
    """
    xp = namespace_of(problem.points)
    frame = problem.frame
    basis = frame.basis.like(problem.points)
    system = _System(problem, gaussian(frame.basis, frame.scaling))
    n, k, d = problem.points.shape
    m = basis.components.shape[0]
    scale = basis._scale
    modes = xp.broadcast_to(scale[:, None] * basis.components, (n, m, k * d))
    ridge = np.zeros(m + system.some.n_moves)
    eps = float(xp.finfo(problem.points.dtype).eps)
    ridge[:m] = 16 * eps * max(float(xp.max(basis.variances)), float(np.finfo(np.float64).tiny))
    ridge = _beside(np.diag(ridge), problem.points)
    c = xp.zeros((n, m), dtype=problem.points.dtype, device=device_of(problem.points))
    for _ in range(_MOST_STEPS):
        gains = system.gains(pose, share)
        near = basis._decode(c * scale)
        rows = xp.concat([modes, _moves_of(near, frame.scaling, xp)], axis=1)
        apart = xp.where((problem.confidence > 0)[..., None], pose(problem.points) - near, xp.zeros_like(near))
        pulled = xp.reshape(_apply(gains, apart), (n, -1, 1))
        if gains.ndim == 2:
            weighted = rows * xp.reshape(xp.broadcast_to(gains[..., None], (n, k, d)), (n, 1, -1))
        else:
            split = xp.permute_dims(xp.reshape(rows, (n, -1, k, d)), (0, 2, 1, 3)) @ gains
            weighted = xp.reshape(xp.permute_dims(split, (0, 2, 1, 3)), rows.shape)
        gram = weighted @ xp.matrix_transpose(rows) + ridge
        right = (rows @ pulled)[..., 0]
        right = right - xp.concat([c * xp.linalg.diagonal(ridge)[:m], xp.zeros_like(right[:, m:])], axis=1)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        c = c + u[:, :m]
        pose = _pose_step(u[:, m:], d, frame.scaling, xp) @ pose
        if problem.status is not None and bool(xp.all(xp.abs(u) <= 64 * eps * (1 + xp.max(xp.abs(c))))):
            break
    return pose, c * scale


def _moves_of(shapes: Any, scaling: bool, xp: Any) -> Any:
    """Return the derivatives of shapes (n, K, d) by the pose, (n, n_moves, K d)."""
    n, k, d = shapes.shape
    one, zero = xp.ones_like(shapes[..., 0]), xp.zeros_like(shapes[..., 0])
    if d == 2:
        x, y = shapes[..., 0], shapes[..., 1]
        moves: list[tuple[Any, ...]] = [(one, zero), (zero, one), (-y, x)]
    else:
        x, y, z = shapes[..., 0], shapes[..., 1], shapes[..., 2]
        moves = [(one, zero, zero), (zero, one, zero), (zero, zero, one), (zero, -z, y), (z, zero, -x), (-y, x, zero)]
    rows = [xp.stack(move, axis=-1) for move in moves]
    if scaling:
        rows.append(shapes)
    return xp.reshape(xp.stack(rows, axis=1), (n, len(rows), k * d))


def _pose_step(u: Any, d: int, scaling: bool, xp: Any) -> Similarity:
    """Return the similarity that takes the pose u, in the order of `pose_directions`, away again."""
    n_turns = 1 if d == 2 else 3
    turn = xp.clip(-u[..., d : d + n_turns], -_MOST, _MOST)
    if d == 2:
        c, s = xp.cos(turn[..., 0]), xp.sin(turn[..., 0])
        rotation = xp.stack([xp.stack([c, -s], axis=-1), xp.stack([s, c], axis=-1)], axis=-2)
    else:
        x, y, z = turn[..., 0], turn[..., 1], turn[..., 2]
        o = xp.zeros_like(x)
        cross = xp.stack(
            [xp.stack([o, -z, y], axis=-1), xp.stack([z, o, -x], axis=-1), xp.stack([-y, x, o], axis=-1)], axis=-2
        )
        # Rodrigues; the shift keeps the quotients, and their derivatives, finite at 0.
        angle = xp.sqrt(x * x + y * y + z * z + float(xp.finfo(x.dtype).smallest_normal))[..., None, None]
        half = xp.sin(angle / 2) / angle
        identity = xp.eye(3, dtype=x.dtype, device=device_of(x))
        rotation = identity + xp.sin(angle) / angle * cross + 2 * half * half * (cross @ cross)
    scale = xp.exp(xp.clip(-u[..., -1], -_MOST, _MOST)) if scaling else xp.ones_like(u[..., 0])
    moved = (rotation @ u[..., :d, None])[..., 0]
    return Similarity._of(rotation, -scale[..., None] * moved, scale)


class _System:
    """The linear systems of coefficients and pose, one for each shape, in the frame of the model."""

    def __init__(self, problem: Problem, some: _Gaussian) -> None:
        like = problem.points
        k, d = problem.frame.basis.event_shape
        q = len(some.rows)
        self.some, self.problem = some, problem
        self.mean = _beside(to_numpy(problem.frame.basis.mean).astype(np.float64), like)
        self.rows = _beside(some.rows, like)
        by_landmark = some.rows.reshape(q, k, d).transpose(1, 0, 2)
        self.by_landmark = _beside(by_landmark, like)
        self.outer = _beside((by_landmark @ by_landmark.transpose(0, 2, 1)).reshape(k, -1), like)
        ridge = np.zeros(q)
        ridge[: q - some.n_moves] = some.noise
        self.ridge = _beside(np.diag(ridge), like)

    def gains(self, pose: Similarity, share: Any) -> Any:
        """Return σ² (σ² + M)⁻¹ of each landmark, (n, K) or (n, K, d, d), times what a robust loss leaves of it."""
        problem, noise = self.problem, self.some.noise
        xp = namespace_of(problem.points)
        own = problem.model_noise(pose)
        seen = xp.astype(problem.confidence > 0, own.dtype)
        seen = seen if share is None else seen * share
        if own.ndim == 2:
            return seen * noise / (noise + own)
        eye = xp.eye(own.shape[-1], dtype=own.dtype, device=device_of(own))
        return seen[..., None, None] * noise * xp.linalg.inv(noise * eye + own)

    def gram(self, gains: Any) -> Any:
        """Return Σ Bₖ gain Bₖ' and the ridge, (n, q, q)."""
        xp = namespace_of(gains)
        q = self.rows.shape[0]
        if gains.ndim == 2:
            total = xp.reshape(xp.matmul(gains, self.outer), (-1, q, q))
        else:
            total = xp.sum(self.by_landmark[None] @ gains @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        return total + self.ridge

    def whole(self, x: Any, gains: Any, gram: Any) -> tuple[Any, Any]:
        """Return the squared Mahalanobis distance of what is seen, and the most probable whole shapes."""
        xp = namespace_of(x)
        apart = x - self.mean
        pulled = _apply(gains, apart)
        right = xp.reshape(pulled, (x.shape[0], -1)) @ xp.matrix_transpose(self.rows)
        u = xp.linalg.solve(gram, right[..., None])[..., 0]
        near = xp.reshape(u @ self.rows, x.shape)
        rest = _apply(gains, apart - near)
        return xp.sum(apart * rest, axis=(-2, -1)) / self.some.noise, self.mean + near + rest

    def covariance(self, gains: Any, gram: Any, kept: np.ndarray | None) -> Any:
        """Return the covariance (n, K, d, d) of the whole shapes, or of what the orthonormal rows `kept` see of it.

        That of the whole shape is F H F' + σ² F with H = σ² B' G⁻¹ B and F = I - gain.
        """
        xp = namespace_of(gains)
        n, (k, d) = gains.shape[0], self.mean.shape
        eye = xp.eye(d, dtype=gains.dtype, device=device_of(gains))
        left = eye - (gains[..., None, None] * eye if gains.ndim == 2 else gains)
        if kept is None:
            pulled = xp.linalg.solve(gram, xp.broadcast_to(self.rows, (n, *self.rows.shape)))
            pulled = xp.permute_dims(xp.reshape(pulled, (n, -1, k, d)), (0, 2, 1, 3))
            block = left @ (xp.matrix_transpose(self.by_landmark)[None] @ pulled) @ left + left
            return self.some.noise * block
        rows = xp.permute_dims(xp.reshape(_beside(kept, self.rows), (-1, k, d)), (1, 0, 2))[None]
        hidden = rows @ left
        across = xp.sum(hidden @ xp.matrix_transpose(self.by_landmark)[None], axis=1)
        core = across @ xp.linalg.solve(gram, xp.matrix_transpose(across))
        core = core + xp.sum(hidden @ xp.matrix_transpose(rows), axis=1)
        return self.some.noise * (xp.matrix_transpose(rows) @ core[:, None] @ rows)


@dataclass(eq=False)
class Solution:
    """The most probable whole shapes, and what is needed to report on them."""

    problem: Problem
    prior: bool
    pose: Similarity  # frame of the points → model
    share: Any  # (n, n_landmarks), what a robust loss leaves
    completed: Any  # (n, n_landmarks, n_dims) in the frame of the points
    coefficients: Any = None  # of least squares

    def leave(self, array: Any) -> Any:
        """Give back the leading axes and the type, with NaN in the rows that could not be fitted."""
        xp = namespace_of(array)
        failed = self.problem.failed
        if failed.any():
            rows = xp.reshape(xp.asarray(failed, device=device_of(array)), (-1,) + (1,) * (array.ndim - 1))
            array = xp.where(rows, xp.full_like(array, float("nan")), array)
        array = xp.reshape(array, (*self.problem.lead, *array.shape[1:]))
        return leave(array, self.problem.dtype)

    def leave_pose(self, pose: Similarity) -> Similarity:
        """Give back a similarity likewise."""
        return Similarity._of(*(self.leave(part) for part in pose._parts))

    @property
    def aligned(self) -> Similarity:
        """Frame of the points → model, as the whole shapes are superimposed on the mean."""
        return self.problem.frame.align(self.completed) if self.prior else self.pose

    def record(self) -> ShapeFit:
        """Return the public record."""
        problem, frame = self.problem, self.problem.frame
        xp = namespace_of(self.completed)
        basis = frame.basis.like(self.completed)
        pose = self.aligned
        flat = xp.reshape(pose(self.completed), (self.completed.shape[0], -1))
        b = xp.matmul(flat - basis._flat_mean, basis._transposed) if self.prior else self.coefficients
        kept, clipped = b, xp.zeros_like(b, dtype=xp.bool)
        if basis.limit is not None:
            kept = basis.limit.clip(b, basis._scale)
            rounding = 16 * float(xp.finfo(b.dtype).eps) * xp.max(xp.abs(flat), axis=-1, keepdims=True)
            clipped = basis.limit.exceeds(b, basis._scale) & (xp.abs(kept - b) > rounding)
            clipped = clipped & ~xp.asarray(problem.failed, device=device_of(b))[:, None]
        back = pose.inverse
        plausibility = None
        if problem.status is not None:
            plausibility = self.leave(_beside(self.plausibility(pose), self.completed))
        status = None if problem.status is None else problem.status.reshape(problem.lead)
        return ShapeFit(
            shapes=self.leave(back(basis._decode(kept))),
            completed=self.leave(self.completed),
            similarity=self.leave_pose(back),
            coefficients=self.leave(b),
            clipped=xp.reshape(clipped, (*problem.lead, clipped.shape[-1])),
            covariance=self.leave(self.covariance(pose)),
            weights=self.leave(problem.confidence * self.share),
            plausibility=plausibility,
            status=str(status) if status is not None and not problem.lead else status,
        )

    def plausibility(self, pose: Similarity) -> np.ndarray:
        """Return the probability of a larger distance of the points to the model, (n,)."""
        from scipy.special import gammaincc

        frame = self.problem.frame
        d = frame.basis.event_shape[1]
        system = _System(self.problem, gaussian(frame.prior, frame.scaling))
        gains = system.gains(pose, self.share)
        square = to_numpy(system.whole(pose(self.problem.points), gains, system.gram(gains))[0])
        seen = np.where(to_numpy(self.problem.confidence) > 0, to_numpy(self.share), 0.0)
        free = d * seen.sum(axis=-1) - system.some.n_moves
        return np.where(free > 0, gammaincc(np.maximum(free, 1e-3) / 2, np.maximum(square, 0.0) / 2), 1.0)

    def covariance(self, pose: Similarity, *, whole: bool = False) -> Any:
        """Return the covariance of the true landmarks about the fitted ones, or about the completed ones."""
        frame = self.problem.frame
        xp = namespace_of(self.completed)
        some = gaussian(frame.prior if self.prior else frame.basis, frame.scaling)
        rows, rest = kept(frame.basis, ("rest", id(frame.prior), frame.scaling), lambda: _leftover(frame))
        system = _System(self.problem, some)
        gains = system.gains(pose, self.share)
        per_chunk = max(1, _CHUNK // (len(some.rows) * max(len(some.rows), rows.shape[1])))
        blocks = [xp.zeros_like(self.completed[:0, :, :, None] * self.completed[:0, :, None, :])]
        for first in range(0, len(gains), per_chunk):
            here = gains[first : first + per_chunk]
            blocks.append(system.covariance(here, system.gram(here), None if whole else rows))
        block = xp.concat(blocks, axis=0)
        if not whole:
            block = block + _beside(rest, self.completed)
        block = 0.5 * (block + xp.matrix_transpose(block))
        back = pose.inverse
        linear = (back.scale[..., None, None] * back.rotation)[..., None, :, :]
        return linear @ block @ xp.matrix_transpose(linear)


def _leftover(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal rows of pose and modes, and the covariance (K, d, d) of what they leave of the prior."""
    k, d = frame.basis.event_shape
    moves = pose_directions(to_numpy(frame.basis.mean).astype(np.float64), frame.scaling)
    modes = to_numpy(frame.basis.components).astype(np.float64)
    kept = np.linalg.qr(np.concatenate([moves, modes]).T)[0].T
    some = gaussian(frame.prior, frame.scaling)
    rows = some.rows[: len(some.rows) - some.n_moves]
    rows = (rows - (rows @ kept.T) @ kept).reshape(-1, k, d)
    by_landmark = kept.reshape(-1, k, d)
    rest = np.einsum("qki,qkj->kij", rows, rows)
    rest += some.noise * (np.eye(d) - np.einsum("rki,rkj->kij", by_landmark, by_landmark))
    return kept, rest


def _apply(gains: Any, vectors: Any) -> Any:
    """Multiply vectors (n, K, d) by gains (n, K) or (n, K, d, d)."""
    return gains[..., None] * vectors if gains.ndim == 2 else (gains @ vectors[..., None])[..., 0]
