"""How right a search says it is: confidence, expected error and covariance on images it has not seen."""

import numpy as np
import pytest
from searches import boxes_of
from sklearn.base import clone

from shape_models.search import (
    ASMFitter,
    SearchResult,
)
from shape_models.search._calibration import Calibration, covered, disturbed


def auc(positive, negative):
    """The probability that a positive exceeds a negative."""
    order = np.concatenate([positive, negative]).argsort().argsort() + 1.0
    return (order[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def test_confidence_is_that_of_the_given_shape_which_is_not_moved(fitter, faces):
    images, shapes = faces
    given = shapes[50:54] + np.random.default_rng(0).normal(scale=1.5, size=(4, 68, 2))
    confidence = fitter.confidence(images[50:54], given)
    assert confidence.shape == (4, 68)
    for i in range(4):
        result = fitter.predict(images[50 + i], initial=given[i], max_iter=0)
        np.testing.assert_array_equal(result.shape, given[i])
        np.testing.assert_allclose(result.confidence, confidence[i], rtol=0, atol=1e-3)
        np.testing.assert_allclose(fitter.confidence(images[50 + i], given[i]), confidence[i], rtol=0, atol=1e-3)
        assert np.isfinite(result.score)
    found = fitter.predict(images[52], boxes=boxes_of(shapes[52:53])[0])
    np.testing.assert_allclose(fitter.confidence(images[52], found.shape), found.confidence, rtol=0, atol=1e-3)
    several = fitter.confidence(images[52], given[:3])
    np.testing.assert_allclose(several[1], fitter.confidence(images[52], given[1]), rtol=0, atol=1e-4)
    assert fitter.confidence([], []).shape == (0, 68)


def test_confidence_tells_covered_landmarks_and_wrong_ones(patches, faces):
    images, shapes = faces
    rng = np.random.default_rng(3)
    seen, hidden, wrong = [], [], []
    for i in range(50, 60):
        covered = images[i].copy()
        low = rng.uniform(shapes[i].min(0), shapes[i].max(0) - 20).astype(int)
        covered[low[1] : low[1] + 22, low[0] : low[0] + 22] = 127
        inside = ((shapes[i] >= low) & (shapes[i] < low + 22)).all(-1)
        off = rng.random(68) < 0.1
        given = shapes[i] + off[:, None] * rng.choice([-9.0, 9.0], size=(68, 2))
        confidence = patches.confidence(covered, given)
        seen.append(confidence[~inside & ~off])
        hidden.append(confidence[inside & ~off])
        wrong.append(confidence[~inside & off])
    seen, hidden, wrong = (np.concatenate(values) for values in (seen, hidden, wrong))
    assert auc(seen, hidden) > 0.9
    assert auc(seen, wrong) > 0.9


def test_confidence_of_what_is_missing_or_outside_is_nothing(fitter, faces):
    images, shapes = faces
    holes = shapes[50].copy()
    holes[[3, 30]] = np.nan
    confidence = fitter.confidence(images[50], holes)
    assert (confidence[[3, 30]] == 0).all()
    whole = fitter.confidence(images[50], shapes[50])
    assert np.median(np.abs(np.delete(confidence, [3, 30]) - np.delete(whole, [3, 30]))) < 0.05
    cut = np.ascontiguousarray(images[50][:, 45:])
    outside = shapes[50][:, 0] < 44
    assert outside.any()
    assert (fitter.confidence(cut, shapes[50] - [45, 0])[outside] == 0).all()
    batch = fitter.confidence(images[50:53], [shapes[50], shapes[51] * np.nan, shapes[52] + 1000])
    np.testing.assert_allclose(batch[0], whole, rtol=0, atol=1e-3)
    assert (batch[1:] == 0).all()
    for wrong, message in (
        (shapes[50] * np.nan, "fewer than three"),
        (shapes[50][:60], "expected"),
        (None, "expected"),
    ):
        with pytest.raises(ValueError, match=f"shapes: .*{message}"):
            fitter.confidence(images[50], wrong)


def test_confidence_is_a_probability_on_images_not_seen(fitter, faces):
    """Of landmarks of confidence p, about a share of p are within 5 % of the size."""
    images, shapes = faces
    given = disturbed(np.concatenate([shapes[50:]] * 4), np.random.default_rng(7))
    confidence = fitter.confidence([*images[50:]] * 4, given)
    truth = np.concatenate([shapes[50:]] * 4)
    right = np.linalg.norm(given - truth, axis=-1) <= 0.05 * np.ptp(truth, axis=1).max(-1)[:, None]
    assert abs(confidence.mean() - right.mean()) < 0.12
    for low, high in ((0.0, 0.4), (0.4, 0.8), (0.8, 1.0)):
        part = (confidence >= low) & (confidence <= high)
        if part.sum() > 100:
            assert abs(confidence[part].mean() - right[part].mean()) < 0.2


def test_expected_error_tells_good_answers_from_bad_ones(fitter, faces):
    images, shapes = faces
    rng = np.random.default_rng(5)
    starts = shapes[50:] + rng.uniform(-1, 1, size=(10, 1, 2)) * np.linspace(1, 40, 10)[:, None, None]
    results = fitter.predict(images[50:], initial=starts)
    error = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(results, shapes[50:], strict=True)])
    expected = np.array([r.expected_error for r in results])
    good, bad = error < 3, error > 8
    assert good.sum() > 2
    if bad.any():
        assert expected[bad].min() > np.median(expected[good])
    assert 0.4 < np.median(expected[good] / error[good]) < 2.5
    double = fitter.predict(np.kron(images[50], np.ones((2, 2), np.uint8)), initial=2 * starts[0] + 0.5)
    assert 1.3 < double.expected_error / expected[0] < 3  # pixels of the image


