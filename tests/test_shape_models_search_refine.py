"""Landmarks of any detector made better: what is wrong, hidden or missing is carried; nothing good is lost."""

import numpy as np
import pytest
import skimage.data

from shape_models import convert, load_model
from shape_models.search import ASMFitter, HeatMaps, read_frames, refine, track


@pytest.fixture(scope="module")
def search():
    return load_model("search68")


@pytest.fixture(scope="module")
def truth(search):
    return search.predict(skimage.data.astronaut()).shape


def error(result, truth):
    return np.linalg.norm(result.points - truth, axis=1)


def test_wrong_and_missing_landmarks_are_put_right_and_said(search, truth):
    image = skimage.data.astronaut()
    given = truth.copy()
    given[[51, 40]] += [9, -9]
    given[30] = np.nan
    result = refine(image, given, fitter=search)
    assert result.found
    assert error(result, truth)[[51, 40]].max() < 5
    assert error(result, truth)[30] < 4
    assert result.reason[30] == "missing"
    assert set(result.reason[[51, 40]]) <= {"searched", "carried"}
    assert result.given_confidence[30] == 0
    assert (result.given_confidence[[51, 40]] < 0.75 * np.median(result.given_confidence)).all()
    assert np.isnan(result.moved[30])
    assert np.median(result.moved[np.isfinite(result.moved)]) < 1.5
    assert result.expected_error > 0


def test_covariances_are_symmetric_positive_and_larger_where_the_face_is_covered(search, truth):
    image = skimage.data.astronaut()
    plain = refine(image, truth, fitter=search)
    image[125:190, 190:260] = 127
    covered = refine(image, truth, fitter=search)
    for result in (plain, covered):
        assert (np.linalg.eigvalsh(result.covariance) > 0).all()
        np.testing.assert_allclose(result.covariance, result.covariance.swapaxes(1, 2), rtol=0, atol=1e-9)
    spread = np.trace(covered.covariance, axis1=1, axis2=2) / np.trace(plain.covariance, axis1=1, axis2=2)
    assert np.median(spread[48:60]) > 1.2 * np.median(spread[36:48])


def test_a_landmark_that_the_detector_distrusts_counts_less(search, truth):
    image, wrong = skimage.data.astronaut(), np.arange(48, 68)
    image[125:190, 190:260] = 127  # the mouth is hidden, so that the image does not put it right
    given = truth.copy()
    given[wrong] += [25.0, -10.0]
    worth, variance = np.ones(68), np.zeros(68)
    worth[wrong], variance[wrong] = 0.0, 30.0**2
    plain = refine(image, given, fitter=search)
    missing = given.copy()
    missing[wrong] = np.nan
    absent = refine(image, missing, fitter=search)
    assert error(plain, truth)[wrong].mean() > 1.3 * error(absent, truth)[wrong].mean()
    for options in ({"confidence": worth}, {"covariance": np.where(worth > 0, 0.0, np.inf)}):
        np.testing.assert_allclose(refine(image, given, fitter=search, **options).points, absent.points, atol=1e-6)
    matrices = variance[:, None, None] * np.eye(2)
    doubted = refine(image, given, fitter=search, covariance=variance)
    assert error(doubted, truth)[wrong].mean() < 0.85 * error(plain, truth)[wrong].mean()
    np.testing.assert_allclose(
        refine(image, given, fitter=search, covariance=matrices).points, doubted.points, atol=1e-6
    )
    np.testing.assert_array_equal(refine(image, given, fitter=search, confidence=np.ones(68)).points, plain.points)
    several = refine(image, [given, given], fitter=search, confidence=[np.ones(68), worth])
    batch = refine([image, image], [given, [given, given]], fitter=search, confidence=[None, [np.ones(68), worth]])
    for one, other in zip(several, (plain, absent), strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-6)
    for one, other in zip([batch[0], *batch[1]], (plain, plain, absent), strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-6)


