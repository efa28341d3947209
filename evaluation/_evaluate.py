"""One call from landmarks to a table with intervals, by a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from shape_models._array import as_column, as_numpy, as_shapes
from shape_models._options import as_generator
from shape_models._provenance import as_landmark_set
from shape_models._typing import Seed
from shape_models.datasets import LandmarkSamples

from ._curves import checked_threshold, threshold_weights
from ._errors import ErrorArray
from ._intervals import Means, combined_interval, combined_rate, group_codes, rate_interval, resampled_means
from ._normalizers import warn_of_one_landmark
from ._pairs import pair
from ._reports import Report, ReportRow
from ._subsets import missing_values
from ._tables import Interval
from .protocols import Protocol, get_protocol


def evaluate(
    targets: ArrayLike | LandmarkSamples,
    predictions: ArrayLike,
    protocol: str | Protocol,
    *,
    attributes: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    name: str = "model",
    missing: Literal["raise", "failure"] = "raise",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    rng: Seed | None = 0,
) -> Report:
    """Evaluate predicted landmarks by a protocol, such as that of 300-W.

    Parameters
    ----------
    targets : array_like of shape (n_faces, n_landmarks, n_dims), or LandmarkSamples
        True landmarks in pixels; NaN is missing. Samples of `shape_models.datasets` bring their attributes, splits
        and groups along.
    predictions : array_like of the same shape, or LandmarkSamples
        Predicted landmarks of the same faces in the same order, in the same frame. Two sets are paired by the names of
        their faces and of their landmarks.
    protocol : str or Protocol
        As in `evaluation.protocols.get_protocol`.
    attributes : mapping of str to array_like of shape (n_faces,), optional
        What the subsets of the protocol are made of: for 300-W ``{"split": ["common", "challenging", ...]}``, for WFLW
        the six flags, for AFLW2000-3D the yaw in degrees. Without them there is one row for all faces.
    groups : array_like of shape (n_faces,), optional
        Person or image of each face; whole groups are resampled for the intervals.
    mask : array_like of bool of shape (n_faces, n_landmarks) or (n_landmarks,), optional
        Landmarks that count.
    name : str
        The model, for tables and plots.
    missing : {"raise", "failure"}
        What to do with faces that have no prediction (NaN), as in `nme`.
    confidence : float
        Nominal coverage of the intervals.
    n_resamples : int
        Number of bootstrap samples. Beyond 10,000 faces they are resampled in 10,000 random blocks.
    rng : int or numpy.random.Generator, optional
        Seed; the default gives the same report every time.

    Returns
    -------
    Report
        Faces whose normaliser is zero or missing are counted in it and left out.

    Raises
    ------
    ValueError
        When the arrays do not match each other or the scheme, the protocol is unknown or has thresholds in percent, an
        attribute is missing or has text in place of numbers, or the protocol needs groups.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation import evaluate
    >>> from shape_models import make_faces
    >>> faces = make_faces(100, rng=0)
    >>> noise = np.random.default_rng(0).normal(size=faces.shape) * 0.01 * np.ptp(faces)
    >>> split = ["common"] * 80 + ["challenging"] * 20
    >>> report = evaluate(faces, faces + noise, "300w", attributes={"split": split}, n_resamples=200)
    >>> [row.name for row in report.rows]
    ['common', 'challenging', 'full']
    >>> report.notes[0]
    'common has 80 faces here and 554 in the published set.'
    """
    rules = get_protocol(protocol)
    known = _known_attributes(rules, attributes)
    targets, predictions = as_landmark_set(targets), as_landmark_set(predictions)
    if isinstance(targets, LandmarkSamples):
        if isinstance(predictions, LandmarkSamples):
            _, predictions, _ = pair(targets, predictions, allow_missing=missing == "failure")
        targets, groups, known = _unpack(targets, groups, known)
    truth, guess = _faces(targets, predictions)
    warn_of_one_landmark(truth, "targets")
    people = _people(groups, rules, len(truth))
    parts, notes = _subsets(rules, known, len(truth))
    if rules.groups and people is None:
        notes.append(f"No {rules.groups}s were given: intervals take all faces as independent.")
    if truth.shape[-1] == 3:
        notes.append("Distances are in three dimensions." if rules.crop is None else "Distances are in x and y alone.")
    errors = rules.errors(truth, guess, mask=mask, undefined="nan", missing=missing)
    for t in rules.thresholds:
        checked_threshold(t, errors)
    return Report(
        name=name,
        protocol=rules,
        rows=tuple(_rows(rules, errors, parts, people, confidence, n_resamples, as_generator(rng))),
        errors=errors,
        targets=truth,
        predictions=guess,
        mask=None if mask is None else as_numpy(mask, "mask", booleans=True),
        groups=people,
        notes=tuple(notes),
        confidence=confidence,
        n_resamples=n_resamples,
    )


# --- inside ----------------------------------------------------------------------------------------------


def _faces(targets: Any, predictions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted shapes, as many of one kind."""
    truth = as_shapes(targets, name="targets", min_samples=1, allow_nan=True)
    guess = as_shapes(predictions, name="predictions", allow_nan=True)
    if truth.shape != guess.shape:
        hint = f" {len(truth)} faces have a truth and {len(guess)} a prediction." if len(truth) != len(guess) else ""
        raise ValueError(
            f"predictions: got shape {guess.shape}; expected {truth.shape}, as the targets have.{hint} "
            "Try pairing faces by name, and convert for another scheme."
        )
    return truth, guess


