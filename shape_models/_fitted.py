"""Fits that change their estimator at the end or not at all."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def all_or_nothing(fit: F) -> F:
    """Let a method that fits an estimator change it only when it ends well, and then in one step.

    The method works on a shallow copy, whose attributes replace those of the estimator at the end. A fit that is
    refused or interrupted leaves the estimator exactly as it was, and other threads see the old model or the new one,
    never a mixture. The method must set attributes anew, not change the objects they hold.
    """

    @functools.wraps(fit)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        trial = copy.copy(self)
        result = fit(trial, *args, **kwargs)
        self.__dict__ = trial.__dict__
        return self if result is trial else result

    return cast(F, wrapper)
