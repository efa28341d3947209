"""Readers of landmark sets of one's own: a folder of landmark files, arrays in one file, ASMNet's folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from ..formats import LandmarkFile, LandmarkFileError, read_landmarks, read_npy
from ..landmarks import LandmarkScheme, get_scheme
from ._arrays import read_arrays
from ._index import Folder
from ._samples import Entry, LandmarkSample, LandmarkSamples

__all__ = ["read_asmnet", "read_landmark_arrays", "read_landmark_folder"]

_ONE = (".pts", ".asf", ".npy")
_MANY = (".tps", ".ljson")
_ASKED = (".csv", ".json", ".xml")


def read_landmark_folder(
    folder: str | os.PathLike,
    *,
    scheme: str | LandmarkScheme | None = None,
    extension: str | None = None,
    group: Callable[[Path], str] | None = None,
    **options: Any,
) -> LandmarkSamples:
    """Read a folder of landmark files, of any one format, with the images beside them.

    Files that hold one shape (``.pts``, ``.asf``, ``.npy``) are read when a sample is asked for, the others now.

    Parameters
    ----------
    folder : path
        Searched with all folders below it.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many.
    extension : str, optional
        Which files; needed for ``.csv``, ``.json`` and ``.xml``, and where the folder has two of the other kinds.
    group : callable, optional
        ``group(path)`` names the photograph or person of the image (or of the landmark file, where there is no image);
        by default the stem of the path.
    **options
        Options of the reader of the format, such as ``origin=0`` for ``.pts``.

    Returns
    -------
    LandmarkSamples
        The image is the one with the stem of the landmark file, or the one that the file names. The attributes are
        those of the file. Landmarks that are not pixels raise when they are read: see ``image_size=`` of the formats.

    Raises
    ------
    LandmarkFileError
        When the folder has no landmark files or two kinds of them and, when a sample is read, for a broken file.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, write_pts
    >>> from shape_models.datasets import read_landmark_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i, face in enumerate(make_faces(3, rng=0)):
    ...         write_pts(pathlib.Path(folder, f"anna_{i}.pts"), face)
    ...     samples = read_landmark_folder(folder, scheme="ibug68", group=lambda path: path.stem.split("_")[0])
    ...     samples, samples.groups, samples.shapes().shape
    (LandmarkSamples(3 samples, ibug68), ['anna', 'anna', 'anna'], (3, 68, 2))
    """
    root = Folder(folder)
    scheme = None if scheme is None else get_scheme(scheme)
    name = (lambda path: path.stem) if group is None else group
    kind = _extension(root, extension)
    entries = []
    for path in root.ending(kind):
        beside = root.image(path.parent, path.stem)
        if kind in _ONE:
            entries.append(Entry(beside, str(name(beside or path)), None, path))
            continue
        found = read_landmarks(path, scheme=scheme, extension=kind, **options)
        for file in found if isinstance(found, list) else [found]:
            image = beside
            if file.image_name:
                image = path.parent / PureWindowsPath(file.image_name).as_posix()
            entries.append(Entry(image, str(name(image or path)), None, file))

    def load(entry: Entry) -> LandmarkSample:
        file = entry.source
        if not isinstance(file, LandmarkFile):
            read = read_landmarks(file, scheme=scheme, extension=kind, **options)
            assert isinstance(read, LandmarkFile)
            file = read
        if file.frame in ("relative", "y_up"):
            raise LandmarkFileError(
                f"{file.path}: got landmarks in the frame {file.frame!r}; expected pixels. Put the image beside the "
                "file, or try image_size=."
            )
        box = file.attributes.get("box")
        attributes = {key: value for key, value in file.attributes.items() if key != "box"}
        return LandmarkSample(entry.image, file.points, box, attributes, entry.group, entry.split)

    return LandmarkSamples(entries, load, scheme=scheme)


def _extension(root: Folder, extension: str | None) -> str:
    if extension is None:
        kinds = [kind for kind in (*_ONE, *_MANY) if root.ending(kind)]
        if len(kinds) != 1:
            asked = [kind for kind in _ASKED if root.ending(kind)]
            found = ", ".join([*kinds, *asked]) or "no landmark files"
            raise LandmarkFileError(f"{root.root}: got {found}; expected files of one format. Try extension=.")
        return kinds[0]
    kind = extension.lower() if extension.startswith(".") else f".{extension.lower()}"
    if kind not in (*_ONE, *_MANY, *_ASKED) or not root.ending(kind):
        raise LandmarkFileError(f"{root.root}: got no landmark files of {extension!r}; expected some.")
    return kind


def read_landmark_arrays(
    path: str | os.PathLike,
    *,
    scheme: str | LandmarkScheme | None = None,
    images: str | os.PathLike | None = None,
    group: str | Callable[[str], str] | None = None,
) -> LandmarkSamples:
    """Read landmark sets kept as arrays in one ``.npz`` file.

    Parameters
    ----------
    path : path
        A ``.npz`` with ``shapes`` of (n, n_landmarks, 2 or 3), perhaps ``images``, the n names of the photographs, and
        other arrays; those of length n become attributes. Pickles are never opened.
    scheme : str or LandmarkScheme, optional
        What the landmarks are.
    images : path, optional
        The folder of the photographs; by default that of the file.
    group : str or callable, optional
        The array that names the photograph or person of each sample, or a function of the name of its photograph; by
        default that name itself, or the index where there are no names.

    Returns
    -------
    LandmarkSamples

    Raises
    ------
    LandmarkFileError
        For a file that is no ``.npz``, and for arrays of other shapes.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from shape_models.datasets import read_landmark_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "hands.npz")
    ...     np.savez(path, shapes=np.zeros((2, 56, 2)), images=["0001.jpg", "0021.jpg"], side=["l", "r"])
    ...     samples = read_landmark_arrays(path, group=lambda name: name[:3])
    >>> samples[1].image.name, samples.groups, samples[1].attributes
    ('0021.jpg', ['000', '002'], {'side': 'r'})
    """
    path = Path(path)
    scheme = None if scheme is None else get_scheme(scheme)
    arrays = read_arrays(path)
    shapes = arrays.pop("shapes", None)
    if (
        shapes is None
        or shapes.dtype.kind != "f"
        or shapes.ndim != 3
        or shapes.shape[2] not in (2, 3)
        or not shapes.size
    ):
        got = "none" if shapes is None else f"{shapes.dtype} of {shapes.shape}"
        raise LandmarkFileError(f"{path}, array shapes: got {got}; expected numbers of (n, n_landmarks, 2 or 3).")
    n = len(shapes)
    if scheme is not None and shapes.shape[1] != scheme.n_landmarks:
        raise LandmarkFileError(
            f"{path}: got {shapes.shape[1]} landmarks; expected {scheme.n_landmarks} ({scheme.name})."
        )
    names = arrays.pop("images", None)
    if names is not None and (names.shape != (n,) or names.dtype.kind != "U"):
        raise LandmarkFileError(f"{path}, array images: got {names.dtype} of {names.shape}; expected {n} names.")
    labels = [str(i) for i in range(n)] if names is None else [str(name) for name in names]
    if isinstance(group, str):
        if group not in arrays or arrays[group].shape != (n,):
            raise LandmarkFileError(
                f"{path}: got the arrays {', '.join(arrays) or '(none)'}; expected {group!r} of ({n},)."
            )
        groups = [str(value) for value in arrays[group]]
    else:
        groups = labels if group is None else [str(group(label)) for label in labels]
    folder = path.parent if images is None else Path(images)
    attributes = {name: array for name, array in arrays.items() if array.ndim and len(array) == n}
    entries = [Entry(None if names is None else folder / labels[i], groups[i], None, i) for i in range(n)]

    def load(entry: Entry) -> LandmarkSample:
        i = entry.source
        values = {name: array[i].item() if array.ndim == 1 else array[i] for name, array in attributes.items()}
        points = np.where(np.isnan(shapes[i]).any(axis=1, keepdims=True), np.nan, shapes[i])
        return LandmarkSample(entry.image, points, None, values, entry.group, entry.split)

    return LandmarkSamples(entries, load, scheme=scheme)


def read_asmnet(
    folder: str | os.PathLike,
    *,
    scheme: str | LandmarkScheme | None = None,
    group: Callable[[str], str] | None = None,
) -> LandmarkSamples:
    """Read the folders that ASMNet trains on: ``images``, ``annotations`` and perhaps ``pose``.

    Parameters
    ----------
    folder : path
        The folder that holds them. An annotation ``NAME.npy`` holds x and y in turn, in pixels of the crop of
        224 x 224 in ``images/NAME.jpg``; ``pose/NAME.npy`` three angles.
    scheme : str or LandmarkScheme, optional
        What the landmarks are.
    group : callable, optional
        ``group(name)`` names the photograph that a crop was made from; by default the name itself, which is not enough
        to keep the augmented copies of one photograph together.

    Returns
    -------
    LandmarkSamples
        The attribute ``"pose"`` holds the three angles as they are stored, where there are any.

    Raises
    ------
    LandmarkFileError
        When there are no annotations and, when a sample is read, for a broken one.

    References
    ----------
    A. P. Fard, H. Abdollahi, M. Mahoor, "ASMNet: a Lightweight Deep Neural Network for Face Alignment and Pose
    Estimation", CVPR Workshops 2021.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from shape_models import make_faces
    >>> from shape_models.datasets import read_asmnet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "annotations").mkdir()
    ...     np.save(pathlib.Path(folder, "annotations", "a_0.npy"), make_faces(1, rng=0).ravel())
    ...     samples = read_asmnet(folder, scheme="ibug68", group=lambda name: name.split("_")[0])
    ...     samples[0].group, samples[0].landmarks.shape, samples[0].attributes
    ('a', (68, 2), {})
    """
    root = Folder(folder)
    scheme = None if scheme is None else get_scheme(scheme)
    paths = [path for path in root.ending(".npy") if path.parent.name == "annotations"]
    if not paths:
        raise LandmarkFileError(f"{folder}: got no annotations/*.npy; expected the folders of ASMNet.")
    known = set(root.files)
    entries = []
    for path in paths:
        pose = path.parent.parent / "pose" / path.name
        source = (path, pose if pose in known else None)
        image = root.image(path.parent.parent / "images", path.stem)
        entries.append(Entry(image, path.stem if group is None else str(group(path.stem)), None, source))

    def load(entry: Entry) -> LandmarkSample:
        path, pose = entry.source
        attributes = {}
        if pose is not None:
            from ..formats._record import read_bytes
            from ..formats.npy import parse_array

            angles = parse_array(pose, read_bytes(pose))
            if angles.size != 3:
                raise LandmarkFileError(f"{pose}: got {angles.size} numbers; expected three angles.")
            attributes["pose"] = angles.ravel()
        return LandmarkSample(
            entry.image, read_npy(path, scheme=scheme).points, None, attributes, entry.group, entry.split
        )

    return LandmarkSamples(entries, load, scheme=scheme)
