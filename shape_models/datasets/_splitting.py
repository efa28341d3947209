"""Random parts of a set that share no image and no person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._options import as_generator
from .._typing import Seed
from ._samples import LandmarkSamples


def split_by_group(
    samples: LandmarkSamples, fractions: Sequence[float], *, rng: Seed | None = None
) -> tuple[LandmarkSamples, ...]:
    """Split samples at random, so that no image or person is in two parts.

    Groups are drawn in a random order and each goes whole to the part that is furthest below its fraction.

    Parameters
    ----------
    samples : LandmarkSamples
        What to split, by `samples.groups`.
    fractions : sequence of float
        Fraction of each part; positive, with the sum 1.
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
    order = as_generator(rng).permutation(len(groups))
    for rank, which in enumerate(order):
        lack = wanted - [len(part) for part in parts]
        empty = [i for i, part in enumerate(parts) if not part]
        if len(order) - rank <= len(empty):  # the last groups go to the parts that have none
            target = max(empty, key=lambda i: lack[i])
        else:
            target = int(np.argmax(lack))
        parts[target].extend(groups[which])
    return tuple(samples.select(sorted(part)) for part in parts)
