"""Time of one face on one core: image in memory to landmarks and pose, ASMNet beside MobileNetV2.

Times are those of the processor, so that other programs matter less.

Run: OMP_NUM_THREADS=1 python tests/benchmarks/bench_asmnet.py [size ...]
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asmnet import Augmentation, LandmarkDataset, Predictor, Preprocessing, build_network
from asmnet.checkpoints import PretrainedModel
from asmnet.export import export_onnx
from asmnet.training import keep_freed_memory
from shape_models import IBUG68, make_faces


def interleaved(calls, repeats=30):
    """Median seconds of each call, measured in turn so that what else runs falls on all alike."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: (float(np.median(t)), float(np.min(t))) for name, t in times.items()}


def main(sizes):
    """Print a table for each input size."""
    import onnxruntime

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 255, (768, 1024, 3), dtype=np.uint8)
    box = [400.0, 250.0, 620.0, 480.0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for size in sizes:
        calls, images = {}, torch.rand(1, 3, size, size)
        for name in ("asmnet", "mobilenetv2"):
            torch.manual_seed(0)
            network = build_network(name, 68).eval()
            model = PretrainedModel(network, name, name, {}, IBUG68, Preprocessing(size=size), None, {})
            predictor = Predictor(model)
            calls[f"{name}: image to record"] = lambda p=predictor: p(photograph, box)
            fused = predictor.network
            last = images.contiguous(memory_format=torch.channels_last)
            calls[f"{name}: network, torch, fused"] = torch.inference_mode()(lambda n=fused, x=last: n(x))
            calls[f"{name}: network, torch"] = torch.inference_mode()(lambda n=network, x=images: n(x))
            with tempfile.TemporaryDirectory() as folder:
                export_onnx(model, Path(folder) / "net.onnx")
                session = onnxruntime.InferenceSession(
                    Path(folder) / "net.onnx", options, providers=["CPUExecutionProvider"]
                )
            array = images.numpy()
            calls[f"{name}: network, onnxruntime"] = lambda s=session, x=array: s.run(None, {"images": x})
        print(f"\n{size} x {size}, one thread           median ms   least ms")
        for name, (median, least) in interleaved(calls).items():
            print(f"{name:<36}{1e3 * median:>9.1f}{1e3 * least:>11.1f}")
    heat_maps = Predictor.from_pretrained("hourglass-68")
    bare = Predictor(replace(heat_maps.model, scheme=None))
    calls = {
        "hourglass-68: image to record": lambda: heat_maps(photograph, box),
        "hourglass-68: without the shape model": lambda: bare(photograph, box),
    }
    print("\n128 x 128, one thread           median ms   least ms")
    for name, (median, least) in interleaved(calls).items():
        print(f"{name:<36}{1e3 * median:>9.1f}{1e3 * least:>11.1f}")
    data = LandmarkDataset.from_arrays(
        rng.integers(0, 255, (64, 256, 256, 3), np.uint8),
        128 + 60 * (lambda f: (f - f.mean()) / np.ptp(f))(make_faces(64, rng=0)),
        mirror=np.array(IBUG68.mirror),
    )
    generator = torch.Generator().manual_seed(0)
    form, changes = Preprocessing(size=112), Augmentation()
    rows = np.arange(32)
    batch = interleaved(
        {"batch of 32 at 112": lambda: data.batch(rows, form, augmentation=changes, generator=generator)}, repeats=10
    )
    median = batch["batch of 32 at 112"][0]
    print(f"\naugmented batch of 32 at 112 px: {1e3 * median:.0f} ms, {32 / median:.0f} images/s")
    network = build_network("asmnet", 68).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    inputs = torch.rand(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad()
        network(inputs).landmarks.square().mean().backward()
        optimizer.step()

    before = interleaved({"step": step}, repeats=5)["step"][0]
    kept = keep_freed_memory()
    after = interleaved({"step": step}, repeats=5)["step"][0]
    print(f"training step, batch of 32 at 224 px: {before:.2f} s; with keep_freed_memory ({kept}): {after:.2f} s")


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [112, 224])
