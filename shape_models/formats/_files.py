"""Choose the reader or writer of a landmark file by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._names import list_files
from .._options import as_path
from .._scheme import SchemeLike
from .._typing import PathLike
from ..landmarks import get_scheme
from ._record import LandmarkFile, LandmarksLike
from ._registry import FOREIGN_ENDINGS, OWN, READERS, WRITERS, options_of
from ._registry import ONE as _ONE
from ._source import LandmarkFileError


def read_landmarks(
    path: PathLike, *, scheme: SchemeLike | None = None, extension: str | None = None, **options: Any
) -> LandmarkFile | list[LandmarkFile]:
    """Read a landmark file of any known format, or all of a folder.

    What an ending leaves open is decided by the content of the file, and a file of a program that no reader is for is
    called by its name.

    ================== ======================================================== =============================
    ending             formats                                                  result
    ================== ======================================================== =============================
    ``.pts``           iBUG; IDAV Landmark Editor                               one
    ``.asf``           IMM, DTU                                                 one
    ``.npy``           one array, ASMNet                                        one
    ``.tps``           tpsDig, with curves and outlines                         list
    ``.ljson``         menpo, versions 1 to 3                                   list
    ``.nts`` ``.dta``  NTSYS; IDAV Landmark Editor                              list
    ``.land``          IDAV Landmark Editor                                     one
    ``.fcsv``          3D Slicer                                                list
    ``.csv`` ``.tsv``  tables, also of R, MorphoJ and geomorph; OpenFace;       list
                       DeepLabCut; VGG Image Annotator
    ``.json``          COCO and its result lists; LabelMe; 3D Slicer            list, of Scalismo one
                       (``.mrk.json``); VGG Image Annotator; Scalismo; menpo
    ``.xml``           dlib imglab; CVAT                                        list
    ``.txt``           points one a line or numbers one below the other;        one, of tables a list
                       tables; StereoMorph; what belongs into .pts or .tps
    ``.ply``           vertices                                                 one
    ``.h5``            DeepLabCut, where h5py is there                          list
    ================== ======================================================== =============================

    All take `missing`; the other options are those of the reader (`read_csv`, `read_slicer` ...).

    Parameters
    ----------
    path : path
        A file, or a folder that is searched with all folders below it, hidden ones excepted.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; every shape must have as many.
    extension : str, optional
        Read the file as one of this extension, or only such files of a folder. Without it a folder may hold one of
        ``.pts``, ``.asf``, ``.tps``, ``.ljson``, ``.npy``, ``.nts``, ``.fcsv`` and ``.land`` beside whatever else, but
        not two of them.
    **options
        Options of the reader of the format, such as ``origin=0``; see there.

    Returns
    -------
    LandmarkFile or list of LandmarkFile
        A list from a folder (in natural order: ``im_2`` before ``im_10``) and from the formats that can hold several
        shapes, also when there is only one.

    Raises
    ------
    LandmarkFileError
        With the file, the line and the field; for an unknown extension, and a folder without landmarks.
    TypeError
        For an option that the format does not have.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, read_landmarks, write_landmarks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i, face in enumerate(make_faces(3, rng=0)):
    ...         write_landmarks(pathlib.Path(folder, f"{i}.pts"), face)
    ...     files = read_landmarks(folder, scheme="ibug68")
    >>> len(files), files[2].path.name, files[2].points.shape
    (3, '2.pts', (68, 2))
    """
    path = as_path(path)
    if scheme is not None:
        options["scheme"] = get_scheme(scheme)
    wanted = None if extension is None else extension_of(path, extension, READERS)
    if not path.is_dir():
        return _read(path, wanted or extension_of(path, path.suffix, READERS), options)
    found: dict[str, list[Path]] = {}
    for candidate in list_files(path):
        suffix = candidate.suffix.lower()
        if suffix == wanted or (wanted is None and suffix in OWN):
            found.setdefault(suffix, []).append(candidate)
    if not found:
        raise LandmarkFileError(f"{path}: got no file of {wanted or ', '.join(OWN)} in this folder; expected some.")
    if len(found) > 1:
        raise LandmarkFileError(f"{path}: got files of {', '.join(sorted(found))}; expected one. Try extension=.")
    files: list[LandmarkFile] = []
    for suffix, candidates in found.items():
        for candidate in candidates:
            result = _read(candidate, suffix, options)
            files.extend(result if isinstance(result, list) else [result])
    return files


def extension_of(path: Path, extension: str, known: dict[str, Callable[..., Any]]) -> str:
    suffix = extension.lower() if extension.startswith(".") else f".{extension.lower()}"
    if suffix not in known:
        problem = f"got the extension {extension!r}; expected one of {', '.join(known)}"
        if suffix in FOREIGN_ENDINGS and known is READERS:
            problem = f"this looks like {FOREIGN_ENDINGS[suffix]}"
        if path.suffix == extension and not path.exists() and known is READERS:
            problem = f"got no such file or folder, and the extension {extension!r}"
        raise LandmarkFileError(f"{path}: {problem}.")
    return suffix


def _options(function: Callable[..., Any], options: dict[str, Any], suffix: str) -> dict[str, Any]:
    known = options_of(function)
    for name in options:
        if name not in known:
            raise TypeError(f"got the option {name!r}, which {suffix} lacks; expected {', '.join(sorted(known))}.")
    return options


def _read(path: Path, suffix: str, options: dict[str, Any]) -> LandmarkFile | list[LandmarkFile]:
    reader = READERS[suffix]
    return reader(path, **_options(reader, options, suffix))


def write_landmarks(path: PathLike, landmarks: LandmarksLike, **options: Any) -> None:
    """Write a landmark file in the format that its extension names.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all. The extensions are those of `read_landmarks`.
    landmarks : LandmarkFile, list of LandmarkFile, or array_like
        One shape of (n_landmarks, n_dims); for formats that can hold several also a list or an array of
        (n, n_landmarks, n_dims).
    **options
        Options of the writer of the format, such as ``origin=0`` or ``image_size=(640, 480)``.

    Raises
    ------
    LandmarkFileError
        For an unknown extension, several shapes for a format that holds one, and all that the writer refuses.
    TypeError
        For an option that the format does not have.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models import make_faces, read_landmarks, write_landmarks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "faces.csv")
    ...     write_landmarks(path, make_faces(10, rng=0))
    ...     len(read_landmarks(path))
    10
    """
    path = as_path(path)
    suffix = extension_of(path, path.suffix, WRITERS)
    if suffix in _ONE and isinstance(landmarks, list | tuple) and any(isinstance(f, LandmarkFile) for f in landmarks):
        if len(landmarks) != 1:
            raise LandmarkFileError(f"{path}: got {len(landmarks)} shapes; this format holds one. Try .csv or .tps.")
        landmarks = landmarks[0]
    writer = WRITERS[suffix]
    writer(path, landmarks, **_options(writer, options, suffix))