def _people(groups: ArrayLike | None, rules: Protocol, n_faces: int) -> np.ndarray | None:
    """Return what faces are resampled by, one for each face."""
    people = None if groups is None else as_column(groups, "groups")
    if rules.need_groups and people is None:
        raise ValueError(f"groups: the protocol {rules.name} needs the {rules.groups} of each face; got none.")
    if people is not None and people.shape != (n_faces,):
        raise ValueError(f"groups: got shape {people.shape}; expected ({n_faces},), one for each face.")
    return people


def _unpack(
    samples: LandmarkSamples, groups: ArrayLike | None, attributes: dict[str, ArrayLike]
) -> tuple[np.ndarray, ArrayLike | None, dict[str, ArrayLike]]:
    """Return landmarks, groups and attributes of an archive; what the caller gave goes first."""
    loaded = list(samples)
    if not loaded:
        raise ValueError("targets: got no samples; expected at least one.")
    # What only some samples say can be no row of a table.
    shared = set(loaded[0].attributes).intersection(*(sample.attributes for sample in loaded))
    found: dict[str, ArrayLike] = {
        key: np.array([sample.attributes[key] for sample in loaded])
        for key in shared
        if np.ndim(loaded[0].attributes[key]) == 0
    }
    found = angles_in_degrees(found)
    if all(sample.split for sample in loaded):
        found["split"] = np.array([sample.split for sample in loaded])
    if groups is None and all(samples.groups):
        groups = np.array(samples.groups)
    counts = {sample.landmarks.shape for sample in loaded}
    if len(counts) > 1:
        raise ValueError(f"targets: got samples with landmarks of shapes {sorted(counts)}; expected one shape.")
    return np.stack([sample.landmarks for sample in loaded]), groups, {**found, **attributes}


