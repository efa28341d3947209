"""Weights of a trained model for a training that starts from them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from asmnet._options import check_kind
from asmnet.checkpoints import differing, load_pretrained, refuse_other_weights
from asmnet.networks import build_network
from asmnet.training import TrainConfig

__all__ = ["initial_weights", "transfer_trunk"]


def initial_weights(name_or_path: str | Path, config: TrainConfig) -> dict[str, Tensor]:
    """Return the weights of a trained model for a training that starts from them.

    Parameters
    ----------
    name_or_path : str or path
        A shipped name or a file of `asmnet.checkpoints.save_pretrained`.
    config : TrainConfig
        Of the training that will start from the weights.

    Returns
    -------
    dict of str to Tensor
        For ``initial=`` of `asmnet.train`.

    Raises
    ------
    ValueError
        When the network of `config` has other weights; see `transfer_trunk` for other landmarks.

    Examples
    --------
    >>> from asmnet import TrainConfig
    >>> from asmnet.transfer import initial_weights
    >>> config = TrainConfig.modern(network="hourglass-small", network_options={"depth_head": True})
    >>> len(initial_weights("hourglass-68", config)) > 100
    True
    """
    check_kind("config", config, TrainConfig)
    weights = load_pretrained(name_or_path).network.state_dict()
    wanted = build_network(config.network, config.n_landmarks, **config.network_options).state_dict()
    whose = f"{config.network} with these options and {config.n_landmarks} landmarks"
    hint = "expected its own network and options, which asmnet info shows. Try trunk (--trunk) for other landmarks"
    refuse_other_weights(f"initial: {name_or_path}", weights, wanted, whose, hint)
    return weights


def transfer_trunk(name_or_path: str | Path, config: TrainConfig) -> dict[str, Tensor]:
    """Return weights that start from the trunk of a model trained on other landmarks; what depends on them is new.

    Parameters
    ----------
    name_or_path : str or path
        A shipped name or a file of `asmnet.checkpoints.save_pretrained`.
    config : TrainConfig
        Of the training that will start from the weights; its seed draws those of the heads.

    Returns
    -------
    dict of str to Tensor
        For ``initial=`` of `asmnet.train`.

    Raises
    ------
    ValueError
        When less than half of the weights are those of the network of `config`.

    Examples
    --------
    >>> from asmnet import TrainConfig, transfer_trunk
    >>> weights = transfer_trunk("hourglass-68", TrainConfig.few(40, n_landmarks=12))
    >>> next(value.shape[0] for name, value in weights.items() if "head" in name)
    12
    """
    check_kind("config", config, TrainConfig)
    trained = load_pretrained(name_or_path).network.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        weights = build_network(config.network, config.n_landmarks, **config.network_options).state_dict()
    new = differing(weights, trained)
    shared = {name: trained[name] for name in weights if name not in new}
    total, kept = (sum(value.numel() for value in part.values()) for part in (weights, shared))
    # Heads are a small part of every network here: less than half means another trunk.
    if 2 * kept < total:
        raise ValueError(
            f"trunk: {name_or_path} shares {kept:,} of the {total:,} weights of {config.network} with these options; "
            "expected at least half. Try its own network and options; asmnet info shows them."
        )
    return weights | shared
