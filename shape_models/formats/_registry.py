"""Which reader takes a file: by the ending of its name, and by its content where an ending says too little."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .._names import few
from .._typing import PathLike
from ._record import LandmarkFile
from ._source import LandmarkFileError, Source, shorten
from ._xml import root_of
from .asf import read_asf, write_asf
from .coco import read_coco, write_coco
from .csv import read_csv, write_csv
from .cvat_xml import read_cvat_xml
from .deeplabcut import read_deeplabcut
from .dlib_xml import read_dlib_xml, write_dlib_xml
from .labelme import read_labelme
from .ljson import read_ljson, write_ljson
from .npy import read_npy, write_npy
from .nts import read_nts
from .openface import is_openface, read_openface
from .ply import read_ply
from .pts import read_pts, write_pts
from .scalismo import read_scalismo
from .slicer import read_slicer, write_slicer
from .stereomorph import is_stereomorph, read_stereomorph
from .tps import read_tps, write_tps
from .txt import read_txt
from .via import read_via

Reader = Callable[..., LandmarkFile | list[LandmarkFile]]
_HEADER_WORD = re.compile(r"[xyz]|[xyz][_ .]?[0-9]+|[0-9]+[_ .][xyz]|.+[_ .][xyz]", re.IGNORECASE)
# What files of other programs hold and what to do with them: by their ending, the keys of a JSON object, the XML root.
_FOREIGN = json.loads(Path(__file__).with_name("_foreign.json").read_text(encoding="utf-8"))
FOREIGN_ENDINGS: dict[str, str] = _FOREIGN["endings"]


def options_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of what a reader or writer can be told."""
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


class ByContent:
    """A reader that looks into a file and hands it to the reader of its format.

    Parameters
    ----------
    choose : callable
        Takes an open `Source` and returns the reader.
    readers : sequence of callable
        All that it may return; their options together are its own.
    """

    def __init__(self, choose: Callable[[Source], Reader], readers: Sequence[Reader]) -> None:
        self._choose = choose
        parameters = {p.name: p for reader in readers for p in inspect.signature(reader).parameters.values()}
        self.__signature__ = inspect.Signature(sorted(parameters.values(), key=lambda p: p.kind))

    def __call__(self, path: PathLike, **options: Any) -> LandmarkFile | list[LandmarkFile]:
        source = Source.of(path)
        reader = self._choose(source)
        for name in options:
            if name not in options_of(reader):
                kind = reader.__name__.removeprefix("read_")
                raise source.error(
                    f"got the option {name!r}, which files of this kind ({kind}) do not have. "
                    f"Try {', '.join(sorted(options_of(reader)))}."
                )
        return reader(source, **options)


def _choose_json(source: Source) -> Reader:
    content: Any = source.json
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict):
        if "coordinates" in first and "id" in first:
            return read_scalismo
        if "data" in first and ("annotations" in first or "predictions" in first or "completions" in first):
            raise _foreign(source, "a Label Studio export. Try exporting it as COCO")
        if "annotator" in first and "lead_time" in first:
            raise _foreign(source, "a Label Studio export (JSON-MIN). Try exporting it as COCO")
    if not isinstance(content, dict):
        if content and not (isinstance(first, dict) and first.keys() & {"image_id", "keypoints", "face_kpts"}):
            raise _unknown(source, "a list that is none of COCO results")
        return read_coco
    for keys, what in _FOREIGN["objects"]:
        if content.keys() >= set(keys) and (keys != ["type"] or content["type"] in ("FeatureCollection", "Feature")):
            raise _foreign(source, what)
    if "markups" in content:
        return read_slicer
    if "shapes" in content and ("imagePath" in content or isinstance(content.get("version"), str)):
        return read_labelme
    if "_via_img_metadata" in content or {"project", "metadata", "file"} <= content.keys():
        return read_via
    if "annotations" not in content and content:
        if all(isinstance(value, dict) and {"filename", "regions"} <= value.keys() for value in content.values()):
            return read_via
        if "version" in content:
            return read_ljson
        raise _unknown(source, f"an object of {few([shorten(str(key)) for key in content], 4)}")
    return read_coco


def _unknown(source: Source, what: str) -> LandmarkFileError:
    return source.error(
        f"got {what}; expected COCO keypoints, LabelMe, VIA, Slicer, scalismo or ljson. Try write_landmarks of the "
        "points as .csv or .npy."
    )


def _foreign(source: Source, what: str) -> LandmarkFileError:
    return source.error(f"this looks like {what}.")


