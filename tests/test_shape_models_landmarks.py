"""Landmark schemes: the data are consistent, and mirroring means the same in names, in numbers and on faces."""

import copy
import pickle

import numpy as np
import pytest

from shape_models import (
    COFW29,
    IBUG68,
    IMM58,
    MEDIAPIPE478,
    MUCT68,
    MUCT76,
    WFLW98,
    LandmarkScheme,
    convert,
    get_scheme,
    make_faces,
)
from shape_models._mediapipe import IBUG68_VERTICES
from shape_models.datasets import read_imm, read_muct

SCHEMES = [IBUG68, WFLW98, COFW29, IMM58, MUCT76, MUCT68]
# 0-based mirror maps in the numbers of the annotations, from the configurations in use for flip testing
PUBLISHED_MIRRORS = {
    "ibug68": [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37,
        36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ],
    "wflw98": [
        *range(32, -1, -1), 46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39, 38, 51, 52, 53, 54,
        *range(59, 54, -1), 72, 71, 70, 69, 68, 75, 74, 73, 64, 63, 62, 61, 60, 67, 66, 65, *range(82, 75, -1),
        *range(87, 82, -1), *range(92, 87, -1), 95, 94, 93, 97, 96,
    ],
    "cofw29": [
        1, 0, 3, 2, 6, 7, 4, 5, 9, 8, 11, 10, 14, 15, 12, 13, 17, 16, 19, 18, 20, 21, 23, 22, 24, 25, 26, 27, 28,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_MIRRORS)
def test_mirror_is_the_published_map(name):
    assert get_scheme(name).mirror.tolist() == PUBLISHED_MIRRORS[name]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_mirror_is_an_involution_of_names(scheme):
    mirror = scheme.mirror
    assert np.array_equal(mirror[mirror], np.arange(scheme.n_landmarks))
    swap = {"left": "right", "right": "left"}
    for name, other in zip(scheme.names, mirror, strict=True):
        assert scheme.names[other] == "_".join(swap.get(w, w) for w in name.split("_"))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_parts_of_a_scheme_mirror_each_other(scheme):
    swap = {"left": "right", "right": "left"}
    for name, indices in scheme.groups.items():
        other = "_".join(swap.get(w, w) for w in name.split("_"))
        assert set(scheme.mirror[indices].tolist()) == set(scheme.groups[other].tolist()), name
    edges = {frozenset(e) for e in scheme.edges.tolist()}
    assert edges == {frozenset(scheme.mirror[list(e)].tolist()) for e in edges}
    for right, left in scheme.anchors.values():
        assert set(scheme.mirror[right].tolist()) == set(left.tolist())
    assert {"outer_eye_corners", "eye_corners", "pupils"} <= set(scheme.anchors)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_flip_undoes_itself_and_keeps_a_face_a_face(scheme):
    faces = make_faces(400, scheme=scheme, rng=1)
    faces[3, 5] = np.nan
    mirrored = scheme.flip(faces, width=256)
    assert np.isnan(mirrored[3, scheme.mirror[5]]).all()
    np.testing.assert_allclose(scheme.flip(mirrored, width=256), faces, atol=1e-10)
    for key in scheme.anchors:
        right, left = scheme.anchor_points(mirrored, key)
        assert np.nanmax(right[..., 0] - left[..., 0]) < 0
    mean = np.nanmean(faces, axis=0)
    assert np.linalg.norm(scheme.flip(mean, width=256) - mean, axis=-1).max() < 0.03 * np.ptp(mean[:, 0])


def test_flip_without_width_mirrors_about_zero():
    face = make_faces(1, rng=0)[0] - 100.0
    np.testing.assert_array_equal(IBUG68.flip(face)[IBUG68.mirror, 0], -face[:, 0])
    assert IBUG68.flip(face.astype(np.float32), width=64.0).dtype == np.float32


def test_flip_refuses():
    with pytest.raises(ValueError, match="66 landmarks; expected 68"):
        IBUG68.flip(np.zeros((66, 2)), width=10)
    with pytest.raises(ValueError, match="width: got 0"):
        IBUG68.flip(np.zeros((68, 2)), width=0)
    for scheme in (LandmarkScheme("wing", 3), MEDIAPIPE478):
        with pytest.raises(ValueError, match="no mirror map"):
            scheme.flip(np.zeros((scheme.n_landmarks, 2)), width=10)


def test_subset_keeps_what_is_left():
    eyes = IBUG68.subset(["left_eye", "right_eye"])
    assert eyes.n_landmarks == 12
    assert eyes.names[0] == "left_eye_inner"
    assert [eyes.names[i] for i in eyes.mirror] == [
        IBUG68.names[IBUG68.mirror[i]] for i in IBUG68.indices(["left_eye", "right_eye"])
    ]
    assert set(eyes.groups) == {"left_eye", "right_eye"}
    assert len(eyes.edges) == 12
    assert "pupils" in eyes.anchors
    one = IBUG68.subset("left_eye")
    assert one.mirror is None
    assert not one.anchors
    faces = make_faces(4, rng=0)
    for kept, whole in zip(
        eyes.anchor_points(faces[:, IBUG68.indices(["left_eye", "right_eye"])], "pupils"),
        IBUG68.anchor_points(faces, "pupils"),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, whole)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("ear", "got 'ear'; expected a landmark or a group"),
        (68, "got landmark 68"),
        ([True], "For a mask try"),
        ([], "got no landmarks"),
    ],
)
def test_subset_refuses(which, message):
    with pytest.raises(ValueError, match=message):
        IBUG68.subset(which)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"names": ["a", "a", "b"]}, "2 distinct names"),
        ({"mirror": [1, 2, 0]}, "do not undo themselves"),
        ({"groups": {"x": [3]}}, "outside 0...2"),
        ({"edges": [(0, 7)]}, "outside"),
        ({"mirror": [0]}, "permutation"),
        ({"anchors": {"eyes": ([0],)}}, "1 sides"),
        ({"groups": {"x": ["a"]}}, "list of indices"),
    ],
)
def test_scheme_refuses_contradictions(keywords, message):
    with pytest.raises(ValueError, match=message):
        LandmarkScheme("wing", 3, **keywords)


