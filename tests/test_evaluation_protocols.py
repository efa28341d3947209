"""Protocols as data, and the published variants."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation import nme
from evaluation._crops import ARCFACE
from evaluation.protocols import PROTOCOLS, AlignedCrop, LandmarkBoxCrop, Protocol, Subset, get_protocol
from shape_models import IBUG68, Similarity, estimate_similarity, make_faces
from shape_models.landmarks import get_scheme

FACES = make_faces(40, rng=3)
NOISE = np.random.default_rng(3).normal(size=FACES.shape) * 0.01 * np.ptp(FACES)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_protocol_measures_and_says_how(protocol):
    scheme = IBUG68 if protocol.scheme is None else get_scheme(protocol.scheme)
    rng = np.random.default_rng(0)
    truth = make_faces(5, rng=0) if scheme is IBUG68 else 100 + 50 * rng.random((5, scheme.n_landmarks, 2))
    guess = truth + rng.normal(size=truth.shape)
    errors = protocol.errors(truth, guess)
    assert errors.shape == (5,)
    assert protocol.normalizer in errors.definition
    if not protocol.rounding:
        assert (protocol.errors(truth, truth) == 0).all()
    text = str(protocol)
    landmarks = "none" if protocol.scheme is None else scheme.name
    for word in (protocol.name, landmarks, protocol.normalizer, protocol.box, protocol.source):
        assert word in text
    assert protocol.thresholds
    assert all(0 < t < 1 for t in protocol.thresholds)
    assert len({s.name for s in protocol.subsets}) == len(protocol.subsets)
    for combination in protocol.combinations:
        assert {name for name, _ in combination.parts} <= {s.name for s in protocol.subsets}
        assert sum(combination.weights.values()) == pytest.approx(1)


def test_the_full_set_is_the_weighted_mean_of_its_parts():
    protocol = get_protocol("300W")
    assert sum(s.n for s in protocol.subsets) == 689
    full = protocol.combinations[0]
    assert full.mean({"common": 3.93, "challenging": 6.84}) == pytest.approx((554 * 3.93 + 135 * 6.84) / 689)


def test_wflw_has_its_six_subsets():
    sizes = {s.name: s.n for s in get_protocol("wflw").subsets}
    assert sizes == {
        "full": 2500,
        "pose": 326,
        "expression": 314,
        "illumination": 698,
        "make-up": 206,
        "occlusion": 736,
        "blur": 773,
    }


def test_names_forgive_spelling_and_unknown_ones_are_listed():
    assert get_protocol("AFLW2000_3D") is PROTOCOLS["aflw2000-3d"]
    assert get_protocol(PROTOCOLS["cofw"]) is PROTOCOLS["cofw"]
    with pytest.raises(ValueError, match=r"protocol: got '300v'; expected one of 300w, .*wflw"):
        get_protocol("300v")
    with pytest.raises(ValueError, match="protocol: got 3"):
        get_protocol(3)


def test_subsets_take_values_and_ranges():
    assert Subset("s", "Make-Up", equals=(1, True)).mask({"make_up": [0, 1, True]}, 3).tolist() == [False, True, True]
    edges = Subset("s", "yaw", low=30, high=60)
    assert edges.mask({"yaw": [30, -30, 60, 29.9]}, 4).tolist() == [True, True, False, False]
    assert Subset("s").mask({}, 2).all()
    with pytest.raises(ValueError, match=r"the subset 's' needs 'yaw'; got \['pose'\]"):
        Subset("s", "yaw", low=0).mask({"pose": [1]}, 1)
    with pytest.raises(ValueError, match=r"attributes\['yaw'\]: got shape \(2,\)"):
        Subset("s", "yaw", low=0).mask({"yaw": [1, 2]}, 1)


def test_the_stretched_crop_has_two_scales():
    truth = np.array([[[20.0, 40.0], [70.0, 140.0], [45.0, 60.0]]])
    to_crop, back = LandmarkBoxCrop(224, margin=10).maps(truth)
    inside = to_crop(truth)[0]
    np.testing.assert_allclose(inside[0], [224 * 10 / 70, 224 * 10 / 120])
    np.testing.assert_allclose(inside[1], [224 * 60 / 70, 224 * 110 / 120])
    np.testing.assert_allclose(back(to_crop(truth)), truth)
    corner = LandmarkBoxCrop(224, margin=50).maps(truth)[0](np.zeros((1, 1, 2)))
    np.testing.assert_allclose(corner[0, 0], 0)  # clamped at the corner of the photograph
    wide = LandmarkBoxCrop(100, margin=0, pad=0.05).maps(truth)[0](truth)
    np.testing.assert_allclose(wide.min(axis=1)[0], 100 * 0.05 / 1.1)


def test_errors_in_the_stretched_crop_differ_from_those_in_the_photograph():
    published, photograph = get_protocol("asmnet-300w"), get_protocol("300w")
    truth, _ = published.prepare(FACES, FACES + NOISE)
    low, high = FACES.min(axis=1) - 10, FACES.max(axis=1) + 10
    scale = 224 / (high - np.maximum(low, 0))
    expected = nme(FACES * scale[:, None], (FACES + NOISE) * scale[:, None], normalizer="inter_ocular", scheme=IBUG68)
    np.testing.assert_allclose(published.errors(FACES, FACES + NOISE), expected, rtol=1e-10)
    assert truth.max() < 224
    assert np.abs(published.errors(FACES, FACES + NOISE) - photograph.errors(FACES, FACES + NOISE)).max() > 1e-4


def test_pupils_make_the_published_wflw_numbers_larger():
    rng = np.random.default_rng(1)
    truth = 100 + 50 * rng.random((6, 98, 2))
    truth[:, 60], truth[:, 72], truth[:, 96], truth[:, 97] = [90, 120], [170, 120], [105, 120], [155, 120]
    guess = truth + rng.normal(size=truth.shape)
    pupils = replace(get_protocol("asmnet-wflw"), crop=None).errors(truth, guess)
    np.testing.assert_allclose(pupils, 80 / 50 * np.asarray(get_protocol("wflw").errors(truth, guess)))


def test_the_upright_crop_takes_the_eyes_to_their_places():
    to_crop, back = AlignedCrop(extend=36).maps(FACES)
    inside = to_crop(FACES)
    np.testing.assert_allclose(back(inside), FACES, atol=1e-9)
    eyes = inside[:, [42, 45]].mean(axis=1) - inside[:, [36, 39]].mean(axis=1)
    assert np.abs(np.rad2deg(np.arctan2(eyes[:, 1], eyes[:, 0]))).max() < 15
    assert (inside > 0).all()
    assert (inside < 128).all()
    side = np.ptp(inside, axis=1).max(axis=1)
    assert (side <= 128 / 1.2 + 1e-9).all()
    turn = Similarity(np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([50.0, -20.0]), 1.7)
    turned = turn(FACES)
    np.testing.assert_allclose(AlignedCrop(extend=36).maps(turned)[0](turned), inside, atol=1e-8)


@pytest.mark.parametrize(("name", "bias"), [("sdu-300w", 0.5), ("sdu-aflw2000-3d", 0.0)])
def test_the_published_truth_is_rounded_in_the_crop(name, bias):
    protocol = get_protocol(name)
    truth, guess = protocol.prepare(FACES, FACES)
    np.testing.assert_array_equal(guess, FACES)
    inside, exact = (protocol.crop.maps(FACES)[0](x) for x in (truth, FACES))
    np.testing.assert_allclose(inside, np.round(inside), atol=1e-8)
    shift = exact - inside
    assert abs(shift.mean() - bias) < 0.03
    assert (np.abs(shift - bias) <= 0.5 + 1e-8).all()
    found = protocol.errors(FACES, FACES)
    assert 0.002 < found.mean() < 0.05  # perfect predictions do not score zero in this protocol


def test_variants_are_made_with_replace():
    mine = replace(get_protocol("300w"), name="mine", normalizer="box_diagonal", thresholds=(0.05,))
    assert isinstance(mine, Protocol)
    assert "box_diagonal" in mine.errors(FACES, FACES + NOISE).definition


@pytest.mark.parametrize("name", ["sdu-300w", "sdu-aflw2000-3d"])
def test_a_face_without_a_frame_has_no_error_and_spoils_no_other(name):
    """All landmarks missing, or all at one place: nothing to turn upright."""
    truth = FACES.copy()
    truth[1], truth[2] = np.nan, 50.0
    errors = get_protocol(name).errors(truth, FACES + NOISE, undefined="nan")
    assert errors.undefined.tolist() == [i in (1, 2) for i in range(40)]
    rest = np.delete(np.arange(40), [1, 2])
    alone = get_protocol(name).errors(FACES[rest], (FACES + NOISE)[rest])
    np.testing.assert_allclose(errors.values[rest], alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": ()}, "thresholds: got"),
        ({"thresholds": (-0.1,)}, "expected positive numbers"),
        ({"rounding": "ceil", "crop": AlignedCrop(36)}, "expected one of '', floor, nearest"),
        ({"rounding": "floor"}, "crop: got None"),
    ],
)
def test_protocols_that_measure_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(get_protocol("300w"), **change)


def test_text_is_no_flag_and_no_angle():
    with pytest.raises(ValueError, match=r"attributes\['pose'\]: got values of <U1; expected some of 1, True"):
        Subset("s", "pose", equals=(1, True)).mask({"pose": ["1", "0"]}, 2)
    with pytest.raises(ValueError, match=r"expected some of 'common'"):
        Subset("s", "split", equals=("common",)).mask({"split": [1, 0]}, 2)
    with pytest.raises(ValueError, match=r"attributes\['yaw'\]: got values of <U1; expected numbers"):
        Subset("s", "yaw", low=0).mask({"yaw": ["a", "b"]}, 2)


def test_the_crops_are_the_published_ones():
    """Margins in pixels or shares of the box, and pixels above the upright box, as the scripts of the authors have."""
    margins = {
        name: (c.size, c.margin, c.pad)
        for name in ("300w", "wflw", "cofw")
        for c in [get_protocol(f"asmnet-{name}").crop]
    }
    assert margins == {"300w": (224, 10, 0), "wflw": (224, 3, 0), "cofw": (224, 0, 0.05)}
    raised = {
        name: (c.extend, c.size, c.scale)
        for name in ("ibug", "cofw", "300w", "aflw2000-3d")
        for c in [get_protocol(f"sdu-{name}").crop]
    }
    assert raised == {
        "ibug": (36, 128, 1.2),
        "cofw": (45, 128, 1.2),
        "300w": (40, 128, 1.2),
        "aflw2000-3d": (30, 128, 1.2),
    }
    five = np.stack([FACES[:, [36, 39]].mean(1), FACES[:, [42, 45]].mean(1), *FACES[:, [30, 48, 54]].swapaxes(0, 1)], 1)
    upright = estimate_similarity(five, 2 * ARCFACE + 80)(FACES)
    wide, high = np.ptp(upright, axis=1).T
    tall = high + 36 > wide
    top = AlignedCrop(extend=36, size=1.0, scale=1.0).maps(FACES)[0](FACES)[:, :, 1].min(axis=1)
    assert tall.any()
    np.testing.assert_allclose(top[tall], (36 / (high + 36))[tall], rtol=1e-9)
