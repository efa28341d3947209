"""What the metrics refuse: masks, tensors with a gradient, nothing at all; contours, masks and seeds measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import ttest_1samp
from strategies import random_rotations

import evaluation as ev
from evaluation.protocols import get_protocol
from shape_models import make_faces

FACES = make_faces(12, rng=0)
ERRORS = np.linspace(0.02, 0.09, 12)
CIRCLE = np.stack([np.cos(np.linspace(0, 6.2, 60)), np.sin(np.linspace(0, 6.2, 60))], axis=1)
LABELS = np.arange(12) % 3

DOORS = {
    "nme, target": (FACES, lambda x: ev.nme(x, FACES, normalizer=1.0)),
    "nme, prediction": (FACES, lambda x: ev.nme(FACES, x, normalizer=1.0)),
    "nme, normalizer": (np.ones(12), lambda x: ev.nme(FACES, FACES, normalizer=x)),
    "nme, function": (np.ones(12), lambda x: ev.nme(FACES, FACES, normalizer=lambda faces: x)),
    "nme, mask": (np.ones(68, bool), lambda x: ev.nme(FACES, FACES, normalizer=1.0, mask=x)),
    "landmark_errors": (FACES, lambda x: ev.landmark_errors(x, FACES, normalizer=1.0)),
    "landmark_errors, mask": (np.ones(68, bool), lambda x: ev.landmark_errors(FACES, FACES, normalizer=1.0, mask=x)),
    "normalizing_distance": (FACES, lambda x: ev.normalizing_distance(x, "box_diagonal")),
    "auc": (ERRORS, lambda x: ev.auc(x, threshold=0.08)),
    "auc_grid": (ERRORS, lambda x: ev.auc_grid(x, threshold=0.08)),
    "auc_threshold_weighted": (ERRORS, ev.auc_threshold_weighted),
    "failure_rate": (ERRORS, lambda x: ev.failure_rate(x, threshold=0.08)),
    "cumulative_error": (ERRORS, ev.cumulative_error),
    "cumulative_error, thresholds": (ERRORS, lambda x: ev.cumulative_error(ERRORS, x)),
    "bootstrap_interval": (ERRORS, ev.bootstrap_interval),
    "bootstrap_interval, groups": (LABELS, lambda x: ev.bootstrap_interval(ERRORS, groups=x)),
    "rate_interval": (ERRORS > 0.05, ev.rate_interval),
    "rate_interval, groups": (LABELS, lambda x: ev.rate_interval(ERRORS > 0.05, groups=x)),
    "compare, first": (ERRORS, lambda x: ev.compare(x, ERRORS)),
    "compare, second": (ERRORS, lambda x: ev.compare(ERRORS, x)),
    "compare, groups": (LABELS, lambda x: ev.compare(ERRORS, ERRORS[::-1], groups=x)),
    "landmark_table": (np.abs(FACES[..., 0]), ev.landmark_table),
    "landmark_table, groups": (LABELS, lambda x: ev.landmark_table(np.abs(FACES[..., 0]), groups=x)),
    "group_table": (ERRORS, lambda x: ev.group_table(x, LABELS)),
    "group_table, labels": (LABELS, lambda x: ev.group_table(ERRORS, x)),
    "bin_table": (ERRORS, lambda x: ev.bin_table(x, ERRORS, [0.0, 0.05, 0.1])),
    "bin_table, values": (ERRORS, lambda x: ev.bin_table(ERRORS, x, [0.0, 0.05, 0.1])),
    "bin_table, edges": (np.array([0.0, 0.05, 0.1]), lambda x: ev.bin_table(ERRORS, ERRORS, x)),
    "euler_mae, target": (FACES[:, 0, :1] * np.ones(3), lambda x: ev.euler_mae(x, np.zeros((12, 3)), convention="A")),
    "euler_mae, prediction": (np.zeros((12, 3)), lambda x: ev.euler_mae(np.zeros((12, 3)), x, convention="A")),
    "geodesic_error": (random_rotations(0, 12).as_matrix(), lambda x: ev.geodesic_error(x, Rotation.identity())),
    "evaluate, targets": (FACES, lambda x: ev.evaluate(x, FACES, "300w", n_resamples=20)),
    "evaluate, predictions": (FACES, lambda x: ev.evaluate(FACES, x, "300w", n_resamples=20)),
    "evaluate, mask": (np.ones(68, bool), lambda x: ev.evaluate(FACES, FACES, "300w", mask=x, n_resamples=20)),
    "evaluate, groups": (LABELS, lambda x: ev.evaluate(FACES, FACES, "300w", groups=x, n_resamples=20)),
    "protocol": (FACES, lambda x: get_protocol("300w").errors(x, FACES)),
    "contour_distance": (CIRCLE, lambda x: ev.contour_distance(x, CIRCLE)),
    "point_to_contour": (CIRCLE, lambda x: ev.point_to_contour(CIRCLE, x)),
    "dice": (CIRCLE > 0, lambda x: ev.dice(x, CIRCLE > 0)),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_door_lets_a_mask_in(door):
    """What lies under a mask would be measured: alone, or in a list, it is refused."""
    value, call = DOORS[door]
    call(value)
    hidden = np.ma.array(value, mask=False)
    hidden[(1,) * hidden.ndim] = np.ma.masked
    for given_ in (hidden, list(hidden)):
        with pytest.raises((TypeError, ValueError), match="masked"):
            call(given_)


@pytest.mark.parametrize("door", [d for d in DOORS if "groups" not in d and "labels" not in d])
def test_tensors_are_read_and_those_with_a_gradient_named(door):
    torch = pytest.importorskip("torch")
    value, call = DOORS[door]
    tensor = torch.tensor(np.array(value))
    call(tensor)
    if tensor.dtype.is_floating_point:
        with pytest.raises(TypeError, match=r"requires a gradient.*detach\(\)"):
            call(tensor.requires_grad_())


@pytest.mark.parametrize("door", [d for d in DOORS if d not in ("normalizing_distance", "point_to_contour")])
def test_nothing_at_all_is_named(door):
    value, call = DOORS[door]
    with pytest.raises((TypeError, ValueError), match=r"got|expected"):
        call(np.array(value)[:0])


# --- a length next to nothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "fine"), [(1e-9, False), (0.05, False), (0.5, True)])
def test_a_length_next_to_nothing_is_no_size(gap, fine):
    """A face of 100 pixels whose outer eye corners nearly coincide would score an NME in the billions."""
    face = np.array(FACES[:2] - FACES[:2].min()) * (100 / np.ptp(FACES[:2]))
    face[1, 45] = face[1, 36] + [gap, 0]
    if fine:
        assert np.isfinite(ev.nme(face, face + 1, normalizer="inter_ocular", scheme="ibug68")).all()
        return
    with pytest.raises(ValueError, match=r"outer eye corners.*next to nothing for the size of the face in face 1"):
        ev.nme(face, face + 1, normalizer="inter_ocular", scheme="ibug68")
    errors = ev.nme(face, face + 1, normalizer="inter_ocular", scheme="ibug68", undefined="nan")
    assert errors.n_undefined == 1
    assert np.isnan(errors.values).tolist() == [False, True]


def test_given_lengths_may_be_in_another_unit_but_not_nothing():
    assert ev.nme(FACES, FACES + 1, normalizer=np.full(12, 1e-3 * np.ptp(FACES))).n_undefined == 0
    with pytest.raises(ValueError, match="the given length of each face is missing, zero or next to nothing"):
        ev.nme(FACES, FACES + 1, normalizer=np.full(12, 1e-9 * np.ptp(FACES)))


# --- contours and masks ----------------------------------------------------------------------------------------


def segments_loop(point, contour, closed):
    best = np.inf
    for i in range(len(contour) - (not closed)):
        a, b = contour[i], contour[(i + 1) % len(contour)]
        t = 0.0 if (a == b).all() else np.clip(np.dot(point - a, b - a) / np.dot(b - a, b - a), 0, 1)
        best = min(best, float(np.linalg.norm(point - a - t * (b - a))))
    return best


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([2, 3]))
def test_points_to_contours_by_a_loop(seed, closed, dims):
    rng = np.random.default_rng(seed)
    contour, points = rng.normal(size=(7, dims)), rng.normal(size=(2, 5, dims))
    points[1, 2] = np.nan
    found = ev.point_to_contour(contour, points, closed=closed)
    assert found.shape == (2, 5)
    assert np.isnan(found[1, 2])
    for i, j in np.argwhere(np.isfinite(found)):
        np.testing.assert_allclose(found[i, j], segments_loop(points[i, j], contour, closed), atol=1e-12)
    assert ev.point_to_contour(contour, contour, closed=closed).max() < 1e-12


@given(st.integers(0, 10**6), st.booleans())
def test_distances_of_contours_are_distances(seed, closed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(6, 2)), rng.normal(size=(9, 2))
    there, back = (ev.contour_distance(*pair, closed=closed, n_points=200) for pair in ((a, b), (b, a)))
    np.testing.assert_allclose(
        [there.mean, there.hausdorff, there.percentile_95], [back.mean, back.hausdorff, back.percentile_95]
    )
    assert there.from_target == back.from_prediction
    assert 0 <= there.mean <= there.percentile_95 * 2
    assert there.percentile_95 <= there.hausdorff
    assert ev.contour_distance(a, a, closed=closed).hausdorff < 1e-12
    # Another drawing of the same lines: every segment cut in two.
    ends = np.roll(a, -1, axis=0) if closed else a[1:]
    finer = np.empty((len(a) + len(ends), 2))
    finer[::2], finer[1::2] = a, (a[: len(ends)] + ends) / 2
    assert ev.contour_distance(a, finer, closed=closed).hausdorff < 1e-12
    moved = ev.contour_distance(3 * a + 5, 3 * b + 5, closed=closed, n_points=200)
    np.testing.assert_allclose(moved.mean, 3 * there.mean)


def test_known_contour_distances():
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    inner = ev.contour_distance(square, square / 2 + 1, n_points=4000)
    np.testing.assert_allclose([inner.hausdorff, inner.from_prediction], [np.sqrt(2), 1.0], atol=1e-9)
    # From the outer side of 4: 2 at distance 1, and 1 at each end at sqrt(1 + t^2).
    expected = (2 + 2 * (np.sqrt(2) + np.arcsinh(1)) / 2) / 4
    np.testing.assert_allclose(inner.from_target, expected, atol=1e-3)
    line = ev.contour_distance([[0.0, 0], [10, 0]], [[0.0, 3], [10, 3]], closed=False)
    np.testing.assert_allclose([line.mean, line.hausdorff], 3.0)
    assert str(line) == "mean 3.000, 95 % below 3.000, largest 3.000"
    for wrong in ({"target": square[:1]}, {"target": FACES}, {"n_points": 1}, {"prediction": np.ones((5, 3))}):
        with pytest.raises(ValueError, match="got"):
            ev.contour_distance(**({"target": square, "prediction": square} | wrong))
    with pytest.raises(ValueError, match="NaN"):
        ev.contour_distance(square, [[np.nan, 0], [1, 1], [2, 2]])


def test_dice_counts_pixels(rng):
    a, b = rng.random((2, 5, 9, 11)) < 0.4
    found = ev.dice(a, b)
    for i in range(5):
        common = sum(x and y for x, y in zip(a[i].ravel(), b[i].ravel(), strict=True))
        np.testing.assert_allclose(found[i], 2 * common / (a[i].sum() + b[i].sum()))
        assert ev.dice(a[i], b[i]) == found[i]
    assert ev.dice(a[0], a[0]) == 1.0
    assert ev.dice(a[0], ~a[0]) == 0.0
    assert np.isnan(ev.dice(np.zeros((3, 3), bool), np.zeros((3, 3), bool)))
    with pytest.raises(TypeError, match="Try target > 0"):
        ev.dice(a[0].astype(int), b[0])
    with pytest.raises(ValueError, match="two masks of one shape"):
        ev.dice(a[0], b[0, :4])


# --- seeds -------------------------------------------------------------------------------------------------------


def test_seeds_alone_are_the_t_test():
    """Where faces do not differ, the interval is Student's of the seeds."""
    seeds = np.array([1.41, 0.02, 0.99, 0.61, -0.32])[:, None]
    found = ev.compare(seeds + np.zeros((1, 50)), np.zeros((5, 50)), unit="degrees")
    plain = ttest_1samp(seeds[:, 0], 0)
    interval = plain.confidence_interval()
    np.testing.assert_allclose([found.difference.low, found.difference.high], [interval.low, interval.high])
    np.testing.assert_allclose(found.p_value, plain.pvalue)
    np.testing.assert_allclose(found.per_seed, seeds[:, 0])
    assert (found.n_better, found.n_worse, found.n_tied) == (1, 4, 0)
    assert "worse on 4, tied on 0 (t-test p = " in str(found)


