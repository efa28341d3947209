"""A file that is to be written: what goes into it is checked, and its errors name it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._files import atomic
from .._typing import PathLike
from ._record import LandmarkFile, whole_missing
from ._source import BLANKS, LINE_END, LandmarkFileError, shorten


class Target:
    """A file to write, and the steps that all writers share."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    def error(self, problem: str) -> LandmarkFileError:
        """Return the error that names the file and what is wrong with what should go into it."""
        return LandmarkFileError(f"{self.path}: {problem}")

    def files(self, landmarks: Any) -> list[LandmarkFile]:
        """Return what is to be written as a list of LandmarkFile: one, a list, one shape or an array of shapes."""
        if isinstance(landmarks, LandmarkFile):
            return [landmarks]
        if isinstance(landmarks, list | tuple) and any(isinstance(item, LandmarkFile) for item in landmarks):
            return [item if isinstance(item, LandmarkFile) else LandmarkFile(self.points(item)) for item in landmarks]
        array = self._numbers(landmarks)
        shapes = array if array.ndim == 3 else array[None]
        if not len(shapes):
            raise self.error("got no shapes; expected at least one.")
        return [LandmarkFile(self.points(shape)) for shape in shapes]

    def points(self, landmarks: Any, *, allow_nan: bool = True, n_dims: tuple[int, ...] = (2, 3)) -> np.ndarray:
        """Return the points to write, as finite float64 of shape (n_landmarks, n_dims)."""
        points = self._numbers(landmarks)
        if points.ndim != 2 or points.shape[1] not in n_dims or not len(points):
            dims = " or ".join(map(str, n_dims))
            raise self.error(f"got landmarks of shape {points.shape}; expected (n_landmarks, {dims}).")
        if np.isinf(points).any():
            raise self.error("got an infinite coordinate; expected finite numbers or NaN.")
        missing = np.flatnonzero(np.isnan(points).any(axis=1))
        if missing.size and not allow_nan:
            raise self.error(f"landmark {int(missing[0])} is missing (NaN); expected all. Try .csv or .tps.")
        return whole_missing(points) if missing.size else points

    def same_count(self, files: Sequence[LandmarkFile]) -> tuple[int, int]:
        """Return (n_landmarks, n_dims) of files that must agree in them, at least one."""
        first = np.shape(files[0].points)
        for index, file in enumerate(files):
            if np.shape(file.points) != first:
                got = f"shape {index} has {np.shape(file.points)}, shape 0 {first}"
                raise self.error(f"{got}; expected the same for all.")
        n_landmarks, n_dims = self.points(files[0].points).shape
        return n_landmarks, n_dims

    def refuse_frame(self, landmarks: Any, *allowed: str) -> None:
        """Refuse points of one frame where the format means others."""
        frame = getattr(landmarks, "frame", allowed[0])
        if frame not in allowed:
            held = " or ".join(map(repr, allowed))
            known = "saying what they are, frame='pixels' (--frame pixels)"
            hint = f"{known}, or .csv or .npz" if frame == "physical" else "reading them with image_size="
            raise self.error(f"got landmarks in the frame {frame!r}; this format holds {held}. Try {hint}.")

    def refuse_planar_frame(self, landmarks: Any) -> None:
        """Refuse what would be read as pixels in the plane, and as lengths in space, and is not."""
        planar = np.shape(getattr(landmarks, "points", landmarks))[-1:] == (2,)
        self.refuse_frame(landmarks, "pixels", *(() if planar else ("physical",)))

    def one_line(self, name: str, value: Any) -> str:
        """Return the text of a value that a line is to hold, and to give back."""
        text = str(value)
        if LINE_END.search(text) or text != text.strip(BLANKS):
            raise self.error(
                f"{name}: got {shorten(text)!r}, which one line cannot hold; expected none of its ends, and no space "
                "around."
            )
        return text

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """Yield a name in the folder of the file; it takes the place of the file when the block ends well."""
        try:
            with atomic(self.path) as temporary:
                yield temporary
        except OSError as error:
            raise self.error(f"cannot be written ({error}).") from None

    def write(self, text: str) -> None:
        """Write a text file as a whole or not at all."""
        with self.replaced() as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")

    def _numbers(self, landmarks: Any) -> np.ndarray:
        """Return an array of float64 in which what is masked is missing, also in a list."""
        parts = landmarks if isinstance(landmarks, list | tuple) else ()
        try:
            if isinstance(landmarks, np.ma.MaskedArray) or any(isinstance(part, np.ma.MaskedArray) for part in parts):
                masked = np.ma.stack(landmarks) if parts else np.ma.asarray(landmarks)
                return np.ma.filled(masked.astype(np.float64), np.nan)
            return np.asarray(landmarks, dtype=np.float64)
        except (TypeError, ValueError):
            raise self.error(f"got {type(landmarks).__name__}; expected an array of landmarks.") from None
