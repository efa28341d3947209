"""Landmark schemes: the data are consistent, and mirroring means the same in names, in numbers and on faces."""

import copy
import pickle

import numpy as np
import pytest

from shape_models import IBUG68, LandmarkScheme, get_scheme, make_faces

SCHEMES = [IBUG68]
# 0-based mirror maps in the numbers of the annotations, from the configurations in use for flip testing
PUBLISHED_MIRRORS = {
    "ibug68": [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37,
        36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
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
    with pytest.raises(ValueError, match="no mirror map"):
        LandmarkScheme("wing", 3).flip(np.zeros((3, 2)), width=10)


def test_subset_keeps_what_is_left():
    eyes = IBUG68.subset(["left_eye", "right_eye"])
    assert eyes.n_landmarks == 12
    assert eyes.names[0] == "left_eye_inner"
    assert [eyes.names[i] for i in eyes.mirror] == [IBUG68.names[IBUG68.mirror[i]] for i in IBUG68.indices(
        ["left_eye", "right_eye"])]  # fmt: skip
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
    [("ear", "got 'ear'; expected a landmark or a group"), (68, "got landmark 68"), ([True], "For a mask try"),
     ([], "got no landmarks")],
)  # fmt: skip
def test_subset_refuses(which, message):
    with pytest.raises(ValueError, match=message):
        IBUG68.subset(which)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"names": ["a", "a", "b"]}, "2 distinct names"), ({"mirror": [1, 2, 0]}, "do not undo themselves"),
     ({"groups": {"x": [3]}}, "outside 0...2"), ({"edges": [(0, 7)]}, "outside"), ({"mirror": [0]}, "permutation"),
     ({"anchors": {"eyes": ([0],)}}, "1 sides"), ({"groups": {"x": ["a"]}}, "list of indices")],
)  # fmt: skip
def test_scheme_refuses_contradictions(keywords, message):
    with pytest.raises(ValueError, match=message):
        LandmarkScheme("wing", 3, **keywords)


def test_scheme_is_a_value():
    for scheme in (*SCHEMES, IBUG68.subset("mouth")):
        for twin in (pickle.loads(pickle.dumps(scheme)), copy.deepcopy(scheme)):
            assert twin == scheme
            assert hash(twin) == hash(scheme)
    assert IBUG68 != IBUG68.subset(range(67))
    with pytest.raises(TypeError):
        IBUG68.groups["mouth"] = []
    with pytest.raises(ValueError, match="read-only"):
        IBUG68.mirror[0] = 1


def test_get_scheme():
    for scheme in SCHEMES:
        assert get_scheme(scheme.name.upper()) is scheme
        assert get_scheme(scheme) is scheme
    with pytest.raises(ValueError, match=r"got the scheme 'x'; expected one of ibug68"):
        get_scheme("x")
