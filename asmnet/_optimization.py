"""Steps of a training: the rate of each, the optimiser, averaged weights and running statistics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from asmnet._configuration import TrainConfig

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step, counted from 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        # Step 0 must not be lost at a rate of 0.
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    low = config.final_rate
    if config.schedule == "constant":
        factor = 1.0
    elif config.schedule == "cosine":  # Loshchilov and Hutter, "SGDR", 2017, eq. (5)
        factor = low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2
    elif config.schedule == "linear":
        factor = 1 - (1 - low) * progress
    elif config.schedule == "inverse_time":  # the `decay` of the optimizers of Keras, counted in steps
        factor = 1 / (1 + config.inverse_decay * step)
    else:
        factor = config.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
    return config.learning_rate * factor


def make_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    # Norms and biases are not decayed: pulled to 0 they would switch channels off.
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optim = torch.optim
    kinds: dict[str, type[optim.Optimizer]] = {"adamw": optim.AdamW, "adam": optim.Adam, "nadam": optim.NAdam}
    return kinds[config.optimizer](groups, lr=config.learning_rate)  # type: ignore[call-arg]


class WeightAverage:
    """Exponential moving average of weights; the counters and running statistics are averaged too."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.steps = 0

    def update(self, network: nn.Module) -> None:
        self.steps += 1
        # As TensorFlow's ExponentialMovingAverage begins: it reaches back over about a ninth of the steps so far.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = [(self.state[name], value.detach()) for name, value in network.state_dict().items()]
        averaged, sources = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averaged, sources, 1 - decay)
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_([own for own, _ in counters], [value for _, value in counters])

    @contextlib.contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Lend the averaged weights to the network."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(own)


def running_statistics(network: nn.Module) -> list[Tensor]:
    return [b.detach().clone() for name, b in network.named_buffers() if name.endswith(STATISTICS)]


def set_running_statistics(network: nn.Module, values: Sequence[Tensor]) -> None:
    own = [b for name, b in network.named_buffers() if name.endswith(STATISTICS)]
    for buffer, value in zip(own, values, strict=True):
        buffer.copy_(value)
