"""Whether a search that looked for its object knows that it is elsewhere, also when it has learned from few images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_shape_models_search_locator import arrow, off, picture

from shape_models import load_model, save_model
from shape_models.search import ASMFitter, Evidence, Profiles, Proposal
from shape_models.search._lost import LOST, Lost


def answers(n_images, share_lost, seed, tell=1.5):
    """Made-up answers, ten in each image, half of them elsewhere; one feature tells which, the best place not always.

    In `share_lost` of the images none is at the object.
    """
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), 10)
    hopeless = rng.random(n_images) < share_lost
    elsewhere = (np.tile(np.arange(10), n_images) >= 5) | hopeless[image]
    error = np.where(elsewhere, rng.uniform(0.3, 2.0, len(image)), rng.uniform(0.01, 0.05, len(image)))
    features = rng.normal(size=(len(image), 3))
    features[:, 0] += tell * elsewhere
    spread = np.exp(rng.normal(-3, 1, len(image)) + elsewhere)
    places = np.stack([rng.normal(4 - elsewhere, 1), rng.normal(0, 1, len(image))], axis=1)
    near = np.full(len(image), 0.03)
    return features, spread, places, near, error, image, image % 5


def picked(lost, data):
    features, spread, places, near, error, image, _ = data
    probability = lost(features, spread, places)
    expected = lost.expected(probability, near)
    rows = np.array([np.flatnonzero(image == i)[np.argmin(expected[image == i])] for i in np.unique(image)])
    return probability[rows], error[rows] > LOST


@given(st.integers(5, 40), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 99))
def test_few_images_cannot_promise_much(n, share_lost, seed):
    """Half a loss in n + 1 images is possible even where none was seen, and half a find where none was."""
    data = answers(n, share_lost, seed)
    lost = Lost.learn(*data)
    probability, _ = picked(lost, data)
    assert probability.min() >= 0.5 / (n + 1)
    if share_lost == 1.0:
        assert probability.mean() >= (n + 0.5) / (n + 1) - 1e-9
    assert 0 < lost.error <= 1


def test_probabilities_hold_in_images_not_seen():
    lost = Lost.learn(*answers(60, 0.2, 0, tell=4.0))
    probability, truly = picked(lost, answers(400, 0.2, 1, tell=4.0))
    assert abs(probability.mean() - truly.mean()) < 0.06
    assert probability[truly].mean() > 0.5 > 3 * probability[~truly].mean()


def test_expected_errors_lie_between_those_of_the_found_and_the_lost():
    lost = Lost((0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.0, -3.0, 0.6, 0.03)
    probability = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(lost.expected(probability, np.full(3, 0.02)), [0.02, 0.31, 0.6])
    np.testing.assert_allclose(lost.expected(probability, np.full(3, 0.9)), 0.9)  # never less than where it is found
    near = Lost((0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.1, -3.0, 0.2, 0.03)  # lost ones were near it in training
    np.testing.assert_allclose(near.expected(np.array([0.1, 1.0]), np.zeros(2)), [0.02, 0.47])
    alone = lost(np.zeros((2, 3)), None, np.zeros((2, 2)))
    np.testing.assert_allclose(alone, 0.5)
    assert Lost.from_header(lost.to_header()) == lost
    assert Lost.from_header(None) is None


@pytest.fixture(scope="module")
def few():
    rng = np.random.default_rng(5)
    shapes = np.array([arrow(rng) + rng.uniform([55, 40], [95, 70]) for _ in range(14)])
    images = [picture(shape, rng) for shape in shapes]
    return ASMFitter(evidence=Profiles(), n_levels=2, resolution=48).fit(images[:6], shapes[:6]), images, shapes


def test_six_images_teach_where_the_object_is_and_when_it_is_not(few):
    fitter, images, shapes = few
    rng = np.random.default_rng(6)
    found = fitter.predict(images[6:])
    assert max(off(one, shape) for one, shape in zip(found, shapes[6:], strict=True)) < LOST
    empty = fitter.predict([picture(np.full((8, 2), -99.0), rng) for _ in range(8)])
    lost, at = [one.lost for one in empty], [one.lost for one in found]
    assert min(lost) > max(at)
    assert min(one.expected_error for one in empty) > max(one.expected_error for one in found)
    assert np.median(lost) > 0.5
    assert min(at) >= 0.5 / 7  # six images are no proof
    assert fitter.predict(images[6], initial=shapes[6]).lost == 0.0


def test_files_keep_what_lost_answers_look_like(few, tmp_path):
    fitter, images, _ = few
    save_model(fitter, tmp_path / "few.npz")
    one, two = (model.predict(images[7]) for model in (fitter, load_model(tmp_path / "few.npz")))
    assert (one.lost, one.expected_error) == pytest.approx((two.lost, two.expected_error), rel=1e-6)


def test_sets_of_four_images_and_of_few_persons_are_calibrated(few):
    _, images, shapes = few
    four = ASMFitter(evidence=Profiles(), n_levels=2, resolution=48).fit(images[:4], shapes[:4])
    persons = ASMFitter(evidence=Profiles(), n_levels=2, resolution=48)
    persons.fit(images[:5], shapes[:5], groups=["a", "a", "b", "c", "d"])
    for fitter in (four, persons):
        answer = fitter.predict(images[8])
        assert np.isfinite(answer.expected_error)
        assert answer.lost > 0.02


class Shrinks(Evidence):
    """Evidence that sees a smaller shape at every look."""

    n_levels, n_iter = 1, 5

    def locate(self, view):
        middle = view.points.mean(axis=1, keepdims=True)
        return Proposal(middle + 0.7 * (view.points - middle))


def test_a_search_that_shrinks_to_nothing_says_that_it_is_lost(few):
    """The error is expected in the size of the start: a tenth of next to nothing would pass for a good answer."""
    _, images, shapes = few
    fitter = ASMFitter(evidence=Shrinks(), calibration=3).fit(images, shapes)
    answer = fitter.predict(images[0], initial=shapes[0])
    size = np.ptp(shapes[0], axis=0).max()
    assert np.ptp(answer.shape, axis=0).max() < 0.3 * size
    assert answer.expected_error > 0.5 * size