def test_faces_alone_are_the_t_test_of_faces(rng):
    faces = rng.normal(size=40)
    found = ev.compare(np.tile(faces, (3, 1)), np.zeros((3, 40)), unit="degrees")
    interval = ttest_1samp(faces, 0).confidence_interval()
    np.testing.assert_allclose([found.difference.low, found.difference.high], [interval.low, interval.high])


def test_a_method_compared_with_itself_is_not_told_apart(rng):
    """Training noise of half a point: the faces of one training seem to tell, the seeds do not."""
    faces, wrong_one, wrong_all = rng.exponential(3, size=200), 0, 0
    for _ in range(60):
        a, b = (faces + rng.normal(scale=0.5, size=(5, 1)) + rng.normal(scale=0.7, size=(5, 200)) for _ in range(2))
        wrong_one += 0.0 not in ev.compare(a[0], b[0], unit="degrees", n_resamples=200).difference
        wrong_all += 0.0 not in ev.compare(a, b, unit="degrees").difference
    assert wrong_one > 30
    assert wrong_all < wrong_one / 2


def test_seeds_hold_the_truth(rng):
    hits = 0
    for _ in range(200):
        delta = 0.3 * rng.normal(size=(5, 1)) + rng.exponential(1, size=(1, 60)) - 1 + rng.normal(size=(5, 60))
        hits += 0.0 in ev.compare(delta, np.zeros_like(delta), unit="degrees").difference
    assert hits >= 176  # 95 % of 200 less four standard deviations


