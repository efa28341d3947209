"""What is left to the limits of the tests that train networks, over ten seeds.

    python tests/benchmarks/bench_learning.py

Run it with ATEN_CPU_CAPABILITY=default, with ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2, and with neither:
trainings differ between instruction sets.
"""

import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from test_asmnet_probability import losses_of_one_batch
from test_asmnet_training import learned

LIMITS = {"error": 0.5, "loss": 0.55, "loss of the light network": 0.5}


def main():
    torch.set_num_threads(1)
    worst = dict.fromkeys(LIMITS, 0.0)
    for seed in range(10):
        with tempfile.TemporaryDirectory() as folder:
            before, result = learned(folder, seed)
        history, losses = result.history, losses_of_one_batch(seed)
        ratios = (
            min(record.nme for record in history) / before,
            history[-1].loss / history[0].loss,
            losses[-1] / losses[0],
        )
        worst = {name: max(old, new) for (name, old), new in zip(worst.items(), ratios, strict=True)}
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(worst, ratios, strict=True)))
    print("worst: " + ", ".join(f"{name} {value:.3f} (limit {LIMITS[name]})" for name, value in worst.items()))


if __name__ == "__main__":
    main()
