"""Where the landmarks of iBUG lie on MediaPipe's face mesh: three vertices and their weights for each.

Learned from 1716 images of 300-W train, in which both MediaPipe 0.10.21 (attention mesh) and the annotations were
at hand, and from their mirror images: of all triples of the 60 nearest vertices the one whose weighted mean, with
weights of sum 1 between -1.5 and 1.5, has the least mean squared distance in units of the eye distance. Left and right
are mirror images. 300-W is for research use; what stands here are statistics of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _rules() -> dict[int, dict[int, float]]:
    table = np.loadtxt(Path(__file__).with_suffix(".csv").read_text().splitlines(), delimiter=",", skiprows=1).tolist()
    return {int(row[0]): {int(v): w for v, w in zip(row[1::2], row[2::2], strict=True)} for row in table}


IBUG68_VERTICES = _rules()
IBUG68_ERROR = 0.046
