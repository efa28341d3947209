"""The record that every reader of an archive yields, and the sequence that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..landmarks import LandmarkScheme

__all__ = ["LandmarkSample", "LandmarkSamples", "split_by_group"]


@dataclass(frozen=True, eq=False)
class LandmarkSample:
    """One annotated object of an archive.

    Parameters
    ----------
    image : Path or None
        The photograph; it is never opened here.
    landmarks : ndarray of shape (n_landmarks, n_dims)
        Pixels, (x, y), the centre of the first pixel at 0; NaN where a landmark is missing.
    box : ndarray of shape (4,) or None
        The box that the archive gives: x0, y0, x1, y1 in the same frame.
    attributes : mapping
        What else the archive says about this sample (flags, angles, occlusion ...).
    group : str
        What must not stand on both sides of a split: the person where the archive names one, else the photograph.
    split : str or None
        The part of the archive: ``"train"``, ``"test"`` ...

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.datasets import LandmarkSample
    >>> sample = LandmarkSample(None, np.zeros((68, 2)), group="person 7", split="train")
    >>> sample.landmarks.shape, sample.box is None
    ((68, 2), True)
    """

    image: Path | None
    landmarks: np.ndarray
    box: np.ndarray | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    split: str | None = None


@dataclass(frozen=True)
class Entry:
    """What the index of an archive knows of a sample before its landmarks are read."""

    image: Path | None
    group: str
    split: str | None
    source: Any


class LandmarkSamples(Sequence[LandmarkSample]):
    """The samples of an archive, in a fixed order; landmarks are read when a sample is asked for.

    Parameters
    ----------
    entries : iterable
        What is known beforehand of each sample.
    load : callable
        ``load(entry)`` reads one sample.
    scheme : LandmarkScheme, optional
        What the landmarks are.

    Examples
    --------
    >>> from shape_models.datasets import make_face_samples
    >>> samples = make_face_samples(12, faces_per_person=4, rng=0)
    >>> len(samples), samples[0].group, samples.shapes().shape, samples[4:].groups[0]
    (12, 'person 0', (12, 68, 2), 'person 1')
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        load: Callable[[Entry], LandmarkSample],
        *,
        scheme: LandmarkScheme | None = None,
    ) -> None:
        self._entries = tuple(entries)
        self._load = load
        self.scheme = scheme

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> LandmarkSample: ...
    @overload
    def __getitem__(self, index: slice) -> LandmarkSamples: ...
    def __getitem__(self, index: int | slice) -> LandmarkSample | LandmarkSamples:
        if isinstance(index, slice):
            return LandmarkSamples(self._entries[index], self._load, scheme=self.scheme)
        return self._load(self._entries[index])

    def __repr__(self) -> str:
        scheme = "no scheme" if self.scheme is None else self.scheme.name
        return f"LandmarkSamples({len(self)} samples, {scheme})"

    @property
    def images(self) -> list[Path | None]:
        """The photograph of each sample."""
        return [entry.image for entry in self._entries]

    @property
    def groups(self) -> list[str]:
        """The photograph or person of each sample, known without reading its landmarks."""
        return [entry.group for entry in self._entries]

    @property
    def splits(self) -> list[str | None]:
        """The part of the archive that each sample belongs to."""
        return [entry.split for entry in self._entries]

    def select(self, which: Any) -> LandmarkSamples:
        """Return some of the samples.

        Parameters
        ----------
        which : array_like of int or bool, or callable
            Indices, a mask with one entry for each sample, or a function that is given a `LandmarkSample` (which
            reads its landmarks) and says whether it stays.

        Returns
        -------
        LandmarkSamples

        Raises
        ------
        ValueError
            For an index out of range and a mask of the wrong length.
        """
        if callable(which):
            which = [bool(which(sample)) for sample in self]
        chosen = np.asarray(which)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"got a mask of shape {chosen.shape}; expected ({len(self)},).")
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise ValueError(f"got an array of {chosen.dtype} of shape {chosen.shape}; expected indices or a mask.")
        if chosen.size and not (chosen.min() >= -len(self) and chosen.max() < len(self)):
            raise ValueError(f"got an index outside 0...{len(self) - 1}.")
        return LandmarkSamples((self._entries[i] for i in chosen.tolist()), self._load, scheme=self.scheme)

    def shapes(self) -> np.ndarray:
        """Read the landmarks of all samples.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            NaN where a landmark is missing.

        Raises
        ------
        ValueError
            When there are no samples, or they differ in their number of landmarks.
        """
        if not self._entries:
            raise ValueError("got no samples; expected at least one.")
        shapes = [sample.landmarks for sample in self]
        for index, shape in enumerate(shapes):
            if shape.shape != shapes[0].shape:
                raise ValueError(
                    f"sample {index} ({self._entries[index].image}) has landmarks of shape {shape.shape}, the first "
                    f"{shapes[0].shape}; expected the same for all."
                )
        return np.stack(shapes)


def split_by_group(
    samples: LandmarkSamples, fractions: Sequence[float], *, rng: int | np.random.Generator | None = None
) -> tuple[LandmarkSamples, ...]:
    """Split samples at random so that no photograph or person stands on two sides.

    Groups are drawn in a random order and each goes whole to the part that is furthest below its share.

    Parameters
    ----------
    samples : LandmarkSamples
        What to split, by `samples.groups`.
    fractions : sequence of float
        Share of each part; positive, with the sum 1.
    rng : int or numpy.random.Generator, optional
        The same seed gives the same split.

    Returns
    -------
    tuple of LandmarkSamples
        One part for each fraction, each in the order of `samples`. The sizes come near the fractions, within the size
        of a group or so.

    Raises
    ------
    ValueError
        For fractions that are not positive or do not sum to 1, and for fewer groups than parts.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.datasets import make_face_samples, split_by_group
    >>> samples = make_face_samples(100, faces_per_person=5, rng=0)
    >>> train, test = split_by_group(samples, (0.8, 0.2), rng=0)
    >>> len(train), len(test), set(train.groups) & set(test.groups)
    (80, 20, set())
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.ndim != 1 or not shares.size or not (shares > 0).all() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"fractions: got {fractions!r}; expected positive numbers with the sum 1.")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(samples.groups):
        members.setdefault(group, []).append(index)
    if len(members) < shares.size:
        raise ValueError(f"got {len(members)} groups; expected at least one for each of {shares.size} parts.")
    groups = list(members.values())
    parts: list[list[int]] = [[] for _ in shares]
    wanted = shares * len(samples)
    order = np.random.default_rng(rng).permutation(len(groups))
    for rank, which in enumerate(order):
        lack = wanted - [len(part) for part in parts]
        empty = [i for i, part in enumerate(parts) if not part]
        if len(order) - rank <= len(empty):  # the last groups go to the parts that have none
            target = max(empty, key=lambda i: lack[i])
        else:
            target = int(np.argmax(lack))
        parts[target].extend(groups[which])
    return tuple(samples.select(sorted(part)) for part in parts)
