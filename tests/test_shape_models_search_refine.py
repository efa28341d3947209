"""Landmarks of any detector made better: what is wrong, hidden or missing is carried; nothing good is lost."""

import numpy as np
import pytest
import skimage.data

from shape_models import load_model
from shape_models.search import ASMFitter, HeatMaps, refine


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
