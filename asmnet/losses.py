"""Losses on landmarks and pose: squared, norm, wing, smooth L1, and the ones that know the shape model.

Predictions come first, targets second. Landmarks are (batch, n_landmarks, 2) in crop units. A mask of shape
(batch, n_landmarks), True where the landmark is known, leaves the others out; NaN targets are left out by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asmnet._criteria import build_criterion, criterion_names, register_criterion
from asmnet._options import check_counts, check_mask, check_tensor
from asmnet._prediction import Prediction
from asmnet.data import Batch
from asmnet.layers import ASMProjection
from shape_models import Box, ShapeBasis
from shape_models._options import check_choice, check_numbers

__all__ = [
    "AsmAssistedCriterion",
    "AsmWeightSchedule",
    "asm_assisted_loss",
    "build_criterion",
    "criterion_names",
    "landmark_loss",
    "pose_loss",
    "register_criterion",
    "shape_prior_loss",
    "wing",
]

FORMS = ("squared", "norm", "wing", "smooth_l1")
SHAPES = "(batch, n_landmarks, n_dims)"


def _single(values: Tensor) -> torch.dtype:
    """Return the type to count and add in: float32 at least."""
    return torch.promote_types(values.dtype, torch.float32)


def _known(prediction: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the target with zeros for NaN and the 0/1 weights (batch, n_landmarks, 1) of the known landmarks."""
    check_tensor("target", target, "(...)", like=("prediction", prediction))
    seen = torch.isfinite(target).all(-1, keepdim=True)
    if mask is not None:
        seen = seen & check_mask(mask, target.shape[:-1]).unsqueeze(-1)
    return torch.where(seen, target, torch.zeros_like(target)), seen.to(_single(prediction))


def wing(difference: Tensor, *, width: float = 10 / 224, curvature: float = 2 / 224) -> Tensor:
    """Wing function: ``width * ln(1 + |x| / curvature)`` within `width`, ``|x|`` less a constant beyond it.

    Parameters
    ----------
    difference : Tensor
        Any shape.
    width, curvature : float
        The w and epsilon of the paper, in the unit of `difference`. The defaults are the paper's 10 and 2 pixels of a
        224 pixel crop, in crop units.

    Returns
    -------
    Tensor
        Of the shape of `difference`.

    References
    ----------
    Feng, Kittler, Awais, Huber, Wu: Wing Loss for Robust Facial Landmark Localisation, CVPR 2018, Eq. (5).

    Examples
    --------
    >>> import torch
    >>> from asmnet.losses import wing
    >>> wing(torch.tensor([0.0, 2.0, 10.0, 20.0]), width=10.0, curvature=2.0)
    tensor([ 0.0000,  6.9315, 17.9176, 27.9176])
    """
    check_numbers(width=width, curvature=curvature, above=True)
    check_tensor("difference", difference, "(...)")
    magnitude = difference.abs()
    # Eq. (5): C makes both pieces meet where |x| = w.
    offset = width - width * math.log1p(width / curvature)
    return torch.where(magnitude < width, width * torch.log1p(magnitude / curvature), magnitude - offset)


def landmark_loss(prediction: Tensor, target: Tensor, *, form: str = "squared", mask: Tensor | None = None) -> Tensor:
    """Mean loss over all known landmarks of a batch.

    Parameters
    ----------
    prediction, target : Tensor of shape (batch, n_landmarks, n_dims)
        NaN in the target marks a missing landmark.
    form : {"squared", "norm", "wing", "smooth_l1"}
        ``squared``: mean over coordinates of the squared difference; ``norm``: mean over landmarks of the Euclidean
        distance; ``wing``: see `wing`; ``smooth_l1``: Huber's function with its knee at 2 pixels of 224.
    mask : Tensor of shape (batch, n_landmarks), optional
        True where the landmark is to count; numbers are weights only as zero or not zero.

    Returns
    -------
    Tensor of shape ()
        The loss; zero, with zero gradient, where nothing is known.

    Examples
    --------
    >>> import torch
    >>> from asmnet.losses import landmark_loss
    >>> prediction, target = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [float("nan"), 0.0]]])
    >>> landmark_loss(prediction, target), landmark_loss(prediction, target, form="norm")
    (tensor(12.5000), tensor(5.))
    """
    check_choice(FORMS, form=form)
    return _landmark_loss(prediction, target, form=form, mask=mask, sample_weight=None)


