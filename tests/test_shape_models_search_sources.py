"""What searches are trained on where landmarks, masks and images lie apart, and how regions are told."""

import json
import re
import types

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import cdist
from skimage.draw import disk, polygon
from skimage.io import imread, imsave

from shape_models import LandmarkScheme, generalized_procrustes, write_landmarks
from shape_models.cli import main
from shape_models.curves import Curve
from shape_models.search._pairing import match_images
from shape_models.search._regions import closed_curves, overlap, save_labels
from shape_models.search._report import _regions
from shape_models.search._training_data import training_data

N, SIZE = 12, (90, 120)


def ellipses():
    """Outlines of two bodies in each image, (N, 2, 60, 2): one changes its width, the other its height."""
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], -1)
    rng = np.random.default_rng(0)
    shift = rng.uniform(-3, 3, (N, 1, 1, 2))
    half = np.stack([rng.uniform([14, 10], [22, 12], (N, 2)), rng.uniform([10, 12], [13, 20], (N, 2))], 1)
    return shift + [[[[38.0, 45.0]], [[86.0, 42.0]]]] + half[:, :, None] * circle


def inside(outline):
    mask = np.zeros(SIZE, bool)
    mask[polygon(outline[:, 1], outline[:, 0], shape=SIZE)] = True
    return mask


def images(bodies):
    rng = np.random.default_rng(1)
    for pair in bodies:
        image = rng.normal(80, 6, SIZE) + 90 * inside(pair[0]) + 140 * inside(pair[1])
        image[disk((20, 20), 6)] += 60
        yield image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def bodies():
    return ellipses()


@pytest.fixture
def folder(tmp_path, bodies):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images(bodies)):
        imsave(tmp_path / f"images/case{i:02}.png", image, check_contrast=False)
    return tmp_path


def masks(folder, bodies, kind):
    """Write masks of one kind and return where they are."""
    out = folder / kind
    out.mkdir()
    for i, pair in enumerate(bodies):
        left, right = inside(pair[0]), inside(pair[1])
        if kind == "labels":
            imsave(out / f"case{i:02}_seg.png", (left + 2 * right).astype(np.uint8), check_contrast=False)
        elif kind == "colours":
            plane = np.zeros((*SIZE, 3), np.uint8)
            plane[left], plane[right] = [0, 200, 0], [255, 0, 0]
            imsave(out / f"{i}.png", plane, check_contrast=False)
        else:
            imsave(out / f"case{i:02}-left.png", 255 * left.astype(np.uint8), check_contrast=False)
            imsave(out / f"case{i:02}-right.png", 255 * right.astype(np.uint8), check_contrast=False)
    return out


def read(source, **choices):
    given = {"images": None, "masks": None, "join": False, "n_points": 24, "repair": False, "spacing": None, **choices}
    return training_data(str(source), {}, **given)


@pytest.mark.parametrize(
    ("kind", "names"), [("labels", ["1", "2"]), ("colours", ["#00c800", "#ff0000"]), ("files", ["left", "right"])]
)
def test_landmarks_lie_on_the_outlines_in_masks(folder, bodies, kind, names):
    data, parts = read(folder / "images", masks=masks(folder, bodies, kind))
    assert list(parts) == names
    assert [path.name for path in data.images] == [f"case{i:02}.png" for i in range(N)]
    assert [(curve.name, curve.closed) for curve in data.scheme.curves] == [(name, True) for name in names]
    assert data.shapes().shape == (N, 48, 2)
    for shape, pair in zip(data.shapes(), bodies, strict=True):
        for points, outline in zip((shape[:24], shape[24:]), pair, strict=True):
            dense = np.stack([np.interp(np.arange(0, 60, 0.1), np.arange(61), [*c, c[0]]) for c in outline.T], -1)
            assert cdist(points, dense).min(1).max() < 1.5
            spread = np.linalg.norm(np.diff(points[[*range(24), 0]], axis=0), axis=1)
            assert spread.max() < 3 * spread.min()


