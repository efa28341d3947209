"""Can a shape model teach a network through its loss? Three ways, each beside the control that isolates it.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/study_losses.py --n-faces 100 --seeds 3

ASMNet without a pose head, trained from random weights on faces of 300-W train and measured on 300-W val; the last
epoch counts, so that val chooses nothing. A seed chooses the faces, the weights and the augmentation, the same for all
losses. Trainings are kept in --out; a broken study goes on where it stopped.
"""

from pathlib import Path

import click
import numpy as np
import torch
from study import errors, faces, row

from asmnet import Preprocessing, TrainConfig, predict_dataset, train
from asmnet.losses import landmark_loss, register_criterion, wing
from asmnet.training import keep_freed_memory
from evaluation import compare
from shape_models import ASM

FEW = (0.8, 0.9, 0.97)  # variance that the targets of the curriculum keep, before all of it

# name: (criterion, options, name of the control)
LOSSES = {
    "squared": ("study", {"kind": "squared"}, None),
    "diagonal": ("study", {"kind": "whitened", "matrix": "diagonal"}, "squared"),
    "Mahalanobis": ("study", {"kind": "whitened", "matrix": "full"}, "diagonal"),
    "wing": ("study", {"kind": "wing"}, None),
    "curriculum": ("study", {"kind": "curriculum"}, "wing"),
    "even tolerance": ("study", {"kind": "tolerant", "matrix": "even"}, "wing"),
    "tolerance of the shape": ("study", {"kind": "tolerant", "matrix": "own"}, "even tolerance"),
    "A(G), as published": ("study", {"kind": "published"}, "squared"),
    "G for A(G)": ("study", {"kind": "published", "matrix": "control"}, "squared"),
}
KNOWN = {}  # what the losses know of the shapes of the training faces: whitening matrices and tolerances


@register_criterion("study")
class StudyCriterion:
    """The losses of the study; `KNOWN` holds what is computed from the training faces."""

    def __init__(self, *, kind, matrix="", n_epochs=1, steps_per_epoch=1):
        self.kind, self.matrix, self.n_epochs = kind, matrix, n_epochs

    def __call__(self, prediction, batch, epoch):
        """Return the loss."""
        points, truth = prediction.landmarks, batch.landmarks
        if self.kind in ("squared", "wing"):
            return {"loss": landmark_loss(points, truth, form=self.kind)}
        if self.kind == "whitened":
            residual = (points - truth).flatten(1) @ KNOWN[self.matrix]
            return {"loss": residual.square().mean()}
        if self.kind == "curriculum":
            step = int(len(FEW) * 1.5 * epoch / self.n_epochs)  # all of the shape for the last third
            wanted = batch.companions[f"few{FEW[step]}"] if step < len(FEW) else truth
            return {"loss": landmark_loss(points, wanted, form="wing")}
        if self.kind == "tolerant":
            difference = (points - truth).abs()
            return {"loss": wing((difference - KNOWN[self.matrix]).clamp_min(0)).mean()}
        alpha = (2.0, 1.0, 0.5)[min(2, 3 * epoch // self.n_epochs)]
        second = truth if self.matrix == "control" else batch.asm_landmarks
        return {"loss": landmark_loss(points, truth) + alpha * landmark_loss(points, second)}


def learn(dataset, preprocessing):
    """Fit the shape model of the training crops, and fill `KNOWN` and the targets of the curriculum."""
    units = dataset.crop_landmarks(preprocessing)
    model = ASM(0.9).fit(units)
    flat = units.reshape(len(units), -1)
    covariance = model.covariance_
    values, vectors = np.linalg.eigh(covariance)
    # The smallest variances are those of the annotators' hands: whitening stops at a hundredth of the mean variance.
    values = np.maximum(values, 0.01 * values.mean())
    full = vectors / np.sqrt(values) @ vectors.T
    diagonal = np.diag(1 / np.sqrt(np.diag(covariance)))
    for name, matrix in (("full", full), ("diagonal", diagonal)):
        # the same mean square as the plain loss on residuals without structure
        matrix = matrix * np.sqrt(len(matrix) / np.trace(matrix @ matrix.T))
        KNOWN[name] = torch.tensor(matrix, dtype=torch.float32)
    left = (flat - model.basis_.project(units).reshape(flat.shape)).reshape(units.shape).std(0)
    KNOWN["own"] = torch.tensor(left / 2, dtype=torch.float32)
    KNOWN["even"] = torch.full_like(KNOWN["own"], float(left.mean() / 2))
    dataset = dataset.with_asm(model.basis_.project, preprocessing)
    for fraction in FEW:
        basis = ASM(fraction).fit(units).basis_
        seen = dataset.with_asm(basis.project, preprocessing).asm_landmarks
        dataset = dataset.with_companion(f"few{fraction}", seen)
    return dataset


@click.command()
@click.option("--n-faces", default=100, show_default=True)
@click.option("--size", default=64, show_default=True)
@click.option("--epochs", default=160, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--out", default="runs/losses", show_default=True)
def main(n_faces, size, epochs, seeds, out):
    """Train with each loss and compare it with its control, faces and seeds resampled together."""
    torch.set_num_threads(1)
    keep_freed_memory()
    everyone, validation = faces("train"), faces("val")
    found = {}
    for seed in range(seeds):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(everyone))[:n_faces])
        preprocessing = Preprocessing(size=size)
        dataset = learn(everyone.take(chosen), preprocessing)
        for name, (criterion, options, _) in LOSSES.items():
            config = TrainConfig.modern(
                preprocessing=preprocessing, epochs=epochs, criterion=criterion, criterion_options=options, seed=seed,
                network_options={"pose": False}, learning_rate=2e-3, ema=0.99, batch_size=min(16, n_faces),
            )  # fmt: skip
            folder = Path(out) / f"{n_faces}-{name.replace(' ', '-')}-{seed}"
            network = train(config, dataset, folder=folder, resume=True).network
            points, _ = predict_dataset(network, validation, preprocessing)
            found[name, seed] = errors(validation, points)
            click.echo(f"{name}, seed {seed}: {100 * found[name, seed].mean():.3f} %")
    groups = validation.groups
    each = {name: np.array([found[name, seed] for seed in range(seeds)]) for name in LOSSES}
    click.echo(f"\nNME %, {len(validation)} faces, {n_faces} training faces, {size} px, {epochs} epochs, {seeds} seeds")
    for name, values in each.items():
        row(name, values.mean(0), groups)
    for name, (_, _, control) in LOSSES.items():
        if control is not None:
            pair = [each[k] if seeds > 1 else each[k][0] for k in (name, control)]
            click.echo(str(compare(*pair, groups=groups, names=(name, control))))


if __name__ == "__main__":
    main()
