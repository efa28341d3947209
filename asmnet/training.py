"""One training loop for every network of the package: resumable, reproducible, on one process or several."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from asmnet._configuration import TrainConfig
from asmnet._criteria import build_criterion
from asmnet._epochs import Epochs, seed_of
from asmnet._inference import predict_packed
from asmnet._optimization import (
    WeightAverage,
    learning_rate,
    make_optimizer,
    running_statistics,
    set_running_statistics,
)
from asmnet._options import as_device, check_kind
from asmnet._pose_labels import angle_errors
from asmnet._run_folder import EpochRecord, Run, data_digest
from asmnet._scores import Anchors, check_anchors, eye_line
from asmnet.checkpoints import read_tensors, refuse_other_weights, write_tensors
from asmnet.data import Batch, LandmarkDataset, Preprocessing
from asmnet.networks import build_network, network_spec
from shape_models._options import as_path, check_flags

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


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The trained network and the record of its training: the result of `train`.

    Attributes
    ----------
    network : Module
        With the averaged weights of the best epoch (the last one without a validation set), in evaluation mode.
    history : tuple of EpochRecord
        One a epoch.
    best_epoch : int
        From 1.
    folder : Path
        With the checkpoints, ``metrics.csv`` and figures.
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
    found = predict_packed(
        network, dataset, preprocessing, boxes=boxes, flip_average=flip_average, batch_size=batch_size, device=device
    )
    return found.landmarks, found.pose


def train(
    config: TrainConfig,
    dataset: LandmarkDataset,
    validation: LandmarkDataset | None = None,
    *,
    folder: str | Path,
    extra: Sequence[LandmarkDataset] = (),
    anchors: Anchors | None = None,
    resume: bool = False,
    overwrite: bool = False,
    initial: dict[str, Tensor] | None = None,
    device: str | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train a landmark network on packed faces.

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
        Further faces, of which ``config.extra_fraction`` join each epoch.
    anchors : pair of index lists, optional
        Eye points between which the validation error is normalised; by default the square root of the area of the box.
        Those at the image's left come first; ``config.label_offset`` needs them.
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
    check_flags(resume=resume, overwrite=overwrite, progress=progress)
    check_kind("config", config, TrainConfig)
    if not isinstance(extra, list | tuple):
        raise TypeError(f"extra: got a {type(extra).__name__}; expected a list of LandmarkDataset.")
    sets = {"dataset": dataset, "validation": validation, **{f"extra[{i}]": part for i, part in enumerate(extra)}}
    for name, part in sets.items():
        if part is None and name == "validation":
            continue
        check_kind(name, part, LandmarkDataset, " Try pack_faces, or LandmarkDataset.from_arrays.")
        if part.n_landmarks != config.n_landmarks:
            raise ValueError(f"{name}: got {part.n_landmarks} landmarks; the configuration has {config.n_landmarks}.")
        if not len(part):
            raise ValueError(f"{name}: got no faces; expected one at least.")
    if anchors is not None:
        check_anchors(anchors, config.n_landmarks)
    if initial is not None:
        check_kind("initial", initial, Mapping, " Try network.state_dict().")
    folder = as_path(folder, "folder")
    if (folder / "last.safetensors").is_file() and not (resume or overwrite):
        raise FileExistsError(
            f"{folder}: holds a training already. Try resume (--resume) to continue it, overwrite (--overwrite) to "
            "start anew, or another folder."
        )
    if config.label_offset:
        if anchors is None:
            raise ValueError("label_offset: got no anchors; expected the eyes, whose distance is its unit.")
        back = -config.label_offset, anchors
        dataset, extra = dataset.with_labels_moved(*back), [part.with_labels_moved(*back) for part in extra]
    config = _without_idle_pose(config, (dataset, *extra))
    options: dict[str, Any] = {"anchors": anchors, "initial": initial, "device": device, "progress": progress}
    return _Trainer(config, dataset, validation, folder, extra=tuple(extra), **options).run(resume=resume)


def face_errors(dataset: LandmarkDataset, landmarks: np.ndarray, anchors: Anchors | None) -> np.ndarray:
    """Mean distance of the known landmarks of each face over its eye distance, or sqrt(w h) of its box."""
    distance = np.linalg.norm(landmarks - dataset.landmarks, axis=-1)
    # A landmark that was not found is infinitely wrong; one that is not known does not count.
    distance[np.isnan(distance) & np.isfinite(dataset.landmarks).all(-1)] = np.inf
    if anchors is None:
        size = np.sqrt(np.prod(dataset.boxes[:, 2:] - dataset.boxes[:, :2], axis=1))
    else:
        size = np.linalg.norm(eye_line(dataset.landmarks, anchors)[:, 0], axis=-1)
    return np.asarray(np.nanmean(distance, axis=1) / size)


def _without_idle_pose(config: TrainConfig, sets: Sequence[LandmarkDataset]) -> TrainConfig:
    """Leave out a pose head that nothing would teach: its answers would be numbers from nothing."""
    spec = network_spec(config.network)
    parameter = inspect.signature(spec.factory).parameters.get("pose")
    if parameter is None or not {"pose": parameter.default, **spec.defaults, **config.network_options}["pose"]:
        return config
    name, options = config.criterion or spec.criterion, config.criterion_options
    criterion = build_criterion(name, n_epochs=config.epochs, steps_per_epoch=1, options=options)
    if getattr(criterion, "pose_weight", None) == 0:
        logger.warning("the criterion gives pose no weight: the network gets no pose head")
    elif not any(part.rotations is not None and np.isfinite(part.rotations).all((1, 2)).any() for part in sets):
        logger.warning("no face has a pose label: the network gets no pose head")
    else:
        return config
    return replace(config, network_options={**config.network_options, "pose": False})


class _Trainer:
    def __init__(
        self,
        config: TrainConfig,
        dataset: LandmarkDataset,
        validation: LandmarkDataset | None,
        folder: Path,
        *,
        extra: tuple[LandmarkDataset, ...],
        anchors: Anchors | None,
        initial: dict[str, Tensor] | None,
        device: str | None,
        progress: bool,
    ):
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if config.batch_size % (self.world * config.accumulate):
            raise ValueError(
                f"batch_size: got {config.batch_size}; expected a multiple of {self.world} processes times "
                f"accumulate={config.accumulate}."
            )
        self.config, self.anchors = config, anchors
        self.device = _device(device)
        sets = (dataset, *extra)
        if self.device.type == "cuda":
            sets = tuple(part.to(self.device) for part in sets)
            validation = None if validation is None else validation.to(self.device)
        self.validation = validation
        self.progress = progress and self.rank == 0
        torch.manual_seed(seed_of(config.seed, 0))
        self.network = build_network(config.network, config.n_landmarks, **config.network_options)
        if initial is not None:
            wanted = self.network.state_dict()
            given = {name: value for name, value in initial.items() if ".pose." not in name or name in wanted}
            hint = "expected the same names and shapes. Try asmnet.transfer_trunk"
            refuse_other_weights("initial", given, wanted, f"{config.network} with these options", hint)
            self.network.load_state_dict(given)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.shards = self.world * config.accumulate
        self.epochs = Epochs(config, sets, self.network, n_parts=self.shards, device=self.device)
        self.criterion = build_criterion(
            config.criterion or network_spec(config.network).criterion,
            n_epochs=config.epochs,
            steps_per_epoch=len(self.epochs.steps),
            options=config.criterion_options,
        )
        self.mirror = self._checked(sets)
        digests = {
            "training": [data_digest(part) for part in sets],
            "validation": [] if validation is None else [data_digest(validation)],
        }
        self.average = WeightAverage(self.network, config.ema)
        self.optimizer = make_optimizer(config, self.network)
        self.state = Run(folder, config, digests, self.network, self.average, self.optimizer)
        self._unchecked: tuple[int, Batch, dict[str, Tensor]] | None = None

    def _checked(self, sets: Sequence[LandmarkDataset]) -> list[int] | None:
        """Refuse faces without what the criterion needs; return the mirror map, where it needs one."""
        schedule = getattr(self.criterion, "schedule", None)
        if (
            schedule is not None
            and any(part.asm_landmarks is None for part in sets)
            and any(schedule(epoch) > 0 for epoch in range(self.config.epochs))
        ):
            raise ValueError(
                "dataset: has no asm_landmarks, which the ASM term of the loss needs. "
                "Try at least 3 faces with every landmark, dataset.with_asm(basis.project, preprocessing), or "
                "criterion_options.asm_weights=null (--set), None in Python."
            )
        if not getattr(self.criterion, "coherence_weight", 0):
            return None
        if sets[0].mirror is None:
            raise ValueError("coherence_weight: the faces have no mirror map. Try a scheme that has one.")
        return [int(index) for index in sets[0].mirror]

    def run(self, *, resume: bool) -> TrainResult:
        config, run = self.config, self.state
        run.folder.mkdir(parents=True, exist_ok=True)
        if self.world > 1:
            torch.distributed.barrier()  # a process ahead must not look for the checkpoint before it is written
        first = run.restore(self.device) if resume and run.last.is_file() else 0
        model: nn.Module = self.network
        if self.world > 1:
            # Each process keeps its own running statistics; the option was renamed in torch 2.13.
            parallel: Any = nn.parallel.DistributedDataParallel
            new = "forward_sync_buffers" in inspect.signature(parallel).parameters
            model = parallel(self.network, **{"forward_sync_buffers" if new else "broadcast_buffers": False})
        if config.picture_epochs and self.rank == 0:
            import matplotlib  # noqa: F401  (said before the first epoch, not after it)
        every = range(first, config.epochs)
        bar = tqdm(every, config.network, config.epochs, disable=not self.progress, unit="epoch", initial=first)
        for epoch in bar:
            record = self._epoch(model, epoch)
            run.append(record)
            if self.rank == 0:
                run.save()
                last = record.epoch == config.epochs
                if config.picture_epochs and (record.epoch % config.picture_epochs == 0 or last):
                    self._draw()
                bar.set_postfix_str(
                    f"loss={record.loss:.4f}, nme={100 * record.nme:.2f}%, best={100 * run.best:.2f}%, "
                    f"images={record.images_per_second:.0f}/s, data={record.data_fraction:.0%}"
                )
                logger.info("%s", record)
            if config.patience and record.epoch - run.best_epoch >= config.patience:
                logger.info("no better epoch in %d: stopping", config.patience)
                break
        if self.world > 1:
            torch.distributed.barrier()
        weights, _ = read_tensors(run.folder / "best.safetensors")
        self.network.load_state_dict(weights)
        return TrainResult(self.network.eval(), tuple(run.history), run.best_epoch, run.folder, config)

    def _epoch(self, model: nn.Module, epoch: int) -> EpochRecord:
        config, steps = self.config, self.epochs.steps
        order = self.epochs.order(epoch)
        began = time.perf_counter()
        waiting = rate = 0.0
        losses: list[Tensor] = []
        model.train()
        name = f"epoch {epoch + 1}/{config.epochs}"
        bar = tqdm(steps, name, disable=not self.progress, leave=False, unit="step")
        for index, rows in enumerate(bar):
            rate = learning_rate(config, epoch * len(steps) + index, len(steps))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            value, waited = self._step(model, order[rows], epoch, index)
            losses.append(value)
            waiting += waited
            # Each look at a loss makes the host wait for a graphics card.
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
        seconds, speed = time.perf_counter() - began, steps[-1].stop / trained
        return EpochRecord(epoch + 1, rate, mean, nme, pose, seconds, speed, waiting / trained)

    def _step(self, model: nn.Module, rows: np.ndarray, epoch: int, index: int) -> tuple[Tensor, float]:
        """Take a step on some faces, part after part; return the loss and the seconds that their crops took."""
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        # Parts of a batch start from the same running statistics, and leave their mean: as one batch would.
        before = running_statistics(self.network) if config.accumulate > 1 else None
        collected: list[list[Tensor]] = []
        value, waiting = torch.zeros((), device=self.device), 0.0
        for part in range(config.accumulate):
            shard = self.rank * config.accumulate + part
            if before is not None and part:
                set_running_statistics(self.network, before)
            start = time.perf_counter()
            own = rows[shard :: self.shards]
            batch = self.epochs.batch(own, epoch, index, shard)
            waiting += time.perf_counter() - start
            torch.manual_seed(seed_of(config.seed, 3, epoch, index, shard))
            last = part == config.accumulate - 1
            sync = contextlib.nullcontext() if self.world == 1 or last else model.no_sync()  # type: ignore[operator]
            with sync:
                # A part counts by its faces, which are not as many in each where the last batch is short.
                share = len(own) * self.shards / len(rows) / config.accumulate
                value = value + share * self._part(model, batch, epoch, share)
            if before is not None:
                collected.append(running_statistics(self.network))
        if collected:
            means = [torch.stack(values).double().mean(0) for values in zip(*collected, strict=True)]
            set_running_statistics(self.network, means)
        if config.clip_gradient:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_gradient)
        self.optimizer.step()
        if config.ema:
            self.average.update(self.network)
        return value, waiting

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
            with_mirror: Callable[..., dict[str, Tensor]] = self.criterion
            terms = with_mirror(prediction, batch, epoch, mirrored, self.mirror)
        loss = terms["loss"]
        self._check_losses()
        self._unchecked = (epoch, batch, {name: value.detach() for name, value in terms.items()})
        if self.device.type == "cpu":
            self._check_losses()
        if self.world > 1 and prediction.pose is not None:
            loss = loss + 0 * prediction.pose.sum()  # every parameter takes part, with or without pose labels
        (share * loss).backward()
        value: Tensor = loss.detach()
        return value

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
        path = self.state.folder / f"nonfinite-epoch{epoch + 1}-rank{self.rank}.safetensors"
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

    def _predict(self, faces: LandmarkDataset, **options: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return landmarks, pose and errors of the averaged weights."""
        with self.average.within(self.network):
            points, pose = predict_dataset(
                self.network, faces, self.config.preprocessing, device=self.device, **options
            )
        return points, pose, face_errors(faces, points, self.anchors)

    def _validate(self) -> tuple[float, float]:
        assert self.validation is not None
        _, pose, errors = self._predict(self.validation, flip_average=self.config.flip_average)
        off = math.nan
        if pose is not None and self.validation.rotations is not None:
            angles = angle_errors(pose, self.validation.rotations)
            off = float(angles.mean()) if len(angles) else math.nan
        return float(np.nanmean(errors)), off

    def _draw(self) -> None:
        """Draw the curves, and the same few validation faces at each call."""
        from asmnet._pictures import save_curves, save_faces

        run = self.state
        save_curves(run.history, run.folder / "curves.png")
        if self.validation is None:
            return
        rows = np.unique(np.linspace(0, len(self.validation) - 1, 12).astype(int))
        shown = self.validation.take(rows)
        points, _, errors = self._predict(shown)
        titles, path = [f"{100 * e:.1f} %" for e in errors], run.folder / f"faces-{len(run.history):04d}.png"
        save_faces(np.asarray(shown.images), shown.landmarks, points, titles, path)


def _device(name: str | None) -> torch.device:
    """Return the named device, or the one of this process; a graphics card with its number."""
    if name is None:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    device = as_device(name)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return device
