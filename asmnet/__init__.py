"""Networks that find landmarks and pose, joined to a shape model."""

from asmnet.augmentation import Augmentation
from asmnet.data import LandmarkDataset, Preprocessing, pack_faces
from asmnet.layers import ASMProjection
from asmnet.losses import AsmWeightSchedule, asm_assisted_loss
from asmnet.networks import ASMNet, MobileNetV2, Prediction, build_network
from asmnet.predictor import FacePrediction, Predictor
from asmnet.training import TrainConfig, TrainResult, predict_dataset, train
from asmnet.transfer import transfer_trunk

__all__ = [
    "ASMNet",
    "ASMProjection",
    "AsmWeightSchedule",
    "Augmentation",
    "FacePrediction",
    "LandmarkDataset",
    "MobileNetV2",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "TrainConfig",
    "TrainResult",
    "asm_assisted_loss",
    "build_network",
    "pack_faces",
    "predict_dataset",
    "train",
    "transfer_trunk",
]