@pytest.mark.parametrize("turn", [0, 2 * np.pi])
def test_an_outline_that_shows_no_turn_starts_where_the_others_do(tmp_path, bodies, turn):
    """Ellipses are their own selves turned by half; images turned as wholes are told by how their bodies lie."""
    angles = np.random.default_rng(2).uniform(0, turn, N) if turn else np.zeros(N)
    where, centre = tmp_path / "masks", np.array([90.0, 90.0])
    where.mkdir()
    (tmp_path / "images").mkdir()
    for i, (pair, a) in enumerate(zip(bodies, angles, strict=True)):
        back = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        plane = np.zeros((180, 180), np.uint8)
        for k, outline in enumerate((pair - [60, 45]) @ back.T + centre, start=1):
            plane[polygon(outline[:, 1], outline[:, 0], shape=plane.shape)] = k
        imsave(where / f"{i}.png", plane, check_contrast=False)
        imsave(tmp_path / f"images/{i}.png", plane * 90, check_contrast=False)
    shapes = read(tmp_path / "images", masks=where)[0].shapes()
    aligned = generalized_procrustes(shapes).aligned
    assert (
        np.linalg.norm(aligned - aligned.mean(0), axis=2).max() < 0.25 * np.linalg.norm(aligned.mean(0), axis=1).max()
    )


def test_masks_that_do_not_fit_are_refused(folder, bodies):
    where = masks(folder, bodies, "labels")
    some = imread(where / "case03_seg.png")
    for wrong, message in (
        (some[:-1], r"case03_seg\.png: got a mask of 120 x 89 pixels; expected 120 x 90"),
        (some * (some == 1), r"case03_seg: got no object '2'; expected 1, 2 in each mask"),
        (np.arange(some.size).reshape(some.shape).astype(np.uint8), r"expected a mask, not an image"),
    ):
        imsave(where / "case03_seg.png", wrong, check_contrast=False)
        with pytest.raises(ValueError, match=message):
            read(folder / "images", masks=where)
    (where / "case03_seg.png").unlink()
    assert len(read(folder / "images", masks=where)[0]) == N - 1
    with pytest.raises(ValueError, match=r"case00_seg\.png.*steps between pixels; expected at least 900"):
        read(folder / "images", masks=where, n_points=900)


