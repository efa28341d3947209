"""Landmark schemes: what each point of an annotation is called, where it sits, and which point is its mirror image.

Left and right are the *subject's*: in an upright image the subject's right eye is on the left of the picture.
Indices count from 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from ._array import array_namespace, as_array, as_shapes
from ._mediapipe import IBUG68_ERROR, IBUG68_VERTICES
from .curves import Curve

__all__ = [
    "COFW29", "IBUG68", "IMM58", "MEDIAPIPE468", "MEDIAPIPE478", "MUCT68", "MUCT76", "WFLW98", "Conversion",
    "LandmarkScheme",
    "convert", "get_scheme",
]  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class LandmarkScheme:
    """The meaning of the landmarks of one annotation scheme, as data.

    Parameters
    ----------
    name : str
        Short name, such as ``"ibug68"``.
    n_landmarks : int
        Number of landmarks.
    names : sequence of str, optional
        One distinct name for each landmark; by default ``"landmark_0"``, ``"landmark_1"``, ...
    groups : mapping of str to sequence of int, optional
        Parts of the object: name of the part to the indices of its landmarks. Kept as read-only index arrays, so
        ``shapes[..., scheme.groups["mouth"], :]`` selects them.
    edges : sequence of (int, int), optional
        Pairs of landmarks that are joined in a drawing; kept as an array of shape (n_edges, 2).
    mirror : sequence of int, optional
        A permutation that is its own inverse: ``mirror[i]`` is the landmark at the place of landmark `i` in a mirrored
        image. None when the object has no mirror symmetry or it is not known.
    anchors : mapping of str to (sequence of int, sequence of int), optional
        Pairs of reference points for normalisers and initialisation: the indices on the subject's right and those on
        the left. An anchor point is the mean of its landmarks. Faces have ``"outer_eye_corners"``, ``"eye_corners"``
        (middle of the two corners of each eye) and ``"pupils"`` (the pupil, or the mean of the contour of the eye).
    curves : sequence of Curve, optional
        Curves through landmarks, along which semilandmarks may slide. Where no edges are given they give them.

    Raises
    ------
    ValueError
        When the parts contradict each other: an index out of range, a name used twice, a `mirror` that is not its own
        inverse.

    Examples
    --------
    >>> from shape_models import IBUG68
    >>> IBUG68
    LandmarkScheme('ibug68', 68 landmarks)
    >>> IBUG68.names[36], IBUG68.names[int(IBUG68.mirror[36])]
    ('right_eye_outer', 'left_eye_outer')
    >>> IBUG68.groups["right_eye"]
    array([36, 37, 38, 39, 40, 41])
    """

    name: str
    n_landmarks: int
    names: Sequence[str] = field(default=(), kw_only=True)
    groups: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    edges: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.intp), kw_only=True)
    mirror: np.ndarray | None = field(default=None, kw_only=True)
    anchors: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, kw_only=True)
    curves: Sequence[Curve] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        n = self.n_landmarks
        if not isinstance(self.name, str):
            raise ValueError(f"name: got {self.name!r}; expected a text.")
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"n_landmarks: got {n!r}; expected a positive integer.")
        names = tuple(map(str, self.names)) or tuple(f"landmark_{i}" for i in range(n))
        if len(names) != n or len(set(names)) != n:
            raise ValueError(f"names: got {len(set(names))} distinct names; expected one for each of {n} landmarks.")
        groups = {str(k): self._index_array(v, f"groups[{k!r}]") for k, v in self.groups.items()}
        curves = tuple(self.curves)
        for curve in curves:
            self._index_array(curve.indices, f"curves ({curve.name or 'unnamed'})")
        edges = np.array(self.edges, dtype=np.intp).reshape(-1, 2)
        if not edges.size:
            edges = np.array([pair for curve in curves for pair in curve.edges], dtype=np.intp).reshape(-1, 2)
        self._index_array(edges.ravel(), "edges")
        edges.flags.writeable = False
        mirror = self.mirror
        if mirror is not None:
            mirror = self._index_array(mirror, "mirror")
            if mirror.shape != (n,) or not np.array_equal(mirror[mirror], np.arange(n)):
                raise ValueError(
                    f"mirror: got {mirror.size} indices that do not undo themselves; "
                    f"expected a permutation of {n} landmarks with mirror[mirror[i]] == i."
                )
        anchors = {}
        for key, sides in self.anchors.items():
            if len(sides) != 2:
                raise ValueError(f"anchors[{key!r}]: got {len(sides)} sides; expected (right, left).")
            right, left = (self._index_array(side, f"anchors[{key!r}]") for side in sides)
            anchors[str(key)] = (right, left)
        for attribute, value in (
            ("n_landmarks", int(n)), ("names", names), ("groups", _Frozen(groups)), ("edges", edges),
            ("mirror", mirror), ("anchors", _Frozen(anchors)), ("curves", curves),
        ):  # fmt: skip
            object.__setattr__(self, attribute, value)

    def _index_array(self, indices: Any, what: str) -> np.ndarray:
        array = np.array(indices)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"{what}: got {indices!r}; expected a list of indices.")
        if array.size and not (array.min() >= 0 and array.max() < self.n_landmarks):
            raise ValueError(f"{what}: got an index outside 0...{self.n_landmarks - 1}.")
        array = array.astype(np.intp)
        array.flags.writeable = False
        return array

    def __repr__(self) -> str:
        return f"LandmarkScheme({self.name!r}, {self.n_landmarks} landmarks)"

    def _key(self) -> tuple:
        return (
            self.name, self.n_landmarks, self.names, None if self.mirror is None else tuple(self.mirror.tolist()),
            tuple(map(tuple, self.edges.tolist())),
            tuple((k, tuple(v.tolist())) for k, v in self.groups.items()),
            tuple((k, tuple(r.tolist()), tuple(l.tolist())) for k, (r, l) in self.anchors.items()), self.curves,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, LandmarkScheme) and self._key() == other._key())

    def __hash__(self) -> int:
        return hash((self.name, self.n_landmarks, self.names))

    def __reduce__(self) -> tuple:
        if SCHEMES.get(self.name) is self:
            return get_scheme, (self.name,)
        keywords = {k: getattr(self, k) for k in ("names", "groups", "edges", "mirror", "anchors", "curves")}
        keywords["groups"], keywords["anchors"] = dict(self.groups), dict(self.anchors)
        return _rebuild, (self.name, self.n_landmarks, keywords)

    def indices(self, which: str | int | Iterable[str | int]) -> np.ndarray:
        """Return the landmarks that names, groups or indices select, in the order asked for.

        Parameters
        ----------
        which : str, int, or iterable of them
            Names of landmarks, names of groups, indices from 0; a landmark selected twice appears once.

        Returns
        -------
        ndarray of int

        Raises
        ------
        ValueError
            For a name that the scheme does not have and an index out of range.

        Examples
        --------
        >>> from shape_models import IBUG68
        >>> IBUG68.indices(["chin", "inner_lip"])
        array([ 8, 60, 61, 62, 63, 64, 65, 66, 67])
        """
        chosen: list[int] = []
        if isinstance(which, str | int | np.integer):
            which = [which]
        for item in which:
            if isinstance(item, str):
                if item in self.groups:
                    chosen.extend(self.groups[item].tolist())
                elif item in self.names:
                    chosen.append(self.names.index(item))
                else:
                    raise ValueError(
                        f"got {item!r}; expected a landmark or a group of {self.name}. "
                        f"Its groups are {', '.join(self.groups) or '(none)'}."
                    )
            elif isinstance(item, bool | np.bool_) or not isinstance(item, int | np.integer):
                raise ValueError(f"got {item!r}; expected names or indices. For a mask try numpy.flatnonzero(mask).")
            elif not 0 <= item < self.n_landmarks:
                raise ValueError(f"got landmark {item}; expected 0...{self.n_landmarks - 1} ({self.name}).")
            else:
                chosen.append(int(item))
        return np.array(list(dict.fromkeys(chosen)), dtype=np.intp)

    def subset(self, which: str | int | Iterable[str | int], *, name: str | None = None) -> LandmarkScheme:
        """Return the scheme of some of the landmarks, re-indexed.

        Groups and edges keep what is left of them; a group with nothing left is dropped. The mirror map survives when
        every chosen landmark's mirror image is chosen too, an anchor or a curve when all of its landmarks are.

        Parameters
        ----------
        which : str, int, or iterable of them
            As in `indices`; ``shapes[..., scheme.indices(which), :]`` are the coordinates that belong to the result.
        name : str, optional
            Name of the new scheme; by default the old one with the number of landmarks.

        Returns
        -------
        LandmarkScheme

        Examples
        --------
        >>> from shape_models import IBUG68
        >>> inner = IBUG68.subset(range(17, 68), name="ibug51")
        >>> inner.n_landmarks, inner.names[0], "jaw" in inner.groups
        (51, 'right_brow_0', False)
        """
        chosen = self.indices(which)
        if not chosen.size:
            raise ValueError("got no landmarks; expected at least one.")
        place = {int(old): new for new, old in enumerate(chosen)}
        groups = {k: [place[i] for i in v.tolist() if i in place] for k, v in self.groups.items()}
        mirror = None
        if self.mirror is not None and all(int(self.mirror[i]) in place for i in place):
            mirror = [place[int(self.mirror[i])] for i in place]
        anchors = {
            key: tuple([place[i] for i in side.tolist()] for side in sides)
            for key, sides in self.anchors.items()
            if all(i in place for side in sides for i in side.tolist())
        }
        kept: Any = {
            "names": [self.names[i] for i in place],
            "groups": {k: v for k, v in groups.items() if v},
            "edges": [(place[i], place[j]) for i, j in self.edges.tolist() if i in place and j in place],
            "mirror": mirror,
            "anchors": anchors,
            "curves": [
                replace(curve, indices=[place[i] for i in curve.indices], fixed=[place[i] for i in curve.fixed])
                for curve in self.curves
                if all(i in place for i in curve.indices)
            ],
        }
        return LandmarkScheme(name or f"{self.name}[{chosen.size}]", int(chosen.size), **kept)

    def flip(self, shapes: Any, *, width: float | None = None) -> Any:
        """Mirror shapes left to right and give each point the index of its mirror image.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            Of any array library; the first coordinate is x. Missing landmarks (NaN) stay missing, under the index of
            their mirror image.
        width : float, optional
            Width of the image in pixels: x becomes ``width - 1 - x``, as pixel centres are integers from 0. Without
            it x becomes ``-x``, the mirror image in a centred frame.

        Returns
        -------
        array of shape (..., n_landmarks, n_dims)

        Raises
        ------
        ValueError
            When the scheme has no mirror map, for a wrong number of landmarks and for a width that is not positive.

        Examples
        --------
        >>> from shape_models import IBUG68, make_faces
        >>> face = make_faces(1, rng=0)[0]
        >>> mirrored = IBUG68.flip(face, width=256)
        >>> bool(mirrored[45, 0] == 255 - face[36, 0])  # the outer corner of the other eye
        True
        """
        if self.mirror is None:
            raise ValueError(f"the scheme {self.name} has no mirror map. Try LandmarkScheme(..., mirror=...).")
        if width is not None and not (np.isfinite(width) and width > 0):
            raise ValueError(f"width: got {width!r}; expected the width of the image in pixels.")
        if isinstance(shapes, np.ndarray) or not hasattr(shapes, "dtype"):
            shapes = as_shapes(shapes, n_landmarks=self.n_landmarks, allow_nan=True)
        elif shapes.ndim < 2 or shapes.shape[-2] != self.n_landmarks:
            raise ValueError(
                f"shapes: got an array of shape {tuple(shapes.shape)}; "
                f"expected (..., {self.n_landmarks}, n_dims) for {self.name}."
            )
        xp = array_namespace(shapes)
        mirror = xp.asarray(np.array(self.mirror), **({} if xp is np else _device_of(shapes)))
        swapped = xp.take(shapes, mirror, axis=-2)
        x = -swapped[..., :1] if width is None else (width - 1) - swapped[..., :1]
        return xp.concat([x, swapped[..., 1:]], axis=-1)

    def anchor_points(self, shapes: Any, name: str) -> tuple[Any, Any]:
        """Return a pair of reference points of each shape: the subject's right one and the left one.

        Parameters
        ----------
        shapes : array of shape (..., n_landmarks, n_dims)
            Landmarks; a missing landmark makes the point NaN.
        name : str
            A key of `anchors`.

        Returns
        -------
        right : array of shape (..., n_dims)
            The anchor on the right of the object.
        left : array of shape (..., n_dims)
            The anchor on its left.

        Raises
        ------
        ValueError
            For an unknown anchor and a wrong number of landmarks.

        Examples
        --------
        >>> import numpy as np
        >>> from shape_models import IBUG68, make_faces
        >>> right, left = IBUG68.anchor_points(make_faces(3, rng=0), "outer_eye_corners")
        >>> right.shape, bool(np.all(right[:, 0] < left[:, 0]))
        ((3, 2), True)
        """
        if name not in self.anchors:
            raise ValueError(
                f"got {name!r}; expected one of {', '.join(self.anchors) or '(no anchors)'} for {self.name}."
            )
        shapes = as_array(shapes)
        if shapes.ndim < 2 or shapes.shape[-2] != self.n_landmarks:
            raise ValueError(
                f"shapes: got an array of shape {tuple(shapes.shape)}; "
                f"expected (..., {self.n_landmarks}, n_dims) for {self.name}."
            )
        right, left = (sum(shapes[..., int(i), :] for i in side) / len(side) for side in self.anchors[name])
        return right, left


class _Frozen(dict):
    """A dictionary that cannot be changed (and, unlike a mapping proxy, can be copied and pickled)."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a landmark scheme cannot be changed. Try dataclasses.replace(scheme, ...).")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple:
        return _Frozen, (dict(self),)


