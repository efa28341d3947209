"""What a network makes of an input of some size, without a number of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def run_shadow(
    network: nn.Module,
    size: int,
    kinds: tuple[type[nn.Module], ...] = (),
    look: Callable[[nn.Module, Any, Any], None] | None = None,
    *,
    training: bool = False,
) -> Any:
    """Run a copy that has shapes but no numbers on two images, and look at the ends of parts of some kinds."""
    shadow = copy.deepcopy(network).to("meta").train(training)
    for module in shadow.modules():
        if look is not None and isinstance(module, kinds):
            module.register_forward_hook(look)
    with torch.no_grad():
        return shadow(torch.zeros(2, 3, size, size, device="meta"))
