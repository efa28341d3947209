"""Checkpoints: round trips, sizes, and files that are truncated, changed or foreign."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from asmnet import ASMNet, Predictor, Preprocessing, TrainConfig, build_network
from asmnet._card import model_card
from asmnet.checkpoints import (
    SHIPPED,
    WEIGHTS,
    CheckpointError,
    PretrainedModel,
    load_pretrained,
    pretrained_names,
    read_tensors,
    save_pretrained,
    write_tensors,
)
from shape_models import ASM, IBUG68, AlignedASM, Ellipsoid, LandmarkScheme, get_scheme, make_faces


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    basis = ASM(0.9, limit=2.5).fit(make_faces(100, rng=0)).basis_
    preprocessing = Preprocessing(size=96, margin=1.25)
    return PretrainedModel(
        ASMNet(68, width=0.25).eval(), "tiny", "asmnet", {"width": 0.25}, IBUG68, preprocessing, basis, {"licence": "x"}
    )


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    return path, save_pretrained(model, path)


def test_round_trip(model, saved):
    path, digest = saved
    back = load_pretrained(path)
    assert (back.name, back.network_name, back.network_options) == ("tiny", "asmnet", {"width": 0.25})
    assert back.preprocessing == model.preprocessing
    assert back.scheme == IBUG68
    assert back.header["licence"] == "x"
    shapes = make_faces(5, rng=1)
    np.testing.assert_allclose(back.basis.project(shapes), model.basis.project(shapes), atol=1e-12)
    images = torch.rand(2, 3, 96, 96)
    torch.testing.assert_close(back.network(images).landmarks, model.network(images).landmarks, atol=2e-3, rtol=0)
    words = json.loads(path.with_suffix(".json").read_text())
    assert words["sha256"] == digest
    assert words["preprocessing"]["margin"] == 1.25


def test_full_precision_round_trip_is_exact(model, tmp_path):
    save_pretrained(model, tmp_path / "full.safetensors", half=False)
    back = load_pretrained(tmp_path / "full.safetensors")
    for name, value in model.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], value)


def test_asmnet_at_full_width_ships_below_four_megabytes(tmp_path):
    model = PretrainedModel(ASMNet(68), "full", "asmnet", {}, IBUG68, Preprocessing(), None, {})
    save_pretrained(model, tmp_path / "full.safetensors")
    assert (tmp_path / "full.safetensors").stat().st_size < 4e6


def test_truncated_files_are_refused(saved):
    path, _ = saved
    content = path.read_bytes()
    for n in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(CheckpointError, match="truncated or no safetensors"):
            load_pretrained(path)


def test_changed_files_are_refused(saved):
    path, digest = saved
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="checksum"):
        read_tensors(path, sha256=digest)


def test_foreign_files_are_refused(tmp_path, model):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(CheckpointError, match="truncated or no safetensors"):
        load_pretrained(path)
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(CheckpointError):
        load_pretrained(path)
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not one written by this library"):
        load_pretrained(path)
    save_file({"x": torch.ones(2)}, path, metadata={"format": "asmnet", "version": "99", "header": "{}"})
    with pytest.raises(CheckpointError, match="newer version"):
        load_pretrained(path)
    save_file({"x": torch.ones(2)}, path, metadata={"format": "asmnet", "version": "1", "header": "{"})
    with pytest.raises(CheckpointError, match="malformed"):
        load_pretrained(path)
    write_tensors(path, {"x": torch.ones(2)}, {"kind": "training"})
    with pytest.raises(CheckpointError, match="'training'"):
        load_pretrained(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t, h: h.pop("preprocessing"),
        lambda t, h: h.update(network="resnet"),
        lambda t, h: h.update(n_landmarks=67),
        lambda t, h: h.update(network_options={"depth": 3}),
        lambda t, h: h["preprocessing"].update(size=-1),
        lambda t, h: h.update(scheme="faces9000"),
        lambda t, h: t.pop("network.heads.landmarks.weight"),
        lambda t, h: t["basis.components"].mul_(2),
        lambda t, h: t["network.heads.landmarks.bias"].fill_(float("nan")),
    ],
)
def test_contents_that_make_no_model_are_refused(saved, spoil):
    path, _ = saved
    tensors, header = read_tensors(path)
    spoil(tensors, header)
    write_tensors(path, tensors, header)
    with pytest.raises(CheckpointError, match=r"do not make a model|not finite"):
        load_pretrained(path)


def test_what_is_known_of_the_errors_is_kept_by_the_model(saved, tmp_path):
    """Loaded and saved again, changed or left out; the header has the words alone."""
    uncertainty = load_pretrained("hourglass-68").uncertainty
    known = replace(load_pretrained(saved[0]), uncertainty=uncertainty)
    for name in ("once", "again"):
        save_pretrained(known, tmp_path / f"{name}.safetensors")
        known = load_pretrained(tmp_path / f"{name}.safetensors")
        assert known.uncertainty.to_header() == uncertainty.to_header()
        assert "uncertainty" not in known.header
        assert "uncertainty" not in json.loads((tmp_path / f"{name}.json").read_text())
    assert Predictor(known).uncertainty is known.uncertainty
    save_pretrained(replace(known, uncertainty=None), tmp_path / "without.safetensors")
    assert load_pretrained(tmp_path / "without.safetensors").uncertainty is None
    tensors, header = read_tensors(tmp_path / "once.safetensors")
    write_tensors(tmp_path / "damaged.safetensors", tensors, {**header, "uncertainty": {"correlation": 0.0}})
    with pytest.raises(CheckpointError, match="do not make a model"):
        load_pretrained(tmp_path / "damaged.safetensors")


def test_what_is_taken_out_of_a_model_is_not_saved(model, tmp_path):
    """The header of the file it was read from tells of a scheme and of shapes that it has no more."""
    scheme = LandmarkScheme("mine", 68)
    shapes = AlignedASM(ASM(3), scheme=scheme).fit(make_faces(20, rng=0))
    save_pretrained(replace(model, scheme=scheme, shape_model=shapes), tmp_path / "all.safetensors")
    whole = load_pretrained(tmp_path / "all.safetensors")
    assert whole.scheme == scheme
    save_pretrained(replace(whole, scheme=None, shape_model=None), tmp_path / "less.safetensors")
    less = load_pretrained(tmp_path / "less.safetensors")
    assert less.scheme is None
    assert less.shape_model is None


def test_cards_and_words_that_ship_are_those_of_the_weights():
    for name in SHIPPED:
        path = WEIGHTS / f"{name}.safetensors"
        _, header = read_tensors(path)
        assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card(header)
        assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == header | {"sha256": SHIPPED[name]}
        assert TrainConfig.from_dict(header["config"]).to_dict().keys() == header["config"].keys()


def test_a_scheme_may_be_named(model):
    assert replace(model, scheme="ibug68").scheme is IBUG68
    with pytest.raises(ValueError, match="ibug86"):
        replace(model, scheme="ibug86")


def test_wrong_saves_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors"):
        save_pretrained(model, tmp_path / "tiny.bin")
    other = replace(model, basis=replace(model.basis, limit=Ellipsoid(2.0)))
    with pytest.raises(ValueError, match="Box or None"):
        save_pretrained(other, tmp_path / "tiny.safetensors")


def test_shipped_models_match_their_checksums():
    assert pretrained_names() == sorted(SHIPPED)
    for name in SHIPPED:
        model = load_pretrained(name)
        assert model.name == name
        assert model.header["licence"]


def test_files_are_equal_byte_for_byte(tmp_path):
    network = build_network("asmnet", 5, width=0.25)
    model = PretrainedModel(network, "x", "asmnet", {"width": 0.25}, None, Preprocessing(size=32), None, {})
    assert len({save_pretrained(model, tmp_path / "x.safetensors") for _ in range(8)}) == 1
    load_pretrained(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "words",
    [
        {"format": "asmnet", "version": "1", "header": "[" * 100_000 + "]" * 100_000},
        {"format": "asmnet", "version": "-1", "header": "{}"},
        {"format": "asmnet", "version": "0", "header": "{}"},
        {"format": "asmnet", "version": "one", "header": "{}"},
    ],
)
def test_malformed_headers_are_refused(words, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors", metadata=words)
    with pytest.raises(CheckpointError, match="header is malformed"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_of_torch_say_what_to_do(old, tmp_path):
    torch.save({"features.0.0.weight": torch.ones(2)}, tmp_path / "m.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match="load_torchvision_weights"):
        load_pretrained(tmp_path / "m.pth")


@pytest.mark.parametrize("length", [0x80, 0x280])
def test_a_header_of_any_length_is_no_pickle(length, tmp_path):
    """The first bytes of a safetensors file are the length of its header; they may look like a pickle."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.ones(2)}, {"kind": "k"})
    base = int.from_bytes(path.read_bytes()[:8], "little")
    padding = length + 0x1000 - base
    write_tensors(path, {"x": torch.ones(2)}, {"kind": "k" * (1 + padding)})
    content = path.read_bytes()
    assert content[0] == 0x80
    assert read_tensors(path)[0]["x"].tolist() == [1, 1]


