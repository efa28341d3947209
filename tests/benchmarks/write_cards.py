"""Measure the shipped networks on changed images of 300-W val, and write their cards anew; the weights stay the same.

Run: SHAPE_MODELS_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/write_cards.py [--words] [asmnet-68 ...]
"""

from pathlib import Path

import click
import torch
from study import faces

from asmnet import Predictor, TrainConfig, checkpoints
from asmnet._card import write_model
from asmnet._finishing import robustness_table
from asmnet._preparation import packed_side
from asmnet.checkpoints import load_pretrained
from shape_models._files import write_text


@click.command()
@click.argument("names", nargs=-1)
@click.option("--words", is_flag=True, help="Write header and card anew without measuring.")
def main(names, words):
    """Write the table "Changed images" of each of NAMES into its weights' header and its card."""
    torch.set_num_threads(1)
    for name in names or sorted(checkpoints.SHIPPED):
        model = load_pretrained(name)
        if not words:
            validation = faces("val", packed_side(model.preprocessing))
            model.header["tables"]["Changed images"] = robustness_table(Predictor(model), validation)
            model.header["metrics"] = [own for own in model.header["metrics"] if "boxes shifted" not in own[0]]
        model.header["config"] = TrainConfig.from_dict(model.header["config"]).to_dict()
        digest = write_model(model, checkpoints.WEIGHTS / f"{name}.safetensors")
        source = Path(checkpoints.__file__)  # the names that ship are checked by their digests
        write_text(source, source.read_text(encoding="utf-8").replace(checkpoints.SHIPPED[name], digest))
        checkpoints.SHIPPED[name] = digest
        click.echo(f"{name}\n{model.header['tables'].get('Changed images', '')}")


if __name__ == "__main__":
    main()
