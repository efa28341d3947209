"""Grids, solid plots and exported modes."""

import json
import re

import numpy as np
import pytest

from shape_models import ASM, AlignedASM, ThinPlateSpline, load_model, make_faces, read_landmarks
from shape_models.explorer import write_explorer
from shape_models.plotting import export_modes, plot_clip, plot_deformation, plot_diagnostics, plot_solid

pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")


def lines_of(ax):
    return [np.asarray(path.vertices) for path in ax.collections[0].get_paths()]


def test_grids_of_similar_shapes_stay_square_and_bend_with_the_spline():
    face = make_faces(1, rng=0)[0]
    turned = face @ np.array([[0.0, 2.0], [-2.0, 0.0]]) + 7
    plain = lines_of(plot_deformation(face, turned, n_lines=8))
    assert all(np.ptp(line, axis=0).min() < 1e-6 for line in plain)
    other = make_faces(2, rng=0)[1]
    bent = lines_of(plot_deformation(face, other, n_lines=8, align=False, exaggeration=2))
    spline = ThinPlateSpline.fit(face, face + 2 * (other - face))
    for line, square in zip(bent, plain, strict=True):
        np.testing.assert_allclose(line, spline(square), atol=1e-4)


def test_models_bend_the_mean_in_their_own_frame():
    model = load_model("face68")
    ax = plot_deformation(model, (2, -3))
    assert ax.yaxis_inverted()
    assert ax.get_title() == "mode 2, -3 √λ"
    with pytest.raises(ValueError, match="mode 99"):
        plot_deformation(model, (99, 1))
    with pytest.raises(ValueError, match="at least 3"):
        plot_deformation(model, (1, 1), n_lines=2)


def solid():
    rng = np.random.default_rng(0)
    return AlignedASM(ASM(3)).fit(rng.normal(size=(7, 3)) + 0.1 * rng.normal(size=(12, 7, 3)))


def test_solid_shapes_are_drawn_with_equal_units_and_their_y_axis_upright():
    points = np.random.default_rng(0).normal(size=(6, 3)) * [1, 2, 3]
    down, up = plot_solid(points), plot_solid(points, edges=[(0, 1)], y_down=False)
    assert down.zaxis_inverted()
    assert not up.zaxis_inverted()
    reach = [np.ptp(getattr(up, f"get_{axis}lim")()) for axis in "xyz"]
    np.testing.assert_allclose(reach / np.array([np.ptp(points[:, d]) for d in (0, 2, 1)]), 1.1)
    plot_solid(solid())
    with pytest.raises(ValueError, match="3"):
        plot_solid(points[:, :2])
    with pytest.raises(ValueError, match="projection='3d'"):
        plot_solid(points, pyplot.subplots()[1])


def read_ply(path):
    head, body = path.read_text().split("end_header\n")
    counts = {name: int(n) for name, n in re.findall(r"element (\w+) (\d+)", head)}
    rows = body.splitlines()
    return counts, np.array([[float(v) for v in row.split()] for row in rows[: counts["vertex"]]]), rows


def test_modes_are_exported_as_points_lines_and_meshes(tmp_path):
    model = solid()
    files = export_modes(model, tmp_path, n_modes=2, steps=(-2, 2), size=50, edges=[(0, 1), (1, 2)])
    assert [f.name for f in files] == ["mode1_-2.ply", "mode1_+2.ply", "mode2_-2.ply", "mode2_+2.ply"]
    counts, points, _ = read_ply(files[1])
    assert counts == {"vertex": 7, "edge": 2}
    b = np.zeros(3)
    b[0] = 2 * np.sqrt(model.asm_.explained_variance_[0])
    expected = 50 * model.asm_.basis_.decode(b)
    np.testing.assert_allclose(points, expected)
    np.testing.assert_allclose(read_landmarks(files[1]).points, expected)
    (mark,) = export_modes(model, tmp_path, n_modes=1, steps=(2,), size=50, form="mrk.json")
    np.testing.assert_allclose(read_landmarks(mark)[0].points, expected)
    specimen = np.random.default_rng(0).normal(size=(7, 3))
    mesh = specimen, np.array([[0, 1, 2], [1, 2, 3]]), specimen
    (warped,) = export_modes(model, tmp_path / "mesh", n_modes=1, steps=(2,), size=50, mesh=mesh)
    counts, points, rows = read_ply(warped)
    assert counts == {"vertex": 7, "face": 2}
    np.testing.assert_allclose(points, expected)
    assert rows[-1] == "3 1 2 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "stl"}, "expected one of ply, mrk.json"),
        ({"size": 0}, "positive"),
        ({"mesh": (np.zeros((4, 3)), np.array([[0, 1, 9]]), np.zeros((7, 3)))}, "vertex 9"),
        ({"mesh": (np.zeros((4, 3)), np.array([[0, 1, 2]]), np.zeros((7, 3))), "form": "mrk.json"}, "holds points"),
    ],
)
def test_exports_that_cannot_be(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_modes(solid(), tmp_path, **options)


def test_the_grid_of_the_explorer_is_the_spline(tmp_path):
    model = load_model("face68")
    page = write_explorer(model, tmp_path / "e.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="model">(.*?)</script>', page, re.S)[1])
    grid, basis = data["grid"], model.asm_.basis_
    points = np.array(grid["points"]).reshape(-1, 2)
    assert sum(grid["sizes"]) == len(points)
    b = np.random.default_rng(0).normal(size=basis.n_components) * np.sqrt(basis.variances)
    bent = points + (b @ np.array(grid["moves"])).reshape(-1, 2)
    np.testing.assert_allclose(bent, ThinPlateSpline.fit(basis.mean, basis.decode(b))(points), atol=1e-3)
    assert 'id="bent"' in page


def test_legends_stand_beside_titles():
    model = load_model("face68")
    face = 100 * np.asarray(model.asm_.mean_)
    face[30] += 25
    from shape_models import ModeCurve

    curve = ModeCurve(np.arange(1, 4), np.array([3.0, 2, 1]), np.zeros(3))
    for draw in (lambda ax: plot_clip(model, face, ax), lambda ax: plot_diagnostics({"a": curve, "b": curve}, ax)):
        figure, ax = pyplot.subplots(layout="constrained")
        draw(ax)
        ax.set_title("a title that is long enough to reach over the whole of the axes")
        figure.canvas.draw()
        boxes = [thing.get_window_extent() for thing in (ax.title, ax.get_legend())]
        assert not boxes[0].overlaps(boxes[1])
        assert not ax.get_window_extent().shrunk(0.98, 0.98).overlaps(boxes[1])
