"""Faces for training: images decoded once into a packed cache, batches cut out of it with their landmarks."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asmnet._forward import cut_crop
from asmnet._options import check_fields
from asmnet.augmentation import Augmentation, CropTransform, crop_transform, jitter_light, sample_crops
from shape_models.images import ImageFileError, check_inside, read_image

__all__ = ["Batch", "CorruptImageError", "LandmarkDataset", "Preprocessing", "load_image", "pack_faces"]

CACHE_VERSION = 2


class CorruptImageError(ValueError):
    """Image files that cannot be read; `paths` names them all.

    Parameters
    ----------
    paths : sequence of str
        The files.

    Examples
    --------
    >>> from asmnet.data import CorruptImageError
    >>> CorruptImageError(["a.jpg"]).paths
    ['a.jpg']
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = list(paths)
        shown = ", ".join(self.paths[:5]) + (", ..." if len(self.paths) > 5 else "")
        super().__init__(
            f"{len(self.paths)} image file(s) cannot be read: {shown}. Repair or remove them, or skip them with "
            "skip_corrupt=True."
        )


@dataclass(frozen=True)
class Preprocessing:
    """How a face in an image becomes the input of a network; it travels with the weights.

    Parameters
    ----------
    size : int
        Side of the input in pixels.
    margin : float
        Side of the crop over the larger side of the box.
    square : bool
        Whether the crop is square in the image. When False each side follows its own side of the box, as in the
        paper, which distorts the face.
    mean, std : float
        Pixels from 0 to 1 become (x - mean) / std.
    box : str
        What the box encloses: ``"landmarks"``, the tight box of the landmarks.

    Examples
    --------
    >>> from asmnet import Preprocessing
    >>> Preprocessing(size=112).margin
    1.3
    """

    size: int = 224
    margin: float = 1.3
    square: bool = True
    mean: float = 0.5
    std: float = 0.25
    box: str = "landmarks"

    def __post_init__(self):
        check_fields(self)
        if self.size < 1:
            raise ValueError(f"size: got {self.size}; expected a positive number of pixels.")
        if not (0 < self.margin < 20 and 0 < self.std < np.inf and np.isfinite(self.mean)):
            raise ValueError(f"got margin {self.margin}, mean {self.mean}, std {self.std}; expected positive numbers.")
        if self.box != "landmarks":
            raise ValueError(f"box: got {self.box!r}; expected 'landmarks', the tight box of the landmarks.")

    @classmethod
    def paper(cls) -> Preprocessing:
        """Return the published preparation: the box stretched to 224 x 224, pixels from 0 to 1."""
        return cls(size=224, margin=1.05, square=False, mean=0.0, std=1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """Map pixels from 0 to 1 to what the network takes.

        Parameters
        ----------
        images : Tensor of shape (batch, 3, height, width)
            From 0 to 1.

        Returns
        -------
        Tensor of the shape of `images`
            Normalised.
        """
        return (images - self.mean) / self.std


def load_image(path: str | Path, *, maximum: float | None = None) -> np.ndarray:
    """Decode an image file, turned upright by its EXIF tag, to (height, width, 3) uint8 RGB.

    Parameters
    ----------
    path : path
        The file.
    maximum : float, optional
        The value that stands for white; see `shape_models.images.read_image`.

    Returns
    -------
    ndarray of uint8 of shape (height, width, 3)

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is no image, broken, or does not say its range; the message names it.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from asmnet.data import load_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(np.zeros((4, 6), np.uint8)).save(Path(folder) / "grey.png")
    ...     load_image(Path(folder) / "grey.png").shape
    (4, 6, 3)
    """
    array = read_image(Path(path), maximum=maximum)
    return array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2)


