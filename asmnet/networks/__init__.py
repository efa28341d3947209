"""Network architectures, one a file, and the register they are built from by name."""

from asmnet._prediction import Prediction
from asmnet.networks._registry import NetworkSpec, build_network, network_names, network_spec, register_network
from asmnet.networks.asmnet import ASMNet
from asmnet.networks.efficientnet import EfficientNet
from asmnet.networks.hourglass import StackedHeatmapNet
from asmnet.networks.light import LightHeatmapNet
from asmnet.networks.mobilenet import InvertedResidual, MobileNetV2, load_torchvision_weights

__all__ = [
    "ASMNet",
    "EfficientNet",
    "InvertedResidual",
    "LightHeatmapNet",
    "MobileNetV2",
    "NetworkSpec",
    "Prediction",
    "StackedHeatmapNet",
    "build_network",
    "load_torchvision_weights",
    "network_names",
    "network_spec",
    "register_network",
]