def _rebuild(name: str, n_landmarks: int, keywords: dict) -> LandmarkScheme:
    return LandmarkScheme(name, n_landmarks, **keywords)


def _device_of(array: Any) -> dict:
    device = getattr(array, "device", None)
    return {} if device is None else {"device": device}


SchemeLike: TypeAlias = LandmarkScheme | str


def get_scheme(name: SchemeLike) -> LandmarkScheme:
    """Return a landmark scheme by its name.

    Parameters
    ----------
    name : str or LandmarkScheme
        Case, spaces, ``-`` and ``_`` do not matter; a scheme is returned as it is.

    Returns
    -------
    LandmarkScheme

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> from shape_models import get_scheme
    >>> get_scheme("IBUG-68").n_landmarks
    68
    """
    if isinstance(name, LandmarkScheme):
        return name
    if isinstance(name, str):
        key = "".join(c for c in name.lower() if c not in "-_ ")
        if key in SCHEMES:
            return SCHEMES[key]
    raise ValueError(f"got the scheme {name!r}; expected one of {', '.join(SCHEMES)}, or a LandmarkScheme.")


def _run(first: int, last: int, *, closed: bool = False) -> list[tuple[int, int]]:
    """Edges first - first+1 - ... - last, and back to the first when closed."""
    edges = [(i, i + 1) for i in range(first, last)]
    return [*edges, (last, first)] if closed else edges