def test_scheme_is_a_value():
    for scheme in (*SCHEMES, MEDIAPIPE478, IBUG68.subset("mouth")):
        for twin in (pickle.loads(pickle.dumps(scheme)), copy.deepcopy(scheme)):
            assert twin == scheme
            assert hash(twin) == hash(scheme)
    assert IBUG68 != IBUG68.subset(range(67))
    with pytest.raises(TypeError):
        IBUG68.groups["mouth"] = []
    with pytest.raises(ValueError, match="read-only"):
        IBUG68.mirror[0] = 1


def test_get_scheme():
    for scheme in (*SCHEMES, MEDIAPIPE478):
        assert get_scheme(scheme.name.upper()) is scheme
        assert get_scheme(scheme) is scheme
    with pytest.raises(ValueError, match=r"got the scheme 'x'; expected one of ibug68"):
        get_scheme("x")


def _mean(shapes):
    """Mean after centring and scaling each shape; enough for sets of upright faces."""
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    return (shapes / np.linalg.norm(shapes, axis=(1, 2), keepdims=True)).mean(axis=0)


def _asymmetry(scheme, mean):
    """Largest distance between a centred mean shape and its mirror image, as a fraction of the face's width."""
    mean = mean - mean.mean(axis=0)
    angle = np.arctan2(*np.subtract(*scheme.anchor_points(mean, "outer_eye_corners")[::-1])[::-1])
    c, s = np.cos(angle), np.sin(angle)
    mean = mean @ np.array([[c, -s], [s, c]])  # upright: the eyes on one level
    return np.linalg.norm(scheme.flip(mean) - mean, axis=-1).max() / np.ptp(mean[:, 0])


@pytest.fixture(scope="module")
def muct(data_dir):
    samples = read_muct(data_dir / "landmarks", mirrored=True)
    return dict(zip((sample.attributes["name"] for sample in samples), samples.shapes(), strict=True))


@pytest.mark.data
@pytest.mark.parametrize("name", ["ibug68", "muct68", "imm58"])
def test_mirroring_a_real_mean_face_gives_nearly_itself(data_dir, muct, name):
    scheme = get_scheme(name)
    if name == "ibug68":
        shapes = np.load(data_dir / "landmarks" / "wflw_test_68.npz")["shapes"]
    elif name == "muct68":
        shapes = np.stack([shape for shape in muct.values() if not np.isnan(shape).any()])
    else:
        shapes = read_imm(data_dir / "imm").shapes()
    mean = _mean(shapes)
    assert _asymmetry(scheme, mean) < 0.05
    wrong = LandmarkScheme("x", scheme.n_landmarks, mirror=np.arange(scheme.n_landmarks), anchors=scheme.anchors)
    assert _asymmetry(wrong, mean) > 0.9
    # the subject's right is on the left of the picture, the chin is the lowest point
    for right, left in (scheme.anchor_points(mean, key) for key in scheme.anchors):
        assert right[0] < left[0]
    assert mean[scheme.names.index("chin"), 1] == mean[:, 1].max()
    if "right_pupil" in scheme.names:
        middle = mean[scheme.groups["right_eye"]].mean(axis=0)
        assert np.linalg.norm(middle - mean[scheme.names.index("right_pupil")]) < 0.02 * np.ptp(mean[:, 0])
    groups = [mean[scheme.groups[g], 1].mean() for g in ("right_brow", "right_eye", "nose", "mouth")]
    assert groups == sorted(groups)


