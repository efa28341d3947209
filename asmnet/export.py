"""ONNX: the network, its normalisation and the shape operator in one graph."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asmnet._options import check_counts, check_kind, check_tensor
from asmnet._pose_labels import DEGREES
from asmnet.checkpoints import PretrainedModel
from asmnet.layers import ASMProjection
from shape_models._files import write_bytes
from shape_models._options import as_path, check_flags

__all__ = ["DeployedNetwork", "export_onnx"]


class DeployedNetwork(nn.Module):
    """A trained network as it is deployed: from pixels to landmarks, projected landmarks, pose, depths and heat maps.

    Parameters
    ----------
    model : PretrainedModel
        Its basis, where it has one, projects the landmarks in the un-aligned frame of the crop.

    Examples
    --------
    >>> import torch
    >>> from asmnet import ASMNet, Preprocessing
    >>> from asmnet.checkpoints import PretrainedModel
    >>> from asmnet.export import DeployedNetwork
    >>> model = PretrainedModel(ASMNet(5).eval(), "tiny", "asmnet", {}, None, Preprocessing(size=32), None, {})
    >>> [tuple(part.shape) for part in DeployedNetwork(model)(torch.zeros(2, 3, 32, 32))]
    [(2, 5, 2), (2, 3)]
    """

    def __init__(self, model: PretrainedModel):
        check_kind("model", model, PretrainedModel, " Try load_pretrained.")
        super().__init__()
        self.network = model.network.eval()
        self.projection = None if model.basis is None else ASMProjection(model.basis)
        self.preprocessing = model.preprocessing
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict from images (batch, 3, size, size), RGB from 0 to 1.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, size, size)
            From 0 to 1.

        Returns
        -------
        tuple of Tensor
            In the order of `output_names`.
        """
        size = self.preprocessing.size
        check_tensor("images", images, f"(batch, 3, {size}, {size})")
        return tuple(self._outputs(images).values())

    def output_names(self) -> list[str]:
        """Return the names of what `forward` returns, in order.

        Returns
        -------
        list of str
            Such as ``landmarks`` and ``pose``.
        """
        size = self.preprocessing.size
        with torch.no_grad():
            return list(self._outputs(torch.zeros(1, 3, size, size)))

    def _outputs(self, images: Tensor) -> dict[str, Tensor]:
        prediction = self.network(self.preprocessing.normalise(images))
        points = prediction.landmarks
        parts = {
            "landmarks": points,
            "projected": None if self.projection is None else self.projection(points),
            "pose": prediction.pose,
            "depth": prediction.depth,
            "heatmaps": prediction.heatmaps[-1] if prediction.heatmaps else None,
        }
        return {name: part for name, part in parts.items() if part is not None}


def export_onnx(model: PretrainedModel, path: str | Path, *, opset: int = 18, check: bool = True) -> dict[str, float]:
    """Write network, normalisation and shape operator as one ONNX graph with a free batch size.

    The input ``images`` is (batch, 3, size, size), RGB from 0 to 1. The outputs are ``landmarks`` and, where there is a
    basis, ``projected``, both (batch, n_landmarks, 2) in crop units (the centre is 0, the edges at -0.5 and 0.5); where
    the network has them, ``pose``, (yaw, pitch, roll) over 65 degrees, ``depth`` (batch, n_landmarks) in crop units,
    and ``heatmaps`` of the last stack (batch, n_landmarks, height, width). What is needed to cut the crop stands in the
    metadata of the file.

    Parameters
    ----------
    model : PretrainedModel
        See `load_pretrained`.
    path : path
        Ends in ``.onnx``.
    opset : int
        At least 17.
    check : bool
        Run the file in onnxruntime, at two batch sizes, and compare with torch.

    Returns
    -------
    dict of str to float
        Largest deviation of each output, of the maps as a fraction of their height; empty without `check`.

    Raises
    ------
    RuntimeError
        When onnxruntime and torch differ by more than 1e-4; the file is then not written.
    ImportError
        Without the extra ``export``.

    Examples
    --------
    >>> from asmnet.export import export_onnx
    >>> export_onnx.__name__
    'export_onnx'
    """
    import onnx

    path = as_path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path: got {path.name!r}; expected a name that ends in .onnx.")
    check_flags(check=check)
    check_counts(opset=opset)
    newest = onnx.defs.onnx_opset_version()
    # The operators of torch.onnx are written for version 18 or later; to an older one the graph is converted.
    if not 17 <= opset <= newest:
        raise ValueError(f"opset: got {opset}; expected 17 to {newest}.")
    path.parent.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is refused before the work
    deployed = DeployedNetwork(model).cpu()
    names = deployed.output_names()
    size = model.preprocessing.size
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            deployed,
            (example,),
            input_names=["images"],
            output_names=names,
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=4096)}},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    written = next(one.version for one in graph.opset_import if one.domain in ("", "ai.onnx"))
    if written != opset:  # torch says so in its log only
        raise ValueError(f"opset: got {opset}; expected {written}, to which this version of torch writes the graph.")
    words: dict[str, Any] = {
        "name": model.name,
        "input": "RGB, 0 to 1, NCHW",
        "output_units": "crop units: centre 0, edges at -0.5 and 0.5; "
        f"pose is (yaw, pitch, roll) / {DEGREES:g} degrees",
        "preprocessing": asdict(model.preprocessing),
        "scheme": None if model.scheme is None else model.scheme.name,
        "licence": model.header.get("licence"),
    }
    onnx.helper.set_model_props(graph, {k: v if isinstance(v, str) else json.dumps(v) for k, v in words.items()})
    content = graph.SerializeToString()
    deviations = _compare(deployed, content, names, size) if check else {}
    worst = max(deviations.values(), default=0.0)
    # A hundredth of a pixel of a crop of 100.
    if not worst <= 1e-4:
        raise RuntimeError(f"onnxruntime differs from torch by {worst:g}; expected at most 1e-4. Nothing was written.")
    write_bytes(path, content)
    return deviations


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back what a logger warns of, such as operators of packages that are not installed."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _compare(deployed: DeployedNetwork, content: bytes, names: list[str], size: int) -> dict[str, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(names, 0.0)
    for n in (1, 3):  # neither is the 2 of the example: a size that was written into the graph shows
        images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = deployed(images)
        got = session.run(names, {"images": images.numpy()})
        for name, a, b in zip(names, expected, got, strict=True):
            # Maps have no unit: a fraction of the highest peak; maps of zeros must not divide by it.
            unit = float(a.abs().max().clamp_min(1e-6)) if name == "heatmaps" else 1.0
            worst[name] = max(worst[name], float((a - torch.from_numpy(b)).abs().max()) / unit)
    return worst