def test_the_shape_model_of_any_landmarks_travels_with_the_network(tmp_path):
    """Without a scheme, with a bundled one, and with one of the user's own."""
    rng = np.random.default_rng(0)
    mine = LandmarkScheme("kite", 4, mirror=[0, 2, 1, 3], anchors={"width": ([1], [2])})
    for scheme, n in ((None, 4), (get_scheme("cofw29"), 29), (mine, 4)):
        shapes = 40 * rng.normal(size=(1, n, 2)) + rng.normal(size=(30, n, 2)) + [80, 90]
        shape_model = AlignedASM(ASM(0.98), scheme=scheme).fit(shapes)
        network = build_network("asmnet", n, width=0.25)
        options = {"width": 0.25}
        form = Preprocessing(size=32)
        model = PretrainedModel(network, "any", "asmnet", options, scheme, form, None, {}, shape_model)
        path = tmp_path / f"{n}.safetensors"
        digest = save_pretrained(model, path)
        assert digest == save_pretrained(model, tmp_path / "again.safetensors")
        loaded = load_pretrained(path)
        assert loaded.scheme == scheme
        damaged = shapes[0] + 8 * rng.normal(size=(n, 2))
        np.testing.assert_allclose(loaded.shape_model.project(damaged), shape_model.project(damaged), rtol=1e-12)
        (face,) = Predictor(loaded)(np.zeros((60, 60), np.uint8), [10, 10, 40, 50], n_passes=1)
        np.testing.assert_allclose(face.fitted, shape_model.project(face.landmarks[None])[0])
        assert 0 <= face.plausibility <= 1
    with pytest.raises(ValueError, match=r"shape_model: got one of shapes \(4, 2\); expected \(29, 2\)"):
        Predictor(load_pretrained(tmp_path / "29.safetensors"), shape_model=shape_model)
