"""Models made from models: of some landmarks, given some points, and for sets too small for their own covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._aligned import AlignedASM, ShapeModel
from ._alignment import GeneralizedProcrustes
from ._array import as_numpy, as_shapes, refuse_extremes_of
from ._asm import ASM
from ._basis import ShapeBasis
from ._drawing import basis_of, total_variance_of
from ._limits import LimitLike
from ._mean_shape import Mean
from ._options import check_numbers
from ._transforms import pose_directions
from ._typing import ArrayLike
from .landmarks import SchemeLike, get_scheme

_RANK = 1e-12  # fraction of the largest variance below which a direction has none
_EXACT = 1e-10  # fraction of the largest variance that stands for an error of 0


def marginal(model: ShapeModel, landmarks: ArrayLike) -> Any:
    """Return the model of some of the landmarks, in the order asked for.

    The modes are those of the marginal distribution: what the model says of these landmarks, whatever the others do.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Fitted on landmarks.
    landmarks : sequence of int, or names and groups of the model's scheme
        At least 2 (3 in 3-D) for an `AlignedASM`. A permutation of all re-indexes the model.

    Returns
    -------
    AlignedASM, ASM or ShapeBasis
        Of the same kind. An `AlignedASM` is superimposed on its own landmarks: what of the variation is a move, a turn
        or a change of size of the part is taken out, to first order. Modes are kept up to the number there were; the
        variance that others would have joins the noise. What completes is made of the covariance of these landmarks.

    Raises
    ------
    ValueError
        For landmarks that the model does not have.

    Examples
    --------
    >>> from shape_models import load_model, marginal
    >>> eyes = marginal(load_model("face68"), ["right_eye", "left_eye"])
    >>> eyes.asm_.mean_.shape, eyes.scheme_.n_landmarks
    ((12, 2), 12)
    """
    basis = basis_of(model)
    n_landmarks, n_dims = basis.event_shape
    scheme = getattr(model, "scheme_", None)
    chosen = _chosen(landmarks, scheme, n_landmarks)
    columns = (chosen[:, None] * n_dims + np.arange(n_dims)).ravel()
    mean = np.asarray(basis.mean, dtype=np.float64)[chosen]
    components = np.asarray(basis.components, dtype=np.float64)[:, columns]
    asm: Any = model.asm_ if isinstance(model, AlignedASM) else model
    whole = getattr(asm, "covariance_", None)  # what completes
    whole = None if whole is None else whole[np.ix_(columns, columns)]
    if len(chosen) == n_landmarks:  # the same model, re-indexed
        small = replace(basis, mean=mean, components=components)
        total = total_variance_of(model, basis)
    else:
        sigma2 = float(basis.noise_variance)
        # N(m, V L V' + s (I - V V')) of the chosen coordinates
        covariance = (components.T * (np.asarray(basis.variances, dtype=np.float64) - sigma2)) @ components
        covariance[np.diag_indices_from(covariance)] += sigma2
        if isinstance(model, AlignedASM):
            if len(chosen) < n_dims:
                raise ValueError(f"landmarks: got {len(chosen)}; expected at least {n_dims}, which fix a pose.")
            mean = mean - mean.mean(axis=0)
            # Part of a superimposed shape is not superimposed: its pose is taken out, and size 1 given back.
            pose = _moves(mean, model.alignment_.scaling)
            off = np.eye(mean.size) - pose @ pose.T
            scale = 1 / float(np.linalg.norm(mean)) if model.alignment_.scaling else 1.0
            mean, covariance = mean * scale, off @ covariance @ off * scale**2
            whole = None if whole is None else off @ whole @ off * scale**2
        small = _basis_from(mean, covariance, basis.n_components, basis.limit)
        total = float(np.trace(covariance))
    if isinstance(model, ShapeBasis):
        return small
    part = _as_asm(asm, small, total, covariance=whole)
    if len(chosen) == n_landmarks:
        part._sample, part._tails = None if asm._sample is None else asm._sample[:, chosen], asm._tails
    if not isinstance(model, AlignedASM):
        return part
    return _aligned(model, part, chosen, None if scheme is None else scheme.subset(chosen))


def condition(model: ShapeModel, points: ArrayLike, noise: ArrayLike) -> ShapeBasis:
    """Return the posterior model of a shape, given some of its landmarks with noise.

    Parameters
    ----------
    model : AlignedASM, ASM or ShapeBasis
        Fitted on landmarks.
    points : array_like of shape (n_landmarks, n_dims)
        NaN where nothing was seen. For an `AlignedASM` in any frame; otherwise in the frame of the model.
    noise : float or array_like of shape (n_landmarks,)
        Standard deviation of the error of each coordinate of the points, in their units; 0 is exact.

    Returns
    -------
    ShapeBasis
        In the frame of the points: its mean is the most probable shape, its modes and variances say what is still
        open, and its limit is that of the model, about this mean.

    Raises
    ------
    ValueError
        For other numbers of landmarks or dimensions, a negative noise, and points that fix no pose.

    Notes
    -----
    The Gaussian is that which completes, ``completion_basis_``, of an estimator, and N(m, V (Λ - σ²) Vᵀ + σ²) of a
    basis. With x = m + B a + e, B = V (Λ - σ²)^½, a ~ N(0, 1), e ~ N(0, σ²) and points y of error r² the shapes have
    the covariance B S Bᵀ + σ², with S = (1 + Bᵀ W B)⁻¹ and W = 1/(r² + σ²) of what is seen, and the mean of `complete`.
    The covariance is exact where nothing is seen; elsewhere it leaves the noise of the model open. The pose of an
    `AlignedASM` is found by `fit_shape`; small moves, turns and changes of size have columns in B, without a prior.

    References
    ----------
    T. Albrecht, M. Lüthi, T. Gerig, T. Vetter, "Posterior shape models", Medical Image Analysis 17(8), 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import condition, load_model
    >>> model = load_model("face68")
    >>> face = 100 * model.asm_.mean_ + 200
    >>> jaw_hidden = np.where(np.arange(68)[:, None] < 17, np.nan, face)
    >>> posterior = condition(model, jaw_hidden, 1.0)
    >>> spread = np.sqrt((posterior.components**2 * posterior.variances[:, None]).sum(axis=0)).reshape(68, 2)
    >>> bool(spread[:17].mean() > 1.5 * spread[17:].mean())
    True
    """
    basis = basis_of(model)
    n_landmarks, n_dims = basis.event_shape
    array = as_shapes(points, name="points", n_landmarks=n_landmarks, n_dims=n_dims, allow_nan=True)
    if array.ndim != 2:
        raise ValueError(f"points: got shape {array.shape}; expected one shape, {basis.event_shape}.")
    array = array.astype(np.float64)
    error = as_numpy(noise, "noise").astype(np.float64)
    if error.shape not in ((), (1,), (n_landmarks,)):
        raise ValueError(f"noise: got shape {error.shape}; expected one number, or one for each of {n_landmarks}.")
    error = np.broadcast_to(error, (n_landmarks,))
    if not (np.isfinite(error) & (error >= 0)).all():
        raise ValueError("noise: got a number that is negative or not finite; expected standard deviations from 0 up.")
    refuse_extremes_of(error, "noise")
    transform = None
    if isinstance(model, AlignedASM):
        from ._fitting import fit_shape

        found = fit_shape(model, array, covariance=error**2, on_error="raise")
        transform = found.similarity
        array, error = np.asarray(transform.inverse(array)), error / float(transform.scale)
    basis = getattr(getattr(model, "asm_", model), "completion_basis_", basis)
    variances, sigma2 = np.asarray(basis.variances, dtype=np.float64), float(basis.noise_variance)
    center = np.asarray(basis.mean, dtype=np.float64)
    rows = np.asarray(basis.components, dtype=np.float64) * np.sqrt(np.maximum(variances - sigma2, 0.0))[:, None]
    ridge = np.ones(len(rows))
    if isinstance(model, AlignedASM):  # moves, turns and changes of size have no prior
        moves = _moves(center, model.alignment_.scaling).T
        rows = np.concatenate([rows - (rows @ moves.T) @ moves, moves])
        ridge = np.append(ridge, np.zeros(len(moves)))
    seen = np.isfinite(array).ravel()
    top = float(variances.max(initial=0.0))
    spread = np.repeat(error**2, n_dims)[seen] + sigma2
    # An error of 0 would make the weight infinite; so small a one holds a point to five digits of the first mode.
    weight = 1 / np.maximum(spread, _EXACT * top + np.finfo(np.float64).tiny)
    root = np.linalg.cholesky(np.diag(ridge) + (rows[:, seen] * weight) @ rows[:, seen].T)
    left = np.linalg.solve(root, rows)  # its square is the covariance of the shapes but for the noise
    mean = center.ravel() + left.T @ (left[:, seen] @ (weight * (array - center).ravel()[seen]))
    mean[seen] += sigma2 * weight * (array.ravel() - mean)[seen]
    _, values, vectors = np.linalg.svd(left, full_matrices=False)
    values = np.square(values) + sigma2
    result = ShapeBasis(mean.reshape(basis.event_shape), vectors, values, basis.limit, noise_variance=sigma2)
    if transform is None:
        return result
    scale = float(transform.scale)
    turned = np.asarray(result.components).reshape(-1, n_landmarks, n_dims) @ np.asarray(transform.rotation).T
    return replace(
        result,
        mean=np.asarray(transform(np.asarray(result.mean))),
        components=turned.reshape(len(turned), -1),
        variances=values * scale**2,
        noise_variance=sigma2 * scale**2,
    )


def fit_with_kernel(
    shapes: ArrayLike,
    *,
    amplitude: float | None = None,
    length: float | None = None,
    n_components: int | float = 0.98,
    limit: LimitLike = 3.0,
    scheme: SchemeLike | None = None,
) -> AlignedASM:
    """Fit a model to very few shapes, with a smooth covariance added to that of the sample.

    The added covariance is that of a Gaussian process on the mean shape, a² exp(−‖mⱼ − mₖ‖² / 2 l²) for each
    coordinate, without the moves, turns and changes of size that superimposition takes out: neighbours move together.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims)
        Complete, at least two, in any frame each.
    amplitude : float, optional
        Standard deviation a of the added moves, as a fraction of the root mean square distance of the landmarks of the
        mean to its centroid. 0 adds nothing.
    length : float, optional
        Distance l over which landmarks move together, in the same unit. What is not given is chosen by
        cross-validation: by the likelihood of shapes left out; this needs three shapes.
    n_components : int or float, default=0.98
        Modes, or the fraction of the variance that they carry. More than n_samples − 1 are possible here.
    limit : float, Box, Ellipsoid, SoftBox or None, default=3.0
        As in `ASM`.
    scheme : LandmarkScheme or str, optional
        What the landmarks are called; kept with the model.

    Returns
    -------
    AlignedASM
        With ``kernel_``, the pair (amplitude, length).

    Raises
    ------
    ValueError
        For wrong shapes, missing landmarks, and numbers out of range.

    References
    ----------
    M. Lüthi, T. Gerig, C. Jud, T. Vetter, "Gaussian process morphable models", IEEE TPAMI 40(8), 2018, section 3.3.

    Examples
    --------
    >>> from shape_models import fit_with_kernel, make_faces
    >>> faces = make_faces(60, rng=0)
    >>> model = fit_with_kernel(faces[:5])
    >>> model.asm_.n_components_ > 4                     # more than five shapes can span
    True
    """
    array = as_shapes(shapes, n_dims=(2, 3), min_samples=2).astype(np.float64)
    for name, value in (("amplitude", amplitude), ("length", length)):
        if value is not None:
            check_numbers(above=name == "length", **{name: value})
    alignment = GeneralizedProcrustes().fit(array)
    aligned = alignment.transform(array)
    if amplitude is None or length is None:
        amplitude, length = _choose_kernel(aligned, amplitude, length)
    mean = aligned.mean(axis=0)
    flat = (aligned - mean).reshape(len(aligned), -1)
    total = flat.T @ flat / (len(flat) - 1) + _kernel_covariance(mean, amplitude, length)
    values, vectors = np.linalg.eigh(total)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    rank = int((values > _RANK * values[0]).sum())
    if isinstance(n_components, int | np.integer):
        if not 1 <= n_components <= rank:
            raise ValueError(f"n_components: got {n_components}; expected 1 to {rank}.")
        count = int(n_components)
    elif 0 < n_components < 1:
        count = min(rank, int(np.searchsorted(np.cumsum(values) / values.sum(), n_components)) + 1)
    else:
        raise ValueError(f"n_components: got {n_components!r}; expected a number of modes or a fraction in (0, 1).")
    basis = _basis_from(mean, total, count, limit)
    asm = _as_asm(ASM(n_components, limit=limit), basis, float(values.sum()), n_samples=len(array))
    model = AlignedASM(ASM(n_components, limit=limit), scheme=None if scheme is None else get_scheme(scheme))
    model._assemble(alignment, asm)
    model.kernel_ = (float(amplitude), float(length))
    return model


def _choose_kernel(aligned: np.ndarray, amplitude: float | None, length: float | None) -> tuple[float, float]:
    """Return the pair under which shapes left out are most likely, on a grid."""
    n = len(aligned)
    if n < 3:
        raise ValueError(f"got {n} shapes; expected 3 to choose amplitude and length. Try giving both.")
    # Of the root mean square distance to the centroid: from the error of digitising to that of a strange shape, and
    # from features of a shape to all of it.
    amplitudes = (0.01, 0.02, 0.04, 0.08) if amplitude is None else (amplitude,)
    lengths = (0.15, 0.3, 0.6, 1.2) if length is None else (length,)
    best = None
    for a in amplitudes:
        for l in lengths:
            score = 0.0
            for test in np.array_split(np.arange(n), min(n, 10)):
                rest = np.delete(aligned, test, axis=0)
                mean = rest.mean(axis=0)
                flat = (rest - mean).reshape(len(rest), -1)
                total = flat.T @ flat / max(len(flat) - 1, 1) + _kernel_covariance(mean, a, l)
                pose = _moves(mean - mean.mean(axis=0), True)
                values, vectors = np.linalg.eigh(total)
                keep = slice(pose.shape[1], None)
                floor = 1e-4 * values[-1]  # digitising error: no direction is ever exact
                spread = values[keep] + floor
                off = (aligned[test] - mean).reshape(len(test), -1) @ vectors[:, keep]
                score -= 0.5 * float((off**2 / spread).sum() + len(test) * np.log(spread).sum())
            if best is None or score > best[0]:
                best = score, (a, l)
    assert best is not None
    return best[1]


def _kernel_covariance(mean: np.ndarray, amplitude: float, length: float) -> np.ndarray:
    centred = mean - mean.mean(axis=0)
    unit = float(np.sqrt((centred**2).sum() / len(mean)))
    apart = ((centred[:, None] - centred[None]) ** 2).sum(axis=-1) / unit**2
    kernel = (amplitude * unit) ** 2 * np.exp(-0.5 * apart / length**2)
    pose = _moves(centred, True)
    off = np.eye(mean.size) - pose @ pose.T
    return np.asarray(off @ np.kron(kernel, np.eye(mean.shape[1])) @ off)


def _moves(centred: np.ndarray, scaling: bool) -> np.ndarray:
    """Return an orthonormal basis, as columns, of the moves that are translations, turns and changes of size."""
    return np.linalg.qr(pose_directions(centred, scaling).T)[0]


def _basis_from(mean: np.ndarray, covariance: np.ndarray, n_components: int, limit: Any) -> ShapeBasis:
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    count = max(1, min(n_components, int((values > _RANK * values[0]).sum())))
    rest = len(values) - count
    noise = float(values[count:].sum()) / rest if rest else 0.0
    noise = 0.0 if noise <= _RANK * values[0] else noise
    lead = np.abs(vectors[:, :count]).argmax(axis=0)
    signs = np.where(vectors[lead, np.arange(count)] < 0, -1.0, 1.0)
    return ShapeBasis(mean, (vectors[:, :count] * signs).T, values[:count], limit, noise_variance=noise)


def _as_asm(
    like: ASM, basis: ShapeBasis, total: float, n_samples: int | None = None, covariance: np.ndarray | None = None
) -> ASM:
    asm = ASM(**like.get_params(deep=False))
    asm._set_model(
        basis,
        n_samples=like.n_samples_ if n_samples is None else n_samples,
        total_variance=total,
        shrinkage=getattr(like, "shrinkage_", 0.0),
        covariance=covariance,
    )
    return asm


def _aligned(like: AlignedASM, asm: ASM, chosen: np.ndarray, scheme: Any) -> AlignedASM:
    """Return an aligned model about another mean, with the options of a fitted one."""
    old = like.alignment_
    alignment = GeneralizedProcrustes(**(old.get_params(deep=False) | {"mirror": None}))
    whole = len(chosen) == len(old.mean_shape_)
    mean = old.mean_shape_[chosen] if whole else np.asarray(asm.mean_)
    alignment._keep(Mean(mean, old.inflation_, old.n_iter_, old.converged_), old.disparity_, old.mirrored_)
    model = AlignedASM(**(like.get_params(deep=False) | {"scheme": scheme}))
    return model._assemble(alignment, asm, frame=getattr(like, "frame_", None))


def _chosen(landmarks: Any, scheme: Any, n: int) -> np.ndarray:
    if scheme is not None:
        chosen = scheme.indices(landmarks)
    else:
        chosen = as_numpy(landmarks, "landmarks")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise ValueError("landmarks: got something else than indices; expected them, as the model has no scheme.")
    if not len(chosen) or (chosen < 0).any() or (chosen >= n).any() or len(set(chosen.tolist())) < len(chosen):
        raise ValueError(f"landmarks: got {chosen.tolist()[:8]}; expected different indices from 0 to {n - 1}.")
    return np.asarray(chosen.astype(np.intp))
