"""Keypoints in the JSON of COCO and COCO-WholeBody."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from .._names import few
from .._options import check_choice
from .._scheme import SchemeLike
from .._typing import PathLike
from ..landmarks import IBUG68
from ._record import LandmarkFile, LandmarksLike, Missing, record
from ._source import Source, shorten
from ._target import Target

__all__ = ["read_coco", "write_coco"]

# part -> (key of the coordinates, key that says whether they count)
_PARTS = {
    "body": ("keypoints", None),
    "face": ("face_kpts", "face_valid"),
    "foot": ("foot_kpts", "foot_valid"),
    "left_hand": ("lefthand_kpts", "lefthand_valid"),
    "right_hand": ("righthand_kpts", "righthand_valid"),
}


def read_coco(
    path: PathLike, *, part: str | None = None, missing: Missing = None, scheme: SchemeLike | None = None
) -> list[LandmarkFile]:
    """Read keypoints from a JSON file of COCO or COCO-WholeBody.

    Parameters
    ----------
    path : path
        The file: a set with images and annotations, or the list of results that detectors are judged by.
    part : {None, "face", "body", "foot", "left_hand", "right_hand"}, optional
        Which keypoints; None takes the face where any annotation has one, else the body (the plain ``keypoints``).
    missing : {"negative", "zero"}, float or sequence of float, optional
        What marks a missing landmark besides a visibility of 0: a negative coordinate, zeros only,
        one number in all coordinates (``-1``), or one for each (``(-1, 0)``), as they stand in the file.
    scheme : str or LandmarkScheme, optional
        What the landmarks are; by default IBUG68 for 68 points of a face, else none.

    Returns
    -------
    list of LandmarkFile
        One for each annotation that has the part; crowds, those marked as not valid (``face_valid`` ...) and those
        without any labelled keypoint (absent, null, empty or all 0) are left out. Frame ``"pixels"``; a point of
        visibility 0 is missing. Third numbers that are fractions, in a list of results all of them as soon as one is,
        are a ``"confidence"``, and then only a point of three zeros is missing. The attributes are ``"visibility"``
        (array of 0 not labelled, 1 labelled but hidden, 2 visible), ``"box"`` (x0, y0, x1, y1 or None), ``"id"``,
        ``"image_id"``, ``"image_size"`` (width, height, or None) and ``"category"`` (where the file names it). Labels
        are the names of the keypoints of the category.

    Raises
    ------
    LandmarkFileError
        With the file, the annotation and the field.

    Warns
    -----
    UserWarning
        For annotations whose ``image_id`` none of the images has, and whose ``category_id`` none of the categories; the
        message names the ids. Results alone have neither, and say nothing.

    References
    ----------
    S. Jin et al., "Whole-Body Human Pose Estimation in the Wild", ECCV 2020.

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from shape_models.formats import read_coco
    >>> content = {"images": [{"id": 7, "file_name": "a.jpg"}],
    ...            "annotations": [{"id": 1, "image_id": 7, "keypoints": [3, 4, 2, 0, 0, 0]}]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.json")
    ...     _ = path.write_text(json.dumps(content))
    ...     file = read_coco(path)[0]
    >>> file.image_name, file.points.tolist(), file.attributes["visibility"].tolist()
    ('a.jpg', [[3.0, 4.0], [nan, nan]], [2, 0])
    """
    source = Source.of(path)
    content = source.json
    check_choice((*_PARTS, None), part=part)
    results = isinstance(content, list)  # what a detector answers: annotations without images and categories
    if results:
        content = {"annotations": content}
    if isinstance(content, dict) and "annotations" in content and content["annotations"] is None:
        content = {**content, "annotations": []}
    annotations = source.member(content, "annotations", list, "file")
    images = _by_id(source, content, "images")
    categories = _by_id(source, content, "categories")
    if part is None:
        part = "face" if any(isinstance(a, dict) and "face_kpts" in a for a in annotations) else "body"
    key, valid_key = _PARTS[part]
    scored = results and _scored(annotations, key)
    files, unlisted = [], dict[str, list[str]]()
    for i, annotation in enumerate(source.objects(annotations, "annotations")):
        if (
            annotation.get("iscrowd")
            or annotation.get(key) in (None, [])
            or (valid_key is not None and annotation.get(valid_key) is False)
        ):
            continue
        where = f"annotations[{i}]"
        points, attributes = _points(source, annotation, key, where, results, scored)
        if not attributes["visibility"].any():
            continue
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        image, category = images.get(_key(image_id), {}), categories.get(_key(category_id), {})
        if not results and not image and image_id is not None:
            unlisted.setdefault("images", []).append(str(image_id))
        if categories and category_id is not None and _key(category_id) not in categories:
            unlisted.setdefault("categories", []).append(str(category_id))
        box = annotation.get("face_box" if part == "face" and "face_box" in annotation else "bbox")
        attributes["box"] = _box(source, box, where) if box else None
        attributes |= {"id": annotation.get("id"), "image_id": image_id, "image_size": _size(image)}
        if isinstance(category.get("name"), str):
            attributes["category"] = category["name"]
        if isinstance(annotation.get("score"), int | float):
            attributes["score"] = float(annotation["score"])
        own: dict[str, Any] = {"labels": _labels(category.get("keypoints"), len(points)), "attributes": attributes}
        own["scheme"] = scheme or (IBUG68 if part == "face" and len(points) == 68 else None)
        own["image_name"] = image["file_name"] if isinstance(image.get("file_name"), str) else None
        files.append(record(source, points, missing=missing, **own))
    _warn_of_unlisted(source, unlisted)
    if not files:
        raise source.error(f"annotations: got none with labelled points in {key!r}. Try another part=.")
    return files


def _points(
    source: Source, annotation: dict[str, Any], key: str, where: str, results: bool, scored: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the points of an annotation, and the visibility and the confidence that their third numbers tell."""
    values = source.member(annotation, key, list, where)
    if len(values) % 3:
        raise source.error(f"{where}.{key}: got {len(values)} numbers; expected x, y and visibility of each point.")
    triples = np.reshape(source.json_numbers(values, f"{where}.{key}"), (-1, 3))
    visibility, confidence = _marks(source, triples, f"{where}.{key}", results, scored)
    marks: dict[str, Any] = {"visibility": visibility.astype(int)}
    return triples[:, :2], marks if confidence is None else {**marks, "confidence": confidence}


def _marks(
    source: Source, triples: np.ndarray, where: str, results: bool, scored: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the visibility of each point and the confidence, if there is one, that the third numbers tell."""
    visibility = triples[:, 2]
    if results and not scored:  # any number above 0 is a point that the detector gives
        visibility = np.where(visibility > 0, 2, 0)
    if not scored and np.isin(visibility, (0, 1, 2)).all():
        return visibility, None
    if not ((visibility >= 0) & (visibility <= 1)).all():
        raise source.error(
            f"{where}: got {visibility.min():g} to {visibility.max():g} as the third numbers; expected a visibility "
            "(0, 1 or 2), or a confidence from 0 to 1."
        )
    # a detector's confidence, or a fraction of the annotators; only a point at 0, 0 is then not there
    return np.where(triples.any(axis=1), 2, 0), visibility


def _labels(names: Any, n: int) -> list[str] | None:
    """Return the names of n landmarks, where a category has as many different ones."""
    good = isinstance(names, list) and len(names) == n and all(isinstance(name, str) for name in names)
    return names if good and len(set(names)) == n else None


def _warn_of_unlisted(source: Source, unlisted: dict[str, list[str]]) -> None:
    """Warn of images and categories that annotations name and the file does not list."""
    lost = {"images": "no name and no size of an image", "categories": "no names of landmarks"}
    for kind, ids in unlisted.items():
        text = f"got {len(ids)} annotations of {kind} that {kind!r} does not list (id {few(list(dict.fromkeys(ids)))})"
        warnings.warn(f"{source.path}: {text}; their shapes have {lost[kind]}.", UserWarning, stacklevel=3)


def _scored(annotations: list[Any], key: str) -> bool:
    """Say whether the third numbers of a list of results are confidences: any of them is a fraction."""
    thirds = (a[key][2::3] for a in annotations if isinstance(a, dict) and isinstance(a.get(key), list))
    return any(isinstance(value, float) and value % 1 != 0 for some in thirds for value in some)


def _key(identifier: Any) -> Any:
    """Return what an identifier is looked up by; COCO has integers, others strings."""
    return identifier if isinstance(identifier, str | int) else None


def _by_id(source: Source, content: dict[str, Any], name: str) -> dict[Any, dict[str, Any]]:
    items = content.get(name)
    if items is None:
        return {}
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise source.error(f"{name}: got {shorten(repr(items))}; expected a list of objects.")
    found: dict[Any, dict[str, Any]] = {}
    for item in items:
        key = _key(item.get("id"))
        if found.setdefault(key, item) != item and key is not None:
            raise source.error(f"{name}: got the id {shorten(str(key))} twice; expected different ones.")
    return {key: item for key, item in found.items() if key is not None}


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    size = image.get("width"), image.get("height")
    return size if all(isinstance(n, int) and n > 0 for n in size) else None  # type: ignore[return-value]


def _box(source: Source, box: Any, where: str) -> np.ndarray:
    if not isinstance(box, list) or len(box) != 4:
        raise source.error(f"{where}: box: got {shorten(repr(box))}; expected x, y, width and height.")
    x, y, width, height = (source.json_number(value, f"{where}: box") for value in box)
    corners = np.array([x, y, x + width, y + height])
    if not np.isfinite(corners).all():
        raise source.error(f"{where}: box: got {shorten(repr(box))}; expected finite numbers.")
    return corners


def write_coco(path: PathLike, landmarks: LandmarksLike) -> None:
    """Write shapes as COCO keypoints that `read_coco` reads back to the last bit.

    Parameters
    ----------
    path : path
        The file; it appears as a whole or not at all.
    landmarks : LandmarkFile, list of them, or array_like of shape (n_landmarks, 2) or (n, n_landmarks, 2)
        Shapes of the scheme IBUG68 are written as ``face_kpts`` of COCO-WholeBody, others as ``keypoints`` with their
        labels in a category. A missing landmark gets visibility 0, others that of the attribute ``"visibility"`` or
        2. Shapes of one image name share an entry in ``images``. Identifiers are kept where all are different numbers,
        ``"image_size"``, ``"box"`` and ``"score"`` always; a scale, curves and further attributes are not.

    Raises
    ------
    LandmarkFileError
        For another frame than ``"pixels"``, three dimensions, a shape without any landmark, and when the file cannot
        be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.formats import read_coco, write_coco
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.json")
    ...     write_coco(path, [[3.0, 4.0], [5.0, 6.0]])
    ...     read_coco(path)[0].points.tolist()
    [[3.0, 4.0], [5.0, 6.0]]
    """
    target = Target(path)
    files = target.files(landmarks)
    ids = [file.id for file in files]
    if len(set(map(str, ids))) != len(ids) or not all(isinstance(i, int | str) for i in ids):
        ids = list(range(len(files)))
    images: dict[str, dict[str, Any]] = {}
    categories: dict[tuple[Any, ...], dict[str, Any]] = {}
    annotations = []
    for index, file in enumerate(files):
        target.refuse_frame(file, "pixels")
        points = target.points(file.points, n_dims=(2,))
        seen = ~np.isnan(points).any(axis=1)
        if not seen.any():
            raise target.error(f"shape {index} has no landmark that is not missing; expected one.")
        visibility = np.asarray(file.attributes.get("visibility", 2))
        if visibility.shape != (len(points),):
            visibility = np.full(len(points), 2)
        visibility = np.where(seen, np.where(visibility > 0, visibility, 2), 0)
        triples = [
            value
            for (x, y), v in zip(points.tolist(), visibility.tolist(), strict=True)
            for value in ((x, y, v) if v else (0, 0, 0))
        ]
        name = file.image_name or ""
        image = images.setdefault(name, {"id": len(images), "file_name": name})
        size = file.attributes.get("image_size")
        if size is not None:
            image["width"], image["height"] = int(size[0]), int(size[1])
        labels = file.labels or tuple(f"landmark_{i}" for i in range(len(points)))
        face = file.scheme == IBUG68
        called = str(file.attributes.get("category") or ("face" if face else "object"))
        category = categories.setdefault(
            (called, face, *((file.labels or ()) if face else labels)),
            {
                "id": len(categories) + 1,
                "name": called,
                "keypoints": list(file.labels or ()) if face else list(labels),
            },
        )
        low, high = points[seen].min(axis=0), points[seen].max(axis=0)
        box = file.attributes.get("box")
        x0, y0, x1, y1 = np.concatenate([low, high]).tolist() if box is None else np.asarray(box, float).tolist()
        own = {"id": ids[index], "image_id": image["id"], "category_id": category["id"], "iscrowd": 0}
        own["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        if "score" in file.attributes:
            own["score"] = file.attributes["score"]
        points_of = {"keypoints": triples, "num_keypoints": int(seen.sum())}
        annotations.append(own | ({"face_kpts": triples, "face_valid": True} if face else points_of))
    content = {"images": list(images.values()), "annotations": annotations, "categories": list(categories.values())}
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise target.error("got a box that is not finite; expected four numbers.") from None
    target.write(text + "\n")
