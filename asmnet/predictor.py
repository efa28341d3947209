"""From an image to landmarks, pose and plausibility in one call."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from asmnet._forward import cut_crop, predict_crops
from asmnet._pose_labels import DEGREES, turned_angles
from asmnet.checkpoints import PretrainedModel, load_pretrained
from asmnet.layers import fuse_norms
from asmnet.uncertainty import Findings, Uncertainty, mean_distance, planar_turn
from shape_models.boxes import check_boxes
from shape_models.images import read_image

__all__ = ["FacePrediction", "Predictor", "as_rgb"]

# When the first crop was right, by what 98 of 100 faces of the validation part of 300-W keep to, cut out by their true
# boxes: the box of the answer differs by at most this fraction of its larger side, the face is turned by at most this
# angle, and the mean squared coefficient of the shape model in the crop is at most this.
BOX_TOLERANCE, TURN_TOLERANCE, SHAPE_TOLERANCE = 0.11, np.deg2rad(14.0), 2.0
# Two answers for one face, from crops of which the second was turned upright and centred by the first, differ by a
# fraction of its size: 0.013 or less for 98 in 100 upright faces, 0.04 or more for 95 in 100 that lie or stand on
# their heads.
AGREEMENT = 0.03
# Views to average over: shifts in sides of the box, and scales
VIEWS = (
    (0.0, 0.0, 1.0), (0.0, 0.0, 0.95), (0.0, 0.0, 1.05), (0.03, 0.0, 1.0), (-0.03, 0.0, 1.0), (0.0, 0.03, 1.0),
    (0.0, -0.03, 1.0),
)  # fmt: skip


def as_rgb(image: Any, *, maximum: float | None = None) -> np.ndarray:
    """Check an image and return it as (height, width, 3) uint8.

    Parameters
    ----------
    image : array_like, PIL image or path
        Grey, RGB, or RGBA, which is laid on black; uint8, uint16, bool, or floats from 0 to 1. Files are turned
        upright by their EXIF tag: see `shape_models.images.read_image`.
    maximum : float, optional
        The value that stands for white.

    Returns
    -------
    ndarray of uint8 of shape (height, width, 3)

    Raises
    ------
    ValueError
        For other shapes, ranges and types, and for images smaller than 2 x 2.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.predictor import as_rgb
    >>> as_rgb(np.full((4, 6), 0.5)).shape, as_rgb(np.full((4, 6), 0.5))[0, 0]
    ((4, 6, 3), array([128, 128, 128], dtype=uint8))
    """
    array = read_image(image, maximum=maximum)
    if min(array.shape[:2]) < 2:
        raise ValueError(f"image: got {array.shape[1]} x {array.shape[0]} pixels; expected at least 2 x 2.")
    return np.ascontiguousarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))


class _Crops(NamedTuple):
    """Boxes that are turned about their centres, in pixels and radians: where faces are cut out."""

    centres: np.ndarray
    sides: np.ndarray
    turns: np.ndarray

    @classmethod
    def of_boxes(cls, boxes: np.ndarray) -> _Crops:
        return cls((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], np.zeros(len(boxes)))

    @property
    def boxes(self) -> np.ndarray:
        """Before they were turned."""
        return np.concatenate([self.centres - self.sides / 2, self.centres + self.sides / 2], 1)

    @property
    def rotations(self) -> np.ndarray:
        """(n, 2, 2), from the frame of the crop to that of the image."""
        cos, sin = np.cos(self.turns), np.sin(self.turns)
        return np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)

    def rows(self, which: np.ndarray) -> _Crops:
        return _Crops(*(part[which] for part in self))

    def viewed(self, shift_x: float, shift_y: float, scale: float) -> _Crops:
        """Shift by fractions of the larger side, along the turned axes, and scale."""
        shift = self.sides.max(1, keepdims=True) * np.array([shift_x, shift_y])
        centres = self.centres + (self.rotations @ shift[..., None])[..., 0]
        return _Crops(centres, scale * self.sides, self.turns)

    def turned(self, angle: float) -> _Crops:
        """Turn by a multiple of a right angle; a face that lies is as wide as its box is high."""
        across = round(angle / (np.pi / 2)) % 2 == 1
        return _Crops(self.centres, self.sides[:, ::-1] if across else self.sides, self.turns + angle)

    def around(self, points: np.ndarray, turns: np.ndarray) -> _Crops:
        """Return the tight boxes of landmarks, turned; where none was found, these."""
        rotations = self._replace(turns=turns).rotations
        upright = points @ rotations
        low, high = np.fmin.reduce(upright, axis=1), np.fmax.reduce(upright, axis=1)
        centres = (rotations @ ((low + high) / 2)[..., None])[..., 0]
        found = np.isfinite(low).all(1) & (high > low).all(1)
        return _Crops(
            np.where(found[:, None], centres, self.centres),
            np.where(found[:, None], high - low, self.sides),
            np.where(found, turns, self.turns),
        )


def _rounded(points: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(v) else round(v, 2) for v in point] for point in points.tolist()]


class _Answer(NamedTuple):
    """What the network says of some crops, in pixels and degrees."""

    landmarks: np.ndarray
    pose: np.ndarray | None
    depth: np.ndarray | None
    spread: np.ndarray | None  # of heat maps about their maxima, and the heights of these
    height: np.ndarray | None

    def rows(self, which: np.ndarray) -> _Answer:
        return _Answer(*(None if part is None else part[which] for part in self))  # type: ignore[arg-type]


_Rows = TypeVar("_Rows", _Crops, _Answer)


def _put(into: _Rows, where: np.ndarray, values: _Rows, which: np.ndarray) -> _Rows:
    """Return rows `which` of `values` in the rows `where` of a copy of `into`."""
    parts: list[Any] = []
    for old, new in zip(into, values, strict=True):
        part = None if old is None else old.copy()
        if part is not None and new is not None:
            part[where] = new[which]
        parts.append(part)
    return type(into)(*parts)


def _mean(views: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Average what every view has, or no view has."""
    known = [view for view in views if view is not None]
    return np.mean(known, axis=0) if known else None


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """One face in an image.

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

    @property
    def projected(self) -> np.ndarray | None:
        """The old name of `fitted`."""
        warnings.warn("FacePrediction.projected is now called fitted.", DeprecationWarning, stacklevel=2)
        return self.fitted

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
            "box": np.round(self.box, 2).tolist(),
            "turn": round(self.turn, 2),
            "landmarks": _rounded(self.landmarks),
            "fitted": None if self.fitted is None else _rounded(self.fitted),
            "covariance": None if self.covariance is None else [_rounded(one) for one in self.covariance],
            "expected_error": None if np.isnan(self.expected_error) else round(self.expected_error, 2),
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


class Predictor:
    """A trained network with its preparation and the shape model, ready for images.

    Parameters
    ----------
    model : PretrainedModel
        See `load_pretrained`.
    shape_model : AlignedASM, optional
        For the fitted landmarks and the plausibility; by default the one that ships for the scheme, if any.
    uncertainty : Uncertainty, optional
        What the landmarks are worth; by default what the model says of itself. Without either, the maxima of heat maps
        are fitted as by `shape_models.search.fit_heatmaps`, and other landmarks are projected.
    search : ASMFitter, optional
        What `uncertainty` was learned with, for networks that draw no heat maps; by default ``"search68"``.
    device : str
        Where the network runs.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import ASMNet, Predictor, Preprocessing
    >>> from asmnet.checkpoints import PretrainedModel
    >>> model = PretrainedModel(ASMNet(5).eval(), "tiny", "asmnet", {}, None, Preprocessing(size=32), None, {})
    >>> faces = Predictor(model)(np.zeros((40, 60), np.uint8), [[10, 10, 30, 30], [35, 12, 55, 30]])
    >>> len(faces), faces[0].landmarks.shape
    (2, (5, 2))
    """

    def __init__(
        self,
        model: PretrainedModel,
        *,
        shape_model: Any = None,
        uncertainty: Uncertainty | None = None,
        search: Any = None,
        device: str = "cpu",
    ):
        self.model = model
        self.device = torch.device(device)
        self.network = fuse_norms(model.network).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if shape_model is None and model.scheme is not None and model.scheme.name == "ibug68":
            from shape_models import load_model

            shape_model = load_model("face68")
        self.shape_model = shape_model
        if uncertainty is None and "uncertainty" in model.header:
            uncertainty = Uncertainty.from_header(model.header["uncertainty"])
        self.uncertainty = uncertainty
        self._search = search

    @functools.cached_property
    def search(self) -> Any:
        """The search of the image that the landmarks are joined with, where one is."""
        if self._search is None:
            from shape_models import load_model

            return load_model("search68")
        return self._search

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu") -> Predictor:
        """Load a model that ships with the library, by name, or a file.

        Parameters
        ----------
        name_or_path : str or path
            ``"asmnet-68"``, ``"hourglass-68"``, or a file written by `save_pretrained`.
        device : str
            ``"cpu"``, ``"cuda"``, ...
        """
        return cls(load_pretrained(name_or_path, device=device), device=device)

    @property
    def pose_convention(self) -> str:
        """Name of the convention of the angles."""
        return str(self.model.header.get("pose_convention", "300W-LP"))

    def __call__(
        self,
        image: Any,
        boxes: Any = None,
        *,
        flip_average: bool = False,
        n_passes: int | None = None,
        n_views: int = 1,
        batch_size: int = 32,
    ) -> Any:
        """Find the landmarks of the faces in one image, or in several.

        Parameters
        ----------
        image : array_like, PIL image, path, or a list of them
            See `as_rgb`. A list gives a list of lists.
        boxes : array_like of shape (k, 4), or a list of those, optional
            x0, y0, x1, y1 in pixels. The convention of the shipped models is the tight box of the landmarks: brows to
            chin; `shape_models.boxes.convert` brings those of others to it. Without boxes, and in each image of a list
            whose entry is None, faces are searched for by `shape_models.search.find_faces`.
        flip_average : bool
            Average with the prediction for the mirror image, at twice the cost; needs a scheme.
        n_passes : int, optional
            How often the network looks at each face. In each further pass the face is cut out by the landmarks of the
            pass before, turned upright. By default every face is looked at twice: the first answer stands where the
            second agrees and the box was that of its landmarks, the second where it was not or the face was not
            upright; where the two disagree, the face is tried upright, lying on either side and upside down, and the
            answer stands that changes least when the face is cut out anew. 1 is twice as fast, for upright faces in
            tight boxes.
        n_views : int
            From 1 to 7: average over that many crops, a little shifted and scaled, at as many times the cost.
        batch_size : int
            Faces at a time.

        Returns
        -------
        list of FacePrediction, or a list of those
            In the order of the boxes; empty where no face was found. One list for each image of a list.

        Raises
        ------
        ValueError
            For images and boxes that make no sense, see `as_rgb` and `shape_models.boxes.check_boxes`; a box may reach
            beyond the image, but not lie outside of it.
        """
        for name, value in (("n_passes", n_passes), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}; expected at least 1.")
        if flip_average and (self.model.scheme is None or self.model.scheme.mirror is None):
            raise ValueError("flip_average needs a landmark scheme with a mirror map; the model names none.")
        if not 1 <= n_views <= len(VIEWS):
            raise ValueError(f"n_views: got {n_views}; expected 1 to {len(VIEWS)}.")
        many = isinstance(image, list | tuple)
        images = [as_rgb(one) for one in (image if many else [image])]
        given: Sequence[Any] = boxes if many and boxes is not None else [boxes] * len(images)
        if len(given) != len(images):
            raise ValueError(f"boxes: got {len(given)} lists for {len(images)} images; expected one for each.")
        found = [
            self.detect(one) if own is None else check_boxes(own, one.shape[1::-1])
            for own, one in zip(given, images, strict=True)
        ]
        results: list[list[FacePrediction]] = [[] for _ in images]
        owner = np.repeat(np.arange(len(images)), [len(one) for one in found])
        if len(owner):
            look = functools.partial(
                self._look, images, flip=flip_average, views=VIEWS[:n_views], batch_size=batch_size
            )
            crops, answer = self._settled(look, owner, _Crops.of_boxes(np.concatenate(found)), n_passes)
            for i, face in zip(owner.tolist(), self._records(images, owner, crops, answer), strict=True):
                results[i].append(face)
        return results if many else results[0]

    def _settled(
        self, look: Callable[[np.ndarray, _Crops], _Answer], owner: np.ndarray, crops: _Crops, n_passes: int | None
    ) -> tuple[_Crops, _Answer]:
        """Look at faces until the crop is the one that their landmarks ask for."""
        answer = look(owner, crops)
        if n_passes is not None:
            for _ in range(n_passes - 1):
                crops = crops.around(answer.landmarks, self._turns(answer.landmarks, crops))
                answer = look(owner, crops)
            return crops, answer
        fits = self._fits(crops, answer)
        # A face that lies may fit by chance: only a second look, cut out anew, tells.
        rows = np.flatnonzero(~fits | (self._upright is not None))
        if not len(rows):
            return crops, answer
        used, again, apart = self._again(look, owner[rows], crops.rows(rows), answer.rows(rows), 1)
        doubtful = rows[apart > AGREEMENT]
        if len(doubtful) and self._upright is not None:
            tried = []
            for k in range(4):
                start = crops.rows(doubtful).turned(k * np.pi / 2)
                tried.append(self._again(look, owner[doubtful], start, look(owner[doubtful], start), 2))
            # On 100 faces of 300-W val, plain, covered, turned by 60, 90 and 180 degrees and in boxes off by 20 %, how
            # far the last two answers are apart told which orientation is right, and the shape did not. The given
            # orientation stands unless another one is twice as stable.
            scores = np.array([apart for _, _, apart in tried]) * np.array([0.5, 1, 1, 1])[:, None]
            best = np.argmin(np.nan_to_num(scores, nan=np.inf), axis=0)
            for k, (own, found, _) in enumerate(tried):
                here, there = np.flatnonzero(best == k), np.searchsorted(rows, doubtful[best == k])
                used, again = _put(used, there, own, here), _put(again, there, found, here)
        better = np.flatnonzero(
            ~fits[rows] | (apart > AGREEMENT)
        )  # where both agree the box was right: the first stands
        return _put(crops, rows[better], used, better), _put(answer, rows[better], again, better)

    def _again(
        self, look: Callable[[np.ndarray, _Crops], _Answer], owner: np.ndarray, crops: _Crops, answer: _Answer, n: int
    ) -> tuple[_Crops, _Answer, np.ndarray]:
        """Look `n` times more; also say by what fraction of the face the last answer differs from the one before."""
        for _ in range(n):
            before = answer.landmarks
            crops = crops.around(before, self._turns(before, crops))
            answer = look(owner, crops)
        distance = np.linalg.norm(answer.landmarks - before, axis=2)
        known = np.isfinite(distance)
        mean = np.where(known, distance, 0).sum(1) / np.maximum(known.sum(1), 1)
        return crops, answer, np.where(known.any(1), mean, np.inf) / crops.sides.max(1)

    def _fits(self, crops: _Crops, answer: _Answer) -> np.ndarray:
        """Whether the crops are those that the answers ask for."""
        asked = crops.around(answer.landmarks, crops.turns)
        off = np.abs(asked.boxes - crops.boxes).max(1) / asked.sides.max(1)
        fits = (off <= BOX_TOLERANCE) & (np.abs(self._turns(answer.landmarks, crops) - crops.turns) <= TURN_TOLERANCE)
        return fits & ~(self._strangeness(crops, answer) > SHAPE_TOLERANCE)

    def _strangeness(self, crops: _Crops, answer: _Answer) -> np.ndarray:
        """Return the mean squared coefficient of the shape model of the crops, 1 for usual faces; 0 without one."""
        basis, out = self.model.basis, np.zeros(len(crops.turns))
        if basis is not None:
            units = ((answer.landmarks - crops.centres[:, None]) @ crops.rotations) / self._extents(crops)[:, None]
            whole = np.isfinite(units).all((1, 2))
            out[~whole] = np.inf
            if whole.any():
                b = np.asarray(basis.encode(units[whole]))
                out[whole] = (b**2 / np.asarray(basis.variances)).mean(1)
        return out

    @functools.cached_property
    def _upright(self) -> np.ndarray | None:
        """The mean shape, upright, from which faces are seen to be turned; None where none is known."""
        if self.model.basis is not None:
            return np.asarray(self.model.basis.mean, dtype=np.float64)
        return None if self.shape_model is None else np.asarray(self.shape_model.asm_.basis_.mean, dtype=np.float64)

    def _turns(self, points: np.ndarray, crops: _Crops) -> np.ndarray:
        """Angles of the similarities that bring the upright mean shape to landmarks; those of the crops without one."""
        if self._upright is None:
            return crops.turns
        factor = planar_turn(self._upright, points)
        return np.where(np.isfinite(factor), np.angle(factor), crops.turns)

    def _extents(self, crops: _Crops) -> np.ndarray:
        """Sides of the crops in pixels."""
        form = self.model.preprocessing
        sides = np.repeat(crops.sides.max(1, keepdims=True), 2, axis=1) if form.square else crops.sides
        return sides * form.margin

    def detect(self, image: Any, detector: Any = "scikit-image") -> np.ndarray:
        """Find faces and return their boxes (k, 4) by the convention of the network, one for each face.

        Parameters
        ----------
        image : array_like, PIL image or path
            Upright, RGB or grey.
        detector : str or callable
            As for `shape_models.search.find_faces`.

        Returns
        -------
        ndarray of shape (k, 4)
        """
        from importlib import import_module

        faces = import_module("shape_models.search").find_faces(as_rgb(image), detector)
        return np.asarray(faces.boxes, dtype=np.float64).reshape(-1, 4)

    def _look(
        self, images: list[np.ndarray], owner: np.ndarray, crops: _Crops, *, flip: bool,
        views: Sequence[tuple[float, float, float]], batch_size: int,
    ) -> _Answer:  # fmt: skip
        """Average the answers for shifted and scaled crops; what the heat maps say is that of the first."""
        seen = [self._run(images, owner, crops.viewed(*view), flip, batch_size) for view in views]
        points, pose, depth = (_mean([view[k] for view in seen]) for k in range(3))
        assert points is not None
        return seen[0]._replace(landmarks=points, pose=pose, depth=depth)

    @torch.inference_mode()
    def _run(self, images: list[np.ndarray], owner: np.ndarray, crops: _Crops, flip: bool, batch_size: int) -> _Answer:
        form = self.model.preprocessing
        mirror = self.model.scheme.mirror if flip and self.model.scheme is not None else None
        extents = self._extents(crops)
        axes = crops.rotations * extents[:, None]  # crop units to pixels
        parts: dict[str, list[np.ndarray]] = {name: [] for name in _Answer._fields}
        for start in range(0, len(owner), batch_size):
            rows = np.arange(start, min(start + batch_size, len(owner)))
            cut = np.stack([
                cut_crop(images[owner[r]], crops.centres[r], extents[r], form.size, float(crops.turns[r])) for r in rows
            ])  # fmt: skip
            pixels = torch.from_numpy(cut).to(self.device).permute(0, 3, 1, 2).float() / 255
            found = predict_crops(self.network, form.normalise(pixels), mirror)
            units = found.landmarks.double().cpu().numpy()
            parts["landmarks"].append(units @ np.swapaxes(axes[rows], 1, 2) + crops.centres[rows, None])
            if found.pose is not None:
                angles = DEGREES * found.pose.double().cpu().numpy()
                upright = (crops.turns[rows] == 0)[:, None]
                turned = turned_angles(angles, crops.turns[rows], self.pose_convention)
                parts["pose"].append(np.where(upright, angles, turned))
            if found.depth is not None:
                parts["depth"].append(found.depth.double().cpu().numpy() * np.sqrt(extents[rows].prod(1))[:, None])
            if found.heatmaps and self.shape_model is not None:
                from shape_models.search import heatmap_peaks

                maps = found.heatmaps[-1].float().cpu().numpy()
                # Pixel u of the map lies at (u + 1/2) / width - 1/2 in units of the crop.
                step = 1 / np.array(maps.shape[:1:-1])
                corner = (axes[rows] @ (step / 2 - 0.5)) + crops.centres[rows]
                _, spread, height = heatmap_peaks(maps, np.concatenate([axes[rows] * step, corner[..., None]], axis=2))
                parts["spread"].append(spread)
                parts["height"].append(height)
        return _Answer(*(np.concatenate(part) if part else None for part in parts.values()))  # type: ignore[arg-type]

    def _findings(self, images: list[np.ndarray], owner: np.ndarray, answer: _Answer) -> Findings:
        """Return what is joined with the shape model; the image is searched where the uncertainty was learned so."""
        points = answer.landmarks
        if answer.height is not None or self.uncertainty is None or self.uncertainty.search is None:
            return Findings(points, answer.spread, answer.height)
        return self._searched(images, owner, points)

    def _searched(self, images: list[np.ndarray], owner: np.ndarray, points: np.ndarray) -> Findings:
        places, confidence = np.full(points.shape, np.nan), np.zeros(points.shape[:2])
        for i, results in enumerate(self.search.predict([images[k] for k in owner], initial=points)):
            if results.status != "error":
                places[i], confidence[i] = results.shape, results.confidence
        return Findings(points, searched=places, confidence=confidence)

    def _findings_in(self, image: np.ndarray, box: np.ndarray) -> Findings:
        """Return what `learn_uncertainty` learns from: one look by a true box, and a search where no map is drawn."""
        owner = np.zeros(1, dtype=int)
        answer = self._look([image], owner, _Crops.of_boxes(box[None]), flip=False, views=VIEWS[:1], batch_size=1)
        if answer.height is not None:
            return Findings(answer.landmarks, answer.spread, answer.height)
        return self._searched([image], owner, answer.landmarks)

    def _records(
        self, images: list[np.ndarray], owner: np.ndarray, crops: _Crops, answer: _Answer
    ) -> list[FacePrediction]:
        points, pose, depth = answer.landmarks, answer.pose, answer.depth
        n = len(points)
        fitted = covariance = None
        error, plausibility = np.full(n, np.nan), np.full(n, np.nan)
        clipped: list[tuple[int, ...]] = [()] * n
        if self.shape_model is not None:
            if self.uncertainty is not None:
                fit, covariance, error = self.uncertainty.join(self.shape_model, self._findings(images, owner, answer))
                fitted = fit.completed
            elif answer.spread is not None and answer.height is not None:
                from shape_models.search.heatmaps import fit_peaks

                fit = fit_peaks(self.shape_model, points, answer.spread, answer.height)
                fitted, covariance = fit.completed, fit.covariance
                error = mean_distance(covariance)
            else:
                fitted = np.asarray(self.shape_model.project(points))
            whole = np.where(np.isfinite(points), points, fitted)
            known = np.flatnonzero(np.isfinite(whole).all((1, 2)))
            if len(known):
                report = self.shape_model.report(whole[known])
                plausibility[known] = report.plausibility
                for i, modes in zip(known, np.asarray(report.clipped), strict=True):
                    clipped[i] = tuple(np.flatnonzero(modes).tolist())
        return [
            FacePrediction(
                crops.boxes[i],
                points[i],
                None if fitted is None else fitted[i],
                None if pose is None else pose[i],
                self.pose_convention,
                float(plausibility[i]),
                clipped[i],
                None if depth is None else depth[i],
                float(np.rad2deg(np.remainder(crops.turns[i] + np.pi, 2 * np.pi) - np.pi)),
                None if covariance is None else covariance[i],
                float(error[i]),
            )
            for i in range(n)
        ]
