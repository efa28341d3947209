"""One way from crops to answers in pixels and degrees, for packed faces and for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from asmnet._options import check_counts, check_kind
from asmnet._pose_labels import CONVENTION, DEGREES, turned_angles
from asmnet._prediction import Prediction
from asmnet._preprocessing import Preprocessing
from asmnet.augmentation import CropTransform
from asmnet.data import LandmarkDataset
from shape_models._options import check_flags


class Answers(NamedTuple):
    """What a network says of faces, in the images that they were cut from.

    Parameters
    ----------
    landmarks : ndarray of shape (n, K, 2)
        Pixels.
    pose : ndarray of shape (n, 3) or None
        (yaw, pitch, roll) in degrees.
    depth : ndarray of shape (n, K) or None
        Pixels, away from the viewer.
    maps : ndarray of shape (n, K, height, width) or None
        Heat maps of the last stack, where they were asked for.
    matrices : ndarray of shape (n, 2, 3) or None
        Pixels of these maps, centres at integers, to pixels of the image.
    """

    landmarks: np.ndarray
    pose: np.ndarray | None = None
    depth: np.ndarray | None = None
    maps: np.ndarray | None = None
    matrices: np.ndarray | None = None

    def rows(self, which: np.ndarray) -> Answers:
        """Return some of them."""
        return Answers(self.landmarks[which], *(None if part is None else part[which] for part in self[1:]))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Return one after the other."""
        columns = list(zip(*parts, strict=True))
        rest = (None if column[0] is None else np.concatenate(column) for column in columns[1:])
        return cls(np.concatenate(columns[0]), *rest)


@torch.inference_mode()
def predict_batch(
    network: nn.Module,
    images: Tensor,
    crops: CropTransform,
    mirror: Sequence[int] | np.ndarray | None = None,
    *,
    maps: bool = False,
    convention: str = CONVENTION,
) -> Answers:
    """Run a network on normalised crops (batch, 3, height, width), and bring its answers to where they were cut.

    With a mirror map the answer is the mean of that for the crops and that for their mirror images, mirrored back.
    """
    found = _averaged(network, images.contiguous(memory_format=torch.channels_last), mirror)
    axes = crops.axes
    pose = depth = drawn = matrices = None
    if found.pose is not None:
        pose = DEGREES * found.pose.double().cpu().numpy()
        turns = crops.angle.cpu().numpy()
        # The angles are those of an upright crop: turned back they go through matrices, which rounds.
        pose = np.where(turns[:, None] == 0, pose, turned_angles(pose, turns, convention)) if turns.any() else pose
    if found.depth is not None:
        # The square root of the crop's area is the unit of depth.
        depth = (found.depth.to(axes) * torch.linalg.det(axes).abs().sqrt()[:, None]).cpu().numpy()
    if maps and found.heatmaps:
        last = found.heatmaps[-1].float()
        # Pixel u of a map lies at (u + 1/2) / width - 1/2 in units of the crop.
        step = 1 / torch.tensor([last.shape[-1], last.shape[-2]]).to(axes)
        corner = (axes @ (step / 2 - 0.5)[:, None])[..., 0] + crops.centre
        drawn, matrices = last.cpu().numpy(), torch.cat([axes * step, corner[..., None]], dim=2).cpu().numpy()
    return Answers(crops.to_pixels(found.landmarks.to(axes)).cpu().numpy(), pose, depth, drawn, matrices)


def _averaged(network: nn.Module, images: Tensor, mirror: Sequence[int] | np.ndarray | None) -> Prediction:
    plain: Prediction = network(images)
    if mirror is None:
        return plain
    other: Prediction = network(images.flip(3))
    order = torch.as_tensor(np.array(mirror), device=images.device)

    def sign(*signs: float) -> Tensor:
        return torch.tensor(signs).to(plain.landmarks)

    def mean(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return None if first is None or second is None else (first + second) / 2

    # A mirror image changes the sign of x, of yaw and of roll.
    landmarks = (plain.landmarks + other.landmarks[:, order] * sign(-1.0, 1.0)) / 2
    pose = None if other.pose is None else other.pose * sign(-1.0, 1.0, -1.0)
    depth = None if other.depth is None else other.depth[:, order]
    maps = tuple((a + b[:, order].flip(3)) / 2 for a, b in zip(plain.heatmaps, other.heatmaps, strict=True))
    return Prediction(landmarks, mean(plain.pose, pose), maps, mean(plain.depth, depth))


def predict_packed(
    network: nn.Module,
    dataset: LandmarkDataset,
    preprocessing: Preprocessing,
    *,
    boxes: np.ndarray | None = None,
    flip_average: bool = False,
    maps: bool = False,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> Answers:
    """Predict all faces of a packed set, in its pixels, by its own or by other boxes (n, 4)."""
    check_kind("network", network, nn.Module)
    check_kind("dataset", dataset, LandmarkDataset, " Try pack_faces, or LandmarkDataset.from_arrays.")
    check_kind("preprocessing", preprocessing, Preprocessing)
    check_flags(flip_average=flip_average)
    check_counts(batch_size=batch_size)
    if boxes is not None and np.shape(boxes) != (len(dataset), 4):
        raise ValueError(f"boxes: got shape {np.shape(boxes)}; expected ({len(dataset)}, 4), one for each face.")
    if not len(dataset):
        raise ValueError("dataset: got no faces; expected one at least.")
    if flip_average and dataset.mirror is None:
        raise ValueError("flip_average needs the mirror map of the landmarks; the dataset has none.")
    mirror = dataset.mirror if flip_average else None
    training = network.training
    network.eval()
    parts = []
    try:
        for start in range(0, len(dataset), batch_size):
            rows = np.arange(start, min(start + batch_size, len(dataset)))
            own = None if boxes is None else boxes[rows]
            batch = dataset.batch(rows, preprocessing, boxes=own, device=device)
            parts.append(predict_batch(network, batch.images, batch.crops, mirror, maps=maps))
    finally:
        network.train(training)
    return Answers.joined(parts)
