"""Active shape model search: find the shapes of a model in images."""

from .combination import CombinedEvidence
from .evidence import Evidence, Proposal, View
from .fitter import ASMFitter
from .patches import Patches
from .profiles import Profiles
from .results import SearchResult, SearchStep

__all__ = [
    "ASMFitter",
    "CombinedEvidence",
    "Evidence",
    "Patches",
    "Profiles",
    "Proposal",
    "SearchResult",
    "SearchStep",
    "View",
]