def _mirror_by_name(names: Sequence[str]) -> list[int]:
    """Return the mirror map that the words left and right in the names define."""
    place = {name: i for i, name in enumerate(names)}
    swap = {"left": "right", "right": "left"}
    return [place["_".join(swap.get(word, word) for word in name.split("_"))] for name in names]


def _side(side: str, names: Iterable[str]) -> list[str]:
    return [f"{side}_{name}" for name in names]


def _count(part: str, first: int, last: int) -> list[str]:
    """Return part_first ... part_last, upwards or downwards."""
    step = 1 if last >= first else -1
    return [f"{part}_{i}" for i in range(first, last + step, step)]


def _of(part: str, first: int, last: int, n: int) -> list[str]:
    """Count a part whose n points stand at places of their own, so that their names are not those of another scheme."""
    return [f"{name}_of_{n}" for name in _count(part, first, last)]


def _jaw_names(right: list[str]) -> list[str]:
    """Name the points from the subject's right ear over the chin to the left ear; numbers count from the ear."""
    return [*_side("right", right), "chin", *_side("left", right[::-1])]


# WFLW has a point between each two of iBUG
_JAW17 = _count("jaw", 0, 7)
_JAW33 = [name for i in range(8) for name in (f"jaw_{i}", f"jaw_{i}_half")]


