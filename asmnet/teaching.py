"""Teachers that look at every training crop themselves, so that no warp, cover or unlabelled image lacks a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asmnet._assistance import KDCriterion
from asmnet._criteria import register_criterion
from asmnet._options import check_kind, check_options
from asmnet._prediction import Prediction
from asmnet.checkpoints import load_pretrained
from asmnet.data import Batch
from asmnet.losses import with_sum
from asmnet.probability import IntegralCriterion
from shape_models._options import check_choice, check_numbers

__all__ = ["TaughtCriterion"]


@register_criterion("taught")
class TaughtCriterion:
    """The loss of a student whose teachers predict each augmented crop as it is.

    With ``form="blend"``: ``(1 - fraction) L(student, truth) + fraction mean_t L(student, teacher t)``, where L is the
    mean distance of the landmarks and, where student and teacher draw probability maps, the divergence of the maps;
    faces without labels (NaN) learn from the teachers alone. With ``form="kd"``: the loss of two-teacher distillation
    on the coordinates (`asmnet.distillation.kd_loss`, constants of the paper), and the form of the maps.

    Parameters
    ----------
    teachers : mapping of str to path
        Models written by `save_pretrained`; for ``"kd"`` the names are ``"tough"`` and ``"tolerant"``. Their crops must
        have the margin of the student's; images are brought to the size that each teacher was trained at.
    form : {"blend", "kd"}
        How teachers and truth are joined.
    fraction : float
        Weight of the teachers in ``"blend"``.
    pose_weight : float
        Of the mean squared pose error.
    options : mapping
        For `IntegralCriterion`, which measures maps and distances.

    Notes
    -----
    Called with a `Prediction`, a batch and the epoch; returns the terms by name, the sum under ``"loss"``.

    References
    ----------
    Fard, Mahoor: Facial landmark points detection using knowledge distillation-based neural networks, CVIU 2022.

    Examples
    --------
    >>> from asmnet.teaching import TaughtCriterion
    >>> TaughtCriterion(teachers={}, form="kd").form
    'kd'
    """

    def __init__(
        self,
        *,
        teachers: Mapping[str, str | Path],
        form: str = "blend",
        fraction: float = 0.5,
        pose_weight: float = 0.5,
        options: Mapping[str, Any] | None = None,
    ):
        check_choice(("blend", "kd"), form=form)
        check_kind("teachers", teachers, Mapping)
        check_numbers(fraction=fraction, most=1)
        check_options("options", IntegralCriterion, dict(options or {}), ("pose_weight",))
        self.form, self.fraction = form, fraction
        self.integral = IntegralCriterion(pose_weight=pose_weight, **dict(options or {}))
        self.models = {name: load_pretrained(str(path)) for name, path in teachers.items()}
        self.networks: dict[str, nn.Module] = {
            name: model.network.eval().requires_grad_(False) for name, model in self.models.items()
        }
        self.kd = KDCriterion(teachers=tuple(teachers)) if form == "kd" else None
        self.device: torch.device | None = None

    @torch.no_grad()
    def _predict(self, images: Tensor) -> dict[str, Prediction]:
        if self.device != images.device:
            self.device = images.device
            for network in self.networks.values():
                network.to(images.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = {}
        for name, network in self.networks.items():
            size = self.models[name].preprocessing.size
            shown = images
            if size != images.shape[-1]:
                shown = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
            # Teachers are only read: their heads answer in float32 all the same.
            with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
                found[name] = network(shown.contiguous(memory_format=torch.channels_last))
        return found

    def _terms(
        self, prediction: Prediction, target: Tensor, weight: Tensor, maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        wanted = None if maps is None else [_resized(maps, drawn) for drawn in prediction.heatmaps]
        return self.integral.landmark_terms(prediction, target, weight, wanted)

    def __call__(self, prediction: Prediction, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Return the terms by name, with their sum under ``"loss"``."""
        taught = self._predict(batch.images)
        truth = self._terms(prediction, batch.landmarks, batch.weight)
        if self.kd is not None:
            companions = {name: found.landmarks.float() for name, found in taught.items()}
            known = replace(batch, companions=companions, pose=None)
            terms = {"kd": self.integral.landmark_weight * self.kd(prediction, known, epoch)["loss"]}
            if "maps" in truth:
                terms["maps"] = truth["maps"]
        else:
            fraction = self.fraction if taught else 0.0
            terms = {name: (1 - fraction) * value for name, value in truth.items()}
            everyone = torch.ones_like(batch.weight)
            for name, found in taught.items():
                maps = found.heatmaps[-1].float() if found.heatmaps else None
                for term, value in self._terms(prediction, found.landmarks.float(), everyone, maps).items():
                    terms[f"{term} of {name}"] = fraction / len(taught) * value
        return with_sum(terms | self.integral.other_terms(prediction, batch))


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """Bring probability maps to the size of others: pooled or spread, and summing to 1 again."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    sized = functional.interpolate(maps, like.shape[-2:], mode="area")
    return sized / sized.sum((-2, -1), keepdim=True).clamp_min(torch.finfo(sized.dtype).tiny)
