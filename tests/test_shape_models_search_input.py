"""Bad input of a search: told what is wrong, alone or in a batch, and never answered."""

import re

import numpy as np
import pytest
from searches import SIZE, boxes_of

from shape_models.search import (
    ASMFitter,
    HeatMaps,
)


def test_bad_pictures_are_refused_alone_and_recorded_in_a_batch(fitter, faces):
    images, shapes = faces
    box = boxes_of(shapes[50:51])[0]
    hole = images[50].astype(float)
    hole[3, 4] = np.nan
    bad = {
        "NaN or infinity": hole,
        "same value": np.full(SIZE, 7, dtype=np.uint8),
        "1 x 1 pixels": np.zeros((1, 1)),
        "got an array of shape": np.zeros((100, 100, 5)),
        "got complex128": np.zeros(SIZE, dtype=complex),
        "got no such image file": "nowhere.png",
        "outside its image": images[50][:20, :20],
    }
    for message, picture in bad.items():
        with pytest.raises(ValueError, match=message):
            fitter.predict(picture, boxes=box)
    batch = [images[50], *(p for m, p in bad.items()), images[50]]
    results = fitter.predict(batch, boxes=np.tile(box, (len(batch), 1)))
    assert [r.status == "error" for r in results] == [False] + [True] * len(bad) + [False]
    np.testing.assert_allclose(results[0].shape, results[-1].shape, rtol=0, atol=1e-3)
    for result in results[1:-1]:
        assert np.isnan(result.shape).all()
        assert result.message
        assert not result.converged
        assert not result.found


def test_what_is_wrong_with_one_of_a_batch_leaves_the_others(fitter, faces):
    """Boxes, starts and what lies round a start are judged for each image alone."""
    images, shapes = faces
    boxes = boxes_of(shapes[50:52])
    dull = np.full((200, 220), 90, dtype=np.uint8)  # no constant image, but constant where the search would look
    dull[0, 0] = 91
    alone = fitter.predict(images[50], boxes=boxes[0]).shape
    for pictures, options, message in (
        (images[50:52], {"boxes": [boxes[0], None]}, "boxes: got None; expected an array of shape \\(4,\\)"),
        (images[50:52], {"boxes": [boxes[0], boxes[1][:3]]}, "boxes: got \\(3,\\)"),
        (images[50:52], {"boxes": [boxes[0], "left"]}, "boxes: got no numbers"),
        (images[50:52], {"boxes": [boxes[0], [90, 10, 20, 90]]}, "x0 < x1"),
        (images[50:52], {"boxes": [boxes[0], [30, 30, 31, 31]]}, "1 x 1 pixels; expected at least 4"),
        (images[50:52], {"boxes": [boxes[0], [-1e9, -1e9, 1e9, 1e9]]}, "expected a part of the image of 100 x 100"),
        ([images[50], dull], {"boxes": [boxes[0], boxes[1] + 80]}, "same value"),
        (images[50:52], {"initial": [alone, shapes[51][:60]]}, "initial: got \\(60, 2\\); expected .*\\(68, 2\\)"),
        (images[50:52], {"initial": [alone, None]}, "initial: got None"),
        (images[50:52], {"initial": [alone, shapes[51] / 100]}, "multiplying with its size"),
        (images[50:52], {"initial": [alone, np.where(np.arange(68)[:, None] == 3, np.nan, shapes[51])]}, "NaN"),
    ):
        good, bad = fitter.predict(pictures, **options)
        assert good.found, message
        if "boxes" in options:
            np.testing.assert_allclose(good.shape, alone, rtol=0, atol=1e-3)
        assert bad.status == "error"
        assert re.search(message, bad.message), bad.message
        single = {name: values[1] for name, values in options.items()}
        if next(iter(single.values())) is not None:
            with pytest.raises(ValueError, match=r"boxes|initial|start|same value"):
                fitter.predict(pictures[1], **single)
    assert fitter.predict([], boxes=[]) == []


def test_landmarks_that_are_shares_of_the_image_are_refused(faces, asm):
    images, shapes = faces
    with pytest.raises(ValueError, match=r"image 0: shapes: got landmarks within .* Try multiplying with its size"):
        ASMFitter(asm, evidence="profiles", n_levels=1).fit(images, shapes / 100)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((500, 500, 600, 600), "outside its image"),
        ((50, 50, 20, 90), "x0 < x1"),
        ((np.nan, 0, 5, 5), "NaN"),
    ],
)
def test_bad_boxes_are_refused(profiles, faces, box, message):
    with pytest.raises(ValueError, match=message):
        profiles.predict(faces[0][0], boxes=box)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.2, 0.2, 0.8, 0.8), r"fractions of the image.* Try boxes \* \[100, 100, 100, 100\]"),
        ((10, 10, 12, 12), "at least 4 along each side"),
        ((40, 40, 30, 50), r"Try \[x, y, x \+ width, y \+ height\]"),
        ((90, 10, 20, 90), "corners are swapped"),
    ],
)
def test_boxes_that_are_something_else_are_refused_with_what_to_do(profiles, faces, box, message):
    with pytest.raises(ValueError, match=message):
        profiles.predict(faces[0][0], boxes=box)


