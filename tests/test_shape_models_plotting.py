"""Pictures: what is drawn, where, and which way up."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from shape_models import (
    IBUG68,
    AlignedASM,
    ShapeBasis,
    compactness,
    generalization,
    generalized_procrustes,
    load_model,
    make_faces,
)
from shape_models._drawing import rotated, shared_legend, upright

pytest.importorskip("matplotlib").use("Agg")
from matplotlib import pyplot  # noqa: E402

from shape_models.plotting import (  # noqa: E402
    plot_clip,
    plot_coefficients,
    plot_deformation,
    plot_diagnostics,
    plot_modes,
    plot_shape,
    plot_solid,
    plot_spectrum,
)


@pytest.fixture(scope="module")
def model():
    return load_model("face68")


@pytest.fixture(scope="module")
def face():
    return make_faces(1, rng=0)[0]


def dots(ax, i=0):
    return [c for c in ax.collections if type(c).__name__ == "PathCollection"][i].get_offsets()


def segments(ax):
    return sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))


def test_given_axes_are_used_and_returned(model, face):
    for draw in (
        lambda ax: plot_shape(face, ax),
        lambda ax: plot_modes(model, ax, n_modes=2),
        lambda ax: plot_spectrum(model, ax),
        lambda ax: plot_clip(model, face, ax),
        lambda ax: plot_coefficients(model, face, ax),
    ):
        ax = pyplot.figure().add_subplot()
        before = len(pyplot.get_fignums())
        assert draw(ax) is ax
        assert len(pyplot.get_fignums()) == before
        ax.figure.canvas.draw()


def test_image_frame_points_down_and_stays(face):
    ax = plot_shape(face)
    plot_shape(face + 1, ax)
    assert ax.yaxis_inverted()
    assert not plot_shape(face, y_down=False).yaxis_inverted()
    ax = plot_shape(face, image=np.zeros((480, 640)))
    assert ax.get_ylim() == (479.5, -0.5)


def test_missing_landmarks_are_left_out(face):
    whole = segments(plot_shape(face, scheme="ibug68"))
    gap = face.copy()
    gap[30] = np.nan
    ax = plot_shape(gap, scheme="ibug68")
    assert len(dots(ax)) == 67
    assert segments(ax) < whole
    np.testing.assert_allclose(dots(ax)[:30], face[:30])


def test_many_shapes_and_solid_shapes(face):
    ax = plot_shape(np.stack([face, face + 3]))
    np.testing.assert_allclose(dots(ax, 1), face + 3)
    solid = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(dots(plot_shape(solid, plane=(2, 1))), solid[:, [2, 1]])


def test_modes_are_rows_of_the_mean_moved_along_them(model):
    ax = plot_modes(model, n_modes=2, steps=(-3, 0, 3))
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["-3 √λ", "mean", "+3 √λ"]
    share = 100 * model.asm_.explained_variance_ratio_
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"mode {i + 1}\n{share[i]:.1f} %" for i in (0, 1)]
    drawn = [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets()) == 68]
    basis = model.asm_.basis_
    b = np.zeros(basis.n_components)
    b[0] = -3 * basis.variances[0] ** 0.5
    moved = rotated(basis.decode(b) - basis.mean, upright(model))
    np.testing.assert_allclose(drawn[1] - drawn[0], moved, atol=1e-12)
    assert len(drawn) == 12


def test_spectrum_shows_the_shares(model):
    ax = plot_spectrum(model, n_modes=4)
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, 100 * model.asm_.explained_variance_ratio_[:4])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.cumsum(heights))
    basis = plot_spectrum(model.asm_.basis_, n_modes=4)
    np.testing.assert_allclose([bar.get_height() for bar in basis.patches], heights, rtol=1e-6)


def test_clip_shows_before_and_after(model, face):
    wrong = face.copy()
    wrong[30] += 40
    wrong[5] = np.nan
    ax = plot_clip(model, wrong)
    assert len(dots(ax, 0)) == 67
    seen = np.isfinite(wrong[:, 0])
    after = [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets()) == 68][-1]
    np.testing.assert_allclose(after, model.project(wrong), atol=1e-9)
    np.testing.assert_allclose(dots(ax, 0), wrong[seen])
    arrows = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    assert len(arrows) == 1
    assert any(np.allclose(p, wrong[30]) for p in arrows[0].XY)
    aligned = model.align(face)[0]
    aligned[4] = np.nan
    plot_clip(model.asm_, aligned, scheme="ibug68")
    plot_clip(model.asm_.basis_, aligned)


def test_coefficients_mark_the_clipped(model, face):
    wrong = face.copy()
    wrong[30] += 60
    ax = plot_coefficients(model, wrong)
    report = model.report(wrong)
    assert report.clipped.any()
    colors = [bar.get_facecolor() for bar in ax.patches]
    for i, clipped in enumerate(report.clipped):
        assert (colors[i] == colors[int(np.argmax(report.clipped))]) == clipped


def test_diagnostics_have_an_axis_for_shares():
    shapes = generalized_procrustes(make_faces(30, rng=0)).aligned
    curves = {"generalization": generalization(shapes, n_folds=5), "compactness": compactness(shapes)}
    ax = plot_diagnostics(curves, n_components=6)
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), curves["generalization"].value[:6])
    (other,) = [a for a in ax.figure.axes if a is not ax]
    np.testing.assert_allclose(other.lines[0].get_ydata(), 100 * curves["compactness"].value[:6])
    with pytest.raises(ValueError, match="none"):
        plot_diagnostics({})


def test_wrong_input_is_refused(model, face):
    with pytest.raises(ValueError, match="landmark"):
        plot_shape(face, edges=[(0, 68)])
    with pytest.raises(ValueError, match="wflw98"):
        plot_shape(face, scheme="wflw98")
    with pytest.raises(ValueError, match="plane"):
        plot_shape(face, plane=(0, 2))
    with pytest.raises(ValueError, match="one shape"):
        plot_clip(model, np.stack([face, face]))
    with pytest.raises(TypeError, match="expected a ShapeBasis"):
        plot_modes(np.zeros(3))
    with pytest.raises(ValueError, match="not fitted"):
        plot_modes(AlignedASM())
    with pytest.raises(ValueError, match="steps"):
        plot_modes(model, steps=())


@pytest.mark.parametrize("angle", [-0.4, 0.0, 0.02, 0.7])
def test_the_mean_of_an_aligned_model_is_drawn_upright(angle):
    """By its mirror image where the scheme has one, however the frame lies; else by its longer axis."""
    basis = load_model("face68").asm_.basis_
    tilted = ShapeBasis(rotated(basis.mean, angle), basis.components, basis.variances)
    holder = SimpleNamespace(alignment_=None, asm_=SimpleNamespace(basis_=tilted), scheme_=IBUG68)
    mean = rotated(tilted.mean, upright(holder))
    centred = mean - mean.mean(axis=0)
    mirrored = centred[list(IBUG68.mirror)] * [-1, 1]
    cross = (centred[:, 0] * mirrored[:, 1] - centred[:, 1] * mirrored[:, 0]).sum()
    assert abs(cross) < 1e-12
    bar = np.stack([np.arange(6.0), 0.1 * np.cos(np.arange(6.0))], axis=1)
    bar = ShapeBasis(rotated(bar - bar.mean(axis=0), angle / 2), np.eye(1, 12), [1.0])
    lying = rotated(bar.mean, upright(SimpleNamespace(alignment_=None, asm_=SimpleNamespace(basis_=bar))))
    assert abs(np.cov(lying.T)[0, 1]) < 1e-12
    assert np.ptp(lying[:, 0]) > 4 * np.ptp(lying[:, 1])


def test_shapes_that_were_not_superimposed_are_drawn_as_they_stand():
    basis = load_model("face68").asm_.basis_
    assert upright(basis, "ibug68") == 0.0


def test_one_legend_stands_below_all_axes():
    figure, axes = pyplot.subplots(1, 3, layout="constrained")
    face = make_faces(1, rng=0)[0]
    for ax in axes[:2]:
        plot_shape(face, ax, label="found", color="red")
        plot_shape(face, ax, label="true")
        ax.legend()
        ax.set_title("a title")
    shared_legend(figure)
    figure.canvas.draw()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["found", "true"]
    legend = figure.legends[0].get_window_extent()
    assert all(ax.get_legend() is None for ax in axes)
    assert not any(legend.overlaps(ax.get_tightbbox()) for ax in axes)


@pytest.mark.parametrize("kind", ["path", "text", "picture", "deep", "grey", "bool", "tensor"])
def test_images_of_every_kind_are_drawn_upright(tmp_path, kind):
    from PIL import Image

    image = np.zeros((30, 20, 3), np.uint8)
    image[:5, :, 0] = 255
    rotated = Image.fromarray(np.rot90(image, 1).copy())
    exif = rotated.getexif()
    exif[0x0112] = 6
    rotated.save(tmp_path / "a.png", exif=exif)
    if kind == "tensor":
        image = pytest.importorskip("torch").tensor(image)
    given = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "picture": None,
        "tensor": image,
        "deep": np.asarray(image) * np.uint16(257),
        "grey": image[..., 0],
        "bool": image[..., 0] > 0,
    }[kind]
    if kind == "picture":
        given = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))
    drawn = plot_shape([[3.0, 4.0], [9.0, 20.0]], image=given).images[0].get_array()
    assert drawn.shape[:2] == (30, 20)
    assert drawn[2, 2].max() > drawn[20, 2].max() == 0


def test_what_is_no_axes_is_refused():
    for ax in ("axes", pyplot, pyplot.subplots(1, 2)[1]):
        with pytest.raises(TypeError, match=r"ax: got .*expected one matplotlib Axes"):
            plot_shape([[3.0, 4.0], [9.0, 20.0]], ax)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: plot_shape(make_faces(1, rng=0)[0], edges=[(0, 1, 2)]), "edges: got"),
        (lambda m: plot_shape(make_faces(1, rng=0)[0], edges=[(0, 1.5)]), "edges: got"),
        (lambda m: plot_shape(make_faces(1, rng=0)[0], plane=(0,)), "plane: got"),
        (lambda m: plot_modes(m, n_modes=2.5), "n_modes: got 2.5"),
        (lambda m: plot_modes(m, steps=[np.nan]), "steps: got"),
        (lambda m: plot_spectrum(m, n_modes=-1), "n_modes: got -1"),
        (
            lambda m: plot_diagnostics(compactness(generalized_procrustes(make_faces(9, rng=0)).aligned)),
            "curves: got Mode",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(model, call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(model)


def test_words_are_no_flags_of_figures():
    """Any text would be true: ``y_down="no"`` rotated a figure upside down."""
    face, model = make_faces(1, rng=0)[0], load_model("face68")
    solid = np.c_[face, face[:, 0]]
    for draw, name in (
        (lambda: plot_shape(face, y_down="no"), "y_down"),
        (lambda: plot_shape(face, numbers="off"), "numbers"),
        (lambda: plot_modes(model, y_down="no"), "y_down"),
        (lambda: plot_clip(model, face, y_down="no"), "y_down"),
        (lambda: plot_deformation(face, face + 1, y_down="no"), "y_down"),
        (lambda: plot_deformation(face, face + 1, align="no"), "align"),
        (lambda: plot_solid(solid, y_down="no"), "y_down"),
    ):
        with pytest.raises(ValueError, match=f"{name}: got '(no|off)'; expected True or False"):
            draw()


def test_figures_recommend_no_argument_that_they_lack():
    face = make_faces(1, rng=0)[0]
    with pytest.raises(ValueError, match=r"ASM.complete to fill it\.$"):
        plot_deformation(face, np.where(np.arange(68)[:, None] == 3, np.nan, face))
