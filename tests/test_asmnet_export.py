"""ONNX: one graph, a free batch size, the numbers of torch."""

import json

import numpy as np
import pytest
import torch

from asmnet import ASMNet, ASMProjection, Preprocessing, build_network
from asmnet.checkpoints import PretrainedModel
from asmnet.export import DeployedNetwork, export_onnx
from shape_models import ASM, IBUG68, make_faces

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    faces = make_faces(100, rng=0)
    faces = (faces - faces.mean((0, 1))) / np.ptp(faces)
    basis = ASM(0.9, limit=0.1).fit(faces).basis_  # a narrow limit, so that the clip acts
    network = ASMNet(68, width=0.25).eval()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return PretrainedModel(network, "tiny", "asmnet", {"width": 0.25}, IBUG68, Preprocessing(size=64), basis, {})


def test_onnxruntime_agrees_at_any_batch_size(model, tmp_path):
    path = tmp_path / "tiny.onnx"
    deviations = export_onnx(model, path)
    assert set(deviations) == {"landmarks", "projected", "pose"}
    assert max(deviations.values()) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((5, 3, 64, 64), dtype=np.float32)
    landmarks, projected, pose = session.run(None, {"images": images})
    assert landmarks.shape == projected.shape == (5, 68, 2)
    assert pose.shape == (5, 3)
    np.testing.assert_allclose(projected, model.basis.project(landmarks), atol=1e-4)
    assert np.abs(projected - landmarks).max() > 0.01
    words = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(words["preprocessing"])["size"] == 64
    assert words["scheme"] == "ibug68"
    assert len(list(tmp_path.iterdir())) == 1  # one file, no weights beside it


def test_deployed_network_is_network_and_layer(model):
    images = torch.rand(2, 3, 64, 64)
    landmarks, projected, pose = DeployedNetwork(model)(images)
    plain = model.network(model.preprocessing.normalise(images))
    torch.testing.assert_close(landmarks, plain.landmarks)
    torch.testing.assert_close(pose, plain.pose)
    torch.testing.assert_close(projected, ASMProjection(model.basis)(plain.landmarks))


def test_wrong_arguments_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"\.onnx"):
        export_onnx(model, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="opset: got 11; expected 17 to"):
        export_onnx(model, tmp_path / "net.onnx", opset=11)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        export_onnx(None, tmp_path / "file" / "net.onnx")  # before the network is looked at


def test_heat_map_networks_export_their_maps_and_depths(tmp_path):
    torch.manual_seed(0)
    options = {"width": 0.25, "depth_head": True}
    network = build_network("hourglass-small", 5, **options).eval()
    model = PretrainedModel(network, "maps", "hourglass-small", options, None, Preprocessing(size=32), None, {})
    deviations = export_onnx(model, tmp_path / "maps.onnx")
    assert set(deviations) == {"landmarks", "depth", "heatmaps"}
    assert max(deviations.values()) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "maps.onnx", providers=["CPUExecutionProvider"])
    shapes = [part.shape for part in session.run(None, {"images": np.zeros((2, 3, 32, 32), np.float32)})]
    assert shapes == [(2, 5, 2), (2, 5), (2, 5, 16, 16)]


def test_nothing_is_said_of_packages_that_are_not_needed(tmp_path, caplog):
    model = PretrainedModel(
        ASMNet(5, width=0.25).eval(), "x", "asmnet", {"width": 0.25}, None, Preprocessing(32), None, {}
    )
    export_onnx(model, tmp_path / "x.onnx", check=False)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
