"""One call from landmarks to a table."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import oracles
import pytest

from evaluation import auc_threshold_weighted, bootstrap_interval, evaluate, failure_rate, wilson_interval
from evaluation.protocols import get_protocol
from shape_models import make_faces
from shape_models.datasets import make_face_samples

SIZES = {"common": 80, "challenging": 20}
SPLIT = np.repeat(list(SIZES), list(SIZES.values()))
FACES = make_faces(100, rng=0)
WIDTH = np.linalg.norm(FACES[:, 45] - FACES[:, 36], axis=-1)
LEVEL = 0.05 + 0.1 * (SPLIT == "challenging")
GUESS = FACES + np.random.default_rng(1).normal(size=FACES.shape) * (WIDTH * LEVEL)[:, None, None]


def report(**options):
    defaults = {"attributes": {"split": SPLIT}, "n_resamples": 300}
    return evaluate(FACES, GUESS, options.pop("protocol", "300w"), **(defaults | options))


def test_the_numbers_are_those_of_a_naive_script():
    errors = oracles.loop_nme(FACES, GUESS, oracles.loop_length(FACES, "inter_ocular", [36], [45]))
    found = report()
    np.testing.assert_allclose(found.errors, errors, rtol=1e-12)
    for name in SIZES:
        part = errors[SPLIT == name]
        metrics = found[name].metrics
        assert metrics["NME"].estimate == pytest.approx(sum(part) / len(part), rel=1e-12)
        for t in (0.08, 0.1):
            assert metrics[f"AUC@{t:g}"].estimate == pytest.approx(
                sum(max(0, 1 - e / t) for e in part) / len(part), rel=1e-12
            )
            assert metrics[f"FR@{t:g}"].estimate == pytest.approx(oracles.loop_failure_rate(part, t), rel=1e-12)
    full = (554 * errors[:80].mean() + 135 * errors[80:].mean()) / 689
    assert found.main.metrics["NME"].estimate == pytest.approx(full, rel=1e-12)
    assert full != pytest.approx(errors.mean(), rel=1e-3)


def test_with_the_published_sizes_the_full_row_is_the_plain_mean():
    faces = make_faces(689, rng=2)
    guess = faces + np.random.default_rng(2).normal(size=faces.shape) * 0.02 * np.ptp(faces)
    split = np.repeat(["common", "challenging"], [554, 135])
    found = evaluate(faces, guess, "300w", attributes={"split": split}, groups=np.arange(689), n_resamples=300)
    assert found.notes == ()
    metrics = found["full"].metrics
    assert metrics["NME"].estimate == pytest.approx(found.errors.values.mean(), rel=1e-12)
    assert metrics["FR@0.1"].estimate == pytest.approx(failure_rate(found.errors, threshold=0.1), abs=1e-12)
    alone = bootstrap_interval(found.errors, n_resamples=2000)
    assert metrics["NME"].high - metrics["NME"].low == pytest.approx(alone.high - alone.low, rel=0.15)
    pooled = wilson_interval(round(metrics["FR@0.08"].estimate * 689), 689)
    assert metrics["FR@0.08"].high == pytest.approx(pooled.high, abs=0.01)


def test_every_interval_contains_its_number():
    for row in report(groups=np.arange(100) // 2).rows:
        for value in row.metrics.values():
            assert value.low <= value.estimate <= value.high
            assert value.n_groups is not None


def test_the_same_call_gives_the_same_report():
    assert str(report()) == str(report())
    assert str(report(rng=1)) != str(report())
    order = np.random.default_rng(0).permutation(100)
    mixed = evaluate(FACES[order], GUESS[order], "300w", attributes={"split": SPLIT[order]}, n_resamples=300)
    for row in report().rows:
        for key, value in row.metrics.items():
            assert mixed[row.name].metrics[key].estimate == pytest.approx(value.estimate, rel=1e-12, abs=1e-15)


def test_a_perfect_model():
    for row in evaluate(FACES, FACES, "300w", attributes={"split": SPLIT}, n_resamples=50).rows:
        values = {key: (v.estimate, v.low) for key, v in row.metrics.items()}
        assert values["NME"] == (0, 0)
        assert values["AUC@0.08"][0] == 1
        assert values["FR@0.1"] == (0, 0)
        assert row.metrics["FR@0.1"].high > 0


def test_failures_and_undefined_faces_are_counted():
    truth, guess = FACES.copy(), GUESS.copy()
    guess[3, 7] = np.nan
    truth[5, 45] = truth[5, 36]
    with pytest.raises(ValueError, match="missing='failure'"):
        evaluate(truth, guess, "300w")
    found = evaluate(truth, guess, "300w", missing="failure", n_resamples=50)
    row = found["all"]
    assert (row.n, row.n_undefined, row.n_failed) == (100, 1, 1)
    assert row.metrics["NME"].n == 98
    assert row.metrics["FR@0.1"].n == row.metrics["AUC@0.1"].n == 99
    assert row.metrics["FR@0.1"].estimate == pytest.approx(failure_rate(found.errors, threshold=0.1))
    lines = str(found).splitlines()
    assert lines[1].split()[:4] == ["subset", "faces", "undefined", "failed"]
    assert found.worst(1).tolist() == [3]
    assert 5 not in found.worst(1000)
    assert len(found.worst(1000)) == 99


def test_no_prediction_at_all():
    found = evaluate(FACES, np.full_like(FACES, np.nan), "300w", missing="failure", n_resamples=50)
    metrics = found["all"].metrics
    assert np.isnan(metrics["NME"].estimate)
    assert metrics["AUC@0.1"].estimate == 0
    assert metrics["FR@0.1"].estimate == 1
    assert "-" in str(found).splitlines()[3]
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["metrics"]["NME"]["estimate"] is None


def test_printed_written_and_plain_forms_agree(tmp_path):
    found = report(name="mean shape")
    text = str(found)
    assert text.startswith("mean shape, protocol 300w\n")
    assert "inter_ocular (outer eye corners, 36 and 45 of ibug68)" in text
    assert "NME %" in text
    assert "AUC@0.08 %" not in text
    number = found["common"].metrics["NME"].estimate
    assert f"{100 * number:.3f} [" in text
    assert f"{100 * number:.3f} [" in found.to_markdown()
    rows = list(csv.DictReader(io.StringIO(found.to_csv(tmp_path / "r.csv"))))
    assert (tmp_path / "r.csv").read_text() == found.to_csv()
    assert float(rows[0]["NME"]) == number
    assert [row["subset"] for row in rows] == ["common", "challenging", "full"]
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["rows"][0]["metrics"]["NME"]["estimate"] == number
    assert plain["protocol"]["normalizer"] == "inter_ocular"
    assert plain["model"] == "mean shape"


def test_sets_that_differ_from_the_protocol_say_so():
    assert report().notes == (
        "common has 80 faces here and 554 in the published set.",
        "challenging has 20 faces here and 135 in the published set.",
        "full weighs its parts as the published set does: common 0.804, challenging 0.196.",
        "No photographs were given: intervals take all faces as independent.",
    )
    other = report(attributes={"split": np.where(SPLIT == "common", "common", "train")})
    assert [row.name for row in other.rows] == ["all", "common"]
    assert "20 of 100 faces are in no subset of the protocol." in other.notes
    bare = report(attributes=None)
    assert [row.name for row in bare.rows] == ["all"]
    assert "No split was given: the rows that need it are left out." in bare.notes


def test_yaw_bins_and_their_mean():
    yaw = np.linspace(-95, 95, 100)
    found = evaluate(FACES, GUESS, "aflw2000-3d", attributes={"yaw": yaw}, n_resamples=50)
    assert [row.name for row in found.rows] == ["all", "yaw 0-30", "yaw 30-60", "yaw 60-90", "mean of bins"]
    bins = [found[f"yaw {b}"].metrics["NME"].estimate for b in ("0-30", "30-60", "60-90")]
    assert found["mean of bins"].metrics["NME"].estimate == pytest.approx(np.mean(bins))
    assert sum(found[f"yaw {b}"].n for b in ("0-30", "30-60", "60-90")) == int((np.abs(yaw) <= 90).sum())
    assert found.main.name == "all"


def test_faces_without_a_yaw_are_counted():
    yaw = np.where(np.arange(100) < 7, np.nan, 10.0)
    found = evaluate(FACES, GUESS, "aflw2000-3d", attributes={"yaw": yaw}, n_resamples=20)
    assert "7 of 100 faces have no yaw: they are in none of its rows." in found.notes
    assert found["yaw 0-30"].n == 93


def test_overlapping_subsets_of_wflw():
    rng = np.random.default_rng(0)
    truth = 100 + 50 * rng.random((30, 98, 2))
    flags = {key: rng.random(30) < 0.5 for key in ("pose", "expression", "illumination", "Make-up", "occlusion")}
    found = evaluate(truth, truth + 1, "wflw", attributes=flags | {"blur": np.zeros(30, int)}, n_resamples=50)
    assert [row.name for row in found.rows][:3] == ["full", "pose", "expression"]
    assert "blur" not in [row.name for row in found.rows]
    assert "blur has 0 faces here and 773 in the published set." in found.notes
    assert found["make-up"].n == int(flags["Make-up"].sum())


def test_the_published_auc_has_its_own_name():
    found = report(protocol="asmnet-300w", attributes=None)
    value = found["all"].metrics["threshold-weighted AUC@0.1"]
    assert value.estimate == pytest.approx(auc_threshold_weighted(found.errors), rel=1e-12)
    assert value.estimate != pytest.approx(found["all"].metrics["AUC@0.1"].estimate, abs=0.01)


def test_archives_bring_their_groups_and_splits():
    samples = make_face_samples(24, faces_per_person=4, rng=0)
    shapes = samples.shapes()
    found = evaluate(samples, shapes + 1, "300w", n_resamples=50)
    assert found["all"].metrics["NME"].n_groups == 6
    with pytest.raises(ValueError, match=r"23 faces.*|24 faces have a truth and 23 a prediction"):
        evaluate(samples, shapes[1:], "300w")


def test_persons_are_required_where_numbers_would_be_wrong():
    rng = np.random.default_rng(0)
    truth = 100 * rng.random((12, 58, 2))
    with pytest.raises(ValueError, match="the protocol imm needs the person of each face"):
        evaluate(truth, truth + 1, "imm")
    found = evaluate(truth, truth + 1, "imm", groups=np.arange(12) // 6, n_resamples=50)
    assert "of groups" in found["all"].metrics["NME"].method
    alone = evaluate(truth, truth + 1, "imm", groups=np.zeros(12), n_resamples=50)
    assert np.isnan(alone["all"].metrics["FR@0.1"].low)


def test_tables_of_a_report():
    found = report(groups=np.arange(100) // 2)
    assert len(found.landmark_table()) == 68
    assert "mouth" in found.landmark_table(by="group").column("group")
    each = found.landmark_errors()
    np.testing.assert_allclose(each.mean(axis=-1), found.errors, rtol=1e-12)
    assert found.group_table(SPLIT).column("faces") == [20, 80]
    assert found.bin_table(WIDTH, [0, np.median(WIDTH), 1e9]).column("faces") == [50, 50]
    worst = found.worst(5)
    assert (np.diff(found.errors.values[worst]) <= 0).all()
    assert found.errors.values[worst[0]] == found.errors.values.max()


def test_a_mask_leaves_landmarks_out():
    mask = np.ones(68, bool)
    mask[:17] = False
    found = report(mask=mask)
    np.testing.assert_allclose(
        found.errors, np.linalg.norm(GUESS - FACES, axis=-1)[:, 17:].mean(axis=-1) / WIDTH, rtol=1e-12
    )
    assert np.isnan(found.landmark_errors()[:, :17]).all()


def test_three_dimensions_are_said():
    deep = np.concatenate([FACES, np.zeros((100, 68, 1))], axis=-1)
    found = evaluate(deep, deep + 3, "aflw2000-3d", n_resamples=20)
    assert "Distances are in three dimensions." in found.notes
    flat = evaluate(deep, deep + 3, "sdu-aflw2000-3d", n_resamples=20)
    assert "Distances are in x and y alone." in flat.notes
    assert flat.landmark_errors().shape == (100, 68)


def test_pixels_stay_pixels():
    found = evaluate(FACES, FACES + 3, replace(get_protocol("300w"), normalizer=1.0, thresholds=(5.0,)), n_resamples=50)
    assert found["all"].metrics["NME"].estimate == pytest.approx(np.sqrt(18))
    assert "NME %" not in str(found)
    assert "4.243" in str(found)


def test_many_faces_are_resampled_in_blocks():
    rng = np.random.default_rng(0)
    truth = rng.random((30_000, 3, 2))
    guess = truth + rng.normal(size=truth.shape)
    rules = replace(get_protocol("300w"), normalizer=1.0, scheme=None, thresholds=(1.0,), groups="", subsets=())
    found = evaluate(truth, guess, rules, n_resamples=300)
    value = found["all"].metrics["NME"]
    assert value.high - value.low == pytest.approx(2 * 1.96 * found.errors.values.std() / np.sqrt(30_000), rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "300v"}, "expected one of 300w"),
        (
            {"attributes": {"pose": np.ones(100)}},
            "attributes: got 'pose'; expected those that rows of 300w need",
        ),
        ({"attributes": {"split": SPLIT[:9]}}, r"attributes\['split'\]: got shape \(9,\)"),
        ({"groups": np.ones(7)}, r"groups: got shape \(7,\)"),
        ({"protocol": "wflw", "attributes": None}, "wflw98 has 98 landmarks; got faces of 68"),
        ({"confidence": 2}, "confidence: got 2"),
        ({"n_resamples": 0}, "n_resamples: got 0"),
        ({"groups": [None] * 100}, "groups: got None or NaN"),
        ({"protocol": replace(get_protocol("300w"), thresholds=(8,))}, "threshold: got 8; the errors are fractions"),
        ({"missing": "drop"}, "missing: got 'drop'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        report(**options)


def test_bad_arrays_are_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        evaluate(FACES[:0], FACES[:0], "300w")
    with pytest.raises(ValueError, match=r"ry \w+\[None\]"):
        evaluate(FACES[0], FACES[0], "300w")
    with pytest.raises(ValueError, match="100 faces have a truth and 99 a prediction"):
        evaluate(FACES, FACES[1:], "300w")
    with pytest.raises(KeyError, match="expected one of common, challenging, full"):
        report()["private"]
