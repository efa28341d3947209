"""Real landmarks: what the normalisers are on faces in the wild, and a report of a simple baseline."""

import numpy as np
import oracles
import pytest

from evaluation import compare, evaluate, normalizing_distance
from shape_models.datasets import read_300w

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def faces(data_dir):
    return {split: read_300w(data_dir / "300w", split) for split in ("train", "val")}


@pytest.fixture(scope="module")
def shapes(faces):
    return {split: samples.shapes() for split, samples in faces.items()}


def test_the_ratio_of_pupils_to_outer_corners(shapes):
    every = np.concatenate(list(shapes.values()))
    length = {
        name: normalizing_distance(every, name, scheme="ibug68")
        for name in ("inter_ocular", "inter_pupil", "eye_centers")
    }
    pupils, centres = (length[name] / length["inter_ocular"] for name in ("inter_pupil", "eye_centers"))
    assert pupils.mean() == pytest.approx(0.722, abs=0.002)
    assert centres.mean() == pytest.approx(0.715, abs=0.002)
    assert pupils.std() < 0.03


def in_the_box(train, boxes_of):
    """The mean of the shapes in their boxes, put into the boxes of others."""
    low, high = train.min(axis=1, keepdims=True), train.max(axis=1, keepdims=True)
    mean = ((train - low) / (high - low)).mean(axis=0)
    low, high = boxes_of.min(axis=1, keepdims=True), boxes_of.max(axis=1, keepdims=True)
    return low + mean * (high - low)


def test_the_mean_shape_in_the_box(faces, shapes):
    guess = in_the_box(shapes["train"], shapes["val"])
    report = evaluate(faces["val"], guess, "300w", name="mean shape in the box", n_resamples=500)
    row = report["all"]
    errors = oracles.loop_nme(shapes["val"], guess, oracles.loop_length(shapes["val"], "inter_ocular", [36], [45]))
    np.testing.assert_allclose(report.errors, errors, rtol=1e-12)
    assert row.n == 259
    assert row.metrics["NME"].n_groups == len(set(faces["val"].groups)) < 259
    assert 0.16 < row.metrics["NME"].estimate < 0.19
    assert row.metrics["FR@0.1"].estimate == oracles.loop_failure_rate(errors, 0.1)
    parts = report.landmark_table(by="group")
    worst = max(parts.rows, key=lambda cells: cells[1].estimate)[0]
    assert worst in ("nose", "nose_bridge")  # what turns most when the head turns
    truth = evaluate(faces["val"], shapes["val"], "300w", name="truth", n_resamples=100)
    against = compare(truth.errors, report.errors, groups=report.groups, n_resamples=100)
    assert against.n_worse == 0
    assert against.difference.high < 0


def test_pupils_raise_the_error_by_the_ratio(faces, shapes):
    guess = in_the_box(shapes["train"], shapes["val"])
    one, two = (evaluate(shapes["val"], guess, name, n_resamples=50).errors for name in ("300w", "300w-inter-pupil"))
    assert two.mean() / one.mean() == pytest.approx(1.39, abs=0.02)


def test_subsets_of_wflw_have_their_published_sizes(data_dir):
    from evaluation.protocols import get_protocol

    with np.load(data_dir / "landmarks" / "wflw_test_68.npz", allow_pickle=False) as file:
        flags = file["attributes"]
    attributes = dict(zip(("pose", "expression", "illumination", "make_up", "occlusion", "blur"), flags.T, strict=True))
    for subset in get_protocol("wflw").subsets:
        assert int(subset.mask(attributes, len(flags)).sum()) == subset.n


def test_profiles_have_no_inter_ocular_distance_worth_dividing_by(data_dir):
    with np.load(data_dir / "landmarks" / "aflw2000_3d68.npz", allow_pickle=False) as file:
        truth, yaw = file["shapes"][..., :2], file["abs_yaw_degrees"]
    eyes, box = (normalizing_distance(truth, name, scheme="ibug68") for name in ("inter_ocular", "box_geometric_mean"))
    ratio = eyes / box
    assert np.median(ratio[yaw < 30]) > 3 * np.median(ratio[yaw > 75])
    rng = np.random.default_rng(0)
    guess = truth + rng.normal(size=truth.shape) * 0.03 * box[:, None, None]
    report = evaluate(truth, guess, "aflw2000-3d", attributes={"yaw": yaw}, n_resamples=50)
    sizes = {row.name: row.n for row in report.rows}
    assert sizes["all"] == 1000
    assert sizes["mean of bins"] == int((yaw <= 90).sum())
    assert report["mean of bins"].metrics["NME"].estimate == pytest.approx(0.03 * np.sqrt(np.pi / 2), rel=0.02)
