"""A search for the whole and then for its parts: the jaw, then each tooth; the face, then the mouth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._aligned import AlignedASM
from .._array import as_shapes
from .._asm import ASM
from .._fitted import all_or_nothing
from .._provenance import is_landmark_set
from .._typing import ArrayLike, ImagesLike, ShapesLike
from ..landmarks import get_scheme
from ._contours import scheme_of
from ._crops import Crops
from ._images import split_set
from ._training import Tell, silent
from .evidence import part_of
from .fitter import ASMFitter, load_fitter
from .results import SearchResult

__all__ = ["PartsFitter"]

_JITTER = (0.03, 0.04, 0.06)  # of the starts of parts, besides the errors of the whole
_LOST = 2.5  # times the usual error of the whole
_LEVELS = 3  # enough for a part, which starts near its place
_FOLDS = 3  # each is a training of every part


class PartsFitter(BaseEstimator):
    """Finds the whole shape first, then each of its parts with a model of its own, started from the whole.

    A model of the whole knows how the parts stand to each other, which finds them, and must give way in their details,
    of which it saw few combinations. Each part is therefore searched once more by a model of its landmarks alone. It
    is trained on starts as the whole leaves them in images that the whole was not trained on.

    Parameters
    ----------
    parts : mapping of str to sequence of int, or sequence of str
        The landmarks of each part; or names of groups of the scheme. A landmark may be in no part, and then comes
        from the whole, or in several, and then is the mean of what they answer.
    whole : ASMFitter, default=None
        The search for all landmarks; None for ``ASMFitter()``. Its calibration must not be 0.
    part : ASMFitter, default=None
        The search for each part, without a shape model; None for the better of patches and profiles at three
        levels, near starts, and a calibration of three folds. What is chosen for the first part is used for all.
    n_jobs : int, default=None
        Threads; None for one, -1 for one in each processor. Goes before that of `whole` and `part`.

    Attributes
    ----------
    whole_ : ASMFitter
        The search for the whole.
    fitters_ : dict of str to ASMFitter
        One for each part.
    indices_ : dict of str to ndarray of int
        Their landmarks.
    n_landmarks_ : int
        Number of all landmarks.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import make_faces
    >>> from shape_models.search import ASMFitter, PartsFitter
    >>> def draw(shape):                                       # an image that shows where its landmarks are
    ...     y, x = np.mgrid[:100, :100]
    ...     return sum(np.exp(-((x - p) ** 2 + (y - q) ** 2) / 8) for p, q in shape)
    >>> shapes = 0.4 * make_faces(24, rng=0)[:, 27:48]
    >>> pictures = [draw(shape) for shape in shapes]
    >>> quick = ASMFitter(evidence="profiles", n_levels=2, resolution=40, calibration=2)
    >>> eyes = {"right eye": range(9, 15), "left eye": range(15, 21)}
    >>> fitter = PartsFitter(eyes, whole=quick, part=quick).fit(pictures[:20], shapes[:20])
    >>> result = fitter.predict(pictures[20])
    >>> result.shape.shape, result.found
    ((21, 2), True)
    """

    def __init__(
        self,
        parts: Mapping[str, ArrayLike],
        *,
        whole: ASMFitter | None = None,
        part: ASMFitter | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.parts = parts
        self.whole = whole
        self.part = part
        self.n_jobs = n_jobs

    @all_or_nothing
    def fit(
        self,
        images: ImagesLike,
        shapes: ShapesLike | None = None,
        *,
        boxes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        spacing: ArrayLike | None = None,
        callback: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Train the search for the whole, and then one for each part.

        Parameters
        ----------
        images : sequence of array or path, or LandmarkSamples
            One for each shape, or a set that brings its shapes along.
        shapes : array_like of shape (n, K, 2), optional
            Landmarks of the whole, pixels of the images; NaN where missing.
        boxes : array_like of shape (n, 4), optional
            Boxes of the whole as they will be given to `predict`.
        groups : array_like of shape (n,), optional
            Person or specimen of each image.
        spacing : float or array_like of shape (2,) or (n, 2), optional
            Distance of pixels along x and y.
        callback : callable, optional
            Hears how far the training is.

        Returns
        -------
        PartsFitter
            With its attributes set; one that is interrupted or refused stays as it was.

        Raises
        ------
        ValueError
            When a part is not one of landmarks, and as `ASMFitter.fit`.
        """
        tell = callback or silent
        whole = self._made(ASMFitter() if self.whole is None else self.whole, "whole")
        known = images if is_landmark_set(images) else None
        images, shapes, groups = split_set(images, shapes, groups)
        scheme = scheme_of(shapes if known is None else known)
        if scheme is None and isinstance(whole.asm, AlignedASM):
            own: Any = whole.asm.scheme_ if hasattr(whole.asm, "asm_") else whole.asm.scheme
            scheme = get_scheme(own) if isinstance(own, str) else own
        array = as_shapes(shapes, n_dims=2, min_samples=4, allow_nan=True).astype(np.float64)
        self.indices_ = _indices(self.parts, array.shape[1], scheme)
        if self.part is not None and getattr(self.part, "asm", None) is not None:
            raise ValueError("part: got a search with a shape model; expected one without: each part has its own.")
        crops = Crops(images, array, spacing)
        whole.fit(crops, shapes, boxes=boxes, groups=groups, callback=tell)
        found = array if whole.left_out_ is None else whole.left_out_
        filled = np.array(array)
        if not np.isfinite(array).all():
            filled = np.where(np.isfinite(array), array, np.asarray(whole.asm_.complete(array).shapes))
        # A search that was lost says nothing of how far off the whole leaves its parts where it is found.
        off = np.linalg.norm(found - filled, axis=-1).mean(axis=1)
        near = off <= _LOST * np.nanmedian(off)
        initial = np.where(near[:, None, None], found, filled)
        fitters: dict[str, ASMFitter] = {}
        chosen: Any = None
        for name, indices in self.indices_.items():
            asm = AlignedASM(ASM(0.98), scheme=None if scheme is None else scheme.subset(indices.tolist()))
            fitter = self._made(_default_part() if self.part is None else self.part, "part")
            fitter.set_params(asm=asm)
            if chosen is not None:
                fitter.set_params(evidence=clone(chosen))
            fitters[name] = fitter.fit(
                crops, array[:, indices], initial=initial[:, indices], groups=groups, callback=_named(tell, name)
            )
            chosen = fitters[name]._evidence
        if known is not None:
            whole.asm_.landmark_names_ = known.landmark_names
        self.whole_, self.fitters_ = whole, fitters
        self.n_landmarks_ = array.shape[1]
        return self

    def _made(self, template: Any, name: str) -> ASMFitter:
        if not isinstance(template, ASMFitter):
            raise ValueError(f"{name}: got a {type(template).__name__}; expected an ASMFitter.")
        made = template._blank()
        made.evidence = clone(made.evidence, safe=False)
        if self.n_jobs is not None:
            made.n_jobs = self.n_jobs
        return made

    @property
    def asm_(self) -> AlignedASM:
        """The shape model of the whole."""
        return self.whole_.asm_

    @property
    def placement_(self) -> Any:
        """Where the objects stood in the training images."""
        return self.whole_.placement_

    @property
    def detection_(self) -> Any:
        """The map from boxes of `detect_faces`, None unless the whole has learned it."""
        return self.whole_.detection_

    def predict(
        self,
        images: ImagesLike,
        *,
        boxes: ShapesLike | None = None,
        initial: ShapesLike | None = None,
        spacing: ArrayLike | None = None,
        n_starts: int | None = None,
    ) -> SearchResult | list[Any]:
        """Find the landmarks in one image or in each of many.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        boxes : array_like of shape (4,) or (n, 4), optional
            Where the whole is, one box for each image.
        initial : array_like of shape (K, 2) or (n, K, 2), optional
            Shapes of the whole to start from, instead of boxes.
        spacing : float or array_like of shape (2,) or (n, 2), optional
            Distance of pixels along x and y, in the unit of `fit`.
        n_starts : int, optional
            Starts of the search for the whole, as for `ASMFitter.predict`.

        Returns
        -------
        SearchResult or list of SearchResult
            As `ASMFitter.predict` answers them for the whole, with the shape and the confidence of the parts and what
            their searches expect of the error. Plausibility, transform, coefficients and trace are those of the whole.

        Raises
        ------
        ValueError
            For a single search that is not possible; for several boxes or shapes in one image.
        """
        check_is_fitted(self, "whole_")
        answers: Any = self.whole_.predict(images, boxes=boxes, initial=initial, spacing=spacing, n_starts=n_starts)
        single = isinstance(answers, SearchResult)
        results: list[Any] = [answers] if single else list(answers)
        if not all(isinstance(result, SearchResult) for result in results):
            raise ValueError("got several boxes or shapes in an image; expected one in each.")
        many: Any = [images] if single else images
        rows = [i for i, result in enumerate(results) if result.found]
        if not rows:
            return results[0] if single else results
        pictures = [many[i] for i in rows]
        spaced = None if spacing is None else _rows(spacing, len(results), rows)
        parts: dict[str, Any] = {
            name: fitter.predict(
                pictures, initial=np.array([results[i].shape[self.indices_[name]] for i in rows]), spacing=spaced
            )
            for name, fitter in self.fitters_.items()
        }
        for j, i in enumerate(rows):
            results[i] = self._joined(results[i], {name: found[j] for name, found in parts.items()})
        return results[0] if single else results

    def _joined(self, whole: SearchResult, parts: Mapping[str, SearchResult]) -> SearchResult:
        """Put the answers of parts in the place of that of the whole."""
        k = len(whole.shape)
        sums = {"shape": np.zeros((k, 2)), "confidence": np.zeros(k), "expected_error": np.zeros(k)}
        sums["covariance"], count = np.zeros((k, 2, 2)), np.zeros(k)
        for name, part in parts.items():
            if part.found and part.status != "outside":
                at = self.indices_[name]
                count[at] += 1
                for field, total in sums.items():
                    total[at] += getattr(part, field)

        def mean(field: str) -> np.ndarray:
            n = count.reshape(-1, *(1,) * (sums[field].ndim - 1))
            return np.where(n > 0, sums[field] / np.maximum(n, 1), getattr(whole, field))

        shape, confidence, error, covariance = map(mean, sums)
        joined, calibration = float(error.mean()), self.whole_.calibration_
        if whole.lost > 0 and calibration is not None and calibration.lost is not None:
            # Parts begin where the whole was found, and say nothing of whether that is the object.
            assert whole.transform is not None
            size = float(np.asarray(whole.transform.scale)) * self.whole_._frame.side
            joined = size * float(calibration.lost.expected(np.array(whole.lost), np.array(joined / size)))
        return replace(whole, shape=shape, confidence=confidence, expected_error=joined, covariance=covariance)

    def confidence(self, images: ImagesLike, shapes: ShapesLike) -> Any:
        """Return how well images support given shapes, as `ASMFitter.confidence`, judged by the parts.

        Parameters
        ----------
        images : array, path, or sequence of them
            One image, or a batch.
        shapes : array_like of shape (K, 2), or for a batch (n, K, 2)
            Landmarks, pixels of the images; NaN where missing.

        Returns
        -------
        ndarray of shape (K,) or (n, K)
            As `ASMFitter.confidence`.
        """
        check_is_fitted(self, "whole_")
        out = np.asarray(self.whole_.confidence(images, shapes))
        total, count = np.zeros(out.shape), np.zeros(self.n_landmarks_)
        array = np.asarray(shapes, dtype=float)
        for name, at in self.indices_.items():
            total[..., at] += np.asarray(self.fitters_[name].confidence(images, array[..., at, :]))
            count[at] += 1
        return np.where(count > 0, total / np.maximum(count, 1), out)

    def to_archive(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """Return (kind, header, arrays), what `save_model` writes.

        Returns
        -------
        (str, dict, dict)
            The kind, a header that JSON can hold, and arrays by name.
        """
        check_is_fitted(self, "whole_")
        _, whole, arrays = self.whole_.to_archive()
        arrays = {f"whole.{name}": array for name, array in arrays.items()}
        header: dict[str, Any] = {"frame": "image", "whole": whole, "parts": []}
        for number, (name, fitter) in enumerate(self.fitters_.items()):
            _, part, some = fitter.to_archive()
            header["parts"].append({"name": name, "indices": self.indices_[name].tolist(), "header": part})
            arrays |= {f"p{number}.{key}": array for key, array in some.items()}
        return "PartsFitter", header, arrays


def load_parts(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> PartsFitter:
    """Build the `PartsFitter` that `to_archive` took apart."""
    whole = load_fitter(header["whole"], part_of(arrays, "whole."))
    indices = {part["name"]: np.array(part["indices"], dtype=np.intp) for part in header["parts"]}
    fitter = PartsFitter({name: rows.tolist() for name, rows in indices.items()})
    fitter.whole_, fitter.indices_, fitter.n_landmarks_ = whole, indices, whole.n_landmarks_
    fitter.fitters_ = {
        part["name"]: load_fitter(part["header"], part_of(arrays, f"p{number}."))
        for number, part in enumerate(header["parts"])
    }
    return fitter


def _named(tell: Tell, name: str) -> Tell:
    return lambda what, done, total: tell(f"{name}: {what}", done, total)


def _default_part() -> ASMFitter:
    return ASMFitter(evidence="auto", n_levels=_LEVELS, jitter=_JITTER, calibration=_FOLDS)


def _rows(spacing: Any, n: int, rows: list[int]) -> np.ndarray:
    from ._crops import as_spacing

    spaced = as_spacing(spacing, n)
    assert spaced is not None
    return spaced[rows]


def _indices(parts: Any, n_landmarks: int, scheme: Any) -> dict[str, np.ndarray]:
    """Return the landmarks of each part."""
    if isinstance(parts, Mapping):
        chosen = {str(name): np.asarray(list(which)) for name, which in parts.items()}
    elif isinstance(parts, str) or not hasattr(parts, "__iter__"):
        raise ValueError(f"parts: got {parts!r}; expected a mapping of names to landmarks, or names of groups.")
    elif scheme is None:
        raise ValueError("parts: got names of groups, but no scheme; expected a mapping of names to landmarks.")
    else:
        unknown = [name for name in parts if name not in scheme.groups]
        if unknown:
            raise ValueError(
                f"parts: got {unknown[0]!r}; expected groups of {scheme.name}: {', '.join(scheme.groups)}."
            )
        chosen = {str(name): np.asarray(scheme.groups[name]) for name in parts}
    if not chosen:
        raise ValueError("parts: got none; expected at least one part.")
    for name, which in chosen.items():
        if which.ndim != 1 or len(which) < 3 or which.dtype.kind not in "iu" or len(np.unique(which)) < len(which):
            raise ValueError(f"parts[{name!r}]: got {which.tolist()}; expected at least three different landmarks.")
        if which.min() < 0 or which.max() >= n_landmarks:
            raise ValueError(f"parts[{name!r}]: got a landmark outside 0...{n_landmarks - 1}.")
        chosen[name] = which.astype(np.intp)
    return chosen
