"""Normalised errors, their distribution, AUC and failure rate."""

import copy
import pickle

import laws
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import error_lists, faces_and_predictions

from evaluation import (
    ErrorArray,
    auc,
    auc_grid,
    auc_threshold_weighted,
    cumulative_error,
    failure_rate,
    landmark_errors,
    nme,
    normalizing_distance,
)
from evaluation._normalizers import NORMALIZERS
from shape_models.landmarks import LandmarkScheme

EIGHT = LandmarkScheme(
    "eight",
    8,
    anchors={"outer_eye_corners": ([0], [5]), "pupils": ([0, 1, 2], [4, 5]), "eye_corners": ([0, 2], [3, 5])},
)
ENDS = {"inter_ocular": ([0], [5]), "inter_pupil": ([0, 1, 2], [4, 5]), "eye_centers": ([0, 2], [3, 5])}
POINTS = sorted(ENDS)
BOXES = ["box_diagonal", "box_geometric_mean"]


def score(normalizer, **options):
    return lambda truth, guess: nme(truth, guess, normalizer=normalizer, scheme=EIGHT, **options)


# --- against the definition ------------------------------------------------------------------------------


@given(pair=faces_and_predictions(), normalizer=st.sampled_from(NORMALIZERS))
def test_nme_agrees_with_the_loop(pair, normalizer):
    truth, guess = pair
    lengths = oracles.loop_length(truth, normalizer, *ENDS.get(normalizer, ()))
    np.testing.assert_allclose(normalizing_distance(truth, normalizer, scheme=EIGHT), lengths, rtol=1e-12)
    errors = score(normalizer)(truth, guess)
    np.testing.assert_allclose(errors, oracles.loop_nme(truth, guess, lengths), rtol=1e-12)
    each = landmark_errors(truth, guess, normalizer=normalizer, scheme=EIGHT)
    np.testing.assert_allclose(each.mean(axis=-1), errors, rtol=1e-12)


@given(pair=faces_and_predictions(n_dims=3), seed=st.integers(0, 2**32 - 1))
def test_masked_and_missing_landmarks_leave_the_mean(pair, seed):
    truth, guess = pair
    rng = np.random.default_rng(seed)
    use = rng.random(truth.shape[:-1]) < 0.6
    use[:, 3] = True
    expected = oracles.loop_nme(truth, guess, np.full(len(truth), 2.0), use)
    np.testing.assert_allclose(nme(truth, guess, normalizer=2.0, mask=use), expected, rtol=1e-12)
    gone, lost = truth.copy(), guess.copy()
    gone[~use], lost[~use] = np.nan, np.nan
    np.testing.assert_allclose(nme(gone, guess, normalizer=2.0), expected, rtol=1e-12)
    np.testing.assert_allclose(nme(truth, lost, normalizer=2.0, mask=use), expected, rtol=1e-12)
    each = landmark_errors(gone, guess, normalizer=2.0)
    assert (np.isnan(each) == ~use).all()


@given(errors=error_lists(), threshold=st.sampled_from([0.05, 0.08, 0.1, 1.0]))
def test_auc_is_the_area_under_the_curve(errors, threshold):
    n_steps = 20_000
    area = oracles.loop_auc(errors, threshold, n_steps)
    assert auc(errors, threshold=threshold) == pytest.approx(area, abs=1 / n_steps)
    assert failure_rate(errors, threshold=threshold) == pytest.approx(oracles.loop_failure_rate(errors, threshold))


# --- laws ------------------------------------------------------------------------------------------------


