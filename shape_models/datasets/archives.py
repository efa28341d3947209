"""Readers of public landmark sets in their original layouts. Images are found, never opened."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from .._names import plain_name
from .._options import check_flags
from .._typing import PathLike
from ..formats import LandmarkFile, LandmarkFileError, read_asf, read_csv, read_pts
from ..formats._source import Source
from ..landmarks import IBUG68, IMM58, MUCT68, MUCT76, WFLW98
from ._arrays import read_arrays
from ._ibug import read_300w
from ._index import Folder, archive
from ._samples import Entry, LandmarkSample, LandmarkSamples, entry_of

__all__ = ["read_300w", "read_helen", "read_imm", "read_muct", "read_wflw", "read_youtube68"]

_WFLW_ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")


def read_wflw(folder: PathLike, split: str | None = None) -> LandmarkSamples:
    """Read WFLW: 10 000 faces with 98 landmarks, a box and six attributes.

    Parameters
    ----------
    folder : path
        The folder with ``WFLW_images`` and ``WFLW_annotations`` (its lists ``list_98pt_rect_attr_train.txt`` and
        ``..._test.txt`` are searched below it). Or a ``.npz`` with arrays ``shapes``, ``box`` and ``attributes``
        of the test set, reduced to 68 landmarks.
    split : {None, "train", "test"}, optional
        Which list; None reads both.

    Returns
    -------
    LandmarkSamples
        Pixels as in the lists, from 0. The box is x0, y0, x1, y1. The attributes ``"pose"``, ``"expression"``,
        ``"illumination"``, ``"make-up"``, ``"occlusion"`` and ``"blur"`` are booleans, True for the hard case; they
        name the test subsets. The group is the image.

    Raises
    ------
    LandmarkFileError
        When no list is found and, when a sample is read, for a line without its 207 fields.
    ValueError
        For a split that does not exist.

    References
    ----------
    W. Wu et al., "Look at Boundary: A Boundary-Aware Face Alignment Algorithm", CVPR 2018.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces
    >>> from shape_models.datasets import read_wflw
    >>> face = make_faces(1, scheme="wflw98", rng=0)[0].ravel()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     line = " ".join(map(str, face)) + " 30 40 220 210 0 1 0 0 0 0 party/a.jpg"
    ...     _ = pathlib.Path(folder, "list_98pt_rect_attr_test.txt").write_text(line)
    ...     sample = read_wflw(folder, split="test")[0]
    >>> sample.attributes["expression"], sample.box.tolist(), sample.group
    (True, [30.0, 40.0, 220.0, 210.0], 'party/a.jpg')
    """
    if Path(folder).suffix.lower() == ".npz":
        return _wflw_reduced(Path(folder), split)
    root = Folder(folder)
    entries = []
    for part in ("train", "test"):
        path = root.named(f"list_98pt_rect_attr_{part}.txt")
        if path is None:
            continue
        source = Source(path)
        for line, text in source.lines():
            name = text.split(None, 206)[-1]
            image = root.root / "WFLW_images" / name
            entries.append(Entry(image, name, part, (str(path), line, text), plain_name(name)))
    expected = "list_98pt_rect_attr_train.txt or ..._test.txt; expected WFLW"
    return archive(folder, entries, expected, _load_wflw, split=split, scheme=WFLW98)


def _load_wflw(entry: Entry) -> LandmarkSample:
    path, line, text = entry.source
    source = Source(path, text="")
    fields = text.split(None, 206)
    if len(fields) != 207:
        raise source.error(f"got {len(fields)} fields; expected 196 coordinates, a box, 6 attributes, an image.", line)
    numbers = source.numbers(fields[:206], [f"field {i + 1}" for i in range(206)], line)
    flags = numbers[200:206]
    if not set(flags) <= {0.0, 1.0}:
        raise source.error(f"attributes: got {' '.join(fields[200:206])}; expected six of 0 or 1.", line)
    attributes = dict(zip(_WFLW_ATTRIBUTES, map(bool, flags), strict=True))
    points = np.reshape(numbers[:196], (98, 2))
    return LandmarkSample(entry.image, points, np.array(numbers[196:200]), attributes, entry.group, entry.split)


def _wflw_reduced(path: Path, split: str | None) -> LandmarkSamples:
    arrays = read_arrays(path, {"shapes": (None, 68, 2), "box": (None, 4), "attributes": (None, 6)})

    rows = zip(arrays["shapes"], arrays["box"], arrays["attributes"] != 0, strict=True)
    entries = []
    for name, (points, box, flags) in zip(map(str, range(len(arrays["box"]))), rows, strict=True):
        attributes = dict(zip(_WFLW_ATTRIBUTES, flags.tolist(), strict=True))
        entries.append(entry_of(LandmarkSample(None, points, box, attributes, name, "test", name=name)))
    return archive(path, entries, "shapes; expected WFLW", split=split, scheme=IBUG68, named=False)


def read_helen(folder: PathLike, split: str | None = None, *, origin: float = 0) -> LandmarkSamples:
    r"""Read HELEN with its own 194 landmarks (the re-annotation with 68 belongs to 300-W).

    Parameters
    ----------
    folder : path
        The folder in which the annotations (``1.txt`` ...: the name of the image, then 194 lines ``x , y``), the images
        and, for the splits, ``trainnames.txt`` and ``testnames.txt`` are searched.
    split : {None, "train", "test"}, optional
        Which list; None reads all annotations.
    origin : float
        The coordinate that the files give to the centre of the first pixel; the archive does not say it.

    Returns
    -------
    LandmarkSamples
        Without a scheme. The group is the image.

    Raises
    ------
    LandmarkFileError
        When there are no annotations and, when a sample is read, for a file without 194 points.
    ValueError
        For a split that does not exist.

    References
    ----------
    V. Le et al., "Interactive Facial Feature Localization", ECCV 2012.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.datasets import read_helen
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "1.txt").write_text("232194_1\n" + "10.5 , 20.25\n" * 194)
    ...     sample = read_helen(folder)[0]
    >>> sample.group, sample.landmarks.shape, sample.landmarks[0].tolist()
    ('232194_1', (194, 2), [10.5, 20.25])
    """
    root = Folder(folder)
    splits: dict[str, str] = {}
    for part in ("train", "test"):
        path = root.named(f"{part}names.txt")
        if path is not None:
            splits |= {line: part for _, line in Source(path).lines()}
    entries = []
    for path in root.ending(".txt"):
        if path.stem.isdigit():
            source = Source(path)
            lines = list(source.lines())
            if not lines:
                raise source.error("got an empty file; expected the name of the image and 194 points.")
            name = lines[0][1].removesuffix(".jpg")
            image, rows = root.image_anywhere(name), (str(path), lines[1:])
            entries.append(Entry(image, name, splits.get(name), rows, plain_name(name)))
    load = partial(_load_helen, origin=origin)
    return archive(folder, entries, "annotation 1.txt ...; expected HELEN", load, split=split)


def _load_helen(entry: Entry, *, origin: float) -> LandmarkSample:
    path, lines = entry.source
    source = Source(path, text="")
    points = []
    for line, text in lines:
        fields = [field.strip() for field in text.split(",")]
        if len(fields) != 2:
            raise source.error(f"got {len(fields)} fields; expected x , y.", line)
        points.append([source.number(token, axis, line) for axis, token in zip("xy", fields, strict=True)])
    if len(points) != 194:
        raise source.error(f"got {len(points)} points; expected 194.")
    return LandmarkSample(entry.image, np.array(points) - origin, None, {}, entry.group, entry.split)


def read_muct(folder: PathLike, *, mirrored: bool = False) -> LandmarkSamples:
    r"""Read MUCT: studio portraits by five cameras with 76 landmarks, or the first 68 of them.

    Parameters
    ----------
    folder : path
        The table (``muct76-opencv.csv`` or one of 68 landmarks in the same layout), or a folder in which it is
        searched; images are looked for there by name.
    mirrored : bool
        Also give the mirrored copies that the table holds (names ``ir...``).

    Returns
    -------
    LandmarkSamples
        The scheme is MUCT76 or MUCT68, whose order is not iBUG's. Landmarks at (0, 0) are missing: NaN. The group is
        the person. The attributes are ``"name"``, ``"person"``, ``"session"``, ``"camera"``, ``"sex"``,
        ``"glasses"`` (all read off the name; None where it does not say), ``"mirrored"`` and ``"tag"``.

    Raises
    ------
    LandmarkFileError
        When there is no table, or a line of it is wrong.

    References
    ----------
    S. Milborrow, J. Morkel, F. Nicolls, "The MUCT Landmarked Face Database", Pattern Recognition Association of South
    Africa, 2010.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.datasets import read_muct
    >>> header = "name,tag," + ",".join(f"x{i:02d},y{i:02d}" for i in range(76))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = "i000qa-fn,0000," + ",".join("0,0" if i == 14 else "201,348" for i in range(76))
    ...     _ = pathlib.Path(folder, "muct76-opencv.csv").write_text(f"{header}\n{row}\n")
    ...     sample = read_muct(folder)[0]
    >>> sample.group, sample.attributes["camera"], sample.landmarks[[13, 14]].tolist()
    ('000', 'a', [[201.0, 348.0], [nan, nan]])
    """
    check_flags(mirrored=mirrored)
    path, root = Path(folder), None
    if not path.is_file():
        root = Folder(folder)
        found = root.named("muct76-opencv.csv", "muct68_opencv.csv", "muct68-opencv.csv")
        if found is None:
            raise LandmarkFileError(f"{folder}: got no muct76-opencv.csv; expected MUCT.")
        path = found
    files = read_csv(path, missing="zero")
    n = len(files[0])
    if n not in (68, 76):
        raise LandmarkFileError(f"{path}: got {n} landmarks; expected 76, or the first 68 of them.")
    entries = []
    for file in files:
        name = file.image_name or ""
        match = re.fullmatch(r"i(r?)(\d{3})([a-z])([a-e])-([fm])([a-z0-9])", name)
        if match is None:
            raise LandmarkFileError(f"{path}: name: got {name!r}; expected one like i000qa-fn.")
        if match[1] and not mirrored:
            continue
        image = None if root is None else root.image_anywhere(name)
        flipped, person, session, camera, sex, glasses = match.groups()
        attributes = {"name": name, "person": person, "session": session, "camera": camera, "sex": sex}
        attributes |= {"glasses": {"g": True, "n": False}.get(glasses), "mirrored": bool(flipped)}
        attributes["tag"] = file.attributes.get("tag")
        sample = LandmarkSample(image, file.points, None, attributes, person, name=plain_name(name))
        entries.append(entry_of(sample))
    return archive(path, entries, "faces; expected MUCT", scheme=MUCT76 if n == 76 else MUCT68)


def read_imm(folder: PathLike, *, origin: float = 1) -> LandmarkSamples:
    """Read the IMM face database: 40 persons, six portraits each, 58 landmarks.

    Parameters
    ----------
    folder : path
        The folder with images and their ``.asf`` files (the archive), or ``.pts`` files.
    origin : float
        Of ``.pts`` files, the coordinate of the centre of the first pixel.

    Returns
    -------
    LandmarkSamples
        Pixels; ``.asf`` files need their images beside them. The group is the person. The attributes are
        ``"person"``, ``"pose"`` (1 frontal, 2 smiling, 3 turned to the subject's right, 4 to the left, 5 under a spot
        light, 6 any expression) and ``"sex"``, read off the name.

    Raises
    ------
    LandmarkFileError
        When there are no such files, a name is not of the archive and, when a sample is read, for a broken file.

    References
    ----------
    M. M. Nordstrøm et al., "The IMM Face Database - An Annotated Dataset of 240 Face Images", Technical University of
    Denmark, 2004.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, write_pts
    >>> from shape_models.datasets import read_imm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pts(pathlib.Path(folder, "07-2f.pts"), make_faces(1, scheme="imm58", rng=0)[0])
    ...     sample = read_imm(folder)[0]
    >>> sample.group, sample.attributes["pose"], sample.attributes["sex"]
    ('07', 2, 'f')
    """
    root = Folder(folder)
    entries = []
    for path in root.ending(".asf") or root.ending(".pts"):
        match = re.fullmatch(r"(\d+)-(\d)([fm])", path.stem)
        if match is None:
            raise LandmarkFileError(f"{path}: got this name; expected person-pose-sex, such as 01-1m.")
        image = root.image(path.parent, path.stem)
        entries.append(Entry(image, match[1], None, (path, match.groups()), root.name(path)))
    expected = ".asf or .pts files; expected the IMM face database"
    return archive(folder, entries, expected, partial(_load_imm, origin=origin), scheme=IMM58)


def _load_imm(entry: Entry, *, origin: float) -> LandmarkSample:
    path, (person, pose, sex) = entry.source
    file: LandmarkFile
    if path.suffix.lower() == ".asf":
        file = read_asf(path, scheme=IMM58)
        if file.frame != "pixels":
            raise LandmarkFileError(f"{path}: got relative coordinates and no image to scale them; expected one.")
    else:
        file = read_pts(path, origin=origin, scheme=IMM58)
    attributes = {"person": person, "pose": int(pose), "sex": sex}
    return LandmarkSample(entry.image, file.points, None, attributes, entry.group, entry.split)


def read_youtube68(folder: PathLike, split: str | None = None) -> LandmarkSamples:
    """Read frames of YouTube Faces with 68 machine-made landmarks, listed in one table.

    Parameters
    ----------
    folder : path
        The folder with ``keypoints.csv`` (columns image, person, clip, split, x0, y0, ...) and ``images``.
    split : str, optional
        One of the names in the column split; None reads all.

    Returns
    -------
    LandmarkSamples
        Pixels from 0. The group is the person; the attributes are ``"person"`` and ``"clip"``. The landmarks come from
        a detector: good for volume, not as a yardstick.

    Raises
    ------
    LandmarkFileError
        When the table is missing or a line of it is wrong.
    ValueError
        For a split that does not exist.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import LandmarkFile, make_faces, write_landmarks
    >>> from shape_models.datasets import read_youtube68
    >>> row = {"person": "A_B", "clip": "0", "split": "val"}
    >>> face = LandmarkFile(make_faces(1, rng=0)[0], image_name="a.jpg", attributes=row)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_landmarks(pathlib.Path(folder, "keypoints.csv"), [face], columns=list(row))
    ...     samples = read_youtube68(folder, split="val")
    >>> samples[0].group, samples[0].image.name
    ('A_B', 'a.jpg')
    """
    path = Path(folder) / "keypoints.csv"
    entries: list[Entry] = []
    for file in read_csv(path, scheme=IBUG68):
        for column in ("person", "clip", "split"):
            if column not in file.attributes:
                raise LandmarkFileError(f"{path}: got no column {column!r}; expected image, person, clip, split, x0.")
        image = None if file.image_name is None else Path(folder) / "images" / file.image_name
        person, part = file.attributes["person"], file.attributes["split"]
        attributes = {"person": person, "clip": file.attributes["clip"]}
        name = plain_name(file.image_name or f"{path.stem}#{len(entries)}")
        entries.append(entry_of(LandmarkSample(image, file.points, None, attributes, person, part, name=name)))
    return archive(folder, entries, "rows in keypoints.csv; expected YouTube-68", split=split, scheme=IBUG68)