@pytest.mark.data
def test_mirrored_faces_of_muct_are_flips(muct):
    """The archive's own mirrored copies (names ir...) are what flip gives, landmark by landmark."""
    pairs = [(shape, muct["ir" + name[1:]]) for name, shape in muct.items() if "ir" + name[1:] in muct]
    assert len(pairs) == 3755
    faces, mirrored = np.stack(pairs, axis=1)
    flipped = MUCT68.flip(faces, width=480)
    np.testing.assert_array_equal(np.isnan(flipped), np.isnan(mirrored))
    worst = np.nanmax(np.abs(flipped - mirrored))
    assert worst <= 0.11  # the files carry one decimal


def test_convert_marks_every_point():
    pairs = [
        (WFLW98, IBUG68, 60, 8, 0),
        (IBUG68, COFW29, 17, 10, 2),
        (COFW29, IBUG68, 17, 0, 51),
        (MEDIAPIPE478, IBUG68, 13, 55, 0),
        (MUCT76, MUCT68, 68, 0, 0),
        (MUCT68, MUCT76, 68, 0, 8),
        (MUCT68, IBUG68, 29, 0, 39),
        (IBUG68, IBUG68, 68, 0, 0),
    ]
    for source, target, *counts in pairs:
        shapes = np.arange(source.n_landmarks * 2.0).reshape(1, -1, 2)
        result = convert(shapes, source, target.name)
        assert [result.kinds.count(k) for k in ("exact", "interpolated", "missing")] == counts, (source, target)
        assert result.shapes.shape == (1, target.n_landmarks, 2)
        assert np.isnan(result.shapes[0, :, 0]).tolist() == [k == "missing" for k in result.kinds]
        measured = 0.046 if source == MEDIAPIPE478 else None
        assert result.error == (measured if counts[1] else 0.0)
        for i in np.flatnonzero(result.exact):
            assert (result.shapes[0, i] == shapes[0]).all(axis=1).any()


@pytest.mark.parametrize("source", [WFLW98, COFW29, MUCT76, MUCT68])
def test_converted_faces_are_the_faces_of_the_other_scheme(source):
    """The drawn faces are one object in any scheme, so a conversion must land on its own places."""
    target = make_faces(200, rng=2)
    result = convert(make_faces(200, rng=2, scheme=source), source, IBUG68)
    width = np.linalg.norm(np.subtract(*IBUG68.anchor_points(target, "outer_eye_corners")), axis=-1)
    error = (np.linalg.norm(result.shapes - target, axis=-1) / width[:, None]).mean(axis=0)
    assert np.nanmax(error) < 0.035
    back = convert(target, IBUG68, source)
    again = convert(back.shapes, source, IBUG68)
    np.testing.assert_array_equal(
        again.shapes[:, again.exact & ~np.isnan(again.shapes).any((0, 2))].shape[1] > 15, True
    )


@pytest.mark.parametrize(
    ("source", "target"), [(WFLW98, IBUG68), (COFW29, IBUG68), (MUCT76, IBUG68), (IBUG68, COFW29), (IBUG68, WFLW98)]
)
def test_converting_commutes_with_mirroring(source, target):
    faces = make_faces(5, rng=3, scheme=source)
    direct = convert(source.flip(faces), source, target)
    np.testing.assert_allclose(direct.shapes, target.flip(convert(faces, source, target).shapes), atol=1e-9)
    assert [direct.kinds[i] for i in target.mirror] == list(direct.kinds)


