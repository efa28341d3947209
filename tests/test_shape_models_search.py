"""The search finds what it was trained to find: in boxes, where nobody says where it is, faces in photographs."""

import numpy as np
import pytest
from laws import check_in_model, check_trace
from searches import boxes_of
from sklearn.base import clone

from shape_models import load_model
from shape_models.search import (
    ASMFitter,
    detect_faces,
)
from shape_models.search.detection import LearnedDetection


def test_search_finds_faces_it_has_not_seen(fitter, faces):
    images, shapes = faces
    results = fitter.predict(images[50:], boxes=boxes_of(shapes[50:]))
    side = np.ptp(shapes[50:], axis=1).max(axis=1)
    before = np.linalg.norm(np.array([r.start for r in results]) - shapes[50:], axis=-1).mean(-1) / side
    after = np.linalg.norm(np.array([r.shape for r in results]) - shapes[50:], axis=-1).mean(-1) / side
    assert np.median(after) < 0.025
    assert np.median(after) < 0.6 * np.median(before)
    for result in results:
        check_in_model(result, fitter.asm_.asm_.basis_)
        check_trace(result)
        assert result.found
        assert 0 <= result.plausibility <= 1
        assert ((result.confidence >= 0) & (result.confidence <= 1)).all()


def test_occluded_landmarks_lose_confidence_and_are_carried(patches, faces):
    images, shapes = faces
    covered = images[55].copy()
    low, high = shapes[55][48:68].min(0).astype(int) - 2, shapes[55][48:68].max(0).astype(int) + 3
    covered[low[1] : high[1], low[0] : high[0]] = np.random.default_rng(0).integers(
        0, 255, size=covered[low[1] : high[1], low[0] : high[0]].shape
    )
    plain, hidden = patches.predict([images[55], covered], boxes=boxes_of(shapes[[55, 55]]))
    mouth = np.arange(48, 68)
    assert hidden.confidence[mouth].mean() < 0.8 * plain.confidence[mouth].mean()
    error = np.linalg.norm(hidden.shape - shapes[55], axis=1)
    assert error[:48].mean() < 3
    assert error[mouth].mean() < 8


def test_boxes_of_another_convention_are_learned(faces, asm):
    images, shapes = faces
    wide = boxes_of(shapes) + np.array([-20.0, -30.0, 20.0, 10.0])
    fits = [
        ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40, calibration=0).fit(images, shapes, boxes=b)
        for b in (None, wide)
    ]
    starts = [
        f.predict(images[3], boxes=b[3], max_iter=0).shape for f, b in zip(fits, (boxes_of(shapes), wide), strict=True)
    ]
    assert np.linalg.norm(starts[0] - starts[1], axis=1).mean() < 3
    assert fits[1].box_.side < 0.8 * fits[0].box_.side


def test_missing_landmarks_of_training_shapes_are_filled(faces, asm):
    images, shapes = faces
    holes = shapes[:30].copy()
    holes[3, 10] = np.nan
    fitter = ASMFitter(asm, evidence="profiles", n_levels=2, resolution=40, calibration=2).fit(images[:30], holes)
    assert fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0]).found


def test_objects_are_found_where_those_of_the_training_images_stood(fitter, faces):
    images, shapes = faces
    results = fitter.predict(images[50:56])
    error = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(results, shapes[50:], strict=False)])
    boxed = fitter.predict(images[50:56], boxes=boxes_of(shapes[50:56]))
    other = np.array([np.linalg.norm(r.shape - s, axis=1).mean() for r, s in zip(boxed, shapes[50:], strict=False)])
    assert np.median(error) < 1.2 * np.median(other)
    assert results[0].box is None


