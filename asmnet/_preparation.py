"""What a training needs of its faces beside the landmarks: A(G), head rotations and depths."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np

from asmnet._configuration import TrainConfig
from asmnet._packing import MARGIN
from asmnet._pose_labels import head_depths, head_rotations
from asmnet._preprocessing import Preprocessing
from asmnet.data import LandmarkDataset
from shape_models import ASM, AlignedASM, LandmarkScheme, ShapeBasis

logger = logging.getLogger(__name__)


def prepare(
    config: TrainConfig,
    dataset: LandmarkDataset,
    validation: LandmarkDataset | None,
    *,
    scheme: LandmarkScheme | None,
    pose: bool = True,
) -> tuple[LandmarkDataset, LandmarkDataset | None, ShapeBasis | None]:
    """Add what the criterion needs: A(G) of a shape model fitted on the training crops, pose and depth labels."""
    units = dataset.crop_landmarks(config.preprocessing)
    complete = units[np.isfinite(units).all((1, 2))]
    basis = ASM(config.asm_fraction).fit(complete).basis_ if len(complete) > 2 else None
    labels: dict[str, Any] = {"scheme": scheme, "pose": pose}
    chosen_by = None if validation is None else with_labels(config, validation, None, **labels)
    return with_labels(config, dataset, basis, **labels), chosen_by, basis


def with_labels(
    config: TrainConfig, faces: LandmarkDataset, basis: ShapeBasis | None, *, scheme: LandmarkScheme | None, pose: bool
) -> LandmarkDataset:
    """Add A(G) by a shape model, where there is one, and the pose and depth labels that the network learns."""
    if basis is not None:
        faces = faces.with_asm(basis.project, config.preprocessing)
    if pose and scheme is not None:
        try:
            faces = with_pose(faces, scheme)
        except ValueError as error:
            raise ValueError(f"no pose labels for {scheme.name}: {error} Try training without pose.") from error
    if not config.network_options.get("depth_head"):
        return replace(faces, depths=None)  # without the head there is no use for depths that came with the data
    if scheme is None and faces.depths is None:
        raise ValueError("depth_head: the faces name no scheme, without which there are no depth labels.")
    return with_depths(faces, scheme)


def fit_shape_model(dataset: LandmarkDataset, scheme: LandmarkScheme | None) -> AlignedASM | None:
    """Fit the shape model that predictions are joined with to the complete faces; None where there is none to fit."""
    shapes = dataset.source_landmarks()
    complete = shapes[np.isfinite(shapes).all((1, 2))]
    try:
        # 98 % of the variance, as in the face model that ships; shrunk, since plain variances of few shapes are too
        # small for new ones: hands of a third person had a median plausibility of 0 by those of two, shrunk of 0.85.
        return AlignedASM(ASM(0.98, shrinkage="ledoit_wolf"), scheme=scheme).fit(complete)
    except ValueError as error:
        logger.warning("no shape model for the landmarks: %s", error)
        return None


def packed_side(preprocessing: Preprocessing) -> int:
    """Return the side to pack faces at: as many pixels as the crop will have, so that none are made up."""
    # A multiple of 32 lets runs of nearly equal sizes share a pack.
    return max(256, 32 * math.ceil(MARGIN * preprocessing.size / preprocessing.margin / 32))


def with_pose(dataset: LandmarkDataset, scheme: LandmarkScheme) -> LandmarkDataset:
    """Add the head rotations that the landmarks imply, where the data give none."""
    if dataset.rotations is not None:
        return dataset
    return dataset.with_rotations(head_rotations(dataset.landmarks, dataset.images.shape[1], scheme))


def with_depths(dataset: LandmarkDataset, scheme: LandmarkScheme | None) -> LandmarkDataset:
    """Add the depths of the 3-D face model fitted to the landmarks, where the data give none."""
    if dataset.depths is not None:
        return dataset
    assert scheme is not None
    return dataset.with_depths(head_depths(dataset.landmarks, dataset.images.shape[1], scheme))
