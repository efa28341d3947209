"""Readers of the landmark sets that come as MATLAB files."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._mat73 import opened
from .._options import check_flags
from .._typing import PathLike
from ..formats import LandmarkFileError
from ..landmarks import COFW29, IBUG68
from ._index import Folder, archive
from ._mat5 import read_mat5
from ._samples import Entry, LandmarkSample, LandmarkSamples, entry_of

__all__ = ["read_300wlp", "read_aflw2000", "read_cofw"]

_POSE = ("pitch", "yaw", "roll", "tx", "ty", "tz", "scale")


def read_cofw(folder: PathLike, split: str | None = None) -> LandmarkSamples:
    """Read COFW: 1345 training and 507 test faces with 29 landmarks, each marked as occluded or not.

    Parameters
    ----------
    folder : path
        The folder in which ``COFW_train_color.mat`` and ``COFW_test_color.mat`` (or the grey ones, without
        ``_color``) are searched, or one such file. They are MATLAB v7.3, which needs h5py (extra ``[h5]``).
    split : {None, "train", "test"}, optional
        Which file; None reads both.

    Returns
    -------
    LandmarkSamples
        The first pixel, 1 in MATLAB, is 0 here. The images lie inside the file: `image` is its path and their number
        (``COFW_test_color.mat/12``), which `shape_models.images.read_image` reads; None where a file has none.
        ``"occluded"`` is a mask over the landmarks. The first 845 training faces are those of LFPW (``"lfpw"``).

    Raises
    ------
    LandmarkFileError
        When there is no such file, it is no HDF5, or its arrays are not those of COFW.
    ValueError
        For a split that does not exist.
    ImportError
        When h5py is not installed.

    References
    ----------
    X. P. Burgos-Artizzu, P. Perona, P. Dollár, "Robust Face Landmark Estimation under Occlusion", ICCV 2013.

    Examples
    --------
    >>> import h5py, numpy as np, tempfile, pathlib
    >>> from shape_models.datasets import read_cofw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with h5py.File(pathlib.Path(folder, "COFW_test_color.mat"), "w") as file:
    ...         file["phisT"], file["bboxesT"] = np.ones((87, 1)), np.array([[11.0], [21], [50], [60]])
    ...     sample = read_cofw(folder, split="test")[0]
    >>> sample.landmarks[0].tolist(), sample.box.tolist(), int(sample.attributes["occluded"].sum())
    ([0.0, 0.0], [10.0, 20.0, 60.0, 80.0], 29)
    """
    path = Path(folder)
    if path.is_file():
        part = "train" if "train" in path.name.lower() else "test"
        found = {part: path}
    else:
        root = Folder(folder)
        names = {part: root.named(f"COFW_{part}_color.mat", f"COFW_{part}.mat") for part in ("train", "test")}
        found = {part: name for part, name in names.items() if name is not None}
    entries: list[Entry] = []
    for part, name in found.items():
        shapes, boxes, pictures = _read_cofw_file(name, part)
        for i in range(len(shapes)):
            own, image = f"{part}/{i}", name / str(i) if pictures else None
            points = shapes[i, :58].reshape(2, 29).T - 1.0
            corner, size = boxes[i, :2] - 1.0, boxes[i, 2:]
            attributes = {"occluded": shapes[i, 58:] > 0.5, "lfpw": part == "train" and i < 845}
            box = np.concatenate([corner, corner + size])
            entries.append(entry_of(LandmarkSample(image, points, box, attributes, own, part, name=own)))
    expected = "COFW_train_color.mat or COFW_test_color.mat; expected COFW"
    return archive(folder, entries, expected, split=split, scheme=COFW29)


def _read_cofw_file(path: Path, part: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return (n, 87): x of all landmarks, y, occlusion; (n, 4): x, y, width, height; and whether there are images."""
    suffix = "Tr" if part == "train" else "T"
    arrays = []
    with opened(path, LandmarkFileError) as file:
        pictures = f"Is{suffix}" in file
        for key, rows in ((f"phis{suffix}", 87), (f"bboxes{suffix}", 4)):
            dataset = file.get(key)
            if getattr(dataset, "ndim", 0) != 2 or dataset.dtype.kind not in "fiu":
                raise LandmarkFileError(f"{path}: {key}: got no array of numbers; expected one, as in COFW.")
            if dataset.shape[0] != rows or not 0 < dataset.shape[1] < 1_000_000:
                raise LandmarkFileError(f"{path}: {key}: got shape {dataset.shape}; expected ({rows}, n).")
            arrays.append(dataset[()].astype(np.float64).T)
    if len(arrays[0]) != len(arrays[1]) or not all(np.isfinite(array).all() for array in arrays):
        raise LandmarkFileError(f"{path}: got {len(arrays[0])} shapes, {len(arrays[1])} boxes; expected finite pairs.")
    return arrays[0], arrays[1], pictures