def angles_in_degrees(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the angles of a fitted model (``Pose_Para``, radians) in degrees, as protocols count."""
    angles = ("pitch", "yaw", "roll")
    if not {*angles, "tx", "ty", "tz"} <= set(attributes):
        return dict(attributes)
    return {**attributes, **{name: np.degrees(np.asarray(attributes[name], dtype=float)) for name in angles}}


def _known_attributes(rules: Protocol, given: Mapping[str, ArrayLike] | None) -> dict[str, ArrayLike]:
    """Return the attributes that were given, by a mapping or a table, and refuse a set of which none is needed."""
    if given is not None and not hasattr(given, "keys"):
        raise TypeError(f"attributes: got {type(given).__name__}; expected a mapping of names to values of the faces.")
    attributes = {} if given is None else {str(key): given[key] for key in given.keys()}
    if attributes and not any(s.attribute is not None and s.given(attributes) for s in rules.subsets):
        needed = sorted({s.attribute for s in rules.subsets if s.attribute is not None})
        raise ValueError(
            f"attributes: got {', '.join(map(repr, attributes))}; expected those that rows of {rules.name} need: "
            f"{', '.join(map(repr, needed)) or 'none'}."
        )
    return attributes


def _subsets(
    rules: Protocol, attributes: Mapping[str, ArrayLike], n_faces: int
) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Return the rows that can be made, and what is to be said about them."""
    parts, notes = [], []
    for subset in rules.subsets:
        if not subset.given(attributes):
            note = f"No {subset.attribute} was given: the rows that need it are left out."
            notes += [note] if note not in notes else []
            continue
        inside = subset.mask(attributes, n_faces)
        if subset.n is not None and int(inside.sum()) != subset.n:
            notes.append(f"{subset.name} has {int(inside.sum())} faces here and {subset.n} in the published set.")
        if inside.any():
            parts.append((subset.name, inside))
    here, published = {name: int(inside.sum()) for name, inside in parts}, {s.name: s.n for s in rules.subsets}
    for combination in rules.combinations:
        weights = dict(combination.parts)
        sizes = {name: here.get(name) for name in weights}
        if all(sizes.values()) and weights == {name: published[name] for name in weights} != sizes:
            total = sum(weights.values())
            fractions = ", ".join(f"{name} {weight / total:.3f}" for name, weight in weights.items())
            notes.append(f"{combination.name} weighs its parts as the published set does: {fractions}.")
    for attribute in dict.fromkeys(s.attribute for s in rules.subsets if s.attribute and s.given(attributes)):
        absent = missing_values(attributes, attribute)
        if absent:
            notes.append(f"{absent} of {n_faces} faces have no {attribute}: they are in none of its rows.")
    covered = np.any([inside for _, inside in parts], axis=0) if parts else np.zeros(n_faces, bool)
    if not covered.all():
        # a set of another make: its faces are in no subset of the protocol
        parts.insert(0, ("all", np.ones(n_faces, bool)))
        if covered.any():
            notes.append(f"{int((~covered).sum())} of {n_faces} faces are in no subset of the protocol.")
    return parts, notes


def _rows(
    rules: Protocol,
    errors: ErrorArray,
    parts: list[tuple[str, np.ndarray]],
    people: np.ndarray | None,
    confidence: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[ReportRow]:
    """Measure each subset, and the means of several."""
    columns, flags = _columns(rules, errors)
    means, rates = {}, {}

    def row(name: str, inside: np.ndarray, numbers: list[Interval], rate: list[Interval]) -> ReportRow:
        own = errors[inside]
        return ReportRow(name, int(inside.sum()), own.n_undefined, own.n_failed, _named(rules, numbers, rate))

    # A generator for each subset: an interval does not depend on which others are measured with it.
    for (label, inside), generator in zip(parts, rng.spawn(len(parts)), strict=True):
        part = resampled_means(columns[inside], group_codes(people, inside), n_resamples, generator)
        rate = _rates(flags[inside], errors[inside], None if people is None else people[inside], confidence)
        means[label], rates[label] = part, rate
        yield row(label, inside, [part.interval(i, confidence) for i in range(columns.shape[1])], rate)
    for combination in rules.combinations:
        if not all(label in means and means[label].counts[0] for label, _ in combination.parts):
            continue
        labels, weights = zip(*combination.parts, strict=True)
        chosen: list[Means] = [means[label] for label in labels]
        numbers = [combined_interval(chosen, weights, i, confidence) for i in range(columns.shape[1])]
        rate = [combined_rate([rates[label][k] for label in labels], weights, confidence) for k in range(len(flags.T))]
        yield row(combination.name, np.any([dict(parts)[label] for label in labels], axis=0), numbers, rate)


def _columns(rules: Protocol, errors: ErrorArray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is averaged for each face: the error and the gains, NaN where undefined; and which faces fail."""
    values, columns, flags = errors.values, [errors.values], []
    for t in rules.thresholds:
        # A face without a prediction adds nothing to an area, and is above every threshold.
        scored = np.where(errors.failed, np.inf, values)
        columns.append(np.where(errors.undefined, np.nan, np.maximum(0.0, 1.0 - scored / t)))
        if rules.published_auc:
            columns.append(np.where(errors.undefined, np.nan, threshold_weights(scored, t)))
        flags.append(scored > t)
    return np.stack(columns, axis=1), np.stack(flags, axis=1)


def _rates(flags: np.ndarray, errors: ErrorArray, groups: np.ndarray | None, confidence: float) -> list[Interval]:
    use = ~errors.undefined
    people = None if groups is None else groups[use]
    # One person, however many faces, says nothing of how persons differ.
    few = not use.any() or (people is not None and len(np.unique(people)) < 2)
    result = []
    for flag in flags.T:
        if few:
            rate = float(flag[use].mean()) if use.any() else float("nan")
            result.append(Interval(rate, float("nan"), float("nan"), confidence, "too few", int(use.sum())))
        else:
            result.append(rate_interval(flag[use], groups=people, confidence=confidence))
    return result


def _named(rules: Protocol, means: list[Interval], rates: list[Interval]) -> dict[str, Interval]:
    rest = iter(means)
    result = {"NME": next(rest)}
    for t, rate in zip(rules.thresholds, rates, strict=True):
        result[f"AUC@{t:g}"] = next(rest)
        if rules.published_auc:
            result[f"threshold-weighted AUC@{t:g}"] = next(rest)
        result[f"FR@{t:g}"] = rate
    return result
