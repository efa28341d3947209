"""Train light-68 as it ships: a large teacher, a student taught by it, and the student on every warped crop.

    SHAPE_MODELS_DATA=... python tests/benchmarks/train_light.py runs/light [--device cuda]

Stages, each resumable: ``teacher`` (two hourglasses, 72 epochs), ``taught`` (the loss of distillation with the tough
teacher, 96 epochs), ``light-68`` (the mean of truth and teacher as target, 32 epochs from the weights before). The
teacher looks at each augmented crop itself. On a graphics card the three take about half an hour.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from asmnet import Augmentation, Preprocessing, TrainConfig, pack_faces, train
from asmnet._finishing import finish
from asmnet._preparation import with_depths, with_pose
from asmnet.checkpoints import load_pretrained
from asmnet.teaching import TaughtCriterion
from shape_models import ASM, IBUG68
from shape_models.datasets import read_300w

SIDE = 320  # of the packed squares
AUGMENTATION = Augmentation(rotation=18, scale=0.15, shift=0.08, occlusion=0.4, occlusion_size=0.4, blur=0.25)
PREPROCESSING = Preprocessing(size=128, margin=1.3)
assert TaughtCriterion  # its import registers the criterion "taught"


def settings(network: str, **others) -> TrainConfig:
    """Return the settings that all stages share."""
    return TrainConfig(
        network=network,
        preprocessing=PREPROCESSING,
        augmentation=AUGMENTATION,
        batch_size=32,
        schedule="cosine",
        warmup_epochs=4.0,
        final_rate=0.002,
        ema=0.999,
        clip_gradient=5.0,
        **others,
    )


def main() -> None:
    """Run the stages that are not done yet, and write light-68 with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="faces of each set, to try the script")
    parser.add_argument("--epochs", type=float, default=1.0, help="multiplies the epochs of every stage")
    arguments = parser.parse_args()
    data = Path(os.environ["SHAPE_MODELS_DATA"]) / "300w"
    sets = []
    for split in ("train", "val"):
        faces = pack_faces(read_300w(data, split=split)[: arguments.limit], size=SIDE, progress=True)
        sets.append(with_depths(with_pose(faces, IBUG68), IBUG68))
    eyes = tuple(IBUG68.anchors["outer_eye_corners"])
    options = {"anchors": ((eyes[0],), (eyes[1],)), "device": arguments.device, "progress": True, "resume": True}

    def stage(name: str, config: TrainConfig, epochs: int, initial=None) -> Path:
        path = arguments.folder / name / f"{name}.safetensors"
        if not path.is_file():
            basis = ASM(0.9).fit(sets[0].crop_landmarks(PREPROCESSING)).basis_
            config = TrainConfig.from_dict({**config.to_dict(), "epochs": max(1, round(epochs * arguments.epochs))})
            result = train(config, *sets, folder=path.parent, initial=initial, **options)
            finish(
                result,
                sets[1],
                basis=basis,
                scheme=IBUG68,
                name=name,
                licence="Research use only.",
                data="1750 faces of the training parts of AFW, HELEN and LFPW with the iBUG 68 points.",
            )
        return path

    hourglass = {"n_stacks": 2, "depth": 4, "maps": "probability", "depth_head": True}
    teacher = stage(
        "teacher",
        settings(
            "hourglass",
            network_options=hourglass,
            criterion="integral",
            learning_rate=1e-3,
            weight_decay=0.02,
            mixed_precision="cuda",
        ),
        72,
    )
    taught = stage(
        "taught",
        settings(
            "light",
            criterion="taught",
            learning_rate=2e-3,
            mixed_precision="never",
            criterion_options={"teachers": {"tough": str(teacher)}, "form": "kd"},
        ),
        96,
    )
    stage(
        "light-68",
        settings(
            "light",
            criterion="taught",
            learning_rate=1.5e-3,
            mixed_precision="never",
            criterion_options={"teachers": {"tough": str(teacher)}, "form": "blend", "fraction": 0.6},
        ),
        32,
        initial=load_pretrained(taught).network.state_dict(),
    )


if __name__ == "__main__":
    main()
