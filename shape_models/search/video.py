"""Frames of a video, one at a time: of a file, a folder, or anything that can be iterated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from .._files import regular
from .._names import IMAGE_SUFFIXES, natural_key
from ..images import read_image
from ._images import is_one_image, refuse_channels_first

__all__ = ["read_frames"]


def read_frames(source: Iterable[Any] | str | os.PathLike[str]) -> Iterator[Any]:
    """Return the frames of a video in order, read as they are asked for.

    Parameters
    ----------
    source : path or iterable of images
        A folder of images, in natural order (``frame_2.png`` before ``frame_10.png``); a video file of any format that
        PyAV reads, turned upright, with the extra ``shape-models[video]``; an animated image; or any iterable of
        images, which is handed through.

    Returns
    -------
    iterator
        Of arrays (height, width, 3) for a file, paths for a folder, and else of what `source` gives.

    Raises
    ------
    FileNotFoundError
        When there is no such file or folder.
    ImportError
        For a video file when the package that reads it is not installed.
    ValueError
        For a folder without images, a file that is no video, and arrays with the channels before the rows.
    TypeError
        For what is neither a path nor an iterable, and for a single image.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.search import read_frames
    >>> len(list(read_frames(np.zeros((5, 20, 30, 3), np.uint8))))
    5
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            return _folder(path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: got no such file or folder; expected a video or a folder of frames.")
        return _file(regular(path))
    if is_one_image(source) or (isinstance(source, np.ndarray) and source.ndim < 2 and source.dtype != object):
        what = f"of shape {tuple(source.shape)}" if hasattr(source, "shape") else type(source).__name__
        raise TypeError(
            f"frames: got one image {what}; expected several, (n, height, width) or (n, height, width, 3). Try [image]."
        )
    refuse_channels_first(source, "frames")
    if isinstance(source, Mapping | Set):  # whose names, or no order, would be read
        raise TypeError(
            f"frames: got {type(source).__name__}; expected the images in their order. Try a list, such as "
            "list(frames.values())."
        )
    if not isinstance(source, Iterable):
        raise TypeError(f"frames: got {type(source).__name__}; expected a path, or an iterable of images.")
    return iter(source)


def _folder(path: Path) -> Iterator[Path]:
    found = [each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES and not each.name.startswith(".")]
    if not found:
        raise ValueError(f"{path}: got no image in this folder; expected {', '.join(IMAGE_SUFFIXES)}.")
    return iter(sorted(found, key=natural_key))


def _file(path: Path) -> Iterator[np.ndarray]:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _animation(path)
    try:
        import av
    except ImportError:
        raise ImportError(
            f"{path}: to read a video needs PyAV, which is not installed. Try pip install 'shape-models[video]', or "
            "give a folder of frames."
        ) from None
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as error:  # PyAV's own are one or the other
        raise ValueError(f"{path}: got no video that can be read ({error}).") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: got a file without a video stream.")
    return _decoded(container, path)


def _decoded(container: Any, path: Path) -> Iterator[np.ndarray]:
    number = 0
    with container:
        try:
            for frame in container.decode(video=0):
                number += 1
                # Telephones store upright films turned, and by how much, counter-clockwise.
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: got a video that is broken after frame {number} ({error}).") from None
    if not number:
        raise ValueError(f"{path}: got a video without frames.")


def _animation(path: Path) -> Iterator[np.ndarray]:
    from PIL import Image, ImageSequence

    try:
        picture = Image.open(path)
    except OSError:
        raise ValueError(f"{path}: got no image of a known format; expected PNG, JPEG, TIFF or the like.") from None
    with picture:
        for frame in ImageSequence.Iterator(picture):
            yield read_image(frame.convert("RGB"))
