"""The loops of the search against naive ones, and its regressions and frames against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracles import bilinear_loop, describe_loop, halve_loop, profile_search_loop, shape_step_loop
from scipy.linalg import solve_triangular

from shape_models import ASM, AlignedASM, ShapeBasis, make_faces
from shape_models.search import _kernels as kernels
from shape_models.search._contours import neighbours
from shape_models.search._frame import Frame, estimate
from shape_models.search._images import ImageBank
from shape_models.search.patches import _local_ridge, ridge


def bank_of(image):
    image = np.ascontiguousarray(image, dtype=np.float32)
    return image.ravel(), np.array([[0, *image.shape]])


def test_halve_is_the_smoothed_picture_at_every_second_pixel(rng):
    for shape in ((8, 8), (9, 13), (16, 11)):
        image = rng.uniform(size=shape).astype(np.float32)
        out = np.empty((shape[0] // 2, shape[1] // 2), np.float32)
        kernels.halve(image, out)
        # The naive version pads by one pixel: the last row or column of an odd image has its own neighbour.
        np.testing.assert_allclose(out, halve_loop(image), rtol=0, atol=1e-6)


@given(x=st.floats(-3, 15), y=st.floats(-3, 12))
def test_sample_is_bilinear_and_repeats_the_border(x, y):
    image = np.random.default_rng(0).uniform(size=(9, 12))
    buffer, table = bank_of(image)
    out = np.empty(1, np.float32)
    kernels.sample(buffer, *table[0], np.array([[x, y]]), out)
    assert abs(out[0] - bilinear_loop(image.tolist(), x, y)) < 1e-5


def test_describe_is_the_descriptor_of_the_definition(rng):
    image = rng.uniform(size=(40, 50))
    matrix = np.array([[0.9, -0.2, 6.0], [0.2, 0.9, 2.0]])
    points = rng.uniform(8, 18, size=(2, 2))
    buffer, table = bank_of(image)
    for spacing, n_cells in ((6.0, 2),):
        out = np.empty((1, 2, n_cells**2 * 8), np.float32)
        kernels.describe(buffer, table, matrix[None], (26, 28), points[None], spacing, n_cells, out)
        expected = describe_loop(image.tolist(), matrix, (26, 28), points, spacing, n_cells)
        np.testing.assert_allclose(out[0], expected, rtol=0, atol=2e-4)


def test_correlate_sums_the_products_at_every_place(rng):
    cells, weights = rng.normal(size=(9, 13, 8)).astype(np.float32), rng.normal(size=(4, 3, 8)).astype(np.float32)
    out = np.empty((6, 11), np.float32)
    kernels.correlate(np.ascontiguousarray(cells.transpose(2, 0, 1)), weights, out)
    windows = np.lib.stride_tricks.sliding_window_view(cells, (4, 3), axis=(0, 1))
    np.testing.assert_allclose(out, np.einsum("yxcij,ijc->yx", windows, weights), atol=1e-4)


def test_profile_distances_are_those_of_the_definition(rng):
    image = rng.uniform(size=(40, 50))
    points, angle = rng.uniform(12, 28, size=(5, 2)), rng.uniform(0, 6, size=5)
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    n_side, reach = 3, 2
    m = 2 * n_side + 1
    mean = rng.normal(size=(5, m)) * 0.1
    spread = rng.normal(size=(5, m, m))
    covariance = spread @ spread.swapaxes(1, 2) + np.eye(m)
    factors = np.stack([solve_triangular(np.linalg.cholesky(c), np.eye(m), lower=True) for c in covariance])
    buffer, table = bank_of(image)
    gradients = np.empty((1, 5, m + 2 * reach), np.float32)
    kernels.profile_gradients(buffer, table, points[None], normals[None], n_side + reach, gradients)
    out = np.empty((1, 5, 2 * reach + 1), np.float32)
    kernels.profile_distances(gradients, mean.astype(np.float32), factors.astype(np.float32), out)
    expected = profile_search_loop(image.tolist(), points, normals, mean, covariance, n_side, reach)
    np.testing.assert_allclose(out[0], expected, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 10_000), prior=st.sampled_from([0.0, 0.01, 1.0]))
def test_shape_step_is_least_squares_of_pose_and_modes_together(seed, prior):
    rng = np.random.default_rng(seed)
    n = 7
    mean = rng.normal(size=(n, 2))
    mean -= mean.mean(0)
    components = np.linalg.qr(rng.normal(size=(2 * n, 3)))[0].T
    variances = np.array([0.3, 0.1, 0.02])
    frame = Frame(ShapeBasis(mean, components, variances, 2.0), 0.0)
    points = 30 * mean @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [50, 20] + rng.normal(scale=5, size=(n, 2))
    weights = rng.uniform(0.2, 1, size=n)
    fit = frame.fit(points[None], weights=weights[None], prior=prior)
    expected, b = shape_step_loop(points, weights, mean, components, variances, 2.0, prior)
    # The step ends when turn, growth and coefficients move by less than 1e-5, of shapes about 60 pixels wide.
    np.testing.assert_allclose(fit.points[0], expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(fit.coefficients[0], b, rtol=0, atol=1e-4)


def test_shape_step_carries_landmarks_without_weight(rng):
    shapes = make_faces(80, rng=0)
    model = AlignedASM(ASM(0.95)).fit(shapes[1:])
    frame = Frame(model.asm_.basis_, 0.0)
    wrong = shapes[:1].copy()
    wrong[0, 30:36] += 60
    weights = np.ones((1, 68))
    weights[0, 30:36] = 1e-3
    with_weights = np.linalg.norm(frame.fit(wrong, weights=weights).points[0] - shapes[0], axis=1).mean()
    without = np.linalg.norm(frame.fit(wrong).points[0] - shapes[0], axis=1).mean()
    assert with_weights < 4 < without


def test_ridge_predicts_each_sample_from_the_others(rng):
    z, w = rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    y = z @ w + 0.1 * rng.normal(size=(60, 2)).astype(np.float32)
    fold = np.arange(60) % 3
    weights, predicted = ridge(z, y, fold, np.array([1e-4]))
    gram = z.T @ z
    scale = 1e-4 * np.trace(gram) / 5
    np.testing.assert_allclose(weights, np.linalg.solve(gram + scale * np.eye(5), z.T @ y), rtol=0, atol=1e-4)
    for f in range(3):
        train = fold != f
        left = np.linalg.solve(z[train].T @ z[train] + scale * np.eye(5), z[train].T @ y[train])
        np.testing.assert_allclose(predicted[~train], z[~train] @ left, rtol=0, atol=1e-4)


def test_ridge_with_few_samples_is_the_same_regression(rng):
    z, y = rng.normal(size=(20, 45)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    weights, predicted = ridge(z, y, np.arange(20) % 4, np.array([0.1]))
    gram = (z.T @ z).astype(np.float64)
    penalty = 0.1 * np.trace(gram) / 45 * np.eye(45)
    np.testing.assert_allclose(weights, np.linalg.solve(gram + penalty, z.T @ y), rtol=0, atol=1e-5)
    train = np.arange(20) % 4 != 1
    left = np.linalg.solve((z[train].T @ z[train]) + penalty, z[train].T @ y[train])
    np.testing.assert_allclose(predicted[~train], z[~train] @ left, rtol=0, atol=1e-4)


def test_ridge_gives_up_on_noise(rng):
    z, y = rng.normal(size=(80, 30)).astype(np.float32), rng.normal(size=(80, 2)).astype(np.float32)
    weights, _ = ridge(z, y, np.arange(80) % 4, np.array([1e-4, 1e3]))
    assert np.abs(weights).max() < 0.01


def test_local_regression_uses_only_its_own_descriptor(rng):
    features = rng.normal(size=(90, 4, 6)).astype(np.float32)
    wanted = np.stack([features[:, :, 0], -2 * features[:, :, 1]], axis=-1)
    weights, displaced, _, expected = _local_ridge(features, wanted, np.arange(90) % 3)
    np.testing.assert_allclose(weights[:, 0, 0], 1, atol=0.01)
    np.testing.assert_allclose(weights[:, 1, 1], -2, atol=0.01)
    np.testing.assert_allclose(displaced, wanted, atol=0.05)
    assert np.isfinite(expected).all()


def test_bank_places_coordinates_on_every_level():
    y, x = np.mgrid[:96, :128]
    image = (2.0 * x + y).astype(np.float32)  # a plane: smoothing and halving keep its values where they are
    bank = ImageBank.build([image], [(40.0, 36.0, 110.0, 90.0)], [1.0])
    seen = image[0:91, 32:111]
    points = np.array([[60.0, 50.0], [71.5, 53.25]])
    for step in (1.0, 2.0, 4.0):
        for flip in (False, True):
            table, to_level = bank.place(np.array([0]), np.array([flip]), np.array([step]))
            given = np.stack([127 - points[:, 0] if flip else points[:, 0], points[:, 1]], axis=1)
            out = np.empty(2, np.float32)
            kernels.sample(bank.buffer, *table[0], given * to_level[0, :, 0] + to_level[0, :, 1], out)
            value = out * (seen.max() - seen.min()) + seen.min()  # undo the scaling to 0...1
            np.testing.assert_allclose(value, 2 * points[:, 0] + points[:, 1], rtol=0, atol=0.02)


def test_neighbours_follow_edges_and_numbers():
    np.testing.assert_array_equal(neighbours(4), [[0, 1], [0, 2], [1, 3], [2, 3]])
    ring = neighbours(4, [(0, 1), (1, 2), (2, 3), (3, 0)])
    np.testing.assert_array_equal(np.sort(ring, axis=1), [[1, 3], [0, 2], [1, 3], [0, 2]])


def test_frames_of_similarities_are_exact(rng):
    points = rng.normal(size=(4, 9, 2))
    pose = estimate(points[:1], points)
    there = pose(points)
    np.testing.assert_allclose(pose.inverse(there), points, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pose.as_similarity()(points), there, rtol=0, atol=1e-12)
    turned = 2.5 * points @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + [3, 4]
    exact = estimate(points, turned, np.ones((4, 9)))
    np.testing.assert_allclose(exact(points), turned, rtol=0, atol=1e-12)
