"""One training loop for every network of the package: resumable, reproducible, on one process or several."""

from __future__ import annotations

import contextlib
import copy
import csv
import ctypes
import hashlib
import inspect
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from asmnet._forward import predict_crops
from asmnet._options import check_fields, check_name, check_options
from asmnet._pose_labels import DEGREES
from asmnet.augmentation import Augmentation
from asmnet.checkpoints import load_optimizer, optimizer_tensors, read_tensors, write_tensors
from asmnet.data import Batch, LandmarkDataset, Preprocessing
from asmnet.losses import build_criterion, check_criterion
from asmnet.networks import build_network, network_spec
from shape_models._files import write_text

__all__ = [
    "EpochRecord",
    "NonFiniteLossError",
    "TrainConfig",
    "TrainResult",
    "keep_freed_memory",
    "predict_dataset",
    "train",
]

logger = logging.getLogger(__name__)


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; `path` holds the batch that did it.

    Parameters
    ----------
    message : str
        What is said.
    path : path
        Where the batch was saved.

    Examples
    --------
    >>> from asmnet.training import NonFiniteLossError
    >>> issubclass(NonFiniteLossError, ArithmeticError)
    True
    """

    def __init__(self, message: str, path: Path):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training: to the bit on the processor of one machine.

    On a graphics card the order and the augmentation are those of the seed too, but sums may differ in the last bits.

    Parameters
    ----------
    network : str
        See `asmnet.networks.network_names`.
    network_options : dict
        For its constructor.
    n_landmarks : int
        Number of points.
    preprocessing : Preprocessing
        The input of the network.
    augmentation : Augmentation
        Of the training crops.
    criterion : str, optional
        Default is the one the network is registered with.
    criterion_options : dict
        For its constructor.
    asm_share : float
        Fraction of variance of the shape model behind the ASM term.
    epochs : int
        Passes through the training set.
    batch_size : int
        Samples of one step, all processes and accumulated parts together.
    accumulate : int
        Parts a batch is cut into, one after the other, where memory is short.
    optimizer : {"adamw", "adam", "nadam"}
        Adam adds the decay to the gradient, AdamW applies it to the weights.
    learning_rate, weight_decay : float
        At the peak of the schedule.
    schedule : {"cosine", "constant", "linear", "inverse_time", "steps"}
        After the warm-up: half a cosine to `final_rate` times the rate; no change; a straight line to it; the rate over
        (1 + `inverse_decay` * step), as the paper's program does; times `step_factor` at each of `step_epochs`.
    warmup_epochs : float
        The rate rises linearly from 0.
    final_rate, inverse_decay, step_factor : float
        See `schedule`.
    step_epochs : tuple of int
        See `schedule`.
    ema : float
        Decay of the averaged weights, which are the ones evaluated and shipped; 0 for none.
    clip_gradient : float
        Largest norm of the gradient; 0 for no limit.
    patience : int
        Stop after so many epochs without a better validation error; 0 for never.
    extra_share : float
        How many samples of the extra training sets join each epoch, as a fraction of the training set.
    drop_last : bool
        Leave out an incomplete last batch.
    mixed_precision : {"cuda", "always", "never"}
        Where the trunk of the network runs in bfloat16; its heads and the loss never do. ``"cuda"`` means graphics
        cards that have bfloat16. On processors with bfloat16 units it doubles the speed of heat-map networks; networks
        of depthwise convolutions, such as ASMNet, are faster without it.
    flip_average : bool
        Average the prediction with the mirrored one of the mirror image when validating.
    picture_epochs : int
        Draw ``curves.png`` and validation faces each so many epochs (needs matplotlib); 0 for never.
    seed : int
        Of the weights, the order and the augmentation.

    Examples
    --------
    >>> from asmnet import TrainConfig
    >>> TrainConfig.paper().batch_size, TrainConfig.modern().optimizer
    (3, 'adamw')
    """

    network: str = "asmnet"
    network_options: dict[str, Any] = field(default_factory=dict)
    n_landmarks: int = 68
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    criterion: str | None = None
    criterion_options: dict[str, Any] = field(default_factory=dict)
    asm_share: float = 0.9
    epochs: int = 150
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup_epochs: float = 3.0
    final_rate: float = 0.0
    inverse_decay: float = 1e-5
    step_factor: float = 0.2
    step_epochs: tuple[int, ...] = ()
    ema: float = 0.999
    clip_gradient: float = 5.0
    patience: int = 0
    extra_share: float = 0.0
    drop_last: bool = True
    mixed_precision: str = "cuda"
    flip_average: bool = False
    picture_epochs: int = 0
    seed: int = 0

    def __post_init__(self):
        check_fields(self)
        spec = network_spec(self.network)
        check_options(f"network_options of {self.network}", spec.factory, self.network_options, ("n_landmarks",))
        check_criterion(self.criterion or spec.criterion, self.criterion_options)
        if self.preprocessing.size % spec.stride:
            raise ValueError(
                f"preprocessing.size: got {self.preprocessing.size}; {self.network} expects a multiple of "
                f"{spec.stride} pixels."
            )
        for name in ("epochs", "batch_size", "accumulate", "n_landmarks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected at least 1.")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size: got {self.batch_size}; expected a multiple of accumulate={self.accumulate}.")
        choices_of = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("mixed_precision", PRECISIONS))
        for name, choices in choices_of:
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected one of {', '.join(choices)}.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: got {self.ema}; expected 0 to less than 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: got {self.learning_rate}; expected a positive number.")

    @classmethod
    def paper(cls, **changes: Any) -> TrainConfig:
        """Return the published settings: Adam at 1e-2 with inverse-time decay, batch 3, 150 epochs, squared losses.

        Parameters
        ----------
        **changes : object
            Fields that differ.

        Returns
        -------
        TrainConfig
            These settings.
        """
        base: dict[str, Any] = {
            "preprocessing": Preprocessing.paper(),
            "augmentation": Augmentation(
                rotation=16.0, scale=0.1, shift=0.02, aspect=0.1, flip=0.0, brightness=0.0, contrast=0.0,
                saturation=0.0, colour=0.0, grey=0.0, gamma=0.0, blur=0.0, noise=0.04, occlusion=0.0,
            ),
            "criterion_options": {"form": "squared", "pose_weight": 0.5},
            "epochs": 150,
            "batch_size": 3,
            "optimizer": "adam",
            "learning_rate": 1e-2,
            "weight_decay": 0.0,
            "schedule": "inverse_time",
            "warmup_epochs": 0.0,
            "ema": 0.0,
            "clip_gradient": 0.0,
        }  # fmt: skip
        return cls(**{**base, **changes})

    @classmethod
    def kd(cls, **changes: Any) -> TrainConfig:
        """Return the published settings of KD-Loss: Adam at 1e-3 with inverse-time decay, batch 70, 150 epochs.

        The paper trains teachers and student alike, without a pose head, on crops prepared as ASMNet's.

        Parameters
        ----------
        **changes : object
            Fields that differ.

        Returns
        -------
        TrainConfig
            These settings.
        """
        base: dict[str, Any] = {"learning_rate": 1e-3, "inverse_decay": 1e-4, "batch_size": 70}
        base["criterion_options"] = {}
        if (changes.get("criterion") or network_spec(changes.get("network", "asmnet")).criterion) == "asm_assisted":
            base["criterion_options"] = {"form": "squared", "asm_weights": None, "pose_weight": 0.0}
            base["network_options"] = {"pose": False}
        return cls.paper(**{**base, **changes})

    @classmethod
    def sdu(cls, **changes: Any) -> TrainConfig:
        """Return the published settings of sdu-face-alignment: Nadam, two steps down, truncated targets of height 20.

        The rotation, published as uniform within 40 degrees, is a normal one cut there; the box is that of the
        landmarks, without the published shift by a number of pixels that differs from test set to test set.

        Parameters
        ----------
        **changes : object
            Fields that differ.

        Returns
        -------
        TrainConfig
            These settings.
        """
        network = changes.get("network", "hourglass")
        if network_spec(network).criterion != "heatmap":
            raise ValueError(f"network: got {network!r}; the settings of sdu expected one that draws heat maps.")
        base: dict[str, Any] = {
            "network": network,
            "preprocessing": Preprocessing(size=128, margin=1.2, mean=0.5, std=128 / 255),
            "augmentation": replace(Augmentation.none(), rotation=20.0, scale=0.18, flip=0.5),
            "criterion_options": {"target": "published"},
            "epochs": 45,
            "batch_size": 20,
            "optimizer": "nadam",
            "learning_rate": 2.5e-4,
            "weight_decay": 0.0,
            "schedule": "steps",
            "step_factor": 0.2,
            "step_epochs": (20, 35),
            "warmup_epochs": 0.0,
            "ema": 0.0,
            "clip_gradient": 0.0,
            "seed": 727,
        }
        return cls(**{**base, **changes})

    @classmethod
    def modern(cls, **changes: Any) -> TrainConfig:
        """Return settings that work: AdamW, warm-up and cosine, averaged weights, wing loss or heat maps of height 10.

        Maps of that height are learned sooner than maps of height 1, and make a depth head look where the landmark is.

        Parameters
        ----------
        **changes : object
            Fields that differ.

        Returns
        -------
        TrainConfig
            These settings.
        """
        network = changes.get("network", "asmnet")
        base: dict[str, Any] = {"network_options": {"dropout": 0.1} if network == "asmnet" else {}}
        criterion = changes.get("criterion") or network_spec(network).criterion
        if criterion == "asm_assisted":
            base["criterion_options"] = {"form": "wing", "asm_weights": (0.5, 0.25, 0.0), "pose_weight": 3.0}
        elif criterion == "heatmap":
            base |= {"criterion_options": {"peak": 10.0}, "batch_size": 16, "learning_rate": 3e-3}
        return cls(**{**base, **changes})

    @classmethod
    def few(cls, n_images: int, **changes: Any) -> TrainConfig:
        """Return settings for few annotated images: small heat maps, strong augmentation, as many steps as many images.

        Heat maps need fewer images than coordinates, and a shape model can be fitted to them
        (`shape_models.search.fit_heatmaps`). A trunk that was trained on another set of landmarks is worth more than
        any setting: see `asmnet.transfer_trunk`.

        Parameters
        ----------
        n_images : int
            Size of the training set. The network sees about 8000 crops, at least ten of each image.
        **changes
            Other settings of `TrainConfig`.

        Examples
        --------
        >>> from asmnet import TrainConfig
        >>> config = TrainConfig.few(40, n_landmarks=56)
        >>> config.network, config.epochs, config.batch_size
        ('hourglass-small', 200, 16)
        """
        if n_images < 2:
            raise ValueError(f"n_images: got {n_images}; expected at least 2.")
        base: dict[str, Any] = {
            "network": "hourglass-small",
            "preprocessing": Preprocessing(size=96),
            "augmentation": Augmentation(rotation=20.0, scale=0.15, occlusion=0.4),
            "epochs": max(10, math.ceil(8000 / n_images)),
            "batch_size": min(16, n_images),
            "ema": 0.99,
        }
        return cls.modern(**{**base, **changes})

    def variant(self, name: str) -> TrainConfig:
        """Return one of the paper's four variants with these settings otherwise.

        Parameters
        ----------
        name : {"mnv2", "mnv2_r", "ASMNet_nr", "ASMNet"}
            MobileNetV2 or ASMNet, without or with (``mnv2_r``, ``ASMNet``) the ASM term of the loss.

        Returns
        -------
        TrainConfig
            A new one.

        Examples
        --------
        >>> TrainConfig.paper().variant("mnv2_r").network
        'mobilenetv2'
        """
        if name not in VARIANTS:
            raise ValueError(f"variant: got {name!r}; expected one of {', '.join(VARIANTS)}.")
        network, weights = VARIANTS[name]
        options = dict(self.network_options)
        if network != "asmnet":
            options.pop("dropout", None)
        own = self.criterion_options.get("asm_weights") or (2.0, 1.0, 0.5)
        return replace(
            self,
            network=network,
            network_options=options,
            criterion_options={**self.criterion_options, "asm_weights": own if weights else None},
        )

    def with_settings(self, settings: Mapping[str, Any]) -> TrainConfig:
        """Return these settings with some changed by name, also in their parts.

        Parameters
        ----------
        settings : mapping of str to value
            ``"epochs"``, ``"augmentation.flip"``, ``"network_options.width"``, ...

        Returns
        -------
        TrainConfig
            A new one.

        Raises
        ------
        ValueError
            For a name that does not exist and a value of another type; the message lists the names that do.

        Examples
        --------
        >>> from asmnet import TrainConfig
        >>> config = TrainConfig.modern().with_settings({"epochs": 3, "augmentation.flip": 0})
        >>> config.epochs, config.augmentation.flip
        (3, 0)
        >>> config.with_settings({"augmentation.rotate": 3})
        Traceback (most recent call last):
            ...
        ValueError: augmentation: no option is called 'rotate'; expected one of aspect, blur, ...
        """
        changes: dict[str, Any] = {}
        for name, value in settings.items():
            part, dot, rest = name.partition(".")
            check_name("settings", part, list(self.__dataclass_fields__))
            if not dot:
                changes[part] = tuple(value) if isinstance(value, list) else value
                continue
            old = changes.get(part, getattr(self, part))
            if isinstance(old, dict):
                changes[part] = {**old, rest: value}
            elif is_dataclass(old):
                check_name(part, rest, list(old.__dataclass_fields__))
                changes[part] = replace(old, **{rest: value})  # type: ignore[type-var]
            else:
                raise ValueError(f"settings: got {name!r}; expected {part!r}, which has no parts.")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, as JSON holds them.

        Returns
        -------
        dict
            By the names of the fields.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Undo `to_dict`.

        Parameters
        ----------
        values : dict
            What `to_dict` returned.

        Returns
        -------
        TrainConfig
            The same settings.
        """
        values = dict(values)
        for name in values:
            check_name("configuration", name, list(cls.__dataclass_fields__))
        for part, kind in (("preprocessing", Preprocessing), ("augmentation", Augmentation)):
            if isinstance(values.get(part), dict):
                for name in values[part]:
                    check_name(part, name, list(kind.__dataclass_fields__))
                values[part] = kind(**values[part])
        if "step_epochs" in values:
            values["step_epochs"] = tuple(values["step_epochs"])
        return cls(**values)


VARIANTS = {
    "mnv2": ("mobilenetv2", False),
    "mnv2_r": ("mobilenetv2", True),
    "ASMNet_nr": ("asmnet", False),
    "ASMNet": ("asmnet", True),
}
OPTIMIZERS = ("adamw", "adam", "nadam")
PRECISIONS = ("cuda", "always", "never")
SCHEDULES = ("cosine", "constant", "linear", "inverse_time", "steps")


def keep_freed_memory() -> bool:
    """Let the process keep freed memory for its next tensors instead of returning it to the system.

    By default glibc returns every large block at once and the system clears it anew for the next tensor, step after
    step: half of the time of training ASMNet at 224 pixels on a processor. The command line calls this before it
    trains; it holds for the whole process.

    Returns
    -------
    bool
        Whether the C library understood: True with glibc, False elsewhere, where nothing happens.

    Examples
    --------
    >>> from asmnet.training import keep_freed_memory
    >>> keep_freed_memory() in (True, False)
    True
    """
    mallopt = getattr(ctypes.CDLL(None) if sys.platform == "linux" else None, "mallopt", None)
    if mallopt is None:
        return False
    # mallopt(3): M_MMAP_MAX no block of its own, M_TRIM_THRESHOLD never shrink, M_TOP_PAD grow by 256 MiB.
    return all([mallopt(-4, 0), mallopt(-1, 2**31 - 1), mallopt(-2, 2**28)])


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step, counted from 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    low = config.final_rate
    if config.schedule == "constant":
        factor = 1.0
    elif config.schedule == "cosine":
        factor = low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2
    elif config.schedule == "linear":
        factor = 1 - (1 - low) * progress
    elif config.schedule == "inverse_time":
        factor = 1 / (1 + config.inverse_decay * step)
    else:
        factor = config.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
    return config.learning_rate * factor


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
    data_share : float
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
    data_share: float


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves.

    Attributes
    ----------
    network : Module
        With the averaged weights of the best epoch (the last one without a validation set), in evaluation mode.
    history : tuple of EpochRecord
        One a epoch.
    best_epoch : int
        From 1.
    folder : Path
        With the checkpoints, ``metrics.csv`` and pictures.
    config : TrainConfig
        The settings as they were used, without a pose head that nothing taught.

    Examples
    --------
    >>> from asmnet.training import TrainResult
    >>> "history" in TrainResult.__dataclass_fields__
    True
    """

    network: nn.Module
    history: tuple[EpochRecord, ...]
    best_epoch: int
    folder: Path
    config: TrainConfig


