"""Evaluation protocols as data: scheme, normaliser, thresholds, subsets, and what was done to the truth.

A protocol is a value. `dataclasses.replace(get_protocol("300w"), normalizer="inter_pupil", name="mine")` makes another,
and `print(protocol)` says all that two numbers must share to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shape_models._options import check_choice
from shape_models.landmarks import get_scheme

from ._crops import AlignedCrop, LandmarkBoxCrop
from ._errors import ErrorArray, nme, pair_faces
from ._subsets import Combination, Subset, plain_key

__all__ = ["PROTOCOLS", "AlignedCrop", "Combination", "LandmarkBoxCrop", "Protocol", "Subset", "get_protocol"]


_ROUNDING = {"": "", "floor": ", truth rounded down in it", "nearest": ", truth rounded in it"}


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
        Whether errors are measured in the frame of `crop`, and not in the image.
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
        check_choice(_ROUNDING, rounding=self.rounding)
        if self.crop is None and self.rounding:
            raise ValueError("crop: got None; expected the frame in which the truth is rounded.")

    def prepare(self, target: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return both in the frame the protocol measures in, the truth rounded as it was.

        Parameters
        ----------
        target, prediction : array_like of shape (n_faces, n_landmarks, n_dims), or samples
            Landmarks in the image. Two sets of samples are paired by name.

        Returns
        -------
        target : ndarray of shape (n_faces, n_landmarks, n_dims)
            Unchanged for protocols without a crop.
        prediction : ndarray of the same shape
            Likewise.
        """
        truth, guess = pair_faces(target, prediction)
        if self.crop is None:
            return truth, guess
        truth, guess = (x.astype(np.float64)[..., :2] for x in (truth, guess))
        to_crop, back = self.crop.maps(truth)
        inside = to_crop(truth)
        if self.rounding:
            # Halves go up, as where it is done in C; rint would take them to the even side.
            inside = np.floor(inside) if self.rounding == "floor" else np.floor(inside + 0.5)
        return (inside, to_crop(guess)) if self.in_crop else (back(inside), guess)

    def errors(self, target: ArrayLike, prediction: ArrayLike, **options: Any) -> ErrorArray:
        """Return the normalised error of each face by this protocol.

        Parameters
        ----------
        target, prediction : array_like of shape (n_faces, n_landmarks, n_dims), or samples
            As for `prepare`.
        **options
            `mask`, `undefined`, `missing` of `nme`.

        Returns
        -------
        ErrorArray of shape (n_faces,)
            As `nme` returns it.
        """
        truth, guess = self.prepare(target, prediction)
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
            where = "errors measured in it" if self.in_crop else "errors measured in the photograph"
            lines.append(f"frame       {self.crop}; {where}{_ROUNDING[self.rounding]}")
        if self.groups:
            lines.append(f"resampled   by {self.groups}{', required' if self.need_groups else ''}")
        lines += [f"note        {note}" for note in self.notes]
        return "\n".join([*lines, f"source      {self.source}"])


# The sizes of published sets, so that a report can say where another set was measured.
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
    known = {plain_key(key): protocol for key, protocol in PROTOCOLS.items()}
    if not isinstance(name, str) or plain_key(name) not in known:
        raise ValueError(f"protocol: got {name!r}; expected one of {', '.join(PROTOCOLS)}, or a Protocol.")
    return known[plain_key(name)]
