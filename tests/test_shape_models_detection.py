"""Detectors: the protocol, the cascade, and adapters of other libraries against stand-ins for these."""

import copy
import json
import pickle
import sys
import tracemalloc
import types

import numpy as np
import pytest
import skimage.data
from PIL import Image

from shape_models import boxes, load_model, save_model
from shape_models.search import Detections, Detector, detect_faces, detectors, find_faces, is_face
from shape_models.search.detection import LearnedDetection, learn_detection

ASTRONAUT = skimage.data.astronaut()
EYES = np.array([[206, 115], [246, 115]])


def answer(found, scores=None, convention="landmarks"):
    def detector(image):
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        return found, np.ones(len(found)) if scores is None else scores, convention

    return detector


# --- the cascade ---------------------------------------------------------------------------------------------


def test_one_face_has_one_box():
    found = find_faces(ASTRONAUT)
    assert found.boxes.shape == (1, 4)
    assert found.scores[0] >= 3
    assert (found.boxes[0, :2] < EYES).all()
    assert (found.boxes[0, 2:] > EYES).all()
    for part in (ASTRONAUT[20:260, 100:340], ASTRONAUT[:, ::-1], np.rot90(np.rot90(ASTRONAUT, 2), 2)):
        assert len(find_faces(part).boxes) == 1
    assert len(find_faces(np.concatenate([ASTRONAUT[:256], ASTRONAUT[:256, ::-1]], axis=1)).boxes) == 2


def test_no_face_is_an_empty_answer():
    for image in (skimage.data.coins(), skimage.data.brick(), np.zeros((90, 90), np.uint8), np.zeros((10, 10))):
        assert find_faces(image).boxes.shape == (0, 4)
        assert find_faces(image).scores.shape == (0,)
        assert detect_faces(image).shape == (0, 4)


def test_smaller_faces_only_when_asked_for():
    canvas = np.full((900, 900, 3), 128, np.uint8)
    canvas[300:470, 300:470] = ASTRONAUT[::3, ::3][:170, :170]  # a face of 30 pixels
    assert len(detect_faces(canvas)) == 0
    found = detect_faces(canvas, min_size=24)
    assert len(found) == 1
    assert found[0, 2] - found[0, 0] < 45


