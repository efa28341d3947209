"""On a graphics card: batches are cut there, no step waits for the host, the draws are those of the seed."""

import numpy as np
import pytest
import torch

from asmnet import Augmentation, LandmarkDataset, Preprocessing, TrainConfig, train
from asmnet.networks import build_network
from asmnet.training import _Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")


def faces(n, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(16, 48, (n, 6, 2))
    data = LandmarkDataset.from_arrays(
        rng.integers(0, 255, (n, 64, 64, 3), np.uint8), points, mirror=np.array([1, 0, 3, 2, 5, 4])
    )
    data = data.with_rotations(np.tile(np.eye(3), (n, 1, 1))).with_depths(rng.normal(size=(n, 6)))
    return data.with_companion("teacher", points + 1)


def config(network="asmnet", **changes):
    base = TrainConfig.modern(
        network=network, n_landmarks=6, epochs=2, batch_size=8, preprocessing=Preprocessing(size=64), warmup_epochs=0.5
    )
    if network == "asmnet":
        changes = {"criterion_options": {"form": "wing", "asm_weights": None, "pose_weight": 1.0}, **changes}
    return TrainConfig.from_dict({**base.to_dict(), **changes})


def test_batches_equal_those_of_the_processor():
    data = faces(8)
    ours, theirs = (
        d.batch(range(8), Preprocessing(size=32), device=d_) for d, d_ in ((data, "cpu"), (data.to("cuda"), "cuda"))
    )
    for name in ("images", "landmarks", "pose", "depth", "weight"):
        torch.testing.assert_close(getattr(theirs, name).cpu(), getattr(ours, name), atol=2e-5, rtol=1e-5, msg=name)
    torch.testing.assert_close(theirs.companions["teacher"].cpu(), ours.companions["teacher"], atol=2e-5, rtol=1e-5)


def test_the_seed_decides_what_is_drawn():
    data = faces(8).to("cuda")
    a, b, c = (
        data.batch(
            range(8),
            Preprocessing(size=32),
            augmentation=Augmentation(blur=0.5, occlusion=0.5),
            device="cuda",
            generator=torch.Generator("cuda").manual_seed(seed),
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.landmarks, b.landmarks)
    assert not torch.equal(a.images, c.images)
    assert (a.images != data.batch(range(8), Preprocessing(size=32), device="cuda").images).any()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("network", ["asmnet", "hourglass-small"])
def test_a_step_never_waits(network, tmp_path):
    """Once it runs, cutting a batch, forward, loss, backward and update queue work without a synchronisation."""
    trainer = _Trainer(
        config(network), faces(32), None, tmp_path, extra=(), anchors=None, initial=None, device="cuda", progress=False
    )
    rows = trainer.epochs.order(0)

    def step(index):
        trainer._part(trainer.network, trainer.epochs.batch(rows[:8], 0, index, 0), 0)
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), 5.0)
        trainer.optimizer.step()
        trainer.average.update(trainer.network)
        trainer._unchecked = None  # the question about the last loss is the one that may wait

    for index in range(3):
        step(index)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("network", ["asmnet", "hourglass-small"])
def test_training_learns_and_resumes(network, tmp_path):
    settings = config(network, network_options={"pose": False} if network == "asmnet" else {})
    result = train(settings, faces(32), faces(8, 1), folder=tmp_path)
    assert all(np.isfinite([record.loss, record.nme]).all() for record in result.history)
    again = train(settings, faces(32), faces(8, 1), folder=tmp_path, resume=True)
    assert [record.nme for record in again.history] == [record.nme for record in result.history]


@pytest.mark.parametrize("network", ["asmnet", "hourglass-small", "efficientnet-b0"])
def test_heads_answer_in_float32(network):
    with torch.autocast("cuda", torch.bfloat16):
        prediction = build_network(network, 6).cuda().eval()(torch.rand(2, 3, 64, 64, device="cuda"))
    assert prediction.landmarks.dtype == torch.float32
    assert all(maps.dtype == torch.float32 for maps in prediction.heatmaps)