def test_covariances_hold_what_they_promise_in_the_frame_of_the_image(fitter, faces):
    images, shapes = faces
    starts = shapes[45:] + np.random.default_rng(5).uniform(-3, 3, (len(shapes) - 45, 1, 2))
    found = fitter.predict(list(images[45:]), initial=starts)
    off = shapes[45:] - np.array([r.shape for r in found])
    covariance = np.array([r.covariance for r in found])
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    square = np.einsum("nki,nkij,nkj->nk", off, np.linalg.inv(covariance), off)
    for level in (0.5, 0.8, 0.95):
        assert (square <= found[0].radius(level) ** 2).mean() == pytest.approx(level, abs=0.15)
    tall = fitter.predict(np.repeat(images[50], 2, axis=0), initial=starts[5] * [1, 2] + [0, 0.5], spacing=(2, 1))
    ratio = tall.covariance[:, [0, 1], [0, 1]] / found[5].covariance[:, [0, 1], [0, 1]]
    assert np.median(ratio[:, 1] / ratio[:, 0]) == pytest.approx(4, rel=0.1)
    assert np.isnan(SearchResult.failed(5, 2, status="error", message="").covariance).all()


def test_calibration_without_right_or_wrong_ones_and_with_constant_features(rng):
    features = rng.normal(size=(40, 2))
    results = np.concatenate([rng.normal(size=(30, 5)), np.ones((30, 1))], axis=1)
    error = 0.02 * np.exp(results[:, 0])
    for right, rate in ((np.ones(40, bool), 41 / 42), (np.zeros(40, bool), 1 / 42)):
        calibration = Calibration.learn(features, right, 30, results, rng.uniform(size=30), error)
        np.testing.assert_allclose(calibration.confidence(features), rate)
        expected = calibration.expected_error(results)
        np.testing.assert_allclose(expected.mean(), error.mean(), rtol=0.01)
        assert (np.diff(expected[results[:, 0].argsort()]) > -0.01).all()
        assert Calibration.from_header(calibration.to_header()) == calibration


def test_without_calibration_nothing_is_promised(faces, asm):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40, calibration=0).fit(images[:10], shapes[:10])
    assert fitter.calibration_ is None
    result = fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0], n_starts=3)
    assert np.isnan(result.expected_error)
    assert np.isnan(result.covariance).all()
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
    with pytest.raises(ValueError, match="calibration: got 1"):
        clone(fitter).set_params(calibration=1).fit(images[:10], shapes[:10])
    with pytest.raises(ValueError, match="occlusion: got 2"):
        clone(fitter).set_params(occlusion=2).fit(images[:10], shapes[:10])


def test_covers_hide_what_they_say_in_any_type_of_image(rng):
    shape = rng.uniform(20, 80, size=(30, 2))
    for image in (
        rng.integers(0, 255, size=(100, 100), dtype=np.uint8),
        rng.uniform(size=(100, 100, 3)),
        rng.integers(0, 60000, size=(100, 100), dtype=np.uint16),
    ):
        for _ in range(20):
            changed, hidden = covered(image, shape, image, rng)
            assert changed.dtype == image.dtype
            different = (changed != image).reshape(100, 100, -1).any(-1)
            x, y = np.round(shape).astype(int).T
            assert not (different[y, x] & ~hidden).any()
            assert image.min() <= changed.min()
            assert changed.max() <= image.max()
