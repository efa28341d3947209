"""Two-teacher distillation of landmarks: teachers and student trained one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asmnet._assistance import (
    KD_PRESETS,
    KDCriterion,
    KDPreset,
    TeacherWeights,
    assistive_loss,
    kd_loss,
    kd_main_loss,
)
from asmnet._options import check_kind
from asmnet._scores import Anchors
from asmnet.checkpoints import read_tensors, write_tensors
from asmnet.data import LandmarkDataset
from asmnet.training import TrainConfig, TrainResult, predict_dataset, train
from shape_models._options import as_path

__all__ = [
    "KD_PRESETS",
    "DistillationResult",
    "KDCriterion",
    "KDPreset",
    "TeacherWeights",
    "assistive_loss",
    "distill",
    "kd_loss",
    "kd_main_loss",
]


@dataclass(frozen=True, eq=False)
class DistillationResult:
    """What a distillation leaves.

    Attributes
    ----------
    student : TrainResult
        The student.
    teachers : dict of str to TrainResult
        ``"tough"`` and ``"tolerant"``, those that were trained.

    Examples
    --------
    >>> from asmnet.distillation import DistillationResult
    >>> sorted(DistillationResult.__dataclass_fields__)
    ['student', 'teachers']
    """

    student: TrainResult
    teachers: dict[str, TrainResult]


def distill(
    student: TrainConfig,
    teacher: TrainConfig,
    dataset: LandmarkDataset,
    validation: LandmarkDataset | None = None,
    *,
    folder: str | Path,
    teachers: Sequence[str] = ("tough", "tolerant"),
    preset: str = "paper",
    pose_weight: float = 0.0,
    anchors: Anchors | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> DistillationResult:
    """Train the tough teacher, the tolerant teacher and the student, each with the package's trainer.

    The tough teacher learns the landmarks, the tolerant one the landmarks as the shape model sees them. Their
    predictions on the plain training crops are computed once, kept in the folder, and moved with the face by the
    augmentation of the student.

    Parameters
    ----------
    student, teacher : TrainConfig
        Settings; any registered network that regresses or draws landmarks of the same scheme may be either. The
        student's criterion and its options are replaced by ``"kd"``.
    dataset : LandmarkDataset
        Training faces, with `asm_landmarks` where the tolerant teacher takes part.
    validation : LandmarkDataset, optional
        Chooses the best epoch of each.
    folder : path
        Gets the folders ``tough``, ``tolerant`` and ``student``, each as `train` writes it.
    teachers : sequence of {"tough", "tolerant"}
        Which teachers assist; none trains the student on the main loss alone.
    preset : {"paper", "released"}
        Constants of the loss.
    pose_weight : float
        Of the pose error, for students with a pose head and faces with pose labels.
    anchors : pair of index lists, optional
        As in `train`.
    resume : bool
        Continue an interrupted run: finished trainings are read back, the interrupted one goes on.
    overwrite : bool
        Start anew in a folder that holds a run; otherwise that is refused.
    device, progress : str and bool, optional
        As in `train`.

    Returns
    -------
    DistillationResult
        The student and its teachers.

    Raises
    ------
    ValueError
        When student and teacher have different numbers of landmarks, or the tolerant teacher lacks `asm_landmarks`.

    References
    ----------
    Fard, Mahoor, "Facial landmark points detection using knowledge distillation-based neural networks", CVIU 2022.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from asmnet import LandmarkDataset, Preprocessing, TrainConfig
    >>> from asmnet.distillation import distill
    >>> rng = np.random.default_rng(0)
    >>> images, points = rng.integers(0, 255, (4, 48, 48, 3), np.uint8), rng.uniform(8, 40, (4, 5, 2))
    >>> data = LandmarkDataset.from_arrays(images, points)
    >>> config = TrainConfig(n_landmarks=5, epochs=1, batch_size=4, preprocessing=Preprocessing(size=32),
    ...                      network_options={"width": 0.35}, criterion_options={"asm_weights": None})
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = distill(config, config, data, folder=out, teachers=("tough",))
    >>> sorted(result.teachers), len(result.student.history)
    (['tough'], 1)
    """
    check_kind("student", student, TrainConfig)
    check_kind("teacher", teacher, TrainConfig)
    check_kind("dataset", dataset, LandmarkDataset, " Try pack_faces, or LandmarkDataset.from_arrays.")
    folder = as_path(folder, "folder")
    teachers = tuple(teachers)
    if student.n_landmarks != teacher.n_landmarks:
        raise ValueError(
            f"got a student of {student.n_landmarks} landmarks and a teacher of {teacher.n_landmarks}; expected the "
            "same scheme. Try shape_models.convert on the landmarks of one of them."
        )
    options: dict[str, Any] = {"preset": preset, "teachers": teachers, "pose_weight": pose_weight}
    student = replace(student, criterion="kd", criterion_options=options)
    KDCriterion(**options)  # refuses what cannot be before hours of training
    if "tolerant" in teachers and dataset.asm_landmarks is None:
        raise ValueError(
            "dataset: has no asm_landmarks, which the tolerant teacher learns. "
            "Try dataset.with_asm(basis.project, preprocessing)."
        )
    common: dict[str, Any] = {"anchors": anchors, "resume": resume, "device": device, "progress": progress}
    common["overwrite"] = overwrite
    results = {}
    for name in teachers:
        taught = dataset
        if name == "tolerant":
            assert dataset.asm_landmarks is not None
            taught = replace(dataset, landmarks=dataset.asm_landmarks)
        results[name] = train(teacher, taught, validation, folder=folder / name, **common)
        points = _teacher_landmarks(results[name].network, dataset, teacher, folder / name, device=device)
        dataset = dataset.with_companion(name, points)
    return DistillationResult(train(student, dataset, validation, folder=folder / "student", **common), results)


def _teacher_landmarks(
    network: nn.Module, dataset: LandmarkDataset, config: TrainConfig, folder: Path, *, device: str | None
) -> np.ndarray:
    """Predictions on the plain crops, in packed pixels; read back when weights and faces are the same."""
    digest = hashlib.sha256(json.dumps([*dataset.names, config.to_dict()], default=str).encode())
    digest.update(np.ascontiguousarray(dataset.boxes).tobytes())
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    path = folder / "predictions.safetensors"
    if path.is_file():
        tensors, header = read_tensors(path)
        if header.get("digest") == digest.hexdigest():
            return tensors["landmarks"].numpy()
    on = device or ("cuda" if torch.cuda.is_available() else "cpu")
    points, _ = predict_dataset(network, dataset, config.preprocessing, device=on)
    write_tensors(path, {"landmarks": torch.from_numpy(points)}, {"kind": "predictions", "digest": digest.hexdigest()})
    return points
