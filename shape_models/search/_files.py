"""A fitted search as header and arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from .appearance import Texture
from .combination import CombinedEvidence
from .evidence import Evidence
from .heatmaps import HeatMaps
from .patches import Patches
from .profiles import Profiles

__all__ = ["load_fitter", "to_archive"]

_KINDS: dict[str, Any] = {"Patches": Patches, "Profiles": Profiles, "HeatMaps": HeatMaps, "Texture": Texture}
_PARAMETERS = (
    "n_levels",
    "resolution",
    "level_step",
    "jitter",
    "n_perturbations",
    "mirror",
    "tolerance",
    "random_state",
)


def to_archive(fitter: Any) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Return (kind, header, arrays) of a fitted `ASMFitter`."""
    from sklearn.utils.validation import check_is_fitted

    from ..io import _save_aligned

    check_is_fitted(fitter, "evidence_")
    asm, arrays = _save_aligned(fitter.asm_)
    kind, evidence, some = fitter.evidence_.to_parts()
    parameters = {name: getattr(fitter, name) for name in _PARAMETERS}
    parameters = {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}
    parameters["jitter"] = [float(v) for v in parameters["jitter"]]
    header = {
        "frame": "image",
        "asm": asm,
        "evidence": {"kind": kind, "header": evidence},
        "parameters": parameters,
        "angle": fitter._frame.angle,
        "resolutions": list(fitter.resolutions_),
        "score_scale": list(fitter.score_scale_),
        "box": fitter.box_,
        "detection": fitter.detection_,
    }
    arrays = {f"asm.{name}": array for name, array in arrays.items()}
    arrays |= {f"evidence.{name}": np.asarray(array) for name, array in some.items()}
    return "ASMFitter", header, arrays


def load_fitter(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build the `ASMFitter` that `to_archive` took apart."""
    from ..io import _load_aligned
    from ._frame import Frame
    from .fitter import ASMFitter

    asm = _load_aligned(header["asm"], _part(arrays, "asm."))
    evidence = _evidence(header["evidence"]["kind"], header["evidence"]["header"], _part(arrays, "evidence."))
    parameters = dict(header["parameters"])
    parameters["jitter"] = tuple(parameters["jitter"])
    fitter = ASMFitter(asm, evidence=evidence.clone(), **parameters)
    fitter.asm_ = asm
    fitter._frame = Frame(asm.asm_.basis_, header["angle"])
    fitter.n_landmarks_ = fitter._frame.n_landmarks
    fitter.resolutions_ = tuple(float(r) for r in header["resolutions"])
    mean, spread = header["score_scale"]
    fitter.score_scale_ = (float(mean), float(spread))
    fitter.box_, fitter.detection_ = header["box"], header["detection"]
    _prepare(evidence, fitter)
    fitter.evidence_ = evidence
    return fitter


def _prepare(evidence: Evidence, fitter: Any) -> None:
    from ..landmarks import get_scheme

    scheme = fitter.asm_.scheme
    scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
    evidence.prepare(fitter._frame, len(fitter.resolutions_), scheme)


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _evidence(kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Evidence:
    if kind == "CombinedEvidence":
        parts = [
            _evidence(part["kind"], part["header"], _part(arrays, f"{i}.")) for i, part in enumerate(header["parts"])
        ]
        combined = CombinedEvidence(parts)
        for key, array in _part(arrays, "own.").items():
            level, iteration, name = key.split(".")
            combined.stages_.setdefault(f"{level}.{iteration}", {})[name] = array
        return combined
    if kind not in _KINDS:
        raise ValueError(f"got evidence of kind {kind!r}; expected one of {sorted(_KINDS)} or 'CombinedEvidence'.")
    return _KINDS[kind].from_parts(header, arrays)