def test_confidences_of_other_schemes_are_converted(search, truth):
    image = skimage.data.astronaut()
    wflw = np.full((98, 2), np.nan)
    wflw[60:76] = truth[[36, 36, 37, 37, 38, 39, 40, 40, 42, 42, 43, 43, 44, 45, 46, 47]]
    wflw[:33:2] = truth[:17]
    gone, worth = wflw.copy(), np.ones(98)
    gone[[0, 61]], worth[[0, 61]] = np.nan, 0.0
    expected = refine(image, gone, scheme="wflw98", fitter=search)
    for options in ({"confidence": worth}, {"covariance": np.where(worth > 0, 0.0, np.inf)}):
        found = refine(image, wflw, scheme="wflw98", fitter=search, **options)
        np.testing.assert_allclose(found.points, expected.points, atol=1e-6)
    assert expected.reason[0] == "missing"
    # The second corner point of the eye is a weighted mean of two: its variance is that of the sum.
    doubled = refine(image, wflw, scheme="wflw98", fitter=search, covariance=np.full(98, 4.0))
    weights = np.asarray(convert(np.stack([np.eye(98)] * 2, axis=-1), "wflw98", "ibug68").shapes)[..., 0]
    own = np.nan_to_num((weights**2).sum(axis=0)) * 4.0
    points = np.asarray(convert(wflw, "wflw98", "ibug68").shapes)
    np.testing.assert_allclose(doubled.points, refine(image, points, fitter=search, covariance=own).points, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"confidence": np.ones(67)}, r"^confidence: got shape \(67,\)"),
        ({"confidence": np.full(68, 1.5)}, "^confidence: got 1.5"),
        ({"covariance": -np.ones(68)}, "^covariance: got negative"),
        ({"covariance": np.ones(67)}, r"^covariance: got shape \(67,\)"),
        ({"covariance": np.ones(68), "confidence": np.ones(68)}, "got a confidence and a covariance"),
    ],
)
def test_confidences_that_make_no_sense_are_refused(search, truth, options, words):
    with pytest.raises(ValueError, match=words):
        refine(skimage.data.astronaut(), truth, fitter=search, **options)
    with pytest.raises(ValueError, match=r"^confidence: got 3 rows; expected one for each of 2"):
        refine([skimage.data.astronaut()] * 2, [truth] * 2, fitter=search, confidence=np.ones((3, 68)))


def test_messages_name_the_points_by_their_name(search, truth):
    image = skimage.data.astronaut()
    for given in (truth[:60], truth.ravel(), truth - 1e5, truth * np.nan, np.tile(truth[:1], (68, 1)), truth[:, :1]):
        with pytest.raises(ValueError, match=r"^points: got"):
            refine(image, given, fitter=search)
    with pytest.raises(ValueError, match=r"^points: got"):
        refine(image, truth, scheme="wflw98", fitter=search)


def test_a_bad_row_leaves_its_neighbours(search, truth):
    image = skimage.data.astronaut()
    one = refine(image, truth + 1, fitter=search)
    results = refine(
        [image, image, image, np.zeros((4, 4))], [truth + 1, truth * np.nan, truth + 1e6, truth], fitter=search
    )
    assert [r.found for r in results] == [True, False, False, False]
    np.testing.assert_allclose(results[0].points, one.points, rtol=0, atol=1e-3)
    for bad in results[1:]:
        assert np.isnan(bad.points).all()
        assert bad.message


def test_several_objects_in_one_image_are_refined_each_alone(search, truth):
    image = skimage.data.astronaut()
    one, batch = refine(image, truth + 1, fitter=search), [truth + 1, truth * np.nan]
    for answers in (refine(image, batch, fitter=search), refine([image], [np.array(batch)], fitter=search)[0]):
        assert [answer.found for answer in answers] == [True, False]
        np.testing.assert_allclose(answers[0].points, one.points, rtol=0, atol=1e-3)
    assert refine(image, np.empty((0, 68, 2)), fitter=search) == []
    with pytest.raises(ValueError, match=r"Try points\[\.\.\., :2\]"):
        refine(image, np.c_[truth, truth[:, :1]], fitter=search)


@pytest.mark.parametrize("way", [(0.5, 0.2), (-0.4, 0.4), (0.0, -0.5)])
def test_an_object_beside_its_landmarks_is_found(search, truth, way):
    side = np.ptp(truth, axis=0).max()
    result = refine(skimage.data.astronaut(), truth + side * np.array(way), fitter=search)
    assert error(result, truth).mean() < 0.03 * side
    assert (result.reason == "searched").mean() > 0.9
    assert result.confidence.mean() > 0.8 > 0.7 > result.given_confidence.mean()


