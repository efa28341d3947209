"""What the landmarks of one annotation are: their names, groups, edges, curves, mirror images and reference points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ._array import array_namespace, as_array, as_count, as_indices, as_numpy, as_shapes
from ._options import check_numbers
from .curves import Curve

SCHEMES: dict[str, LandmarkScheme] = {}  # those that have a name everywhere


@dataclass(frozen=True, eq=False, repr=False)
class LandmarkScheme:
    """Names, mirror pairs, lines and groups of the landmarks of one annotation scheme.

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
        as_count(n, "n_landmarks", expected="a positive integer")
        names = tuple(map(str, self.names)) or tuple(f"landmark_{i}" for i in range(n))
        if len(names) != n or len(set(names)) != n:
            raise ValueError(f"names: got {len(set(names))} distinct names; expected one for each of {n} landmarks.")
        groups = {str(k): self._index_array(v, f"groups[{k!r}]") for k, v in self.groups.items()}
        curves = tuple(self.curves)
        for curve in curves:
            self._index_array(curve.indices, f"curves ({curve.name or 'unnamed'})")
        edges = as_numpy(self.edges, "edges")
        if edges.size and (edges.ndim != 2 or edges.shape[1] != 2):
            raise ValueError(f"edges: got an array of shape {edges.shape}; expected pairs of indices, (n_edges, 2).")
        if not edges.size:
            edges = np.array([pair for curve in curves for pair in curve.edges], dtype=np.intp)
        edges = self._index_array(edges.ravel(), "edges").reshape(-1, 2)
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
        values = {"n_landmarks": int(n), "names": names, "groups": _Frozen(groups), "edges": edges, "mirror": mirror}
        values |= {"anchors": _Frozen(anchors), "curves": curves}
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def _index_array(self, indices: Any, what: str) -> np.ndarray:
        array = as_indices(indices, what)
        if array.size and not (array.min() >= 0 and array.max() < self.n_landmarks):
            raise ValueError(f"{what}: got an index outside 0...{self.n_landmarks - 1}.")
        array.flags.writeable = False
        return array

    def _check_count(self, shapes: Any) -> None:
        if shapes.ndim < 2 or shapes.shape[-2] != self.n_landmarks or shapes.shape[-1] not in (2, 3):
            raise ValueError(
                f"shapes: got an array of shape {tuple(shapes.shape)}; "
                f"expected (..., {self.n_landmarks}, 2) or (..., {self.n_landmarks}, 3) for {self.name}."
            )

    def __repr__(self) -> str:
        return f"LandmarkScheme({self.name!r}, {self.n_landmarks} landmarks)"

    def _key(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.n_landmarks,
            self.names,
            None if self.mirror is None else tuple(self.mirror.tolist()),
            tuple(map(tuple, self.edges.tolist())),
            tuple((k, tuple(v.tolist())) for k, v in self.groups.items()),
            tuple((k, tuple(r.tolist()), tuple(l.tolist())) for k, (r, l) in self.anchors.items()),
            self.curves,
        )

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, LandmarkScheme) and self._key() == other._key())

    def __hash__(self) -> int:
        return hash((self.name, self.n_landmarks, self.names))

    def __reduce__(self) -> tuple[Any, ...]:
        if SCHEMES.get(self.name) is self:
            return get_scheme, (self.name,)
        keywords = {k: getattr(self, k) for k in ("names", "groups", "edges", "mirror", "anchors", "curves")}
        keywords["groups"], keywords["anchors"] = dict(self.groups), dict(self.anchors)
        return partial(LandmarkScheme, self.name, self.n_landmarks, **keywords), ()

    def indices(self, which: str | int | Iterable[str | int]) -> np.ndarray:
        """Return the landmarks that names, groups or indices select, in the order asked for.

        Parameters
        ----------
        which : str, int, or iterable of them
            Names of landmarks, names of groups, indices from 0; a landmark selected twice appears once.

        Returns
        -------
        ndarray of int of shape (n_selected,)
            Indices from 0.

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

        Raises
        ------
        ValueError
            For no landmark, or names or groups that the scheme does not have.

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
        # Without the mirror image of one of its landmarks a subset has no mirror map.
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
        if width is not None:
            check_numbers(width=width, above=True)
        if isinstance(shapes, np.ndarray) or not hasattr(shapes, "dtype"):
            shapes = as_shapes(shapes, n_landmarks=self.n_landmarks, n_dims=(2, 3), allow_nan=True)
        shapes = as_array(shapes)
        self._check_count(shapes)
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
            raise ValueError(f"got {name!r}; expected one of {', '.join(self.anchors) or '(none)'} for {self.name}.")
        shapes = as_array(shapes)
        self._check_count(shapes)
        right, left = (sum(shapes[..., int(i), :] for i in side) / len(side) for side in self.anchors[name])
        return right, left


class _Frozen(dict[str, Any]):
    """A dictionary that cannot be changed (and, unlike a mapping proxy, can be copied and pickled)."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a landmark scheme cannot be changed. Try dataclasses.replace(scheme, ...).")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Frozen, (dict(self),)


def _device_of(array: Any) -> dict[str, Any]:
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