def _landmark_loss(
    prediction: Tensor, target: Tensor, *, form: str, mask: Tensor | None, sample_weight: Tensor | None
) -> Tensor:
    check_tensor("prediction", prediction, SHAPES)
    prediction = prediction.to(_single(prediction))
    target, seen = _known(prediction, target, mask)
    if sample_weight is not None:
        seen = seen * sample_weight.to(seen.dtype).reshape(-1, 1, 1)
    difference = torch.where(seen > 0, prediction - target, torch.zeros_like(prediction))
    if form == "squared":
        values = difference.square()
    elif form == "norm":
        squared = difference.square().sum(-1, keepdim=True)
        # the root has no gradient at zero: take it where the distance is positive only
        root = torch.where(squared > 0, squared, torch.ones_like(squared)).sqrt()
        values = torch.where(squared > 0, root, torch.zeros_like(root))
    elif form == "wing":
        values = wing(difference)
    else:
        zero = torch.zeros_like(difference)
        # Two pixels of a crop of 224, as the curvature of the wing.
        values = torch.nn.functional.smooth_l1_loss(difference, zero, beta=2 / 224, reduction="none")
    return weighted_mean(values.mean(-1, keepdim=True), seen)


def pose_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the three scaled angles; rows whose target is NaN are left out.

    Parameters
    ----------
    prediction, target : Tensor of shape (batch, 3)
        (yaw, pitch, roll) divided by 65 degrees.

    Returns
    -------
    Tensor of shape ()
        The loss, differentiable.

    Examples
    --------
    >>> import torch
    >>> from asmnet.losses import pose_loss
    >>> pose_loss(torch.zeros(2, 3), torch.tensor([[1.0, 1.0, 2.0], [float("nan")] * 3]))
    tensor(2.)
    """
    check_tensor("prediction", prediction, "(batch, 3)")
    prediction = prediction.to(_single(prediction))
    target, seen = _known(prediction, target, None)
    return ((prediction - target).square() * seen).sum() / (3 * seen.sum()).clamp_min(1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of values by weights of their shape; zero, with zero gradient, where all weights are."""
    mean: Tensor = (weights * values).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return mean


