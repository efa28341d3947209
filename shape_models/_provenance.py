"""What an estimator remembers of the landmarks it was fitted to: their names, their frame and their scheme."""

from __future__ import annotations

from typing import Any


def remember(estimator: Any, shapes: Any) -> Any:
    """Note in a fitted estimator what its landmarks are called and which frame they stand in; return the shapes.

    Landmarks given as a plain array say neither: ``landmark_names_`` and ``frame_`` are then None.
    """
    known = is_landmark_set(shapes)
    estimator.landmark_names_ = shapes.landmark_names if known else None
    estimator.frame_ = shapes.frame if known else None
    return shapes.lengths() if known else shapes


def recall(estimator: Any, shapes: Any) -> Any:
    """Return shapes as a fitted estimator takes them: a set of landmarks in its order and its direction of y."""
    if not is_landmark_set(shapes):
        return shapes
    return shapes.like(getattr(estimator, "landmark_names_", None), getattr(estimator, "frame_", None))


def is_landmark_set(shapes: Any) -> bool:
    """Say whether shapes come with names and a frame (`shape_models.datasets.LandmarkSamples`)."""
    return hasattr(shapes, "landmark_names") and hasattr(shapes, "like")
