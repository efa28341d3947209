"""Heat maps: encode and decode in one frame, the published targets, the losses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asmnet.heatmaps import (
    DECODERS,
    decode_heatmaps,
    draw_heatmaps,
    draw_published_heatmaps,
    heatmap_loss,
    mirror_coherence_loss,
    to_image,
    to_map,
)

inside = st.floats(2.0, 28.0, allow_nan=False)


def one(x, y, dtype=torch.float64):
    return torch.tensor([[x, y]], dtype=dtype)


@given(inside, inside, st.floats(0.8, 4.0), st.sampled_from(["parabola", "dark"]))
def test_newton_decoders_invert_the_gaussian(x, y, sigma, method):
    points = one(x, y)
    decoded = decode_heatmaps(draw_heatmaps(points, (32, 32), sigma=sigma), method=method)
    torch.testing.assert_close(decoded, points, rtol=0, atol=1e-6)


@given(inside, inside)
def test_coarse_decoders_stay_within_their_bound(x, y):
    points = one(x, y)
    maps = draw_heatmaps(points, (32, 32), sigma=1.5)
    assert (decode_heatmaps(maps, method="argmax") - points).abs().max() <= 0.5 + 1e-9
    assert (decode_heatmaps(maps, method="quarter") - points).abs().max() <= 0.25 + 1e-9


@given(st.integers(8, 24), st.integers(8, 24))
def test_soft_argmax_is_exact_at_pixel_centres(x, y):
    points = one(float(x), float(y))
    maps = draw_heatmaps(points, (32, 32), sigma=1.5)
    torch.testing.assert_close(decode_heatmaps(maps, method="soft_argmax", temperature=0.05), points, rtol=0, atol=1e-9)


@given(st.floats(-50, 50), st.integers(1, 8))
def test_frames_are_inverse_and_keep_the_edges(x, ratio):
    points = one(x, x)
    torch.testing.assert_close(to_image(to_map(points, ratio=ratio), ratio=ratio), points, rtol=0, atol=1e-12)
    # The left edge of the image, -1/2, is the left edge of the map.
    torch.testing.assert_close(to_map(one(-0.5, -0.5), ratio=ratio), one(-0.5, -0.5), rtol=0, atol=1e-12)


def test_flipping_image_and_map_commutes():
    points, width, ratio = one(37.3, 20.9), 128, 2
    flipped = points.clone()
    flipped[..., 0] = width - 1 - points[..., 0]
    a = draw_heatmaps(to_map(points, ratio=ratio), (64, 64)).flip(-1)
    b = draw_heatmaps(to_map(flipped, ratio=ratio), (64, 64))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_values_are_those_of_the_definition():
    maps = draw_heatmaps(one(3.3, 1.8), (6, 7), sigma=1.2, peak=5.0).numpy()[0]
    for v in range(6):
        for u in range(7):
            assert maps[v, u] == pytest.approx(5 * np.exp(-((u - 3.3) ** 2 + (v - 1.8) ** 2) / (2 * 1.2**2)), rel=1e-12)


def test_published_target_is_truncated_and_seven_wide():
    maps = draw_published_heatmaps(one(21.9, 40.1), (64, 64))[0]
    assert maps.max() == 20
    assert [int(i) for i in (maps == 20).nonzero()[0]] == [20, 10]
    assert int((maps > 0).sum()) == 49
    assert maps[20, 13] == pytest.approx(20 * np.exp(-4.5))
    corner = draw_published_heatmaps(one(0.0, 0.0), (64, 64))[0]
    assert int((corner > 0).sum()) == 16


def test_missing_landmarks_are_drawn_as_zeros():
    points = torch.tensor([[[float("nan"), 1.0], [2.0, 2.0]]])
    for maps in (draw_heatmaps(points, (8, 8)), draw_published_heatmaps(points, (8, 8))):
        assert torch.isfinite(maps).all()
        assert maps[0, 0].abs().max() == 0
        assert maps[0, 1].max() > 0


@pytest.mark.parametrize("method", DECODERS)
def test_flat_maps_are_refused_or_marked(method):
    maps = torch.zeros(2, 3, 8, 8)
    maps[..., 4, 5] = 1.0
    maps[1, 2] = 0.25
    with pytest.raises(ValueError, match=r"flat heat map at index \(1, 2\)"):
        decode_heatmaps(maps, method=method)
    decoded = decode_heatmaps(maps, method=method, flat="nan", temperature=0.05)
    assert torch.isnan(decoded[1, 2]).all()
    assert int(torch.isnan(decoded).sum()) == 2
    torch.testing.assert_close(decoded[0, 0], torch.tensor([5.0, 4.0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", DECODERS)
def test_maxima_at_the_border_decode_to_the_border(method):
    maps = draw_heatmaps(one(0.0, 31.0), (32, 32), sigma=1.0)
    decoded = decode_heatmaps(maps, method=method, window=1)
    torch.testing.assert_close(decoded, one(0.0, 31.0), rtol=0, atol=1e-9)


def test_soft_argmax_carries_gradients():
    maps = draw_heatmaps(one(9.0, 12.0), (24, 24)).requires_grad_()
    decode_heatmaps(maps, method="soft_argmax", temperature=0.1).sum().backward()
    assert maps.grad.abs().sum() > 0


def test_loss_sums_the_stacks_and_counts_what_the_mask_shows():
    target = torch.zeros(1, 2, 4, 4)
    prediction = torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 3.0)])[None]
    assert float(heatmap_loss([prediction], target)) == pytest.approx(5.0)
    assert float(heatmap_loss([prediction, prediction], target)) == pytest.approx(10.0)
    mask = torch.tensor([[True, False]])
    assert float(heatmap_loss([prediction], target, mask=mask)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="excludes every landmark"):
        heatmap_loss([prediction], target, mask=torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"predictions\[0\]: got shape"):
        heatmap_loss([prediction[:, :1]], target)


def test_coherence_is_zero_for_mirrored_maps_and_positive_for_unswapped_ones():
    torch.manual_seed(0)
    maps = torch.rand(2, 4, 6, 6)
    mirror = (1, 0, 2, 3)
    assert float(mirror_coherence_loss([maps], [maps[:, list(mirror)].flip(-1)], mirror=mirror)) == 0
    assert float(mirror_coherence_loss([maps], [maps.flip(-1)], mirror=mirror)) > 0.01
    with pytest.raises(ValueError, match="permutation of 4"):
        mirror_coherence_loss([maps], [maps], mirror=(0, 0, 2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decode_heatmaps(torch.zeros(4, 4)), "n_landmarks, height, width"),
        (lambda: decode_heatmaps(torch.rand(1, 4, 4), method="mean"), "expected one of argmax"),
        (lambda: decode_heatmaps(torch.rand(1, 4, 4), method="soft_argmax", window=4), "window: got 4"),
        (lambda: decode_heatmaps(torch.rand(1, 4, 4), flat="zero"), "flat: got 'zero'"),
        (lambda: draw_heatmaps(torch.zeros(3), (4, 4)), "n_landmarks, 2"),
        (lambda: draw_heatmaps(torch.zeros(1, 2), (4, 4), sigma=0), "sigma: got 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("peak", [1.0, 10.0, 20.0])
@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("window", [3, 5, 7, None])
def test_soft_argmax_is_right_by_default(sigma, peak, window):
    """Whatever the height of the maps, and at the border too."""
    points = torch.rand(300, 1, 2, generator=torch.Generator().manual_seed(0)) * 63
    maps = draw_heatmaps(points, (64, 64), sigma=sigma, peak=peak)
    found = decode_heatmaps(maps, method="soft_argmax", window=window)
    assert float((found - points).square().mean().sqrt()) < 0.2
    assert decode_heatmaps(maps + 5.0, method="soft_argmax", window=window).allclose(found, atol=2e-3)
    corner = draw_heatmaps(torch.zeros(1, 2), (64, 64), sigma=sigma, peak=peak)
    assert decode_heatmaps(corner, method="soft_argmax", window=window).abs().max() < 0.5


def test_soft_argmax_has_a_gradient_and_marks_flat_maps():
    maps = draw_heatmaps(torch.tensor([[3.3, 5.2]]), (12, 12)).requires_grad_()
    decode_heatmaps(maps, method="soft_argmax").sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert maps.grad.abs().max() > 0
    assert torch.isnan(decode_heatmaps(torch.zeros(1, 4, 4), method="soft_argmax", flat="nan")).all()
