"""Crops in which some benchmarks measure: about the box of the landmarks, or aligned to a mean face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shape_models import estimate_similarity
from shape_models._array import as_shapes


@dataclass(frozen=True)
class LandmarkBoxCrop:
    """The frame of ASMNet and KD-Loss: the box of the true landmarks, widened, stretched to a square.

    Both axes have their own scale, so that errors in this frame differ from errors in the image.

    Parameters
    ----------
    size : float
        Side of the square in pixels.
    margin : float
        Added on every side, in pixels of the image.
    pad : float
        Added on every side, as a fraction of the box.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation.protocols import LandmarkBoxCrop
    >>> truth = np.array([[[10.0, 10.0], [60.0, 110.0]]])
    >>> to_crop, _ = LandmarkBoxCrop(size=200, margin=0).maps(truth)
    >>> to_crop(truth)[0].tolist()
    [[0.0, 0.0], [200.0, 200.0]]
    """

    size: float = 224.0
    margin: float = 10.0
    pad: float = 0.0

    def maps(self, target: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """Return the map from the image into the frame, and the one back, for faces (n, n_landmarks, 2).

        Parameters
        ----------
        target : ndarray of shape (n_faces, n_landmarks, 2)
            True landmarks.

        Returns
        -------
        (callable, callable)
            Each maps points of all faces at once.
        """
        target = as_shapes(target, name="target", n_dims=2, min_samples=0, allow_nan=True)
        low, high = np.fmin.reduce(target, axis=1), np.fmax.reduce(target, axis=1)
        wide = self.margin + self.pad * (high - low)
        # Cut at the top and the left of the image and nowhere else, as their code does it.
        corner = np.maximum(low - wide, 0.0)[:, None]
        scale = self.size / (high + wide - corner[:, 0])[:, None]
        return (lambda points: (points - corner) * scale), (lambda points: points / scale + corner)

    def __str__(self) -> str:
        wide = " and ".join(
            text for value, text in ((self.margin, f"{self.margin:g} px"), (self.pad, f"{self.pad:.0%}")) if value
        )
        return (
            f"box of the true landmarks{' widened by ' + wide if wide else ''}, stretched to {self.size:g} x "
            f"{self.size:g}"
        )


@dataclass(frozen=True)
class AlignedCrop:
    """The frame of sdu-face-alignment: turned upright by the true landmarks, then a square about their box.

    A similarity takes the eye centres, the nose tip and the corners of the mouth of the true face to the five points of
    ArcFace (112 x 112), doubled and moved by 80 pixels into 384 x 384. The box of the turned landmarks, its top raised
    by `extend`, is made square, enlarged by `scale` and resized.

    Parameters
    ----------
    extend : float
        Pixels above the box in the frame of 384 pixels; the published script has one number for each test set.
    size : float
        Side of the crop in pixels.
    scale : float
        Enlargement of the square.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation.protocols import AlignedCrop
    >>> from shape_models import make_faces
    >>> truth = make_faces(2, rng=0)
    >>> to_crop, back = AlignedCrop(extend=36).maps(truth)
    >>> bool(np.allclose(back(to_crop(truth)), truth))
    True
    """

    extend: float
    size: float = 128.0
    scale: float = 1.2

    def maps(self, target: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """Return the map from the image into the frame, and the one back, for faces (n, 68, 2).

        Parameters
        ----------
        target : ndarray of shape (n_faces, 68, 2)
            True landmarks of the 68-point scheme.

        Returns
        -------
        (callable, callable)
            Each maps points of all faces at once.
        """
        target = as_shapes(target, name="target", n_dims=2, n_landmarks=68, min_samples=0, allow_nan=True)
        # Of iBUG's 68: the middles of the corners of each eye, the tip of the nose, the corners of the mouth.
        five = np.stack(
            [target[:, [36, 39]].mean(axis=1), target[:, [42, 45]].mean(axis=1), *(target[:, i] for i in (30, 48, 54))],
            axis=1,
        )
        place = 2 * ARCFACE + 80.0  # as their code lays it out: twice the size, 80 pixels from the corner
        seen = np.isfinite(five).all(axis=-1)
        low, high = (end.reduce(np.where(seen[..., None], five, np.nan), axis=1) for end in (np.fmin, np.fmax))
        lost = ~((high - low).max(axis=1) > 0)  # fewer than two places: no frame, and so no error
        upright = estimate_similarity(np.where(lost[:, None, None], place, five), place)
        target = np.where(lost[:, None, None], np.nan, target)
        turned = upright(target)
        low, high = np.fmin.reduce(turned, axis=1), np.fmax.reduce(turned, axis=1)
        low[:, 1] -= self.extend
        side = self.scale * (high - low).max(axis=1)[:, None, None]
        corner = ((low + high) / 2)[:, None] - side / 2
        back = upright.inverse
        return (
            lambda points: (upright(points) - corner) * self.size / side,
            lambda points: back(points * side / self.size + corner),
        )

    def __str__(self) -> str:
        return (
            f"turned upright by five true landmarks, square about their box raised by {self.extend:g} px, "
            f"x {self.scale:g}, {self.size:g} x {self.size:g}"
        )


# five points of the ArcFace alignment in 112 x 112 (right eye, left eye of the image, nose, corners of the mouth)
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
