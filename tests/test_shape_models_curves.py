"""Curves, thin-plate splines and sliding: laws, naive referees, published figures, bad input."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from strategies import coordinates, seeds, similarities

from shape_models import (
    AlignedASM,
    Curve,
    DegenerateShapeError,
    LandmarkScheme,
    Sliding,
    ThinPlateSpline,
    attach_curves,
    bending_energy_matrix,
    curve_length,
    generalized_procrustes,
    load_model,
    read_landmarks,
    resample_curve,
    save_model,
)

dims = st.sampled_from([2, 3])


# --- Resampling ------------------------------------------------------------------------------------------------------


def resample_slowly(points, n, closed):
    """Walk along the polygon in small steps of exact lengths, one point at a time."""
    points = [np.asarray(p, float) for p in points] + ([np.asarray(points[0], float)] if closed else [])
    steps = [np.linalg.norm(b - a) for a, b in itertools.pairwise(points)]
    total, out = sum(steps), []
    for i in range(n):
        rest, j = total * i / (n if closed else n - 1), 0
        while j < len(steps) - 1 and rest > steps[j]:
            rest, j = rest - steps[j], j + 1
        out.append(points[j] + (points[j + 1] - points[j]) * min(1.0, rest / steps[j]))
    return np.array(out)


@given(st.data(), st.integers(1, 4), st.booleans(), st.integers(3, 20))
def test_resampling_walks_along_the_polygon(data, d, closed, n):
    points = data.draw(coordinates((5, d)))
    np.testing.assert_allclose(resample_curve(points, n, closed=closed), resample_slowly(points, n, closed), atol=1e-9)


@given(st.data(), dims, st.booleans(), seeds)
def test_resampling_does_not_depend_on_points_inserted_on_the_edges(data, d, closed, seed):
    points = data.draw(coordinates((6, d)))
    rng = np.random.default_rng(seed)
    finer = []
    for i in range(6):
        finer.append(points[i])
        if closed or i < 5:
            share = np.sort(rng.uniform(0.05, 0.95, rng.integers(0, 4)))
            finer.extend(points[i] + s * (points[(i + 1) % 6] - points[i]) for s in share)
    plain, fine = (resample_curve(p, 11, closed=closed) for p in (points, np.array(finer)))
    np.testing.assert_allclose(fine, plain, atol=1e-9)


@given(st.data(), dims)
def test_resampling_goes_with_similarities_and_batches(data, d):
    points, t = data.draw(coordinates((3, 7, d))), data.draw(similarities(d))
    moved = resample_curve(t(points), 9)
    np.testing.assert_allclose(moved, t(resample_curve(points, 9)), atol=1e-8 * (1 + np.abs(moved).max()))
    np.testing.assert_allclose(resample_curve(points, 9)[1], resample_curve(points[1], 9), rtol=1e-12)


@pytest.mark.parametrize(("coarse", "fine"), [(20, 1000), (61, 3000)])
def test_resampling_a_circle_is_off_by_no_more_than_stated(coarse, fine):
    def circle(m, start):
        angle = start + 2 * np.pi * np.arange(m) / m
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    chord = 2 * np.sin(np.pi / coarse)
    few, many = (resample_curve(circle(m, 0.3), 16, closed=True) for m in (coarse, fine))
    off = np.linalg.norm(few - many, axis=1)
    assert off.max() <= chord**2 / 8 + 2 * np.pi * chord**2 / 24


def test_fixed_points_are_kept_and_found():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0], [4.0, 2.0]])
    new, places = resample_curve(points, 7, fixed=[1, 2], return_fixed=True)
    np.testing.assert_array_equal(new[places], points[[1, 2]])
    np.testing.assert_allclose(np.diff(places), 3)
    new, places = resample_curve(points, 8, closed=True, fixed=[2], return_fixed=True)
    np.testing.assert_array_equal(new[places], points[[2]])
    np.testing.assert_array_equal(new[0], points[0])
    assert float(curve_length(points)) == 6.0


@pytest.mark.parametrize(
    ("points", "n", "options", "message"),
    [
        ([[0.0, 0.0]], 4, {}, "at least 2"),
        ([[0.0, 0.0], [1.0, 0.0]], 4, {"closed": True}, "at least 3"),
        ([[1.0, 1.0], [1.0, 1.0]], 4, {}, "coincide"),
        ([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]], 6, {"fixed": [1, 2]}, "fixed points coincide"),
        ([[0.0, 0.0], [np.nan, 0.0], [1.0, 0.0]], 4, {}, "missing"),
        ([[0.0, 0.0], [1.0, 0.0]], 1, {}, "at least 2"),
        ([[0.0, 0.0], [1.0, 0.0]], 2.5, {}, "number of points"),
        ([[0.0, 0.0], [1.0, 0.0]], 4, {"fixed": [7]}, "below 2"),
    ],
)
def test_curves_that_cannot_be_resampled(points, n, options, message):
    with pytest.raises(ValueError, match=message):
        resample_curve(points, n, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1],), "at least 3"),
        (([0, 1, 2], True), "at least 4"),
        (([0, 1, 2, 0],), "closed=True"),
        (([0, 1, 2], False, [5]), "lie on the curve"),
        (([0.5, 1.0, 2.0],), "indices"),
    ],
)
def test_curves_that_contradict_themselves(arguments, message):
    with pytest.raises(ValueError, match=message):
        Curve(*arguments)


def test_a_curve_knows_its_sliders_and_edges():
    curve = Curve([3, 5, 9, 4], closed=True, fixed=[9])
    assert curve.sliders().tolist() == [[4, 3, 5], [3, 5, 9], [9, 4, 3]]
    assert curve.edges == ((3, 5), (5, 9), (9, 4), (4, 3))
    assert Curve([3, 5, 9]).fixed == (3, 9)


def test_a_scheme_holds_its_curves(tmp_path):
    scheme = LandmarkScheme("bill", 7, curves=[Curve([0, 3, 4, 1], name="upper"), Curve([0, 5, 6, 1])])
    assert scheme.edges.tolist()[:3] == [[0, 3], [3, 4], [4, 1]]
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    assert dataclasses.replace(scheme, curves=()) != scheme
    assert scheme.subset([0, 1, 3, 4]).curves == (Curve([0, 2, 3, 1], name="upper"),)
    with pytest.raises(ValueError, match="upper"):
        LandmarkScheme("bill", 4, curves=[Curve([0, 3, 4, 1], name="upper")])
    shapes = np.random.default_rng(0).normal(size=(12, 7, 2))
    save_model(AlignedASM(scheme=scheme).fit(shapes), tmp_path / "m.npz")
    assert load_model(tmp_path / "m.npz").scheme_ == scheme
    assert generalized_procrustes(shapes, sliding=scheme).sliding.shapes.shape == shapes.shape


def test_curves_of_tps_become_semilandmarks(tmp_path):
    text = "LM=2\n0 0\n10 0\nCURVES=1\nPOINTS=3\n0 0\n5 {h}\n10 0\nID={h}\n"
    (tmp_path / "set.tps").write_text("".join(text.format(h=h) for h in (3, 4, 6)))
    files = read_landmarks(tmp_path / "set.tps")
    shapes, curves = attach_curves(
        [file.points for file in files], [file.attributes["curves"] for file in files], 5, closed=False
    )
    assert shapes.shape == (3, 5, 2)
    assert curves == [Curve([0, 2, 3, 4, 1], name="curve_0")]
    np.testing.assert_allclose(shapes[:, 3], [[5, 3], [5, 4], [5, 6]])
    with pytest.raises(ValueError, match="same number"):
        attach_curves(shapes, [[], [shapes[0]], []], 5)
    with pytest.raises(ValueError, match="curve 0"):
        attach_curves(shapes, [[shapes[0][:1]]] * 3, 5)
    gap = np.array([file.points for file in files])
    gap[1, 0] = np.nan
    shapes, curves = attach_curves(gap, [file.attributes["curves"] for file in files], 5, closed=np.False_)
    assert curves == [Curve([0, 2, 3, 4, 1], name="curve_0")]  # where a landmark is missing nothing else changes
    assert np.isnan(shapes[..., 0]).sum() == 1
    with pytest.raises(TypeError, match="masked"):
        attach_curves(np.ma.array(gap, mask=np.isnan(gap)), [file.attributes["curves"] for file in files], 5)


# --- Thin-plate splines ----------------------------------------------------------------------------------------------


@given(st.data(), dims)
def test_splines_interpolate_and_agree_with_scipy(data, d):
    x, y, p = (data.draw(coordinates((8, d))) for _ in range(3))
    spline = ThinPlateSpline.fit(x, y)
    np.testing.assert_allclose(spline(x), y, atol=1e-7)
    kernel = "thin_plate_spline" if d == 2 else "linear"
    np.testing.assert_allclose(spline(p), RBFInterpolator(x, y, kernel=kernel, degree=1)(p), atol=1e-6)


@given(st.data(), dims, st.sampled_from([0.0, 0.1, 10.0]))
def test_splines_reproduce_affine_maps_without_bending(data, d, smoothing):
    x, matrix, shift, p = (data.draw(coordinates(s)) for s in ((8, d), (d, d), (d,), (5, d)))
    spline = ThinPlateSpline.fit(x, x @ matrix + shift, smoothing=smoothing)
    np.testing.assert_allclose(spline(p), p @ matrix + shift, atol=1e-7)
    assert float(spline.bending_energy) < 1e-12
    np.testing.assert_allclose(spline.jacobian(p), np.broadcast_to(matrix.T, (5, d, d)), atol=1e-6)


@given(st.data(), dims)
def test_bending_energy_is_that_of_the_matrix_and_smoothing_lowers_it(data, d):
    x, y = 3 * data.draw(coordinates((8, d))), data.draw(coordinates((8, d)))
    matrix = bending_energy_matrix(x)
    energy = float(ThinPlateSpline.fit(x, y).bending_energy)
    np.testing.assert_allclose(np.einsum("kd,kl,ld->", y, matrix, y), energy, rtol=1e-6, atol=1e-9)
    smooth = [float(ThinPlateSpline.fit(x, y, smoothing=s).bending_energy) for s in (0.01, 1.0, 1e6)]
    assert energy + 1e-9 >= smooth[0] + 1e-9 >= smooth[1] >= smooth[2] - 1e-9
    affine = np.c_[np.ones(8), x] @ np.linalg.lstsq(np.c_[np.ones(8), x], y, rcond=None)[0]
    np.testing.assert_allclose(ThinPlateSpline.fit(x, y, smoothing=1e12)(x), affine, atol=1e-6)


def test_bending_energy_is_the_integral_of_the_second_derivatives():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2))
    spline = ThinPlateSpline.fit(x, x + 0.1 * rng.normal(size=(6, 2)))
    grid = np.linspace(-40, 40, 1201)
    h = grid[1] - grid[0]
    values = spline(np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)).reshape(1201, 1201, 2)
    xx = (values[2:, 1:-1] - 2 * values[1:-1, 1:-1] + values[:-2, 1:-1]) / h**2
    yy = (values[1:-1, 2:] - 2 * values[1:-1, 1:-1] + values[1:-1, :-2]) / h**2
    xy = (values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]) / (4 * h**2)
    integral = float((xx**2 + yy**2 + 2 * xy**2).sum() * h**2)
    np.testing.assert_allclose(integral, 8 * np.pi * float(spline.bending_energy), rtol=0.02)


@given(st.data(), dims)
def test_splines_are_undone_by_their_inverse(data, d):
    x = data.draw(coordinates((10, d)))
    extent = np.ptp(x, axis=0).min()
    spline = ThinPlateSpline.fit(x, x + 0.01 * extent * np.tanh(data.draw(coordinates((10, d)))), smoothing=1e-3)
    p = data.draw(coordinates((6, d)))
    if (np.linalg.det(spline.jacobian(p)) > 0.3).all():
        np.testing.assert_allclose(spline(spline.inverse(spline(p))), spline(p), atol=1e-7)


def test_splines_come_in_batches_and_leave_missing_landmarks_out():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 9, 2))
    whole = ThinPlateSpline.fit(x, y)
    np.testing.assert_allclose(whole(x[0])[2], ThinPlateSpline.fit(x[2], y[2])(x[0]))
    gap = y.copy()
    gap[1, 4] = np.nan
    some = ThinPlateSpline.fit(x, gap)
    rest = [0, 1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_allclose(some(x[0])[1], ThinPlateSpline.fit(x[1, rest], y[1, rest])(x[0]))
    np.testing.assert_allclose(some(x[0])[[0, 2, 3]], whole(x[0])[[0, 2, 3]])
    assert np.isnan(whole([[np.nan, 0.0]])).all()


def test_a_fold_has_no_inverse():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.4, 0.5], [0.6, 0.5]])
    y = x[[0, 1, 2, 3, 5, 4]] * 1.0
    y[4:] = [[1.5, 0.5], [-0.5, 0.5]]
    spline = ThinPlateSpline.fit(x, y)
    assert (np.linalg.det(spline.jacobian(np.array([[0.5, 0.5]]))) < 0).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], "one line"),
        ([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [3.0, 0.0]], "coincide"),
        ([[0.0, 0.0], [1.0, 1.0], [np.nan, 2.0], [np.nan, 0.0]], "expected at least 3"),
    ],
)
def test_landmarks_that_fix_no_spline(source, message):
    with pytest.raises(DegenerateShapeError, match=message):
        ThinPlateSpline.fit(source, [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_images_are_warped_where_their_landmarks_go(dtype):
    image = np.zeros((80, 100), dtype)
    image[20:30, 40:50] = True if np.dtype(dtype).kind == "b" else 200
    source = np.array([[0.0, 0.0], [99.0, 0.0], [99.0, 79.0], [0.0, 79.0], [44.5, 24.5]])
    target = source.copy()
    target[4] = [54.5, 44.5]
    warped = ThinPlateSpline.fit(source, target).warp_image(image)
    assert warped.dtype == dtype
    assert warped.shape == image.shape
    rows, columns = np.nonzero(warped.astype(float) > 0.5)
    np.testing.assert_allclose([columns.mean(), rows.mean()], [54.5, 44.5], atol=1.0)
    colour = np.stack([image] * 3, axis=-1)
    again = ThinPlateSpline.fit(source, target).warp_image(colour)[..., 1]
    np.testing.assert_allclose(again, warped, rtol=1e-6, atol=1e-6)


# --- Sliding ---------------------------------------------------------------------------------------------------------


def slide_slowly(shapes, sliders, criterion, rounds=9, tol=1e-4):
    """Slide one shape at a time with full matrices, as the description reads."""
    n, k, d = shapes.shape
    y = shapes - shapes.mean(axis=1, keepdims=True)
    y = y / np.sqrt((y**2).sum(axis=(1, 2)))[:, None, None]

    def turned(reference):
        out = []
        for one in y:
            u, _, vt = np.linalg.svd(reference.T @ one)
            u[:, -1] *= np.sign(np.linalg.det(reference.T @ one))
            out.append(one @ (u @ vt).T)
        return np.array(out)

    def unit(shape):
        return shape / np.linalg.norm(shape - shape.mean(axis=0))

    y = turned(y[0])
    reference, level = y.mean(axis=0), (y.sum(axis=0) ** 2).sum() / n
    for _ in range(rounds):
        bending = np.kron(bending_energy_matrix(reference), np.eye(d))
        for i in range(n):
            directions = np.zeros((k * d, len(sliders)))
            for column, (a, j, b) in enumerate(sliders):
                tangent = y[i, b] - y[i, a]
                directions[j * d : (j + 1) * d, column] = tangent / np.linalg.norm(tangent)
            off = (y[i] - reference).ravel()
            metric = bending if criterion == "bending_energy" else np.eye(k * d)
            amount = np.linalg.solve(directions.T @ metric @ directions, directions.T @ metric @ off)
            y[i] -= (directions @ amount).reshape(k, d)
        now = (y.sum(axis=0) ** 2).sum() / n
        y = turned(unit(reference))
        reference = unit(y.mean(axis=0))
        if abs(now - level) <= tol:
            break
        level = now
    mean = unit(reference - reference.mean(axis=0)).ravel()
    flat = y.reshape(n, -1)
    return (flat - np.outer(flat @ mean - 1, mean)).reshape(n, k, d)


def wavy(d, n=12, k=14, seed=0):
    """Curves in the plane or in space with two landmarks off them, points irregularly spaced."""
    rng = np.random.default_rng(seed)
    along = np.linspace(0, 1, k - 2) + np.pad(0.02 * rng.normal(size=(n, k - 4)), ((0, 0), (1, 1)))
    high = 1 + 0.2 * rng.normal(size=(n, 1))
    parts = [along, high * np.sin(3 * along), 0.5 * high * along**2][:d]
    points = np.concatenate([np.stack(parts, axis=-1), np.broadcast_to(np.eye(3)[:2, :d] * 2 + 0.3, (n, 2, d))], axis=1)
    return points + 0.01 * rng.normal(size=(n, k, d))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("criterion", ["bending_energy", "procrustes"])
def test_sliding_follows_its_description(d, criterion):
    shapes, curve = wavy(d), Curve(range(12), fixed=[6])
    result = generalized_procrustes(shapes, sliding=Sliding([curve], criterion=criterion))
    np.testing.assert_allclose(result.aligned, slide_slowly(shapes, curve.sliders(), criterion), atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("criterion", ["bending_energy", "procrustes"])
def test_sliding_lowers_its_criterion_and_keeps_fixed_points(d, rescale, criterion):
    shapes = 7 * wavy(d, seed=1) + 30
    options = Sliding([Curve(range(12), fixed=[6])], criterion=criterion, rescale=rescale)
    result = generalized_procrustes(shapes, sliding=options, tangent=False)
    record = result.sliding
    assert (record.after <= record.before + 1e-12).all()
    assert (record.after < record.before).any()
    np.testing.assert_array_equal(record.shapes[:, [0, 6, 11, 12, 13]], shapes[:, [0, 6, 11, 12, 13]])
    np.testing.assert_allclose(result.transforms(record.shapes), result.aligned, atol=1e-10)
    assert record.before.shape == (record.n_iter, 12)
    np.testing.assert_allclose(np.linalg.norm(result.mean), 1)
    if rescale:
        np.testing.assert_allclose(np.linalg.norm(result.aligned, axis=(1, 2)), 1)


@given(st.data())
def test_sliding_does_not_depend_on_the_pose_of_the_shapes(data):
    shapes, t = wavy(2), data.draw(similarities(2))
    options = Sliding([Curve(range(12))], criterion="procrustes", max_iter=4)
    plain, moved = (generalized_procrustes(s, sliding=options) for s in (shapes, t(shapes)))
    np.testing.assert_allclose(moved.sliding.shapes, t(plain.sliding.shapes), atol=1e-7 * (1 + np.abs(t(shapes)).max()))
    np.testing.assert_allclose(moved.disparity, plain.disparity, rtol=1e-7)


@pytest.mark.data
@pytest.mark.parametrize(("criterion", "share"), [(None, 58.4), ("bending_energy", 48.5), ("procrustes", 38.4)])
def test_hummingbirds_vary_as_in_geomorph(data_dir, criterion, share):
    with np.load(data_dir / "landmarks" / "hummingbirds.npz") as file:
        shapes, table = file["shapes"], file["curve_slide"]
    sliding = None if criterion is None else Sliding(table, criterion=criterion)
    aligned = generalized_procrustes(shapes, criterion="partial", tangent=True, sliding=sliding).aligned
    flat = aligned.reshape(len(aligned), -1)
    variances = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    assert abs(100 * variances[0] / variances.sum() - share) < 0.05


def test_a_table_of_sliders_may_be_of_floats():
    rows = [[0, 1, 2], [1, 2, 3]]
    np.testing.assert_array_equal(Sliding(np.array(rows, dtype=float)).sliders, Sliding(rows).sliders)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda s: Sliding([]), "something else"),
        (lambda s: Sliding([Curve(range(5)), Curve([2, 3, 9])]), "two curves"),
        (lambda s: Sliding([[1, 1, 2]]), "three different"),
        (lambda s: Sliding([Curve(range(4), closed=True, fixed=range(4))]), "no landmark that slides"),
        (lambda s: Sliding([Curve(range(5))], criterion="energy"), "bending_energy"),
        (lambda s: generalized_procrustes(s, sliding=[Curve([0, 1, 40])]), r"below 14\.$"),
        (lambda s: generalized_procrustes(s, sliding=[[12, 13, 14], [1, 2, 3]]), "below 14.*subtracting 1"),
        (lambda s: Sliding(np.array([[0.0, 1.5, 2.0]])), "something else"),
        (lambda s: generalized_procrustes(s, sliding=[Curve(range(12))], scaling=False), "tangent only"),
        (lambda s: generalized_procrustes(np.where(s < s.max(), s, np.nan), sliding=[Curve(range(12))]), "missing"),
        (lambda s: generalized_procrustes(s[:, [0, 1, 0, *range(3, 14)]], sliding=[Curve(range(12))]), "coincide"),
    ],
)
def test_sliding_that_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build(wavy(2))
