"""Images as the whole library reads them: upright, grey or RGB, and in a range that is stated, never guessed.

A path, a Pillow image and the array that either decodes to give the same answer everywhere.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ._array import as_numpy, as_shapes
from ._mat73 import opened
from ._options import check_numbers
from ._typing import ArrayLike, ImageLike, ImageSize, PathLike

__all__ = [
    "ImageFileError",
    "ImageFileNotFoundError",
    "check_boxes_inside",
    "check_inside",
    "image_exists",
    "image_size",
    "read_image",
    "read_values",
]

MAX_PIXELS = 160_000_000  # the largest camera backs have 151 million; beyond, a small file can fill the memory
_DEPTHS = (1, 255, 1023, 4095, 16383, 65535)  # what cameras, scanners and programs count to
_CELLS = ("IsT", "IsTr")  # what COFW calls the images of the test and the training set
_OPEN_LOCK = threading.Lock()
# Numbers of tags, EXIF 2.32 and TIFF 6.0.
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_MAXIMUM = 256, 257, 258, 281


class ImageFileError(ValueError):
    """A file that is no image, broken, or too large.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from shape_models.images import ImageFileError, read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.png")
    ...     _ = path.write_text("no image")
    ...     try:
    ...         read_image(path)
    ...     except ImageFileError as error:
    ...         print(str(error).split("a.png: ")[1])
    got no image of a known format; expected PNG, JPEG, TIFF or the like.
    """


class ImageFileNotFoundError(FileNotFoundError, ImageFileError):
    """A path at which no image file stands.

    Examples
    --------
    >>> from shape_models.images import read_image
    >>> try:
    ...     read_image("no-such-file.png")
    ... except ValueError as error:
    ...     print(error)
    no-such-file.png: got no such image file.
    """


def read_image(image: ImageLike, *, maximum: float | None = None) -> np.ndarray:
    """Return an image as eight bits, upright.

    Parameters
    ----------
    image : path, PIL image, or array_like of shape (height, width) or (height, width, 1, 2, 3 or 4)
        A file is decoded (the first image of several) and turned upright as its EXIF orientation says; palettes, CMYK
        and other colours become RGB. A last channel of two or four is alpha: the image is laid on black; where all that
        is seen is black, as in a mask that was drawn on nothing, alpha is the image. A number below a MATLAB file
        (``COFW_test_color.mat/12``) is the image of that number, from 0, that lies in it.
    maximum : float, optional
        The value that stands for white. By default it follows from the type: 255 for uint8, 65535 for uint16, 1 for
        floats and bool, 255 for wider integers; and for a TIFF of fewer bits than its container from what the file
        says.

    Returns
    -------
    ndarray of uint8 of shape (height, width) or (height, width, 3)

    Raises
    ------
    ImageFileError
        For a file that is no image, broken, or larger than 160 million pixels; when there is none,
        `ImageFileNotFoundError`, which is a FileNotFoundError too.
    ValueError
        For an array of another shape or type, masked, or not finite; for values outside 0...maximum; and, without
        `maximum`, for 16 bits of which less than a quarter of the range is used, as an image of 10, 12 or 14 bits
        would be almost black.

    See Also
    --------
    read_values : The same without the range, for methods that do not depend on brightness and contrast.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.images import read_image
    >>> read_image(np.full((2, 3), 0.5)).tolist()
    [[128, 128, 128], [128, 128, 128]]
    >>> read_image(np.full((1, 2), 1023, np.uint16), maximum=1023).tolist()
    [[255, 255]]
    """
    array, declared = _values(image)
    return _eight_bits(array, declared if maximum is None else maximum, _name(image))


def read_values(image: ImageLike) -> np.ndarray:
    """Return an image in its own type and values, upright, grey or RGB.

    Parameters
    ----------
    image : path, PIL image, or array_like
        As for `read_image`.

    Returns
    -------
    ndarray of shape (height, width) or (height, width, 3)
        Of bool, an integer or a floating type.

    Raises
    ------
    ImageFileError, ValueError
        As `read_image`, but for the range of the values.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.images import read_values
    >>> read_values(np.full((2, 3, 1), -1000.0)).tolist()
    [[-1000.0, -1000.0, -1000.0], [-1000.0, -1000.0, -1000.0]]
    """
    return _values(image)[0]


def image_size(path: PathLike) -> tuple[int, int]:
    """Return the size of an image file after it has been turned upright, without decoding it where that is possible.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    tuple of int
        Width and height in pixels.

    Raises
    ------
    ImageFileError
        When there is no such file, and when it is no image.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from shape_models.images import image_size
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.jpg")
    ...     picture = Image.new("L", (640, 480))
    ...     exif = picture.getexif()
    ...     exif[0x0112] = 6
    ...     picture.save(path, exif=exif)
    ...     image_size(path)
    (480, 640)
    """
    if _stored(Path(path)) is not None:
        return _values(path)[0].shape[1::-1]
    with _opened(Path(path)) as file:
        width, height = file.size
        tags = getattr(file, "tag_v2", {})
        if _TIFF_WIDTH in tags and _TIFF_HEIGHT in tags:  # some versions of Pillow turn this size, others do not
            width, height = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
        turned = _orientation(file) >= 5
    return (int(height), int(width)) if turned else (int(width), int(height))


def image_exists(path: PathLike | None) -> bool:
    """Say whether an image can be read: whether its file is there, or the MATLAB file that it lies in.

    Parameters
    ----------
    path : path or None
        As `read_image` takes it.

    Returns
    -------
    bool
        The content is not looked at.

    Examples
    --------
    >>> from shape_models.images import image_exists
    >>> image_exists("no-such-file.png"), image_exists(None)
    (False, False)
    """
    if path is None:
        return False
    return Path(path).is_file() or _stored(Path(path)) is not None


def _stored(path: Path) -> tuple[Path, int] | None:
    """Return the MATLAB file that an image lies in, and its number there; None for an image of its own."""
    if not (path.name.isascii() and path.name.isdecimal()) or path.parent.suffix.lower() != ".mat":
        return None
    return (path.parent, int(path.name)) if path.parent.is_file() else None


def _read_stored(path: Path, index: int) -> np.ndarray:
    """Return an image (height, width) or (height, width, 3) out of the cell array of COFW."""
    with opened(path, ImageFileError) as file:
        cells = next((file[key] for key in _CELLS if key in file), None)
        if cells is None or cells.dtype.kind != "O" or index >= cells.size:
            n = 0 if cells is None else cells.size
            raise ImageFileError(f"{path}: got {n} images; expected one with the number {index}, counted from 0.")
        image = file[cells[np.unravel_index(index, cells.shape)]]
        if image.ndim not in (2, 3) or image.dtype != np.uint8 or image.size > MAX_PIXELS:
            raise ImageFileError(f"{path}: image {index}: got {image.dtype} of {image.shape}; expected an image.")
        return np.asarray(image[()].T)  # MATLAB's arrays are stored transposed


def check_inside(
    landmarks: ArrayLike, size: ImageSize, *, name: str = "landmarks", index: int | str | None = None
) -> None:
    """Refuse landmarks that cannot belong to their image.

    A face may be cut by the edge of its image, so single landmarks may lie outside. Refused are shapes of which at
    least half of the landmarks lie outside, and any landmark that is farther outside than the image is long.

    Parameters
    ----------
    landmarks : array_like of shape (n_landmarks, 2)
        Pixels of the image; missing landmarks (NaN) are passed over.
    size : (width, height)
        Of the image, in pixels.
    name : str
        What the message calls the landmarks.
    index : int or str, optional
        Number or name of the image, for the message.

    Raises
    ------
    ValueError
        With the index of the first such landmark, its coordinates and the size of the image.

    Examples
    --------
    >>> from shape_models.images import check_inside
    >>> check_inside([[10, 10], [20, 98]], (100, 100))
    >>> try:
    ...     check_inside([[10, 10], [20, 1050]], (100, 100))
    ... except ValueError as error:
    ...     print(str(error)[:98])
    landmarks: got 1 of 2 outside its image of 100 x 100 pixels; the first is landmark 1 at (20, 1050)
    """
    points = as_shapes(landmarks, name=name, n_dims=2, allow_nan=True, allow_inf=True).astype(np.float64)
    points = points.reshape(-1, 2)
    width, height = size
    outside = np.any((points < -0.5) | (points > np.array([width, height]) - 0.5), axis=1)
    beyond = np.maximum(-points, points - [width, height]).max(axis=1) > max(width, height)
    known = ~np.isnan(points).any(axis=1)
    if not ((beyond & known).any() or (known.any() and 2 * outside[known].sum() >= known.sum())):
        return
    first = int(np.flatnonzero((beyond if beyond.any() else outside) & known)[0])
    where = "" if index is None else f" of image {index}"
    swapped = points[known][:, ::-1]
    fits = ((swapped >= -0.5) & (swapped <= np.array([width, height]) - 0.5)).all()
    hint = " Try landmarks[..., ::-1] if they are (row, column)." if fits else ""
    raise ValueError(
        f"{name}{where}: got {int((outside & known).sum())} of {int(known.sum())} outside its image of {width} x "
        f"{height} pixels; the first is landmark {first} at ({points[first, 0]:.6g}, {points[first, 1]:.6g}); expected "
        f"pixels of this image, x first.{hint}"
    )


def check_boxes_inside(boxes: ArrayLike, size: ImageSize, *, name: str = "boxes") -> None:
    """Refuse boxes that do not meet their image.

    Parameters
    ----------
    boxes : array_like of shape (4,) or (n, 4)
        Corners x0, y0, x1, y1 in pixels of the image; they may reach beyond it.
    size : (width, height)
        Of the image, in pixels.
    name : str
        What the message calls the boxes.

    Raises
    ------
    ValueError
        With the index of the first such box, its corners and the size of the image.

    Examples
    --------
    >>> from shape_models.images import check_boxes_inside
    >>> check_boxes_inside([-5, -5, 50, 50], (100, 100))
    >>> try:
    ...     check_boxes_inside([[0, 0, 50, 50], [200, 0, 250, 50]], (100, 100))
    ... except ValueError as error:
    ...     print(str(error).split(";")[0])
    boxes: got [200, 0, 250, 50] at index 1, outside its image of 100 x 100 pixels
    """
    width, height = size
    array = as_numpy(boxes, name).astype(np.float64)
    if not array.ndim or array.shape[-1] != 4:
        raise ValueError(f"{name}: got shape {array.shape}; expected (4,) or (n, 4), x0, y0, x1, y1.")
    for index, (x0, y0, x1, y1) in enumerate(array.reshape(-1, 4).tolist()):
        if x1 < -0.5 or y1 < -0.5 or x0 > width - 0.5 or y0 > height - 0.5:
            corners = ", ".join(f"{value:.6g}" for value in (x0, y0, x1, y1))
            raise ValueError(
                f"{name}: got [{corners}] at index {index}, outside its image of {width} x {height} pixels; expected "
                "x0, y0, x1, y1 in its pixels."
            )


def _values(image: Any) -> tuple[np.ndarray, float | None]:
    """Return a checked array, (height, width) or (height, width, 3), and the maximum that a file declares."""
    declared, name = None, _name(image)
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        stored = _stored(path)
        if stored is None:
            with _opened(path) as file:
                image, declared = _decoded(file)
        else:
            image = _read_stored(*stored)
    elif hasattr(image, "mode") and hasattr(image, "convert") and hasattr(image, "load"):
        image, declared = _decoded(image)
    elif hasattr(image, "detach"):  # a tensor that may need gradients, or lie on another device
        image = as_numpy(image.detach(), name, booleans=True)
    rows = image if isinstance(image, list | tuple) else ()
    if any(isinstance(part, np.ma.MaskedArray) for part in (image, *rows)):
        raise ValueError(f"{name}: got a masked array; expected all pixels. Try numpy.ma.filled(image, 0).")
    try:
        array = np.asarray(image)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got a {type(image).__name__}; expected an array, a path or a PIL image.") from None
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name}: got {array.dtype}; expected numbers.")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or not array.size:
        several = " Try list(image): several images." if array.ndim == 4 and array.size else ""
        hint = channels_first(array.shape, "image") or several
        raise ValueError(f"{name}: got shape {array.shape}; expected (height, width) or (height, width, 3).{hint}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        n = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name}: got NaN or infinity in {n} values; expected finite numbers. Try numpy.nan_to_num.")
    if array.ndim == 3 and array.shape[2] in (2, 4):
        array = _on_black(array, name)
    return (array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array), declared


def channels_first(shape: Sequence[int], name: str) -> str:
    """Return what to try with an image, or a batch, whose channels may stand before its rows; nothing for others."""
    if len(shape) not in (3, 4) or shape[-3] not in (1, 3, 4) or shape[-1] <= 4 or not min(shape):
        return ""
    return f" Try numpy.moveaxis({name}, {len(shape) - 3}, -1): the channels belong last."


def _name(image: Any) -> str:
    """Return what errors call an image."""
    return str(image) if isinstance(image, str | os.PathLike) else "image"


def _decoded(file: Any) -> tuple[np.ndarray, float | None]:
    """Return the pixels of an open Pillow image, upright, and the maximum that it declares."""
    declared: float | None
    file.load()
    mode = file.mode
    if "transparency" in file.info and mode in ("1", "L", "P", "RGB"):
        wanted = "LA" if mode in ("1", "L") else "RGBA"
    elif mode in ("1", "L", "LA", "RGB", "RGBA", "I", "F") or mode.startswith("I;16"):
        wanted = mode
    else:
        wanted = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, "RGB")
    array = np.array(file if wanted == mode else file.convert(wanted))
    tags = getattr(file, "tag_v2", {})
    bits = max(np.atleast_1d(tags.get(_TIFF_BITS, 0)).tolist())
    declared = max(np.atleast_1d(tags.get(_TIFF_MAXIMUM, 0)).tolist()) or (2**bits - 1 if 8 < bits < 16 else None)
    if array.dtype.itemsize == 1:
        declared = None  # Pillow stretches short values to the whole range
    elif mode.startswith("I;16"):
        array = array.astype(np.uint16)
    elif mode == "I" and file.format in ("PNG", "PPM"):  # 16 bits in a wider container
        array, declared = array.astype(np.uint16), 65535
    orientation = _orientation(file)
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array), declared


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image file without decoding it; whatever fails while it is open is a broken file."""
    from PIL import Image, UnidentifiedImageError  # scikit-image, which is required, brings it

    try:
        if not path.is_file():
            known = "no regular file" if path.exists() else "no such image file"
            raise ImageFileNotFoundError(f"{path}: got {known}.")
    except ValueError as error:  # a name with a null byte
        if isinstance(error, ImageFileNotFoundError):
            raise
        raise ImageFileNotFoundError(f"{path}: got no such image file ({error}).") from None
    try:
        # Opened by its name an uncompressed TIFF is mapped into memory by its turned size, which garbles it.
        with path.open("rb") as stream:
            with _OPEN_LOCK, warnings.catch_warnings():  # the limit below comes first, and speaks for itself
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                file = Image.open(stream)
            with file:
                width, height = file.size
                if width * height > MAX_PIXELS:
                    raise ImageFileError(f"{path}: got {width} x {height} pixels; expected at most {MAX_PIXELS:,}.")
                yield file
    except ImageFileError:
        raise
    except Image.DecompressionBombError:
        raise ImageFileError(f"{path}: got more than {MAX_PIXELS:,} pixels; expected a smaller image.") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{path}: got no image of a known format; expected PNG, JPEG, TIFF or the like.") from None
    except Exception as error:  # damaged data fail in the ways of their format
        raise ImageFileError(f"{path}: cannot be read as an image ({error}).") from error


