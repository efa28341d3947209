"""What a predictor says of one face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from asmnet._options import with_old_names
from shape_models._brief import brief
from shape_models._scatter import tail_radius


def _rounded(points: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(v) else round(v, 2) for v in point] for point in points.tolist()]


@with_old_names
@brief
@dataclass(frozen=True, eq=False)
class FacePrediction:
    """Landmarks, fitted landmarks, pose and expected error of one face: what a `Predictor` returns.

    Attributes
    ----------
    box : ndarray of shape (4,)
        x0, y0, x1, y1 that the face was cut out by, in pixels, before it was turned.
    landmarks : ndarray of shape (n_landmarks, 2)
        (x, y) in pixels of the image, the centre of the first pixel at (0, 0), as the network gives them; NaN
        where a heat map is flat.
    fitted : ndarray of shape (n_landmarks, 2) or None
        Joined with the shape model, each landmark as far as it is uncertain: what is clear stays, what is not follows
        from the rest. For networks that draw no heat maps, a search of the image that starts at `landmarks` is joined
        too. None without a shape model for the scheme.
    pose : ndarray of shape (3,) or None
        Yaw, pitch, roll in degrees; None for networks without a pose head.
    pose_convention : str
        Name of the convention of `pose` in `pose.conventions`.
    plausibility : float
        Fraction of faces of the shape model that are less likely than this one, from 0 to 1; NaN without a shape model.
    clipped_modes : tuple of int
        Modes of the shape model beyond its limit.
    depth : ndarray of shape (n_landmarks,) or None
        z of the landmarks in pixels of the image, away from the viewer, 0 at the mean of the face; None for
        networks without a depth head.
    turn : float
        Degrees by which `box` was turned about its centre to cut the face out upright, from x (right) towards y (down).
    covariance : ndarray of shape (n_landmarks, 2, 2) or None
        Of the true landmarks about `fitted`, squared pixels, as it was measured on training faces, see
        `asmnet.uncertainty`; None where nothing is known of the errors of the network.
    expected_error : float
        Expected mean distance of `fitted` from the true landmarks, pixels; NaN likewise.
    degrees_of_freedom : float
        Of Student's t, which the true landmarks follow about `fitted`; infinite for a Gaussian. See `radius`.
    status : str
        ``"ok"``; ``"error"`` where the face could not be looked at, and its landmarks are NaN; or what
        `shape_models.fit_shape` says of `landmarks` that cannot be fitted, as ``"unlike the model"``: then `fitted` is
        NaN. `message` says why.
    message : str
        Empty for ``"ok"``.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import FacePrediction
    >>> face = FacePrediction(np.zeros(4), np.zeros((68, 2)), None, None)
    >>> face.clipped_modes
    ()
    """

    box: np.ndarray
    landmarks: np.ndarray
    fitted: np.ndarray | None
    pose: np.ndarray | None
    pose_convention: str = "300W-LP"
    plausibility: float = float("nan")
    clipped_modes: tuple[int, ...] = ()
    depth: np.ndarray | None = None
    turn: float = 0.0
    covariance: np.ndarray | None = None
    expected_error: float = float("nan")
    degrees_of_freedom: float = float("inf")
    status: str = "ok"
    message: str = ""

    def radius(self, level: float = 0.95) -> float:
        """Return how far from `fitted`, in units of `covariance`, a true landmark lies with a probability at most.

        The ellipse of a landmark at x with the covariance Σ is {z : (z - x)ᵀ Σ⁻¹ (z - x) ≤ r²}. Errors have longer
        tails than Gaussians, for which r is 2.45 at 95 %: those learned follow Student's t with η =
        `degrees_of_freedom`, r² = 2 (η - 2) / η F⁻¹(level; 2, η) with F the law of Fisher.

        Parameters
        ----------
        level : float, default=0.95
            Probability, between 0 and 1.

        Returns
        -------
        float

        Examples
        --------
        >>> import numpy as np
        >>> from asmnet import FacePrediction
        >>> round(FacePrediction(np.zeros(4), np.zeros((68, 2)), None, None).radius(0.95), 2)
        2.45
        """
        return tail_radius(level, self.degrees_of_freedom)

    @property
    def yaw(self) -> float:
        """Degrees."""
        return self._angle(0)

    @property
    def pitch(self) -> float:
        """Degrees."""
        return self._angle(1)

    @property
    def roll(self) -> float:
        """Degrees."""
        return self._angle(2)

    def _angle(self, index: int) -> float:
        if self.pose is None:
            raise ValueError("the network has no pose head. Try pose.estimate_head_pose on the landmarks.")
        return float(self.pose[index])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them; pixels rounded to hundredths, None for what was not found.

        Returns
        -------
        dict
            By the names of the fields.
        """
        return {
            "status": self.status,
            "message": self.message,
            "box": _rounded(self.box[None])[0],
            "turn": round(self.turn, 2),
            "landmarks": _rounded(self.landmarks),
            "fitted": None if self.fitted is None else _rounded(self.fitted),
            "covariance": None if self.covariance is None else [_rounded(one) for one in self.covariance],
            "expected_error": None if np.isnan(self.expected_error) else round(self.expected_error, 2),
            "degrees_of_freedom": None if np.isinf(self.degrees_of_freedom) else round(self.degrees_of_freedom, 2),
            "pose": None
            if self.pose is None
            else {
                "yaw": round(self.yaw, 2),
                "pitch": round(self.pitch, 2),
                "roll": round(self.roll, 2),
                "unit": "degrees",
                "convention": self.pose_convention,
            },
            "plausibility": None if np.isnan(self.plausibility) else round(self.plausibility, 6),
            "clipped_modes": list(self.clipped_modes),
            "depth": None if self.depth is None else np.round(self.depth, 2).tolist(),
        }
