"""Objects that stand elsewhere, larger, smaller or turned, found where nobody says where they are."""

import numpy as np
import pytest
from skimage.draw import polygon
from skimage.transform import SimilarityTransform, warp

from shape_models import load_model, save_model
from shape_models.search import ASMFitter, Profiles
from shape_models.search._crops import Crops
from shape_models.search._images import ImageBank
from shape_models.search._locator import Locator, learn_places
from shape_models.search._placement import Placement

WIDTH, HEIGHT = 150, 110


def arrow(rng):
    """A drawn arrow (K, 2) about its middle, which looks different from all sides."""
    length, width, head = rng.normal([46, 7, 16], [2, 0.5, 1])
    half = 0.5 * length
    return np.array(
        [
            (-half, -width),
            (half - head, -width),
            (half - head, -head),
            (half, 0),
            (half - head, head),
            (half - head, width),
            (-half, width),
            (-half + 8, 0),
        ]
    )


def picture(shape, rng, size=(HEIGHT, WIDTH)):
    """An image with the arrow and other things that are none."""
    image = 0.3 + 0.02 * rng.normal(size=size)
    for _ in range(4):
        x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        image[max(0, int(y) - 5) : int(y) + 6, max(0, int(x) - 5) : int(x) + 6] += rng.uniform(-0.2, 0.2)
    rows, columns = polygon(shape[:, 1], shape[:, 0], shape=size)
    image[rows, columns] = 0.8
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    shapes = np.array([arrow(rng) + rng.uniform([65, 45], [85, 65]) for _ in range(24)])
    return [picture(shape, rng) for shape in shapes], shapes


@pytest.fixture(scope="module")
def fitter(data):
    images, shapes = data
    return ASMFitter(evidence=Profiles(), n_levels=2, resolution=48, random_state=0).fit(images[:20], shapes[:20])


def off(found, shape):
    return np.linalg.norm(found.shape - shape, axis=1).mean() / np.ptp(shape, axis=0).max()


def moved(image, shape, degrees, scale, canvas, at):
    """The image in a larger one: turned and scaled about its object, whose middle comes to `at`."""
    middle = shape.mean(axis=0)
    to = SimilarityTransform(translation=-middle) + SimilarityTransform(scale=scale, rotation=np.deg2rad(degrees))
    to = to + SimilarityTransform(translation=at)
    out = warp(image, to.inverse, output_shape=canvas, order=1, mode="constant", cval=0.3)
    return np.round(255 * out).astype(np.uint8), to(shape)


@pytest.mark.parametrize(
    ("degrees", "scale", "at"),
    [
        (0, 1.0, (60, 50)),
        (0, 1.0, (240, 190)),
        (12, 1.2, (90, 160)),
        (90, 1.0, (150, 120)),
        (180, 0.8, (220, 70)),
        (-135, 1.4, (110, 110)),
    ],
)
def test_an_object_is_found_wherever_it_stands(fitter, data, degrees, scale, at):
    images, shapes = data
    for image, shape in zip(images[20:], shapes[20:], strict=True):
        seen, truth = moved(image, shape, degrees, scale, (240, 300), at)
        found = fitter.predict(seen)
        assert off(found, truth) < 0.05
        assert found.expected_error < 0.05 * np.ptp(truth, axis=0).max()


def test_a_batch_is_answered_as_image_by_image_and_bad_ones_harm_nobody(fitter, data):
    images, shapes = data
    seen, truth = moved(images[20], shapes[20], 100, 1.0, (200, 220), (110, 100))
    batch = fitter.predict([images[21], np.full((60, 60), 7, np.uint8), seen])
    assert [one.status == "error" for one in batch] == [False, True, False]
    assert off(batch[0], shapes[21]) < 0.05
    assert off(batch[2], truth) < 0.05
    np.testing.assert_allclose(batch[2].shape, fitter.predict(seen).shape, atol=1e-6)
    with pytest.raises(ValueError, match="same value"):
        fitter.predict(np.full((60, 60), 7, np.uint8))


@pytest.mark.parametrize("n_starts", [1, 3, 7, 12])
def test_few_starts_are_enough_where_the_place_is_plain(fitter, data, n_starts):
    images, shapes = data
    assert off(fitter.predict(images[22], n_starts=n_starts), shapes[22]) < 0.05


def test_tiny_images_and_such_as_hold_no_object_are_answered(fitter):
    rng = np.random.default_rng(1)
    for size in ((9, 9), (12, 200), (64, 64)):
        found = fitter.predict(rng.integers(0, 255, size, dtype=np.uint8))
        assert found.shape.shape == (8, 2)
        assert np.isfinite(found.shape).all()


def test_a_file_keeps_what_the_object_looks_like(fitter, data, tmp_path):
    images, shapes = data
    seen, truth = moved(images[23], shapes[23], 60, 1.1, (200, 240), (140, 90))
    save_model(fitter, tmp_path / "arrow.npz")
    loaded = load_model(tmp_path / "arrow.npz")
    np.testing.assert_array_equal(loaded.predict(seen).shape, fitter.predict(seen).shape)
    assert off(loaded.predict(seen), truth) < 0.05
    assert loaded.placement_ == fitter.placement_


def test_without_calibration_the_agreement_decides(data):
    images, shapes = data
    plain = ASMFitter(evidence=Profiles(), n_levels=2, resolution=48, calibration=0).fit(images[:20], shapes[:20])
    seen, truth = moved(images[20], shapes[20], 5, 1.0, (200, 240), (150, 120))
    assert off(plain.predict(seen), truth) < 0.05


