"""What the steps of a training and of a search know of the fitter that they belong to."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np

from .._aligned import AlignedASM
from ._calibration import Calibration
from ._frame import Frame
from ._locator import Locator
from ._placement import Placement
from ._solver import Solver
from ._starts import BoxConvention, Jitter
from ._training import Examples, Tell
from .detection import LearnedDetection
from .evidence import Evidence


class Searches(Protocol):
    """A trained search."""

    asm_: AlignedASM
    jitter: Jitter
    random_state: int | None
    evidence_: Evidence
    box_: BoxConvention
    detection_: LearnedDetection | None
    placement_: Placement | None
    calibration_: Calibration | None
    n_landmarks_: int
    _frame: Frame
    _locator: Locator | None

    def _solver(self) -> Solver: ...


class Fitter(Searches, Protocol):
    """A search that can be trained."""

    evidence: Evidence | str
    n_perturbations: int | None
    calibration: int | None
    _evidence: Evidence

    def _blank(self, **changes: Any) -> Self: ...

    def _learn(self, examples: Examples, tell: Tell) -> np.ndarray: ...