@given(
    pair=faces_and_predictions(),
    normalizer=st.sampled_from(POINTS),
    angle=st.floats(-4, 4),
    scale=st.floats(0.1, 10),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_landmark_distances_make_it_invariant_to_similarities(pair, normalizer, angle, scale, shift):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = np.abs(pair[0]).max()
    laws.error_is_invariant(score(normalizer), *pair, lambda x: scale * x @ rotation.T + size * np.array(shift) / 100)


@given(
    pair=faces_and_predictions(), normalizer=st.sampled_from(BOXES), scale=st.floats(0.1, 10), shift=st.floats(-1, 1)
)
def test_boxes_make_it_invariant_to_translation_and_scale(pair, normalizer, scale, shift):
    laws.error_is_invariant(score(normalizer), *pair, lambda x: scale * x + shift * np.abs(pair[0]).max())


@given(pair=faces_and_predictions(), angle=st.floats(-4, 4), mirror=st.booleans())
def test_a_number_makes_it_invariant_to_rigid_motion(pair, angle, mirror):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([-1.0 if mirror else 1.0, 1.0])
    laws.error_is_invariant(score(7.0), *pair, lambda x: x @ rotation.T @ flip + np.abs(pair[0]).max())


@given(pair=faces_and_predictions(), normalizer=st.sampled_from(NORMALIZERS), factor=st.floats(0, 100))
def test_it_is_homogeneous_in_the_deviation(pair, normalizer, factor):
    truth, guess = pair
    once, more = score(normalizer)(truth, guess), score(normalizer)(truth, truth + factor * (guess - truth))
    noise = 64 * np.finfo(float).eps * np.abs(truth).max() / normalizing_distance(truth, normalizer, scheme=EIGHT)
    assert (np.abs(more - factor * once) <= noise * (1 + factor) + 1e-12 * factor * once).all()


@given(pair=faces_and_predictions(), normalizer=st.sampled_from(NORMALIZERS), place=st.integers(0, 15))
def test_it_is_zero_if_and_only_if_equal(pair, normalizer, place):
    truth, _ = pair
    assert (score(normalizer)(truth, truth) == 0).all()
    guess = truth.copy()
    guess.reshape(len(truth), -1)[:, place] = np.nextafter(guess.reshape(len(truth), -1)[:, place], np.inf)
    assert (score(normalizer)(truth, guess) > 0).all()


@given(errors=error_lists(), threshold=st.floats(0.01, 2))
def test_auc_and_the_mean_clipped_error_add_up_to_one(errors, threshold):
    clipped = np.minimum(errors, threshold).mean() / threshold
    assert auc(errors, threshold=threshold) + clipped == pytest.approx(1, abs=1e-12)
    assert 0 <= auc(errors, threshold=threshold) <= 1
    assert 0 <= failure_rate(errors, threshold=threshold) <= 1


@given(errors=error_lists(), threshold=st.floats(0.01, 2), which=st.integers(0, 99), more=st.floats(0, 3))
def test_no_score_improves_when_an_error_grows(errors, threshold, which, more):
    laws.score_is_monotone(lambda e: auc(e, threshold=threshold), errors, which, more, increasing=False)
    laws.score_is_monotone(lambda e: failure_rate(e, threshold=threshold), errors, which, more, increasing=True)
    laws.score_is_monotone(
        lambda e: auc_threshold_weighted(e, threshold=threshold), errors, which, more, increasing=False
    )


@given(errors=error_lists())
def test_the_cumulative_error_is_a_distribution_function(errors):
    exact = cumulative_error(errors)
    laws.is_distribution_function(exact)
    laws.is_distribution_function(cumulative_error(errors, np.linspace(0, 1, 11)))
    assert exact.fractions[-1] == 1
    for t in (0.0, 0.05, 0.1, 5.0):
        assert exact(t) == pytest.approx((errors <= t).mean())
        assert 1 - exact(t) == pytest.approx(failure_rate(errors, threshold=t) if t else (errors > 0).mean())


@given(errors=error_lists(min_size=2), seed=st.integers(0, 99))
def test_the_order_of_the_faces_does_not_matter(errors, seed):
    mixed = np.random.default_rng(seed).permutation(errors)
    for number in (auc, failure_rate, auc_grid, auc_threshold_weighted):
        assert number(mixed, threshold=0.1) == pytest.approx(number(errors, threshold=0.1), abs=1e-12)


@given(pair=faces_and_predictions(), normalizer=st.sampled_from(NORMALIZERS), threshold=st.floats(1e-6, 0.99))
def test_a_perfect_model_scores_exactly(pair, normalizer, threshold):
    errors = score(normalizer)(pair[0], pair[0])
    assert (errors == 0).all()
    assert auc(errors, threshold=threshold) == 1
    assert failure_rate(errors, threshold=threshold) == 0


@given(pair=faces_and_predictions(), normalizer=st.sampled_from(NORMALIZERS))
def test_float32_and_integers_agree_with_float64(pair, normalizer):
    truth, guess = (np.round(x / np.abs(x).max() * 2000).astype(np.float32) for x in pair)
    exact = score(normalizer, undefined="nan")(truth.astype(float), guess.astype(float))
    for dtype in (np.float32, np.int64):
        found = score(normalizer, undefined="nan")(truth.astype(dtype), guess.astype(dtype))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, exact, rtol=1e-12)