def test_several_boxes_in_one_image_are_as_many_searches(fitter, wide):
    picture, truth, box = wide
    both = np.concatenate([picture, picture[:, ::-1]], axis=1)
    mirrored = both.shape[1] - 1 - box[[2, 1, 0, 3]]
    second = np.array([mirrored[0], box[1], mirrored[2], box[3]])
    results = fitter.predict(both, boxes=[box, second])
    assert len(results) == 2
    for one, at in zip(results, (box, second), strict=True):
        np.testing.assert_allclose(one.shape, fitter.predict(both, boxes=at).shape, rtol=0, atol=1e-3)
    assert len(fitter.predict(both, boxes=[box])) == 1
    assert fitter.predict(both, boxes=np.empty((0, 4))) == []
    nested = fitter.predict([both, picture], boxes=[[box, second], box])
    np.testing.assert_allclose(nested[0][1].shape, results[1].shape, rtol=0, atol=1e-3)
    np.testing.assert_allclose(nested[1].shape, truth, rtol=0, atol=12)
    shapes = np.stack([truth, truth + 2])
    assert [r.found for r in fitter.predict(both, initial=shapes)] == [True, True]
    wrong = fitter.predict(both, boxes=[box, [0.1, 0.1, 0.5, 0.6]])
    assert [r.status == "error" for r in wrong] == [False, True]


def test_detect_faces_in_any_size_and_type():
    import skimage.data

    photograph = skimage.data.astronaut()
    box = detect_faces(photograph)[0]
    eyes = np.array([[206, 115], [246, 115]])
    assert (box[:2] < eyes).all()
    assert (eyes < box[2:]).all()
    for other, factor in ((photograph[::2, ::2], 0.5), (photograph / 255.0, 1.0), (photograph.mean(-1), 1.0)):
        assert np.abs(detect_faces(other)[0] / factor - box).max() < 0.25 * (box[2] - box[0])
    for same in (
        photograph.astype(np.uint16) * 200,
        photograph / 255.0,
        photograph.astype(np.float32),
        9 + photograph / 7,
    ):
        np.testing.assert_allclose(detect_faces(same), detect_faces(photograph), rtol=0, atol=1e-9)
    assert detect_faces(np.zeros((50, 60))).shape == (0, 4)
    assert detect_faces(np.random.default_rng(0).uniform(size=(20, 20))).shape == (0, 4)
    for min_size in (-1, "a"):
        with pytest.raises(ValueError, match="min_size"):
            detect_faces(photograph, min_size=min_size)


def test_no_face_is_an_answer(profiles):
    import skimage.data

    fitter = clone(profiles)
    fitter.__dict__.update({k: v for k, v in profiles.__dict__.items() if k.endswith("_") or k == "_frame"})
    fitter.detection_ = LearnedDetection.from_header({"center": (0.0, 0.1), "side": 0.9})
    photograph, coins = skimage.data.astronaut(), skimage.data.coins()
    found, none = fitter.predict([photograph, coins])
    assert found.found
    assert none.status == "no face"
    assert not none.found
    assert fitter.predict(coins).status == "no face"


def test_the_bundled_search_finds_the_astronaut():
    import skimage.data

    photograph = skimage.data.astronaut()
    result = load_model("search68").predict(photograph)
    assert result.converged
    shape = result.shape
    pupils = np.array([shape[36:42].mean(0), shape[42:48].mean(0)])
    # Read off the photograph, in pixels: the eyes, the tip of the nose, the corners of the mouth, the chin.
    np.testing.assert_allclose(pupils, [[204, 101], [245, 103]], rtol=0, atol=3)
    np.testing.assert_allclose(shape[[48, 54]], [[202, 139], [245, 140]], rtol=0, atol=4)
    np.testing.assert_allclose(shape[8], [224, 178], rtol=0, atol=5)


@pytest.mark.data
def test_the_bundled_search_keeps_its_figure_on_photographs_it_has_not_seen(data_dir):
    from shape_models.datasets import read_300w

    samples = [s for s in read_300w(data_dir / "300w", split="val")][::5]
    truth = np.array([s.landmarks for s in samples])
    start = truth.mean(axis=1, keepdims=True) + 1.1 * (truth - truth.mean(axis=1, keepdims=True))
    boxes = boxes_of(start)
    results = load_model("search68").predict([s.image for s in samples], boxes=boxes)
    found = np.array([r.shape for r in results])
    error = np.linalg.norm(found - truth, axis=-1).mean(-1) / np.linalg.norm(truth[:, 36] - truth[:, 45], axis=-1)
    assert np.median(error) < 0.045
    assert error.mean() < 0.06
