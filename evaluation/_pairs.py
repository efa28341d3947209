"""Which prediction belongs to which face of the truth, and which landmark to which."""

from __future__ import annotations

import numpy as np

from shape_models._names import few, natural_key
from shape_models.datasets import LandmarkSamples


def pair(
    truth: LandmarkSamples, guess: LandmarkSamples, *, allow_missing: bool = False
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return true and predicted shapes face by face, and how they were paired.

    By name where both sets name their faces (or by the ``image_id`` of COCO where the names have nothing in common),
    else by order. Landmarks are matched by their names where both have some.

    Parameters
    ----------
    truth, guess : LandmarkSamples
        What to pair.
    allow_missing : bool
        Whether faces without a prediction become NaN, and not an error.

    Returns
    -------
    targets, predictions : ndarray of shape (n_faces, n_landmarks, n_dims)
    how : str
        One sentence.

    Raises
    ------
    ValueError
        When names, counts, frames or landmarks do not match.
    """
    if {truth.frame, guess.frame} in ({"pixels", "y_up"}, {"relative", "pixels"}, {"relative", "y_up"}):
        raise ValueError(
            f"{guess.source}: got landmarks in the frame {guess.frame!r}; expected {truth.frame!r}, as {truth.source} "
            "has. Try --image-size."
        )
    targets = truth.lengths()
    found = guess.like(truth.landmark_names, truth.frame, whose=truth.source)
    if targets.shape[1:] != found.shape[1:]:
        raise ValueError(
            f"{guess.source}: got faces of shape {found.shape[1:]}; expected {targets.shape[1:]}, as {truth.source}."
        )
    if not (truth.named and guess.named):
        if len(targets) != len(found):
            raise ValueError(
                f"{guess.source}: got {len(found)} faces; expected {len(targets)}, as {truth.source} has. "
                "Try files that name their faces, to pair them by name."
            )
        nameless = [samples.source for samples in (truth, guess) if not samples.named]
        named = next((samples.names for samples in (truth, guess) if samples.named), None)
        order = f": {few(named, 4)}" if named else ""
        return targets, found, f"Faces are paired by order, as {' and '.join(nameless)} names none{order}."
    wanted, names, by = _identities(truth, guess)
    place = {name: i for i, name in enumerate(names)}
    extra = sorted(set(names) - set(wanted), key=natural_key)
    lacking = [name for name in wanted if name not in place]
    if extra and len(extra) == len(names):
        raise ValueError(
            f"{guess.source}: no face has a name of {truth.source} ({names[0]!r} against {wanted[0]!r}); expected the "
            "same names. Try the same folders and file names."
        )
    if extra:
        raise ValueError(
            f"{guess.source}: {len(extra)} faces have no truth, the first is {extra[0]!r}; expected one for each."
        )
    if lacking and not allow_missing:
        raise ValueError(
            f"{guess.source}: {len(lacking)} faces have no prediction, the first is {lacking[0]!r}. "
            "Try --unpaired failure to count them as failures."
        )
    shapes = np.full(targets.shape, np.nan)
    for i, name in enumerate(wanted):
        if name in place:
            shapes[i] = found[place[name]]
    return targets, shapes, f"Faces are paired by {by}."


def _identities(truth: LandmarkSamples, guess: LandmarkSamples) -> tuple[list[str], list[str], str]:
    """Return what the faces of both sets are called, and what that is."""
    if set(truth.names) & set(guess.names):
        return truth.names, guess.names, "name"
    # No name in common: results of detectors name images by the ids that the truth has.
    found = []
    for samples in (truth, guess):
        values = samples.attributes.get("image_id", [None])
        if None in values:
            return truth.names, guess.names, "name"
        names = [str(value) for value in values]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(
                f"{samples.source}: got several faces of the image_id {repeated}; expected one, to pair them by it."
            )
        found.append(names)
    return found[0], found[1], "image_id"