def _mouth_names() -> list[str]:
    """Name the 20 points of iBUG's and WFLW's mouth, from the subject's right corner over the upper lip."""
    return [*_outer_lip_names(), *_side("right", ["inner_mouth_corner", "inner_upper_lip"]),
            "inner_upper_lip_middle", *_side("left", ["inner_upper_lip", "inner_mouth_corner", "inner_lower_lip"]),
            "inner_lower_lip_middle", "right_inner_lower_lip"]  # fmt: skip


def _outer_lip_names() -> list[str]:
    return [*_side("right", ["mouth_corner", "outer_upper_lip_0", "outer_upper_lip_1"]), "outer_upper_lip_middle",
            *_side("left", ["outer_upper_lip_1", "outer_upper_lip_0", "mouth_corner", "outer_lower_lip_0",
                            "outer_lower_lip_1"]),
            "outer_lower_lip_middle", *_side("right", ["outer_lower_lip_1", "outer_lower_lip_0"])]  # fmt: skip


_EYE6 = ["eye_outer", "eye_upper_outer", "eye_upper_inner", "eye_inner", "eye_lower_inner", "eye_lower_outer"]
# of six points those between the corners stand at thirds, of eight at quarters
_EYE8 = ["eye_outer", "eye_upper_outer_quarter", "eye_top", "eye_upper_inner_quarter", "eye_inner",
         "eye_lower_inner_quarter", "eye_bottom", "eye_lower_outer_quarter"]  # fmt: skip
# the left eye of iBUG and WFLW starts at its inner corner and goes over the top
_EYE6_INNER = [_EYE6[i] for i in (3, 2, 1, 0, 5, 4)]
_EYE8_INNER = [_EYE8[i] for i in (4, 3, 2, 1, 0, 7, 6, 5)]


def _scheme(name: str, names: Sequence[str], groups: Any, edges: Any, anchors: Any) -> LandmarkScheme:
    groups = {key: list(indices) for key, indices in groups.items()}
    mirror: Any = _mirror_by_name(names)
    return LandmarkScheme(name, len(names), names=names, groups=groups, edges=edges, mirror=mirror, anchors=anchors)


