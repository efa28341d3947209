"""What the command line does, as functions: prepare data, finish a training with its card, measure, describe."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asmnet._card import count_flops, count_parameters, model_card
from asmnet._pose_labels import CONVENTION, angles_in_degrees, head_depths, head_rotations
from asmnet.checkpoints import SHIPPED, PretrainedModel, load_pretrained, save_pretrained
from asmnet.data import LandmarkDataset, Preprocessing, load_image
from asmnet.networks import build_network, network_names, network_spec
from asmnet.predictor import FacePrediction, Predictor
from asmnet.robustness import jittered, robustness
from asmnet.training import TrainConfig, TrainResult, predict_dataset
from evaluation import bootstrap_interval, landmark_table, nme
from shape_models import ASM, LandmarkScheme, ShapeBasis
from shape_models._files import atomic, write_text

POSE_LABELS = (
    "The pose labels come from the landmarks, not from a measurement: PnP of a mean head with "
    "`Camera.from_image_size` of the packed square around the face."
)


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
    basis = None
    if len(complete) > 2:
        basis = ASM(config.asm_share).fit(complete).basis_
        dataset = dataset.with_asm(basis.project, config.preprocessing)
    if pose and scheme is not None:
        try:
            dataset = with_pose(dataset, scheme)
            validation = None if validation is None else with_pose(validation, scheme)
        except ValueError as error:
            raise ValueError(f"no pose labels for {scheme.name}: {error} Try training without pose.") from error
    if config.network_options.get("depth_head"):
        if scheme is None and dataset.depths is None:
            raise ValueError("depth_head: the faces name no scheme, without which there are no depth labels.")
        dataset = with_depths(dataset, scheme)
        validation = None if validation is None else with_depths(validation, scheme)
    else:  # a network without the head has no use for depths that came with the data
        dataset = replace(dataset, depths=None)
        validation = None if validation is None else replace(validation, depths=None)
    return dataset, validation, basis


def packed_side(preprocessing: Preprocessing) -> int:
    """Return the side to pack faces at: as many pixels as the crop will have, so that none are made up."""
    return max(256, 32 * math.ceil(1.9 * preprocessing.size / preprocessing.margin / 32))


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


@torch.no_grad()
def predict_depths(
    network: nn.Module, dataset: LandmarkDataset, preprocessing: Preprocessing, *, batch_size: int = 32
) -> np.ndarray:
    """Predict z (n, n_landmarks) in pixels of the packed images, away from the viewer, on the processor."""
    network.eval().to("cpu")
    parts = []
    for start in range(0, len(dataset), batch_size):
        batch = dataset.batch(range(start, min(start + batch_size, len(dataset))), preprocessing)
        depth = network(batch.images.contiguous(memory_format=torch.channels_last)).depth
        if depth is None:
            raise ValueError(f"{type(network).__name__} has no depth head. Try network_options={{'depth_head': true}}.")
        parts.append(depth.double() * torch.linalg.det(batch.crops.axes).abs().sqrt()[:, None])
    return torch.cat(parts).numpy()


def percent(interval: Any) -> str:
    """Write an interval of fractions in percent."""
    return f"{100 * interval.estimate:.2f} % ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _normalizer(scheme: LandmarkScheme | None) -> str:
    return "inter_ocular" if scheme is not None and "outer_eye_corners" in scheme.anchors else "box_geometric_mean"


def finish(
    result: TrainResult,
    validation: LandmarkDataset | None,
    *,
    basis: ShapeBasis | None,
    scheme: LandmarkScheme | None,
    name: str,
    licence: str,
    data: str,
    limits: str = "",
    training: str = "",
    pose_labels: str = "",
) -> Path:
    """Measure the trained network, and write it with its card, and pictures of its worst faces, into the folder."""
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
    model = PretrainedModel(
        result.network, name, config.network, dict(config.network_options), scheme, config.preprocessing, basis, header
    )
    if validation is not None:
        header["tables"]["Changed images"] = robustness_table(Predictor(model), validation)
    path = result.folder / f"{name}.safetensors"
    save_pretrained(model, path)
    write_text(path.with_suffix(".md"), model_card(load_pretrained(path).header))
    return path


def offset_along_eyes(truth: np.ndarray, prediction: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return how far true landmarks lie to the right of predicted ones, (n,), as a share of the true eye distance."""
    unit = eye_line(truth, scheme)
    along = ((truth - prediction) * unit).sum(-1) / (unit**2).sum(-1)
    return np.nanmean(along, axis=1)


def eye_line(shapes: np.ndarray, scheme: LandmarkScheme | None) -> np.ndarray:
    """Return the vector (n, 1, 2) from the outer eye corner at the image's left to that at its right."""
    pair = None if scheme is None else scheme.anchors.get("outer_eye_corners")
    if pair is None:
        raise ValueError(f"no eye corners are known for {'no scheme' if scheme is None else scheme.name}.")
    first, second = (shapes[:, list(ends)].mean(axis=1) for ends in pair)
    return (second - first)[:, None]


def robustness_table(predictor: Predictor, dataset: LandmarkDataset) -> str:
    """Return the errors on changed images as a table of a card: one look, and as many as the predictor takes itself."""
    once, settled = robustness(predictor, dataset, n_passes=1), robustness(predictor, dataset)
    width = max(map(len, once))
    lines = [f"{'NME, true boxes':<{width}}  {'one look':<23}looks until settled (the default)"]
    return "\n".join(lines + [f"{name:<{width}}  {percent(once[name]):<23}{percent(settled[name])}" for name in once])


