"""Hostile calls to networks, losses, maps, data sets, checkpoints and predictors: refused in our words, or right.

What is of another kind, type, shape, device or range is said so by the function that was called, never by torch or
NumPy from within, and never answered by numbers that mean nothing.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_hostile_calls import complaint

from asmnet import (
    ASMNet,
    ASMProjection,
    AsmWeightSchedule,
    LandmarkDataset,
    Predictor,
    Preprocessing,
    TrainConfig,
    build_network,
    pack_faces,
    predict_dataset,
    train,
)
from asmnet.augmentation import crop_transform, sample_crops
from asmnet.checkpoints import PretrainedModel, load_pretrained, read_tensors, save_pretrained, write_tensors
from asmnet.data import load_image
from asmnet.distillation import KDCriterion, TeacherWeights, assistive_loss, distill, kd_loss
from asmnet.export import DeployedNetwork, export_onnx
from asmnet.heatmaps import (
    DECODERS,
    HeatmapCriterion,
    decode_heatmaps,
    draw_heatmaps,
    draw_published_heatmaps,
    heatmap_loss,
    map_to_units,
    mirror_coherence_loss,
    to_image,
    to_map,
    units_to_map,
)
from asmnet.hybrid import predict_heatmaps
from asmnet.layers import fuse_norms
from asmnet.losses import AsmAssistedCriterion, build_criterion, landmark_loss, pose_loss, shape_prior_loss, wing
from asmnet.measuring import label_offset, measure_model
from asmnet.networks import load_torchvision_weights
from asmnet.probability import IntegralCriterion, map_covariance, map_mean, spatial_softmax
from asmnet.robustness import jittered, robustness
from asmnet.teaching import TaughtCriterion
from asmnet.transfer import initial_weights
from shape_models import ASM, make_faces

NAN = float("nan")
POINTS = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))
MAPS = torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
FACES = torch.tensor(make_faces(3, rng=1)).float()
BASIS = ASM(3).fit(make_faces(20, rng=0)).basis_
BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
CROP = crop_transform(BOXES, margin=1.2)
FORM = Preprocessing(size=32)


def tiny():
    torch.manual_seed(0)
    return ASMNet(5, width=0.25).eval()


def model(network=None, **changes):
    network = tiny() if network is None else network
    return replace(PretrainedModel(network, "tiny", "asmnet", {"width": 0.25}, None, FORM, None, {}), **changes)


def data(**fields):
    points = np.random.default_rng(0).uniform(2, 14, (3, 5, 2))
    given = {"images": np.zeros((3, 16, 16, 3), np.uint8), "landmarks": points, **fields}
    return LandmarkDataset.from_arrays(given.pop("images"), given.pop("landmarks"), **given)


def config(**changes):
    return TrainConfig(
        n_landmarks=5,
        epochs=1,
        batch_size=2,
        preprocessing=FORM,
        network_options={"width": 0.25},
        criterion_options={"asm_weights": None},
        **changes,
    )


def learn(folder, **given):
    return train(config(), data(), folder=folder / "run", **given)


def pack(folder, *counts, **given):
    samples = [SimpleNamespace(image=folder / "a.png", landmarks=np.eye(n, 2)) for n in counts or (5,)]
    return pack_faces(samples, cache=folder, **given)


IMAGES = {
    "bytes": (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "got uint8; expected float32.*normalise"),
    "whole numbers": (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "got int64; expected float32"),
    "booleans": (torch.zeros(1, 3, 64, 64, dtype=torch.bool), "got a tensor of bool"),
    "complex": (torch.zeros(1, 3, 64, 64, dtype=torch.complex64), "got a tensor of complex64"),
    "double": (torch.zeros(1, 3, 64, 64).double(), r"got float64; expected float32.*images.to\(torch.float32\)"),
    "half": (torch.zeros(1, 3, 64, 64).half(), "got float16; expected float32"),
    "sparse": (torch.zeros(1, 3, 64, 64).to_sparse(), "got a tensor of sparse_coo"),
    "elsewhere": (torch.zeros(1, 3, 64, 64, device="meta"), "got a tensor on meta; expected cpu"),
    "NumPy": (np.zeros((1, 3, 64, 64), np.float32), "got ndarray; expected a Tensor"),
    "a list": ([[0.0]], "got list"),
    "channels last": (torch.zeros(1, 64, 64, 3), r"got shape \(1, 64, 64, 3\); expected \(batch, 3, height, width\)"),
    "four channels": (torch.zeros(1, 4, 64, 64), "got shape"),
    "one image": (torch.zeros(3, 64, 64), "got shape"),
    "no pixels": (torch.zeros(1, 3, 0, 0), "got 0 x 0 pixels"),
    "odd sides": (torch.zeros(1, 3, 63, 63), "multiples of"),
}


@pytest.mark.parametrize("name", ["asmnet", "mobilenetv2", "efficientnet-b0", "hourglass-small", "light", "sat"])
def test_networks_say_what_images_they_take(name):
    network = build_network(name, 5).eval()
    for kind, (images, words) in IMAGES.items():
        with pytest.raises((TypeError, ValueError), match=f"images: .*{words}") as caught:
            network(images)
        assert complaint(caught.value) is None, f"{kind}: {complaint(caught.value)}"
    with torch.no_grad():
        assert network(torch.zeros(0, 3, 64, 64)).landmarks.shape == (0, 5, 2)
        assert network(torch.full((1, 3, 64, 64), NAN)).landmarks.isnan().all()
        images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
        torch.testing.assert_close(network(images).landmarks, network(images.contiguous()).landmarks)
        with torch.autocast("cpu", torch.bfloat16):
            assert network(images.bfloat16()).landmarks.dtype == torch.float32
    shadow = build_network(name, 5).to("meta").eval()
    assert shadow(torch.zeros(1, 3, 64, 64, device="meta")).landmarks.shape == (1, 5, 2)


# Each call, and the words that it must be refused with.
REFUSED = {
    "landmark_loss booleans": (lambda _: landmark_loss(POINTS > 0, POINTS > 0), "prediction: got a tensor of bool"),
    "landmark_loss complex": (
        lambda _: landmark_loss(POINTS.cfloat(), POINTS), "prediction: got a tensor of complex64"),
    "landmark_loss elsewhere": (lambda _: landmark_loss(POINTS, POINTS.to("meta")), "target: got a tensor on meta"),
    "landmark_loss scalar": (lambda _: landmark_loss(POINTS.sum(), POINTS.sum()), r"prediction: got shape \(\)"),
    "landmark_loss flat": (lambda _: landmark_loss(POINTS[0, 0], POINTS[0, 0]), "n_landmarks, n_dims"),
    "wing NumPy": (lambda _: wing(np.zeros(3)), "difference: got ndarray"),
    "wing width": (lambda _: wing(POINTS, width=NAN), "width: got nan"),
    "wing text": (lambda _: wing(POINTS, width="a"), "width: got 'a'"),
    "pose_loss NumPy": (lambda _: pose_loss(np.zeros((2, 3)), torch.zeros(2, 3)), "prediction: got ndarray"),
    "pose_loss four": (lambda _: pose_loss(torch.zeros(2, 4), torch.zeros(2, 4)), r"\(2, 4\); expected \(batch, 3\)"),
    "pose_loss flat": (lambda _: pose_loss(torch.zeros(3), torch.zeros(3)), r"got shape \(3,\)"),
    "prior landmarks": (lambda _: shape_prior_loss(POINTS, BASIS), r"expected shapes of \(68, 2\)"),
    "prior model": (lambda _: shape_prior_loss(FACES, ASM(3)), "basis: got ASM; .* asm.basis_"),
    "prior limit": (lambda _: shape_prior_loss(FACES, BASIS, limit=NAN), "limit: got nan"),
    "prior limit below 0": (lambda _: shape_prior_loss(FACES, BASIS, limit=-1), "limit: got -1"),
    "schedule epochs": (lambda _: AsmWeightSchedule(2.5), "n_epochs: got 2.5; expected a whole number"),
    "schedule weights": (lambda _: AsmWeightSchedule(3, weights=2.0), "weights: got 2.0"),
    "schedule infinite": (lambda _: AsmWeightSchedule(3, weights=(float("inf"), 1, 1)), r"weights\[0\]: got inf"),
    "assisted text": (lambda _: AsmAssistedCriterion(landmark_weight="1"), "landmark_weight: got '1'"),
    "assisted NaN": (lambda _: AsmAssistedCriterion(pose_weight=NAN), "pose_weight: got nan"),
    "heatmap sigma": (lambda _: HeatmapCriterion(sigma=0.0), "sigma: got 0.0"),
    "heatmap peak": (lambda _: HeatmapCriterion(peak=-1.0), "peak: got -1.0"),
    "heatmap depth": (lambda _: HeatmapCriterion(depth_weight=NAN), "depth_weight: got nan"),
    "integral weight": (lambda _: IntegralCriterion(map_weight=-1.0), "map_weight: got -1.0"),
    "kd weight": (lambda _: KDCriterion(pose_weight=-1.0), "pose_weight: got -1.0"),
    "teacher weights": (lambda _: TeacherWeights(NAN, -0.5, 0.4), "alpha: got nan"),
    "teacher push": (lambda _: TeacherWeights(0.9, 0.5, 0.4), "alpha_negative: got 0.5"),
    "kd NumPy": (lambda _: kd_loss(*[np.zeros((2, 5, 2))] * 4), "prediction: got ndarray"),
    "kd mask": (lambda _: kd_loss(*[POINTS] * 4, mask=torch.zeros(3)), r"mask: got shape \(3,\)"),
    "assistive weights": (lambda _: assistive_loss(*[POINTS] * 3, weights=1.0), "weights: got float"),
    "heatmap_loss stacks": (lambda _: heatmap_loss(MAPS, MAPS), "predictions: got Tensor; expected a list"),
    "heatmap_loss none": (lambda _: heatmap_loss([], MAPS), "predictions: got none"),
    "heatmap_loss NumPy": (lambda _: heatmap_loss([MAPS.numpy()], MAPS), r"predictions\[0\]: got ndarray"),
    "heatmap_loss mask": (lambda _: heatmap_loss([MAPS], MAPS, mask=torch.ones(2, 4)), r"mask: got shape \(2, 4\)"),
    "coherence mirror": (lambda _: mirror_coherence_loss([MAPS], [MAPS], mirror=None), "mirror: got None"),
    "coherence sizes": (
        lambda _: mirror_coherence_loss([MAPS], [MAPS[..., :4]], mirror=range(5)), r"mirrored\[0\]: got shape"),
    "coherence stacks": (lambda _: mirror_coherence_loss([MAPS], [MAPS] * 2, mirror=range(5)), "got 2 stacks"),
    "draw NumPy": (lambda _: draw_heatmaps(np.zeros((2, 2)), (8, 8)), "points: got ndarray"),
    "draw below 0": (lambda _: draw_heatmaps(POINTS, (-8, 8)), r"size\[0\]: got -8"),
    "draw half a pixel": (lambda _: draw_heatmaps(POINTS, (8.5, 8)), r"size\[0\]: got 8.5"),
    "draw one number": (lambda _: draw_heatmaps(POINTS, 8), "size: got 8"),
    "draw peak": (lambda _: draw_heatmaps(POINTS, (8, 8), peak=NAN), "peak: got nan"),
    "published ratio": (lambda _: draw_published_heatmaps(POINTS, (8, 8), ratio=0), "ratio: got 0"),
    "published below 0": (lambda _: draw_published_heatmaps(POINTS, (8, 8), ratio=-2), "ratio: got -2"),
    "to_map ratio": (lambda _: to_map(POINTS, ratio=0), "ratio: got 0"),
    "to_image NumPy": (lambda _: to_image(np.zeros((1, 2)), ratio=2), "points: got ndarray"),
    "to units of none": (lambda _: map_to_units(POINTS, (0, 0)), r"size\[0\]: got 0"),
    "to map in 3-D": (lambda _: units_to_map(torch.zeros(1, 3), (8, 8)), r"got shape \(1, 3\)"),
    "decode nothing": (lambda _: decode_heatmaps(torch.zeros(2, 0, 0)), "maps of one pixel"),
    "decode sparse": (lambda _: decode_heatmaps(MAPS.to_sparse()), "maps: got a tensor of sparse_coo"),
    "decode window": (lambda _: decode_heatmaps(MAPS, method="soft_argmax", window=5.0), "window: got 5.0"),
    "decode NaN": (lambda _: decode_heatmaps(MAPS, method="soft_argmax", temperature=NAN), "temperature: got nan"),
    "softmax flat": (lambda _: spatial_softmax(torch.zeros(4)), r"got shape \(4,\)"),
    "mean NumPy": (lambda _: map_mean(np.ones((4, 4))), "maps: got ndarray"),
    "covariance flat": (lambda _: map_covariance(torch.zeros(4)), r"got shape \(4,\)"),
    "fuse nothing": (lambda _: fuse_norms(None), "network: got NoneType"),
    "crop NumPy": (lambda _: crop_transform(np.zeros((1, 4)), margin=1.2), "boxes: got ndarray"),
    "crop NaN": (lambda _: crop_transform(torch.tensor([[0, 0, NAN, 1]]), margin=1.2), r"boxes: got \[0.0, 0.0, nan"),
    "crop flat": (lambda _: crop_transform(BOXES[0], margin=1.2), r"boxes: got shape \(4,\)"),
    "crop five": (lambda _: crop_transform(torch.zeros(1, 5), margin=1.2), r"boxes: got shape \(1, 5\)"),
    "crop margin": (lambda _: crop_transform(BOXES, margin=-1.2), "margin: got -1.2"),
    "crop turns": (lambda _: crop_transform(BOXES, margin=1.2, turns=torch.zeros(3)), r"turns: got shape \(3,\)"),
    "crop turn": (lambda _: crop_transform(BOXES, margin=1.2, turns=0.3), "turns: got float"),
    "sample channels": (lambda _: sample_crops(torch.rand(1, 3, 8, 8), CROP, 4), "images: got shape"),
    "sample 16 bits": (lambda _: sample_crops(torch.zeros(1, 8, 8, 3, dtype=torch.int32), CROP, 4), "got torch.int32"),
    "sample more": (lambda _: sample_crops(torch.rand(2, 8, 8, 3), CROP, 4), "crops: got 1"),
    "sample nothing": (lambda _: sample_crops(torch.rand(1, 8, 8, 3), CROP, 0), "size: got 0"),
    "normalise bytes": (
        lambda _: FORM.normalise(torch.zeros(1, dtype=torch.uint8)), "floats from 0 to 1. Try images / 255"),
    "deployed bytes": (
        lambda _: DeployedNetwork(model())(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), "Try images / 255"),
    "deployed size": (lambda _: DeployedNetwork(model())(torch.zeros(1, 3, 64, 64)), r"expected \(batch, 3, 32, 32\)"),
    "deployed network": (lambda _: DeployedNetwork(tiny()), "model: got ASMNet"),
    "oblong images": (lambda _: data(images=np.zeros((3, 16, 20, 3), np.uint8)), "images: got uint8 of shape"),
    "complex landmarks": (
        lambda _: data(landmarks=np.ones((3, 5, 2), complex)), "landmarks: got an array of complex128"),
    "no landmarks": (lambda _: data(landmarks=np.zeros((3, 0, 2))), "landmarks: got shape"),
    "boxes": (lambda _: data(boxes=np.ones((2, 4))), r"boxes: got shape \(2, 4\); expected \(3, 4\)"),
    "names": (lambda _: data(names=("a",)), "names: got 1; expected one for each of 3"),
    "groups": (lambda _: data(groups=("a",)), "groups: got 1"),
    "to_source": (lambda _: data(to_source=np.ones((2, 3))), "to_source: got shape"),
    "weights": (lambda _: data(weights=np.ones((3, 1))), "weights: got shape"),
    "weights below 0": (lambda _: data(weights=-np.ones(3)), "weights: got NaN, infinity or less than 0"),
    "smooth landmarks": (lambda _: data(asm_landmarks=np.ones((3, 4, 2))), "asm_landmarks: got shape"),
    "rotations": (lambda _: data(rotations=np.ones((3, 3))), "rotations: got shape"),
    "depths": (lambda _: data(depths=np.ones((3, 4))), "depths: got shape"),
    "companions": (lambda _: data(companions={"a": np.ones((2, 5, 2))}), "companion a: got shape"),
    "colours": (lambda _: data(colour=1), "no option is called 'colour'"),
    "take beyond": (lambda _: data().take([7]), r"indices: got \[7\]; expected whole numbers below 3"),
    "take half": (lambda _: data().take([0.5]), r"indices: got \[0.5\]"),
    "take part of a mask": (lambda _: data().take([True, False]), "or a mask of 3"),
    "take text": (lambda _: data().take("a"), "indices: got a"),
    "batch half": (lambda _: data().batch([0.5], FORM), r"indices: got \[0.5\]"),
    "batch beyond": (lambda _: data().batch([7], FORM), r"indices: got \[7\]"),
    "batch one box": (lambda _: data().batch([0, 1], FORM, boxes=[[1, 1, 5, 5]]), r"boxes: got shape \(1, 4\)"),
    "batch of no size": (lambda _: data().batch([0], FORM, size=0), "size: got 0"),
    "batch form": (lambda _: data().batch([0], 32), "preprocessing: got int"),
    "batch augmentation": (lambda _: data().batch([0], FORM, augmentation="strong"), "augmentation: got 'strong'"),
    "batch elsewhere": (lambda _: data().batch([0], FORM, device="gpu"), "device: got 'gpu'"),
    "batch unknown face": (lambda _: data(landmarks=np.full((3, 5, 2), NAN)).batch([0], FORM), r"boxes: got \[nan"),
    "data elsewhere": (lambda _: data().to("gpu"), "device: got 'gpu'"),
    "weight": (lambda _: data().with_weight(NAN), "weight: got nan"),
    "predict boxes": (
        lambda _: predict_dataset(tiny(), data(), FORM, boxes=np.ones((1, 4))), r"boxes: got shape \(1, 4\)"),
    "predict in none": (lambda _: predict_dataset(tiny(), data(), FORM, batch_size=0), "batch_size: got 0"),
    "predict nothing": (lambda _: predict_dataset(tiny(), data().take([]), FORM), "dataset: got no faces"),
    "predict mirrored": (lambda _: predict_dataset(tiny(), data(), FORM, flip_average="no"), "flip_average: got 'no'"),
    "train one extra": (lambda folder: learn(folder, extra=data()), "extra: got a LandmarkDataset; expected a list"),
    "train words": (lambda folder: learn(folder, extra=["more"]), r"extra\[0\]: got 'more'"),
    "train other extra": (
        lambda folder: learn(folder, extra=[data(landmarks=np.ones((3, 4, 2)))]), r"extra\[0\]: got 4"),
    "train from a network": (lambda folder: learn(folder, initial=tiny()), "initial: got ASMNet; .*state_dict"),
    "train from others": (lambda folder: learn(folder, initial={"x": POINTS}), "initial: .* asmnet.transfer_trunk"),
    "train elsewhere": (lambda folder: learn(folder, device="gpu"), "device: got 'gpu'"),
    "train anchors": (lambda folder: learn(folder, validation=data(), anchors=([0], [9])), "anchors: got .* 0 to 4"),
    "train eyes": (lambda folder: learn(folder, validation=data(), anchors="eyes"), "anchors: got 'eyes'"),
    "train on nobody": (lambda folder: train(config(), data().take([]), folder=folder), "dataset: got no faces"),
    "config rate": (lambda _: config(learning_rate=float("inf")), "learning_rate: got inf"),
    "config decay": (lambda _: config(inverse_decay=NAN), "inverse_decay: got nan"),
    "config final": (lambda _: config(final_rate=-1.0), "final_rate: got -1.0"),
    "config factor": (lambda _: config(step_factor=-0.2), "step_factor: got -0.2"),
    "config steps": (lambda _: config(schedule="steps", step_epochs=("a",)), "step_epochs: got"),
    "config few": (lambda _: TrainConfig.few(20.5), "n_images: got 20.5"),
    "config nothing": (lambda _: TrainConfig.from_dict(None), "values: got NoneType"),
    "network of half a landmark": (lambda _: build_network("hourglass", 5.5), "n_landmarks: got 5.5"),
    "network of text": (lambda _: build_network("light", "5"), "n_landmarks: got '5'"),
    "network without channels": (lambda _: build_network("light", 5, channels=0), "channels: got 0"),
    "torchvision": (lambda _: load_torchvision_weights(tiny(), None), "state_dict: got NoneType"),
    "save network": (lambda folder: save_pretrained(tiny(), folder / "a.safetensors"), "model: got ASMNet"),
    "save nowhere": (lambda _: save_pretrained(model(), None), "path: got None"),
    "save other options": (
        lambda folder: save_pretrained(model(network_options={}), folder / "a.safetensors"), "expected the options"),
    "save other landmarks": (
        lambda folder: save_pretrained(model(basis=BASIS), folder / "a.safetensors"), "basis: got one of shapes"),
    "save no name": (lambda folder: save_pretrained(model(name=None), folder / "a.safetensors"), "name: got NoneType"),
    "save words": (
        lambda folder: save_pretrained(model(header={"x": POINTS}), folder / "a.safetensors"), "header: got what JSON"),
    "write NumPy": (lambda folder: write_tensors(folder / "a", {"x": np.zeros(2)}, {}), r"tensors\['x'\]: got ndarray"),
    "write sparse": (lambda folder: write_tensors(folder / "a", {"x": MAPS.to_sparse()}, {}), "expected dense numbers"),
    "write shadow": (lambda folder: write_tensors(folder / "a", {"x": MAPS.to("meta")}, {}), "expected dense numbers"),
    "write numbered": (lambda folder: write_tensors(folder / "a", {1: MAPS}, {}), "a name: got int"),
    "write nowhere": (lambda _: write_tensors(None, {"x": MAPS}, {}), "path: got None"),
    "read nowhere": (lambda _: read_tensors(None), "path: got None"),
    "export network": (lambda folder: export_onnx(tiny(), folder / "a.onnx"), "model: got ASMNet"),
    "export nowhere": (lambda _: export_onnx(model(), None), "path: got None"),
    "export future": (
        lambda folder: export_onnx(model(), folder / "a.onnx", opset=999), "opset: got 999; expected 17 to"),
    "start from no settings": (lambda _: initial_weights("asmnet-68", None), "config: got NoneType"),
    "robustness of nothing": (lambda _: robustness(None, data()), "predictor: got NoneType"),
    "robustness on nothing": (lambda _: robustness(Predictor(model()), None), "dataset: got NoneType"),
    "jitter text": (lambda _: jittered("a", 0.1), "boxes: got a str"),
    "measure nothing": (lambda _: measure_model(None, []), "predictor: got NoneType"),
    "measure a list": (lambda _: measure_model(Predictor(model()), []), "samples: got list; .*load_landmarks"),
    "offset of nothing": (lambda _: label_offset(None, []), "predictor: got NoneType"),
    "distill nothing": (lambda folder: distill(None, config(), data(), folder=folder), "student: got NoneType"),
    "distill nowhere": (lambda _: distill(config(), config(), data(), folder=None), "folder: got None"),
    "distill nobody": (lambda folder: distill(config(), config(), None, folder=folder), "dataset: got NoneType"),
    "taught by none": (lambda _: TaughtCriterion(teachers=None), "teachers: got NoneType"),
    "taught by more": (lambda _: TaughtCriterion(teachers={}, fraction=1.5), "fraction: got 1.5"),
    "taught otherwise": (lambda _: TaughtCriterion(teachers={}, options={"x": 1}), "no option is called 'x'"),
    "maps of nothing": (lambda _: predict_heatmaps(None, data(), FORM), "network: got NoneType"),
    "maps of nobody": (lambda _: predict_heatmaps(tiny(), None, FORM), "dataset: got NoneType"),
    "maps in none": (lambda _: predict_heatmaps(tiny(), data(), FORM, batch_size=0), "batch_size: got 0"),
    "criterion of a list": (
        lambda _: build_criterion("kd", n_epochs=1, steps_per_epoch=1, options=[1]), "options: got list"),
    "image of nothing": (lambda _: load_image(None), "path: got None"),
    "pack at no size": (lambda folder: pack(folder, size=0), "size: got 0"),
    "pack by no margin": (lambda folder: pack(folder, margin=NAN), "margin: got nan"),
    "pack unlike": (lambda folder: pack(folder, 5, 4), r"landmarks of shapes \[\(4, 2\), \(5, 2\)\]"),
    "settings of none": (lambda _: config().with_settings(None), "settings: got NoneType"),
    "settings by number": (lambda _: config().with_settings({1: 2}), "settings: a name: got int"),
    "predictor shapes": (lambda _: Predictor(model(), shape_model=BASIS), "shape_model: got ShapeBasis"),
    "predictor errors": (lambda _: Predictor(model(), uncertainty={"a": 1}), "uncertainty: got dict"),
    "predictor search": (lambda _: Predictor(model(), search="search68"), "search: got 'search68'"),
    "predictor passes": (lambda _: Predictor(model())(np.zeros((40, 40)), n_passes=1.5), "n_passes: got 1.5"),
    "predictor views": (lambda _: Predictor(model())(np.zeros((40, 40)), n_views="3"), "n_views: got '3'"),
    "predictor batches": (lambda _: Predictor(model())(np.zeros((40, 40)), batch_size=2.5), "batch_size: got 2.5"),
    "predictor fit": (lambda _: Predictor(model())(np.zeros((40, 40)), fit="no"), "fit: got 'no'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_in_our_words(name, tmp_path):
    call, words = REFUSED[name]
    if name.startswith("export"):
        pytest.importorskip("onnx")
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        call(tmp_path)
    assert complaint(caught.value) is None


@pytest.mark.parametrize("method", DECODERS)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_pixels_are_told_apart_whatever_the_precision_of_the_maps(method, kind):
    """In bfloat16 every other number from 256 on is missing, in half precision from 2048 on."""
    place = torch.tensor([[2051.0, 13.0]])
    found = decode_heatmaps(draw_heatmaps(place, (32, 2100)).to(kind), method=method)
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    torch.testing.assert_close(found.float(), place, atol=0.03, rtol=0)
    mean = map_mean(spatial_softmax(100 * draw_heatmaps(place, (32, 2100)).to(kind)))
    torch.testing.assert_close(units_to_map(mean, (32, 2100)).float(), place, atol=0.03, rtol=0)


def test_masks_and_negative_indices_choose_faces():
    """A mask is no list of the numbers 0 and 1."""
    assert data().batch([True, False, True], FORM).indices.tolist() == [0, 2]
    assert data().batch([-1], FORM).indices.tolist() == [2]
    assert data().take(np.array([False, True, False])).names == ("1",)
    assert len(data().take([])) == 0


def test_what_half_precision_cannot_hold_is_kept(tmp_path):
    network = tiny()
    network.heads.landmarks.weight.data.fill_(1e6)
    save_pretrained(model(network), tmp_path / "large.safetensors")
    assert float(load_pretrained(tmp_path / "large.safetensors").network.heads.landmarks.weight.detach().max()) == 1e6
    network.heads.landmarks.weight.data.fill_(NAN)
    with pytest.raises(ValueError, match=r"not finite \(heads.landmarks.weight\)"):
        save_pretrained(model(network), tmp_path / "nan.safetensors")
    assert not (tmp_path / "nan.safetensors").exists()


def test_two_names_of_one_tensor_are_written(tmp_path):
    shared = torch.arange(3.0)
    write_tensors(tmp_path / "tied.safetensors", {"a": shared, "b": shared}, {})
    tensors, _ = read_tensors(tmp_path / "tied.safetensors")
    assert torch.equal(tensors["a"], shared)
    assert torch.equal(tensors["b"], shared)


def test_projections_keep_to_the_numbers_whatever_their_type():
    project = ASMProjection(BASIS)
    torch.testing.assert_close(project(FACES.long()).float(), project(FACES.long().float()))
    with pytest.raises((TypeError, ValueError)) as caught:
        project(POINTS)
    assert complaint(caught.value) is None