def _orientation(file: Any) -> int:
    """Return the EXIF orientation, 1 to 8."""
    value = file.getexif().get(_EXIF_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _on_black(array: np.ndarray, name: str) -> np.ndarray:
    """Lay an image with a last channel of alpha on black, in its own type."""
    colour, alpha = array[:, :, :-1], array[:, :, -1:]
    if array.dtype.kind == "f":
        white: float = 1
    else:
        white = 65535 if array.dtype == np.uint16 else 1 if array.dtype == np.bool_ else 255
    low, high = alpha.min(), alpha.max()
    if low < 0 or high > white:
        raise ValueError(f"{name}: got an alpha channel of {array.dtype} from {low} to {high}; expected 0 to {white}.")
    if low < high and not colour[alpha[:, :, 0] > 0].any():  # black on nothing: what is drawn is in alpha alone
        return alpha
    if array.dtype.kind == "f":
        return np.asarray(colour * alpha)
    if array.dtype == np.bool_:
        return np.asarray(colour & alpha)
    product = colour.astype(np.int64) * alpha.astype(np.int64)
    return ((product + white // 2) // white).astype(array.dtype)


def _eight_bits(array: np.ndarray, maximum: float | None, name: str) -> np.ndarray:
    kind = array.dtype
    if maximum is None and kind == np.uint8:
        return array
    white = _white(kind) if maximum is None else maximum
    check_numbers(maximum=white, above=True)
    low, high = float(array.min()), float(array.max())
    deep = kind == np.uint16 and maximum is None and 0 < high < 16384
    if low < 0 or high > white or deep:
        likely = next((depth for depth in _DEPTHS if depth >= high and (depth > 1 or kind.kind == "f")), None)
        if low < 0:
            advice = "scaling it to 0...1"
        else:
            advice = f"shape_models.images.read_image(..., maximum={likely or f'{high:.10g}'})"
            advice += ", or maximum=65535 if it is as dark as that" if deep else ""
        expected = "values up to 65535" if deep else f"0 to {white:g}"
        raise ValueError(f"{name}: got {kind} from {low:.10g} to {high:.10g}; expected {expected}. Try {advice}.")
    if kind == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if white == 255 and kind.kind in "iu":
        return array.astype(np.uint8)
    precision = np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64
    # Halves go up, where rint would take every other one down; in a type with the digits that the values need.
    return np.asarray(np.floor(array * precision(255.0 / white) + precision(0.5)), dtype=np.uint8)


def _white(kind: np.dtype) -> float:
    if kind.kind == "f" or kind == np.bool_:
        return 1.0
    return 65535.0 if kind == np.uint16 else 255.0
