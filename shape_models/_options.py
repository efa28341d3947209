"""What options may be: flags, random generators and paths, each refused in the same words."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def check_flags(**flags: Any) -> None:
    """Refuse what is neither true nor false; any text would count as true."""
    for name, value in flags.items():
        if not isinstance(value, int | np.bool_ | np.integer) or value not in (0, 1):
            raise ValueError(f"{name}: got {value!r}; expected True or False.")


def check_choice(choices: Collection[str | None], **values: Any) -> None:
    """Refuse what is not among some words."""
    for name, value in values.items():
        if not isinstance(value, str | None) or value not in choices:
            words = ", ".join(str(choice) or "''" for choice in choices)
            raise ValueError(f"{name}: got {value!r}; expected one of {words}.")


def checked_header(build: F) -> F:
    """Let a function that builds from numbers of a file say what is wrong with foreign ones."""

    @functools.wraps(build)
    def wrapper(cls: Any, header: Any, *more: Any) -> Any:
        try:
            return build(cls, header, *more)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            what = f"no entry {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"header: got numbers that make no {cls.__name__} ({what}); expected those that to_header returned."
            ) from error

    return cast(F, wrapper)


def finite(value: Any) -> float:
    """Return a number from a file, which is finite."""
    if isinstance(value, bool | str) or not np.isfinite(number := float(value)):
        raise ValueError(f"got {value!r} for a number")
    return number


def finite_row(values: Any) -> tuple[float, ...]:
    """Return numbers from a file, at least one, which are finite."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"got {values!r} for numbers")
    return tuple(finite(value) for value in values)


def as_generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """Return the generator of a seed, or the generator itself."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {rng!r}; expected a whole number, a numpy Generator or None.") from None


def is_number(value: Any) -> bool:
    """Say whether a value is one real number, so that it can be compared; text and flags are none."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.dtype.kind in "fiu"
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def check_numbers(*, above: bool = False, most: float = np.inf, **values: Any) -> None:
    """Refuse what is no finite number from 0 on, or, with `above`, above it, up to `most`."""
    for name, value in values.items():
        if not is_number(value) or not (value > 0 if above else value >= 0) or value == np.inf or value > most:
            words = "positive number" if above else "number that is not negative"
            upto = "" if most == np.inf else f", at most {most:g}"
            raise ValueError(f"{name}: got {value!r}; expected a finite {words}{upto}.")


def usable_processors() -> int:
    """Return on how many processors this process may run."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def as_probability(value: Any, name: str = "level") -> float:
    """Return a probability that is neither none nor certain."""
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"{name}: got {value!r}; expected a probability between 0 and 1.")
    return float(value)


def as_path(path: Any, name: str = "path") -> Path:
    """Return the path that a text or a path names."""
    if not isinstance(path, str | os.PathLike):
        got = f"an array of shape {path.shape}" if isinstance(path, np.ndarray) else repr(path)[:80]
        raise TypeError(f"{name}: got {got}; expected the path of a file. Try {name} as the first argument.")
    return Path(path)