def _choose_xml(source: Source) -> Reader:
    root = root_of(source)
    if root in _FOREIGN["roots"]:
        raise _foreign(source, _FOREIGN["roots"][root])
    return read_cvat_xml if root == "annotations" else read_dlib_xml


def _first_line(source: Source) -> str:
    return next((line for _, line in source.lines() if not line.startswith("#") or "filename" in line), "")


def _words(line: str) -> list[str]:
    return [word.strip().strip('"') for word in re.split(r"[,;\t]" if re.search(r"[,;\t]", line) else r"\s+", line)]


def _is_yolo(words: list[str]) -> bool:
    """Say whether a line is a class, a box and points, all of them fractions of the image, or a visibility up to 2."""
    numbers = all(re.fullmatch(r"[0-9]+|[0-9]*\.[0-9]+", word) for word in words)
    if len(words) < 5 or not numbers or "." in words[0] or not all("." in word for word in words[1:5]):
        return False
    return max(float(word) for word in words[1:]) <= 2


def _choose_csv(source: Source) -> Reader:
    line = _first_line(source)
    words = _words(line)
    if "region_shape_attributes" in words:
        return read_via
    if words[0].lower() == "scorer":
        return read_deeplabcut
    return read_openface if is_openface(words) else read_csv


def _choose_txt(source: Source) -> Reader:
    if is_stereomorph(source):
        return read_stereomorph
    line = _first_line(source)
    if re.fullmatch(r"LM3?\s*=.*", line, re.IGNORECASE):
        return read_tps
    if re.match(r"(version\b|n_points\s*:)", line, re.IGNORECASE):
        return read_pts
    if line.lower().startswith("[individuals]"):
        raise _foreign(source, "a Morphologika file. Try exporting it as .tps or .nts, or write.csv in R")
    words = _words(line)
    if _is_yolo(words):
        raise _foreign(
            source, "a label of YOLO (class, box, fractions of the image). Try exporting it as COCO keypoints"
        )
    if not any(re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", word) for word in words) and any(
        _HEADER_WORD.fullmatch(word) for word in words
    ):
        return _choose_csv(source)
    return read_txt


def _write_json(path: PathLike, landmarks: Any, *, coordinates: str | None = None) -> None:
    """Write ``.mrk.json`` for 3D Slicer, other ``.json`` as COCO keypoints."""
    if str(path).lower().endswith(".mrk.json"):
        write_slicer(path, landmarks, **({} if coordinates is None else {"coordinates": coordinates}))
    elif coordinates is not None:
        raise TypeError("got the option 'coordinates', which .json of COCO does not have. Try .mrk.json.")
    else:
        write_coco(path, landmarks)


def _write_txt(path: PathLike, landmarks: Any) -> None:
    """Write a table for MorphoJ."""
    write_csv(path, landmarks, style="morphoj")


_TABLES: list[Reader] = [read_csv, read_via, read_deeplabcut, read_openface]
_JSONS: list[Reader] = [read_coco, read_ljson, read_slicer, read_labelme, read_via, read_scalismo]
_TEXTS: list[Reader] = [*_TABLES, read_txt, read_stereomorph, read_tps, read_pts]
READERS: dict[str, Reader] = {
    ".pts": read_pts, ".asf": read_asf, ".npy": read_npy, ".tps": read_tps, ".ljson": read_ljson,
    ".fcsv": read_slicer, ".nts": read_nts, ".dta": read_nts, ".land": read_pts,
    ".csv": ByContent(_choose_csv, _TABLES), ".json": ByContent(_choose_json, _JSONS),
    ".xml": ByContent(_choose_xml, [read_dlib_xml, read_cvat_xml]), ".txt": ByContent(_choose_txt, _TEXTS),
    ".tsv": ByContent(_choose_csv, _TABLES), ".ply": read_ply, ".h5": read_deeplabcut,
}  # fmt: skip
WRITERS: dict[str, Callable[..., None]] = {
    ".pts": write_pts, ".asf": write_asf, ".npy": write_npy, ".tps": write_tps, ".ljson": write_ljson,
    ".csv": write_csv, ".json": _write_json, ".xml": write_dlib_xml, ".txt": _write_txt,
}  # fmt: skip
# Endings that say by themselves that a file holds landmarks
OWN = (".pts", ".asf", ".tps", ".ljson", ".npy", ".fcsv", ".nts", ".land")
SELDOM = (".txt", ".dta", ".ply", ".h5")  # endings of all sorts of files, that are read where nothing else is
ONE = (".pts", ".asf", ".npy")  # written one shape a file
READABLE = tuple(READERS)
WRITABLE = tuple(WRITERS)
