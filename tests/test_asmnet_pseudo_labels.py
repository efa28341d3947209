"""Labels for images without annotation: which are kept, and what is said of bad input."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from asmnet.pseudo_labels import pseudo_labels
from shape_models import ASM, AlignedASM
from shape_models.search import ASMFitter, Patches

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0], [5.0, 5.0]])


def network(errors, seen=None):
    """A network that knows its errors; None where it finds nothing."""

    def look(images, boxes=None):
        if seen is not None:
            seen.append((images, boxes))
        return [
            [] if errors[i] is None else [SimpleNamespace(fitted=SQUARE * (1 + i), expected_error=errors[i])]
            for i in images
        ]

    return look


def test_the_surest_answers_are_kept_by_size_of_the_object():
    # Image 3 is four times as large as image 0: an error of 2 pixels is less there than 1 pixel here.
    found = pseudo_labels(network([1.0, 8.0, None, 2.0, np.nan]), range(5), fraction=2 / 3)
    np.testing.assert_array_equal(found.rows, [0, 3])
    np.testing.assert_array_equal(found.landmarks, [SQUARE, 4 * SQUARE])
    np.testing.assert_allclose(found.expected_error, [1 / np.hypot(10, 10), 2 / np.hypot(40, 40)])
    assert len(pseudo_labels(network([1.0, 2.0]), range(2), fraction=0.01).rows) == 1


def test_nothing_found_is_an_empty_answer():
    found = pseudo_labels(network([None, None]), range(2))
    assert len(found.rows) == len(found.landmarks) == len(found.expected_error) == 0


def test_images_are_looked_at_together_and_keep_their_boxes():
    seen = []
    boxes = np.arange(520.0).reshape(130, 4)
    found = pseudo_labels(network(np.ones(130), seen), range(130), boxes=boxes, fraction=1.0)
    assert [len(images) for images, _ in seen] == [64, 64, 2]
    np.testing.assert_array_equal(np.concatenate([np.concatenate(own) for _, own in seen]), boxes)
    np.testing.assert_array_equal(found.rows, np.arange(130))
    np.testing.assert_array_equal(found.landmarks, SQUARE * np.arange(1.0, 131)[:, None, None])


def test_a_labeller_that_does_not_know_its_errors_is_refused():
    with pytest.raises(ValueError, match="does not know how far off it is in any of 2 images"):
        pseudo_labels(network([np.nan, None, np.nan]), range(3))
    with pytest.raises(TypeError, match="labeller: got 'search68'; expected an ASMFitter"):
        pseudo_labels("search68", range(3))
    with pytest.raises(TypeError, match=r"labeller: got .*ASMFitter"):
        pseudo_labels(ASMFitter, range(3))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="fraction: got 0; expected a finite positive number, at most 1"):
        pseudo_labels(network([1.0]), range(1), fraction=0)
    with pytest.raises(ValueError, match=r"boxes: got shape \(2, 4\); expected \(1, 4\)"):
        pseudo_labels(network([1.0]), range(1), boxes=[[0, 0, 1, 1]] * 2)


def test_a_search_labels_what_it_was_not_shown():
    """Bright rectangles on noise: labels are near the truth, and an object with a bad box has none."""
    rng = np.random.default_rng(0)

    def draw(place, sides):
        image = rng.uniform(0, 40, (80, 80))
        image[place[1] : place[1] + sides[1] + 1, place[0] : place[0] + sides[0] + 1] += 180
        return image.astype(np.uint8), place + SQUARE * sides / 10

    drawn = [draw(rng.integers(10, 30, 2), rng.integers(26, 40, 2)) for _ in range(22)]
    images, shapes = [image for image, _ in drawn], np.array([shape for _, shape in drawn])
    boxes = np.concatenate([shapes.min(1), shapes.max(1)], axis=1)
    fitter = ASMFitter(
        AlignedASM(ASM(1)), evidence=Patches(n_cells=3, n_steps=1), n_levels=1, resolution=40, n_perturbations=2
    )
    fitter.fit(images[:16], shapes[:16])
    off = boxes[16:] + 2
    off[3] = np.nan
    found = pseudo_labels(fitter, images[16:], boxes=off, fraction=1.0)
    np.testing.assert_array_equal(found.rows, np.delete(np.arange(6), 3))
    errors = np.linalg.norm(found.landmarks - shapes[16:][found.rows], axis=2).mean(1)
    assert errors.mean() < 2.0  # the boxes are off by 2.8
