"""Types of public signatures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from PIL.Image import Image

    from ._aligned import AlignedASM
    from ._asm import ASM
    from ._basis import ShapeBasis
    from ._limits import Limit
    from .datasets import LandmarkSamples
    from .formats import LandmarkFile
    from .landmarks import LandmarkScheme

__all__ = [
    "Array", "ArrayLike", "ImageLike", "ImagesLike", "LandmarksLike", "LimitLike", "SchemeLike", "Seed", "ShapeModel",
    "ShapesLike",
]  # fmt: skip


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


ShapesLike: TypeAlias = "ArrayLike | LandmarkSamples"
ImageLike: TypeAlias = "ArrayLike | Image | os.PathLike[str]"
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike]"
LandmarksLike: TypeAlias = "ArrayLike | LandmarkFile | Sequence[LandmarkFile] | LandmarkSamples"
LimitLike: TypeAlias = "float | Limit | None"
SchemeLike: TypeAlias = "LandmarkScheme | str"
Seed: TypeAlias = "np.random.Generator | int"
ShapeModel: TypeAlias = "AlignedASM | ASM | ShapeBasis"
