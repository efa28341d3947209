"""Which faces a training sees when: the order of each epoch, its steps, and the batches of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asmnet._configuration import TrainConfig
from asmnet._shadow import run_shadow
from asmnet.augmentation import CropTransform
from asmnet.data import Batch, LandmarkDataset


def seed_of(*parts: int) -> int:
    """Mix integers to one seed, alike on every machine."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Epochs:
    """The faces of a training, epoch by epoch, the same in every process.

    Parameters
    ----------
    config : TrainConfig
        Batch size, seed and augmentation.
    sets : sequence of LandmarkDataset
        The training set, then the extra ones.
    network : Module
        Its norms say how many faces a part of a batch must have at least.
    n_parts : int
        Parts a batch is cut into, over processes and one after the other.
    device : device
        Where the crops are made.
    """

    def __init__(
        self,
        config: TrainConfig,
        sets: Sequence[LandmarkDataset],
        network: nn.Module,
        *,
        n_parts: int,
        device: torch.device,
    ):
        self.config, self.sets, self.n_parts, self.device = config, tuple(sets), n_parts, device
        self.steps = self._steps(n_parts * _least_part(network, config.preprocessing.size))

    def order(self, epoch: int) -> np.ndarray:
        """Return the rows (set, index) of an epoch, shuffled."""
        rng = np.random.default_rng([self.config.seed, 1, epoch])
        n_own, extra = len(self.sets[0]), self.sets[1:]
        rows = np.stack([np.zeros(n_own, np.int64), np.arange(n_own)], 1)
        if extra and self.config.extra_fraction > 0:
            sizes = np.array([len(part) for part in extra])
            n = min(int(sizes.sum()), round(self.config.extra_fraction * n_own))
            picked = rng.permutation(sizes.sum())[:n]
            # A number among all extra faces: of which set it is, and the how many-th there.
            which = np.searchsorted(np.cumsum(sizes), picked, side="right")
            index = picked - (np.cumsum(sizes) - sizes)[which]
            rows = np.concatenate([rows, np.stack([which + 1, index], 1)])
        return rng.permutation(rows)

    def _steps(self, least: int) -> list[slice]:
        """Return where the batches of an epoch begin and end.

        An incomplete last batch that is too small for its parts joins the one before.
        """
        config, n = self.config, len(self.order(0))
        if config.batch_size < least:
            raise ValueError(
                f"batch_size: got {config.batch_size} in {self.n_parts} part(s); expected at least {least}, since "
                f"batch norm needs two faces at a time at {config.preprocessing.size} pixels."
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

    def batch(self, rows: np.ndarray, *seed: int) -> Batch:
        """Cut the crops of rows of `order`, augmented by draws of their own `seed`."""
        generator = torch.Generator(self.device).manual_seed(seed_of(self.config.seed, 2, *seed))
        form, augmentation = self.config.preprocessing, self.config.augmentation
        batches = []
        for which in np.unique(rows[:, 0]):
            own, faces = rows[rows[:, 0] == which, 1], self.sets[which]
            batches.append(faces.batch(own, form, augmentation=augmentation, generator=generator, device=self.device))
        return batches[0] if len(batches) == 1 else _join(batches)


def _least_part(network: nn.Module, size: int) -> int:
    """Return how many faces a network needs at once: two where a norm sees one number for each channel and face."""
    seen = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        # A channel of one pixel: alone in its batch it is its own mean, and has no variance.
        seen.append(inputs[0][0, 0].numel() == 1)

    run_shadow(network, size, (nn.modules.batchnorm._BatchNorm,), look, training=True)
    return 2 if any(seen) else 1


def _join(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches of several sets; what one of them lacks is unknown in its rows."""

    def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
        if all(part is None for part in parts):
            return None
        shape = next(part for part in parts if part is not None).shape[1:]
        images = [batch.images for batch in batches]
        unknown = [own.new_full((len(own), *shape), math.nan) for own in images]
        return torch.cat([empty if part is None else part for empty, part in zip(unknown, parts, strict=True)])

    parts = CropTransform.__dataclass_fields__
    merged = CropTransform(*(torch.cat([getattr(batch.crops, name) for batch in batches]) for name in parts))
    names = ("images", "landmarks", "asm_landmarks", "pose", "weight", "indices", "depth")
    fields = {name: joined([getattr(batch, name) for batch in batches]) for name in names}
    every = sorted(set().union(*(batch.companions for batch in batches)))
    companions = {name: joined([batch.companions.get(name) for batch in batches]) for name in every}
    return Batch(**fields, crops=merged, companions=companions)  # type: ignore[arg-type]
