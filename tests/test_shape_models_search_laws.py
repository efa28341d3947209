"""Laws of the search: what follows the picture, what drops out, what does not depend on luck."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import SIZE, boxes_of
from sklearn.base import clone

from shape_models import IBUG68
from shape_models.search import (
    ASMFitter,
    Patches,
)
from shape_models.search import fitter as fitting
from shape_models.search._begin import begin


def test_zero_iterations_answer_the_start(fitter, wide):
    picture, _, box = wide
    result = fitter.predict(picture, boxes=box, max_iter=0)
    np.testing.assert_allclose(result.shape, result.start, rtol=0, atol=1e-6)
    assert result.trace == ()
    assert not result.converged


def test_translation_goes_with_the_picture(fitter, wide):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    moved = np.roll(picture, (16, -32), axis=(0, 1))
    shifted = fitter.predict(moved, boxes=box + np.array([-32, 16, -32, 16])).shape
    np.testing.assert_allclose(shifted, base + np.array([-32, 16]), rtol=0, atol=0.6)


def test_rotation_goes_with_picture_and_start(fitter, wide):
    picture, truth, _ = wide
    base = fitter.predict(picture, initial=truth + 3.0).shape
    # A quarter turn maps pixels to pixels: (x, y) -> (height - 1 - y, x).
    turned = np.ascontiguousarray(np.rot90(picture, -1))

    def turn(shape):
        return np.stack([picture.shape[0] - 1 - shape[:, 1], shape[:, 0]], axis=1)

    result = fitter.predict(turned, initial=turn(truth + 3.0)).shape
    np.testing.assert_allclose(result, turn(base), rtol=0, atol=0.6)


def test_scale_goes_with_picture_and_start(fitter, wide):
    from skimage.transform import resize

    picture, truth, _ = wide
    base = fitter.predict(picture, initial=truth + 3.0).shape
    large = resize(picture, (400, 440), order=3, preserve_range=True)
    result = fitter.predict(large, initial=2 * (truth + 3.0) + 0.5).shape
    assert np.linalg.norm(result - (2 * base + 0.5), axis=1).mean() < 1.5


@given(gain=st.floats(0.01, 50), offset=st.floats(-100, 100))
def test_brightness_and_contrast_drop_out(patches, profiles, wide, gain, offset):
    picture, _, box = wide
    for fitter in (patches, profiles):
        base = fitter.predict(picture, boxes=box).shape
        other = fitter.predict(gain * picture.astype(np.float64) + offset, boxes=box).shape
        np.testing.assert_allclose(other, base, rtol=0, atol=0.05)


def test_colour_and_types_of_the_same_picture_agree(fitter, wide):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    for other in (
        np.repeat(picture[..., None], 3, axis=2),
        picture[..., None],
        picture.astype(np.uint16) * 200,
        picture.astype(np.float32) / 255,
        np.dstack([picture, picture, picture, np.full_like(picture, 255)]),
        np.asfortranarray(picture),
    ):
        np.testing.assert_allclose(fitter.predict(other, boxes=box).shape, base, rtol=0, atol=0.05)


def test_same_seed_same_answer_and_no_effect_of_the_batch(patches, faces):
    images, shapes = faces
    boxes = boxes_of(shapes[50:56])
    alone = [patches.predict(images[50 + i], boxes=boxes[i], n_starts=3).shape for i in range(6)]
    together = [r.shape for r in patches.predict(images[50:56], boxes=boxes, n_starts=3)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3)
    again = [r.shape for r in patches.predict(images[50:56], boxes=boxes, n_starts=3)]
    np.testing.assert_allclose(again, together, rtol=0, atol=1e-3)
    one = clone(patches).set_params(n_jobs=1)
    assert one.get_params()["n_jobs"] == 1


def test_training_twice_gives_the_same_search(faces, asm):
    images, shapes = faces
    evidence = Patches(n_cells=3, n_steps=1)
    fits = [
        ASMFitter(asm, evidence=evidence, n_levels=2, resolution=48, n_perturbations=2, calibration=2, n_jobs=n).fit(
            images[:20], shapes[:20]
        )
        for n in (1, 2)
    ]
    one, two = (f.predict(images[30], boxes=boxes_of(shapes[30:31])[0]).shape for f in fits)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-3)


def test_several_starts_answer_where_those_with_the_least_expected_errors_agree(patches, faces):
    images, shapes = faces
    far = shapes[53] + [14.0, 6.0]
    many = patches.predict(images[53], initial=far, n_starts=8)
    found = patches._solver().solve([begin(patches, fitting.Request(images[53], 0, far, None), "initial", 8)])
    np.testing.assert_allclose(many.expected_error, found.expected_error.min(), rtol=1e-6)
    shares = found.expected_error[0] / found.size[0]
    best = shares.argmin()
    total, weight = 0.0, 0.0
    for points, share in zip(found.points[0], shares, strict=True):
        if np.linalg.norm(points - found.points[0, best], axis=-1).mean() <= 1.5 * many.expected_error:
            total, weight = total + points / share**4, weight + share**-4
    assert weight > shares[best] ** -4
    np.testing.assert_allclose(many.shape, total / weight, rtol=0, atol=0.1)  # the nearest shape of the model
    assert many.trace[-1].iteration == many.trace[-2].iteration + 1


def test_mirrored_pictures_mirror_the_answer_about_as_well(patches, faces):
    """Trained on mirrored pictures, too, the search is as good on the mirror image."""
    images, shapes = faces
    mirrored = np.stack([SIZE[1] - 1 - shapes[54][:, 0], shapes[54][:, 1]], axis=1)[IBUG68.mirror]
    box = boxes_of(mirrored[None])[0]
    result = patches.predict(np.ascontiguousarray(images[54][:, ::-1]), boxes=box)
    assert np.linalg.norm(result.shape - mirrored, axis=1).mean() < 2.5


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x / 255.0 * 6e38 - 3e38).astype(np.float32),
        lambda x: x / 255.0 * 1e300,
        lambda x: x / 255.0 * 1e-300,
        lambda x: 1e9 + x.astype(np.int64),
        lambda x: np.repeat(1e9 + x[..., None], 3, axis=2),
        lambda x: np.repeat(1e300 * x[..., None], 3, axis=2),
    ],
)
def test_extreme_intensities_are_pictures_like_others(fitter, wide, change):
    picture, _, box = wide
    base = fitter.predict(picture, boxes=box).shape
    np.testing.assert_allclose(fitter.predict(change(picture), boxes=box).shape, base, rtol=0, atol=0.05)
