"""Weights on disk: safetensors for numbers, JSON for words, written atomically; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shape_models._files import write_bytes

__all__ = ["CheckpointError", "read_tensors", "write_tensors"]

FORMAT = "asmnet"
FORMAT_VERSION = 1


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

    words = {"format": FORMAT, "version": str(FORMAT_VERSION), "header": json.dumps(dict(header), sort_keys=True)}
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata=words)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


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

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint.")
    content = path.read_bytes()
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
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: the header is malformed ({error}).") from error
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
