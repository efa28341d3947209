"""The record that every reader of landmarks yields, and the sequence that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from .._array import as_indices, as_numpy, as_shapes, indexing
from .._brief import brief
from .._names import match_labels, number_repeated, own_order, rows_of
from .._options import check_flags
from .._scheme import SchemeLike
from .._typing import ArrayLike
from ..formats import LandmarkFileError
from ..images import image_exists, read_values
from ..landmarks import get_scheme


@brief
@dataclass(frozen=True, eq=False)
class LandmarkSample:
    """The landmarks of one object in a set, with its image, name and attributes.

    Parameters
    ----------
    image : Path or None
        The image; it is never opened here.
    landmarks : ndarray of shape (n_landmarks, n_dims)
        (x, y) or (x, y, z) in `frame`; NaN where a landmark is missing.
    box : ndarray of shape (4,) or None
        The box that the source gives: x0, y0, x1, y1 in the same frame.
    attributes : mapping
        What else the source says about this sample (flags, angles, occlusion, an identifier, a scale ...).
    group : str
        What must not stand on both sides of a split: the person where the source names one, else the image.
    split : str or None
        The part of the set: ``"train"``, ``"test"`` ...
    name : str
        What the sample is called in every command and output: a path with slashes, without suffix.
    labels : tuple of str or None
        The name of each landmark, where the source has them.
    frame : {"pixels", "y_up", "relative", "physical"}
        What the numbers are, as in `LandmarkFile`.
    image_name : str or None
        The image as the source names it.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models.datasets import LandmarkSample
    >>> sample = LandmarkSample(None, np.zeros((68, 2)), group="person 7", split="train")
    >>> sample.landmarks.shape, sample.box is None, sample.frame
    ((68, 2), True, 'pixels')
    """

    image: Path | None
    landmarks: np.ndarray
    box: np.ndarray | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    split: str | None = None
    name: str = field(default="", kw_only=True)
    labels: tuple[str, ...] | None = field(default=None, kw_only=True)
    frame: str = field(default="pixels", kw_only=True)
    image_name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "landmarks", as_numpy(self.landmarks, "landmarks"))
        if self.landmarks.ndim != 2:
            raise ValueError(f"landmarks: got shape {self.landmarks.shape}; expected (n_landmarks, n_dims).")
        if self.box is not None:
            object.__setattr__(self, "box", as_numpy(self.box, "box"))
            if self.box.shape != (4,):
                raise ValueError(f"box: got shape {self.box.shape}; expected (4,), x0, y0, x1, y1.")

    @property
    def curves(self) -> list[np.ndarray]:
        """Curves and outlines that the source gives beside the landmarks, each of shape (n_points, n_dims)."""
        return list(self.attributes.get("curves") or [])


@dataclass(frozen=True)
class Entry:
    """What a source knows of a sample before its landmarks are read."""

    image: Path | None
    group: str
    split: str | None
    source: Any
    name: str = ""


def entry_of(sample: LandmarkSample) -> Entry:
    """Return the entry of a sample that is in memory, for `as_given`."""
    return Entry(sample.image, sample.group, sample.split, sample, sample.name)


class LandmarkSamples(Sequence[LandmarkSample]):
    """The samples of a set, in a fixed order; landmarks are read when a sample is asked for.

    All samples stand in one frame, and landmarks with names stand in one order: a sample that names the same
    landmarks in another order is re-ordered as it is read, one that names others is refused. The record can be
    pickled, and ``numpy.asarray(samples)`` gives its shapes.

    Parameters
    ----------
    entries : iterable
        What is known beforehand of each sample.
    load : callable
        ``load(entry)`` reads one sample.
    scheme : str or LandmarkScheme, optional
        What the landmarks are.
    labels : sequence of str, optional
        The names of the landmarks, in the order of the set.
    frame : str, optional
        The frame of all samples; that of the first one by default, which is then read.
    named : bool
        Whether the source names its samples; otherwise `names` count them.
    source : str
        Where the samples come from, for messages.
    notes : sequence of str
        What a user should hear about the reading, such as files that were left out.

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
        scheme: SchemeLike | None = None,
        labels: Sequence[str] | None = None,
        frame: str | None = "pixels",
        named: bool = True,
        source: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self._entries = tuple(entries)
        self._load = load
        self._frame = frame
        self.scheme = None if scheme is None else get_scheme(scheme)
        self.labels = None if labels is None else tuple(labels)
        self.named = named
        self.source = source
        self.notes = tuple(notes)
        self._orders: dict[tuple[str, ...], np.ndarray | None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> LandmarkSample: ...
    @overload
    def __getitem__(self, index: slice) -> LandmarkSamples: ...
    def __getitem__(self, index: int | slice) -> LandmarkSample | LandmarkSamples:
        with indexing(index, (len(self),)):
            found = self._entries[index]
        return self._copy(found) if isinstance(found, tuple) else self._arranged(found)

    def __repr__(self) -> str:
        scheme = "no scheme" if self.scheme is None else self.scheme.name
        return f"LandmarkSamples({len(self)} samples, {scheme})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the landmarks of samples cannot be had without a copy")
        return np.asarray(self.lengths(), dtype=dtype)

    def _copy(self, entries: Iterable[Entry], **changes: Any) -> LandmarkSamples:
        kept: dict[str, Any] = {"scheme": self.scheme, "labels": self.labels, "frame": self._frame}
        kept |= {"named": self.named, "source": self.source, "notes": self.notes}
        load = changes.pop("load", self._load)
        return LandmarkSamples(entries, load, **kept | changes)

    def _arranged(self, entry: Entry) -> LandmarkSample:
        sample = self._load(entry)
        name = entry.name or sample.name
        if self._frame is None:
            self._frame = sample.frame
        if sample.frame != self._frame:
            raise LandmarkFileError(
                f"{name}: got landmarks in the frame {sample.frame!r}, but {self.names[0]} is in {self._frame!r}; "
                "expected one frame. Try image_size= (--image-size)."
            )
        changes: dict[str, Any] = {"name": name} if name != sample.name else {}
        labels = sample.labels
        if labels is not None and labels != self.labels:
            if self.labels is None:
                raise LandmarkFileError(
                    f"{name}: got landmarks with names ({labels[0]} ...), but {self.names[0]} has none; expected "
                    "names in all, or in none."
                )
            if labels not in self._orders:
                try:
                    own_order(labels)  # refuses a name that occurs twice
                    words = {"where": f"{name}: ", "whose": self.names[0]}
                    self._orders[labels] = match_labels(labels, self.labels, lacking=True, **words)
                except ValueError as error:
                    raise LandmarkFileError(str(error)) from None
            order = self._orders[labels]
            changes["labels"] = self.labels
            if order is not None:
                changes["landmarks"] = rows_of(sample.landmarks, order)
                changes["attributes"] = {
                    key: rows_of(value, order, key) if _per_landmark(value, sample) else value
                    for key, value in sample.attributes.items()
                }
        return replace(sample, **changes) if changes else sample

    @property
    def names(self) -> list[str]:
        """What each sample is called, all different; numbers where the source names none."""
        return [entry.name for entry in self._entries]

    @property
    def images(self) -> list[Path | None]:
        """The image of each sample."""
        return [entry.image for entry in self._entries]

    @property
    def groups(self) -> list[str]:
        """The image or person of each sample, known without reading its landmarks."""
        return [entry.group for entry in self._entries]

    @property
    def splits(self) -> list[str | None]:
        """The part of the set that each sample belongs to."""
        return [entry.split for entry in self._entries]

    @property
    def landmark_names(self) -> tuple[str, ...] | None:
        """What each landmark is called: by the scheme, where there is one, else the labels of the source."""
        return self.labels if self.scheme is None else tuple(self.scheme.names)

    @property
    def frame(self) -> str:
        """The frame of the landmarks of all samples: ``"pixels"``, ``"y_up"``, ``"relative"`` or ``"physical"``."""
        if self._frame is None and self._entries:
            self._frame = self._load(self._entries[0]).frame
        return self._frame or "physical"

    @property
    def boxes(self) -> list[np.ndarray | None]:
        """The box of each sample, or None; reads them."""
        return [sample.box for sample in self]

    @property
    def curves(self) -> list[list[np.ndarray]]:
        """The curves of each sample; reads them."""
        return [sample.curves for sample in self]

    @property
    def attributes(self) -> dict[str, list[Any]]:
        """Each attribute that any sample has, with its value in every sample, None where it has none; reads them."""
        found = [sample.attributes for sample in self]
        keys = dict.fromkeys(key for attributes in found for key in attributes)
        return {key: [attributes.get(key) for attributes in found] for key in keys}

    def in_scheme(self, scheme: SchemeLike) -> LandmarkSamples:
        """Return the samples as landmarks of a scheme, in its order where their names are those of the scheme.

        Parameters
        ----------
        scheme : str or LandmarkScheme
            What the landmarks are.

        Returns
        -------
        LandmarkSamples

        Raises
        ------
        ValueError
            When the set is in another scheme, and when some of its names are of the scheme and others are not.

        Examples
        --------
        >>> from shape_models.datasets import make_face_samples
        >>> make_face_samples(3, rng=0).in_scheme("ibug68").scheme.name
        'ibug68'
        """
        scheme = get_scheme(scheme)
        where = f"{self.source}: " if self.source else ""
        if self.scheme is not None and self.scheme.name != scheme.name:
            raise ValueError(f"{where}got scheme {scheme.name}; expected {self.scheme.name}. Try convert.")
        labels = self.labels
        if labels is not None:
            labels = tuple(labels[i] for i in own_order(labels, scheme, where=where))
        return self._copy(self._entries, scheme=scheme, labels=labels)

    def loaded(self, progress: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> LandmarkSamples:
        """Read all samples now, and return them as a set in memory.

        Parameters
        ----------
        progress : callable, optional
            Is given a sequence and iterates over it, to show how far the reading is.

        Returns
        -------
        LandmarkSamples

        Examples
        --------
        >>> from shape_models.datasets import make_face_samples
        >>> make_face_samples(3, rng=0).loaded().names
        ['0', '1', '2']
        """
        entries = [replace(entry, source=self._arranged(entry)) for entry in progress(self._entries)]
        return self._copy(entries, load=as_given, frame=self.frame if entries else self._frame)

    def with_shapes(self, shapes: ArrayLike, **changes: Any) -> LandmarkSamples:
        """Return the same samples with other landmarks, such as those a model made of them.

        Parameters
        ----------
        shapes : array_like of shape (n_samples, n_landmarks, n_dims)
            One shape for each sample.
        **changes
            `scheme`, `labels` or `frame` of the result, and `curves` (a list for each sample) or ``box=None``, where
            they change.

        Returns
        -------
        LandmarkSamples
            In memory; images, names, groups, splits and attributes stay. A landmark that was not visible and has
            coordinates now is marked as hidden.

        Raises
        ------
        ValueError
            For another number of shapes.

        Examples
        --------
        >>> from shape_models.datasets import make_face_samples
        >>> samples = make_face_samples(3, rng=0)
        >>> halves = samples.with_shapes(samples.shapes() / 2)
        >>> bool((halves[1].landmarks == samples[1].landmarks / 2).all()), halves[1].group == samples[1].group
        (True, True)
        """
        shapes = as_shapes(shapes, n_dims=(2, 3), allow_nan=True).astype(np.float64)
        if shapes.ndim != 3 or len(shapes) != len(self):
            raise ValueError(f"shapes: got an array of shape {shapes.shape}; expected ({len(self)}, n, n_dims).")
        labels = changes.get("labels", self.labels)
        own = {"labels": None if labels is None else tuple(labels), "frame": changes.get("frame", self.frame)}
        own |= {"box": changes.pop("box")} if "box" in changes else {}
        curves = changes.pop("curves", None)
        entries = []
        for i, (entry, sample, shape) in enumerate(zip(self._entries, self, shapes, strict=True)):
            attributes = dict(sample.attributes) if curves is None else {**sample.attributes, "curves": curves[i]}
            if len(shape) != len(sample.landmarks):
                attributes = {key: value for key, value in attributes.items() if not _per_landmark(value, sample)}
            seen: Any = attributes.get("visibility")
            if _per_landmark(seen, sample):  # a visibility of 0 says that the landmark is missing
                attributes["visibility"] = np.where((seen == 0) & np.isfinite(shape).all(axis=1), 1, seen)
            entries.append(replace(entry, source=replace(sample, landmarks=shape, attributes=attributes, **own)))
        return self._copy(entries, load=as_given, **{**changes, "frame": own["frame"]})

    def without(self, *attributes: str) -> LandmarkSamples:
        """Return the samples without some of their attributes.

        Parameters
        ----------
        *attributes : str
            Their names.

        Returns
        -------
        LandmarkSamples
            In memory.

        Examples
        --------
        >>> from shape_models.datasets import make_face_samples
        >>> samples = make_face_samples(3, rng=0)
        >>> samples.without("yaw").attributes.keys() <= samples.attributes.keys()
        True
        """
        entries = [
            replace(entry, source=replace(s, attributes={k: v for k, v in s.attributes.items() if k not in attributes}))
            for entry, s in zip(self._entries, self, strict=True)
        ]
        return self._copy(entries, load=as_given, frame=self.frame)

    def select(self, which: ArrayLike | Callable[[LandmarkSample], bool]) -> LandmarkSamples:
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
        chosen = as_numpy(which, "which", booleans=True)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"which: got a mask of shape {chosen.shape}; expected ({len(self)},).")
            chosen = np.flatnonzero(chosen)
        chosen = as_indices(chosen, "which", "indices or a mask")
        if chosen.size and not (chosen.min() >= -len(self) and chosen.max() < len(self)):
            raise ValueError(f"which: got an index outside 0...{len(self) - 1}; expected indices of samples.")
        return self._copy(self._entries[i] for i in chosen.tolist())

    def shapes(self) -> np.ndarray:
        """Read the landmarks of all samples.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            In `frame`; NaN where a landmark is missing.

        Raises
        ------
        ValueError
            When there are no samples, or they differ in their number of landmarks.
        """
        if not self._entries:
            raise ValueError(f"{self.source or 'samples'}: got no samples; expected at least one.")
        shapes = [sample.landmarks for sample in self]
        first = shapes[0].shape
        for name, shape in zip(self.names, shapes, strict=True):
            if shape.shape != first:
                raise ValueError(
                    f"{name}: got landmarks of shape {shape.shape}, but {self.names[0]} has {first}; expected the same "
                    "number in all. Try converting them to one scheme first, or `shape-models fit --outlines` for "
                    "closed outlines."
                )
        if self.scheme is not None and self.scheme.n_landmarks != first[0]:
            raise ValueError(f"got {first[0]} landmarks; expected {self.scheme.n_landmarks} for {self.scheme.name}.")
        return np.stack(shapes)

    def lengths(self) -> np.ndarray:
        """Read the landmarks of all samples as lengths, which can be superimposed and measured.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)

        Raises
        ------
        ValueError
            For fractions of the width and height of images (`frame` ``"relative"``), which are not alike in x and y,
            and as `shapes`.
        """
        if self.frame == "relative":
            raise ValueError(
                f"{self.source or 'samples'}: got fractions of the width and height of images, which are no lengths; "
                "expected pixels. Put the images beside the files, or try image_size= (--image-size WIDTH HEIGHT)."
            )
        return self.shapes()

    def like(self, names: Sequence[str] | None, frame: str | None, *, whose: str = "the model") -> np.ndarray:
        """Read the landmarks in the order of other names and with y in the direction of another frame.

        Parameters
        ----------
        names : sequence of str or None
            The names of the landmarks of the model, or of what else they are compared with; None where it has none.
        frame : str or None
            Its frame; None or ``"physical"`` where that is not known.
        whose : str
            What to call it in messages.

        Returns
        -------
        ndarray of shape (n_samples, n_landmarks, n_dims)
            As `lengths`; y is negated where one of the two frames counts it downwards and the other upwards.

        Raises
        ------
        ValueError
            When the landmarks have other names, and as `lengths`.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models.datasets import load_landmarks
        >>> samples = load_landmarks(np.array([[[1.0, 2], [3, 4]]]), labels=("nose", "chin"), frame="y_up")
        >>> samples.like(("chin", "nose"), "pixels").tolist()
        [[[3.0, -4.0], [1.0, -2.0]]]
        """
        shapes = self.lengths()
        order = match_labels(self.landmark_names, names, where=f"{self.source}: " if self.source else "", whose=whose)
        if order is not None:
            shapes = shapes[:, order]
        return shapes * [1, -1] if turns(self.frame, frame) and shapes.shape[-1] == 2 else shapes

    def unlike(self, shapes: np.ndarray, names: Sequence[str] | None, frame: str | None) -> np.ndarray:
        """Undo `like`: return shapes in the order and the frame of these samples.

        Parameters
        ----------
        shapes : ndarray of shape (..., n_landmarks, n_dims)
            In the order of `names` and the frame of `frame`.
        names, frame : sequence of str and str, or None
            As for `like`.

        Returns
        -------
        ndarray of the shape of `shapes`
        """
        order = match_labels(self.landmark_names, names)
        shapes = as_shapes(shapes, allow_nan=True)
        if order is not None:
            shapes = shapes[..., np.argsort(order), :]
        return shapes * [1, -1] if turns(self.frame, frame) and shapes.shape[-1] == 2 else shapes

    def digest(self, *, images: bool = True) -> str:
        """Return a fingerprint of the set: names, landmarks, their names and frame, and the content of the images.

        Parameters
        ----------
        images : bool
            Whether the content of the images counts.

        Returns
        -------
        str
            64 hexadecimal digits (SHA-256), the same on every machine and wherever the files lie.

        Examples
        --------
        >>> from shape_models.datasets import make_face_samples
        >>> samples = make_face_samples(3, rng=0)
        >>> samples.digest() == make_face_samples(3, rng=0).digest(), samples.digest() == samples[1:].digest()
        (True, False)
        """
        check_flags(images=images)
        total = hashlib.sha256()

        def put(*parts: bytes) -> None:
            for part in parts:  # the length keeps neighbours apart
                total.update(len(part).to_bytes(8, "little") + part)

        scheme = "" if self.scheme is None else self.scheme.name
        put(scheme.encode(), repr(self.labels).encode(), self.frame.encode())
        for sample in self:
            points = np.ascontiguousarray(sample.landmarks, dtype="<f8")
            put(sample.name.encode(), str(points.shape).encode(), np.where(np.isnan(points), np.nan, points).tobytes())
            if not images or sample.image is None or not image_exists(sample.image):
                put(b"")
            elif sample.image.is_file():
                with sample.image.open("rb") as stream:
                    put(hashlib.file_digest(stream, "sha256").digest())
            else:  # an image that lies in another file
                pixels = read_values(sample.image)
                put(str(pixels.shape).encode(), pixels.tobytes())
        return total.hexdigest()


def turns(first: str | None, second: str | None) -> bool:
    """Say whether one of two frames counts y downwards and the other upwards."""
    return {first, second} == {"pixels", "y_up"}


def named(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries whose names all differ: those of one name are numbered."""
    entries = list(entries)
    return [replace(e, name=name) for e, name in zip(entries, number_repeated([e.name for e in entries]), strict=True)]


def as_given(entry: Entry) -> LandmarkSample:
    sample: LandmarkSample = entry.source
    return sample


def _per_landmark(value: Any, sample: LandmarkSample) -> bool:
    return isinstance(value, np.ndarray) and value.shape[:1] == (len(sample.landmarks),)
