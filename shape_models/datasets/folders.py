"""The folders that ASMNet trains on."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .._scheme import SchemeLike
from .._typing import PathLike
from ..formats import LandmarkFileError, read_npy
from ..formats._record import Missing
from ..formats._source import read_bytes
from ..formats.npy import parse_array
from ..landmarks import LandmarkScheme, get_scheme
from ._index import Folder, archive
from ._samples import Entry, LandmarkSample, LandmarkSamples

__all__ = ["read_asmnet"]


def read_asmnet(
    folder: PathLike,
    *,
    scheme: SchemeLike | None = None,
    group: str | Callable[[str], str] | None = None,
    missing: Missing = None,
) -> LandmarkSamples:
    """Read the folders that ASMNet trains on: ``images``, ``annotations`` and perhaps ``pose``.

    Parameters
    ----------
    folder : path
        The folder that holds them. An annotation ``NAME.npy`` holds x and y in turn, in pixels of the crop of
        224 x 224 in ``images/NAME.jpg``; ``pose/NAME.npy`` three angles.
    scheme : str or LandmarkScheme, optional
        What the landmarks are.
    group : str or callable, optional
        ``group(name)`` names the image that a crop was made from, or a regular expression does that begins the name:
        ``".+_"`` or, where the crops are numbered after the image, ``"[^_]+"``. By default the name itself, which is
        not enough to keep the augmented copies of one image together.
    missing : optional
        What marks a missing landmark, as in `read_npy`.

    Returns
    -------
    LandmarkSamples
        The attribute ``"pose"`` holds the three angles as they are stored, where there are any.

    Raises
    ------
    LandmarkFileError
        When there are no annotations and, when a sample is read, for a broken one.
    ValueError
        For a regular expression that is none, or that a name does not begin with.

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
    ...     samples = read_asmnet(folder, scheme="ibug68", group="[^_]+")
    ...     samples[0].group, samples[0].landmarks.shape, samples[0].attributes
    ('a', (68, 2), {})
    """
    root = Folder(folder)
    scheme = None if scheme is None else get_scheme(scheme)
    paths = [path for path in root.ending(".npy") if path.parent.name == "annotations"]
    known = set(root.files)
    entries = []
    for path in paths:
        pose = path.parent.parent / "pose" / path.name
        source = (path, pose if pose in known else None)
        image = root.image(path.parent.parent / "images", path.stem)
        group_name = _group(path.stem, group)
        own = (path.parent.parent / path.stem).relative_to(root.root).as_posix()
        entries.append(Entry(image, group_name, None, source, own))
    load = partial(_load_asmnet, missing=missing, scheme=scheme)
    return archive(folder, entries, "annotations/*.npy; expected the folders of ASMNet", load, scheme=scheme)


def _group(name: str, group: str | Callable[[str], str] | None) -> str:
    if group is None:
        return name
    if callable(group):
        return str(group(name))
    try:
        found = re.match(group, name)
    except (re.error, TypeError):
        raise ValueError(f"group: got {group!r}; expected a regular expression, such as '[^_]+'.") from None
    if not found or not found[0]:
        raise ValueError(f"group: got {group!r}, with which {name!r} does not begin; expected what names the image.")
    return found[0]


def _load_asmnet(entry: Entry, *, missing: Missing, scheme: LandmarkScheme | None) -> LandmarkSample:
    path, pose = entry.source
    attributes = {}
    if pose is not None:
        angles = parse_array(pose, read_bytes(pose))
        if angles.size != 3:
            raise LandmarkFileError(f"{pose}: got {angles.size} numbers; expected three angles.")
        attributes["pose"] = angles.ravel()
    points = read_npy(path, missing=missing, scheme=scheme).points
    return LandmarkSample(entry.image, points, None, attributes, entry.group, entry.split)
