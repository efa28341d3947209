"""Labels for images that nobody has annotated, by a search or a network that knows how far off it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asmnet.checkpoints import count_landmarks, pretrained_names
from asmnet.predictor import FacePrediction, Predictor
from shape_models import ASM, AlignedASM, load_model
from shape_models._options import check_numbers
from shape_models._typing import ArrayLike
from shape_models.datasets import LandmarkSample, LandmarkSamples
from shape_models.images import check_inside, image_size
from shape_models.search import ASMFitter, PartsFitter, Patches

__all__ = ["PseudoLabels", "pseudo_labels"]

_TOGETHER = 64  # images that are held in memory at once


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
    labeller: ASMFitter | PartsFitter | Callable[..., list[list[FacePrediction]]],
    images: Sequence[Any],
    *,
    boxes: ArrayLike | None = None,
    fraction: float = 0.8,
) -> PseudoLabels:
    """Let a search or a network label images, and keep the labels that it expects to be the best.

    A network learns from few annotated images what their number allows, and a search of the image makes other mistakes
    than it. With a search that was trained on the annotated images as labeller, the network that is then trained on
    both (``extra=`` of `asmnet.train`) can come nearer than either.

    Parameters
    ----------
    labeller : ASMFitter, PartsFitter or Predictor
        What looks at the images, many at a time.
    images : sequence of array or path
        Each shows one object.
    boxes : array_like of shape (n, 4), optional
        Where the objects are, x0, y0, x1, y1, by the convention of the labeller; without them it finds them itself.
    fraction : float
        How many of the answers are kept, at least one.

    Returns
    -------
    PseudoLabels
        Empty when the labeller answered for no image.

    Raises
    ------
    ValueError
        For a fraction outside (0, 1], where images and boxes differ in number, and for a labeller that does not know
        how far off its answers are.
    TypeError
        For a labeller of another kind.

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
    if not isinstance(labeller, ASMFitter | PartsFitter) and (not callable(labeller) or isinstance(labeller, type)):
        raise TypeError(f"labeller: got {labeller!r}; expected an ASMFitter, a PartsFitter or a Predictor.")
    check_numbers(fraction=fraction, above=True, most=1)
    given = None if boxes is None else np.asarray(boxes, dtype=float)
    if given is not None and given.shape != (len(images), 4):
        raise ValueError(f"boxes: got shape {given.shape}; expected ({len(images)}, 4), one for each image.")
    rows, landmarks, expected, unsure = [], [], [], 0
    for start in range(0, len(images), _TOGETHER):
        chunk = slice(start, start + _TOGETHER)
        for row, found in enumerate(_look(labeller, images[chunk], None if given is None else given[chunk]), start):
            sure = [(error, shape) for error, shape in found if np.isfinite(error)]
            unsure += bool(found) and not sure
            if sure:
                error, shape = min(sure, key=lambda pair: pair[0])
                rows.append(row)
                landmarks.append(shape)
                expected.append(error / np.linalg.norm(np.ptp(shape, axis=0)))
    if not rows and unsure:
        raise ValueError(
            f"labeller: got one that does not know how far off it is in any of {unsure} images; expected a search, or "
            "a network with a shape model and an uncertainty."
        )
    if not rows:
        return PseudoLabels(np.empty(0, int), np.empty((0, 0, 2)), np.empty(0))
    surest = np.sort(np.argsort(expected, kind="stable")[: max(1, round(fraction * len(expected)))])
    return PseudoLabels(np.array(rows)[surest], np.array(landmarks)[surest], np.array(expected)[surest])


def _look(labeller: Any, images: Sequence[Any], boxes: np.ndarray | None) -> list[list[tuple[float, np.ndarray]]]:
    """Return the whole shapes that are found in each image, with their expected errors."""
    if isinstance(labeller, ASMFitter | PartsFitter):
        answers: Any = labeller.predict(list(images), boxes=boxes)
        each = [[(one.expected_error, one.shape)] for one in answers]
    else:
        faces = labeller(list(images), boxes=None if boxes is None else list(boxes[:, None]))
        shapes = [[(one, one.landmarks if one.fitted is None else one.fitted) for one in own] for own in faces]
        each = [[(float(one.expected_error), shape) for one, shape in own] for own in shapes]
    return [[(error, shape) for error, shape in own if np.isfinite(shape).all()] for own in each]


def own_labeller(samples: LandmarkSamples) -> ASMFitter:
    """Train a search on annotated images, to label others."""
    # 98 % of the variance, as in the face model that ships.
    fitter = ASMFitter(AlignedASM(ASM(0.98), scheme=samples.scheme), evidence=Patches(), random_state=0, n_jobs=-1)
    groups = samples.groups if len(set(samples.groups)) < len(samples) else None
    return fitter.fit(samples, groups=groups)


def load_labeller(name: str, samples: LandmarkSamples) -> Any:
    """Load a search or a network, by name or file, that answers with the landmarks of annotated images."""
    labeller: Any
    if name in pretrained_names() or name.endswith(".safetensors"):
        labeller = Predictor.from_pretrained(name)
        n_landmarks, scheme, names = count_landmarks(labeller.model), labeller.model.scheme, None
    else:
        labeller = load_model(name)
        if not isinstance(labeller, ASMFitter | PartsFitter):
            raise ValueError(f"{name}: got a {type(labeller).__name__}; expected a search or a network.")
        n_landmarks, scheme, names = labeller.n_landmarks_, labeller.asm_.scheme_, labeller.asm_.landmark_names_
    for got, wanted in (
        (n_landmarks, len(samples[0].landmarks)),
        (scheme and scheme.name, samples.scheme and samples.scheme.name),
        (names and tuple(names), samples.labels and tuple(samples.labels)),
    ):
        if got and wanted and got != wanted:
            raise ValueError(f"labeller: {name} answers with the landmarks {got}; expected {wanted}, as are annotated.")
    return labeller


def labelled(
    labeller: Any, images: Sequence[Path], boxes: ArrayLike | None, fraction: float
) -> tuple[list[LandmarkSample], float]:
    """Return the surest answers for image files as samples, and the largest expected error among them."""
    found = pseudo_labels(labeller, images, boxes=boxes, fraction=fraction)
    samples = []
    for row, shape in zip(found.rows, found.landmarks, strict=True):
        with contextlib.suppress(ValueError):  # an object of which half lies outside of its image
            check_inside(shape, image_size(images[row]))
            samples.append(LandmarkSample(images[row], shape))
    return samples, float(found.expected_error.max(initial=0))
