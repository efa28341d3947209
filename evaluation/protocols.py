"""Evaluation protocols as data: scheme, normaliser, thresholds, subsets, and what was done to the truth.

A protocol is a value. `dataclasses.replace(get_protocol("300w"), normalizer="inter_pupil", name="mine")` makes another,
and `print(protocol)` says all that two numbers must share to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models import estimate_similarity
from shape_models._array import as_numpy, refuse_masked
from shape_models.landmarks import get_scheme

from ._errors import ErrorArray, nme

__all__ = [
    "PROTOCOLS",
    "AlignedCrop",
    "Combination",
    "LandmarkBoxCrop",
    "Protocol",
    "Subset",
    "get_protocol",
]


@dataclass(frozen=True)
class Subset:
    """A row of the table: the faces whose attribute has a value, or lies in a range.

    Parameters
    ----------
    name : str
        Heading of the row.
    attribute : str, optional
        Attribute of the faces; all faces without one.
    equals : tuple, optional
        Values that belong to the subset.
    low, high : float, optional
        Range of the absolute value, ``low <= |value| < high`` (``<= high`` with `closed`).
    closed : bool
        Whether the range holds its upper end.
    n : int, optional
        Number of faces in the published set; a report says when it has another.

    Examples
    --------
    >>> from evaluation.protocols import Subset
    >>> Subset("profile", "yaw", low=60, high=90, closed=True).mask({"yaw": [5, -70, 90, 95]}, 4)
    array([False,  True,  True, False])
    """

    name: str
    attribute: str | None = None
    equals: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    closed: bool = False
    n: int | None = None

    def given(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether the attribute that the subset needs is there.

        Parameters
        ----------
        attributes : mapping of str to anything
            What is known of the faces.

        Returns
        -------
        bool
            Whether the subset can be taken.
        """
        return self.attribute is None or _key(self.attribute) in map(_key, attributes)

    def mask(self, attributes: Mapping[str, ArrayLike], n_faces: int) -> np.ndarray:
        """Return which faces belong to the subset.

        Parameters
        ----------
        attributes : mapping of str to array_like of shape (n_faces,)
            Values of the faces; case, spaces, ``-`` and ``_`` in the names do not matter.
        n_faces : int
            Number of faces.

        Returns
        -------
        ndarray of bool of shape (n_faces,)

        Raises
        ------
        ValueError
            When the attribute is missing, has another number of values, or text in place of numbers.
        """
        if self.attribute is None:
            return np.ones(n_faces, bool)
        if not self.given(attributes):
            raise ValueError(
                f"attributes: the subset {self.name!r} needs {self.attribute!r}; got {sorted(attributes) or 'none'}."
            )
        values = _attribute(attributes, self.attribute)
        if values.shape != (n_faces,):
            raise ValueError(f"attributes[{self.attribute!r}]: got shape {values.shape}; expected ({n_faces},).")
        if self.equals:
            if (values.dtype.kind in "US") != all(isinstance(value, str) for value in self.equals):
                raise ValueError(
                    f"attributes[{self.attribute!r}]: got values of {values.dtype}; expected some of "
                    f"{', '.join(map(repr, self.equals))}. Text and numbers are never equal: try astype."
                )
            return np.isin(values, self.equals)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"attributes[{self.attribute!r}]: got values of {values.dtype}; expected numbers.")
        size = np.abs(values.astype(np.float64))
        low, high = -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high
        return (size >= low) & ((size <= high) if self.closed else (size < high))