def test_groups_and_errors_of_seeds(rng):
    base = rng.uniform(0.02, 0.06, size=12)
    truth = FACES
    one = [ev.nme(truth, truth + rng.normal(scale=0.01, size=truth.shape), normalizer="box_diagonal") for _ in range(3)]
    other = [ev.nme(truth, truth + 0.02, normalizer="box_diagonal") for _ in range(3)]
    found = ev.compare(one, other, groups=LABELS)
    assert found.difference.n_groups == 3
    assert found.unit == "fraction"
    assert len(found.per_seed) == 3
    wide = ev.compare(np.tile(base + LABELS, (3, 1)), np.zeros((3, 12)), groups=LABELS)
    narrow = ev.compare(np.tile(base + LABELS, (3, 1)), np.zeros((3, 12)))
    assert wide.difference.high - wide.difference.low > narrow.difference.high - narrow.difference.low
    for first, second, message in (
        (base[None], base[None], "expected at least 2. Try first"),
        (np.ones((3, 12)), np.ones((2, 12)), "those of the same faces"),
        (np.ones((3, 12)), np.ones(12), "those of the same faces"),
        (np.ones((2, 2, 12)), np.ones((2, 2, 12)), "those of the same faces"),
    ):
        with pytest.raises(ValueError, match=message):
            ev.compare(first, second)


