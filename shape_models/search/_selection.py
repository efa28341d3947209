"""Which evidence suits a set of images: chosen by what searches come to in images left out of their training."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from ._fitter import Fitter
from ._images import grey
from ._left_out import left_out_error
from ._training import Examples, Tell
from .evidence import Evidence
from .patches import Patches
from .profiles import Profiles

_LEAST = 6  # images; below, the settings that suit faces stay
_MOST = 60  # images that the choice looks at
_N_STARTS = 8  # training starts of each image: enough to tell kinds of evidence apart
# What is tried: the fractions of the variance by level, prior variances, and pixels beside a landmark, each with
# the default among them.
_MODES = ((0.5, 0.6, 0.7, 0.8, 0.9), (0.8, 0.9, 0.95, 0.98))
_PRIORS = (1e-3, 1e-4, 1e-5)
_SIDES = (12, 8)

CHOICES = ("patches", "profiles", "auto")


def make_evidence(evidence: Any) -> Evidence:
    """Return the evidence that is meant, before anything is chosen."""
    if isinstance(evidence, Evidence):
        return evidence
    if isinstance(evidence, str) and evidence in CHOICES:
        return Profiles() if evidence == "profiles" else Patches()
    raise ValueError(f"evidence: got {evidence!r}; expected one of {', '.join(map(repr, CHOICES))}, or an Evidence.")


def select(fitter: Fitter, examples: Examples, tell: Tell) -> Evidence:
    """Return the evidence whose answers in left-out images are best: profiles of some settings, for "auto" patches too.

    One setting is chosen after the other: prior, modes and length of the profiles.
    """
    kind, n, groups = fitter.evidence, len(examples), examples.groups
    if kind not in ("profiles", "auto") or n < _LEAST:
        return make_evidence(kind)
    rows = np.unique(np.linspace(0, n - 1, min(n, _MOST)).astype(int))
    if groups is not None and len(np.unique(groups[rows])) < 2:
        return make_evidence(kind)
    for i in rows:
        try:
            grey(examples.images[i])
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
    some = examples.take(rows)
    total = len(_PRIORS) + len(_MODES) + len(_SIDES) - 2 + (kind == "auto")
    tried: list[tuple[float, Evidence]] = []
    starts = fitter.n_perturbations or _N_STARTS

    def attempt(evidence: Evidence) -> None:
        part = fitter._blank(evidence=evidence, calibration=0, n_perturbations=starts)
        tried.append((left_out_error(part, some), evidence))
        tell("choosing", len(tried), total)

    for name, values in (("prior", _PRIORS), ("modes", _MODES), ("n_side", _SIDES)):
        best = min(tried, key=lambda pair: pair[0])[1] if tried else Profiles(prior=_PRIORS[0])
        for value in values if not tried else values[1:]:
            attempt(clone(best).set_params(**{name: value}))
    if kind == "auto":
        attempt(Patches())
    return min(tried, key=lambda pair: pair[0])[1]
