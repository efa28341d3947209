"""The image that several examples share."""

import numpy as np

from shape_models._demo import ASTRONAUT


def astronaut():
    """Return the face of scikit-image's astronaut (NASA, public domain) and its 68 landmarks, placed by eye."""
    from skimage.data import astronaut

    x0, y0, size = 120, 20, 210
    return astronaut()[y0 : y0 + size, x0 : x0 + size], ASTRONAUT - np.array([x0, y0])
