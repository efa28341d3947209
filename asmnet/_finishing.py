"""The end of a training: the network measured, and written with its card."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from asmnet._card import write_model
from asmnet._inference import Answers, predict_packed
from asmnet._pictures import save_faces
from asmnet._pose_labels import CONVENTION, angle_errors
from asmnet._scores import depth_errors, eye_offsets, normalizer_of, percent
from asmnet.checkpoints import PretrainedModel
from asmnet.data import LandmarkDataset
from asmnet.predictor import Predictor
from asmnet.robustness import robustness
from asmnet.training import TrainResult
from evaluation import bootstrap_interval, landmark_table, nme
from shape_models import AlignedASM, LandmarkScheme, ShapeBasis

POSE_LABELS = (
    "The pose labels come from the landmarks, not from a measurement: PnP of a mean head with "
    "`Camera.from_image_size` of the packed square around the face."
)


def finish(
    result: TrainResult,
    validation: LandmarkDataset | None,
    *,
    basis: ShapeBasis | None,
    shape_model: AlignedASM | None = None,
    scheme: LandmarkScheme | None,
    name: str,
    licence: str,
    data: str,
    limits: str = "",
    training: str = "",
    pose_labels: str = "",
) -> Path:
    """Measure the trained network, and write it with its card, and figures of its worst faces, into the folder."""
    result.network.to("cpu")
    config = result.config
    header: dict[str, Any] = {
        "licence": licence,
        "data": data,
        "limits": limits,
        "training": training,
        "config": config.to_dict(),
        "metrics": [],
        "tables": {},
    }
    if getattr(getattr(result.network, "heads", None), "pose", None) is not None:
        header |= {"pose_convention": CONVENTION, "pose_labels": pose_labels or POSE_LABELS}
    if validation is not None:
        metrics, header["tables"] = measure(result, validation, scheme)
        header["metrics"] = list(metrics.items())  # JSON with sorted keys would lose the order
    built = result.network, name, config.network, dict(config.network_options)
    model = PretrainedModel(*built, scheme, config.preprocessing, basis, header, shape_model)
    if validation is not None:
        header["tables"]["Changed images"] = robustness_table(Predictor(model), validation)
    path = result.folder / f"{name}.safetensors"
    write_model(model, path)
    return path


def robustness_table(predictor: Predictor, dataset: LandmarkDataset) -> str:
    """Return the errors on changed images as a table of a card: one look, and as many as the predictor takes itself."""
    once, settled = robustness(predictor, dataset, n_passes=1), robustness(predictor, dataset)
    rows = [("NME, true boxes", "one look", "looks until settled (the default)")]
    rows += [(name, percent(once[name]), percent(settled[name])) for name in once]
    wide, narrow = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:<{wide}}  {first:<{narrow}}  {second}" for name, first, second in rows)


def measure(
    result: TrainResult, validation: LandmarkDataset, scheme: LandmarkScheme | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the numbers and tables of a card, and draw the worst faces."""
    kind, groups, truth = normalizer_of(scheme), np.asarray(validation.groups), validation.source_landmarks()

    def seen(*, flip_average: bool = False) -> tuple[Answers, np.ndarray, np.ndarray]:
        found = predict_packed(result.network, validation, result.config.preprocessing, flip_average=flip_average)
        points = validation.source_landmarks(found.landmarks)
        return found, points, np.asarray(nme(truth, points, normalizer=kind, scheme=scheme))

    def interval(values: np.ndarray, which: np.ndarray | slice = slice(None)) -> str:
        return percent(bootstrap_interval(values, groups=groups[which]))

    found, points, errors = seen()
    metrics = {f"NME ({kind}), {len(validation)} validation faces, true boxes": interval(errors)}
    if validation.mirror is not None:
        _, symmetric, flipped = seen(flip_average=True)
        metrics["the same, flip averaging"] = interval(flipped)
        if scheme is not None and "outer_eye_corners" in scheme.anchors:
            name = "labels right of flip-averaged predictions, of the eye distance; mirrored training cannot learn it"
            metrics[name] = interval(np.nanmean(eye_offsets(truth, symmetric, scheme)[..., 0], axis=1))
    # 10 % of the distance of the eyes is the limit of failure in the tables of 300-W and WFLW.
    metrics["failures, NME > 10 %"] = f"{100 * float(np.mean(errors > 0.1)):.2f} %"
    if found.pose is not None and validation.rotations is not None:
        mae = angle_errors(found.pose, validation.rotations).mean(0)
        metrics["pose MAE against the labels, yaw / pitch / roll"] = " / ".join(f"{v:.2f}" for v in mae) + " degrees"
    if found.depth is not None and validation.depths is not None:
        known = np.isfinite(validation.depths).all(axis=1)
        if len(set(groups[known])) > 1:
            name = "depth, mean absolute difference from the fitted 3-D face model over sqrt(w h) of the box"
            off = depth_errors(validation.depths, found.depth, validation.boxes)
            metrics[name] = interval(off[known], known)
    tables = {}
    if scheme is not None and scheme.groups:
        distances = np.linalg.norm(points - truth, axis=-1)
        relative = distances * (errors / distances.mean(1))[:, None]
        table = landmark_table(relative, scheme=scheme, by="group", groups=groups)
        tables["Error by part of the face"] = str(table)
    if importlib.util.find_spec("matplotlib") is not None:
        worst = np.argsort(-errors)[:12]
        shown, titles = validation.take(worst), [f"{100 * error:.1f} %" for error in errors[worst]]
        images, path = np.asarray(shown.images), result.folder / "worst.png"
        save_faces(images, shown.landmarks, found.landmarks[worst], titles, path)
    return metrics, tables