IBUG68 = _scheme(
    "ibug68",
    [
        *_jaw_names(_JAW17), *_side("right", _count("brow", 0, 4)), *_side("left", _count("brow", 4, 0)),
        *_count("nose_bridge", 0, 2), "nose_tip", *_side("right", _count("nostril", 0, 1)), "nose_base",
        *_side("left", _count("nostril", 1, 0)), *_side("right", _EYE6), *_side("left", _EYE6_INNER), *_mouth_names(),
    ],
    {
        "jaw": range(17), "right_brow": range(17, 22), "left_brow": range(22, 27), "nose": range(27, 36),
        "nose_bridge": range(27, 31), "nostrils": range(31, 36), "right_eye": range(36, 42), "left_eye": range(42, 48),
        "mouth": range(48, 68), "outer_lip": range(48, 60), "inner_lip": range(60, 68),
    },
    [
        *_run(0, 16), *_run(17, 21), *_run(22, 26), *_run(27, 30), *_run(31, 35), *_run(36, 41, closed=True),
        *_run(42, 47, closed=True), *_run(48, 59, closed=True), *_run(60, 67, closed=True),
    ],
    {
        "outer_eye_corners": ([36], [45]),
        "eye_corners": ([36, 39], [45, 42]),
        "pupils": (range(36, 42), range(42, 48)),
    },
)  # fmt: skip
"""The 68 landmarks of iBUG (300-W, and everything annotated like it)."""

WFLW98 = _scheme(
    "wflw98",
    [
        *_jaw_names(_JAW33), *_side("right", [*_count("brow", 0, 4), *_count("lower_brow", 3, 0)]),
        *_side("left", [*_count("brow", 4, 0), *_count("lower_brow", 0, 3)]),
        *_count("nose_bridge", 0, 2), "nose_tip", *_side("right", _count("nostril", 0, 1)), "nose_base",
        *_side("left", _count("nostril", 1, 0)), *_side("right", _EYE8), *_side("left", _EYE8_INNER), *_mouth_names(),
        "right_pupil", "left_pupil",
    ],
    {
        "jaw": range(33), "right_brow": range(33, 42), "left_brow": range(42, 51), "nose": range(51, 60),
        "nose_bridge": range(51, 55), "nostrils": range(55, 60), "right_eye": range(60, 68), "left_eye": range(68, 76),
        "mouth": range(76, 96), "outer_lip": range(76, 88), "inner_lip": range(88, 96), "right_pupil": [96],
        "left_pupil": [97],
    },
    [
        *_run(0, 32), *_run(33, 41, closed=True), *_run(42, 50, closed=True), *_run(51, 54), *_run(55, 59),
        *_run(60, 67, closed=True), *_run(68, 75, closed=True), *_run(76, 87, closed=True), *_run(88, 95, closed=True),
    ],
    {"outer_eye_corners": ([60], [72]), "eye_corners": ([60, 64], [72, 68]), "pupils": ([96], [97])},
)  # fmt: skip
"""The 98 landmarks of WFLW."""

COFW29 = _scheme(
    "cofw29",
    [
        "right_brow_outer", "left_brow_outer", "right_brow_inner", "left_brow_inner",
        *_side("right", ["brow_top", "brow_bottom"]), *_side("left", ["brow_top", "brow_bottom"]),
        "right_eye_outer", "left_eye_outer", "right_eye_inner", "left_eye_inner",
        *_side("right", ["eye_top", "eye_bottom"]), *_side("left", ["eye_top", "eye_bottom"]),
        "right_pupil", "left_pupil", "right_nose_wing", "left_nose_wing", "nose_tip", "nose_base",
        "right_mouth_corner", "left_mouth_corner", "outer_upper_lip_middle", "inner_upper_lip_middle",
        "inner_lower_lip_middle", "outer_lower_lip_middle", "chin",
    ],
    {
        "right_brow": [0, 4, 2, 5], "left_brow": [1, 6, 3, 7], "right_eye": [8, 12, 10, 13],
        "left_eye": [9, 14, 11, 15], "right_pupil": [16], "left_pupil": [17], "nose": [18, 19, 20, 21],
        "mouth": range(22, 28), "outer_lip": [22, 24, 23, 27], "inner_lip": [25, 26], "chin": [28],
    },
    [
        (0, 4), (4, 2), (2, 5), (5, 0), (1, 6), (6, 3), (3, 7), (7, 1), (8, 12), (12, 10), (10, 13), (13, 8), (9, 14),
        (14, 11), (11, 15), (15, 9), (18, 20), (20, 19), (19, 21), (21, 18), (22, 24), (24, 23), (23, 27), (27, 22),
        (22, 25), (25, 23), (23, 26), (26, 22),
    ],
    {"outer_eye_corners": ([8], [9]), "eye_corners": ([8, 10], [9, 11]), "pupils": ([16], [17])},
)  # fmt: skip
"""The 29 landmarks of COFW (and LFPW before it)."""

