"""Uncertainty that is learned: scatter is recovered, sources are weighed, and what is said is what happens."""

import numpy as np
import pytest

pytest.importorskip("torch")

from asmnet import Predictor
from asmnet.uncertainty import Findings, Uncertainty, learn_uncertainty, planar_turn
from shape_models import load_model
from shape_models._scatter import tail_radius

MODEL = load_model("face68")


def made(n, rng):
    """Faces of the model in any place, size and turn; a network that errs more where its maps are low; a search."""
    shapes = np.asarray(MODEL.asm_.basis_.sample(n, rng=rng))
    size = rng.uniform(40, 120, (n, 1, 1))
    a = rng.uniform(-np.pi, np.pi, n)
    turn = np.stack([np.cos(a), -np.sin(a), np.sin(a), np.cos(a)], -1).reshape(-1, 2, 2)
    truth = size * shapes @ np.swapaxes(turn, 1, 2) + rng.uniform(0, 200, (n, 1, 2))
    height = rng.uniform(0.2, 1.0, (n, 68))
    wide = 0.02 * size * [1.0, 2.0] * rng.normal(size=truth.shape) / height[..., None]
    points = truth + wide @ np.swapaxes(turn, 1, 2)
    spread = np.broadcast_to(np.eye(2), (n, 68, 2, 2)) * size[..., None] ** 2 * 1e-3
    return truth, points, spread, height


def test_what_is_said_of_errors_is_what_happens():
    """On faces that were not learned from, inside the ellipses lies the fraction that they promise."""
    rng = np.random.default_rng(1)
    truth, points, spread, height = made(300, rng)
    learned = Uncertainty.learn(MODEL, Findings(points[:200], spread[:200], height[:200]), truth[:200])
    learned = Uncertainty.from_header(learned.to_header())
    answer = learned.join(MODEL, Findings(points[200:], spread[200:], height[200:]))
    off = truth[200:] - answer.fit.completed
    assert np.linalg.norm(off, axis=2).mean() < 0.7 * np.linalg.norm(points[200:] - truth[200:], axis=2).mean()
    square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(answer.covariance), off)
    for level in (0.5, 0.8, 0.95):
        inside = (square <= tail_radius(level, answer.degrees_of_freedom) ** 2).mean()
        assert inside == pytest.approx(level, abs=0.04)
    assert answer.expected_error.mean() == pytest.approx(np.linalg.norm(off, axis=2).mean(), rel=0.1)


def test_the_better_of_network_and_search_counts_more():
    rng = np.random.default_rng(2)
    truth, points, _, height = made(300, rng)
    size = np.ptp(truth, axis=1).max(1)[:, None, None]
    searched = truth + 0.005 * size * rng.normal(size=truth.shape)
    found = Findings(points, searched=searched, confidence=height)
    learned = Uncertainty.learn(MODEL, Findings(*(None if p is None else p[:200] for p in found)), truth[:200])
    some = Findings(*(None if p is None else p[200:] for p in found))
    error = np.linalg.norm(learned.join(MODEL, some).fit.completed - truth[200:], axis=2).mean()
    assert error < 1.05 * np.linalg.norm(searched[200:] - truth[200:], axis=2).mean()
    lost = some._replace(searched=np.full_like(some.searched, np.nan))
    assert np.isfinite(learned.join(MODEL, lost).covariance).all()  # a search that could not begin


def test_heat_maps_and_a_search_together_are_better_than_either():
    rng = np.random.default_rng(4)
    truth, points, spread, height = made(300, rng)
    size = np.ptp(truth, axis=1).max(1)[:, None, None]
    doubt = rng.uniform(0.2, 1.0, height.shape)
    searched = truth + 0.3 * size * doubt[..., None] * rng.normal(size=truth.shape)
    whole = Findings(points, spread, height, searched, 1 - 0.9 * doubt)
    errors = {}
    for name, found in (
        ("maps", Findings(points, spread, height)),
        ("search", Findings(points, searched=searched, confidence=whole.confidence)),
        ("both", whole),
    ):
        first, last = (
            Findings(*(None if p is None else p[part] for p in found)) for part in np.split(range(300), [200])
        )
        answer = Uncertainty.learn(MODEL, first, truth[:200]).join(MODEL, last)
        off = truth[200:] - answer.fit.completed
        errors[name] = np.linalg.norm(off, axis=2).mean()
        square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(answer.covariance), off)
        inside = (square <= tail_radius(0.8, answer.degrees_of_freedom) ** 2).mean()
        assert inside == pytest.approx(0.8, abs=0.04)
    assert errors["both"] < 0.97 * min(errors["maps"], errors["search"])