def tight_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Return (..., 4) x0, y0, x1, y1 of the known landmarks."""
    with np.errstate(all="ignore"):
        low = np.where(np.isnan(landmarks), np.inf, landmarks).min(-2)
        high = np.where(np.isnan(landmarks), -np.inf, landmarks).max(-2)
    return np.concatenate([low, high], -1)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
    mirror : ndarray of int or None
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

    def __post_init__(self):
        n = len(self.images)
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(
                f"images: got {self.images.dtype} of shape {self.images.shape}; expected uint8 (n, side, side, 3)."
            )
        if self.landmarks.ndim != 3 or len(self.landmarks) != n or self.landmarks.shape[-1] != 2:
            raise ValueError(f"landmarks: got shape {self.landmarks.shape}; expected ({n}, n_landmarks, 2).")
        if self.weights is None:
            object.__setattr__(self, "weights", np.ones(n, np.float32))
        if self.mirror is not None:  # a copy: torch does not take read-only arrays
            object.__setattr__(self, "mirror", np.array(self.mirror))
        if self.mirror is not None and sorted(self.mirror.tolist()) != list(range(self.n_landmarks)):
            raise ValueError(f"mirror: expected a permutation of {self.n_landmarks} landmarks.")

    @classmethod
    def from_arrays(cls, images: np.ndarray, landmarks: np.ndarray, **fields: Any) -> LandmarkDataset:
        """Build from images in memory and landmarks in their pixels; boxes, names and maps are filled in.

        Parameters
        ----------
        images : ndarray of shape (n, size, size, 3)
            Square images, uint8.
        landmarks : ndarray of shape (n, n_landmarks, 2)
            In their pixels.
        **fields : ndarray
            Other fields of the dataset.

        Returns
        -------
        LandmarkDataset
            In memory.
        """
        landmarks = np.asarray(landmarks, dtype=np.float64)
        n = len(images)
        fields.setdefault("boxes", tight_boxes(landmarks))
        fields.setdefault("to_source", np.tile([1.0, 0.0, 0.0], (n, 1)))
        fields.setdefault("names", tuple(str(i) for i in range(n)))
        fields.setdefault("groups", fields["names"])
        return cls(np.asarray(images), landmarks, **fields)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def n_landmarks(self) -> int:
        """Number of points of each face."""
        return self.landmarks.shape[1]

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
        """
        points = self.landmarks if landmarks is None else landmarks
        return self.to_source[:, None, :1] * points + self.to_source[:, None, 1:]

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
        on = torch.device(device)
        with_images = on.type != "cuda" or self.images.nbytes <= torch.cuda.mem_get_info(on)[0] / 2
        arrays = self._arrays(np.arange(len(self)), with_images=with_images)
        moved = replace(self)
        moved._resident.update({name: torch.from_numpy(array).to(on) for name, array in arrays.items()})
        return moved

    def _arrays(self, rows: np.ndarray, *, with_images: bool = True) -> dict[str, np.ndarray]:
        """Return a copy of all there is of some faces, landmarks in double precision, and the mirror map."""
        names = ("landmarks", "boxes", "asm_landmarks", "rotations", "depths")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        found |= {f"companion {name}": value for name, value in self.companions.items()}
        out = {name: np.array(value[rows], dtype=np.float64) for name, value in found.items()}
        out["weights"] = np.array(self.weights[rows], dtype=np.float32)
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

    def take(self, indices: Any) -> LandmarkDataset:
        """Return some of the faces, by indices or a mask.

        Parameters
        ----------
        indices : array_like of int or bool
            Which faces.

        Returns
        -------
        LandmarkDataset
            Of these faces.
        """
        rows = np.arange(len(self))[np.asarray(indices)]
        moved = {
            name: value[rows]
            for name in ("images", "landmarks", "boxes", "to_source", "weights", "asm_landmarks", "rotations", "depths")
            if (value := getattr(self, name)) is not None
        }
        moved["companions"] = {name: value[rows] for name, value in self.companions.items()}
        names, groups = tuple(self.names[i] for i in rows), tuple(self.groups[i] for i in rows)
        return replace(self, **moved, names=names, groups=groups)

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
        crops = crop_transform(torch.from_numpy(self.boxes), margin=preprocessing.margin, square=preprocessing.square)
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
        """
        crops = crop_transform(torch.from_numpy(self.boxes), margin=preprocessing.margin, square=preprocessing.square)
        units = crops.to_units(torch.from_numpy(self.landmarks.astype(np.float64))).numpy()
        complete = np.isfinite(units).all((1, 2))
        out = np.full_like(units, np.nan)
        if complete.any():
            out[complete] = project(units[complete])
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
        rotations = np.asarray(rotations, dtype=np.float64)
        if rotations.shape != (len(self), 3, 3):
            raise ValueError(f"rotations: got shape {rotations.shape}; expected ({len(self)}, 3, 3).")
        return replace(self, rotations=rotations)

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
        landmarks = np.asarray(landmarks, dtype=np.float64)
        if landmarks.shape != self.landmarks.shape:
            raise ValueError(
                f"{name}: got landmarks of shape {landmarks.shape}; expected {self.landmarks.shape}, as the true ones."
            )
        return replace(self, companions={**self.companions, name: landmarks})

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
        depths = np.asarray(depths, dtype=np.float64)
        if depths.shape != self.landmarks.shape[:2]:
            raise ValueError(f"depths: got shape {depths.shape}; expected {self.landmarks.shape[:2]}.")
        return replace(self, depths=depths)

    def batch(
        self,
        indices: Any,
        preprocessing: Preprocessing,
        *,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
        boxes: np.ndarray | None = None,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Cut a batch.

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
        """
        rows = np.asarray(indices, dtype=np.int64)
        device = torch.empty(0, device=device).device  # names the card where `device` does not
        faces = self._tensors(rows, device)
        if boxes is not None:
            faces["boxes"] = _send(np.array(boxes, dtype=np.float64), device)
        if augmentation is not None and self.mirror is None and augmentation.flip:
            augmentation = replace(augmentation, flip=0.0)
        crops = crop_transform(
            faces["boxes"],
            margin=preprocessing.margin,
            square=preprocessing.square,
            augmentation=augmentation,
            generator=generator,
        )

        def mirrored(values: Tensor) -> Tensor:
            """Swap left and right in the rows that are flipped; axis 1 counts the landmarks."""
            if "mirror" not in faces:
                return values
            which = crops.flipped.reshape(-1, *[1] * (values.ndim - 1))
            return torch.where(which, values[:, faces["mirror"]], values)

        def moved(name: str) -> Tensor:
            return mirrored(crops.to_units(faces[name])).float()

        depth = None
        if self.depths is not None:
            unit = torch.linalg.det(crops.axes).abs().sqrt()
            depth = mirrored(faces["depths"] / unit[:, None]).float()
        pose = None
        if self.rotations is not None:
            from asmnet._pose_labels import scaled_angles

            pose = scaled_angles(crops.turn(faces["rotations"])).float()
        pixels = sample_crops(faces["images"], crops, size or preprocessing.size)
        if augmentation is not None:
            pixels = jitter_light(pixels, augmentation, generator=generator)
        return Batch(
            preprocessing.normalise(pixels),
            moved("landmarks"),
            None if self.asm_landmarks is None else moved("asm_landmarks"),
            pose,
            faces["weights"],
            torch.from_numpy(rows),
            crops,
            {name: moved(f"companion {name}") for name in self.companions},
            depth,
        )


