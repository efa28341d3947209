"""Labels for images that nobody has annotated, by a search or a network that knows how far off it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shape_models.search import ASMFitter

__all__ = ["PseudoLabels", "pseudo_labels"]


class PseudoLabels(NamedTuple):
    """The surest answers for images without annotation.

    Parameters
    ----------
    rows : ndarray of shape (m,)
        Which of the images they belong to, in rising order.
    landmarks : ndarray of shape (m, K, 2)
        In the pixels of the images.
    expected_error : ndarray of shape (m,)
        Expected mean distance from the true landmarks, in fractions of the diagonal of their tight box.

    Examples
    --------
    >>> from asmnet.pseudo_labels import PseudoLabels
    >>> PseudoLabels._fields
    ('rows', 'landmarks', 'expected_error')
    """

    rows: np.ndarray
    landmarks: np.ndarray
    expected_error: np.ndarray


def pseudo_labels(
    labeller: Any, images: Sequence[Any], *, boxes: Sequence[Any] | None = None, fraction: float = 0.8
) -> PseudoLabels:
    """Let a search or a network label images, and keep the labels that it expects to be the best.

    A network learns from few annotated images what their number allows, and a search of the image makes other mistakes
    than it. With a search that was trained on the annotated images as labeller, the network that is then trained on
    both (``extra=`` of `asmnet.train`) can come nearer than either.

    Parameters
    ----------
    labeller : ASMFitter or Predictor
        What looks at the images.
    images : sequence of array or path
        Each shows one object.
    boxes : sequence of array_like of shape (4,), optional
        Where the objects are, by the convention of the labeller; without them it finds them itself.
    fraction : float
        How many of the answers are kept, at least one.

    Returns
    -------
    PseudoLabels
        Empty when the labeller answered for no image.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1], and where images and boxes differ in number.

    References
    ----------
    D.-H. Lee: Pseudo-label: the simple and efficient semi-supervised learning method for deep neural networks,
    ICML workshop on challenges in representation learning, 2013.

    Examples
    --------
    >>> import skimage.data
    >>> from shape_models import load_model
    >>> from asmnet.pseudo_labels import pseudo_labels
    >>> found = pseudo_labels(load_model("search68"), [skimage.data.astronaut()], boxes=[[176, 75, 270, 177]])
    >>> found.rows, found.landmarks.shape
    (array([0]), (1, 68, 2))
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: got {fraction}; expected a number above 0 and at most 1.")
    if boxes is not None and len(boxes) != len(images):
        raise ValueError(f"boxes: got {len(boxes)}; expected one for each of {len(images)} images.")
    rows, landmarks, expected = [], [], []
    for row, image in enumerate(images):
        found = _look(labeller, image, None if boxes is None else boxes[row])
        if found is not None and np.isfinite(found[0]).all() and np.isfinite(found[1]):
            rows.append(row)
            landmarks.append(found[0])
            expected.append(found[1] / np.linalg.norm(np.ptp(found[0], axis=0)))
    if not rows:
        return PseudoLabels(np.empty(0, int), np.empty((0, 0, 2)), np.empty(0))
    surest = np.sort(np.argsort(expected, kind="stable")[: max(1, round(fraction * len(expected)))])
    return PseudoLabels(np.array(rows)[surest], np.array(landmarks)[surest], np.array(expected)[surest])


def _look(labeller: Any, image: Any, box: Any) -> tuple[np.ndarray, float] | None:
    """Return the landmarks of one object and their expected error, or None where nothing is found."""
    given = None if box is None else np.asarray(box, dtype=float)
    if isinstance(labeller, ASMFitter):
        found = labeller.predict([image], boxes=None if given is None else given[None])
        answer = found[0] if isinstance(found, list) else found
        return None if answer.status == "error" else (answer.shape, float(answer.expected_error))
    faces = labeller([image], boxes=None if given is None else [given[None]])[0]
    known = [face for face in faces if face.fitted is not None and np.isfinite(face.expected_error)]
    if not known:
        return None
    surest = min(known, key=lambda face: float(face.expected_error))
    return surest.fitted, float(surest.expected_error)