SPLIT = ["common"] * 8 + ["challenging"] * 3 + [None]


@pytest.mark.parametrize("kind", ["object", "bytes", "table", "categories", "text"])
def test_attributes_are_columns_of_any_kind(kind):
    pandas = None if kind in ("object", "bytes") else pytest.importorskip("pandas")
    given = {
        "object": lambda: {"split": np.array(SPLIT, dtype=object)},
        "bytes": lambda: {"split": np.array([(name or "").encode() for name in SPLIT])},
        "table": lambda: pandas.DataFrame({"split": SPLIT, "else": 0}),
        "categories": lambda: {"split": pandas.Categorical(SPLIT)},
        "text": lambda: {"split": pandas.array(SPLIT, dtype="string")},
    }[kind]()
    report = ev.evaluate(FACES, FACES + 1, "300w", attributes=given, n_resamples=20)
    assert [(row.name, row.n) for row in report.rows[1:]] == [("common", 8), ("challenging", 3), ("full", 11)]
    assert "1 of 12 faces have no split: they are in none of its rows." in report.notes
    yaw = np.array([5.0, None, *[40.0] * 10], dtype=object)
    report = ev.evaluate(
        np.pad(FACES, ((0, 0), (0, 0), (0, 1))),
        np.pad(FACES + 1, ((0, 0), (0, 0), (0, 1))),
        "aflw2000-3d",
        attributes={"yaw": yaw},
        n_resamples=20,
    )
    assert "1 of 12 faces have no yaw: they are in none of its rows." in report.notes