def test_arguments_that_do_not_fit_are_refused(profiles, faces, asm):
    images, shapes = faces
    box = boxes_of(shapes[:1])[0]
    with pytest.raises(ValueError, match="neither boxes nor initial"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0])
    with pytest.raises(ValueError, match="got boxes and initial"):
        profiles.predict(images[0], boxes=box, initial=shapes[0])
    with pytest.raises(ValueError, match="expected \\(2, 4\\)"):
        profiles.predict(images[:2], boxes=box)
    with pytest.raises(ValueError, match=r"got an array of shape \(60, 2\)"):
        profiles.predict(images[0], initial=shapes[0][:60])
    with pytest.raises(ValueError, match="all coincide"):
        profiles.predict(images[0], initial=np.full((68, 2), 30.0))
    with pytest.raises(ValueError, match="n_starts"):
        profiles.predict(images[0], boxes=box, n_starts=0)
    for max_iter in (-1, 1.5, "3", True):
        with pytest.raises(ValueError, match="max_iter: got"):
            profiles.predict(images[0], boxes=box, max_iter=max_iter)
    with pytest.raises(ValueError, match="images: got a dict"):
        profiles.predict({"a": images[0]}, boxes=box)
    with pytest.raises(ValueError, match="boxes: got no numbers"):
        profiles.predict(images[0], boxes="left")
    for name, value in (("tolerance", 7), ("tolerance", "a"), ("resolution", "a"), ("level_step", 0.5)):
        with pytest.raises(ValueError, match=f"{name}: got"):
            ASMFitter(asm, **{name: value}).fit(images, shapes)
    with pytest.raises(ValueError, match="expected one for each of 60 shapes"):
        ASMFitter(asm).fit(images[:3], shapes)
    with pytest.raises(ValueError, match="expected 2 on the last axis"):
        ASMFitter(asm).fit(images, np.zeros((60, 68, 3)))
    with pytest.raises(ValueError, match=r"sample 0|outside its image"):
        ASMFitter(asm).fit(images, shapes + 500)
    with pytest.raises(ValueError, match="image 1: image: got the same value"):
        ASMFitter(asm, evidence="profiles").fit([images[0], np.zeros(SIZE), *images[2:]], shapes)
    with pytest.raises(ValueError, match="evidence: got 'trees'"):
        ASMFitter(asm, evidence="trees").fit(images, shapes)
    with pytest.raises(ValueError, match="fitted shape model has"):
        ASMFitter(profiles.asm_).fit(images, shapes[:, :60])
    with pytest.raises(ValueError, match="groups"):
        ASMFitter(asm, evidence="profiles").fit(images, shapes, groups=np.zeros(60))
    with pytest.raises(ValueError, match="jitter"):
        ASMFitter(asm, jitter=(0.1, 2.0, 0.1)).fit(images, shapes)
    with pytest.raises(ValueError, match="n_levels"):
        ASMFitter(asm, n_levels=0).fit(images, shapes)
    with pytest.raises(ValueError, match="heatmaps: got none"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0], boxes=box)
    with pytest.raises(ValueError, match=r"expected \(68, h, w\)"):
        ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes).predict(images[0], heatmaps=np.zeros((5, 9, 9)))


def test_landmarks_that_leave_the_image_are_told(profiles, faces):
    images, shapes = faces
    cut = np.ascontiguousarray(images[51][:, 50:])
    result = profiles.predict(cut, initial=shapes[51] - [50, 0])
    outside = (result.shape[:, 0] < -0.5).sum()
    assert outside > 17
    assert result.status == "outside"
    assert f"{outside} of 68" in result.message
    assert result.trace[-1].n_outside == outside
    assert not result.converged


def test_an_interrupted_training_leaves_the_search_as_it_was(profiles, faces):
    images, shapes = faces
    before = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0]).shape

    def stop(what, done, total):
        if what == "learning":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiles.fit(images[:20], shapes[:20] * 0.9, callback=stop)
    after = profiles.predict(images[50], boxes=boxes_of(shapes[50:51])[0]).shape
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)
