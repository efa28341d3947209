"""How a trained network stands turned, blurred, dark and covered faces, and boxes that are off."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from skimage.filters import gaussian
from skimage.transform import AffineTransform, resize, warp

from asmnet._crops import tight_boxes
from asmnet._options import check_kind
from asmnet._scores import mean_interval, normalizer_of
from asmnet.data import LandmarkDataset
from asmnet.predictor import Predictor
from evaluation import nme
from shape_models._array import as_numpy

__all__ = ["ANGLES", "robustness"]

ANGLES = (15, 30, 45, 90)  # degrees, up to a face that lies
BATCH = 64  # faces at once, for the memory
_Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def robustness(predictor: Predictor, dataset: LandmarkDataset, *, n_passes: int | None = None) -> dict[str, Any]:
    """Measure a trained network on changed images.

    Parameters
    ----------
    predictor : Predictor
        Looks at the images as in use, with the tight boxes of the true landmarks but where said otherwise.
    dataset : LandmarkDataset
        Faces that were not trained on. They are turned about the middle of their packed squares; outside is black.
    n_passes : int, optional
        See `Predictor`; by default turned faces are looked at again upright.

    Returns
    -------
    dict of str to Interval
        By condition the mean error with its 95 % interval (bootstrap over `dataset.groups`), as a fraction of the
        distance between the outer corners of the eyes, or of the square root of the area of the box where the scheme
        has none; without ends where all faces are of one group. Faces without that distance, or of which a landmark
        was not found, are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import LandmarkDataset, Predictor
    >>> from asmnet.robustness import robustness
    >>> from shape_models import IBUG68, make_faces
    >>> points = make_faces(2, rng=0) * 0.4 + 48
    >>> data = LandmarkDataset.from_arrays(np.full((2, 128, 128, 3), 128, np.uint8), points)
    >>> list(robustness(Predictor.from_pretrained("asmnet-68"), data, n_passes=1))[:2]
    ['as it is', 'turned by 15 degrees']
    """
    check_kind("predictor", predictor, Predictor)
    check_kind("dataset", dataset, LandmarkDataset)
    scheme = predictor.model.scheme
    kind = normalizer_of(scheme)

    def measured(changed: LandmarkDataset, boxes: np.ndarray) -> Any:
        found: list[np.ndarray] = []
        for start in range(0, len(boxes), BATCH):
            rows = slice(start, start + BATCH)
            given = list(changed.images[rows]), list(boxes[rows, None])
            faces = predictor(*given, n_passes=n_passes, fit=False)
            found += [face.landmarks for (face,) in faces]
        how: Any = {"normalizer": kind, "scheme": scheme, "undefined": "nan", "missing": "failure"}
        return mean_interval(np.asarray(nme(changed.landmarks, np.array(found), **how)), dataset.groups)

    dataset = replace(dataset, images=np.asarray(dataset.images))
    table = {"as it is": measured(dataset, dataset.boxes)}
    for angle in ANGLES:
        turned = _turned(dataset, angle)
        table[f"turned by {angle} degrees"] = measured(turned, turned.boxes)
    for name, change in CHANGES.items():
        rng = np.random.default_rng(0)
        images = [change(image, box, rng) for image, box in zip(dataset.images, dataset.boxes, strict=True)]
        table[name] = measured(replace(dataset, images=np.array(images)), dataset.boxes)
    for amount in (0.1, 0.2):
        name = f"boxes shifted and scaled by up to {100 * amount:.0f} %"
        table[name] = measured(dataset, jittered(dataset.boxes, amount))
    return table


def jittered(boxes: np.ndarray, amount: float, seed: int = 7) -> np.ndarray:
    """Shift boxes by up to `amount` of their larger side in x and y, and scale them by up to `amount`.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
        x0, y0, x1, y1.
    amount : float
        From 0 to less than 1.
    seed : int
        Of the draws.

    Returns
    -------
    ndarray of shape (n, 4)

    Raises
    ------
    ValueError
        For another amount.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.robustness import jittered
    >>> jittered(np.array([[0.0, 0.0, 10.0, 10.0]]), 0.0)
    array([[ 0.,  0., 10., 10.]])
    """
    if not 0 <= amount < 1:
        raise ValueError(f"jitter: got {amount}; expected 0 to less than 1.")
    rng, boxes = np.random.default_rng(seed), as_numpy(boxes, "boxes").astype(np.float64)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    centre = centre + rng.uniform(-amount, amount, (len(boxes), 2)) * size.max(1, keepdims=True)
    half = size / 2 * rng.uniform(1 - amount, 1 + amount, (len(boxes), 1))
    return np.concatenate([centre - half, centre + half], 1)


def _turned(dataset: LandmarkDataset, angle: float) -> LandmarkDataset:
    """Turn the images about their middles, clockwise as seen."""
    # Pixel centres are at integers.
    middle = (np.array(dataset.images.shape[2:0:-1]) - 1) / 2
    turn = AffineTransform(rotation=np.deg2rad(angle))
    around = AffineTransform(translation=-middle) + turn + AffineTransform(translation=middle)
    images = [_as_uint8(warp(image, around.inverse, preserve_range=True)) for image in dataset.images]
    points = around(dataset.landmarks.reshape(-1, 2)).reshape(dataset.landmarks.shape)
    return replace(dataset, images=np.array(images), landmarks=points, boxes=tight_boxes(points))


def _as_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _blurred(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Three pixels of a face of 150.
    sigma = 0.02 * float((box[2:] - box[:2]).max())
    return _as_uint8(gaussian(image.astype(float), sigma, channel_axis=-1, preserve_range=True))


def _coarse(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # A face of 130 pixels becomes one of 22.
    small = tuple(max(1, round(side / 6)) for side in image.shape[:2])
    small_image = resize(image.astype(float), small, anti_aliasing=True, preserve_range=True)
    return _as_uint8(resize(small_image, image.shape[:2], preserve_range=True))


def _dark(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Of 256 grey levels 39 are left.
    return _as_uint8(0.15 * image.astype(float))


def _compressed(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    # libjpeg divides 5000 by a quality below 50: the quantisation tables of the standard times 2.5.
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=20)
    return np.asarray(Image.open(buffer))


def _covered(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = box[2:] - box[:2]
    # Half the width by half the height, wholly within the box.
    low = box[:2] + rng.uniform(0, 0.5, 2) * size
    x0, y0, x1, y1 = np.round(np.concatenate([low, low + size / 2])).astype(int)
    changed = image.copy()
    changed[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 128
    return changed


CHANGES: dict[str, _Change] = {
    "blurred, sigma 2 % of the side of the box": _blurred,
    "a sixth of the resolution": _coarse,
    "brightness 15 %": _dark,
    "JPEG of quality 20": _compressed,
    "a quarter of the box covered with grey": _covered,
}
