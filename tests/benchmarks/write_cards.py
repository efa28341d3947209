"""Measure the shipped networks of 68 landmarks on 300-W, and write their cards anew; the weights stay the same.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/write_cards.py [--only offset] [asmnet-68 ...]
"""

import re
from pathlib import Path

import click
import numpy as np
import torch
from study import faces

from asmnet import Predictor, TrainConfig, checkpoints
from asmnet._card import write_model
from asmnet._finishing import robustness_table
from asmnet._inference import predict_packed
from asmnet._preparation import packed_side
from asmnet._scores import eye_corners, eye_line, eye_offsets, normalizer_of, percent
from asmnet.checkpoints import load_pretrained
from asmnet.measuring import LABEL_OFFSETS, LabelOffset
from evaluation import bootstrap_interval, nme
from shape_models import IBUG68
from shape_models._files import write_text

LIMIT = (
    "The annotations of 300-W lie to the right of the mirror-symmetric place, which training with mirror images cannot "
    "learn: what is predicted is the symmetric place."
)


def offset_metrics(model, training, validation):
    """Return rows of a card: how far labels are off, and what it gains to move the predictions there."""

    def seen(dataset, flip_average):
        found = predict_packed(model.network, dataset, model.preprocessing, flip_average=flip_average)
        return dataset.source_landmarks(found.landmarks)

    offsets = eye_offsets(training.source_landmarks(), seen(training, True), model.scheme)
    found = LabelOffset(offsets, np.asarray(training.groups), model.scheme)
    truth, points, groups = validation.source_landmarks(), seen(validation, False), np.asarray(validation.groups)
    moved = points + LABEL_OFFSETS["300w"] * eye_line(points, eye_corners(model.scheme))
    kind = normalizer_of(model.scheme)
    before, after = (nme(truth, part, normalizer=kind, scheme=model.scheme) for part in (points, moved))
    gain = bootstrap_interval(before - after, groups=groups)
    of = f"{len(training)} training faces"
    return [
        [f"labels of {of} right of its flip-averaged predictions, of the eye distance", percent(found.interval)],
        [
            f"NME without flip averaging, moved {100 * LABEL_OFFSETS['300w']:.2f} % right (`--label-offset 300w`)",
            percent(bootstrap_interval(after, groups=groups)),
        ],
        ["what the move to where the labels are gains", percent(gain)],
    ]


def ship(model):
    """Write a model with its card among those that ship, and its digest beside its name."""
    digest = write_model(model, checkpoints.WEIGHTS / f"{model.name}.safetensors")
    source, known = Path(checkpoints.__file__), "# SHA-256 of weights/<name>.safetensors by name\n"
    text = re.sub(rf'    "{model.name}": "\w+",\n', "", source.read_text(encoding="utf-8"))
    write_text(source, text.replace(known, f'{known}    "{model.name}": "{digest}",\n'))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--only", type=click.Choice(["images", "offset", "words"]), help="Measure this, or write only [all].")
def main(names, only):
    """Write errors on changed images and the offset of the labels into header and card of each of NAMES."""
    torch.set_num_threads(1)
    for name in names or sorted(name for name in checkpoints.SHIPPED if name.endswith("-68")):
        model = load_pretrained(name)
        if model.scheme != IBUG68:
            raise click.UsageError(f"NAMES: got {name}; expected networks of the 68 landmarks of 300-W.")
        side = packed_side(model.preprocessing)
        if only in (None, "images"):
            model.header["tables"]["Changed images"] = robustness_table(Predictor(model), faces("val", side))
            model.header["metrics"] = [own for own in model.header["metrics"] if "boxes shifted" not in own[0]]
        if only in (None, "offset"):
            kept = [own for own in model.header["metrics"] if "label" not in own[0] or "pose" in own[0]]
            own = offset_metrics(model, faces("train", side), faces("val", side))
            model.header["metrics"] = kept[:2] + own + kept[2:]
            if LIMIT not in model.header["limits"]:
                old = re.sub(r"The annotations of 300-W lie [^.]*\.\d %[^.]*\. ", "", model.header["limits"])
                model.header["limits"] = old.replace("How it fares by age", f"{LIMIT} How it fares by age")
        model.header["config"] = TrainConfig.from_dict(model.header["config"]).to_dict()
        ship(model)
        click.echo(f"{name}\n{model.header['tables'].get('Changed images', '')}")


if __name__ == "__main__":
    main()
