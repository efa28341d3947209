"""The assistive loss and the KD loss of two-teacher distillation, as drawn and as released.

Per coordinate, with g the truth, p the student, t a teacher: ``d = |p - g|`` and ``T = |t - g|``. The teacher is
reflected to the student's side of the truth, so that only these two distances matter, and carries no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asmnet._criteria import register_criterion
from asmnet._options import check_kind, check_mask, check_tensor
from asmnet._prediction import Prediction
from asmnet.data import Batch
from asmnet.losses import head_terms, weighted_mean, with_sum
from shape_models._options import check_choice, check_flags, check_numbers


@dataclass(frozen=True)
class TeacherWeights:
    """Weights of one teacher in :func:`assistive_loss`.

    Parameters
    ----------
    alpha : float
        Weight where the student is farther from the truth than the teacher: it is pulled to the teacher.
    alpha_negative : float
        Weight (negative) where the student is closer than the teacher: it is pushed on, towards the truth.
    beta : float
        Fraction of T below which the influence fades (`low_influence`) or stops.
    low_influence : bool
        Whether the weight falls linearly to 0 below ``beta T`` (continuous) or is 0 there (a jump).

    Examples
    --------
    >>> TeacherWeights(alpha=0.9, alpha_negative=-0.45, beta=0.4).low_influence
    True
    """

    alpha: float
    alpha_negative: float
    beta: float
    low_influence: bool = True

    def __post_init__(self) -> None:
        check_flags(low_influence=self.low_influence)
        check_numbers(alpha=self.alpha, beta=self.beta)
        if not -math.inf < self.alpha_negative <= 0:
            raise ValueError(f"alpha_negative: got {self.alpha_negative}; expected a finite number, at most 0.")


@dataclass(frozen=True)
class KDPreset:
    """The constants of :func:`kd_loss`.

    Parameters
    ----------
    tough, tolerant : TeacherWeights
        Of the teacher trained on the landmarks and of the one trained on landmarks smoothed by the shape model.
    main_weight : float
        Weight of the main loss.
    main : {"figure", "tolerant"}
        Which main loss; see :func:`kd_main_loss`.

    Examples
    --------
    >>> KD_PRESETS["paper"].main_weight
    2.5
    """

    tough: TeacherWeights
    tolerant: TeacherWeights
    main_weight: float
    main: str


# The figures of KD-Loss, and the constants of the program that its authors released, which differ.
KD_PRESETS = {
    "paper": KDPreset(
        tough=TeacherWeights(0.9, -0.45, 0.4),
        tolerant=TeacherWeights(0.9, -0.45, 0.4),
        main_weight=2.5,
        main="figure",
    ),
    "released": KDPreset(
        tough=TeacherWeights(1.9, -0.45, 0.15, low_influence=False),
        tolerant=TeacherWeights(1.8, -0.4, 0.15, low_influence=False),
        main_weight=2.0,
        main="tolerant",
    ),
}


def _same_shape(**tensors: Tensor) -> None:
    first = next(iter(tensors))
    for name, value in tensors.items():
        check_tensor(name, value, "(...)", like=None if name == first else (first, tensors[first]))


def _reduce(values: Tensor, mask: Tensor | None, reduction: str) -> Tensor:
    check_choice(("mean", "sum", "none"), reduction=reduction)
    if mask is not None:
        mask = check_mask(mask, values.shape, broadcasts=True)
    if reduction == "none":
        return values if mask is None else values * mask
    if mask is not None:
        values = values[mask]
        if values.numel() == 0:
            raise ValueError("got a mask that excludes every coordinate; expected at least one that counts.")
    return values.mean() if reduction == "mean" else values.sum()


def assistive_loss(
    prediction: Tensor,
    target: Tensor,
    teacher: Tensor,
    *,
    weights: TeacherWeights = KD_PRESETS["paper"].tough,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return ALoss, the mean of ``w(d, T) |T - d|``.

    ``w = alpha`` for d >= T, ``alpha_negative`` for beta T <= d < T, and below that ``alpha_negative d / (beta T)``
    with `low_influence` (continuous everywhere), else 0. Without `low_influence` a teacher without error (T = 0) gives
    no assistance, as in the released code.

    Parameters
    ----------
    prediction, target, teacher : Tensor of one shape
        Coordinates of student, truth and teacher in the same units. The teacher gets no gradient.
    weights : TeacherWeights
        The constants.
    mask : Tensor, optional
        True for coordinates that count; broadcast to the shape of `prediction`.
    reduction : {"mean", "sum", "none"}
        Over the coordinates that count.

    Returns
    -------
    Tensor
        A scalar, or the terms, as `reduction` says.

    Raises
    ------
    ValueError
        When shapes differ or nothing counts.

    Examples
    --------
    The teacher is 0.4 away from the truth, the student 0.8:

    >>> import torch
    >>> figure = TeacherWeights(alpha=1.0, alpha_negative=-0.5, beta=0.4)
    >>> float(assistive_loss(torch.tensor([0.8]), torch.tensor([0.0]), torch.tensor([-0.4]), weights=figure))
    0.4000000059604645
    """
    _same_shape(prediction=prediction, target=target, teacher=teacher)
    check_kind("weights", weights, TeacherWeights)
    d = (prediction - target).abs()
    limit = (teacher - target).abs().detach()
    # Beyond the error of the teacher the student is drawn to it, within it is pushed off, ever less below beta of it.
    beta = weights.beta * limit
    far = d >= limit if weights.low_influence else (d > limit) & (limit > 0)
    weight = torch.where(far, torch.full_like(d, weights.alpha), torch.full_like(d, weights.alpha_negative))
    near = ~far & (d < beta)
    if weights.low_influence:
        safe = torch.where(near, beta, torch.ones_like(beta))
        weight = torch.where(near, weights.alpha_negative * d / safe, weight)
    else:
        weight = torch.where(near | (limit == 0), torch.zeros_like(weight), weight)
    return _reduce(weight * (limit - d).abs(), mask, reduction)