def test_pixels_that_are_not_square_are_no_hindrance(data):
    images, shapes = data
    wide = [np.repeat(image, 2, axis=1) for image in images]
    stretched = shapes * [2, 1] + [0.5, 0]
    fitter = ASMFitter(evidence=Profiles(), n_levels=2, resolution=48)
    fitter.fit(wide[:20], stretched[:20], spacing=(0.5, 1.0))
    found = fitter.predict(wide[20], spacing=(0.5, 1.0))
    assert np.linalg.norm((found.shape - stretched[20]) / [2, 1], axis=1).mean() < 0.05 * 46


def test_the_best_place_is_the_object_and_places_differ(fitter, data):
    images, shapes = data
    frame = fitter._frame
    crops = Crops(images, shapes)
    placement, locator = learn_places(crops, crops.inside(shapes)[:20], np.arange(20), frame, 0)
    assert isinstance(locator, Locator)
    assert placement == fitter.placement_
    sides, turns = fitter.placement_.grid((WIDTH, HEIGHT))
    assert np.diff(np.log(sides)).max() <= np.log(1.2) + 1e-9
    assert turns.min() < 0 < turns.max()
    for image, shape in zip(images[20:], shapes[20:], strict=True):
        places = locator.find(locator.see(image, sides), frame, sides, turns, 6).shapes
        middle = places.mean(axis=1)
        assert np.linalg.norm(middle[0] - shape.mean(axis=0)) < 6
        pairs = [(a, b) for i, a in enumerate(places) for b in places[:i]]
        assert all(np.abs(a - b).max() > 1 for a, b in pairs)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_places_follow_quarter_turns_of_the_image(fitter, data, quarters, degrees):
    """The template looks at every angle alike."""
    images, _ = data
    locator, frame = fitter._locator, fitter._frame
    sides, image = np.array([46.0]), images[20]
    angle = np.deg2rad(degrees)
    first, evidence = locator.find(locator.see(image, sides), frame, sides, np.array([angle]), 3)
    turned = image
    for _ in range(quarters):
        first = np.stack([turned.shape[0] - 1 - first[..., 1], first[..., 0]], axis=-1)  # clockwise, y down
        turned = np.ascontiguousarray(np.rot90(turned, -1))
    turns = np.array([angle + quarters * np.pi / 2])
    second, other = locator.find(locator.see(turned, sides), frame, sides, turns, 3)
    np.testing.assert_allclose(second[0], first[0], atol=0.1)
    np.testing.assert_allclose(other, evidence, atol=0.01)


def test_an_angle_and_the_same_once_round_are_one(fitter, data):
    images, _ = data
    locator, frame, sides = fitter._locator, fitter._frame, np.array([40.0, 48.0])
    bank = locator.see(images[21], sides)
    for degrees in (-95.0, -5.0, 90.0, 179.0):
        first, second = (
            locator.find(bank, frame, sides, np.array([np.deg2rad(degrees + more)]), 4) for more in (0.0, 360.0)
        )
        np.testing.assert_allclose(first.shapes, second.shapes, atol=1e-3)
        np.testing.assert_allclose(first.evidence, second.evidence, atol=1e-4)


def test_the_grid_covers_what_was_seen_and_every_angle_when_asked():
    placement = Placement((0.5, 0.5), 0.4, (0.1, 0.1, 0.2, 0.1), (12.0, 0.05), 80.0)
    sides, turns = placement.grid((300, 300))
    assert sides.min() < 80 * np.exp(-0.4) * 1.001
    assert sides.max() > 120 * np.exp(0.4) * 0.999
    known, _ = placement.grid((300, 300), unit=0.1)  # 120 pixels, whatever the image
    assert known.min() > 80
    assert known.max() < 180
    wide, full = placement.grid((300, 300), wide=True)
    assert wide.min() < sides.min()
    assert wide.max() > sides.max()
    np.testing.assert_allclose(np.diff(np.sort(full % (2 * np.pi))), np.deg2rad(15), atol=1e-9)
    assert len(full) == 24
    assert len(turns) == 3
    anyhow = Placement((0.5, 0.5), 0.4, (0.1, 0.1, 0.2, 2.0))  # turned by any angle in training
    assert len(anyhow.grid((300, 300))[1]) == 24


def test_a_window_is_the_same_in_a_turned_image():
    """The features of a window do not depend on how the image is turned, but for interpolation."""
    from shape_models.search._locator import _cells

    rng = np.random.default_rng(2)
    y, x = np.mgrid[:64, :64]
    image = sum(rng.normal() * np.sin(0.2 * x * rng.normal() + 0.2 * y * rng.normal()) for _ in range(12))
    image = (image - image.min()) / np.ptp(image)
    turned = np.ascontiguousarray(np.rot90(image, -1))
    cells = []
    for one, a in ((image, 1 + 0j), (turned, 1j)):
        bank = ImageBank.build([one.astype(np.float32)], [None], [1.0])
        table, to_level = bank.place(np.array([0]), np.array([False]), np.array([1.0]))
        middle = 31.5 + 31.5j
        cells.append(_cells(bank, table[0], to_level[0], a, middle - a * (15.5 + 15.5j), (8, 8)))
    np.testing.assert_allclose(*cells, atol=1e-4)