def test_mediapipe_groups_pair_up_and_convert_symmetrically():
    """Vertices that the groups list in the same place on both sides are mirror images."""
    middle = (0, 17, 13, 14, 4, 5, 2, 168, 6, 197, 195, 152)
    partner = {**{i: i for i in middle}, 75: 305, 97: 326}
    for part in ("brow", "eye"):
        pairs = zip(MEDIAPIPE478.groups[f"right_{part}"], MEDIAPIPE478.groups[f"left_{part}"], strict=True)
        partner |= {int(r): int(l) for r, l in pairs}
    for part in ("face_oval", "outer_lip", "inner_lip"):
        ring = MEDIAPIPE478.groups[part].tolist()
        start = ring.index({"face_oval": 10, "outer_lip": 0, "inner_lip": 13}[part])
        partner |= {ring[start - k]: ring[(start + k) % len(ring)] for k in range(len(ring))}
    partner |= {b: a for a, b in partner.items()}
    # What the rules say of the mirror images of vertices agrees with the groups, and with itself.
    for i, mirrored in enumerate(IBUG68.mirror):
        rule, other = IBUG68_VERTICES.get(i), IBUG68_VERTICES.get(int(mirrored))
        assert (rule is None) == (other is None)
        if rule is None:
            continue
        assert len(rule) == 3
        assert abs(sum(rule.values()) - 1) < 1e-9
        if i == mirrored:
            assert all(rule[partner.get(v, v)] == w for v, w in rule.items())
            continue
        assert list(rule.values()) == list(other.values())
        for vertex, image in zip(rule, other, strict=True):
            assert partner.setdefault(vertex, image) == image
            assert partner.setdefault(image, vertex) == vertex


def test_convert_keeps_missing_points_missing():
    face = make_faces(1, rng=0, scheme=WFLW98).astype(np.float32)
    face[0, 62] = np.nan
    result = convert(face, WFLW98, IBUG68)
    assert result.shapes.dtype == np.float32
    assert set(np.flatnonzero(np.isnan(result.shapes[0, :, 0]))) == {37, 38}


def test_convert_refuses():
    with pytest.raises(ValueError, match="got imm58 to ibug68; expected one of wflw98 - ibug68"):
        convert(np.zeros((58, 2)), IMM58, IBUG68)
    with pytest.raises(ValueError, match="got 68 landmarks; expected 98"):
        convert(np.zeros((68, 2)), WFLW98, IBUG68)
    other = LandmarkScheme("ibug68", 68)
    with pytest.raises(ValueError, match="expected one of"):
        convert(np.zeros((68, 2)), other, COFW29)


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_flip_and_anchors_take_any_array_library(library):
    xp = pytest.importorskip(library)
    faces = make_faces(4, rng=0)
    array = xp.asarray(faces)
    mirrored = IBUG68.flip(array, width=256)
    assert type(mirrored) is type(array)
    np.testing.assert_allclose(np.asarray(mirrored), IBUG68.flip(faces, width=256), atol=1e-12)
    right, left = IBUG68.anchor_points(array, "pupils")
    assert type(right) is type(array)
    np.testing.assert_allclose(np.asarray(left), IBUG68.anchor_points(faces, "pupils")[1], atol=1e-12)
    with pytest.raises(ValueError, match=r"got an array of shape \(4, 67, 2\)"):
        IBUG68.flip(array[:, :67, :], width=256)


def test_a_name_that_two_schemes_share_is_one_place():
    from itertools import permutations

    from shape_models._scheme_conversion import exact_points
    from shape_models.landmarks import SCHEMES

    checked = 0
    for source, target in permutations(SCHEMES.values(), 2):
        shared = {name for name in source.names if name in target.names and not name.startswith("landmark_")}
        assert not {name for name in shared if "jaw" in name or "_nose_" in name} or (source.name, target.name) in {
            (a, b) for pair in [{"ibug68", "wflw98"}, {"muct76", "muct68"}] for a, b in permutations(pair)
        }
        try:
            exact = exact_points(source, target)
        except ValueError:
            continue
        for name in shared:
            assert exact[target.names.index(name)] == source.names.index(name), (source.name, target.name, name)
            checked += 1
    assert checked > 300


def test_mediapipe_answers_with_or_without_irises():
    points = np.random.default_rng(0).normal(size=(2, 478, 3))
    whole, mesh = convert(points, "mediapipe478", "ibug68"), convert(points[:, :468], "mediapipe478", "ibug68")
    np.testing.assert_array_equal(whole.shapes, mesh.shapes)
    np.testing.assert_array_equal(convert(points[:, :468], "mediapipe468", "ibug68").shapes, mesh.shapes)
    np.testing.assert_array_equal(convert(points, "mediapipe478", "mediapipe468").shapes, points[:, :468])
    for landmark, rule in IBUG68_VERTICES.items():
        expected = sum(weight * points[:, vertex] for vertex, weight in rule.items())
        np.testing.assert_allclose(mesh.shapes[:, landmark], expected, atol=1e-12)
    with pytest.raises(ValueError, match="got 467 landmarks; expected 478"):
        convert(points[:, :467], "mediapipe478", "ibug68")