def depth_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of depths (batch, n_landmarks); NaN targets are left out."""
    known = torch.isfinite(target)
    error = torch.where(known, prediction - torch.nan_to_num(target), torch.zeros_like(target))
    return weighted_mean(error.square(), known.to(error.dtype))


@dataclass(frozen=True)
class AsmWeightSchedule:
    """The weight of the ASM term by thirds of the training: 2, then 1, then 0.5.

    Parameters
    ----------
    n_epochs : int
        Length of the training. An epoch i (from 0) lies in the first third where i < n_epochs / 3, in the second where
        i < 2 n_epochs / 3.
    weights : tuple of three floats
        For the thirds in order.
    as_released : bool
        Reproduce the published program, which compares the epoch with the number of steps in an epoch, with whole
        thirds: give ``steps_per_epoch``. With 1049 steps and 150 epochs the weight then stays 2 throughout.
    steps_per_epoch : int, optional
        Only with `as_released`.

    Examples
    --------
    >>> from asmnet import AsmWeightSchedule
    >>> schedule = AsmWeightSchedule(150)
    >>> [schedule(epoch) for epoch in (0, 49, 50, 99, 100, 149)]
    [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]
    >>> AsmWeightSchedule(150, as_released=True, steps_per_epoch=1049)(149)
    2.0
    """

    n_epochs: int
    weights: tuple[float, float, float] = (2.0, 1.0, 0.5)
    as_released: bool = field(default=False, kw_only=True)
    steps_per_epoch: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_counts(n_epochs=self.n_epochs)
        if not isinstance(self.weights, tuple | list) or len(self.weights) != 3:
            raise ValueError(f"weights: got {self.weights!r}; expected three numbers.")
        object.__setattr__(self, "weights", tuple(self.weights))
        for i, weight in enumerate(self.weights):
            check_numbers(above=False, **{f"weights[{i}]": weight})
        if self.as_released and self.steps_per_epoch is None:
            raise ValueError("as_released needs steps_per_epoch, which the published program compares the epoch with.")

    def __call__(self, epoch: int) -> float:
        """Return the weight for `epoch`, counted from 0."""
        if epoch < 0:
            raise ValueError(f"epoch: got {epoch}; expected a count from 0.")
        if self.as_released:
            # The release compares epochs with thirds of the number of steps.
            third = (self.steps_per_epoch or 0) // 3
            part = 0 if epoch < third else 1 if epoch < 2 * third else 2
        else:
            part = min(2, 3 * epoch // self.n_epochs)
        return self.weights[part]


def asm_assisted_loss(
    prediction: Tensor,
    target: Tensor,
    projection: Callable[[Tensor], Tensor] | None,
    *,
    asm_weight: float = 1.0,
    form: str = "squared",
    mask: Tensor | None = None,
    asm_target: Tensor | None = None,
) -> Tensor:
    """Return the ASM-assisted loss: distance to the truth, plus `asm_weight` times that to its projection.

    ``L(P, G) + asm_weight * L(P, A(G))``, where A projects on the shapes that the model deems plausible: a smoother
    target, the same for nearby shapes, towards which the network is drawn at first.

    Parameters
    ----------
    prediction, target : Tensor of shape (batch, n_landmarks, 2)
        In the frame that the projection was fitted in.
    projection : callable or None
        `ASMProjection`, or any function of landmarks; not called where `asm_weight` is 0 or `asm_target` is given.
    asm_weight : float
        The alpha of the paper; `AsmWeightSchedule` gives it by epoch.
    form : {"squared", "norm", "wing", "smooth_l1"}
        ``squared`` is the program's reading of the paper, ``norm`` that of its slides.
    mask : Tensor of shape (batch, n_landmarks), optional
        True where the landmark is known. Shapes with missing landmarks need `asm_target`.
    asm_target : Tensor, optional
        A(G), where it was computed before augmentation and moved with it.

    Returns
    -------
    Tensor of shape ()
        The loss, differentiable.

    Raises
    ------
    ValueError
        Where the term is wanted without `projection` and `asm_target`, or a projected target has missing landmarks.

    Notes
    -----
    In the squared form the loss is ``(1 + asm_weight) L(P, T)`` plus a number that P does not change, with the blended
    target ``T = (G + asm_weight A(G)) / (1 + asm_weight)``: the term smooths the labels, and raises the landmark
    loss against a pose loss beside it. In the norm form P is drawn to A(G) where asm_weight > 1, to G where it is < 1.

    References
    ----------
    Fard, Abdollahi, Mahoor, CVPR Workshops 2021, Eq. (5)-(8).

    Examples
    --------
    >>> import torch
    >>> from asmnet import asm_assisted_loss
    >>> prediction, target = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    >>> asm_assisted_loss(prediction, target, lambda shapes: 0.5 * shapes, asm_weight=2.0)
    tensor(1.5000)
    """
    check_numbers(asm_weight=asm_weight)
    loss = landmark_loss(prediction, target, form=form, mask=mask)
    if asm_weight == 0:
        return loss
    if asm_target is None:
        if projection is None:
            raise ValueError("got neither a projection nor an asm_target; expected one, or asm_weight=0.")
        if not torch.isfinite(target).all():
            raise ValueError(
                "target has missing landmarks, which the projection cannot take; expected asm_target. "
                "Try ShapeBasis.complete before projecting."
            )
        with torch.no_grad():
            asm_target = projection(target)
    return loss + asm_weight * landmark_loss(prediction, asm_target, form=form, mask=mask)


def shape_prior_loss(prediction: Tensor, basis: ShapeBasis | ASMProjection, *, limit: float | None = None) -> Tensor:
    """Mean squared Mahalanobis length of what the shape coefficients exceed the limit by.

    ``mean_i max(0, |b_i| / sqrt(variance_i) - limit)^2``: zero for every plausible prediction, smooth, and, unlike the
    clip, with a gradient that leads back. With ``limit=0`` it is the mean squared Mahalanobis distance per mode.

    Parameters
    ----------
    prediction : Tensor of shape (batch, n_landmarks, 2)
        In the frame that the basis was fitted in.
    basis : ShapeBasis or ASMProjection
        Has `mean`, `components` and `variances`.
    limit : float, optional
        In standard deviations; default is that of the basis where it is a box, else 3.

    Returns
    -------
    Tensor of shape ()
        The loss, differentiable.

    Raises
    ------
    TypeError
        If `basis` is not a ShapeBasis.
    ValueError
        If the prediction has not the shape of the basis.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace
    >>> from asmnet.losses import shape_prior_loss
    >>> basis = SimpleNamespace(mean=torch.zeros(1, 2), components=torch.eye(2), variances=torch.ones(2), limit=3.0)
    >>> shape_prior_loss(torch.tensor([[[5.0, 1.0]]]), basis)
    tensor(2.)
    """
    check_tensor("prediction", prediction, SHAPES)
    if not hasattr(basis, "components"):
        raise TypeError(f"basis: got {type(basis).__name__}; expected a ShapeBasis. Try asm.basis_.")
    wanted = tuple(basis.mean.shape)
    if prediction.shape[1:] != wanted:
        raise ValueError(f"prediction: got shape {tuple(prediction.shape)}; expected shapes of {wanted}, as the basis.")
    if limit is None:
        own = basis.limit
        limit = float(own) if isinstance(own, int | float | Box) else 3.0
    check_numbers(limit=limit)
    prediction = prediction.to(_single(prediction))
    mean, components, variances = (
        torch.as_tensor(np.array(part) if isinstance(part, np.ndarray) else part).to(prediction)
        for part in (basis.mean, basis.components, basis.variances)
    )
    positive = variances > 0
    if not bool(positive.any()):
        return prediction.sum() * 0
    # b = V (x - m), over the standard deviations of the modes; what is within the limit costs nothing.
    coefficients = (prediction - mean).flatten(-2) @ components[positive].T
    excess = (coefficients.abs() / variances[positive].sqrt() - limit).clamp_min(0)
    return excess.square().mean()


def head_terms(
    prediction: Prediction, batch: Batch, *, pose_weight: float = 0.0, depth_weight: float = 0.0
) -> dict[str, Tensor]:
    """Return the weighted terms of pose and depth, where the network has the heads and the batch the labels."""
    terms = {}
    if pose_weight > 0 and prediction.pose is not None and batch.pose is not None:
        terms["pose"] = pose_weight * pose_loss(prediction.pose, batch.pose)
    if depth_weight > 0 and prediction.depth is not None and batch.depth is not None:
        terms["depth"] = depth_weight * depth_loss(prediction.depth, batch.depth)
    return terms


def with_sum(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return terms of a criterion with their sum under ``"loss"``."""
    return {**terms, "loss": torch.stack(list(terms.values())).sum()}