IMM58 = _scheme(
    "imm58",
    [
        *_jaw_names(_of("jaw", 0, 5, 6)), *_side("left", _EYE8), *_side("right", _EYE8),
        *_side("left", _of("brow", 4, 0, 5)),
        *_side("right", _of("brow", 4, 0, 5)), "right_mouth_corner", "right_upper_lip", "upper_lip_middle",
        *_side("left", ["upper_lip", "mouth_corner", "lower_lip"]), "lower_lip_middle", "right_lower_lip",
        *_side("right", _of("nose", 0, 4, 5)), "nose_base", *_side("left", _of("nose", 4, 0, 5)),
    ],
    {
        "jaw": range(13), "left_eye": range(13, 21), "right_eye": range(21, 29), "left_brow": range(29, 34),
        "right_brow": range(34, 39), "mouth": range(39, 47), "nose": range(47, 58),
    },
    [
        *_run(0, 12), *_run(13, 20, closed=True), *_run(21, 28, closed=True), *_run(29, 33), *_run(34, 38),
        *_run(39, 46, closed=True), *_run(47, 57),
    ],
    {
        "outer_eye_corners": ([21], [13]),
        "eye_corners": ([21, 25], [13, 17]),
        "pupils": (range(21, 29), range(13, 21)),
    },
)  # fmt: skip
"""The 58 landmarks of the IMM face database."""

_MUCT_BROW = [f"brow_{name}" for name in ("outer", "upper_outer", "upper_inner", "inner", "lower_inner", "lower_outer")]
_MUCT_EYE = ["eye_outer", "eye_top", "eye_inner", "eye_bottom", "pupil"]
_MUCT_EXTRA = [f"eye_{name}_quarter" for name in ("upper_outer", "upper_inner", "lower_inner", "lower_outer")]

MUCT76 = _scheme(
    "muct76",
    [
        *_jaw_names(_of("jaw", 0, 6, 7)), *_side("left", _MUCT_BROW), *_side("right", _MUCT_BROW),
        *_side("right", _MUCT_EYE),
        *_side("left", _MUCT_EYE), *_side("right", _of("nose", 0, 3, 4)), "nose_base",
        *_side("left", _of("nose", 3, 0, 4)), "right_nostril", "left_nostril", *_outer_lip_names(),
        "right_inner_lower_lip", "inner_lower_lip_middle", *_side("left", ["inner_lower_lip", "inner_upper_lip"]),
        "inner_upper_lip_middle", "right_inner_upper_lip", "mouth_center", "nose_tip",
        *_side("right", _MUCT_EXTRA), *_side("left", _MUCT_EXTRA),
    ],
    {
        "jaw": range(15), "left_brow": range(15, 21), "right_brow": range(21, 27),
        "right_eye": [27, 68, 28, 69, 29, 70, 30, 71], "left_eye": [32, 72, 33, 73, 34, 74, 35, 75],
        "right_pupil": [31], "left_pupil": [36], "nose": [*range(37, 48), 67], "mouth": range(48, 67),
        "outer_lip": range(48, 60), "inner_lip": range(60, 66),
    },
    [
        *_run(0, 14), *_run(15, 20, closed=True), *_run(21, 26, closed=True), *_run(37, 45),
        *_run(48, 59, closed=True), (48, 65), (65, 64), (64, 63), (63, 54), (54, 62), (62, 61), (61, 60), (60, 48),
        (27, 68), (68, 28), (28, 69), (69, 29), (29, 70), (70, 30), (30, 71), (71, 27),
        (32, 72), (72, 33), (33, 73), (73, 34), (34, 74), (74, 35), (35, 75), (75, 32),
    ],
    {"outer_eye_corners": ([27], [32]), "eye_corners": ([27, 29], [32, 34]), "pupils": ([31], [36])},
)  # fmt: skip
"""The 76 landmarks of MUCT; its order is not iBUG's."""

MUCT68 = _scheme(
    "muct68",
    MUCT76.names[:68],
    {**MUCT76.subset(range(68)).groups, "right_eye": range(27, 31), "left_eye": range(32, 36)},
    [*MUCT76.subset(range(68)).edges.tolist(), *_run(27, 30, closed=True), *_run(32, 35, closed=True)],
    MUCT76.anchors,
)
"""The first 68 landmarks of MUCT, without the extra points of the eyelids; its order is not iBUG's."""

_OVAL = [
    10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365,
    397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338,
]  # fmt: skip
_MEDIAPIPE_GROUPS = {
    "face_oval": _OVAL,
    "right_brow": [70, 63, 105, 66, 107, 55, 65, 52, 53, 46],
    "left_brow": [300, 293, 334, 296, 336, 285, 295, 282, 283, 276],
    "right_eye": [33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7],
    "left_eye": [263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249],
    "right_iris": [468, 469, 470, 471, 472],
    "left_iris": [473, 474, 475, 476, 477],
    "outer_lip": [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146],
    "inner_lip": [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95],
}  # fmt: skip


def _mediapipe478() -> LandmarkScheme:
    groups: Any = {**_MEDIAPIPE_GROUPS, "mouth": _MEDIAPIPE_GROUPS["outer_lip"] + _MEDIAPIPE_GROUPS["inner_lip"]}
    rings = [part[1:] if "iris" in name else part for name, part in _MEDIAPIPE_GROUPS.items()]
    edges: Any = [(ring[i - 1], ring[i]) for ring in rings for i in range(len(ring))]
    anchors: Any = {
        "outer_eye_corners": ([33], [263]), "eye_corners": ([33, 133], [263, 362]), "pupils": ([468], [473]),
    }  # fmt: skip
    return LandmarkScheme("mediapipe478", 478, groups=groups, edges=edges, anchors=anchors)


