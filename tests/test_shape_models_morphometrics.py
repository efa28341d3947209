"""Sizes, symmetry, affine and robust superimposition, outliers, tables: laws, hand-made answers, bad input."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import coordinates, similarities

from shape_models import (
    IBUG68,
    AlignedASM,
    DegenerateShapeError,
    affine_procrustes,
    centroid_size,
    find_outliers,
    generalized_procrustes,
    make_faces,
    mirror_shapes,
    symmetry,
    write_table,
)

dims = st.sampled_from([2, 3])


@given(st.data(), dims)
def test_size_scales_and_ignores_place_and_turn(data, d):
    x, t = data.draw(coordinates((4, 7, d))), data.draw(similarities(d))
    np.testing.assert_allclose(centroid_size(t(x)), t.scale * centroid_size(x), rtol=1e-9)
    np.testing.assert_allclose(centroid_size(x)[2] ** 2, sum(((p - x[2].mean(0)) ** 2).sum() for p in x[2]))
    x[1, 2] = np.nan
    assert np.isnan(centroid_size(x)).tolist() == [False, True, False, False]


def test_symmetry_is_half_of_shape_and_mirror_image():
    faces = make_faces(15, rng=0)
    result = symmetry(faces, IBUG68)
    np.testing.assert_allclose(result.symmetric + result.asymmetric, result.aligned)
    np.testing.assert_allclose(mirror_shapes(result.mean, IBUG68.mirror) - result.mean, 0, atol=1e-3)
    both = generalized_procrustes(np.concatenate([faces, mirror_shapes(faces, IBUG68.mirror)]), criterion="partial")
    np.testing.assert_allclose(np.linalg.norm(both.aligned[:15] - both.aligned[15:], axis=(1, 2)) / 2, result.asymmetry)
    swapped = symmetry(mirror_shapes(faces, IBUG68.mirror), IBUG68)
    np.testing.assert_allclose(swapped.asymmetry, result.asymmetry, rtol=1e-6)
    assert (result.fluctuating**2).sum() <= (result.asymmetry**2).sum() + 1e-12


def test_symmetric_objects_have_no_asymmetry_and_a_common_one_is_directional():
    upright = np.array([[-1.0, 0.0], [1.0, 0.0], [-0.7, 1.0], [0.7, 1.0], [0.0, 2.0]])
    sizes = np.linspace(1, 1.5, 6)[:, None, None]
    shapes = upright * np.concatenate([sizes, np.ones_like(sizes)], axis=2)
    order = [1, 0, 3, 2, 4]
    assert symmetry(shapes, order).asymmetry.max() < 1e-9
    crooked = shapes + np.array([[0, 0], [0, 0], [0, 0], [0, 0], [0.2, 0]])
    result = symmetry(crooked, order)
    assert result.asymmetry.min() > 5 * result.fluctuating.max()
    with pytest.raises(ValueError, match="own inverse"):
        symmetry(shapes, [1, 2, 3, 0, 4])


@given(st.data(), dims)
def test_affine_maps_are_taken_out(data, d):
    x = data.draw(coordinates((5, 9, d)))
    matrices, shifts = data.draw(coordinates((5, d, d))), data.draw(coordinates((5, 1, d)))
    plain, moved = affine_procrustes(x), affine_procrustes(x @ (matrices + 3 * np.eye(d)) + shifts)
    np.testing.assert_allclose(np.sort(moved.distances), np.sort(plain.distances), atol=1e-7)
    back = np.einsum("nij,nkj->nki", plain.matrices, x) + plain.translations[:, None]
    np.testing.assert_allclose(back, plain.aligned, atol=1e-9)
    np.testing.assert_allclose(plain.mean.T @ plain.mean, np.eye(d) / d, atol=1e-9)
    partial = generalized_procrustes(x, criterion="partial").mean
    whitened = partial @ np.linalg.inv(np.linalg.cholesky(partial.T @ partial)).T / np.sqrt(d)
    other = sum(float(np.linalg.lstsq(np.c_[np.ones(9), one], whitened, rcond=None)[1].sum()) for one in x)
    assert (plain.distances**2).sum() <= other + 1e-9


def test_flat_shapes_have_no_affine_map():
    with pytest.raises(DegenerateShapeError, match=r"shapes\[1\] lies on one line"):
        affine_procrustes([[[0, 0], [1, 0], [0, 1.0], [2, 2]], [[0, 0], [1, 1], [2, 2], [3, 3.0]]])


@pytest.mark.parametrize("loss", ["huber", "tukey"])
def test_robust_superimposition_is_not_dragged_along(loss):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 2))
    shapes = truth + 0.02 * rng.normal(size=(30, 12, 2))
    spoilt = shapes.copy()
    for i in range(0, 30, 3):
        spoilt[i, rng.integers(12)] += 3
    clean, plain = (generalized_procrustes(s).mean for s in (shapes, spoilt))
    robust = generalized_procrustes(spoilt, loss=loss)
    assert np.linalg.norm(robust.mean - clean) < 0.25 * np.linalg.norm(plain - clean)
    wrong = np.abs(spoilt - shapes).max(axis=2) > 0
    assert robust.weights[wrong].max() < (0.01 if loss == "tukey" else 0.1)
    assert np.median(robust.weights[~wrong]) > 0.7
    assert robust.converged
    np.testing.assert_allclose(generalized_procrustes(shapes, loss=loss).mean, clean, atol=0.02)


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="'linear', 'huber' or 'tukey'"):
        generalized_procrustes(make_faces(4, rng=0), loss="cauchy")


@pytest.mark.data
@pytest.mark.parametrize(("name", "least"), [("plethodon", 0.8), ("gorilla_skulls", 0.95), ("hummingbirds", 0.75)])
def test_exchanged_landmarks_are_named(data_dir, name, least):
    with np.load(data_dir / "landmarks" / f"{name}.npz") as file:
        shapes = file["shapes"]
    assert find_outliers(shapes).swapped == {}
    rng, found, tried = np.random.default_rng(0), 0, range(0, len(shapes), 2)
    for i in tried:
        pair = sorted(rng.choice(shapes.shape[1], 2, replace=False).tolist())
        spoilt = shapes.copy()
        spoilt[i, pair] = spoilt[i, pair[::-1]]
        result = find_outliers(spoilt)
        assert set(result.swapped) <= {i}
        found += result.swapped.get(i) == tuple(pair)
    assert found >= least * len(tried)


def test_a_shape_unlike_the_others_is_unusual():
    faces = make_faces(30, rng=0)
    faces[7] = make_faces(1, rng=1)[0][::-1]
    assert np.flatnonzero(find_outliers(faces).unusual).tolist() == [7]


def test_the_command_names_exchanged_landmarks(tmp_path):
    from click.testing import CliRunner

    from shape_models.cli import main

    faces = make_faces(30, rng=0)
    faces[4, [36, 45]] = faces[4, [45, 36]]
    np.savez(tmp_path / "faces.npz", shapes=faces, names=[f"face{i}" for i in range(30)])
    answer = CliRunner().invoke(main, ["diagnose", str(tmp_path / "faces.npz"), "-n", "3", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)["swapped"] == {"face4": [36, 45]}
    answer = CliRunner().invoke(main, ["diagnose", str(tmp_path / "faces.npz"), "-n", "3"])
    assert "face4: landmarks 36 and 45 look exchanged" in answer.output


def test_tables_hold_sizes_scores_and_columns(tmp_path):
    faces = make_faces(8, rng=0)
    faces[3, 5] = np.nan
    model = AlignedASM().fit(faces)
    path = write_table(tmp_path / "t.csv", faces, model, names=[f"id{i}" for i in range(8)], columns={"sex": "fm" * 4})
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [f"id{i}" for i in range(8)]
    assert rows[3]["centroid_size"] == "NA"
    np.testing.assert_allclose(float(rows[2]["centroid_size"]), centroid_size(faces[2]))
    scores = model.asm_.transform(model.align(faces)[0])
    np.testing.assert_allclose([float(row["PC2"]) for row in rows], scores[:, 1])
    with pytest.raises(ValueError, match="one for each of 8"):
        write_table(tmp_path / "t.csv", faces, model, columns={"sex": "f"})
    with pytest.raises(ValueError, match="already"):
        write_table(tmp_path / "t.csv", faces, model, columns={"PC1": range(8)})
