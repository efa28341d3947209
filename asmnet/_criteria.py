"""Criteria by name: what a training asks for one, and what a criterion is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor

from asmnet._options import check_kind, check_options
from asmnet._prediction import Prediction
from asmnet.data import Batch
from shape_models._options import check_choice


class Criterion(Protocol):
    """What a training minimises: the terms of a batch by name, with their sum under ``"loss"``."""

    def __call__(self, prediction: Prediction, batch: Batch, epoch: int, /) -> dict[str, Tensor]: ...


_Factory = TypeVar("_Factory", bound=Callable[..., Criterion])
_CRITERIA: dict[str, Callable[..., Criterion]] = {}


def register_criterion(name: str) -> Callable[[_Factory], _Factory]:
    """Enter a criterion under `name`; used as a decorator of a class or a function that builds one.

    The factory is called as ``factory(**options)``, with ``n_epochs`` and ``steps_per_epoch`` of the training if it has
    parameters of these names, and returns a callable of (prediction, batch, epoch) that gives the terms by name, their
    sum under ``"loss"``.

    Parameters
    ----------
    name : str
        Unique.

    Returns
    -------
    callable
        Returns what it is given.

    Raises
    ------
    ValueError
        When the name is taken.

    Examples
    --------
    >>> from asmnet.losses import criterion_names, landmark_loss, register_criterion
    >>> @register_criterion("plain-example")
    ... def plain():
    ...     return lambda prediction, batch, epoch: {"loss": landmark_loss(prediction.landmarks, batch.landmarks)}
    >>> "plain-example" in criterion_names()
    True
    """

    def enter(factory: _Factory) -> _Factory:
        known = _CRITERIA.get(name)
        if known is not None and getattr(known, "__qualname__", "") != getattr(factory, "__qualname__", None):
            raise ValueError(f"a criterion called {name!r} is registered already; choose another name.")
        _CRITERIA[name] = factory
        return factory

    return enter


def criterion_names() -> list[str]:
    """Return the registered criteria, sorted.

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> from asmnet.losses import criterion_names
    >>> "asm_assisted" in criterion_names()
    True
    """
    return sorted(_CRITERIA)


def build_criterion(
    name: str, *, n_epochs: int, steps_per_epoch: int, options: Mapping[str, Any] | None = None
) -> Criterion:
    """Build a registered criterion.

    Parameters
    ----------
    name : str
        See `criterion_names`.
    n_epochs, steps_per_epoch : int
        Of the training.
    options : mapping, optional
        For its constructor.

    Returns
    -------
    callable
        Of (prediction, batch, epoch), returns the terms by name.

    Raises
    ------
    ValueError
        For an unknown name, and for options that the criterion does not have; the message lists those it has.

    Examples
    --------
    >>> from asmnet.losses import build_criterion
    >>> build_criterion("asm_assisted", n_epochs=3, steps_per_epoch=10).schedule(0)
    2.0
    """
    check_criterion(name, options or {})
    taken = inspect.signature(_CRITERIA[name]).parameters
    length = {"n_epochs": n_epochs, "steps_per_epoch": steps_per_epoch}
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    known = {key: value for key, value in length.items() if every or key in taken}
    return _CRITERIA[name](**dict(options or {}), **known)


def check_criterion(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown criterion and options it does not have."""
    check_kind("options", options, Mapping)
    check_choice(criterion_names(), criterion=name)
    check_options(f"criterion_options of {name}", _CRITERIA[name], options, ("n_epochs", "steps_per_epoch"))