MEDIAPIPE478 = _mediapipe478()
"""The 478 vertices of MediaPipe's face mesh with irises: groups, edges and anchors; names and mirror are not given."""

MEDIAPIPE468 = MEDIAPIPE478.subset(range(468), name="mediapipe468")
"""The vertices of MediaPipe's face mesh without irises, as it answers by default."""

SCHEMES: dict[str, LandmarkScheme] = {
    scheme.name: scheme for scheme in (IBUG68, WFLW98, COFW29, IMM58, MUCT76, MUCT68, MEDIAPIPE478, MEDIAPIPE468)
}


# --- From one scheme to another ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Conversion:
    """Landmarks in another scheme, and how each of them was obtained.

    Parameters
    ----------
    shapes : ndarray of shape (..., n_landmarks, n_dims)
        The converted landmarks; NaN where the source has no such point.
    kinds : tuple of str
        One for each landmark of the target: ``"exact"`` (both schemes annotate this point), ``"interpolated"`` (a
        weighted mean of neighbours, or the nearest point the source has) or ``"missing"``.
    scheme : LandmarkScheme
        The target.
    error : float or None
        Mean error of the interpolated points as a fraction of the distance of the outer eye corners; 0 when no point
        is interpolated, None where it was not measured for want of faces annotated in both schemes.

    Examples
    --------
    >>> from shape_models import convert, make_faces
    >>> result = convert(make_faces(2, rng=0, scheme="wflw98"), "wflw98", "ibug68")
    >>> result.exact.sum(), result.kinds[37], result.error is None
    (np.int64(60), 'interpolated', True)
    """

    shapes: np.ndarray
    kinds: tuple[str, ...]
    scheme: LandmarkScheme
    error: float | None

    @property
    def exact(self) -> np.ndarray:
        """Mask of the landmarks that are exact, of shape (n_landmarks,)."""
        return np.array([kind == "exact" for kind in self.kinds])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.shapes, dtype=dtype, copy=copy)


def convert(shapes: Any, source: str | LandmarkScheme, target: str | LandmarkScheme) -> Conversion:
    """Express landmarks of one scheme in another, as far as the two agree.

    Known pairs: WFLW98, COFW29, MUCT76, MUCT68, MEDIAPIPE478 and MEDIAPIPE468 to IBUG68, IBUG68 to COFW29, MUCT76 to
    MUCT68 and MEDIAPIPE478 to MEDIAPIPE468; and of each the way back, with the exact points only. For MediaPipe the
    interpolated points are means of three vertices, learned from images with landmarks of both kinds, and their
    measured error is stated; for the others it is None, as it takes faces that were annotated in both schemes.

    Parameters
    ----------
    shapes : array_like of shape (..., n_landmarks, n_dims)
        Landmarks of the source; a missing one (NaN) leaves what depends on it missing. As MediaPipe answers without
        irises by default, 468 points are taken for ``"mediapipe478"`` too.
    source, target : str or LandmarkScheme
        The two schemes.

    Returns
    -------
    Conversion
        The landmarks, and for each whether it is exact, interpolated or missing.

    Raises
    ------
    ValueError
        For a wrong number of landmarks and for a pair of schemes that is not known.

    Examples
    --------
    >>> from shape_models import convert, make_faces
    >>> result = convert(make_faces(3, rng=0), "ibug68", "cofw29")
    >>> result.shapes.shape, result.kinds.count("exact"), result.kinds.count("missing")
    ((3, 29, 2), 17, 2)
    """
    source, target = get_scheme(source), get_scheme(target)
    if source == MEDIAPIPE478 and np.ndim(shapes) > 1 and np.shape(shapes)[-2] == MEDIAPIPE468.n_landmarks:
        source = MEDIAPIPE468
    array = as_shapes(shapes, n_landmarks=source.n_landmarks, allow_nan=True)
    rules = _rules(source, target)
    depth = max(len(rule) for rule in rules)
    indices = np.zeros((target.n_landmarks, depth), np.intp)
    weights = np.full((target.n_landmarks, depth), np.nan)
    for i, rule in enumerate(rules):
        if rule:
            indices[i] = [index for index, _ in rule] + [rule[0][0]] * (depth - len(rule))
            weights[i] = [weight for _, weight in rule] + [0.0] * (depth - len(rule))
    weights = weights.astype(array.dtype)
    converted = sum(array[..., indices[:, k], :] * weights[:, k, None] for k in range(depth))
    exact = _exact(source, target)
    kinds = tuple("missing" if not rule else "exact" if i in exact else "interpolated" for i, rule in enumerate(rules))
    error = _ERRORS.get((source.name, target.name)) if "interpolated" in kinds else 0.0
    return Conversion(np.asarray(converted), kinds, target, error)