# --- published values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "value"), [(0.05, 1.002), (0.07, 1.0 + 1e-4 / 0.07), (0.08, 1.0), (0.1, 1.0)])
def test_the_grid_recipe_exceeds_one_where_it_is_known_to(threshold, value):
    assert auc_grid(np.zeros(5), threshold=threshold) == pytest.approx(value, abs=1e-9)
    assert auc(np.zeros(5), threshold=threshold) == 1


def test_the_grid_recipe_comes_near_the_area(rng):
    errors = rng.lognormal(np.log(0.04), 0.4, size=689)
    assert auc_grid(errors, threshold=0.1) == pytest.approx(auc(errors, threshold=0.1), abs=1e-3)


def lognormal_errors(mean, failures, threshold=0.1, n=200_000):
    """Errors whose logarithm is normal, with this mean and this share above the threshold, at their quantiles."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(sigma):
        return norm.sf((np.log(threshold) - np.log(mean) + sigma**2 / 2) / sigma) - failures

    sigma = brentq(excess, 0.05, 1.2)
    return np.exp(np.log(mean) - sigma**2 / 2 + sigma * norm.ppf((np.arange(n) + 0.5) / n))


@pytest.mark.parametrize(
    ("mean", "failures", "printed"),
    [
        (0.0406, 0.0087, 0.7900),
        (0.0356, 0.0018, 0.8356),
        (0.0613, 0.0370, 0.6029),
        (0.0450, 0.0159, 0.7578),
        (0.0382, 0.0072, 0.8103),
    ],
)
def test_the_printed_auc_of_kd_loss_is_the_threshold_weighted_one(mean, failures, printed):
    errors = lognormal_errors(mean, failures)
    assert errors.mean() == pytest.approx(mean, rel=1e-3)
    assert failure_rate(errors, threshold=0.1) == pytest.approx(failures, abs=1e-5)
    assert auc_threshold_weighted(errors) == pytest.approx(printed, abs=0.01)
    assert auc(errors, threshold=0.1) == pytest.approx(1 - mean / 0.1, abs=0.006)  # 0.595 at 4.06 %
    assert printed - auc(errors, threshold=0.1) > 0.15


def test_perfect_predictions_score_095_in_the_threshold_weighted_recipe():
    assert auc_threshold_weighted(np.zeros(3)) == pytest.approx(0.95, abs=1e-12)


# --- the result ------------------------------------------------------------------------------------------


def two_faces():
    truth = np.array([[[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]], [[0.0, 0.0], [60.0, 0.0], [60.0, 80.0]]])
    return truth, truth + np.array([3.0, 4.0])


def test_the_result_is_an_array_that_says_what_it_is():
    errors = nme(*two_faces(), normalizer="box_diagonal")
    assert isinstance(errors, ErrorArray)
    np.testing.assert_allclose(np.asarray(errors), [0.1, 0.05])
    np.testing.assert_allclose(errors * 100, [10, 5])
    np.testing.assert_allclose(1 - errors, [0.9, 0.95])
    assert type(errors + errors) is np.ndarray
    assert np.mean(errors) == pytest.approx(0.075)
    assert np.median(errors) == pytest.approx(0.075)
    assert (errors > 0.07).tolist() == [True, False]
    assert errors[0] == pytest.approx(0.1)
    assert errors[:1].definition == errors.definition
    assert errors[errors < 0.07].size == 1
    assert len(errors) == 2
    assert [round(float(e), 6) for e in errors] == [0.1, 0.05]
    assert "box_diagonal" in repr(errors)
    assert "fraction" in repr(errors)
    assert str(errors).startswith("7.500 % (2 faces; NME")


def test_it_has_what_an_array_has():
    errors = nme(*two_faces(), normalizer="box_diagonal")
    assert (errors.shape, errors.ndim, errors.size) == ((2,), 1, 2)
    assert errors.max() == pytest.approx(0.1)
    assert errors.std() == pytest.approx(0.025)
    assert errors.tolist() == pytest.approx([0.1, 0.05])
    assert np.quantile(errors, 0.5) == pytest.approx(0.075)
    assert np.argmax(errors) == 0
    again = pickle.loads(pickle.dumps(errors))
    assert again.definition == errors.definition
    np.testing.assert_array_equal(copy.deepcopy(errors), errors)
    assert not hasattr(errors, "percent")
    with pytest.raises(TypeError, match="do not change in place"):
        errors *= 100


def test_one_shape_gives_one_number():
    truth, guess = two_faces()
    error = nme(truth[0], guess[0], normalizer="box_diagonal")
    assert error.shape == ()
    assert float(error) == pytest.approx(0.1)
    assert f"{error:.2f}" == "0.10"
    grid = nme(np.stack([truth] * 3), np.stack([guess] * 3), normalizer="box_diagonal")
    assert grid.shape == (3, 2)


def test_a_number_of_one_leaves_pixels():
    errors = nme(*two_faces(), normalizer=1)
    np.testing.assert_allclose(errors, 5)
    assert errors.unit == "pixels"
    assert "5.000 pixels" in str(errors)


def test_the_scheme_names_the_points():
    truth = np.arange(16.0).reshape(1, 8, 2) ** 1.5
    errors = nme(truth, truth + 1, normalizer="inter_pupil", scheme=EIGHT)
    assert "inter_pupil (pupils, 0-2 and 4+5 of eight)" in errors.definition


def test_lengths_of_each_face_and_functions():
    truth, guess = two_faces()
    np.testing.assert_allclose(nme(truth, guess, normalizer=[50.0, 100.0]), [0.1, 0.05])

    def height(faces):
        return np.ptp(faces[..., 1], axis=-1)

    errors = nme(truth, guess, normalizer=height)
    np.testing.assert_allclose(errors, [5 / 40, 5 / 80])
    assert "the function height" in errors.definition


def test_tiny_and_huge_coordinates_neither_vanish_nor_overflow():
    truth, step = np.zeros((1, 2, 2)), np.array([3.0, 4.0])
    for size in (1e-300, 1e-200, 1e200, 1e300):
        assert float(nme(truth, truth + size * step, normalizer=1.0)[0]) == pytest.approx(5 * size)
    with pytest.raises(ValueError, match="beyond float64"):
        nme(truth, truth + 1e300, normalizer=1e-20)


# --- what is not there -----------------------------------------------------------------------------------


def test_a_zero_normalizer_raises_or_is_counted():
    truth = np.arange(48.0).reshape(3, 8, 2) ** 1.1
    truth[1, 5] = truth[1, 0]
    with pytest.raises(ValueError, match=r"next to nothing for .* in face 1 \(1 faces.*undefined='nan'"):
        nme(truth, truth + 1, normalizer="inter_ocular", scheme=EIGHT)
    errors = nme(truth, truth + 1, normalizer="inter_ocular", scheme=EIGHT, undefined="nan")
    assert errors.n_undefined == 1
    assert np.isnan(errors.values).tolist() == [False, True, False]
    assert "1 undefined" in str(errors)
    assert "undefined=1" in repr(errors)
    assert failure_rate(errors, threshold=1e-9) == 1
    assert cumulative_error(errors).n == 2


def test_points_that_coincide_up_to_rounding_count_as_one():
    for dtype in (np.float32, np.float64):
        truth = np.random.default_rng(0).random((1, 8, 2)).astype(dtype) + dtype(100)
        truth[0, 5] = np.nextafter(truth[0, 0], dtype(np.inf))
        errors = nme(truth, truth + dtype(1), normalizer="inter_ocular", scheme=EIGHT, undefined="nan")
        assert errors.n_undefined == 1


def test_landmarks_on_a_line_have_no_box():
    truth = np.array([[[5.0, 1.0], [5.0, 2.0]]])
    assert float(nme(truth, truth + 1, normalizer="box_diagonal")[0]) == pytest.approx(np.sqrt(2))
    with pytest.raises(ValueError, match=r"box_geometric_mean .* is missing, zero"):
        nme(truth, truth + 1, normalizer="box_geometric_mean")


def test_a_missing_anchor_makes_the_face_undefined():
    truth = np.arange(16.0).reshape(1, 8, 2) ** 1.5
    truth[0, 5] = np.nan
    with pytest.raises(ValueError, match="next to nothing for the size of the face in face 0"):
        nme(truth, np.zeros((1, 8, 2)), normalizer="inter_ocular", scheme=EIGHT)


def test_a_face_without_usable_landmarks():
    truth = np.ones((2, 8, 2))
    mask = np.ones((2, 8), bool)
    mask[1] = False
    with pytest.raises(ValueError, match="face 1 has no usable landmark"):
        nme(truth, truth, normalizer=1.0, mask=mask)
    errors = nme(truth, truth + 1, normalizer=1.0, mask=mask, undefined="nan")
    assert errors.undefined.tolist() == [False, True]
    everything = np.full((2, 8, 2), np.nan)
    none = nme(everything, truth, normalizer="box_diagonal", undefined="nan")
    assert none.n_undefined == 2
    with pytest.raises(ValueError, match="no face with a defined error"):
        auc(none, threshold=0.1)
    assert "no face has a defined error" in str(none)


def test_missing_predictions_raise_or_fail():
    truth = np.arange(64.0).reshape(4, 8, 2)
    guess = truth.copy()
    guess[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"missing landmark \(NaN\) in face 2, 1 such faces.*missing='failure'"):
        nme(truth, guess, normalizer=1000.0)
    errors = nme(truth, guess, normalizer=1000.0, missing="failure")
    assert errors.failed.tolist() == [False, False, True, False]
    assert errors.n_undefined == 0
    assert failure_rate(errors, threshold=0.5) == 0.25
    assert auc(errors, threshold=0.5) == 0.75
    assert cumulative_error(errors, [0.5]).fractions.tolist() == [0.75]
    assert errors.defined.mean() == 0
    assert np.isnan(errors.mean())
    gone = nme(truth, np.full_like(truth, np.nan), normalizer=1000.0, missing="failure")
    assert failure_rate(gone, threshold=0.5) == 1
    assert auc(gone, threshold=0.5) == 0
    with pytest.raises(ValueError, match="got NaN; expected finite numbers"):
        auc(np.asarray(errors), threshold=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": "interocular"}, "expected one of 'inter_ocular', 'inter_pupil', 'eye_centers'"),
        ({"normalizer": "inter_ocular", "scheme": None}, "got scheme=None"),
        ({"normalizer": 0.0}, "expected positive lengths"),
        ({"normalizer": np.nan}, "expected positive lengths"),
        ({"normalizer": np.inf}, "expected positive lengths"),
        ({"normalizer": [1.0, -1.0]}, "expected positive lengths"),
        ({"normalizer": np.ones(3)}, r"expected positive numbers of shape \(\) or \(2,\)"),
        ({"normalizer": None}, "normalizer: got a NoneType; expected an array of numbers"),
        ({"normalizer": True}, "normalizer: got an array of bool"),
        ({"mask": np.ones((2, 8))}, "expected booleans"),
        ({"mask": np.ones(7, bool)}, r"mask: got shape \(7,\)"),
        ({"undefined": "skip"}, "undefined: got 'skip'"),
        ({"missing": "nan"}, "missing: got 'nan'"),
        ({"scheme": LandmarkScheme("six", 6)}, "six has 6 landmarks; got faces of 8"),
        (
            {"scheme": LandmarkScheme("bare", 8), "normalizer": "inter_pupil"},
            "bare does not mark the pupils.*'box_diagonal'",
        ),
    ],
)
def test_bad_arguments_are_refused(change, message):
    truth = np.arange(32.0).reshape(2, 8, 2)
    with pytest.raises((TypeError, ValueError), match=message):
        nme(truth, truth, **({"normalizer": 1.0, "scheme": EIGHT} | change))


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="3 faces have a truth and 2 a prediction: try pairing them by name"):
        nme(np.ones((3, 8, 2)), np.ones((2, 8, 2)), normalizer=1.0)
    with pytest.raises(ValueError, match="convert to bring both to one scheme"):
        nme(np.ones((3, 8, 2)), np.ones((3, 5, 2)), normalizer=1.0)
    with pytest.raises(ValueError, match="expected at least one face"):
        nme(np.ones((0, 8, 2)), np.ones((0, 8, 2)), normalizer=1.0)
    with pytest.raises(ValueError, match="infinite coordinate"):
        nme(np.ones((1, 2, 2)), np.full((1, 2, 2), np.inf), normalizer=1.0)
    with pytest.raises(ValueError, match="expected 2 or 3 on the last axis"):
        nme(np.ones((8, 4)), np.ones((8, 4)), normalizer=1.0)


@pytest.mark.parametrize("errors", [[], [np.nan], [-0.1], [np.inf], ["a"]])
def test_errors_that_are_none_are_refused(errors):
    for number in (auc, failure_rate, auc_grid, auc_threshold_weighted):
        with pytest.raises((TypeError, ValueError), match="errors: got"):
            number(errors, threshold=0.1)
    with pytest.raises((TypeError, ValueError), match="errors: got"):
        cumulative_error(errors)


def test_thresholds_in_percent_are_refused_for_fractions():
    errors = nme(*two_faces(), normalizer="box_diagonal")
    with pytest.raises(ValueError, match=r"threshold: got 8; the errors are fractions. Try threshold=0.08"):
        failure_rate(errors, threshold=8)
    assert failure_rate(nme(*two_faces(), normalizer=1), threshold=8) == 0
    for bad in (0, -1, np.nan, np.inf, "a", [0.1, 0.2]):
        with pytest.raises(ValueError, match=r"expected (a|one) positive number"):
            auc([0.1], threshold=bad)
    for bad in ([], [0.2, 0.1], [np.nan], 0.1):
        with pytest.raises(ValueError, match="expected a list of finite numbers that increase"):
            cumulative_error([0.1], bad)
    with pytest.raises(ValueError, match="step: got 0"):
        auc_grid([0.1], threshold=0.1, step=0)
    with pytest.raises(ValueError, match="n_thresholds: got 1"):
        auc_threshold_weighted([0.1], n_thresholds=1)


def test_arguments_are_left_as_they_were():
    truth, guess = two_faces()
    for array in (truth, guess):
        array.setflags(write=False)
    before = truth.copy(), guess.copy()
    nme(truth, guess, normalizer="box_diagonal", mask=np.array([True, False, True]))
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(guess, before[1])
