"""The landmarks of faces that public data sets and programs annotate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ._scheme import SCHEMES, LandmarkScheme


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
}


def _mediapipe478() -> LandmarkScheme:
    groups: Any = {**_MEDIAPIPE_GROUPS, "mouth": _MEDIAPIPE_GROUPS["outer_lip"] + _MEDIAPIPE_GROUPS["inner_lip"]}
    rings = [part[1:] if "iris" in name else part for name, part in _MEDIAPIPE_GROUPS.items()]
    edges: Any = [(ring[i - 1], ring[i]) for ring in rings for i in range(len(ring))]
    anchors: Any = {
        "outer_eye_corners": ([33], [263]),
        "eye_corners": ([33, 133], [263, 362]),
        "pupils": ([468], [473]),
    }
    return LandmarkScheme("mediapipe478", 478, groups=groups, edges=edges, anchors=anchors)


MEDIAPIPE478 = _mediapipe478()
"""The 478 vertices of MediaPipe's face mesh with irises: groups, edges and anchors; names and mirror are not given."""

MEDIAPIPE468 = MEDIAPIPE478.subset(range(468), name="mediapipe468")
"""The vertices of MediaPipe's face mesh without irises, as it answers by default."""

for _known in (IBUG68, WFLW98, COFW29, IMM58, MUCT76, MUCT68, MEDIAPIPE478, MEDIAPIPE468):
    SCHEMES[_known.name] = _known
