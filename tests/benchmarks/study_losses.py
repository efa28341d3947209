"""Can a shape model teach a network through its loss? Three ways, each beside the control that isolates it.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/study_losses.py --n-faces 100 --seeds 3

ASMNet of half the width and without a pose head, trained from random weights on faces of 300-W train and measured on
300-W val; the last epoch counts, so that val chooses nothing. A seed chooses the faces, the weights and the
augmentation, the same for all losses. No loss may win or lose by its scale: each is 1 for the mean shape, gradients are
not clipped, and each gets the one of --rates with the least error on 250 other faces of train, chosen with the first
seed and kept for all. Trainings are kept in --out; a broken study goes on where it stopped. The published term is
measured by `study.py asm-loss`.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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

# name: (options of the criterion, name of the control)
LOSSES = {
    "squared": ({"kind": "squared"}, None),
    "diagonal": ({"kind": "whitened", "matrix": "diagonal"}, "squared"),
    "Mahalanobis": ({"kind": "whitened", "matrix": "full"}, "diagonal"),
    "wing": ({"kind": "wing"}, None),
    "curriculum": ({"kind": "curriculum"}, "wing"),
    "even tolerance": ({"kind": "tolerant", "matrix": "even"}, "wing"),
    "tolerance of the shape": ({"kind": "tolerant", "matrix": "own"}, "even tolerance"),
}
KNOWN = {}  # of the training faces: whitening matrices, tolerances, and what each loss is for the mean shape


@register_criterion("study")
class StudyCriterion:
    """The losses of the study; `KNOWN` holds what is computed from the training faces."""

    def __init__(self, *, kind, matrix="", n_epochs=1, steps_per_epoch=1):
        self.kind, self.matrix, self.n_epochs = kind, matrix, n_epochs

    def __call__(self, prediction, batch, epoch):
        """Return the loss, 1 for the mean shape."""
        return {"loss": self.plain(prediction, batch, epoch) / KNOWN["mean shape", self.kind, self.matrix]}

    def plain(self, prediction, batch, epoch):
        """Return the loss as it is written."""
        points, truth = prediction.landmarks, batch.landmarks
        if self.kind in ("squared", "wing"):
            return landmark_loss(points, truth, form=self.kind)
        if self.kind == "whitened":
            residual = (points - truth).flatten(1) @ KNOWN[self.matrix]
            return residual.square().mean()
        if self.kind == "curriculum":
            step = int(len(FEW) * 1.5 * epoch / self.n_epochs)  # all of the shape for the last third
            wanted = batch.companions[f"few{FEW[step]}"] if step < len(FEW) else truth
            return landmark_loss(points, wanted, form="wing")
        return wing(((points - truth).abs() - KNOWN[self.matrix]).clamp_min(0)).mean()


def augmented(dataset, config, times):
    """Return landmarks of augmented crops: as the network sees them, turned, moved and scaled."""
    generator, rows = torch.Generator().manual_seed(0), np.arange(len(dataset))
    how = {"augmentation": config.augmentation, "generator": generator}
    return torch.cat([dataset.batch(rows, config.preprocessing, **how).landmarks for _ in range(times)])


def learn(dataset, config):
    """Fit the shape model of the training crops, and fill `KNOWN` and the targets of the curriculum."""
    preprocessing = config.preprocessing
    units = dataset.crop_landmarks(preprocessing)
    for fraction in FEW:
        basis = ASM(fraction).fit(units).basis_
        seen = dataset.with_asm(basis.project, preprocessing).asm_landmarks
        dataset = dataset.with_companion(f"few{fraction}", seen)
    truth = augmented(dataset, config, max(1, 2000 // len(dataset)))
    covariance = np.cov(truth.flatten(1).double().numpy().T)
    values, vectors = np.linalg.eigh(covariance)
    # The smallest variances are those of the annotators' hands: whitening stops at a hundredth of the mean variance.
    values = np.maximum(values, 0.01 * values.mean())
    full, diagonal = vectors / np.sqrt(values) @ vectors.T, np.diag(1 / np.sqrt(np.diag(covariance)))
    left = (units - ASM(0.9).fit(units).basis_.project(units)).std(0)
    tolerances = {"own": left / 2, "even": np.full_like(left, left.mean() / 2)}
    for name, value in {"full": full, "diagonal": diagonal, **tolerances}.items():
        KNOWN[name] = torch.tensor(value, dtype=torch.float32)
    batch = SimpleNamespace(landmarks=truth)
    mean = SimpleNamespace(landmarks=truth.mean(0).expand_as(truth))
    for options, _ in LOSSES.values():
        criterion = StudyCriterion(**options)
        KNOWN["mean shape", criterion.kind, criterion.matrix] = criterion.plain(mean, batch, criterion.n_epochs)
    return dataset


@click.command()
@click.option("--n-faces", default=100, show_default=True)
@click.option("--size", default=64, show_default=True)
@click.option("--epochs", default=80, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--rates", default="0.003,0.01,0.03", show_default=True, help="Learning rates to choose from.")
@click.option("--only", default=",".join(LOSSES), show_default=True)
@click.option("--out", default="runs/losses", show_default=True)
def main(n_faces, size, epochs, seeds, rates, only, out):
    """Train with each loss and compare it with its control, faces and seeds resampled together."""
    losses = {name: LOSSES[name] for name in only.split(",")}
    torch.set_num_threads(1)
    keep_freed_memory()
    everyone, validation = faces("train"), faces("val")
    choice = [float(rate) for rate in rates.split(",")]
    if len(everyone) < n_faces + 250 and len(choice) > 1:
        raise click.UsageError(f"--rates: got several; expected one, where {n_faces} faces leave none to choose by.")
    rates = dict.fromkeys(losses, choice)
    found = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(everyone))
        chosen, others = np.sort(order[:n_faces]), everyone.take(np.sort(order[n_faces:][:250]))
        base = TrainConfig.modern(
            preprocessing=Preprocessing(size=size),
            epochs=epochs,
            criterion="study",
            criterion_options=LOSSES["wing"][0],
            seed=seed,
            network_options={"pose": False, "width": 0.5},
            clip_gradient=0.0,
            ema=0.99,
            batch_size=min(16, n_faces),
        )
        dataset = learn(everyone.take(chosen), base)
        for name, (options, _) in losses.items():
            tried = {}
            for rate in rates[name]:
                config = replace(base, criterion_options=options, learning_rate=rate)
                folder = Path(out) / f"{n_faces}-{name.replace(' ', '-')}-{rate}-{seed}"
                network = train(config, dataset, folder=folder, resume=True).network
                if len(rates[name]) > 1:
                    tried[rate] = errors(others, predict_dataset(network, others, config.preprocessing)[0]).mean()
                    click.echo(f"{name}, rate {rate}: {100 * tried[rate]:.3f} % on other faces of train")
                found[name, rate] = errors(validation, predict_dataset(network, validation, config.preprocessing)[0])
            if tried:
                rates[name] = [min(tried, key=tried.get)]
            found[name, seed] = found[name, rates[name][0]]
            click.echo(f"{name}, seed {seed}: {100 * found[name, seed].mean():.3f} %")
    groups = validation.groups
    each = {name: np.array([found[name, seed] for seed in range(seeds)]) for name in losses}
    click.echo(f"\nNME %, {len(validation)} faces, {n_faces} training faces, {size} px, {epochs} epochs, {seeds} seeds")
    for name, values in each.items():
        row(f"{name}, rate {rates[name][0]}", values.mean(0), groups)
    for name, (_, control) in losses.items():
        if control in losses:
            pair = [each[k] if seeds > 1 else each[k][0] for k in (name, control)]
            click.echo(str(compare(*pair, groups=groups, names=(name, control))))


if __name__ == "__main__":
    main()
