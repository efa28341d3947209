"""Model cards, written from what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asmnet._pose_labels import CONVENTION, DEGREES
from asmnet._shadow import run_shadow
from asmnet.checkpoints import SHIPPED, WEIGHTS, PretrainedModel, load_pretrained, read_tensors, save_pretrained
from asmnet.networks import build_network, network_names, network_spec
from shape_models._files import write_text


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_flops(network: nn.Module, size: int) -> int:
    """Return two operations per multiply-add of convolutions and linear layers, for one image of `size` pixels."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        # A weight is a product and a sum, two operations.
        # Each number that enters a transposed convolution meets its kernel, each that leaves another one.
        if isinstance(module, nn.ConvTranspose2d):
            total += 2 * inputs[0][0].numel() * weight[0].numel()
        elif isinstance(module, nn.Conv2d):
            total += 2 * output[0].numel() * weight[0].numel()
        else:
            total += 2 * weight.numel()

    run_shadow(network, size, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear), count)
    return total


def _outputs(network: nn.Module, header: Mapping[str, Any]) -> str:
    """Say what the network gives."""
    prediction = run_shadow(network, header["preprocessing"]["size"])
    parts = ["Landmarks (x, y) in crop units (centre 0, edges at -0.5 and 0.5)"]
    if prediction.heatmaps:
        height, width = prediction.heatmaps[-1].shape[-2:]
        parts.append(f"a heat map of {height} x {width} for each landmark and stack")
    if prediction.depth is not None:
        parts.append(
            "the depth of each landmark in crop units, away from the viewer, 0 at the mean of the face, learned from "
            "a 3-D face model fitted to the landmarks, not from measurements"
        )
    if prediction.pose is None:
        return "; ".join([*parts, "no head pose, for which the network has no head."])
    convention, labels = header.get("pose_convention", CONVENTION), header.get("pose_labels", "")
    parts.append(f"pose (yaw, pitch, roll) over {DEGREES:g} degrees in the convention {convention}.")
    return f"{'; '.join(parts)} {labels}".rstrip()


def model_card(header: Mapping[str, Any]) -> str:
    """Return the card of a model in Markdown, from the header of its checkpoint."""
    form = header["preprocessing"]
    size, scheme = form["size"], f" ({header['scheme']})" if header["scheme"] else ""
    network = build_network(header["network"], header["n_landmarks"], **header["network_options"])
    rows = [f"| {name} | {value} |" for name, value in header.get("metrics", [])]
    measured = ["\n".join(["| what | value |", "|---|---|", *rows]) if rows else "Nothing was measured."]
    measured += [f"### {title}\n\n```\n{table.rstrip()}\n```" for title, table in header.get("tables", {}).items()]
    config = json.dumps(header.get("config"), indent=1, sort_keys=True)
    sections = {
        "Licence": header.get("licence") or "not stated",
        "Input": f"RGB, {size} x {size}, cut out as a {'square' if form['square'] else 'box stretched to a square'} of "
        f"{form['margin']} times the {'larger side' if form['square'] else 'sides'} of the tight box of the landmarks, "
        f"pixels from 0 to 1 as (x - {form['mean']}) / {form['std']}. Outside of the image is black.",
        "Output": _outputs(network, header),
        "Training data": header.get("data") or "not stated",
        "Measured": "\n\n".join(measured),
        "Limits": header.get("limits"),
        "Training": header.get("training"),
        "Configuration": f"```json\n{config}\n```" if header.get("config") else None,
    }
    about = (
        f"{header['n_landmarks']} landmarks{scheme}, network `{header['network']}`, "
        f"{count_parameters(network):,} trainable parameters, "
        f"{count_flops(network, size) / 1e9:.3f} GFLOP at {size} x {size} pixels."
    )
    written = [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join([f"# {header['name']}", about, *written]) + "\n"


def write_model(model: PretrainedModel, path: Path) -> str:
    """Write a trained network with its card beside it; return the SHA-256 of the weights."""
    digest = save_pretrained(model, path)
    write_text(path.with_suffix(".md"), model_card(read_tensors(path)[1]))
    return digest


def describe_networks(n_landmarks: int) -> list[dict[str, Any]]:
    """Return a row for each registered network, with the models trained on it that ship."""
    trained: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(SHIPPED):
        header = load_pretrained(name).header
        size = (WEIGHTS / f"{name}.safetensors").stat().st_size
        first = next(iter(header.get("metrics", [])), ("", "not measured"))
        row = {"name": name, "megabytes": size / 1e6, "error": first[1], "error_is": first[0]}
        trained.setdefault(header["network"], []).append(row)
    rows = []
    for name in network_names():
        spec = network_spec(name)
        network = build_network(name, n_landmarks)
        rows.append(
            {
                "name": name,
                "title": spec.title,
                "size": spec.input_size,
                "parameters": count_parameters(network),
                "gflop": count_flops(network, spec.input_size) / 1e9,
                "models": trained.get(name, []),
            }
        )
    return rows


def model_information(name_or_path: str) -> dict[str, Any]:
    """Return the header of a model and its card."""
    header = load_pretrained(name_or_path).header
    return {**header, "card": model_card(header)}
