"""Everything that decides a training, as one frozen value with its presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

import asmnet._assistance
import asmnet.heatmaps
import asmnet.probability
import asmnet.teaching  # noqa: F401  (these register their criteria)
from asmnet._criteria import check_criterion
from asmnet._options import (
    OLD_NAMES,
    by_new_names,
    check_counts,
    check_fields,
    check_kind,
    check_name,
    check_options,
    with_old_names,
)
from asmnet._scores import check_offset
from asmnet.augmentation import Augmentation
from asmnet.data import Preprocessing
from asmnet.networks import network_spec
from shape_models._options import as_probability, check_choice, check_numbers

VARIANTS = {
    "mnv2": ("mobilenetv2", False),
    "mnv2_r": ("mobilenetv2", True),
    "ASMNet_nr": ("asmnet", False),
    "ASMNet": ("asmnet", True),
}
OPTIMIZERS = ("adamw", "adam", "nadam")
PRECISIONS = ("cuda", "always", "never")
SCHEDULES = ("cosine", "constant", "linear", "inverse_time", "steps")


@with_old_names
@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training; with the same data and processor they give the same weights, bit for bit.

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
    asm_fraction : float
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
    extra_fraction : float
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
    label_offset : float
        How far the labels lie to the right of the mirror-symmetric place, in eye distances, as
        `asmnet.measuring.label_offset` measures it; training moves those it learns from back by it, since mirror
        images teach the mean of both sides. What is validated, and what the network then says, is not moved.
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
    asm_fraction: float = 0.9
    epochs: int = 150
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3  # this and the decay are the defaults of torch.optim.AdamW
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
    extra_fraction: float = 0.0
    drop_last: bool = True
    mixed_precision: str = "cuda"
    flip_average: bool = False
    picture_epochs: int = 0
    label_offset: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_kind("preprocessing", self.preprocessing, Preprocessing, " Try Preprocessing(size=224).")
        check_kind("augmentation", self.augmentation, Augmentation, " Try Augmentation.none().")
        spec = network_spec(self.network)
        check_options(f"network_options of {self.network}", spec.factory, self.network_options, ("n_landmarks",))
        check_criterion(self.criterion or spec.criterion, self.criterion_options)
        if self.preprocessing.size % spec.stride:
            raise ValueError(
                f"preprocessing.size: got {self.preprocessing.size}; {self.network} expects a multiple of "
                f"{spec.stride} pixels."
            )
        check_counts(**{n: getattr(self, n) for n in ("epochs", "batch_size", "accumulate", "n_landmarks")})
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size: got {self.batch_size}; expected a multiple of accumulate={self.accumulate}.")
        choices_of = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("mixed_precision", PRECISIONS))
        for name, choices in choices_of:
            check_choice(choices, **{name: getattr(self, name)})
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: got {self.ema}; expected 0 to less than 1.")
        numbers = ["weight_decay", "warmup_epochs", "clip_gradient", "patience", "picture_epochs", "seed"]
        numbers += ["extra_fraction", "final_rate", "inverse_decay", "step_factor"]
        check_numbers(**{name: getattr(self, name) for name in numbers})
        check_numbers(learning_rate=self.learning_rate, above=True)
        check_offset(self.label_offset)
        if not all(isinstance(epoch, int) and epoch >= 0 for epoch in self.step_epochs or ()):
            raise ValueError(f"step_epochs: got {self.step_epochs}; expected whole numbers of epochs.")
        as_probability(self.asm_fraction, "asm_fraction")

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
            "augmentation": replace(
                Augmentation.none(), rotation=16.0, scale=0.1, shift=0.02, aspect=0.1, noise=0.04, occlusion_size=0.4
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
        }
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

        Raises
        ------
        ValueError
            For a network that does not draw heat maps.
        """
        network = changes.get("network", "hourglass")
        if network_spec(network).criterion != "heatmap":
            raise ValueError(f"network: got {network!r}; the settings of sdu expected one that draws heat maps.")
        base: dict[str, Any] = {
            "network": network,
            # (raw - 127.5) / 128
            "preprocessing": Preprocessing(size=128, margin=1.2, mean=0.5, std=128 / 255),
            # Draws are cut at twice the standard deviation: at the published 40 degrees.
            "augmentation": replace(Augmentation.none(), rotation=20.0, scale=0.18, flip=0.5),
            "criterion_options": {"target": "published"},
            "epochs": 45,
            "batch_size": 20,
            "optimizer": "nadam",
            "learning_rate": 2.5e-4,
            "schedule": "steps",
            "step_factor": 0.2,
            "step_epochs": (20, 35),
            "seed": 727,
        }
        return cls.paper(**{**base, **changes})

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
        (`shape_models.search.fit_heatmaps`). In a loss it was not seen to teach more than its controls, as whitened
        residuals, a curriculum of modes or a tolerance for each landmark (``tests/benchmarks/study_losses.py``). A
        trunk that was trained on another set of landmarks is worth more than any setting: see `asmnet.transfer_trunk`.

        Parameters
        ----------
        n_images : int
            Size of the training set. The network sees about 8000 crops, at least ten of each image.
        **changes
            Other settings of `TrainConfig`.

        Raises
        ------
        ValueError
            For fewer than two images.

        Examples
        --------
        >>> from asmnet import TrainConfig
        >>> config = TrainConfig.few(40, n_landmarks=56)
        >>> config.network, config.epochs, config.batch_size
        ('hourglass-small', 200, 16)
        """
        check_counts(n_images=n_images)
        if n_images < 2:
            raise ValueError(f"n_images: got {n_images}; expected at least 2.")
        base: dict[str, Any] = {
            "network": "hourglass-small",
            "preprocessing": Preprocessing(size=96),
            "augmentation": Augmentation(rotation=20.0, scale=0.15, occlusion=0.4),
            "epochs": max(10, math.ceil(8000 / n_images)),
            "batch_size": min(16, n_images),
            "ema": 0.99,  # over the last hundred steps: 8000 crops are 500 steps, too few for 0.999
        }
        return cls.modern(**{**base, **changes})

    def __hash__(self) -> int:
        return hash(_hashable(self.to_dict()))

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

        Raises
        ------
        ValueError
            For an unknown variant.

        Examples
        --------
        >>> TrainConfig.paper().variant("mnv2_r").network
        'mobilenetv2'
        """
        check_choice(VARIANTS, variant=name)
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
        check_kind("settings", settings, Mapping)
        changes: dict[str, Any] = {}
        for name, value in settings.items():
            check_kind("settings: a name", name, str)
            part, dot, rest = name.partition(".")
            check_name("settings", OLD_NAMES["TrainConfig"].get(part, part), list(self.__dataclass_fields__))
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
        check_kind("values", values, dict)
        values = by_new_names(cls, values)
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


def _hashable(value: Any) -> Any:
    """Return something that can be hashed, alike for equal plain values."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(part)) for name, part in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
