"""Masks and outlines to corresponding landmarks: laws, made sets whose modes are known, real hands, bad input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask
from strategies import seeds, similarities

from shape_models import AlignedASM, DegenerateShapeError, generalized_procrustes, load_model, save_model
from shape_models.contours import correspond, landmarks_of_masks, outline_of_mask, read_masks


def box_with_bump(x, radius=0.2):
    """An upright box with a half disc on top, its middle at x: the only thing that varies."""
    half = np.linspace(0, np.pi, 30)
    bump = np.stack([x + radius * np.cos(half), 0.5 + radius * np.sin(half)], axis=-1)
    return np.concatenate([[[-1, -0.5], [1, -0.5], [1, 0.5]], bump, [[-1, 0.5]]])


def lobed(b, m=120):
    """A round outline of three independent modes."""
    angle = 2 * np.pi * np.arange(m) / m
    radius = 1 + (0.25 + b[0]) * np.cos(2 * angle) + b[1] * np.cos(3 * angle) + b[2] * np.sin(2 * angle)
    return np.stack([(radius + 0.1 * np.cos(angle)) * np.cos(angle), radius * np.sin(angle)], axis=-1)


LOBED = [lobed(b) for b in np.random.default_rng(0).normal(size=(8, 3)) * [0.1, 0.07, 0.04]]


def shares(shapes):
    flat = generalized_procrustes(shapes).aligned.reshape(len(shapes), -1)
    variances = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    return variances / variances.sum()


def distance_to_line(points, line):
    a, b = line, np.roll(line, -1, axis=0)
    along = np.clip(((points[:, None] - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
    return np.linalg.norm(points[:, None] - (a + along[..., None] * (b - a)), axis=-1).min(axis=1)


# --- What is known beforehand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.12, 0.2])
def test_a_bump_that_moves_along_a_box_is_one_mode(radius):
    outlines = [box_with_bump(x, radius) for x in np.linspace(-0.6, 0.6, 13)]
    equal, slid = (correspond(outlines, 64, method=method) for method in ("arc_length", "auto"))
    assert slid.method == "elastic"
    assert shares(equal.shapes)[0] < 0.6
    assert shares(slid.shapes)[0] > 0.93  # 0.97 to 0.98 with true landmarks: Procrustes bends the line of shapes
    assert slid.scores["arc_length"] > 5 * min(slid.scores.values())


def test_landmarks_stay_on_the_bump():
    outlines = [box_with_bump(x) for x in np.linspace(-0.5, 0.5, 9)]
    shapes = correspond(outlines, 64).shapes
    on_top = shapes[..., 1] > 0.53
    middle = np.array([one[mask, 0].mean() for one, mask in zip(shapes, on_top, strict=True)])
    np.testing.assert_allclose(middle, np.linspace(-0.5, 0.5, 9), atol=0.03)
    assert (on_top.sum(axis=0) > 0).sum() <= on_top.sum(axis=1).min() + 2


def test_smooth_outlines_keep_equal_distances_when_these_describe_them_better():
    found = correspond(LOBED, 40)
    assert found.method == "arc_length"
    assert found.converged
    assert found.energy.size == 0
    assert found.scores["arc_length"] == min(found.scores.values())


@pytest.mark.data
def test_hands_are_described_better_than_by_equal_distances(data_dir):
    with np.load(data_dir / "hands" / "landmarks.npz") as file:
        outlines = list(file["shapes"][::2])
    found = correspond(outlines, 56)
    assert found.method == "elastic"
    assert found.scores["elastic, stretch 1"] < found.scores["arc_length"]
    assert max(distance_to_line(s, o).max() for s, o in zip(found.shapes, outlines, strict=True)) < 1e-6
    assert (np.diff(found.energy) <= 0).all()


# --- Laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=6)  # each matches eight outlines
@given(st.data(), seeds, st.sampled_from(["arc_length", "elastic"]))
def test_landmarks_follow_similarities_and_ignore_starts_and_directions(data, seed, method):
    rng = np.random.default_rng(seed)
    transforms = data.draw(similarities(2, n=4))
    moved = []
    for outline, i in zip(LOBED[:4], range(4), strict=True):
        turned = np.roll(transforms[i](outline), rng.integers(len(outline)), axis=0)
        moved.append(turned[::-1] if rng.random() < 0.5 else turned)
    plain, other = (correspond(o, 24, method=method).shapes for o in (LOBED[:4], moved))
    expected = transforms(plain)
    size = np.linalg.norm(expected - expected.mean(axis=1, keepdims=True), axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(other / size, expected / size, atol=1e-5)


def test_landmarks_lie_on_the_outlines_in_order():
    found = correspond([box_with_bump(x) for x in (-0.3, 0.0, 0.3)], 32, method="elastic")
    turned = np.unwrap(2 * np.pi * found.positions, axis=1)
    assert (np.diff(turned, axis=1) > 0).all()
    assert (turned[:, -1] - turned[:, 0] < 2 * np.pi).all()
    assert found.scheme.edges.tolist()[-1] == [31, 0]


def test_objects_that_lie_alike_need_not_be_turned():
    circle = lobed([-0.25, 0, 0])
    upright = [circle * [1, s] for s in (0.98, 0.99, 1.0, 1.01, 1.02)]
    found = correspond(upright, 24, method="arc_length", rotation=False)
    assert np.abs(found.shapes - found.shapes[0]).max() < 0.1


def test_the_result_is_fitted_saved_and_used_as_any_model(tmp_path):
    found = correspond([box_with_bump(x) for x in np.linspace(-0.4, 0.4, 6)], 32)
    save_model(AlignedASM(scheme=found.scheme).fit(found.shapes), tmp_path / "m.npz")
    model = load_model(tmp_path / "m.npz")
    wrong = found.shapes[2].copy()
    wrong[3] = np.nan
    assert np.linalg.norm(model.project(wrong)[3] - found.shapes[2][3]) < 0.1


# --- Masks -----------------------------------------------------------------------------------------------------------


def test_outlines_of_masks_run_between_the_pixels():
    mask = np.zeros((40, 50), bool)
    mask[10:20, 5:30] = True
    outline = outline_of_mask(mask)
    assert outline.min(axis=0).tolist() == [4.5, 9.5]
    assert outline.max(axis=0).tolist() == [29.5, 19.5]
    for same in (mask.astype(np.uint8) * 255, np.where(mask, 7, 0), np.stack([mask * 200] * 3, axis=-1)):
        np.testing.assert_array_equal(outline_of_mask(same), outline)
    np.testing.assert_array_equal(outline_of_mask(np.where(mask, 3, 1), label=3), outline)
    np.testing.assert_array_equal(outline_of_mask(mask * 0.8, level=0.4), outline)
    np.testing.assert_array_equal(outline_of_mask(mask[10:20, 5:30]), outline - [5, 10])  # up to the border


def test_channels_that_are_no_colours_are_understood():
    mask = np.zeros((20, 30), bool)
    mask[5:12, 8:21] = True
    outline = outline_of_mask(mask)
    full, none = np.full(mask.shape, 255), np.zeros(mask.shape, int)
    value = np.where(mask, 200, 0)
    for channels in (
        [value],
        [value, full],
        [value, none],
        [value] * 3 + [full],
        [value, none, none, full],
        [none, none, none, value],  # black on a transparent ground
        [full, full, full, value],
        [full, value],  # white on white that is transparent
    ):
        given = np.stack(channels, axis=-1).astype(np.uint8)
        np.testing.assert_array_equal(outline_of_mask(given), outline)
    assert outline_of_mask(np.stack([value, none, none, full], axis=-1), label=(200, 0, 0)).shape == outline.shape


@pytest.mark.parametrize("repair", [False, True])
def test_black_objects_on_white_are_not_taken_for_the_background(repair):
    mask = np.ones((20, 30), np.uint8)
    mask[5:12, 8:21] = 0
    with pytest.raises(ValueError, match=r"all round the border.*label=0"):
        outline_of_mask(mask, repair=repair)
    np.testing.assert_array_equal(outline_of_mask(mask, label=0), outline_of_mask(mask == 0))


def test_outlines_of_masks_of_polygons_come_back():
    for x in (-0.3, 0.2):
        truth = 60 * box_with_bump(x) + [80, 60]
        outline = outline_of_mask(polygon2mask((120, 160), truth[:, ::-1]))
        assert distance_to_line(outline, truth).max() < 1.0


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_masks_come_from_folders(tmp_path, suffix):
    from PIL import Image

    for i, x in enumerate(np.linspace(-0.5, 0.5, 6)):
        mask = polygon2mask((120, 160), (60 * box_with_bump(x) + [80, 60])[:, ::-1])
        if suffix == ".png":
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{i}.png")
        else:
            np.save(tmp_path / f"{i}.npy", mask)
    (tmp_path / "below").mkdir()
    for name, place in (("5", "10"), ("4", "below/1")):
        (tmp_path / f"{name}{suffix}").rename(tmp_path / f"{place}{suffix}")
    (tmp_path / f"._1{suffix}").write_text("what some systems write beside a file")
    masks = read_masks(tmp_path)
    assert masks.names == [f"{i}{suffix}" for i in (0, 1, 2, 3, 10, "below/1")]
    found = correspond(masks.outlines, 48)
    assert shares(found.shapes)[0] > 0.93


def test_the_command_fits_masks(tmp_path):
    from click.testing import CliRunner
    from PIL import Image

    from shape_models.cli import main

    (tmp_path / "masks").mkdir()
    for i, x in enumerate(np.linspace(-0.5, 0.5, 6)):
        mask = polygon2mask((120, 160), (60 * box_with_bump(x) + [80, 60])[:, ::-1])
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "masks" / f"{i}.png")
    answer = CliRunner().invoke(
        main, ["fit", str(tmp_path / "masks"), "-o", str(tmp_path / "m.npz"), "--points", "32", "--json"]
    )
    assert answer.exit_code == 0, answer.output
    record = json.loads(answer.output)
    assert (record["n_samples"], record["n_landmarks"], record["frame"]) == (6, 32, "pixels")
    assert record["explained_variance_ratio"][0] > 0.9
    model = load_model(tmp_path / "m.npz")
    assert model.scheme_.curves[0].closed
    Image.fromarray(spoilt("parts")).save(tmp_path / "masks" / "9.png")
    answer = CliRunner().invoke(main, ["fit", str(tmp_path / "masks"), "-o", str(tmp_path / "n.npz")])
    assert answer.exit_code == 1
    assert "9.png" in answer.output
    assert "2 parts" in answer.output
    assert not (tmp_path / "n.npz").exists()


def run_fit(*arguments):
    from click.testing import CliRunner

    from shape_models.cli import main

    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def write_polygons(folder, outlines):
    folder.mkdir()
    for i, outline in enumerate(outlines):
        np.savetxt(folder / f"{i}.txt", outline)


def test_the_command_fits_polygons_of_any_number_of_points(tmp_path):
    outlines = [box_with_bump(x)[: 30 + 4] for x in np.linspace(-0.5, 0.5, 6)]
    outlines[1] = np.repeat(outlines[1], 2, axis=0) + np.tile([[0, 0], [1e-3, 0]], (34, 1))
    write_polygons(tmp_path / "set", outlines)
    said = run_fit(tmp_path / "set", "-o", tmp_path / "m.npz")
    assert said.exit_code == 1
    assert "--outlines" in said.output
    report = tmp_path / "r.html"
    said = run_fit(
        tmp_path / "set", "--outlines", "--points", 32, "--report", report, "--json", "-o", tmp_path / "m.npz"
    )
    assert said.exit_code == 0, said.output
    record = json.loads(said.output)
    assert (record["n_samples"], record["n_landmarks"], record["placing"]) == (6, 32, "elastic")
    plain, aligned, chosen = (qualities for name, qualities in record["report"].items() if name != "file")
    assert chosen["compactness"][0] > 0.93 > 0.7 > aligned["compactness"][0]
    assert chosen["overlap"][0] > max(plain["overlap"][0], aligned["overlap"][0])
    assert all(0.9 < value <= 1 for value in chosen["overlap"])
    assert report.read_text().count("<svg") == 4 + 3 + min(5, len(record["explained_variance_ratio"]) + 5)


def test_the_command_places_landmarks_as_it_is_told(tmp_path):
    write_polygons(tmp_path / "set", [box_with_bump(x) for x in np.linspace(-0.5, 0.5, 6)])
    common = (tmp_path / "set", "--outlines", "--json", "-o", tmp_path / "m.npz")
    first = {}
    for placing in ("arc_length", "elastic"):
        record = json.loads(run_fit(*common, "--placing", placing).output)
        assert record["placing"] == placing
        first[placing] = record["explained_variance_ratio"][0]
    assert first["elastic"] > 0.93 > first["arc_length"]


def test_outlines_that_do_not_turn_stay_as_they_lie(tmp_path):
    upright = [box_with_bump(x) for x in np.linspace(-0.5, 0.5, 6)]
    upright[2] = upright[2] @ [[0, 1], [-1, 0]]
    write_polygons(tmp_path / "set", upright)
    common = (tmp_path / "set", "--outlines", "--placing", "arc_length", "--points", 16, "-o", tmp_path / "m.npz")
    shares = [json.loads(run_fit(*common, *more, "--json").output)["explained_variance_ratio"] for more in
              ((), ("--no-turning",))]  # fmt: skip
    assert len(shares[0]) != len(shares[1]) or not np.allclose(*shares)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", 8), "--points: is for outlines"),
        (("--report", "r.html"), "--report: is for outlines"),
        (("--outlines", "--level", 0.5), "--level: is for masks"),
        (("--outlines", "--report", "r.png"), "ends with .html"),
        (("--label", "red"), "three for a colour"),
    ],
)
def test_options_of_outlines_are_refused_elsewhere(tmp_path, arguments, message):
    write_polygons(tmp_path / "set", [SQUARE, SQUARE])
    said = run_fit(tmp_path / "set", *arguments, "-o", tmp_path / "m.npz")
    assert said.exit_code == 2
    assert message in said.output


def test_outlines_at_fault_are_named(tmp_path):
    write_polygons(tmp_path / "set", [SQUARE, BOW])
    said = run_fit(tmp_path / "set", "--outlines", "-o", tmp_path / "m.npz")
    assert said.exit_code == 1
    assert "1: got an outline that crosses itself" in said.output


def test_colours_say_which_object_is_meant(tmp_path):
    from PIL import Image

    (tmp_path / "masks").mkdir()
    for i in range(3):
        mask = np.zeros((40, 50, 3), np.uint8)
        mask[5:20, 5 : 20 + 5 * i] = [255, 0, 0]
        mask[25:35, 5:20] = [0, 255, 0]
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    said = run_fit(tmp_path / "masks", "--label", "255,0,0", "--points", 20, "-o", tmp_path / "m.npz")
    assert said.exit_code == 0, said.output
    assert "3 shapes of 20" in said.output


def spoilt(kind):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    if kind == "parts":
        mask[1:3, 1:3] = 255
    elif kind == "holes":
        mask[8:10, 8:10] = 0
    elif kind == "pixel":
        mask[:] = 0
        mask[4, 4] = 255
    elif kind == "empty":
        mask[:] = 0
    elif kind == "values":
        mask[6, 6] = 9
    return mask


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("parts", "2 parts.*repair=True"),
        ("holes", "1 holes.*repair=True"),
        ("pixel", "single pixel"),
        ("empty", "no pixel"),
        ("values", "2 values.*label="),
    ],
)
def test_masks_of_no_one_outline(kind, message):
    with pytest.raises(ValueError, match=message):
        outline_of_mask(spoilt(kind))


@pytest.mark.parametrize("kind", ["parts", "holes"])
def test_masks_are_repaired_when_asked(kind):
    np.testing.assert_array_equal(outline_of_mask(spoilt(kind), repair=True), outline_of_mask(spoilt("")))


def test_files_of_masks_are_named_in_errors(tmp_path):
    np.save(tmp_path / "b.npy", spoilt("holes"))
    with pytest.raises(ValueError, match=r"b\.npy: got an object with 1 holes"):
        read_masks(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such"):
        read_masks(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="without images"):
        read_masks(tmp_path / "empty")


def test_arrays_where_files_of_masks_belong_are_refused():
    for read in (read_masks, landmarks_of_masks):
        with pytest.raises(TypeError, match=r"path\[0\]: got a ndarray; .*Try correspond\(\[outline_of_mask\(mask\)"):
            read([np.ones((4, 4), bool)])


def test_masks_too_coarse_for_the_points_are_named(tmp_path):
    np.save(tmp_path / "a.npy", np.pad(np.ones((3, 4, 5), bool), ((0, 0), (2, 2), (2, 2))))
    with pytest.raises(ValueError, match=r"a\.npy\[0\]: got an outline of 18 steps.*fewer points"):
        landmarks_of_masks(tmp_path, 64)


BOW = [[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 1.0]]
SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("outlines", "options", "error", "message"),
    [
        ([SQUARE, BOW], {}, ValueError, r"outlines\[1\]: got an outline that crosses itself"),
        ([SQUARE], {}, ValueError, "at least 2"),
        ([SQUARE, SQUARE[:2]], {}, DegenerateShapeError, r"outlines\[1\]: got 2 different points"),
        ([SQUARE, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]], {}, DegenerateShapeError, "without area"),
        ([SQUARE, [[0.0, np.nan], *SQUARE]], {}, ValueError, r"outlines\[1\]"),
        ([SQUARE, SQUARE], {"n_points": 3}, ValueError, "at least 4"),
        ([SQUARE, SQUARE], {"method": "best"}, ValueError, "method"),
        ([SQUARE, SQUARE], {"stretch": 0}, ValueError, "stretch"),
    ],
)
def test_outlines_that_cannot_correspond(outlines, options, error, message):
    with pytest.raises(error, match=message):
        correspond(outlines, **options)


def test_equal_outlines_are_no_trouble():
    found = correspond([np.array(SQUARE)] * 6, 8)
    np.testing.assert_allclose(found.shapes, found.shapes[:1].repeat(6, axis=0), atol=1e-6)
