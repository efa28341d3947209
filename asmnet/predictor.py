"""From a photograph to landmarks, pose and plausibility in one call."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from asmnet.checkpoints import PretrainedModel, load_pretrained
from asmnet.layers import fuse_norms
from shape_models.images import read_image

__all__ = ["FacePrediction", "Predictor", "as_rgb"]

DEGREES = 65.0  # of one unit of the pose head
# Views to average over: shifts in sides of the box, and scales
VIEWS = (
    (0.0, 0.0, 1.0), (0.0, 0.0, 0.95), (0.0, 0.0, 1.05), (0.03, 0.0, 1.0), (-0.03, 0.0, 1.0), (0.0, 0.03, 1.0),
    (0.0, -0.03, 1.0),
)  # fmt: skip


def as_rgb(image: Any, *, maximum: float | None = None) -> np.ndarray:
    """Check a photograph and return it as (height, width, 3) uint8.

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


def _as_boxes(boxes: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes: got shape {np.shape(boxes)}; expected (k, 4), x0, y0, x1, y1 in pixels.")
    if not np.isfinite(array).all():
        raise ValueError("boxes: got NaN or infinity; expected pixels.")
    for i, (x0, y0, x1, y1) in enumerate(array.tolist()):
        if not (x0 < x1 and y0 < y1):
            raise ValueError(
                f"boxes: got {[x0, y0, x1, y1]} at index {i}; expected x0 < x1 and y0 < y1. "
                "Try [x, y, x + width, y + height]."
            )
        if x1 < 0 or y1 < 0 or x0 > shape[1] - 1 or y0 > shape[0] - 1:
            raise ValueError(
                f"boxes: {[x0, y0, x1, y1]} at index {i} lies outside of the image of {shape[1]} x {shape[0]} pixels."
            )
    return array


def view_boxes(boxes: np.ndarray, view: tuple[float, float, float]) -> np.ndarray:
    """Shift boxes by shares of their larger side, and scale them about their centre."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + np.array(view[:2]) * 2 * half.max(1, keepdims=True)
    return np.concatenate([centre - view[2] * half, centre + view[2] * half], 1)


def cut_boxes(image: np.ndarray, boxes: np.ndarray, *, size: int, margin: float, square: bool) -> tuple[Any, ...]:
    """Cut crops (n, size, size, 3) by area-weighted resampling, and give low edges and extents (n, 2) in pixels."""
    from PIL import Image

    extents = boxes[:, 2:] - boxes[:, :2]
    if square:
        extents = np.repeat(extents.max(1, keepdims=True), 2, axis=1)
    extents = extents * margin
    lows = (boxes[:, :2] + boxes[:, 2:]) / 2 - extents / 2  # in pixel centres; edges are half a pixel further
    whole = Image.fromarray(image)
    crops = np.empty((len(boxes), size, size, 3), np.uint8)
    for i, (low, extent) in enumerate(zip(lows + 0.5, extents, strict=True)):
        first = np.floor(low).astype(int)
        last = np.ceil(low + extent).astype(int)
        start = low - first
        patch = whole.crop((*first.tolist(), *last.tolist()))
        box = (*start.tolist(), *(start + extent).tolist())
        crops[i] = np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return crops, lows, extents


def _rounded(points: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(v) else round(v, 2) for v in point] for point in points.tolist()]


class _Answer(NamedTuple):
    """What the network says of some crops, in pixels and degrees."""

    landmarks: np.ndarray
    pose: np.ndarray | None
    depth: np.ndarray | None
    heatmaps: np.ndarray | None
    matrices: np.ndarray


def _mean(views: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Average what every view has, or no view has."""
    known = [view for view in views if view is not None]
    return np.mean(known, axis=0) if known else None


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """One face in a photograph.

    Attributes
    ----------
    box : ndarray of shape (4,)
        x0, y0, x1, y1 that the face was cut out by, in pixels.
    landmarks : ndarray of shape (n_landmarks, 2)
        (x, y) in pixels of the photograph, the centre of the first pixel at (0, 0), as the network gives them; NaN
        where a heat map is flat.
    projected : ndarray of shape (n_landmarks, 2) or None
        The same after the shape model: the nearest plausible face; for networks that draw heat maps the plausible face
        that fits the whole maps best, see `asmnet.hybrid.mean_shift`. None without a shape model for the scheme.
    pose : ndarray of shape (3,) or None
        Yaw, pitch, roll in degrees; None for networks without a pose head.
    pose_convention : str
        Name of the convention of `pose` in `pose.conventions`.
    plausibility : float
        Share of faces of the shape model that are less likely than this one, from 0 to 1; NaN without a shape model.
    clipped_modes : tuple of int
        Modes of the shape model beyond its limit.
    depth : ndarray of shape (n_landmarks,) or None
        z of the landmarks in pixels of the photograph, away from the viewer, 0 at the mean of the face; None for
        networks without a depth head.

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
    projected: np.ndarray | None
    pose: np.ndarray | None
    pose_convention: str = "300W-LP"
    plausibility: float = float("nan")
    clipped_modes: tuple[int, ...] = ()
    depth: np.ndarray | None = None

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
        """Return plain values, as JSON holds them; pixels rounded to hundredths, None for what was not found."""
        return {
            "box": np.round(self.box, 2).tolist(),
            "landmarks": _rounded(self.landmarks),
            "projected": None if self.projected is None else _rounded(self.projected),
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
    """A trained network with its preparation and the shape model, ready for photographs.

    Parameters
    ----------
    model : PretrainedModel
        See `load_pretrained`.
    shape_model : AlignedASM, optional
        For the projected landmarks and the plausibility; by default the one that ships for the scheme, if any.
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

    def __init__(self, model: PretrainedModel, *, shape_model: Any = None, device: str = "cpu"):
        self.model = model
        self.device = torch.device(device)
        self.network = fuse_norms(model.network).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if shape_model is None and model.scheme is not None and model.scheme.name == "ibug68":
            from shape_models import load_model

            shape_model = load_model("face68")
        self.shape_model = shape_model

    @functools.cached_property
    def _fitter(self) -> Any:
        from asmnet.hybrid import heatmap_fitter  # brings the search and its compiler along

        return heatmap_fitter(self.shape_model)

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
        """Find the landmarks of the faces in one photograph, or in several.

        Parameters
        ----------
        image : array_like, PIL image, path, or a list of them
            See `as_rgb`. A list gives a list of lists.
        boxes : array_like of shape (k, 4), or a list of those, optional
            x0, y0, x1, y1 in pixels. The convention of the shipped models is the tight box of the landmarks: brows to
            chin. Without boxes faces are searched for by `shape_models.search.find_faces`.
        flip_average : bool
            Average with the prediction for the mirror image, at twice the cost; needs a scheme.
        n_passes : int, optional
            In each further pass the box is that of the landmarks of the pass before. Default is 1 for given boxes and 2
            for detected ones, which follow another convention.
        n_views : int
            From 1 to 7: average over that many crops, a little shifted and scaled, at as many times the cost.
        batch_size : int
            Faces at a time.

        Returns
        -------
        list of FacePrediction
            In the order of the boxes; empty where no face was found.

        Raises
        ------
        ValueError
            For images and boxes that make no sense, see `as_rgb`; a box may reach beyond the
            image, but not lie outside of it.
        """
        if n_passes is not None and n_passes < 1:
            raise ValueError(f"n_passes: got {n_passes}; expected at least 1.")
        if flip_average and (self.model.scheme is None or self.model.scheme.mirror is None):
            raise ValueError("flip_average needs a landmark scheme with a mirror map; the model names none.")
        if not 1 <= n_views <= len(VIEWS):
            raise ValueError(f"n_views: got {n_views}; expected 1 to {len(VIEWS)}.")
        many = isinstance(image, list | tuple)
        images = [as_rgb(one) for one in (image if many else [image])]
        passes = n_passes or 1
        if boxes is None:
            found = [self.detect(one) for one in images]
            passes = n_passes or 2
        else:
            given: Sequence[Any] = boxes if many else [boxes]
            if len(given) != len(images):
                raise ValueError(f"boxes: got {len(given)} lists for {len(images)} images; expected one for each.")
            found = [_as_boxes(b, one.shape) for b, one in zip(given, images, strict=True)]
        owner = np.concatenate([np.full(len(b), i) for i, b in enumerate(found)]) if images else np.zeros(0)
        current = np.concatenate(found) if images else np.zeros((0, 4))
        for _ in range(passes if len(current) else 0):
            used = current
            views = [
                self._run(images, owner, view_boxes(current, view), flip_average, batch_size)
                for view in VIEWS[:n_views]
            ]
            points = np.mean([view.landmarks for view in views], axis=0)
            tight = np.concatenate([np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)], axis=1)
            current = np.where(np.isfinite(tight).all(1, keepdims=True), tight, current)
        results: list[list[FacePrediction]] = [[] for _ in images]
        if len(owner):
            answer = views[0]._replace(
                landmarks=points, pose=_mean([v.pose for v in views]), depth=_mean([v.depth for v in views])
            )
            for i, face in zip(owner.tolist(), self._records(used, answer), strict=True):
                results[int(i)].append(face)
        return results if many else results[0]

    def detect(self, image: Any, detector: Any = "scikit-image") -> np.ndarray:
        """Find faces and return their boxes (k, 4) by the convention of the network, one for each face.

        Parameters
        ----------
        image : array_like, PIL image or path
        detector : str or callable
            As for `shape_models.search.find_faces`.

        Returns
        -------
        ndarray of shape (k, 4)
        """
        from importlib import import_module

        faces = import_module("shape_models.search").find_faces(as_rgb(image), detector)
        return np.asarray(faces.boxes, dtype=np.float64).reshape(-1, 4)

    @torch.inference_mode()
    def _run(
        self, images: list[np.ndarray], owner: np.ndarray, boxes: np.ndarray, flip: bool, batch_size: int
    ) -> _Answer:
        form = self.model.preprocessing
        parts: dict[str, list[np.ndarray]] = {name: [] for name in _Answer._fields}
        for start in range(0, len(boxes), batch_size):
            rows = np.arange(start, min(start + batch_size, len(boxes)))
            cut = [
                cut_boxes(
                    images[int(owner[r])], boxes[r : r + 1], size=form.size, margin=form.margin, square=form.square
                )
                for r in rows
            ]
            crops, lows, extents = (np.concatenate(part) for part in zip(*cut, strict=True))
            pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
            inputs = form.normalise(pixels).contiguous(memory_format=torch.channels_last)
            prediction = self.network(inputs)
            points, pose, depth = prediction.landmarks, prediction.pose, prediction.depth
            maps = prediction.heatmaps[-1].float() if prediction.heatmaps and self.shape_model is not None else None
            if flip:
                assert self.model.scheme is not None
                mirrored = self.network(inputs.flip(3))
                order = torch.as_tensor(np.array(self.model.scheme.mirror), device=self.device)
                points = (points + mirrored.landmarks[:, order] * points.new_tensor([-1.0, 1.0])) / 2
                if pose is not None:
                    pose = (pose + mirrored.pose * pose.new_tensor([-1.0, 1.0, -1.0])) / 2
                if depth is not None:
                    depth = (depth + mirrored.depth[:, order]) / 2
                if maps is not None:
                    maps = (maps + mirrored.heatmaps[-1].float()[:, order].flip(3)) / 2
            units = points.double().cpu().numpy()
            parts["landmarks"].append((units + 0.5) * extents[:, None] + lows[:, None])
            if pose is not None:
                parts["pose"].append(DEGREES * pose.double().cpu().numpy())
            if depth is not None:
                parts["depth"].append(depth.double().cpu().numpy() * np.sqrt(extents.prod(1))[:, None])
            if maps is not None:
                parts["heatmaps"].append(maps.cpu().numpy())
                # Pixel u of the map lies at (u + 1/2) / width of the crop.
                step = extents / maps.shape[:1:-1]
                scale = step[:, None] * np.eye(2)
                parts["matrices"].append(np.concatenate([scale, (lows + step / 2)[..., None]], axis=2))
        return _Answer(*(np.concatenate(part) if part else None for part in parts.values()))  # type: ignore[arg-type]

    def _records(self, boxes: np.ndarray, answer: _Answer) -> list[FacePrediction]:
        points, pose, depth = answer.landmarks, answer.pose, answer.depth
        projected = None
        plausibility = np.full(len(boxes), np.nan)
        clipped: list[tuple[int, ...]] = [()] * len(boxes)
        if self.shape_model is not None:
            if answer.heatmaps is None:
                projected = np.asarray(self.shape_model.project(points))
            else:
                from asmnet.hybrid import HeatmapSet, mean_shift

                projected = mean_shift(self._fitter, HeatmapSet(answer.heatmaps, answer.matrices), points)
            whole = np.where(np.isfinite(points), points, projected)
            known = np.flatnonzero(np.isfinite(whole).all((1, 2)))
            if len(known):
                report = self.shape_model.report(whole[known])
                plausibility[known] = report.plausibility
                for i, modes in zip(known, np.asarray(report.clipped), strict=True):
                    clipped[i] = tuple(np.flatnonzero(modes).tolist())
        return [
            FacePrediction(
                boxes[i],
                points[i],
                None if projected is None else projected[i],
                None if pose is None else pose[i],
                self.pose_convention,
                float(plausibility[i]),
                clipped[i],
                None if depth is None else depth[i],
            )
            for i in range(len(boxes))
        ]
