"""Options and arguments of the networks' part: what is of another kind or out of range is refused in our words."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_hostile_calls import complaint

import asmnet
from asmnet import (
    ASMNet,
    ASMProjection,
    Augmentation,
    LandmarkDataset,
    Predictor,
    Preprocessing,
    TrainConfig,
    asm_assisted_loss,
    pack_faces,
    predict_dataset,
    train,
    transfer_trunk,
)
from asmnet.heatmaps import draw_heatmaps
from asmnet.losses import landmark_loss
from asmnet.training import EpochRecord
from shape_models import ASM, make_faces

MODEL = ASM(3).fit(make_faces(20, rng=0))
FACES = torch.zeros(2, 68, 2)


def data():
    return LandmarkDataset.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), np.ones((3, 68, 2)))


KINDS = {
    "TrainConfig preprocessing": (lambda _: TrainConfig(preprocessing=224), "preprocessing: got int; .* Try Prep"),
    "TrainConfig augmentation": (lambda _: TrainConfig(augmentation="strong"), "augmentation: got 'strong'"),
    "Predictor name": (lambda _: Predictor("asmnet-68"), r"model: got 'asmnet-68'; .*from_pretrained"),
    "Predictor network": (lambda _: Predictor(torch.nn.Linear(2, 2)), "model: got Linear"),
    "from_pretrained": (lambda _: Predictor.from_pretrained(None), "name_or_path: got None"),
    "ASMProjection": (lambda _: ASMProjection(MODEL), r"basis: got ASM; expected a ShapeBasis. Try asm.basis_"),
    "landmark_loss": (lambda _: landmark_loss(np.zeros((2, 68, 2)), FACES), "prediction: got ndarray"),
    "landmark_loss target": (lambda _: landmark_loss(FACES, np.zeros((2, 68, 2))), "target: got ndarray"),
    "asm_assisted_loss": (
        lambda _: asm_assisted_loss(FACES, FACES, ASMProjection(MODEL.basis_), mask="all"),
        "mask: got 'all'",
    ),
    "pack_faces": (lambda _: pack_faces(np.zeros((3, 8, 8, 3))), "samples: got a set of ndarray"),
    "train config": (lambda folder: train({"epochs": 1}, data(), folder=folder), "config: got dict"),
    "train dataset": (lambda folder: train(TrainConfig(), None, folder=folder), "dataset: got NoneType"),
    "train validation": (
        lambda folder: train(TrainConfig(), data(), np.zeros(3), folder=folder),
        "validation: got ndarray",
    ),
    "train folder": (lambda _: train(TrainConfig(), data(), folder=None), "folder: got None"),
    "predict_dataset": (lambda _: predict_dataset(None, data(), Preprocessing()), "network: got NoneType"),
    "transfer_trunk": (lambda _: transfer_trunk("hourglass-68", None), "config: got NoneType"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_thing_is_refused_in_our_words(kind, tmp_path):
    call, words = KINDS[kind]
    with pytest.raises(TypeError, match=words) as caught:
        call(tmp_path)
    assert complaint(caught.value) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": -1.0},
        {"warmup_epochs": -1.0},
        {"patience": -1},
        {"seed": -1},
        {"asm_fraction": 2.0},
        {"asm_fraction": 0.0},
        {"clip_gradient": float("nan")},
        {"flip_average": "no"},
        {"epochs": 0},
        {"epochs": True},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}: got"):
        TrainConfig(**changes)


def test_numbers_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"scale: got 1\.0; expected less than 1"):
        Augmentation(scale=1.0)
    with pytest.raises(ValueError, match="dropout: got 2"):
        ASMNet(5, dropout=2)
    with pytest.raises(ValueError, match="pose: got 'no'; expected True or False"):
        ASMNet(5, pose="no")
    for sigma in (float("nan"), float("inf"), 0.0):
        with pytest.raises(ValueError, match="sigma: got"):
            draw_heatmaps(torch.zeros(1, 3, 2), (8, 8), sigma=sigma)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device: got 'gpu'; expected 'cpu', 'cuda'"):
        Predictor.from_pretrained("asmnet-68", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"PyTorch sees no GPU\. Try 'cpu'"):
            Predictor.from_pretrained("asmnet-68", device="cuda")
    assert asmnet.Predictor.from_pretrained("asmnet-68", device=torch.device("cpu")).device.type == "cpu"


def test_settings_are_known_by_their_old_names_for_a_while():
    with pytest.warns(DeprecationWarning, match=r"TrainConfig\.extra_share is now called extra_fraction"):
        config = TrainConfig(extra_share=2.0)
    assert config == TrainConfig(extra_fraction=2.0)
    with pytest.warns(DeprecationWarning, match="asm_share"):
        assert config.asm_share == config.asm_fraction == 0.9
    with pytest.warns(DeprecationWarning, match="extra_share"):
        assert replace(config, extra_share=1.0).extra_fraction == 1.0
    with pytest.warns(DeprecationWarning, match="asm_share"):
        assert TrainConfig.few(20, asm_share=0.5).with_settings({"asm_share": 0.7}).asm_fraction == 0.7
    with pytest.warns(DeprecationWarning, match="data_share"):
        assert EpochRecord(1, 1e-3, 0.5, 0.04, 1.0, 10.0, 90.0, data_share=0.05).data_fraction == 0.05
    with pytest.raises(TypeError, match="extra_shares"):
        TrainConfig(extra_shares=1.0)
    with pytest.raises(AttributeError, match="'TrainConfig' object has no attribute 'extra_shares'"):
        _ = config.extra_shares
    with pytest.raises(ValueError, match=r"extra_fraction: got -1\.0"):
        TrainConfig(extra_fraction=-1.0)


def test_files_keep_the_old_names_of_settings(recwarn):
    values = {"extra_share": 2.0, "asm_share": 0.8}
    written = {k: v for k, v in TrainConfig().to_dict().items() if not k.endswith("_fraction")} | values
    assert TrainConfig.from_dict(written) == TrainConfig(extra_fraction=2.0, asm_fraction=0.8)
    assert not recwarn.list


def test_settings_can_be_hashed():
    options = {"criterion_options": {"asm_weights": (2.0, 1.0, 0.0)}, "learning_rate": 1}
    config = TrainConfig(**options)
    assert hash(config) == hash(TrainConfig(**options)) == hash(copy.deepcopy(config))
    assert hash(config) == hash(pickle.loads(pickle.dumps(config)))
    assert hash(config) == hash(replace(config, learning_rate=1.0)), "equal ones are one key"
    assert len({config, TrainConfig(**options), TrainConfig(), TrainConfig.paper()}) == 3
