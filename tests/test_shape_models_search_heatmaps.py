"""Maxima of heat maps and the fit to them: exact for Gaussians, honest where maps are wide, low or empty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_models import AlignedASM, make_faces
from shape_models.search import fit_heatmaps, heatmap_peaks

RNG = np.random.default_rng(0)
SHAPES = 0.55 * make_faces(120, rng=0)
SHAPES = SHAPES - SHAPES.mean(axis=1, keepdims=True) + 80.0
MODEL = AlignedASM(scheme="ibug68").fit(SHAPES[20:])


def draw(points, size=(160, 160), cov=9.0, height=1.0):
    """Gaussian bumps, one after the other in plain loops."""
    y, x = np.mgrid[: size[0], : size[1]]
    cov = np.eye(2) * cov if np.ndim(cov) == 0 else np.asarray(cov)
    inverse = np.linalg.inv(cov)
    out = np.empty((*points.shape[:-1], *size))
    for index in np.ndindex(points.shape[:-1]):
        dx, dy = x - points[index][0], y - points[index][1]
        square = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2
        out[index] = height * np.exp(-0.5 * square)
    return out


@given(
    st.floats(12, 48),
    st.floats(12, 28),
    st.floats(1.2, 2.5),
    st.floats(1.2, 2.5),
    st.floats(-0.5, 0.5),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_a_gaussian_is_found_with_its_covariance_and_height(x, y, sx, sy, rho, height):
    """The parabola is exact along each axis for bumps that stand upright; the moments are for all."""
    cov = np.array([[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]])
    maps = draw(np.array([[x, y]]), (40, 60), cov, height)
    points, spread, found = heatmap_peaks(maps)
    off = np.abs(points - [x, y]).max()
    assert off < (1e-6 if abs(rho) < 1e-9 else 0.7)
    middle = np.array([[x, y]])
    expected = cov / 2 + np.eye(2) / 12 + (points - middle).T @ (points - middle)
    np.testing.assert_allclose(spread[0], expected, atol=0.05)
    assert 0.7 * height < found[0] <= height
    np.testing.assert_allclose(heatmap_peaks(3 * maps)[0], points, atol=1e-9)


def test_single_precision_and_batches_agree_with_one_by_one():
    maps = draw(SHAPES[:4] / 2.5, (64, 64), 4.0).reshape(2, 2, 68, 64, 64)
    matrices = np.array([[2.0, 0.3, 5.0], [-0.3, 2.1, -7.0]]) * np.ones((2, 2, 1, 1))
    many = heatmap_peaks(maps, matrices)
    for index in np.ndindex(2, 2):
        for whole, one in zip(many, heatmap_peaks(maps[index].astype(np.float32), matrices[0, 0]), strict=True):
            np.testing.assert_allclose(whole[index], one, atol=2e-4)
    moved = SHAPES[:4].reshape(2, 2, 68, 2) / 2.5 @ matrices[0, 0, :, :2].T + matrices[0, 0, :, 2]
    np.testing.assert_allclose(many[0], moved, atol=1e-6)


def test_a_second_bump_widens_and_a_map_without_a_maximum_is_missing():
    maps = draw(np.array([[20.0, 20.0]] * 5), (40, 60), 4.0)
    maps[1] += 0.8 * draw(np.array([[50.0, 30.0]]), (40, 60), 4.0)[0]
    maps[2], maps[3, 3, 3], maps[4, 3, 3] = -1.0, np.nan, np.inf
    points, spread, height = heatmap_peaks(maps)
    assert np.trace(spread[1]) > 30 * np.trace(spread[0])
    np.testing.assert_allclose(points[:2], 20, atol=1e-6)
    assert np.isnan(points[2:]).all()
    assert np.isnan(spread[2:]).all()
    assert (height[2:] == 0).all()


def test_low_maps_are_carried_by_the_others():
    """Six maps of each face are low and have their maximum far away, and the chin is empty."""
    truth = SHAPES[:12]
    wrong = truth.copy()
    hit = np.zeros((12, 68), dtype=bool)
    for row in hit:
        row[RNG.choice(68, 6, replace=False)] = True
    wrong[hit] += RNG.choice([-1.0, 1.0], (int(hit.sum()), 2)) * RNG.uniform(15, 30, (int(hit.sum()), 2))
    maps = draw(wrong) * np.where(hit, 0.2, 1.0)[..., None, None]
    maps[:, 8] = 0
    fit = fit_heatmaps(MODEL, maps)
    error = np.linalg.norm(fit.completed - truth, axis=-1)
    assert (fit.status == "ok").all()
    assert error[hit].mean() < 0.15 * np.linalg.norm(wrong - truth, axis=-1)[hit].mean()
    assert error[~hit].mean() < 0.6
    clear = fit_heatmaps(MODEL, draw(truth)).covariance
    wider = np.trace(fit.covariance, axis1=-2, axis2=-1) / np.trace(clear, axis1=-2, axis2=-1)
    assert wider[hit].min() > 1
    assert wider[:, 8].min() > 1


def test_the_fit_goes_with_its_frame_and_bad_faces_stay_alone():
    maps = draw(SHAPES[:3])
    turned = np.array([[0.0, -2.0, 9.0], [2.0, 0.0, -4.0]])
    plain, moved = fit_heatmaps(MODEL, maps), fit_heatmaps(MODEL, maps, turned)
    np.testing.assert_allclose(moved.completed, plain.completed @ turned[:, :2].T + turned[:, 2], atol=1e-5)
    np.testing.assert_allclose(moved.covariance, turned[:, :2] @ plain.covariance @ turned[:, :2].T, atol=1e-5)
    maps[1] = 0
    some = fit_heatmaps(MODEL, maps)
    assert some.status.tolist() == ["ok", "too few landmarks", "ok"]
    assert np.isnan(some.completed[1]).all()
    np.testing.assert_allclose(some.completed[[0, 2]], plain.completed[[0, 2]], atol=1e-9)


def test_what_is_no_map_is_refused():
    maps = np.ones((68, 8, 8))
    with pytest.raises(ValueError, match=r"maps: got float64 of shape \(8, 8\); expected"):
        heatmap_peaks(maps[0])
    with pytest.raises(ValueError, match="maps: got <U1"):
        heatmap_peaks(np.full((1, 2, 2), "a"))
    with pytest.raises(ValueError, match=r"matrices: got shape \(3, 2\)"):
        heatmap_peaks(maps, np.ones((3, 2)))
    with pytest.raises(ValueError, match="without an inverse"):
        heatmap_peaks(maps, np.ones((2, 3)))
    with pytest.raises(ValueError, match="67"):
        fit_heatmaps(MODEL, maps[:67])
