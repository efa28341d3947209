"""Real faces, repaired: corrupt them, repair them with the bundled shape model, print the gain and draw it.

Real faces come from the folder that SHAPE_MODELS_DATA names (300-W, part val), else one image of scikit-image.
The same as ``shape-models demo``.
"""

import os
import sys
from pathlib import Path

from shape_models._demo import run

if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    data = os.environ.get("SHAPE_MODELS_DATA")
    for line in run(Path(sys.argv[1] if len(sys.argv) > 1 else "out"), Path(data) if data else None):
        print(line, flush=True)