def test_frames_do_not_matter_and_bad_faces_stay_alone():
    rng = np.random.default_rng(3)
    truth, points, spread, height = made(80, rng)
    learned = Uncertainty.learn(MODEL, Findings(points, spread, height), truth)
    few = Findings(points[:3], spread[:3], height[:3])
    plain = learned.join(MODEL, few)
    linear, shift = np.array([[0.0, -2.0], [2.0, 0.0]]), np.array([5.0, -3.0])
    moved = learned.join(MODEL, Findings(few.points @ linear.T + shift, linear @ few.spread @ linear.T, few.height))
    np.testing.assert_allclose(moved.fit.completed, plain.fit.completed @ linear.T + shift, rtol=1e-6)
    np.testing.assert_allclose(moved.covariance, linear @ plain.covariance @ linear.T, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(moved.expected_error, 2 * plain.expected_error, rtol=1e-6)
    broken = few.points.copy(), few.spread.copy(), few.height.copy()
    broken[0][0], broken[1][0], broken[2][0] = np.nan, np.nan, 0
    broken[0][1, 30], broken[1][1, 30], broken[2][1, 30] = np.nan, np.nan, 0
    answer = learned.join(MODEL, Findings(*broken))
    assert np.isnan(answer.fit.completed[0]).all()
    assert np.isnan(answer.covariance[0]).all()
    assert np.isnan(answer.expected_error[0])
    assert np.isfinite(answer.fit.completed[1:]).all()
    assert np.trace(answer.covariance[1, 30]) > np.trace(plain.covariance[1, 30])
    np.testing.assert_allclose(answer.fit.completed[2], plain.fit.completed[2], rtol=1e-9)


def test_turns_of_shapes_with_gaps():
    mean = np.asarray(MODEL.asm_.basis_.mean)
    z = 3 * np.exp(0.4j)
    points = np.stack([(z * (mean[:, 0] + 1j * mean[:, 1])).real, (z * (mean[:, 0] + 1j * mean[:, 1])).imag], -1)[None]
    gaps = np.concatenate([points, points, points])
    gaps[1, 5:] = np.nan
    gaps[2, 1:] = np.nan
    np.testing.assert_allclose(planar_turn(mean, gaps)[:2], z)
    assert np.isnan(planar_turn(mean, gaps)[2])


def test_learning_is_refused_where_it_makes_no_sense():
    call = Predictor.from_pretrained("light-68")
    with pytest.raises(ValueError, match="expected at least 50"):
        learn_uncertainty(call, [np.zeros((9, 9))] * 2, np.full((2, 68, 2), np.nan))
    with pytest.raises(ValueError, match="for each of 1 images"):
        learn_uncertainty(call, [np.zeros((9, 9))], np.zeros((2, 68, 2)))
    call.shape_model = None
    with pytest.raises(ValueError, match="without a shape model"):
        learn_uncertainty(call, [], np.empty((0, 68, 2)))


def test_shapes_that_the_network_knows_do_not_tell_how_far_off_new_ones_are():
    """Errors there are a tenth; what network and model are worth beside each other still comes from all."""
    rng = np.random.default_rng(6)
    truth, points, spread, height = made(300, rng)
    known = np.arange(300) < 150
    points = np.where(known[:, None, None], truth + 0.1 * (points - truth), points)
    found = Findings(points, spread, height)
    some = Uncertainty.learn(MODEL, found, truth, known)
    all_ = Uncertainty.learn(MODEL, found, truth)
    np.testing.assert_array_equal(some.network.covariance, all_.network.covariance)
    assert np.abs(some.answer.slopes - all_.answer.slopes).max() > 0.05
    answer = some.join(MODEL, Findings(points[150:], spread[150:], height[150:]))
    off = truth[150:] - answer.fit.completed
    square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(answer.covariance), off)
    for level in (0.5, 0.8, 0.95):
        inside = (square <= tail_radius(level, answer.degrees_of_freedom) ** 2).mean()
        assert inside == pytest.approx(level, abs=0.015)  # its radii were chosen by these
    with pytest.raises(ValueError, match="expected one boolean for each image"):
        learn_uncertainty(Predictor.from_pretrained("light-68"), ["a"], truth[:1], known=[1])