@dataclass(frozen=True)
class Combination:
    """A row that is a weighted mean of other rows.

    Parameters
    ----------
    name : str
        Heading of the row.
    parts : tuple of (str, float)
        Subsets and their weights; divided by their sum.

    Examples
    --------
    >>> from evaluation.protocols import Combination
    >>> full = Combination("full", (("common", 554), ("challenging", 135)))
    >>> round(full.mean({"common": 3.56, "challenging": 6.13}), 3)
    4.064
    """

    name: str
    parts: tuple[tuple[str, float], ...]

    @property
    def weights(self) -> dict[str, float]:
        """Weights that add up to one."""
        total = sum(weight for _, weight in self.parts)
        return {name: weight / total for name, weight in self.parts}

    def mean(self, values: Mapping[str, float]) -> float:
        """Return the weighted mean of the values of the parts.

        Parameters
        ----------
        values : mapping of str to float
            Value of each part.

        Returns
        -------
        float
            In the unit of the values.
        """
        return sum(weight * values[name] for name, weight in self.weights.items())


@dataclass(frozen=True)
class LandmarkBoxCrop:
    """The frame of ASMNet and KD-Loss: the box of the true landmarks, widened, stretched to a square.

    Both axes have their own scale, so that errors in this frame differ from errors in the photograph.

    Parameters
    ----------
    size : float
        Side of the square in pixels.
    margin : float
        Added on every side, in pixels of the photograph.
    pad : float
        Added on every side, as a share of the box.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation.protocols import LandmarkBoxCrop
    >>> truth = np.array([[[10.0, 10.0], [60.0, 110.0]]])
    >>> to_crop, _ = LandmarkBoxCrop(size=200, margin=0).maps(truth)
    >>> to_crop(truth)[0].tolist()
    [[0.0, 0.0], [200.0, 200.0]]
    """

    size: float = 224.0
    margin: float = 10.0
    pad: float = 0.0

    def maps(self, target: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """Return the map from the photograph into the frame, and the one back, for faces (n, n_landmarks, 2).

        Parameters
        ----------
        target : ndarray of shape (n_faces, n_landmarks, 2)
            True landmarks.

        Returns
        -------
        (callable, callable)
            Each maps points of all faces at once.
        """
        low, high = np.fmin.reduce(target, axis=1), np.fmax.reduce(target, axis=1)
        wide = self.margin + self.pad * (high - low)
        corner = np.maximum(low - wide, 0.0)[:, None]
        scale = self.size / (high + wide - corner[:, 0])[:, None]
        return (lambda points: (points - corner) * scale), (lambda points: points / scale + corner)

    def __str__(self) -> str:
        wide = " and ".join(
            text for value, text in ((self.margin, f"{self.margin:g} px"), (self.pad, f"{self.pad:.0%}")) if value
        )
        return (
            f"box of the true landmarks{' widened by ' + wide if wide else ''}, stretched to {self.size:g} x "
            f"{self.size:g}"
        )


@dataclass(frozen=True)
class AlignedCrop:
    """The frame of sdu-face-alignment: turned upright by the true landmarks, then a square about their box.

    A similarity takes the eye centres, the nose tip and the corners of the mouth of the true face to the five points of
    ArcFace (112 x 112), doubled and moved by 80 pixels into 384 x 384. The box of the turned landmarks, its top raised
    by `extend`, is made square, enlarged by `scale` and resized.

    Parameters
    ----------
    extend : float
        Pixels above the box in the frame of 384 pixels; the published script has one number for each test set.
    size : float
        Side of the crop in pixels.
    scale : float
        Enlargement of the square.

    Examples
    --------
    >>> import numpy as np
    >>> from evaluation.protocols import AlignedCrop
    >>> from shape_models import make_faces
    >>> truth = make_faces(2, rng=0)
    >>> to_crop, back = AlignedCrop(extend=36).maps(truth)
    >>> bool(np.allclose(back(to_crop(truth)), truth))
    True
    """

    extend: float
    size: float = 128.0
    scale: float = 1.2

    def maps(self, target: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """Return the map from the photograph into the frame, and the one back, for faces (n, 68, 2).

        Parameters
        ----------
        target : ndarray of shape (n_faces, 68, 2)
            True landmarks of the 68-point scheme.

        Returns
        -------
        (callable, callable)
            Each maps points of all faces at once.
        """
        five = np.stack(
            [target[:, [36, 39]].mean(axis=1), target[:, [42, 45]].mean(axis=1), *(target[:, i] for i in (30, 48, 54))],
            axis=1,
        )
        place = 2 * _ARCFACE + 80.0
        seen = np.isfinite(five).all(axis=-1)
        low, high = (end.reduce(np.where(seen[..., None], five, np.nan), axis=1) for end in (np.fmin, np.fmax))
        lost = ~((high - low).max(axis=1) > 0)  # fewer than two places: no frame, and so no error
        upright = estimate_similarity(np.where(lost[:, None, None], place, five), place)
        target = np.where(lost[:, None, None], np.nan, target)
        turned = upright(target)
        low, high = np.fmin.reduce(turned, axis=1), np.fmax.reduce(turned, axis=1)
        low[:, 1] -= self.extend
        side = self.scale * (high - low).max(axis=1)[:, None, None]
        corner = ((low + high) / 2)[:, None] - side / 2
        back = upright.inverse
        return (
            lambda points: (upright(points) - corner) * self.size / side,
            lambda points: back(points * side / self.size + corner),
        )

    def __str__(self) -> str:
        return (
            f"turned upright by five true landmarks, square about their box raised by {self.extend:g} px, "
            f"x {self.scale:g}, {self.size:g} x {self.size:g}"
        )


# five points of the ArcFace alignment in 112 x 112 (right eye, left eye of the picture, nose, corners of the mouth)
_ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


@dataclass(frozen=True)
class Protocol:
    """Everything that two published numbers must share to be compared.

    Parameters
    ----------
    name : str
        How it is asked for.
    title : str
        One line about the set.
    scheme : str or None
        Name of the landmark scheme; None for landmarks without one, which only boxes and numbers can normalise.
    normalizer : str
        As in `nme`.
    thresholds : tuple of float
        Of the failure rate and the AUC, as fractions.
    subsets : tuple of Subset
        Rows of the table.
    combinations : tuple of Combination
        Rows that are weighted means of others.
    box : str
        Which box the predictor was given.
    groups : str
        What is resampled for the intervals: ``""`` (faces), ``"photograph"`` or ``"person"``.
    need_groups : bool
        Whether numbers without groups would be wrong.
    crop : LandmarkBoxCrop or AlignedCrop, optional
        Frame in which errors or the rounding of the truth take place.
    in_crop : bool
        Whether errors are measured in the frame of `crop`, and not in the photograph.
    rounding : {"", "floor", "nearest"}
        What was done to the true coordinates in the frame of `crop`.
    published_auc : bool
        Whether to add the threshold-weighted "AUC" of ASMNet and KD-Loss.
    source : str
        Where the protocol is from.
    notes : tuple of str
        What to know about it.

    Raises
    ------
    ValueError
        For thresholds that are not positive, an unknown rounding, and a rounding without a crop.

    Examples
    --------
    >>> from evaluation.protocols import get_protocol
    >>> wflw = get_protocol("WFLW")
    >>> wflw.scheme, wflw.normalizer, [s.n for s in wflw.subsets]
    ('wflw98', 'inter_ocular', [2500, 326, 314, 698, 206, 736, 773])
    """

    name: str
    title: str
    scheme: str | None
    normalizer: str
    thresholds: tuple[float, ...]
    subsets: tuple[Subset, ...] = ()
    combinations: tuple[Combination, ...] = ()
    box: str = "any; say which"
    groups: str = ""
    need_groups: bool = False
    crop: LandmarkBoxCrop | AlignedCrop | None = None
    in_crop: bool = False
    rounding: str = ""
    published_auc: bool = False
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.thresholds or not all(np.isfinite(t) and t > 0 for t in self.thresholds):
            raise ValueError(f"thresholds: got {self.thresholds}; expected positive numbers, such as (0.08, 0.1).")
        if self.rounding not in ("", "floor", "nearest"):
            raise ValueError(f"rounding: got {self.rounding!r}; expected '', 'floor' or 'nearest'.")
        if self.crop is None and self.rounding:
            raise ValueError("crop: got None; expected the frame in which the truth is rounded.")

    def prepare(self, target: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both in the frame the protocol measures in, the truth rounded as it was.

        Parameters
        ----------
        target, prediction : ndarray of shape (n_faces, n_landmarks, n_dims)
            Landmarks in the photograph.

        Returns
        -------
        target : ndarray
            As it is, for protocols without a crop.
        prediction : ndarray of the same shape
            As it is, for protocols without a crop.
        """
        if self.crop is None:
            return target, prediction
        truth, guess = (as_numpy(x).astype(np.float64)[..., :2] for x in (target, prediction))
        to_crop, back = self.crop.maps(truth)
        inside = to_crop(truth)
        if self.rounding:
            inside = np.floor(inside) if self.rounding == "floor" else np.floor(inside + 0.5)
        return (inside, to_crop(guess)) if self.in_crop else (back(inside), guess)

    def errors(self, target: ArrayLike, prediction: ArrayLike, **options: Any) -> ErrorArray:
        """Return the normalised error of each face by this protocol.

        Parameters
        ----------
        target, prediction : array_like of shape (n_faces, n_landmarks, n_dims)
            Landmarks in the photograph.
        **options
            `mask`, `undefined`, `missing` of `nme`.

        Returns
        -------
        ErrorArray of shape (n_faces,)
            As `nme` returns it.
        """
        truth, guess = self.prepare(as_numpy(target, "target"), as_numpy(prediction, "prediction"))
        return nme(truth, guess, normalizer=self.normalizer, scheme=self.scheme, **options)

    def __str__(self) -> str:
        scheme = None if self.scheme is None else get_scheme(self.scheme)
        rows = [f"{s.name}" + (f" ({s.n})" if s.n else "") for s in self.subsets]
        for c in self.combinations:
            rows.append(f"{c.name} = mean of " + ", ".join(f"{name} x {w:g}" for name, w in c.parts))
        lines = [
            f"{self.name}: {self.title}",
            "scheme      " + ("none" if scheme is None else f"{scheme.name}, {scheme.n_landmarks} landmarks"),
            f"normalizer  {self.normalizer}",
            f"thresholds  {', '.join(f'{t:g}' for t in self.thresholds)}",
            f"rows        {'; '.join(rows) or 'all faces'}",
            f"box         {self.box}",
        ]
        if self.crop is not None:
            rounding = {"": "", "floor": ", truth rounded down in it", "nearest": ", truth rounded in it"}
            where = "errors measured in it" if self.in_crop else "errors measured in the photograph"
            lines.append(f"frame       {self.crop}; {where}{rounding[self.rounding]}")
        if self.groups:
            lines.append(f"resampled   by {self.groups}{', required' if self.need_groups else ''}")
        lines += [f"note        {note}" for note in self.notes]
        return "\n".join([*lines, f"source      {self.source}"])


def missing_values(attributes: Mapping[str, ArrayLike], attribute: str) -> int:
    """Return how many faces have NaN for an attribute."""
    values = _attribute(attributes, attribute)
    return int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0


def _attribute(attributes: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    values = {_key(key): value for key, value in attributes.items()}[_key(name)]
    refuse_masked(values, f"attributes[{name!r}]")
    return np.asarray(values)


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "-_ ")


_WFLW_PARTS = (
    ("pose", 326),
    ("expression", 314),
    ("illumination", 698),
    ("make_up", 206),
    ("occlusion", 736),
    ("blur", 773),
)
_WFLW = (
    Subset("full", n=2500),
    *(Subset(name.replace("_", "-"), name, equals=(1, True), n=n) for name, n in _WFLW_PARTS),
)
_300W = (
    Subset("common", "split", equals=("common",), n=554),
    Subset("challenging", "split", equals=("challenging",), n=135),
)
_FULL = Combination("full", (("common", 554), ("challenging", 135)))
_YAW = (
    Subset("yaw 0-30", "yaw", low=0, high=30),
    Subset("yaw 30-60", "yaw", low=30, high=60),
    Subset("yaw 60-90", "yaw", low=60, high=90, closed=True),
)
_PARF = "A. Fard et al., ASMNet (CVPR Workshops 2021) and KD-Loss; evaluation code of the authors"
_SDU = "sdu-face-alignment, README of April 2019 and its test script"
_CROPPED = "errors are measured in the stretched crop: not comparable with errors in the photograph"
_ROUNDED = "the truth loses up to a pixel of the 128-pixel crop, as predictions from heat maps do"

_ALL = (
    Protocol(
        "300w", "300-W test set, 689 faces", "ibug68", "inter_ocular", (0.08, 0.1), _300W, (_FULL,),
        groups="photograph",
        source="C. Sagonas et al., 300 Faces In-The-Wild Challenge, IVC 2016; split as in most papers since 2014",
        notes=("HELEN and LFPW test parts are common, iBUG is challenging; the full set is their mean by size.",
               "5 % is used as a threshold too: replace(protocol, thresholds=(0.05,))."),
    ),
    Protocol(
        "300w-inter-pupil", "300-W test set, divided by the distance of the pupils", "ibug68", "inter_pupil",
        (0.08, 0.1), _300W, (_FULL,), groups="photograph",
        source="the convention of many papers before 2018",
        notes=("about 1.4 times the value of 300w on the same predictions",),
    ),
    Protocol(
        "300w-private", "300-W private test set, 600 faces", "ibug68", "inter_ocular", (0.08, 0.1),
        (Subset("full", n=600), Subset("indoor", "place", equals=("indoor",), n=300),
         Subset("outdoor", "place", equals=("outdoor",), n=300)),
        groups="photograph", source="C. Sagonas et al., 300 Faces In-The-Wild Challenge, IVC 2016",
    ),
    Protocol(
        "wflw", "WFLW test set, 2500 faces, six subsets", "wflw98", "inter_ocular", (0.1,), _WFLW,
        box="the rectangle in the annotation file",
        source="W. Wu et al., Look at Boundary, CVPR 2018",
    ),
    Protocol(
        "cofw", "COFW test set, 507 faces, 29 landmarks", "cofw29", "inter_ocular", (0.1,), (Subset("full", n=507),),
        source="X. Burgos-Artizzu et al., Robust face landmark estimation under occlusion, ICCV 2013; HRNet, MMPose",
        notes=("other papers divide by the pupils, 16 and 17: cofw-inter-pupil",),
    ),
    Protocol(
        "cofw-inter-pupil", "COFW test set, divided by the distance of the pupils", "cofw29", "inter_pupil", (0.1,),
        (Subset("full", n=507),), source="the convention of AWing and STAR",
    ),
    Protocol(
        "aflw2000-3d", "AFLW2000-3D, 68 projected landmarks, three bins of yaw", "ibug68", "box_geometric_mean",
        (0.07,), (Subset("all", n=2000), *_YAW), (Combination("mean of bins", tuple((s.name, 1.0) for s in _YAW)),),
        box="box of the true landmarks",
        source="X. Zhu et al., Face Alignment Across Large Poses, CVPR 2016; threshold of Bulat and Tzimiropoulos",
        notes=("faces with |yaw| beyond 90 degrees are in all, in no bin",),
    ),
    Protocol(
        "box", "any landmarks, divided by the size of their box", None, "box_geometric_mean", (0.05, 0.1), (),
        box="box of the true landmarks", source="the normaliser of AFLW2000-3D, which needs no landmark of its own",
    ),
    Protocol(
        "imm", "IMM face database, 240 portraits of 40 persons", "imm58", "inter_ocular", (0.05, 0.1), (),
        groups="person", need_groups=True,
        source="M. Nordstrøm et al., The IMM Face Database, Technical University of Denmark, 2004",
        notes=("fit on the other persons for every person: six pictures of one face are no independent trials",),
    ),
    Protocol(
        "asmnet-300w", "300-W as ASMNet and KD-Loss measured it", "ibug68", "inter_ocular", (0.1,), _300W, (_FULL,),
        box="box of the true landmarks, 10 px wider", groups="photograph",
        crop=LandmarkBoxCrop(224, margin=10), in_crop=True, published_auc=True, source=_PARF, notes=(_CROPPED,),
    ),
    Protocol(
        "asmnet-wflw", "WFLW as ASMNet and KD-Loss measured it", "wflw98", "inter_pupil", (0.1,), _WFLW,
        box="box of the true landmarks, 3 px wider",
        crop=LandmarkBoxCrop(224, margin=3), in_crop=True, published_auc=True, source=_PARF,
        notes=(_CROPPED, "divided by the pupils, where other papers on WFLW divide by the outer eye corners"),
    ),
    Protocol(
        "asmnet-cofw", "COFW as KD-Loss measured it", "cofw29", "inter_ocular", (0.1,), (Subset("full", n=507),),
        box="box of the true landmarks, 5 % wider on every side",
        crop=LandmarkBoxCrop(224, margin=0, pad=0.05), in_crop=True, published_auc=True, source=_PARF,
        notes=(_CROPPED,),
    ),
    *(
        Protocol(
            f"sdu-{name}", f"{title} as sdu-face-alignment measured it", "ibug68", "eye_centers", (0.1,),
            (Subset("all", n=n),), box="turned upright and cut out by the true landmarks",
            crop=AlignedCrop(extend), rounding="floor", source=_SDU, notes=(_ROUNDED,),
        )
        for name, title, n, extend in (
            ("ibug", "iBUG (the challenging part of 300-W)", 135, 36),
            ("cofw", "COFW test set with 68 landmarks", 507, 45),
            ("300w", "300-W private test set", 600, 40),
        )
    ),
    Protocol(
        "sdu-aflw2000-3d", "AFLW2000-3D as sdu-face-alignment measured it", "ibug68", "box_geometric_mean", (0.07,),
        (Subset("all", n=2000),), box="turned upright and cut out by the true landmarks",
        crop=AlignedCrop(30), rounding="nearest", source=_SDU, notes=(_ROUNDED,),
    ),
)  # fmt: skip

PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""The protocols by name."""


def get_protocol(name: str | Protocol) -> Protocol:
    """Return a protocol by its name.

    Parameters
    ----------
    name : str or Protocol
        A key of `PROTOCOLS`; case, spaces, ``-`` and ``_`` do not matter. A protocol is returned as it is.

    Returns
    -------
    Protocol

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> from evaluation.protocols import get_protocol
    >>> print(get_protocol("COFW"))
    cofw: COFW test set, 507 faces, 29 landmarks
    scheme      cofw29, 29 landmarks
    normalizer  inter_ocular
    thresholds  0.1
    rows        full (507)
    box         any; say which
    note        other papers divide by the pupils, 16 and 17: cofw-inter-pupil
    source      X. Burgos-Artizzu et al., Robust face landmark estimation under occlusion, ICCV 2013; HRNet, MMPose
    """
    if isinstance(name, Protocol):
        return name
    known = {_key(key): protocol for key, protocol in PROTOCOLS.items()}
    if not isinstance(name, str) or _key(name) not in known:
        raise ValueError(f"protocol: got {name!r}; expected one of {', '.join(PROTOCOLS)}, or a Protocol.")
    return known[_key(name)]