def measure(
    result: TrainResult, validation: LandmarkDataset, scheme: LandmarkScheme | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the numbers and tables of a card, and draw the worst faces."""
    config = result.config
    kind = _normalizer(scheme)
    truth = validation.source_landmarks()
    groups = np.asarray(validation.groups)

    def errors(**options: Any) -> tuple[Any, np.ndarray, Any]:
        points, pose = predict_dataset(result.network, validation, config.preprocessing, **options)
        found = nme(truth, validation.source_landmarks(points), normalizer=kind, scheme=scheme)
        return found, points, pose

    plain, points, pose = errors()
    n = len(validation)
    where = f"{n} validation faces"
    metrics = {f"NME ({kind}), {where}, true boxes": percent(bootstrap_interval(plain, groups=groups))}
    if validation.mirror is not None:
        flipped, symmetric, _ = errors(flip_average=True)
        metrics["the same, flip averaging"] = percent(bootstrap_interval(flipped, groups=groups))
        if scheme is not None and "outer_eye_corners" in scheme.anchors:
            off = offset_along_eyes(truth, validation.source_landmarks(symmetric), scheme)
            name = "labels right of flip-averaged predictions, of the eye distance; mirrored training cannot learn it"
            metrics[name] = percent(bootstrap_interval(off, groups=groups))
    moved, _, _ = errors(boxes=jittered(validation.boxes, 0.1))
    metrics["the same, boxes shifted and scaled by up to 10 %"] = percent(bootstrap_interval(moved, groups=groups))
    metrics["failures, NME > 10 %"] = f"{100 * float(np.mean(np.asarray(plain) > 0.1)):.2f} %"
    if pose is not None and validation.rotations is not None:
        angles = angles_in_degrees(validation.rotations)
        known = np.isfinite(angles).all(1)
        mae = np.abs(pose - angles)[known].mean(0)
        metrics["pose MAE against the labels, yaw / pitch / roll"] = " / ".join(f"{v:.2f}" for v in mae) + " degrees"
    if validation.depths is not None:
        depths = predict_depths(result.network, validation, config.preprocessing)
        size = np.sqrt(np.prod(validation.boxes[:, 2:] - validation.boxes[:, :2], axis=1))
        known = np.isfinite(validation.depths).all(axis=1)
        if len(set(groups[known])) > 1:
            off = np.abs(depths - validation.depths)[known].mean(axis=1) / size[known]
            name = "depth, mean absolute difference from the fitted 3-D face model over sqrt(w h) of the box"
            metrics[name] = percent(bootstrap_interval(off, groups=groups[known]))
    distances = np.linalg.norm(validation.source_landmarks(points) - truth, axis=-1)
    tables = {}
    if scheme is not None and scheme.groups:
        size = distances.mean(1) / np.asarray(plain)
        table = landmark_table(distances / size[:, None], scheme=scheme, by="group", groups=groups)
        tables["Error by part of the face"] = str(table)
    worst = np.argsort(-np.asarray(plain))[:12]
    if importlib.util.find_spec("matplotlib") is None:
        return metrics, tables
    from asmnet._pictures import save_faces

    shown = validation.take(worst)
    titles = [f"{100 * float(plain[i]):.1f} %" for i in worst]
    save_faces(np.asarray(shown.images), shown.landmarks, points[worst], titles, result.folder / "worst.png")
    return metrics, tables


def save_overlay(path: str | Path, faces: Sequence[FacePrediction], out: Path) -> None:
    """Draw landmarks and the axes of the head on a photograph, as large as it is."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(load_image(path))
    draw = ImageDraw.Draw(image)
    for face in faces:
        points = face.landmarks
        span = float((points.max(0) - points.min(0)).max())
        radius = max(1.0, span / 120)
        for x, y in points.tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(40, 230, 40))
        if face.pose is not None:
            from pose import conventions

            radians = np.deg2rad([face.pitch, face.yaw, face.roll])
            axes = conventions.read(radians, face.pose_convention).as_matrix()
            start = points.mean(0)
            arrows = ((0, 1.0, (230, 50, 50)), (1, 1.0, (50, 200, 50)), (2, -1.0, (70, 110, 255)))
            for column, sign, colour in arrows:  # the third axis points out of the face, towards the viewer
                end = start + 0.5 * span * sign * axes[:2, column]
                draw.line((*start.tolist(), *end.tolist()), fill=colour, width=max(1, round(span / 80)))
    with atomic(out) as temporary:
        image.save(temporary, format="PNG")


def describe_networks(n_landmarks: int) -> list[dict[str, Any]]:
    """Return a row for each registered network, with the models trained on it that ship."""
    trained: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(SHIPPED):
        header = load_pretrained(name).header
        size = (Path(__file__).parent / "weights" / f"{name}.safetensors").stat().st_size
        first = next(iter(header.get("metrics", [])), ("", "not measured"))
        row = {"name": name, "megabytes": size / 1e6, "error": first[1], "error_is": first[0]}
        trained.setdefault(header["network"], []).append(row)
    rows = []
    for name in network_names():
        spec = network_spec(name)
        network = build_network(name, n_landmarks)
        rows.append(
            {
                "name": name,
                "title": spec.title,
                "size": spec.input_size,
                "parameters": count_parameters(network),
                "gflop": count_flops(network, spec.input_size) / 1e9,
                "models": trained.get(name, []),
            }
        )
    return rows


def model_information(name_or_path: str) -> dict[str, Any]:
    """Return the header of a model and its card."""
    header = load_pretrained(name_or_path).header
    return {**header, "card": model_card(header)}
