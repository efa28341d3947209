"""The configuration of a training from a preset, what is changed of it, and further settings by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asmnet.networks import network_spec
from asmnet.training import TrainConfig


def training_config(
    preset: str, changes: dict[str, Any], settings: dict[str, Any], *, pose: bool, variant: str | None, size: int | None
) -> TrainConfig:
    """Return what to train by; changes that are None count as not made."""
    config = _configure(preset, changes, settings)
    if not pose and network_spec(config.network).criterion == "asm_assisted":
        config = _without_pose(config)
    if variant is not None:
        config = config.variant(variant)
    return config if size is None else _with_size(config, size)


def distillation_config(
    preset: str, network: str, changes: dict[str, Any], settings: dict[str, Any], *, size: int
) -> TrainConfig:
    """Return what a teacher or a student of a distillation is trained by.

    The teachers learn by plain squared errors ("L2"), the student by the KD loss alone.
    """
    regresses = network_spec(network).criterion == "asm_assisted"
    if regresses:
        changes = {**changes, "criterion_options": {"form": "squared", "asm_weights": None, "pose_weight": 0.0}}
    config = _configure(preset, {**changes, "network": network}, settings)
    if regresses:  # neither paper nor code trains a pose here
        config = _without_pose(config)
    return config if "preprocessing.size" in settings else _with_size(config, size)


def _configure(preset: str, changes: dict[str, Any], settings: dict[str, Any]) -> TrainConfig:
    """Build the configuration; ``augmentation.flip=0`` reaches into a part of it."""
    # What a preset builds on (the network, the criterion) must be known to it; the rest comes on top.
    plain = {name: value for name, value in settings.items() if name in ("network", "criterion")}
    made = {name: value for name, value in changes.items() if value is not None}
    config: TrainConfig = getattr(TrainConfig, preset)(**made, **plain)
    return config.with_settings(settings)


def _without_pose(config: TrainConfig) -> TrainConfig:
    """Leave out the head of the pose: one that is not trained must not stay."""
    return replace(config, network_options={**config.network_options, "pose": False})


def _with_size(config: TrainConfig, size: int) -> TrainConfig:
    return replace(config, preprocessing=replace(config.preprocessing, size=size))