def kd_main_loss(
    prediction: Tensor,
    target: Tensor,
    tolerant: Tensor | None = None,
    *,
    form: str = "figure",
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the main loss of the student.

    ``"figure"``: d up to 0.5, then d² + 0.25; value and slope are continuous. ``"tolerant"``, the released code: with
    τ the error of the tolerant teacher at the coordinate, 3 d up to τ, then d² + 3 τ - τ²; the slope falls from 3 to
    2 d.

    Parameters
    ----------
    prediction, target : Tensor of one shape
        Coordinates, student and truth; the knee 0.5 is in the units of coordinates normalised by the crop.
    tolerant : Tensor of the same shape, optional
        Coordinates of the tolerant teacher; needed by ``form="tolerant"``.
    form : {"figure", "tolerant"}
        Which loss.
    mask, reduction : optional
        As in :func:`assistive_loss`.

    Returns
    -------
    Tensor
        A scalar, or the terms, as `reduction` says.

    Raises
    ------
    ValueError
        For an unknown form, or the form ``"tolerant"`` without that teacher.

    Examples
    --------
    >>> import torch
    >>> float(kd_main_loss(torch.tensor([1.0]), torch.tensor([0.0])))
    1.25
    """
    check_choice(("figure", "tolerant"), form=form)
    _same_shape(prediction=prediction, target=target)
    d = (prediction - target).abs()
    if form == "figure":
        # Both pieces have value 0.5 and slope 1 at the knee.
        values = torch.where(d <= 0.5, d, d.square() + 0.25)
    else:
        if tolerant is None:
            raise ValueError("got form='tolerant' without the tolerant teacher; pass its coordinates.")
        _same_shape(prediction=prediction, target=target, tolerant=tolerant)
        tau = (tolerant - target).abs().detach()
        # Both pieces have value 3 tau at the knee, which is the error of the teacher.
        values = torch.where(d <= tau, 3 * d, d.square() + 3 * tau - tau.square())
    return _reduce(values, mask, reduction)


def kd_loss(
    prediction: Tensor,
    target: Tensor,
    tough: Tensor,
    tolerant: Tensor,
    *,
    preset: str | KDPreset = "paper",
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the KD loss: main loss plus the assistive losses of the tough and of the tolerant teacher.

    Parameters
    ----------
    prediction, target, tough, tolerant : Tensor of one shape
        Coordinates of student, truth and both teachers, normalised by the crop.
    preset : {"paper", "released"} or KDPreset
        ``"paper"``, the constants read from the published figures (beta 0.4, alpha 0.9 and -0.45, main 2.5);
        ``"released"``, those of the released code (beta 0.15, alpha 1.9, -0.45 and 1.8, -0.4, main 2).
    mask, reduction : optional
        As in :func:`assistive_loss`.

    Returns
    -------
    Tensor
        A scalar, or the terms, as `reduction` says.

    Raises
    ------
    ValueError
        For an unknown preset.

    References
    ----------
    Fard, Mahoor, "Facial landmark points detection using knowledge distillation-based neural networks", CVIU 2022.

    Examples
    --------
    >>> import torch
    >>> one = lambda x: torch.tensor([x], dtype=torch.float64)
    >>> round(float(kd_loss(one(0.35), one(0.0), one(0.4), one(0.49))), 4)
    0.7895
    """
    if isinstance(preset, str):
        check_choice(KD_PRESETS, preset=preset)
        preset = KD_PRESETS[preset]
    main = kd_main_loss(prediction, target, tolerant, form=preset.main, mask=mask, reduction=reduction)
    return (
        preset.main_weight * main
        + assistive_loss(prediction, target, tough, weights=preset.tough, mask=mask, reduction=reduction)
        + assistive_loss(prediction, target, tolerant, weights=preset.tolerant, mask=mask, reduction=reduction)
    )


@register_criterion("kd")
@dataclass(kw_only=True, eq=False)
class KDCriterion:
    """The KD loss as a criterion of the trainer: truth, and the teachers among the companions of the batch.

    Parameters
    ----------
    preset : str
        See `kd_loss`.
    teachers : sequence of {"tough", "tolerant"}
        Which teachers assist; a missing one leaves its assistive loss out. The main loss of the preset "released"
        needs the tolerant one.
    pose_weight : float
        Of the mean squared pose error, for students with a pose head.

    Examples
    --------
    >>> from asmnet.distillation import KDCriterion
    >>> KDCriterion(teachers=("tough",)).teachers
    ('tough',)
    """

    preset: str = "paper"
    teachers: Sequence[str] = ("tough", "tolerant")
    pose_weight: float = 0.0

    def __post_init__(self) -> None:
        check_choice(KD_PRESETS, preset=self.preset)
        self.teachers = tuple(self.teachers)
        if not set(self.teachers) <= {"tough", "tolerant"}:
            raise ValueError(f"teachers: got {self.teachers}; expected 'tough', 'tolerant', both or none.")
        if KD_PRESETS[self.preset].main == "tolerant" and "tolerant" not in self.teachers:
            raise ValueError(f"teachers: the main loss of the preset {self.preset!r} needs the tolerant teacher.")
        check_numbers(pose_weight=self.pose_weight)

    def __call__(self, prediction: Prediction, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Return the terms by name, with their sum under ``"loss"``."""
        missing = [name for name in self.teachers if name not in batch.companions]
        if missing:
            raise ValueError(
                f"the faces carry no predictions of the {' and the '.join(missing)} teacher. "
                "Try dataset.with_companion(name, landmarks), or asmnet.distillation.distill."
            )
        target = batch.landmarks
        teachers = {name: batch.companions[name] for name in self.teachers}
        seen = torch.isfinite(target)
        for points in teachers.values():
            seen = seen & torch.isfinite(points)
        # What does not count must be finite all the same, or its gradient would be NaN.
        points = torch.where(seen, prediction.landmarks, torch.zeros_like(target))
        truth = torch.where(seen, target, torch.zeros_like(target))
        count = seen.to(target.dtype) * batch.weight[:, None, None]
        known = {name: torch.where(seen, value, torch.zeros_like(value)) for name, value in teachers.items()}
        constants = KD_PRESETS[self.preset]
        main = kd_main_loss(points, truth, known.get("tolerant"), form=constants.main, reduction="none")
        terms = {"main": constants.main_weight * weighted_mean(main, count)}
        for name in self.teachers:
            weights = constants.tough if name == "tough" else constants.tolerant
            assistance = assistive_loss(points, truth, known[name], weights=weights, reduction="none")
            terms[name] = weighted_mean(assistance, count)
        return with_sum(terms | head_terms(prediction, batch, pose_weight=self.pose_weight))
