"""Packed faces with all that is known of them, and batches cut out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asmnet._crops import face_crops, tight_boxes
from asmnet._options import as_device, check_kind, check_name
from asmnet._pose_labels import scaled_angles
from asmnet._preprocessing import Preprocessing
from asmnet._scores import Anchors, check_anchors, check_offset, eye_line
from asmnet.augmentation import Augmentation, CropTransform, jitter_light, sample_crops
from shape_models._array import as_numpy, as_shapes, refuse_masked
from shape_models._options import check_numbers
from shape_models._typing import ArrayLike
from shape_models.images import channels_first


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step takes.

    Attributes
    ----------
    images : Tensor of shape (batch, 3, size, size)
        Normalised.
    landmarks : Tensor of shape (batch, n_landmarks, 2)
        Crop units; NaN is missing.
    asm_landmarks : Tensor or None
        A(G), moved as the landmarks.
    pose : Tensor of shape (batch, 3) or None
        (yaw, pitch, roll) over 65 degrees; NaN is unknown.
    weight : Tensor of shape (batch,)
        Of each sample in the landmark loss.
    indices : Tensor of shape (batch,)
        Rows of the dataset.
    crops : CropTransform
        To pixels of the stored images.
    companions : dict of str to Tensor
        The companion landmarks of the dataset, moved as the landmarks.
    depth : Tensor of shape (batch, n_landmarks) or None
        z in crop units (the square root of the crop's area is 1), away from the viewer; NaN is unknown.

    Examples
    --------
    >>> from asmnet.data import Batch
    >>> Batch.__dataclass_fields__["images"].name
    'images'
    """

    images: Tensor
    landmarks: Tensor
    asm_landmarks: Tensor | None
    pose: Tensor | None
    weight: Tensor
    indices: Tensor
    crops: CropTransform
    companions: dict[str, Tensor] = field(default_factory=dict)
    depth: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LandmarkDataset:
    """Packed faces with their landmarks, ready to be cut into batches.

    Made by `pack_faces` from any reader of `shape_models.datasets`, or by `LandmarkDataset.from_arrays`.

    Attributes
    ----------
    images : ndarray of uint8 of shape (n, side, side, 3)
        May be a memory map.
    landmarks : ndarray of shape (n, n_landmarks, 2)
        Pixels of the packed images; NaN is missing.
    boxes : ndarray of shape (n, 4)
        x0, y0, x1, y1, tight around the landmarks, in the same pixels.
    to_source : ndarray of shape (n, 3)
        Scale, x and y offset: source pixel = scale * packed pixel + offset.
    names, groups : tuple of str
        File and image or person of each.
    mirror : ndarray of int of shape (n_landmarks,) or None
        Index of each landmark's mirror image; without it nothing is flipped.
    weights : ndarray of shape (n,)
        Of each sample in the landmark loss.
    asm_landmarks : ndarray or None
        The landmarks as the shape model sees them.
    rotations : ndarray of shape (n, 3, 3) or None
        Head to camera (x right, y down, z forward); NaN is unknown.
    companions : dict of str to ndarray of shape (n, n_landmarks, 2)
        Further landmarks by name, in the same pixels, such as the predictions of teachers; augmentation moves them
        with the face.
    depths : ndarray of shape (n, n_landmarks) or None
        z of the landmarks in pixels of the packed images, away from the viewer; NaN is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import LandmarkDataset
    >>> points = np.array([[[4.0, 4.0], [12.0, 10.0]]])
    >>> data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
    >>> len(data), data.boxes
    (1, array([[ 4.,  4., 12., 10.]]))
    """

    images: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray
    to_source: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    mirror: np.ndarray | None = None
    weights: np.ndarray = field(default=None)  # type: ignore[arg-type]
    asm_landmarks: np.ndarray | None = None
    rotations: np.ndarray | None = None
    companions: dict[str, np.ndarray] = field(default_factory=dict)
    depths: np.ndarray | None = None
    _resident: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        images, points = self.images, self.landmarks
        refuse_masked(images, "images")
        n = len(images)
        if images.dtype != np.uint8 or images.shape[1:] != (*images.shape[1:2] * 2, 3):
            hint = channels_first(images.shape, "images")
            got = f"images: got {images.dtype} of shape {images.shape}"
            raise ValueError(f"{got}; expected uint8 (n, side, side, 3).{hint}")
        if points.ndim != 3 or len(points) != n or points.shape[-1] != 2 or not points.shape[1]:
            raise ValueError(f"landmarks: got shape {points.shape}; expected ({n}, n_landmarks, 2).")
        if self.weights is None:
            object.__setattr__(self, "weights", np.ones(n, np.float32))
        if self.mirror is not None:  # a copy: torch does not take read-only arrays
            object.__setattr__(self, "mirror", np.array(as_numpy(self.mirror, "mirror")))
        if self.mirror is not None and sorted(self.mirror.tolist()) != list(range(self.n_landmarks)):
            raise ValueError(f"mirror: expected a permutation of {self.n_landmarks} landmarks.")
        k = self.n_landmarks
        sides = {"boxes": (4,), "to_source": (3,), "weights": (), "rotations": (3, 3), "depths": (k,)}
        for name, value in self._of_faces().items():
            shape = (n, *sides.get(name, (k, 2)))
            refuse_masked(value, name)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
                got = f"{value.dtype}s" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
                raise TypeError(f"{name}: got {got}; expected an array of numbers.")
            if value.shape != shape:
                raise ValueError(f"{name}: got shape {value.shape}; expected {shape}.")
            if np.isinf(value).any():
                raise ValueError(f"{name}: got infinity; expected finite numbers, or NaN for what is not known.")
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all():
            raise ValueError("weights: got NaN, infinity or less than 0; expected finite numbers from 0 on.")
        for name, words in (("names", self.names), ("groups", self.groups)):
            if len(words) != n:
                raise ValueError(f"{name}: got {len(words)}; expected one for each of {n} faces.")

    def _of_faces(self) -> dict[str, np.ndarray]:
        """Return the arrays that have a row for each face, but the images."""
        names = ("landmarks", "boxes", "to_source", "weights", "asm_landmarks", "rotations", "depths")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        return found | {f"companion {name}": value for name, value in self.companions.items()}

    @classmethod
    def from_arrays(cls, images: np.ndarray, landmarks: np.ndarray, **fields: Any) -> LandmarkDataset:
        """Build from images in memory and landmarks in their pixels; boxes, names and maps are filled in.

        Parameters
        ----------
        images : ndarray of shape (n, size, size, 3)
            Square images, uint8.
        landmarks : ndarray of shape (n, n_landmarks, 2)
            In their pixels.
        **fields : ndarray of shape (n, ...)
            Other fields of the dataset, an entry for each image.

        Returns
        -------
        LandmarkDataset
            In memory.

        Raises
        ------
        ValueError
            For landmarks of another shape than (n, n_landmarks, 2).
        """
        images, landmarks = as_numpy(images, "images"), as_numpy(landmarks, "landmarks").astype(np.float64)
        if landmarks.ndim != 3 or not landmarks.shape[1] or not images.ndim:
            raise ValueError(f"landmarks: got shape {landmarks.shape}; expected (n, n_landmarks, 2).")
        n = len(images)
        for name in fields:
            check_name("fields", name, list(cls.__dataclass_fields__))
        fields.setdefault("boxes", tight_boxes(landmarks))
        fields.setdefault("to_source", np.tile([1.0, 0.0, 0.0], (n, 1)))
        fields.setdefault("names", tuple(str(i) for i in range(n)))
        fields.setdefault("groups", fields["names"])
        return cls(images, landmarks, **fields)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def n_landmarks(self) -> int:
        """Number of points of each face."""
        return int(self.landmarks.shape[1])

    def source_landmarks(self, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Map landmarks (default: the true ones) from packed pixels to pixels of the source images.

        Parameters
        ----------
        landmarks : ndarray of shape (n, n_landmarks, 2), optional
            In pixels of the packed images; the true ones by default.

        Returns
        -------
        ndarray of shape (n, n_landmarks, 2)
            Pixels of the source images.

        Raises
        ------
        ValueError
            For another number of faces than images.
        """
        points = self.landmarks if landmarks is None else landmarks
        points = as_shapes(points, name="landmarks", n_dims=2, min_samples=0, allow_nan=True)
        if len(points) != len(self):
            raise ValueError(f"landmarks: got {len(points)} faces; expected {len(self)}, as many as there are images.")
        return np.asarray(self.to_source[:, None, :1] * points + self.to_source[:, None, 1:])

    def to(self, device: torch.device | str) -> LandmarkDataset:
        """Return the faces with a copy on a device, from which the batches for that device are then cut.

        On a graphics card the images stay behind, and are sent batch by batch, where they would take more than half of
        the memory that is free.

        Parameters
        ----------
        device : torch.device or str
            Where to.

        Returns
        -------
        LandmarkDataset
            The same faces.
        """
        on = as_device(device)
        # The other half of the memory is for the network and its batches.
        with_images = on.type != "cuda" or self.images.nbytes <= torch.cuda.mem_get_info(on)[0] / 2
        arrays = self._arrays(np.arange(len(self)), with_images=with_images)
        moved = replace(self)
        moved._resident.update({name: torch.from_numpy(array).to(on) for name, array in arrays.items()})
        return moved

    def _arrays(self, rows: np.ndarray, *, with_images: bool = True) -> dict[str, np.ndarray]:
        """Return a copy of all there is of some faces, landmarks in double precision, and the mirror map."""
        kinds = {"weights": np.float32}
        out = {name: np.array(value[rows], kinds.get(name, np.float64)) for name, value in self._of_faces().items()}
        if self.mirror is not None:
            out["mirror"] = self.mirror
        if with_images:
            out["images"] = np.ascontiguousarray(self.images[rows])
        return out

    def _tensors(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """Return some faces on a device: from the copy that is there, else sent."""
        here = self._resident
        if not here or here["boxes"].device != device:
            return {name: _send(array, device) for name, array in self._arrays(rows).items()}
        index = _send(rows, device)
        found = {name: value if name == "mirror" else value[index] for name, value in here.items()}
        if "images" not in found:
            found["images"] = _send(np.ascontiguousarray(self.images[rows]), device)
        return found

    def take(self, indices: ArrayLike) -> LandmarkDataset:
        """Return some of the faces, by indices or a mask.

        Parameters
        ----------
        indices : array_like of int of shape (n_chosen,), or of bool of shape (n,)
            Which faces.

        Returns
        -------
        LandmarkDataset
            Of these faces.
        """
        rows = self._rows(indices)
        moved: dict[str, Any] = {name: value[rows] for name, value in self._of_faces().items()}
        companions = {name: moved.pop(f"companion {name}") for name in self.companions}
        names, groups = tuple(self.names[i] for i in rows), tuple(self.groups[i] for i in rows)
        return replace(self, **moved, images=self.images[rows], companions=companions, names=names, groups=groups)

    def _rows(self, indices: ArrayLike) -> np.ndarray:
        """Return which faces indices, or a mask, mean."""
        given = as_numpy(indices, "indices", booleans=True)
        if not given.size:
            return np.zeros(0, np.int64)
        n = len(self)
        usable = given.ndim == 1 and (given.shape == (n,) if given.dtype == bool else given.dtype.kind in "iu")
        if not usable or (given.dtype != bool and not ((given >= -n) & (given < n)).all()):
            raise ValueError(f"indices: got {str(indices)[:60]}; expected whole numbers below {n}, or a mask of {n}.")
        return np.asarray(np.arange(n)[given])

    def with_weight(self, weight: float) -> LandmarkDataset:
        """Return the dataset with one weight for all samples.

        Parameters
        ----------
        weight : float
            Not negative.

        Returns
        -------
        LandmarkDataset
            The images are shared.
        """
        check_numbers(weight=weight)
        return replace(self, weights=np.full(len(self), weight, np.float32))

    def crop_landmarks(self, preprocessing: Preprocessing) -> np.ndarray:
        """Return the landmarks in units of the plain crop, the frame that the shape model of the loss is fitted in.

        Parameters
        ----------
        preprocessing : Preprocessing
            That of the network.

        Returns
        -------
        ndarray of shape (n, n_landmarks, 2)
            In crop units.
        """
        crops = face_crops(torch.from_numpy(self.boxes), preprocessing)
        return crops.to_units(torch.from_numpy(self.landmarks.astype(np.float64))).numpy()

    def with_asm(self, project: Callable[[np.ndarray], np.ndarray], preprocessing: Preprocessing) -> LandmarkDataset:
        """Return the dataset with A(G): `project` applied to each complete face in units of its plain crop.

        Parameters
        ----------
        project : callable
            Takes and returns landmarks (m, n_landmarks, 2) in crop units.
        preprocessing : Preprocessing
            That of the network.

        Returns
        -------
        LandmarkDataset
            The images are shared.

        Raises
        ------
        ValueError
            When `project` returns another shape than it was given.
        """
        crops, units = face_crops(torch.from_numpy(self.boxes), preprocessing), self.crop_landmarks(preprocessing)
        complete = np.isfinite(units).all((1, 2))
        out = np.full_like(units, np.nan)
        if complete.any():
            made = as_numpy(project(units[complete]), "project")
            if made.shape != units[complete].shape:
                raise ValueError(f"project: got shape {made.shape}; expected {units[complete].shape}, as it was given.")
            out[complete] = made
        return replace(self, asm_landmarks=crops.to_pixels(torch.from_numpy(out)).numpy())

    def with_rotations(self, rotations: np.ndarray) -> LandmarkDataset:
        """Return the dataset with head rotations (n, 3, 3), head to camera; NaN where unknown.

        Parameters
        ----------
        rotations : ndarray of shape (n, 3, 3)
            Head to camera.

        Returns
        -------
        LandmarkDataset
            The images are shared.
        """
        return replace(self, rotations=as_numpy(rotations, "rotations").astype(np.float64))

    def with_companion(self, name: str, landmarks: np.ndarray) -> LandmarkDataset:
        """Return the dataset with further landmarks under a name, in pixels of the packed images.

        Parameters
        ----------
        name : str
            What they are called.
        landmarks : ndarray of shape (n, n_landmarks, 2)
            Pixels of the packed images.

        Returns
        -------
        LandmarkDataset
            The images are shared.
        """
        landmarks = as_numpy(landmarks, "landmarks").astype(np.float64)
        return replace(self, companions={**self.companions, name: landmarks})

    def with_labels_moved(self, offset: float, anchors: Anchors) -> LandmarkDataset:
        """Return the dataset with its landmarks moved to the right along the line of the eyes.

        A(G), where it is known, moves with them; boxes and companions stay, and so do faces whose eyes are not known.

        Parameters
        ----------
        offset : float
            In eye distances; negative to the left.
        anchors : pair of index lists
            The eye at the image's left, and that at its right.

        Returns
        -------
        LandmarkDataset
            The images are shared.

        Examples
        --------
        >>> import numpy as np
        >>> from asmnet import LandmarkDataset
        >>> points = np.array([[[4.0, 4.0], [12.0, 4.0]]])
        >>> data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
        >>> data.with_labels_moved(0.125, ([0], [1])).landmarks
        array([[[ 5.,  4.],
                [13.,  4.]]])
        """
        check_offset(offset)
        check_anchors(anchors, self.n_landmarks)
        step = np.nan_to_num(offset * eye_line(self.landmarks, anchors))
        own = None if self.asm_landmarks is None else self.asm_landmarks + step
        return replace(self, landmarks=self.landmarks + step, asm_landmarks=own)

    def with_depths(self, depths: np.ndarray) -> LandmarkDataset:
        """Return the dataset with depths (n, n_landmarks) in pixels of the packed images; NaN where unknown.

        Parameters
        ----------
        depths : ndarray of shape (n, n_landmarks)
            Pixels of the packed images.

        Returns
        -------
        LandmarkDataset
            The images are shared.
        """
        return replace(self, depths=as_numpy(depths, "depths").astype(np.float64))

    def batch(
        self,
        indices: ArrayLike,
        preprocessing: Preprocessing,
        *,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        boxes: np.ndarray | None = None,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Cut the crops of some faces, with their labels, as a batch for a network.

        Parameters
        ----------
        indices : sequence of int
            Rows.
        preprocessing : Preprocessing
            Margin, form and normalisation of the crop.
        augmentation : Augmentation, optional
            Without one the crops are plain.
        generator : Generator, optional
            Source of the draws of the augmentation.
        boxes : ndarray of shape (len(indices), 4), optional
            Instead of the tight boxes, in packed pixels.
        size : int, optional
            Instead of the size of `preprocessing`.
        device : device
            Where the crops are made.

        Returns
        -------
        Batch
            Crops with all that is known of them.

        Raises
        ------
        ValueError
            For another number of boxes than rows.
        """
        rows = self._rows(indices)
        check_kind("preprocessing", preprocessing, Preprocessing)
        if augmentation is not None:
            check_kind("augmentation", augmentation, Augmentation)
        device = torch.empty(0, device=as_device(device)).device  # names the card where `device` does not
        faces = self._tensors(rows, device)
        if boxes is not None:
            given = as_numpy(boxes, "boxes").astype(np.float64)
            if given.shape != (len(rows), 4):
                raise ValueError(f"boxes: got shape {given.shape}; expected ({len(rows)}, 4), one for each face.")
            faces["boxes"] = _send(given, device)
        if augmentation is not None and self.mirror is None and augmentation.flip:
            augmentation = replace(augmentation, flip=0.0)
        crops = face_crops(faces["boxes"], preprocessing, augmentation=augmentation, generator=generator)
        pixels = sample_crops(faces["images"], crops, preprocessing.size if size is None else size)
        if augmentation is not None:
            pixels = jitter_light(pixels, augmentation, generator=generator)
        images, indices = preprocessing.normalise(pixels), torch.from_numpy(rows)
        return Batch(images=images, weight=faces["weights"], indices=indices, crops=crops, **_labels(faces, crops))


def _labels(faces: dict[str, Tensor], crops: CropTransform) -> dict[str, Any]:
    """Return what is known of faces, by the names of `Batch`, in the units of their crops."""

    def mirrored(values: Tensor) -> Tensor:
        """Swap left and right in the rows that are flipped; axis 1 counts the landmarks."""
        if "mirror" not in faces:
            return values
        which = crops.flipped.reshape(-1, *[1] * (values.ndim - 1))
        return torch.where(which, values[:, faces["mirror"]], values)

    def moved(name: str) -> Tensor:
        return mirrored(crops.to_units(faces[name])).float()

    depth = pose = None
    if "depths" in faces:
        # The square root of the crop's area is the unit of depth.
        depth = mirrored(faces["depths"] / torch.linalg.det(crops.axes).abs().sqrt()[:, None]).float()
    if "rotations" in faces:
        pose = scaled_angles(crops.turn(faces["rotations"])).float()
    asm = moved("asm_landmarks") if "asm_landmarks" in faces else None
    others = {name.removeprefix("companion "): moved(name) for name in faces if name.startswith("companion ")}
    points = moved("landmarks")
    return {"landmarks": points, "asm_landmarks": asm, "pose": pose, "companions": others, "depth": depth}


def _send(array: np.ndarray, device: torch.device) -> Tensor:
    """Bring an array to a device without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
