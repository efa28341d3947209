"""Train imm-58 and hands-56 as they ship: the settings of `TrainConfig.few` at 128 pixels, the trunk of hourglass-68.

    SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/train_objects.py imm-58 [--folder runs/objects]

The persons that the card is measured on are neither trained on nor used to choose anything: the weights are those of
the last epoch, and no setting was tried twice. --ship puts model and card among those of the library.
"""

import os
from pathlib import Path

import click
import numpy as np
import torch
import write_cards

from asmnet import Preprocessing, TrainConfig, pack_faces, train, transfer_trunk
from asmnet._finishing import finish
from asmnet._preparation import fit_shape_model
from asmnet.checkpoints import load_pretrained
from asmnet.training import keep_freed_memory
from shape_models import LandmarkScheme
from shape_models.datasets import LandmarkSample, LandmarkSamples, read_imm

DATA = Path(os.environ["SHAPE_MODELS_DATA"])
HANDS56 = LandmarkScheme("hands56", 56, edges=tuple((i, i + 1) for i in range(55)))
USE = "Research use only. The images and annotations it was trained on are for research use: {}. "
CODE = "The code of the library is BSD-3-Clause."


def read_hands():
    """Return the samples of the hands, with their persons as groups."""
    with np.load(DATA / "hands/landmarks.npz") as file:
        shapes, names = file["shapes"], [str(name) for name in file["images"]]
    samples = [
        LandmarkSample(DATA / "hands" / name, shape, group=name[:3], name=Path(name).stem)
        for name, shape in zip(names, shapes, strict=True)
    ]
    return LandmarkSamples(samples, lambda sample: sample, scheme=HANDS56)


SETS = {
    "imm-58": (
        lambda: read_imm(DATA / "imm"),
        20,
        {
            "licence": USE.format("the IMM face database (Technical University of Denmark)") + CODE,
            "data": "120 studio portraits of 20 persons of the IMM face database, 6 of each. What is measured below "
            "are the 60 portraits of 10 other persons, which chose nothing.",
            "limits": "Studio portraits against a plain background, heads turned by up to 30 degrees, 20 persons: it "
            "shows what the library makes of a small set, and is no match for faces in the wild, for which the models "
            "of 68 points are there. How it fares by age, sex and skin was not measured. Not for recognising persons.",
        },
    ),
    "hands-56": (
        read_hands,
        2,
        {
            "licence": USE.format("the hand images of the Technical University of Denmark") + CODE,
            "data": "20 photographs of the hands of two persons. What is measured below are the 10 photographs of a "
            "third person, who chose nothing.",
            "limits": "Backs of hands on a grey table, fingers to the left and thumb at the top of the image, two "
            "persons: it shows what the library makes of twenty images. The points are not found on hands in other "
            "places and poses. They go around the outline, from "
            "the wrist at the thumb to the wrist at the little finger.",
        },
    ),
}
TRAINING = (
    "`python tests/benchmarks/train_objects.py {name}`: `TrainConfig.few`, from the trunk of hourglass-68, which was "
    "trained on the 300-W faces. One run; the weights of the last epoch."
)


@click.command()
@click.argument("name", type=click.Choice(sorted(SETS)))
@click.option("--folder", default="runs/objects", show_default=True)
@click.option("--ship", is_flag=True, help="Write it beside the models of the library, with its digest.")
def main(name, folder, ship):
    """Train the network NAME, measure it on the persons kept aside, and write it with its card."""
    torch.set_num_threads(1)
    keep_freed_memory()
    read, n_persons, words = SETS[name]
    samples = read()
    everyone = pack_faces(samples, mirror=samples.scheme.mirror, progress=True)
    persons = np.asarray(everyone.groups)
    trained = np.isin(persons, np.unique(persons)[:n_persons])
    dataset, held_out = (everyone.take(np.flatnonzero(part)) for part in (trained, ~trained))
    config = TrainConfig.few(
        len(dataset), n_landmarks=dataset.n_landmarks, preprocessing=Preprocessing(size=128), mixed_precision="always"
    )
    initial = transfer_trunk("hourglass-68", config)
    result = train(config, dataset, folder=Path(folder) / name, initial=initial, resume=True, progress=True)
    model = finish(
        result,
        held_out,
        basis=None,
        shape_model=fit_shape_model(dataset, samples.scheme),
        scheme=samples.scheme,
        name=name,
        training=TRAINING.format(name=name),
        **words,
    )
    click.echo(model.with_suffix(".md").read_text(encoding="utf-8"))
    if ship:
        write_cards.ship(load_pretrained(model))


if __name__ == "__main__":
    main()
