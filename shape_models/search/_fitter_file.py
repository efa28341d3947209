"""Searches in files: what `save_model` writes of an `ASMFitter` and `load_model` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone

from .._model_files import load_aligned, save_aligned
from ._calibration import Calibration
from ._frame import Frame
from ._judge import Judge
from ._locator import Locator
from ._placement import Placement
from ._starts import BoxConvention
from .detection import LearnedDetection
from .evidence import evidence_from_parts, part_of

F = TypeVar("F")
_SAVED = (
    "n_levels", "resolution", "level_step", "jitter", "n_perturbations", "mirror", "occlusion", "calibration",
    "tolerance", "random_state",
)  # fmt: skip


def fitter_to_archive(fitter: Any) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Return (kind, header, arrays) of a fitted search."""
    asm, arrays = save_aligned(fitter.asm_)
    kind, evidence, some = fitter.evidence_.to_parts()
    parameters = {name: getattr(fitter, name) for name in _SAVED}
    parameters = {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}
    parameters["jitter"] = [float(v) for v in fitter.jitter]
    header = {
        "frame": "image",
        "asm": asm,
        "evidence": {"kind": kind, "header": evidence},
        "parameters": parameters,
        "angle": fitter._frame.angle,
        "resolutions": list(fitter.resolutions_),
        "score_scale": list(fitter.score_scale_),
        "box": fitter.box_.to_header(),
        "detection": None if fitter.detection_ is None else fitter.detection_.to_header(),
        "placement": None if fitter.placement_ is None else fitter.placement_.to_header(),
        "calibration": None if fitter.calibration_ is None else fitter.calibration_.to_header(),
    }
    arrays = {f"asm.{name}": array for name, array in arrays.items()}
    arrays |= {f"evidence.{name}": np.asarray(array) for name, array in some.items()}
    judge = None if fitter.calibration_ is None else fitter.calibration_.judge
    if judge is not None:
        arrays |= {f"judge.{name}": array for name, array in judge.to_arrays().items()}
    if fitter._locator is not None:
        arrays["locator"] = fitter._locator.weights
    return "ASMFitter", header, arrays


def read_fitter(make: Callable[..., F], header: dict[str, Any], arrays: dict[str, np.ndarray]) -> F:
    """Build what `fitter_to_archive` took apart, an `ASMFitter`, which `make` makes of its parameters."""
    asm = load_aligned(header["asm"], part_of(arrays, "asm."))
    asm.frame_ = asm.frame_ or "pixels"  # what it is searched in
    saved = header["evidence"]
    evidence = evidence_from_parts(saved["kind"], saved["header"], part_of(arrays, "evidence."))
    parameters = dict(header["parameters"])
    parameters["jitter"] = tuple(parameters["jitter"])
    fitter: Any = make(asm, evidence=clone(evidence), **parameters)
    fitter.asm_ = asm
    fitter._frame = Frame(asm.asm_.basis_, header["angle"])
    fitter.n_landmarks_ = fitter._frame.n_landmarks
    fitter.resolutions_ = tuple(float(r) for r in header["resolutions"])
    mean, spread = header["score_scale"]
    fitter.score_scale_ = (float(mean), float(spread))
    fitter.box_ = BoxConvention.from_header(header["box"])
    fitter.detection_ = LearnedDetection.from_header(header["detection"])
    looks = "locator" in arrays  # files of old know where objects stood, but not what they look like from afar
    fitter.placement_ = Placement.from_header(header["placement"]) if looks else None
    fitter._locator = Locator(arrays["locator"]) if looks else None
    fitter.left_out_ = None
    fitter.calibration_ = Calibration.from_header(
        header.get("calibration"), Judge.from_arrays(part_of(arrays, "judge."))
    )
    evidence.prepare(fitter._frame, len(fitter.resolutions_), fitter.asm_.scheme_)
    fitter.evidence_ = evidence
    made: F = fitter
    return made
