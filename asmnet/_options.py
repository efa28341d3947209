"""Options by name: what is not among them, or of another type, is refused in words that say what is."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from shape_models._array import as_count


class Settings(Protocol):
    """An instance of any data class."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "a word"),
    tuple: ((tuple, list), "a list"),
    dict: (dict, "names with values"),
}


_Class = TypeVar("_Class", bound=type)
OLD_NAMES = {
    "EpochRecord": {"data_share": "data_fraction"},
    "FacePrediction": {"projected": "fitted"},
    "TrainConfig": {"asm_share": "asm_fraction", "extra_share": "extra_fraction"},
}
"""What fields of records were called before; calls by an old name are warned, files keep it."""


def with_old_names(cls: _Class) -> _Class:
    """Let a data class be built and read by the old names of its fields too, with a warning."""
    names, built = OLD_NAMES[cls.__name__], cls.__init__  # type: ignore[misc]

    @functools.wraps(built)
    def build(self: Any, *args: Any, **given: Any) -> None:
        for old in names.keys() & given.keys():  # beside the new one, which `dataclasses.replace` fills in
            given[names[old]] = given.pop(warned(old))
        built(self, *args, **given)

    def read(self: Any, name: str) -> Any:
        if name not in names:
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return getattr(self, names[warned(name)])

    def warned(old: str) -> str:
        warnings.warn(f"{cls.__name__}.{old} is now called {names[old]}.", DeprecationWarning, stacklevel=3)
        return old

    cls.__init__, cls.__getattr__ = build, read  # type: ignore[misc, attr-defined]
    return cls


def by_new_names(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record out of a file, whatever they were called when it was written."""
    return {OLD_NAMES[cls.__name__].get(name, name): value for name, value in values.items()}


def check_name(where: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is not among the known ones."""
    if name not in known:
        raise ValueError(f"{where}: no option is called {name!r}; expected one of {', '.join(sorted(known))}.")


def check_type(name: str, value: object, default: object) -> None:
    """Refuse a value of another type than the default; a whole number may stand for a number, None for a list."""
    if type(default) not in KINDS or (value is None and isinstance(default, tuple | dict)):
        return
    kind, words = KINDS[type(default)]
    if not isinstance(value, kind) or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"{name}: got {value!r}; expected {words}, such as {default!r}.")


def check_kind(name: str, value: Any, kind: type, hint: str = "") -> None:
    """Refuse another kind of thing than a function works with."""
    if not isinstance(value, kind):
        got = repr(value) if isinstance(value, str) else type(value).__name__
        raise TypeError(f"{name}: got {got}; expected a {kind.__name__}.{hint}")


def check_counts(**values: Any) -> None:
    """Refuse what is no whole number from 1 on."""
    for name, value in values.items():
        as_count(value, name, expected="a whole number, at least 1")


def check_tensor(name: str, value: Any, shape: str, *, like: tuple[str, Tensor] | None = None) -> None:
    """Refuse what is no dense tensor of real numbers of a shape such as ``(..., n_landmarks, 2)``.

    With ``like=("prediction", tensor)`` the shape and the device must be those of that tensor.
    """
    check_kind(name, value, Tensor, " Try torch.as_tensor.")
    if value.layout is not torch.strided or value.is_complex() or value.dtype is torch.bool:
        kind = str(value.dtype if value.layout is torch.strided else value.layout).removeprefix("torch.")
        raise TypeError(f"{name}: got a tensor of {kind}; expected real numbers, dense.")
    sides, more = [side for side in shape.strip("(,)").split(", ") if side != "..."], shape.startswith("(...")
    got = value.shape[max(0, value.ndim - len(sides)) :]
    whole = len(got) == len(sides) and (more or value.ndim == len(sides))
    if not whole or any(side.isdigit() and int(side) != n for side, n in zip(sides, got, strict=True)):
        raise ValueError(f"{name}: got shape {tuple(value.shape)}; expected {shape}.")
    if like is not None and value.shape != like[1].shape:
        raise ValueError(
            f"{name}: got shape {tuple(value.shape)}; expected {tuple(like[1].shape)}, that of the {like[0]}."
        )
    if like is not None and value.device != like[1].device:
        raise ValueError(f"{name}: got a tensor on {value.device}; expected {like[1].device}, as the {like[0]}.")


def check_mask(mask: Any, shape: Sequence[int], *, broadcasts: bool = False) -> Tensor:
    """Return a mask of a shape, or one that broadcasts to it, as booleans."""
    check_kind("mask", mask, Tensor, " Try torch.as_tensor.")
    given, wanted = tuple(mask.shape), tuple(shape)
    try:
        fits = given == wanted or (broadcasts and torch.broadcast_shapes(given, wanted) == wanted)
    except RuntimeError:
        fits = False
    if not fits:
        expected = f"one that fits {wanted}" if broadcasts else f"{wanted}"
        raise ValueError(f"mask: got shape {given}; expected {expected}.")
    return mask.bool().expand(wanted)  # type: ignore[no-any-return]


def as_device(device: Any) -> torch.device:
    """Return the device that a word names, and that is there."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device: got {device!r}; expected 'cpu', 'cuda' or another device of PyTorch.") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: got {device!r}; expected one that is there, but PyTorch sees no GPU. Try 'cpu'.")
    return found


def check_options(where: str, factory: Callable[..., Any], options: Mapping[str, Any], own: Sequence[str]) -> None:
    """Refuse options that a factory does not take, or of another type; those called `own` are given elsewhere."""
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = {name: parameter.default for name, parameter in parameters.items() if name not in own}
    for name, value in options.items():
        check_name(where, name, list(known))
        check_type(f"{where}.{name}", value, known[name])


def check_fields(settings: Settings) -> None:
    """Refuse fields of a data class of another type than their defaults."""
    for field in fields(settings):
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        check_type(field.name, getattr(settings, field.name), default)
