"""Errors of detectors: learned back from shapes that were spoilt in a known way, and what they are good for."""

import os
from pathlib import Path

import numpy as np
import pytest

from shape_models import Similarity, fit_shape, load_model, make_faces
from shape_models.point_errors import learn_point_errors

MODEL = load_model("face68")
DATA = Path(os.environ.get("SHAPE_MODELS_DATA", "")) / "landmarks/cofw68_detectors.npz"


def spoilt(rng, n=120):
    """Faces of the model, and what a detector makes of them: a bias, noise along x, and wild hidden landmarks."""
    scale, angle, *place = rng.uniform([80, -0.4, 100, 100], [160, 0.4, 400, 400], (n, 4)).T
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    poses = Similarity(turn, np.stack(place, axis=1), scale)
    basis = MODEL.asm_.basis_
    shapes = basis.mean + np.tensordot(
        rng.normal(size=(n, basis.n_components)) * np.sqrt(basis.variances), basis.components.reshape(-1, 68, 2), 1
    )
    size = np.ptp(np.asarray(basis.mean), axis=0).max()
    hidden = rng.random((n, 68)) < 0.2
    off = rng.normal(size=(n, 68, 2)) * [0.02, 0.005] * size
    off = np.where(hidden[..., None], rng.normal(size=(n, 68, 2)) * 0.08 * size, off)
    off += np.array([0.0, 0.01 * size])
    return np.asarray(poses(shapes)), np.asarray(poses(shapes - off)), hidden, size


def test_errors_are_learned_back(rng):
    truth, found, hidden, size = spoilt(rng, 400)
    errors = learn_point_errors(MODEL, truth, found, occluded=hidden, prior_count=0)
    assert errors.n_shapes == 400
    # A shift of all landmarks is one of the pose: what is left are the differences between them.
    spread = np.sqrt(np.diagonal(errors.covariance, axis1=-2, axis2=-1)) / size
    np.testing.assert_allclose(np.median(spread[0], axis=0), [0.02, 0.005], rtol=0.4)
    np.testing.assert_allclose(np.median(spread[1], axis=0), [0.08, 0.08], rtol=0.2)


def test_what_is_known_of_errors_repairs_them(rng):
    truth, found, hidden, _ = spoilt(rng)
    errors = learn_point_errors(MODEL, truth[:80], found[:80], occluded=hidden[:80])
    rest, points, flags = truth[80:], found[80:], hidden[80:]

    def error(shapes):
        return np.linalg.norm(np.asarray(shapes) - rest, axis=2)

    alone = error(fit_shape(MODEL, points).shapes)
    fitted = error(errors.fit(points, occluded=flags).shapes)
    assert fitted[flags].mean() < 0.5 * alone[flags].mean()
    assert fitted[~flags].mean() < 0.8 * alone[~flags].mean()


def test_errors_turn_and_grow_with_the_points(rng):
    truth, found, hidden, _ = spoilt(rng)
    errors = learn_point_errors(MODEL, truth, found, occluded=hidden)
    move = Similarity(np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([30.0, -10.0]), 2.0)
    points, covariance = errors.correct(found[:5], occluded=hidden[:5])
    moved, moved_covariance = errors.correct(move(found[:5]), occluded=hidden[:5])
    np.testing.assert_allclose(moved, move(points), rtol=1e-7)
    turn = np.asarray(move.scale * move.rotation)
    np.testing.assert_allclose(moved_covariance, turn @ covariance @ turn.T, rtol=1e-6, atol=1e-9)
    one = errors.correct(found[2], occluded=hidden[2])
    np.testing.assert_allclose(one[0], points[2])
    np.testing.assert_allclose(
        errors.fit(found[:5], occluded=hidden[:5]).shapes[2], errors.fit(found[2], occluded=hidden[2]).shapes
    )


def test_missing_landmarks_and_shapes(rng):
    truth, found, hidden, _ = spoilt(rng)
    truth[:, 5] = np.nan  # never annotated
    found[3, 10:20] = np.nan
    found[4] = np.nan  # a face that was not found
    errors = learn_point_errors(MODEL, truth, found, occluded=hidden, prior_count=0)
    assert np.isfinite(errors.covariance).all()
    assert (errors.bias[:, 5] == 0).all()
    fit = errors.fit(found[:6])
    assert fit.status.tolist() == ["ok"] * 4 + ["too few landmarks", "ok"]
    assert np.isfinite(fit.shapes[3]).all()
    assert np.isnan(fit.shapes[4]).all()


def test_what_is_refused(rng):
    faces = make_faces(20, rng=0)
    errors = learn_point_errors(MODEL, faces, faces + rng.normal(scale=1e-3, size=faces.shape))
    for change, message in (
        ({"target": faces[:10]}, r"got shape \(20, 68, 2\) and a target of \(10, 68, 2\)"),
        ({"target": faces[:5], "prediction": faces[:5]}, "expected at least 10"),
        ({"prior_count": -1}, "prior_count"),
        ({"occluded": np.zeros((20, 68))}, "expected booleans"),
        ({"occluded": np.zeros(68, bool)}, r"expected booleans of shape \(20, 68\)"),
        ({"target": np.full_like(faces, np.nan)}, "fewer than 10 landmarks"),
    ):
        with pytest.raises(ValueError, match=message):
            learn_point_errors(**({"model": MODEL, "target": faces, "prediction": faces} | change))
    with pytest.raises(TypeError, match="masked"):
        learn_point_errors(MODEL, faces, np.ma.array(faces, mask=False))
    with pytest.raises(TypeError, match="masked"):
        errors.fit(faces, occluded=np.ma.array(np.zeros((20, 68), bool)))
    with pytest.raises(ValueError, match=r"expected \(..., 68, 2\)"):
        errors.fit(faces[:, :51])


@pytest.mark.skipif(not DATA.is_file(), reason="needs SHAPE_MODELS_DATA with landmarks/cofw68_detectors.npz")
@pytest.mark.parametrize("name", ["cfss", "hpm", "rcpr_occ", "sapm", "tcdcn"])
def test_real_detectors_are_repaired(name):
    """Learned on half of the faces and judged on the other: hidden landmarks gain, and none of the detectors loses."""
    with np.load(DATA) as file:
        truth, hidden = file["shapes"].astype(float), file["occluded"]
        found, flags = file[f"detector_{name}"].astype(float), file[f"occluded_{name}"]
    train, test = np.arange(0, 254, 2), np.arange(1, 254, 2)
    shapes = (
        learn_point_errors(MODEL, truth[train], found[train], occluded=flags[train])
        .fit(found[test], occluded=flags[test])
        .shapes
    )
    size = np.linalg.norm(truth[test, 36] - truth[test, 45], axis=1)[:, None]
    raw, better = (np.linalg.norm(x - truth[test], axis=2) / size for x in (found[test], shapes))
    hide = hidden[test]
    assert better.mean() < 0.96 * raw.mean()
    assert better[~hide].mean() < raw[~hide].mean()
    assert better[hide].mean() < 0.93 * raw[hide].mean()
    if flags.any():  # the two that say what is hidden
        assert better[hide].mean() < 0.09