_Rule = list[tuple[int, float]]


def _rules(source: LandmarkScheme, target: LandmarkScheme) -> list[_Rule]:
    """Return for each landmark of the target the landmarks of the source that it is the weighted sum of."""
    if source == target:
        return [[(i, 1.0)] for i in range(source.n_landmarks)]
    exact = _exact(source, target)
    table = _CONVERSIONS.get((source.name, target.name), ({}, {}))[1]
    rules: list[_Rule] = []
    for i in range(target.n_landmarks):
        if i in exact:
            rules.append([(exact[i], 1.0)])
        else:
            total = sum(table.get(i, {}).values())
            rules.append([(j, weight / total) for j, weight in table.get(i, {}).items()])
    return rules


def _exact(source: LandmarkScheme, target: LandmarkScheme) -> dict[int, int]:
    """Return target index -> source index of the points that both annotate."""
    if source == target:
        return {i: i for i in range(source.n_landmarks)}
    known = all(SCHEMES.get(scheme.name) == scheme for scheme in (source, target))
    if known and (source.name, target.name) in _CONVERSIONS:
        return _CONVERSIONS[source.name, target.name][0]
    if known and (target.name, source.name) in _CONVERSIONS:
        return {j: i for i, j in _CONVERSIONS[target.name, source.name][0].items()}
    pairs = "; ".join(f"{a} - {b}" for a, b in _CONVERSIONS)
    raise ValueError(f"got {source.name} to {target.name}; expected one of {pairs}, either way.")


def _conversions() -> dict[tuple[str, str], tuple[dict[int, int], dict[int, dict[int, float]]]]:
    """Return (source, target) -> (exact points, interpolated points with their weights)."""
    # The eye has 8 points in WFLW and 6 in iBUG: a third of the way from corner to corner lies between the points at
    # one and two quarters, one third of the way to the second
    wflw = dict(zip(range(17), range(0, 33, 2), strict=True))
    wflw |= {17 + i: 33 + i for i in range(5)} | {22 + i: 42 + i for i in range(5)} | {27 + i: 51 + i for i in range(9)}
    wflw |= {36: 60, 39: 64, 42: 68, 45: 72} | {48 + i: 76 + i for i in range(20)}
    eyes = {
        37: (61, 62),
        38: (63, 62),
        40: (65, 66),
        41: (67, 66),
        43: (69, 70),
        44: (71, 70),
        46: (73, 74),
        47: (75, 74),
    }
    wflw_eyes = {i: {near: 2.0, far: 1.0} for i, (near, far) in eyes.items()}

    ibug_to_cofw = {
        0: 17, 1: 26, 2: 21, 3: 22, 8: 36, 9: 45, 10: 39, 11: 42, 20: 30, 21: 33, 22: 48, 23: 54, 24: 51, 25: 62,
        26: 66, 27: 57, 28: 8,
    }  # fmt: skip
    cofw_means = {
        4: [19], 6: [24], 12: [37, 38], 13: [40, 41], 14: [43, 44], 15: [46, 47], 16: range(36, 42), 17: range(42, 48),
        18: [31], 19: [35],
    }  # fmt: skip

    muct = {8: 7, 17: 21, 21: 24, 22: 18, 26: 15, 30: 67, 33: 41, 36: 27, 39: 29, 42: 34, 45: 32}
    muct |= {48 + i: 48 + i for i in range(12)} | {61: 65, 62: 64, 63: 63, 65: 62, 66: 61, 67: 60}

    mediapipe = {
        30: 4, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 51: 0, 54: 291, 57: 17, 60: 78, 62: 13, 64: 308, 66: 14,
    }  # fmt: skip

    def means(table: Mapping[int, Iterable[int]]) -> dict[int, dict[int, float]]:
        return {i: dict.fromkeys(indices, 1.0) for i, indices in table.items()}

    return {
        ("wflw98", "ibug68"): (wflw, wflw_eyes),
        ("ibug68", "cofw29"): (ibug_to_cofw, means(cofw_means)),
        ("muct76", "ibug68"): (muct, {}),
        ("muct68", "ibug68"): (muct, {}),
        ("mediapipe478", "ibug68"): (mediapipe, IBUG68_VERTICES),
        ("mediapipe468", "ibug68"): (mediapipe, IBUG68_VERTICES),
        ("mediapipe478", "mediapipe468"): ({i: i for i in range(468)}, {}),
        ("muct76", "muct68"): ({i: i for i in range(68)}, {}),
    }


_CONVERSIONS = _conversions()
_ERRORS = {("mediapipe478", "ibug68"): IBUG68_ERROR, ("mediapipe468", "ibug68"): IBUG68_ERROR}
