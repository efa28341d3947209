"""Pictures of errors, by what is in them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from evaluation import cumulative_error, evaluate, nme, wilson_interval
from evaluation.plotting import plot_ced, plot_landmark_errors, plot_worst
from shape_models import IBUG68, make_faces

FACES = make_faces(60, rng=0)
NOISE = np.random.default_rng(0).normal(size=FACES.shape) * np.ptp(FACES)
GOOD = evaluate(FACES, FACES + 0.01 * NOISE, "300w", name="good", n_resamples=20)
POOR = evaluate(FACES, FACES + 0.02 * NOISE, "300w", name="poor", n_resamples=20)


def test_ced_draws_the_distribution_of_each_model():
    ax = plot_ced([GOOD, POOR], threshold=0.15)
    for line, report in zip(ax.get_lines(), (GOOD, POOR), strict=True):
        x, y = line.get_data()
        np.testing.assert_allclose(y, cumulative_error(report.errors, x).fractions)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0].startswith("good: AUC ")
    assert labels[1].startswith("poor: AUC ")
    assert ax.get_xlim() == (0, 0.15)
    assert "inter_ocular" in ax.get_xlabel()
    assert "AUC and FR at 0.15" in ax.get_legend().get_title().get_text()


def test_ced_shades_the_wilson_interval():
    errors = np.array([0.01, 0.02, 0.03, 0.5])
    ax = plot_ced({"m": errors}, threshold=0.1, confidence=0.9)
    points = ax.collections[0].get_paths()[0].vertices
    at = points[np.isclose(points[:, 0], 0.05)][:, 1]
    expected = wilson_interval(3, 4, confidence=0.9)
    assert {round(y, 9) for y in at} == {round(expected.low, 9), round(expected.high, 9)}
    assert not plot_ced(errors, intervals=False).collections


def test_ced_takes_failures_groups_and_pixels():
    guess = FACES + 0.01 * NOISE
    guess[:6] = np.nan
    failed = evaluate(FACES, guess, "300w", missing="failure", groups=np.arange(60) // 2, n_resamples=20)
    ax = plot_ced(failed, threshold=0.9)
    assert ax.get_lines()[0].get_ydata()[-1] == pytest.approx(0.9)
    pixels = nme(FACES, FACES + 1, normalizer=1.0)
    assert "pixels" in plot_ced({"p": pixels}, threshold=5.0).get_xlabel()


def test_models_by_different_definitions_are_not_drawn_together():
    other = evaluate(FACES, FACES + 0.01 * NOISE, "300w-inter-pupil", n_resamples=20)
    with pytest.raises(ValueError, match="got errors by 2 definitions"):
        plot_ced([GOOD, other])
    with pytest.raises(ValueError, match="threshold: got 0"):
        plot_ced(GOOD, threshold=0)


def test_axes_are_taken_and_returned():
    _, ax = plt.subplots()
    assert plot_ced(GOOD, ax=ax) is ax
    _, ax = plt.subplots()
    assert plot_landmark_errors(GOOD, ax=ax) is ax


def test_landmark_errors_are_on_the_mean_shape_and_upright():
    ax = plot_landmark_errors(GOOD)
    dots = ax.collections[-1]
    np.testing.assert_allclose(dots.get_array(), GOOD.landmark_errors().mean(axis=0))
    places = np.asarray(dots.get_offsets())
    assert ax.yaxis_inverted()
    assert places[8, 1] > places[27, 1]  # the chin below the nose, y downwards
    assert places[36, 0] < places[45, 0]
    lines = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(lines.get_segments()) == len(IBUG68.edges)


def test_landmark_errors_without_a_report():
    each = GOOD.landmark_errors()
    each[:, 3] = np.nan
    ax = plot_landmark_errors(each, shape=FACES[0], scheme="ibug68")
    assert np.ma.is_masked(ax.collections[-1].get_array()[3]) or np.isnan(ax.collections[-1].get_array()[3])
    with pytest.raises(ValueError, match="errors alone have no places"):
        plot_landmark_errors(each)
    with pytest.raises(ValueError, match=r"expected \(68, 2\)"):
        plot_landmark_errors(each, shape=FACES[0][:5])


def test_the_worst_faces_come_first_on_their_photographs(tmp_path):
    from PIL import Image

    guess = FACES + 0.01 * NOISE
    guess[7] = FACES[7] + 0.05 * NOISE[7]
    guess[9] = np.nan
    report = evaluate(FACES, guess, "300w", missing="failure", n_resamples=20)
    path = tmp_path / "face.png"
    Image.fromarray(np.full((40, 40), 128, np.uint8)).save(path)
    images = [path, str(path), np.zeros((30, 30, 3)), None] * 15
    figure = plot_worst(report, images, k=5, columns=3)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "face 9: no prediction"
    assert titles[1].startswith("face 7: ")
    assert len(titles) == 5
    values = [float(title.split(": ")[1].split()[0]) for title in titles[1:]]
    assert values == sorted(values, reverse=True)
    for ax in figure.axes:
        assert ax.get_ylim()[0] > ax.get_ylim()[1]
    figure.canvas.draw()
    with pytest.raises(ValueError, match="images: got 3; expected 60"):
        plot_worst(report, images[:3])
    with pytest.raises(ValueError, match="expected positive numbers"):
        plot_worst(report, k=0)


def test_no_model_is_no_curve():
    for models in ({}, []):
        with pytest.raises(ValueError, match="got no"):
            plot_ced(models)