def _send(array: np.ndarray, device: torch.device) -> Tensor:
    """Bring an array to a device without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def default_cache() -> Path:
    """Return the folder for packed images: ASMNET_CACHE, or asmnet in the user's cache folder."""
    own = os.environ.get("ASMNET_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "asmnet"


def _key(samples: Sequence[Any], size: int, margin: float) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {size} {margin!r}".encode())
    for sample in samples:
        path = Path(sample.image)
        try:
            stat = (path if path.is_file() else path.parent).stat()  # an image may lie in another file
            digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
        except OSError:
            digest.update(str(path).encode())
        digest.update(np.ascontiguousarray(sample.landmarks, dtype=np.float64).tobytes())
    return digest.hexdigest()[:20]


def pack_faces(
    samples: Iterable[Any],
    *,
    size: int = 256,
    margin: float = 1.9,
    mirror: np.ndarray | None = None,
    cache: str | Path | None = None,
    skip_corrupt: bool = False,
    progress: bool = False,
) -> LandmarkDataset:
    """Decode faces once into one packed array on disk; a second call with the same files maps it.

    Parameters
    ----------
    samples : iterable of LandmarkSample
        With `image` (a path), `landmarks` (n_landmarks, 2) in its pixels, and, if known, `group`. A third coordinate
        is a depth that grows towards the viewer, as in AFLW2000-3D, and becomes `depths`; angles of a fitted model
        (``Pose_Para`` of 300W-LP and AFLW2000-3D) become `rotations`.
    size : int
        Side of the packed squares.
    margin : float
        Side of the square over the larger side of the tight box; leaves room for rotation and shift.
    mirror : ndarray of int, optional
        Index of each landmark's mirror image (`LandmarkScheme.mirror`); default is `samples.scheme.mirror` where the
        samples have one.
    cache : path, optional
        Folder; default is ``$ASMNET_CACHE``, or ``asmnet`` in the user's cache folder.
    skip_corrupt : bool
        Leave unreadable images out, with a warning that names and counts them, instead of refusing the set.
    progress : bool
        Show a bar.

    Returns
    -------
    LandmarkDataset
        Mapped from the disk.

    Raises
    ------
    CorruptImageError
        When images cannot be read and `skip_corrupt` is False; all of them are named.
    ValueError
        For landmarks that lie outside their image (see `shape_models.images.check_inside`) or span no box.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from types import SimpleNamespace
    >>> from PIL import Image
    >>> from asmnet import pack_faces
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "face.png"
    ...     Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
    ...     sample = SimpleNamespace(image=path, landmarks=np.array([[20.0, 20.0], [40.0, 30.0]]), group="a")
    ...     pack_faces([sample], size=32, cache=folder).images.shape
    (1, 32, 32, 3)
    """
    if mirror is None:
        scheme = getattr(samples, "scheme", None)
        mirror = None if scheme is None else scheme.mirror
    items = list(samples)
    if not items:
        raise ValueError("samples: got none; expected at least one face. Check the folder and the split.")
    without = [i for i, sample in enumerate(items) if sample.image is None]
    if without:
        raise ValueError(f"samples: {len(without)} have no image, the first is number {without[0]}.")
    folder = Path(cache) if cache is not None else default_cache()
    target = folder / _key(items, size, margin)
    if not (target / "header.json").is_file():
        _pack(items, target, size=size, margin=margin, progress=progress)
    header = json.loads((target / "header.json").read_text())
    if header["corrupt"]:
        if not skip_corrupt:
            raise CorruptImageError(header["corrupt"])
        import warnings

        shown = ", ".join(header["corrupt"][:5])
        warnings.warn(f"{len(header['corrupt'])} image file(s) skipped, they cannot be read: {shown}", stacklevel=2)
        if not header["kept"]:
            raise CorruptImageError(header["corrupt"])
    images = np.load(target / "images.npy", mmap_mode="r")
    with np.load(target / "samples.npz", allow_pickle=False) as arrays:
        landmarks, to_source = arrays["landmarks"], arrays["to_source"]
    kept = header["kept"]
    rotations = given_rotations([items[i] for i in kept])
    depths = _given_depths([items[i] for i in kept], to_source[:, 0])
    return LandmarkDataset(
        images,
        landmarks,
        tight_boxes(landmarks),
        to_source,
        tuple(str(items[i].image) for i in kept),
        tuple(str(getattr(items[i], "group", None) or items[i].image) for i in kept),
        None if mirror is None else np.asarray(mirror),
        rotations=rotations,
        depths=depths,
    )


def _given_depths(items: Sequence[Any], scales: np.ndarray) -> np.ndarray | None:
    """Return the depths (n, n_landmarks) of landmarks with a third coordinate, in packed pixels, 0 at the mean."""
    shapes = [np.asarray(item.landmarks, dtype=np.float64) for item in items]
    if not shapes or shapes[0].shape[-1] != 3:
        return None
    towards = np.stack(shapes)[..., 2]
    return (np.nanmean(towards, axis=1, keepdims=True) - towards) / scales[:, None]


def given_rotations(items: Sequence[Any]) -> np.ndarray | None:
    """Return the head rotations (n, 3, 3) that 300W-LP and AFLW2000-3D give (``Pose_Para``), None where there are none.

    NaN stands for faces without one.
    """
    from asmnet._pose_labels import CONVENTION
    from pose import conventions

    names = ("pitch", "yaw", "roll", "tx", "ty", "tz", "scale")
    given = [getattr(item, "attributes", None) or {} for item in items]
    known = np.array([all(name in attributes for name in names) for attributes in given])
    if not known.any():
        return None
    out = np.full((len(items), 3, 3), np.nan)
    radians = np.array([[own[name] for name in names[:3]] for own, has in zip(given, known, strict=True) if has])
    out[known] = conventions.read(radians, CONVENTION).as_matrix()
    return out


def _pack(items: Sequence[Any], target: Path, *, size: int, margin: float, progress: bool) -> None:
    from tqdm import tqdm

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pack-") as name:
        work = Path(name) / "pack"
        work.mkdir()
        images = np.lib.format.open_memmap(
            work / "images.npy", mode="w+", dtype=np.uint8, shape=(len(items), size, size, 3)
        )
        kept: list[int] = []
        corrupt: list[str] = []
        landmarks, to_source = [], []
        for i, sample in enumerate(tqdm(items, desc="decoding", disable=not progress, unit="face")):
            points = np.asarray(sample.landmarks, dtype=np.float64)[:, :2]
            box = tight_boxes(points)
            if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
                raise ValueError(f"{sample.image}: the landmarks span no box: {box.tolist()}.")
            try:
                image = load_image(sample.image)
            except FileNotFoundError:
                raise
            except ImageFileError:
                corrupt.append(str(sample.image))
                continue
            check_inside(points, image.shape[1::-1], index=str(sample.image))
            centre, side = (box[:2] + box[2:]) / 2, float(margin * (box[2:] - box[:2]).max())
            images[len(kept)] = cut_crop(image, centre, np.array([side, side]), size)
            scale = side / size
            # packed pixel centre p <-> source: (p + 0.5) * scale + low - 0.5, low = centre + 0.5 - side / 2
            offset = 0.5 * scale + centre - side / 2
            landmarks.append((points - offset) / scale)
            to_source.append([scale, *offset])
            kept.append(i)
        images.flush()
        del images
        if len(kept) < len(items):
            full = np.load(work / "images.npy", mmap_mode="r")
            np.save(work / "short.npy", full[: len(kept)])
            del full
            (work / "short.npy").replace(work / "images.npy")
        n_landmarks = len(items[0].landmarks)
        np.savez(
            work / "samples.npz",
            landmarks=np.asarray(landmarks).reshape(len(kept), n_landmarks, 2),
            to_source=np.asarray(to_source).reshape(len(kept), 3),
        )
        (work / "header.json").write_text(json.dumps({"version": CACHE_VERSION, "kept": kept, "corrupt": corrupt}))
        try:
            work.rename(target)
        except OSError:
            if not (target / "header.json").is_file():  # another process may have been faster
                raise