def _seed(*parts: int) -> int:
    """Mix integers to one seed, alike on every machine."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _make_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "nadam": torch.optim.NAdam}
    return kinds[config.optimizer](groups, lr=config.learning_rate)


class _Average:
    """Exponential moving average of weights; the counters and running statistics are averaged too."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.steps = 0

    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        pairs = [(self.state[name], value.detach()) for name, value in network.state_dict().items()]
        averaged, sources = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averaged, sources, 1 - decay)
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_([own for own, _ in counters], [value for _, value in counters])


@torch.no_grad()
def predict_dataset(
    network: nn.Module,
    dataset: LandmarkDataset,
    preprocessing: Preprocessing,
    *,
    boxes: np.ndarray | None = None,
    flip_average: bool = False,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Predict all faces of a packed set.

    Parameters
    ----------
    network : Module
        Its forward returns a `Prediction`.
    dataset : LandmarkDataset
        Its boxes are used unless others are given.
    preprocessing : Preprocessing
        Of the network.
    boxes : ndarray of shape (n, 4), optional
        In packed pixels.
    flip_average : bool
        Average with the prediction of the mirror image, mirrored back.
    batch_size : int
        Faces at a time.
    device : device
        Of the network.

    Returns
    -------
    landmarks : ndarray of shape (n, n_landmarks, 2)
        Packed pixels.
    pose : ndarray of shape (n, 3) or None
        (yaw, pitch, roll) in degrees.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import ASMNet, LandmarkDataset, Preprocessing, predict_dataset
    >>> points = np.array([[[4.0, 4.0], [12.0, 10.0]]])
    >>> data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
    >>> landmarks, pose = predict_dataset(ASMNet(2), data, Preprocessing(size=32))
    >>> landmarks.shape, pose.shape
    ((1, 2, 2), (1, 3))
    """
    if flip_average and dataset.mirror is None:
        raise ValueError("flip_average needs the mirror map of the landmarks; the dataset has none.")
    training = network.training
    network.eval()
    all_points, all_poses = [], []
    try:
        for start in range(0, len(dataset), batch_size):
            rows = np.arange(start, min(start + batch_size, len(dataset)))
            batch = dataset.batch(rows, preprocessing, boxes=None if boxes is None else boxes[rows], device=device)
            prediction = predict_crops(network, batch.images, dataset.mirror if flip_average else None)
            points, pose = prediction.landmarks, prediction.pose
            all_points.append(batch.crops.to_pixels(points.double()))
            if pose is not None:
                all_poses.append(DEGREES * pose.double())
    finally:
        network.train(training)
    return torch.cat(all_points).cpu().numpy(), torch.cat(all_poses).cpu().numpy() if all_poses else None


def face_errors(dataset: LandmarkDataset, landmarks: np.ndarray, anchors: tuple[Any, Any] | None) -> np.ndarray:
    """Mean distance of the known landmarks of each face over its eye distance (or the larger side of its box)."""
    distance = np.linalg.norm(landmarks - dataset.landmarks, axis=-1)
    # A landmark that was not found is infinitely wrong; one that is not known does not count.
    distance[np.isnan(distance) & np.isfinite(dataset.landmarks).all(-1)] = np.inf
    if anchors is None:
        size = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]).max(1)
    else:
        right, left = (dataset.landmarks[:, list(side)].mean(1) for side in anchors)
        size = np.linalg.norm(right - left, axis=-1)
    return np.nanmean(distance, axis=1) / size


def train(
    config: TrainConfig,
    dataset: LandmarkDataset,
    validation: LandmarkDataset | None = None,
    *,
    folder: str | Path,
    extra: Sequence[LandmarkDataset] = (),
    anchors: tuple[Any, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    initial: dict[str, Tensor] | None = None,
    device: str | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train a network.

    Parameters
    ----------
    config : TrainConfig
        All settings.
    dataset : LandmarkDataset
        Training faces; with `asm_landmarks` where the criterion has an ASM term.
    validation : LandmarkDataset, optional
        Chooses the best epoch.
    folder : path
        Where ``last.safetensors``, ``best.safetensors`` and ``metrics.csv`` go.
    extra : sequence of LandmarkDataset
        Further faces, of which ``config.extra_share`` join each epoch.
    anchors : pair of index lists, optional
        Eye points between which the validation error is normalised; by default the larger side of the box.
    resume : bool
        Continue from ``last.safetensors`` if there is one; the result is the one of an unbroken run, to the bit. The
        folder remembers the settings and a digest of the faces; others are refused.
    overwrite : bool
        Start anew in a folder that holds a run; otherwise that is refused.
    initial : dict of str to Tensor, optional
        Weights to start from.
    device : str, optional
        Default is CUDA where there is a device, else the CPU.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    TrainResult
        The best network and the history.

    Raises
    ------
    NonFiniteLossError
        When the loss is no number any more; the batch is saved in the folder.
    FileExistsError
        When the folder holds a run, and neither `resume` nor `overwrite` says what to do with it.
    ValueError
        When data and settings do not go together, or a run of others is to be resumed.

    Notes
    -----
    A pose head that nothing teaches, because no face has a pose label or the criterion gives pose no weight, is left
    out, with a line in the log; `TrainResult.config` says what was built.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from asmnet import LandmarkDataset, Preprocessing, TrainConfig, train
    >>> rng = np.random.default_rng(0)
    >>> images, points = rng.integers(0, 255, (4, 48, 48, 3), np.uint8), rng.uniform(8, 40, (4, 5, 2))
    >>> data = LandmarkDataset.from_arrays(images, points)
    >>> config = TrainConfig(n_landmarks=5, epochs=1, batch_size=4, preprocessing=Preprocessing(size=32),
    ...                      criterion_options={"asm_weights": None})
    >>> with tempfile.TemporaryDirectory() as out:
    ...     len(train(config, data, folder=out).history)
    1
    """
    folder = Path(folder)
    if (folder / "last.safetensors").is_file() and not (resume or overwrite):
        raise FileExistsError(
            f"{folder}: holds a training already. Try resume (--resume) to continue it, overwrite (--overwrite) to "
            "start anew, or another folder."
        )
    config = _without_idle_pose(config, (dataset, *extra))
    return _Trainer(
        config, dataset, validation, folder, extra=tuple(extra), anchors=anchors, initial=initial,
        device=device, progress=progress,
    ).run(resume=resume)  # fmt: skip


def _without_idle_pose(config: TrainConfig, sets: Sequence[LandmarkDataset]) -> TrainConfig:
    """Leave out a pose head that nothing would teach: its answers would be numbers from nothing."""
    spec = network_spec(config.network)
    parameter = inspect.signature(spec.factory).parameters.get("pose")
    if parameter is None or not {"pose": parameter.default, **spec.defaults, **config.network_options}["pose"]:
        return config
    weight = getattr(build_criterion(
        config.criterion or spec.criterion, n_epochs=config.epochs, steps_per_epoch=1, options=config.criterion_options,
    ), "pose_weight", None)  # fmt: skip
    if weight == 0:
        logger.warning("the criterion gives pose no weight: the network gets no pose head")
    elif not any(part.rotations is not None and np.isfinite(part.rotations).all((1, 2)).any() for part in sets):
        logger.warning("no face has a pose label: the network gets no pose head")
    else:
        return config
    return replace(config, network_options={**config.network_options, "pose": False})


def data_digest(dataset: LandmarkDataset) -> str:
    """Return a hash of the faces of a set: names without folders, landmarks, weights and images."""
    digest = hashlib.sha256(json.dumps([Path(name).name for name in dataset.names]).encode())
    for array in (dataset.landmarks, dataset.weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    for start in range(0, len(dataset), 64):
        digest.update(dataset.images[start : start + 64].tobytes())
    return digest.hexdigest()


def _least_part(network: nn.Module, size: int) -> int:
    """Return how many faces a network needs at once: two where a norm sees one number for each channel and face."""
    seen = []

    def look(module: nn.Module, inputs: Any) -> None:
        seen.append(inputs[0][0, 0].numel() == 1)

    shadow = copy.deepcopy(network).to("meta").train()
    for module in shadow.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        shadow(torch.zeros(2, 3, size, size, device="meta"))
    return 2 if any(seen) else 1


class _Trainer:
    def __init__(
        self,
        config: TrainConfig,
        dataset: LandmarkDataset,
        validation: LandmarkDataset | None,
        folder: Path,
        *,
        extra: tuple[LandmarkDataset, ...],
        anchors: tuple[Any, Any] | None,
        initial: dict[str, Tensor] | None,
        device: str | None,
        progress: bool,
    ):
        for part in (dataset, *extra, *([validation] if validation is not None else [])):
            if part.n_landmarks != config.n_landmarks:
                raise ValueError(
                    f"dataset: got {part.n_landmarks} landmarks; the configuration has {config.n_landmarks}."
                )
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if config.batch_size % (self.world * config.accumulate):
            raise ValueError(
                f"batch_size: got {config.batch_size}; expected a multiple of {self.world} processes times "
                f"accumulate={config.accumulate}."
            )
        if device is None:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
        self.config, self.folder = config, folder
        self.device = torch.device(device)
        self.anchors = anchors
        if self.device.type == "cuda":
            if self.device.index is None:
                self.device = torch.device("cuda", torch.cuda.current_device())
            dataset, extra = dataset.to(self.device), tuple(part.to(self.device) for part in extra)
            validation = None if validation is None else validation.to(self.device)
        self.dataset, self.validation, self.extra = dataset, validation, extra
        self.progress = progress and self.rank == 0
        torch.manual_seed(_seed(config.seed, 0))
        self.network = build_network(config.network, config.n_landmarks, **config.network_options)
        if initial is not None:
            wanted = self.network.state_dict()
            idle = [name for name in initial if ".pose." in name and name not in wanted]
            self.network.load_state_dict({name: value for name, value in initial.items() if name not in idle})
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.digests = {
            "training": [data_digest(part) for part in (dataset, *extra)],
            "validation": [] if validation is None else [data_digest(validation)],
        }
        self.steps = self._steps()
        self.steps_per_epoch = len(self.steps)
        self.criterion = build_criterion(
            config.criterion or network_spec(config.network).criterion,
            n_epochs=config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            options=config.criterion_options,
        )
        schedule = getattr(self.criterion, "schedule", None)
        if (
            schedule is not None
            and any(part.asm_landmarks is None for part in (dataset, *extra))
            and any(schedule(epoch) > 0 for epoch in range(config.epochs))
        ):
            raise ValueError(
                "dataset: has no asm_landmarks, which the ASM term of the loss needs. "
                "Try dataset.with_asm(basis.project, preprocessing), or asm_weights=None."
            )
        self.mirror: list[int] | None = None
        if getattr(self.criterion, "coherence_weight", 0):
            if dataset.mirror is None:
                raise ValueError("coherence_weight: the faces have no mirror map. Try a scheme that has one.")
            self.mirror = dataset.mirror.tolist()
        self.optimizer = _make_optimizer(config, self.network)
        self.average = _Average(self.network, config.ema)
        self.history: list[EpochRecord] = []
        self._unchecked: tuple[int, Batch, dict[str, Tensor]] | None = None
        self.best, self.best_epoch = math.inf, 0

    def _order(self, epoch: int) -> np.ndarray:
        """Rows (set, index) of an epoch, shuffled, the same in every process."""
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        rows = np.stack([np.zeros(len(self.dataset), np.int64), np.arange(len(self.dataset))], 1)
        if self.extra and self.config.extra_share > 0:
            sizes = np.array([len(part) for part in self.extra])
            n = min(int(sizes.sum()), round(self.config.extra_share * len(self.dataset)))
            picked = rng.permutation(sizes.sum())[:n]
            which = np.searchsorted(np.cumsum(sizes), picked, side="right")
            index = picked - (np.cumsum(sizes) - sizes)[which]
            rows = np.concatenate([rows, np.stack([which + 1, index], 1)])
        return rng.permutation(rows)

    def _steps(self) -> list[slice]:
        """Return where the batches of an epoch begin and end.

        An incomplete last batch that is too small for its parts joins the one before.
        """
        config, n = self.config, len(self._order(0))
        parts = self.world * config.accumulate
        least = parts * _least_part(self.network, config.preprocessing.size)
        if config.batch_size < least:
            raise ValueError(
                f"batch_size: got {config.batch_size} in {parts} part(s); expected at least {least}, since batch norm "
                f"needs two faces at a time at {config.preprocessing.size} pixels."
            )
        if n < (config.batch_size if config.drop_last else least):
            hint = "Try a smaller batch_size, or drop_last=false." if n >= least else "Try more faces."
            raise ValueError(f"dataset: got {n} faces for batches of {config.batch_size}; expected a batch. {hint}")
        ends = list(range(config.batch_size, n + 1, config.batch_size)) or [n]
        if not config.drop_last and ends[-1] < n:
            if n - ends[-1] >= least:
                ends.append(n)
            else:
                ends[-1] = n
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _batch(self, rows: np.ndarray, *seed: int) -> Batch:
        generator = torch.Generator(self.device).manual_seed(_seed(self.config.seed, 2, *seed))
        parts = (self.dataset, *self.extra)
        batches = []
        for which in np.unique(rows[:, 0]):
            batches.append(
                parts[which].batch(
                    rows[rows[:, 0] == which, 1],
                    self.config.preprocessing,
                    augmentation=self.config.augmentation,
                    generator=generator,
                    device=self.device,
                )
            )
        return batches[0] if len(batches) == 1 else _join(batches)

    def run(self, *, resume: bool) -> TrainResult:
        config = self.config
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.world > 1:
            torch.distributed.barrier()  # a process ahead must not look for the checkpoint before it is written
        first = self._restore() if resume and (self.folder / "last.safetensors").is_file() else 0
        model: nn.Module = self.network
        if self.world > 1:
            # Each process keeps its own running statistics; the option was renamed in torch 2.13.
            parallel: Any = nn.parallel.DistributedDataParallel
            new = "forward_sync_buffers" in inspect.signature(parallel).parameters
            model = parallel(self.network, **{"forward_sync_buffers" if new else "broadcast_buffers": False})
        if config.picture_epochs and self.rank == 0:
            import matplotlib  # noqa: F401  (said before the first epoch, not after it)
        bar = tqdm(
            range(first, config.epochs), initial=first, total=config.epochs, desc=config.network,
            disable=not self.progress, unit="epoch",
        )  # fmt: skip
        for epoch in bar:
            record = self._epoch(model, epoch)
            self.history.append(record)
            better = record.nme < self.best or math.isnan(record.nme) or self.best_epoch == 0
            if better:
                self.best, self.best_epoch = record.nme, record.epoch
            if self.rank == 0:
                self._save(epoch + 1, better=better)
                self._write_metrics()
                if config.picture_epochs and (
                    record.epoch % config.picture_epochs == 0 or record.epoch == config.epochs
                ):
                    self._draw()
                bar.set_postfix(
                    loss=f"{record.loss:.4f}", nme=f"{100 * record.nme:.2f}%", best=f"{100 * self.best:.2f}%",
                    images=f"{record.images_per_second:.0f}/s", data=f"{record.data_share:.0%}",
                )  # fmt: skip
                logger.info("%s", record)
            if config.patience and record.epoch - self.best_epoch >= config.patience:
                logger.info("no better epoch in %d: stopping", config.patience)
                break
        if self.world > 1:
            torch.distributed.barrier()
        weights, _ = read_tensors(self.folder / "best.safetensors")
        self.network.load_state_dict(weights)
        return TrainResult(self.network.eval(), tuple(self.history), self.best_epoch, self.folder, self.config)

    def _epoch(self, model: nn.Module, epoch: int) -> EpochRecord:
        config = self.config
        order = self._order(epoch)
        began = time.perf_counter()
        waiting = rate = 0.0
        losses: list[Tensor] = []
        model.train()
        shards = self.world * config.accumulate
        bar = tqdm(
            range(self.steps_per_epoch), desc=f"epoch {epoch + 1}/{config.epochs}", disable=not self.progress,
            leave=False, unit="step",
        )  # fmt: skip
        for index in bar:
            step = epoch * self.steps_per_epoch + index
            rate = learning_rate(config, step, self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            rows = order[self.steps[index]]
            self.optimizer.zero_grad(set_to_none=True)
            before = _running_statistics(self.network) if config.accumulate > 1 else None
            collected: list[list[Tensor]] = []
            value = torch.zeros((), device=self.device)
            for part in range(config.accumulate):
                shard = self.rank * config.accumulate + part
                if before is not None and part:
                    _set_running_statistics(self.network, before)
                start = time.perf_counter()
                own = rows[shard::shards]
                batch = self._batch(own, epoch, index, shard)
                waiting += time.perf_counter() - start
                torch.manual_seed(_seed(config.seed, 3, epoch, index, shard))
                last = part == config.accumulate - 1
                sync = contextlib.nullcontext() if self.world == 1 or last else model.no_sync()  # type: ignore[operator]
                with sync:
                    # A part counts by its faces, which are not as many in each where the last batch is short.
                    share = len(own) * shards / len(rows) / config.accumulate
                    value = value + share * self._part(model, batch, epoch, share)
                if before is not None:
                    collected.append(_running_statistics(self.network))
            if collected:
                _set_running_statistics(
                    self.network, [torch.stack(v).double().mean(0) for v in zip(*collected, strict=True)]
                )
            if config.clip_gradient:
                nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_gradient)
            self.optimizer.step()
            if config.ema:
                self.average.update(self.network)
            losses.append(value)
            if self.progress and (index % 50 == 49 or self.device.type == "cpu"):
                bar.set_postfix(loss=f"{float(torch.stack(losses[-50:]).mean()):.4f}", refresh=False)
        self._check_losses()
        if self.world > 1:
            self._share_statistics()
        if not config.ema:
            self.average.state = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        trained = time.perf_counter() - began
        nme, pose = self._validate() if self.validation is not None else (math.nan, math.nan)
        mean = float(torch.stack(losses).double().mean())
        n_seen = self.steps[-1].stop
        return EpochRecord(
            epoch + 1, rate, mean, nme, pose, time.perf_counter() - began,
            n_seen / trained, waiting / trained,
        )  # fmt: skip

    def _part(self, model: nn.Module, batch: Batch, epoch: int, share: float = 1.0) -> Tensor:
        images = batch.images.contiguous(memory_format=torch.channels_last)
        precision = self.config.mixed_precision
        mixed = precision == "always" or (
            precision == "cuda"
            and self.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            prediction = model(images if self.mirror is None else torch.cat([images, images.flip(3)]))
        if self.mirror is None:
            terms = self.criterion(prediction, batch, epoch)
        else:
            prediction, mirrored = prediction.rows(slice(len(images))), prediction.rows(slice(len(images), None))
            terms = self.criterion(prediction, batch, epoch, mirrored, self.mirror)
        loss = terms["loss"]
        self._check_losses()
        self._unchecked = (epoch, batch, {name: value.detach() for name, value in terms.items()})
        if self.device.type == "cpu":
            self._check_losses()
        if self.world > 1 and prediction.pose is not None:
            loss = loss + 0 * prediction.pose.sum()  # every parameter takes part, with or without pose labels
        (share * loss).backward()
        return loss.detach()

    def _check_losses(self) -> None:
        """Stop where the last loss is no number.

        On a graphics card it is asked for when the next step is on its way, so that the card never waits for the host.
        """
        if self._unchecked is None:
            return
        (epoch, batch, terms), self._unchecked = self._unchecked, None
        value = float(terms["loss"])
        if math.isfinite(value):
            return
        path = self.folder / f"nonfinite-epoch{epoch + 1}-rank{self.rank}.safetensors"
        tensors = {"images": batch.images, "landmarks": batch.landmarks, "indices": batch.indices}
        write_tensors(path, tensors, {"kind": "batch", "terms": {name: repr(float(v)) for name, v in terms.items()}})
        raise NonFiniteLossError(
            f"the loss is {value} in epoch {epoch + 1}; the batch is in {path}. Try a smaller learning_rate.", path
        )

    def _share_statistics(self) -> None:
        """Average running statistics over the processes; they are linear in what each process saw."""
        for state in (self.network.state_dict(), self.average.state if self.config.ema else {}):
            for name, value in sorted(state.items()):  # files do not keep the order; processes must agree on it
                if name.endswith(("running_mean", "running_var")):
                    torch.distributed.all_reduce(value)
                    value /= self.world

    def _validate(self) -> tuple[float, float]:
        assert self.validation is not None
        own = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.state)
        try:
            landmarks, pose = predict_dataset(
                self.network, self.validation, self.config.preprocessing,
                flip_average=self.config.flip_average, device=self.device,
            )  # fmt: skip
        finally:
            self.network.load_state_dict(own)
        nme = float(np.nanmean(face_errors(self.validation, landmarks, self.anchors)))
        error = math.nan
        if pose is not None and self.validation.rotations is not None:
            from asmnet._pose_labels import angles_in_degrees

            truth = angles_in_degrees(self.validation.rotations)
            known = np.isfinite(truth).all(1)
            error = float(np.abs(pose - truth)[known].mean()) if known.any() else math.nan
        return nme, error

    def _draw(self) -> None:
        """Draw the curves, and the same few validation faces at each call."""
        from asmnet._pictures import save_curves, save_faces

        save_curves(self.history, self.folder / "curves.png")
        if self.validation is None:
            return
        rows = np.unique(np.linspace(0, len(self.validation) - 1, 12).astype(int))
        shown = self.validation.take(rows)
        own = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.state)
        try:
            points, _ = predict_dataset(self.network, shown, self.config.preprocessing, device=self.device)
        finally:
            self.network.load_state_dict(own)
        errors = face_errors(shown, points, self.anchors)
        save_faces(
            np.asarray(shown.images), shown.landmarks, points, [f"{100 * e:.1f} %" for e in errors],
            self.folder / f"faces-{self.history[-1].epoch:04d}.png",
        )  # fmt: skip

    def _save(self, epochs_done: int, *, better: bool) -> None:
        header: dict[str, Any] = {
            "kind": "training",
            "config": self.config.to_dict(),
            "data": self.digests,
            "epoch": epochs_done,
            "history": [asdict(record) for record in self.history],
            "best": self.best,
            "best_epoch": self.best_epoch,
            "average_steps": self.average.steps,
        }
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state.items()}
        state, header["optimizer"] = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{name}": value for name, value in state.items()}
        if better:
            write_tensors(
                self.folder / "best.safetensors",
                self.average.state,
                {"kind": "weights", "config": self.config.to_dict(), "epoch": epochs_done, "nme": self.best},
            )
        write_tensors(self.folder / "last.safetensors", tensors, header)

    def _restore(self) -> int:
        tensors, header = read_tensors(self.folder / "last.safetensors")
        saved = TrainConfig.from_dict(header["config"]).to_dict()
        own = TrainConfig.from_dict(self.config.to_dict()).to_dict()
        differing = [name for name in own if _plain(saved[name]) != _plain(own[name])]
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
        groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = value.to(self.device)
        self.network.load_state_dict(groups["network"])
        self.average.state = groups["average"]
        self.average.steps = header["average_steps"]
        load_optimizer(self.optimizer, groups["optimizer"], header["optimizer"])
        self.history = [EpochRecord(**record) for record in header["history"]]
        self.best, self.best_epoch = header["best"], header["best_epoch"]
        return int(header["epoch"])

    def _write_metrics(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(EpochRecord.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in self.history)
        write_text(self.folder / "metrics.csv", text.getvalue())


def _plain(value: Any) -> Any:
    """Tuples and lists alike, as JSON makes them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _running_statistics(network: nn.Module) -> list[Tensor]:
    return [b.detach().clone() for name, b in network.named_buffers() if name.endswith(_STATISTICS)]


def _set_running_statistics(network: nn.Module, values: Sequence[Tensor]) -> None:
    own = [b for name, b in network.named_buffers() if name.endswith(_STATISTICS)]
    for buffer, value in zip(own, values, strict=True):
        buffer.copy_(value)


def _join(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches of several sets; what one of them lacks is unknown in its rows."""

    def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
        if all(part is None for part in parts):
            return None
        shape = next(part for part in parts if part is not None).shape[1:]
        return torch.cat([
            batch.images.new_full((len(batch.images), *shape), math.nan) if part is None else part
            for batch, part in zip(batches, parts, strict=True)
        ])  # fmt: skip

    crops = batches[0].crops
    kind = type(crops)
    merged = kind(*(torch.cat([getattr(b.crops, name) for b in batches]) for name in kind.__dataclass_fields__))
    names = ("images", "landmarks", "asm_landmarks", "pose", "weight", "indices", "depth")
    fields = {name: joined([getattr(batch, name) for batch in batches]) for name in names}
    every = sorted(set().union(*(batch.companions for batch in batches)))
    companions = {name: joined([batch.companions.get(name) for batch in batches]) for name in every}
    return Batch(**fields, crops=merged, companions=companions)  # type: ignore[arg-type]
