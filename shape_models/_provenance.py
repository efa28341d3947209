"""What an estimator remembers of the landmarks it was fitted to: their names, their frame and their scheme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from ._typing import LandmarkSet


def remember(estimator: Any, shapes: Any) -> Any:
    """Note in a fitted estimator what its landmarks are called and which frame they stand in; return the shapes.

    Landmarks given as a plain array say neither: ``landmark_names_`` and ``frame_`` are then None.
    """
    shapes = as_landmark_set(shapes)
    known = is_landmark_set(shapes)
    estimator.landmark_names_ = shapes.landmark_names if known else None
    estimator.frame_ = shapes.frame if known else None
    return shapes.lengths() if known else shapes


def recall(estimator: Any, shapes: Any) -> Any:
    """Return shapes as a fitted estimator takes them: of a set the landmarks, in the order of its names.

    Raises
    ------
    ValueError
        For a set that names other landmarks, and one in which y points the other way.
    """
    given, shapes = shapes, as_landmark_set(shapes)
    if not is_landmark_set(shapes):
        return shapes
    names, frame = getattr(estimator, "landmark_names_", None), getattr(estimator, "frame_", None)
    if {shapes.frame, frame} == {"pixels", "y_up"}:
        raise ValueError(
            f"shapes: got landmarks in the frame {shapes.frame!r}; the model was fitted to {frame!r}, where y points "
            "the other way. Try samples.like(model.landmark_names_, model.frame_), and samples.unlike to go back."
        )
    found = shapes.like(names, frame)
    return found[0] if _is_file(given) else found


def points_down(thing: Any) -> bool:
    """Say whether y grows downwards in a model or a set of landmarks; where nothing is said it does, as in images."""
    thing = getattr(thing, "asm_", thing) if not hasattr(thing, "frame_") else thing
    return getattr(thing, "frame_", getattr(thing, "frame", None)) != "y_up"


def as_landmark_set(shapes: Any) -> Any:
    """Return landmark files, one or a list of them, as the set they form, and everything else as it is.

    So landmarks that the files name are matched by their names, and files in different frames are refused.
    """
    several = isinstance(shapes, list | tuple) and len(shapes) > 0 and all(map(_is_file, shapes))
    return _gather[0](shapes) if several or _is_file(shapes) else shapes


def gather_files_by(make: Callable[[Any], LandmarkSet]) -> None:
    """Say what makes a set of landmark files; the package of sets, which stands above this one, does so."""
    _gather[:] = [make]


_gather: list[Callable[[Any], LandmarkSet]] = []


def _is_file(thing: Any) -> bool:
    return hasattr(thing, "image_name") and hasattr(thing, "points") and hasattr(thing, "labels")


def is_landmark_set(shapes: Any) -> TypeGuard[LandmarkSet]:
    """Say whether shapes come with names and a frame (`shape_models.datasets.LandmarkSamples`)."""
    return hasattr(shapes, "landmark_names") and hasattr(shapes, "like")
