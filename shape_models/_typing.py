"""Types of public signatures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from PIL.Image import Image


class Array(Protocol):
    """An array of any library that follows the array API standard: NumPy, PyTorch, ..."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...


class LandmarkSet(Protocol):
    """Shapes that know what their landmarks are called and which frame they stand in, as `LandmarkSamples` do."""

    @property
    def landmark_names(self) -> tuple[str, ...] | None: ...
    @property
    def frame(self) -> str: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def images(self) -> list[Path | None]: ...
    @property
    def groups(self) -> list[str]: ...
    @property
    def source(self) -> str: ...

    def __len__(self) -> int: ...
    def shapes(self) -> np.ndarray: ...
    def lengths(self) -> np.ndarray: ...
    def like(self, names: Sequence[str] | None, frame: str | None) -> np.ndarray: ...


class Client(Protocol):
    """A cluster, such as a ``dask.distributed.Client``."""

    def map(self, function: Callable[..., Any], /, *iterables: Any, **options: Any) -> Any: ...
    def gather(self, futures: Any, /) -> Any: ...


ImageLike: TypeAlias = "ArrayLike | Image | os.PathLike[str]"
ImageSize: TypeAlias = tuple[int, int]  # width, height
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike] | LandmarkSet"
MapsLike: TypeAlias = "ArrayLike | Sequence[ArrayLike]"
Mapper: TypeAlias = "Callable[..., Iterable[Any]] | Client"
PathLike: TypeAlias = "str | os.PathLike[str]"
Seed: TypeAlias = "np.random.Generator | int"
ShapesLike: TypeAlias = "ArrayLike | Sequence[ArrayLike] | LandmarkSet"
