"""Weights on disk: safetensors for numbers, JSON for words, written atomically; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asmnet._options import as_device, check_kind
from asmnet.data import Preprocessing
from asmnet.networks import build_network
from asmnet.uncertainty import Uncertainty
from shape_models import AlignedASM, Box, LandmarkScheme, ShapeBasis, get_scheme
from shape_models._files import write_bytes, write_text
from shape_models._model_files import load_aligned, save_aligned, scheme_from_json, scheme_to_json
from shape_models._options import as_path, check_flags

__all__ = [
    "CheckpointError",
    "PretrainedModel",
    "load_pretrained",
    "pretrained_names",
    "read_tensors",
    "save_pretrained",
    "write_tensors",
]

WEIGHTS = Path(__file__).resolve().parent / "weights"  # of the models that ship; their uncertainty lies beside them
FORMAT = "asmnet"
FORMAT_VERSION = 1
SHIPPED: dict[str, str] = {  # SHA-256 of weights/<name>.safetensors by name
    "imm-58": "6ba85a4f83760ed0404e8811bc2d68509aa85d737277e2e47f83647f89b5424b",
    "hands-56": "c9ba3bfe2897d1f1a5fa0179349fecc368c81babeeff8126350fe329e460164c",
    "hourglass-68": "c4a5cd02ab34727ab481678a6facdda5b1cf26614c1bebde21e902c247258798",
    "light-68": "daaf8c49ae5ada1b4c0fe192b2fd5c8e0d802c03cd8f8e5cac7ec263d7fc1684",
    "asmnet-68": "6b89b73dbf152549a0a5422e24ddbb694b4e2aaa8f8cb93d8800323ae0acccf1",
}


class CheckpointError(ValueError):
    """A checkpoint that is truncated, malformed, of another kind, or not what its checksum says.

    Examples
    --------
    >>> from asmnet.checkpoints import CheckpointError
    >>> issubclass(CheckpointError, ValueError)
    True
    """


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Write named tensors and a JSON header to one safetensors file, atomically.

    Parameters
    ----------
    path : path
        Where; the folder is made.
    tensors : mapping of str to Tensor
        Any devices and types.
    header : mapping
        Anything JSON can hold.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    OSError
        When the disk is full or not writable; an older file of that name is then untouched.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from asmnet.checkpoints import read_tensors, write_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = write_tensors(Path(folder) / "a.safetensors", {"x": torch.ones(2)}, {"kind": "example"})
    ...     tensors, header = read_tensors(Path(folder) / "a.safetensors")
    >>> tensors["x"], header["kind"], len(digest)
    (tensor([1., 1.]), 'example', 64)
    """
    from safetensors.torch import save

    path = as_path(path)
    try:
        text = json.dumps(dict(header), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"header: got what JSON cannot hold ({error}); expected names with plain values.") from error
    for name, value in tensors.items():
        check_kind("tensors: a name", name, str)
        check_kind(f"tensors[{name!r}]", value, Tensor, " Try torch.as_tensor.")
        if value.layout is not torch.strided or value.is_meta:
            raise TypeError(f"tensors[{name!r}]: got {value.layout} on {value.device}; expected dense numbers.")
    # A copy of each: two names of one tensor would share memory, which the format refuses.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    words = {"format": FORMAT, "version": str(FORMAT_VERSION), "header": text}
    content = _sorted_header(save(plain, metadata=words))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def _sorted_header(content: bytes) -> bytes:
    """Write the header of a safetensors file in sorted order, since the library shuffles the metadata."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the numbers that follow are aligned
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def read_tensors(path: str | Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Parameters
    ----------
    path : path
        A safetensors file.
    sha256 : str, optional
        What the file must hash to.

    Returns
    -------
    tensors : dict of str to Tensor
    header : dict

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    CheckpointError
        When the file is truncated, malformed, not of this library, of a newer version or of another checksum.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from asmnet.checkpoints import read_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.safetensors").write_bytes(b"not a checkpoint")
    ...     read_tensors(Path(folder) / "a.safetensors")
    Traceback (most recent call last):
        ...
    asmnet.checkpoints.CheckpointError: ...a.safetensors: truncated or no safetensors file ...
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint.")
    content = path.read_bytes()
    # A zip archive, or a pickle. A safetensors file begins with eight bytes of length: the last four are 0 below 4 GB.
    if content[:4] == b"PK\x03\x04" or (content[:1] == b"\x80" and any(content[4:8])):
        raise CheckpointError(
            f"{path}: a checkpoint of torch.save, which can run code when it is opened and is not read here. Try "
            "torch.load(path, weights_only=True), asmnet.networks.load_torchvision_weights(network, state) for "
            "torchvision's MobileNetV2, and train(initial=network.state_dict())."
        )
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"{path}: the checksum differs from the recorded one; the file was changed or damaged.")
    try:
        size = int.from_bytes(content[:8], "little")
        words = json.loads(content[8 : 8 + size])["__metadata__"] if len(content) >= 8 + size else None
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, RuntimeError) as error:
        raise CheckpointError(f"{path}: truncated or no safetensors file ({error}).") from error
    if not isinstance(words, dict) or words.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not one written by this library.")
    try:
        version = int(words["version"])
        header = json.loads(words["header"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is malformed ({error}).") from error
    if version < 1:
        raise CheckpointError(f"{path}: the header is malformed (format {version}).")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written by a newer version of the library (format {version}); this one reads up to "
            f"{FORMAT_VERSION}. Try upgrading shape-models."
        )
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is malformed (no mapping).")
    return tensors, header


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors by name and what JSON can hold."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], words: Mapping[str, Any]) -> None:
    """Undo `optimizer_tensors`."""
    state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in words["state"].items()}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": words["param_groups"]})


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A trained network with all that is needed to use it.

    Attributes
    ----------
    network : Module
        In evaluation mode, float32.
    name : str
        Such as ``"asmnet-68"``.
    network_name : str
        As registered.
    network_options : dict
        Given to the constructor.
    scheme : LandmarkScheme, str or None
        What the landmarks are, or the name of it.
    preprocessing : Preprocessing
        How faces were cut out in training; those to predict must be cut alike.
    basis : ShapeBasis or None
        The shape model of the loss, in crop units.
    header : dict
        Licences, metrics, the training configuration and whatever else was written.
    shape_model : AlignedASM or None
        The shape model of the training landmarks, which predictions are joined with.
    uncertainty : Uncertainty or None
        What the landmarks are worth, see `asmnet.uncertainty.learn_uncertainty`.

    Examples
    --------
    >>> from asmnet.checkpoints import PretrainedModel
    >>> "preprocessing" in PretrainedModel.__dataclass_fields__
    True
    """

    network: nn.Module
    name: str
    network_name: str
    network_options: dict[str, Any]
    scheme: LandmarkScheme | None
    preprocessing: Preprocessing
    basis: ShapeBasis | None
    header: dict[str, Any]
    shape_model: AlignedASM | None = None
    uncertainty: Uncertainty | None = None

    def __post_init__(self) -> None:
        if self.scheme is not None:
            object.__setattr__(self, "scheme", get_scheme(self.scheme))