@pytest.mark.parametrize(
    ("names", "files", "said"),
    [
        (["A1", "a2"], ["a1.png", "A2.PNG"], "their names"),
        (["case1_points", "case10_points"], ["case1.png", "case10.png"], "the beginnings of their names"),
        (["case1", "case10"], ["case1_0000.tif", "case10_0000.tif"], "the beginnings of their names"),
        (["landmarks7", "landmarks12"], ["07.tif", "12.tif"], "their numbers"),
        (["a/1", "b/1"], ["a/1.png", "b/1.png"], "their names"),
    ],
)
def test_names_find_their_images(tmp_path, names, files, said):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths, how = match_images(names, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == files
    assert how.endswith(said)


@pytest.mark.parametrize(
    ("names", "files", "message"),
    [
        (["1", "2"], ["x/1.png", "x/2.png", "y/1.png", "y/2.png"], "both fit 1"),
        (["1", "2"], ["1.png", "3.png"], "got no image for each of 1, 2 among 1.png, 3.png"),
        (["a1", "a2"], ["b1-1.png", "b2-1.png"], "got no image for each"),
        (["1"], ["1.txt"], "got no images"),
    ],
)
def test_no_image_is_guessed(tmp_path, names, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        match_images(names, tmp_path)


def test_landmarks_in_millimetres_lie_in_pixels(folder, bodies):
    where = folder / "slicer"
    where.mkdir()
    for i, pair in enumerate(bodies):
        points = [{"label": f"F-{k}", "position": [0.2 * x, 0.5 * y, 0.0]} for k, (x, y) in enumerate(pair[0][::10])]
        markups = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
        (where / f"case{i:02}.mrk.json").write_text(json.dumps({"markups": [markups]}))
    with pytest.raises(ValueError, match=r"got landmarks in millimetres; expected pixels\. Try --spacing X Y"):
        read(where, images=folder / "images")
    data, _ = read(where, images=folder / "images", spacing=(0.2, 0.5))
    assert data.frame == "pixels"
    np.testing.assert_allclose(data.shapes(), bodies[:, 0, ::10], atol=1e-6)


def test_lists_of_one_file_are_joined(folder, bodies):
    where = folder / "scenes"
    where.mkdir()
    for i, pair in enumerate(bodies):
        lists = [[{"label": f"F-{k}", "position": [x, y, 0.0]} for k, (x, y) in enumerate(part[::10])] for part in pair]
        markups = [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points} for points in lists]
        (where / f"case{i:02}.mrk.json").write_text(json.dumps({"markups": markups}))
    data, parts = read(where, images=folder / "images", spacing=(1.0, 1.0), join=True)
    assert parts == {"0": list(range(6)), "1": list(range(6, 12))}
    np.testing.assert_allclose(data.shapes(), bodies[:, :, ::10].reshape(len(bodies), 12, 2), atol=1e-6)


def test_overlap_of_regions():
    square = np.array([[0.0, 0], [9, 0], [9, 9], [0, 9]])
    shapes = np.stack([square, square + np.array([5, 0]), square + 40, square * np.nan, square])
    truth = np.stack([square] * 4 + [square * np.nan])
    found = overlap(shapes, truth, [Curve([0, 1, 2, 3], closed=True)])[:, 0]
    np.testing.assert_allclose(found, [1, 0.5, 0, 0, np.nan], atol=1e-12)  # 10 x 10 pixels, 5 x 10 of them in both


def test_a_report_says_how_regions_overlap(bodies):
    shapes = bodies[:4].reshape(4, 120, 2)
    scheme = LandmarkScheme(
        "two", 120, curves=[Curve(range(60 * k, 60 * k + 60), closed=True, name=f"<{k}>") for k in (0, 1)]
    )
    found = shapes.copy()
    found[0, :60] += 200
    table = _regions(types.SimpleNamespace(found=found, boxed=shapes), shapes, closed_curves(scheme))
    rows = re.findall(r"<td>(.*?)</td>" * 5, table)
    assert rows == [
        ("&lt;0&gt;", "0.750 [0.250, 1.000]", "1.000", "1", "1.000"),
        ("&lt;1&gt;", "1.000 [1.000, 1.000]", "1.000", "0", "1.000"),
        ("all", "0.875 [0.625, 1.000]", "1.000", "1", "1.000"),
    ]
    assert _regions(types.SimpleNamespace(), shapes, []) == ""


def test_numbers_of_regions_are_written(tmp_path):
    shape = np.array([[2.0, 2], [8, 2], [8, 5], [2, 5], [12, 2], [14, 2], [14, 6], [12, 6]])
    curves = [Curve(range(4), closed=True, name="a"), Curve(range(4, 8), closed=True, name="b")]
    save_labels(tmp_path / "a.png", (10, 20), shape, curves)
    read_back = imread(tmp_path / "a.png")
    assert read_back.shape == (10, 20)
    assert [(read_back == k).sum() for k in (1, 2)] == [7 * 4, 3 * 5]


def test_a_search_is_trained_on_masks_and_draws_them(folder, bodies):
    """The images of the last two are left out of the training."""
    where = masks(folder, bodies, "labels")
    (folder / "new").mkdir()
    truth = []
    for i in (N - 2, N - 1):
        (folder / f"images/case{i:02}.png").rename(folder / f"new/case{i:02}.png")
        truth.append(imread(where / f"case{i:02}_seg.png"))
        (where / f"case{i:02}_seg.png").unlink()
    model = folder / "m.npz"
    result = CliRunner().invoke(
        main,
        ["train-search", str(folder / "images"), "--masks", str(where), "--points", "12", "--evidence", "profiles",
         "-o", str(model)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["search", str(model), str(folder / "new"), "--masks", "-o", str(folder / "out")])
    assert result.exit_code == 0, result.output
    assert "masks: 1 1, 2 2" in result.output
    for i, true in zip((N - 2, N - 1), truth, strict=True):
        found = imread(folder / f"out/case{i:02}-mask.png")
        for k in (1, 2):
            assert 2 * ((found == k) & (true == k)).sum() / ((found == k).sum() + (true == k).sum()) > 0.85


def test_parts_and_images_in_folders_of_their_own(folder, bodies):
    (folder / "points").mkdir()
    for i, pair in enumerate(bodies):
        for k, outline in enumerate(pair, start=1):
            write_landmarks(folder / f"points/landmarks{i}-{k}.pts", outline[::6])
    data, parts = read(folder / "points", images=folder / "images", join=True)
    assert parts == {"1": list(range(10)), "2": list(range(10, 20))}
    np.testing.assert_allclose(data.shapes(), bodies[:, :, ::6].reshape(N, 20, 2), atol=1e-6)
    with pytest.raises(ValueError, match="Try --join-parts"):
        read(folder / "points")
