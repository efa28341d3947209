"""Searches in files, and their answers in pictures."""

import numpy as np
import pytest
from searches import SIZE, boxes_of, maps_of

from shape_models import IBUG68, load_model, save_model
from shape_models.search import (
    ASMFitter,
    CombinedEvidence,
    Evidence,
    HeatMaps,
    Profiles,
    Proposal,
    animate_trace,
    plot_trace,
)


def test_saved_searches_give_the_same_answers(fitter, faces, tmp_path):
    images, shapes = faces
    path = tmp_path / "search.npz"
    save_model(fitter, path)
    again = load_model(path)
    boxes = boxes_of(shapes[50:54])
    for one, two in zip(
        fitter.predict(images[50:54], boxes=boxes), again.predict(images[50:54], boxes=boxes), strict=True
    ):
        np.testing.assert_allclose(one.shape, two.shape, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.confidence, two.confidence, rtol=0, atol=1e-4)
        assert one.plausibility == pytest.approx(two.plausibility, abs=1e-4)
        assert one.expected_error == pytest.approx(two.expected_error, rel=1e-4)
        assert np.isfinite(one.expected_error)
        assert one.status == two.status
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert again.get_params()["n_perturbations"] == fitter.n_perturbations


def test_combined_and_heat_map_searches_are_saved_and_foreign_evidence_is_refused(faces, asm, tmp_path):
    images, shapes = faces
    both = CombinedEvidence([Profiles(n_side=4, reach=3), Profiles(n_side=6, reach=4)])
    fitter = ASMFitter(asm, evidence=both, n_levels=2, resolution=40, n_perturbations=4).fit(images[:20], shapes[:20])
    save_model(fitter, tmp_path / "both.npz")
    box = boxes_of(shapes[40:41])[0]
    np.testing.assert_allclose(
        load_model(tmp_path / "both.npz").predict(images[40], boxes=box).shape,
        fitter.predict(images[40], boxes=box).shape,
        rtol=0,
        atol=1e-4,
    )
    maps = maps_of(shapes[0], SIZE)
    fitter = ASMFitter(asm, evidence=HeatMaps(width=0.05)).fit(None, shapes[1:])
    save_model(fitter, tmp_path / "maps.npz")
    np.testing.assert_allclose(
        load_model(tmp_path / "maps.npz").predict(images[0], heatmaps=maps).shape,
        fitter.predict(images[0], heatmaps=maps).shape,
        rtol=0,
        atol=1e-4,
    )

    class Own(Evidence):
        def locate(self, view):
            return Proposal(view.points)

    with pytest.raises(ValueError, match="expected one of this library"):
        save_model(ASMFitter(asm, evidence=Own()).fit(images[:10], shapes[:10]), tmp_path / "own.npz")


def test_plot_trace_and_films(profiles, faces, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    image_module = pytest.importorskip("PIL.Image")

    images, shapes = faces
    result = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0])
    figure = plot_trace(result, images[50], scheme="ibug68")
    assert len(figure.axes) == 4
    path = animate_trace(result, images[50], tmp_path / "film.gif", scheme=IBUG68)
    with image_module.open(path) as film:
        assert film.n_frames == len(result.trace) + 1
    page = animate_trace(result, images[50], tmp_path / "film.html").read_text()
    assert page.count("data:image/png;base64,") == len(result.trace) + 1
    with pytest.raises(ValueError, match=r"\.gif or \.html"):
        animate_trace(result, images[50], tmp_path / "film.avi")
    with pytest.raises(ValueError, match="got 68 landmarks; expected 98"):
        plot_trace(result, images[50], scheme="wflw98")


def test_pictures_of_any_type_are_drawn_as_they_are(profiles, faces, tmp_path):
    """What the search takes, the plots take: the drawn picture has the same contrast whatever the type."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from PIL import Image

    images, shapes = faces
    result = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0])
    Image.fromarray(images[50]).save(tmp_path / "a.png")
    colour = np.repeat(images[50][..., None], 3, axis=2)
    plain = np.interp(images[50], (images[50].min(), images[50].max()), (0, 1))
    for image in (
        images[50],
        images[50].astype(np.uint16) * 200,
        images[50] / 255,
        images[50][..., None],
        tmp_path / "a.png",
        colour.astype(np.uint16) * 200,
        colour.astype(float),
        np.pad(colour.astype(int), ((0, 0), (0, 0), (0, 1)), constant_values=255),
    ):
        figure = plot_trace(result, image)
        drawn = np.asarray(figure.axes[0].images[0].get_array(), dtype=float)
        drawn = drawn if drawn.ndim == 2 else drawn[..., :3].mean(-1)
        np.testing.assert_allclose(np.interp(drawn, (drawn.min(), drawn.max()), (0, 1)), plain, rtol=0, atol=1e-6)
    assert animate_trace(result, None, tmp_path / "no_picture.gif").stat().st_size > 1000