def test_a_large_photograph_costs_no_copies_of_it():
    large = np.repeat(np.repeat(ASTRONAUT, 8, axis=0), 8, axis=1)  # 17 megapixels, 50 MB
    small = detect_faces(ASTRONAUT)[0]
    tracemalloc.start()
    try:
        found = detect_faces(large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * large.nbytes
    np.testing.assert_allclose((found[0] + 0.5) / 8 - 0.5, small, atol=0.1 * (small[2] - small[0]))
    tracemalloc.start()
    try:
        detect_faces(large[:, : len(large) // 4], min_size=1)  # as small as can be: still bounded
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


# --- the protocol --------------------------------------------------------------------------------------------


def test_boxes_come_in_the_convention_that_was_asked_for():
    box = [[10.0, 20.0, 60.0, 80.0]]
    detector = answer(box, convention="retinaface")
    image = np.zeros((100, 120), np.uint8)
    np.testing.assert_array_equal(find_faces(image, detector, convention=None).boxes, box)
    np.testing.assert_allclose(find_faces(image, detector).boxes, boxes.convert(box, "retinaface", "landmarks"))
    mine = boxes.BoxConvention("mine", (0.0, 0.1), (1.0, 0.5))
    np.testing.assert_allclose(
        find_faces(image, answer(box, convention=mine), convention="mtcnn").boxes, boxes.convert(box, mine, "mtcnn")
    )
    assert isinstance(detector, Detector)


def test_one_box_for_each_face_the_best_first():
    found = [[10, 10, 50, 50], [12, 12, 52, 52], [70, 10, 110, 50], [75, 20, 85, 30]]
    faces = find_faces(np.zeros((100, 120), np.uint8), answer(found, [0.5, 0.7, 0.9, 0.99]))
    np.testing.assert_array_equal(faces.boxes, [found[3], found[1]])
    assert faces.scores.tolist() == [0.99, 0.7]
    everything = find_faces(np.zeros((100, 120), np.uint8), answer(found, [0.5, 0.7, 0.9, 0.99]), max_overlap=1.0)
    assert len(everything.boxes) == 4


@pytest.mark.parametrize(
    ("detector", "error", "message"),
    [
        (answer([[0.1, 0.1, 0.6, 0.6]]), ValueError, "detector detector: got .* fractions of the image"),
        (answer([[60, 60, 10, 10]]), ValueError, "detector detector: got"),
        (answer([[500, 500, 600, 600]]), ValueError, "outside"),
        (answer([[np.nan, 1, 9, 9]]), ValueError, "NaN"),
        (answer([[1, 2, 3]]), ValueError, r"expected \(k, 4\)"),
        (answer([[10, 10, 50, 50]], [1.0, 2.0]), ValueError, "got scores of shape"),
        (answer([[10, 10, 50, 50]], [np.nan]), ValueError, "got scores"),
        (answer([[10, 10, 50, 50]], None, "my own"), ValueError, "convention: got 'my own'"),
        (lambda image: [[10, 10, 50, 50]], TypeError, r"got list; expected \(boxes, scores, convention\)"),
        (lambda image: None, TypeError, "got NoneType"),
        ("retina", ValueError, "expected one of scikit-image, retinaface, dlib, best"),
        (7, TypeError, "got int; expected a name, or a callable"),
    ],
)
def test_nonsense_of_a_detector_is_named(detector, error, message):
    with pytest.raises(error, match=message):
        find_faces(np.zeros((100, 120), np.uint8), detector)


def test_the_convention_of_a_detector_is_learned():
    tight = np.array([[10.0, 12.0, 70.0, 62.0], [20.0, 15.0, 90.0, 80.0], [5.0, 8.0, 65.0, 75.0]] * 2)
    found = iter(boxes.convert(tight, "landmarks", "mtcnn"))
    images, heard = [np.zeros((100, 120), np.uint8)] * 6, []
    learned = learn_detection(images, tight, heard.append, detector=lambda image: ([next(found)], [1.0], "landmarks"))
    assert heard == list(range(6))
    assert learned.found == 1.0
    np.testing.assert_allclose(learned.convention.center, boxes.get("mtcnn").center, atol=1e-9)
    np.testing.assert_allclose(
        boxes.convert(boxes.convert(tight, "landmarks", "mtcnn"), learned.convention, "landmarks"), tight
    )
    assert LearnedDetection.from_header(json.loads(json.dumps(learned.to_header()))) == learned
    old = LearnedDetection.from_header({"center": [0.0, 0.1], "side": 0.9})  # from files in which boxes were squares
    assert old.convention == boxes.get("scikit-image")
    assert LearnedDetection.from_header(None) is None
    with pytest.raises(ValueError, match="found the face in fewer than 5 of 6"):
        learn_detection(images, tight, detector=answer(np.zeros((0, 4))))
    with pytest.raises(ValueError, match="expected one for each of 6"):
        learn_detection(images[:3], tight)


# --- adapters, with stand-ins for the packages -----------------------------------------------------------------


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made


def test_retinaface(monkeypatch):
    face = types.SimpleNamespace(x=10, y=20, width=50, height=60, score=0.97)
    calls = []

    def found(image, score_threshold):
        calls.append((image.shape, score_threshold))
        return [face]

    monkeypatch.setitem(sys.modules, "retinaface", module("retinaface", detect_faces=found))
    detector = detectors.RetinaFace(threshold=0.8)
    np.testing.assert_array_equal(detector(np.zeros((100, 120, 3), np.uint8)).boxes, [[10, 20, 60, 80]])
    assert calls == [((100, 120, 3), 0.8)]
    faces = find_faces(np.zeros((100, 120), np.uint8), "retinaface")
    np.testing.assert_allclose(faces.boxes[0], boxes.convert([10, 20, 60, 80], "retinaface", "landmarks"))
    assert pickle.loads(pickle.dumps(detector)) == detector
    with pytest.raises(ValueError, match="threshold"):
        detectors.RetinaFace(threshold=2)
    monkeypatch.setitem(sys.modules, "retinaface", module("retinaface"))
    with pytest.raises(ImportError, match="is another one"):
        detectors.RetinaFace()


def test_dlib(monkeypatch):
    class Rectangle:
        def left(self):
            return 10

        def top(self):
            return 20

        def right(self):
            return 59

        def bottom(self):
            return 69

    class Hog:
        def run(self, image, upsample, threshold):
            assert image.flags.c_contiguous
            assert (upsample, threshold) == (1, -0.25)
            return [Rectangle()], [0.4], [0]

    monkeypatch.setitem(sys.modules, "dlib", module("dlib", get_frontal_face_detector=Hog))
    detector = detectors.DlibHog(upsample=1)
    found = detector(np.zeros((100, 120, 3), np.uint8)[:, ::-1])
    np.testing.assert_array_equal(found.boxes, [[10, 20, 59, 69]])
    assert found.convention == "dlib-hog"
    assert found.scores.tolist() == [0.4]
    assert pickle.loads(pickle.dumps(detector)).upsample == 1


def test_yunet(monkeypatch, tmp_path):
    class FaceDetectorYN:
        @staticmethod
        def create(path, config, size, threshold):
            assert size == (120, 100)
            return FaceDetectorYN()

        def detect(self, image):
            if image[0, 0].tolist() != [3, 2, 1]:  # BGR
                return 0, None
            return 1, np.array([[10, 20, 50, 60, *[0] * 10, 0.9]], np.float32)

    monkeypatch.setitem(sys.modules, "cv2", module("cv2", FaceDetectorYN=FaceDetectorYN))
    with pytest.raises(FileNotFoundError, match="where no file is"):
        detectors.YuNet(tmp_path / "none.onnx")
    (tmp_path / "yunet.onnx").write_bytes(b"")
    detector = detectors.YuNet(tmp_path / "yunet.onnx")
    image = np.zeros((100, 120, 3), np.uint8)
    assert detector(image).boxes.shape == (0, 4)
    image[0, 0] = [1, 2, 3]
    np.testing.assert_array_equal(detector(image).boxes, [[10, 20, 60, 80]])
    np.testing.assert_allclose(detector(image).scores, [0.9], rtol=1e-6)


def test_mediapipe(monkeypatch, tmp_path):
    found = types.SimpleNamespace(
        bounding_box=types.SimpleNamespace(origin_x=10, origin_y=20, width=50, height=60),
        categories=[types.SimpleNamespace(score=0.8)],
    )

    class FaceDetector:
        @staticmethod
        def create_from_options(options):
            assert options.min_detection_confidence == 0.5
            return FaceDetector()

        def detect(self, picture):
            assert picture.image_format == "SRGB"
            return types.SimpleNamespace(detections=[found])

    vision = types.SimpleNamespace(FaceDetector=FaceDetector, FaceDetectorOptions=types.SimpleNamespace)
    fake = module(
        "mediapipe",
        Image=types.SimpleNamespace,
        ImageFormat=types.SimpleNamespace(SRGB="SRGB"),
        tasks=types.SimpleNamespace(vision=vision, BaseOptions=types.SimpleNamespace),
    )
    monkeypatch.setitem(sys.modules, "mediapipe", fake)
    (tmp_path / "short.tflite").write_bytes(b"")
    detector = detectors.MediaPipe(tmp_path / "short.tflite")
    found_boxes, scores, convention = detector(np.zeros((100, 120, 3), np.uint8))
    np.testing.assert_array_equal(found_boxes, [[10, 20, 60, 80]])
    assert scores.tolist() == [0.8]
    assert convention == "blazeface-short"
    assert isinstance(detector(np.zeros((9, 9, 3), np.uint8)), Detections)


def test_a_package_that_is_missing_is_named(monkeypatch):
    for name, call in (
        ("retinaface", detectors.RetinaFace),
        ("dlib", detectors.DlibHog),
        ("cv2", lambda: detectors.YuNet("x")),
        ("mediapipe", lambda: detectors.MediaPipe("x")),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"needs the package {name}, which is not installed. Try pip install"):
            call()
    assert isinstance(detectors.get_detector("best"), detectors.ScikitImage)


# --- faces and what is none ------------------------------------------------------------------------------------


def test_images_without_a_face():
    """Seven of these have windows that the cascade takes for a face; none looks like one to the search."""
    loosely = 0
    for name in ("page", "gravel", "clock", "cell", "chelsea", "immunohistochemistry", "brick", "coffee"):
        image = getattr(skimage.data, name)()
        loosely += len(find_faces(image, verify=False).boxes)
        assert find_faces(image).boxes.shape == (0, 4), name
    assert loosely >= 4


def test_a_face_looks_like_one():
    box = find_faces(ASTRONAUT).boxes[0]
    others = [box + 150, box + np.array([0, 150, 0, 150]), [20, 300, 120, 400]]
    assert is_face(ASTRONAUT, [box, *others]).tolist() == [True, False, False, False]
    assert is_face(ASTRONAUT / 255.0, box).tolist() == [True]
    assert is_face(ASTRONAUT, box, min_confidence=1.0).tolist() == [False]
    assert is_face(ASTRONAUT, []).shape == (0,)
    assert is_face(np.zeros((90, 90), np.uint8), [[10, 10, 80, 80]]).tolist() == [False]
    with pytest.raises(ValueError, match="fractions of the image"):
        is_face(ASTRONAUT, [0.1, 0.1, 0.5, 0.5])


def test_any_detector_can_be_verified():
    box = find_faces(ASTRONAUT).boxes[0]
    detector = answer(np.array([box, [20, 300, 120, 400]]))
    assert len(find_faces(ASTRONAUT, detector).boxes) == 2
    np.testing.assert_allclose(find_faces(ASTRONAUT, detector, verify=True).boxes, [box])


# --- faces that are turned, and detectors that a search learns from --------------------------------------------


@pytest.fixture(scope="module")
def search():
    return load_model("search68")


def tight(shape):
    return np.concatenate([shape.min(axis=0), shape.max(axis=0)])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_is_found_however_its_image_is_turned(search, quarters):
    """Quarter turns move pixels without changing any: the answer turns with them."""
    upright = search.predict(ASTRONAUT, boxes=[177, 82, 274, 172])
    image, shape = ASTRONAUT, upright.shape
    for _ in range(quarters):  # np.rot90 takes (x, y) to (y, width - 1 - x)
        shape = np.stack([shape[:, 1], image.shape[1] - 1 - shape[:, 0]], axis=1)
        image = np.rot90(image)
    found = search.predict(image, boxes=tight(shape))
    assert found.found
    assert np.linalg.norm(found.shape - shape, axis=1).mean() < 2.0
    assert found.confidence.mean() > 0.8
    if quarters == 2:
        lost = search.predict(image, boxes=tight(shape), n_turns=1)
        assert np.linalg.norm(lost.shape - shape, axis=1).mean() > 20


def test_turned_answers_do_not_depend_on_the_batch(search):
    turned = np.ascontiguousarray(np.rot90(ASTRONAUT))
    boxes_ = [[177, 82, 274, 172], [82, 512 - 275, 172, 512 - 178]]
    together = search.predict([ASTRONAUT, turned], boxes=boxes_)
    for image, box, result in zip([ASTRONAUT, turned], boxes_, together, strict=True):
        np.testing.assert_allclose(result.shape, search.predict(image, boxes=box).shape, atol=1e-3)
    with pytest.raises(ValueError, match="n_turns: got 0"):
        search.predict(ASTRONAUT, boxes=boxes_[0], n_turns=0)


def test_starts_stand_in_their_boxes_turned_or_not(search):
    box = np.array([100.0, 50.0, 180.0, 130.0])
    for degrees in (0, 30, 90, 200):
        start = tight(search.starts([box], degrees=degrees)[0])
        assert np.abs((start[:2] + start[2:] - box[:2] - box[2:]) / 2).max() < 2
        assert abs((start[2:] - start[:2]).max() - 80) < 4
    chin, eyes = search.starts([box], degrees=180)[0][[8, 27]]
    assert chin[1] < eyes[1]
    with pytest.raises(ValueError, match="expected x0 < x1"):
        search.starts([[5, 5, 1, 1]])


def test_a_search_learns_the_boxes_of_any_detector(search, tmp_path):
    fitter = copy.copy(search)
    shape = search.predict(ASTRONAUT, boxes=[177, 82, 274, 172]).shape
    head = boxes.convert(tight(shape), "landmarks", "retinaface")
    images = [ASTRONAUT] * 6
    fitter.fit_detection(images, [shape] * 6, detector=answer([head, [20, 300, 60, 340]], convention="retinaface"))
    assert fitter.detection_.convention.name == "detector"
    assert fitter.detection_.found == 1.0
    found = fitter.predict(ASTRONAUT)
    assert np.linalg.norm(found.shape - shape, axis=1).mean() < 1.0
    save_model(fitter, tmp_path / "own.npz")
    with pytest.raises(ValueError, match="the detector 'detector' that the model learned from is not known here"):
        load_model(tmp_path / "own.npz").predict(ASTRONAUT)
    assert load_model(tmp_path / "own.npz").predict(ASTRONAUT, boxes=tight(shape)).found
    with pytest.raises(ValueError, match="found the face in fewer than 5 of 6"):
        fitter.fit_detection(images, [shape] * 6, detector=answer(np.zeros((0, 4))))
    assert fitter.detection_.found == 1.0  # a training that is refused leaves what was there
    with pytest.raises(ValueError, match="fractions of the image"):
        fitter.fit_detection(images, [shape] * 6, detector=answer([[0.1, 0.1, 0.6, 0.6]]))
    assert search.detection_.convention.name == "scikit-image"


def test_what_is_not_seen_at_once_is_found_at_a_second_look():
    """The cascade finds no face that is turned by 30 degrees; with the image turned back it does."""
    turned = np.asarray(Image.fromarray(ASTRONAUT).rotate(30, resample=Image.Resampling.BICUBIC))
    centre, angle = np.array([255.5, 255.5]), np.deg2rad(-30)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    eyes = (EYES - centre) @ rotation.T + centre
    found = find_faces(turned).boxes
    assert len(found) == 1
    assert (found[0, :2] < eyes).all()
    assert (found[0, 2:] > eyes).all()
    assert len(find_faces(turned, verify=False).boxes) == 0