def test_landmarks_of_another_place_count_on_where_nothing_is_better_supported(search, truth):
    given = truth + np.array([300.0, 0.0])
    result = refine(skimage.data.astronaut(), given, fitter=search)
    assert error(result, given).mean() < 0.5 * np.ptp(truth, axis=0).max()
    assert result.confidence.mean() < 0.5
    assert result.status == "unsupported"
    assert not result.found
    assert result.message.startswith("the best quarter of the landmarks has a mean confidence of 0.")
    assert result.expected_error > 3 * refine(skimage.data.astronaut(), truth, fitter=search).expected_error


@pytest.mark.parametrize("wrong", ["mirrored", "y up", "(y, x)", "out of order"])
def test_points_in_no_position_like_the_model_are_no_start(search, truth, wrong):
    image = skimage.data.astronaut()
    given = {
        "mirrored": truth * [-1, 1] + [2 * truth[:, 0].mean(), 0],
        "y up": [0, image.shape[0] - 1] + truth * [1, -1],
        "(y, x)": truth[:, ::-1],
        "out of order": np.random.default_rng(0).permutation(truth),
    }[wrong]
    for call in (lambda points: refine(image, points, fitter=search), lambda x: search.predict(image, initial=x)):
        with pytest.raises(ValueError, match="do not look like the mean shape in any position"):
            call(given)
        bad, good = call([given, truth])
        assert bad.status == "error"
        assert good.found


def test_points_of_other_schemes_are_converted(search, truth):
    wflw = np.full((98, 2), np.nan)
    wflw[60:76] = truth[[36, 36, 37, 37, 38, 39, 40, 40, 42, 42, 43, 43, 44, 45, 46, 47]]  # rough eyes
    wflw[:33:2] = truth[:17]
    result = refine(skimage.data.astronaut(), wflw, scheme="wflw98", fitter=search)
    assert result.points.shape == (68, 2)
    assert error(result, truth).mean() < 8
    with pytest.raises(ValueError, match="expected"):
        refine(skimage.data.astronaut(), wflw, fitter=search)


def test_bad_arguments_are_refused(search, truth):
    with pytest.raises(ValueError, match="fitter: got a str"):
        refine(skimage.data.astronaut(), truth, fitter="search68")
    with pytest.raises(ValueError, match="got 1 shapes; expected one for each of 2"):
        refine([skimage.data.astronaut()] * 2, [truth], fitter=search)
    bare = ASMFitter(evidence=HeatMaps()).fit(None, truth + np.random.default_rng(0).normal(size=(8, 68, 2)))
    with pytest.raises(ValueError, match="has none to convert to"):
        refine(skimage.data.astronaut(), truth, scheme="ibug68", fitter=bare)


def test_channels_before_the_rows_are_refused_and_grey_stacks_are_not(search, truth):
    image = skimage.data.astronaut()
    first, grey = np.moveaxis(image, -1, 0), image[..., 1]
    box = np.concatenate([truth.min(axis=0), truth.max(axis=0)])
    doors = {
        "predict": lambda x: search.predict(x, boxes=box),
        "predict, boxes for each": lambda x: search.predict(x, boxes=np.tile(box, (len(x), 1))),
        "confidence": lambda x: search.confidence(x, truth),
        "refine": lambda x: refine(x, truth, fitter=search),
        "track": lambda x: list(track(x, search)),
        "read_frames": read_frames,
    }
    for door, call in doors.items():
        name = "frames" if door in ("track", "read_frames") else "images"
        with pytest.raises(ValueError, match=rf"^{name}: got shape \(3, .*Try numpy.moveaxis\({name}, 0, -1\).*list\("):
            call(first)
        with pytest.raises(ValueError, match=rf"Try numpy.moveaxis\({name}, 1, -1\): the channels belong last\.$"):
            call(np.stack([first, first]))
    one = search.predict(grey, boxes=box)
    for several in (np.stack([grey] * 5), [grey] * 3, grey[None]):
        for result in search.predict(several, boxes=np.tile(box, (len(several), 1))):
            np.testing.assert_allclose(result.shape, one.shape, rtol=0, atol=1e-3)
    assert len(list(read_frames(np.stack([grey] * 5)))) == 5
    alpha = np.stack([grey, np.full_like(grey, 255)], axis=-1)
    np.testing.assert_allclose(search.predict(alpha, boxes=box).shape, one.shape, rtol=0, atol=1e-3)