@register_criterion("asm_assisted")
@dataclass(kw_only=True, eq=False)
class AsmAssistedCriterion:
    """The whole loss of a coordinate network: landmarks, the ASM term, and pose.

    ``landmark_weight * (L(P, G) + alpha(epoch) * L(P, A(G))) + pose_weight * L_pose``.

    Parameters
    ----------
    form : str
        See `landmark_loss`.
    asm_form : str, optional
        Form of the ASM term; default is `form`.
    asm_weights : tuple of three floats or None
        By thirds of the training; None leaves the ASM term out.
    landmark_weight, pose_weight : float
        The lambdas of the paper.
    n_epochs : int
        Length of the training.
    as_released : bool
        See `AsmWeightSchedule`.
    steps_per_epoch : int, optional
        See `AsmWeightSchedule`.

    Notes
    -----
    Called with a `Prediction`, a batch (with `landmarks`, `asm_landmarks`, `pose`, `weight`) and the epoch; returns the
    terms by name, the sum under ``"loss"``.

    Examples
    --------
    >>> from asmnet.losses import AsmAssistedCriterion
    >>> AsmAssistedCriterion(n_epochs=150).pose_weight
    0.5
    """

    form: str = "squared"
    asm_form: str | None = None
    asm_weights: tuple[float, float, float] | None = (2.0, 1.0, 0.5)
    landmark_weight: float = 1.0
    pose_weight: float = 0.5
    n_epochs: int = 1
    as_released: bool = False
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        check_choice(FORMS, form=self.form, asm_form=self.asm_form or self.form)
        check_numbers(landmark_weight=self.landmark_weight, pose_weight=self.pose_weight)
        self.schedule: AsmWeightSchedule | None = None
        if self.asm_weights is not None:
            length: dict[str, Any] = {"as_released": self.as_released, "steps_per_epoch": self.steps_per_epoch}
            self.schedule = AsmWeightSchedule(self.n_epochs, self.asm_weights, **length)

    def __call__(self, prediction: Prediction, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Return the terms by name, with their sum under ``"loss"``."""

        def distance(target: Tensor, form: str) -> Tensor:
            return _landmark_loss(prediction.landmarks, target, form=form, mask=None, sample_weight=batch.weight)

        terms = {"landmarks": self.landmark_weight * distance(batch.landmarks, self.form)}
        alpha = self.schedule(epoch) if self.schedule is not None else 0.0
        if alpha > 0:
            if batch.asm_landmarks is None:
                raise ValueError("batch: has no asm_landmarks, which the ASM term of the loss needs.")
            terms["asm"] = self.landmark_weight * alpha * distance(batch.asm_landmarks, self.asm_form or self.form)
        return with_sum(terms | head_terms(prediction, batch, pose_weight=self.pose_weight))
