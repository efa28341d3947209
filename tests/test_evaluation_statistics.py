"""Intervals that cover, rates by Wilson, comparisons and tables."""

import inspect
import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import error_lists

from evaluation import (
    Interval,
    Table,
    bin_table,
    bootstrap_interval,
    compare,
    group_table,
    landmark_errors,
    landmark_table,
    nme,
    rate_interval,
    wilson_interval,
)
from evaluation._intervals import mean_intervals
from shape_models.landmarks import IBUG68

# --- laws ------------------------------------------------------------------------------------------------


@given(errors=error_lists(min_size=2), statistic=st.sampled_from(["mean", "median"]), grouped=st.booleans())
def test_intervals_contain_their_estimate(errors, statistic, grouped):
    groups = np.arange(len(errors)) // 2 if grouped and len(errors) > 3 else None
    found = bootstrap_interval(errors, statistic=statistic, groups=groups, n_resamples=100)
    assert found.low <= found.estimate <= found.high
    assert found.estimate == pytest.approx(getattr(np, statistic)(errors))
    assert errors.min() - 1e-12 <= found.low
    assert found.high <= errors.max() + 1e-12
    assert found.estimate in found


@given(n=st.integers(1, 3000), share=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_contains_the_share_and_stays_inside(n, share, confidence):
    count = round(share * n)
    found = wilson_interval(count, n, confidence=confidence)
    assert 0 <= found.low <= count / n <= found.high <= 1
    assert found.low < found.high
    mirror = wilson_interval(n - count, n, confidence=confidence)
    assert (mirror.low, mirror.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)
    if 0 < count < n:  # the ends are where the score test just rejects
        z2 = ((count / n - found.low) ** 2) / (found.low * (1 - found.low) / n)
        from scipy.stats import norm

        assert math.sqrt(z2) == pytest.approx(norm.ppf((1 + confidence) / 2), rel=1e-6)


@given(flags=st.lists(st.booleans(), min_size=4, max_size=60), n_groups=st.integers(2, 10))
def test_rates_of_groups_are_no_surer_than_of_faces(flags, n_groups):
    marks = np.array(flags)
    groups = np.arange(len(marks)) % min(n_groups, len(marks))
    alone, grouped = rate_interval(marks), rate_interval(marks, groups=groups)
    assert grouped.estimate == alone.estimate
    assert grouped.low <= alone.low + 1e-12
    assert grouped.high >= alone.high - 1e-12


@given(errors=error_lists(min_size=3), shift=st.floats(0.01, 1), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_comparison_turns_round(errors, shift, seed):
    other = errors + shift * np.random.default_rng(seed).standard_normal(len(errors)) ** 2
    one, two = compare(errors, other, n_resamples=200), compare(other, errors, n_resamples=200)
    assert one.difference.estimate == pytest.approx(-two.difference.estimate, abs=1e-12)
    assert (one.n_better, one.n_worse, one.n_tied) == (two.n_worse, two.n_better, two.n_tied)
    assert one.p_value == two.p_value
    assert one.p_value == pytest.approx(oracles.loop_sign_test(one.n_better, one.n_worse))


# --- coverage --------------------------------------------------------------------------------------------


def coverage(draw, truth, groups=None, *, n_calls=150, n_columns=100, rng):
    """Fraction of 15 000 sets whose interval holds the truth: standard error 0.0018. Columns share their resamples."""
    hits = 0
    for _ in range(n_calls):
        columns = draw(n_columns)
        hits += sum(truth in found for found in mean_intervals(columns, groups, n_resamples=1000, rng=rng))
    return hits / (n_calls * n_columns)


@pytest.mark.parametrize("grouped", [False, True])
def test_columns_are_resampled_as_one_set_of_faces_is(rng, grouped):
    """What the tests of coverage measure, many sets at a time, is what `bootstrap_interval` and `compare` return."""
    values = rng.lognormal(size=(60, 3))
    codes = np.arange(60) // 3 if grouped else None
    for i, found in enumerate(mean_intervals(values, codes, 0.9, 500, 7)):
        alone = bootstrap_interval(values[:, i], groups=codes, confidence=0.9, n_resamples=500, rng=7)
        assert (alone.low, alone.high) == pytest.approx((found.low, found.high), rel=1e-12)
        zeros = compare(values[:, i], np.zeros(60), groups=codes, confidence=0.9, n_resamples=500, rng=7).difference
        assert (zeros.low, zeros.high) == pytest.approx((found.low, found.high), rel=1e-12)


def test_the_interval_of_the_mean_covers_at_its_rate(rng):
    """200 faces with log-normal errors: 94.5 % in 100 000 sets. One point less fails."""
    sigma = 0.5
    share = coverage(lambda m: rng.lognormal(-3.2, sigma, size=(200, m)), math.exp(-3.2 + sigma**2 / 2), rng=rng)
    assert abs(share - 0.95) < 0.01


def test_the_interval_of_groups_covers_and_that_of_faces_does_not(rng):
    groups = np.repeat(np.arange(50), 6)

    def draw(m):
        return 0.05 + 0.01 * (rng.standard_normal((50, m))[groups] + rng.standard_normal((300, m)))

    assert abs(coverage(draw, 0.05, groups, rng=rng) - 0.95) < 0.008
    assert coverage(draw, 0.05, n_calls=20, rng=rng) < 0.75


@pytest.mark.parametrize(("n", "share"), [(200, 0.01), (200, 0.1), (689, 0.03), (2500, 0.3)])
def test_wilson_covers_at_its_rate(n, share):
    from scipy.stats import binom

    counts = np.arange(n + 1)
    hits = np.array([share in wilson_interval(int(k), n) for k in counts])
    covered = float((binom.pmf(counts, n, share) * hits).sum())
    assert 0.92 < covered < 0.985  # discrete: the exact coverage swings around the nominal rate


def test_rates_of_groups_cover(rng):
    groups = np.repeat(np.arange(60), 5)
    flags = rng.random((20_000, 300)) < rng.beta(2, 6, size=(20_000, 60))[:, groups]
    share = np.mean([0.25 in rate_interval(f, groups=groups) for f in flags])  # standard error 0.0015
    assert abs(share - 0.95) < 0.01
    assert np.mean([0.25 in rate_interval(f) for f in flags[:4000]]) < 0.92


# --- against the definition ------------------------------------------------------------------------------


def test_the_replicates_agree_with_a_loop(rng):
    values = rng.standard_normal(40)  # symmetric: BCa is the percentile interval up to the noise of the draws
    values = np.concatenate([values, -values])
    means = oracles.loop_bootstrap_means(values.tolist(), 4000, seed=1)
    found = bootstrap_interval(values, n_resamples=4000)
    assert found.low == pytest.approx(means[100], abs=0.02)
    assert found.high == pytest.approx(means[3900], abs=0.02)


def test_mean_and_any_function_agree(rng):
    values, groups = rng.lognormal(size=60), np.arange(60) // 3
    quick = bootstrap_interval(values, groups=groups, n_resamples=3000)
    slow = bootstrap_interval(values, statistic=lambda x: x.mean(), groups=groups, n_resamples=3000)
    assert slow.estimate == pytest.approx(quick.estimate)
    assert slow.low == pytest.approx(quick.low, abs=0.03)
    assert slow.high == pytest.approx(quick.high, abs=0.03)
    assert quick.n_groups == slow.n_groups == 20


def test_bca_agrees_with_scipy(rng):
    from scipy.stats import bootstrap

    values = rng.lognormal(size=120)
    seeded = {"rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state": rng}
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", **seeded).confidence_interval
    ours = bootstrap_interval(values, n_resamples=20_000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_columns_with_gaps_are_means_of_what_is_there(rng):
    values = rng.random((50, 4))
    values[rng.random((50, 4)) < 0.3] = np.nan
    values[:, 2] = np.nan
    values[1:, 3] = np.nan
    values[0, 3] = 0.25
    found = mean_intervals(values, None)
    assert found[0].estimate == pytest.approx(np.nanmean(values[:, 0]))
    assert found[0].n == int(np.isfinite(values[:, 0]).sum())
    assert math.isnan(found[2].estimate)
    assert found[2].n == 0
    assert found[3].estimate == 0.25
    assert math.isnan(found[3].low)
    assert format(found[3], ".2f") == "0.25"


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999, 0.999999])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_face_that_outweighs_all_others(confidence, sign):
    values = np.zeros(500)
    values[0] = sign
    found = bootstrap_interval(values, confidence=confidence, n_resamples=200)
    assert -0.1 < found.low <= found.estimate <= found.high < 0.1


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_size_of_the_errors_does_not_matter(rng, size):
    values = rng.lognormal(size=50)
    one, other = bootstrap_interval(values, n_resamples=200), bootstrap_interval(size * values, n_resamples=200)
    assert (other.low / size, other.high / size) == pytest.approx((one.low, one.high), rel=1e-9)


def test_equal_values_have_an_interval_of_no_length():
    found = bootstrap_interval(np.full(20, 0.04))
    assert (found.low, found.estimate, found.high) == pytest.approx((0.04, 0.04, 0.04))
    assert found.low <= found.estimate <= found.high


# --- comparisons and tables ------------------------------------------------------------------------------


def failing(values, failed):
    truth = np.zeros((len(values), 2, 2))
    guess = truth + np.stack([values, np.zeros(len(values))], axis=-1)[:, None]
    guess[failed] = np.nan
    return nme(truth, guess, normalizer=1.0, missing="failure")


def test_a_failure_counts_against_the_model_that_failed():
    first = failing(np.array([1.0, 2.0, 3.0, 4.0]), [False, False, False, True])
    second = failing(np.array([2.0, 3.0, 3.0, 4.0]), [False, False, False, False])
    found = compare(first, second, names=("A", "B"), n_resamples=100)
    assert (found.n_better, found.n_worse, found.n_tied, found.n_left_out) == (2, 1, 1, 1)
    assert found.means == (2.0, pytest.approx(8 / 3))
    assert "1 faces without both errors" in str(found)
    assert "pixels" in str(found)


def test_groups_vote_as_a_whole():
    found = compare([1.0, 1.0, 9.0, 1.0], [2.0, 2.0, 2.0, 2.0], groups=["a", "a", "b", "c"], n_resamples=100)
    assert (found.n_better, found.n_worse) == (2, 1)
    assert found.difference.n_groups == 3


def test_errors_by_different_definitions_are_not_compared():
    truth = np.arange(16.0).reshape(2, 4, 2)
    one = nme(truth, truth, normalizer=1.0)
    two = nme(truth, truth, normalizer="box_diagonal")
    with pytest.raises(ValueError, match="by another definition"):
        compare(one, two)
    with pytest.raises(ValueError, match="those of the same faces"):
        compare([0.1], [0.1, 0.2])
    with pytest.raises(ValueError, match="first, second: got NaN"):
        compare([0.1, np.nan], [0.1, 0.2])


def test_tables_of_landmarks_and_their_groups(rng):
    truth = rng.random((20, 68, 2)) * 100
    each = landmark_errors(truth, truth + rng.standard_normal(truth.shape), normalizer=50.0)
    table = landmark_table(each, scheme=IBUG68, n_resamples=50)
    assert len(table) == 68
    assert table.column("landmark") == list(IBUG68.names)
    np.testing.assert_allclose([m.estimate for m in table.column("mean")], each.mean(axis=0))
    np.testing.assert_allclose(table.column("median"), np.median(each, axis=0))
    np.testing.assert_allclose(table.column("90th"), np.quantile(each, 0.9, axis=0))
    parts = landmark_table(each, scheme="ibug68", by="group", n_resamples=50)
    assert parts.column("group") == list(IBUG68.groups)
    name = parts.column("group")[0]
    assert parts.column("mean")[0].estimate == pytest.approx(each[:, IBUG68.groups[name]].mean())
    each[:, 5] = np.nan
    assert landmark_table(each, n_resamples=50).rows[5][-1] == 0
    assert "-" in str(landmark_table(each, n_resamples=50)).splitlines()[7]
    with pytest.raises(ValueError, match="ibug68 has 68 landmarks; got 5"):
        landmark_table(each[:, :5], scheme=IBUG68)
    with pytest.raises(ValueError, match="needs a scheme with groups"):
        landmark_table(each, by="group")
    with pytest.raises(ValueError, match="by: got 'face'"):
        landmark_table(each, by="face")
    with pytest.raises(ValueError, match=r"expected \(n_faces, n_landmarks\)"):
        landmark_table(each[0])


def test_bins_hold_their_lower_edge_and_the_last_both():
    table = bin_table([0.1, 0.2, 0.3, 0.4, 0.5], [0, 30, 60, 90, 91], [0, 30, 60, 90], name="|yaw|", n_resamples=20)
    assert table.column("|yaw|") == ["[0, 30)", "[30, 60)", "[60, 90]"]
    assert table.column("faces") == [1, 1, 2]
    assert table.column("mean")[2].estimate == pytest.approx(0.35)
    assert "1 of 5 faces lie outside" in table.notes[0]
    with pytest.raises(ValueError, match="at least two numbers that increase"):
        bin_table([0.1], [0.0], [30, 0])
    with pytest.raises(ValueError, match="one value for each face"):
        bin_table([0.1], [0.0, 1.0], [0, 30])


def test_degrees_are_not_printed_in_percent():
    table = bin_table([3.0, 5.0], [10, 40], [0, 30, 60], name="|yaw|", unit="degrees", n_resamples=20)
    assert "%" not in str(table)
    assert "Errors in degrees." in table.notes
    assert "4.000 degrees" in str(compare([3.0, 5.0], [4.0, 4.0], unit="degrees", n_resamples=20))


def test_group_tables_count_what_is_missing():
    errors = failing(np.array([1.0, 2.0, 3.0]), [False, True, False])
    table = group_table(errors, ["a", "a", "b"], n_resamples=20)
    assert list(table.columns) == ["group", "mean", "median", "faces", "failed"]
    assert table.column("failed") == [1, 0]
    assert table.column("faces") == [2, 1]
    with pytest.raises(ValueError, match="one label for each face"):
        group_table([0.1], ["a", "b"])


def test_tables_are_written_as_fractions_and_printed_in_percent(tmp_path):
    table = Table(
        ["part", "n", "NME", "FR"],
        [["a|b", 3, Interval(0.04, 0.03, 0.05), 0.5], ["c", 0, None, math.nan]],
        title="T",
        percent=["NME", "FR"],
        notes=["a note"],
        digits=2,
    )
    assert str(table).splitlines() == [
        "T",
        "part  n              NME %   FR %",
        "----  -  -----------------  -----",
        "a|b   3  4.00 [3.00, 5.00]  50.00",
        "c     0                  -      -",
        "a note",
    ]
    assert "| a\\|b | 3 | 4.00 [3.00, 5.00] | 50.00 |" in table.to_markdown()
    text = table.to_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == text
    assert text.splitlines() == ["part,n,NME,NME_low,NME_high,FR", "a|b,3,0.04,0.03,0.05,0.5", "c,0,,,,"]
    plain = table.to_dict()
    assert plain["rows"][0]["NME"] == {"estimate": 0.04, "low": 0.03, "high": 0.05}
    assert plain["rows"][1] == {"part": "c", "n": 0, "NME": None, "FR": None}
    with pytest.raises(KeyError, match="expected one of part, n, NME, FR"):
        table.column("AUC")
    with pytest.raises(ValueError, match="got 1 cells; expected 2"):
        Table(["a", "b"], [[1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([0.1]), "got 1 independent faces or groups; expected at least 2"),
        (lambda: bootstrap_interval([0.1, 0.2], groups=["a", "a"]), "got 1 independent faces or groups"),
        (lambda: bootstrap_interval([0.1, np.nan]), "got NaN or infinity"),
        (lambda: bootstrap_interval([[0.1, 0.2]]), r"expected \(n_faces,\)"),
        (lambda: bootstrap_interval([0.1, 0.2], groups=["a"]), "one group for each face"),
        (lambda: bootstrap_interval([0.1, 0.2], confidence=95), "confidence: got 95"),
        (lambda: bootstrap_interval([0.1, 0.2], n_resamples=0), "n_resamples: got 0"),
        (lambda: bootstrap_interval([0.1, 0.2], statistic="mode"), "statistic: got 'mode'"),
        (lambda: bootstrap_interval([0.1, 0.2], n_resamples=10.5), "expected a whole number"),
        (lambda: bootstrap_interval([0.1, 0.2], statistic=lambda x: x), "expected one finite number"),
        (lambda: bootstrap_interval([0.1, 0.2], statistic=lambda x: np.nan), "expected one finite number"),
        (lambda: bootstrap_interval([0.1, 0.2], groups=["a", None]), "groups: got None or NaN for 1 faces"),
        (lambda: bootstrap_interval([0.1, 0.2], groups=[1.0, np.nan]), "groups: got None or NaN for 1 faces"),
        (lambda: group_table([0.1, 0.2], [np.nan, 1.0]), "labels: got None or NaN for 1 faces"),
        (lambda: group_table([0.1, 0.2], [1.0, 1.0], n_resamples=0), "n_resamples: got 0"),
        (lambda: landmark_table([[0.1, np.inf]]), "errors: got infinity"),
        (lambda: compare([0.1, 0.2], [0.1, 0.2], names=("a",)), "expected two"),
        (lambda: wilson_interval(1, np.inf), "got 1 of inf faces"),
        (lambda: wilson_interval(3, 2), "got 3 of 2 faces"),
        (lambda: wilson_interval(0, 0), "got 0 of 0 faces"),
        (lambda: wilson_interval(0, 5, effective_n=0), "effective_n: got 0"),
        (lambda: rate_interval([0.1, 0.2]), "expected booleans"),
        (lambda: rate_interval(np.ones(3, bool), groups=[1, 1, 1]), "got a single group"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