def test_labels_of_several_kinds_are_named():
    labels = np.array([1] * 6 + ["a"] * 6, dtype=object)
    for call in (ev.group_table, lambda e, x: ev.bootstrap_interval(e, groups=x)):
        with pytest.raises(TypeError, match=r"several kinds, int and str; expected one. Try \[str"):
            call(ERRORS, labels)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="got None or NaN for 1 faces"):
        ev.group_table(ERRORS, pandas.array(["a"] * 11 + [None], dtype="string"))


def test_all_tables_of_a_report_have_its_confidence():
    noise = np.random.default_rng(0).normal(size=FACES.shape)
    report = ev.evaluate(FACES, FACES + noise, "300w", confidence=0.5, n_resamples=50)
    for table in (report.group_table(LABELS), report.bin_table(LABELS, [0, 3]), report.landmark_table(by="group")):
        assert {cell.confidence for cell in table.column("mean")} == {0.5}


def test_faces_without_a_pose_are_named_with_what_leaves_them_out():
    target, prediction = random_rotations(0, 4), Rotation.from_rotvec([[0, 0, 0], [np.nan] * 3, [0, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match="NaN or infinity in face 1, 1 such faces") as error:
        ev.geodesic_error(target, prediction)
    found = eval(str(error.value).split("found = ")[1].split(", and say")[0])
    assert ev.geodesic_error(target[found], prediction[found]).shape == (3,)


def test_no_fraction_of_faces_lies_below_nan():
    with pytest.raises(ValueError, match="threshold: got NaN"):
        ev.cumulative_error(ERRORS)(np.nan)


def test_a_row_of_a_table_is_one_line():
    table = ev.group_table(ERRORS, ["a\nb|c"] * 6 + ["d"] * 6, n_resamples=20)
    assert len(table.to_markdown().splitlines()) == 4
    assert "| a b\\|c |" in table.to_markdown()


def test_an_axis_too_many_never_broadcasts():
    """Each landmark would count as a face, each column of a mask as a mask, and rotations would be paired with all."""
    opencv = FACES[0][:, None]
    for errors in (ev.nme, ev.landmark_errors):
        with pytest.warns(UserWarning, match=r"68 faces of one landmark each.* try np.squeeze\(target, axis=-2\)"):
            errors(opencv, opencv + 1, normalizer=10.0)
    for mask in (np.ones((12, 1), bool), np.ones((1, 68), bool), True, [True]):
        with pytest.raises(ValueError, match=r"mask: got shape .*; expected \(68,\) or \(12, 68\)"):
            ev.nme(FACES, FACES + 1, normalizer=10.0, mask=mask)
    turns = Rotation.random(4, random_state=0).as_matrix()
    with pytest.raises(ValueError, match=r"shape \(4,\); expected \(4, 1\), as the target has, or one"):
        ev.geodesic_error(turns[:, None], turns)
    np.testing.assert_array_equal(ev.geodesic_error(turns[0], turns), ev.geodesic_error(turns, turns[:1]))
    with pytest.raises(ValueError, match=r"one pixel wide.*the last axis is the channel"):
        ev.dice(np.ones((8, 9, 1), bool), np.ones((8, 9, 1), bool))