def save_pretrained(model: PretrainedModel, path: str | Path, *, half: bool = True) -> str:
    """Write a trained network: weights and shape model to ``path``, the words beside it as ``.json``.

    Parameters
    ----------
    model : PretrainedModel
        What to write.
    path : path
        Ends in ``.safetensors``.
    half : bool
        Store convolution and linear weights in half precision; norms and the shape model stay as they are.

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    ValueError
        For another suffix than ``.safetensors``, weights that are not finite or not of the network that is named, or a
        basis that does not belong to it or has another limit than a `Box`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from asmnet import ASMNet, Preprocessing
    >>> from asmnet.checkpoints import PretrainedModel, load_pretrained, save_pretrained
    >>> model = PretrainedModel(ASMNet(5), "tiny", "asmnet", {}, None, Preprocessing(size=64), None, {})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = save_pretrained(model, Path(folder) / "tiny.safetensors")
    ...     load_pretrained(Path(folder) / "tiny.safetensors").preprocessing.size
    64
    """
    check_kind("model", model, PretrainedModel)
    check_flags(half=half)
    check_kind("name", model.name, str)
    path = as_path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: got {path.name!r}; expected a name that ends in .safetensors.")
    with torch.device("meta"):
        wanted = build_network(model.network_name, count_landmarks(model), **model.network_options).state_dict()
    tensors, weights = {}, model.network.state_dict()
    whose = f"{model.network_name} with the options {model.network_options}"
    refuse_other_weights("model", weights, wanted, whose, "expected the options that the network was built with")
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"model: got weights that are not finite ({name}); expected numbers.")
        # Vectors (norms, biases) are few: to halve them would save nothing. What half precision cannot hold stays.
        small = half and value.is_floating_point() and value.ndim > 1 and bool(torch.isfinite(value.half()).all())
        tensors[f"network.{name}"] = value.half() if small else value
    if model.basis is not None:
        for name in ("mean", "components", "variances"):
            tensors[f"basis.{name}"] = torch.from_numpy(np.array(getattr(model.basis, name), dtype=np.float64))
    shapes = {"basis": model.basis, "shape_model": model.shape_model and model.shape_model.asm_.basis_}
    for name, basis in shapes.items():
        if basis is not None and basis.event_shape != (count_landmarks(model), 2):
            raise ValueError(f"{name}: got one of shapes {basis.event_shape}; expected the landmarks of the network.")
    limit = None if model.basis is None else model.basis.limit
    if not (limit is None or isinstance(limit, Box)):
        raise ValueError(f"basis: got the limit {limit!r}; expected a Box or None in a checkpoint.")
    own: dict[str, Any] = {}
    if model.shape_model is not None:
        own["shape_model"], arrays = save_aligned(model.shape_model)
        tensors |= {f"shape_model.{name}": torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    if model.uncertainty is not None and path.resolve().parent != WEIGHTS:
        own["uncertainty"] = model.uncertainty.to_header()
    scheme = scheme_to_json(model.scheme)
    if scheme is not None and len(scheme) > 1:  # not one that goes by its name
        own["scheme_parts"] = scheme
    header = {
        **model.header,
        **own,
        "kind": "model",
        "name": model.name,
        "network": model.network_name,
        "network_options": model.network_options,
        "n_landmarks": int(count_landmarks(model)),
        "scheme": None if model.scheme is None else model.scheme.name,
        "preprocessing": asdict(model.preprocessing),
        "basis_limit": None if limit is None else float(limit),
        "basis_noise_variance": 0.0 if model.basis is None else model.basis.noise_variance,
    }
    digest = write_tensors(path, tensors, header)
    words = {name: value for name, value in header.items() if name != "uncertainty"}
    write_text(path.with_suffix(".json"), json.dumps({**words, "sha256": digest}, indent=1, sort_keys=True) + "\n")
    return digest


def count_landmarks(model: PretrainedModel) -> int:
    """Return the number of landmarks of a model: of its scheme, else of the network."""
    if model.scheme is not None:
        return model.scheme.n_landmarks
    heads = getattr(model.network, "heads", None)
    own = getattr(model.network, "n_landmarks", None) or getattr(heads, "n_landmarks", None)
    if own is None:
        raise ValueError("the network does not say its number of landmarks; expected an attribute n_landmarks.")
    return int(own)


def load_pretrained(name_or_path: str | Path, *, device: str = "cpu") -> PretrainedModel:
    """Load a trained network: one that ships with the library, by name, or a file.

    Parameters
    ----------
    name_or_path : str or path
        A name of `pretrained_names`, or a file written by `save_pretrained`.
    device : str
        Where the network goes.

    Returns
    -------
    PretrainedModel
        The network in evaluation mode, and what belongs to it.

    Raises
    ------
    FileNotFoundError
        When it is neither a shipped name nor a file.
    CheckpointError
        When the file is damaged, of another kind, or does not fit the network it names.

    Examples
    --------
    >>> from asmnet.checkpoints import load_pretrained
    >>> load_pretrained("resnet-1000")
    Traceback (most recent call last):
        ...
    FileNotFoundError: resnet-1000: no shipped model and no such file; expected one of ..., or a file.
    """
    name, place = str(as_path(name_or_path, "name_or_path")), as_device(device)
    checksum = SHIPPED.get(name)
    path = WEIGHTS / f"{name}.safetensors" if checksum else Path(name_or_path)
    if not path.is_file():
        shipped = ", ".join(SHIPPED) or "none"
        raise FileNotFoundError(f"{name}: no shipped model and no such file; expected one of {shipped}, or a file.")
    tensors, header = read_tensors(path, sha256=checksum)
    # What stands for fields of the model is not given out twice: whoever saves it again writes these fields.
    parts, learned, shapes = (header.pop(name, None) for name in ("scheme_parts", "uncertainty", "shape_model"))
    beside = path.with_suffix(".uncertainty.json")
    if checksum and beside.is_file():  # learned after the weights, which stay byte for byte
        learned = json.loads(beside.read_text(encoding="utf-8"))
    if header.get("kind") != "model":
        raise CheckpointError(
            f"{path}: holds {header.get('kind', 'something')!r}, not a model for use. "
            "Try `asmnet export`, or best.safetensors through `asmnet evaluate`."
        )
    try:
        preprocessing = Preprocessing(**header["preprocessing"])
        network = build_network(header["network"], int(header["n_landmarks"]), **header["network_options"])
        state = tensors_under(tensors, "network.")
        own = network.state_dict()
        network.load_state_dict({n: v.to(own[n].dtype) if n in own else v for n, v in state.items()})
        basis = None
        if "basis.mean" in tensors:
            mean, components, variances = (tensors[f"basis.{n}"].numpy() for n in ("mean", "components", "variances"))
            basis = ShapeBasis(
                mean, components, variances, header["basis_limit"], noise_variance=header["basis_noise_variance"]
            )
        arrays = {name: value.numpy() for name, value in tensors_under(tensors, "shape_model.").items()}
        shape_model = None if shapes is None else load_aligned(shapes, arrays)
        scheme = scheme_from_json(parts or (header["scheme"] and {"name": header["scheme"]}))
        uncertainty = None if learned is None else Uncertainty.from_header(learned)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: the contents do not make a model ({error}).") from error
    if not all(bool(torch.isfinite(v).all()) for v in network.state_dict().values()):
        raise CheckpointError(f"{path}: holds weights that are not finite.")
    return PretrainedModel(
        network.eval().to(place),
        str(header["name"]),
        header["network"],
        dict(header["network_options"]),
        scheme,
        preprocessing,
        basis,
        header,
        shape_model,
        uncertainty,
    )


def differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Return the names of weights that are not in both, in one shape."""
    names = {**first, **second}
    return [n for n in names if n not in first or n not in second or first[n].shape != second[n].shape]


def refuse_other_weights(
    name: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], whose: str, hint: str
) -> None:
    """Refuse weights that are not those of a network."""
    wrong = differing(wanted, given)
    if wrong:
        raise ValueError(f"{name}: {len(wrong)} weights are not those of {whose}, the first is {wrong[0]}; {hint}.")


def tensors_under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def pretrained_names() -> list[str]:
    """Return the names of the models that ship with the library.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> from asmnet.checkpoints import pretrained_names
    >>> isinstance(pretrained_names(), list)
    True
    """
    return sorted(SHIPPED)
