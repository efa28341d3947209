"""Measure the shipped networks on changed images of 300-W val, and write their cards anew.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/write_cards.py [asmnet-68 hourglass-68 light-68]
"""

from pathlib import Path

import click
import torch
from study import faces

import asmnet
from asmnet import Predictor, checkpoints
from asmnet._card import model_card
from asmnet._finishing import robustness_table
from asmnet._preparation import packed_side
from asmnet.checkpoints import load_pretrained, save_pretrained
from shape_models._files import write_text


@click.command()
@click.argument("names", nargs=-1)
def main(names):
    """Write the table "Changed images" of each of NAMES into its weights' header and its card."""
    torch.set_num_threads(1)
    for name in names or sorted(checkpoints.SHIPPED):
        model = load_pretrained(name)
        validation = faces("val", packed_side(model.preprocessing))
        model.header["tables"]["Changed images"] = robustness_table(Predictor(model), validation)
        model.header["metrics"] = [own for own in model.header["metrics"] if "boxes shifted" not in own[0]]
        path = Path(asmnet.__file__).parent / "weights" / f"{name}.safetensors"
        if path.with_suffix(".uncertainty.json").exists():  # what is known of the errors stays in that file
            del model.header["uncertainty"]
        digest = save_pretrained(model, path)
        source = Path(checkpoints.__file__)  # the names that ship are checked by their digests
        write_text(source, source.read_text(encoding="utf-8").replace(checkpoints.SHIPPED[name], digest))
        checkpoints.SHIPPED[name] = digest
        write_text(path.with_suffix(".md"), model_card(load_pretrained(name).header))
        click.echo(f"{name}\n{model.header['tables']['Changed images']}")


if __name__ == "__main__":
    main()