def read_aflw2000(folder: PathLike, *, origin: float = 1) -> LandmarkSamples:
    """Read AFLW2000-3D: 2000 faces with 68 three-dimensional landmarks and the pose of a fitted model.

    Parameters
    ----------
    folder : path
        The folder with ``image00002.jpg``, ``image00002.mat`` and so on.
    origin : float
        The coordinate that the files give to the centre of the first pixel; 1, as in MATLAB. Code that takes the
        numbers as they stand means 0.

    Returns
    -------
    LandmarkSamples
        Landmarks of shape (68, 3): x to the right and y down in pixels, z towards the viewer, which makes a
        left-handed frame: negate z before using it with a camera. The attributes are ``"pitch"``, ``"yaw"``,
        ``"roll"`` in radians and ``"tx"``, ``"ty"``, ``"tz"``, ``"scale"``, as ``Pose_Para`` gives them.

    Raises
    ------
    LandmarkFileError
        When there are no such files and, when a sample is read, for one without ``pt3d_68`` or ``Pose_Para``.

    References
    ----------
    X. Zhu et al., "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016.

    Examples
    --------
    >>> import numpy as np, scipy.io, tempfile, pathlib
    >>> from shape_models.datasets import read_aflw2000
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     content = {"pt3d_68": np.ones((3, 68)), "Pose_Para": np.arange(7.0)[None] / 10}
    ...     scipy.io.savemat(pathlib.Path(folder, "image00002.mat"), content)
    ...     sample = read_aflw2000(folder)[0]
    >>> sample.landmarks[0].tolist(), float(sample.attributes["yaw"])
    ([0.0, 0.0, 1.0], 0.1)
    """
    root = Folder(folder)
    found = ((path, root.image(path.parent, path.stem)) for path in root.ending(".mat"))
    entries = [Entry(image, path.stem, None, path, root.name(path)) for path, image in found]
    load = partial(_load_aflw2000, origin=origin)
    return archive(folder, entries, ".mat files; expected AFLW2000-3D", load, scheme=IBUG68)


def _load_aflw2000(entry: Entry, *, origin: float) -> LandmarkSample:
    arrays = read_mat5(entry.source, {"pt3d_68": (3, 68), "Pose_Para": (1, 7)})
    points = arrays["pt3d_68"].T - [origin, origin, 0.0]
    return LandmarkSample(entry.image, points, None, _pose(arrays), entry.group, entry.split)


def read_300wlp(
    folder: PathLike, split: str | None = None, *, flipped: bool = True, origin: float = 1
) -> LandmarkSamples:
    """Read 300W-LP: faces of 300-W turned to large poses, with 68 landmarks and the pose of a fitted model.

    Parameters
    ----------
    folder : path
        The folder with ``AFW``, ``HELEN``, ``IBUG``, ``LFPW``, their ``_Flip`` copies, and ``landmarks``.
    split : {None, "AFW", "HELEN", "IBUG", "LFPW"}, optional
        One of the parts, with its flipped copies.
    flipped : bool
        Also give the mirrored copies of the ``_Flip`` folders.
    origin : float
        The coordinate that the files give to the centre of the first pixel; 1, as in MATLAB.

    Returns
    -------
    LandmarkSamples
        Landmarks of shape (68, 2): ``pts_3d`` of ``landmarks/PART/NAME_pts.mat`` where it is there (the projected
        points of the model), else ``pt2d`` of the ``.mat`` beside the image. The attributes are those of
        `read_aflw2000` and ``"flipped"``. The group is the source image, the same for all poses made from it.

    Raises
    ------
    LandmarkFileError
        When there are no such files and, when a sample is read, for one without its arrays.
    ValueError
        For a split that does not exist.

    References
    ----------
    X. Zhu et al., "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016.

    Examples
    --------
    >>> import numpy as np, scipy.io, tempfile, pathlib
    >>> from shape_models.datasets import read_300wlp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "AFW").mkdir()
    ...     content = {"pt2d": np.ones((2, 68)), "Pose_Para": np.zeros((1, 7))}
    ...     scipy.io.savemat(pathlib.Path(folder, "AFW", "AFW_134212_1_3.mat"), content)
    ...     sample = read_300wlp(folder)[0]
    >>> sample.group, sample.split, sample.landmarks.shape
    ('AFW_134212', 'AFW', (68, 2))
    """
    check_flags(flipped=flipped)
    root = Folder(folder)
    entries = []
    known = set(root.files)
    for path in root.ending(".mat"):
        match = re.fullmatch(r"(AFW|HELEN|IBUG|LFPW)(_Flip)?", path.parent.name)
        if match is None or path.parent.parent != root.root or (match[2] and not flipped):
            continue
        # PART_photograph_face_pose, except LFPW_image_train_photograph_pose, one face each
        stem = path.stem.rsplit("_", 1)[0]
        group = stem if match[1] == "LFPW" else re.sub(r"(?<=\d)_\d+$", "", stem)
        points = root.root / "landmarks" / path.parent.name / f"{path.stem}_pts.mat"
        source = (path, points if points in known else None, bool(match[2]))
        entries.append(Entry(root.image(path.parent, path.stem), group, match[1], source, root.name(path)))
    expected, load = ".mat files in AFW, HELEN, IBUG or LFPW; expected 300W-LP", partial(_load_300wlp, origin=origin)
    return archive(folder, entries, expected, load, split=split, scheme=IBUG68)


def _load_300wlp(entry: Entry, *, origin: float) -> LandmarkSample:
    path, points_path, mirrored = entry.source
    if points_path is None:
        arrays = read_mat5(path, {"pt2d": (2, 68), "Pose_Para": (1, 7)})
        points = arrays["pt2d"].T
    else:
        arrays = read_mat5(path, {"Pose_Para": (1, 7)})
        points = read_mat5(points_path, {"pts_3d": (68, 2)})["pts_3d"]
    attributes = {**_pose(arrays), "flipped": mirrored}
    return LandmarkSample(entry.image, points - origin, None, attributes, entry.group, entry.split)


def _pose(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return dict(zip(_POSE, arrays["Pose_Para"][0].tolist(), strict=True))
