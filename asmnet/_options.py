"""Options by name: what is not among them, or of another type, is refused in words that say what is."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Protocol, TypeVar

import torch


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


def formerly(names: Mapping[str, str]) -> Callable[[_Class], _Class]:
    """Let a data class be built and read by old names of its fields too, with a warning."""

    def decorate(cls: _Class) -> _Class:
        built = cls.__init__  # type: ignore[misc]

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

    return decorate


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
