"""Numbers of files that make no record: each is refused in the same words, whatever is wrong with them."""

import copy

import numpy as np
import pytest

from shape_models._scatter import Scatter
from shape_models.boxes import get
from shape_models.search._calibration import Calibration
from shape_models.search._lost import Lost
from shape_models.search._placement import Placement
from shape_models.search._starts import BoxConvention
from shape_models.search.detection import LearnedDetection


def records():
    scatter = Scatter(np.tile(np.eye(2), (4, 1, 1)), np.zeros(3), 5.0)
    lost = Lost((0.1, 0.2), 0.01, 0.02, 0.3, 0.04)
    found = [
        scatter,
        lost,
        Calibration((0.1, 0.2), (0.3,), (0.4,), 20, None, scatter, lost),
        Placement((0.5, 0.5), 0.4, (0.01, 0.01, 0.05, 0.02), (3.0, 0.1), 80.0),
        BoxConvention((0.0, 0.1), 0.9, (0.1, 0.1, 0.1)),
        LearnedDetection(get("scikit-image"), 0.9),
    ]
    try:
        from asmnet.uncertainty import Uncertainty
    except ImportError:  # torch is not there
        return found
    return [*found, Uncertainty(scatter, scatter, scatter, None, 0.5)]


@pytest.mark.parametrize("record", records(), ids=lambda record: type(record).__name__)
def test_foreign_numbers_are_refused(record):
    kind, header = type(record), record.to_header()
    assert kind.from_header(copy.deepcopy(header)).to_header() == header
    wrong = [{}, [], 5, "text", {"a": 1}, [[], []], [["a"], [1.0]]]
    if isinstance(header, dict):
        optional = {"scatter", "lost", "length", "pixels", "found", "spread", "n_faces", "source", "name"}
        optional -= {"spread"} if kind in (Lost, Placement, BoxConvention) else set()
        wrong += [{k: v for k, v in header.items() if k != name} for name in header if name not in optional]
        numbers = [k for k, v in header.items() if isinstance(v, float | list | tuple)]
        wrong += [header | {name: value} for name in numbers for value in ("text", {}, float("nan"), [None])]
    else:
        wrong += [header[:1], [header[0], ["a"]], [header[0], header[1], [None]], [header[0], [float("nan")]]]
    for numbers in wrong:
        with pytest.raises(ValueError, match=f"header: got numbers that make no {kind.__name__}"):
            kind.from_header(numbers)
