"""Images decoded once, faces cut out and packed into one array on disk that later runs map."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from asmnet._crops import cut_rectangle, tight_boxes
from asmnet._dataset import LandmarkDataset
from asmnet._images import load_image
from asmnet._options import check_counts
from asmnet._pose_labels import CONVENTION
from pose import conventions
from shape_models._array import as_numpy
from shape_models._options import check_flags, check_numbers
from shape_models.images import ImageFileError, check_inside

CACHE_VERSION = 2  # grows when what is in a cache changes: older ones are made anew


class FaceSample(Protocol):
    """A face of which a set is packed; `group` and `attributes` are used where it has them, as `LandmarkSample` has."""

    @property
    def image(self) -> Path | None: ...
    @property
    def landmarks(self) -> np.ndarray: ...


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


def default_cache() -> Path:
    """Return the folder for packed images: ASMNET_CACHE, or asmnet in the user's cache folder."""
    own = os.environ.get("ASMNET_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "asmnet"


def _key(samples: Sequence[FaceSample], size: int, margin: float) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {size} {margin!r}".encode())
    for sample in samples:
        path = Path(str(sample.image))
        try:
            stat = (path if path.is_file() else path.parent).stat()  # an image may lie in another file
            digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
        except OSError:
            digest.update(str(path).encode())
        digest.update(np.ascontiguousarray(sample.landmarks, dtype=np.float64).tobytes())
    # 80 bits: no two sets meet by chance.
    return digest.hexdigest()[:20]


# What a crop of 1.3 boxes needs that is enlarged by exp(0.12), turned by one standard deviation of 12 degrees and
# shifted by 0.08, as `Augmentation` draws them: 1.3 * 1.127 * (cos 12 + sin 12) + 2 * 0.08 = 1.90.
MARGIN = 1.9


def pack_faces(
    samples: Iterable[FaceSample],
    *,
    size: int = 256,
    margin: float = MARGIN,
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
    check_flags(skip_corrupt=skip_corrupt, progress=progress)
    check_counts(size=size)
    check_numbers(margin=margin, above=True)
    if mirror is None:
        scheme = getattr(samples, "scheme", None)
        mirror = None if scheme is None else scheme.mirror
    items = list(samples)
    if not items:
        raise ValueError("samples: got none; expected at least one face. Check the folder and the split.")
    if not all(hasattr(sample, "image") and hasattr(sample, "landmarks") for sample in items):
        got = type(items[0]).__name__
        raise TypeError(f"samples: got a set of {got}; expected samples with image and landmarks. Try load_landmarks.")
    without = [i for i, sample in enumerate(items) if sample.image is None]
    if without:
        raise ValueError(
            f"samples: {len(without)} have no image, the first is number {without[0]}; expected one for each."
        )
    counts = {as_numpy(sample.landmarks, f"samples[{i}].landmarks").shape for i, sample in enumerate(items)}
    if len(counts) > 1:
        raise ValueError(f"samples: got landmarks of shapes {sorted(counts)}; expected one for all.")
    folder = Path(cache) if cache is not None else default_cache()
    target = folder / _key(items, size, margin)
    if not (target / "header.json").is_file():
        _pack(items, target, size=size, margin=margin, progress=progress)
    header = json.loads((target / "header.json").read_text())
    if header["corrupt"]:
        if not skip_corrupt:
            raise CorruptImageError(header["corrupt"])
        shown = ", ".join(header["corrupt"][:5])
        warnings.warn(f"{len(header['corrupt'])} image file(s) skipped, they cannot be read: {shown}", stacklevel=2)
        if not header["kept"]:
            raise CorruptImageError(header["corrupt"])
    kept = header["kept"]
    images = np.load(target / "images.npy", mmap_mode="r")[: len(kept)]  # behind them is the room of corrupt ones
    with np.load(target / "samples.npz", allow_pickle=False) as arrays:
        landmarks, to_source = arrays["landmarks"], arrays["to_source"]
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


def _given_depths(items: Sequence[FaceSample], scales: np.ndarray) -> np.ndarray | None:
    """Return the depths (n, n_landmarks) of landmarks with a third coordinate, in packed pixels, 0 at the mean."""
    shapes = [np.asarray(item.landmarks, dtype=np.float64) for item in items]
    if not shapes or shapes[0].shape[-1] != 3:
        return None
    towards = np.stack(shapes)[..., 2]
    return np.asarray((np.nanmean(towards, axis=1, keepdims=True) - towards) / scales[:, None])


def given_rotations(items: Sequence[FaceSample]) -> np.ndarray | None:
    """Return the head rotations (n, 3, 3) that 300W-LP and AFLW2000-3D give (``Pose_Para``), None where there are none.

    NaN stands for faces without one.
    """
    names = ("pitch", "yaw", "roll", "tx", "ty", "tz", "scale")
    given = [getattr(item, "attributes", None) or {} for item in items]
    known = np.array([all(name in attributes for name in names) for attributes in given])
    if not known.any():
        return None
    out = np.full((len(items), 3, 3), np.nan)
    radians = np.array([[own[name] for name in names[:3]] for own, has in zip(given, known, strict=True) if has])
    out[known] = conventions.read(radians, CONVENTION).as_matrix()
    return out


def _pack(items: Sequence[FaceSample], target: Path, *, size: int, margin: float, progress: bool) -> None:
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
            images[len(kept)] = cut_rectangle(image, centre, np.array([side, side]), size)
            scale = side / size
            # packed pixel centre p <-> source: (p + 0.5) * scale + low - 0.5, low = centre + 0.5 - side / 2
            # Pixel i covers i - 0.5 to i + 0.5 in both images.
            offset = 0.5 * scale + centre - side / 2
            landmarks.append((points - offset) / scale)
            to_source.append([scale, *offset])
            kept.append(i)
        images.flush()
        del images
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
