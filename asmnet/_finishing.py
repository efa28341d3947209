"""The end of a training: the network measured, and written with its card."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from asmnet._card import write_model
from asmnet._inference import Answers, predict_packed
from asmnet._pictures import save_faces
from asmnet._pose_labels import CONVENTION, POSE_LIMIT, angle_errors
from asmnet._scores import (
    depth_errors,
    eye_offsets,
    has_eyes,
    known_mean,
    mean_interval,
    normalizer_of,
    objects_of,
    percent,
)
from asmnet.checkpoints import PretrainedModel
from asmnet.data import LandmarkDataset
from asmnet.predictor import Predictor
from asmnet.robustness import robustness
from asmnet.training import TrainResult
from evaluation import ErrorArray, landmark_table, nme
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

    def seen(*, flip_average: bool = False) -> tuple[Answers, np.ndarray, ErrorArray]:
        found = predict_packed(result.network, validation, result.config.preprocessing, flip_average=flip_average)
        points = validation.source_landmarks(found.landmarks)
        how: Any = {"normalizer": kind, "scheme": scheme, "undefined": "nan", "missing": "failure"}
        return found, points, nme(truth, points, **how)

    def interval(values: np.ndarray) -> str:
        return percent(mean_interval(values, groups))

    found, points, scored = seen()
    errors = np.asarray(scored)
    objects = objects_of(scheme)
    metrics = {f"NME ({kind}), {len(validation)} validation {objects}, true boxes": interval(errors)}
    if validation.mirror is not None:
        _, symmetric, flipped = seen(flip_average=True)
        metrics["the same, flip averaging"] = interval(np.asarray(flipped))
        if has_eyes(scheme):
            name = "labels right of flip-averaged predictions, of the eye distance; mirrored training cannot learn it"
            metrics[name] = interval(known_mean(eye_offsets(truth, symmetric, scheme)[..., 0]))
    # 10 % of the distance of the eyes is the limit of failure in the tables of 300-W and WFLW.
    failures = np.where(scored.failed, np.inf, errors)[~scored.undefined] > 0.1
    metrics["failures, NME > 10 %"] = f"{100 * float(failures.mean()):.2f} %" if failures.size else f"no {objects}"
    for n, what in ((scored.n_undefined, "what errors are divided by is not known"), (scored.n_failed, "failed")):
        if n:
            metrics[f"{objects} left out of the mean: {what}"] = str(n)
    if found.pose is not None and validation.rotations is not None:
        off = angle_errors(found.pose, validation.rotations)
        if len(off):
            name = f"pose MAE against the labels up to {POSE_LIMIT:.0f} degrees ({len(off)} faces), yaw / pitch / roll"
            metrics[name] = " / ".join(f"{v:.2f}" for v in off.mean(0)) + " degrees"
    if found.depth is not None and validation.depths is not None:
        name = "depth, mean absolute difference from the fitted 3-D face model over sqrt(w h) of the box"
        metrics[name] = interval(depth_errors(validation.depths, found.depth, validation.boxes))
    tables = {}
    if scheme is not None and scheme.groups:
        distances = np.linalg.norm(points - truth, axis=-1)
        relative = distances * (errors / known_mean(distances))[:, None]
        table = landmark_table(relative, scheme=scheme, by="group", groups=groups)
        tables["Error by part of the face"] = str(table)
    if importlib.util.find_spec("matplotlib") is not None:
        worst = np.argsort(-errors)[:12]
        shown, titles = validation.take(worst), [f"{100 * error:.1f} %" for error in errors[worst]]
        images, path = np.asarray(shown.images), result.folder / "worst.png"
        save_faces(images, shown.landmarks, found.landmarks[worst], titles, path)
    return metrics, tables
