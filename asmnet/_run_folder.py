"""What a training has come to, and the folder that keeps it: checkpoints, ``metrics.csv``, and what it belongs to."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asmnet._configuration import TrainConfig
from asmnet._optimization import WeightAverage
from asmnet._options import by_new_names, with_old_names
from asmnet.checkpoints import load_optimizer, optimizer_tensors, read_tensors, tensors_under, write_tensors
from asmnet.data import LandmarkDataset
from shape_models._files import write_text


@with_old_names
@dataclass(frozen=True)
class EpochRecord:
    """One line of ``metrics.csv``.

    Attributes
    ----------
    epoch : int
        From 1.
    learning_rate, loss : float
        Rate of the last step, mean training loss.
    nme : float
        Mean validation error, NaN without a validation set.
    pose_mae : float
        Mean absolute validation error of the three angles in degrees, NaN without labels.
    seconds : float
        Of the epoch, validation included.
    images_per_second : float
        Training samples over the time of training.
    data_fraction : float
        Fraction of the training time spent making batches.

    Examples
    --------
    >>> from asmnet.training import EpochRecord
    >>> EpochRecord(1, 1e-3, 0.5, 0.04, float("nan"), 10.0, 90.0, 0.05).epoch
    1
    """

    epoch: int
    learning_rate: float
    loss: float
    nme: float
    pose_mae: float
    seconds: float
    images_per_second: float
    data_fraction: float


def data_digest(dataset: LandmarkDataset) -> str:
    """Return a hash of the faces of a set: names without folders, landmarks, weights and images."""
    digest = hashlib.sha256(json.dumps([Path(name).name for name in dataset.names]).encode())
    for array in (dataset.landmarks, dataset.weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    # In parts, since the images may be a map of a file larger than the memory.
    for start in range(0, len(dataset), 64):
        digest.update(dataset.images[start : start + 64].tobytes())
    return digest.hexdigest()


@dataclass
class Run:
    """Everything of a training that goes on changing, with the folder where it is kept.

    Attributes
    ----------
    folder : Path
        Of ``last.safetensors``, ``best.safetensors`` and ``metrics.csv``.
    config : TrainConfig
        Of the training.
    digests : dict of str to list of str
        Of the faces, by `data_digest`.
    network, average, optimizer : Module, WeightAverage, Optimizer
        Their states are saved and restored in place.
    history : list of EpochRecord
        One for each finished epoch.
    best, best_epoch : float, int
        The least validation error and its epoch, from 1.
    """

    folder: Path
    config: TrainConfig
    digests: dict[str, list[str]]
    network: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    history: list[EpochRecord] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.safetensors"

    def append(self, record: EpochRecord) -> None:
        """Add an epoch."""
        self.history.append(record)
        if record.nme < self.best or math.isnan(record.nme) or self.best_epoch == 0:
            self.best, self.best_epoch = record.nme, record.epoch

    def save(self) -> None:
        """Write the checkpoint of the last epoch, the weights where it is the best one, and ``metrics.csv``."""
        done = len(self.history)
        header: dict[str, Any] = {
            "kind": "training",
            "config": self.config.to_dict(),
            "data": self.digests,
            "epoch": done,
            "history": [asdict(record) for record in self.history],
            "best": self.best,
            "best_epoch": self.best_epoch,
            "average_steps": self.average.steps,
        }
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state.items()}
        state, header["optimizer"] = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{name}": value for name, value in state.items()}
        if self.best_epoch == done:
            write_tensors(
                self.folder / "best.safetensors",
                self.average.state,
                {"kind": "weights", "config": self.config.to_dict(), "epoch": done, "nme": self.best},
            )
        write_tensors(self.last, tensors, header)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(EpochRecord.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in self.history)
        write_text(self.folder / "metrics.csv", text.getvalue())

    def restore(self, device: torch.device) -> int:
        """Take up the run of the folder, and return how many epochs it has; another's is refused."""
        tensors, header = read_tensors(self.last)
        # As JSON, in which tuples and lists are alike; from_dict adds the settings that a run before them did not have.
        saved, own = (
            {name: json.dumps(value, sort_keys=True) for name, value in settings.to_dict().items()}
            for settings in (TrainConfig.from_dict(header["config"]), self.config)
        )
        differing = [name for name in own if saved[name] != own[name]]
        if differing:
            raise ValueError(
                f"resume: the run in {self.folder} has other settings of {', '.join(differing)}. "
                "Try another folder, or the settings of that run."
            )
        other = [name for name, own in self.digests.items() if header.get("data", self.digests)[name] != own]
        if other:
            raise ValueError(
                f"resume: the run in {self.folder} has other {' and '.join(other)} faces than those given (names, "
                "landmarks or images differ). Try another folder, its own data, or overwrite (--overwrite)."
            )
        tensors = {name: value.to(device) for name, value in tensors.items()}
        self.network.load_state_dict(tensors_under(tensors, "network."))
        self.average.state = tensors_under(tensors, "average.")
        self.average.steps = header["average_steps"]
        load_optimizer(self.optimizer, tensors_under(tensors, "optimizer."), header["optimizer"])
        self.history = [EpochRecord(**by_new_names(EpochRecord, record)) for record in header["history"]]
        self.best, self.best_epoch = header["best"], header["best_epoch"]
        return int(header["epoch"])
