"""Sums that merge: what a fit needs to know of the shapes, from any number of chunks on any number of machines."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ._array import as_count, as_numpy, as_shapes, refuse_extreme
from ._brief import brief
from ._typing import ArrayLike, Mapper


@brief
@dataclass(frozen=True, eq=False)
class ShapeStatistics:
    """Number, mean and scatter of shapes; two of them merge into that of all shapes together.

    A fit of `ASM` needs nothing else of the data, so the shapes themselves never have to be in memory at once. The
    scatter is taken about the mean, never as a raw sum of squares, so no digits are lost when the shapes lie far from
    the origin.

    Parameters
    ----------
    n_samples : int
        Number of shapes.
    mean : ndarray of shape event_shape
        Their mean, (n_landmarks, n_dims) or (n_features,).
    scatter : ndarray of shape (n_features, n_features)
        Sum over the shapes of (x - mean)(x - mean)ᵀ, x flattened in C order.

    Attributes
    ----------
    covariance : ndarray of shape (n_features, n_features)
        scatter / (n_samples - 1).
    event_shape : tuple of int
        Shape of one sample.

    See Also
    --------
    ASM.fit_chunks : Fit a model from chunks.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", COMPSTAT 1982, Eq. (2.1).

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import ShapeStatistics
    >>> shapes = np.random.default_rng(0).normal(size=(100, 5, 2))
    >>> halves = ShapeStatistics.from_shapes(shapes[:60]) + ShapeStatistics.from_shapes(shapes[60:])
    >>> halves.n_samples
    100
    >>> np.allclose(halves.mean, shapes.mean(axis=0))
    True
    """

    n_samples: int
    mean: np.ndarray
    scatter: np.ndarray

    def __post_init__(self) -> None:
        mean, scatter = (as_numpy(getattr(self, n), n).astype(np.float64, copy=False) for n in ("mean", "scatter"))
        as_count(self.n_samples, "n_samples", 0, expected="a count")
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise ValueError(
                "got NaN or infinity in the mean or the scatter; expected finite numbers. Try "
                "ShapeStatistics.from_shapes."
            )
        if scatter.shape != (mean.size, mean.size):
            raise ValueError(
                f"scatter: got an array of shape {scatter.shape}; expected {(mean.size, mean.size)} for a mean of "
                f"shape {mean.shape}."
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "scatter", scatter)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one shape."""
        return self.mean.shape

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the coordinates, of shape (n_features, n_features), with divisor n - 1."""
        if self.n_samples < 2:
            raise ValueError(f"got {self.n_samples} samples; expected at least 2 for a covariance.")
        return self.scatter / (self.n_samples - 1)

    @classmethod
    def from_shapes(cls, shapes: ArrayLike) -> ShapeStatistics:
        """Return the statistics of one array.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, n_dims) or (n_samples, n_features)
            Complete shapes; there may be none of them.

        Raises
        ------
        ValueError
            For NaN, infinities or an array of another dimension.
        """
        return cls._of(shapes, "shapes")

    @classmethod
    def _of(cls, shapes: Any, name: str) -> ShapeStatistics:
        """Return the statistics of what is called so."""
        array = as_numpy(shapes, name)
        if array.ndim == 3 and array.size:
            array = as_shapes(array, name=name, allow_nan=True, allow_inf=True)
        if array.ndim not in (2, 3):
            raise ValueError(
                f"{name}: got shape {array.shape}; expected (n_samples, n_landmarks, n_dims) or "
                "(n_samples, n_features)."
            )
        flat = array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64, copy=False)
        if not np.isfinite(flat).all():
            raise ValueError(
                f"{name}: got NaN or infinity; expected complete, finite shapes. Try fitting shapes with missing "
                "landmarks in memory, with ASM.fit."
            )
        if not math.prod(array.shape[1:]):
            raise ValueError(f"{name}: got shape {array.shape}; expected at least one coordinate.")
        if not len(flat):
            return cls(0, np.zeros(array.shape[1:]), np.zeros((flat.shape[1], flat.shape[1])))
        refuse_extreme(float(flat.min()), float(flat.max()))
        mean = flat.mean(axis=0)
        centred = flat - mean
        return cls(len(flat), mean.reshape(array.shape[1:]), centred.T @ centred)

    @classmethod
    def from_chunks(
        cls, chunks: object, *, load: Callable[[Any], Any] | None = None, map: Mapper = builtins.map
    ) -> ShapeStatistics:
        """Return the statistics of all chunks together, with one chunk in memory at a time.

        Parameters
        ----------
        chunks : iterable, callable or Dask array
            Arrays of shapes, or what `load` turns into one (a path, a number). It is gone through once for each pass
            a fit needs: a list or any object with an ``__iter__`` that starts anew, or a callable that returns an
            iterable. A generator is refused. The blocks of a Dask array are computed where its scheduler runs.
        load : callable, optional
            Turns one item of `chunks` into an array; runs where `map` runs, so pass ``load=numpy.load`` and paths to
            let the workers read.
        map : callable or client
            Any function like the built-in `map`, for instance ``ThreadPoolExecutor().map`` or
            ``multiprocessing.Pool().imap``, or a ``dask.distributed.Client``. Results are merged in the order of the
            chunks, so the answer does not depend on the workers.

        Raises
        ------
        ValueError
            For a one-shot iterator, no shapes at all, chunks that differ in landmarks, NaN or infinity.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import ShapeStatistics
        >>> def chunks():
        ...     for seed in range(4):
        ...         yield np.random.default_rng(seed).normal(size=(50, 5, 2))
        >>> ShapeStatistics.from_chunks(chunks).n_samples
        200
        """
        return merge_all(map_chunks(partial(_of_chunk, load=load), chunks, map=map))

    def merge(self, other: ShapeStatistics) -> ShapeStatistics:
        """Return the statistics of the shapes of both; the same as ``self + other``.

        Parameters
        ----------
        other : ShapeStatistics
            Of shapes with the same landmarks.

        Returns
        -------
        ShapeStatistics
            Of all shapes; the two stay as they are.

        Raises
        ------
        ValueError
            When the shapes differ in landmarks or dimensions.
        """
        if not isinstance(other, ShapeStatistics):
            raise TypeError(
                f"other: got {type(other).__name__}; expected a ShapeStatistics. Try ShapeStatistics.from_shapes."
            )
        if self.event_shape != other.event_shape:
            raise ValueError(f"other: got shapes {other.event_shape}; expected {self.event_shape}, the same of all.")
        if not other.n_samples:
            return self
        if not self.n_samples:
            return other
        n = self.n_samples + other.n_samples
        step = (other.mean - self.mean).ravel()
        # The sum of two scatters about their own means, and that of the means (Chan, Golub and LeVeque, 1983).
        scatter = self.scatter + other.scatter + np.outer(step, step * (self.n_samples * other.n_samples / n))
        return ShapeStatistics(n, self.mean + (other.n_samples / n) * (other.mean - self.mean), scatter)

    __add__ = merge


def merge_all(parts: Iterable[ShapeStatistics]) -> ShapeStatistics:
    """Return the statistics of all parts together, merged in their order."""
    total: ShapeStatistics | None = None
    for part in parts:
        if total is not None and part.event_shape != total.event_shape:
            raise ValueError(
                f"chunks: got shapes {total.event_shape} and {part.event_shape}; expected the same landmarks and "
                "dimensions in every chunk."
            )
        total = part if total is None else total.merge(part)
    if total is None or not total.n_samples:
        raise ValueError("chunks: got no shapes, all are empty; expected at least 2 shapes.")
    return total


def map_chunks(function: Callable[[Any], Any], chunks: object, *, map: Mapper = builtins.map) -> Iterator[Any]:
    """Yield ``function(chunk)`` for each chunk in order, for one pass over `chunks`."""
    if hasattr(chunks, "__dask_graph__"):
        yield from _dask_blocks(function, chunks)
        return
    if hasattr(map, "gather") and hasattr(map, "map"):
        # The client of a Dask cluster: futures in order, each result fetched as its turn comes.
        yield from map.gather(map.map(function, list(_restart(chunks)), pure=False))
        return
    if not callable(map):
        raise ValueError(f"map: got {type(map).__name__}; expected a function like the built-in map, or a Dask client.")
    yield from map(function, _restart(chunks))


def each_chunk(chunks: Any) -> Iterator[Any]:
    """Yield the items of one pass, the blocks of a Dask array computed one by one."""
    if hasattr(chunks, "__dask_graph__"):
        return (block.compute() for block in _whole_rows(chunks).to_delayed().ravel())
    return iter(_restart(chunks))


def _restart(chunks: Any) -> Iterable[Any]:
    if callable(chunks):
        made: Iterable[Any] = chunks()
        return made
    if isinstance(chunks, np.ndarray):
        raise ValueError(
            f"chunks: got one array of shape {chunks.shape}; expected an iterable of arrays. Try fit, or "
            "numpy.array_split(shapes, n_chunks)."
        )
    try:
        iterator: Iterable[Any] = iter(chunks)
    except TypeError:
        raise ValueError(
            f"chunks: got {type(chunks).__name__}; expected an iterable of arrays or a callable that returns one."
        ) from None
    if iterator is chunks:
        raise ValueError(
            f"chunks: got a one-shot {type(chunks).__name__}, which is empty after the first pass; expected something "
            "to go through more than once. Try the function that makes it, without calling it, or a list."
        )
    return iterator


def _of_chunk(item: Any, *, load: Callable[[Any], Any] | None = None) -> ShapeStatistics:
    return ShapeStatistics._of(item if load is None else load(item), "chunks")


def _dask_blocks(function: Callable[[Any], Any], array: Any) -> Iterator[Any]:
    import dask

    task = dask.delayed(function, pure=False)
    yield from dask.compute(*(task(block) for block in _whole_rows(array).to_delayed().ravel()))


def _whole_rows(array: Any) -> Any:
    return array.rechunk({axis: -1 for axis in range(1, array.ndim)})
